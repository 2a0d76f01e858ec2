"""Two models on the same patients: paired, and from what evaluation has written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from gliosight.data.manifest import Manifest
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.evaluate.compare import (
    Side,
    compare,
    comparison_record,
    read_side,
    side_of_part,
)
from gliosight.evaluate.evaluation import Evaluation, Request, evaluate
from gliosight.evaluate.localization import SliceTable
from gliosight.evaluate.record import write_evaluation
from tests.evaluate.builders import six_patients, source_of, square, write_data

TRUTHS = six_patients()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


def _evaluated(manifest: Manifest, **masks: np.ndarray) -> Evaluation:
    return evaluate(Request(manifest, [source_of(manifest, {**TRUTHS, **masks})], draws=50))


def _table(truth: int, marked: int, both: int, said: float | None = None) -> SliceTable:
    """A patient of one slice with tumour and one without."""
    probability = None if said is None else np.array([said, 0.3])
    return SliceTable(
        np.array([1, 2]),
        np.array([truth, 0]),
        np.array([marked, 0]),
        np.array([both, 0]),
        np.array([marked > 0, False]),
        probability,
    )


def _side(dice: list[float], said: list[float] | None = None, name: str = "x") -> Side:
    """Patients whose Dice is that: a hundred pixels true, as many marked."""
    tables = {
        f"P{k:02d}": _table(100, 100, round(100 * one), None if said is None else said[k])
        for k, one in enumerate(dice)
    }
    return Side(name, tables, frozenset(), draws_masks=True)


def test_by_hand() -> None:
    one, other = [0.9, 0.8, 0.7, 0.5], [0.7, 0.8, 0.6, 0.6]
    found = compare(_side(one, name="a"), _side(other, name="b"))
    dice = found.figures["dice_mean"]
    assert dice["a"].value == pytest.approx(0.725)
    assert dice["b"].value == pytest.approx(0.675)
    assert dice["difference"].value == pytest.approx(0.05)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    away = np.subtract(one, other).round(6)
    assert found.wilcoxon_p == pytest.approx(float(wilcoxon(away).pvalue))
    assert found.names == ("a", "b")
    assert (len(found.patients), found.left_out, found.slices) == (4, 0, 8)
    assert "slice_auc" not in found.figures  # no probabilities


def test_pairing_finds_a_small_difference_between_very_different_patients() -> None:
    generator = np.random.default_rng(3)
    dice = generator.uniform(0.2, 0.9, size=40).round(2)
    found = compare(_side(list(dice + 0.02)), _side(list(dice)))
    difference = found.figures["dice_mean"]["difference"]
    assert difference.low is not None
    assert difference.high is not None
    assert 0.015 < difference.low <= difference.high < 0.025
    alone = found.figures["dice_mean"]["a"]
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low > 0.05  # far wider than the difference
    assert found.wilcoxon_p is not None
    assert found.wilcoxon_p < 1e-6


def test_probabilities_are_compared_where_both_have_them() -> None:
    found = compare(_side([0.9, 0.9], [0.9, 0.9]), _side([0.9, 0.9], [0.9, 0.1]))
    auc = found.figures["slice_auc"]
    # The first puts both above 0.3; of the second's four pairs two are in order.
    assert (auc["a"].value, auc["b"].value) == (1, 0.5)


def test_equal_models_have_no_p() -> None:
    found = compare(_side([0.9, 0.5]), _side([0.9, 0.5]))
    assert found.wilcoxon_p is None
    assert (found.wins, found.losses, found.ties) == (0, 0, 2)
    assert found.figures["dice_mean"]["difference"].value == 0


def test_seen_and_unknown_patients_are_left_out() -> None:
    one = _side([0.9, 0.8, 0.7])
    other = Side("b", dict(list(one.tables.items())[:2]), frozenset({"P00"}), draws_masks=True)
    found = compare(one, other)
    assert found.patients == ("P01",)
    assert found.left_out == 2
    with pytest.raises(UsageError, match="no patient that both have"):
        compare(one, Side("b", {}, frozenset(), draws_masks=True))


def test_other_truths_are_refused() -> None:
    other = Side("b", {"P00": _table(90, 90, 80)}, frozenset(), draws_masks=True)
    with pytest.raises(DamagedInputError, match="different masks of P00"):
        compare(_side([0.9]), other)


def test_a_detector_is_compared_by_slice_alone() -> None:
    one = _side([0.9, 0.8], [0.9, 0.8])
    detector = Side("d", one.tables, frozenset(), draws_masks=False)
    found = compare(one, detector)
    assert set(found.figures) == {
        "slice_auc",
        "slice_accuracy",
        "slice_sensitivity",
        "slice_specificity",
    }
    assert (found.wins, found.losses, found.ties, found.wilcoxon_p) == (0, 0, 0, None)


def test_from_folders_as_from_values(manifest: Manifest, tmp_path: Path) -> None:
    first, second = _evaluated(manifest), _evaluated(manifest, AA_0=square(8, ()))
    for name, one in (("a", first), ("b", second)):
        write_evaluation(one, "page", tmp_path / name, overwrite=False)
    read = compare(read_side(tmp_path / "a"), read_side(tmp_path / "b"), draws=50)
    made = compare(side_of_part("a", first.parts[0]), side_of_part("b", second.parts[0]), draws=50)
    assert comparison_record(read) == comparison_record(made)
    assert read.figures["dice_mean"]["difference"].value == pytest.approx(0.2)
    assert (read.wins, read.losses, read.ties) == (1, 0, 4)
    json.dumps(comparison_record(read), allow_nan=False)


def test_folders_that_are_no_evaluation(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError):
        read_side(tmp_path)
    write_evaluation(_evaluated(manifest), "page", tmp_path / "a", overwrite=False)
    with pytest.raises(UsageError, match="no part train"):
        read_side(tmp_path / "a", "train")
    for text in ("no json", "[]", '{"parts": [{"part": "all"}]}'):
        (tmp_path / "a" / "evaluation.json").write_text(text, encoding="utf-8")
        with pytest.raises(DamagedInputError):
            read_side(tmp_path / "a")


def test_several_parts_need_a_name(manifest: Manifest, tmp_path: Path) -> None:
    from dataclasses import replace

    one = _evaluated(manifest)
    two = replace(one, parts=tuple(replace(one.parts[0], part=name) for name in ("train", "test")))
    write_evaluation(two, "page", tmp_path / "a", overwrite=False)
    with pytest.raises(UsageError, match="train, test"):
        read_side(tmp_path / "a")
    assert len(read_side(tmp_path / "a", "test").tables) == 6
