"""A synthetic head: its shape as depth fields, and the brightness of its tissues (phantom layer).

A *depth* is the distance in mm from a surface, positive inside. It is smooth, so a coarse grid holds it;
the surface appears when the depth, interpolated at the pixels, becomes the part of a pixel that lies
inside. Noise is smooth, too: random numbers on a lattice, with cubic interpolation between. Lattices are
fixed in the world, so the same seed is the same head, however it is sliced.

A thick slice is the mean of thin ones, and in each of those a tissue fills a part of a pixel: so both kinds
of partial volume are there. Tissues are painted over one another, from the outside of the head inwards.
Brightness is in the units of the LGG layout's bytes: 0 is air, 255 the brightest fat.

Arrays have the index order (z, y, x), positions are world coordinates (RAS+ mm). *Head coordinates* are mm
from the anterior commissure's neighbourhood, x to the right, y to the front, z up, in a head of standard
size; pose, size and asymmetry of one head lie between them and the world. All shapes are made by hand to
the proportions of an adult's head; none comes from a patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


# Longest step between the thin slices that make a thick one, mm.
SUBSLICE_MM = 1.7
# In-plane point spread of the scanner, standard deviation in pixels.
SPREAD_PIXELS = 0.55

# Brightness in (T1, FLAIR, T1C): spin echo with and without contrast agent, FLAIR at 1.5 T.
TISSUE: dict[str, tuple[float, float, float]] = {
    "air": (0, 0, 0),
    "skin": (95, 75, 110),
    "fat": (158, 128, 152),
    "orbital fat": (170, 128, 165),
    "muscle": (62, 42, 78),
    "mucosa": (66, 88, 135),
    "bone": (12, 9, 14),
    "diploe": (92, 62, 96),
    "marrow": (120, 82, 124),
    "csf": (24, 15, 26),
    "vitreous": (26, 17, 28),
    "dura": (40, 34, 105),
    "sinus": (36, 22, 150),
    "vessel": (34, 20, 165),
    "choroid": (50, 62, 130),
    "grey": (57, 75, 62),
    "white": (71, 64, 73),
    "nucleus": (62, 71, 66),
    "pale nucleus": (68, 60, 70),
    "stem": (68, 68, 71),
    "cerebellar grey": (58, 70, 63),
    "tumour": (43, 132, 47),
}
_WHITE_FLAIR = TISSUE["white"][1]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Blob:
    """An ellipsoid in head coordinates; ``pair`` mirrors it to the other side."""

    tissue: str
    centre: Point
    radii: Point
    pair: bool = False
    soft: float = 1.2  # mm over which its edge fades


_FACE = (
    Blob("muscle", (60, 12, -12), (11, 28, 32), pair=True, soft=2),
    Blob("marrow", (34, 74, -46), (24, 14, 12), pair=True, soft=3),  # cheekbone
    Blob("orbital fat", (30, 55, -28), (19, 30, 14), pair=True, soft=1.5),
    Blob("muscle", (18, 50, -27), (3, 22, 5), pair=True, soft=2),  # rectus muscles
    Blob("muscle", (43, 50, -27), (3, 22, 5), pair=True, soft=2),
    Blob("muscle", (25, 42, -27), (3, 20, 3), pair=True, soft=2),  # optic nerve
    Blob("bone", (32, 73, -27), (14.0, 14.0, 14.0), pair=True),  # sclera, as dark
    Blob("vitreous", (32, 73, -27), (12.6, 12.6, 12.6), pair=True),
    Blob("muscle", (32, 82, -27), (5, 2, 5), pair=True),  # lens
    Blob("mucosa", (0, 62, -42), (15, 34, 30), soft=2),
    Blob("air", (6, 62, -40), (3.2, 30, 26), pair=True),
    Blob("air", (11.5, 55, -34), (2.4, 20, 12), pair=True),
    Blob("bone", (0, 64, -40), (1.2, 30, 26)),
    Blob("air", (32, 52, -58), (14, 16, 15), pair=True),
    Blob("marrow", (0, 4, -38), (13, 11, 17), soft=3),  # clivus
    Blob("air", (7, 20, -26), (6.5, 12, 9), pair=True),  # sphenoid sinus
    Blob("air", (0, 12, -75), (11, 8, 28)),  # pharynx
    Blob("marrow", (0, -13, -92), (12, 11, 36), soft=3),  # vertebrae
    Blob("bone", (0, -13, -92), (14, 12.5, 2)),
)
_BASE = (
    Blob("bone", (38, -20, -34), (24, 9, 9), pair=True, soft=3),  # petrous bone
    Blob("marrow", (17, -4, -36), (9, 6, 7), pair=True, soft=3),
    Blob("bone", (60, -30, -38), (10, 15, 18), pair=True, soft=2),  # mastoid
    Blob("air", (8, 84, -5), (6, 4, 8), pair=True),  # frontal sinus
)
_DEEP = (
    Blob("nucleus", (14.5, 16, 10), (5.5, 9, 9), pair=True, soft=1.6),  # caudate head
    Blob("nucleus", (17, -6, 23), (3, 14, 4), pair=True, soft=1.6),  # caudate body
    Blob("nucleus", (27, 5, 3), (5.5, 15, 10), pair=True, soft=1.8),  # putamen
    Blob("pale nucleus", (20.5, 1, 0), (4, 8, 6), pair=True, soft=2),
    Blob("nucleus", (10.5, -17, 6), (8, 13, 9), pair=True, soft=2),  # thalamus
    Blob("grey", (26, -16, -17), (6, 18, 5), pair=True, soft=2),  # hippocampus
    Blob("grey", (22, 2, -17), (7, 8, 7), pair=True, soft=2),  # amygdala
    Blob("pale nucleus", (5, -20, -10), (3, 3, 4), pair=True, soft=2),  # red nucleus
)
_VESSELS = (
    Blob("vessel", (0, -8, -26), (1.7, 1.7, 15)),  # basilar artery
    Blob("vessel", (11, 9, -14), (2.2, 2.2, 9), pair=True),  # carotid
    Blob("vessel", (23, 8, -10), (12, 1.5, 1.5), pair=True),  # middle cerebral artery
    Blob("vessel", (2.2, 22, -4), (1.2, 1.4, 12), pair=True),
    Blob("vessel", (8, -32, 4), (1.3, 6, 1.3), pair=True),  # basal and internal cerebral veins
    Blob("vessel", (2, -20, 15), (1.2, 12, 1.2), pair=True),
    Blob("sinus", (40, -66, -16), (17, 5, 3), pair=True, soft=1.6),  # transverse sinus
    Blob("sinus", (54, -42, -32), (4, 5, 13), pair=True, soft=1.6),  # sigmoid sinus
    Blob("choroid", (22, -38, 12), (3.2, 6, 4), pair=True, soft=1.6),
    Blob("dura", (0, 6, -21), (6, 5, 4), soft=1.6),  # pituitary gland
)


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


def build(
    seed: int, grid: Grid, lesion_radius: float | None, lesion_side: str, lesion_growth: float = 0.0
) -> Anatomy:
    """Shape one head.

    The lesion (``lesion_radius`` in mm, or ``None``) has random numbers of its own, so the head around it
    stays the same. ``lesion_growth`` makes that lesion larger, in its place and with its shape.

    Depth fields: ``head``, ``cranium`` (inside of the skull), ``vault``, ``cerebrum``, ``cerebellum``,
    ``stem``, ``ventricle``, and ``lesion`` where there is one. Others: ``x y z`` (head coordinates),
    ``sulcus`` (signed distance from the nearest sheet), ``bottom`` (how far from the vault sulci reach),
    ``coarse``, ``fine`` and ``patch`` (noise for textures).
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
    tilt_y, tilt_x = np.gradient(floor, _step(grid.y), _step(grid.x), axis=(1, 2))
    above = (z - floor) / np.sqrt(1 + tilt_x**2 + tilt_y**2)
    fields = _bodies(x, y, z, vault, floor, above)
    fields["ventricle"] = fields["ventricle"] + np.float32(ventricle_mm) + 0.5 * coarse
    fields |= {
        "x": x,
        "y": y,
        "z": z,
        "vault": vault,
        "cerebrum": np.minimum(vault - 2.2 - 0.5 * coarse, above),
        "sulcus": _sulci(generator, grid, x, y, z, vault),
        "bottom": np.clip(13 + 6 * smooth_noise(generator, grid, 24.0), 4, 24),
        "coarse": coarse,
        "fine": fine,
    }
    if lesion_radius is not None:
        fields |= _lesion(seed, grid, fields, lesion_radius, lesion_side, lesion_growth)
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
    return np.asarray(in_front * front + behind * tent + (1 - in_front - behind) * middle)


def _bodies(
    x: Array, y: Array, z: Array, vault: Array, floor: Array, above: Array
) -> dict[str, Array]:
    """Head, inside of the skull, brain stem, cerebellum and ventricles."""
    side = np.abs(x)
    midbrain = ellipsoid(x, y, z, (0, -21, -9), (16, 12, 13))
    pons = ellipsoid(x, y, z, (0, -20, -29), (16, 13, 14))
    cord = tube(x, y, z, ((0, -25, -36, 9.5), (0, -32, -58, 6.5), (0, -36, -130, 5.5)))
    stem = join(join(midbrain, pons, 5), cord, 5)

    upper = np.minimum(vault, (z - floor + 2) * 0.8)
    fossa = np.minimum(ellipsoid(x, y, z, (0, -46, -24), (55, 45, 37)), vault + 4)
    canal = np.minimum(stem + 4.5, -30 - z)
    cranium = join(join(upper, fossa, 4), canal, 4)

    lobe = ellipsoid(side, y, z, (24, -54, -32), (29, 31, 25))
    vermis = ellipsoid(x, y, z, (0, -50, -21), (16, 24, 22))
    # Of the cerebellum the tentorium is above, bone around.
    under = np.minimum(-above - 1.3, cranium - 1.5)

    lateral = np.maximum(tube(side, y, z, _VENTRICLE), tube(side, y, z, _TEMPORAL_HORN))
    third = ellipsoid(x, y, z, (0, -5, 1), (2.2, 14, 11))
    fourth = ellipsoid(x, y, z, (0, -38, -31), (7, 5.5, 8))
    # The septum keeps the lateral ventricles apart.
    ventricle = np.maximum(np.minimum(lateral, side - 1.2), np.maximum(third, fourth))

    brow = ellipsoid(x, y, z, (0, 38, -26), (65, 61, 46))
    face = ellipsoid(x, y, z, (0, 32, -66), (62, 64, 74))
    neck = ellipsoid(x, y, z, (0, -34, -95), (60, 60, 92))
    nose = ellipsoid(x, y, z, (0, 99, -46), (13, 17, 22))
    temple = ellipsoid(side, y, z, (62, 14, -14), (17, 30, 34))
    ear = ellipsoid(side, y - 0.25 * (side - 76), z, (77, -26, -26), (7, 11, 24))
    head = join(vault + (SKULL_MM + SCALP_MM), join(join(face, brow, 10), neck, 20), 12)
    return {
        "head": join(join(join(head, temple, 8), nose, 10), ear, 8),
        "cranium": cranium,
        "stem": stem,
        "cerebellum": np.minimum(join(lobe, vermis, 6), under),
        "ventricle": ventricle,
    }


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


def _lesion(
    seed: int, grid: Grid, fields: Mapping[str, Array], radius: float, side: str, growth: float
) -> dict[str, Array]:
    generator = np.random.default_rng([seed, 2])
    site = np.array(LESION_SITES[int(generator.integers(len(LESION_SITES)))])
    site += generator.uniform(-3, 3, size=3)
    sign = -1.0 if side == "left" else 1.0
    stretch = np.exp(generator.uniform(-0.18, 0.18, size=3))
    stretch /= np.prod(stretch) ** (1 / 3)
    grown = radius * (1 + growth) ** (1 / 3)
    across, along, up = (float(value) for value in grown * stretch)
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


def render(
    anatomy: Anatomy,
    positions: Positions,
    spacing: float,
    rows: Positions,
    columns: Positions,
    pixel: float,
    *,
    skull: bool,
) -> tuple[Array, Array]:
    """Paint all slices.

    Parameters
    ----------
    positions, rows, columns : array
        World z of the slices' centres, y of the rows, x of the columns, mm.
    spacing, pixel : float
        Thickness of every slice and side of a pixel, mm.
    skull : bool
        Whether anything but the brain is shown.

    Returns
    -------
    pictures : (3, slices, rows, columns) float32 array
        T1, FLAIR, T1C.
    lesion : (slices, rows, columns) float32 array
        Part of the voxel that is lesion, 0 to 1, and in its place no CSF.
    """
    count = max(1, int(np.ceil(spacing / SUBSLICE_MM)))
    steps = spacing * ((np.arange(count) + 0.5) / count - 0.5)
    shape = (len(positions), len(rows), len(columns))
    pictures = np.zeros((3, *shape), dtype=np.float32)
    lesion = np.zeros(shape, dtype=np.float32)
    for k, position in enumerate(positions):
        for step in steps:
            scene = _Scene(anatomy, float(position + step), rows, columns, pixel)
            scene.paint(skull=skull)
            pictures[:, k] += scene.canvas
            lesion[k] += scene.lesion
    pictures /= count
    lesion /= count
    spread = (0, 0, SPREAD_PIXELS, SPREAD_PIXELS)
    return np.asarray(ndimage.gaussian_filter(pictures, spread, truncate=3.0)), lesion


@dataclass
class _Scene:
    """One infinitely thin slice while it is painted."""

    anatomy: Anatomy
    height: float
    rows: Positions
    columns: Positions
    pixel: float

    def __post_init__(self) -> None:
        self.field = self.anatomy.slice_at(self.height, self.rows, self.columns)
        self.canvas = np.zeros((3, len(self.rows), len(self.columns)), dtype=np.float32)
        self.lesion: Array = np.zeros(self.canvas.shape[1:], dtype=np.float32)

    def paint(self, *, skull: bool) -> None:
        f = self.field
        if not (f["head"] > -1).any():
            return
        if skull:
            self._outside()
            self._skull()
        self._cover("csf", part(f["cranium"], self.pixel))
        if (f["cranium"] > -1).any():
            self._brain()
        if not skull:
            brain = np.maximum(np.maximum(f["cerebrum"], f["cerebellum"]), f["stem"])
            self.canvas *= part(np.minimum(brain + 1.0, f["cranium"]), self.pixel)

    def _cover(self, tissue: str, alpha: Array, window: Window = np.s_[:, :]) -> None:
        """Paint a tissue over what is there, where and as far as ``alpha`` says."""
        for canvas, value in zip(self.canvas, TISSUE[tissue], strict=True):
            canvas[window] += alpha * (value - canvas[window])

    def _cover_blobs(self, blobs: Iterable[Blob], limit: Array) -> None:
        for blob in blobs:
            for sign in (1.0, -1.0) if blob.pair else (1.0,):
                centre = (sign * blob.centre[0], blob.centre[1], blob.centre[2])
                window = self._window(centre, blob.radii)
                if window is None:
                    continue
                x, y, z = (self.field[axis][window] for axis in "xyz")
                alpha = part(ellipsoid(x, y, z, centre, blob.radii), max(blob.soft, self.pixel))
                self._cover(blob.tissue, alpha * limit[window], window)

    def _window(self, centre: Point, radii: Point) -> Window | None:
        """Rows and columns an ellipsoid can reach, pose and warp allowed for; ``None`` if none."""
        cx, cy, cz = self.anatomy.pose.to_world(centre)
        # The head is turned by a few degrees and bent by a few millimetres at most.
        rx, ry, rz = (1.05 * radius + 0.08 * max(radii) + 5 for radius in radii)
        if abs(cz - self.height) > rz:
            return None
        rows = np.flatnonzero(np.abs(self.rows - cy) < ry)
        columns = np.flatnonzero(np.abs(self.columns - cx) < rx)
        if not (len(rows) and len(columns)):
            return None
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def _outside(self) -> None:
        """Skin, fat, muscle and the face."""
        f = self.field
        self._cover("skin", part(f["head"], self.pixel))
        lobules = np.clip(0.92 + 0.14 * f["fine"] + 0.1 * f["coarse"], 0.5, 1)
        self._cover("fat", part(f["head"] - 1.6, 1.5) * lobules)
        # The scalp's muscles and tendon lie on the bone, thinly.
        thick = self.anatomy.skull_mm
        self._cover("muscle", 0.7 * part(f["cranium"] + thick + 1.2 + 0.4 * f["coarse"], 1.5))
        # Muscles lie deeper than the scalp's fat, with sheets of fat between them.
        deep = part(f["head"] - SCALP_MM - 1.5 - f["coarse"], 2.0) * part(-f["cranium"] - 3, 3.0)
        planes = np.clip(1.5 - 5 * np.abs(f["coarse"] + 0.5 * f["fine"]), 0, 1)
        self._cover("muscle", deep * (1 - 0.7 * planes))
        if self.height < 40:
            self._cover_blobs(_FACE, part(f["head"] - 3, 2.0))

    def _skull(self) -> None:
        f = self.field
        # Thick in the vault, thin under the frontal and temporal lobes.
        base = ramp(-f["z"], 12, 3.0) * ramp(f["y"], -12, 4.0)
        thick = np.float32(self.anatomy.skull_mm) * (1 - 0.6 * base)
        outer = f["cranium"] + thick + 0.5 * f["coarse"]
        # Below the brain the bone is full of marrow and air cells; above, marrow lies between plates.
        self._cover("bone", part(outer, 1.3))
        middle = np.clip(1.25 - np.abs(f["cranium"] + 0.5 * thick) / (0.23 * thick), 0, 1)
        self._cover("diploe", middle * np.clip(0.75 + 0.3 * f["coarse"], 0.2, 1))
        if self.height < 30:
            outside = part(-f["cranium"], 2.0)
            self._cover_blobs(_BASE, outside)
            cells = outside * np.clip(2 * f["fine"] - 0.5, 0, 1)
            for sign in (1.0, -1.0):
                window = self._window((sign * 58, -32, -38), (9, 13, 16))
                if window is not None:
                    self._cover("air", 0.8 * cells[window], window)

    def _brain(self) -> None:
        f = self.field
        self._cover("dura", 0.5 * np.clip(1 - np.abs(f["cranium"] - 0.5) / 0.9, 0, 1))
        if (f["stem"] > -1).any():
            self._cover("stem", part(f["stem"], self.pixel))
        if (f["cerebellum"] > -1).any():
            self._cerebellum()
        if (f["cerebrum"] > -1).any():
            self._cerebrum()
        # Blood: small, and mostly outside the brain.
        falx = np.clip(1 - np.abs(f["x"]) / 0.8, 0, 1) * part(f["cranium"], 1.0)
        self._cover("dura", 0.6 * falx * ramp(self._fissure_level(), 1.35, 0.08))
        self._cover_blobs(_VESSELS, part(f["cranium"] + 1.5, 1.5))
        # Superior sagittal sinus: a triangle under the vault along the midline.
        depth = np.minimum(
            4.5 - np.abs(f["cranium"] - 1), 3.2 - np.abs(f["x"]) - 0.35 * f["cranium"]
        )
        back = ramp(-f["y"], -60, 4.0) * ramp(f["z"], -12, 4.0)
        self._cover("sinus", part(depth, 1.5) * back)

    def _cerebellum(self) -> None:
        f = self.field
        inside = f["cerebellum"]
        alpha = part(inside, self.pixel)
        self._cover("cerebellar grey", alpha)
        core = ellipsoid(np.abs(f["x"]), f["y"], f["z"], (20, -48, -33), (17, 15, 10))
        leaf = np.sin((f["y"] + 0.3 * f["z"] + 0.012 * f["x"] ** 2 + 1.2 * f["coarse"]) * 1.15)
        white = np.maximum(part(core + 2.5 * f["fine"], 3.0), 0.45 * np.clip(leaf, 0, 1))
        self._cover("white", 0.8 * white * part(inside - 2, 2.0))
        gaps = np.clip(-leaf - 0.45, 0, 1) * np.clip(1 - inside / 13, 0, 1)
        self._cover("csf", 0.9 * gaps * alpha)
        self._cover("csf", part(f["ventricle"], self.pixel) * part(-16 - f["z"], 2.0))

    def _fissure_level(self) -> Array:
        """Above 1 outside the corpus callosum's arch, where the hemispheres are apart."""
        f = self.field
        return np.asarray(np.sqrt(((f["y"] + 3) / 41) ** 2 + ((f["z"] - 3) / 27) ** 2))

    def _from_fissures(self) -> Array:
        """Distance from the clefts every brain has: between the hemispheres, and Sylvius's."""
        f = self.field
        arch = 26 * np.clip(1 - self._fissure_level(), 0, None)
        between = np.sqrt(f["x"] ** 2 + arch**2) - 0.7
        if not -32 < self.height < 42:
            return between
        side = np.abs(f["x"])
        lift = f["z"] + 3 + 0.3 * (f["y"] - 8) + 2.5 * f["coarse"]
        cleft = np.sqrt(
            lift**2
            + np.clip(37 - side, 0, None) ** 2
            + np.clip(f["y"] - 27, 0, None) ** 2
            + np.clip(-26 - f["y"], 0, None) ** 2
        )
        insula = np.sqrt(
            (side - 38 + 0.012 * (f["y"] - 4) ** 2 + 1.5 * f["coarse"]) ** 2
            + np.clip(np.abs(lift) - 11, 0, None) ** 2
            + np.clip(np.abs(f["y"] - 4) - 20, 0, None) ** 2
        )
        return np.asarray(np.minimum(between, np.minimum(cleft - 1.0, insula - 0.6)))

    def _cerebrum(self) -> None:
        f = self.field
        surface = np.minimum(f["cerebrum"], self._from_fissures())
        width = self.anatomy.sulcus_mm + 0.9 * np.clip(1 - f["vault"] / 9, 0, 1)
        if "lesion" in f:
            # A swelling closes the sulci in it.
            width -= 0.8 * part(f["lesion"] - 1, 6.0)
        # Sulci reach in from the vault, and high up from between the hemispheres, too. Not from
        # below: rays meet in the middle of the head, where there is no cortex.
        low = 20 * ramp(-f["z"], -22, 5.0) + 40 * np.clip(1.35 - self._fissure_level(), 0, None)
        reach = np.minimum(f["vault"], 9 + np.abs(f["x"]) + low)
        below = np.clip(reach - f["bottom"], 0, None)
        sulcus = np.sqrt(f["sulcus"] ** 2 + below**2) - width
        matter = np.minimum(surface, sulcus)
        solid = part(matter, self.pixel) * part(f["cerebrum"], self.pixel)
        self._cover("grey", solid)
        ribbon = matter - np.float32(self.anatomy.cortex_mm) - 0.35 * f["fine"]
        self._cover("white", part(ribbon, 1.4) * solid)
        if -30 < self.height < 45:
            self._cover_blobs(_DEEP, solid)
        ventricle = part(f["ventricle"], self.pixel) * part(f["z"] + 24, 2.0)
        if "lesion" in f:
            self.lesion = self._tumour(matter) * solid * (1 - ventricle)
        # A thin bright lining of the ventricles is normal in FLAIR.
        lining = np.clip(1 - np.abs(f["ventricle"] + 0.8) / 1.2, 0, 1) * solid
        self.canvas[1] += (0.10 * _WHITE_FLAIR) * lining
        self._cover("csf", ventricle * part(f["cerebrum"] + 3, 2.0))
        mottle = 1 + (0.018 * f["coarse"] + 0.012 * f["fine"]) * solid
        self.canvas *= mottle

    def _tumour(self, matter: Array) -> Array:
        """Cover the lesion; returns the part of each pixel it holds before CSF is taken off."""
        f = self.field
        # Cortex resists: in the ribbon the border stands back.
        depth = f["lesion"] - 1.6 * np.clip(1 - matter / 3, 0, 1)
        alpha = ramp(depth, 0, 1.1)
        if not (alpha > 0.01).any():
            return np.zeros_like(alpha)
        inner = ramp(depth, 5.5, 2.5)
        tone = 0.80 + 0.17 * inner + 0.07 * f["coarse"] + 0.04 * f["patch"]
        # CSF in sulci keeps its brightness: only parenchyma turns.
        solid = part(matter, self.pixel)
        self._cover("tumour", alpha * np.clip(tone, 0.5, 1.15) * solid)
        enhancing = alpha * inner * np.clip(f["patch"] - 1.0, 0, 1) * solid
        self.canvas[2] += 40 * enhancing
        return alpha


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
    return np.maximum(a, b) + near * near * np.float32(blend / 4)


def ramp(value: Array, middle: float, width: float) -> Array:
    """From 0 to 1 over about ``width`` on either side of ``middle``, smooth."""
    return np.asarray(0.5 + 0.5 * np.tanh((value - np.float32(middle)) / np.float32(width)))


def part(depth: Array, width: float = 1.0) -> Array:
    """How much of a pixel lies inside: 0 to 1 over ``width`` mm around depth 0."""
    return np.asarray(np.clip(depth * np.float32(1 / width) + np.float32(0.5), 0, 1))
