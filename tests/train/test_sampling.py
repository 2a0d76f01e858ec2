"""Which slices make a batch: for each step always the same, and as often as the recipe asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight.errors import UsageError
from gliosight.train.packed import PackedSlices
from gliosight.train.recipe import Recipe, Sampling
from gliosight.train.sampling import Sampler, sampler_of

ROWS = np.arange(18)
SHARES = {"lgg": 1, "brats": 0.5, "free": 0.5}


def _mixed(slices: PackedSlices) -> PackedSlices:
    """Three patients of six slices: of LGG, of BraTS, and one without tumour."""
    masks = slices.masks.copy()
    masks[12:] = 0
    return replace(
        slices, masks=masks, collections=("lgg", "brats", "free"), persons=("a", "b", "c")
    )


def _sampler(packed: PackedSlices, rows: NDArray[np.int64] = ROWS, **sampling: object) -> Sampler:
    return sampler_of(packed, rows, Recipe(batch=4, sampling=Sampling(**sampling)))  # type: ignore[arg-type]


def _chances(
    packed: PackedSlices, rows: NDArray[np.int64] = ROWS, **sampling: object
) -> list[float]:
    """What each patient gets."""
    sampler = _sampler(packed, rows, **sampling)
    assert sampler.chance is not None
    assert sampler.chance.sum() == pytest.approx(1)
    patient = packed.patient_of(sampler.rows)
    chances: list[float] = np.bincount(patient, weights=sampler.chance, minlength=3).tolist()
    return chances


def test_once_is_once(slices: PackedSlices) -> None:
    sampler = _sampler(slices, order="once", per_epoch=0)
    assert sampler.steps_per_epoch == 5
    epochs = [np.concatenate([sampler.draw(k + 5 * e)[0] for k in range(5)]) for e in (0, 1)]
    for epoch in epochs:
        assert sorted(epoch) == ROWS.tolist()
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(sampler.draw(7)[0], sampler.draw(7)[0])


def test_tumour_slices_alone(slices: PackedSlices) -> None:
    sampler = _sampler(slices, slices="tumour", order="once", per_epoch=0)
    assert slices.masks[sampler.rows].any(axis=(1, 2)).all()
    free = np.flatnonzero(~slices.masks.any(axis=(1, 2)))
    with pytest.raises(UsageError, match="no slice with tumour"):
        _sampler(slices, free, order="by-area")


def test_slices_are_drawn_by_weight_or_by_area(slices: PackedSlices) -> None:
    chance = _sampler(slices, order="weighted", free_weight=0.5).chance
    assert chance is not None
    positive = slices.masks.any(axis=(1, 2))
    assert chance.sum() == pytest.approx(1)
    assert chance[positive][0] == pytest.approx(2 * chance[~positive][0])
    chance = _sampler(slices, order="by-area", per_epoch=0).chance
    assert chance is not None
    for mine in (slice(0, 6), slice(6, 12), slice(12, 18)):
        area = slices.masks[mine].sum(axis=(1, 2), dtype=float)
        np.testing.assert_allclose(chance[mine], (10 * area / area.sum() + 1 / 6) / 11 / 3)


@pytest.mark.parametrize("order", ["weighted", "by-area"])
@pytest.mark.parametrize("within", ["slices", "persons"])
def test_collections_get_their_shares(order: str, within: str, slices: PackedSlices) -> None:
    mixed = _mixed(slices)
    sampling = {"order": order, "within": within}
    assert _chances(mixed, collections=SHARES, **sampling) == pytest.approx([0.5, 0.25, 0.25])
    assert _chances(mixed, collections={"lgg": 0, "brats+free": 3}, **sampling)[0] == 0
    # Within a collection a slice is drawn as without shares.
    plain = _sampler(mixed, order=order).chance
    shared = _sampler(mixed, order=order, collections=SHARES).chance
    assert plain is not None
    assert shared is not None
    np.testing.assert_allclose(shared[:6] / shared[:6].sum(), plain[:6] / plain[:6].sum())


def test_persons_get_as_much_whatever_they_have(slices: PackedSlices) -> None:
    rows = np.array([0, 1, 2, 3, 4, 5, 6, 7, 12])
    assert _chances(_mixed(slices), rows, within="persons") == pytest.approx([1 / 3] * 3)
    # Two studies of one person are one person.
    twice = replace(_mixed(slices), persons=("a", "a", "c"))
    assert _chances(twice, within="persons")[2] == pytest.approx(1 / 2)
    shares = {"lgg+brats": 1, "free": 3}
    assert _chances(twice, within="persons", collections=shares)[2] == pytest.approx(3 / 4)
    # Within a person as within a collection.
    chance = _sampler(twice, within="persons", free_weight=0.5).chance
    assert chance is not None
    positive = twice.masks[:12].any(axis=(1, 2))
    assert chance[:12][positive].max() == pytest.approx(2 * chance[:12][~positive].min())


def test_a_collection_that_is_not_trained_on_leaves_its_share(slices: PackedSlices) -> None:
    mixed, shares = _mixed(slices), {"lgg": 1, "brats": 1, "free": 2}
    assert _chances(mixed, ROWS[:12], collections=shares) == pytest.approx([0.5, 0.5, 0])
    assert _chances(mixed, slices="tumour", collections=shares)[2] == 0
    assert _chances(mixed, free_weight=0.0, collections=shares, within="persons")[2] == 0
    with pytest.raises(UsageError, match="no slice to draw"):
        _chances(mixed, ROWS[:12], collections={"lgg+brats": 0, "free": 1})


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"lgg": 1, "brats": 1}, "no share for the collection 'free'"),
        ({"lgg": 1, "brats": 1, "fre": 1}, "there is no collection 'fre'.*brats, free, lgg"),
        ({"lgg": 1, "brats+lgg": 1, "free": 1}, "two shares for 'lgg'"),
    ],
)
def test_shares_of_other_collections_are_refused(
    shares: dict[str, float], words: str, slices: PackedSlices
) -> None:
    with pytest.raises(UsageError, match=words):
        _sampler(_mixed(slices), collections=shares)
    with pytest.raises(UsageError, match="NAME=PATH"):  # a manifest without collections
        _sampler(slices, collections=shares)
