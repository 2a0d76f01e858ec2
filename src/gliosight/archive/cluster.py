"""Workers in a Ray cluster, each an actor with the model loaded (layer: archive; extra: scale).

An actor has one study at a time, so nothing piles up. What a lost node had in hand is done again by another
actor. All nodes see the studies and the results below the same paths.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import gliosight
from gliosight.archive.workers import START_SECONDS, Answer, Lost, Ready, Task, too_long
from gliosight.errors import GliosightError, InternalError, PeerError
from gliosight.extras import needs_extra

LOCAL = "local"
# A study whose worker died so often has failed: it may be the reason.
ATTEMPTS = 3
# So many workers in a row that die before their first study: the nodes cannot work.
STARTS = 3
CONNECT_SECONDS = 10.0
# What a client of HTTP/2 sends first: a preface, and a frame of settings that is empty (RFC 9113, 3.4). A
# frame's header has length (3 bytes), type, flags and stream (4 bytes).
FRAME_HEADER, HTTP2_SETTINGS = 9, b"\x04"
HTTP2_BEGINS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + HTTP2_SETTINGS + bytes(5)
# Of what Ray says in an error.
MOST_WORDS = 300
# Tasks and answers are small; Ray would take a third of the memory for what passes between processes.
STORE_BYTES = 100 * 2**20
# Ray would report its use to its makers, and print on stdout, where the answer goes, that a worker was lost.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}


@dataclass(frozen=True)
class Nodes:
    """A cluster.

    Parameters
    ----------
    count, cpus : int
        Nodes that are alive, and their cores.
    dashboard : str
        Address of Ray's page and of its job API, such as ``127.0.0.1:8265``; empty where there is none.
    """

    count: int
    cpus: int
    dashboard: str


@contextlib.contextmanager
def connected(address: str, cpus: int | None = None) -> Iterator[Nodes]:
    """A connection to a Ray cluster, or one on this machine for as long as this is open.

    Parameters
    ----------
    address : str
        Such as ``auto`` or ``10.0.0.1:6379``; ``local`` starts a cluster on this machine. Its page and its
        job API listen on 127.0.0.1 alone, and what runs commands asks for a token.
    cpus : int, optional
        Cores of the cluster that is started; by default those of this machine.

    Raises
    ------
    PeerError
        No cluster can be reached there, or its Ray or Python is another version.
    ModelError
        The extra ``scale`` is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        options |= {
            "num_cpus": cpus,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": STORE_BYTES,
        }
    _check_reachable(address)
    with needs_extra("scale", "--ray"):
        ray: Any = importlib.import_module("ray")
    try:
        context = ray.init(
            **options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True
        )
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
        ray.shutdown()
        raise _no_cluster(address, error) from error
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        total = int(ray.cluster_resources().get("CPU", 0))
        yield Nodes(len(alive), total, context.dashboard_url or "")
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens, or not Ray: Ray would try again and again, for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        place = (host.strip("[]"), int(port))
        with socket.create_connection(place, timeout=CONNECT_SECONDS) as peer:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            # Ray speaks gRPC, which is HTTP/2: its server answers with settings of its own.
            peer.sendall(HTTP2_BEGINS)
            if peer.makefile("rb").read(FRAME_HEADER)[3:4] != HTTP2_SETTINGS:
                raise ConnectionError("it is not the port of a Ray cluster (often 6379)")
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> PeerError:
    return PeerError(
        f"no Ray cluster can be used there: {_words(error)}",
        where=f"--ray {address}",
        remedy="check the address and the cluster's token (RAY_AUTH_TOKEN), or use --ray local",
    )


def _words(error: object) -> str:
    """What Ray or the system says, on one line and not too long."""
    what = " ".join(str(error).split())
    return what if len(what) < MOST_WORDS else f"{what[:MOST_WORDS]}..."


class _Actor:
    """A worker's life; Ray makes an actor of it."""

    def load(self, start: Callable[[], Callable[[Any], Any]], version: str, folder: str) -> Ready:
        """Load the model, where this node has what it needs."""
        where = f"node {platform.node()}"
        if gliosight.__version__ != version:
            what = f"gliosight is {gliosight.__version__} there, and {version} here"
            remedy = "install the same version on all nodes"
            return Ready(PeerError(what, where=where, remedy=remedy))
        try:
            os.chdir(folder)  # paths may be relative
        except OSError as error:
            what = f"the working folder {folder} is not there: {error.strerror}"
            remedy = "start in a folder that all nodes see"
            return Ready(PeerError(what, where=where, remedy=remedy))
        try:
            self._answer = start()
        except GliosightError as error:
            return Ready(error)
        return Ready()

    def answer(self, task: Any) -> Any:
        """Analyse a study."""
        return self._answer(task)


@dataclass
class _Worker(Generic[Task]):
    actor: Any
    deadline: float
    task: Task | None = None
    attempt: int = 0


class Cluster(Generic[Task, Answer]):
    """Actors that answer tasks, in the cluster that this process is `connected` to.

    Parameters
    ----------
    start : callable
        Called once in each actor; gives the function that answers a task.
    workers : int, optional
        Actors; by default as many as the cluster has cores for.
    seconds : float
        The longest that a task may take.
    threads : int
        Cores of each actor.
    most : int
        Number of tasks.
    again : callable
        Gives the task that is sent instead of one whose actor was lost: that may have been done.
    """

    def __init__(
        self,
        start: Callable[[], Callable[[Task], Answer]],
        workers: int | None,
        seconds: float,
        *,
        threads: int,
        most: int,
        again: Callable[[Task], Task],
    ) -> None:
        ray: Any = importlib.import_module("ray")
        self._ray, self._start, self._seconds, self._again = ray, start, seconds, again
        cores = int(ray.cluster_resources().get("CPU", 0))
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        if largest < threads:
            what = f"a worker of {threads} threads has room on no node: the largest has {largest} cores"
            raise PeerError(what, remedy="give fewer --threads")
        self._count = min(workers or max(1, cores // threads), most)
        # Else glibc keeps memory apart for each of the many short-lived threads, and a worker grows.
        environment = {"env_vars": {"MALLOC_ARENA_MAX": "2"}}
        self._actor: Any = ray.remote(num_cpus=threads, runtime_env=environment)(_Actor)
        self._working: dict[Any, _Worker[Task]] = {}  # by the answer that is to come
        self._idle: list[_Worker[Task]] = []
        self._lost: deque[tuple[Task, int]] = deque()  # with the number of the attempt to come
        self._starts = 0  # in a row that failed

    def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | Lost]]:
        """See `Workers`; a task whose actor is lost is answered by another one."""
        waiting = iter(tasks)
        more = self._count > 0
        try:
            while True:
                more = self._hand_out(waiting) and more
                busy = any(worker.task is not None for worker in self._working.values())
                if not (more or busy or self._lost):
                    return
                while (more or self._lost) and len(self._working) < self._count:
                    self._hire()
                yield from self._collect()
        finally:
            for worker in (*self._working.values(), *self._idle):
                self._ray.kill(worker.actor)

    def _hand_out(self, waiting: Iterator[Task]) -> bool:
        """Give each idle worker a task; whether there may be more."""
        while self._idle:
            task, attempt = self._lost.popleft() if self._lost else (next(waiting, None), 1)
            if task is None:
                return False
            worker = self._idle.pop()
            worker.task, worker.attempt = task, attempt
            worker.deadline = time.monotonic() + self._seconds
            self._working[worker.actor.answer.remote(task)] = worker
        return True

    def _hire(self) -> None:
        actor = self._actor.remote()
        loading = actor.load.remote(self._start, gliosight.__version__, str(Path.cwd()))
        self._working[loading] = _Worker(actor, time.monotonic() + START_SECONDS)

    def _collect(self) -> Iterator[tuple[Task, Answer | Lost]]:
        """Wait for an answer, a loss or a deadline."""
        left = min(worker.deadline for worker in self._working.values()) - time.monotonic()
        self._ray.wait(list(self._working), timeout=max(left, 0))
        # Also those that have come meanwhile: none of them is too late.
        ready, unready = self._ray.wait(
            list(self._working), num_returns=len(self._working), timeout=0
        )
        now = time.monotonic()  # what is done with an answer may take long
        late = [reference for reference in unready if now >= self._working[reference].deadline]
        for reference in ready:
            worker = self._working.pop(reference)
            task, worker.task = worker.task, None
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._ray.kill(worker.actor)
                lost = self._again_or_lost(task, worker.attempt, error)
                if task is not None and lost is not None:
                    yield task, lost
                continue
            self._idle.append(worker)
            if not isinstance(answer, Ready):
                assert task is not None  # noqa: S101 - for the type checker: it has answered
                yield task, answer
            elif answer.error is not None:
                raise answer.error
            else:
                self._starts = 0
        for reference in late:
            worker = self._working.pop(reference)
            self._ray.kill(worker.actor)
            if worker.task is not None:
                yield worker.task, too_long(self._seconds)
            elif not self._idle and all(other.task is None for other in self._working.values()):
                what = f"no worker has started in {START_SECONDS:g} s"
                remedy = "see with ray status whether the cluster has free cores"
                raise PeerError(what, remedy=remedy)

    def _again_or_lost(self, task: Task | None, attempt: int, error: Exception) -> Lost | None:
        """Have a task done again whose actor is lost, unless that was tried; without one, a start failed."""
        # What was raised there, without Ray's traceback.
        cause = getattr(error, "cause", None) or error
        what = f"{type(cause).__name__}: {_words(cause)}"
        if task is None:
            self._starts += 1
            if self._starts < STARTS:
                return None
            remedy = "install gliosight, and the same version of Python, on all nodes"
            raise PeerError(f"a worker cannot be started: {what}", remedy=remedy) from error
        if isinstance(error, self._ray.exceptions.RayTaskError):
            remedy = "a bug of ours: please report this line, and run the study alone with --debug"
            return Lost(InternalError(what, remedy=remedy))
        if attempt < ATTEMPTS:
            self._lost.append((self._again(task), attempt + 1))
            return None
        remedy = "there may be too little memory: use fewer --workers, or analyse it alone"
        lost = InternalError(
            f"its worker died, or its node was lost, {attempt} times", remedy=remedy
        )
        lost.__cause__ = error
        return Lost(lost)
