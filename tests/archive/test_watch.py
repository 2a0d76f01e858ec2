"""Studies that arrive: when a delivery is complete, and what becomes of it; the module for mercure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

from gliosight.archive.watch import Inbox
from gliosight.cli import run
from gliosight.errors import NothingReadableError
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom
from tests.archive.test_batch import made, rows

SPEC = PhantomSpec(slices=3)


def test_a_delivery_is_complete_when_nothing_more_comes(tmp_path: Path) -> None:
    box = Inbox(tmp_path, quiet=10)
    assert box.complete(0) == []
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "1").write_bytes(b"1")
    (tmp_path / ".hidden").touch()
    assert box.complete(1) == []
    assert box.waiting() == 1
    assert box.complete(9) == []
    (tmp_path / "a" / "deep" / "2").write_bytes(b"2")
    (tmp_path / "b").touch()
    assert box.complete(11) == []  # one more came
    assert box.complete(20) == []
    assert box.complete(21) == [tmp_path / "a", tmp_path / "b"]
    assert (box.complete(99), box.waiting()) == ([], 0)
    (tmp_path / "b").write_bytes(b"larger")
    assert (box.complete(100), box.waiting()) == ([], 1)
    (tmp_path / "a" / "deep" / "1").unlink()
    (tmp_path / "a" / "deep" / "2").unlink()
    (tmp_path / "a" / "deep").rmdir()
    (tmp_path / "a").rmdir()
    assert box.complete(110) == [tmp_path / "b"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError, match="cannot be listed"):
        Inbox(tmp_path / "no", 1).complete(0)
    assert run(["watch", str(tmp_path / "no"), str(tmp_path / "out")]) == 3
    assert (
        run(["watch", str(tmp_path), str(tmp_path / "out")]) == 2
    )  # it would watch its own results


def watch(*words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "gliosight", "watch", *map(str, words)]
    call += ["--once", "--quiet-time", "0.3", "--every", "0.1"]
    return subprocess.run(call, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_arrives_is_analysed_once_and_moved(tmp_path: Path) -> None:
    inbox, out, done = tmp_path / "in", tmp_path / "out", tmp_path / "done"
    for name in ("first", "second"):  # deliveries with studies of one name
        write_nifti(make_phantom(SPEC), inbox / name / "a")
        write_lgg(make_phantom(SPEC), inbox / name / "b")
    (inbox / "broken_flair.nii").write_bytes(b"no image")
    seen = watch(inbox, out)
    assert seen.returncode == 10, seen.stderr
    assert "(broken_flair.nii)" in seen.stderr
    lines = seen.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["broken_flair.nii", "first", "second"]
    table = rows(out)
    # What could not be opened stands there, too.
    assert [source for source, row in table.items() if row["error"]] == ["broken_flair.nii"]
    assert len(table) == 5
    assert {source.split("/")[0] for source in table} == {"first", "second", "broken_flair.nii"}
    before = made(out)
    assert len(before) == 4
    write_nifti(make_phantom(SPEC), inbox / "third")
    seen = watch(inbox, out, "--done", done)
    assert seen.returncode == 10
    assert list(inbox.iterdir()) == []
    assert sorted(path.name for path in done.iterdir()) == [
        "broken_flair.nii", "first", "second", "third",
    ]  # fmt: skip
    after = made(out)
    assert len(after) == 5
    assert {name: after[name] for name in before} == before
    # Another patient's delivery may have the name of one that was moved away.
    write_nifti(make_phantom(PhantomSpec(slices=4)), inbox / "third")
    assert watch(inbox, out, "--done", done).returncode == 0
    assert len(made(out)) == 6
    assert {name: made(out)[name] for name in after} == after
    assert (done / "third-2").is_dir()


def mercure(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gliosight", "mercure"],
        env={**os.environ, "MERCURE_IN_DIR": str(source), "MERCURE_OUT_DIR": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_module_for_mercure(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    write_dicom(make_phantom(SPEC), source)
    task: dict[str, Any] = {"process": {"settings": {"prevalence": "0.9", "probability": "true"}}}
    (source / "task.json").write_text(json.dumps(task))
    done = mercure(source, out)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text("utf-8"))
    (study,) = result["studies"]
    assert study["status"] == "tumour found"
    assert "tumour found, probability 0.9" in result["__mercure_notification"]["text"]
    assert "Research use only" in result["__mercure_notification"]["text"]
    assert result["__mercure_notification"]["requested"] is True
    names = [
        f"{study['study_id']}_{name}.dcm" for name in ("probability", "report", "segmentation")
    ]
    assert sorted(path.name for path in out.iterdir()) == [*names, "result.json"]
    modalities = [pydicom.dcmread(out / name).Modality for name in names]
    assert modalities == ["SEG", "SR", "SEG"]


@pytest.mark.slow
def test_a_task_that_fails_says_so_in_its_result(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    done = mercure(source, out)
    assert done.returncode == 11
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["studies"][0]["error"]
    assert result["__mercure_notification"]["requested"] is True
    (source / "task.json").write_text("[]")
    assert mercure(source, out).returncode == 2
    for settings, told in (
        ({"prevalence": "all"}, "not a number"),
        ({"probability": "perhaps"}, "give true or false"),
        ({"precison": "int8"}, "no setting 'precison'"),
    ):
        (source / "task.json").write_text(json.dumps({"process": {"settings": settings}}))
        done = mercure(source, out)
        assert (done.returncode, told in done.stderr) == (2, True)
        assert told in json.loads((out / "result.json").read_text("utf-8"))["error"]["what"] + str(
            json.loads((out / "result.json").read_text("utf-8"))["error"]["remedy"]
        )


def test_outside_of_mercure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MERCURE_IN_DIR", raising=False)
    assert run(["mercure"]) == 2
    assert "MERCURE_IN_DIR is not set" in capsys.readouterr().err
