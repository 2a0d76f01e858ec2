"""What is scored together, and baselines: figures of what hardly looks at the picture (evaluate).

docs/evaluation.md says what each baseline does. They are trained on the split's training part. Without one,
and when the training part itself is scored, they are trained on all scored patients but the one they are
scored on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.bodies import CONNECTED_26
from gliosight.data.manifest import SliceRow
from gliosight.data.split import SLICE
from gliosight.data.studies import LabelledStudy
from gliosight.evaluate.figures import Array
from gliosight.evaluate.mask_metrics import SliceTable, overlap_of
from gliosight.evaluate.predictions import Shape, pack, unpack
from gliosight.head import find_head

POSITION_BINS = 30
CALLED_FROM = 0.5
# Of the brightest body: robust standard deviations (1.4826 median absolute deviations) above the median.
THRESHOLDS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0)
# In-plane, pixels.
SMOOTHING = 1.0
# Width of the head's rim, of its size in its largest slice (the root of its area). It is left out: scalp and
# skull outshine most tumours.
RIM = 0.1

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]
Rows = tuple[SliceRow, ...]


@dataclass(frozen=True)
class Fold:
    """What is scored of one run, and what baselines are trained on there, both by patient.

    ``training`` is ``None`` without a split and for the training part itself.
    """

    scored: Mapping[str, Rows]
    training: Mapping[str, Rows] | None


@dataclass(frozen=True)
class Part:
    """What is scored together; several folds where they are pooled.

    ``name`` is ``train``, ``validation``, ``test``, or ``all`` without a split; ``by`` is what the split is
    by, ``none`` without one.
    """

    name: str
    by: str
    folds: tuple[Fold, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Those with a scored slice."""
        return tuple(name for fold in self.folds for name in fold.scored)

    @property
    def needed(self) -> tuple[str, ...]:
        """Patients that must be read: those scored, and those trained on."""
        names = [name for fold in self.folds for name in (*fold.scored, *(fold.training or {}))]
        return tuple(dict.fromkeys(names))

    @property
    def by_slice(self) -> bool:
        """Whether patients of this part are in the training part, too."""
        return self.by == SLICE

    @property
    def trained_on(self) -> str:
        """In words, what the baselines are trained on."""
        if any(fold.training is None for fold in self.folds):
            return "the other scored patients (leave one patient out)"
        return f"{'each fold' if len(self.folds) > 1 else 'the split'}'s training part"


@dataclass(frozen=True)
class BaselinePatient:
    """What baselines know of a patient of the manifest, without any image.

    ``numbers`` and ``truth_px`` are (slices,), of all used slices. ``bright_px`` and ``bright_both_px`` are
    (thresholds, slices): what the brightest body covers at each of `THRESHOLDS`, and what of that is tumour.
    ``truth`` is the true mask, packed, of the ``shape`` slices, rows, columns.
    """

    numbers: Counts
    truth_px: Counts
    bright_px: Counts
    bright_both_px: Counts
    truth: NDArray[np.uint8]
    shape: Shape

    @property
    def bins(self) -> Counts:
        """(slices,) bin of each slice's relative position."""
        count = len(self.numbers)
        position = np.arange(count) / max(count - 1, 1)
        return np.minimum((position * POSITION_BINS).astype(np.int64), POSITION_BINS - 1)

    def among(self, rows: Iterable[SliceRow]) -> Mask:
        """(slices,) which of its slices the rows are."""
        return np.isin(self.numbers, [row.number for row in rows])

    def by_position(self, inside: Mask) -> Array:
        """(2, bins) slices, and slices with tumour, in each bin."""
        tumour = inside & (self.truth_px > 0)
        chosen = (self.bins[inside], self.bins[tumour])
        return np.array([np.bincount(bins, minlength=POSITION_BINS) for bins in chosen], np.float64)

    def bright_dice(self, inside: Mask) -> Array:
        """(thresholds,) Dice of the brightest body over some slices; NaN without tumour in them."""
        bright, both = (px[:, inside].sum(axis=1) for px in (self.bright_px, self.bright_both_px))
        return overlap_of(self.truth_px[inside].sum(), bright, both)["dice"]


def look_at(labelled: LabelledStudy, rows: Iterable[SliceRow]) -> BaselinePatient:
    """Reduce a patient to what baselines need."""
    truth = labelled.truth
    bright, both = _count_bright(labelled.study.flair.values, truth)
    return BaselinePatient(
        numbers=np.array([row.number for row in rows]),
        truth_px=truth.sum(axis=(1, 2)),
        bright_px=bright,
        bright_both_px=both,
        truth=pack(truth),
        shape=labelled.study.shape,
    )


def _count_bright(values: NDArray[np.generic], truth: Mask) -> tuple[Counts, Counts]:
    """(thresholds, slices) pixels of the brightest body of FLAIR, and those that are tumour."""
    flair = values.astype(np.float32)
    predicted = np.zeros((len(THRESHOLDS), len(truth)), dtype=np.int64)
    both = np.zeros_like(predicted)
    inside = _without_rim(find_head(flair))
    if inside.any():
        box = ndimage.find_objects(inside.astype(np.uint8))[0]
        tissue = flair[inside]
        median = float(np.median(tissue))
        spread = 1.4826 * float(np.median(np.abs(tissue - median))) or 1.0
        smooth = ndimage.gaussian_filter(flair[box], (0, SMOOTHING, SMOOTHING))
        height = np.where(inside[box], (smooth - median) / spread, -np.inf)
        for k, threshold in enumerate(THRESHOLDS):
            body = _largest(height > threshold)
            predicted[k, box[0]] = body.sum(axis=(1, 2))
            both[k, box[0]] = (body & truth[box]).sum(axis=(1, 2))
    return predicted, both


def choose_threshold(dice: Iterable[Array]) -> int:
    """Index of the threshold with the best mean over some patients' (thresholds,) arrays of Dice."""
    rows = [row for row in dice if np.isfinite(row).all()]
    return int(np.argmax(np.mean(rows, axis=0))) if rows else len(THRESHOLDS) // 2


def baseline_tables(
    part: Part, patients: Mapping[str, BaselinePatient], tables: Mapping[str, SliceTable]
) -> dict[str, list[SliceTable]]:
    """The tables of each baseline, for the patients of ``part`` in their order.

    ``patients`` are those that ``part.needed`` names; ``tables`` are the model's, for the truth of the scored
    slices.
    """
    out: dict[str, list[SliceTable]] = {}
    for fold in part.folds:
        for name, of_patient in _fold_tables(fold, patients, tables, copies=part.by_slice):
            out.setdefault(name, []).append(of_patient)
    return out


def _fold_tables(
    fold: Fold,
    patients: Mapping[str, BaselinePatient],
    tables: Mapping[str, SliceTable],
    *,
    copies: bool,
) -> Iterator[tuple[str, SliceTable]]:
    training = fold.scored if fold.training is None else fold.training
    inside = {name: patients[name].among(rows) for name, rows in training.items()}
    counts = {name: patients[name].by_position(chosen) for name, chosen in inside.items()}
    dice = {name: patients[name].bright_dice(chosen) for name, chosen in inside.items()}
    everybody = np.sum(list(counts.values()), axis=0)
    best = choose_threshold(dice.values())
    for name, rows in fold.scored.items():
        patient, truth = patients[name], tables[name]
        here = patient.among(rows)
        slices, tumour = everybody
        if fold.training is None:
            slices, tumour = everybody - counts[name]
            best = choose_threshold(values for other, values in dice.items() if other != name)
        share = tumour.sum() / slices.sum() if slices.any() else 0.5
        by_position = (tumour + 1) / (slices + 2)  # no bin is empty
        yield "majority", _table(truth, probability=np.full(len(truth.numbers), share))
        yield "position", _table(truth, probability=by_position[patient.bins[here]])
        yield "empty", _table(truth)
        bright = patient.bright_px[best, here], patient.bright_both_px[best, here]
        yield "brightest", _table(truth, bright)
        if copies and fold.training is not None:
            copied = _nearest(patient, here, patient.among(fold.training.get(name, ())))
            yield "nearest_slice", _table(truth, copied)


def _nearest(patient: BaselinePatient, here: Mask, training: Mask) -> tuple[Counts, Counts] | None:
    """Marked pixels, and true ones of them, where each slice gets the mask of the nearest training
    slice; ``None`` where the patient has none.
    """
    if not training.any():
        return None
    mask = unpack(patient.truth, patient.shape)
    away = np.abs(patient.numbers[here][:, None] - patient.numbers[training][None, :])
    copied = mask[training][away.argmin(axis=1)]
    return copied.sum(axis=(1, 2)), (copied & mask[here]).sum(axis=(1, 2))


def _table(
    truth: SliceTable,
    marked: tuple[Counts, Counts] | None = None,
    probability: Array | None = None,
) -> SliceTable:
    """A table of marked pixels (all, and true ones), or of probabilities alone."""
    nothing = np.zeros(len(truth.numbers), dtype=np.int64)
    predicted, both = marked or (nothing, nothing)
    called = predicted > 0 if probability is None else probability >= CALLED_FROM
    return SliceTable(truth.numbers, truth.truth_px, predicted, both, called, probability)


def _without_rim(head: Mask) -> Mask:
    width = RIM * float(np.sqrt(head.sum(axis=(1, 2)).max()))
    out = np.zeros_like(head)
    for k, plane in enumerate(head):
        if plane.any():
            # Outside the picture counts as outside the head.
            out[k] = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] > width
    return out


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask, structure=CONNECTED_26)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
