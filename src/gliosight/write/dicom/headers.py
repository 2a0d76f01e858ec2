"""Values of the source's headers, whatever state they are in, without a word (stage: write).

In: a pydicom data set of which nothing is known. Out: a value, or none where it is missing or cannot be read.
pydicom and highdicom are kept quiet here, since what they would print or log may quote a patient's name.
"""

from __future__ import annotations

import struct
from typing import Any

from pydicom.dataset import Dataset

# What reading a damaged value can raise in pydicom. RuntimeError: it says so, by a kind of it, of a value
# representation that it has no reader for.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    struct.error,
)


def value_of(header: Dataset, keyword: str) -> Any:
    """An attribute's value, or ``None`` where it is missing, empty or cannot be read."""
    try:
        return header.get(keyword) if keyword in header else None
    except UNREADABLE:
        return None


def text(header: Dataset, keyword: str) -> str:
    """An attribute's one value as text without padding; empty if it has no value, or several."""
    value = value_of(header, keyword)
    if value is None or isinstance(value, bytes) or _many(value):
        return ""
    try:
        return str(value).strip(" \0")
    except UNREADABLE:
        return ""


def has_value(header: Dataset, keyword: str) -> bool:
    """Whether an attribute has a value, readable or not; 0 is a value, padding is not."""
    element = header.get_item(keyword)
    if element is None or element.value is None:
        return False
    if isinstance(element.value, bytes):  # not parsed yet, or in vain
        return bool(element.value.strip(b" \0"))
    return not element.is_empty and bool(str(element.value).strip(" \0"))


def groups(header: Dataset, number: int, keyword: str) -> Dataset | None:
    """A frame's functional group, its own or the one shared by all (PS3.3, C.7.6.16)."""
    for name, index in (
        ("PerFrameFunctionalGroupsSequence", number - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        try:
            found = header[name].value[index][keyword].value[0]
        except UNREADABLE:
            continue
        if isinstance(found, Dataset):
            return found
    return None


def _many(value: Any) -> bool:
    # A name counts its letters, a list its values.
    if isinstance(value, str) or hasattr(value, "components") or not hasattr(value, "__len__"):
        return False
    return len(value) != 1


def place(header: Dataset) -> str:
    """How a message names an instance: by numbers, never by a name."""
    numbers = [text(header, one) for one in ("SeriesNumber", "InstanceNumber")]
    return "series {}, instance {}".format(*(one if one.isdigit() else "?" for one in numbers))
