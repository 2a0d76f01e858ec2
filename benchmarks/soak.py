"""An archive with broken studies, killed again and again, and gone on with: ``make soak`` (docs/archive.md).

    python benchmarks/soak.py [--studies 200] [--kills 3] [--workers 2] [--same 60] [--lgg FOLDER]
                              [--folder WORK]

Writes phantoms in all layouts, breaks every tenth, adds the patients of the LGG set where they are given,
and runs ``gliosight batch``, which is killed with SIGKILL. At the end every sound study has one result, made
once: what the ledger called done before a kill is the same file afterwards. Every broken one has its reason.
Then one worker analyses the same study again and again, and may not grow.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from gliosight.archive.ledger import FILE, FOLDER
from gliosight.archive.run import PAGE
from gliosight.archive.table import TABLE
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom

WRITERS = (write_lgg, write_nifti, write_dicom)
# What a worker may take later, compared with early on.
MOST_GROWTH = 1.05


def write_archive(root: Path, count: int) -> set[str]:
    """Write phantoms, one below each folder of ``root``; give the names of the broken ones' folders."""
    broken = set()
    for seed in range(1, count + 1):
        folder = root / f"{seed:04d}"
        WRITERS[seed % 3](make_phantom(PhantomSpec(slices=5, seed=seed)), folder)
        if seed % 10 == 5:
            files = [path for path in folder.rglob("*") if path.is_file()]
            for path in files:
                path.write_bytes(path.read_bytes()[: 200 if path.suffix != ".tif" else 6])
            broken.add(folder.name)
    return broken


def start(root: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start a batch in a group of its own."""
    words = ["batch", str(root), "-o", str(out), "-q", "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-m", "gliosight", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )  # fmt: skip


def done_so_far(out: Path) -> dict[str, int]:
    """Result folders that the ledger calls done, and when their result was written."""
    if not (out / FOLDER / FILE).is_file():
        return {}
    database = sqlite3.connect(out / FOLDER / FILE)
    try:
        rows = database.execute("SELECT folder FROM studies WHERE state = 'done'").fetchall()
    except sqlite3.OperationalError:  # killed before there was a table
        return {}
    finally:
        database.close()
    return {name: (out / name / "result.json").stat().st_mtime_ns for (name,) in rows}


def memory_of_workers(process: subprocess.Popen[bytes]) -> dict[int, float]:
    """Memory of each worker now, MiB, by its process number."""
    found = {}
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for number in children.read_text().split() if children.is_file() else ():
        text = ""
        with contextlib.suppress(OSError):  # it has ended meanwhile
            text = Path(f"/proc/{number}/status").read_text()
        if "VmRSS" in text:
            found[int(number)] = int(text.split("VmRSS:")[1].split()[0]) / 1024
    return found


def check_memory(work: Path, count: int) -> None:
    """Analyse one study ``count`` times with one worker, and end with an error if its memory grows."""
    root, out = work / "same", work / "same-results"
    phantom = make_phantom(PhantomSpec())
    for number in range(count):
        write_nifti(phantom, root / f"{number:04d}")
    process = start(root, out, workers=1)
    early = late = 0.0
    while process.poll() is None:
        done = len(list(out.glob("*/result.json")))
        # The largest is the worker: multiprocessing has a small helper, too.
        size = max(memory_of_workers(process).values(), default=0.0)
        if done >= count / 2:
            late = max(late, size)
        elif done >= count / 6:
            early = max(early, size)
        time.sleep(0.2)
    require(process.returncode == 0, f"exit code {process.returncode} where one study is repeated")
    print(f"one study {count} times: {early:.0f} MiB in the first half, {late:.0f} in the second")
    require(0 < late <= MOST_GROWTH * early, "the worker grows")


def require(holds: bool, what: str) -> None:
    """End with an error where something is wrong."""
    if not holds:
        sys.exit(what)


def main() -> None:
    """Soak, and print what was seen; ends with an error where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--same", type=int, default=60, help="times that one study is repeated")
    parser.add_argument("--seconds", type=float, default=20.0, help="between start and kill")
    parser.add_argument("--lgg", type=Path, help="patients of the LGG set, analysed, too")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.folder or Path(temporary)
        root, out = work / "in", work / "out"
        broken = write_archive(root, given.studies)
        patients = sorted(given.lgg.glob("TCGA_*")) if given.lgg else []
        for patient in patients:
            (root / patient.name).symlink_to(patient)
        drawn = np.random.default_rng(0)
        before: dict[str, int] = {}
        for kill in range(given.kills):
            process = start(root, out, given.workers)
            time.sleep(given.seconds * drawn.uniform(0.5, 1.5))
            ended = process.poll()
            process.kill()
            process.wait()
            now = done_so_far(out)
            require(before.items() <= now.items(), "a study was done twice")
            print(
                f"kill {kill + 1}: {len(now)} done{' (it had ended)' if ended is not None else ''}"
            )
            before = now
        begun, process = time.monotonic(), start(root, out, given.workers)
        memory: dict[int, list[float]] = {}
        while process.poll() is None:
            for number, size in memory_of_workers(process).items():
                memory.setdefault(number, []).append(size)
            time.sleep(0.5)
        seconds, now = time.monotonic() - begun, done_so_far(out)
        require(before.items() <= now.items(), "a study was done twice")
        with (out / TABLE).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        failed = {row["source"].split("/")[0] for row in rows if row["status"] == "error"}
        require(failed == broken, f"failed or broken alone: {failed ^ broken}")
        reasons = [row["error"] for row in rows if row["status"] == "error"]
        require(all(reasons), "a study failed without a reason")
        sound = given.studies - len(broken) + len(patients)
        folders = [row["out"] for row in rows if row["out"]]
        once = len(folders) == len(set(folders)) == len(now) == sound
        require(once, f"{len(folders)} results, {len(now)} in the ledger, {sound} sound studies")
        left = {path.name for path in out.iterdir()} - {*folders, FOLDER, TABLE, PAGE}
        require(not left, f"left behind: {left}")
        for number, sizes in memory.items():
            if len(sizes) > 20:
                early, late = max(sizes[: len(sizes) // 2]), max(sizes[len(sizes) // 2 :])
                print(
                    f"worker {number}: {early:.0f} MiB in the first half, {late:.0f} in the second"
                )
        made = len(now) - len(before)
        print(f"the last run: {made} studies in {seconds:.1f} s; exit code {process.returncode}")
        print(f"{sound} sound studies done once, {len(broken)} broken ones explained")
        if Path("/proc/self/status").is_file():  # Linux says what a process takes
            check_memory(work, given.same)


if __name__ == "__main__":
    main()
