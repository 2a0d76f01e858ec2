"""Where a phantom's pictures lie in the patient, as DICOM says it (phantom layer).

In: a `Phantom` and a `DicomSpec`. Out: a `Stack`, pictures with positions in LPS mm, and for those
who check: the truth and the geometry in the order of a reader.

*Written order* is the order of the files: the phantom's axes as `DicomSpec` permutes and flips
them. *Reader's order* has the same rows and columns, but the slices by their position along the
normal, growing; the normal is the cross product of the first three and the last three numbers of
ImageOrientationPatient (PS3.3 C.7.6.2.1.1), so it follows from the headers alone. The two orders
differ by a flip of the first axis where the written axes are left-handed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.phantom.dicom.spec import DicomSpec
from gliosight.phantom.files import to_bytes
from gliosight.phantom.studies import Phantom
from gliosight.study import Geometry, Sequence

Array = NDArray[np.float64]

# RAS+ and LPS differ by the sign of x and y.
TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Parallel pictures in written order.

    Parameters
    ----------
    values : (slices, rows, columns) array
    positions : (slices, 3) array
        ImagePositionPatient, LPS mm.
    orientation : (6,) array
        ImageOrientationPatient: first the direction in which the column index grows.
    spacing : (float, float)
        Between rows, between columns, mm.
    step : float
        Between slices where they are even, mm; their thickness as well.
    """

    values: NDArray[np.generic]
    positions: Array
    orientation: Array
    spacing: tuple[float, float]
    step: float

    @property
    def normal(self) -> Array:
        """Unit vector of the reader's order, LPS."""
        return np.asarray(np.cross(self.orientation[:3], self.orientation[3:]), dtype=np.float64)

    @property
    def backwards(self) -> bool:
        """Whether written order runs against the reader's."""
        along = self.positions @ self.normal
        return bool(along[-1] < along[0])


def stack_of(
    phantom: Phantom,
    spec: DicomSpec,
    values: NDArray[np.generic],
    order: tuple[int, int, int] | None = None,
) -> Stack:
    """Put an array on the phantom's grid into written order, and into the world.

    Parameters
    ----------
    phantom : Phantom
    spec : DicomSpec
    values : (slices, rows, columns) array
        In the phantom's order.
    order : permutation, optional
        Instead of the spec's, unflipped.

    Raises
    ------
    ValueError
        The spec leaves out slices that are not there, or all of them.
    """
    affine = phantom.geometry.affine
    if affine is None:
        raise ValueError("the phantom's slices are uneven: they cannot be turned round")
    flips = spec.flips if order is None else (False, False, False)
    order = spec.order if order is None else order
    steps = affine[:3, :3].T[list(order)]  # (3, 3): world step of each written axis
    origin = affine[:3, 3].copy()
    written = values.transpose(order)
    for axis, flipped in enumerate(flips):
        if flipped:
            written = np.flip(written, axis)
            origin += steps[axis] * (written.shape[axis] - 1)
            steps[axis] = -steps[axis]
    lengths = np.linalg.norm(steps, axis=1)
    count = written.shape[0]
    indices = np.arange(count) + _displacements(phantom, spec, count)
    positions = origin + indices[:, None] * steps[0]
    # The middle slice stays where it is.
    shear = (indices - (count - 1) / 2) * lengths[0] * np.tan(np.radians(spec.tilt_degrees))
    positions = positions + shear[:, None] * steps[1] / lengths[1]
    keep = np.setdiff1d(np.arange(count), spec.missing)
    if len(keep) == 0 or any(one >= count for one in spec.missing):
        raise ValueError(f"missing are {spec.missing}, the written stack has {count} slices")
    turned = steps @ np.asarray(spec.rotation).T
    return Stack(
        values=written[keep],
        positions=to_patient(positions[keep], spec),
        orientation=_clean(
            np.concatenate([turned[2] / lengths[2] * TO_LPS, turned[1] / lengths[1] * TO_LPS])
        ),
        spacing=(float(lengths[1]), float(lengths[2])),
        step=float(lengths[0]),
    )


def reslice(
    phantom: Phantom,
    spec: DicomSpec,
    values: NDArray[np.generic],
    plane: str,
    offsets: Array,
) -> Stack:
    """Sample square pictures through the middle of the phantom, for what is on another grid.

    Parameters
    ----------
    phantom : Phantom
    spec : DicomSpec
    values : (slices, rows, columns) array
    plane : {"axial", "coronal", "sagittal"}
    offsets : (pictures,) array
        mm from the middle along the plane's normal in the world (up, front, right).

    Returns
    -------
    Stack
        Float values, 0 outside; the patient moves as everywhere, `DicomSpec.order` plays no part.
    """
    down, across, out = {
        "axial": ((0, -1, 0), (-1, 0, 0), (0, 0, 1)),
        "coronal": ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
        "sagittal": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    }[plane]
    affine = phantom.geometry.affine
    if affine is None:
        raise ValueError("the phantom's slices are uneven: they cannot be sampled")
    middle = affine[:3, :3] @ (np.array(values.shape) - 1) / 2 + affine[:3, 3]
    matrix, pixel = phantom.spec.matrix, phantom.spec.pixel_mm
    line = (np.arange(matrix) - (matrix - 1) / 2) * pixel
    origins = (
        middle + np.multiply.outer(offsets, out) + line[0] * (np.array(down) + np.array(across))
    )
    points = (
        origins[:, None, None, :]
        + np.multiply.outer(line - line[0], down)[None, :, None, :]
        + np.multiply.outer(line - line[0], across)[None, None, :, :]
    )
    inverse = np.linalg.inv(affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    sampled = ndimage.map_coordinates(
        values.astype(np.float32), np.moveaxis(voxels, -1, 0), order=1, mode="constant"
    )
    rotation = np.asarray(spec.rotation)
    step = float(offsets[1] - offsets[0]) if len(offsets) > 1 else 5.0
    return Stack(
        values=sampled,
        positions=to_patient(origins, spec),
        orientation=_clean(
            np.concatenate(
                [rotation @ np.array(across) * TO_LPS, rotation @ np.array(down) * TO_LPS]
            )
        ),
        spacing=(pixel, pixel),
        step=step,
    )


def to_patient(world: Array, spec: DicomSpec) -> Array:
    """Positions (..., 3) of the phantom's world, RAS+ mm, to LPS mm after rotation and shift."""
    out: Array = (world @ np.asarray(spec.rotation).T + np.asarray(spec.shift)) * TO_LPS
    return out


def truth_of(phantom: Phantom, spec: DicomSpec | None = None) -> NDArray[np.bool_]:
    """Say what a perfect reader and a perfect network would find.

    Returns
    -------
    (slices, rows, columns) bool array
        The truth on FLAIR's slices in the reader's order: rows and columns as written, slices by
        position along the normal, growing. Missing slices are not in it.
    """
    spec = DicomSpec() if spec is None else spec
    stack = stack_of(phantom, spec, phantom.truth)
    out = stack.values[::-1] if stack.backwards else stack.values
    return np.ascontiguousarray(out, dtype=bool)


def volume_of(phantom: Phantom, spec: DicomSpec, sequence: Sequence) -> NDArray[np.generic]:
    """Stored values (slices, rows, columns) of a sequence in the reader's order, before any loss.

    T1 and T1C are in FLAIR's order here, whatever `DicomSpec.t1_grid` is.
    """
    stack = stack_of(phantom, spec, stored(phantom.sequences[sequence], spec))
    return np.ascontiguousarray(stack.values[::-1] if stack.backwards else stack.values)


def geometry_of(phantom: Phantom, spec: DicomSpec | None = None) -> Geometry:
    """Where the slices of `truth_of` lie: RAS+ mm, in the reader's order."""
    spec = DicomSpec() if spec is None else spec
    stack = stack_of(phantom, spec, phantom.truth)
    positions = stack.positions[::-1] if stack.backwards else stack.positions
    return Geometry(
        origins=positions * TO_LPS,
        row_direction=stack.orientation[3:] * TO_LPS,
        column_direction=stack.orientation[:3] * TO_LPS,
        spacing=stack.spacing,
        slice_thickness=stack.step,
    )


def stored(values: NDArray[np.generic], spec: DicomSpec) -> NDArray[np.generic]:
    """Whole numbers as the file's pixels hold them: 8 bits rescaled, 12 and 16 cut off."""
    # Whole numbers as they come from the phantom need no rounding, and copies take a while.
    numbers = values if values.dtype.kind == "u" else np.rint(np.asarray(values, dtype=np.float32))
    if spec.stored_bits == 8:
        return to_bytes(np.clip(numbers, 0, 65535).astype(np.uint16))
    top = 2 ** (spec.stored_bits - int(spec.signed)) - 1
    return np.clip(numbers, 0, top).astype(np.int16 if spec.signed else np.uint16)


def _displacements(phantom: Phantom, spec: DicomSpec, count: int) -> Array:
    """How far each slice is off, in slices; the outermost two are not."""
    if spec.uneven == 0 or count < 3:
        return np.zeros(count)
    generator = np.random.default_rng([phantom.spec.seed, 4])
    out = generator.uniform(-spec.uneven, spec.uneven, size=count)
    out[[0, -1]] = 0
    return np.asarray(out)


def _clean(directions: Array) -> Array:
    """Without the -0.0 and 1e-17 that a scanner would not write either."""
    return np.asarray(np.where(np.abs(directions) < 1e-12, 0.0, directions))
