"""A sequence's values at the voxels of another grid (read stage, NIfTI and DICOM).

In: values, and where each slice of the wanted grid lies among them. Out: trilinear values there, and how
much of the wanted grid the values cover. It is the only place where reading interpolates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.read.intensities import as_float32

# Less of FLAIR's grid inside the other image than this, and it is left out: it shows another place.
LEAST_COVERED = 0.5


def pixels_of(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(2, rows * columns) array: row and column of every pixel of a slice of ``shape[1:]``."""
    _, rows, columns = shape
    grid = np.meshgrid(
        np.arange(rows, dtype=np.float64), np.arange(columns, dtype=np.float64), indexing="ij"
    )
    return np.stack(grid).reshape(2, -1)


def resample(
    values: NDArray[Any], places: Callable[[int], NDArray[np.float64]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], float]:
    """Trilinear values at the voxels of another grid.

    Parameters
    ----------
    values : (slices, rows, columns) array
    places : callable
        From a slice's number in the wanted grid to (3, rows * columns) continuous voxel indices of
        ``values``.
    shape : tuple of int
        (slices, rows, columns) of the wanted grid.

    Returns
    -------
    resampled : array of ``shape``
        Voxels up to half a voxel outside take the edge's value; those further out the smallest value,
        as air has.
    covered : float
        Part of the wanted voxels that lie inside.
    """
    last = np.array(values.shape, dtype=np.float64)[:, None] - 0.5
    air = np.float32(as_float32(values.min()))
    out = np.empty(shape, dtype=np.float32)
    inside_count = 0
    source = values if values.dtype.itemsize <= 4 else as_float32(values)
    for index in range(shape[0]):  # coordinates for all slices would need six times the volume
        at = places(index)
        inside = ((at >= -0.5) & (at <= last)).all(axis=0)
        one = ndimage.map_coordinates(source, at, output=np.float32, order=1, mode="nearest")
        out[index] = np.where(inside, one, air).reshape(shape[1:])
        inside_count += int(np.count_nonzero(inside))
    return out, inside_count / out.size
