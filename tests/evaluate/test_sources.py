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
from gliosight.study import MrSequence, Study, Volume
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
        Image.fromarray(np.where(plane, 255, 0).astype(np.uint8)).save(
            folder / f"{name}_mask{suffix}"
        )


def _volume(mask: np.ndarray, path: Path, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8), affine)
    nibabel.save(image, path)


@pytest.mark.parametrize(
    "name",
    [
        *("AA_0/*.tif", "AA_0/*.png", "AA_0/mask/*.tif", "./*.tif", "./*.png"),
        *("AA_0/mask.nii.gz", "AA_0.nii.gz", "AA_0.nii", "AA_0_mask.nii"),
    ],
)
def test_names_of_masks(name: str, study: Study, tmp_path: Path) -> None:
    folder, _, suffix = name.partition("*")
    if suffix:
        _pictures(tmp_path / folder, study, suffix)
    else:
        _volume(MASK, tmp_path / name)
    prediction = read_prediction(tmp_path, study, "digest")
    assert (prediction.mask == MASK).all()
    assert (prediction.patient, prediction.rows_sha256) == ("AA_0", "digest")
    assert (prediction.slice_probability, prediction.score, prediction.found) == (None, None, True)


def test_an_empty_mask_is_a_mask(study: Study, tmp_path: Path) -> None:
    _volume(np.zeros_like(MASK), tmp_path / "AA_0.nii.gz")
    prediction = read_prediction(tmp_path, study, "")
    assert not prediction.mask.any()
    assert not prediction.found


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
    _volume(np.zeros((5, SIZE, SIZE)), tmp_path / "other" / "AA_0.nii")
    with pytest.raises(DamagedInputError, match="shape"):
        read_prediction(tmp_path / "other", study, "")


def test_a_volume_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    geometry = make_geometry(4, (5.0, 1.0, 1.0))
    volume = Volume(np.ones((4, SIZE, SIZE), np.float32), geometry)
    study = Study("AA_0", {MrSequence.FLAIR: volume}, tuple("abcd"), "arrays")
    assert geometry.affine is not None
    affine = geometry.affine[:, [2, 1, 0, 3]]
    _volume(MASK, tmp_path / "AA_0.nii.gz", affine)
    assert (read_prediction(tmp_path, study, "").mask == MASK).all()
    affine[0, 3] += 3
    _volume(MASK, tmp_path / "AA_0.nii.gz", affine)
    with pytest.raises(DamagedInputError, match="elsewhere"):
        read_prediction(tmp_path, study, "")


@pytest.mark.slow
def test_results_of_this_tool_bring_probabilities_and_what_was_learnt_from(
    small_phantom: Phantom, model: Model, tmp_path: Path
) -> None:
    folder = write_lgg(small_phantom, tmp_path / "data")
    study = pipeline.read(pipeline.Request(path=folder))
    analysis = pipeline.analyze_study(study, model, pipeline.Settings())
    out = tmp_path / "results" / f"{study.study_id}-gliosight"
    pipeline.write_analysis(analysis, out)
    prediction = read_prediction(tmp_path / "results", study, "")
    assert (prediction.mask == analysis.mask).all()
    assert prediction.slice_probability == pytest.approx(
        analysis.decision.slice_probabilities, abs=1e-5
    )
    assert prediction.slice_threshold == analysis.decision.slice_threshold
    source = source_of_masks(tmp_path / "results")
    assert source.notes[0].name == "joint-4"
    assert len(source.seen) == model.card.about["training"]["patients"]
    # A slice fewer than the folder had, as where the manifest excludes one: found by name.
    shorter = Study(
        study.study_id,
        {name: Volume(volume.values[1:]) for name, volume in study.sequences.items()},
        study.slice_names[1:],
        "slices",
    )
    prediction = read_prediction(tmp_path / "results", shorter, "")
    assert (prediction.mask == analysis.mask[1:]).all()
    shutil.rmtree(out / "mask")
    with pytest.raises(NothingReadableError):
        read_prediction(tmp_path / "results", study, "")


def test_what_a_folder_of_masks_has_seen(tmp_path: Path) -> None:
    source = source_of_masks(tmp_path)
    assert source.notes == (ModelNote(tmp_path.name, "masks", ""),)
    assert source.seen == frozenset()
    # Results of a model of one's own: whom it was trained on is not known.
    result = tmp_path / "AA_0-gliosight"
    result.mkdir()
    model = {"name": "mine", "sha256": "ab" * 32}
    (result / "result.json").write_text(json.dumps({"provenance": {"model": model}}))
    source = source_of_masks(tmp_path)
    assert source.notes == (ModelNote("mine", "masks", "ab" * 32),)
    assert source.seen is None
