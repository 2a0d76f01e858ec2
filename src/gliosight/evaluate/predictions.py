"""What networks predicted of each patient, and the ``.npz`` files that keep it, without images (evaluate).

``predictions.npz`` holds final masks, slice probabilities and verdicts: with it anybody who has the data can
make a cross-validated table again, without the networks. ``maps.npz`` holds probabilities before a decision
rule, which is fitted on them, as 64 levels of their logit from -6 to 6: 0.05 around one half, 0.0005 at the
ends, never on the other side of one half. Only the box above the lowest level is stored.

Each entry has the digest of the slices it was made from, and is scored against no others. The files are
hostile until parsed: they hold numbers and text, no object, and their size is checked before it is allocated.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.analysis import RESEARCH_USE, Decision, Status
from gliosight.data.manifest import Manifest, SliceRow, write_whole
from gliosight.data.studies import read_labelled
from gliosight.decide import SUREST
from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    NothingReadableError,
    printable,
)
from gliosight.maps import Maps, sigmoid

FORMAT = 1
# What one file may unpack to (bytes): as masks, some 20,000 patients of the LGG set.
LARGEST = 2 * 1024**3
# Columns that hold NaN where a value is not known.
OPTIONAL = ("slice_threshold", "score", "score_threshold")
LEVELS = 64
STEP = 2 * SUREST / LEVELS
# The probability outside the box of kept maps: that of the lowest level.
NOTHING = float(sigmoid(-SUREST + STEP / 2))
# What numpy, zipfile and the parsers below raise on a damaged or hostile file.
_DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError),
    *(MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error),
)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelNote:
    """What is recorded of a model.

    ``kind`` is the card's, or ``"masks"`` for a folder of them; ``sha256`` is its network's, empty without
    one; ``draws`` says whether it outlines at all: a detector alone does not.
    """

    name: str
    kind: str
    sha256: str
    draws: bool = True


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one patient.

    ``rows_sha256`` is the `rows_digest` of the slices it was made from; ``shape`` is slices, rows, columns;
    ``bits`` are the final mask, packed. ``slice_probability`` (slices,) is ``None`` where only masks
    are known; from ``slice_threshold`` on a slice is called tumour. ``score`` is the study's probability, and
    ``score_threshold`` that from which on tumour is found; ``found`` is the verdict or, where only masks are
    known, whether a pixel is marked; ``uncertain`` is that other verdict. ``seen`` says that the model was
    trained on this patient; ``model`` is an index into ``Predictions.models``.
    """

    patient: str
    rows_sha256: str
    shape: Shape
    bits: NDArray[np.uint8]
    slice_probability: NDArray[np.float32] | None
    slice_threshold: float | None
    score: float | None
    score_threshold: float | None
    found: bool
    seen: bool
    model: int = 0
    uncertain: bool = False

    def __post_init__(self) -> None:
        if len(self.bits) != _packed(self.shape):
            raise ValueError(f"{len(self.bits)} bytes for a mask of {self.shape}")
        if self.slice_probability is not None:
            if self.slice_probability.shape != self.shape[:1] or self.slice_threshold is None:
                raise ValueError(f"not one probability for each of {self.shape[0]} slices")
            _check_probabilities(self.slice_probability)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(slices, rows, columns) bool array."""
        return unpack(self.bits, self.shape)


@dataclass(frozen=True)
class Predictions:
    """The predictions of one or several models, one of each patient."""

    models: tuple[ModelNote, ...]
    entries: tuple[Prediction, ...]

    @property
    def by_patient(self) -> dict[str, Prediction]:
        """The entries by their patients' names."""
        return {entry.patient: entry for entry in self.entries}


@dataclass(frozen=True)
class KeptMaps:
    """The probability maps of one axial patient (``maps.axis`` is 0).

    ``sides`` are what a voxel's sides stand for, mm, see `gliosight.decide.Scale`; the rest is as in
    `Prediction`.
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
        _check_probabilities(self.maps.slice_head)


Entry = TypeVar("Entry", Prediction, KeptMaps)


def _check_probabilities(values: NDArray[np.float32]) -> None:
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("probabilities outside 0 to 1")


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask as packed bits."""
    return np.packbits(mask)


def unpack(bits: NDArray[np.uint8], shape: Shape) -> NDArray[np.bool_]:
    """The mask of packed bits."""
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)


def prediction_of(
    patient: str, rows_sha256: str, decision: Decision, *, seen: bool, model: int = 0
) -> Prediction:
    """What a decision says of a patient."""
    slices, rows, columns = decision.mask.shape
    return Prediction(
        patient=patient,
        rows_sha256=rows_sha256,
        shape=(slices, rows, columns),
        bits=pack(decision.mask),
        slice_probability=decision.slice_probabilities,
        slice_threshold=decision.slice_threshold,
        score=decision.probability,
        score_threshold=decision.found_from,
        found=decision.status is Status.FOUND,
        uncertain=decision.status is Status.UNCERTAIN,
        seen=seen,
        model=model,
    )


def patient_hash(patient: str) -> str:
    """How a card records a training patient's name."""
    return hashlib.sha256(patient.encode()).hexdigest()


def rows_digest(rows: Sequence[SliceRow]) -> str:
    """Digest of one patient's used images, wherever the files lie."""
    digest = hashlib.sha256()
    for row in rows:
        fields = (row.patient, str(row.number), row.sha256, row.t1_sha256, row.t1c_sha256)
        digest.update(("\0".join(fields) + "\n").encode())
    return digest.hexdigest()


def truth_of(patient_maps: KeptMaps, manifest: Manifest) -> NDArray[np.bool_]:
    """(slices, rows, columns) the true mask of the patient whose maps these are.

    Raises
    ------
    DamagedInputError
        The manifest has no such patient, or other slices.
    """
    patient = patient_maps.patient
    rows = manifest.by_patient.get(patient)
    if rows is None or rows_digest(rows) != patient_maps.rows_sha256:
        what = "is not in the manifest" if rows is None else "has other slices in the manifest"
        raise DamagedInputError(
            f"{printable(patient)} {what}", remedy="give the data the maps were made from"
        )
    return read_labelled(manifest, patient).truth


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write ``predictions.npz``, whole or not at all; raises `CannotWriteError`."""
    entries = predictions.entries
    probabilities = [entry.slice_probability for entry in entries]
    _write(
        path,
        predictions.models,
        entries,
        shapes=_column([entry.shape for entry in entries], np.int64, 3),
        model=_column([entry.model for entry in entries], np.int64),
        found=_column([entry.found for entry in entries], bool),
        uncertain=_column([entry.uncertain for entry in entries], bool),
        seen=_column([entry.seen for entry in entries], bool),
        has_probability=_column([values is not None for values in probabilities], bool),
        probability=_joined(np.float32, [values for values in probabilities if values is not None]),
        masks=_joined(np.uint8, [entry.bits for entry in entries]),
        # None becomes NaN.
        **{name: _column([getattr(e, name) for e in entries], np.float64) for name in OPTIONAL},
    )


def read_predictions(path: Path) -> Predictions:
    """Read ``predictions.npz``.

    Raises
    ------
    NothingReadableError
    DamagedInputError
        It is no such file, or its parts do not fit together.
    LimitExceededError
        It claims more than `LARGEST`.
    """
    with _opened(path, "predictions", "write one with --save-predictions") as file:
        if "levels" in file:
            what = "these are maps, before any decision rule"
            remedy = "make predictions of them with benchmarks/cross_validation.py apply"
            raise DamagedInputError(what, where=path.name, remedy=remedy)
        models, columns = _parse_header(file)
        has_probability = file["has_probability"].astype(bool).tolist()
        slices = [
            shape[0] * has for shape, has in zip(columns["shape"], has_probability, strict=True)
        ]
        probabilities = zip(_cut(file["probability"], slices), has_probability, strict=True)
        columns["slice_probability"] = [values if has else None for values, has in probabilities]
        columns["bits"] = _cut(file["masks"], [_packed(shape) for shape in columns["shape"]])
        for name in ("found", "seen"):
            columns[name] = file[name].astype(bool).tolist()
        # Files of before this verdict have no such column.
        none = [False] * len(columns["found"])
        columns["uncertain"] = file["uncertain"].tolist() if "uncertain" in file else none
        for name in OPTIONAL:
            values = file[name].astype(np.float64).tolist()
            columns[name] = [None if math.isnan(value) else value for value in values]
        return Predictions(models, _entries(Prediction, columns))


def write_maps(models: Iterable[ModelNote], maps: Iterable[KeptMaps], path: Path) -> None:
    """Write ``maps.npz``, whole or not at all; raises `CannotWriteError`."""
    entries = list(maps)
    levels = [to_levels(entry.maps.probability) for entry in entries]
    boxes = [_box_of(values) for values in levels]
    inside = [values[box].ravel() for values, box in zip(levels, boxes, strict=True)]
    limits = [[(side.start, side.stop) for side in box] for box in boxes]
    _write(
        path,
        models,
        entries,
        model=_column([entry.model for entry in entries], np.int64),
        sides=_column([entry.sides for entry in entries], np.float64, 3),
        shapes=_column([values.shape for values in levels], np.int64, 3),
        boxes=_column(limits, np.int64, 3, 2),
        head=_joined(np.float32, [entry.maps.slice_head for entry in entries]),
        levels=_joined(np.uint8, inside),
    )


def read_maps(path: Path) -> tuple[tuple[ModelNote, ...], tuple[KeptMaps, ...]]:
    """Read ``maps.npz``; raises as `read_predictions`."""
    with _opened(path, "maps", "make them with benchmarks/cross_validation.py") as file:
        models, columns = _parse_header(file)
        shapes, boxes = columns.pop("shape"), file["boxes"]
        # The volumes are made in full, 4 bytes a voxel, however little of them is in the file.
        _check_size(sum(4 * math.prod(shape) for shape in shapes), path)
        low, high = boxes[..., 0], boxes[..., 1]
        if (low < 0).any() or (high < low).any() or (high > file["shapes"]).any():
            raise ValueError("boxes outside their volumes")
        columns["sides"] = [(z, y, x) for z, y, x in file["sides"].tolist()]
        inner = (high - low).tolist()
        heads = _cut(file["head"], [shape[0] for shape in shapes])
        levels = _cut(file["levels"], [math.prod(sides) for sides in inner])
        columns["maps"] = []
        for shape, box, sides, head, values in zip(
            shapes, boxes, inner, heads, levels, strict=True
        ):
            probability = np.full(shape, NOTHING, np.float32)
            inside = tuple(slice(start, stop) for start, stop in box)
            probability[inside] = from_levels(values).reshape(sides)
            columns["maps"].append(Maps(probability, head))
        return models, _entries(KeptMaps, columns)


def to_levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities as levels of their logit."""
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    level = np.floor((np.log(p / (1 - p)) + SUREST) / STEP)
    return np.clip(level, 0, LEVELS - 1).astype(np.uint8)


def from_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The probability in the middle of each level."""
    table = sigmoid((np.arange(LEVELS) + 0.5) * STEP - SUREST).astype(np.float32)
    return np.asarray(table[levels])


def _write(
    path: Path,
    models: Iterable[ModelNote],
    entries: Sequence[Entry],
    **arrays: NDArray[Any],
) -> None:
    """Write the columns both files have, then their own."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        format=np.array(FORMAT),
        note=np.array(RESEARCH_USE),
        models=np.array(json.dumps([asdict(model) for model in models])),
        patients=np.array([entry.patient for entry in entries], np.str_),
        rows_sha256=np.array([entry.rows_sha256 for entry in entries], np.str_),
        **arrays,
    )
    write_whole(path, buffer.getvalue())


@contextlib.contextmanager
def _opened(path: Path, kind: str, remedy: str) -> Iterator[Any]:
    """Give the arrays of a file; what opening or parsing it raises becomes one of our errors."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(sum(member.file_size for member in archive.infolist()), path)
        # Opened here: numpy leaves a broken archive open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            yield file
    except GliosightError:
        raise
    except FileNotFoundError as error:
        raise NothingReadableError("no such file", where=path.name, remedy=remedy) from error
    except _DAMAGED as error:
        raise DamagedInputError(
            f"no {kind} of gliosight, or damaged ones", where=path.name, remedy=remedy
        ) from error


def _check_size(claimed: int, path: Path) -> None:
    if claimed > LARGEST:
        what = f"the file claims {claimed:,} bytes unpacked, the limit is {LARGEST:,}"
        remedy = "split it by patients"
        raise LimitExceededError(what, where=path.name, remedy=remedy)


def _parse_header(file: Any) -> tuple[tuple[ModelNote, ...], dict[str, list[Any]]]:
    """The models, and the columns that both files have."""
    if int(file["format"]) != FORMAT:
        raise ValueError("another format")
    models = tuple(ModelNote(**note) for note in json.loads(str(file["models"])))
    names, indices, shapes = file["patients"].tolist(), file["model"], file["shapes"]
    if len(set(names)) != len(names) or shapes.shape != (len(names), 3) or (shapes < 1).any():
        raise ValueError("patients twice, or empty shapes")
    if not ((indices >= 0) & (indices < len(models))).all():
        raise ValueError("an unknown model")
    return models, {
        "patient": [str(name) for name in names],
        "rows_sha256": [str(digest) for digest in file["rows_sha256"].tolist()],
        "model": indices.astype(np.int64).tolist(),
        "shape": [(int(z), int(y), int(x)) for z, y, x in shapes.tolist()],
    }


def _entries(kind: type[Entry], columns: dict[str, list[Any]]) -> tuple[Entry, ...]:
    rows = zip(*columns.values(), strict=True)
    return tuple(kind(**dict(zip(columns, row, strict=True))) for row in rows)


def _column(values: Sequence[Any], dtype: Any, *each: int) -> NDArray[Any]:
    return np.array(values, dtype).reshape(-1, *each)


def _joined(dtype: Any, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])


def _cut(values: NDArray[Any], sizes: list[int]) -> list[NDArray[Any]]:
    """Undo `_joined`: consecutive parts of these sizes."""
    if sum(sizes) != len(values):
        raise ValueError("parts of different length")
    return np.split(values, np.cumsum(sizes, dtype=np.int64))[:-1]


def _packed(shape: Shape) -> int:
    return (math.prod(shape) + 7) // 8


def _box_of(levels: NDArray[np.uint8]) -> tuple[slice, ...]:
    """The smallest box around all above the lowest level; empty where nothing is."""
    boxes = ndimage.find_objects((levels > 0).astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * levels.ndim
