"""Changes in words; apart because the page and the terminal use them (archive)."""

from __future__ import annotations

from collections import Counter

from gliosight.archive.follow_up.compare import Change, FollowUp, Kind, Measure, TrackedLesion
from gliosight.write.words import DASH, between, millilitres

NOT_A_CATEGORY = (
    "This is the measured change of the FLAIR abnormality. It does not say how a tumour responds to "
    "treatment: FLAIR alone cannot show that."
)
# What a reader wants to know first stands first.
KINDS: tuple[Kind, ...] = ("new", "grown", "shrunk", "gone", "stable", "cannot tell")


def signed_ml(value: float | None) -> str:
    """A change in ml with its sign."""
    if value is None:
        return DASH
    sign = "−" if value < 0 else "+"
    return f"{sign}{millilitres(abs(value))}"


def signed_percent(value: float | None) -> str:
    """A change in percent with its sign."""
    if value is None:
        return DASH
    return f"{'−' if round(value) < 0 else '+'}{abs(value):,.0f} %"


def change_words(change: Change) -> str:
    """A change in ml and percent."""
    if change.ml is None:
        return DASH
    if change.percent is None:
        return signed_ml(change.ml)
    return f"{signed_ml(change.ml)} ({signed_percent(change.percent)})"


def interval_words(change: Change) -> str:
    """The interval of a change; empty where it is not known."""
    if change.ml_low is None or change.ml_high is None:
        return ""
    words = f"{_to(signed_ml(change.ml_low), signed_ml(change.ml_high), ' ml')}"
    if change.percent_low is None or change.percent_high is None:
        return words
    low, high = signed_percent(change.percent_low), signed_percent(change.percent_high)
    return f"{words} ({_to(low, high, ' %')})"


def _to(low: str, high: str, unit: str) -> str:
    return f"{low.removesuffix(unit)} to {high}"


def volume_words(measure: Measure) -> tuple[str, str]:
    """The volume of a lesion at a visit, and its interval (may be empty)."""
    if measure.volume_ml is None:
        return DASH, ""
    if not measure.findings:
        return "not there", ""
    low, high = measure.volume_low_ml, measure.volume_high_ml
    return (
        millilitres(measure.volume_ml),
        "" if low is None or high is None else between((low, high), None),
    )


def overall(lesion: TrackedLesion) -> Change:
    """The change from the first visit to the last."""
    return lesion.changes[-1]


def counts(follow_up: FollowUp) -> str:
    """How many lesions have changed in which way, from the first visit to the last."""
    kinds = Counter(overall(lesion).kind for lesion in follow_up.lesions)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind]) or "none"


def when(days: int | None) -> str:
    """When a visit was, in words; empty where dates are not known."""
    if days is None:
        return ""
    return f"day {days:,}"


def error_words(error_mm: float) -> str:
    """A registration error."""
    return f"error {error_mm:.1f} mm" if error_mm >= 0.05 else "error < 0.1 mm"


def headline(follow_up: FollowUp) -> str:
    """What has changed from the first visit to the last, in a few words."""
    if not follow_up.lesions:
        if any(visit.unknown for visit in follow_up.visits):
            return "Cannot tell"
        return "No lesion at any time"
    change = overall(follow_up.total)
    if change.kind == "cannot tell":
        return "Cannot tell whether the volume has changed"
    if change.kind in ("new", "gone"):
        return {"new": "A lesion is new", "gone": "The lesion is gone"}[change.kind]
    return f"Volume {change.kind}: {change_words(change)}"
