"""Files and folders that appear whole or not at all, and safe names (domain layer).

Everything is written into a *working folder* first: a hidden folder beside the target, or inside it where the
target is an empty folder. Its name follows from the target's, so that two runs with one target meet: one of
them works, the other ends with `CannotWriteError`. Its file ``owner`` marks it as ours and is locked for as
long as the run lives. What a killed run left is found by the next run with that target: an earlier result is
put back, and the rest is removed. A folder without that mark, or with a lock on it, is never touched.
"""

from __future__ import annotations

import contextlib
import errno
import json
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

from gliosight.errors import CannotWriteError, InUseError, printable

# A file system takes 255 bytes; what is put before and behind a name needs some of them.
LONGEST_NAME = 180
_WORKING = ".partial-gliosight"
_TEMPORARY = "gliosight-unpacked-"
# In a working folder: who it belongs to, what is written, what it replaces, what goes into an empty folder.
_OWNER, _NEW, _OLD, _FILLING = "owner", "new", "old", "filling"
_MARK = b"gliosight working folder of process "
# Two runs that start at once may each remove the other's folder while it is still empty.
_TRIES = 20
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
    """An absolute path with a name of its own, which ``.`` and ``..`` are not."""
    return path.resolve() if path.name in ("", "..") else path.absolute()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or nothing but the working folder of a run that fills it."""
    return all(path.name == _WORKING for path in folder.iterdir())


def check_working_folder(target: Path) -> None:
    """Raise `OSError` where the name of the working folder would be too long."""
    _beside(target).exists()


def recover(target: Path) -> None:
    """Undo what a killed run with this target left half done.

    Raises
    ------
    CannotWriteError
        Another run is writing there now, or an earlier result cannot be put back.
    OSError
    """
    for work in (_beside(target), target / _WORKING):
        if os.path.lexists(work):
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
        Raises where what is at ``target`` may not be replaced. Asked at the start and at the end.
    last : str, optional
        The file that makes the folder what it is: an empty folder gets it last.

    Raises
    ------
    CannotWriteError
        What ``check`` raises; another run is writing there; any `OSError`, such as a full disk.
    """
    target = absolute(target)
    existing = nearest(target)
    done = False
    try:
        recover(target)
        check()
        target.parent.mkdir(parents=True, exist_ok=True)
        fills = target.is_dir() and is_empty(target)
        with _claimed(target / _WORKING if fills else _beside(target), target) as work:
            (work / _NEW).mkdir()
            yield work / _NEW
            check()
            try:
                if fills:
                    _fill(work, target, last)
                else:
                    _replace(work, target)
            except BaseException:  # ctrl-C as well
                _undo(work, target)
                raise
        done = True
    except CannotWriteError:
        raise
    except OSError as error:
        raise cannot_write(error, target) from error
    finally:
        if not done:
            _remove_made(target, existing)


@contextlib.contextmanager
def whole_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path of the same name to write to; at the end that file becomes ``target``.

    Raises
    ------
    CannotWriteError
        There is something at ``target`` and ``overwrite`` is not set; another run is writing it; any
        `OSError`.
    """
    target = absolute(target)
    try:
        _check_no_file(target, overwrite=overwrite)
        with _claimed(_beside(target), target) as work:
            yield work / target.name
            _check_no_file(target, overwrite=overwrite)
            (work / target.name).replace(target)
    except CannotWriteError:
        raise
    except OSError as error:
        raise cannot_write(error, target) from error


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
            if entry.name.startswith(_TEMPORARY) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):  # another run's, or gone
                    if entry.stat(follow_symlinks=False).st_uid == user:
                        with _claimed(Path(entry.path)):
                            pass


def cannot_write(error: OSError, target: Path) -> CannotWriteError:
    """The system's error as ours. The remedy depends on the cause: only a full disk needs room."""
    elsewhere = "choose a folder you may write in with -o"
    remedies = {
        errno.ENOENT: "make the folder above it, or choose another -o",
        errno.ENOTDIR: "choose another -o: a part of this one is a file",
        errno.ENAMETOOLONG: "choose another -o: this name is too long",
        errno.EACCES: elsewhere,
        errno.EPERM: elsewhere,
        errno.EROFS: elsewhere,
        errno.EBUSY: "choose another -o: a mount point cannot be replaced",
        errno.EEXIST: "choose another -o: something has appeared there",
        errno.ENOTEMPTY: "choose another -o: something has appeared there",
    }
    remedy = remedies.get(error.errno or 0, "make room, or choose another -o")
    return CannotWriteError(
        f"cannot write the output: {error.strerror or error}",
        where=printable(target.name or str(target)),
        remedy=f"{remedy}; nothing was left behind",
    )


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an `OSError` of what is done inside into the `CannotWriteError` of this output."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error, target) from error


@contextlib.contextmanager
def _claimed(work: Path, target: Path | None = None) -> Iterator[Path]:
    """Own a working folder, emptied of what a dead run left in it; it is removed at the end."""
    lock: list[int] = []  # filled before ctrl-C can come between
    try:
        _claim(work, lock)
        if target is not None:
            _undo(work, target)
        _empty(work)
        yield work
    finally:
        if lock:
            _release(work, lock)


def _has_to_be_undone(work: Path) -> bool:
    """Whether the next run has something to put back: an earlier result, or half of a new one."""
    return (work / _NEW).exists() and ((work / _OLD).exists() or (work / _FILLING).exists())


def _claim(work: Path, lock: list[int]) -> None:
    """Make a working folder, or take over a dead run's; ``lock`` gets the descriptor that holds its lock."""
    for _ in range(_TRIES):
        made = True
        try:
            made = _make(work)
            lock.append(_open_owner(work, made=made))
            if _lock(lock[0], fresh=made) and _is_at(lock[0], work / _OWNER):
                if not _read_mark(work, lock[0]):
                    os.write(lock[0], _MARK + b"%d\n" % os.getpid())
                return
        except FileNotFoundError:
            if not work.parent.is_dir():
                raise
            continue  # another run has removed it just now
        except BaseException:  # ctrl-C as well, which may come after any of these steps
            if made and lock and _lock(lock[0], fresh=True) and _is_at(lock[0], work / _OWNER):
                _release(work, lock)
            else:
                _discard(work, lock, made=made)
            raise
        _close(lock)
        if not made:
            break
        time.sleep(0.01)  # another run has taken it for a dead one's, and removes it
    raise InUseError(
        "another run of gliosight is writing there now",
        where=printable(_claimed_name(work)),
        remedy="wait for it to end, or choose another -o",
    )


def _make(work: Path) -> bool:
    """Make a working folder; ``False`` where it is there already."""
    try:
        work.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        if not work.parent.is_dir():
            raise
        raise CannotWriteError(  # such as in /proc
            "the file system there takes no new folders",
            where=printable(_claimed_name(work)),
            remedy="choose another -o",
        ) from error
    return True


def _claimed_name(work: Path) -> str:
    return work.name[1 : -len(_WORKING)] or work.parent.name


def _open_owner(work: Path, *, made: bool) -> int:
    """Open the owner's file; raises `FileNotFoundError` where the folder has gone or goes."""
    if not made and (work.is_symlink() or not work.is_dir()):
        raise _foreign(work)
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # a FIFO would wait for its other end
    try:
        if not made and not stat.S_ISREG((work / _OWNER).lstat().st_mode):
            raise _foreign(work)
        return os.open(work / _OWNER, flags | (os.O_CREAT | os.O_EXCL if made else 0), 0o600)
    except FileNotFoundError:
        if not made and any(work.iterdir()):
            raise _foreign(work) from None
        if not made:
            work.rmdir()  # a run was killed before it marked its folder, which is empty
        raise


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _read_mark(work: Path, handle: int) -> bytes:
    """The owner's mark, empty where it has not been written; raises where it is not ours."""
    mark = os.read(handle, len(_MARK) + 20)
    os.lseek(handle, 0, os.SEEK_SET)
    if mark.startswith(_MARK):
        return mark
    if _MARK.startswith(mark) and _is_ours(work, handle) and len(list(work.iterdir())) == 1:
        return b""  # killed while it was written
    raise _foreign(work)


def _is_ours(work: Path, handle: int) -> bool:
    """Whether folder and owner's file have the rights that we give them; other programs give more."""
    modes = stat.S_IMODE(work.stat().st_mode), stat.S_IMODE(os.fstat(handle).st_mode)
    return sys.platform == "win32" or not (modes[0] | modes[1]) & 0o077


def _foreign(work: Path) -> CannotWriteError:
    return CannotWriteError(
        "something that gliosight did not write has the name of its working folder",
        where=printable(work.name),
        remedy="move it elsewhere, or choose another -o",
    )


def _lock(handle: int, *, fresh: bool) -> bool:
    """Lock a file until its process ends. Where there are no locks, the process's number has to do."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 1024, os.SEEK_SET)  # behind the content, which others may read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS and (fresh or _has_ended(handle))
    return True


def _has_ended(handle: int) -> bool:
    """Whether the process of a mark has ended, as far as this machine knows."""
    number = os.read(handle, len(_MARK) + 20)[len(_MARK) :].strip()
    os.lseek(handle, 0, os.SEEK_SET)
    if sys.platform == "win32" or not number.isdigit():  # there, asking would end it
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _release(work: Path, lock: list[int]) -> None:
    """Let a working folder go, also where ctrl-C comes while it is removed."""
    try:
        _let_go(work, lock)
    except BaseException:
        _let_go(work, lock)
        raise


def _let_go(work: Path, lock: list[int]) -> None:
    # The mark goes last: what could not be removed still is known as ours.
    owner, remove = work / _OWNER, not _has_to_be_undone(work)
    with contextlib.suppress(OSError):
        if remove and lock and _is_at(lock[0], owner) and _empty(work):
            if sys.platform == "win32":  # an open file cannot be removed there
                _close(lock)
            owner.unlink()
    _close(lock)
    if remove:
        with contextlib.suppress(OSError):
            work.rmdir()


def _discard(work: Path, lock: list[int], *, made: bool) -> None:
    """Remove a folder that has no mark yet. Should it be another run's, that run makes it again.

    What this run did not make stays: a dead run's is for the next run, and a stranger's is a stranger's.
    """
    _close(lock)
    if not made:
        return
    with contextlib.suppress(OSError):
        if not (work / _OWNER).lstat().st_size:
            (work / _OWNER).unlink()
    with contextlib.suppress(OSError):
        work.rmdir()


def _close(lock: list[int]) -> None:
    while lock:
        os.close(lock.pop())


def _empty(work: Path) -> bool:
    """Remove all but the mark; whether that is all there is now."""
    for path in work.iterdir():
        if path.name != _OWNER:
            _remove(path)
    return all(path.name == _OWNER for path in work.iterdir())


def _replace(work: Path, target: Path) -> None:
    if os.path.lexists(target):
        target.rename(work / _OLD)
    (work / _NEW).rename(target)


def _fill(work: Path, target: Path, last: str | None) -> None:
    """Move what was written into an empty folder, which stays itself."""
    names = [path.name for path in (work / _NEW).iterdir()]
    names.sort(key=lambda name: (name == last, name))
    # What is listed and no longer in the working folder has been moved: the way back for the next run.
    (work / _FILLING).write_text(json.dumps(names), encoding="ascii")
    for name in names:
        if os.path.lexists(target / name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        (work / _NEW / name).rename(target / name)
    (work / _FILLING).unlink()


def _undo(work: Path, target: Path) -> None:
    """Put back an earlier result, or take back the half of a new one."""
    new, old, filling = work / _NEW, work / _OLD, work / _FILLING
    if old.exists() and new.exists():  # between the two renames of a replacement
        try:
            old.rename(target)
        except OSError as error:
            raise CannotWriteError(
                "the earlier result cannot be put back into its place, where something else lies",
                where=printable(f"{work.name}/{_OLD}"),
                remedy="move it to where you want it, or move away what lies there",
            ) from error
    elif filling.exists():
        if new.is_dir() and any(new.iterdir()):
            for name in _listed(filling):
                if not os.path.lexists(new / name):
                    _remove(target / name)
        filling.unlink()


def _listed(filling: Path) -> list[str]:
    try:
        names = [str(name) for name in json.loads(filling.read_bytes())]
        # A path would lead out of the folder.
        return [name for name in names if name not in ("", "..") and Path(name).name == name]
    except ValueError:  # cut short: then nothing has been moved
        return []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_no_file(target: Path, *, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise CannotWriteError(
            "there is a file already",
            where=printable(target.name),
            remedy="remove it, or choose another -o",
        )


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}{_WORKING}")


def nearest(path: Path) -> Path:
    """The nearest of the paths above that exists."""
    return next((above for above in path.absolute().parents if above.exists()), Path(path.anchor))


def _remove_made(target: Path, existing: Path) -> None:
    """Remove the empty folders that were made between the target and the folder that was there."""
    for folder in target.parents:
        if folder == existing:
            return
        with contextlib.suppress(OSError):
            folder.rmdir()
