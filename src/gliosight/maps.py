"""What the network is given and what it gives back, and the way between the grids (domain layer).

The *native grid* is the study's: ``(slice, row, column)`` as in the input. The *network frame* is the
training data's: axial, slices inferior to superior, rows anterior to posterior, columns from the
patient's right to the left, at the pixel size of the model card. A `SamplingPlan` says, axis by axis,
how to come from the one to the other, and `SamplingPlan.restore` leads back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliosight.study import Flag

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# The logit of "surely no tumour", where nothing was predicted (outside the head's box).
FAR_BELOW = -20.0
# Pixels of a slice that are interpolated at once: a slice may be as large as a volume.
BLOCK = 2**20

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Maps:
    """Tumour probability on the native grid.

    Parameters
    ----------
    probability : (slices, rows, columns) float32 array
        Per pixel, in [0, 1].
    slice_head : (slices,) float32 array
        The network's own opinion on each native slice, in [0, 1], not calibrated.
    axis : int
        The native axis along which the network's own slices lie: 0 where the input is axial.
    axis_head : (shape[axis],) float32 array
        The network's opinion on each of those; ``slice_head`` itself where ``axis`` is 0.
    """

    probability: NDArray[np.float32]
    slice_head: NDArray[np.float32]
    axis: int = 0
    axis_head: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    def __post_init__(self) -> None:
        if self.axis == 0:
            object.__setattr__(self, "axis_head", self.slice_head)
        elif self.axis_head.shape != (self.probability.shape[self.axis],):
            raise ValueError(f"axis_head of shape {self.axis_head.shape} does not fit")
        if self.probability.ndim != 3 or self.slice_head.shape != self.probability.shape[:1]:
            raise ValueError(
                f"maps of shape {self.probability.shape} and {self.slice_head.shape} do not fit"
            )


@dataclass(frozen=True)
class SamplingPlan:
    """How the network frame was sampled from the native grid, and the way back.

    Parameters
    ----------
    native_shape : tuple of int
        Slices, rows, columns of the native grid.
    order : tuple of int
        Native axis that becomes the network's slice, row and column axis.
    flipped : tuple of bool
        Whether each of the network's axes runs against the native one.
    slice_indices : (n,) float array
        Where the predicted slices lie on the turned native slice axis, in its index units, growing.
    row_matrix, column_matrix : (native, network) float32 arrays
        Interpolation of one axis from the network's pixels back to the turned native ones; a native
        pixel outside the predicted box has an empty row.
    """

    native_shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    slice_indices: NDArray[np.float64]
    row_matrix: NDArray[np.float32]
    column_matrix: NDArray[np.float32]

    def restore(self, mask_logits: NDArray[np.float32], slice_logits: NDArray[np.float32]) -> Maps:
        """Bring the network's answer back to the native grid.

        Logits, not probabilities, are interpolated: halfway between sure and sure not lies the border.

        Parameters
        ----------
        mask_logits : (n, rows, columns) array
        slice_logits : (n,) array
            Where the network's slices run along another axis than the native ones, a native slice takes
            the strongest opinion among the network's slices that cross it.
        """
        from scipy.sparse import csr_array

        shape = tuple(self.native_shape[axis] for axis in self.order)
        where = np.arange(shape[0], dtype=np.float64)
        below, weight = _bracket(self.slice_indices, where)
        above = np.minimum(below + 1, len(self.slice_indices) - 1)
        inside_rows = self.row_matrix.any(axis=1)
        inside_columns = self.column_matrix.any(axis=1)
        inside = np.ix_(inside_rows, inside_columns)
        rows = csr_array(self.row_matrix[inside_rows])
        columns = csr_array(self.column_matrix[inside_columns])
        native = np.empty(self.native_shape, dtype=np.float32)
        probability = turned(native, self.order, self.flipped)  # a view
        planes: dict[int, NDArray[np.float32]] = {}
        step = max(1, BLOCK // shape[2])
        for k in range(shape[0]):
            between = (int(below[k]), int(above[k]))
            # Slices grow with k: only the two that this one lies between are held.
            planes = {number: planes[number] for number in between if number in planes}
            for number in between:
                if number not in planes:
                    plane = np.full(shape[1:], FAR_BELOW, dtype=np.float32)
                    plane[inside] = resample(mask_logits[number], rows, columns)
                    planes[number] = plane
            w = np.float32(weight[k])
            lower, upper = planes[between[0]], planes[between[1]]
            for start in range(0, shape[1], step):
                block = slice(start, start + step)
                probability[k, block] = sigmoid(lower[block] * (1 - w) + upper[block] * w)
        head = sigmoid(slice_logits[below] * (1 - weight) + slice_logits[above] * weight)
        head = head.astype(np.float32)
        along = np.ascontiguousarray(head[::-1] if self.flipped[0] else head)
        if self.order[0] == 0:
            return Maps(native, along)
        # Each opinion is weighed by the highest probability of a pixel where the two slices cross.
        crossing = native.max(axis=3 - self.order[0])  # (native slice, network slice)
        across = np.asarray((crossing * along[None, :]).max(axis=1), dtype=np.float32)
        return Maps(native, across, self.order[0], along)


@dataclass(frozen=True)
class NetworkInput:
    """A study in the network frame, and how to get back.

    Parameters
    ----------
    images : (m, 3, rows, columns) float32 array
        Normalised T1, FLAIR, T1C of the slices that are looked at; a missing sequence is FLAIR again.
    below, above : (n, 3) or (n, 1) int array
        For each predicted slice and neighbour (below, this, above; or this alone) the two rows of
        ``images`` it lies between.
    weight : (n, 3) or (n, 1) float32 array
        Weight of the upper of the two.
    plan : SamplingPlan
    head : (slices, rows, columns) bool array
        The head on the native grid, see `gliosight.head`.
    channels : tuple of str
        Which sequence each of the three channels really holds.
    flags : tuple of Flag
        What was odd. ``NO_CONTRAST`` among them means that there is nothing to predict from, and
        ``images`` is empty.
    """

    images: NDArray[np.float32]
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    weight: NDArray[np.float32]
    plan: SamplingPlan
    head: NDArray[np.bool_]
    channels: tuple[str, ...]
    flags: tuple[Flag, ...] = ()

    def __len__(self) -> int:
        return len(self.below)

    @property
    def assessable(self) -> bool:
        """Whether there is anything to predict from."""
        return len(self.images) > 0

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield ``(up to size, channels, rows, columns)``: channel ``3 * neighbour + sequence``."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            w = self.weight[rows, :, None, None, None]
            stack = self.images[self.below[rows]]
            if w.any():
                stack = stack * (1 - w) + self.images[self.above[rows]] * w
            yield stack.reshape(len(stack), -1, *self.images.shape[2:])


def turned(
    values: NDArray[T], order: tuple[int, int, int], flipped: tuple[bool, bool, bool]
) -> NDArray[T]:
    """A native array with the network's order of axes and directions, see `SamplingPlan`; a view."""
    backwards = tuple(slice(None, None, -1 if back else 1) for back in flipped)
    return values.transpose(order)[backwards]


def resample(
    plane: NDArray[np.float32], rows: csr_array, columns: csr_array
) -> NDArray[np.float32]:
    """``rows @ plane @ columns.T`` for matrices of few weights a row, as all interpolation is.

    Sparse, since two or three weights in 240 make a full product a hundred times the work.
    """
    return np.asarray((columns @ (rows @ plane).T).T, dtype=np.float32)


def sigmoid(logits: NDArray[np.floating] | float) -> NDArray[np.floating]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def _bracket(
    known: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each wanted position the index of the known one below it, and the weight of the next."""
    if len(known) == 1:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted))
    below = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(known) - 2)
    weight = np.clip((wanted - known[below]) / (known[below + 1] - known[below]), 0, 1)
    return below, weight
