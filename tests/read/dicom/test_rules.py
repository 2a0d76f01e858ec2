"""Headers of real scanners and what they are; each case says why it is in the table."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import uid

from gliosight.read.dicom.frames import frames_of
from gliosight.read.dicom.hints import contrast_hint, said_sequence
from gliosight.read.dicom.matching import fluid_ratio
from gliosight.read.dicom.rules import RULES, Identified, identify
from gliosight.study import Sequence

from .builders_series import FLAIR, MPRAGE, T1_SE, instance

STRIPPED = {"ImageType": None, "Modality": "MR"}


def identified(**values: Any) -> Identified:
    return identify(frames_of(instance(**values))[0].acquisition)


# name, header, sequence, kind, confidence
IMAGES: list[tuple[str, dict[str, Any], Sequence | None, str, str]] = [
    (
        "Siemens 2D FLAIR (tirm)",
        {**FLAIR, "SeriesDescription": "t2_tirm_tra_dark-fluid"},
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "Siemens 3D SPACE FLAIR: the nominal echo time is long, the TR short for a FLAIR",
        {
            "ScanningSequence": ["SE", "IR"],
            "SequenceVariant": ["SK", "SP", "MP"],
            "SequenceName": "*spcir_278ns",
            "RepetitionTime": 5000,
            "EchoTime": 388,
            "InversionTime": 1800,
            "FlipAngle": 120,
            "MRAcquisitionType": "3D",
            "SeriesDescription": "t2_space_dark-fluid_sag_p2_iso",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "GE CUBE FLAIR: research mode, and inversion recovery only by its TI",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
            "ScanningSequence": ["RM"],
            "SequenceVariant": "NONE",
            "ScanOptions": ["FAST_GEMS", "EDR_GEMS", "IR_GEMS"],
            "RepetitionTime": 6502,
            "EchoTime": 115.8,
            "InversionTime": 1956,
            "FlipAngle": 90,
            "SeriesDescription": "Sag CUBE FLAIR",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "GE 2D T2 FLAIR, which nulls earlier than theory for its long echo train",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
            "ScanningSequence": ["SE", "IR"],
            "SequenceVariant": "SK",
            "RepetitionTime": 10002,
            "EchoTime": 122.4,
            "InversionTime": 2200,
            "SeriesDescription": "AX T2 FLAIR",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "Philips 2D FLAIR: IR alone in ScanningSequence",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "M_IR", "M", "IR"],
            "ScanningSequence": "IR",
            "SequenceVariant": "SK",
            "RepetitionTime": 11000,
            "EchoTime": 125,
            "InversionTime": 2800,
            "SeriesDescription": "FLAIR longTR",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "Philips 3D VISTA FLAIR",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "M_IR", "M", "IR"],
            "ScanningSequence": "IR",
            "RepetitionTime": 4800,
            "EchoTime": 293,
            "InversionTime": 1650,
            "SeriesDescription": "3D_Brain_VIEW_FLAIR",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "Canon FLAIR",
        {
            "ScanningSequence": ["SE", "IR"],
            "RepetitionTime": 10000,
            "EchoTime": 105,
            "InversionTime": 2700,
            "SeriesDescription": "FLAIR Ax",
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "portable scanner at 0.064 T: short TR and TI, still fluid-nulling",
        {
            "ScanningSequence": "IR",
            "RepetitionTime": 4000,
            "EchoTime": 228,
            "InversionTime": 1400,
        },
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "a FLAIR described as T1: physics wins",
        {**FLAIR, "SeriesDescription": "T1"},
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "a FLAIR without any description",
        {**FLAIR, "SeriesDescription": None},
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "a FLAIR after contrast medium is a FLAIR",
        {**FLAIR, "ContrastBolusAgent": "Gadovist"},
        Sequence.FLAIR,
        "FLAIR",
        "certain",
    ),
    (
        "a reformatted FLAIR stays usable, behind originals",
        {**FLAIR, "ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR"]},
        Sequence.FLAIR,
        "FLAIR",
        "likely",
    ),
    (
        "a filtered FLAIR stays usable",
        {**FLAIR, "ImageType": ["DERIVED", "PRIMARY", "M", "NORM", "FIL"]},
        Sequence.FLAIR,
        "FLAIR",
        "likely",
    ),
    (
        "FLAIR without its TR",
        {**FLAIR, "RepetitionTime": None},
        Sequence.FLAIR,
        "FLAIR",
        "likely",
    ),
    (
        "FLAIR without its TI, described so",
        {**FLAIR, "InversionTime": None, "SeriesDescription": "ax flair"},
        Sequence.FLAIR,
        "FLAIR",
        "likely",
    ),
    (
        "inversion recovery, long TR and TE, no TI, no description: probably FLAIR",
        {**FLAIR, "InversionTime": None},
        Sequence.FLAIR,
        "FLAIR",
        "guess",
    ),
    (
        "stripped header, the description alone",
        {**STRIPPED, "SeriesDescription": "AX FLAIR"},
        Sequence.FLAIR,
        "FLAIR",
        "guess",
    ),
    (
        "stripped header, T2-FLAIR is FLAIR",
        {**STRIPPED, "SeriesDescription": "T2_FLAIR"},
        Sequence.FLAIR,
        "FLAIR",
        "guess",
    ),
    (
        "stripped header, no words: unknown",
        {**STRIPPED, "SeriesDescription": None},
        None,
        "unknown",
        "guess",
    ),
    (
        "stripped header, FLAIR and T1 in one description say nothing",
        {**STRIPPED, "SeriesDescription": "T1 FLAIR sag"},
        None,
        "unknown",
        "guess",
    ),
    (
        "timing that is nonsense is as good as stripped",
        {**STRIPPED, "RepetitionTime": 0, "EchoTime": -5, "SeriesDescription": "FLAIR"},
        Sequence.FLAIR,
        "FLAIR",
        "guess",
    ),
    ("Siemens T1 spin echo", {**T1_SE}, Sequence.T1, "T1", "certain"),
    (
        "a T1 described as FLAIR: physics wins",
        {**T1_SE, "SeriesDescription": "FLAIR ax"},
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "Siemens MPRAGE",
        {**MPRAGE, "SeriesDescription": "t1_mprage_sag"},
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "GE BRAVO: TR 8 ms, TI 450 ms",
        {
            "ScanningSequence": ["GR", "IR"],
            "SequenceVariant": ["SS", "SP", "SK"],
            "RepetitionTime": 8.2,
            "EchoTime": 3.2,
            "InversionTime": 450,
            "FlipAngle": 12,
            "SeriesDescription": "Ax BRAVO",
        },
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "GE MPRAGE of the test data: [RM, IR]",
        {
            "ScanningSequence": ["RM", "IR"],
            "SequenceVariant": "NONE",
            "RepetitionTime": 2217.66,
            "EchoTime": 3.172,
            "InversionTime": 1000,
            "FlipAngle": 8,
            "SeriesDescription": "3D Ax T1 MP-RAGE_R22",
        },
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "Philips 3D T1 TFE, with the TR of one echo and no TI",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
            "ScanningSequence": "GR",
            "SequenceVariant": "MP",
            "RepetitionTime": 8.1,
            "EchoTime": 3.7,
            "FlipAngle": 8,
            "SeriesDescription": "3D T1 TFE",
        },
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "GE T1-FLAIR: inverted for T1, called FLAIR, no FLAIR",
        {
            "ScanningSequence": ["SE", "IR"],
            "SequenceVariant": "SK",
            "RepetitionTime": 2500,
            "EchoTime": 24,
            "InversionTime": 860,
            "SeriesDescription": "Sag T1 FLAIR",
        },
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "contrast medium in the header",
        {**T1_SE, "ContrastBolusAgent": "Gadovist", "SeriesDescription": "t1 ax"},
        Sequence.T1C,
        "T1 after contrast",
        "certain",
    ),
    (
        "contrast medium in an enhanced header's sequence",
        {**MPRAGE, "ContrastBolusVolume": 7.5},
        Sequence.T1C,
        "T1 after contrast",
        "certain",
    ),
    (
        "the words alone say after contrast medium",
        {**MPRAGE, "SeriesDescription": "AX T1 +C"},
        Sequence.T1C,
        "T1 after contrast",
        "likely",
    ),
    (
        "the words say before: German",
        {**T1_SE, "SeriesDescription": "t1_se_tra ohne KM"},
        Sequence.T1,
        "T1",
        "likely",
    ),
    (
        "an agent that was none",
        {**T1_SE, "ContrastBolusAgent": "NONE"},
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "an agent noted before it was given",
        {
            **T1_SE,
            "ContrastBolusAgent": "Dotarem",
            "ContrastBolusStartTime": "103000",
            "AcquisitionTime": "101500",
        },
        Sequence.T1,
        "T1",
        "certain",
    ),
    (
        "the header says given, the words before: the header wins, less sure",
        {**T1_SE, "ContrastBolusAgent": "Dotarem", "SeriesDescription": "T1 pre"},
        Sequence.T1C,
        "T1 after contrast",
        "likely",
    ),
    (
        "STIR, called tirm like Siemens' FLAIR",
        {
            **FLAIR,
            "RepetitionTime": 4000,
            "EchoTime": 60,
            "InversionTime": 150,
            "SeriesDescription": "t2_tirm_cor",
        },
        None,
        "STIR",
        "certain",
    ),
    (
        "STIR called FLAIR",
        {**FLAIR, "InversionTime": 160, "SeriesDescription": "FLAIR"},
        None,
        "STIR",
        "certain",
    ),
    (
        "double inversion by name: its long TI lies in FLAIR's range",
        {
            **FLAIR,
            "SequenceName": "*spcir_278ns",
            "RepetitionTime": 7500,
            "EchoTime": 325,
            "InversionTime": 3000,
            "SeriesDescription": "DIR_space_sag",
        },
        None,
        "DIR",
        "certain",
    ),
    (
        "double inversion without its name: that TI does not null fluid at that TR",
        {**FLAIR, "RepetitionTime": 7500, "EchoTime": 325, "InversionTime": 3000},
        None,
        "other inversion recovery",
        "certain",
    ),
    (
        "MP2RAGE's second inversion has FLAIR's TI and a short TE",
        {**MPRAGE, "RepetitionTime": 5000, "InversionTime": 2500, "SeriesDescription": "INV2"},
        None,
        "other inversion recovery",
        "certain",
    ),
    (
        "T2 TSE",
        {"ScanningSequence": "SE", "RepetitionTime": 5000, "EchoTime": 100, "FlipAngle": 150},
        None,
        "T2",
        "certain",
    ),
    (
        "T2 called FLAIR, and not inverted: a T2",
        {
            "ScanningSequence": "SE",
            "RepetitionTime": 6000,
            "EchoTime": 100,
            "SeriesDescription": "FLAIR",
        },
        None,
        "T2",
        "certain",
    ),
    (
        "PD of the test data",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "MPR"],
            "ScanningSequence": "SE",
            "RepetitionTime": 2300,
            "EchoTime": 22,
        },
        None,
        "PD",
        "certain",
    ),
    (
        "T2* gradient echo",
        {"ScanningSequence": "GR", "RepetitionTime": 600, "EchoTime": 20, "FlipAngle": 20},
        None,
        "T2*",
        "certain",
    ),
    (
        "Siemens SWI",
        {
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "SWI", "NORM"],
            "ScanningSequence": "GR",
            "RepetitionTime": 28,
            "EchoTime": 20,
            "FlipAngle": 15,
        },
        None,
        "T2*",
        "certain",
    ),
    (
        "CISS has a T1 gradient echo's timing and is none",
        {
            "ScanningSequence": "GR",
            "SequenceVariant": ["SS", "SP"],
            "SequenceName": "*ci3d1",
            "RepetitionTime": 5.6,
            "EchoTime": 2.5,
            "FlipAngle": 50,
        },
        None,
        "steady-state gradient echo",
        "certain",
    ),
]


@pytest.mark.parametrize(
    ("values", "sequence", "kind", "confidence"),
    [one[1:] for one in IMAGES],
    ids=[one[0] for one in IMAGES],
)
def test_images_are_told_apart(
    values: dict[str, Any], sequence: Sequence | None, kind: str, confidence: str
) -> None:
    found = identified(**values)
    assert (found.sequence, found.kind, found.confidence) == (sequence, kind, confidence), found
    assert found.usable
    assert found.why


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


def test_why_gives_the_values_and_the_contradiction() -> None:
    found = identified(**FLAIR, SeriesDescription="T1 tra")
    assert "inversion recovery" in found.why
    assert "TI 2500 ms, TE 93 ms, TR 9000 ms" in found.why
    assert "the description says T1, which these values contradict" in found.why
    assert "contradict" not in identified(**FLAIR, SeriesDescription="T2_FLAIR").why


def test_why_never_quotes_a_description() -> None:
    for values in (FLAIR, T1_SE, {}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}):
        found = identified(**values, SeriesDescription="Doe Jane FLAIR", ProtocolName="Doe Jane")
        assert "Doe" not in found.why + found.kind + found.rule


def test_every_rule_has_a_name_of_its_own_and_the_last_one_takes_all() -> None:
    names = [one.name for one in RULES]
    assert len(set(names)) == len(names)
    assert all(
        one.sequence in (None, Sequence.FLAIR, Sequence.T1) and (one.usable or one.sequence is None)
        for one in RULES
    )
    assert identified(RepetitionTime=1).rule == "other"


def test_every_rule_is_met_by_the_tables() -> None:
    met = {identified(**one[1]).rule.split(" + ")[0] for one in (*IMAGES, *NEVER)}
    more = [
        {"SeriesDescription": "svs_se_30", **T1_SE},
        {**FLAIR, "SeriesDescription": "PSIR"},
        {**FLAIR, "RepetitionTime": 7500, "InversionTime": 3100, "SeriesDescription": "flair"},
        {**STRIPPED, "SeriesDescription": "T1 axial"},
        {**STRIPPED, "SeriesDescription": "T2 axial"},
        {**STRIPPED, "SeriesDescription": "PD"},
        {"ScanningSequence": "GR", "SequenceVariant": "MP", "RepetitionTime": 2000, "EchoTime": 3}
        | {"SeriesDescription": "T1 mprage"},
        {"ScanningSequence": "GR", "RepetitionTime": 7, "EchoTime": 3, "FlipAngle": 6}
        | {"SeriesDescription": "T1"},
        {"ScanningSequence": "GR", "RepetitionTime": 250, "EchoTime": 2.5, "FlipAngle": 70},
        {"ScanningSequence": "GR", "RepetitionTime": 900, "EchoTime": 5, "FlipAngle": 10},
        {"ScanningSequence": "RM", "RepetitionTime": 500, "EchoTime": 9, "SeriesDescription": "T1"},
        {"RepetitionTime": 1},
    ]
    met |= {identified(**one).rule.split(" + ")[0] for one in more}
    assert met == {one.name for one in RULES}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t2_tirm_tra_dark-fluid", "FLAIR"),
        ("AX T2 FLAIR", "FLAIR"),
        ("3D T1 FLAIR", None),
        ("sagT1w", "T1"),
        ("test1 run", None),
        ("T10 spine", None),
        ("PD T2", None),
        ("cor STIR", "STIR"),
        ("", None),
    ],
)
def test_what_a_description_says(text: str, said: str | None) -> None:
    assert said_sequence(text) == said


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("AX T1 +C", True),
        ("T1 C+", True),
        ("t1_mprage_sag_KM", True),
        ("T1 GD", True),
        ("T1Post", True),
        ("Ax T1 post gad", True),
        ("T1w CE", True),
        ("t1 mit Kontrastmittel", True),
        ("T1 pre", False),
        ("T1 nativ", False),
        ("T1 ohne KM", False),
        ("T1 without contrast", False),
        ("T1 non-contrast", False),
        ("T1 w/o", False),
        ("T1 SE AX sans inj", False),
        ("T1 avec injection", True),
        ("T1 senza mdc", False),
        ("T1 pre and post gd", None),
        ("T1 post-op", None),
        ("3D phase contrast", None),
        ("t1_se_tra", None),
    ],
)
def test_what_a_description_says_of_contrast(text: str, after: bool | None) -> None:
    assert contrast_hint(text) is after


def test_fluid_is_nulled_as_textbooks_say() -> None:
    # TR 9000 ms, TI 2500 ms: Siemens' own protocol at 3 T.
    ratio = fluid_ratio(frames_of(instance(**FLAIR))[0].acquisition)
    assert ratio == pytest.approx(1.0, abs=0.03)
