"""What pixels must be (read stage): finite, an image rather than a mask, no copies, pictures of one head.

Whether an image has any contrast is not asked here; a later stage calls a constant one "not assessed".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.flags import flag
from gliosight.study import Flag, Geometry, MrSequence

OTHERS = (MrSequence.T1, MrSequence.T1C)
# What the network is given in place of a sequence that is not there.
STANDS_IN = "FLAIR stands in for it."

# An image has more different values than this.
MOST_LABELS = 16
# Bins of each of two channels that are compared with the third.
BINS = 12


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; what is too large for it becomes infinite, and is handled as that."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values.astype(np.float32))


def from_doubles(
    values: NDArray[Any], slope: ArrayLike = 1.0, intercept: ArrayLike = 0.0
) -> NDArray[np.float32]:
    """Doubles, or stored numbers with their scaling, as float32 that hold their contrast.

    The scaling is that of all slices or of each. From numbers around a large offset the smallest is
    subtracted: MR has neither unit nor offset.
    """
    slopes, intercepts = (
        np.broadcast_to(np.asarray(number, np.float64), len(values))
        for number in (slope, intercept)
    )
    each = (-1, *[1] * (values.ndim - 1))
    out = np.empty(values.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        sample = _sample(values) * _sample(slopes).reshape(each)
        shifts = intercepts - intercepts[0]
        low, high = _range(sample + _sample(shifts).reshape(each))
        middle = abs(low / 2 + high / 2 + intercepts[0])
        # From 1024 spreads on an offset leaves float32 less than 14 of its 24 bits.
        if 0 < high - low < np.inf and middle > 1024 * (high - low):
            smallest = low
            for plane, factor, shift in zip(values, slopes, shifts, strict=True):
                scaled = plane * factor + shift
                smallest = min(smallest, scaled.min(initial=low, where=np.isfinite(scaled)))
            intercepts = shifts - smallest
        exponent = _exponent(*_range(sample + _sample(intercepts).reshape(each)))
        # Slice by slice: doubles for all would need eight bytes a voxel.
        for target, plane, factor, shift in zip(out, values, slopes, intercepts, strict=True):
            target[:] = np.ldexp(plane * factor + shift, -exponent)
    return out


@np.errstate(invalid="ignore")  # signalling NaN
def _sample(values: NDArray[Any]) -> NDArray[np.float64]:
    """Some hundred thousand of the values, evenly spread."""
    every = tuple(slice(None, None, max(1, size // 64)) for size in values.shape)
    return values[every].astype(np.float64)


def _range(sample: NDArray[np.float64]) -> tuple[float, float]:
    """The 1st and 99th percentile of the finite numbers; zeros where there are none."""
    finite = sample[np.isfinite(sample)]
    low, high = np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def _exponent(low: float, high: float) -> int:
    """The power of two by which values are too large or too small to calculate with; mostly 0."""
    spread = high / 2 - low / 2  # the difference itself may overflow
    if not 0 < spread < np.inf or 1e-6 <= spread <= 1e12:
        return 0
    return math.frexp(spread)[1]


def make_finite(
    values: NDArray[Any], sequence: str, where: str
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    """Give NaN and infinite voxels a value: those around the head air's, single ones the smallest.

    Floats of an extreme unit (1e-20) are multiplied by a power of two: squares of such numbers would be
    lost. The same array is returned where nothing had to be done.

    Raises
    ------
    DamagedInputError
        More than 1 % of the voxels that are not air around the head are not finite, or a slice has
        infinite voxels and air alone.
    """
    if values.dtype.kind != "f":
        return values, ()
    if exponent := _exponent(*_range(_sample(values))):
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.ldexp(values, np.int32(-exponent))
    finite = np.isfinite(values)
    if finite.all():
        return values, ()
    around = _around(finite)
    outside = int(np.count_nonzero(around))
    inside = values.size - int(np.count_nonzero(finite)) - outside
    smallest = values.min(initial=np.inf, where=finite)
    if problem := _lost(values, finite, inside / max(values.size - outside, 1), smallest):
        remedy = "write the image again with a number in every voxel"
        raise DamagedInputError(problem, where=where, remedy=remedy)
    values = np.where(finite, values, smallest)
    flags = []
    if outside:
        # What tools write around a head is 0; where values are negative, the smallest is the darkest.
        values[around] = min(smallest, 0)
        what = f"The background of {sequence} ({outside / values.size:.0%} of its voxels)"
        message = f"{what} is NaN or infinite; it counts as air."
        flags.append(flag("BACKGROUND_NOT_FINITE", message))
    if outside and _cuts_head(values, finite, around):
        what = f"The background of {sequence} that is NaN or infinite ends in a straight plane"
        message = f"{what} through the head, which the image holds in part only."
        flags.append(flag("HEAD_CUT_OFF", message))
    if inside:
        what = f"{inside:,} voxels of {sequence} are NaN or infinite"
        flags.append(flag("NOT_FINITE", f"{what} and were set to its smallest value."))
    return values, tuple(flags)


def _lost(values: NDArray[Any], finite: NDArray[np.bool_], part: float, smallest: float) -> str:
    """What of the head is lost, if ``part`` of it has no number; empty where that is little."""
    if part > 0.01:
        return f"{part:.1%} of the voxels are NaN or infinite and not background, 1 % is the most allowed"
    for number, (plane, known) in enumerate(zip(values, finite, strict=True), start=1):
        if known.any() and np.isinf(plane).any() and plane[known].max() <= max(smallest, 0):
            return f"slice {number} has infinite voxels and air alone, its head is lost"
    return ""


def _around(finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels without a number that are background: connected to the edge of the picture.

    A plane without any number between planes that have some was lost and is not background. Neither are
    voxels scattered through the picture, with numbers on several sides: the smooth edge of a background has
    hardly any.
    """
    from scipy import ndimage

    padded = np.pad(~finite, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, count = ndimage.label(padded)
    # The padding of every slice is edge, whatever its label.
    is_edge = np.zeros(count + 1, dtype=bool)
    is_edge[labels[:, 0, 0]] = True
    around: NDArray[np.bool_] = is_edge[labels[:, 1:-1, 1:-1]]
    views = [(np.moveaxis(around, axis, 0), np.moveaxis(finite, axis, 0)) for axis in range(3)]
    for outside, numbers in views:
        lost = ~np.asarray(numbers.any(axis=(1, 2)))
        lost[: lost.argmin()] = False
        lost[len(lost) - lost[::-1].argmin() :] = False
        outside[lost] = False
    borders = 0
    for outside, numbers in views[1:]:
        borders += int(np.count_nonzero(outside[1:] & numbers[:-1]))
        borders += int(np.count_nonzero(outside[:-1] & numbers[1:]))
    return around & (borders <= 1.5 * np.count_nonzero(around))


def _cuts_head(values: NDArray[Any], finite: NDArray[np.bool_], around: NDArray[np.bool_]) -> bool:
    """Whether the background ends at a plane of voxels in the head, where air ends at a curved surface."""
    low, high = np.percentile(values[finite], (1.0, 99.0))
    tissue = finite & (values > low + 0.4 * (high - low))
    for axis in range(3):
        head, outside = np.moveaxis(tissue, axis, 0), np.moveaxis(around, axis, 0)
        section = int(head.sum(axis=(1, 2)).max())
        for inner, outer in ((head[1:], outside[:-1]), (head[:-1], outside[1:])):
            borders = (inner & outer).sum(axis=(1, 2))
            # The flattest end of 25 stripped brains borders over 0.25 of the largest section.
            if len(borders) and section and borders.max() > 0.5 * section:
                return True
    return False


def is_constant(values: NDArray[Any]) -> bool:
    """Whether all values are the same."""
    return bool(values.min() == values.max())


def is_labels(values: NDArray[Any]) -> bool:
    """Whether the values are names: so few, or integers in large areas of one value each."""
    levels: set[float] = set()
    # Slice by slice: the first slice with tissue is enough to recognise an image.
    for plane in values:
        levels.update(np.unique(plane)[: MOST_LABELS + 1].tolist())
        if len(levels) > MOST_LABELS:
            return _in_plateaus(values)
    return len(levels) > 1


def _in_plateaus(values: NDArray[Any]) -> bool:
    """Whether the upper half of the values, the largest left out, are integers with equals three voxels on.

    The lower half may be air, and the largest value what was cut off above. Of the upper half of 280 MR
    volumes at most 0.06 have such equals, of an atlas more than half.
    """
    sample = values[:: max(1, len(values) // 8)]
    if values.dtype.kind == "f" and not (sample == np.round(sample)).all():
        return False
    tissue = sample[sample > sample.min()]
    corner = sample[:, :-3, :-3]
    upper = (corner > np.median(tissue)) & (corner < sample.max()) if tissue.size else corner < 0
    if not upper.any():
        return False
    equal = (corner == sample[:, 3:, :-3]) & (corner == sample[:, :-3, 3:])
    return float(equal[upper].mean()) > 0.3


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


def keep_real(
    arrays: Mapping[MrSequence, NDArray[Any]],
    *,
    lossy: bool = False,
    explained: Collection[MrSequence] = (),
) -> tuple[dict[MrSequence, NDArray[Any]], tuple[Flag, ...]]:
    """Leave out copies of FLAIR, a T1C that is a copy of T1, and sequences without contrast.

    The LGG set fills a missing T1 or T1C with FLAIR; only the pixels tell. ``arrays`` are on one grid, FLAIR
    among them; after ``lossy`` compression copies agree only nearly. Every study ends here, so that each
    absent sequence has exactly one flag; those ``explained`` have theirs already.
    """
    real = {MrSequence.FLAIR: arrays[MrSequence.FLAIR]}
    flags: list[Flag] = []
    for sequence in OTHERS:
        name = sequence.value
        if sequence not in arrays:
            if sequence not in explained:
                flags.append(flag(f"{name}_MISSING", f"There is no {name}; {STANDS_IN}"))
            continue
        values = arrays[sequence]
        if is_constant(values):
            message = f"{name} has no contrast at all and is left out."
            flags.append(flag(f"{name}_LEFT_OUT", message))
            continue
        parts = {other: _part_copied(values, real[other], lossy=lossy) for other in real}
        original, part = max(parts.items(), key=lambda item: item[1])
        if part >= 0.9:  # of the slices with contrast
            message = f"There is no {name}, only a copy of {original.value}; {STANDS_IN}"
            flags.append(flag(f"{name}_MISSING", message))
            continue
        if part >= 0.05:
            message = f"{part:.0%} of the slices of {name} are copies of {original.value}."
            flags.append(flag(f"{name}_PARTLY_COPY", message))
        real[sequence] = values
    return real, tuple(flags)


def lone_slice(count: int, geometry: Geometry | None) -> tuple[Flag, ...]:
    """The flag of a study of one slice, whatever it was read from; nothing for ``count`` slices."""
    if count != 1:
        return ()
    message = "There is one slice: the network has no neighbouring slices to look at"
    if geometry is not None and geometry.slice_thickness is None:
        message += ", and nothing tells how thick it is"
    elif geometry is not None:
        thickness = f"{geometry.slice_thickness:.3g} mm"
        message += f", and its thickness, {thickness}, counts as the distance to the next"
    return (flag("SINGLE_SLICE", f"{message}."),)


def _part_copied(values: NDArray[Any], original: NDArray[Any], *, lossy: bool) -> float:
    """The part of the slices that are copies, of those of the original that have contrast."""
    slices = [index for index, plane in enumerate(original) if not is_constant(plane)]
    if not slices:
        return float(np.array_equal(values, original))
    within = 0.03 * (float(original.max()) - float(original.min()))
    copies = 0
    for index in slices:
        same = values[index] == original[index]
        if lossy:
            same = np.abs(values[index].astype(np.float64) - original[index]) <= within
        copies += int(np.count_nonzero(same)) >= (0.99 if lossy else 0.999) * same.size
    return copies / len(slices)


def refuse_other_colours(pictures: NDArray[Any], where: str) -> None:
    """Refuse colour pictures that are not composites of three MR channels: marks, maps, photographs.

    ``pictures`` are (slices, rows, columns, 3). Of 88 patients of the LGG set none is refused; of colour
    maps, overlays and photographs nearly all are. Composites without air, cropped to the brain, are refused,
    too, and single slices that show little are harder (docs/decisions/0007).

    Raises
    ------
    UnsupportedInputError
    """
    if reason := _other_colours(pictures):
        raise UnsupportedInputError(
            f"colour pictures that are not composites of T1, FLAIR and T1C: {reason}",
            where=where,
            remedy="give the FLAIR slices as grey pictures, or as NIfTI or DICOM",
        )


def _other_colours(pictures: NDArray[Any]) -> str | None:
    """Why pictures are not composites; the bounds are measured on LGG and on other colour pictures."""
    finer = -(-max(pictures.shape[1:3]) // 1024)
    pictures = pictures[:: -(-len(pictures) // 24), ::finer, ::finer]
    # Slices with three equal channels say nothing.
    differ = (pictures[..., 1:] != pictures[..., :1]).any(axis=(1, 2, 3))
    coloured = pictures[differ].astype(np.float32)
    if not len(coloured):
        return None
    # One channel after the other: along memory, where a percentile of all three takes many times as long.
    channels = np.ascontiguousarray(coloured.reshape(-1, 3).T)
    lowest, highest = np.percentile(channels, (0.5, 99.5), axis=1)
    span = np.maximum(highest - lowest, 1e-9)
    air = np.median(_border(coloured), axis=0)
    shown = (np.abs(channels - air[:, None]) > 0.1 * span[:, None]).any(axis=0)
    pixels = coloured.reshape(-1, 3)[shown]
    if not len(pixels):
        return None
    grey = np.mean((pixels[:, 0] == pixels[:, 1]) & (pixels[:, 1] == pixels[:, 2]))
    if grey > 0.3:
        return f"{grey:.0%} of the pixels are grey, with coloured marks among them"
    # A map has 256 colours, each of several pixels. So have slices of noise above the head, but none bright.
    colours = len(np.unique(pixels @ np.sqrt((2, 3e6, 5e12))))
    if colours <= 512 and len(pixels) >= 4 * colours and span.max() > 64:
        return f"there are only {colours} colours, as in a colour map"
    # Means over blocks: neither noise nor the coarser colours of JPEG count.
    blocks = _averaged(coloured, 4)
    border = _border(blocks)
    # Around a head the border is dark, and its blocks are alike: nine in ten in LGG, a third at most in
    # photographs. Pictures of a few blocks say too little.
    if blocks[..., 0].size >= BINS**2:
        least = np.maximum(span, 0.1 * span.max())  # one channel may show nothing
        middle = np.median(border, axis=0)
        alike = (np.abs(border - middle) <= 0.2 * least).all(axis=-1)
        if not (middle - lowest <= 0.5 * least).all() or alike.mean() < 0.5:
            return "there is no air around a head, as in a photograph"
    blocks = blocks[(np.abs(blocks - air) > 0.1 * span).any(axis=-1)]
    if len(blocks) < BINS**2:
        return None
    # What two channels leave open of the third: more is asked for where the border varies or is coloured,
    # nothing of a few slices, which may lie below the brain.
    spread = np.ptp(np.percentile(border, (10, 90), axis=0), axis=0).max()
    deviation = channels.std(axis=1).max()
    no_air = spread > max(0.7 * deviation, 0.2 * span.max()) or np.ptp(air) > 0.25 * highest.max()
    least_open = 0.6 if no_air else 0.3 if len(coloured) >= 4 else 0
    if max(_open_part(blocks, channel) for channel in range(3)) < least_open:
        return "the three channels show one picture, as in a photograph or a colour map"
    # In a map that is red, then yellow, then white, channels fall, and far: not so in copies of a sequence.
    falls = np.diff(blocks, axis=-1) / highest.max()
    green = falls[blocks[:, 1] > 0.2 * highest.max()]
    falling = np.mean((falls <= 0.02).all(axis=-1)) > 0.97
    white = 255 if pictures.dtype == np.uint8 else coloured.max()
    far = len(green) == 0 or green.mean(axis=0).max() < -0.05
    if (falling and far) or np.ptp(air) > 0.45 * white:
        return "the colours are those of a colour map"
    return None


def _border(pictures: NDArray[Any]) -> NDArray[Any]:
    """(pixels, channels) along the four sides of all pictures."""
    sides = (pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1])
    return np.concatenate([side.reshape(-1, side.shape[-1]) for side in sides])


def _averaged(pictures: NDArray[Any], block: int) -> NDArray[Any]:
    """(slices, rows, columns, channels) as means over square blocks."""
    count, rows, columns, channels = pictures.shape
    block = min(block, rows, columns)
    rows, columns = rows // block, columns // block
    shape = (count, rows, block, columns, block, channels)
    whole = pictures[:, : rows * block, : columns * block].reshape(shape)
    return np.asarray(whole.mean(axis=(2, 4)))


def _open_part(pixels: NDArray[Any], channel: int) -> float:
    """Spread of a channel among pixels whose two others are alike, over its spread among all."""
    values = pixels[:, channel]
    cell = np.zeros(len(pixels), np.intp)
    for other in {0, 1, 2} - {channel}:
        levels = np.quantile(pixels[:, other], np.linspace(0, 1, BINS + 1)[1:-1])
        cell = cell * BINS + np.searchsorted(levels, pixels[:, other])
    count, total, squares = (np.bincount(cell, values**power, BINS**2) for power in (0, 1, 2))
    several = count > 3
    within = squares[several] - total[several] ** 2 / count[several]
    left = within.sum() / max((count[several] - 1).sum(), 1)
    return float(np.sqrt(max(left, 0) / max(values.var(), 1e-12)))


def check_one_head(
    slices: NDArray[Any], numbers: Sequence[int] | None, where: str
) -> tuple[Flag, ...]:
    """Refuse pictures that are not slices of one head (`UnsupportedInputError`); flag where that is doubtful.

    Slices that follow each other, in order or by their ``numbers``, are alike inside the head, and more alike
    than others of the study; pictures of several people are neither. Of 88 patients of the LGG set none is
    refused or flagged; of a hundred times ten slices of ten of them nearly all are refused
    (docs/decisions/0007).
    """
    middle = slice(max(len(slices) - 100, 0) // 2, None)
    slices = slices[middle][:100]
    numbers = range(len(slices)) if numbers is None else numbers[middle][:100]
    pairs = [
        index for index, (number, after) in enumerate(pairwise(numbers)) if after == number + 1
    ]
    likeness = _likeness(slices, pairs)
    if likeness is None:
        return ()
    neighbours, rank = likeness
    unlike = neighbours < 0.45 and rank < 0.7
    if unlike and len(pairs) >= 5:
        raise UnsupportedInputError(
            f"the pictures do not look like slices of one head: those that follow each other correlate "
            f"with {neighbours:.2f}, slices of one head with 0.5 or more",
            where=where,
            remedy="give the pictures of one person, or each picture by itself",
        )
    if unlike or (neighbours < 0.5 and rank < 0.85):
        message = (
            "Slices that follow each other are hardly alike: slices are missing or out of order, or "
            "they are not of one person."
        )
        return (flag("SLICES_UNLIKE", message),)
    return ()


def _likeness(slices: NDArray[Any], pairs: Sequence[int]) -> tuple[float, float] | None:
    """How alike slices are where both show something, at 32 pixels along the longer side.

    The median correlation over the pairs of a slice with the next one, and how often the next one is more
    alike than another slice (0.5 by chance); ``None`` where too little can be compared.
    """
    block = max(slices.shape[1:]) // 32
    if block == 0 or len(pairs) < 3:
        return None
    flat = _averaged(slices[..., None].astype(np.float32), block).reshape(len(slices), -1)
    shown = flat > 0.15 * np.percentile(flat, 99, axis=1, keepdims=True)
    inside, ranks = [], []
    with np.errstate(invalid="ignore", divide="ignore"):  # blank slices are like nothing
        whole = np.corrcoef(flat)
        for index in pairs:
            both = flat[index : index + 2, shown[index : index + 2].all(axis=0)]
            if both.shape[1] < 30 or np.isnan(alike := np.corrcoef(both)[0, 1]):
                continue
            inside.append(alike)
            others = np.delete(whole[index], [index, index + 1])
            ranks.append(np.mean(whole[index, index + 1] > others))
    return (float(np.median(inside)), float(np.mean(ranks))) if len(inside) >= 3 else None
