"""The series a user names (read stage, DICOM, below `choose`).

In: the `Series` of one study, and a text as ``gliosight inspect`` prints it: a SeriesInstanceUID or a
SeriesNumber, and for one of several stacks of a series its part after a comma (``3, echo 2``). Out: the one
that is meant, with the sentence that says so.
"""

from __future__ import annotations

import collections.abc as abc
import re
from collections import Counter

from gliosight.errors import UnsupportedInputError, UsageError
from gliosight.read.dicom.series import Series, without_positions
from gliosight.study import Sequence

# Series named in a message before it breaks off.
NAMED = 8
# Characters of what the user typed that a message repeats.
TYPED = 64
_APART = "put the files of each into a folder of its own, and give that of one"
_TEXT = re.compile(r"(?:series\s+)?([^,]*?)\s*(?:,\s*(.*))?", re.IGNORECASE)


def listing(series: abc.Sequence[Series]) -> str:
    """Series for a message: number, part, kind; never a description."""
    places = Counter(one.place for one in series)
    named = [
        f"{one.place} ({one.identified.kind}{_uid_of(one) if places[one.place] > 1 else ''})"
        for one in series[:NAMED]
    ]
    more = f" and {len(series) - NAMED} more" if len(series) > NAMED else ""
    return "; ".join(named) + more


def _uid_of(one: Series) -> str:
    return f", {one.uid}" if one.uid else ""


def how_to_choose(series: abc.Sequence[Series], name: Sequence, among: abc.Sequence[Series]) -> str:
    """An option that takes one of these: by number, by UID, or as stacks of one series by part.

    Parameters
    ----------
    series : sequence of Series
        Between which the user has to choose.
    name : Sequence
    among : sequence of Series
        All of the study: what two of them share names none.
    """
    names = [name_of(one, among) for one in series]
    if not all(names):
        return _APART
    if len({one.whole for one in series}) > 1 or not series[0].part:
        by_number = all(name == str(one.number) for name, one in zip(names, series, strict=True))
        return f"choose one with --{name.value.lower()} {'NUMBER' if by_number else 'UID'}"
    if not (working := [one for one in series if proposable(one, name, among)]):
        return "export the series again, each sequence by itself"
    return f"choose one with {option_of(working[0], name, among)} or another part"


def option_of(one: Series, name: Sequence, among: abc.Sequence[Series]) -> str:
    """The option that takes this stack for a sequence; ``""`` where nothing means it alone."""
    if not (whole := name_of(one, among)):
        return ""
    several = one.part and len(_stacks_of(one, among)) > 1
    text = f'"{whole}, {one.part}"' if several else whole
    return f"--{name.value.lower()} {text}"


def proposable(one: Series, name: Sequence, among: abc.Sequence[Series]) -> bool:
    """Whether a message may propose it: as FLAIR none after contrast medium beside one that is not."""
    after = name is Sequence.FLAIR and says_after_contrast(one)
    stacks = _stacks_of(one, among) if after else []
    return can_be_named(one) and all(says_after_contrast(other) for other in stacks)


def says_after_contrast(one: Series) -> bool:
    """Whether header or description say so, also of what is no T1 and no FLAIR by them."""
    return bool(one.identified.contrast or one.frames[0].acquisition.contrast)


def _stacks_of(one: Series, among: abc.Sequence[Series]) -> list[Series]:
    """The stacks of its series that may be named, whether they can be read or not."""
    return [other for other in among if other.whole == one.whole and other.identified.nameable]


def name_of(one: Series, among: abc.Sequence[Series]) -> str:
    """Number or UID that means this series and no other; ``""`` if nothing does."""
    for text in ("" if one.number is None else str(one.number), one.uid):
        if text and {other.whole for other in named_in(among, text)} == {one.whole}:
            return text
    return ""


def named_in(series: abc.Sequence[Series], text: str) -> list[Series]:
    """Those that the text names, of one series or, by a number that is used twice, of several.

    Parameters
    ----------
    series : sequence of Series
    text : str
        ``UID``, ``NUMBER``, ``UID, PART`` or ``NUMBER, PART``.
    """
    match = _TEXT.fullmatch(text.strip())
    whole, part = match.groups() if match is not None else ("", None)
    found = [one for one in series if whole and whole in one.uids]
    if not found:
        found = [one for one in series if one.number is not None and str(one.number) == whole]
    return found if part is None else [one for one in found if one.part.lower() == part.lower()]


def as_named(one: Series) -> Series:
    """A series as it is if the user names it: without positions where it has none that are its own."""
    return without_positions(one) if one.unplaced else one


def can_be_named(one: Series) -> bool:
    """Whether an option that names this series leads to an analysis."""
    return as_named(one).error is None and one.identified.nameable


def find_wanted(series: abc.Sequence[Series], name: Sequence, text: str) -> tuple[Series, str]:
    """The series a user names for a sequence, and the sentence that says so.

    Raises
    ------
    UsageError
        No such series, or several series or stacks that the text may mean.
    UnsupportedInputError
        The series is of a kind that is never analysed.
    GliosightError
        It cannot be read: its own error.
    """
    option = f"--{name.value.lower()}"
    found = named_in(series, text)
    if not found:
        raise UsageError(
            f"{option} {text.strip()[:TYPED]} names no series of this study; there are "
            f"{listing(series)}",
            remedy="give a SeriesInstanceUID or SeriesNumber that is there",
        )
    if len({one.whole for one in found}) > 1:
        wholes = list({one.whole: one for one in found}.values())
        raise UsageError(
            f"{option} {text.strip()[:TYPED]} names several series: {listing(wholes)}",
            remedy=how_to_choose(wholes, name, series),
        )
    nameable = [as_named(one) for one in found if one.identified.nameable]
    if not nameable:
        first = found[0]
        others = [one for one in series if can_be_named(one)]
        raise UnsupportedInputError(
            f"{option} names {first.identified.kind}, which is never analysed: {first.identified.why}",
            where=first.place,
            remedy=f"name another series: {listing(others)}"
            if others
            else "give a study with FLAIR",
        )
    best, *others = [one for one in nameable if one.identified.sequence is name] or nameable
    if others:
        raise UsageError(
            f"{option} {text.strip()[:TYPED]} names several stacks: {listing([best, *others])}",
            remedy=how_to_choose([best, *others], name, series),
        )
    if best.error is not None:
        raise best.error
    why = f"{best.place} was named with {option} ({best.identified.kind} by its header"
    if len(found) > 1:
        why += f"; one of {len(found)} stacks"
    return best, why + ")."
