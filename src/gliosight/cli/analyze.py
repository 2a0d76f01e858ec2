"""``gliosight analyze``: studies in, result folders out (layer: cli)."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from gliosight import pipeline
from gliosight.archive.entries import FAILED, Entry, entry_of, exit_code
from gliosight.archive.run import InProcess, Plan, once, run_archive
from gliosight.archive.run import Study as ArchivedStudy
from gliosight.archive.table import TABLE
from gliosight.cli.locate import Located, find_below
from gliosight.cli.options import PATH, limit_options, model_options, output_options
from gliosight.cli.output import (
    print_closing,
    print_json,
    print_line,
    print_summary,
    print_text,
    progress_display,
)
from gliosight.errors import GliosightError, UsageError, printable
from gliosight.files import safe_name
from gliosight.pipeline import Job, Outcome
from gliosight.read import Limits, Options, named_files
from gliosight.read.candidates import DicomCandidate
from gliosight.read.dicom.decoder import one_decoder
from gliosight.read.naming import promises_image
from gliosight.study import MrSequence, Study
from gliosight.write.result import read_result

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
    lost: list[Outcome] = []
    # Zips stay unpacked until all is read.
    with pipeline.loading(settings) as loading, contextlib.ExitStack() as unpacked, one_decoder():
        here = InProcess(loading, partial(progress_display, shown=talks))
        if series is None:
            located = [_named(studies, flair, t1, t1c)]
            jobs = [job_of(located[0], options, by_folder=by_folder)]
        elif studies:
            located, failures, _ = find_below(studies, options.limits, unpacked, shown=talks)
            jobs = jobs_of(located, options, series, by_folder=by_folder)
            lost = [Outcome(title, source, errors=(error,)) for title, source, error in failures]
        else:
            raise UsageError(
                "no STUDY given", remedy="name a file or folder, or try: gliosight demo"
            )
        if len(jobs) + len(lost) > 1:
            asked = (*(f"{name.value}={text}" for name, text in (series or {}).items()),)
            plan = Plan(
                settings,
                probability,
                overwrite=overwrite,
                retry_failed=True,  # who names a few studies wants them now
                reading=asked if volume_index is None else (*asked, f"volume={volume_index}"),
            )
            found = once(archived(*pair) for pair in zip(located, jobs, strict=True))
            return _analyse_several(found, lost, out, plan, here, as_json=as_json, quiet=quiet)
        if lost:
            raise lost[0].errors[0]
        folder = out or Path(f"{safe_name(jobs[0].name)}-gliosight")
        if out is not None:
            pipeline.check_out(out, overwrite=overwrite)
        with here.display(jobs[0].title) as progress:
            outcome = pipeline.analyze_job(
                jobs[0],
                loading,
                settings,
                folder,
                overwrite=overwrite,
                probability=probability,
                progress=progress,
            )
    result = outcome.result or {}
    if as_json:
        print_json(result)
    elif talks:
        print_summary(result, result["out"])
        print_closing(str(folder / "report.html"), marked=bool(result["findings"]))
    return outcome.errors[0] if outcome.errors else 0


def _analyse_several(
    studies: Sequence[ArchivedStudy],
    lost: Sequence[Outcome],
    out: Path | None,
    plan: Plan,
    here: InProcess,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Analyse those that are not done yet, as ``gliosight batch`` does, and say what became of all."""
    folder, talks = out or Path(), not (quiet or as_json)
    results: dict[str, dict[str, Any]] = {}
    errors: list[dict[str, Any]] = []

    def finished(study: ArchivedStudy, entry: Entry, outcome: Outcome) -> None:
        place = "" if entry.folder is None else str(folder / entry.folder)
        if outcome.result is not None:
            results[study.key] = {**outcome.result, "out": place}
            if talks:
                print_summary(outcome.result, place)
        errors.extend(
            {"study": place or outcome.title, **error.as_object()} for error in outcome.errors
        )
        if not gc.isenabled():  # see `gliosight.cli.main`; what was imported stays
            gc.collect()
            gc.freeze()

    if studies or out is not None:
        entries = run_archive(studies, lost, folder, plan, finished=finished, here=here)
        table = f"table: {printable(str(folder / TABLE))}"
    else:
        entries, table = [entry_of(outcome, folder) for outcome in lost], "nothing written"
    own = [*entries[: len(studies)], *entries[len(entries) - len(lost) :]]
    for outcome in lost:
        errors += [{"study": outcome.title, **error.as_object()} for error in outcome.errors]
    done = [entry for entry in own if entry.status != FAILED]
    before = 0
    for study, entry in zip(studies, own, strict=False):
        if entry.folder is not None and study.key not in results:
            place, before = folder / entry.folder, before + 1
            results[study.key] = {**read_result(place), "out": str(place)}
            if talks:
                print_summary(results[study.key], str(place))
    if as_json:
        order = [results[study.key] for study in studies if study.key in results]
        print_json({"studies": order, "errors": errors})
        return exit_code(own)
    for entry in own:
        if entry.error:
            print_line(f"error: {entry.error}")
    if not quiet:
        earlier = f", {before} of them before" if before else ""
        print_text(f"{len(done)} of {len(own)} studies analysed{earlier}, {table}")
        print_closing(None, marked=any(entry.findings for entry in own))
    return exit_code(own)


def job_of(located: Located, options: Options, *, by_folder: bool) -> Job:
    """What to analyse of a candidate; ``by_folder`` names its results by its folder, not by its id."""
    name = located.source.replace("/", "_") if by_folder else located.candidate.study_id
    read = partial(_read, located, options)
    return Job(located.title, located.source, name or located.title, read)


def archived(located: Located, job: Job) -> ArchivedStudy:
    """The job as a study that a ledger knows again."""
    candidate = located.candidate
    tag = f"{candidate.kind} {candidate.study_id if candidate.kind == 'dicom' else ''}"
    return ArchivedStudy(job, candidate.paths, located.place, tag)


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
