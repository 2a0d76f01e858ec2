"""Maps kept: small, true to a threshold of one half, and nothing lost between writing and reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gliosight.errors import DamagedInputError, LimitExceededError, NothingReadableError
from gliosight.evaluate.predictions import (
    NOTHING,
    KeptMaps,
    ModelNote,
    from_levels,
    read_maps,
    to_levels,
    write_maps,
)
from gliosight.maps import Maps

NOTES = (ModelNote("fold 0", "joint", "a" * 64), ModelNote("fold 1", "joint", "b" * 64))


def kept(patient: str, model: int, seed: int, *, empty: bool = False) -> KeptMaps:
    rng = np.random.default_rng(seed)
    probability = np.zeros((5, 20, 24), np.float32)
    if not empty:
        probability[1:3, 4:9, 7:19] = rng.uniform(size=(2, 5, 12))
    head = rng.uniform(size=5).astype(np.float32)
    return KeptMaps(patient, "c" * 64, model, (5.0, 0.9, 0.8), Maps(probability, head))


def test_levels_are_near_and_never_across_one_half() -> None:
    p = np.linspace(0, 1, 20_001, dtype=np.float32)
    back = from_levels(to_levels(p))
    assert np.array_equal(back >= 0.5, p >= 0.5)
    assert np.abs(back - p).max() < 0.025
    assert np.all(np.diff(back) >= 0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = [kept("A", 0, 1), kept("B", 1, 2), kept("C", 1, 3, empty=True)]
    path = tmp_path / "maps.npz"
    write_maps(NOTES, given, path)
    notes, found = read_maps(path)
    assert notes == NOTES
    for one, other in zip(given, found, strict=True):
        assert (one.patient, one.model, one.rows_sha256) == (
            other.patient,
            other.model,
            other.rows_sha256,
        )
        assert one.sides == other.sides
        assert np.array_equal(one.maps.slice_head, other.maps.slice_head)
        assert np.abs(one.maps.probability - other.maps.probability).max() < 0.025
    assert np.all(found[2].maps.probability == np.float32(NOTHING))


def test_what_is_no_file_of_maps(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    with pytest.raises(NothingReadableError):
        read_maps(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DamagedInputError):
        read_maps(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"levels": np.zeros(3, np.uint8)},
        {"levels": np.full(2 * 2 * 5 * 12, 200, np.uint8)},
        {"models": np.array("[" * 100_000)},
        {"model": np.array([0, 2])},
        {"patients": np.array(["A", "A"])},
        {"shapes": np.array([[5, 20, 24]])},
        {"shapes": np.array([5, 20, 24])},
        {"shapes": np.array([[5, 20, 24], [5, 4, 24]])},
        {"rows_sha256": np.array(["c"])},
        {"sides": np.array([[5.0, 0.9, 0.8], [5.0, np.nan, 0.8]])},
        {"sides": np.array([[5.0, 0.9, 0.8], [5.0, 0.0, 0.8]])},
        {"head": np.full(10, np.nan, np.float32)},
        {"boxes": np.array([[[1, 3], [4, 9], [7, 19]], [[1, 3], [4, 9], [-12, 0]]])},
        {"boxes": np.array([[[1, 3], [4, 9], [7, 19]], [[3, 1], [9, 4], [7, 19]]])},
    ],
)
def test_parts_that_do_not_fit_are_refused(damage: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    _write_damaged(path, damage)
    with pytest.raises(DamagedInputError, match=r"damaged ones \(maps\.npz\)"):
        read_maps(path)


def test_a_volume_that_would_fill_the_memory_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    _write_damaged(path, {"shapes": np.array([[5, 20, 24], [5, 20_000, 240_000]])})
    with pytest.raises(LimitExceededError, match="unpacked"):
        read_maps(path)


def test_only_axial_maps_are_kept() -> None:
    one = kept("A", 0, 1).maps
    turned = Maps(one.probability, one.slice_head, axis=1, axis_head=np.zeros(20, np.float32))
    with pytest.raises(ValueError, match="axial"):
        KeptMaps("A", "c" * 64, 0, (5.0, 0.9, 0.8), turned)


def _write_damaged(path: Path, damage: dict[str, np.ndarray]) -> None:
    write_maps(NOTES, [kept("A", 0, 1), kept("B", 1, 2)], path)
    read_maps(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **{**arrays, **damage})
