"""Scores of several objectives with their intervals, and the paired difference of two models."""

from collections.abc import Mapping

import numpy as np

from jaxmerge.objectives.intervals import interval, paired_difference, weighted_interval
from jaxmerge.search.pairing import Groups, added_up

Interval = tuple[float, float]


def score_interval(examples: Mapping[str, np.ndarray], weights: Mapping[str, float], groups: Groups) -> Interval:
    """The 95% interval of the weighted mean over objectives.

    examples: `[N]` an objective. groups: of objectives over the same examples, whose scores are added up first. Of one
    group: Wilson's interval where every score and every sum is 0 or 1, else BCa bootstrap. Of several, which are
    independent: BCa bootstrap, each one's examples drawn for themselves.
    """
    scores, shares = added_up(examples, weights, groups)
    if len(scores) == 1:
        (values,) = scores.values()
        return interval(values, all(np.isin(of, (0.0, 1.0)).all() for of in (values, *examples.values())))
    return weighted_interval(list(scores.values()), list(shares.values()))


def difference(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], weights: Mapping[str, float], groups: Groups
) -> tuple[float, Interval]:
    """score(a) - score(b) on the same examples, and its 95% interval, paired by example."""
    own, shares = added_up(a, weights, groups)
    other, _ = added_up(b, weights, groups)
    if len(own) == 1:
        (name,) = own
        mean, low, high = paired_difference(own[name], other[name])
        return mean, (low, high)
    gaps = {name: own[name] - other[name] for name in own}
    mean = sum(shares[name] * float(gap.mean()) for name, gap in gaps.items())
    return mean, weighted_interval(list(gaps.values()), [shares[name] for name in gaps])
