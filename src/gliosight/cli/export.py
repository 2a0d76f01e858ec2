"""``gliosight export``: finished runs to a model that ``analyze`` takes (layer: cli)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click

from gliosight.cli.extras import needs_extra
from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable


@click.command("export")
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the model.")
@click.option("--name", default="mine", show_default=True, help="Name of the model.")
@click.option("--about", type=PATH, help="JSON file with what the card says to people.")
def command(runs: tuple[Path, ...], out: Path, name: str, about: Path | None) -> None:
    """Turn a finished run into a model; or a detector's run and a localizer's into a cascade.

    A joint network's card takes over the shipped model's decision rule; fit it anew for your data, see
    docs/decision.md. Then: gliosight analyze STUDY --model OUT/NAME.json
    """
    with needs_extra("train"):
        from gliosight.train.export import export_cascade, export_run
        from gliosight.train.progress import hush

    hush()
    if len(runs) > 2:
        raise UsageError(f"{len(runs)} runs", remedy="give one, or a detector's and a localizer's")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"the name {name!r}", remedy="use letters, digits, '-', '_' and '.'")
    told = _read_about(about) if about else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own insides
        if len(runs) == 1:
            card = export_run(runs[0], out, name, about=told)
        else:
            card = export_cascade(runs[0], runs[1], out, name, about=told)
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
