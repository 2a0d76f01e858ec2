"""A series as Enhanced MR: all pictures in one instance, or in a concatenation (PS3.3 A.36.2).

Which functional groups are shared and which stand with each frame is the vendor's habit; what differs
between frames always stands with each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage

from gliosight.phantom.dicom import STUDY_DATE, clock, decimal

from .headers import SLOPE, common, put_pixels
from .scanners import Protocol
from .series import Export, Plane, Series


class At(NamedTuple):
    """One frame, with all that its functional groups may depend on."""

    export: Export
    series: Series
    plane: Plane

    @property
    def protocol(self) -> Protocol:
        return self.series.protocol


def enhanced(export: Export, series: Series) -> Iterator[Any]:
    """Enhanced MR instances."""
    parts = min(export.spec.concatenation, len(series.planes))
    base = _series_header(export, series)
    offset = 0
    for number, indices in enumerate(np.array_split(np.arange(len(series.planes)), parts), start=1):
        planes = [series.planes[k] for k in indices]
        ds = common(export, series)
        ds.update(base)
        ds.SOPInstanceUID = export.uid("instance", series.number, number)
        if parts > 1:
            ds.ConcatenationUID = export.uid("concatenation", series.number)
            ds.SOPInstanceUIDOfConcatenationSource = export.uid("source", series.number)
            ds.InConcatenationNumber = number
            ds.InConcatenationTotalNumber = parts
            ds.ConcatenationFrameOffsetNumber = offset
        ds.NumberOfFrames = len(planes)
        _put_groups(ds, export, series, planes)
        pixels = [plane.pixels for plane in planes]
        put_pixels(ds, pixels, series.bits, export.syntax(series), framed=True)
        offset += len(planes)
        yield ds


def item(**values: Any) -> Any:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _code(code: Any, **more: Any) -> Any:
    return item(
        CodeValue=code.value,
        CodingSchemeDesignator=code.scheme_designator,
        CodeMeaning=code.meaning,
        **more,
    )


def _series_header(export: Export, series: Series) -> Any:
    protocol = series.protocol
    organization = export.uid("dimensions", series.number)
    ds = item(
        SOPClassUID=EnhancedMRImageStorage,
        InstanceNumber=0 if export.spec.numbering == "zero" else 1,
        ContentTime=clock(series.start),
        AcquisitionDateTime=STUDY_DATE + clock(series.start),
        AcquisitionNumber=1,
        AcquisitionDuration=max(protocol.minutes, 0.01) * 60.0,
        ImageType=_frame_type(series),
        **_description(series),
        PresentationLUTShape="IDENTITY",
        BurnedInAnnotation="NO",
        ContentQualification="PRODUCT",
        ResonantNucleus="1H",
        MagneticFieldStrength="3",
        KSpaceFiltering="NONE",
        ApplicableSafetyStandardAgency="IEC",
        AcquisitionContextSequence=Items([]),
        DimensionOrganizationSequence=Items([item(DimensionOrganizationUID=organization)]),
        DimensionIndexSequence=Items(
            item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=tag_for_keyword(keyword),
                FunctionalGroupPointer=tag_for_keyword(group),
            )
            for keyword, group in _dimensions(series)
        ),
    )
    if ds.ImageType[0] == "ORIGINAL":
        ds.update(_pulse_sequence(protocol))
    if series.contrast and export.spec.contrast_tags:  # there is no empty form of this module
        agent = _code(
            codes.SCT.Gadolinium,
            ContrastBolusAgentNumber=1,
            ContrastBolusAdministrationRouteSequence=Items([_code(codes.SCT.IntravenousRoute)]),
            ContrastBolusIngredientCodeSequence=Items([_code(codes.SCT.Gadolinium)]),
            ContrastBolusVolume="7.5",
            ContrastBolusIngredientConcentration="1",
        )
        ds.ContrastBolusAgentSequence = Items([agent])
    return ds


def _pulse_sequence(protocol: Protocol) -> Any:
    """MR Pulse Sequence module (PS3.3 C.8.13.4)."""
    epi = "EP" in protocol.scanning
    ds = item(
        PulseSequenceName=protocol.pulse.replace("{b}", ""),
        MRAcquisitionType="3D" if protocol.volume else "2D",
        EchoPulseSequence=protocol.echo_pulse,
        MultiPlanarExcitation="NO",
        PhaseContrast="NO",
        TimeOfFlightContrast="NO",
        SteadyStatePulseSequence="NONE",
        EchoPlanarPulseSequence="YES" if epi else "NO",
        SaturationRecovery="NO",
        SpectrallySelectedSuppression="FAT" if "FS" in protocol.options else "NONE",
        OversamplingPhase="NONE",
        GeometryOfKSpaceTraversal="RECTILINEAR",
        RectilinearPhaseEncodeReordering="LINEAR",
        SegmentedKSpaceTraversal="FULL" if epi else "SINGLE",
        NumberOfKSpaceTrajectories=1,
    )
    if protocol.echo_pulse == "SPIN":
        ds.MultipleSpinEcho = "NO"
    if protocol.volume:
        ds.CoverageOfKSpace = "FULL"
    return ds


def _frame_type(series: Series) -> list[str]:
    """Enhanced ImageType and FrameType: four values (PS3.3 C.8.13.3.1.1)."""
    # A map is derived here, whatever the vendor's classic files say.
    if series.kind == "map":
        return ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    return ["ORIGINAL", "PRIMARY", "DIFFUSION" if series.kind == "dwi" else "M", "NONE"]


def _description(series: Series) -> dict[str, str]:
    """MR Image Description macro (PS3.3 C.8.13.3)."""
    return {
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE",
        "AcquisitionContrast": series.protocol.contrast,
    }


def _dimensions(series: Series) -> list[tuple[str, str]]:
    """What the frames of a series are indexed by, slowest first."""
    out = [
        ("StackID", "FrameContentSequence"),
        ("InStackPositionNumber", "FrameContentSequence"),
    ]
    if series.times > 1:
        out.append(("TemporalPositionIndex", "FrameContentSequence"))
    if any(plane.echo > 1 for plane in series.planes):
        out.append(("EffectiveEchoTime", "MREchoSequence"))
    if any(plane.b_value is not None for plane in series.planes):
        out.append(("DiffusionBValue", "MRDiffusionSequence"))
    return out


def _put_groups(ds: Any, export: Export, series: Series, planes: list[Plane]) -> None:
    """Multi-frame Functional Groups module (PS3.3 C.7.6.16)."""
    # Whatever differs anywhere in the series stands with each frame, in every part of it.
    apart = set(export.vendor.per_frame) | {
        name for name, value in DIFFERS.items() if len(set(map(value, series.planes))) > 1
    }
    names = set(GROUPS)
    if series.protocol.contrast != "DIFFUSION":
        names.remove("MRDiffusionSequence")
    if not (series.contrast and export.spec.contrast_tags):
        names.remove("ContrastBolusUsageSequence")

    def groups(plane: Plane, wanted: set[str]) -> Any:
        at = At(export, series, plane)
        return item(**{name: Items([GROUPS[name](at)]) for name in wanted})

    ds.SharedFunctionalGroupsSequence = Items([groups(planes[0], names - apart)])
    ds.PerFrameFunctionalGroupsSequence = Items(groups(plane, names & apart) for plane in planes)


def _content(at: At) -> Any:
    plane = at.plane
    moment = STUDY_DATE + clock(at.series.start + plane.seconds)
    values = {
        "StackID": plane.stack,
        "InStackPositionNumber": plane.index,
        "TemporalPositionIndex": plane.time,
        "EffectiveEchoTime": plane.echo,
        "DiffusionBValue": 2 if plane.b_value else 1,
    }
    return item(
        FrameAcquisitionDateTime=moment,
        FrameReferenceDateTime=moment,
        FrameAcquisitionDuration=at.protocol.tr,
        FrameAcquisitionNumber=1,
        StackID=str(plane.stack),
        InStackPositionNumber=plane.index,
        TemporalPositionIndex=plane.time,
        DimensionIndexValues=[values[keyword] for keyword, _ in _dimensions(at.series)],
    )


def _timing(at: At) -> Any:
    train = at.protocol.train
    spin = at.protocol.echo_pulse == "SPIN" and "EP" not in at.protocol.scanning
    rate = item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=1.0)
    return item(
        RepetitionTime=decimal(at.protocol.tr),
        FlipAngle=decimal(at.protocol.flip),
        EchoTrainLength=train,
        RFEchoTrainLength=train if spin else 0,
        GradientEchoTrainLength=0 if spin else train,
        GradientOutputType="PER_NERVE_STIM",
        GradientOutput=50.0,
        SpecificAbsorptionRateSequence=Items([rate]),
        OperatingModeSequence=Items(
            item(OperatingModeType=kind, OperatingMode="IEC_NORMAL") for kind in ("GRADIENT", "RF")
        ),
    )


def _modifier(at: At) -> Any:
    inverted = "IR" in at.protocol.scanning
    ds = item(
        InversionRecovery="YES" if inverted else "NO",
        FlowCompensation="NONE",
        Spoiling="RF" if at.protocol.echo_pulse == "GRADIENT" else "NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )
    if inverted and at.protocol.ti is not None:
        ds.InversionTimes = float(at.protocol.ti)
    return ds


def _view(at: At) -> Any:
    rows, columns = at.plane.pixels.shape[:2]
    ds = item(
        PercentSampling="100",
        PercentPhaseFieldOfView="100",
        InPlanePhaseEncodingDirection="ROW",
        MRAcquisitionFrequencyEncodingSteps=rows,
        MRAcquisitionPhaseEncodingStepsInPlane=columns,
    )
    if at.protocol.volume:
        ds.MRAcquisitionPhaseEncodingStepsOutOfPlane = len(at.series.planes)
    return ds


def _diffusion(at: At) -> Any:
    b_value = at.plane.b_value
    return item(
        DiffusionBValue=1000.0 if b_value is None else b_value,
        DiffusionDirectionality="NONE" if b_value == 0 else "ISOTROPIC",
    )


GROUPS: Mapping[str, Callable[[At], Any]] = {
    "FrameContentSequence": _content,
    "PlanePositionSequence": lambda at: item(
        ImagePositionPatient=[decimal(mm) for mm in at.plane.position]
    ),
    "PlaneOrientationSequence": lambda at: item(
        ImageOrientationPatient=[decimal(cosine) for cosine in at.plane.orientation]
    ),
    "PixelMeasuresSequence": lambda at: item(
        SliceThickness=decimal(at.plane.step),
        SpacingBetweenSlices=decimal(at.plane.step),
        PixelSpacing=[decimal(mm) for mm in at.plane.spacing],
    ),
    "MRTimingAndRelatedParametersSequence": _timing,
    "MREchoSequence": lambda at: item(EffectiveEchoTime=float(at.protocol.te * at.plane.echo)),
    "MRModifierSequence": _modifier,
    "MRImagingModifierSequence": lambda _: item(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        PixelBandwidth="220",
        TransmitterFrequency=123.25,
    ),
    "MRFOVGeometrySequence": _view,
    "MRReceiveCoilSequence": lambda _: item(
        ReceiveCoilName="Head",
        ReceiveCoilManufacturerName="",
        ReceiveCoilType="HEAD",
        QuadratureReceiveCoil="YES",
    ),
    "MRTransmitCoilSequence": lambda _: item(
        TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
    ),
    "MRAveragesSequence": lambda _: item(NumberOfAverages="1"),
    "MRImageFrameTypeSequence": lambda at: item(
        FrameType=_frame_type(at.series), **_description(at.series)
    ),
    "FrameAnatomySequence": lambda _: item(
        AnatomicRegionSequence=Items([_code(codes.SCT.Brain)]), FrameLaterality="U"
    ),
    "FrameVOILUTSequence": lambda at: item(
        WindowCenter=at.series.window[0], WindowWidth=at.series.window[1]
    ),
    "PixelValueTransformationSequence": lambda at: item(
        RescaleIntercept="0",
        RescaleSlope=decimal(SLOPE) if at.export.vendor.scaled else "1",
        RescaleType="US",
    ),
    "MRDiffusionSequence": _diffusion,
    "ContrastBolusUsageSequence": lambda _: item(
        ContrastBolusAgentNumber=1,
        ContrastBolusAgentAdministered="YES",
        ContrastBolusAgentDetected="YES",
        ContrastBolusAgentPhase="POST_CONTRAST",
    ),
}
# What of a picture a group depends on; all others are the same for a whole series.
DIFFERS: Mapping[str, Callable[[Plane], object]] = {
    "PlaneOrientationSequence": lambda plane: tuple(plane.orientation),
    "PixelMeasuresSequence": lambda plane: (plane.spacing, plane.step),
    "MREchoSequence": lambda plane: plane.echo,
    "MRDiffusionSequence": lambda plane: plane.b_value,
}
