"""What is measured of a run, epoch by epoch: ``history.csv`` (training bench; torch).

Everything is counted over slices and pixels of a part as a whole, since an epoch's batches and a validation
part are no patients; scores by patient are those of ``gliosight evaluate``.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from gliosight.errors import DamagedInputError
from gliosight.files import whole_file

HISTORY = "history.csv"
DASH = "–"


@dataclass(frozen=True)
class Epoch:
    """One epoch; ``None`` where a network or a part has no such measure.

    Accuracy: part of the slices that are called right, tumour or not, at a probability of 0.5. Dice: of all
    pixels together, at 0.5. AUC: of the slices' probabilities. A network without a slice head calls a slice
    by its likeliest pixel. On slices with tumour alone there are neither accuracy nor AUC.
    """

    epoch: int  # from 1
    step: int  # of the optimiser, at the end of the epoch
    seconds: (
        float  # of the epoch with its validation; of its last part where the run was cut off in it
    )
    loss: float  # mean of the batches while the network learns, with what is varied and dropped out
    accuracy: float | None
    dice: float | None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_dice: float | None = None
    validation_auc: float | None = None


@dataclass(frozen=True)
class Validation:
    """What the validation part says of a network; see `Epoch`."""

    loss: float
    accuracy: float | None = None
    dice: float | None = None
    auc: float | None = None


def slice_scores(output: object) -> Tensor:
    """(n,) logits that a slice shows tumour, of what a network returned for n slices."""
    if isinstance(output, tuple):
        scores: Tensor = output[1]
        return scores.detach().float()
    assert isinstance(output, Tensor)  # noqa: S101 - networks return one or two tensors
    logits = output.detach().float()
    return logits.amax(dim=(1, 2, 3)) if logits.ndim == 4 else logits[:, 1] - logits[:, 0]


def mask_scores(output: object) -> Tensor | None:
    """(n, 1, rows, columns) logits of the masks; ``None`` of a network that draws none."""
    logits = output[0] if isinstance(output, tuple) else output
    assert isinstance(logits, Tensor)  # noqa: S101
    return logits.detach() if logits.ndim == 4 else None


def count_right(output: object, masks: Tensor) -> Tensor:
    """(4,): slices called right, slices, marked tumour pixels, and marked pixels and tumour pixels."""
    truth = masks.amax(dim=(1, 2, 3)) > 0
    right = ((slice_scores(output) > 0) == truth).sum()
    counts = [right, torch.tensor(len(truth), device=masks.device)]
    logits = mask_scores(output)
    if logits is None:
        counts += [counts[0] * 0] * 2
    else:
        marked, tumour = logits > 0, masks > 0
        counts += [(marked & tumour).sum(), marked.sum() + tumour.sum()]
    return torch.stack([count.float() for count in counts])


def ratios(counts: Sequence[float], *, draws: bool, both_kinds: bool) -> tuple[float | None, ...]:
    """Accuracy and Dice of sums of `count_right`.

    Parameters
    ----------
    draws : bool
        Whether the network draws masks.
    both_kinds : bool
        Whether there are slices with and without tumour.
    """
    right, slices, overlap, both = counts
    accuracy = right / slices if slices and both_kinds else None
    dice = 2 * overlap / both if both and draws else None
    return accuracy, dice


def auc_of(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Chance that a slice with tumour scores above one without, ties counting half; ``None`` of one kind."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return None
    above = float(rankdata(scores)[truth].sum()) - positive * (positive + 1) / 2
    return above / (positive * negative)


def best_epoch(history: Iterable[Epoch]) -> Epoch | None:
    """The first one with the lowest validation loss, whose weights are kept."""
    known = [row for row in history if row.validation_loss is not None]
    return min(known, key=lambda row: row.validation_loss or 0.0, default=None)


def write_history(run: Path, history: Iterable[Epoch]) -> None:
    """Write ``history.csv``; an empty cell is a measure that there is not."""
    text = io.StringIO()
    table = csv.DictWriter(text, [item.name for item in fields(Epoch)], lineterminator="\n")
    table.writeheader()
    for row in history:
        values = asdict(row)
        table.writerow({key: _cell(value) for key, value in values.items()})
    with whole_file(run / HISTORY, overwrite=True) as path:
        path.write_text(text.getvalue(), encoding="utf-8")


def read_history(run: Path) -> list[Epoch]:
    """Read ``history.csv``; empty where there is none.

    Raises
    ------
    DamagedInputError
    """
    try:
        text = (run / HISTORY).read_text("utf-8")
    except FileNotFoundError:
        return []
    try:
        rows = [
            {key: float(value) if value else None for key, value in row.items()}
            for row in csv.DictReader(io.StringIO(text))
        ]
        return [
            Epoch(**{**row, "epoch": int(row["epoch"] or 0), "step": int(row["step"] or 0)})  # type: ignore[arg-type]
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedInputError("history.csv is damaged", where=run.name) from error


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


# Titles and digits of a printed table.
_COLUMNS = (
    ("loss", "loss", 4),
    ("accuracy", "accuracy", 3),
    ("dice", "Dice", 3),
    ("validation_loss", "val. loss", 4),
    ("validation_accuracy", "val. acc.", 3),
    ("validation_dice", "val. Dice", 3),
    ("validation_auc", "val. AUC", 3),
)


def table_lines(history: Sequence[Epoch]) -> list[str]:
    """The epochs as a table for a terminal, its title first; an asterisk marks the best one."""
    best = best_epoch(history)
    titles = ["epoch", *(title for _, title, _ in _COLUMNS), "time"]
    rows = [
        [
            f"{row.epoch}{'*' if row is best else ''}",
            *(number(getattr(row, name), digits) for name, _, digits in _COLUMNS),
            time_words(row.seconds),
        ]
        for row in history
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (titles, *rows)
    ]


def number(value: float | None, digits: int) -> str:
    """A measure with its digits; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def time_words(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
