"""The traps beside the sequences: what each of them is, and what gives it away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import uid

from gliosight.phantom import Phantom
from gliosight.phantom.dicom import TRAPS, DicomSpec, write_dicom
from gliosight.phantom.dicom.series import Export
from gliosight.phantom.dicom.study import all_series
from gliosight.study import Sequence

from .exported import by_series, sorted_by_position

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def trapped(tiny: Phantom, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Every trap's files, by its name."""
    spec = DicomSpec(traps=frozenset(TRAPS))
    folder = write_dicom(tiny, tmp_path_factory.mktemp("traps"), spec)
    series = by_series(folder)
    return {one.kind: series[one.number] for one in all_series(Export(tiny, spec))}


def test_all_traps_are_there_in_scan_order(trapped: dict[str, list[Any]]) -> None:
    assert set(trapped) == {*TRAPS, "FLAIR", "T1", "T1C"}
    numbers = [int(one[0].SeriesNumber) for one in trapped.values()]
    times = [one[0].SeriesTime for one in trapped.values()]
    assert numbers == sorted(numbers)
    assert times == sorted(times)


def test_localizer_has_three_orientations(trapped: dict[str, list[Any]]) -> None:
    orientations = {tuple(ds.ImageOrientationPatient) for ds in trapped["localizer"]}
    assert orientations == {(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)}
    assert len(trapped["localizer"]) == 9
    assert all(ds.pixel_array.max() > 500 for ds in trapped["localizer"][1::3])


def test_map_and_roi_are_derived(trapped: dict[str, list[Any]]) -> None:
    assert all(ds.ImageType[0] == "DERIVED" for ds in trapped["map"])
    assert "ADC" in trapped["map"][0].ImageType
    roi = trapped["roi"]
    assert all(ds.ImageType[0] == "DERIVED" and "FLAIR" in ds.SeriesDescription for ds in roi)
    assert roi[0].FrameOfReferenceUID == trapped["FLAIR"][0].FrameOfReferenceUID


def test_roi_and_mask_hold_the_truth(tiny: Phantom, trapped: dict[str, list[Any]]) -> None:
    for name, top in (("roi", 1), ("mask", 4095)):
        values = np.stack([ds.pixel_array for ds in sorted_by_position(trapped[name])])
        assert np.array_equal(values, np.where(tiny.truth, top, 0))


def test_only_its_pixels_tell_a_mask_from_a_flair(trapped: dict[str, list[Any]]) -> None:
    mask, flair = trapped["mask"][0], trapped["FLAIR"][0]
    for word in [
        "ImageType",
        "ScanningSequence",
        "SequenceVariant",
        "RepetitionTime",
        "EchoTime",
        "InversionTime",
    ]:
        assert mask[word].value == flair[word].value


def test_second_flair_is_coronal_and_smaller(trapped: dict[str, list[Any]]) -> None:
    coronal = trapped["coronal"]
    assert len(coronal) < len(trapped["FLAIR"])
    assert coronal[0].InversionTime == trapped["FLAIR"][0].InversionTime
    assert list(coronal[0].ImageOrientationPatient) == [1, 0, 0, 0, 0, -1]
    assert coronal[0].AcquisitionTime > trapped["FLAIR"][-1].AcquisitionTime


def test_diffusion_mosaic_and_screenshot(trapped: dict[str, list[Any]]) -> None:
    assert {ds.DiffusionBValue for ds in trapped["dwi"]} == {0.0, 1000.0}
    assert {(ds.SequenceName, ds.DiffusionBValue) for ds in trapped["dwi"]} == {
        ("*ep_b0t", 0.0),
        ("*ep_b1000t", 1000.0),
    }
    assert "InversionTime" not in trapped["t2"][0]
    assert "MOSAIC" in trapped["mosaic"][0].ImageType
    assert trapped["mosaic"][0].Rows == 3 * 8  # five slices of 8 rows in a square of nine
    shot = trapped["screenshot"][0]
    assert shot.SOPClassUID == uid.SecondaryCaptureImageStorage
    assert shot.pixel_array.shape == (32, 32, 3)
    assert "ImagePositionPatient" not in shot


def test_coronal_trap_shows_the_same_head(tiny: Phantom, trapped: dict[str, list[Any]]) -> None:
    """What is resampled lies where the phantom says: its values there are the phantom's."""
    ds = trapped["coronal"][1]
    start, (across, down) = (
        np.array(ds.ImagePositionPatient, dtype=float),
        np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3),
    )
    inverse = np.linalg.inv(tiny.geometry.affine)
    checked = 0
    for row, column in RNG.integers(0, 32, size=(400, 2)):
        world = (start + across * 3.0 * column + down * 3.0 * row) * (-1, -1, 1)
        voxel = inverse[:3, :3] @ world + inverse[:3, 3]
        low = np.floor(voxel + 1e-6).astype(int)
        if (low < 0).any() or (low + 1 >= tiny.truth.shape).any():
            continue
        corner = tiny.sequences[Sequence.FLAIR][tuple(slice(k, k + 2) for k in low)]
        assert corner.min() - 1 <= ds.pixel_array[row, column] <= corner.max() + 1
        checked += 1
    assert checked > 20
