"""Rigid registration of two studies of one head, FLAIR to FLAIR, and how good it is (archive; SimpleITK).

Words: the *common grid* has cubic voxels and the directions of the patient, in the first study's world; a
*placement* leads from that world to the world of another study. The same input gives the same placement: the
seed is fixed, and one thread computes.

Metric: mutual information (Mattes, https://doi.org/10.1109/TMI.2002.808355) at three resolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name for itself
from numpy.typing import NDArray

from gliosight.bodies import box_of
from gliosight.head import find_head
from gliosight.study import Geometry, Study

Matrix = NDArray[np.float64]

# Sides of the voxels in which heads are registered, and in which masks are compared, mm.
COARSE_MM, COMMON_MM = 2.0, 1.0
# Air round the head that belongs to the common grid, mm.
MARGIN_MM = 8.0
# How far down from the vertex a head counts, mm: the neck bends.
RIGID_MM = 150.0
# A registration has failed below this overlap of the heads (Dice), below this correlation of their FLAIR
# values, and where the way there and back ends this far from its beginning (mm); docs/follow-up.md.
LEAST_OVERLAP, LEAST_SIMILARITY, LARGEST_ERROR_MM = 0.85, 0.6, 3.0
# Starts that are tried: the second head further up or down (mm), and nodding (degrees).
STARTS = [(up, nod) for up in (0.0, -20.0, 20.0) for nod in (0.0, -12.0, 12.0)]
# Bins of the histogram, part of the voxels that is looked at in each resolution, seed, most steps.
BINS, SAMPLED, SEED, STEPS = 40, (1.0, 0.3, 0.04), 20_261_130, 100


@dataclass(frozen=True)
class Registration:
    """Where a study lies in the world of the first one.

    Parameters
    ----------
    placement : (4, 4) array
        From the first study's world to this one's, RAS+ mm; rigid.
    error_mm : float
        How far a point of the head is from its place after the way to the other study and back, each
        registered by itself: root mean square over the head. 0 for the first study itself.
    overlap : float
        Dice of both heads, where both studies have images.
    similarity : float
        Correlation of both FLAIR volumes, where both heads are.
    failure : str
        Why it is not to be trusted, in a sentence; else empty.
    """

    placement: Matrix
    error_mm: float = 0.0
    overlap: float = 1.0
    similarity: float = 1.0
    failure: str = ""


@dataclass(frozen=True)
class Sampled:
    """A study on a grid: (slices, rows, columns) arrays.

    ``covered`` says where the study has images, ``head`` where they show the head.
    """

    values: NDArray[np.float32]
    covered: NDArray[np.bool_]
    head: NDArray[np.bool_]


def grid_round(
    study: Study, head: NDArray[np.bool_], side: float
) -> tuple[Geometry, tuple[int, int, int]]:
    """The common grid round a head, with voxels of ``side`` mm, and its shape.

    Axial slices from inferior to superior, rows from anterior to posterior, columns from right to left.
    """
    corners = np.array([[part.start - 0.5, part.stop - 0.5] for part in box_of(head)])
    ends = np.array(np.meshgrid(*corners)).reshape(3, -1).T
    world = geometry_of(study).to_world(ends)
    low, high = world.min(axis=0) - MARGIN_MM, world.max(axis=0) + MARGIN_MM
    columns, rows, slices = (int(n) for n in np.ceil((high - low) / side) + 1)
    origins = np.empty((slices, 3))
    origins[:] = high[0], high[1], 0.0
    origins[:, 2] = low[2] + side * np.arange(slices)
    down, across = np.array([0.0, -1.0, 0.0]), np.array([-1.0, 0.0, 0.0])
    return Geometry(origins, down, across, (side, side)), (slices, rows, columns)


def geometry_of(study: Study) -> Geometry:
    """The geometry of a study that is known to have one."""
    if study.geometry is None:
        raise ValueError("a study without geometry")
    return study.geometry


def resample(
    values: NDArray[Any],
    source: Geometry,
    grid: tuple[Geometry, tuple[int, int, int]],
    placement: Matrix | None = None,
    *,
    order: Literal[0, 1] = 1,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of a stack on a grid, and where the stack has any.

    Parameters
    ----------
    values : (slices, rows, columns) array
    source : Geometry
        Of these values.
    grid : tuple of Geometry and shape
    placement : (4, 4) array, optional
        From the grid's world to that of the values.
    order : {0, 1}
        0: the nearest value, for labels. 1: linear.
    """
    from scipy import ndimage

    geometry, shape = grid
    placement = np.eye(4) if placement is None else placement
    out = np.zeros(shape, values.dtype if order == 0 else np.float32)
    covered = np.zeros(shape, bool)
    rows, columns = np.indices(shape[1:]).reshape(2, -1)
    last = np.array(values.shape) - 0.5
    for k in range(shape[0]):  # slice by slice: positions take far more room than values
        voxels = np.column_stack([np.full(rows.size, k), rows, columns])
        world = geometry.to_world(voxels) @ placement[:3, :3].T + placement[:3, 3]
        at = source.to_voxels(world)
        inside = ((at >= -0.5) & (at <= last)).all(axis=1)
        covered[k] = inside.reshape(shape[1:])
        if inside.any():
            out[k][covered[k]] = ndimage.map_coordinates(
                values, at[inside].T, order=order, mode="nearest"
            )
    return out, covered


def sampled(
    study: Study,
    head: NDArray[np.bool_],
    grid: tuple[Geometry, tuple[int, int, int]],
    placement: Matrix | None = None,
) -> Sampled:
    """FLAIR and head of a study on a grid."""
    geometry = geometry_of(study)
    values, covered = resample(study.flair.values.astype(np.float32), geometry, grid, placement)
    inside, _ = resample(head.view(np.uint8), geometry, grid, placement, order=0)
    return Sampled(values, covered, inside.astype(bool))


def register(first: Study, second: Study) -> Registration:
    """Register a study to the first one.

    Returns
    -------
    Registration
        With ``failure`` where its quality is too low, or where SimpleITK finds no placement.
    """
    heads = [find_head(study.flair.values) for study in (first, second)]
    if not all(head.any() for head in heads):
        return Registration(np.eye(4), failure="One of the two studies shows no head.")
    grids = [
        grid_round(study, head, COARSE_MM)
        for study, head in zip((first, second), heads, strict=True)
    ]
    own = [
        sampled(study, head, grid)
        for study, head, grid in zip((first, second), heads, grids, strict=True)
    ]
    try:
        there = _align(own[0], grids[0][0], own[1], grids[1][0])
        back = _align(own[1], grids[1][0], own[0], grids[0][0])
    except RuntimeError as raised:  # whatever ITK cannot do
        reason = str(raised).strip().splitlines()[-1]
        return Registration(np.eye(4), failure=f"The registration found no solution: {reason}")
    other = sampled(second, heads[1], grids[0], there)
    points = grids[0][0].to_world(np.argwhere(own[0].head)[::50])
    gone = _moved(_moved(points, there), back) - points
    error = float(np.sqrt((gone**2).sum(axis=1).mean()))
    both = own[0].covered & other.covered
    heads_there = [side.head & both for side in (own[0], other)]
    count = sum(int(head.sum()) for head in heads_there)
    shared = heads_there[0] & heads_there[1]
    overlap = 2 * int(shared.sum()) / count if count else 0.0
    similarity = _correlation(own[0].values[shared], other.values[shared])
    failure = ""
    if overlap < LEAST_OVERLAP:
        failure = (
            f"The heads overlap by {overlap:.2f} after registration, {LEAST_OVERLAP} are needed: "
            "is one of them without skull, or cut off?"
        )
    elif similarity < LEAST_SIMILARITY:
        failure = (
            f"The images agree by {similarity:.2f} after registration, {LEAST_SIMILARITY} are needed: "
            "is it the same person?"
        )
    elif error > LARGEST_ERROR_MM:
        failure = (
            f"The registration is off by {error:.1f} mm, {LARGEST_ERROR_MM:.0f} mm is the most "
            "that can be used."
        )
    return Registration(there, error, overlap, similarity, failure)


def _moved(points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if len(a) < 2 or not (a.std() > 0 and b.std() > 0):
        return 0.0
    # The brightest voxels are few, and another scanner shows them otherwise.
    a, b = (np.minimum(values, np.percentile(values, 99)) for values in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def _image(values: NDArray[Any], geometry: Geometry) -> Any:
    """A SimpleITK image whose physical points are RAS+ mm: ours alone, and never written."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing([COARSE_MM] * 3)
    image.SetOrigin(geometry.origins[0].tolist())
    axes = (geometry.column_direction, geometry.row_direction, geometry.normal)
    image.SetDirection(np.stack(axes, axis=1).ravel().tolist())
    return image


def _align(fixed: Sampled, fixed_at: Geometry, moving: Sampled, moving_at: Geometry) -> Matrix:
    """From the world of ``fixed`` to that of ``moving``."""
    uppers = [_upper(side.head, RIGID_MM / COARSE_MM) for side in (fixed, moving)]
    images = [_image(fixed.values, fixed_at), _image(moving.values, moving_at)]
    masks = [
        _image((fixed.covered & uppers[0]).view(np.uint8), fixed_at),
        _image(moving.covered.view(np.uint8), moving_at),
    ]
    centre, target = (
        geometry.to_world(np.argwhere(upper).mean(axis=0))
        for upper, geometry in zip(uppers, (fixed_at, moving_at), strict=True)
    )
    # Starts are compared on coarse images.
    coarse = [sitk.Shrink(image, [3] * 3) for image in images]
    method = _method([sitk.Shrink(mask, [3] * 3) for mask in masks])
    starts = []
    for up, nod in STARTS:
        start = sitk.Euler3DTransform()
        start.SetCenter(centre.tolist())
        start.SetRotation(np.deg2rad(nod), 0.0, 0.0)
        start.SetTranslation((target - centre + (0.0, 0.0, up)).tolist())
        method.SetInitialTransform(start, inPlace=False)
        starts.append((method.MetricEvaluate(*coarse), start))
    best = min(starts, key=lambda tried: tried[0])[1]
    method = _method(masks)
    method.SetInitialTransform(best, inPlace=True)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel(list(SAMPLED), SEED)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=STEPS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(*images)
    middle, matrix = np.array(best.GetCenter()), np.eye(4)
    matrix[:3, :3] = np.array(best.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = middle + np.array(best.GetTranslation()) - matrix[:3, :3] @ middle
    return matrix


def _method(masks: list[Any]) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # sums of several depend on who is first
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    return method


def _upper(head: NDArray[np.bool_], slices: float) -> NDArray[np.bool_]:
    """The head without what is further below its top than so many slices."""
    out = head.copy()
    out[: max(0, box_of(head)[0].stop - round(slices))] = False
    return out
