"""Pixels of one TIFF or BigTIFF, with all its pages (read stage).

In: a file's bytes. Out: a `Picture`, or an error. tifffile reads the directories, `tiff_segments`
unpacks strips and tiles to bytes, and bytes become pixels here in one way for every compression: a
packed file is read like its uncompressed twin, whatever else is installed. Pixels that are missing
are an error, as is a stack whose slices are not one page each.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.intensities import as_float32, from_doubles
from gliosight.read.limits import RATIO_FROM, Budget
from gliosight.read.pictures import (
    Picture,
    damaged,
    decode_jpeg,
    library,
    looked_up,
    native,
    orientation_of,
    unsupported,
    upright,
)
from gliosight.read.tiff_segments import JPEG, NONE, UNPACK, BombError

# Entries of a directory, on average and in one: writers make 10 to 60, and tifffile reads 4,096 at most.
MOST_ENTRIES, LARGEST_DIRECTORY = 100, 4096
# Values that several directories may share, such as a description (bytes).
MOST_SHARED = 2**24
LEAST_TILE = 16  # TIFF 6.0, section 15
# Unpacking a strip or tile costs as much as this many pixels, however small it is.
LEAST_PACKED, LEAST_JPEG = 4096, 16_384
# What a description may claim to be the number of slices, channels or time points.
MOST_CLAIMED = 10**9

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
REDUCED, TRANSPARENCY = 1, 4  # bits of NewSubfileType
SEPARATE = 2  # PlanarConfiguration: each channel in strips of its own
DIFFERENCES, FLOAT_DIFFERENCES = 2, 3  # Predictor
_LETTERS = {1: "u", 2: "i", 3: "f"}  # SampleFormat
# Bytes of one value by the entry's type; BigTIFF has 16 to 18.
_VALUE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])
# ImageJ's functions from stored to real numbers (ij.measure.Calibration).
_STRAIGHT_LINE, _NO_FUNCTION = 0, 20
_SIGNED_16_BITS = (-32768.0, 1.0)
_FLIPPED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# Formats of microscopes whose planes are not one page each.
_MICROSCOPES = ("lsm", "stk", "fluoview", "mmstack", "ndtiff", "nih", "scanimage")

# What tifffile logs about a broken file is found here from the file itself.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def decode_tiff(data: bytes, where: str, budget: Budget) -> Picture:
    """Decode a TIFF; its pages are slices.

    Raises
    ------
    DamagedInputError
        Broken structure, missing pixels, pages of different size or kind.
    UnsupportedInputError
        CMYK and other colour models, a compression that is not decoded, stacks with channels or
        time points or with several slices behind one directory.
    LimitExceededError
    """
    notes: set[str] = set()
    pages: list[NDArray[Any]] = []
    first: tifffile.TiffPage | None = None
    stored = 0
    with library("TIFF", where), tifffile.TiffFile(io.BytesIO(data)) as tif:
        offsets = list(_directories(data, where, budget))
        _refuse_hyperstack(tif, len(offsets), where)
        for number, offset in enumerate(offsets):
            tif.filehandle.seek(offset)
            page = tifffile.TiffPage(tif, index=number)
            if int(page.subfiletype) & (REDUCED | TRANSPARENCY):
                continue  # a thumbnail, or the mask of another page
            here = where if len(offsets) == 1 else f"{where}, page {number + 1}"
            if page.compression != NONE:
                stored += sum(page.databytecounts)
            if stored > len(data):
                raise damaged("TIFF", "its strips or tiles overlap", here)
            pages.append(_decode_page(page, data, here, budget, notes))
            first = first or page
            _check_alike(pages, where)
            if (page.photometric == MIN_IS_WHITE) != (first.photometric == MIN_IS_WHITE):
                raise damaged("TIFF", "white is zero on some of its pages only", where)
        if first is None:
            raise damaged("TIFF", "it holds thumbnails only", where)
        stack = np.stack(pages)
        if first.photometric == MIN_IS_WHITE and stack.dtype.kind == "f":
            stack = stack.max() - stack
        if stack.dtype == np.float64:
            # Slices in files of their own keep their offset: it would be another one in each.
            stack = from_doubles(stack) if len(stack) > 1 else as_float32(stack)
        stack = _calibrated(stack, tif, where)
    return Picture(stack, frozenset(notes))


def _directories(data: bytes, where: str, budget: Budget) -> Iterator[int]:
    """Where each image directory begins (TIFF 6.0, section 2; BigTIFF has wider fields).

    A TIFF is a linked list whose links may leave the file, run in circles or never end; tifffile logs
    that and gives fewer pages. It reads all entries of all directories, so they may not overlap, and
    share hardly any values: else a small file costs hours.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    link_at, link, count = (8, "Q", "Q") if big else (4, "I", "H")
    entry = np.dtype(f"{order}u2,{order}u2,{order}u{8 if big else 4},V{8 if big else 4}")

    def number_at(at: int, letter: str) -> int:
        if at + struct.calcsize(letter) > len(data):
            what = f"it ends after {len(data):,} bytes, before its own directory"
            raise damaged("TIFF", what, where)
        return int(struct.unpack_from(order + letter, data, at)[0])

    seen: set[int] = set()
    entries, values = 0, 0.0
    while offset := number_at(link_at, link):
        if offset in seen:
            raise damaged("TIFF", "its pages are linked in a circle", where)
        seen.add(offset)
        budget.check_members(len(seen), where)
        yield offset
        here, begins = number_at(offset, count), offset + struct.calcsize(count)
        link_at = begins + here * entry.itemsize
        number_at(link_at, link)
        table = np.frombuffer(data, entry, here, begins)
        sizes = _VALUE_BYTES[np.minimum(table["f1"], len(_VALUE_BYTES) - 1)]
        entries += here
        values += float(np.dot(sizes, table["f2"].astype(float)))
        if entries * entry.itemsize > len(data) or values > len(data) + MOST_SHARED:
            raise damaged("TIFF", "its directories overlap or share their values", where)
    if entries > LARGEST_DIRECTORY + MOST_ENTRIES * len(seen):
        raise damaged("TIFF", f"its directories have {entries:,} entries", where)
    if not seen:
        raise damaged("TIFF", "it holds no page", where)


def _decode_page(
    page: tifffile.TiffPage, data: bytes, where: str, budget: Budget, notes: set[str]
) -> NDArray[Any]:
    """Pixels of one page, upright, (rows, columns, channels)."""
    _check_kind(page, where)
    if page.compression == JPEG:
        notes.add("LOSSY_SOURCE")
    values = _samples(page, data, where, budget)
    if page.photometric == PALETTE:
        table = np.asarray(page.colormap)
        if values.shape[-1] != 1 or table.ndim != 2 or len(table) != 3:
            raise damaged("TIFF", "its palette does not fit", where)
        if table.max(initial=0) > 255:
            table = table >> 8  # the standard has 16 bits here, some writers 8
        values = looked_up(values[..., 0], table.astype(np.uint8).T, "TIFF", where)
    channels = values.shape[-1]
    if channels in (2, 4) and len(page.extrasamples) <= 1:
        # The fourth sample beside RGB, or the second beside grey, is opacity, said or not.
        notes.add("ALPHA_DROPPED")
        values = values[..., :-1]
    if values.shape[-1] not in (1, 3):
        raise unsupported(f"a TIFF with {channels} channels", where)
    pages, turned = upright(native(values)[None], orientation_of(page))
    if turned:
        notes.add("TURNED_UPRIGHT")
    pixels = np.asarray(pages[0])
    if page.photometric == MIN_IS_WHITE and pixels.dtype.kind != "f":
        pixels = _inverted(pixels, int(page.bitspersample))
    return pixels


def _check_kind(page: tifffile.TiffPage, where: str) -> None:
    """Refuse what is understood but not read."""
    colours = page.photometric
    known = (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE)
    if colours not in known and not (colours == YCBCR and page.compression == JPEG):
        name = getattr(colours, "name", str(colours))
        raise unsupported(f"colour model {'CMYK' if name == 'SEPARATED' else name}", where)
    letter, bits = _LETTERS.get(page.sampleformat), page.bitspersample
    whole = (8, 16, 32, 64)
    depths = {"u": (*range(1, 17), *whole), "i": whole, "f": whole[1:], None: ()}[letter]
    if bits not in depths:
        raise unsupported(f"a TIFF with this kind of numbers ({bits} bits)", where)
    name = getattr(page.compression, "name", f"unknown ({page.compression})")
    packed_only = page.compression != NONE and page.compression != JPEG
    unusual = packed_only and (
        page.predictor not in (1, DIFFERENCES, FLOAT_DIFFERENCES)
        or (page.predictor == DIFFERENCES and bits not in whole)
        or (page.predictor == FLOAT_DIFFERENCES and letter != "f")
    )
    if (
        page.compression not in (JPEG, *UNPACK)
        or unusual
        or (page.compression == JPEG and bits != 8)
    ):
        raise UnsupportedInputError(
            f"TIFF with {name} compression and this kind of pixels is not read",
            where=where,
            remedy="save it uncompressed or with deflate",
        )
    together = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
    if page.compression == JPEG and together not in (1, 3):
        raise unsupported(f"JPEG with {together} channels in TIFF", where)
    if page.imagedepth != 1:
        raise unsupported(f"a TIFF of {page.imagedepth} slices in one page", where)
    if not page.imagewidth or not page.imagelength or not page.samplesperpixel:
        raise damaged("TIFF", "a side is zero pixels long", where)


def _samples(page: tifffile.TiffPage, data: bytes, where: str, budget: Budget) -> NDArray[Any]:
    """The page's samples as the file has them, (rows, columns, samples)."""
    rows, columns = page.imagelength, page.imagewidth
    planes = page.samplesperpixel if page.planarconfig == SEPARATE else 1
    together = page.samplesperpixel // planes
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    else:
        height, width = min(page.rowsperstrip, rows), columns
    if not height or not width:
        raise damaged("TIFF", "its strips or tiles are empty", where)
    down, across = -(-rows // height), -(-columns // width)
    segments = planes * down * across
    if page.is_tiled and down * across > 1 and min(height, width) < LEAST_TILE:
        raise damaged("TIFF", f"its tiles are smaller than {LEAST_TILE} x {LEAST_TILE}", where)
    line = -(-width * together * page.bitspersample // 8)
    offsets, counts = page.dataoffsets, page.databytecounts
    samples = rows * columns * page.samplesperpixel
    size = samples * max(page.bitspersample // 8, 1)
    packed = None if page.compression == NONE else sum(counts)
    least = {NONE: 0, JPEG: LEAST_JPEG}.get(page.compression, LEAST_PACKED)
    budget.take(size, where, packed=packed, pixels=max(samples, segments * least))
    if page.is_tiled and planes * down * height * across * line > 16 * size + RATIO_FROM:
        raise damaged("TIFF", "its tiles do not fit the image", where)
    _check_segments(offsets[:segments], counts[:segments], segments, len(data), where)
    parts = []
    for index in range(segments):
        strip = index % down
        lines = height if page.is_tiled else min(height, rows - strip * height)
        stored = data[offsets[index] : offsets[index] + counts[index]]
        part = _unpack(page, stored, (lines, width, together), lines * line, where, budget)
        if len(part) < lines * line:
            raise damaged("TIFF", "it is truncated, a strip or tile lacks pixels", where)
        parts.append(part)
    values = _as_numbers(page, b"".join(parts), line, width, together)
    if page.is_tiled:
        values = values.reshape(planes, down, across, height, width, together)
    else:
        values = values.reshape(planes, 1, 1, rows, columns, together)
    values = values.transpose(1, 3, 2, 4, 0, 5)  # rows, columns, channels: two axes each
    down, height, across, width, planes, together = values.shape
    return values.reshape(down * height, across * width, planes * together)[:rows, :columns]


def _check_segments(
    offsets: Sequence[int], counts: Sequence[int], wanted: int, size: int, where: str
) -> None:
    """Whether all strips or tiles lie in a file of this size, before the first is unpacked."""
    if min(len(offsets), len(counts)) < wanted or 0 in counts:
        raise damaged("TIFF", "pixels are missing", where)
    begins, lengths = np.array(offsets, float), np.array(counts, float)
    if min(begins.min(), lengths.min()) < 0 or (begins + lengths).max() > size:
        raise damaged("TIFF", "it is truncated", where)


def _unpack(
    page: tifffile.TiffPage,
    stored: bytes,
    shape: tuple[int, int, int],
    size: int,
    where: str,
    budget: Budget,
) -> bytes:
    """One strip or tile as bytes, of ``size`` at most."""
    if page.compression != JPEG:
        if page.fillorder == 2:
            stored = stored.translate(_FLIPPED)
        try:
            return UNPACK[page.compression](stored, size)
        except BombError as error:
            raise LimitExceededError(
                "its compressed pixels inflate far beyond the image",
                where=where,
                remedy="do not trust this file; export it again",
            ) from error
    if page.jpegtables:
        stored = page.jpegtables[:-2] + stored[2:]
    transform = int(page.photometric == YCBCR)
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
    bits, letter = page.bitspersample, _LETTERS[page.sampleformat]
    lines = np.frombuffer(joined, np.uint8).reshape(-1, line)
    if bits not in (8, 16, 32, 64):  # packed from the highest bit on, each line for itself
        single = np.unpackbits(lines, axis=1)[:, : width * together * bits]
        single = single.reshape(-1, width, together, bits)
        values = np.zeros(single.shape[:-1], np.uint8 if bits < 8 else np.uint16)
        for bit in range(bits):
            values = values << 1 | single[..., bit]
        return values * np.uint8(255) if bits == 1 else values
    dtype = np.dtype(f"{letter}{bits // 8}").newbyteorder(page.parent.byteorder)
    if page.compression in (NONE, JPEG) or page.predictor == 1:
        return lines.view(dtype).reshape(-1, width, together)
    if page.predictor == DIFFERENCES:
        whole = np.dtype(f"u{bits // 8}")
        differences = lines.view(whole.newbyteorder(page.parent.byteorder))
        sums = np.cumsum(differences.reshape(-1, width, together), axis=1, dtype=whole)
        return sums.view(dtype.newbyteorder("="))
    # Adobe's Photoshop TIFF Technical Note 3: bytes by significance, then differences of bytes.
    bytewise = np.cumsum(lines.reshape(len(lines), -1, together), axis=1, dtype=np.uint8)
    samples = bytewise.reshape(len(lines), bits // 8, -1).swapaxes(1, 2)
    return np.ascontiguousarray(samples).view(f">f{bits // 8}").reshape(-1, width, together)


def _inverted(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Integers of a page where zero is white; each page has a depth of its own."""
    if values.dtype.kind == "i":
        return ~values
    white = 255 if bits == 1 else (1 << bits) - 1
    return np.asarray(values.dtype.type(white) - values)


def _calibrated(stack: NDArray[Any], tif: tifffile.TiffFile, where: str) -> NDArray[Any]:
    """The numbers that ImageJ shows for the stored ones: it stores signed numbers as unsigned.

    ImageJ's description has them as ``cf``, ``c0`` and ``c1``. They are for grey integers.
    """
    described = tif.imagej_metadata if tif.is_imagej else None
    if not isinstance(described, dict) or stack.dtype.kind != "u" or stack.shape[-1] != 1:
        return stack
    function = described.get("cf", _NO_FUNCTION)
    if function == _NO_FUNCTION:
        return stack
    if function != _STRAIGHT_LINE:
        raise UnsupportedInputError(
            "a stack of ImageJ whose calibration is not linear is not read",
            where=where,
            remedy="convert it to 32 bits in ImageJ, and save that",
        )
    line = float(described.get("c0", 0)), float(described.get("c1", 1))
    if not np.isfinite(line).all() or line[1] == 0:
        raise damaged("TIFF", "its calibration by ImageJ is no line", where)
    if line == (0.0, 1.0):
        return stack
    if line == _SIGNED_16_BITS and stack.dtype == np.uint16:
        return (stack ^ np.uint16(1 << 15)).view(np.int16)
    return np.stack([as_float32(page * line[1] + line[0]) for page in stack])


def _check_alike(pages: list[NDArray[Any]], where: str) -> None:
    first, last = pages[0], pages[-1]
    if first.shape != last.shape or first.dtype != last.dtype:
        raise DamagedInputError(
            f"page {len(pages)} is {_in_words(last)}, page 1 is {_in_words(first)}",
            where=where,
            remedy="give slices of one series only",
        )


def _in_words(page: NDArray[Any]) -> str:
    return f"{' x '.join(str(side) for side in page.shape)} {page.dtype}"


def _refuse_hyperstack(tif: tifffile.TiffFile, pages: int, where: str) -> None:
    """Refuse stacks with channels or time points, and those whose slices are not one page each."""
    for name in _MICROSCOPES:
        if getattr(tif, f"is_{name}", False):
            raise unsupported(f"a microscope's TIFF ({name.upper()})", where)
    ome = _ome(tif.pages.first)
    images = _claimed(tif, ome)
    for axes in images:
        if any(axes.get(axis, 1) > 1 for axis in ("C", "T", "?")):
            words = {"C": "channels", "Z": "slices", "T": "time points", "?": "pages of some kind"}
            sizes = [f"{size} {words[axis]}" for axis, size in axes.items() if size > 1]
            raise UnsupportedInputError(
                f"a stack of {' x '.join(sizes)}",
                where=where,
                remedy="save one channel and time point as a stack of slices, and give that",
            )
    if len(images) > 1 and (ome is not None or any(axes.get("Z", 1) > 1 for axes in images)):
        raise UnsupportedInputError(
            f"a TIFF of {len(images)} images",
            where=where,
            remedy="save each image as a file of its own, and give the stack of FLAIR",
        )
    claimed = sum(axes.get("Z", 1) for axes in images)
    if claimed != pages and (claimed > 1 or ome is not None):
        raise UnsupportedInputError(
            f"a stack of {claimed} slices in {pages} page{'s' if pages > 1 else ''}",
            where=where,
            remedy="save it with one page for each slice, without other images beside",
        )
    if ome is not None and (reason := _other_planes(ome, claimed)):
        raise UnsupportedInputError(
            f"an OME-TIFF {reason}",
            where=where,
            remedy="save it as one file with one page for each slice, in the order of the slices",
        )


def _ome(page: tifffile.TiffPage) -> ElementTree.Element | None:
    """The root of OME-XML in ImageDescription, known by its start: comments may stand behind it."""
    text = page.description.strip("\ufeff\0 \t\r\n")
    if not text.startswith("<") or "OME" not in text:
        return None
    try:
        # What expat expands is bounded by itself.
        root = ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        if re.search(r"<(\w+:)?OME\b", text):
            raise
        return None  # somebody's words
    return root if _local(root) == "OME" else None


def _local(element: ElementTree.Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _other_planes(ome: ElementTree.Element, slices: int) -> str:
    """Why slice n is not page n of this file by TiffData's words; empty where it is."""
    blocks = []
    for element in ome.iter():
        if _local(element) == "BinaryOnly":
            return "that is described in another file"
        if _local(element) != "TiffData":
            continue
        for child in element:
            if (
                _local(child) == "UUID"
                and (child.text or "").strip() != ome.get("UUID", "").strip()
            ):
                return "with planes in another file"
        words = element.attrib
        # Without any page all planes are meant, with a page just that one.
        count = words.get("PlaneCount", words.get("NumPlanes", 1 if "IFD" in words else slices))
        starts = [int(words.get(name, 0)) for name in ("IFD", "FirstZ", "FirstC", "FirstT")]
        blocks.append((*starts, int(count)))
    expected = 0
    for page, first, channel, time, count in sorted(blocks):
        if page != expected or first != expected or channel or time or count < 1:
            return "whose pages are not in the order of its slices"
        expected += count
    return "whose pages are not all of its slices" if blocks and expected != slices else ""


def _claimed(tif: tifffile.TiffFile, ome: ElementTree.Element | None) -> list[dict[str, int]]:
    """How many slices (Z), channels (C), time points (T) each image has by the file's own words.

    The dimensions that OME-XML, ImageJ and tifffile write into ImageDescription.
    """
    page = tif.pages.first
    images: list[dict[str, int]] = []
    if ome is not None:
        pixels = [element for element in ome.iter() if _local(element) == "Pixels"]
        images += [{axis: int(one.get(f"Size{axis}", 1)) for axis in "CZT"} for one in pixels]
    elif tif.is_imagej and isinstance(meta := tif.imagej_metadata, dict):
        named = {"C": "channels", "Z": "slices", "T": "frames"}
        images.append({axis: int(meta.get(key, 1)) for axis, key in named.items()})
        if prod(images[0].values()) == 1:
            images[0]["Z"] = int(meta.get("images", 1))
    elif tif.is_shaped:
        images += [_dimensions(meta, page) for meta in tif.shaped_metadata or ()]
    for axes in images:
        if max(axes.values()) > MOST_CLAIMED:
            raise ValueError("no stack is that large")
        if axes.get("C") == page.samplesperpixel:
            axes["C"] = 1  # the samples of each pixel
    return images


def _dimensions(meta: Mapping[str, Any], page: tifffile.TiffPage) -> dict[str, int]:
    """Tifffile's own words: the shape of all pages together, and at times the names of its axes."""
    shape, names = meta["shape"], meta.get("axes", "")
    if len(names) != len(shape):
        names = "Q" * len(shape)
    axes = {"Z": 1}
    for name, size in list(zip(names, shape, strict=True))[: len(shape) - len(page.shape)]:
        axis = name if name in ("C", "T") else "Z" if axes["Z"] == 1 else "?"
        axes[axis] = axes.get(axis, 1) * int(size)
    return axes
