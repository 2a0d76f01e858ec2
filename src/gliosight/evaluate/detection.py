"""Detection by slice and by patient (evaluate).

In: the `SliceTable` of each patient that counts, and the patients' verdicts. Out: figures, the confusion
matrix, the tutorial's classification report, sensitivity by area, curves. A slice shows tumour if any
pixel of its true mask is set.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import classification_report

from gliosight.evaluate.bootstrap import Array, Bootstrap, exact
from gliosight.evaluate.calibration import calibration_figures, reliability
from gliosight.evaluate.ranking import Ranked, auc_of, curves_of, rank, ranked_figures
from gliosight.evaluate.scores import AreaRow, Curve, Figure, PatientScore, SliceTable

# Lower bounds (pixels) of the tumour areas that sensitivity is given for.
AREAS = (1, 50, 150, 400, 1000)
NAMES = ("no tumour", "tumour")


@dataclass(frozen=True)
class Slices:
    """All slices of some patients in a row.

    Parameters
    ----------
    owner : (slices,) int array
        The patient of each.
    area : (slices,) int array
        True pixels.
    called : (slices,) bool array
    probability : (slices,) float array or None
        ``None`` where that of a patient is not known.
    """

    owner: NDArray[np.int64]
    area: NDArray[np.int64]
    called: NDArray[np.bool_]
    probability: Array | None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(slices,) bool array: shows tumour."""
        return self.area > 0

    def ranked(self) -> Ranked | None:
        """By falling probability, where it is known."""
        if self.probability is None:
            return None
        return rank(self.positive, self.probability, self.owner)


def slices_of(tables: Ordered[SliceTable], owners: Ordered[int] | None = None) -> Slices:
    """Put the patients' slices in a row.

    Parameters
    ----------
    tables : sequence of SliceTable
    owners : sequence of int, optional
        Which patient of the bootstrap each table is of; in order if not given.
    """
    owners = range(len(tables)) if owners is None else owners
    known = [one.probability for one in tables if one.probability is not None]
    whole = bool(known) and len(known) == len(tables)
    nothing = np.empty(0, dtype=np.int64)
    return Slices(
        owner=np.repeat(np.array(owners, dtype=np.int64), [len(one.numbers) for one in tables]),
        area=np.concatenate([nothing, *(one.truth_px for one in tables)]),
        called=np.concatenate([nothing.astype(bool), *(one.called for one in tables)]),
        probability=np.concatenate(known) if whole else None,
    )


def slice_figures(slices: Slices, drawn: Bootstrap) -> dict[str, Figure]:
    """Figures by slice; those that need a probability only where there is one."""
    figures: dict[str, Figure] = {}
    if (ranked := slices.ranked()) is not None:
        figures |= ranked_figures(ranked, drawn)
    figures |= threshold_figures(slices, drawn)
    if slices.probability is not None:
        figures |= calibration_figures(slices.positive, slices.probability, slices.owner, drawn)
    return figures


def threshold_figures(slices: Slices, drawn: Bootstrap) -> dict[str, Figure]:
    """Accuracy, balanced accuracy, sensitivity and specificity of what was called tumour."""
    positive = slices.positive
    true_hits, hits = (
        _count(slices, positive & slices.called, drawn),
        _count(slices, positive, drawn),
    )
    true_misses = _count(slices, ~positive & ~slices.called, drawn)
    misses = _count(slices, ~positive, drawn)
    sensitivity, specificity = drawn.ratio(true_hits, hits), drawn.ratio(true_misses, misses)
    return {
        "slice_accuracy": drawn.ratio(true_hits + true_misses, hits + misses),
        "slice_balanced_accuracy": _halfway(sensitivity, specificity, drawn),
        "slice_sensitivity": sensitivity,
        "slice_specificity": specificity,
    }


def patient_figures(patients: Ordered[PatientScore]) -> dict[str, Figure]:
    """Sensitivity and specificity of the verdict, with exact intervals, and AUC of the score."""
    ill = [one for one in patients if one.truth_px]
    free = [one for one in patients if not one.truth_px]
    figures = {
        "patient_sensitivity": exact(sum(one.found for one in ill), len(ill)),
        "patient_specificity": exact(sum(not one.found for one in free), len(free)),
        "false_verdicts": Figure(
            float(sum(one.found for one in free)) if free else None, None, None, len(free)
        ),
    }
    scores = np.array([one.score for one in patients if one.score is not None])
    if len(scores) == len(patients) and ill and free:
        labels = np.array([one.truth_px > 0 for one in patients])
        figures["patient_auc"] = Figure(auc_of(labels, scores), None, None, len(patients))
    return figures


def confusion_of(slices: Slices) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows are truth (no tumour, tumour), columns what was said."""
    positive, called = slices.positive, slices.called
    return (
        (int((~positive & ~called).sum()), int((~positive & called).sum())),
        (int((positive & ~called).sum()), int((positive & called).sum())),
    )


def report_of(slices: Slices) -> str:
    """The tutorial's classification report, by scikit-learn; empty without slices."""
    if not len(slices.called):
        return ""
    text: str = classification_report(
        slices.positive.astype(int),
        slices.called.astype(int),
        labels=(0, 1),
        target_names=NAMES,
        digits=3,
        zero_division=0,
    )
    return text.rstrip("\n")


def areas_of(slices: Slices, drawn: Bootstrap) -> tuple[AreaRow, ...]:
    """Sensitivity at the model's threshold by the true area in the slice."""
    rows = []
    for low, high in zip(AREAS, (*AREAS[1:], None), strict=True):
        inside = slices.area >= low
        if high is not None:
            inside &= slices.area < high
        hits = _count(slices, inside & slices.called, drawn)
        rows.append(AreaRow(low, high, drawn.ratio(hits, _count(slices, inside, drawn))))
    return tuple(rows)


def detection_curves(slices: Slices) -> dict[str, Curve]:
    """ROC, precision and recall, reliability; none without probabilities."""
    ranked = slices.ranked()
    if ranked is None or slices.probability is None or not len(slices.area):
        return {}
    return curves_of(ranked) | {"reliability": reliability(slices.positive, slices.probability)}


def _count(slices: Slices, chosen: NDArray[np.bool_], drawn: Bootstrap) -> Array:
    """(patients,) how many of the chosen slices each patient has."""
    return np.bincount(slices.owner[chosen], minlength=drawn.patients).astype(np.float64)


def _halfway(one: Figure, other: Figure, drawn: Bootstrap) -> Figure:
    n = one.n + other.n
    if one.value is None or other.value is None or one.drawn is None or other.drawn is None:
        return Figure(None, None, None, n)
    found = np.concatenate([[one.value + other.value], one.drawn + other.drawn]) / 2
    return drawn.figure(found, n=n)
