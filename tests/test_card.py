"""A card is checked field by field: it comes from outside."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.card import parse_card, read_card
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


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"name": "joint"}'],
    ids=["empty", "no text", "too deep", "a list", "incomplete"],
)
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="unusable model card"):
        read_card(path)


@pytest.mark.parametrize("key", ["name", "kind", "network", "sha256", "input", "decision"])
def test_a_missing_field_is_named(raw: dict[str, Any], key: str) -> None:
    del raw[key]
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
        (("input", "matrix"), -1, "sizes"),
        (("gate",), 1.5, "gate"),
        (("gate",), True, "gate"),
        (("about",), 3, "about"),
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


def test_a_missing_number_of_the_rule_is_named(raw: dict[str, Any]) -> None:
    del raw["decision"]["study_threshold"]
    with pytest.raises(ValueError, match="study_threshold"):
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
    raw["kind"], raw["networks"] = (
        "cascade",
        {role: {"network": "x.onnx", "sha256": "0" * 64} for role in ("detector", "localizer")},
    )
    raw["about"] = {"detector": {"run": {"split": split}}, "localizer": {"run": {"split": None}}}
    assert parse_card(raw).training_splits == (split,)
