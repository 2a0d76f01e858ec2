"""The mask and the probability as DICOM segmentations (stage: write).

A SEG (PS3.3, A.51) is binary, one segment for each finding, or fractional, one segment with the probability.
Its frames lie on the source's own instances and frames.

Words: a *slice* is the study's, a *frame* is the SEG's. highdicom builds the object from sources of single
frames, or from one instance with many. Ours may be several instances with many frames each, in any order and
with an orientation for each frame. So highdicom gets a single-frame *stand-in* for each slice, made from the
study's geometry; then the references to the stand-ins are replaced by those to the real instances and frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import compress
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless
from pydicom.valuerep import DS

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.dicom import new_dataset
from gliosight.errors import InternalError, UnsupportedInputError
from gliosight.study import Geometry
from gliosight.write.dicom import codes
from gliosight.write.dicom.readback import (
    SOURCE_MM,
    check_probability,
    check_segmentation,
    checked,
)
from gliosight.write.dicom.source import (
    LPS,
    Origin,
    SourceFrame,
    Uids,
    origin_of,
    uid_from,
    uids_of,
)
from gliosight.write.result import rounded

MANUFACTURER = "gliosight"
SERIES_NUMBERS = {"segmentation": 9001, "probability": 9002, "report": 9003}
# What a fractional segmentation's 1.0 is stored as.
FRACTIONS = 255
MOST_SEGMENTS = 65535
CANDIDATE = "Candidate: it is uncertain whether this is a tumour."
# Further off than rounded headers can be, mm: that is a mistake of ours, which the read-back reports.
IMPRECISE_MM = 5.0


def write_segmentation(analysis: Analysis, path: Path, origin: Origin | None = None) -> None:
    """Write the mask as a binary SEG, one segment for each finding; read back before it stays.

    Parameters
    ----------
    analysis : Analysis
    path : Path
    origin : Origin, optional
        The analysis' own, where it is known already.

    Raises
    ------
    UnsupportedInputError
        The study was not DICOM, was not assessed, or its headers do not allow a SEG; see
        `why_not`.
    InternalError
        What was written is not what was found. The file is removed.
    """
    with checked(path):
        origin = _segmentable(analysis, origin)
        segments = [
            _segment(analysis, finding.id, f"{_named(analysis)}, finding {finding.id}", finding)
            for finding in analysis.findings
        ] or [_segment(analysis, 1, "Glioma, none found")]
        seg = _build(
            analysis,
            origin,
            analysis.labels,
            segments,
            "segmentation",
            segmentation_type="BINARY",
            # An empty one has all frames, all empty: it says of every slice that nothing is there.
            omit_empty_frames=analysis.status is not Status.NOT_FOUND,
            content_label="GLIOMA",
            content_description="FLAIR abnormality, research use only",
            series_description="Glioma segmentation, research use only",
        )
        save(seg, path, analysis)
        check_segmentation(path, analysis, origin)


def write_probability(analysis: Analysis, path: Path, origin: Origin | None = None) -> None:
    """Write the probability map as a fractional SEG of all slices, as `write_segmentation` does."""
    with checked(path):
        origin = _segmentable(analysis, origin)
        seg = _build(
            analysis,
            origin,
            np.clip(analysis.maps.probability, 0, 1),
            [_segment(analysis, 1, "Glioma, probability")],
            "probability",
            segmentation_type="FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=FRACTIONS,
            omit_empty_frames=False,
            content_label="PROBABILITY",
            content_description="Glioma probability, research use only",
            series_description="Glioma probability, research use only",
        )
        # Not by highdicom, which would take GDCM where that is installed: GDCM aborts the process on
        # frames of an odd number of pixels (3.2.6).
        compress(seg, RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        save(seg, path, analysis)
        check_probability(path, analysis, origin)


def _segmentable(analysis: Analysis, origin: Origin | None) -> Origin:
    origin = origin or origin_of(analysis)
    if (reason := why_not(analysis, origin)) is not None:
        remedy = "no segmentation object can be written; use the mask file instead"
        raise UnsupportedInputError(reason, where=analysis.study.study_id, remedy=remedy)
    return origin


def why_not(analysis: Analysis, origin: Origin) -> str | None:
    """Why the headers, or the answer, allow no SEG; ``None`` if they do."""
    if analysis.status is Status.NOT_ASSESSED:
        return "the study was not assessed, and an empty segmentation would claim a negative"
    if analysis.status is not Status.NOT_FOUND and not analysis.findings:
        return "nothing is outlined, and an empty segmentation would claim a negative"
    if origin.frame_of_reference is None:
        return "the series has no single frame of reference"
    if analysis.study.geometry is None:
        return "the series has no geometry"
    if SOURCE_MM < origin.imprecise_mm <= IMPRECISE_MM:
        return (
            "direction or pixel size differ between the images, or their cosines are not unit vectors: "
            f"by their own headers they lie up to {origin.imprecise_mm:.2f} mm from where they are taken "
            "to lie"
        )
    if len(analysis.findings) > MOST_SEGMENTS:
        return f"it holds at most {MOST_SEGMENTS} segments"
    return None


def equipment(analysis: Analysis, uids: Uids, kind: str) -> dict[str, Any]:
    """What the constructors of all our objects take: who made it, and its own UIDs and numbers."""
    return {
        "series_instance_uid": uids.series,
        "series_number": SERIES_NUMBERS[kind],
        "sop_instance_uid": uids.instance,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": "gliosight",
        "software_versions": short(analysis.provenance.version),
        "device_serial_number": short(analysis.provenance.model_sha256),
    }


def save(dataset: Dataset, path: Path, analysis: Analysis) -> None:
    """Write a data set as a DICOM file; the preamble is zero, the writer is named (PS3.10, 7.1)."""
    dataset.preamble = b"\0" * 128
    dataset.file_meta.ImplementationClassUID = uid_from("gliosight implementation class")
    version = short(f"GLIOSIGHT {analysis.provenance.version}", 16)
    dataset.file_meta.ImplementationVersionName = version
    dataset.save_as(path, enforce_file_format=True)


def algorithm_parameters(analysis: Analysis) -> dict[str, str]:
    """What the answer depends on besides the pixels, in words."""
    return {
        "model_sha256": analysis.provenance.model_sha256,
        "found_from": f"{rounded(analysis.decision.found_from):g}",
        "uncertain_from": f"{rounded(analysis.decision.uncertain_from):g}",
        "slice_threshold": f"{rounded(analysis.decision.slice_threshold):g}",
        "channels": "+".join(analysis.provenance.channels),
    }


def short(text: str, longest: int = 64) -> str:
    """Text that a DICOM string attribute takes."""
    clean = "".join(char if char.isprintable() and char != "\\" else "_" for char in text)
    return clean.encode("ascii", "replace").decode()[:longest].strip() or "unknown"


def tracking_id(finding: Finding) -> str:
    """What people call a finding, in SEG and SR alike."""
    return f"Finding {finding.id}"


def _segment(analysis: Analysis, number: int, label: str, finding: Finding | None = None) -> Any:
    made_by = analysis.provenance
    corrected = any(flag.code == "MASK_CORRECTED" for flag in analysis.flags)
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.ABNORMAL,
        segmented_property_type=codes.PRIMARY_NEOPLASM,
        algorithm_type="SEMIAUTOMATIC" if corrected else "AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=short(made_by.model),
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=short(made_by.version),
            source=MANUFACTURER,
            parameters=algorithm_parameters(analysis),
        ),
        tracking_uid=finding and finding.tracking_uid,
        tracking_id=finding and tracking_id(finding),
        display_color=hd.color.CIELabColor.from_string("red"),
    )
    region = hd.sr.CodedConcept.from_code(codes.BRAIN)
    if finding is not None and finding.side in codes.LATERALITY:
        side = hd.sr.CodedConcept.from_code(codes.LATERALITY[finding.side])
        region.AnatomicRegionModifierSequence = [side]
    segment.AnatomicRegionSequence = [region]
    segment.SegmentDescription = f"{MASK_MEANING} {RESEARCH_USE}"
    if analysis.status is Status.UNCERTAIN:
        segment.SegmentDescription = f"{CANDIDATE} {segment.SegmentDescription}"
    return segment


def _named(analysis: Analysis) -> str:
    return "Glioma candidate" if analysis.status is Status.UNCERTAIN else "Glioma"


def _build(
    analysis: Analysis,
    origin: Origin,
    pixels: NDArray[Any],
    segments: list[Any],
    kind: str,
    **options: Any,
) -> Dataset:
    geometry = analysis.study.geometry
    if geometry is None:
        raise InternalError("a segmentation object without geometry")
    uids = uids_of(analysis, kind)
    seg = hd.seg.Segmentation(
        source_images=_stand_ins(analysis.study.shape, origin, geometry),
        pixel_array=pixels,
        segment_descriptions=segments,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_creator_name="Gliosight^AI",
        **equipment(analysis, uids, kind),
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
    seg.update(new_dataset(**origin.loss))
    return seg


def _stand_ins(shape: tuple[int, int, int], origin: Origin, geometry: Geometry) -> list[Dataset]:
    """One single-frame header for each slice; its SOP Instance UID ends in the slice's number."""

    def decimals(values: Any) -> list[DS]:
        return [DS(float(value) + 0.0, auto_format=True) for value in values]  # no -0.0

    thickness = origin.thickness or geometry.slice_thickness or geometry.slice_spacing
    directions = (geometry.column_direction * LPS, geometry.row_direction * LPS)
    shared = new_dataset(
        SOPClassUID=MRImageStorage,
        Modality="MR",
        Rows=shape[1],
        Columns=shape[2],
        FrameOfReferenceUID=origin.frame_of_reference,
        PositionReferenceIndicator=origin.position_reference,
        ImageOrientationPatient=decimals(np.concatenate(directions)),
        PixelSpacing=decimals(geometry.spacing),
        SliceThickness=None if thickness is None else decimals([thickness])[0],
    )
    shared.update(origin.dataset())
    out = []
    for k, position in enumerate(geometry.origins * LPS):
        stand_in = new_dataset(
            SOPInstanceUID=f"2.25.0.{k}", ImagePositionPatient=decimals(position)
        )
        stand_in.update(shared)
        out.append(stand_in)
    return out


def _refer(seg: Dataset, origin: Origin, uids: Uids) -> None:
    """Replace the references to stand-ins by those to the source's instances and frames."""
    real = {f"2.25.0.{k}": frame for k, frame in enumerate(origin.frames)}
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = real.get(source.ReferencedSOPInstanceUID)
        if frame is not None:  # the item of a slice is the same object in all its segments
            source.update(_reference(frame))
            if frame.number is not None:
                source.ReferencedFrameNumber = frame.number
    seg.ReferencedSeriesSequence = [
        new_dataset(
            SeriesInstanceUID=uid,
            ReferencedInstanceSequence=[_reference(instance) for instance in instances],
        )
        for uid, instances in origin.series.items()
    ]
    seg.SourceImageSequence = [_reference(instance) for instance in origin.instances]
    for dimension in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        dimension.DimensionOrganizationUID = uids.dimensions


def _reference(instance: SourceFrame) -> Dataset:
    return new_dataset(
        ReferencedSOPClassUID=instance.sop_class, ReferencedSOPInstanceUID=instance.sop_instance
    )
