"""One packed frame to an array (read stage, DICOM, below `pixels`).

In: the bytes of a frame and the transfer syntax. Out: its samples, unsigned, right-aligned, and how many
bits of them count. pydicom's decoders do it, in a process of their own (`codec`), with gdcm (JPEG, JPEG-LS)
and openjpeg (JPEG 2000, HTJ2K), by name: the GPL's libjpeg is not used even where it is installed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.dicom.bounded import AGAIN
from gliosight.read.dicom.codec import (
    MEMORY,
    Codec,
    CodecError,
    CodecMemoryError,
    NoCodecError,
    unpack,
)
from gliosight.read.dicom.codestreams import BadCodestreamError, Codestream, describe
from gliosight.read.dicom.syntaxes import Decoder, Syntax
from gliosight.read.limits import DEFAULT_LIMITS, Limits, size_in_words

_PLUGINS = {Decoder.RLE: "pydicom", Decoder.GDCM: "gdcm", Decoder.OPENJPEG: "pylibjpeg"}
# gdcm's JPEG decoder takes its depth from the frame, and 12 bits are nothing to it; only pydicom's door
# to it refuses them. The lossless name opens the same decoder.
_ASKED_AS = {uid.JPEGExtended12Bit: uid.JPEGLossless}
# An RLE segment may grow by 1 in 128 where nothing repeats, and has a header of 64 bytes.
_RLE_GROWTH, _RLE_HEADER = 1.02, 1024
# Bytes of memory for each sample: gdcm takes up to 16, openjpeg 8 (measured on 2048 x 2048 pixels).
SAMPLE_COST = 32


class Unpacked(NamedTuple):
    """A frame unpacked.

    Parameters
    ----------
    samples : (rows, columns) array
        Unsigned; signed samples stand as two's complement.
    bits : int
        How many bits of each sample count, from the lowest.
    signed : bool
        Whether the frame itself says that they have a sign.
    """

    samples: NDArray[Any]
    bits: int
    signed: bool


def decode(
    frame: bytes,
    codec: Codec,
    syntax: Syntax,
    rows: int,
    columns: int,
    allocated: int,
    where: str,
    limits: Limits = DEFAULT_LIMITS,
) -> Unpacked:
    """Unpack a frame.

    Parameters
    ----------
    frame : bytes
    codec : Codec
        The process that decodes it; RLE is decoded here, by pydicom's own Python.
    syntax : Syntax
    rows, columns, allocated : int
        As the DICOM header has them; ``allocated`` is in bits.
    where : str
    limits : Limits
        The decoder may take an eighth of the decoded bytes, at least 256 MiB, and what a frame of this size
        needs.

    Raises
    ------
    DamagedInputError
        The frame's own header contradicts DICOM's, or it cannot be decoded.
    LimitExceededError
        The decoder takes more memory, or the system has no process for it.
    """
    if syntax.decoder is Decoder.RLE:
        if len(frame) > rows * columns * (allocated // 8) * _RLE_GROWTH + _RLE_HEADER:
            raise _undecodable(syntax, where, "it is longer than its pixels")
        bits, container, signed = allocated, allocated, False
    else:
        found = _checked(frame, syntax, rows, columns, where)
        frame, bits, signed = found.clean, found.precision, found.signed
        container = 8 if bits <= 8 else 16 if bits <= 16 else 32
    settings = {
        "syntax": str(_ASKED_AS.get(syntax.uid, syntax.uid)),
        "decoding_plugin": _PLUGINS[syntax.decoder],
        "rows": rows,
        "columns": columns,
        "bits_allocated": container,
        "bits_stored": bits,
    }
    memory = max(MEMORY, limits.decoded_bytes // 8) + SAMPLE_COST * rows * columns
    buffer: bytes | bytearray
    try:
        if syntax.decoder is Decoder.RLE:
            with quietly():
                buffer = unpack(frame, settings)
        else:
            buffer = codec.unpack(frame, settings, memory)
    except CodecMemoryError as error:
        raise LimitExceededError(
            f"a {syntax.name} frame of {columns} x {rows} pixels takes more than "
            f"{size_in_words(memory)} of memory to decode",
            where=where,
            remedy="raise it with --max-decoded if the file is to be trusted",
        ) from error
    except NoCodecError as error:
        raise LimitExceededError(
            f"a {syntax.name} frame cannot be decoded, {error}",
            where=where,
            remedy="end other programs, or allow more processes or memory, and try again",
        ) from error
    except CodecError as error:
        raise _undecodable(syntax, where, str(error)) from error
    size = rows * columns * (container // 8)
    if not size <= len(buffer) <= size + 1:  # an odd frame is padded
        raise _undecodable(syntax, where, "it unpacks to another size")
    samples = np.frombuffer(buffer, dtype=f"<u{container // 8}", count=rows * columns)
    return Unpacked(samples.reshape(rows, columns), bits, signed)


def _checked(frame: bytes, syntax: Syntax, rows: int, columns: int, where: str) -> Codestream:
    try:
        found = describe(frame)
    except BadCodestreamError as error:
        raise _undecodable(syntax, where, str(error)) from error
    if (found.rows, found.columns) != (rows, columns):
        raise DamagedInputError(
            f"a packed frame says {found.columns} x {found.rows} pixels, the header says "
            f"{columns} x {rows}",
            where=where,
            remedy=AGAIN,
        )
    if found.components != 1 or not 2 <= found.precision <= 32:
        raise DamagedInputError(
            f"a packed frame has {found.components} channels of {found.precision} bits, "
            "the header says it is grey",
            where=where,
            remedy=AGAIN,
        )
    return found


def _undecodable(syntax: Syntax, where: str, why: str) -> DamagedInputError:
    return DamagedInputError(
        f"a {syntax.name} frame cannot be decoded, {why}", where=where, remedy=AGAIN
    )
