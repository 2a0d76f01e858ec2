"""MODEL, whatever it is, to predictions (evaluate).

In: what the user named (a shipped model, a card, a run's folder, a folder of masks, a file of
predictions). Out: a `Source` that says, study by study, what was predicted. A model runs through
`pipeline.analyze_study`, as it does for a user: what is scored is what users get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from gliosight import pipeline
from gliosight.analysis import Decision, Status
from gliosight.data.manifest import SliceRow
from gliosight.errors import (
    DamagedInputError,
    ModelError,
    NothingReadableError,
    UsageError,
    printable,
)
from gliosight.evaluate.masks import note_of, read_prediction, training_patients
from gliosight.evaluate.predictions import (
    ModelNote,
    Prediction,
    Predictions,
    pack,
    read_predictions,
)
from gliosight.infer.model import RUN_CARD, Model, shipped_models
from gliosight.study import Study

# Told how many of how many slices of a study are done.
Progress = Callable[[int, int], None]


class Source(Protocol):
    """Where predictions come from."""

    @property
    def notes(self) -> tuple[ModelNote, ...]:
        """The models behind it."""
        ...

    @property
    def seen(self) -> frozenset[str]:
        """Hashes of the patients that the models were trained on, as far as it is known."""
        ...

    def predict(
        self, study: Study, rows: Ordered[SliceRow], progress: Progress | None = None
    ) -> Prediction:
        """What is said of one patient; ``model`` is an index into ``notes``."""
        ...


@dataclass(frozen=True)
class ModelSource:
    """A model that runs now."""

    model: Model
    settings: pipeline.Settings

    @property
    def notes(self) -> tuple[ModelNote, ...]:
        """See `Source.notes`."""
        card = self.model.card
        return (ModelNote(card.name, card.kind, card.sha256, card.draws),)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Hashes of the training patients."""
        return self.model.card.training_patients

    def predict(
        self, study: Study, rows: Ordered[SliceRow], progress: Progress | None = None
    ) -> Prediction:
        """See `Source.predict`."""
        tell = None if progress is None else lambda _, done, total: progress(done, total)
        analysis = pipeline.analyze_study(study, self.model, self.settings, progress=tell)
        seen = patient_hash(study.study_id) in self.seen
        return prediction_of(study.study_id, rows_digest(rows), analysis.decision, seen=seen)


@dataclass(frozen=True)
class MaskSource:
    """A folder of masks."""

    folder: Path

    @cached_property
    def notes(self) -> tuple[ModelNote, ...]:
        """See `Source.notes`."""
        return (note_of(self.folder),)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Hashes of the training patients, where results name a shipped model."""
        return training_patients(self.notes[0]) or frozenset()

    @property
    def unknown(self) -> bool:
        """Whether these are results of a model of which nobody knows whom it has seen."""
        return bool(self.notes[0].sha256) and training_patients(self.notes[0]) is None

    def predict(
        self, study: Study, rows: Ordered[SliceRow], progress: Progress | None = None
    ) -> Prediction:
        """See `Source.predict`."""
        if progress is not None:
            progress(len(rows), len(rows))
        found = read_prediction(self.folder, study, rows_digest(rows))
        return replace(found, seen=patient_hash(study.study_id) in self.seen)


@dataclass(frozen=True)
class FileSource:
    """Predictions that an earlier evaluation has written."""

    predictions: Predictions
    name: str

    @property
    def notes(self) -> tuple[ModelNote, ...]:
        """See `Source.notes`."""
        return self.predictions.models

    @cached_property
    def seen(self) -> frozenset[str]:
        """Hashes of those that an earlier evaluation has marked."""
        return frozenset(patient_hash(one.patient) for one in self.predictions.entries if one.seen)

    def predict(
        self, study: Study, rows: Ordered[SliceRow], progress: Progress | None = None
    ) -> Prediction:
        """See `Source.predict`."""
        if progress is not None:
            progress(len(rows), len(rows))
        found = self.predictions.by_patient.get(study.study_id)
        if found is None:
            raise NothingReadableError(
                f"no prediction of {printable(study.study_id)}",
                where=self.name,
                remedy="score the part it was made for, or predict anew",
            )
        if found.rows_sha256 != rows_digest(rows) or found.shape != study.shape:
            raise DamagedInputError(
                f"the prediction of {printable(study.study_id)} was made from other slices",
                where=self.name,
                remedy="give the data it was made from, or predict anew",
            )
        return found


def open_source(name: str, settings: pipeline.Settings) -> Source:
    """Open what the user named.

    Parameters
    ----------
    name : str
        A shipped model's name, or the path of a card, a run's folder, a folder of masks or a file of
        predictions.
    settings : Settings
        Engine and threads.

    Raises
    ------
    ModelError
        The source is neither a model nor a run nor predictions.
    """
    path = Path(name)
    if name not in shipped_models():
        if path.suffix == ".npz":
            return FileSource(read_predictions(path), path.name)
        if path.is_dir() and not (path / RUN_CARD).is_file():
            if not any(path.iterdir()):
                raise NothingReadableError(
                    "the folder is empty", where=path.name, remedy="give a model or its masks"
                )
            if (path / "run.json").is_file():
                raise ModelError(
                    "the run is not finished",
                    where=path.name,
                    remedy="go on with it: gliosight train --resume",
                )
            return MaskSource(path)
        if not path.exists():
            known = ", ".join(shipped_models())
            raise ModelError(
                f"no model {printable(name)!r}",
                remedy=f"name a shipped one ({known}), a card, a run's folder, a folder of masks "
                "or a predictions.npz",
            )
    chosen = replace(settings, model=name)
    return ModelSource(chosen.load(), chosen)


def prediction_of(
    patient: str, rows_sha256: str, decision: Decision, *, seen: bool, model: int = 0
) -> Prediction:
    """What a decision says of a patient; see `Prediction`."""
    slices, rows, columns = decision.mask.shape
    return Prediction(
        patient=patient,
        rows_sha256=rows_sha256,
        shape=(slices, rows, columns),
        bits=pack(decision.mask),
        slice_probability=decision.slice_probabilities,
        slice_threshold=decision.slice_threshold,
        score=decision.score,
        score_threshold=decision.score_threshold,
        found=decision.status is Status.FOUND,
        seen=seen,
        model=model,
    )


def patient_hash(patient: str) -> str:
    """What a card keeps of a training patient's name."""
    return hashlib.sha256(patient.encode()).hexdigest()


def refuse_seen(model: Model, patients: Ordered[str]) -> None:
    """Refuse to score a model on patients of its own training data.

    Raises
    ------
    UsageError
    """
    seen = [one for one in patients if patient_hash(one) in model.card.training_patients]
    if seen:
        raise UsageError(
            f"{model.card.name} was trained on {len(seen)} of these {len(patients)} patients",
            where=printable(seen[0]),
            remedy="name the networks in the order of their folds, or other patients",
        )


def rows_digest(rows: Ordered[SliceRow]) -> str:
    """Digest of one patient's used images: what a prediction was made from, wherever they lie."""
    digest = hashlib.sha256()
    for row in rows:
        known = (row.patient, str(row.number), row.sha256, row.t1_sha256, row.t1c_sha256)
        digest.update(("\0".join(known) + "\n").encode())
    return digest.hexdigest()
