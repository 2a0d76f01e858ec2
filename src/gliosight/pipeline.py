"""The flow, from top to bottom: read, prepare, infer, decide, measure, write.

`analyze` is the whole tool as a function; the command line and everything else that runs it stay thin.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

import gliosight
from gliosight.analysis import Analysis, Provenance
from gliosight.decide import decide, not_assessed
from gliosight.errors import (
    InternalError,
    NothingReadableError,
    UnsupportedInputError,
    UsageError,
)
from gliosight.files import safe_name, whole_file
from gliosight.infer.engine import DEFAULT_ENGINE, ENGINES
from gliosight.infer.model import DEFAULT_MODEL, Model, load_model
from gliosight.maps import Maps
from gliosight.measure import measure
from gliosight.prepare import prepare
from gliosight.read import Limits, Options, Request, find, from_arrays, opened, read
from gliosight.read.candidates import DicomCandidate
from gliosight.study import Flag, MrSequence, Study
from gliosight.write.masks import mask_in, read_mask, write_mask, write_probability
from gliosight.write.overview import write_overview
from gliosight.write.report import write_report
from gliosight.write.result import (
    read_result,
    restore,
    result_of,
    write_findings,
    write_result,
)
from gliosight.write.staging import RESULT_FILE, check_out, staged

__all__ = [
    "Limits",
    "Request",
    "Settings",
    "analyze",
    "analyze_study",
    "check_out",
    "default_out",
    "export_result",
    "load_model",
    "read",
    "read_study",
    "write_analysis",
]

# One sequence in Python: a path, an array, or an image of nibabel or SimpleITK.
SequenceInput = Any
# Told the stage's name, how much is done and how much there is.
Progress = Callable[[str, int, int], None]


# Readers of the formats, and codecs of names in DICOM and zip.
_READERS = (
    *(
        f"gliosight.read.{name}"
        for name in ("nifti", "sidecar", "slices", "zipped", "images", "inspection")
    ),
    "gliosight.read.dicom.study",
    *("encodings.ascii", "encodings.cp437"),
)
_IMPORTING = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_IMPORTING.acquire,
        after_in_parent=_IMPORTING.release,
        after_in_child=_IMPORTING.release,
    )


@dataclass(frozen=True)
class Settings:
    """How a study is analysed; all of it goes into the record.

    Parameters
    ----------
    model : str or path
        Name of a shipped model, or the path of a model's card.
    engine : str
        Inference engine, see `gliosight.infer.engine.ENGINES`.
    threads : int, optional
        Threads of the engine; its own choice if not given.
    """

    model: str | Path = DEFAULT_MODEL
    engine: str = DEFAULT_ENGINE
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self.model, self.engine, self.threads)

    def load(self) -> Model:
        """Load the model these settings name."""
        return load_model(str(self.model), engine=self.engine, threads=self.threads)


def _check_settings(model: object, engine: object, threads: object) -> None:
    """Raise `UsageError` for what a caller in Python may put there by mistake."""
    if not isinstance(model, str | Path) or not str(model):
        raise UsageError(f"the model is {model!r}", remedy="give its name or the path of its card")
    if not isinstance(engine, str) or engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}", remedy=f"choose one of {', '.join(ENGINES)}")
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise UsageError(f"threads are {threads!r}", remedy="give a whole number, or None")
    if not 1 <= threads <= 1024:
        raise UsageError(f"{threads} threads", remedy="choose 1 to 1024")


def analyze(
    source: str | Path | Study | ArrayLike | Mapping[str, SequenceInput],
    *,
    affine: ArrayLike | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse one study.

    Parameters
    ----------
    source : path, Study, image, array, or mapping of these
        What `read_study` takes; or a study that was read.
    affine : (4, 4) array, optional
        For arrays, see `read_study`.
    settings : Settings, optional
    progress : callable, optional
        Told ``(stage, done, total)`` now and then.

    Returns
    -------
    Analysis

    Raises
    ------
    GliosightError
        See `gliosight.errors`.
    """
    if not isinstance(settings, Settings | None):
        raise UsageError(
            f"settings are a {type(settings).__name__}", remedy="give Settings(...) or None"
        )
    if progress is not None and not callable(progress):
        raise UsageError(
            f"progress is a {type(progress).__name__}",
            remedy="give a function of (stage, done, total), or None",
        )
    start = time.perf_counter()
    if isinstance(source, Study):
        if affine is not None:
            raise UsageError("an affine is given with a study", remedy="give it with arrays only")
        study = source
    else:
        study = read_study(source, affine=affine)
    read_ms = 1000 * (time.perf_counter() - start)
    settings = settings or Settings()
    return analyze_study(study, settings.load(), settings, read_ms=read_ms, progress=progress)


def read_study(
    source: str | Path | ArrayLike | Mapping[str, SequenceInput],
    *,
    affine: ArrayLike | None = None,
    limits: Limits | None = None,
) -> Study:
    """Read one study.

    Parameters
    ----------
    source : path, image, array, or mapping of these
        A file or a folder, see docs/input.md; or an image of nibabel or SimpleITK; or a ``(slices,
        rows, columns)`` array. One is FLAIR, several come by sequence: ``{"FLAIR": ..., "T1": ...,
        "T1C": ...}``. Images say where they lie; T1 and T1C on another grid are resampled, as those of
        NIfTI files are. Arrays are all on one grid.
    affine : (4, 4) array, optional
        For arrays: from ``(slice, row, column, 1)`` to RAS+ millimetres. Without it there are no
        millimetres, sides or volumes in ml. An affine of nibabel is for its own order of axes: give the
        image itself.
    limits : Limits, optional

    Raises
    ------
    GliosightError
        See `gliosight.errors`.
    """
    _load_readers()
    if not isinstance(limits, Limits | None):
        raise UsageError(f"limits are {limits!r}", remedy="give Limits(...), or None")
    limits = limits or Limits()
    sources = _by_sequence(source)
    kinds = {_kind(name, value) for name, value in sources.items()}
    if len(kinds) > 1:
        raise UsageError(
            f"the sequences are given as {' and '.join(sorted(kinds))}",
            remedy="give all as one kind",
        )
    (kind,) = kinds
    if affine is not None and kind != "arrays":
        raise UsageError(f"an affine is given with {kind}", remedy="give it with arrays only")
    flair, t1, t1c = (
        sources[MrSequence.FLAIR],
        sources.get(MrSequence.T1),
        sources.get(MrSequence.T1C),
    )
    if kind == "paths":
        if isinstance(source, Mapping):
            return read(
                Request(None, Path(flair), t1 and Path(t1), t1c and Path(t1c), limits=limits)
            )
        return read(Request(Path(flair), limits=limits))
    if kind == "images":
        from gliosight.read.images import from_images

        return from_images(sources, limits=limits)
    return from_arrays(flair, t1, t1c, affine=affine, limits=limits)


def _load_readers() -> None:
    """Import what reading imports when it is needed.

    A child that is forked while another thread imports a module could never import it.
    """
    with _IMPORTING:
        for name in _READERS:
            import_module(name)


def analyze_study(
    study: Study,
    model: Model,
    settings: Settings,
    *,
    read_ms: float = 0.0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse a study with a model that is loaded already: the way for many studies in a row."""
    card, engine = model.card, model.engine
    clock = time.perf_counter()
    timings = {"read": read_ms}

    given = prepare(study, card.input)
    if too_large := [flag for flag in given.flags if flag.code == "HEAD_TOO_LARGE"]:
        # Lengths that are wrong would mislead the network, and a reader more.
        study = replace(study.without_geometry(), flags=(*study.flags, *too_large))
        given = prepare(study, card.input)
    channels, odd = given.channels, given.flags
    clock = _lap(timings, "prepare", clock)
    if given.assessable:
        tell = None if progress is None else lambda done, total: progress("infer", done, total)
        maps = model.predict(given, tell)
        del given  # the stages to come need the room
        clock = _lap(timings, "infer", clock)
        decision = decide(maps, study.geometry, card.decision, card.input)
    else:
        maps = Maps(np.zeros(study.shape, np.float32), np.zeros(study.shape[0], np.float32))
        clock = _lap(timings, "infer", clock)
        decision = not_assessed(study.shape, card.decision, _reason(odd))
    clock = _lap(timings, "decide", clock)
    labels, findings = measure(
        study, decision.mask, maps.probability, origin=f"{study.study_id}/{card.sha256}"
    )
    _lap(timings, "measure", clock)
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
            "input": asdict(card.input),
            "decision": asdict(card.decision),
        },
        timings_ms=timings,
        environment={"python": platform.python_version(), "system": platform.system()},
    )
    flags = (*study.flags, *odd, *decision.flags)
    return Analysis(study, maps, decision, labels, findings, flags, provenance)


def write_analysis(
    analysis: Analysis,
    out: str | Path,
    *,
    overwrite: bool = False,
    probability: bool = False,
    withheld: Callable[[InternalError], None] | None = None,
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

    Raises
    ------
    CannotWriteError
        The folder is in the way or cannot be written; nothing is left behind.
    """
    start = time.perf_counter()
    errors: tuple[InternalError, ...] = ()
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
        write_overview(analysis, folder / "overview.png")
        others = {name: text for name, text in files.items() if name != "report.html"}
        write_report(analysis, folder / "report.html", files=others)
        timings = dict(analysis.provenance.timings_ms)
        timings["write"] = 1000 * (time.perf_counter() - start)
        timed = replace(analysis, provenance=replace(analysis.provenance, timings_ms=timings))
        result = result_of(timed, files)
        write_result(result, folder / RESULT_FILE)
    if withheld is not None:
        for error in errors:
            withheld(error)
    return result


def export_result(
    folder: Path,
    kind: Literal["seg", "sr"],
    source: Path,
    out: Path | None = None,
    *,
    mask: Path | None = None,
    limits: Limits | None = None,
) -> Path:
    """Write the DICOM segmentation or report of a result, or of a mask that was corrected since.

    Parameters
    ----------
    folder : Path
        What `write_analysis` wrote.
    kind : {"seg", "sr"}
        DICOM segmentation or DICOM structured report.
    source : Path
        Where the DICOM study lies; the images that were analysed are found by their UIDs.
    out : Path, optional
        File to write; it does not exist. By default it is named by the study, in the working folder.
    mask : Path, optional
        The corrected mask, see `gliosight.write.masks.read_mask`, instead of the result's.
    limits : Limits, optional

    Returns
    -------
    Path
        The file.

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
                study = whole if whole.source["frames"]["FLAIR"] == digest else study
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


def default_out(name: str) -> Path:
    """Where a result goes if no place is given: ``<name>-gliosight`` in the working folder."""
    return Path(f"{safe_name(name)}-gliosight")


def _by_sequence(source: Any) -> dict[MrSequence, Any]:
    """FLAIR first, then what else there is."""
    if not isinstance(source, Mapping):
        return {MrSequence.FLAIR: source}
    names: dict[str, Any] = {}
    for key, value in source.items():
        name = key.value if isinstance(key, MrSequence) else str(key).upper()
        if value is not None and name in names:
            raise UsageError(f"{name} is given twice", remedy="give each sequence once")
        if value is not None:
            names[name] = value
    if names.keys() - {one.value for one in MrSequence} or MrSequence.FLAIR.value not in names:
        raise UsageError(
            f"a study of {', '.join(sorted(names)) or 'nothing'}",
            remedy="name the sequences FLAIR, and T1 and T1C where there are",
        )
    return {sequence: names[sequence.value] for sequence in MrSequence if sequence.value in names}


def _kind(name: MrSequence, source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise UsageError(f"the path of {name.value} is empty", remedy="give a file or a folder")
        return "paths"
    if all(hasattr(source, one) for one in ("dataobj", "affine")) or hasattr(
        source, "GetDirection"
    ):
        return "images"
    if hasattr(source, "__array__"):
        return "arrays"
    raise UsageError(
        f"{name.value} is a {type(source).__name__}",
        remedy="give a path, a numpy array, or an image of nibabel or SimpleITK",
    )


def _reason(flags: tuple[Flag, ...]) -> str:
    return next(one.message for one in flags if one.code == "NO_CONTRAST")


def _lap(timings: dict[str, float], stage: str, since: float) -> float:
    now = time.perf_counter()
    timings[stage] = 1000 * (now - since)
    return now
