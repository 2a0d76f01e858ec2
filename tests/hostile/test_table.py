"""The whole table of awkward input, row by row, through the command: code, one line, nothing written.

Details of each row are tested where the code is; here the command is held to the promise.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight.cli import run

RNG = np.random.default_rng(7)
SHAPE = (40, 44, 4)
HEAD = np.zeros(SHAPE)
HEAD[6:-6, 6:-6] = RNG.normal(400, 60, (28, 32, 4))
SLICE = np.clip(HEAD[:, :, 0] / 4, 0, 255).astype(np.uint8)


def _nifti(path: Path, values: np.ndarray = HEAD) -> None:
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 5.0, 1.0])), path)


def _int(path: Path, values: np.ndarray = HEAD) -> None:
    _nifti(path, values.astype(np.int16))


def _empty(folder: Path) -> Path:
    return folder


def _nothing_known(folder: Path) -> Path:
    (folder / "notes.txt").write_text("hello")
    return folder


def _truncated(folder: Path) -> Path:
    _int(folder / "x_flair.nii.gz")
    path = folder / "x_flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _mislabelled(folder: Path) -> Path:
    (folder / "x.png").write_bytes(b"<html>not found</html>")
    return folder / "x.png"


def _sizes(folder: Path) -> Path:
    tifffile.imwrite(folder / "a_1.tif", SLICE)
    tifffile.imwrite(folder / "a_2.tif", SLICE[:-4])
    return folder


def _twice(folder: Path) -> Path:
    tifffile.imwrite(folder / "a_1.tif", SLICE)
    tifffile.imwrite(folder / "a_01.tif", SLICE)
    return folder


def _no_flair(folder: Path) -> Path:
    _int(folder / "x_t1.nii.gz")
    _int(folder / "x_t1ce.nii.gz")
    return folder


def _mask(folder: Path) -> Path:
    _int(folder / "x_flair.nii.gz", (HEAD > 400) * 1)
    return folder / "x_flair.nii.gz"


def _four(folder: Path) -> Path:
    _int(folder / "x_flair.nii.gz", np.stack([HEAD, HEAD], axis=-1))
    return folder / "x_flair.nii.gz"


def _nans(folder: Path) -> Path:
    values = HEAD.astype(np.float32)
    values[:, ::3] = np.nan
    _nifti(folder / "x_flair.nii.gz", values)
    return folder / "x_flair.nii.gz"


def _cmyk(folder: Path) -> Path:
    Image.fromarray(SLICE).convert("CMYK").save(folder / "a.jpg")
    return folder / "a.jpg"


def _huge(folder: Path) -> Path:
    _int(folder / "x_flair.nii")
    raw = bytearray((folder / "x_flair.nii").read_bytes())
    struct.pack_into("<8h", raw, 40, 3, 30000, 30000, 3000, 1, 1, 1, 1)
    (folder / "x_flair.nii").write_bytes(raw)
    return folder / "x_flair.nii"


def _archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as file:
        file.writestr("../../evil.txt", "x")
    return folder / "x.zip"


REFUSED: dict[str, tuple[int, Callable[[Path], Path]]] = {
    "empty folder": (3, _empty),
    "nothing recognised": (3, _nothing_known),
    "truncated": (4, _truncated),
    "mislabelled": (4, _mislabelled),
    "different sizes": (4, _sizes),
    "two files for one slice": (4, _twice),
    "no FLAIR": (5, _no_flair),
    "a mask as image": (4, _mask),
    "4-D": (5, _four),
    "too many NaN": (4, _nans),
    "CMYK": (5, _cmyk),
    "a header that claims too much": (6, _huge),
    "a zip that leads outside": (3, _archive),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_in_one_line_with_nothing_written(
    row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, build = REFUSED[row]
    given = tmp_path / "given"
    given.mkdir()
    path, out = build(given), tmp_path / "out"
    assert run(["analyze", str(path), "-o", str(out)]) == code
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("error: ")
    assert line.count(": ") >= 2  # what, and what to do
    assert str(tmp_path) not in line  # places are relative to the input
    assert captured.out == ""
    assert [one.name for one in tmp_path.iterdir()] == ["given"]


def _gap(folder: Path) -> Path:
    for number in (1, 2, 4):
        tifffile.imwrite(folder / f"a_{number}.tif", SLICE)
    return folder


def _copies(folder: Path) -> Path:
    for number in (1, 2):
        moved = np.roll(SLICE, number)
        tifffile.imwrite(folder / f"a_{number}.tif", np.stack([moved] * 3, -1), photometric="rgb")
    return folder


def _no_affine(folder: Path) -> Path:
    image = nib.Nifti1Image(HEAD.astype(np.int16), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, folder / "x_flair.nii.gz")
    return folder / "x_flair.nii.gz"


def _flat(folder: Path) -> Path:
    _int(folder / "x_flair.nii.gz", np.full(SHAPE, 9))
    return folder / "x_flair.nii.gz"


def _odd_name(folder: Path) -> Path:
    path = folder / "=cmd|'C' <b>\n 影像 \x1b[31m.nii.gz"
    _int(path)
    return path


FLAGGED: dict[str, tuple[str | None, Callable[[Path], Path]]] = {
    "missing slice": ("MISSING_SLICES", _gap),
    "copies of FLAIR": ("THREE_EQUAL_CHANNELS", _copies),
    "no affine": ("NO_GEOMETRY", _no_affine),
    "constant": ("NO_CONTRAST", _flat),
    "a name full of traps": (None, _odd_name),
}


@pytest.mark.parametrize("row", FLAGGED)
def test_goes_on_and_says_so(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, build = FLAGGED[row]
    given = tmp_path / "given"
    given.mkdir()
    path, out = build(given), tmp_path / "out"
    assert run(["analyze", str(path), "-o", str(out)]) == 0
    result: dict[str, Any] = json.loads((out / "result.json").read_text("utf-8"))
    codes = {one["code"] for one in result["flags"]}
    assert code is None or code in codes
    assert (result["status"] == "not assessed") == (row == "constant")
    printed = capsys.readouterr().out
    assert "\x1b[31m" not in printed
    assert "<b>" not in (out / "report.html").read_text("utf-8")
    assert not (out / "findings.csv").read_text("utf-8").startswith("=")
    if code == "NO_GEOMETRY":
        assert result["volume_ml"] is None
