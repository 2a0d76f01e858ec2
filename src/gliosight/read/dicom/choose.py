"""Which series of a study are analysed as FLAIR, T1 and T1C (read stage, DICOM).

In: the `Series` of one study, and what the user wants. Out: a `Choice` with a reason for each, or an error
that lists what is there. The order is DESIGN's: certain before likely before guessed, original before
derived, axial or isotropic before others, most slices, latest acquisition. T1 and T1C have to share FLAIR's
frame of reference (PS3.3 section C.7.4.1), and those nearest to FLAIR's grid go first. Nothing else is ever
taken for FLAIR, and a guess between equals is not made.
"""

from __future__ import annotations

import collections.abc as abc
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gliosight.errors import GliosightError, UnsupportedInputError, UsageError
from gliosight.read.dicom.pairing import SAME_DIRECTION, T1Pair, is_later, pair_t1
from gliosight.read.dicom.ranking import coverage, merit_of, merits_in_words
from gliosight.read.dicom.series import Series
from gliosight.read.dicom.wanted import (
    NAMED,
    find_wanted,
    how_to_choose,
    listing,
    name_of,
    option_of,
    proposable,
    says_after_contrast,
)
from gliosight.read.flags import flag
from gliosight.study import Flag, Sequence

# Joined slices of fewer than this are a part of a series, no FLAIR to choose among several.
LEAST_SLICES = 4
# FLAIR that covers less is no whole head where another one reaches so far beyond it, mm.
HEAD, BEYOND = 120.0, 20.0
_NOTHING: Mapping[Sequence, str] = MappingProxyType({})


@dataclass(frozen=True)
class Choice:
    """The series to analyse.

    Parameters
    ----------
    chosen : mapping of Sequence to Series
        FLAIR is always there.
    reasons : mapping of Sequence to str
        One plain sentence each.
    by_order : bool
        T1 and T1C were told apart by the order of acquisition alone: pixels have to confirm it.
    dated : bool
        That order is sure: pixels may refuse it, but not turn it round.
    flags : tuple of Flag
    """

    chosen: Mapping[Sequence, Series]
    reasons: Mapping[Sequence, str]
    by_order: bool = False
    dated: bool = False
    flags: tuple[Flag, ...] = ()


def choose(series: abc.Sequence[Series], wanted: Mapping[Sequence, str] = _NOTHING) -> Choice:
    """Choose the series of one study.

    Parameters
    ----------
    series : sequence of Series
    wanted : mapping of Sequence to str, optional
        SeriesInstanceUID or SeriesNumber as text, see `wanted`: taken instead of the rules' choice.

    Returns
    -------
    Choice

    Raises
    ------
    UnsupportedInputError
        No FLAIR, no safe choice between several, or the requested series is not an image.
    UsageError
        A wanted series is not there, is not the only one of its number, or is wanted twice.
    GliosightError
        The only FLAIR, or a wanted series, cannot be read: its own error.
    """
    asked = {name: find_wanted(series, name, text) for name, text in wanted.items()}
    _refuse_twice(asked)
    chosen: dict[Sequence, Series] = {}
    reasons: dict[Sequence, str] = {}
    if Sequence.FLAIR in asked:
        flair, reasons[Sequence.FLAIR] = asked[Sequence.FLAIR]
        flags: list[Flag] = []
    else:
        others = {id(one.frames) for one, _ in asked.values()}
        rest = [one for one in series if id(one.frames) not in others]
        flair, reasons[Sequence.FLAIR], flags = _choose_flair(rest, series)
    chosen[Sequence.FLAIR] = flair
    taken = dict(asked)
    taken.pop(Sequence.FLAIR, None)
    mine = {id(flair.frames), *(id(one.frames) for one, _ in taken.values())}
    free = [one for one in series if id(one.frames) not in mine]
    pair = pair_t1(flair, free, {name: one for name, (one, _) in taken.items()})
    picked = {name: one for name, one in taken.items() if name not in pair.lost}
    picked.update(pair.chosen)
    for name, (one, why) in picked.items():
        chosen[name], reasons[name] = one, why
    flags += _lost(pair)
    flags += _doubtful(chosen, asked)
    return Choice(chosen, reasons, pair.by_order, pair.dated, tuple(flags))


def _doubtful(
    chosen: Mapping[Sequence, Series], asked: Mapping[Sequence, tuple[Series, str]]
) -> list[Flag]:
    """Flags where a header says something else than the user, or next to nothing."""
    out = []
    for name, one in chosen.items():
        said = one.identified
        # Whether a T1 is after contrast the user may know where the header does not say it.
        before = name is not Sequence.FLAIR or not says_after_contrast(one)
        open_ = (said.kind == "unknown" and before) or (
            {name, said.sequence} == {Sequence.T1, Sequence.T1C} and said.contrast is None
        )
        if name in asked and said.sequence is not name and not open_:
            message = (
                f"{one.place} was named as {name.value}; its header does not confirm it: "
                f"{said.kind}, {said.why}."
            )
            out.append(flag("NAME_CONTRADICTS", message))
        elif name is Sequence.FLAIR and name not in asked and said.confidence == "guess":
            message = f"{one.place} is taken as FLAIR on a guess: {said.why}."
            out.append(flag("SEQUENCE_ASSUMED", message))
    return out


def _choose_flair(
    series: abc.Sequence[Series], everything: abc.Sequence[Series]
) -> tuple[Series, str, list[Flag]]:
    found = [one for one in series if one.identified.sequence is Sequence.FLAIR]
    merits = {
        id(one): merit_of(one, after_contrast=_after_contrast(one, everything))
        for one in found
        if one.usable
    }
    candidates = sorted((one for one in found if one.usable), key=lambda one: merits[id(one)])
    if not candidates:
        raise next((_broken(one, everything) for one in found if one.error), _no_flair(everything))
    best = candidates[-1]
    others = candidates[:-1][::-1]
    why = f"{best.place} is FLAIR ({best.identified.confidence}): {best.identified.why}"
    reason = ""
    if others:
        merit, second = merits[id(best)], merits[id(others[0])]
        _refuse_unsafe(candidates, everything, equal=merit == second)
        reason = merits_in_words(merit, second)
        why += f"; rather than {others[0].beside(best)}, since it {reason}"
    flags = _flair_chosen(best, others, [one for one in found if not one.usable], reason)
    flags += _goes_on(best, [one for one in found if one is not best])
    return best, why + ".", flags


def _after_contrast(flair: Series, series: abc.Sequence[Series]) -> bool:
    """Whether a FLAIR says that it is after contrast medium, or was acquired after a T1 that says so."""
    if flair.identified.contrast is not None:
        return flair.identified.contrast
    return any(is_later(one, flair) for one in series if one.identified.sequence is Sequence.T1C)


def _flair_chosen(
    best: Series, others: abc.Sequence[Series], broken: abc.Sequence[Series], reason: str
) -> list[Flag]:
    if not others and not broken:
        return []
    parts = []
    if others:
        names = ", ".join(one.beside(best) for one in others[:NAMED])
        more = " and others" if len(others) > NAMED else ""
        parts.append(f"rather than {names}{more}, since it {reason}")
    if broken:
        names = ", ".join(one.beside(best) for one in broken[:NAMED])
        parts.append(f"although {names} cannot be read")
    message = (
        f"Several series are FLAIR; {best.place} was taken, {', '.join(parts)}"
        f"{'; --flair takes another' if others else ''}."
    )
    return [flag("FLAIR_CHOSEN", message)]


def _goes_on(best: Series, others: abc.Sequence[Series]) -> list[Flag]:
    """A flag where the slices of another FLAIR go on beyond those of one that is less than a head."""
    geometry = best.geometry
    if geometry is None or coverage(geometry) >= HEAD:
        return []
    lowest, highest = geometry.slice_positions[[0, -1]]
    for one in others:
        other = one.geometry
        if other is None or abs(float(other.normal @ geometry.normal)) < SAME_DIRECTION:
            continue
        places = other.origins @ geometry.normal
        beyond = max(lowest - places.min(), places.max() - highest)
        if beyond >= BEYOND and best.frame_of_reference == one.frame_of_reference:
            message = (
                f"FLAIR ({best.place}) covers {coverage(geometry):.0f} mm, and {one.beside(best)} reaches "
                f"{beyond:.0f} mm beyond it; those slices are not looked at."
            )
            return [flag("MISSING_SLICES", message)]
    return []


def _refuse_unsafe(
    candidates: abc.Sequence[Series], everything: abc.Sequence[Series], *, equal: bool
) -> None:
    """Raise where the best of several is no better than the next, or only guessed."""
    first, remedy = candidates[-1], how_to_choose(candidates[::-1], Sequence.FLAIR, everything)
    few = max(one.shape[0] for one in candidates)
    if few == 1 or (few < LEAST_SLICES and first.whole.joined > 1):
        # Any one would stand for the whole head.
        held = "a single slice" if few == 1 else f"at most {few} slices"
        what = f"{len(candidates)} series may be FLAIR, and each holds {held}"
        remedy = f"export them again as one series, or {remedy}"
    elif first.identified.confidence == "guess":
        what = "several series may be FLAIR, and none of their headers proves it"
    elif equal:
        what = "several FLAIR series are equally good"
    else:
        return
    raise UnsupportedInputError(f"{what}: {listing(candidates[::-1])}", remedy=remedy)


def _broken(one: Series, everything: abc.Sequence[Series]) -> GliosightError:
    """Why the only FLAIR cannot be read, with the option that takes it all the same where there is one."""
    if one.error is None:
        raise ValueError("the series can be read")
    option = option_of(one, Sequence.FLAIR, everything)
    if not (one.unplaced and option and proposable(one, Sequence.FLAIR, everything)):
        return one.error
    how = f"or name it with {option} to have its slices ordered without them"
    error = one.error
    return type(error)(error.what, where=error.where, remedy=f"{error.remedy}, {how}")


def _no_flair(series: abc.Sequence[Series]) -> UnsupportedInputError:
    # The parts of one series are one to whoever looks for it.
    whole = {(one.whole, one.identified.kind) for one in series}
    counts = Counter(kind for _, kind in sorted(whole, key=str))
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(NAMED))
    if len(counts) > NAMED:
        kinds += " and others"
    count = len({one.whole for one in series})
    what = f"no FLAIR among {count} series: {kinds}" if series else "no series at all"
    named = [one for one in series if proposable(one, Sequence.FLAIR, series)]
    numbered = [one for one in named if name_of(one, series).isdigit()]
    remedy = "give a study with FLAIR"
    if options := dict.fromkeys(option_of(one, Sequence.FLAIR, series) for one in numbered):
        remedy += f"; if a header misleads, name it with {' or '.join(list(options)[:NAMED])}"
    elif any(name_of(one, series) for one in named):
        remedy += "; if a header misleads, name it with --flair UID, see gliosight inspect"
    return UnsupportedInputError(what, remedy=remedy)


def _refuse_twice(asked: Mapping[Sequence, tuple[Series, str]]) -> None:
    seen: dict[int, Sequence] = {}
    for name, (one, _) in asked.items():
        if id(one.frames) in seen:
            options = f"--{seen[id(one.frames)].value.lower()} and --{name.value.lower()}"
            raise UsageError(
                f"{options} name the same series", where=one.place, remedy="name two series"
            )
        seen[id(one.frames)] = name


def _lost(pair: T1Pair) -> list[Flag]:
    """Flags for T1 and T1C that do not lie in FLAIR's coordinates."""
    out = []
    for name, why in pair.lost.items():
        if name in pair.chosen:
            continue
        message = f"{why}; FLAIR is analysed without {name.value}."
        out.append(flag(f"{name.value}_LEFT_OUT", message))
    return out
