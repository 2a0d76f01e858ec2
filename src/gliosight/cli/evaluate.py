"""``gliosight evaluate``: score a model, or masks, against the truth (layer: cli)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gliosight import pipeline
from gliosight.cli.extras import needs_extra
from gliosight.cli.figures import side_by_side
from gliosight.cli.options import PATH
from gliosight.cli.output import Progress, print_json, print_text, progress_display
from gliosight.errors import UsageError, printable
from gliosight.infer.engine import DEFAULT_ENGINE, ENGINES

if TYPE_CHECKING:
    from gliosight.evaluate.evaluation import Evaluation, Leak
    from gliosight.evaluate.scores import Figures, PartScores

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
    leak_audit: bool,
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
    """  # noqa: D301 - click wants the character \b before lines it shall not join
    if not models:
        raise UsageError("no MODEL given", remedy="name one, such as joint-4, or a folder of masks")
    with needs_extra("evaluate"):
        from gliosight.evaluate.page import render_page
        from gliosight.evaluate.predict import open_source
        from gliosight.evaluate.predictions import write_predictions
        from gliosight.evaluate.record import check_out, record_of, write_evaluation
    from gliosight.data.manifest import check_file, read_manifest
    from gliosight.data.split import read_split

    _check(models, splits, parts, leak_audit=leak_audit, save=save_predictions)
    check_out(out, overwrite=overwrite)
    if save_predictions is not None:
        check_file(save_predictions, overwrite=overwrite)
    manifest = read_manifest(data)
    chosen = [read_split(one) for one in splits]
    settings = pipeline.Settings(engine=engine, threads=threads)
    sources = [open_source(one, settings) for one in models]
    shown = not (quiet or as_json)
    with progress_display("evaluate", shown=shown) as tell:
        progress = _told(tell)
        if leak_audit:
            evaluation, pictured = _audit(manifest, sources, chosen, fold, seed, progress)
        else:
            evaluation, pictured = _evaluate(manifest, sources, chosen, parts, fold, seed, progress)
    pictures = {} if no_pictures else _pictures(pictured, manifest)
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
    if leak_audit and (len(models), len(splits)) != (2, 2):
        raise UsageError(
            f"--leak-audit with {len(models)} models and {len(splits)} splits",
            remedy="give two of each: MODEL_BY_SLICE MODEL_BY_PATIENT --split A --split B",
        )
    if leak_audit and (parts or save):
        raise UsageError(
            "--leak-audit with --part or --save-predictions",
            remedy="leave them out: an audit scores the test parts of two models",
        )
    if not leak_audit and len(splits) > 1:
        raise UsageError(f"{len(splits)} splits", remedy="give one; two go with --leak-audit")
    if parts and not splits:
        raise UsageError("--part without --split", remedy="give the split the part is of")
    if save is not None and save.suffix != ".npz":
        raise UsageError(
            f"predictions named {printable(save.name)}", remedy="name them something.npz"
        )


def _evaluate(
    manifest: Any,
    sources: list[Any],
    splits: list[Any],
    parts: tuple[str, ...],
    fold: str | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Evaluation, list[Evaluation]]:
    from gliosight.evaluate.evaluation import Request, evaluate

    request = Request(
        manifest,
        sources,
        splits[0] if splits else None,
        parts or ("test",),
        fold=fold,
        seed=seed,
    )
    found = evaluate(request, progress)
    return found, [found]


def _audit(
    manifest: Any,
    sources: list[Any],
    splits: list[Any],
    fold: str | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Evaluation, list[Evaluation]]:
    """Models and splits go together in the order given; which is by slice, the splits say."""
    from gliosight.evaluate.leak import Side, leak_audit

    sides = [
        Side(source, split, fold if split.has_folds else None)
        for source, split in zip(sources, splits, strict=True)
    ]
    sides.sort(key=lambda side: side.split.by != "slice")
    found = leak_audit(manifest, sides[0], sides[1], seed=seed, progress=progress)
    return found.evaluation, [found.by_slice, found.by_patient]


def _pictures(evaluations: list[Evaluation], manifest: Any) -> dict[str, Any]:
    from gliosight.evaluate.pictures import worst_cases

    return {
        part.part: worst_cases(part, manifest, one.predictions)
        for one in evaluations
        for part in one.parts
    }


def _told(tell: Progress | None) -> Callable[[int, int], None] | None:
    return None if tell is None else lambda done, total: tell("evaluate", done, total)


def _print(evaluation: Evaluation) -> None:
    """The headline figures of each part, with intervals and baselines."""
    from rich.console import Console

    from gliosight.analysis import RESEARCH_USE

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for part in evaluation.parts:
            _print_part(console, part)
        if evaluation.leak is not None:
            _print_leak(console, evaluation.leak)
        for one in evaluation.warnings:
            console.print(f"  ! {printable(one)}", markup=False)
    print_text(captured.get().rstrip("\n"))
    print_text(RESEARCH_USE)


def _print_part(console: Any, part: PartScores) -> None:
    from rich.table import Table

    from gliosight.evaluate.words import SECTIONS, SHORT_BASELINES, interval, number, value_of

    unseen, count = len(part.unseen), len(part.patients)
    seen = "" if unseen == count else f" ({count - unseen} seen in training, left out)"
    slices = sum(len(one.numbers) for one in part.tables)
    console.print(
        f"{part.part}: {count:,} patient{'s' if count > 1 else ''}{seen}, {slices:,} slices",
        style="bold",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    for baseline in part.baselines:
        table.add_column(SHORT_BASELINES[baseline], justify="right", no_wrap=True)
    known = {**part.localization, **part.detection}
    for _, names in SECTIONS:
        for name in names:
            figure = known.get(name.key)
            if not name.short or figure is None or (figure.value is None and not figure.n):
                continue
            others = [
                {**one.localization, **one.detection}.get(name.key)
                for one in part.baselines.values()
            ]
            table.add_row(
                f"  {name.short}",
                value_of(name.key, figure),
                interval(figure),
                *(number(one.value) if one is not None else "" for one in others),
            )
    if table.row_count:
        console.print(table)
    if collections := part.groups.get("collection"):
        _print_collections(console, collections)
    if (seen_group := part.groups.get("seen", {}).get("seen in training")) is not None:
        told = ", ".join(
            f"{name.short} {number(seen_group[name.key].value)}"
            for _, names in SECTIONS
            for name in names
            if name.key in ("dice_mean", "slice_auc", "slice_accuracy") and name.key in seen_group
        )
        console.print(f"  seen in training, which shows memory and not skill: {told}")


def _print_collections(console: Any, collections: Mapping[str, Figures]) -> None:
    from rich.table import Table

    from gliosight.evaluate.words import GROUP, value_of

    names = [
        one
        for one in GROUP
        if one.short
        and any(one.key in found and found[one.key].n for found in collections.values())
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("  by collection", no_wrap=True)
    for title in ("patients", *(one.short for one in names)):
        table.add_column(title, justify="right", no_wrap=True)
    for collection, found in collections.items():
        cells = [value_of(one.key, found[one.key]) if one.key in found else "" for one in names]
        table.add_row(f"  {printable(collection)}", f"{found['patients'].n:,}", *cells)
    console.print(table)


def _print_leak(console: Any, leak: Leak) -> None:
    console.print("what the leak is worth", style="bold")
    sides = {"by_slice": "by slice", "by_patient": "by patient"}
    console.print(side_by_side(leak.figures, sides, "difference"))
