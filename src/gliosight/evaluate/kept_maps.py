"""What networks say of patients they have not seen, pixel by pixel, small enough to keep (evaluate).

In: `Maps`, each with whose they are and how large a pixel is. Out: ``maps.npz``, no image in it: a few MB
for the 88 patients of the LGG set. The decision rule is fitted on such maps (`rule_fit`), and whoever doubts
it can fit another without training a network.

Probabilities are kept as 64 levels of their logit, from -6 to 6: 0.05 around one half, 0.0005 at the ends,
and never on the other side of one half. Only the box that holds anything above the lowest level is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import RESEARCH_USE
from gliosight.data.manifest import Manifest
from gliosight.data.studies import read_labelled
from gliosight.decide import SUREST
from gliosight.errors import DamagedInputError, printable
from gliosight.evaluate.arrays import check_size, read_arrays, write_arrays
from gliosight.evaluate.predict import rows_digest
from gliosight.evaluate.predictions import ModelNote
from gliosight.maps import Maps, sigmoid

FORMAT = 1
LEVELS = 64
REACH = SUREST
_STEP = 2 * REACH / LEVELS
# What is left out says this: surely nothing.
NOTHING = float(sigmoid(-REACH + _STEP / 2))


@dataclass(frozen=True)
class KeptMaps:
    """The maps of one patient.

    Parameters
    ----------
    patient, rows_sha256 : str
        As in `Prediction`.
    model : int
        Which of the models said so.
    sides : tuple of float
        What a voxel's sides stand for, mm, see `gliosight.decide.Scale`.
    maps : Maps
        Of axial studies alone: ``axis`` is 0.
    """

    patient: str
    rows_sha256: str
    model: int
    sides: tuple[float, float, float]
    maps: Maps

    def __post_init__(self) -> None:
        if self.maps.axis != 0:
            raise ValueError("the study is not axial")
        if not all(math.isfinite(side) and side > 0 for side in self.sides):
            raise ValueError(f"sides of {self.sides} mm")
        head = self.maps.slice_head
        if not ((head >= 0) & (head <= 1)).all():
            raise ValueError("probabilities that are none")


def truth_of(kept: KeptMaps, manifest: Manifest) -> NDArray[np.bool_]:
    """(slices, rows, columns) the outline of the patient whose maps these are.

    Raises
    ------
    DamagedInputError
        The manifest has no such patient, or other slices.
    """
    rows = manifest.by_patient.get(kept.patient)
    if rows is None or rows_digest(rows) != kept.rows_sha256:
        what = "is not in the manifest" if rows is None else "has other slices in the manifest"
        raise DamagedInputError(
            f"{printable(kept.patient)} {what}", remedy="give the data the maps were made from"
        )
    return read_labelled(manifest, kept.patient).truth


def to_levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities as levels of their logit."""
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    level = np.floor((np.log(p / (1 - p)) + REACH) / _STEP)
    return np.clip(level, 0, LEVELS - 1).astype(np.uint8)


def from_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The probability in the middle of each level."""
    table = sigmoid((np.arange(LEVELS) + 0.5) * _STEP - REACH).astype(np.float32)
    return np.asarray(table[levels])


def write_maps(models: Iterable[ModelNote], kept: Iterable[KeptMaps], path: Path) -> None:
    """Write ``maps.npz``.

    Raises
    ------
    CannotWriteError
    """
    entries = list(kept)
    levels = [to_levels(one.maps.probability) for one in entries]
    boxes = [_box_of(one) for one in levels]
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "note": np.array(RESEARCH_USE),
        "models": np.array(json.dumps([asdict(one) for one in models])),
        "patients": np.array([one.patient for one in entries], dtype=np.str_),
        "rows_sha256": np.array([one.rows_sha256 for one in entries], dtype=np.str_),
        "model": np.array([one.model for one in entries], dtype=np.int64),
        "sides": np.array([one.sides for one in entries], dtype=np.float64).reshape(-1, 3),
        "shapes": np.array([one.shape for one in levels], dtype=np.int64).reshape(-1, 3),
        "boxes": np.array(boxes, dtype=np.int64).reshape(-1, 3, 2),
        "head": np.concatenate(
            [np.empty(0, np.float32), *(one.maps.slice_head for one in entries)]
        ),
        "levels": np.concatenate(
            [
                np.empty(0, np.uint8),
                *(one[_slices(box)].ravel() for one, box in zip(levels, boxes, strict=True)),
            ]
        ),
    }
    write_arrays(arrays, path)


def read_maps(path: Path) -> tuple[tuple[ModelNote, ...], tuple[KeptMaps, ...]]:
    """Read ``maps.npz``.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is no such file, or its parts do not fit together.
    LimitExceededError
        It claims more than 2 GiB.
    """
    return read_arrays(
        path,
        lambda file: _maps_of(file, path),
        kind="maps",
        remedy="make them with benchmarks/cross_validation.py",
    )


def _maps_of(file: Any, path: Path) -> tuple[tuple[ModelNote, ...], tuple[KeptMaps, ...]]:
    if int(file["format"]) != FORMAT:
        raise ValueError("another format")
    models = tuple(ModelNote(**one) for one in json.loads(str(file["models"])))
    head, levels, shapes, boxes = (file[one] for one in ("head", "levels", "shapes", "boxes"))
    names = file["patients"].tolist()
    if len(set(names)) != len(names) or shapes.shape != (len(names), 3) or (shapes < 1).any():
        raise ValueError("patients twice, or empty shapes")
    # Whatever is left out of the file has to be made: 4 bytes a voxel.
    check_size(sum(4 * math.prod(one) for one in shapes.tolist()), path)
    if (boxes < 0).any() or (boxes[..., 1] < boxes[..., 0]).any() or (boxes[..., 1] > shapes).any():
        raise ValueError("boxes outside their volumes")
    out, said, packed = [], 0, 0
    for k, patient in enumerate(names):
        shape, box = tuple(shapes[k].tolist()), boxes[k]
        inner = tuple(int(high - low) for low, high in box)
        size = math.prod(inner)
        probability = np.full(shape, NOTHING, np.float32)
        probability[_slices(box)] = from_levels(levels[packed : packed + size]).reshape(inner)
        one = Maps(probability, head[said : said + shape[0]])
        sides = tuple(float(side) for side in file["sides"][k])
        out.append(
            KeptMaps(
                str(patient),
                str(file["rows_sha256"][k]),
                int(file["model"][k]),
                (sides[0], sides[1], sides[2]),
                one,
            )
        )
        said, packed = said + shape[0], packed + size
        if not 0 <= out[-1].model < len(models):
            raise ValueError("a model that is not there")
    if said != len(head) or packed != len(levels):
        raise ValueError("parts of different length")
    return models, tuple(out)


def _box_of(levels: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The smallest box around all that is above the lowest level; empty where nothing is."""
    out = []
    for axis in range(3):
        others = tuple(one for one in range(3) if one != axis)
        there = np.flatnonzero(levels.any(axis=others))
        out.append((int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0))
    return out


def _slices(box: Any) -> tuple[slice, ...]:
    return tuple(slice(int(low), int(high)) for low, high in box)
