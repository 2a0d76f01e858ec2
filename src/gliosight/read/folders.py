"""What folders hold, and which of their files belong together by their names (read stage).

Names and first bytes alone are looked at. Which files make a study, `candidates` decides; what a name says,
`naming`.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
)
from gliosight.read.detect import (
    LOOKED_FOR,
    SLICES,
    InputFile,
    Kind,
    folder_name,
    input_file,
    not_read,
    relative,
    suffix_of,
)
from gliosight.read.limits import Budget, cannot_read
from gliosight.read.naming import (
    group_by_flair,
    is_derived_folder,
    is_mask,
    is_mask_folder,
    is_time_point,
    natural_key,
    nifti_series,
    promises_image,
    sequence_of,
    series_depth,
    sidecar_of,
    slice_number,
    stem,
    telling_name,
)

# Suffixes counted, and studies named, in a message before it breaks off.
NAMED = 6
# How the LGG set and what is made of it call their patients.
LGG_PATIENT = "TCGA_"
_DIGITS = re.compile(r"[0-9]+")
_PLURAL = re.compile(r"(?<=folder|device|socket)s\b|(?<=link|mask|file|FIFO)(?<!of mask)s\b")


@dataclass(frozen=True)
class Folder:
    """One folder, without what lies in its subfolders.

    Parameters
    ----------
    path : Path
    files : tuple of InputFile
        Of every recognised kind, and bad ones, masks left out, in natural order of their names.
    subfolders : tuple of Path
    seen : Counter of str
        What there was, by suffix or in words.
    error : GliosightError, optional
        Why the folder cannot be listed.
    mask_folders : tuple of str
        Names of subfolders that were skipped: they hold masks, previews or what was computed of the images
        beside them.
    number : int
        Its place in the order in which `walk` visits folders.
    """

    path: Path
    files: tuple[InputFile, ...] = ()
    subfolders: tuple[Path, ...] = ()
    seen: Counter[str] = field(default_factory=Counter)
    error: GliosightError | None = None
    mask_folders: tuple[str, ...] = ()
    number: int = 0

    @cached_property
    def readable(self) -> tuple[InputFile, ...]:
        """The files a study would be made of: NIfTI before DICOM before slices, never mixed."""
        for kinds in ({Kind.NIFTI}, {Kind.DICOM}, SLICES):
            if files := tuple(file for file in self.files if file.kind in kinds):
                return files
        return ()

    @property
    def other_images(self) -> str:
        """In words, the recognised images that are not part of the study; empty if there are none."""
        used = {file.kind for file in self.readable}
        kinds = Counter(file.kind.value for file in self.files if file.kind not in used)
        return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))

    @property
    def is_visit(self) -> bool:
        """Whether it is called ``T1`` or ``T2`` and holds other sequences: then it is a time point."""
        return is_time_point(
            self.path.name, {sequence_of(file.path.name) for file in self.readable}
        )


def list_folder(folder: Path, root: Path, budget: Budget) -> Folder:
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
    files: list[InputFile] = []
    subfolders: list[Path] = []
    seen: Counter[str] = Counter()
    unknown: list[Path] = []
    names = _names(folder, relative(folder, root), budget)
    # Opened once, and only when the NIfTI beside it is looked at.
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
            subfolders.append(path)
        elif not stat.S_ISREG(mode):
            seen["FIFOs, sockets or devices"] += 1
        elif is_mask(name) and promises_image(name):
            seen[f"{suffix_of(name)} masks"] += 1
        else:
            seen[suffix_of(name)] += 1
            if name in sidecars:
                continue
            if (file := input_file(path, root)) is not None:
                files.append(file)
            else:
                unknown.append(path)
    files += _cut_off(unknown, files, root)
    return Folder(folder, tuple(files), tuple(subfolders), seen)


def _cut_off(unknown: list[Path], files: list[InputFile], root: Path) -> list[InputFile]:
    """Unknown files called like the DICOM files beside them: slices that were cut off."""
    patterns = {_DIGITS.sub("#", file.path.name) for file in files if file.kind is Kind.DICOM}
    cut: list[InputFile] = []
    for path in unknown:
        pattern = _DIGITS.sub("#", path.name)
        if pattern in patterns and pattern != path.name:
            where = relative(path, root)
            error = DamagedInputError(
                "named like the DICOM files beside it, but its content is not DICOM, or it is cut off",
                where=where,
                remedy="copy or export the file again, or take it out of the folder",
            )
            cut.append(InputFile(path, Kind.DICOM, where, error))
    return cut


def walk(root: Path, budget: Budget) -> tuple[Folder, ...]:
    """Look through a folder and all below it, each folder before its subfolders.

    Skipped are results of this tool, hidden folders, folders of masks, previews and derivatives beside
    images, what a BIDS data set keeps beside ``anat``, and its ``derivatives`` and ``sourcedata``. Each
    folder is visited once, so links in a circle end. A link to a folder is followed, but neither out of the
    given folder into another file system nor to a folder above. A folder that cannot be listed, or that alone
    holds more than ``members`` files, has its error in its `Folder`; the others are listed all the same.

    Raises
    ------
    LimitExceededError
        More than ``members`` files and folders in all.
    """
    folders: list[Folder] = []
    listed = 0
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        number = len(folders)
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            folder = list_folder(path, root, budget)
        except GliosightError as error:
            folders.append(Folder(path, error=error, number=number))
            continue
        except OSError as error:
            problem = cannot_read(error, relative(path, root))
            folders.append(Folder(path, error=problem, number=number))
            continue
        listed += folder.seen.total()
        budget.check_members(listed, relative(root, root))
        inside, masks = _worth_entering(folder)
        entered = [subfolder for subfolder in inside if not _leads_away(subfolder, root)]
        skipped = Counter(
            {"folders of masks": len(masks), "links to other places": len(inside) - len(entered)}
        )
        names = tuple(mask.name for mask in masks)
        folders.append(
            replace(folder, seen=folder.seen + skipped, mask_folders=names, number=number)
        )
        waiting += reversed(entered)
    return tuple(folders)


def _worth_entering(folder: Folder) -> tuple[list[Path], list[Path]]:
    """The subfolders that may hold studies, and those of masks."""
    subfolders = [path for path in folder.subfolders if not is_result(path)]
    if anat := [path for path in subfolders if path.name == "anat"]:
        subfolders = anat
    elif folder.seen[".json"] and any(path.name.startswith("sub-") for path in subfolders):
        beside = ("derivatives", "sourcedata", "code")
        subfolders = [path for path in subfolders if path.name not in beside]
    masks = [path for path in subfolders if is_mask_folder(path.name)]
    if folder.readable:
        masks += [path for path in subfolders if is_derived_folder(path.name)]
    elif len(masks) == len(subfolders):
        masks = []  # nothing else is there: their pixels say what they are
    return [path for path in subfolders if path not in masks], masks


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


def is_result(folder: Path) -> bool:
    """Whether a run of gliosight has written a folder, which must not be taken for input."""
    return folder.name.endswith("-gliosight") or _holds_result(folder)


def refuse_result(folder: Path) -> None:
    """Refuse a folder that a run of this tool has written: its pictures are not slices.

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


def _holds_result(folder: Path) -> bool:
    try:
        return (folder / "result.json").is_file() and (folder / "report.html").is_file()
    except OSError:  # no permission: not ours, then
        return False


def nothing_in(root: Path, folders: Iterable[Folder]) -> GliosightError:
    """The error for a folder without anything that is read."""
    seen: Counter[str] = Counter()
    for folder in folders:
        for file in folder.files:
            if (error := not_read(file.kind, file.where)) is not None:
                return error
        seen += folder.seen
    name = folder_name(root)
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
    below_root = len(folder.relative_to(root).parts)
    depth = min(series_depth(_folder_names(folder, ceiling)), below_root)
    return [folder, *folder.parents][depth]


def study_name(folder: Path, ceiling: Path | None) -> str:
    """What to call the study of a folder: by the nearest folder that tells one study from another."""
    return telling_name(_folder_names(folder, ceiling)) or folder_name(folder)


def _folder_names(folder: Path, ceiling: Path | None) -> tuple[str, ...]:
    """The names of a folder and of those above it, from the outermost below ``ceiling``."""
    # Not resolve(): the names that a user sees are those of the links.
    path = Path(os.path.abspath(folder))  # noqa: PTH100
    return (path.relative_to(ceiling) if ceiling is not None else path).parts


def in_lgg_layout(file: InputFile) -> bool:
    """Whether a picture is called as in the LGG set: ``<patient>/<patient>_<slice>.tif``."""
    series, number = slice_number(file.path.name)
    patient = file.path.parent.name
    return (
        file.kind is Kind.TIFF
        and number is not None
        and (series == patient or series.startswith(LGG_PATIENT))
    )


class FileGroup(NamedTuple):
    """Files that belong together by their names.

    Parameters
    ----------
    title : str
        What the names share; may be empty.
    files : tuple of InputFile
    doubtful : tuple of InputFile
        T1 and T1C that may belong to this study or to another.
    """

    title: str
    files: tuple[InputFile, ...]
    doubtful: tuple[InputFile, ...] = ()


def slice_groups(files: Iterable[InputFile]) -> list[FileGroup]:
    """Slices by series; pictures without a number are one series if nothing has a number."""
    groups: dict[str, list[InputFile]] = {}
    named = [(slice_number(file.path.name), file) for file in files]
    numbered = any(number is not None for (_, number), _ in named)
    for (series, number), file in named:
        key = "" if number is None and not numbered else series
        groups.setdefault(key, []).append(file)
    return [FileGroup(series, tuple(group)) for series, group in groups.items()]


def slice_places(files: Iterable[InputFile]) -> list[tuple[str, int | None]]:
    """Series and number of each picture by its name, whose word for a sequence does not count."""
    names = [file.path.name for file in files]
    places = [slice_number(nifti_series(name)) for name in names]
    if len(set(places)) < len(places):  # "flair1", "flair2": the number is part of that word
        places = [("", slice_number(name)[1]) for name in names]
    return [(series.casefold(), number) for series, number in places]


def flair_groups(files: Iterable[InputFile]) -> list[FileGroup]:
    """NIfTI files by the study that they belong to, see `naming.group_by_flair`."""
    listed = list(files)
    alike = len({file.name for file in listed}) < len(listed)
    by_name: dict[str, InputFile] = {}
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
