"""A study of NIfTI files: which file is which sequence, and all of them on FLAIR's grid (read stage).

The study's slice is the file's k, its row j, its column i. ``study.source.nifti_header`` is
what a mask in the same geometry needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError
from gliosight.read import grid, naming
from gliosight.read.arrays import doubts_of_axes, slices_lie_elsewhere
from gliosight.read.checks import OTHERS, keep_real, make_finite, refuse_mask
from gliosight.read.detect import InputFile
from gliosight.read.flags import flag
from gliosight.read.limits import Budget
from gliosight.read.nifti_file import Form, Header, Image, read_nifti_file
from gliosight.study import SAME_WITHIN, Flag, MrSequence, Source, Study, Volume

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

    ``volume_index`` says which volume of a 4-D file, from 0; for the others see `join`. Raises as
    `read_nifti_file` and `join`.
    """
    images = {
        name: read_nifti_file(files[name].path, files[name].where, budget, volume_index)
        for name in MrSequence
        if name in files
    }
    study = join(images, study_id, budget, kind="nifti", flags=flags, explained=explained)
    names = tuple(file.path.name for file in files.values())
    return replace(study, source=replace(study.source, files=names))


def join(
    images: Mapping[MrSequence, Image],
    study_id: str,
    budget: Budget,
    *,
    kind: Literal["nifti", "arrays"],
    flags: Sequence[Flag] = (),
    explained: Sequence[MrSequence] = (),
) -> Study:
    """Make a study of images on FLAIR's grid; ``explained`` sequences are left out and have their flag.

    Raises
    ------
    DamagedInputError, LimitExceededError
    UnsupportedInputError
        No geometry, and axes that are clearly in another order.
    """
    notes = list(flags)
    finite: dict[MrSequence, Image] = {}
    for name in MrSequence:
        if (image := images.get(name)) is None:
            continue
        # Before any interpolation: one NaN would spoil eight voxels.
        values, of_values = make_finite(image.values, name.value, image.where)
        refuse_mask(values, name.value, image.where)
        finite[name] = replace(image, values=values)
        # Only FLAIR's geometry becomes the study's.
        notes += [*(image.flags if name is MrSequence.FLAIR else ()), *of_values]
    flair = finite[MrSequence.FLAIR]
    if flair.geometry is None or flair.geometry.believed == "sizes":
        if slices_lie_elsewhere(flair.values.shape):
            raise UnsupportedInputError(
                f"nothing says how a volume of (i, j, k) = {flair.header.shape} lies, and its slices do not "
                "seem to follow each other along k",
                where=flair.where,
                remedy="convert the original DICOM again, or reorder its axes so that k counts the slices",
            )
        notes += doubts_of_axes(flair.values)
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: flair.values}
    left_out = list(explained)
    for name in OTHERS:
        if name not in finite:
            continue
        on_grid, of_grid = onto_grid(flair, finite[name], name.value, budget)
        notes += of_grid
        if on_grid is None:
            left_out.append(name)
        else:
            arrays[name] = on_grid
    real, copies = keep_real(arrays, explained=left_out)
    header = flair.header
    return Study(
        study_id=study_id,
        sequences={name: Volume(values, flair.geometry) for name, values in real.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(header.shape[2])),
        kind=kind,
        source=Source(nifti_header=header.fields),
        flags=(*notes, *copies),
    )


def onto_grid(
    flair: Image, other: Image, sequence: str, budget: Budget
) -> tuple[NDArray[Any] | None, tuple[Flag, ...]]:
    """T1 or T1C on FLAIR's grid: its own array where the grids are one, else interpolated.

    ``None`` where it is left out: the grids differ, and they hardly overlap or no valid form of one code, not
    a program's default, places both in the same world.
    """
    shape = flair.header.shape
    if shape == other.header.shape:
        if flair.used is not None and other.used is not None and flair.geometry is not None:
            smallest = min(*flair.geometry.spacing, flair.geometry.slice_spacing or np.inf)
            last = tuple(side - 1 for side in shape)
            away = grid.grid_distance(flair.used.affine, other.used.affine, last)
            if away <= SAME_WITHIN * smallest:
                return other.values, ()
        forms = (*flair.header.forms, *other.header.forms)
        if all(grid.is_default(form.affine) for form in forms):
            message = (
                f"Neither FLAIR nor {sequence} says where it lies; being of one shape, "
                "they are taken as one grid."
            )
            return other.values, (flag("GRID_ASSUMED", message),)
    pairs = product(_usable_forms(flair.header), _usable_forms(other.header))
    own, their = next((pair for pair in pairs if pair[0].code == pair[1].code), (None, None))
    if own is None or their is None:
        message = (
            f"{sequence} lies on another grid than FLAIR and the headers share no world; "
            f"{sequence} is left out."
        )
        return None, (flag(f"{sequence}_LEFT_OUT", message),)
    budget.take(4 * flair.values.size, other.where, packed=None)
    to_other = np.linalg.inv(their.affine) @ own.affine
    matrix = to_other[:3, :3][::-1, ::-1]  # from (i, j, k) to (slice, row, column), on both sides
    in_plane = matrix[:, 1:] @ grid.pixels_of(flair.values.shape) + to_other[:3, 3:][::-1]
    values, covered = grid.resample(
        other.values, lambda index: in_plane + matrix[:, :1] * index, flair.values.shape
    )
    if covered < grid.LEAST_COVERED:
        message = f"{sequence} covers only {covered:.0%} of FLAIR's volume and is left out."
        return None, (flag(f"{sequence}_LEFT_OUT", message),)
    message = f"{sequence} lies on another grid than FLAIR and was resampled onto it."
    return values, (flag(f"{sequence}_RESAMPLED", message),)


def _usable_forms(header: Header) -> list[Form]:
    """Those that place the image; a sheared one can be interpolated in all the same."""
    forms = []
    i, j, k = header.shape
    for form in header.forms:
        try:
            grid.geometry_of(form.affine[:, [2, 1, 0, 3]], (max(k, 2), j, i))
        except grid.ShearedAffineError:
            pass
        except grid.UnusableAffineError:
            continue
        if not grid.is_default(form.affine):
            forms.append(form)
    return forms


def assign(
    group: Sequence[InputFile], where: str, doubtful: Sequence[InputFile] = ()
) -> tuple[dict[MrSequence, InputFile], tuple[Flag, ...], tuple[MrSequence, ...]]:
    """Decide by their names and sidecars which file of a study is which sequence.

    ``doubtful`` T1 and T1C may belong to this study or to another (see `naming.group_by_flair`); they are
    left out, flagged. The third value are the sequences that were there but could not be told apart; they
    have a flag.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or several of which none is the best by its name.
    """
    if len(group) == 1 and group[0].shown.kind is None:
        return {MrSequence.FLAIR: group[0]}, assign_single(group[0]), ()
    with_agent = _with_agent(group)
    flair, flags = _choose_flair(group, where, with_agent)
    files, explained = {MrSequence.FLAIR: flair}, list[MrSequence]()
    # "anna_flair" and "anna_t1c" belong together, so "berta_t1" is of somebody else.
    by_words = any(
        naming.read_name(file.name).identity == naming.read_name(flair.name).identity
        for file in group
        if file.shown.kind in OTHERS
    )
    kinds = {file: file.shown.kind for file in group}
    kinds |= {file: MrSequence.T1C for file in with_agent if kinds[file] is MrSequence.T1}
    for sequence in OTHERS:
        candidates = [file for file in group if kinds[file] is sequence]
        if not candidates:  # GE's T1 with nulled fluid: beside FLAIR it is nothing else
            words = f"{sequence.value} and FLAIR"
            candidates = [file for file in group if file.shown.kind == words]
        chosen, why = _choose_beside(flair, candidates, by_words=by_words)
        unsure = [file for file in doubtful if file.shown.kind is sequence]
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
    return files, (*flags, *_flags_of(group, files, with_agent)), tuple(explained)


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
        return _flags_of([file], {MrSequence.FLAIR: file}, frozenset())
    raise UnsupportedInputError(
        f"no FLAIR, the {shown.basis} says {shown.words}",
        where=file.where,
        remedy="give the FLAIR file, or say with --flair FILE that this is it",
    )


def check_named(file: InputFile, sequence: MrSequence) -> tuple[Flag, ...]:
    """The flag for a file that was given as one sequence and is another by its name or its sidecar."""
    other = naming.another_than(sequence, file.shown.kind)
    if naming.is_mask(file.path.name):
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


def _with_agent(group: Sequence[InputFile]) -> frozenset[InputFile]:
    """The files called ``w`` contrast medium, if another one is called ``wo``: alone it is ignored."""
    agents = {file: naming.read_name(file.path.name).agent for file in group}
    if False not in agents.values():
        return frozenset()
    return frozenset(
        file for file, agent in agents.items() if agent and file.shown.contrast is None
    )


def _choose_flair(
    group: Sequence[InputFile], where: str, with_agent: frozenset[InputFile]
) -> tuple[InputFile, list[Flag]]:
    """The FLAIR of a study; of several, the best by its name."""
    flairs = [file for file in group if file.shown.kind is MrSequence.FLAIR]
    if not flairs:
        words = [
            f"{file.path.name} ({file.shown.words}{' by its sidecar' * (file.shown.basis == 'sidecar')})"
            for file in group
        ]
        raise UnsupportedInputError(
            f"no FLAIR, there is {_listed(words)}",
            where=where,
            remedy="name the file that is FLAIR with --flair FILE",
        )
    flairs.sort(key=lambda file: _merit(file, with_agent))
    flair, *others = flairs
    if not others:
        return flair, []
    merits = zip(MERITS, _merit(flair, with_agent), _merit(others[0], with_agent), strict=True)
    why = next((words for words, best, second in merits if best != second), None)
    if why is None:
        raise UnsupportedInputError(
            f"{len(flairs)} files say FLAIR ({_names(flairs)})",
            where=where,
            remedy="choose one with --flair FILE",
        )
    message = f"{flair.path.name} is taken for FLAIR, {why}; there is also {_names(others)}."
    return flair, [flag("FLAIR_CHOSEN", message)]


def _merit(file: InputFile, with_agent: frozenset[InputFile]) -> tuple[Any, ...]:
    """`NiftiName.merit`, then the series number: a later one may be after contrast medium."""
    name, number = naming.read_name(file.name), file.shown.series_number
    contrast, *others = name.merit
    numbers = naming.series_numbers_in(name.identity) if number is None else (number,)
    after = contrast or file.shown.contrast is True or file in with_agent
    return (after, *others, numbers)


def _choose_beside(
    flair: InputFile, candidates: list[InputFile], *, by_words: bool
) -> tuple[InputFile | None, str]:
    """The T1 or T1C that goes with FLAIR, or why it is missing; by names where they tell patients apart."""
    if not candidates:
        return None, ""
    name = naming.read_name(flair.name)
    fitting = []
    for file in candidates:
        other = naming.read_name(file.name)
        if naming.are_apart(name, other) or (by_words and naming.begin_apart(name, other)):
            continue
        words, numbers = naming.shared_tokens(name, other)
        fit = (
            other.identity != name.identity,
            -words,
            -numbers,
            not other.onto_flair,
            bool(other.processed) != bool(name.processed),
            other.processed,
            other.plane,
            -other.run,
        )
        fitting.append((fit, file))
    if not fitting:
        return None, "its name is of another patient or visit"
    fitting.sort(key=lambda pair: pair[0])
    if len(fitting) > 1 and fitting[0][0] == fitting[1][0]:
        return None, "several files say so"
    return fitting[0][1], ""


def _flags_of(
    group: Sequence[InputFile],
    files: Mapping[MrSequence, InputFile],
    with_agent: frozenset[InputFile],
) -> tuple[Flag, ...]:
    """What is odd of the files that are taken, and of those whose name promised a sequence."""
    flags = [note for file in files.values() for note in file.shown.flags]
    contradicting = [
        note
        for file in group
        if file not in files.values()
        for note in file.shown.flags
        if note.code == "NAME_CONTRADICTS"
    ]
    flair = files[MrSequence.FLAIR]
    if _merit(flair, with_agent)[0]:
        message = (
            f"{flair.path.name} is FLAIR after contrast medium; the network was trained on FLAIR "
            "before it."
        )
        flags.append(flag("FLAIR_CHOSEN", message))
    if flair.shown.confidence == "guess":
        message = f"{flair.path.name} is FLAIR {flair.shown.why}. That is a hint only; it is taken as FLAIR."
        flags.append(flag("SEQUENCE_ASSUMED", message))
    return (*flags, *contradicting[:NAMED])


def _names(files: Sequence[InputFile]) -> str:
    return _listed([file.where for file in files])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:NAMED]) + (", ..." if len(words) > NAMED else "")
