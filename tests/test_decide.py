"""The rule that joins slice head and mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gliosight.analysis import Status
from gliosight.card import DecisionRule, InputRecipe
from gliosight.decide import (
    beside,
    decide,
    find_lesions,
    lesion_score,
    name_slices,
    not_assessed,
    slice_evidence,
    slice_probabilities,
    weighing_scale,
)
from gliosight.maps import Maps
from tests.conftest import make_geometry

SHAPE = (12, 128, 128)
# Plausible numbers of the tests' own: what is tested is the rule's form, whatever a model was fitted to.
RULE = DecisionRule(
    pixel_threshold=0.5,
    evidence_mm2=25.0,
    slice_intercept=-0.6,
    slice_head_weight=0.54,
    slice_pixel_weight=0.24,
    slice_threshold=0.5,
    lesion_intercept=-3.0,
    lesion_area_weight=1.0,
    lesion_extent_weight=0.8,
    lesion_slice_weight=0.4,
    lesion_pixel_weight=0.8,
    study_threshold=0.5,
    keep_threshold=0.95,
    context_intercept=0.05,
    context_own_weight=0.56,
    context_beside_weight=0.49,
)
INPUT = InputRecipe()


def _maps(*blobs: tuple[slice, int, float], head: float = 0.01, sure: float = 0.999) -> Maps:
    """Maps with square blobs (slices, side in pixels, probability) along the diagonal."""
    probability = np.full(SHAPE, 0.001, np.float32)
    heads = np.full(SHAPE[0], head, np.float32)
    corner = 10
    for rows, side, value in blobs:
        probability[rows, corner : corner + side, corner : corner + side] = value
        heads[rows] = sure
        corner += side + 10
    return Maps(probability, heads)


def _decide(maps: Maps, geometry: object = None):
    return decide(maps, geometry, RULE, INPUT)  # type: ignore[arg-type]


def test_a_large_sure_lesion_is_found() -> None:
    decision = _decide(_maps((slice(3, 8), 30, 0.95)), make_geometry(12, (5, 1, 1)))
    assert decision.status is Status.FOUND
    assert decision.mask.sum() == 5 * 900
    assert decision.score is not None
    assert decision.score > 0.95
    assert (decision.slice_probabilities[4:7] > 0.9).all()
    assert (decision.slice_probabilities[3:8] > 0.7).all()
    assert (decision.slice_probabilities[:3] < 0.1).all()
    assert decision.flags == ()


def test_a_pixel_alone_makes_no_tumour() -> None:
    decision = _decide(_maps((slice(4, 5), 3, 0.8), sure=0.3), make_geometry(12, (5, 1, 1)))
    assert decision.status is Status.NOT_FOUND
    assert not decision.mask.any()
    assert "weak_lesions_dropped" in decision.rules
    assert 0 < (decision.score or 0) < 0.5


def test_a_second_lesion_is_a_finding_and_a_speck_is_not() -> None:
    maps = _maps(
        (slice(2, 7), 40, 0.97), (slice(2, 7), 25, 0.97), (slice(9, 10), 2, 0.6), sure=0.999
    )
    decision = _decide(maps, make_geometry(12, (5, 1, 1)))
    assert decision.mask.sum() == 5 * (1600 + 625)
    assert "weak_lesions_dropped" in decision.rules


def test_the_best_lesion_stays_and_others_must_be_sure() -> None:
    maps = _maps((slice(2, 7), 30, 0.95), (slice(2, 7), 15, 0.9), sure=0.99)
    stricter = replace(RULE, keep_threshold=1.0)
    decision = decide(maps, make_geometry(12, (5, 1, 1)), stricter, INPUT)
    assert decision.status is Status.FOUND
    assert decision.mask.sum() == 5 * 900
    assert "weak_lesions_dropped" in decision.rules


def test_nothing_marked() -> None:
    decision = _decide(_maps())
    assert decision.status is Status.NOT_FOUND
    assert decision.score == 0
    assert decision.rules == ()
    assert decision.flags == ()


def test_a_sure_head_over_an_empty_mask_is_said() -> None:
    maps = _maps()
    maps.slice_head[5] = 0.9999
    maps.probability[4:7, 40:60, 40:60] = 0.4  # below the threshold of the mask
    decision = _decide(maps)
    assert decision.status is Status.NOT_FOUND
    assert {one.code for one in decision.flags} == {
        "SLICES_WITHOUT_TUMOUR",
        "SLICE_CLASSIFIER_WITHOUT_MASK",
    }


@pytest.mark.parametrize(
    ("maps", "code"),
    [
        (_maps(head=0.99), "SLICE_CLASSIFIER_WITHOUT_MASK"),
        (_maps((slice(2, 3), 40, 0.99), head=0.999, sure=0.999), "SLICE_CLASSIFIER_WITHOUT_MASK"),
        (_maps((slice(2, 7), 40, 0.99), sure=0.01), "MASK_WITHOUT_SLICE_CLASSIFIER"),
    ],
    ids=["a sure head, no pixel", "a sure head beside the lesion", "a sure mask, a sure denial"],
)
def test_head_and_mask_never_contradict_each_other_silently(maps: Maps, code: str) -> None:
    # The pixels' evidence outweighs the head in the slice's probability, which must not hide this.
    assert code in {one.code for one in _decide(maps).flags}


def test_head_and_mask_that_disagree_in_a_found_study_are_said() -> None:
    maps = _maps((slice(3, 8), 30, 0.95))
    maps.slice_head[7] = 1e-5
    maps.probability[7, 10:40, 10:40] = np.where(np.arange(900).reshape(30, 30) < 4, 0.55, 0.01)
    maps.slice_head[9] = 0.99999
    maps.probability[9, 40:60, 40:60] = 0.45
    codes = {one.code for one in _decide(maps).flags}
    assert codes == {"MASK_WITHOUT_SLICE_CLASSIFIER", "SLICE_CLASSIFIER_WITHOUT_MASK"}


def test_slices_whose_probability_and_mask_contradict_each_other_are_named() -> None:
    maps = _maps((slice(2, 8), 30, 0.95))
    # 9 to 11 are likely by both opinions, though neither is sure nor any pixel marked.
    maps.slice_head[9:] = 0.89
    maps.probability[9:, 40:60, 40:60] = 0.45
    # 8 holds a tail of the lesion in which nobody believes much.
    maps.slice_head[8] = 0.15
    maps.probability[8, 10:12, 10:12] = 0.55
    decision = _decide(maps)
    marked = decision.mask.any(axis=(1, 2))
    likely = decision.slice_probabilities >= decision.slice_threshold
    assert np.flatnonzero(likely & ~marked).tolist() == [9, 10, 11]
    assert np.flatnonzero(marked & ~likely).tolist() == [8]
    assert [(one.code, one.severity) for one in decision.flags] == [
        ("PROBABILITY_WITHOUT_MASK", "info"),
        ("MASK_WITHOUT_PROBABILITY", "info"),
    ]
    assert "slices 9 to 11" in decision.flags[0].message
    assert "slice 8" in decision.flags[1].message


def test_no_slice_is_told_twice() -> None:
    maps = _maps((slice(2, 8), 30, 0.95))
    maps.slice_head[9:] = (0.9999, 0.89, 0.89)
    maps.probability[9:, 40:60, 40:60] = 0.45
    maps.slice_head[8] = 1e-4
    maps.probability[8, 10:12, 10:12] = 0.55
    told = {one.code: one.message for one in _decide(maps).flags}
    assert told.keys() == {
        "SLICE_CLASSIFIER_WITHOUT_MASK",
        "MASK_WITHOUT_SLICE_CLASSIFIER",
        "PROBABILITY_WITHOUT_MASK",
    }
    assert "slice 9," in told["SLICE_CLASSIFIER_WITHOUT_MASK"]
    assert "slice 8," in told["MASK_WITHOUT_SLICE_CLASSIFIER"]
    assert "slices 10 and 11" in told["PROBABILITY_WITHOUT_MASK"]
    # Where nothing was found the slices that would count have their flag already.
    free = _maps()
    free.slice_head[4:9] = 0.89
    free.probability[4:9, 40:60, 40:60] = 0.45
    assert {one.code for one in _decide(free).flags} == {"SLICES_WITHOUT_TUMOUR"}


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ([4], "slice 4"),
        ([0, 9], "slices 0 and 9"),
        ([1, 2, 3, 7], "slices 1 to 3 and 7"),
        ([1, 2, 5, 8, 9, 10], "slices 1, 2, 5 and 8 to 10"),
        (range(0, 40, 2), "20 slices (0, 2, 4, 6, 8 and more)"),
    ],
)
def test_slices_are_named_in_words(which: list[int], words: str) -> None:
    marks = np.zeros(50, bool)
    marks[list(which)] = True
    assert name_slices(marks) == words


@pytest.mark.slow
def test_borderline_is_said() -> None:
    areas = range(4, 40)
    flags = {
        side: {one.code for one in _decide(_maps((slice(4, 6), side, 0.7), sure=0.9)).flags}
        for side in areas
    }
    assert any("BORDERLINE" in codes for codes in flags.values())
    assert "BORDERLINE" not in flags[39]


def test_a_sure_lesion_is_not_borderline_at_a_high_threshold() -> None:
    """The distance is that of logits: a threshold of half the odds is near, one of a fifth is not."""
    maps = _maps((slice(3, 8), 30, 0.95))
    score = _decide(maps, make_geometry(12, (5, 1, 1))).score
    assert score is not None
    for odds, borderline in ((0.5, True), (0.2, False)):
        threshold = 1 / (1 + (1 - score) / score / odds)
        rule = replace(RULE, study_threshold=threshold)
        decision = decide(maps, make_geometry(12, (5, 1, 1)), rule, INPUT)
        assert ("BORDERLINE" in {flag.code for flag in decision.flags}) is borderline, threshold


def test_scale_without_geometry_is_a_guess_for_weighing_only() -> None:
    recipe = InputRecipe()
    assert weighing_scale(None, (20, 256, 256), recipe).across(0) == pytest.approx(0.9375**2)
    # The same head in twice the pixels weighs the same.
    fine = weighing_scale(None, (20, 512, 512), recipe)
    assert fine.across(0) == pytest.approx(0.9375**2 / 4)
    known = weighing_scale(make_geometry(3, (4.0, 0.5, 0.6)), (3, 9, 9), recipe)
    assert known.across(0) == pytest.approx(0.3)
    assert known.across(2) == pytest.approx(2.0)
    assert known.sides[0] == 4.0


def test_evidence_is_the_mean_of_the_strongest_pixels() -> None:
    probability = np.zeros((1, 10, 10), np.float32)
    probability[0, 0, :4] = (0.9, 0.8, 0.7, 0.1)
    scale = weighing_scale(make_geometry(1, (5, 1, 1)), (1, 10, 10), InputRecipe())
    assert slice_evidence(probability, scale, 3.0)[0] == pytest.approx(0.8)
    assert slice_evidence(probability, scale, 1e9)[0] == pytest.approx(probability.mean())


def test_slice_probability_grows_with_head_and_with_mask() -> None:
    scale = weighing_scale(None, SHAPE, INPUT)

    def probability(head: float, pixel: float) -> float:
        maps = _maps((slice(3, 8), 20, pixel), sure=head)
        return float(slice_probabilities(maps, scale, RULE)[5])

    assert probability(0.9, 0.9) > probability(0.9, 0.4) > probability(0.1, 0.4)
    assert probability(0.999, 0.99) > 0.95
    assert probability(0.01, 0.01) < 0.05


@pytest.mark.parametrize("spacing", [1.0, 5.0])
def test_a_slice_is_likelier_with_tumour_on_either_side(spacing: float) -> None:
    """Within 7.5 mm of a tumour a slice counts for more than the same slice far from it."""
    count = round(60 / spacing)
    geometry = make_geometry(count, (spacing, 1, 1))
    scale = weighing_scale(geometry, (count, 20, 20), INPUT)
    away = np.abs(np.arange(count) - (count - 1) / 2) * spacing
    probability = np.full((count, 20, 20), 1e-4, np.float32)
    probability[away <= 5] = 0.999
    maps = Maps(probability, np.full(count, 0.2, np.float32))
    found = slice_probabilities(maps, scale, RULE)
    alone = slice_probabilities(maps, scale, replace(RULE, context_beside_weight=0.0))
    near, far = (away > 5) & (away <= 10), away > 15
    assert np.ptp(alone[near | far]) < 1e-6
    assert found[near].min() > 2 * found[far].max()
    assert found == pytest.approx(found[::-1], abs=1e-6)


def test_what_lies_beside_is_a_distance_not_a_count_of_slices() -> None:
    thin, thick = np.arange(40.0), np.arange(0, 40.0, 4)
    assert beside(thick, 4.0, 7.5)[3:-3] == pytest.approx(thick[3:-3])
    peak = np.maximum(0, 8 - np.abs(thin - 20))
    assert beside(peak, 1.0, 3.0)[20] == pytest.approx(5)
    assert beside(peak[::2], 2.0, 3.0)[10] == pytest.approx(5)
    # Beyond the ends it goes on as it is there, and a slice alone has itself beside it.
    assert beside(thin, 1.0, 100.0) == pytest.approx(np.full(40, 19.5))
    assert beside(np.array([0.3]), 5.0, 7.5) == pytest.approx([0.3])


def test_a_lesion_is_weighed_by_its_slices_alone() -> None:
    """What its own extent says already is not said again by the slices beside it."""
    maps = _maps((slice(4, 7), 20, 0.9))
    scale = weighing_scale(None, SHAPE, INPUT)
    scores = [
        lesion_score(find_lesions(maps, scale, one)[1][0], one)
        for one in (RULE, replace(RULE, context_beside_weight=2.0, context_own_weight=0.1))
    ]
    assert scores[0] == scores[1]


def test_not_assessed_claims_nothing() -> None:
    decision = not_assessed((2, 3, 4), RULE, "why")
    assert decision.status is Status.NOT_ASSESSED
    assert decision.score is None
    assert not decision.mask.any()
