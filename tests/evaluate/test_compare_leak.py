"""The leak audit: a model that remembers its patients looks good by slice and is not."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from gliosight.data.manifest import Manifest
from gliosight.data.split import PATIENT, SLICE, Split
from gliosight.errors import UsageError
from gliosight.evaluate.compare import leak_audit
from gliosight.evaluate.evaluation import Request
from gliosight.evaluate.page import render_page
from gliosight.evaluate.record import load_schema, record_of
from gliosight.evaluate.sources import Source, source_of_model
from gliosight.infer.model import Model
from gliosight.pipeline import Settings
from tests.evaluate.builders import source_of, square, write_data

TRUTHS = {f"P{k}": square(8, range(2, 6), corner=4 + k) for k in range(6)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), TRUTHS)


def _by_slice(manifest: Manifest) -> Split:
    keys = [f"{name}:{k}" for name in TRUTHS for k in range(1, 9)]
    test = tuple(key for key in keys if int(key[-1]) % 4 == 3)
    rest = tuple(key for key in keys if key not in test)
    return Split(SLICE, 1, manifest.sha256, {"train": rest, "validation": (), "test": test})


def _by_patient(manifest: Manifest) -> Split:
    groups = {"train": ("P0", "P1", "P2"), "validation": (), "test": ("P3", "P4", "P5")}
    return Split(PATIENT, 1, manifest.sha256, groups)


def _request(
    manifest: Manifest, source: Source | dict[str, np.ndarray], split: Split, draws: int = 10
) -> Request:
    if isinstance(source, dict):
        source = source_of(manifest, source)
    return Request(manifest, [source], split, draws=draws)


def test_what_the_leak_is_worth(manifest: Manifest) -> None:
    # By slice all is remembered; by patient half of each lesion is found.
    halves = {name: mask & square(8, (2, 3), corner=0, side=24) for name, mask in TRUTHS.items()}
    evaluation, _ = leak_audit(
        _request(manifest, TRUTHS, _by_slice(manifest), draws=100),
        _request(manifest, halves, _by_patient(manifest), draws=100),
    )
    assert [one.part for one in evaluation.parts] == ["by_slice", "by_patient"]
    assert evaluation.leak is not None
    dice = evaluation.leak["dice_mean"]
    assert dice["by_slice"].value == 1
    assert dice["by_patient"].value == pytest.approx(2 / 3)
    assert dice["difference"].value == pytest.approx(1 / 3)
    assert evaluation.leak["slice_accuracy"]["difference"].value == pytest.approx(0.25)
    assert "nearest_slice" in evaluation.parts[0].baselines
    assert "nearest_slice" not in evaluation.parts[1].baselines
    assert any(one.startswith("by_slice: the split is by slice") for one in evaluation.warnings)
    record = record_of(evaluation)
    jsonschema.validate(json.loads(json.dumps(record)), load_schema())
    page = render_page(evaluation)
    assert "What the leak is worth" in page
    assert "Trained and scored by slice" in page


def test_the_two_are_not_paired(manifest: Manifest) -> None:
    """Other slices, other patients: the same figure on both sides still has a difference to doubt."""
    shifted = {name: np.roll(mask, int(name[1]), axis=1) for name, mask in TRUTHS.items()}
    evaluation, _ = leak_audit(
        _request(manifest, shifted, _by_slice(manifest), draws=200),
        _request(manifest, shifted, _by_patient(manifest), draws=200),
    )
    assert evaluation.leak is not None
    found = evaluation.leak["dice_mean"]["difference"]
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 0.1


def test_splits_of_the_wrong_kind(manifest: Manifest) -> None:
    for one, other in (
        (_by_patient(manifest), _by_patient(manifest)),
        (_by_slice(manifest), _by_slice(manifest)),
        (_by_patient(manifest), _by_slice(manifest)),
    ):
        with pytest.raises(UsageError, match="one split by slice and one by patient"):
            leak_audit(_request(manifest, TRUTHS, one), _request(manifest, TRUTHS, other))


def test_models_that_were_trained_otherwise_are_refused(manifest: Manifest, model: Model) -> None:
    """A run's card says how its data were split: no table where that is not what is scored."""
    by_slice, by_patient = _by_slice(manifest), _by_patient(manifest)

    def trained(split: Split) -> Source:
        about = {"run": {"split": {"by": split.by, "sha256": split.sha256}}}
        return source_of_model(replace(model, card=replace(model.card, about=about)), Settings())

    with pytest.raises(
        UsageError, match=r"trained with a split by patient.*scored with one by slice"
    ):
        leak_audit(
            _request(manifest, trained(by_patient), by_slice),
            _request(manifest, trained(by_patient), by_patient),
        )
    with pytest.raises(
        UsageError, match=r"trained with a split by slice.*scored with one by patient"
    ):
        leak_audit(
            _request(manifest, TRUTHS, by_slice),
            _request(manifest, trained(by_slice), by_patient),
        )


def test_one_bar_for_both(manifest: Manifest) -> None:
    told: list[tuple[int, int]] = []
    leak_audit(
        _request(manifest, TRUTHS, _by_slice(manifest)),
        _request(manifest, TRUTHS, _by_patient(manifest)),
        lambda _, done, total: told.append((done, total)),
    )
    assert told[-1] == (96, 96)
    assert [one for one, _ in told] == sorted(one for one, _ in told)
