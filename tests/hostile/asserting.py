"""What every refusal must be: the right class, one line, with place and remedy, and cheap.

And what the command says of a study that it reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gliosight.cli import run
from gliosight.errors import GliosightError
from gliosight.read import Request, read

Capture = pytest.CaptureFixture[str]


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


def tree(folder: Path) -> dict[str, int]:
    """Every file there, with its size."""
    return {
        one.relative_to(folder).as_posix(): one.lstat().st_size
        for one in folder.rglob("*")
        if not one.is_dir()
    }


def analyze_refuses(
    path: Path, code: int, words: Iterable[str], tmp_path: Path, capsys: Capture, *more: str
) -> str:
    """Run `analyze` on what it must refuse in one line, writing nothing, and give that line."""
    before = tree(tmp_path)
    assert run(["analyze", str(path), "-o", str(tmp_path / "out"), *more]) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert line.count(": ") >= 2  # what, and what to do
    assert line.isprintable()
    assert code == 3 or str(tmp_path) not in line  # only what is not there is told as it was typed
    assert "^" not in line  # as in every patient's name here
    for word in words:
        assert word in line
    assert captured.out == ""
    assert tree(tmp_path) == before
    return line


def inspected(path: Path, capsys: Capture, *more: str) -> dict[str, Any]:
    """What `inspect` says of the one study there."""
    assert run(["inspect", str(path), "--json", "--pixels", *more]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    (one,) = told["studies"]
    one["codes"] = {flag["code"] for flag in (*one["flags"], *told["flags"])}
    return dict(one)
