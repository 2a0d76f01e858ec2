"""What every refusal must be: the right class, one line, with place and remedy, and cheap."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gliosight.errors import GliosightError
from gliosight.read import Request, read


def refused(
    path: Path | None, error: type[GliosightError], *where: str, **options: Any
) -> GliosightError:
    """Read a path that must be refused, and give the error for a closer look.

    Its line must hold every text of ``where``, and a remedy.
    """
    with pytest.raises(error) as caught:
        read(Request(path, **options))
    found = caught.value
    assert type(found) is error
    line = found.line()
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert found.remedy
    assert line.endswith(found.remedy)
    for text in where:
        assert text in line, f"{text!r} is not in {line!r}"
    if path is not None and path.is_absolute() and os.access(path, os.F_OK):
        assert str(path.parent) not in line, "places are told relative to the input"
    return found


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """Fail if more than ``most`` bytes are allocated inside, numpy's arrays included."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / 2**20:.1f} MiB were allocated"
