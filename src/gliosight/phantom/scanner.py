"""A synthetic study as a scanner makes it: its settings, shading, noise, geometry (phantom layer)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.phantom.anatomy import (
    SUBSLICE_MM,
    TISSUE,
    Array,
    Grid,
    build,
    make_grid,
    render,
    smooth_noise,
)
from gliosight.study import Geometry, MrSequence, Study, Volume

# The channel order of the LGG layout, used wherever sequences stand in an array.
CHANNELS = (MrSequence.T1, MrSequence.FLAIR, MrSequence.T1C)
# Stored values per unit of the LGG layout's bytes: 16 bits hold what 8 would round off.
UNITS_PER_BYTE = 16
# How far a stack may reach along the body (mm): below, the model has no anatomy.
LONGEST_STACK_MM = 220.0
# The box that holds every head, neck included: half widths of x and, round its middle, of y; the top (mm).
_HALF_X, _HALF_Y, _MIDDLE_Y, _TOP = 94.0, 124.0, 6.0, 90.0
# Middle of a stack too short for the whole brain, mm: through the ventricles' roof.
_MIDDLE_Z = 20.0
_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "lesion_radius_mm": (4, 35),
    "lesion_growth": (-0.9, 9),
    "slices": (1, 512),
    "slice_spacing_mm": (0.5, 10),
    "pixel_mm": (0.4, 3),
    "matrix": (32, 1024),
    "noise": (0, 0.5),
    "bias": (0, 0.5),
}


@dataclass(frozen=True)
class PhantomSpec:
    """What is asked of a synthetic study.

    The same seed with and without a lesion is the same head under the same noise.

    Raises
    ------
    ValueError
        Naming the field, the value found and the value needed.
    """

    seed: int = 1  # decides the head, the lesion's position and shape, the shading and the noise
    lesion: bool = True
    lesion_side: Literal["left", "right"] = "left"  # the patient's
    # Of the sphere whose volume the lesion has before skull, midline, ventricles and sulci cut into it.
    lesion_radius_mm: float = 17.0
    # Part of that volume by which the lesion has grown since: the same lesion at another visit.
    lesion_growth: float = 0.0
    slices: int = 28
    slice_spacing_mm: float = 5.0  # slices stand for all of it
    pixel_mm: float = 0.9375
    matrix: int = 256  # rows and columns
    noise: float = 0.03  # standard deviation in each receiver channel, in white matter's brightness
    bias: float = 0.06  # standard deviation of the logarithm of the smooth shading
    skull: bool = True  # False: everything but the brain is exactly 0, as after skull-stripping
    sequences: tuple[MrSequence, ...] = CHANNELS  # with FLAIR

    def __post_init__(self) -> None:
        # ValueError throughout: a caller catches one kind, whatever is wrong with a field.
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}, needed: {low} to {high}")
            if name in ("seed", "slices", "matrix") and not isinstance(value, int):
                raise ValueError(f"{name} is {value}, not a whole number")
        if self.lesion_side not in ("left", "right"):
            raise ValueError(f"lesion_side is {self.lesion_side!r}, needed: 'left' or 'right'")
        sequences = tuple(MrSequence(name) for name in self.sequences)
        if MrSequence.FLAIR not in sequences or len(set(sequences)) != len(sequences):
            names = [sequence.value for sequence in sequences]
            raise ValueError(f"sequences are {names}, needed: FLAIR, and none twice")
        object.__setattr__(self, "sequences", sequences)
        if self.slices * self.slice_spacing_mm > LONGEST_STACK_MM:
            raise ValueError(
                f"{self.slices} slices of {self.slice_spacing_mm} mm are longer than "
                f"{LONGEST_STACK_MM:.0f} mm, the head and neck there are"
            )

    @property
    def study_id(self) -> str:
        """Short name of the study, with what is known about it."""
        return f"phantom-{self.seed:04d}-{self.lesion_side if self.lesion else 'clear'}"


@dataclass(frozen=True)
class Phantom:
    """A synthetic study, and the truth about it.

    Axial slices from inferior to superior, rows from anterior to posterior, columns from the patient's
    right to left, as in the LGG layout.

    Parameters
    ----------
    spec : PhantomSpec
    sequences : mapping of MrSequence to (slices, rows, columns) uint16 array
    truth : (slices, rows, columns) bool array
        Voxels that are at least half lesion; CSF in and around it is not.
    geometry : Geometry
    """

    spec: PhantomSpec
    sequences: Mapping[MrSequence, NDArray[np.uint16]]
    truth: NDArray[np.bool_]
    geometry: Geometry = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", MappingProxyType(dict(self.sequences)))

    @property
    def affine(self) -> NDArray[np.float64]:
        """From (slice, row, column, 1) to the world, (4, 4)."""
        return cast("NDArray[np.float64]", self.geometry.affine)  # its slices are even

    @property
    def volume_ml(self) -> float:
        """True volume of the lesion."""
        voxel = self.geometry.pixel_area * self.spec.slice_spacing_mm
        return float(np.count_nonzero(self.truth)) * voxel / 1000

    def study(self) -> Study:
        """As a study, the way arrays from elsewhere would come in; the truth stays behind."""
        return Study(
            study_id=self.spec.study_id,
            sequences={
                name: Volume(values, self.geometry) for name, values in self.sequences.items()
            },
            slice_names=tuple(str(k + 1) for k in range(self.spec.slices)),
            kind="arrays",
        )


def make_phantom(spec: PhantomSpec | None = None) -> Phantom:
    """Make a synthetic study.

    Parameters
    ----------
    spec : PhantomSpec, optional
        What to make; by default 28 slices of 5 mm with a lesion on the left.

    Notes
    -----
    The same spec gives the same study, by NumPy's seeded generators. No step depends on the number of
    threads; between processors, rounding may differ in the last of 16 bits.
    """
    spec = PhantomSpec() if spec is None else spec
    geometry = _geometry(spec)
    positions = geometry.origins[:, 2]
    rows = geometry.origins[0, 1] - spec.pixel_mm * np.arange(spec.matrix)
    columns = geometry.origins[0, 0] - spec.pixel_mm * np.arange(spec.matrix)
    # Only the part of the picture that can hold a head is painted.
    in_rows = np.flatnonzero(np.abs(rows - _MIDDLE_Y) < _HALF_Y)
    in_columns = np.flatnonzero(np.abs(columns) < _HALF_X)
    window = np.s_[:, in_rows[0] : in_rows[-1] + 1, in_columns[0] : in_columns[-1] + 1]
    rows, columns = rows[window[1]], columns[window[2]]
    half = spec.slice_spacing_mm / 2
    grid = make_grid(
        (float(positions[0]) - half, float(rows[-1]), float(columns[-1])),
        (float(positions[-1]) + half, float(rows[0]), float(columns[0])),
    )
    radius = spec.lesion_radius_mm if spec.lesion else None
    anatomy = build(spec.seed, grid, radius, spec.lesion_side, spec.lesion_growth)
    pictures, lesion = render(
        anatomy, positions, spec.slice_spacing_mm, rows, columns, spec.pixel_mm, skull=spec.skull
    )
    truth = np.zeros((spec.slices, spec.matrix, spec.matrix), dtype=bool)
    truth[window] = lesion >= 0.5
    pixels = Grid(positions, rows, columns)
    sequences = {
        name: _scan(spec, CHANNELS.index(name), pictures, window, pixels) for name in spec.sequences
    }
    return Phantom(spec, sequences, truth, geometry)


def rescan(
    phantom: Phantom,
    seed: int,
    *,
    moved: NDArray[np.float64],
    slices: int = 28,
    slice_spacing_mm: float = 5.0,
    noise: float = 0.03,
    bias: float = 0.06,
) -> Phantom:
    """Scan the head of a phantom at another visit: it lies elsewhere, and the slices cut it elsewhere.

    Parameters
    ----------
    phantom : Phantom
        With thin slices, without noise and shading: this scan has its own.
    seed : int
        Decides the shading and the noise of this scan.
    moved : (4, 4) array
        Rigid: from where a point of the head was to where it is now, RAS+ mm.
    slices, slice_spacing_mm, noise, bias
        As in `PhantomSpec`.

    Returns
    -------
    Phantom
        Its ``spec`` has the seed of this scan.
    """
    spec = replace(
        phantom.spec,
        seed=seed,
        slices=slices,
        slice_spacing_mm=slice_spacing_mm,
        noise=noise,
        bias=bias,
    )
    geometry = _geometry(spec)
    count = max(1, int(np.ceil(slice_spacing_mm / SUBSLICE_MM)))
    # Thin slices, of which ``count`` make a thick one.
    thin = cast("NDArray[np.float64]", geometry.affine)
    thin = thin @ np.diag([1 / count, 1, 1, 1]) @ _shift_of((1 - count) / 2)
    back = np.linalg.inv(phantom.affine) @ np.linalg.inv(moved) @ thin

    def cut(values: Array) -> Array:
        shape = (slices * count, spec.matrix, spec.matrix)
        out = ndimage.affine_transform(values, back, output_shape=shape, order=1)
        return np.asarray(out.reshape(slices, count, *shape[1:]).mean(axis=1))

    pictures = np.zeros((len(CHANNELS), slices, spec.matrix, spec.matrix), np.float32)
    for name, values in phantom.sequences.items():
        pictures[CHANNELS.index(name)] = cut(values.astype(np.float32) / UNITS_PER_BYTE)
    origin = geometry.origins[0]
    rows, columns = (origin[k] - spec.pixel_mm * np.arange(spec.matrix) for k in (1, 0))
    pixels = Grid(geometry.origins[:, 2], rows, columns)
    sequences = {
        name: _scan(spec, CHANNELS.index(name), pictures, np.s_[:, :, :], pixels)
        for name in spec.sequences
    }
    return Phantom(spec, sequences, cut(phantom.truth.astype(np.float32)) >= 0.5, geometry)


def _shift_of(slices: float) -> NDArray[np.float64]:
    """Affine (4, 4) that goes on by so many slices."""
    out = np.eye(4)
    out[0, 3] = slices
    return out


def _geometry(spec: PhantomSpec) -> Geometry:
    length = (spec.slices - 1) * spec.slice_spacing_mm
    # A stack long enough for the brain begins above the vertex and goes down as far as it reaches.
    first = (_TOP - 1 if length >= 2 * (_TOP - _MIDDLE_Z) - 10 else _MIDDLE_Z + length / 2) - length
    half = (spec.matrix - 1) / 2 * spec.pixel_mm
    origins = np.empty((spec.slices, 3))
    origins[:, 0] = half
    origins[:, 1] = half + _MIDDLE_Y
    origins[:, 2] = first + spec.slice_spacing_mm * np.arange(spec.slices)
    return Geometry(
        origins,
        row_direction=np.array([0.0, -1.0, 0.0]),
        column_direction=np.array([-1.0, 0.0, 0.0]),
        spacing=(spec.pixel_mm, spec.pixel_mm),
        slice_thickness=spec.slice_spacing_mm,
    )


def _scan(
    spec: PhantomSpec,
    channel: int,
    pictures: Array,
    window: tuple[slice, slice, slice],
    pixels: Grid,
) -> NDArray[np.uint16]:
    """Shade, add Rician noise (magnitude of a complex signal) and store as whole numbers."""
    generator = np.random.default_rng([spec.seed, 3, channel])
    gain = np.float32(generator.uniform(0.92, 1.08))
    shade = np.exp(np.float32(spec.bias) * smooth_noise(generator, pixels, 160.0))
    sigma = np.float32(spec.noise * TISSUE["white"][channel])
    shape = (spec.slices, spec.matrix, spec.matrix)
    real = sigma * generator.standard_normal(shape, dtype=np.float32)
    imaginary = sigma * generator.standard_normal(shape, dtype=np.float32)
    real[window] += pictures[channel] * shade * gain
    magnitude = np.sqrt(real**2 + imaginary**2)
    if not spec.skull:
        # Stripping sets everything else to 0, the noise with it.
        brain = np.zeros(shape, dtype=bool)
        brain[window] = pictures[channel] > 0.25 * TISSUE["csf"][channel]
        magnitude[~brain] = 0
    stored = np.clip(np.rint(magnitude * UNITS_PER_BYTE), 0, 65535)
    return np.asarray(stored, dtype=np.uint16)
