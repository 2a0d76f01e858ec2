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
from gliosight.write.dicom.source import origin_of, uids_of
from tests.write.dicom.builders import OBLIQUE, SHAPE, blobs, make_analysis, make_source, with_side

Corrupt = Callable[[Dataset], Any]


def _pixels(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        changed = np.ascontiguousarray(change(seg.pixel_array.copy()))
        if seg.BitsAllocated == 1:
            seg.PixelData = np.packbits(changed, axis=None, bitorder="little").tobytes()
        else:
            seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            seg.PixelData = changed.tobytes()
        seg.PixelData += b"\0" * (len(seg.PixelData) % 2)
        seg["PixelData"].VR = "OB"
        seg["PixelData"].is_undefined_length = False

    return corrupt


def _one_voxel(value: int) -> Corrupt:
    def change(planes: NDArray[Any]) -> NDArray[Any]:
        planes[tuple(np.argwhere(planes != value)[0])] = value
        return planes

    return _pixels(change)


def _set(**values: Any) -> Corrupt:
    return lambda dataset: [setattr(dataset, keyword, value) for keyword, value in values.items()]


def _frames(seg: Dataset) -> Any:
    return seg.PerFrameFunctionalGroupsSequence


def _source(seg: Dataset, k: int) -> Dataset:
    return _frames(seg)[k].DerivationImageSequence[0].SourceImageSequence[0]


def _swapped(find: Callable[[Dataset, int], Dataset], keyword: str) -> Corrupt:
    """The values of two frames exchanged."""

    def corrupt(seg: Dataset) -> None:
        first, second = find(seg, 0), find(seg, 1)
        first[keyword], second[keyword] = second[keyword], first[keyword]

    return corrupt


def _shared(group: str, keyword: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        held = seg.SharedFunctionalGroupsSequence[0][group].value[0]
        setattr(held, keyword, change(np.array(held[keyword].value, dtype=float)).tolist())

    return corrupt


def _positions(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Corrupt:
    def corrupt(seg: Dataset) -> None:
        for group in _frames(seg):
            held = group.PlanePositionSequence[0]
            position = change(np.array(held.ImagePositionPatient, dtype=float))
            held.ImagePositionPatient = [round(x, 6) for x in position.tolist()]

    return corrupt


def _swap_segments(seg: Dataset) -> None:
    for group in _frames(seg):
        which = group.SegmentIdentificationSequence[0]
        which.ReferencedSegmentNumber = 3 - which.ReferencedSegmentNumber


def _fewer_frames(seg: Dataset) -> None:
    _pixels(lambda planes: planes[:-1])(seg)
    seg.NumberOfFrames = int(seg.NumberOfFrames) - 1
    seg.PerFrameFunctionalGroupsSequence = _frames(seg)[:-1]


def _doubled_frame(seg: Dataset) -> None:
    _pixels(lambda planes: np.concatenate([planes, np.zeros_like(planes[:1])]))(seg)
    seg.NumberOfFrames = int(seg.NumberOfFrames) + 1
    _frames(seg).append(_frames(seg)[0])


def _turned(*signs: int) -> Corrupt:
    return _shared(
        "PlaneOrientationSequence", "ImageOrientationPatient", lambda cosines: cosines * signs
    )


SPACING = ("PixelMeasuresSequence", "PixelSpacing")
SEGMENTATIONS: dict[str, tuple[Corrupt, str]] = {
    "mirrored left to right": (_pixels(lambda planes: planes[:, :, ::-1]), "mask"),
    "slices in reverse": (_pixels(lambda planes: planes[::-1]), "mask"),
    "shifted by a pixel": (_pixels(lambda planes: np.roll(planes, 1, axis=2)), "mask"),
    "one voxel more": (_one_voxel(1), "mask"),
    "one voxel less": (_one_voxel(0), "mask"),
    "positions swapped": (
        _swapped(lambda seg, k: _frames(seg)[k].PlanePositionSequence[0], "ImagePositionPatient"),
        "position of frame 1",
    ),
    "references swapped": (_swapped(_source, "ReferencedSOPInstanceUID"), "position of frame 1"),
    "a reference to nothing": (
        lambda seg: setattr(_source(seg, 0), "ReferencedSOPInstanceUID", "1.2.3"),
        "source of frame 1",
    ),
    "spacing transposed": (_shared(*SPACING, lambda spacing: spacing[::-1]), "position of frame"),
    "rows mirrored by orientation": (_turned(-1, -1, -1, 1, 1, 1), "position of frame"),
    "moved by a hundredth of a millimetre": (
        _positions(lambda position: np.add(position, (0.01, 0, 0))),
        "position of frame",
    ),
    "a position that was never turned to LPS": (
        _positions(lambda position: position * (-1, -1, 1)),
        "position of frame",
    ),
    "segments swapped": (_swap_segments, "mask"),
    "a frame lost": (_fewer_frames, "mask"),
    "a frame twice": (_doubled_frame, "pairs"),
    "another tracking": (
        lambda seg: setattr(seg.SegmentSequence[0], "TrackingUID", "1.2.3"),
        "tracking",
    ),
    "another frame of reference": (_set(FrameOfReferenceUID="1.2.3"), "frame of reference"),
    "another patient": (_set(PatientID="SOMEBODY"), "PatientID"),
    "another study": (_set(StudyInstanceUID="1.2.3"), "study"),
    "another type": (_set(SegmentationType="FRACTIONAL"), "type"),
}
PROBABILITIES: dict[str, tuple[Corrupt, str]] = {
    "slices in reverse": (_pixels(lambda planes: planes[::-1]), "slice"),
    "of another scale": (_set(MaximumFractionalValue=100), "slice"),
    "occupancy": (_set(SegmentationFractionalType="OCCUPANCY"), "type"),
    "a slice lost": (_fewer_frames, "frames"),
    "moved": (_positions(lambda position: np.add(position, (0, 0, 0.5))), "position"),
}


def _items(report: Dataset, *path: str) -> list[Dataset]:
    """Content items down a path of concept names."""
    items = [report]
    for meaning in path:
        items = [
            child
            for item in items
            for child in item.get("ContentSequence", ())
            if child.ConceptNameCodeSequence[0].CodeMeaning == meaning
        ]
    assert items, path
    return items


GROUP = ("Imaging Measurements", "Measurement Group")


def _other_segment(report: Dataset) -> None:
    item = _items(report, *GROUP, "Referenced Segment")[0]
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def _swapped_groups(report: Dataset) -> None:
    measurements = _items(report, "Imaging Measurements")[0]
    a, b, c = measurements.ContentSequence
    measurements.ContentSequence = [a, c, b]


def _fewer_images(report: Dataset) -> None:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    study.ReferencedSeriesSequence[0].ReferencedSOPSequence.pop()


REPORTS: dict[str, tuple[Corrupt, str]] = {
    "another segment": (_other_segment, "segment of finding 1"),
    "a finding lost": (
        lambda report: _items(report, "Imaging Measurements")[0].ContentSequence.pop(),
        "its findings",
    ),
    "findings swapped": (_swapped_groups, "tracking of finding 1"),
    "evidence missing": (_fewer_images, "evidence"),
    "another patient": (_set(PatientBirthDate="19990101"), "PatientBirthDate"),
    "no content": (lambda report: report.pop("ContentSequence"), "its findings"),
}


def _check_report(path: Path, analysis: Analysis, origin: Any) -> None:
    check_report(path, analysis, origin, uids_of(analysis, "segmentation"))


CHECKS: dict[str, Callable[..., None]] = {
    "segmentation.dcm": check_segmentation,
    "probability.dcm": check_probability,
    "report.dcm": _check_report,
}
CASES = [
    pytest.param(file, corrupt, word, id=f"{file}: {name}")
    for file, table in zip(CHECKS, (SEGMENTATIONS, PROBABILITIES, REPORTS), strict=True)
    for name, (corrupt, word) in table.items()
]


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


@pytest.mark.parametrize(("file", "corrupt", "word"), CASES)
def test_a_wrong_file_is_caught_and_removed(
    file: str, corrupt: Corrupt, word: str, written: Path, tmp_path: Path
) -> None:
    analysis = _analysis()
    path = _corrupted(written / file, corrupt, tmp_path)
    with pytest.raises(InternalError, match=word) as caught, checked(path):
        CHECKS[file](path, analysis, origin_of(analysis))
    assert caught.value.exit_code == 70
    assert caught.value.where == file
    assert "please report" in caught.value.line()
    assert "Phantom" not in caught.value.line()
    assert not path.exists()


@pytest.mark.parametrize("file", CHECKS)
def test_saving_again_is_no_corruption(file: str, written: Path, tmp_path: Path) -> None:
    """The corrupted files above fail for their corruption, not for being saved by another writer."""
    same = (lambda _: None) if file == "report.dcm" else _pixels(lambda planes: planes)
    path = _corrupted(written / file, same, tmp_path)
    CHECKS[file](path, _analysis(), origin_of(_analysis()))


@pytest.mark.slow
def test_frames_of_an_enhanced_source_and_slices_of_an_empty_segmentation(tmp_path: Path) -> None:
    found = make_analysis(make_source(enhanced=1))
    empty = make_analysis(make_source(), np.zeros(SHAPE, dtype=bool))
    other = _swapped(_source, "ReferencedFrameNumber")
    none: Corrupt = lambda seg: _source(seg, 0).pop("ReferencedFrameNumber")  # noqa: E731
    for analysis, corrupt, word in (
        (found, other, "position of frame 1"),
        (found, none, "source of frame 1"),
        (empty, _fewer_frames, "frames"),
    ):
        write_segmentation(analysis, tmp_path / "good.dcm")
        path = _corrupted(tmp_path / "good.dcm", corrupt, tmp_path)
        with pytest.raises(InternalError, match=word):
            check_segmentation(path, analysis, origin_of(analysis))


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "a preamble": lambda raw: b"MZ" + raw[2:],
    "cut in its pixels": lambda raw: raw[:-40],
    "empty": lambda _: b"",
    "no DICOM": lambda _: b"\0" * 128 + b"DICM" + b"\xff" * 400,
}


def test_a_file_that_is_not_dicom_is_caught(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "segmentation.dcm"
    for change in BYTES.values():
        path.write_bytes(change((written / "segmentation.dcm").read_bytes()))
        with pytest.raises(InternalError), checked(path):
            check_segmentation(path, _analysis(), origin_of(_analysis()))
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
    "spacing transposed": lambda right: replace(right, spacing=right.spacing[::-1]),
    "half a pixel off": lambda right: replace(right, origins=np.add(right.origins, (0.45, 0, 0))),
    "axes exchanged": lambda right: replace(
        right, row_direction=right.column_direction, column_direction=right.row_direction
    ),
}


@pytest.mark.parametrize("enhanced", [None, 2])
@pytest.mark.parametrize("name", READERS)
def test_a_geometry_that_is_not_the_headers_is_caught_too(
    name: str, enhanced: int | None, tmp_path: Path
) -> None:
    """The writer believes the study; the read-back asks the source's headers as well."""
    made = make_source(enhanced=enhanced, orientation=OBLIQUE)
    analysis = make_analysis(replace(made, geometry=READERS[name](made.geometry)))
    for write in (write_segmentation, write_probability):
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
