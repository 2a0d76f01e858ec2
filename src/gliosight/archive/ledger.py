"""What became of each study, in SQLite: a run that is ended loses studies in flight alone (layer: archive).

The file is claimed by one process at a time; the claim ends with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gliosight.archive.entries import Entry
from gliosight.errors import CannotWriteError, InUseError

# Beside the results, in a folder that no list of files shows.
FOLDER, FILE = ".gliosight", "ledger.sqlite"
# What it is for, in SQLite's own field, and the form of its table.
APPLICATION, FORM = 0x67_6C_69_6F, 1
TABLE = """
CREATE TABLE IF NOT EXISTS studies (
    key TEXT PRIMARY KEY, place TEXT NOT NULL, state TEXT NOT NULL, recipe TEXT NOT NULL,
    signature TEXT NOT NULL, digest TEXT NOT NULL, folder TEXT NOT NULL, entry TEXT NOT NULL,
    thumbnail BLOB)
"""

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Record:
    """One study in the ledger.

    Parameters
    ----------
    key : str
        What tells it from all others: where it lies, and which of the studies there it is.
    place : str
        The file or folder that it lies at, absolute.
    state : {"waiting", "running", "done", "failed"}
        ``waiting`` is one that is to be analysed again, ``running`` one that was in flight when its run
        ended.
    recipe : str
        Digest of the model and of all settings that change a result.
    signature : str
        Digest of names, sizes and times of its files; where it is the same nothing is read again.
    digest : str
        Digest of the content of its files; empty until it was analysed.
    folder : str
        Name of its result folder, kept for it also where it failed.
    entry : Entry
    """

    key: str
    place: str
    state: State
    recipe: str
    signature: str
    digest: str
    folder: str
    entry: Entry


class Ledger:
    """The records of one folder of results."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def records(self) -> list[Record]:
        """All of them, in the order in which they came."""
        rows = self._database.execute("SELECT * FROM studies ORDER BY rowid")
        return [_record(*row) for row in rows]

    def drop(self, key: str) -> None:
        """Forget a study."""
        with _as_cannot_write(), self._database:
            self._database.execute("DELETE FROM studies WHERE key = ?", (key,))

    def write(self, record: Record) -> None:
        """Add or replace the record of a study; it lasts from here on."""
        self.write_all([record])

    def write_all(self, records: Iterable[Record]) -> None:
        """Add or replace records, all or none."""
        with _as_cannot_write(), self._database:
            self._database.executemany(
                "INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) "
                "DO UPDATE SET place = excluded.place, state = excluded.state, recipe = excluded.recipe, "
                "signature = excluded.signature, digest = excluded.digest, "
                "folder = excluded.folder, entry = excluded.entry, thumbnail = excluded.thumbnail",
                map(_row, records),
            )


@contextlib.contextmanager
def opened_ledger(out: Path) -> Iterator[Ledger]:
    """The ledger of a folder of results, claimed as long as this is open.

    Raises
    ------
    InUseError
        Another run is writing there.
    CannotWriteError
        The folder cannot be written, or the file there is not a ledger of this version.
    """
    with _as_cannot_write():
        try:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWriteError(
                f"cannot write there: {error.strerror}", where=out.name, remedy="choose another -o"
            ) from error
        database = sqlite3.connect(out / FOLDER / FILE, timeout=0)
        with contextlib.closing(database):
            # The lock is taken by the first statement that writes, and kept.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            application, form = (
                database.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
            empty = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not empty and (application, form) != (APPLICATION, FORM):
                what = "the ledger there was not written by this version of gliosight"
                raise CannotWriteError(what, where=f"{FOLDER}/{FILE}", remedy="choose another -o")
            with database:
                database.execute("BEGIN IMMEDIATE")
                database.execute(TABLE)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {FORM}")
            yield Ledger(database)


def _row(record: Record) -> tuple[Any, ...]:
    entry = asdict(replace(record.entry, thumbnail=None))
    del entry["thumbnail"]
    values = (record.key, record.place, record.state, record.recipe, record.signature)
    return (*values, record.digest, record.folder, json.dumps(entry), record.entry.thumbnail)


def _record(
    key: str,
    place: str,
    state: State,
    recipe: str,
    signature: str,
    digest: str,
    folder: str,
    entry: str,
    thumbnail: bytes | None,
) -> Record:
    values = json.loads(entry)
    values["warnings"] = tuple(values["warnings"])
    known = Entry(**values, thumbnail=thumbnail)
    return Record(key, place, state, recipe, signature, digest, folder, known)


@contextlib.contextmanager
def _as_cannot_write() -> Iterator[None]:
    """What SQLite says, as one of our errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise InUseError(
                "another run is working in this folder",
                where=f"{FOLDER}/{FILE}",
                remedy="wait for it to end, or choose another -o",
            ) from error
        raise CannotWriteError(
            f"the ledger cannot be written: {error}",
            where=f"{FOLDER}/{FILE}",
            remedy="make room, or choose another -o",
        ) from error
    except sqlite3.DatabaseError as error:
        raise CannotWriteError(
            f"the ledger there is damaged: {error}",
            where=f"{FOLDER}/{FILE}",
            remedy="remove it, then run the command again with --overwrite; or choose another -o",
        ) from error
