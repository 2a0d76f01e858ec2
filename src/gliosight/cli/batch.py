"""``gliosight batch``: an archive of studies in, results, a table and a page out (layer: cli)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from gliosight import pipeline
from gliosight.archive.cluster import connected
from gliosight.archive.entries import FAILED, exit_code, rows_of
from gliosight.archive.run import PAGE, Plan, Study, Tally, once, run_archive
from gliosight.archive.table import TABLE
from gliosight.archive.workers import cores
from gliosight.cli.analyze import archived, job_of
from gliosight.cli.locate import find_below
from gliosight.cli.options import (
    PATH,
    archive_limit_options,
    model_options,
    ray_option,
    retry_option,
    timeout_option,
    workers_option,
)
from gliosight.cli.output import print_closing, print_json, print_line, print_text
from gliosight.errors import UsageError, printable
from gliosight.pipeline import Outcome
from gliosight.read import Limits, Options

# Where nobody watches, a line after so long (seconds).
EVERY = 30.0


@click.command("batch")
@click.argument("roots", nargs=-1, required=True, type=PATH, metavar="ROOT...")
@click.option(
    "-o", "--out", type=PATH, required=True, help="Folder for all results, the table and the page."
)
@workers_option("--workers", what="studies", cluster=True)
@timeout_option("study")
@retry_option("studies")
@ray_option
@click.option(
    "--name-by",
    type=click.Choice(["id", "folder"]),
    default="id",
    show_default=True,
    help="Name of a new result folder: the study's id (for DICOM a digest of its UID), or the name of the "
    "study's folder.",
)
@archive_limit_options
@model_options
@click.option("--overwrite", is_flag=True, help="Analyse finished studies again, too.")
@click.option("--probability", is_flag=True, help="Write the probability map, too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the rows of the table as JSON, instead of text."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    roots: tuple[Path, ...],
    out: Path,
    workers: int | None,
    timeout: float,
    retry_failed: bool,
    ray: str | None,
    name_by: str,
    limits: Limits,
    settings: pipeline.Settings,
    overwrite: bool,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Analyse all studies below ROOT, and go on with them after a stop.

    The same command again analyses what is new or has changed, and keeps what is finished. Whatever ends it,
    at most the studies in flight are lost.

    \b
    gliosight batch archive/ -o results
    gliosight batch archive/ -o results --retry-failed
    """  # noqa: D301 - click keeps line breaks after the character \b
    settings.choose()
    options = Options(limits)
    talks = not (quiet or as_json)
    plan = Plan(
        settings, probability, workers, timeout, overwrite, retry_failed, ray=ray is not None
    )
    with contextlib.ExitStack() as unpacked:
        studies, lost = studies_below(
            roots, options, unpacked, by_folder=name_by == "folder", shown=talks
        )
        if not studies:
            raise lost[0].errors[0] if lost else UsageError("no studies", remedy="check ROOT")
        with ray_cluster(ray, plan, shown=talks), run_progress(shown=talks) as tell:
            entries = run_archive(studies, lost, out, plan, tell)
    table, page = out / TABLE, out / PAGE
    if as_json:
        print_json({"table": str(table), "page": str(page), "studies": rows_of(entries)})
    else:
        for entry in entries:
            if entry.error:
                print_line(f"error: {entry.error}")
        if not quiet:
            done = sum(entry.status != FAILED for entry in entries)
            print_text(f"{done} of {len(entries)} studies analysed, table: {printable(str(table))}")
            print_closing(marked=any(entry.findings for entry in entries))
            print_text(f"page: {printable(str(page))}")
    return exit_code(entries)


@contextlib.contextmanager
def ray_cluster(address: str | None, plan: Plan, *, shown: bool) -> Iterator[None]:
    """The Ray cluster that ``--ray`` names, as long as this is open; without it nothing is done."""
    if address is None:
        yield
        return
    threads = plan.settings.threads or 1
    cpus = (plan.workers or max(1, cores() // threads)) * threads
    with connected(address, cpus) as nodes:
        if shown:
            page = f", page: http://{nodes.dashboard}" if nodes.dashboard else ""
            count = "1 node" if nodes.count == 1 else f"{nodes.count} nodes"
            print_line(f"Ray: {count}, {nodes.cpus} cores{page}")
        yield


def studies_below(
    roots: Sequence[Path],
    options: Options,
    unpacked: contextlib.ExitStack,
    *,
    by_folder: bool,
    shown: bool,
) -> tuple[list[Study], list[Outcome]]:
    """The studies below the roots, and what could not be opened."""
    located, problems, _ = find_below(roots, options.limits, unpacked, shown=shown)
    studies = once(archived(one, job_of(one, options, by_folder=by_folder)) for one in located)
    return studies, [Outcome(title, source, errors=(error,)) for title, source, error in problems]


@contextlib.contextmanager
def run_progress(*, shown: bool) -> Iterator[Callable[[Tally], None]]:
    """How far a run is: a bar where a person watches, else a line now and then."""
    if not shown:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        said = [-EVERY]

        def say(tally: Tally) -> None:
            if tally.seconds - said[0] >= EVERY:
                said[0] = tally.seconds
                print_line(progress_words(tally))

        yield say
        return
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.TextColumn("{task.description}", markup=False))
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(tally: Tally) -> None:
            done = tally.kept + tally.done
            bar.update(task, completed=done, total=tally.total, description=progress_words(tally))

        yield show


def progress_words(tally: Tally) -> str:
    """Such as "37 of 800, 4 failed, 1.2 studies/s, 11 min left"."""
    parts = [f"{tally.kept + tally.done} of {tally.total}"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.done:
        rate = tally.rate
        parts.append(f"{rate:.1f} studies/s" if rate >= 1 else f"{1 / rate:.1f} s a study")
    if tally.left:
        minutes = tally.left / 60
        words = f"{tally.left:.0f} s" if minutes < 1 else f"{minutes:.0f} min"
        parts.append(f"{words if minutes < 90 else f'{minutes / 60:.1f} h'} left")
    return ", ".join(parts)
