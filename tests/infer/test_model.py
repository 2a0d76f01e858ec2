"""Models are data: checked by hash, run by an engine, refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gliosight.card import InputRecipe, parse_card
from gliosight.errors import ModelError, UsageError
from gliosight.infer.engine import ENGINES, start_engine
from gliosight.infer.model import (
    CascadeModel,
    Model,
    check_answers,
    load_model,
    shipped_models,
)
from gliosight.phantom import Phantom
from gliosight.prepare import prepare


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    card = shipped_models()["joint-3"]
    for path in (card, card.with_suffix(".onnx")):
        shutil.copy(path, tmp_path)
    return tmp_path / card.name


def test_models_together_stay_small() -> None:
    folder = next(iter(shipped_models().values())).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6


def test_a_model_is_taken_by_name_and_by_path(copied: Path) -> None:
    assert load_model("joint-3").card == load_model(str(copied)).card


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match="joint-3"):
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
    with pytest.raises(ModelError, match=r"joint-3\.onnx"):
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
    two = load_model("joint-3", engine="openvino").predict(given)
    np.testing.assert_allclose(one.probability, two.probability, atol=5e-3)
    np.testing.assert_allclose(one.slice_head, two.slice_head, atol=5e-3)


class _Fixed:
    """An engine with known answers: what a network would say, without one."""

    name, precision = "fixed", "float32"

    def __init__(self, answers: tuple[str, ...], logit: float) -> None:
        self.answers, self.logit, self.seen = answers, logit, 0

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.seen += len(batch)
        # The first slice of each batch is the odd one out.
        slices = np.full(len(batch), self.logit, dtype=np.float32)
        slices[0] = -self.logit
        masks = np.full((len(batch), 1, *batch.shape[2:]), self.logit, dtype=np.float32)
        return {"slice_logits": slices, "mask_logits": masks}


def _cascade(gate: float, **engines: _Fixed | None) -> CascadeModel:
    raw = json.loads(shipped_models()["joint-3"].read_text("utf-8"))
    file = {"network": raw["network"], "sha256": raw["sha256"]}
    raw |= {"kind": "cascade", "gate": gate, "flip": False}
    raw["networks"] = {role: file for role, engine in engines.items() if engine is not None}
    return CascadeModel(parse_card(raw), engines.get("detector"), engines.get("localizer"))


def test_the_localizer_draws_where_the_detector_does_not_say_no(small_phantom: Phantom) -> None:
    given = prepare(small_phantom.study(), InputRecipe())
    detector = _Fixed(("slice_logits",), 6.0)  # P(no tumour) of the odd slices: 0.9975
    localizer = _Fixed(("mask_logits",), 3.0)
    maps = _cascade(0.99, detector=detector, localizer=localizer).predict(given)
    odd = len(range(0, len(given), 4))
    assert localizer.seen == len(given) - odd
    marked = (maps.probability > 0.5).any(axis=(1, 2))
    np.testing.assert_array_equal(marked, maps.slice_head > 0.01)
    assert marked.sum() == len(given) - odd
    # Less sure of *no* than the gate asks: the localizer sees them all.
    localizer = _Fixed(("mask_logits",), 3.0)
    _cascade(0.999, detector=detector, localizer=localizer).predict(given)
    assert localizer.seen == len(given)


def test_a_part_of_a_cascade_does_what_it_can(small_phantom: Phantom) -> None:
    given = prepare(small_phantom.study(), InputRecipe())
    alone = _cascade(0.99, detector=_Fixed(("slice_logits",), 3.0))
    maps = alone.predict(given)
    assert not alone.card.draws
    assert maps.probability.max() < 1e-6
    maps = _cascade(0.99, localizer=_Fixed(("mask_logits",), 3.0)).predict(given)
    np.testing.assert_allclose(maps.slice_head, maps.probability.max(axis=(1, 2)), rtol=1e-6)


def test_a_network_in_the_wrong_place_is_refused(copied: Path) -> None:
    """The joint network answers with both, so it may stand anywhere; a detector may not draw."""
    card = json.loads(copied.read_text("utf-8"))
    file = {"network": card["network"], "sha256": card["sha256"]}
    card |= {"kind": "cascade", "networks": {"localizer": file}}
    copied.write_text(json.dumps(card))
    assert load_model(str(copied)).card.draws
    with pytest.raises(ModelError, match="does not answer with mask_logits"):
        check_answers(parse_card(card), {"localizer": _Fixed(("slice_logits",), 1.0)})
