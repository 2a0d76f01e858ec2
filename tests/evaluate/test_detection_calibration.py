"""Calibration by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from gliosight.evaluate.detection import (
    Slices,
    bins_of,
    calibration_figures,
    detection_curves,
)
from gliosight.evaluate.figures import Bootstrap, Figure, draw

OWNER = np.zeros(4, dtype=np.int64)
ONE = draw(1, seed=1, draws=0)


def _row(positive: np.ndarray, probability: np.ndarray, owner: np.ndarray) -> Slices:
    return Slices(owner, positive.astype(np.int64), positive, probability)


def _figures(
    positive: np.ndarray, probability: np.ndarray, owner: np.ndarray, drawn: Bootstrap
) -> dict[str, Figure]:
    return calibration_figures(_row(positive, probability, owner), probability, drawn)


def _said(
    size: int = 4000, *, surer: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels by true probabilities, and what a model that is ``surer`` by a factor says."""
    generator = np.random.default_rng(2)
    logits = generator.normal(-1, 1.5, size=size)
    positive = generator.uniform(size=size) < 1 / (1 + np.exp(-logits))
    return positive, 1 / (1 + np.exp(-(surer * logits + shift)))


def test_by_hand() -> None:
    positive = np.array([True, False, False, True])
    probability = np.array([0.8, 0.4, 0.1, 0.4])
    found = _figures(positive, probability, OWNER, ONE)
    assert found["brier"].value == pytest.approx((0.04 + 0.16 + 0.01 + 0.36) / 4)
    losses = -np.log([0.8, 0.6, 0.9, 0.4])
    assert found["log_loss"].value == pytest.approx(losses.mean())
    # Bins by rank: 0.1; 0.4 and 0.4; 0.8. Off by 0.1, by |0.8 - 1|, and by 0.2: of four slices.
    assert found["ece"].value == pytest.approx((0.1 + 0.2 + 0.2) / 4)


def test_as_scikit_learn_says() -> None:
    positive, probability = _said(surer=1.7, shift=0.3)
    owner = np.repeat(np.arange(40), 100)
    found = _figures(positive, probability, owner, draw(40, seed=1, draws=20))
    assert found["brier"].value == pytest.approx(brier_score_loss(positive, probability))
    assert found["log_loss"].value == pytest.approx(log_loss(positive, probability))
    logits = np.log(probability / (1 - probability))
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], positive)
    assert found["calibration_slope"].value == pytest.approx(reference.coef_[0, 0], abs=1e-3)


def test_slope_and_intercept_tell_what_is_wrong() -> None:
    owner = np.repeat(np.arange(40), 100)
    drawn = draw(40, seed=1, draws=50)
    right = _figures(*_said(), owner, drawn)
    assert right["calibration_slope"].value == pytest.approx(1, abs=0.1)
    assert right["calibration_intercept"].value == pytest.approx(0, abs=0.1)
    assert right["calibration_slope"].low is None  # no interval
    surer = _figures(*_said(surer=2), owner, drawn)
    assert surer["calibration_slope"].value == pytest.approx(0.5, abs=0.05)
    shifted = _figures(*_said(shift=-1), owner, drawn)
    assert shifted["calibration_intercept"].value == pytest.approx(1, abs=0.1)
    assert shifted["calibration_slope"].value == pytest.approx(1, abs=0.1)


def test_classes_that_a_threshold_separates_have_no_slope() -> None:
    found = _figures(
        np.array([True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.1]), OWNER, ONE
    )
    assert found["calibration_slope"].value is None


def test_one_class_has_no_slope_but_a_brier_score() -> None:
    found = _figures(np.zeros(4, dtype=bool), np.full(4, 0.5), OWNER, ONE)
    assert found["calibration_slope"].value is None
    assert found["calibration_intercept"].value is None
    assert found["brier"].value == 0.25


def test_a_constant_has_one_bin() -> None:
    assert set(bins_of(np.full(60, 0.3))) == {0}
    assert np.bincount(bins_of(np.linspace(0, 1, 60))).tolist() == [4] * 15


def test_answers_far_surer_than_they_should_be_have_their_slope() -> None:
    """A free Newton step from slope 1 swings to and fro here and never settles."""
    # Free slices, a tenth of them called tumour for certain, and tumour, a twentieth of it missed.
    heaps = ((-6, -5, 300), (6, 11.5, 35), (11.5, 11.5, 132), (-6, -4, 7))
    logits = np.concatenate([np.linspace(*heap) for heap in heaps])
    positive = np.arange(len(logits)) >= 335
    found = _figures(positive, 1 / (1 + np.exp(-logits)), np.zeros(len(logits), np.int64), ONE)
    fitted = LogisticRegression(C=1e9).fit(logits[:, None], positive)
    assert found["calibration_slope"].value == pytest.approx(float(fitted.coef_[0, 0]), rel=1e-3)


@pytest.mark.parametrize("value", [np.float32(0.99999), 0.7, 0.3, 1.0, 0.0])
def test_a_constant_has_no_slope(value: float) -> None:
    label = np.arange(28) % 4 == 0
    owner = np.repeat(np.arange(7), 4)
    found = _figures(label, np.full(28, value), owner, draw(7, seed=1, draws=20))
    assert found["calibration_slope"].value is None


def test_only_0_and_1_have_a_small_ece_and_no_unsure_one() -> None:
    positive = np.arange(100) < 30
    probability = np.where(np.arange(100) < 32, 1.0, 0.0)
    owner = np.zeros(100, dtype=np.int64)
    found = _figures(positive, probability, owner, ONE)
    assert found["ece"].value == pytest.approx(0.02)
    assert found["ece_unsure"].value is None
    assert found["log_loss"].value == pytest.approx(0.02 * -np.log(1e-5), rel=0.01)


def test_the_reliability_curve_is_what_the_ece_sums() -> None:
    positive, probability = _said(600)
    owner = np.zeros(600, dtype=np.int64)
    curve = detection_curves(_row(positive, probability, owner))["reliability"]
    assert len(curve.x) == 15
    ece = np.abs(np.subtract(curve.x, curve.y)).mean()  # bins of 40 each
    assert _figures(positive, probability, owner, ONE)["ece"].value == pytest.approx(ece)
