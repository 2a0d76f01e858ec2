"""Every flag of the stages after reading is explained in docs/flags.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gliosight

PACKAGE = Path(gliosight.__file__).parent
DOCS = Path(__file__).resolve().parent.parent / "docs" / "flags.md"


@pytest.mark.parametrize(
    "stage", ["prepare.py", "decide.py", "write/dicom/__init__.py", "write/result.py"]
)
def test_every_flag_has_its_heading(stage: str) -> None:
    text = (PACKAGE / stage).read_text("utf-8")
    # In a call, or at the beginning of a row of a table.
    rows = re.compile(r'(?:Flag\(\s*|^ +)f?"([A-Z{][A-Z_{}a-z.0-9]+)",', re.MULTILINE)
    codes = set(rows.findall(text))
    assert codes
    headings = set(re.findall(r"^### (\w+)$", DOCS.read_text("utf-8"), re.MULTILINE))
    spread = {
        code.replace("{name.name}", name).replace("{kind}", kind)
        for code in codes
        for name in ("T1", "T1C")
        for kind in ("SEG", "SR")
    }
    assert spread <= headings
