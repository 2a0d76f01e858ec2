"""The decoders' own process: what kills it is an error, and the next frame gets a new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from gliosight.read.dicom import codec
from gliosight.read.dicom.codec import Codec, CodecError

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


def test_a_fork_starts_its_own_child_and_leaves_the_parent_s(frame: bytes) -> None:
    with Codec() as one:
        one.unpack(frame, SETTINGS)
        mine = one._child
        assert mine is not None
        one._owner += 1  # as a forked process sees it
        assert len(one.unpack(frame, SETTINGS)) == PICTURE.nbytes
        assert one._child is not mine
        assert mine.poll() is None
        assert mine.stdin is not None
        assert mine.stdout is not None
        mine.stdin.close()  # its parent is gone: it ends by itself
        assert mine.wait(300) == 0
        mine.stdout.close()


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
