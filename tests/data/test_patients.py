"""Whose slice a picture is, by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliosight.data.patients import Picture, group_pictures, institution_of, person_of
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


def _patients(*paths: str, top: str = "/set") -> dict[str, list[int]]:
    pictures = [Picture(Path(one), (Path(f"{one}.m"),), Path(top)) for one in paths]
    cases, _ = group_pictures(pictures, Path("/set"))
    return {one.patient: [row.number for row in one.slices] for one in cases}


@pytest.mark.parametrize(
    ("paths", "patients"),
    [
        # the LGG layout: folder and file agree
        (("/set/A/A_1.tif", "/set/A/A_2.tif"), {"A": [1, 2]}),
        # numbers alone, or a word that says nothing: the folder's name
        (("/set/A/1.png", "/set/A/10.png", "/set/A/2.png"), {"A": [1, 2, 10]}),
        (("/set/A/slice_1.png", "/set/B/slice_1.png"), {"A": [1], "B": [1]}),
        # all in one folder: the file's name
        (("/set/A_1.tif", "/set/B_1.tif", "/set/B_2.tif"), {"A": [1], "B": [1, 2]}),
        (("/set/x/A_1.tif", "/set/x/B_1.tif"), {"A": [1], "B": [1]}),
        # parts of one patient in two folders are one patient
        (("/set/p/A_1.tif", "/set/p/B_1.tif", "/set/q/A_2.tif", "/set/q/C_1.tif"),
         {"A": [1, 2], "B": [1], "C": [1]}),
        # no number anywhere: a patient's folder in the order of names, else each its own patient
        (("/set/A/front.png", "/set/A/back.png"), {"A": [1, 2]}),
        (("/set/front.png", "/set/back.png"), {"back": [0], "front": [0]}),
    ],
)  # fmt: skip
def test_patient_and_number(paths: tuple[str, ...], patients: dict[str, list[int]]) -> None:
    assert _patients(*paths) == patients


def test_a_slice_in_another_patients_folder_is_excluded() -> None:
    pictures = [
        Picture(Path(one), (Path("/m"),), Path("/set"))
        for one in ("/set/A/A_1.tif", "/set/A/B_9.tif", "/set/B/B_1.tif")
    ]
    cases, _ = group_pictures(pictures, Path("/set"))
    told = {(one.patient, row.number): row.excluded for one in cases for row in one.slices}
    assert told == {("A", 1): "", ("B", 1): "", ("B", 9): "lies in the folder of A"}


def test_a_copy_counts_once_and_a_contradiction_is_an_error(tmp_path: Path) -> None:
    paths = [tmp_path / one / "A" / "A_1.png" for one in ("x", "y")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"same")
    pictures = [Picture(path, (path,), tmp_path) for path in paths]
    cases, notes = group_pictures(pictures, tmp_path)
    assert [row.image for one in cases for row in one.slices] == [paths[0]]
    assert "twice" in notes[0]
    paths[1].write_bytes(b"else")
    with pytest.raises(DamagedInputError, match=r"x/A/A_1\.png and y/A/A_1\.png"):
        group_pictures(pictures, tmp_path)
