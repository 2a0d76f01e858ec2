"""``gliosight demo``: the whole tool on a built-in synthetic study (layer: cli)."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from gliosight import pipeline
from gliosight.cli.options import PATH, model_options, output_options
from gliosight.cli.output import (
    print_closing,
    print_json,
    print_summary,
    print_text,
    progress_display,
)

# A phantom's skull base is not a real one: some get flags, and without a lesion "uncertain". These do not.
SEED, SEED_WITHOUT = 4, 8


@click.command("demo")
@click.option(
    "-o",
    "--out",
    type=PATH,
    default=Path("demo-gliosight"),
    show_default=True,
    help="Result folder.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help=f"Seed of the synthetic patient.  [default: {SEED}; {SEED_WITHOUT} without a lesion]",
)
@click.option("--lesion/--no-lesion", default=True, help="With or without a lesion.")
@model_options
@output_options
def command(
    out: Path,
    seed: int | None,
    lesion: bool,
    settings: pipeline.Settings,
    overwrite: bool,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Analyse a built-in synthetic study with known truth. No data is needed.

    It also prints the overlap with the truth. The outlining network was trained on real images only.
    """
    from gliosight.phantom import PhantomSpec, make_phantom

    pipeline.check_out(out, overwrite=overwrite)
    loaded = settings.load()
    if seed is None:
        seed = SEED if lesion else SEED_WITHOUT
    phantom = make_phantom(PhantomSpec(seed=seed, lesion=lesion))
    with progress_display("demo", shown=not (quiet or as_json)) as progress:
        analysis = pipeline.analyze_study(phantom.study(), loaded, settings, progress=progress)
        result = pipeline.write_analysis(
            analysis, out, overwrite=overwrite, probability=probability, progress=progress
        )
    overlap = int(np.logical_and(analysis.mask, phantom.truth).sum())
    total = analysis.volume_px + int(phantom.truth.sum())
    dice = 2 * overlap / total if total else None
    if as_json:
        truth = {"volume_ml": phantom.volume_ml, "dice": dice}
        print_json({"out": str(out), **result, "truth": truth})
    elif not quiet:
        print_summary(result, str(out))
        words = f"no lesion; falsely marked {analysis.volume_px} voxels"
        if lesion:
            words = (
                f"{phantom.volume_ml:.1f} ml on the {phantom.spec.lesion_side}; "
                f"overlap with it (Dice) {dice or 0:.2f}"
            )
        print_text(f"  truth: {words}")
        print_closing(str(out / "report.html"), marked=bool(result["findings"]))
        print_text("your own study: gliosight analyze YOUR_STUDY -o results")
