"""analyze on one study: its files, its words, its refusals, and bugs of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gliosight import pipeline
from gliosight.cli import run
from gliosight.phantom import Phantom, write_lgg, write_nifti

from .asserting import error_line


def test_damaged_and_unsupported_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a_flair.nii.gz").write_bytes(b"\x1f\x8b\x08garbage")
    assert run(["analyze", str(tmp_path / "a_flair.nii.gz")]) == 4
    assert "a_flair.nii.gz" in error_line(capsys)
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    assert run(["analyze", str(tmp_path / "b.zip")]) == 4
    assert "b.zip" in error_line(capsys)


def test_an_output_in_the_way_is_refused_before_any_work(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    assert run(["analyze", str(study), "-o", str(tmp_path)]) == 7
    assert "-o" in error_line(capsys)
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
    assert "ZeroDivisionError: inside" in error_line(capsys)
    assert run(["analyze", str(study), "-o", str(tmp_path / "a"), "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_interrupted_is_130(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_analysis", interrupt)
    assert run(["analyze", str(study), "-o", str(tmp_path / "a")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_the_summary_says_what_was_found(
    study: Path, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out\x1b[2J"
    assert run(["analyze", str(study), "-o", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "\x1b" not in captured.out
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
        assert words in captured.out, words


def test_the_folder_is_named_after_the_study(
    study: Path, tmp_path: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["analyze", str(study), "-q"]) == 0
    assert [one.name for one in tmp_path.iterdir()] == [f"{study.name}-gliosight"]


def test_a_name_with_control_characters_reaches_no_terminal(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "evil\x1b]0;title\x07\n\u202ename"
    folder = write_lgg(thin, tmp_path / "lgg")
    folder = folder.rename(folder.with_name(name))
    assert run(["analyze", str(folder), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "evil\\x1b]0;title\\x07\\n\\u202ename" in printed
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    # In the file it is what it is.
    assert json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))["study_id"] == name


def test_t1_beside_one_flair_file(
    thin: Phantom, tmp_path: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_nifti(thin, tmp_path / "in")
    flair, t1 = (next(folder.glob(f"*_{name}.nii.gz")) for name in ("flair", "t1"))
    assert run(["analyze", str(flair), "--t1", str(t1), "-o", str(tmp_path / "o"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {one["code"] for one in printed["flags"]} == {"T1C_MISSING"}
    # A STUDY is judged by its name, unlike what --flair names.
    assert run(["analyze", str(t1), "--t1", str(t1), "-o", str(tmp_path / "p")]) == 5
    assert "no FLAIR" in error_line(capsys)


def test_a_bug_names_our_own_line_and_no_folder_of_this_machine(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "check_out", lambda *_, **__: json.loads("no json"))
    assert run(["analyze", str(study), "-o", str(tmp_path / "a")]) == 70
    line = error_line(capsys)
    assert "(cli/analyze.py:" in line
    assert "please report" in line
