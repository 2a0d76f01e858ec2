"""What an analysis costs, in counts that are the same on every machine: more than allowed fails.

Imports are counted in ``test_imports.py``, times are measured by ``make bench`` (docs/benchmarks.md).
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gliosight.infer.model import Model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import write_dicom
from gliosight.pipeline import Settings, analyze_study, read_study, write_analysis
from gliosight.study import Study

from .conftest import REPOSITORY
from .counting import little_memory

Writer = Callable[[Phantom, Path], Path]
# Analyses a study, and prints how often that one of its files is opened which is opened most.
OPENED = """
import collections, os, sys
folder, opened = sys.argv[1], collections.Counter()
def look(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder) and os.path.isfile(arguments[0]):
        opened[str(arguments[0])] += 1
sys.addaudithook(look)
from gliosight.cli import run
code = run(["analyze", folder, "-o", sys.argv[2], "-q"])
print(max(opened.values()))
sys.exit(code)
"""


class Watched(np.ndarray[Any, Any]):
    """An array that counts the elements that numpy goes through, its own and of what is computed from it."""

    elements = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        Watched.elements += max(np.size(value) for value in inputs)
        options = {name: _plain(value) for name, value in options.items()}
        answer = getattr(ufunc, method)(*map(_plain, inputs), **options)
        return answer.view(Watched) if isinstance(answer, np.ndarray) else answer

    def astype(self, *arguments: Any, **options: Any) -> Any:
        """Convert, and count."""
        Watched.elements += self.size
        return super().astype(*arguments, **options)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.view(np.ndarray) if isinstance(value, Watched) else value


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Thin slices: what is done for each voxel counts most."""
    spec = PhantomSpec(slices=96, slice_spacing_mm=1.5)
    return read_study(write_nifti(make_phantom(spec), tmp_path_factory.mktemp("thin")))


def test_passes_over_the_volume(study: Study, model: Model, tmp_path: Path) -> None:
    plain = analyze_study(study, model, Settings())
    watched = {
        name: replace(volume, values=volume.values.view(Watched))
        for name, volume in study.sequences.items()
    }
    Watched.elements = 0
    analysis = analyze_study(replace(study, sequences=watched), model, Settings())
    assert 5 < Watched.elements / plain.mask.size < 22
    assert np.array_equal(analysis.mask, plain.mask)
    Watched.elements = 0
    write_analysis(analysis, tmp_path / "out")
    assert 5 < Watched.elements / plain.mask.size < 15


def test_memory_for_each_voxel(study: Study, model: Model, tmp_path: Path) -> None:
    analysis = analyze_study(study, model, Settings())
    with little_memory(21 * analysis.mask.size):
        analyze_study(study, model, Settings())
    with little_memory(5 * analysis.mask.size):
        write_analysis(analysis, tmp_path / "out")


@pytest.mark.parametrize(
    ("write", "most"),
    [
        pytest.param(write_lgg, 2, id="slices"),  # to see what it is, and to read it
        pytest.param(write_nifti, 2, id="NIfTI"),
        pytest.param(write_dicom, 3, id="DICOM"),  # its pixels apart from its header
    ],
)
def test_how_often_a_file_is_opened(write: Writer, most: int, tmp_path: Path) -> None:
    path = write(make_phantom(PhantomSpec(slices=4)), tmp_path / "in")
    call = [sys.executable, "-c", OPENED, str(path), str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert 1 <= int(done.stdout.splitlines()[-1]) <= most


def test_operations_of_the_network(
    study: Study, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino", reason="it reads the network's layers")
    benchmark = runpy.run_path(str(REPOSITORY / "benchmarks" / "speed.py"))
    assert 2 * benchmark["convolution_macs"](openvino.Core(), (1, 9, 256, 192)) < 2.3e9
    shapes: list[tuple[int, ...]] = []
    engine = model.engine
    run = engine.run
    monkeypatch.setattr(
        engine, "run", lambda batch, seconds: shapes.append(batch.shape) or run(batch, seconds)
    )
    analyze_study(study, model, Settings())
    # Every 2.5 mm at most a slice is looked at, and its mirror image; the crop is the head's.
    assert sum(shape[0] for shape in shapes) <= 2 * 96
    assert max(shape[2] * shape[3] for shape in shapes) <= 256 * 192


# Runs the command line as the process, and says of Python's search for cycles whether it is on, and whether
# anything was set aside from it.
COLLECTED = """
import atexit, gc, sys
from gliosight.cli import main
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))
main(sys.argv[1:])
"""


def test_short_commands_do_not_search_for_unused_cycles(tmp_path: Path) -> None:
    two = tmp_path / "in"
    for seed in (1, 2):
        write_lgg(make_phantom(PhantomSpec(slices=3, seed=seed)), two)
    for words, told in (
        (("models",), "True False"),
        (("inspect", str(two)), "False False"),
        (("analyze", str(two), "-o", str(tmp_path / "out"), "-q"), "False True"),
    ):
        call = [sys.executable, "-c", COLLECTED, *words]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == told
