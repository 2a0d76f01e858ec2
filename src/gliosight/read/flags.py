"""The flags of reading and the severity of each; apart, since every module of the read stage imports it.

Each code has its cause and remedy in docs/flags.md; a test compares the two lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gliosight.study import Flag

_WARNINGS = """
    AFFINE_DOUBTED AFFINE_STRAIGHTENED AXES_DOUBTED FORMS_DISAGREE FRAMES_DISAGREE GRID_ASSUMED HEAD_CUT_OFF
    MEMBERS_SKIPPED MISSING_SLICES NAME_CONTRADICTS NOT_FINITE NO_GEOMETRY ORDER_BY_NAME PATIENTS_APART
    QFORM_USED SEQUENCE_ASSUMED SERIES_JOINED SIDE_UNKNOWN SINGLE_SLICE SLICES_UNLIKE STUDIES_JOINED
    T1C_BY_ORDER T1C_LEFT_OUT T1C_PARTLY_COPY T1_LEFT_OUT T1_PARTLY_COPY UNEVEN_SPACING
"""
_NOTES = """
    ALPHA_DROPPED BACKGROUND_NOT_FINITE EXPORTED_TWICE FILES_IGNORED FLAIR_CHOSEN GANTRY_TILT LOSSY_SOURCE
    MASKED_AS_AIR MASK_PASSED_OVER NONSTANDARD_FILE SIDECAR_UNREADABLE SUBFOLDERS_IGNORED T1C_MISSING
    T1C_RESAMPLED T1_MISSING T1_RESAMPLED THREE_EQUAL_CHANNELS TURNED_UPRIGHT UNITS_CONVERTED VOLUME_CHOSEN
"""
SEVERITIES: Mapping[str, Literal["info", "warning"]] = {
    **dict.fromkeys(_WARNINGS.split(), "warning"),
    **dict.fromkeys(_NOTES.split(), "info"),
}


def flag(code: str, message: str) -> Flag:
    """Make the flag of a listed code; raises `KeyError` for any other, which the docs would not have."""
    return Flag(code, SEVERITIES[code], message)
