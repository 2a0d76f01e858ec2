"""DICOM that is no FLAIR of a head, through the whole tool with the shipped model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from gliosight.cli import run
from gliosight.flags import REFUSALS
from gliosight.phantom import Phantom
from gliosight.study import MrSequence
from tests.support.dicom_phantom import DicomSpec, write_dicom

Pixels: TypeAlias = NDArray[Any]


def negative(values: Pixels) -> Pixels:
    return np.asarray(values.max() - values)


def noise(values: Pixels) -> Pixels:
    drawn = np.random.default_rng(4).rayleigh(0.2 * values.max(), values.shape)
    return np.clip(drawn, 0, values.max()).astype(values.dtype)


def as_dicom(phantom: Phantom, folder: Path, change: Callable[[Pixels], Pixels]) -> Path:
    flair = change(phantom.sequences[MrSequence.FLAIR])
    changed = replace(phantom, sequences={**phantom.sequences, MrSequence.FLAIR: flair})
    return write_dicom(changed, folder, DicomSpec(traps=frozenset()))


@pytest.mark.slow
def test_the_pixels_as_they_are_get_both(small_phantom: Phantom, tmp_path: Path) -> None:
    """So it is the pixels that are refused in the other test, and not the export."""
    study = as_dicom(small_phantom, tmp_path / "export", lambda values: values)
    assert run(["analyze", str(study), "-o", str(tmp_path / "out"), "-q"]) == 0
    objects = {path.name for path in (tmp_path / "out").glob("*.dcm")}
    assert objects == {"segmentation.dcm", "report.dcm"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "level", "codes"),
    [(negative, "refused", REFUSALS), (noise, "unchecked", ("NO_CONTRAST",))],
)
def test_a_dicom_study_that_is_not_assessed_gets_neither_seg_nor_sr(
    change: Callable[[Pixels], Pixels],
    level: str,
    codes: tuple[str, ...],
    small_phantom: Phantom,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither an empty segmentation nor a report: both would claim a negative."""
    study, out = as_dicom(small_phantom, tmp_path / "export", change), tmp_path / "out"
    assert run(["analyze", str(study), "-o", str(out), "--probability"]) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert (result["status"], result["input_check"]["level"]) == ("not assessed", level)
    (reason,) = (flag for flag in result["flags"] if flag["code"] in codes)
    assert reason["message"] == result["reason"]
    assert not [flag["code"] for flag in result["flags"] if flag["code"].endswith("_NOT_WRITTEN")]
    assert not [name for name in result["files"] if name.endswith(".dcm")]
    assert not list(out.rglob("*.dcm"))
    assert not np.any(nibabel.load(out / "mask.nii.gz").dataobj)
    assert printed.count(result["reason"]) == 1
    for kind in ("seg", "sr"):
        late = tmp_path / f"{kind}.dcm"
        arguments = ["export", str(out), "--to", kind, "--source", str(study), "-o", str(late)]
        assert run(arguments) == 5
        assert "not assessed" in capsys.readouterr().err
        assert not late.exists()
