"""The elements of a header, read once and converted (read stage, DICOM, below `instances`).

In: an open file and a position in it. Out: a data set whose every element is converted: no later access
can raise, warn or allocate. Private elements, values over 64 KiB and sequences that nothing here reads are
stepped over: pydicom's own reader makes an object of each of their elements, which takes four times as long
on a Philips header, and a kilobyte for each empty item.

Elements and short items that are equal in many files of a study (most are) are one object in all their
headers. A header is therefore never changed in place; ``copy.deepcopy`` it first.

References
----------
DICOM PS3.5, sections 7.1 (elements), 7.5 (sequences) and 6.2.2 (unknown VR).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import (
    DataElement,
    RawDataElement,
    convert_raw_data_element,
    empty_value_for_VR,
)
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import AMBIGUOUS_VR, EXPLICIT_VR_LENGTH_32, STANDARD_VR, VR

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.dicom.bounded import AGAIN, HEADER_COST, SMALL, BoundedFile, beyond_the_end

# The sequences that are read; a test finds those that reading and writing name.
SEQUENCES = frozenset(
    int(Tag(keyword))
    for keyword in (
        "CardiacSynchronizationSequence",
        "ContrastBolusAgentSequence",
        "ContrastBolusUsageSequence",
        "DeidentificationMethodCodeSequence",
        "DiffusionGradientDirectionSequence",
        "DirectoryRecordSequence",
        "FrameContentSequence",
        "MRDiffusionSequence",
        "MREchoSequence",
        "MRImageFrameTypeSequence",
        "MRModifierSequence",
        "MRTimingAndRelatedParametersSequence",
        "ModalityLUTSequence",
        "PerFrameFunctionalGroupsSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "PlaneOrientationSequence",
        "PlanePositionSequence",
        "SharedFunctionalGroupsSequence",
        "UnassignedPerFrameConvertedAttributesSequence",
        "UnassignedSharedConvertedAttributesSequence",
    )
)
# Values beyond this are no attribute of an image, but tables, icons and waveforms.
VALUE_BYTES = SMALL
# Sequences in sequences; the deepest of the standard's are about ten.
DEPTH = 32
# Elements and items kept for other headers, and the longest of them; more, and the pool starts afresh.
POOLED, POOLED_BYTES = 20_000, 512
# What is taken from `HEADER_COST` for each element walked, and each object made.
STEP_COST, ELEMENT_COST, ITEM_COST = 24, 500, 900

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS, _PRIVATE = 0xFFFE, 0x00010000
_CHARACTER_SET = int(Tag("SpecificCharacterSet"))
_NUMBERS = (VR.DS, VR.IS)
# Each VR as it is written, and whether its length takes four bytes.
_VRS = {str(vr).encode(): (str(vr), vr in EXPLICIT_VR_LENGTH_32) for vr in STANDARD_VR}
_EXPLICIT = {
    little: Struct(f"{'<' if little else '>'}HH2sH").unpack_from for little in (True, False)
}
_IMPLICIT = {little: Struct(f"{'<' if little else '>'}HHL").unpack_from for little in (True, False)}
_LONG = {little: Struct(f"{'<' if little else '>'}L").unpack_from for little in (True, False)}
_NEW = object()

Stop = Callable[[int, str | None, int], bool]


# Tag, VR (`None` where the file does not write it), where the value begins, and its length.
Head = tuple[int, str | None, int, int]


class Pool:
    """Elements and items met in earlier headers, by what they say."""

    def __init__(self) -> None:
        self.elements: dict[tuple[Any, ...], DataElement | None] = {}
        self.items: dict[tuple[Any, ...], tuple[Dataset, frozenset[str]]] = {}


@dataclass
class _Level:
    """A data set that is being read: of the file, or of an item."""

    elements: dict[BaseTag, DataElement]
    implicit: bool
    encoding: Any
    depth: int = 0
    ambiguous: list[RawDataElement] = field(default_factory=list)
    charset: Any = None

    def __post_init__(self) -> None:
        self.decode_with(self.encoding)

    def decode_with(self, encoding: Any) -> None:
        """Take Python's names of the character sets for what follows."""
        self.encoding = encoding
        self.charset = tuple(encoding) if isinstance(encoding, list) else encoding


class HeaderReader:
    """Reads the data sets of one file.

    Parameters
    ----------
    file : BoundedFile
    where : str
    pool : Pool
    little : bool
        Byte order of the elements.
    """

    def __init__(self, file: BoundedFile, where: str, pool: Pool, *, little: bool = True) -> None:
        self._file = file
        self._where = where
        self._pool = pool
        self._little = little
        self._explicit, self._implicit = _EXPLICIT[little], _IMPLICIT[little]
        self._long = _LONG[little]
        self._data, self._base = b"", 0
        self._left = HEADER_COST
        # Keywords of elements whose value is not of their kind: they are left out.
        self.unreadable: set[str] = set()

    def peek(self, position: int, size: int) -> bytes:
        """Up to ``size`` bytes."""
        at = self._window(position, size)
        return self._data[at : at + size]

    def read(
        self,
        position: int,
        elements: dict[BaseTag, DataElement],
        *,
        implicit: bool,
        stop: Stop | None = None,
    ) -> int:
        """Read a data set that is in no sequence.

        Parameters
        ----------
        position : int
            Where it begins.
        elements : dict
            Where its elements are put, so that those before an error are at hand.
        implicit : bool
            Whether VRs are not written.
        stop : callable, optional
            Whether to end before an element of this tag, VR and length.

        Returns
        -------
        int
            The position behind the last element.

        Raises
        ------
        DamagedInputError
            An element that ends before its length, sequences nested absurdly or without structure.
        LimitExceededError
            Too many parts.
        """
        level = _Level(elements, implicit, default_encoding)
        return self._data_set(position, None, level, stop)

    def _data_set(
        self, position: int, end: int | None, level: _Level, stop: Stop | None = None
    ) -> int:
        while end is None or position < end:
            head = self._head(position, level.implicit)
            if head is None:
                break
            tag, vr, start, length = head
            if tag >> 16 == _DELIMITERS:
                if level.depth and tag in (_ITEM_END, _SEQUENCE_END):
                    break
                position = start  # out of place: without meaning and without a value
            elif stop is not None and stop(tag, vr, length):
                break
            elif length == UNDEFINED or tag in SEQUENCES:
                position = self._nested(head, level)
            else:
                position = start + length
                if not (tag & _PRIVATE or vr == VR.SQ or length > VALUE_BYTES):
                    self._plain(head, level)
        for raw in level.ambiguous:
            self._decide(raw, level.elements)
        return position

    def _plain(self, head: Head, level: _Level) -> None:
        """An element that is no sequence."""
        tag, vr, start, length = head
        value = self._value(start, length)
        key = (tag, vr, value, self._little, level.charset)
        element: Any = self._pool.elements.get(key, _NEW)
        if element is _NEW:
            known = _known_vr(tag) if vr in (None, VR.UN) else vr
            raw = RawDataElement(
                BaseTag(tag), vr, length, value, start, level.implicit, self._little
            )
            if tag == _CHARACTER_SET:
                level.decode_with(_encoding(raw))
                return
            if known == VR.SQ:
                return
            if length and vr is None and known in AMBIGUOUS_VR:
                level.ambiguous.append(raw)
                return
            element = self._converted(raw, level.encoding, key)
        if element is None:
            self.unreadable.add(_named(tag))
        else:
            level.elements[element.tag] = element

    def _nested(self, head: Head, level: _Level) -> int:
        """A sequence, read or stepped over; the position behind it."""
        tag, vr, start, length = head
        end = None if length == UNDEFINED else start + length
        if tag in SEQUENCES and vr in (None, VR.SQ, VR.UN):
            self._check_depth(level.depth + 1)
            return self._sequence(head, end, level)
        return self._behind_items(start, level.implicit, level.depth + 1) if end is None else end

    def _head(self, position: int, implicit: bool) -> Head | None:
        """The element that begins here; ``None`` at the end of the file."""
        self._left -= STEP_COST
        if self._left < 0:
            self._charge(0)
        data, at = self._data, position - self._base
        if at < 0 or at + 12 > len(data):
            at = self._window(position, 12)
            data = self._data
            if len(data) - at < 8:
                if data[at:].strip(b"\0"):  # padding is left alone
                    raise beyond_the_end(self._where)
                return None
        if not implicit:
            group, element, written, length = self._explicit(data, at)
            tag = group << 16 | element
            if (vr := _VRS.get(written)) is not None:
                if not vr[1]:
                    return (tag, vr[0], position + 8, length)
                if len(data) - at < 12:
                    raise beyond_the_end(self._where)
                return (tag, vr[0], position + 12, self._long(data, at + 8)[0])
            if written.isalpha() and written.isupper():
                return (tag, written.decode("ascii"), position + 8, length)
            # Delimiters have no VR, and some writers change to implicit inside sequences.
        group, element, length = self._implicit(data, at)
        return (group << 16 | element, None, position + 8, length)

    def _sequence(self, head: Head, end: int | None, level: _Level) -> int:
        """Read a sequence up to its end, or where that is not said, its delimiter."""
        tag, position = BaseTag(head[0]), head[2]
        items: list[Dataset] = []
        while end is None or position < end:
            item, _, start, length = self._item_head(position, at_end=end)
            if item == _SEQUENCE_END:
                position = start
                break
            if item != _ITEM:
                if end is None:
                    raise _corrupt(self._where)
                self.unreadable.add(_named(tag))  # its length is known: what follows is sound
                break
            if length == UNDEFINED:
                position = self._behind_item(start, level.implicit, level.depth + 1)
            else:
                position = start + length
            last = position if end is None else min(position, end)
            items.append(self._one_item(start, last, level))
        level.elements[tag] = DataElement(tag, VR.SQ, Sequence(items), already_converted=True)
        return position if end is None else end

    def _one_item(self, start: int, end: int, level: _Level) -> Dataset:
        """One item of a sequence; that of an earlier one with the same bytes."""
        # What a writer did not know it copied as it came, mostly implicit; its VR is UN or SQ.
        implicit = level.implicit or not self._writes_vr(start, end)
        key = None
        if end - start <= POOLED_BYTES:
            key = (self._value(start, end - start), implicit, self._little, level.charset)
            if (met := self._pool.items.get(key)) is not None:
                self.unreadable |= met[1]
                return met[0]
        self._charge(ITEM_COST)
        outside, self.unreadable = self.unreadable, set()
        inside = _Level({}, implicit, level.encoding, level.depth + 1)
        self._data_set(start, end, inside)
        made = Dataset(inside.elements)
        if key is not None:
            _keep(self._pool.items, key, (made, frozenset(self.unreadable)))
        self.unreadable |= outside
        return made

    def _writes_vr(self, start: int, end: int) -> bool:
        written = self.peek(start, 6)[4:] if end - start >= 8 else b""
        return written.isalpha() and written.isupper()

    def _behind_items(self, position: int, implicit: bool, depth: int) -> int:
        """The position behind items, or fragments, that end with a delimiter."""
        self._check_depth(depth)
        while True:
            tag, _, start, length = self._item_head(position)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise _corrupt(self._where)
            position = (
                self._behind_item(start, implicit, depth) if length == UNDEFINED else start + length
            )

    def _behind_item(self, position: int, implicit: bool, depth: int) -> int:
        """The position behind an item that ends with a delimiter."""
        while True:
            head = self._head(position, implicit)
            if head is None:
                raise beyond_the_end(self._where)
            tag, _, start, length = head
            if tag == _ITEM_END:
                return start
            if tag == _SEQUENCE_END:  # the item's own is missing
                return position
            if tag >> 16 == _DELIMITERS:
                raise _corrupt(self._where)
            position = (
                self._behind_items(start, implicit, depth + 1)
                if length == UNDEFINED
                else start + length
            )

    def _item_head(self, position: int, *, at_end: int | None = None) -> Head:
        head = self._head(position, implicit=True)
        if head is None:
            if at_end is not None and self._file.reaches(at_end):
                return (0, None, at_end, 0)
            raise beyond_the_end(self._where)
        return head

    def _value(self, start: int, length: int) -> bytes:
        at = start - self._base
        if at < 0 or at + length > len(self._data):
            at = self._window(start, length)
            if len(self._data) - at < length:
                raise beyond_the_end(self._where)
        return self._data[at : at + length]

    def _window(self, position: int, size: int) -> int:
        """Have ``size`` bytes from a position on in memory, or all there are; the index of the first."""
        at = position - self._base
        if at >= 0 and at + size <= len(self._data):
            return at
        if not self._file.reaches(position):
            raise beyond_the_end(self._where)
        self._file.seek(position)
        self._data, self._base = self._file.read(max(size, SMALL)), position
        return 0

    def _charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise LimitExceededError(
                "the header has too many parts",
                where=self._where,
                remedy="no scanner writes such a file; leave it out",
            )

    def _check_depth(self, depth: int) -> None:
        if depth > DEPTH:
            raise DamagedInputError(
                f"sequences are nested more than {DEPTH} deep", where=self._where, remedy=AGAIN
            )

    def _converted(
        self, raw: RawDataElement, encoding: Any, key: tuple[Any, ...]
    ) -> DataElement | None:
        """An element not met before; ``None`` if its value is not of its kind."""
        self._charge(ELEMENT_COST + raw.length)
        made: DataElement | None
        try:
            if not raw.length:
                made = self._empty(raw)
            else:
                made = convert_raw_data_element(raw, encoding=encoding)
                if made.VR in _NUMBERS and (_is_text(made.value) or b"_" in (raw.value or b"")):
                    made = None  # float() would take 1_000
        except Exception:  # noqa: BLE001 - whatever pydicom makes of bytes that are no such value
            made = None
        if raw.length <= POOLED_BYTES:
            _keep(self._pool.elements, key, made)
        return made

    def _empty(self, raw: RawDataElement) -> DataElement:
        """An element without a value, which is as good as none in the standard's Type 2."""
        vr = raw.VR if raw.VR not in (None, VR.UN) else _known_vr(raw.tag) or VR.UN
        return DataElement(raw.tag, vr, empty_value_for_VR(vr), already_converted=True)

    def _decide(self, raw: RawDataElement, elements: dict[BaseTag, DataElement]) -> None:
        """Add an element whose kind depends on the others (unsigned or signed)."""
        others = Dataset(elements)
        try:
            element = convert_raw_data_element(raw, ds=others)
            element = correct_ambiguous_vr_element(element, others, self._little)
        except Exception:  # noqa: BLE001 - as above
            self.unreadable.add(_named(raw.tag))
        else:
            elements[raw.tag] = element


def _keep(pool: dict[Any, Any], key: Any, value: Any) -> None:
    if len(pool) >= POOLED:
        pool.clear()
    pool[key] = value


def _is_text(value: Any) -> bool:
    """Whether pydicom left a numeric string as it was; empty ones are no value, and stay."""
    values = value if isinstance(value, MultiValue) else [value]
    return any(isinstance(number, str) and number.strip() for number in values)


def _encoding(raw: RawDataElement) -> Any:
    """Python's names of the character sets; pydicom warns of those that it does not know."""
    try:
        return convert_encodings(convert_raw_data_element(raw).value)
    except Exception:  # noqa: BLE001 - as above
        return default_encoding


@lru_cache(maxsize=8192)
def _known_vr(tag: int) -> str | None:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def _named(tag: int) -> str:
    return keyword_for_tag(tag) or str(Tag(tag))


def _corrupt(where: str) -> DamagedInputError:
    return DamagedInputError("the header is corrupt", where=where, remedy=AGAIN)
