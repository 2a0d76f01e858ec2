"""Intervals: figures and their bootstrap over patients, all draws at once (evaluate).

In: values or counts by patient. Out: `Figure`. A draw takes as many patients as there are, with
replacement; all slices of a patient come and go together, since they are not independent. How often each
patient was drawn is a matrix of weights, drawn once from a seed: every figure of a part is computed from
the same draws, and so is that of a baseline or another model, which makes their differences paired.

The interval is the 2.5th to 97.5th percentile of the draws. Draws in which a figure is not defined (no
tumour among those drawn) are left out; where that is most of them, or there is one patient only, there
is no interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from gliosight.evaluate.scores import Figure

Array = NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
# Draws worked on at a time: so many rows of a few thousand slices stay in the processor's cache.
CHUNK = 100


@dataclass(frozen=True)
class Bootstrap:
    """How often each patient was drawn.

    Parameters
    ----------
    weights : (1 + draws, patients) float array
        The first row is the sample itself: all ones.
    """

    weights: Array

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.weights.shape[1])

    def mean(self, values: Array) -> Figure:
        """Mean over the patients whose value is defined (not NaN)."""
        known = np.isfinite(values)
        return self.ratio(np.where(known, values, 0.0), known.astype(float), n=int(known.sum()))

    def median(self, values: Array) -> Figure:
        """Median over the patients whose value is defined (not NaN)."""
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            return undefined()
        order = known[np.argsort(values[known], kind="stable")]
        ordered = values[order]
        drawn = np.cumsum(self.weights[:, order], axis=1)
        total = drawn[:, -1:]
        lower = (drawn >= np.floor((total + 1) / 2)).argmax(axis=1)
        upper = (drawn >= np.floor(total / 2) + 1).argmax(axis=1)
        found = (ordered[lower] + ordered[upper]) / 2
        return self.figure(np.where(total[:, 0] > 0, found, np.nan), n=len(known))

    def ratio(self, above: Array, below: Array, *, n: int | None = None) -> Figure:
        """Sum over patients of ``above`` divided by the sum of ``below``.

        Parameters
        ----------
        above, below : (patients,) float arrays
        n : int, optional
            What it rests on; the sum of ``below`` if not given.
        """
        return self.figure(
            divide(self.weights @ above, self.weights @ below),
            n=int(below.sum()) if n is None else n,
        )

    def figure(self, found: Array, *, n: int) -> Figure:
        """A figure of its values in the sample (first) and in the draws; NaN where not defined."""
        value, drawn = found[0], found[1:]
        if not np.isfinite(value):
            return Figure(None, None, None, n, drawn)
        defined = drawn[np.isfinite(drawn)]
        if self.patients < 2 or 2 * len(defined) < len(drawn) or not len(defined):
            return Figure(float(value), None, None, n, drawn)
        low, high = np.percentile(defined, (100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2))
        return Figure(float(value), float(low), float(high), n, drawn)

    def by_slice(self, owner: NDArray[np.int64]) -> Iterator[tuple[slice, Array]]:
        """Yield which draws, and their weights of each slice.

        Parameters
        ----------
        owner : (slices,) int array
            The patient each slice belongs to.
        """
        for start in range(0, len(self.weights), CHUNK):
            rows = slice(start, start + CHUNK)
            yield rows, self.weights[rows][:, owner]


def draw(patients: int, *, seed: int, draws: int = DRAWS) -> Bootstrap:
    """Draw patients with replacement, ``draws`` times."""
    sample = np.ones((1, patients))
    if not patients:
        return Bootstrap(np.ones((1 + draws, 0)))
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=draws)
    return Bootstrap(np.concatenate([sample, drawn.astype(np.float64)]))


def difference(one: Figure, other: Figure) -> Figure:
    """``one - other``, draw by draw: paired where both were drawn alike, else independent."""
    if one.value is None or other.value is None or one.drawn is None or other.drawn is None:
        return undefined(min(one.n, other.n))
    drawn = np.concatenate([[one.value - other.value], one.drawn - other.drawn])
    several = Bootstrap(np.ones((1, 2)))  # whether there are enough patients the two figures know
    found = several.figure(drawn, n=min(one.n, other.n))
    if one.low is None or other.low is None:
        return Figure(found.value, None, None, found.n, found.drawn)
    return found


def exact(hits: int, n: int) -> Figure:
    """A share of patients with its exact (Clopper-Pearson) interval, doi:10.1093/biomet/26.4.404."""
    if n == 0:
        return undefined()
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Figure(hits / n, low, high, n)


def undefined(n: int = 0) -> Figure:
    """A figure that is not defined."""
    return Figure(None, None, None, n)


def divide(above: Array, below: Array) -> Array:
    """``above / below``, NaN where ``below`` is 0."""
    return np.asarray(
        np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    )
