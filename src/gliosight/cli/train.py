"""``gliosight train``: fit a network on the slices of a manifest (layer: cli)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import click

from gliosight.cli.options import PATH
from gliosight.cli.output import print_text
from gliosight.errors import ModelError, NothingReadableError, UsageError, printable
from gliosight.extras import needs_extra


@click.command("train")
@click.argument("preset")
@click.option("--data", type=PATH, required=True, help="Manifest, from gliosight data index.")
@click.option("--split", "split_path", type=PATH, help="Split, from gliosight data split.")
@click.option("--fold", metavar="NAME", help="The fold of the split that is left out for the test.")
@click.option("-o", "--out", type=PATH, required=True, help="Folder for the run.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a field of the recipe."
)
@click.option(
    "--init",
    "initial",
    metavar="FROM",
    help="Weights to start from: gliosight (the shipped ones), a run, or a .safetensors file.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue from the run's last checkpoint, with its settings. A finished run is left as it is.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="A first try: at most ten patients and few epochs; the scores mean nothing.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of each process.")
@click.option("--devices", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Processes (GPUs, if there are any) that share each batch.")  # fmt: skip
@click.option("--nodes", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Machines that share each batch; see docs/training.md.")  # fmt: skip
@click.option("--cache", type=PATH, help="Folder for packed slices, shared by all runs.")
def command(
    preset: str,
    data: Path,
    split_path: Path | None,
    fold: str | None,
    out: Path,
    changes: tuple[str, ...],
    initial: str | None,
    resume: bool,
    quick: bool,
    threads: int | None,
    devices: int,
    nodes: int,
    cache: Path | None,
) -> None:
    """Train a network with a PRESET: joint, tutorial-detector, tutorial-localizer, unet, or a YAML file.

    The run's folder holds checkpoints, run.json, history.csv, the page run.html, a TensorBoard log and,
    at the end, the model. To use it: gliosight analyze STUDY --model OUT/model.json
    """
    with needs_extra("train"):
        from gliosight.train.display import is_main_process
        from gliosight.train.recipe import load_recipe
        from gliosight.train.record import Machine, recipe_begun
        from gliosight.train.run import train

    from gliosight.data.manifest import read_manifest
    from gliosight.data.split import read_split

    recipe = load_recipe(preset, changes, quick=quick)
    if resume and not changes:
        recipe = recipe_begun(out, preset) or recipe
    if data.is_dir():
        raise UsageError(
            "--data is a folder",
            where=data.name,
            remedy="index it first: gliosight data index FOLDER -o manifest.csv",
        )
    manifest = read_manifest(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", message=".*starting weights.*")
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            card = train(
                preset=preset,
                recipe=recipe,
                manifest=manifest,
                split=None if split_path is None else read_split(split_path),
                fold=fold,
                run=out,
                cache=cache or _default_cache(manifest.sha256),
                initial=_initial(initial),
                resume=resume,
                machine=Machine(devices, nodes, threads),
            )
        except FloatingPointError as error:
            raise UsageError(
                str(error),
                where=out.name,
                remedy="go on with --resume, with lower rates in a new run, or with other data",
            ) from error
        except KeyboardInterrupt:
            print_text(f"the run is kept: go on with --resume ({printable(out.name)})")
            raise
    if is_main_process():
        print_text(f"model: {printable(str(card))}")


def _show_warning(message: Warning | str, *_: object) -> None:
    print_text(f"warning: {message}")


def _default_cache(manifest_sha256: str) -> Path:
    """A folder of the user's cache, named by what the manifest says."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gliosight" / f"packed-{manifest_sha256[:16]}"


def _initial(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if name == "gliosight":
        from gliosight.infer.model import DEFAULT_MODEL, SHIPPED

        path = SHIPPED / f"{DEFAULT_MODEL}.safetensors"
        if not path.is_file():
            raise ModelError("the shipped weights are not there", remedy="install gliosight again")
        return path
    if path.is_dir():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise NothingReadableError(
            "no such weights",
            where=path.name,
            remedy="give --init gliosight, a run's folder or a .safetensors file",
        )
    return path
