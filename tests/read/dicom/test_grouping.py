"""What is one study, what is one series, also where UIDs were torn out or given to all."""

from __future__ import annotations

from typing import Any

import pytest

from gliosight.read.dicom.grouping import SeriesKey, StudyKey, group_instances
from gliosight.read.dicom.instances import Instance
from gliosight.read.dicom.series import series_of

from .builders_series import FLAIR, STUDY, T1_SE, stack


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
