"""Left stays left, and every millimetre in its place: however the scanner laid its slices.

An asymmetric head with a lesion on one side, through every orientation of its axes, turned, anisotropic and
moved, as NIfTI and as DICOM. The truth stands in for the network, so that what is measured here is reading,
geometry and sides alone; a few cases go through the whole tool, network and files included.
"""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gliosight.infer.model import Model
from gliosight.measure import measure
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_nifti
from gliosight.pipeline import Settings, analyze_study, read_study, write_analysis
from gliosight.study import Geometry, MrSequence, Study
from tests.support.dicom_phantom import (
    DicomSpec,
    geometry_of,
    truth_of,
    turned,
    volume_of,
    write_dicom,
)

# Nothing is resampled on the way: what DICOM's decimal strings and NIfTI's float32 leave.
SAME_PLACE_MM = 1e-3
ORDERS = tuple(permutations(range(3)))
FLIPS = tuple(product((False, True), repeat=3))
ALL_48 = tuple(product(ORDERS, FLIPS))


@pytest.fixture(scope="module")
def heads() -> dict[str, Phantom]:
    """The same small head with its lesion on either side; thick slices, so that no two axes are alike."""
    return {
        side: make_phantom(
            PhantomSpec(
                seed=3, matrix=64, pixel_mm=3.0, slices=18, slice_spacing_mm=7.0, lesion_side=side
            )
        )
        for side in ("left", "right")
    }


def world_centroid(truth: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.float64]:
    return geometry.to_world(np.argwhere(truth).astype(float)).mean(axis=0)


def check(study: Study, truth: NDArray[np.bool_], side: str, world: NDArray[np.float64]) -> None:
    assert study.geometry is not None
    _, findings = measure(study, truth, truth.astype(np.float32), origin="test")
    assert findings[0].side == side
    assert findings[0].volume_px > 0.9 * truth.sum()
    here = world_centroid(truth, study.geometry)
    assert np.abs(here - world).max() < SAME_PLACE_MM


def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return 2 * float((one & two).sum()) / float(one.sum() + two.sum())


@pytest.mark.slow
def test_all_48_orientations_as_nifti(heads: dict[str, Phantom], tmp_path: Path) -> None:
    for number, (order, flips) in enumerate(ALL_48):
        # Mirrored along an odd number of axes or not, either side comes with each order.
        side = ("left", "right")[(number // 4 + number // 2 + number) % 2]
        head = heads[side]
        world, native = world_centroid(head.truth, head.geometry), head.geometry.affine
        assert native is not None
        values, truth, affine = head.sequences[MrSequence.FLAIR], head.truth, native.copy()
        values, truth = values.transpose(order), truth.transpose(order)
        affine = affine[:, [*order, 3]]
        for axis, flipped in enumerate(flips):
            if flipped:
                values, truth = np.flip(values, axis), np.flip(truth, axis)
                affine[:, 3] += affine[:, axis] * (values.shape[axis] - 1)
                affine[:, axis] *= -1
        shift = np.array([200.0, -200.0, 150.0]) * (-1) ** number
        affine[:3, 3] += shift
        path = tmp_path / f"{number}_flair.nii"
        # The file's fastest index is our last.
        image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]])
        nibabel.save(image, path)
        study = read_study(path)
        assert np.array_equal(study.flair.values, values)
        check(study, truth, side, world + shift)


@pytest.mark.slow
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    case=st.sampled_from(ALL_48),
    degrees=st.tuples(*[st.floats(-30, 30)] * 3),
    shift=st.tuples(*[st.floats(-200, 200)] * 3),
    tilt=st.sampled_from([0.0, 0.0, 12.0, -20.0]),
    uneven=st.sampled_from([0.0, 0.0, 0.2]),
    layout=st.sampled_from(["classic", "enhanced"]),
    side=st.sampled_from(["left", "right"]),
    vendor=st.sampled_from(["siemens", "ge", "philips", "canon"]),
)
def test_random_obliques_as_dicom(
    heads: dict[str, Phantom],
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[tuple[int, int, int], tuple[bool, bool, bool]],
    degrees: tuple[float, float, float],
    shift: tuple[float, float, float],
    tilt: float,
    uneven: float,
    layout: str,
    side: str,
    vendor: str,
) -> None:
    head = heads[side]
    spec = DicomSpec(
        vendor=vendor,
        layout=layout,
        order=case[0],
        flips=case[1],
        rotation=turned(*degrees),
        shift=shift,
        tilt_degrees=tilt,
        uneven=uneven,
    )
    study = read_study(write_dicom(head, tmp_path_factory.mktemp("oblique"), spec))
    truth = truth_of(head, spec)
    written = geometry_of(head, spec)
    assert study.geometry is not None
    assert np.abs(study.geometry.origins - written.origins).max() < SAME_PLACE_MM
    stored = volume_of(head, spec, MrSequence.FLAIR).astype(float)
    slope = study.flair.values.max() / stored.max()  # one vendor writes its values with a slope
    np.testing.assert_allclose(study.flair.values, stored * slope, rtol=1e-5)
    check(study, truth, side, world_centroid(truth, written))


@pytest.mark.slow
def test_what_is_resampled_stays_within_a_quarter_voxel(
    heads: dict[str, Phantom], tmp_path: Path
) -> None:
    """T1 on a grid of its own comes onto FLAIR's: the same head lies in the same place."""
    head = heads["left"]
    spec = DicomSpec(t1_grid="coronal", rotation=turned(8, -5, 12), shift=(60, 20, -90))
    study = read_study(write_dicom(head, tmp_path, spec))
    assert any(one.code == "T1_RESAMPLED" for one in study.flags)
    placed = study.sequences[MrSequence.T1].values.astype(float)
    meant = volume_of(head, spec, MrSequence.T1).astype(float)
    slices = slice(2, -2)  # at the ends of the stack linear interpolation has nothing to lean on
    bright = [np.clip(one[slices] - 100, 0, None) for one in (placed, meant)]
    centres = [
        np.array([(np.indices(one.shape)[k] * one).sum() / one.sum() for k in range(3)])
        for one in bright
    ]
    assert np.abs(centres[0] - centres[1]).max() < 0.25


@pytest.mark.slow
def test_the_dicom_twin_gives_the_nifti_twins_mask(stub_model: Model, tmp_path: Path) -> None:
    head = make_phantom(PhantomSpec(seed=5, slices=11, lesion_side="right"))
    nifti = read_study(write_nifti(head, tmp_path / "nifti"))
    for layout in ("classic", "enhanced"):
        spec = DicomSpec(layout=layout)
        dicom = read_study(write_dicom(head, tmp_path / layout, spec))
        masks = [analyze_study(one, stub_model, Settings()).mask for one in (nifti, dicom)]
        assert masks[0].any()
        # The phantom's stack is written feet first, as a reader sorts it, too.
        assert np.array_equal(*masks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        (
            "coronal, enhanced",
            DicomSpec(order=(1, 0, 2), flips=(True, True, False), layout="enhanced"),
        ),
        ("oblique", DicomSpec(rotation=turned(9.0, -14.0, 20.0), shift=(-40.0, 10.0, 200.0))),
        ("gantry tilt, uneven", DicomSpec(tilt_degrees=15.0, uneven=0.2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_whole_way_with_the_network(name: str, spec: DicomSpec, tmp_path: Path) -> None:
    """Side, place and segmentation object of a study that the network really looked at."""
    head = make_phantom(PhantomSpec(seed=7, slices=24, lesion_side="right", lesion_radius_mm=20))
    study = read_study(write_dicom(head, tmp_path / "study", spec))
    model = Settings().load()
    analysis = analyze_study(study, model, Settings())
    truth = truth_of(head, spec)
    assert dice(analysis.mask, truth) > 0.75
    first = analysis.findings[0]
    assert first.side == "right"
    away = np.array(first.centroid_mm) - world_centroid(truth, geometry_of(head, spec))
    assert np.abs(away).max() < 4  # where the network's outline ends, not where the slices lie
    result = write_analysis(analysis, tmp_path / "out")
    # Written only if reading it back by another path gave the same voxels and millimetres.
    assert {"segmentation.dcm", "report.dcm"} <= set(result["files"])
