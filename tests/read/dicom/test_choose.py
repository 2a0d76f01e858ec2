"""Which series are taken as FLAIR, T1 and T1C by their headers, why, and when no choice is made."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, UsageError
from gliosight.read.dicom.choose import Choice, choose, confirm_order
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import Series, series_of
from gliosight.study import MrSequence

from .builders_series import FLAIR, MPRAGE, SAGITTAL, T1_SE, stack

F, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
Values = dict[str, Any]
T2: Values = {"ScanningSequence": "SE", "RepetitionTime": 5000, "EchoTime": 100}
LOCALIZER: Values = {**T1_SE, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
GIVEN = {"ContrastBolusAgent": "Gadovist"}
UNTIMED: Values = {"AcquisitionTime": None, "AcquisitionDate": None}
OTHER_WORLD = {"FrameOfReferenceUID": "1.2.3.99"}
OTHER_UID = {"SeriesInstanceUID": "1.2.66"}
DERIVED: Values = {"ImageType": ["DERIVED", "SECONDARY"]}
GUESS: Values = {"SeriesDescription": "ax flair", "ImageType": None}
NOWHERE = {**FLAIR, "ImagePositionPatient": [0, 0, 0]}
AT_ONCE = {**FLAIR, "ImagePositionPatient": [-90, -90, 7]}
TR_800 = {**T1_SE, "RepetitionTime": 800}


def flair(number: int, slices: int = 20, **values: Any) -> list[Instance]:
    return stack(slices, number, **{**FLAIR, **values})


def t1(number: int, slices: int = 20, **values: Any) -> list[Instance]:
    return stack(slices, number, **{**T1_SE, **values})


def series_in(*stacks: list[Instance]) -> tuple[Series, ...]:
    (series,) = series_of(image for images in stacks for image in images).values()
    return series


def chosen(*stacks: list[Instance], wanted: dict[MrSequence, str] | None = None) -> Choice:
    return choose(series_in(*stacks), wanted or {})


def beside_flair(*stacks: list[Instance], wanted: dict[MrSequence, str] | None = None) -> Choice:
    """The choice among a FLAIR, number 1, and others."""
    return chosen(flair(1), *stacks, wanted=wanted)


def numbers(choice: Choice) -> dict[MrSequence, int | None]:
    return {name: series.number for name, series in choice.chosen.items()}


def codes(choice: Choice) -> list[str]:
    return [note.code for note in choice.flags]


def messages(choice: Choice) -> dict[str, str]:
    return {note.code: note.message for note in choice.flags}


def two_echoes(number: int | None = 1, **values: Any) -> list[Instance]:
    return [
        *stack(20, number or 1, **{**FLAIR, "EchoTime": 90, **values}, EchoNumbers=1),
        *stack(20, number or 1, start=30, **{**FLAIR, "EchoTime": 120, **values}, EchoNumbers=2),
    ]


def test_a_usual_study() -> None:
    choice = chosen(
        stack(3, 1, **LOCALIZER),
        t1(2, time="100000"),
        stack(20, 3, **T2),
        flair(4),
        t1(5, **GIVEN, time="102000"),
        flair(1004, SeriesDescription="FLAIR_ROI", time="120000"),
    )
    assert numbers(choice) == {F: 4, T1: 2, T1C: 5}
    assert choice.flags == ()
    assert not choice.by_order
    assert set(choice.reasons) == set(choice.chosen)
    assert choice.reasons[F].startswith("series 4 is FLAIR (certain): inversion recovery")
    assert all(reason.endswith(".") for reason in choice.reasons.values())


# FLAIR.

# The better FLAIR, the worse, and why; each with what differs from 18 axial slices.
BETTER: dict[str, tuple[Values, Values, str]] = {
    "certain before likely": (
        {},
        {"InversionTime": None, "SeriesDescription": "flair"},
        "confidence",
    ),
    "original before derived": ({}, {"slices": 40, "step": 3.0, **DERIVED}, "confidence"),
    "axial before more slices": ({}, {"slices": 30, "orientation": SAGITTAL}, "axial"),
    "isotropic before thick axial, for its slices": (
        {"slices": 150, "step": 1.0, "orientation": SAGITTAL, "PixelSpacing": [1, 1]},
        {"slices": 20},
        "more slices",
    ),
    "a whole head before a slab": ({"slices": 20}, {"slices": 40, "step": 1.0}, "head"),
    "more slices": ({"slices": 24, "step": 5.0}, {"slices": 20}, "more slices"),
    "the later one": ({"time": "110000"}, {"time": "100000"}, "later"),
    "before contrast medium, though the other has more slices and is later": (
        {"time": "100000"},
        {"time": "110000", "slices": 24, "step": 5.0, **GIVEN},
        "not after contrast medium",
    ),
    "before contrast medium by the words": (
        {"time": "100000"},
        {"time": "110000", "SeriesDescription": "ax flair +C"},
        "not after contrast medium",
    ),
    "of two after it the later": ({"time": "110000", **GIVEN}, GIVEN, "later"),
    "a head after it before a slab": (GIVEN, {"slices": 40, "step": 1.0}, "head"),
    "with geometry": ({"slices": 15}, {"slices": 20, "PixelSpacing": None}, "geometry"),
    "the higher number without times": (UNTIMED, UNTIMED, "number"),
}


@pytest.mark.parametrize(("better", "worse", "why"), BETTER.values(), ids=BETTER)
def test_the_better_flair_is_taken_and_the_flag_names_the_other(
    better: Values, worse: Values, why: str
) -> None:
    # The better one has the lower number, unless the number decides.
    order = (9, 8) if "number" in why else (3, 7)
    choice = chosen(
        stack(**{"slices": 18, "number": order[0], **FLAIR, **better}),
        stack(**{"slices": 18, "number": order[1], **FLAIR, **worse}),
    )
    assert numbers(choice)[F] == order[0]
    assert why in choice.reasons[F]
    (note,) = choice.flags
    assert (note.code, note.severity) == ("FLAIR_CHOSEN", "info")
    assert f"series {order[1]}" in note.message
    assert "--flair" in note.message


def test_a_flair_later_than_t1c_is_after_contrast_whatever_its_header_says() -> None:
    series = [flair(3, time="100000"), flair(9, time="110000")]
    t1c = t1(5, **GIVEN, time="103000")
    assert numbers(chosen(*series))[F] == 9  # nothing speaks of contrast medium: the later one
    choice = chosen(*series, t1c)
    assert numbers(choice) == {F: 3, T1C: 5}
    assert "rather than series 9, since it is not after contrast" in choice.flags[0].message
    assert "rather than series 9, since it is not after contrast" in choice.reasons[F]
    assert numbers(chosen(series[1], t1c))[F] == 9  # the only one is taken


def test_guesses_and_equals_are_not_chosen_between() -> None:
    with pytest.raises(UnsupportedInputError, match=r"series 2 .*series 1 .*--flair"):
        chosen(stack(20, 1, **GUESS), stack(20, 2, **GUESS))
    choice = chosen(stack(20, 1, **GUESS))
    assert (numbers(choice)[F], codes(choice)) == (1, ["SEQUENCE_ASSUMED"])
    same = {**FLAIR, "SeriesNumber": None, **UNTIMED}
    with pytest.raises(UnsupportedInputError, match="equally good"):
        chosen(stack(20, 1, **same, SeriesInstanceUID="1.2.1"), stack(20, 2, **same, **OTHER_UID))


def test_no_flair_lists_what_is_there_and_takes_nothing_else() -> None:
    with pytest.raises(UnsupportedInputError) as caught:
        chosen(
            stack(3, 1, **LOCALIZER),
            t1(2),
            t1(3),
            stack(20, 4, **T2, SeriesDescription="Doe FLAIR"),
        )
    assert caught.value.exit_code == 5
    assert "no FLAIR among 4 series: 2 T1, 1 localizer, 1 T2" in str(caught.value)
    assert "Doe" not in str(caught.value)
    with pytest.raises(UnsupportedInputError, match="no series at all"):
        choose([], {})


def test_a_damaged_flair_is_the_error_or_named_beside_a_whole_one() -> None:
    damaged = [*stack(6, 2, **FLAIR), *stack(1, 2, at=[2], start=50, **FLAIR)]
    with pytest.raises(DamagedInputError, match="the same position"):
        chosen(damaged, t1(3))
    choice = beside_flair(damaged)
    assert numbers(choice)[F] == 1
    assert "series 2 cannot be read" in choice.flags[0].message


def test_a_flair_that_goes_on_in_another_series_is_flagged() -> None:
    """Turned a little, or of another TR, they are not one stack."""
    tr_8000 = {**FLAIR, "RepetitionTime": 8000}
    choice = chosen(stack(10, 1, **FLAIR), stack(10, 2, **tr_8000, origin=(-100.0, -110.0, 20.0)))
    assert codes(choice) == ["FLAIR_CHOSEN", "MISSING_SLICES"]
    assert "series 2) covers 60 mm, and series 1 reaches 60 mm beyond it" in choice.flags[1].message
    assert codes(beside_flair(stack(30, 2, **tr_8000))) == ["FLAIR_CHOSEN"]


def test_series_of_one_number_are_told_apart() -> None:
    again = {**FLAIR, **OTHER_UID, "AcquisitionTime": "120000"}
    choice = chosen(flair(3), stack(19, 3, start=30, **again))
    assert "series 3 was taken, rather than another series 3 (19 slices)" in str(choice.flags)
    assert "rather than another series 3 (19 slices)" in choice.reasons[F]


@pytest.mark.parametrize(
    "words",
    ["AX FLAIR Cal", "FLAIR resolve", "FLAIR cor (B0)", "FLAIR_ax_perfusion protocol", "survey"],
)
def test_a_word_does_not_outweigh_flair_s_physics(words: str) -> None:
    choice = chosen(flair(1, SeriesDescription=words))
    assert choice.chosen[F].identified.confidence == "likely"
    assert "which these values contradict" in choice.reasons[F]


@pytest.mark.parametrize("words", ["FLAIR MIP range 3", "FLAIR synthetic", "FLAIR_ROI"])
def test_what_may_be_made_from_flair_is_taken_only_when_it_is_named(words: str) -> None:
    series = series_in(flair(1, SeriesDescription=words))
    with pytest.raises(UnsupportedInputError, match="name it with --flair"):
        choose(series)
    assert choose(series, {F: "1"}).chosen[F].number == 1


# T1 and T1C.

ONE_UID = {"SeriesInstanceUID": "1.2.9"}
FINER: Values = {"slices": 160, "step": 1.0, "orientation": SAGITTAL, "Rows": 160}
# What lies beside FLAIR, what is taken of it, and by which order, if any.
PAIRS: dict[str, tuple[list[list[Instance]], dict[MrSequence, int], str]] = {
    "one with unknown contrast is T1": ([t1(2)], {T1: 2}, ""),
    "on FLAIR's grid before finer": (
        [
            stack(number=2, origin=(-45.0, -110.0, 80.0), **MPRAGE, **FINER),
            t1(3),
            t1(4, **GIVEN, time="110000"),  # so both are before contrast medium
        ],
        {T1: 3, T1C: 4},
        "",
    ),
    "of two alike the later is after contrast": (
        [t1(9, time="100000"), t1(3, time="103000")],
        {T1: 9, T1C: 3},
        "dated",
    ),
    "without times the numbers are the order": (
        [t1(9, **UNTIMED), t1(3, **UNTIMED)],
        {T1: 3, T1C: 9},
        "undated",
    ),
    "one has no time: the numbers": ([t1(7, **UNTIMED), t1(3)], {T1: 3, T1C: 7}, "undated"),
    "of one time they are no pair": ([t1(3, time="110000"), t1(4, time="110000")], {T1: 4}, ""),
    "times and numbers contradict each other": (
        [
            t1(3, time="110000"),
            stack(20, 4, **TR_800 | {"AcquisitionTime": None}),
            stack(20, 5, **MPRAGE, time="100000"),
        ],
        {T1: 3},
        "",
    ),
    "said to be before, though an earlier one says nothing": (
        [t1(4, time="110000", step=5.0), t1(5, time="113000", SeriesDescription="t1 pre")],
        {T1: 5},
        "",
    ),
    "all series under one UID": (
        [t1(2, **ONE_UID, time="100000"), t1(3, **GIVEN, **ONE_UID, time="103000")],
        {T1: 2, T1C: 3},
        "",
    ),
    "across midnight": (
        [t1(2, AcquisitionDate=None, time="235500"), t1(3, AcquisitionDate=None, time="001000")],
        {T1: 2, T1C: 3},
        "undated",
    ),
}


@pytest.mark.parametrize(("stacks", "expected", "order"), PAIRS.values(), ids=PAIRS)
def test_t1_and_t1c(
    stacks: list[list[Instance]], expected: dict[MrSequence, int], order: str
) -> None:
    choice = beside_flair(*stacks)
    assert numbers(choice) == {F: 1, **expected}
    assert (choice.by_order, choice.dated) == (bool(order), order == "dated")
    assert ("later of two" in choice.reasons.get(T1C, "")) is bool(order)


@pytest.mark.parametrize(
    "second",
    [
        MPRAGE,
        {**T1_SE, "orientation": SAGITTAL},
        TR_800,
        T1_SE | {"SeriesDescription": "T1 ohne KM"},
    ],
    ids=["another kind", "another plane", "another protocol", "said to be before"],
)
def test_two_that_are_not_alike_are_no_pair(second: Values) -> None:
    choice = beside_flair(
        t1(2, time="100000"), stack(**{"slices": 20, "number": 3, "time": "103000", **second})
    )
    assert (T1 in choice.chosen, T1C in choice.chosen, choice.by_order) == (True, False, False)


def test_before_and_after_contrast_in_one_series_are_a_pair() -> None:
    choice = beside_flair(
        t1(5, **ONE_UID, time="103000", AcquisitionNumber=2, start=30),
        t1(5, **ONE_UID, time="100000", AcquisitionNumber=1),
    )
    assert (choice.by_order, choice.dated) == (True, True)
    first, second = choice.chosen[T1], choice.chosen[T1C]
    assert first.part != second.part
    assert (first.acquired or 0) < (second.acquired or 0)


def test_where_nothing_tells_the_order_the_pixels_are_asked() -> None:
    bare = {**T1_SE, "AcquisitionTime": None, "SeriesNumber": None}
    choice = beside_flair(
        stack(20, **bare, SeriesInstanceUID="1.2.8"), stack(20, **bare, SeriesInstanceUID="1.2.9")
    )
    assert {T1, T1C} < set(choice.chosen)
    # A time that all have is none: who removes dates writes 000000.
    zero = {"AcquisitionTime": "000000", "AcquisitionDate": None}
    stacks = [stack(20, k, **{**v, **zero}) for k, v in ((1, FLAIR), (4, T1_SE), (5, T1_SE))]
    zeros = chosen(*stacks)
    assert numbers(zeros) == {F: 1, T1: 4, T1C: 5}
    assert [(c.by_order, c.dated) for c in (choice, zeros)] == [(True, False)] * 2


def test_a_t1c_by_order_needs_a_t1_that_confirms_it() -> None:
    choice = beside_flair(t1(3, time="100000"), t1(4, time="103000"))
    arrays, left_out = {T1C: np.zeros((20, 64, 64))}, list[MrSequence]()
    _, (note,) = confirm_order(choice, arrays, left_out)
    assert (set(arrays), left_out, note.code) == (set(), [T1C], "T1C_LEFT_OUT")
    assert "no T1 to compare" in note.message


DOUBLED = [*t1(3), *stack(1, 3, at=[2], start=50, **T1_SE)]
TWO_SIZES = [*t1(3), *stack(1, 3, at=[30], start=50, **T1_SE, Rows=32)]
EARLY, LATE = {"time": "110000"}, {"time": "113000"}
# What lies beside FLAIR, what is taken of it, and the words of each flag.
LEFT_OUT: dict[str, tuple[list[list[Instance]], dict[MrSequence, int], dict[str, str]]] = {
    "doubled slices": (
        [DOUBLED],
        {},
        {"T1": "series 3) cannot be read: two images have the same position"},
    ),
    "two sizes": ([TWO_SIZES], {}, {"T1": "32 x 64"}),
    "no pixels": ([t1(3, pixels=False)], {}, {"T1": "has no pixels"}),
    "after contrast, no pixels": ([t1(3, **GIVEN, pixels=False)], {}, {"T1C": "has no pixels"}),
    "in another place": ([t1(3, origin=(0.0, 0.0, 60.0))], {}, {"T1": "covers only"}),
    "in another frame of reference": (
        [t1(2, **OTHER_WORLD), t1(3, **GIVEN, **OTHER_WORLD)],
        {},
        {"T1": "series 2", "T1C": "FLAIR is analysed without T1C"},
    ),
    "silent after contrast": (
        [t1(2, **GIVEN, time="100000"), t1(3, time="101000")],
        {T1C: 2},
        {"T1": "series 3) was acquired after contrast medium"},
    ),
    "every T1 claims contrast": (
        [t1(4, **GIVEN, **EARLY), t1(5, **GIVEN, **LATE)],
        {T1C: 5},
        {"T1": "every T1 is after contrast medium by its header"},
    ),
    "another TR": (
        [t1(4, **EARLY), stack(20, 5, **TR_800, **LATE)],
        {T1: 4},
        {"T1C": "series 5, a T1 perhaps after contrast, is of another protocol"},
    ),
    "unreadable beside a good one": (
        [t1(2, time="100000"), DOUBLED],
        {T1: 2},
        {"T1C": "perhaps after contrast"},
    ),
    "nothing to miss where T1C is at hand": (
        [t1(2, time="100000"), t1(4, **GIVEN, time="103000"), DOUBLED],
        {T1: 2, T1C: 4},
        {},
    ),
    "excluded by a word": (
        [t1(4, SeriesDescription="t1 mprage mask")],
        {},
        {"T1": "description says stored mask"},
    ),
}


@pytest.mark.parametrize(("stacks", "expected", "why"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_there_and_not_used_is_said(
    stacks: list[list[Instance]], expected: dict[MrSequence, int], why: dict[str, str]
) -> None:
    choice = beside_flair(*stacks)
    assert numbers(choice) == {F: 1, **expected}
    assert codes(choice) == [f"{name}_LEFT_OUT" for name in why]
    for note, words in zip(choice.flags, why.values(), strict=True):
        assert words in note.message


def test_without_frame_of_reference_only_the_same_grid_counts() -> None:
    bare = {"FrameOfReferenceUID": None}
    bare_flair = flair(1, **bare)
    choice = chosen(bare_flair, t1(2, **bare), stack(20, 3, step=5.0, **T1_SE))
    assert numbers(choice) == {F: 1, T1: 2}
    choice = chosen(bare_flair, stack(20, 2, step=5.0, **T1_SE, **bare))
    assert (numbers(choice), codes(choice)) == ({F: 1}, ["T1_LEFT_OUT"])


def test_slices_of_several_frames_of_reference_have_none() -> None:
    mixed, far = t1(3), stack(20, 3, step=5.0, **T1_SE)
    for images in (mixed, far):
        images[0].header.FrameOfReferenceUID = "1.2.3.77"
    series = beside_flair(mixed).chosen[T1]
    assert series.frame_of_reference is None
    assert [note.code for note in series.flags] == ["FRAMES_DISAGREE"]
    assert "T1_LEFT_OUT" in codes(beside_flair(far))  # on another grid nothing says where it lies


# What the user wants.


def test_a_wanted_series_by_number_and_by_uid() -> None:
    stacks = [flair(1), stack(24, 2, **FLAIR), t1(3), stack(20, 4, **T2)]
    assert numbers(chosen(*stacks, wanted={F: "1"}))[F] == 1
    choice = chosen(*stacks, wanted={F: stacks[3][0].header.SeriesInstanceUID, T1C: "3"})
    assert numbers(choice) == {F: 4, T1C: 3}
    assert "named with --flair (T2 by its header)" in choice.reasons[F]
    (note,) = choice.flags  # that a T1 is after contrast the user may know; a T2 is no FLAIR
    assert note.code == "NAME_CONTRADICTS"
    assert "T2" in note.message
    processed = stack(20, 1, **DERIVED, SeriesDescription="FLAIR defaced")
    (note,) = chosen(processed, wanted={F: "1"}).flags
    assert note.code == "NAME_CONTRADICTS"
    assert "does not confirm it: processed image or stored mask" in note.message


def test_a_wanted_t1() -> None:
    far = t1(2, **OTHER_WORLD)
    choice = beside_flair(far, wanted={T1: "2"})
    assert (numbers(choice), codes(choice)) == ({F: 1}, ["T1_LEFT_OUT"])
    # It has its partner by order.
    pair = t1(2, time="100000"), t1(3, time="103000")
    choice = beside_flair(*pair, wanted={T1: "2"})
    assert (numbers(choice), choice.by_order) == ({F: 1, T1: 2, T1C: 3}, True)
    masked = t1(4, SeriesDescription="t1 mprage mask")
    assert numbers(beside_flair(masked, wanted={T1: "4"})) == {F: 1, T1: 4}


@pytest.mark.slow
def test_a_number_of_several_stacks_is_refused_and_their_parts_are_proposed() -> None:
    with pytest.raises(UnsupportedInputError, match="series 1, echo 2"):
        chosen(two_echoes())
    for text in ("1, echo 1", "series 1, Echo 1"):
        assert chosen(two_echoes(), wanted={F: text}).chosen[F].part == "echo 1"
    by_uid = f"{two_echoes()[0].header.SeriesInstanceUID},echo 2"
    assert chosen(two_echoes(), wanted={F: by_uid}).chosen[F].part == "echo 2"
    with pytest.raises(UsageError, match=r"names no series.*series 1, echo 1"):
        chosen(two_echoes(), wanted={F: "1, echo 3"})
    for name, values in ((F, FLAIR), (T1, T1_SE)):
        times = [
            *stack(20, 6, **values, TemporalPositionIdentifier=1),
            *stack(20, 6, **values, TemporalPositionIdentifier=2, start=40),
        ]
        with pytest.raises(UsageError) as caught:
            beside_flair(times, wanted={name: "6"})
        assert "names several stacks: series 6, time 1 of 2" in caught.value.line()
        assert f'--{name.value.lower()} "6, time 1 of 2"' in caught.value.line()
        choice = beside_flair(times, wanted={name: "6, time 2 of 2"})
        assert choice.chosen[name].part == "time 2 of 2"


def test_the_one_stack_that_a_number_can_mean_is_taken() -> None:
    phase = flair(1, ImageType=["ORIGINAL", "PRIMARY", "P"])
    choice = chosen(phase, stack(20, 1, start=40, **FLAIR), wanted={F: "1"})
    assert choice.chosen[F].part == "magnitude"
    assert "one of 2 stacks" in choice.reasons[F]


def test_a_wanted_series_that_cannot_be_read_is_its_own_error() -> None:
    broken = [replace(image, syntax=uid.MPEG2MPML) for image in flair(2)]
    with pytest.raises(UnsupportedInputError, match="MPEG"):
        beside_flair(broken, wanted={F: "2"})


def test_stacks_without_any_name_can_only_be_put_apart() -> None:
    with pytest.raises(UnsupportedInputError, match="folder of its own"):
        chosen(two_echoes(SeriesInstanceUID=None, SeriesNumber=None))


def test_a_named_series_of_one_position_says_how_it_is_ordered() -> None:
    series = series_in(stack(20, 1, **NOWHERE))
    flair = choose(series, {F: "1"}).chosen[F]
    (note,) = [note for note in flair.flags if note.code == "NO_GEOMETRY"]
    assert "in the order of their InstanceNumber" in note.message
    assert flair.geometry is None
    with pytest.raises(UsageError, match="name the same series"):
        choose(series, {F: "1", T1: "1"})


WRONG: dict[str, tuple[dict[MrSequence, str], type[GliosightError], str]] = {
    "not there": ({F: "17"}, UsageError, r"--flair 17 names no series.*series 1 \(FLAIR\)"),
    "empty": ({F: " "}, UsageError, "names no series"),
    "a localizer": ({F: "5"}, UnsupportedInputError, "localizer, which is never analysed"),
    "twice": ({F: "1", T1: "1"}, UsageError, "--flair and --t1 name the same series"),
    "of two series": ({T1: "6"}, UsageError, r"several series: .*choose one with --t1 UID"),
}


@pytest.mark.parametrize(("wanted", "error", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_wanted(
    wanted: dict[MrSequence, str], error: type[GliosightError], words: str
) -> None:
    with pytest.raises(error, match=words):
        beside_flair(
            stack(3, 5, **LOCALIZER),
            t1(6),
            t1(6, **OTHER_UID, origin=(0.0, 0.0, 0.0)),
            wanted=wanted,
        )


@pytest.mark.parametrize("broken", [True, False], ids=["T1 twice in the rest", "FLAIR alone"])
def test_of_sequences_in_one_series_none_after_contrast_is_proposed_as_flair(broken: bool) -> None:
    """Headers without TR and TE: FLAIR is one of the stacks, and nothing says which."""
    bare = DERIVED | {"AcquisitionTime": None}
    rest = stack(20, 1, **bare) + (stack(20, 1, start=30, **bare) if broken else [])
    series = series_in(rest, stack(20, 1, start=60, **bare, ContrastBolusVolume=15))
    after = "1, after contrast medium"
    for wanted in ({}, {F: "1"}):
        with pytest.raises(GliosightError) as caught:
            choose(series, wanted)
        assert after not in caught.value.line().replace(f"series {after} (", "")
        names = proposed(caught.value, series)
        assert all(choose(series, {F: name}).chosen[F].part == "the rest" for name in names)
        assert bool(names) is not broken
    assert "series 1, the rest" in caught.value.line()
    assert f"series {after}" in caught.value.line()
    assert codes(choose(series, {F: after})) == ["NAME_CONTRADICTS"]


LOCATED = [
    image
    for k in range(9)
    for image in stack(1, 1, start=1 + k, **AT_ONCE, SliceLocation=5 * k, time=f"1015{k:02d}")
]
# A study that is refused, what is wanted of it, and whether the error names what would do.
PROPOSALS: dict[str, tuple[list[list[Instance]], dict[MrSequence, str], bool]] = {
    "T1 and T2 alone": ([t1(1), stack(20, 2, **T2)], {}, True),
    "two of one number": ([stack(20, 1, **T2), t1(1, **OTHER_UID)], {}, True),
    "excluded by a word": ([flair(1, SeriesDescription="FLAIR_ROI")], {}, True),
    "processed": ([stack(20, 1, **DERIVED, SeriesDescription="FLAIR")], {}, True),
    "a localizer": ([stack(3, 1, **LOCALIZER)], {}, False),
    "a mask": ([flair(1, ImageType=["DERIVED", "PRIMARY", "MASK"])], {}, False),
    "two guesses": ([stack(20, 1, **GUESS), stack(20, 2, **GUESS)], {}, True),
    "equals, and a T1 that has the number of one of them": (
        [flair(1, **UNTIMED), flair(1, **UNTIMED, **OTHER_UID), t1(1, SeriesInstanceUID="1.2.67")],
        {},
        True,
    ),
    "guesses, and a T1 that has the number of one of them": (
        [stack(20, 1, **GUESS), stack(20, 2, **GUESS), t1(1, **OTHER_UID)],
        {},
        True,
    ),
    "stacks of one series": ([two_echoes()], {}, True),
    "one position, the origin": ([stack(20, 1, **NOWHERE)], {}, True),
    "one position, and no order": ([stack(20, 1, **NOWHERE, InstanceNumber=1)], {}, False),
    "one position, and SliceLocation": ([LOCATED], {}, True),
    "no position, and no order": (
        [flair(1, ImagePositionPatient=None, InstanceNumber=None)],
        {},
        False,
    ),
    "several sizes": (
        [stack(9, 1, **FLAIR), stack(1, 1, start=99, at=[9], **FLAIR, Rows=8)],
        {},
        False,
    ),
    "a series that is not there": ([flair(1)], {F: "17"}, True),
    "a localizer, named": ([flair(1), stack(3, 2, **LOCALIZER)], {F: "2"}, True),
    "a localizer and nothing else": ([stack(3, 2, **LOCALIZER)], {F: "2"}, False),
    "a number of two": ([stack(20, 1, **T2), flair(1, **OTHER_UID)], {F: "1"}, True),
}


def proposed(error: GliosightError, series: tuple[Series, ...]) -> list[str]:
    """What the error proposes to name, as it stands there."""
    line = error.line()
    if parts := re.findall(r'--flair "([^"]+)"', line):
        return list(parts)
    if "--flair UID" in line:
        return re.findall(r", ([0-9.]+)\)", line) or [stack.uid for stack in series]
    listed = re.findall(r"series (\d+) \(", line)
    if "--flair NUMBER" in line or "SeriesNumber" in line or "another series:" in line:
        return listed[-1:] if "another series:" in line else listed
    return re.findall(r"--flair (\d+)\b", line.partition(": ")[2])


@pytest.mark.parametrize(("stacks", "wanted", "works"), PROPOSALS.values(), ids=PROPOSALS)
def test_what_an_error_proposes_works(
    stacks: list[list[Instance]], wanted: dict[MrSequence, str], works: bool
) -> None:
    series = series_in(*stacks)
    with pytest.raises(GliosightError) as caught:
        choose(series, wanted)
    names = proposed(caught.value, series)
    assert bool(names) == works, caught.value.line()
    assert all(choose(series, {F: name}).chosen[F].error is None for name in names)
    if not works:
        assert "--flair" not in (caught.value.remedy or "")
        for refused in series:
            with pytest.raises(GliosightError):
                choose(series, {F: refused.uid})
