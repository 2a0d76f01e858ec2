"""What a run says while it goes on (training bench; Lightning)."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

# How often `Lines` says how far it is.
TIMES = 20
# Steps after the first one until `Clock` speaks for the first time.
EARLY = 4


def say(line: str) -> None:
    """Print a line at once, from the process that speaks for the run."""
    if os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0":
        print(line, flush=True)


class Lines:
    """Says now and then how far something is, with the time left, where no bar can be shown.

    Parameters
    ----------
    what, unit : str
        Such as ``"packing"`` and ``"patients"``.
    """

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.start = time.monotonic()

    def __call__(self, _: str, done: int, total: int) -> None:
        """Called after each, with how many are done of how many."""
        if done in (1, total) or done % max(1, total // TIMES) == 0:
            left = (time.monotonic() - self.start) / done * (total - done) / 60
            say(f"{self.what}: {done} of {total} {self.unit}, {left:.0f} min left")


class Clock(Callback):
    """Says now and then how far and how fast, in slices per second; stops where the loss is no number.

    Parameters
    ----------
    batch, steps_per_epoch, steps : int
    validated : bool
        Whether there is a validation loss to tell after each epoch.
    every : int
        Steps between two lines.
    """

    def __init__(
        self, batch: int, steps_per_epoch: int, steps: int, *, validated: bool, every: int = 25
    ) -> None:
        self.batch, self.steps_per_epoch, self.steps = batch, steps_per_epoch, steps
        self.validated, self.every = validated, every
        self.start, self.first = time.monotonic(), -1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Print a line every so many steps.

        Raises
        ------
        FloatingPointError
            Before the checkpoint of this step would be written.
        """
        step = trainer.global_step
        loss = float(trainer.callback_metrics["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} at step {step}")
        if self.first < 0:
            self.start, self.first = time.monotonic(), step
        elif step % self.every == 0 or step in (self.first + EARLY, self.steps):
            rate = (step - self.first) * self.batch / (time.monotonic() - self.start)
            left = (self.steps - step) * self.batch / rate / 60
            say(
                f"step {step}/{self.steps}  loss {loss:.4f}  {rate:.1f} slices/s  "
                f"{left:.0f} min left"
            )

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Tell how the epoch ended."""
        epoch = trainer.global_step // self.steps_per_epoch
        loss = float(trainer.callback_metrics["validation_loss"])
        say(f"epoch {epoch}  validation loss {loss:.4f}")


def hush() -> None:
    """Keep Lightning's advice and the exporter's remarks to ourselves; their warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def bar() -> TQDMProgressBar:
    """The progress bar a person sees in a terminal."""
    return TQDMProgressBar(refresh_rate=5)
