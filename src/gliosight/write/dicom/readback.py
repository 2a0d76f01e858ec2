"""What was written, read again on another path and compared (stage: write).

Only pydicom and numpy are used here, nothing of what wrote the file: mirrored segmentations are this field's
classic bug, and they come from a writer that trusts itself. Compared is what a reader could get wrong: every
voxel; where each frame's corners lie in the patient, by the file's own functional groups, against the study's
geometry and against the source's own headers; each segment's centroid; references and identity. What differs
is an `InternalError`, and `checked` removes the file. The values of the report are compared by tests.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gliosight.analysis import Analysis
from gliosight.dicom import UNREADABLE, group_of, quietly, text_of
from gliosight.errors import GliosightError, InternalError
from gliosight.write.dicom.source import LPS, Origin, frame_corners, study_corners
from gliosight.write.dicom.uids import Uids

# Between the file and the study, mm: numbers of 16 characters leave far less.
EXACT_MM = 0.001
# Between the file and the source's header, mm: a quarter of a common pixel, as rounded cosines may be off.
# What is further apart is not written, see `Origin.imprecise_mm`.
SOURCE_MM = 0.25
PACKAGE = Path(__file__).resolve().parents[2]
REPORT_IT = "it was withheld; please report this with the version and the scanner's make"


class Frame(NamedTuple):
    """A frame of a written SEG, where its own functional groups say that it lies."""

    segment: int
    slice_index: int  # the native slice that it refers to
    pixels: NDArray[Any]  # (rows, columns)
    corners: NDArray[np.float64]  # (3, 3), see `frame_corners`


@contextlib.contextmanager
def checked(path: Path) -> Iterator[None]:
    """Build, write and check a file within; it is removed where any of that fails.

    Raises
    ------
    InternalError
        In place of what pydicom, highdicom or our own code raises of a bug. Its text is left out, since
        it may quote the patient's name.
    """
    try:
        yield
    except BaseException as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, Exception) or isinstance(
            error, (GliosightError, OSError, MemoryError)
        ):
            raise
        steps = [
            f"{Path(step.filename).relative_to(PACKAGE).as_posix()}:{step.lineno}"
            for step in traceback.extract_tb(error.__traceback__)
            if Path(step.filename).is_relative_to(PACKAGE)
        ]
        raise InternalError(
            f"{type(error).__name__} at {steps[-1]}", where=path.name, remedy=REPORT_IT
        ) from error


def check_segmentation(path: Path, analysis: Analysis, origin: Origin) -> None:
    """Compare a written binary SEG with the lesions, the findings and the geometry."""
    with _reading(path) as seg:
        frames = _frames(seg, analysis, origin)
        findings = {finding.id: finding for finding in analysis.findings}
        _same("its type", seg.SegmentationType, "BINARY")
        _same(
            "its segments",
            [int(segment.SegmentNumber) for segment in seg.SegmentSequence],
            sorted(findings) or [1],
        )
        labels = np.zeros_like(analysis.labels)
        for frame in frames:
            labels[frame.slice_index][frame.pixels > 0] += frame.segment
        wrong = int(np.count_nonzero(labels != analysis.labels))
        _same("its mask", f"{wrong} other voxels", "0 other voxels")
        if not findings:  # of every slice it is said that nothing is there
            _same("its frames", sorted(f.slice_index for f in frames), list(range(len(labels))))
            return
        for segment in seg.SegmentSequence:
            finding = findings[int(segment.SegmentNumber)]
            name = f"segment {finding.id}"
            _same(f"the tracking of {name}", str(segment.TrackingUID), finding.tracking_uid)
            if finding.centroid_mm is None:
                raise _differs(name, "a place", "none, as the finding has none")
            centroid = _centroid([frame for frame in frames if frame.segment == finding.id])
            _near(f"the centroid of {name}", centroid, np.array(finding.centroid_mm) * LPS)


def check_probability(path: Path, analysis: Analysis, origin: Origin) -> None:
    """Compare a written fractional SEG with the probability map."""
    with _reading(path) as seg:
        frames = _frames(seg, analysis, origin)
        _same("its type", seg.SegmentationFractionalType, "PROBABILITY")
        slices = list(range(len(analysis.maps.probability)))
        _same("its frames", sorted(frame.slice_index for frame in frames), slices)
        most = np.float32(seg.MaximumFractionalValue)
        for frame in frames:
            wanted = np.clip(analysis.maps.probability[frame.slice_index], 0, 1)
            apart = float(np.abs(frame.pixels / most - wanted).max())
            if not apart <= 0.5 / float(most) + 1e-6:
                raise _differs(
                    f"slice {frame.slice_index + 1}", f"{apart:.4f} off", "rounding alone"
                )


def check_report(path: Path, analysis: Analysis, origin: Origin, seg: Uids | None) -> None:
    """Compare what a written report refers to: patient, images, and for each finding its segment."""
    with _reading(path) as report:
        _check_identity(report, origin)
        evidence = {
            (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for image in series.ReferencedSOPSequence
        }
        wanted = {(frame.series, frame.sop_instance) for frame in origin.instances}
        _same("its evidence", evidence, wanted | ({(seg.series, seg.instance)} if seg else set()))
        groups = [
            group
            for measurements in _children(report, "Imaging Measurements")
            for group in _children(measurements, "Measurement Group")
        ][1:]  # the first is the whole study's
        _same("its findings", len(groups), len(analysis.findings))
        for group, finding in zip(groups, analysis.findings, strict=True):
            name = f"finding {finding.id}"
            uids = [str(item.UID) for item in _children(group, "Tracking Unique Identifier")]
            _same(f"the tracking of {name}", uids, [finding.tracking_uid])
            segments = [
                (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
                for item in _children(group, "Referenced Segment")
                for reference in item.ReferencedSOPSequence
            ]
            _same(f"the segment of {name}", segments, [(seg.instance, finding.id)] if seg else [])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Dataset]:
    with quietly():
        try:
            with path.open("rb") as file:
                _same("its preamble", file.read(132), b"\0" * 128 + b"DICM")
            yield pydicom.dcmread(path)
        except UNREADABLE as error:
            raise InternalError(
                f"a DICOM object cannot be read back: {type(error).__name__}", where=path.name
            ) from error
        except InternalError as error:
            raise InternalError(error.what, where=path.name, remedy=REPORT_IT) from error


def _differs(what: str, found: object, wanted: object) -> InternalError:
    return InternalError(f"a DICOM object read back differs in {what}: {found} instead of {wanted}")


def _same(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise _differs(what, found, wanted)


def _near(
    what: str, found: NDArray[np.float64], wanted: NDArray[np.float64], within: float = EXACT_MM
) -> None:
    apart = float(np.abs(found - wanted).max())
    if not apart <= within:
        raise _differs(what, f"{apart:.3f} mm off", f"at most {within} mm")


def _check_identity(written: Dataset, origin: Origin) -> None:
    _same("its study", str(written.StudyInstanceUID), origin.study)
    for keyword, value in origin.attributes.items():
        # Not `_same`, which would quote the patient. Trailing separators of a name say nothing.
        if keyword not in written or text_of(written, keyword).rstrip(" ^=") != value.rstrip(" ^="):
            raise InternalError(f"a DICOM object read back differs in {keyword}")


def _frames(seg: Dataset, analysis: Analysis, origin: Origin) -> list[Frame]:
    """The frames of a SEG; their places and references are compared."""
    _check_identity(seg, origin)
    _same("its frame of reference", seg.FrameOfReferenceUID, origin.frame_of_reference)
    _same(
        "its instances",
        {
            (str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID))
            for series in seg.ReferencedSeriesSequence
            for image in series.ReferencedInstanceSequence
        },
        {(frame.series, frame.sop_instance) for frame in origin.instances},
    )
    rows, columns = analysis.study.shape[1:]
    _same("its matrix", (int(seg.Rows), int(seg.Columns)), (rows, columns))
    if seg.file_meta.TransferSyntaxUID.is_encapsulated:
        seg.pixel_array_options(decoding_plugin="pydicom")  # not GDCM, see `write_probability`
    pixels = seg.pixel_array.reshape(-1, rows, columns)
    count = int(seg.NumberOfFrames)
    _same("its frames", (len(pixels), len(seg.PerFrameFunctionalGroupsSequence)), (count, count))
    slices = {(f.sop_class, f.sop_instance, f.number): k for k, f in enumerate(origin.frames)}
    planes = study_corners(analysis.study)
    out: list[Frame] = []
    for k, plane in enumerate(pixels):
        derived = seg.PerFrameFunctionalGroupsSequence[k].DerivationImageSequence[0]
        source = derived.SourceImageSequence[0]
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
        position, orientation, measures, segment = (
            group_of(seg, k + 1, f"{name}Sequence") or Dataset()
            for name in (
                "PlanePosition",
                "PlaneOrientation",
                "PixelMeasures",
                "SegmentIdentification",
            )
        )
        corners = frame_corners(
            position.ImagePositionPatient,
            orientation.ImageOrientationPatient,
            measures.PixelSpacing,
            rows,
            columns,
        )
        _near(f"the place of frame {k + 1}", corners, planes[index])
        if index in origin.corners:
            theirs = origin.corners[index]
            _near(f"frame {k + 1} against its source", corners, theirs, SOURCE_MM)
        out.append(Frame(int(segment.ReferencedSegmentNumber), index, plane, corners))
    pairs = {(frame.segment, frame.slice_index) for frame in out}
    _same("its pairs of segment and slice", len(pairs), len(out))
    return out


def _centroid(frames: list[Frame]) -> NDArray[np.float64]:
    """(3,) LPS mm of the middle of a segment's voxels, by the file's own numbers."""
    total, voxels = np.zeros(3), 0
    for frame in frames:
        rows, columns = np.nonzero(frame.pixels)
        first, across, down = frame.corners
        # Shares of the way to the far corners; a side of one pixel has no way.
        right = columns.sum() / max(frame.pixels.shape[1] - 1, 1)
        below = rows.sum() / max(frame.pixels.shape[0] - 1, 1)
        total += first * len(rows) + (across - first) * right + (down - first) * below
        voxels += len(rows)
    return total / voxels


def _children(item: Dataset, meaning: str) -> list[Dataset]:
    """The content items of that name right below an item."""
    return [
        child
        for child in item.get("ContentSequence", ())
        if child.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]
