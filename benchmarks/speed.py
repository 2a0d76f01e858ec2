"""How fast gliosight is, whole and in parts, beside its peers: ``make bench`` (docs/benchmarks.md).

    python benchmarks/speed.py [--peers unet=PYTHON keras=PYTHON] [--runs 5] [--parts network,...]

Everything is measured in one run, since machines differ from day to day: a figure is a ratio or a share
wherever that makes sense. The parts, all of them by default:

network
    Slices a second of the shipped network in each precision that the machine has, one pass, on the
    crops of a phantom; the same with its mirror image, as `analyze` does it. With ``--peers`` the published
    U-Net in eager PyTorch and the tutorial's two Keras networks, each by a Python that has its library.
peak
    Share of the machine's measured peak (a large product of matrices in the same library and precision)
    that the network's convolutions reach.
processes
    Whole processes, start to exit with all files: slices in the LGG layout, a volume of 155 slices, DICOM
    studies of 28 and 155 slices, ``--help``, ``inspect`` of 100 headers. Median wall time, processor time
    and largest memory.
warm
    Time of a study in a process that analyses several, over that of the network alone.
growth
    Time and memory over 1 to 1,000 slices and 1 to 200 studies; ``--plot FILE`` draws it (matplotlib).

Studies are phantoms, written on the spot; times do not depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from gliosight.infer.precision import NEEDS, processor_features
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom
from gliosight.pipeline import Settings, analyze_study, read_study, write_analysis
from gliosight.prepare import prepare

HERE = Path(__file__).resolve().parent
PARTS = ("network", "peak", "processes", "warm", "growth")
THREADS = 2
# Runs a command and prints its wall time, processor time (s) and largest memory (MiB). In a small process of
# its own: what is started inherits the largest memory of whoever starts it.
WATCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
SLICES = (1, 10, 30, 100, 300, 1000)
STUDIES = (1, 10, 50, 200)
MOST_PAINTED = 300  # slices of a phantom; of more, each is written several times


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    beside: str = ""


def main() -> None:
    """Measure the parts asked for, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each speed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in given.peers)
    wanted = given.parts.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers: dict[str, Callable[[], Iterator[Row]]] = {
            "network": lambda: network(peers, given.seconds),
            "peak": lambda: peak(given.seconds),
            "processes": lambda: processes(folder, given.runs),
            "warm": lambda: warm(folder, given.runs),
            "growth": lambda: growth(folder, given.plot),
        }
        lines = [
            f"{machine()}, {date.today()}",
            "",
            "| what | measured | beside |",
            "| --- | --- | --- |",
        ]
        print("\n".join(lines), flush=True)
        for part in PARTS:
            if part in wanted:
                for row in makers[part]():
                    lines.append(f"| {row.what} | {row.value} | {row.beside} |")
                    print(lines[-1], flush=True)
    if given.out is not None:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def machine() -> str:
    """Cores and instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"
    found = {
        word for line in text.splitlines() if line.startswith("flags") for word in line.split()
    }
    named = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI",
             "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}  # fmt: skip
    names = ", ".join(dict.fromkeys(name for flag, name in named.items() if flag in found))
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{os.cpu_count()} cores, {names}" + (f", limited to {limit}" if limit else "")


def crops(settings: Settings) -> list[np.ndarray]:
    """What the network is given of a phantom of 36 slices of 256 x 256, in batches."""
    head = make_phantom(PhantomSpec(slices=36))
    with tempfile.TemporaryDirectory() as name:
        study = read_study(write_lgg(head, Path(name)))
    batches = prepare(study, settings.load().card.input).batches(4)
    return [np.ascontiguousarray(batch) for batch in batches]


def fastest(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the calls within some seconds: what the machine can do, whatever else it does."""
    call()
    end, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def precisions() -> list[str]:
    """Those that this processor has, float32 first."""
    features = processor_features()
    return [name for name in reversed(NEEDS) if not NEEDS[name] or NEEDS[name] & features]


def network(peers: dict[str, str], seconds: float) -> Iterator[Row]:
    """Slices a second of our network and of the peers."""
    speeds: dict[str, float] = {}
    for precision in precisions():
        settings = Settings(threads=THREADS, precision=precision)
        model, batches = settings.load(), crops(settings)
        count = sum(len(batch) for batch in batches)
        once = count / fastest(lambda: [model.ask("joint", batch) for batch in batches], seconds)  # noqa: B023
        speeds[model.engine.precision] = once
        rows, columns = batches[0].shape[2:]
        yield Row(
            f"network, {model.engine.name}, {model.engine.precision}, one pass",
            f"{once:.0f} slices/s",
            f"crops of {rows} x {columns}",
        )
    best = max(speeds, key=speeds.__getitem__)
    for name, script, what in (
        ("unet", "unet_torch.py", "published U-Net, 256 x 256, eager PyTorch, float32"),
        ("keras", "tutorial_keras.py", "the tutorial's two Keras networks"),
    ):
        if name in peers:
            done = subprocess.run(
                [peers[name], str(HERE / "peers" / script)], check=True, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            told = json.loads(done.stdout)
            ratio = speeds[best] / told["slices/s"]
            yield Row(f"{what} ({told['library']})", f"{told['slices/s']:.1f} slices/s",
                      f"ours in {best} {ratio:.0f} times as fast")  # fmt: skip


def peak(seconds: float) -> Iterator[Row]:
    """What part of the machine's arithmetic the network reaches."""
    import openvino
    from openvino import opset13 as ops

    core = openvino.Core()
    batch = crops(Settings(precision="float32"))[0]
    operations = 2 * convolution_macs(core, batch.shape)
    side = 4096
    for precision in precisions():
        if precision == "int8":
            continue  # its product needs quantized weights, which change what is compared
        left = ops.parameter([side, side], np.float32)
        weights = ops.constant(np.random.default_rng(0).standard_normal((side, side), np.float32))
        product = openvino.Model([ops.matmul(left, weights, False, True)], [left])
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        compiled = core.compile_model(
            product, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": THREADS}
        )
        request = compiled.create_infer_request()
        matrix = np.ones((side, side), np.float32)
        most = 2 * side**3 / fastest(lambda: request.infer([matrix]), seconds)  # noqa: B023
        model = Settings(threads=THREADS, precision=precision).load()
        ours = operations / fastest(lambda: model.ask("joint", batch), seconds)  # noqa: B023
        yield Row(
            f"convolutions, {precision}",
            f"{ours / most:.0%} of the peak",
            f"{ours / 1e9:,.0f} of {most / 1e9:,.0f} GFLOP/s; {operations / len(batch) / 1e9:.1f} a slice",
        )


def convolution_macs(core: Any, shape: tuple[int, ...]) -> int:
    """Multiplications of the shipped network's convolutions for an input of this shape."""
    from gliosight.infer.model import DEFAULT_MODEL, SHIPPED

    model = core.read_model(SHIPPED / f"{DEFAULT_MODEL}.onnx")
    model.reshape(list(shape))
    total = 0
    for node in model.get_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            weights = node.input(1).get_shape()
            # (groups,) outputs, inputs of a group, rows, columns
            total += int(np.prod(node.output(0).get_shape())) * int(np.prod(weights[-3:]))
    return total


def watched(*words: object) -> tuple[float, float, float]:
    """Wall time, processor time (s) and largest memory (MiB) of one command of gliosight."""
    call = [sys.executable, "-c", WATCH, sys.executable, "-m", "gliosight", *map(str, words)]
    # Else each run would compile all modules again.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    told = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, env=own).stdout)
    return told[0], told[1], told[2]


def processes(folder: Path, runs: int) -> Iterator[Row]:
    """Whole processes, each kind in turn, so that a busy moment does not fall on one of them."""
    thin = PhantomSpec(slices=155, slice_spacing_mm=1.0)
    usual = PhantomSpec(slices=28)
    studies = {
        "36 slices in the LGG layout": write_lgg(
            make_phantom(PhantomSpec(slices=36)), folder / "lgg"
        ),
        "NIfTI, 155 slices": write_nifti(make_phantom(thin), folder / "thin"),
        "DICOM, 3 x 28 slices, with SEG and SR": write_dicom(make_phantom(usual), folder / "d28"),
        "DICOM, 3 x 155 slices, with SEG and SR": write_dicom(make_phantom(thin), folder / "d155"),
    }
    calls: dict[str, tuple[object, ...]] = {
        f"analyze: {name}": ("analyze", path, "-o", folder / "out", "--overwrite", "-q")
        for name, path in studies.items()
    }
    headers = make_phantom(replace(usual, slices=100, slice_spacing_mm=1.5))
    calls["inspect: 3 x 100 headers"] = ("inspect", write_dicom(headers, folder / "d100"))
    calls["--help"] = ("--help",)
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, words in calls.items():
            once = watched(*words)
            if run:  # the first run fills the file cache
                taken[name].append(once)
    for name, figures in taken.items():
        wall, processor, memory = (
            statistics.median(column) for column in zip(*figures, strict=True)
        )
        yield Row(name, f"{wall:.2f} s, {min(figures)[0]:.2f} at best",
                  f"{processor:.2f} s of processor time, {memory:.0f} MiB")  # fmt: skip


def warm(folder: Path, runs: int) -> Iterator[Row]:
    """A study after another in one process."""
    study = write_lgg(make_phantom(PhantomSpec(slices=36, seed=2)), folder / "warm")
    settings = Settings(threads=THREADS)
    model = settings.load()
    whole, alone = [], []
    for _ in range(runs + 1):
        start = time.perf_counter()
        analysis = analyze_study(read_study(study), model, settings)
        write_analysis(analysis, folder / "warm-out", overwrite=True)
        whole.append(time.perf_counter() - start)
        alone.append(analysis.provenance.timings_ms["infer"] / 1000)
    one, own = statistics.median(whole[1:]), statistics.median(alone[1:])
    yield Row(
        "a study in a warm process",
        f"{one:.2f} s",
        f"{one / own:.1f} times the network's {own:.2f} s",
    )


def growth(folder: Path, plot: Path | None) -> Iterator[Row]:
    """How time and memory grow with slices, and with studies."""
    figures: dict[str, list[tuple[int, float, float]]] = {"slices": [], "studies": []}
    for count in SLICES:
        each = -(-count // MOST_PAINTED)
        painted = count // each
        spec = PhantomSpec(slices=painted, slice_spacing_mm=min(5.0, 170 / painted))
        study = write_nifti(make_phantom(spec), folder / f"s{count}")
        if each > 1:
            for path in study.glob("*.nii.gz"):
                repeat_slices(path, each)
        wall, _, memory = watched("analyze", study, "-o", folder / "out", "--overwrite", "-q")
        figures["slices"].append((count, wall, memory))
    root = folder / "many"
    for count in STUDIES:
        for seed in range(len(list(root.glob("*"))) + 1, count + 1):
            write_lgg(make_phantom(PhantomSpec(slices=5, seed=seed)), root)
        wall, _, memory = watched("analyze", root, "-o", folder / f"out{count}", "-q")
        figures["studies"].append((count, wall, memory))
    for what, rows in figures.items():
        for count, wall, memory in rows:
            yield Row(f"{count} {what}", f"{wall:.1f} s", f"{memory:.0f} MiB")
    if plot is not None:
        draw_growth(figures, plot)


def repeat_slices(path: Path, times: int) -> None:
    """Give a NIfTI volume each of its slices several times, so much closer."""
    import nibabel as nib

    image = nib.load(path)
    values = np.repeat(np.asarray(image.dataobj), times, axis=2)
    nib.save(nib.Nifti1Image(values, image.affine @ np.diag([1, 1, 1 / times, 1])), path)


def draw_growth(figures: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Time and memory over slices and studies."""
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(2, 2, figsize=(8, 5), layout="constrained", sharex="col")
    for column, (what, rows) in zip(axes.T, figures.items(), strict=True):
        counts = [row[0] for row in rows]
        for axis, index, label in ((column[0], 1, "seconds"), (column[1], 2, "MiB")):
            axis.plot(counts, [row[index] for row in rows], marker="o")
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        column[1].set_xlabel(what)
    drawing.savefig(path)


if __name__ == "__main__":
    main()
