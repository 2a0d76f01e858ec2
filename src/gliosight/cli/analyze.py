"""``gliosight analyze``: studies in, result folders out (layer: cli)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gliosight import pipeline
from gliosight.cli.options import PATH, model_options, output_options
from gliosight.cli.output import (
    print_closing,
    print_error,
    print_json,
    print_summary,
    print_text,
    progress_display,
)
from gliosight.cli.table import check_table, write_studies
from gliosight.errors import GliosightError, UsageError, printable, within
from gliosight.infer import Model
from gliosight.read import Limits, Request

MIB = 1024**2

Failures = list[tuple[str, GliosightError]]


@click.command("analyze")
@click.argument("studies", nargs=-1, type=PATH, metavar="[STUDY]...")
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="Result folder [default: <study>-gliosight]. With "
    "several studies: the folder that gets one result folder each.",
)
@click.option("--flair", type=PATH, help="NIfTI file of FLAIR, instead of STUDY.")
@click.option("--t1", type=PATH, help="NIfTI file of T1, with --flair.")
@click.option("--t1c", type=PATH, help="NIfTI file of T1 post-contrast, with --flair.")
@click.option(
    "--volume",
    "volume_index",
    type=click.IntRange(0),
    metavar="N",
    help="Which volume of a 4-D NIfTI file to take, counted from 0.",
)
@click.option(
    "--max-decoded",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="Largest decoded input.",
)
@click.option(
    "--max-members",
    type=click.IntRange(1),
    default=20_000,
    show_default=True,
    help="Most files looked at in a folder, and pages in a file.",
)
@click.option(
    "--max-ratio",
    type=click.FloatRange(1),
    default=200.0,
    show_default=True,
    help="Largest ratio of decompressed to compressed size.",
)
@model_options
@output_options
def command(
    studies: tuple[Path, ...],
    out: Path | None,
    flair: Path | None,
    t1: Path | None,
    t1c: Path | None,
    volume_index: int | None,
    max_decoded: int,
    max_members: int,
    max_ratio: float,
    model: str,
    engine: str,
    threads: int | None,
    overwrite: bool,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Find and outline tumour in one study or several.

    STUDY is a patient's folder in the layout of the LGG data set, a TIFF, PNG or JPEG slice or a folder
    of them (1 channel: FLAIR; 3 channels: T1, FLAIR, T1 post-contrast), a NIfTI file of FLAIR, a folder
    of NIfTI files whose names say the sequence, or a folder of such studies.

    \b
    gliosight analyze patient01/
    gliosight analyze flair.nii.gz -o result
    gliosight analyze --flair f.nii.gz --t1 t.nii.gz --t1c c.nii.gz
    """  # noqa: D301 - click wants the character \b before lines it shall not join
    limits = Limits(decoded_bytes=max_decoded * MIB, members=max_members, ratio=max_ratio)
    if flair is None and len(studies) == 1 and (t1 or t1c):
        flair, studies = studies[0], ()
    named = _named(flair, t1, t1c, volume_index, limits)
    if named and studies:
        raise UsageError("both STUDY and --flair are given", remedy="give one of them")
    if not named and not studies:
        raise UsageError("no STUDY given", remedy="name a file or folder, or try: gliosight demo")
    found, failed = _find(studies, limits, volume_index)
    requests = named + found
    several = len(requests) + len(failed) > 1
    if failed and not several:
        raise failed[0][1]
    if out is not None and not several:
        pipeline.check_out(out, overwrite=overwrite)
    if several:
        check_table(out or Path(), overwrite=overwrite)
    settings = pipeline.Settings(model=model, engine=engine, threads=threads)
    run = _Run(
        settings.load(), settings, out, several, overwrite, probability, not (quiet or as_json)
    )
    results: list[dict[str, Any]] = []
    for request in requests:
        title = (request.path or request.flair or Path("study")).name
        try:
            result = run.one(request, title, taken={one["out"] for one in results})
        except GliosightError as error:
            if not several:
                raise
            failed.append((title, within(error, title)))
            continue
        results.append(result)
        if run.talks:
            print_summary(result, result["out"])
    if several:
        _close_several(results, failed, out or Path(), as_json=as_json, quiet=quiet)
    elif as_json:
        print_json(results[0])
    if not (quiet or as_json):
        print_closing(None if several else str(Path(results[0]["out"]) / "report.html"))
    return failed[0][1].exit_code if failed else 0


@dataclass(frozen=True)
class _Run:
    """What is the same for all studies of one call."""

    model: Model
    settings: pipeline.Settings
    out: Path | None
    several: bool
    overwrite: bool
    probability: bool
    talks: bool

    def one(self, request: Request, title: str, taken: set[str]) -> dict[str, Any]:
        """Analyse one study and write its folder; return its result, with ``out``."""
        start = time.perf_counter()
        study = pipeline.read(request)
        read_ms = 1000 * (time.perf_counter() - start)
        folder = pipeline.default_out(study)
        if self.out is not None:
            folder = self.out / folder.name if self.several else self.out
        number, first = 2, folder
        while str(folder) in taken:  # the same name from two places
            folder = first.with_name(f"{first.name}-{number}")
            number += 1
        pipeline.check_out(folder, overwrite=self.overwrite)
        with progress_display(title, shown=self.talks) as tell:
            analysis = pipeline.analyze_study(
                study, self.model, self.settings, read_ms=read_ms, progress=tell
            )
            result = pipeline.write_analysis(
                analysis, folder, overwrite=self.overwrite, probability=self.probability
            )
        return {"out": str(folder), **result}


def _close_several(
    results: list[dict[str, Any]], failed: Failures, out: Path, *, as_json: bool, quiet: bool
) -> None:
    """Write the table of all studies, and say what became of them."""
    table = write_studies(results, failed, out)
    if as_json:
        errors = [
            {"study": name, "error": one.line(), "exit_code": one.exit_code} for name, one in failed
        ]
        print_json({"studies": results, "errors": errors})
        return
    for _, error in failed:
        print_error(error, as_json=False)
    if not quiet:
        total = len(results) + len(failed)
        print_text(f"{len(results)} of {total} studies analysed, table: {printable(str(table))}")


def _named(
    flair: Path | None, t1: Path | None, t1c: Path | None, volume_index: int | None, limits: Limits
) -> list[Request]:
    if flair is not None:
        return [Request(None, flair, t1, t1c, limits=limits, volume_index=volume_index)]
    if t1 is not None or t1c is not None:
        raise UsageError(
            "--t1 or --t1c without one FLAIR file", remedy="name it as STUDY or with --flair"
        )
    return []


def _find(
    studies: tuple[Path, ...], limits: Limits, volume_index: int | None
) -> tuple[list[Request], Failures]:
    """Every study under the given paths; a path that cannot be read does not stop the others."""
    requests: list[Request] = []
    failed: Failures = []
    for given in studies:
        try:
            paths = pipeline.find_studies(given, limits)
        except GliosightError as error:
            failed.append((given.name, within(error, given.name)))
            continue
        requests += [Request(one, limits=limits, volume_index=volume_index) for one in paths]
    return requests, failed
