"""A table of slices as the tutorial keeps it: ``data_mask.csv`` (data).

In: a CSV file with the columns ``image_path`` and ``mask_path``, mostly also ``patient_id`` and ``mask`` (0
or 1). Out: pictures that are there, and what the table says of them. Its paths may begin with folders of
somebody else's disk: the longest end of a path that leads to a file below the table's own folder counts.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gliosight.errors import DamagedInputError, printable
from gliosight.read.limits import cannot_read

NAME = "data_mask.csv"
NEEDED = ("image_path", "mask_path")


@dataclass(frozen=True)
class TableLine:
    """One line of a table.

    Parameters
    ----------
    image : Path
        Where the picture is, or would be.
    there : bool
    mask : Path or None
        ``None`` where there is no such file.
    patient_id : str
        What the table says; empty without that column.
    tumour : bool or None
        What the table says; ``None`` without that column.
    """

    image: Path
    there: bool
    mask: Path | None
    patient_id: str
    tumour: bool | None


def read_table(path: Path) -> list[TableLine]:
    """Read a table of slices.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        No table, or one without the columns `NEEDED`, without lines, or with a mask that is neither 0
        nor 1.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise _damaged(path, "neither a folder nor a table of slices") from error
    except OSError as error:
        raise cannot_read(error, path.name) from error
    if "\0" in text:
        raise _damaged(path, "neither a folder nor a table of slices")
    try:
        return _lines(path, csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise _damaged(path, str(error)) from error


def _lines(path: Path, reader: csv.DictReader[str]) -> list[TableLine]:
    names = [one.strip() for one in reader.fieldnames or ()]
    if missing := [one for one in NEEDED if one not in names]:
        raise _damaged(path, f"a table of slices needs the column {missing[0]}")
    reader.fieldnames = names
    finder = _Finder(path.absolute().parent)
    out: list[TableLine] = []
    for line in reader:
        image_path, mask_path = (line[one] or "" for one in NEEDED)
        if not image_path.strip():
            raise _damaged(path, "a line without image_path", reader.line_num)
        image, mask = finder.find(image_path), finder.find(mask_path)
        out.append(
            TableLine(
                image=image or finder.would_be(image_path),
                there=image is not None,
                mask=mask,
                patient_id=(line.get("patient_id") or "").strip(),
                tumour=_label(path, line.get("mask"), reader.line_num),
            )
        )
    if not out:
        raise _damaged(path, "a table without lines")
    return out


def _label(path: Path, text: str | None, line: int) -> bool | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if value not in (0, 1):
        raise _damaged(path, f"mask is {printable(text)!r}, neither 0 nor 1", line)
    return bool(value)


class _Finder:
    """Finds what a path means below a folder, and remembers how the last one was found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bases = [folder, *sorted(one for one in folder.iterdir() if one.is_dir())]
        self._last = folder, 0

    def find(self, text: str) -> Path | None:
        """The file a path means, if there is one."""
        parts = _parts(text)
        ways = [self._last, *((base, cut) for cut in range(len(parts)) for base in self._bases)]
        for base, cut in ways:
            if not parts[cut:]:
                continue
            path = base.joinpath(*parts[cut:])
            try:
                found = path.is_file()
            except (OSError, ValueError):
                found = False
            if found:
                self._last = base, cut
                return path
        return None

    def would_be(self, text: str) -> Path:
        """Where a file that is not there would lie, had the last ones been a guide."""
        base, cut = self._last
        parts = _parts(text)
        return base.joinpath(*(parts[cut:] or parts[-1:] or ("unnamed",)))


def _parts(text: str) -> list[str]:
    """The names of a path of any system, without what leads to its root or upwards."""
    plain = PurePosixPath(text.strip().replace("\\", "/"))
    return [one for one in plain.parts if one not in ("/", "//", ".", "..") and one[-1:] != ":"]


def _damaged(path: Path, what: str, line: int = 0) -> DamagedInputError:
    return DamagedInputError(
        what,
        where=f"{path.name}, line {line}" if line else path.name,
        remedy="give a table with patient_id, image_path, mask_path and mask, or a folder",
    )
