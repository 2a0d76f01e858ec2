"""The brain of a made head: its islands are kept, fat and muscle are not, a bright tumour is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.brain import BORDER, find_brain, signed_distance  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL  # noqa: E402

SLICES, SIZE = 8, 256
Mask = NDArray[np.bool_]


def ellipse(row: float, column: float, rows: float, columns: float) -> Mask:
    y, x = np.ogrid[:SIZE, :SIZE]
    return np.asarray(((y - row) / rows) ** 2 + ((x - column) / columns) ** 2 < 1)


def made_head() -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask]:
    """FLAIR, depth and brain; slice 0 is the lowest: three islands, and muscle in front of them."""
    flair, brain = np.zeros((SLICES, SIZE, SIZE)), np.zeros((SLICES, SIZE, SIZE), bool)
    depth = np.zeros((SLICES, SIZE, SIZE))
    for k in range(SLICES):
        head = ellipse(128, 128, 110, 90)
        if k < 3:
            brain[k] = ellipse(175, 128, 34, 52)
            brain[k] |= ellipse(110, 80, 24, 20) | ellipse(110, 176, 24, 20)
        else:
            brain[k] = ellipse(128, 128, 96, 76)
        flair[k][head] = 20  # bone and air
        flair[k][head & ~ellipse(128, 128, 105, 85)] = 210  # scalp
        if k < 3:
            flair[k][ellipse(55, 128, 20, 40)] = 45  # muscle
            flair[k][ellipse(85, 128, 10, 10)] = 230  # fat
            flair[k][60:172, 126:130] = 80  # a thin bridge from there to the cerebellum
        flair[k][brain[k]] = 90
        depth[k] = ndimage.distance_transform_edt(head)
    noise = np.random.default_rng(0).normal(0, 4, flair.shape)
    return (
        np.clip(flair + noise, 0, 255).astype(np.uint8),
        np.clip(depth, 0, 255).astype(np.uint8),
        brain,
    )


def dice(one: Mask, other: Mask) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_the_brain_is_found_in_every_slice_its_islands_too() -> None:
    flair, depth, brain = made_head()
    found = find_brain(flair, depth, np.zeros_like(brain))
    for k in range(SLICES):
        assert dice(found[k], brain[k]) > 0.95, k
    assert not found[:3, 40:75, 95:160].any()


def test_a_tumour_brighter_than_any_brain_is_left_in() -> None:
    flair, depth, brain = made_head()
    tumour = np.zeros_like(brain)
    tumour[3:6] = ellipse(60, 90, 18, 18) & brain[3]
    flair[tumour] = 240
    found = find_brain(flair, depth, tumour)
    assert found[tumour].all()
    assert dice(found, brain) > 0.95
    without = find_brain(flair, depth, np.zeros_like(brain))
    assert not without[tumour].all()


def test_where_no_brain_is_found_the_surface_is_taken_off() -> None:
    flair, depth, _ = made_head()
    nothing = np.zeros(flair.shape, bool)
    flat = find_brain(np.zeros_like(flair), depth, nothing)
    assert np.array_equal(flat, depth > 12)
    small = np.minimum(depth, 20)
    assert np.array_equal(find_brain(flair, small, nothing), small > 12)


def test_signed_distances_grow_inwards_and_an_empty_slice_is_far_away() -> None:
    brain = np.zeros((2, SIZE, SIZE), bool)
    brain[0] = ellipse(128, 128, 40, 40)
    found = signed_distance(brain)
    assert np.array_equal(found[0] > BORDER, brain[0])
    assert found[0, 128, 128] == pytest.approx(BORDER + 40, abs=1)
    assert found[0, 128, 28] == pytest.approx(BORDER - 60, abs=1)
    assert not found[1].any()


def test_a_stripped_sample_is_normalised_as_a_stripped_volume_is(slices: PackedSlices) -> None:
    """What lies round the brain is air, and the brain's own brightness counts, not the head's."""
    chosen = np.array([2, 8])
    strip = replace(STILL, strip_chance=1.0)
    plan = draw_plan(slices, chosen, 256, strip, np.random.default_rng(0))
    plan = replace(plan, strip_rim=np.zeros(2))
    images, _ = make_batch(slices, plan, 256)
    assert not np.array_equal(slices.intensity, slices.brain_intensity)
    for k, row in enumerate(chosen):
        patient = int(slices.patient_of(np.array([row]))[0])
        low, high, mean, std = slices.brain_intensity[patient, 1]
        whole = (np.clip(slices.images[row, 1].astype(np.float32), low, high) - mean) / std
        brain = slices.brain[row] > BORDER
        whole[~brain] = (low - mean) / std
        got = images[k, 4].numpy()
        assert got.min() == pytest.approx(float((low - mean) / std), abs=1e-4)
        # The crop has its middle between two pixels: compare as wholes.
        shift = np.rint(slices.brain_centre[patient] - 127.5).astype(int)
        moved = np.roll(whole, tuple(-shift), axis=(0, 1))
        assert np.corrcoef(got[30:-30, 30:-30].ravel(), moved[30:-30, 30:-30].ravel())[0, 1] > 0.9


def test_the_rim_of_a_stripped_brain_varies(slices: PackedSlices) -> None:
    chosen = np.repeat(np.flatnonzero(slices.masks.any(axis=(1, 2)))[:1], 8)
    strip = replace(STILL, strip_chance=1.0)
    plan = draw_plan(slices, chosen, 256, strip, np.random.default_rng(0))
    left = [int(plan.left(slices, chosen[:1], k).sum()) for k in range(8)]
    assert len(set(left)) > 2
    assert np.argmax(left) == int(np.argmax(plan.strip_rim))
