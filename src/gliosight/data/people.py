"""Who is whom, and of which collection: the table of ``--people`` (data).

In: a CSV file with the column ``patient`` and at least one of ``person`` and ``collection``. Out: a frozen
`People`, checked against itself. What it means for the patients of a manifest, `roots` says.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gliosight.data.patients import person_of
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable

COLUMNS = ("patient", "person", "collection")
# What `--whole` and `sampling.collections` put between two names.
SEPARATORS = ",+="


@dataclass(frozen=True)
class Entry:
    """What a line says of a patient; empty where it says nothing."""

    person: str
    collection: str
    line: int


@dataclass(frozen=True)
class People:
    """The table, by patient."""

    entries: Mapping[str, Entry]

    def person(self, patient: str) -> str:
        """The person a line gives a patient; empty without one.

        A person that is called like a patient of the table or by a study's name, such as
        ``TCGA_CS_4944_20010208``, is the person of that study.
        """
        entry = self.entries.get(patient)
        return person_of(entry.person) if entry and entry.person else ""

    def collection(self, patient: str) -> str:
        """The collection a line gives a patient; empty without one."""
        entry = self.entries.get(patient)
        return entry.collection if entry else ""


NOBODY = People({})


def read_people(path: Path) -> People:
    """Read a table of persons and collections.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is no such table; a patient stands in it twice; a line says nothing, or contradicts another one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not a CSV file in UTF-8", 1) from error
    except (OSError, ValueError) as error:
        raise NothingReadableError(
            f"cannot read the table: {getattr(error, 'strerror', None) or error}",
            where=path.name,
            remedy=f"give a CSV file with the columns {', '.join(COLUMNS)}",
        ) from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        entries = dict(_entries(path, lines))
    except csv.Error as error:
        raise _damaged(path, str(error), lines.line_num) from error
    for patient, entry in entries.items():
        named = entries.get(entry.person)
        if (
            named is not None
            and named.person
            and person_of(named.person) != person_of(entry.person)
        ):
            raise _damaged(
                path,
                f"{printable(patient)} is the person {printable(entry.person)}, who is "
                f"{printable(named.person)} by line {named.line}",
                entry.line,
            )
    return People(entries)


def check_collection(name: str) -> str:
    """A collection's name, if it can be one.

    Raises
    ------
    UsageError
    """
    if not name or any(one in name for one in SEPARATORS) or not name.isprintable():
        raise UsageError(
            f"a collection cannot be named {printable(name)!r}",
            remedy="name it in letters and digits: NAME=PATH",
        )
    return name


def _entries(path: Path, lines: Iterator[list[str]]) -> Iterator[tuple[str, Entry]]:
    header = [one.strip() for one in next(lines, [])]
    if unknown := [one for one in header if one not in COLUMNS]:
        raise _damaged(path, f"unknown column {printable(unknown[0])!r}", 1)
    if len(set(header)) != len(header) or "patient" not in header or len(header) < 2:
        raise _damaged(path, "no column patient, or none of person and collection", 1)
    seen: dict[str, int] = {}
    # The reader's own count is of lines, of which a cell may hold several.
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise _damaged(path, f"{len(cells)} values instead of {len(header)}", number)
        value = dict.fromkeys(COLUMNS, "") | {
            name: cell.strip() for name, cell in zip(header, cells, strict=True)
        }
        patient, person, collection = (value[name] for name in COLUMNS)
        if not patient or not (person or collection):
            raise _damaged(
                path, "a line without a patient, or without person and collection", number
            )
        if patient in seen:
            raise _damaged(
                path, f"{printable(patient)} stands in line {seen[patient]}, too", number
            )
        if collection:
            try:
                check_collection(collection)
            except UsageError as error:
                raise _damaged(path, error.what, number) from error
        seen[patient] = number
        yield patient, Entry(person, collection, number)


def _damaged(path: Path, what: str, line: int) -> DamagedInputError:
    return DamagedInputError(
        what,
        where=f"{path.name}, line {line}",
        remedy=f"give one line for each patient, with the columns {', '.join(COLUMNS)}",
    )
