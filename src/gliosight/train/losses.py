"""Losses (training bench; torch).

A loss has two parts: a mean over slices, and an overlap. The overlap is made of sums that are added up
first: over a batch, over the processes that share it, or over a whole validation part.

Shapes: mask logits and masks ``(batch, 1, rows, columns)``, slice logits ``(batch,)``; truth is 0 or 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gliosight.train.devices import sum_across
from gliosight.train.recipe import Recipe

SMOOTH = 1.0
SMOOTH_TVERSKY = 1e-6


def loss_parts(recipe: Recipe, output: object, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over slices, and the sums of the overlap; these are empty where the loss has none.

    ``output`` is what the network returned. Logits are converted to float32 first.
    """
    if isinstance(output, tuple):
        mask_logits, slice_logits = (logits.float() for logits in output)
        mean = joint_mean_loss(mask_logits, slice_logits, masks, recipe.slice_weight)
        return mean, dice_sums(mask_logits, masks)
    assert isinstance(output, Tensor)  # noqa: S101 - networks return one or two tensors
    logits = output.float()
    if recipe.loss == "cross-entropy":
        return label_loss(logits, masks), logits.new_zeros(0)
    sums = dice_sums if recipe.loss == "dice" else tversky_sums
    return logits.new_zeros(()), sums(logits, masks)


def overlap_loss(recipe: Recipe, sums: Tensor) -> Tensor:
    """The overlap's part of the loss."""
    if not len(sums):
        return sums.new_zeros(())
    if recipe.loss == "focal-tversky":
        return focal_tversky_loss(sums, recipe.alpha, recipe.gamma)
    return dice_loss(sums)


def batch_loss(recipe: Recipe, output: object, masks: Tensor) -> Tensor:
    """The loss of one batch; its overlap is that of all processes that share the batch."""
    mean, sums = loss_parts(recipe, output, masks)
    return mean + overlap_loss(recipe, sum_across(sums) if len(sums) else sums)


def dice_sums(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """(2,): the intersection, and the sum of both."""
    probability = torch.sigmoid(mask_logits)
    return torch.stack([(probability * masks).sum(), probability.sum() + masks.sum()])


def dice_loss(sums: Tensor) -> Tensor:
    """One minus the Dice of all that `dice_sums` has counted, taken as one volume.

    By batch, not by slice: the Dice of a tumour-free slice is 0 or 1 by a single pixel.
    Source: Milletari 2016, https://arxiv.org/abs/1606.04797.
    """
    overlap, both = sums
    loss: Tensor = 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)
    return loss


def tversky_sums(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """(3,): true positives, false negatives, false positives."""
    probability = torch.sigmoid(mask_logits)
    true = (masks * probability).sum()
    return torch.stack([true, (masks * (1 - probability)).sum(), ((1 - masks) * probability).sum()])


def focal_tversky_loss(sums: Tensor, alpha: float = 0.7, gamma: float = 0.75) -> Tensor:
    """``(1 - TP / (TP + alpha FN + (1 - alpha) FP)) ** gamma`` of all that `tversky_sums` has counted.

    Source: Abraham and Khan 2018, https://arxiv.org/abs/1810.07842, with the tutorial's exponent.
    """
    true, missed, false = sums
    index = (true + SMOOTH_TVERSKY) / (true + alpha * missed + (1 - alpha) * false + SMOOTH_TVERSKY)
    # The slope of x ** 0.75 at 0 is infinite: a perfect batch must not reach it.
    loss: Tensor = (1 - index).clamp(min=1e-7) ** gamma
    return loss


def joint_mean_loss(
    mask_logits: Tensor, slice_logits: Tensor, masks: Tensor, slice_weight: float
) -> Tensor:
    """Pixel cross-entropy + ``slice_weight`` times that of the slice label; Dice is added to it.

    A slice is positive when any pixel of its crop is.
    """
    labels = masks.amax(dim=(1, 2, 3))
    pixels = functional.binary_cross_entropy_with_logits(mask_logits, masks)
    slices = functional.binary_cross_entropy_with_logits(slice_logits, labels)
    return pixels + slice_weight * slices


def label_loss(class_logits: Tensor, masks: Tensor) -> Tensor:
    """Categorical cross-entropy of ``(batch, 2)`` logits: no tumour, tumour."""
    return functional.cross_entropy(class_logits, masks.amax(dim=(1, 2, 3)).long())
