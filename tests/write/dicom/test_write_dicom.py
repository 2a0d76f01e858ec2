"""All objects of one analysis: which are written, which are flagged, and that runs agree."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from gliosight.analysis import Analysis, Status
from gliosight.errors import UnsupportedInputError
from gliosight.write.dicom import write_dicom
from gliosight.write.dicom.segmentation import _build as build
from tests.counting import steps
from tests.write.dicom.builders import (
    SERIES_UID,
    SHAPE,
    Made,
    as_nifti,
    blobs,
    make_analysis,
    make_source,
)
from tests.write.dicom.test_dciodvfy import dciodvfy_errors


@pytest.mark.slow
def test_each_object_is_written_as_asked_and_names_its_writer(tmp_path: Path) -> None:
    made = make_source(enhanced=2)
    before = [header.to_json() for header in made.source.headers]
    analysis = make_analysis(made)
    files, flags, errors = write_dicom(analysis, tmp_path, probability=True)
    assert (flags, errors) == ((), ())
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    assert sorted(files) == ["probability.dcm", "report.dcm", "segmentation.dcm"]
    metas = [pydicom.dcmread(path).file_meta for path in tmp_path.iterdir()]
    version = f"GLIOSIGHT {analysis.provenance.version}"
    assert {meta.ImplementationVersionName for meta in metas} == {version}
    classes = {meta.ImplementationClassUID for meta in metas}
    assert len(classes) == 1
    assert pydicom.uid.PYDICOM_IMPLEMENTATION_UID not in classes
    assert [header.to_json() for header in made.source.headers] == before
    files, _, _ = write_dicom(analysis, tmp_path, probability=False)
    assert sorted(files) == ["report.dcm", "segmentation.dcm"]


def test_not_assessed_writes_neither(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), np.zeros(SHAPE, bool), status=Status.NOT_ASSESSED)
    assert write_dicom(analysis, tmp_path, probability=True) == ({}, (), ())
    assert not list(tmp_path.iterdir())


def _changing(keyword: str) -> Made:
    """A UID that changes with the slice."""
    made = make_source()
    for number, header in enumerate(made.source.headers):
        header[keyword].value = f"1.2.3.{number + 1}"
    return made


# The source, the kinds of objects that are not written, and the reason.
FLAGGED: dict[str, tuple[Callable[[], Made], list[str], str]] = {
    "no frame of reference": (
        lambda: make_source(FrameOfReferenceUID=None),
        *(["SEG"], "no single frame of reference"),
    ),
    "several frames of reference": (
        lambda: _changing("FrameOfReferenceUID"),
        *(["SEG"], "no single frame of reference"),
    ),
    "nothing to refer to": (
        lambda: make_source(SOPInstanceUID=None),
        *(["SEG", "SR"], "no usable SOPInstanceUID"),
    ),
    # Joined while reading; an object belongs to one, and another would be a false reference.
    "several studies": (
        lambda: _changing("StudyInstanceUID"),
        *(["SEG", "SR"], "9 StudyInstanceUIDs"),
    ),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_what_the_headers_do_not_allow_is_flagged(name: str, tmp_path: Path) -> None:
    make, kinds, reason = FLAGGED[name]
    files, flags, errors = write_dicom(make_analysis(make()), tmp_path, probability=True)
    assert errors == ()
    assert [flag.code for flag in flags] == [f"{kind}_NOT_WRITTEN" for kind in kinds]
    assert {flag.severity for flag in flags} == {"warning"}
    names = [] if "SR" in kinds else ["report.dcm"]
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(reason in flag.message and "bug" not in flag.message for flag in flags)


def _quoting(*_: Any, **__: Any) -> Any:
    raise ValueError("Phantom^Walter is no name")


def _mirrored(analysis: Analysis, origin: Any, pixels: Any, *given: Any, **options: Any) -> Any:
    return build(analysis, origin, pixels[:, :, ::-1].copy(), *given, **options)


SEGMENTATION = "gliosight.write.dicom.segmentation"
# What goes wrong: the flag, the objects that are there all the same, and what the line to report says.
BUGS: dict[str, tuple[str, Any, list[str], list[str], str]] = {
    "highdicom refuses what it is given": (
        "highdicom.seg.Segmentation",
        _quoting,
        ["SEG_NOT_WRITTEN"],
        ["report.dcm"],
        "ValueError at write/dicom/segmentation.py:",
    ),
    "a mirrored segmentation": (
        f"{SEGMENTATION}._build",
        _mirrored,
        ["SEG_NOT_WRITTEN"],
        ["report.dcm"],
        "differs in its mask",
    ),
    "pydicom does not compress": (
        f"{SEGMENTATION}.compress",
        _quoting,
        ["SEG_NOT_WRITTEN"],
        ["report.dcm", "segmentation.dcm"],
        "ValueError at write/dicom/segmentation.py:",
    ),
    "highdicom refuses the report": (
        "highdicom.sr.Comprehensive3DSR",
        _quoting,
        ["SR_NOT_WRITTEN"],
        ["probability.dcm", "segmentation.dcm"],
        "ValueError at write/dicom/report.py:",
    ),
    "the headers break our own code": (
        "gliosight.write.dicom.source._loss",
        _quoting,
        ["SEG_NOT_WRITTEN", "SR_NOT_WRITTEN"],
        [],
        "ValueError at write/dicom/source.py:",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_ours_withholds_one_object(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, broken, codes, names, line = BUGS[name]
    monkeypatch.setattr(where, broken)
    files, flags, errors = write_dicom(make_analysis(make_source()), tmp_path, probability=True)
    assert [one.code for one in flags] == codes
    assert sorted(files) == sorted(one.name for one in tmp_path.iterdir()) == names
    assert [one.exit_code for one in errors] == [70] * len(codes)
    for error, flag in zip(errors, flags, strict=True):
        assert line in error.line()
        assert "please report" in error.line()
        assert error.what in flag.message
        assert "a bug of gliosight" in flag.message
        assert "Phantom" not in error.line() + flag.message
    if "segmentation.dcm" not in names and names:
        assert b"1.2.840.10008.5.1.4.1.1.66.4" not in (tmp_path / "report.dcm").read_bytes()


def test_a_full_disk_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"{SEGMENTATION}.save", full)
    with pytest.raises(OSError, match="No space left"):
        write_dicom(make_analysis(make_source()), tmp_path, probability=False)


@pytest.mark.parametrize("enhanced", [None, 3])
def test_a_series_uid_for_each_slice(enhanced: int | None, tmp_path: Path, dciodvfy: str) -> None:
    """Each series is referred to with its own images, in SEG and SR alike."""
    made = make_source(enhanced=enhanced)
    for number, header in enumerate(made.source.headers):
        header.SeriesInstanceUID = f"{SERIES_UID}.7.{number}"
    files, flags, errors = write_dicom(make_analysis(made), tmp_path, probability=True)
    assert (len(files), flags, errors) == (3, (), ())
    wanted = {(header.SeriesInstanceUID, header.SOPInstanceUID) for header in made.source.headers}
    for path in tmp_path.iterdir():
        written = pydicom.dcmread(path)
        series = written.get("ReferencedSeriesSequence")
        if series is None:
            (study,) = written.CurrentRequestedProcedureEvidenceSequence
            series = study.ReferencedSeriesSequence
        images = {
            (one.SeriesInstanceUID, image.ReferencedSOPInstanceUID)
            for one in series
            for image in one.get("ReferencedInstanceSequence") or one.ReferencedSOPSequence
        }
        assert wanted <= images
        assert len(images - wanted) == (path.name == "report.dcm")  # its segmentation
        assert dciodvfy_errors(dciodvfy, path) == [], path.name


def test_another_kind_of_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInputError, match="nifti"):
        write_dicom(as_nifti(make_analysis(make_source())), tmp_path, probability=False)


@pytest.mark.slow
def test_two_runs_agree_but_for_the_time(tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_dicom(make_analysis(make_source(), blobs(count=2)), tmp_path / name, probability=True)
        trees.append([_timeless(one) for one in sorted((tmp_path / name).iterdir())])
    assert trees[0] == trees[1]


def _timeless(path: Path) -> str:
    dataset = pydicom.dcmread(path)

    def strip(_: Dataset, element: Any) -> None:
        if element.keyword in (
            "InstanceCreationDate",
            "InstanceCreationTime",
            "ContentDate",
            "ContentTime",
            "ContributionDateTime",
        ):
            element.value = None

    dataset.walk(strip)
    return dataset.to_json()


def test_a_model_with_any_name(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), model="C:\\modèle\n" + "x" * 100, version="")
    write_dicom(analysis, tmp_path, probability=True)
    seg = pydicom.dcmread(tmp_path / "segmentation.dcm")
    name = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName
    assert name.startswith("C:_mod?le_xx")
    assert len(name) == 64


def _two_lesions(slices: int) -> Analysis:
    z, y, x = np.ogrid[:slices, :32, :32]
    along = z / slices
    mask = ((along - 0.5) / 0.3) ** 2 + ((y - 15) / 5) ** 2 + ((x - 10) / 4) ** 2 < 1
    mask |= ((along - 0.3) / 0.2) ** 2 + ((y - 7) / 3) ** 2 + ((x - 24) / 3) ** 2 < 1
    return make_analysis(make_source((slices, 32, 32), gaps=1.0), mask)


@pytest.mark.slow
def test_hundreds_of_slices_cost_no_more_each(tmp_path: Path) -> None:
    """SEG and SR, read-back included."""
    few, many = (
        steps(partial(write_dicom, _two_lesions(count), tmp_path, probability=False))
        for count in (10, 80)
    )
    assert many < 4 * few  # eight times as many; half of the few's work is the same for any number
