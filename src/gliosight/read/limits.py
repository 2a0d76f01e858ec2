"""What reading may cost at most, and how files are opened (read stage, below its other modules).

A header is never believed: its claim is checked before anything is allocated, and a `LimitExceededError`
names the limit and the option that raises it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gliosight.errors import LimitExceededError, NothingReadableError, UsageError

# Below this many decoded bytes no ratio is suspicious: a blank slice packs a thousandfold.
RATIO_FROM = 64 * 1024**2
# A pixel counts as many bytes as its probability takes, whatever it is stored in: a study needs up to five
# times the bytes counted here (measured; docs/input.md), and many times those of one-byte pixels.
LEAST_BYTES_A_PIXEL = 4
RAISE_OPTION = "raise it with --max-decoded if the file is to be trusted"
RAISE_IN_PYTHON = "give read_study larger limits, gliosight.read.Limits(decoded_bytes=...)"


@dataclass(frozen=True)
class Limits:
    """Bounds of one study's input."""

    # All pixels of the study, as they stand in memory after decoding; at least four bytes each.
    decoded_bytes: int = 2 * 1024**3
    members: int = 20_000  # files and folders in one folder, pages in one file
    # Decoded over stored bytes of what is packed; only looked at beyond 64 MiB decoded, since blank images
    # pack well.
    ratio: float = 200.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, float | int if name == "ratio" else int)
            if not number or isinstance(value, bool) or not value > 0:  # NaN neither
                remedy = "give a positive number" + (", a whole one" if name != "ratio" else "")
                raise UsageError(f"the limit {name} is {value!r}", remedy=remedy)


DEFAULT_LIMITS = Limits()


class Budget:
    """What is left of a study's limits while it is read; ``remedy`` says how more bytes are allowed."""

    def __init__(self, limits: Limits, remedy: str = RAISE_OPTION) -> None:
        self.limits = limits
        self._remedy = remedy
        self._decoded = 0

    def take(self, decoded: int, where: str, *, packed: int | None, pixels: int = 0) -> None:
        """Ask for ``decoded`` bytes before allocating them; raises `LimitExceededError`.

        ``packed`` are the stored bytes they come out of; ``None`` where nothing is packed: then fewer bytes
        than claimed are a file cut short, not a bomb. ``pixels`` is how many pixels these bytes are; each
        counts at least `LEAST_BYTES_A_PIXEL`.
        """
        counted = self._decoded + max(decoded, LEAST_BYTES_A_PIXEL * pixels)
        if counted > self.limits.decoded_bytes:
            what = f"the images need {size_in_words(counted)} decoded"
            raise too_large(what, self.limits, where, self._remedy)
        if packed is not None:
            self.check_ratio(decoded, where, packed=packed)
        self._decoded = counted

    def check_ratio(self, decoded: int, where: str, *, packed: int) -> None:
        """Refuse what expands like a bomb; raises `LimitExceededError`."""
        ratio, limit = decoded / max(packed, 1), self.limits.ratio
        if decoded > RATIO_FROM and ratio > limit:
            what = f"expands {ratio:,.0f} times, the limit is {limit:g} times"
            remedy = "raise it with --max-ratio if the file is to be trusted"
            raise LimitExceededError(what, where=where, remedy=remedy)

    def check_members(self, count: int, where: str) -> None:
        """Refuse more files, folders or pages than allowed; raises `LimitExceededError`."""
        if count > self.limits.members:
            what = f"more than {self.limits.members:,} files or pages"
            remedy = "raise it with --max-members, or split the folder"
            raise LimitExceededError(what, where=where, remedy=remedy)


def too_large(
    what: str, limits: Limits, where: str, remedy: str = RAISE_OPTION
) -> LimitExceededError:
    """The error for more bytes than ``limits`` allow; ``what`` says how many there are."""
    what = f"{what}, the limit is {size_in_words(limits.decoded_bytes)}"
    return LimitExceededError(what, where=where, remedy=remedy)


@contextmanager
def open_regular(path: Path, where: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and give it with its size; anything else is never opened.

    Raises `NothingReadableError` if it is missing, forbidden, or not a regular file.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise not_regular(mode, where)
        # Non-blocking, and looked at again once open: the name may have been swapped for a FIFO.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.fdopen(os.open(path, flags), "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise cannot_read(error, where) from error
    with handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise not_regular(status.st_mode, where)
        yield handle, status.st_size


def read_file(path: Path, where: str, budget: Budget) -> bytes:
    """Read a whole file into memory, unless it is larger than all pixels may be."""
    with open_regular(path, where) as (handle, size):
        if size > budget.limits.decoded_bytes:
            raise too_large(f"the file holds {size_in_words(size)}", budget.limits, where)
        try:
            return handle.read(size)
        except OSError as error:
            raise cannot_read(error, where) from error


def cannot_read(error: Exception, where: str) -> NothingReadableError:
    """Say in plain words why the system would not give a file or folder."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        what, remedy = "no such file or folder", "check the path, and that the disk is there"
    elif isinstance(error, PermissionError):
        what, remedy = "no permission to read", "ask its owner, or copy it to where you may"
    else:
        what, remedy = f"cannot be read, {reason(error)}", "check the path and the disk"
    return NothingReadableError(what, where=where, remedy=remedy)


def reason(error: Exception) -> str:
    """What the system says of an error, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def not_regular(mode: int, where: str) -> NothingReadableError:
    """Say what stands where a file was expected."""
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    kinds |= dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")
    what = f"{kinds.get(stat.S_IFMT(mode), 'something else')}, not a file"
    return NothingReadableError(what, where=where, remedy="give an image file or a folder")


def size_in_words(size: int) -> str:
    """Bytes as people write them."""
    if size < 1024:
        return f"{size:,} bytes"
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / 1024**power:,.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
