"""Strips and tiles of a TIFF, unpacked to bytes (read stage, below `tiff`; apart as the codecs).

In: the packed bytes of one segment and how many bytes it must hold. Out: those bytes, or an error
where there are fewer. Nothing beyond the wanted size is unpacked. What the bytes mean (byte order,
depth, predictor) is left to `tiff`: Pillow's own way through libtiff gives other numbers than the
uncompressed file for many of them, and libtiff prints what it dislikes to file descriptor 2.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from gliosight.read.limits import RATIO_FROM

NONE, LZW, JPEG, DEFLATE, DEFLATE_OLD, PACKBITS, LZMA = 1, 5, 7, 8, 32946, 32773, 34925

_LZMA_MEMORY = 256 * 1024**2
_DEFLATE_AT_MOST = 1032  # times that deflate can expand


class BombError(ValueError):
    """A segment that inflates far beyond its size."""


# LZW as in TIFF 6.0, section 13. A table of 4,096 strings begins with the bytes and two commands. The
# first code after a CLEAR defines no string, each later one defines one.
_CLEAR, _END, _FIRST, _STRINGS = 256, 257, 258, 4096
_DEFINED = _FIRST + np.maximum(np.arange(_STRINGS - _FIRST + 2) - 1, 0)


def _widths(*grows_at: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Bits of each code after a CLEAR, by the number of strings at which codes grow longer."""
    widths: np.ndarray[tuple[int], np.dtype[np.int64]] = np.full(len(_DEFINED), 9, np.int64)
    for strings in grows_at:
        widths += strings <= _DEFINED
    return widths


# GIF's LZW is the same, with the low bit first and codes that grow one string later.
_TIFF_WIDTHS, _GIF_WIDTHS = _widths(511, 1023, 2047), _widths(512, 1024, 2048)
_TIFF_ENDS = np.cumsum(_TIFF_WIDTHS)
_GIF_BITS = np.arange(16) < _GIF_WIDTHS[:, None]


def unpack_lzw(packed: bytes, size: int) -> bytes:
    """Write TIFF's LZW as GIF's, which Pillow decodes without libtiff."""
    if packed[:1] == b"\0" and packed[1:2] and packed[1] & 1:
        raise ValueError("LZW as before TIFF 6.0, with the low bit first")
    data = np.frombuffer(packed + b"\0\0", np.uint8)
    at, bits, code = 0, [], _CLEAR
    most = 8 * len(packed) // 9 + 1  # codes have nine bits or more
    while code == _CLEAR:
        ends = at + _TIFF_ENDS[:most]
        count = int(np.searchsorted(ends, 8 * len(packed), "right"))
        if count == 0:
            break
        begins = ends[:count] - _TIFF_WIDTHS[:count]
        byte, shift = begins >> 3, 24 - _TIFF_WIDTHS[:count] - (begins & 7)
        three = (
            data[byte].astype(np.int64) << 16
            | data[byte + 1].astype(np.int64) << 8
            | data[byte + 2]
        )
        codes = three >> shift & (1 << _TIFF_WIDTHS[:count]) - 1
        commands = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        if len(commands) == 0 and count == len(_TIFF_ENDS):
            raise ValueError("LZW without a CLEAR where the table is full")
        if len(commands):
            count = int(commands[0]) + 1
        code = int(codes[count - 1])
        at = int(ends[count - 1])
        as_bits = np.unpackbits(codes[:count].astype("<u2").view(np.uint8), bitorder="little")
        bits.append(as_bits.reshape(-1, 16)[_GIF_BITS[:count]])
    gif = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
    blocks = [gif[begin : begin + 255] for begin in range(0, len(gif), 255)]
    framed = b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return Image.frombytes("L", (size, 1), framed, "gif", 8, 0).tobytes()


def unpack_packbits(packed: bytes, size: int) -> bytes:
    """Apple's runs of bytes (TIFF 6.0, section 9)."""
    return Image.frombytes("L", (size, 1), packed, "packbits", "L").tobytes()


def unpack_deflate(packed: bytes, size: int) -> bytes:
    """Zlib's stream; raises `BombError` where it goes on far behind the pixels."""
    engine = zlib.decompressobj()
    unpacked = engine.decompress(packed, size)
    if len(engine.unconsumed_tail) * _DEFLATE_AT_MOST > RATIO_FROM:
        engine.decompress(engine.unconsumed_tail, RATIO_FROM)
        if engine.unconsumed_tail:
            raise BombError
    return unpacked


def unpack_lzma(packed: bytes, size: int) -> bytes:
    """One xz stream."""
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(packed, size)


# By the number in the Compression tag; JPEG has tables and colours and is decoded in `tiff`.
UNPACK: Mapping[int, Callable[[bytes, int], bytes]] = {
    NONE: lambda packed, size: packed[:size],
    LZW: unpack_lzw,
    DEFLATE: unpack_deflate,
    DEFLATE_OLD: unpack_deflate,
    PACKBITS: unpack_packbits,
    LZMA: unpack_lzma,
}
