"""One DICOM file's header, read once and bounded (read stage, DICOM).

In: a path. Out: an `Instance`: what stands before the pixels, every element of it converted and safe to
look at, and where the pixels are. A file without preamble or meta header is read as far as it is
understood, and what was odd about it is noted; a preamble that is an executable is never looked at. What
is in a preamble, a private element, a value of more than 64 KiB or a sequence that nothing reads is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, within
from gliosight.read.dicom.bounded import AGAIN, BoundedFile, bounded
from gliosight.read.dicom.elements import stored
from gliosight.read.dicom.headers import UNDEFINED, HeaderReader, Pool
from gliosight.read.dicom.syntaxes import SYNTAXES
from gliosight.read.limits import Budget, cannot_read, open_regular

PREAMBLE = 128
MAGIC = b"DICM"
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_PIXELS = {int(Tag(keyword)): keyword for keyword in PIXEL_KEYWORDS}
_FILE_META, _COMMAND, _FIRST = 0x0002, 0x0000, 0x0008
_DEFLATED = frozenset({str(uid.DeflatedExplicitVRLittleEndian)})
# How the elements are written; all others are explicit and little endian (PS3.5, A.4).
_ELEMENTS_AS = {one: one for one in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)}
# The SOP classes of images that are analysed.
MR_IMAGES = frozenset(
    {
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
    }
)
# A data set without any of these is not a DICOM object.
_TELLING = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "DirectoryRecordSequence",
)

Elements = dict[BaseTag, DataElement]


@dataclass(frozen=True)
class PixelElement:
    """Where an instance's pixels are.

    Parameters
    ----------
    keyword : {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
    vr : str or None
        ``None`` in implicit files.
    start : int
        Where the value begins in the file; in a deflated one as if it was not deflated.
    length : int or None
        Bytes of the value; ``None`` where it is undefined, as for packed frames.
    """

    keyword: str
    vr: str | None
    start: int
    length: int | None


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file, without its pixels.

    Parameters
    ----------
    path : Path
    where : str
        For messages: ``series 3, instance 12``, else the path relative to the input.
    header : pydicom.Dataset
        Everything before the pixels, with ``file_meta``, all converted; private elements, values over
        64 KiB and sequences that nothing reads are left out. Never changed in place: equal elements are
        shared with other instances.
    syntax : str
        UID of the transfer syntax; where the file does not say it, what its bytes are.
    pixel_offset : int or None
        Where the element with the pixels begins in the file; ``None``: it has none.
    size : int
        Bytes of the file.
    oddities : tuple of str
        Plain phrases.
    pixels : PixelElement or None
        The same in detail.
    deflated_from : int or None
        Where the deflated data set begins in the file.
    unreadable : frozenset of str
        Keywords of elements, also in sequences, whose value is not of their kind: the header lacks them.
    """

    path: Path
    where: str
    header: Dataset
    syntax: str
    pixel_offset: int | None
    size: int
    oddities: tuple[str, ...]
    pixels: PixelElement | None = None
    deflated_from: int | None = None
    unreadable: frozenset[str] = frozenset()


class NeverAnalysedError(UnsupportedInputError):
    """A broken object of a class that is never analysed: it costs nothing beside others.

    ``series`` is the SeriesInstanceUID of an object of a private class: among MR images of that series it
    may be one of them, with a damaged class, and ``as_image`` is its error then.
    """

    series: str = ""
    as_image: GliosightError | None = None


def read_instance(path: Path, where: str, budget: Budget, pool: Pool | None = None) -> Instance:
    """Read one file up to its pixels.

    Parameters
    ----------
    path : Path
    where : str
        The path relative to the input; messages name series and instance as soon as they are known.
    budget : Budget
        Whose limits bound what is inflated.
    pool : Pool, optional
        Of the elements met in other files; makes many files cheap.

    Raises
    ------
    NothingReadableError
        It cannot be opened, or is no regular file.
    DamagedInputError
        Not DICOM, cut short, corrupt.
    LimitExceededError
        A header too large or of too many parts, a deflated data set that bursts.
    NeverAnalysedError
        One of the last two, and by its class no image that is analysed.
    """
    with open_regular(path, where) as (handle, size), quietly() as warned:
        reading = _Reading(handle, size, where, budget, pool or Pool())
        try:
            instance = reading.instance(path)
        except Exception as error:  # whatever is raised on hostile bytes
            raise reading.explained(_ours(error, where)) from error
    if any("character set" in message or "encoding" in message for message in warned):
        return replace(instance, oddities=(*instance.oddities, "wrong character set"))
    return instance


@contextmanager
def open_pixels(instance: Instance, budget: Budget) -> Iterator[BoundedFile]:
    """An instance's file for reading its pixels, inflated on the way where it is deflated."""
    with open_regular(instance.path, instance.where) as (handle, size):
        # Packed frames are read in full, and the index of their fragments; twice is more than enough.
        cost = 2 * max(size, budget.limits.decoded_bytes)
        yield bounded(
            handle, size, instance.where, budget, deflated_from=instance.deflated_from, cost=cost
        )


def is_dicomdir(one: Instance | Path) -> bool:
    """Whether this is a directory of DICOM files rather than one of them (PS3.10, section 8)."""
    if isinstance(one, Path):
        return one.name.upper() == "DICOMDIR"
    meta = one.header.file_meta
    kinds = (meta.get("MediaStorageSOPClassUID"), one.header.get("SOPClassUID"))
    return uid.MediaStorageDirectoryStorage in kinds or "DirectoryRecordSequence" in one.header


def is_mr_image(one: Instance) -> bool:
    """Whether this is an object of MR images, or one that has lost its SOP class."""
    return stored(one.header, "SOPClassUID") in (*MR_IMAGES, "")


def is_never_analysed(sop_class: object) -> bool:
    """Whether this is a SOP class of the standard (PS3.4, B.5), and not of MR images.

    What has the standard's root and is not in its list may be a damaged UID; see also `is_private`.
    """
    known = uid.UID_dictionary.get(str(sop_class))
    return known is not None and known[1] == "SOP Class" and str(sop_class) not in MR_IMAGES


def is_private(sop_class: object) -> bool:
    """Whether this is a UID that a vendor made, such as that of Siemens' raw data."""
    name = uid.UID(str(sop_class or ""))
    return bool(name) and name.is_valid and name.is_private


class _Reading:
    """The reading of one file, step by step."""

    def __init__(self, handle: BinaryIO, size: int, where: str, budget: Budget, pool: Pool) -> None:
        self._handle = handle
        self._size = size
        self._where = where
        self._budget = budget
        self._pool = pool
        self._meta: Elements = {}
        self._elements: Elements = {}
        self._oddities: list[str] = []
        self._stopped: tuple[int, str | None, int] | None = None

    def instance(self, path: Path) -> Instance:
        """The whole way."""
        file = bounded(self._handle, self._size, self._where, self._budget)
        reader = HeaderReader(file, self._where, self._pool)
        position = self._behind_meta(reader, self._behind_preamble(reader))
        meta = FileMetaDataset(self._meta)
        deflated_from = None
        if meta.get("TransferSyntaxUID") in _DEFLATED:
            deflated_from = position
            file = bounded(
                self._handle, self._size, self._where, self._budget, deflated_from=position
            )
            reader = HeaderReader(file, self._where, self._pool)
        syntax, implicit, little = self._syntax(reader, position, meta)
        reader = HeaderReader(file, self._where, self._pool, little=little)
        end = reader.read(position, self._elements, implicit=implicit, stop=self._at_pixels)
        header = Dataset(self._elements)
        header.file_meta = meta
        if reader.unreadable:
            names = sorted(reader.unreadable)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._oddities.append(f"unreadable values: {', '.join(names[:3])}{more}")
        if not any(keyword in header for keyword in _TELLING):
            raise _no_dicom(self._where)
        if self._stopped is None and _is_left_over(header):
            raise DamagedInputError("cut short: it names no study", where=self._where, remedy=AGAIN)
        where = named(header, self._where)
        pixels = self._pixels(end, implicit=implicit)
        # A deflated file would have to be inflated to its end for this: its pixels tell later.
        end_of_pixels = 0 if pixels is None else pixels.start + (pixels.length or 0)
        if deflated_from is None and not file.reaches(end_of_pixels):
            raise DamagedInputError(
                "cut short: the pixels end too early", where=where, remedy=AGAIN
            )
        return Instance(
            path=path,
            where=where,
            header=header,
            syntax=syntax,
            pixel_offset=None if pixels is None else end,
            size=self._size,
            oddities=tuple(dict.fromkeys(self._oddities)),
            pixels=pixels,
            deflated_from=deflated_from,
            unreadable=frozenset(reader.unreadable),
        )

    def explained(self, error: GliosightError) -> GliosightError:
        """The error by what was read before it: named by series and instance, and whether it matters."""
        header, meta = Dataset(self._elements), Dataset(self._meta)
        where = named(header, self._where)
        sop_class = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
        private, series = is_private(sop_class), stored(header, "SeriesInstanceUID")
        if not (is_never_analysed(sop_class) or (private and series)):
            return within(error, where)
        name = "an object of a private class" if private else uid.UID(str(sop_class)).name
        never = NeverAnalysedError(
            f"{name}, never analysed, and it cannot be read: {error.what}",
            where=where,
            remedy="give the MR images",
        )
        if private:
            never.series, never.as_image = series, within(error, where)
        return never

    def _behind_preamble(self, reader: HeaderReader) -> int:
        """The position of what follows the preamble, whatever that holds."""
        head = reader.peek(0, PREAMBLE + len(MAGIC))
        if head[PREAMBLE:] == MAGIC:
            return PREAMBLE + len(MAGIC)
        self._oddities.append("no preamble")
        if head.startswith(MAGIC):
            return len(MAGIC)
        group = int.from_bytes(head[:2], "little")
        if len(head) < 8 or group not in (_COMMAND, _FILE_META, _FIRST, _FIRST << 8):
            raise _no_dicom(self._where)
        return 0

    def _behind_meta(self, reader: HeaderReader, position: int) -> int:
        """Read the file meta information (PS3.10, section 7.1) and step over a command group."""
        if _group(reader, position) == _FILE_META:
            implicit = not _writes_vr(reader, position)
            position = reader.read(
                position, self._meta, implicit=implicit, stop=_outside(_FILE_META)
            )
        else:
            self._oddities.append("no meta header")
        if _group(reader, position) == _COMMAND:  # of a network message, left in by some programs
            position = reader.read(position, {}, implicit=True, stop=_outside(_COMMAND))
        return position

    def _syntax(
        self, reader: HeaderReader, position: int, meta: FileMetaDataset
    ) -> tuple[str, bool, bool]:
        """Transfer syntax, whether the VRs are implicit, whether it is little endian."""
        said = str(meta.get("TransferSyntaxUID", "") or "")
        if not said and len(meta):
            self._oddities.append("no transfer syntax")
        explicit = _writes_vr(reader, position)
        group = _group(reader, position)
        seen = str(uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian)
        if group == _FIRST << 8 and explicit:
            seen = str(uid.ExplicitVRBigEndian)
        known = SYNTAXES.get(said or seen)
        if known is None:  # only how the pixels are packed is unknown
            return said, not explicit, True
        expected = _ELEMENTS_AS.get(known.uid, str(uid.ExplicitVRLittleEndian))
        # The first group tells only where it is the one that nearly every object begins with.
        if expected != seen and group in (_FIRST, _FIRST << 8):
            self._oddities.append("not in the transfer syntax that it names")
            said = seen if known.native and known.uid not in _DEFLATED else said
            expected = seen
        big = expected == uid.ExplicitVRBigEndian
        return said or seen, expected == uid.ImplicitVRLittleEndian, not big

    def _at_pixels(self, tag: int, vr: str | None, length: int) -> bool:
        if tag not in _PIXELS:
            return False
        self._stopped = (tag, vr, length)
        return True

    def _pixels(self, end: int, *, implicit: bool) -> PixelElement | None:
        if self._stopped is None:
            return None
        tag, vr, length = self._stopped
        start = end + (12 if not implicit and vr in EXPLICIT_VR_LENGTH_32 else 8)
        return PixelElement(_PIXELS[tag], vr, start, None if length == UNDEFINED else length)


def _is_left_over(header: Dataset) -> bool:
    """Whether this may be cut between two elements; by itself it would be taken for a study."""
    names_something = header.get("StudyInstanceUID") or "DirectoryRecordSequence" in header
    return not names_something and is_never_analysed(header.get("SOPClassUID"))


def _outside(group: int) -> Callable[[int, str | None, int], bool]:
    """Where reading one group ends."""
    return lambda tag, _vr, _length: tag >> 16 != group


def _writes_vr(reader: HeaderReader, position: int) -> bool:
    """Whether the element that comes next says its VR."""
    head = reader.peek(position, 6)
    return head[4:6].isalpha() and head[4:6].isupper()


def _group(reader: HeaderReader, position: int) -> int | None:
    """The group of the element that comes next, as it stands in a little endian file."""
    head = reader.peek(position, 2)
    return int.from_bytes(head, "little") if len(head) == 2 else None


def _ours(error: Exception, where: str) -> GliosightError:
    """The error of ours behind one of pydicom's, which hides it; else what pydicom's means."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, GliosightError):
            return behind
        behind = behind.__cause__ or behind.__context__
    if isinstance(error, OSError) and error.errno is not None:  # pydicom's own have no number
        return cannot_read(error, where)
    return DamagedInputError("the header is corrupt", where=where, remedy=AGAIN)


def _no_dicom(where: str) -> DamagedInputError:
    return DamagedInputError("not a DICOM object", where=where, remedy="leave it out")


def named(header: Any, otherwise: str) -> str:
    """How messages name an instance: by the numbers of its series and in it, where it has both."""
    numbers = []
    for keyword in ("SeriesNumber", "InstanceNumber"):
        try:
            numbers.append(int(header.get(keyword)))
        except (TypeError, ValueError, OverflowError):
            return otherwise
    return f"series {numbers[0]}, instance {numbers[1]}"
