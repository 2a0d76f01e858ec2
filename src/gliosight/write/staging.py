"""Which OUT may be written or replaced (stage: write).

A result folder appears whole or not at all (`gliosight.files`). An earlier result is replaced only as it was
written: what somebody put into it is never removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gliosight.errors import CannotWriteError, printable
from gliosight.files import (
    absolute,
    check_working_folder,
    is_empty,
    nearest,
    recover,
    safe_name,
    safe_names,
    whole_folder,
)

__all__ = [
    "LARGEST_RECORD",
    "NOBODYS",
    "RESULT_FILE",
    "check_out",
    "safe_name",
    "safe_names",
    "staged",
]

# What makes a folder one of ours: nothing else is ever replaced.
RESULT_FILE = "result.json"
# Keys of such a file: other tools have a result.json, too.
OUR_KEYS = ("schema_version", "research_use_only")
# Bytes of the largest one that is read: thousands of slices need a few millions.
LARGEST_RECORD = 2**26
# What file browsers put into every folder they show.
NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    What a killed run left half done there is undone first.

    Raises
    ------
    CannotWriteError
        OUT is a file; OUT has content and ``overwrite`` is not set, or something in it is not ours, or
        it is the current folder; the folder above it is read-only or no folder; OUT cannot be a file
        name; another run is writing there.
    """
    with _as_cannot_write(out):
        recover(absolute(out))
    check_place(out, overwrite=overwrite)


def check_place(out: Path, *, overwrite: bool) -> None:
    """`check_out` without a look for what killed runs left, for who is writing there.

    Raises
    ------
    CannotWriteError
    """
    with _as_cannot_write(out) as where:
        _check_content(absolute(out), where, overwrite=overwrite)
        _check_place(absolute(out), where)


@contextlib.contextmanager
def _as_cannot_write(out: Path) -> Iterator[str]:
    """Give OUT's name for messages; what the system says of OUT becomes one of our errors."""
    where = printable(out.name or str(out))
    try:
        where = printable(absolute(out).name or str(out))
        yield where
    except CannotWriteError:
        raise
    except (OSError, ValueError) as error:  # a name too long, no permission to look
        raise CannotWriteError(
            f"cannot write there: {getattr(error, 'strerror', None) or error}",
            where=where,
            remedy="choose another -o",
        ) from error


def _check_content(out: Path, where: str, *, overwrite: bool) -> None:
    if "\0" in str(out):
        raise ValueError("a name cannot hold a NUL")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CannotWriteError(
            "a file is in the way of the output folder",
            where=where,
            remedy="choose another -o",
        )
    if out.is_dir() and not is_empty(out):
        if not overwrite:
            raise CannotWriteError(
                "the output folder is not empty",
                where=where,
                remedy="choose another -o, or replace it with --overwrite",
            )
        _check_ours(out, where)
        if out.is_mount():
            raise CannotWriteError(
                "the result to replace is a mount point",
                where=where,
                remedy="choose a folder in it with -o",
            )


def _check_place(out: Path, where: str) -> None:
    check_working_folder(out)  # raises where its longer name does not fit any more
    fills = out.is_dir() and is_empty(out)
    above = out if fills else nearest(out)
    if not above.is_dir():
        raise CannotWriteError(
            f"{above.name} is not a folder", where=where, remedy="choose another -o"
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
    check = partial(check_place, out, overwrite=overwrite)
    with whole_folder(out, check, last=RESULT_FILE) as folder:
        yield folder


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
    """The record of a result, or nothing if gliosight did not write it."""
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
