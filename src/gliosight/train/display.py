"""What a run shows while it goes on: printed lines, bars in a terminal, TensorBoard's log (training bench).

Apart from the loop, so that the loop shows training alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import rich.progress
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from gliosight.analysis import Progress
from gliosight.train.history import Epoch, table_lines, time_words

# Steps between two printed lines, and between two points of the log; lines while packing.
SAY_EVERY, LOG_EVERY, PACKING_LINES = 25, 10, 20


def is_main_process() -> bool:
    """Whether this process speaks for the run; the others that Fabric starts keep silent."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def say(line: str) -> None:
    """Print a line at once, from the process that speaks for the run."""
    if is_main_process():
        print(line, flush=True)


@contextmanager
def packing_progress(patients: int) -> Iterator[Progress]:
    """Give a function that is called with the patients packed so far: a bar, or lines without a terminal."""
    start = time.monotonic()
    with _bar("packing", patients) as move:

        def show(_: str, done: int, total: int) -> None:
            if move is not None:
                move(done)
            elif done in (1, total) or done % max(1, total // PACKING_LINES) == 0:
                left = (time.monotonic() - start) / done * (total - done) / 60
                say(f"packing: {done} of {total} patients, {left:.0f} min left")

        yield show


@contextmanager
def _bar(title: str, total: int, done: int = 0) -> Iterator[Callable[[int], None] | None]:
    if not (sys.stderr.isatty() and is_main_process()):
        yield None
        return
    # Lines on stdout come above the bar, except where stdout goes elsewhere.
    console, shared = Console(stderr=True), sys.stdout.isatty()
    with rich.progress.Progress(console=console, transient=True, redirect_stdout=shared) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda done: bar.update(task, completed=done)


class TrainingDisplay(ExitStack):
    """Shows steps and epochs, from the main process, until it is closed.

    Parameters
    ----------
    run : Path
    first, steps : int
        The step from which this start goes on, and that at which the run ends.
    batch : int
        For the speed, in slices per second.
    """

    def __init__(self, run: Path, first: int, steps: int, batch: int) -> None:
        super().__init__()
        self.first, self.steps, self.batch = first, steps, batch
        self.start, self.begun, self.epochs = 0.0, time.monotonic(), 0
        self.move = self.enter_context(_bar("training", steps, first))
        self.log: SummaryWriter | None = None
        if is_main_process():
            self.log = self.enter_context(SummaryWriter(str(run / "log"), purge_step=first))

    def show_step(self, step: int, loss: float) -> None:
        """Show the loss of a step, counted from 1."""
        if self.move is not None:
            self.move(step)
        if step % LOG_EVERY == 0:
            self._plot("loss", loss, step)
        timed = step - self.first - 1
        if timed == 0:  # the first step also chooses kernels
            self.start = time.monotonic()
        elif step % SAY_EVERY == 0 or timed == 4 or step == self.steps:
            rate = timed * self.batch / (time.monotonic() - self.start)
            left = (self.steps - step) * self.batch / rate / 60
            say(
                f"step {step}/{self.steps}  loss {loss:.4f}  {rate:.1f} slices/s  "
                f"{left:.0f} min left"
            )

    def say_validating(self, slices: int) -> None:
        """Say that the network is being measured, which takes as long as a part of the epoch."""
        say(f"validating on {slices:,} slices")

    def show_epoch(self, history: Sequence[Epoch]) -> None:
        """Show the last epoch, and how long the others may take."""
        row = history[-1]
        for name, value in asdict(row).items():
            if value is not None and name not in ("epoch", "step", "seconds"):
                self._plot(f"epoch/{name}", value, row.step)
        titles, *rows = table_lines(history)
        if not self.epochs:
            say(titles)
        self.epochs += 1
        left = (self.steps - row.step) * (time.monotonic() - self.begun) / (row.step - self.first)
        ending = f"   {time_words(left)} left" if row.step < self.steps else ""
        say(rows[-1] + ending)

    def _plot(self, name: str, value: float, step: int) -> None:
        if self.log is not None:
            self.log.add_scalar(name, value, step)
