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
from gliosight.read.dicom.series import Series
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


def how_to_choose(series: abc.Sequence[Series], name: Sequence) -> str:
    """By what tells these apart: their numbers, their UIDs, or as stacks of one series their parts."""
    option, first = f"--{name.value.lower()}", series[0]
    if len({one.whole for one in series}) > 1 or not first.part:
        for what, values in (
            ("NUMBER", [one.number for one in series]),
            ("UID", [one.uid or None for one in series]),
        ):
            if None not in values and len(set(values)) == len(values):
                return f"choose one with {option} {what}"
        return _APART
    whose = first.uid if first.number is None else str(first.number)
    if not whose:
        return _APART
    return f'choose one with {option} "{whose}, {first.part}" or another part'


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


def find_wanted(series: abc.Sequence[Series], name: Sequence, text: str) -> tuple[Series, str]:
    """The series a user names for a sequence, and the sentence that says so.

    Raises
    ------
    UsageError
        No such series, or several of that number.
    UnsupportedInputError
        It is no image that is ever analysed.
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
            remedy=how_to_choose(wholes, name),
        )
    # What only a word of the description says, the user knows better; a mask's pixels still tell.
    usable = [
        one for one in found if one.usable or (one.identified.but_for_a_word and one.error is None)
    ]
    if not usable:
        first = found[0]
        if first.identified.usable and first.error is not None:
            raise first.error
        raise UnsupportedInputError(
            f"{option} names {first.identified.kind}, which is never analysed: {first.identified.why}",
            where=first.place,
            remedy="name another series",
        )
    matching = [one for one in usable if one.identified.sequence is name]
    best = (matching or usable)[0]
    why = f"{best.place} was named with {option} ({best.identified.kind} by its header"
    if len(found) > 1:
        why += f"; the first usable of its {len(found)} stacks"
    return best, why + ")."
