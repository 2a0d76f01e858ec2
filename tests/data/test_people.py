"""The table of persons and collections: read, and refused where it contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliosight.data.people import NOBODY, check_collection, person_of, read_people
from gliosight.data.split import read_split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError


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
        ('patient,person\n"a,b', "line"),
    ],
)  # fmt: skip
def test_a_damaged_table_names_the_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(DamagedInputError, match=words):
        read_people(path)


def test_no_table_at_all(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(NothingReadableError, match="patient, person, collection"):
            read_people(path)
    (tmp_path / "people.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(DamagedInputError, match="UTF-8"):
        read_people(tmp_path / "people.csv")


@pytest.mark.parametrize("name", ["", "a,b", "a+b", "a=b", "a\nb"])
def test_names_that_no_collection_has(name: str) -> None:
    with pytest.raises(UsageError, match="NAME=PATH"):
        check_collection(name)
    assert check_collection("BraTS 2021") == "BraTS 2021"


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
    assert {name for name, found in folds.items() if len(found) > 1} == set()
    assert {name for name in folds if name.startswith("all of")} == {
        f"all of {one}" for one in split.whole
    }
    assert len(fold_of) - len([name for name in folds if not name.startswith("all of")]) == 9
