"""Which slices make a batch: for each step always the same, and as often as the recipe says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import UsageError
from gliosight.train.packed import PackedSlices
from gliosight.train.recipe import Recipe, Sampling
from gliosight.train.sampling import sampler_of

ROWS = np.arange(18)


# One LGG patient of two studies' length, one of brats, and one without tumour.
MIXED = (("lgg", "brats", "free"), ("a", "b", "c"))


def _mixed(slices: PackedSlices, *, tumour_free: int = 2) -> PackedSlices:
    masks = slices.masks.copy()
    masks[slices.first[tumour_free] : slices.first[tumour_free + 1]] = 0
    return replace(slices, masks=masks, collections=MIXED[0], persons=MIXED[1])


def _chance(
    packed: PackedSlices, rows: NDArray[np.int64] = ROWS, **sampling: object
) -> list[float]:
    """What each patient gets."""
    sampler = sampler_of(packed, rows, _recipe(**sampling))
    assert sampler.chance is not None
    assert sampler.chance.sum() == pytest.approx(1)
    patient = packed.patient_of(sampler.rows)
    found: list[float] = np.bincount(patient, weights=sampler.chance, minlength=3).tolist()
    return found


@pytest.mark.parametrize("order", ["weighted", "by-area"])
@pytest.mark.parametrize("within", ["slices", "persons"])
def test_collections_get_their_shares(order: str, within: str, slices: PackedSlices) -> None:
    mixed = _mixed(slices)
    shares = {"lgg": 1, "brats": 0.5, "free": 0.5}
    found = _chance(mixed, order=order, within=within, collections=shares)
    assert found == pytest.approx([0.5, 0.25, 0.25])
    joined = {"lgg": 0, "brats+free": 3}
    assert _chance(mixed, order=order, within=within, collections=joined)[0] == 0
    # Within a collection a slice is drawn as without shares.
    plain = sampler_of(mixed, ROWS, _recipe(order=order)).chance
    shared = sampler_of(mixed, ROWS, _recipe(order=order, collections=shares)).chance
    np.testing.assert_allclose(shared[:6] / shared[:6].sum(), plain[:6] / plain[:6].sum())


def test_without_shares_nothing_changes(slices: PackedSlices) -> None:
    mixed = _mixed(slices)
    plain = sampler_of(slices, ROWS[:12], _recipe()).chance
    np.testing.assert_array_equal(sampler_of(mixed, ROWS[:12], _recipe()).chance, plain)


def test_persons_get_as_much_whatever_they_have(slices: PackedSlices) -> None:
    rows = np.array([0, 1, 2, 3, 4, 5, 6, 7, 12])
    assert _chance(_mixed(slices), rows, within="persons") == pytest.approx([1 / 3] * 3)
    # Two studies of one person are one person.
    twice = replace(_mixed(slices), persons=("a", "a", "c"))
    found = _chance(twice, within="persons")
    assert found[2] == pytest.approx(1 / 2)
    shares = {"lgg+brats": 1, "free": 3}
    assert _chance(twice, within="persons", collections=shares)[2] == pytest.approx(3 / 4)
    # Within a person as within a collection.
    sampler = sampler_of(twice, ROWS, _recipe(within="persons", free_weight=0.5))
    assert sampler.chance is not None
    positive = twice.masks[:12].any(axis=(1, 2))
    ratio = sampler.chance[:12][positive].max() / sampler.chance[:12][~positive].min()
    assert ratio == pytest.approx(2)


def test_a_collection_that_is_not_trained_on_leaves_its_share(slices: PackedSlices) -> None:
    shares = {"lgg": 1, "brats": 1, "free": 2}
    assert _chance(_mixed(slices), ROWS[:12], collections=shares) == pytest.approx([0.5, 0.5, 0])
    assert _chance(_mixed(slices), slices="tumour", collections=shares)[2] == 0
    assert _chance(_mixed(slices), free_weight=0.0, collections=shares, within="persons")[2] == 0
    with pytest.raises(UsageError, match="no slice to draw"):
        _chance(_mixed(slices), ROWS[:12], collections={"lgg+brats": 0, "free": 1})


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
        sampler_of(_mixed(slices), ROWS, _recipe(collections=shares))


def test_shares_of_a_manifest_without_collections_are_refused(slices: PackedSlices) -> None:
    with pytest.raises(UsageError, match="NAME=PATH"):
        sampler_of(slices, ROWS, _recipe(collections={"lgg": 1}))


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
