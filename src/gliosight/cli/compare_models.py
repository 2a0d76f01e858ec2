"""``gliosight compare-models``: two models on the same patients (layer: cli)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gliosight import pipeline
from gliosight.cli.evaluate import side_by_side
from gliosight.cli.options import PATH
from gliosight.cli.output import print_json, print_text, rich_console
from gliosight.errors import UsageError, printable
from gliosight.extras import needs_extra

if TYPE_CHECKING:
    from gliosight.evaluate.compare import Comparison, Side


@click.command("compare-models")
@click.argument("first", type=PATH, metavar="A")
@click.argument("second", type=PATH, metavar="B")
@click.option(
    "--data",
    type=PATH,
    metavar="MANIFEST",
    help="The data's manifest; needed for files of predictions.",
)
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test", "all", "by_slice", "by_patient"]),
    help="Which part, if an evaluation has several.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the bootstrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
def command(
    first: Path, second: Path, data: Path | None, part: str | None, seed: int, as_json: bool
) -> None:
    """Compare two models, paired by patient.

    A and B are folders that gliosight evaluate has written, or files of its option --save-predictions.
    Patients are left out if only one of the two has them, or if one model was trained on them. The
    difference is A minus B.

    \b
    gliosight compare-models evaluation-a evaluation-b
    gliosight compare-models a.npz b.npz --data manifest.csv
    """  # noqa: D301 - click keeps line breaks after the character \b
    with needs_extra("evaluate"):
        from gliosight.evaluate.compare import compare, comparison_record

    # Both are opened before one is scored: scoring takes a minute.
    scored = [_opened(path, data, part) for path in (first, second)]
    comparison = compare(scored[0](), scored[1](), seed=seed)
    if as_json:
        print_json(comparison_record(comparison))
    else:
        _print(comparison)


def _opened(path: Path, data: Path | None, part: str | None) -> Callable[[], Side]:
    from gliosight.evaluate.compare import read_side, side_of_part

    if path.suffix != ".npz":
        side = read_side(path, part)
        return lambda: side
    if data is None:
        remedy = "give the manifest of the data the predictions were made from"
        raise UsageError(f"{printable(path.name)} without --data", remedy=remedy)
    from gliosight.data.manifest import read_manifest
    from gliosight.evaluate.evaluation import Request, evaluate
    from gliosight.evaluate.sources import open_source

    request = Request(read_manifest(data), [open_source(str(path), pipeline.Settings())])
    return lambda: side_of_part(printable(path.name), evaluate(request).parts[0])


def _print(comparison: Comparison) -> None:
    from gliosight.analysis import RESEARCH_USE
    from gliosight.write.words import count_words

    count, figures = len(comparison.patients), comparison.figures
    left_out = f", {comparison.left_out} left out" if comparison.left_out else ""
    with rich_console() as console:
        console.print(
            f"{count_words(count, 'patient')}{left_out}, {count_words(comparison.slices, 'slice')}",
            style="bold",
        )
        for letter, name in zip("AB", comparison.names, strict=True):
            console.print(f"  {letter}: {name}")
        console.print(side_by_side(figures, {"a": "A", "b": "B"}, "A - B", "95 % interval, paired"))
        p = "not defined" if comparison.wilcoxon_p is None else f"{comparison.wilcoxon_p:.3g}"
        if "dice_mean" in figures:
            console.print(
                f"  Dice by patient: A better in {comparison.wins}, worse in {comparison.losses}, "
                f"equal in {comparison.ties}; Wilcoxon p {p}"
            )
    print_text(RESEARCH_USE)
