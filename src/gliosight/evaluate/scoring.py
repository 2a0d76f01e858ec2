"""All that is said of one part: figures, baselines, groups of patients, published figures (evaluate).

Headline figures rest on the patients the model has not seen; baselines are scored on the very same ones, with
the same draws. Keys of the mappings are stable names, defined in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gliosight.evaluate.detection import (
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
    threshold_figures,
)
from gliosight.evaluate.figures import DRAWS, Bootstrap, Figure, Figures, draw
from gliosight.evaluate.localization import (
    PatientScore,
    SliceTable,
    dice_by_patient,
    false_alarm_figures,
    localization_figures,
    overlap_figures,
)
from gliosight.evaluate.parts import Part
from gliosight.study import MrSequence


@dataclass(frozen=True)
class Baseline:
    """What something reaches that hardly looks at the picture: the model's figures, as far as defined.

    ``trained_on`` says in words what its numbers were taken from.
    """

    trained_on: str
    localization: Figures
    detection: Figures

    @property
    def figures(self) -> Figures:
        """Of localization and detection together."""
        return {**self.localization, **self.detection}


@dataclass(frozen=True)
class PartScores:
    """All that is said of one part of a split.

    Parameters
    ----------
    by : str
        What the split was by; ``"none"`` without one.
    patients : tuple of PatientScore
        Seen ones, too; the figures leave them out.
    localization, detection : mapping of str to Figure
        The headline figures. ``localization`` is empty where the model draws nothing.
    confusion : tuple of tuple of int
        Slices: rows are truth (no tumour, tumour), columns what was said.
    report : str
        The tutorial's classification report, as text.
    areas : tuple of AreaRow
        Sensitivity by the lesion's area in the slice.
    groups : mapping of str to mapping of str to mapping of str to Figure
        Such as ``groups["institution"]["DU"]["dice_mean"]``.
    curves : mapping of str to Curve
        ``roc``, ``precision_recall`` and ``reliability``, where defined.
    """

    part: str
    by: str
    patients: tuple[PatientScore, ...]
    localization: Figures
    detection: Figures
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

    @property
    def figures(self) -> Figures:
        """Of localization and detection together."""
        return {**self.localization, **self.detection}


def score_part(
    part: Part,
    patients: Sequence[PatientScore],
    baselines: Mapping[str, Sequence[SliceTable]],
    *,
    trained_on: str,
    draws_masks: bool = True,
    seed: int = 1,
    draws: int = DRAWS,
) -> PartScores:
    """Score a part.

    Parameters
    ----------
    baselines : mapping of str to sequence of SliceTable
        Of the patients, in their order.
    trained_on : str
        What the baselines' numbers were taken from, in words.
    draws_masks : bool
        The model outlines; else there are no figures of localization.
    seed, draws : int
        Of the bootstrap.
    """
    kept = [k for k, patient in enumerate(patients) if not patient.seen]
    unseen = [patients[k] for k in kept]
    drawn = draw(len(unseen), seed=seed, draws=draws)
    slices = slices_of([patient.table for patient in unseen])
    localization = localization_figures(unseen, drawn) if draws_masks else {}
    detection = slice_figures(slices, drawn)
    if not part.by_slice:
        # A patient of whom some slices are scored is not without a lesion if those are.
        localization |= false_alarm_figures(unseen, drawn) if draws_masks else {}
        detection |= patient_figures(unseen)
    groups: dict[str, dict[str, Figures]] = {}
    for title, members in _members(patients).items():
        groups[title] = {}
        for name, chosen in members.items():
            groups[title][name] = _group_figures(
                [patients[k] for k in chosen],
                draw(len(chosen), seed=seed, draws=draws),
                draws_masks=draws_masks,
                by_slice=part.by_slice,
            )
    return PartScores(
        part=part.name,
        by=part.by,
        patients=tuple(patients),
        localization=localization,
        detection=detection,
        confusion=confusion_of(slices),
        report=report_of(slices),
        areas=areas_of(slices, drawn),
        baselines={
            name: _score_baseline(name, [of_all[k] for k in kept], drawn, trained_on)
            for name, of_all in baselines.items()
        },
        groups=groups,
        curves=detection_curves(slices),
    )


def short_figures(
    tables: Sequence[SliceTable], drawn: Bootstrap, *, draws_masks: bool
) -> dict[str, Figure]:
    """The few figures that groups and comparisons of two models have."""
    figures: dict[str, Figure] = {}
    if draws_masks:
        dice = dice_by_patient(tables)
        figures |= {"dice_mean": drawn.mean(dice), "dice_median": drawn.median(dice)}
    slices = slices_of(tables)
    if slices.probability is not None:
        ranked = ranked_figures(slices, slices.probability, drawn)
        figures["slice_auc"] = ranked["slice_auc"]
    figures |= threshold_figures(slices, drawn)
    del figures["slice_balanced_accuracy"]
    return figures


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
        trained_on="nothing" if name == "empty" else trained_on,
        localization={} if only_labels else overlap_figures(tables, drawn),
        detection=detection,
    )


def _group_figures(
    patients: Sequence[PatientScore],
    drawn: Bootstrap,
    *,
    draws_masks: bool,
    by_slice: bool,
) -> dict[str, Figure]:
    figures = {"patients": Figure(float(len(patients)), n=len(patients))}
    tables = [patient.table for patient in patients]
    figures |= short_figures(tables, drawn, draws_masks=draws_masks)
    # See `score_part`: by slice, nobody is known to be without a lesion.
    if not by_slice:
        figures["false_verdicts"] = patient_figures(patients)["false_verdicts"]
        alarms = false_alarm_figures(patients, drawn) if draws_masks else {}
        figures |= {
            name: figure for name, figure in alarms.items() if name.startswith("false_alarm_ml")
        }
    return figures


def _members(patients: Sequence[PatientScore]) -> dict[str, dict[str, list[int]]]:
    """The groups, and the indices of their patients."""
    unseen = [k for k, patient in enumerate(patients) if not patient.seen]
    labels = {
        "collection": [patient.collection or "none" for patient in patients],
        "institution": [patient.institution or "unknown" for patient in patients],
        "sequences": [_missing(patient.sequences) for patient in patients],
    }
    if not any(patient.collection for patient in patients):
        del labels["collection"]
    members = {
        title: {
            name: [k for k in unseen if of_patient[k] == name]
            for name in sorted({of_patient[k] for k in unseen})
        }
        for title, of_patient in labels.items()
    }
    members["tumour_volume"] = _terciles(patients, unseen)
    peers = [k for k in unseen if any(name in patients[k].patient for name in PEER_PATIENTS)]
    if peers:
        members["published"] = {"the peer's validation patients": peers}
    if len(unseen) < len(patients):
        seen = [k for k, patient in enumerate(patients) if patient.seen]
        members["seen"] = {"seen in training": seen}
        if unseen:
            members["seen"]["not seen"] = unseen
    return members


def _terciles(patients: Sequence[PatientScore], unseen: list[int]) -> dict[str, list[int]]:
    """Patients with a lesion by its volume, in three groups as even as can be."""
    ill = [k for k in unseen if patients[k].truth_px]
    if len(ill) < 3:
        return {}
    in_ml = all(patients[k].truth_ml is not None for k in ill)
    column = "truth_ml" if in_ml else "truth_px"
    sizes: dict[int, float] = {k: getattr(patients[k], column) for k in ill}
    ordered = sorted(ill, key=lambda k: (sizes[k], patients[k].patient))
    groups = {}
    for name, third in zip(
        ("smallest", "middle", "largest"), np.array_split(ordered, 3), strict=True
    ):
        low, high = sizes[int(third[0])], sizes[int(third[-1])]
        words = f"{low:.1f} to {high:.1f} ml" if in_ml else f"{low:,} to {high:,} px"
        groups[f"{name}, {words}"] = [int(k) for k in third]
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
PEER_PATIENTS = (
    "CS_4944",
    "CS_6667",
    "CS_6668",
    "DU_5851",
    "DU_7014",
    "HT_7616",
    "HT_7692",
    "HT_7879",
)

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
