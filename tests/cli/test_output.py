"""Where the words go: terminals, closed pipes, and terminals without Unicode."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gliosight import cli
from gliosight.cli.output import progress_display
from gliosight.errors import DamagedInputError

from .asserting import error_line


def damaged_by(cause: Exception) -> DamagedInputError:
    """What a reader makes of any error of a library."""
    error = DamagedInputError("the file is corrupt", where="a.nii", remedy="copy it again")
    error.__cause__ = cause
    return error


def _gliosight(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, as a shell starts it."""
    call = [sys.executable, "-c", "from gliosight.cli import main; main()", *arguments]
    return subprocess.run(call, check=False, timeout=300, **options)


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


STREAMS = ["2>&-", "1>&-", "<&-", "<&- 1>&- 2>&-", ">/dev/full", "2>/dev/full"]


@pytest.mark.skipif(os.name != "posix", reason="streams as a POSIX shell closes them")
@pytest.mark.parametrize("streams", STREAMS)
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
    error: Exception,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    assert cli.run(["models"]) == code
    assert words in error_line(capsys)


@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
@pytest.mark.parametrize("megabytes", [150, 250, 400])
def test_a_memory_limit_too_low_to_load_numpy_is_told(megabytes: int, tmp_path: Path) -> None:
    """Below it OpenBLAS waits for ever, deaf to signals."""
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "gliosight", "analyze", str(tmp_path)],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 6
    assert f"{megabytes} MiB of memory, and 512 MiB are needed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
