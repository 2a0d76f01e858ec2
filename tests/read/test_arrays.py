"""Studies of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gliosight.errors import DamagedInputError, UnsupportedInputError, UsageError
from gliosight.read import from_arrays
from gliosight.study import MrSequence

from .builders import codes_of, make_volume
from .test_nifti import PLACES


@pytest.mark.parametrize("place", PLACES)
def test_affine_is_kept(place: str) -> None:
    ours = PLACES[place][:, [2, 1, 0, 3]]
    study = from_arrays(make_volume(), affine=ours)
    assert study.geometry is not None
    assert study.geometry.affine is not None
    np.testing.assert_allclose(study.geometry.affine, ours, atol=1e-9)


def test_without_affine_there_is_no_geometry() -> None:
    study = from_arrays(make_volume(), make_volume(seed=1), make_volume(seed=2))
    assert study.geometry is None
    assert study.flags == ()
    assert set(study.sequences) == set(MrSequence)


@pytest.mark.parametrize(("values", "words"), [(2, "two values"), (16, "16 values")])
def test_a_mask_and_a_map_of_labels_are_no_image(values: int, words: str) -> None:
    labels = np.arange(9 * 24 * 20).reshape(9, 24, 20) % values
    with pytest.raises(DamagedInputError, match=f"FLAIR holds {words} only"):
        from_arrays(labels.astype(np.uint8))
    one_more = (np.arange(9 * 24 * 20).reshape(9, 24, 20) % 17).astype(np.uint8)
    assert from_arrays(one_more).shape == one_more.shape


def test_the_callers_array_is_not_shared() -> None:
    values = make_volume()
    study = from_arrays(values)
    values[:] = 0
    assert study.flair.values.any()


def test_one_slice_and_floats() -> None:
    study = from_arrays(make_volume()[0] / 3.0, affine=np.diag([4.0, 1, 1, 1]))
    assert study.shape == (1, 24, 20)
    assert study.flair.values.dtype == np.float32
    assert codes_of(study) == ["SINGLE_SLICE", "T1_MISSING", "T1C_MISSING"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"flair": np.zeros(5)}, UnsupportedInputError),
        ({"flair": np.zeros((0, 4, 4))}, UnsupportedInputError),
        ({"flair": np.zeros((2, 4, 4), complex)}, UnsupportedInputError),
        ({"flair": np.full((2, 4, 4), np.nan)}, DamagedInputError),
        ({"flair": make_volume() > 100}, DamagedInputError),
        ({"flair": make_volume(), "t1": make_volume()[1:]}, DamagedInputError),
        ({"flair": make_volume(), "affine": np.eye(3)}, UsageError),
        ({"flair": make_volume(), "affine": "here"}, UsageError),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        from_arrays(**arguments)
    assert isinstance(caught.value, ValueError)


def test_unusable_affine() -> None:
    study = from_arrays(make_volume(), affine=np.zeros((4, 4)))
    assert study.geometry is None
    assert codes_of(study)[0] == "NO_GEOMETRY"


@pytest.mark.parametrize("far", [1e6, 1e18, 1e300])
def test_an_origin_no_scanner_has_is_no_geometry(far: float) -> None:
    # So far away the slices' steps drown in rounding; a flipped bit of a header does that.
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = far
    study = from_arrays(np.arange(480.0).reshape(4, 10, 12), affine=affine)
    assert study.geometry is None
    assert "NO_GEOMETRY" in {one.code for one in study.flags}
