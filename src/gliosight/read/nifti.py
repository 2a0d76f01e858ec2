"""A study of NIfTI files (read stage).

In: the file of each sequence, named by the user, or by the files' names and sidecars. Out: a `Study` of kind
``"nifti"`` on the FLAIR file's own grid: its k is our slice, its j our row, its i our column.
``study.source["nifti"]`` holds what a mask needs to be written in the same geometry: ``header`` (a
nibabel header with the file's forms) and ``shape`` (i, j, k).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError
from gliosight.read.arrays import doubts_of_axes, slices_lie_elsewhere
from gliosight.read.copies import OTHERS, keep_real
from gliosight.read.detect import InputFile
from gliosight.read.flags import flag
from gliosight.read.intensities import make_finite, refuse_mask
from gliosight.read.limits import Budget
from gliosight.read.naming import (
    another_than,
    are_apart,
    begin_apart,
    is_mask,
    read_name,
    series_numbers_in,
    shared_tokens,
)
from gliosight.read.nifti_file import Image, read_nifti_file
from gliosight.read.regrid import onto_grid
from gliosight.study import Flag, MrSequence, Study, Volume

# Files named in a message before it breaks off.
NAMED = 6
# Why a FLAIR file goes before another, by the parts of `_merit`.
MERITS = (
    "before contrast medium",
    "the original by its name",
    "axial or three-dimensional by its name",
    "the last run",
    "the shortest name",
    "the first series by its number",
)


def read_nifti(
    files: Mapping[MrSequence, InputFile],
    study_id: str,
    budget: Budget,
    *,
    volume_index: int | None = None,
    flags: Sequence[Flag] = (),
    explained: Sequence[MrSequence] = (),
) -> Study:
    """Read a study whose files are assigned to sequences; FLAIR is among them.

    Parameters
    ----------
    files : mapping of MrSequence to InputFile
    study_id : str
    budget : Budget
    volume_index : int, optional
        Which volume of a 4-D file, from 0.
    flags : sequence of Flag
        Flags of assigning the files.
    explained : sequence of MrSequence
        Sequences left out that have their flag already.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError, NothingReadableError, UsageError
    """
    images = {
        name: read_nifti_file(files[name].path, files[name].where, budget, volume_index)
        for name in (MrSequence.FLAIR, *OTHERS)
        if name in files
    }
    study = join(
        images,
        study_id,
        budget,
        places={name: one.where for name, one in files.items()},
        kind="nifti",
        flags=flags,
        explained=explained,
    )
    names = tuple(one.path.name for one in files.values())
    return replace(study, source={**study.source, "files": names})


def join(
    images: Mapping[MrSequence, Image],
    study_id: str,
    budget: Budget,
    *,
    places: Mapping[MrSequence, str],
    kind: Literal["nifti", "arrays"],
    flags: Sequence[Flag] = (),
    explained: Sequence[MrSequence] = (),
) -> Study:
    """Make a study of images on FLAIR's grid, by the rules for values, grids and copies.

    Parameters
    ----------
    images : mapping of MrSequence to Image
        FLAIR is among them.
    study_id : str
    budget : Budget
        Asked for what is resampled.
    places : mapping of MrSequence to str
        What to call each image in an error.
    kind : {"nifti", "arrays"}
        What the study was read from.
    flags, explained
        See `read_nifti`.

    Raises
    ------
    DamagedInputError, LimitExceededError
    UnsupportedInputError
        No geometry, and axes that are clearly in another order.
    """
    noted: list[Flag] = list(flags)
    finite: dict[MrSequence, Image] = {}
    for name in (MrSequence.FLAIR, *OTHERS):
        if name not in images:
            continue
        # Before any interpolation: one NaN would spoil eight voxels.
        values, odd = make_finite(images[name].values, name.value, places[name])
        refuse_mask(values, name.value, places[name])
        finite[name] = replace(images[name], values=values)
        # Only FLAIR's geometry becomes the study's; another one's oddities show when it is regridded.
        noted += [*(images[name].flags if name is MrSequence.FLAIR else ()), *odd]
    flair = finite[MrSequence.FLAIR]
    if flair.geometry is None or flair.geometry.believed == "sizes":
        if slices_lie_elsewhere(flair.values.shape):
            raise UnsupportedInputError(
                f"nothing says how a volume of (i, j, k) = {flair.header.shape} lies, and its slices do not "
                "seem to follow each other along k",
                where=places[MrSequence.FLAIR],
                remedy="convert the original DICOM again, or reorder its axes so that k counts the slices",
            )
        noted += doubts_of_axes(flair.values)
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: flair.values}
    left_out = list(explained)
    for name in OTHERS:
        if name not in finite:
            continue
        placed = onto_grid(flair, finite[name], name.value, places[name], budget)
        noted += placed.flags
        if placed.values is None:
            left_out.append(name)
        else:
            arrays[name] = placed.values
    real, copy_flags = keep_real(arrays, explained=left_out)
    header = flair.header
    return Study(
        study_id=study_id,
        sequences={name: Volume(values, flair.geometry) for name, values in real.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(header.shape[2])),
        kind=kind,
        source={"nifti": {"header": header.fields, "shape": header.shape}},
        flags=(*noted, *copy_flags),
    )


def assign(
    group: Sequence[InputFile], where: str, doubtful: Sequence[InputFile] = ()
) -> tuple[dict[MrSequence, InputFile], tuple[Flag, ...], tuple[MrSequence, ...]]:
    """Decide by their names and sidecars which file of a study is which sequence.

    Parameters
    ----------
    group : sequence of InputFile
        The files of one study, see `naming.group_by_flair`.
    where : str
    doubtful : sequence of InputFile
        T1 and T1C that may belong to this study or to another; they are left out, flagged.

    Returns
    -------
    files : dict of MrSequence to InputFile
    flags : tuple of Flag
    explained : tuple of MrSequence
        Sequences that were there but could not be told apart; they have a flag.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or several of which none is the best by its name.
    """
    if len(group) == 1 and group[0].shown.kind is None:
        return {MrSequence.FLAIR: group[0]}, assign_single(group[0]), ()
    with_agent = _said_with(group)
    flair, flags = _choose_flair(group, where, with_agent)
    files, explained = {MrSequence.FLAIR: flair}, list[MrSequence]()
    # "anna_flair" and "anna_t1c" belong together, so "berta_t1" is of somebody else.
    by_words = any(
        read_name(file.name).identity == read_name(flair.name).identity
        for file in group
        if file.shown.kind in OTHERS
    )
    for sequence in OTHERS:
        candidates = [file for file in group if _kind(file, with_agent) is sequence]
        if not candidates:  # GE's T1 with nulled fluid: beside FLAIR it is nothing else
            words = f"{sequence.value} and FLAIR"
            candidates = [file for file in group if file.shown.kind == words]
        chosen, why = _choose_beside(flair, candidates, by_words=by_words)
        unsure = [file for file in doubtful if _kind(file, with_agent) is sequence]
        if chosen is not None:
            files[sequence] = chosen
            if unused := [file for file in candidates if file is not chosen] + unsure:
                message = (
                    f"{chosen.path.name} is taken for {sequence.value}; not used: {_names(unused)}."
                )
                flags.append(flag("FILES_IGNORED", message))
            continue
        if not candidates and unsure:
            why = "its name does not say to which of several FLAIR files it belongs"
        if why:
            option = f"--{sequence.value.lower()}"
            message = (
                f"{sequence.value} is left out, {why} ({_names([*candidates, *unsure])}); name the "
                f"files with --flair and {option}."
            )
            flags.append(flag(f"{sequence.value}_LEFT_OUT", message))
            explained.append(sequence)
    return files, (*flags, *_flags_of(group, files)), tuple(explained)


def assign_single(file: InputFile) -> tuple[Flag, ...]:
    """Judge a single file given as a study by its name and its sidecar.

    Raises
    ------
    UnsupportedInputError
        They say another sequence than FLAIR.
    """
    shown = file.shown
    if shown.kind is None:
        message = "Neither name nor folder says a sequence; the file is taken as FLAIR."
        return (*shown.flags, flag("SEQUENCE_ASSUMED", message))
    if shown.kind is MrSequence.FLAIR:
        return _flags_of([file], {MrSequence.FLAIR: file})
    raise UnsupportedInputError(
        f"no FLAIR, the {shown.basis} says {shown.words}",
        where=file.where,
        remedy="give the FLAIR file, or say with --flair FILE that this is it",
    )


def check_named(file: InputFile, sequence: MrSequence) -> tuple[Flag, ...]:
    """The flag for a file that was given as one sequence and is another by its name or its sidecar."""
    other = another_than(sequence, file.shown.kind)
    if is_mask(file.path.name):
        instead = "a mask or label map by its name"
    elif other is not None:
        instead = f"{other} by its {file.shown.basis}"
    else:
        return ()
    message = (
        f"The file given as {sequence.value} ({file.path.name}) is {instead}; it is used as "
        f"{sequence.value} all the same."
    )
    return (flag("NAME_CONTRADICTS", message),)


def _said_with(group: Sequence[InputFile]) -> frozenset[InputFile]:
    """The files called ``w`` contrast medium, if another one is called ``wo``: alone it says nothing."""
    agents = {file: read_name(file.path.name).agent for file in group}
    if False not in agents.values():
        return frozenset()
    return frozenset(
        file for file, agent in agents.items() if agent and file.shown.contrast is None
    )


def _kind(file: InputFile, with_agent: frozenset[InputFile]) -> MrSequence | str | None:
    kind = file.shown.kind
    return MrSequence.T1C if kind is MrSequence.T1 and file in with_agent else kind


def _choose_flair(
    group: Sequence[InputFile], where: str, with_agent: frozenset[InputFile]
) -> tuple[InputFile, list[Flag]]:
    """The FLAIR of a study; of several, the best by its name."""
    flairs = [file for file in group if file.shown.kind is MrSequence.FLAIR]
    if not flairs:
        raise UnsupportedInputError(
            f"no FLAIR, there is {_listed(group)}",
            where=where,
            remedy="name the file that is FLAIR with --flair FILE",
        )
    flairs.sort(key=lambda file: _merit(file, with_agent))
    if len(flairs) == 1:
        return flairs[0], []
    best, next_best = (_merit(file, with_agent) for file in flairs[:2])
    if best == next_best:
        raise UnsupportedInputError(
            f"{len(flairs)} files say FLAIR ({_names(flairs)})",
            where=where,
            remedy="choose one with --flair FILE",
        )
    differing = [this != that for this, that in zip(best, next_best, strict=True)]
    why = MERITS[differing.index(True)]
    message = (
        f"{flairs[0].path.name} is taken for FLAIR, {why}; there is also {_names(flairs[1:])}."
    )
    return flairs[0], [flag("FLAIR_CHOSEN", message)]


def _choose_beside(
    flair: InputFile, candidates: list[InputFile], *, by_words: bool
) -> tuple[InputFile | None, str]:
    """The T1 or T1C that goes with FLAIR, or why it is missing; by names where they tell patients apart."""
    if not candidates:
        return None, ""
    name = read_name(flair.name)
    fitting = [
        file
        for file in candidates
        if not are_apart(name, read_name(file.name))
        and not (by_words and begin_apart(name, read_name(file.name)))
    ]
    if not fitting:
        return None, "its name is of another patient or visit"

    def fit(file: InputFile) -> tuple[Any, ...]:
        other = read_name(file.name)
        return (
            other.identity != name.identity,
            *(-count for count in shared_tokens(name, other)),
            not other.onto_flair,
            bool(other.processed) != bool(name.processed),
            other.processed,
            other.plane,
            -other.run,
        )

    fitting.sort(key=fit)
    if len(fitting) > 1 and fit(fitting[0]) == fit(fitting[1]):
        return None, "several files say so"
    return fitting[0], ""


def _merit(file: InputFile, with_agent: frozenset[InputFile]) -> tuple[Any, ...]:
    """`NiftiName.merit`, then the series number: a later one may be after contrast medium."""
    name, number = read_name(file.name), file.shown.series_number
    contrast, *others = name.merit
    numbers = series_numbers_in(name.identity) if number is None else (number,)
    after = contrast or file.shown.contrast is True or file in with_agent
    return (after, *others, numbers)


def _flags_of(
    group: Iterable[InputFile], files: Mapping[MrSequence, InputFile]
) -> tuple[Flag, ...]:
    """What is odd of the files that are taken, and of those whose name promised a sequence."""
    flags = [note for file in files.values() for note in file.shown.flags]
    others = [file for file in group if file not in files.values()]
    contradicting = [
        note for file in others for note in file.shown.flags if note.code == "NAME_CONTRADICTS"
    ]
    flair = files[MrSequence.FLAIR].shown
    if _merit(files[MrSequence.FLAIR], _said_with(list(group)))[0]:
        message = (
            f"{files[MrSequence.FLAIR].path.name} is FLAIR after contrast medium; the network was trained on "
            "FLAIR before it."
        )
        flags.append(flag("FLAIR_CHOSEN", message))
    if flair.confidence == "guess":
        name = files[MrSequence.FLAIR].path.name
        message = f"{name} is FLAIR {flair.why}. That is a hint only; it is taken as FLAIR."
        flags.append(flag("SEQUENCE_ASSUMED", message))
    return (*flags, *contradicting[:NAMED])


def _names(files: Sequence[InputFile]) -> str:
    """Names for a message."""
    more = ", ..." if len(files) > NAMED else ""
    return ", ".join(file.where for file in files[:NAMED]) + more


def _listed(files: Sequence[InputFile]) -> str:
    """Names for a message, with what each shows."""
    words = [
        f"{file.path.name} ({file.shown.words}{' by its sidecar' if file.shown.basis == 'sidecar' else ''})"
        for file in files[:NAMED]
    ]
    return ", ".join(words) + (", ..." if len(files) > NAMED else "")
