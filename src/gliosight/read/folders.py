"""What folders and zips hold, and which of their files belong together (read stage).

Names and first bytes alone are looked at. `candidates` makes studies of it; what a name says, `naming` knows.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from gliosight.analysis import Progress
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
)
from gliosight.flags import flag
from gliosight.read.detect import (
    ARCHIVES,
    LOOKED_FOR,
    READ,
    SLICES,
    InputFile,
    Kind,
    folder_name,
    input_file,
    not_read,
    once,
    relative,
    suffix_of,
)
from gliosight.read.limits import Budget, cannot_read
from gliosight.read.naming import (
    group_by_flair,
    is_derived_folder,
    is_mask,
    is_mask_folder,
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
from gliosight.study import Flag, MrSequence

# Suffixes counted, and studies named, in a message before it breaks off.
NAMED = 6
_DIGITS = re.compile(r"[0-9]+")
_PLURAL = re.compile(r"(?<=folder|device|socket)s\b|(?<=link|mask|file|FIFO)(?<!of mask)s\b")


def mode_of(path: Path) -> int | None:
    """What stands at a path, links followed; ``None`` for nothing; may raise `NothingReadableError`."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise cannot_read(error, str(path)) from error


def is_annexed(path: Path) -> bool:
    """Whether a link leads to where git-annex would keep the file once it is fetched."""
    try:
        return "annex/objects" in os.readlink(path).replace("\\", "/")  # noqa: PTH115
    except OSError:
        return False


def is_result(folder: Path) -> bool:
    """Whether a run of gliosight has written a folder, which must not be taken for input."""
    return folder.name.endswith("-gliosight") or holds_result(folder)


def holds_result(folder: Path) -> bool:
    """As `is_result`, whatever the folder is called."""
    try:
        return all((folder / name).is_file() for name in ("result.json", "report.html"))
    except OSError:  # no permission: not ours, then
        return False


@dataclass(frozen=True)
class Folder:
    """One folder, without what lies in its subfolders."""

    path: Path
    # Of every recognised kind, and bad ones, masks left out, in natural order of their names.
    files: tuple[InputFile, ...] = ()
    subfolders: tuple[Path, ...] = ()
    seen: Counter[str] = field(default_factory=Counter)  # what there was, by suffix or in words
    error: GliosightError | None = None  # why it cannot be listed
    masks: tuple[str, ...] = ()  # sorted: files that were skipped, masks by their names
    # Subfolders that were skipped: masks, previews or what was computed of the images beside them.
    mask_folders: tuple[str, ...] = ()
    number: int = 0  # its place in the order in which `walk` visits folders

    @once
    def readable(self) -> tuple[InputFile, ...]:
        """The files a study would be made of: NIfTI before DICOM before slices, never mixed."""
        by_kind = (tuple(file for file in self.files if file.kind in kinds) for kinds in READ)
        return next(filter(None, by_kind), ())

    @property
    def is_visit(self) -> bool:
        """Whether it is called ``T1`` or ``T2`` and holds other sequences: then it is a time point."""
        if re.fullmatch(r"t[1-9]", self.path.name, re.IGNORECASE) is None:
            return False
        own = {MrSequence.T1, MrSequence.T1C} if self.path.name[1] == "1" else set()
        sequences = {sequence_of(file.path.name) for file in self.readable}
        return not sequences.intersection(MrSequence).issubset(own)


def list_folder(folder: Path, root: Path, budget: Budget, without: Collection[str] = ()) -> Folder:
    """Look at the files of one folder, not of those below it.

    FIFOs, devices, sockets and broken links are counted and never opened; hidden files (and the
    ``._`` companions that macOS leaves) are skipped, and so are files that have a name in ``without``. Places
    in messages are relative to ``root``.
    Raises `NothingReadableError` or `LimitExceededError`.
    """
    files: list[InputFile] = []
    subfolders: list[Path] = []
    masks: list[str] = []
    seen: Counter[str] = Counter()
    unknown: list[Path] = []
    names = _names(folder, relative(folder, root), budget, without)
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
            masks.append(name)
        else:
            seen[suffix_of(name)] += 1
            if name not in sidecars:
                file = input_file(path, root)
                files += [file] if file else []
                unknown += [] if file else [path]
    # Unknown files called like the DICOM files beside them are slices that were cut off.
    patterns = {_DIGITS.sub("#", file.path.name) for file in files if file.kind is Kind.DICOM}
    for path in unknown:
        pattern, where = _DIGITS.sub("#", path.name), relative(path, root)
        if pattern in patterns and pattern != path.name:
            error: GliosightError
            if os.access(path, os.R_OK):
                what = "named like the DICOM files beside it, but its content is not DICOM, or it is cut off"
                remedy = "copy or export the file again, or take it out of the folder"
                error = DamagedInputError(what, where=where, remedy=remedy)
            else:
                error = cannot_read(PermissionError(), where)
            files.append(InputFile(path, Kind.DICOM, where, error))
    return Folder(folder, tuple(files), tuple(subfolders), seen, masks=tuple(sorted(masks)))


def _names(folder: Path, where: str, budget: Budget, without: Collection[str]) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name not in without:
                    names.append(entry.name)
                    budget.check_members(len(names), where)
    except OSError as error:
        raise cannot_read(error, where) from error
    return sorted(names, key=natural_key)


def walk(root: Path, budget: Budget, without: Collection[str] = ()) -> tuple[Folder, ...]:
    """Look through a folder and all below it, each folder before its subfolders.

    Skipped are results of this tool, hidden folders, folders of masks, previews and derivatives beside
    images, what a BIDS data set keeps beside ``anat``, and its ``derivatives`` and ``sourcedata``; and files
    that have a name in ``without``. Each folder is visited once, so links in a circle end. A link to a folder
    is followed, but neither out of the given folder into another file system nor to a folder above. A folder
    that cannot be listed, or that alone holds more than ``members`` files, has its error in its `Folder`; the
    others are listed all the same. Raises `LimitExceededError` for more than ``members`` files and folders in
    all.
    """
    folders: list[Folder] = []
    listed = 0
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            folder = list_folder(path, root, budget, without)
        except GliosightError as error:
            folder = Folder(path, error=error)
        except OSError as error:
            folder = Folder(path, error=cannot_read(error, relative(path, root)))
        listed += folder.seen.total()
        budget.check_members(listed, relative(root, root))
        inside, masks = _worth_entering(folder)
        entered = [subfolder for subfolder in inside if not _leads_away(subfolder, root)]
        away = len(inside) - len(entered)
        seen = folder.seen + Counter(
            {"folders of masks": len(masks), "links to other places": away}
        )
        skipped = tuple(mask.name for mask in masks)
        folders.append(replace(folder, seen=seen, mask_folders=skipped, number=len(folders)))
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
        target, start = folder.resolve(), root.resolve()
        above = start.is_relative_to(target) and start != target
        return above or target.stat().st_dev != start.stat().st_dev
    except (OSError, RuntimeError):
        return True


def nothing_in(root: Path, folders: Iterable[Folder]) -> GliosightError:
    """The error for a folder without anything that is read."""
    seen: Counter[str] = Counter()
    for folder in folders:
        seen += folder.seen
        for error in filter(None, (not_read(file.kind, file.where) for file in folder.files)):
            return error
    what, remedy = "the folder is empty", f"give a folder with {LOOKED_FOR} files"
    if seen:
        counts = [
            f"{count} {_PLURAL.sub('', name) if count == 1 else name}"
            for name, count in seen.most_common()
        ]
        what = f"no {LOOKED_FOR} image there, only {listed(counts)}"
        remedy = "check the path; masks are not read as images"
        if any(is_result(path) for folder in folders for path in folder.subfolders):
            what = f"no study there, but results of gliosight: {listed(counts)}"
            remedy = "give the studies they were made from"
    return NothingReadableError(what, where=folder_name(root), remedy=remedy)


class FileGroup(NamedTuple):
    """Files that belong together by their names."""

    title: str  # what the names share; may be empty
    files: tuple[InputFile, ...]
    doubtful: tuple[InputFile, ...] = ()  # T1 and T1C that may belong to this study or to another
    error: GliosightError | None = None  # what is wrong with one of the files


def titled(groups: list[FileGroup]) -> list[FileGroup]:
    """The same, each of several with a title, and one alone without."""
    return [
        group._replace(
            title=(group.title or stem(group.files[0].path.name)) if len(groups) > 1 else ""
        )
        for group in groups
    ]


def slice_groups(files: Iterable[InputFile]) -> list[FileGroup]:
    """Slices by series; pictures without a number are one series if nothing has a number."""
    groups: dict[str, list[InputFile]] = {}
    named = [(*slice_number(file.path.name), file) for file in files]
    numbered = any(number is not None for _, number, _ in named)
    for series, number, file in named:
        groups.setdefault("" if number is None and not numbered else series, []).append(file)
    return [FileGroup(series, tuple(group)) for series, group in groups.items()]


def slice_places(files: Iterable[InputFile]) -> list[tuple[str, int | None]]:
    """Series and number of each picture by its name, whose word for a sequence does not count."""
    names = [file.path.name for file in files]
    places = [slice_number(nifti_series(name)) for name in names]
    if len(set(places)) < len(places):  # "flair1", "flair2": the number is part of that word
        places = [("", slice_number(name)[1]) for name in names]
    return [(series.casefold(), number) for series, number in places]


def flair_groups(files: Iterable[InputFile]) -> list[FileGroup]:
    """NIfTI files by the study that they belong to, see `group_by_flair`."""
    files = list(files)
    alike = len({file.name for file in files}) < len(files)
    by_name: dict[str, InputFile] = {}
    for file in files:
        name = file.where.replace("/", "_") if alike else file.name
        while name in by_name:  # "FLAIR/p1" beside "FLAIR_p1"
            name = f"_{name}"
        by_name[name] = file
    shown = {name: (file.shown.kind, file.shown.series_number) for name, file in by_name.items()}
    file_of = by_name.__getitem__
    return [
        FileGroup(title, tuple(map(file_of, own)), tuple(map(file_of, doubtful)))
        for title, own, doubtful in group_by_flair(shown)
    ]


@dataclass(frozen=True)
class Tree:
    """The folders at and below one path, which places in titles and messages are relative to.

    The name of ``ceiling``, a folder above the path, and of all above it are ignored.
    """

    root: Path
    budget: Budget
    ceiling: Path | None = None
    progress: Progress | None = None
    folders: tuple[Folder, ...] = ()

    def holding(self, *kinds: Kind) -> list[Folder]:
        """The folders whose files are read as one of these kinds."""
        return [
            folder
            for folder in self.folders
            if folder.readable and folder.readable[0].kind in kinds
        ]

    def by_study(self, *kinds: Kind) -> dict[Path, list[Folder]]:
        """Folders by the folder of their study: its sequences may have a folder each.

        Of ``patient/4_FLAIR/NIFTI`` that is ``patient``, of ``patient/scans/4/NIFTI`` ``patient/scans``. A
        folder called by more than a sequence, such as ``patient7_FLAIR`` or ``t1_study``, is a study's own.
        """
        homes: dict[Path, list[Folder]] = {}
        for folder in self.holding(*kinds):
            path = folder.path
            below_root = len(path.relative_to(self.root).parts)
            depth = 0 if folder.is_visit else series_depth(self._names(path))
            homes.setdefault([path, *path.parents][min(depth, below_root)], []).append(folder)
        return homes

    def study_name(self, folder: Path) -> str:
        """What to call the study of a folder: by the nearest folder that tells one study from another."""
        return telling_name(self._names(folder)) or folder_name(folder)

    def _names(self, folder: Path) -> tuple[str, ...]:
        """The names of a folder and of those above it, from the outermost below the ceiling."""
        # Not resolve(): the names that a user sees are those of the links.
        path = Path(os.path.abspath(folder))  # noqa: PTH100
        return (path.relative_to(self.ceiling) if self.ceiling is not None else path).parts

    def ignored(self, home: Path, parts: list[Folder]) -> tuple[Flag, ...]:
        """The flags for what lies beside a study's files and is not read."""
        paths = dict.fromkeys([home, *(folder.path for folder in parts), home.parent])
        masks = [name for path in paths for name in self._mask_folders.get(path, ())]
        files = [file for folder in parts for file in folder.files]
        damaged = [file.where for file in files if file.error is not None and file.is_other_image]
        kinds = "Folders of masks, previews or derivatives beside the images"
        return (
            *files_ignored("Other images in the folder", other_images(parts)),
            *files_ignored(kinds, ", ".join(masks)),
            *files_ignored("Damaged files of other sequences", listed(damaged)),
        )

    @once
    def _mask_folders(self) -> dict[Path, tuple[str, ...]]:
        return {folder.path: folder.mask_folders for folder in self.folders}

    def foreign(self) -> Iterator[tuple[Folder, GliosightError]]:
        """The folders that hold images of formats that are not read, and no study."""
        studies = {folder.path for folder in self.folders if folder.readable}
        above = {parent for path in studies for parent in path.parents}
        for folder in self.folders:
            if folder.path in above or not studies.isdisjoint((folder.path, *folder.path.parents)):
                continue
            files = [file for file in folder.files if file.kind in ARCHIVES]
            if folder.seen.total() != len(files):  # beside other files archives may be a viewer's
                skipped = (Kind.OTHER_IMAGE, *ARCHIVES)
                files = [file for file in folder.files if file.kind not in skipped]
            errors = filter(None, (not_read(file.kind, file.where) for file in files))
            if (error := next(errors, None)) is not None:
                yield folder, error


def studies_of(
    parts: list[Folder], group_by_name: Callable[[Iterable[InputFile]], list[FileGroup]]
) -> tuple[list[FileGroup], list[InputFile]]:
    """The studies among the files of folders, and the bad files that belong to none of them.

    A study without a title is all there is.
    """
    all_files = [file for folder in parts for file in folder.files]
    files = [file for folder in parts for file in folder.readable]
    # A picture beside NIfTI files is not part of the study, whatever is wrong with it.
    pictures = files[0].kind in SLICES
    bad = [file for file in all_files if file.error and (pictures or file.kind not in SLICES)]
    # A damaged T2 costs no study.
    costly = {file.path: file.error for file in bad if not file.is_other_image}
    sound = any(file.error is None and file.kind in {Kind.NIFTI, *SLICES} for file in all_files)
    groups = titled(group_by_name(files))
    # Without a sound file, but with subfolders, it is a folder of studies rather than one of them.
    if not sound and any(folder.subfolders for folder in parts):
        groups = []
    elif len(groups) < 2:
        return [FileGroup("", tuple(files), error=next(iter(costly.values()), None))], []
    grouped = {file.path for group in groups for file in group.files}
    stray = [file for file in bad if not file.is_unused]
    stray = [file for file in stray if file.path not in grouped or file.path not in costly]
    for index, group in enumerate(groups):
        errors = (costly[file.path] for file in group.files if file.path in costly)
        groups[index] = group._replace(error=next(errors, None))
    return groups, stray


def other_images(parts: Iterable[Folder]) -> str:
    """The recognised images in folders that are not part of their studies, in words."""
    texts = []
    for folder in parts:
        used = {file.kind for file in folder.readable}
        kinds = Counter(file.kind.value for file in folder.files if file.kind not in used)
        texts.append(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    return ", ".join(dict.fromkeys(filter(None, texts)))


def masks_beside(parts: Iterable[Folder], title: str) -> tuple[str, ...]:
    """Files that are masks by their names, of the study of this title where a folder holds several."""
    names: list[str] = []
    for folder in parts:
        following = folder.masks[bisect_left(folder.masks, title) :]
        names += takewhile(lambda name: name.startswith(title), following)
    if title and names:  # "c1_seg" is of "c1", "c10_seg" is not
        own = re.compile(rf"{re.escape(title)}(?![^\W_])")
        names = [name for name in names if own.match(name)]
    return tuple(sorted(names, key=natural_key))


def files_ignored(what: str, names: str) -> tuple[Flag, ...]:
    """The flag for files that were not read; none without names."""
    return (flag("FILES_IGNORED", f"{what} were not read: {names}."),) if names else ()


def left_out_flag(sequence: MrSequence, reason: str) -> Flag:
    """The flag for T1 or T1C whose slices do not fit those of FLAIR."""
    return flag(f"{sequence.value}_LEFT_OUT", f"{sequence.value} is left out: {reason}.")


def listed(names: list[str]) -> str:
    """Names for a message."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
