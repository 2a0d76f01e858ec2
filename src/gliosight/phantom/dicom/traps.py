"""Series that stand in a study and must not be analysed as FLAIR (phantom layer).

In: an `Export` and the names in `DicomSpec.traps`. Out: the `Series` that `TRAPS` describes. Their
pictures are made from the phantom's own sequences, so that they look as they would.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliosight.phantom.dicom.place import Array, reslice, stack_of, stored
from gliosight.phantom.dicom.series import Export, Plane, Series, planes_of
from gliosight.phantom.files import to_bytes
from gliosight.study import Sequence

# A workstation numbers what it stores far behind the scanner's series.
ROI_NUMBER, MASK_NUMBER, SCREENSHOT_NUMBER = 9001, 9002, 9003
LOCALIZER_MM = 20.0
CORONAL_MM = 7.5
_PLANES = ("axial", "coronal", "sagittal")
_B_VALUES = (0.0, 1000.0)
_MOSAIC_TIMES = 3


def trap(export: Export, name: str, number: int, start: float) -> Series:
    """Make one trap's series."""
    kind = "FLAIR" if name in ("roi", "mask", "screenshot") else name
    protocol = export.protocol(kind)
    made = {
        "localizer": _localizer,
        "map": _map,
        "roi": _roi,
        "mask": _mask,
        "dwi": _dwi,
        "t2": _t2,
        "coronal": _coronal,
        "mosaic": _mosaic,
        "screenshot": _screenshot,
    }[name](export)
    series = Series(
        kind=name,
        number=number,
        protocol=replace(protocol, volume=protocol.volume and name in ("roi", "mask")),
        description=protocol.name,
        planes=made,
        start=start,
        bits=export.spec.stored_bits,
    )
    if name == "roi":
        derived = replace(series.protocol, image_type=("DERIVED", "SECONDARY", "OTHER"))
        return replace(
            series,
            protocol=derived,
            description="FLAIR ROI lesion",
            stored_later=True,
            bits=12,
        )
    if name == "mask":
        return replace(series, description=f"{protocol.name} seg", stored_later=True, bits=12)
    if name == "screenshot":
        return replace(series, description="FLAIR screenshot", stored_later=True, bits=8)
    return series


def _flair(export: Export) -> NDArray[np.uint16]:
    return export.phantom.sequences[Sequence.FLAIR]


def _t1(export: Export) -> NDArray[np.uint16]:
    return export.phantom.sequences.get(Sequence.T1, _flair(export))


def _seconds(export: Export, kind: str) -> float:
    return export.protocol(kind).minutes * 60


def _localizer(export: Export) -> tuple[Plane, ...]:
    offsets: Array = np.array([-1.0, 0.0, 1.0]) * LOCALIZER_MM
    stacks = [
        reslice(export.phantom, export.spec, _t1(export), plane, offsets) for plane in _PLANES
    ]
    seconds = _seconds(export, "localizer") / len(stacks)
    return tuple(
        replace(plane, seconds=plane.seconds + k * seconds)
        for k, stack in enumerate(stacks)
        for plane in planes_of(
            replace(stack, values=stored(stack.values, export.spec)), seconds, k + 1
        )
    )


def _map(export: Export) -> tuple[Plane, ...]:
    # Water moves where T1 is dark; outside of the head nothing is measured.
    t1 = _t1(export).astype(np.float32)
    head = t1 > 0.15 * float(np.percentile(t1, 99.5))
    head = np.stack([ndimage.binary_fill_holes(one) for one in head])
    values = np.where(head, np.clip(3200 - 1.4 * t1, 0, 4000), 0)
    return planes_of(stack_of(export.phantom, export.spec, stored(values, export.spec)), 0.0)


def _roi(export: Export) -> tuple[Plane, ...]:
    stack = stack_of(export.phantom, export.spec, export.phantom.truth)
    return planes_of(replace(stack, values=stack.values.astype(np.uint16)), 0.0)


def _mask(export: Export) -> tuple[Plane, ...]:
    return tuple(
        replace(one, pixels=np.where(one.pixels, 4095, 0).astype(np.uint16)) for one in _roi(export)
    )


def _dwi(export: Export) -> tuple[Plane, ...]:
    seconds = _seconds(export, "dwi")
    out: list[Plane] = []
    for k, b_value in enumerate(_B_VALUES):
        values = stored(_flair(export) * (0.7 - 0.35 * k), export.spec)
        stack = stack_of(export.phantom, export.spec, values)
        out += [
            replace(plane, b_value=b_value, seconds=plane.seconds + k * seconds / 2)
            for plane in planes_of(stack, seconds / 2)
        ]
    return tuple(out)


def _t2(export: Export) -> tuple[Plane, ...]:
    # Liquor is bright in T2, and dark in T1 as the brain is not.
    t1, flair = _t1(export).astype(np.float32), _flair(export).astype(np.float32)
    head = np.maximum(t1, flair) > 0.1 * float(np.percentile(t1, 99.5))
    values = np.where(head, np.clip(2600 - 1.2 * t1, 100, None) * 0.8 + 0.2 * flair, flair)
    stack = stack_of(export.phantom, export.spec, stored(values, export.spec))
    return planes_of(stack, _seconds(export, "t2"))


def _coronal(export: Export) -> tuple[Plane, ...]:
    # Fewer slices than FLAIR has, and at least one.
    count = max(1, min(export.phantom.spec.slices - 1, 16))
    offsets: Array = (np.arange(count, dtype=np.float64) - (count - 1) / 2) * CORONAL_MM
    stack = reslice(export.phantom, export.spec, _flair(export), "coronal", offsets)
    values = stored(stack.values, export.spec)
    return planes_of(replace(stack, values=values, step=CORONAL_MM), _seconds(export, "coronal"))


def _mosaic(export: Export) -> tuple[Plane, ...]:
    # Each volume is one picture: small copies of its slices, row by row.
    small = stored(_flair(export)[:, ::4, ::4] * 0.5, export.spec)
    slices, rows, columns = small.shape
    side = int(np.ceil(np.sqrt(slices)))
    tiles = np.zeros((side * side, rows, columns), dtype=small.dtype)
    tiles[:slices] = small
    picture = (
        tiles.reshape(side, side, rows, columns)
        .transpose(0, 2, 1, 3)
        .reshape(side * rows, side * columns)
    )
    stack = stack_of(export.phantom, replace(export.spec, missing=()), export.phantom.truth)
    pixel = export.phantom.spec.pixel_mm * 4
    seconds = _seconds(export, "mosaic") / _MOSAIC_TIMES
    plane = planes_of(stack, 0.0)[0]
    return tuple(
        replace(
            plane, pixels=picture, spacing=(pixel, pixel), time=k + 1, index=1, seconds=k * seconds
        )
        for k in range(_MOSAIC_TIMES)
    )


def _screenshot(export: Export) -> tuple[Plane, ...]:
    middle = to_bytes(_flair(export)[export.phantom.spec.slices // 2])
    picture = np.stack([middle] * 3, axis=-1)
    # A frame in colour, as a viewer draws around its active window.
    for edge in (np.s_[:3], np.s_[-3:], np.s_[:, :3], np.s_[:, -3:]):
        picture[edge] = (255, 200, 0)
    plane = planes_of(stack_of(export.phantom, export.spec, export.phantom.truth), 0.0)[0]
    return (replace(plane, pixels=picture),)
