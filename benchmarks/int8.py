"""Make the int8 network of a joint model, beside its float32 one, and name it in the card.

    python -m venv int8 && int8/bin/pip install -e ".[train,evaluate]" nncf==3.4.0
    int8/bin/python benchmarks/int8.py src/gliosight/models/joint-4.json --data manifest.csv

Post-training quantization by NNCF with slices that the model was trained on: weights by channel, activations
by their range, as QuantizeLinear and DequantizeLinear in an ONNX file. The first convolutions, whose channels
have the widest ranges, and both heads stay float32. What the rounding adds to the logits on average is then
taken off in the heads, by a straight line through both networks' logits. How far the answers are from those
in float32 is measured by benchmarks/precision.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import numpy_helper

from gliosight.card import ModelCard, read_card
from gliosight.data.manifest import Manifest, read_manifest
from gliosight.data.studies import read_labelled
from gliosight.evaluate.predictions import patient_hash
from gliosight.prepare import prepare

SEED = 1
PATIENTS, SLICES = 40, 5
# Convolutions from the input on that stay float32: stem, first block, and the second's widening.
FLOAT_CONVOLUTIONS = 6
HEADS = {"mask_logits": "mask_head", "slice_logits": "slice_head.1"}
# Logits in which pixels are decided; those far from it do not matter.
NEAR = 5.0

Floats = NDArray[np.float32]


def calibration_slices(card: ModelCard, manifest: Manifest) -> list[Floats]:
    """Some slices ``(1, channels, rows, columns)`` of some patients that the model was trained on."""
    known = [name for name in manifest.by_patient if patient_hash(name) in card.training_patients]
    generator = np.random.default_rng(SEED)
    slices = []
    for patient in generator.permutation(sorted(known))[:PATIENTS]:
        network_input = prepare(read_labelled(manifest, str(patient)).study, card.input)
        count = len(network_input)
        chosen = set(generator.choice(count, size=min(count, SLICES), replace=False).tolist())
        for index, batch in enumerate(network_input.batches(1)):
            if index in chosen:
                slices.append(np.ascontiguousarray(batch))
    return slices


def in_float32(path: Path) -> onnx.ModelProto:
    """The network with its large weights in float32, which the file keeps as float16."""
    model = onnx.load(path)
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:
            half = weights[node.input[0]]
            values = numpy_helper.to_array(half).astype(np.float32)
            half.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def quantize(model: onnx.ModelProto, slices: list[Floats]) -> onnx.ModelProto:
    """The network in int8, but for its first convolutions and its heads."""
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    linear = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    kept = [*convolutions[:FLOAT_CONVOLUTIONS], convolutions[-1], *linear]
    return nncf.quantize(
        model,
        nncf.Dataset(slices, lambda images: {"images": images}),
        subset_size=len(slices),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=kept),
    )


def unsigned(model: onnx.ModelProto) -> None:
    """Move activations from -128...127 to 0...255, with the same steps.

    OpenVINO 2026.4 is exact with AMX in either range, but with VNNI alone only in the second.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = constants[node.input[2]]
            value = numpy_helper.to_array(zero)
            if value.dtype == np.int8:  # its DequantizeLinear names the same one
                moved = (value.astype(np.int16) + 128).astype(np.uint8)
                zero.CopyFrom(numpy_helper.from_array(moved, zero.name))
    onnx.checker.check_model(model)


def logits(model: onnx.ModelProto, slices: Iterable[Floats]) -> dict[str, list[Floats]]:
    """What a network answers to each slice."""
    core = openvino.Core()
    network = core.read_model(model.SerializeToString())
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers: dict[str, list[Floats]] = {name: [] for name in HEADS}
    for images in slices:
        answer = compiled(images)
        for name in HEADS:
            answers[name].append(np.array(answer[name]).ravel())
    return answers


def correct(model: onnx.ModelProto, reference: onnx.ModelProto, slices: list[Floats]) -> None:
    """Fit each head's scale and offset to the logits of the network in float32."""
    found, wanted = logits(model, slices), logits(reference, slices)
    weights = {weight.name: weight for weight in model.graph.initializer}
    for answer, head in HEADS.items():
        x, y = np.concatenate(found[answer]), np.concatenate(wanted[answer])
        near = np.abs(y) < NEAR if answer == "mask_logits" else np.isfinite(y)
        scale, offset = np.polyfit(x[near], y[near], 1)
        print(f"{answer}: {scale:.4f} x {offset:+.4f}")
        for name, add in ((f"{head}.weight", 0.0), (f"{head}.bias", offset)):
            values = numpy_helper.to_array(weights[name]) * scale + add
            weights[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def main() -> None:
    """Quantize a model's network, and write file and card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("card", type=Path, help="Of a joint model; its entry int8 is set.")
    parser.add_argument("--data", type=Path, required=True, help="Manifest of the training data.")
    asked = parser.parse_args()
    card = read_card(asked.card)
    network = asked.card.parent / card.networks["joint"].file
    slices = calibration_slices(card, read_manifest(asked.data))
    reference = in_float32(network)
    quantized = quantize(in_float32(network), slices)
    unsigned(quantized)
    correct(quantized, reference, slices)
    for node in quantized.graph.node:
        node.ClearField("doc_string")
    out = network.with_name(f"{network.stem}-int8.onnx")
    onnx.save(quantized, out)
    raw = json.loads(asked.card.read_text("utf-8"))
    entry = {"network": out.name, "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    raw = {**raw, "int8": entry}
    asked.card.write_text(json.dumps(raw, indent=2) + "\n", "utf-8")
    print(f"{out.name}: {out.stat().st_size:,} bytes, from {len(slices)} slices")


if __name__ == "__main__":
    main()
