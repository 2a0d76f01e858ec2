"""The rule's numbers: what is fitted draws what `decide` draws, and nothing is fitted on its own patients."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.card import InputRecipe
from gliosight.decide import (
    LEAST_SOFTNESS,
    by_itself,
    decide,
    in_context,
    study_probability,
    weighing_scale,
)
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.evaluate.mask_metrics import volume_dice
from gliosight.evaluate.predictions import KeptMaps
from gliosight.evaluate.rule_fit import (
    CONTEXT,
    OWN,
    THRESHOLDS,
    Observed,
    _scores,
    cross_fit,
    dice_of,
    fit_rule,
    fit_volume,
    observe,
    read_rule,
    volume_error,
)
from gliosight.infer.model import load_model, shipped_models
from gliosight.maps import Maps, sigmoid

RECIPE = InputRecipe()
START = load_model().card.decision
SHAPE = (8, 64, 64)


def patient(
    seed: int, model: int, *, tumour: bool = True, sure: float = 1.0
) -> tuple[KeptMaps, NDArray[np.bool_]]:
    """A blurred ball that is marked too widely, and crumbs that are nothing.

    ``sure`` is how much surer the head is than it may be.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = rng.uniform((3, 24, 24), (5, 40, 40))
    distance = np.sqrt(((z - centre[0]) * 3) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    truth = (distance < 9) & tumour
    logits = np.where(tumour, 10.5 - distance, -8.0) * 0.8
    logits = logits + ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.0) * 3
    crumb = rng.integers((1, 2, 2), (7, 60, 60))
    logits[crumb[0], crumb[1] : crumb[1] + 3, crumb[2] : crumb[2] + 3] = 1.5
    marked = truth.any(axis=(1, 2))
    head = sigmoid(sure * (np.where(marked, 2.0, -2.0) + rng.normal(size=SHAPE[0]) * 1.5))
    maps = Maps(sigmoid(logits).astype(np.float32), head.astype(np.float32))
    sides = weighing_scale(None, SHAPE, RECIPE).sides
    return KeptMaps(f"P{seed}", "d" * 64, model, sides, maps), truth


@pytest.fixture(scope="module")
def observed() -> list[Observed]:
    """Two dozen patients, with the bodies of three thresholds: of a fit most is spent on those."""
    given = [patient(k, k % 3, tumour=k % 8 != 7, sure=2.0) for k in range(24)]
    seen = [observe(patient_maps, truth, START) for patient_maps, truth in given]
    tried = (min(THRESHOLDS), START.pixel_threshold, max(THRESHOLDS))
    return [replace(p, bodies={at: p.bodies[at] for at in tried}) for p in seen]


@pytest.mark.parametrize("keep", [0.05, 1.0])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("seed", [0, 3, 7])
def test_the_mask_that_is_scored_is_the_one_that_is_drawn(
    seed: int, threshold: float, keep: float
) -> None:
    patient_maps, truth = patient(seed, 0, tumour=seed != 7)
    rule = replace(START, pixel_threshold=threshold, keep_threshold=keep)
    mask = decide(patient_maps.maps, None, rule, RECIPE).mask
    dice = volume_dice(truth, mask)
    assert dice_of(observe(patient_maps, truth, START), rule) == pytest.approx(
        dice, abs=1e-12, nan_ok=True
    )


def test_a_fit_is_better_on_what_it_was_fitted_on(observed: list[Observed]) -> None:
    fitted = fit_rule(observed, START)
    with_tumour = [patient for patient in observed if patient.volume]
    before, after = (np.mean([dice_of(p, rule) for p in with_tumour]) for rule in (START, fitted))
    assert after > before + 0.02
    # What is marked too widely is cut back.
    assert fitted.pixel_threshold == max(THRESHOLDS)


@pytest.mark.slow
def test_a_head_that_is_too_sure_is_believed_less(observed: list[Observed]) -> None:
    unsure = [observe(*patient(k, 0, tumour=k % 8 != 7, sure=1.0), START) for k in range(24)]
    both = (observed, unsure)
    weights = [fit_rule(patients, START, ["slices"]).slice_head_weight for patients in both]
    assert 0 < weights[0] < 0.7 * weights[1]


@pytest.mark.slow
def test_no_rule_knows_the_patients_it_is_for(observed: list[Observed]) -> None:
    rules = cross_fit(observed, START)
    assert set(rules) == {0, 1, 2}
    # Turn the truth of one fold's slices upside down: its own rule does not notice, the others do.
    spoilt = [replace(p, label=~p.label, volume=0) if p.model == 1 else p for p in observed]
    others = cross_fit(spoilt, START)
    assert others[1] == rules[1]
    assert others[0] != rules[0]
    assert others[2] != rules[2]


@pytest.mark.slow
def test_the_slices_alone_leave_the_lesions_numbers(observed: list[Observed]) -> None:
    fitted, alone = fit_rule(observed, START), fit_rule(observed, START, ["slices"])
    taken = {name: getattr(fitted, name) for name in (*OWN, *CONTEXT)}
    for names in (OWN, CONTEXT):
        assert [taken[name] for name in names] != [getattr(START, name) for name in names]
    assert alone == replace(START, **taken)
    assert cross_fit(observed, START, ["slices"])[0].pixel_threshold == START.pixel_threshold


@pytest.mark.parametrize("real", [False, True])
def test_further_lesions_are_kept_where_they_are_real(real: bool) -> None:
    start = replace(START, keep_threshold=0.95 if real else 0.3)
    place = np.s_[2:5, 54:60, 4:10]
    given = [patient(k, 0) for k in range(6)]
    for patient_maps, truth in given:
        patient_maps.maps.probability[place] = 0.8
        truth[place] = real
    rules = start, fit_rule([observe(*pair, start) for pair in given], start, ["further"])
    assert replace(rules[1], keep_threshold=start.keep_threshold) == start
    marked = [[decide(pair[0].maps, None, rule, RECIPE).mask[place].any() for pair in given]
              for rule in rules]  # fmt: skip
    assert marked == [[not real] * 6, [real] * 6]


def test_what_no_rule_can_be_fitted_on_is_refused(observed: list[Observed]) -> None:
    with pytest.raises(UsageError, match="no tumour"):
        fit_rule([p for p in observed if not p.volume], START)
    with pytest.raises(UsageError, match="no numbers called 'pixels'"):
        fit_rule(observed, START, ["slices", "pixels"])
    with pytest.raises(UsageError, match="one model"):
        cross_fit([p for p in observed if p.model == 0], START)


def test_a_rule_is_that_of_a_model_of_its_card_or_of_a_file(tmp_path: Path) -> None:
    """Whom it was fitted on, its numbers say: a rule that is taken over stays the shipped model's."""
    everyone = load_model().card.training_patients
    assert everyone
    card, path = tmp_path / "alone.json", tmp_path / "rules.json"
    card.write_bytes(shipped_models()["joint-4"].read_bytes())
    path.write_text(json.dumps({"all": asdict(START)}))
    for name in ("joint-4", card, path):
        assert read_rule(str(name)) == (START, everyone)
    # A network that was trained elsewhere takes it over without what was measured on the shipped one.
    taken = START.for_another_network()
    assert (taken.prevalence, taken.volume_high, taken.missed_half_ml) == (0, 0, 0)
    path.write_text(json.dumps({"all": asdict(taken)}))
    assert read_rule(str(path)) == (taken, everyone)
    other = replace(START, pixel_threshold=0.4)
    record = {"all": asdict(other), "0": asdict(START), "patients_sha256": ["a" * 64]}
    path.write_text(json.dumps(record))
    assert read_rule(str(path)) == (other, {"a" * 64})
    spoilt = ["{}", "[]", '{"all": {"pixel_threshold": 1}}', "no JSON", "[" * 100_000]
    for text in [*spoilt, '{"decision": {}}']:
        path.write_text(text)
        with pytest.raises(DamagedInputError, match="no decision rule"):
            read_rule(str(path))
    with pytest.raises(NothingReadableError, match="no such rule"):
        read_rule(str(tmp_path / "none.json"))


def test_a_start_with_a_threshold_of_its_own_is_scored_and_tried() -> None:
    start = replace(START, pixel_threshold=0.47)
    observed = [observe(*patient(k, k % 2), start) for k in range(4)]
    assert min(dice_of(p, start) for p in observed) > 0.3
    assert fit_rule(observed, start).pixel_threshold in {*THRESHOLDS, 0.47}


def test_the_studys_probability_is_fitted_where_there_are_both_kinds(
    observed: list[Observed],
) -> None:
    rule = fit_rule(observed, START, ("study",))
    best = [_scores(p, rule).max(initial=0.0) for p in observed]
    ill = [
        study_probability(score, rule) for score, p in zip(best, observed, strict=True) if p.volume
    ]
    well = [
        study_probability(score, rule)
        for score, p in zip(best, observed, strict=True)
        if not p.volume
    ]
    assert max(well) < 0.2 < 0.9 < min(ill)
    assert np.mean(ill + well) == pytest.approx(rule.prevalence, abs=0.05)
    assert rule.prevalence == round(21 / 24, 4)
    fitted = {"study_intercept", "study_weight", "prevalence"}
    assert {k for k, v in asdict(rule).items() if v != getattr(START, k)} <= fitted
    sick = [p for p in observed if p.volume]
    assert fit_rule(sick, START, ("study",)) == START
    assert fit_rule(observed, START, ("further",)).study_weight == START.study_weight


def test_slices_of_the_well_count_only_for_a_rule_without_the_study(
    observed: list[Observed],
) -> None:
    """A slice's probability given tumour is right in the mean over those who have one."""
    for given, among in ((1, [p for p in observed if p.volume]), (0, observed)):
        rule = fit_rule(observed, replace(START, slice_given_tumour=given), ("slices",))
        predicted = [
            sigmoid(in_context(by_itself(p.head, p.evidence, rule), p.evidence, p.spacing_mm, rule))
            for p in among
        ]
        wanted = np.mean([p.label for p in among])
        assert np.mean(predicted) == pytest.approx(wanted, abs=0.005), given


def test_the_interval_holds_nine_of_ten_volumes() -> None:
    generator = np.random.default_rng(1)
    rule = fit_volume(generator.normal(0.3, 1, 1999).tolist(), START)
    fresh = generator.normal(0.3, 1, 100_000)
    assert ((fresh >= rule.volume_low) & (fresh <= rule.volume_high)).mean() == pytest.approx(
        0.9, abs=0.03
    )
    # Of few errors the interval is that of all of them: conservative.
    few = fit_volume([-1.0, 0.5, 2.0], START)
    assert (few.volume_low, few.volume_high) == (-1.0, 2.0)
    assert fit_volume([], START) == START


def test_a_volumes_error_is_a_part_of_the_outlines_softness() -> None:
    patient_maps, truth = patient(3, 0)
    scale = weighing_scale(None, SHAPE, RECIPE)
    decision = decide(patient_maps.maps, None, START, RECIPE)
    assert decision.outline is not None
    assert scale.sides == patient_maps.sides
    away = np.log(truth.sum() / decision.mask.sum())
    expected = away / (decision.outline.softness + LEAST_SOFTNESS)
    assert volume_error(patient_maps, truth, START) == pytest.approx(expected)
    assert volume_error(patient_maps, np.zeros(SHAPE, bool), START) is None
    nothing = replace(START, uncertain_from=1.0, found_from=1.0)
    assert volume_error(patient_maps, truth, nothing) is None
