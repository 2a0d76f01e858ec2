"""Finding studies below a path."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
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
from tests.support.dicom_phantom import DicomSpec, write_dicom

from .builders import codes_of, make_volume, read_path, write_lgg, write_nifti


def write_tree(root: Path, names: str) -> None:
    """Files of different images at these places: NIfTI without a suffix, and ``!`` before a damaged file.

    ``{1-3}`` stands for the numbers from 1 to 3; what ends with ``/`` is an empty folder.
    """
    for seed, name in enumerate(each for text in names.split() for each in expanded(text)):
        path = root / name.removeprefix("!")
        path = path if path.suffix else path.with_name(f"{path.name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir()
        elif name.startswith("!"):
            path.write_bytes(b"no image")
        elif path.suffix == ".gz":
            write_nifti(path, make_volume(seed=seed))
        elif path.suffix in (".json", ".html"):
            path.write_text("{}")
        else:
            Image.fromarray(make_volume((1, 24, 20), seed=seed)[0]).save(path)


def expanded(text: str) -> list[str]:
    match = re.fullmatch(r"(.*)\{(\d+)-(\d+)\}(.*)", text)
    if match is None:
        return [text]
    return [f"{match[1]}{number}{match[4]}" for number in range(int(match[2]), int(match[3]) + 1)]


def sources(path: Path) -> list[str]:
    """Where each study lies, below the path."""
    return [candidate.source for candidate in find(path, Limits())]


def write_head(folder: Path, seed: int = 2, **spec: Any) -> Path:
    """A small DICOM study."""
    head = make_phantom(PhantomSpec(seed=seed, slices=3, matrix=32, pixel_mm=3.0))
    return write_dicom(head, folder, DicomSpec(**spec))


def test_lgg_root(tmp_path: Path) -> None:
    for name in ("TCGA_B_2", "TCGA_A_1"):
        write_lgg(tmp_path / "kaggle_3m" / name)
    (tmp_path / "data.csv").write_text("Patient\n")
    assert sources(tmp_path) == ["kaggle_3m/TCGA_A_1", "kaggle_3m/TCGA_B_2"]
    folder = tmp_path / "kaggle_3m" / "TCGA_A_1"
    assert sources(folder) == ["TCGA_A_1"]
    assert sources(folder / "TCGA_A_1_1.tif") == ["TCGA_A_1_1.tif"]
    shutil.rmtree(tmp_path / "kaggle_3m" / "TCGA_B_2")
    for name in ("._TCGA_A_1_1.tif", ".DS_Store"):  # macOS
        (folder / name).write_bytes(b"\0\5\x16\7")
    study = read_path(tmp_path)
    assert (study.study_id, study.flags) == ("TCGA_A_1", ())


@pytest.mark.slow
def test_nifti_goes_before_dicom_before_pictures(tmp_path: Path) -> None:
    folder = write_head(tmp_path, shuffled_names=True)
    (candidate,) = find(folder, Limits())
    assert isinstance(candidate, DicomCandidate)
    write_tree(folder, "preview_1.png")
    study = read_path(folder)
    assert study.kind == "dicom"
    assert "FILES_IGNORED" in codes_of(study)
    write_tree(folder, "x_flair")
    assert read_path(folder).kind == "nifti"


def test_subfolders_with_studies_are_flagged(tmp_path: Path) -> None:
    write_tree(tmp_path, "flair preview.png")
    (tmp_path / "notes").mkdir()
    study = read_path(tmp_path)
    assert codes_of(study)[:1] == ["FILES_IGNORED"]
    # What is looked into and holds nothing is not worth a word; a study there is.
    assert "SUBFOLDERS_IGNORED" not in codes_of(study)
    write_tree(tmp_path, "notes/p_flair")
    assert codes_of(read_path(tmp_path))[:2] == ["FILES_IGNORED", "SUBFOLDERS_IGNORED"]
    assert sources(tmp_path) == [tmp_path.name, "notes"]
    for candidate in find(tmp_path, Limits()):
        assert "SUBFOLDERS_IGNORED" not in codes_of(candidate.read(Options()))


@pytest.mark.parametrize(
    ("names", "rows", "errors"),
    [
        ("good/flair !bad/flair", "bad good", {"bad": "flair"}),
        # Where folders of patients lie, a damaged file fails under its own name.
        (
            "a/a_1.png site/c/c_1.png !thumb.jpg !site/empty.png",
            "thumb.jpg a site/empty.png site/c",
            {"thumb.jpg": r"named \.jpg.*\(thumb\.jpg\)"},
        ),
        ("!site/flair site/notes/", "site/flair.nii.gz", {"": r"\(site/flair\.nii\.gz\)"}),
        # A file costs the study that its name says, or that in whose folder it is.
        (
            "a_flair a_t1 b_flair !b_t1 !c_flair c_t1 !thumb.jpg !stray",
            "a b c stray.nii.gz",
            {"b": "b_t1", "c": "c_flair"},
        ),
        ("a/a_{1-2}.tif !a/flair a/old/ b/b_1.tif", "a b", {"a": r"\(flair\.nii\.gz\)"}),
        ("A_{1-2}.png B_1.png !B_2.png", "A B", {"B": r"B_2\.png"}),
        ("p1/FLAIR/a !p1/T1/a", "p1", {"p1": r"T1/a\.nii\.gz"}),
        ("p1/FLAIR/a p1/T1/a !p1/T2/a", "p1", {}),
        # A code before a number may be a patient's; what is surely another sequence costs nothing.
        (
            "p1_flair p2_flair !CT_12 !p5_t1_flair !PD_003 !p1_t2 !p2_adc !dwi",
            "p1 p2 CT_12.nii.gz p5_t1_flair.nii.gz PD_003.nii.gz",
            {},
        ),
    ],
)
def test_a_bad_file_costs_only_its_study(
    names: str, rows: str, errors: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    write_tree(root, names)
    assert sources(root) == rows.split()
    for name, text in errors.items():
        with pytest.raises(DamagedInputError, match=text):
            read_path(root / name)
    for candidate in find(root, Limits()):
        if candidate.source not in errors and "" not in errors and "." not in candidate.source:
            assert candidate.read(Options()).sequences


def test_damaged_files_of_other_sequences_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path, "p1_flair p2_flair !CT_12 !p1_t2 !dwi")
    for name in ("p1", "p2"):
        (note,) = (
            note for note in read_path(tmp_path / name).flags if note.code == "FILES_IGNORED"
        )
        assert all(file in note.message for file in ("CT_12.nii.gz", "dwi.nii.gz", "p1_t2.nii.gz"))


def test_what_may_not_be_read_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, "a/a_1.png b/b_1.png !thumb.jpg")

    def refusing(really: Any, name: str) -> Any:
        def call(path: Any, *more: Any) -> Any:
            if str(path).endswith(name):
                raise PermissionError(13, "Permission denied")
            return really(path, *more)

        return call

    monkeypatch.setattr(os, "open", refusing(os.open, "thumb.jpg"))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, "b"))
    assert sources(tmp_path) == ["thumb.jpg", "a", "b"]
    assert read_path(tmp_path / "a").study_id == "a"
    for name in ("thumb.jpg", "b"):
        with pytest.raises(NothingReadableError, match=rf"no permission to read \({name}\)"):
            read_path(tmp_path / name)


def test_links(tmp_path: Path) -> None:
    """Circles end; links lead neither up nor into another file system; to a patient elsewhere they do."""
    write_tree(tmp_path, "elsewhere/P/flair root/Q/flair")
    root = tmp_path / "root"
    targets = {"up": tmp_path, "top": Path("/"), "proc": Path("/proc"), "self": Path("self")}
    for name, target in (*targets.items(), ("Q/round", root), ("again", root / "Q")):
        (root / name).symlink_to(target)
    (root / "R").symlink_to(tmp_path / "elsewhere" / "P")
    assert sources(root) == ["again", "R"]  # a folder counts once, where it is first seen


def test_a_folder_of_results_says_so(tmp_path: Path) -> None:
    (tmp_path / "p-gliosight").mkdir()
    (tmp_path / "studies.csv").touch()
    words = "no study there, but results of gliosight: 1 folder, 1 .csv"
    with pytest.raises(NothingReadableError, match=words):
        sources(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    write_tree(tmp_path, "masks/ sub/")
    (tmp_path / "flair.nii.gz").symlink_to(".git/annex/objects/XX/YY/MD5E-s1--0.nii.gz")
    words = "2 folders, 1 git-annex link without content, 1 folder of masks"
    for name, text in (("", words), ("flair.nii.gz", "datalad get"), ("C", "no such file")):
        with pytest.raises(NothingReadableError, match=text):
            sources(tmp_path / name)


@pytest.mark.parametrize("pattern", ["p#_{} flair t1 t1ce", "p#_flair_{}.png 1 2 3"])
def test_each_file_is_opened_once_to_find_it_and_once_to_read_it(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many studies share a folder: opens for each file do not grow with the others."""
    name, *parts = pattern.split()
    names = [name.format(part).replace("#", str(case)) for case in range(12) for part in parts]
    write_tree(tmp_path, " ".join(names))
    opens: Counter[str] = Counter()
    really_open = os.open

    def counted(path: Any, *more: Any, **named: Any) -> int:
        opens[Path(path).name] += 1
        return really_open(path, *more, **named)

    monkeypatch.setattr(os, "open", counted)
    candidates = find(tmp_path, Limits())
    assert (len(candidates), len(opens), set(opens.values())) == (12, 36, {1})
    for candidate in candidates:
        candidate.read(Options())
    assert set(opens.values()) == {2}


# Files -> studies by source with what they read ("*": no file is lost) | the code of what is left out.
FOLDERS = """
# A folder for each sequence; numbered, with NIFTI below (Erasmus); an archive's (XNAT); numbers below scans.
p1/FLAIR/a p1/T1/b p1/T1wCE/c p1/T2w/d -> p1: FLAIR T1 T1C
p1/1_T1/NIFTI/a p1/2_T1GD/NIFTI/a p1/4_FLAIR/NIFTI/a p1/5_MASK/NIFTI/MASK -> p1: FLAIR T1 T1C | FILES_IGNORED
p1/scans/4-FLAIR/resources/NIFTI/files/image p1/scans/5-T1/resources/NIFTI/files/image -> p1/scans: FLAIR T1
S/SCANS/4/NIFTI/flair S/SCANS/5/NIFTI/t1 -> S/SCANS: FLAIR T1
p1/FLAIR/Image-{1-2}.png p1/T1w/Image-{1-2}.png -> p1: FLAIR T1
p/FLAIR/p_flair.png p/T1/p_t1.png -> p: FLAIR T1
# Twice FLAIR; two folders of FLAIR pictures are two studies; two folders of T1 pictures.
p1/3_FLAIR/image p1/4_T1/image p1/9_FLAIR_post/image -> p1: FLAIR T1
p/3_FLAIR/1.png p/9_FLAIR/1.png p/4_T1/1.png -> p/3_FLAIR: FLAIR; p/9_FLAIR: FLAIR | T1_LEFT_OUT
p1/FLAIR/1.png p1/3_T1/1.png p1/7_T1/1.png -> p1: FLAIR | T1_LEFT_OUT
# Two patients, each with folders; a sequence's folder for all of them; one folder for all.
p1/FLAIR/a p1/T1/a p2/FLAIR/a p2/T1/a -> p1: FLAIR T1; p2: FLAIR T1
FLAIR/p1 FLAIR/p2 T1/p1 T1/p2 -> p1: FLAIR T1; p2: FLAIR T1
a_flair a_t1 b_flair b_t1 -> a: FLAIR T1; b: FLAIR T1
FLAIR anna_FLAIR anna_T1 -> anna: FLAIR T1; FLAIR: FLAIR
# Names of folders that tell patients apart.
p1_FLAIR/{1-2}.png p2_FLAIR/{1-2}.png -> p1_FLAIR: FLAIR; p2_FLAIR: FLAIR
Lesion_01/a Lesion_02/a Control_01/a -> Control_01: FLAIR; Lesion_01: FLAIR; Lesion_02: FLAIR
MRI_01/flair MRI_02/flair -> MRI_01: FLAIR; MRI_02: FLAIR
FLAIR/scan_01/img FLAIR/scan_02/img -> FLAIR/scan_01: FLAIR; FLAIR/scan_02: FLAIR
CT_12/flair CT_12/t1 CT_13/flair -> CT_12: FLAIR T1; CT_13: FLAIR
# Time points called like sequences; and sequences whose files say so, too.
P/T1/FLAIR P/T1/T1w P/T2/FLAIR P/T2/T1w -> P/T1: FLAIR T1; P/T2: FLAIR T1
P/T1/a_T1w P/T2/a_T2w P/FLAIR/a_FLAIR -> P: FLAIR T1
# A file's own name goes before its folder's.
p1/T1/p_flair p1/T1/p_t1 -> p1/T1: FLAIR T1
p/T1/flair_{1-2}.png p/T1/t1_{1-2}.png -> p/T1: FLAIR T1
# Files of one name in several folders; a folder and a file of one name.
FLAIR/x/a FLAIR/x/b FLAIR/y/a FLAIR/y/b FLAIR/z/a FLAIR/z/b -> *
FLAIR/p1 FLAIR_p1 FLAIR/p2 -> *
A_flair B_flair T1/A T1_A -> *
# Numbers of series in the names of pictures; the word of their folder; the number in that word.
p1/FLAIR/IM-0004-000{1-2}.png p1/T1/IM-0005-000{1-2}.png -> p1: FLAIR T1
p/FLAIR/flair_00{1-3}.png p/T1/t1_00{1-3}.png -> p: FLAIR T1
p/FLAIR/flair{1-3}.png p/T1wCE/t1w{1-3}.png -> p: FLAIR T1
# Pictures whose T1 lacks a slice, has other numbers, or is of somebody else.
p1/FLAIR/{1-2}.png p1/T1w/1.png -> p1: FLAIR | T1_LEFT_OUT
p/FLAIR/{1-3}.png p/T1/{21-23}.png -> p: FLAIR | T1_LEFT_OUT
p/FLAIR/anna_{1-3}.png p/T1/berta_{1-3}.png -> p: FLAIR | T1_LEFT_OUT
p/FLAIR/anna_{1-3}.png p/T1/anna_{1-3}.png p/T1/berta_1.png -> p: FLAIR T1 | FILES_IGNORED
# Pictures of two people in each folder, with and without numbers in common.
p/FLAIR/A_{1-6}.png p/FLAIR/B_{7-9}.png p/T1/A_{1-6}.png p/T1/B_{7-9}.png -> p/A: FLAIR T1; p/B: FLAIR T1
p/FLAIR/A_{1-3}.png p/FLAIR/B_{1-3}.png -> p/A: FLAIR; p/B: FLAIR
# Pictures of several sequences in one folder.
p/a_flair_{1-2}.png p/a_t1_{1-2}.png p/a_t1ce_{1-2}.png -> p: FLAIR T1 T1C
# Masks, previews, derivatives and other images.
images/a_{1-2}.png masks/a_1.png images_segm/a_2.png -> images: FLAIR | FILES_IGNORED
p1/FLAIR/{1-2}.png p1/T1/{1-2}.png p1/thumb.png -> p1: FLAIR T1 | FILES_IGNORED
p1/flair_{1-2}.png p1/T1/1.png -> p1: FLAIR | FILES_IGNORED
p/flair_{1-2}.png p/thumbs/flair_{1-2}.png -> p: FLAIR | FILES_IGNORED
p1/p_flair p1/thumbs/view.png logo.png p1/screen.png -> p1: FLAIR | FILES_IGNORED
p/FLAIR p/old/a p/x-segmentation/warped/a p/follow_up/FLAIR -> p: FLAIR; p/follow_up: FLAIR | FILES_IGNORED
DSC/p1/p1_DSC structural/p1/p1_FLAIR structural/p1/p1_T1 -> structural/p1: FLAIR T1
p1/p_flair p2/flair_{1-2}.png -> p1: FLAIR; p2: FLAIR
# BIDS; what a run of ours has written.
s/x.json s/sub-1/anat/sub-1_FLAIR s/sub-1/func/sub-1_bold s/derivatives/a -> s/sub-1/anat: FLAIR
p/flair p-gliosight/overview.png out/overview.png out/result.json out/report.html -> p: FLAIR
"""


@pytest.mark.parametrize("row", [row for row in FOLDERS.splitlines() if row and row[0] != "#"])
def test_folders_say_what_belongs_together(row: str, tmp_path: Path) -> None:
    names, _, result = row.partition(" -> ")
    result, _, code = result.partition(" | ")
    write_tree(tmp_path, names)
    candidates = find(tmp_path, Limits())
    ids = [candidate.study_id for candidate in candidates]
    assert len(set(ids)) == len(ids)
    if result == "*":
        assert sum(len(candidate.files) for candidate in candidates) == len(names.split())  # type: ignore[attr-defined]
        return
    expected = dict(study.split(": ") for study in result.split("; "))
    assert [candidate.source for candidate in candidates] == list(expected)
    for candidate in candidates:
        study = candidate.read(Options())
        assert {name.value for name in study.sequences} == set(expected[candidate.source].split())
        assert {"T1_LEFT_OUT", "FILES_IGNORED"}.intersection(codes_of(study)) == {*code.split()}
        assert not {"T1_LEFT_OUT", "T1_MISSING"}.issubset(codes_of(study))
        seen = candidate.describe(Limits())
        assert {note.code for note in seen.flags}.issuperset(code.split())
        assert {row.taken_as for row in seen.series} - {None} >= {"FLAIR"}
        assert seen.error is None


@pytest.mark.parametrize(
    ("name", "content"), [("scan.zip", b"PK\5\6" + bytes(18)), ("FLAIR.nrrd", b"NRRD0004\n")]
)
def test_a_folder_of_a_format_that_is_not_read_has_its_row(
    name: str, content: bytes, tmp_path: Path
) -> None:
    write_tree(tmp_path, "p2/FLAIR")
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


@pytest.mark.parametrize(
    ("name", "says", "levels"),
    [
        ("p/T2w/a.png", "T2", 3),
        ("p/T1wCE/a.png", "T1C", 3),
        ("p/T1/NIFTI/a", "T1", 3),
        ("p/T2_old/x", "T2", 2),  # what lies above a given folder says less
        ("T1/p/01.png", "T1", 1),
        ("T1/001/01.png", "T1", 1),
    ],
)
def test_a_folder_of_another_sequence_is_not_flair(
    name: str, says: str, levels: int, tmp_path: Path
) -> None:
    write_tree(tmp_path, name)
    for path in (tmp_path, tmp_path / "p", (tmp_path / name).parent)[:levels]:
        with pytest.raises(UnsupportedInputError, match=rf"no FLAIR.*\b{says}\b"):
            read_path(path)


@pytest.mark.parametrize(
    ("names", "assumed"),
    [
        ("IMG_1.png", True),
        ("x/{1-2}.png", True),
        ("x/flair_1.png", False),
        ("FLAIR/{1-2}.png", False),
        ("P/P_1.tif", False),  # the layout of the LGG set
        ("Q/P_1.tif", True),
        ("p/volume", True),
        ("FLAIR_study/p1/scan", True),
        ("FLAIR/p1/scan", False),
        ("4_FLAIR/p1/NIFTI/scan", False),
    ],
)
def test_what_says_no_sequence_is_flagged(names: str, assumed: bool, tmp_path: Path) -> None:
    """From wherever a file is found."""
    write_tree(tmp_path, f"data/{names}")
    file = next(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    above = [path for path in file.parents if path.is_relative_to(tmp_path)]
    for path in (*above, file) if file.suffix == ".gz" else above:
        assert ("SEQUENCE_ASSUMED" in codes_of(read_path(path))) is assumed


@pytest.mark.parametrize(
    ("folder", "study_id"),
    [
        ("p7/4_FLAIR/NIFTI", "p7"),
        ("p7/scans", "p7"),
        ("sub-7/ses-2/anat", "sub-7_ses-2"),
        ("p7", "p7"),
    ],
)
def test_a_study_is_called_by_a_folder_that_tells_it_from_others(
    folder: str, study_id: str, tmp_path: Path
) -> None:
    write_tree(tmp_path, f"{folder}/flair")
    for path in (tmp_path, tmp_path / folder):
        (candidate,) = find(path, Limits())
        assert candidate.read(Options()).study_id == study_id


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("a/b/flair c/b/flair a_b/flair", ["a_b", "a_b-2", "c_b"]),
        ("pt/FLAIR/a pt/flair_{1-2}.png", ["pt", "pt-2"]),
        ("P1/flair x/p1/flair", ["P1", "x_p1"]),
        ("\u00e9/flair x/e\u0301/flair", ["x_e\u0301", "\u00e9"]),
    ],
)
def test_no_two_studies_have_one_name(names: str, ids: list[str], tmp_path: Path) -> None:
    """Also where only a file system that tells case or accents apart would see two."""
    write_tree(tmp_path / "root", names)
    assert sorted(candidate.study_id for candidate in find(tmp_path / "root", Limits())) == ids


def test_files_are_counted_over_all_folders(tmp_path: Path) -> None:
    write_tree(tmp_path, "a/a_{1-5}.png b/b_{1-5}.png c/c_{1-5}.png")
    assert len(find(tmp_path, Limits(members=18))) == 3
    with pytest.raises(LimitExceededError, match="--max-members"):
        find(tmp_path, Limits(members=17))


def test_a_folder_called_like_the_one_above_is_another(tmp_path: Path) -> None:
    write_tree(tmp_path, "A/A/flair A/B/flair")
    with pytest.raises(UnsupportedInputError, match=r"2 studies \(A, B\)"):
        read_path(tmp_path / "A")
    write_tree(tmp_path, "A/flair")
    assert "SUBFOLDERS_IGNORED" in codes_of(read_path(tmp_path / "A"))


@pytest.mark.parametrize(
    "names",
    [
        "p1/flair p2/flair",
        "p1_flair p1_t1 p2_flair",
        "FLAIR/p1 FLAIR/p2 T1/p1",
        "p1_flair p2_flair p1/flair",
        "A_{1-2}.png B_1.png",
        "FLAIR/A_1.png FLAIR/B_1.png T1/A_1.png",
        "p/3_FLAIR/1.png p/9_FLAIR/1.png",
        "!bad p1/flair p2/flair",
    ],
)
def test_what_the_error_for_several_studies_proposes_works(names: str, tmp_path: Path) -> None:
    write_tree(tmp_path, names)
    with pytest.raises(UnsupportedInputError, match="studies") as raised:
        read_path(tmp_path)
    assert read_path(Path(str(raised.value.remedy).partition("as in ")[2])).shape[1:] == (24, 20)


@pytest.mark.slow
def test_several_dicom_studies_of_one_folder_or_zip(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for seed in (2, 3):
        folder = write_head(tmp_path / f"made{seed}", seed)
        for number, path in enumerate(filter(Path.is_file, sorted(folder.rglob("*")))):
            path.rename(tmp_path / "flat" / f"{seed}_{number}.dcm")
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "flat")
    for path, name in ((tmp_path / "flat", "flat"), (Path(archive), archive)):
        with pytest.raises(UnsupportedInputError, match=rf"2 studies.*\({path.name}\)") as raised:
            read_path(path)
        assert raised.value.remedy == f"read all of them with: gliosight analyze {name}"


@pytest.mark.slow
def test_dicom_studies_come_in_the_order_of_their_folders(tmp_path: Path) -> None:
    places = [f"export/{name}" for name in ("p1", "p2", "p10")]
    for seed, place in enumerate(places, start=2):
        write_head(tmp_path / place, seed)
    found = find(tmp_path / "export", Limits())
    assert [candidate.source.split("/")[0] for candidate in found] == ["p1", "p2", "p10"]


def test_a_dicom_study_given_twice_is_one(tmp_path: Path) -> None:
    folder = write_head(tmp_path / "p")
    write_tree(tmp_path, "q/flair p/masks/1.png")
    candidates = [*find(folder, Limits()), *find(tmp_path, Limits())]
    assert len(candidates) == 3
    joined = [candidate.title for candidate, _ in join(candidates)]
    assert sorted(joined) == sorted([candidates[0].title, "q"])
    assert [note.message for note in candidates[2].flags] == [
        "Folders of masks, previews or derivatives beside the images were not read: masks."
    ]
