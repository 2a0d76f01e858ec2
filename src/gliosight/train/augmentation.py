"""Whole batches, cut and varied (training bench; torch).

First `draw_plan` decides everything at random, as numbers; then `make_batch` executes the plan. A plan
depends on nothing but its generator, so a run that is cut off draws the same batches when it goes on.

What varies is what differs between scanners and patients: position, size and side of the head, gain,
offset, gamma, bias field, noise, resolution, which sequences there are, whether the skull is there, where
tumours lie (`gliosight.train.grafts`).
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
from gliosight.train.grafts import FLAIR, T1C, GraftPlan, Sample, absent, draw_grafts, graft
from gliosight.train.packed import SIZE, PackedSlices
from gliosight.train.recipe import Strength
from gliosight.train.smooth_fields import spread
from gliosight.train.white_matter import disease

SEQUENCES = 3
NEIGHBOURS = 3
# From this many slices on, a patient's slices are thinner than the 5 mm of the others: the second
# neighbour is then as good a neighbour as the first.
THIN_FROM = 45
T1 = 0
# White-matter disease: how much brighter FLAIR and darker T1 and T1C become (standard deviations of the
# head's tissue), and the least part of T1's brightness that stays.
BRIGHTER, DARKER, DARKEST = (0.6, 2.2), (0.0, 0.8), 0.4
# What a tool that strips skulls leaves round the brain, or takes from it (pixels).
STRIP_RIM = (-1.5, 3.0)


@dataclass(frozen=True)
class Plan:
    """All random decisions for one batch of ``n`` slices."""

    rows: NDArray[np.int64]  # (n, 3): below, this, above
    theta: Tensor  # (n, 2, 3), output to input, in units of half the crop
    gain: Tensor  # (n, 3)
    offset: Tensor  # (n, 3)
    gamma: Tensor  # (n, 3)
    bias: Tensor  # (n, 3, 4, 4)
    noise: Tensor  # (n,)
    blur: Tensor  # (n,) factor, 1 for none
    lost: Tensor  # (n, 3) bool
    strip: NDArray[np.bool_]  # (n,) whether the skull is taken off
    strip_rim: NDArray[np.float64]  # (n,) pixels left round the brain, below 0: taken from it
    seeds: NDArray[np.int64]  # (n,) of the noise
    grafts: GraftPlan
    disease: NDArray[np.int64]  # (n,) seed of the white-matter disease, -1 for none

    def left(self, slices: PackedSlices, rows: Any, k: int) -> NDArray[np.bool_]:
        """What is left of these rows when sample ``k`` is stripped."""
        return np.asarray(slices.brain[rows] > BORDER - self.strip_rim[k])

    def share(self, part: slice) -> Plan:
        """The decisions for some of the slices."""
        return Plan(**{one.name: _share(getattr(self, one.name), part) for one in fields(self)})


def draw_plan(
    slices: PackedSlices,
    chosen: NDArray[np.int64],
    crop: int,
    strength: Strength,
    generator: np.random.Generator,
) -> Plan:
    """Decide how the chosen rows are varied.

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
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([cos, -sin, sin, cos], axis=1).reshape(n, 2, 2)
    stretch = np.stack([flip * scale * aspect, shear, np.zeros(n), scale / aspect], 1).reshape(
        n, 2, 2
    )
    upright = np.where(uniform(size=n) < strength.upside_down_chance, -1.0, 1.0)
    stretch[:, 1] *= upright[:, None]
    linear = rotation @ stretch * (crop / SIZE)
    strip = uniform(size=n) < strength.strip_chance
    centre = np.where(strip[:, None], slices.brain_centre[patient], slices.centre[patient])
    centre = centre + uniform(-1, 1, (n, 2)) * strength.shift_pixels
    move = (centre[:, ::-1] + 0.5) / (SIZE / 2) - 1
    theta = np.concatenate([linear, move[:, :, None]], axis=2)

    draw = uniform(size=n)
    both = draw < strength.lose_both_chance
    lose_t1 = both | (
        (draw >= strength.lose_both_chance)
        & (draw < strength.lose_both_chance + strength.lose_t1_chance)
    )
    lose_t1c = both | (draw > 1 - strength.lose_t1c_chance)
    grafts = draw_grafts(slices, chosen, strength.graft_chance, generator)
    mild = uniform(size=(n, SEQUENCES)) < 0.6
    return Plan(
        rows=rows,
        theta=torch.from_numpy(theta.astype(np.float32)),
        gain=_floats(np.exp(uniform(-1, 1, (n, SEQUENCES)) * strength.log_gain)),
        offset=_floats(uniform(-1, 1, (n, SEQUENCES)) * strength.offset),
        gamma=_floats(
            np.where(mild, 1.0, np.exp(uniform(-1, 1, (n, SEQUENCES)) * strength.log_gamma))
        ),
        bias=_floats(
            uniform(-1, 1, (n, SEQUENCES, 4, 4))
            * strength.bias
            * (uniform(size=(n, 1, 1, 1)) < 0.5)
        ),
        noise=_floats(uniform(0, strength.noise, n) * (uniform(size=n) < 0.5)),
        blur=_floats(np.where(uniform(size=n) < strength.blur_chance, uniform(1.2, 2.4, n), 1.0)),
        lost=torch.from_numpy(np.stack([lose_t1, np.zeros(n, bool), lose_t1c], axis=1)),
        strip=strip,
        strip_rim=uniform(*STRIP_RIM, n),
        seeds=generator.integers(2**62, size=n),
        grafts=grafts,
        disease=np.where(
            uniform(size=n) < strength.disease_chance, generator.integers(2**62, size=n), -1
        ),
    )


def make_batch(
    slices: PackedSlices, plan: Plan, crop: int, neighbours: int = NEIGHBOURS
) -> tuple[Tensor, Tensor]:
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
    flat = rows.ravel()
    intensity = np.where(
        plan.strip[:, None, None], slices.brain_intensity[patient], slices.intensity[patient]
    )
    low, high, mean, std = (
        torch.from_numpy(intensity[..., k].copy()).view(n, 1, SEQUENCES, 1, 1) for k in range(4)
    )
    # In place throughout: on a CPU this is bound by memory, and a fresh array costs more than the sum.
    # Values are heights above air from here on, so that zero padding and stripping both leave air.
    height = (
        torch.from_numpy(slices.images[flat]).view(n, neighbours, SEQUENCES, SIZE, SIZE).float()
    )
    height = torch.minimum(height, high, out=height).sub_(low).clamp_(min=0)
    span = high - low
    truth = torch.from_numpy(slices.masks[plan.rows[:, 1]]).view(n, 1, SIZE, SIZE).float()
    for k in np.flatnonzero(plan.grafts.wanted):
        left = plan.left(slices, rows[k, neighbours // 2], int(k)) if plan.strip[k] else None
        one = Sample.of(slices, rows[k], height[k].numpy(), left)
        graft(slices, plan.grafts, int(k), one)
        torch.minimum(height[k], span[k], out=height[k])
        truth[k, 0] = torch.from_numpy(one.tumour[neighbours // 2])
    for k in np.flatnonzero(plan.disease >= 0):
        add_disease(slices, plan, int(k), rows[k], height[k].numpy())
        torch.minimum(height[k], span[k], out=height[k])
    for k in np.flatnonzero(plan.strip):
        kept = torch.from_numpy(plan.left(slices, rows[k], int(k)))
        height[k].mul_(kept.unsqueeze(1))
        truth[k].mul_(kept[neighbours // 2])
    grid = functional.affine_grid(plan.theta, [n, 1, crop, crop], align_corners=False)
    height = functional.grid_sample(height.flatten(1, 2), grid, align_corners=False)
    masks = functional.grid_sample(truth, grid, align_corners=False)
    height = _soften(height, plan.blur).view(n, neighbours, SEQUENCES, crop, crop)

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


def add_disease(
    slices: PackedSlices,
    plan: Plan,
    k: int,
    rows: NDArray[np.int64],
    height: NDArray[np.float32],
) -> None:
    """Give sample ``k`` white-matter disease, in place; its own tumour stays as it is."""
    generator = np.random.default_rng(int(plan.disease[k]))
    amount = disease(slices.ventricle[rows], slices.brain[rows], generator)
    amount *= slices.masks[rows] == 0
    std = slices.intensity[slices.patient_of(rows[:1])[0], :, 3]
    flair = height[:, FLAIR]
    flair += amount * (generator.uniform(*BRIGHTER) * std[FLAIR])
    for channel, lacks in zip((T1, T1C), absent(slices.images[rows[len(rows) // 2]]), strict=True):
        darker = generator.uniform(*DARKER) * std[channel]
        other = height[:, channel]
        other[...] = flair if lacks else np.maximum(other - darker * amount, DARKEST * other)


def _share(values: Any, part: slice) -> Any:
    return values.share(part) if isinstance(values, GraftPlan) else values[part]


def _floats(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _soften(images: Tensor, factor: Tensor) -> Tensor:
    """Lower the resolution of single samples: down by ``factor`` and up again."""
    for k in torch.nonzero(factor > 1).flatten().tolist():
        size = max(8, math.floor(images.shape[-1] / float(factor[k])))
        small = functional.interpolate(images[k : k + 1], size=(size, size), mode="area")
        images[k] = functional.interpolate(
            small, size=images.shape[-2:], mode="bilinear", align_corners=False
        )[0]
    return images
