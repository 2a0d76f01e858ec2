"""One case in counts, overlaps, surfaces and lesions (evaluate).

In: a `Case`. Out: its `PatientScore` and `SliceTable`. Everything is over the scored slices.

Empty masks, in one rule: a figure of overlap or of surfaces is a patient's with a true lesion. If the
model marked nothing there, the lesion was missed: Dice, IoU, precision, recall and surface Dice are 0,
and the Hausdorff distance is the diagonal of the volume. Without a true lesion none of them is defined,
whatever was marked: such patients are counted apart, by what was falsely marked. So an empty slice or
patient never counts as a 1.

Surfaces are measured by DeepMind's surface-distance (doi:10.2196/26151): its surface elements carry the
area they stand for, in the volume with its spacing. Without geometry, or where only some slices are
scored, nothing is known of the way from one slice to the next. Then surfaces are the contours within
slices, pooled over the patient; the Hausdorff distance rests on slices that both masks touch, and the
others are told by the counts of false slices. Surface Dice counts the contours of all slices.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import surface_distance
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.evaluate.cases import Case
from gliosight.evaluate.ranking import auc_of
from gliosight.evaluate.scores import PatientScore, SliceTable

Mask = NDArray[np.bool_]

# Surfaces nearer than this count as overlapping: mm, or pixels without geometry.
TOLERANCE = 2.0
PERCENTILE = 95.0
CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Overlap:
    """Overlap of two masks; all ``None`` without a true lesion, see the module's rule."""

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Lesions:
    """Connected bodies (26-connected): true ones, those of them overlapped, and marked ones that
    overlap none. All ``None`` where only some slices are scored.
    """

    true: int | None
    found: int | None
    false: int | None


def score_case(case: Case) -> tuple[PatientScore, SliceTable]:
    """Score one case."""
    table = table_of(case)
    truth, prediction = case.truth[case.scored], case.prediction[case.scored]
    whole = bool(case.scored.all())
    true_px, predicted_px = int(table.truth_px.sum()), int(table.predicted_px.sum())
    tumour = table.truth_px > 0
    overlap = overlap_of(true_px, predicted_px, int(table.both_px.sum()))
    hd95 = surface_dice = None
    lesions = lesions_of(truth, prediction) if whole else Lesions(None, None, None)
    if true_px:
        hd95, surface_dice = surfaces_of(truth, prediction, case.spacing, whole=whole)
    ml = None if case.spacing is None else float(np.prod(case.spacing)) / 1000
    return (
        PatientScore(
            patient=case.patient,
            institution=case.institution,
            collection=case.collection,
            sequences=case.sequences,
            seen=case.seen,
            slices=len(table.numbers),
            tumour_slices=int(tumour.sum()),
            unit="px" if case.spacing is None else "mm",
            truth_px=true_px,
            predicted_px=predicted_px,
            truth_ml=None if ml is None else true_px * ml,
            predicted_ml=None if ml is None else predicted_px * ml,
            dice=overlap.dice,
            iou=overlap.iou,
            precision=overlap.precision,
            recall=overlap.recall,
            hd95=hd95,
            surface_dice=surface_dice,
            slice_dice=float(slice_dice(table)[tumour].mean()) if true_px else None,
            volume_error=predicted_px / true_px - 1 if true_px else None,
            lesions=lesions.true,
            lesions_found=lesions.found,
            false_lesions=lesions.false,
            false_positive_slices=int((table.called & ~tumour).sum()),
            false_negative_slices=int((~table.called & tumour).sum()),
            slice_auc=None if table.probability is None else auc_of(tumour, table.probability),
            score=case.score,
            found=case.found,
        ),
        table,
    )


def table_of(case: Case) -> SliceTable:
    """Count a case's scored slices."""
    chosen = case.scored
    truth, prediction = case.truth[chosen], case.prediction[chosen]
    probability = case.slice_probability
    return SliceTable(
        numbers=case.numbers[chosen],
        truth_px=truth.sum(axis=(1, 2)),
        predicted_px=prediction.sum(axis=(1, 2)),
        both_px=(truth & prediction).sum(axis=(1, 2)),
        called=case.called[chosen],
        probability=None if probability is None else probability[chosen].astype(np.float64),
    )


def overlap_of(true_px: int, predicted_px: int, both_px: int) -> Overlap:
    """Overlap of two masks by their counts."""
    if true_px == 0:
        return Overlap(None, None, None, None)
    return Overlap(
        dice=2 * both_px / (true_px + predicted_px),
        iou=both_px / (true_px + predicted_px - both_px),
        precision=both_px / predicted_px if predicted_px else 0.0,
        recall=both_px / true_px,
    )


def volume_dice(truth: Mask, prediction: Mask) -> float:
    """Dice of two (slices, rows, columns) masks; NaN where there is no tumour."""
    counts = (int(one.sum()) for one in (truth, prediction, truth & prediction))
    found = overlap_of(*counts).dice
    return np.nan if found is None else found


def slice_dice(table: SliceTable) -> NDArray[np.float64]:
    """(n,) Dice of each slice; NaN where it shows no tumour."""
    total = (table.truth_px + table.predicted_px).astype(np.float64)
    found = np.full(len(total), np.nan)
    np.divide(2.0 * table.both_px, total, out=found, where=table.truth_px > 0)
    return found


def lesions_of(truth: Mask, prediction: Mask) -> Lesions:
    """Count connected bodies of two (slices, rows, columns) masks."""
    true_labels, true = ndimage.label(truth, structure=CONNECTED_26)
    marked_labels, marked = ndimage.label(prediction, structure=CONNECTED_26)
    both = truth & prediction
    found = len(np.unique(true_labels[both]))
    return Lesions(int(true), found, int(marked) - len(np.unique(marked_labels[both])))


def surfaces_of(
    truth: Mask,
    prediction: Mask,
    spacing: tuple[float, float, float] | None,
    *,
    whole: bool = True,
) -> tuple[float, float]:
    """95 % Hausdorff distance and surface Dice at `TOLERANCE` of a patient with a true lesion.

    Parameters
    ----------
    truth, prediction : (slices, rows, columns) bool arrays
    spacing : tuple of float or None
        mm; pixels without.
    whole : bool
        The slices are all of the volume's; else surfaces stay within each slice.

    Returns
    -------
    tuple of float
        mm or pixels, and a part of 1.
    """
    if spacing is not None and whole:
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
        if not prediction.any():
            return diagonal, 0.0
        found = _distances(truth, prediction, spacing)
        return _robust_hausdorff(found), _surface_dice(found)
    in_plane = (1.0, 1.0) if spacing is None else spacing[1:]
    diagonal = float(np.linalg.norm(np.multiply(truth.shape[1:], in_plane)))
    both, one_sided = [], 0.0
    for true, marked in zip(truth, prediction, strict=True):
        if true.any() and marked.any():
            both.append(_distances(true, marked, in_plane))
        elif true.any() or marked.any():
            # Against itself, for the length of its contour.
            mask = true | marked
            one_sided += float(_distances(mask, mask, in_plane)["surfel_areas_gt"].sum())
    if not both:
        return diagonal, 0.0
    pooled = _pool(both)
    return _robust_hausdorff(pooled), _surface_dice(pooled, one_sided)


def _distances(
    truth: Mask, prediction: Mask, spacing: tuple[float, ...]
) -> dict[str, NDArray[np.float64]]:
    """Distances and areas of surface elements; both masks hold something."""
    with warnings.catch_warnings():
        # The library calls scipy by names that scipy has moved.
        warnings.simplefilter("ignore", DeprecationWarning)
        found: dict[str, NDArray[np.float64]] = surface_distance.compute_surface_distances(
            np.ascontiguousarray(truth), np.ascontiguousarray(prediction), spacing
        )
    return found


def _pool(parts: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Surface elements of several slices as of one surface, sorted by distance again."""
    pooled = {}
    for way, area in (
        ("distances_gt_to_pred", "surfel_areas_gt"),
        ("distances_pred_to_gt", "surfel_areas_pred"),
    ):
        distances = np.concatenate([one[way] for one in parts])
        order = np.argsort(distances, kind="stable")
        pooled[way] = distances[order]
        pooled[area] = np.concatenate([one[area] for one in parts])[order]
    return pooled


def _robust_hausdorff(found: dict[str, NDArray[np.float64]]) -> float:
    return float(surface_distance.compute_robust_hausdorff(found, PERCENTILE))


def _surface_dice(found: dict[str, NDArray[np.float64]], one_sided: float = 0.0) -> float:
    """Surface Dice; ``one_sided`` is the contour that has nothing to overlap with."""
    share = float(surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE))
    total = float(found["surfel_areas_gt"].sum() + found["surfel_areas_pred"].sum())
    return share * total / (total + one_sided)
