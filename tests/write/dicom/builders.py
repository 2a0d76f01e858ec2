"""Sources as scanners write them, as headers in memory, and analyses of them for the writers' tests.

Nothing here comes from the writers: positions are placed in the patient by hand (LPS, as DICOM says them),
and the study's geometry is their RAS+ form. `Made` keeps both, so that a test can compare.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from scipy import ndimage

from gliosight.analysis import Analysis, Status
from gliosight.dicom import new_dataset
from gliosight.measure import measure
from gliosight.study import DicomSource, Flag, Geometry, MrSequence, Source
from tests.write import builders

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
REFERENCE_UID = "1.2.826.0.1.3680043.8.498.3"
SHAPE = (9, 40, 36)

# ImageOrientationPatient, LPS: first along a row, then down a column.
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.9659258, -0.2456, 0.0818, 0.2588190, 0.9166, -0.3050)


def straightened(orientation: Sequence[float]) -> NDArray[np.float64]:
    """The same directions as perpendicular unit vectors, (2, 3)."""
    row, column = np.array(orientation, dtype=float).reshape(2, 3)
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    return np.stack([row, column / np.linalg.norm(column)])


@dataclass(frozen=True)
class Made:
    """A source and where its slices lie."""

    source: DicomSource
    geometry: Geometry | None
    positions: NDArray[np.float64]  # (slices, 3), LPS
    orientation: NDArray[np.float64]  # (2, 3), LPS
    spacing: tuple[float, float]  # between rows, between columns


def make_source(
    shape: tuple[int, int, int] = SHAPE,
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (1.1, 0.9),
    gaps: float | Sequence[float] = 4.0,
    tilt_mm: float = 0.0,
    enhanced: int | None = None,
    per_frame_orientation: bool = False,
    shuffled: bool = True,
    **changes: Any,
) -> Made:
    """A series of single frames, or of ``enhanced`` instances with several frames each.

    ``gaps`` are between slices; by ``tilt_mm`` each slice is shifted down its columns, as by a gantry's tilt.
    ``shuffled``: instances and frames come in an order that says nothing of their position. ``changes`` are
    attributes of every header by keyword; ``None`` removes one.
    """
    slices = shape[0]
    row, column = straightened(orientation)
    normal = np.cross(row, column)
    steps = np.full(slices - 1, gaps) if isinstance(gaps, (int, float)) else np.array(gaps)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    corner = np.array([-31.5, 22.25, 7.125])
    positions = corner + along[:, None] * normal + np.arange(slices)[:, None] * tilt_mm * column
    # Digits a header holds; the reader sees no more.
    positions = np.array([[float(_ds(x)) for x in position] for position in positions])
    told = np.array([float(_ds(x)) for x in np.concatenate([row, column])]).reshape(2, 3)
    to_ras = np.array([-1.0, -1.0, 1.0])
    geometry = Geometry(
        positions * to_ras, told[1] * to_ras, told[0] * to_ras, spacing, slice_thickness=3.5
    )
    order = np.random.default_rng(5).permutation(slices) if shuffled else np.arange(slices)
    places = [positions[k] for k in order]
    if enhanced is None:
        headers = [_single(shape, place, told, spacing, k) for k, place in enumerate(places)]
        frames = [(int(np.flatnonzero(order == k)[0]), 1) for k in range(slices)]
    else:
        parts = np.array_split(np.arange(slices), enhanced)
        headers = [
            _enhanced(shape, [places[k] for k in part], told, spacing, n, per_frame_orientation)
            for n, part in enumerate(parts)
        ]
        where = {int(k): (n, i + 1) for n, part in enumerate(parts) for i, k in enumerate(part)}
        frames = [where[int(np.flatnonzero(order == k)[0])] for k in range(slices)]
    for header in headers:
        for keyword, value in changes.items():
            if value is None:
                header.pop(keyword, None)
            else:
                header[keyword] = raw_element(keyword, copy.deepcopy(value))
    return Made(DicomSource(tuple(headers), tuple(frames)), geometry, positions, told, spacing)


def blobs(
    shape: tuple[int, int, int] = SHAPE, count: int = 1, *, size: int = 3
) -> NDArray[np.bool_]:
    """So many lesions that no mirror image or other order of slices leaves in place."""
    mask = np.zeros(shape, dtype=bool)
    s, r, _ = shape
    for k in range(count):
        top, left = 2 + (k * (size + 2)) % max(r - size - 4, 1), 3 + 2 * (k % 3)
        first = min(s - 1, 1 + k % 3)
        last = min(s, first + 3)
        mask[first:last, top : top + size, left : left + size + 1] = True
        mask[first, top, left + size + 1] = True  # a step aside: nothing is symmetric
    return mask


def bodies(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Each connected lesion of a mask by itself, in the order of their first voxels."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return [labels == k + 1 for k in range(count)]


def first_voxel(lesion: NDArray[np.bool_]) -> int:
    """As lesions are told apart in `Decision.lesion_probabilities`."""
    return int(np.flatnonzero(lesion)[0])


def make_analysis(
    made: Made,
    mask: NDArray[np.bool_] | None = None,
    *,
    status: Status | None = None,
    geometry: bool = True,
    flags: tuple[Flag, ...] = (),
    **provenance: Any,
) -> Analysis:
    """An analysis of a source whose mask is given, with the findings that `measure` makes of it."""
    first = made.source.headers[0]
    shape = (len(made.source.frames), int(first.Rows), int(first.Columns))
    mask = blobs(shape) if mask is None else mask
    rng = np.random.default_rng(11)
    probability = np.where(mask, 0.75, 0.02).astype(np.float32)
    probability += rng.uniform(0, 0.1, shape).astype(np.float32)
    values = np.full(shape, 5.0, dtype=np.float32)
    values[:, 2:-2, 2:-2] = 300 + rng.uniform(0, 50, (shape[0], shape[1] - 4, shape[2] - 4))
    analysis = builders.make_analysis(
        shape,
        made.geometry if geometry else None,
        values={MrSequence.FLAIR: values},
        probability=probability,
        sequences=(MrSequence.FLAIR,),
        status=status,
        findings=(),
        flags=flags,
    )
    source = Source(dicom=made.source)
    study = replace(analysis.study, study_id="0123456789ab", kind="dicom", source=source)
    chance = {first_voxel(lesion): 0.9 - 0.1 * k for k, lesion in enumerate(bodies(mask))}
    labels, findings = measure(study, mask, probability, origin="made", lesion_probabilities=chance)
    made_by: dict[str, Any] = {
        "model": "joint-test",
        "channels": ("FLAIR",) * 3,
        "settings": {"threads": 2, "decision": {"pixel_threshold": 0.5}},
        **provenance,
    }
    return replace(
        analysis,
        study=study,
        labels=labels,
        findings=findings,
        provenance=replace(analysis.provenance, **made_by),
    )


def raw_element(keyword: str, value: Any) -> DataElement:
    """An element that holds a value whatever its VR allows; bytes as of an unknown VR."""
    vr = "UN" if isinstance(value, bytes) else dictionary_VR(keyword)
    element = DataElement(tag_for_keyword(keyword), vr, None)
    element._value = value
    return element


def with_side(analysis: Analysis, *sides: str) -> Analysis:
    """The same analysis with other sides of its findings."""
    findings = tuple(
        replace(one, side=side) for one, side in zip(analysis.findings, sides, strict=True)
    )
    return replace(analysis, findings=findings)


def as_nifti(analysis: Analysis) -> Analysis:
    """The same analysis, as of a study that was no DICOM."""
    return replace(analysis, study=replace(analysis.study, kind="nifti", source=Source()))


def _ds(value: float) -> str:
    return f"{value:.6f}"


def _patient(sop_class: str, shape: tuple[int, int, int], number: int) -> Dataset:
    out = new_dataset(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Phantom^Walter",
        PatientID="PHANTOM-7",
        PatientBirthDate="19700203",
        PatientSex="M",
        StudyInstanceUID=STUDY_UID,
        StudyDate="20240102",
        StudyTime="101112",
        ReferringPhysicianName="Doctor^Ruth",
        StudyID="S1",
        AccessionNumber="A1",
        StudyDescription="Head",
        SeriesInstanceUID=SERIES_UID,
        SeriesNumber=4,
        Modality="MR",
        FrameOfReferenceUID=REFERENCE_UID,
        PositionReferenceIndicator="",
        Manufacturer="Phantom works",
        SOPClassUID=sop_class,
        SOPInstanceUID=f"{SERIES_UID}.{number + 1}",
        InstanceNumber=number + 1,
        ImageType=["ORIGINAL", "PRIMARY", "M", "NONE"],
        Rows=shape[1],
        Columns=shape[2],
    )
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return out


def _groups(
    orientation: NDArray[np.float64], spacing: tuple[float, float]
) -> tuple[Dataset, Dataset]:
    """Plane orientation and pixel measures, as the functional groups hold them."""
    turn = new_dataset(ImageOrientationPatient=[_ds(x) for x in orientation.ravel()])
    return turn, new_dataset(PixelSpacing=[str(x) for x in spacing], SliceThickness="3.5")


def _single(
    shape: tuple[int, int, int],
    position: NDArray[np.float64],
    orientation: NDArray[np.float64],
    spacing: tuple[float, float],
    number: int,
) -> Dataset:
    out = _patient(MRImageStorage, shape, number)
    for group in _groups(orientation, spacing):
        out.update(group)
    out.ImagePositionPatient = [_ds(x) for x in position]
    return out


def _enhanced(
    shape: tuple[int, int, int],
    positions: Sequence[NDArray[np.float64]],
    orientation: NDArray[np.float64],
    spacing: tuple[float, float],
    number: int,
    per_frame_orientation: bool,
) -> Dataset:
    out = _patient(EnhancedMRImageStorage, shape, number)
    out.NumberOfFrames = len(positions)
    frames = [
        new_dataset(
            PlanePositionSequence=[new_dataset(ImagePositionPatient=[_ds(x) for x in position])]
        )
        for position in positions
    ]
    shared = Dataset()
    for holder in frames if per_frame_orientation else [shared]:
        turn, size = _groups(orientation, spacing)
        holder.PlaneOrientationSequence, holder.PixelMeasuresSequence = [turn], [size]
    out.SharedFunctionalGroupsSequence = [shared]
    out.PerFrameFunctionalGroupsSequence = frames
    return out
