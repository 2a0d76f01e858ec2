"""Connected bodies: the same as of the whole volume, wherever the mask lies in it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gliosight.bodies import CONNECTED_26, box_of, label_bodies


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.002, 0.05, 0.6])
def test_bodies_are_those_of_the_whole_volume(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((12, 30, 25), dtype=bool)
    mask[3:9, 5:21, 10:] = rng.random((6, 16, 15)) < share
    labels, boxes = label_bodies(mask)
    expected, count = ndimage.label(mask, structure=CONNECTED_26)
    assert np.array_equal(labels, expected)
    assert boxes == ndimage.find_objects(expected)
    assert len(boxes) == count


def test_a_box_holds_all_that_is_set_and_no_more() -> None:
    mask = np.zeros((4, 6, 8), dtype=bool)
    mask[1, 2, 7] = mask[3, 0, 4] = True
    assert box_of(mask) == (slice(1, 4), slice(0, 3), slice(4, 8))


def test_nothing_has_no_body_and_an_empty_box() -> None:
    nothing = np.zeros((3, 4, 5), dtype=bool)
    labels, boxes = label_bodies(nothing)
    assert not labels.any()
    assert boxes == []
    assert nothing[box_of(nothing)].size == 0
