"""The findings as a DICOM structured report (stage: write).

In: an `Analysis` of a DICOM study. Out: a Comprehensive 3D SR after TID 1500 (PS3.16): first a measurement
group for the whole study, which says whether a tumour is present and what the answer may be used for, then
one for each finding with its segment, its side and its measures. A measure that is not known is left out.

A study without a tumour gets a report that says Absent; one that was not assessed gets none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.dicom import quietly
from gliosight.errors import UnsupportedInputError, printable
from gliosight.write.dicom import codes
from gliosight.write.dicom.identity import UTF_8, Origin, origin_of
from gliosight.write.dicom.readback import check_report, checked
from gliosight.write.dicom.segmentation import (
    MANUFACTURER,
    SERIES_NUMBERS,
    algorithm_parameters,
    save,
    short,
    tracking_id,
    why_not,
)
from gliosight.write.dicom.uids import Uids, device_uid, uids_of
from gliosight.write.result import DIGITS

# Flags of this folder: a result exported later has them, the one written at once not yet.
OURS = ("SEG_NOT_WRITTEN", "SR_NOT_WRITTEN")


def write_report(analysis: Analysis, path: Path, *, segmented: bool | None = None) -> None:
    """Write the report; read back before it stays.

    Parameters
    ----------
    analysis : Analysis
    path : Path
    segmented : bool, optional
        Whether the findings refer to the SEG's segments. By default they do where a SEG can be written;
        else to the slices they are largest on.

    Raises
    ------
    UnsupportedInputError
        The study is no DICOM study, was not assessed, or its headers name no instances.
    InternalError
        What was written is not what was found. The file is removed.
    """
    with checked(path):
        origin = origin_of(analysis)
        if analysis.status is Status.NOT_ASSESSED:
            raise UnsupportedInputError(
                "no report object can be written: the study was not assessed",
                where=analysis.study.study_id,
                remedy="see result.json for the reason",
            )
        if segmented is None:
            segmented = why_not(analysis, origin) is None
        seg = uids_of(analysis, "segmentation") if segmented else None
        with quietly():
            report = _build(analysis, origin, seg)
        save(report, path, analysis)
        check_report(path, analysis, origin, seg)


def _build(analysis: Analysis, origin: Origin, seg: Uids | None) -> Dataset:
    from highdicom.sr import Comprehensive3DSR, MeasurementReport, ObservationContext

    uids = uids_of(analysis, "report" if seg else "report without segmentation")
    groups = [_study_group(analysis, uids.group)]
    groups += [_finding_group(analysis, origin, one, seg) for one in analysis.findings]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(analysis)),
        procedure_reported=codes.BRAIN_MRI,
        imaging_measurements=groups,
    )
    evidence = _evidence(origin, seg)
    if not all(one.isascii() for one in _warnings(analysis)):
        evidence[0].SpecificCharacterSet = UTF_8
    return Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBERS["report"],
        sop_instance_uid=uids.instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="gliosight",
        software_versions=short(analysis.provenance.version),
        device_serial_number=short(analysis.provenance.model_sha256),
        series_description="Glioma findings, research use only",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )


def _evidence(origin: Origin, seg: Uids | None) -> list[Dataset]:
    out: list[Dataset] = []
    for instance in origin.instances:
        # Patient and study are taken from the first alone.
        one = Dataset() if out else origin.dataset()
        one.StudyInstanceUID, one.SeriesInstanceUID = origin.study, instance.series
        one.SOPClassUID = instance.sop_class
        one.SOPInstanceUID = instance.sop_instance
        out.append(one)
    if seg is not None:
        one = Dataset()
        one.StudyInstanceUID, one.SeriesInstanceUID = origin.study, seg.series
        one.SOPClassUID = SegmentationStorage
        one.SOPInstanceUID = seg.instance
        out.append(one)
    return out


def _observer(analysis: Analysis) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext

    return ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(analysis),
            name="gliosight",
            manufacturer_name=MANUFACTURER,
            model_name=short(analysis.provenance.model),
            serial_number=short(analysis.provenance.model_sha256),
        ),
    )


def _algorithm(analysis: Analysis, *, whole: bool) -> Any:
    """What found it; ``whole`` says with which parameters, once a report is enough."""
    from highdicom.sr import AlgorithmIdentification

    parameters = algorithm_parameters(analysis).items() if whole else ()
    return AlgorithmIdentification(
        name=short(analysis.provenance.model),
        version=short(analysis.provenance.version),
        parameters=[f"{key}={value}" for key, value in parameters],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _study_group(analysis: Analysis, uid: str) -> Any:
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TrackingIdentifier,
    )

    present = analysis.status is Status.FOUND
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier="Study"),
        finding_type=codes.TUMOUR,
        finding_sites=[FindingSite(codes.BRAIN)],
        algorithm_id=_algorithm(analysis, whole=True),
        qualitative_evaluations=[
            QualitativeEvaluation(codes.PRESENCE, codes.PRESENT if present else codes.ABSENT)
        ],
    )
    _comment(group, RESEARCH_USE, MASK_MEANING, LIMITS, *_warnings(analysis))
    return group


def _warnings(analysis: Analysis) -> list[str]:
    """What limits the answer, such as missing slices, which make every volume a lower bound."""
    warnings = [one for one in analysis.flags if one.severity == "warning" and one.code not in OURS]
    return [printable(f"{one.code}: {one.message}") for one in warnings]


def _finding_group(analysis: Analysis, origin: Origin, finding: Finding, seg: Uids | None) -> Any:
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=finding.tracking_uid, identifier=tracking_id(finding.id)
        ),
        "finding_category": codes.ABNORMAL,
        "finding_type": codes.PRIMARY_NEOPLASM,
        "finding_sites": [FindingSite(codes.BRAIN, laterality=codes.LATERALITY.get(finding.side))],
        "algorithm_id": _algorithm(analysis, whole=False),
        "measurements": _measurements(finding),
    }
    if seg is not None:
        # By parts: highdicom's from_segmentation fails on a SEG with one segment (0.28.2).
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=ReferencedSegment(
                sop_class_uid=SegmentationStorage,
                sop_instance_uid=seg.instance,
                segment_number=finding.id,
                **_sources(origin),
            ),
            **common,
        )
    else:
        frame = origin.frames[finding.largest_slice]
        group = MeasurementsAndQualitativeEvaluations(
            source_images=[
                SourceImageForMeasurementGroup(
                    referenced_sop_class_uid=frame.sop_class,
                    referenced_sop_instance_uid=frame.sop_instance,
                    referenced_frame_numbers=None if frame.number is None else [frame.number],
                )
            ],
            **common,
        )
    _comment(group, MASK_MEANING)
    return group


def _sources(origin: Origin) -> dict[str, Any]:
    """What a segment was drawn on: the series, or the images where they are in several."""
    from highdicom.sr import SourceImageForSegmentation, SourceSeriesForSegmentation

    if len(origin.series) == 1:
        return {"source_series": SourceSeriesForSegmentation(origin.frames[0].series)}
    images = [SourceImageForSegmentation(x.sop_class, x.sop_instance) for x in origin.instances]
    return {"source_images": images}


def _measurements(finding: Finding) -> list[Any]:
    from highdicom.sr import Measurement

    rows: tuple[tuple[Any, float | None, Any, dict[str, Any]], ...] = (
        (codes.VOLUME, finding.volume_ml, codes.MILLILITRE, {"method": codes.VOLUME_METHOD}),
        (codes.LONG_AXIS, finding.longest_diameter_mm, codes.MILLIMETRE, {}),
        (codes.SHORT_AXIS, finding.perpendicular_diameter_mm, codes.MILLIMETRE, {}),
        (
            codes.AREA,
            finding.largest_area_mm2,
            codes.SQUARE_MILLIMETRE,
            {"derivation": codes.MAXIMUM},
        ),
        (
            codes.CERTAINTY,
            # Rounded before, as in result.json: one read back from there says the same.
            100 * round(finding.mean_probability, DIGITS),
            codes.PERCENT,
            {"derivation": codes.MEAN},
        ),
    )
    return [
        Measurement(name=name, value=round(float(value), DIGITS), unit=unit, **more)
        for name, value, unit, more in rows
        if value is not None
    ]


def _comment(group: Any, *sentences: str) -> None:
    """Add sentences for people; the template is extensible, and has no place of its own for them."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    for sentence in sentences:
        group[0].ContentSequence.append(
            TextContentItem(
                name=codes.COMMENT,
                value=sentence,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
