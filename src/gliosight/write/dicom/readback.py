"""What was written, read again on another path and compared (stage: write).

A written file is compared with the `Analysis` and the `Origin` it was made from; what differs is an
`InternalError`, and `checked` removes the file. Only pydicom and numpy are used here, nothing of what wrote
the file: mirrored segmentations are this field's classic bug, and they come from a writer that trusts itself.

Compared is what a reader could get wrong: every voxel of every segment; where each frame's corners lie in the
patient, by the file's own functional groups, against the study's geometry and against the source's own
headers; each segment's centroid in millimetres; the instances and frames referred to; the identity. The
values of the report are copied from the findings, and tests compare them.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gliosight.analysis import Analysis, Finding
from gliosight.dicom import quietly
from gliosight.errors import GliosightError, InternalError
from gliosight.write.dicom.headers import UNREADABLE, groups, text, value_of
from gliosight.write.dicom.identity import Origin, dicom_source
from gliosight.write.dicom.uids import Uids

# Between the file and the study, mm: numbers of 16 characters leave far less.
EXACT_MM = 0.001
# Between the file and the source's header, mm: a quarter of a common pixel, as rounded cosines may be off.
# What is further apart is not written, see `imprecise_by`.
SOURCE_MM = 0.25
# Further off than headers that are let pass can be, mm: that is a mistake of ours.
IMPRECISE_MM = 5.0
# Cosines this near to those of perpendicular unit vectors are exact: headers keep six digits of them.
EXACT_COSINE = 1e-4
LPS = np.array([-1.0, -1.0, 1.0])
PACKAGE = Path(__file__).resolve().parents[2]
REPORT_IT = "it was withheld; please report this with the version and the scanner's make"


# Position, orientation and pixel spacing, as a header has them.
_Place: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Frame:
    """A frame of a written SEG.

    Parameters
    ----------
    segment : int
    index : int
        The native slice it refers to.
    pixels : (rows, columns) array
    corners : (3, 3) array
        Where it lies by the file's own functional groups; see `frame_corners`.
    """

    segment: int
    index: int
    pixels: NDArray[Any]
    corners: NDArray[np.float64]


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
        if isinstance(error, (GliosightError, OSError, MemoryError)):
            raise
        if not isinstance(error, Exception):
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
    """Compare a written binary SEG with the mask, the findings and the geometry.

    Raises
    ------
    InternalError
        Anything differs.
    """
    with _reading(path) as seg:
        frames = _frames(seg, analysis, origin)
        numbers = [int(one.SegmentNumber) for one in seg.SegmentSequence]
        found = {one.id: one for one in analysis.findings}
        _same("its segments", numbers, sorted(found) or [1])
        _same("its type", seg.SegmentationType, "BINARY")
        seen = np.zeros(analysis.study.shape, dtype=np.uint16)
        for one in frames:
            inside = one.pixels > 0
            _same("the voxels of two segments", int(seen[one.index][inside].any()), 0)
            seen[one.index][inside] = one.segment
        if not np.array_equal(seen > 0, analysis.mask):
            wrong = int(np.count_nonzero((seen > 0) != analysis.mask))
            raise _differs("its mask", f"{wrong} other voxels", "none")
        if not found:
            _same("its frames", sorted(one.index for one in frames), list(range(len(seen))))
        held: dict[int, list[Frame]] = {}
        for one in frames:
            held.setdefault(one.segment, []).append(one)
        _same("the segments of its frames", sorted(held), sorted(numbers))
        for segment in seg.SegmentSequence:
            finding = found.get(int(segment.SegmentNumber))
            if finding is not None:
                _check_segment(segment, finding, held[finding.id])


def check_probability(path: Path, analysis: Analysis, origin: Origin) -> None:
    """Compare a written fractional SEG with the probability map.

    Raises
    ------
    InternalError
        Anything differs.
    """
    with _reading(path) as seg:
        frames = _frames(seg, analysis, origin)
        _same("its type", seg.SegmentationFractionalType, "PROBABILITY")
        slices = list(range(len(analysis.maps.probability)))
        _same("its frames", sorted(one.index for one in frames), slices)
        most = np.float32(seg.MaximumFractionalValue)
        for one in frames:
            wanted = np.clip(analysis.maps.probability[one.index], 0, 1)
            apart = float(np.abs(one.pixels / most - wanted).max())
            if not apart <= 0.5 / float(most) + 1e-6:
                raise _differs(f"slice {one.index + 1}", f"{apart:.4f} off", "rounding alone")


def imprecise_by(analysis: Analysis) -> float:
    """How far, mm, slices lie from where headers put them that are no exact headers; 0 where they are.

    A reader straightens cosines that are no unit vectors, and takes one direction and pixel size for a stack
    whose headers differ a little. Where they are exact, a distance is a mistake of ours.
    """
    places = _source_places(analysis)
    if not places or _exact(list(places.values())):
        return 0.0
    ours, theirs = _study_corners(analysis), _source_corners(analysis)
    return max(float(np.abs(ours[k] - one).max()) for k, one in theirs.items())


def _exact(places: list[_Place]) -> bool:
    """Whether directions are perpendicular unit vectors, and with the pixel the same in all slices."""
    directions = np.array([one[1].reshape(2, 3) for one in places])
    products = directions @ directions.transpose(0, 2, 1)
    return (
        float(np.abs(products - np.eye(2)).max()) < EXACT_COSINE
        and float(np.abs(directions - directions[0]).max()) < EXACT_COSINE
        and all(np.allclose(one[2], places[0][2], rtol=EXACT_COSINE) for one in places)
    )


def check_report(path: Path, analysis: Analysis, origin: Origin, seg: Uids | None) -> None:
    """Compare what a written report refers to: patient, images, and for each finding its segment.

    Raises
    ------
    InternalError
        Anything differs.
    """
    with _reading(path) as report:
        _check_identity(report, origin)
        referred = {
            (str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID))
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for one in series.ReferencedSOPSequence
        }
        wanted = {(one.series, one.sop_instance) for one in origin.instances}
        if seg is not None:
            wanted.add((seg.series, seg.instance))
        _same("its evidence", referred, wanted)
        groups_of_findings = _groups(report)[1:]  # the first is the whole study's
        _same("its findings", len(groups_of_findings), len(analysis.findings))
        for group, finding in zip(groups_of_findings, analysis.findings, strict=True):
            name = f"finding {finding.id}"
            _same(f"the tracking of {name}", _uid(group), finding.tracking_uid)
            segment = None if seg is None else (seg.instance, finding.id)
            _same(f"the segment of {name}", _segment(group), segment)


def frame_corners(
    position: Any, orientation: Any, spacing: Any, rows: int, columns: int
) -> NDArray[np.float64]:
    """(3, 3) LPS mm of a frame's first pixel, the last of its first row, the last of its first column."""
    origin = np.array([float(one) for one in position])
    along_row, along_column = np.array([float(one) for one in orientation]).reshape(2, 3)
    between_rows, between_columns = (float(one) for one in spacing)
    return np.stack(
        [
            origin,
            origin + along_row * between_columns * (columns - 1),
            origin + along_column * between_rows * (rows - 1),
        ]
    )


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


def _check_identity(written: Dataset, origin: Origin) -> None:
    _same("its study", str(written.StudyInstanceUID), origin.study)
    for keyword, value in origin.attributes.items():
        # The values themselves are nobody's business: they name the patient.
        if keyword not in written or _bare(text(written, keyword)) != _bare(value):
            raise InternalError(f"a DICOM object read back differs in {keyword}")


def _bare(value: str) -> str:
    """A value without the padding and the trailing separators of a name, which say nothing."""
    return value.rstrip(" ^=")


def _frames(seg: Dataset, analysis: Analysis, origin: Origin) -> list[Frame]:
    """Segment number, slice and pixels of each frame, its place and references compared."""
    _check_identity(seg, origin)
    _same("its frame of reference", seg.FrameOfReferenceUID, origin.frame_of_reference)
    _same(
        "its instances",
        {
            (str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID))
            for series in seg.ReferencedSeriesSequence
            for one in series.ReferencedInstanceSequence
        },
        {(one.series, one.sop_instance) for one in origin.instances},
    )
    shape = analysis.study.shape
    _same("its matrix", (int(seg.Rows), int(seg.Columns)), shape[1:])
    if seg.file_meta.TransferSyntaxUID.is_encapsulated:
        seg.pixel_array_options(decoding_plugin="pydicom")  # not GDCM, see `write_probability`
    pixels = seg.pixel_array.reshape(-1, *shape[1:])
    count = int(seg.NumberOfFrames)
    _same("its frames", (len(pixels), len(seg.PerFrameFunctionalGroupsSequence)), (count, count))
    slices = {
        (one.sop_class, one.sop_instance, one.number): k for k, one in enumerate(origin.frames)
    }
    planes = _study_corners(analysis)
    theirs = _source_corners(analysis)
    out: list[Frame] = []
    for k, plane in enumerate(pixels):
        source = seg.PerFrameFunctionalGroupsSequence[k].DerivationImageSequence[0]
        refers = source.SourceImageSequence[0]
        number = refers.get("ReferencedFrameNumber")
        key = (
            str(refers.ReferencedSOPClassUID),
            str(refers.ReferencedSOPInstanceUID),
            None if number is None else int(number),
        )
        if key not in slices:
            raise _differs(f"the source of frame {k + 1}", "another picture", "one of the series")
        index = slices[key]
        corners = _corners(seg, k + 1)
        _near(f"the place of frame {k + 1}", corners, planes[index], EXACT_MM)
        if index in theirs:
            _near(f"frame {k + 1} against its source", corners, theirs[index], SOURCE_MM)
        segment = groups(seg, k + 1, "SegmentIdentificationSequence")
        if segment is None:
            raise _differs(f"frame {k + 1}", "no segment", "one")
        out.append(Frame(int(segment.ReferencedSegmentNumber), index, plane, corners))
    _same(
        "its pairs of segment and slice", len({(one.segment, one.index) for one in out}), len(out)
    )
    return out


def _corners(dataset: Dataset, number: int) -> NDArray[np.float64]:
    place, turn, size = (
        groups(dataset, number, name)
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    )
    if place is None or turn is None or size is None:
        raise _differs(f"frame {number}", "no place", "one")
    return frame_corners(
        place.ImagePositionPatient,
        turn.ImageOrientationPatient,
        size.PixelSpacing,
        int(dataset.Rows),
        int(dataset.Columns),
    )


def _study_corners(analysis: Analysis) -> NDArray[np.float64]:
    """(slices, 3, 3) corners of the study's slices, from RAS+ to LPS."""
    geometry = analysis.study.geometry
    if geometry is None:
        raise _differs("the study", "no geometry", "one")
    slices, rows, columns = analysis.study.shape
    index = np.zeros((slices, 3, 3))
    index[:, :, 0] = np.arange(slices)[:, None]
    index[:, 1, 2] = columns - 1
    index[:, 2, 1] = rows - 1
    return np.asarray(geometry.to_world(index) * LPS)


def _source_places(analysis: Analysis) -> dict[int, _Place]:
    """Position, orientation and pixel spacing of the slices whose own headers tell them."""
    source = dicom_source(analysis)
    out = {}
    for k, (one, number) in enumerate(source.frames):
        header = source.headers[one]
        found = [
            _own(header, number, sequence, keyword)
            for sequence, keyword in (
                ("PlanePositionSequence", "ImagePositionPatient"),
                ("PlaneOrientationSequence", "ImageOrientationPatient"),
                ("PixelMeasuresSequence", "PixelSpacing"),
            )
        ]
        if all(value is not None for value in found):
            with contextlib.suppress(*UNREADABLE):
                where, turn, pixel = (np.array([float(part) for part in one]) for one in found)
                if (len(where), len(turn), len(pixel)) == (3, 6, 2):
                    out[k] = where, turn, pixel
    return out


def _source_corners(analysis: Analysis) -> Mapping[int, NDArray[np.float64]]:
    """Corners of the slices by the source's own headers, where those tell them."""
    _, rows, columns = analysis.study.shape
    return {
        k: frame_corners(*place, rows, columns) for k, place in _source_places(analysis).items()
    }


def _own(header: Dataset, number: int, sequence: str, keyword: str) -> Any:
    group = groups(header, number, sequence)
    value = None if group is None else value_of(group, keyword)
    return value_of(header, keyword) if value is None else value


def _near(
    what: str, found: NDArray[np.float64], wanted: NDArray[np.float64], within: float
) -> None:
    apart = float(np.abs(found - wanted).max())
    if not apart <= within:
        raise _differs(what, f"{apart:.3f} mm off", f"at most {within} mm")


def _check_segment(segment: Dataset, finding: Finding, frames: list[Frame]) -> None:
    """Compare a segment's voxels with the finding's, their centroid by the file's own numbers."""
    name = f"segment {finding.id}"
    _same(f"the tracking of {name}", str(segment.TrackingUID), finding.tracking_uid)
    voxels = sum(int(np.count_nonzero(one.pixels)) for one in frames)
    _same(f"the voxels of {name}", voxels, finding.volume_px)
    if finding.centroid_mm is None:
        raise _differs(name, "a place", "none, as the finding has none")
    total = np.zeros(3)
    for one in frames:
        rows, columns = np.nonzero(one.pixels)
        first, across, down = one.corners
        # Shares of the way to the far corners; a side of one pixel has no way.
        right = columns.sum() / max(one.pixels.shape[1] - 1, 1)
        below = rows.sum() / max(one.pixels.shape[0] - 1, 1)
        total += first * len(rows) + (across - first) * right + (down - first) * below
    ours = np.array(finding.centroid_mm) * LPS
    _near(f"the centroid of {name}", total / voxels, ours, EXACT_MM)


def _groups(report: Dataset) -> list[Dataset]:
    """The measurement groups (TID 1411, 1501) of a report, in their order."""
    held = [one for one in _items(report) if _meaning(one) == "Imaging Measurements"]
    return [
        group for one in held for group in _items(one) if _meaning(group) == "Measurement Group"
    ]


def _uid(group: Dataset) -> str:
    return next((str(one.UID) for one in _items(group) if one.ValueType == "UIDREF"), "")


def _segment(group: Dataset) -> tuple[str, int] | None:
    for item in _items(group):
        if _meaning(item) == "Referenced Segment":
            (one,) = item.ReferencedSOPSequence
            return str(one.ReferencedSOPInstanceUID), int(one.ReferencedSegmentNumber)
    return None


def _items(item: Dataset) -> tuple[Dataset, ...]:
    return tuple(item.get("ContentSequence", ()))


def _meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)
