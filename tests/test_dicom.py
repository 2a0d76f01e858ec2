"""Quiet libraries: the process's settings come back, also where threads and forks meet."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import config

from gliosight.dicom import quietly


def state() -> tuple[object, ...]:
    """What of the process pydicom's reading could change."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    return (
        config.settings.reading_validation_mode,
        config.settings.writing_validation_mode,
        [(one.disabled, one.propagate, one.level, list(one.handlers)) for one in loggers],
        list(warnings.filters),
        warnings.showwarning,
    )


def test_several_threads_leave_the_process_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """Each waits until all others are about to begin; what is warned of and logged is nobody else's."""
    before, together = state(), threading.Barrier(4)

    def many(number: int) -> set[str]:
        together.wait(10)
        out = set()
        for _ in range(30):
            with quietly() as warned:
                assert config.settings.reading_validation_mode == config.IGNORE
                warnings.warn(f"warning {number}", stacklevel=1)
                logging.getLogger("pydicom").error("a patient's name")
            out.update(warned)
        return out

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            warned = list(threads.map(many, range(4)))
    finally:
        sys.setswitchinterval(switch)
    assert warned == [{f"warning {number}"} for number in range(4)]
    assert state() == before
    assert not caplog.records


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_until_the_settings_are_back() -> None:
    before, inside, leave = state(), threading.Event(), threading.Event()

    def busy() -> None:
        with quietly():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=busy)
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.2, leave.set).start()
    child = os.fork()
    if child == 0:
        with quietly():  # the lock is free, too
            pass
        os._exit(0 if state() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join(10)
