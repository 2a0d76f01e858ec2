"""One series, several stacks: which frames belong together (read stage, DICOM, below `series`).

In: the frames of one series. Out: `Part`, groups of frames that make one stack each, with the words that tell
it from the others, and the reason where they make none. What differs in direction, size or kind of image is
split at once; echo, time, diffusion weighting and the like only where positions repeat, by the tag that
explains the repetition (dimensions of PS3.3 section C.7.6.17 and their classic counterparts). A number that
merely counts slices explains nothing, as when every slice is an acquisition of its own. Before that,
`mixtures` takes apart what exports have thrown into one series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError
from gliosight.read.dicom.acquisition import Acquisition, Frame, frame_count
from gliosight.read.dicom.elements import number, stored
from gliosight.read.dicom.mixtures import (
    LEAST_SLICES,
    SAME_POSITION,
    acquisitions_of,
    protocols_of,
)
from gliosight.read.dicom.words import IMAGE_TYPES

# Directions within this angle are one.
SAME_DIRECTION = np.cos(np.deg2rad(1.0))
# Pixel spacings within this part are one.
SAME_SPACING = 0.002
# With more directions than this, the frames are no stacks but turned views.
MOST_DIRECTIONS = 12

_TOLD_APART = frozenset().union(
    *(IMAGE_TYPES[kind] for kind in ("mask", "field map", "map", "projection"))
)
_COMPONENTS = {"P": "phase", "R": "real part", "I": "imaginary part"}


@dataclass(frozen=True)
class Part:
    """Frames that make one stack, unless there is an error.

    Parameters
    ----------
    frames : tuple of Frame
        Not yet in order.
    words : tuple of str
        What tells it from the other parts, such as ``"echo 2"``; empty for a series that is one stack.
    error : GliosightError, optional
    times : int
        Repetitions of the stack that the series holds.
    unplaced : bool
        All frames have one position, which cannot be theirs; then there is an error, too.
    """

    frames: tuple[Frame, ...]
    words: tuple[str, ...] = ()
    error: GliosightError | None = None
    times: int = 1
    unplaced: bool = False


@dataclass(frozen=True)
class Reason:
    """A tag that may explain why a position is there several times.

    Parameters
    ----------
    value : callable
        Of a frame's acquisition; ``None`` where it says nothing.
    words : callable
        For one value, its rank from 1 and how many there are.
    repeats : bool
        Whether its values are repetitions in time.
    """

    value: Callable[[Acquisition], Hashable]
    words: Callable[[Hashable, int, int], str]
    repeats: bool = False


REASONS: tuple[Reason, ...] = (
    Reason(lambda one: one.image_type, lambda _value, rank, _of: f"image type {rank}"),
    Reason(lambda one: one.echo_number, lambda value, _rank, _of: f"echo {value}"),
    Reason(lambda one: one.echo, lambda _value, rank, _of: f"echo {rank}"),
    Reason(lambda one: one.inversion, lambda value, _rank, _of: f"inversion time {value:g} ms"),
    Reason(lambda one: one.b_value, lambda value, _rank, _of: f"b value {value:g}"),
    Reason(lambda one: one.gradient or None, lambda _value, rank, _of: f"direction {rank}"),
    Reason(
        lambda one: one.contrast,
        lambda value, _rank, _of: f"{'after' if value else 'before'} contrast medium",
    ),
    Reason(lambda one: one.temporal, lambda _value, rank, of: f"time {rank} of {of}", True),
    Reason(lambda one: one.trigger, lambda value, _rank, _of: f"trigger time {value:g} ms", True),
    Reason(lambda one: one.repetition, lambda value, _rank, _of: f"TR {value:g} ms"),
    Reason(lambda one: one.flip, lambda value, _rank, _of: f"flip angle {value:g}"),
    Reason(lambda one: one.stack or None, lambda _value, rank, _of: f"stack {rank}"),
    Reason(lambda one: one.acquisition, lambda value, _rank, _of: f"acquisition {value}", True),
    Reason(lambda one: one.acquired, lambda _value, rank, of: f"time {rank} of {of}", True),
)


def split(frames: Sequence[Frame]) -> list[Part]:
    """The stacks of one series.

    Parameters
    ----------
    frames : sequence of Frame
        At least one.

    Returns
    -------
    list of Part
        Every frame is in one of them, but for those of another size than the rest of their stack: that part
        carries a `DamagedInputError` that names one of each.
    """
    return _spread(_by_kind(Part(tuple(frames))), _by_place)


def normal_of(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector across a slice of this ImageOrientationPatient, LPS (PS3.3 section C.7.6.2.1.1)."""
    cross = np.cross(orientation[:3], orientation[3:])
    return np.asarray(cross / np.linalg.norm(cross), dtype=np.float64)


def _spread(parts: list[Part], step: Callable[[Part], list[Part]]) -> list[Part]:
    return [new for one in parts for new in ([one] if one.error else step(one))]


def _grouped(
    part: Part, keys: Sequence[Hashable], words: Callable[[Hashable, int], str]
) -> list[Part]:
    """Parts by key, in the order in which keys are first met."""
    groups: dict[Hashable, list[Frame]] = {}
    for frame, key in zip(part.frames, keys, strict=True):
        groups.setdefault(key, []).append(frame)
    if len(groups) == 1:
        return [part]
    return [
        replace(
            part, frames=tuple(group), words=tuple(filter(None, (*part.words, words(key, rank))))
        )
        for rank, (key, group) in enumerate(groups.items(), 1)
    ]


def image_kind(acquisition: Acquisition) -> str:
    """What kind of picture it is, as far as frames of different kinds are never one stack."""
    special = [one for one in acquisition.image_type if one in _TOLD_APART]
    component = _COMPONENTS.get(acquisition.component, "")
    return " ".join((*special, component)).strip().lower()


def _by_kind(part: Part) -> list[Part]:
    keys = [(one.acquisition.sop_class, image_kind(one.acquisition)) for one in part.frames]

    def words(key: Hashable, rank: int) -> str:
        kinds = {one[1] for one in keys}
        kind = str(key[1]) if isinstance(key, tuple) else ""
        return (kind[:40] or "magnitude") if len(kinds) > 1 else f"object {rank}"

    return _grouped(part, keys, words)


def _by_place(part: Part) -> list[Part]:
    if any(one.position is None or one.orientation is None for one in part.frames):
        return _spread(_by_protocol(part), _by_size)
    parts = [part]
    for step in (
        _by_direction,
        _by_protocol,
        _by_size,
        _by_spacing,
        _by_acquisition,
        _by_repetition,
    ):
        parts = _spread(parts, step)
    return parts


def _by_protocol(part: Part) -> list[Part]:
    """Where a series holds sequences of several kinds, and they are not repetitions of each other."""
    if all(one.position is not None and one.orientation is not None for one in part.frames):
        counts = set(Counter(_places(part.frames)).values())
        if len(counts) == 1 and counts != {
            1
        }:  # echoes and the like: each place as often as any other
            return [part]
    keys = protocols_of([one.acquisition for one in part.frames])
    return _grouped(part, keys, lambda _key, rank: f"protocol {rank}")


def _by_acquisition(part: Part) -> list[Part]:
    """Where two scans lie in one stack, slice between slice: the patient has moved in between."""
    keys = acquisitions_of(
        [one.acquisition for one in part.frames],
        _along(part.frames),
        [one.thickness for one in part.frames],
    )
    return _grouped(part, keys, lambda _key, rank: f"acquisition {rank}")


def _by_direction(part: Part) -> list[Part]:
    """By ImageOrientationPatient, within a degree."""
    known: list[NDArray[np.float64]] = []
    of_array: dict[int, int] = {}
    keys = []
    for frame in part.frames:
        direction = frame.orientation
        if direction is None:  # never: the caller has looked
            return [part]
        key = of_array.get(id(direction))
        if key is None:
            key = _nearest(direction, known)
            of_array[id(direction)] = key
        keys.append(key)
        if len(known) > MOST_DIRECTIONS:
            error = UnsupportedInputError(
                f"its images have more than {MOST_DIRECTIONS} directions and make no stack",
                where=part.frames[0].instance.where,
                remedy="give a series of parallel slices",
            )
            return [replace(part, error=error)]
    return _grouped(part, keys, lambda _key, rank: f"orientation {rank}")


def _nearest(direction: NDArray[np.float64], known: list[NDArray[np.float64]]) -> int:
    for index, one in enumerate(known):
        if _is_one_direction(direction, one):
            return index
    known.append(direction)
    return len(known) - 1


def is_parallel(first: Frame, second: Frame) -> bool:
    """Whether two frames with places have one direction and one size of pixels."""
    if first.orientation is None or second.orientation is None:
        return False
    same = _is_one_direction(first.orientation, second.orientation)
    if first.spacing is None or second.spacing is None:
        return same and first.spacing is second.spacing
    return same and _is_one_spacing(first.spacing, second.spacing)


def _is_one_direction(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    if first is second:
        return True
    return bool(min(first[:3] @ second[:3], first[3:] @ second[3:]) >= SAME_DIRECTION)


def _is_one_spacing(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return max(abs(a / b - 1) for a, b in zip(first, second, strict=True)) < SAME_SPACING


def _by_size(part: Part) -> list[Part]:
    """Frames of one direction have one size; what is left is split off, and that is an error."""
    sizes = [(one.acquisition.rows, one.acquisition.columns) for one in part.frames]
    counts = Counter(sizes)
    if len(counts) == 1:
        return [part]
    by_stack = _grouped(
        part,
        [one.acquisition.stack for one in part.frames],
        lambda _key, rank: f"stack {rank}",
    )
    if len(by_stack) > 1:
        return _spread(by_stack, _by_size)
    if _reach_over(part.frames, sizes):
        return _grouped(part, sizes, lambda _key, rank: f"matrix {rank}")
    usual = counts.most_common(1)[0][0]
    same = [one for one, size in zip(part.frames, sizes, strict=True) if size == usual]
    odd, size = next((o, s) for o, s in zip(part.frames, sizes, strict=True) if s != usual)
    error = DamagedInputError(
        f"slices of one series have {usual[0]} x {usual[1]} and {size[0]} x {size[1]} pixels",
        where=_both(same[0], odd),
        remedy="export the series again, or part the files",
    )
    return [replace(part, frames=tuple(same), error=error)]


def _reach_over(frames: Sequence[Frame], sizes: Sequence[Hashable]) -> bool:
    """Whether frames of several sizes are scans of one place, and no odd ones among those of one scan."""
    if min(Counter(sizes).values()) < LEAST_SLICES or any(one.position is None for one in frames):
        return False
    along, keys = _along(frames), np.array([str(one) for one in sizes])
    groups = [along[keys == one] for one in np.unique(keys)]
    return bool(max(one.min() for one in groups) < min(one.max() for one in groups))


def _by_spacing(part: Part) -> list[Part]:
    spacings = [one.spacing for one in part.frames]
    if len(set(spacings)) == 1:
        return [part]
    known: list[tuple[float, float]] = []
    keys: list[Hashable] = []
    for one in spacings:
        if one is None:
            keys.append(None)
            continue
        key = next((k for k in known if _is_one_spacing(one, k)), None)
        if key is None:
            known.append(one)
            key = one
        keys.append(key)
    return _grouped(part, keys, lambda _key, rank: f"pixel spacing {rank}")


def _by_repetition(part: Part) -> list[Part]:
    """Split where positions repeat, by the first tag that tells the repetitions apart."""
    places = _places(part.frames)
    most = max(Counter(places).values())
    if most == 1:
        return [part]
    if most == len(places) >= LEAST_SLICES and _placeholder(part.frames):
        return [_unplaced(part)]
    for reason in REASONS:
        values = [reason.value(one.acquisition) for one in part.frames]
        ranked = sorted(set(values), key=_order)
        if not 1 < len(ranked) <= most or not _tells_apart(places, values):
            continue
        times = len(ranked) if reason.repeats else part.times
        out = []
        for rank, value in enumerate(ranked, 1):
            chosen = tuple(f for f, one in zip(part.frames, values, strict=True) if one == value)
            told = f"{reason.words(value, rank, len(ranked))}" if value is not None else "the rest"
            words = (*part.words, told)
            out += _by_repetition(replace(part, frames=chosen, words=words, times=times))
        return out
    if len(turns := _by_turns(part, places)) > 1:
        return turns
    if most == len(places) >= LEAST_SLICES:
        return [_unplaced(part)]
    return [replace(part, error=_repeated(part.frames, places))]


def _placeholder(frames: Sequence[Frame]) -> bool:
    """Whether the single position of all frames is false: the origin, or SliceLocation differs."""
    places = {stored(one.instance.header, "SliceLocation") for one in frames}
    at_origin = frames[0].position is not None and not frames[0].position.any()
    return at_origin or len(places) == len(frames)


def _unplaced(part: Part) -> Part:
    error = DamagedInputError(
        f"its {len(part.frames)} images have one ImagePositionPatient",
        where=part.frames[0].instance.where,
        remedy="export the series again with its positions",
    )
    frames = tuple(replace(one, position=None) for one in part.frames)
    return replace(part, frames=frames, error=error, unplaced=True)


def order_of(frames: Sequence[Frame]) -> tuple[str, list[float]] | None:
    """What orders slices whose positions are unknown: a keyword and its values, each there once.

    ``None`` where nothing does. A guess in either case: who uses it says so.
    """
    for keyword in ("SliceLocation", "InstanceNumber"):
        values = [number(stored(one.instance.header, keyword)) for one in frames]
        known = [one for one in values if one is not None]
        if len(set(known)) == len(frames):
            return keyword, known
    if all(frame_count(one.instance) > 1 for one in frames):  # in this order already
        return "frame number", [float(rank) for rank in range(len(frames))]
    return None


def _repeated(frames: Sequence[Frame], places: Sequence[int]) -> DamagedInputError:
    where = _both(*_pair(frames, places))
    if (pairs := len(frames) - len(set(places))) == 1:
        what = "two images lie at one place, and no tag explains it"
        return DamagedInputError(what, where=where, remedy="leave one of them out")
    return DamagedInputError(
        f"{pairs} pairs of images lie at one place each, and no tag explains it; the series seems to be "
        "exported twice, or several to be exported as one",
        where=where,
        remedy="give the files of one export alone",
    )


def _by_turns(part: Part, places: Sequence[int]) -> list[Part]:
    """One stack acquired again and again, slice by slice: each turn ends before the next begins."""
    at: dict[int, list[tuple[float, Frame]]] = {}
    for frame, place in zip(part.frames, places, strict=True):
        if frame.acquisition.acquired is None:
            return [part]
        at.setdefault(place, []).append((frame.acquisition.acquired, frame))
    count = len(next(iter(at.values())))
    if any(len(one) != count for one in at.values()):
        return [part]
    turns = list(zip(*(sorted(one, key=lambda pair: pair[0]) for one in at.values()), strict=True))
    for one, following in pairwise(turns):
        if max(time for time, _ in one) >= min(time for time, _ in following):
            return [part]
    return [
        replace(
            part,
            frames=tuple(frame for _, frame in turn),
            words=(*part.words, f"time {rank} of {count}"),
            times=count,
        )
        for rank, turn in enumerate(turns, 1)
    ]


def _both(first: Frame, second: Frame) -> str:
    """Two images for a message; by their files' names where their headers call them the same."""
    if first.place != second.place:
        return f"{first.place} and {second.place}"
    names = (one.instance.path.name for one in (first, second))
    return f"{first.place}, in {' and '.join(dict.fromkeys(names))}"


def _order(value: Hashable) -> tuple[bool, int, float, str]:
    number = float(value) if isinstance(value, int | float) else 0.0
    return value is not None, isinstance(value, str | tuple), number, str(value)


def _places(frames: Sequence[Frame]) -> list[int]:
    """For each frame the rank of its position along the normal; equal where positions are one."""
    along = _along(frames)
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_POSITION
    places = np.empty(len(frames), dtype=np.intp)
    places[order] = np.cumsum(new)
    return [int(one) for one in places]


def _along(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Positions along the normal of the first frame, mm."""
    direction = frames[0].orientation
    if direction is None:
        return np.arange(len(frames), dtype=np.float64)
    positions = np.array([one.position for one in frames], dtype=np.float64)
    return np.asarray(positions @ normal_of(direction))


def _tells_apart(places: Sequence[int], values: Sequence[Hashable]) -> bool:
    """Whether the value differs between frames of at least half of the places that repeat."""
    seen: dict[int, set[Hashable]] = {}
    for place, value in zip(places, values, strict=True):
        seen.setdefault(place, set()).add(value)
    counts = Counter(places)
    repeated = [place for place, count in counts.items() if count > 1]
    return 2 * sum(len(seen[one]) > 1 for one in repeated) >= len(repeated)


def _pair(frames: Sequence[Frame], places: Sequence[int]) -> tuple[Frame, Frame]:
    seen: dict[int, Frame] = {}
    for frame, place in zip(frames, places, strict=True):
        if place in seen:
            return seen[place], frame
        seen[place] = frame
    raise ValueError("no position repeats")
