"""Figures of slices and patients called tumour: ranking, thresholds, calibration (evaluate).

A slice shows tumour if any pixel of its true mask is set. AUC, average precision and the curves are
scikit-learn's by definition, equal scores counting as one step; they are computed here since scikit-learn
takes one bootstrap draw at a time. Calibration slope and intercept are as in Van Calster et al.,
doi:10.1186/s12916-019-1466-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report

from gliosight.evaluate.figures import Array, Bootstrap, Figure, divide, exact
from gliosight.evaluate.mask_metrics import PatientScore, SliceTable, auc_of

SPECIFICITIES = (0.90, 0.95, 0.99)
# Draws computed at a time: so many rows of a few thousand slices stay in the processor's cache.
CHUNK = 100
# Points kept of a plotted curve: more cannot be told apart on a page.
MOST_POINTS = 400
# Lower bounds (pixels) of the tumour areas that sensitivity is given for.
AREAS = (1, 50, 150, 400, 1000)
BINS = 15
UNSURE = (0.02, 0.98)
# Probabilities are kept this far from 0 and 1 before a logarithm is taken, as in `gliosight.decide`.
CLIP = 1e-5
# A slope this steep is that of probabilities that hardly vary.
STEEPEST = 50.0
# Logits that vary less than this (variance over mean square) are one value for all.
FLAT = 1e-9


@dataclass(frozen=True)
class Slices:
    """All slices of some patients in a row: (slices,) arrays.

    ``owner`` is the patient of each, ``area`` its true pixels; there is no ``probability`` where that of a
    patient is not known.
    """

    owner: NDArray[np.int64]
    area: NDArray[np.int64]
    called: NDArray[np.bool_]
    probability: Array | None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(slices,) bool array: shows tumour."""
        return self.area > 0

    def sums(self, values: NDArray[np.generic], drawn: Bootstrap) -> Array:
        """(patients,) sum of the values of each patient's slices."""
        sums = np.bincount(self.owner, values.astype(np.float64), minlength=drawn.patients)
        return sums.astype(np.float64)


@dataclass(frozen=True)
class Curve:
    """Points of a plotted line, such as a ROC curve."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class AreaRow:
    """Sensitivity for the slices whose true area lies in ``from_px`` to below ``to_px``."""

    from_px: int
    to_px: int | None
    figure: Figure


def slices_of(tables: Sequence[SliceTable]) -> Slices:
    """Put the patients' slices in a row."""
    probabilities = [t.probability for t in tables if t.probability is not None]
    complete = bool(tables) and len(probabilities) == len(tables)
    nothing = np.empty(0, dtype=np.int64)
    return Slices(
        owner=np.repeat(np.arange(len(tables)), [len(table.numbers) for table in tables]),
        area=np.concatenate([nothing, *(table.truth_px for table in tables)]),
        called=np.concatenate([nothing.astype(bool), *(table.called for table in tables)]),
        probability=np.concatenate(probabilities) if complete else None,
    )


def slice_figures(slices: Slices, drawn: Bootstrap) -> dict[str, Figure]:
    """Figures by slice; those that need a probability only where there is one."""
    positive, called = slices.positive, slices.called
    hits, ill = slices.sums(positive & called, drawn), slices.sums(positive, drawn)
    cleared, free = slices.sums(~positive & ~called, drawn), slices.sums(~positive, drawn)
    sensitivity = divide(drawn.weights @ hits, drawn.weights @ ill)
    specificity = divide(drawn.weights @ cleared, drawn.weights @ free)
    figures = {
        "slice_accuracy": drawn.ratio(hits + cleared, ill + free),
        "slice_balanced_accuracy": drawn.figure((sensitivity + specificity) / 2, n=len(positive)),
        "slice_sensitivity": drawn.figure(sensitivity, n=int(positive.sum())),
        "slice_specificity": drawn.figure(specificity, n=int((~positive).sum())),
    }
    if slices.probability is None:
        return figures
    return (
        ranked_figures(slices, slices.probability, drawn)
        | figures
        | calibration_figures(slices, slices.probability, drawn)
    )


def patient_figures(patients: Sequence[PatientScore]) -> dict[str, Figure]:
    """Sensitivity and specificity of the verdict, with exact intervals, and AUC of the probability.

    An uncertain study is neither found nor called tumour.
    """
    ill = [patient for patient in patients if patient.truth_px]
    free = [patient for patient in patients if not patient.truth_px]
    alarms = sum(patient.found for patient in free)
    figures = {
        "patient_sensitivity": exact(sum(patient.found for patient in ill), len(ill)),
        "patient_specificity": exact(len(free) - alarms, len(free)),
        "false_verdicts": Figure(float(alarms) if free else None, n=len(free)),
        "uncertain_ill": _uncertain(ill),
        "uncertain_free": _uncertain(free),
    }
    scores = [patient.score for patient in patients if patient.score is not None]
    if len(scores) == len(patients) and ill and free:
        labels = np.array([patient.truth_px > 0 for patient in patients])
        figures["patient_auc"] = Figure(auc_of(labels, np.array(scores)), n=len(patients))
    return figures


def _uncertain(patients: Sequence[PatientScore]) -> Figure:
    count = sum(patient.uncertain for patient in patients)
    return Figure(float(count) if patients else None, n=len(patients))


def confusion_of(slices: Slices) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows are truth (no tumour, tumour), columns what the model called."""
    counts = np.bincount(2 * slices.positive + slices.called, minlength=4).tolist()
    return (counts[0], counts[1]), (counts[2], counts[3])


def report_of(slices: Slices) -> str:
    """The tutorial's classification report, by scikit-learn; empty without slices."""
    if not len(slices.called):
        return ""
    text: str = classification_report(
        slices.positive.astype(int),
        slices.called.astype(int),
        labels=(0, 1),
        target_names=("no tumour", "tumour"),
        digits=3,
        zero_division=0,
    )
    return text.rstrip("\n")


def areas_of(slices: Slices, drawn: Bootstrap) -> tuple[AreaRow, ...]:
    """Sensitivity at the model's threshold by the true area in the slice."""
    rows = []
    for low, high in zip(AREAS, (*AREAS[1:], None), strict=True):
        inside = (slices.area >= low) & (slices.area < (np.inf if high is None else high))
        hits = slices.sums(inside & slices.called, drawn)
        rows.append(AreaRow(low, high, drawn.ratio(hits, slices.sums(inside, drawn))))
    return tuple(rows)


def ranked_figures(slices: Slices, scores: Array, drawn: Bootstrap) -> dict[str, Figure]:
    """``slice_auc``, ``slice_average_precision`` and ``slice_sensitivity_at_specificity_NN``."""
    count, size = len(scores), len(drawn.weights)
    auc, precision = np.full(size, np.nan), np.full(size, np.nan)
    sensitivity = np.full((len(SPECIFICITIES), size), np.nan)
    order, ends = _steps(scores)
    positive = slices.positive[order]
    for start in range(0, size, CHUNK) if count else ():
        rows = slice(start, start + CHUNK)
        weight = drawn.weights[rows][:, slices.owner[order]]
        # Weight of positives and of negatives called tumour, at each step of the threshold.
        true = np.cumsum(weight * positive, axis=1)[:, ends]
        false = np.cumsum(weight * ~positive, axis=1)[:, ends]
        positives, negatives = true[:, -1], false[:, -1]
        before = np.pad(true, ((0, 0), (1, 0)))[:, :-1]
        area = (np.diff(false, axis=1, prepend=0) * (true + before)).sum(axis=1) / 2
        auc[rows] = divide(area, positives * negatives)
        share = np.nan_to_num(divide(true, true + false))
        precision[rows] = divide(((true - before) * share).sum(axis=1), positives)
        for k, specificity in enumerate(SPECIFICITIES):
            # Whole numbers on both sides, but for the share itself.
            allowed = false <= (1 - specificity) * negatives[:, None] + 1e-9
            best = np.where(allowed, true, 0).max(axis=1)
            sensitivity[k, rows] = np.where(negatives > 0, divide(best, positives), np.nan)
    tumour = int(positive.sum())
    figures = {
        "slice_auc": drawn.figure(auc, n=count),
        "slice_average_precision": drawn.figure(precision, n=count),
    }
    for specificity, values in zip(SPECIFICITIES, sensitivity, strict=True):
        key = f"slice_sensitivity_at_specificity_{round(100 * specificity)}"
        figures[key] = drawn.figure(values, n=tumour)
    return figures


def detection_curves(slices: Slices) -> dict[str, Curve]:
    """``roc`` (false against true positive rate), ``precision_recall`` (recall, precision) and
    ``reliability`` (mean probability and share of tumour in each bin of the ECE), where defined.
    """
    scores, positive = slices.probability, slices.positive
    if scores is None or not len(scores):
        return {}
    bins = bins_of(scores)
    chosen = [bins == k for k in np.unique(bins)]
    mean, share = (
        tuple(float(values[inside].mean()) for inside in chosen) for values in (scores, positive)
    )
    curves = {"reliability": Curve(mean, share)}
    if positive.all() or not positive.any():
        return curves
    order, ends = _steps(scores)
    true, false = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    shown = np.unique(np.linspace(0, len(true) - 1, MOST_POINTS).round().astype(int))
    recall, precision = true / true[-1], true / (true + false)
    return {
        "roc": Curve((0.0, *(false / false[-1])[shown].tolist()), (0.0, *recall[shown].tolist())),
        "precision_recall": Curve(tuple(recall[shown].tolist()), tuple(precision[shown].tolist())),
    } | curves


def _steps(scores: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order by falling score, and where in it each group of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(order) else order
    return order, ends


def calibration_figures(slices: Slices, probability: Array, drawn: Bootstrap) -> dict[str, Figure]:
    """All figures of calibration. Slope and intercept have no interval.

    ECE comes last: a network that only says 0 and 1 has a small one whenever it is mostly right.
    """
    positive, count = slices.positive, len(slices.positive)
    label = positive.astype(np.float64)
    counts = slices.sums(np.ones(count), drawn)
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    loss = -np.log(np.where(positive, clipped, 1 - clipped))
    slope, intercept = _regression(positive, logit(clipped))
    unsure = (probability > UNSURE[0]) & (probability < UNSURE[1])
    return {
        "brier": drawn.ratio(slices.sums((probability - label) ** 2, drawn), counts),
        "log_loss": drawn.ratio(slices.sums(loss, drawn), counts),
        "calibration_slope": Figure(slope, n=count),
        "calibration_intercept": Figure(intercept, n=count),
        "ece": _ece(label, probability, slices.owner, drawn),
        "ece_unsure": _ece(label[unsure], probability[unsure], slices.owner[unsure], drawn),
    }


def _regression(positive: NDArray[np.bool_], logits: Array) -> tuple[float | None, float | None]:
    """Slope of the logistic regression, and intercept at slope 1; ``None`` where undefined."""
    if positive.all() or not positive.any():
        return None, None
    intercept = brentq(lambda shift: float((positive - expit(logits + shift)).sum()), -50, 50)
    true, false = logits[positive], logits[~positive]
    separated = true.min() >= false.max() or true.max() <= false.min()
    if separated or np.var(logits) <= FLAT * np.mean(logits**2):
        return None, float(intercept)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-9)
    slope = float(model.fit(logits[:, None], positive).coef_[0, 0])
    return slope if abs(slope) < STEEPEST else None, float(intercept)


def bins_of(probability: Array) -> NDArray[np.int64]:
    """(slices,) bin of each: equal mass, equal values in one."""
    first = np.searchsorted(np.sort(probability), probability, side="left")
    return np.asarray(first * BINS // max(len(probability), 1), dtype=np.int64)


def _ece(label: Array, probability: Array, owner: NDArray[np.int64], drawn: Bootstrap) -> Figure:
    away = np.zeros((drawn.patients, BINS))
    np.add.at(away, (owner, bins_of(probability)), probability - label)
    slices = np.bincount(owner, minlength=drawn.patients).astype(np.float64)
    values = divide(np.abs(drawn.weights @ away).sum(axis=1), drawn.weights @ slices)
    return drawn.figure(values, n=len(label))
