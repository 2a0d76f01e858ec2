"""``gliosight watch``: studies that arrive in a folder are analysed as they come (layer: cli)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import click

from gliosight import pipeline
from gliosight.archive.entries import FAILED, SOME_FAILED, Entry, exit_code, rows_of
from gliosight.archive.run import PAGE, Plan, Study, run_archive
from gliosight.archive.watch import Inbox, signature
from gliosight.cli.batch import studies_below
from gliosight.cli.options import (
    PATH,
    limit_options,
    model_options,
    retry_option,
    timeout_option,
    workers_option,
)
from gliosight.cli.output import print_line, print_text
from gliosight.errors import CannotWriteError, InUseError, UsageError, printable
from gliosight.files import absolute
from gliosight.pipeline import Outcome
from gliosight.read import Limits, Options


@click.command("watch")
@click.argument("inbox", type=PATH, metavar="IN")
@click.argument("out", type=PATH, metavar="OUT")
@click.option(
    "--quiet-time",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="A delivery is complete when nothing of it has changed for so long.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often IN is looked at.",
)
@click.option(
    "--done", type=PATH, help="Folder that deliveries are moved to.  [default: they stay]"
)
@click.option("--once", is_flag=True, help="End when all that is in IN now is done.")
@workers_option("--workers", what="the studies of a delivery")
@timeout_option("study")
@retry_option("studies")
@limit_options
@model_options
@click.option("--probability", is_flag=True, help="Write the probability map, too.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a line of JSON for each delivery, instead of text.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    inbox: Path,
    out: Path,
    quiet_time: float,
    every: float,
    done: Path | None,
    once: bool,
    workers: int | None,
    timeout: float,
    retry_failed: bool,
    limits: Limits,
    settings: pipeline.Settings,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Analyse studies as they arrive in the folder IN, until ctrl-C.

    Each file or subfolder of IN is a delivery: a study, or several. OUT gets a result folder for each study,
    a table and a page, as with gliosight batch. After a stop the same command goes on.

    \b
    gliosight watch incoming/ results/
    gliosight watch incoming/ results/ --done analysed/
    """  # noqa: D301 - click keeps line breaks after the character \b
    settings.choose()
    for folder, name in ((out, "OUT"), (done, "--done")):
        if folder is not None and absolute(folder).is_relative_to(absolute(inbox)):
            raise UsageError(f"{name} lies in IN", remedy="choose a folder beside it")
    options = Options(limits)
    plan = Plan(settings, probability, workers, timeout, retry_failed=retry_failed)
    box = Inbox(inbox, quiet_time)
    unopened: list[Outcome] = []  # of all deliveries, for the page
    failed = False
    while True:
        for delivery in box.complete(time.monotonic()):
            own = _analyse(delivery, out, plan, options, every, unopened)
            _print_delivery(delivery, own, out, as_json=as_json, quiet=quiet)
            failed |= exit_code(own) != 0
            if done is not None:
                _move(delivery, done)
        if once and not box.waiting():
            return SOME_FAILED if failed else 0
        time.sleep(every)


def _analyse(
    delivery: Path,
    out: Path,
    plan: Plan,
    options: Options,
    every: float,
    unopened: list[Outcome],
) -> list[Entry]:
    """Analyse the studies of a delivery; what could not be opened of it is added to that of the others."""
    name, tag = delivery.name, signature(delivery)
    with contextlib.ExitStack() as unpacked:
        studies, lost = studies_below([delivery], options, unpacked, by_folder=False, shown=False)
        studies = [_placed(study, name, tag) for study in studies]
        sources = {outcome.source for outcome in lost}
        unopened[:] = [*(one for one in unopened if one.source not in sources), *lost]
        while True:
            try:
                entries = run_archive(studies, unopened, out, plan)
            except InUseError:  # such as gliosight batch
                time.sleep(every)
            else:
                break
    return [*entries[: len(studies)], *entries[len(entries) - len(lost) :]]


def _print_delivery(
    delivery: Path, entries: list[Entry], out: Path, *, as_json: bool, quiet: bool
) -> None:
    """What became of a delivery."""
    name, page = printable(delivery.name), str(out / PAGE)
    if as_json:
        print_text(json.dumps({"delivery": name, "page": page, "studies": rows_of(entries)}))
        return
    for entry in entries:
        if entry.error:
            print_line(f"error: {name}: {entry.error}")
    if not quiet:
        verdicts = ", ".join(entry.status for entry in entries if entry.status != FAILED)
        print_text(f"{name}: {verdicts or 'nothing analysed'}, page: {printable(page)}")


def _placed(study: Study, name: str, tag: str) -> Study:
    """A study with its place as seen from IN; another delivery of the same name is another study."""
    job = study.job
    if job.source != name and not job.source.startswith(f"{name}/"):
        source = f"{name}/{job.source}"
        title = source if job.title == job.source else job.title
        job = replace(job, source=source, title=title)
    return replace(study, job=job, tag=f"{study.tag} {tag}")


def _move(delivery: Path, done: Path) -> None:
    """Move a delivery away, beside an earlier one of its name."""
    try:
        done.mkdir(parents=True, exist_ok=True)
        target, number = done / delivery.name, 2
        while os.path.lexists(target):
            target, number = done / f"{delivery.name}-{number}", number + 1
        shutil.move(delivery, target)
    except OSError as error:
        raise CannotWriteError(
            f"a delivery cannot be moved: {error.strerror or error}",
            where=delivery.name,
            remedy="check the permissions of IN and of --done",
        ) from error
