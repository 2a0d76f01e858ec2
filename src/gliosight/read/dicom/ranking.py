"""How good a series is among others of its sequence (read stage, DICOM, below `choose`).

In: a `Series`. Out: its `Merit`, which sorts from worst to best, and the words for why one goes before
another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np

from gliosight.read.dicom.rules import Confidence
from gliosight.read.dicom.series import Series
from gliosight.study import Geometry

# A stack is axial when its normal is within 45 degrees of the patient's long axis.
AXIAL_FROM = float(np.cos(np.deg2rad(45.0)))
# Isotropic: slices no further apart than this (mm), and no more than this many times the pixel.
ISOTROPIC_MM = 1.5
ISOTROPIC_RATIO = 1.6
# A stack that covers less than this is no whole head, however many slices it has, mm.
WHOLE_HEAD = 80.0

_RANK: MappingProxyType[Confidence, int] = MappingProxyType({"guess": 0, "likely": 1, "certain": 2})


@dataclass(frozen=True, order=True)
class Merit:
    """What speaks for a series, the weightiest first.

    Parameters
    ----------
    stack : bool
        It has more than one slice.
    confidence : int
    placed : bool
        Its headers have geometry.
    original : bool
    well_cut : bool
        Axial, or isotropic in three dimensions.
    whole : bool
        It covers a head.
    before_contrast : bool
        Of FLAIR: nothing says that contrast medium had been given, as in the training data.
    slices : int
    acquired : float
        When; -1 where unknown.
    number : int
        SeriesNumber, which scanners count up; -1 where unknown.
    """

    stack: bool
    confidence: int
    placed: bool
    original: bool
    well_cut: bool
    whole: bool
    before_contrast: bool
    slices: int
    acquired: float
    number: int


_WORDS = MappingProxyType(
    {
        "stack": "has several slices",
        "confidence": "is surer",
        "placed": "has geometry",
        "original": "is original, not derived",
        "well_cut": "is axial or isotropic",
        "whole": "covers more of the head",
        "before_contrast": "is not after contrast medium, like the training data",
        "slices": "has more slices",
        "acquired": "was acquired later",
        "number": "has the higher number",
    }
)


def merit_of(series: Series, *, after_contrast: bool = False) -> Merit:
    """What speaks for a series."""
    geometry = series.geometry
    acquired = series.acquired
    return Merit(
        stack=series.shape[0] > 1,
        confidence=_RANK[series.identified.confidence],
        placed=geometry is not None,
        original=not series.frames[0].acquisition.derived,
        well_cut=geometry is not None and (is_axial(geometry) or is_isotropic(geometry)),
        whole=geometry is None or coverage(geometry) >= WHOLE_HEAD,
        before_contrast=not after_contrast,
        slices=series.shape[0],
        acquired=-1.0 if acquired is None else acquired,
        number=-1 if series.number is None else series.number,
    )


def merits_in_words(better: Merit, worse: Merit) -> str:
    """The first thing that speaks for one series and against another."""
    for one in fields(Merit):
        if getattr(better, one.name) != getattr(worse, one.name):
            return _WORDS[one.name]
    return "is as good"


def is_axial(geometry: Geometry) -> bool:
    """Whether its slices are axial rather than sagittal or coronal."""
    return bool(abs(geometry.normal[2]) >= AXIAL_FROM)


def is_isotropic(geometry: Geometry) -> bool:
    """Whether slices are about as thin as pixels are wide."""
    spacing = geometry.slice_spacing
    if spacing is None or spacing > ISOTROPIC_MM:
        return False
    return max(spacing, *geometry.spacing) <= ISOTROPIC_RATIO * min(spacing, *geometry.spacing)


def coverage(geometry: Geometry) -> float:
    """From the first slice to the last, mm."""
    positions = geometry.slice_positions
    return float(positions[-1] - positions[0]) + (geometry.slice_spacing or 0.0)
