"""PNG and JPEG: what is stored beside the pixels costs nothing, and missing pixels are not black."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read import pictures
from gliosight.read.detect import Kind
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.pictures import decode_picture
from gliosight.read.tiff import decode_tiff
from tests.counting import little_memory, steps

from .builders import make_volume

FLAIR = make_volume((1, 48, 40), seed=1)[0]
SMOOTH = np.add.outer(np.arange(48), 2 * np.arange(40)).astype(np.uint8)


def decoded(data: bytes, kind: Kind = Kind.PNG) -> Any:
    return decode_picture(data, kind, "a", Budget(DEFAULT_LIMITS)).pages[0].squeeze()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    values: Any, *beside: bytes, header: tuple[int, ...] = (8, 0, 0, 0, 0), rows: int | None = None
) -> bytes:
    """An 8-bit PNG of indices or greys, whose header may claim more rows than there are."""
    size = struct.pack(">IIBBBBB", values.shape[1], rows or len(values), *header)
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    parts = [
        chunk(b"IHDR", size),
        *beside,
        chunk(b"IDAT", zlib.compress(lines)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BOMB = zlib.compress(bytes(100 * 2**20), 9)


@pytest.mark.parametrize(
    "beside",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x/>" * 300_000),
        chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
        chunk(b"zTXt", b"Comment\0\0" + BOMB),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
        chunk(b"iCCP", b"icc\0\0" + BOMB),
        chunk(b"eXIf", b"MM\0*junk"),
    ],
    ids=["XMP", "text", "text bomb", "XMP bomb", "profile bomb", "broken EXIF"],
)
def test_what_a_png_holds_besides_pixels(beside: bytes, recwarn: pytest.WarningsRecorder) -> None:
    import tracemalloc

    data = png(FLAIR, beside)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(decoded(data), FLAIR)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20  # nothing is inflated
    finally:
        tracemalloc.stop()
    assert not recwarn.list


def header(rows: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", 40, rows, 8, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([header(24), header(48), "pixels"], "IHDR"),
        ([header(48), "pixels", header(24)], "IHDR"),
        ([chunk(b"tEXt", b""), header(48), "pixels"], "IHDR"),
        ([header(48), chunk(b"PLTE", bytes(3)), chunk(b"PLTE", bytes(6)), "pixels"], "two PLTE"),
    ],
    ids=["two sizes", "behind the pixels", "not first", "two palettes"],
)
def test_a_png_with_two_headers_has_no_size(parts: list[Any], named: str) -> None:
    """Pillow decodes by the last header and fills what is missing with black."""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in FLAIR[:24])))
    body = b"".join(pixels if part == "pixels" else part for part in parts)
    with pytest.raises(DamagedInputError, match=named):
        decoded(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


def test_the_second_header_of_a_png_allocates_nothing() -> None:
    data = png(FLAIR, header(100_000))
    with little_memory(2**20), pytest.raises(DamagedInputError):
        decoded(data)


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT"])
def test_chunks_without_end(kind: bytes) -> None:
    data = png(FLAIR, chunk(kind, b"") * 200_000)
    with pytest.raises(LimitExceededError, match="100,000 chunks"):
        decoded(data)


PALETTE = chunk(b"PLTE", bytes(range(48)))
INDICES = FLAIR % 16


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (png(FLAIR[:24], rows=48), "pixels are missing"),
        (png(FLAIR[:47], rows=48), "pixels are missing"),
        (png(FLAIR, rows=49), "pixels are missing"),
        (png(INDICES, PALETTE[:8] + PALETTE[8:], header=(8, 3, 0, 0, 0)), None),
        (png(INDICES, chunk(b"PLTE", bytes(45)), header=(8, 3, 0, 0, 0)), "palette"),
        (png(INDICES, header=(8, 3, 0, 0, 0)), "decoded"),
        (png(FLAIR)[:-12], "truncated"),
    ],
    ids=["half", "a row", "one more", "a whole palette", "a short one", "none", "no end"],
)
def test_missing_pixels_of_a_png(data: bytes, what: str | None) -> None:
    if what is None:
        np.testing.assert_array_equal(decoded(data)[..., 0], INDICES * 3)
        return
    with pytest.raises(DamagedInputError, match=what):
        decoded(data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("shape", [(48, 40), (1, 1), (3, 5), (9, 4)])
def test_sound_pngs_of_every_size(mode: str, shape: tuple[int, int]) -> None:
    values = np.resize(FLAIR, shape)
    image = Image.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
    out = io.BytesIO()
    image.convert(mode).save(out, "PNG")
    assert decoded(out.getvalue()).reshape(-1).size in (values.size, 3 * values.size)


def test_interlaced_png() -> None:
    """Adam7 by hand, since Pillow writes none: 3 x 5 pixels in six passes, one of them empty."""
    values = np.arange(15, dtype=np.uint8).reshape(3, 5) * 16
    passes = [
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    ]
    parts = [values[top::down, left::right] for top, down, left, right in passes]
    lines = b"".join(b"\0" + line.tobytes() for part in parts if part.size for line in part)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1))
    for body, sound in ((lines, True), (lines[:-3], False)):
        data = (
            b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
        )
        if sound:
            np.testing.assert_array_equal(decoded(data), values)
        else:
            with pytest.raises(DamagedInputError):
                decoded(data)


def jpeg(values: Any = FLAIR, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG", **{"quality": 90, **options})
    return out.getvalue()


COLOUR = np.stack([FLAIR, FLAIR.T.reshape(FLAIR.shape), SMOOTH], -1)
ENCODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "colour": {"values": COLOUR},
    "colour, unsampled": {"values": COLOUR, "subsampling": 0},
    "colour, restarts": {"values": COLOUR, "restart_marker_rows": 1},
    "blank": {"values": np.zeros_like(FLAIR), "optimize": True},
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_jpeg_cut_in_the_middle_and_closed(name: str) -> None:
    whole = jpeg(**ENCODINGS[name])
    with Image.open(io.BytesIO(whole)) as image:
        np.testing.assert_array_equal(decoded(whole, Kind.JPEG), np.asarray(image))
    begins = whole.index(b"\xff\xda") + 20
    for end in range(begins, len(whole) - 6, max((len(whole) - begins) // 40, 1)):
        with pytest.raises(DamagedInputError, match="JPEG"):
            decoded(whole[:end].rstrip(b"\xff") + b"\xff\xd9", Kind.JPEG)


def test_jpeg_of_thousands_of_scans() -> None:
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    many = whole[:last] + whole[last:-2] * 8000 + whole[-2:]
    with pytest.raises(LimitExceededError, match=r"8,0\d\d scans.*100 scans"):
        decoded(many, Kind.JPEG)


RESTARTS = b"".join(bytes([0xFF, marker]) for marker in range(0xD0, 0xD8))


def test_restart_markers_without_end() -> None:
    """A marker between any two blocks is the most that there can be."""
    data = jpeg()[:-2] + RESTARTS * 100_000 + b"\xff\xd9"
    with little_memory(8 * 2**20), pytest.raises(DamagedInputError, match="restart markers"):
        decoded(data, Kind.JPEG)
    whole = jpeg(restart_marker_blocks=1)
    assert whole.count(b"\xff\xd3") > 1
    decoded(whole, Kind.JPEG)


def test_restart_markers_of_many_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_RESTARTS", 100)
    decoded(jpeg(restart_marker_blocks=1), Kind.JPEG)
    with pytest.raises(LimitExceededError, match="100 restart markers"):
        decoded(jpeg(progressive=True, restart_marker_blocks=1), Kind.JPEG)


def test_fill_bytes_of_a_jpeg_cost_nothing() -> None:
    """Before a marker, where there may be any number, and inside the coded data."""
    whole, fill = jpeg(), b"\xff" * 200_000
    before = whole[:2] + fill + whole[2:-2] + fill + whole[-2:]
    assert steps(lambda: decoded(before, Kind.JPEG)) < 20_000
    np.testing.assert_array_equal(decoded(before, Kind.JPEG), decoded(whole, Kind.JPEG))
    begins = whole.index(b"\xff\xda") + 60
    assert decoded(whole[:begins] + fill + b"\0" + whole[begins:], Kind.JPEG).shape == FLAIR.shape


def test_segments_without_end() -> None:
    whole = jpeg()
    data = whole[:2] + b"\xff\xfe\0\2" * 200_000 + whole[2:]
    with pytest.raises(LimitExceededError, match="100,000 segments"):
        decoded(data, Kind.JPEG)


def test_what_a_jpeg_holds_besides_pixels(recwarn: pytest.WarningsRecorder) -> None:
    """A megabyte of XMP in pieces, a profile, a thumbnail, broken EXIF and comments."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    whole = jpeg()
    beside = (
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 65_000) * 16
        + segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"junk" * 20)
        + segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 60_000)
        + segment(0xE2, b"MPF\0MM\0*\0\0\0\x08")
        + segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 50)
        + segment(0xFE, b"\xff\xd9\xff\xda")
    )
    data = whole[:2] + beside + whole[2:]
    np.testing.assert_array_equal(decoded(data, Kind.JPEG), decoded(whole, Kind.JPEG))
    assert not recwarn.list


@pytest.mark.parametrize(("at", "value"), [(1, 0xC3), (4, 12)])
def test_jpeg_that_is_not_read_is_named(at: int, value: int) -> None:
    """Lossless, and twelve bits deep."""
    data = bytearray(jpeg())
    data[data.index(b"\xff\xc0") + at] = value
    with pytest.raises(UnsupportedInputError, match=r"JPEG of (8|12) bits"):
        decoded(bytes(data), Kind.JPEG)


def _state() -> tuple[Any, ...]:
    return (
        os.fstat(2).st_ino,
        os.fstat(2).st_dev,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        Image.MAX_IMAGE_PIXELS,
        tuple(warnings.filters),
        warnings.showwarning,
        logging.getLogger("tifffile").disabled,
        logging.getLogger("PIL").disabled,
    )


def test_several_threads_leave_the_process_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File descriptor 2, Pillow's settings, warning filters and loggers, before, while and after."""
    out = io.BytesIO()
    tifffile.imwrite(out, FLAIR, compression="lzw")
    packed = out.getvalue()
    files = [packed, packed[:-30] + b"\xff" * 30, png(FLAIR), png(FLAIR[:9], rows=48), jpeg()]
    before, seen = _state(), set()

    def work() -> None:
        for _ in range(20):
            for data in files:
                with contextlib.suppress(DamagedInputError):
                    if data[:2] == b"II":
                        decode_tiff(data, "a.tif", Budget(DEFAULT_LIMITS))
                    else:
                        decoded(data, Kind.PNG if data[:1] == b"\x89" else Kind.JPEG)
                seen.add(_state())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {before}
    assert _state() == before
    assert capfd.readouterr() == ("", "")
