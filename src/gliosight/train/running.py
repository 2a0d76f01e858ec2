"""A whole training, from a manifest to a model (training bench).

`train` is what ``gliosight train`` does: read, pack, record, fit, export. `fit_parts` says who is learnt
from: the train part of the split; and the validation part as well, where the recipe chooses nothing by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gliosight.analysis import Progress
from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import TRAIN, VALIDATION, Split
from gliosight.errors import CannotWriteError, UsageError
from gliosight.train.checkpoints import LAST
from gliosight.train.export import export_run
from gliosight.train.fitting import Fitted, Machine, fit, is_main_process
from gliosight.train.packed import is_packed, pack, rows_of
from gliosight.train.progress import say
from gliosight.train.recipe import Recipe
from gliosight.train.run import (
    RECORD,
    WEIGHTS,
    check_same,
    make_record,
    read_record,
    seen_by_weights,
    write_record,
)


@dataclass(frozen=True)
class Order:
    """What is asked of a training.

    Parameters
    ----------
    preset : str
        Where the recipe comes from, for the record.
    recipe : Recipe
    manifest : Manifest
    split : Split or None
        ``None``: all patients are trained on.
    fold : str or None
        With a split into folds.
    run, cache : Path
        The run's folder, and where packed slices are kept.
    initial : Path or None
        Weights to start from.
    resume : bool
    machine : Machine
    """

    preset: str
    recipe: Recipe
    manifest: Manifest
    split: Split | None
    fold: str | None
    run: Path
    cache: Path
    initial: Path | None = None
    resume: bool = False
    machine: Machine = field(default_factory=Machine)


def train(
    order: Order, packing: Callable[[], AbstractContextManager[Progress | None]] = nullcontext
) -> Path:
    """Train, and return the path of the model's card.

    Parameters
    ----------
    order : Order
    packing : callable
        Makes a context whose value is called with the number of patients packed, and of all.

    Raises
    ------
    UsageError
        The run is there already, or would be resumed as another one; see also
        `gliosight.train.fitting.fit`.
    CannotWriteError
        The disk is full or the folder forbidden; the last checkpoint stays.
    FloatingPointError
    KeyboardInterrupt
    """
    main = is_main_process()
    if main:
        _check_run(order)
    if order.initial is not None and seen_by_weights(order.initial) is None:
        warnings.warn(
            "nothing beside the starting weights says which patients they were trained on: these "
            "patients will count as unseen when the model is evaluated",
            stacklevel=1,
        )
    parts = fit_parts(order.manifest, order.split, order.fold, order.recipe)
    learnt = [row.patient for row in parts[TRAIN]]
    say(f"data: {len(learnt):,} slices of {len(set(learnt)):,} patients to train on")
    if not is_packed(order.cache, order.manifest):
        say(f"packing {len(order.manifest.patients):,} patients, once for all runs")
    with packing() as progress:
        slices = pack(order.manifest, order.cache, progress)
    record = make_record(
        preset=order.preset,
        recipe=order.recipe,
        manifest=order.manifest,
        split=order.split,
        fold=order.fold,
        patients={part: {row.patient for row in rows} for part, rows in parts.items()},
        slices={part: len(rows) for part, rows in parts.items()},
        initial=order.initial,
        machine=asdict(order.machine),
    )
    rows = {part: rows_of(order.manifest, chosen) for part, chosen in parts.items()}
    try:
        if main:
            order.run.mkdir(parents=True, exist_ok=True)
            if order.resume and (order.run / RECORD).is_file():
                check_same(read_record(order.run), record)
            write_record(order.run, record)
        fitted = fit(
            slices,
            rows,
            order.recipe,
            order.run,
            initial=order.initial,
            resume=order.resume,
            machine=order.machine,
        )
        if main:
            record["outcome"] = outcome_of(fitted)
            write_record(order.run, record)
            say("export: writing the model, and comparing it with torch")
            return export_run(order.run, order.run, "model")
    except OSError as error:
        if isinstance(error, CannotWriteError):
            raise
        raise CannotWriteError(
            f"the run cannot be written: {error.strerror or error}",
            where=order.run.name,
            remedy="free some space and go on with --resume",
        ) from error
    return order.run / "model.json"


def fit_parts(
    manifest: Manifest, split: Split | None, fold: str | None, recipe: Recipe
) -> dict[str, tuple[SliceRow, ...]]:
    """The slices to learn from, and those to select by where the recipe selects."""
    if split is None:
        if fold is not None:
            raise UsageError("--fold without --split", remedy="give the split's file")
        if recipe.patience:
            raise UsageError(
                f"patience is {recipe.patience}, and there is no split to validate on",
                remedy="give --split, or --set patience=0",
            )
        return {TRAIN: manifest.used}
    parts = split.rows(manifest, fold)
    if recipe.patience:
        return {TRAIN: parts[TRAIN], VALIDATION: parts[VALIDATION]}
    # Nothing is selected by these slices, so nothing speaks against learning from them.
    return {TRAIN: _in_order(manifest, (*parts[TRAIN], *parts[VALIDATION]))}


def outcome_of(fitted: Fitted) -> dict[str, Any]:
    """What came of the fitting, for the record."""
    return {
        "steps": fitted.steps,
        "validation_loss": fitted.best_loss,
        "started_from": fitted.started_from,
        "precision": fitted.precision,
        "seconds": round(fitted.seconds, 1),
    }


def _in_order(manifest: Manifest, rows: Iterable[SliceRow]) -> tuple[SliceRow, ...]:
    wanted = {row.key for row in rows}
    return tuple(row for row in manifest.used if row.key in wanted)


def _check_run(order: Order) -> None:
    if order.run.exists() and not order.run.is_dir():
        raise UsageError("it is a file", where=order.run.name, remedy="choose another -o")
    if (order.run / WEIGHTS).exists():
        raise UsageError("the run is finished", where=order.run.name, remedy="choose another -o")
    begun = (order.run / LAST).exists() or (order.run / RECORD).exists()
    if begun and not order.resume:
        raise UsageError(
            "the run has begun",
            where=order.run.name,
            remedy="go on with --resume, or choose another -o",
        )
