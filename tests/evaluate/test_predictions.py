"""Predictions as a file: whole again, small, and refused when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliosight.data.manifest import Manifest
from gliosight.errors import CannotWriteError, DamagedInputError, NothingReadableError
from gliosight.evaluate.predictions import (
    ModelNote,
    Prediction,
    Predictions,
    read_predictions,
    write_maps,
    write_predictions,
)
from tests.evaluate.builders import (
    NOTE,
    make_prediction,
    make_predictions,
    six_patients,
    square,
    write_data,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), six_patients())


def _same(one: Prediction, other: Prediction) -> None:
    for name in ("patient", "rows_sha256", "shape", "slice_threshold", "score", "found", "seen"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.mask == other.mask).all()
    if one.slice_probability is None:
        assert other.slice_probability is None
    else:
        assert np.array_equal(one.slice_probability, other.slice_probability)


def test_the_round_trip_is_whole(manifest: Manifest, tmp_path: Path) -> None:
    predictions = make_predictions(manifest, six_patients())
    # A folder of masks knows no probabilities; odd shapes do not fill their last byte.
    only_mask = replace(
        make_prediction(manifest, "AA_0", square(8, (3,))),
        slice_probability=None,
        slice_threshold=None,
        score=None,
        score_threshold=None,
        seen=True,
    )
    entries = (only_mask, *predictions.entries[1:])
    notes = (NOTE, ModelNote("other", "cascade", "", draws=False))
    written = Predictions(notes, (*entries[:-1], replace(entries[-1], model=1)))
    write_predictions(written, tmp_path / "p.npz")
    found = read_predictions(tmp_path / "p.npz")
    assert found.models == notes
    for one, other in zip(written.entries, found.entries, strict=True):
        _same(one, other)
    assert [one.model for one in found.entries] == [0, 0, 0, 0, 0, 1]


def test_odd_shapes_are_packed_to_the_byte(manifest: Manifest) -> None:
    mask = np.random.default_rng(0).uniform(size=(3, 5, 7)) < 0.5
    found = make_prediction(manifest, "AA_0", mask)
    assert len(found.bits) == 14  # 105 bits
    assert (found.mask == mask).all()
    with pytest.raises(ValueError, match="bytes"):
        replace(found, shape=(3, 5, 9))


def test_a_data_set_of_88_patients_is_a_few_hundred_kb(manifest: Manifest, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    entries = []
    for k in range(8):  # a tenth of the LGG set
        mask = np.zeros((36, 256, 256), dtype=bool)
        y, x = np.mgrid[:256, :256]
        for z in range(10, 22):
            radius = 20 + 3 * generator.normal(size=(256, 256)) ** 2
            mask[z] = np.hypot(y - 120, x - 90) < radius
        probability = generator.uniform(size=36).astype(np.float32)
        one = make_prediction(manifest, "AA_0", mask, slice_probability=probability)
        entries.append(replace(one, patient=f"P{k}"))
    write_predictions(Predictions((NOTE,), tuple(entries)), tmp_path / "p.npz")
    assert (tmp_path / "p.npz").stat().st_size < 150_000  # ragged outlines, not real ones


def test_the_same_predictions_are_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    predictions = make_predictions(manifest, six_patients())
    for name in ("a.npz", "b.npz"):
        write_predictions(predictions, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": np.array(99)},
        {"models": np.array("[]")},
        {"models": np.array("no json")},
        {"masks": np.zeros(3, np.uint8)},
        {"probability": np.zeros(3, np.float32)},
        {"shapes": np.array([[0, 0, 0]] * 6)},
        {"patients": np.array(["same"] * 6)},
        {"model": np.array([7] * 6)},
        {"models": np.array("[" * 100_000)},
        {"rows_sha256": np.array(["one"])},
        {"shapes": np.array([5, 20, 24])},
    ],
)
def test_parts_that_do_not_fit_are_refused(
    damage: dict[str, np.ndarray], manifest: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "p.npz"
    write_predictions(make_predictions(manifest, six_patients()), path)
    np.savez_compressed(path, **{**_arrays(path), **damage})
    with pytest.raises(DamagedInputError, match=r"p\.npz"):
        read_predictions(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError):
        read_predictions(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:100])
    np.savez(tmp_path / "pickle.npz", format=np.array([{}], dtype=object), allow_pickle=True)
    for name in ("other", "text", "cut", "pickle"):
        with pytest.raises(DamagedInputError):
            read_predictions(tmp_path / f"{name}.npz")


def test_a_place_that_cannot_be_written(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError):
        write_predictions(make_predictions(manifest, six_patients()), tmp_path / "file" / "p.npz")


def test_the_file_holds_no_image_and_says_what_it_is(manifest: Manifest, tmp_path: Path) -> None:
    write_predictions(make_predictions(manifest, six_patients()), tmp_path / "p.npz")
    arrays = _arrays(tmp_path / "p.npz")
    assert "Research use only" in str(arrays["note"])
    assert json.loads(str(arrays["models"]))[0]["name"] == "made"
    pixels = 6 * 8 * 24 * 24
    assert all(one.nbytes <= pixels // 8 + 200 for name, one in arrays.items() if name != "note")


def test_maps_are_named_as_such(tmp_path: Path) -> None:
    write_maps([], [], tmp_path / "maps.npz")
    with pytest.raises(DamagedInputError, match="before any decision rule"):
        read_predictions(tmp_path / "maps.npz")
