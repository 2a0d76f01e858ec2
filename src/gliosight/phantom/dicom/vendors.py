"""How four vendors describe what they scan: names, numbers and habits, as data (phantom layer).

In: a vendor's name. Out: a `Vendor`. Where a field of PS3.3 C.8.3.1 leaves room, the vendors differ
here as they do in the world. GE's two-dimensional T1 is its usual "T1 FLAIR", an inversion recovery
with a short TI and TE: a name that has to be read with the numbers. Philips leaves the TI of its
three-dimensional T1 empty, and its stored values carry a slope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gliosight.phantom.dicom.protocols import SIEMENS, Protocol, Words

# A stack with slices this thin is a three-dimensional acquisition.
THIN_MM = 2.0


@dataclass(frozen=True)
class Vendor:
    """A vendor's habits.

    Parameters
    ----------
    manufacturer, model, station : str
    software : tuple of str
    first, step : int
        Series numbers.
    after : str
        What is added to the name of a series after contrast.
    file_name : str
        Format of a file's path: series, instance, running, description.
    private : (int, str, int, str)
        Group, creator, element and text of one private element.
    scaled : bool
        Whether stored values carry a rescale slope (Philips).
    per_frame : frozenset of str
        Functional groups of enhanced files that stand with each frame; the others are shared.
    body : (str, str, str)
        PatientAge, PatientWeight and PatientSize as they stand where nobody typed them.
    protocols : mapping of str to Protocol
        ``FLAIR``, ``T1`` and those of traps; ``FLAIR_3D``, ``T1_3D`` for thin slices.
    """

    manufacturer: str
    model: str
    station: str
    software: Words
    first: int
    step: int
    after: str
    file_name: str
    private: tuple[int, str, int, str]
    scaled: bool
    per_frame: frozenset[str]
    body: tuple[str, str, str]
    protocols: Mapping[str, Protocol]

    def protocol(self, kind: str, spacing_mm: float) -> Protocol:
        """The protocol for slices that far apart."""
        thick = self.protocols[kind]
        return self.protocols.get(f"{kind}_3D", thick) if spacing_mm <= THIN_MM else thick


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


def _like(source: Mapping[str, Protocol], **changes: Mapping[str, Any]) -> dict[str, Protocol]:
    """Protocols of another vendor: the source's, with what differs."""
    return {name: replace(one, **changes.get(name, {})) for name, one in source.items()}


_OTHER = ("ORIGINAL", "PRIMARY", "OTHER")
_GE_FLAIR: dict[str, Any] = {
    "name": "Ax T2 FLAIR",
    "variant": ("SK",),
    "options": ("FAST_GEMS", "SEQ_GEMS", "TRF_GEMS", "FILTERED_GEMS", "IR_GEMS"),
    "tr": 8000,
    "te": 127.4,
    "ti": 2250,
    "flip": 160,
    "train": 24,
    "pulse": "T2FLAIR",
    "image_type": _OTHER,
}
_GE = _like(
    SIEMENS,
    FLAIR=_GE_FLAIR,
    FLAIR_3D=_GE_FLAIR
    | {
        "name": "Sag CUBE T2 FLAIR",
        "tr": 6002,
        "te": 135.6,
        "ti": 1720,
        "flip": 90,
        "train": 160,
        "pulse": "CubeT2FLAIR",
    },
    T1={
        "name": "Ax T1 FLAIR",
        "scanning": ("SE", "IR"),
        "variant": ("SK",),
        "options": ("FAST_GEMS", "SEQ_GEMS", "IR_GEMS"),
        "tr": 2250,
        "te": 24.1,
        "ti": 780,
        "flip": 160,
        "train": 8,
        "pulse": "T1FLAIR",
        "image_type": _OTHER,
    },
    T1_3D={
        "name": "Ax 3D T1 BRAVO",
        "variant": ("SS", "SP", "SK"),
        "options": ("FAST_GEMS", "EDR_GEMS", "IR_GEMS"),
        "tr": 8.2,
        "te": 3.2,
        "ti": 450,
        "flip": 12,
        "pulse": "BRAVO",
        "image_type": _OTHER,
    },
    localizer={"name": "3-Plane Loc", "variant": ("SS",), "pulse": "FGRE", "image_type": _OTHER},
    dwi={
        "name": "Ax DWI b1000",
        "scanning": ("EP", "SE"),
        "variant": ("NONE",),
        "options": ("EPI_GEMS", "PFF"),
        "pulse": "EPI2",
        "image_type": _OTHER,
    },
    map={
        "name": "Apparent Diffusion Coefficient (mm2/s)",
        "scanning": ("EP", "SE"),
        "variant": ("NONE",),
        "options": ("EPI_GEMS", "PFF"),
        "pulse": "EPI2",
        "image_type": ("DERIVED", "SECONDARY", "OTHER"),
    },
    t2={
        "name": "Ax T2 FSE",
        "variant": ("SK",),
        "options": ("FAST_GEMS", "TRF_GEMS"),
        "tr": 5200,
        "te": 102,
        "pulse": "FSE-XL",
        "image_type": _OTHER,
    },
    coronal=_GE_FLAIR | {"name": "Cor T2 FLAIR"},
)

_P = ("ORIGINAL", "PRIMARY", "M_IR", "M", "IR")
_PHILIPS_FLAIR: dict[str, Any] = {
    "name": "WIP FLAIR_longTR SENSE",
    "scanning": ("IR",),
    "variant": ("SK",),
    "options": ("FS",),
    "tr": 11000,
    "te": 125,
    "ti": 2800,
    "flip": 90,
    "train": 27,
    "pulse": "TIR",
    "image_type": _P,
}
_PHILIPS = _like(
    SIEMENS,
    FLAIR=_PHILIPS_FLAIR,
    FLAIR_3D=_PHILIPS_FLAIR
    | {"name": "VWIP3D_FLAIR", "tr": 4800, "te": 340, "ti": 1650, "train": 182},
    T1={
        "name": "T1W_SE SENSE",
        "variant": ("SP",),
        "options": ("OTHER",),
        "tr": 596,
        "te": 10,
        "flip": 70,
        "pulse": "SE",
        "image_type": ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    },
    T1_3D={
        "name": "T1W_3D_TFE SENSE",
        "scanning": ("GR",),
        "variant": ("MP",),
        "options": ("OTHER",),
        "tr": 8.1,
        "te": 3.7,
        "ti": None,  # an inversion there is, but the field stays empty
        "flip": 8,
        "train": 230,
        "pulse": "T1TFE",
        "image_type": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"),
    },
    localizer={
        "name": "SURVEY_2_HC",
        "variant": ("SS",),
        "pulse": "FFE",
        "image_type": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"),
    },
    dwi={
        "name": "DWI_SSh SENSE",
        "scanning": ("SE",),
        "variant": ("SK",),
        "pulse": "DwiSE",
        "image_type": ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    },
    map={
        "name": "dADC_SSh SENSE",
        "scanning": ("SE",),
        "variant": ("SK",),
        "pulse": "DwiSE",
        "image_type": ("ORIGINAL", "PRIMARY", "ADC_UNSPECIFIED", "ADC", "UNSPECIFIED"),
    },
    t2={
        "name": "T2W_TSE SENSE",
        "variant": ("SK",),
        "tr": 3000,
        "te": 80,
        "flip": 90,
        "pulse": "TSE",
        "image_type": ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"),
    },
    coronal=_PHILIPS_FLAIR | {"name": "WIP FLAIR_cor SENSE"},
)

_CANON_FLAIR: dict[str, Any] = {
    "name": "T2W FLAIR AX",
    "variant": ("SK", "SP"),
    "options": ("FS",),
    "tr": 10000,
    "te": 105,
    "ti": 2700,
    "flip": 90,
    "train": 21,
    "pulse": "FSE_IR+16_fatsat",
    "image_type": _OTHER,
}
_CANON = _like(
    SIEMENS,
    FLAIR=_CANON_FLAIR,
    FLAIR_3D=_CANON_FLAIR
    | {"name": "3D FLAIR MPV", "tr": 6000, "te": 430, "ti": 1900, "pulse": "FASE3D_IR"},
    T1={
        "name": "T1W SE AX",
        "variant": ("NONE",),
        "te": 12,
        "pulse": "SE12_5",
        "image_type": _OTHER,
    },
    T1_3D={
        "name": "3D T1W FFE",
        "scanning": ("GR",),
        "ti": None,
        "variant": ("SS",),
        "tr": 5.7,
        "te": 2.3,
        "pulse": "FFE3D_seg",
        "image_type": _OTHER,
    },
    localizer={"name": "Locator", "variant": ("SS",), "pulse": "FE", "image_type": _OTHER},
    dwi={
        "name": "DWI b1000 AX",
        "scanning": ("SE", "EP"),
        "variant": ("NONE",),
        "pulse": "SE_EPI_dwi",
        "image_type": _OTHER,
    },
    map={
        "name": "ADC",
        "scanning": ("SE", "EP"),
        "variant": ("NONE",),
        "pulse": "SE_EPI_dwi",
        "image_type": ("DERIVED", "SECONDARY", "OTHER"),
    },
    t2={"name": "T2W FSE AX", "variant": ("SK",), "pulse": "FSE+15", "image_type": _OTHER},
    coronal=_CANON_FLAIR | {"name": "T2W FLAIR COR"},
)

VENDORS: Mapping[str, Vendor] = {
    "siemens": Vendor(
        "SIEMENS",
        "Phantom Skyra",
        "MRC00000",
        ("syngo MR E11",),
        1,
        1,
        "_KM",
        "{description}_{series}/PHANTOM.MR.HEAD.{series:04d}.{instance:04d}.IMA",
        (0x0051, "SIEMENS MR HEADER", 0x11, "i2"),
        scaled=False,
        per_frame=_EACH,
        body=("000Y", "0", "0"),
        protocols=SIEMENS,
    ),
    "ge": Vendor(
        "GE MEDICAL SYSTEMS",
        "Phantom SIGNA",
        "00000001",
        ("28", "LX", "MR28.0_R05"),
        1,
        1,
        " +C",
        "e1/s{series}/i{running}.MRDC.{instance}",
        (0x0019, "GEMS_ACQU_01", 0x9C, "phantom"),
        scaled=False,
        per_frame=_POSITION,
        body=("000Y", "0.0", "0.0"),
        protocols=_GE,
    ),
    "philips": Vendor(
        "Philips Medical Systems",
        "Phantom Ingenia",
        "PHILIPS-PHANTOM",
        ("5.3.0", "5.3.0.3"),
        101,
        100,
        " GD",
        "DICOM/IM_{running:04d}",
        (0x2001, "Philips Imaging DD 001", 0x10, "NO"),
        scaled=True,
        # Older releases repeat everything that could differ with every frame.
        per_frame=_EACH
        | {
            "MRTimingAndRelatedParametersSequence",
            "MRModifierSequence",
            "MRFOVGeometrySequence",
            "MRImagingModifierSequence",
        },
        body=("", "", ""),
        protocols=_PHILIPS,
    ),
    "canon": Vendor(
        "CANON_MEC",
        "Phantom Vantage",
        "mr0",
        ("V6.0",),
        1000,
        1000,
        " CE",
        "{series:05d}/{instance:08d}.dcm",
        (0x700D, "TOSHIBA_MEC_MR3", 0x11, "phantom"),
        scaled=False,
        per_frame=_POSITION | {"PlaneOrientationSequence"},
        body=("045Y", "70.5", "1.75"),
        protocols=_CANON,
    ),
}
