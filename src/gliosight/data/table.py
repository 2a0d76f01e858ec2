"""Reading a table or a split that a user names (data).

Apart: the manifest, the table of slices, that of persons, and the split all start here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gliosight.errors import DamagedInputError, NothingReadableError

_SURROGATE = re.compile("[\udc80-\udcff]")


def read_bytes(path: Path, what: str, remedy: str) -> bytes:
    """Read a file, which messages call ``what``; raises `NothingReadableError`."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        what = f"cannot read the {what}: {getattr(error, 'strerror', None) or error}"
        raise NothingReadableError(what, where=path.name, remedy=remedy) from error


@contextmanager
def csv_lines(
    content: bytes, name: str, remedy: str, *, any_bytes: bool = False
) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """The header of a CSV file, and the number and the cells of each line that is not empty.

    A `ValueError` that is raised while the lines are read becomes a `DamagedInputError` with the line's
    number. With ``any_bytes``, what is not UTF-8 is kept as surrogates.
    """
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if not any_bytes and _SURROGATE.search(text):
        raise DamagedInputError("it is not a CSV file in UTF-8", where=name, remedy=remedy)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0

    def lines() -> Iterator[tuple[int, list[str]]]:
        nonlocal number
        for cells in reader:
            number = reader.line_num
            if cells:
                yield number, cells

    try:
        header = [cell.strip() for cell in next(reader, [])]
        number = 1
        yield header, lines()
    except csv.Error as error:
        # Most often a quotation mark that is not closed: the line after the last whole one.
        what, where = f"it is not CSV, {error}", f"{name}, line {number + 1}"
        raise DamagedInputError(what, where=where, remedy=remedy) from error
    except ValueError as error:
        where = f"{name}, line {number}"
        raise DamagedInputError(str(error), where=where, remedy=remedy) from error


def by_column(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The cells of a line by column; raises `ValueError` where there are more or fewer."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} values instead of {len(header)}")
    return dict(zip(header, cells, strict=True))
