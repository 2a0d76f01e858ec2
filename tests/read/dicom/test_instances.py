"""One file's header: what odd files still give, what hostile ones cost, and how messages name them."""

from __future__ import annotations

import io
import logging
import os
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import config, uid
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from gliosight.errors import (
    DamagedInputError,
    GliosightError,
    LimitExceededError,
    NothingReadableError,
)
from gliosight.read.dicom import bounded, headers
from gliosight.read.dicom.headers import Pool
from gliosight.read.dicom.instances import is_dicomdir, read_instance
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

from .builders_files import NATIVE, OneFrame, file_bytes, make_dataset, picture, read, write

PIXELS = b"\xe0\x7f\x10\x00OW\0\0"


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pixels(path: Path) -> Any:
    return read_pixels([OneFrame(read(path))], Budget(DEFAULT_LIMITS))[0]  # type: ignore[list-item]


# --- what is read --------------------------------------------------------------------------------


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
        assert path.read_bytes().rindex(tag) == got.pixel_offset


def test_pixels_are_not_kept(tmp_path: Path) -> None:
    """Memory of a header does not grow with its image, deflated or not."""
    for syntax in (uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian):
        noise = np.random.default_rng(0).integers(0, 4096, (2000, 2000))
        path = write(tmp_path / "a.dcm", make_dataset(noise), syntax)
        tracemalloc.start()
        kept = read(path)
        now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept.pixel_offset
        assert now < 500_000
        assert most < 5_000_000


def test_private_and_large_values_are_dropped(tmp_path: Path) -> None:
    made = make_dataset(PixelPaddingValue=1)
    made.add_new("EncapsulatedDocument", "OB", b"x" * 70_000)
    made.add_new("TextValue", "UT", "x" * 70_000)
    made.add_new(0x00090010, "LO", "SECRET CREATOR")
    made.add_new(0x00091001, "SQ", Sequence([Dataset()]))
    inner = Dataset()
    inner.add_new(0x00110010, "LO", "SECRET CREATOR")
    inner.CodeValue = "1"
    made.ProcedureCodeSequence = Sequence([inner])
    for syntax in NATIVE:
        header = read(write(tmp_path / "a.dcm", make_copy(made), syntax)).header
        assert "EncapsulatedDocument" not in header
        assert "TextValue" not in header
        assert not any(one.tag.is_private for one in header.iterall())
        assert header.ProcedureCodeSequence[0].CodeValue == "1"


def make_copy(made: Dataset) -> Dataset:
    out = Dataset()
    out.update(made)
    return out


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("undefined", [False, True])
def test_long_sequences_are_kept(tmp_path: Path, syntax: str, undefined: bool) -> None:
    """Functional groups are longer than 64 KiB, and nested; lengths defined or not."""
    made = make_dataset()
    groups = []
    for number in range(1000):
        plane, item = Dataset(), Dataset()
        plane.ImagePositionPatient = [1.5, 2.5, float(number)]
        item.PlanePositionSequence = Sequence([plane])
        item.is_undefined_length_sequence_item = undefined
        groups.append(item)
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    made["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    got = read(write(tmp_path / "a.dcm", made, syntax)).header.PerFrameFunctionalGroupsSequence
    assert len(got) == 1000
    assert got[-1].PlanePositionSequence[0].ImagePositionPatient == [1.5, 2.5, 999]


def test_equal_elements_are_shared(tmp_path: Path) -> None:
    pool = Pool()
    first, second = (
        read_instance(
            write(tmp_path / f"{k}.dcm", make_dataset(InstanceNumber=k)),
            "x",
            Budget(DEFAULT_LIMITS),
            pool,
        ).header
        for k in (1, 2)
    )
    assert first["PatientName"] is second["PatientName"]
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)


def test_pool_tells_character_sets_apart(tmp_path: Path) -> None:
    """The same bytes are another name in another character set."""
    pool = Pool()
    names = []
    for charset in ("ISO_IR 100", "ISO_IR 144"):
        made = make_dataset(SpecificCharacterSet=charset)
        made.PatientName = b"\xb4\xde"
        path = write(tmp_path / "a.dcm", made)
        names.append(str(read_instance(path, "x", Budget(DEFAULT_LIMITS), pool).header.PatientName))
    assert names == ["\xb4\xde", "\u0414\u043e"]


# --- odd, but read -------------------------------------------------------------------------------


def without_meta(made: Dataset, *, implicit: bool, little: bool = True) -> bytes:
    out = io.BytesIO()
    dcmwrite(out, made, implicit_vr=implicit, little_endian=little)
    return out.getvalue()


@pytest.mark.parametrize(
    ("implicit", "little", "syntax"),
    [
        (True, True, uid.ImplicitVRLittleEndian),
        (False, True, uid.ExplicitVRLittleEndian),
        (False, False, uid.ExplicitVRBigEndian),
    ],
)
def test_no_preamble_no_meta(tmp_path: Path, implicit: bool, little: bool, syntax: str) -> None:
    made = make_dataset()
    if not little:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").byteswap().tobytes()
    path = save(tmp_path / "a", without_meta(made, implicit=implicit, little=little))
    got = read(path)
    assert got.syntax == syntax
    assert got.oddities == ("no preamble", "no meta header")
    assert np.array_equal(pixels(path), picture())


@pytest.mark.parametrize("keep", [0, 4])
def test_no_preamble_but_meta(tmp_path: Path, keep: int) -> None:
    """Cut off with or without the magic bytes that follow it."""
    data = file_bytes(make_dataset())[132 - keep :]
    path = save(tmp_path / "a", data)
    assert read(path).oddities == ("no preamble",)
    assert np.array_equal(pixels(path), picture())


@pytest.mark.parametrize("start", [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b"II*\0"])
def test_preamble_of_an_executable_is_ignored(tmp_path: Path, start: bytes) -> None:
    data = file_bytes(make_dataset())
    path = save(tmp_path / "a.dcm", start + data[len(start) :])
    got = read(path)
    assert got.oddities == ()
    assert np.array_equal(pixels(path), picture())


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian),
        (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian),
        (uid.ExplicitVRBigEndian, uid.ExplicitVRLittleEndian),
        (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian),
        (uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian),
    ],
)
def test_wrong_transfer_syntax(tmp_path: Path, written: str, named: str) -> None:
    """Written in one native syntax, named as another."""
    data = file_bytes(make_dataset(), written)
    old, new = (one.encode() + b"\0" * (len(one) % 2) for one in (written, named))
    place = data.index(b"\x02\0\x10\0UI")
    data = data[: place + 6] + struct.pack("<H", len(new)) + new + data[place + 8 + len(old) :]
    path = save(tmp_path / "a.dcm", data)
    got = read(path)
    assert got.syntax == written
    assert "not in the transfer syntax that it names" in got.oddities
    assert np.array_equal(pixels(path), picture())


def raw_element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def with_element(element: bytes, before: bytes = PIXELS) -> bytes:
    """A file with raw bytes before its pixels."""
    data = file_bytes(make_dataset())
    place = data.rindex(before)
    return data[:place] + element + data[place:]


@pytest.mark.parametrize(
    ("element", "oddity"),
    [
        pytest.param(raw_element(0x00280301, b"ZZ", b"ab"), "BurnedIn", id="unknown VR"),
        pytest.param(
            raw_element(0x00281050, b"DS", b"abc "), "unreadable values: WindowCenter", id="DS"
        ),
        pytest.param(
            raw_element(0x00281050, b"DS", b"1,5 "), "unreadable values: WindowCenter", id="comma"
        ),
        pytest.param(
            raw_element(0x00281050, b"IS", b"abc "), "unreadable values: WindowCenter", id="IS"
        ),
        pytest.param(raw_element(0x00280107, b"US", b"abc"), "", id="odd length"),
        pytest.param(raw_element(0x00281054, b"LO", b"\xff\xfe\x1b$B"), "", id="escape sequences"),
        pytest.param(raw_element(0x00281055, b"LO", b"x" * 500), "", id="too long"),
        pytest.param(raw_element(0x00281050, b"UN", b"5 "), "", id="UN of a known element"),
        pytest.param(raw_element(0x00280FFF, b"LO", b"ab"), "", id="unknown public element"),
        pytest.param(raw_element(0x00281050, b"DS", b"1\\" * 2000), "", id="many values"),
    ],
)
def test_odd_elements(tmp_path: Path, element: bytes, oddity: str) -> None:
    """What cannot be converted is left out; nothing warns, now or when it is looked at."""
    path = save(tmp_path / "a.dcm", with_element(element))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read(path)
        for one in got.header.iterall():
            assert one.value is None or str(one.value) is not None
    assert oddity in " ".join(got.oddities)
    assert np.array_equal(pixels(path), picture())


@pytest.mark.parametrize("charset", ["ISO_IR 999", "nonsense", "ISO 2022 IR 6\\ISO 2022 IR 999"])
def test_wrong_character_set(tmp_path: Path, charset: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns while it writes
        path = write(tmp_path / "a.dcm", make_dataset())
        data = path.read_bytes()
    new = charset.encode() + b" " * (len(charset) % 2)
    element = raw_element(0x00080005, b"CS", b"ISO_IR 100")
    path.write_bytes(data.replace(element, raw_element(0x00080005, b"CS", new)))
    got = read(path)
    assert got.oddities == ("wrong character set",)
    assert str(got.header.PatientName) == "Secret^Name"


def test_nothing_is_logged_and_settings_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mode = config.settings.reading_validation_mode
    with caplog.at_level(logging.DEBUG):
        read(save(tmp_path / "a.dcm", with_element(raw_element(0x00281050, b"DS", b"abc "))))
    assert not caplog.records
    assert config.settings.reading_validation_mode == mode
    assert not logging.getLogger("pydicom").disabled


def test_group_length_and_command_elements(tmp_path: Path) -> None:
    command = struct.pack("<HHLH", 0, 0x0100, 2, 1)
    made = without_meta(make_dataset(), implicit=True)
    path = save(tmp_path / "a", command + made)
    assert np.array_equal(pixels(path), picture())


@pytest.mark.parametrize(
    ("elements", "where"),
    [
        ({}, "series 3, instance 12"),
        ({"InstanceNumber": None}, "a.dcm"),
        ({"SeriesNumber": None}, "a.dcm"),
    ],
)
def test_where(tmp_path: Path, elements: dict[str, Any], where: str) -> None:
    assert read(write(tmp_path / "a.dcm", make_dataset(**elements))).where == where


def test_is_dicomdir(tmp_path: Path) -> None:
    made = Dataset()
    made.SOPClassUID = uid.MediaStorageDirectoryStorage
    made.FileSetID = "X"
    made.DirectoryRecordSequence = Sequence()
    assert is_dicomdir(read(write(tmp_path / "a.dcm", made)))
    assert not is_dicomdir(read(write(tmp_path / "b.dcm", make_dataset())))
    assert is_dicomdir(tmp_path / "dicomdir")
    assert not is_dicomdir(tmp_path / "dicomdir.dcm")


# --- damaged and hostile -------------------------------------------------------------------------


def nested(depth: int, *, defined: bool) -> bytes:
    """Sequences in sequences, each of one item."""
    body = b""
    for _ in range(depth):
        size = len(body) if defined else 0xFFFFFFFF
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size) + body
        if not defined:
            item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        size = len(item) if defined else 0xFFFFFFFF
        body = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, size) + item
        if not defined:
            body += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return body


def length_lies(length: int, tag: int = 0x00204000) -> bytes:
    return with_element(struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"UT", 0, length))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\x08\0", None, id="two bytes"),
        pytest.param(b"hello, this is a text file. " * 40, None, id="text"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 500, None, id="png"),
        pytest.param(b"\0" * 2000, None, id="zeros"),
        pytest.param(b"\xff" * 2000, None, id="ones"),
        pytest.param(b"\0" * 128 + b"DICM", None, id="magic only"),
        pytest.param(b"\0" * 128 + b"DICM" + b"\x5a" * 900, None, id="magic and junk"),
        pytest.param(b"\x08\0\x05\0CS\xff\xff" + b"\0" * 90, None, id="bare and cut"),
        pytest.param(length_lies(0xFFFFFFF0), "12", id="4 GiB value"),
        pytest.param(length_lies(0x00FFFFF0), "12", id="16 MiB value"),
        pytest.param(length_lies(0xFFFFFFF0, 0x00090010), "12", id="4 GiB private value"),
        pytest.param(length_lies(0xFFFFFFFF), "12", id="endless value"),
        pytest.param(
            with_element(struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFF00)),
            "12",
            id="4 GiB sequence",
        ),
        pytest.param(with_element(nested(40, defined=True)), "12", id="nested 40"),
        pytest.param(with_element(nested(5000, defined=False)), "12", id="nested 5000 undefined"),
        pytest.param(with_element(nested(5000, defined=True)), "12", id="nested 5000"),
        pytest.param(with_element(nested(40, defined=False)), "12", id="nested 40 undefined"),
        pytest.param(file_bytes(make_dataset())[:-7], "12", id="pixels cut short"),
        pytest.param(file_bytes(make_dataset())[:330], None, id="meta header cut short"),
    ],
)
def test_damaged(tmp_path: Path, data: bytes, where: str | None) -> None:
    path = save(tmp_path / "a.dcm", data)
    tracemalloc.start()
    with pytest.raises(DamagedInputError) as caught:
        read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.where == ("a.dcm" if where is None else "series 3, instance 12")
    assert most < 20_000_000


def test_item_longer_than_its_sequence(tmp_path: Path) -> None:
    """Read as far as the sequence goes, as pydicom does; nothing is allocated for the rest."""
    element = (
        struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 20)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0x7FFFFFFF)
        + raw_element(0x00080100, b"SH", b"ABCD")
    )
    got = read(save(tmp_path / "a.dcm", with_element(element)))
    assert got.header.ContentSequence[0].CodeValue == "ABCD"


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


def outcome(path: Path) -> int:
    """The exit code; every element of what is read is looked at."""
    try:
        got = read(path)
        assert [str(one.value) for one in got.header.iterall()]
        read_pixels([OneFrame(got)], Budget(Limits(decoded_bytes=1 << 26)))  # type: ignore[list-item]
    except GliosightError as error:
        return error.exit_code
    return 0


def test_byte_flips(tmp_path: Path) -> None:
    """Whatever byte is wrong: an answer or one of our errors, and what is kept can be looked at."""
    random = np.random.default_rng(11)
    for syntax in NATIVE:
        whole = bytearray(file_bytes(make_dataset(), syntax))
        for _ in range(80):
            data = bytearray(whole)
            for place in random.integers(128, 900, random.integers(1, 6)):
                data[place % len(data)] = random.integers(256)
            path = save(tmp_path / "a.dcm", bytes(data))
            assert outcome(path) in (0, 4, 5, 6)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda raw: raw[: len(raw) // 4], DamagedInputError, id="cut short"),
        pytest.param(lambda raw: b"\x13\x37" + raw[2:], DamagedInputError, id="no deflate"),
        pytest.param(lambda _: b"", DamagedInputError, id="nothing"),
    ],
)
def test_deflated_damaged(
    tmp_path: Path, make: Callable[[bytes], bytes], error: type[Exception]
) -> None:
    data = file_bytes(make_dataset(), uid.DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<L", data[140:144])[0]
    path = save(tmp_path / "a.dcm", data[:start] + make(data[start:]))
    with pytest.raises(error):
        pixels(path)


def test_deflated_bombs(tmp_path: Path) -> None:
    """A private value, then pixels, that inflate a thousandfold; nothing near that is allocated."""
    made = make_dataset(Rows=6_800, Columns=6_800)
    data = file_bytes(made, uid.DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<L", data[140:144])[0]
    plain = zlib.decompress(data[start:], -15)
    size = 90 * 2**20
    place = plain.rindex(PIXELS)
    head = struct.pack("<HH2sHL", 0x0029, 0x1010, b"OB", 0, size)
    for body in (plain[:place] + head, plain[:place] + PIXELS + struct.pack("<L", size)):
        engine = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = engine.compress(body)
        packed += b"".join(engine.compress(b"\0" * 2**20) for _ in range(90)) + engine.flush()
        path = save(tmp_path / "a.dcm", data[:start] + packed)
        tracemalloc.start()
        with pytest.raises(LimitExceededError, match="expands"):
            pixels(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 180 * 2**20


@pytest.mark.parametrize("defined", [True, False])
def test_millions_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defined: bool) -> None:
    """An empty item takes 8 bytes in a file and a kilobyte in memory."""
    monkeypatch.setattr(bounded, "HEADER_COST", 2_000_000)
    monkeypatch.setattr(
        bounded.bounded, "__kwdefaults__", {"deflated_from": None, "cost": 2_000_000}
    )
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 40_000
    size = len(items) if defined else 0xFFFFFFFF
    end = b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    sequence = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, size) + items + end
    path = save(tmp_path / "a.dcm", with_element(sequence))
    with pytest.raises(LimitExceededError, match="too many") as caught:
        read(path)
    assert caught.value.where == "series 3, instance 12"


def test_pool_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(headers, "POOLED", 40)
    pool = Pool()
    for number in range(20):
        path = write(tmp_path / "a.dcm", make_dataset(InstanceNumber=number))
        assert (
            read_instance(path, "x", Budget(DEFAULT_LIMITS), pool).header.InstanceNumber == number
        )
        assert len(pool.known) <= 40


def test_never_opens_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(NothingReadableError):
            read(path)


@pytest.mark.data
def test_real_headers(data: Path) -> None:
    pool = Pool()
    for path in sorted((data / "dicom").rglob("*")):
        if path.is_file():
            got = read_instance(path, path.name, Budget(DEFAULT_LIMITS), pool)
            assert got.where.startswith("series ")
            assert got.oddities == (), path.name
            assert got.header.Modality == "MR"
            assert got.pixel_offset
            assert not any(one.tag.is_private for one in got.header.iterall())
