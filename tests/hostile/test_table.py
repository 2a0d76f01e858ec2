"""Awkward input through the command: the exit code, one line and nothing written; or a flag.

Details of each situation are tested in `test_damage`; here the command is held to the promise.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from gliosight.cli import run

from .asserting import Capture, analyze_refuses
from .test_damage import REFUSED, Build, nifti

SHAPE = (4, 44, 40)
HEAD = np.zeros(SHAPE, np.int16)
HEAD[:, 6:-6, 6:-6] = np.random.default_rng(7).normal(400, 60, (4, 32, 28))
SLICE = np.clip(HEAD[0] / 4, 0, 255).astype(np.uint8)
EXIT_CODES = {
    "an empty folder": 3,
    "nothing recognised": 3,
    "a zip that leads outside": 3,
    "truncated": 4,
    "mislabelled": 4,
    "different sizes": 4,
    "P_03.tif beside P_3.tif": 4,
    "a NIfTI of 0 and 1": 4,
    "NaN in a NIfTI": 4,
    "no FLAIR": 5,
    "4-D": 5,
    "CMYK": 5,
    "a header that claims too much": 6,
}


@pytest.mark.parametrize("situation", EXIT_CODES)
def test_refused_in_one_line_with_nothing_written(
    situation: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "given").mkdir()
    _, build, words = REFUSED[situation]
    line = analyze_refuses(
        build(tmp_path / "given"), EXIT_CODES[situation], words, tmp_path, capsys
    )
    assert str(tmp_path) not in line  # paths are relative to the input
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def slices(**pictures: np.ndarray) -> Build:
    def build(folder: Path) -> Path:
        for name, values in pictures.items():
            tifffile.imwrite(folder / f"{name}.tif", values)
        return folder

    return build


def without_affine(folder: Path) -> Path:
    nib.save(nib.Nifti1Image(HEAD.T, None), folder / "x_flair.nii.gz")
    return folder / "x_flair.nii.gz"


FLAGGED: dict[str, tuple[Build, str | None]] = {
    "missing slice": (slices(a_1=SLICE, a_2=SLICE, a_4=SLICE), "MISSING_SLICES"),
    "copies of FLAIR": (
        slices(a_1=np.stack([SLICE] * 3, -1), a_2=np.stack([SLICE.T.reshape(44, 40)] * 3, -1)),
        "THREE_EQUAL_CHANNELS",
    ),
    "no affine": (without_affine, "NO_GEOMETRY"),
    "constant": (nifti(np.full(SHAPE, 9, np.int16)), "NO_CONTRAST"),
    "a name full of traps": (nifti(HEAD, "=cmd|'C' <b>\n 影像 \x1b[31m.nii.gz"), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("situation", FLAGGED)
def test_goes_on_and_says_so(situation: str, tmp_path: Path, capsys: Capture) -> None:
    build, code = FLAGGED[situation]
    (tmp_path / "given").mkdir()
    out = tmp_path / "out"
    assert run(["analyze", str(build(tmp_path / "given")), "-o", str(out)]) == 0
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert code is None or code in {flag["code"] for flag in result["flags"]}
    # The pictures of this table are not heads.
    assert result["status"] == "not assessed" or situation != "constant"
    assert "\x1b[31m" not in capsys.readouterr().out
    assert "<b>" not in (out / "report.html").read_text("utf-8")
    assert not (out / "findings.csv").read_text("utf-8").startswith("=")
    if code == "NO_GEOMETRY":
        assert result["volume_ml"] is None
