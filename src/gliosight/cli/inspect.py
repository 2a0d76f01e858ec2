"""``gliosight inspect``: what is there, and what ``analyze`` would take (layer: cli)."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gliosight.cli.locate import Failure, find_below
from gliosight.cli.options import PATH, limit_options
from gliosight.cli.output import print_error, print_json, print_text
from gliosight.errors import NothingReadableError, UsageError, printable
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.limits import Limits
from gliosight.study import MrSequence

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gliosight.read.inspection import Inspection, SeenSeries

KINDS = {"dicom": "DICOM", "nifti": "NIfTI", "slices": "slices", "unknown": "not readable"}
# Columns of output that does not go to a terminal.
WIDTH_ELSEWHERE = 160
NARROWEST = 60
# Options in an error are those of analyze, but for the limits, which this command has, too.
NOT_OURS = re.compile(r"with --(?!max-)")


@click.command("inspect")
@click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
@click.option(
    "--pixels", is_flag=True, help="Read the pixels, too: they show masks, copies and blank images."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@limit_options
def command(
    paths: tuple[Path, ...],
    pixels: bool,
    as_json: bool,
    limits: Limits,
) -> int:
    """List studies and series, what each shows and why, and what analyze would use.

    PATH is the same as STUDY of analyze. Only headers are read. Nothing is written.

    \b
    gliosight inspect export/
    gliosight inspect export.zip --json
    """  # noqa: D301 - click keeps line breaks after the character \b
    if not paths:
        raise UsageError("no PATH given", remedy="name a file or folder")
    # Zips stay unpacked until all is read.
    with contextlib.ExitStack() as unpacked, one_decoder():
        located, failed, flags = find_below(paths, limits, unpacked, shown=not as_json)
        studies = [
            replace(study.candidate.describe(limits, pixels=pixels), study=study.title)
            for study in located
        ]
    unreadable = [
        Failure(where.title, where.source, study.error)
        for where, study in zip(located, studies, strict=True)
        if study.kind == "unknown" and study.error is not None
    ]
    if (bad := [*failed, *unreadable]) and len(unreadable) == len(studies):
        raise bad[0].error
    # A path without a study is left out; a damaged study is listed.
    failed += [study for study in unreadable if isinstance(study.error, NothingReadableError)]
    errors = [failure.error for failure in failed]
    studies = [study for study in studies if study.error not in errors]
    if as_json:
        print_json(
            {
                "studies": [_as_json(study) for study in studies],
                "flags": [asdict(flag) for flag in flags],
                "errors": [{"study": bad.title, **bad.error.as_object()} for bad in failed],
            }
        )
    else:
        _print(studies, [flag.message for flag in flags], pixels=pixels)
        for error in errors:
            print_error(error, as_json=False)
    return errors[0].exit_code if errors else 0


def _as_json(study: Inspection) -> dict[str, Any]:
    return {
        "study": printable(study.study),
        "kind": study.kind,
        "folder": printable(study.folder),
        "series": [asdict(series) for series in study.series],
        "reasons": dict(study.reasons),
        "error": None if study.error is None else study.error.as_object(),
        "flags": [asdict(flag) for flag in study.flags],
        "masks": [printable(name) for name in study.masks],
    }


def _print(studies: list[Inspection], notes: list[str], *, pixels: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False, force_jupyter=False)
    if not console.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        width = max(int(columns), NARROWEST) if columns.isdecimal() else WIDTH_ELSEWHERE
        console = Console(highlight=False, width=width, force_jupyter=False)
    with console.capture() as captured:
        for note in notes:
            console.print(f"! {printable(note)}", markup=False)
        for study in studies:
            _print_study(console, study)
        ready = sum(study.error is None for study in studies)
        count = "1 study" if len(studies) == 1 else f"{len(studies)} studies"
        console.print(f"{count}, {ready} ready for gliosight analyze.", markup=False)
        if not pixels:
            console.print("Headers only; --pixels reads the images, too.", markup=False)
    lines = captured.get().splitlines()
    print_text("\n".join(line.rstrip() for line in lines).rstrip("\n"))


def _print_study(console: Console, study: Inspection) -> None:
    from rich.table import Table
    from rich.text import Text

    from gliosight.read.folders import listed

    # Parts of a series without UID share its name; a file is itself.
    names = {
        series.name if series.uid is None else series.uid or series.name.partition(",")[0]
        for series in study.series
    }
    title = Text(printable(study.study), style="bold")
    where = f", in {printable(study.folder)}" if study.folder else ""
    title.append(f"   {KINDS[study.kind]}, {len(names)} series{where}", style="not bold")
    console.print(title)
    if study.series:
        console.print(_table(study, console.width))
        console.print()
    notes = Table.grid(padding=(0, 1))
    for name in MrSequence:
        if (reason := study.reasons.get(name.value)) is not None:
            notes.add_row(Text(f" {name.value}", style="bold green"), Text(printable(reason)))
    for flag in study.flags:
        mark = Text(" !" if flag.severity == "warning" else " i", style="yellow")
        notes.add_row(mark, Text(f"{flag.code}: {printable(flag.message)}"))
    if count := len(study.masks):
        what = "a mask by its name" if count == 1 else f"{count:,} masks by their names"
        shown = printable(listed(list(study.masks)))
        notes.add_row(Text(" i", style="yellow"), Text(f"not read, {what}: {shown}"))
    if notes.row_count:
        console.print(notes)
    if study.error is not None:
        line = NOT_OURS.sub("with gliosight analyze --", study.error.line())
        console.print(Text(f"  cannot be analysed: {line}", style="red"))
    console.print()


def _table(study: Inspection, width: int) -> Table:
    """One entry a series: what it is taken for, its name, and what is known of it."""
    from rich.table import Table
    from rich.text import Text

    from gliosight.read.inspection import grouped

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=6)
    table.add_column(max_width=max(22, width // 4), overflow="fold")
    table.add_column(overflow="fold")
    rows = grouped(study.series)
    counts = Counter(series.name for series in rows)
    for series in rows:
        facts = Text(series.shows, style="bold" if series.taken_as else "")
        if series.confidence not in (None, "certain"):
            facts.append(f" ({series.confidence})")
        description = f"“{printable(series.description)}”" if series.description else ""
        for part in filter(None, (_size(series), description)):
            facts.append(f"   {part}", style="not bold")
        if why := _why(series):
            facts.append(f"\n{why}", style="not bold dim")
        if series.uid and (counts[series.name] > 1 or "without" in series.name):
            facts.append(f"\n{printable(series.uid)}", style="not bold dim")
        taken = Text(f" {series.taken_as or ''}", style="bold green")
        table.add_row(taken, Text(printable(series.name)), facts)
    return table


def _size(series: SeenSeries) -> str:
    parts = [" × ".join(map(str, series.shape))] if series.shape else []
    if series.spacing_mm is not None:
        parts.append(" × ".join(f"{side:.3g}" for side in series.spacing_mm) + " mm")
    if series.plane:
        parts.append(series.plane)
    return ", ".join(parts)


def _why(series: SeenSeries) -> str:
    # What limits a result says nothing of a series that gives none.
    warnings = [
        flag.message for flag in series.flags if flag.severity == "warning" and not series.problem
    ]
    # Why it is taken stands below the table.
    why = "" if series.taken_as else series.why
    parts = map(printable, filter(None, (why, series.problem, *warnings)))
    return "; ".join(part.rstrip(".") for part in parts)
