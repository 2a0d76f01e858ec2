"""What names say."""

from __future__ import annotations

import pytest

from gliosight.read.naming import (
    contradiction,
    is_mask,
    nifti_series,
    promises_archive,
    sequence_of,
    slice_number,
    stem,
)
from gliosight.study import Sequence

FLAIR, T1, T1C = Sequence.FLAIR, Sequence.T1, Sequence.T1C


@pytest.mark.parametrize(
    ("name", "sequence", "series"),
    [
        ("BraTS2021_00006_flair.nii.gz", FLAIR, "BraTS2021_00006"),
        ("BraTS2021_00006_t1ce.nii.gz", T1C, "BraTS2021_00006"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", T1C, "sub-01"),
        ("sub-01_acq-x_T1w.nii.gz", T1, "sub-01_acq-x"),
        ("sub-01_space-T1w_FLAIR.nii.gz", FLAIR, "sub-01"),  # FLAIR on T1's grid
        ("p_T1_to_FLAIR.nii", T1, "p"),  # the other way round
        ("p_T1_FLAIR.nii", None, "p"),  # either: not guessed
        ("MD_001_t2_flair.nii", FLAIR, "MD_001"),  # MD is somebody's code here
        ("case_2_t1.nii", T1, "case_2"),
        ("flair.nii.gz", FLAIR, ""),
        ("axT2FLAIR.nii", FLAIR, ""),
        ("3D_SPACE_FLAIR.nii", FLAIR, "3D_SPACE"),  # the pulse sequence, not BIDS' entity
        ("T1_post.nii", T1C, ""),
        ("x_T2w.nii", "T2", "x"),
        ("x_dwi.nii", "DWI", "x"),
        ("t1_t2_ratio.nii", None, "ratio"),
        ("scan.nii", None, "scan"),
    ],
)
def test_sequences(name: str, sequence: Sequence | str | None, series: str) -> None:
    assert sequence_of(name) == sequence
    assert nifti_series(name) == series


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("TCGA_CS_4941_19960909_7.tif", ("TCGA_CS_4941_19960909", 7)),
        ("slice_003_flair.png", ("slice_flair", 3)),
        ("001.png", ("", 1)),
        ("IM-0001-0023.jpg", ("IM-0001", 23)),
        ("scan_T1w.png", ("scan_T1w", None)),
    ],
)
def test_slice_numbers(name: str, wanted: tuple[str, int | None]) -> None:
    assert slice_number(name) == wanted


@pytest.mark.parametrize("name", ["p_1_mask.tif", "p_seg.nii", "sub_brainmask.nii", "a_dseg.nii"])
def test_masks(name: str) -> None:
    assert is_mask(name)


@pytest.mark.parametrize("name", ["unmasked_flair.nii", "Segovia_1.png", "labelle.tif"])
def test_not_masks(name: str) -> None:
    assert not is_mask(name)


def test_stems() -> None:
    assert stem("a.b.NII.GZ") == "a.b"
    assert stem(".nii") == ".nii"
    assert stem("v1.2") == "v1.2"


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("a.zip", True),
        ("a.nii.ZIP", True),
        ("a.tar.gz", True),
        ("download", True),  # nothing denies it
        ("letter.docx", False),
        ("a.png", False),
    ],
)
def test_archives_by_name(name: str, promised: bool) -> None:
    assert promises_archive(name) is promised


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("p_flair.nii", FLAIR, None),
        ("scan.nii", FLAIR, None),
        ("p_T1_FLAIR.nii", FLAIR, None),  # says neither
        ("p_t1.nii", T1C, "T1"),
        ("p_dwi.nii", FLAIR, "DWI"),
        ("p_flair_seg.nii", FLAIR, "a mask or label map"),
    ],
)
def test_contradictions(name: str, given: Sequence, said: str | None) -> None:
    assert contradiction(name, given) == said
