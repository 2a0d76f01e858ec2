"""Fill the tables of docs/dicom.md: python docs/make_dicom.py [DATA].

The tables of transfer syntaxes, rules and codes are made from the code. With DATA, a folder
of folders of DICOM series, the table of series is made anew from what `gliosight inspect` says of them and
what an analysis answers; without it that table stays as it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydicom.sr.coding import Code

from gliosight.errors import GliosightError
from gliosight.read import Limits, Options, find
from gliosight.read.dicom.instances import SYNTAXES
from gliosight.read.dicom.rules import CONTRAST_RULES, RULES
from gliosight.read.inspection import Inspection, grouped
from gliosight.write.dicom import codes as of

PAGE = Path(__file__).resolve().parent / "dicom.md"
SAYS = {True: "contrast", False: "none", None: "nothing"}


def syntaxes() -> str:
    """Transfer syntaxes that are read."""
    rows = [
        f"| {one.name} | {one.uid} | {'yes' if one.lossy else 'no'} | {one.decoder} |"
        for one in SYNTAXES.values()
    ]
    return _table("transfer syntax | UID | may lose | decoded by", rows)


def rules() -> str:
    """The rules that say what a series shows, in the order in which they are tried."""
    rows = [
        f"| `{one.name}` | {one.kind.format(modality='the modality')} | {'yes' if one.usable else 'never'} | "
        f"{one.sequence.value if one.sequence else ''} | {one.confidence} |"
        for one in RULES
    ]
    return _table("rule | shows | analysed | taken for | confidence", rows)


def contrast() -> str:
    """The rules that tell a T1 after contrast medium from one before."""
    rows = [
        f"| `{one.name}` | {SAYS[one.header]} | {SAYS[one.description]} | "
        f"{ {True: 'T1C', False: 'T1', None: 'open'}[one.contrast] } | {one.confidence} |"
        for one in CONTRAST_RULES
    ]
    return _table("rule | fields say | description says | then it is | confidence", rows)


# What each code of ours is used for: words, and codes by their names in `gliosight.write.dicom.codes`.
USES: tuple[tuple[str, str], ...] = (
    ("segmented property", "{ABNORMAL}; {PRIMARY_NEOPLASM}"),
    ("algorithm", "AUTOMATIC, {ARTIFICIAL_INTELLIGENCE}; name, version, SHA-256 of the model"),
    (
        "anatomic region",
        "{BRAIN}, with laterality where it is proved: {LEFT}, {RIGHT}, {BILATERAL}",
    ),
    ("volume", "{VOLUME}, {MILLILITRE}; method {VOLUME_METHOD}"),
    ("diameters", "{LONG_AXIS}, {SHORT_AXIS}; {MILLIMETRE}"),
    ("largest slice area", "{AREA}, {SQUARE_MILLIMETRE}; derivation {MAXIMUM}"),
    ("probability of the study, of a finding", "{CERTAINTY}, {PERCENT}"),
    ("verdict", "{TUMOUR}; {PRESENCE}: {PRESENT}, {ABSENT} or, where uncertain, {UNDETERMINED}"),
    ("procedure reported", "{BRAIN_MRI}"),
    ("observer", "{DEVICE}"),
    ("remarks", "{COMMENT}"),
    ("verification", "UNVERIFIED"),
)


def coded() -> str:
    """The codes of what is written."""
    known = {name: getattr(of, name) for name in dir(of) if name.isupper()}
    known |= {side.upper(): code for side, code in known.pop("LATERALITY").items()}
    words = {name: _in_words(code) for name, code in known.items()}
    rows = [f"| {use} | {text.format_map(words)} |" for use, text in USES]
    unused = sorted(name for name in known if not any(f"{{{name}}}" in text for _, text in USES))
    if unused:
        raise ValueError(f"USES does not say what these are for: {', '.join(unused)}")
    return _table("use | code", rows)


def _in_words(code: Code) -> str:
    if code.scheme_designator == "UCUM":
        return f"{code.value} (UCUM)"
    return f"{code.value} {code.scheme_designator} {code.meaning}"


def series(data: Path) -> str:
    """What is said of every series below a folder, and the answer to an analysis of its study."""
    rows = []
    limits = Limits()
    for folder in sorted(one for one in data.iterdir() if one.is_dir()):
        for candidate in find(folder, limits):
            try:
                candidate.read(Options(limits))
                answer = "analysed"
            except GliosightError as error:
                answer = f"{error.exit_code}: {error.what}"
            seen = candidate.describe(limits, pixels=True)
            rows += _rows(folder.name, seen, answer)
    return _table("folder | series | frames | shows | why | analyze answers", rows)


def _rows(folder: str, seen: Inspection, answer: str) -> list[str]:
    return [
        f"| {folder} | {one.name} | {' × '.join(map(str, one.shape or ()))} | "
        f"{one.shows}{'' if one.confidence == 'certain' else f' ({one.confidence})'} | "
        f"{'; '.join(part for part in (one.why, one.problem) if part)} | {answer} |"
        for one in grouped(seen.series)
    ]


def fill(page: str, name: str, table: str) -> str:
    """The page with the table between its marks."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    filled, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{table}\n{match[2]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"docs/dicom.md has no place for {name}")
    return filled


MADE = {"syntaxes": syntaxes, "rules": rules, "contrast": contrast, "codes": coded}


def made(page: str) -> str:
    """The page with every table that comes from the code."""
    for name, make in MADE.items():
        page = fill(page, name, make())
    return page


def _table(head: str, rows: list[str]) -> str:
    line = " | ".join("---" for _ in head.split(" | "))
    return "\n".join([f"| {head} |", f"| {line} |", *rows, ""])


if __name__ == "__main__":
    text = made(PAGE.read_text("utf-8"))
    if len(sys.argv) > 1:
        text = fill(text, "series", series(Path(sys.argv[1])))
    PAGE.write_text(text, encoding="utf-8")
