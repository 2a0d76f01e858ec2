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

from gliosight.cli.finding import Failure, find_below
from gliosight.cli.options import PATH, limit_options, limits_of
from gliosight.cli.output import print_error, print_json, print_text
from gliosight.errors import NothingReadableError, UsageError, printable
from gliosight.read.dicom.decoder import one_decoder
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
    "--pixels", is_flag=True, help="Read the pixels, too: they tell masks, copies and blank images."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
@limit_options
def command(
    paths: tuple[Path, ...],
    pixels: bool,
    as_json: bool,
    max_decoded: int,
    max_members: int,
    max_ratio: float,
) -> int:
    """List studies and series, what each shows and why, and what analyze would take.

    PATH is whatever analyze takes. Only headers are read. Nothing is written.

    \b
    gliosight inspect export/
    gliosight inspect export.zip --json
    """  # noqa: D301 - click wants the character \b before lines it shall not join
    if not paths:
        raise UsageError("no PATH given", remedy="name a file or folder")
    limits = limits_of(max_decoded, max_members, max_ratio)
    # Zips stay unpacked until all is read.
    with contextlib.ExitStack() as unpacked, one_decoder():
        located, failed, flags = find_below(paths, limits, unpacked, shown=not as_json)
        seen = [
            replace(study.candidate.describe(limits, pixels=pixels), study=study.title)
            for study in located
        ]
    unreadable = [
        Failure(study.title, study.source, one.error)
        for study, one in zip(located, seen, strict=True)
        if one.kind == "unknown" and one.error is not None
    ]
    if (bad := [*failed, *unreadable]) and len(unreadable) == len(seen):
        raise bad[0].error
    # A path without a study is left out; a damaged study is listed.
    failed += [one for one in unreadable if isinstance(one.error, NothingReadableError)]
    errors = [failure.error for failure in failed]
    seen = [one for one in seen if one.error not in errors]
    if as_json:
        print_json(
            {
                "studies": [_as_json(one) for one in seen],
                "flags": [asdict(one) for one in flags],
                "errors": [{"study": one.title, **one.error.as_object()} for one in failed],
            }
        )
    else:
        _print(seen, [one.message for one in flags], pixels=pixels)
        for error in errors:
            print_error(error, as_json=False)
    return errors[0].exit_code if errors else 0


def _as_json(seen: Inspection) -> dict[str, Any]:
    value: dict[str, Any] = {
        "study": printable(seen.study),
        "kind": seen.kind,
        "folder": printable(seen.folder),
        "series": [asdict(one) for one in seen.series],
        "reasons": dict(seen.reasons),
        "error": None,
        "flags": [asdict(one) for one in seen.flags],
    }
    if seen.error is not None:
        value["error"] = seen.error.as_object()
    return value


def _print(seen: list[Inspection], notes: list[str], *, pixels: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        width = max(int(columns), NARROWEST) if columns.isdecimal() else WIDTH_ELSEWHERE
        console = Console(highlight=False, width=width)
    with console.capture() as captured:
        for note in notes:
            console.print(f"! {printable(note)}", markup=False)
        for one in seen:
            _study(console, one)
        count = len(seen)
        ready = sum(one.error is None for one in seen)
        studies = "1 study" if count == 1 else f"{count} studies"
        console.print(f"{studies}, {ready} ready for gliosight analyze.", markup=False)
        if not pixels:
            console.print("Headers only; --pixels reads the images, too.", markup=False)
    lines = captured.get().splitlines()
    print_text("\n".join(line.rstrip() for line in lines).rstrip("\n"))


def _study(console: Console, seen: Inspection) -> None:
    from rich.table import Table
    from rich.text import Text

    # Parts of a series without UID share its name; a file is itself.
    count = len(
        {
            one.name if one.uid is None else one.uid or one.name.partition(",")[0]
            for one in seen.series
        }
    )
    series = f"{count} series"
    title = Text(printable(seen.study), style="bold")
    where = f", in {printable(seen.folder)}" if seen.folder else ""
    title.append(f"   {KINDS[seen.kind]}, {series}{where}", style="not bold")
    console.print(title)
    if seen.series:
        console.print(_table(seen))
        console.print()
    said = Table.grid(padding=(0, 1))
    for name in MrSequence:
        if name.value in seen.reasons:
            said.add_row(
                Text(f" {name.value}", style="bold green"),
                Text(printable(seen.reasons[name.value])),
            )
    for one in seen.flags:
        mark = Text(" !" if one.severity == "warning" else " i", style="yellow")
        said.add_row(mark, Text(f"{one.code}: {printable(one.message)}"))
    if said.row_count:
        console.print(said)
    if seen.error is not None:
        line = NOT_OURS.sub("with gliosight analyze --", seen.error.line())
        console.print(Text(f"  cannot be analysed: {line}", style="red"))
    console.print()


def _table(seen: Inspection) -> Table:
    """One entry a series: what it is taken for, its name, and what is known of it."""
    from rich.table import Table
    from rich.text import Text

    from gliosight.read.inspection import grouped

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=6)
    table.add_column(max_width=22, overflow="fold")
    table.add_column(overflow="fold")
    rows = grouped(seen.series)
    twice = Counter(one.name for one in rows)
    for one in rows:
        told = Text(one.shows, style="bold" if one.taken_as else "")
        if one.confidence not in (None, "certain"):
            told.append(f" ({one.confidence})")
        for part in (_size(one), f"“{printable(one.description)}”" if one.description else ""):
            told.append(f"   {part}" if part else "", style="not bold")
        if why := _why(one):
            told.append(f"\n{why}", style="not bold dim")
        if one.uid and (twice[one.name] > 1 or "without" in one.name):
            told.append(f"\n{printable(one.uid)}", style="not bold dim")
        taken = Text(f" {one.taken_as or ''}", style="bold green")
        table.add_row(taken, Text(printable(one.name)), told)
    return table


def _size(one: SeenSeries) -> str:
    parts = [" × ".join(str(side) for side in one.shape)] if one.shape else []
    if one.spacing_mm is not None:
        parts.append(" × ".join(f"{side:.3g}" for side in one.spacing_mm) + " mm")
    if one.plane:
        parts.append(one.plane)
    return ", ".join(parts)


def _why(one: SeenSeries) -> str:
    parts = [printable(one.why)] if one.why else []
    if one.problem:
        parts.append(printable(one.problem))
    parts += [printable(flag.message) for flag in one.flags if flag.severity == "warning"]
    return "; ".join(part.rstrip(".") for part in parts)
