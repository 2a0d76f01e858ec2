"""Batches of slices, cut out and augmented as wholes (training bench; torch).

First `draw_plan` decides everything random, as numbers; then `make_batch` executes the plan. A plan depends
on its generator alone, so a resumed run draws the same batches.

What varies is what differs between scanners and patients: position, size and side of the head, gain,
offset, gamma, bias field, noise, resolution, which sequences there are, whether the skull is there, where
lesions are (`gliosight.train.lesions`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gliosight.train.brain import BORDER
from gliosight.train.lesions import FLAIR, add_disease, add_graft, draw_grafts, spread
from gliosight.train.packed import SIZE, PackedSlices
from gliosight.train.recipe import STILL, Recipe, Strength

SEQUENCES = 3
NEIGHBOURS = 3
# From this many slices on, a patient's slices are thinner than the 5 mm of the others: the second
# neighbour is then as good a neighbour as the first.
THIN_FROM = 45
# What a tool that strips skulls leaves round the brain, or removes from it (pixels).
STRIP_RIM = (-1.5, 3.0)

Rows = NDArray[np.int64]
# (n, channels, rows, columns) float32 images, channels last in memory; (n, 1, rows, columns) masks, 0 and 1.
Batch = tuple[Tensor, Tensor]
ALL = slice(None)


@dataclass(frozen=True)
class Batches:
    """Makes batches as a recipe's network takes them.

    ``tissue``: normalised by the head's tissue, cut out round the head and augmented. ``picture``: whole
    pictures in [0, 1], as in the tutorial, never augmented.
    """

    slices: PackedSlices
    recipe: Recipe

    def make(
        self, rows: Rows, generator: np.random.Generator | None = None, share: slice = ALL
    ) -> Batch:
        """Some slices of a batch; the generator decides about all of it, without one nothing varies."""
        slices, recipe = self.slices, self.recipe
        if recipe.input == "picture":
            images = torch.from_numpy(slices.images[rows[share]]).float().div_(255)
            masks = torch.from_numpy(slices.masks[rows[share]]).float().unsqueeze(1)
            return images.contiguous(memory_format=torch.channels_last), masks
        strength = STILL if generator is None else recipe.augmentation
        crop = recipe.crop or SIZE
        plan = draw_plan(slices, rows, crop, strength, generator or np.random.default_rng(0))
        return make_batch(slices, plan.share(share), crop, recipe.neighbours)


@dataclass(frozen=True)
class Plan:
    """All random decisions for one batch of ``n`` slices."""

    rows: Rows  # (n, 3): below, this, above
    theta: Tensor  # (n, 2, 3), output to input, in units of half the crop
    gain: Tensor  # (n, 3)
    offset: Tensor  # (n, 3)
    gamma: Tensor  # (n, 3)
    bias: Tensor  # (n, 3, 4, 4)
    noise: Tensor  # (n,)
    blur: Tensor  # (n,) factor, 1 for none
    lost: Tensor  # (n, 3) bool
    strip: NDArray[np.bool_]  # (n,) whether the skull is removed
    strip_rim: NDArray[np.float64]  # (n,) pixels left round the brain, below 0: removed from it
    seeds: NDArray[np.int64]  # (n,) of the noise
    graft_rows: Rows  # this and the next two: see `draw_grafts`
    graft_turn: NDArray[np.bool_]
    graft_place: NDArray[np.float64]
    disease: NDArray[np.int64]  # (n,) seed of the white-matter disease, -1 for none

    def left(self, slices: PackedSlices, rows: Any, k: int) -> NDArray[np.bool_]:
        """What is left of these rows when sample ``k`` is stripped."""
        return np.asarray(slices.brain[rows] > BORDER - self.strip_rim[k])

    def share(self, part: slice) -> Plan:
        """The decisions for some of the slices."""
        return Plan(**{item.name: getattr(self, item.name)[part] for item in fields(self)})


def draw_plan(
    slices: PackedSlices,
    chosen: Rows,
    crop: int,
    strength: Strength,
    generator: np.random.Generator,
) -> Plan:
    """Decide how the chosen rows are augmented.

    The order of the draws is part of a run's result.

    Parameters
    ----------
    chosen : (n,) int array
        Rows of ``slices``.
    crop : int
        Side of the crops in pixels.
    """
    n = len(chosen)
    uniform = generator.uniform
    patient = slices.patient_of(chosen)
    low, high = slices.first[patient], slices.first[patient + 1] - 1
    reach = slices.reach[patient]
    thin = (high - low + 1 >= THIN_FROM) & (reach == 1)
    reach = np.where(thin & (uniform(size=n) < 0.5), 2, reach)
    reach = np.where(uniform(size=n) < strength.turn_order_chance, -reach, reach)
    rows = np.stack([chosen - reach, chosen, chosen + reach], axis=1)
    rows = np.clip(rows, low[:, None], high[:, None])

    angle = np.deg2rad(uniform(-1, 1, n) * strength.rotation_degrees)
    scale = np.exp(uniform(-1, 1, n) * strength.log_scale)
    aspect = np.exp(uniform(-1, 1, n) * strength.log_aspect)
    shear = uniform(-1, 1, n) * strength.shear
    flip = np.where(uniform(size=n) < strength.flip_chance, -1.0, 1.0)
    upright = np.where(uniform(size=n) < strength.upside_down_chance, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([cos, -sin, sin, cos], axis=1).reshape(n, 2, 2)
    across, down = flip * scale * aspect, upright * (scale / aspect)
    stretch = np.stack([across, shear, np.zeros(n), down], axis=1).reshape(n, 2, 2)
    linear = rotation @ stretch * (crop / SIZE)
    strip = uniform(size=n) < strength.strip_chance
    centre = np.where(strip[:, None], slices.brain_centre[patient], slices.centre[patient])
    centre = centre + uniform(-1, 1, (n, 2)) * strength.shift_pixels
    move = (centre[:, ::-1] + 0.5) / (SIZE / 2) - 1
    theta = np.concatenate([linear, move[:, :, None]], axis=2)

    draw = uniform(size=n)
    lose_both = draw < strength.lose_both_chance
    lose_t1 = draw < strength.lose_both_chance + strength.lose_t1_chance
    lose_t1c = lose_both | (draw > 1 - strength.lose_t1c_chance)
    graft_rows, graft_turn, graft_place = draw_grafts(
        slices, chosen, strength.graft_chance, generator
    )
    no_gamma = uniform(size=(n, SEQUENCES)) < 0.6
    gain = np.exp(uniform(-1, 1, (n, SEQUENCES)) * strength.log_gain)
    offset = uniform(-1, 1, (n, SEQUENCES)) * strength.offset
    gamma = np.exp(uniform(-1, 1, (n, SEQUENCES)) * strength.log_gamma)
    bias = uniform(-1, 1, (n, SEQUENCES, 4, 4)) * strength.bias
    bias = bias * (uniform(size=(n, 1, 1, 1)) < 0.5)
    noise = uniform(0, strength.noise, n) * (uniform(size=n) < 0.5)
    blur = np.where(uniform(size=n) < strength.blur_chance, uniform(1.2, 2.4, n), 1.0)
    strip_rim = uniform(*STRIP_RIM, n)
    seeds = generator.integers(2**62, size=n)
    sick = uniform(size=n) < strength.disease_chance
    return Plan(
        rows=rows,
        theta=_floats(theta),
        gain=_floats(gain),
        offset=_floats(offset),
        gamma=_floats(np.where(no_gamma, 1.0, gamma)),
        bias=_floats(bias),
        noise=_floats(noise),
        blur=_floats(blur),
        lost=torch.from_numpy(np.stack([lose_t1, np.zeros(n, bool), lose_t1c], axis=1)),
        strip=strip,
        strip_rim=strip_rim,
        seeds=seeds,
        graft_rows=graft_rows,
        graft_turn=graft_turn,
        graft_place=graft_place,
        disease=np.where(sick, generator.integers(2**62, size=n), -1),
    )


def make_batch(slices: PackedSlices, plan: Plan, crop: int, neighbours: int = NEIGHBOURS) -> Batch:
    """Execute a plan.

    Parameters
    ----------
    neighbours : int
        3 for the slice between those below and above, 1 for the slice alone.

    Returns
    -------
    images : (n, 3 * neighbours, crop, crop) float32 tensor, channels last in memory
    masks : (n, 1, crop, crop) float32 tensor of 0 and 1
    """
    n = len(plan.rows)
    patient = slices.patient_of(plan.rows[:, 1])
    rows = plan.rows if neighbours == NEIGHBOURS else plan.rows[:, 1:2]
    intensity = np.where(
        plan.strip[:, None, None], slices.brain_intensity[patient], slices.intensity[patient]
    )
    low, high, mean, std = (
        torch.from_numpy(intensity[..., k].copy()).view(n, 1, SEQUENCES, 1, 1) for k in range(4)
    )
    # In place throughout: on a CPU this is bound by memory, and allocating costs more than the arithmetic.
    # Values are heights above air from here on, so that zero padding and stripping both leave air.
    pixels = torch.from_numpy(slices.images[rows.ravel()]).float()
    height = pixels.view(n, neighbours, SEQUENCES, SIZE, SIZE)
    height = torch.minimum(height, high, out=height).sub_(low).clamp_(min=0)
    span = high - low
    truth = torch.from_numpy(slices.masks[plan.rows[:, 1]]).view(n, 1, SIZE, SIZE).float()
    for k in range(n):
        left = plan.left(slices, rows[k], k) if plan.strip[k] else None
        values = height[k].numpy()  # shares memory
        if plan.graft_rows[k, 1] >= 0:
            graft = plan.graft_rows[k], plan.graft_turn[k], plan.graft_place[k]
            middle = None if left is None else left[neighbours // 2]
            add_graft(slices, graft, rows[k], middle, values, truth[k, 0].numpy())
            torch.minimum(height[k], span[k], out=height[k])
        if plan.disease[k] >= 0:
            add_disease(slices, int(plan.disease[k]), rows[k], values)
            torch.minimum(height[k], span[k], out=height[k])
        if left is not None:
            height[k].mul_(torch.from_numpy(left).unsqueeze(1))
            truth[k].mul_(torch.from_numpy(left[neighbours // 2]))
    grid = functional.affine_grid(plan.theta, [n, 1, crop, crop], align_corners=False)
    height = functional.grid_sample(height.flatten(1, 2), grid, align_corners=False)
    masks = functional.grid_sample(truth, grid, align_corners=False)
    _blur(height, plan.blur)
    height = height.view(n, neighbours, SEQUENCES, crop, crop)

    for k, c in torch.nonzero(plan.gamma != 1).tolist():
        part = height[k, :, c]
        part.div_(span[k, 0, c]).pow_(plan.gamma[k, c]).mul_(span[k, 0, c])
    gain = spread(plan.bias, (crop, crop)).exp_() * (plan.gain.view(n, SEQUENCES, 1, 1) / std[:, 0])
    air = (low - mean) / std + plan.offset.view(n, 1, SEQUENCES, 1, 1)
    images = height.mul_(gain.unsqueeze(1)).add_(air)
    for k in torch.nonzero(plan.noise).flatten().tolist():
        generator = torch.Generator().manual_seed(int(plan.seeds[k]))
        images[k].add_(torch.randn(images[k].shape, generator=generator).mul_(plan.noise[k]))
    # A missing sequence is filled with FLAIR, as the data set does and as `prepare` does.
    for k, c in torch.nonzero(plan.lost).tolist():
        images[k, :, c] = images[k, :, FLAIR]
    images = images.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return images, (masks > 0.5).float()


def _floats(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _blur(images: Tensor, factors: Tensor) -> None:
    """Lower the resolution of single samples in place: down by a factor and up again."""
    for k in torch.nonzero(factors > 1).flatten().tolist():
        size = max(8, math.floor(images.shape[-1] / float(factors[k])))
        small = functional.interpolate(images[k : k + 1], size=(size, size), mode="area")
        images[k] = functional.interpolate(
            small, size=images.shape[-2:], mode="bilinear", align_corners=False
        )[0]
