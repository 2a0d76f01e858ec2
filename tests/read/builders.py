"""Builders of small studies on disk: a bright ellipsoid with noise, as NIfTI or slices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.read import Limits, Request, read
from gliosight.study import Study

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def make_volume(
    shape: tuple[int, int, int] = (5, 24, 20), *, seed: int = 0, dtype: str = "uint8"
) -> NDArray[Any]:
    """(slices, rows, columns) of noise with a brighter ellipsoid; another seed, another image."""
    grid = np.ogrid[tuple(slice(side) for side in shape)]
    sides = zip(grid, shape, strict=True)
    inside = sum(((index + 0.5 - side / 2) / (0.4 * side)) ** 2 for index, side in sides) < 1
    noise = np.random.default_rng(seed).integers(0, 60, shape)
    return (noise + inside * (90 + 20 * (seed % 5))).astype(dtype)


def write_nifti(
    path: Path,
    values: NDArray[Any],
    affine: NDArray[Any] | None = None,
    *,
    codes: tuple[int, int] = (1, 1),
    **fields: object,
) -> Path:
    """Write (slice, row, column) values; ``codes`` of sform and qform; ``fields`` of the header."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0]) if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values.transpose(), None)
    image.header.set_xyzt_units("mm")
    if codes[1]:
        image.set_qform(affine, codes[1])
    image.set_sform(affine, codes[0])
    nib.save(image, path)
    if fields:  # afterwards, since nibabel would refuse or repair them
        raw = path.read_bytes()
        header = nib.Nifti1Header(raw[:348], check=False)
        for name, value in fields.items():
            header[name] = value
        path.write_bytes(header.binaryblock + raw[348:])
    return path


def write_lgg(
    folder: Path,
    *,
    slices: Iterable[int] = range(1, 6),
    copies: str = "",
    masks: bool = True,
    shape: tuple[int, int] = (24, 20),
) -> NDArray[Any]:
    """Write an LGG patient; ``copies`` names the sequences ("T1", "T1C") that are FLAIR again.

    Returns
    -------
    (slices, rows, columns, 3) array
        In the order of the given numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(slices)
    t1, flair, t1c = (make_volume((len(numbers), *shape), seed=seed) for seed in range(3))
    named = copies.split()
    stack = np.stack([flair if "T1" in named else t1, flair, flair if "T1C" in named else t1c], -1)
    for number, image in zip(numbers, stack, strict=True):
        tifffile.imwrite(folder / f"{folder.name}_{number}.tif", image, photometric="rgb")
        if masks:
            mask = (image[..., 1] > 100).astype(np.uint8) * 255
            tifffile.imwrite(folder / f"{folder.name}_{number}_mask.tif", mask)
    return stack


def read_path(path: Path, **options: Any) -> Study:
    """Read with default options."""
    return read(Request(path, **options))


def codes_of(study: Study) -> list[str]:
    """The study's flag codes."""
    return [one.code for one in study.flags]


def small(**bounds: Any) -> Limits:
    """Limits with some bounds replaced."""
    return Limits(**bounds)
