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

from gliosight.errors import printable
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
# The least and the largest share of studies with tumour that can be given: what stays one when it is written.
PREVALENCES = (0.000001, 0.999999)
PREVALENCE_WORDS = "a share of studies from 0.000001 to 0.999999, such as 0.1"
Side: TypeAlias = Literal["left", "right", "midline", "bilateral", "unknown"]
# The stages of one study, in this order; ``infer`` is counted in slices, the others have one part each.
STAGES = ("read", "prepare", "gate", "infer", "decide", "measure", "write")
# Called with the name of a stage, how many of its parts are done, and how many there are.
Progress: TypeAlias = Callable[[str, int, int], None]


class Status(str, Enum):
    """The verdict of a study."""

    FOUND = "tumour found"
    UNCERTAIN = "uncertain"
    NOT_FOUND = "no tumour found"
    NOT_ASSESSED = "not assessed"


@dataclass(frozen=True)
class Outline:
    """How sure the outline of a mask is.

    Parameters
    ----------
    softness : float
        Logarithm of the volume at probability 0.3 over that at 0.7: 0 for a sharp border. The softer, the
        worse an outline is as a rule.
    volume_low, volume_high : float or None
        Ends of the 90 % interval of the true volume, as parts of the mask's; ``None`` where the model's card
        has no numbers for it.
    """

    softness: float
    volume_low: float | None = None
    volume_high: float | None = None


@dataclass(frozen=True)
class Decision:
    """What was decided from the maps, and by which rules.

    Parameters
    ----------
    mask : (slices, rows, columns) bool array
        On the native grid. Empty unless a tumour was found, or the study is uncertain.
    slice_probabilities : (slices,) float32 array
        Probability that the slice shows tumour.
    probability : float or None
        Probability that the study shows tumour. ``None`` when not assessed.
    prevalence : float or None
        Share of studies with tumour that this probability holds for; ``None`` where the model's numbers
        were not fitted on studies of both kinds: then the probability is an uncalibrated score.
    uncertain_from, found_from : float
        From which probability on the status is *uncertain*, and *tumour found*.
    slice_threshold : float
        From which probability on a slice counts as tumour.
    status : Status
    reason : str
        One plain sentence: why this status.
    rules : tuple of str
        Names of the rules that fired, in order; explained in docs/decision.md.
    flags : tuple of Flag
        Flags of the rules, such as a disagreement of probability and mask.
    lesion_probabilities : mapping of int to float
        For each lesion of the mask its probability of being tumour, by the index of its first voxel in the
        flattened mask.
    outline : Outline or None
        ``None`` when the mask is empty.
    caveat : str
        What a negative answer does not say, in a sentence; else empty.
    """

    mask: NDArray[np.bool_]
    slice_probabilities: NDArray[np.float32]
    probability: float | None
    prevalence: float | None
    uncertain_from: float
    found_from: float
    slice_threshold: float
    status: Status
    reason: str
    rules: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    lesion_probabilities: Mapping[int, float] = field(default_factory=dict)
    outline: Outline | None = None
    caveat: str = ""

    @property
    def doubt(self) -> float:
        """How much a study needs a person's look, to sort by: the largest number first.

        4: not assessed. 2 to 3: uncertain, the more the nearer to the middle of the two bounds. 1 to 2:
        tumour found, the more the softer the outline. 0 to 1: no tumour found, its probability.
        """
        if self.probability is None or self.status is Status.NOT_ASSESSED:
            return 4.0
        if self.status is Status.UNCERTAIN:
            middle = (self.uncertain_from + self.found_from) / 2
            return 3.0 - abs(self.probability - middle)
        if self.status is Status.FOUND:
            return 1.0 + (min(self.outline.softness, 1.0) if self.outline else 1.0)
        return self.probability


@dataclass(frozen=True)
class InputCheck:
    """What the gate says of a study before anything is decided, see `gliosight.gate`.

    Parameters
    ----------
    distance : float or None
        From the FLAIR slices that the model knows: 0 typical, 1 at the limit of unusual, larger farther.
        ``None`` where it was not measured.
    level : {"usual", "unusual", "refused", "unchecked"}
        A refused study is not assessed. One that shows nothing that could be a head is not even checked.
    reason : str or None
        One plain sentence; ``None`` where nothing is unusual.
    code : str or None
        Of the flag that says so.
    """

    distance: float | None = None
    level: Literal["usual", "unusual", "refused", "unchecked"] = "usual"
    reason: str | None = None
    code: str | None = None


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
    probability: float  # that this lesion is tumour; the highest of all findings is the study's
    mean_probability: float  # of its voxels
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
    input_check : InputCheck
    """

    study: Study
    maps: Maps
    decision: Decision
    labels: NDArray[np.unsignedinteger[Any]]
    findings: tuple[Finding, ...]
    flags: tuple[Flag, ...]
    provenance: Provenance
    input_check: InputCheck = InputCheck(level="unchecked")

    def __repr__(self) -> str:
        facts = [self.status.value]
        if self.decision.probability is not None:
            name = "score" if self.decision.prevalence is None else "probability"
            facts.append(f"{name} {probability_words(self.decision.probability)}")
        if self.findings:
            volume = self.volume_ml
            facts.append(f"{self.volume_px} voxels" if volume is None else f"{volume:.1f} ml")
            facts.append(f"{len(self.findings)} finding" + "s" * (len(self.findings) > 1))
        return f"<Analysis of {printable(self.study.study_id)}: {', '.join(facts)}>"

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
    def volume_interval_ml(self) -> tuple[float, float] | None:
        """Ends of the 90 % interval of the true volume, ml; ``None`` where it is not known."""
        outline, volume = self.decision.outline, self.volume_ml
        if outline is None or volume is None or outline.volume_low is None:
            return None
        return volume * outline.volume_low, volume * (outline.volume_high or 0.0)

    @property
    def volume_interval_px(self) -> tuple[int, int] | None:
        """The same interval in voxels; known without geometry, too."""
        outline, volume = self.decision.outline, self.volume_px
        if outline is None or outline.volume_low is None:
            return None
        return round(volume * outline.volume_low), round(volume * (outline.volume_high or 0.0))

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """(slices,) pixels of the mask in each slice."""
        return np.asarray(self.decision.mask.sum(axis=(1, 2)), dtype=np.int64)


def first_voxel(inside: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """Index of a lesion's first voxel in the flattened volume; ``inside`` is the lesion in its box."""
    at = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(np.ravel_multi_index([k + s.start for k, s in zip(at, box, strict=True)], shape))


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


def distinguish(value: float, threshold: float) -> tuple[str, str]:
    """Two numbers with two digits, or with as many as show which is larger."""
    for digits in range(2, 7):
        short, bound = round(value, digits), round(threshold, digits)
        if math.isclose(bound, threshold, rel_tol=1e-3) and (
            (short > bound) == (value > threshold) and (short < bound) == (value < threshold)
        ):
            break
    return f"{value:.{digits}f}", f"{threshold:.{digits}f}"
