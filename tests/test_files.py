"""Files and folders appear whole or not at all, whoever is killed when, and nobody else's are touched."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
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

# A process that writes to a target and is killed just before it makes its n-th change to the disk.
KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from gliosight import files

kind, target, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def count(event, arguments):
    global step
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in CHANGES or writes:
        step -= 1
        if step == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def write(folder):
    (folder / "a").write_text("new")
    (folder / "mask").mkdir()
    (folder / "mask" / "a").write_text("new")
    (folder / "result.json").write_text("new")

def run():
    sys.addaudithook(count)
    if kind == "recover":
        files.recover(target)
    elif kind == "folder":
        with files.whole_folder(target, lambda: None, last="result.json") as folder:
            write(folder)
    elif kind == "file":
        with files.whole_file(target, overwrite=True) as path:
            path.write_text("new")
    else:
        tempfile.tempdir = str(target)
        files.remove_abandoned_temporaries()
        with files.temporary_folder() as folder:
            write(folder)

run()
"""


def _run(kind: str, target: Path, step: int = 0) -> bool:
    """Run such a process; whether it came to its end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, kind, str(target), str(step)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


def _content(folder: Path) -> dict[str, str]:
    """Every file below a folder that is not hidden, with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".partial-gliosight" not in str(path)
    }


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@POSIX
@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a result"])
def test_a_folder_survives_a_kill_at_every_step(before: str, tmp_path: Path) -> None:
    steps, ended = 0, False
    while not ended:
        steps += 1
        assert steps < 100
        place = tmp_path / str(steps)
        place.mkdir()
        out = place / "out"
        earlier = {"a": "old", "mask/b": "old"} if before == "a result" else {}
        if before != "nothing":
            out.mkdir()
        for name, text in earlier.items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(text)
        ended = _run("folder", out, steps)
        # A half of it is never taken for a result, which result.json makes it.
        left = _content(out) if out.exists() else {}
        assert left in (earlier, WHOLE, {}) or "result.json" not in left
        recover(out)
        assert (_content(out) if out.exists() else {}) in (earlier, WHOLE)
        assert _names(place) in (["out"], [] if before == "nothing" else ["out"])
        assert _run("folder", out)
        assert _content(out) == WHOLE
        assert _names(place) == ["out"]
        assert _names(out) == ["a", "mask", "result.json"]
    assert steps > 10


INTERRUPTED = """
import json, os, shutil, signal, sys
from pathlib import Path
from gliosight import files

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
step = 0

def count(event, arguments):
    global step
    if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        step -= 1
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(count)
# A shell that runs the tests in the background has children ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
place, left, number = Path(sys.argv[1]), [], 0
while step <= 0:
    number += 1
    (place / str(number)).mkdir()
    out = place / str(number) / "out"
    if sys.argv[2] != "nothing":
        out.mkdir()
    if sys.argv[2] == "a result":
        (out / "result.json").write_text("old")
    step = number
    try:
        with files.whole_folder(out, lambda: None, last="result.json") as folder:
            (folder / "result.json").write_text("new")
    except KeyboardInterrupt:
        pass
    assert not [path for path in out.parent.rglob("*") if "partial" in path.name], number
    left.append([path.read_text() for path in out.glob("*")])
print(json.dumps(left))
"""


@POSIX
@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a result"])
def test_an_interrupt_at_every_step_leaves_no_working_folder(before: str, tmp_path: Path) -> None:
    call = [sys.executable, "-c", INTERRUPTED, str(tmp_path), before]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert len(left) > 8
    assert all(one in ([], ["old"], ["new"]) for one in left)
    assert left[0] == (["old"] if before == "a result" else [])
    assert left[-1] == ["new"]


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


@POSIX
def test_the_earlier_result_survives_a_kill_while_it_is_put_back(tmp_path: Path) -> None:
    """The one moment when it is nowhere in its place: between the two renames."""
    steps, ended = 0, False
    while not ended:
        steps += 1
        place = tmp_path / str(steps)
        out, work = place / "out", place / ".out.partial-gliosight"
        for folder, text in ((work / "new", "new"), (work / "old", "old")):
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(text)
        (work / "owner").write_bytes(files._MARK + b"1\n")
        ended = _run("recover", out, steps)
        recover(out)
        assert _content(out) == {"result.json": "old"}
        assert _names(place) == ["out"]
    assert steps > 3


@POSIX
def test_the_earlier_result_is_never_the_price_of_what_came_into_its_place(tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / ".out.partial-gliosight"
    for folder in (work / "new", work / "old"):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(folder.name)
    (work / "owner").write_bytes(files._MARK + b"1\n")
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


@POSIX
@pytest.mark.parametrize("before", ["", "old"])
def test_a_file_survives_a_kill_at_every_step(before: str, tmp_path: Path) -> None:
    steps, ended = 0, False
    while not ended:
        steps += 1
        place = tmp_path / str(steps)
        place.mkdir()
        table = place / "studies.csv"
        if before:
            table.write_text(before)
        ended = _run("file", table, steps)
        assert (table.read_text() if table.exists() else "") in (before, "new")
        assert _run("file", table)
        assert table.read_text() == "new"
        assert _names(place) == ["studies.csv"]
    assert steps > 3


@POSIX
def test_a_temporary_folder_of_a_killed_run_goes_with_the_next(tmp_path: Path) -> None:
    steps, ended = 0, False
    while not ended:
        steps += 1
        place = tmp_path / str(steps)
        place.mkdir()
        ended = _run("temporary", place, steps)
        assert _run("temporary", place)
        assert _names(place) == []
    assert steps > 5


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
