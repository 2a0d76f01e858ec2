"""A study of NIfTI files (read stage).

In: the file of each sequence, named by the user or by the files' names. Out: a `Study` of kind
``"nifti"`` on the FLAIR file's own grid: its k is our slice, its j our row, its i our column.
``study.source["nifti"]`` holds what a mask needs to be written in the same geometry: ``header`` (a
nibabel header with the file's forms) and ``shape`` (i, j, k).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import replace
from typing import Any, Literal

from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError
from gliosight.read.copies import OTHERS, keep_real
from gliosight.read.flags import flag
from gliosight.read.intensities import make_finite, refuse_mask
from gliosight.read.limits import Budget
from gliosight.read.naming import is_part_of, nifti_series, sequence_of
from gliosight.read.nifti_file import Image, read_nifti_file
from gliosight.read.recognise import Found
from gliosight.read.regrid import onto_grid
from gliosight.study import Flag, Sequence, Study, Volume

# Files named in a message before it breaks off.
NAMED = 6


def read_nifti(
    files: Mapping[Sequence, Found],
    study_id: str,
    budget: Budget,
    *,
    volume_index: int | None = None,
    flags: Ordered[Flag] = (),
    explained: Ordered[Sequence] = (),
) -> Study:
    """Read a study whose files are assigned to sequences; FLAIR is among them.

    Parameters
    ----------
    files : mapping of Sequence to Found
    study_id : str
    budget : Budget
    volume_index : int, optional
        Which volume of a 4-D file, from 0.
    flags : sequence of Flag
        What assigning the files had to say.
    explained : sequence of Sequence
        Sequences left out that have their flag already.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError, NothingReadableError, UsageError
    """
    images = {
        name: read_nifti_file(files[name].path, files[name].where, budget, volume_index)
        for name in (Sequence.FLAIR, *OTHERS)
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
    images: Mapping[Sequence, Image],
    study_id: str,
    budget: Budget,
    *,
    places: Mapping[Sequence, str],
    kind: Literal["nifti", "arrays"],
    flags: Ordered[Flag] = (),
    explained: Ordered[Sequence] = (),
) -> Study:
    """Make a study of images on FLAIR's grid, by the rules for values, grids and copies.

    Parameters
    ----------
    images : mapping of Sequence to Image
        FLAIR is among them.
    study_id : str
    budget : Budget
        Asked for what is resampled.
    places : mapping of Sequence to str
        What to call each image in an error.
    kind : {"nifti", "arrays"}
        What the study was read from.
    flags, explained
        See `read_nifti`.

    Raises
    ------
    DamagedInputError, LimitExceededError
    """
    noted: list[Flag] = list(flags)
    finite: dict[Sequence, Image] = {}
    for name in (Sequence.FLAIR, *OTHERS):
        if name not in images:
            continue
        # Before any interpolation: one NaN would spoil eight voxels.
        values, odd = make_finite(images[name].values, name.value, places[name])
        refuse_mask(values, name.value, places[name])
        finite[name] = replace(images[name], values=values)
        # Only FLAIR's geometry becomes the study's; another one's oddities show when it is regridded.
        noted += [*(images[name].flags if name is Sequence.FLAIR else ()), *odd]
    flair = finite[Sequence.FLAIR]
    arrays: dict[Sequence, NDArray[Any]] = {Sequence.FLAIR: flair.values}
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
    group: Ordered[Found], where: str
) -> tuple[dict[Sequence, Found], tuple[Flag, ...], tuple[Sequence, ...]]:
    """Decide by their names which file of a folder is which sequence.

    Returns
    -------
    files : dict of Sequence to Found
    flags : tuple of Flag
    explained : tuple of Sequence
        Sequences that were there but could not be told apart; they have a flag.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, or more than one.
    """
    said = {one: sequence_of(one.path.name) for one in group}
    flairs = [one for one, name in said.items() if name is Sequence.FLAIR]
    if len(group) == 1 and said[group[0]] is None:
        return {Sequence.FLAIR: group[0]}, (_assumed(),), ()
    if not flairs:
        raise UnsupportedInputError(
            f"no FLAIR, there is {_listed(said)}",
            where=where,
            remedy="name the file that is FLAIR with --flair FILE",
        )
    if len(flairs) > 1:
        raise UnsupportedInputError(
            f"{len(flairs)} files say FLAIR ({', '.join(one.path.name for one in flairs[:NAMED])})",
            where=where,
            remedy="choose one with --flair FILE",
        )
    files = {Sequence.FLAIR: flairs[0]}
    flags: list[Flag] = []
    explained: list[Sequence] = []
    series = nifti_series(flairs[0].path.name)
    for name in OTHERS:
        found = [one for one, what in said.items() if what is name]
        exact = [one for one in found if nifti_series(one.path.name) == series]
        fitting = exact or [one for one in found if is_part_of(series, nifti_series(one.path.name))]
        if len(fitting) == 1:
            files[name] = fitting[0]
        elif found:
            names = ", ".join(one.path.name for one in (fitting or found)[:NAMED])
            why = "several files say so" if fitting else "its name is of another study"
            message = (
                f"{name.value} is left out, {why} ({names}); choose with --{name.value.lower()}."
            )
            flags.append(flag(f"{name.value}_LEFT_OUT", message))
            explained.append(name)
    return files, tuple(flags), tuple(explained)


def assign_single(one: Found) -> tuple[Flag, ...]:
    """Judge a single file given as a study by its name.

    Raises
    ------
    UnsupportedInputError
        The name says another sequence than FLAIR.
    """
    name = sequence_of(one.path.name)
    if name is Sequence.FLAIR:
        return ()
    if name is None:
        return (_assumed(),)
    said = name.value if isinstance(name, Sequence) else name
    raise UnsupportedInputError(
        f"no FLAIR, the name says {said}",
        where=one.where,
        remedy="give the FLAIR file, or say with --flair FILE that this is it",
    )


def _assumed() -> Flag:
    message = "The file's name says no sequence; it is taken as FLAIR."
    return flag("SEQUENCE_ASSUMED", message)


def _listed(said: Mapping[Found, Sequence | str | None]) -> str:
    words = [
        f"{one.path.name} ({getattr(name, 'value', name) or 'unknown'})"
        for one, name in list(said.items())[:NAMED]
    ]
    return ", ".join(words) + (", ..." if len(said) > NAMED else "")
