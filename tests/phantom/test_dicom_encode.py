"""Every transfer syntax gives its pixels back, and says whether it lost any."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import uid

from gliosight.errors import UsageError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import SYNTAXES, DicomSpec, volume_of, write_dicom
from gliosight.phantom.dicom.encode import NEAR, encode
from gliosight.study import Sequence

LOSSLESS = [name for name, one in SYNTAXES.items() if one.lossy is None]
LOSSY = [name for name, one in SYNTAXES.items() if one.lossy is not None]
NATIVE = {"implicit-le", "explicit-le", "deflated", "explicit-be"}
NEEDS_IMAGECODECS = {"jpeg-extended", "htj2k", "htj2k-rpcl", "htj2k-lossy"}
# Mean error of a lossy picture, as a part of the brightest value: far below the phantom's noise.
MEAN_ERROR = 0.01


@pytest.fixture(scope="module")
def small() -> Phantom:
    """Two slices; an odd number of columns in sagittal order, so that frames need padding."""
    return make_phantom(PhantomSpec(seed=3, slices=3, matrix=67, pixel_mm=2.0, slice_spacing_mm=6))


@pytest.fixture(autouse=True)
def _imagecodecs(request: pytest.FixtureRequest) -> None:
    name = getattr(request.node, "callspec", None)
    if name is not None and name.params.get("syntax") in NEEDS_IMAGECODECS:
        pytest.importorskip("imagecodecs")


def flair_of(folder: Path) -> list[Any]:
    headers = [pydicom.dcmread(one) for one in sorted(folder.rglob("*.IMA"))]
    first = min(int(ds.SeriesNumber) for ds in headers)
    return sorted(
        (ds for ds in headers if ds.SeriesNumber == first), key=lambda ds: int(ds.InstanceNumber)
    )


def pixels_of(ds: Any) -> np.ndarray:
    if ds.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit:
        return gdcm_pixels(ds)  # pydicom's plugins leave 12 bits of this syntax out; gdcm has them
    return ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)


def gdcm_pixels(ds: Any) -> np.ndarray:
    frames = []
    for data in pydicom.encaps.generate_frames(
        ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1))
    ):
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(data)
        fragments = gdcm.SequenceOfFragments.New()
        fragments.AddFragment(fragment)
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetValue(fragments.__ref__())
        image = gdcm.Image()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((ds.Columns, ds.Rows, 1))
        image.SetDataElement(element)
        image.SetPhotometricInterpretation(
            gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
        )
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
        image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
        frames.append(np.frombuffer(buffer, "<u2").reshape(ds.Rows, ds.Columns))
    return np.stack(frames)


def volume(headers: list[Any]) -> np.ndarray:
    return np.concatenate([pixels_of(ds) for ds in headers])


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
@pytest.mark.parametrize(
    ("syntax", "bits"), [(name, bits) for name in LOSSLESS for bits in SYNTAXES[name].bits]
)
def test_lossless_syntaxes_give_every_value_back(
    small: Phantom, tmp_path: Path, syntax: str, bits: int, layout: str
) -> None:
    spec = DicomSpec(syntax=syntax, bits=bits, layout=layout, traps=frozenset())
    headers = flair_of(write_dicom(small, tmp_path, spec))
    assert all(ds.file_meta.TransferSyntaxUID == SYNTAXES[syntax].uid for ds in headers)
    assert all(ds.BitsStored == bits for ds in headers)
    found = volume(headers)
    assert np.array_equal(found, volume_of(small, spec, Sequence.FLAIR))
    assert found.max() > (100 if bits == 8 else 1500)
    assert all(ds.get("LossyImageCompression", "00") == "00" for ds in headers)


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_come_close_and_say_so(
    small: Phantom, tmp_path: Path, syntax: str, layout: str
) -> None:
    spec = DicomSpec(syntax=syntax, layout=layout, traps=frozenset({"roi"}))
    folder = write_dicom(small, tmp_path, spec)
    headers = flair_of(folder)
    wanted = volume_of(small, spec, Sequence.FLAIR).astype(float)
    error = np.abs(volume(headers) - wanted)
    assert 0 < error.mean() < MEAN_ERROR * wanted.max()
    if syntax == "jpeg-ls-near":
        assert error.max() == NEAR
    for ds in headers:
        assert ds.file_meta.TransferSyntaxUID == SYNTAXES[syntax].uid
        assert ds.LossyImageCompression == "01"
        assert ds.LossyImageCompressionMethod == SYNTAXES[syntax].lossy
        size = ds.Rows * ds.Columns * ds.BitsAllocated // 8 * int(ds.get("NumberOfFrames", 1))
        assert float(ds.LossyImageCompressionRatio) == pytest.approx(
            size / len(ds.PixelData), rel=0.05
        )
    roi = [
        ds
        for ds in map(pydicom.dcmread, sorted(folder.rglob("*.IMA")))
        if "ROI" in ds.SeriesDescription
    ]
    assert len(roi) == 3
    assert {int(v) for ds in roi for v in np.unique(ds.pixel_array)} <= {0, 1}


@pytest.mark.parametrize("syntax", sorted({*NATIVE, "rle"}))
def test_signed_values(small: Phantom, tmp_path: Path, syntax: str) -> None:
    spec = DicomSpec(syntax=syntax, bits=16, signed=True, traps=frozenset())
    headers = flair_of(write_dicom(small, tmp_path, spec))
    assert all(ds.PixelRepresentation == 1 for ds in headers)
    assert np.array_equal(volume(headers), volume_of(small, spec, Sequence.FLAIR))


@pytest.mark.parametrize("syntax", list(SYNTAXES))
def test_frames_are_even_and_what_their_markers_say(small: Phantom, syntax: str) -> None:
    one = SYNTAXES[syntax]
    bits = one.bits[0]
    picture = (small.sequences[Sequence.FLAIR][1] // 16).astype(np.uint8)
    if bits != 8:
        picture = picture.astype(np.uint16) * 16
    data = encode(picture, bits, one)
    start = {
        "rle": b"\1\0\0\0" if picture.dtype == np.uint8 else b"\2\0\0\0",
    }.get(syntax, b"\xff\x4f" if "j2k" in syntax else b"\xff\xd8")
    if syntax in NATIVE:
        assert len(data) == picture.nbytes
    else:
        assert len(data) % 2 == 0
        assert data.startswith(start)


def test_extended_jpeg_has_twelve_bits(small: Phantom, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    spec = DicomSpec(syntax="jpeg-extended", traps=frozenset())
    (frame,) = pydicom.encaps.generate_frames(
        flair_of(write_dicom(small, tmp_path, spec))[0].PixelData, number_of_frames=1
    )
    assert frame[frame.index(b"\xff\xc1") + 4] == 12


def test_rpcl_keeps_its_promises(small: Phantom) -> None:
    pytest.importorskip("imagecodecs")
    data = encode(small.sequences[Sequence.FLAIR][0], 12, SYNTAXES["htj2k-rpcl"])
    assert data[data.index(b"\xff\x52") + 5] == 2  # SGcod: progression order RPCL
    assert b"\xff\x55" in data[:200]  # TLM


def test_missing_encoder_says_what_to_install(
    small: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UsageError, match="pip install imagecodecs"):
        write_dicom(small, tmp_path, DicomSpec(syntax="htj2k"))
    assert not list(tmp_path.rglob("*.IMA"))


def test_big_endian_is_big(small: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(syntax="explicit-be", traps=frozenset())
    header = flair_of(write_dicom(small, tmp_path, spec))[0]
    wanted = volume_of(small, spec, Sequence.FLAIR)[0]
    assert np.array_equal(np.frombuffer(header.PixelData[: wanted.nbytes], ">u2"), wanted.ravel())
