"""Evaluation from top to bottom: data, models, parts, scores (evaluate).

Each patient is read once, predicted, scored and reduced to counts before the next one is read, so that a data
set of any size fits into memory. *Scored* slices are those of the part of the split that is scored; a *seen*
patient is one the model was trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gliosight.analysis import Progress
from gliosight.data.manifest import Manifest
from gliosight.data.split import SLICE, TEST, Split
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.errors import NothingReadableError, UsageError
from gliosight.evaluate.baselines import (
    BaselinePatient,
    baseline_tables,
    look_at,
    needed,
    trained_on,
)
from gliosight.evaluate.figures import DRAWS, Figures
from gliosight.evaluate.localization import PatientScore, Spacing, score_patient
from gliosight.evaluate.parts import Fold, Part, Rows, parts_of
from gliosight.evaluate.predictions import ModelNote, Prediction, Predictions, patient_hash
from gliosight.evaluate.scoring import PartScores, score_part
from gliosight.evaluate.sources import Source
from gliosight.study import Geometry

# Below this many patients an interval by bootstrap is too narrow to be believed.
FEW = 10


@dataclass(frozen=True)
class Evaluation:
    """All that is said of one or several models on one data set.

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

    ``parts`` are those of the split, ``fold`` one of a split with folds; ``seed`` and ``draws`` are the
    bootstrap's.
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


@dataclass
class _Collected:
    """What one pass over the patients leaves behind; scores by part and patient."""

    patients: dict[str, BaselinePatient] = field(default_factory=dict)
    scores: dict[tuple[str, str], PatientScore] = field(default_factory=dict)
    predictions: dict[str, Prediction] = field(default_factory=dict)


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
    parts = _parts(request)
    collected = _collect(request, parts, progress)
    scores = tuple(_score(part, collected, request) for part in parts)
    for part, scored in zip(parts, scores, strict=True):
        warnings += _part_warnings(part, scored)
    warnings += _source_warnings(request)
    entries = [
        collected.predictions[name] for name in manifest.patients if name in collected.predictions
    ]
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
        parts=scores,
        models=request.models,
        predictions=Predictions(request.models, tuple(entries)),
        warnings=tuple(warnings),
        manifest_sha256=manifest.sha256,
        split=described,
        seed=request.seed,
        draws=request.draws,
    )


def _check_truth(manifest: Manifest) -> list[str]:
    """Refuse data without any truth; warn of what cannot be scored."""
    lacking = len(manifest.patients) - len(_with_truth(manifest))
    if lacking == len(manifest.patients):
        raise NothingReadableError(
            "no patient of the manifest has a mask for each of its slices",
            where="manifest",
            remedy="an empty mask says that there is no tumour; add masks and index anew",
        )
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


def _with_truth(manifest: Manifest) -> set[str]:
    patients = manifest.by_patient.items()
    return {name for name, rows in patients if all(row.has_truth for row in rows)}


def _parts(request: Request) -> tuple[Part, ...]:
    """The parts, without the patients whose truth is not known."""
    split, sources = request.split, request.sources
    has_folds = split is not None and split.has_folds
    groups = () if split is None else tuple(split.groups)
    pooled = has_folds and request.fold is None
    if len(sources) > 1:
        if not has_folds:
            raise UsageError(
                f"{len(sources)} models without a split by folds",
                remedy="give one model, or --split with a fold for each",
            )
        if not pooled:
            raise UsageError(
                "several models and --fold", remedy="give the model of that fold alone"
            )
        if len(sources) != len(groups):
            raise UsageError(
                f"{len(sources)} models for {len(groups)} folds",
                remedy=f"give one for each of {', '.join(groups)}, in this order",
            )
    elif pooled and sources[0].model is not None:
        raise UsageError(
            "one model and a split by folds",
            remedy=f"say with --fold which it was trained without, one of {', '.join(groups)}",
        )
    parts = parts_of(request.manifest, split, request.parts, fold=request.fold, pooled=pooled)
    known: Collection[str] = _with_truth(request.manifest)
    if split is None and sources[0].patients is not None:
        known = sources[0].patients & set(known)  # a file is scored on what it was made for
    return tuple(_known(part, known) for part in parts)


def _known(part: Part, known: Collection[str]) -> Part:
    def among(rows: Mapping[str, Rows]) -> dict[str, Rows]:
        return {name: own for name, own in rows.items() if name in known}

    folds = tuple(
        Fold(fold.name, among(fold.scored), fold.training and among(fold.training))
        for fold in part.folds
    )
    part = replace(part, folds=folds)
    if not part.patients:
        raise NothingReadableError(
            f"no patient of the part {part.name} can be scored",
            remedy="they lack masks, or the predictions are of others",
        )
    return part


def _collect(request: Request, parts: tuple[Part, ...], progress: Progress | None) -> _Collected:
    """Read each patient once; predict and score those that are scored."""
    manifest = request.manifest
    names = tuple(dict.fromkeys(name for part in parts for name in needed(part)))
    total = sum(len(manifest.by_patient[name]) for name in names)
    # Patients of one person count as seen together: a model may have seen the person by another name.
    hashes: dict[str, set[str]] = {}
    for name in manifest.patients:
        hashes.setdefault(manifest.person_of(name), set()).add(patient_hash(name))
    done, collected = 0, _Collected()
    for name in names:
        rows = manifest.by_patient[name]
        labelled = read_labelled(manifest, name, check=True)
        labelled = replace(labelled, study=replace(labelled.study, study_id=name))
        collected.patients[name] = look_at(labelled, rows)
        scored_in = [
            (part, k, fold)
            for part in parts
            for k, fold in enumerate(part.folds)
            if name in fold.scored
        ]
        if scored_in:
            # Each of several sources predicts the patients of its own fold.
            k = scored_in[0][1] if len(request.sources) > 1 else 0
            source, earlier = request.sources[k], request.sources[:k]
            tell = None if progress is None else _within(progress, done, len(rows), total)
            prediction = source.predict(labelled.study, rows, tell)
            prediction = replace(
                prediction,
                seen=not hashes[manifest.person_of(name)].isdisjoint(source.seen),
                model=prediction.model + sum(len(before.notes) for before in earlier),
            )
            collected.predictions[name] = prediction
            for part, _, fold in scored_in:
                score = _score_patient(part, fold, rows, labelled, prediction)
                collected.scores[part.name, name] = score
        done += len(rows)
        if progress is not None:
            progress("evaluate", done, total)
    return collected


def _within(progress: Progress, before: int, slices: int, total: int) -> Progress:
    """Progress within one patient, of whom a network may look at more slices than there are."""
    return lambda stage, done, of: progress(stage, before + slices * done // max(of, 1), total)


def _score_patient(
    part: Part, fold: Fold, rows: Rows, labelled: LabelledStudy, prediction: Prediction
) -> PatientScore:
    numbers = [row.number for row in fold.scored[prediction.patient]]
    return score_patient(
        prediction,
        labelled.truth,
        rows,
        np.isin([row.number for row in rows], numbers),
        _spacing(labelled.study.geometry),
        # With a split by slice all patients are on both sides; a warning says so instead.
        seen=prediction.seen and not part.by_slice,
    )


def _spacing(geometry: Geometry | None) -> Spacing | None:
    if geometry is None or geometry.slice_spacing is None:
        return None
    return (geometry.slice_spacing, *geometry.spacing)


def _score(part: Part, collected: _Collected, request: Request) -> PartScores:
    patients = [collected.scores[part.name, name] for name in part.patients]
    tables = {patient.patient: patient.table for patient in patients}
    return score_part(
        part,
        patients,
        baseline_tables(part, collected.patients, tables),
        trained_on=trained_on(part),
        draws_masks=all(note.draws for note in request.models),
        seed=request.seed,
        draws=request.draws,
    )


def _part_warnings(part: Part, scores: PartScores) -> list[str]:
    unseen, count = len(scores.unseen), len(scores.patients)
    warnings = []
    if part.by_slice:
        warnings.append(
            f"{part.name}: the split is by slice, so patients stand on both sides of it. These "
            "figures reward remembering a patient; compare them with the baseline nearest_slice."
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
        if source.training_unknown:
            warnings.append(
                f"{source.notes[0].name}: results do not say whom their model was trained on; "
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
