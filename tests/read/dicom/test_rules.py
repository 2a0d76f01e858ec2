"""What the rules say of headers, and what descriptions say; each case says why it is in its table."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import uid

from gliosight.read.dicom.acquisition import frames_of
from gliosight.read.dicom.rules import RULES, WHY, fluid_ratio
from gliosight.read.dicom.words import contrast_hint, named_sequence
from gliosight.study import MrSequence

from .builders_series import FLAIR, MPRAGE, T1_SE, identified, instance

Header = dict[str, Any]
# A header without ImageType and timing.
STRIPPED: Header = {"ImageType": None}
GIVEN = {"ContrastBolusAgent": "Gadovist"}
SEQUENCES = {"FLAIR": MrSequence.FLAIR, "T1": MrSequence.T1, "T1 after contrast": MrSequence.T1C}


def mr(scanning: str | None, tr: float, te: float, ti: float = 0, **more: Any) -> Header:
    """Codes of ScanningSequence and TR, TE, TI in ms."""
    codes = scanning.split() if scanning else None
    return {
        "ScanningSequence": codes,
        "RepetitionTime": tr,
        "EchoTime": te,
        "InversionTime": ti or None,
        **more,
    }


def says(words: str | None) -> Header:
    return {"SeriesDescription": words}


def kind_of(image_type: str) -> Header:
    return {"ImageType": image_type.split("/")}


DERIVED = kind_of("DERIVED/SECONDARY")
INVERTED = kind_of("ORIGINAL/PRIMARY/M_IR/M/IR")
SPOILED = {"SequenceVariant": "SP"}

# Images that may be analysed: name, header, kind, and how sure where that is not certain.
IMAGES: list[tuple[str, Header, str]] = [
    ("Siemens 2D", FLAIR | says("t2_tirm_tra_dark-fluid"), "FLAIR"),
    (
        "Siemens 3D SPACE: the nominal echo time is long, the TR short for a FLAIR",
        mr("SE IR", 5000, 388, 1800, SequenceName="*spcir_278ns"),
        "FLAIR",
    ),
    (
        "GE CUBE: research mode, and inversion recovery only by its TI",
        mr("RM", 6502, 115.8, 1956, SequenceVariant="NONE", **says("Sag CUBE FLAIR")),
        "FLAIR",
    ),
    (
        "GE 2D, which nulls earlier than theory for its long echo train",
        mr("SE IR", 10002, 122.4, 2200, **says("AX T2 FLAIR")),
        "FLAIR",
    ),
    ("Philips 2D: IR alone", INVERTED | mr("IR", 11000, 125, 2800), "FLAIR"),
    ("Philips 3D VISTA", INVERTED | mr("IR", 4800, 293, 1650), "FLAIR"),
    ("Canon", mr("SE IR", 10000, 105, 2700, **says("FLAIR Ax")), "FLAIR"),
    ("0.064 T: short TR and TI, still nulling fluid", mr("IR", 4000, 228, 1400), "FLAIR"),
    ("described as T1: physics wins", FLAIR | says("T1"), "FLAIR"),
    ("after contrast medium it is a FLAIR", FLAIR | GIVEN, "FLAIR"),
    ("reformatted: usable, behind originals", FLAIR | DERIVED, "FLAIR (likely)"),
    ("without its TR", FLAIR | {"RepetitionTime": None}, "FLAIR (likely)"),
    ("without its TI", FLAIR | {"InversionTime": None} | says("ax flair"), "FLAIR (likely)"),
    (
        "an unusual TI, called FLAIR",
        FLAIR | mr("SE IR", 7500, 93, 3100, **says("flair")),
        "FLAIR (likely)",
    ),
    ("without TI and description", FLAIR | {"InversionTime": None}, "FLAIR (guess)"),
    ("stripped, the description alone", STRIPPED | says("AX FLAIR"), "FLAIR (guess)"),
    ("stripped, T2-FLAIR is FLAIR", STRIPPED | says("T2_FLAIR"), "FLAIR (guess)"),
    ("stripped, no words", STRIPPED, "unknown (guess)"),
    ("stripped, two sequences", STRIPPED | says("T1 FLAIR sag"), "unknown (guess)"),
    (
        "nonsense is as good as stripped",
        STRIPPED | mr(None, 0, -5, **says("FLAIR")),
        "FLAIR (guess)",
    ),
    ("stripped T1", STRIPPED | says("T1 axial"), "T1 (guess)"),
    ("stripped T2", STRIPPED | says("T2 axial"), "T2 (guess)"),
    ("stripped PD", STRIPPED | says("PD"), "PD (guess)"),
    ("Siemens spin echo", T1_SE, "T1"),
    ("described as FLAIR: physics wins", T1_SE | says("FLAIR ax"), "T1"),
    ("Siemens MPRAGE", MPRAGE | says("t1_mprage_sag"), "T1"),
    ("GE BRAVO: TR 8 ms, TI 450 ms", mr("GR IR", 8.2, 3.2, 450, FlipAngle=12), "T1"),
    ("GE MPRAGE", mr("RM IR", 2217.66, 3.172, 1000, FlipAngle=8), "T1"),
    (
        "Philips 3D TFE, with the TR of one echo and no TI",
        mr("GR", 8.1, 3.7, SequenceVariant="MP", FlipAngle=8, **says("3D T1 TFE")),
        "T1",
    ),
    (
        "GE T1-FLAIR: inverted for T1, called FLAIR, no FLAIR",
        mr("SE IR", 2500, 24, 860, **says("Sag T1 FLAIR")),
        "T1",
    ),
    (
        "prepared, by its variant",
        mr("GR", 2000, 3, SequenceVariant="MP", **says("T1 mprage")),
        "T1 (likely)",
    ),
    ("small flip angle", mr("GR", 7, 3, FlipAngle=6, **says("T1")), "T1 (likely)"),
    ("2D gradient echo", mr("GR", 250, 2.5, FlipAngle=70), "T1 (likely)"),
    ("T1 by its times", mr("RM", 500, 9, **says("T1")), "T1 (likely)"),
    ("contrast medium", T1_SE | GIVEN | says("t1 ax"), "T1 after contrast"),
    ("its volume alone", MPRAGE | {"ContrastBolusVolume": 7.5}, "T1 after contrast"),
    ("words say after", MPRAGE | says("AX T1 +C"), "T1 after contrast (likely)"),
    ("words say before", T1_SE | says("t1_se_tra ohne KM"), "T1 (likely)"),
    ("an agent that was none", T1_SE | {"ContrastBolusAgent": "NONE"}, "T1"),
    (
        "an agent noted before it was given",
        T1_SE | GIVEN | {"ContrastBolusStartTime": "103000", "AcquisitionTime": "101500"},
        "T1",
    ),
    ("given, words say before", T1_SE | GIVEN | says("T1 pre"), "T1 after contrast (likely)"),
    (
        "none given, words say after",
        T1_SE | {"ContrastBolusAgent": "none"} | says("T1 +C"),
        "T1 after contrast (guess)",
    ),
    ("STIR, called tirm like FLAIR", FLAIR | mr("SE IR", 4000, 60, 150), "STIR"),
    (
        "double inversion by name: its long TI lies in FLAIR's range",
        mr("SE IR", 7500, 325, 3000, **says("DIR_space_sag")),
        "DIR",
    ),
    (
        "double inversion: that TI does not null fluid at that TR",
        mr("SE IR", 7500, 325, 3000),
        "other inversion recovery",
    ),
    (
        "MP2RAGE's second inversion has FLAIR's TI and a short TE",
        mr("GR IR", 5000, 2.98, 2500, **says("INV2")),
        "other inversion recovery",
    ),
    ("PSIR", FLAIR | says("PSIR"), "PSIR"),
    ("T2 TSE", mr("SE", 5000, 100), "T2"),
    ("T2 called FLAIR, and not inverted", mr("SE", 6000, 100, **says("FLAIR")), "T2"),
    ("PD", mr("SE", 2300, 22), "PD"),
    ("T2* gradient echo", mr("GR", 600, 20, FlipAngle=20), "T2*"),
    ("SWI", kind_of("ORIGINAL/PRIMARY/M/SWI") | mr("GR", 28, 20), "T2*"),
    (
        "CISS has a T1 gradient echo's timing",
        mr("GR", 5.6, 2.5, FlipAngle=50, SequenceName="*ci3d1", **SPOILED),
        "steady-state gradient echo",
    ),
    ("another gradient echo", mr("GR", 900, 5, FlipAngle=10), "gradient echo"),
    ("nothing that tells", {"RepetitionTime": 1}, "other MR (guess)"),
]

# What is never analysed: name, header, kind.
NEVER: list[tuple[str, Header, str]] = [
    ("CT", {"Modality": "CT", "SOPClassUID": uid.CTImageStorage}, "CT"),
    ("ultrasound", {"Modality": "US", "SOPClassUID": uid.UltrasoundImageStorage}, "ultrasound"),
    ("segmentation", {"Modality": "SEG", "SOPClassUID": uid.SegmentationStorage}, "segmentation"),
    ("PET", {"Modality": "PT", "SOPClassUID": uid.PositronEmissionTomographyImageStorage}, "PET"),
    ("SR", {"Modality": "SR", "SOPClassUID": uid.BasicTextSRStorage}, "structured report"),
    ("spectroscopy by its class", {"SOPClassUID": uid.MRSpectroscopyStorage}, "MR Spectroscopy"),
    ("spectroscopy by its name", T1_SE | says("svs_se_30"), "spectroscopy"),
    (
        "a capture that claims MR",
        FLAIR | {"SOPClassUID": uid.SecondaryCaptureImageStorage},
        "secondary capture",
    ),
    ("GE screen save", FLAIR | kind_of("DERIVED/SECONDARY/SCREEN SAVE"), "secondary capture"),
    ("mosaic", T1_SE | kind_of("ORIGINAL/PRIMARY/M/ND/MOSAIC"), "mosaic"),
    ("localizer", T1_SE | kind_of("ORIGINAL/PRIMARY/LOCALIZER"), "localizer"),
    (
        "scout, timed like a T1",
        MPRAGE | {"InversionTime": None} | says("AAHead_Scout"),
        "localizer",
    ),
    ("GE calibration", T1_SE | says("ASSET calibration"), "localizer"),
    ("ADC", kind_of("DERIVED/PRIMARY/DIFFUSION/ADC/ND"), "derived map"),
    (
        "ADC by description, with its source's timing",
        mr(None, 5000, 90, **says("ADC")),
        "derived map",
    ),
    ("T1 map", T1_SE | kind_of("DERIVED/PRIMARY/T1 MAP/ND"), "derived map"),
    ("CBV", kind_of("DERIVED/PRIMARY/PERFUSION/RCBV") | {"EchoTime": 30}, "derived map"),
    ("MP2RAGE's uniform image", MPRAGE | kind_of("DERIVED/PRIMARY/M/UNI"), "derived map"),
    ("MIP", T1_SE | kind_of("DERIVED/SECONDARY/PROJECTION IMAGE"), "projection or subtraction"),
    ("subtraction", T1_SE | kind_of("DERIVED/SECONDARY/SUBTRACTION"), "projection or subtraction"),
    ("subtraction by name", MPRAGE | DERIVED | says("t1_mprage_SUB"), "projection or subtraction"),
    ("phase", T1_SE | kind_of("ORIGINAL/PRIMARY/P/ND"), "phase image"),
    ("Philips phase map", MPRAGE | kind_of("ORIGINAL/PRIMARY/PHASE MAP/P/FFE"), "phase image"),
    (
        "field map's magnitude, timed like a 2D T1",
        mr("GR", 450, 4.9, FlipAngle=60, **says("gre_field_mapping")),
        "field map",
    ),
    ("DWI", mr("EP", 5000, 90, SequenceName="*ep_b1000t"), "diffusion"),
    ("b value", {"DiffusionBValue": 1000.0, "ScanningSequence": "SE"}, "diffusion"),
    ("perfusion", mr("EP GR", 1500, 30), "perfusion or EPI"),
    ("EPI by its name", mr(None, 2000, 30, SequenceName="*epfid2d1_64"), "perfusion or EPI"),
    (
        "GE EPI by its options, inverted like a FLAIR",
        FLAIR | {"SequenceName": None, "ScanOptions": ["EPI_GEMS"]},
        "perfusion or EPI",
    ),
    (
        "TOF, timed like a T1 gradient echo",
        mr("GR", 22, 3.7, FlipAngle=18, **SPOILED, **says("TOF_3D_multi-slab")),
        "angiography",
    ),
    ("an ROI with the header of its FLAIR", FLAIR | says("FLAIR ROI"), "stored mask"),
    ("a mask by a name in one word", FLAIR | says("FlairROI"), "stored mask"),
    ("a segmentation, stripped", DERIVED | says("FLAIR_tumor_mask"), "stored mask"),
    ("one bit", FLAIR | {"BitsStored": 1}, "stored mask"),
    ("ImageType", FLAIR | kind_of("DERIVED/PRIMARY/SEGMENTATION"), "stored mask"),
    ("derived without timing", DERIVED | says("FLAIR"), "processed image or stored mask"),
    (
        "dynamic T1 by its times",
        MPRAGE | mr("GR", 5, 3, NumberOfTemporalPositions=60),
        "dynamic series",
    ),
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [row[1:] for row in IMAGES],
    ids=[f"{row[2]}: {row[0]}" for row in IMAGES],
)
def test_images_are_told_apart(values: Header, expected: str) -> None:
    shows = identified(**values)
    sure = shows.confidence == "certain"
    assert shows.kind + ("" if sure else f" ({shows.confidence})") == expected, shows
    assert shows.sequence is SEQUENCES.get(shows.kind)
    assert shows.usable
    assert shows.why


@pytest.mark.parametrize(
    ("values", "kind"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER]
)
def test_what_is_never_analysed(values: Header, kind: str) -> None:
    shows = identified(**values)
    assert (shows.kind, shows.usable, shows.sequence) == (kind, False, None), shows


def test_why_gives_the_values_and_the_contradiction() -> None:
    shows = identified(**FLAIR, SeriesDescription="T1 tra")
    assert "inversion recovery" in shows.why
    assert "TI 2500 ms, TE 93 ms, TR 9000 ms" in shows.why
    assert "the description says T1, which these values contradict" in shows.why
    assert "contradict" not in identified(**FLAIR, SeriesDescription="T2_FLAIR").why


def test_why_never_quotes_a_description() -> None:
    for values in (FLAIR, T1_SE, {}, kind_of("DERIVED/SECONDARY/MIP")):
        shows = identified(**values, SeriesDescription="Doe Jane FLAIR", ProtocolName="Doe Jane")
        assert "Doe" not in shows.why + shows.kind + shows.rule


def test_every_rule_has_a_name_of_its_own_and_is_met_by_the_tables() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert set(WHY) < set(names)
    assert all(rule.usable or rule.sequence is None for rule in RULES)
    assert {identified(**row[1]).rule.split(" + ")[0] for row in (*IMAGES, *NEVER)} == set(names)


def test_fluid_is_nulled_as_textbooks_say() -> None:
    # TR 9000 ms, TI 2500 ms: Siemens' own protocol at 3 T.
    ratio = fluid_ratio(frames_of(instance(**FLAIR))[0].acquisition)
    assert ratio == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("text", "sequence"),
    [
        ("t2_tirm_tra_dark-fluid", "FLAIR"),
        ("t2_spc_da-fl_irprep_sag", "FLAIR"),
        ("t2_tirm_cor_dark-fl", "FLAIR"),
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
def test_the_sequence_that_a_description_names(text: str, sequence: str | None) -> None:
    assert named_sequence(text) == sequence


# Behind "T1": many languages, signs and abbreviations.
BEFORE = (
    "pre|nativ|ohne KM|without contrast|non-contrast|w/o|SE AX sans inj|senza mdc|C-|tse_tra_KM-"
    "|bez kontrastu|bez KM|przed kontrastem|bez KL|sem contraste|antes do contraste|sin contraste"
    "|antes de gd|zonder contrast|geen contrast|utan kontrast|före kontrast|uden kontrast|uten km"
    "|before gd|before contrast|prima mdc|prima del mdc|avant injection|Gd-|KM minus|0 contrast|ce none"
    "|mdc negativo|kontrastsız|kontrastsiz|kontrast öncesi"
)
AFTER = (
    "+C|C+|mprage_sag_KM|GD|post gad|mit Kontrastmittel|avec injection|po kontrascie|z kontrastem|po KL"
    "|com contraste|POS|pós contraste|con contraste|despues de gd|met contrast|med kontrast|efter kontrast"
    "|after gd|dopo mdc|CIV|KU|GBCA|w con|w C|kontrastlı"
)
NEITHER = "pre and post gd|post-op|se_tra|do headu|SE no 5|vibe_sub1-"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        *((f"T1 {words}", False) for words in BEFORE.split("|")),
        *((f"T1 {words}", True) for words in AFTER.split("|")),
        *((f"T1 {words}", None) for words in NEITHER.split("|")),
        ("T1Post", True),
        ("T1w CE", True),
        ("3D phase contrast", None),
        ("B0 map", None),
    ],
)
def test_what_a_description_says_of_contrast(text: str, after: bool | None) -> None:
    assert contrast_hint(text) is after
