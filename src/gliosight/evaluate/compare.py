"""Two models against each other: on the same patients, or as a leak audit (evaluate).

`compare` is paired by patient. `leak_audit` compares a model trained on a split by slice with one trained by
patient, each on the test part of its own split: the two samples are independent. By slice, a network meets
its test patients in training; what it gains by that it does not have on a new patient.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from gliosight.analysis import Progress
from gliosight.data.split import SLICE, TEST, Split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate, silent
from gliosight.evaluate.figures import DRAWS, Figures, difference, draw
from gliosight.evaluate.mask_metrics import SliceTable, overlaps_of
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.record import OF_SLICE, RECORD, SLICES, figures_record
from gliosight.evaluate.scoring import PartScores, short_figures
from gliosight.evaluate.sources import Source
from gliosight.write.result import rounded

# Dice that differs by less is a tie.
TIE = 0.001
# Of a leak audit: the headline, and what the tutorial and its like report.
AUDITED = (
    "dice_mean",
    "dice_median",
    "slice_dice_mean",
    "slice_accuracy",
    "slice_auc",
    "slice_average_precision",
    "slice_sensitivity",
    "slice_specificity",
    "brier",
)


def _side_by_side(first: Figures, second: Figures, sides: tuple[str, str]) -> dict[str, Figures]:
    """The figures both have, by key: each side's, and the difference."""
    return {
        key: {
            sides[0]: first[key],
            sides[1]: second[key],
            "difference": difference(first[key], second[key]),
        }
        for key in first
        if key in second
    }


@dataclass(frozen=True)
class Side:
    """One of the two models: tables by patient, and which patients it was trained on."""

    name: str
    tables: Mapping[str, SliceTable]
    seen: frozenset[str]
    draws_masks: bool


@dataclass(frozen=True)
class Comparison:
    """What differs between models a and b.

    ``left_out`` counts patients that only one of the two has, or that one of them has seen. ``figures`` are
    by key and side: ``a``, ``b`` and ``difference`` (a minus b). ``wins``, ``losses`` and ``ties`` (within
    `TIE`) count patients by Dice. ``wilcoxon_p`` is two-sided, of Dice by patient; ``None`` where all are
    equal or nothing is drawn.
    """

    names: tuple[str, str]
    patients: tuple[str, ...]
    left_out: int
    slices: int
    figures: Mapping[str, Figures]
    wins: int
    losses: int
    ties: int
    wilcoxon_p: float | None


def compare(first: Side, second: Side, *, seed: int = 1, draws: int = DRAWS) -> Comparison:
    """Compare two models on the patients both have and neither has seen.

    Raises
    ------
    UsageError, DamagedInputError
        There are none; their truths differ.
    """
    common = sorted((first.tables.keys() & second.tables.keys()) - first.seen - second.seen)
    if not common:
        remedy = "compare evaluations of the same part of the same data"
        raise UsageError("no patient that both have and neither has seen", remedy=remedy)
    pairs = [_paired(name, first.tables[name], second.tables[name]) for name in common]
    ours, theirs = zip(*pairs, strict=True)
    drawn = draw(len(common), seed=seed, draws=draws)
    masks = first.draws_masks and second.draws_masks
    away = overlaps_of(ours)["dice"] - overlaps_of(theirs)["dice"]
    away = away[np.isfinite(away)] if masks else np.empty(0)
    return Comparison(
        names=(first.name, second.name),
        patients=tuple(common),
        left_out=len(first.tables.keys() | second.tables.keys()) - len(common),
        slices=sum(len(table.numbers) for table in ours),
        figures=_side_by_side(
            short_figures(ours, drawn, draws_masks=masks),
            short_figures(theirs, drawn, draws_masks=masks),
            ("a", "b"),
        ),
        wins=int((away > TIE).sum()),
        losses=int((away < -TIE).sum()),
        ties=int((np.abs(away) <= TIE).sum()),
        wilcoxon_p=float(wilcoxon(away).pvalue) if away.any() else None,
    )


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON value."""
    figures = {key: figures_record(sides) for key, sides in comparison.figures.items()}
    return {
        "a": comparison.names[0],
        "b": comparison.names[1],
        "patients": list(comparison.patients),
        "patients_left_out": comparison.left_out,
        "slices": comparison.slices,
        "figures": rounded(figures),
        "dice": {key: getattr(comparison, key) for key in ("wins", "losses", "ties", "wilcoxon_p")},
    }


def side_of_part(name: str, part: PartScores) -> Side:
    """One side, from an evaluation that has just been made."""
    return Side(
        name=name,
        tables={patient.patient: patient.table for patient in part.patients},
        seen=frozenset(patient.patient for patient in part.patients if patient.seen),
        draws_masks=bool(part.localization),
    )


def read_side(folder: Path, part: str | None = None) -> Side:
    """One side, from the folder of an evaluation; ``part`` is needed where it has several.

    Raises
    ------
    NothingReadableError, DamagedInputError
        It is no evaluation, or a damaged one.
    UsageError
        It has several parts, or not this one.
    """
    name = printable(folder.name)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        parts = {entry["part"]: entry for entry in record["parts"]}
        chosen = _choose_part(name, list(parts), part)
        with (folder / SLICES).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["part"] == chosen]
        patients = groupby(rows, lambda row: row["patient"])
        seen = (entry["patient"] for entry in parts[chosen]["per_patient"] if entry["seen"])
        return Side(
            name=name,
            tables={patient: _table(list(lines)) for patient, lines in patients},
            seen=frozenset(map(str, seen)),
            draws_masks=bool(parts[chosen]["localization"]),
        )
    except OSError as error:
        remedy = "give the folder that gliosight evaluate has written, or predictions and --data"
        raise NothingReadableError("no evaluation there", where=name, remedy=remedy) from error
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedInputError(
            "the evaluation is damaged", where=name, remedy="evaluate again"
        ) from error


def _choose_part(name: str, parts: list[str], wanted: str | None) -> str:
    if wanted is None and len(parts) == 1:
        return parts[0]
    if wanted not in parts:
        what = "has the parts" if wanted is None else f"has no part {wanted}, only"
        raise UsageError(f"{name} {what} {', '.join(parts)}", remedy="say which with --part")
    return wanted


def _table(rows: Sequence[Mapping[str, str]]) -> SliceTable:
    """A patient's rows of per_slice.csv."""
    columns = {name: [row[name] for row in rows] for name in OF_SLICE}
    numbers, truth, marked, both = (
        np.array(columns[name], dtype=np.int64) for name in OF_SLICE[:4]
    )
    texts = columns["probability"]
    probability = np.array(texts, dtype=np.float64) if all(texts) else None
    called = np.array(columns["called"]) == "1"
    return SliceTable(numbers, truth, marked, both, called, probability)


def _paired(name: str, first: SliceTable, second: SliceTable) -> tuple[SliceTable, SliceTable]:
    """The slices both have."""
    ours, theirs = first.among(second.numbers), second.among(first.numbers)
    if not np.array_equal(ours.truth_px, theirs.truth_px):
        what = f"the two were scored against different masks of {printable(name)}"
        raise DamagedInputError(what, remedy="evaluate both on the same manifest")
    return ours, theirs


def leak_audit(
    by_slice: Request, by_patient: Request, progress: Progress | None = None
) -> tuple[Evaluation, tuple[Evaluation, Evaluation]]:
    """Score each model, given with the split it was trained with, on the test part of that split.

    Returns both as one `Evaluation`, and each for itself: their predictions may be of the same patients.

    Raises
    ------
    UsageError
        The splits are not one by slice and one by patient, or not those the models were trained with.
    """
    splits = [request.split for request in (by_slice, by_patient) if request.split is not None]
    if [split.by == SLICE for split in splits] != [True, False]:
        what = f"splits by {' and by '.join(split.by for split in splits)}"
        remedy = "a leak audit takes one split by slice and one by patient"
        raise UsageError(what, remedy=remedy)
    for request, split in zip((by_slice, by_patient), splits, strict=True):
        _check_trained(request.sources[0], split)
    sides, tell = ("by_slice", "by_patient"), progress or silent
    # The same seed would draw both alike, as if they were paired.
    by_patient = replace(by_patient, seed=by_patient.seed + 1)
    # One bar for both.
    first = _audited(by_slice, sides[0], lambda stage, done, of: tell(stage, done, 2 * of))
    second = _audited(by_patient, sides[1], lambda stage, done, of: tell(stage, done + of, 2 * of))
    ours, theirs = (
        {key: figures[key] for key in AUDITED if key in figures and figures[key].value is not None}
        for figures in (first.parts[0].figures, second.parts[0].figures)
    )
    joined = replace(
        first,
        parts=(*first.parts, *second.parts),
        models=(*first.models, *second.models),
        predictions=Predictions((), ()),
        warnings=(*first.warnings, *second.warnings),
        split={
            "by": "slice, and patient",
            "seed": ", and ".join(str(split.seed) for split in splits),
            "folds": "",
            "fold": by_patient.fold or "",
        },
        leak=_side_by_side(ours, theirs, sides),
    )
    return joined, (first, second)


def _check_trained(source: Source, split: Split) -> None:
    """Refuse a model whose card says that it was trained with another kind of split."""
    for trained in source.model.card.training_splits if source.model is not None else ():
        if (trained.get("by") == SLICE) != (split.by == SLICE):
            raise UsageError(
                f"{printable(source.notes[0].name)} was trained with a split by "
                f"{printable(str(trained.get('by')))}, and is to be scored with one by {split.by}",
                remedy="give the models in the order of their splits, each with its own",
            )


def _audited(request: Request, name: str, progress: Progress) -> Evaluation:
    """Score the test part, and call it by another name."""
    evaluation = evaluate(replace(request, parts=(TEST,)), progress)
    return replace(
        evaluation,
        parts=tuple(replace(part, part=name) for part in evaluation.parts),
        warnings=tuple(
            warning.replace(f"{TEST}: ", f"{name}: ", 1) for warning in evaluation.warnings
        ),
    )
