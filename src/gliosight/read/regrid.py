"""T1 and T1C brought onto FLAIR's grid (read stage, NIfTI).

In: the FLAIR image and another sequence's. Out: that sequence's values on FLAIR's grid, or the
reason why it cannot be had. Grids of one shape and place are taken as they are; others are
resampled by trilinear interpolation where both headers place their image in the same world: a valid
form of the same code that is not a program's default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.read.affines import (
    ShearedAffineError,
    UnusableAffineError,
    geometry_of,
    grid_distance,
    is_default,
)
from gliosight.read.flags import flag
from gliosight.read.limits import Budget
from gliosight.read.nifti_file import Form, Header, Image
from gliosight.read.resample import LEAST_COVERED, pixels_of, resample
from gliosight.study import SAME_WITHIN, Flag


@dataclass(frozen=True)
class OnGrid:
    """A sequence on FLAIR's grid: ``values`` (slices, rows, columns), or ``None`` when left out."""

    values: NDArray[Any] | None
    flags: tuple[Flag, ...] = ()


def onto_grid(flair: Image, other: Image, sequence: str, where: str, budget: Budget) -> OnGrid:
    """Bring a sequence onto FLAIR's grid.

    Parameters
    ----------
    flair, other : Image
    sequence : str
        ``"T1"`` or ``"T1C"``, for the flags.
    where : str
        The other image's file.
    budget : Budget
        Asked for the resampled values.
    """
    if flair.header.shape == other.header.shape:
        if _same_place(flair, other):
            return OnGrid(other.values)
        if _says_nowhere(flair.header) and _says_nowhere(other.header):
            message = (
                f"Neither FLAIR nor {sequence} says where it lies; being of one shape, "
                "they are taken as one grid."
            )
            return OnGrid(other.values, (flag("GRID_ASSUMED", message),))
    pair = _shared_world(flair.header, other.header)
    if pair is None:
        message = (
            f"{sequence} lies on another grid than FLAIR and the headers share no world; "
            f"{sequence} is left out."
        )
        return OnGrid(None, (flag(f"{sequence}_LEFT_OUT", message),))
    budget.take(4 * flair.values.size, where, packed=None)
    to_other = np.linalg.inv(pair[1].affine) @ pair[0].affine
    values, covered = resample(
        other.values, _places(to_other, flair.values.shape), flair.values.shape
    )
    if covered < LEAST_COVERED:
        message = f"{sequence} covers only {covered:.0%} of FLAIR's volume and is left out."
        return OnGrid(None, (flag(f"{sequence}_LEFT_OUT", message),))
    message = f"{sequence} lies on another grid than FLAIR and was resampled onto it."
    return OnGrid(values, (flag(f"{sequence}_RESAMPLED", message),))


def _same_place(flair: Image, other: Image) -> bool:
    if flair.used is None or other.used is None or flair.geometry is None:
        return False
    last = tuple(side - 1 for side in flair.header.shape)
    smallest = min(*flair.geometry.spacing, flair.geometry.slice_spacing or np.inf)
    return grid_distance(flair.used.affine, other.used.affine, last) <= SAME_WITHIN * smallest


def _says_nowhere(header: Header) -> bool:
    return all(is_default(form.affine) for form in header.forms)


def _shared_world(flair: Header, other: Header) -> tuple[Form, Form] | None:
    """Two forms of the same code, both usable: FLAIR's first choice, then its second."""
    for one in _usable(flair):
        for two in _usable(other):
            if one.code == two.code:
                return one, two
    return None


def _usable(header: Header) -> list[Form]:
    forms = []
    for form in header.forms:
        if is_default(form.affine):
            continue
        try:
            shape = (max(header.shape[2], 2), *header.shape[1::-1])
            geometry_of(form.affine[:, [2, 1, 0, 3]], shape)
        except ShearedAffineError:
            pass  # it can be interpolated in all the same
        except UnusableAffineError:
            continue
        forms.append(form)
    return forms


def _places(
    to_other: NDArray[np.float64], shape: tuple[int, ...]
) -> Callable[[int], NDArray[np.float64]]:
    """Where the pixels of a slice lie in the other image; ``to_other`` leads from (i, j, k, 1)."""
    matrix = to_other[:3, :3][::-1, ::-1]  # from (i, j, k) to (slice, row, column), on both sides
    shift = to_other[:3, 3][::-1]
    in_plane = matrix[:, 1:] @ pixels_of(shape) + shift[:, None]
    return lambda index: np.asarray(in_plane + matrix[:, :1] * index, dtype=np.float64)
