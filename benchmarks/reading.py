"""How long reading a DICOM study takes: three series of 155 slices, headers and pixels (``make bench``).

    python benchmarks/reading.py [--slices 155] [--runs 5]

Writes a phantom's study (256 x 256, 12 bit, one file a slice), then reads it in the process: once for the
imports, then the given number of times. Prints the median, and what a first call costs with its imports.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.phantom.dicom import DicomSpec, write_dicom
from gliosight.pipeline import read_study

SPACING_MM = 1.0


def measure(slices: int, runs: int, syntax: str = "explicit-le") -> tuple[float, list[float]]:
    """Seconds of a first reading with its imports, and of each of the others.

    Parameters
    ----------
    slices : int
        Of each of FLAIR, T1 and T1C.
    runs : int
    syntax : str
        Transfer syntax, by the phantom's name for it.
    """
    with tempfile.TemporaryDirectory() as name:
        head = make_phantom(PhantomSpec(slices=slices, slice_spacing_mm=SPACING_MM))
        spec = DicomSpec(syntax=syntax, traps=frozenset())
        folder = write_dicom(head, Path(name), spec)
        seconds = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            study = read_study(folder)
            seconds.append(time.perf_counter() - start)
        if len(study.sequences) != 3 or study.shape[0] != slices:
            raise ValueError(f"read {study.shape}, {sorted(study.sequences)}")
    return seconds[0], seconds[1:]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", type=int, default=155)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    for syntax in ("explicit-le", "j2k"):
        first, others = measure(given.slices, given.runs, syntax)
        print(
            f"{syntax}: 3 series of {given.slices} slices read in {statistics.median(others):.2f} s "
            f"(median of {given.runs}; {first:.2f} s with a first call's imports)"
        )


if __name__ == "__main__":
    main()
