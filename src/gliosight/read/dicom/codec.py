"""The decoders of packed pixels, in a process of their own (read stage, DICOM, below `decoding`).

In: packed frames and what their header says. Out: their samples as bytes. The decoders are C and C++
libraries: some broken codestreams make gdcm's JPEG library abort the process it runs in. A child takes that
blow: what it dies of, or takes too long over, is a damaged frame like any other.

The child is this file, run by itself: it imports no more than it needs, and starts in a third of a second,
once for all that a process reads. Between the two go lengths and bytes, nothing that could be executed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

# A frame that takes longer (seconds) is taken for one that never ends.
LONGEST = 20.0
_LENGTH = struct.Struct("<q")
_FAILED = -1


class CodecError(Exception):
    """The frame could not be unpacked."""


class Codec:
    """Unpacks frames in a child process, which is started with the first frame and after a crash.

    Use it as a context manager: the child ends with it. Or use the one of `shared`.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __enter__(self) -> Codec:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def unpack(self, frame: bytes, settings: Mapping[str, Any]) -> bytes:
        """Unpack one frame.

        Parameters
        ----------
        frame : bytes
        settings : mapping
            JSON-ready keyword arguments of pydicom's decoder, with ``syntax``, the transfer syntax to
            decode as.

        Returns
        -------
        bytes
            Samples, little endian, row by row.

        Raises
        ------
        CodecError
            The decoder gave up, crashed, or took too long.
        """
        child = self._started()
        if child.stdin is None or child.stdout is None:
            raise CodecError("the decoder has no pipes")
        timer = threading.Timer(LONGEST, child.kill)
        timer.start()
        try:
            _send(child.stdin, json.dumps(dict(settings)).encode())
            _send(child.stdin, frame)
            child.stdin.flush()
            answer = _receive(child.stdout)
        except (OSError, EOFError) as error:
            self.end()
            raise CodecError("the decoder breaks down over it") from error
        except BaseException:  # ctrl-C: what it would still answer is no answer to the next frame
            self.end()
            raise
        finally:
            timer.cancel()
        if answer is None:
            raise CodecError("the decoder gives up")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # a fork of that process: the child is not ours to talk to
            self._child, self._owner = None, os.getpid()
        if self._child is None or self._child.poll() is not None:
            self.end()
            try:
                self._child = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-P", str(Path(__file__).resolve())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # ctrl-C is the parent's to answer
                )
            except OSError as error:
                from gliosight.errors import LimitExceededError

                raise LimitExceededError(
                    f"no process can be started that unpacks pixels: {error.strerror or error}",
                    remedy="end other programs, or raise the number of processes (ulimit -u)",
                ) from error
        return self._child

    def end(self) -> None:
        """Let the child go; the next frame starts another."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.kill()
        child.wait()


_SHARED = Codec()
_TURN = threading.Lock()
atexit.register(_SHARED.end)


@contextmanager
def shared() -> Iterator[Codec]:
    """The decoder that all reading of this process shares, one series after the other.

    It ends with the process, or when the process is gone.
    """
    with _TURN:
        yield _SHARED


@contextmanager
def silent_stdout() -> Iterator[BinaryIO]:
    """The real standard output for answers, while whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        yield answers


def unpack(frame: bytes, settings: Mapping[str, Any]) -> bytes | bytearray:
    """Unpack one frame in this process; see `Codec.unpack`.

    Raises
    ------
    CodecError
    """
    import warnings

    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    others = dict(settings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unpacked, _ = get_decoder(others.pop("syntax")).as_buffer(
                encapsulate([frame]),
                index=0,
                number_of_frames=1,
                samples_per_pixel=1,
                pixel_representation=0,
                photometric_interpretation="MONOCHROME2",
                pixel_keyword="PixelData",
                **others,
            )
    except Exception as error:  # whatever a decoder says of broken bytes
        raise CodecError("the decoder gives up") from error
    return unpacked  # type: ignore[no-any-return]


def serve() -> None:
    """Be the child: unpack what comes in until it ends."""
    with silent_stdout() as answers:
        while True:
            try:
                settings = json.loads(_receive(sys.stdin.buffer) or b"{}")
                frame = _receive(sys.stdin.buffer) or b""
            except EOFError:
                return
            try:
                _send(answers, bytes(unpack(frame, settings)))
            except CodecError:
                answers.write(_LENGTH.pack(_FAILED))
            answers.flush()


def _send(pipe: Any, data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)


def _receive(pipe: Any) -> bytes | None:
    """The next piece; ``None`` for a failure; `EOFError` where the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return None if length == _FAILED else _exactly(pipe, length)


def _exactly(pipe: Any, length: int) -> bytes:
    data: bytes = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data


if __name__ == "__main__":
    serve()
