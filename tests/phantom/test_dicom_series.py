"""The exported sequences: what identifies them, and how their slices are numbered and repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import DicomSpec, volume_of, write_dicom
from gliosight.phantom.dicom.series import Export, sequence_series
from gliosight.study import Sequence

from .exported import VENDORS, by_series, flair_of, read_all, sorted_by_position


def test_the_three_sequences_identify_themselves(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(traps=frozenset()))
    flair, t1, t1c = (one[0] for one in by_series(folder).values())
    assert set(flair.ScanningSequence) == {"SE", "IR"}
    assert flair.InversionTime > 1500
    assert flair.EchoTime > 70
    assert t1.RepetitionTime < 1000
    assert t1.EchoTime < 20
    assert "ContrastBolusAgent" not in t1
    assert t1c.ContrastBolusAgent == "Gadolinium"
    assert t1c.EchoTime == t1.EchoTime
    times = [ds.AcquisitionTime for ds in (flair, t1, t1c)]
    assert times == sorted(times)
    assert len({ds.FrameOfReferenceUID for ds in (flair, t1, t1c)}) == 1
    assert len({ds.StudyInstanceUID for ds in (flair, t1, t1c)}) == 1
    assert len({ds.SeriesInstanceUID for ds in (flair, t1, t1c)}) == 3


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("spacing", [5.0, 1.0])
def test_every_vendors_flair_nulls_liquor_and_its_t1_does_not(vendor: str, spacing: float) -> None:
    phantom = make_phantom(PhantomSpec(slices=1, matrix=32, pixel_mm=3.0, slice_spacing_mm=spacing))
    export = Export(phantom, DicomSpec(vendor=vendor))
    flair = sequence_series(export, Sequence.FLAIR, 1, 0.0).protocol
    t1 = sequence_series(export, Sequence.T1, 2, 0.0).protocol
    assert flair.volume == t1.volume == (spacing == 1.0)
    assert 1500 < flair.ti < 3000 < flair.tr
    assert flair.te > 70
    assert t1.ti is None or t1.ti < 1000
    assert t1.te < 30
    assert flair.contrast == "FLUID_ATTENUATED"


def test_contrast_fields_can_be_empty(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(traps=frozenset(), contrast_tags=False))
    last = list(by_series(folder).values())[-1][0]
    assert last.ContrastBolusAgent == ""
    assert "ContrastBolusVolume" not in last


def test_descriptions_mislead_or_are_empty(tiny: Phantom, tmp_path: Path) -> None:
    for kind, wanted in (
        ("empty", ["", "", ""]),
        ("misleading", ["T2 TSE ax", "FLAIR ax", "T1 ax native"]),
    ):
        spec = DicomSpec(traps=frozenset(), descriptions=kind)
        folder = write_dicom(tiny, tmp_path / kind, spec)
        assert [one[0].SeriesDescription for one in by_series(folder).values()] == wanted


def test_times_and_echoes_are_explained_by_their_fields(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(), repeats=frozenset({"times"}))
    flair = flair_of(write_dicom(tiny, tmp_path / "t", spec))
    assert {(ds.TemporalPositionIdentifier, ds.AcquisitionNumber) for ds in flair} == {
        (1, 1),
        (2, 2),
    }
    echoes = flair_of(
        write_dicom(tiny, tmp_path / "e", DicomSpec(traps=frozenset(), repeats={"echoes"}))
    )
    assert len({float(ds.EchoTime) for ds in echoes}) == 2
    for headers in (flair, echoes):
        assert len(headers) == 10
        assert len({tuple(ds.ImagePositionPatient) for ds in headers}) == 5


def test_unexplained_repeats_differ_in_nothing_but_pixels(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(), repeats={"unexplained"})
    flair = flair_of(write_dicom(tiny, tmp_path, spec))
    first, second = [next(ds for ds in flair if ds.InstanceNumber == number) for number in (1, 6)]
    different = {element.keyword for element in first if element != second.get(element.tag)}
    assert different == {"SOPInstanceUID", "InstanceNumber", "PixelData"}


def test_copies_are_the_same_file_under_another_name(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(), repeats={"copies"})
    flair = flair_of(write_dicom(tiny, tmp_path, spec))
    assert len(flair) == 10
    assert len({ds.SOPInstanceUID for ds in flair}) == 5


@pytest.mark.parametrize("numbering", ["reversed", "shuffled", "zero"])
def test_instance_numbers_contradict_positions(
    tiny: Phantom, tmp_path: Path, numbering: str
) -> None:
    spec = DicomSpec(traps=frozenset(), numbering=numbering)
    headers = sorted_by_position(flair_of(write_dicom(tiny, tmp_path, spec)))
    numbers = [int(ds.InstanceNumber) for ds in headers]
    if numbering == "zero":
        assert set(numbers) == {0}
    else:
        assert numbers != sorted(numbers)
        assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert np.array_equal(
        np.stack([ds.pixel_array for ds in headers]), volume_of(tiny, spec, Sequence.FLAIR)
    )


def test_frames_of_reference(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(), no_frame_of_reference=True)
    assert all(
        "FrameOfReferenceUID" not in ds for ds in read_all(write_dicom(tiny, tmp_path, spec))
    )
    other = write_dicom(tiny, tmp_path / "o", DicomSpec(traps=frozenset(), t1_frame="other"))
    flair, t1, t1c = (one[0].FrameOfReferenceUID for one in by_series(other).values())
    assert flair != t1 == t1c


def test_t1_on_a_coronal_grid_is_the_same_head(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(traps=frozenset(), t1_grid="coronal")
    _, t1, _ = by_series(write_dicom(tiny, tmp_path, spec)).values()
    assert len(t1) == 32
    headers = sorted_by_position(t1)
    values = np.stack([ds.pixel_array for ds in headers])
    # The reader's normal points to the patient's front or back, rows up or down: try by position.
    back = np.moveaxis(values, 0, 1)
    if headers[0].ImagePositionPatient[1] > headers[-1].ImagePositionPatient[1]:
        back = back[:, ::-1]
    assert np.array_equal(back, tiny.sequences[Sequence.T1]) or np.array_equal(
        back[:, ::-1], tiny.sequences[Sequence.T1]
    )
