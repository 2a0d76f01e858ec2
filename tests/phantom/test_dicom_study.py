"""The exported folder: its names, its patient, its DICOMDIR, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom import uid

from gliosight.errors import CannotWriteError
from gliosight.phantom import Phantom
from gliosight.phantom.dicom import DicomSpec, write_dicom

from .exported import VENDORS, files_of, read_all


@pytest.mark.parametrize(
    ("spec", "name", "identity"),
    [
        (DicomSpec(), "PHANTOM^SYNTHETIC", "PHANTOM-0004"),
        (DicomSpec(identity="unicode"), "PHANTOM^Ünïcødé", "PHANTOM-0004"),
        (DicomSpec(identity="anonymous"), "ANONYMOUS", "ANONYMOUS"),
        (DicomSpec(identity="empty"), "", ""),
    ],
)
def test_patients_are_nobody(
    tiny: Phantom, tmp_path: Path, spec: DicomSpec, name: str, identity: str
) -> None:
    ds = read_all(write_dicom(tiny, tmp_path, spec))[0]
    assert (str(ds.PatientName), ds.PatientID) == (name, identity)


def test_dicomdir_lists_every_file(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(dicomdir=True))
    listed = pydicom.fileset.FileSet(folder / "DICOMDIR")
    listed._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, with a warning
    paths = {Path(one.path) for one in listed}
    assert paths == set(files_of(folder))
    assert len(paths) == 34
    assert (
        len(listed.find(StudyInstanceUID=pydicom.dcmread(next(iter(paths))).StudyInstanceUID)) == 34
    )


@pytest.mark.parametrize("vendor", VENDORS)
def test_file_names_are_the_vendors(tiny: Phantom, tmp_path: Path, vendor: str) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(vendor=vendor))
    names = [one.relative_to(folder).as_posix() for one in files_of(folder)]
    assert len(names) == 34
    example = {
        "siemens": "T1_SE_TRA_4/PHANTOM.MR.HEAD.0004.0001.IMA",
        "ge": "e1/s1/i1.MRDC.1",
        "philips": "DICOM/IM_0001",
        "canon": "01000/00000001.dcm",
    }[vendor]
    assert example in names
    assert {ds.Manufacturer for ds in read_all(folder)} == {
        {
            "siemens": "SIEMENS",
            "ge": "GE MEDICAL SYSTEMS",
            "philips": "Philips Medical Systems",
            "canon": "CANON_MEC",
        }[vendor]
    }


def test_the_same_spec_is_the_same_bytes_and_another_has_other_uids(
    tiny: Phantom, tmp_path: Path
) -> None:
    one, two = (write_dicom(tiny, tmp_path / name, DicomSpec()) for name in ("a", "b"))
    assert [p.read_bytes() for p in files_of(one)] == [p.read_bytes() for p in files_of(two)]
    other = write_dicom(tiny, tmp_path / "c", DicomSpec(shift=(1, 0, 0)))
    uids = {str(ds.SOPInstanceUID) for ds in read_all(one)}
    assert len(uids) == 34
    assert not uids & {str(ds.SOPInstanceUID) for ds in read_all(other)}
    assert all(text.startswith("2.25.") and uid.UID(text).is_valid for text in uids)


def test_an_occupied_folder_is_left_alone(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(traps=frozenset()))
    before = files_of(folder)
    with pytest.raises(CannotWriteError, match="not empty"):
        write_dicom(tiny, tmp_path, DicomSpec())
    assert files_of(folder) == before


def test_half_a_study_is_taken_away(
    tiny: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(path: Path, _: bytes) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        path.touch()

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        write_dicom(tiny, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_slices_that_are_not_there_leave_nothing(tiny: Phantom, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 slices"):
        write_dicom(tiny, tmp_path, DicomSpec(missing=(7,)))
    assert not list(tmp_path.rglob("*.IMA"))
    assert not (tmp_path / tiny.spec.study_id).exists()
