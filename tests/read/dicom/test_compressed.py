"""Compressed frames: every transfer syntax, where the frames are, and tables that lie about it."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, encapsulate_extended

import gliosight.read.dicom.pixels as reader
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.dicom.instances import SYNTAXES
from gliosight.read.limits import Limits

from .builders_files import (
    DECODER,
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


@pytest.mark.parametrize("syntax", LOSSLESS, ids=name_of)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (12, 16), (16, 16)])
def test_lossless(tmp_path: Path, syntax: str, signed: bool, bits: int, allocated: int) -> None:
    values = picture(bits, signed=signed)
    made = packed_dataset(
        [pack(values, syntax, bits=bits, signed=signed)],
        values,
        bits=bits,
        allocated=allocated,
        signed=signed,
    )
    assert np.array_equal(pixels(write(tmp_path / "a.dcm", made, syntax))[0], values)


@pytest.mark.parametrize(
    ("syntax", "bits", "signed"),
    [
        (uid.JPEGBaseline8Bit, 8, False),
        (uid.JPEGExtended12Bit, 8, False),
        (uid.JPEGExtended12Bit, 12, False),
        *((uid.JPEGLSNearLossless, bits, False) for bits in (8, 12, 16)),
        *(
            (one, bits, s)
            for one in (uid.JPEG2000, uid.HTJ2K)
            for bits in (8, 12, 16)
            for s in (0, 1)
        ),
    ],
    ids=name_of,
)
def test_lossy(
    tmp_path: Path, syntax: str, bits: int, signed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    values = picture(bits, signed=signed)
    made = packed_dataset(
        [pack(values, syntax, bits=bits, signed=signed)],
        values,
        bits=bits,
        allocated=8 if bits == 8 else 16,
        signed=signed,
    )
    got = pixels(write(tmp_path / "a.dcm", made, syntax))[0].astype(int)
    assert np.abs(got - values).max() <= max(5, 0.03 * 2**bits)
    assert np.abs(got - values).mean() <= max(1.5, 0.01 * 2**bits)
    # gdcm's JPEG library tries 8 bits first and says so on stderr.
    assert capfd.readouterr() == ("", "")


def test_signed_near_lossless(tmp_path: Path) -> None:
    """JPEG-LS knows no sign; away from the seam of two's complement it is near all the same."""
    values = picture(10) - 300
    frame = imagecodecs.jpegls_encode((values & 0xFFF).astype("u2"), level=0)
    made = packed_dataset([bytes(frame)], values, bits=12, signed=True)
    got = pixels(write(tmp_path / "a.dcm", made, uid.JPEGLSNearLossless))[0]
    assert np.array_equal(got, values)


@pytest.mark.parametrize(
    ("bits", "precision", "signed"),
    [
        # True lossless encoders pack the whole cell, with the sign's copies.
        (12, 16, True),
        (12, 16, False),
        # 8-bit frames in a header that allocates 16.
        (8, 8, False),
        (8, 8, True),
    ],
)
@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless], ids=name_of)
def test_precision_of_its_own(
    tmp_path: Path, syntax: str, bits: int, precision: int, signed: bool
) -> None:
    values = picture(bits, signed=signed)
    frame = pack(values, syntax, bits=precision, signed=signed)
    made = packed_dataset([frame], values, bits=bits, allocated=16, signed=signed)
    assert np.array_equal(pixels(write(tmp_path / "a.dcm", made, syntax))[0], values)


@pytest.mark.parametrize("signed_frame", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg2000_sign_disagrees(tmp_path: Path, signed_frame: bool, signed: bool) -> None:
    values = picture(12, signed=signed)
    other = values & 0xFFF
    if signed_frame:
        other = np.where(other >= 2048, other - 4096, other)
    frame = pack(other, uid.JPEG2000Lossless, bits=12, signed=signed_frame)
    made = packed_dataset([frame], values, bits=12, signed=signed)
    got = pixels(write(tmp_path / "a.dcm", made, uid.JPEG2000Lossless))[0]
    assert np.array_equal(got, values)


def test_gpl_decoder_is_never_asked() -> None:
    """Every decoder is asked by name, and the names are those of DESIGN's table."""
    assert set(reader._PLUGINS.values()) == {"pydicom", "gdcm", "pylibjpeg"}
    openjpeg = {one for one, syntax in SYNTAXES.items() if syntax.decoder == "openjpeg"}
    assert openjpeg == {uid.JPEG2000Lossless, uid.JPEG2000, *LOSSLESS[-2:], uid.HTJ2K}


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
    DECODER.__exit__()  # what it took before is not counted
    with pytest.raises(LimitExceededError, match=r"of memory to decode.*--max-decoded"):
        pixels(path, limits=Limits(decoded_bytes=4 * values.size))
    assert np.array_equal(pixels(path, limits=Limits(decoded_bytes=2**33))[0], values)


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
    plain = reader.decode_frame
    monkeypatch.setattr(reader, "decode_frame", lambda *a: calls.append(1) or plain(*a))
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
    with pytest.raises(DamagedInputError, match="3 compressed frames, the header says 4"):
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
