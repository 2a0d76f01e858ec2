"""What a series shows: FLAIR, T1, T1C or something else, by a table of rules (read stage, DICOM).

The first rule that holds decides. Images that are never analysed come first, then headers without timing,
where the description alone is a guess, then sequences by their physics: TR, TE, TI, flip angle and kind of
pulse (PS3.3 sections C.8.3.1 and C.8.13.5). Where physics and description contradict each other, physics
decides and ``why`` says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from pydicom import config, uid

from gliosight.errors import printable
from gliosight.read.dicom.acquisition import Acquisition
from gliosight.read.dicom.instances import MR_IMAGES
from gliosight.read.dicom.words import IMAGE_TYPES, MODALITIES
from gliosight.study import MrSequence

Confidence = Literal["certain", "likely", "guess"]
Range = tuple[float, float]

# The surest first.
CONFIDENCES: tuple[Confidence, ...] = ("certain", "likely", "guess")
# Ranges of FLAIR, ms. Above 1.5 T and in portable scanners at low field the inversion time differs.
FLUID: Mapping[str, Range] = {"ti": (1400, 3400), "tr": (3500, 20_000), "te": (60, 700)}
# T1 of cerebrospinal fluid, ms; it hardly depends on the field.
FLUID_T1 = 4300.0
# What is never acquired with an inversion that nulls fluid, a long TR and a long TE.
NEVER_NULL_FLUID = frozenset(
    {"localizer", "calibration", "field map", "diffusion", "perfusion", "angiography"}
    | {"spectroscopy"}
)
# A series of three planes and few slices in each is for planning, whatever it is called.
SCOUT_PLANES, SCOUT_SLICES = 3, 15
# More times of one place than a repetition would explain.
DYNAMIC_FROM = 4

PROCESSED = "derived-without-timing"
AFTER_CONTRAST = "T1 after contrast"

_CONTRADICTED = "; the description says {}, which these values contradict"


@dataclass(frozen=True)
class Identified:
    """What a stack of frames shows."""

    sequence: MrSequence | None  # of FLAIR, T1 and T1C alone
    kind: str  # in words, such as "T1 after contrast", "derived map"
    usable: bool  # whether it may be analysed as an image at all
    rule: str  # the name of the rule that decided
    why: str  # one plain clause with the values of the header
    confidence: Confidence
    # Of a T1 or FLAIR: whether it was acquired after contrast medium; None where nothing says so.
    contrast: bool | None = None
    # What it would be if its description did not exclude it: nothing else does, and a user may know better.
    but_for_a_word: MrSequence | None = None

    @property
    def nameable(self) -> bool:
        """Whether it may be analysed if the user says what it is."""
        # Defaced and otherwise processed images lose their timing; pixels tell masks from images.
        return self.usable or self.but_for_a_word is not None or self.rule == PROCESSED


class Rule(NamedTuple):
    """One line of the table; ``kind`` is a template, see `_words`, and `WHY` has the other."""

    name: str
    kind: str
    holds: Callable[[Acquisition], bool]
    confidence: Confidence = "certain"
    usable: bool = True

    @property
    def sequence(self) -> MrSequence | None:
        """FLAIR, T1, or ``None`` for all else."""
        return MrSequence(self.kind) if self.kind in ("FLAIR", "T1") else None


class ContrastRule(NamedTuple):
    """Whether a T1 was acquired after contrast medium, by its header and by its description.

    The header has attributes for it (PS3.3 section C.7.6.4); ``None``: says nothing.
    """

    name: str
    header: bool | None
    description: bool | None
    contrast: bool | None
    confidence: Confidence
    why: str


# What the rules ask of an acquisition ``a``; IR, GR and SE as in ScanningSequence.


def _times(a: Acquisition, **ranges: Range) -> bool:
    """Whether those asked for of ``ti``, ``tr``, ``te`` and ``flip`` are known and within their ranges."""
    values = {"ti": a.inversion, "tr": a.repetition, "te": a.echo, "flip": a.flip}
    return all(least <= (values[name] or -1) <= most for name, (least, most) in ranges.items())


def _typed(a: Acquisition, kind: str) -> bool:
    return not IMAGE_TYPES[kind].isdisjoint(a.image_type)


def _hinted(a: Acquisition, kind: str) -> bool:
    # Words for what never nulls fluid do not count against an acquisition that does so.
    nulls = a.inversion_recovery is not False and _times(a, **FLUID) and "EP" not in a.scanning
    return kind in a.hints and not (kind in NEVER_NULL_FLUID and nulls)


def _called(a: Acquisition, kind: str) -> bool:
    return _typed(a, kind) or _hinted(a, kind)


def _is_not_mr(a: Acquisition) -> bool:
    if a.sop_class in MR_IMAGES:
        return a.modality not in ("MR", "")
    return a.modality != "MR" or bool(a.sop_class)


def _is_scout(a: Acquisition) -> bool:
    return (a.orientations or 1) >= SCOUT_PLANES and (a.slices or 0) <= SCOUT_SLICES


def _is_map(a: Acquisition) -> bool:
    mapped = any(re.search(r"(^|[ _*])MAPS?($|[ _])", value) for value in a.image_type)
    return mapped or _called(a, "map") or _hinted(a, "MP2RAGE")


def _is_subtracted(a: Acquisition) -> bool:
    return a.derived and bool(re.search(r"(\b|_)sub(\b|_|t)", a.description.lower()))


def _ir(a: Acquisition, **ranges: Range) -> bool:
    return a.inversion_recovery is True and _times(a, **ranges)


def _gr(a: Acquisition, **ranges: Range) -> bool:
    return "GR" in a.scanning and "SE" not in a.scanning and _times(a, **ranges)


def _se(a: Acquisition, **ranges: Range) -> bool:
    return "SE" in a.scanning and _times(a, **ranges)


def _nulls_fluid_as_far_as_known(a: Acquisition) -> bool:
    known = {"tr": a.repetition, "te": a.echo}
    ranges = {name: FLUID[name] for name, value in known.items() if value is not None}
    return len(ranges) < len(known) and _ir(a, ti=FLUID["ti"], **ranges)


def _may_null_fluid_without_ti(a: Acquisition) -> bool:
    known = a.inversion_recovery is False or a.inversion is not None
    return not known and _times(a, tr=FLUID["tr"], te=FLUID["te"])


def _has_t1_times(a: Acquisition) -> bool:
    return _times(a, tr=(200, 1100), te=(0, 40)) or _times(a, tr=(2, 60), te=(0, 10))


def fluid_ratio(acquisition: Acquisition) -> float | None:
    """TI over the one that nulls cerebrospinal fluid at this TR; 1 is perfect.

    A spin that is inverted every TR and relaxes with T1 passes zero at
    ``T1 * (ln 2 - ln(1 + exp(-TR / T1)))``.
    """
    if acquisition.inversion is None or acquisition.repetition is None:
        return None
    null = FLUID_T1 * (math.log(2) - math.log1p(math.exp(-acquisition.repetition / FLUID_T1)))
    return acquisition.inversion / null


_never = partial(Rule, usable=False)

RULES: tuple[Rule, ...] = (
    # Never analysed. Where only the description excludes, the user may name the series all the same.
    _never(  # from a screen, film or drawing (PS3.3 section A.8)
        "secondary-capture",
        "secondary capture",
        lambda a: "Secondary Capture" in _class_name(a) or _typed(a, "capture"),
    ),
    _never("not-mr", "{modality}", _is_not_mr),
    _never("spectroscopy", "spectroscopy", lambda a: _hinted(a, "spectroscopy")),
    _never("mosaic", "mosaic", lambda a: _typed(a, "mosaic")),
    _never("mask-one-bit", "stored mask", lambda a: a.bits_stored == 1),
    _never("mask-image-type", "stored mask", lambda a: _typed(a, "mask")),
    _never("mask-word", "stored mask", lambda a: _hinted(a, "mask")),
    _never(
        "localizer",
        "localizer",
        lambda a: _called(a, "localizer") or _hinted(a, "calibration") or _is_scout(a),
    ),
    _never(
        "field-map", "field map", lambda a: _called(a, "field map") or "field map" in a.companions
    ),
    _never("phase", "phase image", lambda a: a.component in ("P", "R", "I")),
    _never("derived-map", "derived map", _is_map),
    _never(
        "projection",
        "projection or subtraction",
        lambda a: _called(a, "projection") or _is_subtracted(a),
    ),
    _never(
        "diffusion",
        "diffusion",
        lambda a: (a.b_value or 0) >= 1 or "DIFFUSION" in a.variant or _called(a, "diffusion"),
    ),
    _never(
        "echo-planar", "perfusion or EPI", lambda a: "EP" in a.scanning or _called(a, "perfusion")
    ),
    _never("dynamic", "dynamic series", lambda a: (a.temporal_count or 0) >= DYNAMIC_FROM),
    _never("angiography", "angiography", lambda a: a.angiographic or _called(a, "angiography")),
    _never(
        PROCESSED,
        "processed image or stored mask",
        lambda a: a.derived and a.repetition is None and a.echo is None,
    ),
    # Headers without timing: the description alone.
    Rule("flair-word", "FLAIR", lambda a: not a.timed and a.named == "FLAIR", "guess"),
    Rule("t1-word", "T1", lambda a: not a.timed and a.named == "T1", "guess"),
    Rule("t2-word", "T2", lambda a: not a.timed and a.named == "T2", "guess"),
    Rule("pd-word", "PD", lambda a: not a.timed and a.named == "PD", "guess"),
    Rule("unknown", "unknown", lambda a: not a.timed, "guess"),
    # Inversion recovery.
    Rule("double-inversion", "DIR", lambda a: _hinted(a, "DIR") or len(a.inversions) > 1),
    Rule("psir", "PSIR", lambda a: _hinted(a, "PSIR")),
    Rule("stir", "STIR", lambda a: _ir(a, ti=(80, 300)) and (_se(a) or not _times(a, te=(0, 10)))),
    Rule(
        "t1-prepared-gradient-echo",
        "T1",
        lambda a: _ir(a, ti=(250, 1500), te=(0, 10)) and not _se(a),
    ),
    Rule("t1-flair", "T1", lambda a: _ir(a, ti=(400, 1300), te=(0, 45))),
    Rule("flair", "FLAIR", lambda a: _ir(a, **FLUID) and 0.65 <= (fluid_ratio(a) or 0) <= 1.2),
    Rule("flair-unusual", "FLAIR", lambda a: _ir(a, **FLUID) and a.named == "FLAIR", "likely"),
    Rule("flair-incomplete", "FLAIR", _nulls_fluid_as_far_as_known, "likely"),
    Rule(
        "flair-without-ti",
        "FLAIR",
        lambda a: _may_null_fluid_without_ti(a) and a.named == "FLAIR",
        "likely",
    ),
    Rule(
        "flair-by-times",
        "FLAIR",
        lambda a: (
            _may_null_fluid_without_ti(a)
            and _ir(a, tr=(6000, 20_000), te=(80, 700))
            and a.named in (None, "T2")
        ),
        "guess",
    ),
    Rule("inversion-recovery", "other inversion recovery", _ir),
    # Gradient echo.
    Rule(
        "steady-state",
        "steady-state gradient echo",
        lambda a: "BALANCED" in a.variant or _hinted(a, "SSFP"),
    ),
    Rule("susceptibility", "T2*", lambda a: not _se(a) and _called(a, "susceptibility")),
    Rule("t2-star", "T2*", lambda a: _gr(a, te=(12, math.inf))),
    Rule(
        "t1-gradient-echo",
        "T1",
        lambda a: (
            _gr(a, tr=(2, 60), te=(0, 15), flip=(8, 90))
            and (a.named == "T1" or "SP" in a.variant or "MP" in a.variant)
        ),
    ),
    Rule(
        "t1-prepared-by-variant",
        "T1",
        lambda a: _gr(a, tr=(1200, 3500), te=(0, 6)) and "MP" in a.variant and a.named == "T1",
        "likely",
    ),
    Rule(
        "t1-small-flip",
        "T1",
        lambda a: _gr(a, tr=(2, 60), te=(0, 10), flip=(4, 8)) and a.named == "T1",
        "likely",
    ),
    Rule(
        "t1-gradient-echo-2d",
        "T1",
        lambda a: _gr(a, tr=(60, 700), te=(0, 8), flip=(40, 120)) and a.named in (None, "T1"),
        "likely",
    ),
    Rule("gradient-echo", "gradient echo", _gr),
    # Spin echo, and headers that do not say how the echo was made.
    Rule("t1-spin-echo", "T1", lambda a: _se(a, tr=(200, 1100), te=(0, 40))),
    Rule(
        "t1-by-times", "T1", lambda a: _has_t1_times(a) and not _se(a) and a.named == "T1", "likely"
    ),
    Rule(
        "t2", "T2", lambda a: (a.echo or 0) >= 50 and (a.repetition is None or a.repetition >= 1100)
    ),
    Rule("pd", "PD", lambda a: (a.repetition or 0) >= 1100 and _times(a, te=(0, 50))),
    Rule("other", "other MR", lambda _: True, "guess"),
)

# Why a rule holds, a template of the words that `_words` gives; of all others: the values of the header.
WHY: Mapping[str, str] = {
    "secondary-capture": "a screenshot or capture, {image_type}",
    "not-mr": "{modality}, no MR image",
    "spectroscopy": "the description says spectroscopy, {values}",
    "mosaic": "slices tiled into one picture",
    "mask-one-bit": "pixels of one bit",
    "mask-image-type": "no image but a mask, {image_type}",
    "mask-word": "the description says mask, ROI or labels",
    "localizer": "for planning: {localizer}",
    "field-map": "of the magnetic field, or taken to map it: {image_type}",
    "phase": "phase, real or imaginary part, {image_type}",
    "derived-map": "computed values, not an image: {image_type}",
    "projection": "computed from several images: {image_type}",
    "diffusion": "diffusion weighting, {values}",
    "echo-planar": "echo-planar or perfusion, {values}",
    "dynamic": "{temporal_count} times of one place",
    "angiography": "made to show vessels, {values}",
    PROCESSED: "derived, and neither TR nor TE although it claims to be MR",
    **dict.fromkeys(
        ("flair-word", "t1-word", "t2-word", "pd-word"),
        "no TR, TE or TI; the description says {named}",
    ),
    "unknown": "neither TR, TE, TI nor a description that says one sequence",
    "t1-flair": "inversion for T1, not for fluid: {values}",
    "flair-unusual": "{values}; the inversion time is unusual for nulling fluid, the description says FLAIR",
    "flair-incomplete": "{values}, the rest is absent",
    "flair-without-ti": "{values}, no TI; the description says FLAIR",
    "flair-by-times": "{values}, no TI",
    "susceptibility": "made for susceptibility, {values}",
    "t1-prepared-by-variant": "{values}, no TI",
    "t1-small-flip": "{values}; the description says T1",
    "t1-by-times": "{values}; the description says T1",
}

_GIVEN, _NONE_GIVEN = "contrast medium in the header", "no contrast medium"
_AGAINST_WORD = f"{_GIVEN}, although the description says before"
_AGAINST_HEADER = "the description says after contrast, although the header says none was given"
_AFTER, _BEFORE = "the description says after contrast", "the description says before contrast"

CONTRAST_RULES: tuple[ContrastRule, ...] = (
    ContrastRule("contrast-against-word", True, False, True, "likely", _AGAINST_WORD),
    ContrastRule("contrast-given", True, True, True, "certain", _GIVEN),
    ContrastRule("contrast-given", True, None, True, "certain", _GIVEN),
    ContrastRule("no-contrast-against-word", False, True, True, "guess", _AGAINST_HEADER),
    ContrastRule("no-contrast", False, False, False, "certain", _NONE_GIVEN),
    ContrastRule("no-contrast", False, None, False, "certain", _NONE_GIVEN),
    ContrastRule("contrast-word", None, True, True, "likely", _AFTER),
    ContrastRule("no-contrast-word", None, False, False, "likely", _BEFORE),
    ContrastRule("contrast-unknown", None, None, None, "certain", "contrast medium not stated"),
)


def identify(acquisition: Acquisition) -> Identified:
    """What the first rule that holds says of an acquisition; never raises.

    Derived images that are usable are ``likely`` at best: an original goes before them.
    """
    rule = _rule_of(acquisition)
    words = _words(acquisition)
    kind, why = (text.format_map(words) for text in (rule.kind, WHY.get(rule.name, "{values}")))
    name, sequence, contrast, otherwise = rule.name, rule.sequence, None, None
    confidences = [rule.confidence]
    if not rule.usable:
        otherwise = _rule_of(replace(acquisition, description="")).sequence
        confidences += ["likely"] if otherwise else []
    else:
        if acquisition.derived:
            why += ", derived from other images"
            confidences.append("likely")
        if excluding := acquisition.hints & NEVER_NULL_FLUID:
            why += _CONTRADICTED.format(" and ".join(sorted(excluding)))
            confidences.append("likely")
        if acquisition.named not in (None, kind) and kind != "unknown":
            why += _CONTRADICTED.format(acquisition.named)
    if sequence is not None:
        stated = (acquisition.contrast, acquisition.contrast_named)
        medium = next(one for one in CONTRAST_RULES if (one.header, one.description) == stated)
        contrast = medium.contrast
        if contrast or sequence is MrSequence.T1:
            why += f"; {medium.why}"
        if sequence is MrSequence.T1:
            confidences.append(medium.confidence)
            if contrast:
                sequence, kind, name = MrSequence.T1C, AFTER_CONTRAST, f"{name} + {medium.name}"
    confidence = max(confidences, key=CONFIDENCES.index)
    return Identified(
        sequence,
        printable(kind),
        rule.usable,
        name,
        printable(why),
        confidence,
        contrast,
        otherwise,
    )


def _rule_of(acquisition: Acquisition) -> Rule:
    return next(rule for rule in RULES if rule.holds(acquisition))


def _words(a: Acquisition) -> dict[str, Any]:
    """What the templates of the rules name."""
    localizer = "the description says so"
    if _typed(a, "localizer"):
        localizer = "ImageType LOCALIZER"
    elif _is_scout(a):
        localizer = f"{a.orientations} planes with few slices each"
    return {
        "values": _values(a),
        "image_type": f"ImageType {'/'.join(a.image_type)[:80]}"
        if a.image_type
        else "no ImageType",
        "named": a.named,
        "modality": _modality(a),
        "temporal_count": a.temporal_count,
        "localizer": localizer,
    }


def _modality(a: Acquisition) -> str:
    """The modality in words; the SOP class where it contradicts it or is all there is."""
    if a.modality not in ("MR", ""):
        return MODALITIES.get(a.modality, a.modality[:16])
    name = _class_name(a)
    return "of an unknown kind" if name in ("", a.sop_class) else name.removesuffix(" Storage")


def _class_name(a: Acquisition) -> str:
    """The SOP class in words, the UID itself where nobody knows it; odd UIDs cause no warning."""
    return str(uid.UID(a.sop_class, validation_mode=config.IGNORE).name)


def _values(a: Acquisition) -> str:
    """Pulses and timing as a clause, such as ``inversion recovery, TI 2500 ms, TE 120 ms``."""
    pulses = {
        "inversion recovery": a.inversion_recovery,
        "echo planar": "EP" in a.scanning,
        "spin echo": "SE" in a.scanning,
        "gradient echo": "GR" in a.scanning,
    }
    parts = [pulse for pulse, holds in pulses.items() if holds]
    if a.b_value:
        parts.append(f"b {a.b_value:g}")
    for name, time in (("TI", a.inversion), ("TE", a.echo), ("TR", a.repetition)):
        if time is not None:
            parts.append(f"{name} {time:.4g} ms" if time < 1000 else f"{name} {time:.0f} ms")
    if a.flip is not None:
        parts.append(f"flip angle {a.flip:.3g}")
    return ", ".join(parts) or "no timing"
