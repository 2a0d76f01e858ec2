"""The worst cases, as pictures for the page (evaluate).

In: the scores of a part, the manifest, the predictions. Out: a `WorstCase` each, with some slices as JPEG
and the outlines of truth and prediction as SVG paths. Pictures are of the data set: the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.data.manifest import Manifest
from gliosight.data.studies import read_labelled
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.scores import PartScores, PatientScore
from gliosight.write.pictures import (
    encode_grey,
    find_window,
    plan_display,
    svg_path,
    trace,
)

# How many cases and slices of each are shown; pixels of the longer side.
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
    """One patient, worst slices first found, in the order of the slices."""

    score: PatientScore
    rows: int
    columns: int
    aspect: float
    slices: tuple[ShownSlice, ...]


def worst_cases(part: PartScores, manifest: Manifest, predictions: Predictions) -> list[WorstCase]:
    """The patients of a part with the lowest Dice that the model has not seen.

    A patient without a lesion in whom something was marked counts as the worst there is.
    """
    if not part.localization:
        return []
    found = predictions.by_patient
    scored = {
        one.patient: table.numbers for one, table in zip(part.patients, part.tables, strict=True)
    }
    return [
        _shown(one, manifest, found[one.patient].mask, scored[one.patient])
        for one in _worst(part.unseen)[:CASES]
    ]


def _worst(patients: Iterable[PatientScore]) -> list[PatientScore]:
    known = [one for one in patients if one.dice is not None or one.predicted_px]
    return sorted(known, key=lambda one: (one.dice or 0.0, one.patient))


def _shown(
    score: PatientScore,
    manifest: Manifest,
    prediction: NDArray[np.bool_],
    scored: NDArray[np.int64],
) -> WorstCase:
    labelled = read_labelled(manifest, score.patient)
    truth, study = labelled.truth, labelled.study
    numbers = [row.number for row in manifest.by_patient[score.patient]]
    display = plan_display(study.geometry, study.shape)
    window = find_window(study.flair.values)
    shown = []
    inside = np.isin(numbers, scored)[:, None, None]
    for k in choose(truth & inside, prediction & inside):
        both = int((truth[k] & prediction[k]).sum())
        true, marked = int(truth[k].sum()), int(prediction[k].sum())
        words = f"Dice {2 * both / (true + marked):.2f}" if true + marked else "nothing marked"
        shown.append(
            ShownSlice(
                number=numbers[k],
                words=f"{words}; true {true:,} px, predicted {marked:,} px",
                jpeg=encode_grey(window.apply(display.turn(study.flair.values[k])), LONGEST),
                truth=svg_path(trace(display.turn(truth[k]))),
                prediction=svg_path(trace(display.turn(prediction[k]))),
            )
        )
    return WorstCase(score, display.rows, display.columns, display.aspect, tuple(shown))


def choose(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> list[int]:
    """The slices that tell most: largest true area, most missed, most falsely marked; no slice twice."""
    wanted = [truth, truth & ~prediction, prediction & ~truth]
    chosen: list[int] = []
    for mask in wanted:
        areas = mask.sum(axis=(1, 2))
        areas[chosen] = 0
        if areas.any():
            chosen.append(int(areas.argmax()))
    return sorted(chosen[:SHOWN])
