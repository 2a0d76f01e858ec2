"""What a split by slice is worth: the leak audit (evaluate).

In: two models, one trained on a split by slice and one by patient, each with its split. Out: one
`Evaluation` with both test parts side by side and the difference of each figure. Where slices are dealt
out at random, a network meets its test patients in training; what it gains by that it does not have on a
new patient. The two test parts hold different slices, so the difference's interval is that of two
independent samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gliosight.data.manifest import Manifest
from gliosight.data.split import SLICE, TEST, Split
from gliosight.errors import UsageError, printable
from gliosight.evaluate.bootstrap import DRAWS, difference
from gliosight.evaluate.evaluation import Evaluation, Leak, Progress, Request, evaluate
from gliosight.evaluate.predict import ModelSource, Source
from gliosight.evaluate.predictions import Predictions
from gliosight.evaluate.scores import Figure, PartScores

BY_SLICE, BY_PATIENT = "by_slice", "by_patient"
# What the tutorial and its like report, and the headline.
FIGURES = (
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


@dataclass(frozen=True)
class Side:
    """A model and the split it was trained with.

    Parameters
    ----------
    source : Source
    split : Split
    fold : str, optional
        Where the split has folds.
    """

    source: Source
    split: Split
    fold: str | None = None


@dataclass(frozen=True)
class Audit:
    """Both sides together, and each for itself (their predictions may be of the same patients)."""

    evaluation: Evaluation
    by_slice: Evaluation
    by_patient: Evaluation


def leak_audit(
    manifest: Manifest,
    by_slice: Side,
    by_patient: Side,
    *,
    seed: int = 1,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> Audit:
    """Score each model on the test part of its own split, and compare.

    Raises
    ------
    UsageError
        The splits are not one by slice and one by patient, or not those the models were trained with.
    """
    if by_slice.split.by != SLICE or by_patient.split.by == SLICE:
        raise UsageError(
            f"splits by {by_slice.split.by} and by {by_patient.split.by}",
            remedy="a leak audit takes one split by slice and one by patient",
        )
    for side in (by_slice, by_patient):
        _check_trained(side)
    # The same seed would draw both alike, as if they were paired.
    one = _score(manifest, by_slice, BY_SLICE, seed, draws, _half(progress, 0))
    other = _score(manifest, by_patient, BY_PATIENT, seed + 1, draws, _half(progress, 1))
    (part_one,), (part_other,) = one.parts, other.parts
    figures = {
        key: {
            BY_SLICE: found,
            BY_PATIENT: against,
            "difference": difference(found, against),
        }
        for key in FIGURES
        if (found := _of(part_one, key)) is not None
        and (against := _of(part_other, key)) is not None
    }
    joined = replace(
        one,
        parts=(part_one, part_other),
        models=(*one.models, *other.models),
        predictions=Predictions((), ()),
        warnings=(*one.warnings, *other.warnings),
        split={
            "by": "slice, and patient",
            "seed": f"{by_slice.split.seed}, and {by_patient.split.seed}",
            "folds": "",
            "fold": by_patient.fold or "",
        },
        leak=Leak(figures),
    )
    return Audit(joined, one, other)


def _check_trained(side: Side) -> None:
    """Refuse a model whose card says that it was trained with another kind of split."""
    if not isinstance(side.source, ModelSource):
        return
    for trained in side.source.model.card.training_splits:
        if (trained.get("by") == SLICE) != (side.split.by == SLICE):
            raise UsageError(
                f"{printable(side.source.notes[0].name)} was trained with a split by "
                f"{printable(str(trained.get('by')))}, and is to be scored with one by {side.split.by}",
                remedy="give the models in the order of their splits, each with its own",
            )


def _score(
    manifest: Manifest, side: Side, name: str, seed: int, draws: int, progress: Progress | None
) -> Evaluation:
    request = Request(
        manifest, [side.source], side.split, (TEST,), fold=side.fold, seed=seed, draws=draws
    )
    found = evaluate(request, progress)
    warnings = tuple(one.replace(f"{TEST}: ", f"{name}: ", 1) for one in found.warnings)
    parts = tuple(replace(one, part=name) for one in found.parts)
    return replace(found, parts=parts, warnings=warnings)


def _half(progress: Progress | None, half: int) -> Progress | None:
    """One bar for both."""
    if progress is None:
        return None
    return lambda done, total: progress(done + half * total, 2 * total)


def _of(part: PartScores, key: str) -> Figure | None:
    found = part.localization.get(key) or part.detection.get(key)
    return found if found is not None and found.value is not None else None
