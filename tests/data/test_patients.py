"""Whose slice a picture is, by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliosight.data.cases import find_cases
from gliosight.data.people import institution_of, person_of
from gliosight.errors import DamagedInputError


@pytest.mark.parametrize(
    ("patient", "person"),
    [
        ("TCGA_CS_4943_20000902", "TCGA_CS_4943"),
        ("TCGA-DU-A5TW-19980228", "TCGA-DU-A5TW"),
        ("sub-01_ses-2", "sub-01"),
        ("BraTS-GLI-00006-001", "BraTS-GLI-00006"),
        # BraTS 2021 numbers patients, not time points
        ("BraTS2021_00006", "BraTS2021_00006"),
        ("patient04_study1", "patient04"),
        ("P7-visit_2", "P7"),
        ("case_12", "case_12"),
        ("TCGA_CS", "TCGA_CS"),
    ],
)
def test_the_person_behind_a_study(patient: str, person: str) -> None:
    assert person_of(patient) == person


def test_the_institution_of_a_tcga_name() -> None:
    assert institution_of("TCGA_CS_4943_20000902") == "CS"
    assert institution_of("TCGA-HT-7692") == "HT"
    assert institution_of("BraTS2021_00006") == ""


def _patients(root: Path, *names: str) -> dict[str, list[tuple[int, str]]]:
    """Number and reason of each patient's slices; the files are empty, layouts go by names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return {
        case.patient: [(one.number, one.excluded) for one in case.files]
        for case in find_cases(root).cases
    }


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        # the LGG layout: folder and file agree
        (("A/A_1.tif", "A/A_2.tif"), {"A": [1, 2]}),
        # numbers alone, or a word that says nothing: the folder's name
        (("A/1.png", "A/10.png", "A/2.png"), {"A": [1, 2, 10]}),
        (("A/slice_1.png", "B/slice_1.png"), {"A": [1], "B": [1]}),
        # all in one folder: the file's name
        (("A_1.tif", "B_1.tif", "B_2.tif"), {"A": [1], "B": [1, 2]}),
        (("x/A_1.tif", "x/B_1.tif"), {"A": [1], "B": [1]}),
        # parts of one patient in two folders are one patient
        (("p/A_1.tif", "p/B_1.tif", "q/A_2.tif", "q/C_1.tif"), {"A": [1, 2], "B": [1], "C": [1]}),
        # no number anywhere: a patient's folder in the order of names, else each its own patient
        (("A/front.png", "A/back.png"), {"A": [1, 2]}),
        (("front.png", "back.png"), {"back": [0], "front": [0]}),
    ],
)
def test_patient_and_number(
    names: tuple[str, ...], patients: dict[str, list[int]], tmp_path: Path
) -> None:
    numbered = {name: [(one, "") for one in numbers] for name, numbers in patients.items()}
    assert _patients(tmp_path, *names) == numbered


def test_a_slice_in_another_patients_folder_is_excluded(tmp_path: Path) -> None:
    assert _patients(tmp_path, "A/A_1.tif", "A/B_9.tif", "B/B_1.tif") == {
        "A": [(1, "")],
        "B": [(1, ""), (9, "lies in the folder of A")],
    }


def test_a_copy_counts_once_and_a_contradiction_is_an_error(tmp_path: Path) -> None:
    assert _patients(tmp_path, "x/A/A_1.png", "y/A/A_1.png") == {"A": [(1, "")]}
    assert "twice" in find_cases(tmp_path).notes[0]
    (tmp_path / "y" / "A" / "A_1.png").write_text("else")
    with pytest.raises(DamagedInputError, match=r"x/A/A_1\.png and y/A/A_1\.png"):
        find_cases(tmp_path)
