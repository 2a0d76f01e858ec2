"""Every flag of this stage is documented, and none is made behind the list's back."""

from __future__ import annotations

import re
from pathlib import Path

from gliosight import read
from gliosight.read.flags import SEVERITIES

MODULES = {path: path.read_text("utf-8") for path in Path(read.__file__).parent.rglob("*.py")}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "flags.md"


def test_list_is_what_is_used() -> None:
    """A code made of a sequence's name stands for both of them; Picture.notes names its flags itself."""
    used = {"ALPHA_DROPPED", "LOSSY_SOURCE", "TURNED_UPRIGHT"}
    for source in MODULES.values():
        used.update(re.findall(r'\bflag\(\s*"([A-Z0-9_]+)"', source))
        for ending in re.findall(r'\bflag\(\s*f"{[^}"]*}([A-Z0-9_]+)"', source):
            used |= {f"T1{ending}", f"T1C{ending}"}
    assert used == set(SEVERITIES)
    assert [path.name for path in MODULES if re.search(r"\bFlag\(", MODULES[path])] == ["flags.py"]


def test_every_flag_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for code, severity in SEVERITIES.items():
        entry = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert entry, f"docs/flags.md has no entry for {code}"
        assert f"({severity})" in entry[1]
        assert "Remedy:" in entry[1]
