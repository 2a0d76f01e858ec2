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
from gliosight.flags import flag
from gliosight.read.detect import HEAD_BYTES, Kind, is_zip, recognise
from gliosight.read.gzipped import MAGIC as GZIP
from gliosight.read.limits import Budget, Limits, open_regular, reason, size_in_words, too_large
from gliosight.study import Flag

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
ENCRYPTED = "encrypted member", "encrypted members"
ARCHIVE = "archive in the archive", "archives in the archive"
SPECIAL = "link or device", "links or devices"
NAMELESS = "member without a name", "members without a name"
OUTSIDE = "member that leads outside the archive", "members that lead outside the archive"
UNUSUAL = "member packed in an unusual way", "members packed in an unusual way"
TWICE = "member that is there twice", "members that are there twice"


@dataclass(frozen=True)
class Opened:
    """What a path leads to once it is unpacked: the path itself, or the folder that a zip was unpacked into.

    ``archive`` is the zip, ``inner`` names the archives in it, which stay packed.
    """

    path: Path
    flags: tuple[Flag, ...] = ()
    archive: Path | None = None
    inner: str = ""

    def explained(self, error: GliosightError) -> GliosightError:
        """An error in what was unpacked: named after the archive, with what was not unpacked of it."""
        if not self.archive:
            return error
        kind, what, remedy = type(error), error.what, error.remedy
        where = self.archive.name if error.where == self.path.name else error.where
        if self.flags and isinstance(error, NothingReadableError):
            kind, skipped = NothingReadableError, self.flags[0].message.rstrip(".")
            what = f"{what}; {skipped[0].lower()}{skipped[1:]}"
            if self.inner:
                kind = UnsupportedInputError
                remedy = f"unpack the zip, then give the archive in it, {self.inner}"
        return kind(what, where=where, remedy=remedy)


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Opened]:
    """Unpack a zip for as long as its studies are read, see `unzipped`; any other path stays as it is."""
    if not is_zip(path):
        yield Opened(path)
        return
    with unzipped(path, limits) as inside:
        yield inside


@contextmanager
def unzipped(path: Path, limits: Limits) -> Iterator[Opened]:
    """Unpack a zip for as long as it is needed, into a folder of mode 0700 that is called like it.

    The limits hold for the sum of all members.

    Raises
    ------
    NothingReadableError
        It cannot be opened, is not a regular file, or holds nothing that may be unpacked.
    UnsupportedInputError
        All that it holds is encrypted, an archive itself, or packed in an unusual way.
    DamagedInputError
        Not a zip, cut short, a checksum that is wrong, members that overwrite each other.
    LimitExceededError, CannotWriteError
        More members, folders, bytes or expansion than allowed; no room for the temporary folder.
    """
    remove_abandoned_temporaries()
    with ExitStack() as stack:
        try:
            # Folders name studies, in results and messages: this one's name is the archive's.
            folder = stack.enter_context(temporary_folder()) / "content" / safe_name(path.stem)
            folder.mkdir(parents=True)
        except OSError as error:
            raise _no_room(error, path.name) from error
        with open_regular(path, path.name) as (handle, size):
            unpacking = _Unpacking(folder, limits, size, path.name)
            unpacking.unpack(handle)
        flags: tuple[Flag, ...] = ()
        if unpacking.reasons:
            skipped = ", ".join(sorted(unpacking.skipped()))
            flags = (flag("MEMBERS_SKIPPED", f"Members of the zip were not unpacked: {skipped}."),)
        yield Opened(folder, flags, path, unpacking.inner())


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, folder: Path, limits: Limits, size: int, where: str) -> None:
        self._folder, self._budget, self._size, self._where = folder, Budget(limits), size, where
        self._written = 0
        self._taken: dict[str, zipfile.ZipInfo] = {}
        self._folders = {folder}
        self._archives: list[str] = []
        self.reasons: Counter[Reason] = Counter()

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
                if not name.endswith("/"):
                    why = _refused(member, name) or self._member(archive, member, name)
                    self.reasons.update([why] if why else ())
        if not self._taken:
            raise self._nothing()

    def skipped(self) -> list[str]:
        """What was left out and why, in plain phrases without names: ``2 encrypted members``."""
        return [f"{count} {words[count > 1]}" for words, count in self.reasons.items()]

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
                # A compressed NIfTI is not an archive.
                is_archive = recognise(head, len(head)) in (Kind.ZIP, Kind.ARCHIVE)
                if is_archive and not head.startswith(GZIP):
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
            clash = "one member is a folder to another, or their names differ in case alone"
            what = f"{clash}, which this file system cannot tell apart"
            raise self._damaged(what) from error
        except OSError as error:
            raise _no_room(error, where) from error
        if written != member.file_size:
            raise self._damaged("a member is not as long as it says")

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each once."""
        if folder not in self._folders:
            self._make_folder(folder.parent)
            self._folders.add(folder)
            self._budget.check_members(len(self._folders), self._where)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _nothing(self) -> GliosightError:
        """The error for an archive of which nothing was unpacked."""
        reasons = set(self.reasons)
        understood = bool(reasons) and reasons <= {ENCRYPTED, ARCHIVE, UNUSUAL}
        if not reasons:
            what, remedy = "the archive is empty", "check what was packed into it"
        elif reasons == {ENCRYPTED}:
            what = "the archive is protected by a password"
            remedy = "unpack it with its password, then give the folder"
        elif reasons == {ARCHIVE}:
            what = f"the archive holds nothing but archives, {self.inner()}"
            remedy = "unpack it, then give one of them, or unpack them all and give the folder"
        else:
            what = f"nothing in the archive may be unpacked: it holds {', '.join(self.skipped())}"
            remedy = "unpack it yourself, then give the folder"
        kind = UnsupportedInputError if understood else NothingReadableError
        return kind(what, where=self._where, remedy=remedy)

    def _damaged(self, what: str) -> DamagedInputError:
        remedy = "fetch the archive again from where it came"
        return DamagedInputError(what, where=self._where, remedy=remedy)


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
            what = "the archive's directory is too large for the members allowed"
            remedy = "raise it with --max-members, or unpack it yourself"
            raise LimitExceededError(what, where=self._where, remedy=remedy)
        return self._read(size)


def _no_room(error: Exception, where: str) -> CannotWriteError:
    what = f"the archive cannot be unpacked, {reason(error)}"
    remedy = "make room in the folder for temporary files, or unpack it yourself"
    return CannotWriteError(what, where=where, remedy=remedy)
