"""The frames of a stack as one array of the modality's values (read stage, DICOM).

Only the frames that are asked for are read. Bits that are not part of a sample are masked, MONOCHROME1 is
inverted so that larger values are brighter, Rescale Slope and Intercept are applied frame by frame (PS3.3,
C.11.1).
Private scaling is not applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.checks import from_doubles
from gliosight.read.dicom.decoder import DecodeError, DecoderProcess, decode_frame, describe
from gliosight.read.dicom.elements import FileBytes, damaged, first_item, items, numbers, stored
from gliosight.read.dicom.instances import (
    SYNTAXES,
    Instance,
    PixelElement,
    Syntax,
    open_pixels,
    refusal,
)
from gliosight.read.limits import Budget, Limits, cannot_read, size_in_words

if TYPE_CHECKING:
    from gliosight.read.dicom.acquisition import Frame

# The slices of one series may have slopes of their own, which differ by so much at most.
MOST_SLOPES = 1e6
# Pieces of all frames of an instance; each takes eight bytes in the file, and four times as many in memory.
MOST_FRAGMENTS = 10_000_000
# What a decoder may take, bytes: an eighth of the decoded bytes that are allowed, but at least
MEMORY = 256 * 1024**2
# and this for each sample of the frame. gdcm takes up to 16, openjpeg 8 (measured on 2048 x 2048 pixels).
SAMPLE_COST = 32
# An RLE segment grows by 1 in 128 where nothing repeats, and the frame has a header of 64 bytes.
_RLE_GROWTH, _RLE_HEADER = 1.02, 1024

# pydicom's plugins. It would take any that is installed, also libjpeg, whose licence is the GPL.
_PLUGINS = {"pydicom": "pydicom", "gdcm": "gdcm", "openjpeg": "pylibjpeg"}
# gdcm's JPEG decoder takes its depth from the frame. pydicom refuses 12 bits before it is asked, but not
# under the name of the lossless syntax, which has the same decoder.
_DECODED_AS = {uid.JPEGExtended12Bit: uid.JPEGLossless}
_ITEM, _SEQUENCE_END, _END_OF_IMAGE = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xff\xd9"
_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
# If one of these is present but not a number, the image is refused.
_NEEDED = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)


@dataclass(frozen=True)
class _Part:
    """Frames of one instance, and how its pixels are stored."""

    instance: Instance
    numbers: list[int]  # of the frames in the instance, from 1
    slices: list[int]  # their indices in the array
    element: PixelElement
    syntax: Syntax
    rows: int
    columns: int
    frames: int  # of the instance
    dtype: np.dtype[Any]  # of the values, in native byte order
    stored: int  # bits of a sample
    low: int  # the lowest of them in its cell
    inverted: bool  # larger values are darker

    @property
    def frame_bytes(self) -> int:
        """Of one frame, decoded."""
        return self.rows * self.columns * self.dtype.itemsize


def read_pixels(frames: Sequence[Frame], budget: Budget, decoder: DecoderProcess) -> NDArray[Any]:
    """Read the pixels of frames of one size, of one or several instances, in the order of the slices wanted.

    Returns
    -------
    (slices, rows, columns) array
        The integer type of the files, or float32 where values are rescaled.

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
    slices: dict[Instance, list[int]] = {}
    for slice_index, frame in enumerate(frames):
        slices.setdefault(frame.instance, []).append(slice_index)
    parts = [
        _part_of(instance, [frames[index].number for index in indices], indices)
        for instance, indices in slices.items()
    ]
    first = parts[0]
    for part in parts:
        if (part.rows, part.columns) != (first.rows, first.columns):
            raise DamagedInputError(
                f"{part.rows} x {part.columns} pixels, {first.instance.where} has "
                f"{first.rows} x {first.columns}",
                where=part.instance.where,
                remedy="give one series whose slices are of one size",
            )
        # Before anything is done for each frame: there may be too many of them.
        pixels = len(part.slices) * part.rows * part.columns
        compressed = not part.syntax.native or part.instance.deflated_from is not None
        packed = part.instance.size if compressed else None
        decoded = len(part.slices) * part.frame_bytes
        budget.take(decoded, part.instance.where, packed=packed, pixels=pixels)
        if part.syntax.native:
            _check_length(part)
    rescale = np.empty((len(frames), 2))
    for part in parts:
        rescale[part.slices] = _rescales(part)
    _check_slopes(rescale[:, 0], frames)
    dtype = np.result_type(*[part.dtype for part in parts])
    values = np.empty((len(frames), first.rows, first.columns), dtype)
    for part in parts:
        read = _read_frames(part, budget, decoder)
        for slice_index, frame_values in zip(part.slices, read, strict=True):
            values[slice_index] = frame_values
    rescaled = bool((rescale != (1.0, 0.0)).any()) or dtype == np.float64
    return from_doubles(values, *rescale.T) if rescaled else values


def unreadable_value(instance: Instance) -> DamagedInputError | None:
    """The error for a value that an image needs and that is not a number; else ``None``."""
    for keyword in _NEEDED:
        if keyword in instance.unreadable:
            return damaged(f"{keyword} is not a number", instance.where)
    return None


def _part_of(instance: Instance, numbers: list[int], slices: list[int]) -> _Part:
    """How an instance's pixels are stored; an error where they are of a kind that is not read."""
    where, header, element = instance.where, instance.header, instance.pixels
    if (unreadable := unreadable_value(instance)) is not None:
        raise unreadable
    if element is None:
        raise DamagedInputError("there are no pixels", where=where, remedy="leave it out")
    if (unsupported := refusal(instance.syntax, where)) is not None:
        raise unsupported
    syntax = SYNTAXES[instance.syntax]
    photometric = str(header.get("PhotometricInterpretation", "") or "MONOCHROME2").strip()
    channels = _whole(header, "SamplesPerPixel", where, 1)
    if channels != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedInputError(
            f"a colour picture ({photometric[:16]})",
            where=where,
            remedy="give the MR image, not a screenshot or a coloured map of it",
        )
    rows, columns = _whole(header, "Rows", where), _whole(header, "Columns", where)
    if element.keyword in _FLOATS:
        allocated = stored = _FLOATS[element.keyword]
        high, kind = allocated - 1, "f"
    else:
        allocated, stored, high = _bits(header, where)
        kind = "i" if _whole(header, "PixelRepresentation", where, 0, least=0) else "u"
    if kind == "f" and not syntax.native:
        raise damaged("floating-point pixels in a compressed syntax", where)
    if syntax.native and element.length is None:
        raise damaged("the pixels are compressed, the header does not say how", where)
    return _Part(
        instance=instance,
        numbers=numbers,
        slices=slices,
        element=element,
        syntax=syntax,
        rows=rows,
        columns=columns,
        frames=_whole(header, "NumberOfFrames", where, 1),
        dtype=np.dtype(f"{kind}{allocated // 8}"),
        stored=stored,
        low=high + 1 - stored,
        inverted=photometric == "MONOCHROME1",
    )


def _bits(header: Any, where: str) -> tuple[int, int, int]:
    """BitsAllocated, BitsStored and HighBit."""
    allocated = _whole(header, "BitsAllocated", where)
    if allocated == 1:
        raise UnsupportedInputError(
            "a stored mask of 1 bit, not an image", where=where, remedy="give the MR image"
        )
    if allocated not in (8, 16, 32):
        raise UnsupportedInputError(
            f"pixels of {allocated} bits",
            where=where,
            remedy="export the series again, with 8, 16 or 32 bits allocated",
        )
    stored = _whole(header, "BitsStored", where, allocated)
    high = _whole(header, "HighBit", where, stored - 1, least=0)
    if not stored <= high + 1 <= allocated:
        raise damaged(f"{stored} bits stored up to bit {high}, of {allocated}", where)
    return allocated, stored, high


def _whole(
    header: Any, keyword: str, where: str, absent: int | None = None, *, least: int = 1
) -> int:
    """A whole number of the header; ``absent`` where it has none."""
    number = _number(header, keyword, where, absent)
    # Bytes of another value representation may be digits.
    if number < least or isinstance(header.get(keyword), bytes):
        raise damaged(f"{keyword} is not a number that makes an image", where)
    return int(number)


def _number(header: Any, keyword: str, where: str, absent: float | None) -> float:
    text = stored(header, keyword)
    if not text and absent is not None:
        return absent
    values = numbers(text)
    if len(values) != 1:
        raise damaged(f"{keyword} is {'not a number' if text else 'missing'}", where)
    return values[0]


def _rescales(part: _Part) -> list[tuple[float, float]]:
    """Rescale slope and intercept of frames (PS3.3, C.11.1 and C.7.6.16.2.9); (1, 0) where absent."""
    header, where = part.instance.header, part.instance.where
    if header.get("ModalityLUTSequence"):
        raise UnsupportedInputError(
            "values given by a table (Modality LUT)",
            where=where,
            remedy="export the series again, without derived images",
        )

    groups = items(header, "PerFrameFunctionalGroupsSequence")
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    common = _rescale(_transformation(shared) or header, where)
    own = [
        _transformation(groups[number - 1]) if number <= len(groups) else None
        for number in part.numbers
    ]
    return [common if holder is None else _rescale(holder, where) for holder in own]


def _transformation(group: Any) -> Any:
    return None if group is None else first_item(group, "PixelValueTransformationSequence")


def _rescale(holder: Any, where: str) -> tuple[float, float]:
    slope = _number(holder, "RescaleSlope", where, 1.0)
    if slope == 0:
        raise damaged("RescaleSlope is 0", where)
    return slope, _number(holder, "RescaleIntercept", where, 0.0)


def _check_slopes(slopes: NDArray[np.float64], frames: Sequence[Frame]) -> None:
    """Refuse a slope beside which nothing of the other slices, or of its own, would be left."""
    usual = float(np.median(np.abs(slopes)))
    for slope, frame in zip(np.abs(slopes), frames, strict=True):
        if not usual / MOST_SLOPES <= slope <= usual * MOST_SLOPES:
            raise damaged(
                f"RescaleSlope is {slope:g}, that of most slices {usual:g}", frame.instance.where
            )


def _check_length(part: _Part) -> None:
    """Refuse fewer or more pixels than the header claims; padding of less than a row is allowed."""
    length, number = part.element.length or 0, max(part.numbers)
    padding = length - part.frames * part.frame_bytes
    size = f"{part.rows} x {part.columns}"
    if number * part.frame_bytes > length:
        raise damaged(f"the pixels end before frame {number} of {size}", part.instance.where)
    if padding >= max(part.frame_bytes // part.rows, 2):
        raise damaged(f"there are more pixels than {part.frames} of {size}", part.instance.where)


def _read_frames(part: _Part, budget: Budget, decoder: DecoderProcess) -> Iterator[NDArray[Any]]:
    """Yield the values of an instance's frames."""
    try:
        with open_pixels(part.instance, budget) as file:
            if part.syntax.native:
                for number in part.numbers:
                    yield _native(file, part, number)
                return
            fragments = _fragments_of(file, part)
            for number in part.numbers:
                frame = b"".join(_fragment(file, position) for position in fragments[number - 1])
                yield _decoded(frame, part, decoder, budget.limits)
    except OSError as error:
        raise cannot_read(error, part.instance.where) from error


def _native(file: FileBytes, part: _Part, number: int) -> NDArray[Any]:
    """Read a frame that is not compressed."""
    big = part.syntax.uid == uid.ExplicitVRBigEndian
    # 8 bits in big endian words stand pairwise the wrong way round; an odd frame begins inside a pair.
    swapped = big and part.dtype.itemsize == 1 and part.element.vr == "OW"
    first = (number - 1) * part.frame_bytes
    begin, end = first, first + part.frame_bytes
    if swapped:
        begin, end = begin & ~1, end + 1 & ~1
    raw = file.read(part.element.start + begin, end - begin)
    if len(raw) < end - begin:
        raise damaged("cut short: the pixels end too early", file.where)
    if swapped:
        raw = np.frombuffer(raw, "<u2").byteswap().tobytes()[first - begin :][: part.frame_bytes]
    cells = np.frombuffer(raw, part.dtype.newbyteorder(">" if big else "<"))
    return _values(cells.reshape(part.rows, part.columns), part, part.stored, part.low)


def _fragments_of(file: FileBytes, part: _Part) -> list[list[int]]:
    """The positions of each frame's fragments (PS3.5, A.4: an offset table, then fragments)."""
    where, positions, position = file.where, [], part.element.start
    while (head := file.read(position, 8))[:4] == _ITEM and len(head) == 8:
        positions.append(position)
        position += 8 + int.from_bytes(head[4:], "little")
        if len(positions) > MOST_FRAGMENTS:
            raise damaged("the compressed pixels are in too many pieces", where)
    ended = len(head) < 4 or head[:4] == _SEQUENCE_END
    if not ended or not positions or len(table := _fragment(file, positions[0])) % 4:
        raise damaged("the compressed pixels are corrupt", where)
    fragments = positions[1:]
    if not fragments:
        raise damaged("cut short: the pixels end too early", where)
    if part.frames == 1:
        return [fragments]
    if len(fragments) == part.frames:
        return [[fragment] for fragment in fragments]
    if table:
        index_of = {fragment - fragments[0]: index for index, fragment in enumerate(fragments)}
        begins = [index_of.get(offset, -1) for offset in np.frombuffer(table, "<u4").tolist()]
        if begins[0] != 0 or any(end <= begin for begin, end in pairwise(begins)):
            raise damaged("the table of frames leads elsewhere than to frames", where)
    else:  # an image ends with a marker, and some padding
        ends = [_END_OF_IMAGE in _fragment(file, fragment)[-10:] for fragment in fragments[:-1]]
        begins = [0, *(index + 1 for index, end in enumerate(ends) if end)]
    if len(begins) != part.frames:
        raise damaged(f"{len(begins)} compressed frames, the header says {part.frames}", where)
    return [fragments[begin:end] for begin, end in pairwise([*begins, len(fragments)])]


def _fragment(file: FileBytes, position: int) -> bytes:
    """The value of an item."""
    length = int.from_bytes(file.read(position + 4, 4), "little")
    value = file.read(position + 8, length)
    if len(value) < length:
        raise damaged("cut short: the pixels end too early", file.where)
    return value


def _decoded(frame: bytes, part: _Part, decoder: DecoderProcess, limits: Limits) -> NDArray[Any]:
    """Decode a compressed frame."""
    syntax, rows, columns, where = part.syntax, part.rows, part.columns, part.instance.where
    memory = max(MEMORY, limits.decoded_bytes // 8) + SAMPLE_COST * rows * columns
    low = 0
    try:
        if syntax.decoder == "pydicom":  # RLE encodes cells, the others samples
            coded, bits, low = 8 * part.dtype.itemsize, part.stored, part.low
            if len(frame) > part.frame_bytes * _RLE_GROWTH + _RLE_HEADER:
                raise damaged(f"a {syntax.name} frame is longer than its pixels", where)
        else:
            stream = describe(frame)
            if (stream.rows, stream.columns, stream.components) != (rows, columns, 1):
                raise damaged(
                    f"a compressed frame says {stream.columns} x {stream.rows} pixels of "
                    f"{stream.components} channels, the header says {columns} x {rows} and grey",
                    where,
                )
            frame, coded, bits = stream.frame, stream.precision, stream.precision
            # Bits above those stored are junk, but lossy samples may overshoot, where that can be told.
            if not syntax.lossy or (part.dtype.kind == "i" and not stream.signed):
                bits = min(bits, part.stored)
        cell = 8 if coded <= 8 else 16 if coded <= 16 else 32
        settings = {
            "syntax": _DECODED_AS.get(syntax.uid, syntax.uid),
            "decoding_plugin": _PLUGINS[syntax.decoder],
            "rows": rows,
            "columns": columns,
            "bits_allocated": cell,
            "bits_stored": coded,
        }
        if syntax.decoder == "pydicom":  # in Python, so in this process
            with quietly():
                samples = decode_frame(frame, settings)
        else:
            samples = decoder.decode(frame, settings, memory)
    except DecodeError as error:
        raise damaged(f"a {syntax.name} frame cannot be decoded, {error}", where) from error
    except MemoryError as error:
        raise LimitExceededError(
            f"a {syntax.name} frame of {columns} x {rows} pixels takes more than "
            f"{size_in_words(memory)} of memory to decode",
            where=where,
            remedy="raise it with --max-decoded if the file is to be trusted",
        ) from error
    except OSError as error:
        raise LimitExceededError(
            f"a {syntax.name} frame cannot be decoded, no process for it, "
            f"{(error.strerror or '').lower()}",
            where=where,
            remedy="end other programs, or allow more processes or memory, and try again",
        ) from error
    cells = np.frombuffer(samples, f"<u{cell // 8}").reshape(rows, columns)
    return _values(cells, part, bits, low)


def _values(cells: NDArray[Any], part: _Part, bits: int, low: int) -> NDArray[Any]:
    """Samples out of their cells: masked, with their sign, larger ones brighter."""
    kind, itemsize = part.dtype.kind, cells.dtype.itemsize
    if kind == "f":
        return -cells if part.inverted else cells
    values: NDArray[Any] = cells.astype(f"u{itemsize}", copy=False)
    unused = 8 * itemsize - bits
    if unused:  # up against the top of the cell, then down again with or without the sign
        values = values << (unused - low)
    values = values.view(f"{kind}{itemsize}")
    if unused:
        values = values >> unused
    if not part.inverted:
        return values
    top = (1 << part.stored) - 1
    return ~values if kind == "i" else top - np.minimum(values, top)
