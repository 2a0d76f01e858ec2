"""Studies of arrays: what is an image, and whose axes an affine is for."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight import read_study
from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, UsageError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read import from_arrays
from gliosight.study import MrSequence

from .builders import codes_of, make_volume
from .test_nifti import PLACES

BOTH_MISSING = ["T1_MISSING", "T1C_MISSING"]
COUNTING = np.arange(9 * 24 * 20).reshape(9, 24, 20)
Head = tuple[NDArray[Any], NDArray[np.float64]]


@pytest.mark.parametrize("place", PLACES)
def test_affine_is_kept(place: str) -> None:
    ours = PLACES[place][:, [2, 1, 0, 3]]
    study = from_arrays(make_volume(), affine=ours)
    assert study.geometry is not None
    assert study.geometry.affine is not None
    np.testing.assert_allclose(study.geometry.affine, ours, atol=1e-9)


def test_without_affine_there_is_no_geometry_and_nothing_is_shared() -> None:
    values = make_volume()
    study = from_arrays(values, make_volume(seed=1), make_volume(seed=2))
    values[:] = 0
    assert study.flair.values.any()
    assert study.geometry is None
    assert study.flags == ()
    assert set(study.sequences) == set(MrSequence)


def test_one_slice_and_floats() -> None:
    study = from_arrays(make_volume()[0] / 3.0, affine=np.diag([4.0, 1, 1, 1]))
    assert study.shape == (1, 24, 20)
    assert study.flair.values.dtype == np.float32
    assert codes_of(study) == ["SINGLE_SLICE", *BOTH_MISSING]
    assert codes_of(from_arrays(make_volume()[0])) == ["SINGLE_SLICE", *BOTH_MISSING]


def test_seventeen_values_are_an_image() -> None:
    assert from_arrays((COUNTING % 17).astype(np.uint8)).shape == COUNTING.shape


LAST_ROW = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1.0]])
NO_AFFINES = (np.eye(3), "here", [[1, 2], [3]], np.eye(4)[:3], np.eye(4) * 1j, [None] * 4, LAST_ROW)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"flair": None}, UsageError, "no FLAIR"),
        ({"flair": [[1, 2], [3]]}, UsageError, "not an array of numbers"),
        ({"flair": np.zeros(5)}, UnsupportedInputError, "shape"),
        ({"flair": np.zeros((0, 4, 4))}, UnsupportedInputError, "shape"),
        ({"flair": np.zeros((2, 4, 4), complex)}, UnsupportedInputError, "complex"),
        ({"flair": np.full((2, 4, 4), np.nan)}, DamagedInputError, "NaN"),
        ({"flair": make_volume() > 100}, DamagedInputError, "two values only"),
        ({"flair": (COUNTING % 16).astype(np.uint8)}, DamagedInputError, "16 values only"),
        ({"flair": np.ma.masked_all((3, 8, 8))}, DamagedInputError, "masked"),
        ({"flair": make_volume(), "t1": make_volume()[1:]}, DamagedInputError, "shape"),
        *[({"flair": make_volume(), "affine": no}, UsageError, "affine") for no in NO_AFFINES],
    ],
)
def test_refused(arguments: dict[str, Any], error: type[GliosightError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        from_arrays(**arguments)
    assert isinstance(caught.value, ValueError)


# So far away the slices' steps drown in rounding; a flipped bit of a header does that.
FAR = [np.diag([5.0, 1, 1, 1]) + np.outer([far, far, far, 0], [0, 0, 0, 1]) for far in (1e6, 1e300)]


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), *FAR], ids=["zeros", "far", "too far"])
def test_unusable_affine(affine: NDArray[np.float64]) -> None:
    study = from_arrays(np.arange(480.0).reshape(4, 10, 12), affine=affine)
    assert study.geometry is None
    assert "NO_GEOMETRY" in codes_of(study)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_what_is_masked_is_air(dtype: str) -> None:
    values = make_volume(dtype=dtype) + 9
    hidden = np.zeros(values.shape, dtype=bool)
    hidden[:, :4] = True
    values[:, :4] = 250
    if values.dtype.kind == "f":
        values[:, 2] = np.nan
    masked = np.ma.masked_array(values, hidden)
    for source in (masked, nib.Nifti1Image(masked.T, np.eye(4))):
        study = read_study({"FLAIR": source})
        assert codes_of(study)[0] == "MASKED_AS_AIR"
        assert not study.flair.values[hidden].any()
        np.testing.assert_array_equal(study.flair.values[~hidden], values[~hidden])
    assert codes_of(read_study(np.ma.masked_array(make_volume()))) == BOTH_MISSING


SPECS = {
    "thick slices": PhantomSpec(seed=4, matrix=128, pixel_mm=1.8, slices=28, slice_spacing_mm=5),
    "small matrix": PhantomSpec(seed=5, matrix=72, pixel_mm=3, slices=24, slice_spacing_mm=6),
    "isotropic": PhantomSpec(seed=6, matrix=96, pixel_mm=2.2, slices=64, slice_spacing_mm=2.2),
}


@pytest.fixture(scope="module", params=SPECS)
def head(request: pytest.FixtureRequest) -> Head:
    """FLAIR as nibabel gives it, (i, j, k), with its affine."""
    phantom = make_phantom(SPECS[request.param])
    assert phantom.geometry.affine is not None
    return phantom.sequences[MrSequence.FLAIR].T, phantom.geometry.affine[:, [2, 1, 0, 3]]


def doubted(values: NDArray[Any], affine: Any, flag: str, words: str) -> None:
    """Refused where the voxels' sizes say it, too; only flagged for the isotropic head of 64 slices."""
    if min(values.shape) < 64:
        with pytest.raises(UsageError, match=words):
            read_study({"FLAIR": values}, affine=affine)
    else:
        assert flag in codes_of(read_study(values, affine=affine))


@pytest.mark.parametrize("mistake", ["transposed", "affine alone", "moveaxis"])
def test_an_affine_of_nibabel_is_not_taken_for_ours(head: Head, mistake: str) -> None:
    """The data transposed and the affine as it was, or the other way round."""
    values, affine = head
    if mistake == "affine alone":
        affine = affine[:, [2, 1, 0, 3]]
    else:
        values = values.T if mistake == "transposed" else np.moveaxis(values, -1, 0)
    doubted(values, affine, "AFFINE_DOUBTED", r"those of nibabel.*\[2, 1, 0, 3\]")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_no_right_affine_is_doubted(head: Head, order: tuple[int, ...]) -> None:
    """Axial, sagittal and coronal slices, rows and columns either way round, flipped or not."""
    values, affine = head
    for flips in ((False, False, False), (True, False, True), (False, True, False)):
        turn = np.eye(4)[:, [*order, 3]]
        for axis, flip in enumerate(flips):
            if flip:
                turn[:, 3] += turn[:, axis] * (values.shape[order[axis]] - 1)
                turn[:, axis] = -turn[:, axis]
        flipped = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        study = read_study(values.transpose(order)[flipped], affine=affine @ turn)
        assert codes_of(study) == BOTH_MISSING


@pytest.mark.parametrize("affine", [None, np.eye(4), np.zeros((4, 4))])
def test_axes_in_another_order_are_seen_without_an_affine(head: Head, affine: Any) -> None:
    values = head[0]
    assert "AXES_DOUBTED" not in codes_of(read_study(values.T, affine=affine))
    for wrong in (values, np.moveaxis(values, 1, 0)):
        doubted(wrong, affine, "AXES_DOUBTED", r"nibabel's.*transpose\(2, 1, 0\)")
    assert "AXES_DOUBTED" in codes_of(read_study(values.T.transpose(0, 2, 1), affine=affine))


@pytest.mark.parametrize("shape", [(1, 128, 128), (12, 64, 64), (20, 30, 30)])
def test_noise_and_single_slices_are_not_doubted(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 900, shape)
    for spacing in ([5.0, 1, 1, 1], [1.0, 1, 1, 1], [3.0, 0.9, 1, 1]):
        assert "AFFINE_DOUBTED" not in codes_of(read_study(values, affine=np.diag(spacing)))
