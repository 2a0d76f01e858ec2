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


def test_the_first_row_is_the_sample_and_the_seed_decides_the_others() -> None:
    drawn = draw(7, seed=3, draws=50)
    assert drawn.weights.shape == (51, 7)
    assert (drawn.weights[0] == 1).all()
    assert (drawn.weights.sum(axis=1) == 7).all()
    assert (drawn.weights == draw(7, seed=3, draws=50).weights).all()
    assert (drawn.weights != draw(7, seed=4, draws=50).weights).any()


def test_mean_and_median_are_numpys_in_every_draw() -> None:
    drawn = draw(5, seed=1, draws=200)
    for figure, of_numpy in ((drawn.mean(VALUES), np.mean), (drawn.median(VALUES), np.median)):
        assert (figure.value, figure.n) == (pytest.approx(0.55), 4)  # of 0.2 0.4 0.7 0.9
        samples = [_sample(drawn, row, VALUES) for row in range(1, 201)]
        expected = [of_numpy(values) if len(values) else np.nan for values in samples]
        assert figure.drawn == pytest.approx(np.array(expected), nan_ok=True)


def test_the_interval_is_the_percentiles_of_the_draws() -> None:
    drawn = draw(30, seed=1)
    values = np.random.default_rng(0).uniform(size=30)
    figure = drawn.mean(values)
    samples = [_sample(drawn, row, values).mean() for row in range(1, 2001)]
    assert (figure.low, figure.high) == pytest.approx(tuple(np.percentile(samples, (2.5, 97.5))))
    # The normal approximation says about the same of a mean.
    spread = 1.96 * values.std() / np.sqrt(30)
    assert figure.high - figure.low == pytest.approx(2 * spread, rel=0.1)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    figure = draw(2, seed=1).ratio(np.array([1.0, 30.0]), np.array([1.0, 99.0]))
    assert figure.value == pytest.approx(0.31)
    assert figure.n == 100


def test_one_patient_has_no_interval_and_none_has_no_figure() -> None:
    alone = draw(1, seed=1).mean(np.array([0.5]))
    assert (alone.value, alone.low, alone.high, alone.n) == (0.5, None, None, 1)
    for figure in (draw(0, seed=1).mean(np.empty(0)), draw(0, seed=1).median(np.empty(0))):
        assert (figure.value, figure.low, figure.high, figure.n) == (None, None, None, 0)


def test_mostly_undefined_draws_give_no_interval() -> None:
    # One of forty patients has a value: it is missing from e^-1 of the draws only.
    drawn = draw(40, seed=1)
    figure = drawn.mean(np.where(np.arange(40) == 0, 1.0, np.nan))
    assert figure.low == figure.high == 1.0
    sparse = drawn.figure(np.where(np.arange(2001) % 3 == 0, 0.5, np.nan), n=1)
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
    figure = exact(hits, n)
    assert figure.value == hits / n
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=1e-4)
    assert exact(0, 0).value is None


def test_a_difference_of_the_same_draws_is_paired() -> None:
    values = np.random.default_rng(0).uniform(size=40)
    drawn = draw(40, seed=1)
    first, second = drawn.mean(values), drawn.mean(values + 0.01)
    figure = difference(second, first)
    assert figure.value == pytest.approx(0.01)
    assert figure.low == pytest.approx(0.01)
    assert figure.high == pytest.approx(0.01)
    independent = difference(draw(40, seed=2).mean(values + 0.01), first)
    assert independent.high - independent.low > 0.1
    assert difference(drawn.mean(np.full(40, np.nan)), first).value is None
