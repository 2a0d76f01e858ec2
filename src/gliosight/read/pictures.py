"""Pixels of one PNG or JPEG, and what all picture files share; `tiff` has the rest (read stage).

Pillow decodes the pixels. It gets nothing else: text, colour profiles and thumbnails are never inflated.
Pillow fills pixels that are missing; here they are an error.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

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


@dataclass(frozen=True)
class Picture:
    """What one picture file holds."""

    pages: NDArray[Any]  # (pages, rows, columns, channels), 1 or 3 of them; integers or float32
    notes: frozenset[str]  # flags that are due: ALPHA_DROPPED, LOSSY_SOURCE, TURNED_UPRIGHT


def decode_picture(data: bytes, kind: Kind, where: str, budget: Budget) -> Picture:
    """Decode a PNG or JPEG.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError
    """
    notes: set[str] = set()
    with decoding(kind.value, where):
        if kind is Kind.PNG:
            pixels, exif = _decode_png(data, where, budget, notes)
        else:
            pixels, exif = decode_jpeg(data, where, budget)
            notes.add("LOSSY_SOURCE")
        pixels = upright(pixels, _exif_orientation(exif), notes)
    return Picture(pixels[None], frozenset(notes))


@contextmanager
def decoding(kind: str, where: str) -> Iterator[None]:
    """Turn whatever a library raises into one of our errors."""
    try:
        yield
    except GliosightError:
        raise
    except MemoryError as error:
        what, remedy = "not enough memory to decode it", "give fewer or smaller images"
        raise LimitExceededError(what, where=where, remedy=remedy) from error
    except Exception as error:  # hostile bytes raise anything from struct.error to RecursionError
        raise damaged(kind, "it cannot be decoded", where) from error


def damaged(kind: str, what: str, where: str) -> DamagedInputError:
    """The error for a broken picture."""
    remedy = "copy or export the file again"
    return DamagedInputError(f"damaged {kind}, {what}", where=where, remedy=remedy)


def unsupported(what: str, where: str, remedy: str = SAVE_OTHERWISE) -> UnsupportedInputError:
    """The error for a sound picture of a kind that is not read."""
    return UnsupportedInputError(f"{what} is not read", where=where, remedy=remedy)


def _too_much(what: str, where: str) -> LimitExceededError:
    remedy = "save it again as PNG, if it is to be trusted"
    return LimitExceededError(f"it has {what}", where=where, remedy=remedy)


def _take(pixels: int, stored: int, kind: str, where: str, budget: Budget) -> None:
    # Four bytes a pixel hold every mode that is read; a palette's colours are looked up later.
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


def upright(pixels: NDArray[Any], orientation: object, notes: set[str]) -> NDArray[Any]:
    """Turn (rows, columns, channels) as tag 274 of EXIF 2.32 says, whose values are 1 to 8."""
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return pixels
    notes.add("TURNED_UPRIGHT")
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


ORIENTATION = 274  # the same number in EXIF and in TIFF
# A JPEG has no room for more, and tags may share their values.
MOST_EXIF = 2**16


def _exif_orientation(exif: bytes) -> object:
    try:
        with tifffile.TiffFile(io.BytesIO(exif[:MOST_EXIF])) as tif:  # EXIF is a TIFF of its own
            return tif.pages.first.tags.valueof(ORIENTATION)
    except Exception:  # noqa: BLE001
        return None  # broken EXIF says nothing about the pixels


# PNG. Channels of each colour type (PNG, section 11.2.2), and each interlace pass's first column, first row,
# step along columns, step along rows (section 8.2).
GREY, PNG_PALETTE = 0, 3
PNG_CHANNELS = {GREY: 1, 2: 3, PNG_PALETTE: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
PNG_STARTS = b"\x89PNG\r\n\x1a\n"
# Chunks of a PNG, segments of a JPEG. Encoders write a chunk for each 8 KiB or more.
MOST_PARTS = 100_000


def _decode_png(
    data: bytes, where: str, budget: Budget, notes: set[str]
) -> tuple[NDArray[Any], bytes]:
    """Pixels and EXIF."""
    chunks = _png_chunks(data, where)
    (header,) = chunks[b"IHDR"]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[8:-4])
    if b"acTL" in chunks and int.from_bytes(chunks[b"acTL"][0][8:12], "big") > 1:
        raise unsupported("an animated PNG", where)
    if depth == 16 and colour != GREY:
        # Pillow reads the upper byte only, and of 12-bit data that leaves 16 grey levels.
        remedy = "save the slice as a 16-bit TIFF"
        raise unsupported("a PNG with more than one channel of 16 bits", where, remedy)
    _take(width * height, len(data), "PNG", where, budget)
    if b"tRNS" in chunks or colour in (4, 6):
        notes.add("ALPHA_DROPPED")
    needed = (chunks.get(kind, ()) for kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
    with PngImageFile(io.BytesIO(b"".join((PNG_STARTS, *chain(*needed))))) as image:
        pixels = _pixels_of(image, where)
    missing = 0  # bytes of all rows, each with its filter's byte
    for left, top, right, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = len(range(left, width, right)), len(range(top, height, down))
        missing += rows * (1 + -(-columns * depth * PNG_CHANNELS[colour] // 8)) if columns else 0
    engine = zlib.decompressobj()
    packed = b"".join(chunk[8:-4] for chunk in chunks[b"IDAT"])
    for begin in range(0, len(packed), 2**14):  # which inflate to 16 MiB at most
        if missing > 0:
            missing -= len(engine.decompress(packed[begin : begin + 2**14]))
    if missing > 0:
        raise damaged("PNG", "pixels are missing", where)
    if colour == PNG_PALETTE:
        table = np.frombuffer(chunks[b"PLTE"][0][8:-4], np.uint8).reshape(-1, 3)
        pixels = looked_up(pixels[..., 0], table, "PNG", where)
    return pixels, chunks[b"eXIf"][0][8:-4] if b"eXIf" in chunks else b""


def _png_chunks(data: bytes, where: str) -> dict[bytes, list[bytes]]:
    """The chunks of each type, whole, their checksums verified (PNG, section 5.3)."""
    chunks: dict[bytes, list[bytes]] = {}
    at = len(PNG_STARTS)
    for _ in range(MOST_PARTS):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + length + 12]
        if len(chunk) < length + 12:
            raise damaged("PNG", "it is truncated", where)
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise damaged("PNG", "a checksum is wrong", where)
        chunks.setdefault(chunk[4:8], []).append(chunk)
        if b"IHDR" not in chunks:
            raise damaged("PNG", "its header (IHDR) is not its first chunk", where)
        if b"IEND" in chunks:
            break
        at += len(chunk)
    else:
        raise _too_much(f"more than {MOST_PARTS:,} chunks", where)
    for kind in (b"IHDR", b"PLTE", b"tRNS", b"acTL"):  # Pillow takes the last of several
        if len(chunks.get(kind, ())) > 1:
            raise damaged("PNG", f"it has two {kind.decode()} chunks", where)
    return chunks


# JPEG (ITU-T T.81, annex B). Encoders write about ten scans into a progressive one; each is a pass over all
# pixels.
MOST_SCANS, MOST_SCANNED_PIXELS = 100, 2**31
# In all scans together. The noise in front of each takes 32 bytes.
MOST_RESTARTS = 2**22
SOS, APP1, ADOBE = 0xDA, 0xE1, 0xEE
# What is stored besides the pixels: application segments after JFIF's, and comments.
BESIDES = frozenset({*range(0xE1, 0xF0), 0xFE}) - {ADOBE}
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
HUFFMAN, ARITHMETIC = (0xC0, 0xC1, 0xC2), (0xC9, 0xCA)
JPEG_STARTS, JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
# In coded data FF is followed by 00 or by a restart marker.
SCAN_ENDS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
RESTART = re.compile(rb"(?=\xff[\xd0-\xd7])")
NOISE = bytes.fromhex("5a93c61e78b4d20f6ae1359c47d8b02b") * 2
# Marker, header, and the coded data behind it where it begins a scan.
_Segment = tuple[int, bytes, bytes]


def decode_jpeg(
    data: bytes, where: str, budget: Budget, *, transform: int | None = None
) -> tuple[NDArray[Any], bytes]:
    """Pixels and EXIF; in a TIFF ``transform`` is the colour model, 0 for RGB and 1 for YCbCr.

    libjpeg fills what is missing with grey, without an error. So the stream is decoded once more with
    noise behind its coded data: that is only read where pixels are missing, which then differ.
    """
    segments = list(_jpeg_segments(data, where))
    _check_jpeg(segments, len(data), where, budget)
    start, besides = JPEG_STARTS, BESIDES
    if transform is not None:
        start += b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])
        besides |= {ADOBE}

    def decoded(noise: bytes) -> NDArray[Any]:
        parts = [start]
        for marker, header, coded in segments:
            if marker in besides:
                continue
            parts += [header, coded]
            if coded and noise:
                parts[-1], restarts = RESTART.subn(noise, coded)
                parts += [noise, bytes([0xFF, 0xD0 + restarts % 8]), noise]
        with JpegImageFile(io.BytesIO(b"".join([*parts, JPEG_ENDS]))) as image:
            return _pixels_of(image, where)

    pixels = decoded(b"")
    huffman = any(marker in HUFFMAN for marker, _, _ in segments)
    if huffman and not np.array_equal(pixels, decoded(NOISE)):
        raise damaged("JPEG", "pixels are missing", where)
    besides_pixels = (header for marker, header, _ in segments if marker == APP1)
    exif = (header[10:] for header in besides_pixels if header.startswith(b"Exif\0\0", 4))
    return pixels, next(exif, b"")


def _jpeg_segments(data: bytes, where: str) -> Iterator[_Segment]:
    at = len(JPEG_STARTS)
    for _ in range(MOST_PARTS):
        marker = MARKER.match(data, at)
        if marker is not None and marker[1] == JPEG_ENDS[1:]:
            return
        begins = marker.end() - 2 if marker else len(data)
        if begins + 4 > len(data):
            raise damaged("JPEG", "it is truncated", where)
        at = begins + 2 + int.from_bytes(data[begins + 2 : begins + 4], "big")
        header = data[begins:at]
        if header[1] != SOS:
            yield header[1], header, b""
            continue
        end = SCAN_ENDS.search(data, at)
        if end is None:
            raise damaged("JPEG", "it is truncated", where)
        yield SOS, header, data[at : end.start()].rstrip(b"\xff")
        at = end.start()
    raise _too_much(f"more than {MOST_PARTS:,} segments", where)


def _check_jpeg(segments: list[_Segment], stored: int, where: str, budget: Budget) -> None:
    """Refuse what Pillow does not decode, what lacks coefficients, and scans without end."""
    # Without a frame header, or with two, the unpacking fails.
    ((marker, header, _),) = [part for part in segments if part[0] in FRAME_HEADERS]
    precision, rows, columns, components = struct.unpack_from(">BHHB", header, 4)
    if precision != 8 or marker not in HUFFMAN + ARITHMETIC:
        raise unsupported(f"a JPEG of {precision} bits, or without loss,", where)
    _take(rows * columns, stored, "JPEG", where, budget)
    scans = [(header, coded) for marker, header, coded in segments if marker == SOS]
    if len(scans) > MOST_SCANS or len(scans) * rows * columns > MOST_SCANNED_PIXELS:
        what = f"{len(scans):,} scans over {columns:,} x {rows:,} pixels"
        limit = f"{MOST_SCANS} scans and {MOST_SCANNED_PIXELS:,} pixels in all of them"
        raise _too_much(f"{what}, the limit is {limit}", where)
    restarts = [sum(1 for _ in RESTART.finditer(coded)) for _, coded in scans]
    if max(restarts, default=0) > -(-rows // 8) * -(-columns // 8):
        raise damaged("JPEG", "it has more restart markers than blocks", where)
    if sum(restarts) > MOST_RESTARTS:
        raise _too_much(f"more than {MOST_RESTARTS:,} restart markers", where)
    # Of each 8 x 8 block all 64 coefficients are coded, in the end to their last bit.
    coefficients: set[tuple[int, int]] = set()
    for header, _ in scans:
        names = header[5 : 5 + 2 * header[4] : 2]
        first, last, bits = header[5 + 2 * header[4] : 8 + 2 * header[4]]
        if bits & 15 == 0:
            coefficients.update((name, at) for name in names for at in range(first, last + 1))
    if len(coefficients) < 64 * components:
        raise damaged("JPEG", "pixels are missing", where)
