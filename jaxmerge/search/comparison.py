"""Scores of several objectives with their intervals, and the paired difference of two models."""

from collections.abc import Mapping

import numpy as np

from jaxmerge.objectives.intervals import interval, paired_difference, weighted_interval

Interval = tuple[float, float]


def score_interval(examples: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> Interval:
    """The 95% interval of the weighted mean over objectives.

    examples: `[N]` an objective. Of one objective: Wilson's interval where every example is 0 or 1, else BCa bootstrap.
    Of several, whose examples are not paired with each other: BCa bootstrap, each one's drawn for themselves.
    """
    if len(examples) == 1:
        (values,) = examples.values()
        return interval(values, bool(np.isin(values, (0.0, 1.0)).all()))
    return weighted_interval(list(examples.values()), [weights[name] for name in examples])


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
    return mean, weighted_interval(list(gaps.values()), [weights[name] for name in gaps])
