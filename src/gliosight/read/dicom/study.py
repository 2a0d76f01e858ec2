"""A study of DICOM series (read stage).

In: the files of a folder tree. Out: `DicomStudy`, one for each study (see `grouping`), known by its headers
alone; and from one of them a `Study` of kind ``"dicom"`` on the chosen FLAIR's own slices. T1 and T1C come
onto FLAIR's grid where they share its frame of reference, and are left out, flagged, where they do not.
``study.source["dicom"]`` is the `DicomSource` that segmentation and report are written against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.copies import OTHERS, keep_real
from gliosight.read.detect import InputFile, relative
from gliosight.read.dicom.choose import choose_images, confirm_order, same_grid
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.dicom.files import discover, read_dicomdir, summed_up, without_copies
from gliosight.read.dicom.grouping import StudyKey
from gliosight.read.dicom.instances import Instance, is_dicomdir
from gliosight.read.dicom.series import Series, series_of
from gliosight.read.flags import flag
from gliosight.read.limits import Budget
from gliosight.read.resample import LEAST_COVERED, pixels_of, resample
from gliosight.study import DicomSource, Flag, Geometry, MrSequence, Study, Volume

# Hexadecimal digits of the digest that names a study.
ID_DIGITS = 12
# What tells images without UIDs apart.
_TELLING = (
    "InstanceNumber",
    "ImagePositionPatient",
    "ContentTime",
    "AcquisitionTime",
    "Rows",
    "EchoTime",
)

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class DicomStudy:
    """One study as its headers tell it; no pixel has been read.

    Parameters
    ----------
    study_id : str
        Digest of the StudyInstanceUID, or of its images without one: no name, and the same wherever the
        study lies.
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
    files: Iterable[InputFile], root: Path, budget: Budget, tell: Tell | None = None
) -> tuple[list[DicomStudy], list[tuple[Path, GliosightError]]]:
    """Read every header once and sort the files into studies.

    Parameters
    ----------
    files : iterable of InputFile
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
    instances, unread = discover(paths, root, budget, tell)
    problems += unread
    whole = _not_all_there(directory, problems) if listed and problems else None
    problems = summed_up(problems)
    beside = {path.parent: error for path, error in reversed(problems)}
    studies = []
    for key, series in series_of(instances).items():
        folders = _folders(series)
        problem = whole or next((beside[one] for one in sorted(folders) if one in beside), None)
        studies.append(
            DicomStudy(_study_id(key, series), series, folders, problem, _said_of(key, series))
        )
    studies.sort(key=lambda one: one.study_id)
    if not studies and not problems:
        raise NothingReadableError(
            "no DICOM image, only a directory of them",
            where=paths[0].name if len(paths) == 1 else relative(root, root),
            remedy="give the folder that holds the images",
        )
    if whole is not None:
        return studies, [] if studies else [(directory, whole)]
    taken = frozenset().union(*(one.folders for one in studies))
    return studies, [one for one in problems if one[0].parent not in taken]


def joined(parts: Sequence[DicomStudy], budget: Budget) -> list[tuple[tuple[int, ...], DicomStudy]]:
    """Studies whose files were found below several paths, sorted anew.

    Returns
    -------
    list of (tuple of int, DicomStudy)
        Each with the indices of its parts; what has not changed is the same object.
    """
    ids = {one.study_id for one in parts}
    single = any(len({series.whole for series in one.series}) == 1 for one in parts)
    if len(ids) == len(parts) and not single:
        return [
            ((index,), part) for index, part in enumerate(parts)
        ]  # whole studies, each with UIDs of its own
    part_of = {path: index for index, part in enumerate(parts) for path in _instances(part.series)}
    found = [one for part in parts for one in _instances(part.series).values()]
    out = []
    for key, series in series_of(without_copies(found, budget)).items():
        instances = _instances(series)
        mine = sorted({part_of[path] for path in instances})
        first = parts[mine[0]]
        flags = _once(
            [*(said for one in mine for said in parts[one].flags), *_said_of(key, series)]
        )
        study = DicomStudy(
            _study_id(key, series),
            series,
            _folders(series),
            next((parts[one].problem for one in mine if parts[one].problem is not None), None),
            tuple(flags),
        )
        same = _instances(first.series) == instances and study.study_id == first.study_id
        out.append((tuple(mine), first if same and study.flags == first.flags else study))
    return sorted(out, key=lambda pair: pair[0])


def _instances(series: Iterable[Series]) -> dict[Path, Instance]:
    return {frame.instance.path: frame.instance for one in series for frame in one.frames}


def _folders(series: Iterable[Series]) -> frozenset[Path]:
    return frozenset(frame.instance.path.parent for one in series for frame in one.frames)


def _study_id(key: StudyKey, series: tuple[Series, ...]) -> str:
    """A digest of the UID, or without one of what tells the study's images from others."""
    if key.uid:
        return digest_of("\n".join(filter(None, (key.uid, key.patient))))
    return digest_of("\n".join(sorted(frames_digest(one) for one in series)))


def _said_of(key: StudyKey, series: Iterable[Series]) -> tuple[Flag, ...]:
    out = []
    if key.uid and key.patient:
        message = "Several patients have one StudyInstanceUID; each of them is taken for a study of its own."
        out.append(flag("PATIENTS_APART", message))
    stacks = [one for one in series if one.whole.joined > 1 and one.shape[0] > 1]
    refused = bool(stacks) and all(one.error is not None for one in stacks)
    if key.joined > 1 and not refused:
        message = (
            f"The files name {key.joined} studies (StudyInstanceUID), which are taken for one."
        )
        out.append(flag("STUDIES_JOINED", message))
    return tuple(out)


def _not_all_there(
    directory: Path, problems: list[tuple[Path, GliosightError]]
) -> DamagedInputError:
    path, error = problems[0]
    many = f"{len(problems):,} files" if len(problems) > 1 else "a file"
    return DamagedInputError(
        f"the DICOMDIR names {many} that cannot be read, such as "
        f"{path.relative_to(directory.parent).as_posix()} ({error.what})",
        where=directory.name,
        remedy="copy the disc again, or give the folder instead to read what is there",
    )


def read_dicom(
    source: DicomStudy, budget: Budget, wanted: Mapping[MrSequence, str] | None = None
) -> Study:
    """Read the pixels of the chosen series.

    Parameters
    ----------
    source : DicomStudy
    budget : Budget
    wanted : mapping of MrSequence to str, optional
        SeriesInstanceUID or SeriesNumber of the series to take, instead of the rules' choice.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or no safe choice; kinds of pixels that are not read.
    DamagedInputError, LimitExceededError, NothingReadableError, UsageError
    """
    if source.problem is not None:
        raise source.problem
    with one_decoder() as decoder:
        choice, values, noted = choose_images(source.series, budget, wanted or {}, decoder)
    flair = choice.chosen[MrSequence.FLAIR]
    noted += choice.flags
    arrays = {MrSequence.FLAIR: values[MrSequence.FLAIR]}
    left_out: list[MrSequence] = [
        name for name in OTHERS if any(one.code == f"{name.value}_LEFT_OUT" for one in choice.flags)
    ]
    for name in OTHERS:
        if name not in choice.chosen:
            continue
        placed, said = _beside(choice.chosen[name], name, flair, values.get(name), budget)
        noted += said
        if placed is None:
            left_out.append(name)
        else:
            arrays[name] = placed
    choice, said = confirm_order(choice, arrays, left_out)
    noted += said
    lossy = any(one.code == "LOSSY_SOURCE" for name in arrays for one in choice.chosen[name].flags)
    kept, copies = keep_real(arrays, lossy=lossy, explained=left_out)
    used = {name: choice.chosen[name] for name in kept}
    return Study(
        study_id=source.study_id,
        sequences={name: Volume(one, flair.geometry) for name, one in kept.items()},
        slice_names=_slice_names(len(values[MrSequence.FLAIR])),
        kind="dicom",
        source={
            "dicom": _source(flair),
            "series": {name.value: _name_of(one) for name, one in used.items()},
            "frames": {name.value: frames_digest(one) for name, one in used.items()},
            "chosen": {name.value: choice.reasons[name] for name in used},
        },
        flags=(*source.flags, *_of_series(used), *_once(noted), *copies),
    )


def _of_series(used: Mapping[MrSequence, Series]) -> list[Flag]:
    """What was odd about the series that were used: FLAIR's own words, and what the others add."""
    out = list(used[MrSequence.FLAIR].flags)
    for name, one in used.items():
        known = {(said.code, said.message) for said in used[MrSequence.FLAIR].flags}
        out += [
            replace(said, message=f"{name.value}: {said.message}")
            for said in one.flags
            if name is not MrSequence.FLAIR and (said.code, said.message) not in known
        ]
    return out


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
        sequences={MrSequence.FLAIR: Volume(blank, flair.geometry)},
        slice_names=_slice_names(flair.shape[0]),
        kind="dicom",
        source={"dicom": _source(flair)},
    )


def frames_digest(series: Series) -> str:
    """What stands for the very frames of a stack, in order."""
    # Stripped headers have no UIDs: then number, place and time stand for them.
    names = ["/".join((series.uid, str(series.number), series.part))]
    for one in series.frames:
        header = one.instance.header
        known = [str(header.get(keyword)) for keyword in _TELLING] if not series.uid else []
        names.append("/".join((str(header.get("SOPInstanceUID")), str(one.number), *known)))
    return digest_of("\n".join(names))


def _name_of(series: Series) -> str:
    """Digest of the SeriesInstanceUID, or without one of the frames."""
    return digest_of(series.uid) if series.uid else frames_digest(series)


def _slice_names(count: int) -> tuple[str, ...]:
    return tuple(f"slice_{index:03d}" for index in range(count))


def _beside(
    series: Series,
    name: MrSequence,
    flair: Series,
    values: NDArray[Any] | None,
    budget: Budget,
) -> tuple[NDArray[Any] | None, list[Flag]]:
    """T1 or T1C on FLAIR's grid, or ``None`` where it has no values or does not cover FLAIR."""
    whose = f"{name.value} ({series.place})"
    if values is None:
        return None, []
    if same_grid(flair, series):
        if flair.frame_of_reference and series.frame_of_reference:
            return values, []
        message = (
            f"No frame of reference says that FLAIR and {whose} share one; since they lie at "
            "the same place, they are taken as one grid."
        )
        return values, [flag("GRID_ASSUMED", message)]
    if flair.geometry is None or series.geometry is None:
        raise ValueError("a series without geometry was paired")
    size = int(np.prod(flair.shape))
    budget.take(4 * size, series.frames[0].instance.where, packed=None)
    placed, covered = resample(
        values, _places(flair.geometry, series.geometry, flair.shape), flair.shape
    )
    if covered < LEAST_COVERED:  # about what its headers say, so this is rare
        message = f"{whose} covers only {covered:.0%} of FLAIR's volume and is left out."
        return None, [flag(f"{name.value}_LEFT_OUT", message)]
    message = f"{whose} lies on another grid than FLAIR and was resampled onto it."
    return placed, [flag(f"{name.value}_RESAMPLED", message)]


def _places(
    flair: Geometry, other: Geometry, shape: tuple[int, int, int]
) -> Callable[[int], NDArray[np.float64]]:
    """Where the pixels of a FLAIR slice lie among the other's voxels."""
    plane = pixels_of(shape)

    def places(index: int) -> NDArray[np.float64]:
        voxels = np.vstack([np.full(plane.shape[1], float(index)), plane]).T
        return other.to_voxels(flair.to_world(voxels)).T

    return places


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
