"""A phantom as a DICOM study: FLAIR, T1, T1C and a localizer, as a scanner exports them (phantom layer).

MR Image instances (PS3.3 A.4), one for each slice, explicit little endian. The truth is not among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from gliosight.phantom.files import study_folder
from gliosight.phantom.scanner import Phantom
from gliosight.study import MrSequence

Positions = NDArray[np.float64]
Order = tuple[int, int, int]
Flips = tuple[bool, bool, bool]

LARGEST_SHIFT_MM = 200.0
STUDY_DATE = "20240229"
BITS = 12
# RAS+ and LPS differ by the sign of x and y.
TO_LPS = np.array([-1.0, -1.0, 1.0])
# Seconds: the study begins at ten; before T1C is the injection, between two series a pause.
STUDY_BEGIN, FIRST_SERIES, INJECTION, PAUSE = 36000.0, 60.0, 240.0, 20.0
# The localizer's planes, as order and flips: axial, coronal, sagittal, each with the head up.
_LOCALIZER: tuple[tuple[Order, Flips], ...] = (
    ((0, 1, 2), (False, False, False)),
    ((1, 0, 2), (False, True, False)),
    ((2, 0, 1), (False, True, False)),
)


@dataclass(frozen=True)
class Placement:
    """How the patient lies in the scanner, and how the slices lie in the patient.

    Raises
    ------
    ValueError
        Naming the field, the value found and the value needed.
    """

    # Degrees by which patient and slices are turned about the RAS+ axes, first about x; before the shift.
    oblique: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the patient, RAS+ mm
    # ``order[k]`` is the phantom's axis (slice, row, column) that becomes axis k of the files; the patient
    # stays where he is: (1, 0, 2) is coronal, (2, 0, 1) sagittal.
    order: Order = (0, 1, 2)
    flips: Flips = (False, False, False)  # whether each axis of the files runs the other way

    def __post_init__(self) -> None:
        if len(self.oblique) != 3 or not all(map(math.isfinite, self.oblique)):
            raise ValueError(f"oblique is {self.oblique}, needed: three angles")
        if len(self.shift) != 3 or not all(abs(mm) <= LARGEST_SHIFT_MM for mm in self.shift):
            raise ValueError(
                f"shift is {self.shift}, needed: three lengths up to {LARGEST_SHIFT_MM:.0f} mm"
            )
        if self.order not in permutations(range(3)):
            raise ValueError(f"order is {self.order}, needed: a permutation of 0, 1, 2")
        if len(self.flips) != 3:
            raise ValueError(f"flips are {self.flips}, needed: three")


@dataclass(frozen=True)
class Protocol:
    """What identifies an acquisition, by the fields of PS3.3 C.8.3.1: times in ms, angles in degrees."""

    name: str
    scanning: tuple[str, ...]
    variant: tuple[str, ...]
    options: tuple[str, ...]
    tr: float
    te: float
    ti: float | None
    flip: float
    train: int
    pulse: str
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
    minutes: float = 3.0


_T1 = Protocol("t1_se_tra", ("SE",), ("SP", "OSP"), ("SAT1",), 550, 8.7, None, 90, 1, "*se2d1")
PROTOCOLS = {
    "localizer": Protocol(
        "localizer", ("GR",), ("SP", "OSP"), (), 8.6, 4, None, 20, 1, "*fl2d1", minutes=0.3
    ),
    "FLAIR": Protocol(
        name="t2_tirm_tra_dark-fluid",
        scanning=("SE", "IR"),
        variant=("SK", "SP", "MP", "OSP"),
        options=("IR", "PFP", "FS"),
        tr=9000,
        te=86,
        ti=2500,
        flip=150,
        train=16,
        pulse="*tir2d1_16fs",
    ),
    "T1": _T1,
    "T1C": replace(_T1, name="t1_se_tra_KM"),
}


@dataclass(frozen=True)
class Plane:
    """One picture of a series: pixels, and where they lie in LPS mm."""

    pixels: NDArray[np.generic]  # (rows, columns)
    position: Positions  # (3,), ImagePositionPatient
    orientation: Positions  # (6,), ImageOrientationPatient: first where the column index grows
    spacing: tuple[float, float]  # between rows, between columns
    step: float  # between slices; their thickness as well
    seconds: float = 0.0  # when it is acquired, from the beginning of the series


def write_dicom(phantom: Phantom, folder: Path, placement: Placement | None = None) -> Path:
    """Write a whole study and return its folder; the same settings give the same bytes, UIDs included.

    Raises
    ------
    CannotWriteError
        The study's folder holds something already, or cannot be written.
    """
    placement = Placement() if placement is None else placement
    settings = f"{phantom.spec!r} {placement!r}"
    start = FIRST_SERIES
    with study_folder(phantom, folder) as target:
        for number, (kind, planes) in enumerate(_series(phantom, placement), start=1):
            protocol = PROTOCOLS[kind]
            start += INJECTION if kind == "T1C" else 0.0
            header: Any = Dataset()
            put_study(header, phantom)
            put_series(header, protocol.name, number, start)
            put_protocol(header, protocol)
            if kind == "T1C":
                put_contrast(header, start)
            header.WindowCenter, header.WindowWidth = window_of(planes)
            header.StudyInstanceUID = make_uid(settings, "study")
            header.FrameOfReferenceUID = make_uid(settings, "frame of reference")
            header.SeriesInstanceUID = make_uid(settings, "series", number)
            path = target / f"{protocol.name.upper()}_{number}"
            path.mkdir()
            for index, plane in enumerate(planes, start=1):
                # The slices share the header's elements; what is set here must not be among them.
                ds: Any = Dataset({element.tag: element for element in header})
                put_plane(ds, protocol, plane, start)
                ds.InstanceNumber = index
                ds.SOPInstanceUID = make_uid(settings, "instance", number, index)
                ds.file_meta = make_meta(ExplicitVRLittleEndian, make_uid("gliosight phantom"))
                ds.set_pixel_data(plane.pixels, "MONOCHROME2", BITS, generate_instance_uid=False)
                name = f"PHANTOM.MR.HEAD.{number:04d}.{index:04d}.IMA"
                ds.save_as(path / name, enforce_file_format=True)
            start += protocol.minutes * 60 + PAUSE
    return folder / phantom.spec.study_id


def _series(phantom: Phantom, placement: Placement) -> Iterator[tuple[str, list[Plane]]]:
    """The series in the order of the scan, each by the name of its protocol."""
    rotation = turned(*placement.oblique)

    def lay(sequence: MrSequence, order: Order, flips: Flips, minutes: float) -> list[Plane]:
        values = np.minimum(phantom.sequences[sequence], 2**BITS - 1)
        values, origin, steps = arrange(values, phantom.affine, order, flips)
        positions = origin + np.arange(len(values))[:, None] * steps[0]
        return planes_of(values, positions, steps, rotation, placement.shift, minutes * 60)

    planes: list[Plane] = []
    for order, flips in _LOCALIZER:
        stack = lay(MrSequence.FLAIR, order, flips, PROTOCOLS["localizer"].minutes)
        planes.append(stack[len(stack) // 2])
    yield "localizer", planes
    for sequence in MrSequence:
        if sequence in phantom.sequences:
            minutes = PROTOCOLS[sequence.value].minutes
            yield sequence.value, lay(sequence, placement.order, placement.flips, minutes)


def turned(x: float, y: float, z: float) -> Positions:
    """Rotation (3, 3) about the RAS+ axes by these degrees: first about x, then y, then z."""
    out = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = cosine
        turn[a, b], turn[b, a] = -sine, sine
        out = turn @ out
    return out


def arrange(
    values: NDArray[np.generic], affine: Positions, order: Order, flips: Flips
) -> tuple[NDArray[np.generic], Positions, Positions]:
    """Permute and flip the axes of a volume as in `Placement`; every voxel stays in its place.

    Returns
    -------
    values : array
    origin : (3,) array
        Of the first voxel, RAS+ mm.
    steps : (3, 3) array
        From one voxel to the next along each axis, RAS+ mm.
    """
    steps = affine[:3, :3].T[list(order)]
    origin = affine[:3, 3].copy()
    values = values.transpose(order)
    for axis, flipped in enumerate(flips):
        if flipped:
            values = np.flip(values, axis)
            origin += steps[axis] * (values.shape[axis] - 1)
            steps[axis] = -steps[axis]
    return values, origin, steps


def planes_of(
    values: NDArray[np.generic],
    positions: Positions,
    steps: Positions,
    rotation: Positions,
    shift: tuple[float, float, float],
    seconds: float,
) -> list[Plane]:
    """Slices at their RAS+ positions, turned and shifted, acquired evenly within so many seconds."""
    lengths = np.linalg.norm(steps, axis=1)
    _, down, across = steps @ rotation.T / lengths[:, None] * TO_LPS
    orientation = np.concatenate([across, down])
    orientation[np.abs(orientation) < 1e-12] = 0  # without the -0.0 and 1e-17 no scanner writes
    moved = (positions @ rotation.T + np.asarray(shift)) * TO_LPS
    step, *spacing = map(float, lengths)
    return [
        Plane(
            pixels, moved[k], orientation, (spacing[0], spacing[1]), step, seconds * k / len(values)
        )
        for k, pixels in enumerate(values)
    ]


def make_uid(*parts: object) -> str:
    """A UID that is the same whenever the same thing is written (PS3.5 B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, chr(10).join(map(str, parts))).int}"


def make_meta(syntax: str, implementation: str) -> FileMetaDataset:
    """The file meta group (PS3.10 7.1), without the UIDs of the data set."""
    meta: Any = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = implementation
    meta.ImplementationVersionName = "GLIOSIGHT"
    return cast("FileMetaDataset", meta)


def clock(seconds: float) -> str:
    """Time of day (TM) at so many seconds from the beginning of the study."""
    whole, fraction = divmod(round((STUDY_BEGIN + seconds) * 1000), 1000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{fraction:03d}000"


def decimal(value: float) -> str:
    """A number as decimal string, as exact as 16 characters allow (PS3.5 6.2, DS)."""
    return str(format_number_as_ds(float(value) + 0.0))


def window_of(planes: Iterable[Plane]) -> tuple[str, str]:
    """WindowCenter and WindowWidth that show the whole head."""
    # Every fourth pixel: the statistic is the same, and a long series takes a while.
    sample = np.concatenate([plane.pixels[::4, ::4].ravel() for plane in planes])
    top = max(int(np.percentile(sample, 99.5)), 2)
    return str(top // 2), str(top)


def put_study(ds: Any, phantom: Phantom) -> None:
    """Patient, study and equipment (PS3.3 C.7.1, C.7.2, C.7.5): nobody's name, Siemens' words."""
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID = "PHANTOM^SYNTHETIC", f"PHANTOM-{phantom.spec.seed:04d}"
    ds.PatientBirthDate, ds.PatientSex = "19000101", "O"
    ds.PatientAge, ds.PatientWeight, ds.PatientSize = "000Y", "0", "0"
    ds.StudyDate, ds.StudyTime = STUDY_DATE, clock(0)
    ds.StudyID, ds.StudyDescription = f"{phantom.spec.seed % 10000}", "Synthetic head"
    ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "Phantom Skyra"
    ds.InstitutionName, ds.StationName = "Synthetic", "MRC00000"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "00000", "syngo MR E11"


def put_series(ds: Any, description: str, number: int, start: float) -> None:
    """Series and frame of reference (PS3.3 C.7.3, C.7.4), without their UIDs."""
    ds.Modality, ds.SeriesNumber = "MR", number
    ds.SeriesDescription = ds.ProtocolName = description
    ds.SeriesDate = ds.ContentDate = STUDY_DATE
    ds.SeriesTime = clock(start)
    ds.BodyPartExamined, ds.PatientPosition = "HEAD", "HFS"
    ds.PositionReferenceIndicator = ""


def put_protocol(ds: Any, protocol: Protocol) -> None:
    """What all slices of a series share of MR Image (PS3.3 C.8.3.1)."""
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = list(protocol.image_type)
    ds.AcquisitionDate = STUDY_DATE
    ds.ScanningSequence = list(protocol.scanning)
    ds.SequenceVariant = list(protocol.variant)
    ds.ScanOptions = list(protocol.options)
    ds.MRAcquisitionType, ds.AngioFlag = "2D", "N"
    ds.RepetitionTime, ds.FlipAngle = decimal(protocol.tr), decimal(protocol.flip)
    if protocol.ti is not None:
        ds.InversionTime = decimal(protocol.ti)
    ds.NumberOfAverages, ds.EchoTrainLength = "1", protocol.train
    ds.ImagingFrequency, ds.ImagedNucleus, ds.MagneticFieldStrength = "123.25", "1H", "3"
    ds.PercentSampling = ds.PercentPhaseFieldOfView = "100"
    ds.PixelBandwidth, ds.ReceiveCoilName = "220", "Head_32"
    ds.InPlanePhaseEncodingDirection = "ROW"


def put_contrast(ds: Any, start: float) -> None:
    """Contrast/Bolus (PS3.3 C.7.6.4)."""
    ds.ContrastBolusAgent, ds.ContrastBolusIngredient = "Gadolinium", "GADOLINIUM"
    ds.ContrastBolusRoute, ds.ContrastBolusVolume = "IV", "7.5"
    ds.ContrastBolusStartTime = clock(start - INJECTION)


def put_plane(ds: Any, protocol: Protocol, plane: Plane, start: float) -> None:
    """When and where a slice was acquired (PS3.3 C.7.6.2, C.8.3.1)."""
    ds.AcquisitionTime = clock(start + plane.seconds)
    ds.ContentTime = clock(start + plane.seconds + 1)
    ds.AcquisitionNumber = ds.EchoNumbers = 1
    ds.EchoTime = decimal(protocol.te)
    ds.SequenceName = protocol.pulse
    ds.SliceThickness = ds.SpacingBetweenSlices = decimal(plane.step)
    ds.PixelSpacing = [decimal(mm) for mm in plane.spacing]
    ds.ImagePositionPatient = [decimal(mm) for mm in plane.position]
    ds.ImageOrientationPatient = [decimal(cosine) for cosine in plane.orientation]
    normal = np.cross(plane.orientation[:3], plane.orientation[3:])
    ds.SliceLocation = decimal(round(float(normal @ plane.position), 6))
