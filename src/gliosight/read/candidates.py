"""The studies that a path holds: `find` gives a candidate for each (read stage).

A candidate knows its files by name and first bytes, says what an analysis would take of them, and reads
itself. `FORMATS` is where an input format is added.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gliosight.analysis import Progress
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.files import folded, numbered
from gliosight.flags import flag
from gliosight.read.checks import is_constant
from gliosight.read.detect import (
    LOOKED_FOR,
    SLICES,
    STAND_INS,
    InputFile,
    Kind,
    folder_name,
    named_file,
    pixels_beside,
    relative,
)
from gliosight.read.folders import (
    FileGroup,
    Folder,
    Tree,
    files_ignored,
    flair_groups,
    holds_result,
    is_annexed,
    left_out_flag,
    list_folder,
    listed,
    masks_beside,
    mode_of,
    nothing_in,
    other_images,
    slice_groups,
    slice_places,
    studies_of,
    titled,
    walk,
)
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits, not_regular
from gliosight.read.naming import is_mask, nifti_series, slice_number, stem
from gliosight.read.zipped import Opened
from gliosight.study import Flag, MrSequence, Study

if TYPE_CHECKING:
    from gliosight.read.dicom.study import DicomStudy
    from gliosight.read.inspection import Inspection

# How the LGG set and what is made of it call their patients.
_LGG_PATIENT = "TCGA_"


@dataclass(frozen=True)
class Options:
    """How a candidate is read."""

    limits: Limits = DEFAULT_LIMITS
    volume_index: int | None = None  # which volume of a 4-D NIfTI to read, counted from 0
    # For DICOM: SeriesInstanceUID or SeriesNumber to take instead of the rules' choice.
    series: Mapping[MrSequence, str] = field(default_factory=dict)

    def check(self, kind: str) -> None:
        """Raise `UsageError` for an option that studies of this `Study.kind` do not have."""
        if kind not in ("dicom", "unknown") and self.series:
            name, text = next(iter(self.series.items()))
            option = f"--{name.value.lower()} {text[:64]}"
            what = f"{option} names neither a file nor a series; only DICOM has series"
            raise UsageError(what, remedy="give --flair, --t1 and --t1c a NIfTI file each")
        if kind not in ("nifti", "unknown") and self.volume_index is not None:
            option, words, remedy = f"--volume {self.volume_index}", "of slices", "leave it out"
            if kind == "dicom":
                words = "DICOM"
                remedy += "; what DICOM repeats is named with --flair, see gliosight inspect"
            what = f"{option} is for 4-D NIfTI files, and the study is {words}"
            raise UsageError(what, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Candidate(ABC):
    """What may be a study."""

    kind: ClassVar[Literal["nifti", "dicom", "slices", "unknown"]]
    source: str  # where it lies, as seen from the path that was given; that path by its own name
    # The file, the folder or the ``folder/name`` that it is found at when that alone is given.
    path: Path
    # The name of its folder or file, or the id of a DICOM study; empty for what cannot be read.
    study_id: str = ""
    flags: tuple[Flag, ...] = ()  # those of finding it
    masks: tuple[str, ...] = ()  # files beside it that are not read: masks by their names
    error: GliosightError | None = None  # what is wrong with a file of the study
    number: int = 0  # that of its folder, which candidates of one path are sorted by

    @property
    def title(self) -> str:
        """What people call it: where it lies, or the id of a DICOM study."""
        return self.study_id if self.kind == "dicom" else self.source

    def read(self, options: Options) -> Study:
        """Read the pixels; raises a `GliosightError` that says why it cannot be read."""
        options.check(self.kind)
        if self.error is not None:
            raise self.error
        return self._read(options)

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there and what `read` would take of it."""
        from gliosight.read.inspection import describe

        return describe(self, limits, pixels=pixels)

    @property
    @abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """Its files, in an order that depends on them alone."""

    @abstractmethod
    def _read(self, options: Options) -> Study:
        """The study's pixels, where nothing is wrong with its files."""


@dataclass(frozen=True, kw_only=True)
class UnreadableCandidate(Candidate):
    """A file or folder that belongs to no study and cannot be read: other studies are read without it."""

    kind = "unknown"
    error: GliosightError

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file or folder."""
        return (self.path,)

    def _read(self, _: Options) -> Study:
        raise self.error


@dataclass(frozen=True, kw_only=True)
class NiftiCandidate(Candidate):
    """NIfTI files of one study."""

    kind = "nifti"
    files: tuple[InputFile, ...]  # those of one FLAIR, and what lies beside it
    # The files by sequence where the user named them; else their names decide.
    named: Mapping[MrSequence, InputFile] = field(default_factory=dict)
    doubtful: tuple[InputFile, ...] = ()  # T1 and T1C that may belong to this study or to another
    other_images: str = ""  # images of other kinds in the folder, in words

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files; of a pair both."""
        files = sorted({file.path for file in (*self.files, *self.doubtful)})
        headers = (path for path in files if path.name.lower().endswith((".hdr", ".hdr.gz")))
        pixels = (pixels_beside(path) for path in headers)
        return tuple(sorted({*files, *pixels}))

    @classmethod
    def of_file(cls, file: InputFile, tree: Tree) -> list[Candidate]:
        """The study of a single file."""
        return [cls(**_place_of_file(file, tree), files=(file,))]

    @classmethod
    def in_folders(cls, tree: Tree) -> Iterator[Candidate]:
        """A candidate for every FLAIR of the folders that hold NIfTI files."""
        others, studies = [], {""}
        for home, parts in tree.by_study(Kind.NIFTI).items():
            groups, stray = studies_of(parts, flair_groups)
            flags, beside = tree.ignored(home, parts), other_images(parts)
            for group in groups:
                place = _place_of_group(group, home, parts, tree)
                flairs = (file.path for file in group.files if file.shown.kind is MrSequence.FLAIR)
                if group.title and any(file.path.parent != home for file in group.files):
                    # No ``folder/name`` leads to files in a folder for each sequence.
                    place["path"] = next(flairs)
                place |= {"files": group.files, "doubtful": group.doubtful}
                candidate = cls(**place, flags=flags, other_images=beside)
                if all(file.is_other_image for file in group.files):
                    others.append(candidate)
                else:
                    studies.add(candidate.study_id)
                    yield candidate
            yield from _unreadable_files(stray, parts, tree)
        # What holds no FLAIR, T1 or T1C is dropped where another folder has the study of that name.
        yield from (other for other in others if other.study_id not in studies)

    def _read(self, options: Options) -> Study:
        from gliosight.read.nifti import read_nifti

        files, assigned, explained = self.assign()
        return read_nifti(
            files,
            self.study_id,
            Budget(options.limits),
            volume_index=options.volume_index,
            flags=(*self.flags, *assigned),
            explained=explained,
        )

    def assign(
        self,
    ) -> tuple[dict[MrSequence, InputFile], tuple[Flag, ...], tuple[MrSequence, ...]]:
        """Which file is which sequence; see `gliosight.read.nifti.assign`."""
        from gliosight.read.nifti import assign, assign_single

        if self.named:
            return dict(self.named), (), ()
        if len(self.files) == 1 and self.path == self.files[0].path:
            (file,) = self.files
            if is_mask(file.path.name):
                raise _mask_by_name(file.where)
            return {MrSequence.FLAIR: file}, assign_single(file), ()
        try:
            return assign(self.files, self.source, self.doubtful)
        except UnsupportedInputError as error:
            if not self.other_images:
                raise
            what = (
                f"{error.what}; other images in the folder were not looked at: {self.other_images}"
            )
            remedy = f"{error.remedy}, or put each study's files into a folder of its own"
            raise UnsupportedInputError(what, where=error.where, remedy=remedy) from error


@dataclass(frozen=True, kw_only=True)
class DicomCandidate(Candidate):
    """The series of one DICOM study; its path is the deepest folder that holds all its files."""

    kind = "dicom"
    study: DicomStudy

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all its series."""
        frames = (frame for series in self.study.series for frame in series.frames)
        return tuple(sorted({frame.instance.path for frame in frames}))

    @classmethod
    def of_file(cls, file: InputFile, tree: Tree) -> list[Candidate]:
        """The study of a single file; of a DICOMDIR, those it names."""
        studies, problems = cls._read_headers([file], tree, tree.root.parent)
        for _, error in problems:
            raise error
        return [*studies]

    @classmethod
    def in_folders(cls, tree: Tree) -> Iterator[Candidate]:
        """A candidate for every DICOM study: only headers say which file belongs to which."""
        parts = {folder.path: folder for folder in tree.holding(Kind.DICOM)}
        files = [file for folder in parts.values() for file in folder.readable]
        if files:
            studies, problems = cls._read_headers(files, tree, tree.root)
            for path, error in problems:
                yield _unreadable(path, error, len(tree.folders), tree)
            for candidate in studies:
                folders = candidate.study.folders
                own = [parts[folder] for folder in folders if folder in parts]
                flags = tree.ignored(candidate.path, own)
                yield replace(candidate, flags=flags, masks=masks_beside(own, ""))

    @classmethod
    def _read_headers(
        cls, files: list[InputFile], tree: Tree, root: Path
    ) -> tuple[list[DicomCandidate], list[tuple[Path, GliosightError]]]:
        from gliosight.read.dicom.study import studies_in

        tell = partial(tree.progress, "read") if tree.progress else None
        studies, problems = studies_in(files, root, tree.budget, tell)
        candidates: list[DicomCandidate] = []
        for study in studies:
            path = Path(os.path.commonpath(study.folders))
            candidates.append(
                cls(
                    source=relative(path, tree.root),
                    path=path,
                    study_id=study.study_id,
                    number=len(tree.folders),
                    study=study,
                )
            )
        return candidates, problems

    def _read(self, options: Options) -> Study:
        from gliosight.read.dicom.study import read_dicom

        study = read_dicom(self.study, Budget(options.limits), options.series)
        return replace(study, flags=(*self.flags, *study.flags))

    def has_series(self, text: str) -> bool:
        """Whether a SeriesInstanceUID or SeriesNumber is one of its series."""
        from gliosight.read.dicom.choose import named_in

        return bool(named_in(self.study.series, text))


@dataclass(frozen=True, kw_only=True)
class SlicesCandidate(Candidate):
    """TIFF, PNG or JPEG slices of one study."""

    kind = "slices"
    # The pictures by sequence where each has a folder or a name of its own; else all are FLAIR's.
    files: Mapping[MrSequence, tuple[InputFile, ...]]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its pictures."""
        return tuple(sorted(file.path for files in self.files.values() for file in files))

    @classmethod
    def of_file(cls, file: InputFile, tree: Tree) -> list[Candidate]:
        """The study of a single picture or stack."""
        return [cls(**_place_of_file(file, tree), files={MrSequence.FLAIR: (file,)})]

    @classmethod
    def in_folders(cls, tree: Tree) -> Iterator[Candidate]:
        """A candidate for every series of pictures.

        Among DICOM or NIfTI studies, pictures are previews, icons and logos: there they count only if
        something says that they are FLAIR, or if they are numbered TIFFs.
        """
        among_studies = bool(tree.holding(Kind.NIFTI, Kind.DICOM))
        for home, parts in tree.by_study(*SLICES).items():
            files = [file for folder in parts for file in folder.readable]
            if among_studies and not (_say_flair(files) or any(map(_is_numbered_tiff, files))):
                continue
            below = [folder for folder in parts if folder.path != home]
            loose = [folder for folder in parts if folder.path == home]
            by_sequence = below and (not loose or any(_say_flair(part.readable) for part in below))
            if by_sequence:
                yield from cls._by_sequence(tree, home, below, loose)
                continue
            if not below and _say_all_sequences(files):
                yield from cls._by_sequence(tree, home, loose, [])
                continue
            groups, stray = studies_of(loose, slice_groups)
            names = ", ".join(folder.path.name for folder in below)
            flags = (
                *tree.ignored(home, loose),
                *files_ignored("Folders beside the slices", names),
            )
            for group in groups:
                place = _place_of_group(group, home, parts, tree)
                yield cls(**place, flags=flags, files={MrSequence.FLAIR: group.files})
            yield from _unreadable_files(stray, parts, tree)

    @classmethod
    def _by_sequence(
        cls, tree: Tree, home: Path, parts: list[Folder], loose: list[Folder]
    ) -> Iterator[Candidate]:
        """The study whose sequences have a folder or a name of their own; every series of FLAIR is one.

        Pictures that lie loose beside the folders are previews or the like.
        """
        by_sequence: dict[MrSequence | str, dict[Path, list[InputFile]]] = {}
        for folder in parts:
            for file in folder.readable:
                folders = by_sequence.setdefault(file.sequence or "unknown", {})
                folders.setdefault(folder.path, []).append(file)
        flairs = by_sequence.pop(MrSequence.FLAIR, {})
        number = min(folder.number for folder in (*parts, *loose))
        if not flairs:
            names = ", ".join(getattr(name, "value", name) for name in by_sequence)
            what, where = f"no FLAIR, the folders say {names}", relative(home, tree.root)
            remedy = "give the folder of FLAIR, or rename it if it is FLAIR"
            error = UnsupportedInputError(what, where=where, remedy=remedy)
            yield _unreadable(home, error, number, tree)
            return
        flags = tree.ignored(home, [*parts, *loose])
        if count := sum(len(folder.readable) for folder in loose):
            flags += files_ignored("Pictures beside the folders of the sequences", str(count))
        groups = [
            (path, group)
            for path, pictures in flairs.items()
            for group in titled(slice_groups(pictures))
        ]
        all_series = {series for _, group in groups for series, _ in slice_places(group.files)}
        for path, group in groups:
            files, used, notes = {MrSequence.FLAIR: group.files}, list(group.files), list(flags)
            for name in (MrSequence.T1, MrSequence.T1C):
                beside = list(by_sequence.get(name, {}).values())
                if len(beside) == len(flairs) == 1:
                    own, rest = _of_the_series(beside[0], group.files, all_series)
                    notes += files_ignored("Pictures called otherwise than FLAIR", listed(rest))
                    # Those that do not fit are left out when they are read, and the flag says why.
                    files[name] = tuple(own or beside[0])
                    used += own
                elif beside:
                    words = f"{len(flairs)} folders say FLAIR and {len(beside)} {name.value}"
                    reason = f"{words}; nothing says which belong together"
                    notes.append(left_out_flag(name, reason))
            base = home if len(flairs) == 1 else path
            place = _place_of_group(group, base, parts, tree) | {
                "path": path / group.title if group.title else base,
                "study_id": group.title or tree.study_name(home),
                "error": next((file.error for file in used if file.error is not None), None),
                "number": number,
            }
            yield cls(**place, flags=tuple(notes), files=files)

    def _read(self, options: Options) -> Study:
        from gliosight.read.slices import read_slices

        others = dict(self.files)
        flair = others.pop(MrSequence.FLAIR)
        study = read_slices(flair, self.study_id, Budget(options.limits), self.flags, others=others)
        # An empty mask has one value, so its pixels do not tell it from an image.
        if is_mask(flair[0].path.name) and is_constant(study.flair.values):
            raise _mask_by_name(flair[0].where)
        return replace(study, flags=(*study.flags, *self.assumed))

    @property
    def assumed(self) -> tuple[Flag, ...]:
        """The flag for pictures whose names and folders name no sequence."""
        if _say_flair(self.files[MrSequence.FLAIR]):
            return ()
        message = (
            "Neither names nor folders say what the pictures show; one channel is taken as FLAIR, three "
            "channels as T1, FLAIR and T1C."
        )
        return (flag("SEQUENCE_ASSUMED", message),)


# By the kind of its files, in the order in which candidates of one folder are listed. Which files of a folder
# are read, `Folder.readable` says.
FORMATS: Mapping[Kind, type[NiftiCandidate | DicomCandidate | SlicesCandidate]] = {
    Kind.NIFTI: NiftiCandidate,
    Kind.DICOM: DicomCandidate,
    **dict.fromkeys(SLICES, SlicesCandidate),
}


def find(
    path: Path | Opened,
    limits: Limits,
    *,
    progress: Progress | None = None,
    without: Collection[str] = (),
) -> list[Candidate]:
    """All studies at or below a path; a zip is given as what `opened` makes of it.

    ``folder/name``, where no such file exists, is the study of that name among the files of the folder. A
    file that cannot be read is a candidate, too: reading it raises its error, and other studies are read
    without it. Files in folders that have a name in ``without`` are skipped. Each file is opened once here
    (DICOM: once more for its header). Raises a `GliosightError` where nothing could be read, such as
    `LimitExceededError` for more than ``members`` files and folders.
    """
    inside = path if isinstance(path, Opened) else Opened(path)
    try:
        return _find(inside, Budget(limits), progress, without)
    except GliosightError as error:
        raise inside.explained(error) from error


def _find(
    inside: Opened, budget: Budget, progress: Progress | None, without: Collection[str]
) -> list[Candidate]:
    path = inside.path
    mode = mode_of(path)
    if mode is None:
        return _named_like(path, budget)
    # The temporary folder above what was unpacked has a name that means nothing.
    tree = Tree(path, budget, path.parent if inside.archive else None, progress)
    if stat.S_ISREG(mode):
        file = named_file(path)
        return FORMATS[file.kind].of_file(file, tree)
    where = path.name or str(path)
    if not stat.S_ISDIR(mode):
        raise not_regular(mode, where)
    if holds_result(path):
        remedy = "give the study it was made from"
        raise NothingReadableError("a result of gliosight, not a study", where=where, remedy=remedy)
    tree = replace(tree, folders=walk(path, budget, without))
    candidates = [
        _unreadable(folder.path, folder.error, folder.number, tree)
        for folder in tree.folders
        if folder.error is not None
    ]
    for candidate_type in dict.fromkeys(FORMATS.values()):
        candidates += candidate_type.in_folders(tree)
    if not candidates:
        raise nothing_in(path, tree.folders)
    candidates += (
        _unreadable(folder.path, error, folder.number, tree) for folder, error in tree.foreign()
    )
    candidates.sort(key=attrgetter("number"))
    return told_apart(candidates, [candidate.source for candidate in candidates])


def _place_of_file(file: InputFile, tree: Tree) -> dict[str, Any]:
    """Where the candidate of a single file lies, and its name."""
    return {"source": file.where, "path": tree.root, "study_id": stem(tree.root.name)}


def _place_of_group(
    group: FileGroup, home: Path, parts: list[Folder], tree: Tree
) -> dict[str, Any]:
    """Where the candidate of a group of files in a study's folder lies, and its name."""
    return {
        "source": relative(home / group.title, tree.root),
        "path": home / group.title,
        "study_id": group.title or tree.study_name(home),
        "masks": masks_beside(parts, group.title),
        "error": group.error,
        "number": parts[0].number,
    }


def _unreadable(path: Path, error: GliosightError, number: int, tree: Tree) -> Candidate:
    return UnreadableCandidate(
        source=relative(path, tree.root), path=path, error=error, number=number
    )


def _unreadable_files(
    files: Iterable[InputFile], parts: list[Folder], tree: Tree
) -> Iterator[Candidate]:
    for file in files:
        if file.error is not None:
            yield _unreadable(file.path, file.error, parts[0].number, tree)


def _named_like(path: Path, budget: Budget) -> list[Candidate]:
    """The studies of a folder that are called like a path where no file is: ``folder/patient``."""
    folder, series = path.parent, path.name
    try:
        # Most paths that are not there are mistyped: neither the number of the files beside them matters
        # then, nor what is wrong with them.
        with os.scandir(folder) as entries:
            could_be = bool(series) and any(
                series in (nifti_series(entry.name), slice_number(entry.name)[0], stem(entry.name))
                for entry in entries
            )
    except (OSError, ValueError):
        could_be = False
    if could_be:
        tree = Tree(folder, budget, folders=(list_folder(folder, folder, budget),))
        candidates = chain(NiftiCandidate.in_folders(tree), SlicesCandidate.in_folders(tree))
        if named := [candidate for candidate in candidates if candidate.title == series]:
            return named
    if is_annexed(path):
        what, remedy = STAND_INS[Kind.GIT_ANNEX]
        raise NothingReadableError(what, where=series, remedy=remedy)
    remedy = f"check the path; looked for {LOOKED_FOR} files"
    raise NothingReadableError("no such file or folder", where=str(path), remedy=remedy)


def find_one(opened_path: Opened, limits: Limits) -> Candidate:
    """The study at a path where one is asked for; raises `UnsupportedInputError` for several.

    Of a folder with files of one study and studies below, that is the study of its own files, flagged.
    """
    candidates = find(opened_path, limits)
    if len(candidates) == 1:
        return candidates[0]
    files = [candidate for candidate in candidates if candidate.kind in ("nifti", "slices")]
    own = [candidate for candidate in files if candidate.path == opened_path.path]
    if len(own) != 1:
        raise _several(candidates, opened_path)
    count = len(candidates) - 1
    what = "1 other study" if count == 1 else f"{count} other studies"
    ignored = flag("SUBFOLDERS_IGNORED", f"Subfolders hold {what}, not read here.")
    return replace(own[0], flags=(*own[0].flags, ignored))


def _several(candidates: list[Candidate], inside: Opened) -> UnsupportedInputError:
    studies = [candidate for candidate in candidates if candidate.kind != "unknown"]
    holding = Counter(path for each in candidates for path in (each.path, *each.path.parents))
    alone = [candidate.path for candidate in studies if holding[candidate.path] == 1]
    name = folder_name(inside.archive or inside.path)
    remedy = f"read all of them with: gliosight analyze {inside.archive or name}"
    if inside.archive is None and alone:
        remedy = f"name one of them, as in {alone[0]}"
    titles = listed([candidate.title for candidate in candidates])
    what = f"there are {len(candidates)} studies ({titles}), one is read at a time"
    return UnsupportedInputError(what, where=name, remedy=remedy)


def named_files(flair: Path, t1: Path | None, t1c: Path | None, *, as_flair: bool) -> Candidate:
    """The study whose NIfTI files the user named by sequence; raises a `GliosightError` for others.

    ``as_flair`` says whether FLAIR was named as such; else its name must not say another sequence.
    """
    from gliosight.read.nifti import assign_single, check_named

    files: dict[MrSequence, InputFile] = {}
    flags: list[Flag] = []
    for name, path in ((MrSequence.FLAIR, flair), (MrSequence.T1, t1), (MrSequence.T1C, t1c)):
        if path is None:
            continue
        remedy = "--flair, --t1 and --t1c take one NIfTI file each"
        if stat.S_ISDIR(mode_of(path) or 0):
            raise UsageError(f"{name.value} is a folder", where=folder_name(path), remedy=remedy)
        file = named_file(path)
        if file.kind is not Kind.NIFTI:
            what = f"{name.value} is {file.kind.value}, not NIfTI"
            raise UnsupportedInputError(what, where=file.where, remedy=remedy)
        files[name] = file
        if name is not MrSequence.FLAIR or as_flair:
            flags += check_named(file, name)
        elif is_mask(path.name):
            raise _mask_by_name(file.where)
        else:
            flags += assign_single(file)
    return NiftiCandidate(
        source=folder_name(flair),
        path=flair,
        study_id=stem(flair.name),
        flags=tuple(flags),
        files=tuple(files.values()),
        named=files,
    )


def join(
    candidates: Iterable[Candidate], limits: Limits = DEFAULT_LIMITS
) -> list[tuple[Candidate, tuple[int, ...]]]:
    """The same candidates, but a DICOM study that lies below several paths is one.

    NIfTI files and slices do not say whose they are. Each comes with the indices of those that it is made
    of, in the order of the first of them.
    """
    whole: list[tuple[Candidate, tuple[int, ...]]] = [
        (candidate, (index,)) for index, candidate in enumerate(candidates)
    ]
    dicom = [(index[0], part) for part, index in whole if isinstance(part, DicomCandidate)]
    if len(dicom) < 2:
        return whole
    from gliosight.read.dicom.study import joined

    whole = [pair for pair in whole if pair[0].kind != "dicom"]
    for indices, study in joined([candidate.study for _, candidate in dicom], Budget(limits)):
        parts = [dicom[index] for index in indices]
        candidate = parts[0][1]
        if study is not candidate.study:
            source = " and ".join(dict.fromkeys(part.source for _, part in parts))
            notes = tuple(dict.fromkeys(note for _, part in parts for note in part.flags))
            candidate = replace(
                candidate, source=source, study_id=study.study_id, flags=notes, study=study
            )
        whole.append((candidate, tuple(index for index, _ in parts)))
    return sorted(whole, key=itemgetter(1))


def told_apart(candidates: Iterable[Candidate], ways: Iterable[str]) -> list[Candidate]:
    """The same, but studies of one name are called by the way to them, with a number where that is taken.

    DICOM studies keep their digests. Names are the same that a file system may take for the same.
    """
    apart = list(candidates)
    counts = Counter(folded(candidate.study_id) for candidate in apart)
    taken = {name for name, count in counts.items() if count == 1}
    taken |= {folded(candidate.study_id) for candidate in apart if candidate.kind == "dicom"}
    for index, (candidate, way) in enumerate(zip(apart, ways, strict=True)):
        if candidate.kind in ("nifti", "slices") and counts[folded(candidate.study_id)] > 1:
            name = numbered(way.replace("/", "_"), taken)
            taken.add(folded(name))
            apart[index] = replace(candidate, study_id=name)
    return apart


def _of_the_series(
    files: list[InputFile], flair: Iterable[InputFile], all_series: set[str]
) -> tuple[list[InputFile], list[str]]:
    """Pictures of another sequence that are called as those of FLAIR, and where those of no FLAIR lie."""
    wanted = {series for series, _ in slice_places(flair)}
    places = [(series, file) for (series, _), file in zip(slice_places(files), files, strict=True)]
    own = [file for series, file in places if series in wanted]
    return own, [file.where for series, file in places if own and series not in all_series]


def _say_flair(files: Iterable[InputFile]) -> bool:
    """Whether names, folders or the layout of the LGG set say that pictures show FLAIR."""
    return any(file.sequence is MrSequence.FLAIR or _in_lgg_layout(file) for file in files)


def _in_lgg_layout(file: InputFile) -> bool:
    """Whether a picture is called as in the LGG set: ``<patient>/<patient>_<slice>.tif``."""
    patient = slice_number(file.path.name)[0]
    of_folder = patient == file.path.parent.name or patient.startswith(_LGG_PATIENT)
    return _is_numbered_tiff(file) and of_folder


def _say_all_sequences(files: Iterable[InputFile]) -> bool:
    """Whether each picture's name says its sequence, and there are FLAIR and T1."""
    sequences = {file.sequence for file in files}
    others = {MrSequence.T1, MrSequence.T1C} & sequences
    return MrSequence.FLAIR in sequences and None not in sequences and bool(others)


def _is_numbered_tiff(file: InputFile) -> bool:
    return file.kind is Kind.TIFF and slice_number(file.path.name)[1] is not None


def _mask_by_name(where: str) -> DamagedInputError:
    what, remedy = "by its name a mask, not an image", "give the MR image, not its mask"
    return DamagedInputError(what, where=where, remedy=remedy)
