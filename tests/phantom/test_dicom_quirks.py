"""Files that are odd on purpose: their names, their beginnings, their headers and their letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid

from gliosight.phantom import Phantom
from gliosight.phantom.dicom import DicomSpec, write_dicom

from .exported import files_of, read_all


def test_shuffled_names_say_nothing(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(shuffled_names=True))
    paths = files_of(folder)
    assert len(paths) == 15 + 9 + 5 + 5
    assert all(one.parent == folder and len(one.name) == 16 for one in paths)
    numbers = [int(pydicom.dcmread(one).SeriesNumber) for one in paths]
    assert numbers != sorted(numbers)
    assert not [one for one in folder.iterdir() if one.is_dir()]


def test_stripped_headers_keep_pixels_and_geometry_only(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(stripped=True, traps=frozenset()))
    for ds in read_all(folder):
        for word in [
            "PatientName",
            "PatientID",
            "StudyDate",
            "RepetitionTime",
            "EchoTime",
            "InversionTime",
            "SliceThickness",
            "SeriesNumber",
            "InstanceNumber",
            "Manufacturer",
            "ContrastBolusAgent",
        ]:
            assert word not in ds
        assert ds.pixel_array.shape == (32, 32)
        assert ds.SeriesDescription
    none = write_dicom(
        tiny, tmp_path / "n", DicomSpec(stripped=True, traps=frozenset(), descriptions="empty")
    )
    assert all("SeriesDescription" not in ds for ds in read_all(none))


@pytest.mark.parametrize(
    ("spec", "start"),
    [
        (DicomSpec(traps=frozenset()), 128),
        (DicomSpec(traps=frozenset(), no_preamble=True), None),
        (DicomSpec(traps=frozenset(), no_meta=True), None),
        (DicomSpec(traps=frozenset(), no_meta=True, syntax="implicit-le"), None),
    ],
    ids=["whole", "no preamble", "no meta", "no meta, implicit"],
)
def test_beginnings_of_files(tiny: Phantom, tmp_path: Path, spec: DicomSpec, start: Any) -> None:
    folder = write_dicom(tiny, tmp_path, spec)
    data = files_of(folder)[0].read_bytes()
    assert (data[128:132] == b"DICM") == (start is not None)
    first = int.from_bytes(data[:2], "little")
    if start is None:
        assert first == (8 if spec.no_meta else 2)
    ds = read_all(folder)[0]
    if spec.no_meta:
        assert not ds.file_meta
        ds.file_meta.TransferSyntaxUID = (
            uid.ImplicitVRLittleEndian
            if spec.syntax == "implicit-le"
            else uid.ExplicitVRLittleEndian
        )
    assert ds.pixel_array.shape == (32, 32)


def test_wrong_character_set_is_not_decodable(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(wrong_charset=True, traps=frozenset()))
    data = files_of(folder)[0].read_bytes()
    assert b"ISO_IR 192" in data
    assert "PHANTOM^Ünïcødé".encode("latin-1") in data
    assert "PHANTOM^Ünïcødé".encode() not in data
