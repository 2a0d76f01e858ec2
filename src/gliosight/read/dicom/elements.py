"""The elements of a DICOM header: read under a bound, and their values as text (read stage).

Every element is converted while it is read: no later access can raise, warn or allocate. Stepped over are
private elements, values over 64 KiB, sequences that are not in `SEQUENCES`, and what in an implicit file has
a VR that depends on other elements; nothing reads them. pydicom's own reader makes objects of them all: it
takes 1.4 times as long for a classic header and six times for Philips' enhanced one.

Elements and short items that are equal in many files are one object in all their headers. A header is
therefore never changed in place; ``copy.deepcopy`` it first.

References
----------
DICOM PS3.5, sections 7.1 (elements), 7.5 (sequences), 6.2.2 (unknown VR) and A.5 (deflated data sets).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from struct import Struct
from typing import Any, BinaryIO

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag
from pydicom.dataelem import (
    DataElement,
    RawDataElement,
    convert_raw_data_element,
    empty_value_for_VR,
)
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import AMBIGUOUS_VR, EXPLICIT_VR_LENGTH_32, STANDARD_VR, VR

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.limits import Budget

# The sequences that are read; a test finds those that reading and writing name.
SEQUENCES = frozenset(
    int(Tag(f"{name}Sequence"))
    for name in """
    CardiacSynchronization ContrastBolusAgent ContrastBolusUsage DeidentificationMethodCode
    DiffusionGradientDirection DirectoryRecord FrameContent MRDiffusion MREcho MRImageFrameType MRModifier
    MRTimingAndRelatedParameters ModalityLUT PerFrameFunctionalGroups PixelMeasures
    PixelValueTransformation PlaneOrientation PlanePosition SharedFunctionalGroups
    UnassignedPerFrameConvertedAttributes UnassignedSharedConvertedAttributes
    """.split()  # noqa: SIM905 - 21 lines less
)
# Longer values are tables, icons and waveforms. As much is read at once, too.
VALUE_BYTES = 64 * 1024
CHUNK = 1 << 20
# Sequences in sequences; the deepest of the standard's are about ten.
DEPTH = 32
# Elements and items kept for other headers, and the longest of them; more, and the pool starts afresh.
POOLED, POOLED_BYTES = 20_000, 512
# What one header may cost in memory, and what each element walked and each object made takes of it.
HEADER_COST = 256 * 1024**2
STEP_COST, ELEMENT_COST, ITEM_COST = 24, 500, 900
# Of a value as text: its longest, the most values, and what a sequence with items reads as.
LONGEST, MOST_VALUES = 1024, 64
PRESENT = "present"

UNDEFINED = 0xFFFFFFFF
# The remedy for a file that is cut off or corrupt.
AGAIN = "fetch the file again from where it came"

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS, _PRIVATE = 0xFFFE, 0x00010000
_CHARACTER_SET = int(Tag("SpecificCharacterSet"))
# Each VR as it is written, and whether its length takes four bytes.
_VRS = {str(vr).encode(): (str(vr), vr in EXPLICIT_VR_LENGTH_32) for vr in STANDARD_VR}
_NEW = object()

# Tag, VR (`None` where the file does not write it), where the value begins, and its length.
Head = tuple[int, str | None, int, int]


class FileBytes:
    """The bytes of an open file by position; a deflated data set as if it was inflated in place.

    It is inflated as far as it is read, within the limits; nothing is taken from the budget.
    """

    def __init__(
        self,
        handle: BinaryIO,
        size: int,
        where: str,
        budget: Budget,
        deflated_from: int | None = None,
    ) -> None:
        self.where = where
        self._handle, self._size, self._limits = handle, size, budget.limits
        self._deflated_from = deflated_from
        self._engine = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._inflated = bytearray()
        self._packed = 0
        if deflated_from is not None:
            handle.seek(deflated_from)

    def read(self, start: int, size: int) -> bytes:
        """Up to ``size`` bytes, fewer at the end; never allocates more than there are."""
        if self._deflated_from is None:
            self._handle.seek(start)
            return self._handle.read(max(0, min(size, self._size - start)))
        self.reaches(start + size)
        first = start - self._deflated_from
        return bytes(self._inflated[first : first + size])

    def reaches(self, end: int) -> bool:
        """Whether there are so many bytes; raises `DamagedInputError` and `LimitExceededError`."""
        if self._deflated_from is None:
            return end <= self._size
        while len(self._inflated) < end - self._deflated_from and not self._engine.eof:
            packed = self._engine.unconsumed_tail
            if not packed:
                packed = self._handle.read(CHUNK)
                self._packed += len(packed)
            if not packed:
                return False
            try:
                self._inflated += self._engine.decompress(packed, CHUNK)
            except zlib.error as error:
                raise damaged("the deflated data set is corrupt", self.where) from error
            Budget(self._limits).take(len(self._inflated), self.where, packed=self._packed)
        return len(self._inflated) >= end - self._deflated_from


@dataclass
class Pool:
    """Elements and items met in earlier headers, by their bytes; items with what was unreadable in them."""

    elements: dict[tuple[Any, ...], DataElement | None] = field(default_factory=dict)
    items: dict[tuple[Any, ...], tuple[Dataset, frozenset[str]]] = field(default_factory=dict)


@dataclass
class _Level:
    """A data set that is being read: of the file, or of an item."""

    elements: dict[BaseTag, DataElement]
    implicit: bool
    encoding: tuple[str, ...]  # Python's names of the character sets
    depth: int = 0
    wanted: bool = True  # else it is stepped over
    unreadable: set[str] = field(default_factory=set)


class HeaderReader:
    """Reads the data sets of one file, whose elements are in one byte order."""

    def __init__(self, source: FileBytes, pool: Pool, *, little: bool = True) -> None:
        self._source, self._where, self._pool = source, source.where, pool
        self._little = little
        order = "<" if little else ">"
        self._explicit = Struct(f"{order}HH2sH").unpack_from
        self._implicit = Struct(f"{order}HHL").unpack_from
        self._long = Struct(f"{order}L").unpack_from
        self._data, self._base = b"", 0
        self._left = HEADER_COST
        # Keywords of elements whose value is not of their kind: they are left out.
        self.unreadable: set[str] = set()

    def peek(self, position: int, size: int) -> bytes:
        """Up to ``size`` bytes."""
        at = position - self._base
        if at < 0 or at + size > len(self._data):
            if not self._source.reaches(position):
                raise beyond_the_end(self._where)
            self._data, self._base = self._source.read(position, max(size, VALUE_BYTES)), position
            at = 0
        return self._data[at : at + size]

    def writes_vr(self, position: int) -> bool:
        """Whether the element that begins here says its VR."""
        written = self.peek(position, 6)[4:]
        return written.isalpha() and written.isupper()

    def read(
        self,
        position: int,
        elements: dict[BaseTag, DataElement],
        *,
        implicit: bool,
        stop: Callable[[int], bool],
    ) -> int:
        """Read the file's data set up to an element whose tag is one to stop at; the position there.

        Elements are put into ``elements`` one by one, so that those before an error are at hand.
        """
        level = _Level(elements, implicit, (default_encoding,), unreadable=self.unreadable)
        return self._data_set(position, None, level, stop)

    def head(self, position: int, *, implicit: bool) -> Head | None:
        """The element that begins here; ``None`` at the end of the file."""
        self._left -= STEP_COST
        if self._left < 0:
            self._charge(0)
        data, at = self._data, position - self._base
        if at < 0 or at + 12 > len(data):
            data, at = self.peek(position, 12), 0
            if len(data) < 8:
                if data.strip(b"\0"):  # padding is left alone
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

    def _data_set(
        self,
        position: int,
        end: int | None,
        level: _Level,
        stop: Callable[[int], bool] | None = None,
    ) -> int:
        """Read a data set up to its end or, where that is not said, its delimiter; the position behind."""
        delimited = level.depth > 0 and end is None
        while end is None or position < end:
            head = self.head(position, implicit=level.implicit)
            if head is None:
                if delimited:
                    raise beyond_the_end(self._where)
                break
            tag, vr, start, length = head
            if tag >> 16 == _DELIMITERS:
                if level.depth and tag in (_ITEM_END, _SEQUENCE_END):
                    # Before the end of the sequence the item's own may be missing.
                    position = start if tag == _ITEM_END else position
                    break
                if delimited:
                    raise damaged("the header is corrupt", self._where)
                position = start  # a delimiter out of place, which has no value
            elif stop is not None and stop(tag):
                break
            elif length == UNDEFINED or tag in SEQUENCES:
                position = self._sequence(head, level)
            else:
                position = start + length
                if level.wanted and not (tag & _PRIVATE or vr == VR.SQ or length > VALUE_BYTES):
                    self._element(head, level)
        return position

    def _element(self, head: Head, level: _Level) -> None:
        """Convert an element that is no sequence."""
        tag, vr, start, length = head
        value = self.peek(start, length)
        if len(value) < length:
            raise beyond_the_end(self._where)
        key = (tag, vr, value, self._little, level.encoding)
        element: Any = self._pool.elements.get(key, _NEW)
        if element is _NEW:
            raw = RawDataElement(
                BaseTag(tag), vr, length, value, start, level.implicit, self._little
            )
            known = _known_vr(tag) if vr in (None, VR.UN) else vr
            if tag == _CHARACTER_SET:
                level.encoding = _encoding(raw)
                return
            if known == VR.SQ or (vr is None and known in AMBIGUOUS_VR):
                return
            self._charge(ELEMENT_COST + length)
            element = _converted(raw, known or VR.UN, level.encoding)
            if length <= POOLED_BYTES:
                _keep(self._pool.elements, key, element)
        if element is None:
            level.unreadable.add(_name_of(tag))
        else:
            level.elements[element.tag] = element

    def _sequence(self, head: Head, level: _Level) -> int:
        """Read a sequence, or step over it; the position behind it."""
        tag, vr, position, length = head
        end = None if length == UNDEFINED else position + length
        wanted = level.wanted and tag in SEQUENCES and vr in (None, VR.SQ, VR.UN)
        if not wanted and end is not None:
            return end
        if level.depth == DEPTH:
            raise damaged(f"sequences are nested more than {DEPTH} deep", self._where)
        items: list[Dataset] = []
        while end is None or position < end:
            item, start, size = self._item_head(position, end)
            if item == _SEQUENCE_END:
                position = start
                break
            if item != _ITEM:
                if end is None:
                    raise damaged("the header is corrupt", self._where)
                level.unreadable.add(_name_of(tag))  # what follows its length can be read
                break
            position = start + size
            if size == UNDEFINED:
                skipped = _Level({}, level.implicit, level.encoding, level.depth + 1, wanted=False)
                position = self._data_set(start, None, skipped)
            if wanted:
                last = position if end is None else min(position, end)
                items.append(self._item(start, last, level))
        if wanted:
            level.elements[BaseTag(tag)] = DataElement(
                BaseTag(tag), VR.SQ, Sequence(items), already_converted=True
            )
        return position if end is None else end

    def _item_head(self, position: int, end: int | None) -> tuple[int, int, int]:
        """Tag, beginning and length of an item or delimiter; tag 0 where there is only padding."""
        head = self.head(position, implicit=True)
        if head is not None:
            return head[0], head[2], head[3]
        if end is None or not self._source.reaches(end):
            raise beyond_the_end(self._where)
        return 0, position, 0

    def _item(self, start: int, end: int, level: _Level) -> Dataset:
        """One item of a sequence; that of an earlier one with the same bytes."""
        # What a writer did not know it copied as it came, mostly implicit; its VR is UN or SQ.
        implicit = level.implicit or end - start < 8 or not self.writes_vr(start)
        key = None
        if end - start <= POOLED_BYTES:
            key = (self.peek(start, end - start), implicit, self._little, level.encoding)
        item = None if key is None else self._pool.items.get(key)
        if item is None:
            self._charge(ITEM_COST)
            inside = _Level({}, implicit, level.encoding, level.depth + 1)
            self._data_set(start, end, inside)
            item = Dataset(inside.elements), frozenset(inside.unreadable)
            if key is not None:
                _keep(self._pool.items, key, item)
        level.unreadable |= item[1]
        return item[0]

    def _charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise LimitExceededError(
                "the header has too many parts",
                where=self._where,
                remedy="no scanner writes such a file; leave it out",
            )


def _converted(raw: RawDataElement, vr: str, encoding: tuple[str, ...]) -> DataElement | None:
    """An element; ``None`` if its value is not of its kind."""
    if not raw.length:  # as Type 2 elements may be
        return DataElement(raw.tag, vr, empty_value_for_VR(vr), already_converted=True)
    try:
        element = convert_raw_data_element(raw, encoding=list(encoding))
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
    except Exception:  # noqa: BLE001 - as above
        return None
    if element.VR in (VR.DS, VR.IS):
        # pydicom leaves text that is no number as it was, and takes 1_000 for one.
        text = any(isinstance(number, str) and number.strip() for number in values)
        if text or b"_" in (raw.value or b""):
            return None
    return element


def _encoding(raw: RawDataElement) -> tuple[str, ...]:
    """Python's names of the character sets; pydicom warns of those that it does not know."""
    try:
        return tuple(convert_encodings(convert_raw_data_element(raw).value))
    except Exception:  # noqa: BLE001 - as above
        return (default_encoding,)


def _keep(pool: dict[Any, Any], key: Any, value: Any) -> None:
    if len(pool) >= POOLED:
        pool.clear()
    pool[key] = value


@lru_cache(maxsize=8192)
def _known_vr(tag: int) -> str | None:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def _name_of(tag: int) -> str:
    return keyword_for_tag(tag) or str(Tag(tag))


def damaged(what: str, where: str) -> DamagedInputError:
    """The error for a file that is cut off or corrupt."""
    return DamagedInputError(what, where=where, remedy=AGAIN)


def beyond_the_end(where: str) -> DamagedInputError:
    """The error for a length that leads beyond the end."""
    return damaged("cut short: an element is longer than the file", where)


@lru_cache(maxsize=512)
def tag_of(keyword: str) -> tuple[Any, bool]:
    """The tag of a keyword, and whether it is a sequence's."""
    tag = Tag(keyword_dict[keyword])
    return tag, dictionary_VR(tag) == "SQ"


def stored(dataset: Any, keyword: str) -> str:
    """The value of an element as text, which can be compared and remembered; never raises.

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
        if isinstance(value, str):  # most of them, DS and IS with their original text
            return str(value).strip(" \0")[:LONGEST]
        if is_sequence or element.VR == "SQ":
            return PRESENT if is_sequence and element.VR == "SQ" and value else ""
        if value is None:
            return ""
        if isinstance(value, bytes):
            value = value[:LONGEST].decode("latin-1")
        several = isinstance(value, Iterable) and not isinstance(value, str)
        values = islice(value, MOST_VALUES) if several else [value]
        return "\\".join(str(number).strip(" \0") for number in values)[:LONGEST]
    except Exception:  # noqa: BLE001 - a value that cannot even be written down
        return ""


@lru_cache(maxsize=8192)
def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a value; empty if one of them is not a finite number (PS3.5 section 6.2)."""
    if not text or "_" in text:  # float() would take 1_000
        return ()
    try:
        values = tuple(map(float, text.split("\\")))
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def number(text: str, least: float = -math.inf, most: float = math.inf) -> float | None:
    """The first number of a value if it lies within bounds, else ``None``."""
    values = numbers(text)
    return values[0] if values and least <= values[0] <= most else None


def integer(text: str) -> int | None:
    """The first number of a value as a whole one; ``None`` if it is not a number or absurd."""
    value = number(text, -(2.0**53), 2.0**53)
    return None if value is None or value != int(value) else int(value)


def items(dataset: Any, keyword: str) -> list[Any]:
    """The items of a sequence; empty where it is absent or no sequence."""
    tag, _ = tag_of(keyword)
    if tag not in dataset:
        return []
    element = dataset[tag]
    return list(element.value or ()) if element.VR == "SQ" else []


def first_item(dataset: Any, keyword: str) -> Any | None:
    """The first item of a sequence, ``None`` if it has no item."""
    return next(iter(items(dataset, keyword)), None)
