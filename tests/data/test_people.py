"""Persons by their names and by the table, which is refused where it contradicts itself; names of ROOTs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliosight.data.people import (
    NOBODY,
    Root,
    institution_of,
    parse_roots,
    person_of,
    read_people,
)
from gliosight.data.split import read_split
from gliosight.errors import DamagedInputError, UsageError


@pytest.mark.parametrize(
    ("patient", "person", "institution"),
    [
        ("TCGA_CS_4943_20000902", "TCGA_CS_4943", "CS"),
        ("TCGA-DU-A5TW-19980228", "TCGA-DU-A5TW", "DU"),
        ("sub-01_ses-2", "sub-01", ""),
        ("BraTS-GLI-00006-001", "BraTS-GLI-00006", ""),
        # BraTS 2021 numbers patients, not time points
        ("BraTS2021_00006", "BraTS2021_00006", ""),
        ("patient04_study1", "patient04", ""),
        ("P7-visit_2", "P7", ""),
        ("case_12", "case_12", ""),
        ("TCGA_CS", "TCGA_CS", ""),
    ],
)
def test_what_a_name_says(patient: str, person: str, institution: str) -> None:
    assert (person_of(patient), institution_of(patient)) == (person, institution)


def test_what_a_table_says(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "\ufeffperson,patient, collection\nTCGA_CS_4944_20010208,B_1477,\n\n ,ms_01,ms\nanna,p2,a b\n",
        "utf-8",
    )
    people = read_people(path)
    # A study's name stands for the person whose study it is.
    assert people.person("B_1477") == "TCGA_CS_4944"
    assert (people.person("ms_01"), people.collection("ms_01")) == ("", "ms")
    assert (people.person("p2"), people.collection("p2")) == ("anna", "a b")
    assert (people.person("nobody"), people.collection("nobody")) == ("", "")
    assert NOBODY.person("p2") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("patient\np", "none of person and collection"),
        ("person,collection\np,c", "no column patient"),
        ("patient,person,age\np,q,3", "unknown column 'age'"),
        ("patient,person,person\np,q,q", "line 1"),
        ("patient,person\np,q\np,q", r"p stands in line 2, too.*line 3"),
        ("patient,person\np,q\np,r", "line 3"),
        ("patient,person\np", "1 values instead of 2.*line 2"),
        ("patient,person\n,q", "without a patient"),
        ("patient,person,collection\np,,", "without person and collection.*line 2"),
        ("patient,collection\np,'a,b'", "3 values"),
        ('patient,collection\np,"a,b"', "cannot be named 'a,b'.*line 2"),
        ("patient,person\na,b\nb,c", "a is the person b, who is c by line 3.*line 2"),
        ('patient,person\na,b\n"c,d\ne,f', "not CSV, unexpected end of data.*line 3"),
    ],
)  # fmt: skip
def test_a_damaged_table_names_the_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(DamagedInputError, match=words):
        read_people(path)


def test_what_a_root_is_called(tmp_path: Path) -> None:
    table = tmp_path / "lgg" / "data_mask.csv"
    table.parent.mkdir()
    table.touch()
    (tmp_path / "a=b").mkdir()
    assert parse_roots([str(tmp_path)]) == (Root(tmp_path),)
    several = parse_roots([str(table), str(tmp_path / "free")])
    assert [root.collection for root in several] == ["lgg", "free"]
    assert parse_roots([f"x={tmp_path / 'a=b'}"]) == (Root(tmp_path / "a=b", "x"),)
    refused = {"x=": "no path", "": "empty", "=c": "cannot be named.*NAME=PATH"}
    refused |= dict.fromkeys(("a,b=c", "a+b=c", "a\nb=c"), "cannot be named")
    for text, words in refused.items():
        with pytest.raises(UsageError, match=words):
            parse_roots([text])
    with pytest.raises(UsageError, match="'a=b'"):
        parse_roots([str(tmp_path / "a=b"), str(tmp_path)])
    # A path that holds the sign, there or not.
    assert parse_roots([str(tmp_path / "a=b")]) == (Root(tmp_path / "a=b"),)
    assert parse_roots(["some/a=b"]) == (Root(Path("some/a=b")),)


def test_the_benchmarks_table_and_split_agree() -> None:
    """Nobody is in two folds by any name, no cohort judges itself."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks" / "splits"
    people, split = read_people(folder / "people.csv"), read_split(folder / "all-five-folds.json")
    fold_of = {patient: fold for fold, names in split.groups.items() for patient in names}
    assert people.entries.keys() <= fold_of.keys()
    folds: dict[str, set[str]] = {}
    for patient, fold in fold_of.items():
        folds.setdefault(people.person(patient) or person_of(patient), set()).add(fold)
        if collection := people.collection(patient):
            folds.setdefault(f"all of {collection}", set()).add(fold)
    assert [name for name, sides in folds.items() if len(sides) > 1] == []
    assert {name for name in folds if name.startswith("all of")} == {
        f"all of {collection}" for collection in split.whole
    }
    assert len(fold_of) - len([name for name in folds if not name.startswith("all of")]) == 9
