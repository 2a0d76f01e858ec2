"""What names say."""

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
    sequence_of_folder,
    slice_number,
    stem,
    telling_name,
)
from gliosight.study import MrSequence

FLAIR, T1, T1C = MrSequence.FLAIR, MrSequence.T1, MrSequence.T1C


@pytest.mark.parametrize(
    ("name", "sequence", "series"),
    [
        ("BraTS2021_00006_flair.nii.gz", FLAIR, "BraTS2021_00006"),
        ("BraTS2021_00006_t1ce.nii.gz", T1C, "BraTS2021_00006"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", T1C, "sub-01"),
        ("sub-01_acq-x_T1w.nii.gz", T1, "sub-01"),  # entities tell no patient
        ("sub-01_space-T1w_FLAIR.nii.gz", FLAIR, "sub-01"),  # FLAIR on T1's grid
        ("p_T1_to_FLAIR.nii", T1, "p"),  # the other way round
        ("p_T1_FLAIR.nii", "T1 and FLAIR", "p"),  # either, or a T1-FLAIR: not guessed
        ("MD_001_t2_flair.nii", FLAIR, "MD_001"),  # MD is somebody's code here
        ("case_2_t1.nii", T1, "case_2"),
        ("flair.nii.gz", FLAIR, ""),
        ("axT2FLAIR.nii", FLAIR, ""),
        ("3D_SPACE_FLAIR.nii", FLAIR, "3D_SPACE"),  # the pulse sequence, not BIDS' entity
        ("T1_post.nii", T1C, ""),
        ("x_T2w.nii", "T2", "x"),
        ("x_dwi.nii", "DWI", "x"),
        ("t1_t2_ratio.nii", "T1 and T2", "ratio"),
        ("scan.nii", None, "scan"),
    ],
)
def test_sequences(name: str, sequence: MrSequence | str | None, series: str) -> None:
    assert sequence_of(name) == sequence
    assert nifti_series(name) == series


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
        training01_01_flair_pp
    """,
    T1C: """
        t1_mpr_ns_sag_km T1_C+ T1+C +C ax_+C gad T1_SE_GAD T1GD t1_mpr_+c T1wCE T1_KM t1_vibe_fs_tra_KM mpr_KM
        CT1 cT1 ceT1 CE-T1 T1w_ce T1Post postContrastT1 T1ce_n4 t1c+ t1c BraTS-GLI-1-000-t1c
        UPENN-GBM-00001_11_T1GD UCSF-PDGM-0001_T1gad_bias ReMIND-001_PreOP_T1post preop_T1_gd T1-Gd-DTPA
        T1_inj
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
        IR-FSPGR MP-RAGE sag_mprage T1_w_wo week-001_T1 T1_brain
    """,
    "T2": "T2w t2_tse_tra BraTS-GLI-1-000-t2w sub-01_acq-T1c_T2w T2_gd",
    "TIRM": "t2_tirm_tra tirm_cor",  # may be STIR as well as FLAIR
    "STIR": "STIR cor_stir t2_stir",
    "T1 and FLAIR": "T1_FLAIR Ax_T1_FLAIR",  # T1-weighted with nulled fluid
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


GROUPS: list[tuple[str, list[str]]] = [
    # Files; then of each study its files and, behind "?", what may be of it or of another.
    ("FLAIR T1 T1C scan", ["FLAIR T1 T1C scan"]),
    # One FLAIR: series numbers, times and protocols tell no patient.
    (
        "5_t2_tirm_tra_dark-fluid_20150101120501 9_t1_mpr_sag_km_20150101122344",
        ["5_t2_tirm_tra_dark-fluid_20150101120501 9_t1_mpr_sag_km_20150101122344"],
    ),
    ("anna_FLAIR T1_7 berta_km_T1", ["anna_FLAIR T1_7 berta_km_T1"]),
    ("c1_flair c1_t1 c2_flair c2_t1", ["c1_flair c1_t1", "c2_flair c2_t1"]),
    # A third patient without FLAIR is nobody's doubt.
    ("c1_flair c1_t1 c2_flair c3_t1", ["c1_flair c1_t1", "c2_flair"]),
    ("1_FLAIR 1_T1 2_FLAIR 2_T1", ["1_FLAIR 1_T1", "2_FLAIR 2_T1"]),
    # dcm2niix, %f_%p_%t_%s and %s_%p_%f: patients by name, by number, by date.
    (
        "anon1_da-fl_20150101120000_5 anon1_t1_km_20150101120000_9 anon2_da-fl_20150101130000_5 "
        "anon2_t1_km_20150101130000_8",
        [
            "anon1_da-fl_20150101120000_5 anon1_t1_km_20150101120000_9",
            "anon2_da-fl_20150101130000_5 anon2_t1_km_20150101130000_8",
        ],
    ),
    (
        "5_FLAIR_anon1 6_T1_anon1 4_FLAIR_anon2 7_T1_anon2",
        ["5_FLAIR_anon1 6_T1_anon1", "4_FLAIR_anon2 7_T1_anon2"],
    ),
    ("001_FLAIR_5 001_T1_7 002_FLAIR_7 002_T1_9", ["001_FLAIR_5 001_T1_7", "002_FLAIR_7 002_T1_9"]),
    (
        "x_flair_20150101_5 x_flair_20160101_4 x_t1_20150101_7 x_t1_km_20160101_8",
        ["x_flair_20150101_5 x_t1_20150101_7", "x_flair_20160101_4 x_t1_km_20160101_8"],
    ),
    # Versions of one FLAIR, and planes of one patient.
    ("FLAIR FLAIR_brain FLAIR_filled T1", ["FLAIR FLAIR_brain FLAIR_filled T1"]),
    ("FLAIR FLAIR_post T1", ["FLAIR FLAIR_post T1"]),
    ("5_FLAIR_ax 8_FLAIR_sag 3_T1", ["5_FLAIR_ax 8_FLAIR_sag 3_T1"]),
    (
        "U-1_11_FLAIR U-1_11_FLAIR_unstripped U-1_11_T1GD",
        ["U-1_11_FLAIR U-1_11_FLAIR_unstripped U-1_11_T1GD"],
    ),
    (
        "sub-01_run-1_FLAIR sub-01_run-2_FLAIR sub-01_T1w sub-02_FLAIR sub-02_ce-gd_T1w",
        ["sub-01_run-1_FLAIR sub-01_run-2_FLAIR sub-01_T1w", "sub-02_FLAIR sub-02_ce-gd_T1w"],
    ),
    # What a patient shares with another is no proof: a number, a word of the protocol.
    (
        "anna_flair_5 berta_flair_7 clara_t1_7 dora_t1_5",
        ["anna_flair_5 ? dora_t1_5", "berta_flair_7 ? clara_t1_7"],
    ),
    (
        "anna_flair_p2 berta_flair_iso clara_t1_iso",
        ["anna_flair_p2", "berta_flair_iso ? clara_t1_iso"],
    ),
    ("1_FLAIR_5 1_T1_7 2_FLAIR_7 2_T1_9", ["1_FLAIR_5 1_T1_7", "2_FLAIR_7 2_T1_9"]),
    # Zeros in front are no scanner's: two patients.
    ("01_FLAIR_ax 02_FLAIR_sag 03_T1", ["01_FLAIR_ax ? 03_T1", "02_FLAIR_sag ? 03_T1"]),
    (
        "01_flair_20150101 02_flair_20150101 03_t1_20150101",
        ["01_flair_20150101 ? 03_t1_20150101", "02_flair_20150101 ? 03_t1_20150101"],
    ),
    # Two FLAIR of one visit: one study, or the T1 would be of both.
    (
        "s_flair_20150101_5 s_flair_20150101_9 s_t1_20150101_7",
        ["s_flair_20150101_5 s_flair_20150101_9 s_t1_20150101_7"],
    ),
    (
        "AX_FLAIR_20230101_3 AX_FLAIR_20230101_12 AX_T1_20230101_5",
        ["AX_FLAIR_20230101_3 AX_FLAIR_20230101_12 AX_T1_20230101_5"],
    ),
    # A T1 has the number of a FLAIR, so numbers are patients'.
    (
        "FLAIR_20230101_3 FLAIR_20230101_12 T1_20230101_3 T1_20230101_12",
        ["FLAIR_20230101_3 T1_20230101_3", "FLAIR_20230101_12 T1_20230101_12"],
    ),
    # Patients or series, the names do not say: left out, and told.
    ("FLAIR_1 FLAIR_2 T1 T1C t2", ["FLAIR_1 ? T1 T1C", "FLAIR_2 ? T1 T1C"]),
    ("p_1_flair p_2_flair p_3_t1", ["p_1_flair ? p_3_t1", "p_2_flair ? p_3_t1"]),
    ("p_pre_FLAIR p_post_FLAIR p_post_T1", ["p_pre_FLAIR ? p_post_T1", "p_post_FLAIR ? p_post_T1"]),
    ("FLAIR_3 FLAIR_12 T1_3 T1_7", ["FLAIR_3 T1_3", "FLAIR_12 ? T1_7"]),
    ("FLAIR_3 FLAIR_12 T1_3 T1_12 T1_7", ["FLAIR_3 T1_3", "FLAIR_12 T1_12"]),
    # Operations are visits, contrast is not; initials are people.
    ("p_preop_FLAIR p_postop_FLAIR p_postop_T1", ["p_preop_FLAIR", "p_postop_FLAIR p_postop_T1"]),
    ("CE_1_flair CE_1_t1 KM_1_flair KM_1_t1", ["CE_1_flair CE_1_t1", "KM_1_flair KM_1_t1"]),
    ("T1 T2", []),
]


@pytest.mark.parametrize(("names", "studies"), GROUPS)
def test_studies_of_one_folder(names: str, studies: list[str]) -> None:
    groups = group_by_flair({f"{name}.nii": (sequence_of(name), None) for name in names.split()})
    told = [
        " ".join(name.removesuffix(".nii") for name in (*own, *"?"[: len(doubtful)], *doubtful))
        for _, own, doubtful in groups
    ]
    assert [sorted(one.split()) for one in told] == [sorted(one.split()) for one in studies]
    titles = [title for title, _, _ in groups]
    assert len(set(titles)) == len(titles)
    members = [name for _, own, _ in groups for name in own]
    assert len(set(members)) == len(members)


@pytest.mark.parametrize(
    ("numbers", "studies"),
    [
        ({"a_3": 3, "a_12": 12, "a_5": 5}, ["a_3 a_12 a_5"]),
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
    told = [(*own, *"?"[: len(doubtful)], *doubtful) for _, own, doubtful in groups]
    assert [sorted(one) for one in told] == [sorted(one.split()) for one in studies]


def test_a_sidecar_tells_the_kinds() -> None:
    shown = {"a_5.nii": (FLAIR, None), "a_7.nii": (T1, None), "b_5.nii": (FLAIR, None)}
    assert [own for _, own, _ in group_by_flair(shown)] == [["a_5.nii", "a_7.nii"], ["b_5.nii"]]


def test_many_files_cost_no_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is compared with few studies, however many there are."""
    compared: list[object] = []
    monkeypatch.setattr(naming, "are_apart", lambda *names: bool(compared.append(names)))
    names = [f"p_{number:04d}_flair.nii" for number in range(400)]
    names += [f"p_{number:04d}x_t1.nii" for number in range(400)]
    assert len(group_by_flair({name: (sequence_of(name), None) for name in names})) == 400
    assert len(compared) <= 400


@pytest.mark.parametrize(
    ("name", "sequence", "mask", "structural"),
    [
        ("T2w", "T2", False, True),
        ("T1wCE", T1C, False, True),
        ("t1", T1, False, True),
        ("4_FLAIR", FLAIR, False, True),  # Erasmus
        ("2_T1GD", T1C, False, True),
        ("04_FLAIR", FLAIR, False, True),
        ("5-t1_se", T1, False, True),  # XNAT
        ("4-t2_tirm_tra_dark_fluid", FLAIR, False, True),
        ("VSD.Brain.XX.O.MR_Flair.54193", FLAIR, False, True),
        ("VSD.Brain_3more.XX.O.OT.54197", None, True, True),
        ("masques", None, True, True),
        ("p2_FLAIR", FLAIR, False, False),
        ("0004_FLAIR", FLAIR, False, False),
        ("5_MASK", None, True, True),
        ("masks", None, True, True),
        ("images_segm", None, True, True),
        ("labelsTr", None, True, True),
        ("labelsTs", None, True, True),
        ("labels_tr", None, True, True),
        ("inferTs", None, False, True),
        ("predictions", None, True, True),
        ("preds", None, True, True),
        ("predictions_01", None, True, False),
        ("session", None, False, True),
        ("visit", None, False, True),
        ("exam", None, False, True),
        ("study", None, False, True),
        ("study_1", None, False, False),
        ("t1_study", T1, False, False),
        ("GT", None, True, True),
        ("ground_truth", None, True, True),
        ("seg_01", None, True, False),  # a patient's
        ("Lesion_01", None, True, False),
        ("lesions", None, True, False),  # may be a group of patients
        ("MRI_01", None, False, False),
        ("scan_3", None, False, False),
        ("NIFTI", None, False, True),
        ("anat", None, False, True),
        ("scans", None, False, True),
        ("imagesTr", None, False, True),
        ("DICOM", None, False, True),
        ("AX T2 FLAIR", FLAIR, False, True),
        ("EGD-0265", None, False, False),
        ("UPENN-GBM-00001_11", None, False, False),
        ("FLAIR_smith", FLAIR, False, False),
        ("12345_FLAIR", FLAIR, False, False),
        ("5", None, False, False),  # alone it may be a patient
        ("ses-1", None, False, False),
        ("Segovia", None, False, False),
    ],
)
def test_folders(
    name: str, sequence: MrSequence | str | None, mask: bool, structural: bool
) -> None:
    assert sequence_of_folder(name) == sequence
    assert is_mask(name) is mask
    assert is_structural_folder(name) is structural


@pytest.mark.parametrize(
    ("path", "sequence"),
    [
        ("EGD-0265/4_FLAIR/NIFTI", FLAIR),
        ("P1/T1wCE", T1C),
        ("t1_study/P1", None),  # what lies above the study says nothing of it
        ("t1_study", None),
        ("T1/FLAIR", FLAIR),
        ("FLAIR/P1/images", FLAIR),
        ("FLAIR_study/P1/images", None),
        ("", None),
    ],
)
def test_the_folders_above_what_was_given(path: str, sequence: MrSequence | str | None) -> None:
    folder = sequence_folder((), path.split("/") if path else ())
    assert (sequence_of_folder(folder) if folder else None) == sequence


@pytest.mark.parametrize(
    ("path", "sequence"),
    [
        ("T1/p1", T1),
        ("T1/001/images", T1),
        ("FLAIR/P1", FLAIR),
        ("P1/T2_old", "T2"),
        ("P1/T1_a", T1),
        ("PD_001", None),  # a patient with Parkinson's disease, not a proton density
        ("CT_12/scan", None),
        ("P1/DWI", "DWI"),
        ("P1", None),
    ],
)
def test_the_folders_below_what_was_given(path: str, sequence: MrSequence | str | None) -> None:
    folder = sequence_folder(path.split("/"))
    assert (sequence_of_folder(folder) if folder else None) == sequence


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("EGD-0265/4_FLAIR/NIFTI", "EGD-0265"),
        ("00006/FLAIR", "00006"),  # RSNA
        ("patients/1", "1"),
        ("XNAT_S01/scans/5/resources/NIFTI/files", "XNAT_S01"),
        ("sub-01/ses-02/anat", "sub-01_ses-02"),
        ("sub-01/anat", "sub-01"),
        ("Patient-001/week-000-1", "Patient-001_week-000-1"),  # LUMIERE
        ("P1/2015-01-03/FLAIR", "P1_2015-01-03"),
        ("P1/scans/2/DICOM", "P1"),
        ("pat8/session/scans/4-FLAIR/resources/NIFTI/files", "pat8"),
        ("pat8/visit/FLAIR", "pat8"),
        ("pat8/exam/mr/study", "pat8"),
        ("baseline/FLAIR", "baseline"),
        ("images/FLAIR", None),
        ("", None),
    ],
)
def test_the_telling_folder(path: str, name: str | None) -> None:
    assert telling_name(path.split("/") if path else ()) == name


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


MASKS = """
    TCGA-02-0006_1996.08.23_GlistrBoost.nii.gz PatientID_0003_Timepoint_1_tumorMask.nii.gz wmh.nii
    p_1_mask.tif p_seg.nii sub_brainmask.nii a_dseg.nii T1_brain_mask.nii.gz flair_brain_mask.nii
    FLAIR_ROI1.nii
    UCSF-PDGM-0001_tumor_segmentation.nii.gz x_segm.png c1T1.nii rc2T1.nii ples_lga_rmFLAIR.nii aparc+aseg.nii
    wmparc.nii T1_brain_pve_0.nii sub-1_label-GM_probseg.nii sub-1_desc-brain_mask.nii TumorSeg.nii
    label-1.nii sub-1_msk.nii.gz p_VOI.nii FLAIR_ed.nii p_tumor.nii VSD.Brain_3more.XX.O.OT.54197.nii
"""


@pytest.mark.parametrize("name", MASKS.split())
def test_masks(name: str) -> None:
    assert is_mask(name)


@pytest.mark.parametrize(
    "name",
    [
        *("unmasked_flair.nii", "Segovia_1.png", "labelle.tif", "sub-1_acq-roi_FLAIR.nii"),
        *("tumor_01_flair.nii", "tumor_12.png", "ED_flair.nii", "OT_001_FLAIR.nii"),
    ],
)
def test_not_masks(name: str) -> None:
    assert not is_mask(name)


def test_stems() -> None:
    assert stem("a.b.NII.GZ") == "a.b"
    assert stem(".nii") == ".nii"
    assert stem("v1.2") == "v1.2"
