"""Gzip, read as a stream that cannot burst (read stage, used for NIfTI).

In: an open file that begins with gzip's magic bytes. Out: bytes, as many as asked for, never more.
The standard library's `gzip` would do, but it hides where the compressed data end, and with that
whether the checksum was ever looked at.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

CHUNK = 1 << 20
MAGIC = b"\x1f\x8b"
# How much may follow the wanted bytes before we stop looking for the checksum.
TRAILER = 1 << 16


class DamagedGzipError(Exception):
    """The stream is truncated, or its checksum is wrong; the caller names the file."""


class GzipStream:
    """Decompressed bytes of a gzip file of one or several members.

    Parameters
    ----------
    handle : binary file
        Open at the beginning.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._engine = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._ended = False

    def read(self, size: int) -> bytearray:
        """Up to ``size`` bytes; fewer only at the end of the data.

        Raises
        ------
        DamagedGzipError
            Truncated, not deflate, or a checksum that does not fit.
        """
        out = bytearray()
        while len(out) < size and not self._ended:
            out += self._step(min(CHUNK, size - len(out)))
        return out

    def skip(self, size: int) -> int:
        """Pass over up to ``size`` bytes and say how many there were; memory stays small."""
        passed = 0
        while passed < size:
            got = len(self.read(min(CHUNK, size - passed)))
            if not got:
                break
            passed += got
        return passed

    def finish(self) -> None:
        """Go on to the checksum, if it is near; raises `DamagedGzipError` where it is wrong."""
        self.read(TRAILER)

    def _step(self, most: int) -> bytes:
        if not self._pending:
            self._pending = self._handle.read(CHUNK)
        if not self._pending:
            raise DamagedGzipError("the compressed data end too early")
        try:
            out = self._engine.decompress(self._pending, most)
        except zlib.error as error:
            raise DamagedGzipError("the compressed data are corrupt") from error
        self._pending = self._engine.unconsumed_tail
        if self._engine.eof:
            self._next_member()
        return out

    def _next_member(self) -> None:
        rest = self._engine.unused_data
        if len(rest) < len(MAGIC):
            rest += self._handle.read(CHUNK)
        # What follows a member and is no member is padding, as gunzip sees it, too.
        self._ended = not rest.startswith(MAGIC)
        self._pending = rest
        self._engine = zlib.decompressobj(wbits=31)
