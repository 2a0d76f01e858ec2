"""Runs of every kind become models that do the main job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight import cli  # noqa: E402
from gliosight.data.manifest import Manifest  # noqa: E402
from gliosight.data.split import Split  # noqa: E402
from gliosight.errors import (  # noqa: E402
    CannotWriteError,
    InternalError,
    NothingReadableError,
    UsageError,
)
from gliosight.infer.model import load_model  # noqa: E402
from gliosight.phantom import Phantom  # noqa: E402
from gliosight.pipeline import Settings, analyze  # noqa: E402
from gliosight.prepare import prepare  # noqa: E402
from gliosight.train.export import export_cascade, export_run  # noqa: E402
from gliosight.train.recipe import load_recipe  # noqa: E402
from gliosight.train.record import hash_patients  # noqa: E402
from gliosight.train.run import train  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TINY = ("epochs=1", "batch=2", "sampling.per_epoch=2", "start=scratch", "precision=float32")


@pytest.fixture(scope="module")
def runs(manifest: Manifest, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each preset, all in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    for preset in ("joint", "tutorial-detector", "tutorial-localizer", "unet"):
        card = train(
            preset=preset,
            recipe=load_recipe(preset, TINY),
            manifest=manifest,
            split=split,
            fold=None,
            run=folder / preset,
            cache=folder / "cache",
        )
        assert card == folder / preset / "model.json"
        page = (folder / preset / "run.html").read_text("utf-8")
        assert "finished: 1 epoch" in page
        assert ("a detector draws no mask" in page) == (preset == "tutorial-detector")
    return folder


def test_each_run_is_a_model(
    runs: Path, manifest: Manifest, split: Split, small_phantom: Phantom
) -> None:
    parts = split.patients(manifest)
    patients = hash_patients({*parts["train"], *parts["validation"]})
    study = small_phantom.study()
    for preset, kind, role, normalisation, matrix in (
        ("joint", "joint", "joint", "tissue", 0),
        ("tutorial-detector", "cascade", "detector", "unit", 256),
        ("tutorial-localizer", "cascade", "localizer", "unit", 256),
        ("unet", "cascade", "localizer", "tissue", 256),
    ):
        model = load_model(str(runs / preset))
        assert (model.card.kind, list(model.card.networks)) == (kind, [role])
        assert (model.card.input.normalisation, model.card.input.matrix) == (normalisation, matrix)
        assert model.card.about["training"]["patients_sha256"] == patients
        assert model.card.draws is (role != "detector")
        images = prepare(study, model.card.input)
        assert images.images.shape[2:] == (256, 256) or not matrix
        assert model.predict(images).probability.shape == study.shape
        analysis = analyze(study, settings=Settings(model=str(runs / preset)))
        assert analysis.provenance.model_sha256 == model.card.sha256
        if role == "detector":
            assert not analysis.decision.mask.any()
    taken = load_model().card.decision.for_another_network()
    assert load_model(str(runs / "joint")).card.decision == taken


def test_the_tutorial_s_two_networks_are_one_model(
    runs: Path, tmp_path: Path, small_phantom: Phantom
) -> None:
    card = export_cascade(
        runs / "tutorial-localizer", runs / "tutorial-detector", tmp_path, "tutorial"
    )
    model = load_model(str(card))
    assert set(model.card.networks) == {"detector", "localizer"}
    assert model.card.gate == 0.99
    digests = {network.sha256 for network in model.card.networks.values()}
    assert len(digests | {model.card.sha256}) == 3
    images = prepare(small_phantom.study(), model.card.input)
    alone = load_model(str(runs / "tutorial-detector")).predict(images)
    np.testing.assert_allclose(model.predict(images).slice_head, alone.slice_head, atol=1e-3)


def test_what_makes_no_model_is_refused(runs: Path, tmp_path: Path) -> None:
    for pair in (("tutorial-detector", "unet"), ("joint", "unet"), ("unet", "unet")):
        with pytest.raises(UsageError, match="no cascade"):
            export_cascade(runs / pair[0], runs / pair[1], tmp_path / "out", "mine")
    with pytest.raises(NothingReadableError, match="no run here"):
        export_run(tmp_path / "nonesuch", tmp_path, "mine")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(runs / "tutorial-localizer" / "run.json", begun)
    with pytest.raises(NothingReadableError, match="not finished"):
        export_run(begun, tmp_path, "mine")
    shutil.copy(runs / "tutorial-localizer" / "weights.safetensors", begun)
    with pytest.raises(NothingReadableError, match="export it first"):
        export_cascade(runs / "tutorial-detector", begun, tmp_path, "mine")


def test_an_export_that_fails_leaves_the_model_that_was_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (runs / "unet").glob("model.*"):
        shutil.copy(path, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"model.json", "model.onnx", "model.safetensors"}
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
    for check in ("EXACT", "ROUNDED"):
        monkeypatch.setattr(f"gliosight.train.export.{check}", -1.0)
        with pytest.raises(InternalError, match=r"differs from torch's .*model\.onnx"):
            export_run(runs / "tutorial-localizer", tmp_path, "model")
        monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gliosight.train.networks.save_file", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        export_run(runs / "tutorial-localizer", tmp_path, "model")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_takes_the_input_it_was_trained_on(runs: Path, tmp_path: Path) -> None:
    """The recipe's, whatever its preset has."""
    run = tmp_path / "run"
    shutil.copytree(runs / "tutorial-localizer", run)
    record = json.loads((run / "run.json").read_text())
    record["recipe"] |= {"input": "tissue"}
    (run / "run.json").write_text(json.dumps(record))
    assert load_model(str(export_run(run, run, "mine"))).card.input.normalisation == "tissue"


def test_the_export_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about, card = tmp_path / "about.json", tmp_path / "m" / "mine.json"
    run = runs / "tutorial-localizer"
    call = ["export", str(run), "-o", str(card.parent), "--name", "mine"]
    about.write_text('{"summary": "again", "training": {"patients_sha256": [], "words": "few"}}')
    assert cli.run([*call, "--about", str(about)]) == 0
    texts = json.loads(card.read_text())["about"]
    assert texts["summary"] == "again"
    # A person may add to the training, but not remove patients.
    assert texts["training"]["words"] == "few"
    assert len(texts["training"]["patients_sha256"]) == texts["training"]["patients"] > 0
    assert cli.run(["export", *[str(runs / "unet")] * 3, "-o", str(card.parent)]) == 2
    assert cli.run([*call[:-1], "a/b"]) == 2
    capsys.readouterr()
    assert cli.run(call) == 7
    assert "--overwrite" in capsys.readouterr().err
    # A run that is not there removes no model.
    assert cli.run(["export", str(tmp_path / "nonesuch"), *call[2:], "--overwrite"]) == 3
    assert json.loads(card.read_text())["about"] == texts
    assert cli.run([*call, "--overwrite"]) == 0
    assert json.loads(card.read_text())["about"]["summary"].startswith("Trained by")


def test_the_train_command(
    runs: Path, manifest_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = runs / "tutorial-localizer"
    call = ["train", start.name, "--data", str(manifest_path), "-o", str(tmp_path / "run")]
    call += ["--init", str(start), "--cache", str(runs / "cache"), "--threads", "1"]
    for change in (*TINY, "patience=0"):
        call += ["--set", change]
    assert cli.run(call) == 0
    assert "model:" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["initial"]["name"] == "weights.safetensors"
    assert record["outcome"]["started_from"] == "weights.safetensors"
    # The new model counts as trained on the patients of its starting weights.
    begun = json.loads((start / "run.json").read_text())["patients_sha256"]
    assert {*record["patients_sha256"]["initial"]} == {
        digest for part in begun.values() for digest in part
    }
    assert record["split"] is None
    assert cli.run([*call, "--resume"]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    # Where the export was cut off, it is made up for.
    (tmp_path / "run" / "model.json").unlink()
    assert cli.run([*call, "--resume"]) == 0
    assert (tmp_path / "run" / "model.json").is_file()
    assert "export:" in capsys.readouterr().out
    other = ["-o", str(tmp_path / "other")]
    (tmp_path / "file").write_text("")
    for more, code, words in (
        ([], 2, "finished"),
        (["-o", str(tmp_path / "file")], 2, "it is a file"),
        ([*other, "--init", "nonesuch"], 3, "--init"),
        ([*other, "--fold", "0"], 2, "--split"),
        ([*other, "--set", "patience=3"], 2, "no split"),
        ([*other, "--data", str(tmp_path)], 2, "data index"),
    ):
        assert cli.run([*call, *more]) == code, more
        assert words in capsys.readouterr().err, more
