"""The order of the slices of a stack, and its geometry (read stage, DICOM).

Slices are ordered by ImagePositionPatient along the normal. SliceLocation and InstanceNumber count only
where positions are missing, and a flag says so. DICOM's patient coordinates are LPS (PS3.3 section
C.7.6.2.1.1): x and y change their sign here, and only here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gliosight.flags import flag
from gliosight.read.checks import lone_slice
from gliosight.read.dicom.acquisition import Frame, frame_count
from gliosight.read.dicom.elements import number, stored
from gliosight.read.grid import UnusableAffineError, check_extent
from gliosight.study import EVEN_WITHIN, Flag, Geometry

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Positions within so many mm are one.
SAME_POSITION = 0.02
# Spacings outside of this are no head's, mm.
LEAST_SPACING, MOST_SPACING = 0.1, 20.0
# Slices are tilted when their origins lean from the normal by more than this, degrees.
TILTED_FROM = 1.0
# A gap counts as missing slices when it is this close to a multiple of the usual one, as a part of it.
MULTIPLE_WITHIN = 0.2


def is_placed(frames: Sequence[Frame]) -> bool:
    """Whether every frame has a position and a direction."""
    return all(frame.position is not None and frame.orientation is not None for frame in frames)


def along_normal(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Positions along the normal of the first frame, LPS (PS3.3 section C.7.6.2.1.1), mm."""
    orientation = frames[0].orientation
    if orientation is None:
        return np.arange(len(frames), dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    return np.asarray(positions @ (normal / np.linalg.norm(normal)))


def ranks_of(frames: Sequence[Frame]) -> list[int]:
    """For each frame the rank of its position along the normal; equal where positions are one."""
    along = along_normal(frames)
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_POSITION
    places = np.empty(len(frames), dtype=np.intp)
    places[order] = np.cumsum(new)
    return [int(place) for place in places]


def order_of(frames: Sequence[Frame]) -> tuple[str, list[float]] | None:
    """What orders slices whose positions are unknown: a keyword and its values, each there once.

    ``None`` where nothing does. It is a guess in either case: the caller has to flag it.
    """
    for keyword in ("SliceLocation", "InstanceNumber"):
        values = [number(stored(frame.instance.header, keyword)) for frame in frames]
        known = [value for value in values if value is not None]
        if len(set(known)) == len(frames):
            return keyword, known
    if all(frame_count(frame.instance) > 1 for frame in frames):  # in this order already
        return "frame number", [float(rank) for rank in range(len(frames))]
    return None


def in_order(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Frames by their position along the normal; where one of them has no place, as `order_of` says."""
    if is_placed(frames):
        ranks: Sequence[float] | NDArray[np.float64] = along_normal(frames)
    else:
        order = order_of(frames)
        ranks = [0.0] * len(frames) if order is None else order[1]
    return tuple(frames[int(index)] for index in np.argsort(ranks, kind="stable"))


def geometry_of(frames: Sequence[Frame]) -> tuple[Geometry | None, Flag | None]:
    """Geometry of frames in order and of one direction, RAS+ mm, or the flag that says why they have none.

    ``row_direction`` is the second triple of ImageOrientationPatient: that in which the row index grows.
    """
    first, placed = frames[0], is_placed(frames)
    if first.orientation is None or first.spacing is None or not placed:
        why = "position, orientation or pixel spacing is missing or makes no sense"
        if not placed and len(frames) > 1 and (order := order_of(frames)) is not None:
            why += f"; the slices are in the order of their {order[0]}"
        return None, _no_geometry(why)
    across, down = (first.orientation[k : k + 3] * LPS_TO_RAS for k in (0, 3))
    across = across / np.linalg.norm(across)
    down = down - (down @ across) * across
    origins = np.array([frame.position for frame in frames], dtype=np.float64) * LPS_TO_RAS
    try:
        geometry = Geometry(
            origins, down / np.linalg.norm(down), across, first.spacing, first.thickness
        )
    except ValueError as error:  # slices turned by up to a degree, and far apart in their plane
        return None, _no_geometry(f"directions and positions contradict each other ({error})")
    spacings = [*first.spacing, *([geometry.slice_spacing] if geometry.slice_spacing else [])]
    if not LEAST_SPACING <= min(spacings) <= max(spacings) <= MOST_SPACING * (1 + 1e-6):
        words = " x ".join(f"{spacing:.3g}" for spacing in spacings)
        return None, _no_geometry(f"a spacing of {words} mm does not fit a head")
    try:
        check_extent(geometry, (first.acquisition.rows or 0, first.acquisition.columns or 0))
    except UnusableAffineError as error:
        return None, _no_geometry(str(error))
    return geometry, None


def _no_geometry(why: str) -> Flag:
    message = f"Millimetres are unknown, since {why}; sizes are in pixels, sides unknown."
    return flag("NO_GEOMETRY", message)


def gaps_of(geometry: Geometry) -> list[Flag]:
    """Flags for a single slice, missing slices, uneven gaps and tilt."""
    if geometry.slices == 1:
        return list(lone_slice(1, geometry))
    steps = np.diff(geometry.slice_positions)
    usual = usual_step(steps)
    parts = steps / usual
    whole = np.rint(parts)
    missing = (whole >= 2) & (np.abs(parts - whole) <= MULTIPLE_WITHIN)
    flags = []
    if missing.any():
        count = int((whole[missing] - 1).sum())
        where = ", ".join(f"{int(k) + 1} and {int(k) + 2}" for k in np.flatnonzero(missing)[:3])
        message = (
            f"{'1 slice is' if count == 1 else f'{count} slices are'} missing (between slices "
            f"{where}); nothing is filled in, and volumes are lower bounds."
        )
        flags.append(flag("MISSING_SLICES", message))
    lean, off = lean_of(geometry)
    if lean > TILTED_FROM:
        message = f"The slices are shifted against each other as by a tilt of {lean:.1f} degrees."
        flags.append(flag("GANTRY_TILT", message))
    rest = np.abs(parts[~missing] - 1).max(initial=0.0)
    if rest > EVEN_WITHIN or off > EVEN_WITHIN * usual:
        even = steps[~missing]
        message = (
            f"The distance between slices is uneven, {even.min():.2f} to {even.max():.2f} mm; "
            "positions are kept as they are."
        )
        flags.append(flag("UNEVEN_SPACING", message))
    return flags


def usual_step(steps: NDArray[np.float64]) -> float:
    """The median step; of two middle ones the lower: a gap left by a missing slice is never the usual one."""
    return float(np.percentile(steps, 50, method="lower"))


def lean_of(geometry: Geometry) -> tuple[float, float]:
    """Angle (degrees) between the way from slice to slice and the normal, and the largest shift off it, mm.

    The way is the straight line through the origins that fits best.
    """
    positions = geometry.slice_positions
    aside = geometry.origins - np.outer(positions, geometry.normal)
    z = positions - positions.mean()
    aside = aside - aside.mean(axis=0)
    slope = (z @ aside) / (z @ z)
    off = float(np.linalg.norm(aside - np.outer(z, slope), axis=1).max())
    return math.degrees(math.atan(float(np.linalg.norm(slope)))), off
