"""From scored cases to all that is said of a part (evaluate).

In: the `PatientScore` and `SliceTable` of each patient, and the tables of the baselines. Out:
`PartScores`. Headline figures rest on the patients the model has not seen; baselines are scored on the
very same ones, with the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered

import numpy as np

from gliosight.evaluate.bootstrap import DRAWS, Array, Bootstrap, draw, exact
from gliosight.evaluate.detection import (
    Slices,
    areas_of,
    confusion_of,
    detection_curves,
    patient_figures,
    report_of,
    slice_figures,
    slices_of,
    threshold_figures,
)
from gliosight.evaluate.localization import TOLERANCE, overlap_of, slice_dice
from gliosight.evaluate.parts import Part, is_by_slice
from gliosight.evaluate.published import PEER_PATIENTS
from gliosight.evaluate.ranking import rank, ranked_figures
from gliosight.evaluate.scores import (
    Baseline,
    Curve,
    Figure,
    Figures,
    PartScores,
    PatientScore,
    SliceTable,
)
from gliosight.study import Sequence

# Which of a baseline's figures are meant: one that only labels slices draws nothing, and one that only
# draws has no probability.
ONLY_LABELS = ("majority", "position")
# Of the figures of patients without a lesion, those that groups have, too.
IN_GROUPS = ("false_alarm_ml_mean", "false_alarm_ml_largest")
TERCILES = ("smallest", "middle", "largest")


def score_part(
    part: Part,
    patients: Ordered[PatientScore],
    tables: Ordered[SliceTable],
    baselines: Mapping[str, Ordered[SliceTable]],
    *,
    learnt_from: str,
    draws_masks: bool = True,
    seed: int = 1,
    draws: int = DRAWS,
) -> PartScores:
    """Score a part.

    Parameters
    ----------
    patients, tables : sequences
        Of the same patients, in one order.
    baselines : mapping of str to sequence of SliceTable
        In the same order.
    learnt_from : str
        What the baselines' numbers were taken from, in words.
    draws_masks : bool
        The model outlines; else there is nothing to say of localization.
    seed, draws : int
        Of the bootstrap.
    """
    kept = [k for k, one in enumerate(patients) if not one.seen]
    unseen, own = [patients[k] for k in kept], [tables[k] for k in kept]
    drawn = draw(len(unseen), seed=seed, draws=draws)
    slices = slices_of(own)
    curves: Mapping[str, Curve] = detection_curves(slices)
    localization = localization_figures(unseen, own, drawn) if draws_masks else {}
    detection = slice_figures(slices, drawn)
    if not is_by_slice(part):
        # A patient of whom some slices are scored is not without a lesion if those are.
        localization |= _false_alarms(unseen, drawn) if draws_masks else {}
        detection |= patient_figures(unseen)
    return PartScores(
        part=part.name,
        by=part.by,
        patients=tuple(patients),
        tables=tuple(tables),
        localization=localization,
        detection=detection,
        confusion=confusion_of(slices),
        report=report_of(slices),
        areas=areas_of(slices, drawn),
        baselines={
            name: _baseline(name, [found[k] for k in kept], drawn, learnt_from)
            for name, found in baselines.items()
        },
        groups=_groups(
            patients,
            tables,
            draws_masks=draws_masks,
            by_slice=is_by_slice(part),
            seed=seed,
            draws=draws,
        ),
        curves=curves,
    )


def localization_figures(
    patients: Ordered[PatientScore], tables: Ordered[SliceTable], drawn: Bootstrap
) -> dict[str, Figure]:
    """Figures of localization; those in mm are kept apart from those in pixels."""
    figures = overlap_figures(tables, drawn)
    for unit in ("mm", "px"):
        distance = _array([one.hd95 if one.unit == unit else None for one in patients])
        if np.isfinite(distance).any():
            figures[f"hd95_{unit}_mean"] = drawn.mean(distance)
            figures[f"hd95_{unit}_median"] = drawn.median(distance)
            figures[f"surface_dice_{TOLERANCE:g}{unit}_mean"] = drawn.mean(
                _array([one.surface_dice if one.unit == unit else None for one in patients])
            )
    if any(one.lesions is not None for one in patients):
        lesions = _counts(patients, lambda one: one.lesions)
        found = _counts(patients, lambda one: one.lesions_found)
        figures["lesion_sensitivity"] = drawn.ratio(found, lesions)
        figures["false_lesions_per_patient"] = drawn.mean(
            _values(patients, lambda one: one.false_lesions)
        )
    return figures


def overlap_figures(tables: Ordered[SliceTable], drawn: Bootstrap) -> dict[str, Figure]:
    """Figures of overlap and volume, which rest on counts alone."""
    sums = [
        (int(one.truth_px.sum()), int(one.predicted_px.sum()), int(one.both_px.sum()))
        for one in tables
    ]
    overlaps = [overlap_of(*one) for one in sums]
    error = _array([marked / true - 1 if true else None for true, marked, _ in sums])
    by_slice = [slice_dice(one) for one in tables]
    return {
        "dice_mean": drawn.mean(_array([one.dice for one in overlaps])),
        "dice_median": drawn.median(_array([one.dice for one in overlaps])),
        "iou_mean": drawn.mean(_array([one.iou for one in overlaps])),
        "precision_mean": drawn.mean(_array([one.precision for one in overlaps])),
        "recall_mean": drawn.mean(_array([one.recall for one in overlaps])),
        "volume_error_median": drawn.median(error),
        "volume_error_absolute_mean": drawn.mean(np.abs(error)),
        "slice_dice_mean": drawn.ratio(
            np.array([np.nansum(one) for one in by_slice], dtype=np.float64),
            np.array([np.isfinite(one).sum() for one in by_slice], dtype=np.float64),
        ),
    }


def _false_alarms(patients: Ordered[PatientScore], drawn: Bootstrap) -> dict[str, Figure]:
    """What is marked in patients without a lesion; nothing without such patients."""
    free = [one for one in patients if not one.truth_px]
    if not free:
        return {}
    figures = {
        "false_alarm_share": exact(sum(one.predicted_px > 0 for one in free), len(free)),
        "false_alarm_px_mean": drawn.mean(
            _values(patients, lambda one: None if one.truth_px else one.predicted_px)
        ),
    }
    marked = [one.predicted_ml for one in free if one.predicted_ml is not None]
    if marked:
        figures["false_alarm_ml_mean"] = drawn.mean(
            _values(patients, lambda one: None if one.truth_px else one.predicted_ml)
        )
        figures["false_alarm_ml_largest"] = Figure(max(marked), None, None, len(marked))
    return figures


def _baseline(
    name: str, tables: Ordered[SliceTable], drawn: Bootstrap, learnt_from: str
) -> Baseline:
    slices = slices_of(tables)
    detection = slice_figures(slices, drawn)
    if name == "majority":
        # One number for all: it ranks nothing. That of a fold or of a patient left out is lower the
        # more tumour was left out, which would rank, the wrong way round.
        constant = rank(slices.positive, np.zeros(len(slices.area)), slices.owner)
        detection |= ranked_figures(constant, drawn)
    return Baseline(
        learnt_from="nothing" if name == "empty" else learnt_from,
        localization={} if name in ONLY_LABELS else overlap_figures(tables, drawn),
        detection=detection,
    )


def _groups(
    patients: Ordered[PatientScore],
    tables: Ordered[SliceTable],
    *,
    draws_masks: bool,
    by_slice: bool,
    seed: int,
    draws: int,
) -> dict[str, dict[str, Figures]]:
    """Figures of groups of patients, each with its own draws."""
    unseen = [k for k, one in enumerate(patients) if not one.seen]
    members: dict[str, dict[str, list[int]]] = {}
    names = {
        "collection": [one.collection or "none" for one in patients],
        "institution": [one.institution or "unknown" for one in patients],
        "sequences": [_sequences_words(one.sequences) for one in patients],
    }
    if not any(one.collection for one in patients):
        del names["collection"]
    for title, of_patient in names.items():
        members[title] = {
            name: [k for k in unseen if of_patient[k] == name] for name in sorted(set(of_patient))
        }
    members["tumour_volume"] = _terciles(patients, unseen)
    peers = [k for k in unseen if any(name in patients[k].patient for name in PEER_PATIENTS)]
    if peers:
        members["published"] = {"the peer's validation patients": peers}
    if len(unseen) < len(patients):
        seen = [k for k, one in enumerate(patients) if one.seen]
        members["seen"] = {"seen in training": seen, "not seen": unseen}
    return {
        title: {
            name: _group(
                [patients[k] for k in chosen],
                [tables[k] for k in chosen],
                draw(len(chosen), seed=seed, draws=draws),
                draws_masks=draws_masks,
                by_slice=by_slice,
            )
            for name, chosen in groups.items()
            if chosen
        }
        for title, groups in members.items()
    }


def _group(
    patients: Ordered[PatientScore],
    tables: Ordered[SliceTable],
    drawn: Bootstrap,
    *,
    draws_masks: bool,
    by_slice: bool,
) -> dict[str, Figure]:
    slices = slices_of(tables)
    figures: dict[str, Figure] = {
        "patients": Figure(float(len(patients)), None, None, len(patients))
    }
    if draws_masks:
        overlap = overlap_figures(tables, drawn)
        figures |= {name: overlap[name] for name in ("dice_mean", "dice_median")}
    figures |= _slice_group(slices, drawn)
    # See `score_part`: by slice, nobody is known to be without a lesion.
    if not by_slice:
        figures |= {"false_verdicts": patient_figures(patients)["false_verdicts"]}
        alarms = _false_alarms(patients, drawn) if draws_masks else {}
        figures |= {name: alarms[name] for name in IN_GROUPS if name in alarms}
    return figures


def _slice_group(slices: Slices, drawn: Bootstrap) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if (ranked := slices.ranked()) is not None:
        figures["slice_auc"] = ranked_figures(ranked, drawn)["slice_auc"]
    threshold = threshold_figures(slices, drawn)
    return figures | {
        name: threshold[name]
        for name in ("slice_accuracy", "slice_sensitivity", "slice_specificity")
    }


def _terciles(patients: Ordered[PatientScore], unseen: list[int]) -> dict[str, list[int]]:
    """Patients with a lesion by its volume, in three groups as even as can be."""
    ill = [k for k in unseen if patients[k].truth_px]
    if len(ill) < len(TERCILES):
        return {}
    known = all(patients[k].truth_ml is not None for k in ill)
    size = (lambda k: patients[k].truth_ml) if known else (lambda k: patients[k].truth_px)
    ordered = sorted(ill, key=lambda k: (size(k), patients[k].patient))
    out = {}
    for name, chosen in zip(TERCILES, np.array_split(np.array(ordered), 3), strict=True):
        low, high = size(int(chosen[0])), size(int(chosen[-1]))
        words = f"{low:.1f} to {high:.1f} ml" if known else f"{low:,} to {high:,} px"
        out[f"{name}, {words}"] = [int(k) for k in chosen]
    return out


def _sequences_words(sequences: Ordered[str]) -> str:
    missing = [one.value for one in Sequence if one.value not in sequences]
    return f"without {' and '.join(missing)}" if missing else "all three"


def _values(
    patients: Ordered[PatientScore], value_of: Callable[[PatientScore], float | None]
) -> Array:
    return _array([value_of(one) for one in patients])


def _counts(
    patients: Ordered[PatientScore], value_of: Callable[[PatientScore], int | None]
) -> Array:
    return np.array([value_of(one) or 0 for one in patients], dtype=np.float64)


def _array(values: Ordered[float | None]) -> Array:
    """NaN for a missing value."""
    return np.array([np.nan if one is None else one for one in values], dtype=np.float64)
