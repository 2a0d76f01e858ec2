"""What reading and writing share of DICOM (domain layer): quiet libraries, and values of damaged headers.

Apart because the two stages may not import each other.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom import config
from pydicom.dataset import Dataset

# What pydicom raises for a damaged value; RuntimeError for a value representation it cannot read.
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
_LOGGERS = ("pydicom", "highdicom")
# Warning filters, loggers and pydicom's settings belong to the whole process: one thread at a time.
_TURN = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A fork waits until the settings are back, so a child never inherits them changed.
    os.register_at_fork(
        before=_TURN.acquire, after_in_parent=_TURN.release, after_in_child=_TURN.release
    )


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Keep pydicom and highdicom from warning and logging: what they quote may be a patient's name.

    Values are not validated meanwhile. The process's settings come back at the end, also where several
    threads do this at once: they wait for each other.

    Yields
    ------
    list of str
        The warnings; complete after the block.
    """
    messages: list[str] = []
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    handler = logging.NullHandler()  # else Python prints records that no handler takes
    with _TURN, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mode = config.settings.reading_validation_mode
        before = [(logger.disabled, logger.propagate) for logger in loggers]
        try:
            config.settings.reading_validation_mode = config.IGNORE
            for logger in loggers:
                logger.disabled, logger.propagate = True, False
                logger.addHandler(handler)
            yield messages
        finally:
            config.settings.reading_validation_mode = mode
            for logger, (disabled, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.disabled, logger.propagate = disabled, propagate
            # The model may be loaded in another thread meanwhile; what its engine warns of is no header's.
            messages += [
                str(warning.message)
                for warning in caught
                if not any(engine in warning.filename for engine in ("openvino", "onnxruntime"))
            ]


def value_of(header: Dataset, keyword: str) -> Any:
    """An attribute's value, or ``None`` where it is missing, empty or cannot be read."""
    try:
        return header.get(keyword) if keyword in header else None
    except UNREADABLE:
        return None


def values_of(header: Dataset, keyword: str) -> list[str]:
    """An attribute's values as text without padding; none where it is missing or cannot be read."""
    value = value_of(header, keyword)
    if value is None or isinstance(value, bytes):
        return []
    # A name is iterable too, but counts its letters.
    several = hasattr(value, "__iter__") and not isinstance(value, str)
    try:
        return [
            str(item).strip(" \0")
            for item in (value if several and not hasattr(value, "components") else [value])
        ]
    except UNREADABLE:
        return []


def text_of(header: Dataset, keyword: str) -> str:
    """An attribute's one value as text without padding; empty if it has no value, or several."""
    values = values_of(header, keyword)
    return values[0] if len(values) == 1 else ""


def group_of(header: Dataset, frame: int, keyword: str) -> Dataset | None:
    """A functional group of a frame (counted from 1): its own, or the one that all share.

    Source: DICOM PS3.3, C.7.6.16.
    """
    for name, index in (
        ("PerFrameFunctionalGroupsSequence", frame - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        try:
            group = header[name].value[index][keyword].value[0]
        except UNREADABLE:
            continue
        if isinstance(group, Dataset):
            return group
    return None


def new_dataset(**attributes: Any) -> Dataset:
    """A data set with these attributes."""
    out = Dataset()
    for keyword, value in attributes.items():
        setattr(out, keyword, value)
    return out


def instance_words(header: Dataset) -> str:
    """How a message names an instance: by numbers, never by a name."""
    numbers = (text_of(header, keyword) for keyword in ("SeriesNumber", "InstanceNumber"))
    series, instance = (number if number.isdigit() else "?" for number in numbers)
    return f"series {series}, instance {instance}"
