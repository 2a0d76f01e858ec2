"""Mask and geometry to findings (stage: measure).

In: the decided mask, the probability map, the study's geometry and the head's midplane. Out: the lesion of
each voxel, and one `Finding` for each connected lesion, largest first. Without geometry lengths stay
``None``: pixels are counted, no millimetre is invented.

A lesion's diameters are taken as a reader would with a ruler on its largest axial slice (RANO,
https://doi.org/10.1200/JCO.2009.26.3541): the longest chord between two corners of its pixels, and its
widest extent perpendicular to that.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Finding, Side, first_voxel
from gliosight.bodies import label_bodies
from gliosight.head import Midplane, find_head, fit_midplane
from gliosight.study import Geometry, Study

# Within this distance of the midplane a lesion belongs to neither side (mm).
MIDLINE_MM = 5.0
# A lesion is bilateral when at least this part of it lies beyond the midline's strip on either side.
BILATERAL_PART = 0.1
# Below these a lesion is called small: a measure of it says little (ml; pixels without geometry).
SMALL_ML = 0.5
SMALL_PX = 150


def measure(
    study: Study,
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    *,
    origin: str,
    head: NDArray[np.bool_] | None = None,
    lesion_probabilities: Mapping[int, float] = MappingProxyType({}),
) -> tuple[NDArray[np.unsignedinteger[Any]], tuple[Finding, ...]]:
    """Label and measure every lesion of a mask.

    Parameters
    ----------
    study : Study
    mask : (slices, rows, columns) bool array
    probability : (slices, rows, columns) float32 array
    origin : str
        What the result depends on besides the mask (study, model, settings): with the mask it makes the
        tracking UIDs, so that two runs agree and another threshold or model gives others.
    head : (slices, rows, columns) bool array, optional
        The head, see `gliosight.head.find_head`, if it is known already.
    lesion_probabilities : mapping of int to float
        See `gliosight.analysis.Decision`; of lesions that are not in it the probability is NaN.

    Returns
    -------
    labels : (slices, rows, columns) array of unsigned integers
        The ``id`` of the finding that each voxel belongs to, 0 outside.
    findings : tuple of Finding
        Largest first; ``id`` counts from 1.
    """
    labels, boxes = label_bodies(mask)
    count = len(boxes)
    numbered = np.zeros(mask.shape, np.min_scalar_type(count))
    if count == 0:
        return numbered, ()
    sizes = [int(np.count_nonzero(labels[box] == k + 1)) for k, box in enumerate(boxes)]
    # By size; the order of equals is that of their first voxel, which does not change between runs.
    by_size = sorted(range(count), key=lambda k: (-sizes[k], k))
    # Hashed, since a name may hold what is no UTF-8.
    digest = hashlib.sha256(origin.encode("utf-8", "surrogateescape"))
    digest.update(np.packbits(mask).data)
    geometry = study.geometry
    placed = geometry if geometry is not None and geometry.believed == "all" else None
    midplane = None
    if placed is not None:
        midplane = fit_midplane(find_head(study.flair.values) if head is None else head, placed)
    findings = []
    for number, k in enumerate(by_size, start=1):
        box = boxes[k]
        inside = labels[box] == k + 1
        numbered[box][inside] = number
        areas = inside.sum(axis=(1, 2))
        largest = int(areas.argmax())
        values = probability[box][inside]
        middles = _middles(inside, areas) + [extent.start for extent in box]
        centroid = np.average(middles, axis=0, weights=areas)
        # Of the slices' positions, not the position of their mean: they may lie unevenly.
        world = None
        if placed is not None:
            world = np.average(placed.to_world(middles), axis=0, weights=areas)
        side: Side = "unknown"
        if midplane is not None and placed is not None:
            side = _side(inside, box, placed, midplane)
        longest, perpendicular = _diameters(inside[largest], geometry)
        volume = None if geometry is None else geometry.volume_ml(areas)
        name = f"{digest.hexdigest()}/{number}"
        findings.append(
            Finding(
                id=number,
                tracking_uid=f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}",
                side=side,
                centroid_voxel=_three(centroid),
                centroid_mm=None if world is None else _three(world),
                bounding_box_voxel=(
                    (box[0].start, box[1].start, box[2].start),
                    (box[0].stop, box[1].stop, box[2].stop),
                ),
                slices=(box[0].start, box[0].stop - 1),
                volume_px=sizes[k],
                volume_ml=volume,
                largest_slice=box[0].start + largest,
                largest_area_px=int(areas[largest]),
                largest_area_mm2=(
                    None if geometry is None else float(areas[largest] * geometry.pixel_area)
                ),
                longest_diameter_mm=longest,
                perpendicular_diameter_mm=perpendicular,
                probability=lesion_probabilities.get(
                    first_voxel(inside, box, mask.shape), math.nan
                ),
                mean_probability=float(values.mean()),
                peak_probability=float(values.max()),
                touches_edge=any(
                    extent.start == 0 or extent.stop == size
                    for extent, size in zip(box, mask.shape, strict=True)
                ),
                small=sizes[k] < SMALL_PX if volume is None else volume < SMALL_ML,
            )
        )
    return numbered, tuple(findings)


def _side(
    inside: NDArray[np.bool_], box: tuple[slice, ...], geometry: Geometry, midplane: Midplane
) -> Side:
    """The patient's side of the lesion in a box of the volume."""
    slices, rows, columns = (np.arange(extent.start, extent.stop) for extent in box)
    corners = np.stack([slices, *(np.full(len(slices), ends[0]) for ends in (rows, columns))], 1)
    down, across = (
        np.float32(step * (direction @ midplane.to_right))
        for step, direction in zip(
            geometry.spacing, (geometry.row_direction, geometry.column_direction), strict=True
        )
    )
    in_plane = down * np.arange(len(rows))[:, None] + across * np.arange(len(columns))
    right = left = 0
    total = 0.0
    for plane, first in zip(
        inside, midplane.distances_to_right(geometry.to_world(corners)), strict=True
    ):
        away = in_plane[plane] + first
        right += int((away > MIDLINE_MM).sum())
        left += int((away < -MIDLINE_MM).sum())
        total += float(away.sum())
    size = int(inside.sum())
    if min(right, left) >= BILATERAL_PART * size:
        return "bilateral"
    middle = total / size
    return "midline" if abs(middle) <= MIDLINE_MM else "right" if middle > 0 else "left"


def _middles(inside: NDArray[np.bool_], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """(slices, 3) mean index of each slice's pixels; those of an empty slice weigh nothing."""
    slices, rows, columns = (np.arange(size) for size in inside.shape)
    sums = [inside.sum(axis=2) @ rows, inside.sum(axis=1) @ columns]
    return np.column_stack([slices, *(total / np.maximum(areas, 1) for total in sums)])


def _diameters(
    inside: NDArray[np.bool_], geometry: Geometry | None
) -> tuple[float | None, float | None]:
    """Longest chord between pixel corners and widest extent perpendicular to it, mm."""
    if geometry is None or int(np.abs(geometry.normal).argmax()) != 2:
        return None, None
    # Of each line of corners the first and the last: no other corner is at an end of a chord.
    lines = np.pad(inside, 1)
    corners = lines[:-1, :-1] | lines[:-1, 1:] | lines[1:, :-1] | lines[1:, 1:]
    rows = np.flatnonzero(corners.any(axis=1))
    first = corners[rows].argmax(axis=1)
    last = corners.shape[1] - 1 - corners[rows, ::-1].argmax(axis=1)
    ends = np.column_stack([np.tile(rows, 2), np.concatenate([first, last])]) * geometry.spacing
    # One end after the other: the distances of all pairs would take the square of a lesion's height.
    furthest = [((ends - end) ** 2).sum(axis=1) for end in ends]
    i = int(np.argmax([squared.max() for squared in furthest]))
    chord = ends[int(furthest[i].argmax())] - ends[i]
    longest = float(np.linalg.norm(chord))
    across = ends @ (np.array([-chord[1], chord[0]]) / longest)
    return longest, float(across.max() - across.min())


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third
