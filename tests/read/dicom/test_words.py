"""What the words of a description say of the sequence and of contrast medium."""

from __future__ import annotations

import pytest

from gliosight.read.dicom.words import contrast_hint, named_sequence


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_what_a_description_says(text: str, said: str | None) -> None:
    assert named_sequence(text) == said


BEFORE = (
    "bez kontrastu",
    "bez KM",
    "przed kontrastem",
    "bez KL",
    "sem contraste",
    "antes do contraste",
    "sin contraste",
    "antes de gd",
    "zonder contrast",
    "geen contrast",
    "utan kontrast",
    "före kontrast",
    "uden kontrast",
    "uten km",
    "before gd",
    "before contrast",
    "prima mdc",
    "prima del mdc",
    "avant injection",
    "Gd-",
    "KM minus",
    "0 contrast",
    "ce none",
    "mdc negativo",
    "kontrastsız",
    "kontrastsiz",
    "kontrast öncesi",
)
AFTER = (
    "po kontrascie",
    "z kontrastem",
    "po KL",
    "com contraste",
    "POS",
    "pós contraste",
    "con contraste",
    "despues de gd",
    "met contrast",
    "med kontrast",
    "efter kontrast",
    "after gd",
    "dopo mdc",
    "CIV",
    "KU",
    "GBCA",
    "w con",
    "w C",
    "kontrastlı",
)


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
        ("T1 C-", False),
        ("t1_tse_tra_KM-", False),
        *((f"T1 {words}", False) for words in BEFORE),
        *((f"T1 {words}", True) for words in AFTER),
        # Parts of other words and of other things.
        ("T1 do headu", None),
        ("T1 SE no 5", None),
        ("B0 map", None),
        ("t1_vibe_sub1-", None),
    ],
)
def test_what_a_description_says_of_contrast(text: str, after: bool | None) -> None:
    assert contrast_hint(text) is after
