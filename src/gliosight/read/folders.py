"""What a folder holds: recognised files, studies, and everything else (read stage).

In: a path. Out: `Contents` of one folder, the groups of files that make one study each, or the
`Tree` of all below a folder. Only names and first bytes are looked at here.

Words: a *series* is what the names of one study's files share (see `naming`). A *study path* is a
file, a folder with the files of one study, or ``folder/series`` where one folder holds several; the
last one is no file on disk, but names those of the folder's files whose name begins with it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gliosight.errors import (
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.detect import SLICES, Kind, unreadable
from gliosight.read.limits import Budget, cannot_read
from gliosight.read.naming import (
    group_by_flair,
    is_mask,
    natural_key,
    nifti_series,
    promises_image,
    sidecar_of,
    slice_number,
    stem,
)
from gliosight.read.recognise import (
    LOOKED_FOR,
    Found,
    cut_off,
    folder_name,
    recognised,
    relative,
    suffix_of,
)

# Suffixes counted, and studies named, in a message before it breaks off.
NAMED = 6


@dataclass(frozen=True)
class Contents:
    """One folder.

    Parameters
    ----------
    files : tuple of Found
        Of every recognised kind, and bad ones, masks left out, in natural order of their names.
    masks : int
        Files left out since their name says mask.
    folders : tuple of Path
        Subfolders worth looking into.
    seen : Counter of str
        What there was, by suffix or in words.
    """

    files: tuple[Found, ...]
    masks: int
    folders: tuple[Path, ...]
    seen: Counter[str]

    def of(self, *kinds: Kind) -> tuple[Found, ...]:
        """The files of these kinds."""
        return tuple(one for one in self.files if one.kind in kinds)

    @property
    def readable(self) -> tuple[Found, ...]:
        """The files a study would be made of: NIfTI before DICOM before slices, never mixed."""
        return self.of(Kind.NIFTI) or self.of(Kind.DICOM) or self.of(*SLICES)

    def ignored(self) -> str:
        """In words, the recognised images that are no part of the study; empty if there is none."""
        used = {one.kind for one in self.readable}
        kinds = Counter(one.kind.value for one in self.files if one.kind not in used)
        return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def list_folder(folder: Path, root: Path, budget: Budget) -> Contents:
    """Look at the files of one folder, not of those below it.

    FIFOs, devices, sockets and broken links are counted and never opened; hidden files (and the
    ``._`` companions that macOS leaves) are passed over.

    Raises
    ------
    NothingReadableError
        The folder may not be read.
    LimitExceededError
        More entries than ``members``.
    """
    where = relative(folder, root)
    files: list[Found] = []
    folders: list[Path] = []
    seen: Counter[str] = Counter()
    masks = 0
    unknown: list[str] = []
    names = _names(folder, where, budget)
    # Opened once, and only by what reads a NIfTI.
    sidecars = {sidecar_of(name) for name in names if promises_image(name)}
    for name in names:
        path = folder / name
        try:
            mode = path.stat().st_mode
        except OSError:  # broken, or a link that leads to itself
            seen["broken links"] += 1
            continue
        if stat.S_ISDIR(mode):
            seen["folders"] += 1
            folders.append(path)
        elif not stat.S_ISREG(mode):
            seen["FIFOs, sockets or devices"] += 1
        elif is_mask(name) and promises_image(name):
            seen[f"{suffix_of(name)} masks"] += 1
            masks += 1
        elif name in sidecars:
            seen[suffix_of(name)] += 1
        else:
            seen[suffix_of(name)] += 1
            if (one := recognised(path, root)) is not None:
                files.append(one)
            else:
                unknown.append(name)
    files += cut_off(folder, root, files, unknown)
    return Contents(tuple(files), masks, tuple(folders), seen)


@dataclass(frozen=True)
class Tree:
    """What a folder and all below it hold.

    Parameters
    ----------
    studies : tuple of Path
        Each a path that `read` takes; DICOM apart, which no path can tell into studies.
    dicom : tuple of Found
        DICOM files of the folders whose files are read as DICOM, bad ones too.
    ignored : mapping of Path to str
        By folder with DICOM: in words, the images of other kinds beside it.
    seen : Counter of str
    files : tuple of Found
        Everything recognised.
    """

    studies: tuple[Path, ...]
    dicom: tuple[Found, ...]
    ignored: Mapping[Path, str]
    seen: Counter[str]
    files: tuple[Found, ...]


def walk(path: Path, budget: Budget) -> Tree:
    """Look through a folder and all below it; only names and first bytes are looked at.

    A folder's own files are a study (or several, see the module's words), and so is each
    subfolder's. Results of this tool, hidden folders, what a BIDS data set keeps beside ``anat``
    and its ``derivatives`` and ``sourcedata`` are passed over. Each folder is visited once, so
    links in a circle end. What is bad is among the paths, too: it costs no other study, and `read`
    says what is wrong with it.

    Raises
    ------
    NothingReadableError
        The folder is a result of this tool.
    LimitExceededError
        More than ``members`` folders.
    """
    refuse_result(path)
    studies: list[Path] = []
    dicom: list[Found] = []
    ignored: dict[Path, str] = {}
    seen: Counter[str] = Counter()
    files: list[Found] = []
    visited: set[tuple[int, int]] = set()
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        budget.check_members(len(visited), relative(folder, path))
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            contents = list_folder(folder, path, budget)
        except (OSError, GliosightError):
            studies.append(folder)
            continue
        seen += contents.seen
        files += contents.files
        if contents.readable and contents.readable[0].kind is Kind.DICOM:
            dicom += contents.readable
            budget.check_members(len(dicom), relative(folder, path))
            if others := contents.ignored():
                ignored[folder] = others
        else:
            studies += _studies_of(folder, contents)
        waiting += reversed(_worth_entering(contents))
    return Tree(tuple(studies), tuple(dicom), ignored, seen, tuple(files))


def with_ignored(error: UnsupportedInputError, contents: Contents) -> UnsupportedInputError:
    """The same error, which also tells what else lies in the folder and was not looked at."""
    if not (ignored := contents.ignored()):
        return error
    return UnsupportedInputError(
        f"{error.what}; other images in the folder were not looked at: {ignored}",
        where=error.where,
        remedy=f"{error.remedy}, or put each study's files into a folder of its own",
    )


def nothing_in(
    folder: Path, seen: Counter[str], files: Iterable[Found]
) -> NothingReadableError | UnsupportedInputError:
    """The error for a folder without anything that is read."""
    for one in files:
        if (error := unreadable(one.kind, one.where)) is not None:
            return error
    name = folder_name(folder)
    if not seen:
        return NothingReadableError(
            "the folder is empty", where=name, remedy=f"give a folder with {LOOKED_FOR} files"
        )
    counts = [f"{count} {what}" for what, count in seen.most_common(NAMED)]
    more = ", ..." if len(seen) > NAMED else ""
    return NothingReadableError(
        f"no {LOOKED_FOR} image there, only {', '.join(counts)}{more}",
        where=name,
        remedy="check the path; masks are not read as images",
    )


def several(names: list[str], folder: Path) -> UnsupportedInputError:
    """The error for a folder of several studies where one was asked for."""
    if len(names) == 1:
        names.append("files without a name in common")
    more = ", ..." if len(names) > NAMED else ""
    return UnsupportedInputError(
        f"there are {len(names)} studies ({', '.join(names[:NAMED])}{more}), one is read at a time",
        where=folder_name(folder),
        remedy=f"name one of them, as in {Path(folder_name(folder)) / names[0]}",
    )


def slice_groups(files: Iterable[Found]) -> dict[str, list[Found]]:
    """Slices by series; pictures without a number are one series if nothing has a number."""
    files = list(files)
    groups: dict[str, list[Found]] = {}
    numbered = any(slice_number(one.path.name)[1] is not None for one in files)
    for one in files:
        series, number = slice_number(one.path.name)
        key = "" if number is None and not numbered else series
        groups.setdefault(key, []).append(one)
    return groups


def flair_groups(files: Iterable[Found]) -> dict[str, list[Found]]:
    """NIfTI files by the study that they belong to, see `naming.group_by_flair`."""
    by_name = {file.path.name: file for file in files}
    groups = group_by_flair(by_name, {name: file.shown.kind for name, file in by_name.items()})
    return {group.title: [by_name[name] for name in group.names] for group in groups}


def series_files(path: Path, root: Path, budget: Budget) -> tuple[Contents, list[Found]] | None:
    """The files that ``folder/series`` names, or ``None`` where it names none."""
    folder = path.parent
    mode = mode_of(folder)
    if not path.name or mode is None or not stat.S_ISDIR(mode):
        return None
    if not _has_series(folder, path.name):
        return None
    contents = list_folder(folder, root, budget)
    nifti = flair_groups(contents.of(Kind.NIFTI)).get(path.name)
    files = nifti or slice_groups(contents.of(*SLICES)).get(path.name)
    return (contents, files) if files else None


def mode_of(path: Path) -> int | None:
    """What stands at a path, links followed; ``None`` where there is nothing.

    Raises
    ------
    NothingReadableError
        It may not be looked at.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise cannot_read(error, str(path)) from error


def _names(folder: Path, where: str, budget: Budget) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries, start=1):
                budget.check_members(count, where)
                if not entry.name.startswith("."):
                    names.append(entry.name)
    except OSError as error:
        raise cannot_read(error, where) from error
    return sorted(names, key=natural_key)


def _has_series(folder: Path, series: str) -> bool:
    """Whether a file of the folder could belong to the series, by the names alone.

    Most paths that are not there are mistyped; then the files beside them are none of their
    business: neither their number nor what is wrong with them.
    """
    try:
        with os.scandir(folder) as entries:
            return any(
                series in (nifti_series(one.name), slice_number(one.name)[0], stem(one.name))
                for one in entries
            )
    except OSError:
        return False


def _studies_of(folder: Path, contents: Contents) -> list[Path]:
    files = contents.readable
    bad = [one for one in contents.files if one.error]
    sound = [one for one in contents.of(Kind.NIFTI, *SLICES) if not one.error]
    if contents.folders and not sound:
        # A folder of studies rather than one of them: a stray file is told by its own name.
        return [one.path for one in bad]
    if not files:
        return []
    groups = flair_groups(files) if files[0].kind is Kind.NIFTI else slice_groups(files)
    # A group without a name cannot be named; then `read` says what is wrong with the folder.
    if len(groups) < 2 or "" in groups:
        return [folder]
    grouped = {one.path for group in groups.values() for one in group}
    others = [one.path for one in bad if one.path not in grouped]
    return [folder / series for series in groups] + others


def _worth_entering(contents: Contents) -> list[Path]:
    folders = [one for one in contents.folders if not _is_result(one)]
    anat = [one for one in folders if one.name == "anat"]
    if anat:
        return anat
    if contents.seen[".json"] and any(one.name.startswith("sub-") for one in folders):
        return [one for one in folders if one.name not in ("derivatives", "sourcedata", "code")]
    return folders


def refuse_result(folder: Path) -> None:
    """Refuse a folder that a run of this tool has written: its pictures are no slices.

    Raises
    ------
    NothingReadableError
    """
    if _holds_result(folder):
        raise NothingReadableError(
            "a result of gliosight, not a study",
            where=folder.name or str(folder),
            remedy="give the study it was made from",
        )


def _is_result(folder: Path) -> bool:
    """Whether this is an output of gliosight, which must not be taken for input."""
    return folder.name.endswith("-gliosight") or _holds_result(folder)


def _holds_result(folder: Path) -> bool:
    try:
        return (folder / "result.json").is_file() and (folder / "report.html").is_file()
    except OSError:  # no permission: not ours, then
        return False
