"""White-matter disease where a training patient has none (training bench).

Bands and caps round the ventricles, confluent disease and spots, as in multiple sclerosis and small-vessel
disease: bright on FLAIR, dark on T1, and no tumour. Few tumour-free brains are at hand; a network that has
seen tumours alone takes any such brightness for one.

`find_ventricles` and `distance_to` prepare a patient once; `disease` draws one sample's.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.train.brain import BORDER
from gliosight.train.smooth_fields import spread

# CSF on FLAIR is darker than this part of the brain's brightness, and lies this deep in the brain (pixels).
DARK, DEEP = 0.65, 10
# The ventricles lie within an ellipse round the brain's middle, with these parts of its box as half-axes, in
# slices whose brain has at least this part of the largest one's area.
ZONE, LARGE = (0.33, 0.27), 0.5
# What is narrower than twice this is a fissure, no ventricle (pixels).
FISSURE = 2
# Disease keeps this far from the brain's surface and from the ventricles (pixels).
CORTEX, EPENDYMA = 3, 0.5
# Chances of a band round the ventricles and of spots.
BAND, SPOTS = 0.8, 0.65
# Least and most of: the band's width and a spot's radius (pixels), the number of spots.
WIDTH, RADIUS, COUNT = (2.0, 11.0), (1.2, 5.5), (2, 40)
# Far from any ventricle, as distances are kept.
FAR = 255

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def find_ventricles(flair: NDArray[np.uint8], brain: NDArray[np.uint8], tumour: Mask) -> Mask:
    """Mark the ventricles, about.

    Parameters
    ----------
    flair : (slices, rows, columns) array
    brain : (slices, rows, columns) array
        Signed distance to the brain's border, see `gliosight.train.brain`.
    tumour : (slices, rows, columns) bool array
        Its cysts are no ventricles.
    """
    inside = brain > BORDER
    area = inside.sum(axis=(1, 2))
    out = np.zeros(flair.shape, dtype=bool)
    if not area.any():
        return out
    middle, half = [], []
    for axes, part in zip(((0, 2), (0, 1)), ZONE, strict=True):
        ends = np.flatnonzero(inside.any(axis=axes))[[0, -1]]
        middle.append(ends.mean())
        half.append(part * (ends[1] - ends[0] + 1))
    rows, columns = np.ogrid[: flair.shape[1], : flair.shape[2]]
    zone = ((rows - middle[0]) / half[0]) ** 2 + ((columns - middle[1]) / half[1]) ** 2 <= 1
    dark = (flair < DARK * np.median(flair[inside])) & (brain > BORDER + DEEP) & zone
    dark &= ~ndimage.binary_dilation(tumour, iterations=2)
    for k in np.flatnonzero(area >= LARGE * area.max()):
        out[k] = ndimage.binary_opening(dark[k], _disc(FISSURE))
    return out


def distance_to(ventricles: Mask, step: float) -> NDArray[np.uint8]:
    """Pixels to the nearest ventricle in 3-D, at most 254; `FAR` without ventricles.

    ``step``: from slice to slice, in pixels.
    """
    if not ventricles.any():
        return np.full(ventricles.shape, FAR, dtype=np.uint8)
    away = ndimage.distance_transform_edt(~ventricles, sampling=(step, 1, 1))
    return np.asarray(np.minimum(away, FAR - 1), dtype=np.uint8)


def disease(
    distance: NDArray[np.uint8], brain: NDArray[np.uint8], generator: np.random.Generator
) -> Floats:
    """How much of each pixel is diseased.

    Parameters
    ----------
    distance, brain : (neighbours, rows, columns) arrays
        Of `distance_to`, and the signed distance to the brain's border.

    Returns
    -------
    (neighbours, rows, columns) float32 array
        0 to 1.
    """
    depth = brain.astype(np.float32) - BORDER
    out = np.zeros(distance.shape, dtype=np.float32)
    if generator.uniform() < BAND and (distance < FAR).any():
        out = _band(distance.astype(np.float32), generator)
    if generator.uniform() < SPOTS:
        _add_spots(out, depth, generator)
    out *= (depth > CORTEX) & (distance > EPENDYMA)
    return out


def _band(distance: Floats, generator: np.random.Generator) -> Floats:
    shape = distance.shape
    width = _log_uniform(generator, WIDTH)
    rough = _noise(generator, shape, int(generator.integers(6, 14)), generator.uniform(0.2, 0.9))
    fine = _noise(generator, shape, int(generator.integers(24, 48)), 0)
    edge = generator.uniform(0.4, 2.6) + generator.uniform(0.2, 0.9) * rough + 0.25 * fine
    steep = generator.uniform(0.12, 0.4)
    return _sigmoid((edge - distance / width) / steep)


def _noise(
    generator: np.random.Generator, shape: tuple[int, ...], cells: int, symmetry: float
) -> Floats:
    """(slices, rows, columns) smooth noise, alike from slice to slice, and as symmetric as said."""
    own, common = (
        torch.from_numpy(generator.normal(size=(1, n, cells, cells)).astype(np.float32))
        for n in (shape[0], 1)
    )
    values = 0.53 * own + 0.85 * common
    values = symmetry * (values + values.flip(-1)) / 2**0.5 + (1 - symmetry) * values
    return np.asarray(spread(values, shape[1:])[0])


def _add_spots(out: Floats, depth: Floats, generator: np.random.Generator) -> None:
    middle = len(out) // 2
    places = np.argwhere(depth[middle] > 2 * CORTEX)
    if not len(places):
        return
    count = int(_log_uniform(generator, COUNT))
    for row, column in places[generator.integers(len(places), size=count)]:
        radius = _log_uniform(generator, RADIUS)
        narrow, angle = generator.uniform(0.5, 1), generator.uniform(0, np.pi)
        reach = int(3 * radius) + 2
        box = tuple(slice(max(0, at - reach), at + reach + 1) for at in (row, column))
        rows, columns = np.ogrid[box]
        along = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
        across = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
        away = np.hypot(along / radius, across / (radius * narrow))
        spot = _sigmoid((1 - away) * radius / 0.7)
        for k in range(len(out)):
            seen = 1.0 if k == middle else generator.uniform() * (radius > 2)
            part = out[k][box]
            np.maximum(part, seen * spot[: part.shape[0], : part.shape[1]], out=part)


def _log_uniform(generator: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(np.exp(generator.uniform(*np.log(ends))))


def _sigmoid(values: NDArray[np.floating]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -20, 20))), dtype=np.float32)


def _disc(radius: int) -> Mask:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2)
