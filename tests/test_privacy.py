"""A run leaves nothing outside OUT and asks nobody: no telemetry of any library, in any way of running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gliosight.phantom import Phantom, write_nifti

ENGINE = """
import sys
from gliosight.infer import load_model
load_model(engine=sys.argv[1])
"""
# Networks are run by ONNX Runtime there, too, to hold them against torch's.
EXPORT = """
import sys
from gliosight.infer.model import SHIPPED
from gliosight.train import export
export.onnxruntime.InferenceSession(
    next(SHIPPED.glob("*.onnx")).read_bytes(), providers=["CPUExecutionProvider"]
)
"""
LIBRARY = """
import sys
from gliosight import analyze
analyze(sys.argv[1])
"""
# Whatever the caller set, in a worker of another program.
AGAINST = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "0"
import multiprocessing
from gliosight.infer import load_model
def load():
    load_model()
with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.apply(load)
"""
COMMAND = "from gliosight.cli import main; main()"
WAYS: dict[str, tuple[str, list[str], str]] = {
    "the command": (COMMAND, ["analyze", "{study}", "-o", "{out}", "-q"], ""),
    "the library": (LIBRARY, ["{study}"], ""),
    "a worker": (AGAINST, [], ""),
    "openvino": (ENGINE, ["openvino"], "openvino"),
    "onnxruntime": (ENGINE, ["onnxruntime"], "onnxruntime"),
    "training": (EXPORT, [], "torch"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_leaves_nothing_and_opens_no_socket(
    way: str, small_phantom: Phantom, tmp_path: Path
) -> None:
    code, arguments, package = WAYS[way]
    if package and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    strace = shutil.which("strace")
    if strace is None and os.environ.get("CI"):
        pytest.fail("strace is missing: install the package strace")
    study = write_nifti(small_phantom, tmp_path / "study")
    given = {"study": study, "out": tmp_path / "out"}
    calls = tmp_path / "calls"
    watched = [strace, "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(calls)]
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA")}
    folders |= {"XDG_CONFIG_HOME": tmp_path / "config", "XDG_STATE_HOME": tmp_path / "state"}
    folders |= {"XDG_DATA_HOME": folders.pop("XDG_DATA")}
    for folder in folders.values():
        folder.mkdir()
    environment = {
        **{name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"},
        **{name: str(folder) for name, folder in folders.items()},
    }
    # Ray brings requests into the tests' environment. Where it is, pydicom imports it, and urllib3 then tries
    # with a socket whether there is IPv6. The core does not have it.
    code = f"import sys; sys.modules['requests'] = None\n{code}"
    script = [sys.executable, "-c", code, *(one.format(**given) for one in arguments)]
    done = subprocess.run(
        [*(watched if strace else []), *script],  # type: ignore[list-item]
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    left = [path for folder in folders.values() for path in folder.rglob("*")]
    assert left == []
    if strace is None:
        pytest.skip("strace is not installed: sockets were not looked at")
    assert "socket(" not in calls.read_text()
