"""Figures of a patient's masks: Dice and other overlaps, surfaces, lesions, volumes (evaluate).

Everything is over the scored slices: those of the scored part of the split. Figures of overlap and surfaces
belong to a patient with a true lesion; a missed one counts 0, and its Hausdorff distance is the diagonal of
the volume. Without a true lesion they are undefined: an empty slice or patient never counts as 1. Surfaces
are measured by DeepMind's surface-distance (doi:10.2196/26151); without geometry, or where only some slices
are scored, they are the contours within slices, pooled over the patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import surface_distance
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.stats import rankdata

from gliosight.bodies import CONNECTED_26
from gliosight.data.manifest import SliceRow
from gliosight.evaluate.figures import Array, Bootstrap, Figure, exact
from gliosight.evaluate.predictions import Prediction

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

# Surfaces nearer than this count as overlapping: mm, or pixels without geometry.
TOLERANCE = 2.0
PERCENTILE = 95.0


@dataclass(frozen=True)
class SliceTable:
    """The scored slices of one patient, as counts: all that figures by slice and overlaps need.

    (n,) arrays: numbers in the manifest, pixels of the true mask, of the predicted one and of both at once,
    whether the model calls the slice tumour, and its probability where there is one.
    """

    numbers: NDArray[np.int64]
    truth_px: NDArray[np.int64]
    predicted_px: NDArray[np.int64]
    both_px: NDArray[np.int64]
    called: NDArray[np.bool_]
    probability: Array | None

    def among(self, numbers: NDArray[np.int64]) -> SliceTable:
        """The slices of these numbers."""
        inside = np.isin(self.numbers, numbers)
        columns: dict[str, Any] = {
            name: None if values is None else values[inside] for name, values in vars(self).items()
        }
        return SliceTable(**columns)


@dataclass(frozen=True)
class PatientScore:
    """One patient: a row of per_patient.csv, and its slices; docs/evaluation.md defines the columns.

    ``None`` where a measure is undefined. Lengths are in mm where there is geometry, else in pixels:
    ``unit`` says which.
    """

    patient: str
    institution: str
    collection: str
    sequences: tuple[str, ...]
    seen: bool
    slices: int
    tumour_slices: int
    unit: str
    truth_px: int
    predicted_px: int
    truth_ml: float | None
    predicted_ml: float | None
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    hd95: float | None
    surface_dice: float | None
    slice_dice: float | None
    volume_error: float | None
    lesions: int | None
    lesions_found: int | None
    false_lesions: int | None
    false_positive_slices: int
    false_negative_slices: int
    slice_auc: float | None
    score: float | None
    found: bool
    uncertain: bool
    table: SliceTable = field(repr=False)


COLUMNS = tuple(column.name for column in fields(PatientScore) if column.name != "table")


def score_patient(
    prediction: Prediction,
    truth: Mask,
    rows: Sequence[SliceRow],
    scored: Mask,
    spacing: Spacing | None,
    *,
    seen: bool = False,
) -> PatientScore:
    """Score one patient.

    ``rows`` are the patient's slices in the manifest; ``scored`` (slices,) says which of them belong to the
    scored part, the others count nowhere. ``spacing`` is of slices, rows and columns, mm. A patient ``seen``
    in training is shown, but in no headline.
    """
    mask, truth = prediction.mask[scored], truth[scored]
    # Where only masks are known, a slice is called tumour if a pixel is marked.
    called, probability = np.asarray(mask.any(axis=(1, 2))), None
    if prediction.slice_probability is not None and prediction.slice_threshold is not None:
        called = (prediction.slice_probability >= prediction.slice_threshold)[scored]
        probability = prediction.slice_probability[scored].astype(np.float64)
    table = SliceTable(
        numbers=np.array([row.number for row in rows])[scored],
        truth_px=truth.sum(axis=(1, 2)),
        predicted_px=mask.sum(axis=(1, 2)),
        both_px=(truth & mask).sum(axis=(1, 2)),
        called=called,
        probability=probability,
    )
    whole, tumour = bool(scored.all()), table.truth_px > 0
    true_px, predicted_px = int(table.truth_px.sum()), int(table.predicted_px.sum())
    overlap = overlap_of(true_px, predicted_px, table.both_px.sum())
    # Undefined without a true lesion.
    measures: dict[str, float | None] = dict.fromkeys(
        (*overlap, "hd95", "surface_dice", "slice_dice")
    )
    if true_px:
        measures |= {name: float(value) for name, value in overlap.items()}
        surfaces = surfaces_of(truth, mask, spacing, whole=whole)
        measures["hd95"], measures["surface_dice"] = surfaces
        measures["slice_dice"] = float(slice_dice(table)[tumour].mean())
    lesions = lesions_of(truth, mask) if whole else (None, None, None)
    ml = None if spacing is None else float(np.prod(spacing)) / 1000
    return PatientScore(
        patient=prediction.patient,
        institution=rows[0].institution,
        collection=rows[0].collection,
        sequences=rows[0].sequences,
        seen=seen,
        slices=len(table.numbers),
        tumour_slices=int(tumour.sum()),
        unit="px" if spacing is None else "mm",
        truth_px=true_px,
        predicted_px=predicted_px,
        truth_ml=None if ml is None else true_px * ml,
        predicted_ml=None if ml is None else predicted_px * ml,
        **measures,
        lesions=lesions[0],
        lesions_found=lesions[1],
        false_lesions=lesions[2],
        false_positive_slices=int((called & ~tumour).sum()),
        false_negative_slices=int((~called & tumour).sum()),
        slice_auc=None if probability is None else auc_of(tumour, probability),
        score=prediction.score,
        found=prediction.found,
        uncertain=prediction.uncertain,
        table=table,
    )


def overlap_of(true_px: ArrayLike, predicted_px: ArrayLike, both_px: ArrayLike) -> dict[str, Array]:
    """Overlap by counts of pixels, of one pair of masks or of several; NaN without a true pixel.

    ``volume_error`` is predicted over true, minus 1.
    """
    true, predicted, both = (
        np.asarray(counts, np.float64) for counts in (true_px, predicted_px, both_px)
    )

    def ratio(above: Array, below: Array) -> Array:
        return np.where(true > 0, above / np.maximum(below, 1), np.nan)

    return {
        "dice": ratio(2 * both, true + predicted),
        "iou": ratio(both, true + predicted - both),
        "precision": ratio(both, predicted),
        "recall": ratio(both, true),
        "volume_error": ratio(predicted, true) - 1,
    }


def volume_dice(truth: Mask, prediction: Mask) -> float:
    """Dice of two (slices, rows, columns) masks; NaN where there is no tumour."""
    counts = overlap_of(truth.sum(), prediction.sum(), (truth & prediction).sum())
    return float(counts["dice"])


def slice_dice(table: SliceTable) -> Array:
    """(n,) Dice of each slice; NaN where it shows no tumour."""
    return overlap_of(table.truth_px, table.predicted_px, table.both_px)["dice"]


def overlaps_of(tables: Sequence[SliceTable]) -> dict[str, Array]:
    """(patients,) arrays of `overlap_of`, by patient; NaN where there is no tumour."""
    columns = ("truth_px", "predicted_px", "both_px")
    return overlap_of(*([getattr(table, name).sum() for table in tables] for name in columns))


def lesions_of(truth: Mask, prediction: Mask) -> tuple[int, int, int]:
    """Count 26-connected bodies: true ones, those overlapped, and marked ones that overlap none."""
    true_labels, true = ndimage.label(truth, structure=CONNECTED_26)
    marked_labels, marked = ndimage.label(prediction, structure=CONNECTED_26)
    both = truth & prediction
    overlapped, overlapping = (len(np.unique(of[both])) for of in (true_labels, marked_labels))
    return int(true), overlapped, int(marked) - overlapping


def auc_of(positive: Mask, scores: NDArray[np.floating]) -> float | None:
    """Area under the ROC curve (Mann-Whitney); ``None`` with one class only."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    wins = rankdata(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def surfaces_of(
    truth: Mask, prediction: Mask, spacing: Spacing | None, *, whole: bool = True
) -> tuple[float, float]:
    """95 % Hausdorff distance (mm; pixels without ``spacing``) and surface Dice at `TOLERANCE`.

    The patient has a true lesion. Surfaces of slices that are not the ``whole`` volume stay within each.
    """
    sides: tuple[float, ...] = (1.0, 1.0, 1.0) if spacing is None else spacing
    pairs = [(truth, prediction)]
    if spacing is None or not whole:
        sides, pairs = sides[1:], list(zip(truth, prediction, strict=True))
    diagonal = float(np.linalg.norm(np.multiply(truth.shape[-len(sides) :], sides)))
    if not prediction.any():
        return diagonal, 0.0
    distances, one_sided = [], 0.0
    for true, marked in pairs:
        if true.any() and marked.any():
            distances.append(_distances(true, marked, sides))
        elif true.any() or marked.any():
            # Against itself, for the length of its contour.
            mask = true | marked
            one_sided += float(_distances(mask, mask, sides)["surfel_areas_gt"].sum())
    if not distances:
        return diagonal, 0.0
    pooled = {name: np.concatenate([d[name] for d in distances]) for name in distances[0]}
    for direction, areas in (
        ("distances_gt_to_pred", "surfel_areas_gt"),
        ("distances_pred_to_gt", "surfel_areas_pred"),
    ):
        # The library takes percentiles of sorted distances.
        order = np.argsort(pooled[direction], kind="stable")
        pooled[direction], pooled[areas] = pooled[direction][order], pooled[areas][order]
    distance = float(surface_distance.compute_robust_hausdorff(pooled, PERCENTILE))
    share = float(surface_distance.compute_surface_dice_at_tolerance(pooled, TOLERANCE))
    total = float(pooled["surfel_areas_gt"].sum() + pooled["surfel_areas_pred"].sum())
    return distance, share * total / (total + one_sided)


def _distances(truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> dict[str, Array]:
    """Distances and areas of surface elements; both masks hold something."""
    with warnings.catch_warnings():
        # The library calls scipy by names that scipy has moved.
        warnings.simplefilter("ignore", DeprecationWarning)
        distances: dict[str, Array] = surface_distance.compute_surface_distances(
            np.ascontiguousarray(truth), np.ascontiguousarray(prediction), spacing
        )
    return distances


def localization_figures(patients: Sequence[PatientScore], drawn: Bootstrap) -> dict[str, Figure]:
    """Figures of overlap, surfaces and lesions; those in mm stand apart from those in pixels."""
    figures = overlap_figures([patient.table for patient in patients], drawn)
    for unit in ("mm", "px"):
        of_unit = np.array([patient.unit == unit for patient in patients], dtype=bool)
        distance = np.where(of_unit, _column(patients, "hd95"), np.nan)
        surface = np.where(of_unit, _column(patients, "surface_dice"), np.nan)
        if np.isfinite(distance).any():
            figures[f"hd95_{unit}_mean"] = drawn.mean(distance)
            figures[f"hd95_{unit}_median"] = drawn.median(distance)
            figures[f"surface_dice_{TOLERANCE:g}{unit}_mean"] = drawn.mean(surface)
    lesions = _column(patients, "lesions")
    if np.isfinite(lesions).any():
        hits = np.nan_to_num(_column(patients, "lesions_found"))
        figures["lesion_sensitivity"] = drawn.ratio(hits, np.nan_to_num(lesions))
        figures["false_lesions_per_patient"] = drawn.mean(_column(patients, "false_lesions"))
    return figures


def overlap_figures(tables: Sequence[SliceTable], drawn: Bootstrap) -> dict[str, Figure]:
    """Figures of overlap and volume, which rest on counts alone."""
    overlaps = overlaps_of(tables)
    by_slice = [slice_dice(table) for table in tables]
    return {
        "dice_mean": drawn.mean(overlaps["dice"]),
        "dice_median": drawn.median(overlaps["dice"]),
        **{f"{name}_mean": drawn.mean(overlaps[name]) for name in ("iou", "precision", "recall")},
        "volume_error_median": drawn.median(overlaps["volume_error"]),
        "volume_error_absolute_mean": drawn.mean(np.abs(overlaps["volume_error"])),
        "slice_dice_mean": drawn.ratio(
            np.array([np.nansum(dice) for dice in by_slice], np.float64),
            np.array([np.isfinite(dice).sum() for dice in by_slice], np.float64),
        ),
    }


def false_alarm_figures(patients: Sequence[PatientScore], drawn: Bootstrap) -> dict[str, Figure]:
    """What is marked in patients without a lesion; empty without such patients."""
    free = np.array([not patient.truth_px for patient in patients], dtype=bool)
    if not free.any():
        return {}
    pixels, volumes = (
        np.where(free, _column(patients, name), np.nan) for name in ("predicted_px", "predicted_ml")
    )
    figures = {
        "false_alarm_share": exact(int((pixels > 0).sum()), int(free.sum())),
        "false_alarm_px_mean": drawn.mean(pixels),
    }
    if measured := int(np.isfinite(volumes).sum()):
        figures["false_alarm_ml_mean"] = drawn.mean(volumes)
        figures["false_alarm_ml_largest"] = Figure(float(np.nanmax(volumes)), n=measured)
    return figures


def _column(patients: Sequence[PatientScore], name: str) -> Array:
    """(patients,) a column of per_patient.csv; NaN for a missing value."""
    return np.array([getattr(patient, name) for patient in patients], dtype=np.float64)
