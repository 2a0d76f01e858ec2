"""Which precision is chosen, by processor, engine and model; and that each gives nearly the same answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliosight.card import InputRecipe, ModelCard, NetworkFile, parse_card
from gliosight.errors import ModelError
from gliosight.infer import precision
from gliosight.infer.model import load_model, shipped_models
from gliosight.infer.precision import (
    FLOAT32,
    NEEDS,
    PRECISIONS,
    choose_precision,
    processor_features,
)
from gliosight.phantom import Phantom
from gliosight.prepare import prepare

AMX = {"amx_bf16", "avx512_vnni", "avx2"}
BF16 = {"avx512_bf16", "avx512_vnni", "avx2"}
SERVER = {"avx512_vnni", "avx2"}
LAPTOP = {"avx_vnni", "avx2"}


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """A card that has all precisions."""
    raw = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
    raw |= {"bfloat16": True, "int8": {"network": "a.onnx", "sha256": "0" * 64}}
    return parse_card(raw)


def _on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, features: set[str]) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        f"vendor_id\t: X\nflags\t\t: fpu {' '.join(sorted(features))} sse\n", "utf-8"
    )
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize(
    ("features", "engine", "chosen", "without_bfloat16", "without_int8"),
    [
        (AMX, "openvino", "bfloat16", "int8", "bfloat16"),
        (BF16, "openvino", "bfloat16", "int8", "bfloat16"),
        (SERVER, "openvino", "int8", "int8", "float32"),
        (LAPTOP, "openvino", "int8", "int8", "float32"),
        ({"avx2"}, "openvino", "float32", "float32", "float32"),
        (AMX, "onnxruntime", "float32", "float32", "float32"),
    ],
)
def test_the_fastest_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    card: ModelCard,
    features: set[str],
    engine: str,
    chosen: str,
    without_bfloat16: str,
    without_int8: str,
) -> None:
    _on(monkeypatch, tmp_path, features)
    joint = replace(card.networks["joint"], int8=None)
    assert choose_precision("auto", engine, card) == chosen
    assert choose_precision("auto", engine, replace(card, bfloat16=False)) == without_bfloat16
    no_int8 = replace(card, networks={"joint": joint})
    assert choose_precision("auto", engine, no_int8) == without_int8
    assert choose_precision("float32", engine, card) == "float32"


@pytest.mark.parametrize(
    ("features", "engine", "asked", "words"),
    [
        (
            SERVER,
            "openvino",
            "bfloat16",
            "has no AMX or AVX512-BF16, which bfloat16 needs: choose --precision auto or ",
        ),
        ({"avx2"}, "openvino", "int8", "has no AVX512-VNNI or AVX-VNNI, which int8 needs"),
        (AMX, "onnxruntime", "int8", "onnxruntime does not compute in int8: .* auto or float32$"),
    ],
)
def test_what_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    card: ModelCard,
    features: set[str],
    engine: str,
    asked: str,
    words: str,
) -> None:
    _on(monkeypatch, tmp_path, features)
    with pytest.raises(ModelError, match=words):
        choose_precision(asked, engine, card)


def test_a_model_without_a_network_in_int8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: ModelCard
) -> None:
    _on(monkeypatch, tmp_path, SERVER)
    two = {"detector": card.networks["joint"], "localizer": NetworkFile("b.onnx", "1" * 64)}
    with pytest.raises(ModelError, match=r"joint-4 has no network in int8: .* auto or float32$"):
        choose_precision("int8", "openvino", replace(card, networks=two))


@pytest.mark.parametrize(
    ("most", "left"),
    [
        ("DEFAULT", AMX | BF16),
        ("AVX512_CORE_AMX", AMX | BF16),
        ("AVX512_CORE_BF16", BF16),
        ("AVX512_CORE_VNNI", SERVER),
        ("avx2_vnni", SERVER),
        ("AVX512_CORE", {"avx2"}),
        ("AVX2", {"avx2"}),
    ],
)
def test_what_openvino_may_not_use_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: str, left: set[str]
) -> None:
    _on(monkeypatch, tmp_path, AMX | BF16)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    assert processor_features() - {"fpu", "sse"} == left


def test_on_a_system_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "nonesuch")
    assert processor_features() <= {"avx512_vnni"}


@pytest.mark.parametrize("spoilt", [1, "yes", None])
def test_a_card_says_bfloat16_with_a_bool(spoilt: object) -> None:
    raw = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
    with pytest.raises(ValueError, match="bfloat16 is not true or false"):
        parse_card(raw | {"bfloat16": spoilt})


@pytest.mark.parametrize(
    "spoilt", [None, "a.onnx", {"network": "a.onnx"}, {"network": "../a", "sha256": "0" * 64}]
)
def test_a_card_names_its_int8_network_as_it_names_others(spoilt: object) -> None:
    raw = json.loads(shipped_models()["joint-4"].read_text("utf-8"))
    with pytest.raises(ValueError, match=r"int8|beside the card"):
        parse_card(raw | {"int8": spoilt})


@pytest.mark.slow
@pytest.mark.parametrize("asked", [name for name in PRECISIONS if name not in ("auto", FLOAT32)])
def test_each_precision_of_this_processor_agrees(asked: str, small_phantom: Phantom) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    if not NEEDS[asked] & processor_features():
        pytest.skip(f"this processor is not fast in {asked}")
    given = prepare(small_phantom.study(), InputRecipe())
    exact = load_model(engine="openvino", precision=FLOAT32).predict(given)
    model = load_model(engine="openvino", precision=asked)
    assert model.engines["joint"].precision == asked
    assert model.engines["gate"].precision == FLOAT32
    maps = model.predict(given)
    one, two = exact.probability > 0.5, maps.probability > 0.5
    assert 2 * (one & two).sum() > 0.98 * (one.sum() + two.sum()) > 0
    np.testing.assert_allclose(exact.slice_head, maps.slice_head, atol=0.05)


def test_a_gpu_computes_in_float32(card: ModelCard) -> None:
    assert choose_precision("auto", "openvino", card, "gpu") == "float32"
    with pytest.raises(ModelError, match=r"bfloat16 on a GPU: choose --precision auto or float32$"):
        choose_precision("bfloat16", "openvino", card, "gpu")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_gpu_that_is_not_there_is_an_error(engine: str) -> None:
    pytest.importorskip(engine, reason="the engine is not installed")
    if engine == "openvino":
        import openvino

        devices = openvino.Core().available_devices
    else:
        import onnxruntime

        devices = onnxruntime.get_available_providers()
    if any(word in name.upper() for name in devices for word in ("GPU", "CUDA", "ROCM", "DML")):
        model = load_model(engine=engine, device="gpu")
        assert model.engine.name.endswith(", GPU")
        assert model.engine.precision == "float32"
        return
    with pytest.raises(ModelError, match=f"{engine} finds no GPU .*: leave out --device"):
        load_model(engine=engine, device="gpu")
