"""Intervals of scores over one objective or several."""

import numpy as np
import pytest

from jaxmerge.objectives.intervals import interval
from jaxmerge.search.comparison import difference, score_interval

RNG = np.random.default_rng(0)
SHARES = (RNG.random(200) < 0.3).astype(np.float32)
NATS = RNG.normal(-2.0, 0.5, 150).astype(np.float32)


def test_one_objective_has_its_own_interval() -> None:
    assert score_interval({"a": SHARES}, {"a": 1.0}) == interval(SHARES, True)
    assert score_interval({"a": NATS}, {"a": 1.0}) == interval(NATS, False)


def test_several_objectives_spread_as_their_errors_add_up() -> None:
    weights = {"a": 0.5, "b": 0.5}
    low, high = score_interval({"a": SHARES, "b": NATS}, weights)
    error = np.sqrt(sum((0.5 * x.std()) ** 2 / len(x) for x in (SHARES, NATS)))
    center = 0.5 * SHARES.mean() + 0.5 * NATS.mean()
    assert low < center < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low, high) == score_interval({"a": SHARES, "b": NATS}, weights)


def test_the_difference_is_paired() -> None:
    better = NATS + 0.1 + RNG.normal(0, 0.01, len(NATS)).astype(np.float32)
    for names in (("a",), ("a", "b")):
        weights = {name: 1 / len(names) for name in names}
        gap, (low, high) = difference(dict.fromkeys(names, better), dict.fromkeys(names, NATS), weights)
        assert gap == pytest.approx(0.1, abs=0.005) and 0.09 < low < gap < high < 0.11
