"""The page a person opens: ``evaluation.html``, one self-contained file (evaluate).

Names of patients and models are hostile text: the template escapes them, and a content security policy
allows this page's own style by hash, pictures as data, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import numpy as np
from markupsafe import Markup
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
    Figure,
    Figures,
    interval,
    number,
    shown_in_groups,
    value_of,
)
from gliosight.evaluate.localization import PatientScore, volume_dice
from gliosight.evaluate.plots import plots_of
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.scoring import PartScores, published_on
from gliosight.write.pages import environment, template_text
from gliosight.write.pictures import encode_grey, find_window, plan_display, svg_path, trace

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
    rows: int
    columns: int
    aspect: float
    slices: tuple[ShownSlice, ...]


Pictures = Mapping[str, Sequence[WorstCase]]


@dataclass(frozen=True)
class _Card:
    """A headline figure."""

    words: str
    figure: Figure
    unit: str = ""
    more: str = ""


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
        f".shape-{part}-{k}{{--aspect:{case.aspect:.5f}}}"
        for part, cases in pictures.items()
        for k, case in enumerate(cases)
    )
    patients = {patient.patient for part in evaluation.parts for patient in part.patients}
    context = {
        "policy": _policy(style, shapes or ":root{}"),
        "style": Markup(style),  # noqa: S704 - our own files
        "shapes": Markup(shapes or ":root{}"),  # noqa: S704 - digits only
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "dash": DASH,
        "title": _title(evaluation),
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
        "data_uri": _data_uri,
    }
    template = environment().from_string(template_text("evaluate", "evaluation.html.j2"))
    return template.render(context)


def _title(evaluation: Evaluation) -> str:
    names = list(dict.fromkeys(printable(note.name) for note in evaluation.models))
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} models"


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
        cards = [
            _Card(f"{NAMES[key].words}: {title}", figure)
            for title, figure in zip(titles, sides.values(), strict=False)
        ]
        headline |= {"spoken": bool(cards), "part": "Leak audit", "seen": "", "cards": cards}
        headline["what"] = "; ".join(
            f"{PARTS[part.part]}: {_what(part)}" for part in evaluation.parts
        )
    return headline


def _cards(figures: Figures) -> list[_Card]:
    cards = []
    if "dice_mean" in figures:
        median = f"median {number(figures['dice_median'].value)}"
        cards.append(_Card("Mean Dice", figures["dice_mean"], "patients with a lesion", median))
    if "slice_auc" in figures:
        cards.append(_Card("Slice AUC", figures["slice_auc"], "slices"))
    both = ", ".join(
        f"{name} {number(figures[f'slice_{name}'].value)}"
        for name in ("sensitivity", "specificity")
    )
    return [*cards, _Card("Slice accuracy", figures["slice_accuracy"], "slices", both)]


def _what(part: PartScores) -> str:
    slices = sum(patient.slices for patient in part.patients)
    tumour = sum(patient.tumour_slices for patient in part.patients)
    by = "" if part.by == "none" else f", split by {part.by}"
    count = len(part.patients)
    return (
        f"{count:,} patient{'s' if count > 1 else ''}, {slices:,} slices, "
        f"{tumour:,} of them with tumour{by}"
    )


def _part(part: PartScores, pictures: Sequence[WorstCase]) -> dict[str, Any]:
    """What the template needs besides the scores themselves."""
    trained_on = {
        baseline.trained_on for name, baseline in part.baselines.items() if name != "empty"
    }
    groups = [
        (GROUPS[title], shown_in_groups(members), members)
        for title, members in part.groups.items()
        if members
    ]
    return {
        "scores": part,
        "id": part.part,
        "title": PARTS[part.part],
        "what": _what(part),
        "trained_on": " and ".join(sorted(trained_on)) or "nothing",
        "plots": plots_of(part),
        "groups": groups,
        "patients": sorted(
            part.patients,
            key=lambda patient: (
                patient.seen,
                2.0 if patient.dice is None else patient.dice,
                patient.patient,
            ),
        ),
        "pictures": pictures,
    }


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


def _data_uri(content: bytes | str, kind: str) -> str:
    content = content.encode() if isinstance(content, str) else content
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"


def _policy(*styles: str) -> str:
    digests = (b64encode(sha256(style.encode()).digest()).decode("ascii") for style in styles)
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src {hashes}; base-uri 'none'; form-action 'none'"


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
    return WorstCase(score, display.rows, display.columns, display.aspect, tuple(shown))


def choose(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> list[int]:
    """The slices with the largest true area, most missed, most falsely marked; no slice twice."""
    chosen: list[int] = []
    for mask in (truth, truth & ~prediction, prediction & ~truth):
        areas = mask.sum(axis=(1, 2))
        areas[chosen] = 0
        if areas.any():
            chosen.append(int(areas.argmax()))
    return sorted(chosen[:SHOWN])
