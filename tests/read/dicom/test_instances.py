"""One file's header: in every native syntax, from odd files too, and how messages name it."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from gliosight.errors import NothingReadableError
from gliosight.read.dicom.elements import Pool
from gliosight.read.dicom.instances import is_dicomdir, read_instance
from gliosight.read.limits import DEFAULT_LIMITS, Budget

from .builders_files import NATIVE, file_bytes, make_dataset, picture, pixels, read, save, write


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
    assert np.array_equal(pixels(path)[0], picture())


@pytest.mark.parametrize("keep", [0, 4])
def test_no_preamble_but_meta(tmp_path: Path, keep: int) -> None:
    """Cut off with or without the magic bytes that follow it."""
    data = file_bytes(make_dataset())[132 - keep :]
    path = save(tmp_path / "a", data)
    assert read(path).oddities == ("no preamble",)
    assert np.array_equal(pixels(path)[0], picture())


@pytest.mark.parametrize("start", [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b"II*\0"])
def test_preamble_of_an_executable_is_ignored(tmp_path: Path, start: bytes) -> None:
    data = file_bytes(make_dataset())
    path = save(tmp_path / "a.dcm", start + data[len(start) :])
    got = read(path)
    assert got.oddities == ()
    assert np.array_equal(pixels(path)[0], picture())


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
    assert np.array_equal(pixels(path)[0], picture())


def test_group_length_and_command_elements(tmp_path: Path) -> None:
    command = struct.pack("<HHLH", 0, 0x0100, 2, 1)
    made = without_meta(make_dataset(), implicit=True)
    path = save(tmp_path / "a", command + made)
    assert np.array_equal(pixels(path)[0], picture())


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
