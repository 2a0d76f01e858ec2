"""The input gate's network, which a benchmark trains: it learns, and what is shipped answers as it does."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from gliosight.infer.model import load_model

pytest.importorskip("torch", reason="the extra train is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gate_network

SIDE = 32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_a_network_learns_and_answers_alike_when_shipped(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_network, "BATCH", 16)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 64)
    # Discs of four sizes, in noise.
    y, x = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    discs = [np.hypot(x, y) < 0.2 + 0.2 * label for label in labels]
    pictures = np.stack([200 * disc + rng.integers(0, 20, (SIDE, SIDE)) for disc in discs])
    pictures = pictures.astype(np.uint8)
    network = gate_network.train(pictures, labels, np.ones(64), steps=60)
    logits = gate_network.logits_of(network, pictures)
    assert (logits.argmax(axis=1) == labels).mean() > 0.6  # chance: 0.25
    mirrored = gate_network.logits_of(network, np.ascontiguousarray(pictures[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, logits, atol=1e-4)

    content = gate_network.export(network, SIDE)
    copied.with_name("joint-4-gate.onnx").write_bytes(content)
    card = json.loads(copied.read_text("utf-8"))
    card["input_check"] |= {"sha256": hashlib.sha256(content).hexdigest(), "side": SIDE}
    copied.write_text(json.dumps(card), "utf-8")
    answer = load_model(str(copied)).classify(pictures.astype(np.float32) / 255)
    # Weights are stored as float16.
    np.testing.assert_allclose(answer, logits, atol=0.02 * np.abs(logits).max())
