"""Numbers and facts of an analysis in words; apart because report and overview both use them (stage: write).

A measure that is not known is a dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gliosight.analysis import Analysis, Status, distinguish
from gliosight.write.pictures import Display

DASH = "—"


def volume_words(analysis: Analysis) -> tuple[str, str]:
    """The volume of the mask, and a remark on its unit (may be empty)."""
    if analysis.status is Status.NOT_ASSESSED:
        return DASH, "not assessed"
    pixels = count_words(analysis.volume_px, "pixel")
    if analysis.volume_ml is not None:
        return millilitres(analysis.volume_ml), pixels
    if analysis.study.geometry is None:
        return pixels, "no geometry in the input: pixels only"
    return pixels, "slice thickness not in the input: pixels only"


def area_words(analysis: Analysis, pixels: int) -> str:
    """An area on a slice."""
    geometry = analysis.study.geometry
    if geometry is None:
        return count_words(pixels, "pixel")
    return f"{pixels * geometry.pixel_area:,.0f} mm²"


def count_words(number: int, word: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def millilitres(volume: float) -> str:
    """A volume with as many digits as mean something."""
    return f"{volume:.2f} ml" if 0 < volume < 1 else f"{volume:.1f} ml"


def part(value: float) -> float:
    """The length of a bar for a value between 0 and 1."""
    return min(max(value, 0.0), 1.0)


def probability_words(value: float) -> str:
    """Two digits; what rounds to 0 or 1 is given as below 0.01 or above 0.99."""
    if value >= 0.995:
        return "> 0.99"
    return "< 0.01" if 0 < value < 0.005 else f"{value:.2f}"


def against(value: float, threshold: float) -> tuple[str, str]:
    """A probability and its threshold with so many digits that one sees which is larger."""
    short, bound = distinguish(value, threshold)
    if bound == f"{threshold:.2f}" and threshold <= 0.99:
        return probability_words(value), bound
    return short, bound


def score_words(analysis: Analysis) -> tuple[str, str]:
    """The study's score and the threshold it is held against."""
    score, bound = against(analysis.decision.score or 0.0, analysis.decision.score_threshold)
    return (DASH if analysis.decision.score is None else score), bound


def display_note(display: Display) -> str:
    """How the pictures are turned, in words."""
    if display.plane is None:
        return "Shown as in the input: which side is left is unknown."
    side = (
        "anterior is on the left"
        if display.plane == "sagittal"
        else "the patient’s right is on the left of the picture"
    )
    return f"{display.plane_words.capitalize()} slices, radiological display: {side}."


def unknown_measures(analysis: Analysis) -> str:
    """Why some measures are not given; empty when all are."""
    missing = []
    if any(None in (finding.volume_ml, finding.largest_area_mm2) for finding in analysis.findings):
        missing.append("volumes need the slice spacing")
    if any(finding.longest_diameter_mm is None for finding in analysis.findings):
        missing.append("diameters need axial slices")
    if missing and analysis.study.geometry is None:
        return "not known: the input has no geometry, so there are no millimetres"
    return f"not known: {', '.join(missing)}" if missing else ""


def setting_words(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of all settings, those in groups one by one."""
    for key, value in settings.items():
        name = above + str(key).replace("_", " ")
        if isinstance(value, Mapping):
            yield from setting_words(value, f"{name}: ")
        else:
            yield name, _value_words(value)


def _value_words(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value_words, value)) or DASH
    return str(value)
