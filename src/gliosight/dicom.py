"""What reading and writing share of DICOM: keeping its libraries quiet (domain layer)."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config

_LOGGERS = ("pydicom", "highdicom")
# Warning filters, loggers and pydicom's settings belong to the whole process: one thread at a time.
_TURN = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A fork waits until the settings are back, so a child never inherits them changed.
    os.register_at_fork(
        before=_TURN.acquire, after_in_parent=_TURN.release, after_in_child=_TURN.release
    )


@contextmanager
def quietly() -> Iterator[list[str]]:
    """Keep pydicom and highdicom from warning and logging: what they quote may be a patient's name.

    Values are not validated meanwhile. The process's settings come back at the end, also where several
    threads do this at once: they wait for each other.

    Yields
    ------
    list of str
        The warnings; complete after the block.
    """
    messages: list[str] = []
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    handler = logging.NullHandler()  # else Python prints records that no handler takes
    with _TURN, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mode = config.settings.reading_validation_mode
        before = [(logger.disabled, logger.propagate) for logger in loggers]
        try:
            config.settings.reading_validation_mode = config.IGNORE
            for logger in loggers:
                logger.disabled, logger.propagate = True, False
                logger.addHandler(handler)
            yield messages
        finally:
            config.settings.reading_validation_mode = mode
            for logger, (disabled, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.disabled, logger.propagate = disabled, propagate
            messages += [str(warning.message) for warning in caught]
