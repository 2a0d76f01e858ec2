"""What is one study, what is one series, also where UIDs were torn out or given to all."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid

from gliosight.errors import GliosightError, UnsupportedInputError
from gliosight.read.dicom import grouping
from gliosight.read.dicom.choose import choose
from gliosight.read.dicom.grouping import SeriesKey, StudyKey, group_instances
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import Series, series_of
from gliosight.study import MrSequence

from .builders_series import (
    AXIAL,
    CORONAL,
    ENHANCED_FLAIR,
    FLAIR,
    SAGITTAL,
    STUDY,
    T1_SE,
    enhanced,
    enhanced_frame,
    instance,
    series_in,
    stack,
)

Values = dict[str, Any]
F, T1 = MrSequence.FLAIR, MrSequence.T1
COUNTS = ("SeriesNumber", "PatientID")
UIDS = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
KNOWN = {"PatientID": "A", "StudyDate": "20240102", "StudyTime": "101500"}
NOBODY = {"PatientID": "", "PatientName": ""}
NEVER = {"StudyDate": "", "StudyTime": "", "AcquisitionDate": ""}
LATER = {"AcquisitionTime": "110000", "SeriesTime": "110000"}
CONTRAST = {"ContrastBolusAgent": "Gd"}
SCOUT = {"RepetitionTime": 8, "EchoTime": 4, "ScanningSequence": "GR", "SeriesDescription": "scout"}
ONE_UID = {"SeriesInstanceUID": "1.2.9"}
NO_UID: Values = {"SeriesInstanceUID": None}


def sizes(instances: list[Instance]) -> dict[StudyKey, int]:
    return {
        key: sum(map(len, groups.values())) for key, groups in group_instances(instances).items()
    }


def slices_of(series: tuple[Series, ...]) -> list[int]:
    return [stack.shape[0] for stack in series]


def flags_of(series: tuple[Series, ...]) -> set[str]:
    return {note.code for stack in series for note in stack.flags}


def patient(name: str | None, number: int, **values: Any) -> list[Instance]:
    return stack(3, number, **FLAIR, PatientID=name, **values)


def slice_by_slice(
    instances: list[Instance], *keywords: str, first: int = 0, **values: Any
) -> list[Instance]:
    """The same images, with values of their own for each of them."""
    for index, image in enumerate(instances, first):
        for keyword in keywords:
            old = str(image.header.get(keyword) or "9")
            own = f"{900 + index}" if keyword in COUNTS else f"{old}.{index}"
            setattr(image.header, keyword, own)
        for keyword, value in values.items():
            setattr(image.header, keyword, value)
    return instances


def in_pieces(
    instances: list[Instance],
    part_of: Callable[[int], int],
    keywords: tuple[str, ...] = ("SeriesInstanceUID",),
) -> list[Instance]:
    """The same images, with values of their own for each piece."""
    for index, image in enumerate(instances):
        slice_by_slice([image], *keywords, first=part_of(index))
    return instances


def planes(number: int = 1, **values: Any) -> list[Instance]:
    """A localizer: one slice in each of three planes."""
    return [
        image
        for start, plane in enumerate((AXIAL, SAGITTAL, CORONAL), 1)
        for image in stack(1, number, orientation=plane, start=start, **{**SCOUT, **values})
    ]


def one_visit(**values: Any) -> list[Instance]:
    """A localizer, FLAIR, T1 and T1C."""
    known = {**KNOWN, **values}
    return [
        *planes(1, **known),
        *stack(10, 2, **FLAIR, **known),
        *stack(10, 3, **T1_SE, **known),
        *stack(10, 4, **T1_SE, **CONTRAST, **known),
    ]


def test_patients_and_dates_tell_studies_apart_where_uids_do_not() -> None:
    assert sizes(patient("A", 1) + patient("B", 2)) == {
        StudyKey(STUDY, "a"): 3,
        StudyKey(STUDY, "b"): 3,
    }
    for other in ("A", "a ", None, ""):
        assert sizes(patient("A", 1) + patient(other, 2)) == {StudyKey(STUDY): 6}
    # Where nobody has an id, names do.
    instances = [
        *patient(None, 1, PatientName="Doe^Jane"),
        *patient("", 2, PatientName="DOE^JANE^"),
        *patient(None, 3, PatientName="Roe^Rob"),
    ]
    assert sorted(sizes(instances).values()) == [3, 6]
    # One id for all: the name is spelt in two ways.
    same = [*patient("A", 1, PatientName="Doe"), *patient("A", 2, PatientName="Doe^Jane")]
    assert sizes(same) == {StudyKey(STUDY): 6}
    instances = [
        *patient("A", 1, StudyInstanceUID=None, StudyDate="20240102"),
        *patient("A", 2, StudyInstanceUID=None, StudyDate="20240305"),
        *patient("B", 3, StudyInstanceUID=None, StudyDate="20240305"),
        *patient(None, 4, StudyInstanceUID=None),
    ]
    assert sizes(instances) == {
        StudyKey("", "", "20240102"): 3,
        StudyKey("", "a", "20240305"): 3,
        StudyKey("", "b", "20240305"): 3,
        StudyKey(""): 3,
    }


@pytest.mark.parametrize(
    ("instances", "keys"),
    [
        (
            [*stack(3, 1, **FLAIR, **ONE_UID), *stack(3, 2, **T1_SE, **ONE_UID)],
            [SeriesKey("1.2.9", "1"), SeriesKey("1.2.9", "2")],
        ),
        (
            [image for n in range(6) for image in stack(1, n, at=[n], **FLAIR, **ONE_UID)],
            [SeriesKey("1.2.9")],
        ),
        (
            [*stack(2, 1, **FLAIR, **NO_UID), *stack(1, 2, **T1_SE, **NO_UID)],
            [SeriesKey("", "1"), SeriesKey("", "2")],
        ),
    ],
    ids=["one UID for all series", "numbers that count images", "no UID"],
)
def test_numbers_tell_series_apart_where_uids_do_not(
    instances: list[Instance], keys: list[SeriesKey]
) -> None:
    (groups,) = group_instances(instances).values()
    assert list(groups) == keys
    series = series_in(instances)
    assert [part.uid for part in series] == [key.uid for key in keys]
    if len(keys) > 1:
        assert [part.place for part in series] == ["series 1", "series 2"]


# UIDs that change with the slice.


@pytest.mark.parametrize(
    ("keywords", "values"),
    [
        (("SeriesInstanceUID",), {}),  # some scanners
        (UIDS, {}),  # an anonymiser that works file by file
        (("StudyInstanceUID",), {}),
        (("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID"), {}),
        ((*UIDS, "SeriesNumber"), {}),  # numbers that count images
        ((*UIDS, "SeriesDescription"), {}),
        (UIDS, {"SeriesNumber": None}),
        (UIDS, {"InstanceNumber": None}),
        (UIDS, NOBODY),  # the folder says that they belong together
        (UIDS, {"PatientID": ""} | NEVER),
        (UIDS, NEVER | {"AcquisitionTime": ""}),
    ],
)
def test_uids_that_change_with_the_slice_leave_one_study(
    keywords: tuple[str, ...], values: Values
) -> None:
    for seed in range(2):
        instances = slice_by_slice(one_visit(), *keywords, **values)
        random.Random(seed).shuffle(instances)  # noqa: S311 - an order, no secret
        ((study, series),) = series_of(instances).items()
        assert sorted(slices_of(series)) == [1, 1, 1, 10, 10, 10]
        kinds = {part.identified.kind for part in series}
        assert kinds == {"localizer", "FLAIR", "T1", "T1 after contrast"}
        assert study.uid == min(str(image.header.StudyInstanceUID) for image in instances)
        choice = choose(series)
        assert set(choice.chosen) == set(MrSequence)
        assert choice.chosen[F].flags[0].code == "SERIES_JOINED"
        # A series that is named by any of its UIDs, since inspect cannot list them all.
        some = str(choice.chosen[T1].frames[3].instance.header.SeriesInstanceUID)
        assert some in choice.chosen[T1].uids


def test_one_study_uid_for_each_series_leaves_one_study() -> None:
    instances = one_visit()
    # And a frame of reference for each series: then the place says that they belong together.
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        for image in instances:
            own = f"{image.header.get(keyword)}.{image.header.SeriesNumber}"
            setattr(image.header, keyword, own)
        ((study, series),) = series_of(instances).items()
        assert (study.joined, set(choose(series).chosen)) == (4, set(MrSequence))
        assert "SERIES_JOINED" not in flags_of(series)


def test_only_one_series_has_lost_its_uids() -> None:
    for keywords in (("SeriesInstanceUID",), ("SeriesInstanceUID", "StudyInstanceUID")):
        flair, t1 = stack(10, 2, **FLAIR, **KNOWN), stack(10, 3, **T1_SE, **KNOWN)
        series = series_in(slice_by_slice(flair, *keywords) + t1 + planes(1, **KNOWN))
        assert slices_of(tuple(choose(series).chosen.values())) == [10, 10]


@pytest.mark.parametrize(
    ("both", "second", "folder"),
    [
        ({}, {"PatientID": "B"}, "a"),
        ({}, {"StudyDate": "20240305"}, "a"),
        ({"PatientID": None}, {}, "b"),
        ({"StudyDate": None, "StudyTime": None}, {}, "b"),
    ],
    ids=["patients", "days", "folders, nobody named", "folders, no days"],
)
def test_two_visits_that_change_with_the_slice_are_two_studies(
    both: Values, second: Values, folder: str
) -> None:
    here = slice_by_slice(one_visit(**both), *UIDS)
    there = slice_by_slice(one_visit(**both, **second), *UIDS, first=500)
    here = [replace(image, path=Path("a") / str(k)) for k, image in enumerate(here)]
    there = [replace(image, path=Path(folder) / str(k)) for k, image in enumerate(there, 500)]
    studies = series_of(here + there)
    assert [sum(slices_of(series)) for series in studies.values()] == [33, 33]
    for series in studies.values():
        assert set(choose(series).chosen) == set(MrSequence)
    assert not set(studies) & {key._replace(uid="") for key in studies}


def test_two_flair_that_change_with_the_slice_are_two_series() -> None:
    """Before and after contrast medium: by the number, the time of the series, or the agent."""
    for apart, keywords in (
        ({"number": 9}, UIDS),
        ({"number": 2, **CONTRAST}, UIDS),
        ({"number": 2, "SeriesTime": "110000"}, ("SeriesInstanceUID",)),
    ):
        instances = stack(10, 2, **FLAIR, **KNOWN) + stack(10, **FLAIR, **KNOWN, **apart)
        series = series_in(slice_by_slice(instances, *keywords))
        assert [(part.shape[0], part.error) for part in series] == [(10, None), (10, None)]


@pytest.mark.parametrize("number", [None, "slice"], ids=["no numbers", "numbers of slices"])
@pytest.mark.parametrize("apart", [True, False], ids=["two times", "one time"])
def test_t1_twice_under_one_name(number: str | None, apart: bool) -> None:
    """Numbers of slices repeat in every series; then the series' times tell T1 and T1C apart."""
    named = {**T1_SE, **KNOWN, "SeriesDescription": "t1"}
    instances = [
        *stack(12, 2, **FLAIR, **KNOWN),
        *stack(12, 3, **named, SeriesTime="102000"),
        *stack(12, 4, **named, SeriesTime="110000" if apart else "102000"),
    ]
    for index, image in enumerate(slice_by_slice(instances, *UIDS)):
        image.header.SeriesNumber = index % 12 + 1 if number else None
        image.header.AcquisitionTime = image.header.get("SeriesTime", "101500")
    ((study, series),) = series_of(instances).items()
    assert study.joined == 36
    choice = choose(series)
    if apart:
        assert slices_of(tuple(choice.chosen.values())) == [12, 12, 12]
    else:
        assert set(choice.chosen) == {F}
        assert [note.code for note in choice.flags] == ["T1_LEFT_OUT", "T1C_LEFT_OUT"]
        assert all("24 images name 24 series" in note.message for note in choice.flags)


def numbered_anew(*parts: list[Instance]) -> list[Instance]:
    """All of them with UIDs of their own, and numbers that count the slices of each part."""
    for part in parts:
        for index, image in enumerate(slice_by_slice(part, *UIDS), 1):
            image.header.SeriesNumber = index
    return [image for part in parts for image in part]


def test_numbers_of_slices_in_two_planes_make_no_series() -> None:
    instances = numbered_anew(
        stack(12, 2, **FLAIR, **KNOWN),
        stack(12, 3, **T1_SE, **KNOWN),
        stack(12, 4, **T1_SE, **KNOWN, orientation=SAGITTAL),
    )
    assert slices_of(series_in(instances)) == [12, 12, 12]


@pytest.mark.parametrize("change", ["reversed", "a step on", "a little on"])
@pytest.mark.parametrize("second", [FLAIR, T1_SE], ids=["FLAIR", "T1"])
def test_slices_numbered_anew_in_each_series_are_told_apart_by_time(
    second: Values, change: str
) -> None:
    """The second series need not have the positions or the order of the first."""
    shift = {"a step on": 6.0, "a little on": 1e-4}.get(change, 0.0)
    later = stack(10, 3, **{**second, **KNOWN, **LATER}, origin=(-100.0, -110.0, -40.0 + shift))
    instances = numbered_anew(
        stack(10, 1, **FLAIR, **KNOWN),
        stack(10, 2, **second, **KNOWN, SeriesTime="103000"),
        later[::-1] if change == "reversed" else later,
    )
    assert slices_of(series_in(instances)) == [10, 10, 10]


ANONYMOUS = {"StudyDate": "19000101", "StudyID": "1"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"StudyID": "1"}, {"StudyID": "1"}),
        ({"StudyDate": "20240102"}, {"StudyDate": "20240102"}),
        (ANONYMOUS, ANONYMOUS),
        (ANONYMOUS | {"PatientID": "Anon"}, ANONYMOUS | {"PatientID": "Anon"}),
        (ANONYMOUS | {"PatientName": "Anonymous"}, ANONYMOUS | {"PatientName": "Anonymous"}),
        (
            {**KNOWN, "PatientName": "Doe", "PatientID": ""},
            {**KNOWN, "PatientName": "Roe", "PatientID": ""},
        ),
    ],
)
def test_people_whose_names_were_taken_off_are_no_study(first: Values, second: Values) -> None:
    """StudyID is 1 in many hospitals; two frames of reference say that these are two people."""
    instances = []
    for study, values in enumerate([{**FLAIR, **first}, {**T1_SE, **second}], 1):
        for image in stack(10, study + 1, **values):
            for number, keyword in enumerate(UIDS[:3]):
                setattr(image.header, keyword, f"1.7.{study}.{number}")
            instances.append(replace(image, path=Path(f"p{study}/{image.path.name}")))
    assert sorted(sizes(instances).values()) == [10, 10]
    # Another patient of the tree does not change what is known of these.
    other = stack(4, 1, **FLAIR, PatientID="C", StudyDate="20230101", StudyInstanceUID="1.9")
    assert sorted(sizes(instances + other).values()) == [4, 10, 10]


@pytest.mark.parametrize("agent", [{}, CONTRAST], ids=["T1", "T1C"])
def test_of_single_t1_slices_none_is_chosen(agent: Values) -> None:
    instances = stack(10, 2, **FLAIR, **KNOWN)
    for index in range(10):
        values = {**T1_SE, **agent, **KNOWN, "EchoTime": 9 + index}
        instances += stack(1, index + 5, at=[index], **values)
    choice = choose(series_in(instances))
    assert set(choice.chosen) == {F}
    name = "T1C" if agent else "T1"
    assert f"10 single {name} slices cannot be joined" in str(choice.flags)


def test_of_single_flair_slices_none_is_chosen_but_by_name() -> None:
    """Protocols that differ are not joined, and no slice stands for a head."""
    series = series_in(
        [
            image
            for k in range(3)
            for image in stack(1, k + 2, at=[k], **{**FLAIR, **KNOWN, "EchoTime": 93 + 9 * k})
        ]
    )
    what = "3 series may be FLAIR, and each holds a single"
    with pytest.raises(UnsupportedInputError, match=what) as caught:
        choose(series)
    assert "--flair NUMBER" in caught.value.line()
    assert choose(series, {F: "3"}).chosen[F].number == 3


UNSAFE: dict[str, tuple[Values, str]] = {
    "a patient for each slice": ({"each": {"PatientID": "P{}"}}, "they name 10 patients"),
    "a day for each slice": ({"each": {"StudyDate": "202401{:02d}"}}, "they name 10 dates"),
    "a time for each slice": ({"each": {"StudyTime": "1015{:02d}"}}, "they name 10 times"),
    "a gap": ({"at": [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]}, "up to 30 mm apart"),
    "two blocks": ({"at": [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]}, "mm apart"),
    "every second slice": ({"at": range(0, 20, 2), "SpacingBetweenSlices": 6}, "mm apart"),
    "two heads in one": ({"at": np.arange(10) / 2}, "overlap"),
    "twice": ({"at": np.arange(10) // 2, "each": {"AcquisitionTime": "10{}"}}, "the same position"),
    "shifted": ({"zigzag": 20.0}, "shifted against each other"),
    "no positions": ({"ImagePositionPatient": None}, "do not say where they lie"),
}


@pytest.mark.parametrize(("values", "why"), UNSAFE.values(), ids=UNSAFE)
def test_what_cannot_be_joined_safely_is_refused(values: Values, why: str) -> None:
    each, zigzag = values.get("each", {}), values.get("zigzag", 0.0)
    header = {key: value for key, value in values.items() if key not in ("each", "zigzag")}
    instances = stack(10, 2, **{**FLAIR, **KNOWN, **header})
    for index, image in enumerate(instances):
        for keyword, text in each.items():
            rank = index % 2 + 10 if keyword == "AcquisitionTime" else index + 1
            setattr(image.header, keyword, text.format(rank))
        if zigzag:
            image.header.ImagePositionPatient[0] += zigzag * (index % 2)
    for keywords in (UIDS, ("SeriesInstanceUID",)):
        series = series_in(slice_by_slice(list(instances), *keywords))
        with pytest.raises(GliosightError, match=why):
            choose(series)


def test_slices_of_several_people_are_no_stack() -> None:
    """A data set of one slice a patient stays one."""
    instances = [
        image
        for index, z in enumerate((3.0, 41.0, -12.5, 17.2, 55.0))
        for image in stack(1, 2, **FLAIR, origin=(-100, -110, z), StudyDate=f"2024010{index + 1}")
    ]
    studies = series_of(slice_by_slice(instances, *UIDS, "PatientID")).values()
    assert [choose(series).chosen[F].shape[0] for series in studies] == [1] * 5


def test_a_missing_slice_is_said_and_costs_nothing() -> None:
    instances = stack(9, 2, at=[0, 1, 2, 4, 5, 6, 7, 8, 9], **FLAIR, **KNOWN)
    (series,) = series_in(slice_by_slice(instances, *UIDS))
    assert [note.code for note in series.flags][:2] == ["SERIES_JOINED", "MISSING_SLICES"]
    assert series.error is None


@pytest.mark.slow
def test_two_visits_of_one_day_stay_two() -> None:
    """Each with UIDs of its own; and one UID for each series, with numbers that repeat."""
    for by_series in (False, True):
        instances = []
        for visit, hour in (("1", "101500"), ("2", "150000")):
            for image in one_visit(**{**KNOWN, "StudyTime": hour}):
                number = f".{image.header.SeriesNumber}"
                image.header.StudyInstanceUID = f"{STUDY}.{visit}{number if by_series else ''}"
                image.header.SeriesInstanceUID = f"{image.header.StudyInstanceUID}{number}"
                instances.append(image)
        assert [len(series) for series in series_of(instances).values()] == [6, 6]
        for image in instances:  # and without times: whose T1 is it?
            image.header.StudyTime = ""
        assert len(series_of(instances)) == (8 if by_series else 2)


def test_what_is_no_image_goes_with_the_study_and_other_slices_do_too() -> None:
    """A report and a localizer plane of another size, each under a StudyInstanceUID of its own."""
    extra = [
        instance(**KNOWN, SOPClassUID=uid.EnhancedSRStorage, Modality="SR", SeriesNumber=99),
        *stack(1, 1, **SCOUT, **KNOWN, Rows=80, Columns=80),
    ]
    series = series_in(slice_by_slice(one_visit() + extra, *UIDS))
    assert len(series) == 8
    assert set(choose(series).chosen) == set(MrSequence)


# Stacks in pieces.

IN_PIECES: dict[str, Callable[[int], int]] = {
    "halves": lambda k: k // 10,
    "fives": lambda k: k // 5,
    "threes": lambda k: k // 3,
    "pairs, the ends single": lambda k: (k + 1) // 2,
    "nines, and a slice": lambda k: (k + 1) // 10,
    "every second slice": lambda k: k % 2,
    "strays in the middle": lambda k: k if k in (9, 10, 11) else 0,
    "one stray": lambda k: int(k == 4),
}
SPOILT: dict[str, tuple[str, ...]] = {
    "series": ("SeriesInstanceUID",),
    "series and number": ("SeriesInstanceUID", "SeriesNumber"),
    "series and description": ("SeriesInstanceUID", "SeriesDescription"),
    "series and study": ("SeriesInstanceUID", "StudyInstanceUID"),
    "all UIDs": UIDS,
}


@pytest.mark.parametrize("keywords", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("part_of", IN_PIECES.values(), ids=IN_PIECES)
def test_pieces_of_a_stack_are_one_series(
    part_of: Callable[[int], int], keywords: tuple[str, ...]
) -> None:
    """Below, above, or between each other; T1 and T1C lie at the same places and stay apart."""
    whole = [*stack(20, 3, **T1_SE, **KNOWN), *stack(20, 4, **T1_SE, **CONTRAST, **KNOWN)]
    series = series_in(in_pieces(stack(20, 2, **FLAIR, **KNOWN), part_of, keywords) + whole)
    choice = choose(series)
    assert choice.chosen[F].flags[0].code == "SERIES_JOINED"
    assert not {"FLAIR_CHOSEN", "MISSING_SLICES"} & {note.code for note in choice.flags}
    assert slices_of(series) == [20, 20, 20]


def test_an_enhanced_stack_in_two_objects_is_one_series() -> None:
    halves = [
        enhanced([enhanced_frame(5 * (z + at)) for z in range(10)], ENHANCED_FLAIR, number, **KNOWN)
        for number, at in ((2, 0), (3, 10))
    ]
    series = series_in(halves)
    assert [(part.place, part.shape[0], part.error) for part in series] == [("series 2", 20, None)]


@pytest.mark.parametrize(
    ("number", "keywords", "joined"), [(3, UIDS, 12), (2, SPOILT["series"], 1)]
)
def test_all_series_in_pieces(number: int, keywords: tuple[str, ...], joined: int) -> None:
    """Each slice of T1 and T1C has a twin of the same protocol."""
    named = {**T1_SE, **KNOWN, "SeriesDescription": "t1"}
    later = stack(20, number, **named, SeriesTime="110000", time="110000")
    instances = [
        *in_pieces(stack(20, 1, **FLAIR, **KNOWN), lambda k: k // 3, keywords),
        *in_pieces(stack(20, 2, **named), lambda k: k // 5, keywords),
        *in_pieces(later, lambda k: 30 + k // 4, keywords),
    ]
    ((study, series),) = series_of(instances).items()
    assert study.joined == joined
    assert slices_of(tuple(choose(series).chosen.values())) == [20, 20, 20]


@pytest.mark.parametrize(
    "second",
    [
        {"at": range(9, 19)},  # they share a slice
        {"at": np.arange(10) + 5},
        {"at": np.arange(10) + 0.5},  # acquired again, half a step on
        {"at": range(10, 20), "orientation": (1.0, 0.0, 0.0, 0.0, 0.98, 0.199)},
        {"at": range(10, 20), "RepetitionTime": 7000},
        {"at": range(10, 20), "PixelSpacing": [0.5, 0.5]},
        {"at": range(10, 20), "origin": (-80.0, -110.0, -40.0)},
        {"at": range(10, 20), **CONTRAST},
    ],
    ids=["one slice", "half", "between", "angled", "TR", "pixels", "shifted", "contrast"],
)
def test_what_makes_no_stack_together_is_not_joined(second: Values) -> None:
    for number in (3, 2):
        other = {**FLAIR, **KNOWN, "SeriesInstanceUID": "1.2.77", **LATER, **second}
        series = series_in(stack(10, 2, **FLAIR, **KNOWN) + stack(10, number, **other))
        assert slices_of(series) == [10, 10]
        assert "SERIES_JOINED" not in flags_of(series)
        assert "FLAIR_CHOSEN" in {note.code for note in choose(series).flags}


@pytest.mark.parametrize(
    ("keyword", "text"),
    [("PatientID", "P{}"), ("StudyDate", "2024010{}"), ("StudyTime", "10150{}")],
)
def test_pieces_of_several_people_or_visits_are_refused(keyword: str, text: str) -> None:
    """Side by side in one frame of reference they are one scan; whose, nobody knows."""
    for pieces in (2, 5):
        instances = stack(20, 2, **FLAIR, **KNOWN)
        for index, image in enumerate(instances):
            piece = index * pieces // 20
            image.header.StudyInstanceUID = image.header.SeriesInstanceUID = f"{STUDY}.{piece}"
            setattr(image.header, keyword, text.format(piece + 1))
        with pytest.raises(UnsupportedInputError, match=f"they name {pieces} "):
            choose(series_in(instances))


def test_pieces_with_a_gap_between_them_are_refused() -> None:
    instances = stack(12, 2, at=[*range(6), *range(12, 18)], **FLAIR, **KNOWN)
    in_pieces(instances, lambda k: k // 6, SPOILT["series and study"])
    with pytest.raises(UnsupportedInputError, match="up to 42 mm apart"):
        choose(series_in(instances))


# What it costs.


def test_whole_stacks_of_many_people_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = grouping.why_no_stack
    monkeypatch.setattr(grouping, "why_no_stack", lambda f: looked.append(len(f)) or real(f))
    monkeypatch.setattr(grouping, "MOST_SLICES", 80)
    instances = []
    for index in range(12):
        uids = {"StudyInstanceUID": f"1.{index}", "SeriesInstanceUID": f"1.{index}.2"}
        instances += stack(8, 2, **FLAIR, **{**KNOWN, **uids, "PatientID": f"P{index}"})
    assert len(series_of(instances)) == 12
    assert sum(looked) <= len(instances) + 12


@pytest.mark.slow
def test_thousands_of_single_images_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    real = grouping.stored

    def counted(header: Any, keyword: str) -> str:
        looked.append(keyword)
        return real(header, keyword)

    monkeypatch.setattr(grouping, "stored", counted)

    def looks(count: int) -> int:
        looked.clear()
        images = [
            instance(**KNOWN, SeriesNumber=k, EchoTime=k + 10, ImagePositionPatient=[0, 0, 900 * k])
            for k in range(count)
        ]
        assert len(grouping.group_instances(slice_by_slice(images, *UIDS))) > 10
        return len(looked)

    few, many = looks(20), looks(160)
    assert many <= 9 * few
