"""The connected bodies of a mask (domain layer): where it is, and which voxels hang together.

Only the part of a volume that holds the mask is looked at, so that a small mask costs little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Bodies touch over faces, edges and corners of their voxels.
CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)

Box = tuple[slice, slice, slice]


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The smallest box of a (slices, rows, columns) array that holds all that is set; empty if nothing is."""
    box: list[slice] = []
    for others in ((1, 2), (0, 2), (0, 1)):
        # What is known already is cut away first: the further axes are dear, along which memory runs.
        within = mask[tuple(box)]
        inside = np.flatnonzero(within.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    return box[0], box[1], box[2]


def label_bodies(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Box]]:
    """Number the connected bodies of a (slices, rows, columns) mask.

    Returns
    -------
    labels : (slices, rows, columns) int32 array
        From 1, in the order of the bodies' first voxels; 0 outside.
    boxes : list of tuple of slice
        Of each body, in the order of the labels.
    """
    from scipy import ndimage

    labels = np.zeros(mask.shape, dtype=np.int32)
    box = box_of(mask)
    if not labels[box].size:
        return labels, []
    ndimage.label(mask[box], structure=CONNECTED_26, output=labels[box])
    starts = [part.start for part in box]
    boxes: list[Box] = []
    for found in ndimage.find_objects(labels[box]):
        first, second, third = (
            slice(part.start + start, part.stop + start)
            for part, start in zip(found, starts, strict=True)
        )
        boxes.append((first, second, third))
    return labels, boxes
