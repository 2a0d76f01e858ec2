"""The table of transfer syntaxes against DESIGN's list and against pydicom's names."""

from __future__ import annotations

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from gliosight.errors import UnsupportedInputError
from gliosight.read.dicom.instances import SYNTAXES, is_lossy, name_of, refusal

PROMISED = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
}


def test_all_that_is_promised() -> None:
    assert set(SYNTAXES) == PROMISED


@pytest.mark.parametrize("syntax", sorted(PROMISED))
def test_rows_agree_with_pydicom(syntax: str) -> None:
    row = SYNTAXES[syntax]
    assert row.uid == syntax
    assert row.native is not uid.UID(syntax).is_encapsulated
    assert row.lossy is not (row.native or "ossless" in row.name.replace("Near-lossless", ""))
    assert refusal(syntax, "x") is None


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        (uid.MPEG2MPML, "video"),
        (uid.MPEG4HP41, "MPEG-4"),
        (uid.HEVCMP51, "HEVC"),
        ("1.2.840.10008.1.2.4.95", "JPIP"),
        ("1.2.840.113619.5.2", "1.2.840.113619.5.2"),
        ("9" * 500, "9" * 64),
        ("\x1b[31m", "31m"),
    ],
)
def test_refused_by_name(syntax: str, words: str) -> None:
    error = refusal(syntax, "series 3, instance 1")
    assert isinstance(error, UnsupportedInputError)
    line = str(error)
    assert words in line
    assert "series 3, instance 1" in line
    assert line.isprintable()
    assert len(line) < 300
    assert name_of(syntax)[:10] in error.what


@pytest.mark.parametrize(
    ("syntax", "said", "lossy"),
    [
        (uid.ExplicitVRLittleEndian, None, False),
        (uid.ExplicitVRLittleEndian, "00", False),
        (uid.ExplicitVRLittleEndian, "01", True),  # it was, once, and was unpacked since
        (uid.JPEGBaseline8Bit, None, True),
        (uid.JPEGBaseline8Bit, "00", True),  # it cannot be otherwise
        (uid.JPEG2000, "00", False),  # this one may be used without loss
        (uid.JPEG2000, None, True),
        (uid.JPEGLSLossless, None, False),
        (uid.MPEG2MPML, None, False),
    ],
)
def test_lossy(syntax: str, said: str | None, lossy: bool) -> None:
    header = Dataset()
    if said is not None:
        header.LossyImageCompression = said
    assert is_lossy(syntax, header) is lossy
