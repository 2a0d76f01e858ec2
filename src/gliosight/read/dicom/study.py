"""A study of DICOM series (read stage).

The files of a folder tree become `DicomStudy`s (see `grouping`), known by their headers alone; one of them
becomes a `Study` of kind ``"dicom"`` on the chosen FLAIR's own slices. T1 and T1C come onto FLAIR's grid
where they share its frame of reference, and are left out, flagged, where they do not.
``study.source.dicom`` is the `DicomSource` that segmentation and report are written against.
"""

from __future__ import annotations

import hashlib
import os
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
from gliosight.flags import flag
from gliosight.read.checks import OTHERS, keep_real
from gliosight.read.detect import InputFile, relative
from gliosight.read.dicom.choose import choose_images, confirm_order, same_grid
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.dicom.files import discover, read_dicomdir, summed_up, without_copies
from gliosight.read.dicom.grouping import StudyKey
from gliosight.read.dicom.instances import Instance, is_dicomdir
from gliosight.read.dicom.series import Series, series_of
from gliosight.read.grid import LEAST_COVERED, pixels_of, resample
from gliosight.read.limits import Budget
from gliosight.read.naming import natural_key
from gliosight.study import DicomSource, Flag, MrSequence, Source, Study, TakenSeries, Volume

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
    """One study by its headers; no pixel has been read."""

    # Digest of the StudyInstanceUID, or of its images without one: no name, and the same wherever it lies.
    study_id: str
    series: tuple[Series, ...]  # also those that are never analysed
    folders: frozenset[Path]  # where its files lie
    # A file beside its own that is DICOM but cannot be read: it may be a slice of this study.
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
        Called with how many headers are read, of how many.

    Returns
    -------
    studies : list of DicomStudy
        In order of their ids.
    problems : list of (Path, GliosightError)
        Files that cannot be read and lie beside none of the studies.
    """
    files = list(files)
    problems = [(file.path, file.error) for file in files if file.error is not None]
    paths = [file.path for file in files if file.error is None]
    directory = paths[0] if len(paths) == 1 and is_dicomdir(paths[0]) else None
    if directory is not None:
        paths = read_dicomdir(directory, root, budget)
        if not paths:
            raise NothingReadableError(
                "the DICOMDIR names no file", where=directory.name, remedy="give the folder instead"
            )
    instances, unread = discover(paths, root, budget, tell)
    problems += unread
    incomplete = _incomplete(directory, problems) if directory is not None and problems else None
    problems = summed_up(problems)
    beside = {path.parent: error for path, error in reversed(problems)}
    studies = []
    for key, series in series_of(instances).items():
        folders = sorted(_folders(series))
        problem = incomplete or next((beside[path] for path in folders if path in beside), None)
        studies.append(_study(key, series, problem))
    studies.sort(key=lambda study: (natural_key(os.path.commonpath(study.folders)), study.study_id))
    if not studies and not problems:
        raise NothingReadableError(
            "no DICOM image, only a directory of them",
            where=paths[0].name if len(paths) == 1 else relative(root, root),
            remedy="give the folder that holds the images",
        )
    if directory is not None and incomplete is not None:
        return studies, [] if studies else [(directory, incomplete)]
    taken = frozenset().union(*(study.folders for study in studies))
    return studies, [problem for problem in problems if problem[0].parent not in taken]


def _incomplete(directory: Path, problems: list[tuple[Path, GliosightError]]) -> DamagedInputError:
    path, error = problems[0]
    many = f"{len(problems):,} files" if len(problems) > 1 else "a file"
    return DamagedInputError(
        f"the DICOMDIR names {many} that cannot be read, such as "
        f"{path.relative_to(directory.parent).as_posix()} ({error.what})",
        where=directory.name,
        remedy="copy the disc again, or give the folder instead to read what is there",
    )


def _study(key: StudyKey, series: tuple[Series, ...], problem: GliosightError | None) -> DicomStudy:
    flags = []
    if key.uid and key.patient:
        message = "Several patients have one StudyInstanceUID; each of them is taken for a study of its own."
        flags.append(flag("PATIENTS_APART", message))
    stacks = [stack for stack in series if stack.whole.joined > 1 and stack.shape[0] > 1]
    refused = bool(stacks) and all(stack.error is not None for stack in stacks)
    if key.joined > 1 and not refused:
        message = (
            f"The files name {key.joined} studies (StudyInstanceUID), which are taken for one."
        )
        flags.append(flag("STUDIES_JOINED", message))
    # Without a UID, what tells the study's images from others.
    names = [key.uid, key.patient] if key.uid else sorted(map(frames_digest, series))
    study_id = digest_of("\n".join(filter(None, names)))
    return DicomStudy(study_id, series, _folders(series), problem, tuple(flags))


def joined(parts: Sequence[DicomStudy], budget: Budget) -> list[tuple[tuple[int, ...], DicomStudy]]:
    """Studies whose files were found below several paths, sorted anew.

    Returns
    -------
    list of (tuple of int, DicomStudy)
        Each with the indices of its parts; what has not changed is the same object.
    """
    ids = {part.study_id for part in parts}
    single = any(len({series.whole for series in part.series}) == 1 for part in parts)
    if len(ids) == len(parts) and not single:  # whole studies, each with UIDs of its own
        return [((index,), part) for index, part in enumerate(parts)]
    part_of = {path: index for index, part in enumerate(parts) for path in _instances(part.series)}
    instances = [image for part in parts for image in _instances(part.series).values()]
    studies = []
    for key, series in series_of(without_copies(instances, budget)).items():
        indices = tuple(sorted({part_of[path] for path in _instances(series)}))
        mine = [parts[index] for index in indices]
        problem = next((part.problem for part in mine if part.problem is not None), None)
        study = _study(key, series, problem)
        flags = [note for part in mine for note in part.flags]
        study = replace(study, flags=tuple(dict.fromkeys((*flags, *study.flags))))
        same = _instances(mine[0].series) == _instances(series)
        if same and (study.study_id, study.flags) == (mine[0].study_id, mine[0].flags):
            study = mine[0]
        studies.append((indices, study))
    return sorted(studies, key=lambda pair: pair[0])


def _instances(series: Iterable[Series]) -> dict[Path, Instance]:
    return {frame.instance.path: frame.instance for stack in series for frame in stack.frames}


def _folders(series: Iterable[Series]) -> frozenset[Path]:
    return frozenset(path.parent for path in _instances(series))


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
        choice, values, notes = choose_images(source.series, budget, wanted or {}, decoder)
    flair = choice.chosen[MrSequence.FLAIR]
    notes += choice.flags
    arrays = {MrSequence.FLAIR: values[MrSequence.FLAIR]}
    left_out = [
        name for name in OTHERS if any(n.code == f"{name.value}_LEFT_OUT" for n in choice.flags)
    ]
    for name in OTHERS:
        if name not in choice.chosen:
            continue
        if name in values:
            placed, note = _on_grid(choice.chosen[name], name, flair, values[name], budget)
            notes += note
            if placed is not None:
                arrays[name] = placed
                continue
        left_out.append(name)
    choice, order_notes = confirm_order(choice, arrays, left_out)
    notes += order_notes
    lossy = any(n.code == "LOSSY_SOURCE" for name in arrays for n in choice.chosen[name].flags)
    kept, copies = keep_real(arrays, lossy=lossy, explained=left_out)
    used = {name: choice.chosen[name] for name in kept}
    return Study(
        study_id=source.study_id,
        sequences={name: Volume(array, flair.geometry) for name, array in kept.items()},
        slice_names=_slice_names(flair),
        kind="dicom",
        source=Source(
            dicom=_source(flair),
            series={name: _taken(series, choice.reasons[name]) for name, series in used.items()},
        ),
        flags=(*source.flags, *_flags_of(used), *dict.fromkeys(notes), *copies),
    )


def _flags_of(used: Mapping[MrSequence, Series]) -> list[Flag]:
    """The flags of the series that were used: FLAIR's own, and what the others add."""
    flags = list(used[MrSequence.FLAIR].flags)
    known = {(note.code, note.message) for note in flags}
    for name in OTHERS:
        if name in used:
            flags += [
                replace(note, message=f"{name.value}: {note.message}")
                for note in used[name].flags
                if (note.code, note.message) not in known
            ]
    return flags


def without_pixels(source: DicomStudy, digest: str) -> Study:
    """The study that stands on one of the series, by headers alone: its values are all 0.

    ``digest`` is what a result says of the frames that were taken for FLAIR: parts of a series share its UID.
    Raises `UnsupportedInputError` where the study has no such series.
    """
    flair = next((stack for stack in source.series if frames_digest(stack) == digest), None)
    if flair is None:
        raise UnsupportedInputError(
            "the images that were analysed are not among its series, or not all of them",
            where=source.study_id,
            remedy="give the folder that the result was made from",
        )
    blank = np.broadcast_to(np.uint8(0), flair.shape)
    return Study(
        study_id=source.study_id,
        sequences={MrSequence.FLAIR: Volume(blank, flair.geometry)},
        slice_names=_slice_names(flair),
        kind="dicom",
        source=Source(dicom=_source(flair)),
    )


def frames_digest(series: Series) -> str:
    """What stands for the very frames of a stack, in order."""
    # Stripped headers have no UIDs: then number, place and time stand for them.
    names = ["/".join((series.uid, str(series.number), series.part))]
    for frame in series.frames:
        header = frame.instance.header
        known = [str(header.get(keyword)) for keyword in _TELLING] if not series.uid else []
        names.append("/".join((str(header.get("SOPInstanceUID")), str(frame.number), *known)))
    return digest_of("\n".join(names))


def _slice_names(flair: Series) -> tuple[str, ...]:
    return tuple(f"slice_{index:03d}" for index in range(flair.shape[0]))


def _taken(series: Series, why: str) -> TakenSeries:
    frames = frames_digest(series)
    # Without a UID its frames name a series.
    return TakenSeries(digest_of(series.uid) if series.uid else frames, frames, why)


def _source(flair: Series) -> DicomSource:
    instances = list(dict.fromkeys(frame.instance for frame in flair.frames))
    rank = {instance: index for index, instance in enumerate(instances)}
    headers = tuple(instance.header for instance in instances)
    return DicomSource(headers, tuple((rank[f.instance], f.number) for f in flair.frames))


def _on_grid(
    series: Series, name: MrSequence, flair: Series, values: NDArray[Any], budget: Budget
) -> tuple[NDArray[Any] | None, list[Flag]]:
    """T1 or T1C on FLAIR's grid, or ``None`` where it does not cover FLAIR."""
    whose = f"{name.value} ({series.place})"
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
    budget.take(4 * int(np.prod(flair.shape)), series.frames[0].instance.where, packed=None)
    world, other, plane = flair.geometry, series.geometry, pixels_of(flair.shape)

    def places(index: int) -> NDArray[np.float64]:
        """Where the pixels of a FLAIR slice lie among the other's voxels."""
        voxels = np.vstack([np.full(plane.shape[1], float(index)), plane]).T
        return other.to_voxels(world.to_world(voxels)).T

    placed, covered = resample(values, places, flair.shape)
    if covered < LEAST_COVERED:  # about what its headers say, so this is rare
        message = f"{whose} covers only {covered:.0%} of FLAIR's volume and is left out."
        return None, [flag(f"{name.value}_LEFT_OUT", message)]
    message = f"{whose} lies on another grid than FLAIR and was resampled onto it."
    return placed, [flag(f"{name.value}_RESAMPLED", message)]
