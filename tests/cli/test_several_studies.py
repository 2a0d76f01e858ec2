"""analyze on several studies: their folders, their table, and the ones that fail."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gliosight.cli import run
from gliosight.errors import printable
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.pipeline import HEADER
from tests.support.dicom_phantom import write_dicom

from .asserting import error_line


def test_several_studies_one_of_them_bad(
    study: Path, thin: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_lgg(thin, tmp_path / "lgg")
    renamed = other.rename(other.with_name("second"))
    missing = tmp_path / "missing\x1b[31m"
    out = tmp_path / "out"
    assert run(["analyze", str(study), str(missing), str(renamed), "-o", str(out)]) == 3
    captured = capsys.readouterr()
    assert "2 of 3 studies" in captured.out
    assert "\x1b" not in captured.err + captured.out
    rows = list(csv.DictReader(io.StringIO((out / "studies.csv").read_text("utf-8"))))
    assert [one["status"] for one in rows] == ["tumour found", "tumour found", "error"]
    assert rows[2]["study_id"] == rows[2]["source"] == printable(missing.name)
    assert "no such file" in rows[2]["error"]
    assert "\x1b" not in rows[2]["error"]
    # As seen from the table, so that both can be moved together.
    assert [row["out"] for row in rows] == [f"{study.name}-gliosight", "second-gliosight", ""]
    assert all((out / row["out"] / "report.html").is_file() for row in rows[:2])


def test_a_folder_of_studies_is_several(
    thin: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        write_nifti(thin, root).rename(root / name)
    assert run(["analyze", str(root), "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["study_id"] for one in printed["studies"]] == ["a", "b"]
    assert printed["errors"] == []


def _failed(out: Path) -> list[tuple[str, str]]:
    """Name and error of every study that the table says has failed."""
    rows = csv.DictReader(io.StringIO((out / "studies.csv").read_text("utf-8")))
    return [(one["study_id"], one["error"]) for one in rows if one["status"] == "error"]


def test_a_bad_file_beside_patients_costs_only_itself(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        write_nifti(thin, root).rename(root / name)
    (root / "stray.nii").write_bytes(b"no image")
    (root / "thumb.jpg").write_bytes(b"no picture")  # ignored among NIfTI studies
    assert run(["analyze", str(root), "-o", str(out)]) == 4
    captured = capsys.readouterr()
    assert "2 of 3 studies" in captured.out
    assert "(stray.nii)" in captured.err
    assert sorted(one.name for one in out.iterdir()) == [
        "a-gliosight",
        "b-gliosight",
        "studies.csv",
    ]
    ((name, error),) = _failed(out)
    assert name == "stray.nii"
    assert "named .nii" in error


def test_a_study_that_fails_is_named_by_its_place(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A BIDS folder's own name is ``anat``: that of all of them."""
    root, out = tmp_path / "root", tmp_path / "out"
    for subject in ("sub-01", "sub-02"):
        made = write_nifti(thin, tmp_path / "made")
        (root / subject / "ses-1").mkdir(parents=True)
        made.rename(root / subject / "ses-1" / "anat")
    bad = root / "sub-02" / "ses-1" / "anat"
    flair = next(bad.glob("*_flair.nii.gz"))
    flair.with_suffix("").write_bytes(flair.read_bytes())  # once more, as .nii
    assert run(["analyze", str(root), "-o", str(out)]) == 5
    ((name, error),) = _failed(out)
    assert name == "sub-02/ses-1/anat"
    assert "(sub-02/ses-1/anat)" in error
    assert "(sub-02/ses-1/anat)" in capsys.readouterr().err
    # Also where it is the only one, and where several paths were given.
    assert run(["analyze", str(root / "sub-02"), "-o", str(out / "x")]) == 5
    assert "(ses-1/anat)" in error_line(capsys)
    flair.write_bytes(b"no image")
    assert run(["analyze", str(root), str(bad), "-o", str(tmp_path / "both")]) == 4
    capsys.readouterr()
    found = _failed(tmp_path / "both")
    assert [one for one, _ in found] == ["root/sub-02/ses-1/anat", "anat"]
    assert f"(root/sub-02/ses-1/anat/{flair.name})" in found[0][1]
    assert f"(anat/{flair.name})" in found[1][1]


def test_a_place_is_told_once(
    study: Path,
    tmp_path: Path,
    no_network: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a_flair.nii.gz").write_bytes(b"no image")
    (tmp_path / "flat" / "b_flair.nii.gz").write_bytes(b"no image")
    (tmp_path / "single.tif").write_bytes(b"II*\0")
    (tmp_path / "empty").mkdir()
    given = ["sl/nonexist", "flat", "flat/a", "single.tif", "empty"]
    assert run(["analyze", str(study), *given, "-o", "out"]) == 3
    capsys.readouterr()
    places = [error.split(" (", 1)[1].split("):")[0] for _, error in _failed(tmp_path / "out")]
    assert places == [
        "sl/nonexist",
        "empty",
        "flat/a_flair.nii.gz",
        "flat/b_flair.nii.gz",
        "flat/a_flair.nii.gz",
        "single.tif",
    ]
    really_stat = Path.stat

    def forbid(path: Path, **options: Any) -> os.stat_result:
        if path.name == "x.tif":
            raise PermissionError(13, "Permission denied")
        return really_stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbid)
    assert run(["analyze", "perm/no/x.tif"]) == 3
    assert "no permission to read (perm/no/x.tif):" in error_line(capsys)


def test_an_output_in_the_way_is_no_place_in_the_input(
    study: Path, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        shutil.copytree(study, root / "deep" / name)
    (out / "b-gliosight").mkdir(parents=True)
    (out / "b-gliosight" / "mine.txt").touch()
    assert run(["analyze", str(root), "-o", str(out)]) == 7
    assert "is not empty (b-gliosight):" in capsys.readouterr().err
    assert [one for one, _ in _failed(out)] == ["deep/b"]


def test_a_table_is_not_replaced_unasked(
    study: Path, thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    second = write_lgg(thin, tmp_path / "lgg")
    second = second.rename(second.with_name("second"))
    call = ["analyze", str(study), str(second), "-o", str(tmp_path / "out")]
    table = tmp_path / "out" / "studies.csv"
    table.parent.mkdir()
    table.write_text("my,own\n")
    for more in ([], ["--overwrite"]):
        assert run([*call, *more]) == 7
        assert "studies.csv" in error_line(capsys)
        assert table.read_text() == "my,own\n"
        assert list(table.parent.iterdir()) == [table]
    table.unlink()
    assert run([*call, "-q"]) == 0
    assert table.read_text("utf-8").splitlines()[0] == ",".join(HEADER)
    before = table.read_bytes()
    assert run([*call, "-q"]) == 7
    assert run([*call, "-q", "--overwrite"]) == 0
    assert table.read_bytes() == before


def test_two_studies_of_one_name_do_not_overwrite_each_other(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (write_lgg(thin, tmp_path / name) for name in ("a", "b"))
    out = tmp_path / "out"
    assert run(["analyze", str(one), str(two), "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folders = [Path(each["out"]).name for each in printed["studies"]]
    assert folders == [f"{one.name}-gliosight", f"{one.name}-2-gliosight"]
    assert all((out / name / "report.html").is_file() for name in folders)
    assert printed["errors"] == []


def test_a_result_is_joined_to_its_folder_by_its_source(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """UIDs stay digests in names; where a study lies is in the table and the result, or in the name."""
    root = tmp_path / "root"
    other = make_phantom(PhantomSpec(seed=3, slices=5))
    for name, head in (("p1", thin), ("p2", other)):
        made = write_dicom(head, tmp_path / "made")
        root.mkdir(exist_ok=True)
        made.rename(root / name)
    for options, names in (
        (["--name-by", "folder"], ["p1-gliosight", "p2-gliosight"]),
        ([], None),
    ):
        out = tmp_path / f"out{len(options)}"
        assert run(["analyze", str(root), "-o", str(out), "--json", *options]) == 0
        studies = json.loads(capsys.readouterr().out)["studies"]
        assert sorted(one["source"]["path"] for one in studies) == ["p1", "p2"]
        folders = sorted(Path(one["out"]).name for one in studies)
        assert folders == (names or sorted(f"{one['study_id']}-gliosight" for one in studies))
        rows = list(csv.DictReader(io.StringIO((out / "studies.csv").read_text("utf-8"))))
        assert sorted(row["source"] for row in rows) == ["p1", "p2"]


def test_studies_of_one_name_below_several_paths(
    study: Path, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is called by the way to it, and a folder's name in a path is not taken for the path itself."""
    for place in ("X/p1", "Y/P1", "Z/Z"):
        shutil.copytree(study, tmp_path / place)
    paths = [str(tmp_path / name) for name in "XYZ"]
    assert run(["analyze", *paths, "-o", str(tmp_path / "out"), "--json"]) == 0
    studies = json.loads(capsys.readouterr().out)["studies"]
    assert [one["study_id"] for one in studies] == ["X_p1", "Y_P1", "Z"]
    assert [one["source"]["path"] for one in studies] == ["X/p1", "Y/P1", "Z/Z"]
    names = [Path(one["out"]).name for one in studies]
    assert names == ["X_p1-gliosight", "Y_P1-gliosight", "Z-gliosight"]


def test_result_folders_that_differ_in_case_are_numbered(
    study: Path, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some file systems take them for one."""
    for place in ("p1", "P1"):
        shutil.copytree(study, tmp_path / "root" / place)
    call = ["analyze", str(tmp_path / "root"), "--name-by", "folder", "-o", str(tmp_path / "out")]
    assert run([*call, "--json"]) == 0
    studies = json.loads(capsys.readouterr().out)["studies"]
    names = sorted(Path(one["out"]).name for one in studies)
    assert len({name.lower() for name in names}) == 2


def test_inspect_names_its_own_limits(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(study), "--pixels", "--max-decoded", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "with --max-decoded" in printed
    assert "analyze --max-decoded" not in printed
