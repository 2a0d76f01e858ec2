"""``gliosight analyze``: studies in, result folders out (layer: cli)."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from gliosight import pipeline
from gliosight.archive.entries import entry_of, ranked
from gliosight.archive.table import check_table, write_studies
from gliosight.cli.locate import Located, find_below
from gliosight.cli.options import PATH, limit_options, model_options, output_options
from gliosight.cli.output import (
    print_closing,
    print_error,
    print_json,
    print_summary,
    print_text,
    progress_display,
)
from gliosight.errors import CannotWriteError, GliosightError, UsageError, printable, within
from gliosight.pipeline import Job, Outcome
from gliosight.read import Limits, Options, named_files
from gliosight.read.candidates import DicomCandidate
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.naming import promises_image
from gliosight.study import MrSequence, Study

# A SeriesInstanceUID, or a series' number, either with the part of it.
SERIES = re.compile(r"(series +)?[0-9]+(\.[0-9]+)*(,.*)?", re.IGNORECASE)


@click.command("analyze")
@click.argument("studies", nargs=-1, type=PATH, metavar="[STUDY]...")
@click.option(
    "-o",
    "--out",
    type=PATH,
    help="Result folder. With several studies: the folder for their result folders.  "
    "[default: <study>-gliosight]",
)
@click.option(
    "--name-by",
    type=click.Choice(["id", "folder"]),
    default="id",
    show_default=True,
    help="Name of a result folder: the study's id (for DICOM a digest of its UID), or the name of the "
    "study's folder.",
)
@click.option(
    "--flair",
    type=PATH,
    metavar="FILE|SERIES",
    help="NIfTI file of FLAIR, instead of STUDY. For DICOM: the series of STUDY to use as FLAIR, by its "
    'SeriesInstanceUID or number, as gliosight inspect lists them, such as 5 or "5, echo 2".',
)
@click.option("--t1", type=PATH, metavar="FILE|SERIES", help="The same for T1.")
@click.option("--t1c", type=PATH, metavar="FILE|SERIES", help="The same for T1 after contrast.")
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
    name_by: str,
    flair: Path | None,
    t1: Path | None,
    t1c: Path | None,
    volume_index: int | None,
    limits: Limits,
    settings: pipeline.Settings,
    overwrite: bool,
    probability: bool,
    as_json: bool,
    quiet: bool,
) -> int | GliosightError:
    """Find and outline tumour in one study or several.

    STUDY is one of these, a zip of it, or a folder of such studies:

    \b
    - a DICOM file, a folder of any depth with DICOM files, or a DICOMDIR
    - a NIfTI file of FLAIR, or a folder of NIfTI files whose names say the sequence
    - a patient's folder in the layout of the LGG data set
    - a TIFF, PNG or JPEG slice, or a folder of them
      (1 channel: FLAIR; 3 channels: T1, FLAIR, T1 after contrast)

    \b
    gliosight analyze patient01/
    gliosight analyze export.zip -o results
    gliosight analyze flair.nii.gz -o result
    gliosight analyze --flair f.nii.gz --t1 t.nii.gz --t1c c.nii.gz
    """  # noqa: D301 - click keeps line breaks after the character \b
    options = Options(limits, volume_index)
    talks = not (quiet or as_json)
    named = {MrSequence.FLAIR: flair, MrSequence.T1: t1, MrSequence.T1C: t1c}
    by_folder = name_by == "folder"
    series = _series({name: str(text) for name, text in named.items() if text}, studies)
    outcomes: list[Outcome] = []
    # Zips stay unpacked until all is read.
    with pipeline.loading(settings) as loading, contextlib.ExitStack() as unpacked, one_decoder():
        if series is None:
            jobs = [job_of(_named(studies, flair, t1, t1c), options, by_folder=by_folder)]
        elif studies:
            located, failed, _ = find_below(studies, options.limits, unpacked, shown=talks)
            jobs = jobs_of(located, options, series, by_folder=by_folder)
            outcomes = [Outcome(title, source, errors=(error,)) for title, source, error in failed]
        else:
            raise UsageError(
                "no STUDY given", remedy="name a file or folder, or try: gliosight demo"
            )
        several = len(jobs) + len(outcomes) > 1
        if not several and outcomes:
            raise outcomes[0].errors[0]
        if several:
            check_table(out or Path(), overwrite=overwrite)
        elif out is not None:
            pipeline.check_out(out, overwrite=overwrite)
        for outcome in pipeline.analyze_many(
            jobs,
            settings,
            loading,
            partial(progress_display, shown=talks),
            out=out,
            several=several,
            overwrite=overwrite,
            probability=probability,
        ):
            outcomes.append(outcome)
            if talks and outcome.result is not None:
                print_summary(outcome.result, outcome.result["out"])
            if several and not gc.isenabled():  # see `gliosight.cli.main`; what was imported stays
                gc.collect()
                gc.freeze()
    outcomes.sort(key=lambda outcome: outcome.result is None)  # studies that failed come last
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    if several:
        _close_several(outcomes, out, as_json=as_json, quiet=quiet)
    elif as_json:
        print_json(results[0])
    if talks:
        report = None if several else str(Path(results[0]["out"]) / "report.html")
        print_closing(report, marked=any(result["findings"] for result in results))
    for outcome in outcomes:
        if outcome.errors:  # a bug of ours is reported before a fault of the input
            return outcome.errors[0].exit_code if outcome.result is None else outcome.errors[0]
    return 0


def _close_several(
    outcomes: list[Outcome], out: Path | None, *, as_json: bool, quiet: bool
) -> None:
    """Write the table of all studies, and say what became of them."""
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    table = "nothing written"
    if results or out is not None:
        folder = out or Path()
        path = write_studies(ranked(entry_of(outcome, folder) for outcome in outcomes), folder)
        table = f"table: {printable(str(path))}"
    failed = [outcome for outcome in outcomes if outcome.result is None]
    if as_json:
        errors = [
            {
                "study": outcome.result["out"] if outcome.result else outcome.title,
                **error.as_object(),
            }
            for outcome in (*failed, *outcomes[: len(results)])
            for error in outcome.errors
        ]
        print_json({"studies": results, "errors": errors})
        return
    for outcome in failed:
        print_error(_with_study(outcome), as_json=False)
    if not quiet:
        print_text(f"{len(results)} of {len(outcomes)} studies analysed, {table}")


def _with_study(outcome: Outcome) -> GliosightError:
    """What failed, with the study in its place: a DICOM error's is a series, which every study has."""
    error, study = outcome.errors[0], outcome.source or outcome.title
    where = error.where or study
    parts = {*where.split(", "), *re.split(r", |/", where)}
    # The place of what cannot be written is its result folder.
    if isinstance(error, CannotWriteError) or {study, outcome.title} & parts:
        return error
    return error if where.startswith(f"{study}/") else within(error, f"{study}, {where}")


def job_of(located: Located, options: Options, *, by_folder: bool) -> Job:
    """What to analyse of a candidate; ``by_folder`` names its results by its folder, not by its id."""
    name = located.source.replace("/", "_") if by_folder else located.candidate.study_id
    read = partial(_read, located, options)
    return Job(located.title, located.source, name or located.title, read)


def _read(located: Located, options: Options) -> Study:
    try:
        study = located.candidate.read(options)
    except GliosightError as error:
        raise located.placed(error) from error
    source = replace(study.source, path=located.source)
    return replace(study, flags=(*located.flags, *study.flags), source=source)


def _named(
    studies: tuple[Path, ...], flair: Path | None, t1: Path | None, t1c: Path | None
) -> Located:
    """The one study whose files are named; its FLAIR as STUDY or with ``--flair``."""
    if flair is not None and studies:
        raise UsageError("both STUDY and --flair are given", remedy="give one of them")
    if flair is None and len(studies) != 1:
        raise UsageError(
            "--t1 or --t1c without one FLAIR file", remedy="name it as STUDY or with --flair"
        )
    candidate = named_files(flair or studies[0], t1, t1c, as_flair=flair is not None)
    return Located(candidate, candidate.title, candidate.source, str(flair or studies[0]))


def _series(
    named: Mapping[MrSequence, str], studies: tuple[Path, ...]
) -> Mapping[MrSequence, str] | None:
    """The DICOM series that the options name; ``None`` where they name files.

    What is no file and not called like one can only be a series, mistyped or not, of a STUDY.
    """
    are_series = {
        not Path(text).is_file()
        and (
            SERIES.fullmatch(text) is not None
            or (bool(studies) and not Path(text).exists() and not promises_image(text))
        )
        for text in named.values()
    }
    if len(are_series) > 1:
        raise UsageError(
            "a DICOM series and a file are named side by side",
            remedy="give --flair, --t1 and --t1c either series or NIfTI files",
        )
    return None if False in are_series else named


def jobs_of(
    located: list[Located],
    options: Options,
    series: Mapping[MrSequence, str],
    *,
    by_folder: bool,
) -> list[Job]:
    """A job for each study, with those of the series asked for that it has.

    Raises
    ------
    UsageError
        A series that none of the studies has.
    """
    if len(located) == 1:
        return [job_of(located[0], replace(options, series=series), by_folder=by_folder)]
    jobs, unused = [], dict(series) if located else {}
    for study in located:
        candidate = study.candidate
        fitting = {
            name: text
            for name, text in series.items()
            if isinstance(candidate, DicomCandidate) and candidate.has_series(text)
        }
        jobs.append(job_of(study, replace(options, series=fitting), by_folder=by_folder))
        unused = {name: text for name, text in unused.items() if name not in fitting}
    for name, text in unused.items():
        raise UsageError(
            f"--{name.value.lower()} {text[:64]} names no series of the {len(jobs)} studies",
            remedy="see gliosight inspect",
        )
    return jobs
