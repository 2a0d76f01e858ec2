"""What is marked, held against what tumours look like (domain layer, below the stages).

Each rule is a flag, and makes the verdict of a study uncertain. Its limit lies beyond all 112 out-of-fold
studies with tumour (docs/trust.md): no rule takes a glioma for something else there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gliosight.bodies import box_of
from gliosight.flags import flag
from gliosight.head import fit_midplane
from gliosight.study import Flag, Geometry

Bools = NDArray[np.bool_]
Labels = NDArray[np.int32]

# This part of all marked voxels has a marked mirror image; or this part has one in another body. In gliomas
# at most 0.76 and 0.02.
SYMMETRIC, SYMMETRIC_APART = 0.8, 0.3
# How far from its mirror image a voxel may be, pixels in the plane: no head is symmetric to the pixel.
TOLERANCE = 3
# At least so many bodies of so many millilitres, of which the largest holds less than this part. In gliomas
# with as many the largest holds at least 0.68.
SCATTERED, SCATTERED_ML, SCATTERED_LARGEST = 4, 0.1, 0.5
# Largest part of the head that a tumour can have; in gliomas at most 0.16.
LARGEST_PART = 0.3
# Radius of the largest disk inside a body's largest slice, as a part of that of a disk of its area; in
# gliomas at least 0.51. Smaller bodies than this are too few pixels for a shape (mm²).
THINNEST, SHAPE_FROM_MM2 = 0.35, 100.0
# Most of the mask lies less than this below the head's surface (mm): scalp, skull, eyes. In gliomas, which
# reach the surface of stripped brains, at most 0.23.
SURFACE_MM, SURFACE_PART = 5.0, 0.5
# More voxels than this are not mirrored one by one.
MOST_MIRRORED = 50_000


def assumed_geometry(slices: int, sides: tuple[float, float, float]) -> Geometry:
    """The geometry of a study that has none: axial slices in the network's directions, ``sides`` in mm."""
    origins = np.zeros((slices, 3))
    origins[:, 2] = np.arange(slices) * sides[0]
    backwards, leftwards = np.array([0.0, -1.0, 0.0]), np.array([-1.0, 0.0, 0.0])
    return Geometry(origins, backwards, leftwards, (sides[1], sides[2]), slice_thickness=sides[0])


def find_doubts(
    candidates: Labels, mask: Bools, *, head: Bools, geometry: Geometry, axis: int
) -> tuple[Flag, ...]:
    """Flags of what looks unlike a tumour.

    Parameters
    ----------
    candidates : (slices, rows, columns) int array
        The bodies of all voxels at or above the threshold of the mask, see `gliosight.bodies.label_bodies`.
    mask : (slices, rows, columns) bool array
        Those of the lesions that are kept; not empty.
    head : (slices, rows, columns) bool array
    geometry : Geometry
    axis : int
        Along which the network's slices run.
    """
    flags = []
    share, apart = mirror_shares(candidates, head, geometry)
    if share >= SYMMETRIC or apart >= SYMMETRIC_APART:
        flags.append(
            flag(
                "SYMMETRIC",
                f"Of all voxels that reach the threshold of the mask, {max(share, apart):.0%} have a mirror "
                "image that does, too: white-matter disease and artefacts are symmetric, gliomas are not.",
            )
        )
    sizes = _sizes_ml(candidates, geometry)
    many = sizes >= SCATTERED_ML
    if many.sum() >= SCATTERED and sizes.max() < SCATTERED_LARGEST * sizes.sum():
        flags.append(
            flag(
                "SCATTERED",
                f"{many.sum()} separate foci reach the threshold of the mask, and none is much larger than "
                "the others: a glioma is one body as a rule. The mask keeps the most probable.",
            )
        )
    part = mask.sum() / max(int(head.sum()), 1)
    if part > LARGEST_PART:
        flags.append(
            flag(
                "LESION_TOO_LARGE",
                f"The mask fills {part:.0%} of the head, more than a tumour can.",
            )
        )
    round_by = _roundness(mask, geometry, axis)
    if round_by is not None and round_by < THINNEST:
        flags.append(
            flag("LESION_THIN", "What is marked is thin or branching; a tumour is a compact body.")
        )
    surface = _surface_part(mask, head, geometry)
    if surface > SURFACE_PART:
        flags.append(
            flag(
                "LESION_AT_SURFACE",
                f"{surface:.0%} of the mask lies within {SURFACE_MM:g} mm of the head's surface: in scalp, "
                "skull or eyes, where no glioma grows.",
            )
        )
    return tuple(flags)


def mirror_shares(labels: Labels, head: Bools, geometry: Geometry) -> tuple[float, float]:
    """Shares of the voxels of bodies whose mirror image is in a body, at all and in another one.

    The mirror is the head's own mid-sagittal plane; 0 where it cannot be fitted.
    """
    from scipy import ndimage

    plane = fit_midplane(head, geometry)
    if plane is None:
        return 0.0, 0.0
    box = box_of(labels > 0)
    # In as few bytes a voxel as hold a label: two copies of them are made below.
    bodies = labels[box].astype(np.min_scalar_type(int(labels.max(initial=0))))
    corner = np.array([part.start for part in box])
    step = math.ceil(math.sqrt(np.count_nonzero(bodies) / MOST_MIRRORED)) or 1
    # Every n-th row and column of the volume.
    first = -corner[1:] % step
    voxels = np.argwhere(bodies[:, first[0] :: step, first[1] :: step]) * (1, step, step)
    voxels += (0, *first)
    if not len(voxels):
        return 0.0, 0.0
    world = geometry.to_world((voxels + corner).astype(np.float64))
    away = plane.distances_to_right(world)
    image = _to_voxels(world - 2 * away[:, None] * plane.to_right, geometry)
    inside = ((image >= 0) & (image < labels.shape)).all(axis=1)
    # Of several bodies near an image the one with the highest label counts. Far from all bodies is none.
    margin = (0, TOLERANCE, TOLERANCE)
    padded = np.pad(bodies, [(0, 0), (TOLERANCE, TOLERANCE), (TOLERANCE, TOLERANCE)])
    image = image - corner + margin
    inside &= ((image >= 0) & (image < padded.shape)).all(axis=1)
    reach = (1, 2 * TOLERANCE + 1, 2 * TOLERANCE + 1)
    near = np.zeros(len(voxels), dtype=labels.dtype)
    near[inside] = ndimage.maximum_filter(padded, reach)[tuple(image[inside].T)]
    own = bodies[tuple(voxels.T)]
    return float((near > 0).mean()), float(((near > 0) & (near != own)).mean())


def _to_voxels(world: NDArray[np.float64], geometry: Geometry) -> NDArray[np.int64]:
    """(n, 3) nearest voxels of (n, 3) positions, mm; they may lie outside the volume."""
    positions = geometry.slice_positions
    spacing = geometry.slice_spacing or 1.0
    along = world @ geometry.normal
    slices = np.interp(along, positions, np.arange(len(positions)))
    slices = np.where(along < positions[0], (along - positions[0]) / spacing, slices)
    slices = np.where(
        along > positions[-1], len(positions) - 1 + (along - positions[-1]) / spacing, slices
    )
    nearest = np.rint(slices).astype(np.int64)
    offset = world - geometry.origins[np.clip(nearest, 0, len(positions) - 1)]
    rows = np.rint(offset @ geometry.row_direction / geometry.spacing[0]).astype(np.int64)
    columns = np.rint(offset @ geometry.column_direction / geometry.spacing[1]).astype(np.int64)
    return np.column_stack([nearest, rows, columns])


def _sizes_ml(labels: Labels, geometry: Geometry) -> NDArray[np.float64]:
    """(bodies,) volume of each connected body, ml."""
    bodies = labels[box_of(labels > 0)]
    count = int(bodies.max(initial=0)) + 1
    # Slice by slice: of the whole, a copy of eight bytes a voxel would be made.
    sizes = np.zeros(count, dtype=np.int64)
    for plane in bodies:
        sizes += np.bincount(plane.ravel(), minlength=count)
    voxel = geometry.pixel_area * (geometry.slice_spacing or geometry.slice_thickness or 1.0)
    return np.asarray(sizes[1:] * voxel / 1000)


def _roundness(mask: Bools, geometry: Geometry, axis: int) -> float | None:
    """Radius of the largest disk in the mask's largest slice, as a part of a disk's of that area."""
    from scipy import ndimage

    planes = np.moveaxis(mask[box_of(mask)], axis, 0)
    plane = planes[int(planes.sum(axis=(1, 2)).argmax())]
    labels, _ = ndimage.label(plane)
    body = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    sides = (geometry.slice_spacing or 1.0, *geometry.spacing)
    height, width = (sides[other] for other in range(3) if other != axis)
    area = float(body.sum()) * height * width
    if area < SHAPE_FROM_MM2:
        return None
    padded = np.pad(body, 1)  # the picture's edge is an edge of the body, too
    radius = float(ndimage.distance_transform_edt(padded, sampling=(height, width)).max())
    return radius / float(np.sqrt(area / np.pi))


def _surface_part(mask: Bools, head: Bools, geometry: Geometry) -> float:
    """Part of the mask that lies near the head's surface in its slice, or outside the head."""
    from scipy import ndimage

    steps = max(1, round(SURFACE_MM / max(geometry.spacing)))
    # What lies further away does not reach the mask.
    slices, *plane = box_of(mask)
    near = slices, *(slice(max(0, part.start - steps), part.stop + steps) for part in plane)
    deep = 0
    for marked, filled in zip(mask[near], head[near], strict=True):
        if marked.any():
            # A head that the picture cuts off goes on outside.
            core = ndimage.binary_erosion(filled, iterations=steps, border_value=1)
            deep += int((marked & core).sum())
    return 1 - deep / int(mask.sum())
