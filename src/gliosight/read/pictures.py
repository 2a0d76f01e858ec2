"""Pixels of one PNG or JPEG, and what all picture files have in common (read stage).

In: a file's bytes. Out: a `Picture` with one or three channels, upright, or an error. Which channel
is which sequence is left to `slices`; TIFF has its own module, `tiff`.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    UnsupportedInputError,
)
from gliosight.read.detect import Kind
from gliosight.read.intensities import as_float32
from gliosight.read.limits import Budget

ORIENTATION_TAG = 274  # the same number in EXIF and in TIFF


@dataclass(frozen=True)
class Picture:
    """What one picture file holds.

    Parameters
    ----------
    pages : (pages, rows, columns, channels) array
        One or three channels; unsigned or signed integers, or float32.
    notes : frozenset of str
        Codes of the flags that are due: ALPHA_DROPPED, LOSSY_SOURCE, TURNED_UPRIGHT.
    """

    pages: NDArray[Any]
    notes: frozenset[str] = frozenset()


@contextmanager
def library(name: str, where: str) -> Iterator[None]:
    """Turn whatever a decoder throws into one of our errors, and keep its warnings to ourselves."""
    try:
        with warnings.catch_warnings():
            # A decoder's warning would be printed; what matters in it shows in the pixels.
            warnings.simplefilter("ignore")
            yield
    except GliosightError:
        raise
    except Image.DecompressionBombError as error:
        # Within our limits, but one way of Pillow's through TIFF asks its own limit once more.
        raise LimitExceededError(
            f"more pixels than can be decoded in this kind of {name}",
            where=where,
            remedy="give the slices at their own size",
        ) from error
    except MemoryError as error:
        raise LimitExceededError(
            "not enough memory to decode it", where=where, remedy="give fewer or smaller images"
        ) from error
    except Exception as error:
        # Decoders meet hostile bytes with anything from struct.error to RecursionError; all of it
        # says the same: these bytes are no sound image.
        raise DamagedInputError(
            f"damaged {name}, it cannot be decoded",
            where=where,
            remedy="copy or export the file again",
        ) from error


def decode_picture(data: bytes, kind: Kind, where: str, budget: Budget) -> Picture:
    """Decode a PNG or JPEG.

    Raises
    ------
    DamagedInputError, UnsupportedInputError, LimitExceededError
    """
    if kind is Kind.PNG:
        _check_png(data, where)
    # Image.open has a limit of its own, on pixels, which no option of ours would raise. The formats'
    # own classes read the header and leave the sizes it claims to `pixels_of`.
    opened = PngImageFile if kind is Kind.PNG else JpegImageFile
    with library(kind.value, where), opened(io.BytesIO(data)) as image:
        if kind is Kind.PNG and getattr(image, "n_frames", 1) > 1:
            raise unsupported("an animated PNG", where)
        pixels, notes = pixels_of(image, len(data), where, budget)
        pages, turned = upright(pixels[None], _exif_orientation(image))
    if kind is Kind.JPEG:
        notes |= {"LOSSY_SOURCE"}
    if turned:
        notes |= {"TURNED_UPRIGHT"}
    return Picture(pages, frozenset(notes))


def pixels_of(
    image: Image.Image, stored: int, where: str, budget: Budget
) -> tuple[NDArray[Any], set[str]]:
    """Pixels of an opened Pillow image, (rows, columns, channels), and the notes due.

    Raises
    ------
    UnsupportedInputError
        CMYK and other colour models.
    """
    notes: set[str] = set()
    # Four bytes a pixel hold every mode that is read; a palette is looked up in colours.
    budget.take(image.width * image.height * 4, where, packed=stored)
    mode = image.mode
    if mode in ("P", "PA"):
        if mode == "PA" or "transparency" in image.info:
            notes.add("ALPHA_DROPPED")
        return grey_if_equal(np.array(image.convert("RGBA"))[..., :3]), notes
    if mode == "1":
        return np.where(np.array(image), np.uint8(255), np.uint8(0))[..., None], notes
    if mode in ("LA", "La", "RGBA", "RGBa"):
        notes.add("ALPHA_DROPPED")
        return np.array(image)[..., :-1], notes
    if mode == "RGB":
        return np.array(image), notes
    if mode in ("L", "F", "I") or mode.startswith("I;16"):
        return native(np.array(image))[..., None], notes
    raise unsupported(f"colour model {mode}", where)


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in this machine's byte order, floats as float32, bits as 0 and 255."""
    if values.dtype.kind == "f":
        return as_float32(values)
    if values.dtype.kind == "b":
        return np.where(values, np.uint8(255), np.uint8(0))
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def grey_if_equal(colours: NDArray[Any]) -> NDArray[Any]:
    """One channel where the colours of a palette are all grey, else the three as they are."""
    first = colours[..., :1]
    return first if bool((colours == first).all()) else colours


def upright(pages: NDArray[Any], orientation: int) -> tuple[NDArray[Any], bool]:
    """Turn (pages, rows, columns, channels) as EXIF's orientation says, and say if that did any.

    Orientation 1 to 8 as in EXIF 2.32, tag 274; anything else counts as 1.
    """
    if orientation not in range(2, 9):
        return pages, False
    if orientation >= 5:
        pages = pages.swapaxes(1, 2)
    if orientation in (3, 4, 7, 8):
        pages = pages[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pages = pages[:, :, ::-1]
    return np.ascontiguousarray(pages), True


def unsupported(what: str, where: str) -> UnsupportedInputError:
    """The error for a sound picture of a kind that is not read."""
    return UnsupportedInputError(
        f"{what} is not read",
        where=where,
        remedy="save the slice as grey PNG or TIFF, or with T1, FLAIR, T1C as its three channels",
    )


def _exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001
        # EXIF is a TIFF of its own inside the file; broken EXIF says nothing about the pixels.
        return 1


def _check_png(data: bytes, where: str) -> None:
    """Walk a PNG's chunks: each whole and with its checksum (PNG, section 5.3)."""
    at, ended = 8, False
    while at + 12 <= len(data) and not ended:
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        body_ends = at + 8 + length
        if body_ends + 4 > len(data):
            break
        (wanted,) = struct.unpack_from(">I", data, body_ends)
        if zlib.crc32(memoryview(data)[at + 4 : body_ends]) != wanted:
            raise _broken_png("a checksum is wrong", where)
        if kind == b"IHDR" and length == 13:
            depth, colour = data[at + 16], data[at + 17]
            if depth == 16 and colour != 0:
                # Pillow reads the upper byte only, and of 12-bit data that leaves 16 grey levels.
                raise UnsupportedInputError(
                    "a PNG with more than one channel of 16 bits is not read",
                    where=where,
                    remedy="save the slice as a 16-bit TIFF",
                )
        ended = kind == b"IEND"
        at = body_ends + 4
    if not ended:
        raise _broken_png("it is truncated", where)


def _broken_png(what: str, where: str) -> DamagedInputError:
    return DamagedInputError(
        f"damaged PNG, {what}", where=where, remedy="copy or export the file again"
    )
