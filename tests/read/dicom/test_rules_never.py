"""Headers of what is never analysed, and what it is; each case says why it is in the table."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import uid

from .builders_series import FLAIR, MPRAGE, T1_SE, identified

# name, header, kind
NEVER: list[tuple[str, dict[str, Any], str]] = [
    ("CT", {"Modality": "CT", "SOPClassUID": uid.CTImageStorage}, "CT"),
    (
        "PET",
        {"Modality": "PT", "SOPClassUID": uid.PositronEmissionTomographyImageStorage},
        "PET",
    ),
    ("ultrasound", {"Modality": "US", "SOPClassUID": uid.UltrasoundImageStorage}, "ultrasound"),
    ("SR", {"Modality": "SR", "SOPClassUID": uid.BasicTextSRStorage}, "structured report"),
    ("SEG", {"Modality": "SEG", "SOPClassUID": uid.SegmentationStorage}, "segmentation"),
    (
        "spectroscopy stored as MR",
        {"Modality": "MR", "SOPClassUID": uid.MRSpectroscopyStorage},
        "MR Spectroscopy",
    ),
    (
        "a capture that claims MR",
        {**FLAIR, "SOPClassUID": uid.SecondaryCaptureImageStorage},
        "secondary capture",
    ),
    (
        "GE screen save in MR clothes",
        {**FLAIR, "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        "secondary capture",
    ),
    ("mosaic", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], **T1_SE}, "mosaic"),
    (
        "localizer by ImageType",
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], **T1_SE},
        "localizer",
    ),
    (
        "Siemens scout, timed like a T1",
        {**MPRAGE, "InversionTime": None, "SeriesDescription": "AAHead_Scout"},
        "localizer",
    ),
    ("GE calibration", {**T1_SE, "SeriesDescription": "ASSET calibration"}, "localizer"),
    (
        "ADC by ImageType",
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]},
        "derived map",
    ),
    ("FA map", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]}, "derived map"),
    (
        "ADC by description, with the timing of its source",
        {"SeriesDescription": "ADC", "RepetitionTime": 5000, "EchoTime": 90},
        "derived map",
    ),
    ("T1 map", {"ImageType": ["DERIVED", "PRIMARY", "T1 MAP", "ND"], **T1_SE}, "derived map"),
    (
        "CBV",
        {"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBV"], "EchoTime": 30},
        "derived map",
    ),
    (
        "MP2RAGE's uniform image",
        {**MPRAGE, "ImageType": ["DERIVED", "PRIMARY", "M", "UNI"]},
        "derived map",
    ),
    (
        "MIP",
        {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"], **T1_SE},
        "projection or subtraction",
    ),
    (
        "subtraction by ImageType",
        {"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"], **T1_SE},
        "projection or subtraction",
    ),
    (
        "subtraction by name",
        {"ImageType": ["DERIVED", "SECONDARY"], **MPRAGE, "SeriesDescription": "t1_mprage_SUB"},
        "projection or subtraction",
    ),
    (
        "phase",
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"], **T1_SE},
        "phase image",
    ),
    (
        "Philips phase map",
        {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], **MPRAGE},
        "phase image",
    ),
    (
        "field map's magnitude, timed like a 2D T1",
        {
            "ScanningSequence": "GR",
            "RepetitionTime": 450,
            "EchoTime": 4.9,
            "FlipAngle": 60,
            "SeriesDescription": "gre_field_mapping",
        },
        "field map",
    ),
    (
        "DWI",
        {"ScanningSequence": "EP", "SequenceName": "*ep_b1000t", "EchoTime": 90},
        "diffusion",
    ),
    ("diffusion by b value", {"DiffusionBValue": 1000.0, "ScanningSequence": "SE"}, "diffusion"),
    (
        "perfusion",
        {"ScanningSequence": ["EP", "GR"], "RepetitionTime": 1500, "EchoTime": 30},
        "perfusion or EPI",
    ),
    (
        "EPI by its sequence's name",
        {"SequenceName": "*epfid2d1_64", "RepetitionTime": 2000, "EchoTime": 30},
        "perfusion or EPI",
    ),
    (
        "GE EPI by its options, inverted like a FLAIR",
        {**FLAIR, "SequenceName": None, "ScanOptions": ["EPI_GEMS"]},
        "perfusion or EPI",
    ),
    (
        "TOF angiography, timed like a T1 gradient echo",
        {
            "ScanningSequence": "GR",
            "SequenceVariant": "SP",
            "RepetitionTime": 22,
            "EchoTime": 3.7,
            "FlipAngle": 18,
            "SeriesDescription": "TOF_3D_multi-slab",
        },
        "angiography",
    ),
    (
        "an ROI stored as MR, with the header of its FLAIR and FLAIR in its name",
        {**FLAIR, "SeriesDescription": "FLAIR ROI"},
        "stored mask",
    ),
    (
        "a segmentation stored as MR, stripped",
        {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "FLAIR_tumor_mask"},
        "stored mask",
    ),
    (
        "a derived object without timing, with FLAIR in its name",
        {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "FLAIR"},
        "processed image or stored mask",
    ),
    ("a mask by a name in one word", {**FLAIR, "SeriesDescription": "FlairROI"}, "stored mask"),
    ("one bit", {**FLAIR, "BitsStored": 1}, "stored mask"),
    (
        "ImageType says segmentation",
        {**FLAIR, "ImageType": ["DERIVED", "PRIMARY", "SEGMENTATION"]},
        "stored mask",
    ),
    (
        "dynamic T1 by its times",
        {**MPRAGE, "InversionTime": None, "RepetitionTime": 5, "NumberOfTemporalPositions": 60},
        "dynamic series",
    ),
]


@pytest.mark.parametrize(
    ("values", "kind"), [one[1:] for one in NEVER], ids=[one[0] for one in NEVER]
)
def test_what_is_never_analysed(values: dict[str, Any], kind: str) -> None:
    found = identified(**values)
    assert (found.kind, found.usable, found.sequence) == (kind, False, None), found
