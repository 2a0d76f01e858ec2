"""A folder of predicted masks as predictions (evaluate).

In: a folder and the studies to find masks for. Out: a `Prediction` each. For a patient ``P`` of the
manifest these are looked for, in this order:

- ``P-gliosight/``: a result folder of this tool, with its probabilities, score and verdict;
- ``P/mask.nii.gz``, ``P.nii.gz``, ``P_mask.nii.gz`` (or ``.nii``): a volume on the FLAIR image's grid;
- ``P/<slice>_mask.tif`` or ``.png`` (or ``P/mask/...``): a picture for every slice, by the image's name;
- ``<slice>_mask.tif`` or ``.png``: the same, all patients in one folder.

A mask that is not there is never taken for an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.card import read_card
from gliosight.data.pixels import read_labels, read_mask
from gliosight.errors import DamagedInputError, NothingReadableError, printable
from gliosight.evaluate.predictions import ModelNote, Prediction, pack
from gliosight.files import safe_name
from gliosight.infer.model import shipped_models
from gliosight.read.affines import grid_distance
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.study import Geometry, Study
from gliosight.write.staging import RESULT_FILE

KIND = "masks"
VOLUMES = (".nii.gz", ".nii")
PICTURES = (".tif", ".tiff", ".png")
# Two masks lie on one grid when no corner differs by more than this part of a pixel.
GRIDS_AGREE_WITHIN = 0.1


def note_of(folder: Path) -> ModelNote:
    """What is kept of a folder of masks: its name, and the model where results of gliosight say it."""
    for result in _results(folder):
        model = result.get("provenance", {}).get("model", {})
        if isinstance(model, dict) and model.get("name"):
            return ModelNote(str(model["name"]), KIND, str(model.get("sha256", "")))
    return ModelNote(folder.name, KIND, "")


def training_patients(note: ModelNote) -> frozenset[str] | None:
    """Hashes of the patients a shipped model has seen, by its digest; ``None`` for other masks."""
    for path in shipped_models().values():
        card = read_card(path)
        if note.sha256 and card.sha256 == note.sha256:
            return card.training_patients
    return None


def read_prediction(folder: Path, study: Study, rows_sha256: str) -> Prediction:
    """Find and read the mask of one study.

    Parameters
    ----------
    folder : Path
    study : Study
        Its id is the patient's name, its slices are named as the images are.
    rows_sha256 : str

    Raises
    ------
    NothingReadableError
        The mask is missing, or does not cover every slice.
    DamagedInputError
        It does not fit the images.
    """
    patient = study.study_id
    result = folder / f"{safe_name(patient)}-gliosight"
    if (result / RESULT_FILE).is_file():
        return _of_result(result, study, rows_sha256)
    mask = _volume(folder, study)
    if mask is None:
        mask = _pictures(folder, study)
    return _prediction(study, rows_sha256, mask)


def _prediction(
    study: Study, rows_sha256: str, mask: NDArray[np.bool_], **known: Any
) -> Prediction:
    empty = {"slice_probability": None, "slice_threshold": None, "score": None}
    values = {**empty, "score_threshold": None, "found": bool(mask.any()), "seen": False, **known}
    return Prediction(
        patient=study.study_id,
        rows_sha256=rows_sha256,
        shape=study.shape,
        bits=pack(mask),
        **values,
    )


def _volume(folder: Path, study: Study) -> NDArray[np.bool_] | None:
    patient = study.study_id
    for name in (f"{patient}/mask", patient, f"{patient}_mask"):
        for suffix in VOLUMES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return read_mask_volume(path, study)
    return None


def read_mask_volume(path: Path, study: Study) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool array: where a NIfTI mask on the study's grid is not 0.

    Raises
    ------
    DamagedInputError
        It lies on another grid.
    """
    image = read_labels(path, path.name, Budget(DEFAULT_LIMITS))
    if image.values.shape != study.shape:
        raise DamagedInputError(
            f"the mask has the shape {image.values.shape}, the image {study.shape}",
            where=printable(path.name),
            remedy="bring it onto the FLAIR image's own grid",
        )
    if _elsewhere(image.geometry, study):
        raise DamagedInputError(
            "the mask lies elsewhere than the image (another affine)",
            where=printable(path.name),
            remedy="bring it onto the FLAIR image's own grid",
        )
    return np.asarray(image.values != 0)


def _elsewhere(geometry: Geometry | None, study: Study) -> bool:
    if geometry is None or study.geometry is None:
        return False
    one, other = geometry.affine, study.geometry.affine
    if one is None or other is None:
        return False
    slices, rows, columns = study.shape
    away = grid_distance(one, other, (slices - 1, rows - 1, columns - 1))
    return away > GRIDS_AGREE_WITHIN * min(study.geometry.spacing)


def _pictures(folder: Path, study: Study) -> NDArray[np.bool_]:
    patient = study.study_id
    mask = np.zeros(study.shape, dtype=bool)
    budget = Budget(DEFAULT_LIMITS)
    for k, name in enumerate(study.slice_names):
        candidates = [
            place / f"{name}_mask{suffix}"
            for place in (folder / patient, folder / patient / "mask", folder)
            for suffix in PICTURES
        ]
        path = next((one for one in candidates if one.is_file()), None)
        if path is None:
            what = f"no mask of {printable(patient)}" if k == 0 else f"no mask of slice {name}"
            raise NothingReadableError(
                printable(what),
                where=printable(folder.name),
                remedy="a missing mask does not count as empty: add it (docs/evaluation.md says how "
                "masks are named), or leave the patient out of the manifest",
            )
        mask[k] = _fitting(read_mask(path, path.name, budget).values != 0, study, path)
    return mask


def _fitting(plane: NDArray[np.bool_], study: Study, path: Path) -> NDArray[np.bool_]:
    if plane.shape != study.shape[1:]:
        raise DamagedInputError(
            f"the mask has {plane.shape[0]} x {plane.shape[1]} pixels, "
            f"the image {study.shape[1]} x {study.shape[2]}",
            where=printable(path.name),
            remedy="give masks of the image's own size",
        )
    return plane


def _of_result(folder: Path, study: Study, rows_sha256: str) -> Prediction:
    """A result folder; slices are found by name, so those that the manifest excludes stay out."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        detection = result["detection"]
        by_name = {str(one["name"]): one["probability"] for one in detection["slices"]}
        probability = np.array([by_name[name] or 0.0 for name in study.slice_names], np.float32)
        found = result["status"] == "tumour found"
        known = {
            "slice_probability": probability,
            "slice_threshold": float(detection["threshold"]),
            "score": detection["score"],
            "score_threshold": float(detection["score_threshold"]),
            "found": found,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedInputError(
            "the result does not fit the manifest's slices",
            where=printable(folder.name),
            remedy="analyse the study again",
        ) from error
    volume = folder / "mask.nii.gz"
    if volume.is_file():
        mask = read_mask_volume(volume, study)
    else:
        mask = np.zeros(study.shape, dtype=bool)
        budget = Budget(DEFAULT_LIMITS)
        for k, name in enumerate(study.slice_names):
            path = folder / "mask" / f"{safe_name(name)}_mask.tif"
            mask[k] = _fitting(read_mask(path, path.name, budget).values != 0, study, path)
    return _prediction(study, rows_sha256, mask, **known)


def _results(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"*-gliosight/{RESULT_FILE}")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            yield value
