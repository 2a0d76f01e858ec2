"""The command line: wrong calls, and the commands that need no study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gliosight import cli
from gliosight.cli import run

from .asserting import error_line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["analyze"], 2, "gliosight demo"),
        (["analyze", "--flair"], 2, "--help"),
        (["analyse", "no/such"], 3, "(no/such)"),
        (["analize", "x"], 2, "did you mean analyze?"),
        (["pyproject.toml\x1b"], 2, "no such command: pyproject.toml\\x1b"),
        (["data", "indx"], 2, "did you mean index?"),
        (["analyze", "x", "--threads", "0"], 2, "--threads"),
        (["analyze", "x", "--engine", "abacus"], 2, "onnxruntime"),
        (["analyze", "x", "--probabilty"], 2, "--probability"),
        (["analyze", "x", "--no-such"], 2, "--help"),
        (["analyze", "x", "--flair", "y.nii"], 2, "one of them"),
        (["analyze", "x", "--flair", "y"], 3, "no such"),
        (["phantom", "-o", "x", "--dicom", "--format", "nifti"], 2, "one of them"),
        (
            ["phantom", "-o", "x", "--dicom", "--set", "vendor=ge"],
            2,
            "no setting 'vendor' (--set): choose from oblique, shift, order, flips",
        ),
        (["phantom", "-o", "x", "--dicom", "--set", "flips=maybe"], 2, "flips cannot be 'maybe'"),
        (["phantom", "-o", "x", "--dicom", "--set", "order=0,1"], 2, "a permutation of 0, 1, 2"),
        (["phantom", "-o", "x", "--dicom", "--set", "oblique=5"], 2, "three angles"),
        (["phantom", "-o", "x", "--dicom", "--set", "shift=0,0,nan"], 2, "three lengths"),
        (
            ["phantom", "-o", "x", "--dicom", *["--set", "order=2,0,1"] * 2],
            2,
            "order is set twice",
        ),
        (["phantom", "-o", "x", "--set", "order=2,0,1"], 2, "--set without --dicom"),
        (["inspect"], 2, "no PATH given"),
        (["analyze", "--t1", "y"], 2, "--flair"),
        (["analyze", ""], 2, "the path is empty"),
        (["analyze", "x", "-o", ""], 2, "the path is empty"),
        (["analyze", "--flair", ""], 2, "the path is empty"),
        (["analyze", "no/such/place"], 3, "(no/such/place)"),
        (["demo", "-o", "x" * 256], 7, "too long"),
        (["demo", "--model", "nonesuch"], 8, "joint-4"),
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
    assert words in error_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_an_object_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "no/such/place", "--json"]) == 3
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["exit_code"] == 3
    assert error["remedy"]
    assert captured.err == ""


def test_models_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "joint-4 (default)" in capsys.readouterr().out
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


def test_demo_prints_the_truth_beside_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["demo", "-o", str(tmp_path / "out"), "--no-lesion", "--seed", "3"]
    assert run([*call, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    truth = printed.pop("truth")
    assert truth["volume_ml"] == 0
    assert printed.pop("out") == str(tmp_path / "out")
    assert printed == stored
    # Nothing found in nothing is no overlap of 0.
    assert truth["dice"] == (None if stored["volume_px"] == 0 else 0)
    assert run(call) == 7
    assert "--overwrite" in error_line(capsys)


@pytest.mark.parametrize(
    ("content", "code"), [(None, 3), ("{", 4), ("[1]", 4)], ids=["missing", "broken", "a list"]
)
def test_what_the_card_says_has_to_be_an_object(
    content: str | None, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "weights.safetensors").touch()
    if content is not None:
        (tmp_path / "about.json").write_text(content)
    call = ["export", str(tmp_path / "weights.safetensors"), "-o", str(tmp_path / "model")]
    assert run([*call, "--about", str(tmp_path / "about.json")]) == code
    assert "about.json" in error_line(capsys)
