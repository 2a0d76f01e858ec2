"""TIFF: every way of packing gives the pixels of the uncompressed twin, or is refused by name."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    UnsupportedInputError,
)
from gliosight.read import tiff
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from tests.counting import little_memory, steps

from .builders import make_volume, read_path

ROWS, COLUMNS = 40, 33
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 7},
    "tiled planes": {"planarconfig": "separate", "tile": (16, 32)},
}
PACKED = ("lzw", "zlib", "adobe_deflate", "packbits", "lzma")
FLAIR = make_volume((1, ROWS, COLUMNS), seed=1)[0]


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


def decoded(data: bytes) -> NDArray[Any]:
    return tiff.decode_tiff(data, "a.tif", Budget(DEFAULT_LIMITS)).pages


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
            for compression in PACKED:
                for predictor in predictors:
                    data = written(values, compression=compression, predictor=predictor, **options)
                    where = f"{photometric}, {layout}, {compression}, predictor {predictor}"
                    np.testing.assert_array_equal(decoded(data), twin, where)


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib"])
def test_strips_over_a_megabyte(compression: str) -> None:
    values = numbers("uint16", (800, 800))
    data = written(values, compression=compression, rowsperstrip=800, byteorder=">")
    np.testing.assert_array_equal(decoded(data)[0, ..., 0], values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_white_is_zero(dtype: str) -> None:
    values = FLAIR.astype(dtype)
    read = decoded(written(values, photometric="miniswhite", compression="lzw"))[0, ..., 0]
    # Black is white, in steps of the same size.
    np.testing.assert_array_equal(np.diff(read.astype(float)), -np.diff(values.astype(float)))


@pytest.mark.parametrize(
    ("options", "flipped"),
    [
        ({"compression": "tiff_lzw", "tiffinfo": {317: 2}}, False),
        ({"compression": "packbits"}, False),
        ({"compression": "tiff_adobe_deflate"}, False),
        ({"tiffinfo": {317: 2}}, False),  # nothing is packed: the Predictor tag means nothing
        ({}, True),  # FillOrder 2: bits of each byte the other way round
    ],
    ids=str,
)
def test_written_by_libtiff(options: dict[str, Any], flipped: bool) -> None:
    out = io.BytesIO()
    Image.fromarray(FLAIR).save(out, "TIFF", **options)
    data = out.getvalue()
    if flipped:
        flipped_bits = np.packbits(np.unpackbits(FLAIR, bitorder="little")).reshape(FLAIR.shape)
        data = written(flipped_bits, extratags=[(65_000, "H", 1, 2, True)])
        data = data.replace(struct.pack("<H", 65_000), struct.pack("<H", 266))
    np.testing.assert_array_equal(decoded(data)[0, ..., 0], FLAIR)


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_odd_depths(bits: int) -> None:
    values = (numbers("uint16", (ROWS, COLUMNS)) >> (16 - bits)).astype("u2" if bits > 8 else "u1")
    data = written(values, bitspersample=bits, compression=None)
    np.testing.assert_array_equal(decoded(data)[0, ..., 0], values)


@pytest.mark.parametrize("layout", ["one strip", "strips", "tiles"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "ycbcr"])
def test_jpeg_is_read_as_pillow_reads_it(layout: str, photometric: str) -> None:
    smooth = np.tile(np.linspace(0, 200, 64, dtype=np.uint8), (64, 1))
    values = (
        smooth if photometric == "minisblack" else np.stack([smooth, smooth.T, 255 - smooth], -1)
    )
    options = dict.fromkeys(LAYOUTS[layout], 16) | ({"tile": (32, 32)} if layout == "tiles" else {})
    data = written(values, photometric=photometric, compression="jpeg", **options)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.squeeze(decoded(data)[0]), np.asarray(image))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"compression": "zstd"}, "ZSTD"),
        ({"compression": "webp"}, "WEBP"),
        ({"compression": "jpeg2000"}, "JPEG2000"),
        ({"compression": "png"}, "PNG"),
        ({"compression": "jpegxl"}, "JPEGXL"),
        ({"photometric": "cielab"}, "CIELAB"),
        ({"photometric": "separated", "planarconfig": "contig"}, "CMYK"),
        ({"photometric": "ycbcr", "compression": "lzw"}, "YCBCR"),
    ],
    ids=str,
)
def test_what_is_not_read_is_named(options: dict[str, Any], named: str) -> None:
    channels = 4 if options.get("photometric") == "separated" else 3
    values = numbers("uint8", (32, 32, channels))
    with pytest.raises(UnsupportedInputError, match=f"(?i){named}"):
        decoded(written(values, **{"photometric": "rgb", **options}))


@pytest.mark.parametrize(
    ("mode", "named"),
    [
        ("LA", "JPEG with 2 channels in TIFF"),
        ("RGBA", "JPEG with 4 channels in TIFF"),
        ("CMYK", "CMYK"),
    ],
)
def test_jpeg_with_other_channels_is_named(mode: str, named: str) -> None:
    out = io.BytesIO()
    Image.fromarray(FLAIR).convert("RGB").convert(mode).save(out, "TIFF", compression="jpeg")
    with pytest.raises(UnsupportedInputError, match=named):
        decoded(out.getvalue())


def test_fax_is_refused_by_name() -> None:
    out = io.BytesIO()
    Image.fromarray(FLAIR > 90).save(out, "TIFF", compression="group4")
    with pytest.raises(UnsupportedInputError, match="CCITT"):
        decoded(out.getvalue())


VOLUME = make_volume((6, 24, 20))
IMAGEJ, OME = {"imagej": True}, {"ome": True}


@pytest.mark.parametrize(
    ("axes", "shape", "options", "told"),
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
    axes: str, shape: tuple[int, ...], options: dict[str, Any], told: str | None
) -> None:
    values = np.resize(VOLUME, shape)
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    data = written(values, photometric=photometric, metadata={"axes": axes}, **options)
    if told:
        with pytest.raises(UnsupportedInputError, match=told):
            decoded(data)
    else:
        np.testing.assert_array_equal(np.squeeze(decoded(data)), values)


def test_pages_that_contradict_what_the_file_says_of_itself() -> None:
    """OME-XML of two images, of other files' slices, and of more slices than memory has."""
    said = written(VOLUME, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert len(decoded(said)) == 6
    for wrong in (b'SizeZ="9"', b'SizeZ="1"', b'SizeT="7"'):
        axis = wrong[:7]
        at = said.index(axis)
        with pytest.raises(UnsupportedInputError, match=r"slices|time points"):
            decoded(said[:at] + wrong + said[at + len(wrong) :])


PLANES = range(24)
OTHER_FILE = '<TiffData IFD="0" PlaneCount="24"><UUID FileName="b.tif">urn:uuid:2</UUID></TiffData>'


def planes(order: Iterable[int]) -> str:
    return "".join(f'<TiffData IFD="{i}" FirstZ="{z}"/>' for i, z in enumerate(order))


@pytest.mark.parametrize(
    ("data", "attributes", "behind", "named"),
    [
        ("", {}, "", None),
        ("<TiffData/>", {}, "", None),
        ('<TiffData IFD="0" PlaneCount="24"/>', {}, "<!-- c -->\n", None),
        (planes(PLANES), {}, "", None),
        (OTHER_FILE.replace("uuid:2", "uuid:1"), {}, "", None),
        (planes(np.random.default_rng(0).permutation(24)), {}, "", "not in the order"),
        (planes(reversed(PLANES)), {}, "", "not in the order"),
        ('<TiffData IFD="0" FirstZ="1" PlaneCount="24"/>', {}, "", "not in the order"),
        ('<TiffData IFD="0" FirstT="1" PlaneCount="24"/>', {}, "", "not in the order"),
        (planes(range(20)), {}, "", "not all of its slices"),
        ('<TiffData PlaneCount="999999999999"/>', {}, "", "not all of its slices"),
        (OTHER_FILE, {}, "", "another file"),
        ('</Pixels></Image><BinaryOnly/><Image><Pixels SizeZ="1">', {}, "", "images"),
        ("", {"SizeC": 2, "SizeZ": 12}, "<!-- c -->", "2 channels x 12 slices"),
        ("", {"SizeC": 2, "SizeZ": 12}, " \n<!-- OME -->\n\n", "2 channels x 12 slices"),
    ],
)
def test_planes_of_ome(
    data: str, attributes: dict[str, int], behind: str, named: str | None
) -> None:
    values = make_volume((24, 24, 20))
    sizes = {"SizeX": 20, "SizeY": 24, "SizeZ": 24, "SizeC": 1, "SizeT": 1, **attributes}
    words = " ".join(f'{name}="{size}"' for name, size in sizes.items())
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:1"><Image><Pixels {words}>{data}</Pixels></Image></OME>{behind}'
    )
    tif = written(values, photometric="minisblack", metadata=None, description=xml)
    if named:
        with pytest.raises(UnsupportedInputError, match=named):
            decoded(tif)
    else:
        np.testing.assert_array_equal(decoded(tif)[..., 0], values)


def test_ome_that_is_described_elsewhere() -> None:
    xml = '<OME UUID="urn:uuid:1"><BinaryOnly MetadataFile="a.companion.ome"/></OME>'
    tif = written(FLAIR, metadata=None, description=xml)
    with pytest.raises(UnsupportedInputError):
        decoded(tif)


def test_a_description_that_is_no_xml_is_somebodys_words() -> None:
    tif = written(FLAIR, metadata=None, description="<scan by HOME hospital>")
    np.testing.assert_array_equal(decoded(tif), decoded(written(FLAIR)))


@pytest.mark.parametrize("shapes", [(12, 12), (12, 1), (1, 12), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("ome", [False, True], ids=["shaped", "OME"])
def test_several_images_are_not_one_stack(ome: bool, shapes: tuple[int, ...]) -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, ome=ome) as tif:
        for seed, count in enumerate(shapes):
            values = make_volume((count, 24, 20), seed=seed)
            tif.write(values, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(UnsupportedInputError, match=f"{len(shapes)} images"):
        decoded(out.getvalue())


def test_slices_written_one_by_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for values in VOLUME:
            tif.write(values, contiguous=False)
    np.testing.assert_array_equal(read_path(tmp_path / "a.tif").flair.values, VOLUME)


def _without_last(tag: str, data: bytes) -> bytes:
    """The file with one entry less in each of its lists of strips or tiles."""
    raw = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        for name in (f"{tag}Offsets", f"{tag}ByteCounts"):
            found = tif.pages[0].tags[name]
            raw[found.offset + 4 : found.offset + 8] = struct.pack("<I", found.count - 1)
    return bytes(raw)


def _shorter(data: bytes, by: int = 40) -> bytes:
    """The file whose last strip is claimed to be shorter."""
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        counts = tif.pages[0].tags["StripByteCounts"]
        at, size, last = counts.valueoffset, counts.dtype, counts.value[-1]
    width = {3: 2, 4: 4}[int(size)]
    raw = bytearray(data)
    at += (len(tif.pages[0].databytecounts) - 1) * width
    raw[at : at + width] = (last - by).to_bytes(width, "little")
    return bytes(raw)


STRIPS = {"rowsperstrip": 7}
MISSING = {
    "a strip less": _without_last("Strip", written(FLAIR, **STRIPS)),
    "a packed strip less": _without_last("Strip", written(FLAIR, compression="lzw", **STRIPS)),
    "a tile less": _without_last("Tile", written(FLAIR, tile=(16, 16))),
    "a short strip": _shorter(written(FLAIR, **STRIPS)),
    **{
        f"a short {name} strip": _shorter(written(FLAIR, compression=name, **STRIPS))
        for name in ("lzw", "zlib", "packbits")
    },
    "a short palette": written(
        FLAIR, photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    ).replace(struct.pack("<HHI", 320, 3, 768), struct.pack("<HHI", 320, 3, 96)),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_pixels_are_not_black(name: str) -> None:
    with pytest.raises(DamagedInputError):
        decoded(MISSING[name])


def test_deflate_that_ends_early() -> None:
    """A whole and sound stream of half the rows."""
    half = written(FLAIR[: ROWS // 2], compression="zlib", rowsperstrip=ROWS)
    raw = bytearray(half)
    with tifffile.TiffFile(io.BytesIO(half)) as tif:
        for name in ("ImageLength", "RowsPerStrip"):
            tag = tif.pages[0].tags[name]
            raw[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", ROWS)
    with pytest.raises(DamagedInputError, match="lacks pixels"):
        decoded(bytes(raw))


def test_each_page_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many directories are read as there are pages, and the file is opened once."""
    small = numbers("uint8", (300, 4, 4))
    data = written(small, photometric="minisblack", compression="lzw", metadata=None)
    calls: list[str] = []
    for owner, name in ((tifffile.TiffPage, "__init__"), (tifffile.TiffFile, "__init__")):
        original = getattr(owner, name)

        def counted(self: Any, *args: Any, _original: Any = original, **kwargs: Any) -> None:
            calls.append(type(self).__name__)
            _original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    assert len(decoded(data)) == 300
    assert calls.count("TiffFile") == 1
    assert calls.count("TiffPage") <= 301  # tifffile reads the first on opening


def test_lzw_streams_of_every_length() -> None:
    """Through each growth of the codes and several fillings of the table; then hostile ones."""
    imagecodecs = pytest.importorskip("imagecodecs")
    chance = np.random.default_rng(0)
    for size in (1, 2, 3, 254, 255, 256, 257, 600, 3000, 9000, 40_000):
        for high in (1, 2, 256):
            raw = chance.integers(0, high, size, dtype=np.uint8).tobytes()
            assert tiff.unpack_lzw(imagecodecs.lzw_encode(raw), size) == raw
    for _ in range(300):
        hostile = chance.bytes(int(chance.integers(0, 60)))
        with pytest.raises((ValueError, IndexError, OSError)):
            tiff.unpack_lzw(hostile, 10_000)


def test_lzw_that_clears_its_table_all_the_time() -> None:
    """Each CLEAR costs as much as thousands of codes, and gives no pixel."""
    clears = np.packbits(np.tile([1, 0, 0, 0, 0, 0, 0, 0, 0], 20_000)).tobytes()

    def unpack() -> None:
        with pytest.raises(ValueError, match="data"):
            tiff.unpack_lzw(clears, 10_000)

    assert steps(unpack) < 100_000


def directory(entries: bytes, following: int, count: int | None = None) -> bytes:
    return (
        struct.pack("<H", len(entries) // 12 if count is None else count)
        + entries
        + struct.pack("<I", following)
    )


def page(bits: int, white: int, packed: bytes, at: int, *, last: bool) -> bytes:
    """Pixels of 4 x 4 and their directory, at this place of the file."""
    tags = [(256, 4, 4), (257, 4, 4), (258, 3, bits), (259, 3, 1), (262, 3, white), (273, 4, at)]
    tags += [(277, 3, 1), (278, 4, 4), (279, 4, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    after = at + len(packed) + 2 + len(entries) + 4
    return packed + directory(entries, 0 if last else after + 32)


def test_white_is_zero_at_each_pages_own_depth() -> None:
    values = np.arange(0, 3200, 200, dtype=np.uint16).reshape(4, 4)
    bits = np.unpackbits((4095 - values).astype(">u2").view(np.uint8).reshape(16, 2), axis=1)
    twelve = np.packbits(bits[:, 4:]).tobytes()
    sixteen = (65535 - values).astype("<u2").tobytes()
    first = page(12, 0, twelve, 8, last=False)
    data = struct.pack("<2sHI", b"II", 42, 8 + len(twelve)) + first
    start = len(data)
    data += page(16, 0, sixteen, start, last=True)
    link = start - 4
    data = data[:link] + struct.pack("<I", start + len(sixteen)) + data[start:]
    np.testing.assert_array_equal(decoded(data)[..., 0], [values, values])


def test_directories_that_overlap() -> None:
    """500 directories of 4,096 entries in 60 KB: each begins one entry after the one before."""
    count, size = 500, 4096
    body = bytearray()
    for number in range(count + size):
        link = 10 + 12 * (number - size + 1)
        following = link if size <= number < size + count - 1 else 0
        tag = 65_000 if number < size else following & 0xFFFF
        body += struct.pack("<HHII", tag, following >> 16, 1, size << 16)
    # The number of entries stands in the last two bytes of the entry before.
    data = struct.pack("<2sHIHH", b"II", 42, 10, 0, size) + bytes(body)
    with pytest.raises(DamagedInputError, match="overlap"):
        decoded(data)


def test_directories_that_share_their_values() -> None:
    """400 thumbnails with one list of 100,000 strips."""
    data, at = b"", 8 + 400_000
    for number in range(400):
        entry = struct.pack("<HHIIHHII", 254, 4, 1, 1, 273, 4, 100_000, 8)
        data += directory(entry, at + (number + 1) * 30 if number < 399 else 0)
    with little_memory(4 * 2**20), pytest.raises(DamagedInputError, match="share"):
        decoded(struct.pack("<2sHI", b"II", 42, at) + bytes(400_000) + data)


def test_entries_without_end() -> None:
    entry = struct.pack("<HHII", 65_000, 3, 1, 0)
    begins = [8 + number * (4000 * 12 + 6) for number in range(1, 4)]
    data = b"".join(directory(entry * 4000, following) for following in (*begins[:2], 0))
    with pytest.raises(DamagedInputError, match="12,000 entries"):
        decoded(struct.pack("<2sHI", b"II", 42, 8) + data)


def tiled(side: int, tile: int, packed: bytes, compression: int, *, shared: bool = True) -> bytes:
    """Tiles with the same content; the last of them is missing."""
    count = (side // tile) ** 2
    begins = [8 + (0 if shared else len(packed) * index) for index in range(count)]
    data = packed * (1 if shared else count)
    lists = struct.pack(f"<{count}I", *begins)
    lists += struct.pack(f"<{count}I", *[len(packed)] * (count - 1), 0)
    at = 8 + len(data)
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, compression)]
    tags += [(262, 3, 1, 1), (277, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile)]
    tags += [(324, 4, count, at), (325, 4, count, at + 4 * count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, at + len(lists)) + data + lists + directory(entries, 0)


LZW_TILE = written(np.zeros((16, 16), np.uint8), compression="lzw", rowsperstrip=16)
with tifffile.TiffFile(io.BytesIO(LZW_TILE)) as _tif:
    LZW_TILE = LZW_TILE[_tif.pages[0].dataoffsets[0] :][: _tif.pages[0].databytecounts[0]]


@pytest.mark.parametrize(
    ("data", "error", "named"),
    [
        (tiled(64, 2, LZW_TILE, 5, shared=False), DamagedInputError, "smaller than 16 x 16"),
        (tiled(64, 16, LZW_TILE, 5), DamagedInputError, "overlap"),
        (tiled(64, 16, LZW_TILE, 5, shared=False), DamagedInputError, "missing"),
        (tiled(8192, 16, LZW_TILE, 5, shared=False), LimitExceededError, "--max-decoded"),
        (tiled(4096, 16, LZW_TILE, 7, shared=False), LimitExceededError, "--max-decoded"),
    ],
    ids=["too small", "one for all", "the last is missing", "too many", "too many of JPEG"],
)
def test_tiles_are_checked_before_one_is_unpacked(
    data: bytes, error: type[GliosightError], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "_unpack", None)
    monkeypatch.setattr(tiff, "_unpack_jpeg", None)
    with pytest.raises(error) as caught:
        decoded(data)
    assert named in caught.value.line()


def test_one_tile_of_an_odd_size_is_read() -> None:
    """Some writers put a small picture into one tile of its own size."""
    data = written(FLAIR[:16, :16], tile=(16, 16))
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tags = [
            tif.pages[0].tags[name]
            for name in ("ImageWidth", "ImageLength", "TileWidth", "TileLength")
        ]
    raw = bytearray(data)
    for tag, side in zip(tags, (16, 11, 16, 11), strict=True):
        raw[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", side)
    np.testing.assert_array_equal(decoded(bytes(raw))[0, ..., 0], FLAIR[:11, :16])


SIGNED = "ImageJ=1.53t\nimages=6\nslices=6\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (SIGNED, VOLUME.astype(np.int16) - 100),
        (
            SIGNED.replace("c0=-32768.0", "c0=-16384").replace("c1=1.0", "c1=0.5"),
            (VOLUME - 100.0) / 2,
        ),
        (SIGNED.replace("cf=0", "cf=20"), VOLUME.astype(np.uint16) + 32668),
        (SIGNED.replace("cf=0\nc0=-32768.0\nc1=1.0\n", ""), VOLUME.astype(np.uint16) + 32668),
        (SIGNED.replace("cf=0", "cf=3"), None),
    ],
    ids=["signed", "a line", "no function", "not calibrated", "not linear"],
)
def test_calibration_of_imagej(words: str, wanted: NDArray[Any] | None) -> None:
    """ImageJ stores signed numbers plus 32,768, and says so in words."""
    data = written(
        VOLUME.astype(np.uint16) + 32668, description=words, metadata=None, photometric="minisblack"
    )
    if wanted is None:
        with pytest.raises(UnsupportedInputError, match="calibration"):
            decoded(data)
        return
    got = decoded(data)[..., 0]
    assert got.dtype == (np.float32 if wanted.dtype == np.float64 else wanted.dtype)
    np.testing.assert_array_equal(got, wanted)


def test_a_number_of_slices_with_thousands_of_digits_is_not_quoted() -> None:
    xml = f'<OME><Image><Pixels SizeZ="{"9" * 4000}"/></Image></OME>'
    with pytest.raises(DamagedInputError) as caught:
        decoded(written(FLAIR, metadata=None, description=xml))
    assert len(caught.value.line()) < 200


def test_errors_are_ours() -> None:
    with pytest.raises(GliosightError):
        decoded(written(FLAIR, compression="lzw")[:200])
