"""Scores of several objectives with their intervals, and the paired difference of two models."""

from collections.abc import Mapping

import numpy as np

from jaxmerge.objectives.intervals import CONFIDENCE, interval, paired_difference

RESAMPLES = 4000
Interval = tuple[float, float]


def score_interval(examples: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Interval:
    """The 95% interval of the weighted mean over objectives.

    examples: `[N]` an objective. Of one objective: Wilson's interval where every example is 0 or 1, else BCa bootstrap.
    Of several, whose examples are not paired with each other: the percentiles of a bootstrap within each.
    """
    if len(examples) == 1:
        (values,) = examples.values()
        return interval(values, bool(np.isin(values, (0.0, 1.0)).all()))
    return _bootstrap(examples, weights)


def difference(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], weights: Mapping[str, float]
) -> tuple[float, Interval]:
    """score(a) - score(b) on the same examples, and its 95% interval, paired by example."""
    if len(a) == 1:
        (name,) = a
        mean, low, high = paired_difference(a[name], b[name])
        return mean, (low, high)
    gaps = {name: a[name].astype(np.float64) - b[name].astype(np.float64) for name in a}
    mean = sum(weights[name] * float(gap.mean()) for name, gap in gaps.items())
    return mean, _bootstrap(gaps, weights)


def _bootstrap(examples: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Interval:
    rng = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    for name in examples:
        values = np.asarray(examples[name], np.float64)
        means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
        total += weights[name] * np.array(means)
    low, high = np.quantile(total, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
