"""Presets and recipes are checked field by field, and every field is explained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.train.presets import load_recipe, preset_names
from gliosight.train.recipe import Recipe, Sampling, Strength, known_fields, recipe_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_there_are_the_presets_the_docs_name() -> None:
    assert preset_names() == ["joint", "tutorial-detector", "tutorial-localizer", "unet"]
    varied = Strength(graft_chance=0.35, disease_chance=0.3, strip_chance=0.25)
    drawn = Sampling(within="persons")
    assert load_recipe("joint") == Recipe(epochs=12, sampling=drawn, augmentation=varied)


def test_the_tutorial_s_numbers() -> None:
    detector, localizer = load_recipe("tutorial-detector"), load_recipe("tutorial-localizer")
    assert (detector.batch, detector.patience, detector.dropout) == (16, 20, 0.3)
    assert (detector.optimizer.kind, detector.optimizer.lr) == ("adam", 0.001)
    assert (localizer.optimizer.lr, localizer.optimizer.epsilon) == (0.05, 0.1)
    assert (localizer.alpha, localizer.gamma, localizer.sampling.slices) == (0.7, 0.75, "tumour")


def test_every_field_is_explained() -> None:
    text = DOCS.read_text("utf-8")
    for name in known_fields():
        assert f"`{name}`" in text, name
    for name in preset_names():
        assert f"`{name}`" in text, name


def test_fields_change_by_their_dotted_name() -> None:
    changed = load_recipe(
        "joint", ["epochs=3", "optimizer.lr=3e-4", "augmentation.noise=0", "precision=float32"]
    )
    assert (changed.epochs, changed.optimizer.lr) == (3, 3e-4)
    assert (changed.augmentation.noise, changed.precision) == (0.0, "float32")
    assert changed.optimizer.encoder_lr == Recipe().optimizer.encoder_lr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epochs", "NAME=VALUE"),
        ("epochs=[", "NAME=VALUE"),
        ("epoch=3", "epochs"),
        ("epochs=many", "whole number"),
        ("epochs=1.5", "whole number"),
        ("epochs=0", "above 0"),
        ("batch=-1", "above 0"),
        ("dropout=-1", "at least 0"),
        ("dropout=.inf", "at least 0"),
        ("freeze=3", "true or false"),
        ("augmentation.colour=1", r"augmentation\.noise"),
        ("augmentation=1", "one of its fields"),
        ("epochs.more=1", "epochs"),
        ("optimizer.kind=sgd", "adamw"),
        ("network=vgg", "joint"),
        ("loss=dice", "does not fit"),
        ("crop=100", "multiple of 32"),
        ("input=picture", "pictures"),
        ("start=/no/such/file", "imagenet"),
        ("sampling.within=studies", "slices, persons"),
        ("sampling.collections=lgg", "shares by name"),
        ("sampling.collections={lgg: many}", r"sampling\.collections\.lgg is 'many'"),
        ("sampling.collections.lgg=-1", "at least 0"),
        ("sampling.collections={lgg: 0}", "above 0"),
    ],
)
def test_a_wrong_change_is_named(change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_recipe("joint", [change])


def test_shares_of_collections() -> None:
    said = load_recipe("joint", ["sampling.collections={lgg: 1, isbi+ms: 0.4}"])
    assert said.sampling.collections == {"lgg": 1.0, "isbi+ms": 0.4}
    single = load_recipe(
        "joint", ["sampling.collections.lgg=1", "sampling.collections.isbi+ms=0.4"]
    )
    assert single == said
    assert recipe_of(json.loads(json.dumps(asdict(said)))) == said
    for more in ("sampling.collections.lgg=1", "sampling.within=persons"):
        with pytest.raises(UsageError, match="once"):
            load_recipe("joint", ["sampling.order=once", more])


def test_a_preset_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("network: unet\nloss: dice\nepochs: 2\noptimizer: {lr: 1.0e-3}\n")
    assert load_recipe(str(path)).optimizer.lr == 1e-3
    with pytest.raises(UsageError, match="joint"):
        load_recipe("nonesuch")
    with pytest.raises(NothingReadableError, match="nonesuch"):
        load_recipe("nonesuch.yaml")
    for text in ("- a", "{", "\x00"):
        path.write_text(text)
        with pytest.raises(DamagedInputError, match="mine"):
            load_recipe(str(path))
