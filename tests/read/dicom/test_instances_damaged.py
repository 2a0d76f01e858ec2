"""Damaged and hostile files: a line that names them, and next to no memory."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from gliosight.errors import DamagedInputError, GliosightError, LimitExceededError
from gliosight.read.dicom import elements
from gliosight.read.dicom.files import discover
from gliosight.read.dicom.instances import MR_IMAGES
from gliosight.read.dicom.pixels import read_pixels
from gliosight.read.limits import DEFAULT_LIMITS, Budget, Limits

from .builders_files import (
    DECODER,
    NATIVE,
    PIXEL_HEAD,
    OneFrame,
    file_bytes,
    make_dataset,
    pixels,
    raw_element,
    raw_sequence,
    read,
    save,
    with_element,
)


def nested(depth: int, *, defined: bool) -> bytes:
    """Sequences that are read in sequences, each of one item."""
    body = b""
    for _ in range(depth):
        size = len(body) if defined else 0xFFFFFFFF
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size) + body
        if not defined:
            item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        size = len(item) if defined else 0xFFFFFFFF
        body = struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, size) + item
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
    """Read as far as the sequence goes; nothing is allocated for the rest."""
    element = (
        struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, 20)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0x7FFFFFFF)
        + raw_element(0x00080100, b"SH", b"ABCD")
    )
    got = read(save(tmp_path / "a.dcm", with_element(element)))
    assert got.header.PerFrameFunctionalGroupsSequence[0].CodeValue == "ABCD"


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
        read_pixels([OneFrame(got)], Budget(Limits(decoded_bytes=1 << 26)), DECODER)  # type: ignore[list-item]
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
    place = plain.rindex(PIXEL_HEAD)
    head = struct.pack("<HH2sHL", 0x0029, 0x1010, b"OB", 0, size)
    for body in (plain[:place] + head, plain[:place] + PIXEL_HEAD + struct.pack("<L", size)):
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
def test_more_items_than_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defined: bool
) -> None:
    """An item that differs from the others takes a kilobyte of memory, whatever it takes in the file."""
    monkeypatch.setattr(elements, "HEADER_COST", 2_000_000)
    items = [raw_element(0x00080100, b"SH", b"%04d" % number) for number in range(4_000)]
    sequence = raw_sequence(0x52009230, items, defined=defined)
    path = save(tmp_path / "a.dcm", with_element(sequence))
    with pytest.raises(LimitExceededError, match="too many") as caught:
        read(path)
    assert caught.value.where == "series 3, instance 12"


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("tag", [0x0040A730, 0x52009230, 0x20051402], ids=hex)
def test_empty_items_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: int, defined: bool
) -> None:
    """A sequence that is not read makes no object, and equal items of one that is read are one."""
    made: list[Dataset] = []

    def count(*args: Any) -> Dataset:
        made.append(Dataset(*args))
        return made[-1]

    monkeypatch.setattr(elements, "Dataset", count)
    sequence = raw_sequence(tag, [b""] * 30_000, defined=defined)
    instance = read(save(tmp_path / "a.dcm", with_element(sequence)))
    assert len(made) <= 1
    assert len(instance.header.get("PerFrameFunctionalGroupsSequence", ())) == 30_000 * len(made)


NEVER = (
    uid.MRSpectroscopyStorage,
    uid.RawDataStorage,
    uid.EncapsulatedPDFStorage,
    uid.ComprehensiveSRStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.RTStructureSetStorage,
    uid.SegmentationStorage,
    uid.SpatialRegistrationStorage,
    uid.TwelveLeadECGWaveformStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MediaStorageDirectoryStorage,
)
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut in the pixels": lambda data: data[:-7],
    "cut in the header": lambda data: data[: data.rindex(PIXEL_HEAD) - 5],
    "cut behind its class": lambda data: data[: data.index(b"\x08\0\x18\0UI") + 3],
    "cut between elements": lambda data: data[: data.index(b"\x08\0\x18\0UI")],
    "a length beyond the end": lambda data: data.replace(
        PIXEL_HEAD, struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFF00) + PIXEL_HEAD
    ),
    "no items": lambda data: data.replace(
        PIXEL_HEAD, struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + PIXEL_HEAD
    ),
    "nested absurdly": lambda data: data.replace(
        PIXEL_HEAD, nested(40, defined=False) + PIXEL_HEAD
    ),
}


@pytest.mark.parametrize("breaking", BROKEN)
@pytest.mark.parametrize("sop_class", NEVER, ids=lambda one: one.name)
def test_broken_object_that_is_never_analysed(
    tmp_path: Path, sop_class: str, breaking: str
) -> None:
    """It costs the image beside it nothing; alone it is named for what it is."""
    other, whole = tmp_path / "other", tmp_path / "whole"
    data = file_bytes(make_dataset(SOPClassUID=sop_class))
    save(other, BROKEN[breaking](data))
    save(whole, file_bytes(make_dataset()))
    beside = discover([other, whole], tmp_path, Budget(DEFAULT_LIMITS))
    assert [one.path for one in beside.instances] == [whole]
    assert beside.problems == ()
    alone = discover([other], tmp_path, Budget(DEFAULT_LIMITS))
    (problem,) = alone.problems
    assert (problem.exit_code, alone.unread) == (5, (other,))
    assert uid.UID(sop_class).name in problem.what


@pytest.mark.parametrize("breaking", ["cut in the pixels", "cut in the header", "no items"])
@pytest.mark.parametrize("sop_class", ["1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.1"])
def test_broken_object_of_a_private_class(tmp_path: Path, sop_class: str, breaking: str) -> None:
    """In a series of its own it costs nothing; among MR images it may be one of them."""
    other, whole = tmp_path / "other", tmp_path / "whole"
    made = make_dataset(SOPClassUID=sop_class, SeriesInstanceUID="1.2.3.99")
    save(other, BROKEN[breaking](file_bytes(made)))
    save(whole, file_bytes(make_dataset()))
    beside = discover([other, whole], tmp_path, Budget(DEFAULT_LIMITS))
    assert ([one.path for one in beside.instances], beside.problems) == ([whole], ())
    (problem,) = discover([other], tmp_path, Budget(DEFAULT_LIMITS)).problems
    assert (problem.exit_code, "private class" in problem.what) == (5, True)
    save(whole, file_bytes(make_dataset(SeriesInstanceUID="1.2.3.99")))
    assert discover([other, whole], tmp_path, Budget(DEFAULT_LIMITS)).unread == (other,)


@pytest.mark.parametrize("breaking", BROKEN)
@pytest.mark.parametrize(
    "sop_class", [*sorted(MR_IMAGES), "1.3.46.670589.11.0.0.12.1", "1.2.840.9"], ids=str
)
def test_broken_image_is_a_problem(tmp_path: Path, sop_class: str, breaking: str) -> None:
    """So is an object whose class nobody knows: it may be a slice."""
    save(tmp_path / "a", BROKEN[breaking](file_bytes(make_dataset(SOPClassUID=sop_class))))
    save(tmp_path / "b", file_bytes(make_dataset()))
    found = discover([tmp_path / "a", tmp_path / "b"], tmp_path, Budget(DEFAULT_LIMITS))
    if breaking == "cut between elements":  # told with the pixels that it lacks
        assert [one.pixels is None for one in found.instances] == [True, False]
    else:
        assert [one.exit_code for one in found.problems] == [4]
