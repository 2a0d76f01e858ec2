"""Files that cannot be read without bound (read stage, DICOM, below `instances` and `pixels`).

In: an open file. Out: the same, as pydicom wants a file, but counting: a length beyond the end, a header
that never ends and one of too many parts stop it. pydicom allocates what a header claims and makes an
object of every item; here nothing is allocated that is not really there. A deflated data set is a file,
too, inflated only as far as it is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import SEEK_CUR, SEEK_SET
from typing import Any, BinaryIO, Protocol

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.limits import Budget

# Up to here a short read is the caller's to notice: pydicom reads its heads and looks ahead like this.
SMALL = 64 * 1024
CHUNK = 1 << 20
# What a read costs beside its bytes: each is an element or an item, about a kilobyte of memory as an object.
READ_COST = 80
# What one header may cost. 10,000 enhanced frames of a talkative scanner need some 130 MiB.
HEADER_COST = 256 * 1024**2

# What helps against a file that was cut off or spoilt on its way.
AGAIN = "fetch the file again from where it came"


class Source(Protocol):
    """What is read here: a binary file that also knows whether it is long enough."""

    def read(self, size: int = -1, /) -> bytes:
        """Give up to ``size`` bytes."""

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Go to a place."""

    def tell(self) -> int:
        """Where the next read begins."""


class BoundedFile:
    """A file for pydicom that ends reading rather than memory.

    Parameters
    ----------
    source : Source
    reaches : callable
        Whether the source holds so many bytes from its beginning.
    where : str
        For messages.
    left : int
        What reading may still cost: bytes, and `READ_COST` for each read.
    """

    def __init__(
        self, source: Source, reaches: Callable[[int], bool], where: str, left: int
    ) -> None:
        self._read = source.read
        self.seek = source.seek
        self.tell = source.tell
        self.reaches = reaches
        self._where = where
        self._left = left

    def read(self, size: int = -1) -> bytes:
        """Give up to ``size`` bytes.

        Raises
        ------
        DamagedInputError
            Far more is asked for than there is.
        LimitExceededError
            Too much or too often was read.
        """
        if (size > SMALL or size < 0) and not self.reaches(self.tell() + size):
            raise beyond_the_end(self._where)
        out = self._read(size)
        self._left -= len(out) + READ_COST
        if self._left < 0:
            raise LimitExceededError(
                "the file has too many or too large parts",
                where=self._where,
                remedy="no scanner writes such a file; leave it out",
            )
        return out


class Inflated:
    """A deflated data set as a file: inflated as far as it was read, and never past the limits.

    Parameters
    ----------
    handle : binary file
        At the beginning of the deflated bytes.
    start : int
        Where that is in the file; places count from the file's beginning, as if nothing was packed.
    budget : Budget
        Whose limits hold; nothing is taken from it, since the bytes are let go again.
    where : str

    References
    ----------
    DICOM PS3.5, A.5: a raw deflate stream (RFC 1951) after the meta header.
    """

    def __init__(self, handle: BinaryIO, start: int, budget: Budget, where: str) -> None:
        self._handle = handle
        self._start = start
        self._budget = budget
        self._where = where
        self._engine = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._data = bytearray()
        self._pending = b""
        self._packed = 0
        self._place = start

    def read(self, size: int = -1, /) -> bytes:
        """Give up to ``size`` bytes; ``size`` is always given here."""
        first = self._place - self._start
        self.reaches(self._place + size)
        out = bytes(self._data[first : first + size])
        self._place += len(out)
        return out

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Go to a place, counted from the file's beginning or from here."""
        self._place = max(self._start, offset + (self._place if whence == SEEK_CUR else 0))
        return self._place

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def reaches(self, end: int) -> bool:
        """Inflate up to ``end`` and say whether there was so much."""
        while len(self._data) < end - self._start and not self._engine.eof:
            if not self._pending:
                self._pending = self._handle.read(CHUNK)
                self._packed += len(self._pending)
            if not self._pending:
                return False
            try:
                self._data += self._engine.decompress(self._pending, CHUNK)
            except zlib.error as error:
                raise DamagedInputError(
                    "the deflated data set is corrupt",
                    where=self._where,
                    remedy="fetch the file again from where it came",
                ) from error
            self._pending = self._engine.unconsumed_tail
            # A budget of its own: the bytes are let go, and the pixels are counted by themselves.
            Budget(self._budget.limits).take(len(self._data), self._where, packed=self._packed)
        return len(self._data) >= end - self._start


def bounded(
    handle: BinaryIO,
    size: int,
    where: str,
    budget: Budget,
    *,
    deflated_from: int | None = None,
    cost: int = HEADER_COST,
) -> BoundedFile:
    """An open file of ``size`` bytes with bounds, inflated from ``deflated_from`` on."""
    source: Any = handle
    if deflated_from is None:
        return BoundedFile(source, lambda end: end <= size, where, cost)
    handle.seek(deflated_from)
    source = Inflated(handle, deflated_from, budget, where)
    return BoundedFile(source, source.reaches, where, cost)


def beyond_the_end(where: str) -> DamagedInputError:
    """The error for a length that leads beyond the end."""
    return DamagedInputError(
        "cut short: an element is longer than the file",
        where=where,
        remedy="fetch the file again from where it came",
    )
