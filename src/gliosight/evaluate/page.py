"""The page a person opens: ``evaluation.html``, one self-contained file (evaluate).

In: an `Evaluation` and the pictures of its worst cases. Out: HTML with style, plots and pictures inside, of
the same family as a study's report: readable offline, on a phone, printed, without JavaScript. Names of
patients and models are hostile text: the template escapes them, and a content security policy allows
this page's own style by hash, pictures as data, and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

import gliosight
from gliosight.analysis import LIMITS, MASK_MEANING, RESEARCH_USE
from gliosight.data.split import SLICE
from gliosight.errors import printable
from gliosight.evaluate.bootstrap import undefined
from gliosight.evaluate.evaluation import Evaluation, Leak
from gliosight.evaluate.pictures import WorstCase
from gliosight.evaluate.plots import plots_of
from gliosight.evaluate.published import published_on
from gliosight.evaluate.scores import Figure, Figures, PartScores, PatientScore
from gliosight.evaluate.words import (
    BASELINES,
    DASH,
    GROUP,
    GROUPS,
    SECTIONS,
    interval,
    number,
    value_of,
)
from gliosight.write.pages import environment, template_text

PARTS = {
    "train": "Training part",
    "validation": "Validation part",
    "test": "Test part",
    "all": "All patients",
    "by_slice": "Trained and scored by slice",
    "by_patient": "Trained and scored by patient",
}
Pictures = Mapping[str, Ordered[WorstCase]]
# Models named in the title before it breaks off.
NAMED = 3


def render_page(evaluation: Evaluation, pictures: Pictures = MappingProxyType({})) -> str:
    """The page as text.

    Parameters
    ----------
    evaluation : Evaluation
    pictures : mapping of str to sequence of WorstCase
        By part; without, the page shows no slice of the data.
    """
    style = (
        template_text("write", "report.css") + "\n" + template_text("evaluate", "evaluation.css")
    )
    numbers = _aspects(pictures)
    parts = [_part(one, pictures.get(one.part, ())) for one in evaluation.parts]
    patients = {one.patient for part in evaluation.parts for one in part.patients}
    context = {
        "policy": _policy(style, numbers),
        "style": Markup(style),  # noqa: S704 - our own files
        "numbers": Markup(numbers),  # noqa: S704 - digits only
        "research_use": RESEARCH_USE,
        "mask_meaning": MASK_MEANING,
        "limits": LIMITS,
        "dash": DASH,
        "title": _title(evaluation),
        "headline": _headline(evaluation.parts[0])
        if evaluation.leak is None
        else _leak_headline(evaluation.leak, evaluation.parts),
        "warnings": [printable(one) for one in evaluation.warnings],
        "shows_slices": any(pictures.values()),
        "parts": parts,
        "leak": None if evaluation.leak is None else _leak(evaluation.leak),
        "published": published_on(patients),
        "facts": _facts(evaluation),
    }
    return (
        environment().from_string(template_text("evaluate", "evaluation.html.j2")).render(context)
    )


def _title(evaluation: Evaluation) -> str:
    names = list(dict.fromkeys(printable(one.name) for one in evaluation.models))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _headline(part: PartScores) -> dict[str, Any]:
    dice = part.localization.get("dice_mean")
    auc = part.detection.get("slice_auc")
    accuracy = part.detection["slice_accuracy"]
    cards = []
    if dice is not None:
        median = number(part.localization["dice_median"].value)
        cards.append(
            {**_card("Mean Dice", dice, "patients with a lesion"), "more": f"median {median}"}
        )
    if auc is not None:
        cards.append({**_card("Slice AUC", auc, "slices"), "more": ""})
    sensitivity, specificity = (
        number(part.detection[f"slice_{one}"].value) for one in ("sensitivity", "specificity")
    )
    cards.append(
        {
            **_card("Slice accuracy", accuracy, "slices"),
            "more": f"sensitivity {sensitivity}, specificity {specificity}",
        }
    )
    unseen, count = len(part.unseen), len(part.patients)
    return {
        "spoken": unseen > 0,
        "audit": False,
        "part": PARTS[part.part],
        "what": _what(part),
        "seen": "" if unseen == count else f"{count - unseen} of {count} seen in training",
        "cards": cards,
    }


def _leak_headline(leak: Leak, parts: Ordered[PartScores]) -> dict[str, Any]:
    """By slice, by patient, and the difference, of the first figure that both have."""
    words = {name.key: name.words for _, names in SECTIONS for name in names}
    cards = []
    for key, found in list(leak.figures.items())[:1]:
        for title, figure in (
            ("by slice", found["by_slice"]),
            ("by patient", found["by_patient"]),
            ("the difference", found["difference"]),
        ):
            cards.append({**_card(f"{words[key]}: {title}", figure, ""), "more": ""})
    return {
        "spoken": bool(cards),
        "audit": True,
        "part": "Leak audit",
        "what": "; ".join(f"{PARTS[one.part]}: {_what(one)}" for one in parts),
        "seen": "",
        "cards": cards,
    }


def _card(words: str, figure: Figure, of: str) -> dict[str, str]:
    return {
        "words": words,
        "value": number(figure.value),
        "interval": interval(figure),
        "n": f"{figure.n:,} {of}" if of else "",
    }


def _what(part: PartScores) -> str:
    slices = sum(len(one.numbers) for one in part.tables)
    tumour = sum(one.tumour_slices for one in part.patients)
    by = "" if part.by == "none" else f", split by {part.by}"
    patients = len(part.patients)
    return (
        f"{patients:,} patient{'s' if patients > 1 else ''}, {slices:,} slices, "
        f"{tumour:,} of them with tumour{by}"
    )


def _part(part: PartScores, pictures: Ordered[WorstCase]) -> dict[str, Any]:
    return {
        "id": part.part,
        "title": PARTS[part.part],
        "what": _what(part),
        "spoken": len(part.unseen) > 0,
        "by_slice": part.by == SLICE,
        "baselines": [BASELINES[name] for name in part.baselines],
        "learnt": sorted(
            {one.learnt_from for name, one in part.baselines.items() if name != "empty"}
        ),
        "sections": _sections(part),
        "plots": [
            {
                "title": one.title,
                "words": one.words,
                "light": _svg_uri(one.light),
                "dark": _svg_uri(one.dark),
            }
            for one in plots_of(part)
        ],
        "confusion": part.confusion,
        "report": part.report,
        "areas": [
            {
                "words": f"{one.from_px:,} to {one.to_px - 1:,} px"
                if one.to_px
                else f"{one.from_px:,} px and more",
                **_shown(one.figure),
            }
            for one in part.areas
        ],
        "groups": _groups(part),
        "patients": [_patient(one) for one in _worst_first(part.patients)],
        "pictures": [_case(one, f"{part.part}-{k}") for k, one in enumerate(pictures)],
    }


def _sections(part: PartScores) -> list[dict[str, Any]]:
    known: Figures = {**part.localization, **part.detection}
    sections = []
    for title, names in SECTIONS:
        rows = [
            {
                "words": name.words,
                **_shown(known[name.key], name.key),
                "baselines": [
                    number(found.value)
                    if (found := {**one.localization, **one.detection}.get(name.key))
                    else DASH
                    for one in part.baselines.values()
                ],
            }
            for name in names
            if name.key in known
        ]
        if rows:
            sections.append({"title": title, "rows": rows})
    return sections


def _groups(part: PartScores) -> list[dict[str, Any]]:
    out = []
    for title, groups in part.groups.items():
        if not groups:
            continue
        names = [
            one
            for one in GROUP
            if any(one.key in found and found[one.key].n for found in groups.values())
        ]
        rows = [
            {
                "name": printable(name),
                "n": found["patients"].n,
                "cells": [_shown(found.get(one.key, undefined()), one.key) for one in names],
            }
            for name, found in groups.items()
        ]
        out.append({"title": GROUPS[title], "columns": [one.words for one in names], "rows": rows})
    return out


def _leak(leak: Leak) -> list[dict[str, Any]]:
    words = {name.key: name.words for _, names in SECTIONS for name in names}
    return [
        {"words": words[key], **{name: _shown(one) for name, one in found.items()}}
        for key, found in leak.figures.items()
    ]


def _shown(figure: Figure, key: str = "") -> dict[str, str]:
    return {
        "value": value_of(key, figure),
        "interval": interval(figure),
        "n": f"{figure.n:,}" if figure.n else DASH,
    }


def _patient(one: PatientScore) -> dict[str, Any]:
    in_ml = one.truth_ml is not None and one.predicted_ml is not None
    return {
        "name": printable(one.patient),
        "seen": one.seen,
        "dice": number(one.dice),
        "hd95": DASH if one.hd95 is None else f"{one.hd95:.1f} {one.unit}",
        "true": f"{one.truth_ml:.1f} ml" if in_ml else f"{one.truth_px:,} px",
        "predicted": f"{one.predicted_ml:.1f} ml" if in_ml else f"{one.predicted_px:,} px",
        "lesions": DASH if one.lesions is None else f"{one.lesions_found} of {one.lesions}",
        "false_lesions": DASH if one.false_lesions is None else str(one.false_lesions),
        "wrong": f"{one.false_positive_slices} / {one.false_negative_slices}",
        "slices": one.slices,
    }


def _worst_first(patients: Ordered[PatientScore]) -> list[PatientScore]:
    return sorted(
        patients, key=lambda one: (one.seen, 2.0 if one.dice is None else one.dice, one.patient)
    )


def _case(case: WorstCase, name: str) -> dict[str, Any]:
    return {
        "patient": printable(case.score.patient),
        "dice": number(case.score.dice),
        "rows": case.rows,
        "columns": case.columns,
        "aspect": name,
        "slices": [
            {
                "number": one.number,
                "words": one.words,
                "picture": "data:image/jpeg;base64," + b64encode(one.jpeg).decode("ascii"),
                "truth": one.truth,
                "prediction": one.prediction,
            }
            for one in case.slices
        ],
    }


def _facts(evaluation: Evaluation) -> dict[str, str]:
    split = evaluation.split
    models = "; ".join(
        f"{one.name} ({one.kind}{f', SHA-256 {one.sha256[:12]}…' if one.sha256 else ''})"
        for one in evaluation.models
    )
    facts = {
        "gliosight": gliosight.__version__,
        "Models": models,
        "Manifest SHA-256": evaluation.manifest_sha256,
        "Split": ", ".join(f"{key} {value}" for key, value in split.items() if value) or "none",
        "Bootstrap": f"{evaluation.draws:,} draws over patients, seed {evaluation.seed}",
    }
    return {name: printable(value) for name, value in facts.items()}


def _aspects(pictures: Pictures) -> str:
    """Shapes of the pictures; in a style element, since the policy forbids style attributes."""
    rules = [
        f".shape-{part}-{k}{{--aspect:{case.aspect:.5f}}}"
        for part, cases in pictures.items()
        for k, case in enumerate(cases)
    ]
    return "".join(rules) or ":root{}"


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode("ascii")


def _policy(*styles: str) -> str:
    digests = (b64encode(sha256(one.encode()).digest()).decode("ascii") for one in styles)
    hashes = " ".join(f"'sha256-{one}'" for one in digests)
    return f"default-src 'none'; img-src data:; style-src {hashes}; base-uri 'none'; form-action 'none'"
