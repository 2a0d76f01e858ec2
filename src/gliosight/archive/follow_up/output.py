"""The folder of a follow-up: record, table, page and masks, whole or not at all (archive).

``follow-up.json`` follows ``follow-up.schema.json`` beside this file; docs/follow-up.md explains it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

import gliosight
from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Status
from gliosight.archive.follow_up.compare import (
    MOST_NOISE,
    SHARED_ERROR,
    FollowUp,
    TrackedLesion,
    Visit,
)
from gliosight.archive.follow_up.page import render_page
from gliosight.errors import CannotWriteError, printable
from gliosight.files import recover, whole_folder
from gliosight.flags import warnings_of
from gliosight.write.masks import XYZ
from gliosight.write.result import rounded, write_table
from gliosight.write.result_folder import LARGEST_RECORD, NOBODYS, OUR_KEYS, check_place

RECORD, TABLE, PAGE = "follow-up.json", "follow-up.csv", "follow-up.html"
SCHEMA_VERSION = "1.0"
FILES = {
    RECORD: "all numbers, for machines",
    TABLE: "one row for each lesion and visit",
    PAGE: "the page, for people",
}
HEADER = ["lesion", "side", "visit", "study_id", "days", "findings", "volume_ml", "volume_low_ml",
          "volume_high_ml", "product_mm2", "since_visit", "change", "change_ml", "change_ml_low",
          "change_ml_high", "change_percent", "change_percent_low", "change_percent_high",
          "product_change_percent", "reason"]  # fmt: skip


def record_of(follow_up: FollowUp) -> dict[str, Any]:
    """A follow-up as a JSON value; visits are counted from 0, lesions from 1."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "ordered_by": follow_up.ordered_by,
        "visits": [_visit(k, visit) for k, visit in enumerate(follow_up.visits)],
        "lesions": [_lesion(lesion) for lesion in follow_up.lesions],
        "total": _lesion(follow_up.total),
        "notes": list(follow_up.notes),
        "mask_meaning": MASK_MEANING,
        "noise": {"shared_error": SHARED_ERROR, "most_noise": MOST_NOISE},
        "common_grid": {"affine": affine_of(follow_up).tolist()},
        "provenance": {
            "version": gliosight.__version__,
            "simpleitk": importlib.metadata.version("SimpleITK"),
        },
        "files": _files(follow_up),
    }
    return dict(rounded(record))


def affine_of(follow_up: FollowUp) -> NDArray[np.float64]:
    """(4, 4) from ``(slice, row, column, 1)`` of the common grid to the first study's world."""
    return cast("NDArray[np.float64]", follow_up.grid.affine)  # its slices are even


def _visit(index: int, visit: Visit) -> dict[str, Any]:
    analysis, registration = visit.analysis, visit.registration
    low, high = analysis.volume_interval_ml or (None, None)
    return {
        "index": index,
        "source": visit.source,
        "study_id": analysis.study.study_id,
        "days": visit.days,
        "status": analysis.status.value,
        "probability": analysis.decision.probability,
        # The mask of a study that was not assessed is empty, but measures nothing.
        "volume_ml": analysis.volume_ml if analysis.status is not Status.NOT_ASSESSED else None,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "warnings": [raised.code for raised in warnings_of(analysis.flags)],
        "model": {
            "name": analysis.provenance.model,
            "sha256": analysis.provenance.model_sha256,
        },
        "registration": {
            "placement": registration.placement.tolist(),
            "error_mm": registration.error_mm,
            "overlap": registration.overlap,
            "similarity": registration.similarity,
            "failure": registration.failure,
        },
    }


def _lesion(lesion: TrackedLesion) -> dict[str, Any]:
    record = asdict(lesion)
    record["measures"] = [{"visit": k, **measure} for k, measure in enumerate(record["measures"])]
    return record


def _files(follow_up: FollowUp) -> dict[str, str]:
    masks = {
        mask_name(k): f"lesions of study {k + 1} on the common grid, by their number"
        for k, labels in enumerate(follow_up.labels)
        if labels is not None
    }
    return FILES | masks


def mask_name(index: int) -> str:
    """The mask of a visit; people count from 1."""
    return f"mask-{index + 1}.nii.gz"


def rows_of(follow_up: FollowUp) -> list[dict[str, Any]]:
    """The rows of ``follow-up.csv``: each lesion, and the total as lesion 0, at each visit, with its change.

    Visits are counted from 1. A change is since the visit before; that since the first visit, where there
    are more than two, follows in a row of its own at the last visit.
    """
    rows = []
    for lesion in (*follow_up.lesions, follow_up.total):
        for k, measure in enumerate(lesion.measures):
            visit = follow_up.visits[k]
            row = {
                "lesion": lesion.id,
                "side": lesion.side,
                "visit": k + 1,
                "study_id": visit.analysis.study.study_id,
                "days": visit.days,
                "findings": " ".join(map(str, measure.findings)),
                **{name: getattr(measure, name) for name in HEADER[6:10]},
                "reason": measure.unknown,
            }
            changes = [change for change in lesion.changes if change.after == k]
            rows += [
                row
                | {
                    "since_visit": change.before + 1,
                    "change": change.kind,
                    "product_change_percent": change.product_percent,
                    "reason": change.reason,
                    **{f"change_{name}": getattr(change, name) for name in _INTERVALS},
                }
                for change in changes
            ] or [row]
    return rows


_INTERVALS = ("ml", "ml_low", "ml_high", "percent", "percent_low", "percent_high")


def load_schema() -> dict[str, Any]:
    """The JSON Schema of ``follow-up.json``."""
    path = resources.files("gliosight.archive.follow_up").joinpath("follow-up.schema.json")
    schema: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return schema


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        As `gliosight.write.result_folder.check_out`; only a folder of a follow-up is replaced.
    """
    with contextlib.suppress(ValueError):  # a NUL in the name, which the check refuses
        recover(out.absolute())
    _check(out, overwrite=overwrite)


def _check(out: Path, *, overwrite: bool) -> None:
    own = _files_of(out) if overwrite else None
    if own is None:
        check_place(out, overwrite=False)
        return
    ours = {*own, *NOBODYS}
    if foreign := sorted(path.name for path in out.iterdir() if path.name not in ours):
        what = f"the earlier follow-up holds something else: {printable(foreign[0])}"
        remedy = "move it away, or choose another -o"
        raise CannotWriteError(what, where=printable(out.name), remedy=remedy)


def _files_of(out: Path) -> set[str] | None:
    """The files that a follow-up's record names; ``None`` where gliosight did not write it."""
    path = out / RECORD
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        if not out.is_symlink() and path.is_file() and path.stat().st_size <= LARGEST_RECORD:
            record = json.loads(path.read_bytes())
            if all(key in record for key in (*OUR_KEYS, "common_grid")):
                return set(record["files"])
    return None


def write_follow_up(follow_up: FollowUp, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the folder, and return what ``follow-up.json`` says.

    Raises
    ------
    CannotWriteError
        The folder is in the way or cannot be written; nothing is left behind.
    """
    record = record_of(follow_up)
    with whole_folder(out, partial(_check, out, overwrite=overwrite), last=RECORD) as folder:
        _write_masks(follow_up, folder)
        write_table(rows_of(follow_up), HEADER, folder / TABLE)
        others = {name: what for name, what in record["files"].items() if name != PAGE}
        page = render_page(follow_up, others)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return record


def _write_masks(follow_up: FollowUp, folder: Path) -> None:
    # NIfTI counts the fastest index first; the grid's affine starts with the slices.
    for k, labels in enumerate(follow_up.labels):
        if labels is None:
            continue
        values = np.ascontiguousarray(labels.transpose(2, 1, 0))
        image = nibabel.Nifti1Image(values, affine_of(follow_up)[:, XYZ])
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = b"gliosight, research use only"
        nibabel.save(image, folder / mask_name(k))
