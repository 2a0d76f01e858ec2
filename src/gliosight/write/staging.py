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
# Keys at the beginning of such a file: other tools have a result.json, too.
OUR_KEYS = (b'"schema_version"', b'"research_use_only"')
# A file system takes 255 bytes; what is put before and behind a name needs some of them.
LONGEST_NAME = 180


def safe_name(text: str) -> str:
    """A study's name as a file name: separators and control characters become ``_``."""
    clean = "".join("_" if one in '/\\:*?"<>|' or not one.isprintable() else one for one in text)
    # Cut by bytes, not by characters, of which one has up to four.
    short = clean.strip(" .").encode()[:LONGEST_NAME].decode(errors="ignore")
    return short.rstrip(" .") or "study"


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        OUT is a file; OUT has content and ``overwrite`` is not set, or its content is not ours; the
        folder above it is read-only or no folder; OUT cannot be a file name.
    """
    where = printable(out.name or str(out))
    try:
        _check(out, where, overwrite=overwrite)
    except CannotWriteError:
        raise
    except (OSError, ValueError) as error:  # a name too long, no permission to look
        raise CannotWriteError(
            f"cannot write there: {getattr(error, 'strerror', None) or error}",
            where=where,
            remedy="choose another -o",
        ) from error


def _check(out: Path, where: str, *, overwrite: bool) -> None:
    if "\0" in str(out):
        raise ValueError("a name cannot hold a NUL")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CannotWriteError(
            "something that is no folder is in the way of the output",
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
        if not _is_result(out):
            raise CannotWriteError(
                "the output folder holds something else than a result",
                where=where,
                remedy="choose another -o; --overwrite replaces results of gliosight only",
            )
    _sibling(out, "partial").exists()  # raises where this longer name does not fit any more
    above = _nearest(out)
    if not above.is_dir():
        raise CannotWriteError(
            f"{above.name} is no folder", where=where, remedy="choose another -o"
        )
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
    partial = _sibling(out, "partial")
    above = _nearest(out)
    done = False
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        partial.mkdir()
        yield partial
        # Once more: another run may have written OUT in the meantime.
        check_out(out, overwrite=overwrite)
        _replace(partial, out)
        done = True
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
        if not done:
            _remove_made(out, above)


def _is_result(folder: Path) -> bool:
    path = folder / RESULT_FILE
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return all(key in head for key in OUR_KEYS)


def _replace(partial: Path, out: Path) -> None:
    old = None
    if out.exists():
        old = _sibling(out, "old")
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


def _sibling(out: Path, kind: str) -> Path:
    """A hidden, new name beside OUT."""
    return out.absolute().with_name(f".{out.absolute().name}.{kind}-{uuid.uuid4().hex[:8]}")


def _remove_made(out: Path, above: Path) -> None:
    """Remove the empty folders that were made between OUT and the folder that was there."""
    for one in out.parents:
        if one == above:
            return
        with contextlib.suppress(OSError):
            one.rmdir()


def _escape(name: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)


def _nearest(path: Path) -> Path:
    """The nearest of the paths above that exists."""
    for one in path.absolute().parents:
        if one.exists():
            return one
    return Path(path.anchor)
