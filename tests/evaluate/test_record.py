"""What evaluation writes: JSON by its schema, tables, a folder that is whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gliosight.data.manifest import Manifest
from gliosight.errors import CannotWriteError
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate
from gliosight.evaluate.figures import NAMES
from gliosight.evaluate.mask_metrics import COLUMNS
from gliosight.evaluate.record import check_out, load_schema, record_of, write_evaluation
from tests.evaluate.builders import in_collections, six_patients, source_of, square, write_data

TRUTHS = six_patients()
FILES = ["evaluation.html", "evaluation.json", "per_patient.csv", "per_slice.csv"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


@pytest.fixture(scope="module")
def evaluation(manifest: Manifest) -> Evaluation:
    masks = {**TRUTHS, "AA_0": square(8, (1,), corner=14), "BB_free": square(8, (1,))}
    source = source_of(manifest, masks)
    return evaluate(Request(manifest, [source], draws=60))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_record_follows_its_schema(evaluation: Evaluation) -> None:
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    record = record_of(evaluation)
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), schema)
    assert record["schema_version"] == "1.0"
    assert record["bootstrap"] == {"draws": 60, "seed": 1, "level": 0.95}
    assert record["models"][0]["name"] == "made"


def test_figures_by_collection_and_undefined_ones_follow_the_schema(manifest: Manifest) -> None:
    """Of the two collections one has no tumour; of the other all patients are seen."""
    grouped = in_collections(manifest)
    source = source_of(grouped, TRUTHS, seen=TRUTHS.keys() - {"BB_free"})
    record = record_of(evaluate(Request(grouped, [source], draws=20)))
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), load_schema())
    (part,) = record["parts"]
    assert part["groups"]["collection"]["free"]["false_verdicts"]["n"] == 1
    assert {row["collection"] for row in part["per_patient"]} == {"free", "lgg"}
    assert part["localization"]["dice_mean"]["value"] is None
    assert part["patients_seen"] == 5


def test_every_figure_has_a_definition_and_a_name(evaluation: Evaluation) -> None:
    """A key in the record without a line in the docs, or without words on the page, is a mistake."""
    docs = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
    text = docs.read_text(encoding="utf-8")
    named = set(NAMES)
    record = record_of(evaluation)["parts"][0]
    keys = {*record["localization"], *record["detection"]} | named
    assert keys <= named
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


def test_tables_hold_what_the_record_says(evaluation: Evaluation, tmp_path: Path) -> None:
    for name in ("out", "again"):
        write_evaluation(evaluation, "<!doctype html>", tmp_path / name, overwrite=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    patients = _rows(tmp_path / "out" / "per_patient.csv")
    assert [row["patient"] for row in patients] == list(TRUTHS)
    dice = {row["patient"]: row["dice"] for row in patients}
    # Of a patient without a lesion it is not defined, neither 0 nor 1.
    assert (dice["AA_0"], dice["AA_1"], dice["BB_free"]) == ("0.0", "1.0", "")
    assert patients[-1]["predicted_px"] == "36"
    assert patients[0]["sequences"] == "T1+FLAIR+T1C"
    slices = _rows(tmp_path / "out" / "per_slice.csv")
    assert len(slices) == 48
    assert sum(int(row["truth_px"]) for row in slices) == sum(
        mask.sum() for mask in TRUTHS.values()
    )


def test_an_earlier_evaluation_is_replaced_only_when_asked_and_when_it_can_be(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_evaluation(evaluation, "first", out, overwrite=False)
    with pytest.raises(CannotWriteError, match="not empty"):
        check_out(out, overwrite=False)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(CannotWriteError, match=r"notes\.txt"):
        write_evaluation(evaluation, "second", out, overwrite=True)
    (out / "notes.txt").unlink()

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(CannotWriteError, match="No space"):
            write_evaluation(evaluation, "second", out, overwrite=True)
    assert (out / "evaluation.html").read_text(encoding="utf-8") == "first"
    write_evaluation(evaluation, "second", out, overwrite=True)
    assert (out / "evaluation.html").read_text(encoding="utf-8") == "second"
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("content", ["mine.txt", "evaluation.json"])
def test_what_is_not_ours_is_never_replaced(
    content: str, evaluation: Evaluation, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / content).write_text("{}", encoding="utf-8")
    with pytest.raises(CannotWriteError):
        write_evaluation(evaluation, "page", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / content).read_text(encoding="utf-8") == "{}"


def test_names_of_patients_cannot_run_in_a_table(evaluation: Evaluation, tmp_path: Path) -> None:
    part = evaluation.parts[0]
    hostile = replace(part.patients[0], patient="=1+1")
    changed = replace(evaluation, parts=(replace(part, patients=(hostile, *part.patients[1:])),))
    write_evaluation(changed, "page", tmp_path / "out", overwrite=False)
    assert _rows(tmp_path / "out" / "per_patient.csv")[0]["patient"] == "'=1+1"
