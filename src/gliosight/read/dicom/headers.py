"""From what pydicom read to a header that is safe to use (read stage, DICOM, below `instances`).

In: raw elements as pydicom gives them. Out: one whose every element is converted: no later access can raise,
warn or allocate. Private elements, large values and values that are no values are left out.

Elements that are equal in many files of a study (most are) are one object in all their headers: reading
thousands of headers would otherwise cost a kilobyte and 20 microseconds for each element. A header is
therefore never changed in place; ``copy.deepcopy`` it first.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import AMBIGUOUS_VR, VR

from gliosight.errors import DamagedInputError, GliosightError
from gliosight.read.dicom.bounded import BoundedFile, beyond_the_end

# Values beyond this are no attribute of an image, but tables, icons and waveforms.
VALUE_BYTES = 64 * 1024
# Sequences in sequences; the deepest of the standard's are about ten.
DEPTH = 32
# Elements kept for other headers; more, and it starts afresh.
POOLED = 20_000

UNDEFINED = 0xFFFFFFFF
_PRIVATE = 0x00010000
_NUMBERS = (VR.DS, VR.IS)
_CHARACTER_SET = int(Tag("SpecificCharacterSet"))


class Pool:
    """Elements met in earlier headers, by what they say."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], DataElement] = {}

    def convert(self, key: tuple[Any, ...], raw: RawDataElement, encoding: Any) -> DataElement:
        """Convert an element and keep it; raises what pydicom raises on a bad value."""
        made = convert_raw_data_element(raw, encoding=encoding)
        if made.VR in _NUMBERS and _is_text(made.value):
            raise ValueError("text where a number should be")
        if len(self.known) >= POOLED:
            self.known.clear()
        self.known[key] = made
        return made


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Pydicom's and its decoders' warnings and log kept from the user; they quote patients' data.

    Yields
    ------
    list of str
        What was warned of, filled at the end.
    """
    log = logging.getLogger("pydicom")
    mode, disabled = config.settings.reading_validation_mode, log.disabled
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config.settings.reading_validation_mode = config.IGNORE
        log.disabled = True
        try:
            yield said
        finally:
            config.settings.reading_validation_mode = mode
            log.disabled = disabled
            said += [str(one.message) for one in caught]


class Settler:
    """Turns raw elements into converted ones.

    Parameters
    ----------
    file : BoundedFile
        Where deferred sequences are read from.
    where : str
    pool : Pool
    """

    def __init__(self, file: BoundedFile, where: str, pool: Pool) -> None:
        self._file = file
        self._where = where
        self._pool = pool
        # Keywords of what was left out since it is no value of its kind.
        self.unreadable: set[str] = set()

    def settle(
        self,
        elements: Iterable[RawDataElement | DataElement],
        encoding: Any = default_encoding,
        *,
        depth: int = 0,
    ) -> Dataset:
        """A data set of the elements worth keeping, all converted.

        Parameters
        ----------
        elements : iterable of raw elements, and of sequences as pydicom reads them
        encoding : str or list of str
            Python's names of the character sets; those that the elements name themselves come first.
        depth : int
            In how many sequences this is.

        Raises
        ------
        DamagedInputError
            An element that ends before its length, sequences nested absurdly.
        LimitExceededError
            Too many parts.
        """
        if depth > DEPTH:
            raise DamagedInputError(
                f"sequences are nested more than {DEPTH} deep",
                where=self._where,
                remedy="fetch the file again from where it came",
            )
        kept: dict[BaseTag, DataElement] = {}
        ambiguous: list[RawDataElement] = []
        known = self._pool.known
        charset = _key(encoding)
        for element in elements:
            tag = element.tag
            if tag & _PRIVATE:
                self._whole(element)
                continue
            if isinstance(element, DataElement):
                kept[tag] = self._sequence(tag, element.value, depth)
                continue
            if int(tag) == _CHARACTER_SET:
                encoding = convert_encodings(convert_raw_data_element(element).value)
                charset = _key(encoding)
            # A plain int, since pydicom's tags compare in Python.
            key = (int(tag), element.VR, element.value, element.is_little_endian, charset)
            found = known.get(key)
            if found is None or len(element.value or b"") != element.length:
                found = self._made(key, element, encoding, depth, ambiguous)
            if found is None:
                continue
            kept[tag] = found
        out = Dataset(kept)
        for one in ambiguous:
            self._decide(one, out)
        return out

    def _made(
        self,
        key: tuple[Any, ...],
        raw: RawDataElement,
        encoding: Any,
        depth: int,
        ambiguous: list[RawDataElement],
    ) -> DataElement | None:
        """An element not met before; ``None`` if it is not worth keeping, or comes later."""
        items = self._items_of(raw, encoding)
        if items is not None:
            return self._sequence(raw.tag, items, depth)
        return self._converted(key, raw, encoding, ambiguous)

    def _sequence(self, tag: BaseTag, items: Iterable[Dataset], depth: int) -> DataElement:
        inside = [
            self.settle(one.elements(), one.original_character_set, depth=depth + 1)
            for one in items
        ]
        return DataElement(tag, VR.SQ, Sequence(inside), already_converted=True)

    def _items_of(self, raw: RawDataElement, encoding: Any) -> Any:
        """The items of a sequence of defined length, ``None`` for everything else."""
        vr = raw.VR
        if vr is None or vr == VR.UN:
            vr = _known_vr(raw.tag)
        if vr != VR.SQ:
            return None
        # What a writer did not know it copied as it came, and that is implicit (PS3.5, 6.2.2).
        implicit = raw.is_implicit_VR or raw.VR == VR.UN
        self._whole(raw)
        if raw.value is None and raw.length:
            self._file.seek(raw.value_tell)
            return read_sequence(self._file, implicit, raw.is_little_endian, raw.length, encoding)
        value = raw.value or b""
        with self._file.over(value) as inner:
            return read_sequence(inner, implicit, raw.is_little_endian, len(value), encoding)

    def _converted(
        self,
        key: tuple[Any, ...],
        raw: RawDataElement,
        encoding: Any,
        ambiguous: list[RawDataElement],
    ) -> DataElement | None:
        """An element that is no sequence."""
        self._whole(raw)
        deferred = raw.value is None and raw.length not in (0, UNDEFINED)
        if deferred or len(raw.value or b"") > VALUE_BYTES:
            return None
        if raw.VR is None and _known_vr(raw.tag) in AMBIGUOUS_VR:
            ambiguous.append(raw)
            return None
        try:
            return self._pool.convert(key, raw, encoding)
        except GliosightError:
            raise
        except Exception:  # noqa: BLE001 - whatever pydicom makes of bytes that are no such value
            self.unreadable.add(_named(raw.tag))
            return None

    def _decide(self, raw: RawDataElement, out: Dataset) -> None:
        """Add an element whose kind depends on the others (unsigned or signed)."""
        try:
            element = convert_raw_data_element(raw, ds=out)
            out[raw.tag] = correct_ambiguous_vr_element(element, out, raw.is_little_endian)
        except Exception:  # noqa: BLE001 - as above
            self.unreadable.add(_named(raw.tag))

    def _whole(self, element: RawDataElement | DataElement) -> None:
        """Refuse an element that ends before its length, or whose passed-over value would."""
        if isinstance(element, DataElement) or element.length in (0, UNDEFINED):
            return
        if element.value is None:
            whole = self._file.reaches(element.value_tell + element.length)
        else:
            whole = len(element.value) == element.length
        if not whole:
            raise beyond_the_end(self._where)


def _is_text(value: Any) -> bool:
    """Whether pydicom left a numeric string as it was; empty ones are no value, and stay."""
    values = value if isinstance(value, MultiValue) else [value]
    return any(isinstance(one, str) and one.strip() for one in values)


def _key(encoding: Any) -> Any:
    return tuple(encoding) if isinstance(encoding, list) else encoding


def _known_vr(tag: BaseTag) -> str | None:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def _named(tag: BaseTag) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or str(tag)
