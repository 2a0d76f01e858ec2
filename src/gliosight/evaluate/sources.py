"""Where predictions come from: a model that runs now, a folder of masks, or a file of predictions (evaluate).

A model runs through `pipeline.analyze_study`, as it does for a user: what is scored is what users get. How
masks may be named says docs/evaluation.md; a missing mask is an error, never an empty mask.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight import pipeline
from gliosight.analysis import Progress, Status
from gliosight.card import read_card
from gliosight.data.manifest import SliceRow
from gliosight.data.studies import read_labels, read_mask
from gliosight.errors import (
    DamagedInputError,
    ModelError,
    NothingReadableError,
    UsageError,
    printable,
)
from gliosight.evaluate.predictions import (
    ModelNote,
    Prediction,
    Predictions,
    pack,
    patient_hash,
    prediction_of,
    read_predictions,
    rows_digest,
)
from gliosight.files import safe_name
from gliosight.infer.model import RUN_CARD, Model, shipped_models
from gliosight.read.grid import grid_distance
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.study import Geometry, Study
from gliosight.write.result_folder import RESULT_FILE

Predict = Callable[[Study, Sequence[SliceRow], Progress], Prediction]

VOLUMES = (".nii.gz", ".nii")
PICTURES = (".tif", ".tiff", ".png")
# Two masks lie on one grid when no corner differs by more than this part of a pixel.
GRIDS_AGREE_WITHIN = 0.1


@dataclass(frozen=True)
class Source:
    """What predicts.

    ``notes`` are the models behind it. ``seen`` are the hashes of the patients they were trained on, ``None``
    for results of a model of which they are not known. ``predict`` takes a study, its rows of the manifest
    and a progress callback; its prediction's ``model`` is an index into ``notes``. ``model`` is the one that
    runs; ``patients`` are the only ones there are predictions of.
    """

    notes: tuple[ModelNote, ...]
    seen: frozenset[str] | None
    predict: Predict
    model: Model | None = None
    patients: frozenset[str] | None = None


def open_source(name: str, settings: pipeline.Settings) -> Source:
    """Open what the user named.

    Parameters
    ----------
    name : str
        A shipped model's name, or the path of a card, a run's folder, a folder of masks or a file of
        predictions.

    Raises
    ------
    ModelError
        It is neither a model nor a run nor predictions.
    NothingReadableError
        The folder is empty.
    """
    path = Path(name)
    if path.suffix == ".npz":
        return source_of_predictions(read_predictions(path), path.name)
    if name in shipped_models() or path.is_file() or (path / RUN_CARD).is_file():
        settings = replace(settings, model=name)
        return source_of_model(settings.load(), settings)
    if not path.is_dir():
        raise ModelError(
            f"no model {printable(name)!r}",
            remedy=f"name a shipped one ({', '.join(shipped_models())}), a card, a run's folder, a "
            "folder of masks or a predictions.npz",
        )
    if not any(path.iterdir()):
        raise NothingReadableError(
            "the folder is empty", where=path.name, remedy="give a model or its masks"
        )
    if (path / "run.json").is_file():
        remedy = "go on with it: gliosight train --resume"
        raise ModelError("the run is not finished", where=path.name, remedy=remedy)
    return source_of_masks(path)


def source_of_model(model: Model, settings: pipeline.Settings) -> Source:
    """A model that runs now."""

    def predict(study: Study, rows: Sequence[SliceRow], progress: Progress) -> Prediction:
        decision = pipeline.analyze_study(study, model, settings, progress=progress).decision
        return prediction_of(study.study_id, rows_digest(rows), decision, seen=False)

    card = model.card
    note = ModelNote(card.name, card.kind, card.sha256, card.draws)
    return Source((note,), card.training_patients, predict, model=model)


def source_of_predictions(predictions: Predictions, name: str) -> Source:
    """Predictions that an earlier evaluation has written; ``name`` is the file's."""
    by_patient = predictions.by_patient

    def predict(study: Study, rows: Sequence[SliceRow], _: Progress) -> Prediction:
        prediction = by_patient.get(study.study_id)
        if prediction is None:
            what = f"no prediction of {printable(study.study_id)}"
            remedy = "score the part it was made for, or predict anew"
            raise NothingReadableError(what, where=name, remedy=remedy)
        if prediction.rows_sha256 != rows_digest(rows) or prediction.shape != study.shape:
            what = f"the prediction of {printable(study.study_id)} was made from other slices"
            remedy = "give the data it was made from, or predict anew"
            raise DamagedInputError(what, where=name, remedy=remedy)
        return prediction

    seen = frozenset(patient_hash(entry.patient) for entry in predictions.entries if entry.seen)
    return Source(predictions.models, seen, predict, patients=frozenset(by_patient))


def refuse_seen(model: Model, patients: Sequence[str]) -> None:
    """Refuse to score a model on patients of its own training data.

    Raises
    ------
    UsageError
    """
    training = model.card.training_patients
    seen = [patient for patient in patients if patient_hash(patient) in training]
    if seen:
        what = f"{model.card.name} was trained on {len(seen)} of these {len(patients)} patients"
        remedy = "name the networks in the order of their folds, or other patients"
        raise UsageError(what, where=printable(seen[0]), remedy=remedy)


def source_of_masks(folder: Path) -> Source:
    """A folder of masks; where it holds results of gliosight, they name the model."""
    note = ModelNote(folder.name, "masks", "")
    for path in sorted(folder.glob(f"*-gliosight/{RESULT_FILE}")):
        try:
            model = json.loads(path.read_text(encoding="utf-8"))["provenance"]["model"]
            note = ModelNote(str(model["name"]), "masks", str(model.get("sha256", "")))
            break
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    seen: frozenset[str] | None = frozenset()
    if note.sha256:
        cards = [read_card(path) for path in shipped_models().values()]
        trained = (card.training_patients for card in cards if card.sha256 == note.sha256)
        seen = next(trained, None)
    return Source(
        (note,), seen, lambda study, rows, _: read_prediction(folder, study, rows_digest(rows))
    )


def read_prediction(folder: Path, study: Study, rows_sha256: str) -> Prediction:
    """Find and read the mask of one study, whose id is the patient's name.

    Raises
    ------
    NothingReadableError
        The mask is missing, or does not cover every slice.
    DamagedInputError
        It does not fit the images.
    """
    patient = study.study_id
    result = folder / f"{safe_name(patient)}-gliosight"
    names = (f"{patient}/mask", patient, f"{patient}_mask")
    volumes = [folder / f"{name}{suffix}" for name in names for suffix in VOLUMES]
    columns = ("slice_probability", "slice_threshold", "score", "score_threshold")
    values: dict[str, Any] = dict.fromkeys(columns)
    if (result / RESULT_FILE).is_file():
        mask, values = _read_result(result, study)
    elif volume := next(filter(Path.is_file, volumes), None):
        mask = _read_volume(volume, study)
    else:
        folders = (folder / patient, folder / patient / "mask", folder)
        mask = _read_pictures(folders, study.slice_names, study)
    return Prediction(
        patient=patient,
        rows_sha256=rows_sha256,
        shape=study.shape,
        bits=pack(mask),
        seen=False,
        **{"found": bool(mask.any()), **values},
    )


def _read_result(folder: Path, study: Study) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """A result folder; slices are found by name, so those that the manifest excludes stay out."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        detection = result["detection"]
        by_name = {str(row["name"]): row["probability"] for row in detection["slices"]}
        values = {
            "slice_probability": np.array(
                [by_name[name] or 0.0 for name in study.slice_names], np.float32
            ),
            "slice_threshold": float(detection["slice_threshold"]),
            "score": detection["probability"],
            "score_threshold": float(detection["found_from"]),
            "found": result["status"] == Status.FOUND.value,
            "uncertain": result["status"] == Status.UNCERTAIN.value,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        what, remedy = "the result does not fit the manifest's slices", "analyse the study again"
        raise DamagedInputError(what, where=printable(folder.name), remedy=remedy) from error
    volume = folder / "mask.nii.gz"
    if volume.is_file():
        return _read_volume(volume, study), values
    names = [safe_name(name) for name in study.slice_names]
    return _read_pictures((folder / "mask",), names, study), values


def _read_volume(path: Path, study: Study) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool array: where a NIfTI mask on the study's grid is not 0."""
    image = read_labels(path, path.name, Budget(DEFAULT_LIMITS))
    what = ""
    if image.values.shape != study.shape:
        what = f"the mask has the shape {image.values.shape}, the image {study.shape}"
    elif _lies_elsewhere(image.geometry, study):
        what = "the mask lies elsewhere than the image (another affine)"
    if what:
        raise DamagedInputError(
            what, where=printable(path.name), remedy="bring it onto the FLAIR image's own grid"
        )
    return np.asarray(image.values != 0)


def _lies_elsewhere(geometry: Geometry | None, study: Study) -> bool:
    expected = study.geometry
    if geometry is None or expected is None or geometry.affine is None or expected.affine is None:
        return False
    slices, rows, columns = study.shape
    away = grid_distance(geometry.affine, expected.affine, (slices - 1, rows - 1, columns - 1))
    return away > GRIDS_AGREE_WITHIN * min(expected.spacing)


def _read_pictures(
    folders: Sequence[Path], names: Sequence[str], study: Study
) -> NDArray[np.bool_]:
    """A picture for every slice, from the first of the folders that has it."""
    mask = np.zeros(study.shape, dtype=bool)
    budget = Budget(DEFAULT_LIMITS)
    for k, name in enumerate(names):
        paths = (folder / f"{name}_mask{suffix}" for folder in folders for suffix in PICTURES)
        path = next(filter(Path.is_file, paths), None)
        if path is None:
            what = f"no mask of {study.study_id}" if k == 0 else f"no mask of slice {name}"
            raise NothingReadableError(
                printable(what),
                where=printable(folders[-1].name),
                remedy="a missing mask does not count as empty: add it (docs/evaluation.md says how "
                "masks are named), or leave the patient out of the manifest",
            )
        plane = read_mask(path, path.name, budget).values != 0
        if plane.shape != study.shape[1:]:
            raise DamagedInputError(
                f"the mask has {plane.shape[0]} x {plane.shape[1]} pixels, "
                f"the image {study.shape[1]} x {study.shape[2]}",
                where=printable(path.name),
                remedy="give masks of the image's own size",
            )
        mask[k] = plane
    return mask
