"""result.json keeps its schema; findings.csv runs nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from gliosight.analysis import Status
from gliosight.study import Flag
from gliosight.write.result import load_schema, result_of, write_findings, write_result
from tests.write.builders import make_analysis

CASES: dict[str, Callable[[], Any]] = {
    "found": make_analysis,
    "found, no geometry": lambda: make_analysis(geometry=None),
    "not found": lambda: make_analysis(lesion=False),
    "not assessed": lambda: make_analysis(status=Status.NOT_ASSESSED),
    "flagged": lambda: make_analysis(flags=(Flag("T1_MISSING", "info", "No T1."),)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_result_keeps_the_schema(case: str) -> None:
    result = result_of(CASES[case](), {"report.html": "the report"})
    jsonschema.Draft202012Validator.check_schema(load_schema())
    jsonschema.validate(json.loads(json.dumps(result)), load_schema())


def test_what_is_not_known_is_null_and_never_zero() -> None:
    bare = result_of(make_analysis(geometry=None), {})
    assert bare["volume_ml"] is None
    assert bare["volume_px"] > 0
    assert all(one["area_mm2"] is None for one in bare["detection"]["slices"])
    unassessed = result_of(make_analysis(status=Status.NOT_ASSESSED), {})
    assert unassessed["detection"]["probability"] is None
    assert unassessed["detection"]["score"] is None
    assert all(one["probability"] is None for one in unassessed["detection"]["slices"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda result: result.pop("study_id"),
        lambda result: result.update(extra=1),
        lambda result: result.update(status="perhaps"),
        lambda result: result["detection"].update(probability=1.5),
        lambda result: result["findings"][0].update(side="starboard"),
        lambda result: result["findings"][0].pop("volume_ml"),
        lambda result: result["detection"]["slices"][0].update(area_px=-1),
    ],
)
def test_the_schema_refuses_damage(damage: Callable[[dict[str, Any]], Any]) -> None:
    result = json.loads(json.dumps(result_of(make_analysis(), {})))
    jsonschema.validate(result, load_schema())
    damage(result)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result, load_schema())


def test_slice_areas_and_volume_agree_with_the_mask() -> None:
    analysis = make_analysis()
    result = result_of(analysis, {})
    geometry = analysis.study.geometry
    assert geometry is not None
    assert geometry.slice_spacing is not None
    assert sum(one["area_px"] for one in result["detection"]["slices"]) == result["volume_px"]
    total = sum(one["area_mm2"] for one in result["detection"]["slices"])
    assert result["volume_ml"] == pytest.approx(total * geometry.slice_spacing / 1000, rel=1e-5)


def test_a_number_that_is_none_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_result({"score": float("nan")}, tmp_path / "result.json")


def test_findings_table_holds_every_measure(tmp_path: Path) -> None:
    analysis = make_analysis()
    write_findings(analysis, tmp_path / "findings.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "findings.csv").read_text("utf-8")))
    finding = analysis.findings[0]
    assert float(row["volume_ml"]) == pytest.approx(finding.volume_ml, rel=1e-5)
    assert row["centroid_x_mm"] == ""  # not known
    assert [int(row[f"box_{k}_to"]) for k in ("slice", "row", "column")] == list(
        finding.bounding_box_voxel[1]
    )
    write_findings(make_analysis(lesion=False), tmp_path / "none.csv")
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@sum", "\tx"])
def test_a_name_is_no_formula(tmp_path: Path, name: str) -> None:
    write_findings(make_analysis(study_id=name), tmp_path / "findings.csv")
    (row,) = csv.DictReader(
        io.StringIO((tmp_path / "findings.csv").read_bytes().decode(), newline="")
    )
    assert row["study_id"] == "'" + name


def test_numbers_are_rounded_but_small_ones_do_not_vanish_from_json() -> None:
    analysis = make_analysis()
    finding = replace(analysis.findings[0], mean_probability=float(np.float32(0.1234567891)))
    result = result_of(replace(analysis, findings=(finding,)), {})
    assert result["findings"][0]["mean_probability"] == 0.123457
