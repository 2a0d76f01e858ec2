"""Where exported slices and frames lie: the patient stays where he is, whatever the files look like."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from gliosight.phantom import Phantom
from gliosight.phantom.dicom import DicomSpec, geometry_of, truth_of, turned, volume_of, write_dicom
from gliosight.phantom.dicom.place import stack_of
from gliosight.study import Sequence

from .exported import VENDORS, flair_of, sorted_by_position

# Headers hold 16 characters for each number.
CENTROID_MM = 1e-3


def header_centroid(headers: list[Any], mask: np.ndarray) -> np.ndarray:
    """World centroid (LPS) of a mask on sorted slices, by PS3.3 C.7.6.2.1.1 and nothing of ours."""
    points = []
    for ds, one in zip(headers, mask, strict=True):
        across, down = np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in ds.PixelSpacing)
        start = np.array(ds.ImagePositionPatient, dtype=float)
        steps = np.stack([down * between_rows, across * between_columns])
        points.append(start + np.argwhere(one) @ steps)
    return np.concatenate(points).mean(axis=0)


def true_centroid(phantom: Phantom, spec: DicomSpec) -> np.ndarray:
    """Where the lesion's middle has to be, LPS, from the phantom's own affine."""
    affine = phantom.geometry.affine
    world = affine[:3, :3] @ np.argwhere(phantom.truth).mean(axis=0) + affine[:3, 3]
    moved = np.array(spec.rotation) @ world + np.array(spec.shift)
    return moved * (-1, -1, 1)


ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def check_place(phantom: Phantom, spec: DicomSpec, folder: Path) -> None:
    """Files say where the lesion is, and their pixels are the phantom's."""
    headers = sorted_by_position(flair_of(write_dicom(phantom, folder, spec)))
    truth = truth_of(phantom, spec)
    assert truth.shape == (len(headers), headers[0].Rows, headers[0].Columns)
    assert (
        np.abs(header_centroid(headers, truth) - true_centroid(phantom, spec)).max() < CENTROID_MM
    )
    pixels = np.stack([ds.pixel_array for ds in headers])
    assert np.array_equal(pixels, volume_of(phantom, spec, Sequence.FLAIR))
    # The same voxels are lesion, so the same values are under the mask.
    inside = np.sort(phantom.sequences[Sequence.FLAIR][phantom.truth])
    assert np.array_equal(np.sort(pixels[truth]), inside)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_the_patient_stays_where_he_is_in_every_orientation(
    tiny: Phantom, tmp_path: Path, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    phantom = Phantom(
        tiny.spec, {Sequence.FLAIR: tiny.sequences[Sequence.FLAIR]}, tiny.truth, tiny.geometry
    )
    spec = DicomSpec(order=order, flips=flips, traps=frozenset())
    # Sagittal and coronal stacks of a 32 matrix have 32 slices: only some are written in full.
    check_place(phantom, spec, tmp_path)
    geometry = geometry_of(phantom, spec)
    middle = geometry.to_world(np.argwhere(truth_of(phantom, spec))).mean(axis=0)
    assert np.allclose(middle * (-1, -1, 1), true_centroid(phantom, spec), atol=1e-9)


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(-200, 200)] * 3),
    st.sampled_from(ORIENTATIONS),
)
def test_oblique_and_shifted_studies(
    tiny: Phantom,
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    shift: tuple[float, float, float],
    orientation: Any,
) -> None:
    phantom = Phantom(
        tiny.spec, {Sequence.FLAIR: tiny.sequences[Sequence.FLAIR]}, tiny.truth, tiny.geometry
    )
    order, flips = orientation
    spec = DicomSpec(
        order=order, flips=flips, rotation=turned(*angles), shift=shift, traps=frozenset()
    )
    check_place(phantom, spec, tmp_path_factory.mktemp("oblique"))


def test_turned_is_right_handed_and_in_order() -> None:
    assert np.allclose(turned(0, 0, 90) @ (1, 0, 0), (0, 1, 0))
    assert np.allclose(turned(90, 0, 90) @ (0, 1, 0), (0, 0, 1))  # first about x, then about z


def test_without_settings_the_picture_is_as_the_phantom_docs_say(tiny: Phantom) -> None:
    stack = stack_of(tiny, DicomSpec(), tiny.truth)
    assert np.array_equal(stack.orientation, [1, 0, 0, 0, 1, 0])
    assert not stack.backwards
    assert np.array_equal(truth_of(tiny), tiny.truth)
    # A lesion on the patient's left has x > 0 in LPS.
    assert true_centroid(tiny, DicomSpec())[0] > 0


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("numbering", ["usual", "reversed", "shuffled"])
def test_enhanced_frames_lie_where_the_truth_is(
    tiny: Phantom, tmp_path: Path, vendor: str, parts: int, numbering: str
) -> None:
    spec = DicomSpec(
        vendor=vendor,
        layout="enhanced",
        concatenation=parts,
        numbering=numbering,
        traps=frozenset(),
        order=(2, 0, 1),
        flips=(True, False, False),
        rotation=turned(10, -20, 5),
        shift=(0, 100, -150),
    )
    instances = flair_of(write_dicom(tiny, tmp_path, spec))
    assert len(instances) == parts
    assert all(ds.SOPClassUID == uid.EnhancedMRImageStorage for ds in instances)
    flat = []
    for ds in sorted(instances, key=lambda one: one.get("InConcatenationNumber", 1)):
        shared = ds.SharedFunctionalGroupsSequence[0]
        pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
        for frame, picture in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
            one = pydicom.Dataset()
            for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures"):
                assert (f"{name}Sequence" in frame) != (f"{name}Sequence" in shared)
                for item in frame.get(f"{name}Sequence", shared.get(f"{name}Sequence")):
                    one.update(item)
            flat.append((one, picture))
    headers = sorted_by_position([one for one, _ in flat])
    assert (
        np.abs(header_centroid(headers, truth_of(tiny, spec)) - true_centroid(tiny, spec)).max()
        < CENTROID_MM
    )
    place = {id(one): picture for one, picture in flat}
    volume = np.stack([place[id(one)] for one in headers])
    assert np.array_equal(volume, volume_of(tiny, spec, Sequence.FLAIR))
    # Frames of a reversed or shuffled series do not stand in the order of their positions.
    stands = [next(k for k, (one, _) in enumerate(flat) if one is two) for two in headers]
    assert (stands in (sorted(stands), sorted(stands)[::-1])) == (numbering != "shuffled")
    if parts == 2:
        assert len({ds.ConcatenationUID for ds in instances}) == 1
        assert sorted(ds.ConcatenationFrameOffsetNumber for ds in instances) == [0, 16]


def test_tilt_gaps_and_missing_slices(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(tilt_degrees=15, uneven=0.3, missing=(1, 3), traps=frozenset())
    headers = sorted_by_position(flair_of(write_dicom(tiny, tmp_path, spec)))
    assert [ds.InstanceNumber for ds in headers] == [1, 2, 3]
    positions = np.array([ds.ImagePositionPatient for ds in headers], dtype=float)
    # The middle one is where it was but for its uneven share; the outer ones are sheared by theirs.
    rows = np.diff(positions[:, 1])
    along = np.diff(positions[:, 2])
    assert np.allclose(rows / along, np.tan(np.radians(15)))
    assert along.sum() == pytest.approx(4 * 7.0)
    assert abs(along[0] - 14.0) > 0.1
    truth = truth_of(tiny, spec)
    assert np.array_equal(truth, tiny.truth[[0, 2, 4]])
    world = geometry_of(tiny, spec).to_world(np.argwhere(truth)).mean(axis=0) * (-1, -1, 1)
    assert np.abs(header_centroid(headers, truth) - world).max() < CENTROID_MM
