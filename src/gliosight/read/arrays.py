"""A study of numpy arrays, for Python callers (read stage).

In: arrays indexed (slice, row, column) and, if known, one affine from (slice, row, column) to RAS+
millimetres. Out: a `Study` of kind ``"arrays"``. The same rules as for files hold: finite values,
no masks, copies of FLAIR left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.read.affines import UnusableAffineError, check_extent, geometry_of
from gliosight.read.copies import keep_real
from gliosight.read.flags import flag
from gliosight.read.intensities import as_float32, make_finite, refuse_mask
from gliosight.study import Flag, Geometry, Sequence, Study, Volume


def from_arrays(
    flair: ArrayLike,
    t1: ArrayLike | None = None,
    t1c: ArrayLike | None = None,
    *,
    affine: ArrayLike | None = None,
    study_id: str = "arrays",
) -> Study:
    """Make a study of arrays.

    Parameters
    ----------
    flair : (slices, rows, columns) array
        Integers, or floats (kept as float32). (rows, columns) is one slice.
    t1, t1c : (slices, rows, columns) array, optional
        On FLAIR's grid.
    affine : (4, 4) array, optional
        From ``(slice, row, column, 1)`` to world, RAS+ mm, at voxel centres. A nibabel affine is
        for ``(i, j, k)``: transpose the data, ``data.transpose(2, 1, 0)``, and give ``affine[:, [2,
        1, 0, 3]]``. Without it there are no millimetres.
    study_id : str
        What to call the study.

    Raises
    ------
    UsageError
        The affine is not (4, 4).
    UnsupportedInputError
        Arrays of other dimensions, or not of real numbers.
    DamagedInputError
        Shapes that differ, too many values that are not finite, a mask.
    """
    given = {Sequence.FLAIR: flair, Sequence.T1: t1, Sequence.T1C: t1c}
    arrays: dict[Sequence, NDArray[Any]] = {}
    flags: list[Flag] = []
    for name, values in given.items():
        if values is None:
            continue
        array, odd = make_finite(_checked(values, name.value), name.value, name.value)
        refuse_mask(array, name.value, name.value)
        arrays[name] = array
        flags += odd
        if array.shape != arrays[Sequence.FLAIR].shape:
            raise DamagedInputError(
                f"{name.value} has the shape {array.shape}, "
                f"FLAIR has {arrays[Sequence.FLAIR].shape}",
                remedy="give all sequences on one grid",
            )
    slices = len(arrays[Sequence.FLAIR])
    geometry = None
    if affine is not None:
        geometry, odd = _placed(affine, arrays[Sequence.FLAIR].shape)
        flags += odd
    kept, copy_flags = keep_real(arrays)
    return Study(
        study_id=study_id,
        sequences={name: Volume(values, geometry) for name, values in kept.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(slices)),
        kind="arrays",
        flags=(*flags, *copy_flags),
    )


def _checked(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise UnsupportedInputError(
            f"{name} has the shape {array.shape}",
            remedy="give an array of (slices, rows, columns)",
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        # A copy: what the caller does to the array later must not change the study.
        return array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f":
        return as_float32(array)
    raise UnsupportedInputError(
        f"{name} holds {array.dtype} values", remedy="give real numbers, such as float32"
    )


def _placed(affine: ArrayLike, shape: tuple[int, ...]) -> tuple[Geometry | None, tuple[Flag, ...]]:
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "the affine is no array of numbers", remedy="give a (4, 4) array"
        ) from error
    if matrix.shape != (4, 4):
        raise UsageError(f"the affine has the shape {matrix.shape}", remedy="give a (4, 4) array")
    try:
        geometry = geometry_of(matrix, shape[0])
        check_extent(geometry, (shape[1], shape[2]))
    except UnusableAffineError as error:
        message = f"There is no usable geometry ({error}); sizes are in pixels only."
        return None, (flag("NO_GEOMETRY", message),)
    if shape[0] == 1 and geometry.slice_thickness is not None:
        message = f"There is one slice; it counts as {geometry.slice_thickness:g} mm thick."
        return geometry, (flag("SINGLE_SLICE", message),)
    return geometry, ()
