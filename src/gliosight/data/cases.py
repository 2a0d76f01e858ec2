"""What lies between the paths of a data set and its manifest (data).

`layouts` makes cases from names alone; `index` opens their files and makes rows of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PictureSlice:
    """A picture and its mask; ``excluded`` where the paths alone rule it out."""

    number: int
    image: Path
    mask: Path | None
    excluded: str = ""


@dataclass(frozen=True)
class PictureCase:
    """A patient whose slices are pictures, in the order of their numbers."""

    patient: str
    slices: tuple[PictureSlice, ...]


@dataclass(frozen=True)
class VolumeCase:
    """A patient whose sequences are NIfTI volumes; ``excluded`` where the names alone rule it out."""

    patient: str
    flair: Path
    t1: Path | None = None
    t1c: Path | None = None
    mask: Path | None = None
    excluded: str = ""


# Why a picture or volume without a mask is excluded, unless its patient has no tumour.
NO_MASK = "no mask"

Case = PictureCase | VolumeCase


@dataclass(frozen=True)
class Layout:
    """What was found at a path.

    Parameters
    ----------
    root : Path
        The data set's folder.
    cases : tuple of PictureCase or VolumeCase
        Patients in natural order of their names.
    notes : tuple of str
        What the user should know, a sentence each.
    labels : mapping of Path to bool
        What a table says of a picture: tumour or not. Held against the mask by `index`.
    """

    root: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    labels: Mapping[Path, bool] = field(default_factory=dict)
