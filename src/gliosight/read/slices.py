"""Slices without geometry: a study of TIFF, PNG and JPEG files (read stage).

One channel is FLAIR; three channels are T1, FLAIR and T1C, as in the LGG set. Slices stand in the order of
their numbers. Resolution tags are not taken for geometry: they are the printer's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.flags import flag
from gliosight.read.checks import (
    check_one_head,
    keep_real,
    lone_slice,
    make_finite,
    refuse_mask,
    refuse_other_colours,
)
from gliosight.read.detect import InputFile, Kind
from gliosight.read.folders import left_out_flag, slice_places
from gliosight.read.limits import Budget, read_file
from gliosight.read.naming import natural_key, sequence_of, slice_number, stem
from gliosight.read.pictures import decode_picture
from gliosight.read.tiff import decode_tiff
from gliosight.study import Flag, MrSequence, Source, Study, Volume

CHANNELS = (MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)
NOTES = {
    "ALPHA_DROPPED": "The pictures have an opacity channel; it was left out.",
    "LOSSY_SOURCE": "The pictures were compressed with loss (JPEG); fine detail may be gone.",
    "TURNED_UPRIGHT": "The pictures say that they lie on their side; they were turned upright.",
}
# The LGG set's own pictures, which are composites whatever they look like.
LGG_NAME = re.compile(r"TCGA_[A-Z]{2}_[A-Z0-9]{4}_[0-9]{8}_[0-9]+")
# Slice numbers named in a message before it breaks off.
NAMED = 8
# The number of a series in a picture's name, as viewers export them: "IM-0004-0001.png".
SERIES = re.compile(r"^(im|img|image|se|ser|series)[-_ ]?\d+$")


class _Slice(NamedTuple):
    """One page of one file."""

    name: str
    where: str
    pixels: NDArray[Any]  # (rows, columns, channels)


def read_slices(
    files: Sequence[InputFile],
    study_id: str,
    budget: Budget,
    flags: Sequence[Flag] = (),
    *,
    others: Mapping[MrSequence, Sequence[InputFile]] = MappingProxyType({}),
    labelled: bool = False,
) -> Study:
    """Read the slices of one study.

    Parameters
    ----------
    files : sequence of InputFile
        All of one series, or a single file.
    flags : sequence of Flag
        Flags of finding them.
    others : mapping of MrSequence to sequence of InputFile
        The slices of T1 and T1C where each sequence has a folder of its own. What does not have FLAIR's
        names, numbers and size is left out, flagged.
    labelled : bool
        Someone has listed these slices and their masks: what they show is not doubted.

    Raises
    ------
    DamagedInputError
        Broken files, different sizes or depths, two files for one slice number, a mask.
    UnsupportedInputError
        Colour models that are not read; names that say another sequence; a stack among slices; colour
        pictures that are not composites of MR; pictures that are not slices of one head.
    LimitExceededError
    """
    ordered, order_flags = in_order(files)
    notes: set[str] = set()
    slices = _decode(ordered, budget, notes)
    colour = any(page.pixels.shape[-1] == 3 for page in slices)
    if not colour:
        refuse_other_sequence(ordered, colour=False)
    stacked = _stack(slices)
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: stacked[..., 0]}
    equal = False
    if colour:
        arrays = {sequence: stacked[..., index] for index, sequence in enumerate(CHANNELS)}
        equal = all(np.array_equal(values, stacked[..., 1]) for values in arrays.values())
        refuse_other_sequence(ordered, colour=not equal)
    noted = [*flags, *order_flags]
    for sequence, beside in others.items():
        values = _beside(beside, files, stacked.shape[:3], budget)
        if isinstance(values, str):
            noted.append(left_out_flag(sequence, values))
        else:
            arrays[sequence] = values
    where = slices[0].where if len(slices) == 1 else study_id
    if not labelled:
        if colour and not all(LGG_NAME.fullmatch(stem(file.path.name)) for file in ordered):
            refuse_other_colours(stacked, where)
        if len(ordered) > 1:
            noted += check_one_head(arrays[MrSequence.FLAIR], _numbers(ordered), where)
    noted += [flag(code, NOTES[code]) for code in sorted(notes)]
    if equal:
        message = "The three channels are equal: they are taken as FLAIR, without T1 and T1C."
        noted.append(flag("THREE_EQUAL_CHANNELS", message))
    for sequence, values in arrays.items():
        arrays[sequence], odd = make_finite(values, sequence.value, where)
        noted += odd
    refuse_mask(arrays[MrSequence.FLAIR], "FLAIR", where)
    codes = {note.code for note in noted}
    explained = [sequence for sequence in CHANNELS if f"{sequence.value}_LEFT_OUT" in codes]
    real, copy_flags = keep_real(arrays, lossy="LOSSY_SOURCE" in notes, explained=explained)
    return Study(
        study_id=study_id,
        sequences={name: Volume(np.ascontiguousarray(values)) for name, values in real.items()},
        slice_names=tuple(page.name for page in slices),
        kind="slices",
        source=Source(files=tuple(file.path.name for file in ordered)),
        flags=(*noted, *lone_slice(len(stacked), None), *copy_flags),
    )


def _decode(files: Sequence[InputFile], budget: Budget, notes: set[str]) -> list[_Slice]:
    """The pages of all files; the codes of the flags that are due are added to ``notes``."""
    slices = []
    for file in files:
        data = read_file(file.path, file.where, budget)
        if file.kind is Kind.TIFF:
            picture = decode_tiff(data, file.where, budget)
        else:
            picture = decode_picture(data, file.kind, file.where, budget)
        notes |= picture.notes
        name, pages = stem(file.path.name), picture.pages
        if len(pages) == 1:
            slices.append(_Slice(name, file.where, pages[0]))
        elif len(files) > 1:
            what = f"a stack of {len(pages)} pages stands among other slices"
            remedy = "a multi-page TIFF is a study of its own, give it alone"
            raise UnsupportedInputError(what, where=file.where, remedy=remedy)
        else:
            slices += [
                _Slice(f"{name}_p{number:03d}", f"{file.where}, page {number}", pixels)
                for number, pixels in enumerate(pages, start=1)
            ]
    return slices


def _beside(
    files: Sequence[InputFile], flair: Sequence[InputFile], shape: tuple[int, ...], budget: Budget
) -> NDArray[Any] | str:
    """The slices of another sequence, (slices, rows, columns), or why they do not fit those of FLAIR."""
    if reason := unlike_names(files, flair):
        return reason
    values = _stack(_decode(in_order(files)[0], budget, set()))[..., 0]
    return unlike_flair(values.shape, shape) or values


def unlike_names(files: Sequence[InputFile], flair: Sequence[InputFile]) -> str:
    """Why pictures do not go with those of FLAIR by their names; empty where they do."""
    places, wanted = (
        {(SERIES.sub("", series), number) for series, number in slice_places(group)}
        for group in (files, flair)
    )
    if {series for series, _ in places} != {series for series, _ in wanted}:
        return f"its pictures are called otherwise than those of FLAIR, such as {files[0].where}"
    if len(places) == len(wanted) and places != wanted:
        return "its pictures have other numbers than those of FLAIR"
    return ""


def unlike_flair(shape: tuple[int, ...], flair: tuple[int, ...]) -> str:
    """Why slices of this number and size do not fit those of FLAIR; empty where they do."""
    if shape == flair:
        return ""
    sizes = [" x ".join(str(side) for side in sides) for sides in (shape, flair)]
    return f"its slices are {sizes[0]}, those of FLAIR {sizes[1]}"


def in_order(files: Sequence[InputFile]) -> tuple[list[InputFile], tuple[Flag, ...]]:
    """Sort slices by their number, or by name where one has no number.

    Raises `DamagedInputError` if two slices have one number or name.
    """
    if len(files) == 1:
        return list(files), ()
    numbers = _numbers(files)
    keys: list[Any] = numbers or [natural_key(file.path.name) for file in files]
    pairs = sorted(zip(keys, files, strict=True), key=itemgetter(0))
    for (key, file), (next_key, other) in pairwise(pairs):
        same_name = stem(file.path.name) == stem(other.path.name)
        if key == next_key if numbers else same_name:
            what = f"slice number {key}" if numbers else f"the name {stem(file.path.name)}"
            where = f"{file.where} and {other.where}"
            remedy = "keep only one of them"
            raise DamagedInputError(f"two files have {what}", where=where, remedy=remedy)
    if numbers:
        flags = _missing(sorted(numbers))
    else:
        message = "The names hold no slice numbers; the slices stand in the order of their names."
        flags = (flag("ORDER_BY_NAME", message),)
    return [file for _, file in pairs], flags


def _numbers(files: Sequence[InputFile]) -> list[int] | None:
    """The slices' numbers; ``None`` where one has none."""
    numbers = [slice_number(file.path.name)[1] for file in files]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _missing(numbers: list[int]) -> tuple[Flag, ...]:
    """The flag for gaps in growing numbers; counted, not listed, since a gap may be a billion."""
    gaps = [(before + 1, after - 1) for before, after in pairwise(numbers) if after > before + 1]
    if not gaps:
        return ()
    count = sum(last - first + 1 for first, last in gaps)
    named = [str(first) if first == last else f"{first} to {last}" for first, last in gaps[:NAMED]]
    listed = ", ".join(named + ["..."] * (len(gaps) > NAMED))
    verb = "slice number is" if count == 1 else "slice numbers are"
    message = f"{count:,} {verb} missing ({listed}); the volume is a lower bound."
    return (flag("MISSING_SLICES", message),)


def refuse_other_sequence(files: Sequence[InputFile], *, colour: bool) -> None:
    """Refuse grey pictures whose name, and any whose folder, says another sequence than FLAIR."""
    if colour and not any(file.sequence_folder for file in files):
        return
    for file in files:
        sequence = file.sequence
        if sequence is not None and sequence is not MrSequence.FLAIR:
            whose = "name" if sequence_of(file.path.name) else "folder"
            what = f"no FLAIR, the {whose} says {getattr(sequence, 'value', sequence)}"
            remedy = "give the FLAIR slices, or rename them if they are FLAIR"
            raise UnsupportedInputError(what, where=file.where, remedy=remedy)


def _stack(slices: Sequence[_Slice]) -> NDArray[Any]:
    """All slices as (slices, rows, columns, channels)."""
    first = slices[0]
    for page in slices:
        (rows, columns, _), (other_rows, other_columns, _) = first.pixels.shape, page.pixels.shape
        sizes = f"{rows} x {columns}", f"{other_rows} x {other_columns}"
        depths = str(first.pixels.dtype), str(page.pixels.dtype)
        for what, (value, other) in (("size", sizes), ("depth", depths)):
            if value != other:
                raise differ(what, first.where, page.where, value, other)
    # A grey picture among colour ones has three equal channels: PNG optimisers save blank slices so.
    shape = np.broadcast_shapes(*(page.pixels.shape for page in slices))
    return np.stack([np.broadcast_to(page.pixels, shape) for page in slices])


def differ(what: str, where: str, other: str, first: str, second: str) -> DamagedInputError:
    """The error for slices of two sizes or depths, and the places of the two."""
    return DamagedInputError(
        f"slices of one series differ in {what}, {first} and {second}",
        where=f"{where} and {other}",
        remedy="give slices of one series only",
    )
