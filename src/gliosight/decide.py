"""Maps to mask, probabilities and status (stage: decide).

The network has two outputs: a tumour probability of each pixel, and one of each slice, from its slice
classifier. The model's `DecisionRule` combines them. Its numbers, the thresholds among them, stand in the
model's card: ``decision`` in ``models/joint-4.json``.

The lesion
    A connected component (26-connected) of voxels at or above ``pixel_threshold``. Its *score* is a logistic
    function of its largest area, its extent over the slices, the highest own probability of its slices (see
    below) and its mean voxel probability.
The study
    Its probability is a logistic function of the score of its best lesion, fitted on out-of-fold studies with
    and without tumour. It holds for the share of tumour among these (``prevalence``); for another share its
    logit is shifted by the difference of the shares' logits. From ``found_from`` on the status is *tumour
    found*, below ``uncertain_from`` *no tumour found*, and *uncertain* between; also where the lesion looks
    unlike a tumour, see `gliosight.plausibility`, or the input unlike the training data; and where only a
    high share makes it probable: there is no lesion, or the probability is below the share. Unless no tumour
    was found, the mask keeps the best lesion and every other that scores at least ``keep_threshold``.
The slice
    Its *pixel evidence* is the mean probability of its most probable ``evidence_mm2`` of pixels. Its own
    logit is ``own = intercept + head_weight * classifier + pixel_weight * evidence``, with both logits. Most
    tumours span several slices, so the evidence ``context_mm`` below and above it counts as well:
    ``sigmoid(intercept + own_weight * own + beside_weight * beside)``, fitted on studies with tumour. The
    slice's probability is the product of this and of the study's.
The outline
    Its *softness* is the logarithm of the volume at probability 0.3 over that at 0.7. The 90 % interval of
    the volume is ``volume * exp(quantile * (softness + 0.1))``, with the 5 % and 95 % quantile of what is in
    the exponent out of fold (split conformal prediction, https://doi.org/10.1214/20-AOS1965). It is widened
    where the input is unlike the training data.

Without geometry, the picture is assumed to show the card's field of view, with slices as far apart as in the
training data. These sizes only enter the score; they are never reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Decision, Outline, Status, against, distinguish, first_voxel
from gliosight.bodies import Box, box_of, label_bodies
from gliosight.card import DecisionRule, InputRecipe
from gliosight.flags import flag
from gliosight.maps import Maps, sigmoid
from gliosight.plausibility import assumed_geometry, find_doubts
from gliosight.study import Flag, Geometry

Logits = NDArray[np.floating]
# From the candidates' labels and the mask, the flags of what looks unlike a tumour.
Doubts: TypeAlias = Callable[[NDArray[np.int32], NDArray[np.bool_]], tuple[Flag, ...]]

# Logits of the evidence are clipped here (0.9975), as in the maps that the rule is fitted on.
SUREST = 6.0
# The levels whose volumes make an outline's softness. What is added to it, so that the interval of a sharp
# outline still has a width. Softer outlines than the last are treated as being that soft.
SOFT, SHARP = 0.3, 0.7
LEAST_SOFTNESS, MOST_SOFTNESS = 0.1, 1.0
# More slices, or runs of slices, than this are not named one by one.
MOST_NAMED = 5


@dataclass(frozen=True)
class Scale:
    """The voxel size used for the scores.

    Parameters
    ----------
    sides : tuple of float
        Along the native slice, row and column axis, mm.
    """

    sides: tuple[float, float, float]

    def across(self, axis: int) -> float:
        """Area of a pixel in a plane across ``axis``, mm²."""
        return self.sides[(axis + 1) % 3] * self.sides[(axis + 2) % 3]


@dataclass(frozen=True)
class Lesion:
    """A candidate: a connected component, and what its score is made of."""

    label: int
    box: Box
    area_mm2: float
    extent_mm: float
    slice_probability: float
    mean_probability: float


def weighing_scale(
    geometry: Geometry | None, shape: tuple[int, int, int], recipe: InputRecipe
) -> Scale:
    """The scale of a study; without geometry the assumed one."""
    if geometry is None:
        pixel = recipe.field_of_view_mm / max(shape[1:])
        return Scale((recipe.neighbour_mm, pixel, pixel))
    return Scale((geometry.slice_spacing or recipe.neighbour_mm, *geometry.spacing))


def slice_evidence(
    probability: NDArray[np.float32], scale: Scale, evidence_mm2: float, axis: int = 0
) -> NDArray[np.float32]:
    """(shape[axis],) mean probability of each slice's strongest pixels of the given area."""
    planes = np.moveaxis(probability, axis, 0)
    count = int(np.clip(round(evidence_mm2 / scale.across(axis)), 1, planes[0].size))
    out = np.empty(len(planes), dtype=np.float32)
    for k, plane in enumerate(planes):  # at once, all of them would be copied
        # What was not predicted has one value, the lowest: many equal values make a partition slow.
        values = plane[plane > plane.min()]
        values = values if len(values) >= count else plane.ravel()
        out[k] = np.partition(values, len(values) - count)[-count:].mean()
    return out


def slice_probabilities(
    own: Logits, evidence: Logits, scale: Scale, rule: DecisionRule, study: float
) -> NDArray[np.float32]:
    """(slices,) probability that each native slice shows tumour; ``study`` is the study's.

    ``own`` and ``evidence`` are those of `own_logits` along the native slice axis.
    """
    probability = sigmoid(in_context(own, evidence, scale.sides[0], rule))
    if rule.slice_given_tumour:
        probability = probability * study
    return np.asarray(probability, dtype=np.float32)


def study_probability(score: float, rule: DecisionRule, prevalence: float | None = None) -> float:
    """Probability of tumour of a lesion's score, or of a study's best one.

    ``prevalence`` is the share of tumour that it is for, if another than that of the rule.
    """
    own = rule.study_intercept + rule.study_weight * float(logit(np.float32(score)))
    if prevalence is not None:
        own += float(np.log(prevalence / (1 - prevalence)))
        own -= float(np.log(rule.prevalence / (1 - rule.prevalence)))
    return float(sigmoid(own))


def own_logits(maps: Maps, scale: Scale, rule: DecisionRule, axis: int) -> tuple[Logits, Logits]:
    """(shape[axis],) each slice's own logit, and that of its evidence; ``axis`` is 0 or ``maps.axis``."""
    head = logit(maps.axis_head if axis == maps.axis else maps.slice_head)
    evidence = evidence_logits(maps.probability, scale, rule, axis)
    return by_itself(head, evidence, rule), evidence


def evidence_logits(
    probability: NDArray[np.float32], scale: Scale, rule: DecisionRule, axis: int = 0
) -> NDArray[np.float32]:
    """(shape[axis],) logit of the slices' pixel evidence, within `SUREST` either way."""
    evidence = logit(slice_evidence(probability, scale, rule.evidence_mm2, axis))
    return np.clip(evidence, -SUREST, SUREST)


def by_itself(head: Logits, evidence: Logits, rule: DecisionRule) -> Logits:
    """(slices,) each slice's own logit, from those of the slice classifier and of the pixel evidence."""
    return np.asarray(
        rule.slice_intercept + rule.slice_head_weight * head + rule.slice_pixel_weight * evidence
    )


def in_context(own: Logits, evidence: Logits, spacing_mm: float, rule: DecisionRule) -> Logits:
    """(slices,) logit of each slice in its context, from its own and the evidence beside it."""
    return np.asarray(
        rule.context_intercept
        + rule.context_own_weight * own
        + rule.context_beside_weight * beside(evidence, spacing_mm, rule.context_mm)
    )


def beside(values: Logits, spacing_mm: float, distance_mm: float) -> Logits:
    """(slices,) mean of the values ``distance_mm`` below and above, interpolated; the ends are repeated."""
    at, step = np.arange(len(values)), distance_mm / spacing_mm
    below, above = (np.interp(at + away, at, values) for away in (-step, step))
    return np.asarray((below + above) / 2)


def find_lesions(
    maps: Maps, scale: Scale, rule: DecisionRule, own: Logits
) -> tuple[NDArray[np.int32], list[Lesion]]:
    """Label the candidates and measure them along the network's slice axis.

    So the score does not depend on how the volume is stored. ``own`` are the logits of the slices along
    that axis, see `own_logits`.

    Returns
    -------
    labels : (slices, rows, columns) int32 array
    lesions : list of Lesion
        In the order of their labels.
    """
    labels, boxes = label_bodies(maps.probability >= rule.pixel_threshold)
    slices = sigmoid(own)
    others = tuple(axis for axis in range(3) if axis != maps.axis)
    lesions = []
    for k, box in enumerate(boxes):
        inside = labels[box] == k + 1
        lesions.append(
            Lesion(
                label=k + 1,
                box=box,
                area_mm2=float(inside.sum(axis=others).max()) * scale.across(maps.axis),
                extent_mm=inside.shape[maps.axis] * scale.sides[maps.axis],
                slice_probability=float(slices[box[maps.axis]].max()),
                mean_probability=float(maps.probability[box][inside].mean()),
            )
        )
    return labels, lesions


def lesion_score(lesion: Lesion, rule: DecisionRule) -> float:
    """Score of a lesion in [0, 1]."""
    weighed = (
        rule.lesion_intercept
        + rule.lesion_area_weight * np.log(lesion.area_mm2 / 100)
        + rule.lesion_extent_weight * np.log(lesion.extent_mm / 10)
        + rule.lesion_slice_weight * logit(np.float32(lesion.slice_probability))
        + rule.lesion_pixel_weight * logit(np.float32(lesion.mean_probability))
    )
    return float(sigmoid(float(weighed)))


def decide(
    maps: Maps,
    geometry: Geometry | None,
    rule: DecisionRule,
    recipe: InputRecipe,
    *,
    head: NDArray[np.bool_] | None = None,
    prevalence: float | None = None,
    distance: float = 0.0,
) -> Decision:
    """Apply the rule to a study's maps.

    Parameters
    ----------
    maps : Maps
    geometry : Geometry or None
    rule : DecisionRule
    recipe : InputRecipe
    head : (slices, rows, columns) bool array, optional
        The head, see `gliosight.head.find_head`; without it what is marked is not checked against it.
    prevalence : float, optional
        Share of studies with tumour, if another than that of the rule.
    distance : float
        How far the input is from the training data, see `gliosight.analysis.InputCheck`.
    """
    slices, rows, columns = maps.probability.shape
    scale = weighing_scale(geometry, (slices, rows, columns), recipe)
    doubts: Doubts | None = None
    if head is not None:
        placed = geometry or assumed_geometry(len(maps.probability), scale.sides)
        doubts = partial(find_doubts, head=head, geometry=placed, axis=maps.axis)
    return decide_at(maps, scale, rule, doubts=doubts, prevalence=prevalence, distance=distance)


def decide_at(
    maps: Maps,
    scale: Scale,
    rule: DecisionRule,
    *,
    doubts: Doubts | None = None,
    prevalence: float | None = None,
    distance: float = 0.0,
) -> Decision:
    """Apply the rule to maps of a given scale; ``doubts`` gives the flags of an implausible mask."""
    own, evidence = own_logits(maps, scale, rule, 0)
    along = own if maps.axis == 0 else own_logits(maps, scale, rule, maps.axis)[0]
    labels, lesions = find_lesions(maps, scale, rule, along)
    reached = np.zeros(len(labels), dtype=bool)
    for lesion in lesions:
        reached[lesion.box[0]] = True
    scores = np.array([0.0, *(lesion_score(lesion, rule) for lesion in lesions)])  # by label
    score = float(scores.max())
    probability = study_probability(score, rule, prevalence)
    marked = probability >= rule.uncertain_from and bool(lesions)
    in_mask = (scores >= min(rule.keep_threshold, score)) & marked
    in_mask[0] = False  # the label of what is no lesion
    mask = np.zeros(maps.probability.shape, dtype=bool)
    flags: tuple[Flag, ...] = ()
    outline, of_lesions = None, {}
    if marked:
        for k in np.flatnonzero(reached):  # an index of all would need eight bytes a voxel
            mask[k] = in_mask[labels[k]]
        of_lesions = {
            first_voxel(
                labels[lesion.box] == lesion.label, lesion.box, labels.shape
            ): study_probability(float(scores[lesion.label]), rule, prevalence)
            for lesion in lesions
            if in_mask[lesion.label]
        }
        flags = doubts(labels, mask) if doubts is not None else ()
        del labels  # four bytes a voxel
        outline = outline_of(maps.probability, mask, rule, distance)
    unlike = "the images are unlike the training data" if distance >= 1 else ""
    unlike = "what is marked is unlike a tumour" if flags else unlike
    status, reason = _verdict(
        probability, rule, unlike, candidates=len(lesions), prevalence=prevalence
    )
    fired = ["mask_by_pixel_threshold"] if lesions else []
    if in_mask.sum() < len(lesions):
        fired.append("weak_lesions_dropped")
    if flags:
        fired.append("implausible")
    slices = slice_probabilities(own, evidence, scale, rule, probability)
    calibrated = prevalence if prevalence is not None else (rule.prevalence or None)
    return Decision(
        mask=mask,
        slice_probabilities=slices,
        probability=probability,
        prevalence=calibrated,
        uncertain_from=rule.uncertain_from,
        found_from=rule.found_from,
        slice_threshold=rule.slice_threshold,
        status=status,
        reason=reason,
        rules=tuple(fired),
        flags=(*flags, *_disagreements(mask, slices, reached, rule)),
        lesion_probabilities=of_lesions,
        outline=outline,
        caveat=_caveat(rule, prevalence) if status is Status.NOT_FOUND else "",
    )


def _verdict(
    probability: float,
    rule: DecisionRule,
    unlike: str,
    *,
    candidates: int,
    prevalence: float | None,
) -> tuple[Status, str]:
    """The status, and why, in a sentence; ``unlike`` says what makes a probable tumour doubtful.

    A high ``prevalence`` makes every study probable. Found is only what the images speak for: something is
    marked, and the probability is not below that share.
    """
    what = f"{'probability' if rule.prevalence else 'score'} of tumour"
    what = (
        f"The {what}"
        if prevalence is None
        else f"Where {100 * prevalence:g} % of studies have a tumour, the {what}"
    )
    unmarked = f"voxel reaches a probability of {rule.pixel_threshold:.2f}, so nothing is marked"
    if probability < rule.uncertain_from:
        if not candidates:
            return Status.NOT_FOUND, f"No {unmarked}."
        short, bound = against(probability, rule.uncertain_from)
        return (
            Status.NOT_FOUND,
            f"{what} is {_words(short)}. Below {bound} the verdict is no tumour found.",
        )
    short, bound = against(probability, rule.found_from)
    if not candidates:
        return (
            Status.UNCERTAIN,
            f"{what} is {_words(short)}, but no {unmarked}.",
        )
    if probability < rule.found_from:
        return Status.UNCERTAIN, (
            f"{what} is {_words(short)}, between {rule.uncertain_from:.2f} and {bound}: "
            "too high to say no, too low to say yes."
        )
    if unlike:
        return Status.UNCERTAIN, f"{what} is {_words(short)}, but {unlike}."
    if prevalence is not None and probability < prevalence:
        short = distinguish(probability, prevalence)[0]
        return Status.UNCERTAIN, (
            f"{what} is {_words(short)}, below that share: the images speak against a tumour rather "
            "than for it."
        )
    return Status.FOUND, f"{what} is {_words(short)}. From {bound} on the verdict is tumour found."


def _words(probability: str) -> str:
    """A probability that rounds to 0 or 1, within a sentence."""
    return probability.replace("> ", "above ").replace("< ", "below ")


def _caveat(rule: DecisionRule, prevalence: float | None) -> str:
    """What a negative answer does not say; the tests were made at the rule's own share of tumour."""
    told = "This does not rule out a tumour."
    if prevalence is None and rule.missed_half_ml:
        told += (
            f" In tests with synthetic lesions, half of those of {rule.missed_half_ml:g} ml were missed, "
            f"and one in ten of those of {rule.missed_tenth_ml:g} ml."
        )
    return told


def outline_of(
    probability: NDArray[np.float32],
    mask: NDArray[np.bool_],
    rule: DecisionRule,
    distance: float = 0.0,
) -> Outline:
    """How sure the outline of a mask is; both are (slices, rows, columns), and the mask is not empty.

    ``distance`` is that of the input from the training data: from 1 on the interval is widened by it.
    """
    box = box_of((probability >= SOFT) | mask)
    inside, mask = probability[box], mask[box]
    sharp = max(int(np.count_nonzero(inside[mask] >= SHARP)), 1)
    softness = min(math.log(_grown(inside, mask, SOFT).sum() / sharp), MOST_SOFTNESS)
    if not (rule.volume_low or rule.volume_high):
        return Outline(softness)
    scale = (softness + LEAST_SOFTNESS) * max(1.0, distance)
    low, high = (math.exp(quantile * scale) for quantile in (rule.volume_low, rule.volume_high))
    return Outline(softness, min(low, 1.0), max(high, 1.0))


def _grown(
    probability: NDArray[np.float32], mask: NDArray[np.bool_], level: float
) -> NDArray[np.bool_]:
    """The mask with what is connected to it at or above a probability; all (slices, rows, columns)."""
    labels, boxes = label_bodies((probability >= level) | mask)
    reached = np.zeros(len(boxes) + 1, dtype=bool)
    for plane, marked in zip(
        labels, mask, strict=True
    ):  # at once, an index takes eight bytes a voxel
        reached[plane[marked]] = True
    return np.stack([reached[plane] for plane in labels])


def not_assessed(shape: tuple[int, int, int], rule: DecisionRule, reason: str) -> Decision:
    """The decision for a study that cannot be assessed."""
    return Decision(
        mask=np.zeros(shape, dtype=bool),
        slice_probabilities=np.zeros(shape[0], dtype=np.float32),
        probability=None,
        prevalence=None,
        uncertain_from=rule.uncertain_from,
        found_from=rule.found_from,
        slice_threshold=rule.slice_threshold,
        status=Status.NOT_ASSESSED,
        reason=reason,
        rules=("not_assessed",),
    )


def name_slices(marks: NDArray[np.bool_]) -> str:
    """The marked slices in words, counted from 1: ``slices 1 to 3 and 7``."""
    indices = (np.flatnonzero(marks) + 1).tolist()
    runs: list[list[int]] = []
    for index in indices:
        if not runs or index != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(index)
    parts: list[str] = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    if len(parts) > MOST_NAMED:
        return f"{_count(len(indices), 'slice')} ({', '.join(parts[:MOST_NAMED])} and more)"
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"{'slice' if len(indices) == 1 else 'slices'} {listed}"


def logit(probability: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """log(p / (1 - p)), with p kept within [1e-5, 1 - 1e-5]."""
    p = np.clip(probability, 1e-5, 1 - 1e-5)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float32)


def _disagreements(
    mask: NDArray[np.bool_],
    slices: NDArray[np.float32],
    reached: NDArray[np.bool_],
    rule: DecisionRule,
) -> tuple[Flag, ...]:
    """Flags for slices whose mask contradicts their probability.

    ``reached`` (slices,) says where pixels reach the threshold of the mask, whether or not they were kept.
    """
    marked, likely = mask.any(axis=(1, 2)), slices >= rule.slice_threshold
    bound = f"(threshold {rule.slice_threshold:.2f})"
    flags = []
    if (likely & ~marked).any():
        message = (
            f"By probability {name_slices(likely & ~marked)} would count as tumour {bound}, but "
        )
        message += "nothing is marked there"
        if (dropped := likely & ~marked & reached).any():
            message += f"; what was found in {name_slices(dropped)} was too weak, and was dropped"
        flags.append(flag("PROBABILITY_WITHOUT_MASK", f"{message}."))
    if (marked & ~likely).any():
        message = (
            f"The mask marks {name_slices(marked & ~likely)}, but by probability that would not "
        )
        flags.append(flag("MASK_WITHOUT_PROBABILITY", message + f"count as tumour {bound}."))
    return tuple(flags)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
