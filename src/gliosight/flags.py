"""All flags a result can carry, and the severity of each (domain layer, below the stages).

Each code has its cause and remedy in docs/flags.md; a test compares the two lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from gliosight.study import Flag

_WARNINGS = """
    AFFINE_DOUBTED AFFINE_STRAIGHTENED AXES_DOUBTED FORMS_DISAGREE FRAMES_DISAGREE GRID_ASSUMED HEAD_CUT_OFF
    HEAD_TOO_LARGE LESION_AT_SURFACE LESION_THIN LESION_TOO_LARGE MASK_CORRECTED MEMBERS_SKIPPED
    MISSING_SLICES NAME_CONTRADICTS NOT_AXIAL NOT_A_HEAD NOT_FINITE NOT_FLAIR NO_CONTRAST NO_GEOMETRY
    ORDER_BY_NAME PATIENTS_APART QFORM_USED SCATTERED SEG_NOT_WRITTEN SEQUENCE_ASSUMED SERIES_JOINED
    SIDE_UNKNOWN SINGLE_SLICE SLICES_UNLIKE SR_NOT_WRITTEN STUDIES_JOINED SYMMETRIC T1C_BY_ORDER
    T1C_LEFT_OUT T1C_NO_CONTRAST T1C_PARTLY_COPY T1_LEFT_OUT T1_NO_CONTRAST T1_PARTLY_COPY UNEVEN_SPACING
    UNUSUAL_INPUT
"""
_NOTES = """
    ALPHA_DROPPED BACKGROUND_NOT_FINITE EXPORTED_TWICE FILES_IGNORED FLAIR_CHOSEN GANTRY_TILT
    IDENTITY_INCOMPLETE LOSSY_SOURCE MASKED_AS_AIR MASK_PASSED_OVER MASK_WITHOUT_PROBABILITY
    NONSTANDARD_FILE PROBABILITY_WITHOUT_MASK SIDECAR_UNREADABLE SUBFOLDERS_IGNORED T1C_MISSING
    T1C_RESAMPLED T1_MISSING T1_RESAMPLED THREE_EQUAL_CHANNELS TURNED_UPRIGHT UNITS_CONVERTED VOLUME_CHOSEN
"""
SEVERITIES: Mapping[str, Literal["info", "warning"]] = {
    **dict.fromkeys(_WARNINGS.split(), "warning"),
    **dict.fromkeys(_NOTES.split(), "info"),
}
# The worst warnings first, as docs/result.md says: of a study that is not assessed; with which the verdict
# may be uncertain whatever the probability; what limits the answer. All others follow, as they were raised.
REFUSALS = ("NOT_A_HEAD", "NOT_FLAIR", "NOT_AXIAL")
DOUBTS = (
    "UNUSUAL_INPUT",
    "LESION_TOO_LARGE",
    "LESION_AT_SURFACE",
    "LESION_THIN",
    "SYMMETRIC",
    "SCATTERED",
)
_LIMITS = """
    NO_CONTRAST MISSING_SLICES HEAD_CUT_OFF SEQUENCE_ASSUMED NAME_CONTRADICTS PATIENTS_APART STUDIES_JOINED
    SERIES_JOINED SLICES_UNLIKE ORDER_BY_NAME SINGLE_SLICE NOT_FINITE HEAD_TOO_LARGE NO_GEOMETRY
    SIDE_UNKNOWN AXES_DOUBTED FORMS_DISAGREE AFFINE_DOUBTED
"""
WORST_FIRST = (*REFUSALS, *DOUBTS, *_LIMITS.split())


def warnings_of(flags: Iterable[Flag]) -> list[Flag]:
    """The warnings among some flags, the worst first."""
    rank = {code: k for k, code in enumerate(WORST_FIRST)}
    warnings = [one for one in flags if one.severity == "warning"]
    return sorted(warnings, key=lambda one: rank.get(one.code, len(rank)))


def beside_reason(flags: Iterable[Flag], reason: str) -> tuple[Flag, ...]:
    """The flags without the one that is the reason of the verdict: that is said already."""
    return tuple(one for one in flags if one.message != reason)


def flag(code: str, message: str) -> Flag:
    """Make the flag of a listed code; raises `KeyError` for any other, which the docs would not have."""
    return Flag(code, SEVERITIES[code], message)
