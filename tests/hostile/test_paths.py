"""Paths with nothing readable behind them, and things that are no files."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import pytest

from gliosight.errors import DamagedInputError, NothingReadableError, UnsupportedInputError
from gliosight.read import Limits, find

from ..read.builders import make_volume, read_path, write_lgg, write_nifti
from .asserting import refused


def fail(number: int, words: str) -> object:
    """A function that fails as the system does."""

    def raising(*_: object, **__: object) -> object:
        raise OSError(number, words)

    return raising


def test_no_such_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the neighbours of a mistyped path is no answer to it."""
    (tmp_path / "garbage.jpg").write_bytes(b"garbage")
    (tmp_path / "empty_flair.nii.gz").touch()
    write_lgg(tmp_path)
    words = ("no such file or folder", "check the path")
    for name in ("typo.nii.gz", "typo_flair.nii.gz", "typo"):
        refused(tmp_path / name, NothingReadableError, *words, name)
        refused(tmp_path / name, NothingReadableError, *words, name, limits=Limits(members=3))
    refused(tmp_path / "no" / "where", NothingReadableError, "no such file or folder")
    refused(None, NothingReadableError, "no such file", "f.nii", flair=tmp_path / "f.nii")
    refused(Path("a\0b"), NothingReadableError, "\\x00")
    refused(tmp_path / ("x" * 5000), NothingReadableError)
    monkeypatch.setattr(os, "scandir", fail(13, "Permission denied"))
    refused(tmp_path / "typo", NothingReadableError, *words, "typo")


def test_nothing_recognised_says_what_was_seen(tmp_path: Path) -> None:
    refused(tmp_path, NothingReadableError, "the folder is empty", tmp_path.name)
    (tmp_path / "sub").mkdir()
    for name in ("a.csv", "b.csv", "c.docx", "sub/d.txt", "LICENSE"):
        (tmp_path / name).write_text("text")
    error = refused(tmp_path, NothingReadableError, "NIfTI, TIFF, PNG or JPEG", "2 .csv")
    assert "1 file without suffix, 1 folder" in error.line()
    refused(tmp_path / "a.csv", NothingReadableError, "a.csv", "not an image")
    write_nifti(tmp_path / "sub" / "p_seg.nii.gz", (make_volume() > 100).astype("uint8"))
    refused(tmp_path / "sub", NothingReadableError, "1 .nii.gz mask")


def test_system_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lgg(tmp_path / "P")
    monkeypatch.setattr(os, "open", fail(13, "Permission denied"))
    refused(tmp_path / "P", NothingReadableError, "P_1.tif", "no permission", "ask its owner")
    monkeypatch.setattr(os, "open", fail(5, "Input/output error"))
    refused(tmp_path / "P" / "P_1.tif", NothingReadableError, "P_1.tif", "input/output error")


def test_special_files_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "P"
    write_lgg(folder)
    os.mkfifo(folder / "P_9.tif")
    for number, target in ((10, "P_10.tif"), (11, "/dev/zero"), (12, folder / "gone")):
        (folder / f"P_{number}.tif").symlink_to(target)
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("P_13.tif")
        study = read_path(folder)
    assert len(study.slice_names) == 5
    assert study.flags == ()


def test_special_file_as_study(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to("/dev/zero")
    for name, kind in (("a.nii", "FIFO"), ("b.nii", "device")):
        refused(tmp_path / name, NothingReadableError, f"a {kind}")
        refused(None, NothingReadableError, name, flair=tmp_path / name)
        with pytest.raises(NothingReadableError):
            find(tmp_path / name, Limits())


def test_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", NothingReadableError)
    path = write_nifti(tmp_path / "store" / "x.nii", make_volume())
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "flair.nii").symlink_to(path)
    assert read_path(tmp_path / "s").shape == (5, 24, 20)


NAMES = [
    *("with blank", "zwei\nZeilen", "скан", "絵", "e\u0301", "\x1b[31mred", "'; drop", "=1+1"),
    "dots...",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_odd_names_work(tmp_path: Path, name: str) -> None:
    write_lgg(tmp_path / name)
    study = read_path(tmp_path / name)
    assert study.study_id == name
    assert len(study.slice_names) == 5
    assert [candidate.source for candidate in find(tmp_path, Limits())] == [name]
    (tmp_path / name / f"{name}_2.tif").write_bytes(b"junk")
    refused(tmp_path / name, DamagedInputError, "_2.tif")


def test_name_that_is_no_unicode(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode only")
    refused(folder, NothingReadableError, "caf\\udce9")


TAR = b"x" * 257 + b"ustar\x0000" + b"\0" * 300
MGH = b"\0\0\0\1" + b"\0\0\1\0" * 4 + b"\0\0\0\3"
# What other files begin with, and what to do with them.
OTHER_KINDS = [
    ("a.tar", TAR, "unpack it first"),
    ("a.tar.gz", gzip.compress(TAR), "unpack it first"),
    ("a.7z", b"7z\xbc\xaf\x27\x1c", "unpack it first"),
    ("a.bmp", b"BM\0\0\0\0\0\0\0\0", "kind of picture"),
    ("a.gif", b"GIF89a", "kind of picture"),
    ("a.webp", b"RIFF\0\0\0\0WEBP", "kind of picture"),
    ("a.jp2", b"\0\0\0\x0cjP  \r\n", "kind of picture"),
    ("a.nrrd", b"NRRD0004\n", "3D Slicer"),
    ("a.mha", b"ObjectType = Image\n", "3D Slicer"),
    ("a.mnc", b"\x89HDF\r\n\x1a\n", "mnc2nii"),
    ("b.mnc", b"CDF\x01", "mnc2nii"),
    ("a.mgh", MGH, "mri_convert"),
    ("a.mgz", gzip.compress(MGH), "mri_convert"),
    ("a.PAR", b"# === DATA DESCRIPTION FILE ======", "dcm2niix"),
    ("a+orig.HEAD", b"\ntype  = string-attribute\nname = X", "3dAFNItoNIFTI"),
    ("a.npy", b"\x93NUMPY\1\0", "gliosight.analyze in Python"),
    # Pixels without their header.
    ("a.REC", b"\1", "dcm2niix"),
    ("a+orig.BRIK.gz", b"\1", "3dAFNItoNIFTI"),
]


@pytest.mark.parametrize(
    ("name", "start", "words"), OTHER_KINDS, ids=[row[0] for row in OTHER_KINDS]
)
def test_other_kinds(tmp_path: Path, name: str, start: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(start if name.endswith("gz") else start.ljust(400, b"\1"))
    refused(tmp_path / name, UnsupportedInputError, name, "read", words)
    if start != b"\1":
        refused(tmp_path, UnsupportedInputError, name, "read", words)


def test_zips_by_name(tmp_path: Path) -> None:
    """Opened only where it is given; one called an image is mislabelled; a document is no archive."""
    for number, name in enumerate(
        ("a.zip", "flair.nii.zip", "download", "a.png", "b.docx", "b.jar")
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.txt").write_text("text")
        (folder / name).write_bytes(b"PK\3\4" + b"\0" * 30)
        if name == "a.png":
            for path in (folder, folder / name):
                refused(path, DamagedInputError, name, "not such an image")
        elif name.startswith("b."):
            looked_for = "no DICOM, NIfTI, TIFF, PNG or JPEG"
            refused(folder, NothingReadableError, looked_for, f"1 {name[1:]}")
            refused(folder / name, NothingReadableError, name, "not an image")
        else:
            refused(folder, UnsupportedInputError, name, "give the zip itself")
            refused(folder / name, DamagedInputError, name, "fetch the archive again")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1--0.nii.gz\n", "datalad get"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "log in"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "error message"),
        (b'{"message":"Not Found"}', "error message"),
        (b'[ {"error": 404} ]', "error message"),
    ],
)
@pytest.mark.parametrize("name", ["flair.nii.gz", "a.dcm", "a_1.png"])
def test_text_in_the_place_of_an_image(tmp_path: Path, start: bytes, words: str, name: str) -> None:
    (tmp_path / name).write_bytes(start)
    for path in (tmp_path / name, tmp_path):
        refused(path, DamagedInputError, name, "but holds", words)


def test_a_result_of_ours_is_no_study(tmp_path: Path) -> None:
    for name in ("result.json", "report.html"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "overview.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(tmp_path, NothingReadableError, "result of gliosight")
