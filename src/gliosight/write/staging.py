"""A folder that appears whole or not at all (stage: write).

Everything is written into a hidden sibling of OUT and renamed at the end. Whatever happens before, a full
disk, an error, ctrl-C, leaves nothing behind; a process that is killed leaves at most the hidden sibling,
which the next run for the same OUT removes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from gliosight.errors import CannotWriteError, printable

# A hidden sibling this old (seconds) belongs to a run that was killed.
ABANDONED_AFTER = 3600
# What makes a folder one of ours: nothing else is ever replaced.
RESULT_FILE = "result.json"


def safe_name(text: str) -> str:
    """A study's name as a file name: separators and control characters become ``_``."""
    clean = "".join("_" if one in '/\\:*?"<>|' or not one.isprintable() else one for one in text)
    return clean.strip(" .")[:120] or "study"


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        OUT is a file; OUT has content and ``overwrite`` is not set, or its content is not ours; the
        folder above it is missing or read-only.
    """
    where = printable(out.name or str(out))
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CannotWriteError(
            "the output is in the way of something that is no folder",
            where=where,
            remedy="choose another -o",
        )
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise CannotWriteError(
                "the output folder is not empty",
                where=where,
                remedy="choose another -o, or replace it with --overwrite",
            )
        if not (out / RESULT_FILE).is_file():
            raise CannotWriteError(
                "the output folder holds something else than a result",
                where=where,
                remedy="choose another -o; --overwrite replaces results of gliosight only",
            )
    above = _nearest_folder(out)
    if not os.access(above, os.W_OK | os.X_OK):
        raise CannotWriteError(
            "no permission to write there", where=where, remedy="choose another -o"
        )


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into; at the end it becomes ``out``.

    Raises
    ------
    CannotWriteError
        See `check_out`; also any `OSError` while writing, such as a full disk.
    """
    check_out(out, overwrite=overwrite)
    out = out.absolute()
    partial = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        partial.mkdir()
        yield partial
        _replace(partial, out)
    except CannotWriteError:
        raise
    except OSError as error:
        raise CannotWriteError(
            f"cannot write the output: {error.strerror or error}",
            where=printable(out.name),
            remedy="make room or choose another -o; nothing was left behind",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, out: Path) -> None:
    old = None
    if out.exists():
        old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:8]}")
        out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        if old is not None:
            old.rename(out)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(out: Path) -> None:
    for kind in ("partial", "old"):
        for path in out.parent.glob(f".{_escape(out.name)}.{kind}-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    shutil.rmtree(path, ignore_errors=True)


def _escape(name: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)


def _nearest_folder(path: Path) -> Path:
    for one in path.absolute().parents:
        if one.exists():
            return one
    return Path(path.anchor)
