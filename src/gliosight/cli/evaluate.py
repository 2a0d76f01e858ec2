"""``gliosight evaluate``: score a model, or masks, against the truth (layer: cli)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gliosight import pipeline
from gliosight.cli.options import PATH, engine_options
from gliosight.cli.output import print_json, print_text, progress_display, rich_console, table_of
from gliosight.errors import UsageError, printable
from gliosight.extras import needs_extra

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gliosight.evaluate.evaluation import Evaluation
    from gliosight.evaluate.figures import Figures
    from gliosight.evaluate.scoring import PartScores

PARTS = ("train", "validation", "test", "all")
# What is counted in lesions and in patients has a table of its own: baselines have no such figures.
COUNTED = {
    "lesion_sensitivity": "lesions: touched by the mask",
    "patient_sensitivity": "patients with tumour: verdict tumour found",
    "uncertain_ill": "patients with tumour: verdict uncertain",
    "false_verdicts": "patients without tumour: verdict tumour found",
    "uncertain_free": "patients without tumour: verdict uncertain",
    "false_alarm_share": "patients without tumour: something is marked",
}


@click.command("evaluate")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--data", type=PATH, required=True, metavar="MANIFEST", help="The data's manifest.")
@click.option(
    "--split",
    "splits",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Which patients are scored; without it, all. Give it twice with --leak-audit.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Which part of the split; may be repeated. all: each part for itself.  [default: test]",
)
@click.option(
    "--fold", metavar="K", help="Which fold of a split with folds; MODEL is that fold's model."
)
@click.option(
    "--leak-audit",
    "audit",
    is_flag=True,
    help="Show how much a split by slice flatters: give two models, one trained on a split by slice and one "
    "by patient, and their two splits.",
)
@click.option("-o", "--out", type=PATH, required=True, help="Folder for the evaluation.")
@click.option(
    "--save-predictions",
    type=PATH,
    metavar="FILE",
    help="Save the predictions, without images. FILE.npz can be scored again later, as a MODEL.",
)
@click.option("--no-pictures", is_flag=True, help="Show no slice of the data on the page.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the bootstrap."
)
@engine_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation at OUT, and FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print the content of evaluation.json.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    models: tuple[str, ...],
    data: Path,
    splits: tuple[Path, ...],
    parts: tuple[str, ...],
    fold: str | None,
    audit: bool,
    out: Path,
    save_predictions: Path | None,
    no_pictures: bool,
    seed: int,
    settings: pipeline.Settings,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score a model by patient, with intervals, and compare it with trivial baselines.

    MODEL is a shipped model, a model's card, a run's folder, a folder of predicted masks (named by
    patient), or a file of --save-predictions. Several MODELs are the models of the folds of --split, in
    its order: each is scored on its own fold, and all are pooled.

    \b
    gliosight evaluate joint-4 --data manifest.csv -o evaluation
    gliosight evaluate run/ --data manifest.csv --split split.json -o evaluation
    gliosight evaluate run0 run1 run2 --data manifest.csv --split folds.json -o evaluation
    gliosight evaluate masks/ --data manifest.csv -o evaluation
    """  # noqa: D301 - click keeps line breaks after the character \b
    if not models:
        raise UsageError("no MODEL given", remedy="name one, such as joint-4, or a folder of masks")
    with needs_extra("evaluate"):
        from gliosight.evaluate.compare import leak_audit
        from gliosight.evaluate.evaluation import Request, evaluate
        from gliosight.evaluate.page import render_page, worst_cases
        from gliosight.evaluate.predictions import write_predictions
        from gliosight.evaluate.record import check_out, record_of, write_evaluation
        from gliosight.evaluate.sources import open_source
    from gliosight.data.manifest import check_file, read_manifest
    from gliosight.data.split import read_split

    _check(models, splits, parts, leak_audit=audit, save=save_predictions)
    check_out(out, overwrite=overwrite)
    if save_predictions is not None:
        check_file(save_predictions, overwrite=overwrite)
    manifest = read_manifest(data)
    opened = [read_split(path) for path in splits]
    sources = [open_source(name, settings) for name in models]
    request_of = partial(Request, manifest, seed=seed)
    scored: tuple[Evaluation, ...]
    with progress_display("evaluate", shown=not (quiet or as_json)) as progress:
        if audit:
            # Models and splits go together in the order given; which is by slice, the splits say.
            pairs = sorted(
                zip(opened, sources, strict=True), key=lambda pair: pair[0].by != "slice"
            )
            requests = [
                request_of([source], split, fold=fold if split.has_folds else None)
                for split, source in pairs
            ]
            evaluation, scored = leak_audit(requests[0], requests[1], progress)
        else:
            split = opened[0] if opened else None
            request = request_of(sources, split, parts or ("test",), fold=fold)
            evaluation = evaluate(request, progress)
            scored = (evaluation,)
    pictures = {
        part.part: worst_cases(part, manifest, shown.predictions)
        for shown in (() if no_pictures else scored)
        for part in shown.parts
    }
    if save_predictions is not None:  # first: it is what took the time
        write_predictions(evaluation.predictions, save_predictions)
    write_evaluation(evaluation, render_page(evaluation, pictures), out, overwrite=overwrite)
    if as_json:
        print_json(record_of(evaluation))
    elif not quiet:
        _print(evaluation)
        print_text(f"page: {printable(str(out / 'evaluation.html'))}")


def _check(
    models: tuple[str, ...],
    splits: tuple[Path, ...],
    parts: tuple[str, ...],
    *,
    leak_audit: bool,
    save: Path | None,
) -> None:
    """Options that do not go together, before anything is read."""
    what = remedy = ""
    if leak_audit and (len(models), len(splits)) != (2, 2):
        what = f"--leak-audit with {len(models)} models and {len(splits)} splits"
        remedy = "give two of each: MODEL_BY_SLICE MODEL_BY_PATIENT --split A --split B"
    elif leak_audit and (parts or save):
        what = "--leak-audit with --part or --save-predictions"
        remedy = "leave them out: an audit scores the test parts of two models"
    elif not leak_audit and len(splits) > 1:
        what, remedy = f"{len(splits)} splits", "give one; two go with --leak-audit"
    elif parts and not splits:
        what, remedy = "--part without --split", "give the split the part is of"
    elif save is not None and save.suffix != ".npz":
        what, remedy = f"predictions named {printable(save.name)}", "name them something.npz"
    if what:
        raise UsageError(what, remedy=remedy)


def _print(evaluation: Evaluation) -> None:
    """The headline figures of each part, with intervals and baselines."""
    from gliosight.analysis import RESEARCH_USE
    from gliosight.evaluate.figures import BASELINE_RULES, BASELINES

    with rich_console() as console:
        for part in evaluation.parts:
            _print_part(console, part)
        baselines = {name for part in evaluation.parts for name in part.baselines}
        if baselines and any(part.unseen for part in evaluation.parts):
            console.print("baselines, which hardly look at the picture", style="bold")
            for name, rule in BASELINE_RULES.items():
                if name in baselines:
                    console.print(f"  {BASELINES[name].short:<8} {rule}")
        if evaluation.leak is not None:
            sides = {"by_slice": "by slice", "by_patient": "by patient"}
            console.print("what the leak is worth", style="bold")
            console.print(side_by_side(evaluation.leak, sides, "difference"))
        for warning in evaluation.warnings:
            console.print(f"  ! {printable(warning)}")
    print_text(RESEARCH_USE)


def _print_part(console: Console, part: PartScores) -> None:
    from gliosight.evaluate.figures import (
        BASELINES,
        NAMES,
        interval,
        number,
        shown_in_groups,
        value_of,
    )
    from gliosight.write.words import count_words

    unseen, count = len(part.unseen), len(part.patients)
    seen = "" if unseen == count else f" ({count - unseen} seen in training, left out)"
    slices = count_words(sum(patient.slices for patient in part.patients), "slice")
    console.print(f"{part.part}: {count_words(count, 'patient')}{seen}, {slices}", style="bold")
    baselines = [baseline.figures for baseline in part.baselines.values()]
    rows = [
        (
            f"  {NAMES[key].short}",
            value_of(key, figure),
            interval(figure),
            *(number(other[key].value) if key in other else "" for other in baselines),
        )
        for key in NAMES
        if (figure := part.figures.get(key)) is not None
        and NAMES[key].short
        and (figure.value is not None or figure.n)
    ]
    if rows:
        titles = ["", "model", "95 % interval", *(BASELINES[name].short for name in part.baselines)]
        console.print(table_of(titles, rows, left=("", "95 % interval")))
    if counted := _counted(part.figures):
        titles = ["  of lesions and patients", "count", "share", "95 % interval"]
        console.print(table_of(titles, counted, left=(titles[0], titles[-1])))
    if collections := part.groups.get("collection"):
        names = [name for name in shown_in_groups(collections) if name.short]
        titles = ["  by collection", "patients", *(name.short for name in names)]
        rows = [
            (
                f"  {printable(collection)}",
                f"{figures['patients'].n:,}",
                *(
                    value_of(name.key, figures[name.key]) if name.key in figures else ""
                    for name in names
                ),
            )
            for collection, figures in collections.items()
        ]
        console.print(table_of(titles, rows, left=titles[:1]))
    if (seen_group := part.groups.get("seen", {}).get("seen in training")) is not None:
        words = ", ".join(
            f"{NAMES[key].short} {number(seen_group[key].value)}"
            for key in ("dice_mean", "slice_auc", "slice_accuracy")
            if key in seen_group
        )
        console.print(f"  seen in training, which shows memory and not skill: {words}")


def _counted(figures: Figures) -> list[tuple[str, str, str, str]]:
    """Rows of what is counted: what, how many of how many, the share, and its interval."""
    from gliosight.evaluate.figures import COUNTS, interval, number

    rows = []
    for key, words in COUNTED.items():
        figure = figures.get(key)
        if figure is None or figure.value is None or not figure.n:
            continue
        share = figure.value / figure.n if key in COUNTS else figure.value
        if key == "false_verdicts":  # the interval of its opposite, which has one
            low, high = figures["patient_specificity"].low, figures["patient_specificity"].high
            if low is not None and high is not None:
                figure = replace(figure, low=1 - high, high=1 - low)
        count = f"{share * figure.n:,.0f} of {figure.n:,}"
        rows.append((f"  {words}", count, number(share), interval(figure)))
    return rows


def side_by_side(
    figures: Mapping[str, Figures],
    sides: Mapping[str, str],
    difference: str,
    interval_title: str = "95 % interval",
) -> Table:
    """One row for each figure: both values, their difference, and its interval.

    ``figures`` are by key, then by side and ``"difference"``. ``sides`` name the columns of the sides,
    ``difference`` and ``interval_title`` the other two.
    """
    from gliosight.evaluate.figures import NAMES, interval, number

    rows = [
        (
            f"  {NAMES[key].short}",
            *(number(of_side[side].value) for side in (*sides, "difference")),
            interval(of_side["difference"]),
        )
        for key, of_side in figures.items()
    ]
    return table_of(["", *sides.values(), difference, interval_title], rows, left=[""], padding=2)
