"""The folder an evaluation is written to: ``evaluation.json``, tables and the page (evaluate).

The JSON follows ``evaluation.schema.json`` beside this file; docs/evaluation.md defines every key. What is
undefined is ``null``, never 0 and never left out of a table. No path, date or machine is written: the same
predictions on the same data give the same files.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from functools import partial
from importlib import resources
from itertools import repeat
from pathlib import Path
from typing import Any

import gliosight
from gliosight.analysis import MASK_MEANING, RESEARCH_USE
from gliosight.errors import CannotWriteError, printable
from gliosight.evaluate.evaluation import Evaluation
from gliosight.evaluate.figures import Figure, Figures
from gliosight.evaluate.localization import COLUMNS
from gliosight.evaluate.scoring import PartScores, Scores, published_on
from gliosight.files import recover, whole_folder
from gliosight.write.result import rounded, write_table
from gliosight.write.staging import NOBODYS, check_place

SCHEMA_VERSION = "1.0"
RECORD, PATIENTS, SLICES, PAGE = (
    "evaluation.json",
    "per_patient.csv",
    "per_slice.csv",
    "evaluation.html",
)
# What a folder of ours has at the beginning of its record.
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
    patients = {patient.patient for part in evaluation.parts for patient in part.patients}
    leak = evaluation.leak
    record: dict[str, Any] = rounded(
        {
            "schema_version": SCHEMA_VERSION,
            "research_use_only": RESEARCH_USE,
            "kind": "evaluation",
            "version": gliosight.__version__,
            "models": [asdict(note) for note in evaluation.models],
            "manifest_sha256": evaluation.manifest_sha256,
            "split": dict(evaluation.split) or None,
            "bootstrap": {"draws": evaluation.draws, "seed": evaluation.seed, "level": 0.95},
            "mask_meaning": MASK_MEANING,
            "warnings": list(evaluation.warnings),
            "parts": [_part(part) for part in evaluation.parts],
            "leak": leak and {key: figures_record(sides) for key, sides in leak.items()},
            "published": [asdict(published) for published in published_on(patients)],
        }
    )
    return record


def _part(part: PartScores) -> dict[str, Any]:
    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    return {
        "part": part.part,
        "by": part.by,
        "patients": len(part.patients),
        "patients_seen": len(part.patients) - len(part.unseen),
        "slices": sum(patient.slices for patient in part.patients),
        **_scores(part),
        "confusion": dict(zip(names, (*part.confusion[0], *part.confusion[1]), strict=True)),
        "classification_report": part.report,
        "sensitivity_by_area": [
            {"from_px": row.from_px, "to_px": row.to_px, **_figure(row.figure)}
            for row in part.areas
        ],
        "baselines": {
            name: {"learnt_from": baseline.trained_on, **_scores(baseline)}
            for name, baseline in part.baselines.items()
        },
        "groups": {
            title: {name: figures_record(figures) for name, figures in groups.items()}
            for title, groups in part.groups.items()
        },
        "curves": {name: asdict(curve) for name, curve in part.curves.items()},
        "per_patient": [
            {name: getattr(patient, name) for name in COLUMNS} for patient in part.patients
        ],
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "localization": figures_record(scores.localization),
        "detection": figures_record(scores.detection),
    }


def figures_record(figures: Figures) -> dict[str, Any]:
    """Figures as a JSON value, not yet rounded."""
    return {name: _figure(figure) for name, figure in figures.items()}


def _figure(figure: Figure) -> dict[str, Any]:
    return {key: getattr(figure, key) for key in ("value", "low", "high", "n")}


def load_schema() -> dict[str, Any]:
    """The JSON Schema of ``evaluation.json``."""
    path = resources.files("gliosight.evaluate").joinpath("evaluation.schema.json")
    schema: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return schema


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
    with whole_folder(out, partial(_check, out, overwrite=overwrite), last=RECORD) as folder:
        record = record_of(evaluation)
        text = json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")
        patients = [
            {
                **row,
                "part": part["part"],
                "sequences": "+".join(row["sequences"]),
                "seen": int(row["seen"]),
                "found": int(row["found"]),
            }
            for part in record["parts"]
            for row in part["per_patient"]
        ]
        write_table(patients, ["part", *COLUMNS], folder / PATIENTS)
        write_table(_slice_rows(evaluation), list(SLICE_COLUMNS), folder / SLICES)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def _slice_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for part in evaluation.parts:
        for patient in part.patients:
            table = patient.table
            probability = table.probability
            columns = (
                repeat(part.part),
                repeat(patient.patient),
                table.numbers.tolist(),
                table.truth_px.tolist(),
                table.predicted_px.tolist(),
                table.both_px.tolist(),
                repeat(None) if probability is None else probability.tolist(),
                table.called.astype(int).tolist(),
            )
            rows += [
                dict(zip(SLICE_COLUMNS, row, strict=True)) for row in zip(*columns, strict=False)
            ]
    return rows


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
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in ours):
        raise CannotWriteError(
            f"the earlier evaluation holds something else: {printable(foreign[0])}",
            where=printable(out.name),
            remedy="move it away, or choose another -o",
        )


def _is_ours(folder: Path) -> bool:
    path = folder / RECORD
    if folder.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return all(key in head for key in OURS)
