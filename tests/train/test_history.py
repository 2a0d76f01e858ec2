"""What is measured of an epoch, and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.data.manifest import Manifest  # noqa: E402
from gliosight.data.split import Split, split_parts  # noqa: E402
from gliosight.errors import DamagedInputError  # noqa: E402
from gliosight.train.history import (  # noqa: E402
    HISTORY,
    Epoch,
    auc_of,
    best_epoch,
    count_right,
    ratios,
    read_history,
    table_lines,
    write_history,
)
from gliosight.train.loop import Training, fit  # noqa: E402
from gliosight.train.networks import build_network  # noqa: E402
from gliosight.train.packed import PackedSlices, pack, rows_of  # noqa: E402
from gliosight.train.page import (  # noqa: E402
    PAGE,
    RunPage,
    draw_curves,
    missing_words,
    recipe_words,
)
from gliosight.train.recipe import Recipe, Sampling, load_recipe, preset_names  # noqa: E402
from gliosight.train.record import Machine, make_record  # noqa: E402
from gliosight.train.run import data_words, fit_parts, only_patients_of  # noqa: E402
from gliosight.train.sampling import sampler_of  # noqa: E402

EPOCHS = [
    Epoch(1, 4, 3.25, 1.5, 0.5, None, 1.2, 0.25, None, 0.75),
    Epoch(2, 8, 3.0, 1.0, 0.75, None, 0.9, 0.5, None, 1.0),
    Epoch(3, 12, 100.0, 0.5, 1.0, None, 1.0, 0.5, None, 0.5),
]


def test_history_is_a_table_that_reads_back(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    write_history(tmp_path, EPOCHS)
    lines = (tmp_path / HISTORY).read_text().splitlines()
    assert lines[0].startswith("epoch,step,seconds,loss,accuracy,dice,validation_loss")
    assert lines[1] == "1,4,3.25,1.5,0.5,,1.2,0.25,,0.75"
    assert read_history(tmp_path) == EPOCHS
    for text in ("epoch,step\n1,x\n", "epoch\n1\n", "one,two\n1,2\n"):
        (tmp_path / HISTORY).write_text(text)
        with pytest.raises(DamagedInputError, match=r"history\.csv"):
            read_history(tmp_path)


def test_the_best_epoch_is_marked_in_the_printed_table() -> None:
    assert best_epoch(EPOCHS) == EPOCHS[1]
    assert best_epoch([replace(row, validation_loss=None) for row in EPOCHS]) is None
    title, *rows = table_lines(EPOCHS)
    assert title.split() == ["epoch", "loss", "accuracy", "Dice", "val.", "loss", "val.", "acc.",
                             "val.", "Dice", "val.", "AUC", "time"]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["1", "2*", "3"]
    assert rows[2].split()[3] == "–"  # no Dice
    assert rows[2].endswith("2 min")
    assert len({len(row) for row in (title, *rows)}) == 1


def test_auc_is_the_chance_of_a_right_order() -> None:
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 5, 40).astype(float)  # with ties
    truth = generator.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert auc_of(scores, truth) == pytest.approx(np.mean(pairs))
    assert auc_of(scores, np.ones(40, bool)) is None


@pytest.mark.parametrize("kind", ["joint", "detector", "localizer"])
def test_slices_and_pixels_are_counted(kind: str) -> None:
    """Three slices: a tumour of which half is marked, one that is missed, and none."""
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, 0, :2] = masks[1, 0, 0, 0] = 1
    logits = torch.full((3, 1, 4, 4), -3.0)
    logits[0, 0, 0] = 3.0
    calls = torch.tensor([3.0, -3.0, -3.0])
    output: Any = {
        "joint": (logits, calls),
        "detector": torch.stack([-calls, calls], dim=1),
        "localizer": logits,
    }[kind]
    counts = count_right(output, masks).tolist()
    assert counts[:2] == [2, 3]
    assert counts[2:] == ([0, 0] if kind == "detector" else [4, 13])
    accuracy, dice = ratios(counts, draws=kind != "detector", both_kinds=True)
    assert accuracy == pytest.approx(2 / 3)
    assert dice == (None if kind == "detector" else pytest.approx(8 / 13))
    assert ratios(counts, draws=False, both_kinds=False) == (None, None)


def test_a_quick_try_uses_few_patients_the_same_on_both_sides_of_a_split_by_slice(
    manifest: Manifest, split: Split
) -> None:
    recipe = Recipe(patience=3, sampling=Sampling(patients=1))
    by_slice = split_parts(manifest, by="slice", seed=1)
    for whole, names in ((split, 2), (by_slice, 1)):
        parts = fit_parts(manifest, whole, None, recipe)
        full = fit_parts(manifest, whole, None, Recipe(patience=3))
        for part, rows in parts.items():
            assert len({row.patient for row in rows}) == 1
            assert set(rows) <= set(full[part])
        assert len({row.patient for rows in parts.values() for row in rows}) == names


def test_a_quick_try_packs_the_patients_it_uses_and_no_others(
    manifest: Manifest, split: Split, slices: PackedSlices, tmp_path: Path
) -> None:
    parts = fit_parts(manifest, split, None, Recipe(sampling=Sampling(patients=1)))
    fewer = only_patients_of(manifest, parts)
    assert fewer.sha256 != manifest.sha256  # so another cache
    packed = pack(fewer, tmp_path / "cache")
    assert packed.patients == (parts["train"][0].patient,)
    few, all_rows = rows_of(fewer, parts["train"]), rows_of(manifest, parts["train"])
    assert np.array_equal(packed.images[few], slices.images[all_rows])
    assert np.array_equal(packed.masks[few], slices.masks[all_rows])


def test_what_is_printed_counts_the_slices_that_are_used(
    manifest: Manifest, slices: PackedSlices
) -> None:
    rows = manifest.used
    tumour = [row for row in rows if row.tumour]
    assert 0 < len(tumour) < len(rows) == 18
    localizer = load_recipe("tutorial-localizer")
    assert (
        data_words(rows, load_recipe("tutorial-detector")) == "18 slices of 3 patients to train on"
    )
    words = data_words(rows, localizer)
    assert words.startswith(f"{len(tumour)} tumour slices of 3 patients to train on; ")
    assert words.endswith(f"leaves out {18 - len(tumour)} without tumour")
    assert len(sampler_of(slices, np.arange(18), localizer).rows) == len(tumour)
    assert data_words(tumour[:1], localizer).startswith("1 tumour slice of 1 patient to train on; ")


@pytest.mark.parametrize("preset", ["joint", "tutorial-detector", "tutorial-localizer", "unet"])
def test_each_preset_has_its_recipe_in_words_and_a_quick_form(preset: str) -> None:
    assert preset in preset_names()
    recipe = load_recipe(preset)
    words = " ".join(recipe_words(recipe))
    assert f"batches of {recipe.batch}, for {recipe.epochs} epochs." in words
    assert f"learning rate of {recipe.optimizer.lr:g}" in words
    assert "{" not in words
    assert bool(missing_words(recipe)) == (preset != "unet")
    quick = load_recipe(preset, quick=True)
    assert quick.sampling.patients == 10
    assert quick.epochs < recipe.epochs
    assert quick.network == recipe.network
    assert "At most 10 patients" in " ".join(recipe_words(quick))
    assert load_recipe(preset, ["epochs=1"], quick=True).epochs == 1


def test_curves_stay_inside_and_ticks_are_round() -> None:
    points = [(row.epoch, row.loss) for row in EPOCHS]
    plot = draw_curves("Loss", [("training", "batches", points)], EPOCHS[1])
    ((_, _, _, dots),) = plot.curves
    assert all(plot.left <= x <= plot.right and plot.top <= y <= plot.bottom for x, y in dots)
    assert dots[0][1] < dots[-1][1]  # down is less: the loss falls
    assert plot.best == dots[1][0]
    assert [text for _, text in plot.across] == ["1", "2", "3"]
    assert {"0.5", "1.0", "1.5"} <= {f"{float(text):.1f}" for _, text in plot.up}
    # One epoch, or a measure that does not change, is drawn, too.
    single = draw_curves("Loss", [("training", "batches", points[:1])], None)
    assert single.best is None
    assert len(single.curves[0][3]) == 1
    draw_curves("Dice", [("validation", "part", [(1, 0.0), (2, 0.0)])], None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "precision"), [("joint", "float32"), ("joint", "bfloat16"), ("resunet", "float32")]
)
def test_the_page_of_a_run(
    network: str,
    precision: str,
    slices: PackedSlices,
    manifest: Manifest,
    split: Split,
    tmp_path: Path,
) -> None:
    """Self-contained; layers add up; examples show the truth; nothing that was named is markup."""
    joint = network == "joint"
    recipe = Recipe(
        network=network,  # type: ignore[arg-type]
        loss="joint" if joint else "focal-tversky",
        epochs=2,
        batch=2,
        crop=64,
        start="scratch",
        precision=precision,  # type: ignore[arg-type]
        patience=5 if joint else 0,
        sampling=Sampling(per_epoch=2, slices="all" if joint else "tumour"),
    )
    run = tmp_path / "<b>run"
    parts = {"train": np.arange(12), "validation": np.arange(12, 18)}
    record = make_record(
        preset="<i>mine.yaml",
        recipe=recipe,
        manifest=manifest,
        split=split,
        fold=None,
        parts=fit_parts(manifest, split, None, recipe),
        initial=None,
        machine=Machine(),
    )
    page = RunPage(run, record, recipe)
    pages: list[str] = []
    seen: list[Training] = []

    def show(training: Training) -> None:
        page(training)
        seen.append(training)
        pages.append((run / PAGE).read_text("utf-8"))

    fit(slices, parts, recipe, run, show=show)
    assert "under way: epoch 1 of 2" in pages[0]
    assert "finished: 2 epochs" in pages[-1]
    text = pages[-1]
    assert not re.findall(r"https?:|<script|<link|<b>|<i>|style=|url\(", text)
    assert "default-src &#39;none&#39;" in text
    assert "Research use only" in text
    plots = re.findall(r"<h3>(.*?)</h3>", text)
    four = ["Loss", "Accuracy by slice", "Dice of all pixels", "AUC of the slices"]
    assert plots == (four if joint else [four[0], four[2]])
    assert ("validation loss" in text) == joint
    count = sum(weights.numel() for weights in build_network(recipe).parameters())
    assert f"{count:,} parameters" in text
    assert sum(layer.parameters for layer in page.layers if layer.leaf) == count
    # The examples' truth is that of the slices themselves; all pictures are in the file.
    rows = page.rows
    assert rows is not None
    assert set(rows) <= set(parts["validation"] if joint else parts["train"])
    examples = text.split("<h2>Examples")[1].split("<h2>The recipe")[0]
    assert examples.count("data:image/jpeg;base64,") == len(rows)
    _, masks, _ = seen[0].predict(rows)
    for area in masks.sum(dim=(1, 2, 3)).int().tolist():
        assert (f"{area:,} pixels of tumour" if area else "Truth: no tumour") in examples
    assert ("probability of tumour" in examples) == joint
    # No patient is named.
    for patient in manifest.patients:
        assert patient not in text
    assert [row.epoch for row in read_history(run)] == [1, 2]
