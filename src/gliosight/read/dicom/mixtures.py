"""Sequences that an export has thrown into one series (read stage, DICOM, below `splitting`).

In: the acquisitions of a series' frames, and where the frames lie. Out: for each frame the key of what it
belongs to; one key for all where the series is one. Some anonymisers give all series of a study one UID and
one number: then FLAIR and T1 lie in one stack, slice between slice, and no position repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gliosight.read.dicom.acquisition import Acquisition

# Times of one protocol differ by less than this factor from the next larger one.
ONE_PROTOCOL = 1.3
# A sequence has at least so many slices.
LEAST_SLICES = 3
# Steps of a stack differ by less than this part of their median.
EVEN_WITHIN = 0.2
# Positions along the normal closer than this are one, mm.
SAME_POSITION = 0.02
# Slices may overlap by less than this part of their thickness.
OVERLAP = 0.1
# Between two scans nothing is acquired for so long: seconds, and times what lies between slices.
LEAST_PAUSE, PAUSE = 20.0, 5.0

_PULSES = frozenset({"SE", "GR", "EP", "IR"})


def protocols_of(acquisitions: Sequence[Acquisition]) -> list[Hashable]:
    """Keys by kind of pulses and contrast medium, and by TR, TE and TI where these are far apart."""
    fields = [
        [(frozenset(one.scanning) & _PULSES, one.contrast) for one in acquisitions],
        *(
            _clusters([getattr(one, name) for one in acquisitions])
            for name in ("repetition", "echo", "inversion")
        ),
    ]
    keys: list[Hashable] = list(zip(*fields, strict=True))
    return keys if _large(keys) else [None] * len(keys)


def acquisitions_of(
    acquisitions: Sequence[Acquisition],
    along: NDArray[np.float64],
    thickness: Iterable[float | None],
) -> list[Hashable]:
    """Keys by number or time of acquisition, where they part one stack into several.

    That is where each of the groups is evenly spaced, they reach over each other, and together they are not
    even, or overlap by more than slices do.

    Parameters
    ----------
    along : (frames,) array
        Positions along the normal, mm.
    thickness : iterable of float or None
        Nominal, mm.
    """
    known = [one for one in thickness if one is not None]
    thick = float(np.median(known)) if known else 0.0
    times = [one.acquired for one in acquisitions]
    ways: tuple[list[Hashable], ...] = (
        [one.acquisition for one in acquisitions],
        list(times),
        list(_runs(times)),
    )
    for keys in ways:
        if len(set(keys)) > 1 and _large(keys) and _interleaved(keys, along, thick):
            return keys
    return [None] * len(acquisitions)


def _clusters(values: Sequence[float | None]) -> list[int | None]:
    """Each value's group; values belong together as long as the next larger one is not far."""
    ordered = sorted({one for one in values if one is not None})
    group: dict[float, int] = {}
    for index, value in enumerate(ordered):
        far = index > 0 and value > ONE_PROTOCOL * ordered[index - 1]
        group[value] = group[ordered[index - 1]] + far if index else 0
    return [None if one is None else group[one] for one in values]


def _runs(times: Sequence[float | None]) -> list[int | None]:
    """Each time's run, where slices have times of their own; between runs nothing was acquired."""
    ordered = sorted({one for one in times if one is not None})
    if len(ordered) < 2:
        return [None] * len(times)
    gaps = np.diff(ordered)
    pause = max(LEAST_PAUSE, PAUSE * float(np.median(gaps)))
    run = dict(zip(ordered, np.cumsum([0, *(gaps > pause)]).tolist(), strict=True))
    return [None if one is None else run[one] for one in times]


def _large(keys: Sequence[Hashable]) -> bool:
    return min(Counter(keys).values()) >= LEAST_SLICES


def _interleaved(keys: Sequence[Hashable], along: NDArray[np.float64], thick: float) -> bool:
    steps = np.diff(np.sort(along))
    if steps.min() <= SAME_POSITION:  # positions repeat: split elsewhere
        return False
    groups = [along[[key == one for key in keys]] for one in dict.fromkeys(keys)]
    if not all(_even(one) for one in groups):
        return False
    if max(one.min() for one in groups) >= min(one.max() for one in groups):  # one above the other
        return False
    return not _even(along) or float(np.median(steps)) < (1 - OVERLAP) * thick


def _even(along: NDArray[np.float64]) -> bool:
    steps = np.diff(np.sort(along))
    return bool(np.ptp(steps) <= EVEN_WITHIN * np.median(steps))
