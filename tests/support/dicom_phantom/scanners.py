"""How four vendors describe what they scan: names, numbers and habits.

Values are those of ordinary brain protocols and of exports seen in public data; ``protocols.csv`` holds
them. Where a field of PS3.3 C.8.3.1 leaves room, the vendors differ here as they do in the world. GE's
two-dimensional T1 is its usual "T1 FLAIR", an inversion recovery with a short TI and TE: a name that has to
be read with the numbers. Philips leaves the TI of its three-dimensional T1 empty, and its stored values
carry a slope.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gliosight.phantom import dicom

# A stack with slices this thin is a three-dimensional acquisition: FLAIR_3D and T1_3D.
THIN_MM = 2.0


@dataclass(frozen=True)
class Protocol(dicom.Protocol):
    contrast: str = ""  # AcquisitionContrast (enhanced)
    volume: bool = False  # three-dimensional

    @property
    def echo_pulse(self) -> str:
        """EchoPulseSequence: what makes the echo."""
        gradient = {"GR", "EP"} & set(self.scanning) and "SE" not in self.scanning
        return "GRADIENT" if gradient else "SPIN"


@dataclass(frozen=True)
class Vendor:
    manufacturer: str
    model: str
    station: str
    software: tuple[str, ...]
    first: int  # number of the first series
    step: int  # from one series' number to the next
    after: str  # what is added to the name of a series after contrast
    file_name: str  # format of a file's path
    private: tuple[int, str, int, str]  # group, creator, element and text of one private element
    per_frame: frozenset[str]  # functional groups that stand with each frame; the others are shared
    # PatientAge, PatientWeight and PatientSize as they stand where nobody typed them.
    body: tuple[str, str, str]
    scaled: bool = False  # stored values carry a rescale slope


def protocol(vendor: str, kind: str, spacing_mm: float) -> Protocol:
    """The vendor's protocol for slices that far apart."""
    thin = f"{kind}_3D" if spacing_mm <= THIN_MM else kind
    return _PROTOCOLS.get((vendor, thin)) or _PROTOCOLS[vendor, kind]


def _read_protocols() -> dict[tuple[str, str], Protocol]:
    with Path(__file__).with_name("protocols.csv").open(newline="") as file:
        return {
            (row["vendor"], row["kind"]): Protocol(
                name=row["name"],
                scanning=tuple(row["scanning"].split()),
                variant=tuple(row["variant"].split()),
                options=tuple(row["options"].split()),
                tr=float(row["tr"]),
                te=float(row["te"]),
                ti=float(row["ti"]) if row["ti"] else None,
                flip=float(row["flip"]),
                train=int(row["train"]),
                pulse=row["pulse"],
                image_type=tuple(row["image_type"].split()),
                minutes=float(row["minutes"]),
                contrast=row["contrast"],
                volume=row["dimension"] == "3D",
            )
            for row in csv.DictReader(file)
        }


_PROTOCOLS = _read_protocols()
_POSITION = frozenset({"FrameContentSequence", "PlanePositionSequence"})
_EACH = _POSITION | {
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "MREchoSequence",
    "MRAveragesSequence",
    "MRImageFrameTypeSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
}
VENDORS: Mapping[str, Vendor] = {
    "siemens": Vendor(
        "SIEMENS",
        "Phantom Skyra",
        "MRC00000",
        ("syngo MR E11",),
        first=1,
        step=1,
        after="_KM",
        file_name="{description}_{series}/PHANTOM.MR.HEAD.{series:04d}.{instance:04d}.IMA",
        private=(0x0051, "SIEMENS MR HEADER", 0x11, "i2"),
        per_frame=_EACH,
        body=("000Y", "0", "0"),
    ),
    "ge": Vendor(
        "GE MEDICAL SYSTEMS",
        "Phantom SIGNA",
        "00000001",
        ("28", "LX", "MR28.0_R05"),
        first=1,
        step=1,
        after=" +C",
        file_name="e1/s{series}/i{running}.MRDC.{instance}",
        private=(0x0019, "GEMS_ACQU_01", 0x9C, "phantom"),
        per_frame=_POSITION,
        body=("000Y", "0.0", "0.0"),
    ),
    "philips": Vendor(
        "Philips Medical Systems",
        "Phantom Ingenia",
        "PHILIPS-PHANTOM",
        ("5.3.0", "5.3.0.3"),
        first=101,
        step=100,
        after=" GD",
        file_name="DICOM/IM_{running:04d}",
        private=(0x2001, "Philips Imaging DD 001", 0x10, "NO"),
        # Older releases repeat everything that could differ with every frame.
        per_frame=_EACH
        | {
            "MRTimingAndRelatedParametersSequence",
            "MRModifierSequence",
            "MRFOVGeometrySequence",
            "MRImagingModifierSequence",
        },
        body=("", "", ""),
        scaled=True,
    ),
    "canon": Vendor(
        "CANON_MEC",
        "Phantom Vantage",
        "mr0",
        ("V6.0",),
        first=1000,
        step=1000,
        after=" CE",
        file_name="{series:05d}/{instance:08d}.dcm",
        private=(0x700D, "TOSHIBA_MEC_MR3", 0x11, "phantom"),
        per_frame=_POSITION | {"PlaneOrientationSequence"},
        body=("045Y", "70.5", "1.75"),
    ),
}
