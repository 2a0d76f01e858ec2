"""What a file is, by its first bytes and never by its name (read stage).

In: a path. Out: a `Kind`. A file whose suffix promises an image that its bytes do not hold is the
caller's to report; here it is simply `Kind.UNKNOWN`.
"""

from __future__ import annotations

import string
from enum import Enum
from pathlib import Path

from gliosight.errors import UnsupportedInputError
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.gzipped import DamagedGzipError, GzipStream
from gliosight.read.limits import open_regular

# Enough for a NIfTI-2 header, a DICOM preamble and tar's magic.
HEAD_BYTES = 1024
NIFTI1 = (b"n+1\0", b"ni1\0")
NIFTI2 = (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")
NIFTI1_SIZE, NIFTI2_SIZE = 348, 540


class Kind(str, Enum):
    """What a file was recognised as; the value is its name in messages."""

    NIFTI = "NIfTI"
    TIFF = "TIFF"
    PNG = "PNG"
    JPEG = "JPEG"
    DICOM = "DICOM"
    ANALYZE = "Analyze 7.5"
    ZIP = "zip archive"
    ARCHIVE = "archive"
    OTHER_IMAGE = "picture of another kind"
    OTHER_VOLUME = "medical image of another kind"
    EMPTY = "empty file"
    UNKNOWN = "unknown"


SLICES = frozenset({Kind.TIFF, Kind.PNG, Kind.JPEG})

_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", Kind.PNG),
    (b"\xff\xd8\xff", Kind.JPEG),
    (b"II*\0", Kind.TIFF),
    (b"MM\0*", Kind.TIFF),
    (b"II+\0", Kind.TIFF),
    (b"MM\0+", Kind.TIFF),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"7z\xbc\xaf\x27\x1c", Kind.ARCHIVE),
    (b"Rar!\x1a\x07", Kind.ARCHIVE),
    (b"\xfd7zXZ\0", Kind.ARCHIVE),
    (b"BZh", Kind.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Kind.ARCHIVE),
    (b"GIF8", Kind.OTHER_IMAGE),
    (b"\0\0\0\x0cjP  ", Kind.OTHER_IMAGE),
    (b"\xff\x4f\xff\x51", Kind.OTHER_IMAGE),
    (b"\xff\x0a", Kind.OTHER_IMAGE),
    (b"8BPS", Kind.OTHER_IMAGE),
    (b"%PDF-", Kind.OTHER_IMAGE),
    (b"NRRD000", Kind.OTHER_VOLUME),
    (b"ObjectType = Image", Kind.OTHER_VOLUME),
    (b"NDims = ", Kind.OTHER_VOLUME),
    (b"\x89HDF\r\n\x1a\n", Kind.OTHER_VOLUME),
)


def sniff(path: Path, where: str) -> Kind:
    """Recognise a regular file.

    Raises
    ------
    NothingReadableError
        It cannot be opened.
    """
    with open_regular(path, where) as (handle, size):
        if size == 0:
            return Kind.EMPTY
        try:
            head = handle.read(HEAD_BYTES)
            if not head.startswith(GZIP):
                return recognise(head, size)
            handle.seek(0)
            inside = bytes(GzipStream(handle).read(HEAD_BYTES))
        except (DamagedGzipError, OSError):
            return Kind.UNKNOWN
    return _inside_gzip(inside)


def recognise(head: bytes, size: int) -> Kind:
    """Recognise the first `HEAD_BYTES` of a file of ``size`` bytes that is not gzip."""
    # First: the preamble before it may make the file a TIFF, too, or a program.
    if head[128:132] == b"DICM":
        return Kind.DICOM
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[344:348] in NIFTI1 or head[4:12] in NIFTI2:
        return Kind.NIFTI
    if _is_bare_dicom(head):
        return Kind.DICOM
    if head[257:262] == b"ustar":
        return Kind.ARCHIVE
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and size == NIFTI1_SIZE:
        return Kind.ANALYZE
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return Kind.OTHER_IMAGE
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Kind.OTHER_IMAGE
    return Kind.UNKNOWN


def pixels_beside(header: Path) -> Path:
    """Where the pixels of a pair lie, given its ``.hdr``: compressed or not, as that or otherwise."""
    stem = header.with_suffix("") if header.suffix.lower() == ".gz" else header
    suffix = ".IMG" if stem.suffix.isupper() else ".img"
    plain = stem.with_suffix(suffix)
    packed = plain.with_name(plain.name + ".gz")
    both = (packed, plain) if stem != header else (plain, packed)
    return next((path for path in both if path.exists()), both[0])


def header_beside(pixels: Path) -> Path | None:
    """The header of a pair, given its ``.img``, which has no magic; ``None`` if there is none."""
    stem = pixels.with_suffix("") if pixels.suffix.lower() == ".gz" else pixels
    if stem.suffix.lower() != ".img":
        return None
    plain = stem.with_suffix(".HDR" if stem.suffix.isupper() else ".hdr")
    both = (plain, plain.with_name(plain.name + ".gz"))
    return next((path for path in both if path.is_file()), None)


def unreadable(kind: Kind, where: str) -> UnsupportedInputError | None:
    """The error for a recognised kind that is not read, ``None`` for one that is or is unknown."""
    if kind is Kind.ZIP:
        return UnsupportedInputError(
            "a zip inside a folder is not opened", where=where, remedy="give the zip itself"
        )
    if kind is Kind.ARCHIVE:
        return UnsupportedInputError(
            "only zip archives are read",
            where=where,
            remedy="unpack it first, then give the folder",
        )
    if kind is Kind.OTHER_IMAGE:
        return UnsupportedInputError(
            "this kind of picture is not read",
            where=where,
            remedy="save it as PNG or TIFF, or better give the NIfTI it came from",
        )
    if kind is Kind.ANALYZE:
        return UnsupportedInputError(
            "Analyze 7.5 is not read: it does not say which side is left",
            where=where,
            remedy="convert it to NIfTI (.nii.gz) with a tool that knows where it came from",
        )
    if kind is Kind.OTHER_VOLUME:
        return UnsupportedInputError(
            "this kind of medical image is not read",
            where=where,
            remedy="convert it to NIfTI (.nii.gz) first",
        )
    return None


def _inside_gzip(inside: bytes) -> Kind:
    kind = recognise(inside, len(inside))
    if kind in (Kind.NIFTI, Kind.ANALYZE):
        return kind
    if inside[:4] == b"\0\0\0\x01":  # MGH's version number: FreeSurfer's .mgz
        return Kind.OTHER_VOLUME
    # A tar in a gzip, or a single file of a kind that is only read unpacked.
    return Kind.UNKNOWN if kind is Kind.UNKNOWN else Kind.ARCHIVE


def _is_bare_dicom(head: bytes) -> bool:
    """Whether this looks like a DICOM data set without preamble: group 2 or 8, little endian."""
    if len(head) < 8 or head[:2] not in (b"\x02\0", b"\x08\0") or head[3] != 0 or head[2] > 0x60:
        return False
    letters = string.ascii_uppercase.encode()
    explicit = head[4] in letters and head[5] in letters
    return explicit or (head[6:8] == b"\0\0" and head[5] == 0)
