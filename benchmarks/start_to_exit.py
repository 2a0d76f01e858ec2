"""Start-to-exit time of both engines on the same study, as whole processes: ``make bench``.

Prints the median of wall seconds and the highest peak memory of the children, per engine.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5
ENGINES = ("onnxruntime", "openvino")


def main() -> None:
    """Analyse one phantom ``RUNS`` times with each engine, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tool = [sys.executable, "-c", "from gliosight.cli import main; main()"]
        subprocess.run([*tool, "phantom", "-o", str(folder), "--format", "nifti"], check=True)
        study = next(one for one in folder.iterdir() if one.is_dir())
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for run in range(RUNS + 1):
            for engine in ENGINES:
                out = folder / f"{engine}-{run}"
                start = time.perf_counter()
                call = [*tool, "analyze", str(study), "-o", str(out), "-q", "--engine", engine]
                subprocess.run(call, check=True)
                if run:  # the first run fills the file cache
                    seconds[engine].append(time.perf_counter() - start)
        for engine, values in seconds.items():
            print(f"{engine}: median {statistics.median(values):.2f} s, {min(values):.2f} at best")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"highest peak memory of either: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
