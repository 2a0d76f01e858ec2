"""What inspect sees: the truth about every kind of input, without an analysis."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from gliosight.errors import DamagedInputError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.phantom.dicom import TRAPS, DicomSpec, write_dicom
from gliosight.read import Limits, Request, find, read
from gliosight.read.inspection import Inspection, grouped, plane_of
from tests.conftest import make_geometry
from tests.read.dicom.test_study import untold_mask


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=2, slices=7, matrix=64, pixel_mm=3.0))


def look(path: Path, *, pixels: bool = False) -> Inspection:
    (candidate,) = find(path, Limits())
    return candidate.describe(Limits(), pixels=pixels)


def test_a_messy_folder(head: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(TRAPS) - {"mask"}, shuffled_names=True)
    seen = look(write_dicom(head, tmp_path, spec))
    assert seen.kind == "dicom"
    assert seen.error is None
    taken = {one.taken_as: one for one in seen.series if one.taken_as}
    assert set(taken) == {"FLAIR", "T1", "T1C"}
    assert taken["FLAIR"].plane == "axial"
    shown = {one.shows for one in seen.series}
    assert {"FLAIR", "localizer", "T2"} <= shown
    # Nothing that is never analysed is taken, and each says why.
    for one in seen.series:
        if not one.taken_as and one.problem:
            assert one.why
    assert set(seen.reasons) == {"FLAIR", "T1", "T1C"}


def test_pixels_tell_a_mask_with_flairs_header(head: Phantom, tmp_path: Path) -> None:
    folder, number = untold_mask(head, tmp_path)
    by_headers = [one for one in look(folder).series if one.shows == "FLAIR" and not one.problem]
    assert len(by_headers) == 2
    seen = look(folder, pixels=True)
    (mask,) = [one for one in seen.series if "mask" in one.problem]
    (taken,) = [one for one in seen.series if one.taken_as == "FLAIR"]
    # What analyze takes, not what the headers alone would make it take.
    assert (mask.name, mask.taken_as) == (f"series {number}", None)
    assert not taken.problem
    codes = [one.code for one in seen.flags]
    assert "MASK_PASSED_OVER" in codes
    assert "FLAIR_CHOSEN" not in codes
    assert read(Request(folder)).source["chosen"] == seen.reasons


@pytest.mark.parametrize("pixels", [False, True])
def test_series_without_uids_are_told_apart(head: Phantom, tmp_path: Path, pixels: bool) -> None:
    folder = write_dicom(head, tmp_path)
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        header = pydicom.dcmread(path)
        del header.SOPInstanceUID, header.SeriesInstanceUID
        header.save_as(path)
    taken = [one.taken_as for one in look(folder, pixels=pixels).series if one.taken_as]
    assert taken == ["FLAIR", "T1", "T1C"]


def test_parts_in_several_planes_are_told_so(head: Phantom, tmp_path: Path) -> None:
    seen = look(write_dicom(head, tmp_path))
    rows = grouped(one for one in seen.series if one.shows == "localizer")
    assert [one.plane for one in rows] == ["several planes"]
    assert [one.plane for one in grouped(seen.series) if one.taken_as == "FLAIR"] == ["axial"]


def test_nifti_says_sequence_size_and_spacing(head: Phantom, tmp_path: Path) -> None:
    seen = look(write_nifti(head, tmp_path))
    assert (seen.kind, seen.error) == ("nifti", None)
    rows = {one.shows: one for one in seen.series}
    assert set(rows) == {"FLAIR", "T1", "T1C"}
    assert rows["FLAIR"].shape == (7, 64, 64)
    assert rows["FLAIR"].spacing_mm == pytest.approx((5.0, 3.0, 3.0))
    assert rows["FLAIR"].taken_as == "FLAIR"


def test_slices_say_how_many(head: Phantom, tmp_path: Path) -> None:
    seen = look(write_lgg(head, tmp_path))
    assert seen.kind == "slices"
    assert seen.series[0].shape == (7, 64, 64)


def test_what_cannot_be_analysed_says_what_analyze_would(head: Phantom, tmp_path: Path) -> None:
    folder = write_nifti(head, tmp_path)
    next(folder.glob("*_flair.nii.gz")).unlink()
    seen = look(folder)
    assert seen.error is not None
    assert seen.error.exit_code == 5
    (tmp_path / "cut_flair.nii").write_bytes(bytes(100))
    with pytest.raises(DamagedInputError):
        look(tmp_path / "cut_flair.nii")


def test_planes() -> None:
    assert plane_of(None) is None
    assert plane_of(make_geometry()) == "axial"
    import numpy as np

    turned = np.array([[0.5, 0.0, 0.866025], [0.0, -1.0, 0.0], [-0.866025, 0.0, 0.5]])
    assert plane_of(make_geometry(axes=turned)) == "oblique axial"
