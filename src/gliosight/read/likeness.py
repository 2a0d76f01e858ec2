"""Whether pictures are what they are taken for: composites of MR, and slices of one head (read stage).

In: the pixels of one study's pictures. Out: nothing, an error, or a flag. Pictures carry no header that
says what they show, so their pixels have to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError
from gliosight.read.flags import flag
from gliosight.study import Flag

# Colours are judged by this many slices, spread over the study, of at most so many pixels a side.
MOST_SLICES, MOST_SIDE = 24, 1024
# Blocks of pixels that are averaged first: neither noise nor a JPEG's coarser colours count.
BLOCK = 4
# Marks over grey pictures: part of the pixels that show anything whose channels are exactly equal.
MOST_GREY = 0.3
# A colour map has 256 colours; each of them is used by several pixels. Slices of noise above the head
# have as few, but no bright ones.
MAP_COLOURS, PIXELS_PER_COLOUR, SPAN = 512, 4, 64
# What two channels leave open of the third, as a part of its spread.
# A single slice below the brain shows little in any channel.
LEAST_OPEN, FEWEST_SLICES, LEAST_OPEN_WITHOUT_AIR = 0.3, 4, 0.6
# Air: spread of the picture's border over the picture's, and how far apart its channels are.
BORDER_SPREAD, SPAN_OF_BORDER, AIR_COLOUR, COLOURFUL_AIR = 0.7, 0.2, 0.25, 0.45
# Around a head is air: as part of each channel's spread, how dark it is, and how alike the border's blocks
# are that must show it. In LGG nine in ten of them do, in photographs a third at most.
DARK, ALIKE, PART_OF_AIR = 0.5, 0.2, 0.5
# A map that is red first, then yellow, then white: part of the pixels with falling channels, and how
# far they fall on average, as a part of the brightest: copies of a sequence do not.
MOST_FALLING, FALL = 0.97, 0.05
_BINS = 12
# Slices are compared at this many pixels along the longer side, where both are brighter than a part of
# their brightest; fewer pairs or pixels say nothing.
GRID, SHOWN, FEWEST_PAIRS, FEWEST_SHOWN = 32, 0.15, 3, 30
MOST_COMPARED = 100  # from the middle of the study
# `_likeness` below which pictures are refused, where there are enough pairs, or flagged.
UNLIKE, UNLIKE_RANK, PAIRS_TO_REFUSE = 0.45, 0.7, 5
DOUBTFUL, DOUBTFUL_RANK = 0.5, 0.85


def refuse_other_colours(pictures: NDArray[Any], where: str) -> None:
    """Refuse colour pictures that are not composites of three MR channels.

    Parameters
    ----------
    pictures : (slices, rows, columns, 3) array
        Slices with three equal channels say nothing and are left out.

    Raises
    ------
    UnsupportedInputError
        Marks over grey pictures, a colour map, a photograph.

    Notes
    -----
    Of 88 patients of the LGG set none is refused, as they are or as JPEG; composites cropped
    to the brain, without air, are. Of colour maps, overlays and photographs nearly all are
    (docs/decisions/0007). Single slices that show little are harder.
    """
    reason = _other_colours(pictures)
    if reason:
        raise UnsupportedInputError(
            f"colour pictures that are not composites of T1, FLAIR and T1C: {reason}",
            where=where,
            remedy="give the FLAIR slices as grey pictures, or as NIfTI or DICOM",
        )


def _other_colours(pictures: NDArray[Any]) -> str | None:
    finer = -(-max(pictures.shape[1:3]) // MOST_SIDE)
    pictures = pictures[:: -(-len(pictures) // MOST_SLICES), ::finer, ::finer]
    coloured = pictures[(pictures != pictures[..., :1]).any(axis=(1, 2, 3))].astype(np.float64)
    if not len(coloured):
        return None
    lowest, highest = (np.percentile(coloured, part, axis=(0, 1, 2)) for part in (0.5, 99.5))
    span = np.maximum(highest - lowest, 1e-9)
    air = np.median(_border(coloured), axis=0)
    shown = (np.abs(coloured - air) > 0.1 * span).any(axis=-1)
    pixels = coloured[shown]
    if not len(pixels):
        return None
    grey = np.mean(pixels.max(axis=-1) == pixels.min(axis=-1))
    if grey > MOST_GREY:
        return f"{grey:.0%} of the pixels are grey, with coloured marks among them"
    colours = len(np.unique(pixels @ np.sqrt((2, 3e6, 5e12))))
    if colours <= MAP_COLOURS and len(pixels) >= PIXELS_PER_COLOUR * colours and span.max() > SPAN:
        return f"there are only {colours} colours, as in a colour map"
    blocks = _averaged(coloured, BLOCK)
    border = _border(blocks)
    # Pictures of a few blocks say too little.
    if blocks[..., 0].size >= _BINS**2 and not _is_air(border, lowest, span):
        return "there is no air around a head, as in a photograph"
    blocks = blocks[(np.abs(blocks - air) > 0.1 * span).any(axis=-1)]
    if len(blocks) < _BINS**2:
        return None
    falls = np.diff(blocks, axis=-1) / highest.max()
    middle = falls[blocks[:, 1] > 0.2 * highest.max()]
    falling = np.mean((falls <= 0.02).all(axis=-1)) > MOST_FALLING and (
        len(middle) == 0 or middle.mean(axis=0).max() < -FALL
    )
    open_part = max(_open_part(blocks, channel) for channel in range(3))
    spread = np.ptp(np.percentile(border, (10, 90), axis=0), axis=0).max()
    without_air = spread > max(
        BORDER_SPREAD * coloured.std(axis=(0, 1, 2)).max(), SPAN_OF_BORDER * span.max()
    )
    white = 255 if pictures.dtype == np.uint8 else coloured.max()
    coloured_air = np.ptp(air) > AIR_COLOUR * highest.max()
    least_open = LEAST_OPEN if len(coloured) >= FEWEST_SLICES else 0
    if open_part < (LEAST_OPEN_WITHOUT_AIR if without_air or coloured_air else least_open):
        return "the three channels show one picture, as in a photograph or a colour map"
    if falling or np.ptp(air) > COLOURFUL_AIR * white:
        return "the colours are those of a colour map"
    return None


def _is_air(border: NDArray[Any], lowest: NDArray[Any], span: NDArray[Any]) -> bool:
    """Whether most of a border, (blocks, channels), is dark and alike in all channels."""
    span = np.maximum(span, 0.1 * span.max())  # one channel may show nothing
    middle = np.median(border, axis=0)
    alike = (np.abs(border - middle) <= ALIKE * span).all(axis=-1)
    return bool((middle - lowest <= DARK * span).all() and alike.mean() >= PART_OF_AIR)


def _border(pictures: NDArray[Any]) -> NDArray[Any]:
    sides = (pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1])
    return np.concatenate([side.reshape(-1, side.shape[-1]) for side in sides])


def _averaged(pictures: NDArray[Any], block: int) -> NDArray[Any]:
    count, rows, columns, channels = pictures.shape
    block = min(block, rows, columns)
    rows, columns = rows // block * block, columns // block * block
    shape = (count, rows // block, block, columns // block, block, channels)
    return np.asarray(pictures[:, :rows, :columns].reshape(shape).mean(axis=(2, 4)))


def _open_part(pixels: NDArray[Any], channel: int) -> float:
    """Spread of a channel among pixels whose two others are alike, over its spread among all."""
    values = pixels[:, channel]
    cell = np.zeros(len(pixels), np.intp)
    for other in {0, 1, 2} - {channel}:
        levels = np.quantile(pixels[:, other], np.linspace(0, 1, _BINS + 1)[1:-1])
        cell = cell * _BINS + np.searchsorted(levels, pixels[:, other])
    count, total, squares = (np.bincount(cell, values**power, _BINS**2) for power in (0, 1, 2))
    several = count > 3
    within = squares[several] - total[several] ** 2 / count[several]
    left = within.sum() / max((count[several] - 1).sum(), 1)
    return float(np.sqrt(max(left, 0) / max(values.var(), 1e-12)))


def check_one_head(
    slices: NDArray[Any], numbers: Sequence[int] | None, where: str
) -> tuple[Flag, ...]:
    """Refuse pictures that are not slices of one head; flag where that is doubtful.

    Slices that follow each other are alike inside the head, and more alike than others of the study;
    pictures of several people are neither.

    Parameters
    ----------
    slices : (slices, rows, columns) array
        In order.
    numbers : sequence of int, optional
        Their numbers: only slices whose numbers follow each other are compared.
    where : str

    Raises
    ------
    UnsupportedInputError

    Notes
    -----
    Of 88 patients of the LGG set none is refused or flagged; of a hundred times ten slices of ten of them
    nearly all are refused (docs/decisions/0007).
    """
    middle = slice(max(len(slices) - MOST_COMPARED, 0) // 2, None)
    slices = slices[middle][:MOST_COMPARED]
    numbers = range(len(slices)) if numbers is None else numbers[middle][:MOST_COMPARED]
    pairs = np.array([index for index, (a, b) in enumerate(pairwise(numbers)) if b == a + 1])
    measured = _likeness(slices, pairs)
    if measured is None:
        return ()
    neighbours, rank = measured
    unlike = neighbours < UNLIKE and rank < UNLIKE_RANK
    if unlike and len(pairs) >= PAIRS_TO_REFUSE:
        raise UnsupportedInputError(
            f"the pictures do not look like slices of one head: those that follow each other correlate "
            f"with {neighbours:.2f}, slices of one head with {DOUBTFUL:.1f} or more",
            where=where,
            remedy="give the pictures of one person, or each picture by itself",
        )
    if unlike or (neighbours < DOUBTFUL and rank < DOUBTFUL_RANK):
        message = (
            "Slices that follow each other are hardly alike: slices are missing or out of order, or "
            "they are not of one person."
        )
        return (flag("SLICES_UNLIKE", message),)
    return ()


def _likeness(slices: NDArray[Any], pairs: NDArray[np.intp]) -> tuple[float, float] | None:
    """How alike slices are where both show something, at `GRID` pixels along the longer side.

    Returns
    -------
    neighbours : float
        Median correlation over the pairs of a slice with the next one.
    rank : float
        How often the next slice is more alike than another one; 0.5 by chance.
    """
    block = max(slices.shape[1:]) // GRID
    if block == 0 or len(pairs) < FEWEST_PAIRS:
        return None
    small = _averaged(slices[..., None].astype(np.float32), block)
    flat = small.reshape(len(small), -1)
    shown = flat > SHOWN * np.percentile(flat, 99, axis=1, keepdims=True)
    inside = np.array(
        [_correlation(flat[one : one + 2, shown[one : one + 2].all(0)]) for one in pairs]
    )
    pairs, inside = pairs[np.isfinite(inside)], inside[np.isfinite(inside)]
    if len(pairs) < FEWEST_PAIRS:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # blank slices are like nothing
        whole = np.corrcoef(flat)
    ranks = [np.mean(whole[one, one + 1] > np.delete(whole[one], [one, one + 1])) for one in pairs]
    return float(np.median(inside)), float(np.mean(ranks))


def _correlation(two: NDArray[Any]) -> float:
    if two.shape[1] < FEWEST_SHOWN or not two.std(axis=1).all():
        return float("nan")
    return float(np.corrcoef(two)[0, 1])
