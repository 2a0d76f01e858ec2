"""Who a patient is, and which collection a data set is (data).

A patient's name may say the person and the institution. What names do not say, the table of ``--people``
says; a collection is named where its ROOT is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gliosight.data.table import by_column, csv_lines, read_bytes
from gliosight.errors import DamagedInputError, UsageError, printable
from gliosight.read.detect import folder_name

COLUMNS = ("patient", "person", "collection")
REMEDY = f"with the columns {', '.join(COLUMNS)}"
# What `--whole` and `sampling.collections` put between two names.
SEPARATORS = ",+="
# TCGA-CS-4943 with a date behind; sub-01 of BIDS; BraTS-GLI-00006 with a time point; patient1_study2.
_PERSON = (
    re.compile(r"^(TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4})(?![A-Z0-9])"),
    re.compile(r"^(sub-[A-Za-z0-9]+)"),
    re.compile(r"^(BraTS-[A-Za-z]+-\d+)-\d{3}$"),
    re.compile(r"^(.+?)[-_](?:ses|session|study|visit|tp|timepoint)[-_]?\d+$", re.IGNORECASE),
)
_INSTITUTION = re.compile(r"^TCGA[-_]([A-Z0-9]{2})[-_]")


def person_of(patient: str) -> str:
    """The person a patient (one study) is of, as far as the name says."""
    matches = filter(None, (pattern.match(patient) for pattern in _PERSON))
    return next((match[1] for match in matches), patient)


def institution_of(patient: str) -> str:
    """Second part of a TCGA name; else empty."""
    match = _INSTITUTION.match(patient)
    return match[1] if match else ""


@dataclass(frozen=True)
class Entry:
    """A line of the table of ``--people``; a cell may be empty."""

    person: str
    collection: str
    line: int


@dataclass(frozen=True)
class People:
    """The table of ``--people``, by patient."""

    entries: Mapping[str, Entry]

    def person(self, patient: str) -> str:
        """The person of a patient; empty where the table does not say it.

        A person that is called by a study's name, such as ``TCGA_CS_4944_20010208``, is the person of that
        study.
        """
        return person_of(self.entries[patient].person) if patient in self.entries else ""

    def collection(self, patient: str) -> str:
        """The collection of a patient; empty where the table does not say it."""
        return self.entries[patient].collection if patient in self.entries else ""


NOBODY = People({})


@dataclass(frozen=True)
class Root:
    """A data set: where it lies, and the collection it is; empty where it is the only one."""

    path: Path
    collection: str = ""


def read_people(path: Path) -> People:
    """Read a table of persons and collections.

    Raises `NothingReadableError` or `DamagedInputError`: it is not such a table, a patient stands in it
    twice, or a line contradicts another.
    """
    content = read_bytes(path, "table", f"give a CSV file {REMEDY}")
    remedy = f"give one line for each patient, {REMEDY}"
    entries: dict[str, Entry] = {}
    with csv_lines(content, path.name, remedy) as (header, lines):
        if unknown := [name for name in header if name not in COLUMNS]:
            raise ValueError(f"unknown column {printable(unknown[0])!r}")
        if len(set(header)) != len(header) or "patient" not in header or len(header) < 2:
            raise ValueError("no column patient, or none of person and collection")
        for number, cells in lines:
            values = dict.fromkeys(COLUMNS, "") | by_column(header, cells)
            patient, person, collection = (values[name].strip() for name in COLUMNS)
            if not patient or not (person or collection):
                raise ValueError("a line without a patient, or without person and collection")
            if patient in entries:
                line = entries[patient].line
                raise ValueError(f"{printable(patient)} stands in line {line}, too")
            if collection and not _can_be_named(collection):
                raise ValueError(f"a collection cannot be named {printable(collection)!r}")
            entries[patient] = Entry(person, collection, number)
    for patient, entry in entries.items():
        other = entries.get(entry.person)
        if other and other.person and person_of(other.person) != person_of(entry.person):
            raise DamagedInputError(
                f"{printable(patient)} is the person {printable(entry.person)}, who is "
                f"{printable(other.person)} by line {other.line}",
                where=f"{path.name}, line {entry.line}",
                remedy=remedy,
            )
    return People(entries)


def parse_roots(texts: Sequence[str]) -> tuple[Root, ...]:
    """Read ``PATH`` or ``NAME=PATH`` of each data set; raises `UsageError`.

    Of several without a NAME, the collection is named after the folder.
    """
    return tuple(_parse_root(text, several=len(texts) > 1) for text in texts)


def _parse_root(text: str, *, several: bool) -> Root:
    if not text:
        raise UsageError("the path is empty", remedy="give the folder of a data set, or its table")
    name, separator, after = text.partition("=")
    path = Path(text)
    # A path may hold the sign itself.
    if separator and "/" not in name and "\\" not in name and not path.exists():
        if not after:
            raise UsageError(f"no path in {printable(text)}", remedy="write NAME=PATH")
        path = Path(after)
    elif several:
        name = folder_name(path.absolute().parent if path.is_file() else path)
    else:
        return Root(path)
    if not _can_be_named(name):
        what = f"a collection cannot be named {printable(name)!r}"
        raise UsageError(what, remedy="name it in letters and digits: NAME=PATH")
    return Root(path, name)


def _can_be_named(collection: str) -> bool:
    return (
        bool(collection)
        and collection.isprintable()
        and not any(sign in collection for sign in SEPARATORS)
    )
