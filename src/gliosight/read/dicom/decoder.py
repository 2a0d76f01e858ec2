"""Compressed frames, decoded in one child process for all studies of a run (read stage, DICOM).

gdcm and OpenJPEG are C and C++: some broken frames crash them, or never end. Then only the child ends. This
file is the child's program, too, so it imports no other module of gliosight.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

# A frame that takes longer than this, in seconds, is given up as damaged.
LONGEST = 20.0
# How often the child's time and memory are looked at, seconds; it can take some 100 MB more meanwhile.
EVERY = 0.02

_START_OF_IMAGE, _START_OF_SCAN = b"\xff\xd8", 0xDA
# Baseline, extended, progressive and lossless JPEG, JPEG-LS.
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
# Applications' segments and comments. libjpeg warns of an unknown version of JFIF, and gdcm aborts then.
_NOT_NEEDED = frozenset({*range(0xE0, 0xF0), 0xFE})
_SEGMENT = re.compile(rb"\xff+([^\xff])(..)", re.DOTALL)
_CODESTREAM, _JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "


class DecodeError(Exception):
    """The frame cannot be decoded."""


class Codestream(NamedTuple):
    """The header of a compressed frame, and the frame as a decoder gets it."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool  # JPEG 2000's; the others have no sign
    frame: bytes  # without the boxes of a JP2 file and without applications' segments


def describe(frame: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame; raises `DecodeError`.

    References
    ----------
    JPEG: ITU-T T.81, B.2.2. JPEG-LS: ITU-T T.87, C.2.2. JPEG 2000 and HTJ2K: ITU-T T.800, A.5.1.
    """
    try:
        if frame.startswith(_START_OF_IMAGE):
            return _jpeg(frame)
        if frame.startswith(_JP2):  # a file in the place of a codestream: PS3.5, A.4.4 forbids it
            frame = frame[max(0, frame.find(_CODESTREAM)) :]
        if frame.startswith(_CODESTREAM):
            right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
            components, depth = struct.unpack_from(">HB", frame, 40)
            signed, precision = bool(depth & 0x80), (depth & 0x7F) + 1
            return Codestream(bottom - top, right - left, components, precision, signed, frame)
    except struct.error as error:
        raise DecodeError("its header is cut short") from error
    raise DecodeError("it does not begin as such a frame does")


def _jpeg(frame: bytes) -> Codestream:
    header, parts, position, marker = None, [_START_OF_IMAGE], len(_START_OF_IMAGE), 0
    while marker != _START_OF_SCAN:
        segment = _SEGMENT.match(frame, position)
        if segment is None:
            raise DecodeError("its header is corrupt")
        marker, start = segment[1][0], segment.start(1) - 1
        position = segment.end(1) + int.from_bytes(segment[2])
        if marker in _START_OF_FRAME:
            header = struct.unpack_from(">BHHB", frame, start + 4)
        if marker == _START_OF_SCAN:
            parts.append(frame[start:])
        elif marker not in _NOT_NEEDED:
            parts.append(frame[start:position])
    if header is None:
        raise DecodeError("its header is corrupt")
    precision, rows, columns, components = header
    return Codestream(rows, columns, components, precision, False, b"".join(parts))


def decode_frame(frame: bytes, settings: Mapping[str, Any]) -> bytes:
    """Decode a frame in this process, to unsigned samples, little endian, row by row; raises `DecodeError`.

    ``settings`` are ``syntax``, the UID of the transfer syntax, and what pydicom's decoders need:
    ``decoding_plugin``, ``rows``, ``columns``, ``bits_allocated``, ``bits_stored``.
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    options = dict(settings)
    try:
        samples, _ = get_decoder(options.pop("syntax")).as_buffer(
            encapsulate([frame]),
            index=0,
            number_of_frames=1,
            samples_per_pixel=1,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            pixel_keyword="PixelData",
            **options,
        )
    except Exception as error:  # whatever a decoder raises on broken bytes
        raise DecodeError("the decoder fails") from error
    if len(samples) != _size(settings):
        raise DecodeError("it decodes to another size")
    return bytes(samples)


def _size(settings: Mapping[str, Any]) -> int:
    """Bytes of a decoded frame."""
    return int(settings["rows"] * settings["columns"] * settings["bits_allocated"] // 8)


class DecoderProcess:
    """A child process that decodes frames; it starts with the first, and is replaced when it has ended.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._too_large = False

    def end(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with contextlib.suppress(OSError), child:  # what it has not read cannot be written
                pass

    def decode(self, frame: bytes, settings: Mapping[str, Any], memory: int) -> bytes:
        """Decode a frame in the child, which may take ``memory`` bytes for it (looked at on Linux only).

        Raises
        ------
        DecodeError
            The decoder fails, crashes, or takes longer than `LONGEST`.
        MemoryError
            The child takes more memory.
        OSError
            The system gives no process.
        """
        if self._child is None or self._child.poll() is not None:
            self.end()
            self._child = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, "-P", str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # ctrl-C is for the parent
            )
        stdin, stdout = (cast(BinaryIO, pipe) for pipe in (self._child.stdin, self._child.stdout))
        done, self._too_large = threading.Event(), False
        watch = threading.Thread(target=self._watch, args=(self._child, done, memory), daemon=True)
        watch.start()
        samples, size = b"", _size(settings)
        try:
            with contextlib.suppress(OSError):  # the child has ended
                stdin.write(json.dumps([len(frame), settings]).encode() + b"\n")
                stdin.write(frame)
                stdin.flush()
                samples = stdout.read(size)
        except BaseException:  # an interruption: what the child still sends belongs to no frame
            self.end()
            raise
        finally:
            done.set()
            watch.join()
        if len(samples) < size:
            self.end()
            if self._too_large:
                raise MemoryError
            raise DecodeError("the decoder fails")
        return samples

    def _watch(self, child: subprocess.Popen[bytes], done: threading.Event, memory: int) -> None:
        """End a child that takes too long or too much memory: then its pipes end."""
        most, end = memory + _resident(child.pid), time.monotonic() + LONGEST
        while not done.wait(EVERY):
            self._too_large = _resident(child.pid) > most
            if self._too_large or time.monotonic() > end:
                child.kill()
                return


_RUN: ContextVar[DecoderProcess | None] = ContextVar("decoder of this run", default=None)


@contextlib.contextmanager
def one_decoder() -> Iterator[DecoderProcess]:
    """The decoder of all that is read in this block; that of the block around it, if there is one.

    A child takes a third of a second to start: whoever reads several studies opens a block around them all.
    """
    if (outer := _RUN.get()) is not None:
        yield outer
        return
    decoder = DecoderProcess()
    token = _RUN.set(decoder)
    try:
        yield decoder
    finally:
        _RUN.reset(token)
        decoder.end()


def _resident(process: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def main() -> None:
    """Be the child: decode frames from standard input until it ends; the first failure ends it, too."""
    with os.fdopen(os.dup(1), "wb") as samples:
        os.dup2(2, 1)  # text that a library prints must not get among the samples
        while line := sys.stdin.buffer.readline():
            length, settings = json.loads(line)
            samples.write(decode_frame(sys.stdin.buffer.read(length), settings))
            samples.flush()


if __name__ == "__main__":
    main()
