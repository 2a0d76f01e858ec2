"""Which precision a processor is fast in: one table of instruction sets (stage: infer).

Apart from the engines: what can be had is known before one of them is imported. OpenVINO lists bfloat16 and
int8 for every x86 processor, also where they are slower than float32 or, as int8 without VNNI, saturate.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from gliosight.card import ModelCard
from gliosight.errors import ModelError
from gliosight.infer.engine import CPU

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
AUTO = "auto"
PRECISIONS = (AUTO, FLOAT32, BFLOAT16, INT8)
# What each precision needs: any one of these flags of the processor, as Linux names them. Fastest first.
NEEDS: dict[str, frozenset[str]] = {
    BFLOAT16: frozenset({"amx_bf16", "avx512_bf16"}),
    INT8: frozenset({"avx512_vnni", "avx_vnni"}),
    FLOAT32: frozenset(),
}
WORDS = {BFLOAT16: "AMX or AVX512-BF16", INT8: "AVX512-VNNI or AVX-VNNI"}
# Not every engine computes in all of them.
ENGINE_PRECISIONS = {"openvino": tuple(NEEDS), "onnxruntime": (FLOAT32,)}
CPUINFO = Path("/proc/cpuinfo")


def choose_precision(asked: str, engine: str, card: ModelCard, device: str = CPU) -> str:
    """The precision that is run in.

    Parameters
    ----------
    asked : {"auto", "float32", "bfloat16", "int8"}
        ``auto``: the fastest of those that engine, processor and model have, and in which the model was
        checked.
    device : {"cpu", "gpu"}
        A GPU computes in float32.

    Raises
    ------
    ModelError
        The engine, the processor or the model does not have what was asked for.
    """
    features = processor_features()
    usable = [
        name for name in ENGINE_PRECISIONS[engine] if not NEEDS[name] or NEEDS[name] & features
    ]
    if device != CPU:  # nothing else was checked there
        usable = [FLOAT32]
    quantised = all(network.int8 is not None for network in card.networks.values())
    checked = {FLOAT32: True, BFLOAT16: card.bfloat16, INT8: quantised}
    if asked == AUTO:
        return next(name for name in usable if checked[name])
    if asked not in usable:
        lacks = f"{engine} does not compute in {asked}{'' if device == CPU else ' on a GPU'}"
        if device == CPU and asked in ENGINE_PRECISIONS[engine]:
            lacks = f"this processor has no {WORDS[asked]}, which {asked} needs"
        raise ModelError(lacks, remedy=f"choose --precision {_words(usable)}")
    if asked == INT8 and not quantised:
        remedy = f"choose --precision {_words(name for name in usable if name != INT8)}"
        raise ModelError(f"the model {card.name} has no network in int8", remedy=remedy)
    return asked


def processor_features() -> frozenset[str]:
    """Instruction sets of the processor by Linux's names, as far as they are known.

    ``ONEDNN_MAX_CPU_ISA`` takes some away from OpenVINO, for trials.
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text("utf-8"), re.MULTILINE)
        features = set(flags[1].split()) if flags is not None else set()
    except OSError:
        features = _known_to_numpy()
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    if not re.search("^$|ALL|DEFAULT|AMX", most):
        features.discard("amx_bf16")
        if not re.search("BF16|FP16", most):
            features.discard("avx512_bf16")
        if not re.search("VNNI|BF16|FP16", most):
            features -= NEEDS[INT8]
    return frozenset(features)


def _known_to_numpy() -> set[str]:
    """What numpy found, for systems other than Linux; it knows nothing of AMX and AVX-VNNI."""
    module = sys.modules.get("numpy._core._multiarray_umath")  # numpy 2
    found: dict[str, bool] = getattr(module, "__cpu_features__", {})
    return {"avx512_vnni"} if found.get("AVX512VNNI") else set()


def _words(names: Iterable[str]) -> str:
    return " or ".join((AUTO, *names))
