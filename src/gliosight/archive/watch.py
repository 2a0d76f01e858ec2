"""A folder that studies arrive in: what has come is handed on once nothing more comes (layer: archive)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gliosight.errors import NothingReadableError


@dataclass
class _Seen:
    """What lay there at the last look, and since when it has been so."""

    signature: str
    since: float
    handed_on: bool = False


class Inbox:
    """The deliveries of a folder: its files and subfolders, each a study or several.

    Parameters
    ----------
    folder : Path
    quiet : float
        A delivery is complete when nothing of it has changed for so many seconds.
    """

    def __init__(self, folder: Path, quiet: float) -> None:
        self._folder, self._quiet = folder, quiet
        self._seen: dict[Path, _Seen] = {}

    def complete(self, now: float) -> list[Path]:
        """Deliveries that are complete and were not given before, or have changed since; sorted.

        ``now`` are the seconds of a clock that only goes forward.

        Raises
        ------
        NothingReadableError
            The folder is gone or forbidden.
        """
        found = {path: signature(path) for path in self._deliveries()}
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        ready = []
        for path, now_there in found.items():
            seen = self._seen.get(path)
            if seen is None or seen.signature != now_there:
                seen = self._seen[path] = _Seen(now_there, now)
            if not seen.handed_on and now - seen.since >= self._quiet:
                seen.handed_on = True
                ready.append(path)
        return ready

    def waiting(self) -> int:
        """How many deliveries are not complete yet."""
        return sum(not seen.handed_on for seen in self._seen.values())

    def _deliveries(self) -> list[Path]:
        try:
            paths = sorted(self._folder.iterdir())
        except OSError as error:
            raise NothingReadableError(
                f"the folder cannot be listed: {error.strerror}",
                where=self._folder.name,
                remedy="check the path and its permissions",
            ) from error
        # Programs that copy write under a hidden name first.
        return [path for path in paths if not path.name.startswith(".")]


def signature(path: Path) -> str:
    """Digest of names, sizes and times of all files below; links are not followed."""
    digest = hashlib.sha256()
    for file in _files(path):
        try:
            status = os.lstat(file)
        except OSError:  # gone meanwhile
            continue
        words = (os.fspath(file), status.st_size, status.st_mtime_ns)
        digest.update(repr(words).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))
