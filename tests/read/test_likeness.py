"""Pictures that are not composites of MR, and pictures of several people."""

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
from gliosight.read.likeness import check_one_head, refuse_other_colours
from gliosight.study import MrSequence

from .builders import codes_of, read_path

Pictures = NDArray[np.uint8]


def composites(phantom: Phantom) -> Pictures:
    """(slices, rows, columns, 3) as the LGG layout has them."""
    order = (MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)
    return np.stack([to_bytes(phantom.sequences[name]) for name in order], -1)


def jet(part: NDArray[Any]) -> NDArray[Any]:
    return np.stack([1.5 - np.abs(4 * part - middle) for middle in (3, 2, 1)], -1)


def hot(part: NDArray[Any]) -> NDArray[Any]:
    return np.stack([part / 0.365, (part - 0.365) / 0.381, (part - 0.746) / 0.254], -1)


def copper(part: NDArray[Any]) -> NDArray[Any]:
    return np.stack([1.25 * part, 0.78 * part, 0.5 * part], -1)


def mapped(colours: Callable[[NDArray[Any]], NDArray[Any]], grey: Pictures) -> Pictures:
    return np.rint(255 * np.clip(colours(grey / 255), 0, 1)).astype(np.uint8)


def marked(grey: Pictures) -> Pictures:
    """Grey slices with a red box and yellow letters burnt in."""
    out = np.repeat(grey[..., None], 3, -1)
    out[:, 100:120, 100] = out[:, 100:120, 119] = (255, 0, 0)
    out[:, 4:12, 4:60] = (255, 255, 0)
    return out


def activated(grey: Pictures) -> Pictures:
    """Blobs of a functional study over grey slices."""
    rows, columns = np.indices(grey.shape[1:])
    blob = np.exp(-((rows - 120) ** 2 + (columns - 150) ** 2) / 225)
    return np.where(
        blob[..., None] > 0.3, mapped(hot, np.uint8(255 * blob)), grey[..., None]
    ).astype(np.uint8)


def photograph(grey: Pictures) -> Pictures:
    """Light and shade up to the border, in surfaces of several colours."""
    chance = np.random.default_rng(0)
    shade = sum(
        ndimage.zoom(chance.normal(0, 1, (size, size)), 256 / size, order=1) * weight
        for size, weight in ((4, 3), (16, 2), (64, 1), (256, 0.5))
    )
    tint = np.stack([ndimage.zoom(chance.normal(0, 1, (4, 4)), 64, order=1) for _ in range(3)], -1)
    values = 128 + 25 * np.asarray(shade)[..., None] + 12 * tint
    return np.clip(values, 0, 255).astype(np.uint8)[None]


def coloured_light(grey: Pictures, sigma: float = 16) -> Pictures:
    """Three smooth channels that have nothing to do with each other, and noise; no air."""
    chance = np.random.default_rng(len(grey))
    shape = (*grey.shape, 3)
    smooth = ndimage.gaussian_filter(chance.normal(size=shape), (0, sigma, sigma, 0))
    smooth -= smooth.min(axis=(0, 1, 2))
    values = 20 + 200 * smooth / smooth.max(axis=(0, 1, 2)) + chance.normal(0, 6, shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def as_jpeg(pictures: Pictures) -> Pictures:
    out = []
    for values in pictures:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "JPEG", quality=85)
        with Image.open(file) as image:
            out.append(np.asarray(image))
    return np.stack(out)


OTHERS: dict[str, Callable[[Pictures], Pictures]] = {
    "jet": lambda grey: mapped(jet, grey),
    "hot": lambda grey: mapped(hot, grey),
    "copper": lambda grey: mapped(copper, grey),
    "marks": marked,
    "activation": activated,
    "photograph": photograph,
    "light": coloured_light,
    "sharp light": lambda grey: coloured_light(grey, 4),
    "white background": lambda grey: coloured_light(grey) | np.uint8(255) * (grey < 50)[..., None],
}


@pytest.mark.parametrize("lossy", [False, True], ids=["lossless", "jpeg"])
@pytest.mark.parametrize("name", OTHERS)
def test_colour_that_is_no_composite(phantom: Phantom, name: str, lossy: bool) -> None:
    flair = to_bytes(phantom.sequences[MrSequence.FLAIR])[4:24:4]
    pictures = OTHERS[name](flair)
    with pytest.raises(UnsupportedInputError, match="not composites"):
        refuse_other_colours(as_jpeg(pictures) if lossy else pictures, "a")


@pytest.mark.parametrize("name", OTHERS)
def test_one_colour_picture(phantom: Phantom, tmp_path: Path, name: str) -> None:
    flair = to_bytes(phantom.sequences[MrSequence.FLAIR])[14:15]
    Image.fromarray(OTHERS[name](flair)[0]).save(tmp_path / "flair.png")
    with pytest.raises(UnsupportedInputError, match="not composites"):
        read_path(tmp_path / "flair.png")


@pytest.mark.parametrize("copies", [(), (0,), (2,), (0, 2)], ids=str)
def test_composites_are_read(phantom: Phantom, copies: tuple[int, ...]) -> None:
    """With sequences of their own and with copies of FLAIR, and as JPEG, and any single slice."""
    pictures = composites(phantom)
    for channel in copies:
        pictures[..., channel] = pictures[..., 1]
    refuse_other_colours(pictures, "a")
    refuse_other_colours(as_jpeg(pictures[::3]), "a")
    for values in pictures:
        refuse_other_colours(values[None], "a")


def test_deep_and_floating_composites_are_read(phantom: Phantom) -> None:
    pictures = composites(phantom)[::4]
    for values in (pictures.astype(np.uint16) * 16, pictures.astype(np.float32) / 255 - 0.5):
        refuse_other_colours(values, "a")


@pytest.fixture(scope="module")
def people() -> Pictures:
    """A middle slice of each of eight heads."""
    sequences = (MrSequence.FLAIR,)
    slices = []
    for seed in range(8):
        spec = PhantomSpec(
            seed=seed, matrix=96, pixel_mm=2.5, slices=5, slice_spacing_mm=10, sequences=sequences
        )
        values = to_bytes(make_phantom(spec).sequences[MrSequence.FLAIR])
        slices.append(values[2 + seed % 2])
    return np.stack(slices)


def test_pictures_of_several_people(people: Pictures, tmp_path: Path) -> None:
    for number, values in enumerate(people, start=10):
        tifffile.imwrite(tmp_path / f"Te-gl_{number:04}.tif", values)
    with pytest.raises(UnsupportedInputError, match="not look like slices of one head"):
        read_path(tmp_path)


def test_a_few_pictures_of_several_people_are_flagged(people: Pictures, tmp_path: Path) -> None:
    for number, values in enumerate(people[:5], start=10):
        tifffile.imwrite(tmp_path / f"Te-gl_{number:04}.tif", values)
    assert "SLICES_UNLIKE" in codes_of(read_path(tmp_path))


@pytest.mark.parametrize("part", [slice(None), slice(None, None, -1), slice(8, 20), slice(12, 16)])
def test_slices_of_one_head(phantom: Phantom, part: slice) -> None:
    flair = to_bytes(phantom.sequences[MrSequence.FLAIR])[part]
    assert check_one_head(flair, None, "a") == ()


@pytest.mark.parametrize("numbers", [range(0, 56, 2), range(5, 500, 17)], ids=str)
def test_only_numbers_that_follow_each_other_are_compared(people: Pictures, numbers: range) -> None:
    assert check_one_head(people, list(numbers)[: len(people)], "a") == ()


@pytest.mark.parametrize("sides", [(1, 1), (3, 3), (2, 64), (64, 2), (2, 600), (600, 1), (3, 3000)])
def test_narrow_pictures(sides: tuple[int, int]) -> None:
    """Sides shorter than the blocks that are averaged."""
    values = np.random.default_rng(0).integers(0, 256, (8, *sides, 3), np.uint8)
    for pictures in (values[:1], values):
        with contextlib.suppress(UnsupportedInputError):
            refuse_other_colours(pictures, "a")
    with contextlib.suppress(UnsupportedInputError):
        check_one_head(values[..., 0], None, "a")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("sides", "error"), [((3, 3), "mask"), ((2, 64), ""), ((64, 2), "")])
def test_narrow_files_are_answered(
    tmp_path: Path, sides: tuple[int, int], error: str, suffix: str
) -> None:
    path = tmp_path / f"flair.{suffix}"
    values = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    Image.fromarray(values).save(path)
    if error:  # nine pixels have no more than nine values
        with pytest.raises(DamagedInputError, match=error):
            read_path(path)
    else:
        assert read_path(path).shape == (1, *sides)


def test_real_patients(lgg_patient: Path) -> None:
    assert read_path(lgg_patient).shape[0] > 1
