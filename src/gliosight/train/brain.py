"""The brain in a head, to train on pictures whose skull was taken off (training bench).

In: FLAIR of a whole head, and the tumour. Out: the brain, about as the tools that strip skulls leave it: at
the height of the temples three islands, not the head made smaller. It is good enough to learn from; it is no
such tool itself, and leans on the tumour's outline, which only training data have.

From the slice with the largest brain it goes up and down; the brain of a slice lies within that of the last.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Well inside the head (pixels) there is brain: its median is the brain's brightness in FLAIR.
DEEP, SCALP = 25, 4
# Brain is within these parts of that brightness: bone and air are darker, fat brighter.
BRIGHTNESS = (0.6, 1.6)
# What is narrower than twice this is a bridge from the brain to something else (pixels).
BRIDGE = 4.5
# A body is brain when this part of it lies where brain was in the last slice, and it is so large (pixels).
OVERLAP, LEAST = 0.7, 40
# How far sulci and ventricles at the border are filled (pixels).
CLOSING = 6
# Where less than this part of the head is found, this much of its surface is taken off instead (pixels).
LEAST_PART, SURFACE = 0.15, 12
# Signed distances are kept as bytes round this one.
BORDER = 128

Mask = NDArray[np.bool_]


def find_brain(flair: NDArray[np.uint8], depth: NDArray[np.uint8], tumour: Mask) -> Mask:
    """Mark the brain.

    Parameters
    ----------
    flair : (slices, rows, columns) array
        Of a head with its skull.
    depth : (slices, rows, columns) array
        Pixels below the head's surface, 0 outside.
    tumour : (slices, rows, columns) bool array

    Returns
    -------
    (slices, rows, columns) bool array
    """
    fallback = (depth > SURFACE) | tumour
    deep = flair[depth > DEEP]
    if not deep.size:
        return fallback
    low, high = np.multiply(BRIGHTNESS, np.median(deep))
    tissue = ((flair > low) & (flair < high) | tumour) & (depth > SCALP)
    distance = np.stack([_distance(ndimage.binary_closing(one, _disc(1))) for one in tissue])
    core = distance > BRIDGE
    start = int(core.sum(axis=(1, 2)).argmax())
    out = np.zeros(core.shape, dtype=bool)
    out[start] = _grown(_largest(core[start]), tissue[start])
    for way in (range(start - 1, -1, -1), range(start + 1, len(core))):
        _follow(way, start, core, tissue, out)
    out |= tumour
    return out if out.sum() >= LEAST_PART * np.count_nonzero(depth) else fallback


def signed_distance(brain: Mask) -> NDArray[np.uint8]:
    """Pixels from the brain's border, slice by slice, `BORDER` at it and more inside."""
    out = np.zeros(brain.shape, dtype=np.uint8)
    for k, one in enumerate(brain):
        if one.any():
            away = _distance(one) - _distance(~one)
            out[k] = np.clip(np.rint(away) + BORDER, 0, 255)
    return out


def _follow(way: Iterable[int], start: int, core: Mask, tissue: Mask, out: Mask) -> None:
    last = out[start]
    for k in way:
        guide = ndimage.binary_dilation(last)
        labels, count = ndimage.label(core[k])
        size = np.bincount(labels.ravel(), minlength=count + 1)
        shared = np.bincount(labels[guide], minlength=count + 1)
        keep = (shared >= OVERLAP * size) & (size >= LEAST)
        keep[0] = False
        out[k] = _grown(keep[labels] & guide, tissue[k])
        last = out[k]


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    return np.asarray((labels == size.argmax()) & mask)


def _grown(core: Mask, tissue: Mask) -> Mask:
    """The tissue round a core that erosion has taken, without dents and holes."""
    if not core.any():
        return core
    near = _distance(~core) <= BRIDGE + 1
    body = near & (_distance(~tissue) <= 1)
    padded = np.pad(body, CLOSING + 1)
    closed = ndimage.binary_closing(padded, _disc(CLOSING))
    rim = slice(CLOSING + 1, -CLOSING - 1)
    return np.asarray(ndimage.binary_fill_holes(closed)[rim, rim])


def _distance(mask: Mask) -> NDArray[np.float64]:
    """Pixels to the nearest one outside; what lies beyond the picture is not outside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)))
    return np.asarray(ndimage.distance_transform_edt(mask))


def _disc(radius: int) -> Mask:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2)
