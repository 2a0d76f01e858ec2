"""A zip archive as a temporary folder (read stage).

In: a path. Out: a folder that only we may enter, with the archive's regular files under their own names,
gone when the reading is over; and what was left out, in words. Nothing is ever written outside that
folder, whatever a member is called: absolute paths, ``..``, drive letters, links and devices are left out,
and so are encrypted members and archives in the archive. What counts is what is really inflated; the
directory of a zip is only its own claim.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from gliosight.errors import CannotWriteError, DamagedInputError, GliosightError, LimitExceededError
from gliosight.read.detect import HEAD_BYTES, Kind, recognise
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.limits import Budget, open_regular, size_in_words

CHUNK = 1 << 20
# Bytes of a name, and of a path in the archive: what the file systems of today take.
NAME_BYTES, PATH_BYTES, DEPTH = 255, 1024, 64
_ENCRYPTED = 0x1
_UNIX = 3
# The directory is read at one go; this is room enough for each of the members that are allowed.
DIRECTORY_ENTRY = 1200
# Only these are inflated bit by bit; the standard library unpacks the others without bound.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
AGAIN = "fetch the archive again from where it came"


@dataclass(frozen=True)
class Unzipped:
    """An unpacked archive.

    Parameters
    ----------
    folder : Path
        Temporary, of mode 0700.
    skipped : tuple of str
        What was left out and why, in plain phrases without names: ``2 encrypted members``.
    """

    folder: Path
    skipped: tuple[str, ...]


@contextmanager
def unzipped(path: Path, budget: Budget) -> Iterator[Unzipped]:
    """Unpack a zip for as long as it is needed.

    Parameters
    ----------
    path : Path
    budget : Budget
        Its limits hold for the sum of all members; nothing is taken from it, since the images in
        them are counted when they are read.

    Yields
    ------
    Unzipped

    Raises
    ------
    NothingReadableError
        It cannot be opened, or is no regular file.
    DamagedInputError
        No zip, cut short, a checksum that is wrong, members that overwrite each other.
    LimitExceededError
        More members, bytes or expansion than allowed.
    CannotWriteError
        There is no room for the temporary folder.
    """
    where = path.name
    try:
        folder = Path(tempfile.mkdtemp(prefix="gliosight-"))  # mkdtemp's mode is 0700
    except OSError as error:
        raise _no_room(error, where) from error
    try:
        with open_regular(path, where) as (handle, size):
            skipped = _extract(handle, size, folder, budget, where)
        yield Unzipped(folder, skipped)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(
    handle: BinaryIO, size: int, folder: Path, budget: Budget, where: str
) -> tuple[str, ...]:
    most = max(CHUNK, budget.limits.members * DIRECTORY_ENTRY)
    try:
        archive = zipfile.ZipFile(_Slowly(handle, most, where))
    except GliosightError:
        raise
    except Exception as error:  # a directory that lies raises nearly anything
        raise _damaged("no zip archive, or cut short", where) from error
    skipped: Counter[str] = Counter()
    account = _Account(budget, size, where)
    taken: set[str] = set()
    with archive:
        members = archive.infolist()
        budget.check_members(len(members), where)
        for member in members:
            if not member.filename:  # is_dir() looks at its last character
                skipped["member without a name"] += 1
                continue
            if member.is_dir():
                continue
            if why := _refused(member):
                skipped[why] += 1
                continue
            target = _target(member.filename, folder, taken, where)
            if _copy(archive, member, target, account, where):
                skipped["archive in the archive"] += 1
    return tuple(_counted(count, what) for what, count in sorted(skipped.items()))


def _refused(member: zipfile.ZipInfo) -> str:
    """Why a member is not extracted, in words; empty if it is."""
    name = member.orig_filename  # zipfile itself cuts names at a NUL and turns some slashes
    mode = member.external_attr >> 16 if member.create_system == _UNIX else 0
    if member.flag_bits & _ENCRYPTED:
        return "encrypted member"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "link or device"
    parts = name.split("/")
    if (
        name.startswith("/")
        or "\\" in name
        or "\0" in name
        or any(part == ".." or part[1:2] == ":" for part in parts)
    ):
        return "member that leads outside the archive"
    if member.compress_type not in _METHODS:
        return "member packed in an unusual way"
    return ""


def _target(name: str, folder: Path, taken: set[str], where: str) -> Path:
    """Where a member goes; its name is looked at before."""
    parts = PurePosixPath(name).parts
    long = any(len(_bytes(part)) > NAME_BYTES for part in parts)
    if long or len(_bytes(name)) > PATH_BYTES or len(parts) > DEPTH:
        raise _damaged("a member's name is longer than file systems allow", where)
    key = "/".join(parts).casefold()
    if key in taken:
        raise _damaged("two members have the same name, or differ only in its case", where)
    taken.add(key)
    return folder.joinpath(*parts)


def _copy(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    account: _Account,
    where: str,
) -> bool:
    """Unpack a member; whether it was an archive, which is not kept."""
    try:
        with archive.open(member) as source:
            head = source.read(HEAD_BYTES)
            if _is_archive(head):
                return True
            _write(source, head, target, account, member, where)
    except GliosightError:
        raise
    except Exception as error:  # zipfile, zlib and struct each have their own ways to say it
        raise _damaged("a member is corrupt or cut short", where) from error
    return False


def _write(
    source: IO[bytes],
    head: bytes,
    target: Path,
    account: _Account,
    member: zipfile.ZipInfo,
    where: str,
) -> None:
    """Write a member's bytes as they are inflated."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        out = target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise _damaged("one member is a folder to another", where) from error
    except (OSError, ValueError) as error:
        raise _no_room(error, where) from error
    written = 0
    with out:
        chunk = head
        while chunk:
            written += len(chunk)
            account.add(len(chunk), written, member.compress_size)
            try:
                out.write(chunk)
            except OSError as error:
                raise _no_room(error, where) from error
            chunk = source.read(CHUNK)
    if written != member.file_size:
        raise _damaged("a member is not as long as it says", where)


class _Slowly:
    """The archive's file for zipfile, which would read a directory of any size into objects."""

    def __init__(self, handle: BinaryIO, most: int, where: str) -> None:
        self._read = handle.read
        self._most = most
        self._where = where
        self.seek = handle.seek
        self.tell = handle.tell

    def read(self, size: int = -1) -> bytes:
        """Give up to ``size`` bytes, unless that is more than any directory needs."""
        if size > self._most:
            raise LimitExceededError(
                "the archive's directory is too large for the members allowed",
                where=self._where,
                remedy="raise it with --max-members, or unpack it yourself",
            )
        return self._read(size)

    def seekable(self) -> bool:
        """It is."""
        return True


class _Account:
    """What was inflated so far, all members together."""

    def __init__(self, budget: Budget, size: int, where: str) -> None:
        self._budget = budget
        self._size = size
        self._where = where
        self._total = 0

    def add(self, more: int, member: int, packed: int) -> None:
        """Count ``more`` bytes of a member that has ``member`` by now; raises at a limit."""
        self._total += more
        limit = self._budget.limits.decoded_bytes
        if self._total > limit:
            raise LimitExceededError(
                f"the archive holds more than {size_in_words(limit)}",
                where=self._where,
                remedy="raise it with --max-decoded if the archive is to be trusted",
            )
        # Of the whole file, since members may share their packed bytes, and of this one.
        self._budget.check_ratio(self._total, self._where, packed=self._size)
        self._budget.check_ratio(member, self._where, packed=packed)


def _is_archive(head: bytes) -> bool:
    """Whether this is an archive in the archive; a compressed NIfTI is none."""
    if head.startswith(GZIP):
        return False
    return recognise(head, len(head)) in (Kind.ZIP, Kind.ARCHIVE)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _counted(count: int, what: str) -> str:
    if count == 1:
        return f"1 {what}"
    plural = {
        "archive in the archive": "archives in the archive",
        "link or device": "links or devices",
        "encrypted member": "encrypted members",
    }
    return f"{count} {plural.get(what, what.replace('member ', 'members ', 1))}"


def _damaged(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(what, where=where, remedy=AGAIN)


def _no_room(error: Exception, where: str) -> CannotWriteError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CannotWriteError(
        f"the archive cannot be unpacked, {reason.lower()}",
        where=where,
        remedy="make room in the folder for temporary files, or unpack it yourself",
    )
