"""docs/cli.md is what ``--help`` says, and docs/result.md names every field."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gliosight.analysis import Finding
from gliosight.archive.table import HEADER
from gliosight.cli import COMMANDS, run
from gliosight.write.result import load_schema, write_findings
from tests.write.builders import make_analysis

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_page_of_the_command_line_is_current() -> None:
    made = runpy.run_path(str(DOCS / "make_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text("utf-8") == made, "renew it: python docs/make_cli.py"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_page_is_the_real_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    # Lines are wrapped for the terminal; the words are the same.
    words = " ".join(capsys.readouterr().out.split())
    assert words in " ".join((DOCS / "cli.md").read_text("utf-8").split())


def _names(schema: dict[str, Any]) -> Iterator[str]:
    for name, one in schema.get("properties", {}).items():
        yield name
        yield from _names(one)
        yield from _names(one.get("items", {}))


def test_every_field_and_column_is_explained(tmp_path: Path) -> None:
    text = (DOCS / "result.md").read_text("utf-8")
    words = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", text))))
    wanted = {*_names(load_schema()), *(one.name for one in fields(Finding)), *HEADER}
    write_findings(make_analysis((6, 24, 20)), tmp_path / "findings.csv")
    wanted |= set((tmp_path / "findings.csv").read_text("utf-8").splitlines()[0].split(","))
    assert sorted(wanted - words) == []
