"""What exports throw into one series: told apart where it is several, left alone where it is one."""

from __future__ import annotations

from typing import Any

import pytest

from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import Series
from gliosight.study import MrSequence

from .builders_series import FLAIR, T1_SE, series_in, stack

ONE = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 3}
GIVEN = {"ContrastBolusAgent": "Gadovist"}


def moved(mm: float) -> tuple[float, float, float]:
    return (-100.0, -110.0, -40.0 + mm)


def three(first: float, second: float) -> list[Instance]:
    """FLAIR, T1 and T1C in one series, the T1 moved along the normal."""
    return [
        *stack(20, **FLAIR, **ONE),
        *stack(20, **T1_SE, **ONE, start=40, origin=moved(first), time="103000"),
        *stack(20, **T1_SE, **GIVEN, **ONE, start=80, origin=moved(second), time="110000"),
    ]


def kinds(series: tuple[Series, ...]) -> list[MrSequence | None]:
    return sorted((one.identified.sequence for one in series if one.usable), key=str)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 2), (3, 3), (0.5, 0.5), (0, 1), (120, 240)]
)
def test_three_sequences_in_one_series_are_three(first: float, second: float) -> None:
    found = series_in(three(first, second))
    assert kinds(found) == [MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C]
    assert [len(one.frames) for one in found] == [20, 20, 20]
    assert len({one.place for one in found}) == 3
    assert not [flag for one in found for flag in one.flags]


def test_another_matrix_is_another_stack() -> None:
    small: dict[str, Any] = {**T1_SE, "Rows": 32, "Columns": 32}
    found = series_in([*stack(20, **FLAIR, **ONE), *stack(20, **small, **ONE, start=40)])
    assert kinds(found) == [MrSequence.FLAIR, MrSequence.T1]


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_a_scan_repeated_after_a_move_is_two_stacks(shift: float) -> None:
    found = series_in(
        [
            *stack(20, **T1_SE, **ONE, time="100000"),
            *stack(20, **T1_SE, **ONE, time="103000", start=40, origin=moved(shift)),
        ]
    )
    assert [len(one.frames) for one in found] == [20, 20]
    assert found[0].acquired != found[1].acquired


def test_slices_with_times_of_their_own_are_two_runs() -> None:
    both = [
        *stack(20, **T1_SE, **ONE),
        *stack(20, **T1_SE, **ONE, start=40, origin=moved(3.0)),
    ]
    for index, one in enumerate(both):
        minutes = 5 if index < 20 else 25
        one.header.AcquisitionTime = f"10{minutes:02d}{2 * (index % 20):02d}"
    assert [len(one.frames) for one in series_in(both)] == [20, 20]


LEFT_ALONE: list[tuple[str, list[Instance]]] = [
    (
        "odd and even slices of their own times",
        [
            *stack(at=range(0, 20, 2), **T1_SE, **ONE, time="100000", SliceThickness=5),
            *stack(at=range(1, 20, 2), **T1_SE, **ONE, time="100300", start=40),
        ],
    ),
    (
        "two slabs, the upper one later",
        [
            *stack(at=range(10), **T1_SE, **ONE, time="100000"),
            *stack(at=range(10, 20), **T1_SE, **ONE, time="100300", start=40),
        ],
    ),
    (
        "TR that varies a little from slice to slice",
        [
            one
            for k in range(12)
            for one in stack(at=[k], **{**FLAIR, "RepetitionTime": 9000 + 40 * k}, **ONE, start=k)
        ],
    ),
    (
        "slices missing",
        [
            *stack(at=[0, 1, 2, 5, 6, 9], **T1_SE, **ONE, time="100000"),
            *stack(at=[3, 7, 8], **T1_SE, **ONE, time="100300", start=40),
        ],
    ),
]


@pytest.mark.parametrize(
    "instances", [one[1] for one in LEFT_ALONE], ids=[one[0] for one in LEFT_ALONE]
)
def test_one_stack_stays_one(instances: list[Instance]) -> None:
    (found,) = series_in(instances)
    assert len(found.frames) == len(instances)
    assert found.part == ""
