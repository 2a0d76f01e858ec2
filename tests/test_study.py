"""Geometry says where a voxel lies, and refuses what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from gliosight.study import Geometry, MrSequence, Study, Volume
from tests.conftest import make_geometry


def test_axial_stack_in_words() -> None:
    # Slices upwards, rows to the back, columns to the patient's left: the layout of the LGG set.
    geometry = make_geometry(4, (5.0, 1.0, 0.8), origin=(10.0, -20.0, 30.0))
    np.testing.assert_allclose(geometry.to_world(np.array([0, 0, 0])), [10, -20, 30])
    np.testing.assert_allclose(geometry.to_world(np.array([1, 0, 0])), [10, -20, 35])
    np.testing.assert_allclose(geometry.to_world(np.array([0, 2, 0])), [10, -22, 30])
    np.testing.assert_allclose(geometry.to_world(np.array([0, 0, 5])), [6, -20, 30])
    assert geometry.slice_spacing == pytest.approx(5)
    assert geometry.pixel_area == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(5))
def test_affine_agrees_with_to_world_for_oblique_stacks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    geometry = make_geometry(6, (3.0, 0.7, 1.1), rotation, tuple(rng.normal(size=3) * 100))
    affine = geometry.affine
    assert affine is not None
    voxels = rng.uniform(0, 5, size=(20, 3))
    np.testing.assert_allclose(
        geometry.to_world(voxels), voxels @ affine[:3, :3].T + affine[:3, 3], atol=1e-9
    )
    assert (np.diff(geometry.slice_positions) > 0).all()


def test_uneven_slices_have_positions_but_no_affine() -> None:
    even = make_geometry(4)
    origins = even.origins.copy()
    origins[3] += 7.0 * even.normal
    uneven = Geometry(origins, even.row_direction, even.column_direction, even.spacing)
    assert uneven.affine is None
    assert uneven.slice_spacing == pytest.approx(5.0)  # the median, not the mean
    np.testing.assert_allclose(uneven.to_world(np.array([3, 0, 0])), origins[3])


def test_single_slice_takes_its_thickness() -> None:
    one = make_geometry(1)
    assert one.slice_spacing is None
    assert one.affine is None
    thick = Geometry(one.origins, one.row_direction, one.column_direction, one.spacing, 4.0)
    assert thick.slice_spacing == 4.0
    assert thick.affine is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (0.0, 1.0)}, "not positive"),
        ({"spacing": (float("nan"), 1.0)}, "not positive"),
        ({"row_direction": (0, -2.0, 0)}, "not a unit vector"),
        ({"row_direction": (-0.7071068, -0.7071068, 0)}, "not perpendicular"),
        ({"origins": np.zeros((2, 3))}, "repeat"),
        ({"origins": np.array([[0, 0, 0], [0, 0, 5], [0, 0, 2.0]])}, "turn round"),
        ({"origins": np.full((2, 3), np.inf)}, "not finite"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, object], message: str) -> None:
    even = make_geometry(2)
    fields: dict[str, object] = {
        "origins": even.origins,
        "row_direction": even.row_direction,
        "column_direction": even.column_direction,
        "spacing": even.spacing,
    }
    with pytest.raises(ValueError, match=message):
        Geometry(**(fields | change))  # type: ignore[arg-type]


def test_study_needs_flair_and_one_grid() -> None:
    flair, other = Volume(np.zeros((2, 3, 4))), Volume(np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match="FLAIR"):
        Study("x", {MrSequence.T1: flair}, ("a", "b"), "arrays")
    with pytest.raises(ValueError, match="T1 is"):
        Study("x", {MrSequence.FLAIR: flair, MrSequence.T1: other}, ("a", "b"), "arrays")
    with pytest.raises(ValueError, match="slice names"):
        Study("x", {MrSequence.FLAIR: flair}, ("a", "a"), "arrays")


def test_voxels_and_world_are_inverse_of_each_other() -> None:
    """Oblique, anisotropic, uneven and sheared: what leads there leads back."""
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    steps = np.array([0.0, 4.0, 9.5, 13.0, 20.0])
    origins = np.array([5.0, -70.0, 12.0]) + steps[:, None] * (axes[0] + 0.1 * axes[1])
    geometry = Geometry(origins, axes[1], axes[2], (0.7, 1.1))
    voxels = np.random.default_rng(4).uniform((0, -5, -5), (4, 60, 60), size=(50, 3))
    np.testing.assert_allclose(geometry.to_voxels(geometry.to_world(voxels)), voxels, atol=1e-9)
    # Beyond the ends it goes on by the usual spacing.
    below = (
        geometry.to_world(np.array([0.0, 3.0, 3.0])) - 2 * geometry.slice_spacing * geometry.normal
    )
    assert geometry.to_voxels(below)[0] == pytest.approx(-2)
