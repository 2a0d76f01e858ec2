"""The head: found, weighed, and halved, whatever the scanner did to the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gliosight.head import find_head, fit_midplane, head_box
from gliosight.normalisation import measure_intensity
from gliosight.phantom import Phantom
from gliosight.study import Geometry, MrSequence
from tests.conftest import make_geometry


def _flair(phantom: Phantom) -> np.ndarray:
    return phantom.sequences[MrSequence.FLAIR].astype(np.float32)


def test_head_is_found_in_a_phantom(phantom: Phantom) -> None:
    head = find_head(_flair(phantom))
    assert head.shape == phantom.truth.shape
    assert head[phantom.truth].mean() > 0.99  # the lesion lies in the head
    assert 0.15 < head.mean() < 0.6
    assert not head[:, :4].any()
    assert not head[:, :, :4].any()


@pytest.mark.parametrize(
    ("gain", "offset"), [(1.0, 0.0), (0.001, 0.0), (25.0, 0.0), (1.0, -500.0), (0.2, 3000.0)]
)
def test_gain_and_offset_change_nothing(phantom: Phantom, gain: float, offset: float) -> None:
    values = _flair(phantom)
    head = find_head(values)
    other = values * gain + offset
    assert (find_head(other) == head).mean() > 0.999
    one, two = measure_intensity(values, head), measure_intensity(other, head)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(two.normalise(other), one.normalise(values), atol=2e-3)


def test_one_hot_voxel_changes_nothing(phantom: Phantom) -> None:
    # A single voxel at 32,767 once set the scale of a whole volume.
    values = _flair(phantom)
    hot = values.copy()
    hot[3, 100, 100] = 32767
    head = find_head(values)
    assert (find_head(hot) == head).mean() > 0.999
    one, two = measure_intensity(values, head), measure_intensity(hot, head)
    assert one is not None
    assert two is not None
    assert two.mean == pytest.approx(one.mean, rel=1e-3)
    assert two.std == pytest.approx(one.std, rel=1e-3)


def test_no_contrast_is_no_head() -> None:
    flat = np.full((3, 40, 40), 7.0)
    head = find_head(flat)
    assert not head.any()
    assert measure_intensity(flat, head) is None
    assert head_box(head) == ((0, 40), (0, 40))


def test_box_holds_the_head_but_not_a_cable() -> None:
    head = np.zeros((4, 100, 120), dtype=bool)
    head[:, 20:80, 30:90] = True
    head[0, 50, 90:118] = True  # one line of pixels sticking out
    assert head_box(head) == ((20, 80), (30, 90))


def _ball(geometry: Geometry, shape: tuple[int, int, int], centre: np.ndarray) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    away = (geometry.to_world(grid) - centre) / np.array([70.0, 90.0, 60.0])
    return (away**2).sum(axis=-1) < 1


AXES = {
    "axial": np.array([[0, 0, 1.0], [0, -1.0, 0], [-1.0, 0, 0]]),
    "axial, mirrored": np.array([[0, 0, -1.0], [0, 1.0, 0], [1.0, 0, 0]]),
    "coronal": np.array([[0, -1.0, 0], [0, 0, -1.0], [-1.0, 0, 0]]),
    "sagittal": np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]),
}


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("moved", [-150.0, 0.0, 150.0])
def test_midplane_is_the_heads_own(name: str, moved: float) -> None:
    # World x = 0 is where the scanner's centre was: moving the patient must not move his midline.
    axes, shape = AXES[name], (64, 64, 64)
    start = -axes.T @ np.full(3, 31.5 * 3.2) + np.array([moved, 0, 0])
    geometry = make_geometry(64, (3.2, 3.2, 3.2), axes, tuple(start))
    head = _ball(geometry, shape, np.array([moved, 0, 0]))
    plane = fit_midplane(head, geometry)
    assert plane is not None
    assert plane.distances_to_right(np.array([moved, 5.0, 5.0])) == pytest.approx(0, abs=1.7)
    assert plane.distances_to_right(np.array([moved + 30, 0, 0])) == pytest.approx(30, abs=2)
    assert plane.distances_to_right(np.array([moved - 30, 0, 0])) == pytest.approx(-30, abs=2)


def test_midplane_of_a_single_slice() -> None:
    geometry = make_geometry(1, (5.0, 3.0, 3.0), origin=(95.0, 95.0, 0.0))
    head = _ball(geometry, (1, 64, 64), np.zeros(3))
    plane = fit_midplane(head, geometry)
    assert plane is not None
    assert plane.distances_to_right(np.array([40.0, 0, 0])) == pytest.approx(40, abs=2)
