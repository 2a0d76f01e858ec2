"""OpenVINO as an engine (stage: infer); apart, as the extra ``gliosight[openvino]``.

It computes in float32 here, as ONNX Runtime does: where it would choose bfloat16 by itself (AMX), results
of two machines would differ more than two engines on one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# Importing openvino tells Google Analytics so, and keeps an id in the user's home folder. It does without the
# package that does this where that cannot be imported.
if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino

from gliosight.infer.engine import LONGEST_RUN


class OpenVinoEngine:
    """See `gliosight.infer.engine.Engine`; it knows no limit of memory."""

    name = f"openvino {openvino.__version__.split('-')[0]}"
    precision = "float32"

    def __init__(self, network: bytes, threads: int | None, _: int | None = None) -> None:
        core = openvino.Core()
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(core.read_model(network), "CPU", settings)
        self._request = self._model.create_infer_request()
        self.answers = tuple(output.get_any_name() for output in self._model.outputs)

    def run(
        self, batch: NDArray[np.float32], seconds: float = LONGEST_RUN
    ) -> Mapping[str, NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        self._request.start_async([batch])
        if not self._request.wait_for(int(seconds * 1000)):
            self._request.cancel()
            raise TimeoutError(f"no answer after {seconds:g} s")
        answers = self._request.results
        # A copy: the request's own memory is used again by the next batch.
        return {name: np.array(answers[name], dtype=np.float32) for name in self.answers}
