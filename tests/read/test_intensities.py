"""NaN and infinite voxels: what is background, what is inside the head, and what they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.errors import DamagedInputError
from gliosight.read.intensities import from_doubles, make_finite, refuse_mask
from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_nifti

SHAPE = (9, 48, 40)
GRID = np.indices(SHAPE)
# A brain as stripping leaves it: no plane of the edge is touched.
BRAIN = (
    ((GRID + 0.5 - np.array(SHAPE).reshape(3, 1, 1, 1) / 2) / [[[[4]]], [[[17]]], [[[14]]]]) ** 2
).sum(0) < 1
FISSURE = BRAIN & (np.abs(GRID[2] - 20) < 1) & (GRID[1] < 20)
TILTED = GRID[0] * 5 + GRID[1] < 30  # a resampled slab whose corner lies outside the source
EVERYTHING = np.ones(SHAPE, dtype=bool)


def box(slices: slice, rows: slice, columns: slice) -> NDArray[np.bool_]:
    out = np.zeros(SHAPE, dtype=bool)
    out[slices, rows, columns] = True
    return out


HOLE = box(slice(4, 5), slice(22, 24), slice(18, 22))  # 8 voxels in the brain
LARGE_HOLE = box(slice(3, 6), slice(20, 28), slice(16, 24))
CHANCE = np.random.default_rng(3).random(SHAPE)

# Where numbers are missing, and how many voxels count as background and as lost in the head.
BACKGROUND = {
    "outside a stripped brain": (~BRAIN, int((~BRAIN).sum()), 0),
    "and along its fissure": (~BRAIN | FISSURE, int((~BRAIN | FISSURE).sum()), 0),
    "and a few inside": (~BRAIN | HOLE, int((~BRAIN).sum()), 8),
    "a corner outside the source": (TILTED, int(TILTED.sum()), 0),
    "a frame of one voxel": (
        ~box(slice(None), slice(1, -1), slice(1, -1)),
        9 * (48 * 40 - 46 * 38),
        0,
    ),
    "the slices at both ends": (~box(slice(2, -1), slice(None), slice(None)), 3 * 48 * 40, 0),
    "a few inside alone": (HOLE, 0, 8),
}
LOST = {
    "everything": EVERYTHING,
    "a hole in a stripped brain": ~BRAIN | LARGE_HOLE,
    "a hole in the last slice of a head": box(slice(8, 9), slice(10, 30), slice(10, 30)),
    "every third row": GRID[1] % 3 == 0,
    "a slice": box(slice(4, 5), slice(None), slice(None)),
    "a slice of a stripped brain": ~BRAIN | box(slice(4, 5), slice(None), slice(None)),
    "two of a hundred anywhere": CHANCE < 0.02,
    "four of ten anywhere": CHANCE < 0.4,
    "every second": GRID.sum(0) % 2 == 0,
}


def image() -> NDArray[np.float32]:
    return make_volume(SHAPE, dtype="float32") + 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", BACKGROUND)
def test_background_is_air(case: str, value: float) -> None:
    where, outside, inside = BACKGROUND[case]
    values = image()
    values[where] = value
    got, flags = make_finite(values, "FLAIR", "flair.nii")
    cut = case == "the slices at both ends"
    codes = ["BACKGROUND_NOT_FINITE"] * bool(outside) + ["HEAD_CUT_OFF"] * cut
    codes += ["NOT_FINITE"] * bool(inside)
    assert [one.code for one in flags] == codes
    np.testing.assert_array_equal(got[~where], image()[~where])
    smallest = image()[~where].min()
    assert smallest > 0
    assert np.count_nonzero(got == 0) == outside  # what tools write around a brain
    assert np.count_nonzero(got[where] == smallest) == inside
    if inside:
        assert f"{inside} voxels" in flags[-1].message


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_in_the_head_is_refused(case: str) -> None:
    values = image()
    values[LOST[case]] = np.nan
    with pytest.raises(DamagedInputError, match=r"% of the voxels are NaN or infinite.*flair.nii"):
        make_finite(values, "FLAIR", "flair.nii")


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("part", [0.4, 0.6])
@pytest.mark.parametrize("from_end", [False, True])
def test_a_background_that_cuts_the_head_is_told(axis: int, part: float, *, from_end: bool) -> None:
    values = image()
    half = GRID[axis] + 0.5 < part * SHAPE[axis]
    values[(half if from_end else ~half)] = np.nan
    for stripped in (values, np.where(BRAIN, values, np.nan)):
        _, flags = make_finite(stripped, "FLAIR", "flair.nii")
        assert [one.code for one in flags] == ["BACKGROUND_NOT_FINITE", "HEAD_CUT_OFF"]


def parcellation(dtype: str = "int16") -> NDArray[np.generic]:
    """An atlas: more than 16 regions of one value each, in a brain."""
    regions = 1 + GRID[0] + 10 * (GRID[1] // 9) + 100 * (GRID[2] // 8)
    return np.where(BRAIN, regions, 0).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_areas_of_one_value_each_are_labels(dtype: str) -> None:
    labels = parcellation(dtype)
    assert len(np.unique(labels)) > 16
    with pytest.raises(DamagedInputError, match="a map of labels"):
        refuse_mask(labels, "FLAIR", "atlas.nii")


@pytest.mark.parametrize("case", ["8 bits", "few grey values", "cut off", "enlarged", "stripped"])
def test_images_with_equal_neighbours_are_images(case: str) -> None:
    smooth = ndimage.gaussian_filter(image(), 1)
    values = {
        "8 bits": smooth.astype(np.uint8),
        "few grey values": (image() / 6).astype(np.uint8),
        "cut off": np.clip(image(), 0, 120).astype(np.int16),
        "enlarged": image().astype(np.int16).repeat(4, axis=1).repeat(4, axis=2),
        "stripped": np.where(BRAIN, smooth, 0).astype(np.uint8),
    }[case]
    refuse_mask(values, "FLAIR", "flair.nii")


def test_a_single_slice_has_background_too() -> None:
    values = image()[4:5]
    values[~BRAIN[4:5]] = np.nan
    got, flags = make_finite(values, "FLAIR", "a.tif")
    assert [one.code for one in flags] == ["BACKGROUND_NOT_FINITE"]
    assert (got[~BRAIN[4:5]] == 0).all()


def test_air_is_darkest_where_values_are_negative() -> None:
    values = image() - 100
    values[~BRAIN] = np.nan
    got, _ = make_finite(values, "FLAIR", "flair.nii")
    assert (got[~BRAIN] == values[BRAIN].min()).all()
    assert values[BRAIN].min() < 0


def test_it_holds_for_every_sequence_before_anything_is_resampled(tmp_path: Path) -> None:
    """A NaN that reached the interpolation would spoil eight voxels."""
    flair, t1 = image(), make_volume(SHAPE, seed=1, dtype="float32") + 20
    flair[~BRAIN] = t1[~BRAIN] = np.nan
    moved = np.diag([1.0, 1.0, 5.0, 1.0])
    moved[0, 3] = 0.5
    write_nifti(tmp_path / "flair.nii", flair)
    write_nifti(tmp_path / "t1.nii", t1, moved)
    study = read_path(tmp_path)
    background = "BACKGROUND_NOT_FINITE"
    assert codes_of(study) == [background, background, "T1_RESAMPLED", "T1C_MISSING"]
    resampled = study.sequences[MrSequence.T1].values
    assert np.isfinite(resampled).all()
    assert (resampled[0] == 0).all()
    for name in ("FLAIR", "T1"):
        assert any(f"background of {name} (" in one.message for one in study.flags)


@pytest.mark.parametrize("offset", [2.0**40, -(2.0**40), 1e30])
def test_a_large_offset_leaves_the_contrast(offset: float) -> None:
    """Float32 has 24 bits, and MR has no offset: the smallest number becomes 0."""
    values = make_volume(dtype="int16")
    wanted = values - values.min()
    np.testing.assert_array_equal(from_doubles(values, 1, offset), wanted)
    if abs(offset) < 2**50:
        np.testing.assert_array_equal(from_doubles(values + offset), wanted)
    slopes = np.linspace(1, 2, len(values))
    got = from_doubles(values, slopes, np.full(len(values), offset))
    scaled = values * slopes[:, None, None]
    np.testing.assert_allclose(got, scaled - scaled.min(), rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 3000.0, -1024.0])
def test_an_ordinary_offset_stays(offset: float) -> None:
    values = make_volume(dtype="int16")
    np.testing.assert_array_equal(
        from_doubles(values, 2, offset), (values * 2.0 + offset).astype("f4")
    )


def test_a_large_offset_in_files(tmp_path: Path) -> None:
    values = make_volume(dtype="float64")
    wanted = (values - values.min()).astype("float32")
    paths = [tmp_path / name for name in ("flair.nii", "a.tif")]
    write_nifti(paths[0], values + 2.0**40)
    tifffile.imwrite(paths[1], values + 2.0**40, photometric="minisblack")
    for path in paths:
        np.testing.assert_array_equal(read_path(path).flair.values, wanted)
    scaled = write_nifti(
        tmp_path / "scaled.nii", make_volume(dtype="int16"), scl_slope=1, scl_inter=-1e9
    )
    np.testing.assert_array_equal(read_path(scaled).flair.values, wanted)


def test_a_slice_whose_head_is_infinite_is_not_air(tmp_path: Path) -> None:
    values = np.where(BRAIN, image(), 0)
    values[4, :30, 5:35] = np.inf  # as far as the edge of the picture
    values[4, 30:] = 0
    with pytest.raises(DamagedInputError, match="slice 5 has infinite voxels and air alone"):
        make_finite(values, "FLAIR", "flair.nii")
