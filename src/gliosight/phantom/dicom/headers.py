"""What every instance of a study has in common, and its pixels (phantom layer).

In: an `Export` and a `Series`. Out: a pydicom `Dataset` with the modules of patient, study, series,
equipment and frame of reference (PS3.3 C.7), and the image pixel module. Nobody's name is in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from gliosight.phantom.dicom.encode import Syntax, encode
from gliosight.phantom.dicom.series import Export, Series

STUDY_DATE = "20240229"
# Seconds after midnight at which the study begins.
STUDY_BEGIN = 10 * 3600.0

_UNICODE = "PHANTOM^Ünïcødé"


def clock(seconds: float) -> str:
    """Time of day (TM) at so many seconds from the beginning of the study."""
    whole, fraction = divmod(round((STUDY_BEGIN + seconds) * 1000), 1000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{fraction:03d}000"


def decimals(values: Any) -> list[str]:
    """Numbers as decimal strings, as exact as 16 characters allow (PS3.5 6.2, DS)."""
    return [format_number_as_ds(float(one) + 0.0) for one in values]


def decimal(value: float) -> str:
    """One decimal string."""
    return decimals([value])[0]


def common(export: Export, series: Series) -> Any:
    """Everything that the instances of a series share, whatever their SOP class."""
    phantom, spec, vendor = export.phantom.spec, export.spec, export.vendor
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192" if spec.wrong_charset else "ISO_IR 100"
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = STUDY_DATE
    ds.StudyTime = clock(0)
    ds.SeriesTime = clock(series.start)
    ds.AccessionNumber = ""
    ds.Modality = "MR"
    ds.Manufacturer = vendor.manufacturer
    ds.InstitutionName = "Synthetic"
    ds.ReferringPhysicianName = ""
    ds.StationName = vendor.station
    ds.StudyDescription = "Synthetic head"
    if series.description or not spec.stripped:
        ds.SeriesDescription = series.description
    ds.ManufacturerModelName = vendor.model
    _patient(ds, export)
    ds.BodyPartExamined = "HEAD"
    ds.DeviceSerialNumber = "00000"
    ds.SoftwareVersions = list(vendor.software)
    ds.ProtocolName = series.description
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = export.uid("study")
    ds.SeriesInstanceUID = export.uid("series", series.number)
    ds.StudyID = f"{phantom.seed % 10000}"
    ds.SeriesNumber = series.number
    if not spec.no_frame_of_reference:
        ds.FrameOfReferenceUID = export.uid("frame of reference", series.frame)
        ds.PositionReferenceIndicator = ""
    group, creator, element, text = vendor.private
    ds.private_block(group, creator, create=True).add_new(element, "LO", text)
    return ds


def _patient(ds: Any, export: Export) -> None:
    seed, identity = export.phantom.spec.seed, export.spec.identity
    ds.PatientName = {
        "synthetic": "PHANTOM^SYNTHETIC",
        "unicode": _UNICODE,
        "anonymous": "ANONYMOUS",
        "empty": "",
    }[identity]
    if export.spec.wrong_charset:
        ds.PatientName = _UNICODE
    known = identity in ("synthetic", "unicode")
    ds.PatientID = {"empty": "", "anonymous": "ANONYMOUS"}.get(identity, f"PHANTOM-{seed:04d}")
    ds.PatientBirthDate = "19000101" if known else ""
    ds.PatientSex = "O" if known else ""
    ds.PatientAge, ds.PatientWeight, ds.PatientSize = export.vendor.body
    if identity == "anonymous":
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = "synthetic: there is no patient"


def put_contrast(ds: Any, export: Export, series: Series) -> None:
    """Contrast/Bolus module (PS3.3 C.7.6.4), full or empty."""
    if not series.contrast:
        return
    ds.ContrastBolusAgent = ""
    if export.spec.contrast_tags:
        ds.ContrastBolusAgent = "Gadolinium"
        ds.ContrastBolusRoute = "IV"
        ds.ContrastBolusVolume = "7.5"
        ds.ContrastBolusStartTime = clock(series.start - 240)
        ds.ContrastBolusIngredient = "GADOLINIUM"


def put_pixels(
    ds: Any, pictures: list[NDArray[np.generic]], bits: int, syntax: Syntax, *, framed: bool
) -> None:
    """Image Pixel module (PS3.3 C.7.6.3) and the pixels of all frames, encoded.

    Parameters
    ----------
    ds : pydicom.Dataset
    pictures : list of (rows, columns) or (rows, columns, 3) array
    bits : int
        BitsStored.
    syntax : Syntax
    framed : bool
        Whether LossyImageCompression is written in any case, as Enhanced MR demands.
    """
    first = pictures[0]
    ds.SamplesPerPixel = 3 if first.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if first.ndim == 3 else "MONOCHROME2"
    if first.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = first.shape[:2]
    ds.BitsAllocated = first.dtype.itemsize * 8
    ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(first.dtype.kind == "i")
    frames = [encode(one, bits, syntax) for one in pictures]
    if syntax.encoder is None:
        data = b"".join(frames)
        ds.PixelData = data + b"\0" * (len(data) % 2)
    else:
        ds.PixelData = encapsulate(frames)
    element = ds["PixelData"]
    element.VR = "OB" if syntax.encoder is not None or ds.BitsAllocated == 8 else "OW"
    element.is_undefined_length = syntax.encoder is not None
    if syntax.lossy:
        ds.LossyImageCompression = "01"
        ratio = sum(one.nbytes for one in pictures) / sum(len(one) for one in frames)
        ds.LossyImageCompressionRatio = f"{ratio:.2f}"
        ds.LossyImageCompressionMethod = syntax.lossy
    elif framed:
        ds.LossyImageCompression = "00"
