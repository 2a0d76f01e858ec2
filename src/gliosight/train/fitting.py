"""Fit the joint network (training bench; Lightning).

In: packed slices, the patients to learn from, a `Recipe`. Out: a folder with ``last.ckpt`` every few
minutes, ``run.json`` (settings, versions, patients' hashes) and, at the end, ``weights.safetensors``:
the moving average of the weights, which is what `gliosight.train.export` turns into ONNX.

Batch ``k`` of a run is drawn from (seed, k) and from nothing else. A run that is cut off and resumed
therefore sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
import warnings
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from gliosight.train.augmentation import Strength, draw_plan, make_batch
from gliosight.train.losses import joint_loss
from gliosight.train.networks.joint import JointNetwork
from gliosight.train.packed import PackedSlices


@dataclass(frozen=True)
class Recipe:
    """How a joint network is fitted; a preset file holds one of these."""

    epochs: int = 10
    slices_per_epoch: int = 2400
    batch: int = 16
    crop: int = 192
    free_weight: float = (
        0.45  # how often a tumour-free slice is drawn, against 1 for a tumour slice
    )
    encoder_rate: float = 4e-4
    rate: float = 1.5e-3
    weight_decay: float = 0.02
    warm_up: float = 0.15
    averaging: float = 0.998
    slice_weight: float = 0.3
    dropout: float = 0.2
    imagenet: bool = True
    seed: int = 1
    strength: Strength = field(default_factory=Strength)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.slices_per_epoch // self.batch


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that forgets its beginning.

    The decay grows with the number of averaged steps up to ``decay``, so that the average always looks
    back over about a ninth of the run: with a fixed decay a short run still carries the first steps.
    """

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged + (1 - now) * (current - averaged)

    return update


class JointFit(lightning.LightningModule):
    """One optimiser step per drawn batch, and the moving average of the weights."""

    def __init__(self, slices: PackedSlices, patients: Ordered[str], recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.slices = slices
        self.rows = slices.rows_of(patients)
        positive = slices.masks[self.rows].any(axis=(1, 2))
        weight = np.where(positive, 1.0, recipe.free_weight)
        self.chance = weight / weight.sum()
        self.network = JointNetwork(dropout=recipe.dropout)
        if recipe.imagenet:
            self.network.encoder.load_imagenet()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            self.network, avg_fn=moving_average(recipe.averaging), use_buffers=True
        )

    def training_step(self, _: Any, __: int) -> Tensor:
        """Draw batch ``global_step``, vary it, and return its loss."""
        recipe, step = self.recipe, self.global_step
        generator = np.random.default_rng((recipe.seed, step))
        torch.manual_seed(int(generator.integers(2**62)))
        chosen = generator.choice(self.rows, recipe.batch, p=self.chance)
        plan = draw_plan(self.slices, chosen, recipe.crop, recipe.strength, generator)
        images, masks = make_batch(self.slices, plan, recipe.crop)
        images, masks = images.to(self.device), masks.to(self.device)
        mask_logits, slice_logits = self.network(images)
        loss = joint_loss(mask_logits, slice_logits, masks, recipe.slice_weight)
        self.log("loss", loss, prog_bar=True)
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Follow each step of the weights with their moving average.

        Here, not at the batch's end: by then the checkpoint of this step has been written.
        """
        super().optimizer_step(*arguments, **options)
        self.averaged.update_parameters(self.network)

    def configure_optimizers(self) -> Any:
        """AdamW with one cycle; the encoder, which has learnt already, at a lower rate."""
        encoder = list(self.network.encoder.parameters())
        known = {id(one) for one in encoder}
        rest = [one for one in self.network.parameters() if id(one) not in known]
        recipe = self.recipe
        rates = [recipe.encoder_rate, recipe.rate]
        optimizer = torch.optim.AdamW(
            [{"params": encoder, "lr": rates[0]}, {"params": rest, "lr": rates[1]}],
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rates, total_steps=recipe.steps, pct_start=recipe.warm_up
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def train_dataloader(self) -> DataLoader[int]:
        """Only counts the steps: a batch is made in `training_step`."""
        return DataLoader(range(self.recipe.steps), batch_size=1)  # type: ignore[arg-type]


class Clock(Callback):
    """Says now and then how far and how fast, in slices per second."""

    def __init__(self, recipe: Recipe, every: int = 25) -> None:
        self.recipe, self.every = recipe, every
        self.start, self.first = time.monotonic(), -1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Print a line every so many steps, and stop where the loss is no number any more."""
        step = trainer.global_step
        loss = float(trainer.callback_metrics["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} at step {step}")
        if self.first < 0:
            self.start, self.first = time.monotonic(), step
        elif step % self.every == 0 or step == self.recipe.steps:
            rate = (step - self.first) * self.recipe.batch / (time.monotonic() - self.start)
            left = (self.recipe.steps - step) * self.recipe.batch / rate / 60
            print(
                f"step {step}/{self.recipe.steps}  loss {loss:.4f}  "
                f"{rate:.1f} slices/s  {left:.0f} min left",
                flush=True,
            )


def fit(
    slices: PackedSlices,
    patients: Ordered[str],
    recipe: Recipe,
    run: Path,
    *,
    initial: Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 50,
    threads: int | None = None,
) -> Path:
    """Fit, or go on fitting, and return the path of the averaged weights.

    Parameters
    ----------
    initial : Path, optional
        ``weights.safetensors`` of an earlier run to start from.
    resume : bool
        Continue from ``run/last.ckpt`` where there is one.
    checkpoint_every : int
        Steps between two checkpoints.
    threads : int, optional
        Threads of torch; its own choice if not given.

    Raises
    ------
    FloatingPointError
        The loss became NaN: the run keeps its last good checkpoint.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    run.mkdir(parents=True, exist_ok=True)
    module = JointFit(slices, patients, recipe)
    if initial is not None:
        module.network.load_state_dict(load_file(initial))
        module.averaged.module.load_state_dict(module.network.state_dict())
    record = {
        "recipe": asdict(recipe),
        "patients_sha256": sorted(hashlib.sha256(p.encode()).hexdigest() for p in patients),
        "initial": initial.name if initial else None,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    (run / "run.json").write_text(json.dumps(record, indent=2))
    last = run / "last.ckpt"
    # Every N steps, not minutes: Lightning's clock would tie the file to the machine's speed.
    keep = ModelCheckpoint(
        dirpath=run,
        filename="at-{step}",
        every_n_train_steps=checkpoint_every,
        save_last=True,
        save_top_k=1,
        enable_version_counter=False,
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=recipe.steps,
        max_epochs=-1,
        logger=False,
        callbacks=[keep, Clock(recipe)],
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=5.0,
        detect_anomaly=False,
    )
    with warnings.catch_warnings():
        # The loader only counts: which batch comes next is decided by the step, which is resumed.
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        trainer.fit(module, ckpt_path=last if resume and last.is_file() else None)
    weights = run / "weights.safetensors"
    averaged = {
        k: v.detach().contiguous().clone() for k, v in module.averaged.module.state_dict().items()
    }
    save_file(averaged, weights)
    return weights
