"""Intervals of scores over one objective or several."""

from pathlib import Path

import numpy as np
import pytest
from damage import change_yaml
from fake_engine import write_config

from jaxmerge.objectives.intervals import interval
from jaxmerge.search.comparison import difference, score_interval
from jaxmerge.search.pairing import same_examples
from jaxmerge.search.resolved import read_config

RNG = np.random.default_rng(0)
SHARES = (RNG.random(200) < 0.3).astype(np.float32)
NATS = RNG.normal(-2.0, 0.5, 150).astype(np.float32)


def test_one_objective_has_its_own_interval() -> None:
    assert score_interval({"a": SHARES}, {"a": 1.0}, [["a"]]) == interval(SHARES, True)
    assert score_interval({"a": NATS}, {"a": 1.0}, [["a"]]) == interval(NATS, False)


def test_several_objectives_spread_as_their_errors_add_up() -> None:
    weights = {"a": 0.5, "b": 0.5}
    low, high = score_interval({"a": SHARES, "b": NATS}, weights, [["a"], ["b"]])
    error = np.sqrt(sum((0.5 * x.std()) ** 2 / len(x) for x in (SHARES, NATS)))
    center = 0.5 * SHARES.mean() + 0.5 * NATS.mean()
    assert low < center < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low, high) == score_interval({"a": SHARES, "b": NATS}, weights, [["a"], ["b"]])


def test_the_difference_is_paired() -> None:
    better = NATS + 0.1 + RNG.normal(0, 0.01, len(NATS)).astype(np.float32)
    for names in (("a",), ("a", "b")):
        weights = {name: 1 / len(names) for name in names}
        gap, (low, high) = difference(dict.fromkeys(names, better), dict.fromkeys(names, NATS), weights, [names])
        assert gap == pytest.approx(0.1, abs=0.005) and 0.09 < low < gap < high < 0.11


def test_objectives_over_the_same_examples_are_resampled_together() -> None:
    """An objective twice is that objective; what one gains and the other loses is certain."""
    weights, together = {"a": 0.5, "b": 0.5}, [["a", "b"]]
    worse = NATS - 0.1 + RNG.normal(0, 0.3, len(NATS)).astype(np.float32)
    assert score_interval({"a": NATS, "b": NATS}, weights, together) == interval(NATS, False)
    assert score_interval({"a": SHARES, "b": SHARES}, weights, together) == interval(SHARES, True)
    once = difference({"a": NATS}, {"a": worse}, {"a": 1.0}, [["a"]])
    twice = difference({"a": NATS, "b": NATS}, {"a": worse, "b": worse}, weights, together)
    assert twice == once
    apart = difference({"a": NATS, "b": NATS}, {"a": worse, "b": worse}, weights, [["a"], ["b"]])[1]
    assert once[1][1] - once[1][0] == pytest.approx(2**0.5 * (apart[1] - apart[0]), rel=0.05)
    low, high = score_interval({"a": NATS, "b": -NATS}, weights, together)
    assert low == high == 0


def test_groups_have_one_file_one_limit_and_one_number_of_examples(tmp_path: Path) -> None:
    data = {"search": "search.jsonl", "test": "test.jsonl"}
    several = [("a", data, None), ("b", {**data, "search": "./search.jsonl"}, None), ("c", data, 10)]
    several += [("d", {"search": "search.jsonl", "test": "other.jsonl"}, None), ("e", data, None)]
    objectives = [
        {"name": name, "kind": "likelihood", "text": "{text}", "data": files, "limit": limit}
        for name, files, limit in several
    ]
    path = write_config(tmp_path)
    change_yaml(path, "objectives", value=objectives)
    config = read_config(path)
    counts = {"a": 20, "b": 20, "c": 10, "d": 20, "e": 19}
    assert same_examples(config, "search", counts) == (("a", "b", "d"), ("c",), ("e",))
    assert same_examples(config, "test", counts) == (("a", "b"), ("c",), ("d",), ("e",))
    assert same_examples(config, "validation", counts) == (("a",), ("b",), ("c",), ("d",), ("e",))
