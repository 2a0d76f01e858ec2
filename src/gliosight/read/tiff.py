"""Pixels of one TIFF or BigTIFF, with all its pages (read stage).

In: a file's bytes. Out: a `Picture`, or an error. tifffile reads the structure, and the pixels
where they are stored plainly, deflated or as PackBits, at any depth; Pillow decodes the other
compressions (LZW, JPEG, fax), which tifffile leaves to a package that is not among our
dependencies. One way for every installation: the same file is read alike everywhere.
"""

from __future__ import annotations

import io
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.limits import RATIO_FROM, Budget
from gliosight.read.pictures import (
    ORIENTATION_TAG,
    Picture,
    grey_if_equal,
    library,
    native,
    pixels_of,
    unsupported,
    upright,
)
from gliosight.read.tiff_chain import count_pages

NONE, JPEG_OLD, JPEG, DEFLATE, DEFLATE_OLD, PACKBITS = 1, 6, 7, 8, 32946, 32773
# What libtiff inside Pillow decodes everywhere: fax, LZW, JPEG, and what tifffile would do as well.
PILLOW_DECODES = frozenset({2, 3, 4, 5, JPEG_OLD, JPEG, DEFLATE, DEFLATE_OLD, PACKBITS})
# The most deflate and PackBits can expand; a segment that stays small even so needs no look inside.
DEFLATE_AT_MOST, PACKBITS_AT_MOST = 1032, 64

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
REDUCED, TRANSPARENCY = 1, 4  # bits of NewSubfileType


def decode_tiff(data: bytes, where: str, budget: Budget) -> Picture:
    """Decode a TIFF; its pages are slices.

    Raises
    ------
    DamagedInputError
        Broken structure, truncated pixels, pages of different size or kind.
    UnsupportedInputError
        CMYK and other colour models, a compression that is not decoded, channels as pages.
    LimitExceededError
    """
    count = count_pages(data, where, budget)
    notes: set[str] = set()
    pages: list[NDArray[Any]] = []
    with _silent(), library("TIFF", where), tifffile.TiffFile(io.BytesIO(data)) as tif:
        _refuse_hyperstack(tif, where)
        if len(tif.pages) != count:
            raise _damaged(f"only {len(tif.pages)} of its {count} pages can be read", where)
        for number in range(count):
            page = tif.pages[number]
            if int(page.subfiletype) & (REDUCED | TRANSPARENCY):
                continue  # a thumbnail, or the mask of another page
            here = where if count == 1 else f"{where}, page {number + 1}"
            pages.append(_decode_page(page, number, data, here, budget, notes))
            _check_alike(pages, where)
    if not pages:
        raise _damaged("it holds thumbnails only", where)
    return Picture(np.concatenate(pages), frozenset(notes))


def _decode_page(
    page: Any, number: int, data: bytes, where: str, budget: Budget, notes: set[str]
) -> NDArray[Any]:
    """Pixels of one page, upright, (depth, rows, columns, channels): depth is mostly one."""
    _check_colours(page, where)
    compression = int(page.compression)
    if compression in (JPEG_OLD, JPEG):
        notes.add("LOSSY_SOURCE")
    orientation = _orientation(page)
    if orientation in range(2, 9):
        notes.add("TURNED_UPRIGHT")
    if not _is_plain(page) or _could_burst(page):
        # Pillow turns TIFF pages upright by itself.
        return _decode_with_pillow(page, number, data, where, budget, notes)
    pixels = math.prod(int(one) for one in page.shaped)
    size = pixels * page.dtype.itemsize
    budget.take(size, where, packed=None if compression == NONE else len(data), pixels=pixels)
    _check_segments(page, size, data, where)
    values = np.asarray(page.asarray(squeeze=False, maxworkers=1))
    apart, depth, rows, columns, together = values.shape
    values = np.moveaxis(values, 0, -1).reshape(depth, rows, columns, together * apart)
    return upright(_as_channels(native(values), page, where, notes), orientation)[0]


def _decode_with_pillow(
    page: Any, number: int, data: bytes, where: str, budget: Budget, notes: set[str]
) -> NDArray[Any]:
    compression = int(page.compression)
    name = _compression_name(compression)
    refusal = UnsupportedInputError(
        f"TIFF with {name} compression and this kind of pixels is not read",
        where=where,
        remedy="save it uncompressed or with deflate",
    )
    try:
        with _silent_stderr():
            # Not Image.open: Pillow's own limit would stand above ours, see `pictures`.
            image = TiffImageFile(io.BytesIO(data))
    except (KeyError, SyntaxError, ValueError) as error:
        # Pillow's ways of saying that it has no mode for this depth and number of channels.
        raise refusal from error
    with image, _silent_stderr():
        image.seek(number)
        if image.mode not in ("1", "L", "F", "I", "P", "LA", "RGB", "RGBA") and (
            not image.mode.startswith("I;16")
        ):
            raise unsupported(f"colour model {image.mode}", where)
        if int(page.bitspersample) > 8 and image.mode in ("L", "P", "LA", "RGB", "RGBA"):
            raise refusal  # Pillow would keep the upper byte only
        try:
            pixels, found = pixels_of(image, len(data), where, budget)
        except OSError as error:
            if compression not in PILLOW_DECODES:
                raise refusal from error
            raise
    notes |= found
    return pixels[None]


def _as_channels(values: NDArray[Any], page: Any, where: str, notes: set[str]) -> NDArray[Any]:
    """One or three channels out of a page's samples."""
    if int(page.photometric) == PALETTE:
        return _looked_up(values, page, where)
    if int(page.photometric) == MIN_IS_WHITE:
        values = _inverted(values, int(page.bitspersample))
    channels = values.shape[-1]
    extra = len(page.extrasamples)
    if channels in (2, 4) and extra <= 1:
        # The fourth sample beside RGB, or the second beside grey, is opacity, said or not.
        notes.add("ALPHA_DROPPED")
        values = values[..., :-1]
    if values.shape[-1] not in (1, 3):
        raise unsupported(f"a TIFF with {channels} channels", where)
    return values


def _looked_up(values: NDArray[Any], page: Any, where: str) -> NDArray[Any]:
    table = np.asarray(page.colormap)
    if values.shape[-1] != 1 or table.ndim != 2 or len(table) != 3:
        raise _damaged("its palette does not fit", where)
    if table.max(initial=0) > 255:
        table = table >> 8  # the standard has 16 bits here, some writers 8
    indices = values[..., 0]
    if int(indices.max()) >= table.shape[1]:
        raise _damaged("its palette does not fit", where)
    return grey_if_equal(np.moveaxis(table.astype(np.uint8)[:, indices], 0, -1))


def _inverted(values: NDArray[Any], bits: int) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return np.asarray(values.max() - values)
    if values.dtype.kind == "i":
        return ~values
    white = 255 if bits == 1 else (1 << bits) - 1
    return np.asarray(values.dtype.type(white) - values)


def _check_colours(page: Any, where: str) -> None:
    photometric = int(page.photometric)
    if photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR):
        name = getattr(page.photometric, "name", str(photometric))
        raise unsupported(f"colour model {'CMYK' if name == 'SEPARATED' else name}", where)
    if page.dtype is None or page.dtype.kind not in "buif":
        raise unsupported("a TIFF with this kind of numbers", where)
    if 0 in page.shaped:
        raise _damaged("a side is zero pixels long", where)


def _is_plain(page: Any) -> bool:
    """Whether tifffile decodes the page by itself, at full depth."""
    bits = int(page.bitspersample)
    return (
        int(page.compression) in (NONE, DEFLATE, DEFLATE_OLD, PACKBITS)
        and int(page.photometric) != YCBCR
        and int(page.predictor) in (1, 2)
        and int(page.fillorder) == 1
        and (bits in (8, 16, 32, 64) or bits == 1)
    )


def _could_burst(page: Any) -> bool:
    """Whether a PackBits segment could inflate far beyond the page; libtiff stops at its size."""
    longest = max((int(one) for one in page.databytecounts), default=0)
    return int(page.compression) == PACKBITS and longest * PACKBITS_AT_MOST > RATIO_FROM


def _check_segments(page: Any, size: int, data: bytes, where: str) -> None:
    """Strips and tiles: inside the file, none missing, none a bomb."""
    offsets = [int(one) for one in page.dataoffsets]
    counts = [int(one) for one in page.databytecounts]
    if not offsets or len(offsets) != len(counts) or 0 in counts:
        raise _damaged("pixels are missing", where)
    if any(at + count > len(data) for at, count in zip(offsets, counts, strict=True)):
        raise _damaged("it is truncated", where)
    compression = int(page.compression)
    bits = int(page.bitspersample)
    if compression == NONE and sum(counts) * (8 if bits == 1 else 1) < size:
        raise _damaged("it is truncated", where)
    if page.is_tiled and int(page.tilewidth) * int(page.tilelength) > 16 * size + RATIO_FROM:
        raise _damaged("its tiles do not fit the image", where)
    if compression in (DEFLATE, DEFLATE_OLD):
        for at, count in zip(offsets, counts, strict=True):
            if count * DEFLATE_AT_MOST <= size + RATIO_FROM:
                continue
            engine = zlib.decompressobj()
            engine.decompress(data[at : at + count], size + RATIO_FROM)
            if engine.unconsumed_tail:
                raise LimitExceededError(
                    "its compressed pixels inflate far beyond the image",
                    where=where,
                    remedy="do not trust this file; export it again",
                )


def _check_alike(pages: list[NDArray[Any]], where: str) -> None:
    first, last = pages[0], pages[-1]
    if first.shape[1:] != last.shape[1:] or first.dtype != last.dtype:
        raise DamagedInputError(
            f"page {len(pages)} is {_in_words(last)}, page 1 is {_in_words(first)}",
            where=where,
            remedy="give slices of one series only",
        )


def _in_words(page: NDArray[Any]) -> str:
    _, rows, columns, channels = page.shape
    return f"{rows} x {columns} x {channels} {page.dtype}"


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION_TAG)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1


def _refuse_hyperstack(tif: Any, where: str) -> None:
    meta = tif.imagej_metadata if tif.is_imagej else None
    if not isinstance(meta, dict):
        return
    channels, slices, frames = (meta.get(key, 1) for key in ("channels", "slices", "frames"))
    if channels != 1 or (slices != 1 and frames != 1):
        raise unsupported(f"an ImageJ stack of {channels} channels and {frames} time points", where)


def _compression_name(compression: int) -> str:
    try:
        return str(tifffile.COMPRESSION(compression).name)
    except ValueError:
        return f"unknown ({compression})"


def _damaged(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(
        f"damaged TIFF, {what}", where=where, remedy="copy or export the file again"
    )


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep libtiff's complaints off the terminal: it writes them to file descriptor 2 itself.

    For that moment nothing else in this process can write there either, which is why only the pages
    that libtiff decodes pay for it.
    """
    try:
        saved = os.dup(2)
    except OSError:  # there is no such descriptor (a service): nothing to keep clean
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 -- a device, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep tifffile's log lines off the terminal; what they tell is checked here."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
