"""Finding studies below a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gliosight.errors import DamagedInputError, NothingReadableError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.phantom.dicom import DicomSpec, write_dicom
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


def test_a_bad_file_beside_studies_costs_only_itself(tmp_path: Path) -> None:
    """A picture that is none, where folders of patients lie: told by its own name."""
    for name in ("a", "b"):
        write_lgg(tmp_path / name)
    (tmp_path / "thumb.jpg").write_bytes(b"no picture")
    (tmp_path / "site" / "c").mkdir(parents=True)
    write_nifti(tmp_path / "site" / "c" / "flair.nii.gz", make_volume())
    (tmp_path / "site" / "empty.png").touch()
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["thumb.jpg", "a", "b", "site/empty.png", "site/c"]
    with pytest.raises(DamagedInputError, match=r"named \.jpg.*\(thumb\.jpg\)"):
        read_path(tmp_path / "thumb.jpg")


def test_a_bad_file_further_down_is_told_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "site" / "notes").mkdir(parents=True)
    (tmp_path / "site" / "flair.nii").write_bytes(b"no image")
    with pytest.raises(DamagedInputError, match=r"\(site/flair\.nii\)"):
        read_path(tmp_path)


def test_a_file_that_may_not_be_read_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_lgg(tmp_path / name)
    (tmp_path / "thumb.jpg").write_bytes(b"\xff\xd8\xff")
    really_open, really_scan = os.open, os.scandir

    def forbid(path: str, *more: int) -> int:
        if str(path).endswith("thumb.jpg"):
            raise PermissionError(13, "Permission denied")
        return really_open(path, *more)

    def forbid_folder(path: str) -> Any:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return really_scan(path)

    monkeypatch.setattr(os, "open", forbid)
    monkeypatch.setattr(os, "scandir", forbid_folder)
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["thumb.jpg", "a", "b"]
    assert read_path(tmp_path / "a").study_id == "a"
    for name in ("thumb.jpg", "b"):
        with pytest.raises(NothingReadableError, match=rf"no permission to read \({name}\)"):
            read_path(tmp_path / name)


def test_a_bad_file_costs_the_study_its_name_says(tmp_path: Path) -> None:
    for case in ("a", "b", "c"):
        for seed, sequence in enumerate(("flair", "t1")):
            write_nifti(tmp_path / f"{case}_{sequence}.nii", make_volume(seed=seed))
    (tmp_path / "b_t1.nii").write_bytes(b"no image")
    (tmp_path / "c_flair.nii").write_bytes(b"no image")
    for stray in ("thumb.jpg", "stray.nii"):
        (tmp_path / stray).write_bytes(b"no picture")
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["a", "b", "c", "stray.nii", "thumb.jpg"]
    assert codes_of(read_path(tmp_path / "a")) == ["FILES_IGNORED", "T1C_MISSING"]
    for series, name in (("b", "b_t1.nii"), ("c", "c_flair.nii")):
        with pytest.raises(DamagedInputError, match=name):
            read_path(tmp_path / series)


def test_a_bad_file_costs_the_study_in_whose_folder_it_is(tmp_path: Path) -> None:
    """Whether the slices beside it are whole without it, nobody can say."""
    for name in ("a", "b"):
        write_lgg(tmp_path / name)
    (tmp_path / "a" / "old").mkdir()
    (tmp_path / "a" / "flair.nii").touch()
    assert names(find_studies(tmp_path, Limits()), tmp_path) == ["a", "b"]
    with pytest.raises(DamagedInputError, match=r"empty \(flair\.nii\)"):
        read_path(tmp_path / "a")


def test_a_bad_slice_costs_its_series(tmp_path: Path) -> None:
    for name in ("A_1.png", "A_2.png", "B_1.png", "B_2.png"):
        Image.fromarray(make_volume()[1]).save(tmp_path / name)
    (tmp_path / "B_2.png").write_bytes(b"no picture")
    assert names(find_studies(tmp_path, Limits()), tmp_path) == ["A", "B"]
    assert read_path(tmp_path / "A").shape == (2, 24, 20)
    with pytest.raises(DamagedInputError, match=r"B_2\.png"):
        read_path(tmp_path / "B")


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


def test_dicom_goes_before_slices_and_after_nifti(tmp_path: Path) -> None:
    head = make_phantom(PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3.0))
    folder = write_dicom(head, tmp_path, DicomSpec(shuffled_names=True))
    (source,) = find_studies(folder, Limits())
    assert not isinstance(source, Path)
    Image.new("L", (8, 9), 50).save(folder / "preview_1.png")
    study = read_path(folder)
    assert study.kind == "dicom"
    assert "FILES_IGNORED" in codes_of(study)
    write_nifti(folder / "x_flair.nii", make_volume((4, 9, 8)))
    assert read_path(folder).kind == "nifti"


def test_a_file_called_dcm_that_holds_none_is_mislabelled(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"<html>")
    for path in (tmp_path, tmp_path / "a.dcm"):
        with pytest.raises(DamagedInputError, match=r"named \.dcm, but"):
            read_path(path)


def test_studies_whose_files_have_no_name_in_common(tmp_path: Path) -> None:
    for seed, name in enumerate(("FLAIR", "anna_FLAIR", "anna_T1")):
        write_nifti(tmp_path / f"{name}.nii", make_volume(seed=seed))
    found = find_studies(tmp_path, Limits())
    assert names(found, tmp_path) == ["anna", "FLAIR"]
    assert [codes_of(read_path(path)) for path in found] == [
        ["T1C_MISSING"],
        ["T1_MISSING", "T1C_MISSING"],
    ]
