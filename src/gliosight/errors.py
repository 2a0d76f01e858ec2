"""Everything that can go wrong, in one tree (domain layer).

::

    GliosightError                  never raised itself
    ├── UsageError            2     wrong options, or options that contradict each other
    ├── NothingReadableError  3     no such path, no permission, empty, nothing recognised
    ├── DamagedInputError     4     truncated, corrupt, mislabelled, or contradicts itself
    ├── UnsupportedInputError 5     understood, but not something this tool can work on
    ├── LimitExceededError    6     larger than a limit allows; nothing was allocated
    ├── CannotWriteError      7     the output cannot be written, or is in the way
    │   └── InUseError        7     another run is writing there
    ├── ModelError            8     model or engine unusable
    ├── PeerError             9     an archive or network peer failed
    └── InternalError        70     a bug of ours

The number is the exit code. An error is one line, ``error: WHAT (WHERE): WHAT TO DO``; WHERE is relative
to the input and never a name of a patient from a header.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, ClassVar


class GliosightError(Exception):
    """Root of the tree: catch this to catch everything gliosight raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, with the value found and the value needed.
    where : str, optional
        The file, series or option concerned, relative to the input.
    remedy : str, optional
        What the user can do about it.
    """

    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "internal"

    def __init_subclass__(cls, *, exit_code: int | None = None, kind: str | None = None) -> None:
        cls.exit_code, cls.kind = exit_code or cls.exit_code, kind or cls.kind

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self.line())

    def __reduce__(self) -> tuple[Any, ...]:
        """How it goes from one process to another: without what it was raised from."""
        return _error_of, (type(self), self.what, self.where, self.remedy)

    def line(self) -> str:
        """The error as one line, without the leading ``error:``; control codes are made visible."""
        text = self.what
        if self.where:
            text += f" ({self.where})"
        if self.remedy:
            text += f": {self.remedy}"
        return printable(text)

    def as_object(self) -> dict[str, str | int | None]:
        """The error as ``--json`` prints it."""
        return {
            "kind": self.kind,
            "exit_code": self.exit_code,
            "what": self.what,
            "where": self.where,
            "remedy": self.remedy,
        }


class UsageError(GliosightError, ValueError, exit_code=2, kind="usage"):
    """Options are wrong or contradict each other."""


class NothingReadableError(GliosightError, exit_code=3, kind="nothing readable"):
    """There is nothing at this path that could be read: missing, forbidden, empty or unknown."""


class DamagedInputError(GliosightError, ValueError, exit_code=4, kind="damaged input"):
    """A file is truncated, corrupt or mislabelled, or the files contradict each other."""


class UnsupportedInputError(GliosightError, ValueError, exit_code=5, kind="unsupported input"):
    """The input is sound, but it is not what this tool works on."""


class LimitExceededError(GliosightError, exit_code=6, kind="limit exceeded"):
    """The input claims to be larger than a limit; nothing was allocated for it."""


class CannotWriteError(GliosightError, OSError, exit_code=7, kind="cannot write"):
    """The output cannot be written or would overwrite something."""


class InUseError(CannotWriteError):
    """Another run is writing there now; it can be waited for."""


class ModelError(GliosightError, exit_code=8, kind="model unusable"):
    """The model or the inference engine cannot be used."""


class PeerError(GliosightError, exit_code=9, kind="peer failed"):
    """An archive or network peer failed."""


class InternalError(GliosightError, exit_code=70, kind="internal"):
    """A bug of ours: a check on our own results failed."""


def _error_of(
    kind: type[GliosightError], what: str, where: str | None, remedy: str | None
) -> GliosightError:
    return kind(what, where=where, remedy=remedy)


def printable(text: str) -> str:
    """Text for one terminal line: control and format characters become visible escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def within(error: GliosightError, where: str) -> GliosightError:
    """The same error with its place seen from further up, such as from a folder of studies."""
    return type(error)(error.what, where=where, remedy=error.remedy)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that is behind it: what it was raised from, or while what was handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def explained(error: Exception) -> GliosightError | None:
    """What an error says of this machine, whatever it was taken for: too little memory, a full disk.

    A library in which memory ran out may call that a broken file. ``None`` for a bug of ours.
    """
    if isinstance(error, LimitExceededError | CannotWriteError | ModelError):
        return error
    for cause in causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        unmapped = isinstance(cause, ImportError) and any(
            words in str(cause) for words in ("failed to map segment", "allocate memory")
        )
        # A thread needs room for its stack; Python has no class of its own for that.
        no_thread = isinstance(cause, RuntimeError) and "can't start new thread" in str(cause)
        if isinstance(cause, MemoryError) or number == errno.ENOMEM or unmapped or no_thread:
            return LimitExceededError(
                "there is not enough memory",
                remedy="end other programs, give one study at a time, or a smaller one",
            )
        if number in (errno.EAGAIN, errno.EMFILE, errno.ENFILE):
            return LimitExceededError(
                f"the system gives no more processes or files: {getattr(cause, 'strerror', cause)}",
                remedy="end other programs, or raise their number with ulimit",
            )
        if cause is error and number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return CannotWriteError(
                f"cannot write: {getattr(cause, 'strerror', cause)}",
                remedy="make room, or write elsewhere",
            )
    return error if isinstance(error, GliosightError) else None
