"""What a network is asked to make small (training bench; torch).

Words: *mask logits* ``(batch, 1, rows, columns)``, *slice logits* ``(batch,)``, truth alike with 0 or 1.

Overlap losses are sums over the whole batch; where several processes share a batch, ``across`` adds up
what each has (see `gliosight.train.processes`), so that the loss is that of the whole batch everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0
SMOOTH_TVERSKY = 1e-6

Across = Callable[[Tensor], Tensor]


def alone(sums: Tensor) -> Tensor:
    """``across`` of a single process: the sums are whole already."""
    return sums


def batch_dice_loss(mask_logits: Tensor, masks: Tensor, across: Across = alone) -> Tensor:
    """One minus the Dice of the whole batch taken as one volume.

    By batch, not by slice: the Dice of a tumour-free slice is 0 or 1 by a single pixel.
    Source: Milletari 2016, https://arxiv.org/abs/1606.04797.
    """
    probability = torch.sigmoid(mask_logits)
    sums = torch.stack([(probability * masks).sum(), probability.sum() + masks.sum()])
    overlap, both = across(sums)
    loss: Tensor = 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)
    return loss


def focal_tversky_loss(
    mask_logits: Tensor,
    masks: Tensor,
    alpha: float = 0.7,
    gamma: float = 0.75,
    across: Across = alone,
) -> Tensor:
    """``(1 - TP / (TP + alpha FN + (1 - alpha) FP)) ** gamma`` over the whole batch.

    Source: Abraham and Khan 2018, https://arxiv.org/abs/1810.07842, with the tutorial's exponent.
    """
    probability = torch.sigmoid(mask_logits)
    sums = torch.stack(
        [
            (masks * probability).sum(),
            (masks * (1 - probability)).sum(),
            ((1 - masks) * probability).sum(),
        ]
    )
    true, missed, false = across(sums)
    index = (true + SMOOTH_TVERSKY) / (true + alpha * missed + (1 - alpha) * false + SMOOTH_TVERSKY)
    # The slope of x ** 0.75 at 0 is infinite: keep a perfect batch from making it.
    loss: Tensor = (1 - index).clamp(min=1e-7) ** gamma
    return loss


def joint_loss(
    mask_logits: Tensor,
    slice_logits: Tensor,
    masks: Tensor,
    slice_weight: float,
    across: Across = alone,
) -> Tensor:
    """Pixel cross-entropy + batch Dice + ``slice_weight`` times the slice label's cross-entropy.

    A slice is positive when any pixel of its crop is.
    """
    labels = masks.amax(dim=(1, 2, 3))
    pixels = functional.binary_cross_entropy_with_logits(mask_logits, masks)
    slices = functional.binary_cross_entropy_with_logits(slice_logits, labels)
    return pixels + batch_dice_loss(mask_logits, masks, across) + slice_weight * slices


def label_loss(class_logits: Tensor, masks: Tensor) -> Tensor:
    """Categorical cross-entropy of ``(batch, 2)`` logits: no tumour, tumour."""
    return functional.cross_entropy(class_logits, masks.amax(dim=(1, 2, 3)).long())
