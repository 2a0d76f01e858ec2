"""ROC, precision and recall of ranked slices, for all bootstrap draws at once (evaluate).

In: labels, scores and whose slices they are. Out: AUC, average precision and sensitivity at fixed
specificities as `Figure`, and the curves. Definitions are scikit-learn's (`roc_auc_score`,
`average_precision_score`, `roc_curve`), equal scores counting as one step; the tests hold them against
it. They are done here once more only since scikit-learn takes one draw at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.evaluate.bootstrap import Array, Bootstrap, divide, draw
from gliosight.evaluate.scores import Curve, Figure

SPECIFICITIES = (0.90, 0.95, 0.99)
# Points kept of a plotted curve: more cannot be told apart on a page.
MOST_POINTS = 400


@dataclass(frozen=True)
class Ranked:
    """Slices by falling score, grouped where scores are equal.

    Parameters
    ----------
    positive : (slices,) bool array
    owner : (slices,) int array
        The patient of each slice.
    ends : (groups,) int array
        Last slice of each group of equal scores.
    """

    positive: NDArray[np.bool_]
    owner: NDArray[np.int64]
    ends: NDArray[np.int64]


def rank(positive: NDArray[np.bool_], scores: Array, owner: NDArray[np.int64]) -> Ranked:
    """Order slices by falling score."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(order) else order
    return Ranked(positive[order], owner[order], ends)


def ranked_figures(ranked: Ranked, drawn: Bootstrap) -> dict[str, Figure]:
    """``slice_auc``, ``slice_average_precision`` and ``slice_sensitivity_at_specificity_NN``."""
    count = len(ranked.positive)
    size = len(drawn.weights)
    auc, precision = np.full(size, np.nan), np.full(size, np.nan)
    sensitivity = np.full((len(SPECIFICITIES), size), np.nan)
    if count:
        for rows, weight in drawn.by_slice(ranked.owner):
            true, false = _steps(ranked, weight)
            positives, negatives = true[:, -1], false[:, -1]
            before = np.pad(true, ((0, 0), (1, 0)))[:, :-1]
            area = (np.diff(false, axis=1, prepend=0) * (true + before)).sum(axis=1) / 2
            auc[rows] = divide(area, positives * negatives)
            share = np.nan_to_num(divide(true, true + false))
            gained = np.diff(true, axis=1, prepend=0)
            precision[rows] = divide((gained * share).sum(axis=1), positives)
            for k, wanted in enumerate(SPECIFICITIES):
                # Whole numbers on both sides, but for the share itself.
                allowed = false <= (1 - wanted) * negatives[:, None] + 1e-9
                best = np.where(allowed, true, 0).max(axis=1)
                defined = (positives > 0) & (negatives > 0)
                sensitivity[k, rows] = np.where(defined, divide(best, positives), np.nan)
    figures = {
        "slice_auc": drawn.figure(auc, n=count),
        "slice_average_precision": drawn.figure(precision, n=count),
    }
    for wanted, found in zip(SPECIFICITIES, sensitivity, strict=True):
        name = f"slice_sensitivity_at_specificity_{round(100 * wanted)}"
        figures[name] = drawn.figure(found, n=int(ranked.positive.sum()))
    return figures


def auc_of(positive: NDArray[np.bool_], scores: Array) -> float | None:
    """Area under the ROC curve; ``None`` with one class only."""
    ranked = rank(positive, scores, np.zeros(len(scores), dtype=np.int64))
    return ranked_figures(ranked, draw(1, seed=0, draws=0))["slice_auc"].value


def curves_of(ranked: Ranked) -> dict[str, Curve]:
    """``roc`` (false against true positive rate) and ``precision_recall`` (recall, precision)."""
    if not ranked.positive.any() or ranked.positive.all():
        return {}
    true, false = (one[0] for one in _steps(ranked, np.ones((1, len(ranked.positive)))))
    kept = np.unique(np.linspace(0, len(true) - 1, MOST_POINTS).round().astype(int))
    recall, precision = true / true[-1], true / (true + false)
    return {
        "roc": Curve((0.0, *(false / false[-1])[kept].tolist()), (0.0, *recall[kept].tolist())),
        "precision_recall": Curve(tuple(recall[kept].tolist()), tuple(precision[kept].tolist())),
    }


def _steps(ranked: Ranked, weight: Array) -> tuple[Array, Array]:
    """Weight of positives and of negatives called tumour, at each step of the threshold."""
    true = np.cumsum(weight * ranked.positive, axis=1)[:, ranked.ends]
    false = np.cumsum(weight * ~ranked.positive, axis=1)[:, ranked.ends]
    return true, false
