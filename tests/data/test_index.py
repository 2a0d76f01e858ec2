"""Rows of sound slices, reasons for the others, and never a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.data.index import index_roots
from gliosight.data.manifest import Manifest, SliceRow, read_manifest, write_manifest
from gliosight.data.people import NOBODY, Entry, People, parse_roots
from gliosight.data.studies import read_labelled
from gliosight.errors import DamagedInputError, UsageError
from tests.data.builders import (
    SIZE,
    indexed,
    make_masks,
    make_slices,
    manifest_of,
    write_patient,
    write_picture,
    write_set,
)
from tests.read.builders import make_volume, write_nifti

CS, HT = "TCGA_CS_0001_20000101", "TCGA_HT_0003_20000103"


def _rows(root: Path) -> dict[int, SliceRow]:
    return {row.number: row for row in indexed(root).rows}


def test_a_row_says_what_the_slice_is(tmp_path: Path) -> None:
    row = _rows(write_patient(tmp_path, CS).parent)[3]
    assert (row.patient, row.number, row.kind, row.institution) == (CS, 3, "slices", "CS")
    assert (row.tumour, row.area_px) == (True, int((make_masks()[2] > 0).sum()))
    assert (row.image, row.mask) == (f"{CS}/{CS}_3.tif", f"{CS}/{CS}_3_mask.tif")
    assert (row.sequences, row.copies, row.excluded) == (("T1", "FLAIR", "T1C"), (), "")
    assert len(row.sha256) == len(row.mask_sha256) == 64


def test_manifest_and_data_can_be_moved_together(tmp_path: Path) -> None:
    write_set(tmp_path / "a" / "set")
    (tmp_path / "a" / "lists").mkdir()
    path = tmp_path / "a" / "lists" / "m.csv"
    write_manifest(indexed(tmp_path / "a" / "set", path.parent).rows, path)
    shutil.move(tmp_path / "a", tmp_path / "b")
    manifest = read_manifest(tmp_path / "b" / "lists" / "m.csv")
    assert manifest.rows[0].image == f"../set/{CS}/{CS}_1.tif"
    assert all(manifest.path(row.image).is_file() for row in manifest.rows)


def test_paths_lead_from_a_linked_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    rows = indexed(tmp_path / "set", tmp_path / "link").rows
    assert all((tmp_path / "link" / row.image).is_file() for row in rows)


@pytest.mark.parametrize(
    ("copies", "sequences"),
    [
        ((), ("T1", "FLAIR", "T1C")),
        (("T1",), ("FLAIR", "T1C")),
        (("T1C",), ("T1", "FLAIR")),
        (("T1", "T1C"), ("FLAIR",)),
    ],
)
def test_copies_of_flair_are_recognised(
    copies: tuple[str, ...], sequences: tuple[str, ...], tmp_path: Path
) -> None:
    write_patient(tmp_path, CS, copies=" ".join(copies))
    assert {(row.sequences, row.copies) for row in indexed(tmp_path).rows} == {(sequences, copies)}
    study = read_labelled(manifest_of(tmp_path), CS).study
    assert {sequence.value for sequence in study.sequences} == set(sequences)


def test_one_copied_slice_is_no_missing_sequence(tmp_path: Path) -> None:
    folder, picture = write_patient(tmp_path, CS), make_slices(0)[0]
    picture[..., 0] = picture[..., 1]
    write_picture(folder / f"{CS}_1.tif", picture)
    assert all(row.copies == () for row in indexed(tmp_path).rows)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda image, _: _truncate(image), "picture: damaged TIFF, it is truncated"),
        (lambda image, _: image.write_bytes(b""), "picture: the file is empty"),
        (lambda image, _: image.write_text("hello"), "picture: its content is not a TIFF"),
        (lambda _, mask: mask.unlink(), "no mask"),
        (lambda _, mask: _truncate(mask), "mask: damaged TIFF, it is truncated"),
        (lambda image, _: write_picture(image, np.zeros((16, 16, 3), np.uint8)), "mask is 32 x 32, its"),
        (lambda _, mask: write_picture(mask, np.zeros((16, 32), np.uint8)), "mask is 16 x 32, its picture"),
        (lambda _, mask: write_picture(mask, make_slices(5)[0, ..., 0]), "mask: it holds"),
        (lambda image, _: write_picture(image, make_slices(5)[0].astype(np.uint16)), "32 x 32 uint16, most"),
        (lambda image, mask: [write_picture(path, np.ones((16, 16), np.uint8)) for path in (image, mask)],
         "16 x 16 uint8, most of the patient's slices are 32 x 32 uint8"),
        (lambda image, _: tifffile.imwrite(image, np.zeros((2, *SIZE), np.uint8), metadata=None),
         "picture: a stack of 2 pages"),
        (lambda image, _: write_picture(image, np.full(SIZE, np.nan, np.float32)),
         "picture: 100.0% of the voxels are NaN"),
    ],
)  # fmt: skip
def test_a_bad_slice_stays_with_its_reason(
    spoil: Callable[[Path, Path], None], words: str, tmp_path: Path
) -> None:
    folder = write_patient(tmp_path, CS)
    spoil(folder / f"{CS}_3.tif", folder / f"{CS}_3_mask.tif")
    rows = _rows(tmp_path)
    assert rows[3].excluded.startswith(words)
    assert (rows[3].tumour, rows[3].area_px) == (False, 0)
    assert [rows[k].excluded for k in (1, 2, 4, 5, 6)] == [""] * 5
    # What is left can be learnt from.
    manifest = manifest_of(tmp_path)
    assert manifest.by_patient[CS][2].number == 4
    assert read_labelled(manifest, CS, check=True).truth.shape == (5, *SIZE)


def test_a_mask_without_a_sharp_edge_is_excluded(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k, (picture, mask) in enumerate(zip(make_slices(0), make_masks(), strict=True), 1):
        Image.fromarray(picture).save(tmp_path / "images" / f"p_{k}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"p_{k}.{'jpg' if k == 1 else 'png'}")
    rows = _rows(tmp_path)
    assert rows[1].excluded == "mask: compressed with loss, it has no sharp edge"
    assert rows[3].area_px == int((make_masks()[2] > 0).sum())


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        (np.full((6, *SIZE), 7, np.uint8), "p", "FLAIR has no contrast"),
        (make_masks(marked=(1, 2, 3)), "p", "FLAIR has two values only: a mask"),
        (make_slices(0)[..., 0], "p_t2", "no FLAIR, the name says T2"),
    ],
)
def test_a_patient_without_a_flair_image_is_excluded(
    values: Any, name: str, reason: str, tmp_path: Path
) -> None:
    for number, (picture, mask) in enumerate(zip(values, make_masks(), strict=True), 1):
        write_picture(tmp_path / f"{name}_{number}.tif", picture)
        write_picture(tmp_path / f"{name}_{number}_mask.tif", mask)
    assert {row.excluded for row in indexed(tmp_path).rows} == {reason}


def test_a_patient_of_sixteen_bits_is_taken_as_it_is(tmp_path: Path) -> None:
    write_patient(tmp_path, CS, dtype="uint16")
    rows = indexed(tmp_path).rows
    assert {(row.excluded, row.sequences) for row in rows} == {("", ("T1", "FLAIR", "T1C"))}


AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])


def _case(root: Path, **files: Any) -> Path:
    """A BraTS case of five slices; a file given as ``None`` is left out."""
    seg = np.zeros((5, 24, 20), np.uint8)
    seg[2, 4:8, 5:10] = 4
    volumes = {name: make_volume(seed=k) for k, name in enumerate(("t1", "flair", "t1ce"))}
    for name, values in {**volumes, "seg": seg, **files}.items():
        if values is not None:
            write_nifti(root / "B1" / f"B1_{name}.nii.gz", values, AFFINE)
    return root


def test_a_brats_case(tmp_path: Path) -> None:
    rows = indexed(_case(tmp_path)).rows
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert [row.area_px for row in rows] == [0, 0, 20, 0, 0]
    paths = tuple(f"B1/B1_{name}.nii.gz" for name in ("flair", "t1", "t1ce"))
    assert {(row.image, row.t1, row.t1c) for row in rows} == {paths}
    assert {(row.kind, row.sequences) for row in rows} == {("nifti", ("T1", "FLAIR", "T1C"))}
    digests = {rows[0].sha256, rows[0].mask_sha256, rows[0].t1_sha256, rows[0].t1c_sha256}
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {64}
    labelled = read_labelled(manifest_of(tmp_path), "B1", check=True)
    assert labelled.truth.sum(axis=(1, 2)).tolist() == [row.area_px for row in rows]
    assert {sequence.value for sequence in labelled.study.sequences} == set(rows[0].sequences)


def test_sequences_of_a_volume(tmp_path: Path) -> None:
    rows = indexed(_case(tmp_path, t1=make_volume(seed=1), t1ce=None)).rows
    assert {(row.sequences, row.copies) for row in rows} == {(("FLAIR",), ("T1",))}


def test_a_sequence_on_another_grid(tmp_path: Path) -> None:
    result = indexed(_case(tmp_path / "part", t1=make_volume((5, 12, 10))))
    assert {(row.t1, row.sequences) for row in result.rows} == {("", ("FLAIR", "T1C"))}
    assert len(result.notes) == 1
    assert result.notes[0].startswith("B1: T1 covers only")
    # Half the pixels in the same place: resampled, as in a user's study.
    root, finer = _case(tmp_path / "finer", t1=None), np.diag([0.5, 0.5, 5.0, 1.0])
    write_nifti(root / "B1" / "B1_t1.nii.gz", make_volume((5, 48, 40), seed=3), finer)
    result = indexed(root)
    assert result.notes == ()
    assert {row.sequences for row in result.rows} == {("T1", "FLAIR", "T1C")}
    sequences = read_labelled(manifest_of(root), "B1", check=True).study.sequences
    assert {sequence.value for sequence in sequences} == {"T1", "FLAIR", "T1C"}
    # A mask is recognised before it is resampled.
    write_nifti(root / "B1" / "B1_t1.nii.gz", np.tile(np.uint8([0, 1]), (5, 48, 20)), finer)
    assert {row.excluded for row in indexed(root).rows} == {"T1 has two values only: a mask"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"seg": None}, "no mask"),
        ({"seg": np.zeros((5, 24, 21), np.uint8)}, "mask is 5 x 24 x 21, FLAIR 5 x 24 x 20"),
        ({"seg": make_volume()}, "mask: it holds"),
        ({"flair": np.full((5, 24, 20), 3, np.uint8)}, "FLAIR has no contrast"),
        ({"t1": np.tile(np.uint8([0, 1]), (5, 24, 10))}, "T1 has two values only: a mask"),
    ],
)
def test_a_bad_volume_stays_with_its_reason(
    files: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    rows = indexed(_case(tmp_path, **files)).rows
    assert [row.excluded.startswith(reason) for row in rows] == [True] * 5
    assert not any(row.tumour for row in rows)


@pytest.mark.parametrize("name", ["flair", "t1", "seg", "elsewhere"])
def test_a_truncated_volume_or_a_mask_that_lies_elsewhere(name: str, tmp_path: Path) -> None:
    reasons = {
        "flair": "FLAIR: ",
        "t1": "T1: ",
        "seg": "mask: ",
        "elsewhere": "mask lies elsewhere than",
    }
    _case(tmp_path)
    if name == "elsewhere":
        turned = np.diag([-1.0, 1.0, 5.0, 1.0])
        write_nifti(tmp_path / "B1" / "B1_seg.nii.gz", np.ones((5, 24, 20), np.uint8), turned)
    else:
        _truncate(tmp_path / "B1" / f"B1_{name}.nii.gz")
    assert all(row.excluded.startswith(reasons[name]) for row in indexed(tmp_path).rows)


@pytest.mark.slow
@pytest.mark.data
def test_a_real_patient(lgg_patient: Path) -> None:
    rows = indexed(lgg_patient.parent).rows
    assert {(row.patient, row.institution, row.excluded) for row in rows} == {
        ("TCGA_HT_7692_19960724", "HT", "")
    }
    assert any(row.tumour for row in rows)


@pytest.mark.data
@pytest.mark.slow
def test_real_brats_cases(data: Path, tmp_path: Path) -> None:
    rows = indexed(data / "brats", tmp_path).rows
    assert len(rows) == 310
    assert {row.patient for row in rows} == {"BraTS2021_00006", "BraTS2021_01480"}
    assert {row.sequences for row in rows} == {("T1", "FLAIR", "T1C")}
    assert sum(row.tumour for row in rows) == 112


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
) -> tuple[Manifest, tuple[str, ...]]:
    roots = parse_roots([str(home / name) for name in names])
    result = index_roots(roots, home, people=people, tumour_free=free)
    write_manifest(result.rows, home / "all.csv")
    return read_manifest(home / "all.csv"), result.notes


def test_collections_are_named_after_their_folders(home: Path) -> None:
    steps: list[tuple[int, int]] = []
    roots = parse_roots([str(home / "lgg"), f"glioma={home / 'brats'}"])
    rows = index_roots(
        roots, home, progress=lambda _, done, total: steps.append((done, total))
    ).rows
    collections = {row.patient: row.collection for row in rows}
    assert collections == {CS: "lgg", HT: "lgg", "B1": "glioma"}
    assert steps == [(k, 13) for k in range(1, 14)]


def test_a_table_names_persons_and_parts_of_a_root(home: Path) -> None:
    entries = {"B1": Entry(CS, "", 2), "ms_1": Entry("", "ms", 3), "ms_9": Entry("", "ms", 4)}
    people = People(entries)
    (home / "lgg" / CS / f"{CS}_5.tif").unlink()
    manifest, notes = _index(home, "lgg", "brats", "free", people=people, free=("free",))
    assert notes == (
        "lgg: Masks without a picture, left out: 1.",
        "Patients of --people that are not there: 1, such as ms_9.",
    )
    assert manifest.person_of("B1") == manifest.person_of(CS) == "TCGA_CS_0001"
    assert manifest.collections == ("brats", "free", "lgg", "ms")
    assert {row.collection for row in manifest.by_patient["ms_1"]} == {"ms"}


def test_one_name_in_two_data_sets_is_refused(home: Path) -> None:
    write_patient(home / "more", HT, seed=2)
    with pytest.raises(DamagedInputError, match=rf"{HT}.*lgg and more.*--people"):
        _index(home, "lgg", "more")


def test_people_without_a_tumour_need_no_mask(home: Path) -> None:
    manifest, _ = _index(home, "brats", "free", free=("free",))
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
    assert _index(home, "brats", "free")[0].patients == ("B1", "ms_2")


def test_pictures_of_people_without_a_tumour(tmp_path: Path) -> None:
    folder = write_patient(tmp_path / "mri", "p1", marked=())
    write_patient(tmp_path / "lgg", CS)
    for number in (1, 2, 3, 4):
        (folder / f"p1_{number}_mask.tif").unlink()
    (folder / "p1_6.tif").write_bytes(b"")
    manifest, _ = _index(tmp_path, "lgg", "mri", free=("mri",))
    assert [row.number for row in manifest.by_patient["p1"]] == [1, 2, 3, 4, 5]
    assert not read_labelled(manifest, "p1", check=True).truth.any()


def test_a_tumour_where_there_is_said_to_be_none(home: Path) -> None:
    with pytest.raises(DamagedInputError, match=r"B1:2.*28 pixels.*--tumour-free"):
        _index(home, "brats", "free", free=("free", "brats"))
    with pytest.raises(UsageError, match=r"no collection 'mri'.*choose one of brats, free"):
        _index(home, "brats", "free", free=("mri",))
    with pytest.raises(UsageError, match="NAME=PATH"):
        _index(home, "free", free=("free",))
