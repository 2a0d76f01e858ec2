"""The decision rule fitted on out-of-fold predictions (evaluate).

Its form is that of `gliosight.decide`. Weights are fitted by logistic regression: of the slice by itself,
then in its context; of the lesion on all connected bodies at each pixel threshold tried, held near the rule
it starts from, since there are few false bodies of any size; of the study's probability on the best body of
each patient, unless every patient has a tumour. Thresholds of pixels and of further lesions are those of the
highest mean Dice by patient; those of the verdict are not fitted. The quantiles of the volume's interval are
those of out-of-fold errors (`fit_volume`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from gliosight.bodies import CONNECTED_26
from gliosight.card import DecisionRule, parse_card, parse_rule, read_card
from gliosight.decide import (
    LEAST_SOFTNESS,
    Scale,
    beside,
    by_itself,
    decide_at,
    evidence_logits,
    logit,
    study_probability,
)
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.evaluate.figures import Array
from gliosight.evaluate.mask_metrics import overlap_of
from gliosight.evaluate.predictions import KeptMaps
from gliosight.infer.model import find_card, shipped_models
from gliosight.maps import sigmoid

# What of a rule can be fitted: the slice's weights; the lesion's weights with the pixels' threshold; the
# threshold of further lesions; the study's weights.
NUMBERS = ("slices", "lesions", "further", "study")
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
# The last is a limit set by hand: two tumours are so rare that a fit would reject every second one.
FURTHER = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
# Intercept and weights of a slice by itself, of a slice in its context, and of a lesion.
OWN = ("slice_intercept", "slice_head_weight", "slice_pixel_weight")
CONTEXT = ("context_intercept", "context_own_weight", "context_beside_weight")
LESION = (
    "lesion_intercept",
    *(f"lesion_{name}_weight" for name in ("area", "extent", "slice", "pixel")),
)
STUDY = ("study_intercept", "study_weight")
# A body is a true one when this part of it is tumour.
TRUE_FROM = 0.2
# How strongly the weights of slice, lesion and study are held near where they start, in units of one slice,
# body or patient a unit of weight.
SLICE_RIDGE, LESION_RIDGE, STUDY_RIDGE = 0.1, 3.0, 1.0
# Of the interval of the volume: the part of patients below and above it.
TAIL = 0.05


@dataclass(frozen=True)
class Bodies:
    """The connected bodies of one patient at one pixel threshold.

    ``features`` are (bodies, 3): logarithm of the largest area (cm²), logarithm of the extent (cm), logit of
    the mean probability. ``slices`` are (bodies, 2): the first one, and the one after the last. ``size`` are
    voxels (bodies,), ``overlap`` those of them that are tumour.
    """

    features: Array
    slices: NDArray[np.int64]
    size: NDArray[np.int64]
    overlap: NDArray[np.int64]


@dataclass(frozen=True)
class Observed:
    """What the rule is fitted on, of one patient, whose maps are those of a ``model``.

    ``label`` (slices,) says whether a slice shows tumour; ``head`` and ``evidence`` are (slices,) logits.
    ``volume`` is tumour in voxels; ``bodies`` are by pixel threshold.
    """

    model: int
    label: NDArray[np.bool_]
    head: Array
    evidence: Array
    spacing_mm: float
    volume: int
    bodies: Mapping[float, Bodies]


def read_rule(name: str) -> tuple[DecisionRule, frozenset[str]]:
    """A decision rule, and the hashes of the patients its numbers were fitted on.

    ``name`` is a model, its card, or a ``.json`` file of rules, of which the one fitted on all patients is
    taken.

    Raises
    ------
    GliosightError
        There is no such model or file, or the file holds no such rule.
    """
    path, fitted_on = Path(name), frozenset[str]()
    if path.suffix != ".json":
        rule = read_card(find_card(name)).decision
    else:
        try:
            record = json.loads(path.read_text("utf-8"))
            if "decision" in record:
                rule = parse_card(record).decision
            else:
                rule = parse_rule(record["all"])
                fitted_on = frozenset(map(str, record.get("patients_sha256", [])))
        except OSError as error:
            raise NothingReadableError("no such rule", where=path.name) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            what = "no decision rule in it"
            remedy = "give a model, its card or the rules.json of a fit"
            raise DamagedInputError(what, where=path.name, remedy=remedy) from error
    # A run's card takes over the shipped model's rule: whose rule it is, its numbers say.
    for card in map(read_card, shipped_models().values()):
        if card.decision.for_another_network() == rule.for_another_network():
            fitted_on |= card.training_patients
    return rule, fitted_on


def observe(patient_maps: KeptMaps, truth: NDArray[np.bool_], rule: DecisionRule) -> Observed:
    """Reduce one patient's maps, and its (slices, rows, columns) truth, to what a rule is fitted on.

    Of ``rule``, the one to start from, the area of its pixel evidence and its pixel threshold count here.
    """
    scale, maps = Scale(patient_maps.sides), patient_maps.maps
    evidence = evidence_logits(maps.probability, scale, rule)
    return Observed(
        model=patient_maps.model,
        label=np.asarray(truth.any(axis=(1, 2))),
        head=logit(maps.slice_head).astype(np.float64),
        evidence=evidence.astype(np.float64),
        spacing_mm=patient_maps.sides[0],
        volume=int(truth.sum()),
        bodies={
            threshold: _bodies(maps.probability, truth, scale, threshold)
            for threshold in sorted({*THRESHOLDS, rule.pixel_threshold})
        },
    )


def _bodies(
    probability: NDArray[np.float32], truth: NDArray[np.bool_], scale: Scale, threshold: float
) -> Bodies:
    labels, count = ndimage.label(probability >= threshold, structure=CONNECTED_26)
    features, slices = np.zeros((count, 3)), np.zeros((count, 2), np.int64)
    size, overlap = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for k, box in enumerate(ndimage.find_objects(labels)):
        inside = labels[box] == k + 1
        area = float(inside.sum(axis=(1, 2)).max()) * scale.across(0)
        extent = inside.shape[0] * scale.sides[0]
        mean = np.float32(probability[box][inside].mean())
        features[k] = np.log(area / 100), np.log(extent / 10), float(logit(mean))
        slices[k] = box[0].start, box[0].stop
        size[k], overlap[k] = inside.sum(), truth[box][inside].sum()
    return Bodies(features, slices, size, overlap)


def fit_rule(
    patients: Sequence[Observed], start: DecisionRule, numbers: Collection[str] = NUMBERS
) -> DecisionRule:
    """Fit the rule's numbers, or some of them (of `NUMBERS`).

    ``start`` is what is held near, and what gives the numbers that are not fitted.

    Raises
    ------
    UsageError
        No patient has a tumour, or there are no such numbers.
    """
    ill = [patient for patient in patients if patient.volume]
    if not ill:
        raise UsageError(
            "there is no tumour to fit a rule on", remedy="give maps of patients who have one"
        )
    check_numbers(numbers)
    rule = _fit_slices(patients, start) if "slices" in numbers else start
    rules = [rule]
    if "lesions" in numbers:
        tried = [replace(rule, pixel_threshold=threshold) for threshold in patients[0].bodies]
        rules = [_fit_lesions(patients, rule) for rule in tried]
    if "further" in numbers:
        keep = {*FURTHER, start.keep_threshold}
        rules = [replace(rule, keep_threshold=threshold) for rule in rules for threshold in keep]

    def away(rule: DecisionRule) -> tuple[float, float]:
        pixel = abs(rule.pixel_threshold - start.pixel_threshold)
        return pixel, abs(rule.keep_threshold - start.keep_threshold)

    # Of equals the one nearest to where it started.
    rules.sort(key=away)
    best, best_dice = rules[0], -1.0
    for rule in rules:
        dice = float(np.mean([dice_of(patient, rule) for patient in ill]))
        if dice > best_dice + 1e-6:
            best, best_dice = rule, dice
    return _fit_study(patients, best) if "study" in numbers else best


def check_numbers(numbers: Collection[str]) -> None:
    """Refuse names that are not in `NUMBERS`; raises `UsageError`."""
    if unknown := sorted(set(numbers) - set(NUMBERS)):
        raise UsageError(
            f"a rule has no numbers called {', '.join(repr(printable(name)) for name in unknown)}",
            remedy=f"choose of {', '.join(NUMBERS)}",
        )


def cross_fit(
    patients: Sequence[Observed], start: DecisionRule, numbers: Collection[str] = NUMBERS
) -> dict[int, DecisionRule]:
    """For each model the rule that is fitted on the patients of the others; raises `UsageError`."""
    models = sorted({patient.model for patient in patients})
    if len(models) < 2:
        raise UsageError(
            "the maps are those of one model, and no other's patients are there to fit its rule on",
            remedy="give the maps of two folds or more",
        )
    return {
        model: fit_rule([patient for patient in patients if patient.model != model], start, numbers)
        for model in models
    }


def dice_of(patient: Observed, rule: DecisionRule) -> float:
    """Dice of the mask that a rule draws, as `gliosight.decide` draws it; NaN without tumour."""
    bodies = patient.bodies[rule.pixel_threshold]
    scores = _scores(patient, rule)
    best = scores.max(initial=0.0)
    drawn = study_probability(best, rule) >= rule.uncertain_from
    marked = (scores >= min(rule.keep_threshold, best)) & drawn
    overlap = overlap_of(patient.volume, bodies.size[marked].sum(), bodies.overlap[marked].sum())
    return float(overlap["dice"])


def _scores(patient: Observed, rule: DecisionRule) -> Array:
    """(bodies,) probability of each, as in `gliosight.decide.lesion_score`."""
    intercept, *weights = _weights(rule, LESION)
    logits = intercept + _lesion_features(patient, rule) @ np.array(weights)
    return np.asarray(sigmoid(logits), dtype=np.float64)


def _lesion_features(patient: Observed, rule: DecisionRule) -> Array:
    """(bodies, 4): area, extent, best slice, mean pixel; as in `gliosight.decide.lesion_score`."""
    bodies = patient.bodies[rule.pixel_threshold]
    slice_logits = by_itself(patient.head, patient.evidence, rule)
    # A probability within 1e-5 of 0 or 1 counts as that far, as in `decide`.
    edge = float(logit(np.float32(1.0)))
    best = np.array([slice_logits[low:high].max() for low, high in bodies.slices], dtype=np.float64)
    features = bodies.features
    return np.column_stack([features[:, :2], np.clip(best, -edge, edge), features[:, 2]])


def _weights(rule: DecisionRule, names: tuple[str, ...]) -> Array:
    return np.array([getattr(rule, name) for name in names])


def _fit_slices(patients: Sequence[Observed], rule: DecisionRule) -> DecisionRule:
    """By itself first, then in its context; as in `gliosight.decide`."""
    labels = [patient.label for patient in patients]
    alone = [np.column_stack([patient.head, patient.evidence]) for patient in patients]
    rule = _fitted(rule, OWN, alone, labels, SLICE_RIDGE)
    context = []
    if rule.slice_given_tumour:
        patients = [patient for patient in patients if patient.volume]
        labels = [patient.label for patient in patients]
    for patient in patients:
        itself = by_itself(patient.head, patient.evidence, rule)
        near = beside(patient.evidence, patient.spacing_mm, rule.context_mm)
        context.append(np.column_stack([itself, near]))
    return _fitted(rule, CONTEXT, context, labels, SLICE_RIDGE)


def _fit_lesions(patients: Sequence[Observed], rule: DecisionRule) -> DecisionRule:
    features = [_lesion_features(patient, rule) for patient in patients]
    bodies = [patient.bodies[rule.pixel_threshold] for patient in patients]
    labels = [body.overlap >= TRUE_FROM * body.size for body in bodies]
    return _fitted(rule, LESION, features, labels, LESION_RIDGE)


def _fit_study(patients: Sequence[Observed], rule: DecisionRule) -> DecisionRule:
    tumour = np.array([patient.volume > 0 for patient in patients])
    if tumour.all():
        return rule
    scores = np.array([_scores(patient, rule).max(initial=0.0) for patient in patients])
    features = [logit(scores.astype(np.float32)).astype(np.float64)[:, None]]
    rule = _fitted(rule, STUDY, features, [tumour], STUDY_RIDGE)
    return replace(rule, prevalence=round(float(tumour.mean()), 4))


def volume_error(
    patient_maps: KeptMaps, truth: NDArray[np.bool_], rule: DecisionRule
) -> float | None:
    """log(true volume / marked volume) as a part of the outline's softness; ``None`` without either."""
    decision = decide_at(patient_maps.maps, Scale(patient_maps.sides), rule)
    if decision.outline is None or not truth.any():
        return None
    away = np.log(truth.sum() / decision.mask.sum())
    return float(away / (decision.outline.softness + LEAST_SOFTNESS))


def fit_volume(errors: Sequence[float], rule: DecisionRule) -> DecisionRule:
    """The rule with the quantiles of such errors, conservative for their number (split conformal)."""
    if not errors:
        return rule
    ordered, count = np.sort(errors), len(errors)
    below = max(int(np.floor((count + 1) * TAIL)), 1)
    above = min(int(np.ceil((count + 1) * (1 - TAIL))), count)
    low, high = (round(float(ordered[rank - 1]), 4) for rank in (below, above))
    return replace(rule, volume_low=low, volume_high=high)


def _fitted(
    rule: DecisionRule,
    names: tuple[str, ...],
    features: Sequence[NDArray[np.floating]],
    labels: list[NDArray[np.bool_]],
    ridge: float,
) -> DecisionRule:
    """The rule with these numbers by logistic regression, held near where they start."""
    start = _weights(rule, names)
    stacked = np.concatenate(features)
    design = np.column_stack([np.ones(len(stacked)), stacked])
    sign = np.where(np.concatenate(labels), 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (design @ weights)
        away = weights - start
        value = np.logaddexp(0, -margin).sum() + ridge / 2 * (away @ away)
        slope = -(sign / (1 + np.exp(np.clip(margin, -50, 50)))) @ design + ridge * away
        return float(value), slope

    weights = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    numbers: dict[str, Any] = {k: round(float(v), 4) for k, v in zip(names, weights, strict=True)}
    return replace(rule, **numbers)
