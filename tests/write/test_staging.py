"""A result folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gliosight.errors import CannotWriteError
from gliosight.write import staging
from gliosight.write.staging import check_out, safe_name, staged

OURS = '{"schema_version": "1.0", "research_use_only": "Research use only."}'


def _leftovers(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged(out) as folder:
        (folder / "result.json").write_text("{}")
        assert not out.exists()
    assert (out / "result.json").read_text() == "{}"
    assert _leftovers(out.parent) == ["out"]


def test_an_error_midway_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out") as folder:
            (folder / "a").write_text("a")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert _leftovers(tmp_path) == []


def test_a_full_disk_is_one_of_our_errors_and_keeps_the_old_result(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(out) as folder:
        (folder / "result.json").write_text(OURS)

    def fail() -> None:
        with staged(out, overwrite=True):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CannotWriteError, match="No space left") as caught:
        fail()
    assert caught.value.exit_code == 7
    assert (out / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        with staged(out, overwrite=True) as folder:
            (folder / "result.json").write_text(OURS)
            (folder / f"only-{number}").touch()
    assert _leftovers(out) == ["only-2", "result.json"]
    assert _leftovers(tmp_path) == ["out"]


def test_folders_made_on_the_way_go_with_a_run_that_failed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    def fail() -> None:
        with staged(tmp_path / "mine" / "new" / "deep" / "out"):
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert _leftovers(tmp_path) == ["mine"]
    assert _leftovers(tmp_path / "mine") == []


def test_what_another_run_wrote_in_the_meantime_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run() -> None:
        with staged(out) as folder:
            (folder / "result.json").write_text("second")
            out.mkdir()
            (out / "result.json").write_text(OURS)

    with pytest.raises(CannotWriteError, match="not empty"):
        run()
    assert (out / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


def test_the_old_result_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with staged(out) as folder:
        (folder / "result.json").write_text(OURS)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)

    def replace() -> None:
        with staged(out, overwrite=True) as folder:
            (folder / "result.json").write_text("new")

    with pytest.raises(CannotWriteError, match="Input/output error"):
        replace()
    assert (out / "result.json").read_text() == OURS
    assert _leftovers(tmp_path) == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out") as folder:
        (folder / "result.json").touch()
    assert _leftovers(tmp_path / "out") == ["result.json"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "dead link", "something else", "another tool's"])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years")
    if kind == "file":
        out.write_text("file")
    elif kind == "link":
        out.symlink_to(elsewhere)
    elif kind == "dead link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out = elsewhere
    if kind == "another tool's":
        (elsewhere / "result.json").write_text('{"accuracy": 0.9}')
    with pytest.raises(CannotWriteError, match="choose another -o"):
        check_out(out, overwrite=overwrite)
    assert (elsewhere / "thesis.tex").read_text() == "years"


def test_a_result_is_refused_without_overwrite(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as folder:
        (folder / "result.json").touch()
    with pytest.raises(CannotWriteError, match="--overwrite"):
        check_out(tmp_path / "out", overwrite=False)


def test_a_read_only_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is replaced.
    monkeypatch.setattr(staging.os, "access", lambda *_: False)
    with pytest.raises(CannotWriteError, match="permission"):
        check_out(tmp_path / "out", overwrite=False)


@pytest.mark.parametrize("name", ["x" * 256, "x" * 250, "a\0b", "file/out", "file/new/out"])
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file").chmod(0o755)
    with pytest.raises(CannotWriteError, match="choose another -o"):
        check_out(tmp_path / name, overwrite=False)
    assert _leftovers(tmp_path) == ["file"]


def test_only_what_was_abandoned_for_this_output_is_removed(tmp_path: Path) -> None:
    old = time.time() - 2 * staging.ABANDONED_AFTER
    # [ and * are names, not patterns; the others belong to other outputs or to nobody.
    names = [".o[u]t*.partial-1", ".o[u]t*.old-1", ".ouththt.partial-1", ".o[u]t*x.partial-1", "p"]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".o[u]t*.partial-2").mkdir()
    with staged(tmp_path / "o[u]t*") as folder:
        (folder / "result.json").write_text(OURS)
    assert _leftovers(tmp_path) == sorted([*names[2:], ".o[u]t*.partial-2", "o[u]t*"])


def test_a_killed_run_leaves_no_result_and_the_next_one_works(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gliosight.write.staging import staged\n"
        "with staged(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); print('ready', flush=True); time.sleep(60)"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    (partial,) = tmp_path.glob(".out.partial-*")
    # A fresh one may belong to a run that goes on; an old one was left by a dead run.
    with staged(out) as folder:
        (folder / "result.json").write_text(OURS)
    assert partial.exists()
    old = time.time() - 2 * staging.ABANDONED_AFTER
    os.utime(partial, (old, old))
    with staged(out, overwrite=True) as folder:
        (folder / "result.json").touch()
    assert _leftovers(tmp_path) == ["out"]


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
