"""The head as depth fields: skull, brain, ventricles, sulci and the lesion (phantom layer).

A *depth* is the distance in mm from a surface, positive inside. It is smooth, so a coarse grid holds it;
the surface appears when the depth, interpolated at the pixels, becomes the part of a pixel that lies
inside. Noise is smooth, too: random numbers on a lattice, with cubic interpolation between. Lattices are
fixed in the world, so the same seed is the same head, however it is sliced.

Arrays have the index order (z, y, x), positions are world coordinates (RAS+ mm). *Head coordinates* are mm
from the anterior commissure's neighbourhood, x to the right, y to the front, z up, in a head of standard
size; pose, size and asymmetry of one head lie between them and the world. All shapes are made by hand to
the proportions of an adult's head; none comes from a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

# Single precision throughout; NumPy's types do not follow it through arithmetic with numbers.
Array = NDArray[np.floating]
Positions = NDArray[np.float64]
Point = tuple[float, float, float]

# Distance of the coarse grid's nodes, mm. Half as much changes the picture by less than its noise.
STEP = 2.5
# Half the side of the cube that noise lattices fill, mm; beyond, their last value goes on.
REACH = 135.0
VAULT_CENTRE = (0.0, -6.0, 8.0)
VAULT_RADII = (68.0, 87.0, 68.0)  # inner table of the skull
SKULL_MM = 7.5
SCALP_MM = 5.0
# Mean distance of neighbouring sulci is about four times this (mm).
FOLD_MM = 3.6
# Where lesions grow: (|x|, y, z) in deep white matter of the frontal and parietal lobes.
LESION_SITES = ((31.0, 27.0, 24.0), (30.0, 0.0, 35.0), (31.0, -35.0, 30.0))

# Half of the lateral ventricles, as beads (|x|, y, z, radius): frontal horn, body, atrium ...
_VENTRICLE = (
    (13.0, 32.0, 6.0, 1.5),
    (10.0, 24.0, 12.0, 4.2),
    (9.0, 8.0, 19.0, 4.4),
    (12.0, -14.0, 23.0, 4.6),
    (19.0, -31.0, 20.0, 5.2),
    (25.0, -42.0, 11.0, 6.0),
    (24.0, -58.0, 8.0, 3.2),
    (20.0, -68.0, 7.0, 0.8),
)
# ... and from the atrium into the temporal horn.
_TEMPORAL_HORN = ((25.0, -42.0, 11.0, 5.5), (32.0, -29.0, -6.0, 2.6), (31.0, -10.0, -17.0, 1.4))


class Grid(NamedTuple):
    """A regular grid: node positions along z, y and x."""

    z: Positions
    y: Positions
    x: Positions


@dataclass(frozen=True)
class Pose:
    """How one head lies in the scanner: ``head = matrix @ (world - shift)``; ``inverse`` back."""

    matrix: Positions
    inverse: Positions
    shift: Positions

    def to_world(self, point: Point) -> Positions:
        """World position of a point in head coordinates, the asymmetry left out."""
        return np.asarray(self.inverse @ np.asarray(point) + self.shift)


@dataclass(frozen=True)
class Anatomy:
    """Depth fields of one head on a coarse grid; see `build` for their names."""

    grid: Grid
    pose: Pose
    skull_mm: float
    cortex_mm: float
    sulcus_mm: float
    names: tuple[str, ...]
    fields: Array  # (z, x, y, fields)

    def slice_at(self, z: float, rows: Positions, columns: Positions) -> dict[str, Array]:
        """Every field on the pixels of one infinitely thin slice, by name, each (rows, columns)."""
        across = cubic_weights(self.grid.z, np.array([z]))
        plane = interpolate(across, self.fields)[..., 0]  # (x, y, fields)
        by_column = interpolate(cubic_weights(self.grid.x, columns), plane)  # (y, fields, columns)
        values = interpolate(cubic_weights(self.grid.y, rows), by_column)  # (fields, columns, rows)
        return {name: value.T for name, value in zip(self.names, values, strict=True)}


def make_grid(low: Point, high: Point) -> Grid:
    """Cover a box given as (z, y, x), with two nodes to spare, on multiples of `STEP`."""
    z, y, x = (
        STEP * np.arange(np.floor(a / STEP) - 2, np.ceil(b / STEP) + 3)
        for a, b in zip(low, high, strict=True)
    )
    return Grid(z, y, x)


def build(seed: int, grid: Grid, lesion_radius: float | None, lesion_side: str) -> Anatomy:
    """Shape one head.

    Parameters
    ----------
    seed : int
    grid : Grid
        The box of the world to cover.
    lesion_radius : float or None
        mm; ``None`` for a head without.
    lesion_side : {"left", "right"}

    Notes
    -----
    The lesion has random numbers of its own, so the head around it stays the same. Fields: ``x y z`` (head
    coordinates), ``head``, ``cranium`` (inside of the skull), ``cerebrum``, ``cerebellum``, ``stem``,
    ``ventricle``, ``vault`` (depths), ``sulcus`` (signed distance from the nearest sheet), ``bottom`` (how
    far from the vault sulci reach), ``coarse`` and ``fine`` (noise for textures), and ``lesion`` (depth)
    with ``patch`` (noise) where there is one.
    """
    generator = np.random.default_rng([seed, 1])
    pose = _draw_pose(generator)
    ventricle_mm = float(generator.uniform(-1.0, 1.2))
    sulcus_mm = float(generator.uniform(0.55, 0.95))
    skull_mm = float(SKULL_MM + generator.uniform(-1, 1))
    cortex_mm = float(generator.uniform(2.5, 3.0))
    x, y, z = _head_coordinates(generator, grid, pose)
    coarse, fine = smooth_noise(generator, grid, 14.0), smooth_noise(generator, grid, 7.0)
    # Bent along x, an ellipsoid becomes a skull: blunt at both ends, and narrower in front.
    t = np.clip((y + 10) / 88, -1.1, 1.2)
    vault = ellipsoid(x * (1 + 0.06 * t - 0.12 * t * t), y, z, VAULT_CENTRE, VAULT_RADII)
    floor = _floor(x, y)
    stem = _stem(x, y, z)
    cranium = _cranium(x, y, z, vault, floor, stem)
    tilt_y, tilt_x = np.gradient(floor, _step(grid.y), _step(grid.x), axis=(1, 2))
    above = (z - floor) / np.sqrt(1 + tilt_x**2 + tilt_y**2)
    fields: dict[str, Array] = {
        "x": x,
        "y": y,
        "z": z,
        "head": _outline(x, y, z, vault),
        "vault": vault,
        "cranium": cranium,
        "cerebrum": np.minimum(vault - 2.2 - 0.5 * coarse, above),
        "cerebellum": _cerebellum(x, y, z, above, cranium),
        "stem": stem,
        "ventricle": _ventricle(x, y, z) + np.float32(ventricle_mm) + 0.5 * coarse,
        "sulcus": _sulci(generator, grid, x, y, z, vault),
        "bottom": np.clip(13 + 6 * smooth_noise(generator, grid, 24.0), 4, 24),
        "coarse": coarse,
        "fine": fine,
    }
    if lesion_radius is not None:
        fields |= _lesion(seed, grid, fields, lesion_radius, lesion_side)
    # In C order: `Anatomy.slice_at` would copy it all for every slice otherwise.
    stacked = np.ascontiguousarray(
        np.stack([field.transpose(0, 2, 1) for field in fields.values()], axis=-1)
    )
    return Anatomy(grid, pose, skull_mm, cortex_mm, sulcus_mm, tuple(fields), stacked)


def _draw_pose(generator: np.random.Generator) -> Pose:
    yaw, pitch = np.deg2rad(generator.uniform(-4, 4, size=2))
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    nod = np.array(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    )
    size = 1 + generator.uniform(-0.035, 0.035, size=3)
    shift = generator.uniform(-4, 4, size=3) * (1, 1, 0.25)
    turned = nod @ turn
    return Pose(np.diag(1 / size) @ turned, turned.T @ np.diag(size), shift)


def _head_coordinates(
    generator: np.random.Generator, grid: Grid, pose: Pose
) -> tuple[Array, Array, Array]:
    z, y, x = (
        (axis - shift).astype(np.float32)
        for axis, shift in zip(grid, pose.shift[::-1], strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    m = pose.matrix.astype(np.float32)
    # Nobody is symmetric: a slow warp of a few millimetres bends every surface and the midline.
    hx, hy, hz = (
        m[k, 0] * x + m[k, 1] * y + m[k, 2] * z + scale * smooth_noise(generator, grid, 100.0)
        for k, scale in enumerate((1.3, 1.8, 1.8))
    )
    return hx, hy, hz


def _floor(x: Array, y: Array) -> Array:
    """Height of the surface the cerebrum rests on: orbital roof, middle fossa, tentorium."""
    side = np.abs(x)
    front = -19 + 4 * np.exp(-(((side - 30) / 15) ** 2))
    bowl = ((side - 41) / 30) ** 2 + ((y - 2) / 36) ** 2
    middle = -13 - 26 * ramp(-bowl, -0.95, 0.25)
    tent = 3 - 22 * np.sqrt((side / 56) ** 2 + (np.clip(-38 - y, 0, None) / 48) ** 2)
    in_front, behind = ramp(y - 0.25 * np.clip(side, 0, 40), 19, 2.5), ramp(-y, 27, 4.0)
    out: Array = in_front * front + behind * tent + (1 - in_front - behind) * middle
    return out


def _stem(x: Array, y: Array, z: Array) -> Array:
    midbrain = ellipsoid(x, y, z, (0, -21, -9), (16, 12, 13))
    pons = ellipsoid(x, y, z, (0, -20, -29), (16, 13, 14))
    cord = tube(x, y, z, ((0, -25, -36, 9.5), (0, -32, -58, 6.5), (0, -36, -130, 5.5)))
    return join(join(midbrain, pons, 5), cord, 5)


def _cranium(x: Array, y: Array, z: Array, vault: Array, floor: Array, stem: Array) -> Array:
    upper = np.minimum(vault, (z - floor + 2) * 0.8)
    fossa = np.minimum(ellipsoid(x, y, z, (0, -46, -24), (55, 45, 37)), vault + 4)
    canal = np.minimum(stem + 4.5, -30 - z)
    return join(join(upper, fossa, 4), canal, 4)


def _cerebellum(x: Array, y: Array, z: Array, above: Array, cranium: Array) -> Array:
    lobe = ellipsoid(np.abs(x), y, z, (24, -54, -32), (29, 31, 25))
    vermis = ellipsoid(x, y, z, (0, -50, -21), (16, 24, 22))
    # The tentorium is above it, bone around it.
    limit: Array = np.minimum(-above - 1.3, cranium - 1.5)
    out: Array = np.minimum(join(lobe, vermis, 6), limit)
    return out


def _ventricle(x: Array, y: Array, z: Array) -> Array:
    side = np.abs(x)
    lateral = np.maximum(tube(side, y, z, _VENTRICLE), tube(side, y, z, _TEMPORAL_HORN))
    third = ellipsoid(x, y, z, (0, -5, 1), (2.2, 14, 11))
    fourth = ellipsoid(x, y, z, (0, -38, -31), (7, 5.5, 8))
    # The septum keeps the lateral ventricles apart.
    return np.maximum(np.minimum(lateral, side - 1.2), np.maximum(third, fourth))


def _sulci(
    generator: np.random.Generator, grid: Grid, x: Array, y: Array, z: Array, vault: Array
) -> Array:
    """Signed distance from sheets that run inwards from the surface of the brain.

    The zero lines of noise with one dominant wavelength, read where a voxel's ray meets the surface, become
    sheets going in. Reading it elsewhere the deeper a voxel lies makes the sheets curve, as real sulci do.
    """
    step, half = 2.0, 92.0
    noise = generator.standard_normal((2 * int(np.ceil(half / step)) + 1,) * 3, dtype=np.float32)
    wide = ndimage.gaussian_filter(noise, FOLD_MM / step, truncate=3.0)
    noise = wide - ndimage.gaussian_filter(wide, 1.5 * FOLD_MM / step, truncate=2.5)
    noise = np.asarray(noise / noise.std(), dtype=np.float32)
    u, v, w = x, y - VAULT_CENTRE[1], z - VAULT_CENTRE[2]
    ray = np.sqrt((u / VAULT_RADII[0]) ** 2 + (v / VAULT_RADII[1]) ** 2 + (w / VAULT_RADII[2]) ** 2)
    depth = np.clip(vault, 0, 30)
    read_at = [
        axis / np.clip(ray, 0.2, None) + 0.33 * depth * smooth_noise(generator, grid, 34.0)
        for axis in (w, v, u)
    ]
    value = ndimage.map_coordinates(
        noise, np.stack(read_at) / step + half / step, order=1, mode="nearest"
    )
    steepness = np.sqrt(sum(slope**2 for slope in np.gradient(value, *map(_step, grid))))
    return np.asarray(np.clip(value / (steepness + 0.03), -9, 9), dtype=np.float32)


def _step(axis: Positions) -> float:
    return float(axis[1] - axis[0])


def _outline(x: Array, y: Array, z: Array, vault: Array) -> Array:
    side = np.abs(x)
    brow = ellipsoid(x, y, z, (0, 38, -26), (65, 61, 46))
    face = ellipsoid(x, y, z, (0, 32, -66), (62, 64, 74))
    neck = ellipsoid(x, y, z, (0, -34, -95), (60, 60, 92))
    nose = ellipsoid(x, y, z, (0, 99, -46), (13, 17, 22))
    temple = ellipsoid(side, y, z, (62, 14, -14), (17, 30, 34))
    ear = ellipsoid(side, y - 0.25 * (side - 76), z, (77, -26, -26), (7, 11, 24))
    head = join(vault + (SKULL_MM + SCALP_MM), join(join(face, brow, 10), neck, 20), 12)
    return join(join(join(head, temple, 8), nose, 10), ear, 8)


def _lesion(
    seed: int, grid: Grid, fields: Mapping[str, Array], radius: float, side: str
) -> dict[str, Array]:
    generator = np.random.default_rng([seed, 2])
    site = np.array(LESION_SITES[int(generator.integers(len(LESION_SITES)))])
    site += generator.uniform(-3, 3, size=3)
    sign = -1.0 if side == "left" else 1.0
    stretch = np.exp(generator.uniform(-0.18, 0.18, size=3))
    stretch /= np.prod(stretch) ** (1 / 3)
    across, along, up = (float(value) for value in radius * stretch)
    centre = (sign * site[0], site[1], site[2])
    depth = ellipsoid(fields["x"], fields["y"], fields["z"], centre, (across, along, up))
    # Lobes as wide as the lesion, and fingers of oedema between the fibres.
    depth = depth + radius * 0.13 * smooth_noise(generator, grid, 1.4 * radius)
    depth = depth + min(1.6, 0.12 * radius) * smooth_noise(generator, grid, 11.0)
    # It grows in the cerebrum of its side and stops before the falx.
    depth = np.minimum(np.minimum(depth, sign * fields["x"] - 3), fields["cerebrum"] - 1)
    return {
        "lesion": depth.astype(np.float32),
        "patch": smooth_noise(generator, grid, 12.0),
    }


def cubic_weights(nodes: Positions, at: Positions) -> sparse.csr_array:
    """Catmull-Rom weights, (positions, nodes): ``weights @ values`` interpolates even nodes.

    Sparse, since a position needs four nodes only, and since SciPy's sparse product, unlike a BLAS, adds in
    one order on one thread: the same result everywhere, and no fight over a busy machine's cores.
    """
    index = np.clip((at - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    base = np.minimum(index.astype(np.int64), len(nodes) - 2)
    t = index - base
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
    for axis in grid:
        out = interpolate(cubic_weights(nodes, axis), out)
    # Between nodes, interpolation averages; this brings the deviation back to about 1.
    return np.ascontiguousarray(np.float32(1.35) * out)


def ellipsoid(x: Array, y: Array, z: Array, centre: Point, radii: Point) -> Array:
    """Depth below an ellipsoid's surface: exact at the surface, near it elsewhere."""
    a, b, c = (
        ((axis - np.float32(middle)) / np.float32(radius)) ** 2
        for axis, middle, radius in zip((x, y, z), centre, radii, strict=True)
    )
    level = np.sqrt(a + b + c)
    slope = np.sqrt(a / radii[0] ** 2 + b / radii[1] ** 2 + c / radii[2] ** 2)
    depth: Array = level * (1 - level) / (slope + np.float32(1e-4))
    return depth


def tube(
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
