"""Hostile data for training: excluded with a reason when indexed, never a crash in epoch 3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from gliosight import cli
from gliosight.data.manifest import read_manifest
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg


def _patient(folder: Path, seed: int) -> list[Path]:
    """Slices of a phantom in the LGG layout, in the order of their numbers."""
    patient = write_lgg(make_phantom(PhantomSpec(seed=seed, slices=5)), folder)
    return [patient / f"{patient.name}_{k}.tif" for k in range(1, 6)]


def _mask(image: Path) -> Path:
    return image.with_name(f"{image.stem}_mask.tif")


def _damaged_set(folder: Path) -> dict[str, Path]:
    """Two good patients and one of each kind of trouble; the pictures concerned, by what is wrong."""
    for seed in (1, 2):
        _patient(folder, seed)
    missing = _patient(folder, 3)[0]
    _mask(missing).unlink()
    truncated = _patient(folder, 4)[2]
    truncated.write_bytes(truncated.read_bytes()[:2000])
    small = _patient(folder, 5)[1]
    tifffile.imwrite(small, tifffile.imread(small)[::2, ::2].copy())
    small_mask = _patient(folder, 6)[3]
    tifffile.imwrite(_mask(small_mask), tifffile.imread(_mask(small_mask))[::2].copy())
    deep = _patient(folder, 7)
    for image in deep:
        tifffile.imwrite(image, tifffile.imread(image).astype(np.uint16) * 257)
    return {"mask": missing, "truncated": truncated, "size": small, "mask size": small_mask}


@pytest.mark.slow
def test_bad_slices_are_excluded_with_their_reason(tmp_path: Path) -> None:
    bad = _damaged_set(tmp_path / "lgg")
    manifest_path = tmp_path / "manifest.csv"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(manifest_path)]) == 0
    manifest = read_manifest(manifest_path)
    excluded = {
        manifest.path(row.image).resolve(): row.excluded for row in manifest.rows if row.excluded
    }
    for path in bad.values():
        assert excluded[path.resolve()], path
    assert len(manifest.used) == 35 - len(excluded)
    assert len(manifest.patients) == 7  # the deep one among them


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["joint", "tutorial-localizer"])
def test_what_is_left_trains(preset: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra train is not installed")
    _damaged_set(tmp_path / "lgg")
    manifest, split = tmp_path / "manifest.csv", tmp_path / "split.json"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(manifest)]) == 0
    assert cli.run(["data", "split", str(manifest), "-o", str(split)]) == 0
    call = ["train", preset, "--data", str(manifest), "--split", str(split), "--threads", "1"]
    call += ["-o", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    for change in (
        "epochs=3",
        "batch=4",
        "sampling.per_epoch=4",
        "start=scratch",
        "precision=float32",
    ):
        call += ["--set", change]
    assert cli.run(call) == 0
    assert (tmp_path / "run" / "model.json").is_file()


def test_an_empty_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    call = ["data", "index", str(tmp_path / "empty"), "-o", str(tmp_path / "m.csv")]
    assert cli.run(call) == 3
    assert "empty" in capsys.readouterr().err
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.slow
def test_a_file_that_went_bad_after_indexing_stops_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="the extra train is not installed")
    image = _patient(tmp_path / "lgg", 1)[2]
    manifest = tmp_path / "manifest.csv"
    assert cli.run(["data", "index", str(tmp_path / "lgg"), "-o", str(manifest)]) == 0
    image.write_bytes(image.read_bytes()[:2000])
    call = ["train", "joint", "--data", str(manifest), "-o", str(tmp_path / "run")]
    assert cli.run([*call, "--cache", str(tmp_path / "cache"), "--set", "start=scratch"]) == 4
    assert "not the one that was indexed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
