"""Batches: what moves moves together, added lesions are in the brain, plans can be shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from gliosight.train.augmentation import Plan, draw_plan, make_batch  # noqa: E402
from gliosight.train.brain import BORDER, distance_to, find_ventricles  # noqa: E402
from gliosight.train.lesions import disease, spread  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL, Strength  # noqa: E402
from tests.train.test_brain import head_with_ventricles  # noqa: E402

T1, FLAIR = 0, 1
THIS = 3  # the first channel of the slice itself, between those of its neighbours
SICK = replace(STILL, disease_chance=1.0)
GRAFTED = replace(STILL, graft_chance=1.0)
STRIPPED = replace(STILL, strip_chance=1.0)


def _plan(
    slices: PackedSlices, rows: list[int] | NDArray[np.int64], crop: int = 64, *,
    strength: Strength = STILL, seed: int = 0,
) -> Plan:  # fmt: skip
    return draw_plan(slices, np.asarray(rows), crop, strength, np.random.default_rng(seed))


def _with_tumour(slices: PackedSlices) -> NDArray[np.int64]:
    return np.flatnonzero(slices.masks.any(axis=(1, 2)))


def _alike(one: Tensor | NDArray[np.floating], other: Tensor | NDArray[np.floating]) -> bool:
    """As wholes: a crop's middle is between two pixels, which blurs it a little."""
    return bool(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1] > 0.9)


@pytest.mark.parametrize("strength", [STILL, STRIPPED])
def test_without_variation_a_batch_is_the_normalised_slice(
    strength: Strength, slices: PackedSlices
) -> None:
    """A stripped one as a stripped volume: air round the brain, the brain's own brightness."""
    plan = replace(_plan(slices, [2, 8], 256, strength=strength), strip_rim=np.zeros(2))
    images, masks = make_batch(slices, plan, 256)
    assert images.shape == (2, 9, 256, 256)
    assert set(np.unique(masks)) <= {0.0, 1.0}
    intensity, centre = slices.intensity, slices.centre
    if strength is STRIPPED:
        intensity, centre = slices.brain_intensity, slices.brain_centre
        assert not np.array_equal(intensity, slices.intensity)
    for k, (row, patient) in enumerate(((2, 0), (8, 1))):
        low, high, mean, std = intensity[patient, FLAIR]
        whole = (np.clip(slices.images[row, FLAIR].astype(np.float32), low, high) - mean) / std
        if strength is STRIPPED:
            whole[slices.brain[row] <= BORDER] = (low - mean) / std
            assert images[k, 4].min() == pytest.approx(float((low - mean) / std), abs=1e-4)
        shift = tuple(np.rint(127.5 - centre[patient]).astype(int))
        moved = np.roll(whole, shift, axis=(0, 1))
        assert _alike(images[k, 4][30:-30, 30:-30], moved[30:-30, 30:-30])


def test_one_slice_alone_is_the_middle_of_three(slices: PackedSlices) -> None:
    plan = _plan(slices, [2, 8])
    three, _ = make_batch(slices, plan, 64)
    one, _ = make_batch(slices, plan, 64, neighbours=1)
    assert torch.equal(one, three[:, 3:6])


def test_neighbours_are_as_far_as_the_patient_s_slices_ask(slices: PackedSlices) -> None:
    far = replace(slices, reach=np.array([2, -1, 1]))
    assert _plan(far, [2, 8, 14]).rows.tolist() == [[0, 2, 4], [9, 8, 7], [13, 14, 15]]


def test_mask_and_image_move_together(slices: PackedSlices) -> None:
    """The lesion is bright in FLAIR: whatever the plan, the mask has to lie on it."""
    strength = Strength(strip_chance=0, bias=0, noise=0, lose_both_chance=0)
    looked_at = 0
    for seed in range(4):
        generator = np.random.default_rng(seed)
        rows = generator.choice(_with_tumour(slices), 4)
        images, masks = make_batch(slices, draw_plan(slices, rows, 192, strength, generator), 192)
        flair, inside = images[:, 4].numpy(), masks[:, 0].numpy() > 0
        for k in range(4):
            if inside[k].sum() > 30:
                looked_at += 1
                assert flair[k][inside[k]].mean() > np.percentile(flair[k], 75)
    assert looked_at >= 12


def test_a_plan_depends_on_its_generator_alone_and_can_be_shared(slices: PackedSlices) -> None:
    rows = _with_tumour(slices)[[0, 1, -2, -1]]  # of two patients
    strength = Strength(graft_chance=1.0, disease_chance=1.0)
    plans = [_plan(slices, rows, strength=strength, seed=5) for _ in "ab"]
    assert (plans[0].graft_rows[:, 1] >= 0).all()
    (one, masks), (two, _) = (make_batch(slices, plan, 64) for plan in plans)
    assert torch.equal(one, two)
    for part in (slice(0, None, 2), slice(1, None, 2)):
        images, own = make_batch(slices, plans[0].share(part), 64)
        assert torch.equal(images, one[part])
        assert torch.equal(own, masks[part])


def test_upside_down_is_the_mirror_image(slices: PackedSlices) -> None:
    (upright, _), (turned, _) = (
        make_batch(slices, _plan(slices, [2, 8], strength=strength), 64)
        for strength in (STILL, replace(STILL, upside_down_chance=1.0))
    )
    for one, other in zip(upright, turned, strict=True):
        assert _alike(one[4], other[4].flip(0))


def test_lost_sequences_are_flair(slices: PackedSlices) -> None:
    plan = _plan(slices, np.arange(3), strength=Strength(lose_both_chance=1.0))
    images, _ = make_batch(slices, plan, 64)
    for channel in (0, 2, 3, 5, 6, 8):
        assert torch.equal(images[:, channel], images[:, 3 * (channel // 3) + 1])


def test_the_rim_of_a_stripped_brain_varies(slices: PackedSlices) -> None:
    rows = np.repeat(_with_tumour(slices)[:1], 8)
    plan = _plan(slices, rows, 256, strength=STRIPPED)
    left = [int(plan.left(slices, rows[:1], k).sum()) for k in range(8)]
    assert len(set(left)) > 2
    assert np.argmax(left) == int(np.argmax(plan.strip_rim))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 4), (6, 13)])
def test_smooth_fields_are_bicubic(shape: tuple[int, int]) -> None:
    values = torch.randn(2, 3, *shape)
    expected = functional.interpolate(values, (40, 56), mode="bicubic", align_corners=True)
    torch.testing.assert_close(spread(values, (40, 56)), expected, rtol=1e-5, atol=1e-5)


def _two_owners(slices: PackedSlices) -> NDArray[np.int64]:
    positive = _with_tumour(slices)
    owner = slices.patient_of(positive)
    return np.array([positive[owner == 0][1], positive[owner == 1][1]])


def test_a_tumour_of_another_patient_is_added_with_its_mask(slices: PackedSlices) -> None:
    """Where the mask grew FLAIR has changed, and nowhere else; the tumour keeps its brightness."""
    free = np.flatnonzero(~slices.masks.any(axis=(1, 2)))
    rows = np.array([free[len(free) // 2], *_two_owners(slices)])
    grown = 0
    for seed in range(6):
        plans = [_plan(slices, rows, 192, strength=kind, seed=seed) for kind in (STILL, GRAFTED)]
        donors = plans[1].graft_rows[:, 1]
        donated = donors >= 0
        assert donated.any()
        assert slices.masks[donors[donated]].any(axis=(1, 2)).all()
        assert (slices.patient_of(donors[donated]) != slices.patient_of(rows[donated])).all()
        (before, old), (after, new) = (make_batch(slices, plan, 192) for plan in plans)
        assert bool((new >= old).all())
        for k in range(len(rows)):
            added = (new[k, 0] > old[k, 0]).numpy()
            if not added.any():
                continue
            grown += 1
            change = np.abs((after[k, 4] - before[k, 4]).numpy())
            assert change[ndimage.distance_transform_edt(~added) > 12].max() < 1e-5
            assert change[added].mean() > 0.3
            brain = before[k, 4][before[k, 4] > -1]
            assert after[k, 4].numpy()[added].mean() > float(brain.mean())
    assert grown >= 6


def test_no_tumour_is_added_without_another_patient_or_that_t1_does_not_show(
    slices: PackedSlices,
) -> None:
    mine = np.flatnonzero(slices.patient_of(np.arange(len(slices.masks))) == 0)
    assert (_plan(slices, mine, strength=GRAFTED).graft_rows == -1).all()
    one_lacks, both_lack = slices.images.copy(), slices.images.copy()
    one_lacks[mine, T1] = one_lacks[mine, FLAIR]
    both_lack[:, T1] = both_lack[:, FLAIR]
    plan = _plan(slices, _two_owners(slices), 192, strength=GRAFTED, seed=1)
    assert (plan.graft_rows[:, 1] >= 0).all()
    still = replace(plan, graft_rows=np.full_like(plan.graft_rows, -1))
    for images, room in ((one_lacks, False), (both_lack, True), (slices.images, True)):
        data = replace(slices, images=images)
        (after, new), (before, old) = (make_batch(data, one, 192) for one in (plan, still))
        assert bool((new.sum() > old.sum()).item()) is room
        assert torch.equal(after, before) is not room


@pytest.mark.parametrize("rim", [-1.5, 0.0, 3.0])
def test_a_stripped_sample_is_marked_where_there_is_a_picture(
    slices: PackedSlices, rim: float
) -> None:
    """No mask on what was removed, nothing brighter than a picture can be, grafts and all."""
    rows = _with_tumour(slices)[[1, -2]]
    strength = replace(GRAFTED, strip_chance=1.0)
    added = 0
    for seed in range(4):
        plan = _plan(slices, rows, 256, strength=strength, seed=seed)
        plan = replace(plan, strip_rim=np.full(2, rim))
        images, masks = make_batch(slices, plan, 256)
        none = np.full_like(plan.graft_rows, -1)
        _, before = make_batch(slices, replace(plan, graft_rows=none), 256)
        added += int((masks > before).sum())
        low, high, mean, std = slices.brain_intensity[slices.patient_of(rows)][:, FLAIR].T
        for k in range(2):
            shown = images[k, 4].numpy() > (low[k] - mean[k]) / std[k] + 1e-3
            assert shown[masks[k, 0].numpy() > 0].all()
            assert images[k, 4].max() <= (high[k] - mean[k]) / std[k] + 1e-3
    assert added > 100


@pytest.mark.slow
def test_disease_is_bright_on_flair_dark_on_t1_and_not_tumour(slices: PackedSlices) -> None:
    rows = _with_tumour(slices)[:3]
    changed = 0
    for seed in range(6):
        (before, old), (after, new) = (
            make_batch(slices, _plan(slices, rows, 256, strength=strength, seed=seed), 256)
            for strength in (STILL, SICK)
        )
        assert torch.equal(old, new)
        middle = (after - before)[:, THIS : THIS + 3].numpy()
        tumour = ndimage.binary_erosion(old[:, 0].numpy() > 0, np.ones((1, 5, 5)))
        assert np.abs(middle.transpose(1, 0, 2, 3)[:, tumour]).max() < 1e-3
        assert middle[:, FLAIR].min() > -1e-5
        assert middle[:, T1].max() < 1e-5
        changed += int((middle[:, FLAIR] > 0.3).sum())
    assert changed > 500


def test_disease_is_in_the_brain_and_differs_from_draw_to_draw() -> None:
    flair, brain = head_with_ventricles()
    distance = distance_to(find_ventricles(flair, brain, np.zeros(flair.shape, dtype=bool)), 5.0)
    distance, brain = distance[2:5], brain[2:5]
    amounts = np.stack(
        [disease(distance, brain, np.random.default_rng(seed)) for seed in range(20)]
    )
    assert amounts.min() >= 0
    assert amounts.max() <= 1
    assert not amounts[:, brain <= BORDER].any()
    assert not amounts[:, distance == 0].any()
    parts = (amounts > 0.5).sum(axis=(1, 2, 3)) / (brain > BORDER).sum()
    assert parts.max() > 0.05
    assert parts.min() < 0.01
    near, far = (distance > 0) & (distance < 8), distance > 40
    assert amounts[:, near].mean() > 3 * amounts[:, far].mean()
