"""A study of DICOM series (read stage).

In: the files of a folder tree. Out: `DicomStudy`, one for each StudyInstanceUID, known by its headers alone;
and from one of them a `Study` of kind ``"dicom"`` on the chosen FLAIR's own slices. T1 and T1C come onto
FLAIR's grid where they share its frame of reference, and are left out, flagged, where they do not.
``study.source["dicom"]`` is the `DicomSource` that segmentation and report are written against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
    within,
)
from gliosight.read.copies import OTHERS, keep_real
from gliosight.read.dicom.choose import Choice, choose
from gliosight.read.dicom.contrast import ENHANCES_FROM, enhancement
from gliosight.read.dicom.discover import discover, is_dicomdir, read_dicomdir
from gliosight.read.dicom.pairing import same_grid
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.dicom.series import Series, series_of
from gliosight.read.flags import flag
from gliosight.read.intensities import is_binary, make_finite, refuse_mask
from gliosight.read.limits import Budget
from gliosight.read.recognise import Found, relative
from gliosight.read.resample import LEAST_COVERED, pixels_of, resample
from gliosight.study import DicomSource, Flag, Geometry, Sequence, Study, Volume

# Hexadecimal digits of the digest that names a study.
ID_DIGITS = 12

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class DicomStudy:
    """One study as its headers tell it; no pixel has been read.

    Parameters
    ----------
    study_id : str
        Digest of the StudyInstanceUID: no name, and the same wherever the study lies.
    series : tuple of Series
        Also those that are never analysed.
    folders : frozenset of Path
        Where its files lie.
    problem : GliosightError, optional
        A file beside its own that is DICOM but cannot be read: it may be a slice of this study.
    """

    study_id: str
    series: tuple[Series, ...]
    folders: frozenset[Path]
    problem: GliosightError | None = None
    flags: tuple[Flag, ...] = ()


def digest_of(uid: str) -> str:
    """What stands for a UID in results: the first hexadecimal digits of its SHA-256."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:ID_DIGITS]


def studies_in(
    files: Iterable[Found], root: Path, budget: Budget, tell: Tell | None = None
) -> tuple[list[DicomStudy], list[tuple[Path, GliosightError]]]:
    """Read every header once and sort the files into studies.

    Parameters
    ----------
    files : iterable of Found
        A DICOMDIR given alone stands for the files it names.
    root : Path
        What places in messages are relative to.
    budget : Budget
    tell : callable, optional
        Told how many headers are read, of how many.

    Returns
    -------
    studies : list of DicomStudy
        In order of their ids.
    problems : list of (Path, GliosightError)
        Files that cannot be read and lie beside none of the studies.
    """
    files = list(files)
    problems = [(one.path, one.error) for one in files if one.error is not None]
    paths = [one.path for one in files if one.error is None]
    listed = len(paths) == 1 and is_dicomdir(paths[0])
    if listed:
        directory = paths[0]
        paths = read_dicomdir(directory, root, budget)
        if not paths:
            raise NothingReadableError(
                "the DICOMDIR names no file", where=directory.name, remedy="give the folder instead"
            )
    found = discover(paths, root, budget, tell)
    problems += zip(found.unread, found.problems, strict=True)
    whole = _not_all_there(directory, problems) if listed and problems else None
    beside = {path.parent: error for path, error in reversed(problems)}
    studies = []
    for uid, series in series_of(found.instances).items():
        folders = frozenset(frame.instance.path.parent for one in series for frame in one.frames)
        problem = whole or next((beside[one] for one in sorted(folders) if one in beside), None)
        studies.append(DicomStudy(digest_of(uid), series, folders, problem))
    studies.sort(key=lambda one: one.study_id)
    if not studies and not problems:
        raise NothingReadableError(
            "no DICOM image, only a directory of them",
            where=paths[0].name if len(paths) == 1 else relative(root, root),
            remedy="give the folder that holds the images",
        )
    if whole is not None and studies:
        return studies, []
    taken = frozenset().union(*(one.folders for one in studies))
    return studies, [one for one in problems if one[0].parent not in taken]


def _not_all_there(
    directory: Path, problems: list[tuple[Path, GliosightError]]
) -> DamagedInputError:
    path, error = problems[0]
    many = f"{len(problems)} files" if len(problems) > 1 else "a file"
    return DamagedInputError(
        f"the DICOMDIR names {many} that cannot be read, such as "
        f"{path.relative_to(directory.parent).as_posix()} ({error.what})",
        where=directory.name,
        remedy="copy the disc again, or give the folder instead to read what is there",
    )


def read_dicom(
    source: DicomStudy, budget: Budget, wanted: Mapping[Sequence, str] | None = None
) -> Study:
    """Read the pixels of the chosen series.

    Parameters
    ----------
    source : DicomStudy
    budget : Budget
    wanted : mapping of Sequence to str, optional
        SeriesInstanceUID or SeriesNumber of the series to take, instead of the rules' choice.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or no safe choice; kinds of pixels that are not read.
    DamagedInputError, LimitExceededError, NothingReadableError, UsageError
    """
    if source.problem is not None:
        raise source.problem
    choice, values, flags = _choose_image(source, budget, wanted or {})
    flair = choice.chosen[Sequence.FLAIR]
    noted = [*flair.flags, *choice.flags, *flags]
    arrays = {Sequence.FLAIR: values}
    left_out: list[Sequence] = [
        name for name in OTHERS if any(one.code == f"{name.value}_LEFT_OUT" for one in choice.flags)
    ]
    for name in OTHERS:
        if name not in choice.chosen:
            continue
        placed, said = _beside(choice.chosen[name], name, flair, values, budget)
        noted += said
        if placed is None:
            left_out.append(name)
        else:
            arrays[name] = placed
    noted += _confirm(choice, arrays, left_out)
    lossy = any(one.code == "LOSSY_SOURCE" for one in noted)
    kept, copies = keep_real(arrays, lossy=lossy, explained=left_out)
    used = {name: choice.chosen[name] for name in kept}
    return Study(
        study_id=source.study_id,
        sequences={name: Volume(one, flair.geometry) for name, one in kept.items()},
        slice_names=_slice_names(len(values)),
        kind="dicom",
        source={
            "dicom": _source(flair),
            "series": {name.value: digest_of(one.uid) for name, one in used.items()},
            "frames": {name.value: frames_digest(one) for name, one in used.items()},
            "chosen": {name.value: choice.reasons[name] for name in used},
        },
        flags=(*source.flags, *_once(noted), *copies),
    )


def _choose_image(
    source: DicomStudy, budget: Budget, wanted: Mapping[Sequence, str]
) -> tuple[Choice, NDArray[Any], tuple[Flag, ...]]:
    """Choose, and read FLAIR; a stored mask with FLAIR's own header is passed over if there is another.

    Workstations store masks under a copy of the image's header: only the pixels tell.
    """
    left = list(source.series)
    noted: list[Flag] = []
    while True:
        choice = choose(left, wanted)
        flair = choice.chosen[Sequence.FLAIR]
        values, flags = _values(flair, Sequence.FLAIR, budget)
        if not is_binary(values):
            return choice, values, (*noted, *flags)
        others = [one for one in left if one is not flair]
        again = any(one.usable and one.identified.sequence is Sequence.FLAIR for one in others)
        if Sequence.FLAIR in wanted or not again:
            refuse_mask(values, Sequence.FLAIR.value, flair.frames[0].instance.where)
        message = (
            f"{_name(flair)} looks like FLAIR by its header, but its pixels hold two values only: a "
            "stored mask, passed over."
        )
        noted.append(flag("MASK_PASSED_OVER", message))
        left = others


def without_pixels(source: DicomStudy, digest: str) -> Study:
    """The study that stands on one of the series, by headers alone: its values are all 0.

    Parameters
    ----------
    source : DicomStudy
    digest : str
        What the result says of the frames that were taken for FLAIR: parts of a series share its UID.

    Raises
    ------
    UnsupportedInputError
        The study has no such series.
    """
    fitting = [one for one in source.series if frames_digest(one) == digest]
    if not fitting:
        raise UnsupportedInputError(
            "the images that were analysed are not among its series, or not all of them",
            where=source.study_id,
            remedy="give the folder that the result was made from",
        )
    flair = fitting[0]
    blank = np.broadcast_to(np.uint8(0), flair.shape)
    return Study(
        study_id=source.study_id,
        sequences={Sequence.FLAIR: Volume(blank, flair.geometry)},
        slice_names=_slice_names(flair.shape[0]),
        kind="dicom",
        source={"dicom": _source(flair)},
    )


def frames_digest(series: Series) -> str:
    """What stands for the very frames of a stack, in order."""
    # The series' own names as well: stripped headers have no other.
    names = [f"{series.whole}/{series.part}"]
    names += [f"{one.instance.header.get('SOPInstanceUID')}/{one.number}" for one in series.frames]
    return digest_of("\n".join(names))


def _slice_names(count: int) -> tuple[str, ...]:
    return tuple(f"slice_{index:03d}" for index in range(count))


def _name(series: Series) -> str:
    return "A series without number" if series.number is None else f"Series {series.number}"


def _values(
    series: Series, name: Sequence, budget: Budget
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    if series.error is not None:
        raise series.error
    where = series.frames[0].instance.where
    return make_finite(read_pixels(series.frames, budget), name.value, where)


def _pixels(
    series: Series, name: Sequence, budget: Budget
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    values, flags = _values(series, name, budget)
    refuse_mask(values, name.value, series.frames[0].instance.where)
    return values, flags


def _beside(
    series: Series, name: Sequence, flair: Series, values: NDArray[Any], budget: Budget
) -> tuple[NDArray[Any] | None, list[Flag]]:
    """T1 or T1C on FLAIR's grid, or ``None`` with the flag that says why it is left out."""
    whose = f"{name.value} (series {series.number})" if series.number is not None else name.value
    if flair.geometry is None or series.geometry is None:
        if series.shape == flair.shape and flair.geometry is series.geometry:
            message = (
                f"Neither FLAIR nor {whose} says where it lies; being of one shape, they are taken "
                "as one grid."
            )
            other, flags = _pixels(series, name, budget)
            return other, [*flags, flag("GRID_ASSUMED", message)]
        message = f"{whose} is left out: the headers do not say where it lies in FLAIR."
        return None, [flag(f"{name.value}_LEFT_OUT", message)]
    try:
        other, flags = _pixels(series, name, budget)
    except UnsupportedInputError as error:
        # What is not read can be done without; what is damaged or too large is an error as in FLAIR.
        message = f"{whose} is left out: {within(error, error.where or '').what}."
        return None, [flag(f"{name.value}_LEFT_OUT", message)]
    if same_grid(flair, series):
        if not (flair.frame_of_reference and series.frame_of_reference):
            message = (
                f"No frame of reference says that FLAIR and {whose} share one; since they lie at "
                "the same place, they are taken as one grid."
            )
            flags = (*flags, flag("GRID_ASSUMED", message))
        return other, list(flags)
    budget.take(4 * values.size, series.frames[0].instance.where, packed=None)
    placed, covered = resample(
        other, _places(flair.geometry, series.geometry, flair.shape), flair.shape
    )
    if covered < LEAST_COVERED:
        message = f"{whose} covers only {covered:.0%} of FLAIR's volume and is left out."
        return None, [flag(f"{name.value}_LEFT_OUT", message)]
    message = f"{whose} lies on another grid than FLAIR and was resampled onto it."
    return placed, [*flags, flag(f"{name.value}_RESAMPLED", message)]


def _places(
    flair: Geometry, other: Geometry, shape: tuple[int, int, int]
) -> Callable[[int], NDArray[np.float64]]:
    """Where the pixels of a FLAIR slice lie among the other's voxels."""
    plane = pixels_of(shape)

    def places(index: int) -> NDArray[np.float64]:
        voxels = np.vstack([np.full(plane.shape[1], float(index)), plane]).T
        return other.to_voxels(flair.to_world(voxels)).T

    return places


def _confirm(
    choice: Choice, arrays: dict[Sequence, NDArray[Any]], left_out: list[Sequence]
) -> list[Flag]:
    """Let the pixels confirm a T1C that only came after a T1; leave it out where they do not."""
    if not choice.by_order or Sequence.T1 not in arrays or Sequence.T1C not in arrays:
        return []
    enhanced = enhancement(arrays[Sequence.T1], arrays[Sequence.T1C])
    if enhanced > ENHANCES_FROM:
        message = (
            "No header says which T1 is after contrast; the later one is taken for it, and its pixels "
            "enhance against the earlier one."
        )
        return [flag("T1C_BY_ORDER", message)]
    del arrays[Sequence.T1C]
    left_out.append(Sequence.T1C)
    message = (
        "T1C is left out: no header says which T1 is after contrast, and the later one does not "
        "clearly enhance. Name it with --t1c if you know it."
    )
    return [flag("T1C_LEFT_OUT", message)]


def _source(flair: Series) -> DicomSource:
    numbers: dict[int, int] = {}
    headers: list[Any] = []
    frames = []
    for frame in flair.frames:
        key = id(frame.instance)
        if key not in numbers:
            numbers[key] = len(headers)
            headers.append(frame.instance.header)
        frames.append((numbers[key], frame.number))
    return DicomSource(tuple(headers), tuple(frames))


def _once(flags: Iterable[Flag]) -> list[Flag]:
    return list(dict.fromkeys(flags))
