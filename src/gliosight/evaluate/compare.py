"""Two models on the same patients (evaluate).

In: two evaluations (folders) or two files of predictions with their data. Out: a `Comparison`: the paired
difference of the headline figures, wins and losses by patient, and Wilcoxon's signed-rank test of Dice.
Patients that one of the two has seen, or does not know, are left out; what is left is counted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.evaluate.bootstrap import DRAWS, Bootstrap, difference, draw
from gliosight.evaluate.detection import slices_of, threshold_figures
from gliosight.evaluate.localization import overlap_of
from gliosight.evaluate.ranking import ranked_figures
from gliosight.evaluate.record import RECORD, SLICE_COLUMNS, SLICES
from gliosight.evaluate.scores import Figure, Figures, PartScores, SliceTable

# Dice that differs by less is a tie.
TIE = 0.001


@dataclass(frozen=True)
class Side:
    """One of the two.

    Parameters
    ----------
    name : str
    tables : mapping of str to SliceTable
        By patient.
    seen : frozenset of str
        Patients of the training.
    draws_masks : bool
    """

    name: str
    tables: Mapping[str, SliceTable]
    seen: frozenset[str]
    draws_masks: bool


@dataclass(frozen=True)
class Comparison:
    """What differs.

    Parameters
    ----------
    names : tuple of str
    patients : tuple of str
        Compared.
    left_out : int
        Patients that only one of the two has, or that one of them has seen.
    slices : int
    figures : mapping of str to mapping of str to Figure
        By key: ``a``, ``b`` and ``difference`` (a minus b).
    wins, losses, ties : int
        Patients in whom the first has the better Dice, the worse, and one within `TIE`.
    wilcoxon_p : float or None
        Two-sided, of Dice by patient; ``None`` where all are equal or nothing is drawn.
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


def compare(one: Side, other: Side, *, seed: int = 1, draws: int = DRAWS) -> Comparison:
    """Compare two models on the patients both have and neither has seen.

    Raises
    ------
    UsageError
        There are none.
    DamagedInputError
        Their truths differ.
    """
    everyone = {**one.tables, **other.tables}
    common = sorted((one.tables.keys() & other.tables.keys()) - one.seen - other.seen)
    if not common:
        raise UsageError(
            "no patient that both have and neither has seen",
            remedy="compare evaluations of the same part of the same data",
        )
    pairs = [_paired(name, one.tables[name], other.tables[name]) for name in common]
    drawn = draw(len(common), seed=seed, draws=draws)
    masks = one.draws_masks and other.draws_masks
    found = [_figures([pair[k] for pair in pairs], drawn, masks=masks) for k in (0, 1)]
    first, second = (_dice([pair[k] for pair in pairs]) for k in (0, 1))
    both = np.isfinite(first) & np.isfinite(second)
    away = (first - second)[both] if masks else np.empty(0)
    return Comparison(
        names=(one.name, other.name),
        patients=tuple(common),
        left_out=len(everyone) - len(common),
        slices=sum(len(pair[0].numbers) for pair in pairs),
        figures={
            key: {
                "a": found[0][key],
                "b": found[1][key],
                "difference": difference(found[0][key], found[1][key]),
            }
            for key in found[0]
            if key in found[1]
        },
        wins=int((away > TIE).sum()),
        losses=int((away < -TIE).sum()),
        ties=int((np.abs(away) <= TIE).sum()),
        wilcoxon_p=float(wilcoxon(away).pvalue) if away.any() else None,
    )


def comparison_record(found: Comparison) -> dict[str, Any]:
    """A comparison as a JSON value."""

    def said(figure: Figure) -> dict[str, Any]:
        values = {"value": figure.value, "low": figure.low, "high": figure.high}
        return {k: None if v is None else round(v, 6) + 0.0 for k, v in values.items()} | {
            "n": figure.n
        }

    return {
        "a": found.names[0],
        "b": found.names[1],
        "patients": list(found.patients),
        "patients_left_out": found.left_out,
        "slices": found.slices,
        "figures": {
            key: {name: said(one) for name, one in values.items()}
            for key, values in found.figures.items()
        },
        "dice": {
            "wins": found.wins,
            "losses": found.losses,
            "ties": found.ties,
            "wilcoxon_p": found.wilcoxon_p,
        },
    }


def side_of_part(name: str, part: PartScores) -> Side:
    """One side, from an evaluation that has just been made."""
    return Side(
        name=name,
        tables={one.patient: table for one, table in zip(part.patients, part.tables, strict=True)},
        seen=frozenset(one.patient for one in part.patients if one.seen),
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
        Which part?
    DamagedInputError
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        with (folder / SLICES).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise NothingReadableError(
            "no evaluation there",
            where=printable(folder.name),
            remedy="give the folder that gliosight evaluate has written, or predictions and --data",
        ) from error
    except ValueError as error:
        raise _damaged(folder) from error
    try:
        parts = {one["part"]: one for one in record["parts"]}
        chosen = _chosen_part(printable(folder.name), list(parts), part)
        return Side(
            name=printable(folder.name),
            tables=_tables(row for row in rows if row["part"] == chosen),
            seen=frozenset(
                str(one["patient"]) for one in parts[chosen]["per_patient"] if one["seen"]
            ),
            draws_masks=bool(parts[chosen]["localization"]),
        )
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder) from error


def _chosen_part(name: str, parts: list[str], wanted: str | None) -> str:
    if wanted is None and len(parts) == 1:
        return parts[0]
    if wanted not in parts:
        what = "has the parts" if wanted is None else f"has no part {wanted}, only"
        raise UsageError(f"{name} {what} {', '.join(parts)}", remedy="say which with --part")
    return wanted


def _damaged(folder: Path) -> DamagedInputError:
    return DamagedInputError(
        "the evaluation is damaged", where=printable(folder.name), remedy="evaluate again"
    )


def _tables(rows: Iterable[Mapping[str, str]]) -> dict[str, SliceTable]:
    by_patient: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient"], []).append(row)
    counts = [
        one for one in SLICE_COLUMNS if one in ("number", "truth_px", "predicted_px", "both_px")
    ]
    tables = {}
    for name, found in by_patient.items():
        number, truth, predicted, both = (
            np.array([int(row[column]) for row in found], dtype=np.int64) for column in counts
        )
        said = [row["probability"] for row in found]
        probability = np.array([float(one) for one in said]) if all(said) else None
        called = np.array([row["called"] == "1" for row in found])
        tables[name] = SliceTable(number, truth, predicted, both, called, probability)
    return tables


def _paired(name: str, one: SliceTable, other: SliceTable) -> tuple[SliceTable, SliceTable]:
    """The slices both have."""
    numbers = np.intersect1d(one.numbers, other.numbers)
    first, second = _chosen(one, numbers), _chosen(other, numbers)
    if not np.array_equal(first.truth_px, second.truth_px):
        raise DamagedInputError(
            f"the two were scored against different masks of {printable(name)}",
            remedy="evaluate both on the same manifest",
        )
    return first, second


def _chosen(table: SliceTable, numbers: NDArray[np.int64]) -> SliceTable:
    inside = np.isin(table.numbers, numbers)
    probability = table.probability
    return SliceTable(
        table.numbers[inside],
        table.truth_px[inside],
        table.predicted_px[inside],
        table.both_px[inside],
        table.called[inside],
        None if probability is None else probability[inside],
    )


def _figures(tables: list[SliceTable], drawn: Bootstrap, *, masks: bool) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if masks:
        dice = _dice(tables)
        figures |= {"dice_mean": drawn.mean(dice), "dice_median": drawn.median(dice)}
    slices = slices_of(tables)
    if (ranked := slices.ranked()) is not None:
        figures["slice_auc"] = ranked_figures(ranked, drawn)["slice_auc"]
    threshold = threshold_figures(slices, drawn)
    return figures | {
        key: threshold[key] for key in ("slice_accuracy", "slice_sensitivity", "slice_specificity")
    }


def _dice(tables: list[SliceTable]) -> NDArray[np.float64]:
    sums = [(one.truth_px.sum(), one.predicted_px.sum(), one.both_px.sum()) for one in tables]
    dice = [overlap_of(int(true), int(marked), int(both)).dice for true, marked, both in sums]
    return np.array([np.nan if one is None else one for one in dice])
