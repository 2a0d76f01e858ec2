"""One DICOM file's header, read once and bounded (read stage, DICOM).

In: a path. Out: an `Instance`: what stands before the pixels, every element of it converted and safe to
look at, and where the pixels are. A file without preamble or meta header is read as far as it is
understood, and what was odd about it is noted; a preamble that is an executable is never looked at. What
is in a preamble, a private element or a value of more than 64 KiB is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from gliosight.errors import DamagedInputError, GliosightError, within
from gliosight.read.dicom.bounded import (
    AGAIN,
    BoundedFile,
    bounded,
)
from gliosight.read.dicom.headers import UNDEFINED, VALUE_BYTES, Pool, Settler, quietly
from gliosight.read.dicom.syntaxes import SYNTAXES
from gliosight.read.limits import Budget, cannot_read, open_regular

PREAMBLE = 128
MAGIC = b"DICM"
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_PIXELS = {int(Tag(keyword)): keyword for keyword in PIXEL_KEYWORDS}
_LAST_NUMBER = int(Tag("InstanceNumber"))
_FILE_META, _COMMAND, _FIRST = 0x0002, 0x0000, 0x0008
_DEFLATED = frozenset({str(uid.DeflatedExplicitVRLittleEndian)})
# How the elements are written; all others are explicit and little endian (PS3.5, A.4).
_ELEMENTS_AS = {one: one for one in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)}
# A data set that does not hold one of these is none of an object, whatever it is.
_TELLING = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "DirectoryRecordSequence",
)


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
        Everything before the pixels, with ``file_meta``, all converted; private elements and values
        over 64 KiB that are no sequences are left out. Never changed in place: equal elements are
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
    """
    with open_regular(path, where) as (handle, size), quietly() as said:
        try:
            found = _Reading(handle, size, where, budget, pool or Pool()).instance(path)
        except Exception as error:  # whatever pydicom raises on hostile bytes
            raise _placed(_ours(error, where), handle, size, where, budget) from error
    if any("character set" in one or "encoding" in one for one in said):
        oddities = (*found.oddities, "wrong character set")
        return replace(found, oddities=oddities)
    return found


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


class _Reading:
    """The reading of one file, step by step."""

    def __init__(self, handle: BinaryIO, size: int, where: str, budget: Budget, pool: Pool) -> None:
        self._handle = handle
        self._size = size
        self._where = where
        self._budget = budget
        self._pool = pool
        self._oddities: list[str] = []
        self._stopped: tuple[int, str | None, int] | None = None

    def instance(self, path: Path) -> Instance:
        """The whole way."""
        file, meta, (syntax, implicit, little), deflated_from = self._begin()
        # Read whole before any is looked at: a long sequence is gone back to.
        raw = list(
            data_element_generator(
                file, implicit, little, stop_when=self._at_pixels, defer_size=VALUE_BYTES
            )
        )
        end = file.tell()
        settler = Settler(file, self._where, self._pool)
        header = settler.settle(raw)
        header.file_meta = meta
        if settler.unreadable:
            names = sorted(settler.unreadable)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._oddities.append(f"unreadable values: {', '.join(names[:3])}{more}")
        if not any(keyword in header for keyword in _TELLING):
            raise _no_dicom(self._where)
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
        )

    def place(self) -> str:
        """Series and instance of a file that cannot be read whole, if it can be read so far."""
        file, _, (_, implicit, little), _ = self._begin()
        first = data_element_generator(
            file,
            implicit,
            little,
            stop_when=lambda tag, _vr, _size: tag > _LAST_NUMBER,
            defer_size=VALUE_BYTES,
        )
        return named(Settler(file, self._where, self._pool).settle(list(first)), self._where)

    def _begin(
        self,
    ) -> tuple[BoundedFile, FileMetaDataset, tuple[str, bool, bool], int | None]:
        """Everything before the data set; the file is left at its beginning."""
        self._handle.seek(0)
        file = bounded(self._handle, self._size, self._where, self._budget)
        self._preamble(file)
        meta = self._meta(file)
        if _group(file) == _COMMAND:  # of a network message, which some programs leave in the file
            list(data_element_generator(file, True, True, stop_when=_outside(_COMMAND)))
        if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
            return file, meta, self._syntax(file, meta), None
        start = file.tell()
        file = bounded(self._handle, self._size, self._where, self._budget, deflated_from=start)
        return file, meta, self._syntax(file, meta), start

    def _preamble(self, file: BoundedFile) -> None:
        """Go to what follows the preamble, whatever that holds."""
        head = file.read(PREAMBLE + len(MAGIC))
        if head[PREAMBLE:] == MAGIC:
            return
        self._oddities.append("no preamble")
        if head.startswith(MAGIC):
            file.seek(len(MAGIC))
            return
        group = int.from_bytes(head[:2], "little")
        if len(head) < 8 or group not in (_COMMAND, _FILE_META, _FIRST, _FIRST << 8):
            raise _no_dicom(self._where)
        file.seek(0)

    def _meta(self, file: BoundedFile) -> FileMetaDataset:
        """The file meta information (PS3.10, section 7.1); empty where there is none."""
        if _group(file) != _FILE_META:
            self._oddities.append("no meta header")
            return FileMetaDataset()
        implicit = not _looks_explicit(file)
        raw = list(data_element_generator(file, implicit, True, stop_when=_outside(_FILE_META)))
        end = file.tell()
        meta = FileMetaDataset(Settler(file, self._where, self._pool).settle(raw))
        file.seek(end)
        return meta

    def _syntax(self, file: BoundedFile, meta: FileMetaDataset) -> tuple[str, bool, bool]:
        """Transfer syntax, whether the VRs are implicit, whether it is little endian."""
        said = str(meta.get("TransferSyntaxUID", "") or "")
        if not said and len(meta):
            self._oddities.append("no transfer syntax")
        explicit = _looks_explicit(file)
        group = _group(file)
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


def _outside(group: int) -> Callable[[int, str | None, int], bool]:
    """Where reading one group ends, as pydicom asks for it."""
    return lambda tag, _vr, _size: tag >> 16 != group


def _looks_explicit(file: BoundedFile) -> bool:
    """Whether the element that comes next says its VR."""
    start = file.tell()
    head = file.read(6)
    file.seek(start)
    return head[4:6].isalpha() and head[4:6].isupper()


def _group(file: BoundedFile) -> int | None:
    """The group of the element that comes next, as it stands in a little endian file."""
    start = file.tell()
    head = file.read(2)
    file.seek(start)
    return int.from_bytes(head, "little") if len(head) == 2 else None


def _placed(
    error: GliosightError, handle: BinaryIO, size: int, where: str, budget: Budget
) -> GliosightError:
    """The same error, named by series and instance where as much of the header can be read."""
    try:
        return within(error, _Reading(handle, size, where, budget, Pool()).place())
    except Exception:  # noqa: BLE001 - it is only a better name, and the file is damaged
        return error


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
