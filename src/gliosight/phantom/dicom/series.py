"""What stands between a phantom and its files: series of pictures, and the export (phantom layer).

In: a `Phantom` and a `DicomSpec`. Out: the `Series` for FLAIR, T1 and T1C, in the order a scanner
makes them. ``traps`` adds those that must not be analysed; ``classic`` and ``enhanced`` turn
either kind into data sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from numpy.typing import NDArray

from gliosight.phantom.dicom.encode import SYNTAXES, Syntax
from gliosight.phantom.dicom.place import Array, Stack, stack_of, stored
from gliosight.phantom.dicom.protocols import Protocol
from gliosight.phantom.dicom.spec import DicomSpec
from gliosight.phantom.dicom.vendors import VENDORS, Vendor
from gliosight.phantom.studies import Phantom
from gliosight.study import Sequence

# Names of the misleading kind.
_MISLEADING = {Sequence.FLAIR: "T2 TSE ax", Sequence.T1: "FLAIR ax", Sequence.T1C: "T1 ax native"}


@dataclass(frozen=True)
class Plane:
    """One picture of a series, ready to be stored.

    Parameters
    ----------
    pixels : (rows, columns) array
        uint8, uint16 or int16.
    position, orientation, spacing, step
        As in `Stack`.
    stack, index : int
        Which stack of the series, and which picture of it, from 1.
    seconds : float
        When it was acquired, from the beginning of the series.
    time, echo : int
        Temporal position and echo, from 1.
    b_value : float, optional
        Diffusion weighting, s/mm².
    """

    pixels: NDArray[np.generic]
    position: Array
    orientation: Array
    spacing: tuple[float, float]
    step: float
    stack: int = 1
    index: int = 1
    seconds: float = 0.0
    time: int = 1
    echo: int = 1
    b_value: float | None = None


@dataclass(frozen=True)
class Series:
    """One series.

    Parameters
    ----------
    kind : str
        ``FLAIR``, ``T1``, ``T1C`` or the trap's name.
    number : int
        SeriesNumber.
    protocol : Protocol
    description : str
        SeriesDescription, as it is written.
    planes : tuple of Plane
    start : float
        Seconds from the beginning of the study.
    frame : str
        Which frame of reference.
    contrast : bool
        Acquired after contrast medium.
    stored_later : bool
        Made on a workstation: always classic, never lossy.
    bits : int
        BitsStored.
    """

    kind: str
    number: int
    protocol: Protocol
    description: str
    planes: tuple[Plane, ...]
    start: float
    frame: str = "head"
    contrast: bool = False
    stored_later: bool = False
    bits: int = 12

    @property
    def times(self) -> int:
        """Number of temporal positions."""
        return max(one.time for one in self.planes)

    @cached_property
    def window(self) -> tuple[int, int]:
        """WindowCenter and WindowWidth that show the whole head."""
        # Every fourth pixel: the statistic is the same, and a long series takes a while.
        sample = np.concatenate([one.pixels[::4, ::4].ravel() for one in self.planes])
        top = max(int(np.percentile(sample, 99.5)), 2)
        return top // 2, top


@dataclass(frozen=True)
class Export:
    """One phantom on its way into files, with what all its series share."""

    phantom: Phantom
    spec: DicomSpec

    @property
    def vendor(self) -> Vendor:
        """Whose habits."""
        return VENDORS[self.spec.vendor]

    def syntax(self, series: Series) -> Syntax:
        """Transfer syntax of a series."""
        chosen = SYNTAXES[self.spec.syntax]
        unfit = series.kind == "screenshot" or (series.stored_later and chosen.lossy)
        return SYNTAXES["explicit-le"] if unfit else chosen

    def uid(self, *parts: object) -> str:
        """Make a UID that is the same whenever the same thing is written (PS3.5 B.2)."""
        text = "\n".join([self._settings, *map(str, parts)])
        return f"2.25.{uuid5(NAMESPACE_OID, text).int}"

    @cached_property
    def _settings(self) -> str:
        return f"{self.phantom.spec!r}\n{self.spec.canonical}"

    def protocol(self, kind: str) -> Protocol:
        """The vendor's protocol."""
        return self.vendor.protocol(kind, self.phantom.spec.slice_spacing_mm)


def planes_of(stack: Stack, seconds: float, number: int = 1) -> tuple[Plane, ...]:
    """Pictures of a stack in written order, acquired evenly within ``seconds``."""
    count = len(stack.values)
    return tuple(
        Plane(
            pixels=stack.values[k],
            position=stack.positions[k],
            orientation=stack.orientation,
            spacing=stack.spacing,
            step=stack.step,
            stack=number,
            index=k + 1,
            seconds=seconds * k / count,
        )
        for k in range(count)
    )


def sequence_series(export: Export, name: Sequence, number: int, start: float) -> Series:
    """Make FLAIR, T1 or T1C as a series."""
    spec = export.spec
    after = name is Sequence.T1C
    protocol = export.protocol("FLAIR" if name is Sequence.FLAIR else "T1")
    if after:
        protocol = replace(protocol, name=protocol.name + export.vendor.after)
    elsewhere = name is not Sequence.FLAIR
    values = stored(export.phantom.sequences[name], spec)
    coronal = elsewhere and spec.t1_grid == "coronal"
    stack = stack_of(export.phantom, spec, values, (1, 0, 2) if coronal else None)
    seconds = protocol.minutes * 60
    # A volume is acquired as a whole: all its pictures carry one time.
    planes = planes_of(stack, 0.0 if protocol.volume else seconds)
    if name is Sequence.FLAIR:
        planes = tuple(_repeated(export, planes, seconds))
    if spec.layout == "enhanced":
        planes = tuple(planes[k] for k in numbering(export, len(planes), name))
    return Series(
        kind=name.value,
        number=number,
        protocol=protocol,
        description={
            "usual": protocol.name,
            "empty": "",
            "misleading": _MISLEADING[name],
        }[spec.descriptions],
        planes=planes,
        start=start,
        frame="head moved" if elsewhere and spec.t1_frame == "other" else "head",
        contrast=after,
        bits=spec.stored_bits,
    )


def numbering(export: Export, count: int, what: object) -> list[int]:
    """Places 0 to count - 1 in the order that `DicomSpec.numbering` asks for."""
    if export.spec.numbering == "reversed":
        return list(range(count))[::-1]
    if export.spec.numbering == "shuffled":
        seed = [export.phantom.spec.seed, 5, *str(what).encode()]
        return [int(k) for k in np.random.default_rng(seed).permutation(count)]
    return list(range(count))


def _repeated(export: Export, planes: tuple[Plane, ...], seconds: float) -> Iterator[Plane]:
    """All pictures, and those that `DicomSpec.repeats` adds at the same places."""
    repeats = export.spec.repeats
    yield from planes
    for number, one in enumerate(sorted(repeats - {"copies"}), start=1):
        for plane in planes:
            again = replace(plane, pixels=_again(export, plane, number))
            if one == "times":
                yield replace(again, time=2, seconds=plane.seconds + seconds)
            elif one == "echoes":
                yield replace(again, echo=2)
            else:
                yield again


def _again(export: Export, plane: Plane, number: int) -> NDArray[np.generic]:
    """Scan the same place again: the same picture under noise of its own."""
    generator = np.random.default_rng([export.phantom.spec.seed, 6, number, plane.index])
    noise = generator.integers(-3, 4, size=plane.pixels.shape)
    kind = plane.pixels.dtype
    top = 2 ** (export.spec.stored_bits - int(export.spec.signed)) - 1
    return np.asarray(np.clip(plane.pixels.astype(np.int32) + noise, 0, top), dtype=kind)
