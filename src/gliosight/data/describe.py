"""A first look into the files of a data set (data).

In: a `Manifest`. Out: a frozen `Look`: which values the masks hold, and of what size and kind the pictures
are. What needs no pixel is `summary`'s. A file that cannot be read is counted, not an error: `audit` says
more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gliosight.data.manifest import COLUMNS, NIFTI, Manifest, SliceRow
from gliosight.data.pixels import read_labels, read_mask, read_picture, read_volume, values_of
from gliosight.errors import GliosightError
from gliosight.read.limits import DEFAULT_LIMITS, Budget

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Column:
    """One column of the manifest: how many rows say something in it, and how many different things."""

    name: str
    filled: int
    different: int


@dataclass(frozen=True)
class Look:
    """What the files of a data set hold.

    Parameters
    ----------
    rows : int
    columns : tuple of Column
    mask_values : dict of str to int
        Number of masks by the values they hold, such as ``"0 255"``.
    mask_least, mask_most : float or None
        Over all masks.
    pictures : dict of str to int
        Number of patients by size and kind of their pictures, from the first of each patient.
    unreadable : int
        Files that could not be read.
    """

    rows: int
    columns: tuple[Column, ...]
    mask_values: dict[str, int]
    mask_least: float | None
    mask_most: float | None
    pictures: dict[str, int]
    unreadable: int

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def look(manifest: Manifest, tell: Tell | None = None) -> Look:
    """Open every mask, and one picture of each patient."""
    values: Counter[tuple[float, ...]] = Counter()
    pictures: Counter[str] = Counter()
    unreadable = done = 0
    for rows in manifest.by_patient.values():
        try:
            pictures[_picture(manifest, rows[0])] += 1
        except GliosightError:
            unreadable += 1
        masks = rows[:1] if rows[0].kind == NIFTI else rows
        for row in masks:
            try:
                if row.mask:
                    values[_mask_values(manifest, row)] += 1
            except GliosightError:
                unreadable += 1
            done += len(rows) // len(masks)
            if tell is not None:
                tell(done, len(manifest.used))
    known = [one for several in values for one in several]
    return Look(
        rows=len(manifest.rows),
        columns=tuple(_columns(manifest)),
        mask_values={
            " ".join(f"{one:g}" for one in several): count
            for several, count in values.most_common()
        },
        mask_least=min(known, default=None),
        mask_most=max(known, default=None),
        pictures=dict(pictures.most_common()),
        unreadable=unreadable,
    )


def _columns(manifest: Manifest) -> list[Column]:
    out = []
    for name in COLUMNS:
        told = [getattr(row, name) for row in manifest.rows]
        out.append(Column(name, sum(one not in ("", ()) for one in told), len(set(told))))
    return out


def _picture(manifest: Manifest, row: SliceRow) -> str:
    path, budget = manifest.path(row.image), Budget(DEFAULT_LIMITS)
    if row.kind == NIFTI:
        values = read_volume(path, row.image, budget).values
    else:
        values = read_picture(path, row.image, budget).values
    return f"{' x '.join(map(str, values.shape))} {values.dtype}"


def _mask_values(manifest: Manifest, row: SliceRow) -> tuple[float, ...]:
    path, budget = manifest.path(row.mask), Budget(DEFAULT_LIMITS)
    if row.kind == NIFTI:
        return values_of(np.asarray(read_labels(path, row.mask, budget).values))
    return values_of(read_mask(path, row.mask, budget).values)
