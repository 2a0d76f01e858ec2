"""The manifest: one row for each slice of a data set (data).

A CSV file, which `index` makes. Its paths are relative to its folder. A *patient* is one study of one
person, a *collection* a data set of its own: a cohort, a site, a challenge. Rows of a patient stand
together, in the order of their numbers: inferior to superior for pictures in the LGG layout, as stored for
NIfTI.
"""

from __future__ import annotations

import csv
import hashlib
import io
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from gliosight.data.people import person_of
from gliosight.data.table import by_column, csv_lines, read_bytes
from gliosight.errors import CannotWriteError, DamagedInputError, printable
from gliosight.files import cannot_write, whole_file

SLICES, NIFTI = "slices", "nifti"
SEQUENCES = ("T1", "FLAIR", "T1C")
REMEDY = "make it anew with: gliosight data index"


@dataclass(frozen=True)
class SliceRow:
    """One slice: its files, and what is known of it without a network. docs/data.md explains each column.

    Parameters
    ----------
    number : int
        The number in the picture's name, or the index along the volume's slice axis, from 0.
    image, t1, t1c, mask : str
        Paths of a picture per slice (three channels are T1, FLAIR, T1C; one is FLAIR), or of volumes, which
        the rows share; empty without such a file. In a mask, values other than 0 are tumour.
    sequences, copies : tuple of str
        Those of `SEQUENCES` that are really there, and those that are a copy of another, in that order.
    excluded : str
        Why the slice is not used; empty for a good one.
    """

    patient: str
    number: int
    kind: str
    image: str
    t1: str = ""
    t1c: str = ""
    mask: str = ""
    tumour: bool = False
    area_px: int = 0
    sequences: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    institution: str = ""
    sha256: str = ""
    mask_sha256: str = ""
    excluded: str = ""
    t1_sha256: str = ""
    t1c_sha256: str = ""
    collection: str = ""
    person: str = ""
    tumour_free: bool = False

    @property
    def has_truth(self) -> bool:
        """Whether it is known which pixels are tumour."""
        return bool(self.mask) or self.tumour_free

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each file of the row, by its path."""
        files = {self.image: self.sha256, self.mask: self.mask_sha256}
        files |= {self.t1: self.t1_sha256, self.t1c: self.t1c_sha256}
        return {path: digest for path, digest in files.items() if path}

    @property
    def key(self) -> str:
        """The slice's name in a split: ``patient:number``."""
        return f"{self.patient}:{self.number}"


COLUMNS = tuple(field.name for field in fields(SliceRow))
OPTIONAL = ("t1_sha256", "t1c_sha256", "collection", "person", "tumour_free")
# Columns in which all rows of a patient are alike.
OF_PATIENT = ("collection", "person", "tumour_free")
# What a spreadsheet takes for the beginning of a formula, and the mark put before it.
MARKED = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class Manifest:
    """All slices of a data set, patients together, each in the order of its numbers.

    Paths of rows are relative to ``folder``. Raises `DamagedInputError`: a patient's rows do not stand
    together, a slice is there twice, or a patient is of two collections or persons.
    """

    rows: tuple[SliceRow, ...]
    folder: Path

    def __post_init__(self) -> None:
        patients: set[str] = set()
        for patient, group in groupby(self.rows, key=lambda row: row.patient):
            rows = list(group)
            numbers = [row.number for row in rows]
            if patient in patients or numbers != sorted(set(numbers)):
                what = f"slices of {printable(patient)} are out of order or there twice"
                raise DamagedInputError(what, where="manifest", remedy=REMEDY)
            for name in OF_PATIENT:
                if len({getattr(row, name) for row in rows}) > 1:
                    what = f"slices of {printable(patient)} differ in the column {name}"
                    remedy = f"give all slices of a patient the same {name}"
                    raise DamagedInputError(what, where="manifest", remedy=remedy)
            patients.add(patient)

    @cached_property
    def used(self) -> tuple[SliceRow, ...]:
        """The rows that are not excluded."""
        return tuple(row for row in self.rows if not row.excluded)

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Patients with a used row, in the order of the manifest."""
        return tuple(self.by_patient)

    @cached_property
    def by_patient(self) -> dict[str, tuple[SliceRow, ...]]:
        """Used rows of each patient."""
        return {name: tuple(group) for name, group in groupby(self.used, lambda row: row.patient)}

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """Collections with a used row, in alphabetical order; none where no row names one."""
        return tuple(sorted({row.collection for row in self.used if row.collection}))

    def person_of(self, patient: str) -> str:
        """The person a patient is: by the column ``person``, else by the name."""
        return self.by_patient[patient][0].person or person_of(patient)

    def path(self, relative: str) -> Path:
        """The path of a row's file."""
        return self.folder / relative

    @cached_property
    def sha256(self) -> str:
        """Digest of what the slices are, wherever they lie and in whatever order the patients stand."""
        digest = hashlib.sha256()
        for row in sorted(self.rows, key=lambda row: (row.patient, row.number)):
            values = [row.patient, str(row.number), row.sha256, row.mask_sha256, row.excluded]
            if row.t1 or row.t1c:
                values += [row.t1_sha256, row.t1c_sha256]
            # Only where they have a value: the digest of a data set without them stays what it was.
            for name in OF_PATIENT:
                if getattr(row, name):
                    values += [name, str(getattr(row, name))]
            digest.update(("\0".join(values) + "\n").encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def write_manifest(rows: Iterable[SliceRow], path: Path) -> None:
    """Write a manifest; raises `CannotWriteError`."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(COLUMNS)
    for row in rows:
        cells = [_cell(getattr(row, name)) for name in COLUMNS]
        # Not every Python quotes a lone carriage return by itself.
        (quoting if any("\r" in cell for cell in cells) else plain).writerow(cells)
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return "+".join(value)
    text = str(value)
    return f"'{text}" if text.startswith(MARKED) else text


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; unknown columns are ignored.

    Raises `NothingReadableError` or `DamagedInputError`, which names the line whose value does not fit its
    column.
    """
    remedy = "make one with: gliosight data index ROOT -o manifest.csv"
    content = read_bytes(path, "manifest", remedy)
    # Names of files that are not UTF-8 come back as they were.
    with csv_lines(content, path.name, REMEDY, any_bytes=True) as (header, lines):
        if missing := [name for name in COLUMNS if name not in (*header, *OPTIONAL)]:
            raise ValueError(f"no manifest, the first line does not name the column {missing[0]}")
        rows = tuple(_row_of(header, cells) for _, cells in lines)
    return Manifest(rows, path.absolute().parent)


def _row_of(header: Sequence[str], cells: Sequence[str]) -> SliceRow:
    """The row of a manifest's line; raises `ValueError` where a value does not fit its column."""
    cells = [
        cell[1:] if cell.startswith("'") and cell[1:].startswith(MARKED) else cell for cell in cells
    ]
    texts = dict.fromkeys(OPTIONAL, "") | by_column(header, cells)
    values: dict[str, Any] = {name: texts[name] for name in COLUMNS}
    if values["kind"] not in (SLICES, NIFTI):
        raise ValueError(f"kind {values['kind']!r} is neither {SLICES} nor {NIFTI}")
    for name in ("number", "area_px"):
        values[name] = int(values[name])
    for name in ("tumour", "tumour_free"):
        if values[name] not in ("0", "1", *([""] if name in OPTIONAL else [])):
            raise ValueError(f"{name} {values[name]!r} is neither 0 nor 1")
        values[name] = values[name] == "1"
    for name in ("sequences", "copies"):
        values[name] = tuple(filter(None, values[name].split("+")))
        if unknown := set(values[name]) - set(SEQUENCES):
            raise ValueError(f"unknown sequence {min(unknown)!r}")
    if values["tumour"] and values["tumour_free"]:
        raise ValueError("tumour is 1 and tumour_free is 1")
    return SliceRow(**values)


def check_file(path: Path, *, overwrite: bool) -> None:
    """Raise `CannotWriteError` for an output that is there or cannot be a file, before any work is done."""
    what, remedy = "the output is there already", "choose another -o"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return
        mode = stat.S_IFREG  # a link that leads nowhere is in the way
    except OSError as error:
        raise cannot_write(error, path) from error
    except ValueError as error:  # a NUL in the name
        raise CannotWriteError(str(error), where=path.name, remedy=remedy) from error
    if stat.S_ISDIR(mode):
        what = "a folder is in the way of the output file"
    elif not stat.S_ISREG(mode):
        what = "a device or the like is in the way of the output file"
    elif overwrite:
        return
    else:
        remedy += ", or replace it with --overwrite"
    raise CannotWriteError(what, where=path.name, remedy=remedy)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and the folders above it; raises `CannotWriteError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(error, path) from error
    with whole_file(path, overwrite=True) as partial:
        partial.write_bytes(content)
