"""What the pixels themselves must be: finite, and an image rather than a mask (read stage).

In: the values of one sequence. Out: the values the study will hold, with flags, or an error.
Whether an image has any contrast is not asked here; a later stage calls a constant one "not
assessed".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from gliosight.errors import DamagedInputError
from gliosight.read.flags import flag
from gliosight.study import Flag

# Part of the voxels, background left out, that may be NaN or infinite.
MOST_NOT_FINITE = 0.01
# Numbers on the sides of a voxel of the background, on average: a smooth edge of a large one has hardly any.
MOST_BORDERS = 1.5
# A plane cuts the head where it borders on the background over this part of the head's largest section. The
# flattest end of 25 stripped brains borders over 0.25.
MOST_FLAT = 0.5
# Part of the values' range from which a voxel is tissue and not air.
TISSUE_FROM = 0.4
# Spread of the values within which nothing is scaled.
SMALLEST_SPREAD, LARGEST_SPREAD = 1e-6, 1e12
# From so many spreads on an offset leaves float32 less than 14 of its 24 bits.
LARGEST_OFFSET = 1024.0
# An image has hundreds of values.
MOST_LABELS = 16
# In a map of labels most voxels have the value of those so far away; of the brighter half of 280 MR volumes
# at most 0.06 do, of an atlas more than half.
PLATEAU, MOST_IN_PLATEAUS = 3, 0.3


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; what is too large for it becomes infinite, and is dealt with as that."""
    with np.errstate(over="ignore", invalid="ignore"):
        out: NDArray[np.float32] = values.astype(np.float32)
    return out


def from_doubles(
    values: NDArray[Any], slope: ArrayLike = 1.0, intercept: ArrayLike = 0.0
) -> NDArray[np.float32]:
    """Doubles, or stored numbers and their scaling, as float32 that hold their contrast.

    Numbers around a large offset have their smallest taken out: MR has neither unit nor offset.

    Parameters
    ----------
    values : (slices, ...) array
    slope, intercept : float or (slices,) array
    """
    out = np.empty(values.shape, dtype=np.float32)
    slopes, intercepts = (
        np.broadcast_to(np.asarray(line, np.float64), len(values)) for line in (slope, intercept)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        base = _offset(values, slopes, intercepts)
        intercepts = intercepts - intercepts[0] - base if base is not None else intercepts
        exponent = _exponent(_sample(values, slopes, intercepts))
        # Slice by slice: doubles for all would need eight times it.
        for target, plane, factor, shift in zip(out, values, slopes, intercepts, strict=True):
            target[:] = np.ldexp(plane * factor + shift, -exponent)
    return out


def _offset(
    values: NDArray[Any], slopes: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> float | None:
    """The smallest number, less the first intercept, where all lie around a large offset."""
    shifts = intercepts - intercepts[0]
    sample = _sample(values, slopes, shifts)
    if not sample.size:
        return None
    low, high = np.percentile(sample, (1.0, 99.0))
    middle = abs(low / 2 + high / 2 + intercepts[0])
    if not 0 < high - low < np.inf or not middle > LARGEST_OFFSET * (high - low):
        return None
    planes = (
        plane * factor + shift for plane, factor, shift in zip(values, slopes, shifts, strict=True)
    )
    return min(float(plane.min(initial=low, where=np.isfinite(plane))) for plane in planes)


def make_finite(
    values: NDArray[Any], sequence: str, where: str
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    """Give NaN and infinite voxels a value: those around the head air's, the odd one the smallest.

    Floats of an extreme unit (1e-20) are brought to a usual one by a power of two: MR has no unit,
    and squares of such numbers would be lost.

    Returns
    -------
    values : array
        The same array when nothing had to be done.
    flags : tuple of Flag

    Raises
    ------
    DamagedInputError
        More than 1 % of the voxels that are not air around the head are not finite, or a slice has
        infinite voxels and air alone.
    """
    if values.dtype.kind != "f":
        return values, ()
    if exponent := _exponent(_sample(values)):
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.ldexp(values, np.int32(-exponent))
    finite = np.isfinite(values)
    if finite.all():
        return values, ()
    around = _around(finite)
    outside = int(np.count_nonzero(around))
    inside = values.size - int(np.count_nonzero(finite)) - outside
    if inside > MOST_NOT_FINITE * (values.size - outside):
        raise DamagedInputError(
            f"{inside / (values.size - outside):.1%} of the voxels are NaN or infinite and not "
            "background, 1 % is the most allowed",
            where=where,
            remedy="write the image again with a number in every voxel",
        )
    smallest = values[finite].min()
    for number, (plane, known) in enumerate(zip(values, finite, strict=True), start=1):
        if known.any() and np.isinf(plane).any() and plane[known].max() <= max(smallest, 0):
            raise DamagedInputError(
                f"slice {number} has infinite voxels and air alone, its head is lost",
                where=where,
                remedy="write the image again with a number in every voxel",
            )
    values = np.where(finite, values, smallest)
    flags: list[Flag] = []
    if outside:
        # What tools write around a head is 0; where values are negative, the smallest is the darkest.
        values[around] = min(smallest, 0)
        message = (
            f"The background of {sequence} ({outside / values.size:.0%} of its voxels) is NaN or "
            "infinite; it counts as air."
        )
        flags.append(flag("BACKGROUND_NOT_FINITE", message))
        if _cuts_head(values, finite, around):
            message = (
                f"The background of {sequence} that is NaN or infinite ends in a straight plane through the "
                "head, which the image holds in part only."
            )
            flags.append(flag("HEAD_CUT_OFF", message))
    if inside:
        message = f"{inside:,} voxels of {sequence} are NaN or infinite and were set to its smallest value."
        flags.append(flag("NOT_FINITE", message))
    return values, tuple(flags)


def _around(finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels without a number that are background: connected to the edge of the picture.

    A plane without any number between planes that have some was lost and is no background. Neither is
    what is scattered through the picture: there most such voxels have numbers on several sides.
    """
    padded = np.pad(~finite, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, count = ndimage.label(padded)
    # The padding of every slice is edge, whatever its label.
    is_edge = np.zeros(count + 1, dtype=bool)
    is_edge[labels[:, 0, 0]] = True
    around: NDArray[np.bool_] = is_edge[labels[:, 1:-1, 1:-1]]
    for axis in range(3):
        some = np.asarray(finite.any(axis=tuple({0, 1, 2} - {axis})))
        lost = ~some
        lost[: int(some.argmax())] = False
        lost[len(some) - int(some[::-1].argmax()) :] = False
        np.moveaxis(around, axis, 0)[lost] = False
    borders = sum(
        int(np.count_nonzero(around[one] & finite[other]))
        for one, other in (
            (np.s_[:, 1:], np.s_[:, :-1]),
            (np.s_[:, :-1], np.s_[:, 1:]),
            (np.s_[:, :, 1:], np.s_[:, :, :-1]),
            (np.s_[:, :, :-1], np.s_[:, :, 1:]),
        )
    )
    if borders > MOST_BORDERS * np.count_nonzero(around):
        around[:] = False
    return around


def _cuts_head(values: NDArray[Any], finite: NDArray[np.bool_], around: NDArray[np.bool_]) -> bool:
    """Whether the background ends at a plane of voxels in the head, where air ends at a curved surface."""
    low, high = np.percentile(values[finite], (1.0, 99.0))
    tissue = finite & (values > low + TISSUE_FROM * (high - low))
    for axis in range(3):
        head, outside = np.moveaxis(tissue, axis, 0), np.moveaxis(around, axis, 0)
        section = int(head.sum(axis=(1, 2)).max())
        for one, other in ((head[1:], outside[:-1]), (head[:-1], outside[1:])):
            borders = (one & other).sum(axis=(1, 2))
            if len(borders) and section and borders.max() > MOST_FLAT * section:
                return True
    return False


@np.errstate(invalid="ignore")  # signalling NaN
def _sample(
    values: NDArray[Any],
    slopes: NDArray[np.float64] | None = None,
    intercepts: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Some hundred thousand of the values, scaled and finite, as doubles."""
    step = [max(1, size // 64) for size in values.shape]
    sample = values[tuple(slice(None, None, one) for one in step)].astype(np.float64)
    if slopes is not None and intercepts is not None:
        each = (-1, *[1] * (values.ndim - 1))
        sample = sample * slopes[:: step[0]].reshape(each) + intercepts[:: step[0]].reshape(each)
    return sample[np.isfinite(sample)]


def _exponent(sample: NDArray[np.float64]) -> int:
    """The power of two by which values are too large or too small to be reckoned with; mostly 0."""
    if not sample.size:
        return 0
    low, high = np.percentile(sample, (1.0, 99.0))
    spread = float(high / 2 - low / 2)  # the halves: the difference itself may overflow
    if not 0 < spread < np.inf or SMALLEST_SPREAD <= spread <= LARGEST_SPREAD:
        return 0
    return math.frexp(spread)[1]


def is_constant(values: NDArray[Any]) -> bool:
    """Whether all values are the same."""
    return bool(values.min() == values.max())


def is_labels(values: NDArray[Any]) -> bool:
    """Whether the values are names: so few, or integers in large areas of one value each."""
    seen: set[float] = set()
    # Slice by slice: the first slice with tissue is enough to recognise an image.
    for one in values:
        levels = np.unique(one)
        seen.update(levels[: MOST_LABELS + 1].tolist())
        if len(seen) > MOST_LABELS:
            return _in_plateaus(values)
    return len(seen) > 1


def _in_plateaus(values: NDArray[Any]) -> bool:
    """Whether the upper half of the values, the largest left out, are integers with equals near by.

    The lower half may be air, and the largest value what was cut off above.
    """
    sample = values[:: max(1, len(values) // 8)]
    if values.dtype.kind == "f" and not (sample == np.round(sample)).all():
        return False
    tissue = sample[sample > sample.min()]
    corner = sample[:, :-PLATEAU, :-PLATEAU]
    upper = (corner > np.median(tissue)) & (corner < sample.max()) if tissue.size else corner < 0
    if not upper.any():
        return False
    down, across = sample[:, PLATEAU:, :-PLATEAU], sample[:, :-PLATEAU, PLATEAU:]
    return float(((corner == down) & (corner == across))[upper].mean()) > MOST_IN_PLATEAUS


def refuse_mask(values: NDArray[Any], sequence: str, where: str) -> None:
    """Raise `DamagedInputError` where the values are those of a mask or a map of labels."""
    if is_labels(values):
        raise DamagedInputError(
            f"{sequence} holds {few_values(values)} only, it is a mask or a map of labels and no image",
            where=where,
            remedy="give the MR image, not its mask",
        )


def few_values(values: NDArray[Any]) -> str:
    """How many values there are, in words for `is_labels`."""
    count = len(np.unique(values))
    return "two values" if count == 2 else f"{count} values"
