"""Grids of voxels: from an affine to a `Geometry`, and values at the voxels of another grid (read stage).

An affine is refused as a whole when a part of it cannot be trusted: half a geometry would give wrong
millimetres.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.flags import flag
from gliosight.read.checks import as_float32
from gliosight.study import Flag, Geometry

# Distances between pixels or slices that an MR scanner of heads can have, and the largest extent along any
# direction, mm: scanners see 500, and pictures are padded.
SMALLEST_SPACING, LARGEST_SPACING, LARGEST_EXTENT = 0.1, 20.0, 600.0
# Cosine between rows and columns up to which they count as perpendicular (as `Geometry` has it), and up to
# which they are straightened, 9 degrees: a rounded or fitted header. A registration may give more; its voxels
# are no rectangles that could be drawn.
PERPENDICULAR_WITHIN, MOST_SHEAR = 1e-3, 0.15
# Part of FLAIR's grid that another image must cover; with less it shows another place.
LEAST_COVERED = 0.5


class UnusableAffineError(ValueError):
    """No geometry can be made of this affine; the text is the reason, as part of a sentence."""


class EmptyAffineError(UnusableAffineError):
    """The affine is unusable: not finite, singular or a program's default."""


class ShearedAffineError(UnusableAffineError):
    """Rows and columns are not perpendicular."""


def check_extent(geometry: Geometry, plane: tuple[int, int]) -> None:
    """Raise `UnusableAffineError` where slices of ``plane`` (rows, columns) reach over more than 600 mm."""
    sides = {
        "rows": plane[0] * geometry.spacing[0],
        "columns": plane[1] * geometry.spacing[1],
        "slices": float(np.ptp(geometry.slice_positions)) + (geometry.slice_spacing or 0.0),
    }
    for name, extent in sides.items():
        if extent > LARGEST_EXTENT * (1 + 1e-4):
            what = f"the {name} reach over {extent:,.0f} mm"
            raise UnusableAffineError(f"{what}, more than {LARGEST_EXTENT:g} mm")


def is_default(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is what programs write where none was given.

    The first voxel lies at (0, 0, 0), and every axis has steps of 1 mm along one of the world's:
    ``numpy.eye(4)``, and ITK's identity, whose first two axes run backwards in RAS+.
    """
    steps = np.abs(affine[:3, :3])
    once = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    return bool(once and np.isin(steps, (0, 1)).all() and not affine[:3, 3].any())


def oddities(geometry: Geometry, name: str) -> list[Flag]:
    """The flag for an affine that a program wrote by itself."""
    if geometry.believed != "sizes":
        return []
    message = (
        f"The affine of {name} is the identity, which programs write where none was given. Voxels of "
        "1 mm are possible and believed; which side is left is unknown, and slices are taken as they are "
        "stored."
    )
    return [flag("SIDE_UNKNOWN", message)]


@np.errstate(all="ignore")
def sides_differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether two affines of one grid disagree on which side is left, by more than 60 degrees."""
    lateral = [affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (first, second)]
    lengths = float(np.linalg.norm(lateral[0]) * np.linalg.norm(lateral[1]))
    return bool(float(lateral[0] @ lateral[1]) < 0.5 * lengths)


@np.errstate(all="ignore")
def grid_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], last: tuple[int, ...]
) -> float:
    """Largest distance between the corners of two grids, 0 to ``last``, in the affines' unit."""
    corners = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)]) * [*last, 1]
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


# Headers hold anything: overflow and NaN are looked for in the results, not warned of.
@np.errstate(all="ignore")
def geometry_of(
    affine: NDArray[np.float64], shape: tuple[int, ...], *, straighten: bool = False
) -> Geometry:
    """Turn an affine from ``(slice, row, column, 1)`` to RAS+ mm into a geometry of ``shape`` voxels.

    Slices may be sheared against each other (a gantry tilt). With ``straighten`` rows and columns up to 9
    degrees off a right angle are turned to the nearest perpendicular axes; the middle of each slice and the
    volume of a voxel stay. Of a program's default (`is_default`) only the sizes are believed.

    Raises
    ------
    EmptyAffineError
        Not finite, singular, or a default beside sides that no volume of a whole head has at 1 mm.
    ShearedAffineError
    UnusableAffineError
        A spacing outside 0.1 to 20 mm, an origin 100 m away, sides longer than any scanner's field of view.
    """
    if not np.isfinite(affine).all():
        raise EmptyAffineError("the affine holds NaN or infinite numbers")
    slices, rows, columns = shape
    default = is_default(affine)
    if default and not 100 <= min(shape) <= max(shape) <= 300:
        what = "the affine is the identity, which programs write where none was given"
        head = f"{slices} x {rows} x {columns} mm"
        raise EmptyAffineError(f"{what}: a head of {head} is not possible")
    step, row, column, origin = np.array(affine[:3].T, dtype=np.float64)
    length, between_rows, between_columns = (
        float(np.linalg.norm(axis)) for axis in (step, row, column)
    )
    middle = origin + row * (rows - 1) / 2 + column * (columns - 1) / 2
    row, column = row / between_rows, column / between_columns
    cosine = float(row @ column)
    normal = np.cross(column, row)
    between_slices = abs(float(step @ (normal / np.linalg.norm(normal))))
    if (
        min(between_rows, between_columns) == 0
        or abs(cosine) > 1 - PERPENDICULAR_WITHIN
        or (slices > 1 and (length == 0 or between_slices < 0.1 * length))
    ):
        raise EmptyAffineError("the affine is singular")
    if float(np.abs(origin).max()) > 1e5:  # the slices' positions would drown in its rounding
        raise UnusableAffineError("the affine lies more than 100 m away")
    spacings = {"rows": between_rows, "columns": between_columns}
    if between_slices > 0:  # a single slice may have no step
        spacings["slices"] = between_slices
    for name, spacing in spacings.items():
        # A little slack: headers hold float32, and 0.1 or 20 itself is allowed.
        if not SMALLEST_SPACING * (1 - 1e-4) <= spacing <= LARGEST_SPACING * (1 + 1e-4):
            bounds = f"{SMALLEST_SPACING:g} to {LARGEST_SPACING:g} mm"
            raise UnusableAffineError(f"{name} are {spacing:g} mm apart, not {bounds}")
    if abs(cosine) > PERPENDICULAR_WITHIN:
        if not straighten or abs(cosine) > MOST_SHEAR:
            what = (
                f"rows and columns are {np.degrees(np.arcsin(abs(cosine))):.2g}° off a right angle"
            )
            raise ShearedAffineError(f"{what}, not perpendicular")
        # The nearest perpendicular vectors lie half-way between the diagonals.
        along, across = row + column, row - column
        along, across = along / np.linalg.norm(along), across / np.linalg.norm(across)
        row, column = (along + across) / np.sqrt(2), (along - across) / np.sqrt(2)
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


def pixels_of(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(2, rows * columns) array: row and column of every pixel of a slice of ``shape[1:]``."""
    return np.indices(shape[1:], dtype=np.float64).reshape(2, -1)


def resample(
    values: NDArray[Any], places: Callable[[int], NDArray[np.float64]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], float]:
    """Trilinear values at the voxels of another grid of ``shape``, and the part of them inside the image.

    ``places`` leads from a slice's number in that grid to (3, rows * columns) continuous indices of
    ``values``. Voxels up to half a voxel outside take the edge's value, those further out the smallest, as
    air has.
    """
    from scipy import ndimage

    last = np.array(values.shape, dtype=np.float64)[:, None] - 0.5
    air = np.float32(as_float32(values.min()))
    out = np.empty(shape, dtype=np.float32)
    inside_count = 0
    source = values if values.dtype.itemsize <= 4 else as_float32(values)
    for index in range(shape[0]):  # coordinates for all slices would need six times the volume
        at = places(index)
        inside = ((at >= -0.5) & (at <= last)).all(axis=0)
        plane = ndimage.map_coordinates(source, at, output=np.float32, order=1, mode="nearest")
        out[index] = np.where(inside, plane, air).reshape(shape[1:])
        inside_count += int(np.count_nonzero(inside))
    return out, inside_count / out.size
