"""Evaluation from top to bottom: data, models, parts, scores (evaluate).

Each patient is read once, predicted, scored and reduced to counts before the next one is read, so that a data
set of any size fits into memory. *Scored* slices are those of the part of the split that is scored; a *seen*
patient is one the model was trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from gliosight.analysis import Progress
from gliosight.data.manifest import Manifest, SliceRow
from gliosight.data.split import PARTS, SLICE, TEST, TRAIN, Split
from gliosight.data.studies import read_labelled
from gliosight.errors import NothingReadableError, UsageError
from gliosight.evaluate.baselines import BaselinePatient, Fold, Part, Rows, baseline_tables, look_at
from gliosight.evaluate.figures import DRAWS, Figures
from gliosight.evaluate.mask_metrics import PatientScore, score_patient
from gliosight.evaluate.predictions import ModelNote, Prediction, Predictions, patient_hash
from gliosight.evaluate.scoring import PartScores, score_part
from gliosight.evaluate.sources import Source

ALL = "all"
NO_SPLIT = "none"
# Below this many patients an interval by bootstrap is too narrow to be believed.
FEW = 10


@dataclass(frozen=True)
class Evaluation:
    """All scores of one or several models on one data set.

    ``predictions`` are of all patients that were scored. ``warnings`` are what the reader has to know before
    believing a figure, a sentence each. ``split`` describes the split in words, empty without one; ``seed``
    and ``draws`` are the bootstrap's. ``leak``, of a leak audit, has figures by key and side: ``by_slice``,
    ``by_patient`` and ``difference``.
    """

    parts: tuple[PartScores, ...]
    models: tuple[ModelNote, ...]
    predictions: Predictions
    warnings: tuple[str, ...]
    manifest_sha256: str
    split: Mapping[str, str]
    seed: int
    draws: int
    leak: Mapping[str, Figures] | None = None


@dataclass(frozen=True)
class Request:
    """What to evaluate: one source, or one for each fold of the split, in its order.

    ``parts`` are those of the split, or ``all``; ``fold`` is one of a split with folds; ``seed`` and
    ``draws`` are the bootstrap's.
    """

    manifest: Manifest
    sources: Sequence[Source]
    split: Split | None = None
    parts: Sequence[str] = (TEST,)
    fold: str | None = None
    seed: int = 1
    draws: int = DRAWS

    @property
    def models(self) -> tuple[ModelNote, ...]:
        """Of all sources."""
        return tuple(note for source in self.sources for note in source.notes)


def evaluate(request: Request, progress: Progress | None = None) -> Evaluation:
    """Predict and score.

    Raises
    ------
    UsageError
        Models, split, parts and folds that do not fit together.
    GliosightError
        A study that cannot be read, a missing prediction.
    """
    manifest, split = request.manifest, request.split
    warnings = _check_truth(manifest)
    parts = parts_of(request)
    patients, predictions, scores = _read_all(request, parts, progress or silent)
    scored_parts = []
    for part in parts:
        of_part = [scores[part.name, name] for name in part.patients]
        tables = {score.patient: score.table for score in of_part}
        scored = score_part(
            part,
            of_part,
            baseline_tables(part, patients, tables),
            draws_masks=all(note.draws for note in request.models),
            seed=request.seed,
            draws=request.draws,
        )
        scored_parts.append(scored)
        warnings += _part_warnings(part, scored)
    entries = [predictions[name] for name in manifest.patients if name in predictions]
    if len(request.sources) > 1:
        entries.sort(key=lambda entry: entry.model)
    described = {}
    if split is not None:
        described = {
            "by": split.by,
            "seed": str(split.seed),
            "folds": ", ".join(split.groups) if split.has_folds else "",
            "fold": request.fold or ("all, pooled" if split.has_folds else ""),
        }
    return Evaluation(
        parts=tuple(scored_parts),
        models=request.models,
        predictions=Predictions(request.models, tuple(entries)),
        warnings=(*warnings, *_source_warnings(request)),
        manifest_sha256=manifest.sha256,
        split=described,
        seed=request.seed,
        draws=request.draws,
    )


def silent(_stage: str, _done: int, _total: int) -> None:
    """Show no progress."""


def _read_all(
    request: Request, parts: Sequence[Part], progress: Progress
) -> tuple[dict[str, BaselinePatient], dict[str, Prediction], dict[tuple[str, str], PatientScore]]:
    """Read each patient once; predict and score those that are scored: by part and patient."""
    manifest, sources = request.manifest, request.sources
    # A model may have seen a person by another name.
    seen_people = [
        {manifest.person_of(name) for name in manifest.patients if patient_hash(name) in seen}
        for seen in (source.seen or () for source in sources)
    ]
    names = tuple(dict.fromkeys(name for part in parts for name in part.needed))
    done, total = 0, sum(len(manifest.by_patient[name]) for name in names)
    patients: dict[str, BaselinePatient] = {}
    predictions: dict[str, Prediction] = {}
    scores: dict[tuple[str, str], PatientScore] = {}
    for name in names:
        rows = manifest.by_patient[name]
        labelled = read_labelled(manifest, name, check=True)
        patients[name] = look_at(labelled, rows)
        geometry = labelled.study.geometry
        spacing = None
        if geometry is not None and geometry.slice_spacing is not None:
            spacing = (geometry.slice_spacing, *geometry.spacing)
        scored_in = [
            (part, index, fold.scored[name])
            for part in parts
            for index, fold in enumerate(part.folds)
            if name in fold.scored
        ]
        for part, index, scored in scored_in:
            if name not in predictions:
                # Each of several sources predicts the patients of its own fold.
                k = index if len(sources) > 1 else 0
                study = replace(labelled.study, study_id=name)
                within = _within(progress, done, len(rows), total)
                prediction = sources[k].predict(study, rows, within)
                predictions[name] = replace(
                    prediction,
                    seen=manifest.person_of(name) in seen_people[k],
                    model=prediction.model + sum(len(source.notes) for source in sources[:k]),
                )
            scores[part.name, name] = score_patient(
                predictions[name],
                labelled.truth,
                rows,
                np.isin([row.number for row in rows], [row.number for row in scored]),
                spacing,
                # With a split by slice all patients are on both sides; a warning says so instead.
                seen=predictions[name].seen and not part.by_slice,
            )
        done += len(rows)
        progress("evaluate", done, total)
    return patients, predictions, scores


def parts_of(request: Request) -> tuple[Part, ...]:
    """The parts to score, without the patients whose truth is not known.

    Raises
    ------
    UsageError
        Models, parts or folds that do not fit together; nothing in a part.
    NothingReadableError
        No patient of a part has masks.
    """
    split, source, manifest = request.split, request.sources[0], request.manifest
    folds = tuple(split.groups) if split is not None and split.has_folds else ()
    _check_models(request, folds)
    scorable = _with_truth(manifest)
    if split is None:
        if request.fold is not None:
            raise UsageError("--fold without --split", remedy="give the split the fold is of")
        if source.patients is not None:
            scorable &= source.patients  # a file is scored on what it was made for
        return (_part(ALL, NO_SPLIT, [{ALL: manifest.used, TRAIN: ()}], scorable),)
    if folds and request.fold is None:
        if tuple(request.parts) != (TEST,):
            remedy = "leave out --part, or choose one fold with --fold"
            raise UsageError("several folds are pooled over their test parts only", remedy=remedy)
        return (_part(TEST, split.by, [split.rows(manifest, fold) for fold in folds], scorable),)
    rows = split.rows(manifest, request.fold)
    names = tuple(dict.fromkeys(request.parts))
    if ALL in names:  # then the split may leave a part empty
        names = tuple(name for name in PARTS if rows[name])
    return tuple(_part(name, split.by, [rows], scorable) for name in names)


def _check_models(request: Request, folds: Sequence[str]) -> None:
    """Refuse models that are not one for each fold, or one of a known fold."""
    count, names = len(request.sources), ", ".join(folds)
    one_of_all = count == 1 and request.sources[0].model is not None
    if count > 1 and not folds:
        what = "models without a split by folds"
        remedy = "give one model, or --split with a fold for each"
    elif count > 1 and request.fold is not None:
        what, remedy = "models and --fold", "give the model of that fold alone"
    elif count > 1 and count != len(folds):
        what = f"models for {len(folds)} folds"
        remedy = f"give one for each of {names}, in this order"
    elif one_of_all and folds and request.fold is None:
        what = "model and a split by folds"
        remedy = f"say with --fold which it was trained without, one of {names}"
    else:
        return
    raise UsageError(f"{count} {what}", remedy=remedy)


def _part(
    name: str, by: str, runs: Sequence[Mapping[str, Rows]], scorable: Collection[str]
) -> Part:
    """A part of one run, or of several pooled; ``runs`` are the rows of each by part."""
    if not any(rows[name] for rows in runs):
        raise UsageError(
            f"the part {name} holds no patient", remedy="choose another --part or split anew"
        )
    folds = []
    for rows in runs:
        training = None if name == TRAIN else _by_patient(rows[TRAIN], scorable)
        folds.append(Fold(_by_patient(rows[name], scorable), training or None))
    part = Part(name, by, tuple(folds))
    if not part.patients:
        remedy = "they lack masks, or the predictions are of others"
        raise NothingReadableError(f"no patient of the part {name} can be scored", remedy=remedy)
    return part


def _by_patient(rows: Sequence[SliceRow], scorable: Collection[str]) -> dict[str, Rows]:
    groups = groupby(rows, lambda row: row.patient)
    return {name: tuple(group) for name, group in groups if name in scorable}


def _with_truth(manifest: Manifest) -> set[str]:
    patients = manifest.by_patient.items()
    return {name for name, rows in patients if all(row.has_truth for row in rows)}


def _check_truth(manifest: Manifest) -> list[str]:
    """Refuse data without any truth; warn of what cannot be scored."""
    lacking = len(manifest.patients) - len(_with_truth(manifest))
    if lacking == len(manifest.patients):
        what = "no patient of the manifest has a mask for each of its slices"
        remedy = "an empty mask says that there is no tumour; add masks and index anew"
        raise NothingReadableError(what, where="manifest", remedy=remedy)
    warnings = []
    if lacking:
        words = f"{_count(lacking, 'patient')} {'have' if lacking > 1 else 'has'}"
        warnings.append(f"{words} a slice without a mask and cannot be scored.")
    excluded = [row.patient for row in manifest.rows if row.excluded]
    if excluded:
        warnings.append(
            f"{_count(len(excluded), 'row')} of {_count(len(set(excluded)), 'patient')} "
            f"{'are' if len(excluded) > 1 else 'is'} excluded in the manifest (see its column "
            "excluded): not scored, and missing between their neighbours."
        )
    return warnings


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count > 1 else ''}"


def _within(progress: Progress, before: int, slices: int, total: int) -> Progress:
    """Progress within one patient, of whom a network may look at more slices than there are."""
    return lambda stage, done, of: progress(stage, before + slices * done // max(of, 1), total)


def _part_warnings(part: Part, scores: PartScores) -> list[str]:
    unseen, count = len(scores.unseen), len(scores.patients)
    warnings = []
    if part.by_slice:
        warnings.append(
            f"{part.name}: the split is by slice, so patients stand on both sides of it. These "
            "figures reward remembering a patient; compare them with the baseline that copies the "
            "nearest training slice."
        )
    if unseen < count:
        which = "every patient here" if not unseen else f"{count - unseen} of {count} patients"
        warnings.append(
            f"{part.name}: the model was trained on {which}; what it has seen is marked and left "
            "out of every headline figure."
        )
    if 0 < unseen < FEW:
        warnings.append(
            f"{part.name}: {_count(unseen, 'patient')} on which the figures rest: an interval by "
            "bootstrap says little with so few."
        )
    return warnings


def _source_warnings(request: Request) -> list[str]:
    """Warn of models whose training patients or training slices are not known."""
    split, warnings = request.split, []
    for source in request.sources:
        if source.seen is None:
            warnings.append(
                f"{source.notes[0].name}: the training patients of its model are unknown; "
                "patients it has seen may be among those scored."
            )
        if source.model is not None and split is not None and split.by == SLICE:
            trained = source.model.card.training_splits
            if any(trained_split.get("sha256") != split.sha256 for trained_split in trained):
                warnings.append(
                    f"{source.notes[0].name}: it was trained with another split than this one by "
                    "slice; slices it was trained on may be among those scored."
                )
    return warnings
