"""Our figures against MONAI's: where they agree, and where they do not, why.

A file of its own: MONAI is no dependency, and importing it takes long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gliosight.evaluate.mask_metrics import overlap_of, surfaces_of
from tests.evaluate.builders import SIZE, score_masks, square

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*(the ground truth|the prediction) of class.*"),
]


@pytest.fixture(scope="module")
def metrics() -> Any:
    return pytest.importorskip("monai.metrics")


def _theirs(*masks: np.ndarray) -> list[Any]:
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in masks]


def test_dice_and_iou_agree(metrics: Any) -> None:
    generator = np.random.default_rng(1)
    truth, prediction = generator.uniform(size=(2, 5, SIZE, SIZE)) < 0.3
    overlap = overlap_of(int(truth.sum()), int(prediction.sum()), int((truth & prediction).sum()))
    tensors = _theirs(prediction, truth)
    assert float(metrics.DiceMetric()(*tensors)) == pytest.approx(overlap["dice"])
    assert float(metrics.MeanIoU()(*tensors)) == pytest.approx(overlap["iou"])


def test_without_a_lesion_they_have_nan_or_1_and_we_leave_it_out(metrics: Any) -> None:
    empty = square(5, ())
    tensors = _theirs(empty, empty)
    assert np.isnan(float(metrics.DiceMetric(ignore_empty=True)(*tensors)))
    # The other choice is how a mean of 0.65 comes from a network that never marks anything.
    assert float(metrics.DiceMetric(ignore_empty=False)(*tensors)) == 1
    assert score_masks(empty, empty)[0].dice is None


@pytest.mark.parametrize("shift", [2, 4, 5])
def test_surfaces_agree_nearly(metrics: Any, shift: int) -> None:
    """Surface elements lie between voxels for us and on them for MONAI, and have areas for us."""
    truth = np.zeros((24, 40, 40), dtype=bool)
    truth[4:20, 8:24, 8:24] = True
    moved = np.roll(truth, shift, axis=2)
    distance, overlap = surfaces_of(truth, moved, (1.0, 1.0, 1.0))
    theirs = metrics.compute_hausdorff_distance(*_theirs(moved, truth), percentile=95)
    assert distance == pytest.approx(float(theirs), abs=1.0)
    if shift == 4:
        theirs = metrics.compute_surface_dice(
            *_theirs(moved, truth), class_thresholds=[2.0], include_background=True
        )
        assert overlap == pytest.approx(float(theirs), abs=0.05)


def test_a_missed_lesion_is_0_for_both_infinitely_far_for_them_and_the_diagonal_for_us(
    metrics: Any,
) -> None:
    """Infinity cannot be averaged, and leaving it out rewards a model that misses."""
    truth, nothing = square(5, (1, 2)), square(5, ())
    tensors = _theirs(nothing, truth)
    assert float(metrics.DiceMetric()(*tensors)) == 0
    assert score_masks(truth, nothing)[0].dice == 0
    theirs = metrics.compute_hausdorff_distance(*tensors, percentile=95)
    assert not np.isfinite(float(theirs))
    assert np.isfinite(surfaces_of(truth, nothing, (1.0, 1.0, 1.0))[0])
