"""Elements of a header: which are kept and shared, and what becomes of odd ones."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import STANDARD_VR

import gliosight
from gliosight.dicom import quietly
from gliosight.errors import DamagedInputError
from gliosight.read.dicom import elements
from gliosight.read.dicom.elements import Pool
from gliosight.read.dicom.instances import Instance, read_instance
from gliosight.read.dicom.series import series_of
from gliosight.read.limits import DEFAULT_LIMITS, Budget

from .builders_files import (
    NATIVE,
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


def test_what_nothing_reads_is_dropped(tmp_path: Path) -> None:
    made = make_dataset(PixelPaddingValue=1)
    made.add_new("EncapsulatedDocument", "OB", b"x" * 70_000)
    made.add_new("TextValue", "UT", "x" * 70_000)
    made.add_new(0x00090010, "LO", "SECRET CREATOR")
    made.add_new(0x00091001, "SQ", Sequence([Dataset()]))
    inner = Dataset()
    inner.add_new(0x00110010, "LO", "SECRET CREATOR")
    inner.CodeValue = "1"
    made.DeidentificationMethodCodeSequence = Sequence([inner])
    made.ProcedureCodeSequence = Sequence([inner])
    for syntax in NATIVE:
        header = read(write(tmp_path / "a.dcm", make_copy(made), syntax)).header
        assert "EncapsulatedDocument" not in header
        assert "TextValue" not in header
        assert not any(one.tag.is_private for one in header.iterall())
        assert header.DeidentificationMethodCodeSequence[0].CodeValue == "1"
        assert "ProcedureCodeSequence" not in header  # nothing reads it


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
    assert len(wanted) > 15
    assert wanted <= elements.SEQUENCES


PLACES: dict[str, Callable[[bytes, bool], bytes]] = {
    "top": lambda element, _: element,
    "an item that is read": lambda element, defined: raw_sequence(
        0x00120064, [element], defined=defined
    ),
    "an item that is not read": lambda element, defined: raw_sequence(
        0x00081140, [element], defined=defined
    ),
    "a functional group": lambda element, defined: raw_sequence(
        0x52009229, [raw_sequence(0x00209113, [element], defined=defined)], defined=defined
    ),
    "a group of unknown VR": lambda element, defined: raw_sequence(
        0x52009229,
        [raw_sequence(0x00209113, [element], defined=defined, vr=b"UN")],
        defined=defined,
    ),
}


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("vr", sorted(STANDARD_VR))
def test_no_value_is_unknown(tmp_path: Path, vr: str, place: str, defined: bool) -> None:
    """Every element may be without a value (Type 2, and of what is written by many programs any)."""
    for tag in (0x00189087, 0x00281053, 0x00080100, 0x00190010, 0x00280FFF):
        element = PLACES[place](raw_element(tag, vr.encode(), b""), defined)
        instance = read(save(tmp_path / "a.dcm", with_element(element)))
        assert instance.oddities == ()
        assert all(
            not element.value or element.VR == "SQ"
            for element in instance.header.iterall()
            if element.tag == tag
        )
        assert instance.header.Rows == 40


@pytest.mark.parametrize("syntax", NATIVE)
def test_no_value_in_every_syntax(tmp_path: Path, syntax: str) -> None:
    empty = Dataset()
    for keyword in ("DiffusionBValue", "InStackPositionNumber", "EchoTime", "Rows", "CodeValue"):
        setattr(empty, keyword, None)
    group = Dataset()
    group.MRDiffusionSequence = Sequence([empty])
    made = make_dataset(PerFrameFunctionalGroupsSequence=Sequence([group]), EchoTime=None)
    header = read(write(tmp_path / "a.dcm", made, syntax)).header
    (inside,) = header.PerFrameFunctionalGroupsSequence[0].MRDiffusionSequence
    assert [one.value for one in (*inside, header["EchoTime"])] == [
        "",
        None,
        None,
        None,
        None,
        None,
    ]


NO_NUMBERS = ("1.2.3", "1,5", "abc", "1e", "--4", "0x10", "1 2", "1_0")


@pytest.mark.parametrize("text", NO_NUMBERS)
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


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf"])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_number_that_is_not_finite(tmp_path: Path, keyword: str, value: str) -> None:
    tag = keyword_dict[keyword]
    path = save(tmp_path / "a.dcm", with_element(raw_element(tag, b"DS", value.encode().ljust(4))))
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


def state() -> tuple[object, ...]:
    """What of the process pydicom's reading could change."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    return (
        config.settings.reading_validation_mode,
        config.settings.writing_validation_mode,
        [(one.disabled, one.propagate, one.level, list(one.handlers)) for one in loggers],
        list(warnings.filters),
        warnings.showwarning,
    )


def test_nothing_is_logged_and_settings_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = state()
    with caplog.at_level(logging.DEBUG):
        read(save(tmp_path / "a.dcm", with_element(raw_element(0x00281050, b"DS", b"abc "))))
    assert not caplog.records
    assert state() == before


def test_several_threads_leave_the_process_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each waits in the midst of its reading until all others are about to read."""
    path = save(tmp_path / "a.dcm", with_element(raw_element(0x00080005, b"CS", b"nonsense")))
    before, together = state(), threading.Barrier(4)

    def many(_: int) -> list[Instance]:
        together.wait(10)
        return [read(path) for _ in range(30)]

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            read_at_once = [one for some in threads.map(many, range(4)) for one in some]
    finally:
        sys.setswitchinterval(switch)
    assert {one.oddities for one in read_at_once} == {("wrong character set",)}
    assert state() == before
    assert not caplog.records


def test_two_threads_are_never_quiet_at_once() -> None:
    """The settings are the process's: one that came back in the other's midst would stay changed."""
    before, inside, asked = state(), threading.Event(), threading.Event()
    order: list[str] = []

    def second() -> None:
        asked.set()
        with quietly():
            order.append("second")

    with quietly():
        thread = threading.Thread(target=second)
        thread.start()
        assert asked.wait(10)
        assert not inside.wait(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert state() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_until_the_settings_are_back() -> None:
    before, inside, leave = state(), threading.Event(), threading.Event()

    def busy() -> None:
        with quietly():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=busy)
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.2, leave.set).start()
    child = os.fork()
    if child == 0:
        with quietly():  # the lock is free, too
            pass
        os._exit(0 if state() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join(10)


def test_pool_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(elements, "POOLED", 40)
    pool = Pool()
    for number in range(20):
        item = Dataset()
        item.CodeValue = str(number)
        made = make_dataset(
            InstanceNumber=number, DeidentificationMethodCodeSequence=Sequence([item] * 3)
        )
        path = write(tmp_path / "a.dcm", made)
        assert (
            read_instance(path, "x", Budget(DEFAULT_LIMITS), pool).header.InstanceNumber == number
        )
        assert len(pool.elements) <= 40
        assert len(pool.items) <= 40
