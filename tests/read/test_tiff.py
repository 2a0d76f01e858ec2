"""TIFF: every way of packing gives the pixels of the uncompressed twin, or is refused by name."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read import tiff
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from tests.counting import little_memory, steps

from .builders import make_volume

ROWS, COLUMNS = 40, 33
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 7},
    "tiled planes": {"planarconfig": "separate", "tile": (16, 32)},
}
FLAIR = make_volume((1, ROWS, COLUMNS), seed=1)[0]
VOLUME = make_volume((6, 24, 20))
SMOOTH = np.tile(np.linspace(0, 200, 64, dtype=np.uint8), (64, 1))


def numbers(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Over the whole range of the type: signs and the highest bit count."""
    chance = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return chance.normal(0, 1000, shape).astype(dtype)
    bounds = np.iinfo(dtype)
    return chance.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


def written(values: NDArray[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def by_libtiff(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "TIFF", **options)
    return out.getvalue()


def decoded(data: bytes) -> NDArray[Any]:
    return tiff.decode_tiff(data, "a.tif", Budget(DEFAULT_LIMITS)).pages


def is_read_as(data: bytes, wanted: NDArray[Any], named: str | None) -> None:
    """Gives these pixels, or is refused with a text that holds ``named``."""
    if named:
        with pytest.raises(UnsupportedInputError, match=f"(?i){named}"):
            decoded(data)
    else:
        np.testing.assert_array_equal(np.squeeze(decoded(data)), np.squeeze(wanted))


def with_tag(data: bytes, **values: int) -> bytes:
    """Other values in the directory, which tifffile would not write."""
    raw = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        for name, value in values.items():
            tag = tif.pages.first.tags[name]
            size = 2 if tag.dtype == 3 else 4
            at = tag.valueoffset + (tag.count - 1) * size
            raw[at : at + size] = value.to_bytes(size, "little")
    return bytes(raw)


@pytest.mark.slow
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_packed_is_read_like_its_uncompressed_twin(dtype: str, byteorder: str) -> None:
    """Compression x type x byte order x white x predictor x layout."""
    predictors = (None, 3) if dtype.startswith("float") else (None, 2)
    for photometric in ("minisblack", "miniswhite", "rgb"):
        for layout, layout_options in LAYOUTS.items():
            planes = "planarconfig" in layout_options
            if photometric != "rgb" and (planes or layout == "strips"):
                continue
            shape = (3, ROWS, COLUMNS) if planes else (ROWS, COLUMNS, 3)
            values = numbers(dtype, shape if photometric == "rgb" else (ROWS, COLUMNS))
            options = {**layout_options, "photometric": photometric, "byteorder": byteorder}
            twin = decoded(written(values, **options))
            if photometric != "miniswhite":
                wanted = np.moveaxis(values, 0, -1) if planes else values
                wanted = wanted.astype("float32") if "float" in dtype else wanted
                np.testing.assert_array_equal(twin[0], wanted.reshape(twin[0].shape))
            for compression in ("lzw", "zlib", "adobe_deflate", "packbits", "lzma"):
                for predictor in predictors:
                    data = written(values, compression=compression, predictor=predictor, **options)
                    where = f"{photometric}, {layout}, {compression}, predictor {predictor}"
                    np.testing.assert_array_equal(decoded(data), twin, where)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_white_is_zero(dtype: str) -> None:
    """Black is white, in steps of the same size."""
    values = FLAIR.astype(dtype)
    read = decoded(written(values, photometric="miniswhite", compression="lzw"))[0, ..., 0]
    np.testing.assert_array_equal(np.diff(read.astype(float)), -np.diff(values.astype(float)))


def test_white_is_zero_at_each_pages_own_depth() -> None:
    values = np.arange(0, 3200, 200, dtype=np.uint16).reshape(4, 4)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as tif:
        for bits in (12, 16):
            white = np.uint16(2**bits - 1) - values
            tif.write(white, photometric="miniswhite", bitspersample=bits, metadata=None)
    np.testing.assert_array_equal(decoded(out.getvalue())[..., 0], [values, values])


def test_written_by_libtiff() -> None:
    image = Image.fromarray(FLAIR)
    flipped = np.packbits(np.unpackbits(FLAIR, bitorder="little")).reshape(FLAIR.shape)
    tag = written(flipped, extratags=[(65_000, "H", 1, 2, True)])
    for data in (
        by_libtiff(image, compression="tiff_lzw", tiffinfo={317: 2}),
        by_libtiff(image, compression="packbits"),
        by_libtiff(image, compression="tiff_adobe_deflate"),
        by_libtiff(image, tiffinfo={317: 2}),  # nothing is packed: the Predictor tag means nothing
        tag.replace(struct.pack("<H", 65_000), struct.pack("<H", 266)),  # FillOrder 2
    ):
        np.testing.assert_array_equal(decoded(data)[0, ..., 0], FLAIR)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_odd_depths(bits: int) -> None:
    values = (numbers("uint16", (ROWS, COLUMNS)) >> (16 - bits)).astype("u2" if bits > 8 else "u1")
    data = written(values, bitspersample=bits, compression=None)
    np.testing.assert_array_equal(decoded(data)[0, ..., 0], values)


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 16}, {"tile": (32, 32)}], ids=str)
@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "ycbcr"])
def test_jpeg_is_read_as_pillow_reads_it(options: dict[str, Any], photometric: str) -> None:
    colour = np.stack([SMOOTH, SMOOTH.T, 255 - SMOOTH], -1)
    values = SMOOTH if photometric == "minisblack" else colour
    data = written(values, photometric=photometric, compression="jpeg", **options)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.squeeze(decoded(data)[0]), np.asarray(image))


RGB = Image.fromarray(FLAIR).convert("RGB")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        *[
            (written(numbers("uint8", (32, 32, 3)), photometric="rgb", compression=name), name)
            for name in ("zstd", "webp", "jpeg2000", "png", "jpegxl")
        ],
        (written(numbers("uint8", (32, 32, 3)), photometric="cielab"), "CIELAB"),
        (written(numbers("uint8", (32, 32, 4)), photometric="separated"), "CMYK"),
        (written(numbers("uint8", (32, 32, 3)), photometric="ycbcr", compression="lzw"), "YCBCR"),
        (by_libtiff(RGB.convert("LA"), compression="jpeg"), "JPEG with 2 channels in TIFF"),
        (by_libtiff(RGB.convert("RGBA"), compression="jpeg"), "JPEG with 4 channels in TIFF"),
        (by_libtiff(RGB.convert("CMYK"), compression="jpeg"), "CMYK"),
        (by_libtiff(Image.fromarray(FLAIR > 90), compression="group4"), "CCITT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_named(data: bytes, named: str) -> None:
    is_read_as(data, FLAIR, named)


IMAGEJ, OME = {"imagej": True}, {"ome": True}


@pytest.mark.parametrize(
    ("axes", "shape", "options", "named"),
    [
        ("ZYX", (6, 24, 20), IMAGEJ, None),
        ("ZYXS", (2, 24, 20, 3), IMAGEJ, None),
        ("ZCYX", (3, 2, 24, 20), IMAGEJ, "2 channels x 3 slices"),
        ("TZYX", (2, 3, 24, 20), IMAGEJ, "3 slices x 2 time points"),
        ("TYX", (6, 24, 20), IMAGEJ, "6 time points"),
        ("ZYX", (6, 24, 20), {**IMAGEJ, "truncate": True}, "6 slices in 1 page"),
        ("ZYX", (6, 24, 20), OME, None),
        ("ZYXS", (2, 24, 20, 3), OME, None),
        ("CZYX", (2, 3, 24, 20), OME, "2 channels x 3 slices"),
        ("TZYX", (2, 3, 24, 20), OME, "3 slices x 2 time points"),
        ("ZYX", (6, 24, 20), {}, None),
        ("QYX", (6, 24, 20), {}, None),
        ("TYX", (6, 24, 20), {}, "6 time points"),
        ("ZCYX", (3, 2, 24, 20), {}, "3 slices x 2 channels"),
        ("QQYX", (3, 2, 24, 20), {}, "3 slices x 2 pages of some kind"),
        ("ZYX", (6, 24, 20), {"truncate": True}, "6 slices in 1 page"),
        ("ZYX", (16, 32, 32), {"volumetric": True, "tile": (16, 16, 16)}, "16 slices in one page"),
    ],
    ids=str,
)
def test_slices_are_one_page_each(
    axes: str, shape: tuple[int, ...], options: dict[str, Any], named: str | None
) -> None:
    values = np.resize(VOLUME, shape)
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    data = written(values, photometric=photometric, metadata={"axes": axes}, **options)
    is_read_as(data, values, named)


def planes(order: Iterable[int]) -> str:
    return "".join(f'<TiffData IFD="{i}" FirstZ="{z}"/>' for i, z in enumerate(order))


def ome(data: str, sizes: str = 'SizeZ="6"', behind: str = "") -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:1"><Image><Pixels {sizes}>{data}</Pixels></Image></OME>{behind}'
    )


OTHER_FILE = '<TiffData IFD="0" PlaneCount="6"><UUID FileName="b.tif">urn:uuid:2</UUID></TiffData>'
TWO_CHANNELS = 'SizeC="2" SizeZ="3"'


@pytest.mark.parametrize(
    ("xml", "named"),
    [
        (ome(""), None),
        (ome("<TiffData/>"), None),
        (ome('<TiffData IFD="0" PlaneCount="6"/>', behind="<!-- c -->\n"), None),
        (ome(planes(range(6))), None),
        (ome(OTHER_FILE.replace("uuid:2", "uuid:1")), None),
        ("<scan by HOME hospital>", None),
        (ome(planes((3, 1, 0, 2, 5, 4))), "not in the order"),
        (ome(planes(range(5, -1, -1))), "not in the order"),
        (ome('<TiffData IFD="0" FirstZ="1" PlaneCount="6"/>'), "not in the order"),
        (ome('<TiffData IFD="0" FirstT="1" PlaneCount="6"/>'), "not in the order"),
        (ome(planes(range(5))), "not all of its slices"),
        (ome('<TiffData PlaneCount="999999999999"/>'), "not all of its slices"),
        (ome(OTHER_FILE), "another file"),
        (ome('</Pixels></Image><BinaryOnly/><Image><Pixels SizeZ="1">'), "images"),
        ('<OME UUID="urn:uuid:1"><BinaryOnly MetadataFile="a.companion.ome"/></OME>', "slices"),
        (ome("", TWO_CHANNELS, "<!-- c -->"), "2 channels x 3 slices"),
        (ome("", TWO_CHANNELS, " \n<!-- OME -->\n\n"), "2 channels x 3 slices"),
        (ome("", 'SizeZ="9"'), "9 slices in 6 pages"),
        (ome("", 'SizeZ="1"'), "1 slices in 6 pages"),
        (ome("", 'SizeZ="6" SizeT="7"'), "time points"),
    ],
)
def test_planes_of_ome(xml: str, named: str | None) -> None:
    data = written(VOLUME, photometric="minisblack", metadata=None, description=xml)
    is_read_as(data, VOLUME, named)


def test_a_number_of_slices_with_thousands_of_digits_is_not_quoted() -> None:
    with pytest.raises(DamagedInputError) as caught:
        decoded(written(FLAIR, metadata=None, description=ome("", f'SizeZ="{"9" * 4000}"')))
    assert len(caught.value.line()) < 200


@pytest.mark.parametrize("counts", [(12, 12), (12, 1), (1, 12), (3, 4, 5), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("ome", [False, True], ids=["shaped", "OME"])
def test_several_images_are_not_one_stack(ome: bool, counts: tuple[int, ...]) -> None:
    """Single slices that were written one by one are."""
    out = io.BytesIO()
    volumes = [make_volume((count, 24, 20), seed=seed) for seed, count in enumerate(counts)]
    with tifffile.TiffWriter(out, ome=ome) as tif:
        for values in volumes:
            tif.write(values, metadata={"axes": "ZYX"}, photometric="minisblack")
    single = max(counts) == 1 and not ome
    named = None if single else f"{len(counts)} images"
    is_read_as(out.getvalue(), np.concatenate(volumes), named)


SIGNED = "ImageJ=1.53t\nimages=6\nslices=6\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"
HALF = SIGNED.replace("c0=-32768.0", "c0=-16384").replace("c1=1.0", "c1=0.5")
STORED = VOLUME.astype(np.uint16) + 32668


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (SIGNED, VOLUME.astype(np.int16) - 100),
        (HALF, ((VOLUME - 100.0) / 2).astype(np.float32)),
        (SIGNED.replace("cf=0", "cf=20"), STORED),
        (SIGNED.replace("cf=0\nc0=-32768.0\nc1=1.0\n", ""), STORED),
        (SIGNED.replace("cf=0", "cf=20").replace("c1=1.0", "c1=nan"), STORED),
        (SIGNED.replace("cf=0\n", "").replace("c1=1.0", "c1=0"), STORED),
        (SIGNED.replace("cf=0", "cf=3"), None),
    ],
    ids=[
        "signed",
        "a line",
        "no function",
        "not calibrated",
        "nan unused",
        "0 unused",
        "not linear",
    ],
)
def test_calibration_of_imagej(words: str, wanted: NDArray[Any] | None) -> None:
    """ImageJ stores signed numbers plus 32,768, and says so in words."""
    data = written(STORED, description=words, metadata=None, photometric="minisblack")
    is_read_as(data, wanted, "calibration" if wanted is None else None)
    assert wanted is None or decoded(data).dtype == wanted.dtype


def one_less(data: bytes, *lists: str) -> bytes:
    """The file with one entry less in its lists of strips or tiles."""
    raw = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        for name in lists:
            tag = tif.pages.first.tags[name]
            raw[tag.offset + 4 : tag.offset + 8] = struct.pack("<I", tag.count - 1)
    return bytes(raw)


STRIPS = {"rowsperstrip": 7}
HALF_PAGE = written(FLAIR[: ROWS // 2], compression="zlib", rowsperstrip=ROWS)
PALETTE = written(FLAIR, photometric="palette", colormap=np.zeros((3, 256), np.uint16))


@pytest.mark.parametrize(
    "data",
    [
        one_less(written(FLAIR, **STRIPS), "StripOffsets", "StripByteCounts"),
        one_less(written(FLAIR, compression="lzw", **STRIPS), "StripOffsets", "StripByteCounts"),
        one_less(written(FLAIR, tile=(16, 16)), "TileOffsets", "TileByteCounts"),
        *[
            with_tag(written(FLAIR, compression=name, **STRIPS), StripByteCounts=40)
            for name in (None, "lzw", "zlib", "packbits")
        ],
        PALETTE.replace(struct.pack("<HHI", 320, 3, 768), struct.pack("<HHI", 320, 3, 96)),
        with_tag(HALF_PAGE, ImageLength=ROWS, RowsPerStrip=ROWS),  # a sound stream of half the rows
        written(FLAIR, compression="lzw")[:200],
    ],
)
def test_missing_pixels_are_not_black(data: bytes) -> None:
    with pytest.raises(DamagedInputError):
        decoded(data)


def test_lzw_streams_of_every_length() -> None:
    """Through each growth of the codes and several fillings of the table; then hostile ones."""
    imagecodecs = pytest.importorskip("imagecodecs")
    chance = np.random.default_rng(0)
    for size in (1, 2, 3, 254, 255, 256, 257, 600, 3000, 9000, 40_000, 1_500_000):
        for high in (1, 2, 256):
            raw = chance.integers(0, high, size, dtype=np.uint8).tobytes()
            assert tiff.unpack_lzw(imagecodecs.lzw_encode(raw), size) == raw
    for _ in range(300):
        hostile = chance.bytes(int(chance.integers(0, 60)))
        with pytest.raises((ValueError, IndexError, OSError)):
            tiff.unpack_lzw(hostile, 10_000)
    # Each CLEAR costs as much as thousands of codes, and gives no pixel.
    clears = np.packbits(np.tile([1, 0, 0, 0, 0, 0, 0, 0, 0], 20_000)).tobytes()

    def unpack() -> None:
        with pytest.raises(ValueError, match="data"):
            tiff.unpack_lzw(clears, 10_000)

    assert steps(unpack) < 100_000


def directory(*entries: tuple[int, ...], following: int = 0) -> bytes:
    """Tag, type, count and value of each entry, and the offset of the next directory."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def overlapping() -> bytes:
    """500 directories of 4,096 entries in 60 KB: each begins one entry after the one before."""
    count, size = 500, 4096
    body = bytearray()
    for number in range(count + size):
        link = 10 + 12 * (number - size + 1)
        following = link if size <= number < size + count - 1 else 0
        tag = 65_000 if number < size else following & 0xFFFF
        body += struct.pack("<HHII", tag, following >> 16, 1, size << 16)
    # The number of entries stands in the last two bytes of the entry before.
    return struct.pack("<2sHIHH", b"II", 42, 10, 0, size) + bytes(body)


def sharing() -> bytes:
    """400 thumbnails with one list of 100,000 strips."""
    at, data = 8 + 400_000, b""
    for number in range(400):
        following = at + (number + 1) * 30 if number < 399 else 0
        data += directory((254, 4, 1, 1), (273, 4, 100_000, 8), following=following)
    return struct.pack("<2sHI", b"II", 42, at) + bytes(400_000) + data


def endless() -> bytes:
    begins = [8 + number * (4000 * 12 + 6) for number in range(1, 4)]
    entries = [(65_000, 3, 1, 0)] * 4000
    data = [directory(*entries, following=following) for following in (*begins[:2], 0)]
    return struct.pack("<2sHI", b"II", 42, 8) + b"".join(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [(overlapping(), "overlap"), (sharing(), "share"), (endless(), "12,000 entries")],
    ids=["overlapping", "sharing", "without end"],
)
def test_directories_that_would_cost_hours(data: bytes, named: str) -> None:
    with little_memory(4 * 2**20), pytest.raises(DamagedInputError, match=named):
        decoded(data)


def tiled(side: int, tile: int, compression: int, *, shared: bool = False) -> bytes:
    """Tiles with the same content; the last of them is missing."""
    packed = written(np.zeros((16, 16), np.uint8), compression="lzw", rowsperstrip=16)
    with tifffile.TiffFile(io.BytesIO(packed)) as tif:
        (begin,), (length,) = tif.pages.first.dataoffsets, tif.pages.first.databytecounts
    count = (side // tile) ** 2
    begins = [8 + (0 if shared else length * index) for index in range(count)]
    data = packed[begin : begin + length] * (1 if shared else count)
    lists = struct.pack(f"<{2 * count}I", *begins, *[length] * (count - 1), 0)
    at = 8 + len(data)
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, compression)]
    tags += [(262, 3, 1, 1), (277, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile)]
    tags += [(324, 4, count, at), (325, 4, count, at + 4 * count)]
    return struct.pack("<2sHI", b"II", 42, at + len(lists)) + data + lists + directory(*tags)


@pytest.mark.parametrize(
    ("data", "error", "named"),
    [
        (tiled(64, 2, 5), DamagedInputError, "smaller than 16 x 16"),
        (tiled(64, 16, 5, shared=True), DamagedInputError, "overlap"),
        (tiled(64, 16, 5), DamagedInputError, "missing"),
        (tiled(8192, 16, 5), LimitExceededError, "--max-decoded"),
        (tiled(4096, 16, 7), LimitExceededError, "--max-decoded"),
    ],
    ids=["too small", "one for all", "the last is missing", "too many", "too many of JPEG"],
)
def test_tiles_are_checked_before_one_is_unpacked(
    data: bytes,
    error: type[DamagedInputError | LimitExceededError],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiff, "_unpack", None)
    monkeypatch.setattr(tiff, "_unpack_jpeg", None)
    with pytest.raises(error) as caught:
        decoded(data)
    assert named in caught.value.line()


def test_one_tile_of_an_odd_size_is_read() -> None:
    """Some writers put a small picture into one tile of its own size."""
    data = written(FLAIR[:16, :16], tile=(16, 16))
    data = with_tag(data, ImageWidth=16, ImageLength=11, TileWidth=16, TileLength=11)
    np.testing.assert_array_equal(decoded(data)[0, ..., 0], FLAIR[:11, :16])
