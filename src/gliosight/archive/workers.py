"""Who answers the tasks of a run: this process, others on this machine, or a cluster (layer: archive)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gliosight.errors import GliosightError, LimitExceededError

# On this machine, unless more are asked for; one takes 300 to 900 MB (docs/archive.md).
MOST_WORKERS = 4

# The longest that the start of a worker may take, with the loading of the model.
START_SECONDS = 600.0

Task = TypeVar("Task")
Answer = TypeVar("Answer")
AnswerOut = TypeVar("AnswerOut", covariant=True)


@dataclass(frozen=True)
class Lost:
    """What became of a study whose worker died, or which took too long."""

    error: GliosightError


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the model; or why it cannot work."""

    error: GliosightError | None = None


class Workers(Protocol[Task, AnswerOut]):
    """Answers tasks."""

    def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, AnswerOut | Lost]]:
        """Each task with its answer, in the order in which they come; a task is taken when one can begin.

        Raises
        ------
        GliosightError
            No worker can begin: the model cannot be loaded.
        """


class Here(Generic[Task, Answer]):
    """The process that runs, one task after the other."""

    def __init__(self, answer: Callable[[Task], Answer]) -> None:
        self._answer = answer

    def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | Lost]]:
        """See `Workers`."""
        for task in tasks:
            yield task, self._answer(task)


def cores() -> int:
    """The cores that this process may use: those of its job, where a scheduler divides a machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS do not say
        return os.cpu_count() or 1


def too_long(seconds: float) -> Lost:
    """What is said of a study that takes longer than it may."""
    return Lost(
        LimitExceededError(
            f"not done after {seconds:g} s",
            remedy="give it more time with --timeout, or analyse it alone",
        )
    )
