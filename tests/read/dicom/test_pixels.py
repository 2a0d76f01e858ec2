"""Frames to arrays: every kind of cell and of rescaling, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from gliosight.errors import DamagedInputError, LimitExceededError, UnsupportedInputError
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget

from .builders_files import (
    DECODER,
    NATIVE,
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


@pytest.mark.parametrize("syntax", NATIVE, ids=name_of)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (12, 16), (16, 16), (20, 32), (32, 32)])
def test_uncompressed(tmp_path: Path, syntax: str, signed: bool, bits: int, allocated: int) -> None:
    values = picture(bits, signed=signed)
    made = make_dataset(values, bits=bits, allocated=allocated, signed=signed)
    got = pixels(write(tmp_path / "a.dcm", made, syntax))
    assert got.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    assert np.array_equal(got[0], values)


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
        ({"RescaleSlope": 0}, DamagedInputError, "RescaleSlope is 0"),
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
        read_pixels(frames, Budget(DEFAULT_LIMITS), DECODER)  # type: ignore[arg-type]
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


def test_a_large_intercept_leaves_the_contrast(tmp_path: Path) -> None:
    values = picture(12, signed=False)
    made = make_dataset(values, bits=12, RescaleSlope=1, RescaleIntercept=-1e9)
    np.testing.assert_array_equal(pixels(write(tmp_path / "a.dcm", made))[0], values - values.min())


@pytest.mark.parametrize(("rows", "sound"), [(0, True), (0.9, True), (1, False), (100, False)])
def test_more_pixels_than_the_header_says(tmp_path: Path, rows: float, sound: bool) -> None:
    """Padding is less than a row; more contradicts Rows, Columns or NumberOfFrames."""
    values = picture(12, signed=False)
    made = make_dataset(values, bits=12)
    made.PixelData += bytes(2 * int(rows * values.shape[1]))
    path = write(tmp_path / "a.dcm", made)
    if sound:
        np.testing.assert_array_equal(pixels(path)[0], values)
        return
    with pytest.raises(DamagedInputError, match="more pixels than 1 of"):
        pixels(path)


@pytest.mark.parametrize("slope", [1e38, 1e-9])
def test_a_slope_beside_which_the_other_slices_vanish(tmp_path: Path, slope: float) -> None:
    paths = []
    for number, factor in enumerate((2, 1, slope)):
        made = make_dataset(
            picture(12, signed=False), bits=12, RescaleSlope=factor, RescaleIntercept=0
        )
        paths.append(write(tmp_path / f"{number}.dcm", made))
    frames = [OneFrame(read(path), 1) for path in paths]
    read_pixels(frames[:2], Budget(DEFAULT_LIMITS), DECODER)
    with pytest.raises(DamagedInputError, match="that of most slices"):
        read_pixels(frames, Budget(DEFAULT_LIMITS), DECODER)
