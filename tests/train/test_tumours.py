"""Tumours the patients do not have: masks go with them, nothing else changes, copies stay copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.packed import SIZE, PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL  # noqa: E402
from gliosight.train.tumours import Sample, TumourPlan, alter_tumour  # noqa: E402

T1, FLAIR, T1C = 0, 1, 2


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
        givers = plans[1].tumours.graft[:, 1]
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
    assert (plan.tumours.graft == -1).all()


def test_no_tumour_is_added_that_t1_does_not_show(slices: PackedSlices) -> None:
    copies = slices.images.copy()
    mine = slices.patient_of(np.arange(len(copies))) == 0
    copies[mine, 0] = copies[mine, 1]
    lacking = replace(slices, images=copies)
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    owner = slices.patient_of(positive)
    chosen = np.array([positive[owner == 0][0], positive[owner == 1][0]])
    plan = draw_plan(
        lacking, chosen, 192, replace(STILL, graft_chance=1.0), np.random.default_rng(1)
    )
    assert (plan.tumours.graft[:, 1] >= 0).all()
    none = np.full_like(plan.tumours.graft, -1)
    still = replace(plan, tumours=replace(plan.tumours, graft=none))
    for one, other in zip(
        make_batch(lacking, plan, 192), make_batch(lacking, still, 192), strict=True
    ):
        assert torch.equal(one, other)


def test_fading_scales_the_contrast_to_the_surroundings() -> None:
    before, sample = two_alike()
    alter_tumour(plan_of(fading=np.array([[0.5, 0.4, 0.0]] * 2)), 0, sample)
    inside, around = regions(sample)
    for sequence, factor in ((T1, 0.5), (FLAIR, 0.4), (T1C, 0.0)):
        old, new = before.height[1, sequence], sample.height[1, sequence]
        usual = np.median(old[around])
        assert np.median(new[inside]) - usual == pytest.approx(
            factor * (np.median(old[inside]) - usual), abs=1.0
        )
    assert_far_unchanged(before, sample)


def test_a_pattern_fades_parts_differently() -> None:
    before, sample = two_alike()
    fading = np.ones((2, 3))
    fading[0, FLAIR] = 0.3
    alter_tumour(plan_of(fading=fading), 0, sample)
    inside, around = regions(sample)
    old, new = before.height[1, FLAIR], sample.height[1, FLAIR]
    kept = (new - np.median(old[around]))[inside] / (old - np.median(old[around]))[inside]
    assert np.percentile(kept, 5) < 0.5
    assert np.percentile(kept, 95) > 0.8
    assert np.array_equal(before.height[:, [T1, T1C]], sample.height[:, [T1, T1C]])


def test_a_core_is_dark_and_its_rim_takes_up_contrast() -> None:
    before, sample = two_alike()
    alter_tumour(plan_of(core=np.array([0.5, -1.5, -2.0, 2.0])), 0, sample)
    inside, _ = regions(sample)
    depth = ndimage.distance_transform_edt(inside)
    deep, shallow = depth > 0.8 * depth.max(), inside & (depth < 0.15 * depth.max())
    change = (sample.height - before.height)[1] / before.std[:, None, None]
    assert change[FLAIR][deep].mean() < -1
    assert change[T1][deep].mean() < -0.5
    assert abs(change[FLAIR][shallow].mean()) < 0.2
    middle = inside & (np.abs(depth / depth.max() - 0.5) < 0.1)
    assert (change[T1C] - change[T1])[middle].mean() > 0.5
    assert_far_unchanged(before, sample)


def test_a_small_tumour_has_no_core() -> None:
    before, sample = two_alike()
    small = np.zeros_like(sample.tumour)
    small[:, 100:106, 100:106] = 1
    sample = replace(sample, tumour=small)
    alter_tumour(plan_of(core=np.array([0.5, -1.5, -2.0, 2.0])), 0, sample)
    assert np.array_equal(sample.height, before.height)


def test_what_is_flair_again_stays_flair() -> None:
    before, _ = two_alike()
    height = before.height.copy()
    height[:, [T1, T1C]] = height[:, [FLAIR]]
    alike = np.repeat(before.mean[[FLAIR]], 3), np.repeat(before.std[[FLAIR]], 3)
    sample = replace(before, height=height, absent=(True, True), mean=alike[0], std=alike[1])
    fading = np.array([[0.2, 0.6, 0.9], [1.2, 0.8, 0.3]])
    plan = plan_of(fading=fading, core=np.array([0.5, -1.5, -2.0, 2.0]))
    alter_tumour(plan, 0, sample)
    assert not np.array_equal(height, before.height)
    for sequence in (T1, T1C):
        assert np.array_equal(height[:, sequence], height[:, FLAIR])


def test_a_change_does_not_touch_the_mask_and_asks_for_a_tumour(slices: PackedSlices) -> None:
    shown = slices.masks.any(axis=(1, 2))
    chosen = np.array([np.flatnonzero(shown)[3], np.flatnonzero(~shown)[3]])
    plans = [
        draw_plan(slices, chosen, 192, one, np.random.default_rng(2))
        for one in (STILL, replace(STILL, fading_chance=1.0, core_chance=1.0))
    ]
    assert [one.tumours.changes.tolist() for one in plans] == [[False] * 2, [True] * 2]
    (before, old), (after, new) = (make_batch(slices, plan, 192) for plan in plans)
    assert torch.equal(old, new)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, 4], after[0, 4])


def two_alike() -> tuple[Sample, Sample]:
    """A disc in flat tissue, twice: bright in FLAIR, dark in T1."""
    disc = np.hypot(*np.ogrid[-128:128, -128:128]) < 24
    noise = np.random.default_rng(0).normal(0, 2, (3, 3, SIZE, SIZE))
    levels = np.array([-30.0, 60.0, -30.0])[:, None, None]
    height = (100 + noise + levels * disc).astype(np.float32)
    first, second = (
        Sample(
            height.copy(),
            np.repeat(disc[None], 3, axis=0).astype(np.float32),
            np.full((SIZE, SIZE), 60),
            (False, False),
            np.full(3, 100, np.float32),
            np.full(3, 20, np.float32),
        )
        for _ in "ab"
    )
    return first, second


def plan_of(**given: NDArray[np.float64]) -> TumourPlan:
    """A plan for one sample in which only this happens."""
    nothing = TumourPlan(
        graft=np.full((1, 3), -1),
        graft_turn=np.zeros((1, 2), bool),
        graft_at=np.zeros((1, 6)),
        fading=np.ones((1, 2, 3)),
        core=np.zeros((1, 4)),
        seeds=np.array([4]),
    )
    return replace(nothing, **{name: values[None] for name, values in given.items()})


def regions(sample: Sample) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Well inside the tumour of the middle slice, and close around it."""
    tumour = sample.tumour[1] > 0
    around = ndimage.binary_dilation(tumour, iterations=4) & ~tumour & (sample.depth > 0)
    return ndimage.binary_erosion(tumour, iterations=3), around


def assert_far_unchanged(before: Sample, after: Sample) -> None:
    """Eight pixels away from the tumour nothing is different."""
    for old, new, tumour in zip(before.height, after.height, before.tumour, strict=True):
        far = ndimage.distance_transform_edt(tumour == 0) > 8
        assert np.abs(new - old)[:, far].max() < 1e-3
