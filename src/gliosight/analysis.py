"""What goes out: the decision, the findings and the whole analysis (domain layer).

Words: a *lesion* is a connected body of the mask; a *finding* is a lesion with its measures. Sides are
the patient's. The mask outlines the FLAIR abnormality: tumour together with its oedema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gliosight.maps import Maps
from gliosight.study import Flag, Study

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or treatment decisions."
MASK_MEANING = (
    "The mask outlines the FLAIR abnormality (tumour with its oedema), as in the training data."
)
LIMITS = (
    "Trained on glioma before treatment, mostly lower-grade, in adults. Not trained for post-operative "
    "studies, children, metastases or other lesions: it can miss them or call them tumour."
)
Side: TypeAlias = Literal["left", "right", "midline", "unknown"]
# Called with the name of a stage, how much of it is done, and how much there is.
Progress: TypeAlias = Callable[[str, int, int], None]


class Status(str, Enum):
    """The verdict of a study."""

    FOUND = "tumour found"
    NOT_FOUND = "no tumour found"
    NOT_ASSESSED = "not assessed"


@dataclass(frozen=True)
class Decision:
    """What was decided from the maps, and by which rules.

    Parameters
    ----------
    mask : (slices, rows, columns) bool array
        On the native grid. Empty unless a tumour was found.
    slice_probabilities : (slices,) float32 array
        Calibrated probability that the slice shows tumour.
    score : float or None
        The study's score in [0, 1]; not a calibrated probability. ``None`` when not assessed.
    score_threshold, slice_threshold : float
    status : Status
    reason : str
        One plain sentence: why this status.
    rules : tuple of str
        Names of the rules that fired, in order; explained in docs/decision.md.
    flags : tuple of Flag
        Flags of the rules, such as a disagreement of slice classifier and mask.
    """

    mask: NDArray[np.bool_]
    slice_probabilities: NDArray[np.float32]
    score: float | None
    score_threshold: float
    slice_threshold: float
    status: Status
    reason: str
    rules: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One connected lesion (26-connected) and its measures; what is not known is ``None``.

    Indices are voxels of the native grid in the order (slice, row, column), 0-based.
    """

    id: int
    tracking_uid: str
    side: Side
    centroid_voxel: tuple[float, float, float]
    centroid_mm: tuple[float, float, float] | None
    bounding_box_voxel: tuple[tuple[int, int, int], tuple[int, int, int]]  # half-open
    slices: tuple[int, int]  # first and last, inclusive
    volume_px: int
    volume_ml: float | None
    largest_slice: int
    largest_area_px: int
    largest_area_mm2: float | None
    longest_diameter_mm: float | None
    perpendicular_diameter_mm: float | None
    mean_probability: float
    peak_probability: float
    touches_edge: bool
    small: bool


@dataclass(frozen=True)
class Provenance:
    """How a result came about, in full: enough to make it again."""

    version: str
    model: str
    model_sha256: str
    engine: str
    precision: str
    channels: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Analysis:
    """The answer to one study: everything the writers need, and what a caller gets back.

    Parameters
    ----------
    study : Study
    maps : Maps
    decision : Decision
    labels : (slices, rows, columns) array of unsigned integers
        For each voxel the ``id`` of the finding it belongs to, 0 outside the mask.
    findings : tuple of Finding
        Largest first.
    flags : tuple of Flag
        Those of reading, preparing and deciding together.
    provenance : Provenance
    """

    study: Study
    maps: Maps
    decision: Decision
    labels: NDArray[np.unsignedinteger[Any]]
    findings: tuple[Finding, ...]
    flags: tuple[Flag, ...]
    provenance: Provenance

    @property
    def status(self) -> Status:
        """The verdict."""
        return self.decision.status

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(slices, rows, columns) bool array on the native grid."""
        return self.decision.mask

    @property
    def volume_px(self) -> int:
        """Voxels of the mask."""
        return int(self.decision.mask.sum())

    @property
    def volume_ml(self) -> float | None:
        """Millilitres of the mask; ``None`` without geometry."""
        geometry = self.study.geometry
        return None if geometry is None else geometry.volume_ml(self.areas_px)

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """(slices,) pixels of the mask in each slice."""
        return np.asarray(self.decision.mask.sum(axis=(1, 2)), dtype=np.int64)


def distinguish(value: float, threshold: float) -> tuple[str, str]:
    """Two numbers with two digits, or with as many as show which is larger."""
    for digits in range(2, 7):
        short, bound = round(value, digits), round(threshold, digits)
        if math.isclose(bound, threshold, rel_tol=1e-3) and (
            (short > bound) == (value > threshold) and (short < bound) == (value < threshold)
        ):
            break
    return f"{value:.{digits}f}", f"{threshold:.{digits}f}"
