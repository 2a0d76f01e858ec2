"""Tumours where no patient has one: masks go with them, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL  # noqa: E402

FLAIR = 1


def test_a_tumour_of_another_patient_is_added_with_its_mask(slices: PackedSlices) -> None:
    """Where the mask grew FLAIR has changed, and nowhere else; the tumour keeps its brightness."""
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    owner = slices.patient_of(positive)
    free = np.flatnonzero(~slices.masks.any(axis=(1, 2)))
    chosen = np.array([free[len(free) // 2], positive[owner == 0][1], positive[owner == 1][1]])
    grown = 0
    for seed in range(6):
        plans = [
            draw_plan(slices, chosen, 192, one, np.random.default_rng(seed))
            for one in (STILL, replace(STILL, graft_chance=1.0))
        ]
        givers = plans[1].grafts.rows[:, 1]
        given = givers >= 0
        assert given.any()
        assert np.all(slices.masks[givers[given]].any(axis=(1, 2)))
        assert np.all(slices.patient_of(givers[given]) != slices.patient_of(chosen[given]))
        (before, old), (after, new) = (make_batch(slices, plan, 192) for plan in plans)
        assert bool((new >= old).all())
        for k in range(len(chosen)):
            added = (new[k, 0] > old[k, 0]).numpy()
            change = np.abs((after[k, 4] - before[k, 4]).numpy())
            far = ndimage.distance_transform_edt(~added) > 12
            if not added.any():
                continue
            grown += 1
            assert change[far].max() < 1e-5
            assert change[added].mean() > 0.3
            brain = before[k, 4][before[k, 4] > -1]
            assert after[k, 4].numpy()[added].mean() > float(brain.mean())
    assert grown >= 6


def test_without_another_patient_nothing_is_added(slices: PackedSlices) -> None:
    mine = np.flatnonzero(slices.patient_of(np.arange(len(slices.masks))) == 0)
    strength = replace(STILL, graft_chance=1.0)
    plan = draw_plan(slices, mine, 64, strength, np.random.default_rng(0))
    assert (plan.grafts.rows == -1).all()


def test_no_tumour_is_added_that_t1_does_not_show(slices: PackedSlices) -> None:
    copies = slices.images.copy()
    mine = slices.patient_of(np.arange(len(copies))) == 0
    copies[mine, 0] = copies[mine, 1]
    lacking = replace(slices, images=copies)
    both = copies.copy()
    both[:, 0] = both[:, 1]
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    owner = slices.patient_of(positive)
    chosen = np.array([positive[owner == 0][0], positive[owner == 1][0]])
    plan = draw_plan(
        lacking, chosen, 192, replace(STILL, graft_chance=1.0), np.random.default_rng(1)
    )
    assert (plan.grafts.rows[:, 1] >= 0).all()
    none = np.full_like(plan.grafts.rows, -1)
    still = replace(plan, grafts=replace(plan.grafts, rows=none))
    for one, other in zip(
        make_batch(lacking, plan, 192), make_batch(lacking, still, 192), strict=True
    ):
        assert torch.equal(one, other)
    # Where both or none of the two lack T1 there is room for it.
    for alike in (slices, replace(slices, images=both)):
        (_, after), (_, before) = (make_batch(alike, one, 192) for one in (plan, still))
        assert after.sum() > before.sum()


@pytest.mark.parametrize("rim", [-1.5, 0.0, 3.0])
def test_a_stripped_sample_is_marked_where_there_is_a_picture(
    slices: PackedSlices, rim: float
) -> None:
    """No mask on what was cut away, nothing brighter than a picture can be, grafts and all."""
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    chosen = positive[[1, -2]]
    strength = replace(STILL, graft_chance=1.0, strip_chance=1.0)
    added = 0
    for seed in range(4):
        plan = draw_plan(slices, chosen, 256, strength, np.random.default_rng(seed))
        plan = replace(plan, strip_rim=np.full(2, rim))
        none = replace(plan.grafts, rows=np.full_like(plan.grafts.rows, -1))
        images, masks = make_batch(slices, plan, 256)
        _, before = make_batch(slices, replace(plan, grafts=none), 256)
        added += int((masks > before).sum())
        low, high, mean, std = slices.brain_intensity[slices.patient_of(chosen)][:, FLAIR].T
        for k in range(2):
            shown = images[k, 4].numpy() > (low[k] - mean[k]) / std[k] + 1e-3
            assert shown[masks[k, 0].numpy() > 0].all()
            assert images[k, 4].max() <= (high[k] - mean[k]) / std[k] + 1e-3
    assert added > 100
