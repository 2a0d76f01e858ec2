"""Pictures other than a FLAIR of a head, for `gate.py`: made from numbers, or from the sequences of a head.

Every function gives a stack ``(slices, rows, columns)`` of float32; ``rng`` decides all that varies. What is
made here is rough and varied: the gate has to learn what a FLAIR image of a head is, not what these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Stack = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator
SLICES = 5


def smooth(rng: Rng, shape: tuple[int, ...], sigma: float) -> Stack:
    """Smooth noise of mean 0 and standard deviation 1; 2-D sigma, the slices belong together."""
    values = rng.standard_normal(shape).astype(np.float32)
    values = ndimage.gaussian_filter(values, (*[0.7] * (len(shape) - 2), sigma, sigma))
    return (values - values.mean()) / max(float(values.std()), 1e-9)


# --- from numbers alone ---------------------------------------------------------------------------------


def noise(rng: Rng) -> Stack:
    """Noise with neighbours that belong together, at one scale or at all of them."""
    size = int(rng.choice([128, 192, 256, 320]))
    shape = (SLICES, size, size)
    if rng.random() < 0.5:
        values = smooth(rng, shape, rng.uniform(0.8, 12))
    else:
        spectrum = np.fft.rfft2(rng.standard_normal(shape))
        fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
        values = np.fft.irfft2(
            spectrum / np.maximum(np.hypot(fy, fx), 1 / size) ** rng.uniform(0.7, 2)
        )
    values = np.abs(values) if rng.random() < 0.3 else values - values.min()
    if rng.random() < 0.3:  # in a disc, as of a coil
        y, x = np.ogrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        values = values * (np.hypot(y / rng.uniform(0.6, 0.95), x / rng.uniform(0.6, 0.95)) < 1)
    return values.astype(np.float32)


def texture(rng: Rng) -> Stack:
    """Gratings, checks, cells."""
    size = int(rng.choice([128, 256, 320]))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    kind, out = rng.integers(3), []
    for _ in range(SLICES):
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
        wave = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period
        if kind == 0:
            plane = np.sin(wave) + rng.uniform(0, 1) * np.sin(y * 2 * np.pi / rng.uniform(6, 60))
        elif kind == 1:
            plane = np.sign(
                np.sin(wave) * np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period)
            )
        else:
            points = rng.integers(0, size, (int(rng.integers(10, 200)), 2))
            seeds = np.ones((size, size), bool)
            seeds[tuple(points.T)] = False
            plane = ndimage.distance_transform_edt(seeds)
            plane = plane if rng.random() < 0.5 else -plane
        out.append(plane + 0.1 * smooth(rng, (size, size), 1))
    values = np.stack(out)
    return (values - values.min()).astype(np.float32)


def dots(rng: Rng) -> Stack:
    """A scanner's test objects: grids of dots, discs with holes and bars."""
    size = int(rng.choice([192, 256, 320]))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = rng.uniform(0.5, 0.95)
    shapes = [np.hypot(x, y) < radius, np.maximum(abs(x), abs(y)) < radius, np.ones_like(x, bool)]
    body = shapes[rng.integers(3)]
    filled, step, dot = rng.random() < 0.6, rng.uniform(0.08, 0.35), rng.uniform(0.15, 0.4)
    fine = rng.uniform(0, step, 2)
    grid = np.hypot((x + fine[0]) % step - step / 2, (y + fine[1]) % step - step / 2) < dot * step
    if rng.random() < 0.3:
        grid = ((x + fine[0]) % step < dot * step / 2) | ((y + fine[1]) % step < dot * step / 2)
    out = []
    for _ in range(SLICES):
        plane = np.where(body & grid, 0.1 if filled else 1.0, 0.9 * body if filled else 0.0)
        for _ in range(int(rng.integers(0, 5))):  # inserts
            cy, cx, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.2)
            plane = np.where(np.hypot(x - cx, y - cy) < r, rng.uniform(0, 1.2), plane)
        if rng.random() < 0.4:
            low = rng.uniform(-0.6, 0.3)
            plane = np.where((abs(x) < 0.7 * radius) & (y > low) & (y < low + 0.12), 0.3, plane)
        out.append(ndimage.gaussian_filter(plane, rng.uniform(0.3, 1.2)))
    values = np.stack(out) + rng.uniform(0.003, 0.05) * rng.standard_normal((SLICES, size, size))
    return np.abs(values).astype(np.float32)


_WORDS = (  # noqa: SIM905
    "the of and report patient history findings impression total sum value 12.5 2024 table figure mean "
    "dose left right normal study sequence file edit view help open save export page name date"
).split(" ")


def text(rng: Rng) -> Stack:
    """Pages of text, tables, windows of a program."""
    out = []
    rows, columns = int(rng.choice([256, 320])), int(rng.choice([256, 320]))
    dark, size, windows = rng.random() < 0.4, int(rng.integers(9, 22)), rng.random() < 0.4
    paper, ink = (0, 255) if dark else (255, 0)
    for _ in range(SLICES):
        picture = Image.new("L", (columns, rows), paper)
        draw = ImageDraw.Draw(picture)
        font = ImageFont.load_default(size)
        if windows:
            for _ in range(int(rng.integers(1, 6))):
                x, y = int(rng.integers(0, columns - 60)), int(rng.integers(0, rows - 60))
                box = (x, y, x + int(rng.integers(50, columns)), y + int(rng.integers(40, rows)))
                draw.rectangle(box, fill=int(rng.integers(60, 255)), outline=ink)
                draw.rectangle((*box[:3], y + size), fill=int(rng.integers(0, 200)))
        for y in range(int(rng.integers(2, 30)), rows - size, int(size * rng.uniform(1.1, 1.8))):
            if rng.random() < 0.85:
                line = " ".join(rng.choice(_WORDS, int(rng.integers(1, 12))))
                draw.text((int(rng.integers(2, 30)), y), line, fill=ink, font=font)
        out.append(np.asarray(picture, np.float32))
    return np.stack(out)


def graphs(rng: Rng) -> Stack:
    """Axes with curves, bars or points."""
    out = []
    size, dark = int(rng.choice([256, 320])), rng.random() < 0.4
    paper, ink = (0, 255) if dark else (255, 0)
    for _ in range(SLICES):
        picture = Image.new("L", (size, size), paper)
        draw = ImageDraw.Draw(picture)
        draw.line(
            (30, 10, 30, size - 30, size - 10, size - 30), fill=ink, width=int(rng.integers(1, 4))
        )
        for tick in range(40, size - 20, 40):
            draw.text((4, size - tick - 30), str(tick), fill=ink)
            draw.text((tick, size - 26), str(tick), fill=ink)
        kind, xs = rng.integers(3), np.arange(34, size - 14, 3 if rng.random() < 0.5 else 16)
        for _ in range(int(rng.integers(1, 4))):
            ys = size / 2 + np.cumsum(rng.normal(0, 8, len(xs)))
            ys, tone = np.clip(ys, 14, size - 34), int(rng.integers(60, 200))
            if kind == 0:
                draw.line(
                    list(zip(xs.tolist(), ys.tolist(), strict=True)),
                    fill=tone,
                    width=int(rng.integers(1, 5)),
                )
            for x, y in zip(xs, ys, strict=True):
                if kind == 1:
                    draw.rectangle((x, y, x + 9, size - 30), fill=tone)
                elif kind == 2:
                    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=tone)
        out.append(np.asarray(picture, np.float32))
    return np.stack(out)


class _Canvas:
    """A body part in layers: smooth-edged shapes, each with its own brightness and grain."""

    def __init__(self, rng: Rng, size: int = 256) -> None:
        self.rng = rng
        self.y, self.x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        warp = rng.uniform(0.01, 0.05)
        self.y = self.y + warp * smooth(rng, self.y.shape, 25)
        self.x = self.x + warp * smooth(rng, self.x.shape, 25)
        self.values = np.zeros(self.x.shape)
        self.body = np.zeros(self.x.shape, bool)

    def add(
        self,
        cy: float,
        cx: float,
        ry: float,
        rx: float,
        tone: float,
        grain: float = 0.05,
        angle: float = 0.0,
        power: float = 2.0,
    ) -> None:
        """A superellipse of the given centre, half-axes and brightness."""
        y, x = self.y - cy, self.x - cx
        c, s = np.cos(angle), np.sin(angle)
        inside = abs((c * y - s * x) / ry) ** power + abs((s * y + c * x) / rx) ** power < 1
        patchy = 1 + grain * smooth(self.rng, self.x.shape, self.rng.uniform(1, 6))
        self.values = np.where(inside, tone * patchy, self.values)
        self.body |= inside


def _finish(rng: Rng, planes: list[NDArray[np.floating]]) -> Stack:
    values = np.stack([ndimage.gaussian_filter(plane, rng.uniform(0.4, 1.3)) for plane in planes])
    values = values * np.exp(rng.uniform(0, 0.3) * smooth(rng, values.shape[1:], 60))
    sigma = rng.uniform(0.005, 0.04)
    values = np.hypot(
        values + sigma * rng.standard_normal(values.shape),
        sigma * rng.standard_normal(values.shape),
    )
    if rng.random() < 0.3:  # cropped, as a body often is
        cut = int(rng.integers(10, 50))
        values = values[:, cut:-cut, cut:-cut]
    return values.astype(np.float32)


def _tones(rng: Rng, count: int) -> list[float]:
    """Brightness of tissues: fat is mostly the brightest."""
    fat = rng.uniform(0.6, 1.2) if rng.random() < 0.75 else rng.uniform(0.1, 0.4)
    return [fat, *rng.uniform(0.1, 0.9, count)]


def abdomen(rng: Rng) -> Stack:
    """Axial abdomen or pelvis."""
    fat, muscle, liver, spleen, kidney, bone, fluid, gas = _tones(rng, 7)
    ry, rx, layer = rng.uniform(0.5, 0.7), rng.uniform(0.8, 0.97), rng.uniform(0.04, 0.16)
    planes, pelvis = [], rng.random() < 0.3
    for _ in range(SLICES):
        c = _Canvas(rng)
        c.add(0, 0, ry, rx, fat, power=2.4)
        c.add(0, 0, ry - layer, rx - layer, muscle, power=2.4)
        c.add(-0.03, 0, ry - layer - 0.07, rx - layer - 0.07, fat * 0.8, 0.3, power=2.4)
        c.add(ry * 0.5, 0, 0.13, 0.15, bone, 0.15)
        c.add(ry * 0.62, 0, 0.05, 0.05, fluid)
        for side in (-1, 1):
            c.add(ry * 0.6, side * 0.2, 0.12, 0.13, muscle, 0.15)
        if pelvis:
            c.add(-0.1, 0, 0.2, 0.25, fluid)
            for side in (-1, 1):
                c.add(0.05, side * 0.55, 0.25, 0.1, bone, 0.1, angle=side * 0.5)
        else:
            c.add(-0.05, -0.4, rng.uniform(0.2, 0.38), rng.uniform(0.25, 0.36), liver, 0.08)
            c.add(0.15, 0.6, 0.2, 0.12, spleen, 0.06)
            for side in (-1, 1):
                c.add(0.2, side * 0.35, 0.14, 0.09, kidney, 0.15)
            c.add(0.12, 0.04, 0.05, 0.05, rng.uniform(0, 1))
        for _ in range(int(rng.integers(2, 10))):
            c.add(
                rng.uniform(-0.4, 0.1),
                rng.uniform(-0.1, 0.6),
                rng.uniform(0.04, 0.12),
                rng.uniform(0.04, 0.12),
                rng.choice([0.02, gas, fluid]),
                0.2,
            )
        planes.append(c.values)
    return _finish(rng, planes)


def chest(rng: Rng) -> Stack:
    """Axial chest."""
    fat, muscle, heart, bone, vessel = _tones(rng, 4)
    ry, rx = rng.uniform(0.55, 0.7), rng.uniform(0.85, 0.97)
    planes = []
    for _ in range(SLICES):
        c = _Canvas(rng)
        c.add(0, 0, ry, rx, fat, power=2.5)
        c.add(0, 0, ry - 0.08, rx - 0.1, muscle, 0.1, power=2.5)
        lung = rng.uniform(0, 0.08)
        for side in (-1, 1):
            c.add(0, side * 0.42, ry - 0.2, 0.3, lung, 0.5)
        c.add(-0.12, 0.12, 0.26, 0.3, heart, 0.08)
        c.add(-0.12, 0.15, 0.13, 0.14, vessel, 0.05)
        c.add(0.32, 0, 0.12, 0.13, bone, 0.1)
        c.add(0.2, 0.13, 0.06, 0.06, vessel)
        for _ in range(10):
            angle = rng.uniform(0, 2 * np.pi)
            c.add(
                (ry - 0.12) * np.sin(angle),
                (rx - 0.13) * np.cos(angle),
                0.03,
                0.1,
                bone,
                angle=np.pi / 2 - angle,
            )
        planes.append(c.values)
    return _finish(rng, planes)


def spine(rng: Rng) -> Stack:
    """Sagittal spine, sometimes with the neck's back of the head."""
    fat, muscle, bone, disc, cord, fluid, front = _tones(rng, 6)
    step, width, bend = rng.uniform(0.16, 0.36), rng.uniform(0.1, 0.2), rng.uniform(-0.25, 0.25)
    planes = []
    for _ in range(SLICES):
        c = _Canvas(rng)
        c.add(0, 0.05, 1.3, rng.uniform(0.6, 0.95), fat, 0.1, power=4)
        c.add(0, -0.15, 1.3, 0.55, front, 0.5, power=4)
        c.add(0, 0.45, 1.3, 0.2, muscle, 0.3, power=4)
        c.x = c.x + bend * c.y**2
        c.add(0, 0.2, 1.3, 0.1, fluid, power=6)
        c.add(0, 0.2, 1.3, 0.045, cord, power=6)
        for y in np.arange(-1.1, 1.1, step):
            c.add(y, -0.03, step * 0.4, width, bone, 0.1, power=5)
            c.add(y + step / 2, -0.03, step * 0.1, width * 0.95, disc, 0.1)
            c.add(y + 0.05, 0.42, step * 0.25, 0.12, bone, 0.1, angle=0.5)
        planes.append(c.values)
    return _finish(rng, planes)


def knee(rng: Rng) -> Stack:
    """Knee, sagittal or coronal."""
    fat, muscle, marrow, cartilage, fluid, cortex = _tones(rng, 5)
    half, coronal = rng.uniform(0.5, 0.8), rng.random() < 0.5
    planes = []
    for _ in range(SLICES):
        c = _Canvas(rng)
        c.add(0, 0, 1.3, half, fat, 0.1, power=5)
        c.add(0, 0.15, 1.3, half - 0.15, muscle, 0.25, power=5)
        for sign in (-1, 1):
            c.add(sign * 0.62, 0, 0.6, half * 0.42, cortex * 0.2, power=4)
            c.add(sign * 0.62, 0, 0.57, half * 0.37, marrow, 0.08, power=4)
            for side in (-1, 1) if coronal else (0,):
                c.add(
                    sign * 0.2,
                    side * half * 0.4,
                    0.2,
                    half * (0.4 if coronal else 0.72),
                    cortex * 0.2,
                )
                c.add(
                    sign * 0.2,
                    side * half * 0.4,
                    0.17,
                    half * (0.37 if coronal else 0.68),
                    marrow,
                    0.08,
                )
        c.add(0, 0, 0.035, half * 0.7, cartilage, 0.3)
        if not coronal:
            c.add(-0.25, -half * 0.85, 0.16, 0.08, marrow, 0.08)
            c.add(0.1, -half * 0.7, 0.2, 0.1, fat, 0.1)
        c.add(rng.uniform(-0.4, 0.1), rng.uniform(-0.3, 0.3), 0.06, 0.15, fluid)
        planes.append(c.values)
    return _finish(rng, planes)


def limb(rng: Rng) -> Stack:
    """Axial legs or one of them, arm, neck below the jaw."""
    fat, muscle, marrow, cortex, vessel = _tones(rng, 4)
    pair, grain = rng.random() < 0.4, rng.uniform(0.05, 0.3)
    ry, rx = rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.85)
    planes = []
    for _ in range(SLICES):
        c = _Canvas(rng)
        for cx in (-0.48, 0.48) if pair else (0.0,):
            k = 0.5 if pair else 1.0
            c.add(0, cx, ry * k, rx * k, fat, 0.1)
            layer = rng.uniform(0.06, 0.25) * k
            c.add(0, cx, ry * k - layer, rx * k - layer, muscle, grain)
            for _ in range(int(rng.integers(2, 7))):  # septa
                c.add(
                    rng.uniform(-0.3, 0.3) * k,
                    cx + rng.uniform(-0.3, 0.3) * k,
                    0.015,
                    0.3 * k,
                    fat,
                    angle=rng.uniform(0, 3),
                )
            for _ in range(int(rng.integers(1, 3))):
                y, x, r = (
                    rng.uniform(-0.15, 0.15) * k,
                    cx + rng.uniform(-0.15, 0.15) * k,
                    rng.uniform(0.1, 0.3) * k,
                )
                c.add(y, x, r, r, cortex * 0.2)
                c.add(y, x, 0.8 * r, 0.8 * r, marrow, 0.1)
            for _ in range(3):
                c.add(
                    rng.uniform(-0.3, 0.3) * k,
                    cx + rng.uniform(-0.3, 0.3) * k,
                    0.04 * k,
                    0.04 * k,
                    vessel,
                )
        planes.append(c.values)
    return _finish(rng, planes)


def ball(rng: Rng) -> Stack:
    """A bottle or a ball of fluid, shaded by the coil."""
    planes = []
    ry, rx, power, shade = (
        rng.uniform(0.4, 0.9),
        rng.uniform(0.4, 0.9),
        rng.choice([2.0, 2.0, 4.0]),
        rng.uniform(-0.8, 1.2),
    )
    tilt = rng.uniform(-0.5, 0.5, 2)
    for _ in range(SLICES):
        c = _Canvas(rng, int(rng.choice([64, 128, 256])) if not planes else len(planes[0]))
        c.add(0, 0, ry, rx, 1.0, 0.01, power=power)
        radius = (c.y / ry) ** 2 + (c.x / rx) ** 2
        planes.append(c.values * np.exp(shade * radius + tilt[0] * c.y + tilt[1] * c.x))
    values = np.stack(planes)
    return _noisy(rng, (values / values.max()).astype(np.float32), 0.005, 0.05)


MADE: Mapping[str, Callable[[Rng], Stack]] = {
    "noise": noise, "texture": texture, "dots": dots, "text": text, "graphs": graphs,
    "abdomen": abdomen, "chest": chest, "spine": spine, "knee": knee, "limb": limb, "ball": ball,
}  # fmt: skip


# --- from a head's sequences ----------------------------------------------------------------------------


def _unit(values: NDArray[np.generic], head: Mask) -> Stack:
    """Air 0, the head's 99th percentile 1."""
    values = values.astype(np.float32)
    low = float(np.percentile(values, 1))
    high = float(np.percentile(values[head], 99)) if head.any() else low + 1
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1.5).astype(np.float32)


def _noisy(rng: Rng, values: Stack, least: float = 0.005, most: float = 0.03) -> Stack:
    sigma = rng.uniform(least, most)
    real, imaginary = sigma * rng.standard_normal((2, *values.shape))
    return np.hypot(np.maximum(values, 0) + real, imaginary).astype(np.float32)


def _depth(head: Mask) -> Stack:
    """Pixels below the head's surface."""
    return np.stack([ndimage.distance_transform_edt(plane) for plane in head]).astype(np.float32)


def invert(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:  # noqa: ARG001, all have these
    """A negative of the picture: with its air, or inside the head alone."""
    unit = _unit(flair, head)
    if rng.random() < 0.4:
        return np.clip(1.05 - unit, 0, None).astype(np.float32)
    return _noisy(rng, np.where(head, np.clip(1.1 - unit, 0.02, None), 0))


def t2(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:
    """T2 after the negative of T1: CSF brightest, grey above white matter; fat bright, air and bone dark."""
    unit, depth = _unit(t1, head), _depth(head)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    surface = depth < 0.07 * size
    core = unit[head & ~surface]
    white = np.percentile(core, rng.uniform(70, 85)) if core.size else 0.6
    contrast = rng.uniform(0.8, 2.2)
    values = 0.35 + contrast * (white - unit)
    if rng.random() < 0.5:  # what FLAIR shows bright is bright in T2 as well
        values = 0.5 * values + 0.5 * (
            _unit(flair, head) * 0.5 + np.clip(1 - 2.2 * unit, 0, 1) * rng.uniform(0.8, 1.5)
        )
    values = np.clip(values, 0.05, rng.uniform(1.0, 1.6))
    scalp = unit * rng.uniform(0.3, 1.2)
    if rng.random() < 0.25:  # stripped
        return _noisy(rng, np.where(head & ~surface, values, 0), 0.002, 0.02)
    return _noisy(rng, np.where(surface, scalp, values) * head)


def pd(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:  # noqa: ARG001, all have these
    """Proton density: flat, grey above white matter, CSF between them or above."""
    unit, depth = _unit(t1, head), _depth(head)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    surface = depth < 0.07 * size
    core = unit[head & ~surface]
    white = np.percentile(core, 75) if core.size else 0.6
    values = 0.75 + rng.uniform(0.3, 0.8) * (white - unit)
    csf = np.clip(1.2 - unit / (0.6 * white), 0, 1)
    values = values * (1 - csf) + csf * rng.uniform(0.65, 1.1)
    return _noisy(
        rng, np.where(surface, unit * rng.uniform(0.5, 1.1), np.clip(values, 0.05, 1.2)) * head
    )


def dwi(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:
    """Echo-planar pictures: coarse, no scalp; b0 (CSF bright), ADC (CSF bright, brain flat), trace (flat)."""
    unit, t1u, depth = _unit(flair, head), _unit(t1, head), _depth(head)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    brain = head & (depth > rng.uniform(0.07, 0.11) * size)
    csf = np.clip(1 - t1u / 0.35, 0, 1) * np.clip(1 - unit / 0.4, 0, 1)
    kind = rng.integers(3)
    if kind == 0:
        values = 0.4 + 0.3 * (unit - 0.5) + csf * rng.uniform(0.5, 1.0)
    elif kind == 1:
        values = 0.3 + 0.08 * (unit - 0.5) + csf * rng.uniform(0.6, 1.2)
    else:
        values = 0.6 + 0.25 * (0.6 - t1u) - csf * rng.uniform(0.3, 0.55)
    values = np.where(brain, np.clip(values, 0.02, None), 0.02 * head)
    if kind != 1 and rng.random() < 0.6:  # air beside the brain piles the signal up
        rows, columns = np.indices(values.shape[1:])
        for _ in range(int(rng.integers(1, 4))):
            where = np.argwhere(brain.any(axis=0))
            y, x = where[rng.integers(len(where))] if len(where) else (0, 0)
            spot = np.exp(-(((rows - y) / 6) ** 2) - ((columns - x) / 15) ** 2)
            values = values * (1 + rng.uniform(0.3, 1.5) * spot)
    factor = rng.uniform(1.6, 2.6)
    low = ndimage.gaussian_filter(values, (0, factor / 2.2, factor / 2.2))
    coarse = ndimage.zoom(low, (1, 1 / factor, 1 / factor), order=1)
    coarse = _noisy(rng, coarse, 0.01, 0.05)
    zoom = [n / m for n, m in zip(values.shape, coarse.shape, strict=True)]
    return ndimage.zoom(coarse, zoom, order=1).astype(np.float32)


def mra(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:  # noqa: ARG001, all have these
    """Time of flight: dim flat tissue, bright vessels; or their projection alone."""
    unit = _unit(t1, head)
    vessels = np.zeros(unit.shape, np.float32)
    projection = rng.random() < 0.3
    for plane, inside in zip(vessels, head, strict=True):
        where = np.argwhere(inside)
        if not len(where):
            continue
        centre, spread = where.mean(0), where.std(0)
        for _ in range(int(rng.integers(8, 40))):
            y, x = centre + rng.normal(0, 0.6, 2) * spread
            steps = int(rng.integers(1, 60 if projection else 20))
            direction, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 2.2)
            for _ in range(steps):
                direction += rng.normal(0, 0.35)
                y, x = y + np.sin(direction), x + np.cos(direction)
                iy, ix, r = round(y), round(x), int(np.ceil(width))
                if r <= iy < plane.shape[0] - r and r <= ix < plane.shape[1] - r and inside[iy, ix]:
                    yy, xx = np.ogrid[-r : r + 1, -r : r + 1]
                    patch = plane[iy - r : iy + r + 1, ix - r : ix + r + 1]
                    np.maximum(patch, np.hypot(yy, xx) <= width, out=patch)
    tissue = 0.0 if projection else 1.0
    flat = rng.uniform(0.2, 0.6)
    values = tissue * (flat * unit + rng.uniform(0, 0.25) * head) + rng.uniform(
        0.8, 1.6
    ) * ndimage.gaussian_filter(vessels, (0, 0.6, 0.6))
    return _noisy(rng, values, 0.01, 0.05)


def ct(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:  # noqa: ARG001, all have these
    """CT: a bright shell of bone, a flat brain with CSF a little darker; raw numbers or a brain window."""
    unit, depth = _unit(t1, head), _depth(head)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    outer, inner = rng.uniform(0.02, 0.05) * size, rng.uniform(0.07, 0.1) * size
    values = np.where(
        head,
        32 + 8 * (ndimage.gaussian_filter(unit, (0, 1, 1)) - 0.5) * rng.uniform(0.5, 1.6),
        -1000.0,
    )
    values = np.where(head & (depth < outer), rng.uniform(-90, 40), values)
    bone = rng.uniform(500, 1500) * (1 + 0.25 * smooth(rng, unit.shape, 2))
    values = np.where(head & (depth >= outer) & (depth < inner), bone, values)
    values = np.where(
        head & (depth >= inner) & (unit < 0.15),
        rng.choice([8.0, 300.0, -800.0], p=[0.8, 0.1, 0.1]),
        values,
    )
    values = ndimage.gaussian_filter(values, (0, 0.7, 0.7)) + rng.uniform(
        2, 8
    ) * rng.standard_normal(values.shape)
    if rng.random() < 0.6:
        level, width = rng.uniform(30, 50), rng.uniform(70, 200)
        values = np.clip((values - level + width / 2) / width, 0, 1) * 255
    return values.astype(np.float32)


def contrast(rng: Rng, flair: Stack, t1: Stack, head: Mask) -> Stack:
    """Any contrast that is a smooth function of FLAIR and T1 and goes with FLAIR not much."""
    unit, t1u, depth = _unit(flair, head), _unit(t1, head), _depth(head)
    size = np.sqrt(head.sum(axis=(1, 2)).max())
    core = head & (depth > 0.07 * size)
    core = core if core.any() else head
    grid = int(rng.integers(3, 6))
    at = np.stack([np.clip(unit, 0, 1), np.clip(t1u, 0, 1)]) * (grid - 1)
    for _ in range(20):
        table = rng.random((grid, grid))
        values = ndimage.map_coordinates(table, at, order=1, mode="nearest")
        dark = values[core & (unit < 0.35)]
        if (
            np.corrcoef(values[core], unit[core])[0, 1] < 0.4
            and values[core].std() > 0.03
            and (not len(dark) or dark.mean() > 0.5 * values[core].mean())
        ):
            break
    else:  # a negative goes with FLAIR least of all
        values = 1 - np.clip(unit, 0, 1)
    if rng.random() < 0.3:  # stripped
        return _noisy(rng, np.where(core, values, 0), 0.002, 0.03)
    scalp = t1u * rng.uniform(0.2, 1.5)
    return _noisy(rng, np.where(depth < 0.06 * size, scalp, values) * head, 0.002, 0.05)


REMAPS: Mapping[str, Callable[[Rng, Stack, Stack, Mask], Stack]] = {
    "contrast": contrast,
    "inverted": invert, "T2-like": t2, "PD-like": pd, "DWI-like": dwi, "MRA-like": mra, "CT-like": ct,
}  # fmt: skip


def zoomed(rng: Rng, flair: Stack, head: Mask) -> Stack:
    """A part of the head that fills the picture."""
    rows, columns = (np.flatnonzero(head.any(axis=(0, 2 - k))) for k in (0, 1))
    if len(rows) < 40 or len(columns) < 40:
        return flair
    part = rng.uniform(0.3, 0.5)
    boxes = []
    for inside in (rows, columns):
        length = inside[-1] - inside[0]
        side = int(part * length)
        first = inside[0] + int(length * rng.uniform(0.2, 0.8 - part))
        boxes.append(slice(first, first + side))
    crop = flair[:, boxes[0], boxes[1]].astype(np.float32)
    return ndimage.zoom(crop, (1, 224 / crop.shape[1], 224 / crop.shape[2]), order=1)


def shuffled(rng: Rng, flair: Stack) -> Stack:
    """The picture's tiles in another order."""
    tile = int(rng.choice([24, 32, 48, 64]))
    count = min(flair.shape[1:]) // tile
    out = np.zeros((len(flair), count * tile, count * tile), np.float32)
    order = rng.permutation(count * count)
    for k, source in enumerate(order):
        (r, c), (y, x) = divmod(k, count), divmod(int(source), count)
        out[:, r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] = flair[
            :, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile
        ]
    return out
