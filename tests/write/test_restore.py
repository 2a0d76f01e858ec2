"""A record is checked by its own schema, without the package that tests use for that."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from gliosight.write.restore import misfit
from gliosight.write.result import load_schema, result_of
from tests.write.dicom.builders import blobs, make_analysis, make_source

ODD = (None, "", "x", -1, 0, 2.5, True, [], {}, ["x"], {"x": 1}, [1, 2, 3])


def _records() -> Iterator[dict[str, Any]]:
    analysis = make_analysis(make_source(), blobs(count=2))
    record = json.loads(json.dumps(result_of(analysis, {"mask/": "masks"})))
    record["source"]["series"] = {}
    yield record
    yield from _with_odd_values(record, record)


def _with_odd_values(whole: dict[str, Any], part: Any) -> Iterator[dict[str, Any]]:
    keys = part.keys() if isinstance(part, dict) else range(min(len(part), 1))
    for key in list(keys):
        value = part[key]
        for odd in ODD:
            part[key] = odd
            yield copy.deepcopy(whole)
        part[key] = value
        if isinstance(part, dict):
            del part[key]
            yield copy.deepcopy(whole)
            part[key] = value
        if isinstance(value, dict | list):
            yield from _with_odd_values(whole, value)


def test_it_agrees_with_jsonschema() -> None:
    schema = load_schema()
    validator = jsonschema.Draft202012Validator(schema)
    fits = 0
    for record in _records():
        wrong = misfit(record, schema)
        assert (wrong is None) is validator.is_valid(record), wrong
        fits += wrong is None
    assert fits > 1


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -1e300])
def test_numbers_are_numbers(number: float) -> None:
    assert misfit({"a": [number]}, {"properties": {"a": {"items": {"type": "number"}}}})


def test_what_is_not_described_may_be_deep() -> None:
    value: Any = 0
    for _ in range(900):
        value = [value]
    assert misfit({"settings": value}, {"properties": {"settings": {}}}) is None
