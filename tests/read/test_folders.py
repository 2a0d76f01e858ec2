"""Finding studies below a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gliosight.errors import NothingReadableError, UnsupportedInputError
from gliosight.read import Limits, find_studies

from .builders import codes_of, make_volume, read_path, write_lgg, write_nifti


def names(found: list[Path], root: Path) -> list[str]:
    return [one.relative_to(root).as_posix() for one in found]


def test_lgg_root(tmp_path: Path) -> None:
    for name in ("TCGA_B_2", "TCGA_A_1"):
        write_lgg(tmp_path / name)
    (tmp_path / "data.csv").write_text("Patient\n")
    assert names(find_studies(tmp_path, Limits()), tmp_path) == ["TCGA_A_1", "TCGA_B_2"]
    assert find_studies(tmp_path / "TCGA_A_1", Limits()) == [tmp_path / "TCGA_A_1"]
    one = tmp_path / "TCGA_A_1" / "TCGA_A_1_1.tif"
    assert find_studies(one, Limits()) == [one]
    assert find_studies(tmp_path / "nowhere", Limits()) == [tmp_path / "nowhere"]


def test_flat_folders_are_split_by_name(tmp_path: Path) -> None:
    for case in ("a", "b"):
        for sequence in ("flair", "t1"):
            write_nifti(tmp_path / f"{case}_{sequence}.nii", make_volume())
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["a", "b"]
    assert [read_path(one).study_id for one in found] == ["a", "b"]


def test_bids_data_set(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    for subject in ("sub-01", "sub-02"):
        write_nifti(tmp_path / subject / "anat" / f"{subject}_FLAIR.nii.gz", make_volume())
        write_nifti(tmp_path / subject / "func" / f"{subject}_bold.nii.gz", make_volume())
    write_nifti(tmp_path / "derivatives" / "sub-01_FLAIR.nii.gz", make_volume())
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["sub-01/anat", "sub-02/anat"]
    assert [read_path(one).study_id for one in found] == ["sub-01", "sub-02"]


def test_own_results_are_not_studies(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    for out in ("P-gliosight", "out"):
        (tmp_path / out).mkdir()
        for name in ("result.json", "report.html"):
            (tmp_path / out / name).write_text("")
        Image.fromarray(make_volume()[0]).save(tmp_path / out / "overview.png")
    assert names(find_studies(tmp_path, Limits()), tmp_path) == ["P"]


def test_nifti_before_pictures(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flair.nii", make_volume())
    Image.fromarray(make_volume()[0]).save(tmp_path / "preview.png")
    (tmp_path / "notes").mkdir()
    study = read_path(tmp_path)
    assert study.kind == "nifti"
    assert codes_of(study)[:2] == ["FILES_IGNORED", "SUBFOLDERS_IGNORED"]


def test_one_study_further_down(tmp_path: Path) -> None:
    write_lgg(tmp_path / "download" / "kaggle_3m" / "P")
    assert read_path(tmp_path / "download").study_id == "P"


def test_a_bad_study_costs_only_itself(tmp_path: Path) -> None:
    write_lgg(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "flair.nii.gz").write_bytes(b"nothing of the kind")
    assert names(find_studies(tmp_path, Limits()), tmp_path) == ["bad", "good"]


def test_loops_end(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    (tmp_path / "P" / "round").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "again").symlink_to(tmp_path / "P")
    assert len(find_studies(tmp_path, Limits())) == 1


def test_hidden_and_macos_companions(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    (tmp_path / "P" / "._P_1.tif").write_bytes(b"\0\5\x16\7")
    (tmp_path / "P" / ".DS_Store").write_bytes(b"\0")
    assert read_path(tmp_path / "P").flags == ()


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(NothingReadableError, match=r"only 1 \.csv"):
        find_studies(tmp_path, Limits())


def test_dicom_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "IM1").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")
    for path in (tmp_path, tmp_path / "IM1"):
        with pytest.raises(UnsupportedInputError, match=r"DICOM is not read yet.*dcm2niix"):
            read_path(path)
    assert find_studies(tmp_path, Limits()) == [tmp_path]
