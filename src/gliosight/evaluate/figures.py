"""Figures: a value with its interval by bootstrap over patients, and how it is named and printed (evaluate).

All slices of a patient are drawn together, since they are not independent. How often each patient was drawn
is a matrix of weights, made once from a seed; figures made with the same weights differ in pairs. All draws
are computed at once: a library that takes one draw at a time needs 17 times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Array = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
PERCENTILES = (100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2)
DASH = "—"


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; ``None`` where it is undefined.

    Parameters
    ----------
    low, high : float or None
        By bootstrap over patients; for shares of patients the exact (Clopper-Pearson) interval.
    n : int
        How many patients, slices or lesions it rests on, as its definition says.
    drawn : (draws,) array, optional
        The figure in each bootstrap draw, for differences; never written.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    drawn: Array | None = field(default=None, repr=False, compare=False)

    @property
    def record(self) -> dict[str, float | int | None]:
        """What is written of it."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


Figures = Mapping[str, Figure]


@dataclass(frozen=True)
class Bootstrap:
    """How often each patient was drawn.

    ``weights`` are (1 + draws, patients); the first row is the sample itself: all ones.
    """

    weights: Array

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.weights.shape[1])

    def mean(self, values: Array) -> Figure:
        """Mean over the patients whose value is defined (not NaN)."""
        defined = np.isfinite(values)
        return self.ratio(np.where(defined, values, 0.0), defined.astype(float))

    def median(self, values: Array) -> Figure:
        """Median over the patients whose value is defined (not NaN)."""
        defined = np.flatnonzero(np.isfinite(values))
        if not len(defined):
            return Figure()
        order = defined[np.argsort(values[defined], kind="stable")]
        ordered = values[order]
        drawn = np.cumsum(self.weights[:, order], axis=1)
        total = drawn[:, -1:]
        lower = (drawn >= np.floor((total + 1) / 2)).argmax(axis=1)
        upper = (drawn >= np.floor(total / 2) + 1).argmax(axis=1)
        medians = (ordered[lower] + ordered[upper]) / 2
        return self.figure(np.where(total[:, 0] > 0, medians, np.nan), n=len(defined))

    def ratio(self, above: Array, below: Array) -> Figure:
        """Sum of ``above`` divided by the sum of ``below``, on which it rests; (patients,) arrays."""
        values = divide(self.weights @ above, self.weights @ below)
        return self.figure(values, n=int(below.sum()))

    def figure(self, values: Array, *, n: int) -> Figure:
        """A figure from its values in the sample (first) and in the draws; NaN where undefined."""
        return _figure(values, n, interval=self.patients > 1)


def draw(patients: int, *, seed: int, draws: int = DRAWS) -> Bootstrap:
    """Draw patients with replacement, ``draws`` times."""
    if not patients:
        return Bootstrap(np.ones((1 + draws, 0)))
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=draws)
    return Bootstrap(np.concatenate([np.ones((1, patients)), drawn.astype(np.float64)]))


def difference(first: Figure, second: Figure) -> Figure:
    """``first - second``, draw by draw: paired where both share their draws, else independent."""
    n = min(first.n, second.n)
    if first.value is None or second.value is None or first.drawn is None or second.drawn is None:
        return Figure(n=n)
    values = np.concatenate([[first.value - second.value], first.drawn - second.drawn])
    return _figure(values, n, interval=first.low is not None and second.low is not None)


def exact(hits: int, n: int) -> Figure:
    """A share of patients with its exact (Clopper-Pearson) interval, doi:10.1093/biomet/26.4.404."""
    if n == 0:
        return Figure()
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Figure(hits / n, low, high, n)


def divide(above: Array, below: Array) -> Array:
    """``above / below``, NaN where ``below`` is 0."""
    return np.asarray(
        np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    )


def _figure(values: Array, n: int, *, interval: bool) -> Figure:
    value, drawn = values[0], values[1:]
    if not np.isfinite(value):
        return Figure(n=n, drawn=drawn)
    defined = drawn[np.isfinite(drawn)]
    if not interval or not len(defined) or 2 * len(defined) < len(drawn):
        return Figure(float(value), n=n, drawn=drawn)
    low, high = np.percentile(defined, PERCENTILES)
    return Figure(float(value), float(low), float(high), n, drawn)


@dataclass(frozen=True)
class Name:
    """How a figure is named on the page, and, where it is shown there, in the terminal."""

    key: str
    words: str
    short: str = ""


# By section of the page.
SECTIONS: Mapping[str, tuple[Name, ...]] = {
    "Localization": (
        Name("dice_mean", "Dice, mean over patients", "Dice, mean"),
        Name("dice_median", "Dice, median", "Dice, median"),
        Name("iou_mean", "IoU, mean"),
        Name("precision_mean", "Precision of pixels, mean"),
        Name("recall_mean", "Recall of pixels, mean"),
        Name("slice_dice_mean", "Dice, mean over tumour slices", "Dice, tumour slices"),
        Name("hd95_mm_mean", "95 % Hausdorff distance, mean (mm)"),
        Name("hd95_mm_median", "95 % Hausdorff distance, median (mm)", "HD95, median (mm)"),
        Name("hd95_px_mean", "95 % Hausdorff distance in the slice, mean (px)"),
        Name("hd95_px_median", "95 % Hausdorff distance in the slice, median (px)", "HD95, median (px)"),
        Name("surface_dice_2mm_mean", "Surface Dice at 2 mm, mean"),
        Name("surface_dice_2px_mean", "Surface Dice at 2 px, mean"),
        Name("volume_error_median", "Volume error, median (part of the true volume)"),
        Name("volume_error_absolute_mean", "Volume error, absolute, mean"),
        Name("lesion_sensitivity", "Lesions found"),
        Name("false_lesions_per_patient", "False lesions per patient", "false lesions, mean"),
        Name("false_alarm_share", "Patients without a lesion, falsely marked"),
        Name("false_alarm_px_mean", "Falsely marked there, mean (px)"),
        Name("false_alarm_ml_mean", "Falsely marked there, mean (ml)", "falsely marked (ml)"),
        Name("false_alarm_ml_largest", "Falsely marked there, largest (ml)"),
    ),
    "Detection by slice": (
        Name("slice_auc", "Slice AUC", "slice AUC"),
        Name("slice_average_precision", "Average precision", "average precision"),
        Name("slice_accuracy", "Slice accuracy", "slice accuracy"),
        Name("slice_balanced_accuracy", "Balanced accuracy"),
        Name("slice_sensitivity", "Sensitivity at the model's threshold", "slice sensitivity"),
        Name("slice_specificity", "Specificity at the model's threshold", "slice specificity"),
        Name("slice_sensitivity_at_specificity_90", "Sensitivity at specificity 0.90"),
        Name("slice_sensitivity_at_specificity_95", "Sensitivity at specificity 0.95"),
        Name("slice_sensitivity_at_specificity_99", "Sensitivity at specificity 0.99"),
    ),
    "Calibration of slice probabilities": (
        Name("brier", "Brier score", "Brier score"),
        Name("log_loss", "Log loss"),
        Name("calibration_slope", "Calibration slope (1 is right)", "calibration slope"),
        Name("calibration_intercept", "Calibration intercept (0 is right)"),
        Name("ece", "ECE, 15 bins of equal mass"),
        Name("ece_unsure", "ECE where 0.02 < p < 0.98"),
    ),
    "Detection by patient": (
        Name("patient_sensitivity", "Patients with tumour, found"),
        Name("uncertain_ill", "Patients with tumour, uncertain"),
        Name("patient_specificity", "Patients without tumour, not called tumour"),
        Name("false_verdicts", "Patients without tumour, called tumour"),
        Name("uncertain_free", "Patients without tumour, uncertain"),
        Name("patient_auc", "AUC of the study's probability"),
    ),
}  # fmt: skip
NAMES: Mapping[str, Name] = {name.key: name for names in SECTIONS.values() for name in names}
# Figures that are counts of the patients they rest on.
COUNTS = ("false_verdicts", "uncertain_ill", "uncertain_free")
# The figures that tables of groups show.
GROUP = (
    Name("dice_mean", "Dice, mean", "Dice"),
    Name("dice_median", "Dice, median"),
    Name("slice_auc", "Slice AUC", "slice AUC"),
    Name("slice_sensitivity", "Sensitivity"),
    Name("slice_specificity", "Specificity"),
    Name("false_verdicts", "Without tumour, called tumour", "called tumour"),
    Name("uncertain_free", "Without tumour, uncertain", "uncertain"),
    Name("false_alarm_ml_mean", "Marked in them, mean (ml)", "marked, ml"),
    Name("false_alarm_ml_largest", "Marked in them, largest (ml)", "largest"),
)
BASELINES: Mapping[str, Name] = {
    name.key: name
    for name in (
        Name("majority", "majority class", "majority"),
        Name("position", "slice position only", "position"),
        Name("empty", "always empty", "empty"),
        Name("brightest", "brightest FLAIR body", "bright"),
        Name("nearest_slice", "nearest training slice copied", "copied"),
    )
}
# What each of them does; docs/evaluation.md says more.
BASELINE_RULES: Mapping[str, str] = {
    "majority": "every slice gets the share of tumour slices in training",
    "position": "a slice gets the share of tumour slices at its place in the stack",
    "empty": "nothing is marked",
    "brightest": "the largest bright body on FLAIR is marked",
    "nearest_slice": "label and mask of the patient's nearest training slice are copied",
}


def shown_in_groups(groups: Mapping[str, Figures]) -> list[Name]:
    """The figures of which a table of groups has something to show."""
    return [
        name
        for name in GROUP
        if any(name.key in figures and figures[name.key].n for figures in groups.values())
    ]


def number(value: float | None) -> str:
    """Three digits, or one where it is large; a dash for a missing value."""
    return DASH if value is None else _rounded(value, _digits(value))


def value_of(key: str, figure: Figure) -> str:
    """The figure's value; a count with what it is of."""
    if key in COUNTS and figure.value is not None:
        return f"{figure.value:.0f} of {figure.n:,}"
    return number(figure.value)


def interval(figure: Figure) -> str:
    """The interval of a figure; empty if it has none."""
    if figure.low is None or figure.high is None:
        return ""
    digits = min(_digits(figure.low), _digits(figure.high))
    return f"{_rounded(figure.low, digits)} to {_rounded(figure.high, digits)}"


def _digits(value: float) -> int:
    return 1 if abs(value) >= 10 else 3


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # never -0.000
