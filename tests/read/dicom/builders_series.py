"""Headers as scanners write them, without files: what frames, rules, series and choices are tested on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items

from gliosight.read.dicom.acquisition import frames_of
from gliosight.read.dicom.instances import Instance, PixelElement
from gliosight.read.dicom.rules import Identified, identify
from gliosight.read.dicom.series import Series, series_of

STUDY = "1.2.3.1"
FRAME_OF_REFERENCE = "1.2.3.9"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

# Values by keyword that make a sequence; what the rules look at.
FLAIR = {
    "ScanningSequence": ["SE", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "SequenceName": "*tir2d1_16",
    "RepetitionTime": 9000,
    "EchoTime": 93,
    "InversionTime": 2500,
    "FlipAngle": 150,
}
T1_SE = {
    "ScanningSequence": "SE",
    "SequenceVariant": "SP",
    "RepetitionTime": 550,
    "EchoTime": 9,
    "FlipAngle": 90,
}
MPRAGE = {
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "SequenceName": "*tfl3d1_16ns",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 2300,
    "EchoTime": 2.98,
    "InversionTime": 900,
    "FlipAngle": 9,
}


def dataset(**values: Any) -> Dataset:
    """A data set of keywords; ``None`` leaves a keyword out."""
    out = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(out, keyword, value)
    return out


def instance(
    where: str = "a file",
    syntax: str = uid.ExplicitVRLittleEndian,
    oddities: tuple[str, ...] = (),
    pixels: bool = True,
    **values: Any,
) -> Instance:
    """One classic MR image's header; ``None`` as a value leaves a keyword out."""
    usual = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SOPClassUID": uid.MRImageStorage,
        "Modality": "MR",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.{values.get('SeriesNumber', 1)}",
        "SeriesNumber": 1,
        "FrameOfReferenceUID": FRAME_OF_REFERENCE,
        "Rows": 64,
        "Columns": 64,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "PixelSpacing": [0.9, 0.8],
        "SliceThickness": 5,
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [-100, -110, 0],
    }
    header = dataset(**{**usual, **values})
    header.file_meta = FileMetaDataset()
    return Instance(
        path=Path(where),
        where=where,
        header=header,
        syntax=syntax,
        size=2**24,
        oddities=oddities,
        pixels=PixelElement("PixelData", "OW", 1000, 8192) if pixels else None,
    )


def stack(
    slices: int = 12,
    number: int = 1,
    step: float = 6.0,
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-100.0, -110.0, -40.0),
    at: Iterable[float] | None = None,
    start: int = 1,
    time: str = "101500",
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    **values: Any,
) -> list[Instance]:
    """A series of parallel slices, from ``origin`` along the normal, in the scanner's order.

    ``at`` gives the positions, in steps, where they are not 0, 1, 2, ...; ``shift`` moves each slice
    against the one before it.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    out = []
    for index, place in enumerate(at if at is not None else range(slices)):
        position = np.array(origin) + step * place * normal + place * np.array(shift)
        count = start + index
        usual = {
            "SeriesNumber": number,
            "InstanceNumber": count,
            "SOPInstanceUID": f"{STUDY}.{number}.{count}",
            "AcquisitionDate": "20240102",
            "AcquisitionTime": time,
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [float(f"{mm:.6f}") for mm in position],
        }
        out.append(instance(f"series {number}, instance {count}", **{**usual, **values}))
    return out


def group(**values: Any) -> Items:
    """A functional group: a sequence of one item."""
    return Items([dataset(**values)])


def enhanced(
    frames: Iterable[dict[str, Any]],
    shared: dict[str, Any] | None = None,
    number: int = 1,
    **values: Any,
) -> Instance:
    """An Enhanced MR object; ``frames`` and ``shared`` hold groups by the keyword of their sequence."""
    items = [dataset(**groups) for groups in frames]
    usual: dict[str, Any] = {
        "SOPClassUID": uid.EnhancedMRImageStorage,
        "SOPInstanceUID": f"{STUDY}.{number}.1",
        "SeriesNumber": number,
        "NumberOfFrames": len(items),
        "ImageOrientationPatient": None,
        "ImagePositionPatient": None,
        "PixelSpacing": None,
        "SliceThickness": None,
        "SharedFunctionalGroupsSequence": Items([dataset(**(shared or {}))]),
        "PerFrameFunctionalGroupsSequence": Items(items),
    }
    return instance(f"series {number}, instance 1", **{**usual, **values})


def enhanced_frame(z: float, **groups: Any) -> dict[str, Any]:
    """The groups of one axial frame at a height, with others beside them."""
    return {
        "PlanePositionSequence": group(ImagePositionPatient=[-100, -110, z]),
        "PlaneOrientationSequence": group(ImageOrientationPatient=list(AXIAL)),
        "PixelMeasuresSequence": group(PixelSpacing=[0.9, 0.8], SliceThickness=5),
        **groups,
    }


# What Siemens XA and Philips write into the shared groups of a FLAIR.
ENHANCED_FLAIR: dict[str, Any] = {
    "MRTimingAndRelatedParametersSequence": group(
        RepetitionTime=9000, FlipAngle=150, EchoTrainLength=16
    ),
    "MREchoSequence": group(EffectiveEchoTime=94.0),
    "MRModifierSequence": group(InversionRecovery="YES", InversionTimes=[2500.0]),
}


def identified(**values: Any) -> Identified:
    """What the rules say of one classic image."""
    return identify(frames_of(instance(**values))[0].acquisition)


def series_in(instances: list[Instance]) -> tuple[Series, ...]:
    """The series of one study, given in a shuffled order."""
    shuffled = list(instances)
    random.Random(7).shuffle(shuffled)  # noqa: S311 - an order, no secret
    (series,) = series_of(shuffled).values()
    return series


def one_series(instances: list[Instance]) -> Series:
    """The only series of one study."""
    (series,) = series_in(instances)
    return series


def codes(series: Series) -> list[str]:
    """The codes of a series' flags."""
    return [note.code for note in series.flags]
