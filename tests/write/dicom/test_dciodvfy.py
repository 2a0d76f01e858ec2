"""dciodvfy, the field's own checker (Debian: dicom3tools), finds no error in anything we write."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.write.dicom import write_dicom
from tests.write.dicom.builders import (
    CORONAL,
    OBLIQUE,
    SHAPE,
    blobs,
    make_analysis,
    make_source,
    with_side,
)

STRIPPED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "Manufacturer",
    "PositionReferenceIndicator",
    "SpecificCharacterSet",
    "SliceThickness",
)
NOTHING = np.zeros(SHAPE, dtype=bool)
ONE = (1, 40, 36)

CASES: dict[str, Any] = {
    "one lesion": lambda: with_side(make_analysis(make_source()), "left"),
    "many": lambda: with_side(
        make_analysis(make_source(), blobs(count=4)), "left", "right", "midline", "unknown"
    ),
    "none": lambda: make_analysis(make_source(), NOTHING),
    "none, enhanced": lambda: make_analysis(make_source(enhanced=2), NOTHING),
    "one slice": lambda: make_analysis(make_source(ONE)),
    "one slice, none": lambda: make_analysis(make_source(ONE), np.zeros(ONE, dtype=bool)),
    "oblique": lambda: make_analysis(make_source(orientation=OBLIQUE)),
    "coronal": lambda: make_analysis(make_source(orientation=CORONAL)),
    "uneven": lambda: make_analysis(make_source(gaps=[4, 4, 4, 9, 4, 4, 4, 4])),
    "tilted": lambda: make_analysis(make_source(tilt_mm=1.2)),
    "enhanced": lambda: make_analysis(make_source(enhanced=1)),
    "enhanced, several": lambda: make_analysis(make_source(enhanced=3, per_frame_orientation=True)),
    "stripped": lambda: make_analysis(make_source(**dict.fromkeys(STRIPPED))),
    "stripped, one slice": lambda: make_analysis(make_source(ONE, **dict.fromkeys(STRIPPED))),
    "stripped, enhanced": lambda: make_analysis(make_source(enhanced=1, **dict.fromkeys(STRIPPED))),
    "no frame of reference": lambda: make_analysis(make_source(FrameOfReferenceUID=None)),
    "lossy": lambda: make_analysis(
        make_source(
            LossyImageCompression="01",
            LossyImageCompressionRatio="10",
            LossyImageCompressionMethod="ISO_10918_1",
        )
    ),
    "lossy, no more said": lambda: make_analysis(make_source(LossyImageCompression="01")),
    "Japanese": lambda: make_analysis(
        make_source(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎")
    ),
    "nonsense": lambda: make_analysis(
        make_source(
            PatientSex="Female",
            PatientBirthDate="long ago",
            StudyTime="noon",
            StudyID="x" * 20,
            PatientID="y" * 70,
            PatientAge="old",
        )
    ),
    "de-identified": lambda: make_analysis(
        make_source(PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    ),
}
OBJECTS = {
    "no frame of reference": ["report.dcm"],
}


def dciodvfy_errors(dciodvfy: str, path: Path) -> list[str]:
    """Lines of its answer that are errors."""
    run = subprocess.run(
        [dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    told = (run.stderr + run.stdout).splitlines()
    # It says what it took the file for; a file it cannot read has no such line.
    assert any(line in ("Segmentation", "Comprehensive3DSR") for line in told), told
    return [line for line in told if line.startswith("Error")]


@pytest.mark.parametrize("name", CASES)
def test_nodciodvfy_errors(name: str, dciodvfy: str, tmp_path: Path) -> None:
    write_dicom(CASES[name](), tmp_path, probability=True)
    paths = sorted(tmp_path.iterdir())
    assert [one.name for one in paths] == OBJECTS.get(
        name, ["probability.dcm", "report.dcm", "segmentation.dcm"]
    )
    for path in paths:
        assert dciodvfy_errors(dciodvfy, path) == [], path.name


def test_it_does_finddciodvfy_errors(dciodvfy: str, tmp_path: Path) -> None:
    """What it says nothing about would be no proof."""
    import pydicom

    write_dicom(make_analysis(make_source()), tmp_path, probability=False)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PatientID
        dataset.save_as(path)
        assert dciodvfy_errors(dciodvfy, path)
