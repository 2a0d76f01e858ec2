"""Workers that answer, fail, die, hang, or cannot start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gliosight.archive.pool import Pool
from gliosight.archive.workers import Lost, cores
from gliosight.errors import GliosightError, InternalError, LimitExceededError, ModelError


def _start(folder: Path) -> Callable[[str], str]:
    (folder / f"started-{os.getpid()}").touch()
    return partial(_answer, folder)


def _answer(folder: Path, task: str) -> str:
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "leave":
        os._exit(3)
    if task == "hang":
        time.sleep(600)
    (folder / f"done-{task}").touch()
    return f"{task} by {os.getpid()}"


def _refuse() -> Callable[[str], str]:
    raise ModelError("no such model", where="x.json", remedy="choose another")


def _pool(folder: Path, workers: int = 2, seconds: float = 60) -> Pool[str, str]:
    return Pool(partial(_start, folder), workers, seconds)


def test_every_task_is_answered_once_by_few_processes(tmp_path: Path) -> None:
    tasks = [f"{number}" for number in range(12)]
    answers = dict(_pool(tmp_path).answers(tasks))
    assert sorted(answers) == sorted(tasks)
    assert len(list(tmp_path.glob("started-*"))) == 2
    for task, answer in answers.items():
        assert isinstance(answer, str)
        assert answer.startswith(f"{task} by ")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_worker_that_dies_is_replaced_and_its_task_marked(tmp_path: Path) -> None:
    answers = dict(_pool(tmp_path).answers(["a", "die", "b", "leave", "c", "d"]))
    lost = {task: answer.error for task, answer in answers.items() if isinstance(answer, Lost)}
    assert set(lost) == {"die", "leave"}
    assert all(isinstance(error, InternalError) for error in lost.values())
    assert ("signal 9" in lost["die"].what, "exit code 3" in lost["leave"].what) == (True, True)
    assert {path.name for path in tmp_path.glob("done-*")} == {f"done-{name}" for name in "abcd"}


def test_a_worker_that_hangs_is_replaced_and_its_task_marked(tmp_path: Path) -> None:
    answers = dict(_pool(tmp_path, workers=1, seconds=10).answers(["a", "hang", "b"]))
    lost = answers["hang"]
    assert isinstance(lost, Lost)
    assert isinstance(lost.error, LimitExceededError)
    assert "--timeout" in lost.error.line()
    assert isinstance(answers["b"], str)


def test_tasks_are_handed_out_when_a_worker_is_free(tmp_path: Path) -> None:
    taken = []

    def tasks() -> object:
        for number in range(6):
            taken.append(number)
            yield f"{number}"

    answers = _pool(tmp_path).answers(tasks())  # type: ignore[arg-type]
    next(answers)
    assert len(taken) == 2
    answers.close()  # type: ignore[attr-defined]


def test_a_model_that_cannot_be_loaded_ends_the_run() -> None:
    pool: Pool[str, str] = Pool(_refuse, 2, 60)
    with pytest.raises(ModelError, match=r"no such model \(x.json\): choose another"):
        list(pool.answers(["a", "b"]))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has it")
def test_the_cores_are_those_of_the_job() -> None:
    before = os.sched_getaffinity(0)
    assert cores() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_errors_go_from_process_to_process_as_they_are() -> None:
    import pickle

    for kind in (ModelError, LimitExceededError, InternalError):
        error = kind("what", where="where", remedy="remedy")
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(again), again.as_object()) == (kind, error.as_object())
        assert isinstance(again, GliosightError)
