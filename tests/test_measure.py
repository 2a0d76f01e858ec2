"""Findings: counted, placed, sized; sides are the patient's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from gliosight.head import find_head, fit_midplane
from gliosight.measure import measure
from gliosight.phantom import Phantom
from gliosight.study import Geometry, MrSequence, Study, Volume
from tests.conftest import make_geometry, make_study


def _measure(study: Study, mask: np.ndarray) -> tuple:
    return measure(study, mask, np.where(mask, 0.9, 0.1).astype(np.float32), origin="test")[1]


def _box(shape: tuple[int, int, int], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for one in boxes:
        mask[one] = True
    return mask


def test_volume_and_diameters_of_a_block() -> None:
    shape = (6, 40, 50)
    mask = _box(shape, (slice(1, 4), slice(10, 20), slice(5, 35)))
    geometry = make_geometry(6, (5.0, 1.0, 0.8))
    (found,) = _measure(make_study(np.zeros(shape), geometry), mask)
    assert found.volume_px == 3 * 10 * 30
    assert found.volume_ml == pytest.approx(900 * 5 * 0.8 / 1000)
    assert found.largest_area_mm2 == pytest.approx(300 * 0.8)
    # Between the outer corners of the pixels: 10 rows of 1 mm, 30 columns of 0.8 mm.
    assert found.longest_diameter_mm == pytest.approx(math.hypot(10, 24))
    assert found.perpendicular_diameter_mm == pytest.approx(2 * 10 * 24 / math.hypot(10, 24))
    assert found.bounding_box_voxel == ((1, 10, 5), (4, 20, 35))
    assert found.slices == (1, 3)
    assert found.centroid_voxel == pytest.approx((2, 14.5, 19.5))
    np.testing.assert_allclose(
        found.centroid_mm, geometry.to_world(np.array([2, 14.5, 19.5])), atol=1e-9
    )
    assert not found.touches_edge


def test_without_geometry_no_millimetre_is_invented() -> None:
    mask = _box((3, 20, 20), (slice(0, 2), slice(5, 9), slice(5, 9)))
    (found,) = _measure(make_study(np.zeros((3, 20, 20))), mask)
    assert found.side == "unknown"
    assert found.volume_px == 32
    unknown = (
        found.volume_ml,
        found.centroid_mm,
        found.largest_area_mm2,
        found.longest_diameter_mm,
        found.perpendicular_diameter_mm,
    )
    assert unknown == (None,) * 5
    assert found.touches_edge  # the first slice
    assert found.small


def test_diameters_are_taken_on_axial_slices_only() -> None:
    sagittal = np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
    mask = _box((6, 20, 20), (slice(1, 4), slice(5, 9), slice(5, 9)))
    (found,) = _measure(make_study(np.zeros((6, 20, 20)), make_geometry(6, axes=sagittal)), mask)
    assert found.longest_diameter_mm is None
    assert found.volume_ml is not None


def test_lesions_are_26_connected_and_sorted_by_size() -> None:
    mask = _box(
        (4, 20, 20),
        (slice(0, 1), slice(0, 2), slice(0, 2)),
        (slice(1, 2), slice(2, 3), slice(2, 3)),  # touches the first by a corner
        (slice(3, 4), slice(10, 15), slice(10, 15)),
    )
    one, two = _measure(make_study(np.zeros(mask.shape)), mask)
    assert (one.id, one.volume_px) == (1, 25)
    assert (two.id, two.volume_px) == (2, 5)
    assert one.tracking_uid != two.tracking_uid
    assert one.tracking_uid.startswith("2.25.")
    assert len(one.tracking_uid) <= 64  # DICOM PS3.5, 9.1


def test_tracking_uids_follow_mask_and_origin() -> None:
    mask = _box((3, 20, 20), (slice(1, 2), slice(5, 9), slice(5, 9)))
    other = _box((3, 20, 20), (slice(1, 2), slice(5, 9), slice(5, 10)))
    study = make_study(np.zeros(mask.shape))
    values = np.zeros(mask.shape, np.float32)
    uids = [
        measure(study, m, values, origin=origin)[1][0].tracking_uid
        for m, origin in ((mask, "a"), (mask, "a"), (other, "a"), (mask, "b"))
    ]
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3


@pytest.mark.parametrize("moved", [-150.0, 0.0, 150.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_side_is_the_patients_wherever_he_lay(
    phantom: Phantom, moved: float, mirrored: bool
) -> None:
    """The default lesion is on the patient's left; its twin, mirrored in the patient, on the right."""
    geometry = phantom.geometry
    origins = geometry.origins + np.array([moved, 0, 0])
    shifted = Geometry(origins, geometry.row_direction, geometry.column_direction, geometry.spacing)
    flair, mask = phantom.sequences[MrSequence.FLAIR], phantom.truth
    if mirrored:
        flair, mask = flair[:, :, ::-1], mask[:, :, ::-1]
    names = tuple(map(str, range(len(flair))))
    study = Study("x", {MrSequence.FLAIR: Volume(flair, shifted)}, names, "arrays")
    found = _measure(study, mask)[0]
    assert found.side == ("right" if mirrored else "left")


@pytest.mark.parametrize(
    ("to_right", "side"),
    [(0.0, "left"), (0.05, "left"), (0.2, "bilateral"), (0.5, "bilateral"), (1.0, "right")],
)
def test_a_lesion_on_both_sides_is_bilateral(phantom: Phantom, to_right: float, side: str) -> None:
    """From a tenth of it on, beyond the strip of the midline; thirty columns of 1.5 mm in all."""
    flair, geometry = phantom.sequences[MrSequence.FLAIR], phantom.geometry
    plane = fit_midplane(find_head(flair), geometry)
    assert plane is not None
    slices, rows, columns = flair.shape
    at = np.array([[slices // 2, rows // 2, column] for column in range(columns)])
    away = plane.distances_to_right(geometry.to_world(at))
    right = np.argsort(np.where(away > 6, away, np.inf))[: round(30 * to_right)]
    left = np.argsort(np.where(away < -6, -away, np.inf))[: 30 - round(30 * to_right)]
    mask = np.zeros(flair.shape, bool)
    mask[slices // 2, rows // 2, np.concatenate([right, left])] = True
    between = np.abs(away) <= 6
    if 0 < to_right < 1:  # one body
        mask[slices // 2, rows // 2, between] = True
    names = tuple(map(str, range(slices)))
    (found,) = _measure(
        Study("x", {MrSequence.FLAIR: Volume(flair, geometry)}, names, "arrays"), mask
    )
    assert found.side == side


def test_a_finding_has_the_probability_of_its_lesion() -> None:
    mask = _box(
        (4, 20, 20),
        (slice(0, 1), slice(0, 2), slice(0, 2)),
        (slice(3, 4), slice(10, 15), slice(10, 15)),
        (slice(1, 2), slice(8, 10), slice(8, 9)),
    )
    first = np.ravel_multi_index((3, 10, 10), mask.shape), 0
    values = np.where(mask, 0.9, 0.1).astype(np.float32)
    large, small, unknown = measure(
        make_study(np.zeros(mask.shape)),
        mask,
        values,
        origin="test",
        lesion_probabilities={int(first[0]): 0.97, first[1]: 0.6},
    )[1]
    assert (large.probability, small.probability) == (0.97, 0.6)
    assert math.isnan(unknown.probability)


@pytest.mark.parametrize("believed", ["sizes", "all but sides"])
def test_sides_that_are_not_believed_are_unknown(
    phantom: Phantom, believed: Literal["sizes", "all but sides"]
) -> None:
    flair, geometry = phantom.sequences[MrSequence.FLAIR], phantom.geometry
    known, finding = (
        _measure(make_study(flair, one), phantom.truth)[0]
        for one in (geometry, replace(geometry, believed=believed))
    )
    assert known.side != "unknown"
    assert finding.side == "unknown"
    assert finding.centroid_mm is None
    assert finding.volume_ml == known.volume_ml


def test_empty_mask_has_no_findings() -> None:
    assert _measure(make_study(np.zeros((2, 8, 8))), np.zeros((2, 8, 8), dtype=bool)) == ()


def test_a_centroid_is_the_mean_of_the_voxels_places_also_between_uneven_slices() -> None:
    z = np.array([0.0, 5.0, 25.0, 30.0])
    origins = np.stack([np.zeros(4), np.zeros(4), z], axis=1)
    geometry = Geometry(origins, np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]), (1.0, 1.0))
    mask = np.zeros((4, 12, 12), dtype=bool)
    mask[1, 4:8, 4:8] = True
    mask[2, 5, 5] = True
    values = np.full(mask.shape, 100, np.uint16)
    study = Study("x", {MrSequence.FLAIR: Volume(values, geometry)}, tuple("abcd"), "arrays")
    (found,) = _measure(study, mask)
    assert found.centroid_mm is not None
    assert found.centroid_mm[2] == pytest.approx((16 * 5 + 25) / 17, abs=1e-9)


def test_labels_are_the_findings_numbers() -> None:
    """Two lesions of one box and size, an L broken off a ring: what tells them apart is their voxels."""
    mask = np.zeros((6, 30, 30), dtype=bool)
    mask[2, 10:19, 10] = mask[2, 10, 10:19] = mask[2, 10, 18] = True
    mask[2, 12:19, 18] = mask[2, 18, 12:19] = True
    mask[4] = mask[2][::-1, ::-1]
    study = make_study(np.zeros(mask.shape))
    labels, findings = measure(study, mask, mask.astype(np.float32), origin="test")
    assert len(findings) == 4
    assert ((labels > 0) == mask).all()
    for finding in findings:
        voxels = np.argwhere(labels == finding.id)
        assert len(voxels) == finding.volume_px
        assert voxels.mean(axis=0) == pytest.approx(finding.centroid_voxel)
