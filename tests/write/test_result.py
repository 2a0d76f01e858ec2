"""result.json keeps its schema; findings.csv runs nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from gliosight.analysis import Finding, InputCheck, Outline, Status
from gliosight.errors import DamagedInputError
from gliosight.flags import flag
from gliosight.infer.model import Model
from gliosight.phantom import Phantom
from gliosight.pipeline import Settings, analyze_study
from gliosight.study import Flag
from gliosight.write.result import (
    load_schema,
    restore,
    result_of,
    write_findings,
    write_result,
    write_table,
)
from tests.write.builders import make_analysis

SMALL = (6, 24, 20)
CASES: dict[str, dict[str, Any]] = {
    "found": {},
    "uncertain": {"status": Status.UNCERTAIN},
    "uncertain, nothing marked": {"lesion": False, "status": Status.UNCERTAIN},
    "not calibrated": {"prevalence": None, "outline": Outline(0.2)},
    "not found": {"lesion": False},
    "not assessed": {"status": Status.NOT_ASSESSED},
    "flagged": {"flags": (Flag("T1_MISSING", "info", "No T1."),)},
}


def _as_written(analysis: Any, folder: Path) -> dict[str, Any]:
    """What stands in the file, by a parser that knows nothing of us."""
    write_result(result_of(analysis, {"report.html": "the report"}), folder / "result.json")
    value: dict[str, Any] = json.loads((folder / "result.json").read_bytes().decode("utf-8"))
    return value


@pytest.mark.parametrize("geometry", ["axial", None])
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_result_keeps_the_schema(
    case: str, geometry: str | None, tmp_path: Path
) -> None:
    analysis = make_analysis(SMALL, geometry=geometry, **CASES[case])
    jsonschema.validate(_as_written(analysis, tmp_path), load_schema())


@pytest.mark.slow
def test_a_result_of_the_whole_flow_keeps_the_schema(
    stub_model: Model, small_phantom: Phantom, tmp_path: Path
) -> None:
    analysis = analyze_study(small_phantom.study(), stub_model, Settings())
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
    assert unassessed["detection"]["prevalence"] is None
    assert unassessed["review"] == {"doubt": 4, "softness": None}
    for result in (bare, clear, unassessed):
        assert (result["volume_low_ml"], result["volume_high_ml"]) == (None, None)
    for result in (clear, unassessed):
        assert (result["volume_low_px"], result["volume_high_px"]) == (None, None)
    # Without millilitres the interval is known in voxels.
    ends = [bare["volume_low_px"], bare["volume_high_px"]]
    assert ends == [round(part * bare["volume_px"]) for part in (0.7, 1.4)]
    for one in unassessed["detection"]["slices"]:
        assert (one["probability"], one["area_px"], one["area_mm2"]) == (None, None, None)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "field missing": lambda r: r.pop("study_id"),
    "field too many, deep": lambda r: r["provenance"]["model"].update(path="/home"),
    "another version": lambda r: r.update(schema_version="0.9"),
    "unknown status": lambda r: r.update(status="perhaps"),
    "probability over 1": lambda r: r["detection"].update(probability=1.5),
    "probability as text": lambda r: r["detection"].update(probability="0.5"),
    "no slices": lambda r: r["detection"].update(slices=[]),
    "half a pixel": lambda r: r["detection"]["slices"][0].update(area_px=0.5),
    "unknown side": lambda r: r["findings"][0].update(side="starboard"),
    "finding without volume": lambda r: r["findings"][0].pop("volume_ml"),
    "finding 0": lambda r: r["findings"][0].update(id=0),
    "flat box": lambda r: r["findings"][0].update(bounding_box_voxel=[[0, 0, 0]]),
    "uid of someone else": lambda r: r["findings"][0].update(tracking_uid="1.2.840"),
    "found without findings": lambda r: r.update(findings=[]),
    "findings without status": lambda r: r.update(status="no tumour found"),
    "probability without assessment": lambda r: r.update(status="not assessed", findings=[]),
    "no probability": lambda r: r["detection"].update(probability=None),
    "a score of 1.2": lambda r: r["detection"].update(score=0.9),
    "prevalence of everybody": lambda r: r["detection"].update(prevalence=1),
    "caveat of what was found": lambda r: r["detection"].update(caveat="It may be none."),
    "finding without probability": lambda r: r["findings"][0].pop("probability"),
    "no review": lambda r: r.pop("review"),
    "doubt beyond all": lambda r: r["review"].update(doubt=5),
    "interval below 0": lambda r: r.update(volume_low_ml=-1),
    "interval of half voxels": lambda r: r.update(volume_low_px=0.5),
    "input at no level": lambda r: r["input_check"].update(level=None),
    "input nearer than typical": lambda r: r["input_check"].update(distance=-1),
    "grave flag": lambda r: r.update(flags=[{"code": "O", "severity": "grave", "message": "O."}]),
    "short digest": lambda r: r["provenance"]["model"].update(sha256="0f0f"),
    "unknown channel": lambda r: r["provenance"].update(channels=["T2"]),
    "time that runs backwards": lambda r: r["provenance"]["timings_ms"].update(read=-1),
    "file outside": lambda r: r.update(files={"../passwd": "not ours"}),
    "absolute file": lambda r: r.update(files={"/etc/passwd": "not ours"}),
}


def test_the_schema_refuses_damage() -> None:
    text = json.dumps(result_of(make_analysis(SMALL), {}))
    validator = jsonschema.Draft202012Validator(load_schema())
    validator.check_schema(load_schema())
    assert validator.is_valid(json.loads(text))
    for name, damage in DAMAGE.items():
        result = json.loads(text)
        damage(result)
        assert not validator.is_valid(result), name


def test_what_the_gate_measured_is_told() -> None:
    analysis = make_analysis(SMALL)
    assert result_of(analysis, {})["input_check"] == {"level": "unchecked", "distance": None}
    unusual = replace(analysis, input_check=InputCheck(1.05, "unusual", "It is.", "UNUSUAL_INPUT"))
    result = result_of(unusual, {})
    jsonschema.validate(result, load_schema())
    assert result["input_check"] == {"level": "unusual", "distance": 1.05}


def test_one_probability_a_level_and_the_interval_of_the_volume() -> None:
    analysis = make_analysis(SMALL)
    result = result_of(analysis, {})
    detection = result["detection"]
    assert list(detection) == [
        *("probability", "prevalence", "uncertain_from", "found_from"),
        *("slice_threshold", "caveat", "rules", "slices"),
    ]
    assert (detection["probability"], detection["prevalence"]) == (0.97, 0.855)
    assert result["findings"][0]["probability"] == 0.97
    interval = [result["volume_low_ml"], result["volume_high_ml"]]
    assert interval == pytest.approx(
        [0.7 * result["volume_ml"], 1.4 * result["volume_ml"]], rel=1e-5
    )
    assert result["review"] == {"doubt": 1.3, "softness": 0.3}
    empty = result_of(make_analysis(SMALL, lesion=False), {})
    assert empty["detection"]["caveat"] == "This does not rule out a tumour."
    uncertain = result_of(make_analysis(SMALL, status=Status.UNCERTAIN), {})
    assert (uncertain["status"], uncertain["detection"]["caveat"]) == ("uncertain", "")
    assert uncertain["findings"]


def test_slice_areas_and_volume_agree_with_the_mask() -> None:
    analysis = make_analysis()
    result = result_of(analysis, {})
    geometry = analysis.study.geometry
    assert geometry is not None
    assert geometry.slice_spacing is not None
    assert sum(one["area_px"] for one in result["detection"]["slices"]) == result["volume_px"]
    total = sum(one["area_mm2"] for one in result["detection"]["slices"])
    assert result["volume_ml"] == pytest.approx(total * geometry.slice_spacing / 1000, rel=1e-5)


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    analysis = make_analysis(SMALL)
    for value in (float("nan"), float("inf")):
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
    assert not re.search(r"\d\.\d{7}", json.dumps(result))
    write_findings(changed, tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    assert [row[f"centroid_{k}_mm"] for k in "xyz"] == ["0.0", "0.333333", "-1234.56789"]
    write_table([{"x": -2.5, "y": -3}], ["x", "y"], tmp_path / "t.csv")
    assert _rows(tmp_path / "t.csv") == [{"x": "-2.5", "y": "-3"}]  # no formula


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_findings_table_holds_every_measure(tmp_path: Path) -> None:
    analysis = make_analysis(SMALL)
    write_findings(analysis, tmp_path / "findings.csv")
    (row,) = _rows(tmp_path / "findings.csv")
    axes = ("slice", "row", "column")
    spread = {
        "centroid_voxel": [f"centroid_{axis}" for axis in axes],
        "centroid_mm": [f"centroid_{axis}_mm" for axis in "xyz"],
        "bounding_box_voxel": [f"box_{axis}_{end}" for end in ("from", "to") for axis in axes],
        "slices": ["first_slice", "last_slice"],
    }
    columns = {field.name: spread.get(field.name, [field.name]) for field in fields(Finding)}
    assert list(row) == ["study_id", *chain(*columns.values())]
    for name, names in columns.items():
        value = getattr(analysis.findings[0], name)
        if value is None:  # not known
            assert {row[column] for column in names} == {""}
        elif isinstance(value, (float, tuple)):
            numbers = [float(row[column]) for column in names]
            assert numbers == pytest.approx(np.ravel(value).tolist(), abs=1e-6)
        else:
            assert row[name] == str(value)
    write_findings(make_analysis(SMALL, lesion=False), tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().splitlines() == [",".join(row)]


@pytest.mark.parametrize(
    ("name", "in_csv"),
    [
        ('a,b"c', 'a,b"c'),
        *((name, "'" + name) for name in ("=1+1", "+cmd", "-2", "@sum", "＝1+1")),  # no formula
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


@pytest.mark.parametrize("lesion", [True, False])
def test_what_only_a_high_share_makes_probable_is_read_again(lesion: bool) -> None:
    made = make_analysis(SMALL, status=Status.UNCERTAIN, lesion=lesion)
    decision = replace(made.decision, probability=0.95, prevalence=0.999 if lesion else 0.9)
    analysis = replace(made, decision=decision)
    result = result_of(analysis, {})
    jsonschema.validate(result, load_schema())
    whole = (analysis.study, analysis.mask, analysis.labels, analysis.findings)
    again = restore(result, *whole, corrected=False)
    assert (again.status, again.decision.probability) == (Status.UNCERTAIN, 0.95)
    # Marked, and above the share: that would be a tumour found.
    result["detection"]["prevalence"] = 0.9
    if lesion:
        with pytest.raises(DamagedInputError, match="contradicts the status"):
            restore(result, *whole, corrected=False)


def test_the_interval_of_a_study_without_millilitres_is_read_again() -> None:
    analysis = make_analysis(SMALL, geometry=None)
    whole = (analysis.study, analysis.mask, analysis.labels, analysis.findings)
    again = restore(result_of(analysis, {}), *whole, corrected=False)
    assert again.volume_interval_px == analysis.volume_interval_px


def test_a_changed_mask_keeps_no_flag_of_the_old_one() -> None:
    flags = (flag("SYMMETRIC", "It is."), flag("MISSING_SLICES", "One is."))
    analysis = make_analysis((3, 24, 20), status=Status.UNCERTAIN, flags=flags)
    empty = np.zeros_like(analysis.mask)
    again = restore(
        result_of(analysis, {}), analysis.study, empty, empty.astype(np.uint8), (), corrected=True
    )
    assert again.status is Status.NOT_FOUND
    assert [one.code for one in again.flags] == ["MISSING_SLICES", "MASK_CORRECTED"]
