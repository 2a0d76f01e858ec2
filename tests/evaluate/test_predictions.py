"""Predictions and maps as files: whole again, small, and refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.data.manifest import Manifest
from gliosight.errors import DamagedInputError, LimitExceededError, NothingReadableError
from gliosight.evaluate.predictions import (
    NOTHING,
    KeptMaps,
    ModelNote,
    Predictions,
    from_levels,
    read_maps,
    read_predictions,
    to_levels,
    write_maps,
    write_predictions,
)
from gliosight.maps import Maps
from tests.evaluate.builders import (
    NOTE,
    make_prediction,
    make_predictions,
    six_patients,
    square,
    write_data,
)

NOTES = (NOTE, ModelNote("other", "cascade", "b" * 64, draws=False))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_data(tmp_path_factory.mktemp("data"), six_patients())


def _patient_maps(patient: str, model: int, seed: int, *, empty: bool = False) -> KeptMaps:
    rng = np.random.default_rng(seed)
    probability = np.zeros((5, 20, 24), np.float32)
    if not empty:
        probability[1:3, 4:9, 7:19] = rng.uniform(size=(2, 5, 12))
    head = rng.uniform(size=5).astype(np.float32)
    return KeptMaps(patient, "c" * 64, model, (5.0, 0.9, 0.8), Maps(probability, head))


def _same(written: Any, read: Any) -> None:
    """Fields are equal, arrays in every value."""
    for name, value in vars(written).items():
        assert np.array_equal(value, getattr(read, name)) or value is getattr(read, name) is None


def test_predictions_come_back_whole(manifest: Manifest, tmp_path: Path) -> None:
    predictions = make_predictions(manifest, six_patients())
    # A folder of masks knows no probabilities.
    only_mask = replace(
        make_prediction(manifest, "AA_0", square(8, (3,))),
        slice_probability=None,
        slice_threshold=None,
        score=None,
        score_threshold=None,
        seen=True,
    )
    entries = (only_mask, *predictions.entries[1:-1], replace(predictions.entries[-1], model=1))
    for name in ("a.npz", "b.npz"):
        write_predictions(Predictions(NOTES, entries), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    read = read_predictions(tmp_path / "a.npz")
    assert read.models == NOTES
    for written, other in zip(entries, read.entries, strict=True):
        _same(written, other)


def test_odd_shapes_are_packed_to_the_byte(manifest: Manifest) -> None:
    mask = np.random.default_rng(0).uniform(size=(3, 5, 7)) < 0.5
    prediction = make_prediction(manifest, "AA_0", mask)
    assert len(prediction.bits) == 14  # 105 bits
    assert (prediction.mask == mask).all()
    with pytest.raises(ValueError, match="bytes"):
        replace(prediction, shape=(3, 5, 9))


def test_the_file_holds_no_image_and_states_what_it_is(manifest: Manifest, tmp_path: Path) -> None:
    write_predictions(make_predictions(manifest, six_patients()), tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as file:
        arrays = dict(file)
    assert "Research use only" in str(arrays.pop("note"))
    assert json.loads(str(arrays["models"]))[0]["name"] == "made"
    assert all(array.nbytes <= 6 * 8 * 24 * 24 // 8 + 200 for array in arrays.values())


def test_maps_come_back_as_levels(tmp_path: Path) -> None:
    maps = [
        _patient_maps("A", 0, 1),
        _patient_maps("B", 1, 2),
        _patient_maps("C", 1, 3, empty=True),
    ]
    path = tmp_path / "maps.npz"
    write_maps(NOTES, maps, path)
    notes, read = read_maps(path)
    assert notes == NOTES
    for written, other in zip(maps, read, strict=True):
        assert np.abs(written.maps.probability - other.maps.probability).max() < 0.025
        assert np.array_equal(written.maps.slice_head, other.maps.slice_head)
        _same(replace(written, maps=other.maps), other)
    assert np.all(read[2].maps.probability == np.float32(NOTHING))
    with pytest.raises(DamagedInputError, match="before any decision rule"):
        read_predictions(path)


def test_levels_are_near_and_never_across_one_half() -> None:
    p = np.linspace(0, 1, 20_001, dtype=np.float32)
    back = from_levels(to_levels(p))
    assert np.array_equal(back >= 0.5, p >= 0.5)
    assert np.abs(back - p).max() < 0.025
    assert np.all(np.diff(back) >= 0)


def test_only_axial_maps_are_patient_maps() -> None:
    maps = _patient_maps("A", 0, 1).maps
    turned = Maps(maps.probability, maps.slice_head, axis=1, axis_head=np.zeros(20, np.float32))
    with pytest.raises(ValueError, match="axial"):
        KeptMaps("A", "c" * 64, 0, (5.0, 0.9, 0.8), turned)


def _write_damaged(path: Path, damage: dict[str, np.ndarray]) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, **damage})


COMMON = [
    {"format": np.array(99)},
    {"models": np.array("[]")},
    {"models": np.array("no json")},
    {"models": np.array("[" * 100_000)},
    {"rows_sha256": np.array(["c"])},
    {"shapes": np.array([5, 20, 24])},
]
OF_PREDICTIONS = [
    *COMMON,
    {"masks": np.zeros(3, np.uint8)},
    {"probability": np.zeros(3, np.float32)},
    {"shapes": np.array([[0, 0, 0]] * 6)},
    {"patients": np.array(["same"] * 6)},
    {"model": np.array([7] * 6)},
]
OF_MAPS = [
    *COMMON,
    {"levels": np.zeros(3, np.uint8)},
    {"levels": np.full(2 * 2 * 5 * 12, 200, np.uint8)},
    {"model": np.array([0, 2])},
    {"patients": np.array(["A", "A"])},
    {"shapes": np.array([[5, 20, 24]])},
    {"shapes": np.array([[5, 20, 24], [5, 4, 24]])},
    {"sides": np.array([[5.0, 0.9, 0.8], [5.0, np.nan, 0.8]])},
    {"sides": np.array([[5.0, 0.9, 0.8], [5.0, 0.0, 0.8]])},
    {"head": np.full(10, np.nan, np.float32)},
    {"boxes": np.array([[[1, 3], [4, 9], [7, 19]], [[1, 3], [4, 9], [-12, 0]]])},
    {"boxes": np.array([[[1, 3], [4, 9], [7, 19]], [[3, 1], [9, 4], [7, 19]]])},
]


@pytest.mark.parametrize(
    ("read", "damage"),
    [*((read_predictions, d) for d in OF_PREDICTIONS), *((read_maps, d) for d in OF_MAPS)],
)
def test_parts_that_do_not_fit_are_refused(
    read: Callable[[Path], Any], damage: dict[str, np.ndarray], manifest: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "p.npz"
    if read is read_maps:
        write_maps(NOTES, [_patient_maps("A", 0, 1), _patient_maps("B", 1, 2)], path)
    else:
        write_predictions(make_predictions(manifest, six_patients()), path)
    read(path)
    _write_damaged(path, damage)
    with pytest.raises(DamagedInputError, match=r"damaged ones \(p\.npz\)"):
        read(path)


def test_a_volume_that_would_fill_the_memory_is_not_made(tmp_path: Path) -> None:
    write_maps(NOTES, [_patient_maps("A", 0, 1), _patient_maps("B", 1, 2)], tmp_path / "maps.npz")
    damage = {"shapes": np.array([[5, 20, 24], [5, 20_000, 240_000]])}
    _write_damaged(tmp_path / "maps.npz", damage)
    with pytest.raises(LimitExceededError, match="unpacked"):
        read_maps(tmp_path / "maps.npz")


@pytest.mark.parametrize("read", [read_predictions, read_maps])
def test_other_files_are_refused(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError):
        read(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    (tmp_path / "head.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:100])
    np.savez(tmp_path / "pickle.npz", format=np.array([{}], dtype=object), allow_pickle=True)
    for name in ("other", "text", "head", "cut", "pickle"):
        with pytest.raises(DamagedInputError):
            read(tmp_path / f"{name}.npz")
