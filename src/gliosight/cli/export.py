"""``gliosight export``: a result to a DICOM object, finished runs to a model (layer: cli)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import click

from gliosight import pipeline
from gliosight.analysis import RESEARCH_USE
from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.data.manifest import check_file
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.extras import needs_extra
from gliosight.write.result_folder import RESULT_FILE


@click.command("export")
@click.argument("sources", type=PATH, nargs=-1, required=True, metavar="RESULT|RUN...")
@click.option(
    "--to",
    "form",
    type=click.Choice(["seg", "sr"]),
    help="What to make from a RESULT: DICOM segmentation or DICOM structured report.",
)
@click.option("--source", type=PATH, help="The DICOM study of the RESULT.")
@click.option(
    "--mask",
    type=PATH,
    help="Corrected mask to use instead of the RESULT's: NIfTI, or a folder of slices.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="File to write; for RUNs the folder for the model.  [default: <study>-segmentation.dcm and so on]",
)
@click.option("--name", default="mine", show_default=True, help="Name of the model.")
@click.option("--about", type=PATH, help="JSON file with the texts of the model's card.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
def command(
    sources: tuple[Path, ...],
    form: Literal["seg", "sr"] | None,
    source: Path | None,
    mask: Path | None,
    out: Path | None,
    name: str,
    about: Path | None,
    overwrite: bool,
) -> None:
    """Turn a result into a DICOM object, or finished training runs into a model.

    RESULT is a folder that analyze wrote. It becomes a DICOM segmentation or a DICOM report, without
    running the network again. With --mask, the objects show a mask that you corrected.

    RUN is the folder of a finished training run. It becomes a model; the run of a detector and that of
    a localizer together become one model, a cascade (extra: train). The card of a joint network takes
    over the shipped model's decision rule; fit the rule for your data, see docs/decision.md. To use the
    model: gliosight analyze STUDY --model OUT/NAME.json

    \b
    gliosight export patient01-gliosight --to seg --source patient01/ --mask corrected.nii.gz
    gliosight export runs/mine -o models
    """  # noqa: D301 - click keeps line breaks after the character \b
    if form is not None:
        _result(sources, form, source, mask, out)
        return
    if any((path / RESULT_FILE).is_file() for path in sources):
        raise UsageError("a result without --to", remedy="say --to seg or --to sr")
    if out is None:
        raise UsageError("no folder for the model", remedy="name one with -o")
    _model(sources, out, name, about, overwrite=overwrite)


def _result(
    sources: tuple[Path, ...],
    form: Literal["seg", "sr"],
    source: Path | None,
    mask: Path | None,
    out: Path | None,
) -> None:
    if len(sources) > 1:
        raise UsageError(f"{len(sources)} results", remedy="export one at a time")
    if source is None:
        raise UsageError(
            "a DICOM object refers to the images it was made from",
            remedy="say where they lie with --source PATH",
        )
    # A number behind a dot is part of a name.
    if out is not None and (not out.suffix or out.suffix[1:].isdigit()):
        out = out.with_name(f"{out.name}.dcm")
    written = pipeline.export_result(sources[0], form, source, out, mask=mask)
    print_text(f"{RESEARCH_USE}\n{printable(str(written))}")


def _model(
    runs: tuple[Path, ...], out: Path, name: str, about: Path | None, *, overwrite: bool
) -> None:
    with needs_extra("train"):
        from gliosight.train.export import export_cascade, export_run

    if len(runs) > 2:
        raise UsageError(f"{len(runs)} runs", remedy="give one, or a detector's and a localizer's")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"the name {name!r}", remedy="use letters, digits, '-', '_' and '.'")
    texts = _read_about(about) if about else {}
    # A model that is only half replaced is found out on loading: its card has the networks' digests.
    for end in (".json", ".onnx", ".safetensors", "-detector.onnx", "-localizer.onnx"):
        check_file(out / f"{name}{end}", overwrite=overwrite)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own insides
        if len(runs) == 1:
            card = export_run(runs[0], out, name, about=texts)
        else:
            card = export_cascade(runs[0], runs[1], out, name, about=texts)
    print_text(f"model: {printable(str(card))}")


def _read_about(path: Path) -> dict[str, Any]:
    where, remedy = path.name, "check --about"
    try:
        texts = json.loads(path.read_text("utf-8"))
    except OSError as error:
        what = f"cannot read it: {error.strerror}"
        raise NothingReadableError(what, where=where, remedy=remedy) from error
    except ValueError as error:
        raise DamagedInputError(f"not JSON: {error}", where=where, remedy=remedy) from error
    if not isinstance(texts, dict):
        raise DamagedInputError("no JSON object", where=where, remedy=remedy)
    return texts
