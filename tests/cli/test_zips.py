"""A zip as a user gives it: what it is called, what is said of it, and what is left of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gliosight.cli import run
from gliosight.phantom import Phantom, write_lgg

from .asserting import error_line

TEMPORARY = "gliosight-unpacked"
TAR = b"x.dcm".ljust(257, b"\0") + b"ustar\x0000".ljust(767, b"\0")


def _zip(path: Path, *members: tuple[str, bytes], before: bytes = b"") -> Path:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    path.write_bytes(before + held.getvalue())
    return path


def _members(study: Path) -> list[tuple[str, bytes]]:
    return [(one.name, one.read_bytes()) for one in sorted(study.iterdir())]


# What is in the zip beside or instead of a study: the code, and the words of the error.
REFUSED = {
    "empty": ([], 3, ["the archive is empty"]),
    "archives": ([("a/in.zip", b"PK\3\4" + bytes(9))], 5, ["a/in.zip", "unpack it"]),
    "outside": ([("../a", b"1")], 3, ["leads outside", "unpack it yourself"]),
    "text and an archive": (
        [("readme.txt", b"1"), ("a/in.zip", b"PK\3\4" + bytes(9))],
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
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members, code, words = REFUSED[case]
    path = _zip(tmp_path / "export.zip", *members)
    assert run(["analyze", str(path), "-o", str(tmp_path / "out")]) == code
    line = error_line(capsys)
    assert TEMPORARY not in line
    assert all(line.count(word) == 1 for word in words)
    assert line.count("not unpacked") <= 1
    assert run(["inspect", str(path), "--json"]) in (code, 0)  # it lists what analyze refuses
    assert TEMPORARY not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "before"),
    [("export.zip", b""), ("export.exe", b"MZ" + b"\x90" * 5000), ("export", b"#!/bin/sh\nexit\n")],
)
def test_a_study_is_called_like_its_zip(
    name: str,
    before: bytes,
    study: Path,
    tmp_path: Path,
    no_network: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _zip(tmp_path / name, *_members(study), before=before)
    assert run(["analyze", name, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["study_id"], printed["out"]) == ("export", "export-gliosight")
    for path in Path(printed["out"]).iterdir():
        assert TEMPORARY.encode() not in path.read_bytes()


def test_several_studies_of_a_zip(
    thin: Phantom,
    study: Path,
    tmp_path: Path,
    no_network: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slices = write_lgg(thin, tmp_path / "lgg")
    members = [(f"a\\{name}", data) for name, data in _members(study)]
    members += [(f"b/{name}", data) for name, data in _members(slices)]
    members += [("c/x_flair.nii.gz", b"no image")]
    path = _zip(tmp_path / "export.zip", *members)
    assert run(["analyze", str(path), "-o", str(tmp_path / "out")]) == 4
    captured = capsys.readouterr()
    assert "2 of 3 studies" in captured.out
    assert "(c/x_flair.nii.gz)" in captured.err
    table = (tmp_path / "out" / "studies.csv").read_text("utf-8")
    assert TEMPORARY not in captured.out + captured.err + table
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "a-gliosight",
        "b-gliosight",
        "studies.csv",
    ]


def test_a_program_that_is_no_archive_is_no_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "viewer.exe").write_bytes(b"MZ" + b"\x90" * 5000)
    assert run(["inspect", str(tmp_path / "viewer.exe")]) == 3
    assert "not an image" in capsys.readouterr().err


READING = """
import sys, time, tempfile
from pathlib import Path
from gliosight.cli import finding, run

tempfile.tempdir = sys.argv[1]
if sys.argv[3] == "killed":
    def wait(*_, **__):
        print("unpacked", flush=True)
        time.sleep(600)
    finding.find = wait
sys.exit(run(["inspect", sys.argv[2]]))
"""


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX has them")
@pytest.mark.parametrize("following", ["a zip", "a folder"])
def test_the_next_run_removes_the_patients_data_of_a_killed_one(
    following: str, study: Path, tmp_path: Path
) -> None:
    path = _zip(tmp_path / "export.zip", *_members(study))
    place = tmp_path / "tmp"
    place.mkdir()
    call = [sys.executable, "-c", READING, str(place), str(path)]
    with subprocess.Popen([*call, "killed"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"unpacked\n"
        # Another run leaves it alone as long as this one lives.
        done = subprocess.run([*call, "whole"], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert process.poll() is None
        assert len(list(place.rglob("*.nii.gz"))) == 4
        process.send_signal(signal.SIGKILL)
    assert len(list(place.rglob("*.nii.gz"))) == 4
    call[4:] = [str(path if following == "a zip" else study)]
    done = subprocess.run([*call, "whole"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert list(place.iterdir()) == []
