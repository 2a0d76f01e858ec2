"""Awkward DICOM that is refused, through the command: code, one line, nothing written.

One row for each cause; the table of each cause stands in `tests.read.dicom`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from gliosight.errors import DamagedInputError
from gliosight.read import Request, read

from .asserting import Capture, analyze_refuses, inspected
from .builders_dicom import (
    OTHER,
    WHOLE,
    bomb_of_pixels,
    claims,
    edit,
    edited,
    files,
    keep,
    study,
)


def _no_such(folder: Path) -> Path:
    return study(folder) / "IM_9999.dcm"


def _cut(at: Callable[[int], int], suffix: str = "", which: int = 1) -> Callable[[Path], Path]:
    """One file of a study cut off; ``suffix`` instead of its own."""

    def build(folder: Path) -> Path:
        path = study(folder)
        one = files(path)[which]
        one.write_bytes(one.read_bytes()[: at(one.stat().st_size)])
        one.rename(one.with_suffix(suffix or one.suffix))
        return path

    return build


def _mislabelled(folder: Path) -> Path:
    (folder / "IM_0001.dcm").write_bytes(b"<html>login first</html>" * 40)
    return folder / "IM_0001.dcm"


def _no_flair(folder: Path) -> Path:
    return keep(study(folder, WHOLE), lambda one: "InversionTime" not in one)


def _video(folder: Path) -> Path:
    path = study(folder)
    for one in files(path):
        made = pydicom.dcmread(one)
        made.file_meta.TransferSyntaxUID = uid.MPEG2MPML
        made.PixelData = encapsulate([bytes(64)])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.save_as(one, implicit_vr=False, little_endian=True)
    return path


def _dicomdir_that_leads_up(folder: Path) -> Path:
    path = study(folder / "inside", dicomdir=True)
    study(folder / "outside", OTHER)
    directory = pydicom.dcmread(path / "DICOMDIR")
    record = next(one for one in directory.DirectoryRecordSequence if "ReferencedFileID" in one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record.ReferencedFileID = ["..", "outside"]
        directory.save_as(path / "DICOMDIR")
    return path / "DICOMDIR"


def _only(wanted: Callable[[Dataset], bool], *traps: str) -> Callable[[Path], Path]:
    return lambda folder: keep(study(folder, WHOLE, traps=frozenset(traps)), wanted)


def _says(*words: str) -> Callable[[Dataset], bool]:
    return lambda one: bool(set(words) & set(one.ImageType))


def _is(number: int) -> Callable[[Dataset], bool]:
    return lambda one: one.SeriesNumber == number


def _as(kind: str, modality: str, *, pixels: bool = True) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = edited(folder, SOPClassUID=kind, Modality=modality)
        if not pixels:
            edit(files(path), PixelData=None, Rows=None, Columns=None)
        return path

    return build


# What is never analysed, and what `inspect` calls it.
NEVER: dict[str, tuple[Callable[[Path], Path], str]] = {
    "Siemens mosaic": (_only(_says("MOSAIC"), "mosaic"), "mosaic"),
    "screenshot": (_only(_is(9003), "screenshot"), "secondary capture"),
    "localizer": (_only(_is(1), "localizer"), "localizer"),
    "CT": (_as(uid.CTImageStorage, "CT"), "CT"),
    "report": (_as(uid.BasicTextSRStorage, "SR", pixels=False), "structured report"),
}

REFUSED: dict[str, tuple[int, Callable[[Path], Path], tuple[str, ...]]] = {
    "no such path": (3, _no_such, ("no such file",)),
    "empty folder": (3, lambda folder: folder, ("empty",)),
    "mislabelled": (4, _mislabelled, ("named .dcm", "IM_0001.dcm")),
    "cut in the pixels": (4, _cut(lambda size: size - 300), ("instance 2", "cut short")),
    "cut in the header": (4, _cut(lambda _: 700), ("cut short",)),
    "cut in the preamble": (4, _cut(lambda _: 60, ".dcm"), ("0002.dcm", "cut off at the start")),
    "nothing left of it": (4, _cut(lambda _: 0, ".dcm"), ("0002.dcm", "empty")),
    "no FLAIR": (5, _no_flair, ("no FLAIR", "T1")),
    "MPEG-2": (5, _video, ("video", "MPEG2")),
    "a deflate bomb of pixels": (6, bomb_of_pixels, ("--max-ratio",)),
    "rows beyond the limit": (6, claims(Rows=60_000, Columns=60_000), ("--max-decoded",)),
    "DICOMDIR": (4, _dicomdir_that_leads_up, ("outside its own folder",)),
    **{f"only {name}": (5, build, ("no FLAIR",)) for name, (build, _) in NEVER.items()},
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_in_one_line_with_nothing_written(
    row: str, tmp_path: Path, capsys: Capture
) -> None:
    code, build, words = REFUSED[row]
    (tmp_path / "given").mkdir()
    analyze_refuses(build(tmp_path / "given"), code, words, tmp_path, capsys)


@pytest.mark.parametrize("row", NEVER)
def test_inspect_says_why_it_is_never_analysed(row: str, tmp_path: Path, capsys: Capture) -> None:
    build, shows = NEVER[row]
    told = inspected(build(tmp_path), capsys)
    assert told["error"]["exit_code"] == 5
    for one in told["series"]:
        assert shows in one["shows"]
        assert one["problem"] == "never analysed"
        assert one["why"]
        assert one["taken_as"] is None


@pytest.mark.parametrize("size", [0, 60])
def test_a_slice_cut_to_nothing_is_missed(size: int, tmp_path: Path) -> None:
    """The last slice, so that no gap tells of it either."""
    path = _cut(lambda _: size, which=-1)(tmp_path)
    try:
        codes = {one.code for one in read(Request(path)).flags}
    except DamagedInputError:
        return
    assert codes & {"FILES_IGNORED", "MISSING_SLICES"}


@pytest.mark.parametrize("name", ["DICOMDIR", "x.dcm"])
def test_a_dicomdir_that_names_nothing(name: str, tmp_path: Path, capsys: Capture) -> None:
    """By its own name, or taken for an image."""
    directory = pydicom.dcmread(study(tmp_path / "whole", dicomdir=True) / "DICOMDIR")
    directory.DirectoryRecordSequence = []
    (tmp_path / "given").mkdir()
    directory.save_as(tmp_path / "given" / name)
    analyze_refuses(tmp_path / "given" / name, 3, (name,), tmp_path, capsys)
