"""Losses against values by hand, and right from wrong."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.losses import (  # noqa: E402
    batch_dice_loss,
    focal_tversky_loss,
    joint_loss,
    label_loss,
)

MASKS = torch.zeros(2, 1, 8, 8)
MASKS[0, :, 2:5, 2:5] = 1
RIGHT, WRONG = (MASKS * 2 - 1) * 20, (1 - MASKS * 2) * 20
LABEL = torch.tensor([20.0, -20.0])


def test_losses_know_right_from_wrong() -> None:
    assert float(batch_dice_loss(RIGHT, MASKS)) < 1e-3
    assert float(batch_dice_loss(WRONG, MASKS)) > 0.9
    assert float(focal_tversky_loss(RIGHT, MASKS)) < 1e-3
    assert float(focal_tversky_loss(WRONG, MASKS)) == pytest.approx(1, abs=1e-3)
    assert float(joint_loss(RIGHT, LABEL, MASKS, 0.3)) < 1e-3
    assert float(joint_loss(RIGHT, -LABEL, MASKS, 0.3)) == pytest.approx(0.3 * 20, rel=1e-3)
    classes = torch.stack([-LABEL, LABEL], dim=1)
    assert float(label_loss(classes, MASKS)) < 1e-3
    assert float(label_loss(-classes, MASKS)) == pytest.approx(40, rel=1e-3)


def test_focal_tversky_by_hand() -> None:
    """9 true pixels; 6 found, 3 missed, 4 marked beside: (1 - 6 / (6 + 0.7 x 3 + 0.3 x 4)) ** 0.75."""
    found = torch.full((2, 1, 8, 8), -40.0)
    found[0, :, 2:4, 2:5] = 40
    found[1, :, 0, 0:4] = 40
    expected = (1 - 6 / (6 + 0.7 * 3 + 0.3 * 4)) ** 0.75
    assert float(focal_tversky_loss(found, MASKS)) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_batch_has_a_finite_slope() -> None:
    logits = (RIGHT * 10).requires_grad_()
    focal_tversky_loss(logits, MASKS).backward()
    assert torch.isfinite(logits.grad).all()
