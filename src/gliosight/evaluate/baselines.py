"""What a figure is worth: the same figures of something that hardly looks at the picture (evaluate).

In: a part, the manifest's labels, counts of the brightest body. Out: for each baseline a `SliceTable` of
each patient, scored by the very functions that score the model.

``majority``
    Each slice is as likely tumour as slices of the training part are.
``position``
    The share of tumour at the slice's relative position in its volume, in 30 bins (one slice with and one
    without tumour added to each, so that no bin is empty).
``empty``
    No tumour, ever.
``brightest``
    The largest bright body on FLAIR, see `brightest`.
``nearest_slice``
    With a split by slice: label and mask of the nearest training slice of the same patient (the lower of
    two), which is what such a split lets a network remember.

All learn from the split's training part. Without one, and when the training part itself is scored, they
learn from all scored patients but the one they are scored on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import SliceRow
from gliosight.evaluate.brightest import BrightCounts, choose_threshold
from gliosight.evaluate.parts import Fold, Part, Rows, is_by_slice
from gliosight.evaluate.predictions import unpack
from gliosight.evaluate.scores import SliceTable

NAMES = ("majority", "position", "empty", "brightest", "nearest_slice")
POSITION_BINS = 30
THRESHOLD = 0.5


@dataclass(frozen=True)
class Patient:
    """What baselines know of a patient of the manifest.

    Parameters
    ----------
    numbers : (slices,) int array
        Of all used slices.
    tumour : (slices,) bool array
    bright : BrightCounts or None
        ``None`` where it was not looked at.
    truth : (n,) uint8 array
        The true mask, packed.
    shape : tuple of int
        Slices, rows, columns.
    """

    numbers: NDArray[np.int64]
    tumour: NDArray[np.bool_]
    bright: BrightCounts | None
    truth: NDArray[np.uint8]
    shape: tuple[int, int, int]

    @property
    def bins(self) -> NDArray[np.int64]:
        """(slices,) bin of each slice's relative position."""
        count = len(self.numbers)
        position = np.arange(count) / max(count - 1, 1)
        return np.minimum((position * POSITION_BINS).astype(np.int64), POSITION_BINS - 1)


@dataclass(frozen=True)
class _Counts:
    """Slices and tumour slices by position."""

    slices: NDArray[np.float64]
    tumour: NDArray[np.float64]

    def without(self, other: _Counts) -> _Counts:
        return _Counts(self.slices - other.slices, self.tumour - other.tumour)

    @property
    def share(self) -> float:
        """Of tumour among all slices; half where there are none."""
        total = float(self.slices.sum())
        return float(self.tumour.sum()) / total if total else 0.5

    @property
    def by_position(self) -> NDArray[np.float64]:
        return (self.tumour + 1) / (self.slices + 2)


def baseline_tables(
    part: Part, patients: Mapping[str, Patient], tables: Mapping[str, SliceTable]
) -> dict[str, list[SliceTable]]:
    """The tables of each baseline, for the patients of ``part`` in their order.

    Parameters
    ----------
    part : Part
    patients : mapping of str to Patient
        Those of the part and of what its folds learn from.
    tables : mapping of str to SliceTable
        The model's, for the truth of the scored slices.
    """
    out: dict[str, list[SliceTable]] = {name: [] for name in NAMES}
    for fold in part.folds:
        for name, found in _fold_tables(fold, patients, tables).items():
            out[name] += found
        if is_by_slice(part) and fold.learnt is not None:
            out["nearest_slice"] += [
                _nearest(patients[name], rows, fold.learnt.get(name, ()), tables[name])
                for name, rows in fold.scored.items()
            ]
    return {name: found for name, found in out.items() if found}


def learnt_from(part: Part) -> str:
    """In words, what the baselines' numbers were taken from."""
    if any(fold.learnt is None for fold in part.folds):
        return "the other scored patients (leave one patient out)"
    if len(part.folds) > 1:
        return "each fold's training part"
    return "the split's training part"


def needed(part: Part) -> tuple[str, ...]:
    """Patients that must be looked at: those scored, and those trained on."""
    names = [name for fold in part.folds for name in (*fold.scored, *(fold.learnt or {}))]
    return tuple(dict.fromkeys(names))


def _fold_tables(
    fold: Fold, patients: Mapping[str, Patient], tables: Mapping[str, SliceTable]
) -> dict[str, list[SliceTable]]:
    """Majority, position, empty and brightest."""
    source = fold.scored if fold.learnt is None else fold.learnt
    chosen = {name: _among(patients[name], rows) for name, rows in source.items()}
    counts = {name: _count(patients[name], inside) for name, inside in chosen.items()}
    dice = {
        name: bright.dice(inside)
        for name, inside in chosen.items()
        if (bright := patients[name].bright) is not None
    }
    whole = _sum(counts.values())
    fixed = None if fold.learnt is None else choose_threshold(dice.values())
    out: dict[str, list[SliceTable]] = {name: [] for name in NAMES[:4]}
    for name, rows in fold.scored.items():
        patient, truth = patients[name], tables[name]
        inside = _among(patient, rows)
        known = whole if fold.learnt is not None else whole.without(counts[name])
        share = np.full(len(truth.numbers), known.share)
        out["majority"].append(_said(truth, share))
        out["position"].append(_said(truth, known.by_position[patient.bins[inside]]))
        out["empty"].append(_marked(truth, *np.zeros((2, len(truth.numbers)), dtype=np.int64)))
        if patient.bright is not None:
            best = fixed
            if best is None:
                best = choose_threshold(one for other, one in dice.items() if other != name)
            bright = patient.bright
            out["brightest"].append(
                _marked(truth, bright.predicted_px[best, inside], bright.both_px[best, inside])
            )
    if len(out["brightest"]) < len(out["empty"]):
        out["brightest"] = []
    return out


def _nearest(patient: Patient, rows: Rows, learnt: Rows, truth: SliceTable) -> SliceTable:
    """Label and mask of the nearest training slice; nothing where the patient has none."""
    nothing = np.zeros(len(rows), dtype=np.int64)
    if not learnt:
        return _marked(truth, nothing, nothing)
    mask = unpack(patient.truth, patient.shape)
    known = np.flatnonzero(_among(patient, learnt))
    here = np.flatnonzero(_among(patient, rows))
    away = np.abs(patient.numbers[here][:, None] - patient.numbers[known][None, :])
    copied = mask[known[away.argmin(axis=1)]]
    return _marked(truth, copied.sum(axis=(1, 2)), (copied & mask[here]).sum(axis=(1, 2)))


def _among(patient: Patient, rows: Iterable[SliceRow]) -> NDArray[np.bool_]:
    """(slices,) which of a patient's slices the rows are."""
    return np.isin(patient.numbers, [row.number for row in rows])


def _count(patient: Patient, inside: NDArray[np.bool_]) -> _Counts:
    bins = patient.bins[inside]
    tumour = patient.tumour[inside].astype(np.float64)
    return _Counts(
        np.bincount(bins, minlength=POSITION_BINS).astype(np.float64),
        np.bincount(bins, weights=tumour, minlength=POSITION_BINS).astype(np.float64),
    )


def _sum(counts: Iterable[_Counts]) -> _Counts:
    nothing = np.zeros(POSITION_BINS)
    rows = list(counts)
    return _Counts(
        np.sum([one.slices for one in rows], axis=0) if rows else nothing,
        np.sum([one.tumour for one in rows], axis=0) if rows else nothing,
    )


def _said(truth: SliceTable, probability: NDArray[np.float64]) -> SliceTable:
    """A table of probabilities alone: nothing is marked, and no overlap is claimed of it."""
    nothing = np.zeros(len(truth.numbers), dtype=np.int64)
    return SliceTable(
        truth.numbers, truth.truth_px, nothing, nothing, probability >= THRESHOLD, probability
    )


def _marked(
    truth: SliceTable, predicted_px: NDArray[np.int64], both_px: NDArray[np.int64]
) -> SliceTable:
    """A table of masks alone."""
    called = predicted_px > 0
    return SliceTable(truth.numbers, truth.truth_px, predicted_px, both_px, called, None)
