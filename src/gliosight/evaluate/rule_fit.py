"""The numbers of a decision rule, from what networks said of patients they had not seen (evaluate).

In: `KeptMaps` and the truth of the same patients. Out: a `DecisionRule`. The rule's form is that of
`gliosight.decide`; here are only its numbers:

The slice
    Logistic regression of the slice's label on the logits of head and pixel evidence, then on what that gives
    and the evidence to either side. A lesion's score knows the first alone.
The lesion
    For each pixel threshold asked about, the connected bodies of all patients are labelled true (a fifth of
    the body or more is tumour) or false, and their score is a logistic regression on what `Lesion` knows of
    them, held near the rule it starts from: there are few false bodies of any size to learn from.
The thresholds
    Of the pixels and of further lesions: those of the highest mean Dice by patient, the mask being what the
    fitted rule keeps of it. Of the study: that of the highest sum of sensitivity and specificity by patient,
    of equals the middle of the widest gap between scores. Where every patient has a tumour it stays as in the
    rule it starts from.

`cross_fit` fits the rule of each model's patients on those of the other models, so that no number was chosen
on the patients it is scored on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from gliosight.card import DecisionRule, parse_card, read_card
from gliosight.decide import CONNECTED_26, Scale, beside, by_itself, evidence_logits, logit
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable
from gliosight.evaluate.predictions import KeptMaps
from gliosight.infer.model import find_card, shipped_models

# What of a rule can be fitted: the slice's weights; the lesion's weights with the pixels' threshold; the
# threshold of further lesions; that of the study.
NUMBERS = ("slices", "lesions", "further", "study")
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
# The last is a limit set by hand: few patients have two tumours, and would teach that no second one is real.
FURTHER = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
# Intercept and weights of a slice by itself, and in its context.
OWN = ("slice_intercept", "slice_head_weight", "slice_pixel_weight")
CONTEXT = ("context_intercept", "context_own_weight", "context_beside_weight")
# A body is a true one when this part of it is tumour.
TRUE_FROM = 0.2
# How strongly the slice's and the lesion's weights are held near where they start, in units of one slice or
# body a unit of weight.
SLICE_RIDGE, LESION_RIDGE = 0.1, 3.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bodies:
    """The connected bodies of one patient at one pixel threshold.

    Parameters
    ----------
    features : (bodies, 3) array
        Logarithm of the largest area (cm²), logarithm of the extent (cm), logit of the mean probability.
    slices : (bodies, 2) int array
        First slice, and the one after the last.
    size, overlap : (bodies,) int arrays
        Voxels, and those of them that are tumour.
    """

    features: Array
    slices: NDArray[np.int64]
    size: NDArray[np.int64]
    overlap: NDArray[np.int64]


@dataclass(frozen=True)
class Observed:
    """What the rule is fitted on, of one patient.

    Parameters
    ----------
    model : int
        Which model's maps these are.
    label : (slices,) bool array
        Whether a slice shows tumour.
    head, evidence : (slices,) arrays
        Logits.
    spacing_mm : float
        From slice to slice.
    volume : int
        Voxels of tumour.
    bodies : mapping of float to Bodies
        By pixel threshold.
    """

    model: int
    label: NDArray[np.bool_]
    head: Array
    evidence: Array
    spacing_mm: float
    volume: int
    bodies: Mapping[float, Bodies]


def rule_of(name: str) -> DecisionRule:
    """The rule of a model or its card, or the one fitted on all patients in a ``.json`` file of rules.

    Raises
    ------
    GliosightError
        There is no such model or file.
    DamagedInputError
        The file holds no such rule.
    """
    return _read_rule(name)[0]


def fitted_on(name: str) -> frozenset[str]:
    """Hashes of the patients a rule's numbers were fitted on: those of a fit, and a shipped model's own.

    A run's card takes over the shipped model's rule: whose rule it is, its numbers say.

    Raises
    ------
    GliosightError
        See `rule_of`.
    """
    rule, fit = _read_rule(name)
    cards = [read_card(one) for one in shipped_models().values()]
    return fit.union(*(one.training_patients for one in cards if one.decision == rule))


def _read_rule(name: str) -> tuple[DecisionRule, frozenset[str]]:
    """The rule, and the patients whom its file says it was fitted on."""
    path = Path(name)
    if path.suffix != ".json":
        return read_card(find_card(name)).decision, frozenset()
    try:
        record = json.loads(path.read_text("utf-8"))
        if "decision" in record:
            return parse_card(record).decision, frozenset()
        numbers, patients = record["all"], record.get("patients_sha256", [])
        rule = DecisionRule(**{key: float(value) for key, value in numbers.items()})
        return rule, frozenset(str(one) for one in patients)
    except OSError as error:
        raise NothingReadableError("no such rule", where=path.name) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedInputError(
            "no decision rule in it",
            where=path.name,
            remedy="give a model, its card or the rules.json of a fit",
        ) from error


def observe(kept: KeptMaps, truth: NDArray[np.bool_], rule: DecisionRule) -> Observed:
    """Reduce one patient's maps to what a rule is fitted on.

    Parameters
    ----------
    truth : (slices, rows, columns) bool array
    rule : DecisionRule
        The one to start from; the area of its pixel evidence and its pixel threshold count here.
    """
    scale, maps = Scale(kept.sides), kept.maps
    evidence = evidence_logits(maps.probability, scale, rule)
    return Observed(
        kept.model,
        np.asarray(truth.any(axis=(1, 2))),
        logit(maps.slice_head).astype(np.float64),
        evidence.astype(np.float64),
        kept.sides[0],
        int(truth.sum()),
        {
            one: _bodies(maps.probability, truth, scale, one)
            for one in sorted({*THRESHOLDS, rule.pixel_threshold})
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
        mean = np.float32(probability[box][inside].mean())
        features[k] = (
            np.log(area / 100),
            np.log(inside.shape[0] * scale.sides[0] / 10),
            float(logit(mean)),
        )
        slices[k] = box[0].start, box[0].stop
        size[k], overlap[k] = inside.sum(), truth[box][inside].sum()
    return Bodies(features, slices, size, overlap)


def fit_rule(
    patients: Iterable[Observed], start: DecisionRule, numbers: Collection[str] = NUMBERS
) -> DecisionRule:
    """Fit the rule's numbers, or some of them.

    Parameters
    ----------
    patients : iterable of Observed
        With and without tumour.
    start : DecisionRule
        What is held near, and what gives the numbers that are not fitted.
    numbers : collection of str
        Of `NUMBERS`.

    Raises
    ------
    UsageError
        No patient has a tumour, or there are no such numbers.
    """
    given = list(patients)
    if not any(one.volume for one in given):
        raise UsageError(
            "there is no tumour to fit a rule on", remedy="give maps of patients who have one"
        )
    check_numbers(numbers)
    rule = _fit_slices(given, start) if "slices" in numbers else start
    rules = [rule]
    if "lesions" in numbers:
        rules = [_fit_lesions(given, replace(rule, pixel_threshold=one)) for one in given[0].bodies]
    if "further" in numbers:
        keep = {*FURTHER, start.keep_threshold}
        rules = [replace(rule, keep_threshold=one) for rule in rules for one in keep]
    # Of equals the one nearest to where it started.
    rules.sort(key=lambda one: abs(one.keep_threshold - start.keep_threshold))
    rules.sort(key=lambda one: abs(one.pixel_threshold - start.pixel_threshold))
    best, best_dice = rules[0], -1.0
    for tried in rules:
        dice = float(np.mean([dice_of(one, tried) for one in given if one.volume]))
        if dice > best_dice + 1e-6:
            best, best_dice = tried, dice
    return _fit_study(given, best) if "study" in numbers else best


def check_numbers(numbers: Collection[str]) -> None:
    """Refuse names that are not in `NUMBERS`.

    Raises
    ------
    UsageError
    """
    if unknown := sorted(set(numbers) - set(NUMBERS)):
        raise UsageError(
            f"a rule has no numbers called {', '.join(repr(printable(one)) for one in unknown)}",
            remedy=f"choose of {', '.join(NUMBERS)}",
        )


def cross_fit(
    patients: Ordered[Observed], start: DecisionRule, numbers: Collection[str] = NUMBERS
) -> dict[int, DecisionRule]:
    """For each model the rule that is fitted on the patients of the others.

    Raises
    ------
    UsageError
        There are no others, or no patient of theirs has a tumour.
    """
    models = sorted({one.model for one in patients})
    if len(models) < 2:
        raise UsageError(
            "the maps are those of one model, and no other's patients are there to fit its rule on",
            remedy="give the maps of two folds or more",
        )
    return {
        model: fit_rule([one for one in patients if one.model != model], start, numbers)
        for model in models
    }


def dice_of(one: Observed, rule: DecisionRule) -> float:
    """Dice of the mask that a rule draws; as `gliosight.decide` draws it."""
    bodies = one.bodies[rule.pixel_threshold]
    scores = _scores(one, bodies, rule)
    best = scores.max(initial=0.0)
    kept = (scores >= min(rule.keep_threshold, best)) & (best >= rule.study_threshold)
    marked = int(bodies.size[kept].sum())
    return 2 * int(bodies.overlap[kept].sum()) / max(marked + one.volume, 1)


def _lesion_features(one: Observed, bodies: Bodies, rule: DecisionRule) -> Array:
    """(bodies, 4): area, extent, best slice, mean pixel; as in `gliosight.decide.lesion_score`."""
    said = by_itself(one.head, one.evidence, rule)
    # A probability within 1e-5 of 0 or 1 counts as that far, as in `decide`.
    edge = float(logit(np.float32(1.0)))
    best = [said[low:high].max() for low, high in bodies.slices]
    best_slice = np.clip(np.array(best, dtype=np.float64).reshape(-1), -edge, edge)
    return np.column_stack([bodies.features[:, :2], best_slice, bodies.features[:, 2]])


def _weights(rule: DecisionRule) -> Array:
    return np.array(
        [
            rule.lesion_intercept,
            rule.lesion_area_weight,
            rule.lesion_extent_weight,
            rule.lesion_slice_weight,
            rule.lesion_pixel_weight,
        ]
    )


def _scores(one: Observed, bodies: Bodies, rule: DecisionRule) -> Array:
    weights = _weights(rule)
    said = weights[0] + _lesion_features(one, bodies, rule) @ weights[1:]
    return np.asarray(1 / (1 + np.exp(-np.clip(said, -30, 30))))


def _fit_slices(patients: list[Observed], rule: DecisionRule) -> DecisionRule:
    """By itself first, then in its context."""
    labels = np.concatenate([one.label for one in patients])
    for names, features_of in ((OWN, _own_features), (CONTEXT, _context_features)):
        fitted = _logistic(
            np.concatenate([features_of(one, rule) for one in patients]),
            labels,
            np.array([getattr(rule, name) for name in names]),
            SLICE_RIDGE,
        )
        rule = replace(rule, **dict(zip(names, fitted, strict=True)))
    return rule


def _own_features(one: Observed, _: DecisionRule) -> Array:
    """(slices, 2): as in `gliosight.decide.by_itself`."""
    return np.column_stack([one.head, one.evidence])


def _context_features(one: Observed, rule: DecisionRule) -> Array:
    """(slices, 2): as in `gliosight.decide.in_context`."""
    around = beside(one.evidence, one.spacing_mm, rule.context_mm)
    return np.column_stack([by_itself(one.head, one.evidence, rule), around])


def _fit_lesions(patients: list[Observed], rule: DecisionRule) -> DecisionRule:
    features, labels = [], []
    for one in patients:
        bodies = one.bodies[rule.pixel_threshold]
        features.append(_lesion_features(one, bodies, rule))
        labels.append(bodies.overlap >= TRUE_FROM * bodies.size)
    fitted = _logistic(
        np.concatenate(features), np.concatenate(labels), _weights(rule), LESION_RIDGE
    )
    return replace(
        rule,
        lesion_intercept=fitted[0],
        lesion_area_weight=fitted[1],
        lesion_extent_weight=fitted[2],
        lesion_slice_weight=fitted[3],
        lesion_pixel_weight=fitted[4],
    )


def _fit_study(patients: list[Observed], rule: DecisionRule) -> DecisionRule:
    scores = np.array(
        [_scores(one, one.bodies[rule.pixel_threshold], rule).max(initial=0.0) for one in patients]
    )
    tumour = np.array([one.volume > 0 for one in patients])
    if tumour.all():
        return rule
    said = logit(np.unique(np.concatenate([scores, [0.0, 1.0]])).astype(np.float32))
    gaps = np.diff(said)
    middles = [1 / (1 + float(np.exp(-one))) for one in (said[1:] + said[:-1]) / 2]

    def right(threshold: float) -> float:
        found = (scores[tumour] >= threshold).mean() + (scores[~tumour] < threshold).mean()
        return round(float(found), 9)

    best = max(range(len(middles)), key=lambda k: (right(middles[k]), float(gaps[k])))
    # Two digits are what a reader sees; more of them only where two would decide otherwise.
    short, exact = round(middles[best], 2), round(middles[best], 4)
    same = right(short) == right(middles[best])
    return replace(rule, study_threshold=short if same else exact)


def _logistic(
    features: Array, labels: NDArray[np.bool_], start: Array, ridge: float
) -> list[float]:
    """Intercept and weights of a logistic regression, held near where they start."""
    design = np.column_stack([np.ones(len(features)), features])
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (design @ weights)
        away = weights - start
        value = np.logaddexp(0, -margin).sum() + ridge / 2 * (away @ away)
        slope = -(sign / (1 + np.exp(np.clip(margin, -50, 50)))) @ design + ridge * away
        return float(value), slope

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
    return [round(float(one), 4) for one in found.x]
