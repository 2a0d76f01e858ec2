"""A `DicomSpec` from words, as the command line and scripts give them (phantom layer).

In: ``NAME=VALUE`` texts. Out: a `DicomSpec`. Names are its fields; ``oblique`` stands for three
angles that make ``rotation``. Sets are words joined by commas, ``none`` is an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gliosight.phantom.dicom.spec import DicomSpec, turned

_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _flag(text: str) -> bool:
    return _YES_OR_NO[text.lower()]


def _words(text: str) -> frozenset[str]:
    return frozenset() if text == "none" else frozenset(text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(one) for one in text.split(","))


def _whole(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


# How each field is read; the spec itself checks what comes out.
_READ: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        (
            "vendor",
            "layout",
            "syntax",
            "descriptions",
            "t1_grid",
            "t1_frame",
            "numbering",
            "identity",
        ),
        str,
    ),
    **dict.fromkeys(
        (
            "signed",
            "contrast_tags",
            "shuffled_names",
            "stripped",
            "no_frame_of_reference",
            "no_preamble",
            "no_meta",
            "wrong_charset",
            "dicomdir",
        ),
        _flag,
    ),
    **dict.fromkeys(("traps", "repeats"), _words),
    **dict.fromkeys(("concatenation", "bits"), int),
    **dict.fromkeys(("tilt_degrees", "uneven"), float),
    **dict.fromkeys(("order", "missing"), _whole),
    **dict.fromkeys(("shift", "oblique"), _numbers),
    "flips": lambda text: tuple(_flag(one) for one in text.split(",")),
}
SETTINGS = tuple(_READ)


def parse_settings(texts: Iterable[str]) -> DicomSpec:
    """Read ``NAME=VALUE`` texts.

    Raises
    ------
    ValueError
        An unknown name (all names are listed), a value that cannot be read, or one that `DicomSpec`
        refuses.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in _READ:
            raise ValueError(f"no setting {name!r}, there are: {', '.join(SETTINGS)}")
        if name in values:
            raise ValueError(f"{name} is set twice")
        try:
            values[name] = _READ[name](value)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{name} cannot be {value!r}") from error
    angles = values.pop("oblique", None)
    if angles is not None:
        if len(angles) != 3:
            raise ValueError("oblique needs three angles, as in oblique=10,20,5")
        values["rotation"] = turned(*angles)
    return DicomSpec(**values)
