"""Figures and their intervals against numpy, draw by draw, and against known tables."""

from __future__ import annotations

import numpy as np
import pytest

from gliosight.evaluate.figures import Bootstrap, difference, draw, exact

VALUES = np.array([0.9, 0.2, np.nan, 0.4, 0.7])


def _sample(drawn: Bootstrap, row: int, values: np.ndarray) -> np.ndarray:
    """The patients of a draw, one by one."""
    chosen = np.repeat(values, drawn.weights[row].astype(int))
    return chosen[np.isfinite(chosen)]


def test_the_first_row_is_the_sample_and_each_draw_takes_as_many() -> None:
    drawn = draw(7, seed=3, draws=50)
    assert drawn.weights.shape == (51, 7)
    assert (drawn.weights[0] == 1).all()
    assert (drawn.weights.sum(axis=1) == 7).all()


def test_the_seed_decides() -> None:
    assert (draw(7, seed=3).weights == draw(7, seed=3).weights).all()
    assert (draw(7, seed=3).weights != draw(7, seed=4).weights).any()


def test_mean_and_median_are_numpys_in_every_draw() -> None:
    drawn = draw(5, seed=1, draws=200)
    mean, median = drawn.mean(VALUES), drawn.median(VALUES)
    assert mean.value == pytest.approx(0.55)
    assert median.value == pytest.approx(0.55)  # of 0.2 0.4 0.7 0.9
    assert (mean.n, median.n) == (4, 4)
    assert mean.drawn is not None
    assert median.drawn is not None
    for row in range(1, 201):
        chosen = _sample(drawn, row, VALUES)
        if len(chosen):
            assert mean.drawn[row - 1] == pytest.approx(chosen.mean())
            assert median.drawn[row - 1] == pytest.approx(np.median(chosen))
        else:
            assert np.isnan(mean.drawn[row - 1])
            assert np.isnan(median.drawn[row - 1])


def test_the_interval_is_the_percentiles_of_the_draws() -> None:
    drawn = draw(30, seed=1)
    values = np.random.default_rng(0).uniform(size=30)
    found = drawn.mean(values)
    samples = [_sample(drawn, row, values).mean() for row in range(1, 2001)]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(samples, (2.5, 97.5))))
    # The normal approximation says about the same of a mean.
    spread = 1.96 * values.std() / np.sqrt(30)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.1)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    found = draw(2, seed=1).ratio(np.array([1.0, 30.0]), np.array([1.0, 99.0]))
    assert found.value == pytest.approx(0.31)
    assert found.n == 100


def test_one_patient_has_no_interval_and_none_has_no_figure() -> None:
    one = draw(1, seed=1).mean(np.array([0.5]))
    assert (one.value, one.low, one.high, one.n) == (0.5, None, None, 1)
    for found in (draw(0, seed=1).mean(np.empty(0)), draw(0, seed=1).median(np.empty(0))):
        assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


def test_mostly_undefined_draws_give_no_interval() -> None:
    # One of forty patients has a value: it is missing from e^-1 of the draws only; of two in a draw
    # of many more, most have it.
    values = np.full(40, np.nan)
    values[0] = 1.0
    found = draw(40, seed=1).mean(values)
    assert found.low == found.high == 1.0
    rare = draw(40, seed=1)
    sparse = rare.figure(np.where(np.arange(2001) % 3 == 0, 0.5, np.nan), n=1)
    assert (sparse.value, sparse.low) == (0.5, None)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # 1 - 0.025^(1/10)
        (10, 10, 0.6915, 1.0),  # 0.025^(1/10)
        (4, 4, 0.3976, 1.0),
        (15, 20, 0.5090, 0.9134),  # Newcombe's tables of Clopper-Pearson
    ],
)
def test_exact_intervals_of_counts(hits: int, n: int, low: float, high: float) -> None:
    found = exact(hits, n)
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_exact_of_nobody_is_undefined() -> None:
    assert exact(0, 0).value is None


def test_a_difference_of_the_same_draws_is_paired() -> None:
    values = np.random.default_rng(0).uniform(size=40)
    drawn = draw(40, seed=1)
    one, other = drawn.mean(values), drawn.mean(values + 0.01)
    found = difference(other, one)
    assert found.value == pytest.approx(0.01)
    assert found.low == pytest.approx(0.01)
    assert found.high == pytest.approx(0.01)
    independent = difference(draw(40, seed=2).mean(values + 0.01), one)
    assert independent.high - independent.low > 0.1


def test_a_difference_with_what_is_undefined_is_undefined() -> None:
    drawn = draw(3, seed=1)
    assert difference(drawn.mean(np.full(3, np.nan)), drawn.mean(np.ones(3))).value is None
