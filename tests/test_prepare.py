"""Any input comes into the network's frame, and what comes out of it comes back to its own grid."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from gliosight.card import InputRecipe
from gliosight.decide import decide
from gliosight.infer.model import Model
from gliosight.maps import Maps
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.prepare import choose_slices, orient, prepare
from gliosight.study import Geometry, MrSequence, Study, Volume
from tests.conftest import make_geometry, make_study

RECIPE = InputRecipe()


def _turned(study: Study, order: tuple[int, ...], flipped: tuple[bool, ...]) -> Study:
    """The same patient, stored with other axes: values and geometry together."""
    geometry = study.geometry
    assert geometry is not None
    assert geometry.affine is not None
    steps = geometry.affine[:3, :3].T
    start = geometry.affine[:3, 3].copy()
    shape = study.shape
    steps, shape = steps[list(order)], tuple(shape[k] for k in order)
    for k, back in enumerate(flipped):
        if back:
            start = start + steps[k] * (shape[k] - 1)
            steps[k] = -steps[k]
    spacing = np.linalg.norm(steps, axis=1)
    turned = Geometry(
        start + np.arange(shape[0])[:, None] * steps[0],
        steps[1] / spacing[1],
        steps[2] / spacing[2],
        (float(spacing[1]), float(spacing[2])),
    )
    backwards = tuple(slice(None, None, -1 if one else 1) for one in flipped)
    volumes = {
        name: Volume(volume.values.transpose(order)[backwards], turned)
        for name, volume in study.sequences.items()
    }
    return Study("turned", volumes, tuple(map(str, range(shape[0]))), "arrays")


def _turn(values: np.ndarray, order: tuple[int, ...], flipped: tuple[bool, ...]) -> np.ndarray:
    return values.transpose(order)[tuple(slice(None, None, -1 if one else 1) for one in flipped)]


ORIENTATIONS = list(product(permutations(range(3)), product((False, True), repeat=3)))


@pytest.mark.parametrize(("order", "flipped"), ORIENTATIONS)
def test_all_48_orientations_give_the_same_input(
    order: tuple[int, ...], flipped: tuple[bool, ...]
) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(100, 10, size=(6, 30, 24)).astype(np.float32)
    values[:, :4] = values[:, -4:] = 0
    study = make_study(values, make_geometry(6, (5.0, 1.1, 0.8)))
    turned = _turned(study, order, flipped)
    one, two = prepare(study, RECIPE), prepare(turned, RECIPE)
    assert one.images.shape == two.images.shape
    np.testing.assert_allclose(two.images, one.images, atol=1e-4)
    logits = rng.normal(size=(len(one), *one.images.shape[2:])).astype(np.float32)
    slices = rng.normal(size=len(one)).astype(np.float32)
    back, there = one.plan.restore(logits, slices), two.plan.restore(logits, slices)
    np.testing.assert_allclose(
        there.probability, _turn(back.probability, order, flipped), atol=1e-4
    )
    if order[0] == 0:
        np.testing.assert_allclose(
            there.slice_head, back.slice_head[:: -1 if flipped[0] else 1], atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "flipped"),
    [
        ((0, 1, 2), (True, True, True)),
        ((0, 2, 1), (False, False, False)),
        ((1, 0, 2), (False, False, False)),
        ((1, 2, 0), (True, True, False)),
        ((2, 0, 1), (False, False, False)),
        ((2, 1, 0), (True, False, True)),
    ],
)
def test_mask_and_verdict_do_not_depend_on_how_a_study_is_stored(
    model: Model, small_phantom: Phantom, order: tuple[int, ...], flipped: tuple[bool, ...]
) -> None:
    """Coronal or sagittal storage weighs the same lesions the same, and keeps the same ones."""
    study = small_phantom.study()
    results = []
    for stored in (study, _turned(study, order, flipped)):
        maps = _predict(model, stored)
        decision = decide(maps, stored.geometry, model.card.decision, model.card.input)
        results.append((maps.probability > 0.5, decision.mask, decision.probability))
    (likely, mask, chance), (turned, turned_mask, turned_chance) = results
    assert likely.sum() > 100
    assert (turned != _turn(likely, order, flipped)).sum() <= 2  # rounding at the threshold
    assert (turned_mask != _turn(mask, order, flipped)).sum() <= 4
    assert turned_chance == pytest.approx(chance, abs=1e-4)


def _predict(model: Model, study: Study) -> Maps:
    return model.predict(prepare(study, model.card.input))


def test_slices_at_the_training_scale_are_not_resampled() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((3, 256, 256), np.uint8)
    values[:, 60:200, 70:190] = rng.integers(60, 120, size=(3, 140, 120))
    given = prepare(make_study(values), RECIPE)
    spread = np.unique(given.images[:, 1].round(4))
    assert len(spread) <= 62  # as many values as there were: nothing was interpolated
    assert given.images.shape[2] % 32 == 0
    assert given.images.shape[3] % 32 == 0
    assert set(given.plan.row_matrix.ravel().tolist()) == {0.0, 1.0}


def test_missing_sequences_are_flair_again() -> None:
    values = np.zeros((2, 64, 64), np.float32)
    values[:, 10:50, 10:50] = np.random.default_rng(1).normal(100, 10, (2, 40, 40))
    given = prepare(make_study(values), RECIPE)
    np.testing.assert_array_equal(given.images[:, 0], given.images[:, 1])
    np.testing.assert_array_equal(given.images[:, 2], given.images[:, 1])
    assert given.channels == ("FLAIR", "FLAIR", "FLAIR")


def test_a_sequence_without_contrast_is_left_out_with_a_flag() -> None:
    values = np.zeros((2, 64, 64), np.float32)
    values[:, 10:50, 10:50] = np.random.default_rng(1).normal(100, 10, (2, 40, 40))
    volumes = {MrSequence.FLAIR: Volume(values), MrSequence.T1: Volume(np.full_like(values, 3))}
    given = prepare(Study("x", volumes, ("a", "b"), "arrays"), RECIPE)
    assert [one.code for one in given.flags] == ["T1_NO_CONTRAST"]
    np.testing.assert_array_equal(given.images[:, 0], given.images[:, 1])


@pytest.mark.parametrize("value", [0, 100])
def test_no_contrast_is_not_assessable(value: int) -> None:
    given = prepare(make_study(np.full((3, 50, 50), value, np.uint8)), RECIPE)
    assert not given.assessable
    assert [one.code for one in given.flags] == ["NO_CONTRAST"]


@pytest.mark.parametrize(
    ("pixel", "across", "flags"),
    [
        (1.0, 5.0, []),
        (4.4, 5.0, ["HEAD_TOO_LARGE"]),
        (1.0, 40.0, ["HEAD_TOO_LARGE"]),
        (None, None, []),
    ],
    ids=["a head", "long in the plane", "long across", "no millimetres"],
)
def test_a_head_longer_than_any_is_told(
    pixel: float | None, across: float | None, flags: list[str]
) -> None:
    values = np.zeros((14, 140, 120), np.float32)
    values[1:-1, 20:120, 20:100] = np.random.default_rng(1).normal(100, 10, (12, 100, 80))
    values[1:-1, 50:80, 40:70] += 100
    geometry = None
    if pixel is not None and across is not None:
        geometry = Geometry(
            np.arange(14)[:, None] * np.array([0.0, 0.0, across]),
            np.array([0.0, -1.0, 0.0]),
            np.array([-1.0, 0.0, 0.0]),
            (pixel, pixel),
        )
    volumes = {MrSequence.FLAIR: Volume(values, geometry)}
    study = Study("x", volumes, tuple(map(str, range(14))), "arrays")
    assert [flag.code for flag in prepare(study, RECIPE).flags] == flags


def test_neighbours_without_geometry_are_the_adjacent_slices() -> None:
    values = np.zeros((4, 64, 64), np.float32)
    values[:, 10:50, 10:50] = np.random.default_rng(1).normal(100, 10, (4, 40, 40))
    given = prepare(make_study(values), RECIPE)
    np.testing.assert_array_equal(given.below, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]])
    assert not given.weight.any()


def test_neighbours_of_thin_slices_are_5_mm_away() -> None:
    values = np.zeros((21, 64, 64), np.float32)
    values[:, 10:50, 10:50] = np.random.default_rng(1).normal(100, 10, (21, 40, 40))
    given = prepare(make_study(values, make_geometry(21, (1.0, 1.0, 1.0))), RECIPE)
    middle = int(np.flatnonzero(given.plan.slice_indices == 10)[0])
    batch = next(given.batches(len(given)))[middle].reshape(3, 3, *given.images.shape[2:])
    alone = prepare(make_study(values[5:16:5], make_geometry(3, (5.0, 1.0, 1.0))), RECIPE)
    # Alike up to normalisation, which saw other slices: the patterns must be the same ones.
    for k in range(3):
        flair, same = batch[k, 1], alone.images[k, 1]
        assert np.corrcoef(flair.ravel(), same.ravel())[0, 1] > 0.999


def test_neighbours_between_slices_are_interpolated() -> None:
    given = prepare(make_study(_brick((9, 64, 64)), make_geometry(9, (2.0, 1.0, 1.0))), RECIPE)
    k = int(np.flatnonzero(given.plan.slice_indices == 4)[0])
    np.testing.assert_allclose(given.weight[k], [0.5, 0.0, 0.5], atol=1e-6)


def _brick(shape: tuple[int, int, int]) -> np.ndarray:
    values = np.zeros(shape, np.float32)
    values[:, 10:50, 10:50] = np.random.default_rng(1).normal(100, 10, (shape[0], 40, 40))
    return values


@pytest.mark.parametrize(
    ("positions", "chosen"),
    [
        ([0, 5, 10], [0, 1, 2]),  # thick: all of them
        ([0, 1, 2, 3, 4, 5], [0, 2, 4, 5]),  # thin: every 2 mm, and the last
        ([0, 2.5, 5.0], [0, 1, 2]),
        ([0, 1, 9, 10], [0, 1, 2, 3]),  # a gap of the input stays
        ([0], [0]),
    ],
)
def test_choose_slices(positions: list[float], chosen: list[int]) -> None:
    assert choose_slices(np.array(positions, dtype=float), 2.5).tolist() == chosen


def test_directions_that_are_not_believed_turn_nothing() -> None:
    geometry = replace(make_geometry(4), row_direction=np.array([0.0, 1, 0]))
    assert orient(geometry)[1] != (False, False, False)
    assert orient(replace(geometry, believed="all but sides")) == orient(geometry)
    assert orient(replace(geometry, believed="sizes")) == ((0, 1, 2), (False, False, False))


def test_orient_oblique_takes_the_nearest_axes() -> None:
    angle = np.deg2rad(25)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    axes = np.array([[0, 0, 1.0], [0, -1.0, 0], [-1.0, 0, 0]]) @ turn.T
    assert orient(make_geometry(5, axes=axes)) == ((0, 1, 2), (False, False, False))


@pytest.mark.slow
def test_fine_pixels_and_thin_slices_find_the_same_lesion(model: Model) -> None:
    spec = PhantomSpec(seed=4, slices=60, slice_spacing_mm=1.5, pixel_mm=0.6, matrix=400)
    thin = make_phantom(spec)
    probability = _predict(model, thin.study()).probability
    assert probability.shape == thin.truth.shape
    found = probability > 0.5
    dice = 2 * (found & thin.truth).sum() / (found.sum() + thin.truth.sum())
    assert dice > 0.7


def test_noise_alone_is_not_assessable() -> None:
    noise = np.random.default_rng(0).normal(300, 50, (12, 64, 64))
    assert not prepare(make_study(noise), RECIPE).assessable
    assert prepare(make_study(_brick((4, 64, 64))), RECIPE).assessable
