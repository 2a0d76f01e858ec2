"""The study that ``gliosight phantom --dicom`` writes: plain, valid, and where it says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from gliosight.errors import CannotWriteError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import Placement, turned, write_dicom
from gliosight.pipeline import read_study
from gliosight.study import MrSequence

from .exported import (
    CENTROID_MM,
    by_series,
    complaints,
    files_of,
    header_centroid,
    sorted_by_position,
    true_centroid,
)


@pytest.fixture(scope="module")
def study(tiny: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(tiny, tmp_path_factory.mktemp("plain"))


def test_a_localizer_and_the_three_sequences_of_nobody(
    tiny: Phantom, study: Path, dciodvfy: str
) -> None:
    assert complaints(dciodvfy, study) == set()
    localizer, flair, t1, t1c = by_series(study).values()
    assert len({tuple(ds.ImageOrientationPatient) for ds in localizer}) == 3
    assert [len(headers) for headers in (flair, t1, t1c)] == [5, 5, 5]
    assert flair[0].InversionTime > 1500
    assert "ContrastBolusAgent" not in t1[0]
    assert t1c[0].ContrastBolusAgent == "Gadolinium"
    headers = [*localizer, *flair, *t1, *t1c]
    for ds in headers:
        assert ds.SOPClassUID == MRImageStorage
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (str(ds.PatientName), ds.PatientID) == ("PHANTOM^SYNTHETIC", "PHANTOM-0004")
    counts = {"StudyInstanceUID": 1, "FrameOfReferenceUID": 1}
    counts |= {"SeriesInstanceUID": 4, "SOPInstanceUID": 18}
    for name, count in counts.items():
        uids = {getattr(ds, name) for ds in headers}
        assert len(uids) == count
        assert all(UID(uid).is_valid for uid in uids)
    assert files_of(study)[0].parent.name == "LOCALIZER_1"
    # It is read as it was made.
    found = read_study(study)
    assert set(found.sequences) == set(MrSequence)
    for sequence, values in tiny.sequences.items():
        assert np.array_equal(found.sequences[sequence].values, np.minimum(values, 4095))
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.origins, tiny.geometry.origins, atol=1e-6)


@pytest.mark.parametrize(
    "placement",
    [
        Placement(order=(1, 0, 2), flips=(True, True, True), shift=(0.0, -200.0, 60.0)),
        Placement(oblique=(10.0, 20.0, 5.0), shift=(150.0, 0.0, -80.0)),
    ],
    ids=["coronal, moved", "oblique, moved"],
)
def test_the_patient_stays_where_he_is(tiny: Phantom, tmp_path: Path, placement: Placement) -> None:
    lesion = replace(tiny, sequences={MrSequence.FLAIR: tiny.truth.astype(np.uint16)})
    flair = sorted_by_position(by_series(write_dicom(lesion, tmp_path, placement))[2])
    mask = np.stack([ds.pixel_array for ds in flair])
    assert mask.sum() == tiny.truth.sum()
    rotation = turned(*placement.oblique)
    away = header_centroid(flair, mask) - true_centroid(tiny, rotation, placement.shift)
    assert np.abs(away).max() < CENTROID_MM
    assert np.allclose(turned(90, 0, 90) @ (0, 1, 0), (0, 0, 1))  # first about x, then about z


def test_the_same_settings_are_the_same_bytes_and_others_have_other_uids(
    tiny: Phantom, study: Path, tmp_path: Path
) -> None:
    again = write_dicom(tiny, tmp_path / "a")
    assert [p.read_bytes() for p in files_of(study)] == [p.read_bytes() for p in files_of(again)]
    moved = write_dicom(tiny, tmp_path / "b", Placement(shift=(1.0, 0.0, 0.0)))
    uids = [
        {ds.SOPInstanceUID for headers in by_series(folder).values() for ds in headers}
        for folder in (study, moved)
    ]
    assert not uids[0] & uids[1]


def test_flair_alone_one_slice_and_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PhantomSpec(slices=1, matrix=32, pixel_mm=3.0, sequences=(MrSequence.FLAIR,))
    head = make_phantom(spec)
    localizer, flair = by_series(write_dicom(head, tmp_path / "a")).values()
    assert (len(localizer), len(flair)) == (3, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pydicom.Dataset.save_as", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        write_dicom(head, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
