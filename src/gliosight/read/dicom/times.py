"""Times of acquisition that can be compared (read stage, DICOM, below `series`).

In: `Acquisition.acquired`, seconds since the year 1, or of the day only where a header has no date. Out: the
same, so that of two times the earlier is the smaller, also across midnight.
"""

from __future__ import annotations

from collections.abc import Iterable

from gliosight.read.dicom.acquisition import DAY


def is_dated(time: float) -> bool:
    """Whether a time has a date, and is more than one of a day, or of the night after it."""
    return time > 2 * DAY


def across_midnight(times: Iterable[float]) -> tuple[float, ...]:
    """Times of one examination, those of day after midnight a day later.

    No examination lasts half a day: of two times of day that are further apart, the smaller is the next
    day's. Times with a date stay as they are.
    """
    given = tuple(times)
    of_day = [one for one in given if not is_dated(one)]
    if not of_day:
        return given
    next_day = max(of_day) - DAY / 2
    return tuple(one + DAY if one < next_day else one for one in given)


def first_of(times: Iterable[float | None]) -> float | None:
    """The earliest; of those with a date where there are any."""
    known = [one for one in times if one is not None]
    dated = [one for one in known if is_dated(one)]
    return min(dated or across_midnight(known), default=None)
