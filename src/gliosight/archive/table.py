"""``studies.csv``: one row for each study of a folder of results (layer: archive)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gliosight.archive.entries import Entry
from gliosight.errors import CannotWriteError, printable
from gliosight.files import whole_file, writing
from gliosight.write.result import write_table

TABLE = "studies.csv"
HEADER = ["study_id", "source", "status", "probability", "review", "findings", "volume_ml", "volume_low_ml",
          "volume_high_ml", "volume_px", "volume_low_px", "volume_high_px", "warnings", "worst_warning",
          "out", "error"]  # fmt: skip


def check_table(out: Path) -> None:
    """Refuse a table of studies that is not one of ours, before any work is done.

    Raises
    ------
    CannotWriteError
    """
    path, head = out / TABLE, ",".join(HEADER)
    with writing(path), contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        head = file.readline(500).decode(errors="replace").strip()
    if head != ",".join(HEADER):
        what = "a file that gliosight did not write is in the way"
        raise CannotWriteError(what, where=TABLE, remedy="choose another -o")


def write_studies(entries: Iterable[Entry], out: Path) -> Path:
    """Write ``studies.csv`` of ranked entries: one row each, also for what could not be analysed."""
    rows = []
    for entry in entries:
        row = {name: value for name, value in asdict(entry).items() if name in HEADER}
        row["warnings"] = " ".join(entry.warnings)
        row["out"] = None if entry.folder is None else printable(entry.folder)
        if entry.folder is None:  # zero findings would be a result
            row["findings"] = None
        rows.append(row)
    path = out / TABLE
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
    with whole_file(path, overwrite=True) as partial:
        write_table(rows, HEADER, partial)
    return path
