"""What a packed frame says of itself, before it is unpacked (read stage, DICOM, below `pixels`).

In: the bytes of one frame. Out: its size and precision by its own header, without a decoder. A decoder
allocates what that header claims, and crashes on some that contradict themselves, so what does not agree
with the DICOM header never reaches it.

References
----------
JPEG: ITU-T T.81, B.2.2 (SOF). JPEG-LS: ITU-T T.87, C.2.2 (SOF55). JPEG 2000 and HTJ2K: ITU-T T.800,
A.5.1 (SIZ).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SOI, _SOC = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "
# Frame headers and the precisions that go with them: baseline, extended, progressive, lossless, and
# JPEG-LS. Not hierarchical or arithmetic; gdcm's lossless decoder breaks down over less than 8 bits.
_PRECISIONS = {
    0xC0: range(8, 9),
    0xC1: range(8, 13, 4),
    0xC2: range(8, 13, 4),
    0xC3: range(8, 17),
    0xF7: range(2, 17),
}
_FRAMES = frozenset(_PRECISIONS)
# What a decoder needs beside them: tables, restart intervals, JPEG-LS parameters.
_NEEDED = frozenset({0xC4, 0xDB, 0xDD, 0xF8})
# What it does not: applications' segments and comments.
_IGNORED = frozenset({*range(0xE0, 0xF0), 0xFE})
_START_OF_SCAN = 0xDA
_KNOWN = _FRAMES | _NEEDED | _IGNORED | {_START_OF_SCAN}
_FILL = 0xFF
_TILES = 65_535


class BadCodestreamError(Exception):
    """The header is missing or of an unsupported kind; the caller names the frame."""


@dataclass(frozen=True)
class Codestream:
    """The header of a packed frame.

    Parameters
    ----------
    rows, columns, components : int
    precision : int
        Bits of a sample.
    signed : bool
        JPEG 2000 says so; the others do not know.
    clean : bytes
        The frame as a decoder gets it: without a file's wrapping and applications' segments.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    clean: bytes


def describe(frame: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame.

    Raises
    ------
    BadCodestreamError
    """
    try:
        if frame.startswith(_SOI):
            return _jpeg(frame)
        if frame.startswith(_JP2):  # a file's wrapping, which the standard forbids and some write
            inside = frame.find(_SOC)
            if inside > 0:
                return _jpeg2000(frame[inside:])
        if frame.startswith(_SOC):
            return _jpeg2000(frame)
    except struct.error as error:
        raise BadCodestreamError("its header is cut short") from error
    raise BadCodestreamError("it does not begin as such a frame does")


def _jpeg(frame: bytes) -> Codestream:
    """The frame header among the segments up to the scan.

    libjpeg warns of junk between segments and of unknown versions of JFIF and goes on; gdcm takes a
    warning for an impossible state, and that ends its process. So the one is refused, the other left out.
    """
    found, parts, scan = None, [_SOI], len(_SOI)
    for kind, scan, end in _segments(frame):
        if kind in _FRAMES:
            if found is not None:
                raise BadCodestreamError("it has two headers")
            found = (kind, *struct.unpack_from(">BHHB", frame, scan + 4))
        if kind not in _IGNORED and kind != _START_OF_SCAN:
            parts.append(frame[scan:end])
    if found is None:
        raise BadCodestreamError("its header is corrupt")
    kind, precision, rows, columns, components = found
    if precision not in _PRECISIONS[kind]:
        raise BadCodestreamError(f"it claims {precision} bits")
    clean = b"".join((*parts, frame[scan:]))
    return Codestream(rows, columns, components, precision, signed=False, clean=clean)


def _segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, beginning and end of each segment; the last is the start of the scan."""
    place, kind = len(_SOI), 0
    while kind != _START_OF_SCAN:
        mark, kind = struct.unpack_from(">BB", frame, place)
        if mark != _FILL:
            raise BadCodestreamError("its header is corrupt")
        if kind == _FILL:
            place += 1
            continue
        if kind not in _KNOWN:
            raise BadCodestreamError("its header is of no kind that DICOM allows")
        (length,) = struct.unpack_from(">H", frame, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(frame):
            raise BadCodestreamError("its header is cut short")
        yield kind, place, end
        place = end


def _jpeg2000(frame: bytes) -> Codestream:
    right, down, left, top = struct.unpack_from(">4I", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    depth, across, along = struct.unpack_from(">3B", frame, 42)
    if left > right or top > down or across != 1 or along != 1:
        raise BadCodestreamError("its header is corrupt")
    tile_width, tile_height = struct.unpack_from(">2I", frame, 24)
    width, height = right - left, down - top
    if not tile_width or not tile_height:
        raise BadCodestreamError("its header is corrupt")
    if (width // tile_width + 1) * (height // tile_height + 1) > _TILES:
        raise BadCodestreamError("it claims more tiles than the standard allows")
    precision = (depth & 0x7F) + 1
    return Codestream(height, width, components, precision, signed=bool(depth & 0x80), clean=frame)
