"""The tutorial's figure: slice, mask, and the slice with its mask in red (data; extra: evaluate).

In: a `Manifest`, how many slices and a seed. Out: a picture file. A picture of three channels is shown as
colours, as the tutorial does, or its FLAIR in grey; a volume always as FLAIR in grey, turned to
radiological display where it has a geometry.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gliosight.data.manifest import NIFTI, Manifest, SliceRow, write_whole
from gliosight.data.pixels import read_labels, read_mask, read_picture, read_volume
from gliosight.errors import UnsupportedInputError, UsageError, printable
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from gliosight.read.slices import CHANNELS
from gliosight.study import Sequence
from gliosight.write.pictures import find_window, plan_display

SUFFIXES = (".png", ".jpg", ".pdf", ".svg")
RED = (255, 0, 0)
INCHES, DPI = 2.6, 130
PANELS = 3


@dataclass(frozen=True)
class Shown:
    """One row of the figure: (rows, columns, 3) uint8 and (rows, columns) bool, upright."""

    title: str
    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    aspect: float


def check_suffix(path: Path) -> None:
    """Refuse a kind of picture that is not written.

    Raises
    ------
    UsageError
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"a figure cannot be written as {path.suffix or 'a file without suffix'}",
            where=path.name,
            remedy=f"choose one of {', '.join(SUFFIXES)}",
        )


def choose_rows(manifest: Manifest, count: int, seed: int) -> list[SliceRow]:
    """Random slices with tumour, in the manifest's order; all of them where there are no more.

    Raises
    ------
    UnsupportedInputError
        No slice shows tumour.
    """
    rows = sorted((row for row in manifest.used if row.tumour), key=lambda row: row.key)
    if not rows:
        raise UnsupportedInputError(
            "no slice of the manifest shows tumour", remedy="check its masks: gliosight data audit"
        )
    count = min(count, len(rows))
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[k] for k in chosen]


def read_shown(manifest: Manifest, row: SliceRow, *, flair: bool) -> Shown:
    """Read one slice as the figure shows it.

    Raises
    ------
    NothingReadableError, DamagedInputError, UnsupportedInputError, LimitExceededError
    """
    budget = Budget(DEFAULT_LIMITS)
    title = f"{printable(row.patient)}, slice {row.number}"
    if row.kind == NIFTI:
        image = read_volume(manifest.path(row.image), row.image, budget)
        labels = read_labels(manifest.path(row.mask), row.mask, budget)
        display = plan_display(image.geometry, image.values.shape)
        grey = find_window(image.values).apply(image.values[row.number])
        return Shown(
            title,
            np.repeat(display.turn(grey)[..., None], 3, axis=-1),
            display.turn(labels.values[row.number] != 0),
            display.pixel[0] / display.pixel[1],
        )
    values = read_picture(manifest.path(row.image), row.image, budget).values
    mask = read_mask(manifest.path(row.mask), row.mask, budget).values != 0
    if flair and values.shape[-1] == len(CHANNELS):
        place = CHANNELS.index(Sequence.FLAIR)
        values = values[..., place : place + 1]
    return Shown(title, _as_bytes(values), mask, 1.0)


def draw_figure(shown: list[Shown]) -> Figure:
    """Three pictures to a row: slice, mask, slice with the mask in red."""
    figure = Figure(figsize=(PANELS * INCHES, len(shown) * (INCHES + 0.25)), layout="constrained")
    axes = figure.subplots(len(shown), PANELS, squeeze=False)
    for line, one in zip(axes, shown, strict=True):
        marked = one.picture.copy()
        marked[one.mask] = RED
        pictures = (one.picture, np.where(one.mask, 255, 0).astype(np.uint8), marked)
        titles = (one.title, f"mask, {int(one.mask.sum()):,} pixels", "mask in red")
        for place, picture, title in zip(line, pictures, titles, strict=True):
            place.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect=one.aspect)
            place.set_title(title, fontsize=8, parse_math=False)
            place.set_axis_off()
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the suffix says.

    Raises
    ------
    CannotWriteError
    """
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(out, format=path.suffix.lower().lstrip("."), dpi=DPI)
    write_whole(path, out.getvalue())


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(rows, columns, 1 or 3) of any depth as (rows, columns, 3) bytes; bytes stay as they are."""
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    three = np.broadcast_to(values, (*values.shape[:2], 3))
    return three.astype(np.uint8)
