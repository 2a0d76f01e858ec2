"""Detection by slice and by patient, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from gliosight.evaluate.detection import (
    areas_of,
    confusion_of,
    detection_curves,
    patient_figures,
    report_of,
    slice_figures,
    slices_of,
)
from gliosight.evaluate.figures import draw
from gliosight.evaluate.localization import PatientScore, SliceTable
from tests.evaluate.builders import score_masks, square


def _table(area: list[int], said: list[float] | None, called: list[bool]) -> SliceTable:
    count = len(area)
    zeros = np.zeros(count, dtype=np.int64)
    return SliceTable(
        np.arange(count),
        np.array(area),
        zeros,
        zeros,
        np.array(called),
        None if said is None else np.array(said),
    )


# Two patients, ten slices: six with tumour, of which four are called; four without, one called.
TABLES = (
    _table([0, 20, 60, 200, 0], [0.1, 0.4, 0.8, 0.9, 0.7], [False, False, True, True, True]),
    _table([500, 0, 0, 2000, 10], [0.9, 0.2, 0.3, 0.95, 0.2], [True, False, False, True, False]),
)


def test_by_hand() -> None:
    slices = slices_of(TABLES)
    assert confusion_of(slices) == ((3, 1), (2, 4))
    found = slice_figures(slices, draw(2, seed=1, draws=10))
    assert found["slice_accuracy"].value == pytest.approx(0.7)
    assert found["slice_sensitivity"].value == pytest.approx(4 / 6)
    assert found["slice_specificity"].value == pytest.approx(3 / 4)
    assert found["slice_balanced_accuracy"].value == pytest.approx((4 / 6 + 3 / 4) / 2)
    assert (found["slice_accuracy"].n, found["slice_sensitivity"].n) == (10, 6)


def test_as_scikit_learn_says() -> None:
    slices = slices_of(TABLES)
    found = slice_figures(slices, draw(2, seed=1, draws=10))
    assert found["slice_accuracy"].value == accuracy_score(slices.positive, slices.called)
    assert found["slice_balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(slices.positive, slices.called)
    )
    matrix = confusion_matrix(slices.positive, slices.called)
    assert np.array_equal(matrix, confusion_of(slices))


def test_the_classification_report_is_the_tutorials() -> None:
    report = report_of(slices_of(TABLES))
    lines = [line.split() for line in report.splitlines() if line]
    assert lines[0] == ["precision", "recall", "f1-score", "support"]
    assert lines[1] == ["no", "tumour", "0.600", "0.750", "0.667", "4"]
    assert lines[2] == ["tumour", "0.800", "0.667", "0.727", "6"]


def test_a_class_that_is_never_said_has_precision_0_and_no_warning() -> None:
    report = report_of(slices_of([_table([5, 0], None, [False, False])]))
    assert "0.000" in report
    assert report_of(slices_of([])) == ""


def test_sensitivity_by_area_bins_by_the_true_area() -> None:
    rows = areas_of(slices_of(TABLES), draw(2, seed=1, draws=10))
    told = [(one.from_px, one.to_px, one.figure.value, one.figure.n) for one in rows]
    assert told == [
        (1, 50, 0.0, 2),
        (50, 150, 1.0, 1),
        (150, 400, 1.0, 1),
        (400, 1000, 1.0, 1),
        (1000, None, 1.0, 1),
    ]


def test_without_probabilities_there_is_no_auc_and_no_calibration() -> None:
    bare = _table([0, 9], None, [False, True])
    found = slice_figures(slices_of([TABLES[0], bare]), draw(2, seed=1, draws=10))
    assert set(found) == {
        "slice_accuracy",
        "slice_balanced_accuracy",
        "slice_sensitivity",
        "slice_specificity",
    }
    assert detection_curves(slices_of([bare])) == {}


def test_curves_of_known_probabilities() -> None:
    assert set(detection_curves(slices_of(TABLES))) == {"roc", "precision_recall", "reliability"}


def _patient(*, ill: bool, found: bool, score: float | None) -> PatientScore:
    truth = square(3, (1,) if ill else ())
    marked = square(3, (1,) if found else ())
    return score_masks(truth, marked, found=found, score=score)[0]


def test_patients_with_exact_intervals() -> None:
    patients = [
        _patient(ill=True, found=True, score=0.9),
        _patient(ill=True, found=True, score=0.6),
        _patient(ill=True, found=False, score=0.3),
        _patient(ill=False, found=False, score=0.1),
        _patient(ill=False, found=False, score=0.4),
    ]
    found = patient_figures(patients)
    sensitivity, specificity = found["patient_sensitivity"], found["patient_specificity"]
    assert (sensitivity.value, sensitivity.n) == (pytest.approx(2 / 3), 3)
    # Clopper-Pearson of 2 of 3 and of 2 of 2.
    assert (sensitivity.low, sensitivity.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)
    assert (specificity.low, specificity.high) == pytest.approx((0.1581, 1.0), abs=1e-4)
    # 0.3 loses to 0.4 and wins over 0.1: five of six pairs.
    assert found["patient_auc"].value == pytest.approx(5 / 6)


def test_no_tumour_free_patient_no_specificity() -> None:
    found = patient_figures([_patient(ill=True, found=True, score=0.9)])
    assert found["patient_specificity"].value is None
    assert "patient_auc" not in found


def test_a_score_that_is_not_known_gives_no_auc() -> None:
    patients = [_patient(ill=ill, found=ill, score=None) for ill in (True, False)]
    assert "patient_auc" not in patient_figures(patients)
