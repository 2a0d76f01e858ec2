"""All scores of one part: figures, baselines, groups of patients, published figures (evaluate).

Headline figures rest on the patients the model has not seen; baselines are scored on the very same ones, with
the same draws. Keys of the mappings are stable names, defined in docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gliosight.evaluate.baselines import Part
from gliosight.evaluate.figures import DRAWS, Bootstrap, Figure, Figures, draw
from gliosight.evaluate.mask_metrics import (
    PatientScore,
    SliceTable,
    false_alarm_figures,
    localization_figures,
    overlap_figures,
)
from gliosight.evaluate.slice_metrics import (
    AreaRow,
    Curve,
    areas_of,
    confusion_of,
    detection_curves,
    patient_figures,
    ranked_figures,
    report_of,
    slice_figures,
    slices_of,
)
from gliosight.study import MrSequence

# The figures of comparisons of two models, and of groups.
SHORT = (
    "dice_mean",
    "dice_median",
    "slice_auc",
    "slice_accuracy",
    "slice_sensitivity",
    "slice_specificity",
)
OF_GROUPS = (*SHORT, "false_verdicts", "false_alarm_ml_mean", "false_alarm_ml_largest")


@dataclass(frozen=True)
class Scores:
    """Figures of localization and detection.

    ``localization`` is empty where nothing is drawn.
    """

    localization: Figures
    detection: Figures

    @property
    def figures(self) -> Figures:
        """Of localization and detection together."""
        return {**self.localization, **self.detection}


@dataclass(frozen=True)
class Baseline(Scores):
    """What something reaches that hardly looks at the picture: the model's figures, as far as defined.

    ``trained_on`` says in words what its numbers were taken from.
    """

    trained_on: str


@dataclass(frozen=True)
class PartScores(Scores):
    """All scores of one part of a split.

    ``patients`` include seen ones, which the figures leave out. ``confusion`` counts slices: rows are truth
    (no tumour, tumour), columns what the model called. ``report`` is the tutorial's classification report,
    ``areas`` sensitivity by the lesion's area in the slice. ``groups`` are by title and name, such as
    ``groups["institution"]["DU"]["dice_mean"]``; ``curves`` are ``roc``, ``precision_recall`` and
    ``reliability``, where defined.
    """

    part: str
    by: str
    patients: tuple[PatientScore, ...]
    confusion: tuple[tuple[int, int], tuple[int, int]]
    report: str
    areas: tuple[AreaRow, ...]
    baselines: Mapping[str, Baseline]
    groups: Mapping[str, Mapping[str, Figures]]
    curves: Mapping[str, Curve]

    @property
    def unseen(self) -> tuple[PatientScore, ...]:
        """The patients the headline figures rest on."""
        return tuple(patient for patient in self.patients if not patient.seen)


def score_part(
    part: Part,
    patients: Sequence[PatientScore],
    baselines: Mapping[str, Sequence[SliceTable]],
    *,
    draws_masks: bool = True,
    seed: int = 1,
    draws: int = DRAWS,
) -> PartScores:
    """Score a part; ``baselines`` are the tables of its patients, in their order.

    Where the model does not draw masks there are no figures of localization.
    """
    chosen = [k for k, patient in enumerate(patients) if not patient.seen]
    unseen = [patients[k] for k in chosen]
    drawn = draw(len(unseen), seed=seed, draws=draws)
    slices = slices_of([patient.table for patient in unseen])

    score = partial(_score, draws_masks=draws_masks, by_slice=part.by_slice)

    def score_group(members: Sequence[PatientScore]) -> Figures:
        count = len(members)
        figures = score(members, draw(count, seed=seed, draws=draws)).figures
        shown = {key: figures[key] for key in OF_GROUPS if key in figures}
        return {"patients": Figure(float(count), n=count), **shown}

    headline = score(unseen, drawn)
    return PartScores(
        localization=headline.localization,
        detection=headline.detection,
        part=part.name,
        by=part.by,
        patients=tuple(patients),
        confusion=confusion_of(slices),
        report=report_of(slices),
        areas=areas_of(slices, drawn),
        baselines={
            name: _score_baseline(name, [tables[k] for k in chosen], drawn, part.trained_on)
            for name, tables in baselines.items()
        },
        groups={
            title: {name: score_group(members) for name, members in groups.items()}
            for title, groups in _members(patients).items()
        },
        curves=detection_curves(slices),
    )


def _score(
    patients: Sequence[PatientScore], drawn: Bootstrap, *, draws_masks: bool, by_slice: bool
) -> Scores:
    localization = localization_figures(patients, drawn) if draws_masks else {}
    detection = slice_figures(slices_of([patient.table for patient in patients]), drawn)
    if not by_slice:
        # A patient of whom some slices are scored is not without a lesion if those are.
        localization |= false_alarm_figures(patients, drawn) if draws_masks else {}
        detection |= patient_figures(patients)
    return Scores(localization, detection)


def short_figures(
    tables: Sequence[SliceTable], drawn: Bootstrap, *, draws_masks: bool
) -> dict[str, Figure]:
    """The few figures that comparisons of two models have."""
    figures = overlap_figures(tables, drawn) if draws_masks else {}
    figures |= slice_figures(slices_of(tables), drawn)
    return {key: figures[key] for key in SHORT if key in figures}


def _score_baseline(
    name: str, tables: Sequence[SliceTable], drawn: Bootstrap, trained_on: str
) -> Baseline:
    slices = slices_of(tables)
    detection = slice_figures(slices, drawn)
    if name == "majority":
        # One number for all: it ranks nothing. That of a fold or of a patient left out is lower the
        # more tumour was left out, which would rank, the wrong way round.
        detection |= ranked_figures(slices, np.zeros(len(slices.area)), drawn)
    only_labels = name in ("majority", "position")
    return Baseline(
        localization={} if only_labels else overlap_figures(tables, drawn),
        detection=detection,
        trained_on="nothing" if name == "empty" else trained_on,
    )


def _members(patients: Sequence[PatientScore]) -> dict[str, dict[str, list[PatientScore]]]:
    """The groups and their patients."""
    unseen = [patient for patient in patients if not patient.seen]
    labels = {
        "collection": [patient.collection or "none" for patient in unseen],
        "institution": [patient.institution or "unknown" for patient in unseen],
        "sequences": [_missing(patient.sequences) for patient in unseen],
    }
    if not any(patient.collection for patient in patients):
        del labels["collection"]
    members = {
        title: {
            name: [patient for patient, label in zip(unseen, names, strict=True) if label == name]
            for name in sorted(set(names))
        }
        for title, names in labels.items()
    }
    members["tumour_volume"] = _terciles(unseen)
    peers = [patient for patient in unseen if PEER_PATIENTS.search(patient.patient)]
    if peers:
        members["published"] = {"the peer's validation patients": peers}
    if seen := [patient for patient in patients if patient.seen]:
        members["seen"] = {"seen in training": seen}
        if unseen:
            members["seen"]["not seen"] = unseen
    return members


def _terciles(patients: Sequence[PatientScore]) -> dict[str, list[PatientScore]]:
    """Patients with a lesion by its volume, in three groups as even as can be."""
    ill = [patient for patient in patients if patient.truth_px]
    if len(ill) < 3:
        return {}
    in_ml = all(patient.truth_ml is not None for patient in ill)

    def size(patient: PatientScore) -> float:
        return (patient.truth_ml or 0.0) if in_ml else patient.truth_px

    ordered = sorted(ill, key=lambda patient: (size(patient), patient.patient))
    groups = {}
    thirds = np.array_split(np.arange(len(ill)), 3)
    for name, third in zip(("smallest", "middle", "largest"), thirds, strict=True):
        group = [ordered[k] for k in third]
        low, high = size(group[0]), size(group[-1])
        words = f"{low:.1f} to {high:.1f} ml" if in_ml else f"{low:,} to {high:,} px"
        groups[f"{name}, {words}"] = group
    return groups


def _missing(sequences: Sequence[str]) -> str:
    missing = [sequence.value for sequence in MrSequence if sequence.value not in sequences]
    return f"without {' and '.join(missing)}" if missing else "all three"


@dataclass(frozen=True)
class Published:
    """One reported figure."""

    what: str
    figures: str
    rests_on: str


# The patients a port of the set's network was selected on: scored as a group of their own.
PEER_PATIENTS = re.compile("CS_(4944|6667|6668)|DU_(5851|7014)|HT_(7616|7692|7879)")

ON_LGG = (
    Published(
        "U-Net of the set's authors (Buda 2019, doi:10.1016/j.compbiomed.2019.05.002)",
        "mean Dice 0.836, median 0.873",
        "110 patients, 22-fold, by patient",
    ),
    Published(
        "Its PyTorch port",
        "mean Dice 0.91, median 0.92",
        "ten patients that also selected it: eight are the group “the peer’s validation patients”",
    ),
    Published(
        "Two experts with each other", "Dice 0.84 (standard deviation 0.02)", "the same task"
    ),
    Published(
        "The tutorial's detector",
        "slice accuracy 0.981",
        "a split by slice: read it against the baseline nearest_slice, 0.944 on such a split",
    ),
)


def published_on(patients: Iterable[str]) -> tuple[Published, ...]:
    """The figures to show beside these patients; none for other data."""
    names = list(patients)
    return ON_LGG if names and all(name.startswith("TCGA_") for name in names) else ()
