"""A study of numpy arrays, for Python callers (read stage).

The rules for files hold: finite values, no masks, copies of FLAIR left out. Axes in another order, such as
nibabel's (i, j, k), are looked for, with an affine and without: the result would be wrong and look right.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.flags import flag
from gliosight.read.checks import (
    as_float32,
    from_doubles,
    keep_real,
    lone_slice,
    make_finite,
    refuse_mask,
)
from gliosight.read.grid import (
    ShearedAffineError,
    UnusableAffineError,
    geometry_of,
    is_default,
    oddities,
)
from gliosight.read.limits import RAISE_IN_PYTHON, Budget, Limits
from gliosight.study import Flag, Geometry, MrSequence, Study, Volume

# No scanner's field of view is larger, mm.
LONGEST_SIDE = 500.0
# Relative differences of voxels' lengths, or of their numbers, along two axes.
ALIKE, DIFFERENT = 0.01, 0.1
# Along left-right a head's correlation with its mirror image is 0.74 to 0.95, along the others 0.05 to 0.4
# less (43 FLAIR volumes with and without skull, with and without tumours).
CLEARLY_MORE = 0.03
FEWEST_FOR_SYMMETRY = 12
# An axis of the pictures with this many times fewer pixels than both others is that of the slices: no side of
# a head is twice as long as another, and no scanner's pixels are so far from square.
FAR_FEWER = 2

NOT_AXIAL = (
    "Nothing says how the slices lie, and they do not look axial: the head is more symmetric along another "
    "axis than from column to column. The result is probably wrong."
)
OTHER_ORDER = (
    "The affine's axes seem to be in another order than the array's: it has to be for (slice, row, column), "
    "and one of nibabel is for (i, j, k). Give affine[:, [2, 1, 0, 3]], or the image itself."
)
REORDER = (
    "give the nibabel image itself, or order the affine's columns like the array's axes, "
    "affine[:, [2, 1, 0, 3]] where the data are transposed"
)


def from_arrays(
    flair: ArrayLike,
    t1: ArrayLike | None = None,
    t1c: ArrayLike | None = None,
    *,
    affine: ArrayLike | None = None,
    study_id: str = "arrays",
    limits: Limits | None = None,
) -> Study:
    """Make a study of arrays.

    Parameters
    ----------
    flair : (slices, rows, columns) array
        Integers, or floats (kept as float32). (rows, columns) is one slice. What a masked array masks
        is air.
    t1, t1c : (slices, rows, columns) array, optional
        On FLAIR's grid.
    affine : (4, 4) array, optional
        From ``(slice, row, column, 1)`` to world, RAS+ mm, at voxel centres. A nibabel affine is
        for ``(i, j, k)``: give the image instead (`gliosight.analyze` takes it), or transpose both,
        ``data.transpose(2, 1, 0)`` and ``affine[:, [2, 1, 0, 3]]``. Without it there are no millimetres.
    study_id : str
    limits : Limits, optional
        Held against what the arrays say of their size, before any of them is copied.

    Raises
    ------
    UsageError
        No array; an affine that is not (4, 4), or that is clearly not for (slice, row, column); no affine
        and an array that is clearly not (slice, row, column).
    UnsupportedInputError
        Arrays of other dimensions, or not of real numbers.
    DamagedInputError
        Shapes that differ, too many values that are not finite, a mask.
    LimitExceededError
        More bytes than ``limits`` allow.
    """
    if flair is None:
        raise UsageError("there is no FLAIR", remedy="give FLAIR as an array")
    budget = Budget(limits or Limits(), RAISE_IN_PYTHON)
    arrays: dict[MrSequence, NDArray[Any]] = {}
    flags: list[Flag] = []
    for sequence, values in zip(MrSequence, (flair, t1, t1c), strict=True):
        if values is None:
            continue
        name = sequence.value
        # What has no shape, such as a list, is in memory already, and counted as an array.
        _count(values, name, budget)
        array, masked = numbers_of(values, name)
        if not hasattr(values, "shape"):
            _count(array, name, budget)
        array, odd = make_finite(array, name, name)
        refuse_mask(array, name, name)
        arrays[sequence] = array
        flags += (*masked, *odd)
        shape = arrays[MrSequence.FLAIR].shape
        if array.shape != shape:
            what = f"{name} has the shape {array.shape}, FLAIR has {shape}"
            remedy = "give all sequences on one grid, or images that say where they lie"
            raise DamagedInputError(what, remedy=remedy)
    geometry = None
    if affine is not None:
        geometry, odd = _placed(affine, arrays[MrSequence.FLAIR])
        flags += odd
    if geometry is None or geometry.believed == "sizes":
        if slices_lie_elsewhere(shape):
            raise UsageError(
                f"the last two axes of an array {shape} are rows and columns, and one is by far the "
                "shortest: the axes seem to be in another order, such as nibabel's (i, j, k)",
                remedy="give the nibabel image itself, or move the axis of the slices to the front, as "
                "array.transpose(2, 1, 0) does with nibabel's",
            )
        flags += doubts_of_axes(arrays[MrSequence.FLAIR])
    flags += lone_slice(shape[0], geometry)
    real, copy_flags = keep_real(arrays)
    return Study(
        study_id=study_id,
        sequences={sequence: Volume(values, geometry) for sequence, values in real.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(shape[0])),
        kind="arrays",
        flags=(*flags, *copy_flags),
    )


def _count(array: Any, name: str, budget: Budget) -> None:
    """Hold an array's size against the limits; what it does not tell is not counted."""
    if isinstance(shape := getattr(array, "shape", ()), tuple):
        pixels = math.prod(shape)
        width = getattr(getattr(array, "dtype", None), "itemsize", 1)
        budget.take(pixels * width, name, packed=None, pixels=pixels)


def numbers_of(values: ArrayLike, name: str) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    """A caller's values as a (slices, rows, columns) array of our own.

    What is masked is air: 0, or less where values are negative.

    Raises
    ------
    UsageError
        No array at all.
    UnsupportedInputError
        Another number of dimensions, other than real numbers.
    DamagedInputError
        Every voxel is masked.
    """
    shape = "give an array of (slices, rows, columns)"
    try:
        array = np.asanyarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU, ...
        raise UsageError(f"{name} is not an array of numbers", remedy=shape) from error
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise UnsupportedInputError(f"{name} has the shape {array.shape}", remedy=shape)
    if array.dtype.kind not in "biuf":
        what, remedy = f"{name} holds {array.dtype} values", "give real numbers, such as float32"
        raise UnsupportedInputError(what, remedy=remedy)
    flags: tuple[Flag, ...] = ()
    mask, array = np.ma.getmaskarray(array), np.asarray(np.ma.getdata(array))
    if mask.any():
        shown = array[~mask & np.isfinite(array)]
        if not shown.size:
            what, remedy = (
                f"every voxel of {name} is masked",
                "give an array with voxels that are not",
            )
            raise DamagedInputError(what, remedy=remedy)
        array = np.where(mask, array.dtype.type(min(shown.min(), 0)), array)
        message = f"{mask.mean():.0%} of the voxels of {name} are masked; they count as air."
        flags = (flag("MASKED_AS_AIR", message),)
    if array.dtype.kind == "f":
        wide = array.dtype.itemsize > 4
        return from_doubles(array) if wide else np.ascontiguousarray(as_float32(array)), flags
    # A copy: what the caller does to the array later must not change the study.
    dtype = np.uint8 if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    return np.array(array, dtype=dtype, order="C"), flags


def _placed(affine: ArrayLike, values: NDArray[Any]) -> tuple[Geometry | None, tuple[Flag, ...]]:
    problem, matrix = "", np.array(None)
    with suppress(TypeError, ValueError, RuntimeError):
        matrix = np.asarray(affine)
    if matrix.dtype.kind not in "iuf":
        problem = "is not an array of numbers"
    elif matrix.shape != (4, 4):
        problem = f"has the shape {matrix.shape}"
    elif matrix[3, :3].any():
        problem = f"has a last row that begins {matrix[3, :3].tolist()}, not with zeros"
    if problem:
        remedy = "give a (4, 4) array from (slice, row, column, 1) to RAS+ mm"
        raise UsageError(f"the affine {problem}", remedy=remedy)
    matrix = matrix.astype(np.float64)
    flags: list[Flag] = []
    try:
        try:
            geometry = geometry_of(matrix, values.shape)
        except ShearedAffineError as error:
            geometry = geometry_of(matrix, values.shape, straighten=True)
            message = f"The affine is sheared ({error}); it was straightened."
            flags.append(flag("AFFINE_STRAIGHTENED", message))
    except UnusableAffineError as error:
        if not is_default(matrix):
            _doubts_of_order(values, matrix)
        message = f"There is no usable geometry ({error}); sizes are in pixels only."
        return None, (flag("NO_GEOMETRY", message),)
    if geometry.believed != "sizes":
        flags += _doubts_of_order(values, matrix)
    return geometry, (*flags, *oddities(geometry, "FLAIR"))


def slices_lie_elsewhere(shape: tuple[int, ...]) -> bool:
    """Whether another axis than the first is clearly that of the slices, by the numbers of voxels alone."""
    axis = int(np.argmin(shape))
    return axis != 0 and FAR_FEWER * shape[axis] <= min(np.delete(shape, axis))


def doubts_of_axes(values: NDArray[Any]) -> tuple[Flag, ...]:
    """Doubt that slices of which no header says the direction are axial: AXES_DOUBTED, or nothing."""
    # The columns of axial slices run from right to left.
    if not _symmetric_along_another(values, lateral=2):
        return ()
    return (flag("AXES_DOUBTED", NOT_AXIAL),)


@np.errstate(all="ignore")
def _doubts_of_order(values: NDArray[Any], affine: NDArray[np.float64]) -> tuple[Flag, ...]:
    """Doubt an affine whose columns are in another order than the array's axes, as nibabel's are.

    Three things speak for that: a side of the volume longer than any scanner's field of view, and not
    with the columns in reverse; two axes of as many voxels, but two others with voxels of one length;
    a head that is not symmetric along the axis said to be left-right, but along another. The first, or
    both of the others, are an error (`UsageError`); one of the others is a flag.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not lengths.all():
        return ()
    sides = np.array(values.shape)
    too_long = (sides * lengths).max() > LONGEST_SIDE >= (sides * lengths[::-1]).max()
    odd_count, odd_length = _odd_axis(sides), _odd_axis(lengths)
    not_square = None not in (odd_count, odd_length) and odd_count != odd_length
    not_symmetric = _symmetric_along_another(values, int(np.abs(affine[0, :3] / lengths).argmax()))
    if too_long or (not_square and not_symmetric):
        what = f"the affine does not fit an array of (slices, rows, columns) = {values.shape}"
        raise UsageError(f"{what}: its axes seem to be those of nibabel, (i, j, k)", remedy=REORDER)
    return (flag("AFFINE_DOUBTED", OTHER_ORDER),) if not_square or not_symmetric else ()


def _odd_axis(values: NDArray[Any]) -> int | None:
    """The axis that differs, where the other two are alike."""
    for axis in range(3):
        first, second = np.delete(values, axis)
        if abs(first / second - 1) < ALIKE and abs(values[axis] / first - 1) > DIFFERENT:
            return axis
    return None


def _symmetric_along_another(values: NDArray[Any], lateral: int) -> bool:
    """Whether the head is clearly more symmetric along another axis than along left-right."""
    if min(values.shape) < FEWEST_FOR_SYMMETRY:
        return False
    step = tuple(slice(None, None, max(1, side // 64)) for side in values.shape)
    sample = values[step].astype(np.float64)
    low, high = np.percentile(sample, (1.0, 99.0))
    if not high > low:
        return False
    sample = (np.clip(sample, low, high) - low) / (high - low)
    symmetries = [_symmetry(np.moveaxis(sample, axis, 0)) for axis in range(3)]
    return max(symmetries) > symmetries[lateral] + CLEARLY_MORE


def _symmetry(sample: NDArray[np.float64]) -> float:
    """The best correlation of a volume with its mirror image along the first axis."""
    count = len(sample)
    profile = sample.sum(axis=(1, 2))
    centre = float(profile @ np.arange(count)) / float(profile.sum())
    best = 0.0
    for twice in range(round(2 * centre) - count // 12 - 2, round(2 * centre) + count // 12 + 3):
        part = sample[max(0, twice - count + 1) : min(count - 1, twice) + 1]
        if len(part) < count / 2:
            continue
        part = part - part.mean()
        scale = float((part * part).sum())
        best = max(best, float((part * part[::-1]).sum()) / scale if scale > 0 else 0.0)
    return best
