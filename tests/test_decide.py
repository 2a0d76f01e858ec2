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
    own_logits,
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
    keep_threshold=0.95,
    uncertain_from=0.1,
    found_from=0.5,
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
    assert decision.probability is not None
    assert decision.probability > 0.95
    assert (decision.slice_probabilities[4:7] > 0.9).all()
    assert (decision.slice_probabilities[3:8] > 0.7).all()
    assert (decision.slice_probabilities[:3] < 0.1).all()
    assert decision.flags == ()


def test_a_pixel_alone_makes_no_tumour() -> None:
    decision = _decide(_maps((slice(4, 5), 3, 0.8), sure=0.3), make_geometry(12, (5, 1, 1)))
    assert decision.status is Status.NOT_FOUND
    assert not decision.mask.any()
    assert "weak_lesions_dropped" in decision.rules
    assert 0 < (decision.probability or 0) < 0.1


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
    assert (decision.probability or 0) < 1e-4
    assert decision.outline is None
    assert decision.rules == ()
    assert decision.flags == ()


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
    assert decision.flags[0].message == (
        "By probability slices 10 to 12 would count as tumour (threshold 0.50), but nothing is marked there."
    )
    assert "slice 9" in decision.flags[1].message


def test_what_was_dropped_from_a_likely_slice_is_said() -> None:
    maps = _maps((slice(1, 6), 30, 0.95), (slice(8, 12), 8, 0.8))
    decision = _decide(maps)
    assert decision.mask.any(axis=(1, 2)).nonzero()[0].tolist() == [1, 2, 3, 4, 5]
    (note,) = (one for one in decision.flags if one.code == "PROBABILITY_WITHOUT_MASK")
    assert note.message.endswith(
        "but nothing is marked there; what was found in slices 9 to 12 was too weak, and was dropped."
    )


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ([4], "slice 5"),
        ([0, 9], "slices 1 and 10"),
        ([1, 2, 3, 7], "slices 2 to 4 and 8"),
        ([1, 2, 5, 8, 9, 10], "slices 2, 3, 6 and 9 to 11"),
        (range(0, 40, 2), "20 slices (1, 3, 5, 7, 9 and more)"),
    ],
)
def test_slices_are_named_in_words(which: list[int], words: str) -> None:
    marks = np.zeros(50, bool)
    marks[list(which)] = True
    assert name_slices(marks) == words


@pytest.mark.parametrize("form", [(0.0, 1.0), (-0.5, 1.2)])
def test_a_study_is_as_likely_as_its_best_lesion(form: tuple[float, float]) -> None:
    rule = replace(RULE, study_intercept=form[0], study_weight=form[1])
    maps, geometry = (
        _maps((slice(3, 8), 20, 0.9), (slice(4, 6), 12, 0.8)),
        make_geometry(12, (5, 1, 1)),
    )
    scale = weighing_scale(geometry, SHAPE, INPUT)
    own, _ = own_logits(maps, scale, rule, 0)
    best = max(lesion_score(lesion, rule) for lesion in find_lesions(maps, scale, rule, own)[1])
    expected = 1 / (1 + np.exp(-(form[0] + form[1] * np.log(best / (1 - best)))))
    decision = decide(maps, geometry, rule, INPUT)
    assert decision.probability == pytest.approx(expected, rel=1e-4)
    assert max(decision.lesion_probabilities.values()) == decision.probability


@pytest.mark.parametrize(
    ("bounds", "status"),
    [
        ((0.0, 0.0), Status.FOUND),
        ((-0.01, 0.01), Status.UNCERTAIN),
        ((0.01, 0.02), Status.NOT_FOUND),
    ],
)
def test_the_verdict_follows_the_probability(bounds: tuple[float, float], status: Status) -> None:
    """Bounds are given from the study's own probability on; the mask is drawn unless nothing was found."""
    maps, geometry = _maps((slice(4, 6), 15, 0.8)), make_geometry(12, (5, 1, 1))
    middle = decide(maps, geometry, RULE, INPUT).probability or 0
    assert 0.1 < middle < 0.9
    low, high = (middle + away for away in bounds)
    decision = decide(maps, geometry, replace(RULE, uncertain_from=low, found_from=high), INPUT)
    assert (decision.status, decision.probability) == (status, middle)
    assert decision.mask.any() == (status is not Status.NOT_FOUND)
    assert (decision.outline is None) == (decision.caveat != "") == (status is Status.NOT_FOUND)
    assert f"{middle:.2f}"[:3] in decision.reason


def test_another_share_of_tumour_shifts_the_odds_of_study_lesions_and_slices() -> None:
    rule = replace(RULE, prevalence=0.8, slice_given_tumour=1)
    maps, geometry = _maps((slice(4, 6), 15, 0.8)), make_geometry(12, (5, 1, 1))
    usual = decide(maps, geometry, rule, INPUT)
    rare = decide(maps, geometry, rule, INPUT, prevalence=0.5)
    assert (usual.prevalence, rare.prevalence) == (0.8, 0.5)
    odds = [(one.probability or 0) / (1 - (one.probability or 0)) for one in (usual, rare)]
    assert odds[0] / odds[1] == pytest.approx(4, rel=1e-3)
    assert max(rare.lesion_probabilities.values()) == rare.probability
    part = (rare.probability or 0) / (usual.probability or 1)
    assert rare.slice_probabilities == pytest.approx(usual.slice_probabilities * part, rel=1e-4)
    same = decide(maps, geometry, rule, INPUT, prevalence=0.8)
    assert same.probability == pytest.approx(usual.probability)
    # Without such numbers the probability is a score, for no share in particular.
    assert decide(maps, geometry, RULE, INPUT).prevalence is None


@pytest.mark.parametrize("share", [0.5, 0.99, 0.9999, 0.999999])
@pytest.mark.parametrize("weight", [1.0, 0.1])  # the second makes little of the lesions
def test_a_high_share_alone_finds_no_tumour(share: float, weight: float) -> None:
    """Its odds count, and the words say so; but nothing is found that the images do not show."""
    rule = replace(RULE, prevalence=0.8, study_weight=weight)
    words = f"Where {100 * share:g} % of studies have a tumour, the probability of tumour is "
    none, speck = _maps(), _maps((slice(4, 5), 3, 0.8), sure=0.3)
    for maps in (none, speck):
        decision = decide(maps, None, rule, INPUT, prevalence=share)
        probability = decision.probability or 0
        assert probability < share
        likely = probability >= rule.uncertain_from
        assert decision.status is (Status.UNCERTAIN if likely else Status.NOT_FOUND)
        assert decision.mask.any() == (likely and maps is speck)
        assert decision.reason.startswith(words) or (maps is none and not likely)
    sure = decide(_maps((slice(3, 8), 30, 0.95)), None, replace(rule, study_weight=1.0), INPUT,
                  prevalence=share)  # fmt: skip
    assert sure.status is Status.FOUND
    assert sure.reason.startswith(words)


def test_an_unlikely_tumour_among_many_is_no_finding() -> None:
    rule = replace(RULE, prevalence=0.8)
    maps = _maps((slice(4, 5), 6, 0.8), sure=0.6)
    usual, many = (
        decide(maps, None, rule, INPUT),
        decide(maps, None, rule, INPUT, prevalence=0.9999),
    )
    assert usual.status is Status.NOT_FOUND
    assert (many.probability or 0) > rule.found_from
    assert many.status is Status.UNCERTAIN
    assert "is 0.996, below that share: the images speak against a tumour" in many.reason
    nothing = f"No voxel reaches a probability of {RULE.pixel_threshold:.2f}, so nothing is marked."
    assert _decide(_maps()).reason == nothing


def test_no_slice_is_likelier_than_its_study() -> None:
    rule = replace(RULE, slice_given_tumour=1)
    for side in (3, 8, 15, 40):
        decision = decide(_maps((slice(4, 6), side, 0.8)), None, rule, INPUT)
        assert decision.slice_probabilities.max() <= (decision.probability or 0)


def test_a_lesion_has_its_probability_by_its_first_voxel() -> None:
    maps = _maps((slice(2, 7), 40, 0.97), (slice(3, 6), 25, 0.97))
    decision = decide(maps, make_geometry(12, (5, 1, 1)), replace(RULE, keep_threshold=0.5), INPUT)
    corners = [int(np.ravel_multi_index(at, SHAPE)) for at in ((2, 10, 10), (3, 60, 60))]
    assert list(decision.lesion_probabilities) == corners
    large, small = decision.lesion_probabilities.values()
    assert large > small > 0.5


def test_a_negative_says_what_it_does_not_rule_out() -> None:
    assert _decide(_maps()).caveat == "This does not rule out a tumour."
    tested = replace(RULE, missed_half_ml=2.0, missed_tenth_ml=7.5)
    told = decide(_maps(), None, tested, INPUT).caveat
    assert "half of those of 2 ml" in told
    assert "one in ten of those of 7.5 ml" in told
    assert _decide(_maps((slice(3, 8), 30, 0.95))).caveat == ""
    # They were made at the rule's own share of tumour.
    rare = decide(_maps(), None, replace(tested, prevalence=0.8), INPUT, prevalence=0.1).caveat
    assert rare == "This does not rule out a tumour."


def test_input_that_is_unlike_the_training_data_is_uncertain_at_most() -> None:
    geometry, sure = make_geometry(12, (5, 1, 1)), _maps((slice(3, 8), 30, 0.95))
    for maps, distance, status in (
        (sure, 0.99, Status.FOUND),
        (sure, 1.0, Status.UNCERTAIN),
        (_maps(), 1.0, Status.NOT_FOUND),
    ):
        decision = decide(maps, geometry, RULE, INPUT, distance=distance)
        assert decision.status is status
        assert ("unlike the training data" in decision.reason) == (status is Status.UNCERTAIN)


def _cone(width: float) -> Maps:
    """A ball whose logit falls from 4 in its middle, by 1 every ``width`` pixels."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    away = np.sqrt((5 * (z - 6)) ** 2 + (y - 60) ** 2 + (x - 60) ** 2)
    probability = 1 / (1 + np.exp((away - 25) / width))
    return Maps(probability.astype(np.float32), np.full(SHAPE[0], 0.99, np.float32))


INTERVAL = replace(RULE, volume_low=-1.0, volume_high=1.5)


def test_the_softer_the_outline_the_wider_the_interval() -> None:
    geometry = make_geometry(12, (5, 1, 1))
    sharp, soft = (decide(_cone(width), geometry, INTERVAL, INPUT).outline for width in (0.5, 4.0))
    assert sharp is not None
    assert soft is not None
    assert 0 < sharp.softness < 0.25 < soft.softness
    for outline in (sharp, soft):
        scale = outline.softness + 0.1
        assert outline.volume_low == pytest.approx(np.exp(-scale))
        assert outline.volume_high == pytest.approx(np.exp(1.5 * scale))
    far = decide(_cone(4.0), geometry, INTERVAL, INPUT, distance=2.0).outline
    assert far is not None
    assert far.volume_high == pytest.approx((soft.volume_high or 0) ** 2)
    near = decide(_cone(4.0), geometry, INTERVAL, INPUT, distance=0.9).outline
    assert near == soft
    alone = decide(_cone(4.0), geometry, RULE, INPUT).outline
    assert alone == replace(soft, volume_low=None, volume_high=None)


def test_what_is_marked_and_unlike_a_tumour_is_uncertain_however_likely() -> None:
    maps = _maps((slice(3, 8), 30, 0.95))
    maps.probability[3:8, 10:40, 90:120] = 0.95
    head = np.zeros(SHAPE, bool)
    head[:, 4:124, 5:125] = True
    sure = decide(maps, make_geometry(12, (5, 1, 1)), RULE, INPUT)
    decision = decide(maps, make_geometry(12, (5, 1, 1)), RULE, INPUT, head=head)
    assert (sure.status, decision.status) == (Status.FOUND, Status.UNCERTAIN)
    assert decision.probability == sure.probability
    assert decision.mask.any()
    assert [one.code for one in decision.flags] == ["SYMMETRIC"]
    assert "implausible" in decision.rules
    assert "unlike a tumour" in decision.reason
    # Without geometry the picture is taken as the network takes it.
    assert decide(maps, None, RULE, INPUT, head=head).status is Status.UNCERTAIN


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
        return float(slice_probabilities(*own_logits(maps, scale, RULE, 0), scale, RULE, 1.0)[5])

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
    found = slice_probabilities(*own_logits(maps, scale, RULE, 0), scale, RULE, 1.0)
    alone = slice_probabilities(
        *own_logits(maps, scale, RULE, 0), scale, replace(RULE, context_beside_weight=0.0), 1.0
    )
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
        lesion_score(find_lesions(maps, scale, one, own_logits(maps, scale, one, 0)[0])[1][0], one)
        for one in (RULE, replace(RULE, context_beside_weight=2.0, context_own_weight=0.1))
    ]
    assert scores[0] == scores[1]


def test_not_assessed_claims_nothing() -> None:
    decision = not_assessed((2, 3, 4), RULE, "why")
    assert decision.status is Status.NOT_ASSESSED
    assert decision.probability is None
    assert not decision.mask.any()
