"""``gliosight export``: trained weights to a model that ``analyze`` takes (layer: cli)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gliosight.cli.extras import needs_extra
from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable


@click.command("export")
@click.argument("weights", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the model.")
@click.option("--name", default="mine", show_default=True, help="Name of the model.")
@click.option("--about", type=PATH, help="JSON file with what the card says to people.")
def command(weights: Path, out: Path, name: str, about: Path | None) -> None:
    """Turn a run's WEIGHTS (weights.safetensors) into a model.

    The card takes over the shipped model's decision rule; fit it anew for your data, see
    docs/decision.md. Then: gliosight analyze STUDY --model OUT/NAME.json
    """
    with needs_extra("train"):
        from gliosight.train.export import SHIPPED_RULE, export_joint

    if not weights.is_file():
        raise NothingReadableError(
            "no such file", where=weights.name, remedy="finish the run first"
        )
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"the name {name!r}", remedy="use letters, digits, '-', '_' and '.'")
    told = _read_about(about) if about else {}
    card = export_joint(weights, out, name, decision=SHIPPED_RULE, about=told)
    print_text(f"model: {printable(str(card))}")


def _read_about(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NothingReadableError(
            f"cannot read it: {error.strerror}", where=path.name, remedy="check --about"
        ) from error
    except ValueError as error:
        raise DamagedInputError(
            f"not JSON: {error}", where=path.name, remedy="check --about"
        ) from error
    if not isinstance(told, dict):
        raise DamagedInputError("no JSON object", where=path.name, remedy="check --about")
    return told
