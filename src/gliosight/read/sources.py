"""From a path to the studies that can be read there (read stage).

In: a path to anything: file, folder of any depth, DICOMDIR, zip. Out: *sources*, each what `read` takes: a
path, or for DICOM a `DicomStudy`, since files say which study they belong to only inside.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gliosight.errors import GliosightError, NothingReadableError
from gliosight.read.detect import Kind, is_self_extracting
from gliosight.read.flags import flag
from gliosight.read.folders import Tree, mode_of, nothing_in, walk
from gliosight.read.limits import Budget, Limits, not_regular
from gliosight.read.recognise import Found, folder_name, kind_of
from gliosight.study import Flag

if TYPE_CHECKING:
    from gliosight.read.dicom.study import DicomStudy

Source: TypeAlias = "Path | DicomStudy"
# Told how many headers are read, of how many.
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Opened:
    """What a path leads to once it is unpacked.

    Parameters
    ----------
    path : Path
        The path itself, or the folder that a zip was unpacked into.
    flags : tuple of Flag
    archive : str
        The zip's name; empty where there is none.
    """

    path: Path
    flags: tuple[Flag, ...] = ()
    archive: str = ""

    def explained(self, error: GliosightError) -> GliosightError:
        """An error of what is in an archive: named after the archive, with what was not unpacked of it."""
        if not self.archive:
            return error
        where = self.archive if error.where == self.path.name else error.where
        what = error.what
        if self.flags and isinstance(error, NothingReadableError):
            what += "; " + self.flags[0].message[0].lower() + self.flags[0].message[1:].rstrip(".")
        return type(error)(what, where=where, remedy=error.remedy)


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Opened]:
    """Unpack a zip for as long as its studies are read; anything else is given as it is.

    Raises
    ------
    DamagedInputError, LimitExceededError, NothingReadableError
    """
    if not _is_zip(path):
        yield Opened(path)
        return
    from gliosight.read.zipped import unzipped

    with unzipped(path, Budget(limits)) as inside:
        flags: tuple[Flag, ...] = ()
        if inside.skipped:
            message = f"Members of the zip were not unpacked: {', '.join(inside.skipped)}."
            flags = (flag("MEMBERS_SKIPPED", message),)
        unpacked = Opened(inside.folder, flags, path.name)
        try:
            yield unpacked
        except GliosightError as error:
            raise unpacked.explained(error) from error


def find_studies(path: Path, limits: Limits, tell: Tell | None = None) -> list[Source]:
    """All studies at or below a path.

    What is bad is among them, too: it costs no other study, and `read` says what is wrong with it.

    Parameters
    ----------
    path : Path
        Not a zip: see `opened`.
    limits : Limits
    tell : callable, optional
        Told how many DICOM headers are read, of how many.

    Raises
    ------
    NothingReadableError, UnsupportedInputError
        Nothing there that could be read.
    LimitExceededError
        More than ``members`` files or folders.
    """
    mode = mode_of(path)
    if mode is None:
        return [path]  # a series of a folder, for `read` to judge
    budget = Budget(limits)
    if stat.S_ISREG(mode):
        if not _is(path, Kind.DICOM):
            return [path]
        return _dicom([Found(path, Kind.DICOM, path.name)], path.parent, budget, tell)
    if not stat.S_ISDIR(mode):
        raise not_regular(mode, path.name or str(path))
    tree = walk(path, budget)
    studies: list[Source] = list(tree.studies)
    if tree.dicom:
        studies += _dicom(tree.dicom, path, budget, tell, tree)
    if not studies:
        raise nothing_in(path, tree.seen, tree.files)
    return studies


def join_studies(sources: Iterable[Source]) -> list[Source]:
    """The same sources, but a DICOM study that lies below several paths is one.

    Each takes the place of its first part. NIfTI files and slices do not say whose they are.
    """
    given = list(sources)
    parts: dict[str, list[DicomStudy]] = {}
    for one in given:
        if not isinstance(one, Path):
            parts.setdefault(one.study_id, []).append(one)
    if all(len(one) == 1 for one in parts.values()):
        return given
    from gliosight.read.dicom.study import joined

    out: list[Source] = []
    for one in given:
        if isinstance(one, Path):
            out.append(one)
        elif parts[one.study_id][0] is one:
            out += joined(parts[one.study_id])
    return out


def source_name(source: Source, root: Path) -> str:
    """A source as seen from the path that was given: the way to it, or for DICOM its study id."""
    if not isinstance(source, Path):
        return source.study_id
    if source == root:
        return folder_name(source)
    try:
        return source.relative_to(root).as_posix()
    except ValueError:
        return source.name


def _dicom(
    files: Iterable[Found],
    root: Path,
    budget: Budget,
    tell: Tell | None,
    tree: Tree | None = None,
) -> list[Source]:
    from gliosight.read.dicom.study import studies_in

    studies, problems = studies_in(files, root, budget, tell)
    sources: list[Source] = [path for path, _ in problems]
    for one in studies:
        beside = (
            [tree.ignored[folder] for folder in one.folders if folder in tree.ignored]
            if tree
            else []
        )
        flags = [
            flag("FILES_IGNORED", f"Other images beside the DICOM files were not read: {text}.")
            for text in beside[:1]
        ]
        sources.append(replace(one, flags=(*one.flags, *flags)))
    return sources


def _is_zip(path: Path) -> bool:
    try:
        return _is(path, Kind.ZIP) or is_self_extracting(path, path.name)
    except GliosightError:
        return False


def _is(path: Path, kind: Kind) -> bool:
    try:
        mode = mode_of(path)
        return mode is not None and stat.S_ISREG(mode) and kind_of(path, path.name) is kind
    except GliosightError:
        return False
