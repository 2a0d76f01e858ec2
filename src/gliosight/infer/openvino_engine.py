"""OpenVINO as an engine (stage: infer); apart, since its import takes time and memory."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Importing openvino tells Google Analytics so, and keeps an id in the user's home folder. It does without the
# package that does this where that cannot be imported.
if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino

from gliosight.infer.engine import CPU, GPU, LONGEST_RUN, is_memory, no_gpu

# Without a hint OpenVINO chooses by itself. A network in int8 says what is quantised; the rest is float32.
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
# Networks within a network. A run is stopped between two nodes, but not within these.
NESTED = frozenset({"Loop", "TensorIterator", "If"})
STATUS = Path("/proc/self/status")
# The limit is the process's.
_ONE_LIMIT = threading.Lock()


class OpenVinoEngine:
    """See `gliosight.infer.engine.Engine`."""

    name = f"openvino {openvino.__version__.split('-')[0]}"

    def __init__(
        self,
        network: bytes,
        threads: int | None,
        precision: str = "float32",
        memory: int | None = None,
        device: str = CPU,
    ) -> None:
        self.precision = precision
        self._memory = memory
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        if device == CPU:
            # A thread that is bound to a core waits for what else runs there.
            settings["ENABLE_CPU_PINNING"] = False
            if threads is not None:
                settings["INFERENCE_NUM_THREADS"] = threads
        with self._bounded():
            core = openvino.Core()
            if device == GPU:
                if not any(found.startswith("GPU") for found in core.available_devices):
                    raise no_gpu("openvino", core.available_devices)
                self.name = f"{self.name}, GPU"
            model = core.read_model(network)
            if len(model.inputs) != 1:  # it would run, on whatever is in memory
                raise RuntimeError(f"it asks for {len(model.inputs)} inputs")
            if memory is not None:
                _refuse_nested(model)
            compiled = core.compile_model(model, device.upper(), settings)
            self._request = compiled.create_infer_request()
        # An output has several names where nodes before it did nothing.
        self._outputs = {
            name: index for index, output in enumerate(compiled.outputs) for name in output.names
        }
        self.answers = tuple(self._outputs)

    def run(
        self, batch: NDArray[np.float32], seconds: float = LONGEST_RUN
    ) -> Mapping[str, NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        with self._bounded():
            self._request.start_async([batch])
            if not self._request.wait_for(int(seconds * 1000)):
                self._request.cancel()
                raise TimeoutError(f"no answer after {seconds:g} s")
        # A copy: the request's own memory is used again by the next batch.
        return {
            name: np.array(self._request.get_output_tensor(index).data)
            for name, index in self._outputs.items()
        }

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        """Let the process grow by no more than the network may take; Linux alone has such a limit."""
        if self._memory is None or sys.platform != "linux":
            yield
            return
        import resource

        with _ONE_LIMIT:
            limits = resource.getrlimit(resource.RLIMIT_AS)
            size = re.search(r"^VmSize:\s+(\d+)", STATUS.read_text(), re.MULTILINE)
            most = (0 if size is None else 1024 * int(size[1])) + self._memory
            bounds = most < limits[0] or limits[0] == resource.RLIM_INFINITY
            if bounds:
                resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
            try:
                yield
            except Exception as error:
                if bounds and is_memory(error):
                    limit = f"{self._memory / 1024**3:g} GiB"
                    raise RuntimeError(f"it takes more memory than {limit}") from error
                raise
            finally:
                resource.setrlimit(resource.RLIMIT_AS, limits)


def _refuse_nested(model: Any) -> None:
    """Refuse loops and branches: one without end could not be stopped."""
    kinds = sorted({node.get_type_name() for node in model.get_ops()} & NESTED)
    if kinds:
        raise RuntimeError(f"it has loops or branches ({', '.join(kinds)})")
