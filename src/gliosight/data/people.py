"""Who a patient is, and which collection a data set is (data).

A patient's name may say the person and the institution. What names do not say, the table of ``--people``
says, a CSV file with the column ``patient`` and at least one of ``person`` and ``collection``; and a
collection is named where its ROOT is given.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
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
    """What a line of the table says of a patient; empty where it says nothing."""

    person: str
    collection: str
    line: int


NOTHING = Entry("", "", 0)


@dataclass(frozen=True)
class People:
    """The table of ``--people``, by patient."""

    entries: Mapping[str, Entry]

    def person(self, patient: str) -> str:
        """The person a line gives a patient; empty without one.

        A person that is called by a study's name, such as ``TCGA_CS_4944_20010208``, is the person of that
        study.
        """
        return person_of(self.entries.get(patient, NOTHING).person)

    def collection(self, patient: str) -> str:
        """The collection a line gives a patient; empty without one."""
        return self.entries.get(patient, NOTHING).collection


NOBODY = People({})


@dataclass(frozen=True)
class Root:
    """A data set: where it lies, and the collection it is; empty where it is the only one."""

    path: Path
    collection: str = ""


def read_people(path: Path) -> People:
    """Read a table of persons and collections.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is not such a table; a patient stands in it twice; a line says nothing, or contradicts another.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise NothingReadableError(
            f"cannot read the table: {getattr(error, 'strerror', None) or error}",
            where=path.name,
            remedy=f"give a CSV file {REMEDY}",
        ) from error
    number = 1
    entries: dict[str, Entry] = {}
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = _header(next(lines, []))
        # The reader's own count is of lines, of which a cell may hold several.
        for number, cells in enumerate(lines, start=2):
            if cells:
                _add(entries, header, cells, number)
        for patient, entry in entries.items():
            number = entry.line
            _check_person(patient, entry, entries)
    except (ValueError, csv.Error) as error:
        binary = isinstance(error, UnicodeDecodeError)
        raise DamagedInputError(
            "it is not a CSV file in UTF-8" if binary else str(error),
            where=f"{path.name}, line {number}",
            remedy=f"give one line for each patient, {REMEDY}",
        ) from error
    return People(entries)


def check_collection(name: str) -> str:
    """The name of a collection, if it can be one; raises `UsageError`."""
    if refusal := _refused(name):
        raise UsageError(refusal, remedy="name it in letters and digits: NAME=PATH")
    return name


def parse_roots(texts: Sequence[str]) -> tuple[Root, ...]:
    """Read ``PATH`` or ``NAME=PATH`` of each data set; raises `UsageError`.

    Of several without a NAME, the collection is named after the folder.
    """
    return tuple(_root(text, several=len(texts) > 1) for text in texts)


def _root(text: str, *, several: bool) -> Root:
    if not text:
        raise UsageError("the path is empty", remedy="give the folder of a data set, or its table")
    name, separator, path = text.partition("=")
    # A path may hold the sign itself.
    if separator and "/" not in name and "\\" not in name and not Path(text).exists():
        if not path:
            raise UsageError(f"no path in {printable(text)}", remedy="write NAME=PATH")
        return Root(Path(path), check_collection(name))
    folder = Path(text).absolute().parent if Path(text).is_file() else Path(text)
    return Root(Path(text), check_collection(folder_name(folder)) if several else "")


def _header(cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if unknown := [name for name in header if name not in COLUMNS]:
        raise ValueError(f"unknown column {printable(unknown[0])!r}")
    if len(set(header)) != len(header) or "patient" not in header or len(header) < 2:
        raise ValueError("no column patient, or none of person and collection")
    return header


def _add(entries: dict[str, Entry], header: list[str], cells: list[str], number: int) -> None:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} values instead of {len(header)}")
    values = dict.fromkeys(COLUMNS, "") | dict(zip(header, map(str.strip, cells), strict=True))
    patient, person, collection = (values[name] for name in COLUMNS)
    if not patient or not (person or collection):
        raise ValueError("a line without a patient, or without person and collection")
    if patient in entries:
        raise ValueError(f"{printable(patient)} stands in line {entries[patient].line}, too")
    if collection and (refusal := _refused(collection)):
        raise ValueError(refusal)
    entries[patient] = Entry(person, collection, number)


def _check_person(patient: str, entry: Entry, entries: Mapping[str, Entry]) -> None:
    """Raise `ValueError` where the patient's person is a patient who is somebody else."""
    other = entries.get(entry.person)
    if other is not None and other.person and person_of(other.person) != person_of(entry.person):
        raise ValueError(
            f"{printable(patient)} is the person {printable(entry.person)}, who is "
            f"{printable(other.person)} by line {other.line}"
        )


def _refused(name: str) -> str:
    """Why a collection cannot have this name; empty where it can."""
    if not name or not name.isprintable() or any(sign in name for sign in SEPARATORS):
        return f"a collection cannot be named {printable(name)!r}"
    return ""
