"""Synthetic DICOM studies: what is in them, where it lies, and that they are sound."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from gliosight.errors import CannotWriteError
from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.phantom.dicom import (
    SETTINGS,
    TRAPS,
    DicomSpec,
    geometry_of,
    parse_settings,
    truth_of,
    turned,
    volume_of,
    write_dicom,
)
from gliosight.phantom.dicom.place import stack_of
from gliosight.phantom.dicom.series import Export, sequence_series
from gliosight.phantom.dicom.study import all_series
from gliosight.study import Sequence

VENDORS = ("siemens", "ge", "philips", "canon")
# Headers hold 16 characters for each number.
CENTROID_MM = 1e-3
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def tiny() -> Phantom:
    """A few coarse slices round a lesion on the left: nothing about it is symmetric."""
    return make_phantom(
        PhantomSpec(seed=4, slices=5, matrix=32, pixel_mm=3.0, slice_spacing_mm=7.0, noise=0.02)
    )


def files_of(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file() and one.name != "DICOMDIR")


def read_all(folder: Path) -> list[Any]:
    return [pydicom.dcmread(one, force=True) for one in files_of(folder)]


def by_series(folder: Path) -> dict[int, list[Any]]:
    out: dict[int, list[Any]] = defaultdict(list)
    for ds in read_all(folder):
        out[int(ds.SeriesNumber)].append(ds)
    return dict(sorted(out.items()))


def flair_of(folder: Path) -> list[Any]:
    """The FLAIR series of a Siemens study without traps: the first."""
    return next(iter(by_series(folder).values()))


def sorted_by_position(headers: list[Any]) -> list[Any]:
    """A reader's order, by nothing but the headers of classic files."""
    across = np.array(headers[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(across[:3], across[3:])
    return sorted(headers, key=lambda ds: normal @ np.array(ds.ImagePositionPatient, dtype=float))


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


def test_wrong_character_set_is_not_decodable(tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(wrong_charset=True, traps=frozenset()))
    data = files_of(folder)[0].read_bytes()
    assert b"ISO_IR 192" in data
    assert "PHANTOM^Ünïcødé".encode("latin-1") in data
    assert "PHANTOM^Ünïcødé".encode() not in data


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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vendor": "acme"}, "vendor"),
        ({"layout": "mosaic"}, "layout"),
        ({"syntax": "png"}, "syntax"),
        ({"traps": frozenset({"tiger"})}, "traps"),
        ({"traps": "map"}, "traps"),
        ({"repeats": frozenset({"often"})}, "repeats"),
        ({"concatenation": 0, "layout": "enhanced"}, "concatenation"),
        ({"concatenation": 2}, "enhanced"),
        ({"order": (0, 0, 1)}, "order"),
        ({"flips": (True, False)}, "flips"),
        ({"rotation": np.diag([-1.0, 1, 1])}, "rotation"),
        ({"rotation": 2 * np.eye(3)}, "rotation"),
        ({"shift": (0, 0, 201)}, "shift"),
        ({"shift": (0, 0, float("nan"))}, "shift"),
        ({"tilt_degrees": 60}, "tilt_degrees"),
        ({"uneven": 0.6}, "uneven"),
        ({"missing": (-1,)}, "missing"),
        ({"bits": 10}, "bits"),
        ({"bits": 12, "syntax": "jpeg-baseline"}, "bits"),
        ({"bits": 16, "syntax": "jpeg-extended"}, "bits"),
        ({"signed": True}, "signed"),
        ({"signed": True, "bits": 16, "syntax": "j2k"}, "signed"),
        ({"stripped": True, "layout": "enhanced"}, "stripped"),
        ({"no_meta": True, "syntax": "rle"}, "no_meta"),
        ({"dicomdir": True, "no_preamble": True}, "DICOMDIR"),
    ],
)
def test_specs_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DicomSpec(**wrong)


def test_specs_compare_and_hash_whatever_they_are_made_from() -> None:
    one = DicomSpec(rotation=np.eye(3), traps={"roi", "map"}, missing=[2, 1])
    two = DicomSpec(traps=frozenset({"map", "roi"}), missing=(1, 2))
    assert one == two
    assert hash(one) == hash(two)
    assert one.canonical == two.canonical


def test_settings_come_from_words() -> None:
    texts = ["vendor=ge", "traps=roi,mask", "repeats=none", "oblique=10,0,5", "missing=3,4"]
    texts += ["stripped=yes", "shift=0,0,150", "flips=no,yes,no", "bits=16", "order=2,1,0"]
    assert parse_settings(texts) == DicomSpec(
        vendor="ge",
        traps=frozenset({"roi", "mask"}),
        rotation=turned(10, 0, 5),
        missing=(3, 4),
        stripped=True,
        shift=(0, 0, 150),
        flips=(False, True, False),
        bits=16,
        order=(2, 1, 0),
    )
    assert parse_settings([]) == DicomSpec()
    fields = {one.name for one in dataclasses.fields(DicomSpec)}
    assert set(SETTINGS) == fields - {"rotation"} | {"oblique"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vandor=ge", "vendor, layout"),
        ("bits=many", "bits cannot be 'many'"),
        ("stripped=perhaps", "stripped cannot be"),
        ("oblique=10", "three angles"),
        ("oblique=nan,0,0", "rotation"),
        ("traps", "traps"),
        ("order=0,1", "order"),
    ],
)
def test_settings_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_settings([text])


@pytest.fixture(scope="session")
def dciodvfy() -> str:
    found = shutil.which("dciodvfy")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("dciodvfy is missing: install the package dicom3tools")
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    return found


def complaints(tool: str, paths: list[Path]) -> set[str]:
    out = set()
    for path in paths:
        done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()  # its findings, or at least the object
        assert lines, "dciodvfy said nothing at all"
        out |= {line for line in lines if line.startswith(("Error", "Abort"))}
    return out


@pytest.fixture(scope="module")
def thin() -> Phantom:
    """Thin slices: vendors scan these as volumes."""
    return make_phantom(
        PhantomSpec(slices=3, matrix=32, pixel_mm=3.0, slice_spacing_mm=1.5, noise=0.02)
    )


def one_of_each_series(folder: Path) -> list[Path]:
    """The last file of each series: parts of a concatenation differ at the end, if anywhere."""
    last = {int(pydicom.dcmread(one).SeriesNumber): one for one in files_of(folder)}
    return list(last.values())


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("layout", "parts"), [("classic", 1), ("enhanced", 1), ("enhanced", 2)])
def test_dciodvfy_finds_no_errors(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, vendor: str, layout: str, parts: int
) -> None:
    spec = DicomSpec(
        vendor=vendor,
        layout=layout,
        concatenation=parts,
        traps=frozenset(TRAPS),
        rotation=turned(13, -7, 29),
    )
    folder = write_dicom(tiny, tmp_path, spec)
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_dciodvfy_finds_no_errors_in_volumes(
    dciodvfy: str, thin: Phantom, tmp_path: Path, vendor: str, layout: str
) -> None:
    spec = DicomSpec(vendor=vendor, layout=layout, traps=frozenset())
    folder = write_dicom(thin, tmp_path, spec)
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast_tags": False},
        {"repeats": frozenset({"times", "echoes"})},
        {"identity": "anonymous"},
        {"identity": "unicode"},
        {"tilt_degrees": 10, "uneven": 0.2, "missing": (1,)},
        {"bits": 16, "signed": True},
        {"syntax": "explicit-be"},
        {"syntax": "j2k-lossy"},
        {"syntax": "rle", "layout": "enhanced"},
        {"syntax": "jpeg-ls-near", "layout": "enhanced"},
        {"contrast_tags": False, "layout": "enhanced"},
        {"repeats": frozenset({"times", "echoes"}), "layout": "enhanced"},
    ],
    ids=str,
)
def test_dciodvfy_accepts_what_is_odd_but_sound(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(**changes, traps=frozenset()))
    assert complaints(dciodvfy, one_of_each_series(folder)) == set()


def test_dciodvfy_would_complain(dciodvfy: str, tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(stripped=True, traps=frozenset()))
    assert complaints(dciodvfy, files_of(folder)[:1])
