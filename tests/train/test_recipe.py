"""Presets and recipes are checked field by field, and every field is explained."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gliosight.errors import DamagedInputError, NothingReadableError, UsageError
from gliosight.train.recipe import (
    Optimizer,
    Recipe,
    Sampling,
    Strength,
    known_fields,
    load_recipe,
    preset_names,
    recipe_of,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_presets_and_fields_are_explained() -> None:
    assert preset_names() == ["joint", "tutorial-detector", "tutorial-localizer", "unet"]
    text = DOCS.read_text("utf-8")
    for name in (*known_fields(), *preset_names()):
        assert f"`{name}`" in text, name


def test_presets_have_the_numbers_of_their_sources() -> None:
    varied = Strength(graft_chance=0.35, disease_chance=0.3, strip_chance=0.25)
    joint = Recipe(epochs=12, sampling=Sampling(within="persons"), augmentation=varied)
    assert load_recipe("joint") == joint
    detector, localizer = load_recipe("tutorial-detector"), load_recipe("tutorial-localizer")
    assert (detector.batch, detector.patience, detector.dropout) == (16, 20, 0.3)
    assert (detector.optimizer.kind, detector.optimizer.lr) == ("adam", 0.001)
    assert (localizer.optimizer.lr, localizer.optimizer.epsilon) == (0.05, 0.1)
    assert (localizer.alpha, localizer.gamma, localizer.sampling.slices) == (0.7, 0.75, "tumour")


def test_fields_change_by_their_dotted_name() -> None:
    joint = load_recipe("joint")
    changes = ["epochs=3", "optimizer.lr=3e-4", "augmentation.noise=0", "precision=float32"]
    assert load_recipe("joint", changes) == replace(
        joint,
        epochs=3,
        precision="float32",
        optimizer=Optimizer(lr=3e-4),
        augmentation=replace(joint.augmentation, noise=0.0),
    )
    # A group as a whole: what is not in it has its default.
    changed = load_recipe("joint", ["augmentation={noise: 0}"])
    assert changed.augmentation == Strength(noise=0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epochs", "NAME=VALUE"),
        ("epochs=[", "NAME=VALUE"),
        ("epoch=3", "epochs"),
        ("epochs=many", "whole number"),
        ("epochs=1.5", "whole number"),
        ("epochs=", "epochs is empty"),
        ("epochs=0", "above 0"),
        ("batch=-1", "above 0"),
        ("dropout=-1", "at least 0"),
        ("dropout=.inf", "at least 0"),
        ("freeze=3", "true or false"),
        ("augmentation.colour=1", r"augmentation\.noise"),
        ("augmentation=1", r"augmentation\.noise"),
        ("epochs.more=1", "epochs"),
        ("optimizer.kind=sgd", "adamw"),
        ("network=vgg", "joint"),
        ("network=1", "a word"),
        ("loss=dice", "does not fit"),
        ("crop=100", "multiple of 32"),
        ("input=picture", "pictures"),
        ("start=/no/such/file", "files of published weights are for resnet50"),
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
    whole = load_recipe("joint", ["sampling.collections={lgg: 1, isbi+ms: 0.4}"])
    assert whole.sampling.collections == {"lgg": 1.0, "isbi+ms": 0.4}
    single = ["sampling.collections.lgg=1", "sampling.collections.isbi+ms=0.4"]
    assert load_recipe("joint", single) == whole
    assert recipe_of(json.loads(json.dumps(asdict(whole)))) == whole
    for change in ("sampling.collections.lgg=1", "sampling.within=persons"):
        with pytest.raises(UsageError, match="once"):
            load_recipe("joint", ["sampling.order=once", change])


def test_a_preset_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("network: unet\nloss: dice\nepochs: 2\noptimizer: {lr: 1.0e-3}\n")
    assert load_recipe(str(path)).optimizer.lr == 1e-3
    with pytest.raises(UsageError, match="no quick form"):
        load_recipe(str(path), quick=True)
    with pytest.raises(UsageError, match="joint"):
        load_recipe("nonesuch")
    with pytest.raises(NothingReadableError, match="nonesuch"):
        load_recipe("nonesuch.yaml")
    for text in ("- a", "{", "\x00"):
        path.write_text(text)
        with pytest.raises(DamagedInputError, match="mine"):
            load_recipe(str(path))
