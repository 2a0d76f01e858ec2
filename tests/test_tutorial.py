"""The tutorial runs from data_mask.csv to the classification report, here on phantoms."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("sklearn", reason="the extra evaluate is not installed")

from gliosight.phantom import PhantomSpec, make_phantom, write_lgg

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_set(folder: Path) -> Path:
    """Six phantoms in the LGG layout with the published table, its patient column wrong as there."""
    rows = []
    for seed in range(1, 7):
        patient = write_lgg(make_phantom(PhantomSpec(seed=seed, slices=5, lesion=seed < 6)), folder)
        for mask in sorted(patient.glob("*_mask.tif")):
            image = mask.with_name(mask.name.replace("_mask", ""))
            rows.append(
                ["somebody", f"{patient.name}/{image.name}", f"{patient.name}/{mask.name}", "1"]
            )
    for row in rows:
        row[3] = str(int(tifffile.imread(folder / row[2]).any()))
    with (folder / "data_mask.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["patient_id", "image_path", "mask_path", "mask"])
        table.writerows(rows)
    return folder / "data_mask.csv"


@pytest.mark.slow
def test_the_tutorial_from_table_to_report(tmp_path: Path) -> None:
    (tmp_path / "lgg").mkdir()
    table = _data_set(tmp_path / "lgg")
    call = [sys.executable, str(REPOSITORY / "docs/tutorial/tutorial.py"), str(table)]
    call += ["-o", str(tmp_path / "out"), "--threads", "2"]
    for which in ("detector", "localizer"):
        for change in ("epochs=1", "batch=4", "precision=float32"):
            call += [f"--set-{which}", change]
    call += ["--set-detector", "start=scratch"]
    env = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    out = tmp_path / "out"
    assert done.stdout.count("confusion matrix") == 2
    assert "precision" in done.stdout
    assert "patient_id" in done.stdout  # index says that the column is wrong
    for by in ("slice", "patient"):
        scores = json.loads((out / f"scores-{by}" / "evaluation.json").read_text())
        assert scores["parts"][0]["part"] == "test"
    leak = json.loads((out / "leak" / "evaluation.json").read_text())
    assert leak["leak"]["slice_accuracy"]
    # A second start finds everything done.
    again = subprocess.run(call, capture_output=True, text=True, check=False, env=env)
    assert again.returncode == 0
    assert again.stdout.count("(done before)") == 14
