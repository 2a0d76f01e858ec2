"""Study to network input: orientation, sampling, neighbours, normalisation (stage: prepare).

In: a `Study` on its native grid. Out: a `NetworkInput` in the network frame (see `gliosight.maps`), with
the `SamplingPlan` that leads back. First everything is decided (which axis is which, where the network's
pixels and slices lie), then it is executed.

The axes are turned to the nearest axial view, not rotated: what is oblique stays oblique, as it did in
training. Everything is sampled along one axis at a time, so the way back is exact where nothing had to be
resampled. With geometry, slices are predicted where the input has slices, at least every
``predict_every_mm``; without, all of them, in the order in which they are numbered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gliosight.card import InputRecipe
from gliosight.errors import LimitExceededError
from gliosight.flags import flag
from gliosight.head import find_head, head_box
from gliosight.maps import NetworkInput, SamplingPlan, resample, turned
from gliosight.normalisation import measure_intensity, unit_range
from gliosight.study import Flag, Geometry, MrSequence, Study

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CHANNELS = (MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)
# Where the network's slice, row and column axes point, RAS+: up, back, to the patient's left.
NETWORK_AXES = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
# A neighbour this near to a slice (in parts of their distance) is that slice.
SNAP = 0.1
# Pixels whose sizes agree within this part are not resampled: half a pixel over a whole picture.
SAME_PIXEL = 0.002
# The network's input, and the weights that lead there and back, may take this many bytes: 1,400 slices of
# a head. Stacks of thousands of slices, or of pixels in one row, would take hundreds of times their own size.
MOST_BYTES = 1024**3
# Pixels in which the correlation below is looked for; of more, every n-th row is taken.
MOST_SAMPLED = 2**22
# No head is longer, hair and a helmet of coils included, mm; those of the training and test data reach 210.
LONGEST_HEAD = 400.0
# Correlation of neighbouring pixels below which a picture is noise. Heads have 0.9 and more.
LEAST_TOGETHER = 0.3


@dataclass(frozen=True)
class Frame:
    """Where the network's pixels and slices lie in a study: decided once, then executed.

    Parameters
    ----------
    order, flipped
        See `gliosight.maps.SamplingPlan`.
    positions : (slices,) float array
        Of the turned slices along their axis, mm, growing.
    head : (slices, rows, columns) bool array
        The head, turned.
    rows, columns : csr_array of shape (network, native)
        Weights that bring a turned plane's rows and columns to the network's.
    rows_back, columns_back : (native, network) float32 arrays
        The way back.
    head_mm : float
        The head's longest side; 0 where there is no geometry.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    positions: NDArray[np.float64]
    head: NDArray[np.bool_]
    rows: csr_array
    columns: csr_array
    rows_back: NDArray[np.float32]
    columns_back: NDArray[np.float32]
    head_mm: float

    def turn(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Native values with the network's order of axes and directions; a view."""
        return turned(values, self.order, self.flipped)

    def sample(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """A turned plane at the network's pixels; what lies outside the picture is 0."""
        return resample(plane, self.rows, self.columns)


def frame_of(study: Study, recipe: InputRecipe) -> Frame:
    """Decide where a study is sampled."""
    from scipy.sparse import csr_array

    order, flipped = orient(study.geometry)
    flair = turned(study.flair.values, order, flipped)
    positions, pixel = _grid(study, order, flipped, recipe)
    head = find_head(flair)
    boxes = head_box(head)
    rows = _axis(flair.shape[1], boxes[0], pixel[0], recipe)
    columns = _axis(flair.shape[2], boxes[1], pixel[1], recipe)
    _check_bytes(4 * len(CHANNELS) * len(rows) * len(columns))  # of one slice, before the matrices
    head_mm, inside = 0.0, positions[head.any(axis=(1, 2))]
    if study.geometry is not None and len(inside):
        in_plane = ((last - first) * size for (first, last), size in zip(boxes, pixel, strict=True))
        head_mm = max(float(np.ptp(inside)), *in_plane)
    return Frame(
        order=order,
        flipped=flipped,
        positions=positions,
        head=head,
        rows=csr_array(_forth(flair.shape[1], rows, pixel[0], recipe.pixel_mm)),
        columns=csr_array(_forth(flair.shape[2], columns, pixel[1], recipe.pixel_mm)),
        rows_back=_back(flair.shape[1], rows, pixel[0], recipe.pixel_mm),
        columns_back=_back(flair.shape[2], columns, pixel[1], recipe.pixel_mm),
        head_mm=head_mm,
    )


def prepare(study: Study, recipe: InputRecipe) -> NetworkInput:
    """Bring a study into the network frame.

    Parameters
    ----------
    study : Study
    recipe : InputRecipe
        What the model asks for, from its card.

    Returns
    -------
    NetworkInput
        With the flag ``NO_CONTRAST`` and no images where FLAIR shows nothing at all.

    Raises
    ------
    LimitExceededError
        The input would take more than `MOST_BYTES`; nothing was allocated for it.
    """
    frame = frame_of(study, recipe)
    chosen = choose_slices(frame.positions, recipe.predict_every_mm)
    plan = SamplingPlan(
        native_shape=study.shape,
        order=frame.order,
        flipped=frame.flipped,
        slice_indices=chosen.astype(np.float64),
        row_matrix=frame.rows_back,
        column_matrix=frame.columns_back,
    )
    head = np.empty(study.shape, dtype=bool)
    frame.turn(head)[...] = frame.head
    below, above, weight = _neighbours(
        frame.positions, chosen, recipe.neighbour_mm, recipe.neighbours
    )
    needed, numbers = np.unique(np.stack([below, above]), return_inverse=True)
    below, above = numbers.reshape(2, *below.shape)

    size = (frame.rows.shape[0], frame.columns.shape[0])
    _check_bytes(4 * len(needed) * len(CHANNELS) * size[0] * size[1])
    images = np.empty((len(needed), len(CHANNELS), *size), dtype=np.float32)
    flags: list[Flag] = []
    if frame.head_mm > LONGEST_HEAD:
        text = (
            f"By its header the head is {frame.head_mm:.0f} mm long, more than a head can be: the spacing is "
            "wrong. It is not used; all sizes are in pixels."
        )
        flags.append(flag("HEAD_TOO_LARGE", text))

    def fill(name: MrSequence) -> bool:
        """Bring a sequence into the frame; whether it shows anything."""
        values = frame.turn(study.sequences[name].values)
        scale = _scale(values, frame.head, recipe)
        if scale is None or (name is MrSequence.FLAIR and not _shows_something(values)):
            return False
        height, air = scale
        for k, number in enumerate(needed):
            images[k, CHANNELS.index(name)] = frame.sample(height(values[number])) + air
        return True

    if not fill(MrSequence.FLAIR):
        text = (
            "The FLAIR images show nothing that could be a head: no contrast, noise or a drawing."
        )
        empty = np.empty((0, len(CHANNELS), *size), dtype=np.float32)
        flags = [flag("NO_CONTRAST", text)]
        return NetworkInput(empty, below, above, weight, plan, head, (), tuple(flags))
    others = [name for name in (MrSequence.T1, MrSequence.T1C) if name in study.sequences]
    shown = {MrSequence.FLAIR: True, **{name: fill(name) for name in others}}
    for name in others:
        if not shown[name]:
            text = f"{name.value} shows no contrast and was left out."
            flags.append(flag(f"{name.name}_NO_CONTRAST", text))
    used = [name if shown.get(name) else MrSequence.FLAIR for name in CHANNELS]
    for channel, name in enumerate(used):
        if name is not CHANNELS[channel]:  # FLAIR stands in for it
            images[:, channel] = images[:, 1]
    names = tuple(name.value for name in used)
    return NetworkInput(images, below, above, weight, plan, head, names, tuple(flags))


def _check_bytes(wanted: int) -> None:
    if wanted > MOST_BYTES:
        raise LimitExceededError(
            f"the network's input would take {wanted / 2**30:,.1f} GiB, the limit is "
            f"{MOST_BYTES / 2**30:g} GiB",
            remedy="give fewer slices, or larger pixels",
        )


def _scale(
    turned: NDArray[np.generic], head: NDArray[np.bool_], recipe: InputRecipe
) -> tuple[Callable[[NDArray[np.generic]], NDArray[np.float32]], np.float32] | None:
    """How values become heights above air, and the air's own value; ``None`` without contrast.

    Heights, so that what lies outside the picture becomes air.
    """
    if recipe.normalisation == "unit":
        range_ = unit_range(turned, head)
        return None if range_ is None else (range_.scale, np.float32(0))
    intensity = measure_intensity(turned, head)
    if intensity is None:
        return None
    air = np.float32((intensity.low - intensity.mean) / intensity.std)
    return (lambda plane: intensity.normalise(plane) - air), air


def orient(
    geometry: Geometry | None,
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which native axis is the network's slice, row and column axis, and which run backwards.

    Of the six ways to assign the axes the one is taken that agrees best with the directions in the
    patient. Without geometry, or directions to believe, everything stays as it is.
    """
    if geometry is None or geometry.believed == "sizes":
        return (0, 1, 2), (False, False, False)
    native = np.stack([geometry.normal, geometry.row_direction, geometry.column_direction])
    agreement = native @ NETWORK_AXES.T  # (native axis, network axis)
    best = max(
        permutations(range(3)),
        key=lambda order: sum(abs(agreement[axis, k]) for k, axis in enumerate(order)),
    )
    flipped = tuple(bool(agreement[axis, k] < 0) for k, axis in enumerate(best))
    return (best[0], best[1], best[2]), (flipped[0], flipped[1], flipped[2])


def choose_slices(positions: NDArray[np.float64], every: float) -> NDArray[np.int64]:
    """Indices of the slices to predict: as few as possible with no gap above ``every`` mm.

    A gap of the input itself stays; the first and the last slice are always among them.
    """
    chosen = [0]
    for k in range(1, len(positions)):
        last = k == len(positions) - 1
        if last or positions[k + 1] - positions[chosen[-1]] > every * (1 + 1e-6):
            chosen.append(k)
    return np.asarray(chosen, dtype=np.int64)


def _shows_something(values: NDArray[np.generic]) -> bool:
    """Whether neighbouring pixels have anything to do with each other: in noise alone they do not."""
    if values.shape[2] < 2:
        return False
    skip = max(1, len(values) // 8)
    step = max(1, -(-len(values) // skip) * values[0].size // MOST_SAMPLED)
    sample = values[::skip, ::step].astype(np.float64)
    low, high = np.percentile(sample, (1.0, 99.0))
    sample = np.clip(sample, low, high) - sample.mean()
    spread = float((sample**2).mean())
    together = float((sample[:, :, 1:] * sample[:, :, :-1]).mean())
    return spread > 0 and together > LEAST_TOGETHER * spread


def _grid(
    study: Study,
    order: tuple[int, int, int],
    flipped: tuple[bool, bool, bool],
    recipe: InputRecipe,
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Positions of the turned slices (mm, growing) and the size of the turned pixels (mm)."""
    shape = tuple(study.shape[axis] for axis in order)
    geometry = study.geometry
    if geometry is None:
        pixel = recipe.field_of_view_mm / max(shape[1:])
        return np.arange(float(shape[0])) * recipe.neighbour_mm, (pixel, pixel)
    across = geometry.slice_spacing or recipe.neighbour_mm
    spacing = (across, *geometry.spacing)
    if order[0] == 0:
        positions = geometry.slice_positions
        positions = -positions[::-1] if flipped[0] else positions
    else:
        positions = np.arange(float(shape[0])) * spacing[order[0]]
    return positions, (spacing[order[1]], spacing[order[2]])


def _axis(
    size: int, box: tuple[int, int], pixel: float, recipe: InputRecipe
) -> NDArray[np.float64]:
    """Where the network's pixels lie on one native axis, in its index units."""
    step = recipe.pixel_mm / pixel
    step = 1.0 if abs(step - 1) < SAME_PIXEL else step
    wanted = (box[1] - box[0]) / step + 2 * recipe.margin_pixels
    count = recipe.matrix or recipe.multiple * max(1, int(np.ceil(wanted / recipe.multiple)))
    # The matrices of an axis are made of a few arrays of float64 of this shape.
    _check_bytes(32 * count * size)
    middle = (box[0] + box[1] - 1) / 2
    if step == 1.0:  # stay on the pixels: nothing is interpolated
        first = np.floor(middle - (count - 1) / 2)
        # A box that is no larger than the picture is not pushed out of it.
        if count <= size:
            first = min(max(first, 0.0), float(size - count))
        return np.asarray(first + np.arange(float(count)), dtype=np.float64)
    return np.asarray(middle + (np.arange(count) - (count - 1) / 2) * step, dtype=np.float64)


def _forth(
    size: int, places: NDArray[np.float64], pixel: float, target: float
) -> NDArray[np.float32]:
    """(network, native) weights: linear, widened where pixels become larger, against aliasing."""
    width = max(1.0, target / pixel if len(places) < 2 else float(places[1] - places[0]))
    distance = np.abs(places[:, None] - np.arange(size)[None, :])
    weights = np.clip(1 - distance / width, 0, None)
    # Full where the kernel lies inside the picture; beyond its edge it fades into air.
    return np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), width), dtype=np.float32)


def _back(
    size: int, places: NDArray[np.float64], pixel: float, target: float
) -> NDArray[np.float32]:
    """(native, network) linear weights; a native pixel outside the box has none."""
    step = float(places[1] - places[0]) if len(places) > 1 else target / pixel
    where = (np.arange(size) - places[0]) / step
    inside = (where > -0.5 - 1e-6) & (where < len(places) - 0.5 + 1e-6)
    where = np.clip(where, 0, len(places) - 1)
    distance = np.abs(where[:, None] - np.arange(len(places))[None, :])
    weights = np.clip(1 - distance, 0, None) * inside[:, None]
    return np.asarray(weights, dtype=np.float32)


def _neighbours(
    positions: NDArray[np.float64], chosen: NDArray[np.int64], distance: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For (below, this, above), or this alone, the two slices it lies between, and the upper's weight."""
    away = np.array([-distance, 0.0, distance]) if count == 3 else np.zeros(1)
    wanted = positions[chosen][:, None] + away
    index = np.interp(wanted, positions, np.arange(len(positions), dtype=np.float64))
    nearest = np.rint(index)
    index = np.where(np.abs(index - nearest) < SNAP, nearest, index)
    below = np.floor(index).astype(np.int64)
    above = np.minimum(below + 1, len(positions) - 1)
    return below, above, (index - below).astype(np.float32)
