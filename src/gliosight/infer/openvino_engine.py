"""OpenVINO as an engine (stage: infer); the extra ``gliosight[openvino]``.

It computes in float32 here, as ONNX Runtime does: where it would choose bfloat16 by itself (AMX), results
of two machines would differ more than two engines on one.
"""

from __future__ import annotations

import numpy as np
import openvino
from numpy.typing import NDArray


class OpenVinoEngine:
    """Runs a network on the CPU with OpenVINO."""

    def __init__(self, network: bytes, threads: int | None) -> None:
        core = openvino.Core()
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(core.read_model(network), "CPU", settings)
        self._request = self._model.create_infer_request()
        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        self.precision = "float32"

    def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        outputs = self._request.infer([batch])
        mask_logits, slice_logits = (np.array(outputs[k], dtype=np.float32) for k in range(2))
        return mask_logits[:, 0], slice_logits
