"""Values of header elements as text (read stage, DICOM).

In: a header as `instances` settles it, and a keyword. Out: the value as DICOM text, several values parted
by backslashes, ``""`` where it is absent or of no use. Nothing here raises: a header is a stranger's, and a
DS of ``NaN`` or a US that holds text is as good as absent. Text can be compared and remembered, which makes
the many equal values of a series cheap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.tag import Tag

# Longer values are cut, and of several only the first are taken: nothing read here needs more.
LONGEST = 1024
MOST_VALUES = 64
# What a sequence with items reads as.
PRESENT = "present"


@lru_cache(maxsize=512)
def tag_of(keyword: str) -> tuple[Any, bool]:
    """The tag of a keyword, and whether it is a sequence's."""
    tag = Tag(keyword_dict[keyword])
    return tag, dictionary_VR(tag) == "SQ"


def stored(dataset: Any, keyword: str) -> str:
    """The value of an element as text.

    Parameters
    ----------
    dataset : pydicom.Dataset
    keyword : str

    Returns
    -------
    str
        Trimmed; several values parted by backslashes; ``""`` where absent, empty or unreadable; `PRESENT`
        for a sequence with items.
    """
    tag, is_sequence = tag_of(keyword)
    if tag not in dataset:
        return ""
    try:
        element = dataset[tag]
        value = element.value
        if value is None:
            return ""
        if isinstance(value, str):  # most of them, DS and IS with their original text
            return str(value).strip(" \0")[:LONGEST]
        if is_sequence or element.VR == "SQ":
            return PRESENT if is_sequence and element.VR == "SQ" and len(value) else ""
        if isinstance(value, bytes):
            return value[:LONGEST].decode("latin-1").strip(" \0")
        if isinstance(value, Iterable):
            return "\\".join(str(one).strip(" \0") for one in islice(value, MOST_VALUES))[:LONGEST]
        return str(value).strip(" \0")[:LONGEST]
    except Exception:  # noqa: BLE001 - a value that cannot even be written down
        return ""


@lru_cache(maxsize=8192)
def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a value; empty if one of them is not a finite number (PS3.5 section 6.2)."""
    if not text or "_" in text:  # float() would take 1_000
        return ()
    try:
        out = tuple(float(one) for one in text.split("\\"))
    except ValueError:
        return ()
    return out if all(map(math.isfinite, out)) else ()


def number(text: str, least: float = -math.inf, most: float = math.inf) -> float | None:
    """The first number of a value if it lies within bounds, else ``None``."""
    found = numbers(text)
    return found[0] if found and least <= found[0] <= most else None


def integer(text: str) -> int | None:
    """The first number of a value as a whole one; ``None`` if it is not a number or absurd."""
    found = number(text, -(2.0**53), 2.0**53)
    return None if found is None or found != int(found) else int(found)


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty where it is absent or no sequence."""
    tag, _ = tag_of(keyword)
    if tag not in dataset:
        return []
    element = dataset[tag]
    return list(element.value or ()) if element.VR == "SQ" else []


def first_item(dataset: Any, keyword: str) -> Any | None:
    """The first item of a sequence, ``None`` if it has no item."""
    found = items(dataset, keyword)
    return found[0] if found else None
