"""The stacks of one series: which frames belong together, their order and place (read stage, DICOM).

What differs in direction, size or kind of image is split at once; echo, time, diffusion weighting and the
like only where positions repeat, by the tag that explains the repetition (dimensions of PS3.3 section
C.7.6.17 and their classic counterparts). A number that merely counts slices explains nothing. Slices are
ordered by ImagePositionPatient along the normal. DICOM's patient coordinates are LPS (PS3.3 section
C.7.6.2.1.1): x and y change their sign here, and only here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError
from gliosight.read.dicom.acquisition import Acquisition, Frame, frame_count
from gliosight.read.dicom.elements import number, stored
from gliosight.read.dicom.words import IMAGE_TYPES
from gliosight.read.flags import flag
from gliosight.read.grid import UnusableAffineError, check_extent
from gliosight.study import EVEN_WITHIN, Flag, Geometry

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Directions within this angle are one, pixel spacings within this part, positions within so many mm.
SAME_DIRECTION = np.cos(np.deg2rad(1.0))
SAME_SPACING = 0.002
SAME_POSITION = 0.02
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
# Spacings outside of this are no head's, mm.
LEAST_SPACING, MOST_SPACING = 0.1, 20.0
# Slices are tilted when their origins lean from the normal by more than this, degrees.
TILTED_FROM = 1.0
# A gap counts as missing slices when it is this close to a multiple of the usual one, as a part of it.
MULTIPLE_WITHIN = 0.2
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

    value: Callable[[Acquisition], Hashable]  # all of one type, or None where it says nothing
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
    part: Part, keys: Sequence[Hashable], label: str | Callable[[Any, int], str]
) -> list[Part]:
    """Parts by key, in the order in which keys are first met, each with a label and its rank."""
    groups = by_key(zip(keys, part.frames, strict=True), lambda pair: pair[0])
    if len(groups) == 1:
        return [part]
    parts = []
    for rank, (key, pairs) in enumerate(groups.items(), 1):
        words = (*part.words, label(key, rank) if callable(label) else f"{label} {rank}")
        parts.append(replace(part, frames=tuple(frame for _, frame in pairs), words=words))
    return parts


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
    keys = [(frame.acquisition.sop_class, image_kind(frame.acquisition)) for frame in part.frames]
    if len({kind for _, kind in keys}) == 1:
        return _grouped(part, keys, "object")
    return _grouped(part, keys, lambda key, _: key[1][:40] or "magnitude")


def _directions(frames: Sequence[Frame]) -> list[Hashable]:
    """Keys by ImageOrientationPatient."""
    keys, known = _alike(
        [frame.orientation for frame in frames], _is_one_direction, MOST_DIRECTIONS
    )
    if known > MOST_DIRECTIONS:
        raise UnsupportedInputError(
            f"its images have more than {MOST_DIRECTIONS} directions and make no stack",
            where=frames[0].instance.where,
            remedy="give a series of parallel slices",
        )
    return keys


def _spacings(frames: Sequence[Frame]) -> list[Hashable]:
    def same(spacing: tuple[float, float], other: tuple[float, float]) -> bool:
        return max(abs(a / b - 1) for a, b in zip(spacing, other, strict=True)) < SAME_SPACING

    return _alike([frame.spacing for frame in frames], same, len(frames))[0]


def _alike(
    values: Sequence[Any], same: Callable[[Any, Any], bool], most: int
) -> tuple[list[Hashable], int]:
    """For each value the rank of the first one like it, and how many there are; stops after ``most``."""
    known: list[Any] = []
    keys: list[Hashable] = []
    for value in values:
        rank = None
        if value is not None:
            rank = next((k for k, other in enumerate(known) if same(value, other)), len(known))
            known += [value] if rank == len(known) else []
        keys.append(rank)
        if len(known) > most:
            break
    return keys, len(known)


def _is_one_direction(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    if first is second:
        return True
    return bool(min(first[:3] @ second[:3], first[3:] @ second[3:]) >= SAME_DIRECTION)


# Sequences that an export has thrown into one series. Some anonymisers give all series of a study one UID and
# one number: then FLAIR and T1 lie in one stack, slice between slice, and no position repeats.


def _protocols(frames: Sequence[Frame]) -> list[Hashable]:
    """Keys by kind of pulses and contrast medium, and by TR, TE and TI where these are far apart."""
    if is_placed(frames):
        counts = set(Counter(_places(frames)).values())
        if len(counts) == 1 and counts != {
            1
        }:  # echoes and the like: each place as often as another
            return [None] * len(frames)
    acquisitions = [frame.acquisition for frame in frames]

    def clusters(times: list[float | None]) -> list[int | None]:
        return _runs(times, lambda time, following: following > ONE_PROTOCOL * time)

    keys: list[Hashable] = list(
        zip(
            [(frozenset(a.scanning) & _PULSES, a.contrast) for a in acquisitions],
            clusters([a.repetition for a in acquisitions]),
            clusters([a.echo for a in acquisitions]),
            clusters([a.inversion for a in acquisitions]),
            strict=True,
        )
    )
    return keys if _large(keys) else [None] * len(frames)


def _acquisitions(frames: Sequence[Frame]) -> list[Hashable]:
    """Keys by number or time of acquisition, where two scans lie in one stack: the patient has moved.

    That is where each of the groups is evenly spaced, they reach over each other, and together they are not
    even, or overlap by more than slices do.
    """
    along = _along(frames)
    known = [frame.thickness for frame in frames if frame.thickness is not None]
    thick = float(np.median(known)) if known else 0.0
    times = [frame.acquisition.acquired for frame in frames]
    gaps = np.diff(sorted({time for time in times if time is not None}))
    pause = max(LEAST_PAUSE, PAUSE * float(np.median(gaps))) if len(gaps) else LEAST_PAUSE
    ways: tuple[Sequence[Hashable], ...] = (
        [frame.acquisition.acquisition for frame in frames],
        times,
        _runs(times, lambda time, following: following - time > pause),
    )
    for keys in ways:
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
        along = _along(part.frames)
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
    places = _places(part.frames)
    most = max(Counter(places).values())
    if most == 1:
        return [part]
    at_one_place = most == len(places) >= LEAST_SLICES
    if at_one_place and _is_placeholder(part.frames):
        return [_unplaced(part)]
    for reason in REASONS:
        values = [reason.value(frame.acquisition) for frame in part.frames]
        ranked = sorted(set(values), key=_rank)
        if not 1 < len(ranked) <= most or not _tells_apart(places, values):
            continue
        times = len(ranked) if reason.repeats else part.times
        parts = []
        for rank, value in enumerate(ranked, 1):
            frames = tuple(
                f for f, other in zip(part.frames, values, strict=True) if other == value
            )
            when = "after" if value else "before"
            named = "the rest"
            if value is not None:
                named = reason.words.format(value=value, rank=rank, of=len(ranked), when=when)
            words = (*part.words, named)
            parts += _by_repetition(replace(part, frames=frames, words=words, times=times))
        return parts
    if turns := _turns(part, places):
        return turns
    if at_one_place:
        return [_unplaced(part)]
    return [replace(part, error=_repeated(part.frames, places))]


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
    times = [frame.acquisition.acquired for frame in part.frames]
    timed = [
        (time, frame) for time, frame in zip(times, part.frames, strict=True) if time is not None
    ]
    if len(timed) < len(times):
        return []
    at = by_key(zip(places, timed, strict=True), lambda pair: pair[0])
    count = len(at[places[0]])
    if any(len(pairs) != count for pairs in at.values()):
        return []
    by_time = (sorted((t for _, t in pairs), key=lambda pair: pair[0]) for pairs in at.values())
    turns = list(zip(*by_time, strict=True))
    for turn, following in pairwise(turns):
        if max(time for time, _ in turn) >= min(time for time, _ in following):
            return []
    return [
        replace(
            part,
            frames=tuple(frame for _, frame in turn),
            words=(*part.words, f"time {rank} of {count}"),
            times=count,
        )
        for rank, turn in enumerate(turns, 1)
    ]


def _repeated(frames: Sequence[Frame], places: Sequence[int]) -> DamagedInputError:
    first_at: dict[int, int] = {}
    second = next(k for k, place in enumerate(places) if first_at.setdefault(place, k) != k)
    where = _both(frames[first_at[places[second]]], frames[second])
    if (pairs := len(frames) - len(set(places))) == 1:
        what = "two images lie at one place, and no tag explains it"
        return DamagedInputError(what, where=where, remedy="leave one of them out")
    return DamagedInputError(
        f"{pairs} pairs of images lie at one place each, and no tag explains it; the series seems to be "
        "exported twice, or several to be exported as one",
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


# Order and place.


def is_placed(frames: Sequence[Frame]) -> bool:
    """Whether every frame has a position and a direction."""
    return all(frame.position is not None and frame.orientation is not None for frame in frames)


def _along(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Positions along the normal of the first frame, LPS (PS3.3 section C.7.6.2.1.1), mm."""
    orientation = frames[0].orientation
    if orientation is None:
        return np.arange(len(frames), dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    return np.asarray(positions @ (normal / np.linalg.norm(normal)))


def _places(frames: Sequence[Frame]) -> list[int]:
    """For each frame the rank of its position along the normal; equal where positions are one."""
    along = _along(frames)
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_POSITION
    places = np.empty(len(frames), dtype=np.intp)
    places[order] = np.cumsum(new)
    return [int(place) for place in places]


def order_of(frames: Sequence[Frame]) -> tuple[str, list[float]] | None:
    """What orders slices whose positions are unknown: a keyword and its values, each there once.

    ``None`` where nothing does. A guess in either case: who uses it says so.
    """
    for keyword in ("SliceLocation", "InstanceNumber"):
        values = [number(stored(frame.instance.header, keyword)) for frame in frames]
        known = [value for value in values if value is not None]
        if len(set(known)) == len(frames):
            return keyword, known
    if all(frame_count(frame.instance) > 1 for frame in frames):  # in this order already
        return "frame number", [float(rank) for rank in range(len(frames))]
    return None


def in_order(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Frames by their position along the normal; where one of them has no place, as `order_of` says."""
    if is_placed(frames):
        ranks: Sequence[float] | NDArray[np.float64] = _along(frames)
    else:
        order = order_of(frames)
        ranks = [0.0] * len(frames) if order is None else order[1]
    return tuple(frames[int(index)] for index in np.argsort(ranks, kind="stable"))


def why_no_stack(frames: Sequence[Frame]) -> str:
    """Why frames that name several series are not one stack; ``""`` where they lie slice beside slice.

    Stricter than for slices of one series, since only their place says that they belong together: no two
    overlap, single slices may be missing, and none is shifted off the line of the others.
    """
    if not is_placed(frames):
        return "their headers do not say where they lie"
    if len(frames) == 1:
        return ""
    _, directions = _alike([frame.orientation for frame in frames], _is_one_direction, 1)
    if directions > 1 or len(set(_spacings(frames))) > 1:
        return "their directions or pixel sizes differ"
    along = _along(frames)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = _usual(steps)
    header, thick = frames[0].instance.header, max(frame.thickness or 0.0 for frame in frames)
    stated = number(stored(header, "SpacingBetweenSlices"), LEAST_SPACING, MOST_SPACING)
    if steps.min() < max(SAME_POSITION, CLOSEST * max(usual, stated or thick)):
        return "some lie at one place or overlap"
    far = (WIDER_THAN_STATED if stated else WIDER_THAN_THICK) * max(stated or 0.0, thick)
    if steps.max() > MOST_MISSING * usual or (thick and usual > far):
        return f"they lie up to {steps.max():.0f} {MM_APART}"
    geometry, problem = geometry_of([frames[int(index)] for index in order])
    if geometry is None:
        return "their positions make no sense" if problem is None else problem.message
    if len(frames) > 2 and _lean(geometry)[1] > MOST_OFF:
        return "they are shifted against each other"
    return ""


def geometry_of(frames: Sequence[Frame]) -> tuple[Geometry | None, Flag | None]:
    """Geometry of frames in order and of one direction, RAS+ mm, or the flag that says why they have none.

    ``row_direction`` is the second triple of ImageOrientationPatient: that in which the row index grows.
    """
    first, placed = frames[0], is_placed(frames)
    if first.orientation is None or first.spacing is None or not placed:
        why = "position, orientation or pixel spacing is missing or makes no sense"
        if not placed and len(frames) > 1 and (order := order_of(frames)) is not None:
            why += f"; the slices are in the order of their {order[0]}"
        return None, _no_geometry(why)
    across, down = (first.orientation[k : k + 3] * LPS_TO_RAS for k in (0, 3))
    across = across / np.linalg.norm(across)
    down = down - (down @ across) * across
    origins = np.array([frame.position for frame in frames], dtype=np.float64) * LPS_TO_RAS
    geometry = Geometry(
        origins, down / np.linalg.norm(down), across, first.spacing, first.thickness
    )
    spacings = [*first.spacing, *([geometry.slice_spacing] if geometry.slice_spacing else [])]
    if not LEAST_SPACING <= min(spacings) <= max(spacings) <= MOST_SPACING * (1 + 1e-6):
        words = " x ".join(f"{spacing:.3g}" for spacing in spacings)
        return None, _no_geometry(f"a spacing of {words} mm does not fit a head")
    try:
        check_extent(geometry, (first.acquisition.rows or 0, first.acquisition.columns or 0))
    except UnusableAffineError as error:
        return None, _no_geometry(str(error))
    return geometry, None


def _no_geometry(why: str) -> Flag:
    message = f"Millimetres are unknown, since {why}; sizes are in pixels, sides unknown."
    return flag("NO_GEOMETRY", message)


def gaps_of(geometry: Geometry) -> list[Flag]:
    """Flags for a single slice, missing slices, uneven gaps and tilt."""
    if geometry.slices == 1:
        known = geometry.slice_thickness
        distance = f"its thickness, {known:.3g} mm, stands for" if known else "nothing tells"
        return [flag("SINGLE_SLICE", f"A single slice: {distance} the distance to the next.")]
    steps = np.diff(geometry.slice_positions)
    usual = _usual(steps)
    parts = steps / usual
    whole = np.rint(parts)
    missing = (whole >= 2) & (np.abs(parts - whole) <= MULTIPLE_WITHIN)
    flags = []
    if missing.any():
        count = int((whole[missing] - 1).sum())
        where = ", ".join(f"{int(k)} and {int(k) + 1}" for k in np.flatnonzero(missing)[:3])
        message = (
            f"{'1 slice is' if count == 1 else f'{count} slices are'} missing (between slices "
            f"{where}); nothing is filled in, and volumes are lower bounds."
        )
        flags.append(flag("MISSING_SLICES", message))
    lean, off = _lean(geometry)
    if lean > TILTED_FROM:
        message = f"The slices are shifted against each other as by a tilt of {lean:.1f} degrees."
        flags.append(flag("GANTRY_TILT", message))
    rest = np.abs(parts[~missing] - 1).max(initial=0.0)
    if rest > EVEN_WITHIN or off > EVEN_WITHIN * usual:
        even = steps[~missing]
        message = (
            f"The distance between slices is uneven, {even.min():.2f} to {even.max():.2f} mm; "
            "positions are kept as they are."
        )
        flags.append(flag("UNEVEN_SPACING", message))
    return flags


def _usual(steps: NDArray[np.float64]) -> float:
    # The lower of two middle ones: a gap left by a missing slice is never the usual one.
    return float(np.percentile(steps, 50, method="lower"))


def _lean(geometry: Geometry) -> tuple[float, float]:
    """Angle (degrees) between the way from slice to slice and the normal, and the largest shift off it, mm.

    The way is the straight line through the origins that fits best.
    """
    positions = geometry.slice_positions
    aside = geometry.origins - np.outer(positions, geometry.normal)
    z = positions - positions.mean()
    aside = aside - aside.mean(axis=0)
    slope = (z @ aside) / (z @ z)
    off = float(np.linalg.norm(aside - np.outer(z, slope), axis=1).max())
    return math.degrees(math.atan(float(np.linalg.norm(slope)))), off
