"""dciodvfy, the field's own checker (Debian: dicom3tools), finds no error in anything we write."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest

from gliosight.analysis import Status
from gliosight.study import Flag
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

STRIPPED = dict.fromkeys(
    (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
        *("ReferringPhysicianName", "StudyID", "AccessionNumber", "StudyDescription"),
        *("Manufacturer", "PositionReferenceIndicator", "SpecificCharacterSet", "SliceThickness"),
    )
)
ONE = (1, 40, 36)
LOSSY = {
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "10",
    "LossyImageCompressionMethod": "ISO_10918_1",
}
# Values that DICOM does not allow.
NONSENSE = {
    "PatientSex": "Female",
    "PatientBirthDate": "long ago",
    "StudyTime": "noon",
    "StudyID": "x" * 20,
    "PatientID": "y" * 70,
    "PatientAge": "old",
}
# The source, and whether there is a lesion in it.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "none": ({}, False),
    "none, enhanced": ({"enhanced": 2}, False),
    "one slice": ({"shape": ONE}, True),
    "one slice, none": ({"shape": ONE}, False),
    "oblique": ({"orientation": OBLIQUE}, True),
    "coronal": ({"orientation": CORONAL}, True),
    "uneven": ({"gaps": [4, 4, 4, 9, 4, 4, 4, 4]}, True),
    "tilted": ({"tilt_mm": 1.2}, True),
    "enhanced": ({"enhanced": 1}, True),
    "enhanced, several": ({"enhanced": 3, "per_frame_orientation": True}, True),
    "stripped": (STRIPPED, True),
    "stripped, enhanced": ({"enhanced": 1, **STRIPPED}, True),
    "no frame of reference": ({"FrameOfReferenceUID": None}, True),
    "lossy": (LOSSY, True),
    "lossy, no more said": ({"LossyImageCompression": "01"}, True),
    "Japanese": (
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Yamada^Tarou=山田^太郎"},
        True,
    ),
    "nonsense": (NONSENSE, True),
    "de-identified": (
        {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"},
        True,
    ),
}


def dciodvfy_errors(dciodvfy: str, path: Path) -> list[str]:
    """Lines of its answer that are errors."""
    run = subprocess.run(
        [dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    lines = (run.stderr + run.stdout).splitlines()
    # It says what it took the file for; a file it cannot read has no such line.
    assert any(line in ("Segmentation", "Comprehensive3DSR") for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_errors_in_any_object(name: str, dciodvfy: str, tmp_path: Path) -> None:
    changes, lesion = CASES[name]
    made = make_source(**changes)
    shape = changes.get("shape", SHAPE)
    write_dicom(make_analysis(made, blobs(shape) & lesion), tmp_path, probability=True)
    names = ["probability.dcm", "report.dcm", "segmentation.dcm"]
    if name == "no frame of reference":
        names = ["report.dcm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for path in tmp_path.iterdir():
        assert dciodvfy_errors(dciodvfy, path) == [], path.name


@pytest.mark.slow
def test_no_errors_in_many_findings_and_it_does_find_errors(dciodvfy: str, tmp_path: Path) -> None:
    """What it says nothing about would be no proof."""
    flags = (Flag("SYMMETRIC", "warning", "80% of it is symmetric."),)
    analysis = make_analysis(make_source(), blobs(count=4), status=Status.UNCERTAIN, flags=flags)
    analysis = with_side(analysis, "left", "bilateral", "midline", "unknown")
    write_dicom(analysis, tmp_path, probability=True)
    for path in tmp_path.iterdir():
        assert dciodvfy_errors(dciodvfy, path) == [], path.name
        dataset = pydicom.dcmread(path)
        del dataset.PatientID
        dataset.save_as(path)
        assert dciodvfy_errors(dciodvfy, path)
