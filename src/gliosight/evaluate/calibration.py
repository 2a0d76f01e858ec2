"""Do slice probabilities mean what they say? (evaluate).

In: labels, probabilities and whose slices they are. Out: Brier score, log loss, calibration slope and
intercept, and the expected calibration error (ECE), as `Figure`.

The slope is that of a logistic regression of the label on the logit of the probability: 1 is right, below
1 the model is surer than it may be. The intercept is that of the same regression with the slope held at
1 (calibration in the large): 0 is right, above 0 there is more tumour than was said. Both as in Van
Calster et al., doi:10.1186/s12916-019-1466-7. ECE comes last, since a network that only says 0 and 1 has a
small one whenever it is mostly right: so it is also given over the probabilities between 0.02 and 0.98.

ECE has 15 bins of equal mass. Equal probabilities fall into one bin, that of the first of them, so that a
constant has one bin and not 15. Bins are set on the sample and kept in the bootstrap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliosight.evaluate.bootstrap import Array, Bootstrap, divide
from gliosight.evaluate.scores import Curve, Figure

BINS = 15
UNSURE = (0.02, 0.98)
# Probabilities are kept this far from 0 and 1 before a logarithm is taken, as in `gliosight.decide`.
CLIP = 1e-5
# A slope this steep is that of classes a threshold separates: there is no finite one.
STEEPEST = 50.0
STEPS = 60
# A free step overshoots where most probabilities are all but 0 and 1, and never comes back.
LONGEST_MOVE, LONGEST_TURN = 2.0, 0.5
SMALL_STEP = 1e-8
# Logits that vary less than this (variance over mean square) are one value for all.
FLAT = 1e-9


def calibration_figures(
    positive: NDArray[np.bool_], probability: Array, owner: NDArray[np.int64], drawn: Bootstrap
) -> dict[str, Figure]:
    """All figures of calibration, the ones to look at first coming first.

    Parameters
    ----------
    positive : (slices,) bool array
    probability : (slices,) float array
    owner : (slices,) int array
        The patient of each slice.
    """
    label = positive.astype(np.float64)
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    loss = -np.log(np.where(positive, clipped, 1 - clipped))
    slices = _sums(np.ones(len(label)), owner, drawn)
    slope, intercept = _regressions(label, np.log(clipped / (1 - clipped)), owner, drawn)
    unsure = (probability > UNSURE[0]) & (probability < UNSURE[1])
    return {
        "brier": drawn.ratio(_sums((probability - label) ** 2, owner, drawn), slices),
        "log_loss": drawn.ratio(_sums(loss, owner, drawn), slices),
        "calibration_slope": drawn.figure(slope, n=len(label)),
        "calibration_intercept": drawn.figure(intercept, n=len(label)),
        "ece": _ece(label, probability, owner, drawn),
        "ece_unsure": _ece(label[unsure], probability[unsure], owner[unsure], drawn),
    }


def reliability(positive: NDArray[np.bool_], probability: Array) -> Curve:
    """Mean probability and share of tumour in each bin of the ECE."""
    bins = bins_of(probability)
    chosen = np.unique(bins)
    return Curve(
        tuple(float(probability[bins == k].mean()) for k in chosen),
        tuple(float(positive[bins == k].mean()) for k in chosen),
    )


def bins_of(probability: Array) -> NDArray[np.int64]:
    """(slices,) bin of each: equal mass, equal values in one."""
    first = np.searchsorted(np.sort(probability), probability, side="left")
    return np.asarray(first * BINS // max(len(probability), 1), dtype=np.int64)


def _ece(label: Array, probability: Array, owner: NDArray[np.int64], drawn: Bootstrap) -> Figure:
    away = np.zeros((drawn.patients, BINS))
    np.add.at(away, (owner, bins_of(probability)), probability - label)
    slices = _sums(np.ones(len(label)), owner, drawn)
    found = divide(np.abs(drawn.weights @ away).sum(axis=1), drawn.weights @ slices)
    return drawn.figure(found, n=len(label))


def _sums(values: Array, owner: NDArray[np.int64], drawn: Bootstrap) -> Array:
    """(patients,) sum of the values of each patient's slices."""
    return np.bincount(owner, weights=values, minlength=drawn.patients).astype(np.float64)


def _regressions(
    label: Array, logits: Array, owner: NDArray[np.int64], drawn: Bootstrap
) -> tuple[Array, Array]:
    """Slope, and intercept at slope 1, in the sample and in each draw; NaN where undefined."""
    size = len(drawn.weights)
    slope, intercept = np.full(size, np.nan), np.full(size, np.nan)
    if not 0 < label.sum() < len(label):
        return slope, intercept
    for rows, weight in drawn.by_slice(owner):
        intercept[rows] = _newton(label, logits, weight, fit_slope=False)[1]
        slope[rows] = _newton(label, logits, weight, fit_slope=True)[0]
    return slope, intercept


def _newton(label: Array, logits: Array, weight: Array, *, fit_slope: bool) -> tuple[Array, Array]:
    """Logistic regression by Newton's method, a row of ``weight`` at a time.

    Returns
    -------
    slope, intercept : (rows,) arrays
        NaN where it does not end.
    """
    slope, intercept = np.ones(len(weight)), np.zeros(len(weight))
    step = np.full(len(weight), np.inf)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if fit_slope:
            # From no slope at all, where the curvature is largest: from 1, answers that are surer than
            # they should be make steps that swing to and fro for good.
            share = weight @ label / weight.sum(axis=1)
            slope, intercept = np.zeros(len(weight)), np.log(share / (1 - share))
        for _ in range(STEPS):
            said = 1 / (1 + np.exp(-(slope[:, None] * logits + intercept[:, None])))
            residual = weight * (label - said)
            curvature = weight * said * (1 - said)
            g0, h00 = residual.sum(axis=1), curvature.sum(axis=1)
            if fit_slope:
                g1, h01 = residual @ logits, curvature @ logits
                h11 = curvature @ logits**2
                determinant = h00 * h11 - h01**2
                # Where all say the same there is no slope, and what is left of it is rounding.
                determinant = np.where(determinant > FLAT * h00 * h11, determinant, np.nan)
                move = (h11 * g0 - h01 * g1) / determinant
                turn = (h00 * g1 - h01 * g0) / determinant
                # Both by one factor: the step keeps its direction, along which the likelihood grows.
                long = np.maximum(np.abs(move) / LONGEST_MOVE, np.abs(turn) / LONGEST_TURN)
                move, turn = (one / np.maximum(long, 1) for one in (move, turn))
                slope = slope + turn
                step = np.abs(move) + np.abs(turn)
            else:
                move = np.clip(g0 / h00, -LONGEST_MOVE, LONGEST_MOVE)
                step = np.abs(move)
            intercept = intercept + move
            if np.nanmax(step, initial=0.0) < SMALL_STEP:
                break
        wrong = ~(step < 1e-4) | ~(np.abs(slope) < STEEPEST)
    return np.where(wrong, np.nan, slope), np.where(wrong, np.nan, intercept)
