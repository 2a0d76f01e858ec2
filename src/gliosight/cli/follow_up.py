"""``gliosight follow-up``: the studies of one person compared over time (layer: cli)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gliosight import pipeline
from gliosight.cli.locate import Located, find_below
from gliosight.cli.options import PATH, limit_options, model_options
from gliosight.cli.output import (
    print_json,
    print_text,
    progress_display,
    rich_console,
)
from gliosight.errors import GliosightError, UsageError, printable
from gliosight.extras import needs_extra
from gliosight.read import Limits, Options
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.folders import holds_result
from gliosight.study import Study

if TYPE_CHECKING:
    from gliosight.archive.follow_up.compare import FollowUp, TrackedLesion
    from gliosight.archive.follow_up.visits import Read


@click.command("follow-up")
@click.argument("studies", nargs=-1, type=PATH, metavar="BEFORE AFTER...")
@click.option(
    "-o",
    "--out",
    type=PATH,
    default=Path("follow-up-gliosight"),
    show_default=True,
    help="Its folder.",
)
@click.option(
    "--source",
    type=PATH,
    help="Folder with the images of result folders that are given in place of studies.",
)
@limit_options
@model_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier follow-up at OUT.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the content of follow-up.json, and the folder, instead of text.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    studies: tuple[Path, ...],
    out: Path,
    source: Path | None,
    limits: Limits,
    settings: pipeline.Settings,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare studies of one person over time: what is new, grown, stable, shrunk or gone (extra: followup).

    BEFORE, AFTER and further ones are studies that gliosight analyze reads, or result folders that it wrote
    (then --source has their images). A single folder holds all studies. They are put in the order of their
    acquisition dates (DICOM), else of the dates in their names, such as 2024-03-01, else as given.

    The change that was measured is named, and no category of response.

    \b
    gliosight follow-up 2024-03-01/ 2024-06-03/ -o follow-up
    gliosight follow-up patient01/
    gliosight follow-up before-gliosight after-gliosight --source images
    """  # noqa: D301 - click keeps line breaks after the character \b
    with needs_extra("followup"):
        from gliosight.archive.follow_up.compare import compare
        from gliosight.archive.follow_up.output import PAGE, check_out, write_follow_up
        from gliosight.archive.follow_up.visits import (
            analysed,
            check_geometry,
            in_order,
            notes_of,
        )
    if not studies:
        raise UsageError("no STUDY given", remedy="give two or more studies, or their folder")
    options = Options(limits)
    talks = not (quiet or as_json)
    check_out(out, overwrite=overwrite)
    with pipeline.loading(settings) as loading, contextlib.ExitStack() as unpacked, one_decoder():
        reads = _read(studies, source, options, unpacked, shown=talks)
        if len(reads) < 2:
            remedy = "give two or more studies, or a folder with them"
            raise UsageError(f"{len(reads)} study, and a follow-up needs two", remedy=remedy)
        check_geometry(reads)
        reads, days, ordered_by = in_order(reads)
        analyses = []
        with progress_display("follow-up", shown=talks, what="studies") as progress:
            for k, read in enumerate(reads):
                analyses.append(analysed(read, loading, settings))
                if progress is not None:
                    progress("analysed", k + 1, len(reads))
        sources = [read.source for read in reads]
        followed = compare(analyses, sources, days, ordered_by, notes_of(reads))
    record = write_follow_up(followed, out, overwrite=overwrite)
    if as_json:
        print_json({"out": str(out), **record})
    elif not quiet:
        _print(followed)
        print_text(f"page: {printable(str(out / PAGE))}")


def _read(
    studies: tuple[Path, ...],
    source: Path | None,
    options: Options,
    unpacked: contextlib.ExitStack,
    *,
    shown: bool,
) -> list[Read]:
    """Every study and every result folder, in the order given."""
    from gliosight.archive.follow_up.visits import Read, read_results

    results = [path for path in studies if holds_result(path)]
    if results and source is None:
        images = []
    elif results:
        located, _, _ = find_below([source or Path()], options.limits, unpacked, shown=shown)
        images = [(study.source, partial(_study, study, options)) for study in located]
    else:
        images = []
    restored = iter(read_results(results, images))
    paths = [path for path in studies if path not in results]
    located, failed, _ = (
        find_below(paths, options.limits, unpacked, shown=shown) if paths else ([], [], [])
    )
    if failed:
        raise failed[0].error
    given = [Read(study.source, _study(study, options)) for study in located]
    if not results:
        return given
    if len(given) != len(paths):
        remedy = "name each study, or leave the result folders out"
        raise UsageError("a folder of studies is given beside result folders", remedy=remedy)
    others = iter(given)
    return [next(restored) if path in results else next(others) for path in studies]


def _study(located: Located, options: Options) -> Study:
    try:
        study = located.candidate.read(options)
    except GliosightError as error:
        raise located.placed(error) from error
    source = replace(study.source, path=located.source)
    return replace(study, flags=(*located.flags, *study.flags), source=source)


def _print(follow_up: FollowUp) -> None:
    """A few lines on the terminal: one for each lesion."""
    from gliosight.analysis import MASK_MEANING, RESEARCH_USE
    from gliosight.archive.follow_up import words

    count, days = len(follow_up.visits), follow_up.visits[-1].days
    over = "" if days is None else f" over {days:,} days"
    with rich_console() as console:
        console.print(f"{words.headline(follow_up)}", style="bold")
        console.print(f"  {count} studies{over}, ordered by {follow_up.ordered_by}")
        for k, visit in enumerate(follow_up.visits[1:], start=2):
            registration = visit.registration
            fit = registration.failure or (
                f"{words.error_words(registration.error_mm)}, heads overlap by {registration.overlap:.2f}, "
                f"images agree by {registration.similarity:.2f}"
            )
            console.print(f"  registration of study {k}: {fit}")
        lesions = list(follow_up.lesions)
        if len(lesions) > 1:
            lesions.append(follow_up.total)
        for lesion in lesions:
            console.print(f"  {_line(lesion)}")
        for reason in dict.fromkeys(words.overall(lesion).reason for lesion in lesions):
            if reason:
                console.print(f"  ! {reason}")
        for note in follow_up.notes:
            console.print(f"  ! {note}")
    print_text(f"{words.NOT_A_CATEGORY}\n{MASK_MEANING}\n{RESEARCH_USE}")


def _line(lesion: TrackedLesion) -> str:
    """A lesion in a line, from the first study to the last."""
    from gliosight.archive.follow_up import words

    change = words.overall(lesion)
    side = "side unknown" if lesion.side == "unknown" else lesion.side
    name = f"lesion {lesion.id}: {side}, " if lesion.id else "all lesions: "
    volumes = ", then ".join(words.volume_words(measure)[0] for measure in lesion.measures)
    interval = words.interval_words(change)
    text = f"{name}{change.kind}, {volumes}; change {words.change_words(change)}"
    return text + (f", 95 % interval {interval}" if interval else "")
