"""One DICOM file up to its pixels, as an `Instance`, and the transfer syntaxes it may be in (read stage).

A file without preamble or meta header is read as far as it is understood, and what was odd about it is noted;
a preamble that is an executable is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from pydicom import config, uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag

from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, within
from gliosight.read.dicom.elements import (
    UNDEFINED,
    FileBytes,
    HeaderReader,
    Pool,
    damaged,
    stored,
)
from gliosight.read.limits import Budget, cannot_read, open_regular

PREAMBLE = 128
MAGIC = b"DICM"
# The SOP classes of images that are analysed.
MR_IMAGES = frozenset(
    {
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
    }
)
_PIXELS = {
    int(Tag(keyword)): keyword
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
}
_FILE_META, _COMMAND, _FIRST = 0x0002, 0x0000, 0x0008
_IMPLICIT, _EXPLICIT = str(uid.ImplicitVRLittleEndian), str(uid.ExplicitVRLittleEndian)
_BIG, _DEFLATED = str(uid.ExplicitVRBigEndian), str(uid.DeflatedExplicitVRLittleEndian)
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


class Syntax(NamedTuple):
    """A transfer syntax that is read (PS3.5, section 10; PS3.6, table A-1).

    ``lossy``: whether it may have changed the pixels. ``decoder``: numpy where the pixels are not compressed
    frame by frame.
    """

    uid: str
    name: str
    lossy: bool
    decoder: Literal["numpy", "pydicom", "gdcm", "openjpeg"]

    @property
    def native(self) -> bool:
        """Whether the pixels are not encapsulated."""
        return self.decoder == "numpy"


SYNTAXES: Mapping[str, Syntax] = {
    syntax.uid: syntax
    for syntax in (
        Syntax(uid.ImplicitVRLittleEndian, "Implicit VR Little Endian", False, "numpy"),
        Syntax(uid.ExplicitVRLittleEndian, "Explicit VR Little Endian", False, "numpy"),
        Syntax(
            uid.DeflatedExplicitVRLittleEndian, "Deflated Explicit VR Little Endian", False, "numpy"
        ),
        Syntax(uid.ExplicitVRBigEndian, "Explicit VR Big Endian", False, "numpy"),
        Syntax(uid.RLELossless, "RLE Lossless", False, "pydicom"),
        Syntax(uid.JPEGBaseline8Bit, "JPEG Baseline", True, "gdcm"),
        Syntax(uid.JPEGExtended12Bit, "JPEG Extended", True, "gdcm"),
        Syntax(uid.JPEGLossless, "JPEG Lossless", False, "gdcm"),
        Syntax(uid.JPEGLosslessSV1, "JPEG Lossless SV1", False, "gdcm"),
        Syntax(uid.JPEGLSLossless, "JPEG-LS Lossless", False, "gdcm"),
        Syntax(uid.JPEGLSNearLossless, "JPEG-LS Near-lossless", True, "gdcm"),
        Syntax(uid.JPEG2000Lossless, "JPEG 2000 Lossless", False, "openjpeg"),
        Syntax(uid.JPEG2000, "JPEG 2000", True, "openjpeg"),
        Syntax(uid.HTJ2KLossless, "HTJ2K Lossless", False, "openjpeg"),
        Syntax(uid.HTJ2KLosslessRPCL, "HTJ2K Lossless RPCL", False, "openjpeg"),
        Syntax(uid.HTJ2K, "HTJ2K", True, "openjpeg"),
    )
}
# Those that may also be used without loss; then the header says so.
_EITHER_WAY = frozenset({uid.JPEG2000, uid.HTJ2K, uid.JPEGLSNearLossless})


def name_of(syntax: str) -> str:
    """The name of any transfer syntax; of an unknown one its UID, shortened."""
    if syntax in SYNTAXES:
        return SYNTAXES[syntax].name
    # Any text may stand there; pydicom would warn of it.
    return str(uid.UID(syntax, validation_mode=config.IGNORE).name)[:64]


def refusal(syntax: str, where: str) -> UnsupportedInputError | None:
    """The error for a syntax whose pixels are not read, by name; ``None`` for one that is read."""
    if syntax in SYNTAXES:
        return None
    name = name_of(syntax)
    video = any(word in name.upper() for word in ("MPEG", "HEVC", "SMPTE"))
    return UnsupportedInputError(
        f"{'video' if video else 'pixels'} in the transfer syntax {name}",
        where=where,
        remedy="export the series uncompressed (Explicit VR Little Endian)",
    )


def is_lossy(syntax: str, header: Any) -> bool:
    """Whether the pixels lost something, by the syntax or by Lossy Image Compression (0028,2110)."""
    stated = str(header.get("LossyImageCompression", "") or "").strip()
    if stated == "01":
        return True
    known = SYNTAXES.get(syntax)
    return known is not None and known.lossy and not (syntax in _EITHER_WAY and stated == "00")


class PixelElement(NamedTuple):
    """Where an instance's pixels are."""

    keyword: str
    vr: str | None  # `None` in implicit files
    start: int  # of the value; in a deflated file as if it was not deflated
    length: int | None  # `None` where it is undefined, as for packed frames


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file, without its pixels."""

    path: Path
    where: str  # for messages: "series 3, instance 12", else the path relative to the input
    # What stands before the pixels, with ``file_meta``; see `elements` for what is left out. Never changed in
    # place: equal elements are shared with other instances.
    header: Dataset
    syntax: str  # UID of the transfer syntax; where the file does not say it, what its bytes are
    size: int  # of the file, bytes
    oddities: tuple[str, ...]  # how the file departs from the standard, in words
    pixels: PixelElement | None = None  # if there are any
    deflated_from: int | None = None  # where the deflated data set begins in the file
    # Keywords of elements, also in sequences, whose value is not of their kind: the header lacks them.
    unreadable: frozenset[str] = frozenset()


class NeverAnalysedError(UnsupportedInputError):
    """A broken object of a class that is never analysed; beside other files it is ignored.

    ``series`` is the SeriesInstanceUID of an object of a private class: among MR images of that series it
    may be one of them, with a damaged class, and ``as_image`` is its error then.
    """

    series: str = ""
    as_image: GliosightError | None = None


def read_instance(path: Path, where: str, budget: Budget, pool: Pool | None = None) -> Instance:
    """Read one file up to its pixels; a ``pool`` of what other files hold makes many of them cheap.

    Messages name it by ``where`` until its series and number are known.

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
            raise reading.explained(error) from error
    if any("character set" in message or "encoding" in message for message in warned):
        return replace(instance, oddities=(*instance.oddities, "wrong character set"))
    return instance


@contextmanager
def open_pixels(instance: Instance, budget: Budget) -> Iterator[FileBytes]:
    """An instance's file for reading its pixels, inflated on the way where it is deflated."""
    with open_regular(instance.path, instance.where) as (handle, size):
        yield FileBytes(handle, size, instance.where, budget, instance.deflated_from)


def is_dicomdir(file: Instance | Path) -> bool:
    """Whether this is a directory of DICOM files rather than one of them (PS3.10, section 8)."""
    if isinstance(file, Path):
        return file.name.upper() == "DICOMDIR"
    header = file.header
    kinds = (header.file_meta.get("MediaStorageSOPClassUID"), header.get("SOPClassUID"))
    return uid.MediaStorageDirectoryStorage in kinds or "DirectoryRecordSequence" in header


def is_mr_image(instance: Instance) -> bool:
    """Whether this is an object of MR images, or one that has lost its SOP class."""
    return stored(instance.header, "SOPClassUID") in (*MR_IMAGES, "")


class _Reading:
    """The reading of one file; what was read before an error is at hand to explain it."""

    def __init__(self, handle: BinaryIO, size: int, where: str, budget: Budget, pool: Pool) -> None:
        self._file = (handle, size, where, budget)
        self._where, self._pool = where, pool
        self._meta: Elements = {}
        self._elements: Elements = {}
        self._oddities: list[str] = []

    def instance(self, path: Path) -> Instance:
        """Read it."""
        source = FileBytes(*self._file)
        reader = HeaderReader(source, self._pool)
        position = self._behind_meta(reader)
        meta = FileMetaDataset(self._meta)
        deflated_from = None
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            deflated_from = position
            source = FileBytes(*self._file, deflated_from)
            reader = HeaderReader(source, self._pool)
        syntax, implicit, little = self._syntax(reader, position, meta)
        reader = HeaderReader(source, self._pool, little=little)
        end = reader.read(position, self._elements, implicit=implicit, stop=_PIXELS.__contains__)
        header = Dataset(self._elements)
        header.file_meta = meta
        if reader.unreadable:
            names = sorted(reader.unreadable)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._oddities.append(f"unreadable values: {', '.join(names[:3])}{more}")
        if not any(keyword in header for keyword in _TELLING):
            raise self._no_dicom()
        names_a_study = header.get("StudyInstanceUID") or "DirectoryRecordSequence" in header
        pixels = None
        if (head := reader.head(end, implicit=implicit)) is not None:
            tag, vr, start, length = head
            pixels = PixelElement(_PIXELS[tag], vr, start, None if length == UNDEFINED else length)
        elif not names_a_study and _never_analysed(stored(header, "SOPClassUID")):
            # Perhaps cut between two elements; by itself it would be taken for a study.
            raise damaged("cut short: it names no study", self._where)
        where = _named(header, self._where)
        # A deflated file would have to be inflated to its end for this: its pixels tell later.
        end_of_pixels = 0 if pixels is None else pixels.start + (pixels.length or 0)
        if deflated_from is None and not source.reaches(end_of_pixels):
            raise damaged("cut short: the pixels end too early", where)
        return Instance(
            path=path,
            where=where,
            header=header,
            syntax=syntax,
            size=self._file[1],
            oddities=tuple(dict.fromkeys(self._oddities)),
            pixels=pixels,
            deflated_from=deflated_from,
            unreadable=frozenset(reader.unreadable),
        )

    def explained(self, error: Exception) -> GliosightError:
        """The error by what was read before it: named by series and instance, and whether it matters."""
        if isinstance(error, OSError):
            error = cannot_read(error, self._where)
        elif not isinstance(error, GliosightError):
            error = damaged("the header is corrupt", self._where)
        header, meta = Dataset(self._elements), Dataset(self._meta)
        where = _named(header, self._where)
        sop_class = stored(header, "SOPClassUID") or stored(meta, "MediaStorageSOPClassUID")
        series = stored(header, "SeriesInstanceUID")
        private = uid.UID(sop_class).is_valid and uid.UID(sop_class).is_private  # a vendor's
        if not (_never_analysed(sop_class) or (private and series)):
            return within(error, where)
        name = "an object of a private class" if private else uid.UID(sop_class).name
        never = NeverAnalysedError(
            f"{name}, never analysed, and it cannot be read: {error.what}",
            where=where,
            remedy="give the MR images",
        )
        if private:
            never.series, never.as_image = series, within(error, where)
        return never

    def _behind_meta(self, reader: HeaderReader) -> int:
        """Read the file meta information (PS3.10, section 7.1); the position of the data set."""
        start = reader.peek(0, PREAMBLE + len(MAGIC))
        position = len(start)
        if start[PREAMBLE:] != MAGIC:
            self._oddities.append("no preamble")
            position = len(MAGIC) if start.startswith(MAGIC) else 0
            known = (_COMMAND, _FILE_META, _FIRST, _FIRST << 8)
            if not position and (len(start) < 8 or _group(reader, 0) not in known):
                raise self._no_dicom()
        if _group(reader, position) == _FILE_META:
            implicit = not reader.writes_vr(position)
            position = reader.read(
                position, self._meta, implicit=implicit, stop=lambda tag: tag >> 16 != _FILE_META
            )
        else:
            self._oddities.append("no meta header")
        if _group(reader, position) == _COMMAND:  # of a network message, left in by some programs
            position = reader.read(
                position, {}, implicit=True, stop=lambda tag: tag >> 16 != _COMMAND
            )
        return position

    def _syntax(
        self, reader: HeaderReader, position: int, meta: FileMetaDataset
    ) -> tuple[str, bool, bool]:
        """Transfer syntax, whether the VRs are implicit, whether it is little endian."""
        stated = meta.get("TransferSyntaxUID") or ""
        if not isinstance(stated, str):  # several
            raise damaged("the header is corrupt", self._where)
        if not stated and len(meta):
            self._oddities.append("no transfer syntax")
        explicit, group = reader.writes_vr(position), _group(reader, position)
        seen = _EXPLICIT if explicit else _IMPLICIT
        if explicit and group == _FIRST << 8:
            seen = _BIG
        syntax = stated or seen
        # Of compressed ones, too (PS3.5, A.4).
        expected = syntax if syntax in (_IMPLICIT, _BIG) else _EXPLICIT
        if syntax not in SYNTAXES:  # only how the pixels are packed is unknown
            expected = _EXPLICIT if explicit else _IMPLICIT
        # The first group tells only where it is the one that nearly every object begins with.
        elif expected != seen and group in (_FIRST, _FIRST << 8):
            self._oddities.append("not in the transfer syntax that it names")
            if SYNTAXES[syntax].native and syntax != _DEFLATED:
                syntax = seen
            expected = seen
        return syntax, expected == _IMPLICIT, expected != _BIG

    def _no_dicom(self) -> DamagedInputError:
        return DamagedInputError("not a DICOM object", where=self._where, remedy="leave it out")


def _never_analysed(sop_class: str) -> bool:
    """Whether this is a SOP class of the standard (PS3.4, B.5), and not of MR images.

    What has the standard's root and is not in its list may be a damaged UID.
    """
    known = uid.UID_dictionary.get(sop_class)
    return known is not None and known[1] == "SOP Class" and sop_class not in MR_IMAGES


def _group(reader: HeaderReader, position: int) -> int | None:
    """The group of the element that comes next, as it stands in a little endian file."""
    head = reader.peek(position, 2)
    return int.from_bytes(head, "little") if len(head) == 2 else None


def _named(header: Dataset, otherwise: str) -> str:
    """How messages name an instance: by the numbers of its series and in it, where it has both."""
    try:
        series, instance = (int(header.get(key)) for key in ("SeriesNumber", "InstanceNumber"))
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return f"series {series}, instance {instance}"
