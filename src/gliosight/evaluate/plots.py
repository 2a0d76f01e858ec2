"""The plots of the page, as SVG in light and in dark colours, each with a sentence of the same (evaluate).

Matplotlib is used without pyplot and without global settings; text stays text, in the page's own fonts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from gliosight.evaluate.detection import AREAS
from gliosight.evaluate.figures import Array, number
from gliosight.evaluate.localization import PatientScore
from gliosight.evaluate.scoring import PartScores

SIZE = (4.6, 3.4)  # inches
PLACE = (0.16, 0.16, 0.79, 0.80)  # of the axes: left, bottom, width, height
# The page's own colours, light and dark.
PAPER, INK, QUIET, MAIN, OTHER = "#ffffff", "#16202a", "#566270", "#0b6477", "#a03d0c"
DARK = {PAPER: "#171e25", INK: "#e8edf2", QUIET: "#9fadba", MAIN: "#6cc5d9", OTHER: "#ffad7a"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gliosight",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Plot:
    """One plot as SVG in light and in dark colours; ``words`` say what it shows."""

    title: str
    words: str
    light: str
    dark: str


def plots_of(part: PartScores) -> list[Plot]:
    """All plots of a part that have something to show."""
    plots = []
    ill = [patient for patient in part.unseen if patient.dice is not None]
    if part.localization and ill:
        plots += [_dice_by_patient(part, ill), _dice_by_volume(ill), _volumes(ill)]
    if "roc" in part.curves:
        plots += [_roc(part), _precision_recall(part)]
    if "reliability" in part.curves:
        plots.append(_reliability(part))
    if any(row.figure.value is not None for row in part.areas):
        plots.append(_sensitivity_by_area(part))
    return plots


def _dice_by_patient(part: PartScores, ill: list[PatientScore]) -> Plot:
    values = np.sort([patient.dice or 0.0 for patient in ill])
    mean, median = (part.localization[name].value for name in ("dice_mean", "dice_median"))

    def paint(axes: Axes) -> None:
        axes.bar(np.arange(1, len(values) + 1), values, width=0.8, color=MAIN)
        for name, value, style in (("mean", mean, "-"), ("median", median, "--")):
            if value is not None:
                axes.axhline(value, color=OTHER, linestyle=style, linewidth=1.5)
                axes.plot([], [], style, color=OTHER, label=f"{name} {value:.3f}")
        axes.set(xlabel="patients, worst to best", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right", facecolor=PAPER, frameon=True, edgecolor="none")

    return _plot(
        "Dice of each patient",
        f"Dice of {len(values)} patients with a lesion, from {values[0]:.2f} to {values[-1]:.2f}; "
        f"mean {number(mean)}, median {number(median)}.",
        paint,
    )


def _dice_by_volume(ill: list[PatientScore]) -> Plot:
    true, _, unit = _sizes(ill)
    dice = [patient.dice or 0.0 for patient in ill]

    def paint(axes: Axes) -> None:
        axes.scatter(true, dice, s=22, color=MAIN, alpha=0.75, linewidths=0)
        axes.set(xscale="log", xlabel=f"true volume, {unit}", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())

    words = "Dice against the true volume of the lesion"
    if len(ill) > 2 and np.ptp(true) > 0 and np.ptp(dice) > 0:
        ranks = np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(dice)))[0, 1]
        words += f"; rank correlation {ranks:.2f}"
    return _plot("Dice by volume", f"{words}.", paint)


def _volumes(ill: list[PatientScore]) -> Plot:
    true, marked, unit = _sizes(ill)

    def paint(axes: Axes) -> None:
        top = 1.1 * max(true.max(), marked.max())
        axes.plot([0, top], [0, top], color=QUIET, linewidth=1, zorder=0)
        axes.scatter(true, marked, s=22, color=MAIN, alpha=0.75, linewidths=0)
        axes.set(xlim=(0, top), ylim=(0, top))
        axes.set(xlabel=f"true volume, {unit}", ylabel=f"predicted volume, {unit}")
        axes.locator_params(nbins=4)
        both: tuple[Axis, Axis] = (axes.xaxis, axes.yaxis)
        for axis in both:
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))

    error = round(100 * float(np.median(marked / true - 1)))
    return _plot(
        "Volume, predicted and true",
        "Predicted against true volume; the line is where they are equal. Median error "
        f"{f'{error:+d} %' if error else 'below 1 %'}.",
        paint,
    )


def _sizes(ill: list[PatientScore]) -> tuple[Array, Array, str]:
    """True and predicted volumes and their unit: ml where all have geometry, else 1,000 pixels."""
    pairs = [
        (patient.truth_ml, patient.predicted_ml) for patient in ill if patient.truth_ml is not None
    ]
    if len(pairs) == len(ill):
        return *np.array(pairs, dtype=np.float64).T, "ml"
    pixels = np.array(
        [(patient.truth_px, patient.predicted_px) for patient in ill], dtype=np.float64
    )
    return *(pixels.T / 1000), "1,000 px"


def _roc(part: PartScores) -> Plot:
    curve = part.curves["roc"]
    sensitivity, specificity = (
        part.detection[f"slice_{name}"].value for name in ("sensitivity", "specificity")
    )

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
        axes.plot(curve.x, curve.y, color=MAIN, linewidth=2)
        if sensitivity is not None and specificity is not None:
            axes.plot(1 - specificity, sensitivity, "o", color=OTHER, label="threshold")
            axes.legend(loc="lower right")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))

    return _plot(
        "ROC by slice",
        "Receiver operating characteristic by slice: area "
        f"{number(part.detection['slice_auc'].value)}. The dot is the model's own threshold.",
        paint,
    )


def _precision_recall(part: PartScores) -> Plot:
    curve = part.curves["precision_recall"]
    (tn, fp), (fn, tp) = part.confusion
    prevalence = (fn + tp) / (tn + fp + fn + tp)

    def paint(axes: Axes) -> None:
        axes.axhline(prevalence, color=QUIET, linewidth=1)
        axes.plot(curve.x, curve.y, color=MAIN, linewidth=2)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))

    return _plot(
        "Precision and recall by slice",
        "Precision against recall by slice: average precision "
        f"{number(part.detection['slice_average_precision'].value)}. The line is the share of tumour "
        f"slices, {prevalence:.2f}.",
        paint,
    )


def _reliability(part: PartScores) -> Plot:
    curve = part.curves["reliability"]
    slope, ece = (part.detection[name].value for name in ("calibration_slope", "ece"))

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
        axes.plot(curve.x, curve.y, "o-", color=MAIN, linewidth=1.5, markersize=4.5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set(xlabel="mean probability", ylabel="share of tumour")

    return _plot(
        "Reliability by slice",
        f"Share of tumour slices against their mean probability, in {len(curve.x)} bins of equal mass; "
        f"on the line they agree. Slope {number(slope)}, ECE {number(ece)}.",
        paint,
    )


def _sensitivity_by_area(part: PartScores) -> Plot:
    rows = [row for row in part.areas if row.figure.value is not None]
    labels = [
        f"{row.from_px:,}-{row.to_px - 1:,}" if row.to_px else f"{row.from_px:,}+" for row in rows
    ]

    def paint(axes: Axes) -> None:
        values = np.array([row.figure.value for row in rows])
        axes.bar(np.arange(len(rows)), values, width=0.7, color=MAIN)
        for k, row in enumerate(rows):
            if row.figure.low is not None and row.figure.high is not None:
                axes.vlines(k, row.figure.low, row.figure.high, color=OTHER, linewidth=2)
        axes.set_xticks(np.arange(len(rows)), labels, fontsize=7.5)
        axes.set(xlim=(-0.6, len(AREAS) - 0.4), ylim=(0, 1.01))
        axes.set(xlabel="true area in the slice, px", ylabel="sensitivity")

    words = "; ".join(
        f"{label} px: {number(row.figure.value)} of {row.figure.n}"
        for label, row in zip(labels, rows, strict=True)
    )
    return _plot("Sensitivity by area", f"Share of tumour slices called so: {words}.", paint)


def _plot(title: str, words: str, paint: Callable[[Axes], None]) -> Plot:
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=SIZE, facecolor="none")
        # A fixed place: working out one from the labels takes longer than drawing.
        paint(canvas.add_axes(PLACE))
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    light = svg[svg.index("<svg") :].replace(
        "'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans'"
    )
    # The same drawing in the dark colours: drawing it twice would take twice as long.
    dark = re.sub("|".join(DARK), lambda match: DARK[match[0]], light)
    return Plot(title, words, light, dark)
