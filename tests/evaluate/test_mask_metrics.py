"""Overlap, surfaces and lesions: by hand, and against scikit-learn; MONAI has a file of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from gliosight.evaluate.mask_metrics import lesions_of, overlap_of, slice_dice, surfaces_of
from tests.evaluate.builders import SIZE, score_masks, square

TRUTH = square(5, (1, 2, 3))  # 6 x 6 in three slices: 108 pixels


@pytest.mark.parametrize(
    ("prediction", "measures"),
    [
        # Shifted by two in both directions: 4 x 4 of 6 x 6 in each of three slices are in both.
        (square(5, (1, 2, 3), corner=8),
         {"predicted_px": 108, "dice": 2 * 48 / 216, "iou": 48 / 168, "precision": 48 / 108,
          "recall": 48 / 108, "volume_error": 0, "slice_dice": 32 / 72}),
        # The Dice of the volume is not the mean over slices.
        (square(5, (1,)), {"dice": 2 * 36 / 144, "slice_dice": 1 / 3, "volume_error": -2 / 3}),
        # A missed lesion counts 0.
        (square(5, ()), {"dice": 0, "surface_dice": 0, "slice_dice": 0, "volume_error": -1}),
    ],
    ids=["shifted", "one of three slices", "missed"],
)  # fmt: skip
def test_overlap_by_hand(prediction: np.ndarray, measures: dict[str, float]) -> None:
    score, table = score_masks(TRUTH, prediction)
    assert {name: getattr(score, name) for name in measures} == pytest.approx(measures)
    assert (score.truth_px, table.both_px.sum()) == (108, (TRUTH & prediction).sum())


def test_overlap_is_scikit_learns() -> None:
    random = np.random.default_rng(1).uniform(size=(2, *TRUTH.shape)) < 0.3
    scores = {"dice": f1_score, "iou": jaccard_score}
    scores |= {"precision": precision_score, "recall": recall_score}
    # A missed lesion counts 0: precision of nothing marked, too.
    for truth, prediction in (random, (TRUTH, np.zeros_like(TRUTH))):
        overlap = overlap_of(truth.sum(), prediction.sum(), (truth & prediction).sum())
        for name, of_scikit_learn in scores.items():
            options = {"zero_division": 0} if name == "precision" else {}
            expected = of_scikit_learn(truth.ravel(), prediction.ravel(), **options)
            assert overlap[name] == pytest.approx(expected)


def test_without_a_lesion_nothing_is_averaged_in() -> None:
    """Where libraries differ: scikit-learn has 0, MONAI NaN or, if asked, 1. We leave it out."""
    names = ("iou", "precision", "recall", "hd95", "surface_dice", "slice_dice", "volume_error")
    for prediction in (square(5, ()), square(5, (2,))):
        score, _ = score_masks(square(5, ()), prediction)
        assert [score.dice, *(getattr(score, name) for name in names)] == [None] * 8
        assert score.predicted_px == int(prediction.sum())


def test_dice_of_a_slice_without_tumour_is_not_1() -> None:
    # One falsely marked, one rightly empty, one missed.
    dice = slice_dice(score_masks(TRUTH, square(5, (0, 1, 2)))[1])
    assert dice == pytest.approx([np.nan, 1, 1, 0, np.nan], nan_ok=True)


def test_a_shift_is_its_distance_and_spacing_counts() -> None:
    assert surfaces_of(TRUTH, TRUTH, (5.0, 1.0, 1.0)) == surfaces_of(TRUTH, TRUTH, None) == (0, 1)
    # A tall block, moved by four rows: the faces across the shift are 4 rows apart.
    truth = np.zeros((20, 40, 40), dtype=bool)
    truth[4:16, 8:20, 8:20] = True
    moved = np.roll(truth, 4, axis=1)
    isotropic, _ = surfaces_of(truth, moved, (1.0, 1.0, 1.0))
    assert isotropic == pytest.approx(4, abs=1.01)
    stretched, _ = surfaces_of(truth, moved, (1.0, 2.5, 1.0))
    assert stretched == pytest.approx(10, abs=2.6)


DIAGONAL = float(np.hypot(SIZE, SIZE))


@pytest.mark.parametrize(
    ("truth", "prediction", "spacing", "distance"),
    [
        (TRUTH, square(5, ()), (5.0, 0.5, 0.8), np.linalg.norm([25, SIZE * 0.5, SIZE * 0.8])),
        (TRUTH, square(5, ()), None, DIAGONAL),
        (square(5, (1,)), square(5, (3,)), None, DIAGONAL),
    ],
    ids=["missed", "missed, without geometry", "no slice in common"],
)
def test_what_is_not_hit_is_the_diagonal_away(
    truth: np.ndarray, prediction: np.ndarray, spacing: Any, distance: float
) -> None:
    assert surfaces_of(truth, prediction, spacing) == (pytest.approx(distance), 0)


def test_without_geometry_surfaces_stay_within_slices() -> None:
    # The model marks one slice more: no distance between slices is known, so none is invented.
    prediction = square(5, (1, 2, 3, 4))
    distance, overlap = surfaces_of(TRUTH, prediction, None)
    assert distance == 0
    # Of seven equal contours, three true and four marked, six overlap.
    assert overlap == pytest.approx(6 / 7)
    through, _ = surfaces_of(TRUTH, prediction, (5.0, 1.0, 1.0))
    assert through == pytest.approx(5)


def test_surface_dice_counts_what_is_nearer_than_two() -> None:
    for corner, expected in ((7, 1), (14, 0)):
        moved = square(1, (0,), corner=corner)
        assert surfaces_of(square(1, (0,)), moved, None)[1] == expected


def test_lesions_are_counted_26_connected() -> None:
    truth = np.zeros((3, 12, 12), dtype=bool)
    truth[0, 2, 2] = truth[1, 3, 3] = True  # a corner in common: one lesion
    truth[2, 9, 9] = True  # another
    prediction = np.zeros_like(truth)
    prediction[1, 3, 3:6] = True  # finds the first
    prediction[0, 9, 2] = True  # false
    assert lesions_of(truth, prediction) == (2, 1, 1)
    empty = np.zeros_like(truth)
    assert lesions_of(empty, empty) == (0, 0, 0)


def test_only_scored_slices_count() -> None:
    scored = np.array([True, True, False, False, True])
    prediction = square(5, (1, 3))
    score, table = score_masks(TRUTH, prediction, scored=scored)
    assert table.numbers.tolist() == [1, 2, 5]
    assert score.slices == 3
    assert score.truth_px == 36
    assert score.dice == 1
    # Half of a volume has no bodies to count.
    assert (score.lesions, score.lesions_found, score.false_lesions) == (None, None, None)


def test_labels_come_from_the_probability_and_else_from_the_mask() -> None:
    prediction = square(5, (1,))
    _, table = score_masks(TRUTH, prediction)
    assert table.called.tolist() == [False, True, False, False, False]
    assert table.probability is None
    probability = np.array([0.6, 0.9, 0.7, 0.2, 0.1])
    score, table = score_masks(
        TRUTH, prediction, slice_probability=probability, slice_threshold=0.6
    )
    assert table.called.tolist() == [True, True, True, False, False]
    assert (score.false_positive_slices, score.false_negative_slices) == (1, 1)
    # Tumour 0.9 0.7 0.2, none 0.6 0.1: five of six pairs in order.
    assert score.slice_auc == pytest.approx(5 / 6)


def test_volumes_are_in_ml_only_with_geometry() -> None:
    score, _ = score_masks(TRUTH, TRUTH)
    assert (score.unit, score.truth_ml) == ("px", None)
    score, _ = score_masks(TRUTH, TRUTH, spacing=(5.0, 2.0, 0.5))
    assert (score.unit, score.truth_ml) == ("mm", pytest.approx(0.54))
