"""Numbers and facts of an analysis in words; apart because all that people read uses them (stage: write).

A measure that is not known is a dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gliosight.analysis import MASK_MEANING, RESEARCH_USE, Analysis, Decision, Finding, Status
from gliosight.analysis import against as against
from gliosight.analysis import probability_words as probability_words
from gliosight.errors import printable
from gliosight.flags import DOUBTS
from gliosight.study import Flag, MrSequence
from gliosight.write.pictures import Display

DASH = "—"


def probability_sentence(
    probability: float | None, prevalence: float | None, *, doubted: bool = False
) -> str:
    """What a study's probability says, for a reader who is no statistician.

    ``prevalence`` as in `gliosight.analysis.Decision`; ``doubted``: whether what is marked looks unlike a
    tumour.
    """
    if probability is None:
        return "The study was not assessed: there is no probability."
    if prevalence is None:
        return "This is a score, not a probability: the model was never calibrated."
    share = 100 * probability
    about = f"about {share:.0f}" if 0.5 <= share <= 99.5 else "more than 99"
    about = "fewer than 1" if share < 0.5 else about
    verb = "has" if share < 1.5 else "have"
    text = (
        f"Of 100 studies with this result, {about} {verb} a tumour. "
        f"This holds for collections where {share_words(prevalence)} have one."
    )
    return text + (" The warnings are not part of the probability." if doubted else "")


def share_words(prevalence: float) -> str:
    """A share of studies as a count, such as "86 of 100 studies"."""
    rarer = round(min(prevalence, 1 - prevalence), 9)  # of those with and those without a tumour
    size = next((size for size in (100, 1000, 10_000, 100_000) if size * rarer >= 1), 1_000_000)
    return f"{round(size * prevalence):,} of {size:,} studies"


def verdict_bounds(uncertain_from: float, found_from: float) -> str:
    """Which probability leads to which verdict."""
    found = f"tumour found from {found_from:.2f}"
    if uncertain_from == found_from:
        return found
    return f"{found}, uncertain from {uncertain_from:.2f}"


def worst_warning(warnings: list[Flag]) -> str:
    """How many warnings there are, and the first of them, which is the worst."""
    if not warnings:
        return "no warnings"
    worst = warnings[0].message
    return (
        f"1 warning: {worst}"
        if len(warnings) == 1
        else f"{len(warnings)} warnings; the worst: {worst}"
    )


def doubted(flags: Iterable[Flag]) -> bool:
    """Whether one of the flags makes the verdict uncertain whatever the probability."""
    return any(flag.code in DOUBTS for flag in flags)


def volume_words(analysis: Analysis) -> tuple[str, str]:
    """The volume of the mask, and a remark on its unit (may be empty)."""
    if analysis.status is Status.NOT_ASSESSED:
        return DASH, "not assessed"
    voxels = count_words(analysis.volume_px, "voxel")
    if analysis.volume_ml is not None:
        return millilitres(analysis.volume_ml), voxels
    if analysis.study.geometry is None:
        return voxels, "no geometry in the input: voxels only"
    return voxels, "slice thickness not in the input: voxels only"


def interval_words(analysis: Analysis) -> str:
    """The 90 % interval of the true volume; empty where it is not known."""
    return between(analysis.volume_interval_ml, analysis.volume_interval_px)


def between(ml: tuple[float, float] | None, voxels: tuple[int, int] | None) -> str:
    """The ends of an interval with one unit, ml where they are known; empty where neither is."""
    if ml is not None:
        return f"{millilitres(ml[0]).removesuffix(' ml')} to {millilitres(ml[1])}"
    return f"{voxels[0]:,} to {voxels[1]:,} voxels" if voxels is not None else ""


def interval_sentence(interval: str, status: str) -> str:
    """What an interval says, for a reader who is no statistician."""
    if not interval:
        return ""
    if status == Status.UNCERTAIN.value:
        return f"If this is a tumour: in 9 of 10 such studies the true volume lies between {_and(interval)}."
    return f"In 9 of 10 such studies the true volume lies between {_and(interval)}."


def _and(interval: str) -> str:
    return interval.replace(" to ", " and ")


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


def study_words(decision: Decision) -> str:
    """The study's probability, see `study_probability`; a dash where it was not assessed."""
    if decision.probability is None:
        return DASH
    return study_probability(decision.probability, decision.uncertain_from, decision.found_from)


def study_probability(probability: float, uncertain_from: float, found_from: float) -> str:
    """With so many digits that one sees on which side of the bounds it lies."""
    nearest = min((uncertain_from, found_from), key=lambda bound: abs(bound - probability))
    return against(probability, nearest)[0]


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


def stand_ins(analysis: Analysis) -> list[str]:
    """What the network saw in place of a sequence, one sentence each; nothing where it saw nothing."""
    used = () if analysis.status is Status.NOT_ASSESSED else analysis.provenance.channels
    missing = [name for name in MrSequence if used and name.value not in used]
    sentences = []
    for there, what in ((False, "there"), (True, "used")):
        names = [name.value for name in missing if (name in analysis.study.sequences) is there]
        if names:
            verb, them = ("was", "it") if len(names) == 1 else ("were", "them")
            sentences.append(f"{' and '.join(names)} {verb} not {what}; FLAIR stood in for {them}.")
    return sentences


def slice_span(slices: tuple[int, int]) -> str:
    """First and last slice as people count them, from 1."""
    first, last = slices
    return f"{first + 1}" if first == last else f"{first + 1} to {last + 1}"


def remark_words(finding: Finding) -> str:
    """What limits the worth of a finding; may be empty."""
    remarks = []
    if finding.touches_edge:
        remarks.append("touches the edge of the volume: may go on outside")
    if finding.small:
        remarks.append("small: more often mistaken than large ones")
    return "; ".join(remarks)


def finding_text(analysis: Analysis, finding: Finding) -> str:
    """A finding in a few lines that stand for themselves, to be copied into a note or a message."""
    word = "Candidate" if analysis.status is Status.UNCERTAIN else "Finding"
    side = "side unknown" if finding.side == "unknown" else finding.side
    volume = count_words(finding.volume_px, "voxel")
    if finding.volume_ml is not None:
        volume = f"{millilitres(finding.volume_ml)} ({volume})"
    facts = [
        f"{word} {finding.id} of {len(analysis.findings)}: {side}",
        f"volume {volume}",
        f"slices {slice_span(finding.slices)} of {analysis.study.shape[0]} (counted from 1)",
        f"largest on slice {finding.largest_slice + 1}: "
        + area_words(analysis, finding.largest_area_px),
    ]
    if finding.longest_diameter_mm is not None and finding.perpendicular_diameter_mm is not None:
        facts.append(
            f"diameters {finding.longest_diameter_mm:.1f} × {finding.perpendicular_diameter_mm:.1f} mm"
        )
    facts.append(f"probability of tumour {probability_words(finding.probability)}")
    if remarks := remark_words(finding):
        facts.append(remarks)
    made_by = analysis.provenance
    return "\n".join(
        [
            "; ".join(facts) + ".",
            f"Study {printable(analysis.study.study_id)}; gliosight {made_by.version}, "
            f"model {printable(made_by.model)}.",
            f"{MASK_MEANING} {RESEARCH_USE}",
        ]
    )


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
