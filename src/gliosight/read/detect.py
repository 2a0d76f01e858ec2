"""What a file is, by its first bytes and never by its name (read stage).

In: a path. Out: a `Kind`. A file whose suffix promises an image that its bytes do not hold is the
caller's to report; here it is simply `Kind.UNKNOWN`.
"""

from __future__ import annotations

import re
import string
import zipfile
from collections.abc import Mapping
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
# FreeSurfer's .mgh and .mgz: the version, and at byte 20 the type of the values.
MGH_VERSION = b"\0\0\0\x01"
MGH_TYPES = (b"\0\0\0\0", b"\0\0\0\x01", b"\0\0\0\x03", b"\0\0\0\x04", b"\0\0\0\x0a")


class Kind(str, Enum):
    """What a file was recognised as; the value is its name in messages."""

    NIFTI = "NIfTI"
    TIFF = "TIFF"
    PNG = "PNG"
    JPEG = "JPEG"
    DICOM = "DICOM"
    ANALYZE = "Analyze 7.5"
    NRRD = "NRRD"
    META_IMAGE = "MetaImage"
    HDF5 = "MINC or other HDF5"
    MINC1 = "MINC 1"
    MGH = "FreeSurfer MGH"
    PAR_REC = "Philips PAR/REC"
    AFNI = "AFNI BRIK"
    NUMPY = "NumPy array"
    MATLAB = "MATLAB"
    VTK = "VTK"
    ZIP = "zip archive"
    ARCHIVE = "archive"
    OTHER_IMAGE = "picture of another kind"
    GIT_LFS = "Git LFS pointer"
    GIT_ANNEX = "git-annex pointer"
    WEB_PAGE = "saved web page"
    EMPTY = "empty file"
    UNKNOWN = "unknown"


# Not the image that their name may promise, but text that stands in its place.
STAND_INS: Mapping[Kind, tuple[str, str]] = {
    Kind.GIT_LFS: ("holds a Git LFS pointer, not the image itself", "fetch it with: git lfs pull"),
    Kind.GIT_ANNEX: (
        "holds a git-annex pointer, not the image itself",
        "fetch it with: datalad get, or git annex get",
    ),
    Kind.WEB_PAGE: (
        "holds a saved web page or an error message, not an image",
        "download the file again; the site may want you to log in first",
    ),
}

_SLICER = "convert it to NIfTI (.nii.gz) first, with 3D Slicer or SimpleITK"
# Formats that are recognised and not read: what to convert them with.
_CONVERTERS: Mapping[Kind, str] = {
    Kind.ANALYZE: "it does not say which side is left; convert it to NIfTI (.nii.gz) with a tool that knows "
    "where it came from",
    Kind.NRRD: _SLICER,
    Kind.META_IMAGE: _SLICER,
    Kind.HDF5: "if it is MINC, convert it to NIfTI (.nii.gz) first, with mnc2nii",
    Kind.MINC1: "convert it to NIfTI (.nii.gz) first, with mnc2nii",
    Kind.MGH: "convert it to NIfTI (.nii.gz) first, with mri_convert",
    Kind.PAR_REC: "convert it to NIfTI (.nii.gz) first, with dcm2niix or nibabel's parrec2nii",
    Kind.AFNI: "convert it to NIfTI (.nii.gz) first, with 3dAFNItoNIFTI",
    Kind.NUMPY: "give the array to gliosight.analyze in Python",
    Kind.MATLAB: "save the image as NIfTI (.nii.gz) first, with niftiwrite",
    Kind.VTK: _SLICER,
}

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
    (b"PK\x07\x08PK\x03\x04", Kind.ZIP),
    (b"PK00PK\x03\x04", Kind.ZIP),
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
    (b"NRRD000", Kind.NRRD),
    (b"ObjectType = Image", Kind.META_IMAGE),
    (b"NDims = ", Kind.META_IMAGE),
    (b"\x89HDF\r\n\x1a\n", Kind.HDF5),
    (b"CDF\x01", Kind.MINC1),
    (b"CDF\x02", Kind.MINC1),
    (b"# === DATA DESCRIPTION FILE", Kind.PAR_REC),
    (b"<PRIDE_V5", Kind.PAR_REC),
    (b"\x93NUMPY", Kind.NUMPY),
    (b"MATLAB 5.0 MAT-file", Kind.MATLAB),
    (b"# vtk DataFile", Kind.VTK),
    (b"<VTKFile", Kind.VTK),
    (b"version https://git-lfs.github.com/spec/", Kind.GIT_LFS),
    (b"/annex/objects/", Kind.GIT_ANNEX),
)
# Text may begin with blank lines and a byte order mark.
_TEXTS: tuple[tuple[re.Pattern[bytes], Kind], ...] = (
    # A page, XML, or JSON: what sites answer with in place of a file.
    (
        re.compile(
            rb"(\xef\xbb\xbf)?\s*(<(!doctype|html|head|body|\?xml|error|!--)|[{\[]\s*[\"{}\]])",
            re.IGNORECASE,
        ),
        Kind.WEB_PAGE,
    ),
    (re.compile(rb"\s*type\s*=\s*(string|integer|float)-attribute"), Kind.AFNI),
)
# Pixels without a magic number, whose header lies in another file.
_HEADLESS = {".rec": Kind.PAR_REC, ".brik": Kind.AFNI, ".brik.gz": Kind.AFNI}

# Windows, Linux, and a script: what unpacks itself.
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!")


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


def is_self_extracting(path: Path, where: str) -> bool:
    """Whether a program or a shell script is a zip archive at its end.

    Raises
    ------
    NothingReadableError
        It cannot be opened.
    """
    with open_regular(path, where) as (handle, _):
        try:
            return handle.read(4).startswith(_PROGRAMS) and zipfile.is_zipfile(handle)
        except OSError:
            return False


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
    bitmap = head.startswith(b"BM") and head[6:10] == b"\0\0\0\0"
    if bitmap or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return Kind.OTHER_IMAGE
    if head.startswith(MGH_VERSION) and head[20:24] in MGH_TYPES:
        return Kind.MGH
    return next((kind for pattern, kind in _TEXTS if pattern.match(head)), Kind.UNKNOWN)


def headless(name: str) -> Kind:
    """The format whose pixels, without a header, have such a name; `Kind.UNKNOWN` for all others."""
    return next(
        (kind for suffix, kind in _HEADLESS.items() if name.lower().endswith(suffix)), Kind.UNKNOWN
    )


def pixels_beside(header: Path) -> Path:
    """Where the pixels of a pair lie, given its ``.hdr``: compressed or not, as that or otherwise."""
    stem = header.with_suffix("") if header.suffix.lower() == ".gz" else header
    suffix = ".IMG" if stem.suffix.isupper() else ".img"
    plain = stem.with_suffix(suffix)
    packed = plain.with_name(plain.name + ".gz")
    both = (packed, plain) if stem != header else (plain, packed)
    return next((path for path in both if path.exists()), both[0])


def header_beside(pixels: Path) -> Path | None:
    """The header of a pair, given its ``.img``, which has no magic; ``None`` if the header is missing."""
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
    if kind in _CONVERTERS:
        return UnsupportedInputError(
            f"{kind.value} files are not read", where=where, remedy=_CONVERTERS[kind]
        )
    return None


def _inside_gzip(inside: bytes) -> Kind:
    kind = recognise(inside, len(inside))
    if kind is Kind.NIFTI or kind in _CONVERTERS:
        return kind
    # A tar in a gzip, or a single file of a kind that is only read unpacked.
    return Kind.UNKNOWN if kind is Kind.UNKNOWN else Kind.ARCHIVE


def _is_bare_dicom(head: bytes) -> bool:
    """Whether this looks like a DICOM data set without preamble: group 2 or 8, little endian."""
    if len(head) < 8 or head[:2] not in (b"\x02\0", b"\x08\0") or head[3] != 0 or head[2] > 0x60:
        return False
    letters = string.ascii_uppercase.encode()
    explicit = head[4] in letters and head[5] in letters
    return explicit or (head[6:8] == b"\0\0" and head[5] == 0)
