"""What the rules can ask of an acquisition (read stage, DICOM, below `rules`).

In: names of fields, ranges, codes. Out: conditions, small functions of an `Acquisition` that the table in
`rules` puts together, and the words for what they found. Timing is in milliseconds, angles are in degrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from pydicom import config, uid

from gliosight.read.dicom.acquisition import Acquisition
from gliosight.read.dicom.frames import MR_IMAGES

Condition = Callable[[Acquisition], bool]

# ImageType values (PS3.3 sections C.7.6.1.1.2, C.8.3.1.1.1, C.8.13.3.1.1, and what vendors add to them).
MASKS = ("MASK", "ROI", "SEGMENTATION", "LABEL", "LABELMAP", "BINARY", "CONTOUR", "OVERLAY")
FIELDS = (
    "FIELD_MAP",
    "FIELD MAP",
    "FIELDMAP",
    "B0 MAP",
    "B0_MAP",
    "B1",
    "B1 MAP",
    "B1_MAP",
    "SHIM",
)
MAPS = (
    *("ADC", "EADC", "FA", "RA", "VR", "TENSOR", "TENSOR_B0", "EXPONENTIAL", "TTEST", "ZSCORE"),
    *(
        "CBF",
        "RCBF",
        "CBV",
        "RCBV",
        "MTT",
        "RMTT",
        "TTP",
        "TMAX",
        "PBP",
        "GBP",
        "KTRANS",
        "VE",
        "IAUC",
    ),
    *("UNI", "RATIO", "MTR", "DIV", "STDDEV", "T2*", "T2STAR", "R2STAR", "QSM", "VELOCITY"),
)
PROJECTIONS = (
    *("MIP", "MINIP", "MNIP", "PROJECTION IMAGE", "MAX_IP", "MIN_IP", "MIP_SW", "VRT", "RENDERED"),
    *("CSA MIP", "SUB", "SUBTRACTION", "SUBTRACT", "SUBTRACTED"),
)
DIFFUSION = ("DIFFUSION", "DWI", "TRACE", "TRACEW", "DIFF", "DIFFUSION_ANISO")
PERFUSION = ("PERFUSION", "ASL", "FMRI", "BOLD", "DYNAMIC_CONTRAST", "TIME COURSE")

# Hints at what is never acquired with an inversion that nulls fluid, a long TR and a long TE.
NEVER_NULL_FLUID = frozenset(
    {
        "localizer",
        "calibration",
        "field map",
        "diffusion",
        "perfusion",
        "angiography",
        "spectroscopy",
    }
)

# A series of three planes and few slices in each is for planning, whatever it is called.
SCOUT_PLANES = 3
SCOUT_SLICES = 15
# More times of one place than a repetition would explain.
DYNAMIC_FROM = 4

# Ranges of FLAIR. Above 1.5 T and in portable scanners at low field the inversion time differs.
FLUID_TI = (1400.0, 3400.0)
FLUID_TR = (3500.0, 20_000.0)
FLUID_TE = (60.0, 700.0)
# T1 of cerebrospinal fluid, ms; it hardly depends on the field.
FLUID_T1 = 4300.0

_OTHERS = {
    "PT": "PET",
    "US": "ultrasound",
    "NM": "nuclear medicine",
    "SR": "structured report",
    "SEG": "segmentation",
    "PR": "presentation state",
    "KO": "key object selection",
    "RTSTRUCT": "RT structure set",
    "RTDOSE": "RT dose",
    "RTPLAN": "RT plan",
    "REG": "registration",
    "OT": "secondary capture",
    "SC": "secondary capture",
    "DOC": "document",
    "RWV": "real world values",
}
_MAP = re.compile(r"(^|[ _*])MAPS?($|[ _])")


def all_of(*conditions: Condition) -> Condition:
    """Whether every condition holds."""
    return lambda one: all(condition(one) for condition in conditions)


def any_of(*conditions: Condition) -> Condition:
    """Whether one of the conditions holds."""
    return lambda one: any(condition(one) for condition in conditions)


def no(condition: Condition) -> Condition:
    """Whether it does not hold."""
    return lambda one: not condition(one)


def within(field: str, least: float, most: float = math.inf) -> Condition:
    """Whether a number is known and lies within bounds, both included."""

    def test(one: Acquisition) -> bool:
        value = getattr(one, field)
        return value is not None and least <= value <= most

    return test


def perhaps(field: str, least: float, most: float = math.inf) -> Condition:
    """Whether a number lies within bounds or is unknown."""
    return any_of(lacks(field), within(field, least, most))


def lacks(field: str) -> Condition:
    """Whether a value is unknown."""
    return lambda one: getattr(one, field) is None


def flagged(field: str) -> Condition:
    """Whether a value is true."""
    return lambda one: bool(getattr(one, field))


def without(field: str) -> Condition:
    """Whether a value is false or empty."""
    return no(flagged(field))


def one_of(field: str, *values: str) -> Condition:
    """Whether a value is one of these."""
    return lambda one: getattr(one, field) in values


def coded(field: str, *codes: str) -> Condition:
    """Whether a value of several has one of these codes."""
    wanted = frozenset(codes)
    return lambda one: not wanted.isdisjoint(getattr(one, field))


def image_type(*values: str) -> Condition:
    """Whether ImageType has one of these values."""
    return coded("image_type", *values)


def hints(*names: str) -> Condition:
    """Whether the description holds one of these hints, and they can be true.

    Words for what never nulls fluid do not count against an acquisition that does so.
    """

    def test(one: Acquisition) -> bool:
        found = one.hints.intersection(names)
        return bool(found) and not (found <= NEVER_NULL_FLUID and NULLS_FLUID(one))

    return test


def says(*sequences: str | None) -> Condition:
    """Whether the one sequence that the description names is among these; ``None``: it names none."""
    return lambda one: one.said in sequences


def beside(kind: str) -> Condition:
    """Whether the same series also holds images of a kind."""
    return lambda one: kind in one.companions


def stripped(sequence: str) -> Condition:
    """Whether there is no timing at all, and the description names this sequence alone."""
    return lambda one: not one.timed and one.said == sequence


def is_no_mr(one: Acquisition) -> bool:
    """Whether the series is something else than an MR image."""
    if one.sop_class in MR_IMAGES:
        return one.modality not in ("MR", "")
    return one.modality != "MR" or bool(one.sop_class)


def is_captured(one: Acquisition) -> bool:
    """Whether it was taken from a screen, film or drawing (PS3.3 section A.8)."""
    return "Secondary Capture" in _class_name(one)


def _class_name(one: Acquisition) -> str:
    """The SOP class in words, the UID itself where nobody knows it; odd UIDs are not complained of."""
    return str(uid.UID(one.sop_class, validation_mode=config.IGNORE).name)


def is_scout(one: Acquisition) -> bool:
    """Whether the series has three planes with few slices each."""
    planes, slices = one.orientations or 1, one.slices or 0
    return planes >= SCOUT_PLANES and slices <= SCOUT_SLICES


def is_map(one: Acquisition) -> bool:
    """Whether a value of ImageType says map."""
    return any(_MAP.search(value) for value in one.image_type)


def is_subtracted(one: Acquisition) -> bool:
    """Whether a derived image is called a subtraction."""
    return one.derived and bool(re.search(r"(\b|_)sub(\b|_|t)", one.description.lower()))


def fluid_ratio(one: Acquisition) -> float | None:
    """TI over the one that nulls cerebrospinal fluid at this TR; 1 is perfect.

    A spin that is inverted every TR and relaxes with T1 passes zero at
    ``T1 * (ln 2 - ln(1 + exp(-TR / T1)))``.
    """
    if one.inversion is None or one.repetition is None:
        return None
    null = FLUID_T1 * (math.log(2) - math.log1p(math.exp(-one.repetition / FLUID_T1)))
    return one.inversion / null


def nulls_fluid(least: float, most: float) -> Condition:
    """Whether `fluid_ratio` lies within bounds."""

    def test(one: Acquisition) -> bool:
        ratio = fluid_ratio(one)
        return ratio is not None and least <= ratio <= most

    return test


INVERTED: Condition = flagged("inversion_recovery")
MAYBE_INVERTED: Condition = lambda one: one.inversion_recovery is not False  # noqa: E731
SPIN: Condition = coded("scanning", "SE")
GRADIENT: Condition = all_of(coded("scanning", "GR"), no(SPIN))
GRADIENT_PREPARED: Condition = all_of(no(SPIN), within("echo", 0, 10))
FLUID_TIMES: Condition = all_of(
    within("inversion", *FLUID_TI), within("repetition", *FLUID_TR), within("echo", *FLUID_TE)
)

NULLS_FLUID: Condition = all_of(MAYBE_INVERTED, FLUID_TIMES, no(coded("scanning", "EP")))


def words_for(one: Acquisition) -> dict[str, Any]:
    """What the templates of the rules name."""
    return {
        "values": values_of(one),
        "image_type": f"ImageType {'/'.join(one.image_type)[:80]}"
        if one.image_type
        else "no ImageType",
        "said": one.said or "nothing",
        "modality": modality_of(one),
        "temporal_count": one.temporal_count,
        "localizer": _localizer(one),
    }


def modality_of(one: Acquisition) -> str:
    """The modality in words; the SOP class where it contradicts it or is all there is."""
    if one.modality == "MR" or not one.modality:
        name = _class_name(one)
        if not name or name == one.sop_class:
            return "of an unknown kind"
        return name.removesuffix(" Storage")
    return _OTHERS.get(one.modality, one.modality[:16])


def values_of(one: Acquisition) -> str:
    """Pulses and timing as a clause, such as ``inversion recovery, TI 2500 ms, TE 120 ms``."""
    named = (
        (one.inversion_recovery, "inversion recovery"),
        ("EP" in one.scanning, "echo planar"),
        ("SE" in one.scanning, "spin echo"),
        ("GR" in one.scanning, "gradient echo"),
    )
    parts = [word for holds, word in named if holds]
    if one.b_value:
        parts.append(f"b {one.b_value:g}")
    for name, value in (("TI", one.inversion), ("TE", one.echo), ("TR", one.repetition)):
        if value is not None:
            parts.append(f"{name} {value:.4g} ms" if value < 1000 else f"{name} {value:.0f} ms")
    if one.flip is not None:
        parts.append(f"flip angle {one.flip:.3g}")
    return ", ".join(parts) or "no timing"


def _localizer(one: Acquisition) -> str:
    if "LOCALIZER" in one.image_type:
        return "ImageType LOCALIZER"
    if is_scout(one):
        return f"{one.orientations} planes with few slices each"
    return "the description says so"
