"""Lesions that augmentation adds: tumours of other patients, white-matter disease (training bench).

Grafts: with few patients a network learns where their tumours lie and misses one that lies elsewhere, so the
tumour of another patient of the batch is put anywhere in the brain. White-matter disease: bands round the
ventricles and spots, as in multiple sclerosis and small-vessel disease, bright on FLAIR, dark on T1, and not
tumour. A network that has seen bright tumours alone takes it for one.

What is random about a graft is drawn first (`draw_grafts`) and then executed (`add_graft`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from gliosight.train.brain import BORDER, FAR
from gliosight.train.packed import SIZE, PackedSlices

T1, FLAIR, T1C = 0, 1, 2

# A graft's middle is this deep in the head (pixels). At least this part of it lies in brain, by FLAIR's
# brightness (standard deviations from the mean of the head's tissue); so many places are tried.
GRAFT_DEPTH, BRAIN, MOSTLY_BRAIN, TRIES = 14, (-0.8, 1.5), 0.8, 6
# Softness of a graft's border, and how far round its mask that is drawn (pixels).
SOFT, RIM = 1.2, 8
# How much disease brightens FLAIR and darkens T1 and T1C (standard deviations of the head's tissue), and
# the least part of T1's brightness that stays.
BRIGHTER, DARKER, DARKEST = (0.6, 2.2), (0.0, 0.8), 0.4
# Disease keeps this far from the brain's surface and from the ventricles (pixels).
CORTEX, EPENDYMA = 3, 0.5
# Chances of a band round the ventricles and of spots.
BAND, SPOTS = 0.8, 0.65
# Least and most of: the band's width and a spot's radius (pixels), the number of spots.
WIDTH, RADIUS, COUNT = (2.0, 11.0), (1.2, 5.5), (2, 40)

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


def draw_grafts(
    slices: PackedSlices, chosen: Rows, chance: float, generator: np.random.Generator
) -> tuple[Rows, NDArray[np.bool_], NDArray[np.float64]]:
    """Decide which of ``n`` chosen rows get the tumour of which other patient of the batch.

    Returns
    -------
    rows : (n, 3) int array
        Of the other patient: below, the slice with the tumour, above; -1 for no graft.
    turn : (n, 2) bool array
        Whether it is mirrored along rows and columns.
    place : (n, tries) array
        Where in the head, as a part of all places there.
    """
    n = len(chosen)
    draw, pick = generator.uniform(size=(2, n))
    donors = np.full((n, 3), -1)
    patient = slices.patient_of(chosen)
    with_tumour = chosen[slices.masks[chosen].any(axis=(1, 2))]
    owner = slices.patient_of(with_tumour)
    for k in np.flatnonzero(draw < chance):
        others = with_tumour[owner != patient[k]]
        if len(others):
            row = others[int(pick[k] * len(others))]
            donor = slices.patient_of(np.array([row]))[0]
            rows = row + np.array([-1, 0, 1]) * slices.reach[donor]
            donors[k] = np.clip(rows, slices.first[donor], slices.first[donor + 1] - 1)
    return donors, generator.uniform(size=(n, 2)) < 0.5, generator.uniform(size=(n, TRIES))


def add_graft(
    slices: PackedSlices,
    graft: tuple[Rows, NDArray[np.bool_], NDArray[np.float64]],
    rows: Rows,
    left: NDArray[np.bool_] | None,
    height: Floats,
    truth: Floats,
) -> None:
    """Add a tumour to one sample, in place, with its brightness relative to the head's tissue.

    Nothing is added where there is no room for it.

    Parameters
    ----------
    graft : tuple
        The sample's entries of what `draw_grafts` returned.
    rows : (neighbours,) int array
    left : (256, 256) bool array or None
        What skull-stripping leaves of the sample, if it is stripped.
    height : (neighbours, 3, 256, 256) float32 array
        Values above air.
    truth : (256, 256) float32 array
        The mask, 0 and 1.
    """
    donors, turn, place = graft
    donor, middle = donors[1], rows[len(rows) // 2]
    if lacking(slices.images[donor]) != lacking(slices.images[middle]):
        return  # a copy of FLAIR beside a T1 would be a tumour that no T1 shows
    patient, owner = slices.patient_of(np.array([middle, donor]))
    _, _, mean, std = slices.intensity[patient].T[..., None, None]
    # Heights are above the air of the picture as it is shown; brightness is the head's either way.
    shown = slices.intensity if left is None else slices.brain_intensity
    mean = mean - shown[patient, :, :1, None]
    depth = slices.depth[middle] if left is None else np.where(left, slices.depth[middle], 0)

    ends = [np.flatnonzero(slices.masks[donor].any(axis=axis))[[0, -1]] for axis in (1, 0)]
    box = tuple(slice(max(0, low - RIM), min(SIZE, high + 1 + RIM)) for low, high in ends)
    mirror = tuple(slice(None, None, -1) if turned else slice(None) for turned in turn)
    flair = (height[len(rows) // 2, FLAIR] - mean[FLAIR]) / std[FLAIR]
    brain = (flair > BRAIN[0]) & (flair < BRAIN[1]) & (depth > 0)
    target = _find_place(depth, brain, slices.masks[donor][box][mirror] > 0, place)
    if target is None:
        return
    head = depth[target] > 0
    _, high, donor_mean, donor_std = slices.intensity[owner].T[..., None, None]
    for index, row in enumerate(donors if len(rows) > 1 else donors[1:2]):
        mask = slices.masks[row][box][mirror].astype(np.float32)
        pixels = slices.images[row][(slice(None), *box)][(slice(None), *mirror)].astype(np.float32)
        values = (np.minimum(pixels, high) - donor_mean) / donor_std * std + mean
        part = height[index][(slice(None), *target)]
        part += ndimage.gaussian_filter(mask, SOFT) * head * (np.maximum(values, 0) - part)
        if index == len(rows) // 2:
            np.maximum(truth[target], mask * head, out=truth[target])


def _find_place(
    depth: NDArray[np.integer],
    brain: NDArray[np.bool_],
    tumour: NDArray[np.bool_],
    places: NDArray[np.float64],
) -> tuple[slice, ...] | None:
    """The first of the drawn places where most of a tumour would lie in brain."""
    inside = np.flatnonzero(depth > GRAFT_DEPTH)
    for place in places if len(inside) else ():
        middle = divmod(int(inside[int(place * len(inside))]), SIZE)
        target = []
        for at, side in zip(middle, tumour.shape, strict=True):
            start = min(max(at - side // 2, 0), SIZE - side)
            target.append(slice(start, start + side))
        if brain[*target][tumour].mean() >= MOSTLY_BRAIN:
            return tuple(target)
    return None


def lacking(images: NDArray[np.uint8]) -> tuple[bool, bool]:
    """Whether T1 and T1C of a (3, rows, columns) slice are copies of FLAIR."""
    return np.array_equal(images[T1], images[FLAIR]), np.array_equal(images[T1C], images[FLAIR])


def add_disease(slices: PackedSlices, seed: int, rows: Rows, height: Floats) -> None:
    """Add white-matter disease to one sample, in place; its own tumour stays as it is.

    Parameters
    ----------
    rows : (neighbours,) int array
    height : (neighbours, 3, 256, 256) float32 array
        Values above air.
    """
    generator = np.random.default_rng(seed)
    amount = disease(slices.ventricle[rows], slices.brain[rows], generator)
    amount *= slices.masks[rows] == 0
    std = slices.intensity[slices.patient_of(rows[:1])[0], :, 3]
    flair = height[:, FLAIR]
    flair += amount * (generator.uniform(*BRIGHTER) * std[FLAIR])
    middle = slices.images[rows[len(rows) // 2]]
    for channel, is_copy in zip((T1, T1C), lacking(middle), strict=True):
        darker = generator.uniform(*DARKER) * std[channel]
        values = height[:, channel]
        values[...] = flair if is_copy else np.maximum(values - darker * amount, DARKEST * values)


def disease(
    distance: NDArray[np.uint8], brain: NDArray[np.uint8], generator: np.random.Generator
) -> Floats:
    """How much of each pixel is diseased, 0 to 1.

    Parameters
    ----------
    distance, brain : (neighbours, rows, columns) arrays
        Distance to the ventricles, and signed distance to the brain's border (`gliosight.train.brain`).
    """
    depth = brain.astype(np.float32) - BORDER
    amount = np.zeros(distance.shape, dtype=np.float32)
    if generator.uniform() < BAND and (distance < FAR).any():
        amount = _band(distance.astype(np.float32), generator)
    if generator.uniform() < SPOTS:
        _add_spots(amount, depth, generator)
    amount *= (depth > CORTEX) & (distance > EPENDYMA)
    return amount


def _band(distance: Floats, generator: np.random.Generator) -> Floats:
    width = _log_uniform(generator, WIDTH)
    cells = int(generator.integers(6, 14))
    rough = _noise(generator, distance.shape, cells, symmetry=generator.uniform(0.2, 0.9))
    fine = _noise(generator, distance.shape, int(generator.integers(24, 48)), symmetry=0)
    edge = generator.uniform(0.4, 2.6) + generator.uniform(0.2, 0.9) * rough + 0.25 * fine
    steep = generator.uniform(0.12, 0.4)
    return _sigmoid((edge - distance / width) / steep)


def _noise(
    generator: np.random.Generator, shape: tuple[int, ...], cells: int, symmetry: float
) -> Floats:
    """(slices, rows, columns) smooth noise, similar from slice to slice, partly symmetric."""
    own, common = (
        torch.from_numpy(generator.normal(size=(1, n, cells, cells)).astype(np.float32))
        for n in (shape[0], 1)
    )
    values = 0.53 * own + 0.85 * common
    values = symmetry * (values + values.flip(-1)) / 2**0.5 + (1 - symmetry) * values
    return np.asarray(spread(values, shape[1:])[0])


def _add_spots(amount: Floats, depth: Floats, generator: np.random.Generator) -> None:
    middle = len(amount) // 2
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
        for k in range(len(amount)):
            strength = 1.0 if k == middle else generator.uniform() * (radius > 2)
            part = amount[k][box]
            np.maximum(part, strength * spot[: part.shape[0], : part.shape[1]], out=part)


def _log_uniform(generator: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(np.exp(generator.uniform(*np.log(ends))))


def _sigmoid(values: NDArray[np.floating]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -20, 20))), dtype=np.float32)


def spread(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bicubic interpolation of a coarse grid whose corners are the corners of the result.

    As two matrix products, which take a twentieth of the time of `torch.nn.functional.interpolate`; that
    was a third of the time of an augmented batch.

    Parameters
    ----------
    values : (..., r, c) float32 tensor
    size : tuple of int
        Rows and columns of the result.
    """
    rows, columns = (
        _weights(coarse, fine) for coarse, fine in zip(values.shape[-2:], size, strict=True)
    )
    return rows @ values @ columns.T


@lru_cache(maxsize=256)
def _weights(coarse: int, fine: int) -> Tensor:
    """(fine, coarse): how much of each coarse value each fine one gets."""
    unit = torch.eye(coarse)[None, None]
    return functional.interpolate(unit, (fine, coarse), mode="bicubic", align_corners=True)[0, 0]
