"""Frames to one array (read stage, DICOM).

In: the frames of one stack, in their order. Out: a (slices, rows, columns) array of the file's integer
type, or float32 where values are rescaled. Only the frames that are asked for are read and unpacked, each
straight into its place; what they will need is asked of the budget before.

What comes out is the modality's value (PS3.3, C.11.1): bits that are no part of a sample are masked,
MONOCHROME1 is turned round so that more is brighter, Rescale Slope and Intercept are applied frame by frame.
Private scaling is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError
from gliosight.read.dicom.bounded import AGAIN, BoundedFile
from gliosight.read.dicom.codec import Codec, shared
from gliosight.read.dicom.instances import Instance, open_pixels
from gliosight.read.dicom.layouts import Layout, layout_of, rescales_of
from gliosight.read.dicom.syntaxes import Decoder
from gliosight.read.intensities import from_doubles
from gliosight.read.limits import Budget, cannot_read

if TYPE_CHECKING:
    from gliosight.read.dicom.decoding import Unpacked
    from gliosight.read.dicom.frames import Frame

# Slopes of one series, of which each slice may have its own, differ by so much at most.
MOST_SLOPES = 1e6


def read_pixels(frames: Sequence[Frame], budget: Budget) -> NDArray[Any]:
    """Read the pixels of frames of one or several instances.

    Parameters
    ----------
    frames : sequence of Frame
        In the order of the slices wanted, of one size.
    budget : Budget
        Asked for the decoded bytes before they are allocated.

    Returns
    -------
    (slices, rows, columns) array
        The integer type of the files, or float32.

    Raises
    ------
    DamagedInputError
        Frames of different sizes, pixels cut short, a frame that cannot be decoded or contradicts
        its header.
    UnsupportedInputError
        Colour, masks of 1 bit, a transfer syntax that is not read.
    LimitExceededError
        More than the budget has left.
    """
    if not frames:
        raise ValueError("no frames to read")
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
    instances: dict[int, Instance] = {}
    for place, frame in enumerate(frames):
        instances[id(frame.instance)] = frame.instance
        wanted[id(frame.instance)].append((place, frame.number))
    layouts = {key: layout_of(one) for key, one in instances.items()}
    _same_size(frames, layouts)
    shape = next((one.rows, one.columns) for one in layouts.values())
    # Before anything is done for each frame: even as integers they may be too many.
    least = len(frames) * shape[0] * shape[1]
    Budget(budget.limits).take(least, frames[0].instance.where, packed=None, pixels=least)
    scales = {
        key: rescales_of(instances[key], [number for _, number in numbers])
        for key, numbers in wanted.items()
    }
    _check_slopes(scales, instances)
    rescaled = any(one != (1.0, 0.0) for some in scales.values() for one in some)
    stored = np.dtype(np.result_type(*[one.dtype for one in layouts.values()]))
    rescaled = rescaled or stored == np.float64
    dtype = np.dtype(np.float32) if rescaled or stored.kind == "f" else stored
    for key, numbers in wanted.items():
        pixels = len(numbers) * shape[0] * shape[1]
        packed = _packed(instances[key], layouts[key])
        budget.take(pixels * dtype.itemsize, instances[key].where, packed=packed, pixels=pixels)
        _check_there(instances[key], layouts[key], max(number for _, number in numbers))
    out = np.empty((len(frames), *shape), stored if rescaled else dtype)
    lines = np.empty((len(frames), 2))
    with shared() as codec:
        for key, numbers in wanted.items():
            with _frames_of(instances[key], layouts[key], budget, codec) as frame_of:
                for (place, number), line in zip(numbers, scales[key], strict=True):
                    out[place], lines[place] = frame_of(number), line
    return from_doubles(out, *lines.T) if rescaled else out


def _same_size(frames: Sequence[Frame], layouts: dict[int, Layout]) -> None:
    first = frames[0].instance
    size = layouts[id(first)].rows, layouts[id(first)].columns
    for frame in frames:
        one = layouts[id(frame.instance)]
        if (one.rows, one.columns) != size:
            raise DamagedInputError(
                f"{one.rows} x {one.columns} pixels, {first.where} has {size[0]} x {size[1]}",
                where=frame.instance.where,
                remedy="give one series whose slices are of one size",
            )


def _check_slopes(
    scales: dict[int, list[tuple[float, float]]], instances: dict[int, Instance]
) -> None:
    """Refuse a slope beside which nothing of the other slices, or of its own, would be left."""
    slopes = {key: [abs(slope) for slope, _ in lines if slope] for key, lines in scales.items()}
    usual = float(np.median([slope for some in slopes.values() for slope in some] or [1.0]))
    for key, some in slopes.items():
        for slope in some:
            if not usual / MOST_SLOPES <= slope <= usual * MOST_SLOPES:
                raise DamagedInputError(
                    f"RescaleSlope is {slope:g}, that of most slices {usual:g}",
                    where=instances[key].where,
                    remedy=AGAIN,
                )


def _check_there(instance: Instance, layout: Layout, number: int) -> None:
    """Whether the pixels are as many as the header claims, as far as that is known unread.

    Padding of less than a row may follow them.
    """
    if not layout.syntax.native:
        return
    length = layout.element.length or 0
    size = f"{layout.rows} x {layout.columns}"
    if number * layout.frame_bytes > length:
        what = f"the pixels end before frame {number} of {size}"
    elif length - layout.frames * layout.frame_bytes >= max(layout.frame_bytes // layout.rows, 2):
        what = f"there are more pixels than {layout.frames} of {size}"
    else:
        return
    raise DamagedInputError(what, where=instance.where, remedy=AGAIN)


def _packed(instance: Instance, layout: Layout) -> int | None:
    """Stored bytes that the pixels come out of; ``None`` where they are not packed."""
    if layout.syntax.native and instance.deflated_from is None:
        return None
    return instance.size


@contextmanager
def _frames_of(
    instance: Instance, layout: Layout, budget: Budget, codec: Codec
) -> Iterator[Callable[[int], NDArray[Any]]]:
    """A function that gives an instance's frames by number, while its file is open."""
    try:
        with open_pixels(instance, budget) as file:
            if layout.syntax.native:
                yield lambda number: _native(file, layout, number, instance.where)
                return
            from gliosight.read.dicom.decoding import decode
            from gliosight.read.dicom.encapsulated import index

            packed = index(
                file, layout.element.start, layout.frames, instance.header, instance.where
            )

            def unpack(number: int) -> NDArray[Any]:
                unpacked = decode(
                    packed.frame(number),
                    codec,
                    layout.syntax,
                    layout.rows,
                    layout.columns,
                    layout.allocated,
                    instance.where,
                    budget.limits,
                )
                return _unpacked_values(unpacked, layout)

            yield unpack
    except OSError as error:
        raise cannot_read(error, instance.where) from error


def _unpacked_values(unpacked: Unpacked, layout: Layout) -> NDArray[Any]:
    """Values of a packed frame."""
    if layout.syntax.decoder is Decoder.RLE:  # it packs cells, the others samples
        return _values(unpacked.samples, layout, layout.stored, layout.low)
    # What is above the bits stored is junk, but lossy samples may overshoot them, where it can be told.
    overshoots = layout.syntax.lossy and (layout.kind == "u" or unpacked.signed)
    bits = unpacked.bits if overshoots else min(unpacked.bits, layout.stored)
    return _values(unpacked.samples, layout, bits, 0)


def _native(file: BoundedFile, layout: Layout, number: int, where: str) -> NDArray[Any]:
    """A frame that is not packed."""
    first = (number - 1) * layout.frame_bytes
    last = first + layout.frame_bytes
    # Where bytes are swapped in pairs, an odd frame begins in the middle of one.
    begin, end = (first & ~1, last + (last & 1)) if layout.swapped else (first, last)
    short = DamagedInputError("cut short: the pixels end too early", where=where, remedy=AGAIN)
    if number < 1 or not file.reaches(layout.element.start + end):
        raise short
    file.seek(layout.element.start + begin)
    raw = file.read(end - begin)
    if len(raw) < end - begin:
        raise short
    cells: NDArray[Any]
    if layout.swapped:
        cells = np.frombuffer(raw, "<u2").byteswap().view("u1")
        cells = cells[first - begin : first - begin + layout.frame_bytes]
    else:
        kind = "f" if layout.kind == "f" else "u"
        order = "<" if layout.little else ">"
        cells = np.frombuffer(raw, f"{order}{kind}{layout.allocated // 8}")
    return _values(cells.reshape(layout.rows, layout.columns), layout, layout.stored, layout.low)


def _values(cells: NDArray[Any], layout: Layout, bits: int, low: int) -> NDArray[Any]:
    """Samples out of their cells: masked, with their sign, and more is brighter."""
    if layout.kind == "f":
        return -cells if layout.inverted else cells
    width = 8 * cells.dtype.itemsize
    native = cells.astype(f"u{cells.dtype.itemsize}", copy=False)
    if bits < width:
        # Up against the top of the cell, then down again with or without the sign.
        native = native << (width - bits - low)
    signed = native.view(f"i{cells.dtype.itemsize}") if layout.kind == "i" else native
    if bits < width:
        signed = signed >> (width - bits)
    if not layout.inverted:
        return signed
    top = (1 << layout.stored) - 1
    return ~signed if layout.kind == "i" else top - np.minimum(signed, top)
