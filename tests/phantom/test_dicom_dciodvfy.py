"""dciodvfy, the field's own checker (Debian: dicom3tools), finds no error in sound exports."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest

from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import TRAPS, DicomSpec, turned, write_dicom

from .exported import VENDORS, files_of


def complaints(tool: str, paths: list[Path]) -> set[str]:
    out = set()
    for path in paths:
        done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()  # its findings, or at least the object
        assert lines, "dciodvfy said nothing at all"
        out |= {line for line in lines if line.startswith(("Error", "Abort"))}
    return out


def named(changes: dict[str, Any]) -> str:
    """A name that is the same in every process, which the words of a set are not."""
    texts = ("+".join(sorted(v)) if isinstance(v, frozenset) else str(v) for v in changes.values())
    return ", ".join(f"{name}={text}" for name, text in zip(changes, texts, strict=True))


@pytest.fixture(scope="module")
def thin() -> Phantom:
    """Thin slices: vendors scan these as volumes."""
    return make_phantom(
        PhantomSpec(slices=3, matrix=32, pixel_mm=3.0, slice_spacing_mm=1.5, noise=0.02)
    )


def one_of_each_series(folder: Path) -> list[Path]:
    """The last file of each series: parts of a concatenation differ at the end, if anywhere."""
    last = {int(pydicom.dcmread(one).SeriesNumber): one for one in files_of(folder)}
    return list(last.values())


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("layout", "parts"), [("classic", 1), ("enhanced", 1), ("enhanced", 2)])
def test_dciodvfy_finds_no_errors(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, vendor: str, layout: str, parts: int
) -> None:
    spec = DicomSpec(
        vendor=vendor,
        layout=layout,
        concatenation=parts,
        traps=frozenset(TRAPS),
        rotation=turned(13, -7, 29),
    )
    folder = write_dicom(tiny, tmp_path, spec)
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_dciodvfy_finds_no_errors_in_volumes(
    dciodvfy: str, thin: Phantom, tmp_path: Path, vendor: str, layout: str
) -> None:
    spec = DicomSpec(vendor=vendor, layout=layout, traps=frozenset())
    folder = write_dicom(thin, tmp_path, spec)
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast_tags": False},
        {"repeats": frozenset({"times", "echoes"})},
        {"identity": "anonymous"},
        {"identity": "unicode"},
        {"tilt_degrees": 10, "uneven": 0.2, "missing": (1,)},
        {"bits": 16, "signed": True},
        {"syntax": "explicit-be"},
        {"syntax": "j2k-lossy"},
        {"syntax": "rle", "layout": "enhanced"},
        {"syntax": "jpeg-ls-near", "layout": "enhanced"},
        {"contrast_tags": False, "layout": "enhanced"},
        {"repeats": frozenset({"times", "echoes"}), "layout": "enhanced"},
    ],
    ids=named,
)
def test_dciodvfy_accepts_what_is_odd_but_sound(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(**changes, traps=frozenset()))
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


def test_dciodvfy_would_complain(dciodvfy: str, tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(stripped=True, traps=frozenset()))
    assert complaints(dciodvfy, files_of(folder)[:1])
