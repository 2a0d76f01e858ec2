"""Worker processes, each with the model loaded: one that dies or hangs is replaced (layer: archive).

Studies are handed out one by one, so nothing piles up. A worker ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic

from gliosight.archive.workers import START_SECONDS, Answer, Lost, Ready, Task, too_long
from gliosight.errors import GliosightError, InternalError

# How long a worker that should end is waited for (seconds).
PATIENCE = 5.0


@dataclass
class _Worker(Generic[Task]):
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    deadline: float = 0.0


class Pool(Generic[Task, Answer]):
    """Processes that answer tasks.

    Parameters
    ----------
    start : callable
        Called once in each worker; gives the function that answers a task. Both are sent to it, so they are
        functions of a module, or partials of such.
    workers : int
    seconds : float
        The longest that a task may take.
    """

    def __init__(
        self, start: Callable[[], Callable[[Task], Answer]], workers: int, seconds: float
    ) -> None:
        # A process that has an engine's threads must not be forked.
        self._context = multiprocessing.get_context("spawn")
        self._start, self._count, self._seconds = start, workers, seconds
        self._workers: list[_Worker[Task]] = []

    def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | Lost]]:
        """See `Workers`."""
        waiting = iter(tasks)
        try:
            while True:
                self._hand_out(waiting)
                if not (busy := [worker for worker in self._workers if worker.task is not None]):
                    return
                yield from self._collect(busy)
        finally:
            self._end()

    def _hand_out(self, waiting: Iterator[Task]) -> None:
        """Give each idle worker a task, as long as there are any."""
        for worker in [worker for worker in self._workers if worker.task is None]:
            if not worker.process.is_alive():  # killed meanwhile, with nothing to do
                self._dismiss(worker)
        idle = [worker for worker in self._workers if worker.task is None]
        while len(self._workers) < self._count or idle:
            try:
                task = next(waiting)
            except StopIteration:
                return
            limit = self._seconds if idle else START_SECONDS  # until it is ready
            worker = idle.pop() if idle else self._hire()
            worker.task, worker.deadline = task, time.monotonic() + limit
            # A worker that has died since is found by its process.
            with contextlib.suppress(OSError):
                worker.connection.send(task)

    def _collect(self, busy: list[_Worker[Task]]) -> Iterator[tuple[Task, Answer | Lost]]:
        """Wait for an answer, a death or a deadline."""
        by_handle: dict[Any, _Worker[Task]] = {}
        for worker in busy:
            by_handle[worker.connection] = by_handle[worker.process.sentinel] = worker
        left = min(worker.deadline for worker in busy) - time.monotonic()
        ready = {id(by_handle[handle]) for handle in wait(list(by_handle), max(left, 0))}
        for worker in busy:
            task = worker.task
            assert task is not None  # noqa: S101 - for the type checker: it is busy
            if id(worker) in ready or worker.connection.poll():
                answer = self._answer_of(worker)
            elif time.monotonic() >= worker.deadline:
                self._dismiss(worker)
                answer = too_long(self._seconds)
            else:
                continue
            if isinstance(answer, Ready):  # its task, sent before, begins now
                worker.deadline = time.monotonic() + self._seconds
                continue
            worker.task = None
            yield task, answer

    def _answer_of(self, worker: _Worker[Task]) -> Answer | Lost | Ready:
        """What a worker sent; the worker is dismissed where it died."""
        try:
            answer: Answer | Lost | Ready = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(PATIENCE)
            code = worker.process.exitcode
            self._dismiss(worker)
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            return Lost(
                InternalError(
                    f"its process ended with {how}",
                    remedy="there may be too little memory: use fewer --workers, or analyse it alone",
                )
            )
        if isinstance(answer, Ready) and answer.error is not None:
            raise answer.error
        return answer

    def _hire(self) -> _Worker[Task]:
        # Else glibc keeps memory apart for each of the many short-lived threads, and a worker grows.
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._start), daemon=True)
        process.start()
        theirs.close()  # so that the worker's death is the end of the pipe
        worker: _Worker[Task] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker[Task]) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)

    def _end(self) -> None:
        """End the workers: idle ones by the end of their pipe, busy ones at once."""
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


def _work(connection: Connection, start: Callable[[], Callable[[Any], Any]]) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        answer = start()
    except GliosightError as error:
        connection.send(Ready(error))
        return
    connection.send(Ready())
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(answer(task))


def _end_with(parent: Any) -> None:
    """End this process when its parent has ended, however that was: nobody waits for the answer."""
    parent.join()
    os._exit(1)
