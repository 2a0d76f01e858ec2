"""Files of arrays that are kept beside a table: written whole, and hostile until parsed (evaluate).

``predictions.npz`` and ``maps.npz`` are such files. In: arrays by name. Out: an ``.npz`` that holds no
object, only numbers and text.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gliosight.data.manifest import write_whole
from gliosight.errors import DamagedInputError, LimitExceededError, NothingReadableError

# What one file may unpack to (bytes): as masks, some 20,000 patients of the LGG set.
LARGEST = 2 * 1024**3
# What reading and parsing a file raises that is not ours, cut off, or made to do harm.
_DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

_T = TypeVar("_T")


def write_arrays(arrays: Mapping[str, Any], path: Path) -> None:
    """Write an ``.npz`` that appears whole or not at all.

    Raises
    ------
    CannotWriteError
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path, parse: Callable[[Any], _T], *, kind: str, remedy: str) -> _T:
    """Read an ``.npz`` and make of it what it stands for.

    Parameters
    ----------
    parse : callable
        Takes the open archive, whose items are arrays by name; whatever it finds wrong it raises as a
        ValueError.
    kind : str
        What the file should be, in the plural: ``"maps"``.
    remedy : str
        How to come by such a file.

    Raises
    ------
    NothingReadableError
        There is no such file.
    DamagedInputError
        It is another one, or its parts do not fit together.
    LimitExceededError
        It claims more than `LARGEST`; nothing of it was unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(sum(one.file_size for one in archive.infolist()), path)
        # Opened here: numpy leaves a broken archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return parse(file)
    except FileNotFoundError as error:
        raise NothingReadableError("no such file", where=path.name, remedy=remedy) from error
    except _DAMAGED as error:
        raise DamagedInputError(
            f"no {kind} of gliosight, or damaged ones", where=path.name, remedy=remedy
        ) from error


def check_size(claimed: int, path: Path) -> None:
    """Refuse what would need more than `LARGEST` bytes.

    Raises
    ------
    LimitExceededError
    """
    if claimed > LARGEST:
        raise LimitExceededError(
            f"the file claims {claimed:,} bytes unpacked, the limit is {LARGEST:,}",
            where=path.name,
            remedy="split it by patients",
        )
