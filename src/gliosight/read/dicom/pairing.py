"""Which T1-weighted series is T1 and which T1C (read stage, DICOM, below `choose`).

In: the FLAIR that was chosen, the other series of its study, those the user named. Out: a `T1Pair`. Fields
for contrast medium and words in descriptions have spoken already (`rules`); where they are silent, of two
series of one kind the later is taken for T1C, which pixels have to confirm. A series counts only in FLAIR's
coordinates. A series that cannot be used is reported with the reason.
"""

from __future__ import annotations

import collections.abc as abc
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gliosight.errors import GliosightError
from gliosight.read.dicom.acquisition import is_dated
from gliosight.read.dicom.ranking import Merit, is_axial, merit_of
from gliosight.read.dicom.series import Series
from gliosight.read.resample import LEAST_COVERED
from gliosight.study import Geometry, Sequence

# Normals within this angle are one direction.
SAME_DIRECTION = float(np.cos(np.deg2rad(10.0)))
# Timing, voxels within this part are the same protocol's.
SAME_PROTOCOL = 0.15
# Points in each direction at which it is asked how much of FLAIR another series covers.
COVERAGE_POINTS = 24


@dataclass(frozen=True)
class T1Pair:
    """T1 and T1C for one FLAIR.

    Parameters
    ----------
    chosen : mapping of Sequence to (Series, str)
        With the sentence that says why; without those that the user named.
    lost : mapping of Sequence to str
        What is there but cannot be used, in words.
    by_order : bool
        They were told apart by the order of acquisition alone.
    dated : bool
        That order is sure: both have a date and a time.
    """

    chosen: Mapping[Sequence, tuple[Series, str]] = field(default_factory=dict)
    lost: Mapping[Sequence, str] = field(default_factory=dict)
    by_order: bool = False
    dated: bool = False


def pair_t1(
    flair: Series, series: abc.Sequence[Series], named: Mapping[Sequence, Series]
) -> T1Pair:
    """T1 and T1C among the other series of a study.

    Parameters
    ----------
    flair : Series
    series : sequence of Series
        Candidates: neither FLAIR nor those named.
    named : mapping of Sequence to Series
        What the user wants; only looked at for its coordinates and times.
    """
    lost = {
        name: why
        for name, one in named.items()
        if (why := _elsewhere(name, one, flair)) is not None
    }
    weighted = [one for one in series if one.identified.sequence in (Sequence.T1, Sequence.T1C)]
    singles = _single_slices(flair, weighted)
    near = [
        one
        for one in weighted
        if one.usable and one not in singles and _elsewhere(None, one, flair) is None
    ]
    after = [one for one in near if one.identified.sequence is Sequence.T1C]
    before = [one for one in near if one.identified.sequence is Sequence.T1]
    # Once contrast medium is known to be in, every later T1 shows it, whatever its header says.
    known = [*after, *([named[Sequence.T1C]] if Sequence.T1C in named else [])]
    silent_after = [
        one for one in before if _unknown(one) and any(is_later(other, one) for other in known)
    ]
    before = [one for one in before if one not in silent_after]
    chosen: dict[Sequence, tuple[Series, str]] = {}
    if Sequence.T1C not in named and after:
        chosen[Sequence.T1C] = _best(flair, after)
    if Sequence.T1 not in named and before:
        chosen[Sequence.T1] = _best(flair, before if known else _surely_before(before))
    by_order = dated = False
    if Sequence.T1C not in named and not after:
        first = named.get(Sequence.T1) or _first_of_pair(flair, before)
        later = [one for one in before if first is not None and _repeats(first, one)]
        if first is not None and later:
            second = _last(later)
            by_order, dated = True, _dated(first) and _dated(second)
            if Sequence.T1 not in named:
                chosen[Sequence.T1] = first, _because(first, "the earlier of two T1 of one kind")
            words = "the later of two T1 of one kind, so probably after contrast medium"
            chosen[Sequence.T1C] = second, _because(second, words)
    taken = {**named, **{name: one for name, (one, _) in chosen.items()}}
    for name in (Sequence.T1, Sequence.T1C):
        if name not in taken and (why := _not_used(name, series, flair, taken)) is not None:
            lost[name] = why
    return T1Pair(chosen, lost, by_order, dated)


def _single_slices(flair: Series, weighted: abc.Sequence[Series]) -> list[Series]:
    """Slices that are a series each, one of which would stand for the whole head."""
    single = [one for one in weighted if one.usable and one.shape[0] == 1]
    several = {
        name: sum(one.identified.sequence is name for one in single) > 1 for name in Sequence
    }
    return [
        one
        for one in single
        if flair.shape[0] > 1 and one.identified.sequence and several[one.identified.sequence]
    ]


def _surely_before(candidates: abc.Sequence[Series]) -> list[Series]:
    """Those that say they are before contrast medium; if none does, those that no other came before."""
    said = [one for one in candidates if not _unknown(one)]
    return said or [
        one for one in candidates if not any(is_later(other, one) for other in candidates)
    ]


def _last(candidates: abc.Sequence[Series]) -> Series:
    """The one after which no other was acquired."""
    last = candidates[0]
    for one in candidates[1:]:
        if is_later(last, one):
            last = one
    return last


def _not_used(
    name: Sequence,
    series: abc.Sequence[Series],
    flair: Series,
    taken: Mapping[Sequence, Series],
) -> str | None:
    """Why no series of this sequence was taken; ``None`` if the study holds none."""
    mine = [one for one in series if one.identified.sequence is name]
    singles = [one for one in _single_slices(flair, mine) if one not in taken.values()]
    if singles:
        return f"{len(singles)} single {name.value} slices cannot be joined to a series"
    if mine:
        one = max(mine, key=merit_of)
        who = f"{name.value} ({one.place})"
        if one.error is not None:
            return f"{who} {_unreadable(one.error)}"
        silent = f"{who} was acquired after contrast medium, though its header does not say so"
        return _elsewhere(name, one, flair) or silent
    return (
        _t1_under_another_name(series)
        if name is Sequence.T1
        else _perhaps_after(series, flair, taken)
    )


def _t1_under_another_name(series: abc.Sequence[Series]) -> str | None:
    """What a T1 may be hidden in: a series that claims contrast medium, or that a word excludes."""
    after = [one for one in series if one.usable and one.identified.sequence is Sequence.T1C]
    for one in after:
        if any(_alike(one, other) for other in after if other is not one):
            return f"every T1 says that it is after contrast, {one.place} the first"
    for one in series:
        if one.identified.but_for_a_word is Sequence.T1:
            kind = one.identified.kind
            return f"{one.place} would be T1 by its values, but its description says {kind}"
    return None


def _perhaps_after(
    series: abc.Sequence[Series], flair: Series, taken: Mapping[Sequence, Series]
) -> str | None:
    """A further T1 that may be the one after contrast medium, and why it was not taken for it."""
    first = taken.get(Sequence.T1)
    silent = [one for one in series if one.identified.sequence is Sequence.T1 and _unknown(one)]
    if singles := [one for one in _single_slices(flair, silent) if one is not first]:
        return (
            f"{len(singles)} single T1 slices, perhaps after contrast, cannot be joined to a series"
        )
    for one in silent if first is None else ():
        if one.error is not None and one.whole.joined > 1:
            return f"{one.place}, a T1 perhaps after contrast, {_unreadable(one.error)}"
    for one in series:
        weighted = one.identified.sequence is Sequence.T1 and one is not first
        if first is None or not weighted or not _unknown(one) or is_later(first, one) is False:
            continue
        what = f"{one.place}, a T1 perhaps after contrast,"
        if one.error is not None:
            return f"{what} {_unreadable(one.error)}"
        if (why := _elsewhere(Sequence.T1, one, flair)) is not None:
            return f"{what} is not used: {why}"
        return f"{what} is another protocol than T1 ({first.beside(one)}) and not taken for it"
    return None


def _unreadable(error: GliosightError) -> str:
    return f"cannot be read: {error.what}"


def _elsewhere(name: Sequence | None, series: Series, flair: Series) -> str | None:
    """Why a series does not lie in FLAIR's world; ``None`` where it does.

    That is the same frame of reference, or without one the same grid, and half of FLAIR within it.
    """
    who = f"{'T1' if name is None else name.value} ({series.place})"
    if series.geometry is None or flair.geometry is None:
        return f"{who if series.geometry is None else 'FLAIR'} has no geometry"
    if not (series.frame_of_reference and flair.frame_of_reference):
        if same_grid(flair, series):
            return None
        silent = who if flair.frame_of_reference else "FLAIR"
        return f"{silent} has no one frame of reference, and {who} lies on another grid than FLAIR"
    if series.frame_of_reference != flair.frame_of_reference:
        return f"{who} lies in another frame of reference than FLAIR"
    part = _covered(flair.geometry, flair.shape, series.geometry, series.shape)
    return f"{who} covers only {part:.0%} of FLAIR's volume" if part < LEAST_COVERED else None


def _covered(
    grid: Geometry, shape: tuple[int, ...], other: Geometry, other_shape: tuple[int, ...]
) -> float:
    """About how much of a grid lies within another, by headers alone."""
    sides = [np.linspace(0, one - 1, min(one, COVERAGE_POINTS)) for one in shape]
    voxels = np.stack(np.meshgrid(*sides, indexing="ij")).reshape(3, -1)
    there = other.to_voxels(grid.to_world(voxels.T))
    return float(((there >= -0.5) & (there <= np.array(other_shape) - 0.5)).all(axis=1).mean())


def same_grid(flair: Series, other: Series) -> bool:
    """Whether two series have one grid, by what their headers say of their places."""
    if flair.geometry is None or other.geometry is None or flair.shape != other.shape:
        return False
    return flair.geometry.coincides(other.geometry, flair.shape[1:])


def _best(flair: Series, candidates: abc.Sequence[Series]) -> tuple[Series, str]:
    best = max(candidates, key=lambda one: _suits(flair, one))
    count = len(candidates)
    words = f"the nearest to FLAIR of {count}" if count > 1 else "the only one"
    return best, _because(best, words)


def _suits(flair: Series, one: Series) -> tuple[bool, int, Merit]:
    """A guess last, then by nearness to FLAIR's grid, then by merit."""
    return one.identified.confidence != "guess", _nearness(flair, one), merit_of(one)


def _nearness(flair: Series, one: Series) -> int:
    if flair.geometry is None or one.geometry is None:
        return 0
    if same_grid(flair, one):
        return 2
    return int(abs(float(flair.geometry.normal @ one.geometry.normal)) >= SAME_DIRECTION)


def _because(one: Series, words: str) -> str:
    name = one.identified
    return f"{one.place} is {name.kind} ({name.confidence}), {words}: {name.why}."


def _unknown(one: Series) -> bool:
    return one.identified.contrast is None


def _dated(one: Series) -> bool:
    return one.acquired is not None and is_dated(one.acquired)


def is_later(first: Series, second: Series) -> bool | None:
    """Whether the second was acquired after the first; ``None`` where nothing tells.

    By time where both have one, with a date or without; what has the same time is the same acquisition.
    Else by number, which scanners count up.
    """
    one, other = first.acquired, second.acquired
    if one is not None and other is not None and is_dated(one) == is_dated(other):
        return one < other
    if first.number is None or second.number is None or first.number == second.number:
        return None
    return first.number < second.number


def _first_of_pair(flair: Series, candidates: abc.Sequence[Series]) -> Series | None:
    """The T1 that suits FLAIR best among those that were repeated later with contrast unknown."""
    firsts = [
        one
        for one in candidates
        if any(_repeats(one, other) for other in candidates)
        and not any(_repeats(other, one) and is_later(other, one) for other in candidates)
    ]
    return max(firsts, key=lambda one: _suits(flair, one), default=None)


def _repeats(first: Series, second: Series) -> bool:
    """Whether the second is the same protocol once more, not known to be earlier, contrast not stated."""
    later = is_later(first, second)
    if first is second or not _unknown(second) or later is False:
        return False
    # Parts of one series differ in much that is no repetition: only a time says that they are one.
    if later is None and first.whole == second.whole:
        return False
    return _alike(first, second)


def _alike(first: Series, second: Series) -> bool:
    """Whether two series are of one protocol."""
    one, other = first.frames[0].acquisition, second.frames[0].acquisition
    pairs = [(one.repetition, other.repetition), (one.echo, other.echo)]
    if first.geometry is not None and second.geometry is not None:
        turned = abs(float(first.geometry.normal @ second.geometry.normal)) < SAME_DIRECTION
        if turned or is_axial(first.geometry) != is_axial(second.geometry):
            return False
        pairs.append((first.geometry.slice_spacing, second.geometry.slice_spacing))
    same = all((a is None and b is None) or (a and b and _about(a, b)) for a, b in pairs)
    rules = {one.identified.rule.partition(" ")[0] for one in (first, second)}
    return len(rules) == 1 and same


def _about(one: float, other: float) -> bool:
    return abs(one / other - 1) <= SAME_PROTOCOL
