"""Checkpoints of a run: ``last.ckpt`` to go on from, ``best.ckpt`` to export (training bench; Lightning)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from gliosight.train.run import write_file

LAST, BEST = "last.ckpt", "best.ckpt"
VALIDATION_LOSS = "validation_loss"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its name first, so that it appears whole or not at all.

    Lightning's own way loses a ctrl-C that comes while its file object is taken down (Python discards what
    is raised there), and moves the file from the system's temporary folder, which copies it bit by bit
    where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one checkpoint.

        Raises
        ------
        OSError
            Nothing was written; a checkpoint of this name stays as it was.
        """
        if storage_options is not None:
            raise TypeError("a checkpoint is a plain file: it has no storage options")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(Path(path), lambda part: part.write_bytes(buffer.getbuffer()))


class KeepBest(Callback):
    """Keeps the weights with the lowest validation loss as ``best.ckpt``, and that it was the lowest.

    Not Lightning's own keeper: two of those in one run fight over the name of the last checkpoint. That
    one is written anew after a validation: a run that goes on from before it does not make it again.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.best = float("inf")

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Save when it became better."""
        loss = float(trainer.callback_metrics[VALIDATION_LOSS])
        if loss < self.best:
            self.best = loss
            trainer.save_checkpoint(self.run / BEST, weights_only=True)
        trainer.save_checkpoint(self.run / LAST)

    def state_dict(self) -> dict[str, Any]:
        """For resuming."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self.best = state_dict["best"]
