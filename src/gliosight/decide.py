"""Maps to mask, probabilities and status (stage: decide).

The network has two outputs: a tumour probability of each pixel, and one of each slice, from its slice
classifier. The model's `DecisionRule` combines them. Its numbers, the thresholds among them, stand in the
model's card: ``decision`` in ``models/joint-4.json``.

The slice
    Its *pixel evidence* is the mean probability of its most probable ``evidence_mm2`` of pixels. Its own
    logit is ``own = intercept + head_weight * classifier + pixel_weight * evidence``, with both logits. Most
    tumours span several slices, so the slice's probability also includes the evidence ``context_mm`` below
    and above it: ``sigmoid(intercept + own_weight * own + beside_weight * beside)``. Both are logistic
    regressions, fitted on patients the network was not trained on.
The lesion
    A connected component (26-connected) of voxels at or above ``pixel_threshold``. Its *score* is a logistic
    function of its largest area, its extent over the slices, the highest own probability of its slices and
    its mean voxel probability.
The study
    Its score is that of its best lesion, 0 without any. From ``study_threshold`` on the status is *tumour
    found*, and the mask keeps the best lesion and every other that scores at least ``keep_threshold``. Below
    it the status is *no tumour found* and the mask is empty. The score is not a calibrated probability.

Where slice classifier, slice probability, mask and status disagree, a flag names the slices.

Without geometry, the picture is assumed to show the card's field of view, with slices as far apart as in the
training data. These sizes only enter the score; they are never reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.analysis import Decision, Status, distinguish
from gliosight.card import DecisionRule, InputRecipe
from gliosight.flags import flag
from gliosight.maps import Maps, sigmoid
from gliosight.study import Flag, Geometry

Logits = NDArray[np.floating]

CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)
# Logits of the evidence are clipped here (0.9975), as in the maps that the rule is fitted on.
SUREST = 6.0
# The slice classifier contradicts the mask from this probability on, or below one minus it.
SURE = 0.9
# A study's score this near to its threshold, as logits, is borderline: around 0.88 that is 0.77 to 0.94.
BORDERLINE = 0.8
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
        out[k] = np.partition(plane, plane.size - count, axis=None)[-count:].mean()
    return out


def slice_probabilities(maps: Maps, scale: Scale, rule: DecisionRule) -> NDArray[np.float32]:
    """(slices,) calibrated probability that each native slice shows tumour."""
    own, evidence = _own_logits(maps, scale, rule, 0)
    logits = in_context(own, evidence, scale.sides[0], rule)
    return np.asarray(sigmoid(logits), dtype=np.float32)


def _own_logits(maps: Maps, scale: Scale, rule: DecisionRule, axis: int) -> tuple[Logits, Logits]:
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
    """(slices,) logit of each slice's probability, from its own and the evidence beside it."""
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
    maps: Maps, scale: Scale, rule: DecisionRule
) -> tuple[NDArray[np.int32], list[Lesion]]:
    """Label the candidates and measure them along the network's slice axis.

    So the score does not depend on how the volume is stored.

    Returns
    -------
    labels : (slices, rows, columns) int32 array
    lesions : list of Lesion
        In the order of their labels.
    """
    marked = maps.probability >= rule.pixel_threshold
    labels = np.asarray(ndimage.label(marked, structure=CONNECTED_26)[0], dtype=np.int32)
    slices = sigmoid(_own_logits(maps, scale, rule, maps.axis)[0])
    others = tuple(axis for axis in range(3) if axis != maps.axis)
    lesions = []
    for k, box in enumerate(ndimage.find_objects(labels)):
        inside = labels[box] == k + 1
        lesions.append(
            Lesion(
                label=k + 1,
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
    maps: Maps, geometry: Geometry | None, rule: DecisionRule, recipe: InputRecipe
) -> Decision:
    """Apply the rule to a study's maps."""
    slices, rows, columns = maps.probability.shape
    return decide_at(maps, weighing_scale(geometry, (slices, rows, columns), recipe), rule)


def decide_at(maps: Maps, scale: Scale, rule: DecisionRule) -> Decision:
    """Apply the rule to maps of a given scale."""
    shape = maps.probability.shape
    slices = slice_probabilities(maps, scale, rule)
    labels, lesions = find_lesions(maps, scale, rule)
    scores = np.array([0.0, *(lesion_score(lesion, rule) for lesion in lesions)])  # by label
    score = float(scores.max())
    found = score >= rule.study_threshold
    in_mask = (scores >= min(rule.keep_threshold, score)) & found
    in_mask[0] = False  # the label of what is no lesion
    mask = np.zeros(shape, dtype=bool)
    if found:
        for k, plane in enumerate(labels):  # an index of all would need eight bytes a voxel
            mask[k] = in_mask[plane]
    fired = ["mask_by_pixel_threshold"] if lesions else []
    if in_mask.sum() < len(lesions):
        fired.append("weak_lesions_dropped")
    short, threshold = distinguish(score, rule.study_threshold)
    if found:
        reason = f"The strongest lesion scores {short}, at or above {threshold}."
    elif lesions:
        count = _count(len(lesions), "candidate")
        reason = f"The strongest of {count} scores {short}, below {threshold}."
    else:
        reason = "No pixel reaches the threshold of the mask."
    return Decision(
        mask=mask,
        slice_probabilities=slices,
        score=score,
        score_threshold=rule.study_threshold,
        slice_threshold=rule.slice_threshold,
        status=Status.FOUND if found else Status.NOT_FOUND,
        reason=reason,
        rules=tuple(fired),
        flags=_disagreements(mask, maps.slice_head, slices, found=found, score=score, rule=rule),
    )


def not_assessed(shape: tuple[int, int, int], rule: DecisionRule, reason: str) -> Decision:
    """The decision for a study that cannot be assessed."""
    return Decision(
        mask=np.zeros(shape, dtype=bool),
        slice_probabilities=np.zeros(shape[0], dtype=np.float32),
        score=None,
        score_threshold=rule.study_threshold,
        slice_threshold=rule.slice_threshold,
        status=Status.NOT_ASSESSED,
        reason=reason,
        rules=("not_assessed",),
    )


def name_slices(marks: NDArray[np.bool_]) -> str:
    """The marked slices in words, by their index: ``slices 1 to 3 and 7``."""
    indices = np.flatnonzero(marks).tolist()
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
    head: NDArray[np.float32],
    slices: NDArray[np.float32],
    *,
    found: bool,
    score: float,
    rule: DecisionRule,
) -> tuple[Flag, ...]:
    """Flags for slices whose mask contradicts the slice classifier (warning) or the probability (info)."""
    marked = mask.any(axis=(1, 2))
    likely = slices >= rule.slice_threshold
    unmarked = (head >= SURE) & ~marked
    unsure = marked & (head <= 1 - SURE)
    bound = f"(threshold {rule.slice_threshold:.2f})"
    its, them = ("its", "it") if likely.sum() == 1 else ("their", "them")
    rows: tuple[tuple[str, NDArray[np.bool_], str], ...] = (
        (
            "SLICES_WITHOUT_TUMOUR",
            likely & (not found),
            f"{{}} on {its} own would count as tumour, but no lesion is large and sure enough for the "
            f"study: look at {them}.",
        ),
        (
            "SLICE_CLASSIFIER_WITHOUT_MASK",
            unmarked,
            "The slice classifier is sure of tumour in {}, but nothing is marked there: the outline may be "
            "incomplete.",
        ),
        (
            "MASK_WITHOUT_SLICE_CLASSIFIER",
            unsure,
            "The mask marks {}, but the slice classifier is sure that there is no tumour: the outline may "
            "reach too far.",
        ),
        # Only what the flags of the sure ones, or that of the whole study, do not tell already.
        (
            "PROBABILITY_WITHOUT_MASK",
            likely & ~marked & ~unmarked & found,
            f"By probability {{}} would count as tumour {bound}, but nothing is marked there.",
        ),
        (
            "MASK_WITHOUT_PROBABILITY",
            marked & ~likely & ~unsure,
            f"The mask marks {{}}, but by probability that would not count as tumour {bound}.",
        ),
    )
    flags = []
    for code, marks, sentence in rows:
        if marks.any():
            message = sentence.format(name_slices(marks))
            flags.append(flag(code, message[0].upper() + message[1:]))
    near, far = logit(np.array([score, rule.study_threshold], dtype=np.float32))
    if abs(near - far) < BORDERLINE:
        short, threshold = distinguish(score, rule.study_threshold)
        message = (
            f"The score of {short} is close to the threshold of {threshold}: "
            "the verdict could as well be the other."
        )
        flags.append(flag("BORDERLINE", message))
    return tuple(flags)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
