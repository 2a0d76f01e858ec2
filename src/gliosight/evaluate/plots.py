"""The plots of the page, as SVG in a light and a dark dress (evaluate).

In: `PartScores`. Out: `Plot`: two SVG texts and the sentence that says the same in words. Matplotlib is
used without pyplot and without global settings; text stays text, in the page's own fonts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from gliosight.evaluate.scores import PartScores, PatientScore
from gliosight.evaluate.words import share

SIZE = (4.6, 3.5)  # inches
PLACE = (0.16, 0.19, 0.81, 0.78)  # of the axes: left, bottom, width, height
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gliosight",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Colours:
    """What a plot is drawn with; the page's own colours."""

    paper: str
    ink: str
    quiet: str
    line: str
    main: str
    other: str


LIGHT = Colours("#ffffff", "#16202a", "#566270", "#dde2e7", "#0b6477", "#a03d0c")
DARK = Colours("#171e25", "#e8edf2", "#9fadba", "#2b353f", "#6cc5d9", "#ffad7a")


@dataclass(frozen=True)
class Plot:
    """One plot.

    Parameters
    ----------
    title : str
    words : str
        What it shows, for those who do not see it.
    light, dark : str
        SVG.
    """

    title: str
    words: str
    light: str
    dark: str


Painter = Callable[[Axes, Colours], None]


def plots_of(part: PartScores) -> list[Plot]:
    """All plots of a part that have something to show."""
    found = []
    ill = [one for one in part.unseen if one.dice is not None]
    if part.localization and ill:
        found.append(_dice_by_patient(part, ill))
        found.append(_dice_by_volume(ill))
        found.append(_volumes(ill))
    if "roc" in part.curves:
        found += [_roc(part), _precision_recall(part)]
    if "reliability" in part.curves:
        found.append(_reliability(part))
    if any(one.figure.value is not None for one in part.areas):
        found.append(_sensitivity_by_area(part))
    return found


def _dice_by_patient(part: PartScores, ill: list[PatientScore]) -> Plot:
    values = np.sort([one.dice or 0.0 for one in ill])

    def paint(axes: Axes, colours: Colours) -> None:
        axes.bar(np.arange(1, len(values) + 1), values, width=0.8, color=colours.main)
        for key, style in (("dice_mean", "-"), ("dice_median", "--")):
            value = part.localization[key].value
            if value is not None:
                axes.axhline(value, color=colours.other, linestyle=style, linewidth=1.5)
                axes.plot([], [], style, color=colours.other, label=f"{key[5:]} {value:.3f}")
        axes.set(xlabel="patients, worst to best", ylabel="Dice", ylim=(0, 1))
        axes.legend(loc="lower right", facecolor=colours.paper, frameon=True, edgecolor="none")

    low, high = values[0], values[-1]
    return _plot(
        "Dice of each patient",
        f"Dice of {len(values)} patients with a lesion, from {low:.2f} to {high:.2f}; mean "
        f"{share(part.localization['dice_mean'])}, median {share(part.localization['dice_median'])}.",
        paint,
    )


def _dice_by_volume(ill: list[PatientScore]) -> Plot:
    size, unit = _sizes(ill)
    dice = [one.dice or 0.0 for one in ill]

    def paint(axes: Axes, colours: Colours) -> None:
        axes.scatter(size, dice, s=22, color=colours.main, alpha=0.75, linewidths=0)
        axes.set(xscale="log", xlabel=f"true volume, {unit}", ylabel="Dice", ylim=(0, 1))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())

    words = "Dice against the true volume of the lesion."
    if len(ill) > 2 and np.ptp(size) > 0 and np.ptp(dice) > 0:
        ranks = np.corrcoef(np.argsort(np.argsort(size)), np.argsort(np.argsort(dice)))[0, 1]
        words = f"{words[:-1]}; rank correlation {ranks:.2f}."
    return _plot("Dice by volume", words, paint)


def _volumes(ill: list[PatientScore]) -> Plot:
    size, unit = _sizes(ill)
    marked = np.array(
        [one.predicted_px if unit == "px" else one.predicted_ml or 0.0 for one in ill], float
    )

    def paint(axes: Axes, colours: Colours) -> None:
        top = 1.1 * max(size.max(), marked.max())
        axes.plot([0, top], [0, top], color=colours.quiet, linewidth=1, zorder=0)
        axes.scatter(size, marked, s=22, color=colours.main, alpha=0.75, linewidths=0)
        axes.set(
            xlabel=f"true volume, {unit}",
            ylabel=f"predicted volume, {unit}",
            xlim=(0, top),
            ylim=(0, top),
        )
        axes.locator_params(nbins=4)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))

    error = round(100 * float(np.median(marked / size - 1)))
    told = f"{error:+d} %" if error else "below 1 %"
    return _plot(
        "Volume, predicted and true",
        f"Predicted against true volume; the line is where they are equal. Median error {told}.",
        paint,
    )


def _roc(part: PartScores) -> Plot:
    curve = part.curves["roc"]
    auc = part.detection["slice_auc"]
    sensitivity, specificity = (
        part.detection[f"slice_{name}"].value for name in ("sensitivity", "specificity")
    )

    def paint(axes: Axes, colours: Colours) -> None:
        axes.plot([0, 1], [0, 1], color=colours.quiet, linewidth=1)
        axes.plot(curve.x, curve.y, color=colours.main, linewidth=2)
        if sensitivity is not None and specificity is not None:
            axes.plot(1 - specificity, sensitivity, "o", color=colours.other, label="threshold")
            axes.legend(loc="lower right")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))

    return _plot(
        "ROC by slice",
        f"Receiver operating characteristic by slice: area {share(auc)}. The dot is the model's own "
        "threshold.",
        paint,
    )


def _precision_recall(part: PartScores) -> Plot:
    curve = part.curves["precision_recall"]
    (tn, fp), (fn, tp) = part.confusion
    prevalence = (fn + tp) / (tn + fp + fn + tp)

    def paint(axes: Axes, colours: Colours) -> None:
        axes.axhline(prevalence, color=colours.quiet, linewidth=1)
        axes.plot(curve.x, curve.y, color=colours.main, linewidth=2)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))

    return _plot(
        "Precision and recall by slice",
        f"Precision against recall by slice: average precision "
        f"{share(part.detection['slice_average_precision'])}. The line is the share of tumour slices, "
        f"{prevalence:.2f}.",
        paint,
    )


def _reliability(part: PartScores) -> Plot:
    curve = part.curves["reliability"]

    def paint(axes: Axes, colours: Colours) -> None:
        axes.plot([0, 1], [0, 1], color=colours.quiet, linewidth=1)
        axes.plot(curve.x, curve.y, "o-", color=colours.main, linewidth=1.5, markersize=4.5)
        axes.set(
            xlabel="mean probability",
            ylabel="share of tumour",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )

    slope = part.detection["calibration_slope"]
    return _plot(
        "Reliability by slice",
        f"Share of tumour slices against their mean probability, in {len(curve.x)} bins of equal mass; "
        f"on the line they agree. Slope {share(slope)}, ECE {share(part.detection['ece'])}.",
        paint,
    )


def _sensitivity_by_area(part: PartScores) -> Plot:
    rows = [one for one in part.areas if one.figure.value is not None]
    labels = [
        f"{one.from_px:,}-{one.to_px - 1:,}" if one.to_px else f"{one.from_px:,}+" for one in rows
    ]
    values = np.array([one.figure.value or 0.0 for one in rows])

    def paint(axes: Axes, colours: Colours) -> None:
        axes.bar(np.arange(len(rows)), values, width=0.7, color=colours.main)
        for k, one in enumerate(rows):
            if one.figure.low is not None and one.figure.high is not None:
                axes.vlines(k, one.figure.low, one.figure.high, color=colours.other, linewidth=2)
        axes.set_xticks(np.arange(len(rows)), labels, fontsize=7.5)
        axes.set(xlabel="true area in the slice, px", ylabel="sensitivity", ylim=(0, 1.01))

    told = "; ".join(
        f"{label} px: {share(one.figure)} of {one.figure.n}"
        for label, one in zip(labels, rows, strict=True)
    )
    return _plot("Sensitivity by area", f"Share of tumour slices called so: {told}.", paint)


def _plot(title: str, words: str, paint: Painter) -> Plot:
    light = _draw(paint)
    return Plot(title, words, light, _darkened(light))


def _darkened(svg: str) -> str:
    """The same drawing in the dark colours: drawing it twice would take twice as long."""
    dark = {getattr(LIGHT, one.name): getattr(DARK, one.name) for one in fields(Colours)}
    return re.sub("|".join(dark), lambda match: dark[match[0]], svg)


def _draw(paint: Painter) -> str:
    colours = LIGHT
    dress: dict[Any, Any] = {
        "axes.edgecolor": colours.quiet,
        "axes.labelcolor": colours.ink,
        "text.color": colours.ink,
        "xtick.color": colours.quiet,
        "ytick.color": colours.quiet,
        "axes.facecolor": "none",
    }
    with mpl.rc_context({**STYLE, **dress}):
        canvas = Canvas(figsize=SIZE, facecolor="none")
        # A fixed place: working out one from the labels takes longer than drawing.
        paint(canvas.add_axes(PLACE), colours)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :].replace(
        "'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans'"
    )


def _sizes(ill: list[PatientScore]) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], str]:
    known = [one.truth_ml for one in ill if one.truth_ml is not None]
    if len(known) == len(ill):
        return np.array(known, dtype=np.float64), "ml"
    return np.array([one.truth_px for one in ill], dtype=np.float64), "px"
