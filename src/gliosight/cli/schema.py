"""``gliosight schema``: what a program may expect in our JSON files and on stdout (layer: cli)."""

from __future__ import annotations

import json
from importlib import resources

import click

from gliosight.cli.output import print_json
from gliosight.errors import UsageError
from gliosight.write.result import answer_schema

# Read as files: the modules that write follow-ups and evaluations need their extras.
SCHEMAS = {
    "result": "gliosight.write",
    "follow-up": "gliosight.archive.follow_up",
    "evaluation": "gliosight.evaluate",
}


@click.command("schema")
@click.argument("name", type=click.Choice(list(SCHEMAS)), default="result")
@click.option(
    "--answer",
    is_flag=True,
    help="Print the schema of what analyze and demo print with --json, including errors.",
)
def command(name: str, answer: bool) -> None:
    """Print the JSON Schema of result.json (the default), follow-up.json or evaluation.json.

    The $id of each schema ends with the version that a file states as schema_version.

    \b
    gliosight schema
    gliosight schema follow-up
    """  # noqa: D301 - click keeps line breaks after the character \b
    if answer and name != "result":
        what = f"--answer is for what analyze prints, and not for {name}.json"
        raise UsageError(what, remedy="give only one of them")
    file = resources.files(SCHEMAS[name]).joinpath(f"{name}.schema.json")
    print_json(answer_schema() if answer else json.loads(file.read_text("utf-8")))
