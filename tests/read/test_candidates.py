"""Finding studies below a path."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gliosight.errors import (
    DamagedInputError,
    LimitExceededError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read import Limits, Options, find, join
from gliosight.read.candidates import DicomCandidate
from gliosight.study import MrSequence
from tests.support.dicom_phantom import DicomSpec, write_dicom

from .builders import codes_of, make_volume, read_path, write_lgg, write_nifti


def sources(path: Path) -> list[str]:
    """Where each study lies, below the path."""
    return [candidate.source for candidate in find(path, Limits())]


def test_lgg_root(tmp_path: Path) -> None:
    for name in ("TCGA_B_2", "TCGA_A_1"):
        write_lgg(tmp_path / name)
    (tmp_path / "data.csv").write_text("Patient\n")
    assert sources(tmp_path) == ["TCGA_A_1", "TCGA_B_2"]
    assert sources(tmp_path / "TCGA_A_1") == ["TCGA_A_1"]
    assert sources(tmp_path / "TCGA_A_1" / "TCGA_A_1_1.tif") == ["TCGA_A_1_1.tif"]
    with pytest.raises(NothingReadableError, match="no such file"):
        sources(tmp_path / "nowhere")


def test_flat_folders_are_split_by_name(tmp_path: Path) -> None:
    for case in ("a", "b"):
        for sequence in ("flair", "t1"):
            write_nifti(tmp_path / f"{case}_{sequence}.nii", make_volume())
    assert sources(tmp_path) == ["a", "b"]
    assert [read_path(tmp_path / name).study_id for name in ("a", "b")] == ["a", "b"]


def test_bids_data_set(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    for subject in ("sub-01", "sub-02"):
        write_nifti(tmp_path / subject / "anat" / f"{subject}_FLAIR.nii.gz", make_volume())
        write_nifti(tmp_path / subject / "func" / f"{subject}_bold.nii.gz", make_volume())
    write_nifti(tmp_path / "derivatives" / "sub-01_FLAIR.nii.gz", make_volume())
    assert sources(tmp_path) == ["sub-01/anat", "sub-02/anat"]
    studies = [candidate.read(Options()) for candidate in find(tmp_path, Limits())]
    assert [study.study_id for study in studies] == ["sub-01", "sub-02"]


def test_own_results_are_not_studies(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    for out in ("P-gliosight", "out"):
        (tmp_path / out).mkdir()
        for name in ("result.json", "report.html"):
            (tmp_path / out / name).write_text("")
        Image.fromarray(make_volume()[0]).save(tmp_path / out / "overview.png")
    assert sources(tmp_path) == ["P"]


def test_nifti_before_pictures(tmp_path: Path) -> None:
    write_nifti(tmp_path / "flair.nii", make_volume())
    Image.fromarray(make_volume()[0]).save(tmp_path / "preview.png")
    (tmp_path / "notes").mkdir()
    study = read_path(tmp_path)
    assert study.kind == "nifti"
    assert codes_of(study)[:1] == ["FILES_IGNORED"]
    # What is looked into and holds nothing is not worth a word; a study there is.
    assert "SUBFOLDERS_IGNORED" not in codes_of(study)
    write_nifti(tmp_path / "notes" / "p_flair.nii", make_volume())
    assert codes_of(read_path(tmp_path))[:2] == ["FILES_IGNORED", "SUBFOLDERS_IGNORED"]
    assert sources(tmp_path) == [tmp_path.name, "notes"]
    for candidate in find(tmp_path, Limits()):
        assert "SUBFOLDERS_IGNORED" not in codes_of(candidate.read(Options()))


def test_one_study_further_down(tmp_path: Path) -> None:
    write_lgg(tmp_path / "download" / "kaggle_3m" / "P")
    assert read_path(tmp_path / "download").study_id == "P"


def test_a_bad_study_costs_only_itself(tmp_path: Path) -> None:
    write_lgg(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "flair.nii.gz").write_bytes(b"nothing of the kind")
    assert sources(tmp_path) == ["bad", "good"]


def test_a_bad_file_beside_studies_costs_only_itself(tmp_path: Path) -> None:
    """A file that is damaged, where folders of patients lie: it fails under its own name."""
    for name in ("a", "b", "site/c"):
        write_lgg(tmp_path / name)
    (tmp_path / "thumb.jpg").write_bytes(b"no picture")
    (tmp_path / "site" / "empty.png").touch()
    assert sources(tmp_path) == ["thumb.jpg", "a", "b", "site/empty.png", "site/c"]
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
    assert sources(tmp_path) == ["thumb.jpg", "a", "b"]
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
    assert sources(tmp_path) == ["a", "b", "c", "stray.nii"]
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
    assert sources(tmp_path) == ["a", "b"]
    with pytest.raises(DamagedInputError, match=r"empty \(flair\.nii\)"):
        read_path(tmp_path / "a")


def test_a_bad_slice_costs_its_series(tmp_path: Path) -> None:
    for name in ("A_1.png", "A_2.png", "B_1.png", "B_2.png"):
        Image.fromarray(make_volume()[1]).save(tmp_path / name)
    (tmp_path / "B_2.png").write_bytes(b"no picture")
    assert sources(tmp_path) == ["A", "B"]
    assert read_path(tmp_path / "A").shape == (2, 24, 20)
    with pytest.raises(DamagedInputError, match=r"B_2\.png"):
        read_path(tmp_path / "B")


def test_loops_end(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    (tmp_path / "P" / "round").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "again").symlink_to(tmp_path / "P")
    assert len(sources(tmp_path)) == 1


def test_hidden_and_macos_companions(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    (tmp_path / "P" / "._P_1.tif").write_bytes(b"\0\5\x16\7")
    (tmp_path / "P" / ".DS_Store").write_bytes(b"\0")
    assert read_path(tmp_path / "P").flags == ()


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(NothingReadableError, match=r"only 1 \.csv"):
        sources(tmp_path)


def test_dicom_goes_before_slices_and_after_nifti(tmp_path: Path) -> None:
    head = make_phantom(PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3.0))
    folder = write_dicom(head, tmp_path, DicomSpec(shuffled_names=True))
    (candidate,) = find(folder, Limits())
    assert isinstance(candidate, DicomCandidate)
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


def count_opens(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is opened from now on, by its name."""
    opens: Counter[str] = Counter()
    really_open = os.open

    def counted(path: Any, *more: Any, **named: Any) -> int:
        opens[Path(path).name] += 1
        return really_open(path, *more, **named)

    monkeypatch.setattr(os, "open", counted)
    return opens


@pytest.mark.parametrize("layout", ["nifti", "slices"])
def test_each_file_is_opened_once_to_find_it_and_once_to_read_it(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many studies share a folder: opens for each file do not grow with the others."""
    for case in range(12):
        for seed, sequence in enumerate(("flair", "t1", "t1ce")):
            if layout == "nifti":
                write_nifti(tmp_path / f"p{case}_{sequence}.nii.gz", make_volume(seed=seed))
            else:
                picture = Image.fromarray(make_volume(seed=case)[seed])
                picture.save(tmp_path / f"p{case}_flair_{seed + 1}.png")
    opens = count_opens(monkeypatch)
    candidates = find(tmp_path, Limits())
    assert len(candidates) == 12
    assert set(opens.values()) == {1}
    for candidate in candidates:
        candidate.read(Options())
    assert len(opens) == 36
    assert set(opens.values()) == {2}


def _numbered(name: str, first: int, end: int) -> tuple[str, ...]:
    """Names of pictures, with each number from the first up to the end."""
    return tuple(f"{name.replace('#', str(number))}.png" for number in range(first, end))


# The files; the studies by source with what they read, None where only no file may be lost; codes of what is
# left out or not read of each study.
FOLDERS: dict[str, tuple[Any, ...]] = {
    "a folder for each sequence": (
        ("p1/FLAIR/a.nii.gz", "p1/T1/b.nii.gz", "p1/T1wCE/c.nii.gz", "p1/T2w/d.nii.gz"),
        {"p1": {"FLAIR", "T1", "T1C"}},
    ),
    "numbered, with NIFTI below (Erasmus)": (
        (
            "p1/1_T1/NIFTI/T1.nii.gz",
            "p1/2_T1GD/NIFTI/T1GD.nii.gz",
            "p1/3_T2/NIFTI/T2.nii.gz",
            "p1/4_FLAIR/NIFTI/FLAIR.nii.gz",
            "p1/5_MASK/NIFTI/MASK.nii.gz",
        ),
        {"p1": {"FLAIR", "T1", "T1C"}},
        "FILES_IGNORED",
    ),
    "an archive's (XNAT)": (
        (
            "p1/scans/4-FLAIR/resources/NIFTI/files/image.nii.gz",
            "p1/scans/5-T1/resources/NIFTI/files/image.nii.gz",
        ),
        {"p1/scans": {"FLAIR", "T1"}},
    ),
    "a series number for the patient's folders, twice FLAIR": (
        (
            "p1/3_FLAIR/image.nii.gz",
            "p1/4_T1/image.nii.gz",
            "p1/9_FLAIR_post/image.nii.gz",
        ),
        {"p1": {"FLAIR", "T1"}},
    ),
    "a sequence's folder for all patients": (
        ("FLAIR/p1.nii.gz", "FLAIR/p2.nii.gz", "T1/p1.nii.gz", "T1/p2.nii.gz"),
        {"p1": {"FLAIR", "T1"}, "p2": {"FLAIR", "T1"}},
    ),
    "folders named by patient and sequence are not one study": (
        ("p1_FLAIR/1.png", "p1_FLAIR/2.png", "p2_FLAIR/1.png", "p2_FLAIR/2.png"),
        {"p1_FLAIR": {"FLAIR"}, "p2_FLAIR": {"FLAIR"}},
    ),
    "two folders of FLAIR pictures are two studies": (
        ("p/3_FLAIR/1.png", "p/9_FLAIR/1.png", "p/4_T1/1.png"),
        {"p/3_FLAIR": {"FLAIR"}, "p/9_FLAIR": {"FLAIR"}},
        "T1_LEFT_OUT",
    ),
    "a preview beside the folders of the sequences": (
        ("p1/FLAIR/1.png", "p1/FLAIR/2.png", "p1/T1/1.png", "p1/T1/2.png", "p1/thumb.png"),
        {"p1": {"FLAIR", "T1"}},
        "FILES_IGNORED",
    ),
    "numbers of series in the names of pictures": (
        (
            *("p1/FLAIR/IM-0004-0001.png", "p1/FLAIR/IM-0004-0002.png"),
            *("p1/T1/IM-0005-0001.png", "p1/T1/IM-0005-0002.png"),
        ),
        {"p1": {"FLAIR", "T1"}},
    ),
    "slices of FLAIR beside a folder of T1": (
        ("p1/flair_1.png", "p1/flair_2.png", "p1/T1/1.png"),
        {"p1": {"FLAIR"}},
        "FILES_IGNORED",
    ),
    "two folders of T1 pictures": (
        ("p1/FLAIR/1.png", "p1/3_T1/1.png", "p1/7_T1/1.png"),
        {"p1": {"FLAIR"}},
        "T1_LEFT_OUT",
    ),
    "patients called after lesions": (
        ("Lesion_01/a.nii.gz", "Lesion_02/a.nii.gz", "Control_01/a.nii.gz"),
        {"Control_01": {"FLAIR"}, "Lesion_01": {"FLAIR"}, "Lesion_02": {"FLAIR"}},
    ),
    "folders of a word and a number": (
        ("MRI_01/flair.nii.gz", "MRI_02/flair.nii.gz"),
        {"MRI_01": {"FLAIR"}, "MRI_02": {"FLAIR"}},
    ),
    "patients below a folder of the sequence": (
        ("FLAIR/scan_01/img.nii.gz", "FLAIR/scan_02/img.nii.gz"),
        {"FLAIR/scan_01": {"FLAIR"}, "FLAIR/scan_02": {"FLAIR"}},
    ),
    "files of one name in numbered folders": (
        tuple(f"FLAIR/{name}/{file}.nii.gz" for name in ("x", "y", "z") for file in ("a", "b")),
        None,
    ),
    "two patients, each with folders": (
        ("p1/FLAIR/a.nii.gz", "p1/T1/a.nii.gz", "p2/FLAIR/a.nii.gz", "p2/T1/a.nii.gz"),
        {"p1": {"FLAIR", "T1"}, "p2": {"FLAIR", "T1"}},
    ),
    "a file's own name goes before its folder's": (
        ("p1/T1/p_flair.nii.gz", "p1/T1/p_t1.nii.gz"),
        {"p1/T1": {"FLAIR", "T1"}},
    ),
    "pictures": (
        (
            "p1/FLAIR/Image-1.png",
            "p1/FLAIR/Image-2.png",
            "p1/T1w/Image-1.png",
            "p1/T1w/Image-2.png",
        ),
        {"p1": {"FLAIR", "T1"}},
    ),
    "pictures whose T1 lacks a slice": (
        ("p1/FLAIR/1.png", "p1/FLAIR/2.png", "p1/T1w/1.png"),
        {"p1": {"FLAIR"}},
        "T1_LEFT_OUT",
    ),
    "pictures of two people in each folder": (
        (
            *_numbered("p/FLAIR/A_#", 1, 7),
            *_numbered("p/FLAIR/B_#", 7, 10),
            *_numbered("p/T1/A_#", 1, 7),
            *_numbered("p/T1/B_#", 7, 10),
        ),
        {"p/A": {"FLAIR", "T1"}, "p/B": {"FLAIR", "T1"}},
    ),
    "pictures of two people with the same numbers": (
        (*_numbered("p/FLAIR/A_#", 1, 4), *_numbered("p/FLAIR/B_#", 1, 4)),
        {"p/A": {"FLAIR"}, "p/B": {"FLAIR"}},
    ),
    "pictures whose T1 has other numbers": (
        (*_numbered("p/FLAIR/#", 1, 4), *_numbered("p/T1/#", 21, 24)),
        {"p": {"FLAIR"}},
        "T1_LEFT_OUT",
    ),
    "pictures whose T1 is of somebody else": (
        (*_numbered("p/FLAIR/anna_#", 1, 4), *_numbered("p/T1/berta_#", 1, 4)),
        {"p": {"FLAIR"}},
        "T1_LEFT_OUT",
    ),
    "pictures with a T1 of somebody else, too": (
        (*_numbered("p/FLAIR/anna_#", 1, 4), *_numbered("p/T1/anna_#", 1, 4), "p/T1/berta_1.png"),
        {"p": {"FLAIR", "T1"}},
        "FILES_IGNORED",
    ),
    "pictures whose names have the word of their folder": (
        (*_numbered("p/FLAIR/flair_00#", 1, 4), *_numbered("p/T1/t1_00#", 1, 4)),
        {"p": {"FLAIR", "T1"}},
    ),
    "pictures with the number in that word": (
        (*_numbered("p/FLAIR/flair#", 1, 4), *_numbered("p/T1wCE/t1w#", 1, 4)),
        {"p": {"FLAIR", "T1"}},
    ),
    "one picture of each": (
        ("p/FLAIR/p_flair.png", "p/T1/p_t1.png"),
        {"p": {"FLAIR", "T1"}},
    ),
    "a picture's own name goes before its folder's": (
        ("p/T1/flair_1.png", "p/T1/flair_2.png", "p/T1/t1_1.png", "p/T1/t1_2.png"),
        {"p/T1": {"FLAIR", "T1"}},
    ),
    "patients whose code is also a sequence's": (
        ("CT_12/flair.nii.gz", "CT_12/t1.nii.gz", "CT_13/flair.nii.gz"),
        {"CT_12": {"FLAIR", "T1"}, "CT_13": {"FLAIR"}},
    ),
    "a folder and a file of one name": (
        ("FLAIR/p1.nii.gz", "FLAIR_p1.nii.gz", "FLAIR/p2.nii.gz"),
        None,
    ),
    "a folder and a file of one name, T1": (
        ("A_flair.nii.gz", "B_flair.nii.gz", "T1/A.nii.gz", "T1_A.nii.gz"),
        None,
    ),
    "masks beside images": (
        ("images/a_1.png", "images/a_2.png", "masks/a_1.png", "images_segm/a_2.png"),
        {"images": {"FLAIR"}},
        "FILES_IGNORED",
    ),
    "previews in a tree of NIfTI": (
        ("p1/p_flair.nii.gz", "p1/thumbs/view.png", "logo.png", "p1/screen.png"),
        {"p1": {"FLAIR"}},
        "FILES_IGNORED",
    ),
    "time points called like sequences": (
        ("P/T1/FLAIR.nii.gz", "P/T1/T1w.nii.gz", "P/T2/FLAIR.nii.gz", "P/T2/T1w.nii.gz"),
        {"P/T1": {"FLAIR", "T1"}, "P/T2": {"FLAIR", "T1"}},
    ),
    "folders of sequences whose files say so, too": (
        ("P/T1/a_T1w.nii.gz", "P/T2/a_T2w.nii.gz", "P/FLAIR/a_FLAIR.nii.gz"),
        {"P": {"FLAIR", "T1"}},
    ),
    "numbers of series below scans": (
        ("S/SCANS/4/NIFTI/flair.nii.gz", "S/SCANS/5/NIFTI/t1.nii.gz"),
        {"S/SCANS": {"FLAIR", "T1"}},
    ),
    "previews and derivatives beside images": (
        (
            *("p/FLAIR.nii.gz", "p/old/FLAIR.nii.gz", "p/skull_strip/FLAIR.nii.gz"),
            *("p/HD-GLIO-AUTO-segmentation/registered/FLAIR.nii.gz", "p/follow_up/FLAIR.nii.gz"),
        ),
        {"p": {"FLAIR"}, "p/follow_up": {"FLAIR"}},
        "FILES_IGNORED",
    ),
    "small pictures beside the pictures": (
        ("p/flair_1.png", "p/flair_2.png", "p/thumbs/flair_1.png", "p/thumbs/flair_2.png"),
        {"p": {"FLAIR"}},
        "FILES_IGNORED",
    ),
    "other images of the same patients": (
        ("DSC/p1/p1_DSC.nii.gz", "structural/p1/p1_FLAIR.nii.gz", "structural/p1/p1_T1.nii.gz"),
        {"structural/p1": {"FLAIR", "T1"}},
    ),
    "pictures of several sequences in one folder": (
        (
            *("p/a_flair_1.png", "p/a_flair_2.png", "p/a_t1_1.png", "p/a_t1_2.png"),
            *("p/a_t1ce_1.png", "p/a_t1ce_2.png"),
        ),
        {"p": {"FLAIR", "T1", "T1C"}},
    ),
    "slices that say FLAIR in a tree of NIfTI": (
        ("p1/p_flair.nii.gz", "p2/flair_1.png", "p2/flair_2.png"),
        {"p1": {"FLAIR"}, "p2": {"FLAIR"}},
    ),
}


def write_tree(root: Path, names: Iterable[str]) -> None:
    """Files of different images at these places."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".nii.gz"):
            write_nifti(path, make_volume(seed=seed))
        else:
            Image.fromarray(make_volume((1, 24, 20), seed=seed)[0]).save(path)


@pytest.mark.parametrize(
    ("name", "content"), [("scan.zip", b"PK\5\6" + bytes(18)), ("FLAIR.nrrd", b"NRRD0004\n")]
)
def test_a_folder_of_a_format_that_is_not_read_has_its_row(
    name: str, content: bytes, tmp_path: Path
) -> None:
    write_tree(tmp_path, ["p2/FLAIR.nii.gz"])
    for folder in ("p1", "p2/extra"):  # the second belongs to a study
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    first, second = find(tmp_path, Limits())
    assert (first.source, second.source) == ("p1", "p2")
    with pytest.raises(UnsupportedInputError, match=f"p1/{name}"):
        first.read(Options())
    assert second.read(Options()).sequences
    (tmp_path / "p1" / "viewer.dll").write_bytes(b"MZ")
    assert len(find(tmp_path, Limits())) == (1 if name == "scan.zip" else 2)


@pytest.mark.parametrize("row", FOLDERS)
def test_folders_say_what_belongs_together(row: str, tmp_path: Path) -> None:
    names, expected, *codes = FOLDERS[row]
    write_tree(tmp_path, names)
    candidates = find(tmp_path, Limits())
    ids = [candidate.study_id for candidate in candidates]
    assert len(set(ids)) == len(ids)
    if expected is None:  # no file is lost
        assert sum(len(candidate.files) for candidate in candidates) == len(names)
        return
    assert [candidate.source for candidate in candidates] == list(expected)
    for candidate in candidates:
        study = candidate.read(Options())
        assert {name.value for name in study.sequences} == expected[candidate.source]
        assert {"T1_LEFT_OUT", "FILES_IGNORED"}.intersection(codes_of(study)) == set(codes)
        assert not {"T1_LEFT_OUT", "T1_MISSING"}.issubset(codes_of(study))
        seen = candidate.describe(Limits())
        assert {one.code for one in seen.flags}.issuperset(codes)
        assert {one.taken_as for one in seen.series} - {None} >= {"FLAIR"}
        assert seen.error is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("p/T2w/a.png", "T2"),
        ("p/T1wCE/a.png", "T1C"),
        ("p/t1/a.nii.gz", "T1"),
        ("p/T1/NIFTI/a.nii", "T1"),
    ],
)
def test_a_folder_of_another_sequence_is_not_flair(name: str, says: str, tmp_path: Path) -> None:
    write_tree(tmp_path, [name.removesuffix(".nii") + (".nii.gz" if name.endswith("nii") else "")])
    for path in (tmp_path, tmp_path / "p", (tmp_path / name).parent):
        with pytest.raises(UnsupportedInputError, match=rf"no FLAIR.*\b{says}\b"):
            read_path(path)


@pytest.mark.parametrize(
    ("names", "assumed"),
    [
        (["IMG_1.png"], True),
        (["x/1.png", "x/2.png"], True),
        (["x/flair_1.png"], False),
        (["FLAIR/1.png", "FLAIR/2.png"], False),
        (["p/volume.nii.gz"], True),
        (["FLAIR/volume.nii.gz"], False),
    ],
)
def test_what_says_no_sequence_is_flagged(names: list[str], assumed: bool, tmp_path: Path) -> None:
    write_tree(tmp_path, names)
    assert ("SEQUENCE_ASSUMED" in codes_of(read_path(tmp_path))) is assumed


def test_the_layout_of_the_lgg_set_says_it(tmp_path: Path) -> None:
    write_lgg(tmp_path / "P")
    assert "SEQUENCE_ASSUMED" not in codes_of(read_path(tmp_path / "P"))
    (tmp_path / "P").rename(tmp_path / "Q")
    assert "SEQUENCE_ASSUMED" in codes_of(read_path(tmp_path / "Q"))


@pytest.mark.parametrize(
    ("folder", "study_id"),
    [
        ("p7/FLAIR", "p7"),
        ("p7/4_FLAIR/NIFTI", "p7"),
        ("p7/scans", "p7"),
        ("p7/anat", "p7"),
        ("sub-7/ses-2/anat", "sub-7_ses-2"),
        ("p7", "p7"),
    ],
)
def test_a_study_is_called_by_a_folder_that_tells_it_from_others(
    folder: str, study_id: str, tmp_path: Path
) -> None:
    write_tree(tmp_path, [f"{folder}/flair.nii.gz"])
    for path in (tmp_path, tmp_path / folder):
        (candidate,) = find(path, Limits())
        assert candidate.read(Options()).study_id == study_id


def test_links_do_not_lead_away(tmp_path: Path) -> None:
    """Neither up, nor into another file system; a link to a patient elsewhere is followed."""
    write_lgg(tmp_path / "elsewhere" / "P")
    write_lgg(tmp_path / "root" / "Q")
    for name, target in (("up", tmp_path), ("top", Path("/")), ("proc", Path("/proc"))):
        (tmp_path / "root" / name).symlink_to(target)
    (tmp_path / "root" / "R").symlink_to(tmp_path / "elsewhere" / "P")
    assert sources(tmp_path / "root") == ["Q", "R"]


def test_files_are_counted_over_all_folders(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_lgg(tmp_path / name, masks=False)
    assert len(find(tmp_path, Limits(members=18))) == 3
    with pytest.raises(LimitExceededError, match="--max-members"):
        find(tmp_path, Limits(members=17))


def test_what_git_annex_has_not_fetched_is_told(tmp_path: Path) -> None:
    (tmp_path / "flair.nii.gz").symlink_to(".git/annex/objects/XX/YY/MD5E-s1--0.nii.gz")
    with pytest.raises(NothingReadableError, match="1 git-annex link without content"):
        sources(tmp_path)
    with pytest.raises(NothingReadableError, match="datalad get"):
        sources(tmp_path / "flair.nii.gz")


@pytest.mark.parametrize(
    ("names", "sizes", "error"),
    [
        (["a_1.png", "a_2.png"], [(9, 8), (9, 7)], "differ in size, 9 x 8 and 9 x 7"),
        (["a_1.png", "a_01.png"], [(9, 8), (9, 8)], "two files have slice number 1"),
    ],
)
def test_inspect_does_not_call_what_clashes_ready(
    names: list[str], sizes: list[tuple[int, int]], error: str, tmp_path: Path
) -> None:
    for name, size in zip(names, sizes, strict=True):
        Image.fromarray(make_volume((1, *size))[0]).save(tmp_path / name)
    (candidate,) = find(tmp_path, Limits())
    seen = candidate.describe(Limits())
    assert seen.error is not None
    assert error in seen.error.what
    with pytest.raises(DamagedInputError, match=error):
        candidate.read(Options())


def test_studies_whose_files_have_no_name_in_common(tmp_path: Path) -> None:
    for seed, name in enumerate(("FLAIR", "anna_FLAIR", "anna_T1")):
        write_nifti(tmp_path / f"{name}.nii", make_volume(seed=seed))
    assert sources(tmp_path) == ["anna", "FLAIR"]
    assert [codes_of(candidate.read(Options())) for candidate in find(tmp_path, Limits())] == [
        ["T1C_MISSING"],
        ["T1_MISSING", "T1C_MISSING"],
    ]


@pytest.mark.parametrize(
    "name", ["T1/p1/01.png", "p1/T1_a/x.nii.gz", "p1/T2_old/x.nii.gz", "T1/001/01.png"]
)
def test_another_sequence_s_folder_of_a_patient_is_not_flair(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, [name, "q/x_flair.nii.gz"])
    candidates = {candidate.source: candidate for candidate in find(tmp_path, Limits())}
    assert candidates.pop("q").read(Options()).shape == (5, 24, 20)
    for candidate in candidates.values():
        with pytest.raises(UnsupportedInputError, match=r"no FLAIR, the folder says T|there is"):
            candidate.read(Options())


def test_a_broken_t2_costs_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, ["p1/FLAIR/a.nii.gz", "p1/T1/a.nii.gz"])
    (tmp_path / "p1" / "T2").mkdir()
    (tmp_path / "p1" / "T2" / "a.nii.gz").write_bytes(b"no image")
    assert set(read_path(tmp_path / "p1").sequences) == {MrSequence.FLAIR, MrSequence.T1}
    (tmp_path / "p1" / "T1" / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(DamagedInputError, match=r"T1/a\.nii\.gz"):
        read_path(tmp_path / "p1")


def test_a_damaged_file_that_may_be_a_patient_s_has_a_row(tmp_path: Path) -> None:
    """A code before a number may be a patient's; what is surely another sequence costs nothing."""
    write_tree(tmp_path, ["p1_flair.nii.gz", "p2_flair.nii.gz"])
    rows = ["CT_12.nii.gz", "p5_t1_flair.nii.gz", "PD_003.nii.gz"]
    for name in (*rows, "p1_t2.nii.gz", "p2_adc.nii.gz", "dwi.nii.gz"):
        (tmp_path / name).touch()
    assert sources(tmp_path) == ["p1", "p2", *rows]
    for name in ("p1", "p2"):
        study = read_path(tmp_path / name)
        (note,) = [one for one in study.flags if one.code == "FILES_IGNORED"]
        assert all(file in note.message for file in ("CT_12.nii.gz", "dwi.nii.gz", "p1_t2.nii.gz"))


def test_a_folder_called_like_the_one_above_is_another(tmp_path: Path) -> None:
    write_tree(tmp_path, ["A/A/flair.nii.gz", "A/B/flair.nii.gz"])
    with pytest.raises(UnsupportedInputError, match=r"2 studies \(A, B\)"):
        read_path(tmp_path / "A")
    write_tree(tmp_path, ["A/flair.nii.gz"])
    assert read_path(tmp_path / "A").shape == (5, 24, 20)
    assert "SUBFOLDERS_IGNORED" in codes_of(read_path(tmp_path / "A"))


@pytest.mark.parametrize(
    "names",
    [
        ("p1/flair.nii.gz", "p2/flair.nii.gz"),
        ("p1_flair.nii.gz", "p1_t1.nii.gz", "p2_flair.nii.gz"),
        ("FLAIR/p1.nii.gz", "FLAIR/p2.nii.gz", "T1/p1.nii.gz"),
        ("p1_flair.nii.gz", "p2_flair.nii.gz", "p1/flair.nii.gz"),
        ("A_1.png", "A_2.png", "B_1.png"),
        ("FLAIR/A_1.png", "FLAIR/B_1.png", "T1/A_1.png"),
        ("p/3_FLAIR/1.png", "p/9_FLAIR/1.png"),
        ("bad.nii.gz", "p1/flair.nii.gz", "p2/flair.nii.gz"),
    ],
)
def test_what_the_error_for_several_studies_proposes_works(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    write_tree(tmp_path, [name for name in names if name != "bad.nii.gz"])
    if "bad.nii.gz" in names:
        (tmp_path / "bad.nii.gz").touch()
    with pytest.raises(UnsupportedInputError, match="studies") as raised:
        read_path(tmp_path)
    assert read_path(Path(raised.value.remedy.partition("as in ")[2])).shape[1:] == (24, 20)


def test_several_dicom_studies_of_one_folder_or_zip(tmp_path: Path) -> None:
    for seed in (2, 3):
        head = make_phantom(PhantomSpec(seed=seed, slices=3, matrix=32, pixel_mm=3.0))
        folder = write_dicom(head, tmp_path / f"made{seed}")
        for number, path in enumerate(filter(Path.is_file, sorted(folder.rglob("*")))):
            (tmp_path / "flat").mkdir(exist_ok=True)
            path.rename(tmp_path / "flat" / f"{seed}_{number}.dcm")
    with pytest.raises(UnsupportedInputError, match="2 studies") as raised:
        read_path(tmp_path / "flat")
    assert raised.value.remedy == "read all of them with: gliosight analyze flat"
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "flat")
    with pytest.raises(UnsupportedInputError, match=r"2 studies.*\(export\.zip\)") as raised:
        read_path(Path(archive))
    assert raised.value.remedy == f"read all of them with: gliosight analyze {archive}"


def test_a_dicom_study_given_twice_is_one(tmp_path: Path) -> None:
    head = make_phantom(PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3.0))
    folder = write_dicom(head, tmp_path / "p")
    write_tree(tmp_path, ["q/flair.nii.gz"])
    candidates = [*find(folder, Limits()), *find(tmp_path, Limits())]
    assert len(candidates) == 3
    assert {candidate.title for candidate, _ in join(candidates)} == {candidates[0].title, "q"}
    assert len(join(candidates)) == 2


def test_masks_beside_dicom_are_flagged(tmp_path: Path) -> None:
    head = make_phantom(PhantomSpec(seed=2, slices=3, matrix=32, pixel_mm=3.0))
    write_dicom(head, tmp_path / "p")
    write_tree(tmp_path, ["p/masks/1.png"])
    (candidate,) = find(tmp_path, Limits())
    assert [one.message for one in candidate.flags] == [
        "Folders of masks, previews or derivatives beside the images were not read: masks."
    ]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/b/flair.nii.gz", "c/b/flair.nii.gz", "a_b/flair.nii.gz"], ["a_b", "a_b-2", "c_b"]),
        (["pt/FLAIR/a.nii.gz", "pt/flair_1.png", "pt/flair_2.png"], ["pt", "pt-2"]),
        (["P1/flair.nii.gz", "x/p1/flair.nii.gz"], ["P1", "x_p1"]),
        (["\u00e9/flair.nii.gz", "x/e\u0301/flair.nii.gz"], ["x_e\u0301", "\u00e9"]),
    ],
)
def test_no_two_studies_have_one_name(names: list[str], ids: list[str], tmp_path: Path) -> None:
    """Also where only a file system that tells case or accents apart would see two."""
    write_tree(tmp_path / "root", names)
    found = find(tmp_path / "root", Limits())
    assert sorted(candidate.study_id for candidate in found) == ids  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "assumed"),
    [("FLAIR_study/p1", True), ("FLAIR/p1", False), ("4_FLAIR/p1/NIFTI", False)],
)
def test_a_file_is_what_it_is_from_wherever_it_is_found(
    place: str, assumed: bool, tmp_path: Path
) -> None:
    write_tree(tmp_path, [f"data/{place}/scan.nii.gz"])
    folder = tmp_path / "data" / place
    for path in (tmp_path, tmp_path / "data", folder.parent, folder, folder / "scan.nii.gz"):
        assert ("SEQUENCE_ASSUMED" in codes_of(read_path(path))) is assumed


def test_one_folder_of_masks_is_counted_in_good_english(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "a.csv").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(NothingReadableError, match=r"1 folder of masks"):
        sources(tmp_path)
