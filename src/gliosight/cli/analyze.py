"""``gliosight analyze``: studies in, result folders out (layer: cli)."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from gliosight import pipeline
from gliosight.cli.finding import Failure, Located, find_below
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
from gliosight.errors import (
    GliosightError,
    InternalError,
    UsageError,
    explained,
    printable,
    within,
)
from gliosight.files import folded, numbered
from gliosight.infer import Model
from gliosight.read import Options, named_files
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
    help="Result folder [default: <study>-gliosight]. With "
    "several studies: the folder that gets one result folder each.",
)
@click.option(
    "--name-by",
    type=click.Choice(["id", "folder"]),
    default="id",
    show_default=True,
    help="What result folders are called by: the study's id (for DICOM a digest of its UID), or the "
    "folder that it lies in.",
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
    name_by: str,
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
) -> int | InternalError:
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
    series = _series({MrSequence.FLAIR: flair, MrSequence.T1: t1, MrSequence.T1C: t1c}, studies)
    # Zips stay unpacked until all is read.
    with contextlib.ExitStack() as unpacked, one_decoder():
        options = Options(limits, volume_index)
        if series is None:
            asked, failed = [_Asked(_named(studies, flair, t1, t1c), options)], list[Failure]()
        elif studies:
            located, failed, _ = find_below(studies, limits, unpacked, shown=talks)
            asked = _asked(located, options, series)
        else:
            raise UsageError(
                "no STUDY given", remedy="name a file or folder, or try: gliosight demo"
            )
        several = len(asked) + len(failed) > 1
        if failed and not several:
            raise failed[0].error
        if out is not None and not several:
            pipeline.check_out(out, overwrite=overwrite)
        if several:
            check_table(out or Path(), overwrite=overwrite)
        settings = pipeline.Settings(model=model, engine=engine, threads=threads)
        by_folder = name_by == "folder"
        run = _Run(
            settings.load(), settings, out, several, by_folder, overwrite, probability, talks
        )
        results = _analyze_all(asked, failed, run)
    if several:
        _close_several(results, failed, run.withheld, out or Path(), as_json=as_json, quiet=quiet)
    elif as_json:
        print_json(results[0])
    if talks:
        report = None if several else str(Path(results[0]["out"]) / "report.html")
        print_closing(report, masks=bool(results))
    if run.withheld:  # a bug of ours is reported before a fault of the input
        return run.withheld[0][1]
    return failed[0].error.exit_code if failed else 0


@dataclass(frozen=True)
class _Asked:
    """A study to analyse, and how to read it."""

    located: Located
    options: Options


@dataclass(frozen=True)
class _Run:
    """What is the same for all studies of one call."""

    model: Model
    settings: pipeline.Settings
    out: Path | None
    several: bool
    by_folder: bool
    overwrite: bool
    probability: bool
    talks: bool
    # By result folder: a DICOM object that failed our own check, and all else was written.
    withheld: list[tuple[str, InternalError]] = field(default_factory=list)

    def analyze(self, asked: _Asked, taken: set[str]) -> dict[str, Any]:
        """Analyse one study and write its folder; return its result, with ``out``."""
        start = time.perf_counter()
        located = asked.located
        try:
            study = located.candidate.read(asked.options)
        except GliosightError as error:
            raise located.placed(error) from error
        study = replace(
            study,
            flags=(*located.flags, *study.flags),
            source={**study.source, "path": located.source},
        )
        read_ms = 1000 * (time.perf_counter() - start)
        folder = self._folder(study, located.source, taken)
        pipeline.check_out(folder, overwrite=self.overwrite)
        with progress_display(located.title, shown=self.talks) as tell:
            analysis = pipeline.analyze_study(
                study, self.model, self.settings, read_ms=read_ms, progress=tell
            )
            result = pipeline.write_analysis(
                analysis,
                folder,
                overwrite=self.overwrite,
                probability=self.probability,
                withheld=lambda error: self._withhold(folder, error),
            )
        return {"out": str(folder), **result}

    def _folder(self, study: Study, source: str, taken: set[str]) -> Path:
        """Where the result goes; a name that another study of this call has gets a number."""
        if self.out is not None and not self.several:
            return self.out
        name = source.replace("/", "_") if self.by_folder else study.study_id
        folder = pipeline.default_out(name)
        return (self.out or Path()) / numbered(folder.name, taken)

    def _withhold(self, folder: Path, error: InternalError) -> None:
        named = InternalError(error.what, where=f"{folder.name}/{error.where}", remedy=error.remedy)
        named.__cause__ = error
        self.withheld.append((str(folder), named))


def _analyze_all(asked: list[_Asked], failed: list[Failure], run: _Run) -> list[dict[str, Any]]:
    """Analyse one study after the other; of several, one that fails is noted in ``failed``."""
    results: list[dict[str, Any]] = []
    for study in asked:
        try:
            result = run.analyze(study, taken={folded(Path(done["out"]).name) for done in results})
        except GliosightError as error:
            if not run.several:
                raise
            error = explained(error) or error
            title, source = study.located.title, study.located.source
            placed = error if error.where else within(error, title)
            failed.append(Failure(title, source, placed))
            continue
        results.append(result)
        if run.talks:
            print_summary(result, result["out"])
    return results


def _close_several(
    results: list[dict[str, Any]],
    failed: list[Failure],
    withheld: list[tuple[str, InternalError]],
    out: Path,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the table of all studies, and say what became of them."""
    table = write_studies(results, failed, out, withheld)
    if as_json:
        named = [(failure.title, failure.error) for failure in failed]
        errors = [{"study": name, **error.as_object()} for name, error in (*named, *withheld)]
        print_json({"studies": results, "errors": errors})
        return
    for error in [failure.error for failure in failed]:
        print_error(error, as_json=False)
    if not quiet:
        total = len(results) + len(failed)
        print_text(f"{len(results)} of {total} studies analysed, table: {printable(str(table))}")


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
    given: Mapping[MrSequence, Path | None], studies: tuple[Path, ...]
) -> dict[MrSequence, str] | None:
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


def _asked(
    located: list[Located], options: Options, series: Mapping[MrSequence, str]
) -> list[_Asked]:
    """The studies, each with those of the series asked for that it has.

    Raises
    ------
    UsageError
        A series that none of the studies has.
    """
    if len(located) == 1:
        return [_Asked(located[0], replace(options, series=dict(series)))]
    asked = []
    for study in located:
        candidate = study.candidate
        fitting = {
            name: text
            for name, text in series.items()
            if isinstance(candidate, DicomCandidate) and candidate.has_series(text)
        }
        asked.append(_Asked(study, replace(options, series=fitting)))
    used = {name for study in asked for name in study.options.series}
    for name in series.keys() - used if asked else ():
        raise UsageError(
            f"--{name.value.lower()} {series[name][:64]} names no series of the {len(asked)} studies",
            remedy="see gliosight inspect",
        )
    return asked
