"""The studies that a path holds: `find` gives a candidate for each (read stage).

A candidate knows its files by name and first bytes, says what an analysis would take of them, and reads
itself. `FORMATS` is where an input format is added.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.files import folded, numbered
from gliosight.read.checks import is_constant
from gliosight.read.detect import (
    LOOKED_FOR,
    SLICES,
    STAND_INS,
    InputFile,
    Kind,
    folder_name,
    is_zip,
    named_file,
    not_read,
    relative,
)
from gliosight.read.flags import flag
from gliosight.read.folders import (
    NAMED,
    FileGroup,
    Folder,
    flair_groups,
    has_series,
    in_lgg_layout,
    is_annexed,
    list_folder,
    mode_of,
    nothing_in,
    refuse_result,
    slice_groups,
    slice_places,
    study_folder,
    study_name,
    walk,
)
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits, not_regular
from gliosight.read.naming import is_mask, slice_number, stem
from gliosight.study import Flag, MrSequence, Study

if TYPE_CHECKING:
    from gliosight.read.dicom.study import DicomStudy
    from gliosight.read.inspection import Inspection

# Called with how many DICOM headers are read, of how many.
HeaderProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """How a candidate is read.

    Parameters
    ----------
    limits : Limits
    volume_index : int, optional
        Which volume of a 4-D NIfTI to read, counted from 0.
    series : mapping of MrSequence to str
        For DICOM: SeriesInstanceUID or SeriesNumber to take instead of the rules' choice.
    """

    limits: Limits = DEFAULT_LIMITS
    volume_index: int | None = None
    series: Mapping[MrSequence, str] = field(default_factory=dict)

    def check(self, kind: str) -> None:
        """Raise `UsageError` for an option that studies of this `Study.kind` do not have."""
        if kind != "dicom":
            for name, text in self.series.items():
                raise UsageError(
                    f"--{name.value.lower()} {text[:64]} names neither a file nor a series; only DICOM has "
                    "series",
                    remedy="give --flair, --t1 and --t1c a NIfTI file each",
                )
        if kind != "nifti" and self.volume_index is not None:
            words, remedy = "of slices", "leave it out"
            if kind == "dicom":
                words = "DICOM"
                remedy += "; what DICOM repeats is named with --flair, see gliosight inspect"
            raise UsageError(
                f"--volume {self.volume_index} is for 4-D NIfTI files, and the study is {words}",
                remedy=remedy,
            )


@dataclass(frozen=True, kw_only=True)
class Candidate(ABC):
    """What may be a study.

    Parameters
    ----------
    source : str
        Where it lies, as seen from the path that was given; that path by its own name.
    path : Path
        The file, the folder or the ``folder/name`` that it is found at when that alone is given.
    study_id : str
        The name of its folder or file, or the id of a DICOM study; empty for what cannot be read.
    flags : tuple of Flag
        Flags of finding it.
    error : GliosightError, optional
        What is wrong with a file of the study.
    """

    source: str
    path: Path
    study_id: str = ""
    flags: tuple[Flag, ...] = ()
    error: GliosightError | None = None

    @property
    def title(self) -> str:
        """What people call it: where it lies, or the id of a DICOM study."""
        return self.source

    @abstractmethod
    def read(self, options: Options) -> Study:
        """Read the pixels; raises a `GliosightError` that says why it cannot be read."""

    @abstractmethod
    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there and what `read` would take of it."""


@dataclass(frozen=True, kw_only=True)
class NiftiCandidate(Candidate):
    """NIfTI files of one study; see also `Candidate`.

    Parameters
    ----------
    files : tuple of InputFile
        Those of one FLAIR, and what lies beside it.
    named : mapping of MrSequence to InputFile
        The files by sequence where the user named them; else their names decide.
    doubtful : tuple of InputFile
        T1 and T1C that may belong to this study or to another.
    other_images : str
        Images of other kinds in the folder, in words.
    """

    files: tuple[InputFile, ...]
    named: Mapping[MrSequence, InputFile] = field(default_factory=dict)
    doubtful: tuple[InputFile, ...] = ()
    other_images: str = ""

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.nifti import read_nifti

        options.check("nifti")
        if self.error is not None:
            raise self.error
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
            raise UnsupportedInputError(
                f"{error.what}; other images in the folder were not looked at: {self.other_images}",
                where=error.where,
                remedy=f"{error.remedy}, or put each study's files into a folder of its own",
            ) from error

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there; see `Candidate`."""
        from gliosight.read.inspection import describe_nifti

        return describe_nifti(self, limits, pixels=pixels)


@dataclass(frozen=True, kw_only=True)
class SlicesCandidate(Candidate):
    """TIFF, PNG or JPEG slices of one study; see also `Candidate`.

    Parameters
    ----------
    files : mapping of MrSequence to tuple of InputFile
        The pictures by sequence where each has a folder or a name of its own; else all are FLAIR's.
    named : bool
        Whether names, folders or the layout of the LGG set say that they show FLAIR.
    """

    files: Mapping[MrSequence, tuple[InputFile, ...]]
    named: bool = True

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.slices import read_slices

        options.check("slices")
        if self.error is not None:
            raise self.error
        others: dict[MrSequence, tuple[InputFile, ...]] = dict(self.files)
        flair = others.pop(MrSequence.FLAIR)
        study = read_slices(flair, self.study_id, Budget(options.limits), self.flags, others=others)
        first = flair[0]
        # An empty mask has one value, so its pixels do not tell it from an image.
        if is_mask(first.path.name) and is_constant(study.flair.values):
            raise _mask_by_name(first.where)
        return replace(study, flags=(*study.flags, *self.assumed))

    @property
    def assumed(self) -> tuple[Flag, ...]:
        """The flag for pictures whose names and folders say nothing."""
        if self.named:
            return ()
        message = (
            "Neither names nor folders say what the pictures show; one channel is taken as FLAIR, three "
            "channels as T1, FLAIR and T1C."
        )
        return (flag("SEQUENCE_ASSUMED", message),)

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there; see `Candidate`."""
        from gliosight.read.inspection import describe_slices

        return describe_slices(self, limits, pixels=pixels)


@dataclass(frozen=True, kw_only=True)
class DicomCandidate(Candidate):
    """The series of one DICOM study; its path is the deepest folder that holds all its files."""

    study: DicomStudy

    @property
    def title(self) -> str:
        """The id of the study."""
        return self.study_id

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.dicom.study import read_dicom

        options.check("dicom")
        study = read_dicom(self.study, Budget(options.limits), options.series)
        return replace(study, flags=(*self.flags, *study.flags))

    def has_series(self, text: str) -> bool:
        """Whether a SeriesInstanceUID or SeriesNumber is one of its series."""
        from gliosight.read.dicom.choose import named_in

        return bool(named_in(self.study.series, text))

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there; see `Candidate`."""
        from gliosight.read.inspection import describe_dicom

        return describe_dicom(self, limits, pixels=pixels)


@dataclass(frozen=True, kw_only=True)
class UnreadableCandidate(Candidate):
    """A file or folder that belongs to no study and cannot be read: other studies are read without it."""

    error: GliosightError

    def read(self, options: Options) -> Study:  # noqa: ARG002 - as any candidate
        """Raise what is wrong with it."""
        raise self.error

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:  # noqa: ARG002
        """Say what is wrong with it."""
        from gliosight.read.inspection import Inspection

        return Inspection(self.source, "unknown", error=self.error)


@dataclass(frozen=True)
class Opened:
    """What a path leads to once it is unpacked.

    Parameters
    ----------
    path : Path
        The path itself, or the folder that a zip was unpacked into.
    flags : tuple of Flag
    archive : Path, optional
        The zip.
    inner : str
        Archives in the zip, which stay packed, in words.
    """

    path: Path
    flags: tuple[Flag, ...] = ()
    archive: Path | None = None
    inner: str = ""

    @property
    def ceiling(self) -> Path | None:
        """The temporary folder above what was unpacked, whose name means nothing."""
        return self.path.parent if self.archive else None

    def explained(self, error: GliosightError) -> GliosightError:
        """An error in what was unpacked: named after the archive, with what was not unpacked of it."""
        if not self.archive:
            return error
        where = self.archive.name if error.where == self.path.name else error.where
        if not self.flags or not isinstance(error, NothingReadableError):
            return type(error)(error.what, where=where, remedy=error.remedy)
        skipped = self.flags[0].message.rstrip(".")
        what = f"{error.what}; {skipped[0].lower()}{skipped[1:]}"
        if not self.inner:
            return NothingReadableError(what, where=where, remedy=error.remedy)
        return UnsupportedInputError(
            what, where=where, remedy=f"unpack the zip, then give the archive in it, {self.inner}"
        )


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Opened]:
    """Unpack a zip for as long as its studies are read; any other path stays as it is.

    Raises
    ------
    DamagedInputError, LimitExceededError, NothingReadableError, UnsupportedInputError
    """
    if not is_zip(path):
        yield Opened(path)
        return
    from gliosight.read.zipped import unzipped

    with unzipped(path, Budget(limits)) as inside:
        flags: tuple[Flag, ...] = ()
        if inside.skipped:
            message = f"Members of the zip were not unpacked: {', '.join(inside.skipped)}."
            flags = (flag("MEMBERS_SKIPPED", message),)
        yield Opened(inside.folder, flags, path, inside.inner)


def find(
    path: Path | Opened, limits: Limits, *, progress: HeaderProgress | None = None
) -> list[Candidate]:
    """All studies at or below a path.

    A file that cannot be read is a candidate, too: reading it raises its error, and other studies are read
    without it. Each file is opened once here (DICOM: once more for its header).

    Parameters
    ----------
    path : Path or Opened
        Not a zip: see `opened`. ``folder/name``, where no such file exists, is the study of that name
        among the files of the folder.
    limits : Limits
    progress : callable, optional
        Called with how many DICOM headers are read, of how many.

    Raises
    ------
    NothingReadableError, UnsupportedInputError, DamagedInputError
        Nothing there that could be read.
    LimitExceededError
        More than ``members`` files and folders.
    """
    inside = path if isinstance(path, Opened) else Opened(path)
    try:
        return _find(inside, limits, progress)
    except GliosightError as error:
        raise inside.explained(error) from error


def _find(inside: Opened, limits: Limits, progress: HeaderProgress | None) -> list[Candidate]:
    path = inside.path
    mode = mode_of(path)
    if mode is None:
        return _named_like(path, limits)
    finder = _Finder(path, Budget(limits), inside.ceiling, progress)
    if stat.S_ISDIR(mode):
        return finder.in_folder()
    if stat.S_ISREG(mode):
        return finder.in_file()
    raise not_regular(mode, path.name or str(path))


def _named_like(path: Path, limits: Limits) -> list[Candidate]:
    """The studies of a folder that are called like a path where no file is: ``folder/patient``."""
    folder = path.parent
    if path.name and has_series(folder, path.name):
        finder = _Finder(folder, Budget(limits))
        if candidates := finder.named(path.name):
            return candidates
    if is_annexed(path):
        what, remedy = STAND_INS[Kind.GIT_ANNEX]
        raise NothingReadableError(what, where=path.name, remedy=remedy)
    raise NothingReadableError(
        "no such file or folder",
        where=str(path),
        remedy=f"check the path; looked for {LOOKED_FOR} files",
    )


def find_one(opened_path: Opened, limits: Limits) -> Candidate:
    """The study at a path where one is asked for.

    Of a folder with files of one study and studies below, that is the study of its own files, flagged.

    Raises
    ------
    UnsupportedInputError
        There are several studies.
    GliosightError
        As `find`.
    """
    candidates = find(opened_path, limits)
    if len(candidates) == 1:
        return candidates[0]
    own = [
        candidate
        for candidate in candidates
        if isinstance(candidate, NiftiCandidate | SlicesCandidate)
        and candidate.path == opened_path.path
    ]
    if len(own) != 1:
        raise _several(candidates, opened_path)
    count = len(candidates) - 1
    what = "1 other study" if count == 1 else f"{count} other studies"
    ignored = flag("SUBFOLDERS_IGNORED", f"Subfolders hold {what}, not read here.")
    return replace(own[0], flags=(*own[0].flags, ignored))


def named_files(flair: Path, t1: Path | None, t1c: Path | None, *, as_flair: bool) -> Candidate:
    """The study whose NIfTI files the user named by sequence.

    Parameters
    ----------
    flair, t1, t1c : Path
    as_flair : bool
        Whether FLAIR was named as such; else its name must not say another sequence.

    Raises
    ------
    UsageError, NothingReadableError, DamagedInputError, UnsupportedInputError
    """
    from gliosight.read.nifti import assign_single, check_named

    files: dict[MrSequence, InputFile] = {}
    flags: list[Flag] = []
    for name, path in ((MrSequence.FLAIR, flair), (MrSequence.T1, t1), (MrSequence.T1C, t1c)):
        if path is None:
            continue
        mode = mode_of(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(
                f"{name.value} is a folder",
                where=folder_name(path),
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
        file = named_file(path)
        if file.kind is not Kind.NIFTI:
            raise UnsupportedInputError(
                f"{name.value} is {file.kind.value}, not NIfTI",
                where=file.where,
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
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
        files=tuple(files.values()),
        named=files,
        flags=tuple(flags),
    )


def join(
    candidates: Iterable[Candidate], limits: Limits = DEFAULT_LIMITS
) -> list[tuple[Candidate, tuple[int, ...]]]:
    """The same candidates, but a DICOM study that lies below several paths is one.

    NIfTI files and slices do not say whose they are.

    Returns
    -------
    list of (Candidate, tuple of int)
        Each with the indices of those that it is made of, in the order of the first of them.
    """
    listed = list(candidates)
    dicom = [
        (index, candidate)
        for index, candidate in enumerate(listed)
        if isinstance(candidate, DicomCandidate)
    ]
    if len(dicom) < 2:
        return [(candidate, (index,)) for index, candidate in enumerate(listed)]
    from gliosight.read.dicom.study import joined

    whole: list[tuple[Candidate, tuple[int, ...]]] = [
        (candidate, (index,))
        for index, candidate in enumerate(listed)
        if not isinstance(candidate, DicomCandidate)
    ]
    for indices, study in joined([candidate.study for _, candidate in dicom], Budget(limits)):
        parts = [dicom[index] for index in indices]
        candidate = parts[0][1]
        if study is not candidate.study:
            candidate = replace(
                candidate,
                source=" and ".join(dict.fromkeys(part.source for _, part in parts)),
                study_id=study.study_id,
                flags=tuple(dict.fromkeys(note for _, part in parts for note in part.flags)),
                study=study,
            )
        whole.append((candidate, tuple(index for index, _ in parts)))
    return sorted(whole, key=lambda pair: pair[1])


def told_apart(candidates: Iterable[Candidate], ways: Iterable[str]) -> list[Candidate]:
    """The same, but studies of one name are called by the way to them, with a number where that is taken.

    DICOM studies keep their digests. Names count as one that a file system may take for one.
    """
    listed = list(candidates)
    counts = Counter(folded(candidate.study_id) for candidate in listed)
    taken = {name for name, count in counts.items() if count == 1}
    taken |= {folded(study.study_id) for study in listed if isinstance(study, DicomCandidate)}
    apart: list[Candidate] = []
    for candidate, way in zip(listed, ways, strict=True):
        renamed = isinstance(candidate, NiftiCandidate | SlicesCandidate)
        if renamed and counts[folded(candidate.study_id)] > 1:
            name = numbered(way.replace("/", "_"), taken)
            taken.add(folded(name))
            apart.append(replace(candidate, study_id=name))
        else:
            apart.append(candidate)
    return apart


# A candidate, and the number of the folder that it was found in.
Placed = tuple[int, Candidate]


class _Finder:
    """Makes the candidates of one path, which places in titles and messages are relative to."""

    def __init__(
        self,
        root: Path,
        budget: Budget,
        ceiling: Path | None = None,
        progress: HeaderProgress | None = None,
    ) -> None:
        self.root = root
        self.budget = budget
        self.ceiling = ceiling
        self.progress = progress
        self.folders: tuple[Folder, ...] = ()
        self.mask_folders: dict[Path, tuple[str, ...]] = {}

    def in_file(self) -> list[Candidate]:
        """The study of a single file; of a DICOMDIR, those it names."""
        file = named_file(self.root)
        if file.kind is Kind.DICOM:
            studies, problems = self._read_headers([file], self.root.parent)
            for _, error in problems:
                raise error
            return list(studies)
        name, study_id = file.where, stem(self.root.name)
        if file.kind is Kind.NIFTI:
            return [NiftiCandidate(source=name, path=self.root, study_id=study_id, files=(file,))]
        candidate = SlicesCandidate(
            source=name,
            path=self.root,
            study_id=study_id,
            files={MrSequence.FLAIR: (file,)},
            named=_say_flair([file]),
        )
        return [candidate]

    def in_folder(self) -> list[Candidate]:
        """The studies of a folder and of all below it, in the order of the folders."""
        refuse_result(self.root)
        self.folders = walk(self.root, self.budget)
        self.mask_folders = {folder.path: folder.mask_folders for folder in self.folders}
        placed: list[Placed] = [
            (folder.number, self._unreadable(folder.path, folder.error))
            for folder in self.folders
            if folder.error is not None
        ]
        for candidates_of in FORMATS.values():
            placed += candidates_of(self)
        if not placed:
            raise nothing_in(self.root, self.folders)
        placed += self._unread()
        candidates = [candidate for _, candidate in sorted(placed, key=lambda pair: pair[0])]
        return told_apart(candidates, [candidate.source for candidate in candidates])

    def named(self, name: str) -> list[Candidate]:
        """The studies of that name among the files of the folder itself."""
        self.folders = (list_folder(self.root, self.root, self.budget),)
        placed = [*self.nifti(), *self.slices()]
        return [candidate for _, candidate in placed if candidate.title == name]

    def nifti(self) -> list[Placed]:
        """A candidate for every FLAIR of the folders that hold NIfTI files."""
        placed: list[Placed] = []
        for home, parts in self._by_study_folder(Kind.NIFTI).items():
            groups, stray = self._groups(parts, flair_groups)
            other_images, flags = _other_images(parts), self._files_ignored(home, parts)
            for group, error in groups:
                path = home / group.title
                # No ``folder/name`` leads to files in a folder for each sequence.
                deep = group.title and any(file.path.parent != home for file in group.files)
                flairs = (file.path for file in group.files if file.shown.kind is MrSequence.FLAIR)
                candidate = NiftiCandidate(
                    source=relative(path, self.root),
                    path=next(flairs) if deep else path,
                    study_id=group.title or study_name(home, self.ceiling),
                    flags=flags,
                    error=error,
                    files=group.files,
                    doubtful=group.doubtful,
                    other_images=other_images,
                )
                placed.append((parts[0].number, candidate))
            placed += stray
        return _without_other_images(placed)

    def dicom(self) -> list[Placed]:
        """A candidate for every DICOM study: only headers say which file belongs to which."""
        parts = {folder.path: folder for folder in self._of(Kind.DICOM)}
        files = [file for folder in parts.values() for file in folder.readable]
        if not files:
            return []
        studies, problems = self._read_headers(files, self.root)
        candidates: list[Candidate] = [self._unreadable(path, error) for path, error in problems]
        for candidate in studies:
            own = [parts[folder] for folder in candidate.study.folders if folder in parts]
            candidates.append(replace(candidate, flags=self._files_ignored(candidate.path, own)))
        return [(len(self.folders), candidate) for candidate in candidates]

    def slices(self) -> list[Placed]:
        """A candidate for every series of pictures.

        Among DICOM or NIfTI studies, pictures are previews, icons and logos: there they count only if
        something says that they are FLAIR, or if they are numbered TIFFs.
        """
        among_studies = bool(self._of(Kind.NIFTI, Kind.DICOM))
        placed: list[Placed] = []
        for home, parts in self._by_study_folder(*SLICES).items():
            files = [file for folder in parts for file in folder.readable]
            if among_studies and not (_say_flair(files) or any(map(_is_numbered_tiff, files))):
                continue
            number = parts[0].number
            below = [folder for folder in parts if folder.path != home]
            loose = [folder for folder in parts if folder.path == home]
            if not below and _say_all_sequences(files):
                placed += [(number, one) for one in self._for_each_sequence(home, loose, [])]
                continue
            if below and (not loose or any(_say_flair(folder.readable) for folder in below)):
                placed += [(number, one) for one in self._for_each_sequence(home, below, loose)]
                continue
            groups, stray = self._groups(loose, slice_groups)
            flags = self._files_ignored(home, loose)
            if below:
                names = ", ".join(folder.path.name for folder in below)
                flags += _ignored("Folders beside the slices", names)
            for group, error in groups:
                path = home / group.title
                candidate = SlicesCandidate(
                    source=relative(path, self.root),
                    path=path,
                    study_id=group.title or study_name(home, self.ceiling),
                    flags=flags,
                    error=error,
                    files={MrSequence.FLAIR: group.files},
                    named=_say_flair(group.files),
                )
                placed.append((number, candidate))
            placed += stray
        return placed

    def _for_each_sequence(
        self, home: Path, parts: list[Folder], loose: list[Folder]
    ) -> Iterator[Candidate]:
        """The study whose sequences have a folder or a name of their own; every series of FLAIR is one.

        Pictures that lie loose beside the folders are previews or the like.
        """
        from gliosight.read.slices import left_out_flag

        by_sequence: dict[MrSequence | str, dict[Path, list[InputFile]]] = {}
        for folder in parts:
            for file in folder.readable:
                folders = by_sequence.setdefault(file.sequence or "unknown", {})
                folders.setdefault(folder.path, []).append(file)
        flairs = by_sequence.pop(MrSequence.FLAIR, {})
        if not flairs:
            listed = ", ".join(getattr(name, "value", name) for name in by_sequence)
            error = UnsupportedInputError(
                f"no FLAIR, the folders say {listed}",
                where=relative(home, self.root),
                remedy="give the folder of FLAIR, or rename it if it is FLAIR",
            )
            yield self._unreadable(home, error)
            return
        flags = self._files_ignored(home, [*parts, *loose])
        if count := sum(len(folder.readable) for folder in loose):
            flags += _ignored("Pictures beside the folders of the sequences", str(count))
        groups = [
            (path, group)
            for path, pictures in flairs.items()
            for group in _titled(slice_groups(pictures))
        ]
        all_series = {series for _, group in groups for series, _ in slice_places(group.files)}
        for path, group in groups:
            files = {MrSequence.FLAIR: group.files}
            notes, used = list(flags), list(group.files)
            own_series = {series for series, _ in slice_places(group.files)}
            for name in (MrSequence.T1, MrSequence.T1C):
                folders = by_sequence.get(name, {})
                if len(folders) == len(flairs) == 1:
                    (others,) = folders.values()
                    named = list(zip(slice_places(others), others, strict=True))
                    own = tuple(file for (series, _), file in named if series in own_series)
                    rest = [file.where for (series, _), file in named if series not in all_series]
                    if own:
                        notes += _ignored("Pictures called otherwise than FLAIR", _listed(rest))
                    # Those that do not fit are left out when they are read, and the flag says why.
                    files[name] = own or tuple(others)
                    used += own
                elif folders:
                    words = f"{len(flairs)} folders say FLAIR and {len(folders)} {name.value}"
                    reason = f"{words}; nothing says which belong together"
                    notes.append(left_out_flag(name, reason))
            base = home if len(flairs) == 1 else path
            yield SlicesCandidate(
                source=relative(base / group.title, self.root),
                path=path / group.title if group.title else base,
                study_id=group.title or study_name(home, self.ceiling),
                flags=tuple(notes),
                error=next((file.error for file in used if file.error is not None), None),
                files=files,
            )

    def _unread(self) -> list[Placed]:
        """A candidate for every folder that holds images of formats that are not read, and no study."""
        studies = {folder.path for folder in self.folders if folder.readable}
        above = {parent for path in studies for parent in path.parents}
        placed: list[Placed] = []
        for folder in self.folders:
            path = folder.path
            if path in above or not studies.isdisjoint((path, *path.parents)):
                continue
            packed = [file for file in folder.files if file.kind in (Kind.ZIP, Kind.ARCHIVE)]
            files = [
                file
                for file in folder.files
                if file.kind not in (Kind.OTHER_IMAGE, Kind.ZIP, Kind.ARCHIVE)
            ]
            if folder.seen.total() == len(packed):  # beside other files it may be a viewer's
                files = packed
            errors = filter(None, (not_read(file.kind, file.where) for file in files))
            if (error := next(errors, None)) is not None:
                placed.append((folder.number, self._unreadable(path, error)))
        return placed

    def _of(self, *kinds: Kind) -> list[Folder]:
        """The folders whose files are read as one of these kinds."""
        return [
            folder
            for folder in self.folders
            if folder.readable and folder.readable[0].kind in kinds
        ]

    def _by_study_folder(self, *kinds: Kind) -> dict[Path, list[Folder]]:
        """Folders by the folder of their study: its sequences may have a folder each."""
        homes: dict[Path, list[Folder]] = {}
        for folder in self._of(*kinds):
            home = folder.path
            if not folder.is_visit:
                home = study_folder(home, self.root, self.ceiling)
            homes.setdefault(home, []).append(folder)
        return homes

    def _groups(
        self,
        parts: list[Folder],
        group_by_name: Callable[[Iterable[InputFile]], list[FileGroup]],
    ) -> tuple[list[tuple[FileGroup, GliosightError | None]], list[Placed]]:
        """The studies of a folder, each with what is wrong with it, and bad files that belong to none.

        A group without a title is the whole folder.
        """
        listed = [file for folder in parts for file in folder.files]
        files = [file for folder in parts for file in folder.readable]
        # A picture beside NIfTI files is not part of the study, whatever is wrong with it.
        pictures = files[0].kind in SLICES
        bad = [
            file
            for file in listed
            if file.error is not None and (pictures or file.kind not in SLICES)
        ]
        # A damaged T2 costs no study.
        costly = {file.path: file.error for file in bad if not file.is_other_image}
        sound = any(file.error is None and file.kind in {Kind.NIFTI, *SLICES} for file in listed)
        groups = _titled(group_by_name(files))
        studies: list[tuple[FileGroup, GliosightError | None]] = []
        # Without a sound file, but with subfolders, it is a folder of studies rather than one of them.
        if sound or not any(folder.subfolders for folder in parts):
            if len(groups) < 2:
                whole = FileGroup("", tuple(files))
                return [(whole, next(iter(costly.values()), None))], []
            for group in groups:
                errors = (costly.get(file.path) for file in group.files)
                studies.append((group, next(filter(None, errors), None)))
        grouped = {file.path for group, _ in studies for file in group.files}
        stray: list[Placed] = [
            (parts[0].number, self._unreadable(file.path, file.error))
            for file in bad
            if not file.is_unused and not (file.path in costly and file.path in grouped)
        ]
        return studies, stray

    def _read_headers(
        self, files: list[InputFile], root: Path
    ) -> tuple[list[DicomCandidate], list[tuple[Path, GliosightError]]]:
        from gliosight.read.dicom.study import studies_in

        studies, problems = studies_in(files, root, self.budget, self.progress)
        candidates = []
        for study in studies:
            path = Path(os.path.commonpath(study.folders))
            source = relative(path, self.root)
            candidates.append(
                DicomCandidate(source=source, path=path, study_id=study.study_id, study=study)
            )
        return candidates, problems

    def _files_ignored(self, home: Path, parts: list[Folder]) -> tuple[Flag, ...]:
        """What lies beside a study's files and is not read: other images, folders of masks."""
        paths = dict.fromkeys([home, *(folder.path for folder in parts), home.parent])
        names = [name for path in paths for name in self.mask_folders.get(path, ())]
        damaged = [
            file.where
            for folder in parts
            for file in folder.files
            if file.error is not None and file.is_other_image
        ]
        return (
            *_ignored("Other images in the folder", _other_images(parts)),
            *_ignored(
                "Folders of masks, previews or derivatives beside the images", ", ".join(names)
            ),
            *_ignored("Damaged files of other sequences", _listed(damaged)),
        )

    def _unreadable(self, path: Path, error: GliosightError | None) -> UnreadableCandidate:
        return UnreadableCandidate(
            source=relative(path, self.root),
            path=path,
            error=error or NothingReadableError("cannot be read"),
        )


# How studies are found, by the format of their files: an input format is added here, with its `Kind`. Which
# format of a folder is read, `Folder.readable` says.
FORMATS: Mapping[str, Callable[[_Finder], list[Placed]]] = {
    "nifti": _Finder.nifti,
    "dicom": _Finder.dicom,
    "slices": _Finder.slices,
}


def _without_other_images(placed: list[Placed]) -> list[Placed]:
    """The same, without what holds no FLAIR, T1 or T1C of a study that another folder has by that name."""

    def is_other(candidate: Candidate) -> bool:
        return isinstance(candidate, NiftiCandidate) and all(
            file.is_other_image for file in candidate.files
        )

    studies = {
        candidate.study_id
        for _, candidate in placed
        if isinstance(candidate, NiftiCandidate) and not is_other(candidate)
    }
    return [
        (number, candidate)
        for number, candidate in placed
        if not is_other(candidate) or candidate.study_id not in studies
    ]


def _titled(groups: list[FileGroup]) -> list[FileGroup]:
    """The same, each of several with a title, and one alone without."""
    if len(groups) < 2:
        return [group._replace(title="") for group in groups]
    return [group._replace(title=group.title or stem(group.files[0].path.name)) for group in groups]


def _say_flair(files: Iterable[InputFile]) -> bool:
    """Whether names, folders or the layout of the LGG set say that pictures show FLAIR."""
    return any(file.sequence is MrSequence.FLAIR or in_lgg_layout(file) for file in files)


def _say_all_sequences(files: Iterable[InputFile]) -> bool:
    """Whether each picture's name says its sequence, and there are FLAIR and T1."""
    sequences = {file.sequence for file in files}
    others = {MrSequence.T1, MrSequence.T1C} & sequences
    return MrSequence.FLAIR in sequences and None not in sequences and bool(others)


def _is_numbered_tiff(file: InputFile) -> bool:
    return file.kind is Kind.TIFF and slice_number(file.path.name)[1] is not None


def _other_images(parts: Iterable[Folder]) -> str:
    """The images of other kinds in the folders, in words."""
    return ", ".join(dict.fromkeys(filter(None, (folder.other_images for folder in parts))))


def _ignored(what: str, names: str) -> tuple[Flag, ...]:
    """The flag for files that were not read; none without names."""
    return (flag("FILES_IGNORED", f"{what} were not read: {names}."),) if names else ()


def _mask_by_name(where: str) -> DamagedInputError:
    return DamagedInputError(
        "by its name a mask, not an image",
        where=where,
        remedy="give the MR image, not its mask",
    )


def _several(candidates: list[Candidate], inside: Opened) -> UnsupportedInputError:
    holding = Counter(
        path for candidate in candidates for path in (candidate.path, *candidate.path.parents)
    )
    alone = [
        candidate.path
        for candidate in candidates
        if holding[candidate.path] == 1 and not isinstance(candidate, UnreadableCandidate)
    ]
    remedy = (
        f"read all of them with: gliosight analyze {inside.archive or folder_name(inside.path)}"
    )
    if inside.archive is None and alone:
        remedy = f"name one of them, as in {alone[0]}"
    titles = _listed([candidate.title for candidate in candidates])
    return UnsupportedInputError(
        f"there are {len(candidates)} studies ({titles}), one is read at a time",
        where=folder_name(inside.archive or inside.path),
        remedy=remedy,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
