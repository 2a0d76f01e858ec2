"""``gliosight batch``: what is done once, kept, done again, and explained."""

from __future__ import annotations

import csv
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gliosight import cli
from gliosight.archive.entries import ALL_FAILED, FAILED, SOME_FAILED, Entry, exit_code
from gliosight.archive.ledger import FOLDER, opened_ledger
from gliosight.archive.run import PAGE, Tally
from gliosight.archive.table import TABLE
from gliosight.cli.batch import progress_words
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom
from gliosight.pipeline import Job, Settings, analyze_job
from gliosight.read.from_python import read_study
from gliosight.study import Study
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
SPEC = PhantomSpec(slices=3)


def batch(*words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "gliosight", "batch", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / TABLE).open(encoding="utf-8") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


def made(out: Path) -> dict[str, int]:
    """When each result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/result.json")}


def content(out: Path) -> dict[str, bytes]:
    """All files but the ledger, without what says how long something took."""
    times = re.compile(rb'"timings_ms": {[^}]*}|"time":[^]]*]|\b[0-9.,]+ (ms|s|min)\b')
    return {
        path.relative_to(out).as_posix(): times.sub(b"", path.read_bytes())
        for path in sorted(out.rglob("*"))
        if path.is_file() and FOLDER not in path.parts
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two sound studies and a broken one."""
    root = tmp_path / "archive"
    for name in ("a", "b"):
        write_nifti(make_phantom(SPEC), root / name)
    (root / "broken").mkdir()
    (root / "broken" / "x_flair.nii.gz").write_bytes(b"no image")
    return root


def test_a_second_run_keeps_what_is_finished_and_adds_what_is_new(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = batch(archive, "-o", out, "--workers", "2")
    assert first.returncode == 10, first.stderr
    assert "2 of 3 studies analysed" in first.stdout
    assert "Research use only" in first.stdout
    assert "(broken/x_flair.nii.gz)" in first.stderr
    table = rows(out)
    assert len(table) == 3
    assert {path.name for path in out.iterdir()} == {FOLDER, TABLE, PAGE, *made(out)}
    before = made(out)
    write_lgg(make_phantom(SPEC), archive / "new")
    again = batch(archive, "-o", out)
    assert again.returncode == 10
    assert "3 of 4 studies analysed" in again.stdout
    after = made(out)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    kept = {source: row for source, row in rows(out).items() if not source.startswith("new")}
    # Ranks are among all.
    assert [{**row, "review": ""} for row in kept.values()] == [
        {**row, "review": ""} for row in table.values()
    ]
    page = (out / PAGE).read_text("utf-8")
    assert "Research use only" in page
    assert all(f"{name}/report.html" in page for name in after)


def test_failed_studies_are_tried_again_when_asked_or_when_they_changed(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(archive, "-o", out, "-q").returncode == 10
    before = made(out)
    good = next((archive / "a").rglob("*_flair.nii.gz"))
    shutil.copy(good, archive / "broken" / "x_flair.nii.gz")
    done = batch(archive, "-o", out)
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert len(made(out)) == 3
    assert {name: made(out)[name] for name in before} == before
    # What changed is analysed again, and replaces its own result.
    shutil.copy(archive / "broken" / "x_flair.nii.gz", archive / "x.nii.gz")
    target = next((archive / "b").rglob("*_flair.nii.gz"))
    other = write_nifti(make_phantom(PhantomSpec(slices=4)), tmp_path / "other")
    shutil.copy(next(other.rglob("*_flair.nii.gz")), target)
    (archive / "x.nii.gz").unlink()
    assert batch(archive, "-o", out, "-q").returncode == 0
    after = made(out)
    assert sum(after[name] != before[name] for name in before) == 1


def test_another_recipe_does_not_mix_with_earlier_results(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.rmtree(archive / "broken")
    assert batch(archive, "-o", out, "-q").returncode == 0
    before = made(out)
    done = batch(archive, "-o", out, "--prevalence", "0.1")
    assert (done.returncode, "other settings" in done.stderr) == (7, True)
    assert made(out) == before
    # Neither where other studies are given.
    write_lgg(make_phantom(SPEC), tmp_path / "more" / "c")
    for words in ([tmp_path / "more"], [archive / "a", "--overwrite"]):
        done = batch(*words, "-o", out, "--prevalence", "0.1")
        assert (done.returncode, "other settings" in done.stderr) == (7, True)
    assert made(out) == before
    assert batch(archive, "-o", out, "--prevalence", "0.1", "--overwrite").returncode == 0
    assert all(made(out)[name] != before[name] for name in before)


def test_studies_of_one_name_below_two_roots_are_two_studies(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_nifti(make_phantom(SPEC), tmp_path / "one" / "a")
    write_nifti(make_phantom(PhantomSpec(slices=4)), tmp_path / "two" / "a")
    assert batch(tmp_path / "one", "-o", out, "-q").returncode == 0
    before = made(out)
    assert batch(tmp_path / "two", "-o", out, "-q").returncode == 0
    assert len(made(out)) == 2
    assert {name: made(out)[name] for name in before} == before
    # What is given twice is analysed once.
    again = batch(tmp_path / "one", tmp_path / "one" / "a", tmp_path / "two", "-o", out)
    assert "2 of 2 studies" in again.stdout
    # Neither is one study that is found from further down, or that has been moved, a new one.
    assert batch(tmp_path / "one" / "a", "-o", out, "-q").returncode == 0
    (tmp_path / "one").rename(tmp_path / "moved")
    assert batch(tmp_path / "moved", "-o", out, "-q").returncode == 0
    assert len(made(out)) == 2
    assert {name: made(out)[name] for name in before} == before


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take UTF-8 alone")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    out, odd = tmp_path / "out", Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9"))
    write_nifti(make_phantom(SPEC), odd)
    write_nifti(make_phantom(SPEC), tmp_path / "in" / "plain")
    for _ in range(2):
        done = batch(tmp_path / "in", "-o", out)
        assert done.returncode == 0, done.stderr
    assert len(made(out)) == len(rows(out)) == 2


def test_a_broken_file_that_was_removed_is_forgotten(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert batch(archive, "-o", out, "-q").returncode == 10
    shutil.rmtree(archive / "broken")
    assert batch(archive, "-o", out, "-q").returncode == 0
    assert len(rows(out)) == 2


@pytest.mark.skipif(
    sys.platform != "linux", reason="the full disk is a small file system in memory"
)
def test_a_full_disk_ends_the_run_and_no_study_fails_for_it(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(out)], capture_output=True, check=False
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        done = batch(archive, "-o", out, "--workers", "1")
        assert (done.returncode, "No space left" in done.stderr) == (7, True), done.stderr
        subprocess.run(["mount", "-o", "remount,size=60m", str(out)], check=True)
        assert batch(archive, "-o", out, "-q").returncode == 10
        assert len(made(out)) == 2
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_all_that_fail(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "x_flair.nii").write_bytes(b"no image")
    done = batch(root, "-o", out)
    assert done.returncode == 11
    assert [row["status"] for row in rows(out).values()] == ["error", "error"]
    printed = json.loads(batch(root, "-o", out, "--json").stdout)
    assert [study["exit_code"] for study in printed["studies"]] == [4, 4]
    assert batch(tmp_path / "nowhere", "-o", out).returncode == 3


def test_a_zip_is_known_again_by_its_content(archive: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("a", "b"):
            for image in sorted((archive / name).rglob("*.nii.gz")):
                file.write(image, image.relative_to(archive))
    assert batch(path, "-o", out, "-q").returncode == 0
    before = made(out)
    assert batch(path, "-o", out, "-q").returncode == 0
    assert made(out) == before


def test_a_table_or_page_of_somebody_else_is_not_replaced(archive: Path, tmp_path: Path) -> None:
    for name in (TABLE, PAGE):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("mine")
        done = batch(archive, "-o", out)
        assert (done.returncode, name in done.stderr) == (7, True)
        assert (out / name).read_text() == "mine"


def test_a_result_folder_of_one_study_takes_no_archive(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "one"
    assert cli.run(["analyze", str(archive / "a"), "-o", str(out), "-q"]) == 0
    before = content(out)
    done = batch(archive, "-o", out)
    assert (done.returncode, "one is the result folder of a single study" in done.stderr) == (
        7,
        True,
    )
    assert content(out) == before


def test_a_remedy_names_the_command_that_has_its_option(tmp_path: Path) -> None:
    write_nifti(make_phantom(SPEC), tmp_path / "a")
    next((tmp_path / "a").rglob("*_flair.nii.gz")).unlink()
    done = batch(tmp_path / "a", "-o", tmp_path / "out")
    assert done.returncode == 11
    assert "name the file that is FLAIR with gliosight analyze --flair FILE" in done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("killed", [False, True], ids=["asked to end", "a worker killed"])
def test_nothing_half_written_is_left(killed: bool, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_nifti(make_phantom(PhantomSpec()), tmp_path / "in" / name)
    out = tmp_path / "out"
    call = [sys.executable, "-m", "gliosight", "batch", str(tmp_path / "in"), "-o", str(out)]
    with subprocess.Popen([*call, "-q", "--workers", "1"], stderr=subprocess.DEVNULL) as process:
        while not (half := list(out.glob(".*.partial-gliosight"))) and process.poll() is None:
            time.sleep(0.002)
        assert half, "the run ended before a study was seen while it was written"
        if killed:
            for worker in psutil.Process(process.pid).children():
                worker.kill()
        else:
            process.terminate()  # not SIGINT, which a job in the background ignores
        assert process.wait(60) == (SOME_FAILED if killed else 130)
    assert not list(out.glob(".*.partial-gliosight"))


@pytest.mark.parametrize("write", [write_lgg, write_nifti, write_dicom])
def test_a_study_leaves_the_memory_with_its_result(
    write: Callable[[Phantom, Path], object], tmp_path: Path
) -> None:
    """Else a worker grows by each study until Python looks for objects that refer to each other."""
    write(make_phantom(SPEC), tmp_path / "in")
    studies: list[weakref.ref[Study]] = []

    def read() -> Study:
        study = read_study(tmp_path / "in")
        studies.append(weakref.ref(study))
        return study

    settings = Settings(threads=1)
    gc.disable()
    try:
        job = Job("a", "in", "a", read)
        outcome = analyze_job(job, settings.load(), settings, tmp_path / "out", pictured=True)
        assert outcome.thumbnail is not None
        assert studies[0]() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_soak_small(tmp_path: Path) -> None:
    """Killed at moments of their own choosing, all studies are done once: ``make soak`` is the large one."""
    call = [sys.executable, str(REPOSITORY / "benchmarks" / "soak.py"), "--studies", "10"]
    call += ["--kills", "2", "--seconds", "4", "--same", "20", "--folder", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "9 sound studies done once, 1 broken ones explained" in done.stdout
    assert not Path("/proc/self/status").is_file() or "one study 20 times" in done.stdout


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_workers_end_with_their_run(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = [sys.executable, "-m", "gliosight", "batch", str(archive), "-o", str(out), "-q"]
    with subprocess.Popen(call) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.parent.is_dir():
            process.kill()
            pytest.skip("this system does not list a process's children")
        for _ in range(1200):
            if workers := children.read_text().split():
                break
            time.sleep(0.05)
        assert workers
        process.kill()
    for _ in range(300):
        if not any(Path(f"/proc/{number}").exists() for number in workers):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker goes on")
    assert batch(archive, "-o", out, "-q").returncode == 10
    assert len(made(out)) == 2


def test_a_stopped_run_with_overwrite_is_gone_on_with(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.rmtree(archive / "broken")
    write_lgg(make_phantom(SPEC), archive / "c")
    assert batch(archive, "-o", out, "-q").returncode == 0
    before = made(out)
    again = ("-o", str(out), "--prevalence", "0.1")
    call = [sys.executable, "-m", "gliosight", "batch", str(archive), *again, "--overwrite"]
    with subprocess.Popen([*call, "-q", "--workers", "1"]) as process:
        while sum(made(out).get(name) != before[name] for name in before) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    half = {name: time for name, time in made(out).items() if time != before[name]}
    # Without the option only what is left is done, and the one in flight.
    assert batch(archive, *again, "-q").returncode == 0
    after = made(out)
    assert all(after[name] != before[name] for name in before)
    first = min(half, key=half.__getitem__)
    assert after[first] == half[first]


def test_results_do_not_depend_on_the_number_of_workers(archive: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "out", tmp_path / "two" / "out"
    assert batch(archive, "-o", one, "--workers", "1", "-q").returncode == 10
    assert batch(archive, "-o", two, "--workers", "2", "-q").returncode == 10
    assert content(one) == content(two)


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([("tumour found", 0), ("not assessed", 0)], 0),
        ([("tumour found", 70), ("no tumour found", 0)], 70),  # a DICOM object was withheld
        ([("tumour found", 70), (FAILED, 4)], SOME_FAILED),
        ([(FAILED, 3), (FAILED, 4)], ALL_FAILED),
        ([], 0),
    ],
)
def test_exit_codes(entries: list[tuple[str, int]], code: int) -> None:
    assert exit_code([Entry("x", "x", status, exit_code=one) for status, one in entries]) == code


@pytest.mark.parametrize(
    ("tally", "told"),
    [
        (Tally(800, 30, 7, 4, 7 / 1.2), "37 of 800, 4 failed, 1.2 studies/s, 11 min left"),
        (Tally(10, 0, 0, 0, 1.0), "0 of 10"),
        (Tally(10, 0, 4, 0, 16.0), "4 of 10, 4.0 s a study, 24 s left"),
        (Tally(9000, 0, 10, 1, 20.0), "10 of 9000, 1 failed, 2.0 s a study, 5.0 h left"),
        (Tally(10, 4, 6, 0, 6.0), "10 of 10, 1.0 studies/s"),
    ],
)
def test_progress(tally: Tally, told: str) -> None:
    assert progress_words(tally) == told


def test_what_was_in_flight_elsewhere_is_not_in_the_table(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert batch(archive / "a", "-o", out, "-q").returncode == 0
    with opened_ledger(out) as ledger:
        (record,) = ledger.records()
        ledger.write(
            replace(record, state="running", entry=replace(record.entry, status="running"))
        )
    assert batch(archive / "b", "-o", out, "-q").returncode == 0
    assert len((out / TABLE).read_text("utf-8").splitlines()) == 2
    assert batch(archive / "a", "-o", out, "-q").returncode == 0
    assert len((out / TABLE).read_text("utf-8").splitlines()) == 3
