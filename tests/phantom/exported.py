"""A written study, read back with nothing but pydicom."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

VENDORS = ("siemens", "ge", "philips", "canon")


def files_of(folder: Path) -> list[Path]:
    """Its images, in the order of their names."""
    return sorted(one for one in folder.rglob("*") if one.is_file() and one.name != "DICOMDIR")


def read_all(folder: Path) -> list[Any]:
    """Its images' headers, in the order of their names."""
    return [pydicom.dcmread(one, force=True) for one in files_of(folder)]


def by_series(folder: Path) -> dict[int, list[Any]]:
    """Headers by SeriesNumber, which counts up."""
    out: dict[int, list[Any]] = defaultdict(list)
    for ds in read_all(folder):
        out[int(ds.SeriesNumber)].append(ds)
    return dict(sorted(out.items()))


def flair_of(folder: Path) -> list[Any]:
    """The FLAIR series of a Siemens study without traps: the first."""
    return next(iter(by_series(folder).values()))


def sorted_by_position(headers: list[Any]) -> list[Any]:
    """A reader's order, by nothing but the headers of classic files."""
    across = np.array(headers[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(across[:3], across[3:])
    return sorted(headers, key=lambda ds: normal @ np.array(ds.ImagePositionPatient, dtype=float))
