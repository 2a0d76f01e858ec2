"""Brain and ventricles of a training patient, for augmentation (training bench).

Good enough to learn from, not to segment with: the brain relies on the tumour's outline, which only training
data have. Arrays are (slices, rows, columns) in the network frame; `tumour` is a mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Pixels below the head's surface: from DEEP on there is brain, whose median is the brain's brightness in
# FLAIR; less than SCALP is scalp.
DEEP, SCALP = 25, 4
# Brain is within these parts of that brightness: bone and air are darker, fat is brighter.
BRIGHTNESS = (0.6, 1.6)
# What is narrower than twice this is a bridge from the brain to something else (pixels).
BRIDGE = 4.5
# A component is brain if this part of it lies where brain was in the last slice, and it is so large (pixels).
OVERLAP, LEAST = 0.7, 40
# How far sulci and ventricles at the border are filled (pixels).
CLOSING = 6
# If less than this part of the head is found, this much of its surface is removed instead (pixels).
LEAST_PART, SURFACE = 0.15, 12
# Signed distances are kept as bytes round this one.
BORDER = 128
# CSF on FLAIR is darker than this part of the brain's brightness, and this deep in the brain (pixels).
CSF, CSF_DEPTH = 0.65, 10
# The ventricles lie within an ellipse round the brain's middle, with these parts of its box as half-axes, in
# slices whose brain has at least this part of the largest one's area.
ZONE, LARGE = (0.33, 0.27), 0.5
# What is narrower than twice this is a fissure (pixels).
FISSURE = 2
# Distance to a ventricle where there is none.
FAR = 255

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def find_brain(flair: Bytes, depth: Bytes, tumour: Mask) -> Mask:
    """Mark the brain, about as skull-stripping tools leave it: three islands at the height of the temples.

    From the slice with the largest brain it goes up and down; the brain of a slice lies within that of the
    last one. ``depth``: pixels below the head's surface, 0 outside.
    """
    fallback = (depth > SURFACE) | tumour
    deep = flair[depth > DEEP]
    if not deep.size:
        return fallback
    low, high = np.multiply(BRIGHTNESS, np.median(deep))
    tissue = ((flair > low) & (flair < high) | tumour) & (depth > SCALP)
    core = np.stack(
        [_distance(ndimage.binary_closing(plane, _disc(1))) > BRIDGE for plane in tissue]
    )
    start = int(core.sum(axis=(1, 2)).argmax())
    brain = np.zeros(core.shape, dtype=bool)
    labels, count = ndimage.label(core[start])
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    brain[start] = _grow((labels == size.argmax()) & core[start], tissue[start])
    for order in (range(start - 1, -1, -1), range(start + 1, len(core))):
        last = brain[start]
        for k in order:
            guide = ndimage.binary_dilation(last)
            labels, count = ndimage.label(core[k])
            size = np.bincount(labels.ravel(), minlength=count + 1)
            shared = np.bincount(labels[guide], minlength=count + 1)
            keep = (shared >= OVERLAP * size) & (size >= LEAST)
            keep[0] = False
            last = brain[k] = _grow(keep[labels] & guide, tissue[k])
    brain |= tumour
    return brain if brain.sum() >= LEAST_PART * np.count_nonzero(depth) else fallback


def _grow(core: Mask, tissue: Mask) -> Mask:
    """The tissue round a core that erosion has removed, without dents and holes."""
    if not core.any():
        return core
    body = (_distance(~core) <= BRIDGE + 1) & (_distance(~tissue) <= 1)
    closed = ndimage.binary_closing(np.pad(body, CLOSING + 1), _disc(CLOSING))
    inner = slice(CLOSING + 1, -CLOSING - 1)
    return np.asarray(ndimage.binary_fill_holes(closed)[inner, inner])


def signed_distance(brain: Mask) -> Bytes:
    """Pixels from the brain's border, slice by slice: `BORDER` at it, more inside, 0 without brain."""
    distance = np.zeros(brain.shape, dtype=np.uint8)
    for k, plane in enumerate(brain):
        if plane.any():
            signed = _distance(plane) - _distance(~plane)
            distance[k] = np.clip(np.rint(signed) + BORDER, 0, 255)
    return distance


def find_ventricles(flair: Bytes, brain: Bytes, tumour: Mask) -> Mask:
    """Mark the ventricles, roughly; cysts of the tumour are left out.

    ``brain``: `signed_distance` of the brain.
    """
    inside = brain > BORDER
    area = inside.sum(axis=(1, 2))
    ventricles = np.zeros(flair.shape, dtype=bool)
    if not area.any():
        return ventricles
    middle, half = [], []
    for axes, part in zip(((0, 2), (0, 1)), ZONE, strict=True):
        first, last = np.flatnonzero(inside.any(axis=axes))[[0, -1]]
        middle.append((first + last) / 2)
        half.append(part * (last - first + 1))
    rows, columns = np.ogrid[: flair.shape[1], : flair.shape[2]]
    zone = ((rows - middle[0]) / half[0]) ** 2 + ((columns - middle[1]) / half[1]) ** 2 <= 1
    dark = (flair < CSF * np.median(flair[inside])) & (brain > BORDER + CSF_DEPTH) & zone
    dark &= ~ndimage.binary_dilation(tumour, iterations=2)
    for k in np.flatnonzero(area >= LARGE * area.max()):
        ventricles[k] = ndimage.binary_opening(dark[k], _disc(FISSURE))
    return ventricles


def distance_to(ventricles: Mask, step: float) -> Bytes:
    """Pixels to the nearest ventricle in 3-D, at most 254; `FAR` without ventricles.

    ``step``: from slice to slice, in pixels.
    """
    if not ventricles.any():
        return np.full(ventricles.shape, FAR, dtype=np.uint8)
    distance = ndimage.distance_transform_edt(~ventricles, sampling=(step, 1, 1))
    return np.asarray(np.minimum(distance, FAR - 1), dtype=np.uint8)


def _distance(mask: Mask) -> NDArray[np.float64]:
    """Pixels to the nearest one outside; what lies beyond the picture is not outside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)))
    return np.asarray(ndimage.distance_transform_edt(mask))


def _disc(radius: int) -> Mask:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2)
