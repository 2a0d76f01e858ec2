"""The mask and the probability as DICOM segmentations (stage: write).

In: an `Analysis` of a DICOM study. Out: a SEG file (PS3.3, A.51): binary, one segment for each finding, or
fractional, one segment with the probability. Its frames lie on the source's own instances and frames.

Words: a *slice* is the study's, a *frame* is the SEG's. highdicom builds the object; it knows sources of
single frames, or one instance with many. Ours may be several instances with many frames each, in any order
and with their orientation frame by frame. So highdicom is given a single-frame *stand-in* for each slice,
made from the study's geometry, and the references to the stand-ins are replaced by those to the real
instances and frames in the end. `readback` then checks the written file against both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import compress
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless
from pydicom.valuerep import DS
from scipy import ndimage

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Status
from gliosight.dicom import quietly
from gliosight.errors import InternalError, UnsupportedInputError
from gliosight.study import Geometry
from gliosight.write.dicom import codes
from gliosight.write.dicom.identity import Origin, SourceFrame, origin_of
from gliosight.write.dicom.readback import (
    IMPRECISE_MM,
    SOURCE_MM,
    check_probability,
    check_segmentation,
    checked,
    imprecise_by,
)
from gliosight.write.dicom.uids import Uids, uid_from, uids_of
from gliosight.write.result import DIGITS

MANUFACTURER = "gliosight"
CREATOR = "Gliosight^AI"
IMPLEMENTATION_CLASS = uid_from("gliosight implementation class")
SERIES_NUMBERS = {"segmentation": 9001, "probability": 9002, "report": 9003}
# What a fractional segmentation's 1.0 is stored as.
FRACTIONS = 255
MOST_SEGMENTS = 65535
CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


def write_segmentation(analysis: Analysis, path: Path) -> None:
    """Write the mask as a binary SEG, one segment for each finding; read back before it stays.

    Raises
    ------
    UnsupportedInputError
        The study is no DICOM study, was not assessed, or its headers do not allow a SEG; see
        `why_not`.
    InternalError
        What was written is not what was found. The file is removed.
    """
    with checked(path):
        origin = segmentable(analysis)
        segments = [
            _segment(analysis, one.id, f"Glioma, finding {one.id}", one)
            for one in analysis.findings
        ] or [_segment(analysis, 1, "Glioma, none found")]
        seg = _build(
            analysis,
            origin,
            finding_labels(analysis),
            segments,
            "segmentation",
            segmentation_type="BINARY",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            # An empty one has all frames, all empty: it says of every slice that nothing is there.
            omit_empty_frames=analysis.status is not Status.NOT_FOUND,
            content_label="GLIOMA",
            content_description="FLAIR abnormality, research use only",
            series_description="Glioma segmentation, research use only",
        )
        save(seg, path, analysis)
        check_segmentation(path, analysis, origin)


def write_probability(analysis: Analysis, path: Path) -> None:
    """Write the probability map as a fractional SEG of all slices; read back before it stays.

    Raises
    ------
    UnsupportedInputError, InternalError
        As `write_segmentation`.
    """
    with checked(path):
        origin = segmentable(analysis)
        seg = _build(
            analysis,
            origin,
            np.clip(analysis.maps.probability, 0, 1),
            [_segment(analysis, 1, "Glioma, probability")],
            "probability",
            segmentation_type="FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=FRACTIONS,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=False,
            content_label="PROBABILITY",
            content_description="Glioma probability, research use only",
            series_description="Glioma probability, research use only",
        )
        # Not by highdicom, which would take GDCM where that is installed: GDCM aborts the process on
        # frames of an odd number of pixels (3.2.6).
        with quietly():
            compress(seg, RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        save(seg, path, analysis)
        check_probability(path, analysis, origin)


def segmentable(analysis: Analysis) -> Origin:
    """The source of an analysis that a SEG can be written for.

    Raises
    ------
    UnsupportedInputError
        It cannot; the message says why.
    """
    origin = origin_of(analysis)
    reason = why_not(analysis, origin)
    if reason is not None:
        raise UnsupportedInputError(
            reason,
            where=analysis.study.study_id,
            remedy="no segmentation object can be written; use the mask file instead",
        )
    return origin


def why_not(analysis: Analysis, origin: Origin) -> str | None:
    """Why the headers, or the answer, allow no SEG; ``None`` if they do."""
    if analysis.status is Status.NOT_ASSESSED:
        return "the study was not assessed, and an empty segmentation would claim a negative"
    if analysis.status is Status.FOUND and not analysis.findings:
        return "the model outlines nothing, and an empty segmentation would claim a negative"
    if origin.frame_of_reference is None:
        return "the series has no single frame of reference"
    if analysis.study.geometry is None:
        return "the series has no geometry"
    if SOURCE_MM < (apart := imprecise_by(analysis)) <= IMPRECISE_MM:
        return (
            "direction or pixel size differ between the images, or their cosines are not unit vectors: "
            f"by their own headers they lie up to {apart:.2f} mm from where they are taken to lie"
        )
    if len(analysis.findings) > MOST_SEGMENTS:
        return f"it holds at most {MOST_SEGMENTS} segments"
    return None


def finding_labels(analysis: Analysis) -> NDArray[np.uint16]:
    """The mask with the number of the finding each voxel belongs to.

    Returns
    -------
    (slices, rows, columns) uint16 array
        0 outside.

    Raises
    ------
    InternalError
        Lesions and findings are not the same.
    """
    out = np.zeros(analysis.mask.shape, dtype=np.uint16)
    if int(np.count_nonzero(analysis.mask)) != sum(one.volume_px for one in analysis.findings):
        raise InternalError("the mask and its findings differ")
    boxes = np.array([one.bounding_box_voxel for one in analysis.findings]).reshape(-1, 2, 3)
    if len(boxes) == 0:
        return out
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    around = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    labels, count = ndimage.label(analysis.mask[around], structure=CONNECTED_26)
    if count != len(analysis.findings):
        raise InternalError(f"{count} lesions are not {len(analysis.findings)} findings")
    places = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    free = set(range(1, count + 1))
    numbers = np.zeros(count + 1, dtype=np.uint16)
    for one, box in zip(analysis.findings, boxes - low, strict=True):
        wanted = tuple(slice(a, b) for a, b in box.T.tolist())
        fits = [k for k in sorted(free) if places[k - 1] == wanted and sizes[k] == one.volume_px]
        if len(fits) > 1:  # two lesions can share box and size; then their centres tell them apart
            centre = np.array(one.centroid_voxel) - low
            fits.sort(key=lambda k: _apart(labels, places[k - 1], k, centre))
        if not fits:
            raise InternalError(f"finding {one.id} is not in the mask")
        numbers[fits[0]] = one.id
        free.remove(fits[0])
    out[around] = numbers[labels]
    return out


def lps_planes(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the slices lie, in DICOM's words (PS3.3, C.7.6.2.1.1).

    Returns
    -------
    positions : (slices, 3) array
        ImagePositionPatient, LPS mm.
    orientation : (6,) array
        ImageOrientationPatient: first along a row, where the column index grows.
    """
    to_lps = np.array([-1.0, -1.0, 1.0])
    orientation = np.concatenate(
        [geometry.column_direction * to_lps, geometry.row_direction * to_lps]
    )
    return geometry.origins * to_lps + 0.0, orientation + 0.0  # no -0.0


def save(dataset: Dataset, path: Path, analysis: Analysis) -> None:
    """Write a data set as a DICOM file; the preamble is zero, the writer is named (PS3.10, 7.1)."""
    with quietly():
        dataset.preamble = b"\0" * 128
        dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS
        dataset.file_meta.ImplementationVersionName = short(
            f"GLIOSIGHT {analysis.provenance.version}", 16
        )
        dataset.save_as(path, enforce_file_format=True)


def algorithm_parameters(analysis: Analysis) -> dict[str, str]:
    """What the answer depends on besides the pixels, in words."""
    return {
        "model_sha256": analysis.provenance.model_sha256,
        "score_threshold": f"{round(analysis.decision.score_threshold, DIGITS):g}",
        "slice_threshold": f"{round(analysis.decision.slice_threshold, DIGITS):g}",
        "channels": "+".join(analysis.provenance.channels),
    }


def short(text: str, longest: int = 64) -> str:
    """Text that a DICOM string attribute takes."""
    clean = "".join(one if one.isprintable() and one != "\\" else "_" for one in text)
    return clean.encode("ascii", "replace").decode()[:longest].strip() or "unknown"


def _apart(labels: NDArray[Any], box: Any, label: int, centre: NDArray[np.float64]) -> float:
    corner = np.array([one.start for one in box], dtype=np.float64)
    mean = np.argwhere(labels[box] == label).mean(axis=0) + corner
    return float(np.abs(mean - centre).max())


def _segment(analysis: Analysis, number: int, label: str, finding: Any = None) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    made_by = analysis.provenance
    algorithm = AlgorithmIdentificationSequence(
        name=short(made_by.model),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=short(made_by.version),
        source=MANUFACTURER,
        parameters=algorithm_parameters(analysis),
    )
    region = CodedConcept.from_code(codes.BRAIN)
    if finding is not None and finding.side in codes.LATERALITY:
        side = CodedConcept.from_code(codes.LATERALITY[finding.side])
        region.AnatomicRegionModifierSequence = [side]
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.ABNORMAL,
        segmented_property_type=codes.PRIMARY_NEOPLASM,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=None if finding is None else finding.tracking_uid,
        tracking_id=None if finding is None else tracking_id(finding.id),
        display_color=CIELabColor.from_string("red"),
    )
    segment.AnatomicRegionSequence = [region]
    segment.SegmentDescription = f"{MASK_MEANING} {RESEARCH_USE}"
    return segment


def tracking_id(number: int) -> str:
    """What people call a finding, in SEG and SR alike."""
    return f"Finding {number}"


def _build(
    analysis: Analysis,
    origin: Origin,
    pixels: NDArray[Any],
    segments: list[Any],
    kind: str,
    **options: Any,
) -> Dataset:
    from highdicom.seg import Segmentation

    geometry = analysis.study.geometry
    if geometry is None:
        raise InternalError("a segmentation object without geometry")
    uids = uids_of(analysis, kind)
    with quietly():
        seg = Segmentation(
            source_images=_stand_ins(analysis.study.shape, origin, geometry),
            pixel_array=pixels,
            segment_descriptions=segments,
            series_instance_uid=uids.series,
            series_number=SERIES_NUMBERS[kind],
            sop_instance_uid=uids.instance,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name="gliosight",
            software_versions=short(analysis.provenance.version),
            device_serial_number=short(analysis.provenance.model_sha256),
            content_creator_name=CREATOR,
            **options,
        )
        _refer(seg, origin, uids)
        measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        # highdicom says 1 mm of a single slice. Uneven gaps have no one spacing: positions tell.
        measures.pop("SpacingBetweenSlices", None)
        if geometry.slices > 1 and geometry.evenly_spaced:
            measures.SpacingBetweenSlices = DS(geometry.slice_spacing, auto_format=True)
        if "SliceThickness" in measures and measures.SliceThickness is None:
            del measures.SliceThickness
        for keyword, value in origin.loss.items():
            setattr(seg, keyword, value)
    return seg


def _stand_ins(shape: tuple[int, int, int], origin: Origin, geometry: Geometry) -> list[Dataset]:
    """One single-frame header for each slice; its SOP Instance UID ends in the slice's number."""
    positions, orientation = lps_planes(geometry)
    thickness = origin.thickness or geometry.slice_thickness or geometry.slice_spacing
    across = [DS(float(one), auto_format=True) for one in orientation]
    first = origin.dataset()
    first.SOPClassUID = MRImageStorage
    first.Modality = "MR"
    first.Rows, first.Columns = shape[1:]
    first.FrameOfReferenceUID = origin.frame_of_reference
    first.PositionReferenceIndicator = origin.position_reference
    first.ImageOrientationPatient = across
    first.PixelSpacing = [DS(float(one), auto_format=True) for one in geometry.spacing]
    first.SliceThickness = None if thickness is None else DS(float(thickness), auto_format=True)
    out = []
    for k, position in enumerate(positions):
        one = Dataset()
        one.update(first)
        one.SOPInstanceUID = _stand_in_uid(k)
        one.ImagePositionPatient = [DS(float(x), auto_format=True) for x in position]
        out.append(one)
    return out


def _stand_in_uid(index: int) -> str:
    return f"2.25.0.{index}"


def _refer(seg: Dataset, origin: Origin, uids: Uids) -> None:
    """Replace the references to stand-ins by those to the source's instances and frames."""
    real = {_stand_in_uid(k): one for k, one in enumerate(origin.frames)}
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = real.get(source.ReferencedSOPInstanceUID)
        if frame is None:  # the item of a slice is the same object in all its segments
            continue
        source.ReferencedSOPClassUID = frame.sop_class
        source.ReferencedSOPInstanceUID = frame.sop_instance
        if frame.number is not None:
            source.ReferencedFrameNumber = frame.number
    series = []
    for uid, instances in origin.series.items():
        series.append(Dataset())
        series[-1].SeriesInstanceUID = uid
        series[-1].ReferencedInstanceSequence = [_reference(one) for one in instances]
    seg.ReferencedSeriesSequence = series
    seg.SourceImageSequence = [_reference(one) for one in origin.instances]
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = uids.dimensions
    for index in seg.DimensionIndexSequence:
        index.DimensionOrganizationUID = uids.dimensions


def _reference(instance: SourceFrame) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class
    reference.ReferencedSOPInstanceUID = instance.sop_instance
    return reference
