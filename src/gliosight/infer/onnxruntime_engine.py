"""ONNX Runtime as an engine (stage: infer); apart, since its import takes time and memory."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gliosight.infer.engine import CPU, GPU, LONGEST_RUN, no_gpu

# Its builds for graphics cards have one of these.
GPU_PROVIDERS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider")


class OnnxRuntimeEngine:
    """See `gliosight.infer.engine.Engine`."""

    name = f"onnxruntime {onnxruntime.__version__}"
    precision = "float32"

    def __init__(
        self,
        network: bytes,
        threads: int | None,
        _: str = "float32",
        memory: int | None = None,
        device: str = CPU,
    ) -> None:
        providers = ["CPUExecutionProvider"]
        if device == GPU:
            found = onnxruntime.get_available_providers()
            graphics = [name for name in GPU_PROVIDERS if name in found]
            if not graphics:
                raise no_gpu("onnxruntime", found)
            providers = [*graphics, *providers]
            self.name = f"{self.name}, GPU"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised, too, and printed in one line
        # Threads that wait for each other busily take the cores from the one that is waited for.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._memory = memory
        if memory is not None:
            _limit_memory(memory)
            options.add_session_config_entry("session.use_env_allocators", "1")
        self._session = onnxruntime.InferenceSession(network, options, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self.answers = tuple(output.name for output in self._session.get_outputs())

    def run(
        self, batch: NDArray[np.float32], seconds: float = LONGEST_RUN
    ) -> Mapping[str, NDArray[np.float32]]:
        """See `gliosight.infer.engine.Engine.run`."""
        options = onnxruntime.RunOptions()
        # The engine looks at this mark between two nodes, inside loops, too.
        watch = threading.Timer(seconds, setattr, (options, "terminate", True))
        watch.daemon = True
        watch.start()
        try:
            answers = self._session.run(self.answers, {self._input: batch}, options)
        except Exception as error:
            if options.terminate:
                raise TimeoutError(f"no answer after {seconds:g} s") from error
            if self._memory is not None and "Available memory of" in str(error):
                limit = f"{self._memory / 1024**3:g} GiB"
                raise RuntimeError(f"it takes more memory than {limit}") from error
            raise
        finally:
            watch.cancel()
        return dict(zip(self.answers, answers, strict=True))


@functools.cache
def _limit_memory(memory: int) -> None:
    """Make the allocator of sessions that use the process's; there is one for all of them."""
    ort, default = onnxruntime, -1
    arena, kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    limits = {
        "max_mem": memory,
        "arena_extend_strategy": default,
        "initial_chunk_size_bytes": default,
        "max_dead_bytes_per_chunk": default,
    }
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", arena, 0, kind), ort.OrtArenaCfg(limits)
    )
