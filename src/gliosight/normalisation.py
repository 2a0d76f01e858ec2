"""Intensity normalisation: how bright a head's tissue is, and values scaled by it (domain layer).

`prepare` and the training bench both use it. Arrays have the index order (slice, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Voxels that are looked at for a statistic. Most volumes have fewer; of larger ones every n-th voxel is
# taken, so that memory does not grow with them.
MOST_SAMPLED = 2**24


@dataclass(frozen=True)
class Intensity:
    """Robust brightness of a head's tissue in one sequence, in the units of the file.

    ``low`` and ``high`` bound what is believed; ``mean`` and ``std`` are taken between them.
    """

    low: float
    high: float
    mean: float
    std: float

    def normalise(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Clip to ``low..high``, subtract the mean, divide by the standard deviation."""
        clipped = np.clip(values.astype(np.float32), self.low, self.high)
        out: NDArray[np.float32] = (clipped - np.float32(self.mean)) / np.float32(self.std)
        return out


@dataclass(frozen=True)
class Range:
    """What of a sequence's values becomes 0 and what 1."""

    low: float
    high: float

    def scale(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Values in [0, 1], float32; what lies beyond is clipped."""
        scaled = (values.astype(np.float32) - np.float32(self.low)) / np.float32(
            self.high - self.low
        )
        return np.clip(scaled, 0, 1, out=scaled)


def measure_intensity(values: NDArray[np.generic], head: NDArray[np.bool_]) -> Intensity | None:
    """Robust brightness of the head's tissue, or ``None`` where there is no contrast.

    The lower bound is the air's (1st percentile of the whole volume), so that the background stays
    dark; the upper one is the 99th percentile of the head, so that a few hot voxels (fat, vessels,
    a stray 32,767) do not set the scale.
    """
    if not head.any():
        return None
    size = int(np.count_nonzero(head))
    tissue = _every(values, head, size // 250_000 if size > 500_000 else 1)
    step = 2
    while values.size > MOST_SAMPLED * step**2:
        step += 1
    low = float(np.percentile(values[:, ::step, ::step].astype(np.float64), 1.0))
    high = float(np.percentile(tissue, 99.0))
    tissue = np.clip(tissue, low, high)
    mean, std = float(tissue.mean()), float(tissue.std())
    if not high > low or std <= 1e-6 * max(abs(mean), 1e-12):
        return None
    return Intensity(low, high, mean, std)


def unit_range(values: NDArray[np.generic], head: NDArray[np.bool_]) -> Range | None:
    """The range that becomes [0, 1], or ``None`` where there is no contrast.

    Bytes are taken from 0 to 255, as pictures are; anything else from the air's 1st percentile to the
    head's 99.9th, since a single hot voxel must not set the scale.
    """
    intensity = measure_intensity(values, head)
    if intensity is None:
        return None
    if values.dtype == np.uint8:
        return Range(0.0, 255.0)
    step = max(1, int(np.count_nonzero(head)) // MOST_SAMPLED)
    return Range(
        intensity.low, max(intensity.high, float(np.percentile(_every(values, head, step), 99.9)))
    )


def _every(values: NDArray[np.generic], head: NDArray[np.bool_], step: int) -> NDArray[np.float64]:
    """Every ``step``-th of the head's values, in their order, gathered slice by slice."""
    parts, before = [], 0
    for plane, inside in zip(values, head, strict=True):
        tissue = plane[inside]
        parts.append(tissue[-before % step :: step].astype(np.float64))
        before += len(tissue)
    return np.concatenate(parts)
