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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from gliosight.analysis import Progress
from gliosight.data.split import SLICE, TEST
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate
from gliosight.evaluate.figures import DRAWS, Figures, difference, draw
from gliosight.evaluate.localization import SliceTable, dice_by_patient
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.record import RECORD, SLICES, figures_record, rounded
from gliosight.evaluate.scoring import PartScores, short_figures

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


def _side_by_side(first: Figures, second: Figures, sides: Sequence[str]) -> dict[str, Figures]:
    """The figures both have, by key: each side's, and the difference."""
    return {
        key: {
            sides[0]: figure,
            sides[1]: second[key],
            "difference": difference(figure, second[key]),
        }
        for key, figure in first.items()
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
    UsageError
        There are none.
    DamagedInputError
        Their truths differ.
    """
    common = sorted((first.tables.keys() & second.tables.keys()) - first.seen - second.seen)
    if not common:
        raise UsageError(
            "no patient that both have and neither has seen",
            remedy="compare evaluations of the same part of the same data",
        )
    pairs = [_paired(name, first.tables[name], second.tables[name]) for name in common]
    ours, theirs = zip(*pairs, strict=True)
    drawn = draw(len(common), seed=seed, draws=draws)
    masks = first.draws_masks and second.draws_masks
    away = dice_by_patient(ours) - dice_by_patient(theirs)
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
        "dice": {
            "wins": comparison.wins,
            "losses": comparison.losses,
            "ties": comparison.ties,
            "wilcoxon_p": comparison.wilcoxon_p,
        },
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
    """One side, from the folder of an evaluation.

    Parameters
    ----------
    part : str, optional
        Which of its parts, where there are several.

    Raises
    ------
    NothingReadableError
        It is no evaluation.
    UsageError
        It has several parts, or not this one.
    DamagedInputError
    """
    name = printable(folder.name)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        with (folder / SLICES).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        parts = {entry["part"]: entry for entry in record["parts"]}
        chosen = _choose_part(name, list(parts), part)
        by_patient: dict[str, list[Mapping[str, str]]] = {}
        for row in rows:
            if row["part"] == chosen:
                by_patient.setdefault(row["patient"], []).append(row)
        return Side(
            name=name,
            tables={patient: _table(own) for patient, own in by_patient.items()},
            seen=frozenset(
                str(patient["patient"])
                for patient in parts[chosen]["per_patient"]
                if patient["seen"]
            ),
            draws_masks=bool(parts[chosen]["localization"]),
        )
    except OSError as error:
        raise NothingReadableError(
            "no evaluation there",
            where=name,
            remedy="give the folder that gliosight evaluate has written, or predictions and --data",
        ) from error
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


def _table(rows: list[Mapping[str, str]]) -> SliceTable:
    """A patient's rows of per_slice.csv."""
    numbers, truth, predicted, both = (
        np.array([int(row[column]) for row in rows], dtype=np.int64)
        for column in ("number", "truth_px", "predicted_px", "both_px")
    )
    texts = [row["probability"] for row in rows]
    probability = np.array([float(text) for text in texts]) if all(texts) else None
    called = np.array([row["called"] == "1" for row in rows])
    return SliceTable(numbers, truth, predicted, both, called, probability)


def _paired(name: str, first: SliceTable, second: SliceTable) -> tuple[SliceTable, SliceTable]:
    """The slices both have."""
    numbers = np.intersect1d(first.numbers, second.numbers)
    ours, theirs = _among(first, numbers), _among(second, numbers)
    if not np.array_equal(ours.truth_px, theirs.truth_px):
        raise DamagedInputError(
            f"the two were scored against different masks of {printable(name)}",
            remedy="evaluate both on the same manifest",
        )
    return ours, theirs


def _among(table: SliceTable, numbers: NDArray[np.int64]) -> SliceTable:
    inside = np.isin(table.numbers, numbers)
    columns: dict[str, Any] = {
        name: None if values is None else values[inside] for name, values in vars(table).items()
    }
    return SliceTable(**columns)


def leak_audit(
    by_slice: Request, by_patient: Request, progress: Progress | None = None
) -> tuple[Evaluation, tuple[Evaluation, Evaluation]]:
    """Score each model on the test part of its own split, and compare.

    Parameters
    ----------
    by_slice, by_patient : Request
        Of one model and the split it was trained with.

    Returns
    -------
    tuple
        Both as one `Evaluation`, and each for itself: their predictions may be of the same patients.

    Raises
    ------
    UsageError
        The splits are not one by slice and one by patient, or not those the models were trained with.
    """
    splits = [request.split for request in (by_slice, by_patient) if request.split is not None]
    if [split.by == SLICE for split in splits] != [True, False]:
        raise UsageError(
            f"splits by {' and by '.join(split.by for split in splits)}",
            remedy="a leak audit takes one split by slice and one by patient",
        )
    for request in (by_slice, by_patient):
        _check_trained(request)
    first = _audited(by_slice, "by_slice", _half(progress, 0))
    # The same seed would draw both alike, as if they were paired.
    second = _audited(
        replace(by_patient, seed=by_patient.seed + 1), "by_patient", _half(progress, 1)
    )
    first_figures, second_figures = (
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
        leak=_side_by_side(first_figures, second_figures, ("by_slice", "by_patient")),
    )
    return joined, (first, second)


def _check_trained(request: Request) -> None:
    """Refuse a model whose card says that it was trained with another kind of split."""
    (source,), split = request.sources, request.split
    if source.model is None or split is None:
        return
    for trained in source.model.card.training_splits:
        if (trained.get("by") == SLICE) != (split.by == SLICE):
            raise UsageError(
                f"{printable(source.notes[0].name)} was trained with a split by "
                f"{printable(str(trained.get('by')))}, and is to be scored with one by {split.by}",
                remedy="give the models in the order of their splits, each with its own",
            )


def _audited(request: Request, name: str, progress: Progress | None) -> Evaluation:
    """Score the test part, and call it by another name."""
    evaluation = evaluate(replace(request, parts=(TEST,)), progress)
    return replace(
        evaluation,
        parts=tuple(replace(part, part=name) for part in evaluation.parts),
        warnings=tuple(
            warning.replace(f"{TEST}: ", f"{name}: ", 1) for warning in evaluation.warnings
        ),
    )


def _half(progress: Progress | None, half: int) -> Progress | None:
    """One bar for both."""
    if progress is None:
        return None
    return lambda stage, done, total: progress(stage, done + half * total, 2 * total)
