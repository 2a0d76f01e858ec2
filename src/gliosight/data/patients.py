"""Whose slice a picture is, by its path (data).

In: pictures with their masks, as they lie in folders. Out: one `PictureCase` for each patient. The rule:
the patient is the file's name without the slice number where a folder holds several such names or is
named so itself; else it is the folder's name. Folders that only gather (the data set's own, ``images``)
are nobody's name.

A *person* may be in a data set with several studies; `person_of` tells from the names that are in use.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from filecmp import cmp
from itertools import groupby
from pathlib import Path

from gliosight.data.cases import PictureCase, PictureSlice
from gliosight.errors import DamagedInputError
from gliosight.read.naming import natural_key, slice_number

# TCGA-CS-4943 with a date behind; sub-01 of BIDS; BraTS-GLI-00006 with a time point; patient1_study2.
_PERSON = (
    re.compile(r"^(TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4})(?![A-Z0-9])"),
    re.compile(r"^(sub-[A-Za-z0-9]+)"),
    re.compile(r"^(BraTS-[A-Za-z]+-\d+)-\d{3}$"),
    re.compile(r"^(.+?)[-_](?:ses|session|study|visit|tp|timepoint)[-_]?\d+$", re.IGNORECASE),
)
_INSTITUTION = re.compile(r"^TCGA[-_]([A-Z0-9]{2})[-_]")


@dataclass(frozen=True)
class Picture:
    """A picture with what its path says.

    Parameters
    ----------
    image : Path
    masks : tuple of Path
        All that fit; more than one is too many.
    top : Path
        The folder whose own name is nobody's.
    excluded : str
    """

    image: Path
    masks: tuple[Path, ...]
    top: Path
    excluded: str = ""


def person_of(patient: str) -> str:
    """The person a patient (one study) is of, as far as the name says."""
    for pattern in _PERSON:
        if match := pattern.match(patient):
            return match[1]
    return patient


def institution_of(patient: str) -> str:
    """Second part of a TCGA name; else empty."""
    match = _INSTITUTION.match(patient)
    return match[1] if match else ""


def group_pictures(pictures: Iterable[Picture], root: Path) -> tuple[list[PictureCase], list[str]]:
    """Patients of all pictures, and notes on what was dropped.

    Raises
    ------
    DamagedInputError
        Two different files for one slice of one patient.
    """
    by_patient: dict[str, list[PictureSlice]] = defaultdict(list)
    by_folder: dict[Path, list[Picture]] = defaultdict(list)
    for one in pictures:
        by_folder[one.image.parent].append(one)
    for folder, inside in by_folder.items():
        for patient, found in _of_folder(folder, inside):
            by_patient[patient].append(found)
    cases: list[PictureCase] = []
    dropped = 0
    for patient in sorted(by_patient, key=natural_key):
        kept = _once(by_patient[patient], root)
        dropped += len(by_patient[patient]) - len(kept)
        cases.append(PictureCase(patient, tuple(kept)))
    notes = [f"Pictures there twice, byte for byte, counted once: {dropped:,}."]
    return cases, notes if dropped else []


def _of_folder(folder: Path, inside: list[Picture]) -> list[tuple[str, PictureSlice]]:
    read = _numbered(folder, inside)
    every = {series for series, _, _ in read if series}
    anonymous = any(one.top == folder for one in inside)
    by_name = anonymous or len(every) > 1 or folder.name in every
    own = folder.name if folder.name in every and not anonymous else None
    out: list[tuple[str, PictureSlice]] = []
    for series, number, one in read:
        patient = series if by_name and series else folder.name
        reason = one.excluded
        if not reason and own is not None and patient != own:
            reason = f"lies in the folder of {own}"
        if not reason and len(one.masks) > 1:
            reason = f"{len(one.masks)} masks"
        mask = one.masks[0] if len(one.masks) == 1 else None
        out.append((patient, PictureSlice(number, one.image, mask, reason)))
    return out


def _numbered(folder: Path, inside: list[Picture]) -> list[tuple[str, int, Picture]]:
    """Name without the number, number and picture; without any numbers, the order of names counts."""
    read = [(*slice_number(one.image.name), one) for one in inside]
    numbered = any(number is not None for _, number, _ in read)
    if numbered or any(one.top == folder for one in inside):
        return [(series, number or 0, one) for series, number, one in read]
    ordered = sorted(inside, key=lambda one: natural_key(one.image.name))
    return [("", number, one) for number, one in enumerate(ordered, start=1)]


def _once(slices: list[PictureSlice], root: Path) -> list[PictureSlice]:
    """Slices in the order of their numbers; a copy of a slice is dropped."""
    kept: list[PictureSlice] = []
    for _, group in groupby(sorted(slices, key=lambda one: one.number), lambda one: one.number):
        first, *others = group
        for other in others:
            if not (_same(first.image, other.image) and _same(first.mask, other.mask)):
                names = [one.image.relative_to(root).as_posix() for one in (first, other)]
                raise DamagedInputError(
                    f"two files are slice {first.number} of one patient",
                    where=" and ".join(names),
                    remedy="keep only one of them",
                )
        kept.append(first)
    return kept


def _same(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None or one == other:
        return one == other
    try:
        return cmp(one, other, shallow=False)
    except OSError:
        return False
