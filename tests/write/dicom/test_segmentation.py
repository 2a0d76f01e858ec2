"""SEG: what is written lies in the patient where the study's voxels lie, whatever the source.

Positions are computed here from what `builders` placed by hand (LPS), never from the writer's code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gliosight.analysis import RESEARCH_USE, Status
from gliosight.errors import UnsupportedInputError
from gliosight.write.dicom import write_probability, write_segmentation
from gliosight.write.dicom.source import REQUIRED
from tests.write.dicom.builders import (
    OBLIQUE,
    REFERENCE_UID,
    SERIES_UID,
    SHAPE,
    Made,
    as_nifti,
    blobs,
    make_analysis,
    make_source,
    with_side,
)

UNEVEN = [4.0, 4.0, 4.0, 9.0, 4.0, 3.5, 4.0, 4.0]
AXES = [
    (*row, *column)
    for row in np.concatenate([np.eye(3), -np.eye(3)]).astype(int).tolist()
    for column in np.concatenate([np.eye(3), -np.eye(3)]).astype(int).tolist()
    if not np.dot(row, column)
]
SOURCES: dict[str, dict[str, Any]] = {
    "axial": {},
    "oblique": {"orientation": OBLIQUE, "spacing": (0.7, 1.3)},
    "uneven gaps": {"gaps": UNEVEN},
    "tilted gantry": {"tilt_mm": 1.3},
    "in order": {"shuffled": False},
    "thin slices": {"gaps": 0.4},
    "one slice": {"shape": (1, 40, 36)},
    "odd matrix, whose frames end within a byte": {"shape": (5, 23, 19)},
    "tiny matrix": {"shape": (4, 6, 5)},
    "enhanced": {"enhanced": 1},
    "enhanced, oblique": {"enhanced": 1, "orientation": OBLIQUE},
    "enhanced, every frame tells all": {"enhanced": 1, "per_frame_orientation": True},
    "enhanced, several instances": {"enhanced": 3, "gaps": UNEVEN},
    "enhanced, one frame each": {"enhanced": 9},
    **{str(axes): {"shape": (4, 9, 8), "orientation": axes, "gaps": 2.5} for axes in AXES},
}


def _mask(made: Made) -> NDArray[np.bool_]:
    header = made.source.headers[0]
    shape = (len(made.source.frames), int(header.Rows), int(header.Columns))
    if shape[1] < 9:
        return np.indices(shape).sum(axis=0) == 5
    return blobs(shape, 3 if min(shape) > 5 else 1)


def _group(seg: Dataset, frame: int, name: str) -> Dataset:
    own, shared = seg.PerFrameFunctionalGroupsSequence[frame], seg.SharedFunctionalGroupsSequence[0]
    return (own if name in own else shared)[name].value[0]


def _points_of_seg(seg: Dataset) -> NDArray[np.float64]:
    """Every voxel of every segment in the patient, LPS mm (PS3.3, equation C.7.6.2.1-1)."""
    out = []
    for k, plane in enumerate(seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)):
        place = np.array(_group(seg, k, "PlanePositionSequence").ImagePositionPatient, float)
        turn = np.array(_group(seg, k, "PlaneOrientationSequence").ImageOrientationPatient, float)
        size = np.array(_group(seg, k, "PixelMeasuresSequence").PixelSpacing, float)
        rows, columns = np.nonzero(plane)
        out.append(
            place + columns[:, None] * size[1] * turn[:3] + rows[:, None] * size[0] * turn[3:]
        )
    return _sorted(np.concatenate(out))


def _points_of_mask(made: Made, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    s, r, c = np.nonzero(mask)
    return _sorted(
        made.positions[s]
        + c[:, None] * made.spacing[1] * made.orientation[0]
        + r[:, None] * made.spacing[0] * made.orientation[1]
    )


def _sorted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[np.lexsort(np.round(points, 3).T)]


@pytest.mark.parametrize("name", SOURCES)
def test_voxels_lie_where_the_mask_lies_and_refer_to_their_pictures(
    name: str, tmp_path: Path
) -> None:
    made = make_source(**SOURCES[name])
    mask = _mask(made)
    write_segmentation(make_analysis(made, mask), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    np.testing.assert_allclose(_points_of_seg(seg), _points_of_mask(made, mask), atol=1e-3)
    # The picture that a frame names lies, by its own header, where the frame lies.
    headers = {header.SOPInstanceUID: header for header in made.source.headers}
    for k in range(seg.NumberOfFrames):
        (derived,) = _group(seg, k, "DerivationImageSequence").SourceImageSequence
        header = headers[derived.ReferencedSOPInstanceUID]
        assert derived.ReferencedSOPClassUID == header.SOPClassUID
        assert derived.SpatialLocationsPreserved == "YES"
        if "NumberOfFrames" in header:
            frame = header.PerFrameFunctionalGroupsSequence[derived.ReferencedFrameNumber - 1]
            there = frame.PlanePositionSequence[0].ImagePositionPatient
        else:
            assert "ReferencedFrameNumber" not in derived
            there = header.ImagePositionPatient
        here = _group(seg, k, "PlanePositionSequence").ImagePositionPatient
        assert [float(x) for x in here] == pytest.approx([float(x) for x in there], abs=1e-6)
    assert seg.FrameOfReferenceUID == REFERENCE_UID
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES_UID
    images = [image.ReferencedSOPInstanceUID for image in series.ReferencedInstanceSequence]
    assert sorted(images) == sorted(headers)


@pytest.mark.parametrize("name", ["oblique", "in order", "enhanced, oblique"])
def test_highdicom_finds_the_same_volume(name: str, tmp_path: Path) -> None:
    """A third reader, which knows nothing of ours: the volume it makes has our voxels in our places."""
    made = make_source(**SOURCES[name])
    mask = _mask(made)
    write_segmentation(make_analysis(made, mask), tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    volume = seg.get_volume(combine_segments=True, allow_missing_positions=True)
    indices = np.argwhere(volume.array > 0)
    points = volume.map_indices_to_reference(indices)
    np.testing.assert_allclose(_sorted(points), _points_of_mask(made, mask), atol=1e-3)


def test_one_segment_for_each_finding(tmp_path: Path) -> None:
    analysis = make_analysis(make_source(), blobs(count=5))
    assert len(analysis.findings) == 5
    analysis = with_side(analysis, "left", "right", "bilateral", "midline", "unknown")
    write_segmentation(analysis, tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [one.SegmentNumber for one in seg.SegmentSequence] == [1, 2, 3, 4, 5]
    sides = []
    for segment, finding in zip(seg.SegmentSequence, analysis.findings, strict=True):
        assert segment.SegmentLabel == f"Glioma, finding {finding.id}"
        assert segment.TrackingUID == finding.tracking_uid
        assert segment.TrackingID == f"Finding {finding.id}"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert _code(segment.SegmentedPropertyCategoryCodeSequence) == "49755003"
        assert _code(segment.SegmentedPropertyTypeCodeSequence) == "372087000"
        assert RESEARCH_USE in segment.SegmentDescription
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert _code(algorithm.AlgorithmFamilyCodeSequence) == "123110"
        assert algorithm.AlgorithmName == "joint-test"
        assert algorithm.AlgorithmVersion == "0.1.0"
        assert f"model_sha256={'0f' * 32}" in algorithm.AlgorithmParameters
        assert "found_from=0.9" in algorithm.AlgorithmParameters
        assert "andidate" not in segment.SegmentLabel + segment.SegmentDescription
        (region,) = segment.AnatomicRegionSequence
        assert region.CodeValue == "12738006"
        modifier = region.get("AnatomicRegionModifierSequence")
        sides.append(None if modifier is None else _code(modifier))
        voxels = sum(
            int(plane.sum())
            for k, plane in enumerate(seg.pixel_array)
            if _group(seg, k, "SegmentIdentificationSequence").ReferencedSegmentNumber == finding.id
        )
        assert voxels == finding.volume_px
    assert sides == ["7771000", "24028007", "51440002", None, None]  # SCT left, right, bilateral


def test_what_is_uncertain_is_written_as_a_candidate(tmp_path: Path) -> None:
    mask = blobs(count=2)
    write_segmentation(
        make_analysis(make_source(), mask, status=Status.UNCERTAIN), tmp_path / "seg.dcm"
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.pixel_array.sum() == mask.sum()
    labels = [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert labels == ["Glioma candidate, finding 1", "Glioma candidate, finding 2"]
    for segment in seg.SegmentSequence:
        assert segment.SegmentDescription.startswith("Candidate: it is uncertain")


def _code(sequence: Any) -> str:
    (one,) = sequence
    return str(one.CodeValue)


@pytest.mark.slow
def test_more_findings_than_a_byte_counts(tmp_path: Path) -> None:
    mask = np.zeros((1, 34, 32), dtype=bool)
    mask[0, ::2, ::2] = True
    write_segmentation(make_analysis(make_source(mask.shape), mask), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert len(seg.SegmentSequence) == 272
    assert np.array_equal(seg.pixel_array.any(axis=0), mask[0])


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    write_segmentation(make_analysis(make_source()), tmp_path / "seg.dcm")
    assert (tmp_path / "seg.dcm").read_bytes()[:132] == b"\0" * 128 + b"DICM"
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SegmentationType == "BINARY"
    assert "research use only" in seg.SeriesDescription
    assert seg.ContentCreatorName == "Gliosight^AI"
    assert seg.Manufacturer == "gliosight"
    assert seg.SoftwareVersions == "0.1.0"
    assert seg.LossyImageCompression == "00"
    assert seg.SegmentsOverlap == "NO"
    source = make_source().source.headers[0]
    for keyword in ("StudyInstanceUID", "StudyDescription", *REQUIRED):
        assert seg[keyword].value == source[keyword].value, keyword


def test_no_tumour_is_an_empty_segment_on_every_slice(tmp_path: Path) -> None:
    write_segmentation(
        make_analysis(make_source(enhanced=2), np.zeros(SHAPE, dtype=bool)), tmp_path / "seg.dcm"
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["Glioma, none found"]
    assert "TrackingUID" not in seg.SegmentSequence[0]
    assert seg.NumberOfFrames == SHAPE[0]
    assert not seg.pixel_array.any()


@pytest.mark.parametrize(
    "name", ["axial", "odd matrix, whose frames end within a byte", "enhanced"]
)
def test_probability_is_the_map(name: str, tmp_path: Path) -> None:
    made = make_source(**SOURCES[name])
    analysis = make_analysis(made, _mask(made))
    write_probability(analysis, tmp_path / "probability.dcm")
    seg = pydicom.dcmread(tmp_path / "probability.dcm")
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert seg.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    at = {tuple(np.round(place, 3).tolist()): k for k, place in enumerate(made.positions)}
    seg.pixel_array_options(decoding_plugin="pydicom")  # GDCM aborts on odd frames
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    assert len(pixels) == len(made.positions)
    for k, plane in enumerate(pixels):
        place = _group(seg, k, "PlanePositionSequence").ImagePositionPatient
        index = at[tuple(round(float(x), 3) for x in place)]
        wanted = analysis.maps.probability[index]
        assert np.abs(plane / 255 - wanted).max() <= 0.5 / 255 + 1e-6


SPACINGS = {
    "even: said": ({}, 4.0, 3.5),
    "uneven: positions tell, no one number would": ({"gaps": UNEVEN}, None, 3.5),
    "tilted: along the normal, not along the stack": ({"tilt_mm": 1.3}, 4.0, 3.5),
    "the source's own number may be wrong": ({"SpacingBetweenSlices": "99"}, 4.0, 3.5),
    "no thickness: the geometry's": ({"SliceThickness": None}, 4.0, 3.5),
    "nonsense as thickness": ({"SliceThickness": "0"}, 4.0, 3.5),
    "one slice: none is invented": ({"shape": (1, 40, 36)}, None, 3.5),
    "one slice without thickness": ({"shape": (1, 40, 36), "SliceThickness": None}, None, None),
}


@pytest.mark.parametrize("name", SPACINGS)
def test_spacing_between_slices(name: str, tmp_path: Path) -> None:
    options, spacing, thickness = SPACINGS[name]
    made = make_source(**options)
    if thickness is None:
        made = replace(made, geometry=replace(made.geometry, slice_thickness=None))
    write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    wanted = None if spacing is None else pytest.approx(spacing, abs=1e-5)
    assert measures.get("SpacingBetweenSlices") == wanted
    assert measures.get("SliceThickness") == thickness


def _two_references() -> Made:
    made = make_source()
    made.source.headers[3].FrameOfReferenceUID = "1.2.3"
    return made


def _drifting(keyword: str) -> Made:
    """Headers that differ by less than what is taken for one stack, and put the far corner elsewhere."""
    made = make_source()
    for header in made.source.headers[::2]:
        value = [float(number) for number in header[keyword].value]
        step = 0.03 if keyword == "PixelSpacing" else 0.012
        header[keyword].value = [value[0], value[1] + step, *value[2:]]
    return made


NOTHING = np.zeros(SHAPE, dtype=bool)
REFUSED: dict[str, tuple[Any, str]] = {
    "not assessed": (
        lambda: make_analysis(make_source(), NOTHING, status=Status.NOT_ASSESSED),
        "not assessed",
    ),
    "found by a model that outlines nothing": (
        lambda: make_analysis(make_source(), NOTHING, status=Status.FOUND),
        "nothing is outlined",
    ),
    "uncertain, and nothing marked": (
        lambda: make_analysis(make_source(), NOTHING, status=Status.UNCERTAIN),
        "nothing is outlined",
    ),
    "no frame of reference": (
        lambda: make_analysis(make_source(FrameOfReferenceUID="")),
        "frame of reference",
    ),
    "two frames of reference": (lambda: make_analysis(_two_references()), "frame of reference"),
    "no geometry": (lambda: make_analysis(make_source(), geometry=False), "geometry"),
    "no series": (lambda: make_analysis(make_source(SeriesInstanceUID=None)), "SeriesInstanceUID"),
    "an instance without a name": (
        lambda: make_analysis(make_source(SOPInstanceUID="not a uid")),
        "SOPInstanceUID",
    ),
    "one name for all instances": (
        lambda: make_analysis(make_source(SOPInstanceUID="1.2.3")),
        "several slices",
    ),
    "pixels of two sizes": (lambda: make_analysis(_drifting("PixelSpacing")), "lie up to"),
    "two directions": (lambda: make_analysis(_drifting("ImageOrientationPatient")), "lie up to"),
    "no DICOM": (lambda: as_nifti(make_analysis(make_source())), "nifti"),
}


def test_rounded_cosines_are_no_obstacle(tmp_path: Path) -> None:
    """Three decimals leave vectors whose length is not quite 1."""
    made = make_source()
    for header in made.source.headers:
        header.ImageOrientationPatient = [0.9995, 0, 0, 0, 0.9995, 0]
    write_segmentation(make_analysis(made), tmp_path / "seg.dcm")
    assert (tmp_path / "seg.dcm").is_file()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, tmp_path: Path) -> None:
    make, word = REFUSED[name]
    for write in (write_segmentation, write_probability):
        with pytest.raises(UnsupportedInputError, match=word) as caught:
            write(make(), tmp_path / "x.dcm")
        assert caught.value.exit_code == 5
        assert "Phantom" not in caught.value.line()
    assert not list(tmp_path.iterdir())
