"""The baseline that only looks for something bright: a threshold on FLAIR, and the largest body above it.

In: a study and its truth. Out: counts at each of some thresholds, so that the one to use can be chosen on
other patients later, without keeping a mask of any. The head's rim is left out, since scalp and skull
outshine most tumours; FLAIR is smoothed a little, and measured in robust standard deviations (1.4826 times
the median absolute deviation) above the median of what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.evaluate.localization import CONNECTED_26
from gliosight.head import find_head
from gliosight.study import Study

# Robust standard deviations above the median.
THRESHOLDS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0)
# In-plane, pixels.
SMOOTHING = 1.0
# Of the head's size in its largest slice (the root of its area).
RIM = 0.1


@dataclass(frozen=True)
class BrightCounts:
    """What the largest bright body covers, at each of `THRESHOLDS`.

    Parameters
    ----------
    truth_px : (slices,) int array
    predicted_px, both_px : (thresholds, slices) int arrays
    """

    truth_px: NDArray[np.int64]
    predicted_px: NDArray[np.int64]
    both_px: NDArray[np.int64]

    def dice(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(thresholds,) Dice over the chosen slices; NaN without tumour in them."""
        truth = int(self.truth_px[chosen].sum())
        if not truth:
            return np.full(len(THRESHOLDS), np.nan)
        marked = self.predicted_px[:, chosen].sum(axis=1)
        return np.asarray(2 * self.both_px[:, chosen].sum(axis=1) / (truth + marked))


def count_bright(study: Study, truth: NDArray[np.bool_]) -> BrightCounts:
    """Count what the largest bright body covers at each threshold.

    Parameters
    ----------
    study : Study
    truth : (slices, rows, columns) bool array
    """
    flair = study.flair.values.astype(np.float32)
    predicted = np.zeros((len(THRESHOLDS), len(truth)), dtype=np.int64)
    both = np.zeros_like(predicted)
    inside = _without_rim(find_head(flair))
    if inside.any():
        box = ndimage.find_objects(inside.astype(np.uint8))[0]
        tissue = flair[inside]
        median = float(np.median(tissue))
        spread = 1.4826 * float(np.median(np.abs(tissue - median))) or 1.0
        smooth = ndimage.gaussian_filter(flair[box], (0, SMOOTHING, SMOOTHING))
        height = np.where(inside[box], (smooth - median) / spread, -np.inf)
        for k, threshold in enumerate(THRESHOLDS):
            body = _largest(height > threshold)
            predicted[k, box[0]] = body.sum(axis=(1, 2))
            both[k, box[0]] = (body & truth[box]).sum(axis=(1, 2))
    return BrightCounts(truth.sum(axis=(1, 2)), predicted, both)


def choose_threshold(dice: Iterable[NDArray[np.float64]]) -> int:
    """Index of the threshold with the best mean Dice over some patients.

    Parameters
    ----------
    dice : iterable of (thresholds,) arrays
        One of each patient, see `BrightCounts.dice`.
    """
    rows = [one for one in dice if np.isfinite(one).all()]
    return int(np.argmax(np.mean(rows, axis=0))) if rows else len(THRESHOLDS) // 2


def _without_rim(head: NDArray[np.bool_]) -> NDArray[np.bool_]:
    width = RIM * float(np.sqrt(head.sum(axis=(1, 2)).max()))
    out = np.zeros_like(head)
    for k, plane in enumerate(head):
        if plane.any():
            # Outside the picture counts as outside the head.
            out[k] = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] > width
    return out


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask, structure=CONNECTED_26)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
