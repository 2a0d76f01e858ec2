"""One file: what it is, and what its name promises (read stage, below `folders`).

In: a path. Out: a `Found`, sound or with the error that says why what its name promises cannot be had.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gliosight.errors import DamagedInputError, GliosightError, NothingReadableError
from gliosight.read.detect import STAND_INS, Kind, header_beside, sniff
from gliosight.read.naming import (
    is_structural_folder,
    promises_archive,
    promises_image,
    sequence_folder,
    sequence_of,
    sequence_of_folder,
    stem,
)
from gliosight.study import Sequence

if TYPE_CHECKING:
    from gliosight.read.sidecar import Shown

DICOM_SUFFIX = ".dcm"
_LETTERS = re.compile(r"[^\W\d_]+")
_NUMBERS = re.compile(r"[0-9]+")
LOOKED_FOR = "DICOM, NIfTI, TIFF, PNG or JPEG"


@dataclass(frozen=True)
class Found:
    """A recognised file, or one whose suffix promises an image that cannot be had.

    Parameters
    ----------
    path : Path
    kind : Kind
        By the first bytes; where those hold no image or cannot be read, by the suffix.
    where : str
        The path relative to the input.
    error : GliosightError, optional
        Why it cannot be read; then neither can the study that it belongs to by its name.
    """

    path: Path
    kind: Kind
    where: str
    error: GliosightError | None = field(default=None, compare=False)

    @cached_property
    def sequence_folder(self) -> str:
        """The name of the folder that says its sequence, as ``4_FLAIR`` or ``T2w``; empty without one.

        FLAIR is said by the folder that tells the file's study from others (``p1_FLAIR``), or by one
        anywhere above that is called by nothing else. A place such as ``FLAIR_study/p1`` says nothing.
        """
        inside = PurePosixPath(self.where).parent.parts
        folders = self.path.absolute().parent.parts
        said = sequence_folder(inside, folders[: len(folders) - len(inside)])
        if said and sequence_of_folder(said) is not Sequence.FLAIR:
            return said
        depth = sum(1 for _ in takewhile(is_structural_folder, reversed(inside)))
        own = sequence_folder(inside[-depth - 1 :])
        named = own or next(
            filter(None, (sequence_folder((), [one]) for one in reversed(folders))), ""
        )
        return named if named and sequence_of_folder(named) is Sequence.FLAIR else ""

    @property
    def name(self) -> str:
        """What is read as its name: where that says no sequence, with the folder's that does before it."""
        if not self.sequence_folder or sequence_of(self.path.name) is not None:
            return self.path.name
        return f"{self.sequence_folder}_{self.path.name}"

    @property
    def sequence(self) -> Sequence | str | None:
        """The sequence that its own name says, else its folder's."""
        return sequence_of(self.path.name) or (
            sequence_of_folder(self.sequence_folder) if self.sequence_folder else None
        )

    @property
    def is_unused(self) -> bool:
        """Whether its name or folder surely says a sequence that is never used, such as T2.

        A code in front of a number may be a patient's: ``PD_003``, ``CT_12``.
        """
        said = self.sequence
        if said is None or isinstance(said, Sequence) or " and " in said:
            return False
        whole = stem(self.path.name)
        code = _LETTERS.match(whole)
        patient = code is not None and sequence_of(code[0]) == said and any(map(str.isdigit, whole))
        return said == "T2" or not patient

    @cached_property
    def shown(self) -> Shown:
        """What a NIfTI shows by its name, its folder and its sidecar, which is opened once."""
        from gliosight.read.sidecar import what_shows

        return what_shows(self.path, self.sequence_folder)


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


def kind_of(path: Path, where: str) -> Kind:
    """What a file is, by its bytes; an archive only where the name does not say otherwise.

    A ``.docx`` and many another document are zip files that nobody would unpack.

    Raises
    ------
    NothingReadableError
        It cannot be opened.
    """
    kind = sniff(path, where)
    if kind in (Kind.ZIP, Kind.ARCHIVE) and not promises_archive(path.name):
        return Kind.UNKNOWN
    return kind


def named_file(path: Path, where: str) -> Found:
    """A file named by the user; for the ``.img`` of a pair, which has no magic, its header.

    Raises
    ------
    NothingReadableError
        It cannot be opened.
    """
    kind = kind_of(path, where)
    if kind not in (Kind.NIFTI, Kind.DICOM) and (header := header_beside(path)) is not None:
        beside = sniff(header, header.name)
        if beside is Kind.NIFTI:
            return Found(header, beside, header.name)
        kind = beside if beside is Kind.ANALYZE else kind
    return Found(path, kind, where)


def recognised(path: Path, root: Path) -> Found | None:
    """The file if it is of a known kind, or one whose name promises so; ``None`` for any other."""
    where = relative(path, root)
    error: GliosightError
    try:
        kind = kind_of(path, where)
    except NothingReadableError as found:
        error = found
    else:
        if kind not in (Kind.UNKNOWN, Kind.EMPTY, *STAND_INS):
            return Found(path, kind, where)
        error = mislabelled(path.name, kind, where)
    if not promises(path.name):
        return None
    return Found(path, _promised(path.name), where, error)


def cut_off(folder: Path, root: Path, files: list[Found], unknown: list[str]) -> list[Found]:
    """Files called like the DICOM files beside them that hold nothing of the kind: slices cut off at once."""
    alike = {_NUMBERS.sub("#", one.path.name) for one in files if one.kind is Kind.DICOM}
    cut = []
    for name in unknown:
        pattern = _NUMBERS.sub("#", name)
        if pattern in alike and pattern != name:
            where = relative(folder / name, root)
            error = DamagedInputError(
                "named like the DICOM files beside it, but its content is not DICOM, or it is cut off",
                where=where,
                remedy="copy or export the file again, or take it out of the folder",
            )
            cut.append(Found(folder / name, Kind.DICOM, where, error))
    return cut


def promises(name: str) -> bool:
    """Whether the suffix promises anything that is read; DICOM mostly has none."""
    return promises_image(name) or name.lower().endswith(DICOM_SUFFIX)


def _promised(name: str) -> Kind:
    """The kind that a suffix promises."""
    lower = name.lower()
    if lower.endswith(DICOM_SUFFIX):
        return Kind.DICOM
    if lower.endswith((".nii", ".nii.gz")):
        return Kind.NIFTI
    if lower.endswith(".png"):
        return Kind.PNG
    return Kind.JPEG if lower.endswith((".jpg", ".jpeg")) else Kind.TIFF


def mislabelled(name: str, kind: Kind, where: str) -> DamagedInputError:
    """The error for a file whose suffix promises an image that its bytes do not hold."""
    remedy = "copy or export the file again, or take it out of the folder"
    if kind in STAND_INS:
        what, remedy = STAND_INS[kind]
        what = f"named {suffix_of(name)}, but {what}"
    elif kind is Kind.EMPTY:
        what = "the file is empty"
    else:
        what = f"named {suffix_of(name)}, but its content is not such an image, or it is cut off at the start"
    return DamagedInputError(what, where=where, remedy=remedy)


def suffix_of(name: str) -> str:
    """What messages count files by."""
    suffix = name[len(stem(name)) :] or Path(name).suffix
    return suffix.lower() or "files without suffix"
