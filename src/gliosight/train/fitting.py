"""Fit a network (training bench; Lightning).

In: packed slices, the rows of each part, a `Recipe`. Out: a run's folder (see `gliosight.train.run`) with
``last.ckpt`` every few steps, ``best.ckpt`` where there is a validation part, ``log/`` for TensorBoard and,
at the end, ``weights.safetensors``.

Batch ``k`` of a run is drawn from (seed, k) and from nothing else. A run that is cut off and resumed
therefore sees what the uninterrupted one would have seen, and ends with the same weights. To Lightning the
whole run is one epoch, so that it can be resumed at any step; the recipe's epochs are counted here.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from gliosight.errors import DamagedInputError, UsageError
from gliosight.train.checkpoints import BEST, LAST, VALIDATION_LOSS, KeepBest, WholeFiles
from gliosight.train.inputs import input_of
from gliosight.train.packed import PackedSlices
from gliosight.train.precision import choose_precision
from gliosight.train.processes import (
    process_count,
    process_rank,
    share_batch_norms,
    sum_across,
)
from gliosight.train.progress import Clock, bar, say
from gliosight.train.recipe import Recipe
from gliosight.train.run import WEIGHTS, write_file
from gliosight.train.sampling import Sampler, sampler_of
from gliosight.train.tasks import Task, make_task


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Parameters
    ----------
    devices, nodes : int
        Processes on this machine, and machines; all of them share each batch.
    threads : int, optional
        Threads of torch in each process; its own choice if not given.
    checkpoint_every : int
        Steps between two checkpoints.
    """

    devices: int = 1
    nodes: int = 1
    threads: int | None = None
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Fitted:
    """What came of a run.

    Parameters
    ----------
    weights : Path
    steps : int
        Steps that were made; early stopping may end a run before its last.
    best_loss : float or None
        The validation loss of the weights that were kept; ``None`` without a validation part.
    started_from, precision : str
    seconds : float
        Of this start alone, where a run was resumed.
    """

    weights: Path
    steps: int
    best_loss: float | None
    started_from: str
    precision: str
    seconds: float


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that forgets its beginning.

    The decay grows with the number of averaged steps up to ``decay``, so that the average always looks
    back over about a ninth of the run: with a fixed decay a short run still carries the first steps.
    """

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged + (1 - now) * (current - averaged)

    return update


class Fit(lightning.LightningModule):
    """One optimiser step per drawn batch, and the moving average of the weights.

    Parameters
    ----------
    task : Task
    slices : PackedSlices
    sampler : Sampler
    validation : (n,) int array
        Rows that are scored after each epoch; empty for none.
    """

    def __init__(
        self, task: Task, slices: PackedSlices, sampler: Sampler, validation: NDArray[np.int64]
    ) -> None:
        super().__init__()
        self.task = task
        self.recipe = task.recipe
        self.sampler = sampler
        self.validation = validation
        self.counted: list[tuple[Tensor, Tensor]] = []
        self.input = input_of(slices, task.recipe)
        self.network = task.network
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged: AveragedModel | None = None
        if self.recipe.averaging:
            self.averaged = AveragedModel(
                self.network, avg_fn=moving_average(self.recipe.averaging), use_buffers=True
            )
            self.averaged.requires_grad_(requires_grad=False)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.epochs * self.sampler.steps_per_epoch

    @property
    def final(self) -> nn.Module:
        """The network whose weights are kept."""
        if self.averaged is None:
            return self.network
        module: nn.Module = self.averaged.module
        return module

    def training_step(self, _: Any, __: int) -> Tensor:
        """Draw batch ``global_step``, vary it, and return its loss."""
        rows, generator = self.sampler.draw(self.global_step)
        torch.manual_seed(int(generator.integers(2**62)) + process_rank())
        part = slice(process_rank(), None, process_count())
        # Images are made in float32 whatever format the network is trained in.
        with torch.autocast("cpu", enabled=False):
            images, masks = self.input.varied(rows, generator, part)
        answer = self.network(images.to(self.device))
        loss = self.task.loss(answer, masks.to(self.device), sum_across)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, _: Any, number: int) -> None:
        """Count one batch of the validation part, every process all of it."""
        size = self.recipe.batch
        rows = self.validation[number * size : (number + 1) * size]
        images, masks = self.input.plain(rows)
        answer = self.final(images.to(self.device))
        mean, sums = self.task.parts(answer, masks.to(self.device))
        self.counted.append((len(rows) * mean.double(), sums.double()))

    def on_validation_epoch_end(self) -> None:
        """The loss of the validation part as a whole.

        Not the mean over batches: the Dice of a batch without tumour is that of nothing, and how many such
        batches there are depends on the order of the slices.
        """
        means, sums = zip(*self.counted, strict=True)
        self.counted.clear()
        overlap = self.task.overlap(torch.stack(sums).sum(dim=0))
        loss = torch.stack(means).sum() / len(self.validation) + overlap
        self.log(VALIDATION_LOSS, loss.float(), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the validation loss beside the weights it belongs to."""
        loss = self.trainer.callback_metrics.get(VALIDATION_LOSS)
        checkpoint[VALIDATION_LOSS] = None if loss is None else float(loss)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Follow each step of the weights with their moving average.

        Here, not at the batch's end: by then the checkpoint of this step has been written.
        """
        super().optimizer_step(*arguments, **options)
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the gradient's norm here: Lightning refuses to beside a fused optimiser."""
        if self.recipe.optimizer.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimizer.clip)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser; an encoder that has learnt already has a rate of its own."""
        recipe = self.recipe.optimizer
        encoder = self.task.encoder
        own = {id(one) for one in encoder.parameters()} if encoder is not None else set()
        learning = [one for one in self.network.parameters() if one.requires_grad]
        groups = [
            {"params": [one for one in learning if id(one) in own], "lr": recipe.encoder_lr},
            {"params": [one for one in learning if id(one) not in own], "lr": recipe.lr},
        ]
        if not recipe.encoder_lr:
            groups = [{"params": learning, "lr": recipe.lr}]
        groups = [group for group in groups if group["params"]]
        kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
        # Fused: else every small tensor is a parallel loop of its own, which a busy machine stalls.
        optimizer = kind(groups, weight_decay=recipe.weight_decay, eps=recipe.epsilon, fused=True)
        if recipe.schedule == "constant":
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in groups],  # type: ignore[arg-type]
            total_steps=self.steps,
            pct_start=recipe.warm_up,
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def train_dataloader(self) -> DataLoader[int]:
        """Only counts the steps: a batch is made in `training_step`."""
        return DataLoader(range(self.steps), batch_size=1)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[int] | list[Any]:
        """Only counts the batches."""
        if not len(self.validation):
            return []
        count = -(-len(self.validation) // self.recipe.batch)
        return DataLoader(range(count), batch_size=1)  # type: ignore[arg-type]


def fit(
    slices: PackedSlices,
    parts: Mapping[str, NDArray[np.int64]],
    recipe: Recipe,
    run: Path,
    *,
    initial: Path | None = None,
    resume: bool = False,
    machine: Machine | None = None,
) -> Fitted:
    """Fit, or go on fitting.

    Parameters
    ----------
    parts : mapping of str to int array
        Rows of ``train``, and of ``validation`` where the recipe stops early.
    initial : Path, optional
        ``weights.safetensors`` to start from.
    resume : bool
        Continue from ``run/last.ckpt`` where there is one.

    Raises
    ------
    FloatingPointError
        The loss became NaN: the run keeps its last good checkpoint.
    DamagedInputError
        ``initial`` does not fit the recipe's network.
    UsageError
        Nothing to learn from or to validate on, or a batch that the processes cannot share.
    OSError
        The run's folder cannot be written; its last checkpoint stays.
    KeyboardInterrupt
    """
    machine = machine or Machine()
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    run.mkdir(parents=True, exist_ok=True)
    task = make_task(recipe)
    if initial is not None:
        load_weights(task.network, initial)
    validation = _validation(slices, parts, recipe)
    sampler = sampler_of(slices, parts["train"], recipe)
    if machine.devices * machine.nodes > 1:
        _check_shares(sampler, machine)
        share_batch_norms(task.network)
    module = Fit(task, slices, sampler, validation)
    last = run / LAST
    precision = _precision(module, run, resume=last.is_file())
    trainer = _trainer(module, run, machine, precision)
    start = time.monotonic()
    say(f"training: {module.steps:,} steps of {recipe.batch} slices")
    with warnings.catch_warnings():
        # The loader only counts: which batch comes next is decided by the step, which is resumed.
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        try:
            with _denormals_flushed():
                trainer.fit(module, ckpt_path=last if resume and last.is_file() else None)
        except SystemExit as error:  # Lightning's answer to ctrl-C
            raise KeyboardInterrupt from error
    best_loss = None
    if len(validation):
        checkpoint = torch.load(run / BEST, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
        best_loss = float(checkpoint[VALIDATION_LOSS])
    if trainer.is_global_zero:
        save_weights(module.final, run / WEIGHTS)
    started_from = task.started_from if initial is None else initial.name
    seconds = time.monotonic() - start
    return Fitted(run / WEIGHTS, trainer.global_step, best_loss, started_from, precision, seconds)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers below 1e-38 count as nothing meanwhile: a CPU takes many times as long over them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def load_weights(network: nn.Module, path: Path) -> None:
    """Start from the weights of an earlier run.

    Raises
    ------
    DamagedInputError
    """
    try:
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value
             for name, value in load_file(path).items()}
        )  # fmt: skip
    except Exception as error:
        raise DamagedInputError(
            "these weights are not of this network",
            where=path.name,
            remedy="give the weights.safetensors of a run with the same preset",
        ) from error


def save_weights(network: nn.Module, path: Path) -> None:
    """Write weights as safetensors; a full disk leaves no half file.

    Raises
    ------
    OSError
    """
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    try:
        write_file(path, lambda part: save_file(state, part))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def is_main_process() -> bool:
    """Whether this process speaks for the run; the others that Lightning starts keep silent."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def _trainer(module: Fit, run: Path, machine: Machine, precision: str) -> lightning.Trainer:
    recipe, sampler = module.recipe, module.sampler
    validated = len(module.validation) > 0
    # Every N steps, not minutes: Lightning's clock would tie the file to the machine's speed.
    callbacks: list[Callback] = [
        ModelCheckpoint(
            dirpath=run,
            filename=Path(LAST).stem,
            every_n_train_steps=machine.checkpoint_every,
            save_top_k=1,
            enable_version_counter=False,
        ),
        Clock(recipe.batch, sampler.steps_per_epoch, module.steps, validated=validated),
    ]
    if validated:
        # In this order: what is kept after a validation knows how patient the run still is.
        callbacks.append(EarlyStopping(VALIDATION_LOSS, patience=recipe.patience, mode="min"))
        callbacks.append(KeepBest(run))
    shown = sys.stderr.isatty() and is_main_process()
    return lightning.Trainer(
        accelerator="auto",
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy="auto" if machine.devices * machine.nodes == 1 else "ddp",
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        max_steps=module.steps,
        max_epochs=-1,
        val_check_interval=sampler.steps_per_epoch if validated else None,
        check_val_every_n_epoch=None if validated else 1,
        limit_val_batches=1.0 if validated else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(run, name="", version="log"),
        log_every_n_steps=min(10, module.steps),
        plugins=[WholeFiles()],
        callbacks=[*callbacks, bar()] if shown else callbacks,
        enable_progress_bar=shown,
        enable_model_summary=False,
    )


def _precision(module: Fit, run: Path, *, resume: bool) -> str:
    """The recipe's, or what is fastest here; a resumed run goes on with what it began with."""
    kept = run / "precision.txt"
    if resume and kept.is_file():
        return kept.read_text("utf-8").split()[0]
    chosen = module.recipe.precision
    speeds: dict[str, float] = {}
    if chosen == "auto":
        rows, _ = module.sampler.draw(0)
        images, _ = module.input.plain(rows)
        say("precision: timing float32 and bfloat16 on three batches each")
        chosen, speeds = choose_precision(module.network, images)
    if is_main_process():
        told = "".join(f"  {name} {speed:.1f} slices/s" for name, speed in speeds.items())
        kept.write_text(f"{chosen}{told}\n", encoding="utf-8")
        say(f"precision: {chosen}{told}")
    return chosen


def _validation(
    slices: PackedSlices, parts: Mapping[str, NDArray[np.int64]], recipe: Recipe
) -> NDArray[np.int64]:
    rows = parts.get("validation", np.empty(0, dtype=np.int64))
    if not recipe.patience:
        return rows[:0]
    if recipe.sampling.slices == "tumour":
        rows = rows[slices.masks[rows].any(axis=(1, 2))]
    if not len(rows):
        raise UsageError(
            f"patience is {recipe.patience}, and there is nothing to validate on",
            remedy="split with a validation part, or set patience=0",
        )
    return rows


def _check_shares(sampler: Sampler, machine: Machine) -> None:
    count = machine.devices * machine.nodes
    uneven = sampler.chance is None and sampler.per_epoch % sampler.batch
    if sampler.batch % count or (uneven and (sampler.per_epoch % sampler.batch) % count):
        raise UsageError(
            f"a batch of {sampler.batch} slices, the last of an epoch perhaps smaller, cannot be "
            f"shared evenly by {count} processes",
            remedy="set batch and sampling.per_epoch to multiples of their number",
        )
