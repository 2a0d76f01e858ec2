"""Packed pixels: where each frame's fragments lie (read stage, DICOM, below `pixels`).

In: a file at the value of an encapsulated Pixel Data element. Out: the bytes of the frames that are
wanted, and of no others. pydicom's `get_frame` goes through the whole index for each frame; ten thousand
frames would take hours.

References
----------
DICOM PS3.5, A.4: a basic offset table, then fragments, then a delimiter. PS3.3, C.7.6.3.1.8: the extended
offset table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydicom.encaps import parse_basic_offsets, parse_fragments

from gliosight.errors import DamagedInputError
from gliosight.read.dicom.bounded import AGAIN, BoundedFile

_ITEM = 8
_END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class PackedFrames:
    """The fragments of every frame.

    Parameters
    ----------
    file : BoundedFile
    fragments : tuple of tuple of int
        For each frame where its fragments' items begin.
    where : str
    """

    file: BoundedFile
    fragments: tuple[tuple[int, ...], ...]
    where: str

    def size(self, number: int) -> int:
        """Bytes of a frame, counted from 1, as it is stored."""
        return sum(self._length(one) for one in self._of(number))

    def frame(self, number: int) -> bytes:
        """The bytes of a frame, counted from 1.

        Raises
        ------
        DamagedInputError
            There is no such frame, or it is cut short.
        """
        parts = []
        for one in self._of(number):
            length = self._length(one)
            part = self.file.read(length)
            if len(part) < length:
                raise _cut_short(self.where)
            parts.append(part)
        return b"".join(parts)

    def _of(self, number: int) -> tuple[int, ...]:
        if not 1 <= number <= len(self.fragments):
            raise DamagedInputError(
                f"frame {number} is missing, there are {len(self.fragments)}",
                where=self.where,
                remedy=AGAIN,
            )
        return self.fragments[number - 1]

    def _length(self, item: int) -> int:
        """The length of a fragment; the file is left at its first byte."""
        self.file.seek(item)
        head = self.file.read(_ITEM)
        if len(head) < _ITEM:
            raise _cut_short(self.where)
        return int.from_bytes(head[4:], "little")


def index(file: BoundedFile, start: int, frames: int, header: Any, where: str) -> PackedFrames:
    """Find the fragments of each frame, by the offset tables or by how the fragments end.

    Parameters
    ----------
    file : BoundedFile
    start : int
        Where the value of Pixel Data begins.
    frames : int
        How many the header claims.
    header : pydicom.Dataset
    where : str

    Raises
    ------
    DamagedInputError
        Fragments that are none, offsets that lead elsewhere, no way to tell the frames apart.
    """
    file.seek(start)
    try:
        offsets = parse_basic_offsets(file)
        first = file.tell()
        _, items = parse_fragments(file)
    except (ValueError, struct.error) as error:
        raise DamagedInputError(
            "the packed pixels are corrupt", where=where, remedy=AGAIN
        ) from error
    if not items:
        raise _cut_short(where)
    offsets = _extended(header) or offsets
    if frames == 1:
        groups = [tuple(items)]
    elif len(items) == frames:
        groups = [(one,) for one in items]
    elif offsets:
        groups = _by_offsets(items, [first + one for one in offsets], where)
    else:
        groups = _by_ends(file, items)
    if len(groups) != frames:
        raise DamagedInputError(
            f"{len(groups)} packed frames, the header says {frames}", where=where, remedy=AGAIN
        )
    return PackedFrames(file, tuple(groups), where)


def _extended(header: Any) -> list[int]:
    table = header.get("ExtendedOffsetTable")
    if not isinstance(table, bytes) or not table or len(table) % 8:
        return []
    return list(struct.unpack(f"<{len(table) // 8}Q", table))


def _by_offsets(items: list[int], starts: list[int], where: str) -> list[tuple[int, ...]]:
    places = {one: number for number, one in enumerate(items)}
    numbers = [places.get(one, -1) for one in starts]
    if numbers[0] != 0 or -1 in numbers or any(b <= a for a, b in pairwise(numbers)):
        raise DamagedInputError(
            "the table of frames leads elsewhere than to frames", where=where, remedy=AGAIN
        )
    return [tuple(items[a:b]) for a, b in pairwise([*numbers, len(items)])]


def _by_ends(file: BoundedFile, items: list[int]) -> list[tuple[int, ...]]:
    """Frames told apart by the end-of-image marker near a fragment's end."""
    groups: list[tuple[int, ...]] = []
    open_group: list[int] = []
    for item in items:
        file.seek(item + 4)
        length = int.from_bytes(file.read(4), "little")
        look = min(length, 10)
        file.seek(item + _ITEM + length - look)
        open_group.append(item)
        if _END_OF_IMAGE in file.read(look):
            groups.append(tuple(open_group))
            open_group = []
    if open_group:
        groups.append(tuple(open_group))
    return groups


def _cut_short(where: str) -> DamagedInputError:
    return DamagedInputError("cut short: the pixels end too early", where=where, remedy=AGAIN)
