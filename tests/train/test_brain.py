"""Brain and ventricles of made heads: islands are kept, fat, muscle and fissures are left out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.train.brain import (
    BORDER,
    FAR,
    distance_to,
    find_brain,
    find_ventricles,
    signed_distance,
)

SLICES, SIZE = 8, 256
Mask = NDArray[np.bool_]


def ellipse(row: float, column: float, rows: float, columns: float) -> Mask:
    y, x = np.ogrid[:SIZE, :SIZE]
    return np.asarray(((y - row) / rows) ** 2 + ((x - column) / columns) ** 2 < 1)


def made_head() -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask]:
    """FLAIR, depth and brain; slice 0 is the lowest: three islands, and muscle in front of them."""
    flair, depth = np.zeros((2, SLICES, SIZE, SIZE))
    brain = np.zeros((SLICES, SIZE, SIZE), bool)
    head = ellipse(128, 128, 110, 90)
    for k in range(SLICES):
        flair[k][head] = 20  # bone and air
        flair[k][head & ~ellipse(128, 128, 105, 85)] = 210  # scalp
        brain[k] = ellipse(128, 128, 96, 76)
        if k < 3:
            brain[k] = ellipse(175, 128, 34, 52)
            brain[k] |= ellipse(110, 80, 24, 20) | ellipse(110, 176, 24, 20)
            flair[k][ellipse(55, 128, 20, 40)] = 45  # muscle
            flair[k][ellipse(85, 128, 10, 10)] = 230  # fat
            flair[k][60:172, 126:130] = 80  # a thin bridge from there to the cerebellum
        flair[k][brain[k]] = 90
        depth[k] = ndimage.distance_transform_edt(head)
    flair += np.random.default_rng(0).normal(0, 4, flair.shape)
    return np.clip(flair, 0, 255).astype(np.uint8), depth.astype(np.uint8), brain


def dice(one: Mask, other: Mask) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.slow
def test_the_brain_is_found_in_every_slice_with_its_islands_and_its_tumour() -> None:
    flair, depth, brain = made_head()
    nothing = np.zeros_like(brain)
    found = find_brain(flair, depth, nothing)
    assert min(dice(found[k], brain[k]) for k in range(SLICES)) > 0.95
    assert not found[:3, 40:75, 95:160].any()
    tumour = nothing.copy()
    tumour[3:6] = ellipse(60, 90, 18, 18) & brain[3]
    flair[tumour] = 240  # brighter than any brain
    found = find_brain(flair, depth, tumour)
    assert found[tumour].all()
    assert dice(found, brain) > 0.95
    assert not find_brain(flair, depth, nothing)[tumour].all()


def test_where_no_brain_is_found_the_surface_is_removed() -> None:
    flair, depth, _ = made_head()
    nothing = np.zeros(flair.shape, bool)
    assert np.array_equal(find_brain(np.zeros_like(flair), depth, nothing), depth > 12)
    small = np.minimum(depth, 20)
    assert np.array_equal(find_brain(flair, small, nothing), small > 12)


def test_signed_distances_grow_inwards_and_an_empty_slice_is_far_away() -> None:
    brain = np.zeros((3, SIZE, SIZE), bool)
    brain[0] = ellipse(128, 128, 40, 40)
    brain[2] = True  # what is beyond the picture is not outside
    found = signed_distance(brain)
    assert np.array_equal(found[0] > BORDER, brain[0])
    assert found[0, 128, 128] == pytest.approx(BORDER + 40, abs=1)
    assert found[0, 128, 28] == pytest.approx(BORDER - 60, abs=1)
    assert not found[1].any()
    assert (found[2] > BORDER).all()


def head_with_ventricles(slices: int = 6) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """FLAIR and signed distance of round brains with two ventricles in the middle slices."""
    brain = np.repeat(ellipse(128, 128, 80, 80)[None], slices, axis=0)
    flair = np.where(brain, 100, 0).astype(np.uint8)
    for column in (114, 134):
        flair[2:4, 110:146, column : column + 8] = 20
    flair[1:5, 60:196, 127:129] = 10  # the fissure
    return flair, signed_distance(brain)


def test_ventricles_are_found_and_their_distance_is_in_three_dimensions() -> None:
    flair, brain = head_with_ventricles()
    tumour = np.zeros(flair.shape, dtype=bool)
    found = find_ventricles(flair, brain, tumour)
    assert found[:, 120, 118].tolist() == [False, False, True, True, False, False]
    assert not found[:, :, 128].any()
    distance = distance_to(found, 5.0)
    assert distance[2:6, 120, 118].tolist() == [0, 0, 5, 10]
    tumour[2:4, 100:150, 100:128] = True  # its cysts are not ventricles
    assert not find_ventricles(flair, brain, tumour)[:, :, :128].any()
    empty = np.zeros_like(flair)
    none = find_ventricles(empty, empty, tumour)
    assert not none.any()
    assert (distance_to(none, 5.0) == FAR).all()
