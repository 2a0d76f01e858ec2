"""Models are data: checked by hash, run by an engine, refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gliosight.card import InputRecipe, parse_card
from gliosight.errors import LimitExceededError, ModelError, UsageError
from gliosight.infer import engine as engines
from gliosight.infer.engine import ENGINES, find_engine, start_engine
from gliosight.infer.model import Model, load_model, shipped_models
from gliosight.maps import NetworkInput
from gliosight.phantom import Phantom
from gliosight.prepare import prepare


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each of the engines that are installed; the tests' extra has all of them."""
    name: str = request.param
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    return name


@pytest.fixture(scope="module")
def given(small_phantom: Phantom) -> NetworkInput:
    return prepare(small_phantom.study(), InputRecipe())


def _change_card(card: Path, **changes: Any) -> None:
    """Change a card's fields; ``None`` takes one away."""
    raw = json.loads(card.read_text("utf-8")) | changes
    kept = {key: value for key, value in raw.items() if value is not None}
    card.write_text(json.dumps(kept), "utf-8")


def test_models_together_stay_small() -> None:
    folder = next(iter(shipped_models().values())).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6


def _flip_a_bit(card: Path) -> None:
    network = card.with_suffix(".onnx")
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)


def _many_digits(card: Path) -> None:
    text = card.read_text().replace('"gate"', '"x"')
    card.write_text(text.rstrip().removesuffix("}") + f', "gate": {"9" * 5000}}}')


def _replace_network(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(card: Path) -> None:
        network = card.with_suffix(".onnx")
        network.unlink()
        make(network)

    return spoil


def _huge(network: Path) -> None:
    with network.open("wb") as file:
        file.truncate(2**40)


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (_flip_a_bit, "sha256"),
    (lambda card: card.with_suffix(".onnx").unlink(), r"joint-4\.onnx"),
    *((lambda card, text=text: card.write_text(text), "card") for text in ("", "{", "[]", "\0")),
    (lambda card: card.write_text('{"name": "x"}'), "card"),
    (_many_digits, "a number has 5,000 digits"),  # Python's own message names a function to call
    # Nothing outside its folder is opened.
    (lambda card: _change_card(card, network="../../secret.onnx"), r"secret\.onnx"),
    (_replace_network(os.mkfifo), "not a file of at most 1 GiB"),
    (_replace_network(Path.mkdir), "not a file of at most 1 GiB"),
    (_replace_network(_huge), "not a file of at most 1 GiB"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_a_spoilt_model_is_refused(
    copied: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(copied)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(copied), precision="float32")
    assert caught.value.exit_code == 8


@pytest.mark.parametrize(
    ("engine", "words"),
    [("onnxruntime", "must match"), ("openvino", "node_cat_1")],
    indirect=["engine"],
)
def test_what_an_engine_says_is_for_people(copied: Path, engine: str, words: str) -> None:
    recipe = json.loads(copied.read_text("utf-8"))["input"]
    _change_card(copied, input=recipe | {"multiple": 7})
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(copied), engine=engine, precision="float32")
    line = caught.value.line()
    for word in ("ONNXRuntimeError", "Exception", ".h:", ".cpp:"):
        assert word not in line


@pytest.mark.parametrize("name", ["nonesuch", "x" * 5000, "a\0b", "/nowhere/\udcff.json", "", "."])
def test_a_name_that_cannot_be_a_path_is_no_model(name: str) -> None:
    with pytest.raises(ModelError, match="no model") as caught:
        load_model(name)
    assert name != "nonesuch" or "joint-4" in caught.value.line()


def test_something_that_is_no_network_is_refused(engine: str) -> None:
    with pytest.raises(ModelError, match="does not take"):
        start_engine(engine, b"not a network", 1)


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        load_model(engine="abacus")
    for name in ENGINES:
        monkeypatch.setitem(ENGINES, name, ("gliosight.infer.nonesuch", "X"))
        with pytest.raises(ModelError, match=rf"\[{name}\]"):
            start_engine(name, b"", 1)


def test_the_first_engine_that_is_installed_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime"}
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
    assert find_engine("auto") == "onnxruntime"
    installed.add("openvino")
    assert find_engine("auto") == "openvino"
    installed.clear()
    for name in ("auto", "openvino"):
        with pytest.raises(ModelError, match="openvino is not installed") as caught:
            find_engine(name)
        assert "pip install" in str(caught.value.remedy)


@pytest.mark.slow
def test_both_engines_agree(given: NetworkInput) -> None:
    for name in ENGINES:
        pytest.importorskip(name, reason=f"the extra {name} is not installed")
    one, two = (
        load_model("joint-4", engine=name, precision="float32").predict(given) for name in ENGINES
    )
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


def _cascade(gate: float, **networks: _Fixed) -> Model:
    raw = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
    file = {"network": raw["network"], "sha256": raw["sha256"]}
    raw |= {
        "kind": "cascade",
        "gate": gate,
        "flip": False,
        "networks": dict.fromkeys(networks, file),
    }
    return Model(parse_card(raw), networks)


def test_the_localizer_draws_where_the_detector_does_not_say_no(given: NetworkInput) -> None:
    detector = _Fixed(("slice_logits",), 6.0)  # P(no tumour) of the odd slices: 0.9975
    localizer = _Fixed(("mask_logits",), 3.0)
    calls: list[tuple[str, int, int]] = []
    maps = _cascade(0.99, detector=detector, localizer=localizer).predict(
        given, lambda *call: calls.append(call)
    )
    assert calls[-1] == ("infer", len(given), len(given))
    assert calls == sorted(calls)
    odd = len(range(0, len(given), 4))
    assert localizer.seen == len(given) - odd
    marked = (maps.probability > 0.5).any(axis=(1, 2))
    np.testing.assert_array_equal(marked, maps.slice_head > 0.01)
    assert marked.sum() == len(given) - odd
    # Less sure of *no* than the gate asks: the localizer sees them all.
    localizer = _Fixed(("mask_logits",), 3.0)
    _cascade(0.999, detector=detector, localizer=localizer).predict(given)
    assert localizer.seen == len(given)


def test_a_part_of_a_cascade_does_what_it_can(given: NetworkInput) -> None:
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
    _change_card(copied, kind="cascade", networks={"localizer": file}, input_check=None)
    assert load_model(str(copied), precision="float32").card.draws
    with pytest.raises(ModelError, match="does not answer with mask_logits"):
        _cascade(0.99, localizer=_Fixed(("slice_logits",), 1.0)).check()


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
        pytest.param({"kind": 11}, "fails on images|are float64", id="doubles"),
        pytest.param({"more": True}, "fails on images|asks for 2 inputs", id="asks the age, too"),
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
        pytest.param(
            {"endless": True},
            "no answer after 0.5 s|has loops or branches",
            id="a loop without end",
        ),
        pytest.param({"floats": 2**31}, "more memory than 4 GiB", id="8 GiB"),
    ],
)
def test_a_network_that_is_none_of_ours_is_refused_when_it_is_loaded(
    copied: Path,
    change: dict[str, Any],
    told: str | None,
    engine: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine == "openvino" and "opset" in change:
        pytest.skip("OpenVINO reads an opset to come as the newest that it knows")
    monkeypatch.setattr("gliosight.infer.model.LONGEST_TRIAL", 0.5 if "endless" in change else 60.0)
    network = copied.with_suffix(".onnx")
    _network(network, **change)
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    _change_card(copied, sha256=digest, input_check=None)
    if told is None:
        load_model(str(copied), engine=engine, precision="float32")
        return
    resource = pytest.importorskip("resource", reason="a limit of the process is POSIX's")
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ModelError, match=told) as caught:
        load_model(str(copied), engine=engine, precision="float32")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert len(caught.value.line()) < 500
    assert "end other programs" not in caught.value.line()
    assert capfd.readouterr().err == ""  # the engine does not speak for itself


def test_only_a_network_from_elsewhere_is_tried_out(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in shipped_models():
        load_model(name).try_out()
    tried: list[Model] = []
    monkeypatch.setattr(Model, "try_out", lambda self: tried.append(self))
    shipped = load_model("joint-4")
    assert tried == []
    assert (
        load_model(str(copied), precision="float32").card == shipped.card
    )  # the same, but from anywhere
    assert len(tried) == 1


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
def test_answers_are_checked_in_the_middle_too(
    model: Model, given: NetworkInput, spoil: Callable[..., Any], told: str
) -> None:
    engine = _Fixed(("mask_logits", "slice_logits"), 1.0)
    engine.spoil = spoil
    with pytest.raises(ModelError, match=told) as caught:
        Model(replace(model.card, flip=True), {"joint": engine}).predict(given)
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
    def fail(*_: object) -> Any:
        raise ImportError(text) if when == "import" else RuntimeError(text)

    engine = _Fixed(("mask_logits", "slice_logits"), 1.0)
    engine.spoil = fail
    load = fail if when == "import" else lambda _: SimpleNamespace(OnnxRuntimeEngine=fail)
    monkeypatch.setattr(engines, "import_module", load)
    broken = Model(model.card, {"joint": engine})
    calls = {"run": partial(broken.ask, "joint", np.zeros((1, 9, 32, 32), np.float32))}
    with pytest.raises(LimitExceededError, match="not enough memory for the network: end other"):
        calls.get(when, partial(start_engine, "onnxruntime", b"", 1))()
