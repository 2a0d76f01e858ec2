"""Masks come back in the input's own geometry and kind."""

from __future__ import annotations

import gzip
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from gliosight.analysis import Analysis
from gliosight.errors import DamagedInputError
from gliosight.read import Request, read
from gliosight.write.masks import mask_in, read_mask, write_mask, write_probability
from tests.read.builders import write_nifti
from tests.write.builders import make_analysis

SHAPE = (5, 40, 30)
TEXT_FIELDS = {"descrip", "aux_file", "intent_name", "db_name", "data_type"}


def _oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, -1.1, 4.0])
    affine[:3, 3] = (31, -17, 5)
    return affine


def _from_nifti(
    folder: Path, kind: type = nibabel.Nifti1Image, codes: tuple[int, int] = (1, 1)
) -> tuple[Analysis, nibabel.Nifti1Image]:
    """An analysis of a NIfTI file with an oblique affine and someone's name in it."""
    analysis = make_analysis(SHAPE)
    flair = np.random.default_rng(0).integers(0, 900, SHAPE[::-1]).astype(np.int16)
    image = kind(flair, _oblique())
    image.set_sform(_oblique(), codes[0])
    image.set_qform(_oblique(), codes[1])
    for field in TEXT_FIELDS & set(image.header.keys()):
        image.header[field] = b"Jane Doe"
    image.header["intent_code"], image.header["intent_p1"] = 3, 7  # a t statistic
    image.header["scl_slope"], image.header["scl_inter"] = 2, -5
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, folder / "x_flair.nii.gz")
    study = read(Request(folder / "x_flair.nii.gz"))
    return replace(analysis, study=study), image


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 0), (0, 1)])
def test_nifti_mask_lies_where_the_input_lies(
    kind: type, codes: tuple[int, int], tmp_path: Path
) -> None:
    analysis, source = _from_nifti(tmp_path, kind, codes)
    assert analysis.mask.any()
    assert list(write_mask(analysis, tmp_path)) == ["mask.nii.gz"]
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-5)
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == np.uint8
    assert type(mask) is kind
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == codes
    np.testing.assert_allclose(mask.header.get_zooms(), source.header.get_zooms(), rtol=1e-6)
    assert mask.header.get_intent()[:2] == ("none", ())
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == {0, 1}  # the source's slope is not the mask's
    np.testing.assert_array_equal(values.transpose(2, 1, 0), analysis.mask)
    # And by the world: the mask's centroid is where our own geometry puts it.
    voxels = np.argwhere(analysis.mask).mean(axis=0)
    geometry = analysis.study.geometry
    assert geometry is not None
    there = nibabel.affines.apply_affine(mask.affine, np.argwhere(values).mean(axis=0))
    np.testing.assert_allclose(there, geometry.to_world(voxels), atol=1e-3)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_probability_is_in_place_and_no_identity_is_copied(kind: type, tmp_path: Path) -> None:
    analysis, source = _from_nifti(tmp_path, kind)
    assert b"Jane Doe" in gzip.decompress((tmp_path / "x_flair.nii.gz").read_bytes())
    write_mask(analysis, tmp_path)
    write_probability(analysis, tmp_path)
    for name in ("mask.nii.gz", "probability.nii.gz"):
        assert b"Jane" not in gzip.decompress((tmp_path / name).read_bytes())
    probability = nibabel.load(tmp_path / "probability.nii.gz")
    np.testing.assert_allclose(probability.affine, source.affine, atol=1e-5)
    values = np.asarray(probability.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(values, analysis.maps.probability)
    header = nibabel.load(tmp_path / "mask.nii.gz").header
    assert b"research use only" in bytes(header["descrip"])
    assert len(header.extensions) == 0


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a", "b", "c", "d", "e"), ("a", "b", "c", "d", "e")),
        # What a file name cannot tell apart is numbered.
        (("a:b", "a?b", "c", "d", "e"), ("1_a_b", "2_a_b", "3_c", "4_d", "5_e")),
    ],
)
@pytest.mark.parametrize("lesion", [True, False])
def test_slices_get_one_mask_each_empty_or_not(
    tmp_path: Path, lesion: bool, names: tuple[str, ...], files: tuple[str, ...]
) -> None:
    analysis = make_analysis(SHAPE, geometry=None, lesion=lesion, slice_names=names)
    assert list(write_mask(analysis, tmp_path)) == ["mask/"]
    assert list(write_probability(analysis, tmp_path)) == ["probability/"]
    for kind, values in (
        ("mask", analysis.mask * np.uint8(255)),
        ("probability", analysis.maps.probability),
    ):
        assert len(list((tmp_path / kind).iterdir())) == SHAPE[0]
        for name, plane in zip(files, values, strict=True):
            written = tifffile.imread(tmp_path / kind / f"{name}_{kind}.tif")
            assert written.dtype == values.dtype
            np.testing.assert_array_equal(written, plane)


def test_a_nifti_without_a_place_gets_a_mask_without_one(tmp_path: Path) -> None:
    analysis, _ = _from_nifti(tmp_path, codes=(0, 0))
    assert analysis.study.geometry is None
    assert list(write_mask(analysis, tmp_path)) == ["mask.nii.gz"]
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (0, 0)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), analysis.mask)


BROKEN = {
    "a slice without a thickness": {
        "dim": [2, 30, 40, 0, 0, 0, 0, 0],
        "pixdim": [1, 0.9, 1.1] + [0] * 5,
    },
    "distances of 0": {"pixdim": [0] * 8},
    "negative distances": {"pixdim": [7, -1, -1, -3, 0, 0, 0, 0]},
    "infinite distances": {"pixdim": [1, np.inf, 1, 1, 0, 0, 0, 0]},
    "no rotation": {"quatern_b": 3.0},
    "NaN in both": {"quatern_c": np.nan, "srow_y": [np.nan] * 4},
    "singular": {"srow_x": [0.0] * 4},
    "codes that do not exist": {"qform_code": 77, "sform_code": 99},
    "negative codes": {"qform_code": -1, "sform_code": -32768},
    "units that do not exist": {"xyzt_units": 255},
}


@pytest.mark.parametrize("codes", [(1, 1), (1, 0)])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_forms_cost_no_mask_and_nothing_is_printed(
    case: str, codes: tuple[int, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fields = BROKEN[case]
    slices = 1 if "dim" in fields else SHAPE[0]
    values = np.random.default_rng(0).integers(0, 900, (slices, *SHAPE[1:])).astype(np.int16)
    path = write_nifti(tmp_path / "flair.nii", values, _oblique(), codes=codes, **fields)
    analysis = make_analysis((slices, *SHAPE[1:]))
    analysis = replace(analysis, study=read(Request(path)))
    write_mask(analysis, tmp_path)
    assert capfd.readouterr() == ("", "")
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert capfd.readouterr() == ("", ""), "the mask needs no repair"
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), analysis.mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            there = nibabel.load(path).affine
        except (ValueError, nibabel.spatialimages.HeaderDataError):
            return  # nibabel does not read the source
    if np.isfinite(there).all():
        np.testing.assert_allclose(mask.affine, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_of_more_than_32767(axis: int, tmp_path: Path) -> None:
    shape = [2, 3, 2]
    shape[axis] = 32_768
    values = (np.arange(np.prod(shape)) % 999).astype(np.int16).reshape(shape)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti2Image(values.T, affine), tmp_path / "flair.nii")
    study = read(Request(tmp_path / "flair.nii"))
    analysis = make_analysis(SHAPE)
    decision = replace(analysis.decision, mask=values > 500)
    object.__setattr__(analysis, "study", study)
    object.__setattr__(analysis, "decision", decision)
    write_mask(analysis, tmp_path)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert isinstance(mask, nibabel.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T, values > 500)
    np.testing.assert_allclose(mask.affine, affine)


@pytest.mark.parametrize("geometry", ["axial", "coronal transposed", None])
def test_a_mask_is_read_as_it_was_written(geometry: str | None, tmp_path: Path) -> None:
    analysis = make_analysis(SHAPE, geometry=geometry)
    write_mask(analysis, tmp_path)
    np.testing.assert_array_equal(read_mask(mask_in(tmp_path), analysis.study), analysis.mask)
    if geometry is not None:
        affine = nibabel.load(tmp_path / "mask.nii.gz").affine
        voxel = np.array([2, 7, 11])
        there = nibabel.affines.apply_affine(affine, voxel[::-1])
        np.testing.assert_allclose(there, analysis.study.geometry.to_world(voxel), atol=1e-4)


def test_a_mask_of_other_slices_is_damaged(tmp_path: Path) -> None:
    analysis = make_analysis(SHAPE, geometry=None)
    write_mask(analysis, tmp_path)
    paths = sorted((tmp_path / "mask").iterdir())
    tifffile.imwrite(paths[2], np.zeros((7, 9), np.uint8))
    with pytest.raises(DamagedInputError, match=r"slice is \(7, 9\)"):
        read_mask(tmp_path / "mask", analysis.study)
    paths[2].write_bytes(b"II*")
    with pytest.raises(DamagedInputError, match="cannot be read"):
        read_mask(tmp_path / "mask", analysis.study)
    paths[2].unlink()
    with pytest.raises(DamagedInputError, match="no such mask"):
        read_mask(tmp_path / "mask", analysis.study)
