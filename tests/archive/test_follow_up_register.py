"""Registration of a phantom that was scanned twice, and what follows from it."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("SimpleITK", reason="the extra followup is not installed")

from gliosight.archive.follow_up.compare import compare
from gliosight.archive.follow_up.register import (
    Registration,
    grid_round,
    register,
    resample,
)
from gliosight.head import find_head
from gliosight.infer.model import Model
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.pipeline import Settings, analyze_study
from gliosight.study import Geometry, MrSequence, Study, Volume
from tests.archive.heads import analysis_of, geometry, scanned, thin_head

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "follow_up.py"


def off_by(found: Registration, moved: np.ndarray, scan: Phantom) -> float:
    """How far points of the head are from where they belong, mm: root mean square."""
    inside = np.argwhere(find_head(scan.sequences[MrSequence.FLAIR]))[::200]
    points = scan.geometry.to_world(inside)
    gone = (found.placement - moved)[:3]
    return float(np.sqrt(((points @ gone[:, :3].T + gone[:, 3]) ** 2).sum(axis=1).mean()))


def mirrored(study: Study) -> Study:
    """The same patient, the columns of the pictures stored the other way round."""
    volume = study.flair
    assert volume.geometry is not None
    old = volume.geometry
    last = (volume.values.shape[2] - 1) * old.spacing[1] * old.column_direction
    turned = Geometry(
        old.origins + last,
        old.row_direction,
        -old.column_direction,
        old.spacing,
        old.slice_thickness,
    )
    values = np.ascontiguousarray(volume.values[:, :, ::-1])
    return replace(study, sequences={MrSequence.FLAIR: Volume(values, turned)})


def test_a_grown_phantom_is_the_same_head_with_a_larger_lesion() -> None:
    before, after = thin_head(4), thin_head(4, 1.0)
    assert 1.6 < after.volume_ml / before.volume_ml < 2.1
    assert (after.truth >= before.truth).mean() > 0.999
    flair = [phantom.sequences[MrSequence.FLAIR] for phantom in (before, after)]
    far = ~after.truth & ~before.truth
    assert (flair[0][far] == flair[1][far]).mean() > 0.9


def test_another_scan_shows_the_same_lesion_where_the_head_is() -> None:
    before, after = scanned()[0], scanned(again=True)[0]
    assert after.volume_ml == pytest.approx(before.volume_ml, rel=0.08)
    centres = [
        scan.geometry.to_world(np.argwhere(scan.truth).mean(axis=0)) for scan in (before, after)
    ]
    moved = scanned(again=True)[1]
    np.testing.assert_allclose(moved[:3, :3] @ centres[0] + moved[:3, 3], centres[1], atol=1.0)


def test_resampling_leads_through_the_placement_and_knows_where_there_are_images() -> None:
    values = np.zeros((8, 60, 50), np.uint16)
    values[3, 20, 10] = 7
    source = geometry(8)
    grid = (geometry(12, first_mm=-4.0), (12, 60, 50))
    shifted = np.eye(4)
    shifted[:3, 3] = -4.0, 0.0, 0.0  # two columns: from the grid's world to the values'
    out, covered = resample(values, source, grid, shifted, order=0)
    assert np.argwhere(out == 7).tolist() == [[5, 20, 8]]
    # half a voxel beyond the outer centres is still inside
    assert covered[:, 20, 8].tolist() == [False] * 2 + [True] * 8 + [False] * 2


@pytest.mark.slow
def test_a_motion_is_found_again_and_each_time_the_same() -> None:
    (before, _), (after, moved) = scanned(), scanned(again=True)
    found = register(before.study(), after.study())
    assert not found.failure
    assert off_by(found, moved, before) < 0.7
    assert found.error_mm < 1.0
    assert found.overlap > 0.9
    again = register(before.study(), after.study())
    assert np.array_equal(found.placement, again.placement)


@pytest.mark.slow
def test_left_and_right_stay_apart_when_the_pictures_are_stored_the_other_way_round(
    stub_model: Model,
) -> None:
    (before, _), (after, moved) = scanned(), scanned(growth=1.0, again=True)
    straight = after.study()
    studies = before.study(), mirrored(straight)
    found = register(*studies)
    assert off_by(found, moved, before) < 0.7
    analyses = [analyze_study(study, stub_model, Settings()) for study in studies]
    followed = compare(analyses, ["before", "after"], [None, None], "as given")
    assert followed.lesions[0].side == "right"  # as the phantom's
    assert followed.lesions[0].changes[0].kind == "grown"
    labels, sampled = followed.labels[1], followed.sampled[1]
    assert labels is not None
    assert sampled is not None
    world = followed.grid.to_world(np.argwhere(labels == 1)).mean(axis=0)
    inside = followed.grid.to_world(np.argwhere(sampled.head)[::100]).mean(axis=0)
    assert world[0] > inside[0] + 10  # RAS+: the patient's right
    truth = before.geometry.to_world(np.argwhere(before.truth).mean(axis=0))
    assert np.linalg.norm(world - truth) < 5


@pytest.mark.slow
def test_another_persons_head_and_a_stripped_one_are_refused() -> None:
    person, other, stripped = (
        make_phantom(PhantomSpec(seed=seed, skull=skull, sequences=(MrSequence.FLAIR,))).study()
        for seed, skull in ((1, True), (2, True), (1, False))
    )
    assert "the same person" in register(person, other).failure
    assert "skull" in register(person, stripped).failure


def test_a_study_without_a_head_fails_in_words() -> None:
    study = analysis_of().study
    empty = Volume(np.zeros(study.shape, np.float32), study.geometry)
    found = register(study, replace(study, sequences={MrSequence.FLAIR: empty}))
    assert found.failure == "One of the two studies shows no head."


def test_the_common_grid_covers_the_head_in_axial_slices() -> None:
    study = analysis_of().study
    head = find_head(study.flair.values)
    grid, shape = grid_round(study, head, 1.0)
    ends = grid.to_world(np.array([[0, 0, 0], np.array(shape) - 1]))
    inside = geometry().to_world(np.argwhere(head))
    assert (ends.min(axis=0) < inside.min(axis=0)).all()
    assert (ends.max(axis=0) > inside.max(axis=0)).all()
    assert grid.spacing == (1.0, 1.0)
    assert math.isclose(grid.slice_spacing or 0, 1.0)


@pytest.mark.slow
def test_the_benchmark_in_small() -> None:
    """Two heads of the fifty runs, unchanged and doubled, with the shipped model."""
    script = runpy.run_path(str(BENCHMARK), run_name="script")
    script["runs"].__globals__["GROWTHS"] = (0.0, 1.0)
    done = list(script["runs"](4, Settings(threads=1).load()))
    assert [one.growth for one in done] == [0.0, 1.0] * 2
    assert sum(one.covered for one in done) >= 3
    assert [one.kind for one in done if one.growth == 0] == ["stable", "stable"]
    assert all(one.kind == "grown" for one in done if one.growth == 1)
    assert "True change in the interval" in script["table"](done)
