"""Several data sets in one manifest: collections, persons, and people without a tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest, read_manifest, write_manifest
from gliosight.data.people import NOBODY, Entry, People, Root, parse_roots
from gliosight.data.studies import read_labelled
from gliosight.errors import DamagedInputError, UsageError
from tests.data.builders import write_patient
from tests.read.builders import make_volume, write_nifti

CS, HT = "TCGA_CS_0001_20000101", "TCGA_HT_0003_20000103"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """LGG slices of two patients, and three volumes: one of the same person, two without a tumour."""
    write_patient(tmp_path / "lgg", CS)
    write_patient(tmp_path / "lgg", HT, seed=1)
    seg = np.zeros((5, 24, 20), np.uint8)
    seg[2, 4:8, 5:12] = 4
    write_nifti(tmp_path / "brats" / "B1" / "B1_flair.nii.gz", make_volume(seed=1))
    write_nifti(tmp_path / "brats" / "B1" / "B1_seg.nii.gz", seg)
    for number in (1, 2):
        name = f"ms_{number}"
        write_nifti(tmp_path / "free" / name / f"{name}_flair.nii.gz", make_volume(seed=3 + number))
    write_nifti(tmp_path / "free" / "ms_2" / "ms_2_seg.nii.gz", np.zeros((5, 24, 20), np.uint8))
    return tmp_path


def _index(
    home: Path, *names: str, people: People = NOBODY, free: tuple[str, ...] = ()
) -> Manifest:
    indexed = index_roots(
        parse_roots([str(home / name) for name in names]), home, people=people, tumour_free=free
    )
    write_manifest(indexed.rows, home / "all.csv")
    return read_manifest(home / "all.csv")


def test_collections_are_named_after_their_folders(home: Path) -> None:
    told: list[tuple[int, int]] = []
    roots = parse_roots([str(home / "lgg"), f"glioma={home / 'brats'}"])
    indexed = index_roots(roots, home, tell=lambda done, total: told.append((done, total)))
    assert {(row.patient, row.collection) for row in indexed.rows} == {
        (CS, "lgg"),
        (HT, "lgg"),
        ("B1", "glioma"),
    }
    assert told[0] == (1, 13)
    assert told[-1] == (13, 13)


def test_what_a_root_is_called(home: Path) -> None:
    table = home / "lgg" / "data_mask.csv"
    table.touch()
    (home / "a=b").mkdir()
    assert parse_roots([str(home)]) == (Root(home),)
    assert [one.collection for one in parse_roots([str(table), str(home / "free")])] == [
        "lgg",
        "free",
    ]
    assert parse_roots([f"x={home / 'a=b'}"]) == (Root(home / "a=b", "x"),)
    for given, words in (
        ("x=", "no path"),
        ("", "empty"),
        ("a,b=c", "cannot be named"),
        ("=c", "cannot be named"),
    ):
        with pytest.raises(UsageError, match=words):
            parse_roots([given])
    with pytest.raises(UsageError, match="'a=b'"):
        parse_roots([str(home / "a=b"), str(home)])
    # A path that holds the sign, there or not.
    assert parse_roots([str(home / "a=b")]) == (Root(home / "a=b"),)
    assert parse_roots(["some/a=b"]) == (Root(Path("some/a=b")),)


def test_a_table_names_persons_and_parts_of_a_root(home: Path) -> None:
    entries = {
        "B1": Entry(CS, "", 2),
        "ms_1": Entry("", "ms", 3),
        "ms_9": Entry("", "ms", 4),
    }
    roots = parse_roots([str(home / name) for name in ("lgg", "brats", "free")])
    indexed = index_roots(roots, home, people=People(entries), tumour_free=["free"])
    assert "Patients of --people that are not there: 1, such as ms_9." in indexed.notes
    manifest = Manifest(indexed.rows, home)
    assert manifest.person_of("B1") == manifest.person_of(CS) == "TCGA_CS_0001"
    assert manifest.collections == ("brats", "free", "lgg", "ms")
    assert {row.collection for row in manifest.by_patient["ms_1"]} == {"ms"}


def test_notes_say_of_which_data_set(home: Path) -> None:
    (home / "lgg" / CS / f"{CS}_5.tif").unlink()
    roots = parse_roots([str(home / "lgg"), str(home / "brats")])
    assert index_roots(roots, home).notes == ("lgg: Masks without a picture, left out: 1.",)


def test_one_name_in_two_data_sets_is_refused(home: Path) -> None:
    write_patient(home / "more", HT, seed=2)
    with pytest.raises(DamagedInputError, match=rf"{HT}.*lgg and more.*--people"):
        _index(home, "lgg", "more")


def test_people_without_a_tumour_need_no_mask(home: Path) -> None:
    manifest = _index(home, "brats", "free", free=("free",))
    for patient in ("ms_1", "ms_2"):
        rows = manifest.by_patient[patient]
        assert {(row.tumour_free, row.tumour, row.has_truth, row.excluded) for row in rows} == {
            (True, False, True, "")
        }
        labelled = read_labelled(manifest, patient, check=True)
        assert labelled.truth.shape == (5, 24, 20)
        assert not labelled.truth.any()
    assert {bool(row.mask) for row in manifest.by_patient["ms_1"]} == {False}
    assert not any(row.tumour_free for row in manifest.by_patient["B1"])
    # Not said to be without a tumour, the one without a mask is excluded as before.
    assert _index(home, "brats", "free").patients == ("B1", "ms_2")


def test_pictures_of_people_without_a_tumour(tmp_path: Path) -> None:
    folder = write_patient(tmp_path / "mri", "p1", marked=())
    write_patient(tmp_path / "lgg", CS)
    for number in (1, 2, 3, 4):
        (folder / f"p1_{number}_mask.tif").unlink()
    (folder / "p1_6.tif").write_bytes(b"")
    manifest = _index(tmp_path, "lgg", "mri", free=("mri",))
    assert [row.number for row in manifest.by_patient["p1"]] == [1, 2, 3, 4, 5]
    assert not read_labelled(manifest, "p1", check=True).truth.any()


def test_a_tumour_where_there_is_said_to_be_none(home: Path) -> None:
    with pytest.raises(DamagedInputError, match=r"B1:2.*28 pixels.*--tumour-free"):
        _index(home, "brats", "free", free=("free", "brats"))
    with pytest.raises(UsageError, match=r"no collection 'mri'.*choose one of brats, free"):
        _index(home, "brats", "free", free=("mri",))
    with pytest.raises(UsageError, match="NAME=PATH"):
        _index(home, "free", free=("free",))
