"""Models are data: checked by hash, run by an engine, refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gliosight.errors import ModelError, UsageError
from gliosight.infer.engine import ENGINES, start_engine
from gliosight.infer.model import Model, load_model, shipped_models
from gliosight.phantom import Phantom
from gliosight.prepare import prepare


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    card = shipped_models()["joint-1"]
    for path in (card, card.with_suffix(".onnx")):
        shutil.copy(path, tmp_path)
    return tmp_path / card.name


def test_models_together_stay_small() -> None:
    folder = next(iter(shipped_models().values())).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6


def test_a_model_is_taken_by_name_and_by_path(copied: Path) -> None:
    assert load_model("joint-1").card == load_model(str(copied)).card


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match="joint-1"):
        load_model("nonesuch")


def test_a_changed_network_is_refused(copied: Path) -> None:
    network = copied.with_suffix(".onnx")
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(ModelError, match="sha256") as caught:
        load_model(str(copied))
    assert caught.value.exit_code == 8


def test_a_missing_network_is_named(copied: Path) -> None:
    copied.with_suffix(".onnx").unlink()
    with pytest.raises(ModelError, match=r"joint-1\.onnx"):
        load_model(str(copied))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', "\0"])
def test_a_broken_card_is_refused(copied: Path, text: str) -> None:
    copied.write_text(text)
    with pytest.raises(ModelError, match="card"):
        load_model(str(copied))


def test_a_card_cannot_point_outside_its_folder(copied: Path) -> None:
    card = json.loads(copied.read_text())
    card["network"] = "../../secret.onnx"
    copied.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"secret\.onnx"):
        load_model(str(copied))


@pytest.mark.parametrize("engine", ENGINES)
def test_something_that_is_no_network_is_refused(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    with pytest.raises(ModelError, match="does not take"):
        start_engine(engine, b"not a network", 1)


def test_unknown_engine() -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        start_engine("abacus", b"", 1)


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "openvino", ("gliosight.infer.nonesuch", "X"))
    with pytest.raises(ModelError, match=r"gliosight\[openvino\]"):
        start_engine("openvino", b"", 1)


def test_progress_is_told_to_the_end(model: Model, small_phantom: Phantom) -> None:
    told: list[tuple[int, int]] = []
    given = prepare(small_phantom.study(), model.card.input)
    model.predict(given, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(given), len(given))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.slow
def test_both_engines_agree(model: Model, small_phantom: Phantom) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    given = prepare(small_phantom.study(), model.card.input)
    one = model.predict(given)
    two = load_model("joint-1", engine="openvino").predict(given)
    np.testing.assert_allclose(one.probability, two.probability, atol=5e-3)
    np.testing.assert_allclose(one.slice_head, two.slice_head, atol=5e-3)
