"""Figures in words: what they are called, and with how many digits (evaluate).

Shared by the page, the terminal and the comparison, so that a figure has one name everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from gliosight.evaluate.scores import Figure

DASH = "—"


@dataclass(frozen=True)
class Name:
    """How a figure is shown.

    Parameters
    ----------
    key : str
    words : str
    short : str
        In the terminal, which has little room; empty where it is not shown there.
    """

    key: str
    words: str
    short: str = ""


LOCALIZATION = (
    Name("dice_mean", "Dice, mean over patients", "Dice, mean"),
    Name("dice_median", "Dice, median", "Dice, median"),
    Name("iou_mean", "IoU, mean"),
    Name("precision_mean", "Precision of pixels, mean"),
    Name("recall_mean", "Recall of pixels, mean"),
    Name("slice_dice_mean", "Dice, mean over tumour slices", "Dice, tumour slices"),
    Name("hd95_mm_mean", "95 % Hausdorff distance, mean (mm)"),
    Name("hd95_mm_median", "95 % Hausdorff distance, median (mm)", "HD95, median (mm)"),
    Name("hd95_px_mean", "95 % Hausdorff distance in the slice, mean (px)"),
    Name(
        "hd95_px_median", "95 % Hausdorff distance in the slice, median (px)", "HD95, median (px)"
    ),
    Name("surface_dice_2mm_mean", "Surface Dice at 2 mm, mean"),
    Name("surface_dice_2px_mean", "Surface Dice at 2 px, mean"),
    Name("volume_error_median", "Volume error, median (part of the true volume)"),
    Name("volume_error_absolute_mean", "Volume error, absolute, mean"),
    Name("lesion_sensitivity", "Lesions found", "lesions found"),
    Name("false_lesions_per_patient", "False lesions per patient", "false lesions each"),
    Name("false_alarm_share", "Patients without a lesion, falsely marked", "false alarms"),
    Name("false_alarm_px_mean", "Falsely marked there, mean (px)"),
    Name("false_alarm_ml_mean", "Falsely marked there, mean (ml)", "false alarms, mean (ml)"),
    Name("false_alarm_ml_largest", "Falsely marked there, largest (ml)"),
)
DETECTION = (
    Name("slice_auc", "Slice AUC", "slice AUC"),
    Name("slice_average_precision", "Average precision", "average precision"),
    Name("slice_accuracy", "Slice accuracy", "slice accuracy"),
    Name("slice_balanced_accuracy", "Balanced accuracy"),
    Name("slice_sensitivity", "Sensitivity at the model's threshold", "slice sensitivity"),
    Name("slice_specificity", "Specificity at the model's threshold", "slice specificity"),
    Name("slice_sensitivity_at_specificity_90", "Sensitivity at specificity 0.90"),
    Name("slice_sensitivity_at_specificity_95", "Sensitivity at specificity 0.95"),
    Name("slice_sensitivity_at_specificity_99", "Sensitivity at specificity 0.99"),
)
CALIBRATION = (
    Name("brier", "Brier score", "Brier score"),
    Name("log_loss", "Log loss"),
    Name("calibration_slope", "Calibration slope (1 is right)", "calibration slope"),
    Name("calibration_intercept", "Calibration intercept (0 is right)"),
    Name("ece", "ECE, 15 bins of equal mass"),
    Name("ece_unsure", "ECE where 0.02 < p < 0.98"),
)
BY_PATIENT = (
    Name("patient_sensitivity", "Patients with tumour, found", "patients found"),
    Name("patient_specificity", "Patients without tumour, cleared", "patients cleared"),
    Name("false_verdicts", "Patients without tumour, called tumour"),
    Name("patient_auc", "AUC of the study's score"),
)
GROUP = (
    Name("dice_mean", "Dice, mean", "Dice"),
    Name("dice_median", "Dice, median"),
    Name("slice_auc", "Slice AUC", "slice AUC"),
    Name("slice_sensitivity", "Sensitivity"),
    Name("slice_specificity", "Specificity"),
    Name("false_verdicts", "Without tumour, called tumour", "called tumour"),
    Name("false_alarm_ml_mean", "Marked in them, mean (ml)", "marked, ml"),
    Name("false_alarm_ml_largest", "Marked in them, largest (ml)", "largest"),
)
# Figures that count patients, of so many.
COUNTS = ("false_verdicts",)
SECTIONS = (
    ("Localization", LOCALIZATION),
    ("Detection by slice", DETECTION),
    ("Calibration of slice probabilities", CALIBRATION),
    ("Detection by patient", BY_PATIENT),
)
# In the terminal.
SHORT_BASELINES = {
    "majority": "majority",
    "position": "position",
    "empty": "empty",
    "brightest": "bright",
    "nearest_slice": "copied",
}
BASELINES = {
    "majority": "majority class",
    "position": "slice position only",
    "empty": "always empty",
    "brightest": "brightest FLAIR body",
    "nearest_slice": "nearest training slice copied",
}
GROUPS = {
    "collection": "By collection",
    "institution": "By institution",
    "tumour_volume": "By tumour volume",
    "sequences": "By sequences that are there",
    "published": "Patients of a published report",
    "seen": "Seen in training, and not",
}


def number(value: float | None) -> str:
    """Three digits, or one where it is large; a dash for a missing value."""
    return DASH if value is None else _rounded(value, _digits(value))


def share(figure: Figure) -> str:
    """The figure's value."""
    return number(figure.value)


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
