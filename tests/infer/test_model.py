"""Models are data: checked by hash, run by an engine, refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gliosight.card import InputRecipe, parse_card
from gliosight.errors import LimitExceededError, ModelError, UsageError
from gliosight.infer.engine import ENGINES, start_engine
from gliosight.infer.model import (
    CascadeModel,
    JointModel,
    Model,
    ask,
    check_answers,
    load_model,
    shipped_models,
)
from gliosight.phantom import Phantom
from gliosight.prepare import prepare


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    card = shipped_models()["joint-4"]
    for path in (card, card.with_suffix(".onnx")):
        shutil.copy(path, tmp_path)
    return tmp_path / card.name


def test_models_together_stay_small() -> None:
    folder = next(iter(shipped_models().values())).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6


def test_a_model_is_taken_by_name_and_by_path(copied: Path) -> None:
    assert load_model("joint-4").card == load_model(str(copied)).card


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ModelError, match="joint-4"):
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
    with pytest.raises(ModelError, match=r"joint-4\.onnx"):
        load_model(str(copied))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', "\0"])
def test_a_broken_card_is_refused(copied: Path, text: str) -> None:
    copied.write_text(text)
    with pytest.raises(ModelError, match="card"):
        load_model(str(copied))


def test_a_number_of_thousands_of_digits(copied: Path) -> None:
    """Python's own message names a function to call."""
    text = copied.read_text().replace('"gate"', '"x"')
    copied.write_text(text.rstrip().removesuffix("}") + f', "gate": {"9" * 5000}}}')
    with pytest.raises(ModelError, match="a number has 5,000 digits"):
        load_model(str(copied))


def test_what_an_engine_says_is_for_people(copied: Path) -> None:
    card = json.loads(copied.read_text())
    card["input"]["multiple"] = 7
    copied.write_text(json.dumps(card))
    with pytest.raises(ModelError, match="must match") as caught:
        load_model(str(copied))
    line = caught.value.line()
    assert "ONNXRuntimeError" not in line
    assert ".h:" not in line


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
    model.predict(given, lambda _, done, total: told.append((done, total)))
    assert told[-1] == (len(given), len(given))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.slow
def test_both_engines_agree(model: Model, small_phantom: Phantom) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    given = prepare(small_phantom.study(), model.card.input)
    one = model.predict(given)
    two = load_model("joint-4", engine="openvino").predict(given)
    np.testing.assert_allclose(one.probability, two.probability, atol=5e-3)
    np.testing.assert_allclose(one.slice_head, two.slice_head, atol=5e-3)


class _Fixed:
    """An engine with known answers: what a network would say, without one."""

    name, precision = "fixed", "float32"

    def __init__(self, answers: tuple[str, ...], logit: float) -> None:
        self.answers, self.logit, self.seen = answers, logit, 0
        self.spoil: Callable[..., dict[str, np.ndarray]] | None = None

    def run(self, batch: np.ndarray, _: float = 0) -> dict[str, np.ndarray]:
        if self.spoil is not None:
            return self.spoil(len(batch), *batch.shape[2:])
        self.seen += len(batch)
        # The first slice of each batch is the odd one out.
        slices = np.full(len(batch), self.logit, dtype=np.float32)
        slices[0] = -self.logit
        masks = np.full((len(batch), 1, *batch.shape[2:]), self.logit, dtype=np.float32)
        return {"slice_logits": slices, "mask_logits": masks}


def _cascade(gate: float, **engines: _Fixed | None) -> CascadeModel:
    raw = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
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


def _network(path: Path, **change: Any) -> None:
    """An ONNX file that answers zeros, as a joint network would, with one thing changed."""
    onnx = pytest.importorskip("onnx", reason="onnx comes with the extra train")
    helper, kinds = onnx.helper, onnx.TensorProto
    kind = change.get("kind", kinds.FLOAT)
    weight = helper.make_tensor("w", kind, [1], [change.get("weight", 0.0)])
    if "location" in change:
        weight.ClearField("float_data")
        weight.data_location = kinds.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", change["location"]
    sides = change.get("sides", ["b", 9, "r", "c"])
    inputs = [helper.make_tensor_value_info("images", kind, sides)]
    if change.get("more"):
        inputs.append(helper.make_tensor_value_info("age", kind, [1]))
    axes = helper.make_tensor("axes", kinds.INT64, [1], [1])
    axes3 = helper.make_tensor("axes3", kinds.INT64, [3], change.get("over", [1, 2, 3]))
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["m"], keepdims=1),
        helper.make_node("ReduceMean", ["images", "axes3"], ["s"], keepdims=0),
        helper.make_node("Add", ["m", "w"], ["mask_logits"]),
        helper.make_node("Add", ["s", "w"], [change.get("answer", "slice_logits")]),
    ]
    if change.get("more"):
        nodes[-1] = helper.make_node("Add", ["s", "age"], ["slice_logits"])
    if change.get("endless"):
        on = helper.make_tensor("on", kinds.BOOL, [], [True])
        sides = {"i": kinds.INT64, "go": kinds.BOOL, "x": kind, "going": kinds.BOOL, "y": kind}
        i, go, x, going, y = (
            helper.make_tensor_value_info(name, one, None if name in "xy" else [])
            for name, one in sides.items()
        )
        steps = [
            helper.make_node("Identity", ["go"], ["going"]),
            helper.make_node("Sin", ["x"], ["y"]),
        ]
        body = helper.make_graph(steps, "body", [i, go, x], [going, y])
        nodes[0] = helper.make_node("ReduceMean", ["images", "axes"], ["m0"], keepdims=1)
        nodes[1:1] = [
            helper.make_node("Constant", [], ["on"], value=on),
            helper.make_node("Loop", ["", "on", "m0"], ["m"], body=body),
        ]
    if "floats" in change:
        size = helper.make_tensor("size", kinds.INT64, [1], [change["floats"]])
        nodes[:0] = [
            helper.make_node("Constant", [], ["size"], value=size),
            helper.make_node("ConstantOfShape", ["size"], ["many"]),
            helper.make_node("ReduceMean", ["many"], ["none"], keepdims=0),
        ]
        nodes[-1] = helper.make_node("Sum", ["s", "w", "none"], ["slice_logits"])
    outputs = [
        helper.make_tensor_value_info(name, kind, None)
        for name in ("mask_logits", change.get("answer", "slice_logits"))
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight, axes, axes3])
    opset = helper.make_opsetid("", change.get("opset", 18))
    content = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    path.write_bytes(content[: change.get("cut", len(content))])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({}, None, id="sound"),
        pytest.param({"sides": ["b", 3, "r", "c"]}, "fails on images", id="other channels"),
        pytest.param({"sides": [1, 9, "r", "c"]}, "fails on images", id="one slice at a time"),
        pytest.param({"sides": ["b", 9, 64, 64]}, "fails on images", id="one size of pictures"),
        pytest.param({"kind": 11}, "fails on images", id="doubles"),
        pytest.param({"more": True}, "fails on images", id="asks the age, too"),
        pytest.param({"answer": "label"}, "does not answer with slice_logits", id="other answers"),
        pytest.param({"over": [1, 2, 2]}, r"of the shape \(2, 64\)", id="another shape"),
        pytest.param({"weight": float("nan")}, "NaN, infinite or beyond", id="NaN"),
        pytest.param({"weight": float("inf")}, "NaN, infinite or beyond", id="infinite"),
        pytest.param({"weight": 1e30}, "NaN, infinite or beyond", id="absurd"),
        pytest.param({"opset": 10_000}, "does not take", id="an opset to come"),
        pytest.param({"cut": 150}, "does not take", id="cut short"),
        pytest.param({"cut": 0}, "does not take", id="empty"),
        pytest.param({"location": "/etc/hostname"}, "weights lie in other files", id="absolute"),
        pytest.param({"location": "w.bin"}, "weights lie in other files", id="beside it"),
        pytest.param({"endless": True}, "no answer after 0.5 s", id="a loop without end"),
        pytest.param({"floats": 2**31}, "more memory than 4 GiB", id="8 GiB"),
    ],
)
def test_a_network_that_is_none_of_ours_is_refused_when_it_is_loaded(
    copied: Path,
    change: dict[str, Any],
    told: str | None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gliosight.infer.model.LONGEST_TRIAL", 0.5 if "endless" in change else 60.0)
    network = copied.with_suffix(".onnx")
    _network(network, **change)
    card = json.loads(copied.read_text("utf-8"))
    card["sha256"] = hashlib.sha256(network.read_bytes()).hexdigest()
    copied.write_text(json.dumps(card), "utf-8")
    if told is None:
        load_model(str(copied))
        return
    with pytest.raises(ModelError, match=told) as caught:
        load_model(str(copied))
    assert len(caught.value.line()) < 500
    assert "end other programs" not in caught.value.line()
    assert capfd.readouterr().err == ""  # the engine does not speak for itself


def test_a_shipped_network_is_not_tried_out_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gliosight.infer.model as module

    asked: list[object] = []
    monkeypatch.setattr(module, "try_out", lambda *given: asked.append(given))
    load_model("joint-4")
    assert asked == []
    load_model(str(copied))  # the same, but from anywhere
    assert len(asked) == 1


def test_shipped_networks_answer_as_their_cards_say() -> None:
    import gliosight.infer.model as module

    for name in shipped_models():
        model = load_model(name)
        assert isinstance(model, JointModel)
        module.try_out(model.card, {"joint": model.engine})


def _raises(*_: object) -> dict[str, np.ndarray]:
    raise RuntimeError("no kernel\nfor this node " + "and more words " * 40)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            _raises,
            r"fails on images of the shape \(4, 9, .*no kernel for this .* (and|more|words) \.\.\. \(",
        ),
        (lambda n, r, c: {"mask_logits": np.zeros((n, r, c), np.float32)}, "of the shape"),
        (lambda n, r, c: {"mask_logits": np.zeros((n, 1, r, c))}, "are float64"),
        (lambda n, r, c: {"mask_logits": np.full((n, 1, r, c), np.nan, np.float32)}, "are NaN"),
        (lambda n, r, c: {"mask_logits": np.full((n, 1, r, c), 3e38, np.float32)}, "beyond 1e"),
    ],
)
def test_answers_are_looked_at_in_the_middle_too(
    model: Model, small_phantom: Phantom, spoil: Callable[..., Any], told: str
) -> None:
    engine = _Fixed(("mask_logits", "slice_logits"), 1.0)
    engine.spoil = spoil
    given = prepare(small_phantom.study(), model.card.input)
    with pytest.raises(ModelError, match=told) as caught:
        JointModel(replace(model.card, flip=True), engine).predict(given)
    assert len(caught.value.line().splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "std::bad_alloc",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv "
        "node. Failed to allocate memory for requested buffer of size 75497472",
        "libopenvino.so: failed to map segment from shared object",
    ],
)
@pytest.mark.parametrize("when", ["start", "run", "import"])
def test_memory_that_ran_out_is_no_fault_of_the_network(
    text: str, when: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gliosight.infer.engine as module

    def fail(*_: object) -> Any:
        raise ImportError(text) if when == "import" else RuntimeError(text)

    engine = _Fixed(("mask_logits", "slice_logits"), 1.0)
    engine.spoil = fail
    images = np.zeros((1, 9, 32, 32), np.float32)
    loaded = SimpleNamespace(OnnxRuntimeEngine=fail)
    if when != "run":
        load = fail if when == "import" else lambda _: loaded
        monkeypatch.setattr(module, "import_module", load)
    with pytest.raises(LimitExceededError, match="not enough memory for the network: end other"):
        _ = (
            start_engine("onnxruntime", b"", 1)
            if when != "run"
            else ask(model.card, "joint", engine, images)
        )


@pytest.mark.parametrize("kind", ["fifo", "huge", "folder"])
def test_a_network_that_is_no_file_to_read_is_not_opened(copied: Path, kind: str) -> None:
    network = copied.with_suffix(".onnx")
    network.unlink()
    if kind == "fifo":
        os.mkfifo(network)
    elif kind == "folder":
        network.mkdir()
    else:
        with network.open("wb") as file:
            file.truncate(2**40)
    with pytest.raises(ModelError, match="not a file of at most 1 GiB"):
        load_model(str(copied))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/nowhere/\udcff.json", "", "."])
def test_a_name_that_cannot_be_a_path_is_no_model(name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        load_model(name)


def test_the_command_says_it_in_one_line(copied: Path, tmp_path: Path) -> None:
    copied.write_text(copied.read_text("utf-8").replace('"flip": true', '"flip": "false"'))
    call = [sys.executable, "-m", "gliosight", "demo", "--model", str(copied), "-o"]
    done = subprocess.run(
        [*call, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 8
    assert done.stderr.splitlines() == [
        f"error: unusable model card: flip is not true or false ({copied.name}): "
        "export the model again"
    ]
