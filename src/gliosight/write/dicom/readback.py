"""What was written, read again on another path and compared (stage: write).

Only pydicom and numpy are used here, nothing of what wrote the file: mirrored segmentations are this field's
classic bug, and they come from a writer that trusts itself. Compared is what a reader could get wrong: every
voxel; where each frame's corners lie in the patient, by the file's own functional groups, against the study's
geometry and against the source's own headers; references and identity. What differs is an `InternalError`,
and `checked` removes the file. The values of the report are compared by tests.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gliosight.analysis import Analysis
from gliosight.dicom import group_of, quietly, text_of
from gliosight.errors import GliosightError, InternalError
from gliosight.write.dicom.source import LPS, Origin, Uids, corners_of, study_corners

# Between the file and the study, mm: numbers of 16 characters leave far less.
EXACT_MM = 0.001
# Between the file and the source's header, mm: a quarter of a common pixel, as rounded cosines may be off.
# What is further apart is not written, see `Origin.imprecise_mm`.
SOURCE_MM = 0.25
PACKAGE = Path(__file__).resolve().parents[2]
REPORT_IT = "it was withheld; please report this with the version and the scanner's make"


@contextlib.contextmanager
def checked(path: Path) -> Iterator[None]:
    """Build, write and check a file within, quietly; it is removed where any of that fails.

    Raises
    ------
    InternalError
        In place of what pydicom, highdicom or our own code raises of a bug. Its text is left out, since
        it may quote the patient's name.
    """
    done = False
    try:
        with quietly():
            yield
        done = True
    except InternalError as error:
        where = error.where or path.name
        raise InternalError(error.what, where=where, remedy=REPORT_IT) from error
    except (GliosightError, OSError, MemoryError):
        raise
    except Exception as error:
        steps = [
            f"{Path(step.filename).relative_to(PACKAGE).as_posix()}:{step.lineno}"
            for step in traceback.extract_tb(error.__traceback__)
            if Path(step.filename).is_relative_to(PACKAGE)
        ]
        what = f"{type(error).__name__} at {steps[-1]}"
        raise InternalError(what, where=path.name, remedy=REPORT_IT) from error
    finally:
        if not done:
            path.unlink(missing_ok=True)


def check_segmentation(path: Path, analysis: Analysis, origin: Origin) -> None:
    """Compare a written binary SEG with the lesions, the findings and the geometry."""
    seg = _read(path)
    frames = _frames(seg, analysis, origin)
    _same("its type", seg.SegmentationType, "BINARY")
    _same(
        "its segments or their tracking",
        [(int(item.SegmentNumber), item.get("TrackingUID")) for item in seg.SegmentSequence],
        [(finding.id, finding.tracking_uid) for finding in analysis.findings] or [(1, None)],
    )
    labels = np.zeros_like(analysis.labels)
    for segment, index, pixels, _ in frames:
        labels[index][pixels > 0] += segment
    wrong = int(np.count_nonzero(labels != analysis.labels))
    _same("its mask", f"{wrong} other voxels", "0 other voxels")
    for finding in analysis.findings:
        name = f"segment {finding.id}"
        if finding.centroid_mm is None:
            raise _differs(name, "a position", "none, as the finding has none")
        planes = [
            (pixels, corners) for number, _, pixels, corners in frames if number == finding.id
        ]
        centroid = np.array(finding.centroid_mm) * LPS
        _near(f"the centroid of {name}", _centroid(planes), centroid, EXACT_MM)
    if not analysis.findings:  # of every slice it is said that nothing is there
        _same("its frames", sorted(frame[1] for frame in frames), list(range(len(labels))))


def check_probability(path: Path, analysis: Analysis, origin: Origin) -> None:
    """Compare a written fractional SEG with the probability map."""
    seg = _read(path)
    frames = _frames(seg, analysis, origin)
    probability = analysis.maps.probability
    _same("its type", seg.SegmentationFractionalType, "PROBABILITY")
    _same("its frames", sorted(frame[1] for frame in frames), list(range(len(probability))))
    most = np.float32(seg.MaximumFractionalValue)
    for _, index, pixels, _ in frames:
        apart = float(np.abs(pixels / most - np.clip(probability[index], 0, 1)).max())
        if not apart <= 0.5 / float(most) + 1e-6:
            raise _differs(f"slice {index + 1}", f"{apart:.4f} off", "rounding alone")


def check_report(path: Path, analysis: Analysis, origin: Origin, seg: Uids | None) -> None:
    """Compare what a written report refers to: patient, images, and for each finding its segment."""
    report = _read(path)
    _check_identity(report, origin)
    evidence = {
        (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    images = {(frame.series, frame.sop_instance) for frame in origin.frames}
    _same("its evidence", evidence, images | ({(seg.series, seg.instance)} if seg else set()))
    groups = [
        group
        for measurements in _children(report, "Imaging Measurements")
        for group in _children(measurements, "Measurement Group")
    ][1:]  # the first is the whole study's
    _same("its findings", len(groups), len(analysis.findings))
    for group, finding in zip(groups, analysis.findings, strict=True):
        uids = [str(item.UID) for item in _children(group, "Tracking Unique Identifier")]
        _same(f"the tracking of finding {finding.id}", uids, [finding.tracking_uid])
        segments = [
            (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
            for item in _children(group, "Referenced Segment")
            for reference in item.ReferencedSOPSequence
        ]
        expected = [(seg.instance, finding.id)] if seg else []
        _same(f"the segment of finding {finding.id}", segments, expected)


def _children(item: Dataset, meaning: str) -> list[Dataset]:
    """The content items of that name right below an item."""
    return [
        child
        for child in item.get("ContentSequence", ())
        if child.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def _read(path: Path) -> Dataset:
    with path.open("rb") as file:
        _same("its preamble", file.read(132), b"\0" * 128 + b"DICM")
    return pydicom.dcmread(path)


def _differs(what: str, actual: object, expected: object) -> InternalError:
    return InternalError(
        f"a DICOM object read back differs in {what}: {actual} instead of {expected}"
    )


def _same(what: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise _differs(what, actual, expected)


def _near(
    what: str, actual: NDArray[np.float64], expected: NDArray[np.float64], within: float
) -> None:
    apart = float(np.abs(actual - expected).max())
    if not apart <= within:
        raise _differs(what, f"{apart:.3f} mm off", f"at most {within} mm")


def _check_identity(written: Dataset, origin: Origin) -> None:
    _same("its study", str(written.StudyInstanceUID), origin.study)
    for keyword, value in origin.attributes.items():
        # Not `_same`, which would quote the patient. Trailing separators of a name say nothing.
        if keyword not in written or text_of(written, keyword).rstrip(" ^=") != value.rstrip(" ^="):
            raise InternalError(f"a DICOM object read back differs in {keyword}")


def _centroid(frames: list[tuple[NDArray[Any], NDArray[np.float64]]]) -> NDArray[np.float64]:
    """(3,) LPS mm of the middle of a segment's voxels, by the file's own numbers."""
    total, voxels = np.zeros(3), 0
    for pixels, (first, across, down) in frames:
        rows, columns = np.nonzero(pixels)
        # Shares of the way to the far corners; a side of one pixel has none.
        right = columns.sum() / max(pixels.shape[1] - 1, 1)
        below = rows.sum() / max(pixels.shape[0] - 1, 1)
        total += first * len(rows) + (across - first) * right + (down - first) * below
        voxels += len(rows)
    return total / voxels


def _frames(
    seg: Dataset, analysis: Analysis, origin: Origin
) -> list[tuple[int, int, NDArray[Any], NDArray[np.float64]]]:
    """Segment, native slice index, pixels and corners (LPS mm) of each frame, checked against its source."""
    _check_identity(seg, origin)
    _same("its frame of reference", seg.FrameOfReferenceUID, origin.frame_of_reference)
    _same(
        "its instances",
        {
            (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
            for series in seg.ReferencedSeriesSequence
            for image in series.ReferencedInstanceSequence
        },
        {(frame.series, frame.sop_instance) for frame in origin.frames},
    )
    matrix = analysis.study.shape[1:]
    _same("its matrix", (int(seg.Rows), int(seg.Columns)), matrix)
    if seg.file_meta.TransferSyntaxUID.is_encapsulated:
        seg.pixel_array_options(decoding_plugin="pydicom")  # not GDCM, see `write_probability`
    pixels = seg.pixel_array.reshape(-1, *matrix)
    count = int(seg.NumberOfFrames)
    _same("its frames", (len(pixels), len(seg.PerFrameFunctionalGroupsSequence)), (count, count))
    slices = {(f.sop_class, f.sop_instance, f.number): k for k, f in enumerate(origin.frames)}
    geometry_corners = study_corners(analysis.study)
    frames = []
    for k, plane in enumerate(pixels):
        derivation, position, orientation, measures, segment = (
            group_of(seg, k + 1, f"{name}Sequence") or Dataset()
            for name in (
                "DerivationImage",
                "PlanePosition",
                "PlaneOrientation",
                "PixelMeasures",
                "SegmentIdentification",
            )
        )
        source = derivation.SourceImageSequence[0]
        number = source.get("ReferencedFrameNumber")
        index = slices.get(
            (
                str(source.ReferencedSOPClassUID),
                str(source.ReferencedSOPInstanceUID),
                None if number is None else int(number),
            )
        )
        if index is None:
            raise _differs(f"the source of frame {k + 1}", "another image", "one of the series")
        corners = corners_of(
            position.ImagePositionPatient,
            np.reshape(orientation.ImageOrientationPatient, (2, 3)),
            measures.PixelSpacing,
            matrix,
        )
        _near(f"the position of frame {k + 1}", corners, geometry_corners[index], EXACT_MM)
        if not np.isnan(origin.corners[index]).any():
            _near(f"frame {k + 1} against its source", corners, origin.corners[index], SOURCE_MM)
        frames.append((int(segment.ReferencedSegmentNumber), index, plane, corners))
    _same("its pairs of segment and slice", len({frame[:2] for frame in frames}), len(frames))
    return frames
