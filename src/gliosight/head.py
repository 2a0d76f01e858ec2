"""The head in a volume: where it is, and where its middle is (domain layer, below the stages).

Words used here: the *head* is the largest bright body of a volume, skull and scalp included where the
image has them; after skull-stripping it is the brain. Everything else is *air*. `prepare` normalises by the
head's tissue, `measure` needs the head's own midline, and the training bench has to see what they see.

Arrays have the index order (slice, row, column). Nothing here knows millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliosight.bodies import box_of
from gliosight.study import Geometry

# A part of Otsu's threshold between air and tissue: the whole of it would cost dark tissue.
AIR_TO_TISSUE = 0.6
# The head is looked for on a coarse copy of about this many rows, columns and slices: finding it has to
# cost less than reading the file.
COARSE_IN_PLANE = 128
COARSE_SLICES = 64
# Voxels that are looked at. Most volumes have fewer; of larger ones every n-th voxel is taken, so that memory
# does not grow with them.
MOST_COARSE = 2**24
# Pixels of a slice hang together over their edges, and slices not at all.
IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[1, 1] = IN_PLANE[1, :, 1] = True


def find_head(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Mark the head in a volume.

    Parameters
    ----------
    values : (slices, rows, columns) array
        One sequence, finite. Only order and rough contrast of the values matter, not their scale: a
        gain, an offset or single voxels far outside change nothing.

    Returns
    -------
    (slices, rows, columns) bool array
        The largest connected body brighter than air, its holes filled slice by slice. All ``False``
        when there is no contrast at all.

    Notes
    -----
    Threshold by Otsu (https://doi.org/10.1109/TSMC.1979.4310076) between the robust extremes.
    """
    from scipy import ndimage

    step = max(1, min(values.shape[1], values.shape[2]) // COARSE_IN_PLANE)
    steps = [max(1, len(values) // COARSE_SLICES), step, step]
    sides = [-(-size // step) for size, step in zip(values.shape, steps, strict=True)]
    while math.prod(sides) > MOST_COARSE:  # long and narrow, or thousands of slices
        longest = sides.index(max(sides))
        steps[longest] *= 2
        sides[longest] = -(-values.shape[longest] // steps[longest])
    coarse = values[:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    base, top = np.percentile(coarse, (1.0, 99.5))
    if not top > base:
        return np.zeros(values.shape, dtype=bool)
    threshold = _otsu(coarse, base, top)
    mask: NDArray[np.bool_] = coarse > base + AIR_TO_TISSUE * (threshold - base)
    # Ghosts and noise in the air go.
    opened = _dilated(_eroded(mask))
    mask = opened if opened.any() else mask
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == int(np.bincount(labels[mask]).argmax())
    filled = _without_holes(mask)
    fine = filled.repeat(steps[0], axis=0).repeat(steps[1], axis=1).repeat(steps[2], axis=2)
    slices, rows, columns = values.shape
    return fine[:slices, :rows, :columns]


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What has its eight neighbours in the slice set, too; there are none beyond the edge."""
    out = np.zeros_like(mask)
    rows = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
    out[:, 1:-1, 1:-1] = rows[:, :, :-2] & rows[:, :, 1:-1] & rows[:, :, 2:]
    return out


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with the eight neighbours of each of its pixels in the slice."""
    rows = mask.copy()
    rows[:, 1:] |= mask[:, :-1]
    rows[:, :-1] |= mask[:, 1:]
    out = rows.copy()
    out[:, :, 1:] |= rows[:, :, :-1]
    out[:, :, :-1] |= rows[:, :, 1:]
    return out


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with what it encloses in a slice."""
    from scipy import ndimage

    filled = mask.copy()
    box = box_of(mask)  # holes are inside, and what reaches an edge of the box is none
    labels, count = ndimage.label(~mask[box], structure=IN_PLANE)
    hole = np.ones(count + 1, dtype=bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        hole[edge] = False
    filled[box] |= hole[labels]
    return filled


def head_box(head: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the head over all slices, half-open; the whole plane when it is empty.

    Rows or columns that hold less than 1 % of the fullest one are left out: a cable or a ghost must
    not widen the box.
    """
    box: list[tuple[int, int]] = []
    for axis in (1, 2):
        profile = head.sum(axis=(0, 3 - axis))
        inside = np.flatnonzero(profile > 0.01 * profile.max())
        box.append((int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, len(profile)))
    return box[0], box[1]


def _otsu(values: NDArray[np.float32], base: np.floating, top: np.floating) -> float:
    """Otsu's threshold of values that are clipped to ``base`` and ``top``."""
    # Air is most of a volume, and has one value in many: it is counted apart.
    above = np.clip(values[values > base], base, top)
    counts, edges = np.histogram(above, bins=256, range=(float(base), float(top)))
    counts[0] += values.size - above.size
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    moment = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * below / below[-1] - moment) ** 2 / (below * (below[-1] - below))
    return float(centres[int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))])


@dataclass(frozen=True)
class Midplane:
    """The head's own mid-sagittal plane, in world coordinates (RAS+, mm).

    World x = 0 is no midline: it is where the scanner's centre was.
    """

    point: NDArray[np.float64]
    to_right: NDArray[np.float64]

    def distances_to_right(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) signed distances of (n, 3) world positions, mm; positive towards the patient's right."""
        return np.asarray((world - self.point) @ self.to_right)


def fit_midplane(head: NDArray[np.bool_], geometry: Geometry) -> Midplane | None:
    """Fit the mid-sagittal plane to a head.

    Each line of voxels that runs nearest to left-right crosses the head in a chord; the chords' middles
    lie on the plane of symmetry. The plane ``x = a + b y + c z`` is fitted to them, three times, the
    worst fifth left out each time, since a tilted head shows an ear, a cheek or a hand on one side only.

    Parameters
    ----------
    head : (slices, rows, columns) bool array
    geometry : Geometry

    Returns
    -------
    Midplane or None
        ``None`` where there are too few chords to fit a plane to.
    """
    axes = np.stack([geometry.normal, geometry.row_direction, geometry.column_direction])
    lateral = int(np.abs(axes[:, 0]).argmax())
    others = [axis for axis in range(3) if axis != lateral]
    # A few thousand chords are plenty.
    steps = [max(1, head.shape[axis] // 64) for axis in others]
    thinned = np.moveaxis(head, lateral, 2)[:: steps[0], :: steps[1]]
    length = thinned.sum(axis=2)
    if not length.any():
        return None
    first = thinned.argmax(axis=2)
    last = thinned.shape[2] - 1 - thinned[:, :, ::-1].argmax(axis=2)
    long_enough = length > 0.4 * length.max()
    # Where the picture cuts the head off, the middle of the chord is not the head's.
    cut = (first == 0) | (last == thinned.shape[2] - 1) if lateral != 0 else False
    chosen = np.argwhere(long_enough & ~np.asarray(cut))
    if len(chosen) < 12:
        chosen = np.argwhere(long_enough)
    if len(chosen) < 3:
        return None
    middle = ((first + last) / 2)[tuple(chosen.T)]
    voxels = np.empty((len(chosen), 3))
    voxels[:, lateral] = middle
    for k, axis in enumerate(others):
        voxels[:, axis] = chosen[:, k] * steps[k]
    world = geometry.to_world(voxels)
    centre = world.mean(axis=0)
    x, yz = world[:, 0] - centre[0], world[:, 1:] - centre[1:]
    design = np.column_stack([np.ones(len(x)), yz])
    keep = np.ones(len(x), dtype=bool)
    # A single slice, or chords on one line, cannot tell the tilt: the smallest tilt is taken then.
    solution = np.zeros(3)
    for _ in range(3):
        solution = np.linalg.lstsq(design[keep], x[keep], rcond=1e-6)[0]
        residual = np.abs(x - design @ solution)
        keep = residual <= np.quantile(residual, 0.8)
    to_right = np.array([1.0, -solution[1], -solution[2]])
    point = centre + np.array([solution[0], 0.0, 0.0])
    return Midplane(point, to_right / np.linalg.norm(to_right))
