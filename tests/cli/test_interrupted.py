"""Asked to end, by ctrl-C or by what started it, the command leaves nothing half-written and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gliosight import cli

# A command that is in the middle of writing for as long as a test needs.
WAITING = """
import sys, time, types
from pathlib import Path
import click
from gliosight import cli
from gliosight.write.result_folder import staged

@click.command("wait")
@click.argument("out", type=click.Path(path_type=Path))
def command(out):
    "Write, and wait."
    with staged(out) as folder:
        try:
            (folder / "half").touch()
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("leaving", flush=True)
            time.sleep(float(sys.argv[2]))

sys.modules["gliosight.cli.wait"] = types.SimpleNamespace(command=command)
cli.COMMANDS["wait"] = "Write, and wait."
cli.main(["wait", sys.argv[1]])
"""
SAID = f"{cli.INTERRUPTED}\n".encode()
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def _as_from_a_terminal() -> None:
    """Whoever runs the tests may have set signals to be ignored (nohup, a job in the background)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def _waiting(out: Path, seconds: float = 0.0, *prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    call = [*prefix, sys.executable, "-c", WAITING, str(out), str(seconds)]
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_as_from_a_terminal
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whoever_asks_it_ends_clean_with_130(name: str, tmp_path: Path) -> None:
    with _waiting(tmp_path / "out") as process:
        assert [one.name[:12] for one in tmp_path.iterdir()] == [".out.partial"]
        process.send_signal(getattr(signal, name))
        _, told = process.communicate(timeout=300)
    assert (process.returncode, told.lstrip()) == (130, SAID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@POSIX
def test_a_request_that_comes_twice_does_not_cut_the_clearing_short(tmp_path: Path) -> None:
    # From the terminal, and passed on by the program that started us.
    with _waiting(tmp_path / "out", 0.3) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"leaving\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    assert (process.returncode, told.lstrip()) == (130, SAID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@POSIX
def test_what_was_to_be_ignored_is_ignored(tmp_path: Path) -> None:
    # As under nohup: the closed terminal is no reason to stop, another request is.
    with _waiting(tmp_path / "out", 0.0, "sh", "-c", 'trap "" HUP; exec "$@"', "sh") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=300)
    assert (process.returncode, told.lstrip()) == (130, SAID)


@POSIX
@pytest.mark.slow
def test_a_whole_run_that_is_asked_to_end_while_it_writes(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "gliosight", "demo", "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_as_from_a_terminal
    ) as process:
        while not list(tmp_path.glob(".out.partial-*")):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        said, told = process.communicate(timeout=300)
    assert (process.returncode, said, told.lstrip()) == (130, b"", SAID)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_a_library_wraps_is_one_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrapped(*_: object, **__: object) -> None:
        raise ImportError("half imported") from KeyboardInterrupt()

    monkeypatch.setattr(cli.cli, "main", wrapped)
    assert cli.run(["demo"]) == 130
    assert capsys.readouterr().err == SAID.decode()


def test_the_handlers_are_back_afterwards() -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit):
        cli.main(["models"])
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


# The first thing that is imported, or a library below a command, asks to end: five times.
IMPORTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            for _ in range(5):
                os.kill(os.getpid(), signal.{name})
sys.meta_path.insert(0, Finder())
sys.argv = ["gliosight", "inspect", "x"]
from gliosight.__main__ import main
main()
"""


@POSIX
@pytest.mark.parametrize(
    ("name", "module"), [("SIGINT", "click"), ("SIGTERM", "numpy"), ("SIGHUP", "click")]
)
def test_while_modules_are_imported_it_ends_at_once_in_one_line(name: str, module: str) -> None:
    code = IMPORTING.format(module=module, name=name)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        preexec_fn=_as_from_a_terminal,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", SAID)
