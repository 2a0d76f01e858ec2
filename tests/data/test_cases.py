"""Which files are found, in which layout, whose they are, and what is said about the rest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gliosight.data.cases import Layout, find_cases
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from tests.data.builders import write_patient, write_set

CS, DU = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102"
HEADER = "patient_id,image_path,mask_path,mask"


def _files(root: Path, *names: str) -> Path:
    """Files that differ: layouts go by names alone, but for copies."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(number))
    return root


def _slices(layout: Layout) -> dict[str, list[tuple[int, str, str, str]]]:
    return {
        case.patient: [
            (
                picture.number,
                picture.image.name,
                getattr(picture.mask, "name", ""),
                picture.excluded,
            )
            for picture in case.files
        ]
        for case in layout.cases
        if not case.is_volume
    }


def test_the_lgg_layout(tmp_path: Path) -> None:
    layout = find_cases(write_set(tmp_path))
    assert {patient: len(slices) for patient, slices in _slices(layout).items()} == {CS: 6, DU: 6}
    assert _slices(layout)[CS][0] == (1, f"{CS}_1.tif", f"{CS}_1_mask.tif", "")
    assert layout.notes == ()
    (tmp_path / CS / f"{CS}_2_mask.tif").unlink()
    (tmp_path / CS / f"{CS}_5.tif").unlink()
    layout = find_cases(tmp_path)
    slices = {number: bool(mask) for number, _, mask, _ in _slices(layout)[CS]}
    assert slices == {1: True, 2: False, 3: True, 4: True, 6: True}
    assert layout.notes == ("Masks without a picture, left out: 1.",)


@pytest.mark.parametrize(
    ("names", "volumes"),
    [
        # BraTS 2021 and 2023
        (("B/B1_flair.nii.gz", "B/B1_t1.nii.gz", "B/B1_t1ce.nii.gz", "B/B1_t2.nii.gz", "B/B1_seg.nii.gz"),
         {"B1": ("B1_flair.nii.gz", "B1_t1.nii.gz", "B1_t1ce.nii.gz", "B1_seg.nii.gz", "")}),
        (("B2/B2-t2f.nii.gz", "B2/B2-t1n.nii.gz", "B2/B2-t1c.nii.gz", "B2/B2-seg.nii.gz"),
         {"B2": ("B2-t2f.nii.gz", "B2-t1n.nii.gz", "B2-t1c.nii.gz", "B2-seg.nii.gz", "")}),
        # several cases in one folder
        (("c1_flair.nii", "c1_seg.nii", "c2_flair.nii", "c2_seg.nii"),
         {"c1": ("c1_flair.nii", "", "", "c1_seg.nii", ""),
          "c2": ("c2_flair.nii", "", "", "c2_seg.nii", "")}),
        # names that say nothing but the sequence: the folder's name
        (("P/flair.nii", "P/seg.nii"), {"P": ("flair.nii", "", "", "seg.nii", "")}),
        # a lone volume that says nothing is FLAIR
        (("P/scan.nii", "P/scan_seg.nii"), {"scan": ("scan.nii", "", "", "scan_seg.nii", "")}),
        # a mask of the brain is no mask of a tumour; of two masks none is guessed
        (("P/p_flair.nii", "P/p_brainmask.nii", "P/brain_mask.nii"),
         {"p": ("p_flair.nii", "", "", "", "no mask")}),
        (("P/p_flair.nii", "P/p_mask.nii", "P/p_seg.nii"),
         {"p": ("p_flair.nii", "", "", "p_seg.nii", "")}),
        (("P/p_flair.nii", "P/p_mask.nii", "P/p_lesion.nii"),
         {"p": ("p_flair.nii", "", "", "", "2 masks")}),
        # image and mask folders may hold volumes
        (("images/v1.nii.gz", "masks/v1.nii.gz"), {"v1": ("v1.nii.gz", "", "", "v1.nii.gz", "")}),
    ],
)  # fmt: skip
def test_volumes(
    names: tuple[str, ...], volumes: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    result: dict[str, tuple[str, ...]] = {}
    for case in find_cases(_files(tmp_path, *names)).cases:
        assert case.is_volume
        files = case.files[0]
        paths = (files.image, files.t1, files.t1c, files.mask)
        result[case.patient] = (*(path.name if path else "" for path in paths), files.excluded)
    assert result == volumes


def test_image_and_mask_folders(tmp_path: Path) -> None:
    _files(tmp_path, "images/p_1.png", "images/p_2.png", "images/q_1.png", "images/q_2.png")
    _files(tmp_path, "masks/p_1.png", "masks/p_2_mask.png", "masks/q_1.tif", "masks/r_1.png")
    layout = find_cases(tmp_path)
    assert _slices(layout) == {
        "p": [(1, "p_1.png", "p_1.png", ""), (2, "p_2.png", "p_2_mask.png", "")],
        "q": [(1, "q_1.png", "q_1.tif", ""), (2, "q_2.png", "", "")],
    }
    assert layout.notes == ("Masks without a picture, left out: 1.",)


def test_image_and_mask_folders_of_each_patient(tmp_path: Path) -> None:
    _files(tmp_path, "images/P1/1.png", "images/P2/1.png", "masks/P1/1.png", "masks/P2/1.png")
    masks = {case.patient: case.files[0].mask for case in find_cases(tmp_path).cases}
    assert masks == {name: tmp_path / "masks" / name / "1.png" for name in ("P1", "P2")}


def test_a_data_set_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    # As Kaggle packs it: kaggle_3m, and the same below another folder.
    write_set(tmp_path / "kaggle_3m")
    shutil.copytree(tmp_path / "kaggle_3m", tmp_path / "lgg-mri-segmentation" / "kaggle_3m")
    layout = find_cases(tmp_path)
    assert sum(map(len, _slices(layout).values())) == 12
    assert layout.notes == ("Pictures there twice, byte for byte, counted once: 12.",)
    copy = tmp_path / "lgg-mri-segmentation" / "kaggle_3m" / CS / f"{CS}_1.tif"
    copy.write_text("else")
    with pytest.raises(DamagedInputError, match=rf"{CS}_1\.tif and lgg-mri-seg.*{CS}_1\.tif"):
        find_cases(tmp_path)


def _table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")
    return path


def _line(prefix: str, patient: str, number: int, mask: int = 0) -> str:
    """A line that says the patient is CS, whoever it is."""
    way = f"{prefix}{patient}/{patient}_{number}"
    return f"{CS},{way}.tif,{way}_mask.tif,{mask}"


@pytest.mark.parametrize(
    "prefix", ["", "kaggle_3m/", "/kaggle/input/lgg/kaggle_3m/", "C:\\data\\", "../../x/"]
)
def test_a_table_is_found_under_whatever_folders_it_names(prefix: str, tmp_path: Path) -> None:
    write_set(tmp_path)
    lines = [_line(prefix, name, k, int(k in (3, 4))) for name in (CS, DU) for k in range(1, 7)]
    table = _table(tmp_path / "data_mask.csv", *lines)
    for root in (table, tmp_path):
        layout = find_cases(root)
        assert {case.patient for case in layout.cases} == {CS, DU}
        assert any("contradicts the path in 6 of 12 rows" in note for note in layout.notes)
        assert layout.root == tmp_path
        assert sum(bool(picture.label) for case in layout.cases for picture in case.files) == 4


def test_a_table_above_the_folder_of_the_patients(tmp_path: Path) -> None:
    write_set(tmp_path / "kaggle_3m")
    assert list(_slices(find_cases(_table(tmp_path / "slices.csv", _line("", CS, 1))))) == [CS]


def test_what_a_table_lacks_is_said(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / CS / f"{CS}_2_mask.tif").unlink()
    table = _table(tmp_path / "data_mask.csv", *(_line("", CS, k) for k in (1, 2, 99)))
    slices = _slices(find_cases(table))[CS]
    assert [(number, bool(mask), excluded) for number, _, mask, excluded in slices] == [
        (1, True, ""),
        (2, False, ""),
        (99, False, "no such file"),
    ]
    # Of a folder, what is there counts.
    layout = find_cases(tmp_path)
    assert [number for number, *_ in _slices(layout)[CS]] == [1, 2]
    assert any("does not name, left out: 10" in note for note in layout.notes)
    assert any("that are not there: 1" in note for note in layout.notes)


def test_a_table_of_other_peoples_files(tmp_path: Path) -> None:
    table = _table(tmp_path / "data_mask.csv", _line("", CS, 1))
    with pytest.raises(NothingReadableError, match="no picture that the table"):
        find_cases(table)
    write_patient(tmp_path, DU)
    layout = find_cases(tmp_path)
    assert set(_slices(layout)) == {DU}
    assert any("is not used" in note for note in layout.notes)


def test_a_table_does_not_lead_outside_its_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "outside")
    (tmp_path / "inside").mkdir()
    way = tmp_path / "outside" / CS / f"{CS}_1.tif"
    lines = [f"{CS},{way},{way},0", f"{CS},../outside/{CS}/{CS}_1.tif,x,0"]
    with pytest.raises(NothingReadableError):
        find_cases(_table(tmp_path / "inside" / "data_mask.csv", *lines))


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        ((), NothingReadableError, "empty"),
        (("notes.txt", "x/y.csv"), NothingReadableError, "no picture"),
        ((".hidden/a_1.png",), NothingReadableError, "no picture"),
        (("B1/B1_t1.nii", "B1/B1_t2.nii", "B1/B1_seg.nii"), UnsupportedInputError, "no FLAIR"),
        (("x/flair.nii", "y/x_flair.nii", "y/x_seg.nii"), DamagedInputError, "2 studies are named x"),
        (("A/A_1.png", "A/A_01.png"), DamagedInputError, "slice 1"),
    ],
)  # fmt: skip
def test_what_is_no_data_set(
    names: tuple[str, ...], kind: type[GliosightError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        find_cases(_files(tmp_path, *names))
    for path in (tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(NothingReadableError):
            find_cases(path)


def test_links_are_followed_once_and_odd_files_skipped(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_patient(tmp_path / "elsewhere", CS)
    root.mkdir()
    (root / CS).symlink_to(tmp_path / "elsewhere" / CS)
    (root / "again").symlink_to(tmp_path / "elsewhere" / CS)
    (root / "circle").symlink_to(root)
    (root / "nowhere_1.png").symlink_to(root / "nowhere_1.png")
    os.mkfifo(root / "pipe_1.png")
    assert sum(map(len, _slices(find_cases(root)).values())) == 6


def test_results_of_ours_are_no_data_set(tmp_path: Path) -> None:
    write_set(tmp_path)
    _files(tmp_path / f"{CS}-gliosight", "result.json", "report.html", "overview.png")
    assert set(_slices(find_cases(tmp_path))) == {CS, DU}


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
    slices = _slices(find_cases(_files(tmp_path, *names)))
    numbers = {
        patient: [(number, excluded) for number, _, _, excluded in pictures]
        for patient, pictures in slices.items()
    }
    assert numbers == {patient: [(k, "") for k in ks] for patient, ks in patients.items()}


def test_a_slice_in_another_patients_folder_is_excluded(tmp_path: Path) -> None:
    slices = _slices(find_cases(_files(tmp_path, "A/A_1.tif", "A/B_9.tif", "B/B_1.tif")))
    assert slices == {
        "A": [(1, "A_1.tif", "", "")],
        "B": [(1, "B_1.tif", "", ""), (9, "B_9.tif", "", "lies in the folder of A")],
    }
