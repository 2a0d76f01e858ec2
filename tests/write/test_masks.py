"""Masks come back in the input's own geometry and kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from gliosight.analysis import Analysis
from gliosight.read import Request, read
from gliosight.write.masks import write_mask, write_probability
from tests.write.builders import make_analysis

SHAPE = (5, 40, 30)


def _oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, -1.1, 4.0])
    affine[:3, 3] = (31, -17, 5)
    return affine


def _from_nifti(folder: Path) -> tuple[Analysis, nibabel.Nifti1Image]:
    """An analysis of a NIfTI file with an oblique affine and someone's name in it."""
    analysis = make_analysis(SHAPE)
    flair = np.random.default_rng(0).integers(0, 900, SHAPE[::-1]).astype(np.int16)
    image = nibabel.Nifti1Image(flair, _oblique())
    image.set_sform(_oblique(), 1)
    image.set_qform(_oblique(), 1)
    image.header["descrip"] = b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, folder / "x_flair.nii.gz")
    study = read(Request(folder / "x_flair.nii.gz"))
    return replace(analysis, study=study), image


def test_nifti_mask_lies_where_the_input_lies(tmp_path: Path) -> None:
    analysis, source = _from_nifti(tmp_path)
    assert analysis.mask.any()
    assert list(write_mask(analysis, tmp_path)) == ["mask.nii.gz"]
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-5)
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == np.uint8
    for code in ("sform_code", "qform_code"):
        assert mask.header[code] == source.header[code]
    values = np.asarray(mask.dataobj)
    np.testing.assert_array_equal(values.transpose(2, 1, 0), analysis.mask)
    # And by the world: the mask's centroid is where our own geometry puts it.
    voxels = np.argwhere(analysis.mask).mean(axis=0)
    geometry = analysis.study.geometry
    assert geometry is not None
    there = nibabel.affines.apply_affine(mask.affine, np.argwhere(values).mean(axis=0))
    np.testing.assert_allclose(there, geometry.to_world(voxels), atol=1e-3)


def test_no_identity_of_the_source_is_copied(tmp_path: Path) -> None:
    analysis, _ = _from_nifti(tmp_path)
    write_mask(analysis, tmp_path)
    header = nibabel.load(tmp_path / "mask.nii.gz").header
    assert b"research use only" in bytes(header["descrip"])
    assert len(header.extensions) == 0


def test_probability_map_is_float_and_in_place(tmp_path: Path) -> None:
    analysis, source = _from_nifti(tmp_path)
    write_probability(analysis, tmp_path)
    image = nibabel.load(tmp_path / "probability.nii.gz")
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
    np.testing.assert_array_equal(
        np.asarray(image.dataobj).transpose(2, 1, 0), analysis.maps.probability
    )


@pytest.mark.parametrize("lesion", [True, False])
def test_slices_get_one_mask_each_empty_or_not(tmp_path: Path, lesion: bool) -> None:
    analysis = make_analysis(SHAPE, geometry=None, lesion=lesion)
    assert list(write_mask(analysis, tmp_path)) == ["mask/"]
    for name, plane in zip(analysis.study.slice_names, analysis.mask, strict=True):
        written = tifffile.imread(tmp_path / "mask" / f"{name}_mask.tif")
        assert written.dtype == np.uint8
        np.testing.assert_array_equal(written, plane * np.uint8(255))
    assert len(list((tmp_path / "mask").iterdir())) == SHAPE[0]


def test_names_that_a_file_name_cannot_tell_apart(tmp_path: Path) -> None:
    names = ("a:b", "a?b", "c", "d", "e")
    analysis = make_analysis(SHAPE, geometry=None, slice_names=names)
    write_mask(analysis, tmp_path)
    assert len(list((tmp_path / "mask").iterdir())) == 5


def test_arrays_with_an_affine_become_nifti(tmp_path: Path) -> None:
    analysis = make_analysis(SHAPE)
    write_mask(analysis, tmp_path)
    image = nibabel.load(tmp_path / "mask.nii.gz")
    geometry = analysis.study.geometry
    assert geometry is not None
    voxel = np.array([2, 7, 11])
    np.testing.assert_allclose(
        nibabel.affines.apply_affine(image.affine, voxel[::-1]), geometry.to_world(voxel), atol=1e-4
    )
