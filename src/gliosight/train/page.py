"""The page of a run, ``run.html``: what is trained, on what, how it goes, examples (training bench; torch).

One self-contained file, written again after every epoch: curves are SVG drawn here, so that it needs nothing
but this extra, no script and no network. The examples are slices of the data.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor, nn

from gliosight.analysis import RESEARCH_USE, probability_words
from gliosight.errors import printable
from gliosight.files import whole_file
from gliosight.train.history import (
    HISTORY,
    Epoch,
    best_epoch,
    mask_scores,
    number,
    slice_scores,
    time_words,
)
from gliosight.train.loop import Training
from gliosight.train.recipe import Recipe, known_fields, value_of
from gliosight.write.pages import fill, page_template, template_text
from gliosight.write.pictures import encode_grey, svg_path, trace

PAGE = "run.html"
# Examples with and without tumour, and the longer side of their pictures in pixels.
WITH_TUMOUR, WITHOUT, LONGEST = 4, 2, 256
# Black and white of an example, percentiles of its pixels.
WINDOW = (1.0, 99.5)
# A plot, in units of its SVG: size, and room for the numbers on the left and below.
WIDTH, HEIGHT, LEFT, BELOW, MARGIN = 480, 260, 56, 34, 12
TICKS = 5

NETWORKS = {
    "joint": "the joint network (EfficientNet-lite0 encoder, U-Net decoder, slice head), which outlines the "
    "tumour and says whether a slice shows one",
    "resnet50": "the tutorial's detector (ResNet50 and three dense layers), which says whether a slice shows "
    "tumour",
    "resunet": "the tutorial's localizer (ResUNet), which outlines the tumour",
    "unet": "the data set authors' U-Net, which outlines the tumour",
}
LOSSES = {
    "joint": "cross-entropy of the pixels, plus the batch's Dice loss, plus {slice_weight:g} times the "
    "cross-entropy of the slices",
    "cross-entropy": "categorical cross-entropy of the slices",
    "focal-tversky": "focal Tversky loss: a missed pixel weighs {alpha:g}, a false one the rest of 1, "
    "exponent {gamma:g}",
    "dice": "Dice loss of the batch",
}
ORDERS = {
    "once": "each once an epoch, in another order every time",
    "weighted": "drawn at random, one without tumour {free_weight:g} times as often as one with",
    "by-area": "drawn at random, those with a large tumour more often",
}
# Plots: title, measure of the batches, measure of the validation part, and why there may be none.
PLOTS = (
    ("Loss", "loss", "validation_loss"),
    ("Accuracy by slice", "accuracy", "validation_accuracy"),
    ("Dice of all pixels", "dice", "validation_dice"),
    ("AUC of the slices", "", "validation_auc"),
)


@dataclass(frozen=True)
class Layer:
    """One part of the network: its dotted name, kind, size of what it gives for one slice, parameters."""

    name: str
    kind: str
    shape: str
    parameters: int
    leaf: bool  # whether it has no parts of its own


@dataclass(frozen=True)
class Example:
    """One slice: its picture, the two outlines as SVG paths, and what is said of it."""

    picture: str
    rows: int
    columns: int
    truth: str
    prediction: str
    words: tuple[str, ...]


class RunPage:
    """Writes ``run.html`` of a run whenever it is called.

    Parameters
    ----------
    run : Path
    record : mapping
        What ``run.json`` says before the run begins.
    recipe : Recipe
    """

    def __init__(self, run: Path, record: Mapping[str, Any], recipe: Recipe) -> None:
        self.run, self.record, self.recipe = run, record, recipe
        self.rows: NDArray[np.int64] | None = None
        self.layers: list[Layer] = []

    def __call__(self, training: Training) -> None:
        """Write the page as the run stands."""
        if self.rows is None:
            self.rows = choose_examples(training)
            self.layers = list_layers(training)
        page = render_run(
            name=self.run.name,
            record=self.record,
            recipe=self.recipe,
            history=training.history,
            layers=self.layers,
            examples=draw_examples(training, self.rows),
            state=_state(training),
            facts={
                "starts from": training.started_from,
                "number format": training.precision,
                "device": str(training.fabric.device),
            },
        )
        with whole_file(self.run / PAGE, overwrite=True) as path:
            path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _state(training: Training) -> str:
    done, planned = len(training.history), training.recipe.epochs
    last = training.history[-1].epoch if done else 0
    state = "finished: " + (f"{planned} epochs" if planned > 1 else "1 epoch")
    if not training.finished:
        state = f"under way: epoch {last} of {planned} is done"
    elif training.step < training.steps:
        state = f"finished: stopped early after epoch {last} of {planned}"
    if most := training.recipe.sampling.patients:
        state += f". A first try with at most {most} patients of each part: its scores mean nothing"
    return state


def choose_examples(training: Training) -> NDArray[np.int64]:
    """Rows of the validation part, else of those it learns from: the same ones after every epoch."""
    rows = training.validation if len(training.validation) else training.sampler.rows
    tumour = training.batches.slices.masks[rows].any(axis=(1, 2))
    generator = np.random.default_rng((training.recipe.seed, 2))
    chosen = [
        generator.choice(part, min(count, len(part)), replace=False)
        for part, count in ((rows[tumour], WITH_TUMOUR), (rows[~tumour], WITHOUT))
    ]
    return np.concatenate(chosen)


def draw_examples(training: Training, rows: NDArray[np.int64]) -> list[Example]:
    """FLAIR of each slice as the network sees it, with the outlines of the truth and the prediction."""
    images, masks, output = training.predict(rows)
    # The channels are T1, FLAIR and T1C, of three slices or of one: FLAIR of this slice is in the middle.
    flair = images[:, images.shape[1] // 2].float().numpy()
    truth = (masks[:, 0] > 0).cpu().numpy()
    logits = mask_scores(output)
    # Compared before it leaves torch: NumPy has no bfloat16.
    marked = None if logits is None else (logits[:, 0] > 0).cpu().numpy()
    chances = torch.sigmoid(slice_scores(output)).cpu().tolist()
    examples = []
    for k in range(len(rows)):
        low, high = np.percentile(flair[k], WINDOW)
        grey = np.clip((flair[k] - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
        mark = None if marked is None else marked[k]
        examples.append(
            Example(
                picture=b64encode(encode_grey(grey, LONGEST)).decode("ascii"),
                rows=grey.shape[0],
                columns=grey.shape[1],
                truth=svg_path(trace(truth[k])),
                prediction="" if mark is None else svg_path(trace(mark)),
                words=_example_words(truth[k], mark, chances[k], training.both_kinds),
            )
        )
    return examples


def _example_words(
    truth: NDArray[np.bool_], mark: NDArray[np.bool_] | None, chance: float, both_kinds: bool
) -> tuple[str, ...]:
    lines = [f"Truth: {int(truth.sum()):,} pixels of tumour" if truth.any() else "Truth: no tumour"]
    if both_kinds:
        called = "tumour" if chance > 0.5 else "no tumour"
        right = (chance > 0.5) == bool(truth.any())
        verdict = "right" if right else "wrong"
        lines.append(
            f"Network: {called}, {verdict} (probability of tumour {probability_words(chance)})"
        )
    if mark is not None:
        both = int(mark.sum() + truth.sum())
        dice = f", Dice {2 * int((mark & truth).sum()) / both:.2f}" if both else ""
        lines.append(f"Marked: {int(mark.sum()):,} pixels{dice}")
    return tuple(lines)


def list_layers(training: Training) -> list[Layer]:
    """The network's parts in their order, with the shapes that one slice gives."""
    network, shapes = training.final, {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            first = output[-1] if isinstance(output, list) else output
            outputs = first if isinstance(first, tuple) else (first,)
            shapes[name] = ", ".join(
                " × ".join(map(str, one.shape[1:])) or "1"
                for one in outputs
                if isinstance(one, Tensor)
            )

        return hook

    parts = [(name, part) for name, part in network.named_modules() if name]
    hooks = [part.register_forward_hook(note(name)) for name, part in parts]
    rows = training.validation if len(training.validation) else training.sampler.rows
    training.predict(rows[:1])
    for handle in hooks:
        handle.remove()
    return [
        Layer(
            name=name,
            kind=type(part).__name__,
            shape=shapes.get(name, ""),
            parameters=sum(weights.numel() for weights in part.parameters()),
            leaf=not any(True for _ in part.children()),
        )
        for name, part in parts
    ]


def shown_parts(layers: Sequence[Layer]) -> list[Layer]:
    """The parts a reader knows from a picture of the network: its children, lists of them opened."""
    lists = {layer.name for layer in layers if layer.kind == "ModuleList"}
    return [
        layer
        for layer in layers
        if layer.name not in lists
        and (
            "." not in layer.name
            or (layer.name.rpartition(".")[0] in lists and layer.name.count(".") == 1)
        )
    ]


def render_run(
    *,
    name: str,
    record: Mapping[str, Any],
    recipe: Recipe,
    history: Sequence[Epoch],
    layers: Sequence[Layer],
    examples: Sequence[Example],
    state: str,
    facts: Mapping[str, str],
) -> str:
    """The page as text."""
    style = f"{template_text('data', 'describe.css')}\n{template_text('train', 'run.css')}"
    digest = b64encode(sha256(style.encode()).digest()).decode("ascii")
    best = best_epoch(history)
    plots = [
        draw_curves(title, series, best)
        for title, measured, validated in PLOTS
        if (series := _series(history, measured, validated))
    ]
    return fill(
        page_template("train", "run.html.j2"),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'",
        style=Markup(style),  # noqa: S704 - our own files
        name=printable(name),
        preset=printable(str(record["preset"])),
        research_use=RESEARCH_USE,
        state=state,
        best=best,
        last=history[-1] if history else None,
        history=history,
        history_file=HISTORY,
        number=number,
        time_words=time_words,
        seconds=sum(row.seconds for row in history),
        plots=plots,
        missing=missing_words(recipe),
        recipe=recipe_words(recipe),
        fields=[(name, value_of(recipe, name)) for name in known_fields()],
        parts=shown_parts(layers),
        leaves=[layer for layer in layers if layer.leaf],
        parameters=sum(layer.parameters for layer in layers if layer.leaf),
        examples=examples,
        validated=bool(recipe.patience),
        facts=[*_data_facts(record), *facts.items(), *_machine_facts(record)],
    )


def _series(
    history: Sequence[Epoch], measured: str, validated: str
) -> list[tuple[str, str, list[tuple[int, float]]]]:
    """Class, name and points of each curve that has any."""
    curves = []
    for kind, title, name in (
        ("training", "batches it learns from", measured),
        ("validation", "validation part", validated),
    ):
        points = [
            (row.epoch, float(value))
            for row in history
            if name and (value := getattr(row, name)) is not None
        ]
        if points:
            curves.append((kind, title, points))
    return curves


@dataclass(frozen=True)
class Plot:
    """Curves as the template draws them, and a sentence that says the same."""

    title: str
    words: str
    curves: tuple[
        tuple[str, str, str, tuple[tuple[float, float], ...]], ...
    ]  # class, name, path, dots
    across: tuple[tuple[float, str], ...]  # ticks: place and number
    up: tuple[tuple[float, str], ...]
    best: float | None  # place of the best epoch
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BELOW
    right: int = WIDTH - MARGIN
    top: int = MARGIN


def draw_curves(
    title: str, series: Sequence[tuple[str, str, list[tuple[int, float]]]], best: Epoch | None
) -> Plot:
    """Place curves and ticks in the plot."""
    every = [point for _, _, points in series for point in points]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    marks = _ticks(min(y for _, y in every), max(y for _, y in every))
    low, high = marks[0], marks[-1]

    def across(epoch: float) -> float:
        room = WIDTH - MARGIN - LEFT
        return round(LEFT + room * ((epoch - first) / (last - first) if last > first else 0.5), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BELOW - (HEIGHT - BELOW - MARGIN) * (value - low) / (high - low), 1)

    curves = tuple(
        (
            kind,
            name,
            "M" + " L".join(f"{across(x)} {up(y)}" for x, y in points),
            tuple((across(x), up(y)) for x, y in (points if len(points) < 40 else points[-1:])),
        )
        for kind, name, points in series
    )
    step = max(1, math.ceil((last - first) / 8))
    sentences = [
        f"{name[0].upper()}{name[1:]}: {points[0][1]:.3f} at first, {points[-1][1]:.3f} at last."
        for _, name, points in series
    ]
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    return Plot(
        title=title,
        words=" ".join(sentences),
        curves=curves,
        across=tuple((across(x), str(x)) for x in range(first, last + 1, step)),
        up=tuple((up(y), f"{y:.{digits}f}") for y in marks),
        best=None if best is None else across(best.epoch),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that hold all values between them."""
    spread = max(high - low, 1e-3 * max(abs(high), 1.0))
    rough = spread / (TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def missing_words(recipe: Recipe) -> list[str]:
    """Why some curves are not there."""
    words = []
    if not recipe.patience:
        words.append(
            "There is no validation part: this recipe selects nothing by one, and learns from it. "
            "How good the network is, gliosight evaluate says, on the test part."
        )
    if recipe.network == "resnet50":
        words.append("There is no Dice: a detector draws no mask.")
    if recipe.sampling.slices == "tumour":
        words.append(
            "There is neither accuracy nor AUC: it learns from slices with tumour alone, so there is nothing "
            "to tell apart."
        )
    return words


def recipe_words(recipe: Recipe) -> list[str]:
    """The recipe in sentences."""
    sampling, settings = recipe.sampling, recipe.optimizer
    starts = {
        "imagenet": "It starts from ImageNet weights.",
        "scratch": "It starts from scratch.",
    }
    if recipe.network in ("resunet", "unet"):
        starts["imagenet"] = starts["scratch"]
    kind = "Slices with tumour" if sampling.slices == "tumour" else "Slices"
    order = ORDERS[sampling.order].format(free_weight=sampling.free_weight)
    amount = f"{sampling.per_epoch:,} of them are an epoch" if sampling.per_epoch else "all of them"
    side = f"crops of {recipe.crop} × {recipe.crop} pixels" if recipe.crop else "whole pictures"
    scale = (
        "values in [0, 1], not varied"
        if recipe.input == "picture"
        else "normalised by the head's tissue, and varied as docs/training.md says"
    )
    rate = f"a learning rate of {settings.lr:g}"
    if settings.encoder_lr and recipe.network in ("joint", "resnet50"):
        rate += f" ({settings.encoder_lr:g} for the encoder)"
    schedule = (
        "which stays as it is"
        if settings.schedule == "constant"
        else f"which rises for {settings.warm_up:.0%} of the steps and then falls (one cycle)"
    )
    sentences = [
        f"Trained is {NETWORKS[recipe.network]}.",
        starts.get(recipe.start, f"It starts from the weights in {printable(recipe.start)}."),
        "Its trunk is frozen: only the layers above it learn." if recipe.freeze else "",
        f"{kind} are {order}; {amount}.",
        f"It sees {side}, {scale}, in batches of {recipe.batch}, for "
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}.",
        f"At most {sampling.patients} patients of each part are used: for a first try."
        if sampling.patients
        else "",
        f"Loss: {LOSSES[recipe.loss].format(**vars(recipe))}.",
        f"Optimiser: {'AdamW' if settings.kind == 'adamw' else 'Adam'} with {rate}, {schedule}.",
        f"It stops after {recipe.patience} epochs without a lower validation loss; the weights with "
        "the lowest are kept."
        if recipe.patience
        else "The weights of the last epoch are kept.",
        f"These are a moving average of the weights (decay {recipe.averaging:g})."
        if recipe.averaging
        else "",
    ]
    return [sentence for sentence in sentences if sentence]


def _data_facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part, count in record["slices"].items():
        patients = len(record["patients_sha256"][part])
        yield f"{part} part", f"{count:,} slices of {patients:,} patients"
    split = record["split"]
    if split is not None:
        fold = "" if split["fold"] is None else f", fold {printable(split['fold'])} left out"
        yield "split", f"by {split['by']}{fold}"
        if split["by"] == "slice":
            yield (
                "mind",
                "slices of one patient are on both sides: the validation figures say little",
            )


def _machine_facts(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    machine = record["machine"]
    threads = "" if machine["threads"] is None else f", {machine['threads']} threads each"
    yield "processes", f"{machine['devices'] * machine['nodes']}{threads}"
    yield "machine", f"{machine['processor']}, {machine['system']}, Python {machine['python']}"
    yield "versions", ", ".join(f"{name} {text}" for name, text in record["versions"].items())
