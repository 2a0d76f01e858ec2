"""The findings as a DICOM structured report (stage: write).

A Comprehensive 3D SR after TID 1500 (PS3.16): a measurement group for the whole study, which says whether a
tumour is present and what the answer may be used for, then one for each finding with its segment, side and
measures. A measure that is not known is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.dicom import new_dataset, quietly
from gliosight.errors import UnsupportedInputError, printable
from gliosight.write.dicom import codes
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
from gliosight.write.dicom.source import UTF_8, Origin, origin_of
from gliosight.write.dicom.uids import Uids, device_uid, uids_of
from gliosight.write.result import rounded

# Flags of writing: a result that is read again has them, the one just analysed not yet.
OURS = ("SEG_NOT_WRITTEN", "SR_NOT_WRITTEN")


def write_report(
    analysis: Analysis,
    path: Path,
    origin: Origin | None = None,
    *,
    segmented: bool | None = None,
) -> None:
    """Write the report; read back before it stays.

    Parameters
    ----------
    analysis : Analysis
    path : Path
    origin : Origin, optional
        The analysis' own, where it is known already.
    segmented : bool, optional
        Whether the findings refer to the SEG's segments. By default they do where a SEG can be written;
        else to the slices they are largest on.

    Raises
    ------
    UnsupportedInputError
        The study was not DICOM, was not assessed, or its headers name no instances.
    InternalError
        What was written is not what was found. The file is removed.
    """
    with checked(path):
        origin = origin or origin_of(analysis)
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
    groups += [_finding_group(analysis, origin, finding, seg) for finding in analysis.findings]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(analysis)),
        procedure_reported=codes.BRAIN_MRI,
        imaging_measurements=groups,
    )
    evidence = _evidence(origin, seg)
    if not all(warning.isascii() for warning in _warnings(analysis)):
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
    """The images and the SEG that the report refers to; patient and study are taken from the first."""
    images = [
        new_dataset(
            StudyInstanceUID=origin.study,
            SeriesInstanceUID=instance.series,
            SOPClassUID=instance.sop_class,
            SOPInstanceUID=instance.sop_instance,
        )
        for instance in origin.instances
    ]
    images[0].update(origin.dataset())
    if seg is not None:
        images.append(
            new_dataset(
                StudyInstanceUID=origin.study,
                SeriesInstanceUID=seg.series,
                SOPClassUID=SegmentationStorage,
                SOPInstanceUID=seg.instance,
            )
        )
    return images


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


def _algorithm(analysis: Analysis, parameters: Mapping[str, str] = MappingProxyType({})) -> Any:
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(
        name=short(analysis.provenance.model),
        version=short(analysis.provenance.version),
        parameters=[f"{key}={value}" for key, value in parameters.items()],
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
        algorithm_id=_algorithm(analysis, algorithm_parameters(analysis)),
        qualitative_evaluations=[
            QualitativeEvaluation(codes.PRESENCE, codes.PRESENT if present else codes.ABSENT)
        ],
    )
    _comment(group, RESEARCH_USE, MASK_MEANING, LIMITS, *_warnings(analysis))
    return group


def _warnings(analysis: Analysis) -> list[str]:
    """What limits the answer, such as missing slices, which make every volume a lower bound."""
    warnings = [
        flag for flag in analysis.flags if flag.severity == "warning" and flag.code not in OURS
    ]
    return [printable(f"{flag.code}: {flag.message}") for flag in warnings]


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
        "algorithm_id": _algorithm(analysis),
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

    # Rounded before, as in result.json, so that a result read from there gives the same.
    certainty = 100 * rounded(finding.mean_probability)
    rows: tuple[tuple[Any, float | None, Any, Any, Any], ...] = (
        (codes.VOLUME, finding.volume_ml, codes.MILLILITRE, codes.VOLUME_METHOD, None),
        (codes.LONG_AXIS, finding.longest_diameter_mm, codes.MILLIMETRE, None, None),
        (codes.SHORT_AXIS, finding.perpendicular_diameter_mm, codes.MILLIMETRE, None, None),
        (codes.AREA, finding.largest_area_mm2, codes.SQUARE_MILLIMETRE, None, codes.MAXIMUM),
        (codes.CERTAINTY, certainty, codes.PERCENT, None, codes.MEAN),
    )
    return [
        Measurement(
            name=name,
            value=rounded(float(value)),
            unit=unit,
            method=method,
            derivation=derivation,
        )
        for name, value, unit, method, derivation in rows
        if value is not None and math.isfinite(value)
    ]


def _comment(group: Any, *sentences: str) -> None:
    """Add sentences for people as text items: the template is extensible and defines none for them."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    for sentence in sentences:
        group[0].ContentSequence.append(
            TextContentItem(
                name=codes.COMMENT,
                value=sentence,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
