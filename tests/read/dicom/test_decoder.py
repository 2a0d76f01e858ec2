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
from numpy.typing import NDArray
from pydicom import uid

import gliosight.read.dicom.pixels as reader
from gliosight.cli import run
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.read.dicom import decoder
from gliosight.read.dicom.decoder import DecodeError, one_decoder
from gliosight.read.limits import Limits
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

PICTURE = picture(12).astype(np.uint16)
FRAME = pack(PICTURE, uid.JPEG2000Lossless, bits=12, signed=False)
SETTINGS = {
    "syntax": str(uid.JPEG2000Lossless),
    "decoding_plugin": "pylibjpeg",
    "rows": SHAPE[0],
    "columns": SHAPE[1],
    "bits_allocated": 16,
    "bits_stored": 12,
}
MEMORY = 2**28


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The children that are started."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(decoder.subprocess, "Popen", popen)
    return started


@pytest.mark.slow
@pytest.mark.parametrize("studies", [1, 3])
def test_a_run_starts_one_child(
    studies: int,
    tmp_path: Path,
    children: list[subprocess.Popen[bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over all its studies, with which it ends; and for the choice and the pixels of a single one."""
    for seed in range(studies):
        head = make_phantom(PhantomSpec(seed=seed, slices=3, matrix=32, pixel_mm=3))
        write_dicom(head, tmp_path / str(seed), DicomSpec(syntax="jpeg-ls", traps=frozenset()))
    assert run(["inspect", str(tmp_path), "--pixels", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["studies"]) == studies
    (child,) = children
    assert child.poll() is not None


@pytest.mark.slow
def test_a_child_that_dies_within_a_run_is_replaced(
    children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by a crash, by a frame that is broken, by one that never ends, or by an interruption."""

    def decodes(frame: bytes = FRAME) -> bool:
        with one_decoder() as process:
            assert process is outer
            return process.decode(frame, SETTINGS, MEMORY) == PICTURE.tobytes()

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    with one_decoder() as outer:
        assert decodes()
        assert decodes()
        assert len(children) == 1
        os.kill(children[0].pid, signal.SIGABRT)
        children[0].wait()
        assert decodes()
        assert len(children) == 2
        with pytest.raises(DecodeError):
            decodes(b"\xff\x4f\xff\x51" + bytes(40))
        assert decodes()
        assert len(children) == 3
        os.kill(children[2].pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(decoder, "LONGEST", 0.3)
            with pytest.raises(DecodeError):
                decodes()
        assert decodes()
        monkeypatch.setattr(decoder, "_size", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decodes()
    assert len(children) == 4
    assert all(child.poll() is not None for child in children)
    with one_decoder() as later:
        assert later is not outer


def test_no_process_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    path = write(tmp_path / "a.dcm", packed_dataset([FRAME], PICTURE), uid.JPEG2000Lossless)
    DECODER.end()
    monkeypatch.setattr(decoder.subprocess, "Popen", refuses)
    with pytest.raises(LimitExceededError, match="resource temporarily unavailable"):
        pixels(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLossless, uid.JPEGLSLossless], ids=name_of
)
def test_a_decoder_that_takes_too_much_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    """It is a limit, not damage, and the option that the error names raises it."""
    monkeypatch.setattr(reader, "MEMORY", 0)
    monkeypatch.setattr(reader, "SAMPLE_COST", 0)
    values = np.tile(picture(12), (52, 43))
    made = packed_dataset([pack(values, syntax, bits=12, signed=False)], values)
    path = write(tmp_path / "a.dcm", made, syntax)
    DECODER.end()  # what it took before is not counted
    with pytest.raises(LimitExceededError, match=r"of memory to decode.*--max-decoded"):
        pixels(path, limits=Limits(decoded_bytes=4 * values.size))
    assert np.array_equal(pixels(path, limits=Limits(decoded_bytes=2**33))[0], values)


def decoded(
    folder: Path, frame: bytes, syntax: str, bits: int = 8, **elements: int
) -> NDArray[Any]:
    """The pixels of a file with this frame."""
    allocated = 8 if bits == 8 else 16
    made = packed_dataset([frame], picture(bits), bits=bits, allocated=allocated, **elements)
    return pixels(write(folder / "a.dcm", made, syntax))[0]


def lying(syntax: str, rows: int, columns: int) -> bytes:
    """A frame whose own header claims another size."""
    frame = pack(picture(8), syntax, bits=8, signed=False)
    if syntax in (uid.JPEG2000Lossless, uid.HTJ2KLossless):
        return frame[:8] + struct.pack(">II", columns, rows) + frame[16:]
    mark = {uid.JPEGLSLossless: b"\xff\xf7", uid.JPEGBaseline8Bit: b"\xff\xc0"}
    place = frame.index(mark.get(syntax, b"\xff\xc3"))
    return frame[: place + 5] + struct.pack(">HH", rows, columns) + frame[place + 9 :]


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, *LOSSLESS[2:6]], ids=name_of)
def test_frame_claims_another_size(tmp_path: Path, syntax: str) -> None:
    for claim in ((60_000, 60_000), (41, 48), (0, 48), (39, 48)):
        with pytest.raises(DamagedInputError, match=r"the header says|cannot be decoded"):
            decoded(tmp_path, lying(syntax, *claim), syntax)


def test_frame_and_header_claim_too_much(tmp_path: Path) -> None:
    frame = lying(uid.JPEGLSLossless, 20_000, 20_000)
    with pytest.raises(LimitExceededError, match="expands"):
        decoded(tmp_path, frame, uid.JPEGLSLossless, Rows=20_000, Columns=20_000)


BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda frame: frame[: len(frame) // 2],
    lambda frame: frame[:12],
    lambda _: b"\0\0",
    lambda _: b"\0" * 300,
    lambda _: b"\xff" * 300,
    lambda _: b"\xff\xd8" + b"\xff\xe0\0\2" * 50,
    lambda _: b"\xff\xd8\xff\xd9",
)


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=name_of)
def test_broken_frames(tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str]) -> None:
    frame = pack(picture(12), syntax, bits=12, signed=False)
    for break_it in BREAKS:
        with pytest.raises(DamagedInputError) as caught:
            decoded(tmp_path, break_it(frame), syntax, bits=12)
        assert caught.value.where == "series 3, instance 12"
    assert capfd.readouterr() == ("", "")


def test_frames_of_another_kind_than_the_header_says(tmp_path: Path) -> None:
    frame = bytes(imagecodecs.jpeg8_encode(np.zeros((*SHAPE, 3), "u1")))
    with pytest.raises(DamagedInputError, match="3 channels"):
        decoded(tmp_path, frame, uid.JPEGBaseline8Bit)
    with pytest.raises(DamagedInputError, match="longer than its pixels"):
        decoded(tmp_path, b"\0" * 100_000, uid.RLELossless)


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
    frame = pack(picture(8), syntax, bits=8, signed=False)
    frame = frame[:2] + junk + frame[2:]
    if read_all_the_same:
        got = decoded(tmp_path, frame, syntax).astype(int)
        assert np.abs(got - picture(8)).max() <= 5
    else:
        with pytest.raises(DamagedInputError, match="cannot be decoded"):
            decoded(tmp_path, frame, syntax)


@pytest.mark.slow
def test_precision_that_would_break_the_decoder(tmp_path: Path) -> None:
    frame = bytearray(pack(picture(8), uid.JPEGLosslessSV1, bits=8, signed=False))
    for precision in (0, 1, 7, 17, 255):
        frame[frame.index(b"\xff\xc3") + 4] = precision
        with pytest.raises(DamagedInputError, match="cannot be decoded"):
            decoded(tmp_path, bytes(frame), uid.JPEGLosslessSV1)
