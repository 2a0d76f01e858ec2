"""Whole batches: what moves moves together, what is lost is FLAIR, and a plan can be shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from torch.nn import functional  # noqa: E402

from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL, Strength  # noqa: E402
from gliosight.train.smooth_fields import spread  # noqa: E402


def test_without_variation_a_batch_is_the_normalised_slice(slices: PackedSlices) -> None:
    chosen = np.array([2, 8])
    plan = draw_plan(slices, chosen, 64, STILL, np.random.default_rng(0))
    images, masks = make_batch(slices, plan, 64)
    assert images.shape == (2, 9, 64, 64)
    for k, row in enumerate(chosen):
        patient = int(slices.patient_of(np.array([row]))[0])
        low, high, mean, std = slices.intensity[patient, 1]
        whole = (np.clip(slices.images[row, 1].astype(np.float32), low, high) - mean) / std
        # Between two pixels at most half of their difference is lost: compare as wholes.
        top, left = (round(float(one)) - 32 for one in slices.centre[patient])
        part = whole[top : top + 64, left : left + 64]
        assert np.corrcoef(images[k, 4].numpy().ravel(), part.ravel())[0, 1] > 0.9
    assert set(np.unique(masks)) <= {0.0, 1.0}


def test_one_slice_alone_is_the_middle_of_three(slices: PackedSlices) -> None:
    plan = draw_plan(slices, np.array([2, 8]), 64, STILL, np.random.default_rng(0))
    three, _ = make_batch(slices, plan, 64)
    one, _ = make_batch(slices, plan, 64, neighbours=1)
    assert torch.equal(one, three[:, 3:6])


def test_mask_and_image_move_together(slices: PackedSlices) -> None:
    """The lesion is bright in FLAIR: whatever the plan, the mask has to lie on it."""
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    strength = Strength(strip_chance=0, bias=0, noise=0, lose_both_chance=0)
    looked_at = 0
    for seed in range(4):
        generator = np.random.default_rng(seed)
        plan = draw_plan(slices, generator.choice(positive, 4), 192, strength, generator)
        images, masks = make_batch(slices, plan, 192)
        flair, inside = images[:, 4].numpy(), masks[:, 0].numpy() > 0
        for k in range(4):
            if inside[k].sum() > 30:
                looked_at += 1
                assert flair[k][inside[k]].mean() > np.percentile(flair[k], 75)
    assert looked_at >= 12


def test_a_plan_depends_on_its_generator_alone_and_can_be_shared(slices: PackedSlices) -> None:
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    chosen = positive[[0, 1, -2, -1]]  # of two patients
    strength = Strength(graft_chance=1.0)
    plans = [draw_plan(slices, chosen, 64, strength, np.random.default_rng(5)) for _ in "ab"]
    assert (plans[0].grafts.rows[:, 1] >= 0).all()
    (one, masks), (two, _) = (make_batch(slices, plan, 64) for plan in plans)
    assert torch.equal(one, two)
    for part in (slice(0, None, 2), slice(1, None, 2)):
        images, own = make_batch(slices, plans[0].share(part), 64)
        assert torch.equal(images, one[part])
        assert torch.equal(own, masks[part])


def test_upside_down_is_the_mirror_image(slices: PackedSlices) -> None:
    chosen = np.array([2, 8])
    (upright, _), (turned, _) = (
        make_batch(slices, draw_plan(slices, chosen, 64, one, np.random.default_rng(0)), 64)
        for one in (STILL, replace(STILL, upside_down_chance=1.0))
    )
    # The middle of the crop is the head's, which lies between two pixels: compare as wholes.
    for one, other in zip(upright, turned, strict=True):
        flipped = other[4].numpy()[::-1]
        assert np.corrcoef(one[4].numpy().ravel(), flipped.ravel())[0, 1] > 0.9


def test_lost_sequences_are_flair(slices: PackedSlices) -> None:
    strength = Strength(lose_both_chance=1.0)
    plan = draw_plan(slices, np.arange(3), 64, strength, np.random.default_rng(0))
    images, _ = make_batch(slices, plan, 64)
    for channel in (0, 2, 3, 5, 6, 8):
        assert torch.equal(images[:, channel], images[:, 3 * (channel // 3) + 1])


def test_neighbours_lie_as_far_as_the_patient_s_slices_ask(slices: PackedSlices) -> None:
    far = replace(slices, reach=np.array([2, -1, 1]))
    plan = draw_plan(far, np.array([2, 8, 14]), 64, STILL, np.random.default_rng(0))
    assert plan.rows.tolist() == [[0, 2, 4], [9, 8, 7], [13, 14, 15]]


@pytest.mark.parametrize("shape", [(4, 4), (6, 13)])
def test_smooth_fields_are_bicubic(shape: tuple[int, int]) -> None:
    values = torch.randn(2, 3, *shape)
    expected = functional.interpolate(values, (40, 56), mode="bicubic", align_corners=True)
    torch.testing.assert_close(spread(values, (40, 56)), expected, rtol=1e-5, atol=1e-5)
