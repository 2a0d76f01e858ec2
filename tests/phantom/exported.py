"""A written study, read back with nothing but pydicom, and the field's own checker of its files."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from gliosight.phantom import Phantom

# Headers hold 16 characters for each number.
CENTROID_MM = 1e-3


def files_of(folder: Path) -> list[Path]:
    """Its images, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR")


def by_series(folder: Path) -> dict[int, list[Any]]:
    """Headers by SeriesNumber, which counts up."""
    out: dict[int, list[Any]] = defaultdict(list)
    for path in files_of(folder):
        ds = pydicom.dcmread(path)
        out[int(ds.SeriesNumber)].append(ds)
    return dict(sorted(out.items()))


def complaints(tool: str, folder: Path) -> set[str]:
    """What dciodvfy finds wrong with the last file of each series: parts differ at the end, if anywhere."""
    out = set()
    for headers in by_series(folder).values():
        call = [tool, headers[-1].filename]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()  # its findings, or at least the object
        assert lines, "dciodvfy said nothing at all"
        out |= {line for line in lines if line.startswith(("Error", "Abort"))}
    return out


def sorted_by_position(headers: Iterable[Any]) -> list[Any]:
    """A reader's order, by nothing but the headers of classic files."""
    headers = list(headers)
    across = np.array(headers[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(across[:3], across[3:])
    return sorted(headers, key=lambda ds: normal @ np.array(ds.ImagePositionPatient, dtype=float))


def header_centroid(headers: list[Any], mask: np.ndarray) -> np.ndarray:
    """World centroid (LPS) of a mask on sorted slices, by PS3.3 C.7.6.2.1.1 and nothing of ours."""
    points = []
    for ds, plane in zip(headers, mask, strict=True):
        across, down = np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in ds.PixelSpacing)
        start = np.array(ds.ImagePositionPatient, dtype=float)
        steps = np.stack([down * between_rows, across * between_columns])
        points.append(start + np.argwhere(plane) @ steps)
    return np.concatenate(points).mean(axis=0)


def true_centroid(phantom: Phantom, rotation: Any, shift: Any) -> np.ndarray:
    """Where the lesion's middle has to be, LPS, from the phantom's own affine."""
    affine = phantom.geometry.affine
    world = affine[:3, :3] @ np.argwhere(phantom.truth).mean(axis=0) + affine[:3, 3]
    return (np.array(rotation) @ world + np.array(shift)) * (-1, -1, 1)
