"""What is one study, what is one series, also where UIDs were torn out or given to all."""

from __future__ import annotations

import random
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
from gliosight.read.dicom.series import series_of
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
    stack,
)


def sizes(instances: list[Instance]) -> dict[StudyKey, int]:
    return {
        key: sum(len(one) for one in groups.values())
        for key, groups in group_instances(instances).items()
    }


def patient(name: str | None, number: int, **values: Any) -> list[Instance]:
    return stack(3, number, **FLAIR, PatientID=name, **values)


def test_two_patients_of_one_uid_are_two_studies() -> None:
    assert sizes(patient("A", 1) + patient("B", 2)) == {
        StudyKey(STUDY, "a"): 3,
        StudyKey(STUDY, "b"): 3,
    }


@pytest.mark.parametrize("other", ["A", "a ", None, ""])
def test_one_patient_is_one_study(other: str | None) -> None:
    assert sizes(patient("A", 1) + patient(other, 2)) == {StudyKey(STUDY): 6}


def test_where_nobody_has_an_id_names_tell_patients_apart() -> None:
    instances = [
        *patient(None, 1, PatientName="Doe^Jane"),
        *patient("", 2, PatientName="DOE^JANE^"),
        *patient(None, 3, PatientName="Roe^Rob"),
    ]
    assert sorted(sizes(instances).values()) == [3, 6]
    # One id for all: the name is spelt in two ways.
    same = [*patient("A", 1, PatientName="Doe"), *patient("A", 2, PatientName="Doe^Jane")]
    assert sizes(same) == {StudyKey(STUDY): 6}


def test_without_uid_patient_and_date_tell_studies_apart() -> None:
    bare = {"StudyInstanceUID": None}
    instances = [
        *patient("A", 1, **bare, StudyDate="20240102"),
        *patient("A", 2, **bare, StudyDate="20240305"),
        *patient("B", 3, **bare, StudyDate="20240305"),
        *patient(None, 4, **bare),
    ]
    assert sizes(instances) == {
        StudyKey("", "", "20240102"): 3,
        StudyKey("", "a", "20240305"): 3,
        StudyKey("", "b", "20240305"): 3,
        StudyKey(""): 3,
    }


def test_one_uid_for_all_series_leaves_their_numbers() -> None:
    same = {"SeriesInstanceUID": "1.2.9"}
    (groups,) = group_instances(
        [*stack(3, 1, **FLAIR, **same), *stack(3, 2, **T1_SE, **same)]
    ).values()
    assert list(groups) == [SeriesKey("1.2.9", "1"), SeriesKey("1.2.9", "2")]
    ((first, second),) = series_of(
        [*stack(3, 1, **FLAIR, **same), *stack(3, 2, **T1_SE, **same)]
    ).values()
    assert (first.place, second.place) == ("series 1", "series 2")
    assert first.uid == second.uid == "1.2.9"


def test_numbers_that_count_images_split_no_series() -> None:
    same = {"SeriesInstanceUID": "1.2.9"}
    instances = [one for n in range(6) for one in stack(1, n, at=[n], **FLAIR, **same)]
    (groups,) = group_instances(instances).values()
    assert list(groups) == [SeriesKey("1.2.9")]


def test_without_any_uid_numbers_are_all_there_is() -> None:
    bare = {"SeriesInstanceUID": None}
    (groups,) = group_instances(
        [*stack(2, 1, **FLAIR, **bare), *stack(1, 2, **T1_SE, **bare)]
    ).values()
    assert list(groups) == [SeriesKey("", "1"), SeriesKey("", "2")]


def slice_by_slice(
    instances: list[Instance], *keywords: str, first: int = 0, **values: Any
) -> list[Instance]:
    """The same images, with values of their own for each of them."""
    for index, one in enumerate(instances, first):
        for keyword in keywords:
            old = str(one.header.get(keyword) or "9")
            number = f"{900 + index}"
            setattr(one.header, keyword, number if keyword in COUNTS else f"{old}.{index}")
        for keyword, value in values.items():
            setattr(one.header, keyword, value)
    return instances


COUNTS = ("SeriesNumber", "PatientID")
UIDS = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
KNOWN = {"PatientID": "A", "StudyDate": "20240102", "StudyTime": "101500"}
LATER = {"AcquisitionTime": "110000", "SeriesTime": "110000"}
CONTRAST = {"ContrastBolusAgent": "Gd"}
SCOUT = {"RepetitionTime": 8, "EchoTime": 4, "ScanningSequence": "GR", "SeriesDescription": "scout"}


def planes(number: int = 1, **values: Any) -> list[Instance]:
    """A localizer: one slice in each of three planes."""
    return [
        one
        for start, plane in enumerate((AXIAL, SAGITTAL, CORONAL), 1)
        for one in stack(1, number, orientation=plane, start=start, **{**SCOUT, **values})
    ]


def one_visit(**values: Any) -> list[Instance]:
    """A localizer, FLAIR, T1 and T1C."""
    given = {**KNOWN, **values}
    return [
        *planes(1, **given),
        *stack(10, 2, **FLAIR, **given),
        *stack(10, 3, **T1_SE, **given),
        *stack(10, 4, **T1_SE, **CONTRAST, **given),
    ]


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
        (UIDS, {"PatientID": "", "PatientName": ""}),  # the folder says that they belong together
        (UIDS, {"PatientID": "", "StudyDate": "", "StudyTime": "", "AcquisitionDate": ""}),
        (UIDS, {"StudyDate": "", "StudyTime": "", "AcquisitionDate": "", "AcquisitionTime": ""}),
    ],
)
def test_uids_that_change_with_the_slice_leave_one_study(
    keywords: tuple[str, ...], values: dict[str, Any]
) -> None:
    for seed in range(2):
        instances = slice_by_slice(one_visit(), *keywords, **values)
        random.Random(seed).shuffle(instances)  # noqa: S311 - an order, no secret
        ((study, found),) = series_of(instances).items()
        assert sorted(one.shape[0] for one in found) == [1, 1, 1, 10, 10, 10]
        assert {one.identified.kind for one in found} == {
            *("localizer", "FLAIR", "T1", "T1 after contrast")
        }
        assert study.uid == min(str(one.header.StudyInstanceUID) for one in instances)
        choice = choose(found)
        assert set(choice.chosen) == set(MrSequence)
        assert choice.chosen[MrSequence.FLAIR].flags[0].code == "SERIES_JOINED"
        # A series that is named by any of its UIDs, since inspect cannot list them all.
        some = str(choice.chosen[MrSequence.T1].frames[3].instance.header.SeriesInstanceUID)
        assert some in choice.chosen[MrSequence.T1].uids


def test_one_study_uid_for_each_series_leaves_one_study() -> None:
    instances = one_visit()
    for one in instances:
        one.header.StudyInstanceUID += f".{one.header.SeriesNumber}"
    ((study, found),) = series_of(instances).items()
    assert study.joined == 4
    assert set(choose(found).chosen) == set(MrSequence)
    assert not any(said.code == "SERIES_JOINED" for one in found for said in one.flags)
    # And a frame of reference for each series: then the place says that they belong together.
    for one in instances:
        one.header.FrameOfReferenceUID += f".{one.header.SeriesNumber}"
    ((study, found),) = series_of(instances).items()
    assert (study.joined, set(choose(found).chosen)) == (4, set(MrSequence))


def test_only_one_series_has_lost_its_uids() -> None:
    flair, others = stack(10, 2, **FLAIR, **KNOWN), stack(10, 3, **T1_SE, **KNOWN)
    for keywords in (("SeriesInstanceUID",), ("SeriesInstanceUID", "StudyInstanceUID")):
        instances = slice_by_slice(list(flair), *keywords) + others + planes(1, **KNOWN)
        (found,) = series_of(instances).values()
        assert [one.shape[0] for one in choose(found).chosen.values()] == [10, 10]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"PatientID": "B"}),
        ({}, {"StudyDate": "20240305"}),
        ({"PatientID": None}, {"PatientID": None, "folder": "b"}),
        (
            {"StudyDate": None, "StudyTime": None},
            {"StudyDate": None, "StudyTime": None, "folder": "b"},
        ),
    ],
    ids=["patients", "days", "folders, nobody named", "folders, no days"],
)
def test_two_visits_that_change_with_the_slice_are_two_studies(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    folder = second.get("folder", "a")
    rest = {key: value for key, value in second.items() if key != "folder"}
    here = slice_by_slice(one_visit(**first), *UIDS)
    there = slice_by_slice(one_visit(**rest), *UIDS, first=500)
    here = [replace(one, path=Path("a") / str(k)) for k, one in enumerate(here)]
    there = [replace(one, path=Path(folder) / str(k)) for k, one in enumerate(there, 500)]
    found = series_of(here + there)
    assert [sum(len(one.frames) for one in group) for group in found.values()] == [33, 33]
    for group in found.values():
        assert set(choose(group).chosen) == set(MrSequence)
    assert not set(found) & {key._replace(uid="") for key in found}


def test_two_flair_that_change_with_the_slice_are_two_series() -> None:
    """Before and after contrast medium: by the number, the time of the series, or the agent."""
    for apart, keywords in (
        ({"number": 9}, UIDS),
        ({"number": 2, **CONTRAST}, UIDS),
        ({"number": 2, "SeriesTime": "110000"}, ("SeriesInstanceUID",)),
    ):
        instances = stack(10, 2, **FLAIR, **KNOWN) + stack(10, **FLAIR, **KNOWN, **apart)
        (found,) = series_of(slice_by_slice(instances, *keywords)).values()
        assert [(one.shape[0], one.error) for one in found] == [(10, None), (10, None)]


@pytest.mark.parametrize("number", [None, "slice"], ids=["no numbers", "numbers of slices"])
@pytest.mark.parametrize("apart", [True, False], ids=["two times", "one time"])
def test_t1_twice_under_one_name(number: str | None, apart: bool) -> None:
    """Numbers of slices repeat in every series; then the series' times tell T1 and T1C apart."""
    given = {**KNOWN, "SeriesDescription": "t1"}
    instances = [
        *stack(12, 2, **FLAIR, **KNOWN),
        *stack(12, 3, **T1_SE, **given, SeriesTime="102000"),
        *stack(12, 4, **T1_SE, **given, SeriesTime="110000" if apart else "102000"),
    ]
    for index, one in enumerate(slice_by_slice(instances, *UIDS)):
        one.header.SeriesNumber = index % 12 + 1 if number else None
        one.header.AcquisitionTime = one.header.get("SeriesTime", "101500")
    ((study, found),) = series_of(instances).items()
    assert study.joined == 36
    choice = choose(found)
    if apart:
        assert [one.shape[0] for one in choice.chosen.values()] == [12, 12, 12]
    else:
        assert set(choice.chosen) == {MrSequence.FLAIR}
        assert [one.code for one in choice.flags] == ["T1_LEFT_OUT", "T1C_LEFT_OUT"]
        assert all("24 images name 24 series" in one.message for one in choice.flags)


def test_numbers_of_slices_in_two_planes_make_no_series() -> None:
    instances = [
        *stack(12, 2, **FLAIR, **KNOWN),
        *stack(12, 3, **T1_SE, **KNOWN),
        *stack(12, 4, **T1_SE, **KNOWN, orientation=SAGITTAL),
    ]
    for index, one in enumerate(slice_by_slice(instances, *UIDS)):
        one.header.SeriesNumber = index % 12 + 1
    (found,) = series_of(instances).values()
    assert [one.shape[0] for one in found] == [12, 12, 12]


@pytest.mark.parametrize("change", ["reversed", "a step on", "a little on"])
@pytest.mark.parametrize("second", [FLAIR, T1_SE], ids=["FLAIR", "T1"])
def test_slices_numbered_anew_in_each_series_are_told_apart_by_time(
    second: dict[str, Any], change: str
) -> None:
    """The second series need not have the positions or the order of the first."""
    shift = {"a step on": 6.0, "a little on": 1e-4}.get(change, 0.0)
    later = stack(10, 3, **{**second, **KNOWN, **LATER}, origin=(-100.0, -110.0, -40.0 + shift))
    parts = [
        stack(10, 1, **FLAIR, **KNOWN),
        stack(10, 2, **second, **KNOWN, SeriesTime="103000"),
        later[::-1] if change == "reversed" else later,
    ]
    for part in parts:
        for index, one in enumerate(slice_by_slice(part, *UIDS), 1):
            one.header.SeriesNumber = index
    (found,) = series_of([one for part in parts for one in part]).values()
    assert [one.shape[0] for one in found] == [10, 10, 10]


def two_series(first: dict[str, Any], second: dict[str, Any]) -> list[Instance]:
    """FLAIR and T1 of two studies, each with a frame of reference and a folder of its own."""
    instances = []
    for study, (given, values) in enumerate([(FLAIR, first), (T1_SE, second)], 1):
        for one in stack(10, study + 1, **given, **values):
            for number, keyword in enumerate(UIDS[:3]):
                setattr(one.header, keyword, f"1.7.{study}.{number}")
            instances.append(replace(one, path=Path(f"p{study}/{one.path.name}")))
    return instances


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"StudyID": "1"}, {"StudyID": "1"}),
        ({"StudyDate": "20240102"}, {"StudyDate": "20240102"}),
        *(
            ({**one, "StudyDate": "19000101", "StudyID": "1"},) * 2
            for one in ({}, {"PatientID": "Anon"}, {"PatientName": "Anonymous"})
        ),
        (
            {"PatientName": "Doe", **KNOWN, "PatientID": ""},
            {"PatientName": "Roe", **KNOWN, "PatientID": ""},
        ),
    ],
)
def test_people_whose_names_were_taken_off_are_no_study(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """StudyID is 1 in many hospitals; two frames of reference say that these are two people."""
    apart = two_series(first, second)
    assert sorted(sizes(apart).values()) == [10, 10]
    # Another patient of the tree does not change what is known of these.
    other = stack(4, 1, **FLAIR, PatientID="C", StudyDate="20230101", StudyInstanceUID="1.9")
    assert sorted(sizes(apart + other).values()) == [4, 10, 10]


@pytest.mark.parametrize("agent", [{}, CONTRAST], ids=["T1", "T1C"])
def test_of_single_t1_slices_none_is_chosen(agent: dict[str, Any]) -> None:
    instances = stack(10, 2, **FLAIR, **KNOWN)
    for index in range(10):
        values = {**T1_SE, **agent, "EchoTime": 9 + index}
        instances += stack(1, index + 5, at=[index], **values, **KNOWN)
    (found,) = series_of(instances).values()
    choice = choose(found)
    assert set(choice.chosen) == {MrSequence.FLAIR}
    name = "T1C" if agent else "T1"
    assert f"10 single {name} slices cannot be joined" in str(choice.flags)


UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "a patient for each slice": ({"each": {"PatientID": "P{}"}}, "they name 10 patients"),
    "a day for each slice": ({"each": {"StudyDate": "202401{:02d}"}}, "they name 10 dates"),
    "a time for each slice": ({"each": {"StudyTime": "1015{:02d}"}}, "they name 10 times"),
    "a gap": ({"at": [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]}, "up to 30 mm apart"),
    "two blocks": ({"at": [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]}, "mm apart"),
    "every second slice": ({"at": range(0, 20, 2), "SpacingBetweenSlices": 6}, "mm apart"),
    "two heads in one": ({"at": np.arange(10) / 2}, "overlap"),
    "twice": ({"at": np.arange(10) // 2, "each": {"AcquisitionTime": "10{}"}}, "one place"),
    "shifted": ({"zigzag": 20.0}, "shifted against each other"),
    "no positions": ({"ImagePositionPatient": None}, "do not say where they lie"),
}


@pytest.mark.parametrize(("values", "why"), UNSAFE.values(), ids=UNSAFE)
def test_what_cannot_be_joined_safely_is_refused(values: dict[str, Any], why: str) -> None:
    each, zigzag = values.get("each", {}), values.get("zigzag", 0.0)
    given = {key: value for key, value in values.items() if key not in ("each", "zigzag")}
    instances = stack(10, 2, **{**FLAIR, **KNOWN, **given})
    for index, one in enumerate(instances):
        for keyword, text in each.items():
            ranks = index % 2 + 10 if keyword == "AcquisitionTime" else index + 1
            setattr(one.header, keyword, text.format(ranks))
        if zigzag:
            one.header.ImagePositionPatient[0] += zigzag * (index % 2)
    for keywords in (UIDS, ("SeriesInstanceUID",)):
        found = series_of(slice_by_slice(list(instances), *keywords))
        assert len(found) == 1
        with pytest.raises(GliosightError, match=why):
            choose(*found.values())


def test_slices_of_several_people_are_no_stack() -> None:
    """A data set of one slice a patient stays one."""
    heights = (3.0, 41.0, -12.5, 17.2, 55.0)
    instances = [
        one
        for index, z in enumerate(heights)
        for one in stack(1, 2, **FLAIR, origin=(-100, -110, z), StudyDate=f"2024010{index + 1}")
    ]
    found = series_of(slice_by_slice(instances, *UIDS, "PatientID"))
    assert len(found) == 5
    assert all(choose(one).chosen[MrSequence.FLAIR].shape[0] == 1 for one in found.values())


def test_a_missing_slice_is_said_and_costs_nothing() -> None:
    instances = stack(9, 2, at=[0, 1, 2, 4, 5, 6, 7, 8, 9], **FLAIR, **KNOWN)
    (found,) = series_of(slice_by_slice(instances, *UIDS)).values()
    assert [one.code for one in found[0].flags][:2] == ["SERIES_JOINED", "MISSING_SLICES"]
    assert found[0].error is None


def test_of_single_slices_none_is_chosen() -> None:
    """Protocols that differ are not joined, and no slice stands for a head."""
    instances = [
        one
        for index in range(3)
        for one in stack(1, index + 2, at=[index], **{**FLAIR, "EchoTime": 93 + 9 * index}, **KNOWN)
    ]
    (found,) = series_of(instances).values()
    with pytest.raises(
        UnsupportedInputError, match="3 series may be FLAIR, and each holds a single"
    ) as e:
        choose(found)
    assert "--flair NUMBER" in e.value.line()
    assert choose(found, {MrSequence.FLAIR: "3"}).chosen[MrSequence.FLAIR].number == 3


def test_two_visits_of_one_day_stay_two() -> None:
    """Each with UIDs of its own; and one UID for each series, with numbers that repeat."""
    for by_series in (False, True):
        instances = []
        for visit, hour in (("1", "101500"), ("2", "150000")):
            for one in one_visit(**{**KNOWN, "StudyTime": hour}):
                number = f".{one.header.SeriesNumber}" if by_series else ""
                one.header.StudyInstanceUID = f"{STUDY}.{visit}{number}"
                one.header.SeriesInstanceUID = f"{STUDY}.{visit}{number}.{one.header.SeriesNumber}"
                instances.append(one)
        assert [len(one) for one in series_of(instances).values()] == [6, 6]
        for one in instances:  # and without times: whose T1 is it?
            one.header.StudyTime = ""
        assert len(series_of(instances)) == (8 if by_series else 2)


IN_PIECES: dict[str, Any] = {
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


def in_pieces(
    instances: list[Instance], part_of: Any, keywords: tuple[str, ...] = SPOILT["series"]
) -> list[Instance]:
    """The same images, with values of their own for each piece."""
    for index, one in enumerate(instances):
        slice_by_slice([one], *keywords, first=part_of(index))
    return instances


@pytest.mark.parametrize("keywords", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("part_of", IN_PIECES.values(), ids=IN_PIECES)
def test_pieces_of_a_stack_are_one_series(part_of: Any, keywords: tuple[str, ...]) -> None:
    """Below, above, or between each other; T1 and T1C lie at the same places and stay apart."""
    whole = [
        *stack(20, 3, **T1_SE, **KNOWN),
        *stack(20, 4, **T1_SE, **CONTRAST, **KNOWN),
    ]
    instances = in_pieces(stack(20, 2, **FLAIR, **KNOWN), part_of, keywords) + whole
    for seed in range(2):
        random.Random(seed).shuffle(instances)  # noqa: S311 - an order, no secret
        (found,) = series_of(instances).values()
        choice = choose(found)
        assert choice.chosen[MrSequence.FLAIR].flags[0].code == "SERIES_JOINED"
        assert not {"FLAIR_CHOSEN", "MISSING_SLICES"} & {one.code for one in choice.flags}
        assert [one.shape[0] for one in found] == [20, 20, 20]


def test_an_enhanced_stack_in_two_objects_is_one_series() -> None:
    halves = [
        enhanced([enhanced_frame(5 * (z + at)) for z in range(10)], ENHANCED_FLAIR, number, **KNOWN)
        for number, at in ((2, 0), (3, 10))
    ]
    (found,) = series_of(halves).values()
    assert [(one.place, one.shape[0], one.error) for one in found] == [("series 2", 20, None)]


def test_all_series_in_pieces() -> None:
    """Each slice of T1 and T1C has a twin of the same protocol."""
    given = {**KNOWN, "SeriesDescription": "t1"}
    for number, keywords in ((3, UIDS), (2, SPOILT["series"])):
        instances = [
            *in_pieces(stack(20, 1, **FLAIR, **KNOWN), IN_PIECES["threes"], keywords),
            *in_pieces(stack(20, 2, **T1_SE, **given), IN_PIECES["fives"], keywords),
            *in_pieces(
                stack(20, number, **T1_SE, **given, SeriesTime="110000", time="110000"),
                lambda k: 30 + k // 4,
                keywords,
            ),
        ]
        ((study, found),) = series_of(instances).items()
        assert study.joined == (12 if number == 3 else 1)
        assert [one.shape[0] for one in choose(found).chosen.values()] == [20, 20, 20]


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
def test_what_makes_no_stack_together_is_not_joined(second: dict[str, Any]) -> None:
    for number, shown in ((3, "series 3"), (2, "another series 2 (10 slices)")):
        other = {**FLAIR, **KNOWN, "SeriesInstanceUID": "1.2.77", **LATER, **second}
        instances = stack(10, 2, **FLAIR, **KNOWN) + stack(10, number, **other)
        (found,) = series_of(instances).values()
        assert [one.shape[0] for one in found] == [10, 10]
        assert not {flag.code for one in found for flag in one.flags} & {"SERIES_JOINED"}
        (said,) = [one for one in choose(found).flags if one.code == "FLAIR_CHOSEN"]
        assert shown in said.message or "series 2" in said.message


@pytest.mark.parametrize("keyword", ["PatientID", "StudyDate", "StudyTime"])
def test_pieces_of_several_people_or_visits_are_refused(keyword: str) -> None:
    """Side by side in one frame of reference they are one scan; whose, nobody knows."""
    for pieces in (2, 5):
        instances = stack(20, 2, **FLAIR, **KNOWN)
        for index, one in enumerate(instances):
            piece = index * pieces // 20
            one.header.StudyInstanceUID = one.header.SeriesInstanceUID = f"{STUDY}.{piece}"
            value = {"PatientID": "P{}", "StudyDate": "2024010{}", "StudyTime": "10150{}"}[keyword]
            setattr(one.header, keyword, value.format(piece + 1))
        (found,) = series_of(instances).values()
        with pytest.raises(UnsupportedInputError, match=f"they name {pieces} "):
            choose(found)


def test_pieces_with_a_gap_between_them_are_refused() -> None:
    instances = stack(12, 2, at=[*range(6), *range(12, 18)], **FLAIR, **KNOWN)
    in_pieces(instances, lambda k: k // 6, SPOILT["series and study"])
    (found,) = series_of(instances).values()
    with pytest.raises(UnsupportedInputError, match="up to 42 mm apart"):
        choose(found)


def test_whole_stacks_of_many_people_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = grouping.why_no_stack
    monkeypatch.setattr(grouping, "why_no_stack", lambda one: looked.append(len(one)) or real(one))
    instances = []
    for index in range(60):
        uids = {"StudyInstanceUID": f"1.{index}", "SeriesInstanceUID": f"1.{index}.2"}
        instances += stack(20, 2, **FLAIR, **{**KNOWN, **uids, "PatientID": f"P{index}"})
    assert len(series_of(instances)) == 60
    assert sum(looked) <= len(instances) + 60


def test_what_is_no_image_goes_with_the_study_and_other_slices_do_too() -> None:
    """A report and a localizer plane of another size, each under a StudyInstanceUID of its own."""
    extra = [
        instance(**KNOWN, SOPClassUID=uid.EnhancedSRStorage, Modality="SR", SeriesNumber=99),
        *stack(1, 1, **SCOUT, **KNOWN, Rows=80, Columns=80),
    ]
    (found,) = series_of(slice_by_slice(one_visit() + extra, *UIDS)).values()
    assert len(found) == 8
    assert set(choose(found).chosen) == set(MrSequence)


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

    few, many = looks(50), looks(400)
    assert many <= 9 * few
