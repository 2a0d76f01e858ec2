"""The flow, from top to bottom: read, prepare, infer, decide, measure, write.

`analyze` is the whole tool as a function; `analyze_job` is one study of many (see `gliosight.archive`).
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

import gliosight
from gliosight.analysis import (
    PREVALENCE_WORDS,
    PREVALENCES,
    Analysis,
    InputCheck,
    Progress,
    Provenance,
)
from gliosight.decide import decide, not_assessed
from gliosight.errors import (
    GliosightError,
    InternalError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
    explained,
    within,
)
from gliosight.files import safe_name, whole_file
from gliosight.gate import check_input, flags_of
from gliosight.infer.engine import CPU, DEFAULT_ENGINE, DEVICES, ENGINE_CHOICES
from gliosight.infer.model import DEFAULT_MODEL, Choice, Model, choose_model, load_model
from gliosight.infer.precision import AUTO, PRECISIONS
from gliosight.maps import Maps
from gliosight.measure import measure
from gliosight.notebook import ShownAnalysis, thumbnail
from gliosight.prepare import prepare
from gliosight.read import Limits, Options, Request, find, opened, read
from gliosight.read.candidates import DicomCandidate
from gliosight.read.from_python import SequenceInput, read_study
from gliosight.study import MrSequence, Study
from gliosight.write.masks import mask_in, read_mask, write_mask, write_probability
from gliosight.write.overview import write_overview
from gliosight.write.pictures import find_tissue
from gliosight.write.report import report_template, write_report
from gliosight.write.result import (
    read_result,
    restore,
    result_of,
    write_findings,
    write_result,
)
from gliosight.write.result_folder import RESULT_FILE, check_out, staged

__all__ = [
    "Limits",
    "Request",
    "Settings",
    "analyze",
    "analyze_job",
    "analyze_study",
    "check_out",
    "export_result",
    "read",
    "read_study",
    "write_analysis",
]


@dataclass(frozen=True)
class Settings:
    """How a study is analysed; all of it goes into the record.

    Parameters
    ----------
    model : str or path
        Name of a shipped model, or the path of a model's card.
    engine : str
        Inference engine, see `gliosight.infer.engine.ENGINES`; ``auto``: the first of them that is installed.
    threads : int, optional
        Threads of the engine; its own choice if not given.
    prevalence : float, optional
        Share of studies with tumour where the study comes from, within `gliosight.analysis.PREVALENCES`; by
        default that of the studies that the model's probability was fitted on.
    precision : {"auto", "float32", "bfloat16", "int8"}
        What the network computes in; ``auto``: what this processor is fastest in, of those that the model
        was checked in, see `gliosight.infer.precision`.
    device : {"cpu", "gpu"}
        What computes the network. A GPU needs a build of the engine that knows it.
    """

    model: str | Path = DEFAULT_MODEL
    engine: str = DEFAULT_ENGINE
    threads: int | None = None
    prevalence: float | None = None
    precision: str = AUTO
    device: str = CPU

    def __post_init__(self) -> None:
        prevalence: object = self.prevalence
        low, high = PREVALENCES
        if prevalence is not None and not (
            isinstance(prevalence, float) and low <= prevalence <= high
        ):
            raise UsageError(f"prevalence is {prevalence!r}", remedy=f"give {PREVALENCE_WORDS}")
        model: object = self.model  # a caller in Python may give anything
        engine: object = self.engine
        precision: object = self.precision
        device: object = self.device
        threads: object = self.threads
        if not isinstance(model, str | Path) or not str(model):
            raise UsageError(f"the model is {model!r}", remedy="give its name or its card's path")
        for name, value, choices in (
            ("engine", engine, ENGINE_CHOICES),
            ("precision", precision, PRECISIONS),
            ("device", device, DEVICES),
        ):
            if not isinstance(value, str) or value not in choices:
                remedy = f"choose one of {', '.join(choices)}"
                raise UsageError(f"no {name} {value!r}", remedy=remedy)
        if threads is not None and type(threads) is not int:
            raise UsageError(f"threads are {threads!r}", remedy="give a whole number, or None")
        if threads is not None and not 1 <= threads <= 1024:
            raise UsageError(f"{threads} threads", remedy="choose 1 to 1024")

    def choose(self) -> Choice:
        """Find the model these settings name; raises `UsageError` where the prevalence cannot be used."""
        choice = choose_model(
            str(self.model), engine=self.engine, precision=self.precision, device=self.device
        )
        if self.prevalence is not None and not choice.card.decision.prevalence:
            raise UsageError(
                f"the probability of {choice.card.name} is not calibrated",
                remedy="leave out the prevalence, or choose another model",
            )
        return choice

    def load(self) -> Model:
        """Load the model these settings name; raises as `choose`, and where a network cannot be run."""
        self.choose()
        return load_model(
            str(self.model),
            engine=self.engine,
            precision=self.precision,
            threads=self.threads,
            device=self.device,
        )


def analyze(
    source: str | Path | Study | ArrayLike | Mapping[str, SequenceInput],
    *,
    affine: ArrayLike | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ShownAnalysis:
    """Analyse one study.

    Parameters
    ----------
    source : path, Study, image, array, or mapping of these
        What `read_study` takes; or a study that was read.
    affine : (4, 4) array, optional
        For arrays, see `read_study`.
    settings : Settings, optional
    progress : callable, optional
        Called with ``(stage, done, total)`` when a stage begins, with ``done`` 0, and when it ends: ``read``
        (not where a study is given), ``prepare``, ``gate`` (whether the input is what the model knows),
        ``infer``, ``decide`` and ``measure``. The total of ``infer`` is its number of slices, and it is
        called after each batch of them, too; it is left out for a study that cannot be assessed. The total
        of the others is 1. `write_analysis` has the last stage, ``write``.

    Returns
    -------
    ShownAnalysis
        A `gliosight.analysis.Analysis` that a notebook shows, with a method ``plot``.

    Raises
    ------
    GliosightError
        See `gliosight.errors`.
    """
    if not isinstance(settings, Settings | None):
        raise UsageError(
            f"settings are of type {type(settings).__name__}", remedy="give Settings(...)"
        )
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is of type {type(progress).__name__}", remedy="give a function")
    timings: dict[str, float] = {"read": 0.0}
    settings = settings or Settings()
    if isinstance(source, Study) and affine is not None:
        raise UsageError("an affine is given with a study", remedy="give it with arrays only")
    with loading(settings) as model:
        if isinstance(source, Study):
            study = source
        else:
            with _timed(timings, "read", progress):
                study = read_study(source, affine=affine)
        return analyze_study(study, model, settings, read_ms=timings["read"], progress=progress)


@contextlib.contextmanager
def loading(settings: Settings) -> Iterator[Future[Model]]:
    """Load the settings' model while the first study is found and read: both take as long.

    What can be wrong with the settings and the card is raised at once. A model from elsewhere is loaded
    before anything is read: while it is tried out, the memory of the whole process has a limit.
    """
    if not settings.choose().shipped:
        ready: Future[Model] = Future()
        ready.set_result(settings.load())
        yield ready
        return
    # Waited for at the end: an interpreter that ends while an engine starts may crash.
    with ThreadPoolExecutor(1, thread_name_prefix="gliosight-model") as thread:
        yield thread.submit(settings.load)


def analyze_study(
    study: Study,
    model: Model | Future[Model],
    settings: Settings,
    *,
    read_ms: float = 0.0,
    progress: Progress | None = None,
) -> ShownAnalysis:
    """Analyse a study with a model that is loaded, or from `loading`: the way for many studies in a row."""
    # Preparing needs the card alone, and goes on while the networks are loaded.
    recipe = (model if isinstance(model, Model) else settings.choose()).card.input
    timings = {"read": read_ms}
    with _timed(timings, "prepare", progress):
        network_input = prepare(study, recipe)
        if too_large := [flag for flag in network_input.flags if flag.code == "HEAD_TOO_LARGE"]:
            # Lengths that are wrong would mislead the network, and a reader more.
            study = replace(study.without_geometry(), flags=(*study.flags, *too_large))
            network_input = prepare(study, recipe)
        channels, flags = network_input.channels, network_input.flags
        head = network_input.head
    if not isinstance(model, Model):
        model = model.result()
    card, engine = model.card, model.engine
    check = InputCheck(level="unchecked")
    with _timed(timings, "gate", progress):
        if network_input.assessable:
            check = check_input(study, network_input, card.input_check, model.classify)
            flags = (*flags, *flags_of(check))
    with _timed(timings, "infer"):
        if assessable := network_input.assessable and check.level != "refused":
            if progress is not None:
                progress("infer", 0, len(network_input))
            maps = model.predict(network_input, progress)
        else:
            maps = Maps(np.zeros(study.shape, np.float32), np.zeros(study.shape[0], np.float32))
        del network_input  # the stages to come need the room
    with _timed(timings, "decide", progress):
        if assessable:
            decision = decide(
                maps,
                study.geometry,
                card.decision,
                card.input,
                head=head,
                prevalence=settings.prevalence,
                distance=check.distance or 0.0,
            )
        else:
            no_contrast = [flag.message for flag in flags if flag.code == "NO_CONTRAST"]
            reason = check.reason or no_contrast[0]
            decision = not_assessed(study.shape, card.decision, reason)
    with _timed(timings, "measure", progress):
        labels, findings = measure(
            study,
            decision.mask,
            maps.probability,
            origin=f"{study.study_id}/{card.sha256}",
            head=head,
            lesion_probabilities=decision.lesion_probabilities,
        )
    provenance = Provenance(
        version=gliosight.__version__,
        model=card.name,
        model_sha256=card.sha256,
        engine=engine.name,
        precision=engine.precision,
        channels=channels,
        settings={
            "flip": card.flip,
            "threads": settings.threads,
            "prevalence": settings.prevalence,
            "input": asdict(card.input),
            "decision": asdict(card.decision),
            "input_check": None if card.input_check is None else asdict(card.input_check),
        },
        timings_ms=timings,
        environment={"python": platform.python_version(), "system": platform.system()},
    )
    flags = (*study.flags, *flags, *decision.flags)
    return ShownAnalysis(study, maps, decision, labels, findings, flags, provenance, check)


@contextlib.contextmanager
def _timed(
    timings: dict[str, float], stage: str, progress: Progress | None = None
) -> Iterator[None]:
    """Note how long a stage takes, and tell when it begins and when it has ended."""
    start = time.perf_counter()
    if progress is not None:
        progress(stage, 0, 1)
    yield
    if progress is not None:
        progress(stage, 1, 1)
    timings[stage] = 1000 * (time.perf_counter() - start)


def write_analysis(
    analysis: Analysis,
    out: str | Path,
    *,
    overwrite: bool = False,
    probability: bool = False,
    withheld: Callable[[InternalError], None] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a result folder, whole or not at all, and return what ``result.json`` says.

    Parameters
    ----------
    analysis : Analysis
    out : path
    overwrite, probability : bool
        Whether an earlier result is replaced; whether the probability map is written, too.
    withheld : callable, optional
        Called with our own failure for each DICOM object that could not be built or failed its check.
        All else is written, and the result has the flag ``SEG_NOT_WRITTEN`` or ``SR_NOT_WRITTEN``.
    progress : callable, optional
        Called with ``("write", 0, 1)`` at the beginning and ``("write", 1, 1)`` at the end.

    Raises
    ------
    CannotWriteError
        The folder is in the way or cannot be written; nothing is left behind.
    """
    start = time.perf_counter()
    errors: tuple[InternalError, ...] = ()
    if progress is not None:
        progress("write", 0, 1)
    with staged(Path(out), overwrite=overwrite) as folder:
        files = {
            RESULT_FILE: "all results, for machines",
            "report.html": "the report, for people",
            "overview.png": "all slices with the outline",
            "findings.csv": "one row per finding",
        }
        files |= write_mask(analysis, folder)
        if probability:
            files |= write_probability(analysis, folder)
        if analysis.study.kind == "dicom":
            from gliosight.write.dicom import write_dicom

            written, flags, errors = write_dicom(analysis, folder, probability=probability)
            files |= written
            analysis = replace(analysis, flags=(*analysis.flags, *flags))
        write_findings(analysis, folder / "findings.csv")
        others = {name: text for name, text in files.items() if name != "report.html"}
        tissue = find_tissue(analysis.study.flair.values)
        # Pillow lets go of the interpreter while it draws and compresses.
        with ThreadPoolExecutor(1) as beside:
            overview = beside.submit(
                write_overview, analysis, folder / "overview.png", tissue=tissue
            )
            write_report(analysis, folder / "report.html", files=others, tissue=tissue)
            overview.result()
        timings = dict(analysis.provenance.timings_ms)
        timings["write"] = 1000 * (time.perf_counter() - start)
        timed = replace(analysis, provenance=replace(analysis.provenance, timings_ms=timings))
        result = result_of(timed, files)
        write_result(result, folder / RESULT_FILE)
    if progress is not None:
        progress("write", 1, 1)
    for error in errors:
        if withheld is not None:
            withheld(error)
    return result


@dataclass(frozen=True)
class Job:
    """A study to analyse.

    Parameters
    ----------
    title, source : str
        Its name for people, and where it lies.
    name : str
        What its result folder is called after.
    read : callable
        Reads it.
    """

    title: str
    source: str
    name: str
    read: Callable[[], Study]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: what ``result.json`` says, with the folder as ``out``, and what failed.

    ``errors`` beside a result are those of single DICOM objects, which were not written. ``thumbnail`` is a
    JPEG of the slice to look at first.
    """

    title: str
    source: str
    result: dict[str, Any] | None = None
    errors: tuple[GliosightError, ...] = ()
    thumbnail: bytes | None = None


# Gives the progress of one study, by its title; entered and left for each.
Display = Callable[[str], contextlib.AbstractContextManager[Progress | None]]


def analyze_job(
    job: Job,
    model: Model | Future[Model],
    settings: Settings,
    folder: Path,
    *,
    overwrite: bool = False,
    probability: bool = False,
    pictured: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Read, analyse and write one study; ``pictured`` asks for a thumbnail.

    Raises
    ------
    GliosightError
        It cannot be read, analysed or written.
    """
    timings: dict[str, float] = {}
    errors: list[InternalError] = []
    with ThreadPoolExecutor(1, thread_name_prefix="gliosight-import") as beside:
        with _timed(timings, "read", progress):
            study = job.read()
        beside.submit(_import_writers, study.kind)
        check_out(folder, overwrite=overwrite)
        analysis = analyze_study(study, model, settings, read_ms=timings["read"], progress=progress)
    result = write_analysis(
        analysis,
        folder,
        overwrite=overwrite,
        probability=probability,
        withheld=errors.append,
        progress=progress,
    )
    placed = tuple(within(error, f"{folder.name}/{error.where}") for error in errors)
    for copy, error in zip(placed, errors, strict=True):
        copy.__cause__ = error
    picture = thumbnail(analysis) if pictured else None
    return Outcome(job.title, job.source, {"out": str(folder), **result}, placed, picture)


def failed(job: Job, caught: GliosightError) -> Outcome:
    """The outcome of a job that failed."""
    error = explained(caught) or caught
    # A copy: the error itself holds on to all that was read.
    return Outcome(job.title, job.source, errors=(within(error, error.where or job.title),))


def _import_writers(kind: str) -> None:
    """Import what writes the results, while the network computes without the interpreter.

    What goes wrong here goes wrong again where it is needed, and is reported there.
    """
    report_template()
    if kind == "dicom":
        import gliosight.write.dicom  # noqa: F401


def export_result(
    folder: Path,
    kind: Literal["seg", "sr"],
    source: Path,
    out: Path | None = None,
    *,
    mask: Path | None = None,
    limits: Limits | None = None,
) -> Path:
    """Write the DICOM segmentation or report of a result folder, and return the file.

    Parameters
    ----------
    source : Path
        Where the DICOM study lies; the images that were analysed are found by their UIDs.
    out : Path, optional
        File to write; it does not exist. By default it is named by the study, in the working folder.
    mask : Path, optional
        A corrected mask, see `gliosight.write.masks.read_mask`, instead of the result's.

    Raises
    ------
    UnsupportedInputError
        The study has no DICOM identity, was not assessed, or is not at ``source``.
    CannotWriteError, DamagedInputError, NothingReadableError
    """
    from gliosight.read.dicom.study import without_pixels
    from gliosight.write.dicom import write_report, write_segmentation

    result = read_result(folder)
    if result["source"]["kind"] != "dicom":
        raise UnsupportedInputError(
            f"the study was read from {result['source']['kind']}, which has no identity for DICOM",
            where=folder.name or str(folder),
            remedy="analyse the DICOM study itself",
        )
    limits = limits or Limits()
    digest = result["source"]["series"]["FLAIR"]["frames_digest"]
    for path, option in ((source, "--source"), (mask, "--mask")):
        if path is not None and not path.exists():
            raise NothingReadableError(
                "no such file or folder", where=path.name or str(path), remedy=f"check {option}"
            )
    with opened(source, limits) as inside:
        candidates = {
            candidate.study.study_id: candidate
            for candidate in find(inside, limits)
            if isinstance(candidate, DicomCandidate)
        }
        candidate = candidates.get(result["study_id"])
        if candidate is None:
            raise UnsupportedInputError(
                f"study {result['study_id']} is not among the {len(candidates)} DICOM studies there",
                where=source.name or str(source),
                remedy="give the folder that the result was made from",
            )
        study = without_pixels(candidate.study, digest)
        # The sides of corrected findings need the head: pixels, where the rules take the same series again.
        if mask is not None:
            with contextlib.suppress(UnsupportedInputError):
                whole = candidate.read(Options(limits))
                study = (
                    whole
                    if whole.source.series[MrSequence.FLAIR].frames_digest == digest
                    else study
                )
    values = read_mask(mask or mask_in(folder), study)
    unknown = np.broadcast_to(np.float32(np.nan), study.shape)
    origin = f"{study.study_id}/{result['provenance']['model']['sha256']}"
    labels, findings = measure(study, values, unknown, origin=origin)
    analysis = restore(result, study, values, labels, findings, corrected=mask is not None)
    name = "segmentation" if kind == "seg" else "report"
    out = out or Path(f"{safe_name(study.study_id)}-{name}.dcm")
    with whole_file(out) as partial:
        (write_segmentation if kind == "seg" else write_report)(analysis, partial)
    return out
