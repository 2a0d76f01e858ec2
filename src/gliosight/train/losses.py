"""What the joint network is asked to make small (training bench; torch).

Words: *mask logits* ``(batch, 1, rows, columns)``, *slice logits* ``(batch,)``, truth alike with 0 or 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0


def batch_dice_loss(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """One minus the Dice of the whole batch taken as one volume.

    By batch, not by slice: the Dice of a tumour-free slice is 0 or 1 by a single pixel.
    Source: Milletari 2016, https://arxiv.org/abs/1606.04797.
    """
    probability = torch.sigmoid(mask_logits)
    overlap = (probability * masks).sum()
    return 1 - (2 * overlap + SMOOTH) / (probability.sum() + masks.sum() + SMOOTH)


def joint_loss(
    mask_logits: Tensor, slice_logits: Tensor, masks: Tensor, slice_weight: float
) -> Tensor:
    """Pixel cross-entropy + batch Dice + ``slice_weight`` times the slice label's cross-entropy.

    A slice is positive when any pixel of its crop is.
    """
    labels = masks.amax(dim=(1, 2, 3))
    pixels = functional.binary_cross_entropy_with_logits(mask_logits, masks)
    slices = functional.binary_cross_entropy_with_logits(slice_logits, labels)
    return pixels + batch_dice_loss(mask_logits, masks) + slice_weight * slices
