"""Elements of a header: which are kept and shared, and what becomes of odd ones."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gliosight.read.dicom import headers
from gliosight.read.dicom.headers import Pool
from gliosight.read.dicom.instances import read_instance
from gliosight.read.limits import DEFAULT_LIMITS, Budget

from .builders_files import (
    NATIVE,
    make_dataset,
    picture,
    pixels,
    raw_element,
    read,
    save,
    with_element,
    write,
)


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
    assert np.array_equal(pixels(path)[0], picture())


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


def test_pool_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(headers, "POOLED", 40)
    pool = Pool()
    for number in range(20):
        path = write(tmp_path / "a.dcm", make_dataset(InstanceNumber=number))
        assert (
            read_instance(path, "x", Budget(DEFAULT_LIMITS), pool).header.InstanceNumber == number
        )
        assert len(pool.known) <= 40
