"""One file's header: in every native syntax, from odd and damaged files too; and the table of syntaxes."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    NothingReadableError,
    UnsupportedInputError,
)
from gliosight.read.dicom.elements import Pool
from gliosight.read.dicom.files import discover
from gliosight.read.dicom.instances import (
    MR_IMAGES,
    SYNTAXES,
    is_dicomdir,
    is_lossy,
    read_instance,
    refusal,
)
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from tests.counting import little_memory

from .builders_files import (
    LOSSLESS,
    LOSSY,
    NATIVE,
    PIXEL_HEAD,
    file_bytes,
    make_dataset,
    picture,
    pixels,
    read,
    save,
    write,
)


@pytest.mark.parametrize("syntax", NATIVE)
def test_header(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "a.dcm", make_dataset(), syntax)
    got = read(path)
    assert (got.path, got.size, got.syntax) == (path, path.stat().st_size, syntax)
    assert got.where == "series 3, instance 12"
    assert got.oddities == ()
    assert got.header.EchoTime == 125
    assert got.header.file_meta.TransferSyntaxUID == syntax
    assert got.header.ImagePositionPatient == [-90.5, -100.25, 12]
    assert "PixelData" not in got.header
    assert got.pixels is not None
    assert got.pixels.keyword == "PixelData"
    if syntax != uid.DeflatedExplicitVRLittleEndian:
        tag = b"\x7f\xe0\0\x10" if syntax == uid.ExplicitVRBigEndian else b"\xe0\x7f\x10\0"
        length = 8 if syntax == uid.ImplicitVRLittleEndian else 12
        assert path.read_bytes().rindex(tag) == got.pixels.start - length


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_pixels_are_not_kept(tmp_path: Path, syntax: str) -> None:
    """Memory of a header does not grow with its image, deflated or not."""
    noise = np.random.default_rng(0).integers(0, 4096, (2000, 2000))
    path = write(tmp_path / "a.dcm", make_dataset(noise), syntax)
    with little_memory(5_000_000):
        kept = read(path)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    assert kept.pixels


def without_meta(*, implicit: bool, little: bool = True) -> bytes:
    made, out = make_dataset(), io.BytesIO()
    if not little:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").byteswap().tobytes()
    dcmwrite(out, made, implicit_vr=implicit, little_endian=little)
    return out.getvalue()


def named_as(written: str, named: str) -> bytes:
    """A file in one syntax whose meta header names another."""
    data = file_bytes(make_dataset(), written)
    old, new = (one.encode() + b"\0" * (len(one) % 2) for one in (written, named))
    place = data.index(b"\x02\0\x10\0UI")
    return data[: place + 6] + struct.pack("<H", len(new)) + new + data[place + 8 + len(old) :]


IMPLICIT, EXPLICIT, _, BIG = NATIVE
WHOLE = file_bytes(make_dataset())
NO_META, MISNAMED = ("no preamble", "no meta header"), "not in the transfer syntax that it names"


@pytest.mark.parametrize(
    ("data", "syntax", "oddities"),
    [
        (without_meta(implicit=True), IMPLICIT, NO_META),
        (without_meta(implicit=False), EXPLICIT, NO_META),
        (without_meta(implicit=False, little=False), BIG, NO_META),
        (WHOLE[128:], EXPLICIT, ("no preamble",)),
        (WHOLE[132:], EXPLICIT, ("no preamble",)),
        # A command group, left in from a network message.
        (struct.pack("<HHLH", 0, 0x0100, 2, 1) + without_meta(implicit=True), IMPLICIT, NO_META),
        *((start + WHOLE[len(start) :], EXPLICIT, ()) for start in (b"MZ\x90\0", b"\x7fELF", b"II*\0")),
        (named_as(IMPLICIT, EXPLICIT), IMPLICIT, (MISNAMED,)),
        (named_as(EXPLICIT, IMPLICIT), EXPLICIT, (MISNAMED,)),
        (named_as(BIG, EXPLICIT), BIG, (MISNAMED,)),
        (named_as(EXPLICIT, BIG), EXPLICIT, (MISNAMED,)),
        (named_as(BIG, IMPLICIT), BIG, (MISNAMED,)),
    ],
)  # fmt: skip
def test_odd_files(tmp_path: Path, data: bytes, syntax: str, oddities: tuple[str, ...]) -> None:
    path = save(tmp_path / "a", data)
    got = read(path)
    assert (got.syntax, got.oddities) == (syntax, oddities)
    assert np.array_equal(pixels(path)[0], picture())


@pytest.mark.parametrize("lacking", ["InstanceNumber", "SeriesNumber"])
def test_without_numbers_messages_name_the_file(tmp_path: Path, lacking: str) -> None:
    assert read(write(tmp_path / "a.dcm", make_dataset(**{lacking: None}))).where == "a.dcm"


def test_is_dicomdir(tmp_path: Path) -> None:
    made = Dataset()
    made.SOPClassUID = uid.MediaStorageDirectoryStorage
    made.FileSetID = "X"
    made.DirectoryRecordSequence = Sequence()
    assert is_dicomdir(read(write(tmp_path / "a.dcm", made)))
    assert not is_dicomdir(read(write(tmp_path / "b.dcm", make_dataset())))
    assert is_dicomdir(tmp_path / "dicomdir")
    assert not is_dicomdir(tmp_path / "dicomdir.dcm")


def test_never_opens_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(NothingReadableError):
            read(path)


@pytest.mark.slow
@pytest.mark.data
def test_real_headers(data: Path) -> None:
    pool = Pool()
    for path in sorted((data / "dicom").rglob("*")):
        if path.is_file():
            got = read_instance(path, path.name, Budget(DEFAULT_LIMITS), pool)
            assert got.where.startswith("series ")
            assert got.oddities == (), path.name
            assert got.header.Modality == "MR"
            assert got.pixels
            assert not any(one.tag.is_private for one in got.header.iterall())


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "a.dcm"),
        (b"\x08\0", "a.dcm"),
        (b"hello, this is a text file. " * 40, "a.dcm"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "a.dcm"),
        (b"\0" * 2000, "a.dcm"),
        (b"\xff" * 2000, "a.dcm"),
        (b"\0" * 128 + b"DICM", "a.dcm"),
        (b"\0" * 128 + b"DICM" + b"\x5a" * 900, "a.dcm"),
        (b"\x08\0\x05\0CS\xff\xff" + b"\0" * 90, "a.dcm"),
        (WHOLE[:-7], "series 3, instance 12"),
        (WHOLE[:330], "a.dcm"),
    ],
)
def test_damaged(tmp_path: Path, data: bytes, where: str) -> None:
    with pytest.raises(DamagedInputError) as caught:
        read(save(tmp_path / "a.dcm", data))
    assert caught.value.where == where


@pytest.mark.parametrize("syntax", NATIVE)
def test_truncated_anywhere(tmp_path: Path, syntax: str) -> None:
    """Cut at any length it is read or refused; and its pixels are never made up."""
    whole = file_bytes(make_dataset(), syntax)
    last = len(whole) - 2 if "1.99" in syntax else 900
    for cut in range(100, last, 23 if "1.99" in syntax else 7):
        path = save(tmp_path / "a.dcm", whole[:cut])
        with pytest.raises(GliosightError) as caught:
            pixels(path)
        assert caught.value.exit_code in (4, 5), cut


def test_deflated_damaged(tmp_path: Path) -> None:
    data = file_bytes(make_dataset(), uid.DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<L", data[140:144])[0]
    for damaged in (b"\x13\x37" + data[start + 2 :], b""):
        with pytest.raises(DamagedInputError):
            pixels(save(tmp_path / "a.dcm", data[:start] + damaged))


NEVER = (
    uid.RawDataStorage,
    uid.EncapsulatedPDFStorage,
    uid.ComprehensiveSRStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.SegmentationStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MediaStorageDirectoryStorage,
)
PRIVATE = ("1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.1")


def endless(length: int) -> Callable[[bytes], bytes]:
    """A sequence of this length without items before the pixels."""
    sequence = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, length)
    return lambda data: data.replace(PIXEL_HEAD, sequence + PIXEL_HEAD)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut in the pixels": lambda data: data[:-7],
    "cut in the header": lambda data: data[: data.rindex(PIXEL_HEAD) - 5],
    "cut behind its class": lambda data: data[: data.index(b"\x08\0\x18\0UI") + 3],
    "cut between elements": lambda data: data[: data.index(b"\x08\0\x18\0UI")],
    "a length beyond the end": endless(0xFFFFFF00),
    "no items": endless(0xFFFFFFFF),
}


def broken_beside_whole(
    folder: Path, breaking: str, sop_class: str, series: str = "1.2.3.99"
) -> tuple[Path, list[GliosightError], list[GliosightError]]:
    """A broken file; the problems of it beside a whole image, and alone."""
    other, whole = folder / "other", folder / "whole"
    made = make_dataset(SOPClassUID=sop_class, SeriesInstanceUID=series)
    save(other, BROKEN[breaking](file_bytes(made)))
    save(whole, WHOLE)
    instances, beside = discover([other, whole], folder, Budget(DEFAULT_LIMITS))
    assert instances[-1].path == whole
    _, alone = discover([other], folder, Budget(DEFAULT_LIMITS))
    return other, [error for _, error in beside], [error for _, error in alone]


@pytest.mark.parametrize("breaking", BROKEN)
@pytest.mark.parametrize("sop_class", NEVER, ids=lambda one: one.name)
def test_broken_object_that_is_never_analysed(
    tmp_path: Path, sop_class: str, breaking: str
) -> None:
    """It costs the image beside it nothing; alone it is named for what it is."""
    _, beside, (problem,) = broken_beside_whole(tmp_path, breaking, sop_class)
    assert beside == []
    assert problem.exit_code == 5
    assert uid.UID(sop_class).name in problem.what


@pytest.mark.parametrize("breaking", ["cut in the pixels", "cut in the header", "no items"])
@pytest.mark.parametrize("sop_class", PRIVATE)
def test_broken_object_of_a_private_class(tmp_path: Path, sop_class: str, breaking: str) -> None:
    """In a series of its own it costs nothing; among MR images it may be one of them."""
    _, beside, (problem,) = broken_beside_whole(tmp_path, breaking, sop_class)
    assert beside == []
    assert (problem.exit_code, "private class" in problem.what) == (5, True)
    series = str(make_dataset().SeriesInstanceUID)
    _, (problem,), _ = broken_beside_whole(tmp_path, breaking, sop_class, series)
    assert problem.exit_code == 4


@pytest.mark.parametrize("breaking", BROKEN)
@pytest.mark.parametrize("sop_class", [*sorted(MR_IMAGES), PRIVATE[1], "1.2.840.9"], ids=str)
def test_broken_image_is_a_problem(tmp_path: Path, sop_class: str, breaking: str) -> None:
    """So is an object whose class nobody knows: it may be a slice."""
    series = str(make_dataset().SeriesInstanceUID)
    _, beside, _ = broken_beside_whole(tmp_path, breaking, sop_class, series)
    # Cut between elements it is told with the pixels that it lacks.
    expected = [] if breaking == "cut between elements" else [4]
    assert [error.exit_code for error in beside] == expected


def test_all_syntaxes_that_are_promised() -> None:
    """DESIGN's list; the rows agree with pydicom."""
    assert set(SYNTAXES) == {*NATIVE, *LOSSLESS, *LOSSY, uid.JPEGBaseline8Bit}
    for name, row in SYNTAXES.items():
        assert row.uid == name
        assert row.native is not uid.UID(name).is_encapsulated
        assert row.lossy is (name in (*LOSSY, uid.JPEGBaseline8Bit))
        assert refusal(name, "x") is None


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


@pytest.mark.parametrize(
    ("syntax", "stated", "lossy"),
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
def test_lossy(syntax: str, stated: str | None, lossy: bool) -> None:
    header: Any = Dataset()
    if stated is not None:
        header.LossyImageCompression = stated
    assert is_lossy(syntax, header) is lossy
