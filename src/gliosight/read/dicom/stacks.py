"""Where the slices of one stack lie (read stage, DICOM, below `series`).

In: frames of one direction and size, one for each position. Out: the frames in order, the `Geometry` in RAS+,
and flags for gaps, tilt and what is missing. DICOM's patient coordinates are LPS (PS3.3 section C.7.6.2.1.1):
x and y change their sign here, and only here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gliosight.read.dicom.acquisition import Frame
from gliosight.read.dicom.elements import number, stored
from gliosight.read.dicom.mixtures import SAME_POSITION
from gliosight.read.dicom.splitting import is_parallel, normal_of, order_of
from gliosight.read.flags import flag
from gliosight.read.grid import UnusableAffineError, check_extent
from gliosight.study import EVEN_WITHIN, Flag, Geometry

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Spacings outside of this are no head's, mm.
LEAST_SPACING, MOST_SPACING = 0.1, 20.0
# Slices are tilted when their origins lean from the normal by more than this, degrees.
TILTED_FROM = 1.0
# A gap counts as missing slices when it is this close to a multiple of the usual one, as a part of it.
MULTIPLE_WITHIN = 0.2
# Slices of several series are one stack: no closer than this part of their usual or stated distance, no
# further apart than this many of them, in all no wider than this many times what headers state, and no
# further off their line, mm.
CLOSEST, MOST_MISSING = 0.7, 3.5
WIDER_THAN_STATED, WIDER_THAN_THICK = 1.5, 2.5
MOST_OFF = 2.0
# How the reason ends where slices do not overlap, but are too far from each other.
MM_APART = "mm apart"


def in_order(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Frames by their position along the normal; where one of them has no place, as `order_of` says."""
    along = _along(frames)
    if along is not None:
        return tuple(frames[int(one)] for one in np.argsort(along, kind="stable"))
    order = order_of(frames)
    ranks = [0.0] * len(frames) if order is None else order[1]
    return tuple(frames[int(one)] for one in np.argsort(ranks, kind="stable"))


def why_no_stack(frames: Sequence[Frame]) -> str:
    """Why frames that name several series are not one stack; ``""`` where they lie slice beside slice.

    Stricter than for slices of one series, since only their place says that they belong together: no two
    overlap, single slices may be missing, and none is shifted off the line of the others.
    """
    along = _along(frames)
    if along is None:
        return "their headers do not say where they lie"
    if len(frames) == 1:
        return ""
    if not all(is_parallel(frames[0], one) for one in frames):
        return "their directions or pixel sizes differ"
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.percentile(steps, 50, method="lower"))
    header, thick = frames[0].instance.header, max(one.thickness or 0.0 for one in frames)
    stated = number(stored(header, "SpacingBetweenSlices"), LEAST_SPACING, MOST_SPACING)
    if steps.min() < max(SAME_POSITION, CLOSEST * max(usual, stated or thick)):
        return "some lie at one place or overlap"
    far = (WIDER_THAN_STATED if stated else WIDER_THAN_THICK) * max(stated or 0.0, thick)
    if steps.max() > MOST_MISSING * usual or (thick and usual > far):
        return f"they lie up to {steps.max():.0f} {MM_APART}"
    geometry, problem = geometry_of([frames[int(one)] for one in order])
    if geometry is None:
        return "their positions make no sense" if problem is None else problem.message
    if len(frames) > 2 and _lean(geometry)[1] > MOST_OFF:
        return "they are shifted against each other"
    return ""


def geometry_of(frames: Sequence[Frame]) -> tuple[Geometry | None, Flag | None]:
    """Geometry of frames in order, or the flag that says why they have none.

    Parameters
    ----------
    frames : sequence of Frame
        In order, of one direction.

    Returns
    -------
    geometry : Geometry or None
        RAS+ mm. ``row_direction`` is the second triple of ImageOrientationPatient: that in which the row
        index grows.
    problem : Flag or None
    """
    first = frames[0]
    if first.orientation is None or first.spacing is None or _along(frames) is None:
        why = "position, orientation or pixel spacing is missing or makes no sense"
        if _along(frames) is None and len(frames) > 1 and (order := order_of(frames)) is not None:
            why += f"; the slices are in the order of their {order[0]}"
        return None, _no_geometry(why)
    across, down = (first.orientation[k : k + 3] * LPS_TO_RAS for k in (0, 3))
    across = across / np.linalg.norm(across)
    down = down - (down @ across) * across
    origins = np.array([one.position for one in frames], dtype=np.float64) * LPS_TO_RAS
    geometry = Geometry(
        origins, down / np.linalg.norm(down), across, first.spacing, first.thickness
    )
    spacings = [*first.spacing, *([geometry.slice_spacing] if geometry.slice_spacing else [])]
    if not LEAST_SPACING <= min(spacings) <= max(spacings) <= MOST_SPACING * (1 + 1e-6):
        words = " x ".join(f"{one:.3g}" for one in spacings)
        return None, _no_geometry(f"a spacing of {words} mm does not fit a head")
    try:
        check_extent(geometry, (first.acquisition.rows or 0, first.acquisition.columns or 0))
    except UnusableAffineError as error:
        return None, _no_geometry(str(error))
    return geometry, None


def gaps_of(geometry: Geometry) -> list[Flag]:
    """Flags for a single slice, missing slices, uneven gaps and tilt."""
    if geometry.slices == 1:
        known = geometry.slice_thickness
        kept = f"its thickness, {known:.3g} mm, stands for" if known else "nothing tells"
        return [flag("SINGLE_SLICE", f"A single slice: {kept} the distance to the next.")]
    steps = np.diff(geometry.slice_positions)
    # The lower of two middle ones: a gap left by a missing slice is never the usual one.
    usual = float(np.percentile(steps, 50, method="lower"))
    out = []
    parts = steps / usual
    whole = np.rint(parts)
    missing = (whole >= 2) & (np.abs(parts - whole) <= MULTIPLE_WITHIN)
    if missing.any():
        count = int((whole[missing] - 1).sum())
        where = ", ".join(f"{int(one)} and {int(one) + 1}" for one in np.flatnonzero(missing)[:3])
        out.append(
            flag(
                "MISSING_SLICES",
                f"{'1 slice is' if count == 1 else f'{count} slices are'} missing (between slices "
                f"{where}); nothing is filled in, and volumes are lower bounds.",
            )
        )
    lean, off = _lean(geometry)
    if lean > TILTED_FROM:
        out.append(
            flag(
                "GANTRY_TILT",
                f"The slices are shifted against each other as by a tilt of {lean:.1f} degrees.",
            )
        )
    rest = np.abs(parts[~missing] - 1).max(initial=0.0)
    if rest > EVEN_WITHIN or off > EVEN_WITHIN * usual:
        even = steps[~missing]
        out.append(
            flag(
                "UNEVEN_SPACING",
                f"The distance between slices is uneven, {even.min():.2f} to {even.max():.2f} mm; "
                "positions are kept as they are.",
            )
        )
    return out


def _lean(geometry: Geometry) -> tuple[float, float]:
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


def _along(frames: Sequence[Frame]) -> NDArray[np.float64] | None:
    direction = frames[0].orientation
    positions = [one.position for one in frames if one.orientation is not None]
    known = [one for one in positions if one is not None]
    if direction is None or len(known) < len(frames):
        return None
    return np.asarray(np.array(known) @ normal_of(direction), dtype=np.float64)


def _no_geometry(why: str) -> Flag:
    message = f"Millimetres are unknown, since {why}; sizes are in pixels, sides unknown."
    return flag("NO_GEOMETRY", message)
