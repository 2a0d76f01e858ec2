"""What inspect sees: the truth about every kind of input, without an analysis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from gliosight.errors import DamagedInputError, UnsupportedInputError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom, write_lgg, write_nifti
from gliosight.read import Limits, Request, find, read
from gliosight.read.inspection import Inspection, grouped, plane_of
from tests.conftest import make_geometry
from tests.read.builders import make_volume
from tests.read.dicom.test_study import untold_mask
from tests.support.dicom_phantom import TRAPS, DicomSpec, write_dicom


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make_phantom(PhantomSpec(seed=2, slices=7, matrix=64, pixel_mm=3.0))


def look(path: Path, *, pixels: bool = False) -> Inspection:
    (candidate,) = find(path, Limits())
    return candidate.describe(Limits(), pixels=pixels)


@pytest.mark.slow
def test_a_messy_folder(head: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(TRAPS) - {"mask"}, shuffled_names=True)
    seen = look(write_dicom(head, tmp_path, spec))
    assert seen.kind == "dicom"
    assert seen.error is None
    taken = {row.taken_as: row for row in seen.series if row.taken_as}
    assert set(taken) == {"FLAIR", "T1", "T1C"}
    assert taken["FLAIR"].plane == "axial"
    shown = {row.shows for row in seen.series}
    assert {"FLAIR", "localizer", "T2"} <= shown
    # Nothing that is never analysed is taken, and each says why.
    for row in seen.series:
        if not row.taken_as and row.problem:
            assert row.why
    assert set(seen.reasons) == {"FLAIR", "T1", "T1C"}


def test_pixels_tell_a_mask_with_flairs_header(head: Phantom, tmp_path: Path) -> None:
    number = untold_mask(head, tmp_path)
    by_headers = [row for row in look(tmp_path).series if row.shows == "FLAIR" and not row.problem]
    assert len(by_headers) == 2
    seen = look(tmp_path, pixels=True)
    (mask,) = [row for row in seen.series if "mask" in row.problem]
    (taken,) = [row for row in seen.series if row.taken_as == "FLAIR"]
    # What analyze takes, not what the headers alone would make it take.
    assert (mask.name, mask.taken_as) == (f"series {number}", None)
    assert not taken.problem
    codes = [note.code for note in seen.flags]
    assert "MASK_PASSED_OVER" in codes
    assert "FLAIR_CHOSEN" not in codes
    series = read(Request(tmp_path)).source.series
    assert {name.value: taken.why for name, taken in series.items()} == seen.reasons


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [False, True])
def test_series_without_uids_are_told_apart(head: Phantom, tmp_path: Path, pixels: bool) -> None:
    folder = write_dicom(head, tmp_path)
    for path in list(filter(Path.is_file, folder.rglob("*"))):
        header = pydicom.dcmread(path)
        del header.SOPInstanceUID, header.SeriesInstanceUID
        header.save_as(path)
    taken = [row.taken_as for row in look(folder, pixels=pixels).series if row.taken_as]
    assert taken == ["FLAIR", "T1", "T1C"]


def test_rows_without_uids_are_told_apart_by_their_names(head: Phantom, tmp_path: Path) -> None:
    (row, *_) = look(write_dicom(head, tmp_path)).series
    row = replace(row, taken_as=None, uid="")
    names = ["series 5", "series 6, echo 1", "series 6, echo 2", "series 7"]
    rows = grouped(replace(row, name=name) for name in names)
    assert [each.name for each in rows] == [
        "series 5",
        "series 6, 2 parts: echo 1 and echo 2",
        "series 7",
    ]


def test_parts_in_several_planes_are_one_row(head: Phantom, tmp_path: Path) -> None:
    seen = look(write_dicom(head, tmp_path))
    rows = grouped(row for row in seen.series if row.shows == "localizer")
    assert [row.plane for row in rows] == ["several planes"]
    assert [row.plane for row in grouped(seen.series) if row.taken_as == "FLAIR"] == ["axial"]


def test_files_say_sequence_size_and_spacing(head: Phantom, tmp_path: Path) -> None:
    seen = look(write_nifti(head, tmp_path))
    assert (seen.kind, seen.error) == ("nifti", None)
    rows = {row.shows: row for row in seen.series}
    assert set(rows) == {"FLAIR", "T1", "T1C"}
    assert (rows["FLAIR"].shape, rows["FLAIR"].taken_as) == ((7, 64, 64), "FLAIR")
    assert rows["FLAIR"].spacing_mm == pytest.approx((5.0, 3.0, 3.0))
    assert [name.endswith("_seg.nii.gz") for name in seen.masks] == [True]
    seen = look(write_lgg(head, tmp_path / "slices"))
    assert (seen.kind, seen.series[0].shape) == ("slices", (7, 64, 64))
    assert [name.endswith("_mask.tif") for name in seen.masks] == [True] * 7


def test_masks_are_named_with_their_study(tmp_path: Path) -> None:
    image = nib.Nifti1Image(make_volume((16, 16, 8)), np.diag([2.0, 2.0, 5.0, 1.0]))
    for name in ("c1_flair", "c1_seg", "c10_flair", "c10_mask", "c10_seg"):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    masks = {each.title: each.masks for each in find(tmp_path, Limits())}
    assert masks == {
        "c1": ("c1_seg.nii.gz",),
        "c10": ("c10_mask.nii.gz", "c10_seg.nii.gz"),
    }


def write_slices(folder: Path, count: int, mode: str = "L") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, values in enumerate(make_volume((count, 64, 64), seed=count), start=1):
        Image.fromarray(values).convert(mode).save(folder / f"slice_{number:03}.png")


@pytest.mark.parametrize(
    ("name", "mode"),
    [("T2w", "L"), ("T2w", "RGB"), ("t2_001.png", "L"), ("dwi.jpg", "L"), ("t2_001.png", "RGB")],
)
def test_pictures_of_another_sequence(tmp_path: Path, name: str, mode: str) -> None:
    """The error of an analysis, from headers and names."""
    path = tmp_path / "p" / name
    if path.suffix:
        path.parent.mkdir()
        Image.fromarray(make_volume((1, 64, 64))[0]).convert(mode).save(path)
    else:
        write_slices(path, 3, mode)
    with pytest.raises(UnsupportedInputError, match="no FLAIR") as raised:
        read(Request(path))
    # Grey in all but the way it is stored, which only the pixels say.
    equal_channels = mode == "RGB" and path.suffix
    for pixels in (True,) if equal_channels else (False, True):
        seen = look(path, pixels=pixels)
        assert str(seen.error) == str(raised.value)
        assert seen.flags == ()
        assert equal_channels or [row.taken_as for row in seen.series] == [None]


def test_a_folder_that_does_not_fit_flair(tmp_path: Path) -> None:
    for name, count in (("FLAIR", 10), ("T1", 9), ("T1C", 10)):
        write_slices(tmp_path / "p" / name, count)
    seen = look(tmp_path / "p")
    assert [row.taken_as for row in seen.series] == ["FLAIR", None, "T1C"]
    assert [note.code for note in seen.flags] == ["T1_LEFT_OUT"]
    assert seen.flags[0] in read(Request(tmp_path / "p")).flags
    assert "9 x 64 x 64" in seen.series[1].problem


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("a_1.png a_2.png:narrow", "differ in size, 9 x 8 and 9 x 7"),
        ("a_1.png a_01.png", "two files have slice number 1"),
        ("flair_1.png flair_2.png:deep", "depth, uint8 and uint16"),
        ("flair_1.tif flair_2.tif:deep", "depth, uint8 and uint16"),
    ],
)
def test_pictures_that_clash_are_not_called_ready(names: str, error: str, tmp_path: Path) -> None:
    for each in names.split():
        name, _, how = each.partition(":")
        values = make_volume((1, 9, 7 if how == "narrow" else 8))[0]
        values = values.astype(np.uint16) * 16 if how == "deep" else values
        Image.fromarray(values).save(tmp_path / name)
    with pytest.raises(DamagedInputError, match=error) as raised:
        read(Request(tmp_path))
    assert str(look(tmp_path).error) == str(raised.value)


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
    turned = np.array([[0.5, 0.0, 0.866025], [0.0, -1.0, 0.0], [-0.866025, 0.0, 0.5]])
    assert plane_of(make_geometry(axes=turned)) == "oblique axial"
