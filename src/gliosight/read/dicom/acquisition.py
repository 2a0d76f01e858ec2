"""What headers say of each picture: how it was acquired, and where it lies (read stage, DICOM).

In: an `Instance`. Out: its `Frame`s, each with an `Acquisition`: timing, pulses, kind of image and contrast
medium, the same for classic MR (PS3.3 section C.8.3) and enhanced MR (C.8.13). Values that are absent or
absurd are ``None`` or empty; nothing here raises.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliosight.read.dicom.elements import first_item, integer, items, number, numbers, stored
from gliosight.read.dicom.instances import MR_IMAGES, Instance
from gliosight.read.dicom.words import contrast_hint, hints_of, named_sequence
from gliosight.read.limits import DEFAULT_LIMITS

T = TypeVar("T")

DAY = 86_400.0
# A header may claim any number of frames: no more are read than this, or than the file has room for. The
# smallest frame and its description take so many bytes; deflated it may be less, but not much.
MOST_FRAMES = DEFAULT_LIMITS.members
LEAST_FRAME_BYTES = 16
# Direction cosines may depart from perpendicular unit vectors by this much.
ORTHONORMAL_WITHIN = 0.01

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


# How a field of an acquisition is made of the values of its keywords, text each (see `elements.stored`). The
# frames of a series repeat most of them.


def _text(*texts: str) -> str:
    return next(filter(None, texts), "")


def _upper(text: str) -> str:
    return text.upper()


def _lower(*texts: str) -> str:
    return _text(*texts).lower()


@lru_cache
def _codes(*texts: str) -> tuple[str, ...]:
    for text in texts:
        if codes := tuple(code.strip().upper() for code in text.split("\\") if code.strip()):
            return codes
    return ()


def _first(read: Callable[[str], T | None]) -> Callable[..., T | None]:
    """The first value that is known and not zero, else the last one."""

    def first(*texts: str) -> T | None:
        value = None
        for text in texts:
            value = value or read(text)
        return value

    return first


def _up_to(most: float) -> Callable[..., float | None]:
    # Zero stands for "not known" or "none" in the headers of all vendors.
    return _first(lambda text: number(text, 0, most) or None)


def _count(text: str) -> int | None:
    value = integer(text)
    return value if value is not None and 0 < value < 1_000_000 else None


def _inversions(*texts: str) -> tuple[float, ...]:
    times = next(filter(None, map(numbers, texts)), ())
    return tuple(time for time in times if 0 < time <= 20_000)


@lru_cache
def _component(component: str, *image_types: str) -> str:
    words = {"PHASE": "P", "REAL": "R", "IMAGINARY": "I", "MAGNITUDE": "M"}
    if component.upper() in words:
        return words[component.upper()]
    values = _codes(*image_types)[2:]  # the first two never say it
    if any(value in ("P", "PHASE", "PHASE MAP", "PHASE_MAP") for value in values):
        return "P"
    parts = [value[0] for value in values if value in ("R", "I", "REAL", "IMAGINARY")]
    return parts[0] if parts else "M" if "M" in values else ""


@lru_cache
def _scanning(
    codes: str, pulse: str, echo_planar: str, inversion: str, options: str, *names: str
) -> tuple[str, ...]:
    scanning = [*_codes(codes)]
    scanning += {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(pulse.upper(), [])
    if (
        echo_planar.upper() == "YES"
        or "EPI_GEMS" in options.upper()
        or _EPI_NAME.search(_lower(*names))
    ):
        scanning.append("EP")
    if inversion.upper() == "YES":
        scanning.append("IR")
    return tuple(dict.fromkeys(scanning))


@lru_cache
def _variant(codes: str, spoiling: str, steady_state: str, *names: str) -> tuple[str, ...]:
    name = _lower(*names)
    balanced = steady_state.upper() in ("FREE_PRECESSION", "TIME_REVERSED")
    more = {
        "SP": spoiling.upper() not in ("", "NONE"),
        "BALANCED": balanced or _STEADY_NAME.search(name),
        "DIFFUSION": _DIFFUSION_NAME.search(name),
    }
    return tuple(dict.fromkeys([*_codes(codes), *(code for code in more if more[code])]))


def _angiographic(flag: str, phase_contrast: str, time_of_flight: str, variant: str) -> bool:
    contrasts = (phase_contrast.upper(), time_of_flight.upper())
    return flag.upper() == "Y" or "YES" in contrasts or "TOF" in _codes(variant)


def _contrast(
    administered: str,
    phase: str,
    agent: str,
    agents: str,
    volume: str,
    dose: str,
    bolus: str,
    acquired: str,
) -> bool | None:
    """Whether contrast medium was there, by PS3.3 sections C.7.6.4 and C.7.6.16.2.12."""
    if administered.upper() == "NO":
        return False
    if phase:
        return "PRE" not in phase.upper()
    if not (agent or agents or _up_to(1e6)(volume, dose)):
        return None
    if agent and _NO_AGENT.fullmatch(agent.strip()):
        return False
    start, time = _seconds(bolus), _seconds(acquired)
    return start is None or time is None or time >= start


def _acquired(*texts: str) -> float | None:
    """The first time that a header holds, of two DT, three DA and three TM (PS3.5 section 6.2)."""
    moments, dates, times = texts[:2], texts[2:5], texts[5:]
    for moment in moments:
        day, seconds = _day(moment[:8]), _seconds(moment[8:])
        if day is not None and seconds is not None:
            return day + seconds
    seconds = next((time for time in map(_seconds, times) if time is not None), None)
    day = next((day for day in map(_day, dates) if day is not None), 0)
    return None if seconds is None else day + seconds


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
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    inside = hours < 24 and minutes < 60 and seconds < 61
    return hours * 3600 + minutes * 60 + seconds if inside else None


def _read(read: Callable[..., T], keywords: str) -> T:
    """A field of `Acquisition`: what ``read`` makes of the values of these keywords, parted by blanks."""
    names = tuple(keywords.split())
    default = read(*("" for _ in names))
    return field(default=default, metadata={"read": read, "keywords": names})


@dataclass(frozen=True)
class Acquisition:
    """What the header of one frame says of how it was made.

    Each field stands beside the keywords that it is read from. Absent values are ``None``, ``""`` or ``()``.
    """

    sop_class: str = _read(_text, "SOPClassUID")
    modality: str = _read(_upper, "Modality")
    # Upper case; of the frame where it has its own.
    image_type: tuple[str, ...] = _read(_codes, "FrameType ImageType")
    # "M" (magnitude), "P" (phase), "R" (real), "I" (imaginary).
    component: str = _read(_component, "ComplexImageComponent FrameType ImageType")
    # A hint only, see `words`.
    description: str = _read(_text, "SeriesDescription ProtocolName")

    rows: int | None = _read(integer, "Rows")
    columns: int | None = _read(integer, "Columns")
    samples: int | None = _read(integer, "SamplesPerPixel")
    bits_stored: int | None = _read(integer, "BitsStored")
    photometric: str = _read(_upper, "PhotometricInterpretation")

    # Codes of ScanningSequence (SE, GR, IR, EP, RM), also where the header has others in its place.
    scanning: tuple[str, ...] = _read(
        _scanning,
        "ScanningSequence EchoPulseSequence EchoPlanarPulseSequence InversionRecovery ScanOptions"
        " SequenceName PulseSequenceName",
    )
    # Codes of SequenceVariant, with BALANCED and DIFFUSION added.
    variant: tuple[str, ...] = _read(
        _variant, "SequenceVariant Spoiling SteadyStatePulseSequence SequenceName PulseSequenceName"
    )
    sequence_name: str = _read(_lower, "SequenceName PulseSequenceName")
    inversion_pulse: str = _read(_upper, "InversionRecovery")  # "YES" or "NO"
    angiographic: bool = _read(
        _angiographic, "AngioFlag PhaseContrast TimeOfFlightContrast SequenceVariant"
    )

    # TR, TE, TI in milliseconds; flip angle in degrees; b value in s/mm².
    repetition: float | None = _read(_up_to(60_000), "RepetitionTime")
    echo: float | None = _read(_up_to(2_000), "EffectiveEchoTime EchoTime")
    inversions: tuple[float, ...] = _read(_inversions, "InversionTimes InversionTime")
    flip: float | None = _read(_up_to(360), "FlipAngle")
    b_value: float | None = _read(lambda text: number(text, 0, 1e5), "DiffusionBValue")
    gradient: str = _read(_text, "DiffusionGradientOrientation")

    # What counts the images of one position. The trigger in milliseconds after it.
    echo_number: int | None = _read(integer, "EchoNumbers")
    temporal: int | None = _read(
        _first(integer), "TemporalPositionIndex TemporalPositionIdentifier"
    )
    temporal_count: int | None = _read(_count, "NumberOfTemporalPositions")
    trigger: float | None = _read(_first(number), "NominalCardiacTriggerDelayTime TriggerTime")
    acquisition: int | None = _read(_first(integer), "FrameAcquisitionNumber AcquisitionNumber")
    stack: str = _read(_text, "StackID")

    # Whether contrast medium had been given, by the attributes for it alone.
    contrast: bool | None = _read(
        _contrast,
        "ContrastBolusAgentAdministered ContrastBolusAgentPhase ContrastBolusAgent"
        " ContrastBolusAgentSequence ContrastBolusVolume ContrastBolusTotalDose"
        " ContrastBolusStartTime AcquisitionTime",
    )
    # To sort by: seconds since the year 1, or without a date seconds of the day.
    acquired: float | None = _read(
        _acquired,
        "FrameAcquisitionDateTime AcquisitionDateTime AcquisitionDate SeriesDate StudyDate"
        " AcquisitionTime SeriesTime ContentTime",
    )

    # Of the series, filled in by `series`: directions, slices, and kinds of image that it also holds.
    orientations: int | None = None
    slices: int | None = None
    companions: frozenset[str] = frozenset()

    @property
    def inversion(self) -> float | None:
        """TI in milliseconds, the first of several."""
        return self.inversions[0] if self.inversions else None

    @property
    def inversion_recovery(self) -> bool | None:
        """Whether an inversion pulse goes before; ``None`` where the header does not say."""
        if self.inversion_pulse in ("YES", "NO"):
            return self.inversion_pulse == "YES"
        if "IR" in self.scanning or self.inversions or _INVERSION_NAME.search(self.sequence_name):
            return True
        # "RM" (research mode) alone says nothing, and GE writes it for many a clinical sequence.
        return None if {"SE", "GR"}.isdisjoint(self.scanning) else False

    @property
    def derived(self) -> bool:
        """Whether pixels were computed from other images (PS3.3 section C.7.6.1.1.2)."""
        return "DERIVED" in self.image_type[:1]

    @property
    def timed(self) -> bool:
        """Whether any of TR, TE, TI is known."""
        return any(time is not None for time in (self.repetition, self.echo, self.inversion))

    @property
    def hints(self) -> frozenset[str]:
        """What the description hints at, see `words.HINTS`."""
        return hints_of(self.description)

    @property
    def named(self) -> str | None:
        """The only sequence that the description names."""
        return named_sequence(self.description)

    @property
    def contrast_named(self) -> bool | None:
        """Whether the description says after (True) or before (False) contrast medium."""
        return contrast_hint(self.description)


_READ: list[tuple[str, Callable[..., Any], tuple[str, ...]]] = [
    (attribute.name, attribute.metadata["read"], attribute.metadata["keywords"])
    for attribute in fields(Acquisition)
    if attribute.metadata
]
# What is read of each frame.
KEYWORDS = tuple(dict.fromkeys(keyword for _, _, keywords in _READ for keyword in keywords))
_READ_AT = [(name, read, tuple(map(KEYWORDS.index, keywords))) for name, read, keywords in _READ]


@lru_cache(maxsize=2048)
def acquisition_of(values: tuple[str, ...]) -> Acquisition:
    """The acquisition that values in the order of `KEYWORDS` describe; remembers the last ones."""
    return Acquisition(**{name: read(*[values[i] for i in at]) for name, read, at in _READ_AT})


def stored_values(dataset: object) -> tuple[str, ...]:
    """The values of `KEYWORDS` that stand at the top level of a data set."""
    return tuple(stored(dataset, keyword) for keyword in KEYWORDS)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of an instance.

    Parameters
    ----------
    instance : Instance
    number : int
        In its instance, from 1.
    position : (3,) array or None
        ImagePositionPatient: centre of the first pixel, LPS, mm.
    orientation : (6,) array or None
        ImageOrientationPatient: the direction in which the column index grows, then the one in which the
        row index grows; perpendicular unit vectors within 1 %, LPS.
    spacing : tuple of float or None
        Between rows and between columns, mm.
    thickness : float or None
        Nominal, mm.
    acquisition : Acquisition
    """

    instance: Instance
    number: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    acquisition: Acquisition

    @property
    def place(self) -> str:
        """How messages name it."""
        many = frame_count(self.instance) > 1
        return f"{self.instance.where}, frame {self.number}" if many else self.instance.where


_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_INDEX = {keyword: index for index, keyword in enumerate((*KEYWORDS, *_PLACE))}
# Functional groups and what they hold of what is read here (PS3.3 sections C.7.6.16.2 and C.8.13.5).
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "FrameContentSequence": (
        "StackID",
        "TemporalPositionIndex",
        "FrameAcquisitionNumber",
        "FrameAcquisitionDateTime",
    ),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionRecovery", "InversionTimes", "Spoiling"),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "MRDiffusionSequence/DiffusionGradientDirectionSequence": ("DiffusionGradientOrientation",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"),
    # Legacy Converted objects keep attributes without a functional group here: any classic attribute.
    "UnassignedSharedConvertedAttributesSequence": KEYWORDS,
    "UnassignedPerFrameConvertedAttributesSequence": KEYWORDS,
}


def frame_count(instance: Instance) -> int:
    """How many frames the header claims; 1 where it says nothing sensible."""
    return max(1, integer(stored(instance.header, "NumberOfFrames")) or 1)


def frames_of(instance: Instance) -> tuple[Frame, ...]:
    """The frames of an instance.

    A classic MR image (PS3.3 section A.4) is one frame. Enhanced MR (A.36) and Legacy Converted Enhanced MR
    (A.70) keep what differs between frames in functional groups (C.7.6.16): a value is looked for in the
    frame's own group, then in the shared one, then at the top level, where vendors leave classic copies.

    Returns
    -------
    tuple of Frame
        At least one. An object of another SOP class has one frame without place, whatever it claims. Of an
        enhanced object whose groups are fewer than the frames it claims, those that are described.
    """
    header = instance.header
    sop_class = stored(header, "SOPClassUID")
    top = [*stored_values(header), *(stored(header, keyword) for keyword in _PLACE)]
    if sop_class not in MR_IMAGES:
        return (_frame(instance, 1, top, placed=sop_class == ""),)
    count = max(1, min(frame_count(instance), MOST_FRAMES, instance.size // LEAST_FRAME_BYTES))
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    per_frame = items(header, "PerFrameFunctionalGroupsSequence")
    if shared is not None:
        _overlay(top, shared)
    frames = []
    for index, groups in enumerate(islice(per_frame or [None] * count, count)):
        values = top.copy()
        if groups is not None:
            _overlay(values, groups)
        # Without groups of their own several frames have one place at most, and it is not theirs.
        frames.append(_frame(instance, index + 1, values, placed=bool(per_frame) or count == 1))
    return tuple(frames)


def _overlay(values: list[str], groups: Any) -> None:
    """Replace values by those that one item of functional groups holds."""
    for path, keywords in _GROUPS.items():
        group = groups
        for name in path.split("/"):
            group = None if group is None else first_item(group, name)
        if group is None:
            continue
        for keyword in keywords:
            if text := stored(group, keyword):
                values[_INDEX[keyword]] = text


def _frame(instance: Instance, count: int, values: list[str], *, placed: bool) -> Frame:
    position, orientation, spacing, thickness = values[len(KEYWORDS) :]
    return Frame(
        instance=instance,
        number=count,
        position=_position(position) if placed else None,
        orientation=_orientation(orientation) if placed else None,
        spacing=_spacing(spacing),
        thickness=number(thickness, 1e-3, 1e3),
        acquisition=acquisition_of(tuple(values[: len(KEYWORDS)])),
    )


def _position(text: str) -> NDArray[np.float64] | None:
    position = numbers(text)
    return np.array(position) if len(position) == 3 and max(map(abs, position)) < 1e5 else None


@lru_cache(maxsize=2048)
def _orientation(text: str) -> NDArray[np.float64] | None:
    cosines = np.array(numbers(text))
    if cosines.shape != (6,):
        return None
    across, down = cosines[:3], cosines[3:]
    off = (across @ across - 1, down @ down - 1, across @ down)
    if max(map(abs, off)) > ORTHONORMAL_WITHIN:
        return None
    cosines.setflags(write=False)
    return cosines


def _spacing(text: str) -> tuple[float, float] | None:
    spacing = numbers(text)
    return (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None


def is_dated(time: float) -> bool:
    """Whether a time (`Acquisition.acquired`) has a date: it is more than one of a day or the night after."""
    return time > 2 * DAY


def across_midnight(times: Iterable[float]) -> tuple[float, ...]:
    """Times of one examination, those of day after midnight a day later.

    No examination lasts half a day: of two times of day that are further apart, the smaller is the next
    day's. Times with a date stay as they are.
    """
    times = tuple(times)
    latest = max((time for time in times if not is_dated(time)), default=0.0)
    return tuple(time + DAY if time < latest - DAY / 2 else time for time in times)


def earliest(times: Iterable[float | None]) -> float | None:
    """The earliest of several times; of those with a date where there are any."""
    known = [time for time in times if time is not None]
    dated = [time for time in known if is_dated(time)]
    return min(dated or across_midnight(known), default=None)
