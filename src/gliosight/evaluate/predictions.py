"""What a model said of each patient, compactly, and as a file (evaluate).

A `Predictions` is made by `predict` (a model) or `masks` (a folder of masks) and scored by `evaluation`.
Its file, ``predictions.npz``, holds masks as packed bits, probabilities and verdicts, no image: a few
hundred kB for the 88 patients of the LGG set. So a cross-validated table can be made again, on any
machine and without the networks, by whoever has the data. What a prediction was made from is kept as a
digest: it is scored against no other slices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import RESEARCH_USE
from gliosight.evaluate.arrays import read_arrays, write_arrays

FORMAT = 1


@dataclass(frozen=True)
class ModelNote:
    """What is kept of a model.

    Parameters
    ----------
    name : str
    kind : str
        The card's; ``"masks"`` for a folder of them.
    sha256 : str
        Of its network; empty without a network.
    draws : bool
        Whether it draws masks at all: a detector alone does not.
    """

    name: str
    kind: str
    sha256: str
    draws: bool = True


@dataclass(frozen=True)
class Prediction:
    """What was said of one patient.

    Parameters
    ----------
    patient : str
    rows_sha256 : str
        Digest of the slices it was made from, see `predict.rows_digest`.
    shape : tuple of int
        Slices, rows, columns.
    bits : (n,) uint8 array
        The final mask, packed.
    slice_probability : (slices,) float32 array or None
    slice_threshold, score, score_threshold : float or None
    found : bool
        The verdict; where only masks are known, whether a pixel is marked.
    seen : bool
        The model was trained on this patient.
    model : int
        Index into ``Predictions.models``.
    """

    patient: str
    rows_sha256: str
    shape: tuple[int, int, int]
    bits: NDArray[np.uint8]
    slice_probability: NDArray[np.float32] | None
    slice_threshold: float | None
    score: float | None
    score_threshold: float | None
    found: bool
    seen: bool
    model: int = 0

    def __post_init__(self) -> None:
        if len(self.bits) != _packed(self.shape):
            raise ValueError(f"{len(self.bits)} bytes for a mask of {self.shape}")
        probability = self.slice_probability
        if probability is not None and probability.shape != self.shape[:1]:
            raise ValueError(f"{probability.shape} probabilities for {self.shape[0]} slices")
        if probability is not None and not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError("probabilities that are none")

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(slices, rows, columns) bool array."""
        return unpack(self.bits, self.shape)


@dataclass(frozen=True)
class Predictions:
    """All that one evaluation's models said.

    Parameters
    ----------
    models : tuple of ModelNote
    entries : tuple of Prediction
        One of each patient.
    """

    models: tuple[ModelNote, ...]
    entries: tuple[Prediction, ...]

    @property
    def by_patient(self) -> dict[str, Prediction]:
        """The entries by their patients' names."""
        return {one.patient: one for one in self.entries}


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask as packed bits."""
    return np.packbits(mask)


def unpack(bits: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """(slices, rows, columns) bool array of packed bits."""
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write ``predictions.npz``; the same predictions give the same bytes.

    Raises
    ------
    CannotWriteError
    """
    entries = predictions.entries
    nothing = np.empty(0, np.float32)
    arrays = {
        "format": np.array(FORMAT),
        "note": np.array(RESEARCH_USE),
        "models": np.array(json.dumps([asdict(one) for one in predictions.models])),
        "patients": np.array([one.patient for one in entries], dtype=np.str_),
        "rows_sha256": np.array([one.rows_sha256 for one in entries], dtype=np.str_),
        "shapes": np.array([one.shape for one in entries], dtype=np.int64).reshape(-1, 3),
        "model": np.array([one.model for one in entries], dtype=np.int64),
        "found": np.array([one.found for one in entries], dtype=bool),
        "seen": np.array([one.seen for one in entries], dtype=bool),
        "has_probability": np.array([one.slice_probability is not None for one in entries], bool),
        "probability": np.concatenate(
            [nothing, *(p for one in entries if (p := one.slice_probability) is not None)]
        ),
        "masks": np.concatenate([np.empty(0, np.uint8), *(one.bits for one in entries)]),
    }
    for name in ("slice_threshold", "score", "score_threshold"):
        values = [getattr(one, name) for one in entries]
        arrays[name] = np.array([np.nan if one is None else one for one in values], np.float64)
    write_arrays(arrays, path)


def read_predictions(path: Path) -> Predictions:
    """Read ``predictions.npz``.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is no such file, or its parts do not fit together.
    LimitExceededError
        It claims more than 2 GiB of masks.
    """
    return read_arrays(
        path, _predictions_of, kind="predictions", remedy="write one with --save-predictions"
    )


def join(parts: Iterable[Predictions]) -> Predictions:
    """Several models' predictions, each of its own patients, as one."""
    models: list[ModelNote] = []
    entries: list[Prediction] = []
    for one in parts:
        start = len(models)
        models += one.models
        entries += [replace(entry, model=entry.model + start) for entry in one.entries]
    return Predictions(tuple(models), tuple(entries))


def only(predictions: Predictions, patients: Ordered[str]) -> Predictions:
    """The predictions of some patients, in their order."""
    by_patient = predictions.by_patient
    return Predictions(predictions.models, tuple(by_patient[name] for name in patients))


def _packed(shape: tuple[int, int, int]) -> int:
    return (int(np.prod(shape)) + 7) // 8


def _predictions_of(file: Any) -> Predictions:
    if int(file["format"]) != FORMAT:
        raise ValueError("another format")
    models = tuple(ModelNote(**one) for one in json.loads(str(file["models"])))
    shapes, has_probability = file["shapes"], file["has_probability"]
    probability, masks = file["probability"], file["masks"]
    names = file["patients"].tolist()
    if len(set(names)) != len(names) or (shapes < 1).any():
        raise ValueError("patients twice, or empty shapes")
    columns = {
        name: file[name].tolist()
        for name in ("rows_sha256", "found", "seen", "model", "slice_threshold", "score")
    } | {"score_threshold": file["score_threshold"].tolist()}
    entries = []
    said = packed = 0
    for k, name in enumerate(names):
        shape = (int(shapes[k, 0]), int(shapes[k, 1]), int(shapes[k, 2]))
        slices = shape[0] if has_probability[k] else 0
        size = _packed(shape)
        entries.append(
            Prediction(
                patient=str(name),
                rows_sha256=str(columns["rows_sha256"][k]),
                shape=shape,
                bits=masks[packed : packed + size],
                slice_probability=probability[said : said + slices] if slices else None,
                slice_threshold=_known(columns["slice_threshold"][k]),
                score=_known(columns["score"][k]),
                score_threshold=_known(columns["score_threshold"][k]),
                found=bool(columns["found"][k]),
                seen=bool(columns["seen"][k]),
                model=int(columns["model"][k]),
            )
        )
        said, packed = said + slices, packed + size
        if not 0 <= entries[-1].model < len(models):
            raise ValueError("a model that is not there")
    if said != len(probability) or packed != len(masks):
        raise ValueError("parts of different length")
    return Predictions(models, tuple(entries))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
