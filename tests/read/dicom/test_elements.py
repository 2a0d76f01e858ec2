"""Elements of a header: which are kept and shared, what becomes of odd ones, and what they may cost."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import STANDARD_VR

import gliosight
from gliosight.errors import DamagedInputError, LimitExceededError
from gliosight.read.dicom import elements
from gliosight.read.dicom.elements import Pool
from gliosight.read.dicom.instances import read_instance
from gliosight.read.dicom.series import series_of
from gliosight.read.limits import DEFAULT_LIMITS, Budget
from tests.counting import little_memory

from .builders_files import (
    NATIVE,
    file_bytes,
    make_dataset,
    picture,
    pixels,
    raw_element,
    raw_sequence,
    read,
    save,
    with_element,
    write,
)


@pytest.mark.slow
@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("undefined", [False, True])
def test_what_is_read_is_kept_and_nothing_else(
    tmp_path: Path, syntax: str, undefined: bool
) -> None:
    """Functional groups are longer than 64 KiB, and nested; lengths defined or not."""
    made = make_dataset(EchoTime=None)
    made.add_new("EncapsulatedDocument", "OB", b"x" * 70_000)
    made.add_new("TextValue", "UT", "x" * 70_000)
    made.add_new(0x00090010, "LO", "SECRET CREATOR")
    made.add_new(0x00091001, "SQ", Sequence([Dataset()]))
    groups = []
    for number in range(1000):
        plane, item = Dataset(), Dataset()
        plane.ImagePositionPatient = [1.5, 2.5, float(number)]
        plane.DiffusionBValue = plane.CodeValue = None
        plane.add_new(0x00110010, "LO", "SECRET CREATOR")
        item.PlanePositionSequence = Sequence([plane])
        item.is_undefined_length_sequence_item = undefined
        groups.append(item)
    for keyword in ("PerFrameFunctionalGroupsSequence", "ProcedureCodeSequence"):
        setattr(made, keyword, Sequence(groups))
        made[keyword].is_undefined_length = undefined
    header = read(write(tmp_path / "a.dcm", made, syntax)).header
    for keyword in ("EncapsulatedDocument", "TextValue", "ProcedureCodeSequence"):
        assert keyword not in header
    assert not any(element.tag.is_private for element in header.iterall())
    kept = header.PerFrameFunctionalGroupsSequence
    assert len(kept) == 1000
    (plane,) = kept[-1].PlanePositionSequence
    assert plane.ImagePositionPatient == [1.5, 2.5, 999]
    assert (header.EchoTime, plane.DiffusionBValue, plane.CodeValue) == (None, None, "")


def test_every_sequence_that_is_read_is_kept() -> None:
    """Any other is stepped over, so whoever begins to read one has to add it."""
    source = Path(gliosight.__file__).parent
    modules = [
        *(source / "read" / "dicom").glob("*.py"),
        source / "write" / "dicom" / "source.py",
    ]
    named = {
        word for path in modules for word in re.findall(r"\b[A-Z]\w+Sequence\b", path.read_text())
    }
    tags = {keyword_dict[word] for word in named if word in keyword_dict}
    wanted = {tag for tag in tags if dictionary_VR(tag) == "SQ"}
    assert len(wanted) > 10
    assert wanted <= elements.SEQUENCES


PLACES: dict[str, Callable[[bytes, bool], bytes]] = {
    "top": lambda element, _: element,
    "an item that is read": lambda element, defined: raw_sequence(
        0x00120064, [element], defined=defined
    ),
    "an item that is not read": lambda element, defined: raw_sequence(
        0x00081140, [element], defined=defined
    ),
    "a functional group of unknown VR": lambda element, defined: raw_sequence(
        0x52009229,
        [raw_sequence(0x00209113, [element], defined=defined, vr=b"UN")],
        defined=defined,
    ),
}


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_no_value_is_unknown(tmp_path: Path, place: str, defined: bool) -> None:
    """Every element may be without a value (Type 2, and of what is written by many programs any)."""
    tags = (0x00080100, 0x00189087, 0x00190010, 0x00280FFF, 0x00281053)
    for vr in sorted(STANDARD_VR):
        empty = b"".join(raw_element(tag, vr.encode(), b"") for tag in tags)
        instance = read(save(tmp_path / "a.dcm", with_element(PLACES[place](empty, defined))))
        assert instance.oddities == ()
        assert instance.header.Rows == 40
        for kept in instance.header.iterall():
            assert kept.tag not in tags or kept.VR == "SQ" or not kept.value


@pytest.mark.parametrize("text", ["1.2.3", "1,5", "abc", "1e", "--4", "0x10", "1 2", "1_0"])
@pytest.mark.parametrize("defined", [True, False])
def test_value_that_is_no_number(tmp_path: Path, text: str, defined: bool) -> None:
    """It is unknown where nothing needs it; where an image does, an error names it."""
    value = text.encode() + b" " * (len(text) % 2)
    path = tmp_path / "a.dcm"
    for vr, tag, keyword in (
        (b"DS", 0x00280030, "PixelSpacing"),
        (b"DS", 0x00281053, "RescaleSlope"),
        (b"IS", 0x00280008, "NumberOfFrames"),
        (b"DS", 0x00281050, None),
        (b"IS", 0x00180091, None),
    ):
        element = raw_element(tag, vr, value)
        group = raw_sequence(0x00289145, [element], defined=defined)
        for place in (element, raw_sequence(0x52009229, [group], defined=defined)):
            instance = read(save(path, with_element(place)))
            assert " ".join(instance.oddities).startswith("unreadable values: ")
            (series,) = next(iter(series_of([instance]).values()))
            if keyword is None:
                assert series.error is None
                assert pixels(path).shape == (1, 40, 48)
            else:
                assert series.error is not None
                assert series.error.what == f"{keyword} is not a number"
                with pytest.raises(DamagedInputError, match=f"{keyword} is not a number"):
                    pixels(path)


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        (b"IS", b"2 "),
        (b"IS", b"2.0 "),
        (b"LO", b"2 "),
        (b"UN", b"2 "),
        (b"OB", b"2 "),
        (b"FD", np.float64(2).tobytes()),
        (b"US", b"\2\0"),
    ],
)
def test_number_of_another_vr(tmp_path: Path, vr: bytes, value: bytes) -> None:
    """Programs write numbers as texts, and texts as numbers."""
    path = save(tmp_path / "a.dcm", with_element(raw_element(0x00281053, vr, value)))
    assert np.array_equal(pixels(path)[0], 2.0 * picture())


@pytest.mark.parametrize(
    ("element", "oddity"),
    [
        pytest.param(raw_element(0x00280301, b"ZZ", b"ab"), "BurnedIn", id="unknown VR"),
        pytest.param(raw_element(0x00281050, b"DS", b"abc "), "WindowCenter", id="no number"),
        pytest.param(raw_element(0x00280107, b"US", b"abc"), "", id="odd length"),
        pytest.param(raw_element(0x00281054, b"LO", b"\xff\xfe\x1b$B"), "", id="escape sequences"),
        pytest.param(raw_element(0x00281055, b"LO", b"x" * 500), "", id="too long"),
        pytest.param(raw_element(0x00281050, b"UN", b"5 "), "", id="UN of a known element"),
        pytest.param(raw_element(0x00280FFF, b"LO", b"ab"), "", id="unknown public element"),
        pytest.param(raw_element(0x00281050, b"DS", b"1\\" * 2000), "", id="many values"),
    ],
)
def test_odd_elements(
    tmp_path: Path, element: bytes, oddity: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be converted is left out; nothing warns or logs, now or when it is looked at."""
    path = save(tmp_path / "a.dcm", with_element(element))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read(path)
        for one in got.header.iterall():
            assert one.value is None or str(one.value) is not None
    assert oddity in " ".join(got.oddities)
    assert np.array_equal(pixels(path)[0], picture())
    assert not caplog.records


@pytest.mark.parametrize("charset", ["ISO_IR 999", "nonsense", "ISO 2022 IR 6\\ISO 2022 IR 999"])
def test_wrong_character_set(tmp_path: Path, charset: str) -> None:
    new = charset.encode() + b" " * (len(charset) % 2)
    element = raw_element(0x00080005, b"CS", b"ISO_IR 100")
    data = file_bytes(make_dataset()).replace(element, raw_element(0x00080005, b"CS", new))
    got = read(save(tmp_path / "a.dcm", data))
    assert got.oddities == ("wrong character set",)
    assert str(got.header.PatientName) == "Secret^Name"


def test_equal_elements_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many files, as far as the pool holds; the same bytes are another name in another character set."""
    monkeypatch.setattr(elements, "POOLED", 60)
    pool = Pool()
    headers = []
    for number in range(12):
        item = Dataset()
        item.CodeValue = str(number)
        made = make_dataset(
            InstanceNumber=number, DeidentificationMethodCodeSequence=Sequence([item] * 3)
        )
        made.SpecificCharacterSet = f"ISO_IR {144 if number == 2 else 100}"
        made.PatientName = b"\xb4\xde"
        path = write(tmp_path / "a.dcm", made)
        headers.append(read_instance(path, "x", Budget(DEFAULT_LIMITS), pool).header)
        assert max(len(pool.elements), len(pool.items)) <= 60
    assert headers[0]["PatientName"] is headers[1]["PatientName"]
    assert [str(one.PatientName) for one in headers[1:3]] == ["\xb4\xde", "\u0414\u043e"]
    assert [one.InstanceNumber for one in headers] == list(range(12))
    assert headers[9].DeidentificationMethodCodeSequence[2].CodeValue == "9"


def nested(depth: int, *, defined: bool) -> bytes:
    """Sequences that are read in sequences, each of one item."""
    body = b""
    for _ in range(depth):
        size = len(body) if defined else 0xFFFFFFFF
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size) + body
        item += b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        size = len(item) if defined else 0xFFFFFFFF
        body = struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, size) + item
        body += b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return body


def head(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


@pytest.mark.parametrize(
    "element",
    [
        pytest.param(head(0x00204000, b"UT", 0xFFFFFFF0), id="4 GiB value"),
        pytest.param(head(0x00204000, b"UT", 0x00FFFFF0), id="16 MiB value"),
        pytest.param(head(0x00090010, b"UT", 0xFFFFFFF0), id="4 GiB private value"),
        pytest.param(head(0x00204000, b"UT", 0xFFFFFFFF), id="endless value"),
        pytest.param(head(0x0040A730, b"SQ", 0xFFFFFF00), id="4 GiB sequence"),
        pytest.param(nested(40, defined=True), id="nested 40"),
        pytest.param(nested(40, defined=False), id="nested 40 undefined"),
        pytest.param(nested(5000, defined=True), id="nested 5000"),
        pytest.param(nested(5000, defined=False), id="nested 5000 undefined"),
    ],
)
def test_lengths_that_lie(tmp_path: Path, element: bytes) -> None:
    path = save(tmp_path / "a.dcm", with_element(element))
    with little_memory(20_000_000), pytest.raises(DamagedInputError) as caught:
        read(path)
    assert caught.value.where == "series 3, instance 12"


def test_item_longer_than_its_sequence(tmp_path: Path) -> None:
    """Read as far as the sequence goes; nothing is allocated for the rest."""
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0x7FFFFFFF)
    element = head(0x52009230, b"SQ", 20) + item + raw_element(0x00080100, b"SH", b"ABCD")
    got = read(save(tmp_path / "a.dcm", with_element(element)))
    assert got.header.PerFrameFunctionalGroupsSequence[0].CodeValue == "ABCD"


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


@pytest.mark.slow
@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("tag", [0x0040A730, 0x52009230, 0x20051402], ids=hex)
def test_empty_items_cost_nothing(tmp_path: Path, tag: int, defined: bool) -> None:
    """A sequence that is not read makes no object, and equal items of one that is read are one."""
    path = save(
        tmp_path / "a.dcm", with_element(raw_sequence(tag, [b""] * 10_000, defined=defined))
    )
    with little_memory(2_000_000):
        header = read(path).header
    kept: Any = header.get("PerFrameFunctionalGroupsSequence", ())
    assert len(kept) == (10_000 if tag == 0x52009230 else 0)
