"""Data sets of single-frame instances: MR Image and Secondary Capture (PS3.3 A.4, A.8.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import SecondaryCaptureImageStorage

from gliosight.phantom.dicom import (
    clock,
    decimal,
    put_contrast,
    put_plane,
    put_protocol,
    put_series,
    put_study,
)

from .encode import Syntax, encode
from .series import Export, Series, numbering

# What Philips multiplies stored values with.
SLOPE = 1.2798534798534797
UNICODE = "PHANTOM^Ünïcødé"


def common(export: Export, series: Series) -> Any:
    """What the instances of a series share, whatever their SOP class."""
    spec, vendor = export.spec, export.vendor
    ds = Dataset()
    put_study(ds, export.phantom)
    ds.Manufacturer, ds.ManufacturerModelName = vendor.manufacturer, vendor.model
    ds.StationName, ds.SoftwareVersions = vendor.station, list(vendor.software)
    ds.PatientAge, ds.PatientWeight, ds.PatientSize = vendor.body
    if spec.identity in ("anonymous", "empty"):
        ds.PatientName = ds.PatientID = "ANONYMOUS" if spec.identity == "anonymous" else ""
        ds.PatientBirthDate = ds.PatientSex = ""
    if spec.identity == "anonymous":
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = "synthetic: there is no patient"
    if spec.identity == "unicode" or spec.wrong_charset:
        ds.PatientName = UNICODE
    if spec.wrong_charset:
        ds.SpecificCharacterSet = "ISO_IR 192"
    put_series(ds, series.description, series.number, series.start)
    if spec.stripped and not series.description:
        del ds.SeriesDescription
    ds.StudyInstanceUID = export.uid("study")
    ds.SeriesInstanceUID = export.uid("series", series.number)
    ds.FrameOfReferenceUID = export.uid("frame of reference", series.frame)
    if spec.no_frame_of_reference:
        del ds.FrameOfReferenceUID, ds.PositionReferenceIndicator
    group, creator, element, text = vendor.private
    ds.private_block(group, creator, create=True).add_new(element, "LO", text)
    return ds


def classic(export: Export, series: Series) -> Iterator[Any]:
    """MR Image instances in written order."""
    base = _series_header(export, series)
    numbers = numbering(export, len(series.planes), series.kind)
    for k, plane in enumerate(series.planes):
        # Elements of the series are shared, so that they are encoded once. Those set below must be new:
        # setting a shared one would change all data sets.
        ds: Any = Dataset({element.tag: element for element in base})
        put_plane(ds, series.protocol, plane, series.start)
        ds.InstanceNumber = 0 if export.spec.numbering == "zero" else numbers[k] + 1
        ds.SOPInstanceUID = export.uid("instance", series.number, k)
        ds.AcquisitionNumber, ds.EchoNumbers = plane.time, plane.echo
        ds.EchoTime = decimal(series.protocol.te * plane.echo)
        ds.SequenceName = series.protocol.pulse.replace("{b}", f"{plane.b_value or 0:.0f}")
        if series.times > 1:
            ds.TemporalPositionIdentifier = plane.time
        if plane.b_value is not None:
            ds.DiffusionBValue = plane.b_value
        put_pixels(ds, [plane.pixels], series.bits, export.syntax(series))
        yield ds


def _series_header(export: Export, series: Series) -> Any:
    protocol = series.protocol
    ds = common(export, series)
    put_protocol(ds, protocol)
    ds.MRAcquisitionType = "3D" if protocol.volume else "2D"
    if protocol.ti is None and "IR" in protocol.scanning:
        ds.InversionTime = ""
    if series.contrast and export.spec.contrast_tags:
        put_contrast(ds, series.start)
    elif series.contrast:
        ds.ContrastBolusAgent = ""
    ds.WindowCenter, ds.WindowWidth = series.window
    if export.vendor.scaled and not series.stored_later:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", decimal(SLOPE), "normalized"
    if series.times > 1:
        ds.NumberOfTemporalPositions = series.times
    return ds


def screenshot(export: Export, series: Series) -> Iterator[Any]:
    """Secondary Capture instances of RGB pictures: no geometry, no frame of reference."""
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
        put_pixels(ds, [plane.pixels], series.bits, export.syntax(series))
        yield ds


def put_pixels(
    ds: Any, pictures: list[NDArray[Any]], bits: int, syntax: Syntax, *, framed: bool = False
) -> None:
    """Image Pixel module (PS3.3 C.7.6.3) and the pixels of all frames, encoded.

    ``framed`` writes LossyImageCompression in any case, as Enhanced MR demands.
    """
    first = pictures[0]
    colour, packed = first.ndim == 3, syntax.encoder is not None
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = first.shape[:2]
    ds.BitsAllocated = first.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(first.dtype.kind == "i")
    frames = [encode(picture, bits, syntax) for picture in pictures]
    data = encapsulate(frames) if packed else b"".join(frames)
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if packed or ds.BitsAllocated == 8 else "OW"
    ds["PixelData"].is_undefined_length = packed
    if syntax.lossy:
        ds.LossyImageCompression = "01"
        ratio = sum(picture.nbytes for picture in pictures) / sum(map(len, frames))
        ds.LossyImageCompressionRatio = f"{ratio:.2f}"
        ds.LossyImageCompressionMethod = syntax.lossy
    elif framed:
        ds.LossyImageCompression = "00"
