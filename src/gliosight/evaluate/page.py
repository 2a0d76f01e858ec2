"""The page a person opens: ``evaluation.html``, one self-contained file (evaluate).

Names of patients and models are hostile text: the template escapes them, and a content security policy
allows this page's own style by hash, pictures as data, and nothing else. Plots are SVG in light and in dark
colours, each with a sentence that says the same; Matplotlib is used without pyplot and without global
settings, and text stays text, in the page's own fonts.
"""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

import gliosight
from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE
from gliosight.data.manifest import Manifest
from gliosight.data.studies import read_labelled
from gliosight.errors import printable
from gliosight.evaluate.evaluation import Evaluation
from gliosight.evaluate.figures import (
    BASELINES,
    DASH,
    NAMES,
    SECTIONS,
    Array,
    Figures,
    interval,
    number,
    shown_in_groups,
    value_of,
)
from gliosight.evaluate.mask_metrics import PatientScore, volume_dice
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.scoring import PartScores, published_on
from gliosight.evaluate.slice_metrics import AREAS
from gliosight.write.pages import fill, page_template, template_text
from gliosight.write.pictures import (
    Display,
    encode_grey,
    find_window,
    plan_display,
    svg_path,
    trace,
)
from gliosight.write.words import count_words

PARTS = {
    "train": "Training part",
    "validation": "Validation part",
    "test": "Test part",
    "all": "All patients",
    "by_slice": "Trained and scored by slice",
    "by_patient": "Trained and scored by patient",
}
GROUPS = {
    "collection": "By collection",
    "institution": "By institution",
    "tumour_volume": "By tumour volume",
    "sequences": "By sequences that are there",
    "published": "Patients of a published report",
    "seen": "Seen in training, and not",
}
# Models named in the title before it breaks off.
NAMED = 3
# How many of the worst cases and slices of each are shown; pixels of the longer side.
CASES, SHOWN, LONGEST = 6, 3, 320


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
class ShownSlice:
    """One slice: its number, what is there, the picture and the two outlines."""

    number: int
    words: str
    jpeg: bytes
    truth: str
    prediction: str


@dataclass(frozen=True)
class WorstCase:
    """One patient, with the slices that show most of what went wrong, in their order."""

    score: PatientScore
    display: Display
    slices: tuple[ShownSlice, ...]


@dataclass(frozen=True)
class Plot:
    """One plot as SVG in light and in dark colours; ``words`` say what it shows."""

    title: str
    words: str
    light: str
    dark: str


Pictures = Mapping[str, Sequence[WorstCase]]


def render_page(evaluation: Evaluation, pictures: Pictures = MappingProxyType({})) -> str:
    """The page as text.

    Parameters
    ----------
    pictures : mapping of str to sequence of WorstCase
        By part; without, the page shows no slice of the data.
    """
    style = "\n".join(
        (template_text("write", "report.css"), template_text("evaluate", "evaluation.css"))
    )
    # Shapes of the pictures; in a style element, since the policy forbids style attributes.
    shapes = "".join(
        f".shape-{part}-{k}{{--aspect:{case.display.aspect:.5f}}}"
        for part, cases in pictures.items()
        for k, case in enumerate(cases)
    )
    shapes = shapes or ":root{}"
    digests = (sha256(text.encode()).digest() for text in (style, shapes))
    hashes = " ".join(f"'sha256-{_base64(digest)}'" for digest in digests)
    names = list(dict.fromkeys(printable(note.name) for note in evaluation.models))
    patients = {patient.patient for part in evaluation.parts for patient in part.patients}
    context = {
        "policy": f"default-src 'none'; img-src data:; style-src {hashes}; base-uri 'none'; "
        "form-action 'none'",
        "style": Markup(style),  # noqa: S704 - our own files
        "shapes": Markup(shapes),  # noqa: S704 - digits only
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "dash": DASH,
        "title": ", ".join(names) if len(names) <= NAMED else f"{len(names)} models",
        "headline": _headline(evaluation),
        "warnings": evaluation.warnings,
        "parts": [_part(part, pictures.get(part.part, ())) for part in evaluation.parts],
        "leak": evaluation.leak or {},
        "published": published_on(patients),
        "facts": _facts(evaluation),
        "sections": SECTIONS,
        "names": NAMES,
        "baseline_names": BASELINES,
        # Functions for the template.
        "printable": printable,
        "number": number,
        "value_of": value_of,
        "interval": interval,
        "data_uri": lambda content, kind: f"data:image/{kind};base64,{_base64(content)}",
    }
    return fill(page_template("evaluate", "evaluation.html.j2"), **context)


def _base64(content: bytes | str) -> str:
    return b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")


def _headline(evaluation: Evaluation) -> dict[str, Any]:
    part = evaluation.parts[0]
    unseen, count = len(part.unseen), len(part.patients)
    headline = {
        "audit": evaluation.leak is not None,
        "spoken": unseen > 0,
        "part": PARTS[part.part],
        "what": _what(part),
        "seen": "" if unseen == count else f"{count - unseen} of {count} seen in training",
        "cards": _cards(part.figures),
    }
    if evaluation.leak is not None:
        # By slice, by patient, and the difference, of the first figure that both have.
        key, sides = next(iter(evaluation.leak.items()), ("", {}))
        titles = ("by slice", "by patient", "the difference")
        headline |= {
            "spoken": bool(sides),
            "part": "Leak audit",
            "what": "; ".join(f"{PARTS[part.part]}: {_what(part)}" for part in evaluation.parts),
            "seen": "",
            "cards": [
                {"words": f"{NAMES[key].words}: {title}", "figure": figure, "unit": "", "more": ""}
                for title, figure in zip(titles, sides.values(), strict=False)
            ],
        }
    return headline


def _cards(figures: Figures) -> list[dict[str, Any]]:
    """The headline figures: words, figure, what it rests on, and figures that go with it."""
    return [
        {
            "words": words,
            "figure": figures[key],
            "unit": unit,
            "more": ", ".join(f"{name} {number(figures[k].value)}" for name, k in more.items()),
        }
        for key, words, unit, more in (
            ("dice_mean", "Mean Dice", "patients with a lesion", {"median": "dice_median"}),
            ("slice_auc", "Slice AUC", "slices", {}),
            (
                "slice_accuracy",
                "Slice accuracy",
                "slices",
                {"sensitivity": "slice_sensitivity", "specificity": "slice_specificity"},
            ),
        )
        if key in figures
    ]


def _what(part: PartScores) -> str:
    slices = sum(patient.slices for patient in part.patients)
    tumour = sum(patient.tumour_slices for patient in part.patients)
    by = "" if part.by == "none" else f", split by {part.by}"
    return (
        f"{count_words(len(part.patients), 'patient')}, {count_words(slices, 'slice')}, "
        f"{tumour:,} of them with tumour{by}"
    )


def _part(part: PartScores, pictures: Sequence[WorstCase]) -> dict[str, Any]:
    """What the template needs besides the scores themselves."""
    trained_on = {
        baseline.trained_on for name, baseline in part.baselines.items() if name != "empty"
    }
    return {
        "scores": part,
        "id": part.part,
        "title": PARTS[part.part],
        "what": _what(part),
        "trained_on": " and ".join(sorted(trained_on)) or "nothing",
        "plots": plots_of(part),
        "groups": [
            (GROUPS[title], shown_in_groups(members), members)
            for title, members in part.groups.items()
            if members
        ],
        "patients": sorted(part.patients, key=_from_the_worst),
        "pictures": pictures,
    }


def _from_the_worst(patient: PatientScore) -> tuple[bool, float, str]:
    return patient.seen, 2.0 if patient.dice is None else patient.dice, patient.patient


def _facts(evaluation: Evaluation) -> dict[str, str]:
    split = ", ".join(f"{key} {value}" for key, value in evaluation.split.items() if value)
    models = "; ".join(
        f"{note.name} ({note.kind}{f', SHA-256 {note.sha256[:12]}…' if note.sha256 else ''})"
        for note in evaluation.models
    )
    return {
        "gliosight": gliosight.__version__,
        "Models": models,
        "Manifest SHA-256": evaluation.manifest_sha256,
        "Split": split or "none",
        "Bootstrap": f"{evaluation.draws:,} draws over patients, seed {evaluation.seed}",
    }


def worst_cases(part: PartScores, manifest: Manifest, predictions: Predictions) -> list[WorstCase]:
    """The patients of a part with the lowest Dice that the model has not seen.

    A patient without a lesion in whom something was marked counts as the worst there is.
    """
    if not part.localization:
        return []
    masks = predictions.by_patient
    marked = [
        patient for patient in part.unseen if patient.dice is not None or patient.predicted_px
    ]
    worst = sorted(marked, key=lambda patient: (patient.dice or 0.0, patient.patient))[:CASES]
    return [_case(patient, manifest, masks[patient.patient].mask) for patient in worst]


def _case(score: PatientScore, manifest: Manifest, prediction: NDArray[np.bool_]) -> WorstCase:
    labelled = read_labelled(manifest, score.patient)
    truth, study = labelled.truth, labelled.study
    numbers = [row.number for row in manifest.by_patient[score.patient]]
    display = plan_display(study.geometry, study.shape)
    window = find_window(study.flair.values)
    shown = []
    inside = np.isin(numbers, score.table.numbers)[:, None, None]
    for k in choose(truth & inside, prediction & inside):
        true, marked = int(truth[k].sum()), int(prediction[k].sum())
        dice = volume_dice(truth[k], prediction[k]) if true else 0.0
        shown.append(
            ShownSlice(
                number=numbers[k],
                words=f"Dice {dice:.2f}; true {true:,} px, predicted {marked:,} px",
                jpeg=encode_grey(window.apply(display.turn(study.flair.values[k])), LONGEST),
                truth=svg_path(trace(display.turn(truth[k]))),
                prediction=svg_path(trace(display.turn(prediction[k]))),
            )
        )
    return WorstCase(score, display, tuple(shown))


def choose(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> list[int]:
    """The slices with the largest true area, most missed, most falsely marked; no slice twice."""
    chosen: list[int] = []
    for mask in (truth, truth & ~prediction, prediction & ~truth):
        areas = mask.sum(axis=(1, 2))
        areas[chosen] = 0
        if areas.any():
            chosen.append(int(areas.argmax()))
    return sorted(chosen[:SHOWN])


def plots_of(part: PartScores) -> list[Plot]:
    """All plots of a part that have something to show."""
    ill = [patient for patient in part.unseen if patient.dice is not None]
    with mpl.rc_context(STYLE):
        plots = []
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
    canvas, axes = _axes()
    axes.bar(np.arange(1, len(values) + 1), values, width=0.8, color=MAIN)
    for name, value, style in (("mean", mean, "-"), ("median", median, "--")):
        if value is not None:
            axes.axhline(value, color=OTHER, linestyle=style, linewidth=1.5)
            axes.plot([], [], style, color=OTHER, label=f"{name} {value:.3f}")
    axes.set(xlabel="patients, worst to best", ylabel="Dice", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", facecolor=PAPER, frameon=True, edgecolor="none")
    words = (
        f"Dice of {len(values)} patients with a lesion, from {values[0]:.2f} to {values[-1]:.2f}; "
        f"mean {number(mean)}, median {number(median)}."
    )
    return _plot("Dice of each patient", words, canvas)


def _dice_by_volume(ill: list[PatientScore]) -> Plot:
    true, _, unit = _sizes(ill)
    dice = [patient.dice or 0.0 for patient in ill]
    canvas, axes = _axes()
    axes.scatter(true, dice, s=22, color=MAIN, alpha=0.75, linewidths=0)
    axes.set(xscale="log", xlabel=f"true volume, {unit}", ylabel="Dice", ylim=(0, 1))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    words = "Dice against the true volume of the lesion"
    if len(ill) > 2 and np.ptp(true) > 0 and np.ptp(dice) > 0:
        ranks = np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(dice)))[0, 1]
        words += f"; rank correlation {ranks:.2f}"
    return _plot("Dice by volume", f"{words}.", canvas)


def _volumes(ill: list[PatientScore]) -> Plot:
    true, marked, unit = _sizes(ill)
    top = 1.1 * max(true.max(), marked.max())
    canvas, axes = _axes()
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, zorder=0)
    axes.scatter(true, marked, s=22, color=MAIN, alpha=0.75, linewidths=0)
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.set(xlabel=f"true volume, {unit}", ylabel=f"predicted volume, {unit}")
    axes.locator_params(nbins=4)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    error = round(100 * float(np.median(marked / true - 1)))
    words = (
        "Predicted against true volume; the line is where they are equal. Median error "
        f"{f'{error:+d} %' if error else 'below 1 %'}."
    )
    return _plot("Volume, predicted and true", words, canvas)


def _sizes(ill: list[PatientScore]) -> tuple[Array, Array, str]:
    """True and predicted volumes and their unit: ml where all have geometry, else 1,000 pixels."""
    if all(patient.truth_ml is not None for patient in ill):
        volumes = [(patient.truth_ml, patient.predicted_ml) for patient in ill]
        return *np.array(volumes, dtype=np.float64).T, "ml"
    pixels = [(patient.truth_px, patient.predicted_px) for patient in ill]
    return *(np.array(pixels, dtype=np.float64).T / 1000), "1,000 px"


def _roc(part: PartScores) -> Plot:
    curve = part.curves["roc"]
    sensitivity, specificity, area = (
        part.detection[f"slice_{name}"].value for name in ("sensitivity", "specificity", "auc")
    )
    canvas, axes = _axes()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
    axes.plot(curve.x, curve.y, color=MAIN, linewidth=2)
    if sensitivity is not None and specificity is not None:
        axes.plot(1 - specificity, sensitivity, "o", color=OTHER, label="threshold")
        axes.legend(loc="lower right")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
    words = (
        f"Receiver operating characteristic by slice: area {number(area)}. The dot is the model's "
        "own threshold."
    )
    return _plot("ROC by slice", words, canvas)


def _precision_recall(part: PartScores) -> Plot:
    curve = part.curves["precision_recall"]
    (tn, fp), (fn, tp) = part.confusion
    prevalence = (fn + tp) / (tn + fp + fn + tp)
    precision = number(part.detection["slice_average_precision"].value)
    canvas, axes = _axes()
    axes.axhline(prevalence, color=QUIET, linewidth=1)
    axes.plot(curve.x, curve.y, color=MAIN, linewidth=2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    words = (
        f"Precision against recall by slice: average precision {precision}. The line is the share "
        f"of tumour slices, {prevalence:.2f}."
    )
    return _plot("Precision and recall by slice", words, canvas)


def _reliability(part: PartScores) -> Plot:
    curve = part.curves["reliability"]
    slope, ece = (number(part.detection[name].value) for name in ("calibration_slope", "ece"))
    canvas, axes = _axes()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
    axes.plot(curve.x, curve.y, "o-", color=MAIN, linewidth=1.5, markersize=4.5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set(xlabel="mean probability", ylabel="share of tumour")
    words = (
        f"Share of tumour slices against their mean probability, in {len(curve.x)} bins of equal "
        f"mass; on the line they agree. Slope {slope}, ECE {ece}."
    )
    return _plot("Reliability by slice", words, canvas)


def _sensitivity_by_area(part: PartScores) -> Plot:
    rows = [row for row in part.areas if row.figure.value is not None]
    labels = [
        f"{row.from_px:,}-{row.to_px - 1:,}" if row.to_px else f"{row.from_px:,}+" for row in rows
    ]
    canvas, axes = _axes()
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
    return _plot("Sensitivity by area", f"Share of tumour slices called so: {words}.", canvas)


def _axes() -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=SIZE, facecolor="none")
    # A fixed place: working out one from the labels takes longer than drawing.
    return canvas, canvas.add_axes(PLACE)


def _plot(title: str, words: str, canvas: Canvas) -> Plot:
    text = io.StringIO()
    canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    light = svg[svg.index("<svg") :].replace(
        "'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans'"
    )
    # The same drawing in the dark colours: drawing it twice would take twice as long.
    dark = re.sub("|".join(DARK), lambda match: DARK[match[0]], light)
    return Plot(title, words, light, dark)
