"""Which series of a study are analysed as FLAIR, T1 and T1C, and why (read stage, DICOM).

`rules` says of each series by its header what it shows; here the series of one study are compared.

FLAIR is the series that the user names, or the best by `_merit` of those that show FLAIR. No other sequence
is ever taken for it, and candidates that nothing tells apart are an error.

T1 and T1C are chosen in this order:

1. A series that the user names (``--t1``, ``--t1c``) is taken.
2. Candidates are the T1-weighted series in FLAIR's coordinates: they share its frame of reference (PS3.3
   section C.7.4.1), or where none is stated its grid, and cover at least half of it.
3. T1C is, of the candidates after contrast medium by header or description, the nearest to FLAIR: first by
   grid, then by direction of the slices, then by `_merit`.
4. T1 is the nearest of the other candidates. One whose header does not mention contrast medium must not be
   later than a known T1C. Without a T1C, candidates stated to be before contrast medium come first, then
   those that none is known to precede.
5. If no header mentions contrast medium and the same protocol was acquired twice, the earlier is T1 and the
   later T1C. Pixels have to confirm it (`confirm_order`): T1C has to enhance against T1.

Pixels also exclude stored masks under the header of an image (`choose_images`). A T1 or T1C that is there
but not used is flagged with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import GliosightError, UnsupportedInputError, UsageError
from gliosight.flags import flag
from gliosight.head import find_head
from gliosight.read.checks import few_values, is_labels, make_finite, refuse_mask
from gliosight.read.dicom.acquisition import is_dated
from gliosight.read.dicom.decoder import DecoderProcess
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.dicom.rules import CONFIDENCES
from gliosight.read.dicom.series import Series, as_named
from gliosight.read.grid import LEAST_COVERED
from gliosight.read.limits import Budget
from gliosight.study import Flag, Geometry, MrSequence

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
# Cosines: slices are axial within 45 degrees, two series have one direction within 10 degrees.
AXIAL_FROM = float(np.cos(np.deg2rad(45.0)))
SAME_DIRECTION = float(np.cos(np.deg2rad(10.0)))
# Isotropic: slices no further apart than this (mm), and no more than this many times the pixel.
ISOTROPIC_MM, ISOTROPIC_RATIO = 1.5, 1.6
# Slices that cover less are no whole head, however many they are, mm.
WHOLE_HEAD_MM = 80.0
# Slices are missing where FLAIR covers less, and another FLAIR reaches so far beyond it, mm.
COMPLETE_MM, BEYOND_MM = 120.0, 20.0
# Joined slices of fewer than this are a part of a series: none of several is taken for FLAIR.
LEAST_SLICES = 4
# TR, TE and slice spacing of one protocol differ by no more than this part.
SAME_PROTOCOL = 0.15
# Points along each axis at which the overlap with FLAIR is measured.
COVERAGE_POINTS = 24
# Series that a message lists, characters of the user's text that it repeats.
MOST_LISTED, MOST_TYPED = 8, 64
# `enhancement` of a T1C against its T1. On the 81 of 88 LGG patients that have both it is above this in 86 %,
# and in 10 % with the two swapped (two of those are probably swapped in the data set itself): good enough to
# confirm an order of acquisition, not to replace it.
ENHANCES_FROM = 0.05
# How it is measured: in slices of the middle half of the stack, without what varies slowly (over this part of
# the rows) and without the scalp, which fat suppression changes (part of the head's diameter). Values below
# a part of the head's median are raised to it before the logarithm.
MOST_SLICES, SLOW, RIM, LEAST_VOXELS, LEAST_RATIO = 16, 0.12, 0.06, 1000, 0.05
# "3", "series 3, echo 2", "1.2.840.1, echo 2".
_NAME_AND_PART = re.compile(r"(?:series\s+)?([^,]*?)\s*(?:,\s*(.*))?", re.IGNORECASE)

Stacks = Sequence[Series]
# A series and the sentence that says why it is taken.
Picked = tuple[Series, str]
Merit = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Choice:
    """The series to analyse."""

    chosen: Mapping[MrSequence, Series]  # FLAIR is always there
    reasons: Mapping[MrSequence, str]  # one plain sentence each
    # T1 and T1C were told apart by the order of acquisition alone: pixels have to confirm it.
    by_order: bool = False
    # That order is sure, both have a date and a time: pixels may refuse it, but not reverse it.
    dated: bool = False
    flags: tuple[Flag, ...] = ()


def choose(study: Stacks, wanted: Mapping[MrSequence, str] = MappingProxyType({})) -> Choice:
    """Choose the series of one study by their headers, or by ``wanted``, a text for `named_in`.

    Raises
    ------
    UnsupportedInputError
        No FLAIR, no safe choice between several, or the wanted series is not an image.
    UsageError
        A wanted series does not exist, is not the only one of its number, or is wanted twice.
    GliosightError
        The only FLAIR, or a wanted series, cannot be read: its own error.
    """
    named = {name: _find_named(study, name, text) for name, text in wanted.items()}
    for (name, (series, _)), (other, (second, _)) in combinations(named.items(), 2):
        # Compared by frames: a named series without positions is a changed copy of the study's.
        if series.frames is second.frames:
            raise UsageError(
                f"--{name.value.lower()} and --{other.value.lower()} name the same series",
                where=series.place,
                remedy="name two series",
            )
    taken = {id(series.frames) for series, _ in named.values()}
    free = [series for series in study if id(series.frames) not in taken]
    flags: list[Flag] = []
    if FLAIR in named:
        flair, reason = named[FLAIR]
    else:
        flair, reason, flags = _choose_flair(free, study)
        free.remove(flair)
    named_t1 = {name: series for name, (series, _) in named.items() if name is not FLAIR}
    pair, by_order, dated = _choose_t1(flair, free, named_t1)
    picked: dict[MrSequence, Picked] = {FLAIR: (flair, reason)}
    left_out: dict[MrSequence, str | None] = {}
    for name, series in named_t1.items():
        if obstacle := _obstacle(series, flair):
            left_out[name] = f"{name.value} ({series.place}) {obstacle}"
        else:
            picked[name] = named[name]
    picked |= pair
    t1 = named_t1.get(T1) or (pair[T1][0] if T1 in pair else None)
    for name in (T1, T1C):
        if name not in picked and name not in left_out:
            left_out[name] = _why_not_used(name, flair, free, t1)
    flags += [
        flag(f"{name.value}_LEFT_OUT", f"{why}; FLAIR is analysed without {name.value}.")
        for name, why in left_out.items()
        if why is not None
    ]
    flags += _doubts(picked, named)
    chosen = {name: series for name, (series, _) in picked.items()}
    reasons = {name: reason for name, (_, reason) in picked.items()}
    return Choice(chosen, reasons, by_order, dated, tuple(flags))


def _doubts(picked: Mapping[MrSequence, Picked], named: Mapping[MrSequence, Picked]) -> list[Flag]:
    """Flags where a header contradicts the user, or hardly supports the choice of FLAIR."""
    flags = []
    for name, (series, _) in picked.items():
        header = series.identified
        if name in named and header.sequence is not name and not _is_open(series, name):
            message = (
                f"{series.place} was named as {name.value}; its header does not confirm it: "
                f"{header.kind}, {header.why}."
            )
            flags.append(flag("NAME_CONTRADICTS", message))
        elif name is FLAIR and name not in named and header.confidence == "guess":
            message = f"{series.place} is taken as FLAIR on a guess: {header.why}."
            flags.append(flag("SEQUENCE_ASSUMED", message))
    return flags


def _is_open(series: Series, name: MrSequence) -> bool:
    """Whether a header leaves it to the user that the series is this sequence."""
    header = series.identified
    if header.kind == "unknown":
        return name is not FLAIR or not _says_after_contrast(series)
    return {name, header.sequence} == {T1, T1C} and header.contrast is None


def _showing(study: Stacks, name: MrSequence) -> list[Series]:
    """The series that show a sequence by their headers."""
    return [series for series in study if series.identified.sequence is name]


def _is_silent(series: Series) -> bool:
    """Whether neither header nor description mentions contrast medium."""
    return series.identified.contrast is None


def _says_after_contrast(series: Series) -> bool:
    """Whether header or description say so, of any kind of series."""
    return bool(series.identified.contrast or series.frames[0].acquisition.contrast)


def _is_later(first: Series, second: Series) -> bool | None:
    """Whether the second was acquired after the first; ``None`` where nothing tells.

    By time where both have one, with a date or without; what has the same time is the same acquisition.
    Else by number, which scanners count up.
    """
    time, other = first.acquired, second.acquired
    if time is not None and other is not None and is_dated(time) == is_dated(other):
        return time < other
    if first.number is None or second.number is None or first.number == second.number:
        return None
    return first.number < second.number


# FLAIR.


def _choose_flair(candidates: Stacks, study: Stacks) -> tuple[Series, str, list[Flag]]:
    flairs = _showing(candidates, FLAIR)
    t1c = _showing(study, T1C)
    merits = {series: _merit(series, t1c) for series in flairs if series.usable}
    if not merits:
        errors = (_unreadable(series.error, series, study) for series in flairs if series.error)
        raise next(errors, _no_flair(study))
    best, *others = ranked = sorted(merits, key=merits.__getitem__)[::-1]
    reason = f"{best.place} is FLAIR ({best.identified.confidence}): {best.identified.why}"
    comparisons = []
    if others:
        second = others[0]
        _refuse_unsafe(ranked, study, equal=merits[best] == merits[second])
        pairs = zip(merits[best], merits[second], strict=True)
        better = next(words for (value, words), (other, _) in pairs if value != other)
        reason += f"; rather than {second.beside(best)}, since it {better}"
        comparisons.append(f"rather than {_beside(best, others)}, since it {better}")
    if broken := [series for series in flairs if not series.usable]:
        comparisons.append(f"although {_beside(best, broken)} cannot be read")
    flags = []
    if comparisons:
        message = (
            f"Several series are FLAIR; {best.place} was taken, {', '.join(comparisons)}"
            f"{'; --flair takes another' if others else ''}."
        )
        flags.append(flag("FLAIR_CHOSEN", message))
    flags += _goes_on(best, [series for series in flairs if series is not best])
    return best, f"{reason}.", flags


def _beside(best: Series, others: Stacks) -> str:
    names = ", ".join(series.beside(best) for series in others[:MOST_LISTED])
    return f"{names} and others" if len(others) > MOST_LISTED else names


def _goes_on(best: Series, others: Stacks) -> list[Flag]:
    """A flag where FLAIR covers less than a head, and another FLAIR has slices beyond it."""
    geometry = best.geometry
    if geometry is None or _coverage_mm(geometry) >= COMPLETE_MM:
        return []
    lowest, highest = geometry.slice_positions[[0, -1]]
    for series in others:
        if series.geometry is None or not _parallel(series.geometry, geometry):
            continue
        positions = series.geometry.origins @ geometry.normal
        beyond = max(lowest - positions.min(), positions.max() - highest)
        if beyond >= BEYOND_MM and best.frame_of_reference == series.frame_of_reference:
            message = (
                f"FLAIR ({best.place}) covers {_coverage_mm(geometry):.0f} mm, and {series.beside(best)} "
                f"reaches {beyond:.0f} mm beyond it; those slices are not analysed."
            )
            return [flag("MISSING_SLICES", message)]
    return []


def _refuse_unsafe(ranked: Stacks, study: Stacks, *, equal: bool) -> None:
    """Raise where the best of several is no better than the next, or only guessed."""
    best, remedy = ranked[0], _how_to_choose(ranked, FLAIR, study)
    most = max(series.shape[0] for series in ranked)
    if most == 1 or (most < LEAST_SLICES and best.whole.joined > 1):
        # Any of them would stand for the whole head.
        content = "a single slice" if most == 1 else f"at most {most} slices"
        what = f"{len(ranked)} series may be FLAIR, and each holds {content}"
        remedy = f"export them again as one series, or {remedy}"
    elif best.identified.confidence == "guess":
        what = "several series may be FLAIR, and none of their headers proves it"
    elif equal:
        what = "several FLAIR series are equally good"
    else:
        return
    raise UnsupportedInputError(f"{what}: {_listing(ranked)}", remedy=remedy)


def _unreadable(error: GliosightError, flair: Series, study: Stacks) -> GliosightError:
    """The error of the only FLAIR, with the option that takes it nevertheless, if there is one."""
    option = _option(flair, FLAIR, study)
    if not (flair.unplaced and option and _proposable(flair, FLAIR, study)):
        return error
    remedy = f"{error.remedy}, or name it with {option} to have its slices ordered without them"
    return type(error)(error.what, where=error.where, remedy=remedy)


def _no_flair(study: Stacks) -> UnsupportedInputError:
    if not study:
        return UnsupportedInputError("no series at all", remedy="give a study with FLAIR")
    # Stacks of one series and kind are one for the user.
    kinds = {(series.whole, series.identified.kind) for series in study}
    counts = Counter(kind for _, kind in sorted(kinds, key=str))
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(MOST_LISTED))
    if len(counts) > MOST_LISTED:
        listed += " and others"
    names = {
        _option(series, FLAIR, study): _name_of(series, study)
        for series in study
        if _proposable(series, FLAIR, study)
    }
    by_number = [option for option, name in names.items() if name.isdigit()]
    remedy = "give a study with FLAIR"
    if by_number:
        remedy += f"; if a header misleads, name it with {' or '.join(by_number[:MOST_LISTED])}"
    elif any(names):
        remedy += "; if a header misleads, name it with --flair UID, see gliosight inspect"
    count = len({series.whole for series in study})
    return UnsupportedInputError(f"no FLAIR among {count} series: {listed}", remedy=remedy)


def _merit(series: Series, t1c: Stacks = ()) -> Merit:
    """What speaks for a series, the weightiest first: values to compare, each with its words."""
    geometry, after_contrast = series.geometry, series.identified.contrast
    if after_contrast is None:  # whatever its header says, what is later than a T1C shows it
        after_contrast = any(_is_later(other, series) for other in t1c)
    sides = (np.inf,) if geometry is None else (geometry.slice_spacing or np.inf, *geometry.spacing)
    isotropic = sides[0] <= ISOTROPIC_MM and max(sides) <= ISOTROPIC_RATIO * min(sides)
    return (
        (series.shape[0] > 1, "has several slices"),
        (-CONFIDENCES.index(series.identified.confidence), "was identified with more confidence"),
        (geometry is not None, "has geometry"),
        (not series.frames[0].acquisition.derived, "is original, not derived"),
        (isotropic or _is_axial(geometry), "is axial or isotropic"),
        (geometry is None or _coverage_mm(geometry) >= WHOLE_HEAD_MM, "covers more of the head"),
        (not after_contrast, "is not after contrast medium, like the training data"),
        (series.shape[0], "has more slices"),
        (-1.0 if series.acquired is None else series.acquired, "was acquired later"),
        # Scanners count up.
        (-1 if series.number is None else series.number, "has the higher number"),
    )


def _parallel(first: Geometry | None, second: Geometry | None) -> bool:
    if first is None or second is None:
        return False
    return abs(float(first.normal @ second.normal)) >= SAME_DIRECTION


def _is_axial(geometry: Geometry | None) -> bool:
    return geometry is not None and bool(abs(geometry.normal[2]) >= AXIAL_FROM)


def _coverage_mm(geometry: Geometry) -> float:
    """From the first slice to the last."""
    positions = geometry.slice_positions
    return float(positions[-1] - positions[0]) + (geometry.slice_spacing or 0.0)


# T1 and T1C.


def _choose_t1(
    flair: Series, study: Stacks, named: Mapping[MrSequence, Series]
) -> tuple[dict[MrSequence, Picked], bool, bool]:
    """T1 and T1C of series that are neither FLAIR nor named, with ``by_order`` and ``dated`` of `Choice`."""
    weighted = [*_showing(study, T1), *_showing(study, T1C)]
    singles = _single_slices(flair, weighted)
    candidates = [
        series for series in weighted if series not in singles and _obstacle(series, flair) is None
    ]
    after = _showing(candidates, T1C)
    # Once contrast medium was given, every later T1 shows it, whatever its header says.
    known = [*after, *(series for name, series in named.items() if name is T1C)]
    before = [
        series
        for series in _showing(candidates, T1)
        if not (_is_silent(series) and any(_is_later(other, series) for other in known))
    ]
    picked = {}
    if after and T1C not in named:
        picked[T1C] = _nearest(flair, after)
    if before and T1 not in named:
        stated = [series for series in before if not _is_silent(series)]
        earliest = [
            series for series in before if not any(_is_later(other, series) for other in before)
        ]
        picked[T1] = _nearest(flair, before if known else stated or earliest or before)
    first = None if known else named.get(T1) or _first_of_pair(flair, before)
    repeated = [series for series in before if first is not None and _repeats(first, series)]
    if first is None or not repeated:
        return picked, False, False
    last = reduce(lambda last, series: series if _is_later(last, series) else last, repeated)
    if T1 not in named:
        picked[T1] = first, _because(first, "the earlier of two T1 of one kind")
    words = "the later of two T1 of one kind, so probably after contrast medium"
    picked[T1C] = last, _because(last, words)
    times = first.acquired, last.acquired
    return picked, True, all(time is not None and is_dated(time) for time in times)


def _single_slices(flair: Series, weighted: Stacks) -> list[Series]:
    """Slices that are a series each, one of which would stand for the whole head."""
    if flair.shape[0] == 1:
        return []
    single = [series for series in weighted if series.usable and series.shape[0] == 1]
    counts = Counter(series.identified.sequence for series in single)
    return [series for series in single if counts[series.identified.sequence] > 1]


def _first_of_pair(flair: Series, candidates: Stacks) -> Series | None:
    """The T1 nearest to FLAIR among those that were repeated later, contrast not stated."""
    firsts = [
        series
        for series in candidates
        if any(_repeats(series, other) for other in candidates)
        and not any(_repeats(other, series) and _is_later(other, series) for other in candidates)
    ]
    return max(firsts, key=lambda series: _nearness(flair, series), default=None)


def _repeats(first: Series, second: Series) -> bool:
    """Whether the second is the same protocol once more, not known to be earlier, contrast not stated."""
    later = _is_later(first, second)
    if first is second or not _is_silent(second) or later is False:
        return False
    # Stacks of one series are one acquisition unless their times differ.
    if later is None and first.whole == second.whole:
        return False
    return _same_protocol(first, second)


def _same_protocol(first: Series, second: Series) -> bool:
    header, other = first.frames[0].acquisition, second.frames[0].acquisition
    pairs = [(header.repetition, other.repetition), (header.echo, other.echo)]
    if first.geometry is not None and second.geometry is not None:
        axial = {_is_axial(series.geometry) for series in (first, second)}
        if not _parallel(first.geometry, second.geometry) or len(axial) > 1:
            return False
        pairs.append((first.geometry.slice_spacing, second.geometry.slice_spacing))
    # The rule of a T1C is that of its T1 and " + " the one that told its contrast medium.
    rules = {series.identified.rule.partition(" ")[0] for series in (first, second)}
    return len(rules) == 1 and all(
        a == b or (a and b and abs(a / b - 1) <= SAME_PROTOCOL) for a, b in pairs
    )


def _nearest(flair: Series, candidates: Stacks) -> Picked:
    best = max(candidates, key=lambda series: _nearness(flair, series))
    count = len(candidates)
    return best, _because(best, f"the nearest to FLAIR of {count}" if count > 1 else "the only one")


def _nearness(flair: Series, series: Series) -> tuple[bool, bool, bool, Merit]:
    """How well a T1 suits FLAIR: a sequence that is more than a guess, then grid, direction and merit."""
    sure = series.identified.confidence != "guess"
    parallel = _parallel(flair.geometry, series.geometry)
    return sure, same_grid(flair, series), parallel, _merit(series)


def _because(series: Series, words: str) -> str:
    header = series.identified
    return f"{series.place} is {header.kind} ({header.confidence}), {words}: {header.why}."


def same_grid(flair: Series, other: Series) -> bool:
    """Whether two series have one grid, by what their headers say of their positions."""
    if flair.geometry is None or other.geometry is None or flair.shape != other.shape:
        return False
    return flair.geometry.coincides(other.geometry, flair.shape[1:])


def _obstacle(series: Series, flair: Series) -> str | None:
    """What keeps a series from being used beside FLAIR: it cannot be read, or lies elsewhere."""
    if series.error is not None:
        return f"cannot be read: {series.error.what}"
    if series.geometry is None:
        return "has no geometry"
    if flair.geometry is None:
        return "cannot be aligned with FLAIR, which has no geometry"
    if not (series.frame_of_reference and flair.frame_of_reference):
        if same_grid(flair, series):
            return None
        return "lies on another grid than FLAIR, and no common frame of reference is stated"
    if series.frame_of_reference != flair.frame_of_reference:
        return "lies in another frame of reference than FLAIR"
    sides = [np.linspace(0, count - 1, min(count, COVERAGE_POINTS)) for count in flair.shape]
    voxels = np.stack(np.meshgrid(*sides, indexing="ij")).reshape(3, -1).T
    there = series.geometry.to_voxels(flair.geometry.to_world(voxels))
    inside = (there >= -0.5) & (there <= np.array(series.shape) - 0.5)
    part = float(inside.all(axis=1).mean())
    return f"covers only {part:.0%} of FLAIR's volume" if part < LEAST_COVERED else None


def _why_not_used(name: MrSequence, flair: Series, study: Stacks, t1: Series | None) -> str | None:
    """Why no series was taken for T1 or T1C beside ``t1``; ``None`` if the study holds none."""
    shown = _showing(study, name)
    if singles := _single_slices(flair, shown):
        return f"{len(singles)} single {name.value} slices cannot be joined to a series"
    if shown:
        best = max(shown, key=_merit)
        silent = "was acquired after contrast medium, though its header does not say so"
        return f"{name.value} ({best.place}) {_obstacle(best, flair) or silent}"
    return _perhaps_t1(study) if name is T1 else _perhaps_t1c(flair, study, t1)


def _perhaps_t1(study: Stacks) -> str | None:
    """Where a T1 may hide: under a claim of contrast medium, or under a word that excludes it."""
    after = [series for series in _showing(study, T1C) if series.usable]
    for series in after:
        if any(_same_protocol(series, other) for other in after if other is not series):
            return f"every T1 is after contrast medium by its header, such as {series.place}"
    for series in study:
        if series.identified.but_for_a_word is T1:
            kind = series.identified.kind
            return f"{series.place} would be T1 by its values, but its description says {kind}"
    return None


def _perhaps_t1c(flair: Series, study: Stacks, t1: Series | None) -> str | None:
    """Why a further T1, which may be after contrast medium, was not taken for T1C."""
    silent = [series for series in _showing(study, T1) if _is_silent(series)]
    if singles := _single_slices(flair, silent):
        count = len(singles)
        return f"{count} single T1 slices, perhaps after contrast, cannot be joined to a series"
    for series in silent:
        what = f"{series.place}, a T1 perhaps after contrast,"
        if t1 is None:
            # Unreadable and joined from several series, it may hold T1 and T1C.
            if series.error is not None and series.whole.joined > 1:
                return f"{what} {_obstacle(series, flair)}"
        elif series is not t1 and _is_later(t1, series) is not False:
            protocol = f"is of another protocol than T1 ({t1.beside(series)})"
            return f"{what} {_obstacle(series, flair) or protocol}"
    return None


# Series that the user names.


def named_in(study: Stacks, text: str) -> list[Series]:
    """The stacks that a text names, of one series or, by a number that is used twice, of several.

    The text is as ``gliosight inspect`` prints it: SeriesInstanceUID or SeriesNumber, and for one stack of a
    series its part after a comma (``3, echo 2``).
    """
    match = _NAME_AND_PART.fullmatch(text.strip())
    name, part = match.groups() if match is not None else ("", None)
    by_uid = [series for series in study if name and name in series.uids]
    numbered = [series for series in study if series.number is not None]
    named = by_uid or [series for series in numbered if str(series.number) == name]
    return [series for series in named if part is None or series.part.lower() == part.lower()]


def _find_named(study: Stacks, name: MrSequence, text: str) -> Picked:
    """The series that the user names for a sequence; raises as `choose`."""
    option = f"--{name.value.lower()}"
    what = f"{option} {text.strip()[:MOST_TYPED]} names"
    named = named_in(study, text)
    if not named:
        raise UsageError(
            f"{what} no series of this study; there are {_listing(study)}",
            remedy="give a SeriesInstanceUID or SeriesNumber that is there",
        )
    if len({series.whole for series in named}) > 1:
        wholes = list({series.whole: series for series in named}.values())
        raise UsageError(
            f"{what} several series: {_listing(wholes)}",
            remedy=_how_to_choose(wholes, name, study),
        )
    nameable = [as_named(series) for series in named if series.identified.nameable]
    if not nameable:
        header = named[0].identified
        others = [series for series in study if _proposable(series, name, study)]
        another = f"name another series: {_listing(others)}"
        raise UnsupportedInputError(
            f"{option} names {header.kind}, which is never analysed: {header.why}",
            where=named[0].place,
            remedy=another if others else "give a study with FLAIR",
        )
    fitting = [series for series in nameable if series.identified.sequence is name] or nameable
    if len(fitting) > 1:
        raise UsageError(
            f"{what} several stacks: {_listing(fitting)}",
            remedy=_how_to_choose(fitting, name, study),
        )
    series = fitting[0]
    if series.error is not None:
        raise series.error
    header_and_stacks = f"{series.identified.kind} by its header"
    if len(named) > 1:
        header_and_stacks += f"; one of {len(named)} stacks"
    return series, f"{series.place} was named with {option} ({header_and_stacks})."


def _listing(study: Stacks) -> str:
    """Series for a message: number, part, kind; never a description."""
    places = Counter(series.place for series in study)
    listed = [
        f"{series.place} ({series.identified.kind}"
        f"{f', {series.uid}' if places[series.place] > 1 and series.uid else ''})"
        for series in study[:MOST_LISTED]
    ]
    more = f" and {len(study) - MOST_LISTED} more" if len(study) > MOST_LISTED else ""
    return "; ".join(listed) + more


def _how_to_choose(candidates: Stacks, name: MrSequence, study: Stacks) -> str:
    """A remedy that takes one of these: by number, by UID, or as stacks of one series by part."""
    names = [_name_of(series, study) for series in candidates]
    if not all(names):
        return "put the files of each series into a folder of its own and give one of the folders"
    if len({series.whole for series in candidates}) > 1 or not candidates[0].part:
        numbers = [str(series.number) for series in candidates]
        return f"choose one with --{name.value.lower()} {'NUMBER' if names == numbers else 'UID'}"
    working = [series for series in candidates if _proposable(series, name, study)]
    if not working:
        return "export the series again, each sequence by itself"
    return f"choose one with {_option(working[0], name, study)} or another part"


def _option(series: Series, name: MrSequence, study: Stacks) -> str:
    """The option that takes this stack for a sequence; ``""`` where nothing means it alone."""
    text = _name_of(series, study)
    if text and series.part and len(_stacks_of(series, study)) > 1:
        text = f'"{text}, {series.part}"'
    return text and f"--{name.value.lower()} {text}"


def _name_of(series: Series, study: Stacks) -> str:
    """Number or UID that means this series and no other; ``""`` if nothing does."""
    for text in ("" if series.number is None else str(series.number), series.uid):
        if text and {other.whole for other in named_in(study, text)} == {series.whole}:
            return text
    return ""


def _stacks_of(series: Series, study: Stacks) -> list[Series]:
    """The stacks of its series that may be named, whether they can be read or not."""
    return [other for other in study if other.whole == series.whole and other.identified.nameable]


def _proposable(series: Series, name: MrSequence, study: Stacks) -> bool:
    """Whether a message may propose to name it.

    As FLAIR no stack after contrast medium is proposed beside stacks of its series that are not.
    """
    if not series.identified.nameable or as_named(series).error is not None:
        return False
    after = name is FLAIR and _says_after_contrast(series)
    return not after or all(map(_says_after_contrast, _stacks_of(series, study)))


# What pixels say.


def choose_images(
    study: Stacks, budget: Budget, wanted: Mapping[MrSequence, str], decoder: DecoderProcess
) -> tuple[Choice, dict[MrSequence, NDArray[Any]], list[Flag]]:
    """Choose the series of one study, read their pixels, and choose again without stored masks.

    Workstations store masks under a copy of the image's header, so that only the pixels tell them apart.

    Returns
    -------
    choice : Choice
    arrays : dict of MrSequence to (slices, rows, columns) array
        Without a T1 or T1C whose kind of pixels is not supported.
    flags : list of Flag
        Of pixels alone, not those of ``choice``.

    Raises
    ------
    GliosightError
        As `choose`; damaged pixels; FLAIR's kind of pixels is not supported; a mask that the user named, or
        that is the only FLAIR.
    """
    left, flags = list(study), list[Flag]()
    read: dict[int, tuple[NDArray[Any] | None, tuple[Flag, ...]]] = {}
    while True:
        choice = choose(left, wanted)
        for name, series in choice.chosen.items():
            if id(series.frames) not in read:
                read[id(series.frames)] = _read(series, name, budget, decoder)
        of_pixels = {name: read[id(series.frames)] for name, series in choice.chosen.items()}
        arrays = {name: values for name, (values, _) in of_pixels.items() if values is not None}
        mask = next((name for name, values in arrays.items() if is_labels(values)), None)
        if mask is None:
            return (
                choice,
                arrays,
                flags + [note for _, notes in of_pixels.values() for note in notes],
            )
        series, values = choice.chosen[mask], arrays[mask]
        left = [other for other in left if other is not series]
        another = any(other.usable and other.identified.sequence is mask for other in left)
        if mask in wanted or (mask is FLAIR and not another):
            refuse_mask(values, mask.value, series.frames[0].instance.where)
        message = (
            f"{series.place[:1].upper()}{series.place[1:]} looks like {mask.value} by its header, but its "
            f"pixels hold {few_values(values)} only: a stored mask, not analysed."
        )
        flags.append(flag("MASK_PASSED_OVER", message))
        del read[id(series.frames)]


def _read(
    series: Series, name: MrSequence, budget: Budget, decoder: DecoderProcess
) -> tuple[NDArray[Any] | None, tuple[Flag, ...]]:
    where = series.frames[0].instance.where
    try:
        return make_finite(read_pixels(series.frames, budget, decoder), name.value, where)
    except UnsupportedInputError as error:
        if name is FLAIR:
            raise
        message = f"{name.value} ({series.place}) is left out: {error.what}."
        return None, (flag(f"{name.value}_LEFT_OUT", message),)


def confirm_order(
    choice: Choice, arrays: dict[MrSequence, NDArray[Any]], left_out: list[MrSequence]
) -> tuple[Choice, list[Flag]]:
    """Leave out a T1C known by the order of acquisition alone, unless it enhances against T1.

    Where no dates make that order sure, T1 and T1C are swapped if T1 enhances against T1C instead. The
    arrays, on one grid, are changed accordingly, and what is left out is added to ``left_out``.
    """
    if not choice.by_order or T1C not in arrays:
        return choice, []
    enhanced = enhancement(arrays[T1], arrays[T1C]) if T1 in arrays else 0.0
    if enhanced < -ENHANCES_FROM and not choice.dated:
        enhanced = -enhanced
        arrays[T1], arrays[T1C] = arrays[T1C], arrays[T1]
        chosen = {**choice.chosen, T1: choice.chosen[T1C], T1C: choice.chosen[T1]}
        reasons = {
            **choice.reasons,
            T1: _because(chosen[T1], "by its pixels before contrast medium"),
            T1C: _because(chosen[T1C], "by its pixels after contrast medium"),
        }
        choice = replace(choice, chosen=chosen, reasons=reasons)
    if enhanced > ENHANCES_FROM:
        t1, t1c = choice.chosen[T1], choice.chosen[T1C]
        message = (
            f"No header says which T1 is after contrast medium; {t1c.place} is taken for it, since its "
            f"pixels enhance against {t1.beside(t1c)}."
        )
        return choice, [flag("T1C_BY_ORDER", message)]
    del arrays[T1C]
    left_out.append(T1C)
    if T1 not in arrays:
        why = "there is no T1 to compare the later one with"
    elif enhanced < -ENHANCES_FROM:
        why = "the later one darkens against the earlier one"
    else:
        why = "the later one does not clearly enhance"
    message = (
        f"T1C is left out: no header says which T1 is after contrast medium, and {why}. "
        "Name it with --t1c if you know it."
    )
    return choice, [flag("T1C_LEFT_OUT", message)]


def enhancement(first: NDArray[Any], second: NDArray[Any]) -> float:
    """How much more the second T1 enhances than the first, on one grid of (slices, rows, columns).

    Vessels, choroid plexus and mucosa take up contrast medium in every head, with or without a tumour: small
    bright places in the logarithm of the ratio, without what varies slowly (coil, gain, fat suppression).
    The sum of its 0.5th and 99.5th percentile inside the head changes its sign when the two are swapped; it
    is 0 without a head.
    """
    from scipy import ndimage

    quarter = len(first) // 4
    step = max(1, -(-(len(first) - 2 * quarter) // MOST_SLICES))
    middle = slice(quarter, len(first) - quarter, step)
    before, after = (
        np.clip(values[middle].astype(np.float64), 0, None) for values in (first, second)
    )
    inside = find_head(before)
    for index, plane in enumerate(inside):
        if plane.any():
            depth = ndimage.distance_transform_edt(plane)
            inside[index] = depth > RIM * np.sqrt(np.count_nonzero(plane))
    if np.count_nonzero(inside) < LEAST_VOXELS:
        return 0.0
    medians = float(np.median(before[inside])), float(np.median(after[inside]))
    if min(medians) <= 0:
        return 0.0
    ratio = np.log(np.maximum(after / medians[1], LEAST_RATIO)) - np.log(
        np.maximum(before / medians[0], LEAST_RATIO)
    )
    side = max(3, round(SLOW * first.shape[1]))
    fast = ratio - ndimage.uniform_filter(ratio, (1, side, side))
    return float(np.percentile(fast[inside], (0.5, 99.5)).sum())
