"""Pixels of one TIFF or BigTIFF; its pages are slices (read stage).

tifffile reads the directories. Strips and tiles are unpacked here, to no more bytes than the image needs and
in one way for all compressions, with or without imagecodecs. libtiff (Pillow's way) prints to standard error.
"""

from __future__ import annotations

import io
import logging
import lzma
import re
import struct
import zlib
from math import prod
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, PREDICTOR

from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.checks import as_float32, from_doubles
from gliosight.read.limits import RATIO_FROM, Budget
from gliosight.read.pictures import (
    ORIENTATION,
    Picture,
    damaged,
    decode_jpeg,
    decoding,
    looked_up,
    native,
    unsupported,
    upright,
)

# Entries of a directory, in one and on average: writers make 10 to 60, and tifffile reads 4,096 at most.
LARGEST_DIRECTORY, MOST_ENTRIES = 4096, 100
# Bytes of values that several directories may share, such as a description.
MOST_SHARED = 2**24
# Bytes of one value by the entry's type; BigTIFF has 16 to 18.
VALUE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])
LEAST_TILE = 16  # TIFF 6.0, section 15
# Compressions without loss, and colour models, that are read.
PACKED = {COMPRESSION[name] for name in ("LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA")}
COLOURS = {PHOTOMETRIC[name] for name in ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE")}
WHOLE_BYTES = (8, 16, 32, 64)
# By SampleFormat: numpy's letter, and the depths that are read.
NUMBERS = {1: ("u", (*range(1, 17), 32, 64)), 2: ("i", WHOLE_BYTES), 3: ("f", WHOLE_BYTES[1:])}
# Unpacking one strip or tile costs as much as this many pixels, however small it is.
SEGMENT_COST = {COMPRESSION.NONE: 0, COMPRESSION.JPEG: 16_384} | dict.fromkeys(PACKED, 4096)
FLIPPED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# What tifffile logs about a broken file is an error here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def decode_tiff(data: bytes, where: str, budget: Budget) -> Picture:
    """Decode a TIFF; its pages are slices.

    Raises
    ------
    DamagedInputError
        Broken structure, missing pixels, pages of different size or kind.
    UnsupportedInputError
        CMYK and other colour models, a compression that is not decoded, stacks with channels or
        time points or with several slices in one directory.
    LimitExceededError
    """
    notes: set[str] = set()
    pages: list[NDArray[Any]] = []
    kinds: list[str] = []
    stored = 0
    with decoding("TIFF", where):
        offsets = _directories(data, where, budget)
        tif = tifffile.TiffFile(io.BytesIO(data))
        _check_stack(tif, len(offsets), where)
        for index, offset in enumerate(offsets):
            tif.filehandle.seek(offset)
            page = tifffile.TiffPage(tif, index=index)
            if page.is_reduced or page.is_mask:
                continue  # a thumbnail, or the mask of another page
            here = where if len(offsets) == 1 else f"{where}, page {index + 1}"
            stored += 0 if page.compression == COMPRESSION.NONE else sum(page.databytecounts)
            if stored > len(data):
                raise damaged("TIFF", "its strips or tiles overlap", here)
            pixels = _decode_page(page, data, here, budget, notes)
            white = page.photometric == PHOTOMETRIC.MINISWHITE
            sides = " x ".join(map(str, pixels.shape))
            kinds.append(f"{sides} {pixels.dtype}" + ", white is zero" * white)
            if kinds[-1] != kinds[0]:
                what = f"page {len(kinds)} is {kinds[-1]}, page 1 is {kinds[0]}"
                remedy = "give slices of one series only"
                raise DamagedInputError(what, where=where, remedy=remedy)
            pages.append(pixels)
        if not pages:
            raise damaged("TIFF", "it holds thumbnails only", where)
        stack = np.stack(pages)
        if white and stack.dtype.kind == "f":
            stack = stack.max() - stack
        if stack.dtype == np.float64:
            # A slice in a file of its own keeps its offset: another slice would have another one.
            stack = from_doubles(stack) if len(stack) > 1 else as_float32(stack)
        return Picture(_calibrated(stack, tif, where), frozenset(notes))


def _directories(data: bytes, where: str, budget: Budget) -> list[int]:
    """Offsets of the image directories (TIFF 6.0, section 2; BigTIFF has wider fields).

    tifffile gives fewer pages where their chain leaves the file or runs in a circle. It reads every value
    of every directory: where they overlap or share their values, a small file would cost hours.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    width = 8 if big else 4  # of an offset; also where the first one stands
    link, count = order + ("Q" if big else "I"), order + ("Q" if big else "H")
    entry = np.dtype(f"{order}u2,{order}u2,{order}u{width},V{width}")
    offsets: dict[int, None] = {}
    entries, values = 0, 0.0
    try:
        (offset,) = struct.unpack_from(link, data, width)
        while offset:
            if offset in offsets:
                raise damaged("TIFF", "its pages are linked in a circle", where)
            offsets[offset] = None
            budget.check_members(len(offsets), where)
            (number,) = struct.unpack_from(count, data, offset)
            begin = offset + struct.calcsize(count)
            (offset,) = struct.unpack_from(link, data, begin + number * entry.itemsize)
            table = np.frombuffer(data, entry, number, begin)
            sizes = VALUE_BYTES[np.minimum(table["f1"], len(VALUE_BYTES) - 1)]
            entries += number
            values += float(np.dot(sizes, table["f2"].astype(float)))
            if entries * entry.itemsize > len(data) or values > len(data) + MOST_SHARED:
                raise damaged("TIFF", "its directories overlap or share their values", where)
    except (struct.error, IndexError, OverflowError) as error:
        what = f"it ends after {len(data):,} bytes, before its own directory"
        raise damaged("TIFF", what, where) from error
    if not offsets:
        raise damaged("TIFF", "it holds no page", where)
    if entries > LARGEST_DIRECTORY + MOST_ENTRIES * len(offsets):
        raise damaged("TIFF", f"its directories have {entries:,} entries", where)
    return list(offsets)


def _decode_page(
    page: tifffile.TiffPage, data: bytes, where: str, budget: Budget, notes: set[str]
) -> NDArray[Any]:
    """Pixels of one page, upright, (rows, columns, channels)."""
    _check_page(page, where)
    if page.compression == COMPRESSION.JPEG:
        notes.add("LOSSY_SOURCE")
    values = _samples(page, data, where, budget)
    if page.photometric == PHOTOMETRIC.PALETTE:
        table = np.asarray(page.colormap)
        if values.shape[-1] != 1 or table.ndim != 2 or len(table) != 3:
            raise damaged("TIFF", "its palette does not fit", where)
        if table.max(initial=0) > 255:
            table = table >> 8  # the standard has 16 bits here, some writers 8
        values = looked_up(values[..., 0], table.astype(np.uint8).T, "TIFF", where)
    channels = values.shape[-1]
    if channels in (2, 4) and len(page.extrasamples) <= 1:
        # The fourth sample beside RGB, or the second beside grey, is opacity, declared or not.
        notes.add("ALPHA_DROPPED")
        values = values[..., :-1]
    if values.shape[-1] not in (1, 3):
        raise unsupported(f"a TIFF with {channels} channels", where)
    pixels = upright(native(values), page.tags.valueof(ORIENTATION), notes)
    if page.photometric != PHOTOMETRIC.MINISWHITE or pixels.dtype.kind == "f":
        return pixels
    if pixels.dtype.kind == "i":
        return ~pixels
    white = 255 if page.bitspersample == 1 else (1 << page.bitspersample) - 1
    return np.asarray(pixels.dtype.type(white) - pixels)


def _check_page(page: tifffile.TiffPage, where: str) -> None:
    """Refuse a sound page of a kind that is not read."""
    colours, packing, bits = page.photometric, page.compression, page.bitspersample
    ycbcr = (colours, packing) == (PHOTOMETRIC.YCBCR, COMPRESSION.JPEG)
    if colours not in COLOURS and not ycbcr:
        name = getattr(colours, "name", str(colours))
        raise unsupported(f"colour model {'CMYK' if name == 'SEPARATED' else name}", where)
    letter, depths = NUMBERS.get(page.sampleformat, ("", ()))
    if bits not in depths:
        raise unsupported(f"a TIFF with this kind of numbers ({bits} bits)", where)
    predictable = {
        PREDICTOR.NONE: True,
        PREDICTOR.HORIZONTAL: bits in WHOLE_BYTES,
        PREDICTOR.FLOATINGPOINT: letter == "f",
    }
    decodable = {COMPRESSION.NONE: True, COMPRESSION.JPEG: bits == 8}
    decodable |= dict.fromkeys(PACKED, predictable.get(page.predictor, False))
    if not decodable.get(packing, False):
        name = getattr(packing, "name", f"unknown ({packing})")
        what = f"TIFF with {name} compression and this kind of pixels"
        raise unsupported(what, where, "save it uncompressed or with deflate")
    together = 1 if page.planarconfig == PLANARCONFIG.SEPARATE else page.samplesperpixel
    if packing == COMPRESSION.JPEG and together not in (1, 3):
        raise unsupported(f"JPEG with {together} channels in TIFF", where)
    if page.imagedepth != 1:
        raise unsupported(f"a TIFF of {page.imagedepth} slices in one page", where)


def _samples(page: tifffile.TiffPage, data: bytes, where: str, budget: Budget) -> NDArray[Any]:
    """The page's samples as the file has them, (rows, columns, samples)."""
    rows, columns, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    planes, together = (samples, 1) if page.planarconfig == PLANARCONFIG.SEPARATE else (1, samples)
    height, width = min(page.rowsperstrip, rows), columns
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    if not rows * columns * samples * height * width:
        raise damaged("TIFF", "a side is zero pixels long", where)
    down, across = -(-rows // height), -(-columns // width)
    count = planes * down * across
    if page.is_tiled and down * across > 1 and min(height, width) < LEAST_TILE:
        raise damaged("TIFF", f"its tiles are smaller than {LEAST_TILE} x {LEAST_TILE}", where)
    line = -(-width * together * page.bitspersample // 8)  # bytes
    # Tiles reach over the image's edges: that is allocated, too.
    size = count * height * width * together * max(page.bitspersample // 8, 1)
    packed = None if page.compression == COMPRESSION.NONE else sum(page.databytecounts)
    cost = max(rows * columns * samples, count * SEGMENT_COST[page.compression])
    budget.take(size, where, packed=packed, pixels=cost)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))[:count]
    if len(segments) < count or 0 in page.databytecounts[:count]:
        raise damaged("TIFF", "pixels are missing", where)
    if any(min(begin, length) < 0 or begin + length > len(data) for begin, length in segments):
        raise damaged("TIFF", "it is truncated", where)
    parts = []
    for index, (begin, length) in enumerate(segments):
        # The last strip may be shorter.
        lines = height if page.is_tiled else min(height, rows - index % down * height)
        part = data[begin : begin + length]
        if page.compression == COMPRESSION.JPEG:
            part = _unpack_jpeg(page, part, (lines, width, together), where, budget)
        else:
            part = _unpack(page, part, lines * line, where)
        if len(part) < lines * line:
            raise damaged("TIFF", "it is truncated, a strip or tile lacks pixels", where)
        parts.append(part.ljust(height * line, b"\0"))
    values = _as_numbers(page, b"".join(parts), line, width, together)
    values = values.reshape(planes, down, across, height, width, together)
    values = values.transpose(1, 3, 2, 4, 0, 5)  # rows, columns, channels: two axes each
    return values.reshape(down * height, across * width, -1)[:rows, :columns]


def _unpack(page: tifffile.TiffPage, stored: bytes, size: int, where: str) -> bytes:
    """One strip or tile as bytes, of ``size`` at most; fewer where pixels are missing."""
    if page.fillorder == 2:
        stored = stored.translate(FLIPPED)
    if page.compression == COMPRESSION.NONE:
        return stored[:size]
    if page.compression == COMPRESSION.LZW:
        return unpack_lzw(stored, size)
    if page.compression == COMPRESSION.PACKBITS:
        return Image.frombytes("L", (size, 1), stored, "packbits", "L").tobytes()
    if page.compression == COMPRESSION.LZMA:
        return lzma.LZMADecompressor(memlimit=2**28).decompress(stored, size)
    engine = zlib.decompressobj()
    unpacked = engine.decompress(stored, size)
    if len(engine.unconsumed_tail) * 1032 > RATIO_FROM:  # deflate expands 1,032 times at most
        engine.decompress(engine.unconsumed_tail, RATIO_FROM)
        if engine.unconsumed_tail:
            what = "its compressed pixels inflate far beyond the image"
            remedy = "do not trust this file; export it again"
            raise LimitExceededError(what, where=where, remedy=remedy)
    return unpacked


def _unpack_jpeg(
    page: tifffile.TiffPage, stored: bytes, shape: tuple[int, int, int], where: str, budget: Budget
) -> bytes:
    """One strip or tile of JPEG; its tables stand in the directory."""
    if page.jpegtables:
        stored = page.jpegtables[:-2] + stored[2:]
    transform = int(page.photometric == PHOTOMETRIC.YCBCR)
    pixels, _ = decode_jpeg(stored, where, budget, transform=transform)
    if pixels.shape[0] < shape[0] or pixels.shape[1:] != shape[1:]:
        raise damaged("TIFF", "a strip or tile is of another size than the page says", where)
    return pixels[: shape[0]].tobytes()


def _as_numbers(
    page: tifffile.TiffPage, joined: bytes, line: int, width: int, together: int
) -> NDArray[Any]:
    """Lines of bytes as numbers, (lines, width, samples), with the predictor undone.

    The Predictor tag belongs to a compression (TIFF 6.0, section 14): without one it means nothing.
    """
    bits, letter = page.bitspersample, NUMBERS[page.sampleformat][0]
    lines = np.frombuffer(joined, np.uint8).reshape(-1, line)
    if bits not in WHOLE_BYTES:  # packed from the highest bit on, each line for itself
        single = np.unpackbits(lines, axis=1)[:, : width * together * bits]
        single = single.reshape(-1, width, together, bits)
        values = np.zeros(single.shape[:-1], np.uint8 if bits < 8 else np.uint16)
        for bit in range(bits):
            values = values << 1 | single[..., bit]
        return values * np.uint8(255) if bits == 1 else values
    dtype = np.dtype(f"{letter}{bits // 8}").newbyteorder(page.parent.byteorder)
    if page.compression in (COMPRESSION.NONE, COMPRESSION.JPEG) or page.predictor == PREDICTOR.NONE:
        return lines.view(dtype).reshape(-1, width, together)
    if page.predictor == PREDICTOR.HORIZONTAL:
        whole = np.dtype(f"u{bits // 8}")
        differences = lines.view(whole.newbyteorder(page.parent.byteorder))
        sums = np.cumsum(differences.reshape(-1, width, together), axis=1, dtype=whole)
        return sums.view(dtype.newbyteorder("="))
    # Adobe's Photoshop TIFF Technical Note 3: bytes by significance, then differences of bytes.
    bytewise = np.cumsum(lines.reshape(len(lines), -1, together), axis=1, dtype=np.uint8)
    floats = bytewise.reshape(len(lines), bits // 8, -1).swapaxes(1, 2)
    return np.ascontiguousarray(floats).view(f">f{bits // 8}").reshape(-1, width, together)


# LZW (TIFF 6.0, section 13): bits of each code after a CLEAR. GIF's codes grow one code later, and have the
# low bit first; else it is the same. A table holds 4,096 strings.
CLEAR, END = 256, 257
TIFF_WIDTHS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 2050])
TIFF_ENDS = np.cumsum(TIFF_WIDTHS)
GIF_WIDTHS = np.repeat([9, 10, 11, 12], [255, 512, 1024, 2049])
GIF_BITS = np.arange(16) < GIF_WIDTHS[:, None]


def unpack_lzw(packed: bytes, size: int) -> bytes:
    """Rewrite TIFF's LZW as GIF's, which Pillow decodes without libtiff.

    Raises
    ------
    ValueError, OSError
        Fewer than ``size`` bytes, codes that do not exist, or a table cleared all the time.
    """
    if packed[:1] == b"\0" and packed[1:2] and packed[1] & 1:
        raise ValueError("LZW as before TIFF 6.0, with the low bit first")
    data = np.frombuffer(packed + b"\0\0", np.uint8)
    tables: list[NDArray[np.uint8]] = []
    at, code = 0, CLEAR
    while code == CLEAR and len(tables) < 16 + size // 64:
        ends = at + TIFF_ENDS[: len(packed)]
        count = int(np.searchsorted(ends, 8 * len(packed), "right"))
        if count == 0:
            break
        widths = TIFF_WIDTHS[:count]
        begins = ends[:count] - widths
        byte, shift = begins >> 3, 24 - widths - (begins & 7)
        first, second, third = (data[byte + index].astype(np.int64) for index in range(3))
        codes = (first << 16 | second << 8 | third) >> shift & (1 << widths) - 1
        commands = np.flatnonzero((codes == CLEAR) | (codes == END))
        if len(commands) == 0 and count == len(TIFF_ENDS):
            raise ValueError("LZW without a CLEAR where the table is full")
        count = int(commands[0]) + 1 if len(commands) else count
        code, at = int(codes[count - 1]), int(ends[count - 1])
        as_bits = np.unpackbits(codes[:count].astype("<u2").view(np.uint8), bitorder="little")
        tables.append(as_bits.reshape(-1, 16)[GIF_BITS[:count]])
    gif = np.packbits(np.concatenate(tables), bitorder="little").tobytes()
    blocks = [gif[begin : begin + 255] for begin in range(0, len(gif), 255)]
    framed = b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return Image.frombytes("L", (size, 1), framed, "gif", 8, 0).tobytes()


# What ImageDescription says of a stack. Values of ij.measure.Calibration, ImageJ's function from stored to
# real numbers; a number of slices, channels or time points that no file has; formats of microscopes whose
# planes are not one page each; and the names of the axes.
STRAIGHT_LINE, NO_FUNCTION = 0, 20
MOST_CLAIMED = 10**9
MICROSCOPES = ("lsm", "stk", "fluoview", "mmstack", "ndtiff", "nih", "scanimage")
OME_AXES = {"channels": "SizeC", "slices": "SizeZ", "time points": "SizeT"}
IMAGEJ_AXES = {"channels": "channels", "slices": "slices", "time points": "frames"}
SAVE_STACK = "save FLAIR alone as a TIFF of its own, with one page for each slice, in their order"


def _check_stack(tif: tifffile.TiffFile, pages: int, where: str) -> None:
    """Refuse channels, time points, several images, and slices that are not one page each."""
    if names := [name for name in MICROSCOPES if getattr(tif, f"is_{name}", False)]:
        raise unsupported(f"a microscope's TIFF ({names[0].upper()})", where)
    ome = _ome(tif.pages.first.description)
    images = _claimed(tif, ome)
    for axes in images:
        if max(axes.values()) > MOST_CLAIMED:
            raise ValueError("no stack is that large")
        if axes.get("channels") == tif.pages.first.samplesperpixel:
            axes["channels"] = 1  # the samples of each pixel
        if any(size > 1 for axis, size in axes.items() if axis != "slices"):
            sizes = [f"{size} {axis}" for axis, size in axes.items() if size > 1]
            raise unsupported(f"a stack of {' x '.join(sizes)}", where, SAVE_STACK)
    slices = [axes["slices"] for axes in images]
    problem = ""
    if len(images) > 1 and (ome is not None or max(slices) > 1):
        problem = f"a TIFF of {len(images)} images"
    elif sum(slices) != pages and (sum(slices) > 1 or ome is not None):
        problem = f"a stack of {sum(slices)} slices in {pages} page{'s' * (pages > 1)}"
    elif ome is not None and (reason := _other_planes(ome, pages)):
        problem = f"an OME-TIFF {reason}"
    if problem:
        raise unsupported(problem, where, SAVE_STACK)


def _claimed(tif: tifffile.TiffFile, ome: ElementTree.Element | None) -> list[dict[str, int]]:
    """The axes of each image that OME-XML, ImageJ or tifffile's own description claims."""
    if ome is not None:
        found = ome.iterfind(".//{*}Pixels")
        return [
            {axis: int(image.get(name, 1)) for axis, name in OME_AXES.items()} for image in found
        ]
    words = tif.imagej_metadata if tif.is_imagej else None
    if isinstance(words, dict):
        axes = {axis: int(words.get(name, 1)) for axis, name in IMAGEJ_AXES.items()}
        if prod(axes.values()) == 1:
            axes["slices"] = int(words.get("images", 1))
        return [axes]
    images = []
    # tifffile describes the shape of all pages together, and at times names its axes.
    for words in tif.shaped_metadata or ():
        shape, letters = words["shape"], words.get("axes", "")
        letters = letters if len(letters) == len(shape) else "Q" * len(shape)
        axes = {"slices": 1}
        for letter, size in zip(letters[: -tif.pages.first.ndim], shape, strict=False):
            other = "slices" if axes["slices"] == 1 else "pages of some kind"
            axis = {"C": "channels", "T": "time points"}.get(letter, other)
            axes[axis] = axes.get(axis, 1) * int(size)
        images.append(axes)
    return images


def _ome(description: str) -> ElementTree.Element | None:
    """The root of OME-XML, known by its start: comments may stand behind it."""
    text = description.strip("\ufeff\0 \t\r\n")
    if not text.startswith("<") or "OME" not in text:
        return None
    try:
        # expat itself bounds what entities expand to.
        root = ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        if re.search(r"<(\w+:)?OME\b", text):
            raise
        return None  # free text
    return root if root.tag.rpartition("}")[2] == "OME" else None


def _other_planes(ome: ElementTree.Element, slices: int) -> str:
    """Why slice n is not page n of this file according to TiffData; empty where it is."""
    if ome.find(".//{*}BinaryOnly") is not None:
        return "that is described in another file"
    own = ome.get("UUID", "").strip()
    if any((uuid.text or "").strip() != own for uuid in ome.iterfind(".//{*}TiffData/{*}UUID")):
        return "with planes in another file"
    blocks = []
    for block in ome.iterfind(".//{*}TiffData"):
        starts = [int(block.get(name, 0)) for name in ("IFD", "FirstZ", "FirstC", "FirstT")]
        # Without any page all planes are meant, with a page just that one.
        count = block.get("NumPlanes", 1 if "IFD" in block.attrib else slices)
        blocks.append((*starts, int(block.get("PlaneCount", count))))
    expected = 0
    for *starts, count in sorted(blocks):
        if starts != [expected, expected, 0, 0] or count < 1:
            return "whose pages are not in the order of its slices"
        expected += count
    return "whose pages are not all of its slices" if blocks and expected != slices else ""


def _calibrated(stack: NDArray[Any], tif: tifffile.TiffFile, where: str) -> NDArray[Any]:
    """The numbers that ImageJ shows for the stored ones: it stores signed numbers as unsigned.

    ImageJ's description has them as ``cf``, ``c0`` and ``c1``. They are for grey integers.
    """
    words = tif.imagej_metadata if tif.is_imagej else None
    if not isinstance(words, dict) or stack.dtype.kind != "u" or stack.shape[-1] != 1:
        return stack
    function = words.get("cf", NO_FUNCTION)
    if function == NO_FUNCTION:
        return stack
    if function != STRAIGHT_LINE:
        what = "a stack of ImageJ whose calibration is not linear"
        raise unsupported(what, where, "convert it to 32 bits in ImageJ, and save that")
    offset, slope = float(words.get("c0", 0)), float(words.get("c1", 1))
    if not np.isfinite([offset, slope]).all() or slope == 0:
        raise damaged("TIFF", "its calibration by ImageJ is no line", where)
    if (offset, slope) == (0, 1):
        return stack
    if (offset, slope) == (-32768, 1) and stack.dtype == np.uint16:
        return (stack ^ np.uint16(1 << 15)).view(np.int16)
    return np.stack([as_float32(page * slope + offset) for page in stack])
