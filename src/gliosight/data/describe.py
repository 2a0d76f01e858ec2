"""What a data set holds, in figures: of its manifest (`summarize`) and of its files (`look`) (data).

A file that cannot be read is counted here; `audit` says more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from gliosight.analysis import Progress
from gliosight.data.manifest import COLUMNS, NIFTI, SEQUENCES, Manifest, SliceRow
from gliosight.data.studies import read_row, read_row_mask, size_text, values_of
from gliosight.errors import GliosightError
from gliosight.read.limits import DEFAULT_LIMITS, Budget

NO_INSTITUTION = "unknown"
NO_COLLECTION = "none"


@dataclass(frozen=True)
class Group:
    """Counts of the used rows of a collection, an institution or the whole; ``tumour_px`` is their area."""

    patients: int
    slices: int
    tumour_slices: int
    tumour_px: int

    @property
    def tumour_part(self) -> float:
        """Part of the slices that show tumour; 0 without slices."""
        return self.tumour_slices / self.slices if self.slices else 0.0


@dataclass(frozen=True)
class Spread:
    """Smallest, quartiles, largest and mean of some numbers; all 0 where there are none."""

    least: float
    lower: float
    median: float
    upper: float
    most: float
    mean: float


@dataclass(frozen=True)
class Summary:
    """A manifest in figures; ``--json`` prints it.

    ``collections`` is empty where the manifest names none; ``excluded`` has the slices by reason, the most
    frequent first; ``area`` and ``volume`` are tumour pixels of the slices and of the patients that have any;
    ``missing`` and ``copied`` have the patients without a sequence, and those of them where it is a copy.
    """

    whole: Group
    persons: int
    collections: dict[str, Group]
    institutions: dict[str, Group]
    excluded: dict[str, int]
    slices_per_patient: Spread
    tumour_slices_per_patient: Spread
    area: Spread
    volume: Spread
    missing: dict[str, list[str]]
    copied: dict[str, list[str]]
    tumour_free: list[str]

    @property
    def spreads(self) -> list[tuple[str, Spread]]:
        """The spreads with the words that name them."""
        return [
            ("slices of a patient", self.slices_per_patient),
            ("tumour slices of a patient", self.tumour_slices_per_patient),
            ("tumour area of a slice, pixels", self.area),
            ("tumour of a patient, pixels", self.volume),
        ]


@dataclass(frozen=True)
class Column:
    """One column of the manifest: how many rows have a value in it, and how many different values."""

    name: str
    filled: int
    different: int


@dataclass(frozen=True)
class Look:
    """What the files of a data set hold; ``--json`` prints it.

    ``mask_values`` counts masks by the values they hold, such as ``"0 255"``; ``pictures`` counts patients by
    size and kind of their first picture; ``unreadable`` counts files.
    """

    rows: int
    columns: tuple[Column, ...]
    mask_values: dict[str, int]
    mask_least: float | None
    mask_most: float | None
    pictures: dict[str, int]
    unreadable: int


def summarize(manifest: Manifest) -> Summary:
    """Count what a manifest holds."""
    used, patients = manifest.used, manifest.by_patient.items()
    volumes = {patient: sum(row.area_px for row in rows) for patient, rows in patients}
    tumours = [sum(row.tumour for row in rows) for _, rows in patients]
    collections = _groups(used, lambda row: row.collection or NO_COLLECTION)
    return Summary(
        whole=group_of(used),
        persons=len(set(map(manifest.person_of, manifest.patients))),
        collections=collections if manifest.collections else {},
        institutions=_groups(used, lambda row: row.institution or NO_INSTITUTION),
        excluded=dict(Counter(row.excluded for row in manifest.rows if row.excluded).most_common()),
        slices_per_patient=spread_of(len(rows) for _, rows in patients),
        tumour_slices_per_patient=spread_of(tumours),
        area=spread_of(row.area_px for row in used if row.tumour),
        volume=spread_of(filter(None, volumes.values())),
        missing={
            name: [p for p, rows in patients if name not in rows[0].sequences] for name in SEQUENCES
        },
        copied={name: [p for p, rows in patients if name in rows[0].copies] for name in SEQUENCES},
        tumour_free=[patient for patient, volume in volumes.items() if not volume],
    )


def group_of(rows: Iterable[SliceRow]) -> Group:
    """Count rows."""
    rows = list(rows)
    return Group(
        patients=len({row.patient for row in rows}),
        slices=len(rows),
        tumour_slices=sum(row.tumour for row in rows),
        tumour_px=sum(row.area_px for row in rows),
    )


def _groups(rows: Iterable[SliceRow], name_of: Callable[[SliceRow], str]) -> dict[str, Group]:
    by_name: dict[str, list[SliceRow]] = {}
    for row in rows:
        by_name.setdefault(name_of(row), []).append(row)
    return {name: group_of(members) for name, members in sorted(by_name.items())}


def spread_of(values: Iterable[float]) -> Spread:
    """Smallest, quartiles, largest and mean."""
    array = np.asarray(list(values), dtype=np.float64)
    if not array.size:
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    least, lower, median, upper, most = np.quantile(array, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return Spread(least, lower, median, upper, most, float(array.mean()))


def look(manifest: Manifest, progress: Progress | None = None) -> Look:
    """Open every mask, and one picture of each patient."""
    values: Counter[tuple[float, ...]] = Counter()
    pictures: Counter[str] = Counter()
    unreadable = done = 0
    for rows in manifest.by_patient.values():
        try:
            picture = read_row(manifest, rows[0], Budget(DEFAULT_LIMITS)).values
            pictures[f"{size_text(picture.shape)} {picture.dtype}"] += 1
        except GliosightError:
            unreadable += 1
        masks = rows[:1] if rows[0].kind == NIFTI else rows
        for row in masks:
            try:
                if row.mask:
                    mask = read_row_mask(manifest, row, Budget(DEFAULT_LIMITS)).values
                    values[values_of(np.asarray(mask))] += 1
            except GliosightError:
                unreadable += 1
            done += len(rows) // len(masks)
            if progress is not None:
                progress("describe", done, len(manifest.used))
    every = [value for several in values for value in several]
    columns: list[Column] = []
    for name in COLUMNS:
        cells = [getattr(row, name) for row in manifest.rows]
        filled = sum(cell not in ("", ()) for cell in cells)
        columns.append(Column(name, filled, len(set(cells))))
    listed = {" ".join(f"{v:g}" for v in several): n for several, n in values.most_common()}
    return Look(
        rows=len(manifest.rows),
        columns=tuple(columns),
        mask_values=listed,
        mask_least=min(every, default=None),
        mask_most=max(every, default=None),
        pictures=dict(pictures.most_common()),
        unreadable=unreadable,
    )
