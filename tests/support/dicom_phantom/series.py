"""A phantom's pictures as series: FLAIR, T1 and T1C, and the traps that must not be analysed.

*Written order* is the order of the files. *Reader's order* has the same rows and columns, but the slices by
their position along the normal, growing: cross(row cosines, column cosines) of ImageOrientationPatient
(PS3.3 C.7.6.2.1.1). The two differ by a flip of the first axis where the written axes are left-handed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.phantom import Phantom, dicom
from gliosight.phantom.dicom import (
    FIRST_SERIES,
    INJECTION,
    PAUSE,
    TO_LPS,
    arrange,
    make_uid,
    planes_of,
)
from gliosight.phantom.files import to_bytes
from gliosight.study import Geometry, MrSequence

from .encode import SYNTAXES, Syntax
from .scanners import VENDORS, Protocol, Vendor, protocol
from .spec import DicomSpec

Pixels = NDArray[np.generic]

# The order of a scan. The diffusion map is calculated while the next series runs.
SCAN = ("localizer", "dwi", "map", "mosaic", "t2", "FLAIR", "T1", "T1C", "coronal")
# What a workstation stores afterwards is numbered far behind the scanner's series.
STORED = {"roi": 9001, "mask": 9002, "screenshot": 9003}
WORKSTATION = 3600.0  # s between what it stores
LOCALIZER_MM, CORONAL_MM = 20.0, 7.5
MOSAIC_TIMES = 3


@dataclass(frozen=True)
class Plane(dicom.Plane):
    stack: int = 1  # which stack of the series, and which picture of it, from 1
    index: int = 1
    time: int = 1  # temporal position and echo, from 1
    echo: int = 1
    b_value: float | None = None  # diffusion weighting, s/mm²


@dataclass(frozen=True)
class Series:
    kind: str  # FLAIR, T1, T1C or the trap's name
    number: int
    protocol: Protocol
    description: str
    planes: tuple[Plane, ...]
    start: float  # seconds from the beginning of the study
    frame: str = "head"  # which frame of reference
    contrast: bool = False
    stored_later: bool = False  # made on a workstation: always classic, never lossy
    bits: int = 12

    @property
    def times(self) -> int:
        """Number of temporal positions."""
        return max(plane.time for plane in self.planes)

    @cached_property
    def window(self) -> tuple[str, str]:
        """WindowCenter and WindowWidth."""
        return dicom.window_of(self.planes)


@dataclass(frozen=True)
class Export:
    """One phantom on its way into files, with what all its series share."""

    phantom: Phantom
    spec: DicomSpec

    @property
    def vendor(self) -> Vendor:
        return VENDORS[self.spec.vendor]

    @property
    def flair(self) -> NDArray[np.uint16]:
        return self.phantom.sequences[MrSequence.FLAIR]

    @property
    def t1(self) -> NDArray[np.uint16]:
        return self.phantom.sequences.get(MrSequence.T1, self.flair)

    def protocol(self, kind: str) -> Protocol:
        return protocol(self.spec.vendor, kind, self.phantom.spec.slice_spacing_mm)

    def syntax(self, series: Series) -> Syntax:
        chosen = SYNTAXES[self.spec.syntax]
        unfit = series.kind == "screenshot" or (series.stored_later and chosen.lossy)
        return SYNTAXES["explicit-le"] if unfit else chosen

    def uid(self, *parts: object) -> str:
        return make_uid(self._settings, *parts)

    @cached_property
    def _settings(self) -> str:
        return f"{self.phantom.spec!r}\n{self.spec.canonical}"


def all_series(export: Export) -> Iterator[Series]:
    """Every series of the study, in the order of the scan."""
    number, start = export.vendor.first, FIRST_SERIES
    for kind in SCAN:
        if kind in export.phantom.sequences:
            start += INJECTION if kind == "T1C" else 0.0
            series = sequence_series(export, MrSequence(kind), number, start)
        elif kind in export.spec.traps:
            series = trap(export, kind, number, start)
        else:
            continue
        yield series
        number += export.vendor.step
        start += series.protocol.minutes * 60 * series.times + PAUSE
    for k, (kind, number) in enumerate(STORED.items()):
        if kind in export.spec.traps:
            yield trap(export, kind, number, start + WORKSTATION * (k + 1))


def sequence_series(export: Export, name: MrSequence, number: int, start: float) -> Series:
    """FLAIR, T1 or T1C."""
    spec, flair, after = export.spec, name is MrSequence.FLAIR, name is MrSequence.T1C
    protocol = export.protocol("FLAIR" if flair else "T1")
    if after:
        protocol = replace(protocol, name=protocol.name + export.vendor.after)
    seconds = protocol.minutes * 60
    planes = lay(
        export,
        stored(export.phantom.sequences[name], spec),
        # A volume is acquired as a whole: all its pictures carry one time.
        seconds=0.0 if protocol.volume else seconds,
        coronal=spec.t1_grid == "coronal" and not flair,
    )
    if flair:
        once = planes
        for k, kind in enumerate(sorted(spec.repeats - {"copies"}), start=1):
            again = [_again(export, plane, k) for plane in once]
            if kind == "times":
                again = [replace(one, time=2, seconds=one.seconds + seconds) for one in again]
            elif kind == "echoes":
                again = [replace(one, echo=2) for one in again]
            planes = planes + again
    if spec.layout == "enhanced":
        planes = [planes[k] for k in numbering(export, len(planes), name)]
    return Series(
        kind=name.value,
        number=number,
        protocol=protocol,
        description="" if spec.descriptions == "empty" else protocol.name,
        planes=tuple(planes),
        start=start,
        frame="head moved" if spec.t1_frame == "other" and not flair else "head",
        contrast=after,
        bits=spec.stored_bits,
    )


def numbering(export: Export, count: int, what: object) -> list[int]:
    """0 to count - 1 in the order that `DicomSpec.numbering` asks for."""
    if export.spec.numbering == "reversed":
        return list(range(count))[::-1]
    if export.spec.numbering == "shuffled":
        seed = [export.phantom.spec.seed, 5, *str(what).encode()]
        return [int(k) for k in np.random.default_rng(seed).permutation(count)]
    return list(range(count))


def _again(export: Export, plane: Plane, number: int) -> Plane:
    """The same picture, scanned again under noise of its own."""
    generator = np.random.default_rng([export.phantom.spec.seed, 6, number, plane.index])
    noise = generator.integers(-3, 4, size=plane.pixels.shape)
    values = np.clip(plane.pixels.astype(np.int32) + noise, 0, _top(export.spec))
    return replace(plane, pixels=values.astype(plane.pixels.dtype))


def trap(export: Export, name: str, number: int, start: float) -> Series:
    """A series that `TRAPS` describes, made from the phantom's own sequences."""
    later = name in STORED
    protocol = export.protocol("FLAIR" if later else name)
    planes = PLANES[name](export, protocol.minutes * 60)
    if name == "roi":
        protocol = replace(protocol, image_type=("DERIVED", "SECONDARY", "OTHER"))
    elif name != "mask":
        protocol = replace(protocol, volume=False)
    descriptions = {
        "roi": "FLAIR ROI lesion",
        "mask": f"{protocol.name} seg",
        "screenshot": "FLAIR screenshot",
    }
    return Series(
        kind=name,
        number=number,
        protocol=protocol,
        description=descriptions.get(name, protocol.name),
        planes=tuple(planes),
        start=start,
        stored_later=later,
        bits=8 if name == "screenshot" else 12 if later else export.spec.stored_bits,
    )


def _localizer(export: Export, seconds: float) -> list[Plane]:
    names = ("axial", "coronal", "sagittal")
    each = seconds / len(names)
    return [
        replace(plane, stack=k + 1, seconds=plane.seconds + k * each)
        for k, name in enumerate(names)
        for plane in reslice(export, export.t1, name, 3, LOCALIZER_MM, each)
    ]


def _map(export: Export, _: float) -> list[Plane]:
    # Water moves where T1 is dark; outside of the head nothing is measured.
    t1 = export.t1.astype(np.float32)
    head = t1 > 0.15 * float(np.percentile(t1, 99.5))
    head = np.stack([ndimage.binary_fill_holes(one) for one in head])
    values = np.where(head, np.clip(3200 - 1.4 * t1, 0, 4000), 0)
    return lay(export, stored(values, export.spec))


def _roi(export: Export, _: float) -> list[Plane]:
    return lay(export, export.phantom.truth.astype(np.uint16))


def _mask(export: Export, _: float) -> list[Plane]:
    return lay(export, export.phantom.truth * np.uint16(4095))


def _dwi(export: Export, seconds: float) -> list[Plane]:
    return [
        replace(plane, b_value=b_value, seconds=plane.seconds + k * seconds / 2)
        for k, b_value in enumerate((0.0, 1000.0))
        for plane in lay(export, stored(export.flair * (0.7 - 0.35 * k), export.spec), seconds / 2)
    ]


def _t2(export: Export, seconds: float) -> list[Plane]:
    # Liquor is bright in T2, and dark in T1 as the brain is not.
    t1, flair = export.t1.astype(np.float32), export.flair.astype(np.float32)
    head = np.maximum(t1, flair) > 0.1 * float(np.percentile(t1, 99.5))
    values = np.where(head, np.clip(2600 - 1.2 * t1, 100, None) * 0.8 + 0.2 * flair, flair)
    return lay(export, stored(values, export.spec), seconds)


def _coronal(export: Export, seconds: float) -> list[Plane]:
    # Fewer slices than FLAIR has, and at least one.
    count = max(1, min(export.phantom.spec.slices - 1, 16))
    return reslice(export, export.flair, "coronal", count, CORONAL_MM, seconds)


def _mosaic(export: Export, seconds: float) -> list[Plane]:
    # Each volume is one picture: small copies of its slices, row by row.
    small = stored(export.flair[:, ::4, ::4] * 0.5, export.spec)
    slices, rows, columns = small.shape
    side = int(np.ceil(np.sqrt(slices)))
    tiles = np.zeros((side * side, rows, columns), dtype=small.dtype)
    tiles[:slices] = small
    picture = tiles.reshape(side, side, rows, columns).transpose(0, 2, 1, 3)
    pixel = export.phantom.spec.pixel_mm * 4
    first = replace(_first(export), pixels=picture.reshape(side * rows, -1), spacing=(pixel, pixel))
    return [
        replace(first, time=k + 1, seconds=k * (seconds / MOSAIC_TIMES))
        for k in range(MOSAIC_TIMES)
    ]


def _screenshot(export: Export, _: float) -> list[Plane]:
    middle = to_bytes(export.flair[export.phantom.spec.slices // 2])
    picture = np.stack([middle] * 3, axis=-1)
    # A frame in colour, as a viewer draws around its active window.
    for edge in (np.s_[:3], np.s_[-3:], np.s_[:, :3], np.s_[:, -3:]):
        picture[edge] = (255, 200, 0)
    return [replace(_first(export), pixels=picture)]


def _first(export: Export) -> Plane:
    return lay(replace(export, spec=replace(export.spec, missing=())), export.phantom.truth)[0]


PLANES: Mapping[str, Callable[[Export, float], list[Plane]]] = {
    "localizer": _localizer,
    "map": _map,
    "roi": _roi,
    "mask": _mask,
    "dwi": _dwi,
    "t2": _t2,
    "coronal": _coronal,
    "mosaic": _mosaic,
    "screenshot": _screenshot,
}


def lay(
    export: Export, values: Pixels, seconds: float = 0.0, *, coronal: bool = False
) -> list[Plane]:
    """An array on the phantom's grid in written order, acquired evenly within ``seconds``."""
    phantom, spec = export.phantom, export.spec
    order, flips = ((1, 0, 2), (False,) * 3) if coronal else (spec.order, spec.flips)
    written, origin, steps = arrange(values, phantom.affine, order, flips)
    count, lengths = len(written), np.linalg.norm(steps, axis=1)
    indices = np.arange(count, dtype=np.float64)
    if spec.uneven and count > 2:
        generator = np.random.default_rng([phantom.spec.seed, 4])
        # The outermost two stay where they are.
        indices[1:-1] += generator.uniform(-spec.uneven, spec.uneven, size=count)[1:-1]
    positions = origin + indices[:, None] * steps[0]
    # The middle slice stays where it is.
    shear = (indices - (count - 1) / 2) * lengths[0] * np.tan(np.radians(spec.tilt_degrees))
    positions = positions + shear[:, None] * steps[1] / lengths[1]
    if any(k >= count for k in spec.missing) or len(spec.missing) == count:
        raise ValueError(f"missing are {spec.missing}, the written stack has {count} slices")
    keep = np.setdiff1d(np.arange(count), spec.missing)
    return _numbered(
        planes_of(
            written[keep], positions[keep], steps, np.array(spec.rotation), spec.shift, seconds
        )
    )


def reslice(
    export: Export, values: Pixels, plane: str, count: int, step: float, seconds: float
) -> list[Plane]:
    """Square pictures sampled through the middle of the phantom, ``step`` mm apart along their normal."""
    down, across, out = {
        "axial": ((0, -1, 0), (-1, 0, 0), (0, 0, 1)),
        "coronal": ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
        "sagittal": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    }[plane]
    spec, affine = export.spec, export.phantom.affine
    middle = affine[:3, :3] @ (np.array(values.shape) - 1) / 2 + affine[:3, 3]
    matrix, pixel = export.phantom.spec.matrix, export.phantom.spec.pixel_mm
    line = (np.arange(matrix) - (matrix - 1) / 2) * pixel
    offsets = (np.arange(count) - (count - 1) / 2) * step
    origins = (
        middle + np.multiply.outer(offsets, out) + line[0] * (np.array(down) + np.array(across))
    )
    points = (
        origins[:, None, None, :]
        + np.multiply.outer(line - line[0], down)[None, :, None, :]
        + np.multiply.outer(line - line[0], across)[None, None, :, :]
    )
    inverse = np.linalg.inv(affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    sampled = ndimage.map_coordinates(
        values.astype(np.float32), np.moveaxis(voxels, -1, 0), order=1, mode="constant"
    )
    steps = np.array([out, down, across]) * np.array([[step], [pixel], [pixel]])
    return _numbered(
        planes_of(
            stored(sampled, spec), origins, steps, np.array(spec.rotation), spec.shift, seconds
        )
    )


def _numbered(planes: list[dicom.Plane]) -> list[Plane]:
    return [Plane(**vars(plane), index=k) for k, plane in enumerate(planes, start=1)]


def stored(values: Pixels, spec: DicomSpec) -> Pixels:
    """Whole numbers as the file's pixels hold them: 8 bits rescaled, 12 and 16 cut off."""
    # Whole numbers as they come from the phantom need no rounding, and copies take a while.
    numbers = values if values.dtype.kind == "u" else np.rint(np.asarray(values, dtype=np.float32))
    if spec.stored_bits == 8:
        return to_bytes(np.clip(numbers, 0, 65535).astype(np.uint16))
    return np.clip(numbers, 0, _top(spec)).astype(np.int16 if spec.signed else np.uint16)


def _top(spec: DicomSpec) -> int:
    return int(2 ** (spec.stored_bits - int(spec.signed)) - 1)


def truth_of(phantom: Phantom, spec: DicomSpec | None = None) -> NDArray[np.bool_]:
    """(slices, rows, columns): the truth on FLAIR's slices in the reader's order, without missing ones."""
    planes = _in_readers_order(Export(phantom, spec or DicomSpec()), phantom.truth)
    return np.stack([plane.pixels for plane in planes]).astype(bool)


def volume_of(phantom: Phantom, spec: DicomSpec, sequence: MrSequence) -> Pixels:
    """(slices, rows, columns): stored values in the reader's order, before any loss.

    T1 and T1C are in FLAIR's order here, whatever `DicomSpec.t1_grid` is.
    """
    values = stored(phantom.sequences[sequence], spec)
    planes = _in_readers_order(Export(phantom, spec), values)
    return np.stack([plane.pixels for plane in planes])


def geometry_of(phantom: Phantom, spec: DicomSpec | None = None) -> Geometry:
    """Where the slices of `truth_of` lie: RAS+ mm, in the reader's order."""
    planes = _in_readers_order(Export(phantom, spec or DicomSpec()), phantom.truth)
    return Geometry(
        origins=np.stack([plane.position for plane in planes]) * TO_LPS,
        row_direction=planes[0].orientation[3:] * TO_LPS,
        column_direction=planes[0].orientation[:3] * TO_LPS,
        spacing=planes[0].spacing,
        slice_thickness=planes[0].step,
    )


def _in_readers_order(export: Export, values: Pixels) -> list[Plane]:
    planes = lay(export, values)
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    backwards = planes[-1].position @ normal < planes[0].position @ normal
    return planes[::-1] if backwards else planes
