"""SR: its tree as a reviewed snapshot, its values those of the findings.

The snapshots lie beside this file. After a change that is meant, write them anew with
``GLIOSIGHT_SNAPSHOTS=write pytest tests/write/dicom/test_report.py`` and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from gliosight.analysis import Analysis, Status
from gliosight.errors import UnsupportedInputError
from gliosight.study import Flag
from gliosight.write.dicom import write_dicom, write_report
from tests.write.dicom.builders import (
    REFERENCE_UID,
    SAGITTAL,
    SERIES_UID,
    SHAPE,
    STUDY_UID,
    blobs,
    make_analysis,
    make_source,
    with_side,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
KNOWN_UIDS = {STUDY_UID: "(study)", SERIES_UID: "(series)", REFERENCE_UID: "(reference)"}


def _written(analysis: Analysis, folder: Path, **options: Any) -> Dataset:
    write_report(analysis, folder / "report.dcm", **options)
    return pydicom.dcmread(folder / "report.dcm")


def _two_findings() -> Analysis:
    flags = (
        Flag("MISSING_SLICES", "warning", "Σ of 5 mm² – slices 4 and 5 are missing."),
        Flag("SINGLE_SLICE", "info", "Not told."),
        Flag("SEG_NOT_WRITTEN", "warning", "Not told: an export would say what analyze could not."),
    )
    analysis = make_analysis(make_source(), blobs(count=2), flags=flags)
    return with_side(analysis, "left", "bilateral")


def _uncertain() -> Analysis:
    flags = (
        Flag("NO_GEOMETRY", "warning", "The second."),
        Flag("SYMMETRIC", "warning", "80% of it is symmetric."),
    )
    return make_analysis(make_source(), status=Status.UNCERTAIN, flags=flags)


TREES: dict[str, Any] = {
    "two_findings": _two_findings,
    "uncertain": _uncertain,
    "no_tumour": lambda: make_analysis(make_source(), np.zeros(SHAPE, dtype=bool)),
    "without_segmentation": lambda: with_side(
        make_analysis(make_source(FrameOfReferenceUID=None, enhanced=1)), "right"
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_tree_is_the_reviewed_one(name: str, tmp_path: Path) -> None:
    tree = _tree(_written(TREES[name](), tmp_path))
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("GLIOSIGHT_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(tree, encoding="utf-8")
    assert tree == path.read_text(encoding="utf-8")


def _tree(report: Dataset) -> str:
    """The report's own attributes, then its content items, one a line; UIDs numbered as they come."""
    seen: dict[str, str] = {}

    def named(uid: str) -> str:
        known = pydicom.uid.UID(uid).name
        if known != uid:
            return str(known)
        return KNOWN_UIDS.get(uid) or seen.setdefault(uid, f"(uid {len(seen) + 1})")

    lines = [
        f"{keyword}: {report[keyword].value}"
        for keyword in (
            *("Modality", "SeriesDescription", "SeriesNumber", "Manufacturer"),
            *("ManufacturerModelName", "SoftwareVersions"),
            *("CompletionFlag", "PreliminaryFlag", "VerificationFlag"),
        )
    ]

    def told(item: Dataset, depth: int) -> None:
        relation = str(item.get("RelationshipType", "ROOT"))
        name = _code(item.ConceptNameCodeSequence)
        lines.append(f"{'  ' * depth}{relation} {item.ValueType} {name}{_held(item, named)}")
        for child in item.get("ContentSequence", ()):
            told(child, depth + 1)

    told(report, 0)
    return "\n".join(lines) + "\n"


def _held(item: Dataset, named: Callable[[str], str]) -> str:
    kind = item.ValueType
    if kind == "CODE":
        return f" = {_code(item.ConceptCodeSequence)}"
    if kind == "TEXT":
        return f" = {item.TextValue!r}"
    if kind == "UIDREF":
        return f" = {named(item.UID)}"
    if kind == "NUM":
        (measured,) = item.MeasuredValueSequence
        value = float(measured.NumericValue)
        return f" = {value:.3f} {_code(measured.MeasurementUnitsCodeSequence)}"
    if kind == "IMAGE":
        (one,) = item.ReferencedSOPSequence
        text = f" = {named(one.ReferencedSOPClassUID)} {named(one.ReferencedSOPInstanceUID)}"
        for keyword in ("ReferencedSegmentNumber", "ReferencedFrameNumber"):
            text += f" {keyword} {one[keyword].value}" if keyword in one else ""
        return text
    template = item.get("ContentTemplateSequence")
    return f" TID {template[0].TemplateIdentifier}" if template else ""


def _code(sequence: Any) -> str:
    (one,) = sequence
    return f"({one.CodeValue}, {one.CodingSchemeDesignator}, {one.CodeMeaning!r})"


def _walk(item: Dataset) -> list[Dataset]:
    return [item, *(one for child in item.get("ContentSequence", ()) for one in _walk(child))]


def _named(report: Dataset, meaning: str) -> list[Dataset]:
    return [one for one in _walk(report) if one.ConceptNameCodeSequence[0].CodeMeaning == meaning]


def test_values_are_those_of_the_findings(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), blobs(count=3))
    report = _written(analysis, tmp_path)
    for meaning, unit, name, factor in (
        ("Volume", "ml", "volume_ml", 1),
        ("Long axis", "mm", "longest_diameter_mm", 1),
        ("Short axis", "mm", "perpendicular_diameter_mm", 1),
        ("Area", "mm2", "largest_area_mm2", 1),
        ("Certainty of Finding", "%", "probability", 100),
    ):
        measured = [item.MeasuredValueSequence[0] for item in _named(report, meaning)]
        if name == "probability":  # the first is the study's
            assert float(measured.pop(0).NumericValue) == pytest.approx(97)
        values = [float(value.NumericValue) for value in measured]
        wanted = [factor * getattr(finding, name) for finding in analysis.findings]
        assert values == pytest.approx(wanted, abs=factor * 1e-6)
        assert {value.MeasurementUnitsCodeSequence[0].CodeValue for value in measured} == {unit}


@pytest.mark.slow
def test_what_is_not_known_is_left_out_and_any_size_is_written(tmp_path: Path) -> None:
    """Off axial there are no diameters; without geometry there is nothing but the two certainties."""
    report = _written(make_analysis(make_source(orientation=SAGITTAL)), tmp_path)
    assert not _named(report, "Long axis")
    assert _named(report, "Volume")
    report = _written(make_analysis(make_source(), geometry=False), tmp_path)
    assert [item.ValueType for item in _walk(report)].count("NUM") == 2
    assert not _named(report, "Referenced Segment")
    analysis = make_analysis(make_source())
    finding = replace(analysis.findings[0], volume_ml=1234567.123456789, largest_area_mm2=1e-7)
    report = _written(replace(analysis, findings=(finding,)), tmp_path, segmented=False)
    (volume,) = _named(report, "Volume")
    assert float(volume.MeasuredValueSequence[0].NumericValue) == pytest.approx(1234567.123457)


@pytest.mark.slow
def test_what_it_is_and_refers_to(tmp_path: Path) -> None:
    """Its comments are in the snapshot; that it names the SEG's segments is checked on writing."""
    analysis = make_analysis(make_source(), blobs(count=3))
    write_dicom(analysis, tmp_path, probability=False)
    assert (tmp_path / "report.dcm").read_bytes()[:132] == b"\0" * 128 + b"DICM"
    report = pydicom.dcmread(tmp_path / "report.dcm")
    seg = pydicom.dcmread(tmp_path / "segmentation.dcm")
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.PatientName == "Phantom^Walter"
    assert report.StudyInstanceUID == STUDY_UID
    assert {one.UID for one in _named(report, "Source Series for Segmentation")} == {SERIES_UID}
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    images = {
        series.SeriesInstanceUID: len(series.ReferencedSOPSequence)
        for series in study.ReferencedSeriesSequence
    }
    assert images == {SERIES_UID: SHAPE[0], seg.SeriesInstanceUID: 1}


def test_not_assessed_has_no_report(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), np.zeros(SHAPE, bool), status=Status.NOT_ASSESSED)
    with pytest.raises(UnsupportedInputError, match="not assessed"):
        write_report(analysis, tmp_path / "report.dcm")
    assert not list(tmp_path.iterdir())


def test_found_by_a_model_that_outlines_nothing(tmp_path: Path) -> None:
    """A detector alone: a report that says Present, and no segmentation, which would say Absent."""
    analysis = make_analysis(make_source(), np.zeros(SHAPE, bool), status=Status.FOUND)
    files, flags, _ = write_dicom(analysis, tmp_path, probability=True)
    assert list(files) == ["report.dcm"]
    assert [flag.code for flag in flags] == ["SEG_NOT_WRITTEN"]
    report = pydicom.dcmread(tmp_path / "report.dcm")
    (verdict,) = _named(report, "Presence of property")
    assert verdict.ConceptCodeSequence[0].CodeMeaning == "Present"
    assert len(_named(report, "Measurement Group")) == 1


@pytest.mark.slow
def test_a_report_for_itself_refers_to_slices(tmp_path: Path) -> None:
    """Asked for without a segmentation, it leads nobody to an object that was never written."""
    analysis = make_analysis(make_source(enhanced=1))
    first = _written(analysis, tmp_path)
    second = _written(analysis, tmp_path, segmented=False)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert not _named(second, "Referenced Segment")
    (image,) = [item for item in _walk(second) if item.ValueType == "IMAGE"]
    (reference,) = image.ReferencedSOPSequence
    index, number = analysis.study.source.dicom.frames[analysis.findings[0].largest_slice]
    header = analysis.study.source.dicom.headers[index]
    assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert reference.ReferencedFrameNumber == number
