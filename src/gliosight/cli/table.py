"""The table of all studies of one call (layer: cli)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gliosight.cli.finding import Failure
from gliosight.errors import CannotWriteError, GliosightError, printable
from gliosight.files import cannot_write, whole_file
from gliosight.write.result import write_table

HEADER = [
    "study_id",
    "source",
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


TABLE = "studies.csv"


def check_table(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace a table, before any work is done.

    Raises
    ------
    CannotWriteError
        There is one and ``overwrite`` is not set, or it is not one of ours.
    """
    path = out / TABLE
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise CannotWriteError(
            "there is a table of studies already",
            where=printable(path.name),
            remedy="choose another -o, or replace it with --overwrite",
        )
    try:
        with path.open("rb") as file:
            ours = file.readline(500).decode(errors="replace").strip() == ",".join(HEADER)
    except OSError:
        ours = False
    if not ours:
        raise CannotWriteError(
            "a file that gliosight did not write is in the way",
            where=printable(path.name),
            remedy="choose another -o",
        )


def write_studies(
    results: list[dict[str, Any]],
    failed: list[Failure],
    out: Path,
    withheld: Sequence[tuple[str, GliosightError]] = (),
) -> Path:
    """Write ``studies.csv``: one row per study, also for those that could not be analysed.

    ``withheld`` are errors in single outputs of studies that were analysed, by result folder.
    """
    rows = [
        {
            "study_id": one["study_id"],
            "source": one["source"]["path"],
            "status": one["status"],
            "score": one["detection"]["score"],
            "probability": one["detection"]["probability"],
            "findings": len(one["findings"]),
            "volume_ml": one["volume_ml"],
            "volume_px": one["volume_px"],
            "warnings": " ".join(
                flag["code"] for flag in one["flags"] if flag["severity"] == "warning"
            ),
            # From the table, so that it still leads there when both have been moved together.
            "out": printable(os.path.relpath(one["out"], out)),
            "error": " ".join(error.line() for folder, error in withheld if folder == one["out"]),
        }
        for one in results
    ]
    rows += [
        {
            "study_id": failure.title,
            "source": failure.source,
            "status": "error",
            "error": failure.error.line(),
        }
        for failure in failed
    ]
    path = out / TABLE
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(error, path) from error
    with whole_file(path, overwrite=True) as partial:
        write_table(rows, HEADER, partial)
    return path
