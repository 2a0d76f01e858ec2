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

from gliosight.read.affines import UnusableAffineError, check_extent
from gliosight.read.dicom.elements import integer, stored
from gliosight.read.dicom.frames import Frame
from gliosight.read.dicom.splitting import normal_of
from gliosight.read.flags import flag
from gliosight.study import EVEN_WITHIN, Flag, Geometry

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Spacings outside of this are no head's, mm.
LEAST_SPACING, MOST_SPACING = 0.1, 20.0
# Slices are tilted when their origins lean from the normal by more than this, degrees.
TILTED_FROM = 1.0
# A gap counts as missing slices when it is this close to a multiple of the usual one, as a part of it.
MULTIPLE_WITHIN = 0.2


def in_order(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Frames by their position along the normal; by their numbers where one of them has no place."""
    along = _along(frames)
    if along is None:
        return tuple(sorted(frames, key=_number))
    return tuple(frames[int(one)] for one in np.argsort(along, kind="stable"))


def geometry_of(frames: Sequence[Frame]) -> tuple[Geometry | None, Flag | None]:
    """Geometry of frames in order, or the flag that says why there is none.

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
        return None, _no_geometry(
            "the headers lack position, orientation or pixel spacing, or what they say of them is none"
        )
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
        return None, _no_geometry(f"a spacing of {words} mm is no head's")
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


def _number(frame: Frame) -> tuple[int, int]:
    return integer(stored(frame.instance.header, "InstanceNumber")) or 0, frame.number


def _no_geometry(why: str) -> Flag:
    message = f"Millimetres are unknown, since {why}; sizes are in pixels, sides unknown."
    return flag("NO_GEOMETRY", message)
