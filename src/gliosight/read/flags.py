"""The flags of reading and the severity of each; apart, since every module of the read stage imports it.

Each code has its cause and remedy in docs/flags.md; a test compares the two lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gliosight.study import Flag

SEVERITIES: Mapping[str, Literal["info", "warning"]] = {
    "AFFINE_DOUBTED": "warning",
    "AFFINE_STRAIGHTENED": "warning",
    "ALPHA_DROPPED": "info",
    "AXES_DOUBTED": "warning",
    "BACKGROUND_NOT_FINITE": "info",
    "EXPORTED_TWICE": "info",
    "FILES_IGNORED": "info",
    "FLAIR_CHOSEN": "info",
    "FORMS_DISAGREE": "warning",
    "FRAMES_DISAGREE": "warning",
    "GANTRY_TILT": "info",
    "GRID_ASSUMED": "warning",
    "HEAD_CUT_OFF": "warning",
    "LOSSY_SOURCE": "info",
    "MASKED_AS_AIR": "info",
    "MASK_PASSED_OVER": "info",
    "MEMBERS_SKIPPED": "warning",
    "MISSING_SLICES": "warning",
    "NAME_CONTRADICTS": "warning",
    "NONSTANDARD_FILE": "info",
    "NOT_FINITE": "warning",
    "NO_GEOMETRY": "warning",
    "ORDER_BY_NAME": "warning",
    "PATIENTS_APART": "warning",
    "QFORM_USED": "warning",
    "SEQUENCE_ASSUMED": "warning",
    "SERIES_JOINED": "warning",
    "SIDE_UNKNOWN": "warning",
    "SIDECAR_UNREADABLE": "info",
    "SINGLE_SLICE": "warning",
    "SLICES_UNLIKE": "warning",
    "STUDIES_JOINED": "warning",
    "SUBFOLDERS_IGNORED": "info",
    "T1C_BY_ORDER": "warning",
    "T1C_LEFT_OUT": "warning",
    "T1C_MISSING": "info",
    "T1C_PARTLY_COPY": "warning",
    "T1C_RESAMPLED": "info",
    "T1_LEFT_OUT": "warning",
    "T1_MISSING": "info",
    "T1_PARTLY_COPY": "warning",
    "T1_RESAMPLED": "info",
    "THREE_EQUAL_CHANNELS": "info",
    "TURNED_UPRIGHT": "info",
    "UNEVEN_SPACING": "warning",
    "UNITS_CONVERTED": "info",
    "VOLUME_CHOSEN": "info",
}


def flag(code: str, message: str) -> Flag:
    """Make the flag of a listed code; raises `KeyError` for any other, which the docs would not have."""
    return Flag(code, SEVERITIES[code], message)
