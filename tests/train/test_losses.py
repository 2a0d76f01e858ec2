"""Losses against values by hand, and right from wrong."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from torch import Tensor  # noqa: E402

from gliosight.train.losses import (  # noqa: E402
    dice_loss,
    dice_sums,
    focal_tversky_loss,
    joint_mean_loss,
    label_loss,
    tversky_sums,
)
from gliosight.train.recipe import Recipe  # noqa: E402
from gliosight.train.tasks import make_task  # noqa: E402

MASKS = torch.zeros(2, 1, 8, 8)
MASKS[0, :, 2:5, 2:5] = 1
RIGHT, WRONG = (MASKS * 2 - 1) * 20, (1 - MASKS * 2) * 20
LABEL = torch.tensor([20.0, -20.0])


def dice(logits: Tensor) -> float:
    return float(dice_loss(dice_sums(logits, MASKS)))


def tversky(logits: Tensor) -> float:
    return float(focal_tversky_loss(tversky_sums(logits, MASKS)))


def test_losses_know_right_from_wrong() -> None:
    assert dice(RIGHT) < 1e-3
    assert dice(WRONG) > 0.9
    assert tversky(RIGHT) < 1e-3
    assert tversky(WRONG) == pytest.approx(1, abs=1e-3)
    assert float(joint_mean_loss(RIGHT, LABEL, MASKS, 0.3)) < 1e-3
    assert float(joint_mean_loss(RIGHT, -LABEL, MASKS, 0.3)) == pytest.approx(0.3 * 20, rel=1e-3)
    classes = torch.stack([-LABEL, LABEL], dim=1)
    assert float(label_loss(classes, MASKS)) < 1e-3
    assert float(label_loss(-classes, MASKS)) == pytest.approx(40, rel=1e-3)


def test_focal_tversky_by_hand() -> None:
    """9 true pixels; 6 found, 3 missed, 4 marked beside: (1 - 6 / (6 + 0.7 x 3 + 0.3 x 4)) ** 0.75."""
    found = torch.full((2, 1, 8, 8), -40.0)
    found[0, :, 2:4, 2:5] = 40
    found[1, :, 0, 0:4] = 40
    expected = (1 - 6 / (6 + 0.7 * 3 + 0.3 * 4)) ** 0.75
    assert tversky(found) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_batch_has_a_finite_slope() -> None:
    logits = (RIGHT * 10).requires_grad_()
    focal_tversky_loss(tversky_sums(logits, MASKS)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("network", ["unet", "resunet", "joint"])
def test_a_part_is_one_volume_however_it_falls_into_batches(network: str) -> None:
    """A batch without tumour has no Dice: counted first and divided last, it does no harm."""
    loss = {"unet": "dice", "resunet": "focal-tversky", "joint": "joint"}[network]
    task = make_task(Recipe(network=network, loss=loss, start="scratch"))
    answer = (RIGHT / 4, LABEL / 4) if network == "joint" else RIGHT / 4
    whole = task.loss(answer, MASKS)
    means, sums = [], []
    for k in (0, 1):  # the second one is free
        part = (RIGHT[k : k + 1] / 4, LABEL[k : k + 1] / 4)
        mean, counted = task.parts(part if network == "joint" else part[0], MASKS[k : k + 1])
        means.append(mean)
        sums.append(counted)
    apart = sum(means) / 2 + task.overlap(torch.stack(sums).sum(dim=0))
    assert float(apart) == pytest.approx(float(whole), rel=1e-5)
