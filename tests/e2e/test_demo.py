"""From a command to a result folder: the demo, and one real study of each kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliosight import cli
from gliosight.cli.demo import SEED
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.write.result import load_schema


def _result(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text("utf-8"))
    jsonschema.validate(result, load_schema())
    for name in result["files"]:
        assert (out / name).exists(), name
    assert "Research use only" in (out / "report.html").read_text("utf-8")
    with Image.open(out / "overview.png") as picture:
        assert picture.width > 300
    assert not list(out.parent.glob(f".{out.name}.partial*"))
    return result


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.slow
def test_demo_finds_the_lesion_it_was_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantom = make_phantom(PhantomSpec(seed=SEED))
    out = tmp_path / "out"
    assert cli.run(["demo", "-o", str(out)]) == 0
    result = _result(out)
    assert result["status"] == "tumour found"
    assert [one["side"] for one in result["findings"]] == ["left"]
    mask = np.asarray(nibabel.load(out / "mask.nii.gz").dataobj).transpose(2, 1, 0) > 0
    assert _dice(mask, phantom.truth) > 0.8
    printed = capsys.readouterr().out
    assert "report.html" in printed
    assert "Research use only" in printed
    # It ends with what a user does next.
    last = printed.splitlines()[-1]
    assert last == "your own study: gliosight analyze YOUR_STUDY -o results"


@pytest.mark.slow
def test_demo_without_a_lesion_finds_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.run(["demo", "--no-lesion", "--seed", "8", "-o", str(out), "-q"]) == 0
    result = _result(out)
    assert result["status"] == "no tumour found"
    assert result["volume_px"] == 0
    assert not np.asarray(nibabel.load(out / "mask.nii.gz").dataobj).any()


@pytest.mark.slow
def test_the_same_phantom_as_slices_and_as_nifti(tmp_path: Path) -> None:
    phantom = make_phantom(PhantomSpec(seed=3, lesion_side="right", slices=16))
    lgg, nifti = write_lgg(phantom, tmp_path / "lgg"), write_nifti(phantom, tmp_path / "nifti")
    assert cli.run(["analyze", str(lgg), "-o", str(tmp_path / "a"), "-q"]) == 0
    assert cli.run(["analyze", str(nifti), "-o", str(tmp_path / "b"), "-q", "--probability"]) == 0
    one, two = _result(tmp_path / "a"), _result(tmp_path / "b")
    assert one["volume_ml"] is None
    assert two["volume_ml"] > 1
    assert {one["findings"][0]["side"], two["findings"][0]["side"]} == {"unknown", "right"}
    masks = np.stack(
        [
            tifffile.imread(tmp_path / "a" / "mask" / f"{entry['name']}_mask.tif")
            for entry in one["detection"]["slices"]
        ]
    )
    assert set(np.unique(masks)) == {0, 255}
    image = nibabel.load(tmp_path / "b" / "mask.nii.gz")
    source = nibabel.load(next(nifti.glob("*_flair.nii.gz")))
    np.testing.assert_array_equal(image.affine, source.affine)
    mask = np.asarray(image.dataobj).transpose(2, 1, 0) > 0
    assert _dice(mask, phantom.truth) > 0.75
    assert _dice(mask, masks > 0) > 0.97  # the same patient, with and without a world
    probability = np.asarray(nibabel.load(tmp_path / "b" / "probability.nii.gz").dataobj)
    assert 0 <= probability.min() <= probability.max() <= 1


@pytest.mark.slow
def test_two_runs_agree_but_for_their_timings(tmp_path: Path, small_phantom: Phantom) -> None:
    path = write_nifti(small_phantom, tmp_path / "in")
    results = []
    for name in ("a", "b"):
        assert cli.run(["analyze", str(path), "-o", str(tmp_path / name), "-q"]) == 0
        result = _result(tmp_path / name)
        del result["provenance"]["timings_ms"]
        results.append(result)
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.data
def test_a_real_lgg_patient(lgg_patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.run(["analyze", str(lgg_patient), "-o", str(out), "-q"]) == 0
    result = _result(out)
    assert result["status"] == "tumour found"
    slices = [entry["name"] for entry in result["detection"]["slices"]]
    found = np.stack([tifffile.imread(out / "mask" / f"{name}_mask.tif") for name in slices])
    truth = np.stack([tifffile.imread(lgg_patient / f"{name}_mask.tif") for name in slices])
    assert _dice(found > 0, truth > 0) > 0.7


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("case", "least"), [("BraTS2021_00006", 0.85), ("BraTS2021_01480", 0.6)])
def test_a_real_nifti_study(data: Path, tmp_path: Path, case: str, least: float) -> None:
    out = tmp_path / "out"
    assert cli.run(["analyze", str(data / "brats" / case), "-o", str(out), "-q"]) == 0
    result = _result(out)
    assert result["status"] == "tumour found"
    assert result["flags"] == [] or all(one["code"] != "NO_GEOMETRY" for one in result["flags"])
    found = np.asarray(nibabel.load(out / "mask.nii.gz").dataobj) > 0
    truth = np.asarray(nibabel.load(data / "brats" / case / f"{case}_seg.nii.gz").dataobj) > 0
    assert _dice(found, truth) > least


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("patient", ["patient01", "patient04", "patient12", "patient20"])
def test_a_real_brain_with_other_lesions(data: Path, tmp_path: Path, patient: str) -> None:
    """The mask of a study without tumour is empty by rule, so what the rule went by is asked, too."""
    folder = data / "ms" / patient
    for name, study in (("all", folder), ("flair", next(folder.glob("*_FLAIR.nii.gz")))):
        assert cli.run(["analyze", str(study), "-o", str(tmp_path / name), "-q"]) == 0
        result = _result(tmp_path / name)
        assert result["status"] == "no tumour found"
        assert result["detection"]["probability"] < 0.1
        assert max(one["probability"] for one in result["detection"]["slices"]) < 0.1


@pytest.mark.slow
def test_import_is_light() -> None:
    code = (
        "import sys; import gliosight;"
        "print(*{'numpy', 'scipy', 'nibabel', 'pydicom', 'PIL'} & set(sys.modules));"
        "gliosight.analyze, gliosight.Study;"
        "print(*{'torch', 'matplotlib', 'pandas', 'lightning'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert printed == "\n\n"
