"""analyze on one study, on several, and on zips: files, words, refusals, and bugs of ours."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gliosight import pipeline
from gliosight.archive.entries import ALL_FAILED, SOME_FAILED
from gliosight.archive.ledger import FOLDER
from gliosight.archive.table import HEADER
from gliosight.errors import printable
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from tests.support.dicom_phantom import write_dicom

from .conftest import Call

TEMPORARY = "gliosight-unpacked"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(out: Path) -> list[dict[str, str]]:
    """The table of all studies."""
    return list(csv.DictReader(io.StringIO((out / "studies.csv").read_text("utf-8"))))


def failed(out: Path) -> list[tuple[str, str]]:
    """Name and error of every study that the table says has failed."""
    return [(row["study_id"], row["error"]) for row in rows(out) if row["status"] == "error"]


def write_as(phantom: Phantom, folder: Path, write: Any = write_nifti) -> Path:
    """A study of this folder's name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(write(phantom, folder.parent).rename(folder))


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_json_is_the_result_and_quiet_is_quiet(study: Path, tmp_path: Path, call: Call) -> None:
    printed = call("analyze", study, "-o", tmp_path / "a", "--json").value
    stored = json.loads((tmp_path / "a" / "result.json").read_text("utf-8"))
    assert {**stored, "out": str(tmp_path / "a")} == printed
    done = call("analyze", study, "-o", tmp_path / "b", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_the_summary_says_what_was_found(study: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out\x1b[2J"
    done = call("analyze", study, "-o", out)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    result = json.loads((out / "result.json").read_text("utf-8"))
    for words in (
        result["study_id"],
        "tumour found",
        f"{result['volume_ml']:.1f} ml",
        "finding 1: left",
        "52 x 39 mm",
        "Research use only",
        "out\\x1b[2J/report.html",
    ):
        assert words in done.out, words


@pytest.mark.slow
def test_a_prevalence_gives_the_probability_for_it(study: Path, tmp_path: Path, call: Call) -> None:
    chances = []
    for prevalence in ("0.05", "0.95"):
        out = tmp_path / prevalence
        printed = call("analyze", study, "-o", out, "--prevalence", prevalence, "--json").value
        assert printed["detection"]["prevalence"] == float(prevalence)
        assert printed["provenance"]["settings"]["prevalence"] == float(prevalence)
        chances.append(printed["detection"]["probability"])
    assert chances[0] < chances[1] - 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_the_folder_is_named_after_the_study(
    study: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("analyze", study, "-q").code == 0
    assert names(tmp_path) == [f"{study.name}-gliosight"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_name_with_control_characters_reaches_no_terminal(
    thin: Phantom, tmp_path: Path, call: Call
) -> None:
    name = "evil\x1b]0;title\x07\n\u202ename"
    folder = write_as(thin, tmp_path / "lgg" / name, write_lgg)
    printed = call("analyze", folder, "-o", tmp_path / "out").out
    assert "evil\\x1b]0;title\\x07\\n\\u202ename" in printed
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    # In the file it is what it is.
    assert json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))["study_id"] == name


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_t1_beside_one_flair_file(study: Path, tmp_path: Path, call: Call) -> None:
    flair, t1 = (next(study.glob(f"*_{name}.nii.gz")) for name in ("flair", "t1"))
    printed = call("analyze", flair, "--t1", t1, "-o", tmp_path / "o", "--json").value
    assert {flag["code"] for flag in printed["flags"]} == {"T1C_MISSING"}
    # A STUDY is judged by its name, unlike what --flair names.
    done = call("analyze", t1, "--t1", t1, "-o", tmp_path / "p")
    assert (done.code, "no FLAIR" in done.error) == (5, True)


def test_an_output_in_the_way_is_refused_before_any_work(
    study: Path, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "mine.txt").touch()
    done = call("analyze", study, "-o", tmp_path)
    assert (done.code, "-o" in done.error) == (7, True)
    assert call("demo", "-o", tmp_path, "--overwrite").code == 7


@pytest.mark.usefixtures("no_network")
def test_a_bug_of_ours_is_one_line_with_its_place_and_70(
    study: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "check_out", lambda *_, **__: json.loads("no json"))
    arguments = ("analyze", study, "-o", tmp_path / "a")
    done = call(*arguments)
    assert done.code == 70
    assert "JSONDecodeError" in done.error
    assert "(cli/analyze.py:" in done.error  # and no folder of this machine
    assert "please report" in done.error
    assert "Traceback" in call(*arguments, "--debug").err
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_an_interrupt_leaves_nothing(
    study: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_report", interrupt)
    assert call("analyze", study, "-o", tmp_path / "a").code == 130
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_several_studies_one_of_them_bad(
    study: Path, thin: Phantom, tmp_path: Path, call: Call
) -> None:
    second = write_as(thin, tmp_path / "lgg" / "second", write_lgg)
    missing, out = tmp_path / "missing\x1b[31m", tmp_path / "out"
    done = call("analyze", study, missing, second, "-o", out)
    assert done.code == SOME_FAILED
    assert "2 of 3 studies analysed, table:" in done.out
    assert "\x1b" not in done.err + done.out
    table = rows(out)
    assert [row["status"] for row in table] == ["tumour found", "tumour found", "error"]
    assert table[2]["study_id"] == table[2]["source"] == printable(missing.name)
    assert "no such file" in table[2]["error"]
    assert "\x1b" not in table[2]["error"]
    # As seen from the table, so that both can be moved together.
    assert [row["out"] for row in table] == [f"{study.name}-gliosight", "second-gliosight", ""]
    assert all((out / row["out"] / "report.html").is_file() for row in table[:2])


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_second_run_keeps_what_is_finished_and_tries_again_what_failed(
    study: Path, thin: Phantom, tmp_path: Path, call: Call
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        write_as(thin, root / name)
    broken = next((root / "b").glob("*_flair.nii.gz"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    first = call("analyze", root, "-o", out, "--json")
    assert first.code == SOME_FAILED
    (error,) = first.value["errors"]
    assert (error["study"], error["kind"], error["exit_code"]) == ("b", "damaged input", 4)
    made = (out / "a-gliosight" / "result.json").stat().st_mtime_ns
    broken.write_bytes(whole)
    done = call("analyze", root, study, "-o", out)
    assert (done.code, done.err) == (0, "")
    assert "3 of 3 studies analysed, 1 of them before, table:" in done.out
    # All that was asked for is said, also what was analysed before.
    assert done.out.count("tumour found\n") == 3
    assert (out / "a-gliosight" / "result.json").stat().st_mtime_ns == made
    printed = call("analyze", root, study, "-o", out, "--json").value
    assert [result["study_id"] for result in printed["studies"]] == ["a", "b", study.name]
    assert printed["studies"][0] == first.value["studies"][0]
    # The table and the page have what batch would write, and batch has nothing left to do.
    done = call("batch", root, study, "-o", out, "--json")
    assert (done.code, len(done.value["studies"])) == (0, 3)
    assert (out / "a-gliosight" / "result.json").stat().st_mtime_ns == made
    # Another choice of images is another result.
    done = call("analyze", root, study, "-o", out, "--volume", "0")
    assert (done.code, "other settings" in done.error) == (7, True)


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_folder_of_studies_with_a_bad_file(thin: Phantom, tmp_path: Path, call: Call) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        write_as(thin, root / name)
    printed = call("analyze", root, "-o", tmp_path / "good", "--json").value
    assert [result["study_id"] for result in printed["studies"]] == ["a", "b"]
    assert printed["errors"] == []
    (root / "stray.nii").write_bytes(b"no image")
    (root / "thumb.jpg").write_bytes(b"no picture")  # ignored among NIfTI studies
    done = call("analyze", root, "-o", out)
    assert done.code == SOME_FAILED
    assert "2 of 3 studies" in done.out
    assert "(stray.nii)" in done.err
    assert names(out) == [FOLDER, "a-gliosight", "b-gliosight", "index.html", "studies.csv"]
    ((name, error),) = failed(out)
    assert (name, "named .nii" in error) == ("stray.nii", True)


@pytest.mark.usefixtures("no_network")
def test_studies_that_all_fail_leave_no_table_where_none_was_asked_for(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("analyze", "no1", "no2")
    assert done.code == ALL_FAILED
    assert "0 of 2 studies analysed, nothing written" in done.out
    assert names(tmp_path) == []
    assert call("analyze", "no1", "no2", "-o", "out").code == ALL_FAILED
    assert [name for name, _ in failed(tmp_path / "out")] == ["no1", "no2"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_study_that_fails_is_named_by_its_place(
    thin: Phantom, tmp_path: Path, call: Call
) -> None:
    """A BIDS folder's own name is ``anat``: that of all of them."""
    root, out = tmp_path / "root", tmp_path / "out"
    for subject in ("sub-01", "sub-02"):
        bad = write_as(thin, root / subject / "ses-1" / "anat")
    flair = next(bad.glob("*_flair.nii.gz"))
    flair.with_suffix("").write_bytes(flair.read_bytes())  # once more, as .nii
    done = call("analyze", root, "-o", out)
    assert done.code == SOME_FAILED
    ((name, error),) = failed(out)
    assert name == "sub-02/ses-1/anat"
    assert "(sub-02/ses-1/anat)" in error
    assert "(sub-02/ses-1/anat)" in done.err
    # Also where it is the only one, and where several paths were given.
    done = call("analyze", root / "sub-02", "-o", out / "x")
    assert (done.code, "(ses-1/anat)" in done.error) == (5, True)
    flair.write_bytes(b"no image")
    bad = Path(shutil.copytree(bad, tmp_path / "elsewhere" / "anat"))
    assert call("analyze", root, bad, "-o", tmp_path / "both").code == SOME_FAILED
    (first, first_error), (second, second_error) = failed(tmp_path / "both")
    assert (first, second) == ("root/sub-02/ses-1/anat", "anat")
    assert f"(root/sub-02/ses-1/anat/{flair.name})" in first_error
    assert f"(anat/{flair.name})" in second_error


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_place_is_named_once(
    study: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flat/a_flair.nii.gz", "flat/b_flair.nii.gz"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"no image")
    Path("single.tif").write_bytes(b"II*\0")
    Path("empty").mkdir()
    paths = ["sl/nonexist", "flat", "flat/a", "single.tif", "empty"]
    assert call("analyze", study, *paths, "-o", "out").code == SOME_FAILED
    places = [error.split(" (", 1)[1].split("):")[0] for _, error in failed(Path("out"))]
    flat = [f"flat/{name}_flair.nii.gz" for name in "ab"]  # "flat/a" is one of those of "flat"
    assert places == [*flat, "single.tif", "sl/nonexist", "empty"]
    really_stat = Path.stat

    def forbid(path: Path, **options: Any) -> os.stat_result:
        if path.name == "x.tif":
            raise PermissionError(13, "Permission denied")
        return really_stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbid)
    assert "no permission to read (perm/no/x.tif):" in call("analyze", "perm/no/x.tif").error


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_of_several_outputs_one_in_the_way(study: Path, tmp_path: Path, call: Call) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        shutil.copytree(study, root / "deep" / name)
    (out / "b-gliosight").mkdir(parents=True)
    (out / "b-gliosight" / "mine.txt").touch()
    done = call("analyze", root, "-o", out)
    assert (done.code, "is not empty (b-gliosight):" in done.err) == (SOME_FAILED, True)
    assert [name for name, _ in failed(out)] == ["deep/b"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_table_is_not_replaced_unasked(
    study: Path, thin: Phantom, tmp_path: Path, call: Call
) -> None:
    second = write_as(thin, tmp_path / "lgg" / "second", write_lgg)
    arguments = ("analyze", study, second, "-q", "-o", tmp_path / "out")
    table = tmp_path / "out" / "studies.csv"
    table.parent.mkdir()
    table.write_text("my,own\n")
    for more in ([], ["--overwrite"]):
        done = call(*arguments, *more)
        assert (done.code, "studies.csv" in done.error) == (7, True)
        assert table.read_text() == "my,own\n"
        assert names(table.parent) == [table.name]
    table.unlink()
    assert call(*arguments).code == 0
    assert table.read_text("utf-8").splitlines()[0] == ",".join(HEADER)
    before = table.read_bytes()
    assert call(*arguments).code == 0
    assert table.read_bytes() == before
    assert call(*arguments, "--overwrite").code == 0
    assert table.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("places", "paths", "options", "folders", "sources"),
    [
        # Each is called by the way to it, and a folder's name in a path is not taken for the path itself.
        (["X/p1", "Y/P1", "Z/Z"], "XYZ", [], ["X_p1", "Y_P1", "Z"], ["X/p1", "Y/P1", "Z/Z"]),
        # Some file systems take these for one.
        (["r/P1", "r/p1"], "r", ["--name-by", "folder"], ["P1", "p1+2"], ["P1", "p1"]),
        (["a/p", "b/p"], ["a/p", "b/p"], [], ["p", "p-2"], ["p", "p"]),
    ],
)
def test_two_studies_of_one_name_do_not_overwrite_each_other(
    places: list[str],
    paths: str | list[str],
    options: list[str],
    folders: list[str],
    sources: list[str],
    study: Path,
    tmp_path: Path,
    call: Call,
) -> None:
    for place in places:
        shutil.copytree(study, tmp_path / place)
    given = [tmp_path / path for path in paths]
    printed = call("analyze", *given, "-o", tmp_path / "out", "--json", *options).value
    assert printed["errors"] == []
    out = [Path(result["out"]) for result in printed["studies"]]
    assert [
        folder.name.replace("-gliosight-", "+").removesuffix("-gliosight") for folder in out
    ] == folders
    assert [result["source"]["path"] for result in printed["studies"]] == sources
    assert all((folder / "report.html").is_file() for folder in out)


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_a_result_is_joined_to_its_folder_by_its_source(
    thin: Phantom, tmp_path: Path, call: Call
) -> None:
    """UIDs stay digests in names; where a study lies is in the table and the result, or in the name."""
    root = tmp_path / "root"
    for name, head in (("p1", thin), ("p2", make_phantom(PhantomSpec(seed=3, slices=5)))):
        write_as(head, root / name, write_dicom)
    for options, folders in (
        (["--name-by", "folder"], ["p1-gliosight", "p2-gliosight"]),
        ([], None),
    ):
        out = tmp_path / f"out{len(options)}"
        studies = call("analyze", root, "-o", out, "--json", *options).value["studies"]
        assert sorted(result["source"]["path"] for result in studies) == ["p1", "p2"]
        expected = folders or sorted(f"{result['study_id']}-gliosight" for result in studies)
        assert sorted(Path(result["out"]).name for result in studies) == expected
        assert sorted(row["source"] for row in rows(out)) == ["p1", "p2"]


def zipped(path: Path, *members: tuple[str, bytes], before: bytes = b"") -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    path.write_bytes(before + content.getvalue())
    return path


def members(study: Path, folder: str = "") -> list[tuple[str, bytes]]:
    return [(folder + path.name, path.read_bytes()) for path in sorted(study.iterdir())]


ARCHIVE = ("a/in.zip", b"PK\3\4" + bytes(9))
TAR = b"x.dcm".ljust(257, b"\0") + b"ustar\x0000".ljust(767, b"\0")
# What is in the zip beside or instead of a study: the code, and the words of the error.
REFUSED = {
    "empty": ([], 3, ["the archive is empty"]),
    "archives": ([ARCHIVE], 5, ["a/in.zip", "unpack it"]),
    "outside": ([("../a", b"1")], 3, ["leads outside", "unpack it yourself"]),
    "text and an archive": (
        [("readme.txt", b"1"), ARCHIVE],
        5,
        ["1 .txt", "1 archive in the archive", "give the archive in it, a/in.zip"],
    ),
    "two kinds of archives": (
        [("a.tar.gz", gzip.compress(TAR)), ("b.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99))],
        5,
        ["a.tar.gz", "unpack it first"],
    ),
    "text and a link": (
        [("readme.txt", b"1"), ("../a", b"1")],
        3,
        ["1 .txt", "1 member that leads outside"],
    ),
    "a damaged image": ([("x_flair.nii.gz", b"no image")], 4, ["x_flair.nii.gz"]),
    "another sequence": ([("deep/x_t2.dcm", b"no image")], 4, ["x_t2.dcm"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_zip_holds_is_told_without_temporary_names(
    case: str, tmp_path: Path, call: Call
) -> None:
    content, code, words = REFUSED[case]
    path = zipped(tmp_path / "export.zip", *content)
    done = call("analyze", path, "-o", tmp_path / "out")
    assert done.code == code
    assert TEMPORARY not in done.error
    assert all(done.error.count(word) == 1 for word in words)
    assert done.error.count("not unpacked") <= 1
    done = call("inspect", path, "--json")
    assert done.code in (code, 0)  # it lists what analyze refuses
    assert TEMPORARY not in done.out


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "before"),
    [("export.zip", b""), ("export.exe", b"MZ" + b"\x90" * 5000), ("export", b"#!/bin/sh\nexit\n")],
)
def test_a_study_is_called_like_its_zip(
    name: str,
    before: bytes,
    study: Path,
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    zipped(tmp_path / name, *members(study), before=before)
    printed = call("analyze", name, "--json").value
    assert (printed["study_id"], printed["out"]) == ("export", "export-gliosight")
    for path in Path(printed["out"]).iterdir():
        assert TEMPORARY.encode() not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("no_network")
def test_several_studies_of_a_zip(thin: Phantom, study: Path, tmp_path: Path, call: Call) -> None:
    content = [*members(study, "a\\"), *members(write_lgg(thin, tmp_path / "lgg"), "b/")]
    path = zipped(tmp_path / "export.zip", *content, ("c/x_flair.nii.gz", b"no image"))
    done = call("analyze", path, "-o", tmp_path / "out")
    assert done.code == SOME_FAILED
    assert "2 of 3 studies" in done.out
    assert "(c/x_flair.nii.gz)" in done.err
    table = (tmp_path / "out" / "studies.csv").read_text("utf-8")
    assert TEMPORARY not in done.out + done.err + table
    assert names(tmp_path / "out") == [
        FOLDER,
        "a-gliosight",
        "b-gliosight",
        "index.html",
        "studies.csv",
    ]


READING = """
import sys, time, tempfile
from gliosight.cli import locate, run

tempfile.tempdir = sys.argv[1]
if sys.argv[3] == "killed":
    def wait(*_, **__):
        print("unpacked", flush=True)
        time.sleep(600)
    locate.find = wait
sys.exit(run(["inspect", sys.argv[2]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX has them")
def test_the_next_run_removes_the_patients_data_of_a_killed_one(
    study: Path, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "export.zip", *members(study))
    place = tmp_path / "tmp"
    place.mkdir()
    script = [sys.executable, "-c", READING, str(place)]
    with subprocess.Popen([*script, str(path), "killed"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"unpacked\n"
        # Another run leaves it alone as long as this one lives.
        subprocess.run([*script, str(path), "whole"], check=True, capture_output=True)
        assert process.poll() is None
        assert len(list(place.rglob("*.nii.gz"))) == 4
        process.send_signal(signal.SIGKILL)
    assert len(list(place.rglob("*.nii.gz"))) == 4
    subprocess.run([*script, str(study), "whole"], check=True, capture_output=True)
    assert names(place) == []
