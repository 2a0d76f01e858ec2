"""PNG and JPEG: what is stored beside the pixels costs nothing, and missing pixels are not black."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read import pictures
from gliosight.read.detect import Kind
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.pictures import decode_picture
from tests.counting import little_memory, steps

from .builders import make_volume

FLAIR = make_volume((1, 48, 40), seed=1)[0]
SMOOTH = np.add.outer(np.arange(48), 2 * np.arange(40)).astype(np.uint8)
MAGIC = b"\x89PNG\r\n\x1a\n"


def decoded(data: bytes) -> NDArray[Any]:
    kind = Kind.PNG if data[:1] == b"\x89" else Kind.JPEG
    return decode_picture(data, kind, "a", Budget(DEFAULT_LIMITS)).pages[0].squeeze()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(rows: int = 48, columns: int = 40, *kind: int) -> bytes:
    """Depth, colour type, compression, filter, interlace; 8-bit grey without."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, *(kind or (8, 0, 0, 0, 0))))


def pixels(values: NDArray[Any]) -> bytes:
    return chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in values)))


END = chunk(b"IEND", b"")
PALETTED = header(48, 40, 8, 3, 0, 0, 0)


def png(*chunks: bytes) -> bytes:
    return MAGIC + b"".join(chunks) + END


def jpeg(values: Any = FLAIR, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG", **{"quality": 90, **options})
    return out.getvalue()


BOMB = zlib.compress(bytes(100 * 2**20), 9)
BESIDE = {
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x/>" * 300_000),
    "text": chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
    "text bomb": chunk(b"zTXt", b"Comment\0\0" + BOMB),
    "XMP bomb": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "profile bomb": chunk(b"iCCP", b"icc\0\0" + BOMB),
    "broken EXIF": chunk(b"eXIf", b"MM\0*junk"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_png_holds_besides_pixels(name: str, recwarn: pytest.WarningsRecorder) -> None:
    data = png(header(), BESIDE[name], pixels(FLAIR))
    with little_memory(16 * 2**20):  # nothing is inflated
        np.testing.assert_array_equal(decoded(data), FLAIR)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (png(header(24), header(48), pixels(FLAIR[:24])), "two IHDR"),
        (png(header(48), pixels(FLAIR[:24]), header(24)), "two IHDR"),
        (png(header(48), header(100_000), pixels(FLAIR)), "two IHDR"),
        (png(chunk(b"tEXt", b""), header(48), pixels(FLAIR)), "not its first chunk"),
        (png(header(), chunk(b"PLTE", bytes(3)), chunk(b"PLTE", bytes(6))), "two PLTE"),
        (png(header(), pixels(FLAIR[:24])), "pixels are missing"),
        (png(header(), pixels(FLAIR[:47])), "pixels are missing"),
        (png(header(49), pixels(FLAIR)), "pixels are missing"),
        (png(PALETTED, chunk(b"PLTE", bytes(45)), pixels(FLAIR % 16)), "palette"),
        (png(PALETTED, pixels(FLAIR % 16)), "decoded"),
        (png(header(), pixels(FLAIR))[:-12], "truncated"),
    ],
)
def test_broken_pngs(data: bytes, named: str) -> None:
    """Pillow decodes by the last header and fills what is missing with black."""
    with little_memory(2**20), pytest.raises(DamagedInputError, match=named):
        decoded(data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("shape", [(48, 40), (1, 1), (3, 5), (9, 4)])
def test_sound_pngs_of_every_size(mode: str, shape: tuple[int, int]) -> None:
    values = np.resize(FLAIR, shape)
    image = Image.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
    out = io.BytesIO()
    image.convert(mode).save(out, "PNG")
    assert decoded(out.getvalue()).size in (values.size, 3 * values.size)


def test_palette_and_interlace_of_png() -> None:
    """Adam7 by hand, since Pillow writes none: 3 x 5 pixels in six passes, one of them empty."""
    table = chunk(b"PLTE", bytes(range(48)))
    colours = decoded(png(PALETTED, table, pixels(FLAIR % 16)))
    np.testing.assert_array_equal(colours[..., 0], FLAIR % 16 * 3)
    values = np.arange(15, dtype=np.uint8).reshape(3, 5) * 16
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4))
    passes += ((2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    parts = [values[top::down, left::right] for top, down, left, right in passes]
    lines = b"".join(b"\0" + line.tobytes() for part in parts if part.size for line in part)
    head = header(3, 5, 8, 0, 0, 0, 1)
    sound = decoded(png(head, chunk(b"IDAT", zlib.compress(lines))))
    np.testing.assert_array_equal(sound, values)
    with pytest.raises(DamagedInputError):
        decoded(png(head, chunk(b"IDAT", zlib.compress(lines[:-3]))))


ENCODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "colour": {"values": np.stack([FLAIR, FLAIR.T.reshape(FLAIR.shape), SMOOTH], -1)},
    "unsampled": {"values": np.stack([FLAIR, SMOOTH, SMOOTH], -1), "subsampling": 0},
    "colour, restarts": {"values": np.stack([FLAIR] * 3, -1), "restart_marker_rows": 1},
    "blank": {"values": np.zeros_like(FLAIR), "optimize": True},
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_jpeg_cut_in_the_middle_and_closed(name: str) -> None:
    whole = jpeg(**ENCODINGS[name])
    with Image.open(io.BytesIO(whole)) as image:
        np.testing.assert_array_equal(decoded(whole), np.asarray(image))
    begins = whole.index(b"\xff\xda") + 20
    for end in range(begins, len(whole) - 6, max((len(whole) - begins) // 40, 1)):
        with pytest.raises(DamagedInputError, match="JPEG"):
            decoded(whole[:end].rstrip(b"\xff") + b"\xff\xd9")


WHOLE = jpeg()
SCANS = jpeg(progressive=True)
LAST_SCAN = SCANS[SCANS.rindex(b"\xff\xda") : -2]
RESTARTS = b"".join(bytes([0xFF, marker]) for marker in range(0xD0, 0xD8))
EMPTY_COMMENT = b"\xff\xfe\0\2"


@pytest.mark.parametrize(
    ("data", "error", "named"),
    [
        (png(header(), chunk(b"tEXt", b"") * 2000), LimitExceededError, "1,000 chunks"),
        (png(header(), chunk(b"IDAT", b"") * 2000), LimitExceededError, "1,000 chunks"),
        (SCANS[:-2] + LAST_SCAN * 120 + SCANS[-2:], LimitExceededError, r"1\d\d scans.*100 sc"),
        (WHOLE[:2] + EMPTY_COMMENT * 2000 + WHOLE[2:], LimitExceededError, "1,000 segments"),
        (WHOLE[:-2] + RESTARTS * 1000 + WHOLE[-2:], DamagedInputError, "restart markers"),
    ],
    ids=["chunks of text", "empty chunks", "scans", "segments", "restart markers"],
)
def test_parts_without_end(
    data: bytes, error: type[Exception], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pictures.MOST_PARTS == 100_000
    monkeypatch.setattr(pictures, "MOST_PARTS", 1000)
    with little_memory(2**20), pytest.raises(error, match=named):
        decoded(data)


def test_restart_markers_of_many_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_RESTARTS", 100)
    decoded(jpeg(restart_marker_blocks=1))
    with pytest.raises(LimitExceededError, match="100 restart markers"):
        decoded(jpeg(progressive=True, restart_marker_blocks=1))


def test_fill_bytes_of_a_jpeg_cost_nothing() -> None:
    """Before a marker, where there may be any number, and inside the coded data."""
    fill = b"\xff" * 200_000
    before = WHOLE[:2] + fill + WHOLE[2:-2] + fill + WHOLE[-2:]
    assert steps(lambda: decoded(before)) < 20_000
    np.testing.assert_array_equal(decoded(before), decoded(WHOLE))
    begins = WHOLE.index(b"\xff\xda") + 60
    assert decoded(WHOLE[:begins] + fill + b"\0" + WHOLE[begins:]).shape == FLAIR.shape


def test_what_a_jpeg_holds_besides_pixels(recwarn: pytest.WarningsRecorder) -> None:
    """A megabyte of XMP in pieces, a profile, a thumbnail, broken EXIF and comments."""
    segments = [
        *[(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 65_000)] * 16,
        (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"junk" * 20),
        (0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 60_000),
        (0xE2, b"MPF\0MM\0*\0\0\0\x08"),
        (0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 50),
        (0xFE, b"\xff\xd9\xff\xda"),
    ]
    beside = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    np.testing.assert_array_equal(decoded(WHOLE[:2] + beside + WHOLE[2:]), decoded(WHOLE))
    assert not recwarn.list


@pytest.mark.parametrize(("at", "value"), [(1, 0xC3), (4, 12)])
def test_jpeg_that_is_not_read_is_named(at: int, value: int) -> None:
    """Lossless, and twelve bits deep."""
    data = bytearray(WHOLE)
    data[data.index(b"\xff\xc0") + at] = value
    with pytest.raises(UnsupportedInputError, match=r"JPEG of (8|12) bits"):
        decoded(bytes(data))
