"""Two models on the same patients, paired; and the leak audit, which is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy.stats import wilcoxon

from gliosight.data.manifest import Manifest
from gliosight.data.split import PATIENT, SLICE, Split
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.evaluate.compare import (
    Side,
    compare,
    comparison_record,
    leak_audit,
    read_side,
    side_of_part,
)
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate
from gliosight.evaluate.mask_metrics import SliceTable
from gliosight.evaluate.page import render_page
from gliosight.evaluate.record import load_schema, record_of, write_evaluation
from gliosight.evaluate.sources import Source, source_of_model
from gliosight.infer.model import Model
from gliosight.pipeline import Settings
from tests.evaluate.builders import six_patients, source_of, square, write_data

TRUTHS = six_patients()
# Of the leak audit: patients with a lesion in half of their slices.
ALIKE = {f"P{k}": square(8, range(2, 6), corner=4 + k) for k in range(6)}


def _table(truth: int, marked: int, both: int, probability: float | None = None) -> SliceTable:
    """A patient of one slice with tumour and one without."""
    counts = (np.array([pixels, 0]) for pixels in (truth, marked, both))
    known = None if probability is None else np.array([probability, 0.3])
    return SliceTable(np.array([1, 2]), *counts, np.array([marked > 0, False]), known)


def _side(dice: list[float], probabilities: list[float] | None = None, name: str = "x") -> Side:
    """Patients whose Dice is that: a hundred pixels true, as many marked."""
    known = probabilities or [None] * len(dice)
    tables = {
        f"P{k:02d}": _table(100, 100, round(100 * value), probability)
        for k, (value, probability) in enumerate(zip(dice, known, strict=True))
    }
    return Side(name, tables, frozenset(), draws_masks=True)


def test_by_hand() -> None:
    first, second = [0.9, 0.8, 0.7, 0.5], [0.7, 0.8, 0.6, 0.6]
    comparison = compare(_side(first, name="a"), _side(second, name="b"))
    dice = {side: figure.value for side, figure in comparison.figures["dice_mean"].items()}
    assert dice == pytest.approx({"a": 0.725, "b": 0.675, "difference": 0.05})
    assert (comparison.wins, comparison.losses, comparison.ties) == (2, 1, 1)
    away = np.subtract(first, second).round(6)
    assert comparison.wilcoxon_p == pytest.approx(float(wilcoxon(away).pvalue))
    assert comparison.names == ("a", "b")
    assert (len(comparison.patients), comparison.left_out, comparison.slices) == (4, 0, 8)
    assert "slice_auc" not in comparison.figures  # no probabilities
    equal = compare(_side(first), _side(first))
    assert (equal.wilcoxon_p, equal.wins, equal.losses, equal.ties) == (None, 0, 0, 4)


def test_pairing_finds_a_small_difference_between_very_different_patients() -> None:
    dice = np.random.default_rng(3).uniform(0.2, 0.9, size=40).round(2)
    comparison = compare(_side(list(dice + 0.02)), _side(list(dice)))
    difference, alone = (comparison.figures["dice_mean"][side] for side in ("difference", "a"))
    assert 0.015 < difference.low <= difference.high < 0.025  # type: ignore[operator]
    assert alone.high - alone.low > 0.05  # type: ignore[operator] # far wider than the difference
    assert comparison.wilcoxon_p < 1e-6  # type: ignore[operator]


def test_probabilities_are_compared_where_both_have_them() -> None:
    auc = compare(_side([0.9, 0.9], [0.9, 0.9]), _side([0.9, 0.9], [0.9, 0.1])).figures["slice_auc"]
    # The first puts both above 0.3; of the second's four pairs two are in order.
    assert (auc["a"].value, auc["b"].value) == (1, 0.5)


def test_seen_and_unknown_patients_are_left_out_and_other_truths_refused() -> None:
    side = _side([0.9, 0.8, 0.7])
    tables = dict(list(side.tables.items())[:2])
    comparison = compare(side, replace(side, tables=tables, seen=frozenset({"P00"})))
    assert (comparison.patients, comparison.left_out) == (("P01",), 2)
    with pytest.raises(UsageError, match="no patient that both have"):
        compare(side, replace(side, tables={}))
    with pytest.raises(DamagedInputError, match="different masks of P00"):
        compare(side, replace(side, tables={"P00": _table(90, 90, 80)}))


def test_a_detector_is_compared_by_slice_alone() -> None:
    side = _side([0.9, 0.8], [0.9, 0.8])
    comparison = compare(side, replace(side, draws_masks=False))
    expected = ["slice_auc", "slice_accuracy", "slice_sensitivity", "slice_specificity"]
    assert list(comparison.figures) == expected
    assert (comparison.wins, comparison.ties, comparison.wilcoxon_p) == (0, 0, None)


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Evaluation]:
    """Of the truth itself, and of masks that miss one patient."""
    manifest = write_data(tmp_path_factory.mktemp("data"), TRUTHS)
    masks = (TRUTHS, {**TRUTHS, "AA_0": square(8, ())})
    first, second = (
        Request(manifest, [source_of(manifest, predicted)], draws=50) for predicted in masks
    )
    return evaluate(first), evaluate(second)


def test_from_folders_as_from_values(
    evaluations: tuple[Evaluation, Evaluation], tmp_path: Path
) -> None:
    for name, evaluation in zip("ab", evaluations, strict=True):
        write_evaluation(evaluation, "page", tmp_path / name, overwrite=False)
    read = compare(read_side(tmp_path / "a"), read_side(tmp_path / "b"), draws=50)
    sides = (side_of_part(name, e.parts[0]) for name, e in zip("ab", evaluations, strict=True))
    assert comparison_record(read) == comparison_record(compare(*sides, draws=50))
    assert read.figures["dice_mean"]["difference"].value == pytest.approx(0.2)
    assert (read.wins, read.losses, read.ties) == (1, 0, 4)
    json.dumps(comparison_record(read), allow_nan=False)


def test_folders_that_are_no_evaluation_or_have_other_parts(
    evaluations: tuple[Evaluation, Evaluation], tmp_path: Path
) -> None:
    with pytest.raises(NothingReadableError):
        read_side(tmp_path)
    part = evaluations[0].parts[0]
    parts = tuple(replace(part, part=name) for name in ("train", "test"))
    two = replace(evaluations[0], parts=parts)
    write_evaluation(two, "page", tmp_path / "a", overwrite=False)
    assert len(read_side(tmp_path / "a", "test").tables) == 6
    with pytest.raises(UsageError, match="has the parts train, test"):
        read_side(tmp_path / "a")
    with pytest.raises(UsageError, match="no part all"):
        read_side(tmp_path / "a", "all")
    for text in ("no json", "[]", '{"parts": [{"part": "all"}]}'):
        (tmp_path / "a" / "evaluation.json").write_text(text, encoding="utf-8")
        with pytest.raises(DamagedInputError):
            read_side(tmp_path / "a")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), ALIKE)


def _by_slice(manifest: Manifest) -> Split:
    keys = [f"{name}:{k}" for name in ALIKE for k in range(1, 9)]
    test = tuple(key for key in keys if int(key[-1]) % 4 == 3)
    rest = tuple(key for key in keys if key not in test)
    return Split(SLICE, 1, manifest.sha256, {"train": rest, "validation": (), "test": test})


def _by_patient(manifest: Manifest) -> Split:
    groups = {"train": ("P0", "P1", "P2"), "validation": (), "test": ("P3", "P4", "P5")}
    return Split(PATIENT, 1, manifest.sha256, groups)


def _request(
    manifest: Manifest, source: Source | dict[str, np.ndarray], split: Split, draws: int = 10
) -> Request:
    source = source_of(manifest, source) if isinstance(source, dict) else source
    return Request(manifest, [source], split, draws=draws)


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_what_the_leak_is_worth(manifest: Manifest) -> None:
    # By slice all is remembered; by patient half of each lesion is found.
    halves = {name: mask & square(8, (2, 3), corner=0, side=24) for name, mask in ALIKE.items()}
    progress: list[tuple[int, int]] = []
    evaluation, _ = leak_audit(
        _request(manifest, ALIKE, _by_slice(manifest), draws=100),
        _request(manifest, halves, _by_patient(manifest), draws=100),
        lambda _, done, total: progress.append((done, total)),
    )
    assert [part.part for part in evaluation.parts] == ["by_slice", "by_patient"]
    assert evaluation.leak is not None
    dice = {side: figure.value for side, figure in evaluation.leak["dice_mean"].items()}
    assert dice == pytest.approx({"by_slice": 1, "by_patient": 2 / 3, "difference": 1 / 3})
    assert evaluation.leak["slice_accuracy"]["difference"].value == pytest.approx(0.25)
    assert ["nearest_slice" in part.baselines for part in evaluation.parts] == [True, False]
    assert any(text.startswith("by_slice: the split is by slice") for text in evaluation.warnings)
    jsonschema.validate(json.loads(json.dumps(record_of(evaluation))), load_schema())
    page = render_page(evaluation)
    assert "What the leak is worth" in page
    assert "Trained and scored by slice" in page
    # One bar for both.
    assert progress[-1] == (96, 96)
    assert progress == sorted(progress)


@pytest.mark.slow
def test_the_two_of_an_audit_are_not_paired(manifest: Manifest) -> None:
    """Other slices, other patients: the same figure on both sides still has a difference to doubt."""
    shifted = {name: np.roll(mask, int(name[1]), axis=1) for name, mask in ALIKE.items()}
    splits = _by_slice(manifest), _by_patient(manifest)
    evaluation, _ = leak_audit(*(_request(manifest, shifted, s, draws=200) for s in splits))
    difference = (evaluation.leak or {})["dice_mean"]["difference"]
    assert difference.high - difference.low > 0.1  # type: ignore[operator]


@pytest.mark.parametrize("kinds", [(1, 1), (0, 0), (1, 0)])
def test_splits_of_the_wrong_kind(kinds: tuple[int, int], manifest: Manifest) -> None:
    splits = _by_slice(manifest), _by_patient(manifest)
    with pytest.raises(UsageError, match="one split by slice and one by patient"):
        leak_audit(*(_request(manifest, ALIKE, splits[kind]) for kind in kinds))


@pytest.mark.parametrize("wrong", [0, 1])
def test_models_that_were_trained_otherwise_are_refused(
    wrong: int, manifest: Manifest, model: Model
) -> None:
    """A run's card names how its data were split: no table where that is not what is scored."""
    splits = [_by_slice(manifest), _by_patient(manifest)]
    trained = splits[1 - wrong]
    about = {"run": {"split": {"by": trained.by, "sha256": trained.sha256}}}
    source = source_of_model(replace(model, card=replace(model.card, about=about)), Settings())
    requests = [_request(manifest, ALIKE, split) for split in splits]
    requests[wrong] = replace(requests[wrong], sources=[source])
    words = f"trained with a split by {trained.by}.*scored with one by {splits[wrong].by}"
    with pytest.raises(UsageError, match=words):
        leak_audit(*requests)
