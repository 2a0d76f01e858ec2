"""The scores for machines: ``evaluation.json``, ``per_patient.csv``, ``per_slice.csv`` (evaluate).

In: an `Evaluation`. Out: a folder, with the page of `page` in it. The JSON follows
``evaluation.schema.json`` beside this file; docs/evaluation.md defines every key. What is not defined is
``null``, never 0 and never left out of a table. No path, date or machine is written: the same predictions
on the same data give the same files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import gliosight
from gliosight.analysis import MASK_MEANING, RESEARCH_USE
from gliosight.errors import CannotWriteError, printable
from gliosight.evaluate.evaluation import Evaluation
from gliosight.evaluate.published import published_on
from gliosight.evaluate.scores import Curve, Figure, Figures, PartScores, PatientScore
from gliosight.files import recover, whole_folder
from gliosight.write.result import write_table
from gliosight.write.staging import NOBODYS, check_place

SCHEMA_VERSION = "1.0"
DIGITS = 6
RECORD, PATIENTS, SLICES, PAGE = (
    "evaluation.json",
    "per_patient.csv",
    "per_slice.csv",
    "evaluation.html",
)
# What tells a folder of ours, at the beginning of its record.
OURS = (b'"schema_version"', b'"research_use_only"', b'"evaluation"')
SLICE_COLUMNS = (
    "part",
    "patient",
    "number",
    "truth_px",
    "predicted_px",
    "both_px",
    "probability",
    "called",
)


def record_of(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as a JSON value."""
    patients = {one.patient for part in evaluation.parts for one in part.patients}
    value = {
        "schema_version": SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "kind": "evaluation",
        "version": gliosight.__version__,
        "models": [asdict(one) for one in evaluation.models],
        "manifest_sha256": evaluation.manifest_sha256,
        "split": dict(evaluation.split) or None,
        "bootstrap": {"draws": evaluation.draws, "seed": evaluation.seed, "level": 0.95},
        "mask_meaning": MASK_MEANING,
        "warnings": list(evaluation.warnings),
        "parts": [_part(one) for one in evaluation.parts],
        "leak": None
        if evaluation.leak is None
        else {key: _figures(found) for key, found in evaluation.leak.figures.items()},
        "published": [asdict(one) for one in published_on(patients)],
    }
    rounded: dict[str, Any] = _rounded(value)
    return rounded


def write_evaluation(evaluation: Evaluation, page: str, out: Path, *, overwrite: bool) -> None:
    """Write the folder, whole or not at all.

    Parameters
    ----------
    page : str
        The HTML page, see `page.render_page`.

    Raises
    ------
    CannotWriteError
        The folder is in the way or cannot be written.
    """
    with replacing(out, overwrite=overwrite) as folder:
        text = json.dumps(record_of(evaluation), indent=1, ensure_ascii=True, allow_nan=False)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")
        write_patients(evaluation, folder / PATIENTS)
        write_slices(evaluation, folder / SLICES)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_patients(evaluation: Evaluation, path: Path) -> None:
    """Write ``per_patient.csv``: one row per patient and part."""
    names = [one.name for one in fields(PatientScore)]
    rows = [
        {"part": part.part, **asdict(one), "sequences": "+".join(one.sequences)}
        for part in evaluation.parts
        for one in part.patients
    ]
    write_table([{k: _said(v) for k, v in row.items()} for row in rows], ["part", *names], path)


def write_slices(evaluation: Evaluation, path: Path) -> None:
    """Write ``per_slice.csv``: one row per scored slice, as counts."""
    rows: list[dict[str, Any]] = []
    for part in evaluation.parts:
        for patient, table in zip(part.patients, part.tables, strict=True):
            rows += [
                {
                    "part": part.part,
                    "patient": patient.patient,
                    "number": int(number),
                    "truth_px": int(table.truth_px[k]),
                    "predicted_px": int(table.predicted_px[k]),
                    "both_px": int(table.both_px[k]),
                    "probability": None
                    if table.probability is None
                    else float(table.probability[k]),
                    "called": int(table.called[k]),
                }
                for k, number in enumerate(table.numbers)
            ]
    write_table(rows, list(SLICE_COLUMNS), path)


def load_schema() -> dict[str, Any]:
    """The JSON Schema of ``evaluation.json``."""
    text = (
        resources.files("gliosight.evaluate").joinpath("evaluation.schema.json").read_text("utf-8")
    )
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        As `gliosight.write.staging.check_out`; only a folder of an evaluation is replaced.
    """
    with contextlib.suppress(ValueError):  # a NUL in the name, which the check refuses
        recover(out.absolute())
    _check(out, overwrite=overwrite)


def _check(out: Path, *, overwrite: bool) -> None:
    if not (overwrite and _is_ours(out)):
        check_place(out, overwrite=False)
        return
    ours = {RECORD, PATIENTS, SLICES, PAGE, *NOBODYS}
    if foreign := sorted(one.name for one in out.iterdir() if one.name not in ours):
        raise CannotWriteError(
            f"the earlier evaluation holds something else: {printable(foreign[0])}",
            where=printable(out.name),
            remedy="move it away, or choose another -o",
        )


@contextlib.contextmanager
def replacing(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write into; at the end it becomes ``out``, in place of an earlier evaluation.

    Raises
    ------
    CannotWriteError
        See `check_out`.
    """
    check_out(out, overwrite=overwrite)
    with whole_folder(out, partial(_check, out, overwrite=overwrite), last=RECORD) as folder:
        yield folder


def _is_ours(folder: Path) -> bool:
    path = folder / RECORD
    if folder.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return all(key in head for key in OURS)


def _part(part: PartScores) -> dict[str, Any]:
    (true_negative, false_positive), (false_negative, true_positive) = part.confusion
    return {
        "part": part.part,
        "by": part.by,
        "patients": len(part.patients),
        "patients_seen": len(part.patients) - len(part.unseen),
        "slices": sum(len(one.numbers) for one in part.tables),
        "localization": _figures(part.localization),
        "detection": _figures(part.detection),
        "confusion": {
            "true_negative": true_negative,
            "false_positive": false_positive,
            "false_negative": false_negative,
            "true_positive": true_positive,
        },
        "classification_report": part.report,
        "sensitivity_by_area": [
            {"from_px": one.from_px, "to_px": one.to_px, **_figure(one.figure)}
            for one in part.areas
        ],
        "baselines": {
            name: {
                "learnt_from": one.learnt_from,
                "localization": _figures(one.localization),
                "detection": _figures(one.detection),
            }
            for name, one in part.baselines.items()
        },
        "groups": {
            title: {name: _figures(found) for name, found in groups.items()}
            for title, groups in part.groups.items()
        },
        "curves": {name: _curve(one) for name, one in part.curves.items()},
        "per_patient": [asdict(one) for one in part.patients],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    return {name: _figure(one) for name, one in figures.items()}


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "n": figure.n}


def _curve(curve: Curve) -> dict[str, Any]:
    return {"x": list(curve.x), "y": list(curve.y)}


def _said(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0  # never -0.0
    if isinstance(value, Mapping):
        return {str(key): _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
