"""Slices without geometry: TIFF, PNG and JPEG (read stage).

In: the picture files of one study, found by `folders`. Out: a `Study` of kind ``"slices"``. One
channel is FLAIR; three channels are T1, FLAIR and T1C, as in the LGG set. Slices stand in the order
of their numbers; there is no geometry, and resolution tags are not taken for one: they are the
printer's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.read.checks import (
    check_one_head,
    keep_real,
    make_finite,
    refuse_mask,
    refuse_other_colours,
)
from gliosight.read.detect import InputFile, Kind
from gliosight.read.flags import flag
from gliosight.read.folders import slice_places
from gliosight.read.limits import Budget, read_file
from gliosight.read.naming import natural_key, sequence_of, slice_number, stem
from gliosight.read.pictures import Picture, decode_picture
from gliosight.read.tiff import decode_tiff
from gliosight.study import Flag, MrSequence, Study, Volume

CHANNELS = (MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)

_NOTES = {
    "ALPHA_DROPPED": "The pictures have an opacity channel; it was left out.",
    "LOSSY_SOURCE": "The pictures were compressed with loss (JPEG); fine detail may be gone.",
    "TURNED_UPRIGHT": "The pictures say that they lie on their side; they were turned upright.",
}
# The LGG set's own pictures, which are composites whatever they look like.
LGG_NAME = re.compile(r"TCGA_[A-Z]{2}_[A-Z0-9]{4}_[0-9]{8}_[0-9]+")
# Slice numbers named in a message before it breaks off.
NAMED = 8
# The number of a series in a picture's name, as viewers export them: "IM-0004-0001.png".
_SERIES = re.compile(r"^(im|img|image|se|ser|series)[-_ ]?\d+$")


@dataclass(frozen=True)
class _Slice:
    """One page of one file: (rows, columns, channels)."""

    name: str
    where: str
    pixels: NDArray[Any]


def read_slices(
    found: Sequence[InputFile],
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
    found : sequence of InputFile
        All of one series, or a single file.
    study_id : str
    budget : Budget
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
    ordered, order_flags = in_order(found)
    slices: list[_Slice] = []
    notes: set[str] = set()
    for one in ordered:
        picture = _decode(one, budget)
        notes |= picture.notes
        slices += _pages(one, picture, alone=len(ordered) == 1)
    colour = any(one.pixels.shape[-1] == 3 for one in slices)
    if not colour:
        refuse_other_sequence(ordered, colour=False)
    stacked = _stack(slices)
    arrays: dict[MrSequence, NDArray[Any]] = {MrSequence.FLAIR: stacked[..., 0]}
    equal = False
    if colour:
        arrays = {name: stacked[..., index] for index, name in enumerate(CHANNELS)}
        equal = all(np.array_equal(one, arrays[MrSequence.FLAIR]) for one in arrays.values())
        refuse_other_sequence(ordered, colour=not equal)
    left_out = [
        name for name in CHANNELS if any(note.code == f"{name.value}_LEFT_OUT" for note in flags)
    ]
    for name, files in others.items():
        values, reason = _beside(files, found, arrays[MrSequence.FLAIR], budget)
        if values is not None:
            arrays[name] = values
            continue
        left_out.append(name)
        order_flags = (*order_flags, left_out_flag(name, reason))
    place = slices[0].where if len(slices) == 1 else study_id
    doubts: tuple[Flag, ...] = ()
    if not labelled:
        if colour and not all(LGG_NAME.fullmatch(stem(one.path.name)) for one in ordered):
            refuse_other_colours(stacked, place)
        if len(ordered) > 1:
            doubts = check_one_head(arrays[MrSequence.FLAIR], _numbers(ordered), place)
    sequences, pixel_flags = _finish(arrays, place, left_out, lossy="LOSSY_SOURCE" in notes)
    if equal:
        message = "The three channels are equal: they are taken as FLAIR, without T1 and T1C."
        pixel_flags = (flag("THREE_EQUAL_CHANNELS", message), *pixel_flags)
    noted = tuple(flag(code, _NOTES[code]) for code in sorted(notes))
    return Study(
        study_id=study_id,
        sequences=sequences,
        slice_names=tuple(one.name for one in slices),
        kind="slices",
        source={"files": tuple(one.path.name for one in ordered)},
        flags=(*flags, *order_flags, *doubts, *noted, *pixel_flags),
    )


def _beside(
    found: Sequence[InputFile], beside: Sequence[InputFile], flair: NDArray[Any], budget: Budget
) -> tuple[NDArray[Any] | None, str]:
    """The slices of another sequence, (slices, rows, columns), or why they do not fit those of FLAIR."""
    if reason := unlike_names(found, beside):
        return None, reason
    ordered, _ = in_order(found)
    slices = [
        page
        for file in ordered
        for page in _pages(file, _decode(file, budget), alone=len(ordered) == 1)
    ]
    stacked = _stack(slices)[..., 0]
    reason = unlike_flair(stacked.shape, flair.shape)
    return (None if reason else stacked), reason


def unlike_names(files: Sequence[InputFile], flair: Sequence[InputFile]) -> str:
    """Why pictures do not go with those of FLAIR by their names; empty where they do."""
    places, wanted = (
        {(_SERIES.sub("", series), number) for series, number in slice_places(group)}
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


def left_out_flag(name: MrSequence, reason: str) -> Flag:
    """The flag for a sequence whose slices do not fit those of FLAIR."""
    return flag(f"{name.value}_LEFT_OUT", f"{name.value} is left out: {reason}.")


def _decode(one: InputFile, budget: Budget) -> Picture:
    data = read_file(one.path, one.where, budget)
    if one.kind is Kind.TIFF:
        return decode_tiff(data, one.where, budget)
    return decode_picture(data, one.kind, one.where, budget)


def _pages(one: InputFile, picture: Picture, *, alone: bool) -> list[_Slice]:
    count = len(picture.pages)
    if count == 1:
        return [_Slice(stem(one.path.name), one.where, picture.pages[0])]
    if not alone:
        raise UnsupportedInputError(
            f"a stack of {count} pages stands among other slices",
            where=one.where,
            remedy="a multi-page TIFF is a study of its own, give it alone",
        )
    return [
        _Slice(f"{stem(one.path.name)}_p{number:03d}", f"{one.where}, page {number}", pixels)
        for number, pixels in enumerate(picture.pages, start=1)
    ]


def in_order(found: Sequence[InputFile]) -> tuple[list[InputFile], tuple[Flag, ...]]:
    """Sort slices by their number, or by name where there are no numbers.

    Raises
    ------
    DamagedInputError
        Two slices have one number or name.
    """
    if len(found) == 1:
        return list(found), ()
    numbers = _numbers(found)
    if numbers is None:
        ordered = sorted(found, key=lambda one: natural_key(one.path.name))
        _refuse_same([(stem(one.path.name), one) for one in ordered], "the name")
        message = "The names hold no slice numbers; the slices stand in the order of their names."
        return ordered, (flag("ORDER_BY_NAME", message),)
    pairs = sorted(
        zip(numbers, found, strict=True),
        key=lambda pair: pair[0],
    )
    _refuse_same(pairs, "slice number")
    return [one for _, one in pairs], _missing([number for number, _ in pairs])


def _numbers(found: Sequence[InputFile]) -> list[int] | None:
    """The slices' numbers; ``None`` where one has none."""
    numbers = [slice_number(one.path.name)[1] for one in found]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _refuse_same(pairs: Sequence[tuple[object, InputFile]], what: str) -> None:
    for (key, one), (next_key, other) in pairwise(pairs):
        if key == next_key:
            raise DamagedInputError(
                f"two files have {what} {key}",
                where=f"{one.where} and {other.where}",
                remedy="keep only one of them",
            )


def _missing(numbers: list[int]) -> tuple[Flag, ...]:
    """The flag for gaps in growing numbers; counted, not listed, since a gap may be a billion."""
    gaps = [(one + 1, two - 1) for one, two in pairwise(numbers) if two > one + 1]
    if not gaps:
        return ()
    count = sum(last - first + 1 for first, last in gaps)
    named = ", ".join(
        str(first) if first == last else f"{first} to {last}" for first, last in gaps[:NAMED]
    )
    more = ", ..." if len(gaps) > NAMED else ""
    verb = "slice number is" if count == 1 else "slice numbers are"
    message = f"{count:,} {verb} missing ({named}{more}); the volume is a lower bound."
    return (flag("MISSING_SLICES", message),)


def refuse_other_sequence(found: Sequence[InputFile], *, colour: bool) -> None:
    """Grey pictures whose name, and any whose folder, says another sequence are not FLAIR.

    Raises
    ------
    UnsupportedInputError
    """
    if colour and not any(one.sequence_folder for one in found):
        return
    for one in found:
        name = one.sequence
        if name is not None and name is not MrSequence.FLAIR:
            whose = "name" if sequence_of(one.path.name) else "folder"
            raise UnsupportedInputError(
                f"no FLAIR, the {whose} says {getattr(name, 'value', name)}",
                where=one.where,
                remedy="give the FLAIR slices, or rename them if they are FLAIR",
            )


def _stack(slices: Sequence[_Slice]) -> NDArray[Any]:
    """All slices as (slices, rows, columns, channels)."""
    first = slices[0]
    channels = max(one.pixels.shape[-1] for one in slices)
    for one in slices:
        if one.pixels.shape[:2] != first.pixels.shape[:2]:
            raise differ("size", first.where, one.where, _size(first), _size(one))
        if one.pixels.dtype != first.pixels.dtype:
            depths = str(first.pixels.dtype), str(one.pixels.dtype)
            raise differ("depth", first.where, one.where, *depths)
    # A grey picture among colour ones has three equal channels: PNG optimisers save blank slices
    # so.
    return np.stack(
        [np.broadcast_to(one.pixels, (*one.pixels.shape[:2], channels)) for one in slices]
    )


def differ(what: str, where: str, other: str, first: str, second: str) -> DamagedInputError:
    """The error for slices of two sizes or depths, and the places of the two."""
    return DamagedInputError(
        f"slices of one series differ in {what}, {first} and {second}",
        where=f"{where} and {other}",
        remedy="give slices of one series only",
    )


def _size(one: _Slice) -> str:
    rows, columns, _ = one.pixels.shape
    return f"{rows} x {columns}"


def _finish(
    arrays: dict[MrSequence, NDArray[Any]], where: str, left_out: list[MrSequence], *, lossy: bool
) -> tuple[dict[MrSequence, Volume], tuple[Flag, ...]]:
    flags: list[Flag] = []
    for name, values in arrays.items():
        arrays[name], odd = make_finite(values, name.value, where)
        flags += odd
    refuse_mask(arrays[MrSequence.FLAIR], "FLAIR", where)
    kept, copy_flags = keep_real(arrays, lossy=lossy, explained=left_out)
    volumes = {name: Volume(np.ascontiguousarray(values)) for name, values in kept.items()}
    return volumes, (*flags, *copy_flags)
