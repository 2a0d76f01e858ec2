"""What ``gliosight batch`` does apart from analysing, and how large studies are: ``make scale-bench``.

    python benchmarks/scale.py [--studies 1000 10000 100000] [--dicom 100 1000] [--broken 1000 4000 16000]
                               [--phantoms 10] [--archive NAME=FOLDER ...] [--folder WORK]

Prints three tables (docs/scale.md):

1. Archives whose studies are all done. One phantom is analysed, and its record stands for each study. The
   input are tiny images: one flat folder with three NIfTI files a study, or a folder with 87 DICOM files for
   each. The last rows are the command itself, which finds nothing to do.
2. Archives of broken files. Each study fails as soon as a worker reads it, so what is measured is the
   process that hands out the studies.
3. Bytes and files of a study and of its results, and processor time, for phantoms and for other archives.

Seconds are those of the clock; in parentheses those of the processor, which say more beside other programs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import nibabel
import numpy as np
import pydicom

from gliosight.archive.entries import FAILED, Entry, entry_of, ranked
from gliosight.archive.ledger import FILE, FOLDER, Record, opened_ledger
from gliosight.archive.page import write_page
from gliosight.archive.run import PAGE, Plan, Study, Tally, _signature, run_archive
from gliosight.archive.table import TABLE, write_studies
from gliosight.cli.batch import studies_below
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom
from gliosight.pipeline import Settings, analyze_job
from gliosight.read import Limits, Options
from gliosight.write.result_folder import RESULT_FILE

Result = TypeVar("Result")
Writer = Callable[[Phantom, Path], Path]
MILLION = 1e6
# More files than any archive here has; by default 20,000 below each ROOT are allowed.
MEMBERS = 10**7
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Layouts with the numbers of slices that such studies have in practice.
LAYOUTS: dict[str, tuple[Writer, PhantomSpec]] = {
    "phantoms, TIFF, 36 slices": (write_lgg, PhantomSpec(slices=36)),
    "phantoms, NIfTI, 3 x 155 slices": (write_nifti, PhantomSpec(slices=155, slice_spacing_mm=1.0)),
    "phantoms, DICOM, 3 x 28 slices": (write_dicom, PhantomSpec(slices=28)),
}
# Runs ``gliosight batch``; prints its exit code, the seconds on the clock and of the processor, and its
# largest memory in MiB. In a small process of its own: a child inherits the largest memory of its parent.
WATCH = """
import resource, subprocess, sys, time
begun = time.perf_counter()
code = subprocess.run([sys.executable, "-m", "gliosight", "batch", "-q", *sys.argv[1:]]).returncode
seconds, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of the processor."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.processor:.2f})"


def timed(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """What a call gives, and what it costs this process."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, Cost(time.perf_counter() - clock, time.process_time() - processor)


def batch(root: Path, out: Path, *words: str) -> tuple[Cost, float]:
    """Cost and MiB of ``gliosight batch`` in a process of its own."""
    call = [
        sys.executable,
        "-c",
        WATCH,
        str(root),
        "-o",
        str(out),
        "--max-members",
        str(MEMBERS),
        *words,
    ]
    printed = subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()
    code, clock, processor, memory = map(float, printed)
    if code not in (0, 10):
        sys.exit(f"batch ended with {code:.0f}")
    return Cost(clock, processor), memory


def find(root: Path) -> list[Study]:
    """The studies below a folder, as ``gliosight batch`` finds them."""
    with contextlib.ExitStack() as unpacked:
        options = Options(Limits(members=MEMBERS))
        return studies_below([root], options, unpacked, by_folder=False, shown=False)[0]


def real_entry(folder: Path, plan: Plan) -> Entry:
    """What is known of a phantom that was analysed."""
    write_nifti(make_phantom(PhantomSpec(slices=36)), folder / "in")
    (study,) = find(folder / "in")
    model, settings = plan.settings.load(), plan.settings
    outcome = analyze_job(study.job, model, settings, folder / "result", pictured=True)
    return entry_of(outcome, folder)


def write_flat(root: Path, count: int, names: Sequence[str], content: bytes) -> None:
    """One file for each name of each study, all in one folder."""
    root.mkdir(parents=True)
    for number in range(count):
        for name in names:
            (root / f"case{number:06d}_{name}.nii").write_bytes(content)


def records_of(studies: Sequence[Study], entry: Entry, recipe: str) -> Iterator[Record]:
    """The record of each study, as if it had been analysed."""
    for study in studies:
        name, place = study.job.name, str(study.place)
        folder, signature = f"{name}-gliosight", _signature(study.paths)
        known = replace(entry, study_id=name, source=study.job.source, folder=folder)
        yield Record(study.key, place, "done", recipe, signature, "0" * 64, folder, known)


def write_ledger(records: Sequence[Record], out: Path) -> None:
    """One record after the other, as a run writes them."""
    with opened_ledger(out) as ledger:
        for record in records:
            ledger.write(record)


def read_ledger(out: Path) -> list[Record]:
    """All records."""
    with opened_ledger(out) as ledger:
        return ledger.records()


def write_small_nifti(root: Path, count: int) -> None:
    """So many studies of three tiny images, all in one folder."""
    image = nibabel.Nifti1Image(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4))
    write_flat(root, count, ("flair", "t1", "t1ce"), image.to_bytes())


def write_small_dicom(root: Path, count: int) -> None:
    """So many copies of one DICOM study, each with UIDs of its own and in a folder of its own."""
    with tempfile.TemporaryDirectory() as made:
        spec = PhantomSpec(slices=28, matrix=64, pixel_mm=3.0)
        write_dicom(make_phantom(spec), Path(made))
        paths = sorted(path for path in Path(made).rglob("*") if path.is_file())
        images = [pydicom.dcmread(path) for path in paths]
    uids = [[image[keyword].value for keyword in UIDS] for image in images]
    for number in range(count):
        folder = root / f"case{number:06d}"
        folder.mkdir(parents=True)
        for index, (image, own) in enumerate(zip(images, uids, strict=True)):
            for keyword, uid in zip(UIDS, own, strict=True):
                image[keyword].value = f"{uid}.{number}"
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.PatientID = f"{number}"
            image.save_as(folder / f"{index:03d}.dcm")


def measure_done(
    work: Path, count: int, write: Callable[[Path, int], None], entry: Entry, plan: Plan
) -> dict[str, str]:
    """An archive of so many studies, all of which are done."""
    root, out = work / "in", work / "out"
    write(root, count)
    parts = measure_parts(root, out, count, entry, plan)
    again, memory = batch(root, out)
    return {
        **parts,
        "all of this: the command again": f"{again}",
        "its memory": f"{memory:,.0f} MiB",
    }


def measure_parts(root: Path, out: Path, count: int, entry: Entry, plan: Plan) -> dict[str, str]:
    """What the command does one after the other; the studies are made to be done."""
    studies, finding = timed(lambda: find(root))
    if len(studies) != count:
        sys.exit(f"{len(studies)} of {count} studies were found")
    _, signing = timed(lambda: [_signature(study.paths) for study in studies])
    made = list(records_of(studies, entry, plan.recipe()))
    _, writing = timed(lambda: write_ledger(made, out))
    records, reading = timed(lambda: read_ledger(out))
    for record in records:
        (out / record.folder).mkdir()
        (out / record.folder / RESULT_FILE).write_text("{}")
    entries, ranking = timed(lambda: ranked([record.entry for record in records]))
    _, tabling = timed(lambda: write_studies(entries, out))
    _, paging = timed(lambda: write_page(entries, out / PAGE, title="archive"))
    names = (f"{FOLDER}/{FILE}", TABLE, PAGE)
    ledger, table, page = ((out / name).stat().st_size for name in names)
    return {
        "find the studies": f"{finding}",
        "signatures of their files": f"{signing}",
        "write the ledger": f"{writing}, {count / writing.clock:,.0f} a second",
        "read the ledger": f"{reading}",
        "rank": f"{ranking}",
        f"write {TABLE}": f"{tabling}",
        f"write {PAGE}": f"{paging}",
        "size of the ledger": f"{ledger / MILLION:,.1f} MB, {ledger / count:,.0f} bytes a study",
        f"size of {TABLE}": f"{table / MILLION:,.2f} MB, {table / count:,.0f} bytes a study",
        f"size of {PAGE}": f"{page / MILLION:,.1f} MB, {page / count:,.0f} bytes a study",
    }


def measure_broken(work: Path, count: int, plan: Plan) -> dict[str, str]:
    """An archive of so many studies, each of which fails as soon as it is read."""
    root, out = work / "in", work / "out"
    image = nibabel.Nifti1Image(np.zeros((64, 64, 8), np.int16), np.eye(4))
    write_flat(root, count, ("flair",), image.to_bytes()[:400])
    studies, ticks = find(root), list[float]()

    def tick(_: Tally) -> None:
        ticks.append(time.process_time())

    entries, whole = timed(lambda: run_archive(studies, [], out, plan, tick))
    if len(entries) != count or any(entry.status != FAILED for entry in entries):
        sys.exit("a broken study was analysed")
    # Without the start, and without the table and the page at the end.
    return {
        "the whole run": f"{whole}",
        "processor time of a study": f"{1000 * (ticks[-1] - ticks[0]) / count:.2f} ms",
    }


def measure_sizes(work: Path, root: Path) -> str:
    """Bytes, files and processor time of the studies of an archive: cells of a row."""
    out = work / "out"
    cost, _ = batch(root, out, "--workers", "1", "--threads", "1")
    done = {
        record.key: out / record.folder for record in read_ledger(out) if record.state == "done"
    }
    read = [path for study in find(root) if study.key in done for path in study.paths]
    written = [path for folder in done.values() for path in folder.rglob("*") if path.is_file()]
    cells = [f"{len(done)}"]
    for paths in (read, written):
        size = sum(path.stat().st_size for path in paths)
        cells += [f"{size / len(done) / MILLION:.2f}", f"{len(paths) / len(done):.0f}"]
    return " | ".join([*cells, f"{cost.processor / len(done):.2f}"])


def print_columns(title: str, columns: dict[int, dict[str, str]]) -> None:
    """A table with a column for each number of studies."""
    print(f"\n| {title} | {' | '.join(f'{count:,}' for count in columns)} |", flush=True)
    print("| --- |" + " --- |" * len(columns))
    for name in next(iter(columns.values()), {}):
        print(f"| {name} | {' | '.join(column[name] for column in columns.values())} |")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--dicom", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--broken", type=int, nargs="*", default=[1000, 4000, 16_000])
    parser.add_argument("--phantoms", type=int, default=10, help="of each layout")
    parser.add_argument("--archive", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    given = parser.parse_args()
    plan = Plan(Settings(threads=1), workers=1)

    def fresh() -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=given.folder)

    print(f"load of the machine: {os.getloadavg()[0]:.1f}, at the start")
    with fresh() as work:
        entry = real_entry(Path(work), plan)
    print(f"picture of the record: {len(entry.thumbnail or b''):,} bytes")
    for title, counts, write_archive in (
        ("NIfTI studies of 3 files, all done", given.studies, write_small_nifti),
        ("DICOM studies of 87 files, all done", given.dicom, write_small_dicom),
    ):
        columns = {}
        for count in counts:
            with fresh() as work:
                columns[count] = measure_done(Path(work), count, write_archive, entry, plan)
        print_columns(title, columns)
    columns = {}
    for count in given.broken:
        with fresh() as work:
            columns[count] = measure_broken(Path(work), count, plan)
    print_columns("broken studies", columns)
    print(
        "\n| archive | studies | MB read | files | MB written | files | processor, s |", flush=True
    )
    print("| --- |" + " --- |" * 6)
    for name, (write, spec) in LAYOUTS.items() if given.phantoms else ():
        with fresh() as work:
            for seed in range(1, given.phantoms + 1):
                write(make_phantom(replace(spec, seed=seed)), Path(work) / "in" / f"{seed}")
            print(f"| {name} | {measure_sizes(Path(work), Path(work) / 'in')} |", flush=True)
    for archive in given.archive:
        name, _, folder = archive.partition("=")
        with fresh() as work:
            print(f"| {name} | {measure_sizes(Path(work), Path(folder))} |", flush=True)
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f}, at the end")


if __name__ == "__main__":
    main()
