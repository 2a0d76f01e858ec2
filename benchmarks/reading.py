"""How long reading DICOM takes (``make bench``).

    python benchmarks/reading.py [--slices 155] [--runs 5] [--files 10000]

Writes a phantom's study (256 x 256, 12 bit, one file a slice), then reads its three series, headers and
pixels, in the process: once for the imports, then the given number of times. Prints the median, and what a
first call costs with its imports; ends with 1 if three plain series of 155 slices take more than 1.5 s. Then
``gliosight inspect`` on a folder of so many files, in a process of its own: its processor time and its
largest memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.pipeline import read_study

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.dicom_phantom import DicomSpec, write_dicom

SPACING_MM = 1.0
# What three plain series of so many slices may take, s.
MOST_SECONDS, MEANT_SLICES = 1.5, 155
# Slices of each series of a small study.
STUDY_SLICES = 150
# Runs ``gliosight inspect`` and says how many studies it saw, its processor time and its largest memory. In a
# small process of its own: what is started inherits the largest memory of whoever starts it.
WATCH = """
import json, resource, subprocess, sys
call = [sys.executable, "-m", "gliosight", "inspect", sys.argv[1], "--json"]
told = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([len(told["studies"]), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


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


def measure_headers(files: int) -> tuple[int, float, float]:
    """What ``gliosight inspect`` of about so many small files costs.

    Returns
    -------
    files : int
        How many it were: whole studies of the phantom with its traps.
    seconds : float
        Processor time.
    megabytes : float
        Largest resident memory.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = 0
        while (there := sum(one.is_file() for one in folder.rglob("*"))) < files:
            spec = PhantomSpec(
                seed=study,
                slices=STUDY_SLICES,
                slice_spacing_mm=SPACING_MM,
                matrix=64,
                pixel_mm=3.0,
            )
            write_dicom(make_phantom(spec), folder)
            study += 1
        call = [sys.executable, "-c", WATCH, str(folder)]
        told = subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout
    seen, seconds, megabytes = json.loads(told)
    if seen != study:
        raise ValueError(f"inspect saw {seen} of {study} studies")
    return there, seconds, megabytes


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", type=int, default=155)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    given = parser.parse_args()
    slow = False
    for syntax in ("explicit-le", "j2k"):
        first, others = measure(given.slices, given.runs, syntax)
        plain = syntax == "explicit-le"
        slow |= plain and statistics.median(others) > MOST_SECONDS * given.slices / MEANT_SLICES
        print(
            f"{syntax}: 3 series of {given.slices} slices read in {statistics.median(others):.2f} s "
            f"(median of {given.runs}; {first:.2f} s with a first call's imports)"
        )
    files, used, megabytes = measure_headers(given.files)
    print(
        f"inspect: headers of {files} files in {used:.1f} s of processor time, {megabytes:.0f} MB"
    )
    if slow:
        sys.exit(
            f"too slow: three plain series of {MEANT_SLICES} slices are to take {MOST_SECONDS} s"
        )


if __name__ == "__main__":
    main()
