"""A folder that appears whole or not at all (stage: write).

Everything is written into a hidden sibling of OUT and renamed at the end. Whatever happens before, a full
disk, an error, ctrl-C, leaves nothing behind; a process that is killed leaves at most the hidden sibling,
which the next run for the same OUT removes. An empty folder that was there stays itself, and is filled in
the end. An earlier result is replaced only as it was written: what somebody put into it is never removed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gliosight.errors import CannotWriteError, GliosightError, printable

# A hidden sibling this old (seconds) belongs to a run that was killed.
ABANDONED_AFTER = 3600
# What makes a folder one of ours: nothing else is ever replaced.
RESULT_FILE = "result.json"
# Keys of such a file: other tools have a result.json, too.
OUR_KEYS = ("schema_version", "research_use_only")
# Bytes of the largest one that is read: thousands of slices need a few millions.
LARGEST_RECORD = 2**26
# What file browsers put into every folder they show.
NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")
# A file system takes 255 bytes; what is put before and behind a name needs some of them.
LONGEST_NAME = 180


def safe_name(text: str) -> str:
    """A study's name as a file name: separators and control characters become ``_``."""
    clean = "".join("_" if one in '/\\:*?"<>|' or not one.isprintable() else one for one in text)
    # Cut by bytes, not by characters, of which one has up to four.
    short = clean.strip(" .").encode()[:LONGEST_NAME].decode(errors="ignore")
    return short.rstrip(" .") or "study"


def safe_names(texts: Sequence[str]) -> list[str]:
    """Names of slices as file names that every file system tells apart."""
    names = [safe_name(one) for one in texts]
    # Two names may differ only in what a file name cannot hold, or in case, or in how an accent is coded.
    if len({unicodedata.normalize("NFKC", one).casefold() for one in names}) < len(names):
        return [f"{number}_{one}" for number, one in enumerate(names, start=1)]
    return names


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    Raises
    ------
    CannotWriteError
        OUT is a file; OUT has content and ``overwrite`` is not set, or something in it is not ours, or
        it is the working folder; the folder above it is read-only or no folder; OUT cannot be a file
        name.
    """
    where = printable(out.name or str(out))
    try:
        out = _straight(out)
        where = printable(out.name or str(out))
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
        _check_ours(out, where)
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
    out = _straight(out)
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
        raise _cannot_write(error, printable(out.name)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not done:
            _remove_made(out, above)


@contextlib.contextmanager
def staged_file(out: Path) -> Iterator[Path]:
    """A single file that appears whole or not at all: write to what is given, it is renamed at the end.

    Raises
    ------
    CannotWriteError
        There is something at OUT already, or it cannot be written.
    """
    where = printable(out.name or str(out))
    if os.path.lexists(out):
        raise CannotWriteError(
            "there is a file already", where=where, remedy="remove it, or choose another -o"
        )
    partial = _sibling(out, "partial")
    try:
        yield partial
        partial.rename(out)
    except OSError as error:
        if isinstance(error, GliosightError):
            raise
        raise _cannot_write(error, where) from error
    finally:
        partial.unlink(missing_ok=True)


def _cannot_write(error: OSError, where: str) -> CannotWriteError:
    """What to do depends on what the system says: a full disk wants room, a missing folder does not."""
    remedies = {
        errno.ENOENT: "make the folder it shall lie in, or choose another -o",
        errno.ENOTDIR: "choose another -o: a part of this one is a file",
        errno.EACCES: "choose a folder you may write in with -o",
        errno.EPERM: "choose a folder you may write in with -o",
        errno.EROFS: "choose a folder you may write in with -o",
    }
    remedy = remedies.get(error.errno or 0, "make room or choose another -o")
    return CannotWriteError(
        f"cannot write the output: {error.strerror or error}",
        where=where,
        remedy=f"{remedy}; nothing was left behind",
    )


def _check_ours(out: Path, where: str) -> None:
    """Refuse to replace a folder unless it is a result and nothing but a result."""
    record = _read_record(out / RESULT_FILE)
    if record is None:
        raise CannotWriteError(
            "the output folder holds something else than a result",
            where=where,
            remedy="choose another -o; --overwrite replaces results of gliosight only",
        )
    foreign = next(_foreign(out, record), None)
    if foreign is not None:
        raise CannotWriteError(
            f"the output folder holds something that is not part of the result: {foreign}",
            where=where,
            remedy="move that elsewhere, or choose another -o",
        )
    if _holds_working_folder(out):
        raise CannotWriteError(
            "the result to replace is the working folder",
            where=where,
            remedy="go to another folder first, or choose another -o",
        )


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record of a result, or nothing if it is none of ours."""
    if not path.is_file() or path.stat().st_size > LARGEST_RECORD:
        return None
    try:
        record = json.loads(path.read_bytes())
        ours = all(key in record for key in OUR_KEYS)
        names = [one["name"] for one in record["detection"]["slices"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not ours or not isinstance(record.get("files"), dict):
        return None
    return record if all(isinstance(one, str) for one in names) else None


def _foreign(out: Path, record: dict[str, Any]) -> Iterator[str]:
    """What is in a result's folder without belonging to the result, as paths below it."""
    slices = safe_names([one["name"] for one in record["detection"]["slices"]])
    for path in sorted(out.iterdir()):
        if path.name in NOBODYS:
            continue
        if not path.is_dir() or path.is_symlink():
            if path.name not in record["files"]:
                yield path.name
        elif f"{path.name}/" not in record["files"]:
            yield f"{path.name}/"
        else:
            written = {f"{one}_{path.name}.tif" for one in slices}
            inside = sorted(one.name for one in path.iterdir())
            yield from (
                f"{path.name}/{one}" for one in inside if one not in written and one not in NOBODYS
            )


def _holds_working_folder(out: Path) -> bool:
    try:
        here = Path.cwd().resolve()
    except OSError:  # it has been removed
        return False
    return out.resolve() in (here, *here.parents)


def _replace(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    if not any(out.iterdir()):
        _fill(partial, out)
        return
    old = _sibling(out, "old")
    try:
        out.rename(old)
        partial.rename(out)
    except BaseException:  # ctrl-C may come between the two
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def _fill(partial: Path, out: Path) -> None:
    """Move what was written into an empty folder, which keeps its owner, its rights and who is in it."""
    # What makes it a result goes last: where even the undoing is cut off, there is none.
    written = sorted(partial.iterdir(), key=lambda one: (one.name == RESULT_FILE, one.name))
    try:
        for path in written:
            path.rename(out / path.name)
    except BaseException:
        for path in written:
            _remove(out / path.name)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_abandoned(out: Path) -> None:
    for kind in ("partial", "old"):
        for path in out.parent.glob(f".{_escape(out.name)}.{kind}-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    shutil.rmtree(path, ignore_errors=True)


def _straight(out: Path) -> Path:
    """OUT as an absolute path with a name of its own, which ``.`` and ``..`` are not."""
    return out.resolve() if out.name in ("", "..") else out.absolute()


def _sibling(out: Path, kind: str) -> Path:
    """A hidden, new name beside OUT."""
    return out.with_name(f".{out.name}.{kind}-{uuid.uuid4().hex[:8]}")


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
