"""Which slices make a batch: for each step always the same, and as often as the recipe says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import UsageError
from gliosight.train.packed import PackedSlices
from gliosight.train.recipe import Recipe, Sampling
from gliosight.train.sampling import sampler_of

ROWS = np.arange(18)


def _recipe(**sampling: object) -> Recipe:
    return Recipe(batch=4, sampling=Sampling(**sampling))  # type: ignore[arg-type]


def test_once_is_once(slices: PackedSlices) -> None:
    sampler = sampler_of(slices, ROWS, _recipe(order="once", per_epoch=0))
    assert sampler.steps_per_epoch == 5
    epochs = [np.concatenate([sampler.draw(k + 5 * e)[0] for k in range(5)]) for e in (0, 1)]
    for epoch in epochs:
        assert sorted(epoch) == ROWS.tolist()
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(sampler.draw(7)[0], sampler.draw(7)[0])


def test_tumour_slices_alone(slices: PackedSlices) -> None:
    sampler = sampler_of(slices, ROWS, _recipe(slices="tumour", order="once", per_epoch=0))
    assert slices.masks[sampler.rows].any(axis=(1, 2)).all()
    free = np.flatnonzero(~slices.masks.any(axis=(1, 2)))
    with pytest.raises(UsageError, match="no slice with tumour"):
        sampler_of(slices, free, _recipe(slices="tumour", order="once"))


def test_weights_are_kept(slices: PackedSlices) -> None:
    sampler = sampler_of(slices, ROWS, _recipe(order="weighted", free_weight=0.5))
    assert sampler.chance is not None
    positive = slices.masks[ROWS].any(axis=(1, 2))
    assert sampler.chance.sum() == pytest.approx(1)
    assert sampler.chance[positive][0] == pytest.approx(2 * sampler.chance[~positive][0])


def test_by_area_within_the_patient(slices: PackedSlices) -> None:
    sampler = sampler_of(slices, ROWS, _recipe(order="by-area", per_epoch=0))
    assert sampler.chance is not None
    for patient in range(3):
        mine = slice(6 * patient, 6 * patient + 6)
        chance = sampler.chance[mine]
        assert chance.sum() == pytest.approx(1 / 3)
        area = slices.masks[mine].sum(axis=(1, 2), dtype=float)
        expected = (10 * area / area.sum() + 1 / 6) / 11 / 3
        np.testing.assert_allclose(chance, expected)
