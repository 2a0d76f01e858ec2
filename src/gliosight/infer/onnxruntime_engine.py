"""ONNX Runtime as an engine (stage: infer); the one in the core."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class OnnxRuntimeEngine:
    """Runs a network on the CPU with ONNX Runtime."""

    def __init__(self, network: bytes, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings are for its developers
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.precision = "float32"

    def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        mask_logits, slice_logits = self._session.run(None, {self._input: batch})
        return mask_logits[:, 0], slice_logits
