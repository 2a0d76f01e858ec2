"""T1 and T1C on another grid than FLAIR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_nifti
from .test_nifti import PLACES


def ramp(shape: tuple[int, int, int], affine: NDArray[Any]) -> NDArray[np.float32]:
    """An image whose value is a linear function of the world position: interpolation is exact."""
    voxels = np.stack(np.meshgrid(*[range(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return (world @ np.array([1.0, 2.0, -0.5]) + 500).astype(np.float32)


@pytest.mark.parametrize("place", PLACES)
def test_resampled_where_the_world_is_shared(tmp_path: Path, place: str) -> None:
    flair_affine = PLACES[place]
    shape = (5, 24, 20)
    write_nifti(tmp_path / "flair.nii", make_volume(shape), flair_affine, codes=(1, 0))
    # A larger, finer grid of axial slices around FLAIR's, wherever that lies.
    corners = np.array([[i, j, k, 1] for i in (0, 19) for j in (0, 23) for k in (0, 4)])
    world = (corners @ flair_affine.T)[:, :3]
    low, high = world.min(0) - 2, world.max(0) + 2
    t1_affine = np.diag([1.1, 0.9, 1.3, 1])
    t1_affine[:3, 3] = low
    sides = np.ceil((high - low) / np.diag(t1_affine)[:3]).astype(int) + 1
    t1 = ramp((sides[2], sides[1], sides[0]), t1_affine)
    write_nifti(tmp_path / "t1.nii", t1, t1_affine, codes=(1, 0))
    study = read_path(tmp_path)
    assert codes_of(study) == ["T1_RESAMPLED", "T1C_MISSING"]
    got = study.sequences[MrSequence.T1].values
    np.testing.assert_allclose(got, ramp(shape, flair_affine), atol=0.01)


@pytest.mark.parametrize(
    ("codes", "shift", "flags"),
    [
        ((1, 1), 3.0, ["T1_RESAMPLED", "T1C_MISSING"]),  # the same world
        ((2, 0), 3.0, ["T1_LEFT_OUT", "T1C_MISSING"]),  # another world
        ((2, 1), 3.0, ["T1_RESAMPLED", "T1C_MISSING"]),  # shared by the qforms
        ((0, 0), 3.0, ["T1_LEFT_OUT", "T1C_MISSING"]),  # lies nowhere
        ((2, 0), 0.0, ["T1C_MISSING"]),  # one grid, whatever it is called
        ((1, 1), 0.01, ["T1C_MISSING"]),  # off by rounding only
        ((1, 1), 15.0, ["T1_LEFT_OUT", "T1C_MISSING"]),  # hardly overlaps
    ],
)
def test_rules(tmp_path: Path, codes: tuple[int, int], shift: float, flags: list[str]) -> None:
    moved = np.diag([1.0, 1, 5, 1])
    moved[0, 3] = shift
    write_nifti(tmp_path / "flair.nii", make_volume())
    write_nifti(tmp_path / "t1.nii", make_volume(seed=1), moved, codes=codes)
    study = read_path(tmp_path)
    assert codes_of(study) == flags
    if flags == ["T1C_MISSING"]:  # not a value touched
        np.testing.assert_array_equal(study.sequences[MrSequence.T1].values, make_volume(seed=1))


def test_neither_lies_anywhere(tmp_path: Path) -> None:
    for seed, name in enumerate(("flair", "t1")):
        write_nifti(tmp_path / f"{name}.nii", make_volume(seed=seed), codes=(0, 0))
    study = read_path(tmp_path)
    assert codes_of(study) == ["NO_GEOMETRY", "GRID_ASSUMED", "T1C_MISSING"]
    assert MrSequence.T1 in study.sequences


@pytest.mark.parametrize(
    ("shapes", "flags"),
    [
        (((5, 24, 20), (5, 24, 20)), ["NO_GEOMETRY", "GRID_ASSUMED", "T1C_MISSING"]),
        (((5, 24, 20), (6, 24, 20)), ["NO_GEOMETRY", "T1_LEFT_OUT", "T1C_MISSING"]),
        (((104, 112, 108), (104, 112, 108)), ["SIDE_UNKNOWN", "T1C_MISSING"]),
        (((104, 112, 108), (104, 112, 107)), ["SIDE_UNKNOWN", "T1_LEFT_OUT", "T1C_MISSING"]),
    ],
)
def test_an_identity_is_no_shared_world(
    tmp_path: Path, shapes: tuple[tuple[int, int, int], ...], flags: list[str]
) -> None:
    for seed, (name, shape) in enumerate(zip(("flair", "t1"), shapes, strict=True)):
        write_nifti(tmp_path / f"{name}.nii", make_volume(shape, seed=seed), np.eye(4))
    assert codes_of(read_path(tmp_path)) == flags


def test_outside_is_air(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flair.nii", make_volume())
    moved = np.diag([1.0, 1, 5, 1])
    moved[1, 3] = 10.0  # rows 0 to 9 of FLAIR lie outside
    write_nifti(tmp_path / "t1.nii", make_volume(seed=1) + 20, moved)
    t1 = read_path(tmp_path).sequences[MrSequence.T1].values
    assert (t1[:, :9] == 20).all()
    np.testing.assert_allclose(t1[:, 10:], make_volume(seed=1)[:, :-10] + 20.0)
