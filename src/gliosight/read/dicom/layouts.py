"""How pixels are stored and what their numbers mean, by the header (read stage, DICOM, below `pixels`).

In: an `Instance`. Out: its `Layout`, and slope and intercept of its frames; or why it is no image that is
read here. No pixel is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydicom import uid

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.read.dicom.bounded import AGAIN
from gliosight.read.dicom.instances import Instance, PixelElement
from gliosight.read.dicom.syntaxes import Syntax, syntax_of

_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_GREY = ("MONOCHROME1", "MONOCHROME2")
# What may not be taken for absent where it is there but no number.
_NEEDED = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)
_RESCALE = ("RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True)
class Layout:
    """How an instance's pixels are stored.

    Parameters
    ----------
    rows, columns, frames : int
    allocated, stored, low : int
        Bits of a cell, bits of a sample in it, and the lowest of them.
    kind : {"u", "i", "f"}
    inverted : bool
        More is darker.
    little : bool
    swapped : bool
        Bytes stand pairwise the wrong way round (8 bits in big endian words).
    syntax : Syntax
    element : PixelElement
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    low: int
    kind: Literal["u", "i", "f"]
    inverted: bool
    little: bool
    swapped: bool
    syntax: Syntax
    element: PixelElement

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, in native byte order."""
        return np.dtype(f"{self.kind}{self.allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Of one frame, unpacked."""
        return self.rows * self.columns * (self.allocated // 8)


def unreadable_value(instance: Instance) -> DamagedInputError | None:
    """The error for a value that an image needs and that is no number; else ``None``."""
    for keyword in _NEEDED:
        if keyword in instance.unreadable:
            return _unusable(keyword, "not a number", instance.where)
    return None


def layout_of(instance: Instance) -> Layout:
    """How an instance's pixels are stored, if they are of a kind that is read.

    Raises
    ------
    DamagedInputError
        No pixels, or a header that does not say how they are stored.
    UnsupportedInputError
        Colour, masks of 1 bit, transfer syntaxes and depths that are not read.
    """
    where, header, element = instance.where, instance.header, instance.pixels
    if (error := unreadable_value(instance)) is not None:
        raise error
    if element is None:
        raise DamagedInputError("there are no pixels", where=where, remedy="leave it out")
    syntax = syntax_of(instance.syntax, where)
    _refuse_colour(header, where)
    rows, columns = _whole(header, "Rows", where), _whole(header, "Columns", where)
    allocated = _FLOATS.get(element.keyword) or _whole(header, "BitsAllocated", where)
    if allocated == 1:
        raise UnsupportedInputError(
            "a stored mask of 1 bit, not an image", where=where, remedy="give the MR image"
        )
    if element.keyword in _FLOATS:
        stored, high = allocated, allocated - 1
        if not syntax.native:
            raise DamagedInputError("packed numbers with a point", where=where, remedy=AGAIN)
    else:
        if allocated not in (8, 16, 32):
            raise UnsupportedInputError(
                f"pixels of {allocated} bits",
                where=where,
                remedy="export the series again, with 8, 16 or 32 bits allocated",
            )
        stored = _whole(header, "BitsStored", where, allocated)
        high = _whole(header, "HighBit", where, stored - 1, least=0)
    if stored > allocated or not stored - 1 <= high < allocated:
        raise DamagedInputError(
            f"{stored} bits stored up to bit {high}, of {allocated}", where=where, remedy=AGAIN
        )
    if syntax.native and element.length is None:
        raise DamagedInputError(
            "the pixels are packed, the header does not say how", where=where, remedy=AGAIN
        )
    big = instance.syntax == uid.ExplicitVRBigEndian
    return Layout(
        rows=rows,
        columns=columns,
        frames=_whole(header, "NumberOfFrames", where, 1),
        allocated=allocated,
        stored=stored,
        low=high + 1 - stored,
        kind=_kind(header, element, where),
        inverted=str(header.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1",
        little=not big,
        swapped=big and allocated == 8 and element.vr == "OW",
        syntax=syntax,
        element=element,
    )


def _kind(header: Any, element: PixelElement, where: str) -> Literal["u", "i", "f"]:
    if element.keyword in _FLOATS:
        return "f"
    return "i" if _whole(header, "PixelRepresentation", where, 0, least=0) else "u"


def rescales_of(instance: Instance, numbers: Sequence[int]) -> list[tuple[float, float]]:
    """Rescale slope and intercept of an instance's frames; (1, 0) if not given.

    Raises
    ------
    DamagedInputError
        A slope of 0, or what is no number.
    UnsupportedInputError
        A table in their place.

    References
    ----------
    DICOM PS3.3, C.11.1 and C.7.6.16.2.9 (Pixel Value Transformation Macro).
    """
    header, where = instance.header, instance.where
    if header.get("ModalityLUTSequence"):
        raise UnsupportedInputError(
            "values given by a table (Modality LUT)",
            where=where,
            remedy="export the series again, without derived images",
        )
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = _transformation(next(iter(header.get("SharedFunctionalGroupsSequence") or ()), None))
    common = _rescale(shared or header, where)
    out = []
    for number in numbers:
        item = _transformation(own[number - 1]) if 1 <= number <= len(own) else None
        out.append(common if item is None else _rescale(item, where))
    return out


def _transformation(group: Any) -> Any:
    """The item of a functional group that says how values are rescaled, if it has one."""
    items = None if group is None else group.get("PixelValueTransformationSequence")
    return items[0] if items else None


def _rescale(holder: Any, where: str) -> tuple[float, float]:
    slope, intercept = (_number(holder, keyword, where) for keyword in _RESCALE)
    if slope == 0:
        raise _unusable("RescaleSlope", "0", where)
    return (1.0 if slope is None else slope), intercept or 0.0


def _number(holder: Any, keyword: str, where: str) -> float | None:
    """A number that is finite; ``None`` where it is not given."""
    value = holder.get(keyword)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise _unusable(keyword, "not a number", where)
    return number


def _unusable(keyword: str, value: str, where: str) -> DamagedInputError:
    return DamagedInputError(f"{keyword} is {value}", where=where, remedy=AGAIN)


def _refuse_colour(header: Any, where: str) -> None:
    channels = _whole(header, "SamplesPerPixel", where, 1)
    said = str(header.get("PhotometricInterpretation", "") or "MONOCHROME2").strip()
    if channels != 1 or said not in _GREY:
        raise UnsupportedInputError(
            f"a colour picture ({said[:16]})",
            where=where,
            remedy="give the MR image, not a screenshot or a coloured map of it",
        )


def _whole(
    header: Any, keyword: str, where: str, otherwise: int | None = None, *, least: int = 1
) -> int:
    """A whole number of the header, ``otherwise`` where it is not given."""
    value = header.get(keyword)
    if (value is None or value == "") and otherwise is not None:
        return otherwise
    try:
        number = -1 if isinstance(value, bytes) else int(value)  # bytes of another VR may be digits
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < least:
        raise _unusable(keyword, "missing, or not a number that makes an image", where)
    return number
