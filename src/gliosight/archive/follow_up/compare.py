"""Lesions followed over time: which belong together, and how much each has changed (archive).

Words: a *visit* is a study with its analysis and its registration; a *tracked lesion* is what overlaps over
all visits, with the lesions that it split into or merged from; a *change* leads from a visit to a later one.

Volumes are those of each study's own grid, so that nothing is lost by resampling; the common grid says which
lesions belong together. What counts as noise: `noise_of`, and docs/follow-up.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gliosight.analysis import Analysis, Finding, Side, Status
from gliosight.archive.follow_up.register import (
    COMMON_MM,
    Registration,
    Sampled,
    geometry_of,
    grid_round,
    register,
    resample,
    sampled,
)
from gliosight.bodies import CONNECTED_26, box_of
from gliosight.head import find_head
from gliosight.measure import SMALL_ML
from gliosight.study import Geometry

Kind = Literal["new", "grown", "stable", "shrunk", "gone", "cannot tell"]

# Two lesions belong together where this part of the smaller one lies in the other, which is widened by the
# registration error, but at least by a voxel.
SHARED_PART = 0.1
# A lesion counts as seen by a study that covers this part of it.
COVERED_PART = 0.98
# How much of the logarithmic error of a volume two studies of one person share; measured, docs/follow-up.md.
SHARED_ERROR = 0.95
# From the half width of a 90 % interval to that of a 95 % interval, of a normal distribution.
WIDER = 1.96 / 1.645
# Where only a change by more than this factor is more than noise, "stable" would claim too much.
MOST_NOISE = 1.5


@dataclass(frozen=True)
class Visit:
    """A study, and how it is followed up.

    Parameters
    ----------
    source : str
        Where the study lies, as it was given.
    analysis : Analysis
    days : int or None
        Since the first visit; ``None`` where dates are not known.
    registration : Registration
        To the first visit.
    """

    source: str
    analysis: Analysis
    days: int | None
    registration: Registration

    @property
    def unknown(self) -> str:
        """Why nothing is known of the lesions of this visit, in a sentence; else empty."""
        if self.registration.failure:
            return self.registration.failure
        if self.analysis.status is Status.NOT_ASSESSED:
            return f"A study was not assessed: {self.analysis.decision.reason}"
        return ""


@dataclass(frozen=True)
class Measure:
    """A tracked lesion at one visit.

    Parameters
    ----------
    findings : tuple of int
        The ``id`` of each finding of that visit that belongs to it; empty where it is not there.
    volume_ml : float or None
        Of all of them; ``None`` where it is not known.
    volume_low_ml, volume_high_ml : float or None
        Ends of the 90 % interval of the true volume, see `gliosight.analysis.Outline`.
    product_mm2 : float or None
        The largest product of longest and perpendicular diameter; 0 where it is not there.
    unknown : str
        Why the volume is not known, or only a part of it, in a sentence; else empty.
    """

    findings: tuple[int, ...]
    volume_ml: float | None
    volume_low_ml: float | None
    volume_high_ml: float | None
    product_mm2: float | None
    unknown: str = ""


@dataclass(frozen=True)
class Change:
    """From one visit to a later one.

    Parameters
    ----------
    before, after : int
        Index of each visit.
    kind : str
    reason : str
        Why it cannot be told; else empty.
    ml, ml_low, ml_high : float or None
        Change in volume, and the ends of its 95 % interval.
    percent, percent_low, percent_high : float or None
        The same as part of the earlier volume; ``None`` where that is 0.
    product_percent : float or None
        Change in the largest product of diameters.
    """

    before: int
    after: int
    kind: Kind
    reason: str = ""
    ml: float | None = None
    ml_low: float | None = None
    ml_high: float | None = None
    percent: float | None = None
    percent_low: float | None = None
    percent_high: float | None = None
    product_percent: float | None = None


@dataclass(frozen=True)
class TrackedLesion:
    """A lesion over time; ``id`` counts from 1, the largest first. ``side`` is the patient's."""

    id: int
    side: Side
    measures: tuple[Measure, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class FollowUp:
    """Everything that is written of a follow-up.

    Parameters
    ----------
    visits : tuple of Visit
        In the order of time, the first one being the one that the others are registered to.
    ordered_by : str
        What their order follows, in words.
    grid : Geometry
        Of the common grid.
    sampled : tuple of Sampled or None
        Each visit on the common grid; ``None`` where its registration failed.
    labels : tuple of (slices, rows, columns) uint16 array or None
        The tracked lesions of each visit on the common grid, by their ``id``.
    lesions : tuple of TrackedLesion
    total : TrackedLesion
        All that is marked, as if it were one lesion; its ``id`` is 0.
    notes : tuple of str
        What a reader has to know besides, a sentence each.
    """

    visits: tuple[Visit, ...]
    ordered_by: str
    grid: Geometry = field(repr=False)
    sampled: tuple[Sampled | None, ...] = field(repr=False)
    labels: tuple[NDArray[np.uint16] | None, ...] = field(repr=False)
    lesions: tuple[TrackedLesion, ...]
    total: TrackedLesion
    notes: tuple[str, ...] = ()


def compare(
    analyses: Sequence[Analysis],
    sources: Sequence[str],
    days: Sequence[int | None],
    ordered_by: str,
    notes: Sequence[str] = (),
) -> FollowUp:
    """Register studies to the first one, and follow their lesions.

    Parameters
    ----------
    analyses : sequence of Analysis
        Of studies with geometry, in the order of time; two or more.
    sources, days : sequence
        Of each study, see `Visit`.
    """
    first = analyses[0].study
    visits = tuple(
        Visit(
            source, analysis, day, register(first, analysis.study) if k else Registration(np.eye(4))
        )
        for k, (analysis, source, day) in enumerate(zip(analyses, sources, days, strict=True))
    )
    heads = [find_head(analysis.study.flair.values) for analysis in analyses]
    seen = heads[0] if heads[0].any() else np.ones_like(heads[0])
    grid = grid_round(first, seen, COMMON_MM)
    on_grid: list[Sampled | None] = []
    findings: list[NDArray[np.uint16] | None] = []
    for visit, head in zip(visits, heads, strict=True):
        if visit.registration.failure:
            on_grid.append(None)
            findings.append(None)
            continue
        study, placement = visit.analysis.study, visit.registration.placement
        on_grid.append(sampled(study, head, grid, placement))
        numbers = visit.analysis.labels.astype(np.uint16)
        findings.append(resample(numbers, geometry_of(study), grid, placement, order=0)[0])
    groups = _groups(visits, findings)
    tracked = []
    for number, group in enumerate(groups, start=1):
        place = _where(group, findings)
        measures = tuple(
            _measure(visit, numbers, _covers(side, place))
            for visit, numbers, side in zip(visits, group, on_grid, strict=True)
        )
        tracked.append(_tracked(number, _side(visits, group), measures, visits))
    labels = tuple(
        None if numbers is None else _renumbered(numbers, [group[k] for group in groups])
        for k, numbers in enumerate(findings)
    )
    return FollowUp(
        visits,
        ordered_by,
        grid[0],
        tuple(on_grid),
        labels,
        tuple(tracked),
        _total(tracked, visits),
        tuple(notes),
    )


# Of each visit the findings of one tracked lesion.
Group = tuple[tuple[int, ...], ...]


def _groups(visits: Sequence[Visit], findings: Sequence[NDArray[np.uint16] | None]) -> list[Group]:
    """Findings that overlap, at any two visits, directly or by way of others; the largest first."""
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = [(k, one.id) for k, visit in enumerate(visits) for one in visit.analysis.findings]
    number = {node: n for n, node in enumerate(nodes)}
    edges = []
    for (i, a), (j, b) in combinations(enumerate(findings), 2):
        if a is None or b is None:
            continue
        error = math.hypot(visits[i].registration.error_mm, visits[j].registration.error_mm)
        steps = max(1, round(error / COMMON_MM))
        sizes = np.bincount(a.ravel()), np.bincount(b.ravel())
        for one in visits[i].analysis.findings:
            inside = a == one.id
            if not inside.any():
                continue
            box = tuple(
                slice(max(0, part.start - steps), part.stop + steps) for part in box_of(inside)
            )
            wide = ndimage.binary_dilation(inside[box], CONNECTED_26, iterations=steps)
            for other, shared in enumerate(np.bincount(b[box][wide])):
                if other and shared >= SHARED_PART * min(sizes[0][one.id], sizes[1][other]):
                    edges.append((number[i, one.id], number[j, other]))
    rows, columns = np.array(edges, int).reshape(-1, 2).T
    links = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(nodes), len(nodes)))
    count, member = connected_components(links, directed=False) if nodes else (0, np.empty(0))
    groups = [
        tuple(
            tuple(one for n, (at, one) in enumerate(nodes) if member[n] == g and at == k)
            for k in range(len(visits))
        )
        for g in range(count)
    ]
    return sorted(groups, key=lambda group: -_largest(visits, group))


def _largest(visits: Sequence[Visit], group: Group) -> float:
    return max(
        sum(one.volume_ml or 0.0 for one in _members(visit, numbers))
        for visit, numbers in zip(visits, group, strict=True)
    )


def _members(visit: Visit, numbers: tuple[int, ...]) -> list[Finding]:
    return [one for one in visit.analysis.findings if one.id in numbers]


def _where(group: Group, findings: Sequence[NDArray[np.uint16] | None]) -> NDArray[np.bool_] | None:
    """The voxels of a tracked lesion at any visit; ``None`` where none is on the common grid."""
    masks = [
        np.isin(volume, numbers)
        for volume, numbers in zip(findings, group, strict=True)
        if volume is not None and numbers
    ]
    place = np.logical_or.reduce(masks) if masks else None
    return place if place is not None and place.any() else None


def _covers(side: Sampled | None, place: NDArray[np.bool_] | None) -> bool:
    """Whether a visit's images hold the place of a lesion."""
    return side is not None and place is not None and side.covered[place].mean() >= COVERED_PART


def _measure(visit: Visit, numbers: tuple[int, ...], covered: bool) -> Measure:
    unknown = visit.unknown
    if not numbers:
        if not unknown and not covered:
            unknown = "The place of the lesion lies outside the images of a study."
        value = None if unknown else 0.0
        return Measure((), value, value, value, value, unknown)
    members = _members(visit, numbers)
    volume = sum(one.volume_ml or 0.0 for one in members)
    products = [
        one.longest_diameter_mm * one.perpendicular_diameter_mm
        for one in members
        if one.longest_diameter_mm is not None and one.perpendicular_diameter_mm is not None
    ]
    outline = visit.analysis.decision.outline
    low = high = None
    if outline is not None and outline.volume_low is not None and outline.volume_high is not None:
        low, high = volume * outline.volume_low, volume * outline.volume_high
    elif not unknown:
        unknown = "The interval of a volume is not known."
    if not unknown and any(one.touches_edge for one in members):
        unknown = (
            "The lesion reaches the edge of the images of a study: a part of it may lie outside."
        )
    elif not unknown and not covered:
        unknown = "A part of the lesion lies outside the images of a study."
    return Measure(numbers, volume, low, high, max(products, default=None), unknown)


def _renumbered(numbers: NDArray[np.uint16], members: list[tuple[int, ...]]) -> NDArray[np.uint16]:
    table = np.zeros(int(numbers.max()) + 1, np.uint16)
    for lesion, ids in enumerate(members, start=1):
        table[[one for one in ids if one < len(table)]] = lesion
    return np.asarray(table[numbers])


def _side(visits: Sequence[Visit], group: Group) -> Side:
    """The side at the first visit that shows the lesion."""
    for visit, numbers in zip(visits, group, strict=True):
        if members := _members(visit, numbers):
            return max(members, key=lambda one: one.volume_px).side
    return "unknown"


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Each visit with the next, and then the first with the last."""
    yield from pairwise(range(count))
    if count > 2:
        yield 0, count - 1


def _tracked(
    number: int, side: Side, measures: tuple[Measure, ...], visits: Sequence[Visit]
) -> TrackedLesion:
    changes = tuple(_change(i, j, measures, visits) for i, j in _pairs(len(visits)))
    return TrackedLesion(number, side, measures, changes)


def _change(i: int, j: int, measures: Sequence[Measure], visits: Sequence[Visit]) -> Change:
    """What has changed between two visits, and whether it is more than noise."""
    before, after = measures[i], measures[j]
    reason = visits[i].unknown or visits[j].unknown or before.unknown or after.unknown
    if before.volume_ml is None or after.volume_ml is None:
        return Change(i, j, "cannot tell", reason)
    known: dict[str, Any] = {"ml": after.volume_ml - before.volume_ml}
    if before.volume_ml:
        known["percent"] = 100 * known["ml"] / before.volume_ml
    if before.product_mm2 and after.product_mm2 is not None:
        known["product_percent"] = 100 * (after.product_mm2 / before.product_mm2 - 1)
    if reason:
        return Change(i, j, "cannot tell", reason, **known)
    if not before.volume_ml or not after.volume_ml:
        return _appeared(i, j, before, after, visits, known)
    error = math.hypot(visits[i].registration.error_mm, visits[j].registration.error_mm)
    noise = noise_of(before, after, error)
    ratio = math.log(after.volume_ml / before.volume_ml)
    low, high = (math.exp(ratio + sign * noise) - 1 for sign in (-1, 1))
    known |= {"percent_low": 100 * low, "percent_high": 100 * high}
    known |= {"ml_low": before.volume_ml * low, "ml_high": before.volume_ml * high}
    if low > 0:
        return Change(i, j, "grown", **known)
    if high < 0:
        return Change(i, j, "shrunk", **known)
    if math.exp(noise) > MOST_NOISE:
        reason = (
            f"The outlines are so soft that only a change by {100 * (math.exp(noise) - 1):.0f} % "
            "or more could be distinguished from noise."
        )
        return Change(i, j, "cannot tell", reason, **known)
    return Change(i, j, "stable", **known)


def _appeared(
    i: int, j: int, before: Measure, after: Measure, visits: Sequence[Visit], known: dict[str, Any]
) -> Change:
    """A lesion that only one of two visits shows: new or gone, where that can be told."""
    if not before.volume_ml and not after.volume_ml:
        return Change(i, j, "stable", "Neither study shows the lesion.", **known)
    kind: Kind = "new" if after.volume_ml else "gone"
    shown = after if after.volume_ml else before
    volume = shown.volume_ml or 0.0
    low, high = (
        volume * ((end or volume) / volume) ** WIDER
        for end in (shown.volume_low_ml, shown.volume_high_ml)
    )
    ends = (low, high) if kind == "new" else (-high, -low)
    known |= {"ml_low": ends[0], "ml_high": ends[1]}
    reason = ""
    if volume < SMALL_ML:
        reason = (
            f"Below {SMALL_ML} ml a lesion that only one study shows can be an error of the model."
        )
    elif any(visits[k].analysis.status is Status.UNCERTAIN for k in (i, j)):
        reason = "Only one study shows the lesion, and the verdict of one of them is uncertain."
    return Change(i, j, "cannot tell" if reason else kind, reason, **known)


def noise_of(before: Measure, after: Measure, error_mm: float) -> float:
    """Half width of the 95 % interval of the logarithm of the ratio of two volumes.

    Two parts, independent of each other. The outlines: half widths of both volumes' 90 % intervals, of
    which the two studies share `SHARED_ERROR`, widened to 95 %. The registration: what of a ball of the
    smaller volume leaves its outline where it is shifted by the registration error.
    """
    halves = [
        math.log((one.volume_high_ml or 0.0) / (one.volume_low_ml or 1.0)) / 2
        for one in (before, after)
    ]
    own = halves[0] ** 2 + halves[1] ** 2 - 2 * SHARED_ERROR * halves[0] * halves[1]
    smaller = 1000 * min(before.volume_ml or 0.0, after.volume_ml or 0.0)
    radius = (3 * smaller / (4 * math.pi)) ** (1 / 3)
    shifted = 0.75 * error_mm / radius  # cross-section times shift, as part of the volume
    return math.hypot(WIDER * math.sqrt(own), shifted)


def _total(lesions: Sequence[TrackedLesion], visits: Sequence[Visit]) -> TrackedLesion:
    """All lesions as if they were one."""
    measures = []
    for k, visit in enumerate(visits):
        parts = [lesion.measures[k] for lesion in lesions]
        unknown = visit.unknown or next((part.unknown for part in parts if part.unknown), "")
        products = [part.product_mm2 for part in parts]
        measures.append(
            Measure(
                findings=tuple(one for part in parts for one in part.findings),
                volume_ml=_sum([part.volume_ml for part in parts]),
                volume_low_ml=_sum([part.volume_low_ml for part in parts]),
                volume_high_ml=_sum([part.volume_high_ml for part in parts]),
                product_mm2=max((one for one in products if one is not None), default=None),
                unknown=unknown,
            )
        )
    sides = {lesion.side for lesion in lesions}
    side: Side = sides.pop() if len(sides) == 1 else "unknown"
    return _tracked(0, side, tuple(measures), visits)


def _sum(values: Sequence[float | None]) -> float | None:
    """The sum; ``None`` where a part of it is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
