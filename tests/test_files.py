"""Files and folders appear whole or not at all, whoever is killed when, and nobody else's are touched."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gliosight import files
from gliosight.errors import CannotWriteError
from gliosight.files import (
    recover,
    remove_abandoned_temporaries,
    safe_name,
    safe_names,
    temporary_folder,
    whole_file,
    whole_folder,
)

POSIX = pytest.mark.skipif(os.name != "posix", reason="processes as POSIX has them")
WHOLE = {"a": "new", "mask/a": "new", "result.json": "new"}
BEFORE = ["nothing", "an empty folder", "a result"]
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def write(out: Path) -> None:
    with whole_folder(out, lambda: None, last="result.json") as folder:
        (folder / "a").write_text("new")
        (folder / "mask").mkdir()
        (folder / "mask" / "a").write_text("new")
        (folder / "result.json").write_text("new")


def write_table(path: Path) -> None:
    with whole_file(path, overwrite=True) as partial:
        partial.write_text("new")


def ended(work: Callable[[], object], step: int = 0, number: int = signal.SIGKILL) -> bool:
    """Work in a child that gets a signal before its n-th change to the disk; whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of other tests, which the child does not need
        child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 3, -number)
        return code == 0
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        writes = event == "open" and int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            steps += 1
            if steps == step:
                os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.addaudithook(count)
    try:
        work()
    except KeyboardInterrupt:
        os._exit(3)
    except BaseException:  # noqa: BLE001 - the child must not go on as the tests
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder that is in no working folder, with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".partial-gliosight" not in str(path)
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def prepare(out: Path, before: str) -> dict[str, str]:
    """What lies at the target before a run."""
    out.parent.mkdir(exist_ok=True)
    if before != "nothing":
        out.mkdir()
    earlier = {"a": "old", "mask/b": "old"} if before == "a result" else {}
    for name, text in earlier.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text)
    return earlier


@POSIX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("before", BEFORE)
def test_a_folder_survives_a_kill_or_ctrl_c_at_every_step(
    before: str, number: int, tmp_path: Path
) -> None:
    for step in range(1, 100):
        out = tmp_path / str(step) / "out"
        earlier = prepare(out, before)
        done = ended(partial(write, out), step, number)
        # A half of it is never taken for a result, which result.json makes it.
        left = content(out.parent)
        assert "out/result.json" not in left or content(out) == WHOLE
        if number == signal.SIGINT:
            assert not list(out.parent.rglob("*partial*"))
        recover(out)
        assert (content(out) if out.exists() else {}) in (earlier, WHOLE)
        assert names(out.parent) in (["out"], [] if before == "nothing" else ["out"])
        write(out)
        assert content(out.parent) == {f"out/{name}": text for name, text in WHOLE.items()}
        assert names(out) == ["a", "mask", "result.json"]
        if done:
            break
    assert 10 < step < 99


@POSIX
def test_the_earlier_result_survives_a_kill_while_it_is_put_back(tmp_path: Path) -> None:
    """The one moment when it is nowhere in its place: between the two renames."""
    for step in range(1, 100):
        out = tmp_path / str(step) / "out"
        between_the_renames(out)
        done = ended(partial(recover, out), step)
        recover(out)
        assert content(out) == {"result.json": "old"}
        assert names(out.parent) == ["out"]
        if done:
            break
    assert 3 < step < 99


def between_the_renames(out: Path) -> Path:
    work = out.with_name(".out.partial-gliosight")
    for name in ("new", "old"):
        (work / name).mkdir(parents=True)
        (work / name / "result.json").write_text(name)
    (work / "owner").touch()
    return work


def test_the_earlier_result_is_never_the_price_of_what_came_into_its_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = between_the_renames(out)
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    with pytest.raises(CannotWriteError, match="cannot be put back") as caught:
        recover(out)
    assert caught.value.where == ".out.partial-gliosight/old"
    assert (work / "old" / "result.json").read_text() == "old"
    assert (out / "thesis.tex").read_text() == "years"
    (out / "thesis.tex").unlink()
    recover(out)  # into an empty folder it goes
    assert content(tmp_path) == {"out/result.json": "old"}


@POSIX
@pytest.mark.parametrize("before", ["", "old"])
def test_a_file_survives_a_kill_at_every_step(before: str, tmp_path: Path) -> None:
    for step in range(1, 100):
        table = tmp_path / str(step) / "studies.csv"
        table.parent.mkdir()
        if before:
            table.write_text(before)
        done = ended(partial(write_table, table), step)
        assert (table.read_text() if table.exists() else "") in (before, "new")
        write_table(table)
        assert content(table.parent) == {"studies.csv": "new"}
        assert names(table.parent) == ["studies.csv"]
        if done:
            break
    assert 3 < step < 99


@POSIX
def test_a_temporary_folder_of_a_killed_run_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack() -> None:
        remove_abandoned_temporaries()
        with temporary_folder() as folder:
            (folder / "patient").write_text("data")

    for step in range(1, 100):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / str(step)))
        (tmp_path / str(step)).mkdir()
        done = ended(unpack, step)
        unpack()
        assert names(tmp_path / str(step)) == []
        if done:
            break
    assert 5 < step < 99


def test_a_temporary_folder_is_the_users_own_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "gliosight-unpacked-mine").mkdir()
    (tmp_path / "gliosight-unpacked-mine" / "thesis.tex").write_text("years")
    (tmp_path / "gliosight-abc").mkdir()
    with temporary_folder() as first:
        (first / "patient").write_text("data")
        assert first.stat().st_mode & 0o777 == 0o700
        remove_abandoned_temporaries()  # as another run would
        assert (first / "patient").read_text() == "data"
    assert content(tmp_path) == {"gliosight-unpacked-mine/thesis.tex": "years"}
    assert names(tmp_path) == ["gliosight-abc", "gliosight-unpacked-mine"]


@pytest.mark.parametrize(
    "kind",
    ["folder", "with an owner", "file", "link", "dead link", pytest.param("a FIFO", marks=POSIX)],
)
@pytest.mark.parametrize("at", ["beside", "inside"])
def test_what_only_has_the_working_folders_name_is_not_ours(
    kind: str, at: str, tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years")
    work = tmp_path / ".out.partial-gliosight"
    if at == "inside":
        out.mkdir()
        work = out / ".partial-gliosight"
    if kind == "file":
        work.write_text("mine")
    elif kind == "link":
        work.symlink_to(elsewhere)
    elif kind == "dead link":
        work.symlink_to(tmp_path / "nowhere")
    elif kind == "a FIFO":
        work.mkdir()
        os.mkfifo(work / "owner")
    else:
        work.mkdir()
        (work / "thesis.tex").write_text("years")
        if kind == "with an owner":
            (work / "owner").write_text("Jane")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CannotWriteError) as caught:
        write(out)
    assert kind == "a FIFO" or caught.value.where == work.name
    assert sorted(tmp_path.rglob("*")) == before


def test_hidden_folders_of_others_stay(tmp_path: Path) -> None:
    foreign = [".out.partial-1", ".out.partial-gliosight-notes", ".other.partial-gliosight"]
    for name in foreign:
        (tmp_path / name).mkdir()
    for _ in range(2):
        write(tmp_path / "out")
    assert names(tmp_path) == sorted([*foreign, "out"])


@pytest.mark.parametrize("before", BEFORE)
def test_of_two_runs_with_one_target_one_writes(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out, before)
    with whole_folder(out, lambda: None, last="result.json") as folder:
        (folder / "result.json").write_text("first")
        for second in (write, recover):
            with pytest.raises(CannotWriteError, match="another run") as caught:
                second(out)
            assert (caught.value.exit_code, caught.value.where) == (7, "out")
    assert content(tmp_path) == {"out/result.json": "first"}
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_of_many_runs_at_once_one_wins_whole(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out, before)
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def check() -> None:
        if out.exists() and not files.is_empty(out):
            raise CannotWriteError("not empty")

    def run(number: int) -> None:
        start.wait()
        try:
            with whole_folder(out, check, last="result.json") as folder:
                for name in ("a", "b", "result.json"):
                    (folder / name).write_text(str(number))
        except CannotWriteError:
            outcomes.append("refused")
        else:
            outcomes.append("written")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["written"]
    assert len(set(content(out).values())) == 1
    assert names(out) == ["a", "b", "result.json"]
    assert names(tmp_path) == ["out"]


def test_what_appears_in_an_empty_folder_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def run() -> None:
        with whole_folder(out, lambda: None) as folder:
            (folder / "b").write_text("new")
            (out / "b").write_text("mine")

    with pytest.raises(CannotWriteError, match="File exists"):
        run()
    assert content(out) == {"b": "mine"}
    assert names(out) == ["b"]


def test_where_there_are_no_locks_a_working_folder_is_somebodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "out")
    work = tmp_path / ".out.partial-gliosight"
    work.mkdir()
    (work / "owner").touch()
    with pytest.raises(CannotWriteError, match=r"if none runs, remove \.out\.partial"):
        recover(tmp_path / "out")
    assert names(tmp_path) == [work.name, "out"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_file_on_a_full_disk_leaves_the_earlier_one_alone(error: int, tmp_path: Path) -> None:
    (tmp_path / "studies.csv").write_text("old")

    def run() -> None:
        with whole_file(tmp_path / "studies.csv", overwrite=True) as path:
            path.write_text("ne")
            raise OSError(error, os.strerror(error))

    with pytest.raises(CannotWriteError, match=os.strerror(error)):
        run()
    assert content(tmp_path) == {"studies.csv": "old"}
    assert names(tmp_path) == ["studies.csv"]


@pytest.mark.parametrize(
    ("path", "remedy"),
    [("nowhere/mask.nii.gz", "make the folder above it"), ("/proc/x.csv", "choose another -o")],
)
def test_a_file_that_cannot_be_made_says_what_to_do(path: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError) as caught:
        write_table(tmp_path / path)
    assert str(caught.value.remedy).startswith(remedy)
    assert "No such file or directory" in caught.value.what


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("plain", "plain"),
        ("a/b\\c:d", "a_b_c_d"),
        ("line\nbreak\x1b[31m", "line_break_[31m"),
        ("..", "study"),
        ("", "study"),
        ("Größe 影像", "Größe 影像"),
        ("x" * 500, "x" * 180),
        ("影" * 500, "影" * 60),  # three bytes each: 255 is the most a file name may have,
    ],
)
def test_safe_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_safe_names_are_told_apart() -> None:
    assert safe_names(["a", "b"]) == ["a", "b"]
    assert safe_names(["a", "A"]) == ["1_a", "2_A"]
