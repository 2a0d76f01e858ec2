"""Packed frames to samples: every compressed transfer syntax, lossless and lossy."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from gliosight.errors import LimitExceededError
from gliosight.read.dicom import codec, decoding
from gliosight.read.dicom.syntaxes import SYNTAXES, Decoder
from gliosight.read.limits import Limits

from .builders_files import LOSSLESS, name_of, pack, packed_dataset, picture, pixels, write


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
    assert set(decoding._PLUGINS.values()) == {"pydicom", "gdcm", "pylibjpeg"}
    jpeg = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1}
    assert {one for one, s in SYNTAXES.items() if s.decoder is Decoder.GDCM} == jpeg | {
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
    }


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLossless, uid.JPEGLSLossless], ids=name_of
)
def test_a_decoder_that_takes_too_much_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    """It is a limit, not damage, and the option that the error names raises it."""
    monkeypatch.setattr(decoding, "MEMORY", 0)
    monkeypatch.setattr(decoding, "SAMPLE_COST", 0)
    values = np.tile(picture(12), (52, 43))
    made = packed_dataset([pack(values, syntax, bits=12, signed=False)], values)
    path = write(tmp_path / "a.dcm", made, syntax)
    codec._SHARED.end()  # what a decoder took before is not counted
    with pytest.raises(LimitExceededError, match=r"of memory to decode.*--max-decoded"):
        pixels(path, limits=Limits(decoded_bytes=4 * values.size))
    assert np.array_equal(pixels(path, limits=Limits(decoded_bytes=2**33))[0], values)
