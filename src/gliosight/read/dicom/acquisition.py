"""What headers say of each frame: how it was acquired, and where it lies (read stage, DICOM).

An `Instance` becomes `Frame`s, each with an `Acquisition`: timing, pulses, kind of image and contrast medium,
the same for classic MR (PS3.3 section C.8.3) and enhanced MR (C.8.13). Values that are absent or absurd are
``None`` or empty; nothing here raises.
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
# A header may claim any number of frames: no more are read than this, or than the file has room for at so
# many bytes a frame and its description.
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
# Names that Siemens and others give to sequences: "*tir2d1_16", "*spcir_278ns", "h3tir".
_INVERSION_NAME = re.compile(r"(^|[*_ ])(h\d)?(tir|spc_?ir|ir\d?d?|irm)|flair|t?ir_?(tse|fse|se)")
_EPI_NAME = re.compile(r"(^|[*_ ])(ep\d?d?(fid|se|ir)?|epfid|epse|epi|ep_b\d)")
_DIFFUSION_NAME = re.compile(r"(^|[*_ ])(ep|re|h|tse|ir)\w*_?b\d+(#|t|$|_)")
_STEADY_NAME = re.compile(r"(^|[*_ ])(ci3d|tfi|trufi|fiesta|b-?ffe|b-?tfe)")


# Readers: each makes a field of `Acquisition` of the values of its keywords, as text (see `elements.stored`).


def _text(*texts: str) -> str:
    return next(filter(None, texts), "")


def _lower(*texts: str) -> str:
    return _text(*texts).lower()


@lru_cache
def _codes(*texts: str) -> tuple[str, ...]:
    for text in texts:
        if codes := tuple(code.strip().upper() for code in text.split("\\") if code.strip()):
            return codes
    return ()


def _first(read: Callable[[str], T | None]) -> Callable[..., T | None]:
    """A reader of the first value that is known and not zero, else of the last one."""

    def first(*texts: str) -> T | None:
        value = None
        for text in texts:
            value = value or read(text)
        return value

    return first


def _up_to(most: float) -> Callable[..., float | None]:
    # Zero stands for "not known" or "none" in the headers of all vendors.
    return _first(lambda text: number(text, 0, most) or None)


def _inversions(*texts: str) -> tuple[float, ...]:
    times = next(filter(None, map(numbers, texts)), ())
    return tuple(time for time in times if 0 < time <= 20_000)


@lru_cache
def _component(component: str, *image_types: str) -> str:
    if component.upper() in ("PHASE", "REAL", "IMAGINARY", "MAGNITUDE"):
        return component[0].upper()
    values = _codes(*image_types)[2:]  # the first two never say it
    if not {"P", "PHASE", "PHASE MAP", "PHASE_MAP"}.isdisjoint(values):
        return "P"
    parts = [value[0] for value in values if value in ("R", "I", "REAL", "IMAGINARY")]
    return parts[0] if parts else "M" if "M" in values else ""


@lru_cache
def _scanning(codes: str, pulse: str, planar: str, inversion: str, *others: str) -> tuple[str, ...]:
    options, *names = others
    echo_planar = planar.upper() == "YES" or "EPI_GEMS" in options.upper()
    more = {
        "SE": pulse.upper() in ("SPIN", "BOTH"),
        "GR": pulse.upper() in ("GRADIENT", "BOTH"),
        "EP": echo_planar or _EPI_NAME.search(_lower(*names)),
        "IR": inversion.upper() == "YES",
    }
    return tuple(dict.fromkeys([*_codes(codes), *(code for code in more if more[code])]))


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


def _contrast(administered: str, phase: str, *bolus: str) -> bool | None:
    """Whether contrast medium was there, by PS3.3 sections C.7.6.4 and C.7.6.16.2.12."""
    agent, agents, volume, dose, start, acquired = bolus
    if administered.upper() == "NO":
        return False
    if phase:
        return "PRE" not in phase.upper()
    if not (agent or agents or _up_to(1e6)(volume, dose)):
        return None
    if agent and _NO_AGENT.fullmatch(agent.strip()):
        return False
    given, time = _seconds(start), _seconds(acquired)
    return given is None or time is None or time >= given


def _acquired(*texts: str) -> float | None:
    """The first time that a header holds, of two DT, three DA and three TM (PS3.5 section 6.2)."""
    for moment in texts[:2]:
        day, seconds = _day(moment[:8]), _seconds(moment[8:])
        if day is not None and seconds is not None:
            return day + seconds
    day = next((day for day in map(_day, texts[2:5]) if day is not None), 0)
    times = (time for time in map(_seconds, texts[5:]) if time is not None)
    return next((day + time for time in times), None)


@lru_cache(maxsize=64)
def _day(text: str) -> float | None:
    digits = text.replace(".", "").replace("-", "")
    if not re.fullmatch(r"[0-9]{8}", digits):
        return None
    try:
        return datetime.date.fromisoformat(digits).toordinal() * DAY
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
    """A field that ``read`` makes of the values of these keywords, separated by blanks."""
    names = tuple(keywords.split())
    return field(default=read(*[""] * len(names)), metadata={"read": read, "keywords": names})


@dataclass(frozen=True)
class Acquisition:
    """What the header of one frame says of how it was made; each field beside its reader and keywords.

    The order of the keywords is that of precedence, where a reader takes the first.
    """

    sop_class: str = _read(_text, "SOPClassUID")
    modality: str = _read(str.upper, "Modality")
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
    photometric: str = _read(str.upper, "PhotometricInterpretation")

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
    inversion_pulse: str = _read(str.upper, "InversionRecovery")  # "YES" or "NO"
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
    temporal_count: int | None = _read(
        lambda text: n if (n := integer(text)) and 0 < n < 1_000_000 else None,
        "NumberOfTemporalPositions",
    )
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
        # "RM" (research mode) alone is ignored: GE writes it for many a clinical sequence.
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


_FIELDS = [
    (row.name, row.metadata["read"], row.metadata["keywords"])
    for row in fields(Acquisition)
    if row.metadata
]
# What is read of each frame: first what makes its acquisition, then where it lies.
KEYWORDS = tuple(dict.fromkeys(keyword for _, _, keywords in _FIELDS for keyword in keywords))
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_INDEX = {keyword: index for index, keyword in enumerate((*KEYWORDS, *_PLACE))}
_READERS = [(name, read, [_INDEX[word] for word in keywords]) for name, read, keywords in _FIELDS]


@lru_cache(maxsize=2048)
def acquisition_of(values: tuple[str, ...]) -> Acquisition:
    """The acquisition that values in the order of `KEYWORDS` describe."""
    return Acquisition(**{name: read(*[values[i] for i in at]) for name, read, at in _READERS})


def stored_values(dataset: object) -> tuple[str, ...]:
    """The values of `KEYWORDS` that stand at the top level of a data set."""
    return tuple(stored(dataset, keyword) for keyword in KEYWORDS)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of an instance; coordinates are LPS, lengths mm (PS3.3 section C.7.6.2.1.1)."""

    instance: Instance
    number: int  # in its instance, from 1
    position: NDArray[np.float64] | None  # (3,) ImagePositionPatient: the centre of the first pixel
    # (6,) ImageOrientationPatient: the direction in which the column index grows, then the one in which the
    # row index grows; perpendicular unit vectors within 1 %.
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None  # between rows and between columns
    thickness: float | None  # nominal
    acquisition: Acquisition

    @property
    def place(self) -> str:
        """How messages name it."""
        many = frame_count(self.instance) > 1
        return f"{self.instance.where}, frame {self.number}" if many else self.instance.where


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
    """How many frames the header claims; 1 where the value is absent or makes no sense."""
    return max(1, integer(stored(instance.header, "NumberOfFrames")) or 1)


def frames_of(instance: Instance) -> tuple[Frame, ...]:
    """The frames of an instance: at least one, those that are described.

    A classic MR image (PS3.3 section A.4) is one frame. Enhanced MR (A.36) and Legacy Converted Enhanced MR
    (A.70) keep what differs between frames in functional groups (C.7.6.16): a value is looked for in the
    frame's own group, then in the shared one, then at the top level, where vendors leave classic copies.
    An object of another SOP class gives one frame without position; its functional groups are ignored.
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
    *described, position_text, orientation_text, spacing_text, thickness = values
    position, spacing = numbers(position_text), numbers(spacing_text)
    known = placed and len(position) == 3 and max(map(abs, position)) < 1e5
    return Frame(
        instance=instance,
        number=count,
        position=np.array(position) if known else None,
        orientation=_orientation(orientation_text) if placed else None,
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        thickness=number(thickness, 1e-3, 1e3),
        acquisition=acquisition_of(tuple(described)),
    )


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
