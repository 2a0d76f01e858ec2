"""The decoders' own process: what kills it is an error, and the next frame gets a new one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from gliosight.read.dicom import codec
from gliosight.read.dicom.codec import Codec, CodecError, CodecMemoryError, NoCodecError

PICTURE = (np.arange(48 * 40, dtype=np.uint16) % 4096).reshape(48, 40)
SETTINGS = {
    "syntax": str(JPEG2000Lossless),
    "decoding_plugin": "pylibjpeg",
    "rows": 48,
    "columns": 40,
    "bits_allocated": 16,
    "bits_stored": 12,
}


@pytest.fixture(scope="module")
def frame() -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(PICTURE, bits_stored=12))


def test_frames_come_back(frame: bytes) -> None:
    with Codec() as one:
        for _ in range(3):
            answer = np.frombuffer(one.unpack(frame, SETTINGS), dtype="<u2").reshape(48, 40)
            assert np.array_equal(answer, PICTURE)
    assert np.frombuffer(codec.unpack(frame, SETTINGS), dtype="<u2")[7] == PICTURE[0, 7]


def test_a_broken_frame_costs_only_itself(frame: bytes) -> None:
    with Codec() as one:
        with pytest.raises(CodecError, match="gives up"):
            one.unpack(b"\xff\x4f\xff\x51" + bytes(40), SETTINGS)
        assert len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes


def test_a_crash_is_an_error_and_the_next_frame_is_decoded(frame: bytes) -> None:
    with Codec() as one:
        one.unpack(frame, SETTINGS)
        assert one._child is not None
        os.kill(one._child.pid, signal.SIGABRT)
        one._child.wait()
        assert len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes


def test_what_never_ends_is_ended(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "LONGEST", 0.3)
    with Codec() as one:
        child = one._started()
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(CodecError, match="breaks down"):
            one.unpack(frame, SETTINGS)
        assert child.poll() is not None


def test_no_child_is_left_behind(frame: bytes) -> None:
    with Codec() as one:
        one.unpack(frame, SETTINGS)
        child = one._child
    assert child is not None
    assert child.poll() is not None


def test_the_child_answers_in_lengths_and_bytes_alone(frame: bytes) -> None:
    """Nothing a library prints gets among the answers."""
    path = codec.__file__
    ended = subprocess.run(
        [sys.executable, "-P", path], input=b"", capture_output=True, check=False, timeout=300
    )
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_all_series_of_a_process_share_one_child(frame: bytes) -> None:
    with codec.shared() as one:
        one.unpack(frame, SETTINGS)
        first = one._child
    with codec.shared() as again:
        again.unpack(frame, SETTINGS)
        assert again._child is first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["leaves at once", "ends as programs do"])
def test_a_fork_while_another_thread_decodes(frame: bytes, how: str) -> None:
    """It waits for nobody, decodes with a child of its own, and leaves the parent's alone."""
    inside, leave = threading.Event(), threading.Event()

    def busy() -> None:
        with codec.shared() as one:
            one.unpack(frame, SETTINGS)
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=busy)
    thread.start()
    assert inside.wait(60)
    parents = codec._SHARED._child
    forked = os.fork()
    if forked == 0:
        signal.alarm(60)  # rather than hang
        with codec.shared() as one:
            decoded = len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes
            own = one._child is not parents
            if how == "ends as programs do":
                one.end()
        os._exit(0 if decoded and own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    leave.set()
    thread.join(60)
    with codec.shared() as one:
        assert len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes
        assert one._child is parents


def test_the_child_takes_no_more_memory_than_it_may(frame: bytes) -> None:
    from openjpeg.utils import encode_array

    large = bytes(encode_array(np.zeros((4096, 4096), np.uint16), bits_stored=12))
    settings = {**SETTINGS, "rows": 4096, "columns": 4096}
    with Codec() as one:
        one.unpack(frame, SETTINGS)
        with pytest.raises(CodecMemoryError):
            one.unpack(large, settings, 8 * 2**20)
        assert len(one.unpack(large, settings, 2**30)) == 2 * 4096**2
        assert one._child is not None
        limits = Path(f"/proc/{one._child.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
        assert 2**30 < int(line.split()[3]) < 2**30 + 2 * codec.RESERVED


def test_no_process_to_be_had(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(codec.subprocess, "Popen", refuses)
    with Codec() as one, pytest.raises(NoCodecError, match="resource temporarily unavailable"):
        one.unpack(frame, SETTINGS)


def test_an_interruption_leaves_no_answer_behind(
    frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Codec() as one:
        one.unpack(frame, SETTINGS)
        with monkeypatch.context() as change:

            def interrupted(_pipe: object) -> bytes:
                raise KeyboardInterrupt

            change.setattr(codec, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                one.unpack(frame, SETTINGS)
        assert one._child is None
        assert len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes
