"""What goes wrong with headers and files on their way from a scanner (phantom layer).

In: a data set, or the bytes of its file. Out: the same, as `DicomSpec` damages it. How pictures are
numbered, repeated and displaced is not here but in ``series`` and ``place``: that has to be known
when they are made.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from gliosight.phantom.dicom.part10 import PREAMBLE
from gliosight.phantom.dicom.series import Export

# The group length's element: tag, VR, length and four bytes of value.
_GROUP_LENGTH_BYTES = 12

# What pixels and geometry need, and what MR Image cannot be without (Type 1).
_KEPT = frozenset(
    [
        "SpecificCharacterSet",
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "Modality",
        "SeriesDescription",
        "ScanningSequence",
        "SequenceVariant",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RescaleIntercept",
        "RescaleSlope",
        "LossyImageCompression",
        "LossyImageCompressionRatio",
        "LossyImageCompressionMethod",
        "ConversionType",
        "PixelData",
    ]
)


def strip(ds: Any) -> None:
    """Take out every attribute of Type 2 and 3, timing included."""
    for element in list(ds):
        if element.keyword not in _KEPT:
            del ds[element.tag]


def misspell(ds: Any, *, implicit: bool, little: bool) -> None:
    """Write the patient's name in Latin-1, whatever the character set says."""
    tag = Tag(tag_for_keyword("PatientName"))
    if tag in ds:
        value = str(ds.PatientName).encode("latin-1")
        value += b" " * (len(value) % 2)
        ds[tag] = RawDataElement(tag, "PN", len(value), value, 0, implicit, little)


def cut(data: bytes, *, preamble: bool, meta: bool) -> bytes:
    """Cut the beginning of a file off: the preamble with its prefix, or the meta group as well."""
    start = len(PREAMBLE)
    if meta:
        length = int.from_bytes(data[start + 8 : start + _GROUP_LENGTH_BYTES], "little")
        return data[start + _GROUP_LENGTH_BYTES + length :]
    return data[start:] if preamble else data


def meaningless(export: Export, count: int) -> list[str]:
    """File names without order or meaning, all different."""
    generator = np.random.default_rng([export.phantom.spec.seed, 7])
    return [uuid.UUID(bytes=generator.bytes(16), version=4).hex[:16] for _ in range(count)]
