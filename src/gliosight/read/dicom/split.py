"""The stacks of one series: which frames belong together (read stage, DICOM).

What differs in direction, size or kind of image is split at once; echo, time, diffusion weighting and the
like only where positions repeat, by the tag that explains the repetition (dimensions of PS3.3 section
C.7.6.17 and their classic counterparts). A number that merely counts slices explains nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError
from gliosight.read.dicom.acquisition import Acquisition, Frame
from gliosight.read.dicom.elements import number, stored
from gliosight.read.dicom.order import (
    LEAST_SPACING,
    MOST_SPACING,
    SAME_POSITION,
    along_normal,
    geometry_of,
    is_placed,
    lean_of,
    ranks_of,
    usual_step,
)
from gliosight.read.dicom.words import IMAGE_TYPES

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

# Directions within this angle are one, pixel spacings within this part.
SAME_DIRECTION = np.cos(np.deg2rad(1.0))
SAME_SPACING = 0.002
# With more directions than this, the frames are no stacks but turned views.
MOST_DIRECTIONS = 12
# A sequence has at least so many slices.
LEAST_SLICES = 3
# Times of one protocol differ by less than this factor from the next larger one.
ONE_PROTOCOL = 1.3
# Of two scans in one stack each has steps that differ by less than this part of their median, and slices
# that overlap by less than this part of their thickness.
EVEN_STEPS, OVERLAP = 0.2, 0.1
# Between two scans nothing is acquired for so long: seconds, and times what lies between slices.
LEAST_PAUSE, PAUSE = 20.0, 5.0
# Slices of several series are one stack: no closer than this part of their usual or stated distance, no
# further apart than this many of them, in all no wider than this many times what headers state, and no
# further off their line, mm.
CLOSEST, MOST_MISSING = 0.7, 3.5
WIDER_THAN_STATED, WIDER_THAN_THICK = 1.5, 2.5
MOST_OFF = 2.0
# How the reason ends where slices do not overlap, but are too far from each other.
MM_APART = "mm apart"

_PULSES = frozenset({"SE", "GR", "EP", "IR"})
_COMPONENTS = {"P": "phase", "R": "real part", "I": "imaginary part"}
_KINDS_APART = frozenset().union(
    *(IMAGE_TYPES[kind] for kind in ("mask", "field map", "map", "projection"))
)


@dataclass(frozen=True)
class Part:
    """Frames that make one stack, unless there is an error."""

    frames: tuple[Frame, ...]  # not yet in order
    words: tuple[str, ...] = ()  # what tells it from other parts, such as "echo 2"
    error: GliosightError | None = None
    times: int = 1  # repetitions of the stack that the series holds
    unplaced: bool = False  # all frames have one position, which cannot be theirs: an error, too


class Reason(NamedTuple):
    """A tag that may explain why a position is there several times."""

    value: Callable[[Acquisition], Hashable]  # all of one type, or None where it is absent
    words: str  # of a value, its rank from 1 and how many there are
    repeats: bool = False  # whether its values are repetitions in time


REASONS: tuple[Reason, ...] = (
    Reason(lambda a: a.image_type, "image type {rank}"),
    Reason(lambda a: a.echo_number, "echo {value}"),
    Reason(lambda a: a.echo, "echo {rank}"),
    Reason(lambda a: a.inversion, "inversion time {value:g} ms"),
    Reason(lambda a: a.b_value, "b value {value:g}"),
    Reason(lambda a: a.gradient or None, "direction {rank}"),
    Reason(lambda a: a.contrast, "{when} contrast medium"),
    Reason(lambda a: a.temporal, "time {rank} of {of}", repeats=True),
    Reason(lambda a: a.trigger, "trigger time {value:g} ms", repeats=True),
    Reason(lambda a: a.repetition, "TR {value:g} ms"),
    Reason(lambda a: a.flip, "flip angle {value:g}"),
    Reason(lambda a: a.stack or None, "stack {rank}"),
    Reason(lambda a: a.acquisition, "acquisition {value}", repeats=True),
    Reason(lambda a: a.acquired, "time {rank} of {of}", repeats=True),
)


def by_key(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Things by their key, in the order in which keys are first met."""
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups


def split(frames: Sequence[Frame]) -> list[Part]:
    """The stacks of one series.

    Returns
    -------
    list of Part
        Every frame is in one of them, but for those of another size than the rest of their stack: that part
        carries a `DamagedInputError` that names one of each.
    """
    parts = []
    for part in _by_kind(Part(tuple(frames))):
        new = [part]
        for step in STEPS if is_placed(part.frames) else STEPS_WITHOUT_PLACES:
            new = _each(new, step)
        parts += new
    return parts


Step = Callable[[Part], list[Part]]


def _each(parts: list[Part], step: Step) -> list[Part]:
    return [new for part in parts for new in ([part] if part.error else step(part))]


def _grouped(
    part: Part, keys: Iterable[Hashable], label: str | Callable[[Any, int], str]
) -> list[Part]:
    """Parts by key, in the order in which keys are first met, each with a label and its rank."""
    groups = by_key(zip(keys, part.frames, strict=True), lambda pair: pair[0])
    if len(groups) == 1:
        return [part]
    name = label if callable(label) else lambda _, rank: f"{label} {rank}"
    return [
        replace(part, frames=tuple(f for _, f in pairs), words=(*part.words, name(key, rank)))
        for rank, (key, pairs) in enumerate(groups.items(), 1)
    ]


def _by(label: str, keys_of: Callable[[Sequence[Frame]], Sequence[Hashable]]) -> Step:
    """A step that splits by keys; an error of theirs is that of the whole part."""

    def step(part: Part) -> list[Part]:
        try:
            return _grouped(part, keys_of(part.frames), label)
        except GliosightError as error:
            return [replace(part, error=error)]

    return step


def image_kind(acquisition: Acquisition) -> str:
    """What kind of picture it is, as far as frames of different kinds are never one stack."""
    special = [value for value in acquisition.image_type if value in _KINDS_APART]
    component = _COMPONENTS.get(acquisition.component, "")
    return " ".join((*special, component)).strip().lower()


def _by_kind(part: Part) -> list[Part]:
    keys = [(a.sop_class, image_kind(a)) for a in (frame.acquisition for frame in part.frames)]
    if len({kind for _, kind in keys}) == 1:
        return _grouped(part, keys, "object")
    return _grouped(part, keys, lambda key, _: key[1][:40] or "magnitude")


def _directions(frames: Sequence[Frame]) -> list[int | None]:
    """Keys by ImageOrientationPatient."""
    keys = _alike([frame.orientation for frame in frames], _is_one_direction, MOST_DIRECTIONS)
    if len(keys) < len(frames):
        raise UnsupportedInputError(
            f"its images have more than {MOST_DIRECTIONS} directions and make no stack",
            where=frames[0].instance.where,
            remedy="give a series of parallel slices",
        )
    return keys


def _spacings(frames: Sequence[Frame]) -> list[int | None]:
    def same(spacing: tuple[float, float], other: tuple[float, float]) -> bool:
        return max(abs(a / b - 1) for a, b in zip(spacing, other, strict=True)) < SAME_SPACING

    return _alike([frame.spacing for frame in frames], same, len(frames))


def _alike(values: Sequence[Any], same: Callable[[Any, Any], bool], most: int) -> list[int | None]:
    """For each value the rank of the first one like it; fewer keys where more than ``most`` differ."""
    known: list[Any] = []
    keys: list[int | None] = []
    for value in values:
        rank = None
        if value is not None:
            rank = next((k for k, other in enumerate(known) if same(value, other)), len(known))
            if rank == most:
                return keys
            known += [value] if rank == len(known) else []
        keys.append(rank)
    return keys


def _is_one_direction(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    if first is second:
        return True
    return bool(min(first[:3] @ second[:3], first[3:] @ second[3:]) >= SAME_DIRECTION)


# Sequences that an export has thrown into one series. Some anonymisers give all series of a study one UID and
# one number: then FLAIR and T1 lie in one stack, slice between slice, and no position repeats.


def _protocols(frames: Sequence[Frame]) -> list[Hashable]:
    """Keys by kind of pulses and contrast medium, and by TR, TE and TI where these are far apart."""
    undivided: list[Hashable] = [None] * len(frames)
    if is_placed(frames):
        counts = set(Counter(ranks_of(frames)).values())
        if len(counts) == 1 and counts != {1}:  # echoes and the like: as many at each position
            return undivided
    acquisitions = [frame.acquisition for frame in frames]
    times = zip(*((a.repetition, a.echo, a.inversion) for a in acquisitions), strict=True)
    clusters = [_runs(of_one, lambda time, next_: next_ > ONE_PROTOCOL * time) for of_one in times]
    pulses = [(frozenset(a.scanning) & _PULSES, a.contrast) for a in acquisitions]
    keys: list[Hashable] = list(zip(pulses, *clusters, strict=True))
    return keys if _large(keys) else undivided


def _acquisitions(frames: Sequence[Frame]) -> list[Hashable]:
    """Keys by number or time of acquisition, where two scans lie in one stack: the patient has moved.

    That is where each of the groups is evenly spaced, they reach over each other, and together they are not
    even, or overlap by more than slices do.
    """
    along = along_normal(frames)
    known = [frame.thickness for frame in frames if frame.thickness is not None]
    thick = float(np.median(known)) if known else 0.0
    times = [frame.acquisition.acquired for frame in frames]
    gaps = np.diff(sorted({time for time in times if time is not None}))
    pause = max(LEAST_PAUSE, PAUSE * float(np.median(gaps))) if len(gaps) else LEAST_PAUSE
    numbers = [frame.acquisition.acquisition for frame in frames]
    scans = _runs(times, lambda time, following: following - time > pause)
    for keys in (numbers, times, scans):
        if len(set(keys)) > 1 and _large(keys) and _interleaved(keys, along, thick):
            return list(keys)
    return [None] * len(frames)


def _runs(values: Sequence[float | None], far: Callable[[float, float], bool]) -> list[int | None]:
    """For each value its run; values belong together as long as the next larger one is not far."""
    ordered = sorted({value for value in values if value is not None})
    ranks = accumulate((int(far(*pair)) for pair in pairwise(ordered)), initial=0)
    run = dict(zip(ordered, ranks, strict=False))
    return [None if value is None else run[value] for value in values]


def _large(keys: Sequence[Hashable]) -> bool:
    return min(Counter(keys).values()) >= LEAST_SLICES


def _interleaved(keys: Sequence[Hashable], along: NDArray[np.float64], thick: float) -> bool:
    steps = np.diff(np.sort(along))
    if steps.min() <= SAME_POSITION:  # positions repeat: split elsewhere
        return False
    groups = [along[[key == other for key in keys]] for other in dict.fromkeys(keys)]
    if not all(map(_is_even, groups)) or not _reach_over(groups):
        return False
    return not _is_even(along) or float(np.median(steps)) < (1 - OVERLAP) * thick


def _is_even(along: NDArray[np.float64]) -> bool:
    steps = np.diff(np.sort(along))
    return bool(np.ptp(steps) <= EVEN_STEPS * np.median(steps))


def _reach_over(groups: Sequence[NDArray[np.float64]]) -> bool:
    """Whether no group of positions lies beside the others."""
    return bool(max(group.min() for group in groups) < min(group.max() for group in groups))


def _by_size(part: Part) -> list[Part]:
    """Frames of one direction have one size; what is left is split off, and that is an error."""
    sizes = [(frame.acquisition.rows, frame.acquisition.columns) for frame in part.frames]
    counts = Counter(sizes)
    if len(counts) == 1:
        return [part]
    by_stack = _grouped(part, [frame.acquisition.stack for frame in part.frames], "stack")
    if len(by_stack) > 1:
        return _each(by_stack, _by_size)
    if min(counts.values()) >= LEAST_SLICES and all(
        frame.position is not None for frame in part.frames
    ):
        # Scans of one place, and no odd frames among those of one scan?
        along = along_normal(part.frames)
        if _reach_over([along[[size == other for size in sizes]] for other in counts]):
            return _grouped(part, sizes, "matrix")
    usual = counts.most_common(1)[0][0]
    same = [frame for frame, size in zip(part.frames, sizes, strict=True) if size == usual]
    odd, size = next(pair for pair in zip(part.frames, sizes, strict=True) if pair[1] != usual)
    error = DamagedInputError(
        f"slices of one series have {usual[0]} x {usual[1]} and {size[0]} x {size[1]} pixels",
        where=_both(same[0], odd),
        remedy="export the series again, or part the files",
    )
    return [replace(part, frames=tuple(same), error=error)]


def _by_repetition(part: Part) -> list[Part]:
    """Split where positions repeat, by the first tag that tells the repetitions apart."""
    places = ranks_of(part.frames)
    most = max(Counter(places).values())
    if most == 1:
        return [part]
    at_one_place = most == len(places) >= LEAST_SLICES
    if at_one_place and _is_placeholder(part.frames):
        return [_unplaced(part)]
    for reason in REASONS:
        values = [reason.value(frame.acquisition) for frame in part.frames]
        ranked = sorted(set(values), key=_rank)
        if 1 < len(ranked) <= most and _tells_apart(places, values):
            parts = _in_ranks(part, values, ranked, reason)
            return [new for one in parts for new in _by_repetition(one)]
    if turns := _turns(part, places):
        return turns
    if at_one_place:
        return [_unplaced(part)]
    return [replace(part, error=_repeated(part.frames, places))]


def _in_ranks(part: Part, values: Sequence[Any], ranked: list[Any], reason: Reason) -> list[Part]:
    """Parts by the rank of their value, of which there are several."""

    def words(value: Any, _: int) -> str:
        if value is None:
            return "the rest"
        rank, when = ranked.index(value) + 1, "after" if value else "before"
        return reason.words.format(value=value, rank=rank, of=len(ranked), when=when)

    order = sorted(range(len(values)), key=lambda index: _rank(values[index]))
    part = replace(
        part,
        frames=tuple(part.frames[index] for index in order),
        times=len(ranked) if reason.repeats else part.times,
    )
    return _grouped(part, [values[index] for index in order], words)


def _is_placeholder(frames: Sequence[Frame]) -> bool:
    """Whether the single position of all frames is false: the origin, or SliceLocation differs."""
    locations = {stored(frame.instance.header, "SliceLocation") for frame in frames}
    at_origin = frames[0].position is not None and not frames[0].position.any()
    return at_origin or len(locations) == len(frames)


def _unplaced(part: Part) -> Part:
    error = DamagedInputError(
        f"its {len(part.frames)} images have one ImagePositionPatient",
        where=part.frames[0].instance.where,
        remedy="export the series again with its positions",
    )
    frames = tuple(replace(frame, position=None) for frame in part.frames)
    return replace(part, frames=frames, error=error, unplaced=True)


def _rank(value: Any) -> tuple[bool, Any]:
    return value is not None, str(value) if isinstance(value, tuple) else value


def _tells_apart(places: Sequence[int], values: Sequence[Hashable]) -> bool:
    """Whether the value differs between frames of at least half of the places that repeat."""
    pairs = by_key(zip(places, values, strict=True), lambda pair: pair[0]).values()
    repeated = [at_place for at_place in pairs if len(at_place) > 1]
    return 2 * sum(len(set(at_place)) > 1 for at_place in repeated) >= len(repeated)


def _turns(part: Part, places: Sequence[int]) -> list[Part]:
    """One stack acquired again and again, slice by slice: each turn ends before the next begins."""
    timed = [(frame.acquisition.acquired, frame) for frame in part.frames]
    if any(time is None for time, _ in timed):
        return []
    at = by_key(zip(places, timed, strict=True), lambda pair: pair[0]).values()
    counts = {len(pairs) for pairs in at}
    by_time = (sorted((t for _, t in pairs), key=lambda pair: pair[0] or 0.0) for pairs in at)
    turns = list(zip(*by_time, strict=False))
    ends = [(min(t or 0.0 for t, _ in turn), max(t or 0.0 for t, _ in turn)) for turn in turns]
    if len(counts) > 1 or any(end >= begin for (_, end), (begin, _) in pairwise(ends)):
        return []
    frames = tuple(frame for turn in turns for _, frame in turn)
    ranks = [rank for rank, turn in enumerate(turns, 1) for _ in turn]
    whole = replace(part, frames=frames, times=len(turns))
    return _grouped(whole, ranks, lambda rank, _: f"time {rank} of {len(turns)}")


def _repeated(frames: Sequence[Frame], places: Sequence[int]) -> DamagedInputError:
    first_at: dict[int, int] = {}
    second = next(k for k, place in enumerate(places) if first_at.setdefault(place, k) != k)
    where = _both(frames[first_at[places[second]]], frames[second])
    if (pairs := len(frames) - len(set(places))) == 1:
        what = "two images have the same position, and no tag tells them apart"
        return DamagedInputError(what, where=where, remedy="leave one of them out")
    return DamagedInputError(
        f"{pairs} pairs of images have the same position, and no tag tells them apart; the series was "
        "probably exported twice, or several series as one",
        where=where,
        remedy="give the files of one export alone",
    )


def _both(first: Frame, second: Frame) -> str:
    """Two images for a message; by their files' names where their headers call them the same."""
    if first.place != second.place:
        return f"{first.place} and {second.place}"
    names = (frame.instance.path.name for frame in (first, second))
    return f"{first.place}, in {' and '.join(dict.fromkeys(names))}"


STEPS: tuple[Step, ...] = (
    _by("orientation", _directions),
    _by("protocol", _protocols),
    _by_size,
    _by("pixel spacing", _spacings),
    _by("acquisition", _acquisitions),
    _by_repetition,
)
STEPS_WITHOUT_PLACES: tuple[Step, ...] = (_by("protocol", _protocols), _by_size)


def why_no_stack(frames: Sequence[Frame]) -> str:
    """Why frames that name several series are not one stack; ``""`` where they lie slice beside slice.

    Stricter than for slices of one series, since only their place says that they belong together: no two
    overlap, single slices may be missing, and none is shifted off the line of the others.
    """
    if not is_placed(frames):
        return "their headers do not say where they lie"
    if len(frames) == 1:
        return ""
    directions = _alike([frame.orientation for frame in frames], _is_one_direction, 1)
    if len(directions) < len(frames) or len(set(_spacings(frames))) > 1:
        return "their directions or pixel sizes differ"
    along = along_normal(frames)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = usual_step(steps)
    header, thick = frames[0].instance.header, max(frame.thickness or 0.0 for frame in frames)
    stated = number(stored(header, "SpacingBetweenSlices"), LEAST_SPACING, MOST_SPACING)
    if steps.min() < max(SAME_POSITION, CLOSEST * max(usual, stated or thick)):
        return "some have the same position or overlap"
    far = (WIDER_THAN_STATED if stated else WIDER_THAN_THICK) * max(stated or 0.0, thick)
    if steps.max() > MOST_MISSING * usual or (thick and usual > far):
        return f"they lie up to {steps.max():.0f} {MM_APART}"
    geometry, problem = geometry_of([frames[int(index)] for index in order])
    if geometry is None:
        return "their positions make no sense" if problem is None else problem.message
    if len(frames) > 2 and lean_of(geometry)[1] > MOST_OFF:
        return "they are shifted against each other"
    return ""
