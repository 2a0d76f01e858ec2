"""ONNX Runtime as an engine (stage: infer); the one in the core."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class OnnxRuntimeEngine:
    """Runs a network on the CPU with ONNX Runtime."""

    def __init__(self, network: bytes, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised, too, and told in one line
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.answers = tuple(one.name for one in self._session.get_outputs())
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.precision = "float32"

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        answers = self._session.run(self.answers, {self._input: batch})
        return dict(zip(self.answers, answers, strict=True))
