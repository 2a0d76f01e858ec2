"""A series as single-frame instances: MR Image and Secondary Capture (phantom layer).

In: a `Series`. Out: one data set for each picture (PS3.3 A.4, A.8.1), in written order, its
``InstanceNumber`` by `DicomSpec.numbering`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gliosight.phantom.dicom.headers import (
    STUDY_DATE,
    clock,
    common,
    decimal,
    decimals,
    put_contrast,
    put_pixels,
)
from gliosight.phantom.dicom.series import Export, Plane, Series, numbering

# What Philips multiplies stored values with.
SLOPE = 1.2798534798534797


def classic(export: Export, series: Series) -> Iterator[Any]:
    """Make MR Image instances."""
    base = _series_header(export, series)
    numbers = numbering(export, len(series.planes), series.kind)
    for k, plane in enumerate(series.planes):
        # Elements of the series are shared, so that they are encoded once; those set below are new.
        ds = Dataset({element.tag: element for element in base})
        ds.InstanceNumber = 0 if export.spec.numbering == "zero" else numbers[k] + 1
        ds.SOPInstanceUID = export.uid("instance", series.number, k)
        _place(ds, series, plane)
        put_pixels(ds, [plane.pixels], series.bits, export.syntax(series), framed=False)
        yield ds


def _series_header(export: Export, series: Series) -> Any:
    protocol = series.protocol
    ds = common(export, series)
    ds.ImageType = list(protocol.image_type)
    ds.AcquisitionDate = STUDY_DATE
    ds.ScanningSequence = list(protocol.scanning)
    ds.SequenceVariant = list(protocol.variant)
    ds.ScanOptions = list(protocol.options)
    ds.MRAcquisitionType = "3D" if protocol.volume else "2D"
    ds.AngioFlag = "N"
    ds.RepetitionTime = decimal(protocol.tr)
    if protocol.ti is not None:
        ds.InversionTime = decimal(protocol.ti)
    elif "IR" in protocol.scanning:
        ds.InversionTime = ""
    ds.NumberOfAverages = "1"
    ds.ImagingFrequency = "123.25"
    ds.ImagedNucleus = "1H"
    ds.MagneticFieldStrength = "3"
    ds.EchoTrainLength = protocol.train
    ds.PercentSampling = ds.PercentPhaseFieldOfView = "100"
    ds.PixelBandwidth = "220"
    ds.ReceiveCoilName = "Head_32"
    ds.FlipAngle = decimal(protocol.flip)
    ds.InPlanePhaseEncodingDirection = "ROW"
    put_contrast(ds, export, series)
    ds.WindowCenter, ds.WindowWidth = (str(one) for one in series.window)
    if export.vendor.scaled and not series.stored_later:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", decimal(SLOPE), "normalized"
    if series.times > 1:
        ds.NumberOfTemporalPositions = series.times
    return ds


def _place(ds: Any, series: Series, plane: Plane) -> None:
    moment = series.start + plane.seconds
    ds.AcquisitionTime = clock(moment)
    ds.ContentTime = clock(moment + 1)
    ds.EchoTime = decimal(series.protocol.te * plane.echo)
    ds.EchoNumbers = plane.echo
    # None of these may be set for the series before: all data sets would share the last value.
    ds.AcquisitionNumber = plane.time
    ds.SequenceName = series.protocol.pulse.replace("{b}", f"{plane.b_value or 0:.0f}")
    if series.times > 1:
        ds.TemporalPositionIdentifier = plane.time
    if plane.b_value is not None:
        ds.DiffusionBValue = plane.b_value
    ds.SliceThickness = ds.SpacingBetweenSlices = decimal(plane.step)
    ds.PixelSpacing = decimals(plane.spacing)
    ds.ImagePositionPatient = decimals(plane.position)
    ds.ImageOrientationPatient = decimals(plane.orientation)
    normal = np.cross(plane.orientation[:3], plane.orientation[3:])
    ds.SliceLocation = decimal(round(float(normal @ plane.position), 6))


def screenshot(export: Export, series: Series) -> Iterator[Any]:
    """Make Secondary Capture instances of RGB pictures: no geometry, no frame of reference."""
    for k, plane in enumerate(series.planes, start=1):
        ds = common(export, series)
        ds.SOPClassUID = SecondaryCaptureImageStorage
        ds.SOPInstanceUID = export.uid("instance", series.number, k)
        ds.Modality = "OT"
        ds.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
        ds.ConversionType = "WSD"
        ds.InstanceNumber = k
        ds.ContentTime = clock(series.start)
        ds.PatientOrientation = ""
        for word in ("PatientPosition", "FrameOfReferenceUID", "PositionReferenceIndicator"):
            ds.pop(word, None)
        put_pixels(ds, [plane.pixels], series.bits, export.syntax(series), framed=False)
        yield ds
