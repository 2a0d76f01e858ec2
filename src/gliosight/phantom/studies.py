"""The scanner and the study around a painted head (phantom layer).

In: a `PhantomSpec`. Out: a `Phantom`. Here the painted slices get what a scanner adds (shading,
noise, whole numbers), and the study its geometry: axial, rows from anterior to posterior, columns
from the patient's right to left, slices from inferior to superior, as in the LGG layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gliosight.phantom.anatomy import build
from gliosight.phantom.fields import Array, Grid, make_grid, smooth_noise
from gliosight.phantom.signal import TISSUE, render
from gliosight.phantom.spec import CHANNELS, PhantomSpec
from gliosight.study import Geometry, Sequence, Study, Volume

# Stored values per unit of byte brightness: 16 bits hold what 8 would round off.
UNITS_PER_BYTE = 16
# The box that holds every head, neck included: (x, y) half widths round (0, 6), and the top (mm).
_HALF_X, _HALF_Y, _MIDDLE_Y, _TOP = 94.0, 124.0, 6.0, 90.0
# Middle of a stack too short for the whole brain, mm: through the ventricles' roof.
_MIDDLE_Z = 20.0


@dataclass(frozen=True)
class Phantom:
    """A synthetic study, and the truth about it.

    Parameters
    ----------
    spec : PhantomSpec
    sequences : mapping of Sequence to (slices, rows, columns) uint16 array
    truth : (slices, rows, columns) bool array
        Voxels that are at least half lesion; CSF in and around it is not.
    geometry : Geometry
    """

    spec: PhantomSpec
    sequences: Mapping[Sequence, NDArray[np.uint16]]
    truth: NDArray[np.bool_]
    geometry: Geometry = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", MappingProxyType(dict(self.sequences)))

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

    Notes ----- The same spec gives the same study, by NumPy's seeded generators. No step depends on
    the number of threads; between processors, rounding may differ in the last of 16 bits.
    """
    spec = PhantomSpec() if spec is None else spec
    geometry = _geometry(spec)
    rows = geometry.origins[0, 1] - spec.pixel_mm * np.arange(spec.matrix)
    columns = geometry.origins[0, 0] - spec.pixel_mm * np.arange(spec.matrix)
    positions = geometry.origins[:, 2]
    # Only the part of the picture that can hold a head is painted.
    in_rows = np.flatnonzero(np.abs(rows - _MIDDLE_Y) < _HALF_Y)
    in_columns = np.flatnonzero(np.abs(columns) < _HALF_X)
    window = (
        slice(in_rows[0], in_rows[-1] + 1),
        slice(in_columns[0], in_columns[-1] + 1),
    )
    half = spec.slice_spacing_mm / 2
    grid = make_grid(
        (float(positions[0]) - half, float(rows[window[0]][-1]), float(columns[window[1]][-1])),
        (float(positions[-1]) + half, float(rows[window[0]][0]), float(columns[window[1]][0])),
    )
    radius = spec.lesion_radius_mm if spec.lesion else None
    anatomy = build(spec.seed, grid, radius, spec.lesion_side)
    pictures, share = render(
        anatomy,
        positions,
        spec.slice_spacing_mm,
        rows[window[0]],
        columns[window[1]],
        spec.pixel_mm,
        skull=spec.skull,
    )
    where = Grid(positions, rows[window[0]], columns[window[1]])
    shape = (spec.slices, spec.matrix, spec.matrix)
    truth = np.zeros(shape, dtype=bool)
    truth[:, window[0], window[1]] = share >= 0.5
    sequences = {
        name: _scan(spec, k, pictures[k], window, where) for k, name in enumerate(CHANNELS)
    }
    return Phantom(spec, {name: sequences[name] for name in spec.sequences}, truth, geometry)


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
    picture: Array,
    window: tuple[slice, slice],
    where: Grid,
) -> NDArray[np.uint16]:
    """Shade, add Rician noise (magnitude of a complex signal) and store as whole numbers."""
    generator = np.random.default_rng([spec.seed, 3, channel])
    gain = np.float32(generator.uniform(0.92, 1.08))
    shade = np.exp(np.float32(spec.bias) * smooth_noise(generator, where, 160.0))
    sigma = np.float32(spec.noise * TISSUE["white"][channel])
    shape = (spec.slices, spec.matrix, spec.matrix)
    real = sigma * generator.standard_normal(shape, dtype=np.float32)
    imaginary = sigma * generator.standard_normal(shape, dtype=np.float32)
    inside = (slice(None), *window)
    real[inside] += picture * shade * gain
    magnitude = np.sqrt(real**2 + imaginary**2)
    if not spec.skull:
        # Stripping sets everything else to 0, the noise with it.
        brain = np.zeros(shape, dtype=bool)
        brain[inside] = picture > 0.25 * TISSUE["csf"][channel]
        magnitude[~brain] = 0
    stored = np.clip(np.rint(magnitude * UNITS_PER_BYTE), 0, 65535)
    return np.asarray(stored, dtype=np.uint16)
