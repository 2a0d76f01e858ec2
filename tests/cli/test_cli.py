"""The command line: wrong calls, help, where the words go, and the commands that need no study."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from gliosight import cli, pipeline
from gliosight.analysis import STAGES
from gliosight.cli import COMMANDS
from gliosight.cli.output import STAGE_WORDS, progress_display
from gliosight.errors import DamagedInputError, GliosightError
from gliosight.infer.model import Model, shipped_models
from gliosight.write.result import SCHEMA_VERSION, answer_schema, load_schema

from .conftest import Call

POSIX = pytest.mark.skipif(os.name != "posix", reason="streams and limits as POSIX has them")
DICOM = ["phantom", "-o", "x", "--dicom", "--set"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["analyze"], 2, "gliosight demo"),
        (["analyze", "--flair"], 2, "error: option '--flair' requires an argument: see gliosight"),
        (["analyse", "no/such"], 3, "(no/such)"),
        (["analyze", "no/such/place"], 3, "(no/such/place)"),
        (["analize", "x"], 2, "did you mean analyze?"),
        (["pyproject.toml\x1b"], 2, "no such command: pyproject.toml\\x1b"),
        (["data", "indx"], 2, "did you mean index?"),
        (
            ["analyze", "x", "--threads", "0"],
            2,
            "error: 0 is not in the range 1<=x<=1024 (--threads): see gliosight analyze --help",
        ),
        (
            ["analyze", "x", "--prevalence", "10"],
            2,
            "error: 10.0 is not a share of studies from 0.000001 to 0.999999, such as 0.1 "
            "(--prevalence): see gliosight analyze --help",
        ),
        (["demo", "--prevalence", "nan"], 2, "error: nan is not a share of studies from 0.000001"),
        (["demo", "--prevalence", "1e-9"], 2, "error: 1e-09 is not a share of studies from"),
        (["analyze", "x", "--prevalence", "10%"], 2, "not a valid float (--prevalence)"),
        (["analyze", "x", "--engine", "abacus"], 2, "'openvino', 'onnxruntime' (--engine): see"),
        (
            ["analyze", "x", "--probabilty"],
            2,
            "error: no such option: --probabilty: did you mean --probability? See gliosight",
        ),
        (["analyze", "x", "--outt"], 2, "did you mean --out? See"),
        (["analyze", "x", "--bogus"], 2, "no such option: --bogus: see gliosight analyze"),
        (["analyze", "x", "--no-such"], 2, "no such option: --no-such: see gliosight analyze"),
        (["evaluate", "x"], 2, "error: missing option (--data): see gliosight evaluate --help"),
        (["models", "x"], 8, "error: no model 'x': name a shipped one (joint-4)"),
        (["schema", "x"], 2, "'x' is not one of 'result', 'follow-up', 'evaluation' (NAME): see"),
        (["bids", "a", "b", "x"], 2, "'x' is not one of 'participant', 'group' (LEVEL): see"),
        (["schema", "result", "x"], 2, "got unexpected extra argument (x): see gliosight schema"),
        (["schema", "follow-up", "--answer"], 2, "error: --answer is for what analyze prints, and"),
        (["analyze", "x", "--flair", "y.nii"], 2, "one of them"),
        (["analyze", "x", "--flair", "y"], 3, "no such"),
        (["analyze", "--t1", "y"], 2, "--flair"),
        (["analyze", ""], 2, "the path is empty"),
        (["analyze", "x", "-o", ""], 2, "the path is empty (-o / --out)"),
        (["analyze", "--flair", ""], 2, "the path is empty"),
        (["inspect"], 2, "no PATH given"),
        (["demo", "-o", "x" * 256], 7, "too long"),
        (["demo", "--model", "nonesuch"], 8, "joint-4"),
        (["phantom", "-o", "x", "--radius", "900"], 2, "lesion_radius_mm"),
        (["phantom", "-o", "x", "--dicom", "--format", "nifti"], 2, "one of them"),
        (["phantom", "-o", "x", "--set", "order=2,0,1"], 2, "--set without --dicom"),
        (
            [*DICOM, "vendor=ge"],
            2,
            "no setting 'vendor' (--set): choose from oblique, shift, order, flips",
        ),
        ([*DICOM, "flips=maybe"], 2, "flips cannot be 'maybe'"),
        ([*DICOM, "order=0,1"], 2, "a permutation of 0, 1, 2"),
        ([*DICOM, "oblique=5"], 2, "three angles"),
        ([*DICOM, "shift=0,0,nan"], 2, "three lengths"),
        ([*DICOM, "order=2,0,1", "--set", "order=2,0,1"], 2, "order is set twice"),
    ],
)
def test_wrong_calls_say_what_to_do(
    arguments: list[str],
    code: int,
    words: str,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.code == code
    assert words in done.error
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_an_object_with_json(call: Call) -> None:
    done = call("analyze", "no/such/place", "--json")
    assert (done.code, done.err) == (3, "")
    assert done.value["error"]["exit_code"] == 3
    assert done.value["error"]["remedy"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a_flair.nii.gz", b"\x1f\x8b\x08garbage"), ("b.zip", b"PK\x03\x04" + bytes(40))],
)
def test_damaged_input_is_named(name: str, content: bytes, tmp_path: Path, call: Call) -> None:
    (tmp_path / name).write_bytes(content)
    done = call("analyze", tmp_path / name)
    assert (done.code, f"({name}" in done.error) == (4, True)


def test_a_program_that_is_no_archive_is_no_study(tmp_path: Path, call: Call) -> None:
    (tmp_path / "viewer.exe").write_bytes(b"MZ" + b"\x90" * 5000)
    done = call("inspect", tmp_path / "viewer.exe")
    assert (done.code, "not an image" in done.err) == (3, True)


def test_inspect_names_its_own_limits(study: Path, call: Call) -> None:
    done = call("inspect", study, "--pixels", "--max-decoded", "1")
    printed = " ".join(done.out.split())
    assert "with --max-decoded" in printed
    assert "analyze --max-decoded" not in printed


def test_models_and_version(call: Call) -> None:
    assert "joint-4 (default)" in call("models").out
    assert "gliosight" in call("--version").out
    with pytest.raises(SystemExit) as caught:
        cli.main(["analyze"])
    assert caught.value.code == 2


def test_a_model_is_described_with_its_licence(call: Call) -> None:
    (record,) = call("models", "--json").value["models"]
    assert call("models", "joint-4", "--json").value == record
    assert (record["name"], record["default"]) == ("joint-4", True)
    done = call("models", "joint-4")
    assert (done.code, done.err) == (0, "")
    for text in (record["sha256"], "licence: CC BY-NC-SA 4.0", "patients: 131", "Research use"):
        assert text in done.out


def test_a_card_without_words_is_described(tmp_path: Path, call: Call) -> None:
    card = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
    card |= {"name": "m\x1b", "about": {"training": "of no known form"}}
    (tmp_path / "m.json").write_text(json.dumps(card))
    assert call("models", tmp_path / "m.json").out.startswith("m\\x1b  joint\n  sha256: ")


@pytest.mark.usefixtures("no_network")
def test_what_is_printed_with_json_follows_its_schema(
    study: Path, tmp_path: Path, call: Call
) -> None:
    schema = call("schema", "--answer").value
    assert schema == answer_schema()
    assert schema["$id"] == f"urn:gliosight:answer:{SCHEMA_VERSION}"
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    one = call("analyze", study, "-o", tmp_path / "one", "--json")
    several = call("analyze", study, tmp_path / "none", "-o", tmp_path / "several", "--json")
    failure = call("analyze", tmp_path / "none", "--json")
    assert (one.code, several.code, failure.code) == (0, 10, 3)
    assert (len(several.value["studies"]), len(several.value["errors"])) == (1, 1)
    demo = {**one.value, "truth": {"volume_ml": 22.6, "dice": None}}
    for value in (one.value, several.value, failure.value, demo):
        validator.validate(value)
        name = next(iter(value))
        assert not validator.is_valid({key: value[key] for key in value if key != name}), name
        assert not validator.is_valid({**value, "surplus": 1})


def test_schemas_are_those_of_the_files(call: Call) -> None:
    assert call("schema").value == call("schema", "result").value == load_schema()
    for name, version in (("result", SCHEMA_VERSION), ("follow-up", "1.0"), ("evaluation", "1.0")):
        schema = call("schema", name).value
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"urn:gliosight:{name}:{version}"
        assert schema["properties"]["schema_version"]["const"] == version


@pytest.mark.parametrize("kind", ["lgg", "nifti", "dicom"])
def test_phantom_writes_each_kind(kind: str, tmp_path: Path, call: Call) -> None:
    done = call("phantom", "-o", tmp_path, "--format", kind, "-n", 2, "--slices", 3)
    assert (done.code, done.out.count("lesion")) == (0, 2)
    assert len(list(tmp_path.iterdir())) == 2
    assert "2 ready" in call("inspect", tmp_path).out


@pytest.mark.slow
def test_demo_prints_the_truth_beside_the_result(
    stub_model: Model, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.Settings, "load", lambda _: stub_model)
    arguments = ("demo", "-o", tmp_path / "out", "--no-lesion", "--seed", 3)
    printed = call(*arguments, "--json").value
    stored = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    truth = printed.pop("truth")
    assert truth["volume_ml"] == 0
    assert printed.pop("out") == str(tmp_path / "out")
    assert printed == stored
    # Nothing found in nothing is no overlap of 0.
    assert truth["dice"] == (None if stored["volume_px"] == 0 else 0)
    done = call(*arguments)
    assert (done.code, "--overwrite" in done.error) == (7, True)


@pytest.mark.parametrize(
    ("content", "code"), [(None, 3), ("{", 4), ("[1]", 4)], ids=["missing", "broken", "a list"]
)
def test_what_the_card_says_has_to_be_an_object(
    content: str | None, code: int, tmp_path: Path, call: Call
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "weights.safetensors").touch()
    if content is not None:
        (tmp_path / "about.json").write_text(content)
    arguments = ("export", tmp_path / "weights.safetensors", "-o", tmp_path / "model")
    done = call(*arguments, "--about", tmp_path / "about.json")
    assert (done.code, "about.json" in done.error) == (code, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_explains_it(command: str, call: Call) -> None:
    printed = call(command, "-h").out
    assert f"gliosight {command}" in printed
    assert "\\b" not in printed
    # Examples stand on lines of their own.
    example = "  gliosight analyze flair.nii.gz -o result"
    assert command != "analyze" or example in printed.splitlines()
    parameters = import_module(f"gliosight.cli.{command.replace('-', '_')}").command.params
    for option in parameters:
        if isinstance(option, click.Option):
            assert option.help, option.name
            for name in (*option.opts, *option.secondary_opts):
                assert name in printed, name


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--debug"]])
def test_help_lists_the_commands_and_every_exit_code(arguments: list[str], call: Call) -> None:
    done = call(*arguments)
    assert (done.code, done.err) == (0, "")
    for command, text in COMMANDS.items():
        assert f"  {command} " in done.out
        assert text in done.out
    for code in [0, 130, *(kind.exit_code for kind in GliosightError.__subclasses__())]:
        assert f" {code} " in done.out.replace("\n", " ")
    assert "Research use only" in done.out


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_counts_only_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_display("study", shown=True) as progress:
        assert progress is not None
        progress("infer", 3, 7)
    shown = terminal.getvalue()
    assert "study" in shown
    assert "3/7 slices" in shown
    assert "None" not in shown


def test_progress_names_a_stage_without_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_display("study", shown=True) as progress:
        assert progress is not None
        progress("infer", 7, 7)
        progress("measure", 0, 1)
        progress("measure", 1, 1)
    assert "measuring" in terminal.getvalue()
    assert "1/1" not in terminal.getvalue()
    assert set(STAGE_WORDS) == set(STAGES) - {"infer"}


def gliosight(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, as a shell starts it."""
    command = [sys.executable, "-m", "gliosight", *map(str, arguments)]
    return subprocess.run(command, check=False, timeout=300, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["phantom", "-n", "3", "--slices", "1", "-o"]]
)
def test_the_work_goes_on_where_nobody_reads(arguments: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = [tmp_path] if arguments[-1] == "-o" else []
    done = gliosight(*arguments, *out, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list(tmp_path.iterdir())) == 3 * len(out)


@pytest.mark.slow
def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out = tmp_path / "影像"
    done = gliosight("phantom", "-o", out, "--slices", 1, capture_output=True, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u5f71\\u50cf" in done.stdout
    assert out.is_dir()


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize(
    "streams", ["2>&-", "1>&-", "<&-", "<&- 1>&- 2>&-", ">/dev/full", "2>/dev/full"]
)
def test_closed_and_full_streams_end_with_documented_codes(streams: str, tmp_path: Path) -> None:
    """The work is done all the same: services close standard error."""
    command = f'"{sys.executable}" -m gliosight'
    script = (
        f'({command} phantom -o "$0" --slices 1) {streams}; echo $? >&8\n'
        f"({command} analyze no/such --json) {streams}; echo $? >&8\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"exec 8>&1; exec 1>&2; {script}", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["7" if streams == ">/dev/full" else "0", "3"]
    assert "Traceback" not in done.stderr
    assert "a bug of ours" not in done.stderr
    assert list(tmp_path.iterdir())


def damaged_by(cause: Exception) -> DamagedInputError:
    """What a reader makes of any error of a library."""
    error = DamagedInputError("the file is corrupt", where="a.nii", remedy="copy it again")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 6, "not enough memory"),
        (ImportError("x.so: failed to map segment from shared object"), 6, "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 6, "not enough memory"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 6, "no more processes"),
        (OSError(errno.EMFILE, "Too many open files"), 6, "no more processes or files"),
        (OSError(errno.ENOSPC, "No space left on device"), 7, "No space left"),
        (damaged_by(MemoryError()), 6, "not enough memory"),
        (damaged_by(ValueError()), 4, "corrupt"),
    ],
)
def test_what_the_machine_lacks_is_no_bug_and_no_damage(
    error: Exception, code: int, words: str, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    done = call("models")
    assert (done.code, words in done.error) == (code, True)


@POSIX
@pytest.mark.parametrize("megabytes", [150, 400])
def test_a_memory_limit_too_low_to_load_numpy_is_told(megabytes: int, tmp_path: Path) -> None:
    """Below it OpenBLAS waits for ever, deaf to signals."""
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, resource.RLIM_INFINITY))

    done = gliosight("analyze", tmp_path, preexec_fn=limited, capture_output=True)
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert b"%d MiB of memory, and 512 MiB are needed" % megabytes in line
