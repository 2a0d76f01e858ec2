"""What an inference engine does, and which ones there are (stage: infer).

Apart from the engines: one is imported only when it is asked for, and that is most of what a short run costs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gliosight.errors import LimitExceededError, ModelError, UsageError
from gliosight.extras import install_line

# Name, which is the package's: module and class. The first that is installed is taken by default.
ENGINES: dict[str, tuple[str, str]] = {
    "openvino": ("gliosight.infer.openvino_engine", "OpenVinoEngine"),
    "onnxruntime": ("gliosight.infer.onnxruntime_engine", "OnnxRuntimeEngine"),
}
DEFAULT_ENGINE = "auto"
ENGINE_CHOICES = (DEFAULT_ENGINE, *ENGINES)
CPU, GPU = "cpu", "gpu"
DEVICES = (CPU, GPU)
# What a network may take for one batch (seconds).
LONGEST_RUN = 600.0
MOST_OF_A_REASON = 200
# How an ONNX file says that a weight lies in another file: a protobuf text of that key, whichever way its
# length is written. The hash of the card speaks of one file, and nothing else may be opened.
_ELSEWHERE = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)location")
# What ONNX Runtime, OpenVINO and the C++ library say where an allocation failed.
_NO_MEMORY = re.compile(
    r"bad[ _]alloc|out of memory|(failed|unable|cannot|could not) (to )?(allocate|map)|allocat\w+ fail"
    r"|cannot allocate|failed to map segment",
    re.IGNORECASE,
)
# What engines put before their words, and where in their source those stand.
_NOT_FOR_PEOPLE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |(?:Exception from|Check '.*?' failed at) (?=\S+:\d+)"
    r"|\S+\.(?:cc|cpp|h|hpp|cu):\d+(?:: *| (?:\w+ )?)"
)


class Engine(Protocol):
    """Runs one network.

    Attributes
    ----------
    name : str
        Name and version of the engine, for the record.
    precision : str
        What it computes in, for the record.
    answers : tuple of str
        Names of the network's outputs.
    """

    name: str
    precision: str
    answers: tuple[str, ...]

    def run(
        self, batch: NDArray[np.float32], seconds: float = LONGEST_RUN
    ) -> Mapping[str, NDArray[np.float32]]:
        """Predict a batch of ``(b, channels, rows, columns)``; sides are multiples of 32.

        Returns
        -------
        mapping of str to float32 array
            By name: ``mask_logits`` (b, 1, rows, columns) and ``slice_logits`` (b,); a network for one
            task has one of them.

        Raises
        ------
        TimeoutError
            The network did not answer within ``seconds``.
        Exception
            Anything else that the library raises.
        """
        ...


def find_engine(name: str) -> str:
    """The engine that a choice stands for: ``auto`` is the first that is installed.

    Raises
    ------
    UsageError
        Unknown name.
    ModelError
        It is not installed.
    """
    if name not in ENGINE_CHOICES:
        raise UsageError(f"no engine {name!r}", remedy=f"choose one of {', '.join(ENGINE_CHOICES)}")
    installed = [engine for engine in ENGINES if find_spec(engine) is not None]
    if name == DEFAULT_ENGINE and installed:
        return installed[0]
    name = next(iter(ENGINES)) if name == DEFAULT_ENGINE else name
    if name not in installed:
        raise ModelError(f"the engine {name} is not installed", remedy=install_line(name))
    return name


def start_engine(
    name: str,
    network: bytes,
    threads: int | None,
    *,
    precision: str = "float32",
    memory: int | None = None,
    device: str = CPU,
) -> Engine:
    """Start an engine on the content of an ONNX file.

    Parameters
    ----------
    name : str
        One of `ENGINES`.
    threads : int, optional
        The engine's choice if not given.
    precision : {"float32", "bfloat16", "int8"}
        See `gliosight.infer.precision`.
    memory : int, optional
        The most memory that the network may take, in bytes: a network from elsewhere. OpenVINO has such a
        limit on Linux alone, and takes no network with loops or branches then.
    device : {"cpu", "gpu"}
        What computes it.

    Raises
    ------
    ModelError
        The engine is not installed, it finds no such device, or it does not take the network.
    LimitExceededError
        Memory ran out.
    """
    if b"location" in network and _ELSEWHERE.search(network):
        raise ModelError(
            "the network's weights lie in other files",
            remedy="save it with all weights in one file",
        )
    module, class_name = ENGINES[name]
    try:
        start: Callable[..., Engine] = getattr(import_module(module), class_name)
        return start(network, threads, precision, memory, device)
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and not is_memory(error):
            raise ModelError(
                f"the engine {name} is not installed",
                remedy=install_line(name),
            ) from error
        raise failure(
            error, f"{name} does not take this network", remedy="use a model made by gliosight"
        ) from error


def no_gpu(name: str, found: Iterable[str]) -> ModelError:
    """The error where an engine finds no GPU that it can use; ``found`` are the devices it has."""
    what = f"{name} finds no GPU that it can use, only {', '.join(found)}"
    return ModelError(
        what, remedy="leave out --device, or install the engine's build and driver for it"
    )


def failure(error: Exception, what: str, *, where: str | None = None, remedy: str) -> ModelError:
    """An engine's failure as `ModelError`, with its reason in part of a line.

    Raises
    ------
    LimitExceededError
        Memory ran out: engines have no class for that.
    """
    if is_memory(error):
        raise LimitExceededError(
            "there is not enough memory for the network",
            remedy="end other programs, or raise the limit that ulimit -v or a container sets",
        ) from error
    text = _NOT_FOR_PEOPLE.sub("", str(error)).strip() or type(error).__name__
    reason = textwrap.shorten(text, MOST_OF_A_REASON, placeholder=" ...")
    return ModelError(f"{what}: {reason}", where=where, remedy=f"{remedy}, or try another --engine")


def is_memory(error: Exception) -> bool:
    """Whether an engine failed because memory ran out."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None
