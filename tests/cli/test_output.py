"""Where the words go: terminals, closed pipes, and terminals without Unicode."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gliosight.cli.output import progress_display


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
