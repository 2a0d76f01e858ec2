"""What a network is shown: batches of slices, varied or plain (training bench; torch).

In: rows of `PackedSlices`. Out: images and masks as tensors. Everything random comes from the generator
that is handed in, so a batch can be made again; where several processes share a batch, each makes its
part of it from the same decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gliosight.train.augmentation import draw_plan, make_batch
from gliosight.train.packed import SIZE, PackedSlices
from gliosight.train.recipe import STILL, Recipe

Rows = NDArray[np.int64]
ALL = slice(None)


class Input(Protocol):
    """Makes batches."""

    def varied(self, rows: Rows, generator: np.random.Generator, part: slice = ALL) -> Batch:
        """A batch to learn from; ``part`` of its slices."""
        ...

    def plain(self, rows: Rows) -> Batch:
        """A batch to be scored on."""
        ...


# (n, channels, rows, columns) float32 images, channels last in memory; (n, 1, rows, columns) masks.
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TissueInput:
    """Normalised by the head's tissue, cut out round the head, varied by the recipe."""

    slices: PackedSlices
    recipe: Recipe

    @property
    def crop(self) -> int:
        """Side of the crops."""
        return self.recipe.crop or SIZE

    def varied(self, rows: Rows, generator: np.random.Generator, part: slice = ALL) -> Batch:
        """See `Input.varied`."""
        plan = draw_plan(self.slices, rows, self.crop, self.recipe.augmentation, generator)
        return make_batch(self.slices, plan.share(part), self.crop, self.recipe.neighbours)

    def plain(self, rows: Rows) -> Batch:
        """See `Input.plain`."""
        plan = draw_plan(self.slices, rows, self.crop, STILL, np.random.default_rng(0))
        return make_batch(self.slices, plan, self.crop, self.recipe.neighbours)


@dataclass(frozen=True)
class PictureInput:
    """Whole pictures in [0, 1], as the tutorial takes them: never varied."""

    slices: PackedSlices

    def varied(self, rows: Rows, _: np.random.Generator, part: slice = ALL) -> Batch:
        """See `Input.varied`."""
        return self.plain(rows[part])

    def plain(self, rows: Rows) -> Batch:
        """See `Input.plain`."""
        images = torch.from_numpy(self.slices.images[rows]).float().div_(255)
        masks = torch.from_numpy(self.slices.masks[rows]).float().unsqueeze(1)
        return images.contiguous(memory_format=torch.channels_last), masks


def input_of(slices: PackedSlices, recipe: Recipe) -> Input:
    """The input a recipe asks for."""
    return TissueInput(slices, recipe) if recipe.input == "tissue" else PictureInput(slices)
