"""What a manifest holds, in figures (data).

In: a `Manifest`, no pixel. Out: a frozen `Summary` for the terminal, for JSON and for the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gliosight.data.manifest import SEQUENCES, Manifest, SliceRow

NO_INSTITUTION = "unknown"
NO_COLLECTION = "none"


@dataclass(frozen=True)
class Group:
    """Counts of one institution or collection, or of the whole data set.

    Parameters
    ----------
    patients, slices, tumour_slices, tumour_px : int
        Of the rows that are used; ``tumour_px`` is the area of all masks, pixels.
    """

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
    """A data set in figures.

    Parameters
    ----------
    whole : Group
    persons : int
        Different persons of the patients, which are studies.
    collections : dict of str to Group
        By name; empty where the manifest names none.
    institutions : dict of str to Group
        By name; `NO_INSTITUTION` where a patient's name says none.
    excluded : dict of str to int
        Slices that are not used, by reason, the most frequent first.
    slices_per_patient, tumour_slices_per_patient : Spread
    area : Spread
        Tumour area of the slices that show any, pixels.
    volume : Spread
        Tumour pixels of the patients that have any.
    missing : dict of str to list of str
        Patients without a sequence, by sequence.
    copied : dict of str to list of str
        Those of them where the sequence is a copy of another one.
    tumour_free : list of str
        Patients without a tumour pixel.
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

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def summarize(manifest: Manifest) -> Summary:
    """Count what a manifest holds."""
    by_patient = manifest.by_patient
    used = manifest.used
    by_collection: dict[str, list[SliceRow]] = {}
    by_institution: dict[str, list[SliceRow]] = {}
    for row in used:
        by_collection.setdefault(row.collection or NO_COLLECTION, []).append(row)
        by_institution.setdefault(row.institution or NO_INSTITUTION, []).append(row)
    first = {patient: rows[0] for patient, rows in by_patient.items()}
    volumes = {name: sum(row.area_px for row in rows) for name, rows in by_patient.items()}
    return Summary(
        whole=group_of(used),
        persons=len({manifest.person_of(patient) for patient in by_patient}),
        collections={name: group_of(rows) for name, rows in sorted(by_collection.items())}
        if manifest.collections
        else {},
        institutions={name: group_of(rows) for name, rows in sorted(by_institution.items())},
        excluded=dict(Counter(row.excluded for row in manifest.rows if row.excluded).most_common()),
        slices_per_patient=spread_of(len(rows) for rows in by_patient.values()),
        tumour_slices_per_patient=spread_of(
            sum(row.tumour for row in rows) for rows in by_patient.values()
        ),
        area=spread_of(row.area_px for row in used if row.tumour),
        volume=spread_of(volume for volume in volumes.values() if volume),
        missing={
            name: [patient for patient, row in first.items() if name not in row.sequences]
            for name in SEQUENCES
        },
        copied={
            name: [patient for patient, row in first.items() if name in row.copies]
            for name in SEQUENCES
        },
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


def spread_of(values: Iterable[float]) -> Spread:
    """Smallest, quartiles, largest and mean."""
    known = np.asarray(list(values), dtype=np.float64)
    if not known.size:
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    least, lower, median, upper, most = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return Spread(least, lower, median, upper, most, float(known.mean()))
