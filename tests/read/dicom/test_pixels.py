"""Frames to arrays: every transfer syntax, every kind of cell, and files that lie about them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.dicom import decoding
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

from .builders_files import (
    NATIVE,
    SHAPE,
    OneFrame,
    make_dataset,
    pack,
    packed_dataset,
    picture,
    read,
    write,
)

LOSSLESS = (
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
)
LOSSY = (uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
ENCAPSULATED = (*LOSSLESS, *LOSSY)


def pixels(*paths: Path, numbers: tuple[int, ...] = (1,), limits: Limits = DEFAULT_LIMITS) -> Any:
    instances = [read(path) for path in paths]
    frames = [OneFrame(one, number) for one in instances for number in numbers]
    return read_pixels(frames, Budget(limits))  # type: ignore[arg-type]


def name_of(one: object) -> str:
    return uid.UID(one).name if isinstance(one, str) else str(one)


@pytest.mark.parametrize("syntax", NATIVE, ids=name_of)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (12, 16), (16, 16), (20, 32), (32, 32)])
def test_uncompressed(tmp_path: Path, syntax: str, signed: bool, bits: int, allocated: int) -> None:
    values = picture(bits, signed=signed)
    made = make_dataset(values, bits=bits, allocated=allocated, signed=signed)
    got = pixels(write(tmp_path / "a.dcm", made, syntax))
    assert got.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    assert np.array_equal(got[0], values)


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


# --- cells, values -------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless], ids=name_of)
def test_junk_in_unused_bits(tmp_path: Path, syntax: str, signed: bool) -> None:
    """Overlays of old scanners stand in the bits above the sample."""
    values = picture(12, signed=signed)
    junk = (values & 0xFFF).astype("u2") | np.uint16(0xA000)
    made = make_dataset(values, bits=12, signed=signed)
    if syntax == uid.RLELossless:
        made = packed_dataset(
            [pack(junk, syntax, bits=16, signed=False)], values, bits=12, signed=signed
        )
    else:
        made.PixelData = junk.tobytes()
    assert np.array_equal(pixels(write(tmp_path / "a.dcm", made, syntax))[0], values)


@pytest.mark.parametrize("signed", [False, True])
def test_high_bit_at_the_top(tmp_path: Path, signed: bool) -> None:
    """Samples of 12 bits in the upper part of their cells, as files before 2001 may have."""
    values = picture(12, signed=signed)
    made = make_dataset(values, bits=12, signed=signed, HighBit=15)
    made.PixelData = (((values & 0xFFF) << 4) | 0x5).astype("u2").tobytes()
    assert np.array_equal(pixels(write(tmp_path / "a.dcm", made))[0], values)


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("shape", [(5, 7), (4, 6)])
def test_big_endian_bytes(tmp_path: Path, vr: str, shape: tuple[int, int]) -> None:
    """8 bits in big endian words stand pairwise swapped; an odd frame begins inside a pair."""
    values = np.arange(3 * shape[0] * shape[1]).reshape(3, *shape) % 251
    made = make_dataset(values, bits=8, allocated=8)
    data = made.PixelData + b"\0" * (len(made.PixelData) % 2)
    made.PixelData = data
    path = write(tmp_path / "a.dcm", made, uid.ExplicitVRBigEndian)
    if vr == "OB":
        made.PixelData = data
        made["PixelData"].VR = "OB"
        pydicom.dcmwrite(path, made, enforce_file_format=True)
    assert np.array_equal(pixels(path, numbers=(1, 2, 3)), values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless], ids=name_of
)
def test_monochrome1_is_turned_round(tmp_path: Path, syntax: str, signed: bool) -> None:
    values = picture(12, signed=signed)
    options: dict[str, Any] = {"bits": 12, "signed": signed}
    made = make_dataset(values, **options)
    if syntax != uid.ExplicitVRLittleEndian:
        frame = pack(values, syntax, **options)
        made = packed_dataset([frame], values, **options)
    made.PhotometricInterpretation = "MONOCHROME1"
    got = pixels(write(tmp_path / "a.dcm", made, syntax))[0].astype(int)
    assert np.array_equal(got, (-1 if signed else 4095) - values)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
@pytest.mark.parametrize("syntax", NATIVE[:3], ids=name_of)
def test_float_pixels(tmp_path: Path, keyword: str, syntax: str) -> None:
    values = picture(12) / 7 - 100
    made = make_dataset()
    del made.PixelData, made.BitsStored, made.HighBit
    made.BitsAllocated = 32 if keyword == "FloatPixelData" else 64
    setattr(made, keyword, values.astype(f"<f{made.BitsAllocated // 8}").tobytes())
    got = pixels(write(tmp_path / "a.dcm", made, syntax))[0]
    assert got.dtype == np.float32
    assert np.allclose(got, values, rtol=1e-6)


def test_rescaled_frame_by_frame(tmp_path: Path) -> None:
    stack = np.stack([picture(12, seed=seed) for seed in range(3)])
    made = make_dataset(stack)
    made.PerFrameFunctionalGroupsSequence = Sequence()
    for slope, intercept in ((2, 0), (0.5, -10), (1, 0)):
        item, inner = Dataset(), Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, intercept
        item.PixelValueTransformationSequence = Sequence([inner])
        made.PerFrameFunctionalGroupsSequence.append(item)
    got = pixels(write(tmp_path / "a.dcm", made), numbers=(3, 2, 1))
    assert got.dtype == np.float32
    assert np.allclose(got[0], stack[2])
    assert np.allclose(got[1], stack[1] * 0.5 - 10)
    assert np.allclose(got[2], stack[0] * 2.0)


def test_rescaled_by_shared_groups(tmp_path: Path) -> None:
    values = picture(12)
    made = make_dataset(values)
    inner, item = Dataset(), Dataset()
    inner.RescaleSlope, inner.RescaleIntercept = 3, 1
    item.PixelValueTransformationSequence = Sequence([inner])
    made.SharedFunctionalGroupsSequence = Sequence([item])
    assert np.allclose(pixels(write(tmp_path / "a.dcm", made))[0], values * 3.0 + 1)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, 0, np.uint16), ("1.0", "0.0", np.uint16), (2.5, -1024, np.float32), (1, 4, np.float32)],
)
def test_rescaled_only_where_it_changes_something(
    tmp_path: Path, slope: Any, intercept: Any, dtype: type
) -> None:
    values = picture(12)
    made = make_dataset(values, RescaleSlope=slope, RescaleIntercept=intercept)
    got = pixels(write(tmp_path / "a.dcm", made))
    assert got.dtype == dtype
    assert np.allclose(got[0], values * float(slope) + float(intercept))


def test_one_instance_of_several_is_rescaled(tmp_path: Path) -> None:
    """Philips' slope differs from slice to slice."""
    first = write(tmp_path / "a.dcm", make_dataset(RescaleSlope=1, RescaleIntercept=0))
    second = write(tmp_path / "b.dcm", make_dataset(RescaleSlope=2, RescaleIntercept=0))
    got = pixels(first, second)
    assert np.allclose(got[1], 2.0 * got[0])


def test_signed_and_unsigned_slices_share_an_array(tmp_path: Path) -> None:
    values = picture(16)
    first = write(tmp_path / "a.dcm", make_dataset(values, bits=16))
    second = write(tmp_path / "b.dcm", make_dataset(values - 2**15, bits=16, signed=True))
    got = pixels(first, second)
    assert np.array_equal(got, np.stack([values, values - 2**15]))


# --- many frames ---------------------------------------------------------------------------------


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
    got = pixels(path, numbers=(7, 1000, 2000), limits=Limits(decoded_bytes=3 * one.size))
    assert np.array_equal(got, stack[:3])
    assert len(calls) == (3 if syntax == uid.RLELossless else 0)


# --- what is not read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "error", "words"),
    [
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
            UnsupportedInputError,
            "colour",
        ),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, UnsupportedInputError, "YBR_FULL_422"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnsupportedInputError, "colour"),
        ({"BitsAllocated": 1}, UnsupportedInputError, "mask of 1 bit"),
        ({"BitsAllocated": 24}, UnsupportedInputError, "24 bits"),
        ({"BitsStored": 17}, DamagedInputError, "17 bits stored"),
        ({"HighBit": 3}, DamagedInputError, "up to bit 3"),
        ({"HighBit": 30}, DamagedInputError, "up to bit 30"),
        ({"Rows": 0}, DamagedInputError, "Rows"),
        ({"Columns": None}, DamagedInputError, "Columns"),
        ({"NumberOfFrames": "-4"}, DamagedInputError, "NumberOfFrames"),
        ({"RescaleSlope": 0}, DamagedInputError, "rescale"),
        ({"Rows": 41}, DamagedInputError, "pixels end"),
        ({"Rows": 65535, "Columns": 65535}, LimitExceededError, "--max-decoded"),
    ],
)
def test_refused(
    tmp_path: Path, elements: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = write(tmp_path / "a.dcm", make_dataset(**elements))
    with pytest.raises(error, match=words) as caught:
        pixels(path)
    assert "series 3, instance 12" in str(caught.value)
    assert "Secret" not in str(caught.value)


def test_absurdly_many_frames(tmp_path: Path) -> None:
    """What is asked for counts, and it is counted before anything is allocated."""
    path = write(tmp_path / "a.dcm", make_dataset(NumberOfFrames="2000000000"))
    instance = read(path)
    frames = [OneFrame(instance, 1)] * 1_200_000
    with pytest.raises(LimitExceededError):
        read_pixels(frames, Budget(DEFAULT_LIMITS))  # type: ignore[arg-type]
    with pytest.raises(DamagedInputError, match="end before frame"):
        pixels(path, numbers=(1_999_999_999,))


def test_no_pixels(tmp_path: Path) -> None:
    made = make_dataset()
    del made.PixelData
    with pytest.raises(DamagedInputError, match="no pixels"):
        pixels(write(tmp_path / "a.dcm", made))


def test_video_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", packed_dataset([b"\0" * 8], picture()), uid.MPEG2MPML)
    with pytest.raises(UnsupportedInputError, match=r"video.*MPEG2"):
        pixels(path)


def test_different_sizes_are_both_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a.dcm", make_dataset())
    second = write(tmp_path / "b.dcm", make_dataset(np.zeros((4, 4), int), InstanceNumber=13))
    with pytest.raises(DamagedInputError, match="instance 12") as caught:
        pixels(first, second)
    assert caught.value.where == "series 3, instance 13"


def test_packed_although_the_header_says_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", make_dataset())
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[: place + 8] + b"\xff" * 4 + encapsulate([b"\xff\xd8\xff\xd9"]))
    with pytest.raises(DamagedInputError, match="does not say how"):
        pixels(path)


# --- packed frames that lie ----------------------------------------------------------------------


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
    frame = lying(frame, uid.JPEGLSLossless, 40_000, 40_000)
    made = packed_dataset([frame], values, bits=8, allocated=8, Rows=40_000, Columns=40_000)
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
    with pytest.raises(DamagedInputError, match=f"claims {precision} bits"):
        pixels(write(tmp_path / "a.dcm", made, uid.JPEGLosslessSV1))


def test_rle_frame_longer_than_its_pixels(tmp_path: Path) -> None:
    made = packed_dataset([b"\0" * 100_000], picture(8), bits=8, allocated=8)
    with pytest.raises(DamagedInputError, match="longer than its pixels"):
        pixels(write(tmp_path / "a.dcm", made, uid.RLELossless))


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


def test_gpl_decoder_is_never_asked() -> None:
    """Every decoder is asked by name, and the names are those of DESIGN's table."""
    assert set(decoding._PLUGINS.values()) == {"pydicom", "gdcm", "pylibjpeg"}
    jpeg = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1}
    from gliosight.read.dicom.syntaxes import SYNTAXES, Decoder

    assert {one for one, s in SYNTAXES.items() if s.decoder is Decoder.GDCM} == jpeg | {
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
    }


@pytest.mark.data
def test_real_pixels(data: Path) -> None:
    # Every file's pixels are read by a slower test; of one series' slices each is like the others.
    files = sorted(path for path in (data / "dicom").rglob("*") if path.is_file())
    assert files
    for path in files[::9]:
        instance = read(path)
        if path.name == "IM_0027_fMAP.dcm":
            continue  # its frames are rescaled, see below
        count = int(instance.header.get("NumberOfFrames", 1))
        wanted = (1, count) if count > 1 else (1,)
        got = pixels(path, numbers=wanted)
        reference: NDArray[Any] = pydicom.dcmread(path).pixel_array
        if reference.ndim == 2:
            reference = reference[None]
        assert np.array_equal(got, reference[[number - 1 for number in wanted]]), path.name


@pytest.mark.data
def test_real_rescaled_pixels(data: Path) -> None:
    path = data / "dicom" / "enh_mixed" / "Philips" / "IM_0027_fMAP.dcm"
    source = pydicom.dcmread(path)
    got = pixels(path, numbers=(1, 64))
    for place, number in enumerate((1, 64)):
        frame = source.PerFrameFunctionalGroupsSequence[number - 1]
        scale = frame.PixelValueTransformationSequence[0]
        expected = source.pixel_array[number - 1] * float(scale.RescaleSlope)
        assert np.allclose(got[place], expected + float(scale.RescaleIntercept), atol=1e-3)


@pytest.mark.slow
@pytest.mark.data
def test_all_real_pixels(data: Path) -> None:
    for path in sorted(one for one in (data / "dicom").rglob("*") if one.is_file()):
        count = int(read(path).header.get("NumberOfFrames", 1))
        got = pixels(path, numbers=tuple(range(1, count + 1)))
        assert got.shape[0] == count
        assert got.max() > got.min(), path.name
