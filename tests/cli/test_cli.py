"""The command line: codes, lines and files."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from gliosight import cli, pipeline
from gliosight.cli import COMMANDS, run
from gliosight.cli.output import progress_display
from gliosight.cli.table import HEADER
from gliosight.errors import GliosightError, printable
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from tests.write.builders import make_analysis


@pytest.fixture(scope="module")
def thin() -> Phantom:
    """As few slices as still show a lesion: what is tested here is not the network."""
    return make_phantom(PhantomSpec(seed=2, slices=5, lesion_side="right"))


@pytest.fixture(scope="module")
def study(thin: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(thin, tmp_path_factory.mktemp("nifti"))


@pytest.fixture
def no_network(thin: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and printing alone: the network is not run."""

    def fake(study: Any, *_: object, **__: object) -> Any:
        return replace(make_analysis((5, 24, 20), study_id=study.study_id), flags=study.flags)

    monkeypatch.setattr(pipeline, "analyze_study", fake)


def _gliosight(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, as a shell starts it."""
    call = [sys.executable, "-c", "from gliosight.cli import main; main()", *arguments]
    return subprocess.run(call, check=False, timeout=60, **options)


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
        (["analyze", "x", "--threads", "0"], 2, "--threads"),
        (["analyze", "x", "--engine", "abacus"], 2, "onnxruntime"),
        (["analyze", "x", "--probabilty"], 2, "--probability"),
        (["analyze", "x", "--no-such"], 2, "--help"),
        (["analyze", "x", "--flair", "y"], 2, "one of them"),
        (["analyze", "--t1", "y"], 2, "--flair"),
        (["analyze", ""], 2, "the path is empty"),
        (["analyze", "x", "-o", ""], 2, "the path is empty"),
        (["analyze", "--flair", ""], 2, "the path is empty"),
        (["analyze", "no/such/place"], 3, "(no/such/place)"),
        (["demo", "-o", "x" * 256], 7, "too long"),
        (["demo", "--model", "nonesuch"], 8, "joint-2"),
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
    assert run(["analyze", str(tmp_path / "b.zip")]) == 4
    assert "b.zip" in _error(capsys)


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
    assert rows[2]["study_id"] == printable(missing.name)
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
    (root / "thumb.jpg").write_bytes(b"no picture")
    assert run(["analyze", str(root), "-o", str(out)]) == 4
    captured = capsys.readouterr()
    assert "2 of 3 studies" in captured.out
    assert "(thumb.jpg)" in captured.err
    assert sorted(one.name for one in out.iterdir()) == [
        "a-gliosight",
        "b-gliosight",
        "studies.csv",
    ]
    ((name, error),) = _failed(out)
    assert name == "thumb.jpg"
    assert "named .jpg" in error


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
    assert "(ses-1/anat)" in _error(capsys)
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
        "empty",
        "sl/nonexist",
        "flat/a_flair.nii.gz",
        "flat/b_flair.nii.gz",
        "a_flair.nii.gz",
        "single.tif",
    ]
    really_stat = Path.stat

    def forbid(path: Path, **options: Any) -> os.stat_result:
        if path.name == "x.tif":
            raise PermissionError(13, "Permission denied")
        return really_stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbid)
    assert run(["analyze", "perm/no/x.tif"]) == 3
    assert "no permission to read (perm/no/x.tif):" in _error(capsys)


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
def test_help_names_every_option_and_explains_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "-h"]) == 0
    printed = capsys.readouterr().out
    assert f"gliosight {command}" in printed
    assert "\\b" not in printed
    parameters = import_module(f"gliosight.cli.{command.replace('-', '_')}").command.params
    for one in parameters:
        if isinstance(one, click.Option):
            assert one.help, one.name
            for name in (*one.opts, *one.secondary_opts):
                assert name in printed, name


def test_examples_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  gliosight analyze flair.nii.gz -o result" in lines


@pytest.mark.parametrize("call", [[], ["--help"], ["-h"], ["--debug"]])
def test_help_lists_the_commands_and_every_exit_code(
    call: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(call) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for command, text in COMMANDS.items():
        assert f"  {command} " in captured.out
        assert text in captured.out
    for code in [0, 130, *(one.exit_code for one in GliosightError.__subclasses__())]:
        assert f" {code} " in captured.out.replace("\n", " ")
    assert "Research use only" in captured.out


def test_models_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert "joint-2 (default)" in capsys.readouterr().out
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
    assert "--overwrite" in _error(capsys)


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
        assert "studies.csv" in _error(capsys)
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
    assert folders == [f"{one.name}-gliosight", f"{one.name}-gliosight-2"]
    assert all((out / name / "report.html").is_file() for name in folders)
    assert printed["errors"] == []


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
    assert "no FLAIR" in _error(capsys)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_counts_only_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_display("study", shown=True) as tell:
        assert tell is not None
        tell("infer", 3, 7)
    shown = terminal.getvalue()
    assert "study" in shown
    assert "3/7 slices" in shown
    assert "None" not in shown


def test_a_bug_names_our_own_line_and_no_folder_of_this_machine(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "read", lambda _: json.loads("no json"))
    assert run(["analyze", str(study), "-o", str(tmp_path / "a")]) == 70
    line = _error(capsys)
    assert "(cli/analyze.py:" in line
    assert "please report" in line


@pytest.mark.parametrize("call", [["--help"], ["models"], ["phantom", "-h"]])
def test_a_closed_pipe_is_no_error(call: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = _gliosight(*call, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_work_goes_on_where_nobody_reads(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    call = ["phantom", "-o", str(tmp_path), "-n", "3", "--slices", "1"]
    done = _gliosight(*call, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    call = ["phantom", "-o", str(tmp_path / "影像"), "--slices", "1"]
    done = _gliosight(*call, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u5f71\\u50cf" in done.stdout
    assert (tmp_path / "影像").is_dir()


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
    assert "about.json" in _error(capsys)
