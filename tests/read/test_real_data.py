"""Real studies, where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from gliosight.errors import UnsupportedInputError
from gliosight.read import Limits, Options, find
from gliosight.read.candidates import DicomCandidate
from gliosight.study import MrSequence

from .builders import SHARED, codes_of, read_path

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not SHARED.exists(), reason=f"the data set is not at {SHARED}"),
]


def unpack(patient: str, folder: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason="needed to unpack the data set")
    sheet = imagecodecs.jpegxl_decode((SHARED / "lgg" / f"{patient}.jxl").read_bytes())
    if sheet.ndim == 2:
        images = sheet.reshape(-1, 256, 3, 256).transpose(0, 1, 3, 2)
    else:
        images = sheet.reshape(-1, 256, 256, 3)
    folder.mkdir()
    for number, image in enumerate(images, start=1):
        path = folder / f"{patient}_{number}.tif"
        tifffile.imwrite(path, np.ascontiguousarray(image), photometric="rgb")


# What is known of these patients: sequences that were filled with FLAIR.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("patient", "present"),
    [
        ("TCGA_HT_7879_19981009", set(MrSequence)),
        ("TCGA_DU_7013_19860523", {MrSequence.FLAIR}),
        ("TCGA_DU_6407_19860514", {MrSequence.FLAIR, MrSequence.T1}),
    ],
)
def test_lgg(tmp_path: Path, patient: str, present: set[MrSequence]) -> None:
    if not (SHARED / "lgg" / f"{patient}.jxl").exists():
        pytest.skip(f"{patient} is not there")
    unpack(patient, tmp_path / patient)
    study = read_path(tmp_path / patient)
    assert set(study.sequences) == present
    assert study.shape[1:] == (256, 256)
    assert "MISSING_SLICES" not in codes_of(study)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["BraTS2021_00006", "BraTS2021_01480"])
def test_brats_is_read_as_it_is(case: str) -> None:
    study = read_path(SHARED / "brats" / case)
    assert study.flags == ()
    assert study.shape == (155, 240, 240)
    for name, suffix in ((MrSequence.FLAIR, "flair"), (MrSequence.T1C, "t1ce")):
        image = nib.load(SHARED / "brats" / case / f"{case}_{suffix}.nii.gz")
        stored = np.asanyarray(image.dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(study.sequences[name].values, stored)
    image = nib.load(SHARED / "brats" / case / f"{case}_flair.nii.gz")
    assert study.geometry is not None
    voxel = np.array([77, 10, 200])
    wanted = nib.affines.apply_affine(image.affine, voxel[::-1])
    np.testing.assert_allclose(study.geometry.to_world(voxel), wanted, atol=1e-4)


def test_all_of_brats_and_ms_are_found() -> None:
    assert len(find(SHARED / "brats", Limits())) == 2
    assert len(find(SHARED / "ms", Limits())) == 4


@pytest.mark.slow
def test_t1_of_another_grid() -> None:
    study = read_path(SHARED / "ms" / "patient01")
    assert codes_of(study) == ["T1_RESAMPLED", "T1C_MISSING"]
    # The same head in both: where FLAIR is air, T1 is dark.
    flair, t1 = study.flair.values, study.sequences[MrSequence.T1].values
    air = flair <= np.percentile(flair, 30)
    assert t1[air].mean() < 0.3 * t1[~air].mean()


@pytest.mark.slow
def test_no_dicom_series_at_hand_is_taken_for_flair() -> None:
    candidates = find(SHARED / "dicom", Limits())
    assert len(candidates) == 6
    for candidate in candidates:
        with pytest.raises(UnsupportedInputError, match="no FLAIR among"):
            candidate.read(Options())


@pytest.mark.parametrize(
    ("folder", "shape", "side"),
    [
        ("ge_T1_mprage_R22", (130, 256, 256), 1.2),
        ("siemens_xa30_enhanced_T1w", (96, 128, 128), 2.0),
        ("papaya_brain", (20, 256, 256), 6.97),
    ],
)
def test_a_real_dicom_series_is_read_when_it_is_named(
    folder: str, shape: tuple[int, int, int], side: float
) -> None:
    """Classic and enhanced, axial and sagittal: none is FLAIR, but pixels and places can be read."""
    (candidate,) = find(SHARED / "dicom" / folder, Limits())
    assert isinstance(candidate, DicomCandidate)
    number = str(candidate.study.series[0].number)
    study = candidate.read(Options(series={MrSequence.FLAIR: number}))
    assert study.shape == shape
    assert study.geometry is not None
    assert study.geometry.slice_spacing == pytest.approx(side, abs=0.02)
    # A head: the middle of the picture is brighter than its corners.
    middle = study.flair.values[shape[0] // 2].astype(float)
    rows, columns = shape[1:]
    inner = middle[rows // 3 : -rows // 3, columns // 3 : -columns // 3]
    assert inner.mean() > 3 * middle[: rows // 12, : columns // 12].mean()


def test_flags_hold_no_paths() -> None:
    study = read_path(SHARED / "ms" / "patient12")
    assert str(SHARED) not in json.dumps([one.message for one in study.flags])
