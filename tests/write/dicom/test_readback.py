"""Read-back: a sound file passes, and each way in which writers go wrong is caught and withheld."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from gliosight.analysis import Analysis
from gliosight.errors import InternalError
from gliosight.study import Geometry
from gliosight.write.dicom import write_dicom, write_probability, write_report, write_segmentation
from gliosight.write.dicom.readback import (
    check_probability,
    check_report,
    check_segmentation,
    checked,
)
from gliosight.write.dicom.source import origin_of
from gliosight.write.dicom.uids import uids_of
from tests.write.dicom.builders import (
    OBLIQUE,
    SHAPE,
    blobs,
    make_analysis,
    make_source,
    with_side,
)

Corrupt = Callable[[Dataset], None]


def _pixels(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        changed = np.ascontiguousarray(change(seg.pixel_array.copy()))
        if seg.BitsAllocated == 1:
            seg.PixelData = np.packbits(changed, axis=None, bitorder="little").tobytes()
        else:
            seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            seg.PixelData = changed.tobytes()
        if len(seg.PixelData) % 2:
            seg.PixelData += b"\0"
        seg["PixelData"].VR = "OB"
        seg["PixelData"].is_undefined_length = False

    return corrupt


def _swap(planes: NDArray[Any]) -> NDArray[Any]:
    planes[[0, 2]] = planes[[2, 0]]
    return planes


def _one_more(planes: NDArray[Any]) -> NDArray[Any]:
    planes[0, 0, 0] = 1
    return planes


def _one_less(planes: NDArray[Any]) -> NDArray[Any]:
    planes[tuple(np.argwhere(planes)[0])] = 0
    return planes


def _frame(seg: Dataset, k: int) -> Dataset:
    return seg.PerFrameFunctionalGroupsSequence[k]


def _swap_positions(seg: Dataset) -> None:
    a, b = (_frame(seg, k).PlanePositionSequence[0] for k in (0, 1))
    a.ImagePositionPatient, b.ImagePositionPatient = b.ImagePositionPatient, a.ImagePositionPatient


def _source(seg: Dataset, k: int) -> Dataset:
    return _frame(seg, k).DerivationImageSequence[0].SourceImageSequence[0]


def _swap_references(seg: Dataset) -> None:
    a, b = _source(seg, 0), _source(seg, 1)
    a.ReferencedSOPInstanceUID, b.ReferencedSOPInstanceUID = (
        b.ReferencedSOPInstanceUID,
        a.ReferencedSOPInstanceUID,
    )


def _other_reference(seg: Dataset) -> None:
    _source(seg, 0).ReferencedSOPInstanceUID = "1.2.3"


def _next_frame(seg: Dataset) -> None:
    _source(seg, 0).ReferencedFrameNumber = int(_source(seg, 0).ReferencedFrameNumber) % 9 + 1


def _no_frame(seg: Dataset) -> None:
    del _source(seg, 0).ReferencedFrameNumber


def _measures(seg: Dataset) -> Dataset:
    return seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def _transposed_spacing(seg: Dataset) -> None:
    _measures(seg).PixelSpacing = list(reversed(_measures(seg).PixelSpacing))


def _wrong_spacing(seg: Dataset) -> None:
    _measures(seg).PixelSpacing = [1.1, 0.91]


def _turned(*signs: int) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        turn = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        turn.ImageOrientationPatient = [
            sign * float(x) for sign, x in zip(signs, turn.ImageOrientationPatient, strict=True)
        ]

    return corrupt


def _moved(*by: float) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        for group in seg.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            place.ImagePositionPatient = [
                round(float(x) + d, 6) for x, d in zip(place.ImagePositionPatient, by, strict=True)
            ]

    return corrupt


def _as_ras(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        x, y, z = place.ImagePositionPatient
        place.ImagePositionPatient = [-x, -y, z]


def _swap_segments(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        which = group.SegmentIdentificationSequence[0]
        which.ReferencedSegmentNumber = 3 - which.ReferencedSegmentNumber


def _fewer_frames(seg: Dataset) -> None:
    _pixels(lambda planes: planes[:-1])(seg)
    seg.NumberOfFrames = int(seg.NumberOfFrames) - 1
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]


def _doubled_frame(seg: Dataset) -> None:
    _pixels(lambda planes: np.concatenate([planes, np.zeros_like(planes[:1])]))(seg)
    seg.NumberOfFrames = int(seg.NumberOfFrames) + 1
    seg.PerFrameFunctionalGroupsSequence.append(_frame(seg, 0))


def _set(**values: Any) -> Corrupt:
    def corrupt(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return corrupt


def _tracking(seg: Dataset) -> None:
    seg.SegmentSequence[0].TrackingUID = "1.2.3"


SEGMENTATIONS: dict[str, tuple[Corrupt, str]] = {
    "mirrored left to right": (_pixels(lambda planes: planes[:, :, ::-1]), "mask"),
    "upside down": (_pixels(lambda planes: planes[:, ::-1]), "mask"),
    "slices swapped": (_pixels(_swap), "mask"),
    "slices in reverse": (_pixels(lambda planes: planes[::-1]), "mask"),
    "shifted by a pixel": (_pixels(lambda planes: np.roll(planes, 1, axis=2)), "mask"),
    "one voxel more": (_pixels(_one_more), "mask"),
    "one voxel less": (_pixels(_one_less), "mask"),
    "bits in the other order": (
        lambda seg: setattr(
            seg, "PixelData", np.packbits(seg.pixel_array, bitorder="big").tobytes()
        ),
        "mask",
    ),
    "positions swapped": (_swap_positions, "place of frame 1"),
    "references swapped": (_swap_references, "place of frame 1"),
    "a reference to nothing": (_other_reference, "source of frame 1"),
    "spacing transposed": (_transposed_spacing, "place of frame"),
    "spacing a hundredth off": (_wrong_spacing, "place of frame"),
    "rows mirrored by orientation": (_turned(-1, -1, -1, 1, 1, 1), "place of frame"),
    "columns mirrored by orientation": (_turned(1, 1, 1, -1, -1, -1), "place of frame"),
    "moved by a hundredth of a millimetre": (_moved(0.01, 0, 0), "place of frame"),
    "a position that was never turned to LPS": (_as_ras, "place of frame"),
    "segments swapped": (_swap_segments, "mask"),
    "a frame lost": (_fewer_frames, "mask"),
    "a frame twice": (_doubled_frame, "pairs"),
    "another tracking": (_tracking, "tracking"),
    "another frame of reference": (_set(FrameOfReferenceUID="1.2.3"), "frame of reference"),
    "another patient": (_set(PatientID="SOMEBODY"), "PatientID"),
    "another study": (_set(StudyInstanceUID="1.2.3"), "study"),
    "no name": (_set(PatientName=""), "PatientName"),
    "another type": (_set(SegmentationType="FRACTIONAL"), "type"),
}


def _analysis() -> Analysis:
    analysis = make_analysis(make_source(), blobs(count=2))
    assert len(analysis.findings) == 2
    return with_side(analysis, "left", "right")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_dicom(_analysis(), folder, probability=True)
    return folder


def _corrupted(path: Path, corrupt: Corrupt, tmp_path: Path) -> Path:
    dataset = pydicom.dcmread(path)
    corrupt(dataset)
    dataset.save_as(tmp_path / path.name, enforce_file_format=True)
    return tmp_path / path.name


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_wrong_segmentation_is_caught_and_removed(
    name: str, written: Path, tmp_path: Path
) -> None:
    corrupt, word = SEGMENTATIONS[name]
    analysis = _analysis()
    path = _corrupted(written / "segmentation.dcm", corrupt, tmp_path)
    with pytest.raises(InternalError, match=word) as caught, checked(path):
        check_segmentation(path, analysis, origin_of(analysis))
    assert caught.value.exit_code == 70
    assert caught.value.where == "segmentation.dcm"
    assert "Phantom" not in caught.value.line()
    assert not path.exists()


def test_saving_again_is_no_corruption(written: Path, tmp_path: Path) -> None:
    """The corrupted files above fail for their corruption, not for being saved by another writer."""
    analysis = _analysis()
    origin = origin_of(analysis)
    same = _pixels(lambda planes: planes)
    check_segmentation(_corrupted(written / "segmentation.dcm", same, tmp_path), analysis, origin)
    check_probability(_corrupted(written / "probability.dcm", same, tmp_path), analysis, origin)
    report = _corrupted(written / "report.dcm", lambda _: None, tmp_path)
    check_report(report, analysis, origin, uids_of(analysis, "segmentation"))


@pytest.mark.parametrize(
    ("corrupt", "word"),
    [(_next_frame, "place of frame 1"), (_no_frame, "source of frame 1")],
    ids=["another frame", "no frame"],
)
def test_frames_of_an_enhanced_source(corrupt: Corrupt, word: str, tmp_path: Path) -> None:
    analysis = make_analysis(make_source(enhanced=1))
    write_segmentation(analysis, tmp_path / "good.dcm")
    path = _corrupted(tmp_path / "good.dcm", corrupt, tmp_path)
    with pytest.raises(InternalError, match=word):
        check_segmentation(path, analysis, origin_of(analysis))


def test_an_empty_segmentation_has_every_slice(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), np.zeros(SHAPE, dtype=bool))
    write_segmentation(analysis, tmp_path / "good.dcm")
    path = _corrupted(tmp_path / "good.dcm", _fewer_frames, tmp_path)
    with pytest.raises(InternalError, match="frames"):
        check_segmentation(path, analysis, origin_of(analysis))


PROBABILITIES: dict[str, tuple[Corrupt, str]] = {
    "slices swapped": (_pixels(_swap), "slice"),
    "mirrored": (_pixels(lambda planes: planes[:, :, ::-1]), "slice"),
    "of another scale": (_set(MaximumFractionalValue=100), "slice"),
    "occupancy": (_set(SegmentationFractionalType="OCCUPANCY"), "type"),
    "a slice lost": (_fewer_frames, "frames"),
    "moved": (_moved(0, 0, 0.5), "place"),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_wrong_probability_is_caught(name: str, written: Path, tmp_path: Path) -> None:
    corrupt, word = PROBABILITIES[name]
    analysis = _analysis()
    path = _corrupted(written / "probability.dcm", corrupt, tmp_path)
    with pytest.raises(InternalError, match=word):
        check_probability(path, analysis, origin_of(analysis))


def _items(report: Dataset, *path: str) -> list[Dataset]:
    """Content items down a path of concept names."""
    found = [report]
    for meaning in path:
        found = [
            item
            for one in found
            for item in one.get("ContentSequence", ())
            if item.ConceptNameCodeSequence[0].CodeMeaning == meaning
        ]
    assert found, path
    return found


GROUP = ("Imaging Measurements", "Measurement Group")


def _segment(report: Dataset) -> None:
    one = _items(report, *GROUP, "Referenced Segment")[0]
    one.ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def _fewer_groups(report: Dataset) -> None:
    _items(report, "Imaging Measurements")[0].ContentSequence.pop()


def _swapped_groups(report: Dataset) -> None:
    held = _items(report, "Imaging Measurements")[0]
    a, b, c = held.ContentSequence
    held.ContentSequence = [a, c, b]


def _tracked(report: Dataset) -> None:
    _items(report, *GROUP, "Tracking Unique Identifier")[1].UID = "1.2.3"


def _evidence(report: Dataset) -> None:
    report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[
        0
    ].ReferencedSOPSequence.pop()


REPORTS: dict[str, tuple[Corrupt, str]] = {
    "another segment": (_segment, "segment of finding 1"),
    "a finding lost": (_fewer_groups, "its findings"),
    "findings swapped": (_swapped_groups, "tracking of finding 1"),
    "another tracking": (_tracked, "tracking of finding 1"),
    "evidence missing": (_evidence, "evidence"),
    "another patient": (_set(PatientBirthDate="19990101"), "PatientBirthDate"),
    "no content": (lambda report: report.__delattr__("ContentSequence"), "its findings"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_wrong_report_is_caught(name: str, written: Path, tmp_path: Path) -> None:
    corrupt, word = REPORTS[name]
    analysis = _analysis()
    path = _corrupted(written / "report.dcm", corrupt, tmp_path)
    with pytest.raises(InternalError, match=word) as caught, checked(path):
        check_report(path, analysis, origin_of(analysis), uids_of(analysis, "segmentation"))
    assert "Phantom" not in caught.value.line()
    assert not path.exists()


BYTES = {
    "a preamble": lambda raw: b"MZ" + raw[2:],
    "cut short": lambda raw: raw[: len(raw) // 2],
    "cut in its pixels": lambda raw: raw[:-40],
    "empty": lambda _: b"",
    "no DICOM": lambda _: b"\0" * 128 + b"DICM" + b"\xff" * 400,
}


@pytest.mark.parametrize("name", BYTES)
def test_a_file_that_is_none_is_caught(name: str, written: Path, tmp_path: Path) -> None:
    analysis = _analysis()
    path = tmp_path / "segmentation.dcm"
    path.write_bytes(BYTES[name]((written / "segmentation.dcm").read_bytes()))
    with pytest.raises(InternalError), checked(path):
        check_segmentation(path, analysis, origin_of(analysis))
    assert not path.exists()


def _mirrored(geometry: Geometry) -> Geometry:
    """As a reader would have it that forgot to turn x round."""
    flip = np.array([-1.0, 1.0, 1.0])
    return Geometry(
        geometry.origins * flip,
        geometry.row_direction * flip,
        geometry.column_direction * flip,
        geometry.spacing,
    )


READERS: dict[str, Callable[[Geometry], Geometry]] = {
    "x not turned": _mirrored,
    "spacing transposed": lambda one: replace(one, spacing=(one.spacing[1], one.spacing[0])),
    "half a pixel off": lambda one: replace(one, origins=one.origins + np.array([0.45, 0, 0])),
    "axes exchanged": lambda one: replace(
        one, row_direction=one.column_direction, column_direction=one.row_direction
    ),
}


@pytest.mark.parametrize("write", [write_segmentation, write_probability])
@pytest.mark.parametrize("enhanced", [None, 2])
@pytest.mark.parametrize("name", READERS)
def test_a_geometry_that_is_not_the_headers_is_caught_too(
    name: str, enhanced: int | None, write: Any, tmp_path: Path
) -> None:
    """The writer believes the study; the read-back asks the source's headers as well."""
    made = make_source(enhanced=enhanced, orientation=OBLIQUE)
    analysis = make_analysis(replace(made, geometry=READERS[name](made.geometry)))
    with pytest.raises(InternalError, match="against its source"):
        write(analysis, tmp_path / "x.dcm")
    assert not list(tmp_path.iterdir())


def test_a_source_of_another_matrix_is_caught(tmp_path: Path) -> None:
    made = make_source()
    analysis = make_analysis(made)
    made.source.headers[2].Rows = 41
    for write in (write_segmentation, write_report):
        with pytest.raises(InternalError, match="matrix"):
            write(analysis, tmp_path / "x.dcm")
    assert not list(tmp_path.iterdir())
