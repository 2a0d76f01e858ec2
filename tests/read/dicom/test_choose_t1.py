"""T1 and T1C by headers alone: order, what cannot be used and why. See test_choose for the plain cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gliosight.errors import UnsupportedInputError, UsageError
from gliosight.read.dicom.choose import Choice, choose, confirm_order
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import series_of
from gliosight.study import MrSequence

from .builders_series import FLAIR, MPRAGE, T1_SE, stack

F, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
GIVEN = {"ContrastBolusAgent": "Gadovist"}
UNDATED = {"AcquisitionDate": None}


def chosen(*stacks: list[Instance], wanted: dict[MrSequence, str] | None = None) -> Choice:
    (series,) = series_of(
        one for group in [stack(20, 1, **FLAIR), *stacks] for one in group
    ).values()
    return choose(series, wanted or {})


def numbers(choice: Choice) -> dict[MrSequence, int | None]:
    return {name: one.number for name, one in choice.chosen.items() if name is not F}


def told(choice: Choice) -> dict[str, str]:
    return {one.code: one.message for one in choice.flags}


def test_before_and_after_contrast_in_one_series_are_a_pair() -> None:
    same = {"SeriesInstanceUID": "1.2.9"}
    choice = chosen(
        stack(20, 5, **T1_SE, **same, time="103000", AcquisitionNumber=2, start=30),
        stack(20, 5, **T1_SE, **same, time="100000", AcquisitionNumber=1),
    )
    assert choice.by_order
    assert choice.dated
    first, second = choice.chosen[T1], choice.chosen[T1C]
    assert first.part != second.part
    assert first.acquired is not None
    assert second.acquired is not None
    assert first.acquired < second.acquired


def test_across_midnight_the_night_s_is_the_later_one() -> None:
    choice = chosen(
        stack(20, 2, **T1_SE, **UNDATED, time="235500"),
        stack(20, 3, **T1_SE, **UNDATED, time="001000"),
    )
    assert numbers(choice) == {T1: 2, T1C: 3}
    assert (choice.by_order, choice.dated) == (True, False)


def test_where_one_has_no_time_the_numbers_speak() -> None:
    choice = chosen(
        stack(20, 7, **T1_SE, AcquisitionTime=None, AcquisitionDate=None),
        stack(20, 3, **T1_SE),
    )
    assert numbers(choice) == {T1: 3, T1C: 7}
    assert (choice.by_order, choice.dated) == (True, False)


def test_where_nothing_tells_the_order_the_pixels_are_asked() -> None:
    bare = {"AcquisitionTime": None, "SeriesNumber": None}
    choice = chosen(
        stack(20, **T1_SE, **bare, SeriesInstanceUID="1.2.8"),
        stack(20, **T1_SE, **bare, SeriesInstanceUID="1.2.9"),
    )
    assert {T1, T1C} < set(choice.chosen)
    assert (choice.by_order, choice.dated) == (True, False)


def test_where_times_and_numbers_contradict_each_other_a_t1_is_still_taken() -> None:
    choice = chosen(
        stack(20, 3, **T1_SE, time="110000"),
        stack(20, 4, **{**T1_SE, "RepetitionTime": 800, "AcquisitionTime": None}),
        stack(20, 5, **MPRAGE, time="100000"),
    )
    assert set(numbers(choice)) == {T1}


def test_a_t1c_by_order_needs_a_t1_that_confirms_it() -> None:
    choice = chosen(stack(20, 3, **T1_SE, time="100000"), stack(20, 4, **T1_SE, time="103000"))
    arrays, left_out = {T1C: np.zeros((20, 64, 64))}, list[MrSequence]()
    _, (note,) = confirm_order(choice, arrays, left_out)
    assert (set(arrays), left_out, note.code) == (set(), [T1C], "T1C_LEFT_OUT")
    assert "no T1 to compare" in note.message


def test_two_stacks_of_one_time_are_no_pair() -> None:
    choice = chosen(stack(20, 3, **T1_SE, time="110000"), stack(20, 4, **T1_SE, time="110000"))
    assert T1C not in choice.chosen
    assert not choice.by_order


def test_a_time_that_all_have_is_none() -> None:
    zero = {"AcquisitionTime": "000000", "AcquisitionDate": None}
    (series,) = series_of(
        one
        for group in (
            stack(20, 1, **{**FLAIR, **zero}),
            stack(20, 4, **{**T1_SE, **zero}),
            stack(20, 5, **{**T1_SE, **zero}),
        )
        for one in group
    ).values()
    choice = choose(series)
    assert numbers(choice) == {T1: 4, T1C: 5}
    assert (choice.by_order, choice.dated) == (True, False)


@pytest.mark.parametrize("later", [{**T1_SE, "RepetitionTime": 800}, MPRAGE], ids=["TR", "MPRAGE"])
def test_of_two_protocols_the_earlier_is_t1_and_the_other_is_told(later: dict[str, Any]) -> None:
    choice = chosen(stack(20, 4, **T1_SE, time="110000"), stack(20, 5, **later, time="113000"))
    assert numbers(choice) == {T1: 4}
    assert "series 5" in told(choice)["T1C_LEFT_OUT"]
    assert "perhaps after contrast" in told(choice)["T1C_LEFT_OUT"]


def test_one_that_says_it_is_before_goes_before_an_earlier_one_that_says_nothing() -> None:
    choice = chosen(
        stack(20, 4, **T1_SE, time="110000", step=5.0),
        stack(20, 5, **T1_SE, time="113000", SeriesDescription="t1 pre"),
    )
    assert numbers(choice) == {T1: 5}


def test_where_every_t1_claims_contrast_medium_it_is_told() -> None:
    choice = chosen(
        stack(20, 4, **T1_SE, **GIVEN, time="110000"), stack(20, 5, **T1_SE, **GIVEN, time="113000")
    )
    assert numbers(choice) == {T1C: 5}
    assert "every T1 is after contrast medium by its header" in told(choice)["T1_LEFT_OUT"]


def test_a_t1_that_only_a_word_excludes_is_told_and_can_be_named() -> None:
    t1 = stack(20, 4, **T1_SE, SeriesDescription="t1 mprage mask")
    assert "description says stored mask" in told(chosen(t1))["T1_LEFT_OUT"]
    assert numbers(chosen(t1, wanted={T1: "4"})) == {T1: 4}


@pytest.mark.parametrize(
    "words",
    ["AX FLAIR Cal", "FLAIR resolve", "FLAIR cor (B0)", "FLAIR_ax_perfusion protocol", "survey"],
)
def test_a_word_does_not_outweigh_flair_s_physics(words: str) -> None:
    (series,) = series_of(stack(20, 1, **FLAIR, SeriesDescription=words)).values()
    choice = choose(series)
    assert choice.chosen[F].identified.confidence == "likely"
    assert "which these values contradict" in choice.reasons[F]


@pytest.mark.parametrize("words", ["FLAIR MIP range 3", "FLAIR synthetic", "FLAIR_ROI"])
def test_what_may_be_made_from_flair_is_taken_only_when_it_is_named(words: str) -> None:
    (series,) = series_of(stack(20, 1, **FLAIR, SeriesDescription=words)).values()
    with pytest.raises(UnsupportedInputError, match="name it with --flair"):
        choose(series)
    assert choose(series, {F: "1"}).chosen[F].number == 1


def test_stacks_without_any_name_can_only_be_put_apart() -> None:
    bare = {"SeriesInstanceUID": None, "SeriesNumber": None}
    (series,) = series_of(
        [
            *stack(20, **{**FLAIR, "EchoTime": 90}, **bare, EchoNumbers=1),
            *stack(20, start=30, **{**FLAIR, "EchoTime": 120}, **bare, EchoNumbers=2),
        ]
    ).values()
    with pytest.raises(UnsupportedInputError, match="folder of its own"):
        choose(series)


def test_all_series_under_one_uid_are_still_a_study() -> None:
    same = {"SeriesInstanceUID": "1.2.9"}
    (series,) = series_of(
        one
        for group in (
            stack(20, 1, **FLAIR, **same),
            stack(20, 2, **T1_SE, **same, time="100000"),
            stack(20, 3, **T1_SE, **GIVEN, **same, time="103000"),
        )
        for one in group
    ).values()
    choice = choose(series)
    assert numbers(choice) == {T1: 2, T1C: 3}
    assert choice.flags == ()
    assert choose(series, {T1: "3"}).chosen[T1].number == 3


DOUBLED = [*stack(20, 3, **T1_SE), *stack(1, 3, at=[2], start=50, **T1_SE)]
NOT_USED: list[tuple[str, list[Instance], str, str]] = [
    ("doubled slices", DOUBLED, "T1_LEFT_OUT", "cannot be read: two images lie at one place"),
    (
        "two sizes",
        [*stack(20, 3, **T1_SE), *stack(1, 3, at=[30], start=50, **T1_SE, Rows=32)],
        "T1_LEFT_OUT",
        "32 x 64",
    ),
    ("no pixels", stack(20, 3, **T1_SE, pixels=False), "T1_LEFT_OUT", "has no pixels"),
    (
        "after contrast, no pixels",
        stack(20, 3, **T1_SE, **GIVEN, pixels=False),
        "T1C_LEFT_OUT",
        "has no pixels",
    ),
    (
        "in another place",
        stack(20, 3, **T1_SE, origin=(0.0, 0.0, 60.0)),
        "T1_LEFT_OUT",
        "covers only",
    ),
]


@pytest.mark.parametrize(
    ("instances", "code", "words"), [one[1:] for one in NOT_USED], ids=[one[0] for one in NOT_USED]
)
def test_what_is_there_and_not_used_is_said(
    instances: list[Instance], code: str, words: str
) -> None:
    choice = chosen(instances)
    assert numbers(choice) == {}
    assert words in told(choice)[code]
    assert "series 3" in told(choice)[code]


def test_a_t1_that_is_silent_about_contrast_given_before_is_told() -> None:
    choice = chosen(
        stack(20, 2, **T1_SE, **GIVEN, time="100000"), stack(20, 3, **T1_SE, time="101000")
    )
    assert numbers(choice) == {T1C: 2}
    assert "series 3" in told(choice)["T1_LEFT_OUT"]
    assert "after contrast medium" in told(choice)["T1_LEFT_OUT"]


def test_an_unreadable_t1_beside_a_good_one_may_be_the_one_after_contrast() -> None:
    choice = chosen(stack(20, 2, **T1_SE, time="100000"), DOUBLED)
    assert numbers(choice) == {T1: 2}
    assert "perhaps after contrast" in told(choice)["T1C_LEFT_OUT"]
    # With T1C at hand there is nothing to miss.
    choice = chosen(
        stack(20, 2, **T1_SE, time="100000"),
        stack(20, 4, **T1_SE, **GIVEN, time="103000"),
        DOUBLED,
    )
    assert numbers(choice) == {T1: 2, T1C: 4}
    assert choice.flags == ()


@pytest.mark.parametrize("name", ["FLAIR", "T1"])
def test_a_number_that_several_stacks_have_is_refused(name: str) -> None:
    which = MrSequence[name]
    kind: dict[str, Any] = FLAIR if which is F else T1_SE
    two = [
        *stack(20, 6, **kind, TemporalPositionIdentifier=1),
        *stack(20, 6, **kind, TemporalPositionIdentifier=2, start=40),
    ]
    with pytest.raises(UsageError) as caught:
        chosen(two, wanted={which: "6"})
    line = caught.value.line()
    assert "names several stacks: series 6, time 1 of 2" in line
    assert f'--{name.lower()} "6, time 1 of 2"' in line
    assert chosen(two, wanted={which: "6, time 2 of 2"}).chosen[which].part == "time 2 of 2"


def test_slices_of_several_frames_of_reference_have_none() -> None:
    mixed = stack(20, 3, **T1_SE)
    mixed[0].header.FrameOfReferenceUID = "1.2.3.77"
    choice = chosen(mixed)
    (series,) = [choice.chosen[T1]]
    assert series.frame_of_reference is None
    (flag,) = series.flags
    assert flag.code == "FRAMES_DISAGREE"
    # On another grid than FLAIR's nothing says where it lies.
    far = stack(20, 3, step=5.0, **T1_SE)
    far[0].header.FrameOfReferenceUID = "1.2.3.77"
    assert "T1_LEFT_OUT" in told(chosen(far))
