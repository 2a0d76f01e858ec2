"""``gliosight schema``: what a program may expect in result.json and on stdout (layer: cli)."""

from __future__ import annotations

import click

from gliosight.cli.output import print_json
from gliosight.write.result import answer_schema, load_schema


@click.command("schema")
@click.option(
    "--answer",
    is_flag=True,
    help="Print the schema of what analyze and demo print with --json, including errors.",
)
def command(answer: bool) -> None:
    """Print the JSON Schema of result.json, or of what --json prints.

    The $id of each schema ends with the version that a result states as schema_version.
    """
    print_json(answer_schema() if answer else load_schema())
