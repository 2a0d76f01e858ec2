"""What evaluation finds, as values (evaluate).

Made by `scoring`, written by `record` (evaluation.json, per_patient.csv, per_slice.csv) and drawn by
`page`. Keys of the mappings are stable names, listed with their definitions in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval.

    Parameters
    ----------
    value : float or None
        ``None`` where it is not defined (no patient with tumour, one class only).
    low, high : float or None
        By bootstrap over patients; for counts of patients the exact (Clopper-Pearson) one.
    n : int
        What it rests on: patients, slices or lesions, as its definition says.
    drawn : (draws,) array, optional
        The figure in each bootstrap draw, for differences; never written.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    drawn: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)


Figures = Mapping[str, Figure]


@dataclass(frozen=True)
class SliceTable:
    """The scored slices of one patient, as counts: all that figures by slice and overlaps need.

    Parameters
    ----------
    numbers : (n,) int array
        In the manifest.
    truth_px, predicted_px, both_px : (n,) int arrays
        Pixels of the true mask, of the predicted one, and of both at once.
    called : (n,) bool array
        Called tumour by the model.
    probability : (n,) float array or None
    """

    numbers: NDArray[np.int64]
    truth_px: NDArray[np.int64]
    predicted_px: NDArray[np.int64]
    both_px: NDArray[np.int64]
    called: NDArray[np.bool_]
    probability: NDArray[np.float64] | None


@dataclass(frozen=True)
class PatientScore:
    """One row of per_patient.csv. ``None`` where a measure is not defined.

    Lengths are in mm where the case has geometry, else in pixels: ``unit`` says which. Everything is over
    the scored slices alone.
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


@dataclass(frozen=True)
class Curve:
    """Points of a plotted line, such as a ROC curve."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class AreaRow:
    """Sensitivity for the slices whose true area lies in ``from_px`` to below ``to_px``."""

    from_px: int
    to_px: int | None
    figure: Figure


@dataclass(frozen=True)
class Baseline:
    """What something reaches that hardly looks at the picture.

    Parameters
    ----------
    learnt_from : str
        In words: what its numbers were taken from.
    localization, detection : mapping of str to Figure
        The keys of the model's figures, as far as they are defined.
    """

    learnt_from: str
    localization: Figures
    detection: Figures


@dataclass(frozen=True)
class PartScores:
    """All that is said of one part of a split.

    Parameters
    ----------
    part : str
    by : str
        What the split was by; ``"none"`` without one.
    patients : tuple of PatientScore
        Seen ones, too; the figures leave them out.
    tables : tuple of SliceTable
        Of the same patients, in the same order.
    localization, detection : mapping of str to Figure
        The headline figures, see docs/evaluation.md. ``localization`` is empty where the model draws
        nothing.
    confusion : tuple of tuple of int
        Slices: rows are truth (no tumour, tumour), columns what was said.
    report : str
        The tutorial's classification report, as text.
    areas : tuple of AreaRow
        Sensitivity by the lesion's area in the slice.
    baselines : mapping of str to Baseline
    groups : mapping of str to mapping of str to mapping of str to Figure
        Such as ``groups["institution"]["DU"]["dice_mean"]``.
    curves : mapping of str to Curve
        ``roc``, ``precision_recall`` and ``reliability``, where defined.
    """

    part: str
    by: str
    patients: tuple[PatientScore, ...]
    tables: tuple[SliceTable, ...]
    localization: Figures
    detection: Figures
    confusion: tuple[tuple[int, int], tuple[int, int]]
    report: str
    areas: tuple[AreaRow, ...]
    baselines: Mapping[str, Baseline]
    groups: Mapping[str, Mapping[str, Figures]]
    curves: Mapping[str, Curve]

    @property
    def unseen(self) -> tuple[PatientScore, ...]:
        """The patients the headline figures rest on."""
        return tuple(one for one in self.patients if not one.seen)
