"""A series as Enhanced MR: all pictures in one instance, or in a concatenation (phantom layer).

In: a `Series`. Out: one data set for each instance (PS3.3 A.36.2). Which functional groups are shared
and which stand with each frame is the vendor's habit; what differs between frames always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage

from gliosight.phantom.dicom.classic import SLOPE
from gliosight.phantom.dicom.headers import (
    STUDY_DATE,
    clock,
    common,
    decimal,
    decimals,
    put_pixels,
)
from gliosight.phantom.dicom.protocols import Protocol
from gliosight.phantom.dicom.series import Export, Plane, Series


@dataclass(frozen=True)
class _At:
    """One frame, with all that its functional groups may depend on."""

    export: Export
    series: Series
    plane: Plane

    @property
    def protocol(self) -> Protocol:
        """How the series was acquired."""
        return self.series.protocol


Group = Callable[[_At], Any]


def enhanced(export: Export, series: Series) -> Iterator[Any]:
    """Make Enhanced MR instances."""
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
        pictures = [one.pixels for one in planes]
        put_pixels(ds, pictures, series.bits, export.syntax(series), framed=True)
        offset += len(planes)
        yield ds


def _series_header(export: Export, series: Series) -> Any:
    protocol = series.protocol
    ds = Dataset()
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.InstanceNumber = 0 if export.spec.numbering == "zero" else 1
    ds.ContentTime = clock(series.start)
    ds.AcquisitionDateTime = STUDY_DATE + clock(series.start)
    ds.AcquisitionNumber = 1
    ds.AcquisitionDuration = max(protocol.minutes, 0.01) * 60.0
    ds.ImageType = _frame_type(series)
    _put_type(ds, series)
    ds.PresentationLUTShape = "IDENTITY"
    ds.BurnedInAnnotation = "NO"
    ds.ContentQualification = "PRODUCT"
    ds.ResonantNucleus = "1H"
    ds.MagneticFieldStrength = "3"
    ds.KSpaceFiltering = "NONE"
    ds.ApplicableSafetyStandardAgency = "IEC"
    ds.AcquisitionContextSequence = Items([])
    if ds.ImageType[0] == "ORIGINAL":
        _put_pulse(ds, protocol)
    if series.contrast and export.spec.contrast_tags:  # there is no empty form of this module
        ds.ContrastBolusAgentSequence = Items([_agent()])
    ds.DimensionOrganizationSequence = Items([Dataset()])
    organization = export.uid("dimensions", series.number)
    ds.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    ds.DimensionIndexSequence = Items(
        [_dimension(organization, *one) for one in _dimensions(series)]
    )
    return ds


def _put_pulse(ds: Any, protocol: Protocol) -> None:
    """MR Pulse Sequence module (PS3.3 C.8.13.4)."""
    epi = "EP" in protocol.scanning
    ds.PulseSequenceName = protocol.pulse.replace("{b}", "")
    ds.MRAcquisitionType = "3D" if protocol.volume else "2D"
    ds.EchoPulseSequence = protocol.echo_pulse
    if protocol.echo_pulse == "SPIN":
        ds.MultipleSpinEcho = "NO"
    ds.MultiPlanarExcitation = "NO"
    ds.PhaseContrast = "NO"
    ds.TimeOfFlightContrast = "NO"
    ds.SteadyStatePulseSequence = "NONE"
    ds.EchoPlanarPulseSequence = "YES" if epi else "NO"
    ds.SaturationRecovery = "NO"
    ds.SpectrallySelectedSuppression = "FAT" if "FS" in protocol.options else "NONE"
    ds.OversamplingPhase = "NONE"
    ds.GeometryOfKSpaceTraversal = "RECTILINEAR"
    ds.RectilinearPhaseEncodeReordering = "LINEAR"
    ds.SegmentedKSpaceTraversal = "FULL" if epi else "SINGLE"
    if protocol.volume:
        ds.CoverageOfKSpace = "FULL"
    ds.NumberOfKSpaceTrajectories = 1


def _agent() -> Any:
    """Contrast agent and its administration (PS3.3 C.7.6.4b)."""
    ds = _code(codes.SCT.Gadolinium)
    ds.ContrastBolusAgentNumber = 1
    ds.ContrastBolusAdministrationRouteSequence = Items([_code(codes.SCT.IntravenousRoute)])
    ds.ContrastBolusIngredientCodeSequence = Items([_code(codes.SCT.Gadolinium)])
    ds.ContrastBolusVolume = "7.5"
    ds.ContrastBolusIngredientConcentration = "1"
    return ds


def _code(code: Any) -> Any:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator = code.value, code.scheme_designator
    ds.CodeMeaning = code.meaning
    return ds


def _frame_type(series: Series) -> list[str]:
    """Enhanced ImageType and FrameType: four values (PS3.3 C.8.13.3.1.1)."""
    # A map is derived here, whatever the vendor's classic files say.
    if series.kind == "map":
        return ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    return ["ORIGINAL", "PRIMARY", "DIFFUSION" if series.kind == "dwi" else "M", "NONE"]


def _put_type(ds: Any, series: Series) -> None:
    """MR Image Description macro (PS3.3 C.8.13.3)."""
    ds.PixelPresentation = "MONOCHROME"
    ds.VolumetricProperties = "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.ComplexImageComponent = "MAGNITUDE"
    ds.AcquisitionContrast = series.protocol.contrast


def _dimensions(series: Series) -> list[tuple[str, str]]:
    """What the frames of a series are indexed by, slowest first."""
    out = [
        ("StackID", "FrameContentSequence"),
        ("InStackPositionNumber", "FrameContentSequence"),
    ]
    if series.times > 1:
        out.append(("TemporalPositionIndex", "FrameContentSequence"))
    if any(one.echo > 1 for one in series.planes):
        out.append(("EffectiveEchoTime", "MREchoSequence"))
    if any(one.b_value is not None for one in series.planes):
        out.append(("DiffusionBValue", "MRDiffusionSequence"))
    return out


def _dimension(organization: str, keyword: str, group: str) -> Any:
    ds = Dataset()
    ds.DimensionOrganizationUID = organization
    ds.DimensionIndexPointer = tag_for_keyword(keyword)
    ds.FunctionalGroupPointer = tag_for_keyword(group)
    return ds


def _put_groups(ds: Any, export: Export, series: Series, planes: list[Plane]) -> None:
    """Multi-frame Functional Groups module (PS3.3 C.7.6.16)."""
    apart = set(export.vendor.per_frame)
    # Whatever differs anywhere in the series stands with each frame, in every part of it.
    for name, differs in _DIFFERS.items():
        if len({differs(one) for one in series.planes}) > 1:
            apart.add(name)
    groups = {
        name: make
        for name, make in _GROUPS.items()
        if name != "MRDiffusionSequence" or series.protocol.contrast == "DIFFUSION"
        if name != "ContrastBolusUsageSequence" or (series.contrast and export.spec.contrast_tags)
    }
    shared = Dataset()
    for name, make in groups.items():
        if name not in apart:
            setattr(shared, name, Items([make(_At(export, series, planes[0]))]))
    frames = []
    for plane in planes:
        frame = Dataset()
        for name, make in groups.items():
            if name in apart:
                setattr(frame, name, Items([make(_At(export, series, plane))]))
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence = Items([shared])
    ds.PerFrameFunctionalGroupsSequence = Items(frames)


def _content(at: _At) -> Any:
    ds = Dataset()
    moment = STUDY_DATE + clock(at.series.start + at.plane.seconds)
    ds.FrameAcquisitionDateTime = ds.FrameReferenceDateTime = moment
    ds.FrameAcquisitionDuration = at.protocol.tr
    ds.FrameAcquisitionNumber = 1
    ds.StackID = str(at.plane.stack)
    ds.InStackPositionNumber = at.plane.index
    ds.TemporalPositionIndex = at.plane.time
    values = {
        "StackID": at.plane.stack,
        "InStackPositionNumber": at.plane.index,
        "TemporalPositionIndex": at.plane.time,
        "EffectiveEchoTime": at.plane.echo,
        "DiffusionBValue": 2 if at.plane.b_value else 1,
    }
    ds.DimensionIndexValues = [values[keyword] for keyword, _ in _dimensions(at.series)]
    return ds


def _timing(at: _At) -> Any:
    protocol = at.protocol
    ds = Dataset()
    ds.RepetitionTime = decimal(protocol.tr)
    ds.FlipAngle = decimal(protocol.flip)
    ds.EchoTrainLength = protocol.train
    spin = protocol.echo_pulse == "SPIN" and "EP" not in protocol.scanning
    ds.RFEchoTrainLength = protocol.train if spin else 0
    ds.GradientEchoTrainLength = 0 if spin else protocol.train
    ds.GradientOutputType = "PER_NERVE_STIM"
    ds.GradientOutput = 50.0
    rate = Dataset()
    rate.SpecificAbsorptionRateDefinition = "IEC_HEAD"
    rate.SpecificAbsorptionRateValue = 1.0
    ds.SpecificAbsorptionRateSequence = Items([rate])
    modes = []
    for kind in ("GRADIENT", "RF"):
        mode = Dataset()
        mode.OperatingModeType, mode.OperatingMode = kind, "IEC_NORMAL"
        modes.append(mode)
    ds.OperatingModeSequence = Items(modes)
    return ds


def _modifier(at: _At) -> Any:
    protocol = at.protocol
    inverted = "IR" in protocol.scanning
    ds = Dataset()
    ds.InversionRecovery = "YES" if inverted else "NO"
    if inverted and protocol.ti is not None:
        ds.InversionTimes = float(protocol.ti)
    ds.FlowCompensation = "NONE"
    ds.Spoiling = "RF" if protocol.echo_pulse == "GRADIENT" else "NONE"
    ds.T2Preparation = "NO"
    ds.SpectrallySelectedExcitation = "NONE"
    ds.SpatialPresaturation = "NONE"
    ds.PartialFourier = "NO"
    ds.ParallelAcquisition = "NO"
    return ds


def _imaging_modifier(_: _At) -> Any:
    ds = Dataset()
    ds.MagnetizationTransfer = "NONE"
    ds.BloodSignalNulling = "NO"
    ds.Tagging = "NONE"
    ds.PixelBandwidth = "220"
    ds.TransmitterFrequency = 123.25
    return ds


def _view(at: _At) -> Any:
    ds = Dataset()
    ds.PercentSampling = ds.PercentPhaseFieldOfView = "100"
    ds.InPlanePhaseEncodingDirection = "ROW"
    ds.MRAcquisitionFrequencyEncodingSteps, ds.MRAcquisitionPhaseEncodingStepsInPlane = (
        at.plane.pixels.shape[:2]
    )
    if at.protocol.volume:
        ds.MRAcquisitionPhaseEncodingStepsOutOfPlane = len(at.series.planes)
    return ds


def _receive(_: _At) -> Any:
    ds = Dataset()
    ds.ReceiveCoilName, ds.ReceiveCoilManufacturerName = "Head", ""
    ds.ReceiveCoilType, ds.QuadratureReceiveCoil = "HEAD", "YES"
    return ds


def _transmit(_: _At) -> Any:
    ds = Dataset()
    ds.TransmitCoilName, ds.TransmitCoilManufacturerName = "Body", ""
    ds.TransmitCoilType = "BODY"
    return ds


def _type(at: _At) -> Any:
    ds = Dataset()
    ds.FrameType = _frame_type(at.series)
    _put_type(ds, at.series)
    return ds


def _anatomy(_: _At) -> Any:
    ds = Dataset()
    ds.AnatomicRegionSequence = Items([_code(codes.SCT.Brain)])
    ds.FrameLaterality = "U"
    return ds


def _rescale(at: _At) -> Any:
    return _item(
        RescaleIntercept="0",
        RescaleSlope=decimal(SLOPE) if at.export.vendor.scaled else "1",
        RescaleType="US",
    )


def _diffusion(at: _At) -> Any:
    if at.plane.b_value is None:
        return _item(DiffusionBValue=1000.0, DiffusionDirectionality="ISOTROPIC")
    directions = "ISOTROPIC" if at.plane.b_value else "NONE"
    return _item(DiffusionBValue=at.plane.b_value, DiffusionDirectionality=directions)


def _item(**values: Any) -> Any:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


_GROUPS: Mapping[str, Group] = {
    "FrameContentSequence": _content,
    "PlanePositionSequence": lambda at: _item(ImagePositionPatient=decimals(at.plane.position)),
    "PlaneOrientationSequence": lambda at: _item(
        ImageOrientationPatient=decimals(at.plane.orientation)
    ),
    "PixelMeasuresSequence": lambda at: _item(
        SliceThickness=decimal(at.plane.step),
        SpacingBetweenSlices=decimal(at.plane.step),
        PixelSpacing=decimals(at.plane.spacing),
    ),
    "MRTimingAndRelatedParametersSequence": _timing,
    "MREchoSequence": lambda at: _item(EffectiveEchoTime=float(at.protocol.te * at.plane.echo)),
    "MRModifierSequence": _modifier,
    "MRImagingModifierSequence": _imaging_modifier,
    "MRFOVGeometrySequence": _view,
    "MRReceiveCoilSequence": _receive,
    "MRTransmitCoilSequence": _transmit,
    "MRAveragesSequence": lambda _: _item(NumberOfAverages="1"),
    "MRImageFrameTypeSequence": _type,
    "FrameAnatomySequence": _anatomy,
    "FrameVOILUTSequence": lambda at: _item(
        WindowCenter=str(at.series.window[0]), WindowWidth=str(at.series.window[1])
    ),
    "PixelValueTransformationSequence": _rescale,
    "MRDiffusionSequence": _diffusion,
    "ContrastBolusUsageSequence": lambda _: _item(
        ContrastBolusAgentNumber=1,
        ContrastBolusAgentAdministered="YES",
        ContrastBolusAgentDetected="YES",
        ContrastBolusAgentPhase="POST_CONTRAST",
    ),
}

# What of a picture a group depends on; all others are the same for a whole series.
_DIFFERS: Mapping[str, Callable[[Plane], object]] = {
    "PlaneOrientationSequence": lambda one: tuple(one.orientation),
    "PixelMeasuresSequence": lambda one: (one.spacing, one.step),
    "MREchoSequence": lambda one: one.echo,
    "MRDiffusionSequence": lambda one: one.b_value,
}
