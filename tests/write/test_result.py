"""result.json keeps its schema; findings.csv runs nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from gliosight.analysis import Finding, Status
from gliosight.infer.model import Model
from gliosight.phantom import Phantom
from gliosight.pipeline import Settings, analyze_study
from gliosight.study import Flag
from gliosight.write.result import load_schema, result_of, write_findings, write_result, write_table
from tests.write.builders import make_analysis

SMALL = (6, 24, 20)
CASES: dict[str, Callable[[], Any]] = {
    "found": lambda: make_analysis(SMALL),
    "found, no geometry": lambda: make_analysis(SMALL, geometry=None),
    "not found": lambda: make_analysis(SMALL, lesion=False),
    "not found, no geometry": lambda: make_analysis(SMALL, geometry=None, lesion=False),
    "not assessed": lambda: make_analysis(SMALL, status=Status.NOT_ASSESSED),
    "not assessed, no geometry": lambda: make_analysis(
        SMALL, geometry=None, status=Status.NOT_ASSESSED
    ),
    "flagged": lambda: make_analysis(SMALL, flags=(Flag("T1_MISSING", "info", "No T1."),)),
}


def _as_written(analysis: Any, folder: Path) -> dict[str, Any]:
    """What stands in the file, by a parser that knows nothing of us."""
    write_result(result_of(analysis, {"report.html": "the report"}), folder / "result.json")
    value: dict[str, Any] = json.loads((folder / "result.json").read_bytes().decode("utf-8"))
    return value


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_result_keeps_the_schema(case: str, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())
    jsonschema.validate(_as_written(CASES[case](), tmp_path), load_schema())


def test_a_result_of_the_whole_flow_keeps_the_schema(
    model: Model, small_phantom: Phantom, tmp_path: Path
) -> None:
    analysis = analyze_study(small_phantom.study(), model, Settings())
    result = _as_written(analysis, tmp_path)
    jsonschema.validate(result, load_schema())
    # What the schema leaves open in settings is typed as far as we fill it.
    known = load_schema()["properties"]["provenance"]["properties"]["settings"]["properties"]
    assert result["provenance"]["settings"].keys() == known.keys()


def test_the_schema_has_the_fields_of_a_finding_and_explains_everything() -> None:
    schema = load_schema()
    finding = schema["properties"]["findings"]["items"]
    assert list(finding["properties"]) == [one.name for one in fields(Finding)]
    assert finding["required"] == list(finding["properties"])
    unexplained = [name for name, one in _named(schema) if "description" not in one]
    assert unexplained == []
    open_ended = [
        name
        for name, one in _named(schema)
        if "properties" in one and one.get("additionalProperties") is not False
    ]
    assert open_ended == ["settings"]


def _named(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in schema.get("properties", {}).items():
        yield name, one
        yield from _named(one)
        yield from _named(one.get("items", {}))


def test_what_is_not_known_is_null_and_never_zero() -> None:
    bare = result_of(make_analysis(SMALL, geometry=None), {})
    assert bare["volume_ml"] is None
    assert bare["volume_px"] > 0
    assert all(one["area_mm2"] is None for one in bare["detection"]["slices"])
    clear = result_of(make_analysis(SMALL, lesion=False), {})
    assert (clear["volume_ml"], clear["volume_px"]) == (0, 0)
    # An empty mask that nobody looked for is no volume of 0.
    unassessed = result_of(make_analysis(SMALL, status=Status.NOT_ASSESSED), {})
    assert (unassessed["volume_ml"], unassessed["volume_px"]) == (None, None)
    assert unassessed["detection"]["probability"] is None
    assert unassessed["detection"]["score"] is None
    for one in unassessed["detection"]["slices"]:
        assert (one["probability"], one["area_px"], one["area_mm2"]) == (None, None, None)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "field missing": lambda r: r.pop("study_id"),
    "field too many": lambda r: r.update(extra=1),
    "field too many, deep": lambda r: r["provenance"]["model"].update(path="/home"),
    "another version": lambda r: r.update(schema_version="0.9"),
    "unknown status": lambda r: r.update(status="perhaps"),
    "probability over 1": lambda r: r["detection"].update(probability=1.5),
    "probability as text": lambda r: r["detection"].update(probability="0.5"),
    "no slices": lambda r: r["detection"].update(slices=[]),
    "negative area": lambda r: r["detection"]["slices"][0].update(area_px=-1),
    "half a pixel": lambda r: r["detection"]["slices"][0].update(area_px=0.5),
    "unknown side": lambda r: r["findings"][0].update(side="starboard"),
    "finding without volume": lambda r: r["findings"][0].pop("volume_ml"),
    "finding 0": lambda r: r["findings"][0].update(id=0),
    "flat centroid": lambda r: r["findings"][0].update(centroid_voxel=[1, 2]),
    "flat box": lambda r: r["findings"][0].update(bounding_box_voxel=[[0, 0, 0]]),
    "uid of someone else": lambda r: r["findings"][0].update(tracking_uid="1.2.840"),
    "found without findings": lambda r: r.update(findings=[]),
    "found without volume": lambda r: r.update(volume_px=0),
    "findings without status": lambda r: r.update(status="no tumour found"),
    "score without assessment": lambda r: r.update(status="not assessed", findings=[]),
    "no score": lambda r: r["detection"].update(score=None),
    "flag in lower case": lambda r: r.update(
        flags=[{"code": "odd", "severity": "info", "message": "Odd."}]
    ),
    "grave flag": lambda r: r.update(
        flags=[{"code": "ODD", "severity": "grave", "message": "Odd."}]
    ),
    "short digest": lambda r: r["provenance"]["model"].update(sha256="0f0f"),
    "unknown channel": lambda r: r["provenance"].update(channels=["T2"]),
    "time that runs backwards": lambda r: r["provenance"]["timings_ms"].update(read=-1),
    "file outside": lambda r: r.update(files={"../passwd": "not ours"}),
    "absolute file": lambda r: r.update(files={"/etc/passwd": "not ours"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_schema_refuses_damage(damage: str) -> None:
    result = json.loads(json.dumps(result_of(make_analysis(SMALL), {})))
    jsonschema.validate(result, load_schema())
    DAMAGE[damage](result)
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_never_written(value: float, tmp_path: Path) -> None:
    analysis = make_analysis(SMALL)
    finding = replace(analysis.findings[0], mean_probability=value)
    result = result_of(replace(analysis, findings=(finding,)), {})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_result(result, tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


def test_numbers_are_rounded_everywhere_and_zero_has_no_sign(tmp_path: Path) -> None:
    analysis = make_analysis(SMALL)
    finding = replace(
        analysis.findings[0],
        mean_probability=float(np.float32(0.1234567891)),
        centroid_mm=(-1e-9, 1 / 3, -1234.56789049),
    )
    changed = replace(analysis, findings=(finding,))
    result = result_of(changed, {})
    assert result["findings"][0]["mean_probability"] == 0.123457
    assert str(result["findings"][0]["centroid_mm"]) == "[0.0, 0.333333, -1234.56789]"
    write_findings(changed, tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    assert [row[f"centroid_{k}_mm"] for k in "xyz"] == ["0.0", "0.333333", "-1234.56789"]
    text = json.dumps(result)
    assert not re.search(r"\d\.\d{7}", text)


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_findings_table_holds_every_measure(tmp_path: Path) -> None:
    analysis = make_analysis(SMALL)
    write_findings(analysis, tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    finding = analysis.findings[0]
    spread = {
        "centroid_voxel": ["centroid_slice", "centroid_row", "centroid_column"],
        "centroid_mm": ["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"],
        "bounding_box_voxel": [
            f"box_{axis}_{end}" for end in ("from", "to") for axis in ("slice", "row", "column")
        ],
        "slices": ["first_slice", "last_slice"],
    }
    expected = ["study_id"]
    for one in fields(Finding):
        expected += spread.get(one.name, [one.name])
    assert list(row) == expected
    for one in fields(Finding):
        value = getattr(finding, one.name)
        if one.name == "centroid_mm":
            assert {row[name] for name in spread[one.name]} == {""}  # not known
        elif one.name in spread:
            found = [float(row[name]) for name in spread[one.name]]
            assert found == pytest.approx(np.ravel(value).tolist(), abs=1e-6)
        elif isinstance(value, float):
            assert float(row[one.name]) == pytest.approx(value, abs=1e-6)
        else:
            assert row[one.name] == str(value)


def test_without_findings_the_table_has_its_header(tmp_path: Path) -> None:
    write_findings(make_analysis(SMALL, lesion=False), tmp_path / "none.csv")
    (line,) = (tmp_path / "none.csv").read_text().splitlines()
    assert line.startswith("study_id,id,")


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@sum", "＝1+1"])
def test_a_name_is_no_formula(tmp_path: Path, name: str) -> None:
    write_findings(make_analysis(SMALL, study_id=name), tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    assert row["study_id"] == "'" + name


def test_a_negative_number_stays_a_number(tmp_path: Path) -> None:
    write_table([{"x": -2.5, "y": -3}], ["x", "y"], tmp_path / "t.csv")
    assert _rows(tmp_path / "t.csv") == [{"x": "-2.5", "y": "-3"}]


@pytest.mark.parametrize(
    ("name", "in_csv"),
    [
        ('a,b"c', 'a,b"c'),
        ("a\nb\r=1", "a\\nb\\r=1"),
        ("\t=1", "\\t=1"),
        ("影像 مرحبا 🧠", "影像 مرحبا 🧠"),
        # What a terminal would obey, and what would turn the text round, is seen instead.
        ("x\x1b[31mred\x1b[0m\x00y", "x\\x1b[31mred\\x1b[0m\\x00y"),
        ("\u202egnp.\u2066\u200b", "\\u202egnp.\\u2066\\u200b"),
        # A Linux file name that is no UTF-8, as Python holds it; the files stay UTF-8 all the same.
        ("caf\udce9", "caf\\udce9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_of_any_kind_come_back(name: str, in_csv: str, tmp_path: Path) -> None:
    analysis = make_analysis(SMALL, study_id=name)
    assert _as_written(analysis, tmp_path)["study_id"] == name
    write_findings(analysis, tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    assert row["study_id"] == in_csv
