"""What a file is, by its first bytes: a `Kind`, and an `InputFile` with its path and error (read stage).

A name never makes a file an image. It says which error a file has whose bytes hold no such image. What
reads each kind is in `FORMATS` of `gliosight.read.candidates`.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.gzipped import DamagedGzipError, GzipStream
from gliosight.read.limits import open_regular
from gliosight.read.naming import read_name, sequence_folder, sequence_of, stem
from gliosight.study import MrSequence

if TYPE_CHECKING:
    from gliosight.read.sidecar import Shown

Value = TypeVar("Value")
LOOKED_FOR = "DICOM, NIfTI, TIFF, PNG or JPEG"
# Enough for a NIfTI-2 header, a DICOM preamble and tar's magic.
HEAD_BYTES = 1024
NIFTI1_SIZE, NIFTI2_SIZE = 348, 540


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


SLICES = frozenset({Kind.TIFF, Kind.PNG, Kind.JPEG})
# What is read: of a folder that holds several, the first.
READ = (frozenset({Kind.NIFTI}), frozenset({Kind.DICOM}), SLICES)
ARCHIVES = frozenset({Kind.ZIP, Kind.ARCHIVE})
# The kind that a suffix promises. Most DICOM files have no suffix.
_PROMISES: Mapping[Kind, tuple[str, ...]] = {
    Kind.DICOM: (".dcm",),
    Kind.NIFTI: (".nii", ".nii.gz"),
    Kind.PNG: (".png",),
    Kind.JPEG: (".jpg", ".jpeg"),
    Kind.TIFF: (".tif", ".tiff", ".btf", ".tf8"),
}
# What an archive is called, so that one which is packed inside only is not taken for it.
_ARCHIVE_SUFFIXES = (
    *(".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".txz", ".bz2", ".tbz2", ".zst"),
)
# Text that stands in the place of an image: what it is, and what to do.
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
# Image formats that are recognised and not read: what to convert them with.
_CONVERT = "convert it to NIfTI (.nii.gz) first, with "
_CONVERTERS: Mapping[Kind, str] = {
    Kind.ANALYZE: "it does not say which side is left; convert it to NIfTI (.nii.gz) with a tool that knows "
    "where it came from",
    **dict.fromkeys((Kind.NRRD, Kind.META_IMAGE, Kind.VTK), f"{_CONVERT}3D Slicer or SimpleITK"),
    Kind.HDF5: f"if it is MINC, {_CONVERT}mnc2nii",
    Kind.MINC1: f"{_CONVERT}mnc2nii",
    Kind.MGH: f"{_CONVERT}mri_convert",
    Kind.PAR_REC: f"{_CONVERT}dcm2niix or nibabel's parrec2nii",
    Kind.AFNI: f"{_CONVERT}3dAFNItoNIFTI",
    Kind.NUMPY: "give the array to gliosight.analyze in Python",
    Kind.MATLAB: "save the image as NIfTI (.nii.gz) first, with niftiwrite",
}
# Files that are recognised and not read: what is wrong, and what to do.
_NOT_READ: Mapping[Kind, tuple[str, str]] = {
    Kind.ZIP: ("a zip inside a folder is not opened", "give the zip itself"),
    Kind.ARCHIVE: ("only zip archives are read", "unpack it first, then give the folder"),
    Kind.OTHER_IMAGE: (
        "this kind of picture is not read",
        "save it as PNG or TIFF, or better give the NIfTI it came from",
    ),
    **{kind: (f"{kind.value} files are not read", tool) for kind, tool in _CONVERTERS.items()},
}

# What files hold from an offset on. DICOM first: its preamble may make it a TIFF, too, or a program.
_SIGNATURES: tuple[tuple[Kind, int, tuple[bytes, ...]], ...] = (
    (Kind.DICOM, 128, (b"DICM",)),
    (Kind.PNG, 0, (b"\x89PNG\r\n\x1a\n",)),
    (Kind.JPEG, 0, (b"\xff\xd8\xff",)),
    (Kind.TIFF, 0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (Kind.ZIP, 0, (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK\x03\x04", b"PK00PK\x03\x04")),
    # 7-Zip, RAR, xz; bzip2, Zstandard.
    (Kind.ARCHIVE, 0, (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\0")),
    (Kind.ARCHIVE, 0, (b"BZh", b"\x28\xb5\x2f\xfd")),
    # GIF, JPEG 2000, JPEG XL; Photoshop, PDF.
    (Kind.OTHER_IMAGE, 0, (b"GIF8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a")),
    (Kind.OTHER_IMAGE, 0, (b"8BPS", b"%PDF-")),
    (Kind.NRRD, 0, (b"NRRD000",)),
    (Kind.META_IMAGE, 0, (b"ObjectType = Image", b"NDims = ")),
    (Kind.HDF5, 0, (b"\x89HDF\r\n\x1a\n",)),
    (Kind.MINC1, 0, (b"CDF\x01", b"CDF\x02")),
    (Kind.PAR_REC, 0, (b"# === DATA DESCRIPTION FILE", b"<PRIDE_V5")),
    (Kind.NUMPY, 0, (b"\x93NUMPY",)),
    (Kind.MATLAB, 0, (b"MATLAB 5.0 MAT-file",)),
    (Kind.VTK, 0, (b"# vtk DataFile", b"<VTKFile")),
    (Kind.GIT_LFS, 0, (b"version https://git-lfs.github.com/spec/",)),
    (Kind.GIT_ANNEX, 0, (b"/annex/objects/",)),
    (Kind.NIFTI, 344, (b"n+1\0", b"ni1\0")),
    (Kind.NIFTI, 4, (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")),
)
# FreeSurfer's .mgh and .mgz: the version, and at byte 20 the type of the values.
_MGH, _MGH_TYPES = b"\0\0\0\x01", tuple(b"\0\0\0" + bytes([code]) for code in (0, 1, 3, 4, 10))
# A page, XML, or JSON, behind blank lines and a byte order mark: what sites answer with in place of a file.
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<(!doctype|html|head|body|\?xml|error|!--)|[{\[]\s*[\"{}\]])",
    re.IGNORECASE,
)
_AFNI = re.compile(rb"\s*type\s*=\s*(string|integer|float)-attribute")
# Pixels without a magic number, whose header lies in another file.
_HEADLESS = {".rec": Kind.PAR_REC, ".brik": Kind.AFNI, ".brik.gz": Kind.AFNI}
# Windows, Linux, and a script: they may unpack themselves.
_PROGRAMS = (b"MZ", b"\x7fELF", b"#!")

_LETTERS = re.compile(r"[^\W\d_]+")


class once(Generic[Value]):  # noqa: N801 - a decorator, as property is
    """A property that keeps its value, as `functools.cached_property` does.

    In Python 3.11 that one holds a lock for all instances while the value is found. A child that is forked
    meanwhile by another thread would wait for it forever.
    """

    def __init__(self, find: Callable[[Any], Value]) -> None:
        self._find, self.__doc__ = find, find.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Value:
        value = self._find(instance)
        instance.__dict__[self._name] = value  # which Python looks up first from now on
        return value


@dataclass(frozen=True)
class InputFile:
    """A file of a known kind, or one whose suffix promises an image that it does not hold."""

    path: Path
    kind: Kind  # by the first bytes; where there is an error, by the suffix
    where: str  # the path relative to the input
    # Why it cannot be read; then neither can the study that it belongs to by its name.
    error: GliosightError | None = field(default=None, compare=False)

    @once
    def sequence_folder(self) -> str:
        """The name of the folder that says its sequence, see `naming.sequence_folder`."""
        inside = PurePosixPath(self.where).parent.parts
        folders = self.path.absolute().parent.parts
        return sequence_folder(inside, folders[: len(folders) - len(inside)])

    @property
    def name(self) -> str:
        """The file's name; where it says no sequence and a folder does, with the folder's before it."""
        folder = "" if sequence_of(self.path.name) else self.sequence_folder
        return f"{folder}_{self.path.name}" if folder else self.path.name

    @property
    def sequence(self) -> MrSequence | str | None:
        """The sequence that its own name says, else its folder's."""
        return sequence_of(self.path.name) or read_name(self.sequence_folder).sequence

    @property
    def is_other_image(self) -> bool:
        """Whether its name or folder says a sequence that is not FLAIR, T1 or T1C."""
        return self.sequence is not None and not isinstance(self.sequence, MrSequence)

    @property
    def is_unused(self) -> bool:
        """Whether its name or folder surely says a sequence that is never used, such as T2.

        A code in front of a number may be a patient's: ``PD_003``, ``CT_12``.
        """
        sequence, whole = self.sequence, stem(self.path.name)
        code = _LETTERS.match(whole)
        patient = code and sequence_of(code[0]) == sequence and any(map(str.isdigit, whole))
        sure = sequence == "T2" or not patient
        return sure and self.is_other_image and " and " not in str(sequence)

    @once
    def shown(self) -> Shown:
        """What a NIfTI shows by its name, its folder and its sidecar, which is opened once."""
        from gliosight.read.sidecar import what_shows

        return what_shows(self.path, self.sequence_folder)


def recognise(head: bytes, size: int) -> Kind:
    """Recognise the first `HEAD_BYTES` of a file of ``size`` bytes that is not gzip."""
    for kind, offset, starts in _SIGNATURES:
        if head.startswith(starts, offset):
            return kind
    if _is_bare_dicom(head):
        return Kind.DICOM
    if head[257:262] == b"ustar":
        return Kind.ARCHIVE
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and size == NIFTI1_SIZE:
        return Kind.ANALYZE
    bitmap = head.startswith(b"BM") and head[6:10] == b"\0\0\0\0"
    if bitmap or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return Kind.OTHER_IMAGE
    if head.startswith(_MGH) and head.startswith(_MGH_TYPES, 20):
        return Kind.MGH
    if _PAGE.match(head):
        return Kind.WEB_PAGE
    return Kind.AFNI if _AFNI.match(head) else Kind.UNKNOWN


def _is_bare_dicom(head: bytes) -> bool:
    """Whether this looks like a DICOM data set without preamble: group 2 or 8, little endian."""
    if len(head) < 8 or head[:2] not in (b"\x02\0", b"\x08\0") or head[3] != 0 or head[2] > 0x60:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or (head[6:8] == b"\0\0" and head[5] == 0)


def sniff(path: Path, where: str) -> Kind:
    """Recognise a regular file; raises `NothingReadableError` if it cannot be opened.

    An archive counts as such only if its name does not say otherwise: a ``.docx`` is a zip, too.
    """
    with open_regular(path, where) as (handle, size):
        try:
            head = handle.read(HEAD_BYTES)
            packed = head.startswith(GZIP)
            if packed:
                handle.seek(0)
                head = bytes(GzipStream(handle).read(HEAD_BYTES))
        except (DamagedGzipError, OSError):
            return Kind.UNKNOWN if size else Kind.EMPTY
    kind = recognise(head, len(head) if packed else size) if size else Kind.EMPTY
    if packed and kind not in (Kind.NIFTI, Kind.UNKNOWN, *_CONVERTERS):
        kind = Kind.ARCHIVE  # a tar, or a single file of a kind that is only read unpacked
    return Kind.UNKNOWN if kind in ARCHIVES and not _may_be_archive(path.name) else kind


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive by its first bytes and its name, or a program that ends with one."""
    try:
        with open_regular(path, path.name) as (handle, size):
            head = handle.read(HEAD_BYTES)
            if head.startswith(_PROGRAMS):
                return zipfile.is_zipfile(handle)
    except (GliosightError, OSError):
        return False
    return recognise(head, size) is Kind.ZIP and _may_be_archive(path.name)


def _may_be_archive(name: str) -> bool:
    return not Path(name).suffix or name.lower().endswith(_ARCHIVE_SUFFIXES)


def input_file(path: Path, root: Path) -> InputFile | None:
    """The file if it is of a known kind, or if its name promises so; ``None`` for any other."""
    where = relative(path, root)
    error: GliosightError
    try:
        kind = sniff(path, where)
    except NothingReadableError as unreadable:
        error = unreadable
    else:
        if kind not in (Kind.UNKNOWN, Kind.EMPTY, *STAND_INS):
            return InputFile(path, kind, where)
        error = _mislabelled(path.name, kind, where)
    promised = _promised(path.name)
    return None if promised is None else InputFile(path, promised, where, error)


def named_file(path: Path) -> InputFile:
    """A file that the user named, of a kind that is read; of a NIfTI pair, the header.

    Raises `NothingReadableError`, `DamagedInputError` or `UnsupportedInputError` for any other.
    """
    where = folder_name(path)
    kind = sniff(path, where)
    # The pixels of a pair have no magic number.
    if kind not in (Kind.NIFTI, Kind.DICOM) and (header := _header_beside(path)) is not None:
        header_kind = sniff(header, header.name)
        if header_kind is Kind.NIFTI:
            return InputFile(header, header_kind, header.name)
        kind = header_kind if header_kind is Kind.ANALYZE else kind
    if any(kind in kinds for kinds in READ):
        return InputFile(path, kind, where)
    headless = (known for suffix, known in _HEADLESS.items() if path.name.lower().endswith(suffix))
    for error in filter(None, (not_read(refused, where) for refused in (kind, *headless))):
        raise error
    if _promised(path.name) is not None:
        raise _mislabelled(path.name, kind, where)
    # Text without an image's name need not stand in the place of one: it may be any JSON or XML file.
    what = "the file is empty" if kind is Kind.EMPTY else "not an image of a known kind"
    what = STAND_INS[kind][0] if kind in (Kind.GIT_LFS, Kind.GIT_ANNEX) else what
    remedy = f"give a {LOOKED_FOR} file, or a folder of them"
    raise NothingReadableError(what, where=where, remedy=remedy)


def not_read(kind: Kind, where: str) -> UnsupportedInputError | None:
    """The error for a recognised kind that is not read; ``None`` for any other."""
    if kind not in _NOT_READ:
        return None
    what, remedy = _NOT_READ[kind]
    return UnsupportedInputError(what, where=where, remedy=remedy)


def _promised(name: str) -> Kind | None:
    """The kind that a suffix promises; ``None`` where it promises none that is read."""
    lower = name.lower()
    return next((kind for kind, suffixes in _PROMISES.items() if lower.endswith(suffixes)), None)


def _mislabelled(name: str, kind: Kind, where: str) -> DamagedInputError:
    """The error for a file whose suffix promises an image that its bytes do not hold."""
    what = f"named {suffix_of(name)}, but its content is not such an image, or it is cut off at the start"
    remedy = "copy or export the file again, or take it out of the folder"
    if kind in STAND_INS:
        what, remedy = STAND_INS[kind]
        what = f"named {suffix_of(name)}, but {what}"
    elif kind is Kind.EMPTY:
        what = "the file is empty"
    return DamagedInputError(what, where=where, remedy=remedy)


def suffix_of(name: str) -> str:
    """What messages count files by."""
    suffix = name[len(stem(name)) :] or Path(name).suffix
    return suffix.lower() or "files without suffix"


def _pair(path: Path, suffix: str) -> list[Path]:
    """What stands beside half of a NIfTI pair may be called, given its suffix: plain, and packed."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    other = plain.with_suffix(suffix.upper() if plain.suffix.isupper() else suffix)
    return [other, other.with_name(f"{other.name}.gz")]


def pixels_beside(header: Path) -> Path:
    """Where the pixels of a pair lie, given its ``.hdr``: compressed or not, as that or otherwise."""
    both = _pair(header, ".img")
    if header.suffix.lower() == ".gz":
        both.reverse()
    return next((path for path in both if path.exists()), both[0])


def _header_beside(pixels: Path) -> Path | None:
    """The header of a pair, given its ``.img``; ``None`` if the header is missing."""
    if not pixels.name.lower().endswith((".img", ".img.gz")):
        return None
    return next((path for path in _pair(pixels, ".hdr") if path.is_file()), None)


def relative(path: Path, root: Path) -> str:
    """A path as seen from the input; the input itself by its name."""
    if path == root:
        return folder_name(path)
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def folder_name(path: Path) -> str:
    """The name of a folder, also of ``.`` and ``..``."""
    # Not resolve(): a link's own name is the one the user knows.
    return Path(os.path.abspath(path)).name or "study"  # noqa: PTH100
