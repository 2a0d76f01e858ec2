"""Files and folders that appear whole or not at all, and safe names (domain layer).

Everything is written into a hidden *working folder* first, beside the target, or inside it where the target
is an empty folder, and renamed at the end. The working folder's name follows from the target's, and its file
``owner`` is locked while the run lives: of two runs with one target the second ends with `CannotWriteError`,
and the next run undoes or completes what a killed one left. A folder of that name that holds anything else
is not touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from gliosight.errors import CannotWriteError, printable

# A file system takes 255 bytes; what is put before and behind a name needs some of them.
LONGEST_NAME = 180
_WORKING = ".partial-gliosight"
_TEMPORARY = "gliosight-unpacked-"
# In a working folder: its lock, what is written, what that replaces, and the mark that it is being moved.
_OWNER, _NEW, _OLD, _MOVING = "owner", "new", "old", "moving"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def safe_name(text: str) -> str:
    """A study's name as a file name: separators and control characters become ``_``."""
    clean = "".join(
        "_" if char in '/\\:*?"<>|' or not char.isprintable() else char for char in text
    )
    # Cut by bytes, not by characters, of which one has up to four.
    short = clean.strip(" .").encode()[:LONGEST_NAME].decode(errors="ignore")
    return short.rstrip(" .") or "study"


def folded(name: str) -> str:
    """A name as file systems see it that take neither case nor the coding of accents into account."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, with the first number behind it that makes it none of those `folded` ones."""
    number, free = 2, name
    while folded(free) in taken:
        number, free = number + 1, f"{name}-{number}"
    return free


def safe_names(texts: Sequence[str]) -> list[str]:
    """Names of slices as file names that every file system tells apart."""
    names = [safe_name(text) for text in texts]
    # Two names may differ only in what a file name cannot hold.
    if len(set(map(folded, names))) < len(names):
        return [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return names


def absolute(path: Path) -> Path:
    """An absolute path with a name of its own, which ``.`` and ``..`` are not; raises `OSError`."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a name cannot hold a NUL")
    return path.resolve() if path.name in ("", "..") else path.absolute()


def nearest(path: Path) -> Path:
    """The nearest of the folders above that exists."""
    return next((above for above in path.parents if above.exists()), Path(path.anchor))


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or nothing but the working folder of a run that fills it."""
    return all(path.name == _WORKING for path in folder.iterdir())


def cannot_write(error: OSError, target: Path) -> CannotWriteError:
    """The system's error as ours."""
    remedy = "choose another -o"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"make room, or {remedy}"
    elif error.errno == errno.ENOENT and not target.parent.exists():
        remedy = f"make the folder above it, or {remedy}"
    return CannotWriteError(
        f"cannot write the output: {error.strerror or error}",
        where=printable(target.name or str(target)),
        remedy=f"{remedy}; nothing was left behind",
    )


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Within it, what the system says of the target is raised as `CannotWriteError`."""
    try:
        yield
    except CannotWriteError:
        raise
    except OSError as error:
        raise cannot_write(error, target) from error


def recover(target: Path) -> None:
    """Undo or complete what a killed run with this target left half done.

    Raises
    ------
    CannotWriteError
        Another run is writing there now, or an earlier result cannot be put back.
    """
    with writing(target):
        target = absolute(target)
        for work in (_beside(target), *([target / _WORKING] if target.is_dir() else [])):
            with contextlib.suppress(FileNotFoundError):
                work.lstat()  # raises where the longer name does not fit any more
                with _claimed(work, target):
                    pass


@contextlib.contextmanager
def whole_folder(
    target: Path, check: Callable[[], object], *, last: str | None = None
) -> Iterator[Path]:
    """Give an empty folder to write into; at the end it becomes ``target``.

    Parameters
    ----------
    target : Path
        Not there, or a folder. One that holds something is replaced as a whole. An empty one stays itself,
        with its owner and its rights, and is filled.
    check : callable
        Raises where what is at ``target`` may not be replaced. Called at the start and at the end.
    last : str, optional
        The file that makes the folder what it is: an empty folder gets it last.

    Raises
    ------
    CannotWriteError
        What ``check`` raises; another run is writing there; any `OSError`, such as a full disk.
    """
    with writing(target):
        target = absolute(target)
        existing = nearest(target)
        try:
            recover(target)
            check()
            target.parent.mkdir(parents=True, exist_ok=True)
            fills = target.is_dir() and is_empty(target)
            with _claimed(target / _WORKING if fills else _beside(target), target) as new:
                yield new
                check()
                if fills:
                    _fill(new, target, last or "")
                else:
                    _replace(new, target)
        except BaseException:  # ctrl-C as well
            for folder in target.parents[: target.parents.index(existing)]:
                with contextlib.suppress(OSError):  # another run needs it, too
                    folder.rmdir()
            raise


@contextlib.contextmanager
def whole_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path of the same name to write to; at the end that file becomes ``target``.

    Raises
    ------
    CannotWriteError
        There is something at ``target`` and ``overwrite`` is not set; another run is writing it; any
        `OSError`.
    """

    def check() -> None:
        if os.path.lexists(target) and not overwrite:
            raise CannotWriteError(
                "there is a file already",
                where=printable(target.name),
                remedy="remove it, or choose another -o",
            )

    with writing(target):
        target = absolute(target)
        check()
        with _claimed(_beside(target), target) as new:
            yield new / target.name
            check()
            (new / target.name).replace(target)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that only this user may enter, for as long as it is needed.

    Raises
    ------
    OSError
    """
    with _claimed(Path(tempfile.gettempdir()) / f"{_TEMPORARY}{uuid.uuid4().hex}") as folder:
        yield folder


def remove_abandoned_temporaries() -> None:
    """Remove the temporary folders that killed runs of this user left."""
    user = getattr(os, "getuid", lambda: 0)()
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another run's, or gone
                if entry.name.startswith(_TEMPORARY) and entry.stat().st_uid == user:
                    with _claimed(Path(entry.path)):
                        pass


def _beside(target: Path) -> Path:
    return target.parent / f".{target.name}{_WORKING}"


@contextlib.contextmanager
def _claimed(work: Path, target: Path | None = None) -> Iterator[Path]:
    """Own a working folder, emptied of what a killed run left; give the folder in it to write into."""
    lock: IO[bytes] | None = None
    try:
        lock = _claim(work)
        if target is not None:
            _recover(work, target)
        _empty(work)
        (work / _NEW).mkdir(mode=0o700 if target is None else 0o777)
        yield work / _NEW
    finally:
        try:
            _release(work, lock)
        except BaseException:  # ctrl-C while it is removed
            _release(work, lock)
            raise


def _claim(work: Path) -> IO[bytes]:
    """Make a working folder, or take over that of a killed run; return its locked file."""
    for _ in range(5):  # two runs that start at once may each remove the other's
        made = False
        with contextlib.suppress(FileExistsError):
            work.mkdir(mode=0o700)
            made = True
        with contextlib.suppress(FileNotFoundError):  # another run has removed it just now
            if not made and not _is_ours(work):
                raise CannotWriteError(
                    "something that gliosight did not write has the name of its working folder",
                    where=printable(work.name),
                    remedy="move it elsewhere, or choose another -o",
                )
            lock = (work / _OWNER).open("a+b")
            if _lock(lock, made=made) and _is_at(lock, work / _OWNER):
                return lock
            lock.close()
        time.sleep(0.01)
    raise CannotWriteError(
        "another run of gliosight is writing there now",
        where=printable(work.name[1 : -len(_WORKING)] or work.parent.name),
        remedy=f"wait for it to end, or choose another -o; if none runs, remove {work.name}",
    )


def _is_ours(work: Path) -> bool:
    if not stat.S_ISDIR(work.lstat().st_mode):
        return False
    return {path.name for path in work.iterdir()} <= {_OWNER, _NEW, _OLD, _MOVING}


def _is_at(lock: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes], *, made: bool) -> bool:
    """Lock a file until its process ends. Where there are no locks, only a folder made now is ours."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return made and error.errno in _NO_LOCKS
    return True


def _release(work: Path, lock: IO[bytes] | None) -> None:
    """Remove a working folder, unless the next run has something to put back or to move."""
    new, old, moving = work / _NEW, work / _OLD, work / _MOVING
    with contextlib.suppress(OSError):
        half = new.exists() and (old.exists() or (moving.exists() and any(new.iterdir())))
        if lock is not None and not half:
            _empty(work)
            if sys.platform == "win32":  # an open file cannot be removed there
                lock.close()
            (work / _OWNER).unlink(missing_ok=True)
        work.rmdir()
    if lock is not None:
        lock.close()


def _empty(work: Path) -> None:
    for path in (work / _NEW, work / _OLD, work / _MOVING):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _replace(new: Path, target: Path) -> None:
    try:
        if os.path.lexists(target):
            target.rename(new.with_name(_OLD))
        new.rename(target)
    except BaseException:  # ctrl-C as well
        _recover(new.parent, target)
        raise


def _fill(new: Path, target: Path, last: str) -> None:
    """Move what was written into an empty folder, which stays itself."""
    if not is_empty(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    new.with_name(_MOVING).write_text(last, encoding="utf-8")
    try:
        _recover(new.parent, target)
    except BaseException:  # ctrl-C as well: what has begun to appear is completed
        _recover(new.parent, target)
        raise


def _recover(work: Path, target: Path) -> None:
    """Put back an earlier result, or complete a new one that is being moved into an empty folder."""
    new, old, moving = work / _NEW, work / _OLD, work / _MOVING
    if old.exists() and new.exists():  # between the two renames of a replacement
        try:
            old.rename(target)
        except OSError as error:
            raise CannotWriteError(
                "the earlier result cannot be put back into its place, where something else lies",
                where=printable(f"{work.name}/{_OLD}"),
                remedy="move it to where you want it, or move away what lies there",
            ) from error
    elif moving.exists() and new.exists():
        last = moving.read_text("utf-8")
        for path in sorted(new.iterdir(), key=lambda path: (path.name == last, path.name)):
            if os.path.lexists(target / path.name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            path.rename(target / path.name)
