"""Folders of predicted masks, named in every way that is taken, and refused when they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight import pipeline
from gliosight.data.manifest import Manifest
from gliosight.data.studies import read_labelled
from gliosight.errors import DamagedInputError, NothingReadableError
from gliosight.evaluate.predictions import ModelNote
from gliosight.evaluate.sources import read_prediction, source_of_masks
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, write_lgg
from gliosight.study import Geometry, MrSequence, Study, Volume
from tests.conftest import make_geometry
from tests.evaluate.builders import SIZE, square, write_data

MASK = square(4, (1, 2))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), {"AA_0": MASK})


@pytest.fixture(scope="module")
def study(manifest: Manifest) -> Study:
    return read_labelled(manifest, "AA_0").study


def _pictures(folder: Path, study: Study, suffix: str = ".tif") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, plane in zip(study.slice_names, MASK, strict=True):
        values = np.where(plane, 255, 0).astype(np.uint8)
        if suffix == ".png":
            Image.fromarray(values).save(folder / f"{name}_mask.png")
        else:
            tifffile.imwrite(folder / f"{name}_mask.tif", values)


@pytest.mark.parametrize("place", ["AA_0", "AA_0/mask", "."])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pictures(place: str, suffix: str, study: Study, tmp_path: Path) -> None:
    _pictures(tmp_path / place, study, suffix)
    found = read_prediction(tmp_path, study, "digest")
    assert (found.mask == MASK).all()
    assert (found.patient, found.rows_sha256) == ("AA_0", "digest")
    assert (found.slice_probability, found.score, found.found) == (None, None, True)


@pytest.mark.parametrize("name", ["AA_0/mask.nii.gz", "AA_0.nii.gz", "AA_0.nii", "AA_0_mask.nii"])
def test_volumes(name: str, study: Study, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(MASK.transpose(2, 1, 0).astype(np.uint8), None)
    nibabel.save(image, tmp_path / name)
    assert (read_prediction(tmp_path, study, "").mask == MASK).all()


def test_an_empty_mask_is_a_mask(study: Study, tmp_path: Path) -> None:
    empty = np.zeros((SIZE, SIZE, 4), np.uint8)
    nibabel.save(nibabel.Nifti1Image(empty, None), tmp_path / "AA_0.nii.gz")
    found = read_prediction(tmp_path, study, "")
    assert not found.mask.any()
    assert not found.found


def test_a_missing_mask_is_no_empty_one(study: Study, tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    with pytest.raises(NothingReadableError, match="no mask of AA_0"):
        read_prediction(tmp_path, study, "")
    _pictures(tmp_path / "AA_0", study)
    (tmp_path / "AA_0" / "AA_0_3_mask.tif").unlink()
    with pytest.raises(NothingReadableError, match="no mask of slice AA_0_3"):
        read_prediction(tmp_path, study, "")


def test_masks_of_another_size(study: Study, tmp_path: Path) -> None:
    _pictures(tmp_path / "AA_0", study)
    tifffile.imwrite(tmp_path / "AA_0" / "AA_0_2_mask.tif", np.zeros((SIZE, SIZE + 1), np.uint8))
    with pytest.raises(DamagedInputError, match="24 x 25"):
        read_prediction(tmp_path, study, "")
    other = tmp_path / "other"
    other.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((SIZE, SIZE, 5), np.uint8), None), other / "AA_0.nii")
    with pytest.raises(DamagedInputError, match="shape"):
        read_prediction(other, study, "")


def _placed(geometry: Geometry) -> Study:
    values = np.random.default_rng(0).normal(size=(4, SIZE, SIZE)).astype(np.float32)
    names = tuple(f"s{k}" for k in range(4))
    return Study("AA_0", {MrSequence.FLAIR: Volume(values, geometry)}, names, "arrays")


def test_a_volume_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    geometry = make_geometry(4, (5.0, 1.0, 1.0))
    study = _placed(geometry)
    affine = geometry.affine
    assert affine is not None
    image = MASK.transpose(2, 1, 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(image, affine[:, [2, 1, 0, 3]]), tmp_path / "AA_0.nii.gz")
    assert (read_prediction(tmp_path, study, "").mask == MASK).all()
    moved = affine[:, [2, 1, 0, 3]].copy()
    moved[0, 3] += 3
    nibabel.save(nibabel.Nifti1Image(image, moved), tmp_path / "AA_0.nii.gz")
    with pytest.raises(DamagedInputError, match="elsewhere"):
        read_prediction(tmp_path, study, "")


def test_results_of_this_tool_bring_probabilities_and_what_was_learnt_from(
    small_phantom: Phantom, model: Model, tmp_path: Path
) -> None:
    folder = write_lgg(small_phantom, tmp_path / "data")
    study = pipeline.read(pipeline.Request(path=folder))
    analysis = pipeline.analyze_study(study, model, pipeline.Settings())
    out = tmp_path / "results" / f"{study.study_id}-gliosight"
    pipeline.write_analysis(analysis, out)
    found = read_prediction(tmp_path / "results", study, "")
    assert (found.mask == analysis.mask).all()
    assert found.slice_probability == pytest.approx(analysis.decision.slice_probabilities, abs=1e-5)
    assert found.slice_threshold == analysis.decision.slice_threshold
    source = source_of_masks(tmp_path / "results")
    assert source.notes[0].name == "joint-4"
    assert len(source.seen) == model.card.about["training"]["patients"]
    # A slice fewer than the folder had, as where the manifest excludes one: found by name.
    shorter = Study(
        study.study_id,
        {name: Volume(one.values[1:]) for name, one in study.sequences.items()},
        study.slice_names[1:],
        "slices",
    )
    found = read_prediction(tmp_path / "results", shorter, "")
    assert (found.mask == analysis.mask[1:]).all()
    shutil.rmtree(out / "mask")
    with pytest.raises(NothingReadableError):
        read_prediction(tmp_path / "results", study, "")


def test_masks_of_nobody_knows_what_have_seen_nobody(tmp_path: Path) -> None:
    source = source_of_masks(tmp_path)
    assert source.notes == (ModelNote(tmp_path.name, "masks", ""),)
    assert source.seen == frozenset()


def test_results_of_a_model_of_one_s_own_do_not_say_whom_it_has_seen(tmp_path: Path) -> None:
    result = tmp_path / "AA_0-gliosight"
    result.mkdir()
    model = {"name": "mine", "sha256": "ab" * 32}
    (result / "result.json").write_text(json.dumps({"provenance": {"model": model}}))
    source = source_of_masks(tmp_path)
    assert source.notes == (ModelNote("mine", "masks", "ab" * 32),)
    assert source.seen is None
