"""Detection by slice and by patient: thresholds, ranking, calibration; by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from gliosight.evaluate.figures import Bootstrap, Figure, draw
from gliosight.evaluate.mask_metrics import PatientScore, SliceTable, auc_of
from gliosight.evaluate.slice_metrics import (
    Slices,
    areas_of,
    bins_of,
    calibration_figures,
    confusion_of,
    detection_curves,
    patient_figures,
    ranked_figures,
    report_of,
    slice_figures,
    slices_of,
)
from tests.counting import little_memory, steps
from tests.evaluate.builders import score_masks, square

THRESHOLD_KEYS = [
    f"slice_{name}" for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
]
ONE = draw(1, seed=1, draws=0)


def _table(area: list[int], probability: list[float] | None, called: list[bool]) -> SliceTable:
    zeros = np.zeros(len(area), dtype=np.int64)
    known = None if probability is None else np.array(probability)
    return SliceTable(np.arange(len(area)), np.array(area), zeros, zeros, np.array(called), known)


# Two patients, ten slices: six with tumour, of which four are called; four without, one called.
TABLES = (
    _table([0, 20, 60, 200, 0], [0.1, 0.4, 0.8, 0.9, 0.7], [False, False, True, True, True]),
    _table([500, 0, 0, 2000, 10], [0.9, 0.2, 0.3, 0.95, 0.2], [True, False, False, True, False]),
)


def _row(positive: np.ndarray, scores: np.ndarray, patients: int = 1) -> Slices:
    owner = np.repeat(np.arange(patients), len(positive) // patients)
    return Slices(owner, positive.astype(np.int64), positive, scores)


def _calibrated(
    positive: np.ndarray, scores: np.ndarray, patients: int = 1, draws: int = 20
) -> dict[str, Figure]:
    drawn = draw(patients, seed=1, draws=draws)
    return calibration_figures(_row(positive, scores, patients), scores, drawn)


def _ranked(positive: np.ndarray, scores: np.ndarray, drawn: Bootstrap = ONE) -> dict[str, Figure]:
    return ranked_figures(_row(positive, scores, drawn.patients), scores, drawn)


def _sample(
    patients: int = 12, each: int = 20, *, ties: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores with many ties."""
    generator = np.random.default_rng(5)
    positive = generator.uniform(size=patients * each) < 0.35
    scores = positive * 0.8 + generator.normal(size=len(positive))
    return positive, scores.round(1) if ties else scores


def _probabilities(
    size: int = 4000, *, surer: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels by true probabilities, and those of a model that is ``surer`` by a factor."""
    generator = np.random.default_rng(2)
    logits = generator.normal(-1, 1.5, size=size)
    positive = generator.uniform(size=size) < 1 / (1 + np.exp(-logits))
    return positive, 1 / (1 + np.exp(-(surer * logits + shift)))


def test_at_the_threshold_by_hand_and_by_scikit_learn() -> None:
    slices = slices_of(TABLES)
    assert confusion_of(slices) == ((3, 1), (2, 4))
    assert np.array_equal(confusion_matrix(slices.positive, slices.called), confusion_of(slices))
    figures = slice_figures(slices, draw(2, seed=1, draws=10))
    balanced = (4 / 6 + 3 / 4) / 2
    assert [figures[key].value for key in THRESHOLD_KEYS] == pytest.approx(
        [0.7, balanced, 4 / 6, 3 / 4]
    )
    assert figures["slice_accuracy"].value == accuracy_score(slices.positive, slices.called)
    assert balanced == pytest.approx(balanced_accuracy_score(slices.positive, slices.called))
    assert (figures["slice_accuracy"].n, figures["slice_sensitivity"].n) == (10, 6)


def test_the_classification_report_is_the_tutorials() -> None:
    lines = [line.split() for line in report_of(slices_of(TABLES)).splitlines() if line]
    assert lines[0] == ["precision", "recall", "f1-score", "support"]
    assert lines[1] == ["no", "tumour", "0.600", "0.750", "0.667", "4"]
    assert lines[2] == ["tumour", "0.800", "0.667", "0.727", "6"]
    # A class that is never called has precision 0, and no warning.
    assert "0.000" in report_of(slices_of([_table([5, 0], None, [False, False])]))
    assert report_of(slices_of([])) == ""


def test_sensitivity_by_the_true_area() -> None:
    rows = areas_of(slices_of(TABLES), draw(2, seed=1, draws=10))
    assert [(row.from_px, row.to_px, row.figure.value, row.figure.n) for row in rows] == [
        (1, 50, 0.0, 2),
        (50, 150, 1.0, 1),
        (150, 400, 1.0, 1),
        (400, 1000, 1.0, 1),
        (1000, None, 1.0, 1),
    ]


def test_without_probabilities_there_is_no_auc_and_no_calibration() -> None:
    bare = _table([0, 9], None, [False, True])
    figures = slice_figures(slices_of([TABLES[0], bare]), draw(2, seed=1, draws=10))
    assert list(figures) == THRESHOLD_KEYS
    assert detection_curves(slices_of([bare])) == {}


def _patient(ill: bool, found: bool, score: float | None) -> PatientScore:
    truth, marked = square(3, (1,) if ill else ()), square(3, (1,) if found else ())
    return score_masks(truth, marked, found=found, score=score)[0]


def test_patients_with_exact_intervals() -> None:
    ill = [(True, True, 0.9), (True, True, 0.6), (True, False, 0.3)]
    free = [(False, False, 0.1), (False, False, 0.4)]
    figures = patient_figures([_patient(*case) for case in (*ill, *free)])
    sensitivity, specificity = figures["patient_sensitivity"], figures["patient_specificity"]
    assert (sensitivity.value, sensitivity.n) == (pytest.approx(2 / 3), 3)
    # Clopper-Pearson of 2 of 3 and of 2 of 2.
    assert (sensitivity.low, sensitivity.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)
    assert (specificity.low, specificity.high) == pytest.approx((0.1581, 1.0), abs=1e-4)
    # 0.3 loses to 0.4 and wins over 0.1: five of six pairs.
    assert figures["patient_auc"].value == pytest.approx(5 / 6)
    alone = patient_figures([_patient(True, True, 0.9)])
    assert alone["patient_specificity"].value is None
    assert "patient_auc" not in alone
    assert "patient_auc" not in patient_figures([_patient(ill, ill, None) for ill in (True, False)])


def test_ranking_by_hand() -> None:
    # Falling: tumour 0.9, none 0.8, tumour and none 0.6 (equal), none 0.1.
    positive = np.array([True, False, True, False, False])
    scores = np.array([0.9, 0.8, 0.6, 0.6, 0.1])
    # Pairs: 0.9 wins three; 0.6 loses to 0.8, draws with 0.6, wins over 0.1: 4.5 of 6.
    assert auc_of(positive, scores) == pytest.approx(4.5 / 6)
    figures = _ranked(positive, scores)
    # The first half of the tumours at precision 1, the other half at 2 of 4.
    assert figures["slice_average_precision"].value == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    # Two of three without tumour (specificity 2/3) are not enough for 0.90: only 0.9 may be called.
    assert figures["slice_sensitivity_at_specificity_90"].value == pytest.approx(0.5)


@pytest.mark.parametrize("ties", [True, False])
def test_ranking_as_scikit_learn_has_it(ties: bool) -> None:
    positive, scores = _sample(ties=ties)
    figures = _ranked(positive, scores, draw(12, seed=1, draws=0))
    precision = average_precision_score(positive, scores)
    assert figures["slice_auc"].value == pytest.approx(roc_auc_score(positive, scores))
    assert figures["slice_average_precision"].value == pytest.approx(precision)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    for percent in (90, 95, 99):
        expected = true[false <= 1 - percent / 100 + 1e-12].max()
        key = f"slice_sensitivity_at_specificity_{percent}"
        assert figures[key].value == pytest.approx(expected)


def test_every_draw_is_what_scikit_learn_has_of_the_slices_drawn() -> None:
    positive, scores = _sample()
    drawn = draw(12, seed=4, draws=230)  # more than a chunk
    figures = _ranked(positive, scores, drawn)
    auc, precision = figures["slice_auc"].drawn, figures["slice_average_precision"].drawn
    assert auc is not None
    assert precision is not None
    for row in (0, 99, 100, 229):
        times = np.repeat(drawn.weights[1 + row].astype(int), 20)
        drawn_slices = np.repeat(positive, times), np.repeat(scores, times)
        assert auc[row] == pytest.approx(roc_auc_score(*drawn_slices))
        assert precision[row] == pytest.approx(average_precision_score(*drawn_slices))


def test_a_constant_score_ranks_nothing() -> None:
    positive, _ = _sample()
    figures = _ranked(positive, np.full(240, 0.3), draw(12, seed=1, draws=9))
    assert figures["slice_auc"].value == pytest.approx(0.5)
    assert figures["slice_average_precision"].value == pytest.approx(positive.mean())
    assert figures["slice_sensitivity_at_specificity_99"].value == 0


@pytest.mark.parametrize("positive", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_one_class_has_no_auc_no_curve_and_no_slope(positive: np.ndarray) -> None:
    assert auc_of(positive, np.array([0.1, 0.2, 0.3, 0.4])) is None
    assert set(detection_curves(_row(positive, np.array([0.1, 0.2, 0.3, 0.4])))) == {"reliability"}
    figures = _calibrated(positive, np.full(4, 0.5))
    assert figures["calibration_slope"].value is figures["calibration_intercept"].value is None
    assert figures["brier"].value == 0.25
    nothing = Slices(np.empty(0, int), np.empty(0, int), np.empty(0, bool), np.empty(0))
    assert ranked_figures(nothing, np.empty(0), draw(0, seed=1))["slice_auc"].value is None


def test_curves() -> None:
    positive, scores = _sample()
    curves = detection_curves(_row(positive, scores))
    roc, recall = curves["roc"], curves["precision_recall"]
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc_auc_score(positive, scores), abs=0.01)
    assert (recall.x[-1], recall.y[-1]) == (1, pytest.approx(positive.mean()))
    # The reliability curve is what the ECE sums.
    positive, probability = _probabilities(600)
    reliability = detection_curves(_row(positive, probability))["reliability"]
    assert len(reliability.x) == 15
    ece = np.abs(np.subtract(reliability.x, reliability.y)).mean()  # bins of 40 each
    assert _calibrated(positive, probability)["ece"].value == pytest.approx(ece)


@pytest.mark.slow
def test_draws_are_done_in_chunks_and_slices_all_at_once() -> None:
    def work(each: int, draws: int) -> int:
        sample, drawn = _sample(88, each, ties=False), draw(88, seed=1, draws=draws)
        return steps(lambda: _ranked(*sample, drawn))

    assert work(18, 400) == work(36, 400)  # no loop over slices
    assert work(18, 800) < 2.1 * work(18, 400)
    sample, drawn = _sample(88, 36, ties=False), draw(88, seed=1)
    # All 2,000 draws of 3,168 slices at once are as much an array.
    with little_memory(64 * 1024**2):
        _ranked(*sample, drawn)


def test_calibration_by_hand() -> None:
    positive = np.array([True, False, False, True])
    figures = _calibrated(positive, np.array([0.8, 0.4, 0.1, 0.4]))
    assert figures["brier"].value == pytest.approx((0.04 + 0.16 + 0.01 + 0.36) / 4)
    assert figures["log_loss"].value == pytest.approx(-np.log([0.8, 0.6, 0.9, 0.4]).mean())
    # Bins by rank: 0.1; 0.4 and 0.4; 0.8. Off by 0.1, by |0.8 - 1|, and by 0.2: of four slices.
    assert figures["ece"].value == pytest.approx((0.1 + 0.2 + 0.2) / 4)
    assert set(bins_of(np.full(60, 0.3))) == {0}
    assert np.bincount(bins_of(np.linspace(0, 1, 60))).tolist() == [4] * 15


@pytest.mark.parametrize(
    ("surer", "shift", "slope", "intercept"),
    [(1, 0, 1, 0), (2, 0, 0.5, None), (1, -1, 1, 1), (1.7, 0.3, 1 / 1.7, None)],
)
def test_slope_and_intercept_show_what_is_wrong(
    surer: float, shift: float, slope: float, intercept: float | None
) -> None:
    """And all figures are what scikit-learn has."""
    positive, probability = _probabilities(surer=surer, shift=shift)
    figures = _calibrated(positive, probability, 40)
    assert figures["calibration_slope"].value == pytest.approx(slope, abs=0.1 * slope)
    if intercept is not None:
        assert figures["calibration_intercept"].value == pytest.approx(intercept, abs=0.1)
    assert figures["brier"].value == pytest.approx(brier_score_loss(positive, probability))
    assert figures["log_loss"].value == pytest.approx(log_loss(positive, probability))
    logits = np.log(probability / (1 - probability))
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], positive)
    assert figures["calibration_slope"].value == pytest.approx(reference.coef_[0, 0], abs=1e-3)
    assert figures["calibration_slope"].low is None  # no interval


@pytest.mark.parametrize("value", [np.float32(0.99999), 0.7, 0.3, 1.0, 0.0, None])
def test_constants_and_classes_that_a_threshold_separates_have_no_slope(
    value: float | None,
) -> None:
    label = np.arange(28) % 4 == 0
    scores = np.where(label, 0.8, 0.2) if value is None else np.full(28, value)
    assert _calibrated(label, scores, 7)["calibration_slope"].value is None


def test_answers_far_surer_than_they_should_be_have_their_slope() -> None:
    """A free Newton step from slope 1 swings to and fro here and never settles."""
    # Free slices, a tenth of them called tumour for certain, and tumour, a twentieth of it missed.
    heaps = ((-6, -5, 300), (6, 11.5, 35), (11.5, 11.5, 132), (-6, -4, 7))
    logits = np.concatenate([np.linspace(*heap) for heap in heaps])
    positive = np.arange(len(logits)) >= 335
    figures = _calibrated(positive, 1 / (1 + np.exp(-logits)))
    fitted = LogisticRegression(C=1e9).fit(logits[:, None], positive)
    assert figures["calibration_slope"].value == pytest.approx(float(fitted.coef_[0, 0]), rel=1e-3)


def test_only_0_and_1_have_a_small_ece_and_no_unsure_one() -> None:
    figures = _calibrated(np.arange(100) < 30, np.where(np.arange(100) < 32, 1.0, 0.0))
    assert figures["ece"].value == pytest.approx(0.02)
    assert figures["ece_unsure"].value is None
    assert figures["log_loss"].value == pytest.approx(0.02 * -np.log(1e-5), rel=0.01)
