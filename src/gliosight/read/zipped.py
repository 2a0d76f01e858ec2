"""A zip archive as a temporary folder that is gone when the reading is over (read stage).

Nothing is ever written outside that folder: absolute paths, ``..``, drive letters, links and devices are left
out, and so are encrypted members and archives in the archive. The limits hold for what is really inflated:
the directory of a zip is only its own claim.
"""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from gliosight.errors import (
    CannotWriteError,
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    NothingReadableError,
    UnsupportedInputError,
    printable,
)
from gliosight.files import remove_abandoned_temporaries, safe_name, temporary_folder
from gliosight.read.detect import HEAD_BYTES, Kind, recognise
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.limits import Budget, open_regular, reason, size_in_words, too_large

CHUNK = 1 << 20
# Bytes of a name, and of a path in the archive: what the file systems of today take.
NAME_BYTES, PATH_BYTES, DEPTH = 255, 1024, 64
# The directory is read at one go; this is room enough for each of the members that are allowed.
DIRECTORY_ENTRY = 1200
# Only these are inflated bit by bit; the standard library unpacks the others without bound.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNIX = 3  # the system whose file modes stand in the directory
# Names of members in a message before it breaks off.
NAMED = 3

# Why a member is left out: one of them, and several.
Reason = tuple[str, str]
ENCRYPTED = ("encrypted member", "encrypted members")
ARCHIVE = ("archive in the archive", "archives in the archive")
SPECIAL = ("link or device", "links or devices")
NAMELESS = ("member without a name", "members without a name")
OUTSIDE = ("member that leads outside the archive", "members that lead outside the archive")
UNUSUAL = ("member packed in an unusual way", "members packed in an unusual way")
TWICE = ("member that is there twice", "members that are there twice")


@dataclass(frozen=True)
class Unzipped:
    """An unpacked archive.

    Parameters
    ----------
    folder : Path
        Temporary, below a folder of mode 0700; its name is the archive's without suffix.
    skipped : tuple of str
        What was left out and why, in plain phrases without names: ``2 encrypted members``.
    inner : str
        The first names of the archives among it.
    """

    folder: Path
    skipped: tuple[str, ...]
    inner: str = ""


@contextmanager
def unzipped(path: Path, budget: Budget) -> Iterator[Unzipped]:
    """Unpack a zip for as long as it is needed.

    Parameters
    ----------
    path : Path
    budget : Budget
        Its limits hold for the sum of all members; nothing is taken from it, since the images in
        them are counted when they are read.

    Raises
    ------
    NothingReadableError
        It cannot be opened, is no regular file, or holds nothing that may be unpacked.
    UnsupportedInputError
        All that it holds is encrypted, an archive itself, or packed in an unusual way.
    DamagedInputError
        No zip, cut short, a checksum that is wrong, members that overwrite each other.
    LimitExceededError
        More members, folders, bytes or expansion than allowed.
    CannotWriteError
        There is no room for the temporary folder.
    """
    where = path.name
    remove_abandoned_temporaries()
    with ExitStack() as stack:
        try:
            # Folders name studies, in results and messages: this one's name is the archive's.
            folder = stack.enter_context(temporary_folder()) / "content" / safe_name(path.stem)
            folder.mkdir(parents=True)
        except OSError as error:
            raise _no_room(error, where) from error
        with open_regular(path, where) as (handle, size):
            unpacking = _Unpacking(folder, budget, size, where)
            unpacking.unpack(handle)
        yield Unzipped(folder, tuple(sorted(unpacking.skipped())), unpacking.inner())


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, folder: Path, budget: Budget, size: int, where: str) -> None:
        self._folder, self._budget, self._size, self._where = folder, budget, size, where
        self._written = 0
        self._taken: dict[str, zipfile.ZipInfo] = {}
        self._folders: set[Path] = {folder}
        self._reasons: Counter[Reason] = Counter()
        self._archives: list[str] = []

    def unpack(self, handle: BinaryIO) -> None:
        """Unpack all that may be; raises if nothing was."""
        most = max(CHUNK, self._budget.limits.members * DIRECTORY_ENTRY)
        try:
            archive = zipfile.ZipFile(_BoundedFile(handle, most, self._where))
        except (GliosightError, MemoryError):
            raise
        except Exception as error:  # a directory that lies raises nearly anything
            raise self._damaged("not a zip archive, or cut short") from error
        with archive:
            members = archive.infolist()
            self._budget.check_members(len(members), self._where)
            for member in members:
                # What Windows programs write; zipfile itself cuts names at a NUL.
                name = member.orig_filename.replace("\\", "/")
                if name.endswith("/"):
                    continue
                why = _refused(member, name) or self._member(archive, member, name)
                if why is not None:
                    self._reasons[why] += 1
        if not self._taken:
            raise self._nothing()

    def skipped(self) -> list[str]:
        """What was left out, in words."""
        return [f"{count} {words[count > 1]}" for words, count in self._reasons.items()]

    def inner(self) -> str:
        """The first names of the archives in the archive."""
        names = [printable(name) for name in self._archives[:NAMED]]
        return ", ".join(names + ["..."] * (len(self._archives) > NAMED))

    def _member(
        self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str
    ) -> Reason | None:
        """Unpack a member, or say why not."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts:
            return NAMELESS
        name = "/".join(parts)
        longest = max(len(part.encode()) for part in parts)
        if longest > NAME_BYTES or len(name.encode()) > PATH_BYTES or len(parts) > DEPTH:
            raise self._damaged("a member's name is longer than file systems allow")
        if (before := self._taken.get(name)) is not None:
            if (before.CRC, before.file_size) == (member.CRC, member.file_size):
                return TWICE
            raise self._damaged(f"two different members are called {printable(name)}")
        try:
            with archive.open(member) as source:
                head = source.read(HEAD_BYTES)
                kind = recognise(head, len(head))
                # A compressed NIfTI is no archive.
                if kind in (Kind.ZIP, Kind.ARCHIVE) and not head.startswith(GZIP):
                    self._archives.append(name)
                    return ARCHIVE
                self._taken[name] = member
                self._write(source, head, self._folder.joinpath(*parts), member)
        except (GliosightError, MemoryError):
            raise
        except Exception as error:  # zipfile, zlib and struct each have their own ways to say it
            raise self._damaged("a member is corrupt or cut short") from error
        return None

    def _write(self, source: IO[bytes], head: bytes, target: Path, member: zipfile.ZipInfo) -> None:
        """Write a member's bytes as they are inflated."""
        limits, where = self._budget.limits, self._where
        written, chunk = 0, head
        try:
            self._make_folder(target.parent)
            with target.open("xb") as out:
                while chunk:
                    written += len(chunk)
                    self._written += len(chunk)
                    if self._written > limits.decoded_bytes:
                        what = f"the archive holds {size_in_words(self._written)} or more"
                        raise too_large(what, limits, where)
                    # Of the whole file, since members may share their packed bytes, and of this one.
                    self._budget.check_ratio(self._written, where, packed=self._size)
                    self._budget.check_ratio(written, where, packed=member.compress_size)
                    out.write(chunk)
                    chunk = source.read(CHUNK)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._damaged(
                "one member is a folder to another, or their names differ in case alone, which this "
                "file system cannot tell apart"
            ) from error
        except OSError as error:
            raise _no_room(error, where) from error
        if written != member.file_size:
            raise self._damaged("a member is not as long as it says")

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each once."""
        if folder in self._folders:
            return
        self._make_folder(folder.parent)
        self._folders.add(folder)
        self._budget.check_members(len(self._folders), self._where)
        folder.mkdir(mode=0o700, exist_ok=True)

    def _nothing(self) -> GliosightError:
        """The error for an archive of which nothing was unpacked."""
        reasons = set(self._reasons)
        kind: type[GliosightError] = UnsupportedInputError
        if not reasons:
            kind, what = NothingReadableError, "the archive is empty"
            remedy = "check what was packed into it"
        elif reasons == {ENCRYPTED}:
            what = "the archive is protected by a password"
            remedy = "unpack it with its password, then give the folder"
        elif reasons == {ARCHIVE}:
            what = f"the archive holds nothing but archives, {self.inner()}"
            remedy = "unpack it, then give one of them, or unpack them all and give the folder"
        else:
            what = f"nothing in the archive may be unpacked: it holds {', '.join(self.skipped())}"
            remedy = "unpack it yourself, then give the folder"
            if not reasons <= {ENCRYPTED, ARCHIVE, UNUSUAL}:
                kind = NothingReadableError
        return kind(what, where=self._where, remedy=remedy)

    def _damaged(self, what: str) -> DamagedInputError:
        return DamagedInputError(
            what, where=self._where, remedy="fetch the archive again from where it came"
        )


def _refused(member: zipfile.ZipInfo, name: str) -> Reason | None:
    """Why a member is not unpacked."""
    mode = member.external_attr >> 16 if member.create_system == UNIX else 0
    if not member.filename:
        return NAMELESS
    if member.flag_bits & 1:
        return ENCRYPTED
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return SPECIAL
    parts = name.split("/")
    if not parts[0] or "\0" in name or any(part == ".." or part[1:2] == ":" for part in parts):
        return OUTSIDE
    return None if member.compress_type in METHODS else UNUSUAL


class _BoundedFile:
    """The archive's file for zipfile, which would read a directory of any size into objects."""

    def __init__(self, handle: BinaryIO, most: int, where: str) -> None:
        self._read, self._most, self._where = handle.read, most, where
        self.seek, self.tell, self.seekable = handle.seek, handle.tell, handle.seekable

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, unless that is more than any directory needs."""
        if size > self._most:
            raise LimitExceededError(
                "the archive's directory is too large for the members allowed",
                where=self._where,
                remedy="raise it with --max-members, or unpack it yourself",
            )
        return self._read(size)


def _no_room(error: Exception, where: str) -> CannotWriteError:
    return CannotWriteError(
        f"the archive cannot be unpacked, {reason(error)}",
        where=where,
        remedy="make room in the folder for temporary files, or unpack it yourself",
    )
