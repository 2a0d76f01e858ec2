"""Which T1-weighted series is T1 and which T1C (read stage, DICOM, below `choose`).

In: the FLAIR that was chosen, the other series of its study, those the user named. Out: a `T1Pair`. Fields
for contrast medium and words in descriptions have spoken already (`rules`); where they are silent, of two
series of one kind the later is taken for T1C, which pixels have to confirm. A series counts only in FLAIR's
coordinates.
"""

from __future__ import annotations

import collections.abc as abc
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gliosight.read.dicom.ranking import Merit, is_axial, merit_of
from gliosight.read.dicom.series import Series
from gliosight.study import Sequence

# Normals within this angle are one direction.
SAME_DIRECTION = float(np.cos(np.deg2rad(10.0)))
# Timing, voxels within this part are the same protocol's.
SAME_PROTOCOL = 0.15


@dataclass(frozen=True)
class T1Pair:
    """T1 and T1C for one FLAIR.

    Parameters
    ----------
    chosen : mapping of Sequence to (Series, str)
        With the sentence that says why; without those that the user named.
    lost : mapping of Sequence to str
        What is there but lies in other coordinates, in words.
    by_order : bool
    """

    chosen: Mapping[Sequence, tuple[Series, str]] = field(default_factory=dict)
    lost: Mapping[Sequence, str] = field(default_factory=dict)
    by_order: bool = False


def pair_t1(
    flair: Series, series: abc.Sequence[Series], named: Mapping[Sequence, Series]
) -> T1Pair:
    """T1 and T1C among the other series of a study.

    Parameters
    ----------
    flair : Series
    series : sequence of Series
        Candidates: neither FLAIR's own series nor those named.
    named : mapping of Sequence to Series
        What the user wants; only looked at for its coordinates and times.
    """
    lost = {
        name: _elsewhere(name, one, flair) for name, one in named.items() if not _shares(flair, one)
    }
    weighted = [
        one
        for one in series
        if one.usable and one.identified.sequence in (Sequence.T1, Sequence.T1C)
    ]
    near = [one for one in weighted if _shares(flair, one)]
    after = [one for one in near if one.identified.sequence is Sequence.T1C]
    before = [one for one in near if one.identified.sequence is Sequence.T1]
    # Once contrast medium is known to be in, every later T1 shows it, whatever its header says.
    known = [*after, *([named[Sequence.T1C]] if Sequence.T1C in named else [])]
    silent_after = [one for one in before if _unknown(one) and _later_than_any(one, known)]
    before = [one for one in before if one not in silent_after]
    chosen: dict[Sequence, tuple[Series, str]] = {}
    if Sequence.T1C not in named and after:
        chosen[Sequence.T1C] = _best(flair, after)
    by_order = False
    if Sequence.T1 not in named and before:
        chosen[Sequence.T1] = _best(flair, before)
    if Sequence.T1C not in named and not after:
        first = named.get(Sequence.T1) or _first_of_pair(flair, before)
        later = [one for one in before if first is not None and _repeats(first, one)]
        if first is not None and later:
            by_order = True
            if Sequence.T1 not in named:
                chosen[Sequence.T1] = first, _because(first, "the earlier of two T1 of one kind")
            second = max(later, key=_order)
            words = "the later of two T1 of one kind, so probably after contrast medium"
            chosen[Sequence.T1C] = second, _because(second, words)
    for name in (Sequence.T1, Sequence.T1C):
        away = [
            one for one in weighted if one.identified.sequence is name and not _shares(flair, one)
        ]
        if away and name not in chosen and name not in named:
            lost[name] = _elsewhere(name, max(away, key=merit_of), flair)
    return T1Pair(chosen, lost, by_order)


def _shares(flair: Series, other: Series) -> bool:
    """Whether two series lie in one world: the same frame of reference, or without one the same grid."""
    if flair.geometry is None or other.geometry is None:
        return False
    if flair.frame_of_reference and other.frame_of_reference:
        return flair.frame_of_reference == other.frame_of_reference
    return same_grid(flair, other)


def same_grid(flair: Series, other: Series) -> bool:
    """Whether two series have one grid, by what their headers say of their places."""
    if flair.geometry is None or other.geometry is None or flair.shape != other.shape:
        return False
    return flair.geometry.coincides(other.geometry, flair.shape[1:])


def _elsewhere(name: Sequence, series: Series, flair: Series) -> str:
    who = f"{name.value} ({series.place})"
    if series.geometry is None or flair.geometry is None:
        return f"{who if series.geometry is None else 'FLAIR'} has no geometry"
    if not (series.frame_of_reference and flair.frame_of_reference):
        silent = who if flair.frame_of_reference else "FLAIR"
        return f"{silent} names no frame of reference, and {who} lies on another grid than FLAIR"
    return f"{who} lies in another frame of reference than FLAIR"


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


def _order(one: Series) -> tuple[float, int]:
    """When it was acquired; by number where no time is known."""
    time = one.acquired
    return (-1.0 if time is None else time), (-1 if one.number is None else one.number)


def _later(first: Series, second: Series) -> bool:
    """Whether the second was acquired after the first, by time, else by number; never a guess."""
    one, other = first.acquired, second.acquired
    if one is not None and other is not None and one != other:
        return one < other
    if one is not None or other is not None:
        return False
    return None not in (first.number, second.number) and _order(first) < _order(second)


def _later_than_any(one: Series, known: abc.Sequence[Series]) -> bool:
    return any(_later(other, one) for other in known)


def _first_of_pair(flair: Series, candidates: abc.Sequence[Series]) -> Series | None:
    """The T1 that suits FLAIR best among those that were repeated later with contrast unknown."""
    repeated = [one for one in candidates if any(_repeats(one, other) for other in candidates)]
    firsts = [one for one in repeated if not any(_repeats(other, one) for other in candidates)]
    return max(firsts, key=lambda one: _suits(flair, one), default=None)


def _repeats(first: Series, second: Series) -> bool:
    """Whether the second is the same protocol once more, later, contrast medium not stated."""
    if (
        first is second
        or first.whole == second.whole
        or not _unknown(second)
        or not _later(first, second)
    ):
        return False
    one, other = first.frames[0].acquisition, second.frames[0].acquisition
    pairs = [(one.repetition, other.repetition), (one.echo, other.echo)]
    if first.geometry is not None and second.geometry is not None:
        turned = abs(float(first.geometry.normal @ second.geometry.normal)) < SAME_DIRECTION
        if turned or is_axial(first.geometry) != is_axial(second.geometry):
            return False
        pairs.append((first.geometry.slice_spacing, second.geometry.slice_spacing))
    same = all((a is None and b is None) or (a and b and _about(a, b)) for a, b in pairs)
    return first.identified.rule == second.identified.rule and same


def _about(one: float, other: float) -> bool:
    return abs(one / other - 1) <= SAME_PROTOCOL
