"""Evaluation from top to bottom: data, models, parts, scores (evaluate).

In: a manifest, a split, what predicts. Out: an `Evaluation`, which `record` and `page` write. One pass over
the patients: each is read once, predicted, scored and reduced to counts before the next one is read, so
that a data set of any size fits into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field, replace

import numpy as np

from gliosight.data.manifest import Manifest
from gliosight.data.split import SLICE, TEST, Split
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.errors import NothingReadableError, UsageError
from gliosight.evaluate.baselines import Patient, baseline_tables, learnt_from, needed
from gliosight.evaluate.bootstrap import DRAWS
from gliosight.evaluate.brightest import count_bright
from gliosight.evaluate.cases import Case
from gliosight.evaluate.localization import score_case
from gliosight.evaluate.parts import Fold, Part, Rows, is_by_slice, parts_of
from gliosight.evaluate.predict import (
    FileSource,
    MaskSource,
    ModelSource,
    Source,
    patient_hash,
)
from gliosight.evaluate.predictions import ModelNote, Prediction, Predictions, join, pack
from gliosight.evaluate.scores import Figures, PartScores, PatientScore, SliceTable
from gliosight.evaluate.scoring import score_part
from gliosight.study import Geometry, Study

# Told how much is done and how much there is, in slices.
Progress = Callable[[int, int], None]
# Below this many patients an interval by bootstrap is too narrow to be believed.
FEW = 10


@dataclass(frozen=True)
class Leak:
    """What a split by slice is worth: a figure there, by patient, and the difference.

    Parameters
    ----------
    figures : mapping of str to mapping of str to Figure
        By key: ``by_slice``, ``by_patient`` and ``difference``.
    """

    figures: Mapping[str, Figures]


@dataclass(frozen=True)
class Evaluation:
    """All that is said of one or several models on one data set.

    Parameters
    ----------
    parts : tuple of PartScores
    models : tuple of ModelNote
    predictions : Predictions
        Of all patients that were scored.
    warnings : tuple of str
        What the reader has to know before believing a figure, a sentence each.
    manifest_sha256 : str
    split : mapping of str to str
        How the data were split, in words for the record; empty without.
    seed, draws : int
        Of the bootstrap.
    leak : Leak or None
    """

    parts: tuple[PartScores, ...]
    models: tuple[ModelNote, ...]
    predictions: Predictions
    warnings: tuple[str, ...]
    manifest_sha256: str
    split: Mapping[str, str]
    seed: int
    draws: int
    leak: Leak | None = None


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Parameters
    ----------
    manifest : Manifest
    sources : sequence of Source
        One; or one for each fold of the split, in its order.
    split : Split, optional
    parts : sequence of str
        Which parts of the split.
    fold : str, optional
        Which fold of a split with folds.
    seed, draws : int
        Of the bootstrap.
    """

    manifest: Manifest
    sources: Ordered[Source]
    split: Split | None = None
    parts: Ordered[str] = (TEST,)
    fold: str | None = None
    seed: int = 1
    draws: int = DRAWS


@dataclass
class _Collected:
    """What one pass over the patients leaves behind."""

    patients: dict[str, Patient] = field(default_factory=dict)
    scores: dict[tuple[str, str], tuple[PatientScore, SliceTable]] = field(default_factory=dict)
    predictions: dict[tuple[int, str], Prediction] = field(default_factory=dict)


def evaluate(request: Request, progress: Progress | None = None) -> Evaluation:
    """Predict and score.

    Raises
    ------
    UsageError
        Models, split, parts and folds that do not fit together.
    GliosightError
        A study that cannot be read, a prediction that is not there.
    """
    manifest = request.manifest
    warnings = _check_truth(manifest)
    parts = _parts(request, manifest)
    source_of = _source_of(request)
    collected = _collect(request, manifest, parts, source_of, progress)
    predictions = _joined(request, collected)
    draws_masks = all(note.draws for source in request.sources for note in source.notes)
    scored = tuple(_score(part, collected, request, draws_masks=draws_masks) for part in parts)
    warnings += _warnings(parts, scored)
    warnings += _doubts(request)
    split = request.split
    return Evaluation(
        parts=scored,
        models=predictions.models,
        predictions=predictions,
        warnings=tuple(warnings),
        manifest_sha256=request.manifest.sha256,
        split={}
        if split is None
        else {
            "by": split.by,
            "seed": str(split.seed),
            "folds": ", ".join(split.groups) if split.has_folds else "",
            "fold": request.fold or ("all, pooled" if split.has_folds else ""),
        },
        seed=request.seed,
        draws=request.draws,
    )


def _check_truth(manifest: Manifest) -> list[str]:
    """Refuse data without any truth; say how many patients have none."""
    lacking = [
        name for name, rows in manifest.by_patient.items() if not all(r.has_truth for r in rows)
    ]
    if len(lacking) == len(manifest.patients):
        raise NothingReadableError(
            "no patient of the manifest has a mask for each of its slices",
            where="manifest",
            remedy="an empty mask says that there is no tumour; add masks and index anew",
        )
    out = []
    if lacking:
        words = f"{len(lacking)} patient" + ("s have" if len(lacking) > 1 else " has")
        out.append(f"{words} a slice without a mask and cannot be scored.")
    excluded = [row.patient for row in manifest.rows if row.excluded]
    if excluded:
        count, patients = len(excluded), len(set(excluded))
        out.append(
            f"{count} row{'s' if count > 1 else ''} of {patients} patient{'s' if patients > 1 else ''} "
            f"{'are' if count > 1 else 'is'} excluded in the manifest (see its column excluded): not "
            "scored, and missing between their neighbours."
        )
    return out


def _parts(request: Request, manifest: Manifest) -> tuple[Part, ...]:
    """The parts, without the patients whose truth is not known."""
    split, sources = request.split, request.sources
    several = len(sources) > 1
    if several and (split is None or not split.has_folds):
        raise UsageError(
            f"{len(sources)} models without a split by folds",
            remedy="give one model, or --split with a fold for each",
        )
    if several and request.fold is not None:
        raise UsageError("several models and --fold", remedy="give the model of that fold alone")
    if several and split is not None and len(sources) != len(split.groups):
        raise UsageError(
            f"{len(sources)} models for {len(split.groups)} folds",
            remedy=f"give one for each of {', '.join(split.groups)}, in this order",
        )
    pooled = split is not None and split.has_folds and request.fold is None
    if pooled and not several and isinstance(sources[0], ModelSource):
        raise UsageError(
            "one model and a split by folds",
            remedy=f"say with --fold which it was trained without, one of "
            f"{', '.join(split.groups if split else ())}",
        )
    parts = parts_of(manifest, split, request.parts, fold=request.fold, pooled=pooled)
    known = {
        name for name, rows in manifest.by_patient.items() if all(row.has_truth for row in rows)
    }
    if split is None and isinstance(sources[0], FileSource):
        known &= sources[0].predictions.by_patient.keys()  # what it was made for, no more
    return tuple(_known(part, known) for part in parts)


def _known(part: Part, known: set[str]) -> Part:
    folds = tuple(
        Fold(
            fold.name,
            _among(fold.scored, known),
            None if fold.learnt is None else _among(fold.learnt, known),
        )
        for fold in part.folds
    )
    if not any(fold.scored for fold in folds):
        raise NothingReadableError(
            f"no patient of the part {part.name} can be scored",
            remedy="they lack masks, or the predictions are of others",
        )
    return Part(part.name, part.by, folds)


def _among(rows: Mapping[str, Rows], known: set[str]) -> dict[str, Rows]:
    return {name: found for name, found in rows.items() if name in known}


def _source_of(request: Request) -> Callable[[str], int]:
    """Which source predicts the test part of a fold."""
    if len(request.sources) == 1 or request.split is None:
        return lambda _: 0
    order = {name: k for k, name in enumerate(request.split.groups)}
    return lambda fold: order[fold]


def _collect(
    request: Request,
    manifest: Manifest,
    parts: tuple[Part, ...],
    source_of: Callable[[str], int],
    progress: Progress | None,
) -> _Collected:
    """Read each patient once; predict and score those that are scored."""
    wanted: dict[str, list[tuple[Part, Fold]]] = {}
    for part in parts:
        for fold in part.folds:
            for name in fold.scored:
                wanted.setdefault(name, []).append((part, fold))
    names = tuple(dict.fromkeys(name for part in parts for name in needed(part)))
    total = sum(len(manifest.by_patient[name]) for name in names)
    done = 0
    collected = _Collected()
    persons: dict[str, set[str]] = {}
    for name in manifest.patients:
        persons.setdefault(manifest.person_of(name), set()).add(patient_hash(name))

    def hashes_of(name: str) -> set[str]:
        return persons[manifest.person_of(name)]

    for name in names:
        rows = manifest.by_patient[name]
        labelled = read_labelled(manifest, name, check=True)
        labelled = LabelledStudy(_named(labelled, name), labelled.truth)
        collected.patients[name] = Patient(
            numbers=np.array([row.number for row in rows]),
            tumour=np.asarray(labelled.truth.any(axis=(1, 2))),
            bright=count_bright(labelled.study, labelled.truth),
            truth=pack(labelled.truth),
            shape=labelled.study.shape,
        )
        for part, fold in wanted.get(name, ()):
            index = source_of(fold.name)
            if (index, name) not in collected.predictions:
                tell = None if progress is None else _told(progress, done, len(rows), total)
                source = request.sources[index]
                found = source.predict(labelled.study, rows, tell)
                # A person whom it knows by another name is no stranger to it.
                seen = found.seen or not hashes_of(name).isdisjoint(source.seen)
                collected.predictions[index, name] = replace(found, seen=seen)
            prediction = collected.predictions[index, name]
            case = _case(part, rows, fold.scored[name], labelled, prediction)
            collected.scores[part.name, name] = score_case(case)
        done += len(rows)
        if progress is not None:
            progress(done, total)
    return collected


def _named(labelled: LabelledStudy, name: str) -> Study:
    return replace(labelled.study, study_id=name)


def _told(progress: Progress, before: int, slices: int, total: int) -> Progress:
    """Progress within one patient, whose network may look at more slices than it has."""

    def tell(done: int, of: int) -> None:
        progress(before + slices * done // max(of, 1), total)

    return tell


def _case(
    part: Part, rows: Rows, scored: Rows, labelled: LabelledStudy, prediction: Prediction
) -> Case:
    numbers = np.array([row.number for row in rows])
    return Case(
        patient=prediction.patient,
        institution=rows[0].institution,
        sequences=rows[0].sequences,
        truth=labelled.truth,
        prediction=prediction.mask,
        scored=np.isin(numbers, [row.number for row in scored]),
        numbers=numbers,
        slice_probability=prediction.slice_probability,
        slice_threshold=prediction.slice_threshold,
        score=prediction.score,
        found=prediction.found,
        spacing=_spacing(labelled.study.geometry),
        # With a split by slice all patients are on both sides; a warning says so instead.
        seen=prediction.seen and not is_by_slice(part),
        collection=rows[0].collection,
    )


def _spacing(geometry: Geometry | None) -> tuple[float, float, float] | None:
    """Of slices, rows and columns, mm; ``None`` where one of them is not known."""
    if geometry is None or geometry.slice_spacing is None:
        return None
    return (geometry.slice_spacing, *geometry.spacing)


def _joined(request: Request, collected: _Collected) -> Predictions:
    """The predictions of all sources, in the manifest's order within each."""
    order = request.manifest.patients
    parts = []
    for index, source in enumerate(request.sources):
        found = [collected.predictions.get((index, name)) for name in order]
        entries = tuple(one for one in found if one is not None)
        parts.append(Predictions(source.notes, entries))
    return join(parts)


def _score(part: Part, collected: _Collected, request: Request, *, draws_masks: bool) -> PartScores:
    scored = [collected.scores[part.name, name] for name in part.patients]
    tables = [table for _, table in scored]
    by_patient = {name: table for name, (_, table) in zip(part.patients, scored, strict=True)}
    return score_part(
        part,
        [score for score, _ in scored],
        tables,
        baseline_tables(part, collected.patients, by_patient),
        learnt_from=learnt_from(part),
        draws_masks=draws_masks,
        seed=request.seed,
        draws=request.draws,
    )


def _doubts(request: Request) -> list[str]:
    """Warnings about models whose training patients or training data are not known."""
    out = []
    split = request.split
    for source in request.sources:
        if isinstance(source, MaskSource) and source.unknown:
            out.append(
                f"{source.notes[0].name}: results do not say whom their model was trained on; patients "
                "it has seen may be among those scored."
            )
        if isinstance(source, ModelSource) and split is not None and split.by == SLICE:
            trained = source.model.card.training_splits
            if any(one.get("sha256") != split.sha256 for one in trained):
                out.append(
                    f"{source.notes[0].name}: it was trained with another split than this one by slice; "
                    "slices it was trained on may be among those scored."
                )
    return out


def _warnings(parts: Iterable[Part], scored: Iterable[PartScores]) -> list[str]:
    out = []
    for part, scores in zip(parts, scored, strict=True):
        unseen, count = len(scores.unseen), len(scores.patients)
        if is_by_slice(part):
            out.append(
                f"{part.name}: the split is by slice, so patients stand on both sides of it. These "
                "figures reward remembering a patient; compare them with the baseline nearest_slice."
            )
        if unseen < count:
            which = "every patient here" if not unseen else f"{count - unseen} of {count} patients"
            out.append(
                f"{part.name}: the model was trained on {which}; what it has seen is marked and left "
                "out of every headline figure."
            )
        if 0 < unseen < FEW:
            out.append(
                f"{part.name}: {unseen} patient{'s' if unseen > 1 else ''} on which the figures rest: "
                "an interval by bootstrap says little with so few."
            )
    return out
