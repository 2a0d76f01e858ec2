"""From a path to a `Study` (the first stage).

In: a `Request`. Out: one frozen `Study`, or a `GliosightError`; nothing in between, and nothing is
written. `detect`, `folders` and `sources` say what is there, one module per kind of input (`slices`,
`nifti`, `arrays`, the folder `dicom`) makes the study, and `limits` bounds them all. docs/input.md and
docs/dicom.md are the user's side of this, docs/flags.md explains the flags.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gliosight.errors import (
    DamagedInputError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.read.arrays import from_arrays
from gliosight.read.detect import SLICES, Kind, unreadable
from gliosight.read.flags import flag
from gliosight.read.folders import (
    Contents,
    flair_groups,
    list_folder,
    mode_of,
    nothing_in,
    refuse_result,
    series_files,
    several,
    slice_groups,
    with_ignored,
)
from gliosight.read.intensities import is_constant
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits, not_regular
from gliosight.read.naming import contradiction, is_mask, nifti_series, stem
from gliosight.read.recognise import (
    LOOKED_FOR,
    Found,
    folder_name,
    mislabelled,
    named_file,
    promises,
    relative,
)
from gliosight.read.sources import Source, find_studies, join_studies, opened, source_name
from gliosight.study import Flag, Sequence, Study

__all__ = [
    "Limits",
    "Request",
    "Source",
    "find_studies",
    "from_arrays",
    "join_studies",
    "opened",
    "read",
    "source_name",
]


@dataclass(frozen=True)
class Request:
    """What to read.

    Parameters
    ----------
    path : Path, DicomStudy or None
        A file, a folder or a zip with one study, ``folder/series`` (see `folders`), or what
        `find_studies` gave; ``None`` where ``flair`` says it all.
    flair, t1, t1c : Path, optional
        NIfTI files, whatever their names say. Beside a ``path`` only ``t1`` and ``t1c``, and only
        if it is a NIfTI file: the FLAIR.
    limits : Limits
    volume_index : int, optional
        Which volume of a 4-D NIfTI to read, counted from 0 (``--volume N``).
    series : mapping of Sequence to str
        For DICOM: SeriesInstanceUID or SeriesNumber to take instead of the rules' choice.
    """

    path: Source | None
    flair: Path | None = None
    t1: Path | None = None
    t1c: Path | None = None
    limits: Limits = DEFAULT_LIMITS
    volume_index: int | None = None
    series: Mapping[Sequence, str] = field(default_factory=dict)


def read(request: Request) -> Study:
    """Read one study.

    Raises
    ------
    UsageError
        Options that contradict each other, a volume that is not there.
    NothingReadableError
        No such path, no permission, an empty folder, nothing recognised.
    DamagedInputError
        Truncated, corrupt or mislabelled files; files that contradict each other; masks.
    UnsupportedInputError
        No FLAIR, several studies, archives but zip, kinds of pixels that are not read.
    LimitExceededError
        More than ``request.limits`` allow.
    """
    budget = Budget(request.limits)
    if request.flair or request.t1 or request.t1c:
        return _read_named(request, budget)
    if request.path is None:
        raise UsageError("nothing to read", remedy="give a study, or a FLAIR file with --flair")
    if not isinstance(request.path, Path):
        return _read_dicom(request.path, request, budget)
    with opened(request.path, request.limits) as inside:
        study = _read_path(inside.path, inside.path, request, budget)
    return replace(study, flags=(*inside.flags, *study.flags))


def _read_dicom(source: Source, request: Request, budget: Budget) -> Study:
    from gliosight.read.dicom.study import DicomStudy, read_dicom

    if isinstance(source, DicomStudy):
        _refuse_volume(request, "DICOM")
        return read_dicom(source, budget, request.series)
    return _read_path(source, source, request, budget)


def _read_path(path: Path, root: Path, request: Request, budget: Budget) -> Study:
    """The study at or below ``root`` that ``path`` says, as `find_studies` gives it."""
    mode = mode_of(path)
    if mode is None:
        return _read_series(path, root, request, budget)
    if stat.S_ISDIR(mode):
        refuse_result(path)
        return _read_folder(path, root, request, budget)
    if not stat.S_ISREG(mode):
        raise not_regular(mode, path.name or str(path))
    return _read_file(path, root, request, budget)


def _read_named(request: Request, budget: Budget) -> Study:
    """The files of each sequence, as the options name them."""
    if request.path is not None and request.flair is not None:
        raise UsageError("both a study and --flair are given", remedy="give only one of them")
    flair = request.flair or request.path
    if flair is not None and not isinstance(flair, Path):
        raise UsageError(
            "a NIfTI file is given beside a DICOM study",
            remedy="name DICOM series by their UID or number, see gliosight inspect",
        )
    if flair is None:
        raise UsageError("T1 or T1C is given without FLAIR", remedy="give --flair FILE as well")
    given = {Sequence.FLAIR: flair, Sequence.T1: request.t1, Sequence.T1C: request.t1c}
    files: dict[Sequence, Found] = {}
    flags: list[Flag] = []
    for name, path in given.items():
        if path is None:
            continue
        mode = mode_of(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(
                f"{name.value} is a folder",
                where=folder_name(path),
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
        one = _recognise(path, path)
        if one.kind is not Kind.NIFTI:
            raise UnsupportedInputError(
                f"{name.value} is {one.kind.value}, not NIfTI",
                where=one.where,
                remedy="--flair, --t1 and --t1c take one NIfTI file each",
            )
        files[name] = one
        if name is Sequence.FLAIR and request.flair is None:
            flags += _judge_name(one)
        elif (said := contradiction(path.name, name)) is not None:
            message = (
                f"The file given as {name.value} ({path.name}) is {said} by its name; it is used "
                f"as {name.value} all the same."
            )
            flags.append(flag("NAME_CONTRADICTS", message))
    from gliosight.read.nifti import read_nifti

    return read_nifti(
        files, stem(flair.name), budget, volume_index=request.volume_index, flags=flags
    )


def _judge_name(one: Found) -> tuple[Flag, ...]:
    """Whether a single NIfTI file is FLAIR by its name; raises where it says something else."""
    from gliosight.read.nifti import assign_single

    if is_mask(one.path.name):
        raise _is_mask(one.where)
    return assign_single(one)


def _read_file(path: Path, root: Path, request: Request, budget: Budget) -> Study:
    one = _recognise(path, root)
    if one.kind is Kind.DICOM:
        return _read_found_dicom([one], root, request, budget)
    _refuse_series(request)
    if one.kind is Kind.NIFTI:
        from gliosight.read.nifti import read_nifti

        return read_nifti(
            {Sequence.FLAIR: one},
            stem(path.name),
            budget,
            volume_index=request.volume_index,
            flags=_judge_name(one),
        )
    from gliosight.read.slices import read_slices

    _refuse_volume(request, "of slices")
    study = read_slices([one], stem(path.name), budget)
    # An empty mask has one value only, so its pixels alone do not give it away.
    if is_mask(path.name) and is_constant(study.flair.values):
        raise _is_mask(one.where)
    return study


def _read_folder(folder: Path, root: Path, request: Request, budget: Budget) -> Study:
    contents = list_folder(folder, root, budget)
    if contents.readable and contents.readable[0].kind is not Kind.DICOM:
        return _read_contents(folder, root, contents, request, budget)
    # Series of one DICOM study lie side by side or in folders of their own.
    studies = find_studies(folder, request.limits) if contents.readable or contents.folders else []
    if not studies:
        raise nothing_in(folder, contents.seen, contents.files)
    if len(studies) > 1:
        raise several([source_name(one, root) for one in studies if one != folder], root)
    if isinstance(studies[0], Path):
        return _read_path(studies[0], root, request, budget)
    return _read_dicom(studies[0], request, budget)


def _read_found_dicom(files: list[Found], root: Path, request: Request, budget: Budget) -> Study:
    """The one study that a DICOM file or a DICOMDIR leads to."""
    from gliosight.read.dicom.study import read_dicom, studies_in

    studies, problems = studies_in(files, root.parent, budget)
    for _, problem in problems:
        raise problem
    if len(studies) > 1:
        raise several([one.study_id for one in studies], root)
    _refuse_volume(request, "DICOM")
    return read_dicom(studies[0], budget, request.series)


def _refuse_series(request: Request) -> None:
    for name, text in request.series.items():
        raise UsageError(
            f"--{name.value.lower()} {text[:64]} is no file, and the study has no series, since it is "
            "not DICOM",
            remedy="give --flair, --t1 and --t1c a NIfTI file each",
        )


def _refuse_volume(request: Request, kind: str) -> None:
    if request.volume_index is not None:
        raise UsageError(
            f"--volume {request.volume_index} is for 4-D NIfTI files, and the study is {kind}",
            remedy="leave it out; what DICOM repeats is named with --flair, see gliosight inspect"
            if kind == "DICOM"
            else "leave it out",
        )


def _read_contents(
    folder: Path, root: Path, contents: Contents, request: Request, budget: Budget
) -> Study:
    """The one study that a folder's own files are."""
    _refuse_series(request)
    _refuse_bad(contents.files)
    files = contents.readable
    if (error := unreadable(files[0].kind, files[0].where)) is not None:
        raise error
    nifti = files[0].kind is Kind.NIFTI
    groups = flair_groups(files) if nifti else slice_groups(files)
    if len(groups) > 1:
        raise several(list(groups), folder)
    group = files if nifti else next(iter(groups.values()))
    where = relative(folder, root)
    try:
        return _read_group(folder_name(folder), where, contents, group, request, budget)
    except UnsupportedInputError as refused:
        raise with_ignored(refused, contents) from refused


def _read_series(path: Path, root: Path, request: Request, budget: Budget) -> Study:
    """The part of a folder's files that ``folder/series`` names."""
    found = series_files(path, path.parent if path == root else root, budget)
    if found is None:
        raise NothingReadableError(
            "no such file or folder",
            where=str(path),
            remedy=f"check the path; looked for {LOOKED_FOR} files",
        )
    contents, group = found
    _refuse_bad(group)
    return _read_group(path.name, relative(path, root), contents, group, request, budget)


def _refuse_bad(files: Iterable[Found]) -> None:
    """Raise what is wrong with the first file that promises an image and holds none."""
    for one in files:
        if one.error is not None:
            raise one.error


def _read_group(
    name: str,
    where: str,
    contents: Contents,
    group: tuple[Found, ...] | list[Found],
    request: Request,
    budget: Budget,
) -> Study:
    flags = _left_aside(contents)
    if group[0].kind is not Kind.NIFTI:
        from gliosight.read.slices import read_slices

        _refuse_volume(request, "of slices")
        return read_slices(group, name, budget, flags)
    from gliosight.read.nifti import assign, read_nifti

    files, assigned, explained = assign(group, where)
    if name == "anat":  # BIDS: the folder says nothing, the files say subject and session
        name = nifti_series(files[Sequence.FLAIR].path.name) or name
    return read_nifti(
        files,
        name,
        budget,
        volume_index=request.volume_index,
        flags=(*flags, *assigned),
        explained=explained,
    )


def _left_aside(contents: Contents) -> tuple[Flag, ...]:
    flags = []
    if ignored := contents.ignored():
        flags.append(flag("FILES_IGNORED", f"Other images in the folder were not read: {ignored}."))
    if contents.folders:
        count = len(contents.folders)
        what = "1 subfolder was" if count == 1 else f"{count} subfolders were"
        flags.append(flag("SUBFOLDERS_IGNORED", f"{what} not looked into."))
    return tuple(flags)


def _recognise(path: Path, root: Path) -> Found:
    """A file given by name, or found as the only one, of a kind that is read.

    Raises
    ------
    NothingReadableError, DamagedInputError, UnsupportedInputError
    """
    where = relative(path, root)
    found = named_file(path, where)
    kind = found.kind
    if (error := unreadable(kind, where)) is not None:
        raise error
    if kind in (Kind.NIFTI, Kind.DICOM) or kind in SLICES:
        return found
    if promises(path.name):
        raise mislabelled(path.name, kind, where)
    raise NothingReadableError(
        "the file is empty" if kind is Kind.EMPTY else "not an image of a known kind",
        where=where,
        remedy=f"give a {LOOKED_FOR} file, or a folder of them",
    )


def _is_mask(where: str) -> DamagedInputError:
    return DamagedInputError(
        "by its name a mask, not an image",
        where=where,
        remedy="give the MR image, not its mask",
    )
