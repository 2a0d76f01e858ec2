"""What changes of the picture cost: Dice on patients the models have not seen, each picture changed.

    python benchmarks/robustness.py RUN0 RUN1 ... --data manifest.csv --split folds.json [--every 2]
    python benchmarks/robustness.py RUN --data manifest.csv --split by-patient.json --change "FLAIR only" \
        --rule joint-4

Every patient is read, changed, analysed as a user's study is, and scored against its equally changed truth;
the models are those of the split's folds, in its order, or one for a split without folds, and none is asked
about patients it was trained on. Prints a table: mean Dice by patient, and the paired difference to the
unchanged picture with its 95 % interval (2,000 bootstrap draws over patients). *Mild* is what a scanner or an
export does every day.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.data.manifest import Manifest, read_manifest
from gliosight.data.split import read_split
from gliosight.data.studies import LabelledStudy, read_labelled
from gliosight.errors import GliosightError, UsageError, printable
from gliosight.evaluate.mask_metrics import volume_dice
from gliosight.evaluate.rule_fit import read_rule
from gliosight.evaluate.sources import refuse_seen
from gliosight.head import find_head
from gliosight.infer.model import Model, load_model
from gliosight.pipeline import Settings, analyze_study
from gliosight.study import MrSequence, Volume

Floats = NDArray[np.float32]
Images = dict[MrSequence, Floats]
Truth = NDArray[np.bool_]
Change = Callable[[Images, Truth, np.random.Generator], tuple[Images, Truth]]
DRAWS = 2000


@dataclass(frozen=True)
class Variation:
    """One change of the picture.

    Parameters
    ----------
    name : str
        As it stands in the table.
    change : callable
    mild : bool
    in_place : bool
        Voxels stay where they are, so a study with geometry can be changed, too.
    """

    name: str
    change: Change
    mild: bool = True
    in_place: bool = False


def _each(images: Images, change: Callable[[Floats], Floats]) -> Images:
    return {name: change(one).astype(np.float32) for name, one in images.items()}


def _turn(degrees: float) -> Change:
    def turn(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
        def one(values: Floats) -> Floats:
            out: Floats = ndimage.rotate(
                values, degrees, axes=(1, 2), reshape=False, order=1, cval=float(values.min())
            )
            return out

        return _each(images, one), one(truth.astype(np.float32)) > 0.5

    return turn


def _mirror(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    return _each(images, lambda one: one[..., ::-1]), truth[..., ::-1]


def _shift(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    def moved(one: Floats) -> Floats:
        out: Floats = ndimage.shift(one, (0, 12, -9), order=0, cval=float(one.min()))
        return out

    return _each(images, moved), moved(truth.astype(np.float32)) > 0.5


def _values(change: Callable[[Floats, np.random.Generator], Floats]) -> Change:
    """A change of values alone."""
    return lambda images, truth, rng: (_each(images, lambda one: change(one, rng)), truth)


def _gamma(power: float) -> Callable[[Floats, np.random.Generator], Floats]:
    def change(one: Floats, _rng: np.random.Generator) -> Floats:
        low, high = float(one.min()), float(np.percentile(one, 99.9))
        return np.asarray(
            np.clip((one - low) / (high - low), 0, None) ** power * (high - low) + low
        )

    return change


def _noise(part: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """Rician, of a part of the tissue's median."""

    def change(one: Floats, rng: np.random.Generator) -> Floats:
        sigma = part * float(np.median(one[find_head(one)]))
        real, imaginary = (rng.normal(0, sigma, one.shape) for _ in range(2))
        return np.asarray(np.hypot(one + real, imaginary))

    return change


def _bias(part: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """A smooth field, ``1 - part`` to ``1 + part``; another one in each sequence."""

    def change(one: Floats, rng: np.random.Generator) -> Floats:
        coarse = rng.uniform(-1, 1, (3, 3))
        sides = [np.linspace(0, 2, side) for side in one.shape[1:]]
        at = np.meshgrid(*sides, indexing="ij")
        field = ndimage.map_coordinates(coarse, at, order=2, mode="nearest")
        return np.asarray(one * (1 + part * field / np.abs(field).max()))

    return change


def _coarse(factor: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """Fewer pixels, and as many as before again."""

    def change(one: Floats, _rng: np.random.Generator) -> Floats:
        small = ndimage.zoom(
            one, (1, 1 / factor, 1 / factor), order=1, grid_mode=True, mode="nearest"
        )
        back = [a / b for a, b in zip(one.shape, small.shape, strict=True)]
        return np.asarray(ndimage.zoom(small, back, order=1, grid_mode=True, mode="nearest"))

    return change


def _thick(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    """Two slices become one."""
    pairs = len(truth) // 2

    def halved(one: Floats) -> Floats:
        return np.asarray(one[: 2 * pairs].reshape(pairs, 2, *one.shape[1:]).mean(axis=1))

    return _each(images, halved), halved(truth.astype(np.float32)) >= 0.5


def _skip(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    """Every other slice: a gap of a whole slice."""
    return _each(images, lambda one: one[::2]), truth[::2]


def _without(*names: MrSequence) -> Change:
    return lambda images, truth, _rng: (
        {name: one for name, one in images.items() if name not in names},
        truth,
    )


def _strip(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    """Skull and scalp to air, about: what lies within 12 pixels of the head's surface.

    But for tumour: a tool that strips leaves the brain, and at the surface this cut would not.
    """
    head = find_head(images[MrSequence.FLAIR])
    inside = np.stack([ndimage.distance_transform_edt(one) > 12 for one in head])
    return _each(images, lambda one: np.where(inside | truth, one, one.min())), truth


def _crop(images: Images, truth: Truth, _rng: np.random.Generator) -> tuple[Images, Truth]:
    """To the head's own box, without any air around it."""
    head = find_head(images[MrSequence.FLAIR])
    box = tuple(
        slice(at[0], at[-1] + 1)
        for at in (np.flatnonzero(head.any(axis=a)) for a in ((0, 2), (0, 1)))
    )
    return _each(images, lambda one: one[:, box[0], box[1]]), truth[:, box[0], box[1]]


T1, T1C = MrSequence.T1, MrSequence.T1C
VARIATIONS: tuple[Variation, ...] = (
    Variation("unchanged", lambda images, truth, _rng: (images, truth), in_place=True),
    Variation("turned by 10 degrees", _turn(10)),
    Variation("turned by 20 degrees", _turn(-20), mild=False),
    Variation("mirrored left to right", _mirror),
    Variation("shifted by 12 and 9 pixels", _shift),
    Variation("cropped to the head", _crop),
    Variation("gain 0.5", _values(lambda one, _rng: one * 0.5)),
    Variation("gain 2, offset", _values(lambda one, _rng: one * 2 + 40)),
    Variation("gamma 0.8", _values(_gamma(0.8))),
    Variation("gamma 1.25", _values(_gamma(1.25))),
    Variation("gamma 0.6", _values(_gamma(0.6)), mild=False),
    Variation("noise, 3 % of tissue", _values(_noise(0.03))),
    Variation("noise, 10 % of tissue", _values(_noise(0.1)), mild=False),
    Variation("bias field, 20 %", _values(_bias(0.2))),
    Variation("bias field, 40 %", _values(_bias(0.4)), mild=False),
    Variation("blurred, sigma 1 pixel", _values(lambda one, _rng: ndimage.gaussian_filter(one, (0, 1, 1)))),
    Variation("pixels 1.5 times as wide", _values(_coarse(1.5))),
    Variation("pixels twice as wide", _values(_coarse(2)), mild=False),
    Variation("slices twice as thick", _thick, mild=False),
    Variation("every other slice", _skip, mild=False),
    Variation("without T1", _without(T1), in_place=True),
    Variation("without T1C", _without(T1C), in_place=True),
    Variation("FLAIR only", _without(T1, T1C), in_place=True),
    Variation("skull-stripped, about", _strip),
)  # fmt: skip


def changed(labelled: LabelledStudy, variation: Variation, seed: int) -> LabelledStudy:
    """A study and its truth, changed alike.

    Raises
    ------
    UsageError
        The study has geometry, and voxels would not stay where they are.
    """
    study = labelled.study
    if study.geometry is not None and not variation.in_place:
        raise UsageError(
            "this change would make the geometry of the study wrong",
            where=printable(study.study_id),
            remedy="give slices without one, or a --change that only takes sequences away",
        )
    images = {name: one.values.astype(np.float32) for name, one in study.sequences.items()}
    images, truth = variation.change(images, labelled.truth, np.random.default_rng(seed))
    made = replace(
        study,
        sequences={
            name: Volume(np.ascontiguousarray(one), study.geometry) for name, one in images.items()
        },
        slice_names=study.slice_names[: len(truth)],
    )
    return LabelledStudy(made, np.asarray(truth))


def dice(model: Model, labelled: LabelledStudy) -> float:
    """Dice of the final mask; NaN where the change has left no tumour."""
    mask = analyze_study(labelled.study, model, Settings()).decision.mask
    return volume_dice(labelled.truth, mask)


def measure(
    models: Sequence[tuple[Model, Sequence[str]]],
    manifest: Manifest,
    variations: tuple[Variation, ...],
) -> NDArray[np.float64]:
    """(variations, patients) Dice; patients without tumour are left out."""
    columns = []
    total = sum(len(mine) for _, mine in models)
    for model, mine in models:
        refuse_seen(model, mine)
        for patient in mine:
            labelled = read_labelled(manifest, patient)
            if labelled.truth.any():
                # A change is the same whichever others are asked for: its seed is its place of all.
                columns.append(
                    [
                        dice(model, changed(labelled, one, VARIATIONS.index(one)))
                        for one in variations
                    ]
                )
            print(f"\r{len(columns)} of {total} patients", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.array(columns).T


def table(
    found: NDArray[np.float64], variations: tuple[Variation, ...], seed: int = 1
) -> list[str]:
    """Rows of a Markdown table."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(found.shape[1], size=(DRAWS, found.shape[1]))
    rows = ["| change | mild | Dice mean | difference, paired |", "| --- | --- | --- | --- |"]
    for one, values in zip(variations, found, strict=True):
        away = values - found[0]
        low, high = np.percentile(np.nanmean(away[drawn], axis=1), (2.5, 97.5))
        told = f"{np.nanmean(away):+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append(
            f"| {one.name} | {'yes' if one.mild else ''} | {np.nanmean(values):.3f} "
            f"| {told if one is not variations[0] else ''} |"
        )
    return rows


def chosen(names: Sequence[str] | None) -> tuple[Variation, ...]:
    """The unchanged picture and the changes of these names.

    Raises
    ------
    UsageError
        There is no such change.
    """
    known = {one.name: one for one in VARIATIONS}
    asked = list(known) if names is None else names
    if unknown := [one for one in asked if one not in known]:
        raise UsageError(
            f"there is no change called {printable(unknown[0])}",
            remedy=f"choose of {', '.join(known)}",
        )
    return VARIATIONS[:1] + tuple(one for one in VARIATIONS[1:] if one.name in asked)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument(
        "--folds", help="names of the models' folds, by comma; without, all of them"
    )
    parser.add_argument(
        "--change", action="append", help="a change's name, once for each; without, all of them"
    )
    parser.add_argument(
        "--rule", help="a model's decision rule, or a file of rules; without, that of each card"
    )
    parser.add_argument("--every", type=int, default=1, help="only every so many patients")
    parser.add_argument("--threads", type=int)
    asked: Any = parser.parse_args()
    try:
        run(asked)
    except GliosightError as error:
        sys.exit(f"error: {error.line()}")


def run(asked: Any) -> None:
    """Do what was asked.

    Raises
    ------
    GliosightError
    """
    if asked.every < 1:
        raise UsageError(f"--every {asked.every}", remedy="give 1 for all patients, or more")
    manifest, split = read_manifest(asked.data), read_split(asked.split)
    folds = asked.folds.split(",") if asked.folds else ()
    patients = split.test_patients(manifest, len(asked.models), folds)
    loaded = [load_model(name, threads=asked.threads) for name in asked.models]
    if asked.rule is not None:
        rule, _ = read_rule(asked.rule)
        loaded = [replace(one, card=replace(one.card, decision=rule)) for one in loaded]
    models = [(one, mine[:: asked.every]) for one, mine in zip(loaded, patients, strict=True)]
    variations = chosen(asked.change)
    found = measure(models, manifest, variations)
    print(f"{found.shape[1]} patients")
    print("\n".join(table(found, variations)))


if __name__ == "__main__":
    main()
