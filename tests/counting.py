"""Work counted instead of timed: a machine that is busy executes as many instructions as an idle one."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def steps(run: Callable[[], object]) -> int:
    """How many instructions of the interpreter ``run`` executes; those inside numpy count as one.

    It is run once before, so that imports and caches do not count.
    """
    run()
    count = 0

    def look(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """Fail if more than ``most`` bytes are allocated inside, numpy's arrays included."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / 2**20:.1f} MiB were allocated"
