"""What a run says while it goes on (training bench; Lightning)."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar


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
        elif step % self.every == 0 or step == self.steps:
            rate = (step - self.first) * self.batch / (time.monotonic() - self.start)
            left = (self.steps - step) * self.batch / rate / 60
            self._tell(
                f"step {step}/{self.steps}  loss {loss:.4f}  {rate:.1f} slices/s  "
                f"{left:.0f} min left"
            )

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Tell how the epoch ended."""
        epoch = trainer.global_step // self.steps_per_epoch
        loss = float(trainer.callback_metrics["validation_loss"])
        self._tell(f"epoch {epoch}  validation loss {loss:.4f}")

    @staticmethod
    def _tell(line: str) -> None:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(line, flush=True)


def hush() -> None:
    """Keep Lightning's advice and the exporter's remarks to ourselves; their warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def bar() -> TQDMProgressBar:
    """The progress bar a person sees in a terminal."""
    return TQDMProgressBar(refresh_rate=5)
