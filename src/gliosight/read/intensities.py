"""What the pixels themselves must be: finite, and an image rather than a mask (read stage).

In: the values of one sequence. Out: the values the study will hold, with flags, or an error.
Whether an image has any contrast is not asked here; a later stage calls a constant one "not
assessed".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError
from gliosight.read.flags import flag
from gliosight.study import Flag

# Part of the voxels that may be NaN or infinite.
MOST_NOT_FINITE = 0.01
# An image has hundreds of values.
MOST_LABELS = 16


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; what is too large for it becomes infinite, and is dealt with as that."""
    with np.errstate(over="ignore", invalid="ignore"):
        out: NDArray[np.float32] = values.astype(np.float32)
    return out


def make_finite(
    values: NDArray[Any], sequence: str, where: str
) -> tuple[NDArray[Any], tuple[Flag, ...]]:
    """Set the odd NaN or infinite voxel to the smallest finite value.

    Returns
    -------
    values : array
        The same array when nothing had to be done.
    flags : tuple of Flag

    Raises
    ------
    DamagedInputError
        More than 1 % are not finite.
    """
    if values.dtype.kind != "f":
        return values, ()
    finite = np.isfinite(values)
    bad = values.size - int(np.count_nonzero(finite))
    if bad == 0:
        return values, ()
    if bad > MOST_NOT_FINITE * values.size:
        raise DamagedInputError(
            f"{bad / values.size:.1%} of the voxels are NaN or infinite, 1 % is the most allowed",
            where=where,
            remedy="write the image again with numbers in the background, such as 0",
        )
    values = values.copy()
    values[~finite] = values[finite].min()
    message = (
        f"{bad:,} voxels of {sequence} are NaN or infinite and were set to its smallest value."
    )
    return values, (flag("NOT_FINITE", message),)


def is_constant(values: NDArray[Any]) -> bool:
    """Whether all values are the same."""
    return bool(values.min() == values.max())


def is_labels(values: NDArray[Any]) -> bool:
    """Whether there are so few values that they are names: a map of labels, or a mask."""
    seen: set[float] = set()
    # Slice by slice: an image is told by its first slice with tissue.
    for one in values:
        levels = np.unique(one)
        seen.update(levels[: MOST_LABELS + 1].tolist())
        if len(seen) > MOST_LABELS:
            return False
    return len(seen) > 1


def refuse_mask(values: NDArray[Any], sequence: str, where: str) -> None:
    """Raise `DamagedInputError` where the values are those of a mask or a map of labels."""
    if is_labels(values):
        raise DamagedInputError(
            f"{sequence} holds {few_values(values)} only, it is a mask or a map of labels and no image",
            where=where,
            remedy="give the MR image, not its mask",
        )


def few_values(values: NDArray[Any]) -> str:
    """How many values there are, in words for `is_labels`."""
    count = len(np.unique(values))
    return "two values" if count == 2 else f"{count} values"
