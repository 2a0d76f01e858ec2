"""Losses against values by hand, and right from wrong."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from torch import Tensor  # noqa: E402

from gliosight.train.losses import (  # noqa: E402
    batch_loss,
    dice_loss,
    dice_sums,
    focal_tversky_loss,
    joint_mean_loss,
    label_loss,
    loss_parts,
    overlap_loss,
    tversky_sums,
)
from gliosight.train.recipe import Recipe  # noqa: E402

MASKS = torch.zeros(2, 1, 8, 8)
MASKS[0, :, 2:5, 2:5] = 1
RIGHT, WRONG = (MASKS * 2 - 1) * 20, (1 - MASKS * 2) * 20
LABEL = torch.tensor([20.0, -20.0])


def tversky(logits: Tensor) -> float:
    return float(focal_tversky_loss(tversky_sums(logits, MASKS)))


def test_losses_know_right_from_wrong() -> None:
    assert float(dice_loss(dice_sums(RIGHT, MASKS))) < 1e-3
    assert float(dice_loss(dice_sums(WRONG, MASKS))) > 0.9
    assert tversky(RIGHT) < 1e-3
    assert tversky(WRONG) == pytest.approx(1, abs=1e-3)
    assert float(joint_mean_loss(RIGHT, LABEL, MASKS, 0.3)) < 1e-3
    assert float(joint_mean_loss(RIGHT, -LABEL, MASKS, 0.3)) == pytest.approx(0.3 * 20, rel=1e-3)
    classes = torch.stack([-LABEL, LABEL], dim=1)
    assert float(label_loss(classes, MASKS)) < 1e-3
    assert float(label_loss(-classes, MASKS)) == pytest.approx(40, rel=1e-3)


def test_focal_tversky_by_hand_and_at_its_end() -> None:
    """9 true pixels; 6 found, 3 missed, 4 marked beside: (1 - 6 / (6 + 0.7 x 3 + 0.3 x 4)) ** 0.75."""
    logits = torch.full((2, 1, 8, 8), -40.0)
    logits[0, :, 2:4, 2:5] = 40
    logits[1, :, 0, 0:4] = 40
    expected = (1 - 6 / (6 + 0.7 * 3 + 0.3 * 4)) ** 0.75
    assert tversky(logits) == pytest.approx(expected, rel=1e-5)
    perfect = (RIGHT * 10).requires_grad_()
    focal_tversky_loss(tversky_sums(perfect, MASKS)).backward()
    assert torch.isfinite(perfect.grad).all()


@pytest.mark.parametrize(
    ("network", "loss"), [("unet", "dice"), ("resunet", "focal-tversky"), ("joint", "joint")]
)
def test_a_part_is_one_volume_however_it_falls_into_batches(network: str, loss: str) -> None:
    """A batch without tumour has no Dice: counted first and divided last, it does no harm."""
    recipe = Recipe(network=network, loss=loss)  # type: ignore[arg-type]

    def output(part: slice) -> object:
        logits = RIGHT[part] / 4
        return (logits, LABEL[part] / 4) if network == "joint" else logits

    whole = batch_loss(recipe, output(slice(2)), MASKS)
    parts = [slice(0, 1), slice(1, 2)]  # the second one is free
    means, sums = zip(
        *(loss_parts(recipe, output(part), MASKS[part]) for part in parts), strict=True
    )
    apart = sum(means) / 2 + overlap_loss(recipe, torch.stack(sums).sum(dim=0))
    assert float(apart) == pytest.approx(float(whole), rel=1e-5)
