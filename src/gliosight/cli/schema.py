"""``gliosight schema``: what a program may expect in result.json (layer: cli)."""

from __future__ import annotations

import click

from gliosight.cli.output import print_json
from gliosight.write.result import load_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of result.json.

    Its $id ends with the version that each result states as schema_version.
    """
    print_json(load_schema())
