"""Many frames in one file: found in any order, and tables and fragments that lie about them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, encapsulate_extended

from gliosight.errors import DamagedInputError
from gliosight.read.dicom import decoding
from gliosight.read.limits import Limits

from .builders_files import (
    LOSSLESS,
    NATIVE,
    SHAPE,
    make_dataset,
    name_of,
    pack,
    packed_dataset,
    picture,
    pixels,
    write,
)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=name_of)
@pytest.mark.parametrize("table", ["basic", "none", "extended"])
def test_frames_in_the_order_asked(tmp_path: Path, syntax: str, table: str) -> None:
    stack = np.stack([picture(12, seed=seed) for seed in range(5)])
    if syntax in NATIVE:
        made = make_dataset(stack)
    else:
        frames = [pack(one, syntax, bits=12, signed=False) for one in stack]
        made = packed_dataset(frames, stack)
        if table == "extended":
            made.PixelData, made.ExtendedOffsetTable, made.ExtendedOffsetTableLengths = (
                encapsulate_extended(frames)
            )
        else:
            made.PixelData = encapsulate(frames, has_bot=table == "basic")
    got = pixels(write(tmp_path / "a.dcm", made, syntax), numbers=(4, 2, 5))
    assert np.array_equal(got, stack[[3, 1, 4]])


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_several_fragments(tmp_path: Path, table: bool, frames: int) -> None:
    stack = np.stack([picture(12, seed=seed) for seed in range(frames)])
    packed = [pack(one, uid.JPEGLSLossless, bits=12, signed=False) for one in stack]
    made = packed_dataset(packed, stack)
    made.PixelData = encapsulate(packed, fragments_per_frame=3, has_bot=table)
    path = write(tmp_path / "a.dcm", made, uid.JPEGLSLossless)
    assert np.array_equal(pixels(path, numbers=tuple(range(1, frames + 1))), stack)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless], ids=name_of)
def test_only_wanted_frames_are_read(
    tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of 2,000 frames: the budget is asked for three, the decoder is called three times."""
    one = picture(8)
    stack = np.broadcast_to(one, (2000, *SHAPE))
    calls = []
    plain = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *a: calls.append(1) or plain(*a))
    if syntax == uid.RLELossless:
        frame = pack(one, syntax, bits=8, signed=False)
        made = packed_dataset([frame] * 2000, stack, bits=8, allocated=8)
    else:
        made = make_dataset(stack, bits=8, allocated=8)
    path = write(tmp_path / "a.dcm", made, syntax)
    got = pixels(path, numbers=(7, 1000, 2000), limits=Limits(decoded_bytes=4 * 3 * one.size))
    assert np.array_equal(got, stack[:3])
    assert len(calls) == (3 if syntax == uid.RLELossless else 0)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param([0, 4], id="inside a fragment"),
        pytest.param([8, 0], id="backwards"),
        pytest.param([0, 4_000_000_000], id="beyond the file"),
        pytest.param([0, 0], id="twice the same"),
    ],
)
def test_offset_table_lies(tmp_path: Path, table: list[int]) -> None:
    stack = np.stack([picture(12, seed=seed) for seed in range(2)])
    frames = [pack(one, uid.JPEGLSLossless, bits=12, signed=False) for one in stack]
    made = packed_dataset(frames, stack)
    body = encapsulate(frames, fragments_per_frame=2, has_bot=False)[8:]
    made.PixelData = struct.pack("<HHLLL", 0xFFFE, 0xE000, 8, *table) + body
    with pytest.raises(DamagedInputError, match="leads elsewhere"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGLSLossless))


def test_fewer_packed_frames_than_claimed(tmp_path: Path) -> None:
    values = picture(12)
    frame = pack(values, uid.JPEGLSLossless, bits=12, signed=False)
    made = packed_dataset([frame] * 3, np.stack([values] * 3), NumberOfFrames="4")
    with pytest.raises(DamagedInputError, match="3 packed frames, the header says 4"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGLSLossless))


@pytest.mark.parametrize("cut", [5, 100, 1500])
@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.RLELossless], ids=name_of)
def test_packed_file_cut_short(tmp_path: Path, syntax: str, cut: int) -> None:
    values = picture(12)
    made = packed_dataset([pack(values, syntax, bits=12, signed=False)], values)
    path = write(tmp_path / "a.dcm", made, syntax)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 8 - cut])
    with pytest.raises(DamagedInputError):
        pixels(path)


def test_fragment_longer_than_the_file(tmp_path: Path) -> None:
    made = packed_dataset([b"\0" * 64], picture())
    path = write(tmp_path / "a.dcm", made, uid.JPEGLSLossless)
    data = path.read_bytes()
    place = data.rindex(b"\xfe\xff\x00\xe0")
    path.write_bytes(data[: place + 4] + struct.pack("<L", 0xFFFFFF00) + data[place + 8 :])
    with pytest.raises(DamagedInputError):
        pixels(path)
