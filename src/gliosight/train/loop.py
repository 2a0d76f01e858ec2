"""The training loop (training bench; Lightning Fabric).

In: packed slices, the rows of each part, a `Recipe`. Out, in a run's folder (see `gliosight.train.run`):
``last.ckpt`` every few steps, ``best.ckpt`` where there is a validation part, ``history.csv`` after every
epoch, ``log/`` for TensorBoard and, at the end, ``weights.safetensors``.

Batch ``k`` of a run depends on (seed, k) only. A run that is cut off and resumed therefore sees what the
uninterrupted one would have seen, and ends with the same weights.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gliosight.errors import DamagedInputError, UsageError
from gliosight.files import whole_file
from gliosight.train.augmentation import Batches
from gliosight.train.devices import choose_precision, share_batch_norms
from gliosight.train.display import TrainingDisplay, say
from gliosight.train.history import (
    Epoch,
    Validation,
    auc_of,
    count_right,
    ratios,
    read_history,
    slice_scores,
    table_lines,
    write_history,
)
from gliosight.train.losses import batch_loss, loss_parts, overlap_loss
from gliosight.train.networks import build_network, load_weights, save_weights, start_network
from gliosight.train.packed import PackedSlices
from gliosight.train.recipe import Recipe
from gliosight.train.record import WEIGHTS, Machine
from gliosight.train.sampling import Sampler, sampler_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric

LAST, BEST = "last.ckpt", "best.ckpt"
# Of what a checkpoint holds; those of gliosight's first bench have no such number.
FORMAT = 2
# What a checkpoint holds beside weights and the state of the optimiser.
COUNTERS = ("step", "precision", "best_loss", "epochs_without_better", "started_from", "tally")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run, as its record keeps it."""

    steps: int  # fewer than planned if it stopped early
    validation_loss: float | None  # of the weights that were kept
    started_from: str
    precision: str
    seconds: float  # of this start alone, where a run was resumed


def fit(
    slices: PackedSlices,
    parts: Mapping[str, NDArray[np.int64]],
    recipe: Recipe,
    run: Path,
    *,
    initial: Path | None = None,
    resume: bool = False,
    machine: Machine | None = None,
    show: Callable[[Training], None] | None = None,
) -> Outcome:
    """Train a network, or go on training it.

    Parameters
    ----------
    parts : mapping of str to int array
        Rows of ``train``, and of ``validation`` where the recipe stops early.
    initial : Path, optional
        ``weights.safetensors`` to start from.
    resume : bool
        Continue from ``run/last.ckpt`` if it is there.
    show : callable, optional
        Called in the process that speaks for the run: after each epoch, and once more at the end, with the
        weights that are kept.

    Raises
    ------
    FloatingPointError
        A loss became NaN: the run keeps its last checkpoint.
    DamagedInputError
        ``initial`` does not fit the recipe's network; a checkpoint is damaged or of another version.
    UsageError
        No slice to train or to validate on, or a batch that the processes cannot share evenly.
    CannotWriteError
        The run's folder cannot be written; its last checkpoint stays.
    """
    start = time.monotonic()
    machine = machine or Machine()
    processes = machine.devices * machine.nodes
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    run.mkdir(parents=True, exist_ok=True)
    resume = resume and (run / LAST).is_file()
    network, started_from = _begin(recipe, initial, resume=resume)
    validation = _validation_rows(slices, parts, recipe)
    sampler = sampler_of(slices, parts["train"], recipe)
    last = sampler.per_epoch % sampler.batch if sampler.chance is None else 0
    if sampler.batch % processes or last % processes:
        raise UsageError(
            f"a batch of {sampler.batch} slices, the last of an epoch perhaps smaller, cannot be "
            f"shared evenly by {processes} processes",
            remedy="set batch and sampling.per_epoch to multiples of their number",
        )

    from lightning.fabric import Fabric  # here, for it takes seconds

    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    fabric = Fabric(
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy="auto" if processes == 1 else "ddp",
    )
    fabric.launch()  # from here on there are as many processes as devices
    training = Training(fabric, network, Batches(slices, recipe), sampler, validation, run)
    training.started_from, training.show = started_from, show
    if resume:
        training.load()
    else:
        training.choose_precision()
    say(
        f"training: {training.steps:,} steps of {recipe.batch} slices, {recipe.epochs} epochs of "
        f"{sampler.steps_per_epoch:,} steps; the first step takes longest"
    )
    torch.set_flush_denormal(True)  # a CPU takes many times as long over numbers below 1e-38
    try:
        training.train(machine.checkpoint_every)
    finally:
        torch.set_flush_denormal(False)
    if fabric.is_global_zero:
        if len(validation):
            training.final.load_state_dict(read_checkpoint(run / BEST)["weights"])
        say("\n".join(table_lines(training.history)))
        training.finished = True
        if show is not None:
            show(training)
        with whole_file(run / WEIGHTS, overwrite=True) as path:
            save_weights(training.final.state_dict(), path)
    return Outcome(
        steps=training.step,
        validation_loss=training.best_loss if len(validation) else None,
        started_from=training.started_from,
        precision=training.precision,
        seconds=round(time.monotonic() - start, 1),
    )


def _begin(recipe: Recipe, initial: Path | None, *, resume: bool) -> tuple[nn.Module, str]:
    """The network before the first step, and what it starts from; a checkpoint has both, too."""
    if not resume and initial is None:
        return start_network(recipe)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe)
    if resume or initial is None:
        return network, ""
    load_weights(network, initial)
    return network, initial.name


class Training:
    """A network while it is trained."""

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        batches: Batches,
        sampler: Sampler,
        validation: NDArray[np.int64],
        run: Path,
    ) -> None:
        self.fabric, self.batches, self.sampler = fabric, batches, sampler
        self.validation, self.run = validation, run
        self.recipe = batches.recipe
        self.steps = self.recipe.epochs * sampler.steps_per_epoch
        self.network = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged: AveragedModel | None = None
        if self.recipe.averaging:
            average = moving_average(self.recipe.averaging)
            self.averaged = AveragedModel(network, avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(requires_grad=False)
        self.optimizer, self.schedule = _optimizer(network, self.recipe, self.steps)
        self.precision: str = self.recipe.precision
        self.step = 0
        self.best_loss = math.inf
        self.epochs_without_better = 0
        self.started_from = ""
        # Of the epoch so far: the sum of its losses, their number, and sums of `count_right`.
        self.tally = [0.0] * 6
        self.history: list[Epoch] = []
        self.show: Callable[[Training], None] | None = None
        self.finished = False

    @property
    def final(self) -> nn.Module:
        """The network whose weights are kept."""
        module: nn.Module = self.network if self.averaged is None else self.averaged.module
        return module

    def train(self, checkpoint_every: int) -> None:
        """Train from the current step to the last one, or to where the run stops early."""
        if self.fabric.world_size > 1:
            share_batch_norms(self.network)
        model = self.fabric.setup_module(self.network)
        per_epoch = self.sampler.steps_per_epoch
        with TrainingDisplay(self.run, self.step, self.steps, self.recipe.batch) as display:
            for epoch in range(self.step // per_epoch, self.recipe.epochs):
                start = time.monotonic()
                if len(self.validation) and self.epochs_without_better >= self.recipe.patience:
                    break
                while self.step < (epoch + 1) * per_epoch:
                    if self.step % checkpoint_every == 0 and self.step % per_epoch:
                        self.save()
                    display.show_step(self.step + 1, self.train_step(model))
                    self.step += 1
                if len(self.validation):
                    display.say_validating(len(self.validation))
                    validation = self.validate()
                    self.note(validation.loss)
                else:
                    validation = None
                self._end_epoch(epoch + 1, time.monotonic() - start, validation)
                display.show_epoch(self.history)
                self.save()

    def _end_epoch(self, epoch: int, seconds: float, validation: Validation | None) -> None:
        """Write down what the epoch's batches and the validation part said."""
        loss, batches, *counts = self.tally
        accuracy, dice = ratios(counts, draws=self.draws, both_kinds=self.both_kinds)
        row = Epoch(epoch, self.step, round(seconds, 1), loss / max(batches, 1), accuracy, dice)
        if validation is not None:
            row = replace(
                row, **{f"validation_{name}": value for name, value in asdict(validation).items()}
            )
        self.history.append(row)
        self.tally = [0.0] * 6
        if self.fabric.is_global_zero:
            write_history(self.run, self.history)
            if self.show is not None:
                self.show(self)

    @property
    def draws(self) -> bool:
        """Whether the network draws masks."""
        return self.recipe.network != "resnet50"

    @property
    def both_kinds(self) -> bool:
        """Whether it learns from slices with and without tumour."""
        return self.recipe.sampling.slices == "all"

    def train_step(self, model: nn.Module) -> float:
        """Draw a batch and make one step of the optimiser; return the loss."""
        rows, generator = self.sampler.draw(self.step)
        rank, device = self.fabric.global_rank, self.fabric.device
        torch.manual_seed(int(generator.integers(2**62)) + rank)  # for dropout
        share = slice(rank, None, self.fabric.world_size)
        images, masks = self.batches.make(rows, generator, share)
        with self._autocast():
            output = model(images.to(device))
        loss = batch_loss(self.recipe, output, masks.to(device))
        whole: Any = self.fabric.all_reduce(loss.detach())
        value = float(whole)
        counts: Any = self.fabric.all_reduce(count_right(output, masks.to(device)), reduce_op="sum")
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {self.step + 1}")
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        if self.recipe.optimizer.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimizer.clip)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        if self.schedule is not None:
            self.schedule.step()
        added = (value, 1.0, *counts.tolist())
        self.tally = [total + part for total, part in zip(self.tally, added, strict=True)]
        return value

    @torch.no_grad()
    def predict(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, object]:
        """Images, masks and the network's output for some slices, with the weights that are kept."""
        self.final.eval()
        images, masks = self.batches.make(rows)
        with self._autocast():
            output = self.final(images.to(self.fabric.device))
        self.network.train()
        return images, masks.to(self.fabric.device), output

    @torch.no_grad()
    def validate(self) -> Validation:
        """Measure the validation part as one batch; every process computes all of it.

        The loss is not the mean over batches: one without tumour has no Dice, and how many of
        those there are depends on the order of the slices.
        """
        means, sums, scores, truth, counts = [], [], [], [], []
        for start in range(0, len(self.validation), self.recipe.batch):
            rows = self.validation[start : start + self.recipe.batch]
            _, masks, output = self.predict(rows)
            mean, overlap = loss_parts(self.recipe, output, masks)
            means.append(len(rows) * mean.double())
            sums.append(overlap.double())
            scores.append(slice_scores(output).cpu())
            truth.append(masks.amax(dim=(1, 2, 3)).cpu() > 0)
            counts.append(count_right(output, masks).double())
        mean = torch.stack(means).sum() / len(self.validation)
        loss = mean + overlap_loss(self.recipe, torch.stack(sums).sum(dim=0))
        accuracy, dice = ratios(
            torch.stack(counts).sum(dim=0).tolist(), draws=self.draws, both_kinds=self.both_kinds
        )
        auc = auc_of(torch.cat(scores).double().numpy(), torch.cat(truth).numpy())
        return Validation(float(loss.float()), accuracy, dice, auc)

    def note(self, loss: float) -> None:
        """Keep the weights if this validation loss is the lowest yet; else count."""
        if not math.isfinite(loss) and self.best_loss == math.inf:
            raise FloatingPointError(f"the validation loss became {loss} at step {self.step}")
        self.epochs_without_better += 1
        if not math.isfinite(loss):
            self.epochs_without_better = self.recipe.patience  # nothing better will come
        elif loss < self.best_loss:
            self.best_loss, self.epochs_without_better = loss, 0
            self._write(BEST, {"weights": self.final.state_dict(), "validation_loss": loss})

    def choose_precision(self) -> None:
        """Take the recipe's number format, or the one that is faster on this machine."""
        speeds: dict[str, float] = {}
        if self.precision == "auto" and self.fabric.is_global_zero:
            rows, _ = self.sampler.draw(0)
            images, _ = self.batches.make(rows)
            say("precision: timing float32 and bfloat16 on three batches each")
            images = images.to(self.fabric.device)
            self.precision, speeds = choose_precision(self.network, images)
        self.precision = self.fabric.broadcast(self.precision)
        measured = "".join(f"  {name} {speed:.1f} slices/s" for name, speed in speeds.items())
        say(f"precision: {self.precision}{measured}")
        if self.fabric.is_global_zero:
            text = f"{self.precision}{measured}\n"
            (self.run / "precision.txt").write_text(text, encoding="utf-8")

    def save(self) -> None:
        """Write ``last.ckpt``, from which `load` goes on."""
        self._write(
            LAST,
            {
                "network": self.network.state_dict(),
                "averaged": self.averaged and self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule and self.schedule.state_dict(),
                **{name: getattr(self, name) for name in COUNTERS},
            },
        )

    def load(self) -> None:
        """Go on from ``last.ckpt``."""
        checkpoint = read_checkpoint(self.run / LAST)
        for name in ("network", "averaged", "optimizer", "schedule"):
            part = getattr(self, name)
            if part is not None:
                part.load_state_dict(checkpoint[name])
        for name in COUNTERS:
            # A run that began before a counter was kept goes on without it.
            setattr(self, name, checkpoint.get(name, getattr(self, name)))
        # What came after the checkpoint is done again.
        self.history = [row for row in read_history(self.run) if row.step <= self.step]

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        if self.fabric.is_global_zero:
            write_checkpoint(self.run / name, values)

    def _autocast(self) -> torch.autocast:
        half = self.precision == "bfloat16"
        return torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=half)


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that forgets its beginning.

    The decay grows with the number of averaged steps up to ``decay``, so that the average always looks
    back over about a ninth of the run: with a fixed decay a short run still carries the first steps.
    """

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged + (1 - now) * (current - averaged)

    return update


def _optimizer(
    network: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR | None]:
    """The recipe's optimiser and schedule; a pre-trained encoder has a learning rate of its own."""
    settings = recipe.optimizer
    encoder = getattr(network, "encoder", None) if settings.encoder_lr else None
    own = set() if encoder is None else set(encoder.parameters())
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in trained if weight in own], "lr": settings.encoder_lr},
        {"params": [weight for weight in trained if weight not in own], "lr": settings.lr},
    ]
    groups = [group for group in groups if group["params"]]
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    optimizer = kind(
        groups,
        weight_decay=settings.weight_decay,
        eps=settings.epsilon,
        fused=True,  # else every small tensor is a parallel loop of its own, which a busy machine stalls
    )
    if settings.schedule == "constant":
        return optimizer, None
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in groups],
        total_steps=steps,
        pct_start=settings.warm_up,
    )


def _validation_rows(
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


def write_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write one checkpoint, whole or not at all."""
    # Through memory: torch.save into a file loses a ctrl-C that comes while the file is closed.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **values}, buffer)
    with whole_file(path, overwrite=True) as part:
        part.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it is run."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if checkpoint["format"] != FORMAT:
            raise ValueError("another format")  # noqa: TRY301 - one line for all of them
    except Exception as error:
        raise DamagedInputError(
            "the checkpoint is damaged, or was written by another version of gliosight",
            where=path.name,
            remedy="choose another -o and begin anew, or finish the run with that version",
        ) from error
    return dict(checkpoint)
