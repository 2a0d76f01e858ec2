"""Averaged weights to a model that the product runs (training bench; torch, onnx).

In: ``weights.safetensors``. Out: one ONNX file with dynamic batch and sides, and its card. The export is
checked against torch on random input before it is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

from gliosight.card import DecisionRule, InputRecipe
from gliosight.train.networks.joint import JointNetwork

# The largest difference of a logit that is taken for rounding.
TOLERANCE = 2e-2
OPSET = 18
# Weights larger than this are stored as float16, which halves the file; computed is in float32.
STORE_HALF_FROM = 512

# The rule of the shipped model; where each number comes from is in docs/decision.md.
SHIPPED_RULE = DecisionRule(
    pixel_threshold=0.5,
    evidence_mm2=25.0,
    slice_intercept=0.14,
    slice_head_weight=0.383,
    slice_pixel_weight=0.448,
    slice_threshold=0.5,
    lesion_intercept=-3.0,
    lesion_area_weight=1.0,
    lesion_extent_weight=0.8,
    lesion_slice_weight=0.4,
    lesion_pixel_weight=0.8,
    study_threshold=0.5,
    keep_threshold=0.3,
)


def export_joint(
    weights: Path,
    folder: Path,
    name: str,
    *,
    decision: DecisionRule,
    recipe: InputRecipe | None = None,
    flip: bool = True,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``<name>.onnx`` and its card ``<name>.json`` into a folder; return the card's path.

    Raises
    ------
    ArithmeticError
        The exported network does not give what torch gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = JointNetwork()
    network.load_state_dict(load_file(weights))
    # What is compared below is the network as it is stored.
    for weight in network.parameters():
        if weight.numel() >= STORE_HALF_FROM:
            weight.data = weight.data.half().float()
    network.eval()
    example = torch.randn(2, 9, 96, 64)
    path = folder / f"{name}.onnx"
    batch, rows, columns = (torch.export.Dim(one, min=1) for one in ("batch", "rows", "columns"))
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["mask_logits", "slice_logits"],
        dynamic_shapes=({0: batch, 2: 32 * rows, 3: 32 * columns},),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch wrote no ONNX program")
    onnx.save(_store_half(program.model_proto), path)
    _compare(network, path)
    card = {
        "name": name,
        "kind": "joint",
        "network": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "flip": flip,
        "input": asdict(recipe or InputRecipe()),
        "decision": asdict(decision),
        "about": dict(about or {}),
    }
    out = folder / f"{name}.json"
    out.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return out


def _store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep large weights as float16, each behind a cast; engines fold the casts when they load."""
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < STORE_HALF_FROM:
            continue
        name = weight.name
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        weight.CopyFrom(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    # Names of functions and lines of the training code have no use in a shipped file.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    return model


def _compare(network: JointNetwork, path: Path) -> None:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 9, 192, 160), (3, 9, 64, 224)):
        images = torch.randn(shape, generator=generator)
        with torch.no_grad():
            expected = network(images)
        for found, wanted in zip(
            session.run(None, {"images": images.numpy()}), expected, strict=True
        ):
            difference = float(np.abs(found - wanted.numpy()).max())
            if not difference < TOLERANCE:
                raise ArithmeticError(f"ONNX differs from torch by {difference:.2g}")
