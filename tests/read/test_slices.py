"""Slices: which channel is what, in which order, and what was missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    UnsupportedInputError,
)
from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_lgg

BOTH_MISSING = ["T1_MISSING", "T1C_MISSING"]
# One channel as a file has it; the pixels stay what they are.
FLAIR = make_volume((1, 24, 20), seed=1)[0]
GREY = Image.fromarray(FLAIR)
WIDE = (make_volume((1, 24, 20), seed=1, dtype="uint16") * 211)[0]
STACK = make_volume((12, 24, 20))
COLOUR = np.moveaxis(STACK[:3], 0, -1)


def test_lgg_folder_and_one_slice_of_it(tmp_path: Path) -> None:
    stack = write_lgg(tmp_path / "TCGA_CS_4941_19960909", slices=range(1, 13))
    study = read_path(tmp_path / "TCGA_CS_4941_19960909")
    assert study.study_id == "TCGA_CS_4941_19960909"
    assert study.kind == "slices"
    assert study.geometry is None
    assert study.flags == ()
    assert list(study.sequences) == [MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C]
    for channel, name in enumerate((MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)):
        np.testing.assert_array_equal(study.sequences[name].values, stack[..., channel])
    # By number: _2 before _10.
    assert study.slice_names == tuple(f"TCGA_CS_4941_19960909_{n}" for n in range(1, 13))
    single = read_path(tmp_path / "TCGA_CS_4941_19960909" / "TCGA_CS_4941_19960909_3.tif")
    assert single.slice_names == (single.study_id,) == ("TCGA_CS_4941_19960909_3",)
    np.testing.assert_array_equal(single.flair.values, stack[2:3, ..., 1])
    assert [(note.code, note.message) for note in single.flags] == [
        ("SINGLE_SLICE", "There is one slice: the network has no neighbouring slices to look at.")
    ]


@pytest.mark.parametrize(
    ("copies", "present", "flags"),
    [
        ("T1 T1C", {"FLAIR"}, ["THREE_EQUAL_CHANNELS", *BOTH_MISSING]),
        ("T1C", {"FLAIR", "T1"}, ["T1C_MISSING"]),
        ("T1", {"FLAIR", "T1C"}, ["T1_MISSING"]),
    ],
)
def test_copies_of_flair_are_left_out(
    tmp_path: Path, copies: str, present: set[str], flags: list[str]
) -> None:
    write_lgg(tmp_path / "P", copies=copies)
    study = read_path(tmp_path / "P")
    assert ({name.value for name in study.sequences}, codes_of(study)) == (present, flags)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([1, 2, 4, 5], "1 slice number is missing (3); the volume is a lower bound."),
        ([1, 20_000_000], "19,999,998 slice numbers are missing (2 to 19999999)"),
    ],
)
def test_missing_slices(tmp_path: Path, numbers: list[int], message: str) -> None:
    write_lgg(tmp_path / "P", slices=numbers)
    study = read_path(tmp_path / "P")
    assert codes_of(study) == ["MISSING_SLICES"]
    assert study.flags[0].message.startswith(message)
    assert len(study.slice_names) == len(numbers)


@pytest.mark.parametrize(
    ("name", "image", "notes"),
    [
        ("grey.png", GREY, []),
        ("grey16.png", Image.fromarray(WIDE), []),
        ("palette.png", GREY.convert("P"), []),
        ("grey_alpha.png", GREY.convert("LA"), ["ALPHA_DROPPED"]),
        ("colour.png", GREY.convert("RGB"), ["THREE_EQUAL_CHANNELS"]),
        ("colour_alpha.png", GREY.convert("RGBA"), ["ALPHA_DROPPED", "THREE_EQUAL_CHANNELS"]),
        ("grey.tif", GREY, []),
        ("float.tif", Image.fromarray(FLAIR.astype(np.float32)), []),
    ],
)
def test_one_channel_is_flair(
    tmp_path: Path, name: str, image: Image.Image, notes: list[str]
) -> None:
    image.save(tmp_path / name)
    study = read_path(tmp_path / name)
    np.testing.assert_array_equal(study.flair.values[0], WIDE if "16" in name else FLAIR)
    assert codes_of(study) == [*notes, "SINGLE_SLICE", *BOTH_MISSING, "SEQUENCE_ASSUMED"]


def test_jpeg_is_lossy_and_copies_of_flair_survive_it(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 200, 64, dtype=np.uint8), (64, 1))
    t1c = smooth.T.copy()
    for values in (smooth, t1c):  # the air around
        values[:8] = values[-8:] = values[:, :8] = values[:, -8:] = 0
    picture = Image.fromarray(np.stack([smooth, smooth, t1c], -1))
    picture.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    study = read_path(tmp_path / "a.jpg")
    assert set(study.sequences) == {MrSequence.FLAIR, MrSequence.T1C}
    assert codes_of(study)[0] == "LOSSY_SOURCE"
    assert np.abs(study.flair.values[0].astype(int) - smooth).mean() < 5
    Image.fromarray(smooth).save(tmp_path / "b.tif", compression="jpeg")
    assert codes_of(read_path(tmp_path / "b.tif"))[0] == "LOSSY_SOURCE"


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "lzw"}], ids=str)
def test_pages_and_channels_of_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", STACK, photometric="minisblack", **options)
    study = read_path(tmp_path / "stack.tif")
    np.testing.assert_array_equal(study.flair.values, STACK)
    assert study.slice_names == tuple(f"stack_p{number:03d}" for number in range(1, 13))
    for dtype, read_as in (("uint16", "uint16"), ("float64", "float32")):
        tifffile.imwrite(tmp_path / "a.tif", COLOUR.astype(dtype), photometric="rgb", **options)
        study = read_path(tmp_path / "a.tif")
        for channel, name in enumerate((MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)):
            np.testing.assert_array_equal(study.sequences[name].values[0], STACK[channel])
        assert study.flair.values.dtype == np.dtype(read_as)


def test_tiff_whose_numbers_are_not_greys(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """White is zero, a palette; a resolution is no geometry, a thumbnail no slice."""
    table = np.stack([np.arange(255, -1, -1, dtype=np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "a.tif", 255 - FLAIR, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", 255 - FLAIR, photometric="palette", colormap=table)
    with tifffile.TiffWriter(tmp_path / "c.tif") as tif:
        tif.write(FLAIR, resolution=(25.4, 25.4), resolutionunit=2)
        tif.write(FLAIR[::2, ::2], subfiletype=1)
    for name in ("a.tif", "b.tif", "c.tif"):
        study = read_path(tmp_path / name)
        np.testing.assert_array_equal(study.flair.values, FLAIR[None])
        assert study.geometry is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.tif", "lzw.tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"exif": exif, "quality": 100}
    if kind.endswith("tif"):
        packing = "tiff_lzw" if kind == "lzw.tif" else None
        options = {"tiffinfo": {274: orientation}, "compression": packing}
    GREY.save(tmp_path / kind, **options)
    stored = GREY.copy()
    if kind == "a.jpg":
        with Image.open(tmp_path / kind) as saved:
            stored = saved.copy()
    stored.getexif()[274] = orientation
    study = read_path(tmp_path / kind)
    upright = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(study.flair.values[0], upright)
    assert ("TURNED_UPRIGHT" in codes_of(study)) == (orientation > 1)


def test_grey_slices_among_colour_ones(tmp_path: Path) -> None:
    """PNG optimisers save a blank slice of an LGG patient as grey."""
    Image.fromarray(COLOUR).save(tmp_path / "p_1.png")
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(tmp_path / "p_2.png")
    study = read_path(tmp_path)
    assert set(study.sequences) == set(MrSequence)
    assert not study.sequences[MrSequence.T1].values[1].any()


def test_order_by_name_where_nothing_is_numbered(tmp_path: Path) -> None:
    for index, name in enumerate(["base", "middle", "top"]):
        Image.fromarray(make_volume((1, 9, 9), seed=index)[0]).save(tmp_path / f"{name}.png")
    study = read_path(tmp_path)
    assert study.slice_names == ("base", "middle", "top")
    assert codes_of(study)[0] == "ORDER_BY_NAME"


def _stack_among_slices(folder: Path) -> None:
    tifffile.imwrite(folder / "a_1.tif", FLAIR)
    tifffile.imwrite(folder / "a_2.tif", STACK, photometric="minisblack")


def _pages_of_two_sizes(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "a.tif") as tif:
        tif.write(FLAIR)
        tif.write(FLAIR[:-1])


def _pages_of_two_colours(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "a.tif") as tif:
        tif.write(FLAIR)
        tif.write(FLAIR, photometric="miniswhite")


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (lambda at: GREY.convert("CMYK").save(at / "a.jpg"), UnsupportedInputError, "not read"),
        (lambda at: GREY.convert("CMYK").save(at / "a.tif"), UnsupportedInputError, "not read"),
        (
            lambda at: GREY.convert("RGB").convert("LAB").save(at / "a.tif"),
            UnsupportedInputError,
            "not read",
        ),
        (
            lambda at: (at / "a.png").write_bytes(imagecodecs.png_encode(np.stack([WIDE] * 3, -1))),
            UnsupportedInputError,
            "16-bit TIFF",
        ),
        (_stack_among_slices, UnsupportedInputError, "study of its own"),
        (_pages_of_two_sizes, DamagedInputError, "page 2 is 23 x 20 .* page 1 is 24 x 20"),
        (_pages_of_two_colours, DamagedInputError, "page 2 is 24 x 20 x 1 uint8, white is zero"),
        (lambda at: GREY.save(at / "p_t2_1.png"), UnsupportedInputError, "the name says T2"),
        (lambda at: (GREY.convert("1")).save(at / "a.png"), DamagedInputError, "mask"),
    ],
    ids=["CMYK", "CMYK in TIFF", "LAB", "wide", "stack", "sizes", "colours", "T2", "bilevel"],
)
def test_refused(tmp_path: Path, write: Any, error: type[GliosightError], words: str) -> None:
    write(tmp_path)
    with pytest.raises(error, match=words):
        read_path(tmp_path)
