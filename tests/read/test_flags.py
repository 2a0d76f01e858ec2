"""Every flag of this stage is documented, and none is made behind the list's back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gliosight import read
from gliosight.read.flags import SEVERITIES

PACKAGE = Path(read.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs" / "flags.md"


def used_codes() -> set[str]:
    """Codes in calls of ``flag(...)``; a code made of a sequence's name stands for both of them."""
    codes: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "flag":
                continue
            code = node.args[0]
            if isinstance(code, ast.Constant):
                codes.add(str(code.value))
            elif isinstance(code, ast.JoinedStr):
                ending = code.values[-1]
                assert isinstance(ending, ast.Constant)
                codes |= {f"T1{ending.value}", f"T1C{ending.value}"}
    return codes | {"ALPHA_DROPPED", "LOSSY_SOURCE", "TURNED_UPRIGHT"}  # by way of Picture.notes


def test_list_is_what_is_used() -> None:
    assert used_codes() == set(SEVERITIES)


def test_flags_are_made_in_one_place() -> None:
    made = [path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bFlag\(", path.read_text())]
    assert made == ["flags.py"]


def test_every_flag_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for code, severity in SEVERITIES.items():
        entry = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert entry, f"docs/flags.md has no entry for {code}"
        assert f"({severity})" in entry[1]
        assert "Remedy:" in entry[1]
