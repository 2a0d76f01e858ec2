"""docs/dicom.md: its tables are what the code says, and what real series get is what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_tables_are_current() -> None:
    page = (DOCS / "dicom.md").read_text("utf-8")
    assert runpy.run_path(str(DOCS / "make_dicom.py"))["made"](page) == page, (
        "renew it: python docs/make_dicom.py"
    )


@pytest.mark.slow
@pytest.mark.data
def test_the_table_of_real_series_is_current(data: Path) -> None:
    page = (DOCS / "dicom.md").read_text("utf-8")
    made = runpy.run_path(str(DOCS / "make_dicom.py"))
    assert made["fill"](page, "series", made["series"](data / "dicom")) == page, (
        "renew it: python docs/make_dicom.py DATA"
    )
