"""What a network is asked to make small (training bench; torch).

Words: *mask logits* ``(batch, 1, rows, columns)``, *slice logits* ``(batch,)``, truth alike with 0 or 1.

A loss has two parts: one that is averaged over slices, and an overlap, made of sums that are added up
first, over a batch, over the processes that share it (see `gliosight.train.processes`) or over a whole
validation part.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0
SMOOTH_TVERSKY = 1e-6


def dice_sums(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """(2,): what both share, and what each has."""
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
    """(3,): what is found, missed, and marked without being there."""
    probability = torch.sigmoid(mask_logits)
    return torch.stack(
        [
            (masks * probability).sum(),
            (masks * (1 - probability)).sum(),
            ((1 - masks) * probability).sum(),
        ]
    )


def focal_tversky_loss(sums: Tensor, alpha: float = 0.7, gamma: float = 0.75) -> Tensor:
    """``(1 - TP / (TP + alpha FN + (1 - alpha) FP)) ** gamma`` of all that `tversky_sums` has counted.

    Source: Abraham and Khan 2018, https://arxiv.org/abs/1810.07842, with the tutorial's exponent.
    """
    true, missed, false = sums
    index = (true + SMOOTH_TVERSKY) / (true + alpha * missed + (1 - alpha) * false + SMOOTH_TVERSKY)
    # The slope of x ** 0.75 at 0 is infinite: keep a perfect batch from making it.
    loss: Tensor = (1 - index).clamp(min=1e-7) ** gamma
    return loss


def joint_mean_loss(
    mask_logits: Tensor, slice_logits: Tensor, masks: Tensor, slice_weight: float
) -> Tensor:
    """Pixel cross-entropy + ``slice_weight`` times the slice label's; Dice comes on top.

    A slice is positive when any pixel of its crop is.
    """
    labels = masks.amax(dim=(1, 2, 3))
    pixels = functional.binary_cross_entropy_with_logits(mask_logits, masks)
    slices = functional.binary_cross_entropy_with_logits(slice_logits, labels)
    return pixels + slice_weight * slices


def label_loss(class_logits: Tensor, masks: Tensor) -> Tensor:
    """Categorical cross-entropy of ``(batch, 2)`` logits: no tumour, tumour."""
    return functional.cross_entropy(class_logits, masks.amax(dim=(1, 2, 3)).long())
