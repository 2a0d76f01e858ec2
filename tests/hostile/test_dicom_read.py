"""Awkward DICOM that is read all the same, row by row, with a flag or without.

What needs no network is asked of ``inspect --pixels``, which reads all that ``analyze`` reads.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gliosight.cli import run
from gliosight.phantom import Phantom

from .asserting import Capture, inspected, tree
from .builders_dicom import HEAD, OTHER, WHOLE, edit, files, header, preamble, study, wide


def _loops(folder: Path) -> Path:
    path = study(folder)
    (path / "loop").symlink_to(path)
    (path / "itself").symlink_to("itself")
    (path / "away").symlink_to("/dev/zero")
    os.mkfifo(path / "fifo")
    return path


def _names(folder: Path) -> Path:
    path = study(folder)
    for number, one in enumerate(files(path)):
        one.rename(path / f"={number} <b>\n\x1b[31m 影像'\".dcm")
    return path.rename(folder / "a \x1b[2J\n<i>ü")


def _spec(head: Phantom = HEAD, **settings: Any) -> Callable[[Path], Path]:
    return lambda folder: study(folder, head, **settings)


def _whole(**settings: Any) -> Callable[[Path], Path]:
    return lambda folder: study(folder, WHOLE, **settings)


def _zip(folder: Path) -> Path:
    path = study(folder)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for one in files(path):
            archive.write(one, f"a/{one.name}")
        archive.write(one, "../../out/evil.dcm")
        archive.write(one, "/evil.dcm")
        link = zipfile.ZipInfo("a/link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return folder / "x.zip"


def _mask_beside(folder: Path) -> Path:
    path = study(folder, traps=frozenset({"mask"}))
    edit((one for one in files(path) if header(one).SeriesNumber == 9002), SeriesDescription="x")
    return path


READ: dict[str, tuple[str | None, Callable[[Path], Path]]] = {
    "a missing slice": ("MISSING_SLICES", _spec(OTHER, missing=(2,))),
    "lossy": ("LOSSY_SOURCE", _spec(syntax="jpeg-baseline")),
    "no preamble": ("NONSTANDARD_FILE", _spec(no_preamble=True)),
    "no meta header, implicit": ("NONSTANDARD_FILE", _spec(no_meta=True, syntax="implicit-le")),
    "wrong character set": ("NONSTANDARD_FILE", _spec(wrong_charset=True)),
    "an executable for a preamble": (None, preamble),
    "spacing over 20 mm": ("NO_GEOMETRY", wide),
    "two times": ("FLAIR_CHOSEN", _spec(repeats=frozenset({"times"}))),
    "copies": (None, _spec(repeats=frozenset({"copies"}))),
    "several FLAIR": ("FLAIR_CHOSEN", _whole(traps=frozenset({"coronal"}))),
    "mask with FLAIR's header": (
        "MASK_PASSED_OVER",
        _mask_beside,
    ),
    "T1 on another grid": ("T1_RESAMPLED", _whole(t1_grid="coronal")),
    "T1 in another frame of reference": ("T1_LEFT_OUT", _whole(t1_frame="other")),
    "no T1": ("T1_MISSING", _spec()),
    "loops, FIFOs and devices": (None, _loops),
    "names full of traps": (None, _names),
    "a zip with members that lead outside": ("MEMBERS_SKIPPED", _zip),
    "a DICOMDIR": (None, lambda folder: study(folder, dicomdir=True) / "DICOMDIR"),
    **{
        f"enhanced, {vendor}": (None, _spec(layout="enhanced", vendor=vendor))
        for vendor in ("siemens", "ge", "philips")
    },
    "enhanced, in parts": (None, _spec(layout="enhanced", concatenation=3)),
    "everything beside": (
        None,
        _whole(traps=frozenset({"localizer", "map", "roi", "dwi", "t2", "mosaic", "screenshot"})),
    ),
}


@pytest.mark.parametrize("row", READ)
def test_read_and_said_so(row: str, tmp_path: Path, capsys: Capture) -> None:
    code, build = READ[row]
    (tmp_path / "given").mkdir()
    path = build(tmp_path / "given")
    before = tree(tmp_path)
    told = inspected(path, capsys)
    assert told["error"] is None
    assert code is None or code in told["codes"]
    assert [one["taken_as"] for one in told["series"]].count("FLAIR") == 1
    (taken,) = (one for one in told["series"] if one["taken_as"] == "FLAIR")
    assert taken["shows"] == "FLAIR"
    assert tree(tmp_path) == before
    assert run(["inspect", str(path)]) == 0  # in words
    words = capsys.readouterr().out
    assert words.replace("\n", "").isprintable()


def test_a_zip_member_without_a_name(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("?", "text")
        for one in files(study(tmp_path / "given")):
            archive.write(one, one.name)
    path.write_bytes(path.read_bytes().replace(b"?", b"\0", 1).replace(b"?PK", b"\0PK", 1))
    assert "MEMBERS_SKIPPED" in inspected(path, capsys)["codes"]


def test_a_dicomdir_that_is_not_all_there(tmp_path: Path, capsys: Capture) -> None:
    """A disc copied in part: one study, and what is missing is told relative to the input."""
    path = study(tmp_path / "given", WHOLE, dicomdir=True)
    for one in files(path):
        if header(one).SeriesNumber == 2:
            one.unlink()
    told = inspected(path / "DICOMDIR", capsys)
    assert str(tmp_path) not in repr(told)
