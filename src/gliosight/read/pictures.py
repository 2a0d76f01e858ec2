"""Pixels of one PNG or JPEG, and what all picture files have in common (read stage).

Pillow decodes the pixels. It gets nothing else: text, colour profiles, thumbnails and EXIF are taken
out before, so that none of them is inflated, parsed or warned about. Pillow fills pixels that are
missing; here they are an error. TIFF has its own module, `tiff`.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    UnsupportedInputError,
)
from gliosight.read.checks import as_float32
from gliosight.read.detect import Kind
from gliosight.read.limits import Budget

SAVE_OTHERWISE = "save the slice as grey PNG or TIFF, or with T1, FLAIR, T1C as its three channels"
ORIENTATION_TAG = 274  # the same number in EXIF and in TIFF
# Encoders write about ten scans into a progressive JPEG; each is a pass over all pixels.
MOST_SCANS, MOST_SCANNED_PIXELS = 100, 2**31
# Chunks of a PNG, segments of a JPEG. Encoders write a chunk for each 8 KiB or more.
MOST_PARTS = 100_000
# In all scans together. The noise in front of each takes 32 bytes.
MOST_RESTARTS = 2**22

_JPEG_STARTS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
_SOS, _EXIF, _ADOBE = 0xDA, 0xE1, 0xEE
# What is stored besides the pixels: application segments after JFIF's, and comments.
_BESIDES = frozenset({*range(0xE1, 0xF0), 0xFE}) - {_ADOBE}
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN, _ARITHMETIC = (0xC0, 0xC1, 0xC2), (0xC9, 0xCA)
_FILL = re.compile(rb"\xff*")
# In coded data FF is followed by 00 or by a restart marker.
_SCAN_ENDS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"(?=\xff[\xd0-\xd7])")
_NOISE = bytes.fromhex("5a93c61e78b4d20f6ae1359c47d8b02b") * 2

_PNG_STARTS = b"\x89PNG\r\n\x1a\n"
# Channels of each colour type (PNG, section 11.2.2), and each interlace pass's first column, first
# row, step along columns, step along rows (section 8.2).
_PNG_GREY, _PNG_PALETTE = 0, 3
_PNG_CHANNELS = {_PNG_GREY: 1, 2: 3, _PNG_PALETTE: 1, 4: 2, 6: 4}
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


@dataclass(frozen=True)
class Picture:
    """What one picture file holds.

    Parameters
    ----------
    pages : (pages, rows, columns, channels) array
        One or three channels; unsigned or signed integers, or float32.
    notes : frozenset of str
        Codes of the flags that are due: ALPHA_DROPPED, LOSSY_SOURCE, TURNED_UPRIGHT.
    """

    pages: NDArray[Any]
    notes: frozenset[str] = frozenset()


def decode_picture(data: bytes, kind: Kind, where: str, budget: Budget) -> Picture:
    """Decode a PNG or JPEG.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError
    """
    notes: set[str] = set()
    with library(kind.value, where):
        if kind is Kind.PNG:
            pixels, exif = _decode_png(data, where, budget, notes)
        else:
            pixels, exif = decode_jpeg(data, where, budget)
            notes.add("LOSSY_SOURCE")
        pixels, turned = upright(pixels, _exif_orientation(exif))
    if turned:
        notes.add("TURNED_UPRIGHT")
    return Picture(pixels[None], frozenset(notes))


class _Segment(NamedTuple):
    """A JPEG marker segment, and the coded data behind it where it begins a scan."""

    marker: int
    header: bytes
    coded: bytes = b""


def decode_jpeg(
    data: bytes, where: str, budget: Budget, *, transform: int | None = None
) -> tuple[NDArray[Any], bytes]:
    """Decode a JPEG stream.

    libjpeg fills what is missing with grey, without an error. So the stream is decoded once more with
    noise behind its coded data: that is only read where pixels are missing, which then differ.

    Parameters
    ----------
    transform : int, optional
        The colour model where the file around the stream has it: 0 for RGB, 1 for YCbCr.

    Returns
    -------
    pixels : (rows, columns, channels) array
    exif : bytes
        Empty without one.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError
    """
    segments = list(_jpeg_segments(data, where))
    _check_jpeg(segments, len(data), where, budget)
    start, besides = _JPEG_STARTS, _BESIDES
    if transform is not None:
        start += b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])
        besides |= {_ADOBE}

    def decoded(noise: bytes) -> NDArray[Any]:
        parts = [start]
        for marker, header, coded in segments:
            if marker in besides:
                continue
            parts += [header, coded]
            if coded and noise:
                parts[-1], restarts = _RESTART.subn(noise, coded)
                parts += [noise, bytes([0xFF, 0xD0 + restarts % 8]), noise]
        with JpegImageFile(io.BytesIO(b"".join([*parts, _JPEG_ENDS]))) as image:
            return _pixels_of(image, where)

    pixels = decoded(b"")
    huffman = any(segment.marker in _HUFFMAN for segment in segments)
    if huffman and not np.array_equal(pixels, decoded(_NOISE)):
        raise damaged("JPEG", "pixels are missing", where)
    exif = (
        header[10:]
        for marker, header, _ in segments
        if marker == _EXIF and header.startswith(b"Exif\0\0", 4)
    )
    return pixels, next(exif, b"")


def _jpeg_segments(data: bytes, where: str) -> Iterator[_Segment]:
    """The segments between start and end of image (ITU-T T.81, annex B)."""
    at = len(_JPEG_STARTS)
    for _ in range(MOST_PARTS):
        fill = _FILL.match(data, at)
        at = max(at, fill.end() - 1) if fill else at
        header = data[at : at + 2]
        if header == _JPEG_ENDS:
            return
        if len(header) < 2 or header[0] != 0xFF:
            raise damaged("JPEG", "it is truncated", where)
        (length,) = struct.unpack_from(">H", data, at + 2)
        begins, at = at, at + 2 + length
        if header[1] != _SOS:
            yield _Segment(header[1], data[begins:at])
            continue
        end = _SCAN_ENDS.search(data, at)
        if end is None:
            raise damaged("JPEG", "it is truncated", where)
        yield _Segment(_SOS, data[begins:at], data[at : end.start()].rstrip(b"\xff"))
        at = end.start()
    raise _too_much(f"more than {MOST_PARTS:,} segments", where)


def _check_jpeg(segments: list[_Segment], stored: int, where: str, budget: Budget) -> None:
    """Refuse what Pillow does not decode, what lacks coefficients, and scans without end."""
    frames = [segment for segment in segments if segment.marker in _FRAME_HEADERS]
    if len(frames) != 1:
        raise damaged("JPEG", f"it has {len(frames)} frame headers", where)
    marker, header, _ = frames[0]
    precision, rows, columns, components = struct.unpack_from(">BHHB", header, 4)
    if precision != 8 or marker not in _HUFFMAN + _ARITHMETIC:
        raise unsupported(f"a JPEG of {precision} bits, or without loss,", where)
    _take(rows * columns, stored, "JPEG", where, budget)
    scans = [segment for segment in segments if segment.marker == _SOS]
    if len(scans) > MOST_SCANS or len(scans) * rows * columns > MOST_SCANNED_PIXELS:
        raise _too_much(
            f"{len(scans):,} scans over {columns:,} x {rows:,} pixels, the limit is "
            f"{MOST_SCANS} scans and {MOST_SCANNED_PIXELS:,} pixels in all of them",
            where,
        )
    restarts = [sum(1 for _ in _RESTART.finditer(scan.coded)) for scan in scans]
    if max(restarts, default=0) > -(-rows // 8) * -(-columns // 8):
        raise damaged("JPEG", "it has more restart markers than blocks", where)
    if sum(restarts) > MOST_RESTARTS:
        raise _too_much(f"more than {MOST_RESTARTS:,} restart markers", where)
    # Of each 8 x 8 block all 64 coefficients are coded, in the end to their last bit.
    coded: set[tuple[int, int]] = set()
    for _, header, _ in scans:
        names = header[5 : 5 + 2 * header[4] : 2]
        first, last, bits = header[5 + 2 * header[4] : 8 + 2 * header[4]]
        if bits & 15 == 0:
            coded.update((name, index) for name in names for index in range(first, last + 1))
    if len(coded) < 64 * components:
        raise damaged("JPEG", "pixels are missing", where)


def _decode_png(
    data: bytes, where: str, budget: Budget, notes: set[str]
) -> tuple[NDArray[Any], bytes]:
    """Pixels, and EXIF where there is any."""
    chunks = _png_chunks(data, where)
    bodies = {kind: chunk[8:-4] for kind, chunk in reversed(chunks)}
    if int.from_bytes(bodies.get(b"acTL", b"")[:4], "big") > 1:
        raise unsupported("an animated PNG", where)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", bodies[b"IHDR"])
    if depth == 16 and colour != _PNG_GREY:
        # Pillow reads the upper byte only, and of 12-bit data that leaves 16 grey levels.
        what, remedy = (
            "a PNG with more than one channel of 16 bits",
            "save the slice as a 16-bit TIFF",
        )
        raise unsupported(what, where, remedy)
    _take(width * height, len(data), "PNG", where, budget)
    pixel_kinds = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    clean = b"".join(chunk for kind, chunk in chunks if kind in pixel_kinds)
    with PngImageFile(io.BytesIO(_PNG_STARTS + clean)) as image:
        if "transparency" in image.info or image.mode in ("LA", "RGBA"):
            notes.add("ALPHA_DROPPED")
        pixels = _pixels_of(image, where)
    missing = 0  # bytes of all rows, each with its filter's byte
    for left, top, right, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // right), -((top - height) // down)
        if columns > 0 < rows:
            missing += rows * (1 + -(-columns * depth * _PNG_CHANNELS[colour] // 8))
    engine = zlib.decompressobj()
    packed = b"".join(chunk[8:-4] for kind, chunk in chunks if kind == b"IDAT")
    for begin in range(0, len(packed), 2**14):  # which inflate to 16 MiB at most
        if missing > 0:
            missing -= len(engine.decompress(packed[begin : begin + 2**14]))
    if missing > 0:
        raise damaged("PNG", "pixels are missing", where)
    if colour == _PNG_PALETTE:
        table = np.frombuffer(bodies[b"PLTE"], np.uint8).reshape(-1, 3)
        pixels = looked_up(pixels[..., 0], table, "PNG", where)
    return pixels, bodies.get(b"eXIf", b"")


def _png_chunks(data: bytes, where: str) -> list[tuple[bytes, bytes]]:
    """Type and bytes of each chunk, its checksum verified (PNG, section 5.3)."""
    chunks: list[tuple[bytes, bytes]] = []
    at, kind = len(_PNG_STARTS), b""
    while kind != b"IEND":
        if len(chunks) > MOST_PARTS:
            raise _too_much(f"more than {MOST_PARTS:,} chunks", where)
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + length + 12]
        if len(chunk) < length + 12:
            raise damaged("PNG", "it is truncated", where)
        kind = chunk[4:8]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise damaged("PNG", "a checksum is wrong", where)
        chunks.append((kind, chunk))
        at += len(chunk)
    kinds = [kind for kind, _ in chunks]
    # Pillow takes the last of several headers, and whoever checks before it the first.
    if kinds[0] != b"IHDR":
        raise damaged("PNG", "its header (IHDR) is not its first chunk", where)
    for single in (b"IHDR", b"PLTE", b"tRNS", b"acTL"):
        if kinds.count(single) > 1:
            what = "headers" if single == b"IHDR" else f"{single.decode()} chunks"
            raise damaged("PNG", f"it has two {what}", where)
    return chunks


@contextmanager
def library(name: str, where: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one of our errors."""
    try:
        yield
    except GliosightError:
        raise
    except MemoryError as error:
        raise LimitExceededError(
            "not enough memory to decode it", where=where, remedy="give fewer or smaller images"
        ) from error
    except Exception as error:
        # Hostile bytes raise anything from struct.error to RecursionError.
        raise damaged(name, "it cannot be decoded", where) from error


def damaged(kind: str, what: str, where: str) -> DamagedInputError:
    """The error for a broken picture."""
    return DamagedInputError(
        f"damaged {kind}, {what}", where=where, remedy="copy or export the file again"
    )


def unsupported(what: str, where: str, remedy: str = SAVE_OTHERWISE) -> UnsupportedInputError:
    """The error for a sound picture of a kind that is not read."""
    return UnsupportedInputError(f"{what} is not read", where=where, remedy=remedy)


def _too_much(what: str, where: str) -> LimitExceededError:
    return LimitExceededError(
        f"it has {what}",
        where=where,
        remedy="save it again as PNG, if it is to be trusted",
    )


def _take(pixels: int, stored: int, kind: str, where: str, budget: Budget) -> None:
    # Four bytes a pixel hold every mode that is read; a palette is looked up in colours.
    budget.take(pixels * 4, where, packed=stored)
    if pixels == 0:
        raise damaged(kind, "a side is zero pixels long", where)


def _pixels_of(image: ImageFile, where: str) -> NDArray[Any]:
    """Pixels of an opened image, (rows, columns, channels); a palette's are its indices."""
    if image.mode not in ("1", "L", "I", "P", "LA", "RGB", "RGBA") and "I;16" not in image.mode:
        raise unsupported(f"colour model {image.mode}", where)
    values = native(np.array(image))
    if values.ndim == 2:
        return values[..., None]
    return values[..., :-1] if image.mode in ("LA", "RGBA") else values


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Integers and doubles in this machine's byte order, other floats as float32, bits as 0 and 255."""
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        return as_float32(values)
    if values.dtype.kind == "b":
        return values * np.uint8(255)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def looked_up(indices: NDArray[Any], table: NDArray[Any], kind: str, where: str) -> NDArray[Any]:
    """The (colours, 3) table's row of each pixel; one channel where all rows used are grey."""
    if int(indices.max()) >= len(table):
        raise damaged(kind, "its palette is too short", where)
    colours = table[indices]
    first = colours[..., :1]
    return np.asarray(first if (colours == first).all() else colours)


def upright(pixels: NDArray[Any], orientation: int) -> tuple[NDArray[Any], bool]:
    """Turn (rows, columns, channels) as the orientation says, and tell whether that did anything.

    Orientation 1 to 8 as in EXIF 2.32, tag 274; anything else counts as 1.
    """
    if orientation not in range(2, 9):
        return pixels, False
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels), True


def orientation_of(page: tifffile.TiffPage) -> int:
    """The orientation of a TIFF directory; 1 where it has none."""
    value = page.tags.valueof(ORIENTATION_TAG)
    return value if isinstance(value, int) else 1


def _exif_orientation(exif: bytes) -> int:
    try:
        # EXIF is a TIFF of its own inside the file.
        with tifffile.TiffFile(io.BytesIO(exif)) as tif:
            return orientation_of(tif.pages.first)
    except Exception:  # noqa: BLE001
        return 1  # broken EXIF says nothing about the pixels
