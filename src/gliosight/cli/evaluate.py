"""``gliosight evaluate``: score a model, or masks, against the truth (layer: cli)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gliosight import pipeline
from gliosight.cli.extras import needs_extra
from gliosight.cli.options import PATH
from gliosight.cli.output import print_json, print_text, progress_display
from gliosight.errors import UsageError, printable
from gliosight.infer.engine import DEFAULT_ENGINE, ENGINES

if TYPE_CHECKING:
    from rich.table import Table

    from gliosight.evaluate.evaluation import Evaluation
    from gliosight.evaluate.figures import Figures
    from gliosight.evaluate.scoring import PartScores

PARTS = ("train", "validation", "test", "all")


@click.command("evaluate")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--data", type=PATH, required=True, metavar="MANIFEST", help="The data's manifest.")
@click.option(
    "--split",
    "splits",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Which patients are scored; without, all. Twice with --leak-audit.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Which part of the split, may be repeated; all: each for itself [default: test].",
)
@click.option("--fold", metavar="K", help="Which fold of a split with folds; MODEL is that fold's.")
@click.option(
    "--leak-audit",
    "audit",
    is_flag=True,
    help="Two models, one trained on a split by slice and one by patient, with their two splits: "
    "what the leak is worth.",
)
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the evaluation.")
@click.option(
    "--save-predictions",
    type=PATH,
    metavar="FILE",
    help="Keep what was predicted, without images, to score it again later: FILE.npz is a MODEL.",
)
@click.option("--no-pictures", is_flag=True, help="Show no slice of the data on the page.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the bootstrap."
)
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default=DEFAULT_ENGINE,
    show_default=True,
    help="Inference engine; openvino is an extra.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the engine.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation at OUT, and FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print what evaluation.json says.")
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
    engine: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score a model honestly: by patient, with intervals, beside trivial baselines.

    MODEL is a shipped model, a model's card, a run's folder, a folder of predicted masks (named by
    patient), or predictions that --save-predictions has kept. Several MODELs are those of the folds of
    --split, in its order; each is scored on its own fold, and all are pooled.

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
    settings = pipeline.Settings(engine=engine, threads=threads)
    sources = [open_source(name, settings) for name in models]
    with progress_display("evaluate", shown=not (quiet or as_json)) as tell:
        progress = None if tell is None else lambda done, total: tell("evaluate", done, total)
        if audit:
            # Models and splits go together in the order given; which is by slice, the splits say.
            requests = [
                Request(
                    manifest, [source], split, fold=fold if split.has_folds else None, seed=seed
                )
                for source, split in zip(sources, opened, strict=True)
            ]
            requests.sort(key=lambda request: request.split is None or request.split.by != "slice")
            evaluation, both = leak_audit(requests[0], requests[1], progress)
            pictured = [*both]
        else:
            split = opened[0] if opened else None
            request = Request(manifest, sources, split, parts or ("test",), fold=fold, seed=seed)
            evaluation = evaluate(request, progress)
            pictured = [evaluation]
    pictures = {
        part.part: worst_cases(part, manifest, scored.predictions)
        for scored in ([] if no_pictures else pictured)
        for part in scored.parts
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
    from rich.console import Console

    from gliosight.analysis import RESEARCH_USE

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for part in evaluation.parts:
            _print_part(console, part)
        if evaluation.leak is not None:
            sides = {"by_slice": "by slice", "by_patient": "by patient"}
            console.print("what the leak is worth", style="bold")
            console.print(side_by_side(evaluation.leak, sides, "difference"))
        for warning in evaluation.warnings:
            console.print(f"  ! {printable(warning)}", markup=False)
    print_text(captured.get().rstrip("\n"))
    print_text(RESEARCH_USE)


def _print_part(console: Any, part: PartScores) -> None:
    from gliosight.evaluate.figures import (
        BASELINES,
        NAMES,
        interval,
        number,
        shown_in_groups,
        value_of,
    )

    unseen, count = len(part.unseen), len(part.patients)
    seen = "" if unseen == count else f" ({count - unseen} seen in training, left out)"
    slices = sum(patient.slices for patient in part.patients)
    console.print(
        f"{part.part}: {count:,} patient{'s' if count > 1 else ''}{seen}, {slices:,} slices",
        style="bold",
    )
    columns = [BASELINES[name].short for name in part.baselines]
    table = _table(["", "model", "95 % interval", *columns], left=("", "95 % interval"))
    figures, baselines = part.figures, [baseline.figures for baseline in part.baselines.values()]
    for key, name in NAMES.items():
        figure = figures.get(key)
        if name.short and figure is not None and (figure.value is not None or figure.n):
            others = [number(other[key].value) if key in other else "" for other in baselines]
            table.add_row(f"  {name.short}", value_of(key, figure), interval(figure), *others)
    if table.row_count:
        console.print(table)
    if collections := part.groups.get("collection"):
        names = [name for name in shown_in_groups(collections) if name.short]
        titles = ["  by collection", "patients", *(name.short for name in names)]
        table = _table(titles, left=titles[:1])
        for collection, own in collections.items():
            cells = [value_of(k.key, own[k.key]) if k.key in own else "" for k in names]
            table.add_row(f"  {printable(collection)}", f"{own['patients'].n:,}", *cells)
        console.print(table)
    if (seen_group := part.groups.get("seen", {}).get("seen in training")) is not None:
        words = ", ".join(
            f"{NAMES[key].short} {number(seen_group[key].value)}"
            for key in ("dice_mean", "slice_auc", "slice_accuracy")
            if key in seen_group
        )
        console.print(f"  seen in training, which shows memory and not skill: {words}")


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

    titles = ["", *sides.values(), difference, interval_title]
    table = _table(titles, left=titles[:1], padding=2)
    for key, of_side in figures.items():
        values = [number(of_side[side].value) for side in (*sides, "difference")]
        table.add_row(f"  {NAMES[key].short}", *values, interval(of_side["difference"]))
    return table


def _table(titles: Iterable[str], left: Collection[str], padding: int = 1) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="left" if title in left else "right", no_wrap=True)
    return table
