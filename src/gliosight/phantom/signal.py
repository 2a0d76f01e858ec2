"""From anatomy to brightness: what each tissue looks like in each sequence (phantom layer).

A thick slice is the mean of thin ones, and in each of those a tissue fills a part of a pixel: so both kinds
of partial volume are there. Tissues are painted over one another, from the outside of the head inwards.
Brightness is in the units of the LGG layout's bytes: 0 is air, 255 the brightest fat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gliosight.phantom.anatomy import (
    SCALP_MM,
    Anatomy,
    Array,
    Point,
    Positions,
    ellipsoid,
    part,
    ramp,
)

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
    positions : (slices,) array
        World z of the slices' centres, mm.
    spacing : float
        Thickness of every slice, mm.
    rows, columns : array
        World y of the rows and x of the columns, mm.
    pixel : float
        mm.
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
        out: Array = np.sqrt(((f["y"] + 3) / 41) ** 2 + ((f["z"] - 3) / 27) ** 2)
        return out

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
        out: Array = np.minimum(between, np.minimum(cleft - 1.0, insula - 0.6))
        return out

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
