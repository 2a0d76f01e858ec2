"""AUC, average precision and sensitivity at fixed specificity: by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from gliosight.evaluate.detection import Slices, detection_curves, ranked_figures
from gliosight.evaluate.figures import Bootstrap, Figure, draw
from gliosight.evaluate.localization import auc_of
from tests.counting import little_memory, steps

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ranked(
    positive: np.ndarray, scores: np.ndarray, owner: np.ndarray, drawn: Bootstrap
) -> dict[str, Figure]:
    return ranked_figures(_row(positive, scores, owner), scores, drawn)


def _row(positive: np.ndarray, scores: np.ndarray, owner: np.ndarray) -> Slices:
    return Slices(owner, positive.astype(np.int64), positive, scores)


def _slices(patients: int = 12, each: int = 20, *, ties: bool = True) -> Sample:
    """Labels, scores with many ties, and owners."""
    generator = np.random.default_rng(5)
    positive = generator.uniform(size=patients * each) < 0.35
    scores = positive * 0.8 + generator.normal(size=len(positive))
    if ties:
        scores = scores.round(1)
    return positive, scores, np.repeat(np.arange(patients), each)


def test_by_hand() -> None:
    # Falling: tumour 0.9, none 0.8, tumour and none 0.6 (equal), none 0.1.
    positive = np.array([True, False, True, False, False])
    scores = np.array([0.9, 0.8, 0.6, 0.6, 0.1])
    # Pairs: 0.9 wins three; 0.6 loses to 0.8, draws with 0.6, wins over 0.1: 4.5 of 6.
    assert auc_of(positive, scores) == pytest.approx(4.5 / 6)
    owner = np.zeros(5, dtype=int)
    found = _ranked(positive, scores, owner, draw(1, seed=1, draws=0))
    # The first half of the tumours at precision 1, the other half at 2 of 4.
    assert found["slice_average_precision"].value == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    # Two of three without tumour (specificity 2/3) are not enough for 0.90: only 0.9 may be called.
    assert found["slice_sensitivity_at_specificity_90"].value == pytest.approx(0.5)


@pytest.mark.parametrize("ties", [True, False])
def test_as_scikit_learn_says(ties: bool) -> None:
    positive, scores, owner = _slices(ties=ties)
    found = _ranked(positive, scores, owner, draw(12, seed=1, draws=0))
    assert found["slice_auc"].value == pytest.approx(roc_auc_score(positive, scores))
    assert found["slice_average_precision"].value == pytest.approx(
        average_precision_score(positive, scores)
    )
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    for wanted in (90, 95, 99):
        expected = true[false <= 1 - wanted / 100 + 1e-12].max()
        name = f"slice_sensitivity_at_specificity_{wanted}"
        assert found[name].value == pytest.approx(expected)


def test_every_draw_is_what_scikit_learn_says_of_the_slices_drawn() -> None:
    positive, scores, owner = _slices()
    drawn = draw(12, seed=4, draws=230)  # more than a chunk
    found = _ranked(positive, scores, owner, drawn)
    for row in (0, 99, 100, 229):
        chosen = np.repeat(np.arange(len(owner)), drawn.weights[1 + row][owner].astype(int))
        auc, precision = found["slice_auc"].drawn, found["slice_average_precision"].drawn
        assert auc is not None
        assert precision is not None
        assert auc[row] == pytest.approx(roc_auc_score(positive[chosen], scores[chosen]))
        assert precision[row] == pytest.approx(
            average_precision_score(positive[chosen], scores[chosen])
        )


def test_a_constant_score_ranks_nothing() -> None:
    positive, _, owner = _slices()
    found = _ranked(positive, np.full(240, 0.3), owner, draw(12, seed=1, draws=9))
    assert found["slice_auc"].value == pytest.approx(0.5)
    assert found["slice_average_precision"].value == pytest.approx(positive.mean())
    assert found["slice_sensitivity_at_specificity_99"].value == 0


@pytest.mark.parametrize("positive", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_one_class_has_no_auc_and_no_curve(positive: np.ndarray) -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    assert auc_of(positive, scores) is None
    curves = detection_curves(_row(positive, scores, np.zeros(4, dtype=int)))
    assert set(curves) == {"reliability"}


def test_no_slices_at_all() -> None:
    nothing = np.empty(0)
    found = _ranked(nothing.astype(bool), nothing, nothing.astype(int), draw(0, seed=1))
    assert found["slice_auc"].value is None


def test_curves_begin_and_end_where_they_should() -> None:
    positive, scores, owner = _slices()
    curves = detection_curves(_row(positive, scores, owner))
    roc, recall = curves["roc"], curves["precision_recall"]
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert recall.x[-1] == 1
    assert recall.y[-1] == pytest.approx(positive.mean())
    area = np.trapezoid(roc.y, roc.x)
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=0.01)


def test_draws_are_done_in_chunks_and_slices_all_at_once() -> None:
    def work(each: int, draws: int) -> int:
        sample, drawn = _slices(88, each, ties=False), draw(88, seed=1, draws=draws)
        return steps(lambda: _ranked(*sample, drawn))

    assert work(18, 400) == work(36, 400)  # no loop over slices
    assert work(18, 800) < 2.1 * work(18, 400)
    sample, drawn = _slices(88, 36, ties=False), draw(88, seed=1)
    # All 2,000 draws of 3,168 slices at once are as much an array.
    with little_memory(64 * 1024**2):
        _ranked(*sample, drawn)
