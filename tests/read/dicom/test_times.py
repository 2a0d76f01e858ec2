"""Which of two times is the earlier, with a date, without one, and across midnight."""

from __future__ import annotations

import pytest

from gliosight.read.dicom.acquisition import DAY
from gliosight.read.dicom.times import across_midnight, first_of, is_dated

from .builders_series import FLAIR, T1_SE, series_in, stack

HOUR = 3600.0
DATED = 738_000 * DAY


def test_hours_after_midnight_are_the_next_day_s() -> None:
    assert across_midnight([23.8 * HOUR, 0.2 * HOUR]) == (23.8 * HOUR, 0.2 * HOUR + DAY)
    assert across_midnight([8 * HOUR, 9 * HOUR]) == (8 * HOUR, 9 * HOUR)
    # Three hours on both sides: whichever comes first in the list.
    assert across_midnight([1 * HOUR, 22 * HOUR]) == (1 * HOUR + DAY, 22 * HOUR)
    assert across_midnight([DATED + 23 * HOUR, DATED + DAY]) == (DATED + 23 * HOUR, DATED + DAY)
    assert across_midnight([]) == ()


def test_the_first_of_a_series_times() -> None:
    assert first_of([0.1 * HOUR, None, 23.9 * HOUR]) == 23.9 * HOUR
    assert first_of([5 * HOUR, DATED + 6 * HOUR]) == DATED + 6 * HOUR
    assert first_of([None]) is None


@pytest.mark.parametrize(("time", "dated"), [(0.0, False), (DAY + HOUR, False), (DATED, True)])
def test_a_date_is_seen(time: float, dated: bool) -> None:
    assert is_dated(time) is dated


def test_a_study_across_midnight_without_dates_is_in_order() -> None:
    bare = {"AcquisitionDate": None}
    evening, night = series_in(
        [*stack(3, 1, **FLAIR, time="235000", **bare), *stack(3, 2, **T1_SE, time="001000", **bare)]
    )
    assert evening.acquired is not None
    assert night.acquired is not None
    assert night.acquired - evening.acquired == 20 * 60
