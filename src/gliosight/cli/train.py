"""``gliosight train``: fit a network on a folder in the LGG layout (layer: cli)."""

from __future__ import annotations

from pathlib import Path

import click

from gliosight.cli.extras import needs_extra
from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.errors import DamagedInputError, NothingReadableError, UsageError, printable


@click.command("train")
@click.argument("preset", default="joint")
@click.option("--data", type=PATH, required=True, help="Folder of patients in the LGG layout.")
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the run.")
@click.option(
    "--fold", metavar="K/N", help="Leave out fold K of N (K from 0): patients dealt by name."
)
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a recipe's field."
)
@click.option("--init", "initial", type=PATH, help="weights.safetensors to start from.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads to train with.")
def command(
    preset: str,
    data: Path,
    out: Path,
    fold: str | None,
    changes: tuple[str, ...],
    initial: Path | None,
    resume: bool,
    threads: int | None,
) -> None:
    """Fit the joint network.

    The run's folder keeps the packed slices, a checkpoint every 50 steps, run.json and, at the end,
    weights.safetensors for: gliosight export
    """
    with needs_extra("train"):
        from gliosight.train.fitting import fit
        from gliosight.train.packed import fold_of, pack
        from gliosight.train.presets import load_recipe

    recipe = load_recipe(preset, changes)
    if (out / "weights.safetensors").exists():
        raise UsageError("the run is finished", where=out.name, remedy="choose another -o")
    if (out / "last.ckpt").exists() and not resume:
        raise UsageError(
            "the run has begun", where=out.name, remedy="go on with --resume or choose another -o"
        )
    if initial is not None and not initial.is_file():
        raise NothingReadableError("no such weights", where=initial.name, remedy="check --init")
    try:
        slices = pack(data, out / "pack")
    except FileNotFoundError as error:
        raise NothingReadableError(
            "no patient's slices with masks", where=data.name, remedy="see docs/training.md"
        ) from error
    except ValueError as error:
        raise DamagedInputError(
            str(error), where=data.name, remedy="leave the patient out"
        ) from error
    patients = list(slices.patients)
    if fold is not None:
        left_out, folds = _fold(fold)
        dealt = fold_of(patients, folds)
        patients = [one for one in patients if dealt[one] != left_out]
    print_text(f"{len(patients)} of {len(slices.patients)} patients, {recipe.steps} steps")
    try:
        weights = fit(
            slices, patients, recipe, out, initial=initial, resume=resume, threads=threads
        )
    except FloatingPointError as error:
        raise UsageError(str(error), remedy="lower the rates and go on with --resume") from error
    print_text(f"weights: {printable(str(weights))}")


def _fold(text: str) -> tuple[int, int]:
    left_out, _, folds = text.partition("/")
    if not (left_out.isdigit() and folds.isdigit() and 0 <= int(left_out) < int(folds) <= 100):
        raise UsageError(f"--fold {text!r}", remedy="write K/N with K from 0 to N - 1, such as 0/5")
    return int(left_out), int(folds)
