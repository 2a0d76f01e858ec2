"""What header values identify a sequence (read stage, DICOM).

In: the values of one frame as text, by keyword, wherever the header kept them (see `frames`). Out:
`Acquisition`, the same for classic and enhanced MR: what PS3.3 section C.8.3 (MR Image) and section C.8.13
(Enhanced MR Image) say of timing, pulse sequence, kind of image and contrast medium. Absent and absurd values
are ``None`` or empty; nothing here raises.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from gliosight.read.dicom.elements import integer, number, numbers, stored
from gliosight.read.dicom.hints import contrast_hint, hints_of, said_sequence

# What is read of each frame; `frames` knows where enhanced objects keep it.
KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "Manufacturer",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "SeriesDescription",
    "ProtocolName",
    "ConversionType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsStored",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "SequenceName",
    "PulseSequenceName",
    "MRAcquisitionType",
    "AngioFlag",
    "RepetitionTime",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "InversionTimes",
    "FlipAngle",
    "EchoTrainLength",
    "RFEchoTrainLength",
    "EchoNumbers",
    "EchoPulseSequence",
    "EchoPlanarPulseSequence",
    "InversionRecovery",
    "Spoiling",
    "SteadyStatePulseSequence",
    "TimeOfFlightContrast",
    "PhaseContrast",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NumberOfTemporalPositions",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "StackID",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusVolume",
    "ContrastBolusTotalDose",
    "ContrastBolusStartTime",
    "ContrastBolusAgentAdministered",
    "ContrastBolusAgentPhase",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "StudyDate",
    "ContentTime",
)

DAY = 86_400.0
# What is written into ContrastBolusAgent when there was none.
_NO_AGENT = re.compile(
    r"(none?|no|nein|not? given|n/?a|ohne|kein\w*|without|nativ\w*|unenhanced|0+|false|null|unknown)"
    r"(?: (contrast|km|agent|kontrastmittel))?|[\W_]*",
    re.IGNORECASE,
)
# Names Siemens and others give to inversion recovery sequences: "*tir2d1_16", "*spcir_278ns", "h3tir".
_INVERSION_NAME = re.compile(r"(^|[*_ ])(h\d)?(tir|spc_?ir|ir\d?d?|irm)|flair|t?ir_?(tse|fse|se)")
_EPI_NAME = re.compile(r"(^|[*_ ])(ep\d?d?(fid|se|ir)?|epfid|epse|epi|ep_b\d)")
_DIFFUSION_NAME = re.compile(r"(^|[*_ ])(ep|re|h|tse|ir)\w*_?b\d+(#|t|$|_)")
_STEADY_NAME = re.compile(r"(^|[*_ ])(ci3d|tfi|trufi|fiesta|b-?ffe|b-?tfe)")


@dataclass(frozen=True)
class Acquisition:
    """What one frame's header says of how it was made.

    Parameters
    ----------
    sop_class, modality, manufacturer, photometric : str
    image_type : tuple of str
        ImageType, or FrameType where a frame has its own, upper case.
    component : str
        ``"M"`` (magnitude), ``"P"`` (phase), ``"R"``, ``"I"``; ``""`` where not said.
    rows, columns, samples, bits_stored : int or None
    scanning, variant, options : tuple of str
        ScanningSequence (SE, GR, IR, EP, RM), SequenceVariant, ScanOptions; for enhanced objects made of
        EchoPulseSequence, InversionRecovery, EchoPlanarPulseSequence, Spoiling and the like.
    sequence_name : str
        SequenceName or PulseSequenceName, lower case.
    dimensions : str
        MRAcquisitionType, ``"2D"``, ``"3D"`` or ``""``.
    repetition, echo, inversion : float or None
        TR, TE (effective), TI in milliseconds.
    inversions : int
        Number of inversion times given.
    flip : float or None
        Degrees.
    echo_train, echo_number, temporal, acquisition : int or None
    temporal_count : int or None
        Temporal positions the header claims, or `series` has found.
    trigger : float or None
        Milliseconds after the trigger.
    b_value : float or None
        Diffusion weighting, s/mm².
    gradient, stack : str
    inversion_recovery : bool or None
        ``None`` where the header does not say.
    angiographic, conversion : bool
    contrast : bool or None
        Whether contrast medium had been given, by the fields for it; ``None`` where they are empty.
    acquired : float or None
        Seconds since the year 1, to sort by; of the day only, where there is no date.
    description : str
        SeriesDescription, else ProtocolName: a hint only.
    orientations, slices : int or None
        Of the series it stands in; filled in by `series`.
    companions : frozenset of str
        Kinds of image that the same series also holds; filled in by `series`.
    """

    sop_class: str = ""
    modality: str = ""
    manufacturer: str = ""
    photometric: str = ""
    image_type: tuple[str, ...] = ()
    component: str = ""
    rows: int | None = None
    columns: int | None = None
    samples: int | None = None
    bits_stored: int | None = None
    scanning: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    sequence_name: str = ""
    dimensions: str = ""
    repetition: float | None = None
    echo: float | None = None
    inversion: float | None = None
    inversions: int = 0
    flip: float | None = None
    echo_train: int | None = None
    echo_number: int | None = None
    temporal: int | None = None
    temporal_count: int | None = None
    trigger: float | None = None
    b_value: float | None = None
    gradient: str = ""
    acquisition: int | None = None
    stack: str = ""
    inversion_recovery: bool | None = None
    angiographic: bool = False
    conversion: str = ""
    contrast: bool | None = None
    acquired: float | None = None
    description: str = ""
    orientations: int | None = None
    slices: int | None = None
    companions: frozenset[str] = frozenset()

    @cached_property
    def hints(self) -> frozenset[str]:
        """What the description hints at, see `hints.HINTS`."""
        return hints_of(self.description)

    @property
    def said(self) -> str | None:
        """The one sequence the description names."""
        return said_sequence(self.description)

    @property
    def said_contrast(self) -> bool | None:
        """Whether the description says after (True) or before (False) contrast medium."""
        return contrast_hint(self.description)

    @property
    def derived(self) -> bool:
        """Whether pixels were computed from other images (PS3.3 section C.7.6.1.1.2)."""
        return "DERIVED" in self.image_type[:1]

    @property
    def timed(self) -> bool:
        """Whether any of TR, TE, TI is known."""
        return any(one is not None for one in (self.repetition, self.echo, self.inversion))


def acquisition_of(values: tuple[str, ...]) -> Acquisition:
    """The acquisition that values in the order of `KEYWORDS` describe; remembers the last ones."""
    return _acquisition_of(values)


def stored_values(dataset: object) -> tuple[str, ...]:
    """The values of `KEYWORDS` that stand at the top level of a data set."""
    return tuple(stored(dataset, one) for one in KEYWORDS)


@lru_cache(maxsize=2048)
def _acquisition_of(values: tuple[str, ...]) -> Acquisition:
    of = dict(zip(KEYWORDS, values, strict=True))
    image_type = _codes(of["FrameType"]) or _codes(of["ImageType"])
    name = (of["SequenceName"] or of["PulseSequenceName"]).lower()
    inversions = [one for one in _several(of, "InversionTimes", "InversionTime") if 0 < one <= 2e4]
    scanning, variant = _pulses(of, name)
    return Acquisition(
        sop_class=of["SOPClassUID"],
        modality=of["Modality"].upper(),
        manufacturer=of["Manufacturer"].lower(),
        photometric=of["PhotometricInterpretation"].upper(),
        image_type=image_type,
        component=_component(image_type, of["ComplexImageComponent"].upper()),
        rows=integer(of["Rows"]),
        columns=integer(of["Columns"]),
        samples=integer(of["SamplesPerPixel"]),
        bits_stored=integer(of["BitsStored"]),
        scanning=scanning,
        variant=variant,
        options=_codes(of["ScanOptions"]),
        sequence_name=name,
        dimensions=of["MRAcquisitionType"].upper(),
        repetition=_positive(of["RepetitionTime"], 60_000),
        echo=_positive(of["EffectiveEchoTime"], 2_000) or _positive(of["EchoTime"], 2_000),
        inversion=inversions[0] if inversions else None,
        inversions=len(inversions),
        flip=_positive(of["FlipAngle"], 360),
        echo_train=_count(of["EchoTrainLength"]) or _count(of["RFEchoTrainLength"]),
        echo_number=integer(of["EchoNumbers"]),
        temporal=integer(of["TemporalPositionIndex"]) or integer(of["TemporalPositionIdentifier"]),
        temporal_count=_count(of["NumberOfTemporalPositions"]),
        trigger=number(of["NominalCardiacTriggerDelayTime"]) or number(of["TriggerTime"]),
        b_value=number(of["DiffusionBValue"], 0, 1e5),
        gradient=of["DiffusionGradientOrientation"],
        acquisition=integer(of["FrameAcquisitionNumber"]) or integer(of["AcquisitionNumber"]),
        stack=of["StackID"],
        inversion_recovery=_inverts(of, name, scanning, bool(inversions)),
        angiographic=of["AngioFlag"].upper() == "Y"
        or "TOF" in variant
        or of["PhaseContrast"].upper() == "YES",
        conversion=of["ConversionType"].upper(),
        contrast=_contrast(of),
        acquired=_acquired(of),
        description=of["SeriesDescription"] or of["ProtocolName"],
    )


def _codes(text: str) -> tuple[str, ...]:
    return tuple(one.strip().upper() for one in text.split("\\") if one.strip())


def _positive(text: str, most: float) -> float | None:
    found = number(text, 0, most)
    return found or None  # zero stands for "not known" or "none" in all three vendors' headers


def _count(text: str) -> int | None:
    found = integer(text)
    return found if found is not None and 0 < found < 1_000_000 else None


def _several(of: Mapping[str, str], *keywords: str) -> tuple[float, ...]:
    return next((found for one in keywords if (found := numbers(of[one]))), ())


def _pulses(of: Mapping[str, str], name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """ScanningSequence and SequenceVariant; made of PS3.3 table C.8-87's terms for enhanced objects."""
    scanning, variant = list(_codes(of["ScanningSequence"])), list(_codes(of["SequenceVariant"]))
    pulses = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
    scanning += pulses.get(of["EchoPulseSequence"].upper(), ())
    if of["EchoPlanarPulseSequence"].upper() == "YES" or _EPI_NAME.search(name):
        scanning.append("EP")
    if "EPI_GEMS" in of["ScanOptions"].upper():
        scanning.append("EP")
    if of["InversionRecovery"].upper() == "YES":
        scanning.append("IR")
    if of["Spoiling"].upper() not in ("", "NONE"):
        variant.append("SP")
    if of["InversionRecovery"].upper() == "YES" and "GR" in scanning:
        variant.append("MP")
    if of["SteadyStatePulseSequence"].upper() in ("FREE_PRECESSION", "TIME_REVERSED"):
        variant.append("BALANCED")
    if _STEADY_NAME.search(name):
        variant.append("BALANCED")
    if of["TimeOfFlightContrast"].upper() == "YES":
        variant.append("TOF")
    if _DIFFUSION_NAME.search(name):
        variant.append("DIFFUSION")
    return tuple(dict.fromkeys(scanning)), tuple(dict.fromkeys(variant))


def _inverts(
    of: Mapping[str, str], name: str, scanning: tuple[str, ...], timed: bool
) -> bool | None:
    said = of["InversionRecovery"].upper()
    if said in ("YES", "NO"):
        return said == "YES"
    if "IR" in scanning or timed or _INVERSION_NAME.search(name):
        return True
    # "RM" (research mode) alone says nothing, and GE writes it for many a clinical sequence.
    return False if {"SE", "GR"} & set(scanning) else None


def _component(image_type: tuple[str, ...], said: str) -> str:
    """Magnitude, phase, real or imaginary; ImageType keeps it from its third value on."""
    words = {"PHASE": "P", "REAL": "R", "IMAGINARY": "I", "MAGNITUDE": "M"}
    if said in words:
        return words[said]
    rest = image_type[2:]
    for one in rest:
        if one in ("P", "PHASE", "PHASE MAP", "PHASE_MAP"):
            return "P"
    for one in rest:
        if one in ("R", "I", "REAL", "IMAGINARY"):
            return one[0]
    return "M" if "M" in rest else ""


def _contrast(of: Mapping[str, str]) -> bool | None:
    """Whether contrast medium was there, by PS3.3 sections C.7.6.4 and C.7.6.16.2.12."""
    if of["ContrastBolusAgentAdministered"].upper() == "NO":
        return False
    phase = of["ContrastBolusAgentPhase"].upper()
    if phase:
        return "PRE" not in phase
    given = of["ContrastBolusAgent"]
    if given:
        return not (_NO_AGENT.fullmatch(given.strip()) or _before_bolus(of))
    amounts = (_positive(of[one], 1e6) for one in ("ContrastBolusVolume", "ContrastBolusTotalDose"))
    if not (of["ContrastBolusAgentSequence"] or any(amounts)):
        return None
    return not _before_bolus(of)


def _before_bolus(of: Mapping[str, str]) -> bool:
    bolus, seen = (_seconds(of[one]) for one in ("ContrastBolusStartTime", "AcquisitionTime"))
    return bolus is not None and seen is not None and seen < bolus


def _acquired(of: Mapping[str, str]) -> float | None:
    """The first of the times a header keeps, frame before series (TM, DT: PS3.5 section 6.2)."""
    for one in ("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        day, seconds = _day(of[one][:8]), _seconds(of[one][8:])
        if day is not None and seconds is not None:
            return day + seconds
    dates = (_day(of[one]) for one in ("AcquisitionDate", "SeriesDate", "StudyDate"))
    times = (_seconds(of[one]) for one in ("AcquisitionTime", "SeriesTime", "ContentTime"))
    seconds = next((one for one in times if one is not None), None)
    return None if seconds is None else next((one for one in dates if one is not None), 0) + seconds


@lru_cache(maxsize=64)
def _day(text: str) -> float | None:
    digits = text.replace(".", "").replace("-", "")
    if not (len(digits) == 8 and digits.isascii() and digits.isdigit()):
        return None
    try:
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).toordinal() * DAY
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    match = re.match(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d{1,6})?)?", text, re.ASCII)
    if not match:
        return None
    hours, minutes, seconds = (float(one or 0) for one in match.groups())
    inside = hours < 24 and minutes < 60 and seconds < 61
    return hours * 3600 + minutes * 60 + seconds if inside else None
