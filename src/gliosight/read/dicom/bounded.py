"""Files for pydicom that end reading rather than memory (read stage, DICOM).

pydicom allocates what a header claims and makes an object of every item. Here a length beyond the end of the
file, too many bytes and too many parts are errors before that; a deflated data set is inflated as it is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import SEEK_CUR, SEEK_SET
from typing import BinaryIO

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.limits import Budget

# pydicom reads heads of elements and looks ahead in such pieces; a short read is its to notice.
SMALL = 64 * 1024
CHUNK = 1 << 20
# What a read costs beside its bytes: each is an element or an item, about a kilobyte of memory as an object.
READ_COST = 80
# What one header may cost. 10,000 enhanced frames with many private elements need some 130 MiB.
HEADER_COST = 256 * 1024**2

# The remedy for a file that is cut off or corrupt.
AGAIN = "fetch the file again from where it came"


class _Inflated:
    """A deflated data set as a file, inflated as far as it was read and never beyond the limits.

    It is a raw deflate stream (RFC 1951) after the meta header (PS3.5, A.5). Positions are counted as if it
    was inflated in place. Nothing is taken from the budget: the inflated bytes are dropped again.
    """

    def __init__(self, handle: BinaryIO, start: int, budget: Budget, where: str) -> None:
        handle.seek(start)
        self._handle = handle
        self._start = start
        self._position = start
        self._budget = budget
        self._where = where
        self._engine = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._data = bytearray()
        self._pending = b""
        self._packed = 0

    def read(self, size: int, /) -> bytes:
        first = self._position - self._start
        self.reaches(self._position + size)
        data = bytes(self._data[first : first + size])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        offset += self._position if whence == SEEK_CUR else 0
        self._position = max(self._start, offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def reaches(self, end: int) -> bool:
        while len(self._data) < end - self._start and not self._engine.eof:
            if not self._pending:
                self._pending = self._handle.read(CHUNK)
                self._packed += len(self._pending)
            if not self._pending:
                return False
            try:
                self._data += self._engine.decompress(self._pending, CHUNK)
            except zlib.error as error:
                raise damaged("the deflated data set is corrupt", self._where) from error
            self._pending = self._engine.unconsumed_tail
            Budget(self._budget.limits).take(len(self._data), self._where, packed=self._packed)
        return len(self._data) >= end - self._start


class BoundedFile:
    """A file whose reads are counted and checked; see `bounded`.

    Parameters
    ----------
    source : binary file
    reaches : callable
        Whether the source holds so many bytes from its beginning.
    where : str
    left : int
        What reading may still cost: bytes, and `READ_COST` for each read.
    """

    def __init__(
        self, source: BinaryIO | _Inflated, reaches: Callable[[int], bool], where: str, left: int
    ) -> None:
        self._read = source.read
        self.seek = source.seek
        self.tell = source.tell
        self.reaches = reaches
        self._where = where
        self._left = left

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes.

        Raises
        ------
        DamagedInputError
            Far more is asked for than there is.
        LimitExceededError
            Too much or too often was read.
        """
        if size > SMALL and not self.reaches(self.tell() + size):
            raise beyond_the_end(self._where)
        data = self._read(size)
        self._left -= len(data) + READ_COST
        if self._left < 0:
            raise LimitExceededError(
                "the file has too many or too large parts",
                where=self._where,
                remedy="no scanner writes such a file; leave it out",
            )
        return data


def bounded(
    handle: BinaryIO,
    size: int,
    where: str,
    budget: Budget,
    *,
    deflated_from: int | None = None,
    cost: int = HEADER_COST,
) -> BoundedFile:
    """Bound an open file of ``size`` bytes, inflated from ``deflated_from`` on."""
    if deflated_from is None:
        return BoundedFile(handle, lambda end: end <= size, where, cost)
    source = _Inflated(handle, deflated_from, budget, where)
    return BoundedFile(source, source.reaches, where, cost)


def damaged(what: str, where: str) -> DamagedInputError:
    """The error for a file that is cut off or corrupt."""
    return DamagedInputError(what, where=where, remedy=AGAIN)


def beyond_the_end(where: str) -> DamagedInputError:
    """The error for a length that leads beyond the end."""
    return damaged("cut short: an element is longer than the file", where)
