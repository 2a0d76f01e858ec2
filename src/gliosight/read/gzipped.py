"""Gzip as a stream that cannot burst (read stage; apart, since `detect` and `nifti_file` share it).

The standard library's `gzip` reads on through empty members for as long as there are any, and raises on
the padding after the last member that `gunzip` ignores.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
# Stored bytes read at a time: after each member the rest of them is copied.
PIECE = 1 << 14
# Stored bytes may exceed twice the unpacked ones by this much: empty members, empty blocks and long
# header fields could go on for ever, and no compressor writes so many.
IDLE_BYTES = 2 << 20


class DamagedGzipError(Exception):
    """The stream is truncated, its checksum is wrong, or it holds nothing; the caller names the file."""


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
        self._idle = -IDLE_BYTES

    def read(self, size: int) -> bytearray:
        """Up to ``size`` bytes; fewer only at the end of the data.

        Raises
        ------
        DamagedGzipError
        """
        out = bytearray()
        while len(out) < size and not self._ended:
            out += self._step(min(CHUNK, size - len(out)))
        return out

    def skip(self, size: int) -> int:
        """Read past up to ``size`` bytes and return how many there were; memory stays small."""
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
            # Bytes after a member that do not begin another are padding; gunzip ignores them, too.
            self._ended = not self._pending.startswith(MAGIC)
            self._engine = zlib.decompressobj(wbits=31)
        return out
