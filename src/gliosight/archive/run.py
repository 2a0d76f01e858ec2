"""Many studies into one folder: each once, gone on with after a stop (layer: archive)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gliosight
from gliosight.analysis import Progress
from gliosight.archive.entries import FAILED, Entry, entry_of, ranked
from gliosight.archive.ledger import FILE, FOLDER, Ledger, Record, State, opened_ledger
from gliosight.archive.page import write_page
from gliosight.archive.pool import Pool
from gliosight.archive.table import check_table, write_studies
from gliosight.archive.workers import MOST_WORKERS, Here, Lost, Workers, cores
from gliosight.errors import (
    CannotWriteError,
    GliosightError,
    InternalError,
    UnsupportedInputError,
    causes,
    within,
)
from gliosight.files import absolute, folded, numbered, recover, safe_name
from gliosight.infer.model import Model
from gliosight.pipeline import Display, Job, Outcome, Settings, analyze_job, failed
from gliosight.write.result_folder import RESULT_FILE, refuse_single

PAGE = "index.html"
# The page and the table are written anew after so long (seconds), so that one can look meanwhile; later where
# that takes long, so that it takes a fiftieth of the run at most.
LOOK_AGAIN, SHARE = 60.0, 50
CHUNK = 2**20


@dataclass(frozen=True)
class Study:
    """A study of an archive.

    Parameters
    ----------
    job : Job
    paths : tuple of Path
        The files that it is made of.
    place : Path
        Where it lies, absolute; of a study in a zip the zip's path with the one inside.
    tag : str
        Tells it from other studies at that place.
    """

    job: Job
    paths: tuple[Path, ...]
    place: Path
    tag: str = ""

    @property
    def key(self) -> str:
        """What the ledger knows it by; bytes of a name that are no UTF-8 are made visible."""
        return f"{self.place}\n{self.tag}".encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Plan:
    """How the studies of an archive are analysed.

    Parameters
    ----------
    settings : Settings
    probability : bool
        Whether the probability map is written, too.
    workers : int, optional
        Processes, each with the model loaded; by default one for each core, at most `MOST_WORKERS` on this
        machine, any number in a cluster.
    seconds : float
        The longest that a study may take.
    overwrite, retry_failed : bool
        Whether finished studies, or those that failed, are analysed again.
    ray : bool
        Whether the workers are those of the Ray cluster that this process is connected to, see
        `gliosight.archive.cluster.connected`.
    reading : tuple of str
        What is asked for in all studies, such as a series: with another choice the results are others.
    """

    settings: Settings
    probability: bool = False
    workers: int | None = None
    seconds: float = 1800.0
    overwrite: bool = False
    retry_failed: bool = False
    ray: bool = False
    reading: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Digest of all that changes a result."""
        choice = self.settings.choose()
        parts = (
            gliosight.__version__,
            choice.card.sha256,
            choice.engine,
            choice.precision,
            choice.device,
        )
        words = (*parts, self.settings.prevalence, self.probability, self.reading)
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class InProcess:
    """Studies are analysed in this process, one after the other.

    Parameters
    ----------
    model : Model, or Future of it
        From `gliosight.pipeline.loading`.
    display : callable
        Gives the progress of a study by its title.
    """

    model: Model | Future[Model]
    display: Display


@dataclass(frozen=True)
class Tally:
    """How far a run is."""

    total: int
    kept: int  # finished or failed in an earlier run
    done: int  # in this run, the failed ones included
    failed: int  # of all
    seconds: float  # of this run

    @property
    def rate(self) -> float:
        """Studies a second in this run."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go; not known before the first study is done."""
        waiting = self.total - self.kept - self.done
        return waiting / self.rate if self.rate else None


@dataclass(frozen=True)
class _Task:
    """What a worker is sent."""

    index: int
    study: Study
    folder: Path
    replaces: bool
    signature: str  # of its files, before they are read


@dataclass(frozen=True)
class _Done:
    """What a worker sends back."""

    outcome: Outcome
    digest: str
    disk: CannotWriteError | None = None  # the disk is full or gone, for all studies


def run_archive(
    studies: Sequence[Study],
    lost: Iterable[Outcome],
    out: Path,
    plan: Plan,
    tell: Callable[[Tally], object] = lambda _: None,
    *,
    finished: Callable[[Study, Entry, Outcome], object] = lambda *_: None,
    here: InProcess | None = None,
) -> list[Entry]:
    """Analyse the studies that are not done yet, and write ``studies.csv`` and ``index.html``.

    Parameters
    ----------
    studies : sequence of Study
    lost : iterable of Outcome
        What could not be found or opened, for the table.
    out : Path
        Gets a result folder for each study.
    plan : Plan
    tell : callable
        Called with how far the run is: at its beginning and after each study.
    finished : callable
        Called with each study of this run and what became of it, when the ledger knows it.
    here : InProcess, optional
        By default workers of their own analyse the studies, as the plan says.

    Returns
    -------
    list of Entry
        First those of ``studies``, in their order; then those of earlier runs; last what was lost.

    Raises
    ------
    CannotWriteError
        Another run is working there; results of another model or of other settings are there; a table or a
        page that gliosight did not write is in the way.
    ModelError
        The model cannot be loaded.
    PeerError
        The cluster cannot do the work.
    """
    out = absolute(out)  # a worker may work in another folder
    _check_out(out)
    recipe = plan.recipe()
    with opened_ledger(out) as ledger:
        known = {record.key: record for record in ledger.records()}
        kept, todo = _divide(studies, known, out, plan, recipe)
        if plan.overwrite:  # a run without it goes on, should this one be stopped
            ledger.write_all(
                replace(known[key], state="waiting")
                for study in studies
                if (key := study.key) in known
            )
        held = {study.key for study in studies} | {record.key for record in kept.values()}
        for key in [key for key in known if key not in held]:
            # What is not found this time stays in the table: it may lie below another path.
            if not _is_there(known[key].place) and known[key].state != "done":
                ledger.drop(key)
            elif known[key].state != "running":
                kept[len(studies) + len(kept)] = known[key]
        taken = {folded(record.folder) for record in known.values()}
        tasks = []
        for index in todo:
            study, record = studies[index], known.get(studies[index].key)
            folder = record.folder if record else ""
            if not folder:
                folder = numbered(f"{safe_name(study.job.name)}-gliosight", taken)
                taken.add(folded(folder))
            # What the ledger knows is ours to replace.
            replaces = plan.overwrite or record is not None
            tasks.append(_Task(index, study, out / folder, replaces, _signature(study.paths)))
        missing = [entry_of(outcome, out) for outcome in lost]
        run = _Run(ledger, kept, tasks, missing, out, recipe)
        return run.analyse(_workers(plan, len(tasks), here), tell, finished)


def _workers(plan: Plan, count: int, here: InProcess | None) -> Workers[_Task, _Done]:
    """Who analyses so many studies."""
    if here is not None:
        return Here(partial(_answer_here, here, plan))
    if plan.ray:
        from gliosight.archive.cluster import Cluster  # ray is in an extra

        threads = plan.settings.threads or 1
        start = partial(_start, plan, threads)
        again = partial(replace, replaces=True)
        return Cluster(start, plan.workers, plan.seconds, threads=threads, most=count, again=again)
    workers = min(plan.workers or min(MOST_WORKERS, cores()), count)
    share = max(1, cores() // workers) if workers > 1 else None
    return Pool(partial(_start, plan, plan.settings.threads or share), workers, plan.seconds)


def _divide(
    studies: Sequence[Study], known: Mapping[str, Record], out: Path, plan: Plan, recipe: str
) -> tuple[dict[int, Record], list[int]]:
    """The studies whose records still hold, and those to analyse, by their numbers."""
    replaced = {study.key for study in studies} if plan.overwrite else set[str]()
    _check_recipe((record for record in known.values() if record.key not in replaced), recipe)
    moved: dict[tuple[str, str], Record] = {}
    for earlier in known.values():
        if earlier.state == "done" and earlier.recipe == recipe and not _is_there(earlier.place):
            for sign in (earlier.signature, earlier.digest):
                moved[_tag(earlier.key), sign] = earlier
    kept: dict[int, Record] = {}
    todo = []
    for index, study in enumerate(studies):
        record: Record | None = known.get(study.key)
        if record is None and moved:
            tag = _tag(study.key)
            record = moved.get((tag, _signature(study.paths)))
            record = record or moved.get((tag, _digest(study.paths)))
        if holds := record and _still_holds(record, study, out, plan):
            kept[index] = holds
        else:
            todo.append(index)
    return kept, todo


def once(studies: Iterable[Study]) -> list[Study]:
    """The studies without those that were found a second time, such as below a second root."""
    first: dict[str, Study] = {}
    for study in studies:
        first.setdefault(study.key, study)
    return list(first.values())


def unfinished(studies: Sequence[Study], out: Path, plan: Plan) -> list[Study]:
    """Those of the studies that `run_archive` would analyse; raises as it does, and writes no results."""
    if not (out / FOLDER / FILE).is_file():
        return list(studies)
    with opened_ledger(out) as ledger:
        known = {record.key: record for record in ledger.records()}
    _, todo = _divide(studies, known, out, plan, plan.recipe())
    return [studies[index] for index in todo]


class _Run:
    """One run over an archive; whatever ends it, the ledger knows what is done."""

    def __init__(
        self,
        ledger: Ledger,
        records: dict[int, Record],
        tasks: list[_Task],
        missing: list[Entry],
        out: Path,
        recipe: str,
    ) -> None:
        self._ledger, self._records, self._tasks = ledger, records, tasks
        self._missing, self._out, self._recipe = missing, out, recipe
        self._running: dict[int, _Task] = {}
        self._kept, self._done = len(records) + len(missing), 0
        self._failed = len(missing) + sum(one.state == "failed" for one in records.values())
        self._start = time.monotonic()

    def analyse(
        self,
        workers: Workers[_Task, _Done],
        tell: Callable[[Tally], object],
        finished: Callable[[Study, Entry, Outcome], object],
    ) -> list[Entry]:
        """Have the tasks done, and write the table and the page, also now and then meanwhile."""
        look_again = self._start + LOOK_AGAIN
        tell(self._tally())
        try:
            for task, answer in workers.answers(self._in_flight()):
                entry, outcome = self._take(task, answer)
                finished(task.study, entry, outcome)
                tell(self._tally())
                if (begun := time.monotonic()) > look_again:
                    self._write()
                    ended = time.monotonic()
                    look_again = ended + max(LOOK_AGAIN, SHARE * (ended - begun))
        finally:
            for task in self._running.values():
                _tidy(task.folder)
            if self._kept or self._done or not self._tasks:  # else nothing is known yet
                self._write()
        if self._done < len(self._tasks):
            remedy = "a bug of ours: please report this line, and run the command again"
            raise InternalError(f"{len(self._tasks) - self._done} studies got lost", remedy=remedy)
        return self._entries()

    def _in_flight(self) -> Iterator[_Task]:
        """Each task, noted when it is handed out."""
        for task in self._tasks:
            job = task.study.job
            self._note(task, "running", Entry(job.name, job.source, "running", task.folder.name))
            self._running[task.index] = task
            yield task

    def _take(self, task: _Task, answer: _Done | Lost) -> tuple[Entry, Outcome]:
        """Note what became of a task."""
        digest = ""
        del self._running[task.index]
        if isinstance(answer, Lost):
            _tidy(task.folder)
            outcome = failed(task.study.job, answer.error)
        elif answer.disk is not None:
            raise answer.disk
        else:
            outcome, digest = answer.outcome, answer.digest
        entry = entry_of(outcome, self._out)
        state: State = "failed" if entry.status == FAILED else "done"
        self._records[task.index] = self._note(task, state, entry, digest)
        self._done += 1
        self._failed += state == "failed"
        return entry, outcome

    def _note(self, task: _Task, state: State, entry: Entry, digest: str = "") -> Record:
        study, folder = task.study, task.folder.name
        record = Record(
            study.key,
            _text(study.place),
            state,
            self._recipe,
            task.signature,
            digest,
            folder,
            entry,
        )
        self._ledger.write(record)
        return record

    def _tally(self) -> Tally:
        total = self._kept + len(self._tasks)
        seconds = time.monotonic() - self._start
        return Tally(total, self._kept, self._done, self._failed, seconds)

    def _entries(self) -> list[Entry]:
        found = [self._records[index].entry for index in sorted(self._records)]
        return ranked([*found, *self._missing])

    def _write(self) -> None:
        """Write the table and the page of what is known."""
        entries = self._entries()
        write_studies(entries, self._out)
        title, unfinished = self._out.resolve().name, len(self._tasks) - self._done
        write_page(entries, self._out / PAGE, title=title, unfinished=unfinished)


def _tidy(folder: Path) -> None:
    """Remove what a worker that was killed has left beside a study's result folder."""
    with contextlib.suppress(CannotWriteError, OSError):
        recover(folder)


def _still_holds(record: Record, study: Study, out: Path, plan: Plan) -> Record | None:
    """The record of an earlier run, where nothing has to be done again."""
    if plan.overwrite or record.state in ("running", "waiting"):
        return None
    if record.state == "failed" and plan.retry_failed:
        return None
    if record.state == "done" and not (out / record.folder / RESULT_FILE).is_file():
        return None
    return record if _is_of(record, study) else None


def _is_of(record: Record, study: Study) -> bool:
    """Whether the files of a study are still those of its record; else their content decides."""
    if _signature(study.paths) == record.signature:
        return True
    return bool(record.digest) and _digest(study.paths) == record.digest


def _tag(key: str) -> str:
    return key.rpartition("\n")[2]


def _is_there(place: str) -> bool:
    """Whether a study's file, folder or zip still exists."""
    path = Path(place)
    return os.path.lexists(path) or any(above.is_file() for above in path.parents)


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()


def _check_out(out: Path) -> None:
    """Refuse a folder that cannot be written, a single study's, or one with a table or page of others."""
    check_table(out)
    refuse_single(out, "choose another -o")
    try:
        head = (out / PAGE).read_bytes()[:4096]
    except OSError:
        return
    if b"gliosight" not in head:
        what = "a file that gliosight did not write is in the way"
        raise CannotWriteError(what, where=PAGE, remedy="choose another -o")


def _check_recipe(records: Iterable[Record], recipe: str) -> None:
    if any(record.state == "done" and record.recipe != recipe for record in records):
        raise CannotWriteError(
            "the results there were made with another model, version or other settings",
            remedy="choose another -o, or analyse all of them again with --overwrite",
        )


def _signature(paths: Iterable[Path]) -> str:
    """Digest of names, sizes and times."""
    digest = hashlib.sha256()
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            words = (path.name, status.st_size, status.st_mtime_ns)
            digest.update(repr(words).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _digest(paths: Iterable[Path]) -> str:
    """Digest of the content; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _start(plan: Plan, threads: int | None) -> Callable[[_Task], _Done]:
    """Load the model in a worker."""
    return partial(_answer, replace(plan.settings, threads=threads).load(), plan)


def _answer_here(here: InProcess, plan: Plan, task: _Task) -> _Done:
    """Analyse one study in this process."""
    with here.display(task.study.job.title) as progress:
        return _answer(here.model, plan, task, progress)


def _answer(
    model: Model | Future[Model], plan: Plan, task: _Task, progress: Progress | None = None
) -> _Done:
    """Analyse one study."""
    job = task.study.job
    # Before its pixels are read: should the files change meanwhile, the next run sees it.
    digest = _digest(task.study.paths)
    if plan.ray and not all(map(os.path.lexists, task.study.paths)):
        unseen = UnsupportedInputError(
            "a node of the cluster does not see the study's files",
            remedy="keep studies, and TMPDIR for zips, where all nodes see them below the same path",
        )
        return _Done(failed(job, unseen), digest)
    try:
        outcome = analyze_job(
            job,
            model,
            plan.settings,
            task.folder,
            overwrite=task.replaces,
            probability=plan.probability,
            pictured=True,
            progress=progress,
        )
    except GliosightError as error:
        if isinstance(model, Future) and model.done() and error is model.exception():
            raise
        disk = error if isinstance(error, CannotWriteError) and _is_of_disk(error) else None
        return _Done(failed(job, error), digest, disk)
    except Exception as error:
        if isinstance(model, Future):  # `gliosight.cli` reports it, with --debug where it happened
            raise
        ours = InternalError(
            f"{type(error).__name__}: {error}",
            remedy="a bug of ours: please report this line, and run the study alone with --debug",
        )
        return _Done(Outcome(job.title, job.source, errors=(within(ours, job.title),)), "")
    return _Done(outcome, digest)


def _is_of_disk(error: Exception) -> bool:
    """Whether nothing can be written for want of room, rights of the file system, or a disk."""
    numbers = {cause.errno for cause in causes(error) if isinstance(cause, OSError)}
    return bool(numbers & {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
