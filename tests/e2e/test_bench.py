"""The bench on real volumes: two BraTS cases from index to score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gliosight import cli

pytestmark = [pytest.mark.slow, pytest.mark.data]


def test_two_volumes_from_index_to_score(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra train is not installed")
    pytest.importorskip("sklearn", reason="the extra evaluate is not installed")
    manifest, split = tmp_path / "manifest.csv", tmp_path / "split.json"
    assert cli.run(["data", "index", str(data / "brats"), "-o", str(manifest)]) == 0
    call = ["data", "split", str(manifest), "--folds", "2", "--validation", "0", "-o", str(split)]
    assert cli.run(call) == 0
    common = ["--data", str(manifest), "--split", str(split), "--fold", "0"]
    call = ["train", "joint", *common, "-o", str(tmp_path / "run"), "--threads", "2"]
    call += ["--cache", str(tmp_path / "cache")]
    for change in ("epochs=1", "batch=4", "sampling.per_epoch=8", "precision=float32"):
        call += ["--set", change]
    assert cli.run(call) == 0
    out = tmp_path / "scores"
    assert cli.run(["evaluate", str(tmp_path / "run"), *common, "-o", str(out)]) == 0
    (part,) = json.loads((out / "evaluation.json").read_text())["parts"]
    assert part["part"] == "test"
    assert part["localization"]["dice_mean"]["n"] == 1
    assert 0 <= part["detection"]["slice_auc"]["value"] <= 1
