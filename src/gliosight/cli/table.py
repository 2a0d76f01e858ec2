"""The table of all studies of one call (layer: cli)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gliosight.errors import CannotWriteError, GliosightError, printable
from gliosight.write.result import write_table

HEADER = [
    "study_id",
    "status",
    "score",
    "probability",
    "findings",
    "volume_ml",
    "volume_px",
    "warnings",
    "out",
    "error",
]


def write_studies(
    results: list[dict[str, Any]], failed: list[tuple[str, GliosightError]], out: Path
) -> Path:
    """Write ``studies.csv``: one row per study, also for those that could not be analysed."""
    rows = [
        {
            "study_id": one["study_id"],
            "status": one["status"],
            "score": one["detection"]["score"],
            "probability": one["detection"]["probability"],
            "findings": len(one["findings"]),
            "volume_ml": one["volume_ml"],
            "volume_px": one["volume_px"],
            "warnings": " ".join(
                flag["code"] for flag in one["flags"] if flag["severity"] == "warning"
            ),
            "out": printable(one["out"]),
        }
        for one in results
    ]
    rows += [{"study_id": name, "status": "error", "error": one.line()} for name, one in failed]
    path = out / "studies.csv"
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(".studies.csv.partial")
        write_table(rows, HEADER, partial)
        partial.replace(path)
    except OSError as error:
        raise CannotWriteError(
            f"cannot write the table: {error.strerror}", where=path.name, remedy="choose another -o"
        ) from error
    return path
