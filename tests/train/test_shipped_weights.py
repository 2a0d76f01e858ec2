"""The shipped weights are the shipped network's, and a training can start from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import ModelError  # noqa: E402
from gliosight.infer.model import DEFAULT_MODEL, SHIPPED, Model  # noqa: E402
from gliosight.train.fitting import load_weights  # noqa: E402
from gliosight.train.networks.joint import JointNetwork  # noqa: E402
from gliosight.train.run import seen_by_weights  # noqa: E402


def test_shipped_weights_are_those_of_the_shipped_network(model: Model) -> None:
    network = JointNetwork()
    load_weights(network, SHIPPED / f"{DEFAULT_MODEL}.safetensors")
    images = torch.rand(1, 9, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mask, label = network.eval()(images)
    found = model.engine.run(images.numpy())
    # Stored as float16, once before and once after batch norms were folded in.
    largest = float(mask.abs().max())
    np.testing.assert_allclose(found["mask_logits"], mask.numpy(), atol=1e-2 * largest)
    np.testing.assert_allclose(found["slice_logits"], label.numpy(), atol=5e-2)


def test_whom_weights_have_seen_is_told_by_the_card_beside_them(tmp_path: Path) -> None:
    seen = seen_by_weights(SHIPPED / f"{DEFAULT_MODEL}.safetensors")
    assert seen is not None
    assert len(seen) == 131
    weights = tmp_path / "own.safetensors"
    assert seen_by_weights(weights) is None
    # A card that cannot be read must not pass for weights that have seen nobody.
    weights.with_suffix(".json").write_text("{")
    with pytest.raises(ModelError, match="unusable model card"):
        seen_by_weights(weights)
