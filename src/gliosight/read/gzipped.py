"""Gzip as a stream that cannot burst (apart, since `detect` needs it and no nibabel).

The standard library's `gzip` reads on through empty members for ever, and refuses the padding after the last
member that `gunzip` ignores.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
# Stored bytes read at a time: after each member the rest of them is copied.
PIECE = 1 << 14
# Stored bytes may exceed twice the unpacked ones by this much; no compressor writes so many empty members,
# empty blocks and long header fields.
IDLE_BYTES = 2 << 20


class DamagedGzipError(Exception):
    """The stream is truncated or corrupt, or it holds nothing; the caller names the file."""


class GzipStream:
    """The unpacked bytes of a gzip file of one or several members, from its beginning on."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._engine = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._ended = False
        self._idle = -IDLE_BYTES

    def read(self, size: int) -> bytearray:
        """Up to ``size`` bytes, fewer only at the end; raises `DamagedGzipError`."""
        out = bytearray()
        while len(out) < size and not self._ended:
            out += self._step(min(CHUNK, size - len(out)))
        return out

    def skip(self, size: int) -> int:
        """Read past up to ``size`` bytes in little memory; returns how many there were."""
        passed = 0
        while passed < size and (count := len(self.read(min(CHUNK, size - passed)))):
            passed += count
        return passed

    def _step(self, most: int) -> bytes:
        self._pending = self._pending or self._handle.read(PIECE)
        if not self._pending:
            raise DamagedGzipError("the compressed data end too early")
        before = len(self._pending)
        try:
            out = self._engine.decompress(self._pending, most)
        except zlib.error as error:
            raise DamagedGzipError("the compressed data are corrupt") from error
        self._pending = self._engine.unconsumed_tail or self._engine.unused_data
        self._idle += before - len(self._pending) - 2 * len(out)
        if self._idle > 0:
            raise DamagedGzipError("megabytes of the compressed data hold nothing")
        if self._engine.eof:
            if len(self._pending) < len(MAGIC):
                self._pending += self._handle.read(PIECE)
            self._ended = not self._pending.startswith(MAGIC)
            self._engine = zlib.decompressobj(wbits=31)
        return out
