"""Native slices as pictures for people (stage: write; used by the report and the overview).

Grey pictures, outlines and the letters at their edges, in radiological display: one looks at the patient from
the feet or from the front, so that the patient's right is on the left of the picture.

Words: the *display* is how native planes are turned to be looked at; an *edge letter* (R, L, A, P, S, I) says
which side of the patient an edge of the picture shows; a *loop* is a closed outline along pixel borders.
Display points are ``(x, y)`` in displayed pixels, ``(0, 0)`` being the picture's upper left corner, not the
centre of its first pixel.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliosight.bodies import Box, box_of
from gliosight.head import find_head
from gliosight.study import Geometry

# A sequence is shown from black at this percentile of the head's inside, with its median as this part of
# white, so that a lesion twice as bright is not yet white; the same for all its slices. So that no grey is
# wasted, white is at most this percentile of the head, and not far above the brightest of its inside.
BLACK, MIDDLE, WHITE = 1.0, 0.45, 99.5
BRIGHT, ABOVE_BRIGHT = 99.0, 1.2
# The inside lies deeper than this part of the deepest point: below scalp and skull, whose fat is brighter
# than any brain on T1 and would make it dark.
DEEP = 0.35
# Levels of an encoded picture: black to white of the window is 0 to KNEE. Brighter values, up to this
# percentile of the head, share what is above, so that another window can still be chosen.
KNEE = 224
BRIGHTEST = 99.95
# Grey JPEG: every browser reads it, and it is ten times as fast to write as WebP for twice the
# bytes.
JPEG_QUALITY = 84
# Qualities to choose from where many pictures have to fit into one file.
QUALITIES = (JPEG_QUALITY, 76, 68, 60, 50)
# Findings are drawn in these colours in turn, all of them bright on grey; their number tells them apart
# without colour.
FINDING_COLOURS = (
    "#00d5ff", "#ffb000", "#ff7ad9", "#a6e22e", "#b9a5ff", "#ffee58", "#ff7b6b", "#5ff0c0",
)  # fmt: skip
# Planes across the slices are shown where slices are at most this far apart, mm, and there are some: of
# thick ones a sagittal plane shows steps.
THIN_MM = 3.0
FEWEST_FOR_PLANES = 8
# Below this probability the heat picture is transparent.
HEAT_FROM = 0.05
# Steps of the heat scale: the eye distinguishes no more, and fewer compress better.
HEAT_STEPS = 20
# A second edge letter is given where a picture is turned by more than about 15 degrees.
SECOND_LETTER_FROM = 0.26
# A plane counts as oblique where its normal leaves the patient's axis by more than about 5 degrees.
OBLIQUE_BELOW = 0.996

Plane = Literal["axial", "coronal", "sagittal"]
Axis = Literal["x", "y", "k"]

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # per world axis: towards minus, towards plus
_RIGHT, _ANTERIOR, _SUPERIOR = np.eye(3)
# Per dominant axis of the normal: the plane's name, and which way right and down lead on the
# picture.
_CONVENTION: tuple[tuple[Plane, NDArray[np.float64], NDArray[np.float64]], ...] = (
    ("sagittal", -_ANTERIOR, -_SUPERIOR),
    ("coronal", -_RIGHT, -_SUPERIOR),
    ("axial", -_RIGHT, -_ANTERIOR),
)


@dataclass(frozen=True)
class Display:
    """How the native planes of a study are turned to be looked at.

    Rows and columns change places first (``transpose``), then the displayed rows and columns are reversed.
    Edge letters have the strongest direction first; they are empty where the sides are unknown.
    """

    rows: int  # size of the displayed picture in pixels
    columns: int
    pixel: tuple[float, float]  # height and width of a displayed pixel: mm; (1, 1) without geometry
    plane: Plane | None = None  # None where the sides are unknown: shown as given
    oblique: bool = False  # tilted against the patient's axes
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    top: str = ""
    bottom: str = ""
    left: str = ""
    right: str = ""

    @property
    def aspect(self) -> float:
        """Width of the picture over its height, in the patient."""
        return self.columns * self.pixel[1] / (self.rows * self.pixel[0])

    @property
    def plane_words(self) -> str:
        """The plane in words; empty where the sides are unknown."""
        return f"oblique {self.plane}" if self.plane and self.oblique else self.plane or ""

    def turn(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A native ``(rows, columns)`` array as it is displayed (a view)."""
        turned = plane.T if self.transpose else plane
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def plan_display(geometry: Geometry | None, shape: tuple[int, int, int]) -> Display:
    """Decide how to show a study: radiological where the sides are known, else as given.

    Axial: anterior on top. Coronal: superior on top. Both: the patient's right on the left.
    Sagittal: superior on top, anterior on the left. An oblique stack is shown as the plane it is
    nearest to. ``shape`` is that of the native grid: slices, rows, columns.
    """
    rows, columns = shape[1:]
    pixel = (1.0, 1.0) if geometry is None else geometry.spacing
    if geometry is None or geometry.believed != "all":
        return Display(rows, columns, pixel)
    normal = np.abs(geometry.normal)
    plane, to_right, to_bottom = _CONVENTION[int(normal.argmax())]
    down, across = geometry.row_direction, geometry.column_direction
    straight = abs(down @ to_bottom) + abs(across @ to_right)
    crossed = abs(down @ to_right) + abs(across @ to_bottom)
    transpose = bool(crossed > straight)
    if transpose:
        down, across, rows, columns, pixel = across, down, columns, rows, (pixel[1], pixel[0])
    flip_rows, flip_columns = bool(down @ to_bottom < 0), bool(across @ to_right < 0)
    down = -down if flip_rows else down
    across = -across if flip_columns else across
    return Display(
        rows,
        columns,
        (float(pixel[0]), float(pixel[1])),
        plane=plane,
        oblique=bool(normal.max() < OBLIQUE_BELOW),
        transpose=transpose,
        flip_rows=flip_rows,
        flip_columns=flip_columns,
        top=_edge_letters(-down),
        bottom=_edge_letters(down),
        left=_edge_letters(-across),
        right=_edge_letters(across),
    )


def _edge_letters(direction: NDArray[np.float64]) -> str:
    """One or two letters for a unit vector in RAS+: ``"AS"`` is anterior and a bit superior."""
    first, second = np.argsort(-np.abs(direction), kind="stable")[:2]
    letters = _LETTERS[first][int(direction[first] > 0)]
    if abs(direction[second]) > SECOND_LETTER_FROM:
        letters += _LETTERS[second][int(direction[second] > 0)]
    return letters


@dataclass(frozen=True)
class Cut:
    """A plane through the stack of displayed slices, as it is looked at.

    The stack's axes are ``x`` (across a displayed slice), ``y`` (down) and ``k`` (from slice to slice).
    """

    plane: Plane
    across: Axis
    down: Axis
    flip_across: bool
    flip_down: bool
    top: str
    bottom: str
    left: str
    right: str


def plan_cuts(geometry: Geometry | None, display: Display) -> tuple[Cut, ...]:
    """The two planes across a study's own; none where slices are thick, few, uneven or sheared."""
    if geometry is None or display.plane is None or geometry.slices < FEWEST_FOR_PLANES:
        return ()
    affine = geometry.affine
    if affine is None or (geometry.slice_spacing or THIN_MM + 1) > THIN_MM:
        return ()
    step = affine[:3, 0]
    if step @ geometry.normal < OBLIQUE_BELOW * float(np.linalg.norm(step)):
        return ()
    down, across = geometry.row_direction, geometry.column_direction
    if display.transpose:
        down, across = across, down
    directions: dict[Axis, NDArray[np.float64]] = {
        "x": -across if display.flip_columns else across,
        "y": -down if display.flip_rows else down,
        "k": geometry.normal,
    }
    cuts = []
    for plane, to_right, to_bottom in reversed(_CONVENTION):
        if plane == display.plane:
            continue
        horizontal = max(directions, key=lambda axis: abs(directions[axis] @ to_right))
        vertical = max(directions, key=lambda axis: abs(directions[axis] @ to_bottom))
        flip_across = bool(directions[horizontal] @ to_right < 0)
        flip_down = bool(directions[vertical] @ to_bottom < 0)
        right = directions[horizontal] * (-1 if flip_across else 1)
        bottom = directions[vertical] * (-1 if flip_down else 1)
        cuts.append(
            Cut(
                plane,
                horizontal,
                vertical,
                flip_across,
                flip_down,
                top=_edge_letters(-bottom),
                bottom=_edge_letters(bottom),
                left=_edge_letters(-right),
                right=_edge_letters(right),
            )
        )
    return tuple(cuts)


def position_words(geometry: Geometry | None) -> tuple[str, ...] | None:
    """Where each slice lies along the normal: ``"S 34.2 mm"`` is superior of the origin."""
    if geometry is None or geometry.believed != "all":
        return None
    normal = geometry.normal
    axis = int(np.abs(normal).argmax())
    along = geometry.slice_positions * (1.0 if normal[axis] > 0 else -1.0)
    minus, plus = _LETTERS[axis]
    return tuple(
        f"{plus if position > 0 else minus} {abs(position):.1f} mm"
        for position in np.round(along, 1)
    )


@dataclass(frozen=True)
class Window:
    """The values shown as black and as white, and the brightest one that an encoded picture keeps."""

    low: float
    high: float
    top: float

    def apply(self, plane: NDArray[Any]) -> NDArray[np.uint8]:
        """Grey levels of a plane; all black where the window is empty."""
        return np.asarray(np.clip(255 * self._relative(plane), 0, 255), dtype=np.uint8)

    def encode(self, plane: NDArray[Any]) -> NDArray[np.uint8]:
        """Levels of a plane that keep what is brighter than white: see ``KNEE``."""
        relative = self._relative(plane)
        levels = np.clip(relative * KNEE, 0, KNEE)
        if self.top > self.high > self.low:
            above = (self.top - self.high) / (self.high - self.low)
            levels += np.clip((relative - 1) * ((255 - KNEE) / above), 0, 255 - KNEE)
        return np.asarray(np.rint(levels), dtype=np.uint8)

    def _relative(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Values with black as 0 and white as 1."""
        if not self.high > self.low:
            return np.zeros(plane.shape, dtype=np.float32)
        scale = np.float32(1 / (self.high - self.low))
        return np.asarray((plane.astype(np.float32) - np.float32(self.low)) * scale)


@dataclass(frozen=True)
class Tissue:
    """Where the head is in a coarse sample of a study's voxels: every n-th one.

    A window or a frame needs no more, and large volumes stay cheap.

    Parameters
    ----------
    steps : tuple of slice
        What of each axis of the native grid is in the sample.
    head, inside : bool arrays of the sample's shape
        The head, and of it what lies well below scalp and skull.
    """

    steps: tuple[slice, slice, slice]
    head: NDArray[np.bool_]
    inside: NDArray[np.bool_]


def find_tissue(flair: NDArray[Any]) -> Tissue:
    """Find the head in FLAIR: on T1 fat can be so bright that nothing else counts as head."""
    slices, rows, columns = (
        slice(None, None, max(1, size // most))
        for size, most in zip(flair.shape, (48, 96, 96), strict=True)
    )
    steps = (slices, rows, columns)
    head = find_head(flair[steps])
    return Tissue(steps, head, _deep(head) if head.any() else head)


def find_window(values: NDArray[Any], tissue: Tissue | None = None) -> Window:
    """The window of one sequence, from the tissue in the whole volume; by default its own, as of FLAIR."""
    tissue = tissue or find_tissue(values)
    sample = values[tissue.steps].astype(np.float64)
    head = sample[tissue.head] if tissue.head.any() else sample
    inside = sample[tissue.inside] if tissue.head.any() else sample
    white, top = (float(value) for value in np.percentile(head, (WHITE, BRIGHTEST)))
    low, middle, bright = (float(value) for value in np.percentile(inside, (BLACK, 50, BRIGHT)))
    if not middle > low:  # an inside of one value is not black
        low = float(sample.min())
    high = min(low + (middle - low) / MIDDLE, low + ABOVE_BRIGHT * (bright - low), white)
    if not high > low:
        low, high = float(np.percentile(head, 100 - WHITE)), white
    if not high > low:
        low, high = float(sample.min()), float(sample.max())
    return Window(low, high, max(top, high))


def _deep(head: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What lies well below the surface of a head, measured within the slices.

    Dark tissue is no hole: what has head on its left and right, in front and behind, is inside.
    """
    from scipy import ndimage

    solid = np.ones_like(head)
    for axis in (1, 2):
        after = np.maximum.accumulate(head, axis=axis)
        before = np.flip(np.maximum.accumulate(np.flip(head, axis), axis=axis), axis)
        solid &= after & before
    depth = np.stack([ndimage.distance_transform_edt(np.pad(plane, 1)) for plane in solid])
    deep: NDArray[np.bool_] = depth[:, 1:-1, 1:-1] > DEEP * depth.max()
    return deep


def find_frame(tissue: Tissue, mask: NDArray[np.bool_]) -> Box:
    """The part of the native grid that shows the head and all of the mask, with a narrow margin.

    The whole grid where no head is found, or one without extent in some direction.
    """
    head, marked = box_of(tissue.head), box_of(mask)
    frame = []
    for axis, size in enumerate(mask.shape):
        step = tissue.steps[axis].step
        first, last = head[axis].start * step, (head[axis].stop - 1) * step
        if marked[axis].stop:
            first, last = min(first, marked[axis].start), max(last, marked[axis].stop - 1)
        margin = max(step, size // 24) if axis else step
        if not tissue.head.any() or last - first < size // 4:
            return (slice(None), slice(None), slice(None))
        frame.append(slice(max(first - margin, 0), min(last + margin + 1, size)))
    return frame[0], frame[1], frame[2]


def _shrunk(picture: Image.Image, longest: int, filter_: Image.Resampling) -> Image.Image:
    """The picture, its longer side at most ``longest`` pixels; never enlarged."""
    shrink = min(1.0, longest / max(picture.size))
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    if (width, height) == picture.size:
        return picture
    gap = 3.0 if filter_ is Image.Resampling.LANCZOS else None
    return picture.resize((width, height), filter_, reducing_gap=gap)


def encode_grey(grey: NDArray[np.uint8], longest: int, quality: int = JPEG_QUALITY) -> bytes:
    """A displayed plane as JPEG, its longer side at most ``longest`` pixels."""
    picture = Image.fromarray(np.ascontiguousarray(grey))
    buffer = io.BytesIO()
    picture = _shrunk(picture, longest, Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_heat(probability: NDArray[np.float32], longest: int) -> bytes | None:
    """A displayed probability plane as a transparent PNG; ``None`` if there is nothing to show."""
    if not probability.max() >= HEAT_FROM:
        return None
    picture = Image.fromarray(np.ascontiguousarray(probability, dtype=np.float32))
    level = np.asarray(_shrunk(picture, longest, Image.Resampling.BOX))
    step = np.where(level < HEAT_FROM, 0, np.clip(np.ceil(level * HEAT_STEPS), 1, HEAT_STEPS))
    indexed = Image.fromarray(step.astype(np.uint8))
    indexed.putpalette([part for colour in heat_colours() for part in colour[:3]])
    buffer = io.BytesIO()
    alphas = bytes(colour[3] for colour in heat_colours())
    indexed.save(buffer, "PNG", transparency=alphas, compress_level=6)
    return buffer.getvalue()


def heat_colours() -> list[tuple[int, int, int, int]]:
    """Red, green, blue and alpha of each step of the heat scale, beginning with "nothing".

    From violet through orange to pale yellow: lightness grows with probability, so that it reads in
    grey and with any colour vision.
    """
    at = (0.0, 0.35, 0.7, 1.0)
    stops = ((76, 20, 110, 80), (190, 40, 95, 105), (245, 125, 20, 120), (253, 235, 140, 130))
    scale = np.arange(1, HEAT_STEPS + 1) / HEAT_STEPS
    parts = [np.interp(scale, at, [stop[k] for stop in stops]) for k in range(4)]
    colours = [(int(r), int(g), int(b), int(a)) for r, g, b, a in zip(*parts, strict=True)]
    return [(0, 0, 0, 0), *colours]


def trace(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Outline a plane's mask along its pixel borders.

    Parameters
    ----------
    mask : (rows, columns) bool array

    Returns
    -------
    list of (n, 2) int array
        Closed loops of corner points ``(x, y)``, holes included. Filled by the even-odd rule they
        give the mask back, pixel for pixel.

    Notes
    -----
    A corner is a lattice point around which an odd number of the four pixels is set, or two diagonal
    ones: then two loops touch there, and it counts twice. Along each lattice row consecutive corners
    are the ends of one straight run, and along each lattice column likewise; a loop takes a run
    across and a run down in turn.
    """
    if not mask.any():
        return []
    box = np.pad(mask, 1)
    a, b, c, d = box[:-1, :-1], box[:-1, 1:], box[1:, :-1], box[1:, 1:]
    double = (a == d) & (b == c) & (a != b)
    y, x = np.nonzero((a ^ b ^ c ^ d) | double)  # sorted by row, then column
    y, x = (np.repeat(part, np.where(double[y, x], 2, 1)) for part in (y, x))
    # The other end of each corner's run: the corners of a row, or column, are paired two by two.
    across, down = np.arange(len(x)) ^ 1, np.empty(len(x), dtype=np.int64)
    by_column = np.lexsort((np.arange(len(x)), y, x))
    down[by_column[0::2]], down[by_column[1::2]] = by_column[1::2], by_column[0::2]
    points = np.column_stack([x, y])
    loops = []
    seen = np.zeros(len(x), dtype=bool)
    for start in range(len(x)):
        loop, here = [], start
        while not seen[here]:
            there = int(across[here])
            seen[here] = seen[there] = True
            loop += [here, there]
            here = int(down[there])
        if loop:
            loops.append(points[loop])
    return loops


def svg_path(loops: Iterable[NDArray[np.int64]]) -> str:
    """Loops as the ``d`` of an SVG path, in relative runs across and down."""
    parts = []
    for loop in loops:
        parts.append(f"M{loop[0, 0]} {loop[0, 1]}")
        parts += [f"h{dx}" if dx else f"v{dy}" for dx, dy in np.diff(loop, axis=0).tolist()]
        parts.append("z")
    return "".join(parts)


def choose_slices(count: int, limit: int, always: Iterable[int] = ()) -> list[int]:
    """At most ``limit`` of ``count`` slices, in order: evenly chosen, and always those asked for.

    Where more are asked for than there is room, the first ones asked for stay.
    """
    if count <= limit:
        return list(range(count))
    chosen = set(list(dict.fromkeys(always))[:limit])
    wanted = limit - len(chosen)
    # Evenly spread candidates, more of them as long as they fall on slices already chosen.
    for n in range(wanted, count + 1):
        spread = {int(index) for index in np.round((np.arange(n) + 0.5) * count / max(n, 1) - 0.5)}
        if len(spread - chosen) >= wanted:
            return sorted(chosen | set(sorted(spread - chosen)[:wanted]))
    return sorted(chosen)
