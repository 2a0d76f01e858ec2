"""``gliosight bids``: a BIDS-App; BIDS derivatives of the sessions of a BIDS data set (layer: cli)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from gliosight import pipeline
from gliosight.archive.bids.derivatives import WORK, analyse_sessions, summarise
from gliosight.archive.bids.filters import ALL_FILES, OPTION, Filter, read_filter
from gliosight.archive.bids.sessions import Session, find_sessions, session_folders
from gliosight.archive.entries import FAILED, Entry, exit_code, rows_of
from gliosight.archive.run import PAGE, Plan, unfinished
from gliosight.cli.batch import ray_cluster, run_progress
from gliosight.cli.options import (
    PATH,
    limit_options,
    model_options,
    output_options,
    ray_option,
    retry_option,
    timeout_option,
    workers_option,
)
from gliosight.cli.output import print_closing, print_json, print_line, print_text
from gliosight.errors import printable
from gliosight.read import Limits, Options

LEVELS = ("participant", "group")
LABELS = ("--participant-label", "--participant_label", "--session-label", "--session_label")


class _BidsApp(click.Command):
    """Takes several labels behind one option, as BIDS-Apps do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with the option repeated before each of its labels."""
        return super().parse_args(ctx, list(_repeated(args)))


def _repeated(arguments: Iterable[str]) -> Iterator[str]:
    """``--participant-label 01 02`` as click takes it; BIDS_DIR OUT LEVEL may follow the labels."""
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word not in LABELS:
            yield word
            continue
        count = next((k for k, text in enumerate(words) if text.startswith("-")), len(words))
        if count > 3 and words[count - 1] in LEVELS:
            count -= 3
        for label in words[:count] or [""]:
            yield from (word, label)
        del words[:count]


@click.command("bids", cls=_BidsApp)
@click.argument("bids_dir", type=PATH)
@click.argument("out", type=PATH)
@click.argument("level", type=click.Choice(LEVELS))
@click.option(
    *LABELS[:2],
    "participants",
    multiple=True,
    metavar="LABEL...",
    help="Only these participants, with or without sub-.",
)
@click.option(
    *LABELS[2:],
    "visits",
    multiple=True,
    metavar="LABEL...",
    help="Only these sessions, with or without ses-.",
)
@click.option(
    OPTION,
    "filter_file",
    type=PATH,
    metavar="FILE",
    help="JSON file that says which images of a session are used, in the form of fMRIPrep.",
)
@workers_option("--n-procs", what="sessions", cluster=True)
@click.option(
    "-w",
    "--work-dir",
    type=PATH,
    metavar="FOLDER",
    help="Folder for gliosight's own result folders, and for what is known of each session.  "
    f"[default: OUT/{WORK}]",
)
@timeout_option("session")
@retry_option("sessions")
@ray_option
@click.option("--dry-run", is_flag=True, help="List what would be done.")
@limit_options
@model_options
@output_options
def command(
    bids_dir: Path,
    out: Path,
    level: str,
    participants: tuple[str, ...],
    visits: tuple[str, ...],
    filter_file: Path | None,
    workers: int | None,
    work_dir: Path | None,
    timeout: float,
    retry_failed: bool,
    ray: str | None,
    dry_run: bool,
    limits: Limits,
    settings: pipeline.Settings,
    overwrite: bool,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Analyse a BIDS data set, and write BIDS derivatives.

    The level "participant" analyses the sessions of all participants. The same command again analyses what
    is new or has changed. The level "group" makes a page and tables of what was analysed.

    \b
    gliosight bids data/ data/derivatives/gliosight participant
    gliosight bids data/ out/ participant --participant-label 01 02
    gliosight bids data/ out/ group
    """  # noqa: D301 - click keeps line breaks after the character \b
    chosen_files = ALL_FILES if filter_file is None else read_filter(filter_file)
    folders = session_folders(bids_dir, participants, visits, chosen_files)
    if level == "group":
        entries = summarise(bids_dir, out, folders)
        _print_answer(entries, out, str(out / PAGE), as_json=as_json, quiet=quiet)
        return 0
    settings.choose()
    plan = Plan(
        settings, probability, workers, timeout, overwrite, retry_failed, ray=ray is not None
    )
    options, work = Options(limits), work_dir or out / WORK
    sessions = [
        session
        for folder in folders
        for session in find_sessions(bids_dir, folder, options, chosen_files)
    ]
    if dry_run:
        _print_plan(sessions, chosen_files, work, plan, as_json=as_json)
        return 0
    talks = not (quiet or as_json)
    with ray_cluster(ray, plan, shown=talks), run_progress(shown=talks) as tell:
        entries = analyse_sessions(sessions, bids_dir, out, work, plan, tell)
    _print_answer(entries, out, None, as_json=as_json, quiet=quiet)
    return exit_code(entries)


def _print_plan(
    sessions: list[Session], chosen_files: Filter, work: Path, plan: Plan, *, as_json: bool
) -> None:
    """What the level participant would do."""
    studies = [session.study for session in sessions if session.study is not None]
    waiting = {study.job.source for study in unfinished(studies, work, plan)}
    rows: list[dict[str, Any]] = []
    for session in sessions:
        row: dict[str, Any] = {"session": session.name, "state": "cannot be analysed"}
        if session.study is not None:
            row["state"] = "to do" if session.study.job.source in waiting else "done"
            row |= {sequence.value: name for sequence, name in session.images.items()}
        if session.left_out:
            row["left_out"] = session.left_out
        if session.error is not None:
            row["error"] = session.error.line()
        rows.append(row)
    if as_json:
        asked = {sequence.value: query for sequence, query in chosen_files.queries.items()}
        print_json({"filter": asked, "sessions": rows})
        return
    for line in chosen_files.lines():
        print_text(printable(line))
    for row in rows:
        if names := row.pop("left_out", None):
            row["left_out"] = f"left out: {', '.join(names)}"
        print_text(printable("  ".join(row.values())))
    print_text(f"{len(waiting)} of {len(rows)} sessions to do; nothing was analysed")


def _print_answer(
    entries: list[Entry], out: Path, page: str | None, *, as_json: bool, quiet: bool
) -> None:
    """What became of the sessions, and where to look."""
    if as_json:
        print_json({"derivatives": str(out), "sessions": rows_of(entries)})
        return
    for entry in entries:
        if entry.error:
            print_line(f"error: {entry.error}")
    if not quiet:
        done = sum(entry.status != FAILED for entry in entries)
        what = "analysed" if page is None else "have results"
        print_text(f"{done} of {len(entries)} sessions {what}, derivatives: {printable(str(out))}")
        print_closing(page, marked=any(entry.findings for entry in entries))
