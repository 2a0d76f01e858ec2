"""Tumours that the training patients do not have (training bench).

There are few patients, so a network learns from them where tumours lie and how they look, and misses one
that lies or looks otherwise. Three changes, in this order:

Graft
    The tumour of another patient of the batch is put anywhere in the brain.
Fading
    Its contrast to what lies around it is changed, differently in its parts: faint tumours, faint borders.
Core
    A part of its inside is dark as a cyst or a necrosis is; sometimes contrast agent has gathered round it.

As everywhere in training, everything random is drawn first (`draw_tumours`) and then executed
(`change_tumours`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.train.packed import SIZE, PackedSlices
from gliosight.train.recipe import Strength

FLAIR, T1C = 1, 2
# A grafted tumour has its middle this deep in the head (pixels).
GRAFT_DEPTH = 14
# It lies where this part of it was brain, by FLAIR's brightness (standard deviations of the head's tissue);
# so many places are tried.
BRAIN, MOSTLY_BRAIN, GRAFT_TRIES = (-0.8, 1.5), 0.8, 6
# How soft the border of what is changed is, and how much of its surroundings is looked at (pixels).
SOFT, RIM = 1.2, 8
# Contrast to the surroundings, as a factor: FLAIR's, and that of T1 and T1C.
FLAIR_FADING, T1_FADING = (0.3, 1.3), (0.1, 1.4)
# A core: the least depth of a tumour that has one (pixels), where it begins (part of that depth), how bright
# it is in FLAIR and in T1 (standard deviations from the mean of the head's tissue), what contrast agent adds.
LEAST_DEPTH, CORE_FROM = 5.0, (0.3, 0.7)
CORE_FLAIR, CORE_T1, CORE_RIM = (-1.5, 0.7), (-2.0, -0.3), (0.5, 3.0)
RIM_CHANCE, RIM_WIDTH = 0.5, 0.12
# How coarse the patterns of fading and core are (pixels), and how ragged a core's border.
COARSE, RAGGED, TEXTURE = 5.0, 0.15, 0.25


@dataclass(frozen=True)
class TumourPlan:
    """All random decisions about the tumours of ``n`` samples."""

    graft: NDArray[np.int64]  # (n, 3) rows of another patient whose tumour is added; -1 for none
    graft_turn: NDArray[np.bool_]  # (n, 2) whether it is mirrored along rows and columns
    graft_at: NDArray[np.float64]  # (n, tries) where in the head, a part of all its places
    fading: NDArray[np.float64]  # (n, 2, 3) factors at both ends of the pattern; 1 for none
    core: NDArray[np.float64]  # (n, 4) where it begins, FLAIR, T1, rim; begins at 0 for none
    seeds: NDArray[np.int64]  # (n,) of the patterns

    def share(self, part: slice) -> TumourPlan:
        """The decisions for some of the samples."""
        return TumourPlan(**{one.name: getattr(self, one.name)[part] for one in fields(self)})

    @property
    def changes(self) -> NDArray[np.bool_]:
        """(n,): whether anything is done at all."""
        grafted = self.graft[:, 1] >= 0
        return np.asarray(grafted | (self.fading != 1).any(axis=(1, 2)) | (self.core[:, 0] > 0))


@dataclass(frozen=True)
class Sample:
    """One slice between its neighbours, changed in place.

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
        low, _, mean, std = slices.intensity[slices.patient_of(rows[:1])[0]].T
        depth = slices.depth[middle].astype(np.int64)
        return cls(
            height,
            slices.masks[rows].astype(np.float32),
            depth if left is None else np.where(left, depth, 0),
            absent(slices.images[middle]),
            mean - low,
            std,
        )


def draw_tumours(
    slices: PackedSlices,
    chosen: NDArray[np.int64],
    strength: Strength,
    generator: np.random.Generator,
) -> TumourPlan:
    """Decide what happens to the tumours of the chosen rows."""
    n = len(chosen)
    uniform = generator.uniform
    graft = _draw_graft(slices, chosen, strength.graft_chance, generator)
    turn, at = uniform(size=(n, 2)) < 0.5, uniform(size=(n, GRAFT_TRIES))
    low, high = np.transpose([T1_FADING, FLAIR_FADING, T1_FADING])
    fading = np.exp(uniform(np.log(low), np.log(high), (n, 2, 3)))
    fading[uniform(size=n) >= strength.fading_chance] = 1
    low, high = np.transpose([CORE_FROM, CORE_FLAIR, CORE_T1, CORE_RIM])
    core = uniform(low, high, (n, 4))
    core[:, 3] *= uniform(size=n) < RIM_CHANCE
    core[uniform(size=n) >= strength.core_chance] = 0
    return TumourPlan(graft, turn, at, fading, core, generator.integers(2**62, size=n))


def change_tumours(slices: PackedSlices, plan: TumourPlan, k: int, sample: Sample) -> None:
    """Do to sample ``k`` what was decided, in place."""
    if plan.graft[k, 1] >= 0:
        add_tumour(slices, plan, k, sample)
    if (plan.fading[k] != 1).any() or plan.core[k, 0]:
        alter_tumour(plan, k, sample)


def absent(images: NDArray[np.uint8]) -> tuple[bool, bool]:
    """Whether T1 and T1C are FLAIR again."""
    return np.array_equal(images[0], images[FLAIR]), np.array_equal(images[T1C], images[FLAIR])


def _draw_graft(
    slices: PackedSlices,
    chosen: NDArray[np.int64],
    chance: float,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """For some of the slices, slices of another patient of the same batch that show tumour."""
    out = np.full((len(chosen), 3), -1)
    wanted, pick = generator.uniform(size=(2, len(chosen)))
    if not chance:
        return out
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
    return out


def add_tumour(slices: PackedSlices, plan: TumourPlan, k: int, sample: Sample) -> None:
    """Put the tumour of another patient's slices into a sample, in place.

    The tumour keeps its brightness relative to the head's tissue, and lies anywhere in the brain. Where
    there is no room for it nothing is done.
    """
    count = len(sample.height)
    others = plan.graft[k] if count > 1 else plan.graft[k, 1:2]
    middle = plan.graft[k, 1]
    if absent(slices.images[middle]) != sample.absent:
        return  # a copy of FLAIR beside a T1 would be a tumour that no T1 shows
    inside = np.flatnonzero(sample.depth > GRAFT_DEPTH)
    if not len(inside) or not slices.masks[middle].any():
        return
    box = _box_of(slices.masks[middle])
    steps = [slice(None, None, -1) if turned else slice(None) for turned in plan.graft_turn[k]]
    shape = slices.masks[middle][box][tuple(steps)] > 0
    _, high, mean, std = slices.intensity[slices.patient_of(plan.graft[k, :1])[0]].T[
        ..., None, None
    ]
    brain = (sample.height[count // 2, FLAIR] - sample.mean[FLAIR]) / sample.std[FLAIR]
    brain = (brain > BRAIN[0]) & (brain < BRAIN[1]) & (sample.depth > 0)
    for part_of in plan.graft_at[k]:
        target = divmod(int(inside[int(part_of * len(inside))]), SIZE)
        there = tuple(
            _moved(one, at - (one.stop - one.start) // 2)
            for at, one in zip(target, box, strict=True)
        )
        if brain[there][shape].mean() >= MOSTLY_BRAIN:
            break
    else:
        return
    head = sample.depth[there] > 0
    for index, row in enumerate(others):
        mask = slices.masks[row][box][tuple(steps)].astype(np.float32)
        given = slices.images[row][(slice(None), *box)][(slice(None), *steps)].astype(np.float32)
        wanted = (np.minimum(given, high) - mean) / std * sample.std[:, None, None]
        wanted = np.maximum(wanted + sample.mean[:, None, None], 0)
        part = sample.height[index][(slice(None), *there)]
        part += _soft(mask) * head * (wanted - part)
        np.maximum(sample.tumour[index][there], mask * head, out=sample.tumour[index][there])


def alter_tumour(plan: TumourPlan, k: int, sample: Sample) -> None:
    """Change the contrast of a sample's tumour and give it a core, in place."""
    middle = len(sample.height) // 2
    if not sample.tumour[middle].any():
        return
    box = _box_of(sample.tumour[middle])
    tumour = sample.tumour[(slice(None), *box)]
    inside = tumour[middle] > 0
    near = ndimage.binary_dilation(inside, iterations=RIM // 2)
    around = near & ~inside & (sample.depth[box] > 0)
    generator = np.random.default_rng(plan.seeds[k])
    pattern = _pattern(inside.shape, generator)
    place = 1 / (1 + np.exp(-2 * pattern))
    begins, *levels, rim = plan.core[k]
    depth = ndimage.distance_transform_edt(inside)
    deepest = float(depth.max())
    inner = depth / deepest + RAGGED * _pattern(inside.shape, generator)
    has_core = begins > 0 and deepest >= LEAST_DEPTH
    for sequence in range(3):
        # What is FLAIR again stays so.
        source = FLAIR if sequence != 1 and sample.absent[sequence // 2] else sequence
        factor = plan.fading[k, 0, source] * place + plan.fading[k, 1, source] * (1 - place)
        level = sample.mean[sequence] + levels[source != FLAIR] * sample.std[sequence]
        values = sample.height[(slice(None), sequence, *box)]
        usual = float(np.median(values[middle][around])) if around.any() else sample.mean[sequence]
        for mask, part in zip(tumour, values, strict=True):
            changed = part + _soft(mask) * (factor - 1) * (part - usual)
            if has_core:
                dark = level + TEXTURE * (changed - usual)
                changed += _soft(mask * (inner > begins)) * (dark - changed)
            if has_core and source == T1C:
                shell = mask * (np.abs(inner - begins) < RIM_WIDTH)
                changed += _soft(shell) * rim * sample.std[T1C]
            part[:] = np.maximum(changed, 0)


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


def _pattern(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise with a standard deviation of 1."""
    noise = ndimage.gaussian_filter(generator.standard_normal(shape), COARSE)
    return np.asarray(noise / noise.std())
