"""Start-to-exit time of a study with each engine and precision, as whole processes in turn.

    python benchmarks/start_to_exit.py [STUDY ...] [--runs 5]

Prints a row for each engine and precision that this processor has: median and best of the wall seconds, the
processor seconds, which other load disturbs less, and the peak memory. Without a STUDY it is a phantom.
``ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI`` takes AMX away from OpenVINO.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from gliosight.infer.precision import ENGINE_PRECISIONS, NEEDS, processor_features

TOOL = [sys.executable, "-c", "from gliosight.cli import main; main()"]


@dataclass
class Runs:
    """What whole processes took: seconds on the clock, seconds of the processor, and bytes of memory."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: int = 0

    def add(self, call: list[str]) -> None:
        """Run a process to its end; one that fails ends the benchmark."""
        start = time.perf_counter()
        process = subprocess.Popen(call)
        _, status, usage = os.wait4(process.pid, 0)
        self.wall.append(time.perf_counter() - start)
        self.processor.append(usage.ru_utime + usage.ru_stime)
        self.memory = max(self.memory, usage.ru_maxrss * 1024)
        if status:
            raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), call)


def measure(study: Path, runs: int, folder: Path) -> None:
    """Analyse one study ``runs`` times in each way, in turn, and print the table."""
    features = processor_features()
    ways = {
        (engine, precision): Runs()
        for engine, precisions in ENGINE_PRECISIONS.items()
        for precision in precisions
        if not NEEDS[precision] or NEEDS[precision] & features
    }
    for run in range(runs + 1):
        for (engine, precision), taken in ways.items():
            out = folder / f"{study.name}-{engine}-{precision}-{run}"
            call = [*TOOL, "analyze", str(study), "-o", str(out), "-q", "--engine", engine]
            # The first run fills the file cache.
            (taken if run else Runs()).add([*call, "--precision", precision])
    print(
        f"\n{study.name}\n\n| engine | precision | wall, median | best | processor, median | memory |"
    )
    print("| --- " * 6 + "|")
    for (engine, precision), taken in ways.items():
        print(
            f"| {engine} | {precision} | {statistics.median(taken.wall):.2f} s "
            f"| {min(taken.wall):.2f} s | {statistics.median(taken.processor):.2f} s "
            f"| {taken.memory / 1024**2:.0f} MiB |"
        )


def main() -> None:
    """Analyse studies or one phantom."""
    parser = argparse.ArgumentParser()
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies = asked.studies
        if not studies:
            subprocess.run([*TOOL, "phantom", "-o", name, "--format", "nifti"], check=True)
            studies = [path for path in folder.iterdir() if path.is_dir()]
        for study in studies:
            measure(study, asked.runs, folder)


if __name__ == "__main__":
    main()
