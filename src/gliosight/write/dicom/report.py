"""The findings as a DICOM structured report (stage: write).

A Comprehensive 3D SR after TID 1500 (PS3.16): a measurement group for the whole study, which says whether a
tumour is present and what the answer may be used for, then one for each finding with its segment, side and
measures. A measure that is not known is left out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE, Analysis, Finding, Status
from gliosight.dicom import new_dataset
from gliosight.errors import UnsupportedInputError, printable
from gliosight.flags import warnings_of
from gliosight.write import words
from gliosight.write.dicom import codes
from gliosight.write.dicom.readback import check_report, checked
from gliosight.write.dicom.segmentation import (
    CANDIDATE,
    MANUFACTURER,
    algorithm_parameters,
    equipment,
    save,
    short,
    tracking_id,
    why_not,
)
from gliosight.write.dicom.source import UTF_8, Origin, Uids, origin_of, uid_from, uids_of
from gliosight.write.result import rounded

# Flags of writing: a result that is read again has them, the one just analysed not yet.
OURS = ("SEG_NOT_WRITTEN", "SR_NOT_WRITTEN")
VERDICTS = {
    Status.FOUND: codes.PRESENT,
    Status.UNCERTAIN: codes.UNDETERMINED,
    Status.NOT_FOUND: codes.ABSENT,
}


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
        save(_build(analysis, origin, seg), path, analysis)
        check_report(path, analysis, origin, seg)


def _build(analysis: Analysis, origin: Origin, seg: Uids | None) -> Dataset:
    made_by = analysis.provenance
    uids = uids_of(analysis, "report" if seg else "report without segmentation")
    # The observer is this version with this model, on whatever machine it ran.
    observer = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=uid_from(f"gliosight/{made_by.version}/{made_by.model_sha256}"),
        name="gliosight",
        manufacturer_name=MANUFACTURER,
        model_name=short(made_by.model),
        serial_number=short(made_by.model_sha256),
    )
    # What limits the answer, such as missing slices, which make every volume a lower bound.
    warnings = [
        printable(f"{flag.code}: {flag.message}")
        for flag in warnings_of(analysis.flags)
        if flag.code not in OURS
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(
                observer_type=codes.DEVICE, observer_identifying_attributes=observer
            )
        ),
        procedure_reported=codes.BRAIN_MRI,
        imaging_measurements=[
            _study_group(analysis, uids.group, warnings),
            *(_finding_group(analysis, origin, finding, seg) for finding in analysis.findings),
        ],
    )
    evidence = _evidence(origin, seg)
    if not all(warning.isascii() for warning in warnings):
        evidence[0].SpecificCharacterSet = UTF_8
    return hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_description="Glioma findings, research use only",
        is_complete=True,
        is_final=False,
        is_verified=False,
        **equipment(analysis, uids, "report"),
    )


def _evidence(origin: Origin, seg: Uids | None) -> list[Dataset]:
    """The images and the SEG that the report refers to; patient and study are taken from the first."""
    references = [(image.series, image.sop_class, image.sop_instance) for image in origin.instances]
    if seg is not None:
        references.append((seg.series, SegmentationStorage, seg.instance))
    evidence = [
        new_dataset(
            StudyInstanceUID=origin.study,
            SeriesInstanceUID=series,
            SOPClassUID=sop_class,
            SOPInstanceUID=sop_instance,
        )
        for series, sop_class, sop_instance in references
    ]
    evidence[0].update(origin.dataset())
    return evidence


def _algorithm(analysis: Analysis, parameters: dict[str, str]) -> Any:
    return hd.sr.AlgorithmIdentification(
        name=short(analysis.provenance.model),
        version=short(analysis.provenance.version),
        parameters=[f"{key}={value}" for key, value in parameters.items()],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _study_group(analysis: Analysis, uid: str, warnings: list[str]) -> Any:
    decision = analysis.decision
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid, identifier="Study"),
        finding_type=codes.TUMOUR,
        finding_sites=[hd.sr.FindingSite(codes.BRAIN)],
        algorithm_id=_algorithm(analysis, algorithm_parameters(analysis)),
        measurements=_numbers((codes.CERTAINTY, _percent(decision.probability), codes.PERCENT)),
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(codes.PRESENCE, VERDICTS[analysis.status])
        ],
    )
    uncertain = analysis.status is Status.UNCERTAIN
    sentences = [RESEARCH_USE, CANDIDATE if uncertain and analysis.findings else ""]
    if decision.probability is not None:
        doubted = uncertain and words.doubted(analysis.flags)
        sentences.append(
            words.probability_sentence(decision.probability, decision.prevalence, doubted=doubted)
        )
    interval = words.interval_sentence(words.interval_words(analysis), decision.status.value)
    count = f"{words.count_words(len(warnings), 'warning')}." if warnings else "No warnings."
    if len(warnings) > 1:
        count = f"{len(warnings)} warnings, the worst first."
    meaning = MASK_MEANING if analysis.findings else ""
    sentences += [interval, decision.caveat, meaning, LIMITS, count, *warnings]
    _comment(group, *filter(None, sentences))
    return group


def _finding_group(analysis: Analysis, origin: Origin, finding: Finding, seg: Uids | None) -> Any:
    side = codes.LATERALITY.get(finding.side)
    common: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=finding.tracking_uid, identifier=tracking_id(finding)
        ),
        "finding_category": codes.ABNORMAL,
        "finding_type": codes.PRIMARY_NEOPLASM,
        "finding_sites": [hd.sr.FindingSite(codes.BRAIN, laterality=side)],
        "algorithm_id": _algorithm(analysis, {}),
        "measurements": _measurements(finding),
    }
    if seg is not None:
        # By parts: highdicom's from_segmentation fails on a SEG with one segment (0.28.2).
        segment = hd.sr.ReferencedSegment(
            sop_class_uid=SegmentationStorage,
            sop_instance_uid=seg.instance,
            segment_number=finding.id,
            **_sources(origin),
        )
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=segment, **common
        )
    else:
        frame = origin.frames[finding.largest_slice]
        image = hd.sr.SourceImageForMeasurementGroup(
            referenced_sop_class_uid=frame.sop_class,
            referenced_sop_instance_uid=frame.sop_instance,
            referenced_frame_numbers=None if frame.number is None else [frame.number],
        )
        group = hd.sr.MeasurementsAndQualitativeEvaluations(source_images=[image], **common)
    _comment(group, MASK_MEANING)
    return group


def _sources(origin: Origin) -> dict[str, Any]:
    """What a segment was drawn on: the series, or the images where they are in several."""
    if len(origin.series) == 1:
        return {"source_series": hd.sr.SourceSeriesForSegmentation(origin.frames[0].series)}
    return {
        "source_images": [
            hd.sr.SourceImageForSegmentation(image.sop_class, image.sop_instance)
            for image in origin.instances
        ]
    }


def _measurements(finding: Finding) -> list[Any]:
    return _numbers(
        (codes.VOLUME, finding.volume_ml, codes.MILLILITRE, {"method": codes.VOLUME_METHOD}),
        (codes.LONG_AXIS, finding.longest_diameter_mm, codes.MILLIMETRE),
        (codes.SHORT_AXIS, finding.perpendicular_diameter_mm, codes.MILLIMETRE),
        (
            codes.AREA,
            finding.largest_area_mm2,
            codes.SQUARE_MILLIMETRE,
            {"derivation": codes.MAXIMUM},
        ),
        (codes.CERTAINTY, _percent(finding.probability), codes.PERCENT),
    )


def _numbers(*rows: Any) -> list[Any]:
    """Measurements from name, value, unit and further options; a value that is not known is left out."""
    return [
        hd.sr.Measurement(name, value=rounded(float(value)), unit=unit, **dict(*options))
        for name, value, unit, *options in rows
        if value is not None and math.isfinite(value)
    ]


def _percent(probability: float | None) -> float | None:
    # Rounded before, as in result.json, so that a result read from there gives the same.
    return None if probability is None else 100 * rounded(probability)


def _comment(group: Any, *sentences: str) -> None:
    """Add sentences for people as text items: the template is extensible and defines none for them."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(
        hd.sr.TextContentItem(codes.COMMENT, sentence, relationship_type=contains)
        for sentence in sentences
    )
