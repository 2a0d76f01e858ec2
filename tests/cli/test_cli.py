"""The command line: codes, lines and files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from gliosight import cli, pipeline
from gliosight.cli import COMMANDS, run
from gliosight.phantom import Phantom, write_lgg, write_nifti


@pytest.fixture(scope="module")
def study(small_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(small_phantom, tmp_path_factory.mktemp("nifti"))


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert captured.out == ""
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["analyze"], 2, "gliosight demo"),
        (["analyze", "--flair"], 2, "--help"),
        (["analyse", "x"], 2, "analyse"),
        (["analyze", "x", "--no-such"], 2, "--help"),
        (["analyze", "x", "--flair", "y"], 2, "one of them"),
        (["analyze", "--t1", "y"], 2, "--flair"),
        (["analyze", "no/such/place"], 3, "place"),
        (["demo", "--model", "nonesuch"], 8, "joint-1"),
        (["phantom", "-o", "x", "--radius", "900"], 2, "lesion_radius_mm"),
    ],
)
def test_wrong_calls_say_what_to_do(
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    assert words in _error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_unsupported_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a_flair.nii.gz").write_bytes(b"\x1f\x8b\x08garbage")
    assert run(["analyze", str(tmp_path / "a_flair.nii.gz")]) == 4
    assert "a_flair.nii.gz" in _error(capsys)
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    assert run(["analyze", str(tmp_path / "b.zip")]) == 5
    assert "unpack" in _error(capsys)


def test_an_error_is_an_object_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "no/such/place", "--json"]) == 3
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["exit_code"] == 3
    assert error["remedy"]
    assert captured.err == ""


def test_an_output_in_the_way_is_refused_before_any_work(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    assert run(["analyze", str(study), "-o", str(tmp_path)]) == 7
    assert "-o" in _error(capsys)
    assert run(["demo", "-o", str(tmp_path), "--overwrite"]) == 7


def test_json_is_the_result_and_quiet_is_quiet(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["analyze", str(study), "-o", str(tmp_path / "a"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "a" / "result.json").read_text("utf-8"))
    assert {**stored, "out": str(tmp_path / "a")} == printed
    assert run(["analyze", str(study), "-o", str(tmp_path / "b"), "-q"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_several_studies_one_of_them_bad(
    study: Path, small_phantom: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_lgg(small_phantom, tmp_path / "lgg")
    renamed = other.rename(other.with_name("second"))
    missing = tmp_path / "missing\x1b[31m"
    out = tmp_path / "out"
    assert run(["analyze", str(study), str(missing), str(renamed), "-o", str(out)]) == 3
    captured = capsys.readouterr()
    assert "2 of 3 studies" in captured.out
    assert "\x1b" not in captured.err + captured.out
    rows = list(csv.DictReader(io.StringIO((out / "studies.csv").read_text("utf-8"))))
    assert [one["status"] for one in rows] == ["tumour found", "tumour found", "error"]
    assert rows[2]["error"]
    for row in rows[:2]:
        assert (Path(row["out"]) / "report.html").is_file()
        assert Path(row["out"]).parent == out


def test_a_folder_of_studies_is_several(
    small_phantom: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        write_nifti(small_phantom, root).rename(root / name)
    assert run(["analyze", str(root), "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["study_id"] for one in printed["studies"]] == ["a", "b"]
    assert printed["errors"] == []


def test_a_bug_of_ours_is_one_line_and_70(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(pipeline, "analyze_study", fail)
    assert run(["analyze", str(study), "-o", str(tmp_path / "a")]) == 70
    assert "ZeroDivisionError: inside" in _error(capsys)
    assert run(["analyze", str(study), "-o", str(tmp_path / "a"), "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_interrupted_is_130(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_analysis", interrupt)
    assert run(["analyze", str(study), "-o", str(tmp_path / "a")]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"gliosight {command}" in capsys.readouterr().out
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert command in printed
    assert "Exit codes" in printed
    assert "Research use only" in printed


def test_models_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "joint-1 (default)" in capsys.readouterr().out
    assert run(["--version"]) == 0
    assert "gliosight" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["lgg", "nifti"])
def test_phantom_writes_both_kinds(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["phantom", "-o", str(tmp_path), "--format", kind, "-n", "2", "--slices", "3"]
    assert run(call) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert capsys.readouterr().out.count("lesion") == 2


def test_main_exits_with_the_code() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["analyze"])
    assert caught.value.code == 2
