"""The decoders of packed pixels, in a process of their own (read stage, DICOM, below `decoding`).

In: packed frames and what their header says. Out: their samples as bytes. The decoders are C and C++
libraries: some broken codestreams make gdcm's JPEG library abort the process it runs in. A child takes that
blow: what it dies of, or takes too long over, is a damaged frame like any other.

The child is this file, run by itself: it imports no more than it needs, and starts in a third of a second,
once for all that a process reads. Between the two go lengths and bytes, nothing that could be executed.
Its memory is watched, and its address space bounded, where the system tells how large they are (Linux): a
bound alone would not do, since most decoders fail over it as they do over a broken frame.
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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

# A frame that takes longer (seconds) is taken for one that never ends.
LONGEST = 20.0
# What the decoding of a frame may take, unless more is allowed (bytes).
MEMORY = 256 * 1024**2
# How often the child is looked at (seconds); it can take about 100 MB more meanwhile.
EVERY = 0.02
# Address space beyond that memory: what is reserved and never used costs nothing.
RESERVED = 4 * 1024**3
_LENGTH = struct.Struct("<q")
_FAILED = -1
_PIECE = 1 << 20
_PAGES = Path("/proc/self/statm")


class CodecError(Exception):
    """The frame could not be unpacked."""


class CodecMemoryError(CodecError):
    """The decoder takes more memory than it is allowed."""


class NoCodecError(CodecError):
    """The system gives no process for the decoder."""


class _Watch(threading.Thread):
    """Ends a child that takes too long or too much memory."""

    def __init__(self, child: subprocess.Popen[bytes], memory: int) -> None:
        super().__init__(daemon=True)
        self._child = child
        self._most = memory + _resident(child.pid)
        self._done = threading.Event()
        self.too_large = False

    def run(self) -> None:
        end = time.monotonic() + LONGEST
        while not self._done.wait(EVERY):
            self.too_large = _resident(self._child.pid) > self._most
            if self.too_large or time.monotonic() > end:
                self._child.kill()
                return

    def stop(self) -> None:
        self._done.set()
        self.join()


class Codec:
    """Unpacks frames in a child process, which is started with the first frame and after a crash.

    Use it as a context manager: the child ends with it. Or use the one of `shared`.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Codec:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def unpack(self, frame: bytes, settings: Mapping[str, Any], memory: int = MEMORY) -> bytes:
        """Unpack one frame.

        Parameters
        ----------
        frame : bytes
        settings : mapping
            JSON-ready keyword arguments of pydicom's decoder, with ``syntax``, the transfer syntax to
            decode as.
        memory : int
            Bytes that the child may take for it, beside what it has already.

        Returns
        -------
        bytes
            Samples, little endian, row by row.

        Raises
        ------
        CodecMemoryError
            It takes more memory.
        NoCodecError
            The child cannot be started.
        CodecError
            The decoder gave up, crashed, or took too long.
        """
        child = self._started()
        if child.stdin is None or child.stdout is None:
            raise CodecError("the decoder has no pipes")
        watch = _Watch(child, memory)
        watch.start()
        try:
            _send(child.stdin, json.dumps({**settings, "memory": memory}).encode())
            _send(child.stdin, frame)
            answer = _receive(child.stdout)
        except (OSError, EOFError) as error:
            self.end()
            if watch.too_large:
                raise CodecMemoryError("the decoder takes too much memory") from error
            raise CodecError("the decoder breaks down over it") from error
        except BaseException:  # ctrl-C: what it would still answer is no answer to the next frame
            self.end()
            raise
        finally:
            watch.stop()
        if answer is None:
            raise CodecError("the decoder gives up")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.end()
            try:
                self._child = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-P", str(Path(__file__).resolve())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,  # a fork of this process shall not have half a frame to write out
                    start_new_session=True,  # ctrl-C is the parent's to answer
                )
            except OSError as error:
                raise NoCodecError(
                    f"no process for it, {(error.strerror or '').lower()}"
                ) from error
        return self._child

    def end(self) -> None:
        """Let the child go; the next frame starts another."""
        if (child := self.leave()) is not None:
            child.kill()
            child.wait()

    def leave(self) -> subprocess.Popen[bytes] | None:
        """Forget the child, which lives on as long as another process holds its pipes."""
        child, self._child = self._child, None
        for pipe in () if child is None else (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return child


_SHARED = Codec()
_TURN = threading.Lock()
atexit.register(_SHARED.end)


def _after_fork() -> None:
    """Start afresh in a forked process: the thread that decodes is not here, and the child the parent's."""
    global _TURN  # noqa: PLW0603
    _TURN = threading.Lock()
    if (child := _SHARED.leave()) is not None:
        child.returncode = 0  # not ours to wait for


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
    """Unpack one frame in this process, with whatever its libraries warn of; see `Codec.unpack`.

    Raises
    ------
    CodecError
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    others = dict(settings)
    try:
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
            _bound(settings.pop("memory", MEMORY))
            try:
                _send(answers, bytes(unpack(frame, settings)))
            except CodecError:
                answers.write(_LENGTH.pack(_FAILED))
            answers.flush()


def _bound(memory: int) -> None:
    """Bound this process's address space, where the system can do so."""
    if _PAGES.is_file():
        import resource

        pages = int(_PAGES.read_text().split()[0])
        most = pages * resource.getpagesize() + memory + RESERVED
        with contextlib.suppress(ValueError, OSError):  # the user has a lower limit
            resource.setrlimit(
                resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1])
            )


def _resident(process: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def _send(pipe: Any, data: bytes) -> None:
    for piece in (_LENGTH.pack(len(data)), data):
        left = memoryview(piece)
        while left:
            left = left[pipe.write(left) :]


def _receive(pipe: Any) -> bytes | None:
    """The next piece; ``None`` for a failure; `EOFError` where the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return None if length == _FAILED else _exactly(pipe, length)


def _exactly(pipe: Any, length: int) -> bytes:
    out = bytearray()
    while len(out) < length:
        piece = pipe.read(min(length - len(out), _PIECE))
        if not piece:
            raise EOFError
        out += piece
    return bytes(out)


if __name__ == "__main__":
    serve()
