import numpy as np
import pytest
from scipy import stats

from jaxmerge.objectives.intervals import interval, paired_difference


def test_a_share_has_wilsons_interval() -> None:
    n, k, z = 50, 12, 1.959963984540054
    centre = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert interval(np.repeat([1, 0], [k, n - k]), True) == pytest.approx((centre - half, centre + half))
    assert interval(np.zeros(20), True)[0] == 0 and 0 < interval(np.zeros(20), True)[1] < 0.2
    low, high = interval(np.ones(1), True)
    assert 0 < low < 0.3 and high == 1


def test_a_mean_has_a_bootstrap_interval_that_is_always_the_same() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = interval(values, False)
    assert (low, high) == interval(values, False)
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_degenerate_examples() -> None:
    assert interval(np.full(7, 2.5), False) == (2.5, 2.5)
    assert interval(np.array([1.5]), False) == (1.5, 1.5)
    assert np.isnan(interval(np.array([1.0, np.nan]), False)).all()
    assert np.isnan(interval(np.array([]), True)).all()
    low, high = interval(np.array([0.0] * 30 + [1.0]), False)
    assert 0 <= low < high < 0.3


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    b = rng.normal(0, 10, 200)
    a = b + rng.normal(0.5, 0.1, 200)
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert 0.45 < low < difference < high < 0.55
    assert paired_difference(b, b) == (0, 0, 0)
    expected = stats.bootstrap(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.005)
