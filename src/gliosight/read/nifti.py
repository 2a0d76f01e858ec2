"""A study of NIfTI files (read stage).

In: the file of each sequence, named by the user or by the files' names. Out: a `Study` of kind
``"nifti"`` on the FLAIR file's own grid: its k is our slice, its j our row, its i our column.
``study.source["nifti"]`` holds what a mask needs to be written in the same geometry: ``header`` (a
nibabel header, as in the file but for free text), ``affine`` (4, 4) from ``(i, j, k, 1)`` as in the
file, in the file's unit (``None`` where it has none), and ``shape`` (i, j, k).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import UnsupportedInputError
from gliosight.read.copies import OTHERS, keep_real
from gliosight.read.flags import flag
from gliosight.read.intensities import make_finite, refuse_mask
from gliosight.read.limits import Budget
from gliosight.read.naming import contradiction, is_part_of, nifti_series, sequence_of
from gliosight.read.nifti_file import Image, read_nifti_file
from gliosight.read.nifti_header import Header
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
    images: dict[Sequence, Image] = {}
    noted: list[Flag] = list(flags)
    for name in (Sequence.FLAIR, *OTHERS):
        if name in files:
            images[name], odd = _read_one(files[name], name, budget, volume_index)
            noted += odd
    flair = images[Sequence.FLAIR]
    arrays: dict[Sequence, NDArray[Any]] = {Sequence.FLAIR: flair.values}
    left_out = list(explained)
    for name in OTHERS:
        if name not in images:
            continue
        placed = onto_grid(flair, images[name], name.value, files[name].where, budget)
        noted += placed.flags
        if placed.values is None:
            left_out.append(name)
        else:
            arrays[name] = placed.values
    kept, copy_flags = keep_real(arrays, explained=left_out)
    header = flair.header
    return Study(
        study_id=study_id,
        sequences={name: Volume(values, flair.geometry) for name, values in kept.items()},
        slice_names=tuple(f"slice_{index:03d}" for index in range(header.shape[2])),
        kind="nifti",
        source={
            "nifti": {
                "header": header.fields,
                "affine": _affine_in_file(header),
                "shape": header.shape,
            },
            "files": tuple(one.path.name for one in files.values()),
        },
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
    said = {file: _sequence(file) for file in group}
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
    name = _sequence(one)
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


def _sequence(file: Found) -> Sequence | str | None:
    """The sequence that a file's name says, else its folder's."""
    return sequence_of(file.path.name) or file.folder_sequence


def check_named(file: Found, sequence: Sequence) -> tuple[Flag, ...]:
    """The flag for a file that was named as one sequence and is called like another."""
    if (instead := contradiction(file.path.name, sequence)) is None:
        return ()
    message = (
        f"The file given as {sequence.value} ({file.path.name}) is {instead} by its name; it is used as "
        f"{sequence.value} all the same."
    )
    return (flag("NAME_CONTRADICTS", message),)


def _read_one(
    one: Found, name: Sequence, budget: Budget, volume_index: int | None
) -> tuple[Image, list[Flag]]:
    image = read_nifti_file(one.path, one.where, budget, volume_index)
    # Before any interpolation: one NaN would spoil eight voxels.
    values, odd = make_finite(image.values, name.value, one.where)
    refuse_mask(values, name.value, one.where)
    finite = Image(values, image.header, image.used, image.geometry, image.flags)
    # Only FLAIR's geometry becomes the study's; another one's oddities show when it is regridded.
    own = image.flags if name is Sequence.FLAIR else ()
    return finite, [*own, *odd]


@np.errstate(all="ignore")  # any bits may stand in a header
def _affine_in_file(header: Header) -> NDArray[np.float64] | None:
    fields = header.fields
    if int(fields["sform_code"]) > 0:
        affine = np.eye(4)
        affine[:3] = [fields["srow_x"], fields["srow_y"], fields["srow_z"]]
        if np.isfinite(affine).all():
            return affine
    forms = [one for one in header.forms if one.name == "qform" and np.isfinite(one.affine).all()]
    if not forms:
        return None
    return np.linalg.inv(header.to_millimetres) @ forms[0].affine


def _assumed() -> Flag:
    message = "The file's name says no sequence; it is taken as FLAIR."
    return flag("SEQUENCE_ASSUMED", message)


def _listed(said: Mapping[Found, Sequence | str | None]) -> str:
    words = [
        f"{one.path.name} ({getattr(name, 'value', name) or 'unknown'})"
        for one, name in list(said.items())[:NAMED]
    ]
    return ", ".join(words) + (", ..." if len(said) > NAMED else "")
