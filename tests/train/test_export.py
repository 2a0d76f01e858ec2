"""Runs of every kind become models that do the main job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
from gliosight.pipeline import Settings, analyze  # noqa: E402
from gliosight.prepare import prepare  # noqa: E402
from gliosight.train.export import export_cascade, export_run  # noqa: E402
from gliosight.train.presets import load_recipe  # noqa: E402
from gliosight.train.run import hash_patients  # noqa: E402
from gliosight.train.running import Order, train  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TINY = ("epochs=1", "batch=2", "sampling.per_epoch=2", "start=scratch", "precision=float32")


@pytest.fixture(scope="module")
def runs(manifest: Manifest, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each preset, all in one folder."""
    folder = tmp_path_factory.mktemp("runs")
    for preset in ("joint", "tutorial-detector", "tutorial-localizer", "unet"):
        recipe = load_recipe(preset, TINY)
        order = Order(preset, recipe, manifest, split, None, folder / preset, folder / "cache")
        assert train(order) == folder / preset / "model.json"
    return folder


def test_each_run_is_a_model(runs: Path, manifest: Manifest, split: Split, small_phantom) -> None:  # type: ignore[no-untyped-def]
    parts = split.patients(manifest)
    learnt = hash_patients({*parts["train"], *parts["validation"]})
    study = small_phantom.study()
    for preset, kind, roles in (
        ("joint", "joint", ["joint"]),
        ("tutorial-detector", "cascade", ["detector"]),
        ("tutorial-localizer", "cascade", ["localizer"]),
        ("unet", "cascade", ["localizer"]),
    ):
        model = load_model(str(runs / preset))
        assert (model.card.kind, list(model.card.networks)) == (kind, roles)
        assert model.card.about["training"]["patients_sha256"] == learnt
        assert model.card.draws is (roles != ["detector"])
        given = prepare(study, model.card.input)
        assert given.images.shape[2:] == (256, 256) or preset == "joint"
        maps = model.predict(given)
        assert maps.probability.shape == study.shape
        analysis = analyze(study, settings=Settings(model=str(runs / preset)))
        assert analysis.provenance.model_sha256 == model.card.sha256
        if roles == ["detector"]:
            assert not analysis.decision.mask.any()


def test_the_tutorial_s_two_networks_are_one_model(
    runs: Path, tmp_path: Path, small_phantom
) -> None:  # type: ignore[no-untyped-def]
    card = export_cascade(
        runs / "tutorial-detector", runs / "tutorial-localizer", tmp_path, "tutorial"
    )
    model = load_model(str(card))
    assert list(model.card.networks) == ["detector", "localizer"]
    assert model.card.gate == 0.99
    assert len({one.sha256 for one in model.card.networks.values()} | {model.card.sha256}) == 3
    given = prepare(small_phantom.study(), model.card.input)
    alone = load_model(str(runs / "tutorial-detector")).predict(given)
    np.testing.assert_allclose(model.predict(given).slice_head, alone.slice_head, atol=1e-3)


def test_what_makes_no_cascade_is_refused(runs: Path, tmp_path: Path) -> None:
    for pair in (("tutorial-detector", "unet"), ("joint", "unet"), ("unet", "unet")):
        with pytest.raises(UsageError, match="no cascade"):
            export_cascade(runs / pair[0], runs / pair[1], tmp_path / "out", "mine")
    with pytest.raises(NothingReadableError, match="no run here"):
        export_run(tmp_path / "nonesuch", tmp_path, "mine")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_bytes((runs / "unet" / "run.json").read_bytes())
    with pytest.raises(NothingReadableError, match="not finished"):
        export_run(tmp_path / "begun", tmp_path, "mine")


def test_an_export_that_fails_leaves_the_model_that_was_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = export_run(runs / "joint", tmp_path, "mine")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert set(before) == {"mine.json", "mine.onnx", "mine.safetensors"}
    modes = {one.stat().st_mode for one in tmp_path.iterdir()}
    assert len(modes) == 1
    for check in ("EXACT", "ROUNDED"):
        monkeypatch.setattr(f"gliosight.train.export.{check}", -1.0)
        with pytest.raises(InternalError, match=r"differs from torch's .*mine\.onnx"):
            export_run(runs / "unet", tmp_path, "mine")
        monkeypatch.undo()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("gliosight.train.export._write_card", _raise(full))
    with pytest.raises(CannotWriteError, match="No space left"):
        export_run(runs / "unet", tmp_path, "mine")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    load_model(str(card))


def _raise(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_joint_run_takes_the_shipped_rule(runs: Path) -> None:
    assert load_model(str(runs / "joint")).card.decision == load_model().card.decision


def test_a_network_is_asked_with_what_it_was_taught_with(runs: Path, tmp_path: Path) -> None:
    for preset, input_, normalisation in (
        ("unet", "tissue", "tissue"),
        ("unet", "picture", "unit"),
        ("tutorial-localizer", "picture", "unit"),
        ("tutorial-localizer", "tissue", "tissue"),
    ):
        run = tmp_path / f"{preset}-{input_}"
        shutil.copytree(runs / preset, run)
        record = json.loads((run / "run.json").read_text())
        record["recipe"] |= {"input": input_, "crop": 0}
        (run / "run.json").write_text(json.dumps(record))
        card = load_model(str(export_run(run, run, "mine"))).card
        assert (card.input.normalisation, card.input.matrix) == (normalisation, 256)


def test_the_commands(
    runs: Path, manifest_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "about.json"
    about.write_text('{"summary": "mine"}')
    call = ["export", str(runs / "joint"), "-o", str(tmp_path / "m"), "--name", "mine"]
    assert cli.run([*call, "--about", str(about)]) == 0
    assert json.loads((tmp_path / "m" / "mine.json").read_text())["about"]["summary"] == "mine"
    assert cli.run(["export", *[str(runs / "unet")] * 3, "-o", str(tmp_path / "m")]) == 2
    assert cli.run([*call[:-1], "a/b"]) == 2
    capsys.readouterr()
    assert cli.run(call) == 7
    assert "--overwrite" in capsys.readouterr().err
    about.write_text('{"summary": "again", "training": {"patients_sha256": [], "words": "few"}}')
    assert cli.run([*call, "--about", str(about), "--overwrite"]) == 0
    told = json.loads((tmp_path / "m" / "mine.json").read_text())["about"]
    assert told["summary"] == "again"
    # A person may say more of the training, but not whom the network has not seen.
    assert told["training"]["words"] == "few"
    assert len(told["training"]["patients_sha256"]) == told["training"]["patients"] > 0
    # A run that is not there takes no model away.
    assert cli.run(["export", str(tmp_path / "nonesuch"), *call[2:], "--overwrite"]) == 3
    capsys.readouterr()
    assert json.loads((tmp_path / "m" / "mine.json").read_text())["about"] == told

    train_call = ["train", "joint", "--data", str(manifest_path), "-o", str(tmp_path / "run")]
    train_call += ["--init", str(runs / "joint"), "--cache", str(runs / "cache"), "--threads", "1"]
    for change in TINY:
        train_call += ["--set", change]
    assert cli.run(train_call) == 0
    assert "model:" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["initial"]["name"] == "weights.safetensors"
    # Whom the starting weights have seen, the new model has seen.
    begun = json.loads((runs / "joint" / "run.json").read_text())["patients_sha256"]
    assert set(record["patients_sha256"]["initial"]) == {
        one for part in begun.values() for one in part
    }
    assert record["split"] is None
    for more, code, words in (
        ([], 2, "finished"),
        (["--resume"], 2, "finished"),
        (["-o", str(about)], 2, "it is a file"),
        (["-o", str(tmp_path / "other"), "--init", "nonesuch"], 3, "--init"),
        (["-o", str(tmp_path / "other"), "--fold", "0"], 2, "--split"),
        (["-o", str(tmp_path / "other"), "--set", "patience=3"], 2, "no split"),
        (["-o", str(tmp_path / "other"), "--data", str(tmp_path)], 2, "data index"),
    ):
        assert cli.run([*train_call, *more]) == code, more
        assert words in capsys.readouterr().err, more
