"""``gliosight analyze``: studies in, result folders out (layer: cli)."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from gliosight import pipeline
from gliosight.cli.finding import find_below
from gliosight.cli.options import PATH, limit_options, limits_of, model_options, output_options
from gliosight.cli.output import (
    print_closing,
    print_error,
    print_json,
    print_summary,
    print_text,
    progress_display,
)
from gliosight.cli.table import check_table, write_studies
from gliosight.errors import GliosightError, UsageError, explained, printable, within
from gliosight.infer import Model
from gliosight.read import Limits, Request
from gliosight.read.naming import promises_image
from gliosight.read.recognise import folder_name
from gliosight.study import Flag, Sequence

# A SeriesInstanceUID, or a series' number, either with the part of it.
SERIES = re.compile(r"(series +)?[0-9]+(\.[0-9]+)*(,.*)?", re.IGNORECASE)

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
@click.option(
    "--flair",
    type=PATH,
    metavar="FILE|SERIES",
    help="NIfTI file of FLAIR, instead of STUDY; for DICOM the SeriesInstanceUID or the "
    'number of the series, as gliosight inspect lists them, such as 5 or "5, echo 2".',
)
@click.option("--t1", type=PATH, metavar="FILE|SERIES", help="The same for T1.")
@click.option("--t1c", type=PATH, metavar="FILE|SERIES", help="The same for T1 post-contrast.")
@click.option(
    "--volume",
    "volume_index",
    type=click.IntRange(0),
    metavar="N",
    help="Which volume of a 4-D NIfTI file to take, counted from 0.",
)
@limit_options
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

    STUDY is a DICOM file, a folder of any depth with DICOM files, or a DICOMDIR; a NIfTI file of FLAIR or
    a folder of NIfTI files whose names say the sequence; a patient's folder in the layout of the LGG data
    set, a TIFF, PNG or JPEG slice or a folder of them (1 channel: FLAIR; 3 channels: T1, FLAIR, T1
    after contrast); a folder of such studies; or a zip of any of these.

    \b
    gliosight analyze patient01/
    gliosight analyze export.zip -o results
    gliosight analyze flair.nii.gz -o result
    gliosight analyze --flair f.nii.gz --t1 t.nii.gz --t1c c.nii.gz
    """  # noqa: D301 - click wants the character \b before lines it shall not join
    limits = limits_of(max_decoded, max_members, max_ratio)
    talks = not (quiet or as_json)
    series = _series({Sequence.FLAIR: flair, Sequence.T1: t1, Sequence.T1C: t1c}, studies)
    with contextlib.ExitStack() as unpacked:  # zips stay unpacked until all is read
        if series is None:
            asked, failed = [_named(studies, flair, t1, t1c, volume_index, limits)], Failures()
        elif studies:
            asked, failed = _find(studies, limits, volume_index, series, unpacked, talks=talks)
        else:
            raise UsageError(
                "no STUDY given", remedy="name a file or folder, or try: gliosight demo"
            )
        several = len(asked) + len(failed) > 1
        if failed and not several:
            raise failed[0][1]
        if out is not None and not several:
            pipeline.check_out(out, overwrite=overwrite)
        if several:
            check_table(out or Path(), overwrite=overwrite)
        settings = pipeline.Settings(model=model, engine=engine, threads=threads)
        run = _Run(settings.load(), settings, out, several, overwrite, probability, talks)
        results = _analyze_all(asked, failed, run)
    if several:
        _close_several(results, failed, out or Path(), as_json=as_json, quiet=quiet)
    elif as_json:
        print_json(results[0])
    if talks:
        report = None if several else str(Path(results[0]["out"]) / "report.html")
        print_closing(report, masks=bool(results))
    return failed[0][1].exit_code if failed else 0


@dataclass(frozen=True)
class _Asked:
    """A study to analyse.

    Parameters
    ----------
    request : Request
    title : str
        Its name for people: below a given path, the way from there.
    folder : str
        Where the places in its errors lie, as seen from what was given; empty for right there.
    flags : tuple of Flag
        What unpacking had to say.
    """

    request: Request
    title: str
    folder: str = ""
    flags: tuple[Flag, ...] = ()

    def told(self, error: GliosightError) -> GliosightError:
        """An error in reading it, with its place as seen from what was given."""
        where = error.where or self.title
        if where == self.title.rpartition("/")[2]:
            where = self.title
        elif self.folder and error.where and where != str(self.request.path):
            where = f"{self.folder}/{where}"
        # A path that leads nowhere is told as it was typed.
        return within(error, where)


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

    def one(self, asked: _Asked, taken: set[str]) -> dict[str, Any]:
        """Analyse one study and write its folder; return its result, with ``out``."""
        start = time.perf_counter()
        try:
            study = pipeline.read(asked.request)
        except GliosightError as error:
            raise asked.told(error) from error
        study = replace(study, flags=(*asked.flags, *study.flags))
        read_ms = 1000 * (time.perf_counter() - start)
        folder = pipeline.default_out(study)
        if self.out is not None:
            folder = self.out / folder.name if self.several else self.out
        number, first = 2, folder
        while str(folder) in taken:  # the same name from two places
            folder = first.with_name(f"{first.name}-{number}")
            number += 1
        pipeline.check_out(folder, overwrite=self.overwrite)
        with progress_display(asked.title, shown=self.talks) as tell:
            analysis = pipeline.analyze_study(
                study, self.model, self.settings, read_ms=read_ms, progress=tell
            )
            result = pipeline.write_analysis(
                analysis, folder, overwrite=self.overwrite, probability=self.probability
            )
        return {"out": str(folder), **result}


def _analyze_all(asked: list[_Asked], failed: Failures, run: _Run) -> list[dict[str, Any]]:
    """Analyse one study after the other; of several, one that fails is noted in ``failed``."""
    results: list[dict[str, Any]] = []
    for one in asked:
        try:
            result = run.one(one, taken={done["out"] for done in results})
        except GliosightError as error:
            if not run.several:
                raise
            error = explained(error) or error
            failed.append((one.title, error if error.where else within(error, one.title)))
            continue
        results.append(result)
        if run.talks:
            print_summary(result, result["out"])
    return results


def _close_several(
    results: list[dict[str, Any]], failed: Failures, out: Path, *, as_json: bool, quiet: bool
) -> None:
    """Write the table of all studies, and say what became of them."""
    table = write_studies(results, failed, out)
    if as_json:
        errors = [{"study": name, **one.as_object()} for name, one in failed]
        print_json({"studies": results, "errors": errors})
        return
    for _, error in failed:
        print_error(error, as_json=False)
    if not quiet:
        total = len(results) + len(failed)
        print_text(f"{len(results)} of {total} studies analysed, table: {printable(str(table))}")


def _named(
    studies: tuple[Path, ...],
    flair: Path | None,
    t1: Path | None,
    t1c: Path | None,
    volume_index: int | None,
    limits: Limits,
) -> _Asked:
    """The one study whose files are named; its FLAIR as STUDY or with ``--flair``."""
    if flair is not None and studies:
        raise UsageError("both STUDY and --flair are given", remedy="give one of them")
    if flair is None and len(studies) != 1:
        raise UsageError(
            "--t1 or --t1c without one FLAIR file", remedy="name it as STUDY or with --flair"
        )
    path = studies[0] if studies else None
    request = Request(path, flair, t1, t1c, limits=limits, volume_index=volume_index)
    return _Asked(request, folder_name(flair or studies[0]))


def _series(
    given: Mapping[Sequence, Path | None], studies: tuple[Path, ...]
) -> dict[Sequence, str] | None:
    """The DICOM series that the options name; ``None`` where they name files.

    What is no file and not called like one can only be a series, mistyped or not, of a STUDY.
    """
    named = {name: str(one) for name, one in given.items() if one is not None}
    as_series = [
        not Path(one).is_file()
        and bool(
            SERIES.fullmatch(one)
            or (studies and not Path(one).exists() and not promises_image(one))
        )
        for one in named.values()
    ]
    if any(as_series) and not all(as_series):
        raise UsageError(
            "a DICOM series and a file are named side by side",
            remedy="give --flair, --t1 and --t1c either series or NIfTI files",
        )
    return None if named and not any(as_series) else named


def _find(
    studies: tuple[Path, ...],
    limits: Limits,
    volume_index: int | None,
    series: Mapping[Sequence, str],
    unpacked: contextlib.ExitStack,
    *,
    talks: bool,
) -> tuple[list[_Asked], Failures]:
    """Every study under the given paths; a path that cannot be read does not stop the others."""
    found: list[tuple[pipeline.Source, _Asked]] = []
    failed: Failures = []
    for given in studies:
        name = folder_name(given)
        # Seen from one path, all lies below it; seen from several, below the one or the other.
        above = f"{name}/" if len(studies) > 1 else ""
        whole = _Asked(Request(given), name, above.rstrip("/"))
        try:
            inside, sources = find_below(given, limits, unpacked, shown=talks)
        except GliosightError as error:
            failed.append((name, whole.told(error)))
            continue
        for source in sources:
            request = Request(source, limits=limits, volume_index=volume_index)
            title, folder = name, above
            if source != inside.path:
                title = folder = above + pipeline.source_name(source, inside.path)
            if not isinstance(source, Path):
                folder = above  # files of a DICOM study are named from the path that was given
            elif not source.is_dir():  # a file, or a series: its files lie where it does
                folder = title.rpartition("/")[0]
            found.append((source, _Asked(request, title, folder.rstrip("/"), inside.flags)))
    asked = _joined(found, series)
    used = {name for one in asked for name in one.request.series}
    for name in series.keys() - used if asked else ():
        raise UsageError(
            f"--{name.value.lower()} {series[name][:64]} names no series of the {len(asked)} studies",
            remedy="see gliosight inspect",
        )
    return asked, failed


def _joined(
    found: list[tuple[pipeline.Source, _Asked]], series: Mapping[Sequence, str]
) -> list[_Asked]:
    """What was found, a DICOM study below several paths once, each with the series it shall use."""
    by_source = {id(source): one for source, one in found}
    sources = pipeline.join_studies(source for source, _ in found)
    asked = []
    for source in sources:
        one = by_source.get(id(source))
        if one is None:  # of several parts: named as the first, with what unpacking said of all
            parts = [
                part
                for other, part in found
                if not isinstance(other, Path)
                and not isinstance(source, Path)
                and other.folders & source.folders
            ]
            flags = tuple(dict.fromkeys(said for part in parts for said in part.flags))
            one = replace(parts[0], folder="", flags=flags)
        wanted = dict(series) if len(sources) == 1 else _fitting(series, source)
        asked.append(replace(one, request=replace(one.request, path=source, series=wanted)))
    return asked


def _fitting(series: Mapping[Sequence, str], source: pipeline.Source) -> dict[Sequence, str]:
    """Of the series asked for, those that one of several studies has."""
    if isinstance(source, Path):
        return {}
    from gliosight.read.dicom.wanted import named_in

    return {name: one for name, one in series.items() if named_in(source.series, one)}
