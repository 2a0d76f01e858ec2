"""Which OUT may be written or replaced (stage: write).

Apart from `gliosight.files`, since this knows what a result is: only an earlier result is replaced, and only
as it was written; what somebody put into it is never removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gliosight.errors import CannotWriteError, printable
from gliosight.files import absolute, is_empty, nearest, recover, safe_names, whole_folder, writing

# What makes a folder one of ours: nothing else is ever replaced.
RESULT_FILE = "result.json"
# Bytes of the largest one that is read: thousands of slices need a few millions.
LARGEST_RECORD = 2**26
# What file browsers put into every folder they show.
NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")
_ELSEWHERE = "choose another -o"


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse an OUT that cannot be written, before any work is done.

    What a killed run left half done there is undone or completed first.

    Raises
    ------
    CannotWriteError
        OUT is a file; OUT has content and ``overwrite`` is not set, or something in it is not ours, or
        it is the current folder; the folder above it is read-only or no folder; OUT cannot be a file
        name; another run is writing there.
    """
    recover(out)
    check_place(out, overwrite=overwrite)


def check_place(out: Path, *, overwrite: bool) -> None:
    """`check_out` without a look for what killed runs left, and for who is writing there."""
    with writing(out):
        out = absolute(out)
        for what, remedy in _objections(out, overwrite=overwrite):
            raise CannotWriteError(what, where=printable(out.name or str(out)), remedy=remedy)


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into; at the end it becomes ``out``.

    Raises
    ------
    CannotWriteError
        See `check_out`; also any `OSError` while writing, such as a full disk.
    """
    check = partial(check_place, out, overwrite=overwrite)
    with whole_folder(out, check, last=RESULT_FILE) as folder:
        yield folder


def _objections(out: Path, *, overwrite: bool) -> Iterator[tuple[str, str]]:
    """Why OUT cannot be written, and the remedy."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        yield "a file is in the way of the output folder", _ELSEWHERE
    empty = out.is_dir() and is_empty(out)
    if not os.access(out if empty else nearest(out), os.W_OK | os.X_OK):
        yield "no permission to write there", _ELSEWHERE
    if empty or not out.exists():
        return
    if not overwrite:
        yield "the output folder is not empty", f"{_ELSEWHERE}, or replace it with --overwrite"
    own = _paths_of_result(out)
    if own is None:
        yield (
            "the output folder holds something else than a result",
            f"{_ELSEWHERE}; --overwrite replaces results of gliosight only",
        )
    for foreign in _foreign(out, own or set()):
        yield (
            f"the output folder holds something that is not part of the result: {foreign}",
            f"move that elsewhere, or {_ELSEWHERE}",
        )
    with contextlib.suppress(FileNotFoundError):  # the current folder has been removed
        if Path.cwd().resolve().is_relative_to(out.resolve()):
            yield (
                "the result to replace is the working folder",
                f"go to another folder first, or {_ELSEWHERE}",
            )
    if out.is_mount():
        yield "the result to replace is a mount point", "choose a folder in it with -o"


def _paths_of_result(out: Path) -> set[str] | None:
    """The paths that a result's record names; ``None`` where gliosight did not write it."""
    path = out / RESULT_FILE
    if not path.is_file() or path.stat().st_size > LARGEST_RECORD:
        return None
    try:
        record = json.loads(path.read_bytes())
        slices = safe_names([item["name"] for item in record["detection"]["slices"]])
        paths = set(dict(record["files"]))
        # Other tools have a result.json, too.
        ours = {"schema_version", "research_use_only"} <= record.keys()
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
