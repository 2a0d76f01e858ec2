"""A whole training, from a manifest to a model (training bench).

::

    RUN/
      run.json             recipe, versions, data and split, patients, machine, outcome
      last.ckpt            where --resume goes on
      best.ckpt            lowest validation loss, where there is a validation part
      precision.txt        number format, and the speeds it was chosen by
      history.csv          what was measured, epoch by epoch
      run.html             the same to look at, with the recipe, the network and examples
      log/                 for TensorBoard
      weights.safetensors  at the end
      model.json, .onnx    at the end: the run as a model that analyze and evaluate take
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import lightning.fabric  # noqa: F401 - where it is missing, that is said before slices are packed
import numpy as np

from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import TRAIN, VALIDATION, Split
from gliosight.errors import CannotWriteError, UsageError, printable
from gliosight.train.display import is_main_process, packing_progress, say
from gliosight.train.export import export_run
from gliosight.train.loop import LAST, fit
from gliosight.train.networks import start_network
from gliosight.train.packed import is_packed, pack, rows_of
from gliosight.train.page import PAGE, RunPage
from gliosight.train.recipe import Recipe
from gliosight.train.record import (
    RECORD,
    WEIGHTS,
    Machine,
    check_same,
    make_record,
    patients_seen,
    read_record,
    write_record,
)
from gliosight.write.words import count_words

FREE_SPACE = "free some space and go on with --resume"


def train(
    *,
    preset: str,
    recipe: Recipe,
    manifest: Manifest,
    split: Split | None,
    fold: str | None,
    run: Path,
    cache: Path,
    initial: Path | None = None,
    resume: bool = False,
    machine: Machine | None = None,
) -> Path:
    """Read, pack, record, train and export; return the path of the model's card.

    Parameters
    ----------
    preset : str
        Where the recipe comes from, for the record.
    split, fold
        Without a split all patients are trained on; ``fold`` belongs to a split into folds.
    run, cache : Path
        The run's folder, and where packed slices are kept.
    initial : Path, optional
        Weights to start from.

    Raises
    ------
    UsageError
        The run is there already, or differs from the one to resume; see also `gliosight.train.loop.fit`.
    ModelError, NothingReadableError, DamagedInputError
        The weights it starts from cannot be had.
    CannotWriteError
        The disk is full or the folder forbidden; the last checkpoint stays.
    FloatingPointError
        A loss became NaN.
    """
    machine = machine or Machine()
    if is_main_process():
        _check_folder(run, resume=resume)
    if initial is not None and patients_seen(initial) is None:
        warnings.warn(
            "nothing beside the starting weights lists the patients they were trained on: these "
            "patients will count as unseen when the model is evaluated",
            stacklevel=1,
        )
    finished = resume and (run / WEIGHTS).is_file()
    begun = finished or (resume and (run / LAST).is_file())
    if initial is None and not begun:
        _check_start(recipe)
    parts = fit_parts(manifest, split, fold, recipe)
    say(f"data: {data_words(parts[TRAIN], recipe)}")
    record = make_record(
        preset=preset,
        recipe=recipe,
        manifest=manifest,
        split=split,
        fold=fold,
        parts=parts,
        initial=initial,
        machine=machine,
    )
    if finished:
        check_same(read_record(run), record)
        return _finished(run)
    if recipe.sampling.patients:
        manifest = only_patients_of(manifest, parts)
        cache = cache.with_name(f"{cache.name}-{manifest.sha256[:16]}")
    if not is_packed(cache, manifest):
        say(f"packing {count_words(len(manifest.patients), 'patient')}, once for all runs")
    with packing_progress(len(manifest.patients)) as progress:
        slices = pack(manifest, cache, progress)
    rows = {part: rows_of(manifest, chosen) for part, chosen in parts.items()}
    with _writing(run, FREE_SPACE):
        if is_main_process():
            run.mkdir(parents=True, exist_ok=True)
            if resume and (run / RECORD).is_file():
                check_same(read_record(run), record)
            write_record(run, record)
        outcome = fit(
            slices,
            rows,
            recipe,
            run,
            initial=initial,
            resume=resume,
            machine=machine,
            show=RunPage(run, record, recipe),
        )
    if is_main_process():
        with _writing(run, FREE_SPACE):
            write_record(run, record | {"outcome": asdict(outcome)})
        _export(run)
    return run / "model.json"


def _check_start(recipe: Recipe) -> None:
    """Raise before slices are packed if the weights that a run starts from cannot be had."""
    if recipe.start != "scratch":  # they may have to be fetched, which takes a while
        say(f"network: {recipe.network}, looking for the weights it starts from")
    _, started_from = start_network(recipe)
    say(f"network: {recipe.network}, starts from {started_from}")


def data_words(rows: Sequence[SliceRow], recipe: Recipe) -> str:
    """How many of the training part's slices the recipe uses."""
    used = [row for row in rows if row.tumour or recipe.sampling.slices == "all"]
    patients = count_words(len({row.patient for row in used}), "patient")
    if recipe.sampling.slices == "all":
        return f"{count_words(len(used), 'slice')} of {patients} to train on"
    slices = count_words(len(used), "tumour slice")
    rest = len(rows) - len(used)
    return f"{slices} of {patients} to train on; this recipe leaves out {rest:,} without tumour"


def _finished(run: Path) -> Path:
    if not (run / "model.json").is_file():  # its export was cut off
        return _export(run)
    say("the run is finished: there is nothing left to do")
    return run / "model.json"


def _export(run: Path) -> Path:
    with _writing(run, FREE_SPACE):
        say("export: writing the model, and comparing it with torch")
        export_run(run, run, "model")
        say(f"what was measured, to look at: {printable(str(run / PAGE))}")
    return run / "model.json"


def only_patients_of(manifest: Manifest, parts: Mapping[str, tuple[SliceRow, ...]]) -> Manifest:
    """The manifest of the patients that are used, so that no others are packed."""
    used = {row.patient for rows in parts.values() for row in rows}
    return Manifest(tuple(row for row in manifest.rows if row.patient in used), manifest.folder)


@contextmanager
def _writing(run: Path, remedy: str) -> Iterator[None]:
    """Say what to do for the run where it cannot be written."""
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if isinstance(error, CannotWriteError) else error
        if cause is None:  # not the system's: somebody else writes there
            raise
        raise CannotWriteError(
            f"the run cannot be written: {getattr(cause, 'strerror', None) or cause}",
            where=run.name,
            remedy=remedy,
        ) from error


def fit_parts(
    manifest: Manifest, split: Split | None, fold: str | None, recipe: Recipe
) -> dict[str, tuple[SliceRow, ...]]:
    """The slices to learn from, and those to select by where the recipe selects."""
    parts = _all_parts(manifest, split, fold, recipe)
    if not recipe.sampling.patients:
        return parts
    # One order for all parts, so that those of a split by slice share their patients, as the whole ones do.
    names = sorted(manifest.patients)
    order = np.random.default_rng((recipe.seed, 3)).permutation(len(names))
    ranks = {names[index]: rank for rank, index in enumerate(order)}
    fewer = {}
    for part, rows in parts.items():
        there = sorted({row.patient for row in rows}, key=lambda name: ranks[name])
        chosen = set(there[: recipe.sampling.patients])
        fewer[part] = tuple(row for row in rows if row.patient in chosen)
    return fewer


def _all_parts(
    manifest: Manifest, split: Split | None, fold: str | None, recipe: Recipe
) -> dict[str, tuple[SliceRow, ...]]:
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
    # Nothing is selected by the validation part, so the network may learn from it.
    keys = {row.key for part in (TRAIN, VALIDATION) for row in parts[part]}
    return {TRAIN: tuple(row for row in manifest.used if row.key in keys)}


def _check_folder(run: Path, *, resume: bool) -> None:
    if run.exists() and not run.is_dir():
        problem, remedy = "it is a file", "choose another -o"
    elif (run / WEIGHTS).exists() and not resume:
        problem, remedy = "the run is finished", "choose another -o"
    elif not resume and ((run / LAST).exists() or (run / RECORD).exists()):
        problem, remedy = "the run has begun", "go on with --resume, or choose another -o"
    else:
        return
    raise UsageError(problem, where=run.name, remedy=remedy)
