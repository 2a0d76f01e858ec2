"""Frames to arrays: every transfer syntax, kind of cell and of rescaling, and what is refused."""

from __future__ import annotations

import struct
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

import gliosight.read.dicom.pixels as reader
from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.dicom.instances import SYNTAXES
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

from .builders_files import (
    DECODER,
    LOSSLESS,
    NATIVE,
    SHAPE,
    OneFrame,
    make_dataset,
    name_of,
    pack,
    packed_dataset,
    picture,
    pixels,
    read,
    write,
)


def packed(values: NDArray[Any], syntax: str, *, precision: int, **options: Any) -> Dataset:
    """The data set of one frame that is encoded with so many bits."""
    frame = pack(values, syntax, bits=precision, signed=options.get("signed", False))
    return packed_dataset([frame], values, **options)


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=name_of)
@pytest.mark.parametrize("signed", [False, True])
def test_lossless(tmp_path: Path, syntax: str, signed: bool) -> None:
    for bits, allocated in ((8, 8), (12, 16), (16, 16), (20, 32), (32, 32)):
        values = picture(bits, signed=signed)
        options = {"bits": bits, "allocated": allocated, "signed": signed}
        if syntax in NATIVE:
            made = make_dataset(values, **options)
        elif bits <= 16:
            made = packed(values, syntax, precision=bits, **options)
        else:
            continue
        got = pixels(write(tmp_path / "a.dcm", made, syntax))
        assert np.array_equal(got[0], values), bits
        assert syntax not in NATIVE or got.dtype == np.dtype(f"{'iu'[not signed]}{allocated // 8}")


@pytest.mark.parametrize(
    ("syntax", "bits", "signed"),
    [
        (uid.JPEGBaseline8Bit, 8, False),
        *((uid.JPEGExtended12Bit, bits, False) for bits in (8, 12)),
        *((uid.JPEGLSNearLossless, bits, False) for bits in (8, 12, 16)),
        *((one, *kind) for one in (uid.JPEG2000, uid.HTJ2K) for kind in ((8, 0), (12, 1), (16, 0))),
    ],
    ids=name_of,
)
def test_lossy(
    tmp_path: Path, syntax: str, bits: int, signed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    values = picture(bits, signed=signed)
    options = {"bits": bits, "allocated": 8 if bits == 8 else 16, "signed": signed}
    made = packed(values, syntax, precision=bits, **options)
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


# True lossless encoders pack the whole cell, with the sign's copies; 8-bit frames where 16 are allocated.
@pytest.mark.parametrize(("bits", "precision"), [(12, 16), (8, 8)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless], ids=name_of)
def test_precision_of_its_own(
    tmp_path: Path, syntax: str, bits: int, precision: int, signed: bool
) -> None:
    values = picture(bits, signed=signed)
    made = packed(values, syntax, precision=precision, bits=bits, allocated=16, signed=signed)
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


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless], ids=name_of)
def test_junk_in_unused_bits(tmp_path: Path, syntax: str, signed: bool) -> None:
    """Overlays of old scanners stand in the bits above the sample."""
    values = picture(12, signed=signed)
    junk = (values & 0xFFF).astype("u2") | np.uint16(0xA000)
    made = make_dataset(values, bits=12, signed=signed)
    if syntax == uid.RLELossless:
        frame = pack(junk, syntax, bits=16, signed=False)
        made = packed_dataset([frame], values, bits=12, signed=signed)
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
    made = make_dataset(values, bits=12, signed=signed)
    if syntax != uid.ExplicitVRLittleEndian:
        made = packed(values, syntax, precision=12, bits=12, signed=signed)
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


def transformation(slope: float, intercept: float) -> Dataset:
    item, inner = Dataset(), Dataset()
    inner.RescaleSlope, inner.RescaleIntercept = slope, intercept
    item.PixelValueTransformationSequence = Sequence([inner])
    return item


def test_rescaled_by_functional_groups(tmp_path: Path) -> None:
    """A frame's own, else that of all."""
    stack = np.stack([picture(12, seed=seed) for seed in range(3)])
    made = make_dataset(stack)
    made.SharedFunctionalGroupsSequence = Sequence([transformation(3, 1)])
    own = [transformation(2, 0), transformation(0.5, -10), Dataset()]
    made.PerFrameFunctionalGroupsSequence = Sequence(own)
    got = pixels(write(tmp_path / "a.dcm", made), numbers=(3, 2, 1))
    assert got.dtype == np.float32
    assert np.allclose(got[0], stack[2] * 3.0 + 1)
    assert np.allclose(got[1], stack[1] * 0.5 - 10)
    assert np.allclose(got[2], stack[0] * 2.0)


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


def test_a_large_intercept_leaves_the_contrast(tmp_path: Path) -> None:
    values = picture(12)
    made = make_dataset(values, RescaleSlope=1, RescaleIntercept=-1e9)
    np.testing.assert_array_equal(pixels(write(tmp_path / "a.dcm", made))[0], values - values.min())


def test_slopes_differ_from_slice_to_slice(tmp_path: Path) -> None:
    """Philips' do; a slope beside which the other slices vanish is refused."""
    paths = [
        write(tmp_path / f"{index}.dcm", make_dataset(RescaleSlope=slope, RescaleIntercept=0))
        for index, slope in enumerate((2, 1, 1e38, 1e-9))
    ]
    got = pixels(*paths[:2])
    assert np.allclose(got[0], 2.0 * got[1])
    for path in paths[2:]:
        with pytest.raises(DamagedInputError, match="that of most slices"):
            pixels(*paths[:2], path)


def test_signed_and_unsigned_slices_share_an_array(tmp_path: Path) -> None:
    values = picture(16)
    first = write(tmp_path / "a.dcm", make_dataset(values, bits=16))
    second = write(tmp_path / "b.dcm", make_dataset(values - 2**15, bits=16, signed=True))
    got = pixels(first, second)
    assert np.array_equal(got, np.stack([values, values - 2**15]))


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
        ({"ModalityLUTSequence": Sequence([Dataset()])}, UnsupportedInputError, "Modality LUT"),
        ({"BitsStored": 17}, DamagedInputError, "17 bits stored"),
        ({"HighBit": 3}, DamagedInputError, "up to bit 3"),
        ({"HighBit": 30}, DamagedInputError, "up to bit 30"),
        ({"Rows": 0}, DamagedInputError, "Rows"),
        ({"Columns": None}, DamagedInputError, "Columns is missing"),
        ({"NumberOfFrames": "-4"}, DamagedInputError, "NumberOfFrames"),
        ({"RescaleSlope": 0}, DamagedInputError, "RescaleSlope is 0"),
        ({"RescaleSlope": "NaN"}, DamagedInputError, "RescaleSlope is not a number"),
        ({"RescaleIntercept": "-inf"}, DamagedInputError, "RescaleIntercept is not a number"),
        ({"Rows": 41}, DamagedInputError, "pixels end"),
        ({"PixelData": bytes(2 * 41 * 48)}, DamagedInputError, "more pixels than 1 of"),
        ({"Rows": 65535, "Columns": 65535}, LimitExceededError, "--max-decoded"),
    ],
)
def test_refused(
    tmp_path: Path, elements: dict[str, Any], error: type[Exception], words: str
) -> None:
    with quietly():
        path = write(tmp_path / "a.dcm", make_dataset(**elements))
    with pytest.raises(error, match=words) as caught:
        pixels(path)
    assert "series 3, instance 12" in str(caught.value)
    assert "Secret" not in str(caught.value)


def test_padding_of_less_than_a_row(tmp_path: Path) -> None:
    made = make_dataset()
    made.PixelData += bytes(2 * 47)
    assert np.array_equal(pixels(write(tmp_path / "a.dcm", made))[0], picture())


def test_absurdly_many_frames(tmp_path: Path) -> None:
    """What is asked for counts, and it is counted before anything is allocated."""
    path = write(tmp_path / "a.dcm", make_dataset(NumberOfFrames="2000000000"))
    instance = read(path)
    frames = [OneFrame(instance, 1)] * 1_200_000
    with pytest.raises(LimitExceededError):
        read_pixels(frames, Budget(DEFAULT_LIMITS), DECODER)  # type: ignore[arg-type]
    with pytest.raises(DamagedInputError, match="end before frame"):
        pixels(path, numbers=(1_999_999_999,))


def test_no_pixels_or_pixels_of_another_kind(tmp_path: Path) -> None:
    made = make_dataset()
    path = write(tmp_path / "a.dcm", made)
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[: place + 8] + b"\xff" * 4 + encapsulate([b"\xff\xd8\xff\xd9"]))
    with pytest.raises(DamagedInputError, match="does not say how"):
        pixels(path)
    del made.PixelData
    with pytest.raises(DamagedInputError, match="no pixels"):
        pixels(write(path, made))
    write(path, packed_dataset([b"\0" * 8], picture()), uid.MPEG2MPML)
    with pytest.raises(UnsupportedInputError, match=r"video.*MPEG2"):
        pixels(path)


def test_different_sizes_are_both_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a.dcm", make_dataset())
    second = write(tmp_path / "b.dcm", make_dataset(np.zeros((4, 4), int), InstanceNumber=13))
    with pytest.raises(DamagedInputError, match="instance 12") as caught:
        pixels(first, second)
    assert caught.value.where == "series 3, instance 13"


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS], ids=name_of)
@pytest.mark.parametrize("table", ["basic", "none", "extended"])
def test_frames_in_the_order_asked(tmp_path: Path, syntax: str, table: str) -> None:
    stack = np.stack([picture(12, seed=seed) for seed in range(5)])
    made = make_dataset(stack)
    if syntax not in NATIVE:
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
    encoded = [pack(one, uid.JPEGLSLossless, bits=12, signed=False) for one in stack]
    made = packed_dataset(encoded, stack)
    made.PixelData = encapsulate(encoded, fragments_per_frame=3, has_bot=table)
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


# Inside a fragment, backwards, beyond the file, twice the same.
@pytest.mark.parametrize("table", [[0, 4], [8, 0], [0, 4_000_000_000], [0, 0]])
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


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.RLELossless], ids=name_of)
def test_packed_file_cut_short(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "a.dcm", packed(picture(12), syntax, precision=12), syntax)
    whole = path.read_bytes()
    place = whole.rindex(b"\xfe\xff\x00\xe0")
    cuts = [whole[: len(whole) - 8 - cut] for cut in (5, 100, 1500)]
    # A fragment longer than the file.
    for data in (*cuts, whole[: place + 4] + struct.pack("<L", 0xFFFFFF00) + whole[place + 8 :]):
        path.write_bytes(data)
        with pytest.raises(DamagedInputError):
            pixels(path)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.data
def test_real_pixels(data: Path, every: int) -> None:
    files = sorted(path for path in (data / "dicom").rglob("*") if path.is_file())
    for path in files[::every]:
        source = pydicom.dcmread(path)
        count = int(source.get("NumberOfFrames", 1))
        numbers = tuple(range(1, count + 1)) if every == 1 else (1, count)[:count]
        got = pixels(path, numbers=numbers)
        stored: NDArray[Any] = source.pixel_array.reshape(count, *got.shape[1:])
        for values, number in zip(got, numbers, strict=True):
            scale = source
            if "PerFrameFunctionalGroupsSequence" in source:
                group = source.PerFrameFunctionalGroupsSequence[number - 1]
                scale = group.get("PixelValueTransformationSequence", [source])[0]
            expected = stored[number - 1] * float(scale.get("RescaleSlope", 1))
            expected += float(scale.get("RescaleIntercept", 0))
            assert np.allclose(values, expected, atol=1e-3), path.name
