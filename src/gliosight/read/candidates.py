"""The studies that lie at a path: `find` gives a candidate for each (read stage).

A candidate knows its files by name and first bytes, says what an analysis would take of them, and reads
itself. `FORMATS` is where an input format is added.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.files import folded, numbered
from gliosight.read.detect import (
    SLICES,
    STAND_INS,
    Kind,
    headless,
    is_self_extracting,
    unreadable,
)
from gliosight.read.flags import flag
from gliosight.read.folders import (
    NAMED,
    Contents,
    FileGroup,
    Tree,
    flair_groups,
    has_series,
    in_lgg_layout,
    is_annexed,
    is_visit,
    list_folder,
    mode_of,
    nothing_in,
    refuse_result,
    slice_groups,
    slice_places,
    study_folder,
    study_name,
    walk,
    with_ignored,
)
from gliosight.read.intensities import is_constant
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits, not_regular
from gliosight.read.naming import is_mask, slice_number, stem
from gliosight.read.recognise import (
    LOOKED_FOR,
    Found,
    folder_name,
    kind_of,
    mislabelled,
    named_file,
    promises,
    relative,
)
from gliosight.study import Flag, Sequence, Study

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
    series : mapping of Sequence to str
        For DICOM: SeriesInstanceUID or SeriesNumber to take instead of the rules' choice.
    """

    limits: Limits = DEFAULT_LIMITS
    volume_index: int | None = None
    series: Mapping[Sequence, str] = field(default_factory=dict)


class Candidate(Protocol):
    """What may be a study.

    Attributes
    ----------
    title : str
        What people call it: the way to it from the path that was given, or the id of a DICOM study.
    source : str
        Where it lies, as seen from the path that was given; that path by its own name.
    path : Path
        The file, the folder or the ``folder/name`` that it is found at when that alone is given.
    flags : tuple of Flag
        Flags of finding it.
    """

    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def flags(self) -> tuple[Flag, ...]: ...  # noqa: D102

    def read(self, options: Options) -> Study:
        """Read the pixels; raises a `GliosightError` that says why it cannot be read."""

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there and what `read` would take of it."""


class _CalledByPlace:
    """A candidate whose title is the place where it lies."""

    source: str

    @property
    def title(self) -> str:
        """Where it lies."""
        return self.source


@dataclass(frozen=True)
class NiftiCandidate(_CalledByPlace):
    """NIfTI files of one study.

    Parameters
    ----------
    source : str
        See `Candidate`; also its title.
    path : Path
        See `Candidate`.
    study_id : str
        The name of its folder or file.
    files : tuple of Found
        Those of one FLAIR, and what lies beside it.
    named : mapping of Sequence to Found
        The files by sequence where the user named them; else their names are asked.
    error : GliosightError, optional
        What is wrong with a file of the study.
    doubtful : tuple of Found
        T1 and T1C that may belong to this study or to another.
    beside : str
        Images of other kinds in the folder, in words.
    flags : tuple of Flag
    """

    source: str
    path: Path
    study_id: str
    files: tuple[Found, ...]
    named: Mapping[Sequence, Found] = field(default_factory=dict)
    error: GliosightError | None = None
    doubtful: tuple[Found, ...] = ()
    beside: str = ""
    flags: tuple[Flag, ...] = ()

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.nifti import read_nifti

        _refuse_series(options)
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

    def assign(self) -> tuple[dict[Sequence, Found], tuple[Flag, ...], tuple[Sequence, ...]]:
        """Which file is which sequence; see `gliosight.read.nifti.assign`."""
        from gliosight.read.nifti import assign, assign_single

        if self.named:
            return dict(self.named), (), ()
        if len(self.files) == 1 and self.path == self.files[0].path:
            (file,) = self.files
            if is_mask(file.path.name):
                raise _mask_by_name(file.where)
            return {Sequence.FLAIR: file}, assign_single(file), ()
        try:
            return assign(self.files, self.source, self.doubtful)
        except UnsupportedInputError as error:
            raise with_ignored(error, self.beside) from error

    def describe(self, limits: Limits, *, pixels: bool = False) -> Inspection:
        """Say what is there; see `Candidate`."""
        from gliosight.read.inspection import describe_nifti

        return describe_nifti(self, limits, pixels=pixels)


@dataclass(frozen=True)
class SlicesCandidate(_CalledByPlace):
    """TIFF, PNG or JPEG slices of one study.

    Parameters
    ----------
    files : mapping of Sequence to tuple of Found
        The pictures by sequence where each has a folder of its own; else all are FLAIR's.
    named : bool
        Whether names, folders or the layout of the LGG set say that they show FLAIR.

    The other parameters are those of `NiftiCandidate`.
    """

    source: str
    path: Path
    study_id: str
    files: Mapping[Sequence, tuple[Found, ...]]
    named: bool = True
    error: GliosightError | None = None
    flags: tuple[Flag, ...] = ()

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.slices import read_slices

        _refuse_series(options)
        _refuse_volume(options, "of slices")
        if self.error is not None:
            raise self.error
        others: dict[Sequence, tuple[Found, ...]] = dict(self.files)
        flair = others.pop(Sequence.FLAIR)
        study = read_slices(flair, self.study_id, Budget(options.limits), self.flags, others=others)
        first = flair[0]
        # An empty mask has one value, so its pixels do not tell it from an image.
        if is_mask(first.path.name) and is_constant(study.flair.values):
            raise _mask_by_name(first.where)
        return replace(study, flags=(*study.flags, *self.assumed))

    @property
    def assumed(self) -> tuple[Flag, ...]:
        """The flag for pictures of which nothing says what they show."""
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


@dataclass(frozen=True)
class DicomCandidate:
    """The series of one DICOM study.

    Parameters
    ----------
    source : str
        The deepest folder that holds all its files; see `Candidate`.
    path : Path
        That folder.
    study : DicomStudy
        Its headers.
    """

    source: str
    path: Path
    study: DicomStudy
    flags: tuple[Flag, ...] = ()

    @property
    def title(self) -> str:
        """The id of the study."""
        return self.study.study_id

    def read(self, options: Options) -> Study:
        """Read the pixels; see `Candidate`."""
        from gliosight.read.dicom.study import read_dicom

        _refuse_volume(options, "DICOM")
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


@dataclass(frozen=True)
class UnreadableCandidate(_CalledByPlace):
    """A file or folder that belongs to no study and cannot be read: it costs no other study."""

    source: str
    path: Path
    error: GliosightError
    flags: tuple[Flag, ...] = ()

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
        text = self.flags[0].message.rstrip(".")
        text = text[0].lower() + text[1:]
        what = f"{error.what}; {text}"
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
    if not _is_zip(path):
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

    A file that cannot be read is a candidate, too: it costs no other study, and reading it says what is
    wrong. Each file is opened once here (DICOM: once more for its header).

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

    files: dict[Sequence, Found] = {}
    flags: list[Flag] = []
    for name, path in ((Sequence.FLAIR, flair), (Sequence.T1, t1), (Sequence.T1C, t1c)):
        if path is None:
            continue
        mode = mode_of(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(
                f"{name.value} is a folder",
                where=folder_name(path),
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
        file = _recognise(path)
        if file.kind is not Kind.NIFTI:
            raise UnsupportedInputError(
                f"{name.value} is {file.kind.value}, not NIfTI",
                where=file.where,
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
        files[name] = file
        if name is not Sequence.FLAIR or as_flair:
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
        Each with the places in the list of those that it is made of, in the order of the first of them.
    """
    listed = list(candidates)
    places = [index for index, one in enumerate(listed) if isinstance(one, DicomCandidate)]
    studies = [one.study for one in listed if isinstance(one, DicomCandidate)]
    if len(studies) < 2:
        return [(candidate, (index,)) for index, candidate in enumerate(listed)]
    from gliosight.read.dicom.study import joined

    out: list[tuple[Candidate, tuple[int, ...]]] = [
        (candidate, (index,))
        for index, candidate in enumerate(listed)
        if not isinstance(candidate, DicomCandidate)
    ]
    for indices, study in joined(studies, Budget(limits)):
        parts = tuple(places[index] for index in indices)
        candidate = listed[parts[0]]
        if study is not studies[indices[0]]:
            source = " and ".join(dict.fromkeys(listed[part].source for part in parts))
            flags = tuple(dict.fromkeys(note for part in parts for note in listed[part].flags))
            candidate = DicomCandidate(source, candidate.path, study, flags)
        out.append((candidate, parts))
    return sorted(out, key=lambda pair: pair[1])


# A candidate, and the number of the folder that it was found in.
Placed = tuple[int, Candidate]
# A folder's number, and what it holds.
Part = tuple[int, Contents]


class _Finder:
    """Makes the candidates of one path, which places in titles and messages are relative to."""

    def __init__(
        self, root: Path, budget: Budget, ceiling: Path | None, progress: HeaderProgress | None
    ) -> None:
        self.root = root
        self.budget = budget
        self.ceiling = ceiling
        self.progress = progress
        self.mask_folders: dict[Path, tuple[str, ...]] = {}

    def in_file(self) -> list[Candidate]:
        """The study of a single file; of a DICOMDIR, those it names."""
        file = _recognise(self.root)
        if file.kind is Kind.DICOM:
            studies, problems = self._read_headers([file], self.root.parent)
            for _, error in problems:
                raise error
            return list(studies)
        name, study_id = file.where, stem(self.root.name)
        if file.kind is Kind.NIFTI:
            return [NiftiCandidate(name, self.root, study_id, (file,))]
        files = {Sequence.FLAIR: (file,)}
        return [SlicesCandidate(name, self.root, study_id, files, named=_say_flair([file]))]

    def in_folder(self) -> list[Candidate]:
        """The studies of a folder and of all below it, in the order of the folders."""
        refuse_result(self.root)
        tree = walk(self.root, self.budget)
        self.mask_folders = {part.folder: part.mask_folders for part in tree.folders}
        placed: list[Placed] = [
            (index, self._unreadable(contents.folder, contents.error))
            for index, contents in enumerate(tree.folders)
            if contents.error is not None
        ]
        for candidates_of in FORMATS.values():
            placed += candidates_of(self, tree)
        if not placed:
            raise nothing_in(self.root, tree.seen, tree.files)
        placed += self._unread(tree)
        candidates = [one for _, one in sorted(placed, key=lambda pair: pair[0])]
        return told_apart(candidates, [one.source for one in candidates])

    def _unread(self, tree: Tree) -> list[Placed]:
        """A candidate for every folder that holds images of formats that are not read, and no study."""
        studies = {contents.folder for contents in tree.folders if contents.readable}
        above = {place for folder in studies for place in folder.parents}
        placed: list[Placed] = []
        for index, contents in enumerate(tree.folders):
            folder = contents.folder
            if folder in above or not studies.isdisjoint((folder, *folder.parents)):
                continue
            packed = [file for file in contents.files if file.kind in (Kind.ZIP, Kind.ARCHIVE)]
            others = (Kind.OTHER_IMAGE, Kind.ZIP, Kind.ARCHIVE)
            files = [file for file in contents.files if file.kind not in others]
            if contents.seen.total() == len(packed):  # beside other files it may be a viewer's
                files = packed
            errors = filter(None, (unreadable(file.kind, file.where) for file in files))
            if (error := next(errors, None)) is not None:
                placed.append((index, self._unreadable(folder, error)))
        return placed

    def named(self, name: str) -> list[Candidate]:
        """The studies of that name among the files of the folder itself."""
        contents = list_folder(self.root, self.root, self.budget)
        tree = Tree((contents,), contents.seen)
        return [one for _, one in (*self.nifti(tree), *self.slices(tree)) if one.title == name]

    def nifti(self, tree: Tree) -> list[Placed]:
        """A candidate for every FLAIR of the folders that hold NIfTI files."""
        placed: list[Placed] = []
        for home, parts in self._by_study_folder(tree.of(Kind.NIFTI)).items():
            groups, stray = self._groups(parts, flair_groups)
            beside, flags = _beside(parts), self._files_ignored(home, parts)
            for group, error in groups:
                path = home / group.title
                # What lies in folders for each sequence, no ``folder/name`` leads to.
                deep = group.title and any(file.path.parent != home for file in group.files)
                flairs = (file.path for file in group.files if file.shown.kind is Sequence.FLAIR)
                candidate = NiftiCandidate(
                    relative(path, self.root),
                    next(flairs) if deep else path,
                    group.title or study_name(home, self.ceiling),
                    group.files,
                    error=error,
                    doubtful=group.doubtful,
                    beside=beside,
                    flags=flags,
                )
                placed.append((parts[0][0], candidate))
            placed += stray
        return _without_other_images(placed)

    def dicom(self, tree: Tree) -> list[Placed]:
        """A candidate for every DICOM study: only headers say which file belongs to which."""
        parts = tree.of(Kind.DICOM)
        files = [file for _, contents in parts for file in contents.readable]
        if not files:
            return []
        by_folder = {part[1].folder: part for part in parts}
        studies, problems = self._read_headers(files, self.root)
        last = len(tree.folders)
        placed: list[Placed] = [(last, self._unreadable(path, error)) for path, error in problems]
        for candidate in studies:
            own = [by_folder[folder] for folder in candidate.study.folders if folder in by_folder]
            flags = self._files_ignored(candidate.path, own)
            placed.append((last, replace(candidate, flags=flags)))
        return placed

    def slices(self, tree: Tree) -> list[Placed]:
        """A candidate for every series of pictures.

        Among DICOM or NIfTI studies, pictures are previews, icons and logos: there they count only if
        something says that they are FLAIR, or if they are numbered TIFFs.
        """
        among_studies = bool(tree.of(Kind.NIFTI) or tree.of(Kind.DICOM))
        placed: list[Placed] = []
        for home, parts in self._by_study_folder(tree.of(*SLICES)).items():
            files = [file for _, contents in parts for file in contents.readable]
            if among_studies and not (_say_flair(files) or any(map(_is_numbered_tiff, files))):
                continue
            below = [part for part in parts if part[1].folder != home]
            loose = [part for part in parts if part[1].folder == home]
            has_flair = any(_say_flair(contents.readable) for _, contents in below)
            mixed = not below and _say_all_sequences(files)
            if mixed or (below and (has_flair or not loose)):
                candidates = self._for_each_sequence(
                    home, *((loose, []) if mixed else (below, loose))
                )
                placed += [(parts[0][0], candidate) for candidate in candidates]
                continue
            groups, stray = self._groups(loose, slice_groups)
            flags = self._files_ignored(home, loose)
            if below:
                names = ", ".join(contents.folder.name for _, contents in below)
                flags = (
                    *flags,
                    flag("FILES_IGNORED", f"Folders beside the slices were not read: {names}."),
                )
            for group, error in groups:
                path = home / group.title
                candidate = SlicesCandidate(
                    relative(path, self.root),
                    path,
                    group.title or study_name(home, self.ceiling),
                    {Sequence.FLAIR: group.files},
                    named=_say_flair(group.files),
                    error=error,
                    flags=flags,
                )
                placed.append((parts[0][0], candidate))
            placed += stray
        return placed

    def _for_each_sequence(
        self, home: Path, parts: list[Part], loose: list[Part]
    ) -> list[Candidate]:
        """The study whose sequences have a folder or a name of their own; every series of FLAIR is one.

        Pictures that lie loose beside the folders are previews or the like.
        """
        from gliosight.read.slices import left_out_flag

        by_sequence: dict[Sequence | str, dict[Path, list[Found]]] = {}
        for _, contents in parts:
            for file in contents.readable:
                folders = by_sequence.setdefault(file.sequence or "unknown", {})
                folders.setdefault(contents.folder, []).append(file)
        flairs = by_sequence.pop(Sequence.FLAIR, {})
        if not flairs:
            listed = ", ".join(getattr(name, "value", name) for name in by_sequence)
            where = relative(home, self.root)
            error = UnsupportedInputError(
                f"no FLAIR, the folders say {listed}",
                where=where,
                remedy="give the folder of FLAIR, or rename it if it is FLAIR",
            )
            return [UnreadableCandidate(where, home, error)]
        flags = list(self._files_ignored(home, [*parts, *loose]))
        if count := sum(len(contents.readable) for _, contents in loose):
            message = f"Pictures beside the folders of the sequences were not read: {count}."
            flags.append(flag("FILES_IGNORED", message))
        groups = [
            (folder, group)
            for folder, files in flairs.items()
            for group in _titled(slice_groups(files))
        ]
        known = {series for _, group in groups for series, _ in slice_places(group.files)}
        candidates: list[Candidate] = []
        for folder, group in groups:
            base = home if len(flairs) == 1 else folder
            files, notes, used = {Sequence.FLAIR: group.files}, list(flags), list(group.files)
            for name in (Sequence.T1, Sequence.T1C):
                folders = by_sequence.get(name, {})
                if len(folders) == len(flairs) == 1:
                    (pictures,) = folders.values()
                    series = {one for one, _ in slice_places(group.files)}
                    placed = list(zip(slice_places(pictures), pictures, strict=True))
                    own = tuple(file for (one, _), file in placed if one in series)
                    rest = [file.where for (one, _), file in placed if one not in known]
                    if own and rest:
                        message = (
                            f"Pictures called otherwise than FLAIR were not read: {_listed(rest)}."
                        )
                        notes.append(flag("FILES_IGNORED", message))
                    # Those that do not fit are left out when they are read, and the flag says why.
                    files[name] = own or tuple(pictures)
                    used += own
                elif folders:
                    words = f"{len(flairs)} folders say FLAIR and {len(folders)} {name.value}"
                    reason = f"{words}; nothing says which belong together"
                    notes.append(left_out_flag(name, reason))
            bad = [file.error for file in used if file.error is not None]
            candidate = SlicesCandidate(
                relative(base / group.title, self.root),
                folder / group.title if group.title else base,
                group.title or study_name(home, self.ceiling),
                files,
                error=bad[0] if bad else None,
                flags=tuple(notes),
            )
            candidates.append(candidate)
        return candidates

    def _by_study_folder(self, parts: Iterable[Part]) -> dict[Path, list[Part]]:
        """Folders by the folder of their study: its sequences may have a folder each."""
        homes: dict[Path, list[Part]] = {}
        for part in parts:
            home = part[1].folder
            if not is_visit(part[1]):
                home = study_folder(home, self.root, self.ceiling)
            homes.setdefault(home, []).append(part)
        return homes

    def _groups(
        self,
        parts: list[Part],
        group_by_name: Callable[[Iterable[Found]], list[FileGroup]],
    ) -> tuple[list[tuple[FileGroup, GliosightError | None]], list[Placed]]:
        """The studies of a folder, each with what is wrong with it, and bad files that cost none of them.

        A group without a title is the whole folder.
        """
        files = [file for _, contents in parts for file in contents.readable]
        # A picture beside NIfTI files is not part of the study, whatever is wrong with it.
        pictures = files[0].kind in SLICES
        bad = [
            file
            for _, contents in parts
            for file in contents.files
            if file.error is not None and (pictures or file.kind not in SLICES)
        ]
        costly = {
            file.path: file.error
            for file in bad
            if file.sequence is None or isinstance(file.sequence, Sequence)
        }
        sound = any(
            file.error is None and file.kind in {Kind.NIFTI, *SLICES}
            for _, contents in parts
            for file in contents.files
        )
        groups = _titled(group_by_name(files))
        if not sound and any(contents.folders for _, contents in parts):
            # A folder of studies rather than one of them: a stray file fails under its own name.
            studies = []
        elif len(groups) < 2:
            return [(FileGroup("", tuple(files)), next(iter(costly.values()), None))], []
        else:
            studies = [
                (group, next(filter(None, (costly.get(file.path) for file in group.files)), None))
                for group in groups
            ]
        grouped = {file.path for group, _ in studies for file in group.files}
        stray: list[Placed] = [
            (parts[0][0], self._unreadable(file.path, file.error))
            for file in bad
            if not file.is_unused and not (file.path in costly and file.path in grouped)
        ]
        return studies, stray

    def _read_headers(
        self, files: list[Found], root: Path
    ) -> tuple[list[DicomCandidate], list[tuple[Path, GliosightError]]]:
        from gliosight.read.dicom.study import studies_in

        studies, problems = studies_in(files, root, self.budget, self.progress)
        candidates = []
        for study in studies:
            common = Path(os.path.commonpath(study.folders))
            candidates.append(DicomCandidate(relative(common, self.root), common, study))
        return candidates, problems

    def _files_ignored(self, home: Path, parts: list[Part]) -> tuple[Flag, ...]:
        """What lies beside a study's files and is not read: other images, folders of masks."""
        places = [home, *(contents.folder for _, contents in parts), home.parent]
        masks = [
            name for place in dict.fromkeys(places) for name in self.mask_folders.get(place, ())
        ]
        damaged = [
            file.where
            for _, contents in parts
            for file in contents.files
            if file.error is not None and file.sequence and not isinstance(file.sequence, Sequence)
        ]
        ignored = {
            "Other images in the folder": _beside(parts),
            "Folders of masks, previews or derivatives beside the images": ", ".join(masks),
            "Damaged files of other sequences": _listed(damaged),
        }
        return tuple(
            flag("FILES_IGNORED", f"{what} were not read: {names}.")
            for what, names in ignored.items()
            if names
        )

    def _unreadable(self, path: Path, error: GliosightError | None) -> UnreadableCandidate:
        return UnreadableCandidate(
            relative(path, self.root), path, error or NothingReadableError("cannot be read")
        )


# How studies are found, by the format of their files: here an input format is added. Of a folder that holds
# several formats the first is read.
FORMATS: Mapping[str, Callable[[_Finder, Tree], list[Placed]]] = {
    "nifti": _Finder.nifti,
    "dicom": _Finder.dicom,
    "slices": _Finder.slices,
}


def told_apart(candidates: Iterable[Candidate], ways: Iterable[str]) -> list[Candidate]:
    """The same, but studies of one name are called by the way to them, with a number where that is taken.

    DICOM studies keep their digests. Names count as one that a file system may take for one.
    """
    listed = list(candidates)
    counts = Counter(folded(name) for name in map(_id_of, listed) if name is not None)
    digests = {folded(one.study.study_id) for one in listed if isinstance(one, DicomCandidate)}
    taken = {name for name, count in counts.items() if count == 1} | digests
    apart: list[Candidate] = []
    for candidate, way in zip(listed, ways, strict=True):
        study = candidate
        if (
            isinstance(study, NiftiCandidate | SlicesCandidate)
            and counts[folded(study.study_id)] > 1
        ):
            name = numbered(way.replace("/", "_"), taken)
            taken.add(folded(name))
            study = replace(study, study_id=name)
        apart.append(study)
    return apart


def _id_of(candidate: Candidate) -> str | None:
    if isinstance(candidate, DicomCandidate):
        return candidate.study.study_id
    return getattr(candidate, "study_id", None)


def _without_other_images(placed: list[Placed]) -> list[Placed]:
    """The same, without what holds no FLAIR, T1 or T1C of a study that another folder has by that name."""
    found = [one for _, one in placed if isinstance(one, NiftiCandidate)]
    other = {id(one) for one in found if all(map(_is_of_another, one.files))}
    studies = {one.study_id for one in found if id(one) not in other}
    return [
        (index, one)
        for index, one in placed
        if id(one) not in other or not (isinstance(one, NiftiCandidate) and one.study_id in studies)
    ]


def _is_of_another(file: Found) -> bool:
    return file.sequence is not None and not isinstance(file.sequence, Sequence)


def _titled(groups: list[FileGroup]) -> list[FileGroup]:
    """The same, each of several with a title, and one alone without."""
    if len(groups) < 2:
        return [group._replace(title="") for group in groups]
    return [group._replace(title=group.title or stem(group.files[0].path.name)) for group in groups]


def _named_like(path: Path, limits: Limits) -> list[Candidate]:
    """The studies of a folder that are called like a path where no file is: ``folder/patient``."""
    folder = path.parent
    if path.name and has_series(folder, path.name):
        finder = _Finder(folder, Budget(limits), None, None)
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


def _say_flair(files: Iterable[Found]) -> bool:
    """Whether names, folders or the layout of the LGG set say that pictures show FLAIR."""
    return any(file.sequence is Sequence.FLAIR or in_lgg_layout(file) for file in files)


def _say_all_sequences(files: Iterable[Found]) -> bool:
    """Whether each picture's name says its sequence, and there are FLAIR and T1."""
    said = {file.sequence for file in files}
    return Sequence.FLAIR in said and None not in said and bool({Sequence.T1, Sequence.T1C} & said)


def _is_numbered_tiff(file: Found) -> bool:
    return file.kind is Kind.TIFF and slice_number(file.path.name)[1] is not None


def _beside(parts: Iterable[Part]) -> str:
    """The images of other kinds in the folders, in words."""
    return ", ".join(dict.fromkeys(filter(None, (contents.ignored() for _, contents in parts))))


def _refuse_series(options: Options) -> None:
    for name, text in options.series.items():
        raise UsageError(
            f"--{name.value.lower()} {text[:64]} names neither a file nor a series; only DICOM has series",
            remedy="give --flair, --t1 and --t1c a NIfTI file each",
        )


def _refuse_volume(options: Options, kind: str) -> None:
    if options.volume_index is not None:
        raise UsageError(
            f"--volume {options.volume_index} is for 4-D NIfTI files, and the study is {kind}",
            remedy="leave it out; what DICOM repeats is named with --flair, see gliosight inspect"
            if kind == "DICOM"
            else "leave it out",
        )


def _recognise(path: Path) -> Found:
    """A file given by name, of a kind that is read.

    Raises
    ------
    NothingReadableError, DamagedInputError, UnsupportedInputError
    """
    where = folder_name(path)
    file = named_file(path, where)
    kind = file.kind
    if (error := unreadable(kind, where)) is not None:
        raise error
    if kind in (Kind.NIFTI, Kind.DICOM) or kind in SLICES:
        return file
    if (error := unreadable(headless(path.name), where)) is not None:
        raise error
    if promises(path.name):
        raise mislabelled(path.name, kind, where)
    unknown = "not an image of a known kind"
    # Text without an image's name need not stand in the place of one: it may be any JSON or XML file.
    what = {Kind.EMPTY: "the file is empty", Kind.UNKNOWN: unknown, Kind.WEB_PAGE: unknown}
    raise NothingReadableError(
        what.get(kind) or STAND_INS[kind][0],
        where=where,
        remedy=f"give a {LOOKED_FOR} file, or a folder of them",
    )


def _mask_by_name(where: str) -> DamagedInputError:
    return DamagedInputError(
        "by its name a mask, not an image",
        where=where,
        remedy="give the MR image, not its mask",
    )


def _several(candidates: list[Candidate], inside: Opened) -> UnsupportedInputError:
    at_or_below = Counter(
        place for candidate in candidates for place in (candidate.path, *candidate.path.parents)
    )
    alone = [
        candidate.path
        for candidate in candidates
        if at_or_below[candidate.path] == 1 and not isinstance(candidate, UnreadableCandidate)
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


def _is_zip(path: Path) -> bool:
    try:
        mode = mode_of(path)
        if mode is None or not stat.S_ISREG(mode):
            return False
        return kind_of(path, path.name) is Kind.ZIP or is_self_extracting(path, path.name)
    except GliosightError:
        return False
