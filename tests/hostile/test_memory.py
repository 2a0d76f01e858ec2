"""What an analysis takes: bounded by the pixels that were counted, whatever the header claims."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gliosight.card import InputRecipe
from gliosight.decide import decide
from gliosight.errors import LimitExceededError
from gliosight.head import find_head
from gliosight.infer.model import Model
from gliosight.maps import Maps
from gliosight.measure import measure
from gliosight.normalisation import measure_intensity, unit_range
from gliosight.phantom import Phantom
from gliosight.pipeline import Settings, analyze_study
from gliosight.prepare import _shows_something, prepare
from gliosight.read import Limits, from_arrays
from gliosight.read.limits import LEAST_BYTES_A_PIXEL, Budget
from gliosight.study import Geometry
from tests.counting import little_memory
from tests.support.dicom_phantom import DicomSpec, write_dicom

from ..conftest import make_study
from ..read.builders import make_volume, read_path, write_nifti

MIB = 1024**2


def _affine(slices: float, rows: float, columns: float) -> np.ndarray:
    return np.diag([slices, rows, columns, 1.0])


@pytest.mark.parametrize(
    ("shape", "spacing", "told"),
    [
        ((4, 96, 20), (5.0, 20.0, 5.0), "rows reach over 1,920 mm"),
        ((4, 20, 200), (5.0, 1.0, 5.0), "columns reach over 1,000 mm"),
        ((1, 30_000, 2), (5.0, 1.0, 1.0), "rows reach over 30,000 mm"),
        ((70, 20, 30), (20.0, 20.0, 20.0), "slices reach over 1,400 mm"),
        ((4, 120, 120), (5.0, 5.0, 5.0), None),  # 600 mm: as far as a scanner may see
        ((120, 20, 20), (5.0, 5.0, 5.0), None),
        ((1, 20, 20), (20.0, 5.0, 5.0), None),
    ],
)
def test_a_spacing_that_shows_metres_is_not_believed(
    tmp_path: Path, shape: tuple[int, int, int], spacing: tuple[float, ...], told: str | None
) -> None:
    values = make_volume(shape)
    arrays = from_arrays(values, affine=_affine(*spacing))
    path = write_nifti(tmp_path / "flair.nii", values, _affine(*spacing[::-1]))
    for study in (arrays, read_path(path)):
        messages = [one.message for one in study.flags if one.code == "NO_GEOMETRY"]
        assert (study.geometry is None) == (told is not None) == bool(messages)
        assert all(told in one for one in messages if told)


def test_nor_is_it_in_dicom(small_phantom: Phantom, tmp_path: Path) -> None:
    import pydicom

    folder = write_dicom(small_phantom, tmp_path, DicomSpec(traps=frozenset()))
    for path in (one for one in folder.rglob("*") if one.is_file()):
        header = pydicom.dcmread(path)
        header.PixelSpacing = [5.0, 5.0]
        header.save_as(path)
    study = read_path(folder)
    assert study.geometry is None
    (message,) = (one.message for one in study.flags if one.code == "NO_GEOMETRY")
    assert "mm, more than 600 mm" in message


@pytest.mark.parametrize(
    ("shape", "geometry", "recipe"),
    [
        pytest.param((4000, 8, 8), None, InputRecipe(), id="slices"),
        pytest.param((4, 60, 60), (5.0, 300.0, 300.0), InputRecipe(), id="18 m wide"),
        pytest.param(
            (4, 60, 60),
            None,
            InputRecipe(pixel_mm=0.1, field_of_view_mm=1000),
            id="a card of tiny pixels",
        ),
        pytest.param((9, 60, 60), None, InputRecipe(matrix=4096), id="a card of a large matrix"),
    ],
)
def test_the_network_s_input_is_bounded_before_it_is_allocated(
    shape: tuple[int, int, int], geometry: tuple[float, float, float] | None, recipe: InputRecipe
) -> None:
    values = make_volume(shape)
    placed = None
    if geometry is not None:
        origins = np.arange(shape[0])[:, None] * [0.0, 0.0, geometry[0]]
        placed = Geometry(origins, np.array([0, -1.0, 0]), np.array([-1.0, 0, 0]), geometry[1:])
    study = make_study(values, placed)
    with little_memory(32 * MIB), pytest.raises(LimitExceededError, match="the limit is 1 GiB"):
        prepare(study, recipe)


def _peak(run: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        run()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_each_stage_takes_a_few_bytes_a_voxel(dtype: str, model: Model) -> None:
    """Of a volume whose head, and whose lesion, fill it: nothing is copied as float64 or int64."""
    values = make_volume((48, 256, 256), dtype=dtype)
    study = from_arrays(values, affine=_affine(1.0, 0.7, 0.7))
    card, voxels = model.card, values.size
    given = prepare(study, card.input)
    logits = np.full((len(given), *given.images.shape[2:]), 3.0, dtype=np.float32)
    slices = logits[:, 0, 0]
    maps = given.plan.restore(logits, slices)
    head = find_head(study.flair.values)
    deciding = partial(decide, maps, study.geometry, card.decision, card.input, head=head)
    decision = deciding()
    assert decision.mask.mean() > 0.4
    taken = {
        # What is left of it are the input, which has a bound of its own, and the head.
        "prepare": _peak(lambda: prepare(study, card.input)) - given.images.nbytes,
        "restore": _peak(lambda: given.plan.restore(logits, slices)),
        "decide": _peak(deciding),
        "measure": _peak(lambda: measure(study, decision.mask, maps.probability, origin="x")),
    }
    most = {"prepare": 8, "restore": 5, "decide": 13, "measure": 11}
    assert {name: taken[name] / voxels for name in taken if taken[name] > most[name] * voxels} == {}


@pytest.mark.slow
def test_the_input_is_let_go_before_the_verdict(
    model: Model, small_phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    import gliosight.pipeline as pipeline

    held: list[weakref.ref[np.ndarray]] = []

    def noting(*given: object) -> object:
        made = prepare(*given)  # type: ignore[arg-type]
        held.append(weakref.ref(made.images))
        return made

    def looking(*given: object, **options: object) -> object:
        gc.collect()
        assert held[0]() is None
        return decide(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "prepare", noting)
    monkeypatch.setattr(pipeline, "decide", looking)
    assert isinstance(analyze_study(small_phantom.study(), model, Settings()).maps, Maps)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 3, 2**20), (2**16, 8, 12), (1, 2**11, 3000)], ids=str)
def test_a_statistic_needs_no_more_than_a_sample(shape: tuple[int, int, int]) -> None:
    """Narrow, deep and single: the coarse copy is coarse along whatever side is long."""
    values = np.zeros(shape, dtype=np.uint8)
    values[tuple(slice(side // 4, -(side // 4) or None) for side in shape)] = 100
    values[tuple(side // 2 for side in shape)] = 101
    head = find_head(values)
    assert 0.1 < head.mean() < 0.9
    assert _peak(lambda: find_head(values)) < 16 * values.size
    assert _peak(lambda: measure_intensity(values, head)) < 12 * values.size
    assert _peak(lambda: unit_range(values, head)) < 12 * values.size
    assert _peak(lambda: _shows_something(values)) < 40 * min(values.size, 2**22)


def test_larger_volumes_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    from gliosight import head as heads
    from gliosight import normalisation

    values = make_volume((40, 200, 200), dtype="int16")
    head = find_head(values)
    whole, wide = measure_intensity(values, head), unit_range(values, head)
    monkeypatch.setattr(heads, "MOST_COARSE", 2**12)
    monkeypatch.setattr(normalisation, "MOST_SAMPLED", 2**15)
    assert (find_head(values) == head).mean() > 0.9
    coarse, narrow = measure_intensity(values, head), unit_range(values, head)
    assert coarse is not None
    assert whole is not None
    assert coarse.low == pytest.approx(whole.low, abs=2)
    assert (coarse.mean, coarse.std, coarse.high) == (whole.mean, whole.std, whole.high)
    assert narrow is not None
    assert wide is not None
    assert narrow.high == pytest.approx(wide.high, abs=2)


@pytest.mark.parametrize(("itemsize", "counted"), [(1, 4), (2, 4), (4, 4), (8, 8)])
def test_a_pixel_counts_what_its_analysis_takes(itemsize: int, counted: int) -> None:
    assert LEAST_BYTES_A_PIXEL == 4
    for limit, fits in ((counted * 100, True), (counted * 100 - 1, False)):
        budget = Budget(Limits(decoded_bytes=limit))
        if fits:
            budget.take(itemsize * 100, "a.nii", packed=None, pixels=100)
            with pytest.raises(LimitExceededError):
                budget.take(1, "b.nii", packed=None)
        else:
            with pytest.raises(LimitExceededError, match="--max-decoded"):
                budget.take(itemsize * 100, "a.nii", packed=None, pixels=100)
