"""Which OUT may be written or replaced (stage: write).

Apart from `gliosight.files`, which makes a folder appear whole or not at all: this knows what a result is. An
earlier result is replaced only as it was written; what somebody put into it is never removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gliosight.errors import CannotWriteError, printable
from gliosight.files import (
    absolute,
    check_working_folder,
    is_empty,
    nearest,
    recover,
    safe_names,
    whole_folder,
)

# What makes a folder one of ours: nothing else is ever replaced.
RESULT_FILE = "result.json"
# Keys of such a file: other tools have a result.json, too.
OUR_KEYS = ("schema_version", "research_use_only")
# Bytes of the largest one that is read: thousands of slices need a few millions.
LARGEST_RECORD = 2**26
# What file browsers put into every folder they show.
NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")
_ELSEWHERE = "choose another -o"
_FORBIDDEN = "no permission to write there"
_READ_ONLY = "the file system there is read-only"


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
    """`check_out` without a look for what killed runs left, and for who is writing there.

    Raises
    ------
    CannotWriteError
    """
    with _as_cannot_write(out) as where:
        if objection := _objection(absolute(out), overwrite=overwrite):
            raise CannotWriteError(objection[0], where=where, remedy=objection[1])


def refuse_single(out: Path, remedy: str) -> None:
    """Raise `CannotWriteError` where OUT, which is for many studies, is the result folder of one."""
    if (out / RESULT_FILE).exists():
        what = f"{out.name} is the result folder of a single study"
        raise CannotWriteError(what, where=RESULT_FILE, remedy=remedy)


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
        what = f"cannot write there: {getattr(error, 'strerror', None) or error}"
        if isinstance(error, PermissionError):
            what = _FORBIDDEN
        raise CannotWriteError(what, where=where, remedy=_ELSEWHERE) from error


def _objection(out: Path, *, overwrite: bool) -> tuple[str, str] | None:
    """Why OUT cannot be written, and the remedy."""
    if "\0" in str(out):
        return "a name cannot hold a NUL", _ELSEWHERE
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        return "a file is in the way of the output folder", _ELSEWHERE
    fills = out.is_dir() and is_empty(out)
    if out.is_dir() and not fills:
        if not overwrite:
            remedy = f"{_ELSEWHERE}, or replace it with --overwrite"
            return "the output folder is not empty", remedy
        if objection := _objection_to_replace(out):
            return objection
    check_working_folder(out)  # raises where its longer name does not fit any more
    above = out if fills else nearest(out)
    if not above.is_dir():
        return f"{above.name} is not a folder", _ELSEWHERE
    if not os.access(above, os.W_OK | os.X_OK):
        return _READ_ONLY if _is_read_only(above) else _FORBIDDEN, _ELSEWHERE
    return None


def _is_read_only(folder: Path) -> bool:
    return sys.platform != "win32" and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _objection_to_replace(out: Path) -> tuple[str, str] | None:
    own = _paths_of_result(out)
    if own is None:
        remedy = f"{_ELSEWHERE}; --overwrite replaces results of gliosight only"
        return "the output folder holds something else than a result", remedy
    if (foreign := next(_foreign(out, own), None)) is not None:
        what = f"the output folder holds something that is not part of the result: {foreign}"
        return what, f"move that elsewhere, or {_ELSEWHERE}"
    with contextlib.suppress(OSError):  # the working folder has been removed
        here = Path.cwd().resolve()
        if out.resolve() in (here, *here.parents):
            remedy = f"go to another folder first, or {_ELSEWHERE}"
            return "the result to replace is the working folder", remedy
    if out.is_mount():
        return "the result to replace is a mount point", "choose a folder in it with -o"
    return None


def _paths_of_result(out: Path) -> set[str] | None:
    """The paths that a result's record names; ``None`` where gliosight did not write it."""
    path = out / RESULT_FILE
    if not path.is_file() or path.stat().st_size > LARGEST_RECORD:
        return None
    try:
        record = json.loads(path.read_bytes())
        slices = safe_names([item["name"] for item in record["detection"]["slices"]])
        paths = set(dict(record["files"]))
        ours = all(key in record for key in OUR_KEYS)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    folders = [path for path in paths if path.endswith("/")]
    paths |= {f"{folder}{name}_{folder[:-1]}.tif" for folder in folders for name in slices}
    return paths if ours else None


def _foreign(out: Path, own: set[str]) -> Iterator[str]:
    """What is in a result's folder without belonging to the result, as paths below it."""
    for path in sorted(out.iterdir()):
        folder = path.is_dir() and not path.is_symlink()
        name = f"{path.name}/" if folder else path.name
        inside = sorted(path.iterdir()) if folder and name in own else []
        names = [name, *(f"{name}{child.name}" for child in inside)]
        yield from (path for path in names if path not in own and Path(path).name not in NOBODYS)
