"""From an affine to a `Geometry`, or the reason why not (read stage, for NIfTI and arrays).

An affine is refused as a whole when a part of it cannot be trusted: half a geometry would give
millimetres nobody can believe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliosight.read.flags import flag
from gliosight.study import Flag, Geometry

# Distances between pixels or slices that an MR scanner of heads can have, mm.
SMALLEST_SPACING, LARGEST_SPACING = 0.1, 20.0
# No scanner shows more at once along any direction, mm: 500 is the most, and pictures are padded. Beyond it
# the spacing is wrong, though a head may be seen.
LARGEST_EXTENT = 600.0
# Cosine between the in-plane axes up to which they count as perpendicular (as `Geometry` has it).
PERPENDICULAR_WITHIN = 1e-3
# Cosine up to which an in-plane shear is straightened, 9 degrees: a rounded or fitted header. A registration
# may give more; such a volume was not resampled, and its voxels are no rectangles that could be drawn.
MOST_SHEAR = 0.15
# Cosine between slice step and normal below which slices hardly follow each other at all.
LEAST_NORMAL = 0.1
# An origin farther away than this (mm) is no scanner's; the steps would drown in its rounding.
FARTHEST = 1e5
# Sides that a volume of a whole head can have if its voxels are 1 mm long, mm.
SHORTEST_SIDE, LONGEST_SIDE = 100, 300
# Cosine between two directions below which they are not the same one, 60 degrees.
ALIKE_FROM = 0.5


class UnusableAffineError(ValueError):
    """No geometry can be made of this affine; the text says why, as part of a sentence.

    ``empty``: the affine says nothing at all (not finite, or singular), rather than something odd.
    """

    def __init__(self, reason: str, *, empty: bool = False) -> None:
        self.empty = empty
        super().__init__(reason)


class ShearedAffineError(UnusableAffineError):
    """Rows and columns are not perpendicular."""


def check_extent(geometry: Geometry, plane: tuple[int, int]) -> None:
    """Refuse a geometry whose rows, columns or slices reach farther than a scanner sees.

    Raises
    ------
    UnusableAffineError
        More than 600 mm between the outer edges, with slices of ``plane`` (rows, columns) pixels.
    """
    sides = {
        "rows": plane[0] * geometry.spacing[0],
        "columns": plane[1] * geometry.spacing[1],
        "slices": float(np.ptp(geometry.slice_positions)) + (geometry.slice_spacing or 0.0),
    }
    for name, extent in sides.items():
        if extent > LARGEST_EXTENT * (1 + 1e-4):
            raise UnusableAffineError(
                f"the {name} reach over {extent:,.0f} mm, more than {LARGEST_EXTENT:g} mm"
            )


def is_default(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is what programs write where none was given.

    The first voxel lies at exactly (0, 0, 0), and every axis has steps of 1 mm along one of the world's:
    ``numpy.eye(4)``, and ITK's identity, whose first two axes run backwards in RAS+.
    """
    if np.any(affine[:3, 3]):
        return False
    steps = np.abs(affine[:3, :3])
    once = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    return bool(once and np.isin(steps, (0, 1)).all())


def default_affine(name: str) -> Flag:
    """The flag for an affine that a program wrote by itself, with voxels that can be 1 mm long."""
    message = (
        f"The affine of {name} is the identity, which programs write where none was given. Voxels of 1 mm "
        "are possible and believed; which side is left is unknown, and slices are taken as they are stored."
    )
    return flag("SIDE_UNKNOWN", message)


@np.errstate(all="ignore")
def sides_differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether two affines of one grid disagree on which side is left."""
    lateral = [affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (first, second)]
    lengths = float(np.linalg.norm(lateral[0]) * np.linalg.norm(lateral[1]))
    return bool(float(lateral[0] @ lateral[1]) < ALIKE_FROM * lengths)


# Headers hold anything: overflow and NaN are looked for in the results, not warned of.
@np.errstate(all="ignore")
def geometry_of(
    affine: NDArray[np.float64], shape: tuple[int, ...], *, straighten: bool = False
) -> Geometry:
    """Turn an affine into a geometry.

    Parameters
    ----------
    affine : (4, 4) array
        From ``(slice, row, column, 1)`` to RAS+ mm. Slices may be sheared against each other (a
        gantry tilt); rows and columns may not.
    shape : tuple of int
        (slices, rows, columns).
    straighten : bool
        Turn rows and columns that are up to `MOST_SHEAR` off a right angle to the nearest axes that
        are perpendicular. The middle of each slice and the volume of a voxel stay.

    Raises
    ------
    ShearedAffineError
        In-plane axes that are not perpendicular.
    UnusableAffineError
        Not finite, singular, a spacing outside 0.1 to 20 mm, an origin 100 m away, sides longer than any
        scanner's field of view, or a program's default (`is_default`) beside sides that no volume of a whole
        head has at 1 mm. Where they can be true, only the sizes are believed.
    """
    if not np.isfinite(affine).all():
        raise UnusableAffineError("the affine holds NaN or infinite numbers", empty=True)
    slices, rows, columns = shape
    default = is_default(affine)
    if default and not SHORTEST_SIDE <= min(shape) <= max(shape) <= LONGEST_SIDE:
        raise UnusableAffineError(
            "the affine is the identity, which programs write where none was given: a head of "
            f"{slices} x {rows} x {columns} mm is not possible",
            empty=True,
        )
    step, row, column = (np.asarray(affine[:3, axis], dtype=np.float64) for axis in range(3))
    origin = np.asarray(affine[:3, 3], dtype=np.float64)
    between_rows, between_columns = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if between_rows == 0 or between_columns == 0:
        raise UnusableAffineError("the affine is singular", empty=True)
    middle = origin + row * (rows - 1) / 2 + column * (columns - 1) / 2
    row, column = row / between_rows, column / between_columns
    cosine = float(row @ column)
    if abs(cosine) > 1 - PERPENDICULAR_WITHIN:
        raise UnusableAffineError("the affine is singular", empty=True)
    normal = np.cross(column, row)
    normal /= np.linalg.norm(normal)
    between_slices = abs(float(step @ normal))
    length = float(np.linalg.norm(step))
    if slices > 1 and (length == 0 or between_slices < LEAST_NORMAL * length):
        raise UnusableAffineError("the affine is singular", empty=True)
    if float(np.abs(origin).max()) > FARTHEST:
        raise UnusableAffineError(f"the affine lies more than {FARTHEST / 1000:g} m away")
    _check_spacing(rows=between_rows, columns=between_columns)
    if between_slices > 0:  # a single slice may have no step
        _check_spacing(slices=between_slices)
    if abs(cosine) > PERPENDICULAR_WITHIN:
        if not straighten or abs(cosine) > MOST_SHEAR:
            degrees = float(np.degrees(np.arcsin(abs(cosine))))
            raise ShearedAffineError(
                f"rows and columns are {degrees:.2g}° off a right angle, not perpendicular"
            )
        row, column = _straightened(row, column)
        shrunk = (1 - cosine**2) ** 0.25  # the area of the unit rhombus is the sine
        between_rows, between_columns = between_rows * shrunk, between_columns * shrunk
        half = row * between_rows * (rows - 1) + column * between_columns * (columns - 1)
        origin = middle - half / 2
    geometry = Geometry(
        origins=origin + np.arange(slices)[:, None] * step,
        row_direction=row,
        column_direction=column,
        spacing=(between_rows, between_columns),
        slice_thickness=between_slices if slices == 1 and between_slices > 0 else None,
        believed="sizes" if default else "all",
    )
    check_extent(geometry, (rows, columns))
    return geometry


@np.errstate(all="ignore")
def grid_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]
) -> float:
    """Largest distance between the corners of two grids of the same shape, in the affines' unit."""
    corners = np.array(
        [[*corner, 1.0] for corner in np.ndindex(2, 2, 2)] * np.array([*shape, 1]), dtype=np.float64
    )
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def _straightened(
    row: NDArray[np.float64], column: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The perpendicular unit vectors nearest to two others: half-way between their diagonals."""
    along, across = row + column, row - column
    along, across = along / np.linalg.norm(along), across / np.linalg.norm(across)
    return (along + across) / np.sqrt(2), (along - across) / np.sqrt(2)


def _check_spacing(**spacings: float) -> None:
    for what, spacing in spacings.items():
        # A little slack: headers hold float32, and 0.1 or 20 itself is allowed.
        if not SMALLEST_SPACING * (1 - 1e-4) <= spacing <= LARGEST_SPACING * (1 + 1e-4):
            raise UnusableAffineError(
                f"{what} are {spacing:g} mm apart, not {SMALLEST_SPACING:g} to "
                f"{LARGEST_SPACING:g} mm"
            )
