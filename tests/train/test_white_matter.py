"""White-matter disease changes pictures and no mask, and lies in the brain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.train.augmentation import draw_plan, make_batch  # noqa: E402
from gliosight.train.brain import BORDER  # noqa: E402
from gliosight.train.packed import PackedSlices  # noqa: E402
from gliosight.train.recipe import STILL  # noqa: E402
from gliosight.train.white_matter import (  # noqa: E402
    FAR,
    disease,
    distance_to,
    find_ventricles,
)

T1, FLAIR = 0, 1
SICK = replace(STILL, disease_chance=1.0)


def test_it_is_bright_on_flair_dark_on_t1_and_no_tumour(slices: PackedSlices) -> None:
    chosen = np.flatnonzero(slices.masks.any(axis=(1, 2)))[:3]
    changed = 0
    for seed in range(6):
        (before, old), (after, new) = (
            make_batch(
                slices, draw_plan(slices, chosen, 256, one, np.random.default_rng(seed)), 256
            )
            for one in (STILL, SICK)
        )
        assert torch.equal(old, new)
        middle = (after - before)[:, 3:6].numpy()
        tumour = ndimage.binary_erosion(old[:, 0].numpy() > 0, np.ones((1, 5, 5)))
        assert np.abs(middle.transpose(1, 0, 2, 3)[:, tumour]).max() < 1e-3
        assert middle[:, FLAIR].min() > -1e-5
        assert middle[:, T1].max() < 1e-5
        changed += int((middle[:, FLAIR] > 0.3).sum())
    assert changed > 500


def test_a_plan_decides_everything(slices: PackedSlices) -> None:
    chosen = np.arange(4)
    plan = draw_plan(slices, chosen, 64, SICK, np.random.default_rng(3))
    first, second = (make_batch(slices, plan, 64)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert (draw_plan(slices, chosen, 64, STILL, np.random.default_rng(3)).disease < 0).all()


def _head(slices: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """FLAIR and signed distance of round brains with two ventricles in the middle slices."""
    rows, columns = np.mgrid[:256, :256]
    away = np.hypot(rows - 128, columns - 128)
    brain = np.clip(np.rint(80 - away) + BORDER, 0, 255).astype(np.uint8)
    flair = np.where(away < 80, 100, 0).astype(np.uint8)
    flair = np.repeat(flair[None], slices, axis=0)
    for side in (-1, 1):
        flair[2:4, 110:146, 128 + 10 * side - 4 : 128 + 10 * side + 4] = 20
    flair[1:5, 60:196, 127:129] = 10  # the fissure
    return flair, np.repeat(brain[None], slices, axis=0)


def test_ventricles_are_found_and_the_fissure_is_none() -> None:
    flair, brain = _head()
    tumour = np.zeros(flair.shape, dtype=bool)
    found = find_ventricles(flair, brain, tumour)
    assert found[:, 120, 118].tolist() == [False, False, True, True, False, False]
    assert not found[:, :, 128].any()
    tumour[2:4, 100:150, 100:128] = True
    assert not find_ventricles(flair, brain, tumour)[:, :, :128].any()
    empty = np.zeros_like(flair)
    assert not find_ventricles(empty, empty, tumour).any()


def test_distances_are_in_three_dimensions() -> None:
    flair, brain = _head()
    ventricles = find_ventricles(flair, brain, np.zeros(flair.shape, dtype=bool))
    distance = distance_to(ventricles, 5.0)
    assert distance[2:4, 120, 118].tolist() == [0, 0]
    assert distance[4:6, 120, 118].tolist() == [5, 10]
    assert (distance_to(np.zeros_like(ventricles), 5.0) == FAR).all()


def test_disease_lies_in_the_brain_and_differs_from_draw_to_draw() -> None:
    flair, brain = _head()
    distance = distance_to(find_ventricles(flair, brain, np.zeros(flair.shape, dtype=bool)), 5.0)
    amounts = [
        disease(distance[2:5], brain[2:5], np.random.default_rng(seed)) for seed in range(20)
    ]
    assert all(one.min() >= 0 and one.max() <= 1 for one in amounts)
    assert not any(one[:, brain[0] <= BORDER].any() for one in amounts)
    assert not any(one[distance[2:5] == 0].any() for one in amounts)
    parts = [float((one > 0.5).sum() / (brain[2:5] > BORDER).sum()) for one in amounts]
    assert max(parts) > 0.05
    assert min(parts) < 0.01
    near, far = (
        np.mean([one[where].mean() for one in amounts])
        for where in ((distance[2:5] > 0) & (distance[2:5] < 8), distance[2:5] > 40)
    )
    assert near > 3 * far
