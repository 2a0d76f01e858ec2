"""What pixels must be: finite, no mask, no copy; pictures of other things or of several people."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.files import to_bytes
from gliosight.read.checks import (
    check_one_head,
    from_doubles,
    keep_real,
    make_finite,
    refuse_mask,
    refuse_other_colours,
)
from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_nifti

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
SHAPE = (9, 48, 40)
GRID = np.indices(SHAPE)
# A brain as stripping leaves it: no plane of the edge is touched.
BRAIN = (
    ((GRID + 0.5 - np.array(SHAPE).reshape(3, 1, 1, 1) / 2) / [[[[4]]], [[[17]]], [[[14]]]]) ** 2
).sum(0) < 1
FISSURE = BRAIN & (np.abs(GRID[2] - 20) < 1) & (GRID[1] < 20)
TILTED = GRID[0] * 5 + GRID[1] < 30  # a resampled slab whose corner lies outside the source


def box(slices: slice, rows: slice, columns: slice) -> NDArray[np.bool_]:
    out = np.zeros(SHAPE, dtype=bool)
    out[slices, rows, columns] = True
    return out


ALL = slice(None)
HOLE = box(slice(4, 5), slice(22, 24), slice(18, 22))  # 8 voxels in the brain
LARGE_HOLE = box(slice(3, 6), slice(20, 28), slice(16, 24))
CHANCE = np.random.default_rng(3).random(SHAPE)

# Where numbers are missing, and how many voxels count as background and as lost in the head.
BACKGROUND = {
    "outside a stripped brain": (~BRAIN, int((~BRAIN).sum()), 0),
    "and along its fissure": (~BRAIN | FISSURE, int((~BRAIN | FISSURE).sum()), 0),
    "and a few inside": (~BRAIN | HOLE, int((~BRAIN).sum()), 8),
    "a corner outside the source": (TILTED, int(TILTED.sum()), 0),
    "a frame of one voxel": (~box(ALL, slice(1, -1), slice(1, -1)), 9 * (48 * 40 - 46 * 38), 0),
    "the slices at both ends": (~box(slice(2, -1), ALL, ALL), 3 * 48 * 40, 0),
    "a few inside alone": (HOLE, 0, 8),
}
LOST = {
    "everything": np.ones(SHAPE, dtype=bool),
    "a hole in a stripped brain": ~BRAIN | LARGE_HOLE,
    "a hole in the last slice of a head": box(slice(8, 9), slice(10, 30), slice(10, 30)),
    "every third row": GRID[1] % 3 == 0,
    "a slice": box(slice(4, 5), ALL, ALL),
    "a slice of a stripped brain": ~BRAIN | box(slice(4, 5), ALL, ALL),
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
    assert [note.code for note in flags] == codes
    np.testing.assert_array_equal(got[~where], image()[~where])
    smallest = image()[~where].min()
    assert smallest > 0
    assert np.count_nonzero(got == 0) == outside  # what tools write around a brain
    assert np.count_nonzero(got[where] == smallest) == inside
    if inside:
        assert f"{inside} voxels" in flags[-1].message


def test_background_of_single_slices_and_of_negative_values() -> None:
    values = np.where(BRAIN, image(), np.nan)
    got, flags = make_finite(values[4:5], "FLAIR", "a.tif")
    assert [note.code for note in flags] == ["BACKGROUND_NOT_FINITE"]
    assert (got[~BRAIN[4:5]] == 0).all()
    got, _ = make_finite(values - 100, "FLAIR", "flair.nii")
    assert (got[~BRAIN] == values[BRAIN].min() - 100).all()
    assert values[BRAIN].min() < 100


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_in_the_head_is_refused(case: str) -> None:
    values = np.where(LOST[case], np.nan, image())
    with pytest.raises(DamagedInputError, match=r"% of the voxels are NaN or infinite.*flair.nii"):
        make_finite(values, "FLAIR", "flair.nii")


def test_a_slice_whose_head_is_infinite_is_not_air() -> None:
    values = np.where(BRAIN, image(), 0)
    values[4, :30, 5:35] = np.inf  # as far as the edge of the picture
    values[4, 30:] = 0
    with pytest.raises(DamagedInputError, match="slice 5 has infinite voxels and air alone"):
        make_finite(values, "FLAIR", "flair.nii")


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("part", [0.4, 0.6])
@pytest.mark.parametrize("from_end", [False, True])
def test_a_background_that_cuts_the_head(axis: int, part: float, *, from_end: bool) -> None:
    half = GRID[axis] + 0.5 < part * SHAPE[axis]
    values = np.where(half if from_end else ~half, np.nan, image())
    for stripped in (values, np.where(BRAIN, values, np.nan)):
        _, flags = make_finite(stripped, "FLAIR", "flair.nii")
        assert [note.code for note in flags] == ["BACKGROUND_NOT_FINITE", "HEAD_CUT_OFF"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_areas_of_one_value_each_are_labels(dtype: str) -> None:
    """An atlas: more than 16 regions of one value each, in a brain."""
    regions = 1 + GRID[0] + 10 * (GRID[1] // 9) + 100 * (GRID[2] // 8)
    labels = np.where(BRAIN, regions, 0).astype(dtype)
    assert len(np.unique(labels)) > 16
    with pytest.raises(DamagedInputError, match="a map of labels"):
        refuse_mask(labels, "FLAIR", "atlas.nii")


def test_images_with_equal_neighbours_are_images() -> None:
    smooth = ndimage.gaussian_filter(image(), 1)
    for values in (
        smooth.astype(np.uint8),
        (image() / 6).astype(np.uint8),  # few grey values
        np.clip(image(), 0, 120).astype(np.int16),  # cut off above
        image().astype(np.int16).repeat(4, axis=1).repeat(4, axis=2),  # enlarged
        np.where(BRAIN, smooth, 0).astype(np.uint8),
    ):
        refuse_mask(values, "FLAIR", "flair.nii")


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


def test_offsets_in_files(tmp_path: Path) -> None:
    values = make_volume(dtype="float64")
    wanted = (values - values.min()).astype("float32")
    write_nifti(tmp_path / "flair.nii", values + 2.0**40)
    tifffile.imwrite(tmp_path / "a.tif", values + 2.0**40, photometric="minisblack")
    stored = make_volume(dtype="int16")
    write_nifti(tmp_path / "scaled.nii", stored, scl_slope=1, scl_inter=-1e9)
    for name in ("flair.nii", "a.tif", "scaled.nii"):
        np.testing.assert_array_equal(read_path(tmp_path / name).flair.values, wanted)
    for offset in (0.0, 3000.0, -1024.0):  # ordinary ones stay
        scaled = (stored * 2.0 + offset).astype("f4")
        np.testing.assert_array_equal(from_doubles(stored, 2, offset), scaled)


def test_copies_and_sequences_without_contrast_are_left_out() -> None:
    flair, own = make_volume((20, 24, 20)), make_volume((20, 24, 20), seed=1)
    half = np.concatenate([flair[:10], own[10:]])
    nearly = flair.copy()
    nearly[:, ::4] += 2
    for t1, t1c, lossy, codes in (
        (own, flair, False, ["T1C_MISSING"]),
        (own, own, False, ["T1C_MISSING"]),  # a copy of T1
        (half, own, False, ["T1_PARTLY_COPY", "T1C_PARTLY_COPY"]),
        (own * 0, own, False, ["T1_LEFT_OUT"]),
        (nearly, own, False, []),
        (nearly, own, True, ["T1_MISSING"]),
    ):
        real, flags = keep_real({FLAIR: flair, T1: t1, T1C: t1c}, lossy=lossy)
        assert [note.code for note in flags] == codes
        assert len(real) == 3 - sum(not code.endswith("COPY") for code in codes)
    (absent,) = keep_real({FLAIR: flair, T1: own})[1]
    assert absent.message == "There is no T1C; FLAIR stands in for it."
    (copied,) = keep_real({FLAIR: flair, T1: own, T1C: own})[1]
    assert copied.message == "There is no T1C, only a copy of T1; FLAIR stands in for it."
    blank = np.zeros_like(flair)  # a FLAIR without contrast
    _, flags = keep_real({FLAIR: blank, T1: own}, explained=[T1C])
    assert flags == ()


def mapped(colours: Callable[[NDArray[Any]], list[NDArray[Any]]], grey: NDArray[Any]) -> Any:
    return np.rint(255 * np.clip(np.stack(colours(grey / 255), -1), 0, 1)).astype(np.uint8)


def jet(part: NDArray[Any]) -> list[NDArray[Any]]:
    return [1.5 - np.abs(4 * part - middle) for middle in (3, 2, 1)]


def hot(part: NDArray[Any]) -> list[NDArray[Any]]:
    return [part / 0.365, (part - 0.365) / 0.381, (part - 0.746) / 0.254]


def copper(part: NDArray[Any]) -> list[NDArray[Any]]:
    return [1.25 * part, 0.78 * part, 0.5 * part]


def marked(grey: NDArray[Any]) -> Any:
    """Grey slices with a red box and yellow letters burnt in."""
    out = np.repeat(grey[..., None], 3, -1)
    out[:, 100:120, 100] = out[:, 100:120, 119] = (255, 0, 0)
    out[:, 4:12, 4:60] = (255, 255, 0)
    return out


def photograph(_: NDArray[Any]) -> Any:
    """Light and shade up to the border, in surfaces of several colours."""
    chance = np.random.default_rng(0)
    shade = sum(
        ndimage.zoom(chance.normal(0, 1, (size, size)), 256 / size, order=1) * weight
        for size, weight in ((4, 3), (16, 2), (64, 1), (256, 0.5))
    )
    tint = np.stack([ndimage.zoom(chance.normal(0, 1, (4, 4)), 64, order=1) for _ in range(3)], -1)
    values = 128 + 25 * np.asarray(shade)[..., None] + 12 * tint
    return np.clip(values, 0, 255).astype(np.uint8)[None]


def coloured_light(grey: NDArray[Any], sigma: float = 16) -> Any:
    """Three smooth channels that have nothing to do with each other, and noise; no air."""
    chance = np.random.default_rng(len(grey))
    shape = (*grey.shape, 3)
    smooth = ndimage.gaussian_filter(chance.normal(size=shape), (0, sigma, sigma, 0))
    smooth -= smooth.min(axis=(0, 1, 2))
    values = 20 + 200 * smooth / smooth.max(axis=(0, 1, 2)) + chance.normal(0, 6, shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def as_jpeg(pictures: NDArray[Any]) -> Any:
    out = []
    for values in pictures:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "JPEG", quality=85)
        with Image.open(file) as picture:
            out.append(np.asarray(picture))
    return np.stack(out)


OTHERS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "jet": lambda grey: mapped(jet, grey),
    "hot": lambda grey: mapped(hot, grey),
    "copper": lambda grey: mapped(copper, grey),
    "marks": marked,
    "photograph": photograph,
    "light": coloured_light,
    "sharp light": lambda grey: coloured_light(grey, 4),
    "white background": lambda grey: coloured_light(grey) | np.uint8(255) * (grey < 50)[..., None],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_colour_that_is_no_composite(phantom: Phantom, tmp_path: Path, name: str) -> None:
    flair = to_bytes(phantom.sequences[FLAIR])
    several = OTHERS[name](flair[4:24:4])
    Image.fromarray(OTHERS[name](flair[14:15])[0]).save(tmp_path / "flair.png")
    for call in (
        lambda: refuse_other_colours(several, "a"),
        lambda: refuse_other_colours(as_jpeg(several), "a"),
        lambda: read_path(tmp_path / "flair.png"),
    ):
        with pytest.raises(UnsupportedInputError, match="not composites"):
            call()


@pytest.mark.slow
@pytest.mark.parametrize("copies", [(), (0,), (2,), (0, 2)], ids=str)
def test_composites_are_read(phantom: Phantom, copies: tuple[int, ...]) -> None:
    """With sequences of their own or copies of FLAIR, as JPEG, deep, as floats, and any single slice."""
    pictures = np.stack([to_bytes(phantom.sequences[name]) for name in (T1, FLAIR, T1C)], -1)
    for channel in copies:
        pictures[..., channel] = pictures[..., 1]
    part = pictures[::4]
    for values in (
        pictures,
        as_jpeg(part),
        part.astype(np.uint16) * 16,
        part / np.float32(255) - 0.5,
    ):
        refuse_other_colours(values, "a")
    for values in pictures:
        refuse_other_colours(values[None], "a")


@pytest.fixture(scope="module")
def people() -> NDArray[np.uint8]:
    """A middle slice of each of eight heads."""
    slices = []
    for seed in range(8):
        spec = PhantomSpec(
            seed=seed, matrix=96, pixel_mm=2.5, slices=5, slice_spacing_mm=10, sequences=(FLAIR,)
        )
        slices.append(to_bytes(make_phantom(spec).sequences[FLAIR])[2 + seed % 2])
    return np.stack(slices)


def test_pictures_of_several_people(people: NDArray[np.uint8], tmp_path: Path) -> None:
    for number, values in enumerate(people, start=10):
        tifffile.imwrite(tmp_path / f"Te-gl_{number:04}.tif", values)
        if number == 14:
            assert "SLICES_UNLIKE" in codes_of(read_path(tmp_path))
    with pytest.raises(UnsupportedInputError, match="not look like slices of one head"):
        read_path(tmp_path)
    # Only numbers that follow each other are compared.
    for numbers in (range(0, 56, 2), range(5, 500, 17)):
        assert check_one_head(people, list(numbers)[: len(people)], "a") == ()


@pytest.mark.parametrize("part", [slice(None), slice(None, None, -1), slice(8, 20), slice(12, 16)])
def test_slices_of_one_head(phantom: Phantom, part: slice) -> None:
    assert check_one_head(to_bytes(phantom.sequences[FLAIR])[part], None, "a") == ()


@pytest.mark.parametrize("sides", [(1, 1), (3, 3), (2, 64), (64, 2), (2, 600), (600, 1), (3, 3000)])
def test_narrow_pictures(tmp_path: Path, sides: tuple[int, int]) -> None:
    """Sides shorter than the blocks that are averaged."""
    values = np.random.default_rng(0).integers(0, 256, (8, *sides, 3), np.uint8)
    for pictures in (values[:1], values):
        with contextlib.suppress(UnsupportedInputError):
            refuse_other_colours(pictures, "a")
    with contextlib.suppress(UnsupportedInputError):
        check_one_head(values[..., 0], None, "a")
    for suffix in ("png", "tif"):
        Image.fromarray(values[0]).save(tmp_path / f"flair.{suffix}")
        with contextlib.suppress(DamagedInputError, UnsupportedInputError):
            assert read_path(tmp_path / f"flair.{suffix}").shape == (1, *sides)


def test_real_patients(lgg_patient: Path) -> None:
    assert read_path(lgg_patient).shape[0] > 1
