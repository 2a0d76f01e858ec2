"""What names say, and which names are of one study."""

from __future__ import annotations

import pytest

from gliosight.read import naming
from gliosight.read.naming import (
    group_by_flair,
    is_mask,
    is_structural_folder,
    nifti_series,
    sequence_folder,
    sequence_of,
    slice_number,
    stem,
    telling_name,
)
from gliosight.study import MrSequence

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C


SERIES = {
    "BraTS2021_00006_t1ce.nii.gz": "BraTS2021_00006",
    "sub-01_ce-gadolinium_T1w.nii.gz": "sub-01",  # entities tell no patient
    "sub-01_space-T1w_FLAIR.nii.gz": "sub-01",
    "p_T1_to_FLAIR.nii": "p",
    "MD_001_t2_flair.nii": "MD_001",  # MD is somebody's code here
    "case_2_t1.nii": "case_2",
    "axT2FLAIR.nii": "",
    "3D_SPACE_FLAIR.nii": "3D_SPACE",  # the pulse sequence, not BIDS' entity
    "t1_t2_ratio.nii": "ratio",
    "scan.nii": "scan",
}


def test_what_the_files_of_a_study_share() -> None:
    assert {name: nifti_series(name) for name in SERIES} == SERIES


# By what the names have in common; each line is a convention of a scanner, a tool or a data set.
SAYS = {
    FLAIR: """
        t2_tirm_tra_dark-fluid t2_tirm_tra_dark-flu t2_spc_da-fl t2_spc_ir_sag_da-fl_p2_iso darkfluid
        dark_fluid
        DarkFluid t2_space_dark-fluid_sag_p2_iso T2-FLAIR-Philips-VISTA Ax_T2_FLAIR_FS t2f BraTS-GLI-1-000-t2f
        UCSF-PDGM-0001_FLAIR_bias UPENN-GBM-00001_11_FLAIR flair_brain flair_biascorr FLAIR_reg rFLAIR
        FLAIR2T1 FLAIR_in_T1space FLAIR_e1 FLAIR_Eq FLAIR_Tilt 5_t2_tirm_tra_dark-fluid_20150101120000
        sub-1_ses-2_acq-T1_FLAIR sub-1_acq-mask_run-1_FLAIR sub-1_space-T1w_desc-preproc_FLAIR FLAIR_post
        PD_flair CE_002_FLAIR FLAIR.prenorm TCGA-02-0006_1996.08.23_flair
        3DFLAIR VSD.Brain.XX.O.MR_Flair.54512
        PatientID_0003_Timepoint_1_brain_t2f FLAIR_subA FLAIR_sub_A flair_time01_on_middle_space MAP_001_FLAIR
        training01_01_flair_pp MD_001_t2_flair axT2FLAIR 3D_SPACE_FLAIR sub-01_space-T1w_FLAIR
    """,
    T1C: """
        t1_mpr_ns_sag_km T1_C+ T1+C +C ax_+C gad T1_SE_GAD T1GD t1_mpr_+c T1wCE T1_KM t1_vibe_fs_tra_KM mpr_KM
        CT1 cT1 ceT1 CE-T1 T1w_ce T1Post postContrastT1 T1ce_n4 t1c+ t1c BraTS-GLI-1-000-t1c
        UPENN-GBM-00001_11_T1GD UCSF-PDGM-0001_T1gad_bias ReMIND-001_PreOP_T1post preop_T1_gd T1-Gd-DTPA
        T1_inj BraTS2021_00006_t1ce sub-01_ce-gadolinium_T1w
        ce-gad_T1w ses-1_ce-GD_T1w 3DT1GADO GADO_preprocessed patient01_T1WKS
        UCSD-PTGBM-0002_01_T1post 3DT1Gd T1W_3D_TFE_Gd_SENSE_8_1
        T1_AX_po_kontrascie T1_AX_POS T1_CIV T1_GBCA T1_AX_KU
        T1_mdc T1_plus_C T1_enh T1_with_contrast sub-1_ce-GD_T1w sub-1_T1c t1_mit_km Gd_ax_T1
    """,
    T1: """
        T1w t1n BraTS-GLI-1-000-t1n T1_pre T1pre t1_ohne_km T1_nativ T1_without_contrast T1_noncontrast
        T1_post_op
        T1_sans_inj sub-1_ses-post_T1w sub-1_ses-ce_acq-gad_run-1_T1w sub-1_acq-flair_T1w sub-1_ce-none_T1w
        sub-1_rec-post_T1w sub-1_desc-FLAIR_T1w KM_001_T1 T1_to_FLAIR T1toFLAIR T1_in_FLAIR_space wT1 rT1
        ADNI_002_S_0295_MR_MP-RAGE_br_raw_20060418 training01_01_mprage_pp UCSD-PTGBM-0002_01_T1pre
        t1_tirm_tra_dark-fluid rec-gad_T1w ses-post_T1w acq-FLAIR_T1w ce-none_T1w
        sub-01_T1w sub01_t1 sub_01_t1 t1_sub01 t1_sub-01 sub_t1
        T1_AX_bez_kontrastu T1_sem_contraste T1_zonder_contrast t1_before_gd T1_prima_mdc T1_KM- T1C_minus
        T1_ce_none p1_T1_Gd-_ax
        IR-FSPGR MP-RAGE sag_mprage T1_w_wo week-001_T1 T1_brain case_2_t1 sub-01_acq-x_T1w
    """,
    "T2": "T2w t2_tse_tra BraTS-GLI-1-000-t2w sub-01_acq-T1c_T2w T2_gd",
    "TIRM": "t2_tirm_tra tirm_cor",  # may be STIR as well as FLAIR
    "STIR": "STIR cor_stir t2_stir",
    "T1 and T2": "t1_t2_ratio",
    "T1 and FLAIR": "T1_FLAIR Ax_T1_FLAIR p_T1_FLAIR",  # T1-weighted with nulled fluid
    "FLAIR and T1": "FLAIR_T1_reg",  # moved onto it
    "BOLD": "sub-01_task-flair_bold",
    "T1MAP": "T1map",
    # What was computed from an image is none.
    "map": "T1_map FLAIR_map",
    "subtraction": """
        FLAIR_subtraction T1_subtracted t1_sub t1_post_sub T1C_sub_ax p1_t1ce_sub axT1Sub T1sub T1+C_SUB
        sub-01_T1_sub T1_post_minus_pre T1_gd_minus_T1 T1_post_gd_minus_pre T1postMinusPre
    """,
    "projection": "FLAIR_mip",
    "deformation": "FLAIR1Warp FLAIR1InverseWarp",
    "phase": "FLAIR_ph T1_phase sub-01_part-phase_FLAIR",
    None: "scan T10_spine test1 orig_01 post month-1",
}


@pytest.mark.parametrize(
    ("name", "sequence"), [(name, said) for said, names in SAYS.items() for name in names.split()]
)
def test_what_names_say(name: str, sequence: MrSequence | str | None) -> None:
    assert sequence_of(f"{name}.nii.gz") == sequence
    assert not is_mask(f"{name}.nii.gz")


# Studies of one folder, with "|" between them; behind "?" what may be of this study or of another, behind "!"
# what is of none.
GROUPS = """
FLAIR T1 T1C scan
# One FLAIR: series numbers, times and protocols tell no patient.
5_t2_tirm_tra_dark-fluid_20150101120501 9_t1_mpr_sag_km_20150101122344
anna_FLAIR T1_7 berta_km_T1
c1_flair c1_t1 | c2_flair c2_t1
# A third patient without FLAIR is nobody's doubt.
c1_flair c1_t1 | c2_flair ! c3_t1
1_FLAIR 1_T1 | 2_FLAIR 2_T1
# dcm2niix, %f_%p_%t_%s and %s_%p_%f: patients by name, by number, by date.
x1_da-fl_20150101120000_5 x1_t1_km_20150101120000_9 | x2_da-fl_20150101130000_5 x2_t1_20150101130000_8
5_FLAIR_anon1 6_T1_anon1 | 4_FLAIR_anon2 7_T1_anon2
001_FLAIR_5 001_T1_7 | 002_FLAIR_7 002_T1_9
x_flair_20150101_5 x_t1_20150101_7 | x_flair_20160101_4 x_t1_km_20160101_8
# Versions of one FLAIR, and planes of one patient.
FLAIR FLAIR_brain FLAIR_filled T1
FLAIR FLAIR_post T1
5_FLAIR_ax 8_FLAIR_sag 3_T1
U-1_11_FLAIR U-1_11_FLAIR_unstripped U-1_11_T1GD
sub-01_run-1_FLAIR sub-01_run-2_FLAIR sub-01_T1w | sub-02_FLAIR sub-02_ce-gd_T1w
# What a patient shares with another is no proof: a number, a word of the protocol.
anna_flair_5 ? dora_t1_5 | berta_flair_7 ? clara_t1_7
anna_flair_p2 | berta_flair_iso ? clara_t1_iso
1_FLAIR_5 1_T1_7 | 2_FLAIR_7 2_T1_9
# Zeros in front are no scanner's: two patients.
01_FLAIR_ax ? 03_T1 | 02_FLAIR_sag ? 03_T1
01_flair_20150101 ? 03_t1_20150101 | 02_flair_20150101 ? 03_t1_20150101
# Two FLAIR of one visit: one study, or the T1 would be of both.
s_flair_20150101_5 s_flair_20150101_9 s_t1_20150101_7
AX_FLAIR_20230101_3 AX_FLAIR_20230101_12 AX_T1_20230101_5
# A T1 has the number of a FLAIR, so numbers are patients'.
FLAIR_20230101_3 T1_20230101_3 | FLAIR_20230101_12 T1_20230101_12
# The names do not say whether numbers are of patients or of series: left out, flagged.
FLAIR_1 ? T1 T1C | FLAIR_2 ? T1 T1C ! t2
p_1_flair ? p_3_t1 | p_2_flair ? p_3_t1
p_pre_FLAIR ? p_post_T1 | p_post_FLAIR ? p_post_T1
FLAIR_3 T1_3 | FLAIR_12 ? T1_7
FLAIR_3 T1_3 | FLAIR_12 T1_12 ! T1_7
# Operations are visits, contrast is not; initials are people.
p_preop_FLAIR | p_postop_FLAIR p_postop_T1
CE_1_flair CE_1_t1 | KM_1_flair KM_1_t1
! T1 T2
"""


def studies_in(groups: list[tuple[str, list[str], list[str]]]) -> list[str]:
    """Each study as in `GROUPS`, its names in order."""
    return [
        " ".join((*sorted(own), *"?"[: len(doubtful)], *sorted(doubtful)))
        for _, own, doubtful in groups
    ]


@pytest.mark.parametrize("row", [row for row in GROUPS.splitlines() if row and row[0] != "#"])
def test_studies_of_one_folder(row: str) -> None:
    names = dict.fromkeys(name for name in row.split() if name not in ("|", "?", "!"))
    groups = group_by_flair({name: (sequence_of(name), None) for name in names})
    expected = [study.split("?") for study in row.partition("!")[0].split("|") if study.strip()]
    assert studies_in(groups) == [
        " ? ".join(" ".join(sorted(part.split())) for part in study) for study in expected
    ]
    titles = [title for title, _, _ in groups]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("numbers", "studies"),
    [
        ({"a_3": 3, "a_12": 12, "a_5": 5}, ["a_12 a_3 a_5"]),
        ({"b_3": 3, "a_12": 12, "a_5": 5}, ["b_3", "a_12 a_5"]),
        ({"a_3": 3, "a_12": 4, "a_5": 5}, ["a_3 ? a_5", "a_12 ? a_5"]),  # by chance
        ({"3_12": 12, "12_3": 3, "3_5": 5}, ["3_12 3_5", "12_3"]),
        ({"a_3": None, "a_12": None, "a_5": None}, ["a_3 ? a_5", "a_12 ? a_5"]),
    ],
)
def test_numbers_that_are_of_series_tell_no_patient(
    numbers: dict[str, int | None], studies: list[str]
) -> None:
    kinds = zip(numbers, (FLAIR, FLAIR, T1), strict=True)
    groups = group_by_flair({name: (kind, numbers[name]) for name, kind in kinds})
    assert studies_in(groups) == studies


def test_many_files_cost_no_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is compared with few studies, however many there are."""
    compared: list[object] = []
    monkeypatch.setattr(naming, "are_apart", lambda *names: bool(compared.append(names)))
    names = [f"p_{number:04d}_flair.nii" for number in range(400)]
    names += [f"p_{number:04d}x_t1.nii" for number in range(400)]
    assert len(group_by_flair({name: (sequence_of(name), None) for name in names})) == 400
    assert len(compared) <= 400


# Folders by the sequence they say, whether they are of masks, and whether they say nothing of the study.
FOLDERS = [
    ("T2", False, True, "T2w"),
    (T1C, False, True, "T1wCE 2_T1GD"),  # Erasmus
    (T1, False, True, "t1 5-t1_se"),  # XNAT
    (FLAIR, False, True, "4_FLAIR 04_FLAIR 4-t2_tirm_tra_dark_fluid VSD.Brain.XX.O.MR_Flair.54193"),
    (
        None,
        True,
        True,
        "VSD.Brain_3more.XX.O.OT.54197 masques 5_MASK masks images_segm labelsTr labelsTs",
    ),
    (None, True, True, "labels_tr predictions preds GT ground_truth"),
    (None, False, True, "inferTs session visit exam study NIFTI anat scans imagesTr DICOM"),
    (FLAIR, False, False, "p2_FLAIR 0004_FLAIR FLAIR_smith 12345_FLAIR"),
    (T1, False, False, "t1_study"),
    (None, True, False, "predictions_01 seg_01 Lesion_01 lesions"),  # patients, and a group of them
    (None, False, False, "study_1 MRI_01 scan_3 EGD-0265 UPENN-GBM-00001_11 5 ses-1 Segovia"),
]


@pytest.mark.parametrize(("sequence", "mask", "structural", "names"), FOLDERS)
def test_folders(
    sequence: MrSequence | str | None, mask: bool, structural: bool, names: str
) -> None:
    for name in names.split():
        assert sequence_of(name) == sequence, name
        assert is_mask(name) is mask, name
        assert is_structural_folder(name) is structural, name


@pytest.mark.parametrize(
    ("above", "inside", "sequence"),
    [
        ("EGD-0265/4_FLAIR/NIFTI", "", FLAIR),
        ("P1/T1wCE", "", T1C),
        ("t1_study/P1", "", None),  # what lies above the study says nothing of it
        ("t1_study", "", None),
        ("T1/FLAIR", "", FLAIR),
        ("FLAIR/P1/images", "", FLAIR),
        ("FLAIR_study/P1/images", "", None),
        ("", "T1/p1", T1),
        ("", "T1/001/images", T1),
        ("", "FLAIR/P1", FLAIR),
        ("", "P1/T2_old", "T2"),
        ("", "P1/T1_a", T1),
        ("", "PD_001", None),  # a patient with Parkinson's disease, not a proton density
        ("", "CT_12/scan", None),
        ("", "P1/DWI", "DWI"),
        ("", "ph", None),  # a data set's name, not phase
        ("", "phase", "phase"),
        ("", "P1", None),
    ],
)
def test_the_folder_that_says_the_sequence(
    above: str, inside: str, sequence: MrSequence | str | None
) -> None:
    """Above and below the path that was given."""
    folder = sequence_folder(filter(None, inside.split("/")), filter(None, above.split("/")))
    assert (sequence_of(folder) if folder else None) == sequence


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("EGD-0265/4_FLAIR/NIFTI", "EGD-0265"),
        ("00006/FLAIR", "00006"),  # RSNA
        ("patients/1", "1"),
        ("XNAT_S01/scans/5/resources/NIFTI/files", "XNAT_S01"),
        ("sub-01/ses-02/anat", "sub-01_ses-02"),
        ("Patient-001/week-000-1", "Patient-001_week-000-1"),  # LUMIERE
        ("P1/2015-01-03/FLAIR", "P1_2015-01-03"),
        ("P1/scans/2/DICOM", "P1"),
        ("pat8/exam/mr/study", "pat8"),
        ("baseline/FLAIR", "baseline"),
        ("images/FLAIR", None),
        ("", None),
    ],
)
def test_the_telling_folder(path: str, name: str | None) -> None:
    assert telling_name(filter(None, path.split("/"))) == name


def test_slice_numbers() -> None:
    numbers = {
        "TCGA_CS_4941_19960909_7.tif": ("TCGA_CS_4941_19960909", 7),
        "slice_003_flair.png": ("slice_flair", 3),
        "001.png": ("", 1),
        "IM-0001-0023.jpg": ("IM-0001", 23),
        "scan_T1w.png": ("scan_T1w", None),
    }
    assert {name: slice_number(name) for name in numbers} == numbers
    assert [stem(name) for name in ("a.b.NII.GZ", ".nii", "v1.2")] == ["a.b", ".nii", "v1.2"]


MASKS = """
    TCGA-02-0006_1996.08.23_GlistrBoost.nii.gz PatientID_0003_Timepoint_1_tumorMask.nii.gz wmh.nii
    p_1_mask.tif p_seg.nii sub_brainmask.nii a_dseg.nii T1_brain_mask.nii.gz flair_brain_mask.nii
    FLAIR_ROI1.nii
    UCSF-PDGM-0001_tumor_segmentation.nii.gz x_segm.png c1T1.nii rc2T1.nii ples_lga_rmFLAIR.nii aparc+aseg.nii
    wmparc.nii T1_brain_pve_0.nii sub-1_label-GM_probseg.nii sub-1_desc-brain_mask.nii TumorSeg.nii
    label-1.nii sub-1_msk.nii.gz p_VOI.nii FLAIR_ed.nii p_tumor.nii VSD.Brain_3more.XX.O.OT.54197.nii
"""
NOT_MASKS = """
    unmasked_flair.nii Segovia_1.png labelle.tif sub-1_acq-roi_FLAIR.nii tumor_01_flair.nii tumor_12.png
    ED_flair.nii OT_001_FLAIR.nii
"""


def test_masks() -> None:
    assert [name for name in MASKS.split() if not is_mask(name)] == []
    assert [name for name in NOT_MASKS.split() if is_mask(name)] == []
