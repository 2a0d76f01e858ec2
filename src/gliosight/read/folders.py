"""What folders hold: recognised files, and everything else by count (read stage).

Names and first bytes alone are looked at. Which files make a study, `candidates` decides; what names say,
`naming`.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gliosight.errors import (
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.detect import SLICES, Kind, unreadable
from gliosight.read.limits import Budget, cannot_read
from gliosight.read.naming import (
    group_by_flair,
    is_derived_folder,
    is_mask,
    is_mask_folder,
    is_series_folder,
    is_structural_folder,
    is_time_point,
    natural_key,
    nifti_series,
    promises_image,
    sequence_of,
    sequence_of_folder,
    sidecar_of,
    slice_number,
    stem,
    telling_name,
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
# How the LGG set and what is made of it call their patients.
LGG_PATIENT = "TCGA_"


@dataclass(frozen=True)
class Contents:
    """One folder.

    Parameters
    ----------
    folder : Path
    files : tuple of Found
        Of every recognised kind, and bad ones, masks left out, in natural order of their names.
    folders : tuple of Path
        Subfolders worth looking into.
    seen : Counter of str
        What there was, by suffix or in words.
    error : GliosightError, optional
        Why the folder cannot be listed.
    mask_folders : tuple of str
        Names of subfolders that were skipped, since they hold masks, previews or what was computed of the
        images beside them.
    """

    folder: Path
    files: tuple[Found, ...] = ()
    folders: tuple[Path, ...] = ()
    seen: Counter[str] = field(default_factory=Counter)
    error: GliosightError | None = None
    mask_folders: tuple[str, ...] = ()

    @property
    def readable(self) -> tuple[Found, ...]:
        """The files a study would be made of: NIfTI before DICOM before slices, never mixed."""
        return self._of(Kind.NIFTI) or self._of(Kind.DICOM) or self._of(*SLICES)

    def ignored(self) -> str:
        """In words, the recognised images that are not part of the study; empty if there are none."""
        used = {file.kind for file in self.readable}
        kinds = Counter(file.kind.value for file in self.files if file.kind not in used)
        return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))

    def _of(self, *kinds: Kind) -> tuple[Found, ...]:
        return tuple(file for file in self.files if file.kind in kinds)


@dataclass(frozen=True)
class Tree:
    """A folder and all below it.

    Parameters
    ----------
    folders : tuple of Contents
        Each before its subfolders.
    seen : Counter of str
        What there was in all of them.
    """

    folders: tuple[Contents, ...]
    seen: Counter[str]

    def of(self, *kinds: Kind) -> list[tuple[int, Contents]]:
        """The folders whose files are read as one of these kinds, each with its number."""
        return [
            (index, contents)
            for index, contents in enumerate(self.folders)
            if contents.readable and contents.readable[0].kind in kinds
        ]

    @property
    def files(self) -> list[Found]:
        """Everything recognised."""
        return [file for contents in self.folders for file in contents.files]


def list_folder(folder: Path, root: Path, budget: Budget) -> Contents:
    """Look at the files of one folder, not of those below it.

    FIFOs, devices, sockets and broken links are counted and never opened; hidden files (and the
    ``._`` companions that macOS leaves) are skipped.

    Parameters
    ----------
    folder : Path
    root : Path
        What places in messages are relative to.
    budget : Budget

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
    unknown: list[str] = []
    names = _names(folder, where, budget)
    # Opened once, and only by what reads a NIfTI.
    sidecars = {sidecar_of(name) for name in names if promises_image(name)}
    for name in names:
        path = folder / name
        try:
            mode = path.stat().st_mode
        except OSError:  # broken, or a link that leads to itself
            seen["git-annex links without content" if is_annexed(path) else "broken links"] += 1
            continue
        if stat.S_ISDIR(mode):
            seen["folders"] += 1
            folders.append(path)
        elif not stat.S_ISREG(mode):
            seen["FIFOs, sockets or devices"] += 1
        elif is_mask(name) and promises_image(name):
            seen[f"{suffix_of(name)} masks"] += 1
        elif name in sidecars:
            seen[suffix_of(name)] += 1
        else:
            seen[suffix_of(name)] += 1
            if (file := recognised(path, root)) is not None:
                files.append(file)
            else:
                unknown.append(name)
    files += cut_off(folder, root, files, unknown)
    return Contents(folder, tuple(files), tuple(folders), seen)


def walk(root: Path, budget: Budget) -> Tree:
    """Look through a folder and all below it.

    Skipped are results of this tool, hidden folders, folders of masks, previews and derivatives beside
    images, what a BIDS data set keeps beside ``anat``, and its ``derivatives`` and ``sourcedata``. Each
    folder is visited once, so links in a circle end. A link to a folder is followed, but neither out of the
    given folder into another file system nor to a folder above. A folder that cannot be listed, or that alone
    holds more than ``members`` files, has its error in its `Contents`: it costs no other folder.

    Raises
    ------
    LimitExceededError
        More than ``members`` files and folders in all.
    """
    folders: list[Contents] = []
    seen: Counter[str] = Counter()
    listed = 0
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            contents = list_folder(folder, root, budget)
        except GliosightError as error:
            folders.append(Contents(folder, error=error))
            continue
        except OSError as error:
            folders.append(Contents(folder, error=cannot_read(error, relative(folder, root))))
            continue
        worth, mask_folders, away = _worth_entering(contents, root)
        contents = replace(contents, mask_folders=tuple(path.name for path in mask_folders))
        listed += contents.seen.total()
        budget.check_members(listed, relative(root, root))
        folders.append(contents)
        seen += contents.seen
        seen["folders of masks"] += len(mask_folders)
        seen["links to other places"] += away
        waiting += reversed(worth)
    return Tree(tuple(folders), +seen)


def study_folder(folder: Path, root: Path, ceiling: Path | None) -> Path:
    """The folder of the study that a folder's files belong to.

    Of ``patient/4_FLAIR/NIFTI`` that is ``patient``, and of ``patient/scans/4/NIFTI`` ``patient/scans``. A
    folder called by more than a sequence, such as ``patient7_FLAIR`` or ``t1_study``, is a study's own.

    Parameters
    ----------
    folder : Path
    root : Path
        The path that was given; the study's folder is not above it.
    ceiling : Path, optional
        A folder above ``root``; it and what lies above it say nothing.
    """
    home = inside = folder
    place = _absolute(folder)
    while place.name and place != ceiling:
        of_series = is_series_folder(place.name, place.parent.name)
        if not of_series and not is_structural_folder(place.name):
            break
        inside = inside if inside == root else inside.parent
        if of_series or sequence_of_folder(place.name) is not None:
            home = inside
        place = place.parent
    return home


def study_name(folder: Path, ceiling: Path | None) -> str:
    """What to call the study of a folder: by the nearest folder that tells one study from another."""
    place = _absolute(folder)
    below = place.relative_to(ceiling) if ceiling is not None else place
    return telling_name(below.parts) or folder_name(folder)


def is_visit(contents: Contents) -> bool:
    """Whether a folder called ``T1`` or ``T2`` holds other sequences: then it is a time point."""
    said = {sequence_of(file.path.name) for file in contents.readable}
    return is_time_point(contents.folder.name, said)


def in_lgg_layout(file: Found) -> bool:
    """Whether a picture is called as in the LGG set: ``<patient>/<patient>_<slice>.tif``."""
    series, number = slice_number(file.path.name)
    patient = file.path.parent.name
    return (
        file.kind is Kind.TIFF
        and number is not None
        and (series == patient or series.startswith(LGG_PATIENT))
    )


def with_ignored(error: UnsupportedInputError, ignored: str) -> UnsupportedInputError:
    """The same error, which also tells what other images lie in the folder and were not looked at."""
    if not ignored:
        return error
    return UnsupportedInputError(
        f"{error.what}; other images in the folder were not looked at: {ignored}",
        where=error.where,
        remedy=f"{error.remedy}, or put each study's files into a folder of its own",
    )


_PLURAL = re.compile(r"(?<=folder|device|socket)s\b|(?<=link|mask|file|FIFO)(?<!of mask)s\b")


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
    counts = [
        f"{count} {_PLURAL.sub('', what) if count == 1 else what}"
        for what, count in seen.most_common(NAMED)
    ]
    more = ", ..." if len(seen) > NAMED else ""
    return NothingReadableError(
        f"no {LOOKED_FOR} image there, only {', '.join(counts)}{more}",
        where=name,
        remedy="check the path; masks are not read as images",
    )


class FileGroup(NamedTuple):
    """Files that belong together by their names.

    Parameters
    ----------
    title : str
        What the names share; may be empty.
    files : tuple of Found
    doubtful : tuple of Found
        T1 and T1C that may belong to this study or to another.
    """

    title: str
    files: tuple[Found, ...]
    doubtful: tuple[Found, ...] = ()


def slice_groups(files: Iterable[Found]) -> list[FileGroup]:
    """Slices by series; pictures without a number are one series if nothing has a number."""
    groups: dict[str, list[Found]] = {}
    named = [(slice_number(file.path.name), file) for file in files]
    numbered = any(number is not None for (_, number), _ in named)
    for (series, number), file in named:
        key = "" if number is None and not numbered else series
        groups.setdefault(key, []).append(file)
    return [FileGroup(series, tuple(group)) for series, group in groups.items()]


def slice_places(files: Iterable[Found]) -> list[tuple[str, int | None]]:
    """Series and number of each picture by its name, whose word for a sequence does not count."""
    names = [file.path.name for file in files]
    places = [slice_number(nifti_series(name)) for name in names]
    if len(set(places)) < len(places):  # "flair1", "flair2": the number is part of that word
        places = [("", slice_number(name)[1]) for name in names]
    return [(series.casefold(), number) for series, number in places]


def flair_groups(files: Iterable[Found]) -> list[FileGroup]:
    """NIfTI files by the study that they belong to, see `naming.group_by_flair`."""
    listed = list(files)
    alike = len({file.name for file in listed}) < len(listed)
    by_name: dict[str, Found] = {}
    for file in listed:
        name = file.where.replace("/", "_") if alike else file.name
        while name in by_name:  # "FLAIR/p1" beside "FLAIR_p1"
            name = f"_{name}"
        by_name[name] = file
    groups = group_by_flair(
        by_name,
        {name: file.shown.kind for name, file in by_name.items()},
        {name: file.shown.series_number for name, file in by_name.items()},
    )
    return [
        FileGroup(
            group.title,
            tuple(by_name[name] for name in group.names),
            tuple(by_name[name] for name in group.doubtful),
        )
        for group in groups
    ]


def has_series(folder: Path, series: str) -> bool:
    """Whether a file of the folder could belong to the series, by the names alone.

    Most paths that are not there are mistyped; then the files beside them do not matter, neither their
    number nor what is wrong with them.
    """
    try:
        with os.scandir(folder) as entries:
            return any(
                series in (nifti_series(entry.name), slice_number(entry.name)[0], stem(entry.name))
                for entry in entries
            )
    except (OSError, ValueError):
        return False


def is_annexed(path: Path) -> bool:
    """Whether a link leads to where git-annex would keep the file once it is fetched."""
    try:
        return "annex/objects" in os.readlink(path).replace("\\", "/")  # noqa: PTH115
    except OSError:
        return False


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
            for entry in entries:
                if not entry.name.startswith("."):
                    names.append(entry.name)
                    budget.check_members(len(names), where)
    except OSError as error:
        raise cannot_read(error, where) from error
    return sorted(names, key=natural_key)


def _absolute(folder: Path) -> Path:
    # Not resolve(): the names that a user sees are those of the links.
    return Path(os.path.abspath(folder))  # noqa: PTH100


def _worth_entering(contents: Contents, root: Path) -> tuple[list[Path], list[Path], int]:
    """The subfolders that may hold studies, those of masks, and how many links lead away."""
    folders = [folder for folder in contents.folders if not _is_result(folder)]
    if anat := [folder for folder in folders if folder.name == "anat"]:
        folders = anat
    elif contents.seen[".json"] and any(folder.name.startswith("sub-") for folder in folders):
        beside = ("derivatives", "sourcedata", "code")
        folders = [folder for folder in folders if folder.name not in beside]
    masks = [folder for folder in folders if is_mask_folder(folder.name)]
    if contents.readable:
        masks += [folder for folder in folders if is_derived_folder(folder.name)]
    if len(masks) == len(folders) and not contents.readable:
        masks = []  # nothing else is there: their pixels say what they are
    folders = [folder for folder in folders if folder not in masks]
    inside = [folder for folder in folders if not _leads_away(folder, root)]
    return inside, masks, len(folders) - len(inside)


def _leads_away(folder: Path, root: Path) -> bool:
    """Whether a link leads to a folder above the given one, or from there into another file system."""
    if not folder.is_symlink():
        return False
    try:
        target, given = folder.resolve(), root.resolve()
        above = given.is_relative_to(target) and given != target
        return above or target.stat().st_dev != given.stat().st_dev
    except (OSError, RuntimeError):
        return True


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
