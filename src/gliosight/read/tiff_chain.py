"""The chain of image directories of a TIFF, walked before a library sees the file (read stage).

In: a TIFF's bytes. Out: how many pages it has. A TIFF is a linked list whose links may leave the
file, run in circles or never end, and whose directories may claim more entries than there are
bytes; libraries log that and give fewer pages. Here it is an error. Layout: TIFF 6.0, section 2
(image file header, image file directory); BigTIFF with its wider fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gliosight.errors import DamagedInputError
from gliosight.read.limits import Budget


@dataclass(frozen=True)
class _Layout:
    """Field widths of classic TIFF and BigTIFF."""

    first_link_at: int
    link: str
    count: str
    entry_bytes: int


_CLASSIC = _Layout(first_link_at=4, link="I", count="H", entry_bytes=12)
_BIG = _Layout(first_link_at=8, link="Q", count="Q", entry_bytes=20)


def count_pages(data: bytes, where: str, budget: Budget) -> int:
    """Number of image directories in the main chain.

    Raises
    ------
    DamagedInputError
        The chain leaves the file, runs in a circle, or is empty.
    LimitExceededError
        More pages than ``members``.
    """
    order = "<" if data[:2] == b"II" else ">"
    (version,) = _unpack(order + "H", data, 2, where)
    layout = _BIG if version == 43 else _CLASSIC
    (link,) = _unpack(order + layout.link, data, layout.first_link_at, where)
    seen: set[int] = set()
    while link:
        if link in seen:
            raise _broken("its pages are linked in a circle", where)
        seen.add(link)
        budget.check_members(len(seen), where)
        (entries,) = _unpack(order + layout.count, data, link, where)
        after = link + struct.calcsize(order + layout.count) + entries * layout.entry_bytes
        (link,) = _unpack(order + layout.link, data, after, where)
    if not seen:
        raise _broken("it holds no page", where)
    return len(seen)


def _unpack(pattern: str, data: bytes, at: int, where: str) -> tuple[int, ...]:
    if at + struct.calcsize(pattern) > len(data):
        raise _broken(f"it ends after {len(data):,} bytes, before its own directory", where)
    return struct.unpack_from(pattern, data, at)


def _broken(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(
        f"damaged TIFF, {what}", where=where, remedy="copy or export the file again"
    )
