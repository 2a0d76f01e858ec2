"""A card is checked field by field: it comes from outside."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.card import RANGES, DecisionRule, InputRecipe, parse_card, read_card
from gliosight.decide import in_context
from gliosight.errors import ModelError
from gliosight.infer.model import shipped_models


@pytest.fixture
def raw() -> dict[str, Any]:
    path = next(iter(shipped_models().values()))
    card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return copy.deepcopy(card)


def test_shipped_card_says_what_people_need(raw: dict[str, Any]) -> None:
    card = parse_card(raw)
    assert card.about["licence"] == "CC BY-NC-SA 4.0"
    assert len(card.about["training"]["patients_sha256"]) == card.about["training"]["patients"]
    assert "research" in card.about["summary"].lower()


NO_CARDS = {
    "empty": b"",
    "no text": b"\xff\xfe",
    "too deep": b"[" * 100_000,
    "a list": b"[]",
    "incomplete": b'{"name": "joint"}',
    "a field twice": b'{"name": "joint", "name": "other"}',
    "a field twice inside": b'{"about": {"a": 1, "a": 2}}',
    "NaN": b'{"gate": NaN}',
    "infinite": b'{"gate": -Infinity}',
    "a number of 5,000 digits": b'{"gate": ' + b"9" * 5000 + b"}",
    "4 MiB": b'{"name": "' + b"x" * 2**22 + b'"}',
}


@pytest.mark.parametrize("name", NO_CARDS)
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(NO_CARDS[name])
    with pytest.raises(ModelError, match="unusable model card") as caught:
        read_card(path)
    assert len(caught.value.line()) < 400


def test_a_card_that_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.json")
    with pytest.raises(ModelError, match="not a file of at most 4 MiB"):
        read_card(tmp_path / "model.json")


@pytest.mark.parametrize(
    "place", ["name", "kind", "network", "sha256", "input", "decision", "decision/keep_threshold"]
)
def test_a_missing_field_is_named(raw: dict[str, Any], place: str) -> None:
    *above, key = place.split("/")
    del (raw[above[0]] if above else raw)[key]
    with pytest.raises(ValueError, match=key):
        parse_card(raw)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("kind",), "oracle", "oracle"),
        (("name",), 3, "name"),
        (("input", "pixel_mm"), "wide", "pixel_mm"),
        (("input", "pixel_mm"), True, "pixel_mm"),
        (("input", "colour"), 1, "colour"),
        (("decision",), [], "decision"),
        (("input", "normalisation"), "loud", "loud"),
        (("input", "normalisation"), 1, "normalisation"),
        (("input", "neighbours"), 2, "neighbours"),
        (("input", "matrix"), -1, "matrix"),
        (("input", "matrix"), 2**40, "matrix"),
        (("input", "matrix"), 256.0, "matrix is not a whole number"),
        (("input", "matrix"), None, "matrix"),
        (("input", "pixel_mm"), 0, "pixel_mm is not a number from 0.1 to 10"),
        (("input", "pixel_mm"), float("nan"), "pixel_mm"),
        (("input", "predict_every_mm"), float("inf"), "predict_every_mm"),
        (("input", "neighbour_mm"), 10**400, "neighbour_mm"),
        (("decision", "pixel_threshold"), 1.5, "pixel_threshold is not a number from 0 to 1"),
        (("decision", "found_from"), float("nan"), "found_from"),
        (("decision", "found_from"), 0.05, "uncertain_from is above found_from"),
        (("decision", "volume_low"), 3.0, "volume_low is above volume_high"),
        (("decision", "prevalence"), 1.5, "prevalence is not a number from 0 to 1"),
        (("decision", "study_threshold"), 0.5, "study_threshold is not known"),
        (("decision", "lesion_intercept"), 1e300, "lesion_intercept"),
        (("decision", "slice_head_weight"), [1.0], "slice_head_weight is not a number"),
        (("decision", "keep_threshold"), "0.5", "keep_threshold is not a number"),
        (("gate",), 1.5, "gate"),
        (("gate",), True, "gate"),
        (("gate",), float("nan"), "gate"),
        (("about",), 3, "about"),
        (("flip",), "false", "flip is not true or false"),
        (("flip",), 0, "flip"),
        (("flip",), None, "flip"),
        (("name",), "", "name"),
        (("name",), "x" * 201, "name"),
        (("sha256",), "0" * 63, "64 hexadecimal"),
        (("sha256",), "g" * 64, "64 hexadecimal"),
        (("network",), "", "network ''"),
        (("network",), "..", "network"),
        (("network",), "../secret.onnx", "secret"),
        (("network",), "a\\b.onnx", "beside the card"),
        (("network",), "a\0.onnx", "beside the card"),
    ],
)
def test_a_wrong_field_is_named(
    raw: dict[str, Any], place: tuple[str, ...], value: object, message: str
) -> None:
    inner = raw
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        parse_card(raw)


@pytest.mark.parametrize("name", [one.name for one in fields(InputRecipe)])
def test_every_size_of_the_input_has_its_bounds(name: str) -> None:
    if name != "normalisation":
        low, high = RANGES[name]
        for value in (low - 1, high * 2, float("nan")):
            with pytest.raises(ValueError, match=name):
                InputRecipe(**{name: value})


@pytest.mark.parametrize("name", [one.name for one in fields(DecisionRule)])
def test_no_number_of_the_rule_is_absurd(raw: dict[str, Any], name: str) -> None:
    for value in (float("nan"), float("inf"), -1e300, "1", True):
        raw["decision"][name] = value
        with pytest.raises(ValueError, match=name):
            parse_card(raw)


def test_an_earlier_card_judges_a_slice_by_itself(raw: dict[str, Any]) -> None:
    raw["decision"] = {k: v for k, v in raw["decision"].items() if not k.startswith("context_")}
    rule = parse_card(raw).decision
    logits = np.array([-2.0, 0.5, 3.0])
    assert np.array_equal(in_context(logits, -logits, 5.0, rule), logits)


@pytest.mark.parametrize("value", [None, [], "card", 3])
def test_something_else_is_no_card(value: object) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        parse_card(value)


def test_a_cascade_names_its_networks_by_role(raw: dict[str, Any]) -> None:
    one, two = ({"network": f"{name}.onnx", "sha256": name * 64} for name in "ab")
    raw["kind"] = "cascade"
    raw["networks"] = {"localizer": two, "detector": one}
    card = parse_card(raw)
    assert list(card.networks) == ["detector", "localizer"]
    assert card.sha256 not in (one["sha256"], two["sha256"])
    raw["networks"] = {"localizer": two}
    assert parse_card(raw).sha256 == two["sha256"]
    for wrong in ({}, {"oracle": one}, {"detector": "a.onnx"}, {"detector": {"network": "a"}}, 3):
        raw["networks"] = wrong
        with pytest.raises(ValueError, match="network"):
            parse_card(raw)


def test_whom_and_how_it_has_learnt_from_is_read_from_wherever_a_card_says_it(
    raw: dict[str, Any],
) -> None:
    raw["about"] = {"patients_sha256": ["a"], "training": {"patients_sha256": ["b"]}}
    card = parse_card(raw)
    assert card.training_patients == {"a", "b"}
    assert card.training_splits == ()
    split = {"by": "slice", "sha256": "c"}
    raw["about"] = {"run": {"split": split}, "training": "by hand"}
    card = parse_card(raw)
    assert (card.training_patients, card.training_splits) == (frozenset(), (split,))
    for patients in (5, "a", [1, ["b"], {}], {"c": 1}):  # it is no list of names then
        raw["about"]["patients_sha256"] = patients
        assert parse_card(raw).training_patients == frozenset()
    raw["kind"], raw["networks"] = (
        "cascade",
        {role: {"network": "x.onnx", "sha256": "0" * 64} for role in ("detector", "localizer")},
    )
    raw["about"] = {"detector": {"run": {"split": split}}, "localizer": {"run": {"split": None}}}
    assert parse_card(raw).training_splits == (split,)
