"""The answer for machines: ``result.json`` and ``findings.csv`` (stage: write).

The JSON follows ``result.schema.json`` beside this file; docs/result.md explains it field by field. Numbers
that are not known are ``null``, never 0 and never left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.errors import printable

SCHEMA_VERSION = "1.2"
# Digits kept of a number: more than any input holds, fewer than two machines agree on.
DIGITS = 6
# A table program takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def result_of(analysis: Analysis, files: Mapping[str, str]) -> dict[str, Any]:
    """The analysis as a JSON value.

    Parameters
    ----------
    files : mapping
        Path relative to the result folder: what it is.
    """
    decision, study = analysis.decision, analysis.study
    # The mask of a study that was not assessed is empty, but that is no measure of 0.
    assessed = analysis.status is not Status.NOT_ASSESSED
    pixel = None if study.geometry is None else study.geometry.pixel_area
    slices = [
        {
            "index": k,
            "name": study.slice_names[k],
            "probability": float(probability) if assessed else None,
            "area_px": int(area) if assessed else None,
            "area_mm2": float(area * pixel) if assessed and pixel is not None else None,
        }
        for k, (probability, area) in enumerate(
            zip(decision.slice_probabilities, analysis.areas_px, strict=True)
        )
    ]
    provenance = analysis.provenance
    result = {
        "schema_version": SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "study_id": study.study_id,
        "status": decision.status.value,
        "reason": decision.reason,
        "detection": {
            "probability": float(decision.slice_probabilities.max()) if assessed else None,
            "threshold": decision.slice_threshold,
            "score": decision.score,
            "score_threshold": decision.score_threshold,
            "rules": list(decision.rules),
            "slices": slices,
        },
        "findings": [asdict(one) for one in analysis.findings],
        "volume_ml": analysis.volume_ml if assessed else None,
        "volume_px": analysis.volume_px if assessed else None,
        "mask_meaning": MASK_MEANING,
        "flags": [asdict(one) for one in analysis.flags],
        "source": {
            "kind": study.kind,
            "path": study.source.get("path"),
            "series": {
                name: {
                    "uid_digest": digest,
                    "frames_digest": study.source["frames"][name],
                    "why": study.source["chosen"][name],
                }
                for name, digest in study.source.get("series", {}).items()
            },
        },
        "provenance": {
            "version": provenance.version,
            "model": {"name": provenance.model, "sha256": provenance.model_sha256},
            "engine": provenance.engine,
            "precision": provenance.precision,
            "channels": list(provenance.channels),
            "settings": dict(provenance.settings),
            "timings_ms": dict(provenance.timings_ms),
            "environment": dict(provenance.environment),
        },
        "files": dict(files),
    }
    rounded: dict[str, Any] = _rounded(result)
    return rounded


def write_result(result: Mapping[str, Any], path: Path) -> None:
    """Write ``result.json``; a number that is not finite is a bug and raises ``ValueError``."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 holds lone surrogates: as \\udcNN they are JSON, as bytes they are not.
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def load_schema() -> dict[str, Any]:
    """The JSON Schema of ``result.json``."""
    text = resources.files("gliosight.write").joinpath("result.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write_findings(analysis: Analysis, path: Path) -> None:
    """Write ``findings.csv``: one row per finding, tuples spread over columns, unknown values empty."""
    rows = [{"study_id": analysis.study.study_id, **_flat(one)} for one in analysis.findings]
    header = ["study_id", *_flat_names()]
    write_table(rows, header, path)


def write_table(rows: list[dict[str, Any]], header: list[str], path: Path) -> None:
    """Write a CSV table that a table program and a terminal can show without obeying anything in it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(row.get(key)) for key in header})


_SPREAD = {
    "centroid_voxel": ("centroid_slice", "centroid_row", "centroid_column"),
    "centroid_mm": ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
    "bounding_box_voxel": (
        "box_slice_from",
        "box_row_from",
        "box_column_from",
        "box_slice_to",
        "box_row_to",
        "box_column_to",
    ),
    "slices": ("first_slice", "last_slice"),
}


def _flat_names() -> list[str]:
    return [name for one in fields(Finding) for name in _SPREAD.get(one.name, (one.name,))]


def _flat(finding: Finding) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in asdict(finding).items():
        if name not in _SPREAD:
            out[name] = value
            continue
        flat = _leaves(value)
        out.update(zip(_SPREAD[name], flat or [None] * len(_SPREAD[name]), strict=True))
    return out


def _leaves(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return _round(value)
    if isinstance(value, str):
        # Control codes, and characters that turn the text round, are made visible.
        text = printable(value)
        return "'" + text if text.startswith(FORMULA) else text
    return value


def _round(value: float) -> float:
    return round(value, DIGITS) + 0.0  # never -0.0


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return _round(value)
    if isinstance(value, dict):
        return {str(key): _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value
