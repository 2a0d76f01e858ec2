"""The folder an evaluation is written to: ``evaluation.json``, tables and the page (evaluate).

The JSON follows ``evaluation.schema.json`` beside this file; docs/evaluation.md defines every key. What is
undefined is ``null``, never 0 and never left out of a table. No path, date or machine is written: the same
predictions on the same data give the same files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
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
from gliosight.evaluate.figures import Figures
from gliosight.evaluate.mask_metrics import COLUMNS
from gliosight.evaluate.scoring import PartScores, Scores, published_on
from gliosight.files import recover, whole_folder
from gliosight.write.result import rounded, write_table
from gliosight.write.result_folder import NOBODYS, check_place

SCHEMA_VERSION = "1.0"
RECORD, PATIENTS, SLICES, PAGE = (
    "evaluation.json",
    "per_patient.csv",
    "per_slice.csv",
    "evaluation.html",
)
# What a folder of ours has at the beginning of its record.
OURS = (b'"schema_version"', b'"research_use_only"', b'"evaluation"')
# Columns of per_slice.csv, after those of the part and the patient.
OF_SLICE = ("number", "truth_px", "predicted_px", "both_px", "probability", "called")


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
        **_scores_record(part),
        "confusion": dict(zip(names, (*part.confusion[0], *part.confusion[1]), strict=True)),
        "classification_report": part.report,
        "sensitivity_by_area": [
            {"from_px": row.from_px, "to_px": row.to_px, **row.figure.record} for row in part.areas
        ],
        "baselines": {
            name: {"learnt_from": baseline.trained_on, **_scores_record(baseline)}
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


def _scores_record(scores: Scores) -> dict[str, Any]:
    return {
        "localization": figures_record(scores.localization),
        "detection": figures_record(scores.detection),
    }


def figures_record(figures: Figures) -> dict[str, Any]:
    """Figures as a JSON value, not yet rounded."""
    return {name: figure.record for name, figure in figures.items()}


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
        slices = [row for part in evaluation.parts for row in _slice_rows(part)]
        write_table(slices, ["part", "patient", *OF_SLICE], folder / SLICES)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def _slice_rows(part: PartScores) -> Iterator[dict[str, Any]]:
    for patient in part.patients:
        table = vars(patient.table) | {
            "number": patient.table.numbers,
            "called": patient.table.called.astype(int),
        }
        columns = [
            repeat(None) if table[name] is None else table[name].tolist() for name in OF_SLICE
        ]
        # A column without values has no end.
        for cells in zip(*columns, strict=False):
            row = dict(zip(OF_SLICE, cells, strict=True))
            yield {"part": part.part, "patient": patient.patient, **row}


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        As `gliosight.write.result_folder.check_out`; only a folder of an evaluation is replaced.
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
        what = f"the earlier evaluation holds something else: {printable(foreign[0])}"
        remedy = "move it away, or choose another -o"
        raise CannotWriteError(what, where=printable(out.name), remedy=remedy)


def _is_ours(folder: Path) -> bool:
    path = folder / RECORD
    if folder.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return all(key in head for key in OURS)
