"""Every flag is documented, and none is made behind the list's back."""

from __future__ import annotations

import re
from pathlib import Path

import gliosight
from gliosight.flags import SEVERITIES

PACKAGE = Path(gliosight.__file__).parent
MODULES = {
    str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")
}
DOCS = Path(__file__).resolve().parents[1] / "docs" / "flags.md"


def test_list_is_what_is_used() -> None:
    """A code made of a name stands for all it can be; Picture.notes names its flags itself."""
    used = {"ALPHA_DROPPED", "LOSSY_SOURCE", "TURNED_UPRIGHT", "SEG_NOT_WRITTEN", "SR_NOT_WRITTEN"}
    for source in MODULES.values():
        used.update(re.findall(r'\bflag\(\s*"([A-Z0-9_]+)"', source))
        for ending in re.findall(r'\bflag\(\s*f"{[^}"]*name[^}"]*}([A-Z0-9_]+)"', source):
            used |= {f"T1{ending}", f"T1C{ending}"}
    refusals = set(re.findall(r'^ +"([A-Z_]+)": "', MODULES["gate.py"], re.MULTILINE))
    assert used | refusals == set(SEVERITIES)
    assert refusals
    made = [name for name, source in MODULES.items() if re.search(r"\bFlag\(", source)]
    # The others take those of a result.json.
    assert sorted(made) == ["archive/entries.py", "cli/output.py", "flags.py", "write/result.py"]


def test_every_flag_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for code, severity in SEVERITIES.items():
        entry = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert entry, f"docs/flags.md has no entry for {code}"
        assert f"({severity})" in entry[1]
        assert "Remedy:" in entry[1]
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == set(SEVERITIES)
