"""Which series are taken, why, and when no choice is made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydicom import uid

from gliosight.errors import DamagedInputError, GliosightError, UnsupportedInputError, UsageError
from gliosight.read.dicom.choose import Choice, choose
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import Series, series_of
from gliosight.study import MrSequence

from .builders_series import FLAIR, MPRAGE, SAGITTAL, T1_SE, series_in, stack

F, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C
T2 = {"ScanningSequence": "SE", "RepetitionTime": 5000, "EchoTime": 100}
LOCALIZER = {**T1_SE, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
GIVEN = {"ContrastBolusAgent": "Gadovist"}


def chosen(*stacks: list[Instance], wanted: dict[MrSequence, str] | None = None) -> Choice:
    (series,) = series_of(one for group in stacks for one in group).values()
    return choose(series, wanted or {})


def numbers(choice: Choice) -> dict[MrSequence, int | None]:
    return {name: one.number for name, one in choice.chosen.items()}


def codes(choice: Choice) -> list[str]:
    return [one.code for one in choice.flags]


def test_a_usual_study() -> None:
    choice = chosen(
        stack(3, 1, **LOCALIZER),
        stack(20, 2, **T1_SE, time="100000"),
        stack(20, 3, **T2),
        stack(20, 4, **FLAIR),
        stack(20, 5, **T1_SE, **GIVEN, time="102000"),
    )
    assert numbers(choice) == {F: 4, T1: 2, T1C: 5}
    assert choice.flags == ()
    assert not choice.by_order
    assert set(choice.reasons) == set(choice.chosen)
    assert choice.reasons[F].startswith("series 4 is FLAIR (certain): inversion recovery")
    assert all(one.endswith(".") for one in choice.reasons.values())


BETTER: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "certain before likely",
        {},
        {"InversionTime": None, "SeriesDescription": "flair"},
        "confidence",
    ),
    (
        "original before derived",
        {"slices": 20},
        {"slices": 40, "step": 3.0, "ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        "confidence",
    ),
    (
        "axial before sagittal, though that has more slices",
        {"slices": 20},
        {"slices": 30, "orientation": SAGITTAL},
        "axial",
    ),
    (
        "isotropic sagittal before thick axial, for its slices",
        {
            "slices": 150,
            "step": 1.0,
            "orientation": SAGITTAL,
            "PixelSpacing": [1, 1],
            "SliceThickness": 1,
        },
        {"slices": 20},
        "more slices",
    ),
    (
        "a whole head before a slab of thin slices",
        {"slices": 20},
        {"slices": 40, "step": 1.0},
        "head",
    ),
    ("more slices", {"slices": 24, "step": 5.0}, {"slices": 20}, "more slices"),
    ("the later one", {"time": "110000"}, {"time": "100000"}, "later"),
    (
        "before contrast medium, though the other has more slices and is later",
        {"time": "100000"},
        {"time": "110000", "slices": 24, "step": 5.0, **GIVEN},
        "not after contrast medium",
    ),
    (
        "before contrast medium by the words",
        {"time": "100000"},
        {"time": "110000", "SeriesDescription": "ax flair +C"},
        "not after contrast medium",
    ),
    ("of two after contrast medium the later", {"time": "110000", **GIVEN}, GIVEN, "later"),
    (
        "a whole head after contrast medium before a slab",
        GIVEN,
        {"slices": 40, "step": 1.0},
        "head",
    ),
    (
        "with geometry before without",
        {"slices": 15},
        {"slices": 20, "PixelSpacing": None},
        "geometry",
    ),
    (
        "the higher number where no time is known",
        {"AcquisitionTime": None},
        {"AcquisitionTime": None},
        "number",
    ),
]


@pytest.mark.parametrize(
    ("better", "worse", "why"), [one[1:] for one in BETTER], ids=[one[0] for one in BETTER]
)
def test_the_better_flair_is_taken_and_the_flag_names_the_other(
    better: dict[str, Any], worse: dict[str, Any], why: str
) -> None:
    # The better one has the lower number, unless the number decides.
    order = (9, 8) if "number" in why else (3, 7)
    choice = chosen(
        stack(**{"slices": 18, "number": order[0], **FLAIR, **better}),
        stack(**{"slices": 18, "number": order[1], **FLAIR, **worse}),
    )
    assert numbers(choice)[F] == order[0]
    assert why in choice.reasons[F]
    (flag,) = choice.flags
    assert (flag.code, flag.severity) == ("FLAIR_CHOSEN", "info")
    assert f"series {order[1]}" in flag.message
    assert "--flair" in flag.message


def test_a_flair_later_than_t1c_is_after_contrast_whatever_its_header_says() -> None:
    series = [stack(20, 3, **FLAIR, time="100000"), stack(20, 9, **FLAIR, time="110000")]
    t1c = stack(20, 5, **T1_SE, **GIVEN, time="103000")
    assert numbers(chosen(*series))[F] == 9  # nothing speaks of contrast medium: the later one
    choice = chosen(*series, t1c)
    assert numbers(choice) == {F: 3, T1C: 5}
    assert "rather than series 9, since it is not after contrast" in choice.flags[0].message
    assert "rather than series 9, since it is not after contrast" in choice.reasons[F]
    assert numbers(chosen(series[1], t1c))[F] == 9  # the only one is taken


def test_guesses_are_not_chosen_between() -> None:
    guess = {"SeriesDescription": "ax flair", "ImageType": None}
    with pytest.raises(UnsupportedInputError, match=r"series 2 .*series 1 .*--flair"):
        chosen(stack(20, 1, **guess), stack(20, 2, **guess))
    assert numbers(chosen(stack(20, 1, **guess)))[F] == 1


def test_equals_without_order_are_not_chosen_between() -> None:
    same = {**FLAIR, "SeriesNumber": None, "AcquisitionTime": None}
    with pytest.raises(UnsupportedInputError, match="equally good"):
        chosen(
            stack(20, 1, **same, SeriesInstanceUID="1.2.1"),
            stack(20, 2, **same, SeriesInstanceUID="1.2.2"),
        )


def test_stacks_of_one_series_are_not_chosen_between_but_named_apart() -> None:
    echoes = [
        stack(20, 1, **{**FLAIR, "EchoTime": 90}, EchoNumbers=1),
        stack(20, 1, start=30, **{**FLAIR, "EchoTime": 120}, EchoNumbers=2),
    ]
    with pytest.raises(UnsupportedInputError, match="series 1, echo 2") as caught:
        chosen(*echoes)
    for text in (*re.findall(r'--flair "(.*)"', str(caught.value)), "series 1, Echo 1"):
        part = chosen(*echoes, wanted={F: text}).chosen[F].part
        assert part.lower() == text.partition(", ")[2].lower()
    uid_of_both = echoes[0][0].header.SeriesInstanceUID
    assert chosen(*echoes, wanted={F: f"{uid_of_both},echo 2"}).chosen[F].part == "echo 2"
    with pytest.raises(UsageError, match=r"names no series.*series 1, echo 1"):
        chosen(*echoes, wanted={F: "1, echo 3"})


def test_no_flair_lists_what_is_there_and_takes_nothing_else() -> None:
    with pytest.raises(UnsupportedInputError) as caught:
        chosen(
            stack(3, 1, **LOCALIZER),
            stack(20, 2, **T1_SE),
            stack(20, 3, **T1_SE),
            stack(20, 4, **T2, SeriesDescription="Doe FLAIR"),
        )
    assert caught.value.exit_code == 5
    assert "no FLAIR among 4 series: 2 T1, 1 localizer, 1 T2" in str(caught.value)
    assert "Doe" not in str(caught.value)
    with pytest.raises(UnsupportedInputError, match="no series at all"):
        choose([], {})


def test_an_roi_with_the_header_of_its_flair_is_not_taken() -> None:
    choice = chosen(
        stack(20, 4, **FLAIR),
        stack(20, 1004, **FLAIR, SeriesDescription="FLAIR_ROI", time="120000"),
    )
    assert numbers(choice) == {F: 4}
    assert choice.flags == ()


def test_the_only_flair_s_damage_is_the_error() -> None:
    with pytest.raises(DamagedInputError, match="one place"):
        chosen(stack(6, 1, **FLAIR), stack(1, 1, at=[2], start=50, **FLAIR), stack(20, 2, **T1_SE))


def test_a_damaged_flair_beside_a_whole_one_is_said() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR), stack(6, 2, **FLAIR), stack(1, 2, at=[2], start=50, **FLAIR)
    )
    assert numbers(choice)[F] == 1
    assert "series 2 cannot be read" in choice.flags[0].message


# T1 and T1C.


def test_t1_on_flair_s_grid_before_one_that_is_finer() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(
            160, 2, step=1.0, orientation=SAGITTAL, origin=(-45.0, -110.0, 80.0), **MPRAGE, Rows=160
        ),
        stack(20, 3, **T1_SE),
        stack(20, 4, **T1_SE, **GIVEN, time="110000"),  # so both are before contrast medium
    )
    assert numbers(choice) == {F: 1, T1: 3, T1C: 4}
    assert "nearest to FLAIR of 2" in choice.reasons[T1]


def test_of_two_alike_with_nothing_said_the_later_is_after_contrast() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(20, 9, **T1_SE, time="100000"),
        stack(20, 3, **T1_SE, time="103000"),
    )
    assert numbers(choice) == {F: 1, T1: 9, T1C: 3}
    assert choice.by_order
    assert "later of two" in choice.reasons[T1C]


def test_without_times_the_numbers_are_the_order() -> None:
    values = {**T1_SE, "AcquisitionTime": None}
    choice = chosen(stack(20, 1, **FLAIR), stack(20, 9, **values), stack(20, 3, **values))
    assert numbers(choice) == {F: 1, T1: 3, T1C: 9}
    assert choice.by_order


@pytest.mark.parametrize(
    "second",
    [
        {**MPRAGE},
        {**T1_SE, "orientation": SAGITTAL},
        {**T1_SE, "RepetitionTime": 800},
        {**T1_SE, "SeriesDescription": "T1 ohne KM"},
    ],
    ids=["another kind", "another plane", "another protocol", "said to be before"],
)
def test_two_that_are_not_alike_are_no_pair(second: dict[str, Any]) -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(20, 2, **T1_SE, time="100000"),
        stack(**{"slices": 20, "number": 3, "time": "103000", **second}),
    )
    assert T1C not in choice.chosen
    assert not choice.by_order
    assert T1 in choice.chosen


def test_one_t1_with_unknown_contrast_is_t1() -> None:
    choice = chosen(stack(20, 1, **FLAIR), stack(20, 2, **T1_SE))
    assert numbers(choice) == {F: 1, T1: 2}
    assert not choice.by_order


def test_another_frame_of_reference_is_left_out_and_said() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(20, 2, **T1_SE, FrameOfReferenceUID="1.2.3.99"),
        stack(20, 3, **T1_SE, **GIVEN, FrameOfReferenceUID="1.2.3.99"),
    )
    assert numbers(choice) == {F: 1}
    assert codes(choice) == ["T1_LEFT_OUT", "T1C_LEFT_OUT"]
    assert "series 2" in choice.flags[0].message
    assert "without T1" in choice.flags[0].message


def test_without_frame_of_reference_only_the_same_grid_counts() -> None:
    bare = {"FrameOfReferenceUID": None}
    choice = chosen(
        stack(20, 1, **FLAIR, **bare),
        stack(20, 2, **T1_SE, **bare),
        stack(20, 3, step=5.0, **T1_SE),
    )
    assert numbers(choice) == {F: 1, T1: 2}
    choice = chosen(stack(20, 1, **FLAIR, **bare), stack(20, 2, step=5.0, **T1_SE, **bare))
    assert numbers(choice) == {F: 1}
    assert codes(choice) == ["T1_LEFT_OUT"]


# What the user wants.


def test_a_wanted_series_by_number_and_by_uid() -> None:
    stacks = [
        stack(20, 1, **FLAIR),
        stack(24, 2, **FLAIR),
        stack(20, 3, **T1_SE),
        stack(20, 4, **T2),
    ]
    assert numbers(chosen(*stacks, wanted={F: "1"}))[F] == 1
    uid_of_4 = stacks[3][0].header.SeriesInstanceUID
    choice = chosen(*stacks, wanted={F: uid_of_4, T1C: "3"})
    assert numbers(choice) == {F: 4, T1C: 3}
    assert "named with --flair (T2 by its header)" in choice.reasons[F]
    (said,) = choice.flags  # that a T1 is after contrast the user may know; a T2 is no FLAIR
    assert said.code == "NAME_CONTRADICTS"
    assert "T2" in said.message


def test_a_flair_on_a_guess_is_flagged() -> None:
    stripped = {"SeriesDescription": "ax FLAIR", "ScanningSequence": "SE"}
    choice = chosen(stack(20, 1, **stripped))
    assert [one.code for one in choice.flags] == ["SEQUENCE_ASSUMED"]


WRONG: list[tuple[str, dict[MrSequence, str], type[GliosightError], str]] = [
    ("not there", {F: "17"}, UsageError, r"--flair 17 names no series.*series 1 \(FLAIR\)"),
    ("empty", {F: " "}, UsageError, "names no series"),
    ("a localizer", {F: "5"}, UnsupportedInputError, "localizer, which is never analysed"),
    ("twice", {F: "1", T1: "1"}, UsageError, "--flair and --t1 name the same series"),
    (
        "a number of two series",
        {T1: "6"},
        UsageError,
        r"several series: .*choose one with --t1 UID",
    ),
]


@pytest.mark.parametrize(
    ("wanted", "error", "words"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG]
)
def test_what_cannot_be_wanted(
    wanted: dict[MrSequence, str], error: type[GliosightError], words: str
) -> None:
    with pytest.raises(error, match=words):
        chosen(
            stack(20, 1, **FLAIR),
            stack(3, 5, **LOCALIZER),
            stack(20, 6, **T1_SE),
            stack(20, 6, **T1_SE, SeriesInstanceUID="1.2.66", origin=(0.0, 0.0, 0.0)),
            wanted=wanted,
        )


def test_a_wanted_series_that_cannot_be_read_is_its_own_error() -> None:
    broken = [type(one)(**{**vars(one), "syntax": uid.MPEG2MPML}) for one in stack(20, 2, **FLAIR)]
    with pytest.raises(UnsupportedInputError, match="MPEG"):
        chosen(stack(20, 1, **FLAIR), broken, wanted={F: "2"})


def test_the_one_stack_that_a_number_can_mean_is_taken() -> None:
    phase = stack(20, 1, **FLAIR, ImageType=["ORIGINAL", "PRIMARY", "P"])
    choice = chosen(phase, stack(20, 1, start=40, **FLAIR), wanted={F: "1"})
    assert choice.chosen[F].part == "magnitude"
    assert "one of 2 stacks" in choice.reasons[F]


@pytest.mark.parametrize("broken", [True, False], ids=["T1 twice in the rest", "FLAIR alone"])
def test_of_sequences_in_one_series_none_after_contrast_is_proposed_as_flair(broken: bool) -> None:
    """Headers without TR and TE: FLAIR is one of the stacks, and nothing says which."""
    bare: dict[str, Any] = {"ImageType": ["DERIVED", "SECONDARY"], "AcquisitionTime": None}
    rest = stack(20, 1, **bare) + (stack(20, 1, start=30, **bare) if broken else [])
    series = series_in([*rest, *stack(20, 1, start=60, **bare, ContrastBolusVolume=15)])
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
    choice = choose(series, {F: after})
    assert codes(choice) == ["NAME_CONTRADICTS"]


def test_a_flair_that_goes_on_in_another_series_is_flagged() -> None:
    """Turned a little, or of another TR, they are not one stack."""
    upper = stack(10, 2, **{**FLAIR, "RepetitionTime": 8000}, origin=(-100.0, -110.0, 20.0))
    choice = chosen(stack(10, 1, **FLAIR), upper)
    assert codes(choice) == ["FLAIR_CHOSEN", "MISSING_SLICES"]
    assert "series 2) covers 60 mm, and series 1 reaches 60 mm beyond it" in choice.flags[1].message
    whole = chosen(stack(20, 1, **FLAIR), stack(30, 2, **{**FLAIR, "RepetitionTime": 8000}))
    assert codes(whole) == ["FLAIR_CHOSEN"]


def test_series_of_one_number_are_told_apart() -> None:
    again = {**UIDS, "AcquisitionTime": "120000"}
    choice = chosen(stack(20, 3, **FLAIR), stack(19, 3, start=30, **{**FLAIR, **again}))
    assert "series 3 was taken, rather than another series 3 (19 slices)" in str(choice.flags)
    assert "rather than another series 3 (19 slices)" in choice.reasons[F]


def test_a_wanted_t1_in_other_coordinates_is_left_out() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(20, 2, **T1_SE, FrameOfReferenceUID="1.2.3.99"),
        wanted={T1: "2"},
    )
    assert numbers(choice) == {F: 1}
    assert codes(choice) == ["T1_LEFT_OUT"]


def test_a_wanted_t1_has_its_partner_by_order() -> None:
    choice = chosen(
        stack(20, 1, **FLAIR),
        stack(20, 2, **T1_SE, time="100000"),
        stack(20, 3, **T1_SE, time="103000"),
        wanted={T1: "2"},
    )
    assert numbers(choice) == {F: 1, T1: 2, T1C: 3}
    assert choice.by_order


BARE = {"ImageType": ["DERIVED", "SECONDARY"]}
GUESS = {"SeriesDescription": "ax flair", "ImageType": None}
NOWHERE = {**FLAIR, "ImagePositionPatient": [0, 0, 0]}
AT_ONCE = {**FLAIR, "ImagePositionPatient": [-90, -90, 7]}
UIDS = {"SeriesInstanceUID": "1.2.66"}

PROPOSALS: list[tuple[str, list[list[Instance]], dict[MrSequence, str], bool]] = [
    ("T1 and T2 alone", [stack(20, 1, **T1_SE), stack(20, 2, **T2)], {}, True),
    ("two series of one number", [stack(20, 1, **T2), stack(20, 1, **T1_SE, **UIDS)], {}, True),
    ("what a word excludes", [stack(20, 1, **FLAIR, SeriesDescription="FLAIR_ROI")], {}, True),
    ("processed, no TR and TE", [stack(20, 1, **BARE, SeriesDescription="FLAIR")], {}, True),
    ("a localizer", [stack(3, 1, **LOCALIZER)], {}, False),
    ("a mask", [stack(20, 1, **FLAIR, ImageType=["DERIVED", "PRIMARY", "MASK"])], {}, False),
    ("two guesses", [stack(20, 1, **GUESS), stack(20, 2, **GUESS)], {}, True),
    (
        "equals, and a T1 that has the number of one of them",
        [
            stack(20, 1, **{**FLAIR, "AcquisitionTime": None}),
            stack(20, 1, **{**FLAIR, "AcquisitionTime": None}, **UIDS),
            stack(20, 1, **T1_SE, SeriesInstanceUID="1.2.67"),
        ],
        {},
        True,
    ),
    (
        "guesses, and a T1 that has the number of one of them",
        [stack(20, 1, **GUESS), stack(20, 2, **GUESS), stack(20, 1, **T1_SE, **UIDS)],
        {},
        True,
    ),
    (
        "stacks of one series",
        [
            stack(20, 1, **{**FLAIR, "EchoTime": 90}, EchoNumbers=1),
            stack(20, 1, start=30, **{**FLAIR, "EchoTime": 120}, EchoNumbers=2),
        ],
        {},
        True,
    ),
    ("one position, the origin", [stack(20, 1, **NOWHERE)], {}, True),
    ("one position, and no order", [stack(20, 1, **NOWHERE, InstanceNumber=1)], {}, False),
    (
        "one position, and SliceLocation",
        [
            [
                one
                for k in range(9)
                for one in stack(
                    1, 1, start=1 + k, **AT_ONCE, SliceLocation=5 * k, time=f"1015{k:02d}"
                )
            ]
        ],
        {},
        True,
    ),
    (
        "no position, and no order",
        [stack(20, 1, **FLAIR, ImagePositionPatient=None, InstanceNumber=None)],
        {},
        False,
    ),
    (
        "several sizes",
        [stack(9, 1, **FLAIR), stack(1, 1, start=99, at=[9], **FLAIR, Rows=8)],
        {},
        False,
    ),
    ("a series that is not there", [stack(20, 1, **FLAIR)], {F: "17"}, True),
    ("a localizer, named", [stack(20, 1, **FLAIR), stack(3, 2, **LOCALIZER)], {F: "2"}, True),
    ("a localizer and nothing else", [stack(3, 2, **LOCALIZER)], {F: "2"}, False),
    ("a number of two", [stack(20, 1, **T2), stack(20, 1, **FLAIR, **UIDS)], {F: "1"}, True),
]


def proposed(error: GliosightError, series: tuple[Series, ...]) -> list[str]:
    """What the error proposes to name, as it stands there."""
    line = error.line()
    if parts := re.findall(r'--flair "([^"]+)"', line):
        return list(parts)
    if "--flair UID" in line:
        return re.findall(r", ([0-9.]+)\)", line) or [one.uid for one in series]
    listed = re.findall(r"series (\d+) \(", line)
    if "--flair NUMBER" in line or "SeriesNumber" in line or "another series:" in line:
        return listed[-1:] if "another series:" in line else listed
    return re.findall(r"--flair (\d+)\b", line.partition(": ")[2])


@pytest.mark.parametrize(
    ("stacks", "wanted", "works"), [one[1:] for one in PROPOSALS], ids=[one[0] for one in PROPOSALS]
)
def test_what_an_error_proposes_works(
    stacks: list[list[Instance]], wanted: dict[MrSequence, str], works: bool
) -> None:
    (series,) = series_of(one for group in stacks for one in group).values()
    with pytest.raises(GliosightError) as caught:
        choose(series, wanted)
    names = proposed(caught.value, series)
    assert bool(names) == works, caught.value.line()
    for name in names:
        flair = choose(series, {F: name}).chosen[F]
        assert flair.error is None
    if not works:
        assert "--flair" not in (caught.value.remedy or "")
        for one in series:
            with pytest.raises(GliosightError):
                choose(series, {F: one.uid})


def test_a_named_series_of_one_position_says_how_it_is_ordered() -> None:
    (series,) = series_of(stack(20, 1, **NOWHERE)).values()
    choice = choose(series, {F: "1"})
    (said,) = [one for one in choice.chosen[F].flags if one.code == "NO_GEOMETRY"]
    assert "in the order of their InstanceNumber" in said.message
    assert choice.chosen[F].geometry is None
    with pytest.raises(UsageError, match="name the same series"):
        choose(series, {F: "1", T1: "1"})


def test_a_processed_series_that_is_named_is_flagged() -> None:
    choice = chosen(stack(20, 1, **BARE, SeriesDescription="FLAIR defaced"), wanted={F: "1"})
    (said,) = choice.flags
    assert said.code == "NAME_CONTRADICTS"
    assert "does not confirm it: processed image or stored mask" in said.message
