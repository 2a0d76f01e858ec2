"""Tumours where no training patient has one (training bench).

There are few patients, so a network learns from them where tumours lie, and misses one that lies elsewhere.
A graft is the tumour of another patient of the batch, put anywhere in the brain of a sample.

As everywhere in training, everything random is drawn first (`draw_grafts`) and then executed (`graft`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.train.packed import SIZE, PackedSlices

FLAIR, T1C = 1, 2
# A grafted tumour has its middle this deep in the head (pixels).
DEPTH = 14
# It lies where this part of it was brain, by FLAIR's brightness (standard deviations from the mean of
# the head's tissue); so many places are tried.
BRAIN, MOSTLY_BRAIN, TRIES = (-0.8, 1.5), 0.8, 6
# How soft its border is, and how far round its mask that is drawn (pixels).
SOFT, RIM = 1.2, 8


@dataclass(frozen=True)
class GraftPlan:
    """All random decisions about the grafts of ``n`` samples."""

    rows: NDArray[np.int64]  # (n, 3) of another patient whose tumour is added; -1 for none
    turn: NDArray[np.bool_]  # (n, 2) whether it is mirrored along rows and columns
    at: NDArray[np.float64]  # (n, tries) where in the head, a part of all its places

    def share(self, part: slice) -> GraftPlan:
        """The decisions for some of the samples."""
        return GraftPlan(**{one.name: getattr(self, one.name)[part] for one in fields(self)})

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """(n,): whether there is one."""
        return np.asarray(self.rows[:, 1] >= 0)


@dataclass(frozen=True)
class Sample:
    """One slice between its neighbours; a graft changes its arrays in place.

    Parameters
    ----------
    height : (neighbours, 3, 256, 256) float32 array
        Values above air.
    tumour : (neighbours, 256, 256) float32 array
        0 and 1.
    depth : (256, 256) array
        Pixels below the head's surface; what is to be cut away as skull has none.
    absent : tuple of bool
        Whether T1 and T1C are FLAIR again.
    mean, std : (3,) arrays
        Of the head's tissue; the mean as a height above air.
    """

    height: NDArray[np.float32]
    tumour: NDArray[np.float32]
    depth: NDArray[np.int64]
    absent: tuple[bool, bool]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        slices: PackedSlices,
        rows: NDArray[np.int64],
        height: NDArray[np.float32],
        left: NDArray[np.bool_] | None,
    ) -> Sample:
        """The sample of these rows, before any change; ``left``: what stripping the skull leaves."""
        middle = rows[len(rows) // 2]
        patient = slices.patient_of(rows[:1])[0]
        _, _, mean, std = slices.intensity[patient].T
        # Heights are above the air of the picture as it is shown; brightness is the head's either way.
        low = (slices.intensity if left is None else slices.brain_intensity)[patient, :, 0]
        depth = slices.depth[middle].astype(np.int64)
        return cls(
            height,
            slices.masks[rows].astype(np.float32),
            depth if left is None else np.where(left, depth, 0),
            absent(slices.images[middle]),
            mean - low,
            std,
        )


def absent(images: NDArray[np.uint8]) -> tuple[bool, bool]:
    """Whether T1 and T1C are FLAIR again."""
    return np.array_equal(images[0], images[FLAIR]), np.array_equal(images[T1C], images[FLAIR])


def draw_grafts(
    slices: PackedSlices,
    chosen: NDArray[np.int64],
    chance: float,
    generator: np.random.Generator,
) -> GraftPlan:
    """Decide which of the chosen rows get the tumour of which other patient of the batch."""
    n = len(chosen)
    wanted, pick = generator.uniform(size=(2, n))
    out = np.full((n, 3), -1)
    patient = slices.patient_of(chosen)
    with_tumour = chosen[slices.masks[chosen].any(axis=(1, 2))]
    owner = slices.patient_of(with_tumour)
    for k in np.flatnonzero(wanted < chance):
        others = with_tumour[owner != patient[k]]
        if len(others):
            row = others[int(pick[k] * len(others))]
            one = slices.patient_of(np.array([row]))[0]
            rows = row + np.array([-1, 0, 1]) * slices.reach[one]
            out[k] = np.clip(rows, slices.first[one], slices.first[one + 1] - 1)
    return GraftPlan(out, generator.uniform(size=(n, 2)) < 0.5, generator.uniform(size=(n, TRIES)))


def graft(slices: PackedSlices, plan: GraftPlan, k: int, sample: Sample) -> None:
    """Do to sample ``k`` what was decided, in place.

    The tumour keeps its brightness relative to the head's tissue, and lies anywhere in the brain. Where
    there is no room for it nothing is done.
    """
    count = len(sample.height)
    others = plan.rows[k] if count > 1 else plan.rows[k, 1:2]
    middle = plan.rows[k, 1]
    if absent(slices.images[middle]) != sample.absent:
        return  # a copy of FLAIR beside a T1 would be a tumour that no T1 shows
    box = _box_of(slices.masks[middle])
    steps = [slice(None, None, -1) if turned else slice(None) for turned in plan.turn[k]]
    there = _place(sample, slices.masks[middle][box][tuple(steps)] > 0, box, plan.at[k])
    if there is None:
        return
    _, high, mean, std = slices.intensity[slices.patient_of(plan.rows[k, :1])[0]].T[..., None, None]
    head = sample.depth[there] > 0
    for index, row in enumerate(others):
        mask = slices.masks[row][box][tuple(steps)].astype(np.float32)
        given = slices.images[row][(slice(None), *box)][(slice(None), *steps)].astype(np.float32)
        wanted = (np.minimum(given, high) - mean) / std * sample.std[:, None, None]
        wanted = np.maximum(wanted + sample.mean[:, None, None], 0)
        part = sample.height[index][(slice(None), *there)]
        part += _soft(mask) * head * (wanted - part)
        np.maximum(sample.tumour[index][there], mask * head, out=sample.tumour[index][there])


def _place(
    sample: Sample,
    shape: NDArray[np.bool_],
    box: tuple[slice, slice],
    at: NDArray[np.float64],
) -> tuple[slice, ...] | None:
    """The first of the drawn places where most of a tumour would lie in brain."""
    inside = np.flatnonzero(sample.depth > DEPTH)
    if not len(inside):
        return None
    flair = sample.height[len(sample.height) // 2, FLAIR]
    brain = (flair - sample.mean[FLAIR]) / sample.std[FLAIR]
    brain = (brain > BRAIN[0]) & (brain < BRAIN[1]) & (sample.depth > 0)
    for part_of in at:
        target = divmod(int(inside[int(part_of * len(inside))]), SIZE)
        there = tuple(
            _moved(one, to - (one.stop - one.start) // 2)
            for to, one in zip(target, box, strict=True)
        )
        if brain[there][shape].mean() >= MOSTLY_BRAIN:
            return there
    return None


def _box_of(mask: NDArray[np.generic]) -> tuple[slice, slice]:
    """The box of a mask with a rim."""
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    rows, columns = (slice(max(0, low - RIM), min(SIZE, high + 1 + RIM)) for low, high in ends)
    return rows, columns


def _moved(one: slice, start: int) -> slice:
    length = one.stop - one.start
    start = min(max(start, 0), SIZE - length)
    return slice(start, start + length)


def _soft(mask: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), SOFT))
