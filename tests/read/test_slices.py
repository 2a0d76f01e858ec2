"""Slices: which channel is what, in which order, and what was missing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from gliosight.errors import DamagedInputError, NothingReadableError, UnsupportedInputError
from gliosight.study import MrSequence

from .builders import codes_of, make_volume, read_path, write_lgg

BOTH_MISSING = ["T1_MISSING", "T1C_MISSING"]


def test_lgg_folder(tmp_path: Path) -> None:
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
    assert study.slice_names[:3] == tuple(f"TCGA_CS_4941_19960909_{n}" for n in (1, 2, 3))
    assert study.slice_names[-1].endswith("_12")


def test_one_slice_of_a_patient(tmp_path: Path) -> None:
    stack = write_lgg(tmp_path / "P")
    study = read_path(tmp_path / "P" / "P_3.tif")
    assert study.study_id == "P_3"
    assert study.slice_names == ("P_3",)
    np.testing.assert_array_equal(study.flair.values, stack[2:3, ..., 1])


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
    assert {name.value for name in study.sequences} == present
    assert codes_of(study) == flags


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


# What a file of FLAIR can look like; the pixels stay what they are.
FLAIR = make_volume((1, 24, 20), seed=1)[0]
WIDE = (make_volume((1, 24, 20), seed=1, dtype="uint16") * 211)[0]


@pytest.mark.parametrize(
    ("name", "image", "notes"),
    [
        ("grey.png", Image.fromarray(FLAIR), []),
        ("grey16.png", Image.fromarray(WIDE), []),
        ("palette.png", Image.fromarray(FLAIR).convert("P"), []),
        ("grey_alpha.png", Image.fromarray(FLAIR).convert("LA"), ["ALPHA_DROPPED"]),
        ("grey.tif", Image.fromarray(FLAIR), []),
        ("lzw.tif", Image.fromarray(FLAIR), []),
        ("float.tif", Image.fromarray(FLAIR.astype(np.float32)), []),
    ],
)
def test_one_channel_is_flair(
    tmp_path: Path, name: str, image: Image.Image, notes: list[str]
) -> None:
    options = {"compression": "tiff_lzw"} if name.startswith("lzw") else {}
    image.save(tmp_path / name, **options)
    study = read_path(tmp_path / name)
    np.testing.assert_array_equal(study.flair.values[0], WIDE if "16" in name else FLAIR)
    assert codes_of(study) == [*notes, *BOTH_MISSING, "SEQUENCE_ASSUMED"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_three_equal_channels_are_flair(tmp_path: Path, mode: str) -> None:
    Image.fromarray(FLAIR).convert(mode).save(tmp_path / "a.png")
    study = read_path(tmp_path / "a.png")
    np.testing.assert_array_equal(study.flair.values[0], FLAIR)
    alpha = ["ALPHA_DROPPED"] if mode == "RGBA" else []
    notes = ["THREE_EQUAL_CHANNELS", *BOTH_MISSING, "SEQUENCE_ASSUMED"]
    assert codes_of(study) == [*alpha, *notes]


def test_jpeg_says_that_it_is_lossy(tmp_path: Path) -> None:
    Image.fromarray(FLAIR).save(tmp_path / "a.jpg", quality=95)
    study = read_path(tmp_path / "a.jpg")
    assert codes_of(study)[0] == "LOSSY_SOURCE"
    assert np.abs(study.flair.values[0].astype(int) - FLAIR).mean() < 5


def test_copy_of_flair_survives_jpeg(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 200, 64, dtype=np.uint8), (64, 1))
    t1c = smooth.T.copy()
    for values in (smooth, t1c):  # the air around
        values[:8] = values[-8:] = values[:, :8] = values[:, -8:] = 0
    picture = Image.fromarray(np.stack([smooth, smooth, t1c], -1))
    picture.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    study = read_path(tmp_path / "a.jpg")
    assert set(study.sequences) == {MrSequence.FLAIR, MrSequence.T1C}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"rowsperstrip": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_tiff_with_three_channels(tmp_path: Path, options: dict[str, object], dtype: str) -> None:
    if options.get("predictor") and dtype.startswith("float"):
        pytest.skip("a predictor of its own")
    volume = make_volume((3, 24, 20), dtype=dtype)
    planar = options.get("planarconfig") == "separate"
    pixels = volume if planar else np.moveaxis(volume, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    study = read_path(tmp_path / "a.tif")
    for channel, name in enumerate((MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)):
        np.testing.assert_array_equal(study.sequences[name].values[0], volume[channel])
    wanted = "float32" if dtype.startswith("float") else dtype
    assert study.flair.values.dtype == np.dtype(wanted)


@pytest.mark.parametrize("compression", ["lzw", "jpeg"])
def test_compressions_without_imagecodecs(tmp_path: Path, compression: str) -> None:
    """Decoded by Pillow, whether or not imagecodecs is installed."""
    values = np.tile(np.linspace(0, 200, 64, dtype=np.uint8), (64, 1))
    name = {"lzw": "tiff_lzw", "jpeg": "jpeg"}[compression]
    Image.fromarray(values).save(tmp_path / "a.tif", compression=name)
    study = read_path(tmp_path / "a.tif")
    assert np.abs(study.flair.values[0].astype(int) - values).max() <= 8
    assert ("LOSSY_SOURCE" in codes_of(study)) == (compression == "jpeg")


def test_unknown_compression_is_named(tmp_path: Path) -> None:
    pixels = np.stack([WIDE] * 3, -1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zstd")
    with pytest.raises(UnsupportedInputError, match="ZSTD"):
        read_path(tmp_path / "a.tif")


def test_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", 255 - FLAIR, photometric="miniswhite")
    np.testing.assert_array_equal(read_path(tmp_path / "a.tif").flair.values[0], FLAIR)


def test_tiff_palette(tmp_path: Path) -> None:
    table = np.stack([np.arange(255, -1, -1, dtype=np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "a.tif", FLAIR, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_path(tmp_path / "a.tif").flair.values[0], 255 - FLAIR)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_are_slices(tmp_path: Path, bigtiff: bool) -> None:
    volume = make_volume((12, 24, 20))
    tifffile.imwrite(tmp_path / "stack.tif", volume, photometric="minisblack", bigtiff=bigtiff)
    study = read_path(tmp_path / "stack.tif")
    np.testing.assert_array_equal(study.flair.values, volume)
    assert study.slice_names[0] == "stack_p001"
    assert study.slice_names[-1] == "stack_p012"


def test_pages_compressed_by_pillow(tmp_path: Path) -> None:
    volume = make_volume((3, 24, 20))
    first, *more = [Image.fromarray(one) for one in volume]
    first.save(tmp_path / "a.tif", save_all=True, append_images=more, compression="tiff_lzw")
    np.testing.assert_array_equal(read_path(tmp_path / "a.tif").flair.values, volume)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.tif", "lzw.tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    image = Image.fromarray(FLAIR)
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "lzw.tif":
        image.save(tmp_path / kind, compression="tiff_lzw", tiffinfo={274: orientation})
    elif kind == "a.tif":
        image.save(tmp_path / kind, tiffinfo={274: orientation})
    else:
        image.save(tmp_path / kind, exif=exif, quality=100)
    stored = Image.fromarray(FLAIR)
    if kind == "a.jpg":
        with Image.open(tmp_path / kind) as saved:
            stored = saved.copy()
    stored.getexif()[274] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(stored))
    study = read_path(tmp_path / kind)
    np.testing.assert_array_equal(study.flair.values[0], wanted)
    assert ("TURNED_UPRIGHT" in codes_of(study)) == (orientation > 1)


def test_grey_slices_among_colour_ones(tmp_path: Path) -> None:
    """PNG optimisers save a blank slice of an LGG patient as grey."""
    colour = np.moveaxis(make_volume((3, 24, 20)), 0, -1)
    Image.fromarray(colour).save(tmp_path / "p_1.png")
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


def test_nothing_printed_resolution_is_no_geometry(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", FLAIR, resolution=(25.4, 25.4), resolutionunit=2)
    assert read_path(tmp_path / "a.tif").geometry is None
    assert capfd.readouterr() == ("", "")


def test_cmyk_and_other_colours(tmp_path: Path) -> None:
    Image.fromarray(FLAIR).convert("CMYK").save(tmp_path / "a.jpg")
    Image.fromarray(FLAIR).convert("CMYK").save(tmp_path / "a.tif")
    Image.fromarray(FLAIR).convert("RGB").convert("LAB").save(tmp_path / "b.tif")
    for name in ("a.jpg", "a.tif", "b.tif"):
        with pytest.raises(UnsupportedInputError, match="not read"):
            read_path(tmp_path / name)


def test_png_of_16_bits_and_three_channels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.stack([WIDE] * 3, -1)))
    with pytest.raises(UnsupportedInputError, match="16-bit TIFF"):
        read_path(tmp_path / "a.png")


def test_stack_among_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a_1.tif", FLAIR)
    tifffile.imwrite(tmp_path / "a_2.tif", make_volume((3, 24, 20)), photometric="minisblack")
    with pytest.raises(UnsupportedInputError, match="study of its own"):
        read_path(tmp_path)


def test_pages_of_different_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(FLAIR)
        tif.write(FLAIR[:-1])
    with pytest.raises(DamagedInputError, match=r"page 2 is 23 x 20 .* page 1 is 24 x 20"):
        read_path(tmp_path / "a.tif")


def test_thumbnail_page_is_no_slice(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(FLAIR)
        tif.write(FLAIR[::2, ::2], subfiletype=1)
    assert read_path(tmp_path / "a.tif").shape == (1, 24, 20)


def test_imagej_channels_are_refused(tmp_path: Path) -> None:
    volume = make_volume((6, 24, 20)).reshape(3, 2, 24, 20)
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(UnsupportedInputError, match="2 channels"):
        read_path(tmp_path / "a.tif")


def test_names_that_say_another_sequence(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(FLAIR).save(tmp_path / f"p_t2_{number}.png")
    with pytest.raises(UnsupportedInputError, match="no FLAIR, the name says T2"):
        read_path(tmp_path)


def test_one_of_several_patients_in_a_flat_folder(tmp_path: Path) -> None:
    first = write_lgg(tmp_path / "A")
    write_lgg(tmp_path / "B")
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in [*(tmp_path / "A").iterdir(), *(tmp_path / "B").iterdir()]:
        file.rename(flat / file.name)
    with pytest.raises(UnsupportedInputError, match=r"2 studies \(A, B\).*name one.*flat/A"):
        read_path(flat)
    study = read_path(flat / "A")
    assert study.study_id == "A"
    np.testing.assert_array_equal(study.flair.values, first[..., 1])
    with pytest.raises(NothingReadableError):
        read_path(flat / "C")


def test_interlaced_and_bilevel_png(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 8, 2, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0\xf0\0\x0f")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(DamagedInputError, match="mask"):  # read right, and so seen to be one
        read_path(tmp_path / "a.png")
