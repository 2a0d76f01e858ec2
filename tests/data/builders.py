"""Builders of small data sets on disk, and of manifests without any files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.data.index import Indexed, index_roots
from gliosight.data.manifest import Manifest, SliceRow, read_manifest, write_manifest
from gliosight.data.people import Root, institution_of

SIZE = (32, 32)
# Slices with tumour in a patient of six, counted from 1.
MARKED = (3, 4)


def make_slices(seed: int, count: int = 6, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """(slices, rows, columns, 3): blotches of their own for each seed, slice and sequence."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 220, (count, size[0] // 4, size[1] // 4, 3))
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2) + rng.integers(0, 30, (count, *size, 3))
    return fine.astype(np.uint8)


def make_masks(count: int = 6, marked: Iterable[int] = MARKED) -> NDArray[np.uint8]:
    """(slices, rows, columns) of 0 and 255: a square on the marked slices, counted from 1."""
    masks = np.zeros((count, *SIZE), np.uint8)
    for number in marked:
        masks[number - 1, 8:14, 10 : 14 + number] = 255
    return masks


def write_picture(path: Path, values: NDArray[Any]) -> None:
    """A TIFF of one slice."""
    tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack")


def write_patient(
    root: Path,
    name: str,
    *,
    seed: int = 0,
    count: int = 6,
    copies: str = "",
    marked: Iterable[int] = MARKED,
    dtype: str = "uint8",
) -> Path:
    """A patient in the LGG layout; ``copies`` names the sequences that are FLAIR again."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    slices = make_slices(seed, count).astype(dtype)
    for place, sequence in ((0, "T1"), (2, "T1C")):
        if sequence in copies.split():
            slices[..., place] = slices[..., 1]
    masks = make_masks(count, marked)
    for number in range(1, count + 1):
        write_picture(folder / f"{name}_{number}.tif", slices[number - 1])
        write_picture(folder / f"{name}_{number}_mask.tif", masks[number - 1])
    return folder


def write_set(
    root: Path, names: Iterable[str] = ("TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102")
) -> Path:
    """Some patients in the LGG layout."""
    for seed, name in enumerate(names):
        write_patient(root, name, seed=seed)
    return root


def indexed(root: Path, folder: Path | None = None) -> Indexed:
    """The rows of a data set, for a manifest in ``folder``."""
    return index_roots([Root(root)], folder or root)


def manifest_of(root: Path) -> Manifest:
    """Index a data set, write the manifest into it and read it back."""
    path = root / "manifest.csv"
    write_manifest(indexed(root).rows, path)
    return read_manifest(path)


def make_row(patient: str, number: int, area: int = 0, **changes: Any) -> SliceRow:
    """A row without a file."""
    row = SliceRow(
        patient=patient,
        number=number,
        kind="slices",
        image=f"{patient}/{patient}_{number}.tif",
        mask=f"{patient}/{patient}_{number}_mask.tif",
        tumour=area > 0,
        area_px=area,
        sequences=("T1", "FLAIR", "T1C"),
        institution=institution_of(patient),
        sha256=f"{patient}-{number}",
        mask_sha256=f"{patient}-{number}-{area}",
    )
    return replace(row, **changes)


def make_manifest(volumes: dict[str, int], slices: int = 4) -> Manifest:
    """Patients with a tumour volume each, on their second slice; no files."""
    rows = [
        make_row(patient, number, area=volume if number == 2 else 0)
        for patient, volume in volumes.items()
        for number in range(1, slices + 1)
    ]
    return Manifest(tuple(rows), Path())
