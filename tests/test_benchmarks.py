"""The benchmark of training, small: both ways train, and the plain loop sees what the bench sees."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "training.py"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*pin_memory.*")]


def test_every_way_trains() -> None:
    found = runpy.run_path(str(SCRIPT))["measure"](None, 1, crop=64, batch=2)
    assert len(found) == 4
    assert min(found.values()) > 0


def test_the_plain_loop_varies_a_slice_as_the_bench_does(tmp_path: Path) -> None:
    """Same plan, same slice: the two agree where nothing but interpolation differs."""
    from dataclasses import replace

    from gliosight import cli
    from gliosight.data.manifest import read_manifest
    from gliosight.phantom import PhantomSpec, make_phantom, write_lgg
    from gliosight.train.augmentation import draw_plan, make_batch
    from gliosight.train.packed import pack
    from gliosight.train.presets import load_recipe
    from gliosight.train.recipe import Strength

    write_lgg(make_phantom(PhantomSpec(seed=1, slices=5)), tmp_path / "lgg")
    path = tmp_path / "m.csv"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(path)]) == 0
    manifest = read_manifest(path)
    slices = pack(manifest, tmp_path / "cache")
    strength = Strength(
        noise=0, blur_chance=0, strip_chance=0,
        lose_t1_chance=0, lose_t1c_chance=0, lose_both_chance=0,
    )  # fmt: skip
    recipe = replace(load_recipe("joint"), crop=96, augmentation=strength)
    rows = np.arange(5)
    plain = runpy.run_path(str(SCRIPT))["PlainSlices"](manifest, slices, rows, recipe)
    for k in range(5):
        plan = draw_plan(slices, rows[k : k + 1], 96, strength, np.random.default_rng((1, k)))
        images, masks = make_batch(slices, plan, 96)
        own, own_mask = plain[k]
        assert np.corrcoef(own.numpy().ravel(), images[0].numpy().ravel())[0, 1] > 0.98
        overlap = float((own_mask * masks[0]).sum() * 2 / (own_mask.sum() + masks[0].sum() + 1e-9))
        assert overlap > 0.95 or not masks.any()


def test_reading_reads_what_was_written() -> None:
    script = SCRIPT.with_name("reading.py")
    made = runpy.run_path(str(script))
    first, others = made["measure"](5, 2)
    assert first > 0
    assert len(others) == 2
    files, seconds, megabytes = made["measure_headers"](20)
    assert files > 3 * 20
    assert 0 < seconds < 60
    assert 20 < megabytes < 2000
