"""Files and folders appear whole or not at all, whoever is killed when, and nobody else's are touched."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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

# A fork of a process with threads is warned of; the child only writes files.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def _write(kind: str, target: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "mask").mkdir()
        for name in WHOLE:
            (folder / name).write_text("new")

    if kind == "recover":
        recover(target)
    elif kind == "folder":
        with whole_folder(target, lambda: None, last="result.json") as folder:
            fill(folder)
    elif kind == "file":
        with whole_file(target, overwrite=True) as path:
            path.write_text("new")
    else:
        tempfile.tempdir = str(target)
        remove_abandoned_temporaries()
        with temporary_folder() as folder:
            fill(folder)


# Children of a process without threads: those of an engine, which a test before has started, do not survive a
# fork.
FORKS = multiprocessing.get_context("forkserver")


def _run(kind: str, target: Path, step: int = 0, request: int = signal.SIGKILL) -> int:
    """Write in a process that gets a signal just before its n-th change to the disk; give its exit code."""
    child = FORKS.Process(target=_write_until, args=(kind, target, step, request))
    child.start()
    child.join()
    return int(child.exitcode or 0)


def _write_until(kind: str, target: Path, step: int, request: int) -> None:
    """Write; a signal comes just before the n-th change."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal step
        if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            step -= 1
            if step == 0:
                os.kill(os.getpid(), request)

    code = 1
    try:
        # A shell that runs the tests in the background has children ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.addaudithook(count)
        _write(kind, target)
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def _stopped(
    kind: str, place: Path, prepare: Callable[[Path], Path], request: int = signal.SIGKILL
) -> Iterator[tuple[Path, Path]]:
    """Stop such a process at each of its steps, in a folder of its own; give that and its target."""
    stopped = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[request]
    for step in range(1, 100):
        folder = place / str(step)
        folder.mkdir()
        target = prepare(folder)
        code = _run(kind, target, step, request)
        assert code in (0, stopped)
        yield folder, target
        if code == 0:
            assert step > 3
            return
    raise AssertionError("it does not end")


def _content(folder: Path) -> dict[str, str]:
    """Every file below a folder that is not hidden, with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".partial-gliosight" not in str(path)
    }


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


EARLIER = {"nothing": None, "an empty folder": {}, "a result": {"a": "old", "mask/b": "old"}}


def _with(earlier: Mapping[str, str] | None) -> Callable[[Path], Path]:
    def prepare(place: Path) -> Path:
        if earlier is not None:
            (place / "out").mkdir()
        for name, text in (earlier or {}).items():
            (place / "out" / name).parent.mkdir(exist_ok=True)
            (place / "out" / name).write_text(text)
        return place / "out"

    return prepare


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("before", EARLIER)
def test_a_folder_survives_a_kill_at_every_step(before: str, tmp_path: Path) -> None:
    earlier = EARLIER[before] or {}
    for place, out in _stopped("folder", tmp_path, _with(EARLIER[before])):
        # A half of it is never taken for a result, which result.json makes it.
        left = _content(out) if out.exists() else {}
        assert left in (earlier, WHOLE, {}) or "result.json" not in left
        recover(out)
        assert (_content(out) if out.exists() else {}) in (earlier, WHOLE)
        assert _names(place) in (["out"], [] if before == "nothing" else ["out"])
        assert _run("folder", out) == 0
        assert _content(out) == WHOLE
        assert _names(place) == ["out"]
        assert _names(out) == ["a", "mask", "result.json"]


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("before", EARLIER)
def test_an_interrupt_at_every_step_leaves_no_working_folder(before: str, tmp_path: Path) -> None:
    left = []
    for place, out in _stopped("folder", tmp_path, _with(EARLIER[before]), signal.SIGINT):
        assert not [path for path in place.rglob("*") if "partial" in path.name]
        left.append(_content(out) if out.exists() else {})
    earlier = EARLIER[before] or {}
    assert all(content in (earlier, WHOLE) for content in left)
    assert (left[0], left[-1]) == (earlier, WHOLE)


@pytest.mark.parametrize("step", ["_undo", "_empty"])
def test_an_interrupt_before_the_first_write_leaves_no_working_folder(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(files, step)

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(files, step, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, step, interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out", lambda: None):
        pass
    assert _names(tmp_path) == []


def _replaced_by_half(place: Path) -> Path:
    """A run was killed between the two renames: the earlier result is nowhere in its place."""
    work = place / ".out.partial-gliosight"
    for name in ("new", "old"):
        (work / name).mkdir(parents=True)
        (work / name / "result.json").write_text(name)
    (work / "owner").write_bytes(files._MARK + b"1\n")
    return place / "out"


@pytest.mark.slow
@POSIX
def test_the_earlier_result_survives_a_kill_while_it_is_put_back(tmp_path: Path) -> None:
    for place, out in _stopped("recover", tmp_path, _replaced_by_half):
        recover(out)
        assert _content(out) == {"result.json": "old"}
        assert _names(place) == ["out"]


@POSIX
def test_the_earlier_result_is_never_the_price_of_what_came_into_its_place(tmp_path: Path) -> None:
    out, work = _replaced_by_half(tmp_path), tmp_path / ".out.partial-gliosight"
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    with pytest.raises(CannotWriteError, match="cannot be put back") as caught:
        recover(out)
    assert caught.value.where == ".out.partial-gliosight/old"
    assert (work / "old" / "result.json").read_text() == "old"
    assert (out / "thesis.tex").read_text() == "years"
    (out / "thesis.tex").unlink()
    recover(out)  # into an empty folder it goes
    assert _content(tmp_path) == {"out/result.json": "old"}


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("before", ["", "old"])
def test_a_file_survives_a_kill_at_every_step(before: str, tmp_path: Path) -> None:
    def prepare(place: Path) -> Path:
        if before:
            (place / "studies.csv").write_text(before)
        return place / "studies.csv"

    for place, table in _stopped("file", tmp_path, prepare):
        assert (table.read_text() if table.exists() else "") in (before, "new")
        assert _run("file", table) == 0
        assert table.read_text() == "new"
        assert _names(place) == ["studies.csv"]


@pytest.mark.slow
@POSIX
def test_a_temporary_folder_of_a_killed_run_goes_with_the_next(tmp_path: Path) -> None:
    for place, _ in _stopped("temporary", tmp_path, lambda place: place):
        assert _run("temporary", place) == 0
        assert _names(place) == []


FOREIGN = [
    ".out.partial-1",
    ".out.old-1",
    ".out.partial-gliosight-notes",
    ".other.partial-gliosight",
    ".out.gliosight",
]


def test_hidden_folders_of_others_stay(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years")
        os.utime(tmp_path / name, (0, 0))
    for _ in range(2):
        with whole_folder(tmp_path / "out", lambda: None) as folder:
            (folder / "result.json").touch()
    assert _names(tmp_path) == sorted([*FOREIGN, "out"])
    assert all((tmp_path / name / "thesis.tex").read_text() == "years" for name in FOREIGN)


@pytest.mark.parametrize(
    "kind",
    [
        *("folder", "with an owner", "file", "link", "dead link"),
        *(pytest.param(kind, marks=POSIX) for kind in ("a FIFO", "an empty owner")),
    ],
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
    else:
        work.mkdir(mode=0o755)
        if kind == "a FIFO":
            os.mkfifo(work / "owner")
        elif kind == "an empty owner":
            (work / "owner").touch(mode=0o644)
        else:
            (work / "thesis.tex").write_text("years")
        if kind == "with an owner":
            (work / "owner").write_text("Jane")
    before = sorted(tmp_path.rglob("*"))

    def write() -> None:
        with whole_folder(out, lambda: None):
            pass

    with pytest.raises(CannotWriteError, match="did not write") as caught:
        write()
    assert caught.value.where == work.name
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a result"])
def test_of_two_runs_with_one_target_one_writes(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if before != "nothing":
        out.mkdir()
    if before == "a result":
        (out / "old").touch()

    def write() -> None:
        with whole_folder(out, lambda: None):
            pass

    with whole_folder(out, lambda: None, last="result.json") as folder:
        (folder / "result.json").write_text("first")
        with pytest.raises(CannotWriteError, match="another run") as caught:
            write()
        assert (caught.value.exit_code, caught.value.where) == (7, "out")
        with pytest.raises(CannotWriteError, match="another run"):
            recover(out)
    assert _content(out) == {"result.json": "first"}
    assert _names(tmp_path) == ["out"]


def test_where_no_folder_can_be_made_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:  # as /proc does
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(files.Path, "mkdir", refuse)
    words = r"takes no new folders \(out\)"
    with pytest.raises(CannotWriteError, match=words), whole_file(tmp_path / "out"):
        pass


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_of_many_runs_at_once_one_wins_whole(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if before != "nothing":
        out.mkdir()
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def check() -> None:
        if out.exists() and not files.is_empty(out):
            raise CannotWriteError("not empty")

    def write(number: int) -> None:
        start.wait()
        try:
            with whole_folder(out, check, last="result.json") as folder:
                for name in ("a", "b", "result.json"):
                    (folder / name).write_text(str(number))
        except CannotWriteError:
            outcomes.append("refused")
        else:
            outcomes.append("written")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["written"]
    assert len(set(_content(out).values())) == 1
    assert _names(out) == ["a", "b", "result.json"]
    assert _names(tmp_path) == ["out"]


def test_what_appears_in_an_empty_folder_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def write() -> None:
        with whole_folder(out, lambda: None) as folder:
            (folder / "a").write_text("new")
            (folder / "b").write_text("new")
            (out / "b").write_text("mine")

    with pytest.raises(CannotWriteError, match="something has appeared"):
        write()
    assert _content(out) == {"b": "mine"}
    assert _names(out) == ["b"]


def test_what_makes_an_empty_folder_a_result_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should even the undoing be cut off, a half of it is no result."""
    rename, order = Path.rename, []

    def watched(self: Path, target: Path) -> Path:
        order.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    with whole_folder(tmp_path, lambda: None, last="result.json") as folder:
        for name in ("a", "result.json", "z"):
            (folder / name).touch()
    assert order == ["a", "z", "result.json"]


def test_where_there_are_no_locks_the_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    work = tmp_path / ".out.partial-gliosight"
    work.mkdir()
    (work / "owner").write_bytes(files._MARK + b"%d\n" % os.getpid())
    with pytest.raises(CannotWriteError, match="another run"):
        recover(tmp_path / "out")
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    (work / "owner").write_bytes(files._MARK + b"%d\n" % child.pid)
    with whole_file(tmp_path / "out") as path:
        path.touch()
    assert _names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_file_on_a_full_disk_leaves_the_earlier_one_alone(error: int, tmp_path: Path) -> None:
    (tmp_path / "studies.csv").write_text("old")

    def write() -> None:
        with whole_file(tmp_path / "studies.csv", overwrite=True) as path:
            path.write_text("ne")
            raise OSError(error, os.strerror(error))

    with pytest.raises(CannotWriteError, match=os.strerror(error)):
        write()
    assert _content(tmp_path) == {"studies.csv": "old"}
    assert _names(tmp_path) == ["studies.csv"]


def test_a_temporary_folder_is_the_users_own_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "gliosight-unpacked-mine").mkdir()
    (tmp_path / "gliosight-unpacked-mine" / "thesis.tex").write_text("years")
    (tmp_path / "gliosight-abc").mkdir()
    with ExitStack() as stack:
        first = stack.enter_context(temporary_folder())
        (first / "patient").write_text("data")
        assert first.stat().st_mode & 0o777 == 0o700
        remove_abandoned_temporaries()  # as another run would
        assert (first / "patient").read_text() == "data"
    assert not first.exists()
    assert _names(tmp_path) == ["gliosight-abc", "gliosight-unpacked-mine"]
    assert _content(tmp_path) == {"gliosight-unpacked-mine/thesis.tex": "years"}


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
