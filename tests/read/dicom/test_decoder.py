"""The decoders' process, and frames that lie: about their size, their precision, and where they end."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from gliosight.cli import run
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read.dicom import decoder
from gliosight.read.dicom.decoder import DecodeError, DecoderProcess, one_decoder
from tests.support.dicom_phantom import DicomSpec, write_dicom

from .builders_files import (
    DECODER,
    LOSSLESS,
    LOSSY,
    SHAPE,
    name_of,
    pack,
    packed_dataset,
    picture,
    pixels,
    write,
)

ENCAPSULATED = (*LOSSLESS, *LOSSY)
PICTURE = picture(12).astype(np.uint16)
SETTINGS = {
    "syntax": str(uid.JPEG2000Lossless),
    "decoding_plugin": "pylibjpeg",
    "rows": SHAPE[0],
    "columns": SHAPE[1],
    "bits_allocated": 16,
    "bits_stored": 12,
}
MEMORY = 2**28


@pytest.fixture(scope="module")
def frame() -> bytes:
    return pack(PICTURE, uid.JPEG2000Lossless, bits=12, signed=False)


def test_one_process_decodes_all_frames_and_ends_with_its_context(frame: bytes) -> None:
    with DecoderProcess() as process:
        assert process.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()
        child = process._child
        assert process.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()
        assert process._child is child
    assert child is not None
    assert child.poll() is not None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The children that were started."""
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        children.append(real(*args, **options))
        return children[-1]

    monkeypatch.setattr(decoder.subprocess, "Popen", popen)
    return children


@pytest.mark.parametrize("several", [False, True])
def test_a_run_over_many_studies_starts_one_child(
    several: bool,
    tmp_path: Path,
    started: list[subprocess.Popen[bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ends with the run; a single study that is inspected needs no more either."""
    for seed in range(3 if several else 1):
        head = make_phantom(PhantomSpec(seed=seed, slices=3, matrix=32, pixel_mm=3))
        write_dicom(head, tmp_path / str(seed), DicomSpec(syntax="jpeg-ls", traps=frozenset()))
    assert run(["inspect", str(tmp_path), "--pixels", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["studies"]) == (3 if several else 1)
    (child,) = started
    assert child.poll() is not None


def test_a_child_that_dies_within_a_run_is_replaced(
    frame: bytes, started: list[subprocess.Popen[bytes]]
) -> None:
    with one_decoder() as outer:
        for turn in range(2):
            with one_decoder() as inner:
                assert inner is outer
                assert inner.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()
            assert len(started) == turn + 1
            started[-1].kill()
            started[-1].wait()
    with one_decoder() as later:
        assert later is not outer


def test_a_broken_frame_costs_only_itself(frame: bytes) -> None:
    with DecoderProcess() as process:
        with pytest.raises(DecodeError):
            process.decode(b"\xff\x4f\xff\x51" + bytes(40), SETTINGS, MEMORY)
        assert process.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()


def test_after_a_crash_there_is_another_process(frame: bytes) -> None:
    with DecoderProcess() as process:
        process.decode(frame, SETTINGS, MEMORY)
        assert process._child is not None
        os.kill(process._child.pid, signal.SIGABRT)
        process._child.wait()
        assert process.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()


def test_what_never_ends_is_ended(frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with DecoderProcess() as process:
        process.decode(frame, SETTINGS, MEMORY)
        child = process._child
        assert child is not None
        monkeypatch.setattr(decoder, "LONGEST", 0.3)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(DecodeError):
            process.decode(frame, SETTINGS, MEMORY)
        assert child.poll() is not None


def test_no_process_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    frame = pack(PICTURE, uid.JPEG2000Lossless, bits=12, signed=False)
    path = write(tmp_path / "a.dcm", packed_dataset([frame], PICTURE), uid.JPEG2000Lossless)
    DECODER.__exit__()
    monkeypatch.setattr(decoder.subprocess, "Popen", refuses)
    with pytest.raises(LimitExceededError, match="resource temporarily unavailable"):
        pixels(path)


def test_an_interruption_leaves_no_child_behind(
    frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    process = DecoderProcess()
    process.decode(frame, SETTINGS, MEMORY)
    child = process._child
    monkeypatch.setattr(decoder, "_size", interrupted)
    with pytest.raises(KeyboardInterrupt), process:
        process.decode(frame, SETTINGS, MEMORY)
    assert child is not None
    assert child.poll() is not None


def lying(frame: bytes, syntax: str, rows: int, columns: int) -> bytes:
    """A frame whose own header claims another size."""
    if syntax in (uid.JPEG2000Lossless, uid.HTJ2KLossless):
        return frame[:8] + struct.pack(">II", columns, rows) + frame[16:]
    mark = {uid.JPEGLSLossless: b"\xff\xf7", uid.JPEGBaseline8Bit: b"\xff\xc0"}
    place = frame.index(mark.get(syntax, b"\xff\xc3"))
    return frame[: place + 5] + struct.pack(">HH", rows, columns) + frame[place + 9 :]


@pytest.mark.parametrize(
    "syntax",
    [
        uid.JPEGBaseline8Bit,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
        uid.HTJ2KLossless,
    ],
    ids=name_of,
)
@pytest.mark.parametrize("claim", [(60_000, 60_000), (41, 48), (0, 48), (39, 48)])
def test_frame_claims_another_size(tmp_path: Path, syntax: str, claim: tuple[int, int]) -> None:
    values = picture(8)
    frame = lying(pack(values, syntax, bits=8, signed=False), syntax, *claim)
    made = packed_dataset([frame], values, bits=8, allocated=8)
    with pytest.raises(DamagedInputError, match=r"the header says|cannot be decoded"):
        pixels(write(tmp_path / "a.dcm", made, syntax))


def test_frame_and_header_claim_too_much(tmp_path: Path) -> None:
    values = picture(8)
    frame = pack(values, uid.JPEGLSLossless, bits=8, signed=False)
    frame = lying(frame, uid.JPEGLSLossless, 20_000, 20_000)
    made = packed_dataset([frame], values, bits=8, allocated=8, Rows=20_000, Columns=20_000)
    with pytest.raises(LimitExceededError, match="expands"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGLSLossless))


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=name_of)
@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda frame: frame[: len(frame) // 2], id="half"),
        pytest.param(lambda frame: frame[:12], id="head"),
        pytest.param(lambda _: b"\0\0", id="nothing"),
        pytest.param(lambda _: b"\0" * 300, id="zeros"),
        pytest.param(lambda _: b"\xff" * 300, id="ones"),
        pytest.param(lambda _: b"\xff\xd8" + b"\xff\xe0\0\2" * 50, id="no-frame"),
        pytest.param(lambda _: b"\xff\xd8\xff\xd9", id="end"),
    ],
)
def test_broken_frames(
    tmp_path: Path,
    syntax: str,
    break_it: Callable[[bytes], bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:
    values = picture(12)
    frame = break_it(pack(values, syntax, bits=12, signed=False))
    made = packed_dataset([frame], values)
    path = write(tmp_path / "a.dcm", made, syntax)
    with pytest.raises(DamagedInputError) as caught:
        pixels(path)
    assert caught.value.where == "series 3, instance 12"
    assert capfd.readouterr() == ("", "")


def test_colour_frame_in_a_grey_header(tmp_path: Path) -> None:
    frame = bytes(imagecodecs.jpeg8_encode(np.zeros((*SHAPE, 3), "u1")))
    made = packed_dataset([frame], picture(8), bits=8, allocated=8)
    with pytest.raises(DamagedInputError, match="3 channels"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGBaseline8Bit))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1], ids=name_of)
@pytest.mark.parametrize(
    ("junk", "read_all_the_same"),
    [
        # libjpeg warns of these two, and gdcm aborts its process over a warning.
        pytest.param(b"\xff\xe0\0\x10JFIF\0\x99\x01\0\0\1\0\1\0\0", True, id="unknown JFIF"),
        pytest.param(b"junk", False, id="junk between segments"),
        pytest.param(b"\xff\xfe\0\x06note", True, id="comment"),
        pytest.param(b"\xff\xff\xff", True, id="fill bytes"),
        pytest.param(b"\xff\xe0\xff\xf0JFIF", False, id="segment beyond the frame"),
        pytest.param(b"\xff\xc9\0\x0b\x08\0\1\0\1\1\1\x11\0", False, id="arithmetic coding"),
        pytest.param(b"\xff\xc3\0\x0b\x08\0\x28\0\x30\1\1\x11\0", False, id="two headers"),
    ],
)
def test_segments_before_the_scan(
    tmp_path: Path, syntax: str, junk: bytes, read_all_the_same: bool
) -> None:
    values = picture(8)
    frame = pack(values, syntax, bits=8, signed=False)
    made = packed_dataset([frame[:2] + junk + frame[2:]], values, bits=8, allocated=8)
    path = write(tmp_path / "a.dcm", made, syntax)
    if read_all_the_same:
        assert np.abs(pixels(path)[0].astype(int) - values).max() <= 5
    else:
        with pytest.raises(DamagedInputError, match="cannot be decoded"):
            pixels(path)


@pytest.mark.parametrize("precision", [0, 1, 7, 17, 255])
def test_precision_that_would_break_the_decoder(tmp_path: Path, precision: int) -> None:
    values = picture(8)
    frame = bytearray(pack(values, uid.JPEGLosslessSV1, bits=8, signed=False))
    frame[frame.index(b"\xff\xc3") + 4] = precision
    made = packed_dataset([bytes(frame)], values, bits=8, allocated=8)
    with pytest.raises(DamagedInputError, match="cannot be decoded"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGLosslessSV1))


def test_rle_frame_longer_than_its_pixels(tmp_path: Path) -> None:
    made = packed_dataset([b"\0" * 100_000], picture(8), bits=8, allocated=8)
    with pytest.raises(DamagedInputError, match="longer than its pixels"):
        pixels(write(tmp_path / "a.dcm", made, uid.RLELossless))
