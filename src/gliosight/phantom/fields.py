"""Smooth functions in space, held on a coarse grid and read off on fine slices (phantom layer).

Everything in a phantom's head is a *depth*: a smooth function that gives the distance in mm from a
surface, positive inside. A depth needs few nodes, since it is smooth where the surface is sharp;
the surface appears when the depth, read off at the pixels, is turned into a part of a pixel. Noise
is a smooth function, too: random numbers on a lattice, with cubic interpolation between.

Lattices are fixed in the world, so the same seed is the same head, however it is sliced.
Arrays have the index order (slice, row, column) or (z, y, x); positions are RAS+ mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

# Single precision throughout; NumPy's types do not follow it through arithmetic with numbers.
Array = NDArray[np.floating]

# Distance of the coarse grid's nodes, mm. Half as much changes the picture by less than its noise.
STEP = 2.5
# Half the side of the cube that noise lattices fill, mm; beyond, their last value goes on.
REACH = 135.0


@dataclass(frozen=True)
class Grid:
    """A coarse grid, regular along z, y and x, in world coordinates."""

    z: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]

    @property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Node positions along z, y and x."""
        return self.z, self.y, self.x


def make_grid(low: tuple[float, float, float], high: tuple[float, float, float]) -> Grid:
    """Cover a box given as (z, y, x), with two nodes to spare, on multiples of `STEP`."""
    z, y, x = (
        STEP * np.arange(np.floor(a / STEP) - 2, np.ceil(b / STEP) + 3)
        for a, b in zip(low, high, strict=True)
    )
    return Grid(z, y, x)


def cubic_weights(nodes: NDArray[np.float64], at: NDArray[np.float64]) -> sparse.csr_array:
    """Catmull-Rom weights, (positions, nodes): ``weights @ values`` interpolates even nodes.

    Sparse, since a position needs four nodes only; and since SciPy's sparse product, unlike a BLAS,
    adds in one order on one thread: the same everywhere, and no fight over a busy machine's cores.
    """
    place = np.clip((at - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    base = np.minimum(place.astype(np.int64), len(nodes) - 2)
    t = place - base
    taps = 0.5 * np.stack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            t**3 - t**2,
        ]
    )
    columns = np.clip(base + np.arange(-1, 3)[:, None], 0, len(nodes) - 1)
    rows = np.broadcast_to(np.arange(len(at)), columns.shape)
    weights = sparse.coo_array(
        (taps.ravel().astype(np.float32), (rows.ravel(), columns.ravel())),
        shape=(len(at), len(nodes)),
    )
    return weights.tocsr()


def interpolate(weights: sparse.csr_array, values: Array) -> Array:
    """Interpolate along the first axis, which then goes last: three times turns a volume round."""
    flat = values.reshape(len(values), -1)
    out = np.asarray(weights @ flat, dtype=np.float32)
    return np.moveaxis(out.reshape(len(out), *values.shape[1:]), 0, -1)


def smooth_noise(generator: np.random.Generator, grid: Grid, wavelength: float) -> Array:
    """Draw noise of mean 0 and standard deviation about 1 that varies over ``wavelength`` mm."""
    nodes = (wavelength / 2) * np.arange(np.ceil(2 * REACH / wavelength) * 2 + 1)
    nodes -= nodes[-1] / 2
    out: Array = generator.standard_normal((len(nodes),) * 3, dtype=np.float32)
    for axis in grid.axes:
        out = interpolate(cubic_weights(nodes, axis), out)
    # Between nodes, interpolation averages; this brings the deviation back to about 1.
    return np.ascontiguousarray(np.float32(1.35) * out)


def band_noise(generator: np.random.Generator, fine: float, step: float, half: float) -> Array:
    """Noise with one dominant wavelength on a cube of side ``2 * half``: its zero set makes sheets.

    Parameters
    ----------
    fine : float
        Standard deviation of the smoothing, mm; sheets lie about four times as far apart.
    step : float
        Distance of nodes, mm.
    """
    count = 2 * int(np.ceil(half / step)) + 1
    noise = generator.standard_normal((count,) * 3, dtype=np.float32)
    first = ndimage.gaussian_filter(noise, fine / step, truncate=3.0)
    second = ndimage.gaussian_filter(first, 1.5 * fine / step, truncate=2.5)
    out = first - second
    return np.asarray(out / out.std(), dtype=np.float32)


def ellipsoid(
    x: Array,
    y: Array,
    z: Array,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
) -> Array:
    """Depth below an ellipsoid's surface: exact at the surface, near it elsewhere."""
    u = (x - np.float32(centre[0])) / np.float32(radii[0])
    v = (y - np.float32(centre[1])) / np.float32(radii[1])
    w = (z - np.float32(centre[2])) / np.float32(radii[2])
    a, b, c = u * u, v * v, w * w
    level = np.sqrt(a + b + c)
    slope = np.sqrt(
        a / np.float32(radii[0] ** 2)
        + b / np.float32(radii[1] ** 2)
        + c / np.float32(radii[2] ** 2)
    )
    depth: Array = level * (1 - level) / (slope + np.float32(1e-4))
    return depth


def chain(
    x: Array, y: Array, z: Array, beads: tuple[tuple[float, float, float, float], ...]
) -> Array:
    """Depth below the surface of a tube through beads ``(x, y, z, radius)``."""
    out = np.full(x.shape, -1e3, dtype=np.float32)
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(beads):
        dx, dy, dz = bx - ax, by - ay, bz - az
        length = dx * dx + dy * dy + dz * dz
        px, py, pz = x - np.float32(ax), y - np.float32(ay), z - np.float32(az)
        t = np.clip((px * dx + py * dy + pz * dz) * np.float32(1 / length), 0, 1)
        distance = np.sqrt((px - t * dx) ** 2 + (py - t * dy) ** 2 + (pz - t * dz) ** 2)
        np.maximum(out, ar + t * (br - ar) - distance, out=out)
    return out


def join(a: Array, b: Array, blend: float) -> Array:
    """Unite two bodies, their seam rounded over ``blend`` mm."""
    near = np.clip(1 - np.abs(a - b) / np.float32(blend), 0, 1)
    out: Array = np.maximum(a, b) + near * near * np.float32(blend / 4)
    return out


def ramp(value: Array, middle: float, width: float) -> Array:
    """From 0 to 1 over about ``width`` on either side of ``middle``, smooth."""
    out: Array = 0.5 + 0.5 * np.tanh((value - np.float32(middle)) / np.float32(width))
    return out


def part(depth: Array, width: float = 1.0) -> Array:
    """How much of a pixel lies inside: 0 to 1 over ``width`` mm around depth 0."""
    out: Array = np.clip(depth * np.float32(1 / width) + np.float32(0.5), 0, 1)
    return out
