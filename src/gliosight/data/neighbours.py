"""Slices that are one picture twice (data).

In: a signature of each slice. Out: pairs of slices that are nearly the same picture.

The rule: a slice's FLAIR is averaged down to 32 x 32 pixels, its mean is taken off and its length set to
one; two slices of different patients are near-duplicates when the product of their signatures, which is
the correlation of the small pictures, is at least 0.99. Other brightness and contrast, noise, another
depth and lossy compression stay above it. In the LGG set the most alike slices of two patients reach
0.976. A picture that was moved, turned or mirrored is not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
NEAR = 0.99
# A slice whose small picture varies less than this part of its patient's range shows nothing.
BLANK_BELOW = 0.01
_AT_ONCE = 1024


def signature_of(plane: NDArray[Any]) -> NDArray[np.float32]:
    """The small picture of a (rows, columns) plane, (1024,), not yet normalised."""
    small = Image.fromarray(plane.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def normalise(signatures: NDArray[np.float32], span: float) -> NDArray[np.float32]:
    """Signatures of one patient without mean and of length one; those of blank slices are all 0.

    Parameters
    ----------
    signatures : (slices, 1024) array
    span : float
        The patient's range of values: its largest less its smallest.
    """
    centred = signatures - signatures.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    blank = length <= BLANK_BELOW * span * SIDE
    scaled: NDArray[np.float32] = np.where(blank, 0, centred / np.where(blank, 1, length))
    return scaled.astype(np.float32)


def near_pairs(
    signatures: NDArray[np.float32], owners: Ordered[object]
) -> Iterator[tuple[int, int, float]]:
    """Pairs of slices of different owners that are nearly one picture: first, second, correlation.

    Parameters
    ----------
    signatures : (slices, 1024) array
        As `normalise` gives them.
    owners : sequence of object
        Whose each slice is.
    """
    codes = {owner: k for k, owner in enumerate(dict.fromkeys(owners))}
    owner = np.asarray([codes[one] for one in owners])
    for start in range(0, len(signatures), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        # Blocks on and right of the diagonal: each pair is looked at once.
        for other in range(start, len(signatures), _AT_ONCE):
            columns = slice(other, other + _AT_ONCE)
            alike = signatures[rows] @ signatures[columns].T
            found = (alike >= NEAR) & (owner[rows, None] != owner[None, columns])
            for i, j in np.argwhere(found):
                first, second = start + int(i), other + int(j)
                if first < second:
                    yield first, second, min(float(alike[i, j]), 1.0)
