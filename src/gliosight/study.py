"""What comes in: a study, its sequences, their geometry, and what was odd (domain layer).

Conventions, everywhere in gliosight
------------------------------------
- Arrays are numpy with the index order ``(slice, row, column)``, native to the input.
- World coordinates are RAS+ (they grow towards the patient's Right, Anterior and Superior), in millimetres,
  and name pixel centres. They are converted only in ``read`` (from DICOM's LPS, from NIfTI's index order)
  and in ``write``.
- Where the input has no geometry (TIFF, PNG, JPEG) there are no millimetres; none are invented.

`Geometry` keeps a position for every slice, since an affine cannot hold uneven gaps or a tilt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import product
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Slice positions count as even within this part of their spacing.
EVEN_WITHIN = 0.01
# Grids are the same when no corner is further off than this part of the smallest voxel side.
SAME_WITHIN = 0.05


class MrSequence(str, Enum):
    """The MR sequences this tool knows, by the names it uses in files and in words."""

    FLAIR = "FLAIR"
    T1 = "T1"
    T1C = "T1C"


@dataclass(frozen=True)
class Flag:
    """Something the reader of a result should know; every code is explained in docs/flags.md.

    Parameters
    ----------
    code : str
        Upper snake case, stable.
    severity : {"info", "warning"}
    message : str
        One plain sentence.
    """

    code: str
    severity: Literal["info", "warning"]
    message: str


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a stack of parallel slices lie in the patient.

    Parameters
    ----------
    origins : (slices, 3) array
        World position (RAS+, mm) of the centre of pixel (row 0, column 0) of each slice. Along the
        normal they are strictly monotonic.
    row_direction : (3,) array
        Unit vector along which the row index grows (down the picture).
    column_direction : (3,) array
        Unit vector along which the column index grows (across the picture), perpendicular to it.
    spacing : tuple of float
        Distance between rows and between columns, mm.
    slice_thickness : float, optional
        Only used as the spacing of a single slice, mm.
    believed : {"all", "all but sides", "sizes"}
        What of it can be believed: ``"all but sides"`` where nothing says for sure which side of the
        patient is left, ``"sizes"`` where directions and position are a program's default.

    Raises
    ------
    ValueError
        Directions that are not perpendicular unit vectors, spacing that is not positive, positions
        that repeat or turn round.
    """

    origins: NDArray[np.float64]
    row_direction: NDArray[np.float64]
    column_direction: NDArray[np.float64]
    spacing: tuple[float, float]
    slice_thickness: float | None = None
    believed: Literal["all", "all but sides", "sizes"] = "all"

    def __post_init__(self) -> None:
        for name in ("origins", "row_direction", "column_direction"):
            value = np.array(getattr(self, name), dtype=np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if self.origins.ndim != 2 or self.origins.shape[1] != 3 or len(self.origins) == 0:
            raise ValueError(f"origins have shape {self.origins.shape}, not (slices, 3)")
        if not np.isfinite(self.origins).all():
            raise ValueError("origins are not finite")
        for direction in (self.row_direction, self.column_direction):
            if direction.shape != (3,) or abs(float(direction @ direction) - 1) > 1e-3:
                raise ValueError(f"direction {direction} is not a unit vector")
        if abs(float(self.row_direction @ self.column_direction)) > 1e-3:
            raise ValueError("row and column directions are not perpendicular")
        if not all(np.isfinite(side) and side > 0 for side in self.spacing):
            raise ValueError(f"spacing {self.spacing} is not positive")
        steps = np.diff(self.slice_positions)
        if len(steps) and not steps.min() > 0:
            raise ValueError("slice positions repeat or turn round")

    @property
    def slices(self) -> int:
        """Number of slices."""
        return len(self.origins)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slices, pointing the way the slice index grows."""
        cross = np.cross(self.column_direction, self.row_direction)
        cross /= np.linalg.norm(cross)
        if len(self.origins) > 1 and float((self.origins[-1] - self.origins[0]) @ cross) < 0:
            cross = -cross
        return np.asarray(cross, dtype=np.float64)

    @property
    def slice_positions(self) -> NDArray[np.float64]:
        """Position of each slice along the normal, mm, growing."""
        return np.asarray(self.origins @ self.normal, dtype=np.float64)

    @property
    def slice_spacing(self) -> float | None:
        """Median distance between slices, mm; a single slice's thickness; ``None`` if unknown."""
        if self.slices > 1:
            return float(np.median(np.diff(self.slice_positions)))
        return self.slice_thickness

    @property
    def evenly_spaced(self) -> bool:
        """Whether one affine describes all slices, within 1 % of their spacing."""
        if self.slices < 2 or self.slice_spacing is None:
            return self.slice_spacing is not None
        line = np.linspace(self.origins[0], self.origins[-1], self.slices)
        return bool(np.abs(self.origins - line).max() <= EVEN_WITHIN * self.slice_spacing)

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """(4, 4) from ``(slice, row, column, 1)`` to world, or ``None`` where slices are uneven."""
        spacing = self.slice_spacing
        if spacing is None or not self.evenly_spaced:
            return None
        if self.slices > 1:
            step = (self.origins[-1] - self.origins[0]) / (self.slices - 1)
        else:
            step = self.normal * spacing
        out = np.eye(4)
        out[:3, 0] = step
        out[:3, 1] = self.row_direction * self.spacing[0]
        out[:3, 2] = self.column_direction * self.spacing[1]
        out[:3, 3] = self.origins[0]
        return out

    @property
    def pixel_area(self) -> float:
        """mm² of one pixel."""
        return self.spacing[0] * self.spacing[1]

    def volume_ml(self, areas: NDArray[np.integer[Any]]) -> float | None:
        """Volume of an outline, from its pixels in each slice; ``None`` where the spacing is unknown.

        A slice stands for the spacing between slices, not its thickness. It is the median distance for
        all of them, so a missing slice is not filled in: a volume with a gap is a lower bound.
        """
        if self.slice_spacing is None:
            return None
        return float((areas * self.pixel_area * self.slice_spacing).sum() / 1000)

    @property
    def slice_extents(self) -> NDArray[np.float64] | None:
        """(slices,) array: what each slice stands for along the normal, mm; ``None`` if unknown.

        The spacing between slices, not their thickness: a slice stands for the gap around it, too.
        """
        spacing = self.slice_spacing
        return None if spacing is None else np.full(self.slices, spacing)

    def coincides(self, other: Geometry, plane: tuple[int, int]) -> bool:
        """Whether two stacks of as many slices, all of ``plane`` (rows, columns), have one grid."""
        if self.slices != other.slices:
            return False
        corners = np.array(list(product(range(self.slices), (0, plane[0] - 1), (0, plane[1] - 1))))
        away = np.linalg.norm(self.to_world(corners) - other.to_world(corners), axis=1)
        smallest = min(*self.spacing, self.slice_spacing or np.inf)
        return bool(away.max() <= SAME_WITHIN * smallest)

    def _origin_at(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) origins at continuous slice indices (...); beyond the ends those of the end slices."""
        whole = np.arange(self.slices, dtype=np.float64)
        return np.stack([np.interp(index, whole, self.origins[:, k]) for k in range(3)], axis=-1)

    def to_world(self, voxels: NDArray[np.generic]) -> NDArray[np.float64]:
        """World positions (..., 3), RAS+ mm, of continuous voxel indices (..., 3) in index order."""
        indices = np.asarray(voxels, dtype=np.float64)
        if self.slices > 1:
            base = self._origin_at(indices[..., 0])
        else:
            base = self.origins[0] + indices[..., :1] * self.normal * (self.slice_spacing or 0.0)
        return np.asarray(
            base
            + indices[..., 1:2] * self.row_direction * self.spacing[0]
            + indices[..., 2:3] * self.column_direction * self.spacing[1],
            dtype=np.float64,
        )

    def to_voxels(self, world: NDArray[np.generic]) -> NDArray[np.float64]:
        """Continuous voxel indices (..., 3), in index order, of world positions (..., 3), RAS+ mm.

        The inverse of `to_world` among the slices; beyond the first and the last one it goes on by the
        spacing between slices (by 1 mm where that is unknown).
        """
        points = np.asarray(world, dtype=np.float64)
        positions, along = self.slice_positions, points @ self.normal
        step = self.slice_spacing or 1.0
        index = np.interp(along, positions, np.arange(self.slices, dtype=np.float64))
        index += np.minimum(along - positions[0], 0) / step
        index += np.maximum(along - positions[-1], 0) / step
        away = points - self._origin_at(index)
        return np.stack(
            [
                index,
                away @ self.row_direction / self.spacing[0],
                away @ self.column_direction / self.spacing[1],
            ],
            axis=-1,
        )


@dataclass(frozen=True)
class Volume:
    """One sequence's pixels, with where they lie.

    Parameters
    ----------
    values : (slices, rows, columns) array
        float32 or the file's integer type; finite.
    geometry : Geometry or None
        ``None`` where the input has none.
    """

    values: NDArray[Any]
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or 0 in self.values.shape:
            raise ValueError(f"values have shape {self.values.shape}, not (slices, rows, columns)")
        if self.geometry is not None and self.geometry.slices != len(self.values):
            raise ValueError(
                f"geometry has {self.geometry.slices} slices, values have {len(self.values)}"
            )


@dataclass(frozen=True)
class DicomSource:
    """What the writers need to go back to the DICOM series whose grid is the study's.

    Parameters
    ----------
    headers : tuple of pydicom.Dataset
        One for each instance of the FLAIR series, without its pixel data; with ``file_meta``.
    frames : tuple of (int, int)
        For every native slice the index into ``headers`` and the frame's number in that instance,
        counted from 1.
    """

    headers: tuple[Any, ...]
    frames: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.headers or any(not 0 <= k < len(self.headers) for k, _ in self.frames):
            raise ValueError("frames name headers that are not there")


@dataclass(frozen=True)
class TakenSeries:
    """The DICOM series, or the part of one, that was taken for a sequence.

    Parameters
    ----------
    uid_digest : str
        First 12 hexadecimal digits of the SHA-256 of its SeriesInstanceUID; of a series without UID
        the ``frames_digest``.
    frames_digest : str
        The same of its frames, which tells parts of one series apart.
    why : str
        Why it was taken, in words.
    """

    uid_digest: str
    frames_digest: str
    why: str


@dataclass(frozen=True)
class Source:
    """Where a study was read from, and what the writers need to write in the input's own kind.

    Parameters
    ----------
    path : str or None
        Where the study lies, seen from the path that was given; ``None`` for arrays and images.
    files : tuple of str
        Names of the files of slices or NIfTI, FLAIR's first.
    nifti_header : nibabel.Nifti1Header or nibabel.Nifti2Header or None
        FLAIR's header, of a single volume, with the forms of its file.
    dicom : DicomSource or None
        FLAIR's series.
    series : mapping of MrSequence to TakenSeries
        The DICOM series of each sequence; empty where only headers were read.
    """

    path: str | None = None
    files: tuple[str, ...] = ()
    nifti_header: Any = None
    dicom: DicomSource | None = None
    series: Mapping[MrSequence, TakenSeries] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", MappingProxyType(dict(self.series)))


@dataclass(frozen=True)
class Study:
    """One visit of one patient, read and in order.

    Parameters
    ----------
    study_id : str
        Never a name: the folder's or file's name, or a digest of the DICOM study's UID.
    sequences : mapping of MrSequence to Volume
        All on FLAIR's grid. FLAIR is always there; a sequence that is missing, or was only a copy of
        FLAIR, is not.
    slice_names : tuple of str
        What each native slice is called in the input, for the writers; unique.
    kind : {"slices", "nifti", "dicom", "arrays"}
        What the input was.
    source : Source
    flags : tuple of Flag
    """

    study_id: str
    sequences: Mapping[MrSequence, Volume]
    slice_names: tuple[str, ...]
    kind: Literal["slices", "nifti", "dicom", "arrays"]
    source: Source = field(default_factory=Source)
    flags: tuple[Flag, ...] = ()

    def __post_init__(self) -> None:
        if MrSequence.FLAIR not in self.sequences:
            raise ValueError("a study needs a FLAIR sequence")
        shape = self.flair.values.shape
        for name, volume in self.sequences.items():
            if volume.values.shape != shape:
                raise ValueError(f"{name.value} is {volume.values.shape}, FLAIR is {shape}")
        if len(self.slice_names) != shape[0] or len(set(self.slice_names)) != shape[0]:
            raise ValueError(f"{len(self.slice_names)} slice names for {shape[0]} slices")
        object.__setattr__(self, "sequences", MappingProxyType(dict(self.sequences)))

    @property
    def flair(self) -> Volume:
        """The FLAIR volume, whose grid is the study's."""
        return self.sequences[MrSequence.FLAIR]

    @property
    def geometry(self) -> Geometry | None:
        """Where the study's grid lies, or ``None``."""
        return self.flair.geometry

    def without_geometry(self) -> Study:
        """The same pixels, of which nothing says where they lie."""
        volumes = {name: Volume(volume.values) for name, volume in self.sequences.items()}
        return replace(self, sequences=volumes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.flair.values.shape
        return slices, rows, columns
