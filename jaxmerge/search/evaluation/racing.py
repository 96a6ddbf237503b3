"""Racing: who can no longer win need not be scored to the end.

All candidates are scored on the same examples, block by block. After a block each is compared with a rival, example by
example, and the probability that it would still be ahead on all examples is taken from Student's t:

    P(ahead) = P(T > -g / s),   s^2 = sum over groups of  w^2 v / n (1 - n / N)

g: weighted mean of its scores minus the rival's on the n examples seen of N; v: variance of the differences, to which
one of zero is added, for a few that are equal would else seem certain. The last factor is what sampling without
replacement gives: the question is who leads on these N examples, and it has an answer once all are seen. Objectives
over the same examples, dealt alike, are a group, and added up example by example, for what they say of an example goes
together. Variances of groups are added; the degrees of freedom are Welch's. Of objectives over the same examples that
are dealt each in an order of its own, those seen overlap by chance only, which on average leaves no covariance.

A race may err with probability 1 - confidence, once. Those with the smallest chances leave together as long as the sum
of the chances of all that have left, in this block and before, stays below that: a clear loser costs nothing of it.
Maron and Moore, Hoeffding races (1993), and Heidrich-Meisner and Igel, who race within CMA-ES (2009), use
distribution-free bounds, which need several times the examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from jaxmerge.search.pairing import Groups, added_up

# Scores by objective: `[P, N]` of candidates, NaN where an example was not seen.
Examples = Mapping[str, np.ndarray]


def chances(gaps: Examples, sizes: Mapping[str, int], weights: Mapping[str, float]) -> np.ndarray:
    """The probability that each candidate is ahead of its rival on all examples, float64 `[P]`.

    gaps: what it scored more than the rival on the n examples seen, `[P, n]` a group of objectives, at least one of
    each. sizes: how many examples there are. weights: of the groups. A candidate that never differed from its rival has
    1.
    """
    count = len(next(iter(gaps.values())))
    mean, variance, spread = np.zeros(count), np.zeros(count), np.zeros(count)
    for name, gap in gaps.items():
        seen = gap.shape[1]
        padded = np.concatenate([gap, np.zeros((count, 1))], axis=1, dtype=np.float64)
        part = weights[name] ** 2 * padded.var(axis=1, ddof=1) / seen * (1 - seen / sizes[name])
        mean += weights[name] * gap.mean(axis=1, dtype=np.float64)
        variance += part
        spread += part**2 / max(seen - 1, 1)
    known = variance <= 0
    variance, spread = np.where(known, 1.0, variance), np.where(known, 1.0, spread)
    ahead = stats.t.sf(-mean / np.sqrt(variance), variance**2 / spread)
    return np.asarray(np.where(known, np.where(mean >= 0, 1.0, 0.0), ahead), np.float64)


@dataclass
class Race:
    """A race of P candidates. error: the probability with which it may send away one that would have won.

    groups: of objectives over the same examples.
    keep: how many places are raced for. champion: the scores of one that was there before, `[N]` an objective, whom a
    winner must beat too; only where keep is 1.
    running: bool `[P]`, who is still in it.
    """

    sizes: Mapping[str, int]
    weights: Mapping[str, float]
    groups: Groups
    error: float
    running: np.ndarray
    keep: int = 1
    champion: Examples | None = None
    spent: float = field(default=0.0, init=False)

    def judge(self, examples: Examples) -> np.ndarray:
        """Who leaves now: bool `[P]`. examples: what all who are running have seen, and the others have or not."""
        leaves = np.zeros(len(self.running), bool)
        places = np.flatnonzero(self.running)
        if not len(places):
            return leaves
        seen = {name: np.isfinite(values[places[0]]) for name, values in examples.items()}
        groups = _dealt_alike(self.groups, seen)
        own, weights = added_up(_columns({n: v[places] for n, v in examples.items()}, seen), self.weights, groups)
        means = np.sum([weights[name] * values.mean(axis=1) for name, values in own.items()], axis=0)
        order = np.argsort(-means, kind="stable")
        last = order[min(self.keep, len(order)) - 1]
        chance = self._ahead(own, {name: values[last] for name, values in own.items()}, weights)
        chance[order[: self.keep]] = 1.0  # they lead
        if self.champion is not None and self.keep == 1:
            rival, _ = added_up(_columns(self.champion, seen), self.weights, groups)
            chance = np.minimum(chance, self._ahead(own, rival, weights))
        ascending = np.argsort(chance, kind="stable")
        total = self.spent + np.cumsum(chance[ascending])
        count = int((total <= self.error).sum())
        if count:
            self.spent = float(total[count - 1])
            leaves[places[ascending[:count]]] = True
            self.running = self.running & ~leaves
        return leaves

    def _ahead(self, own: Examples, rival: Examples, weights: Mapping[str, float]) -> np.ndarray:
        return chances({name: values - rival[name] for name, values in own.items()}, self.sizes, weights)


def _columns(examples: Examples, seen: Examples) -> dict[str, np.ndarray]:
    return {name: values[..., seen[name]] for name, values in examples.items()}


def _dealt_alike(groups: Groups, seen: Examples) -> list[list[str]]:
    """The groups divided into objectives of which the same places were seen. seen: bool `[N]` an objective."""
    found: dict[tuple[int, bytes], list[str]] = {}
    for number, group in enumerate(groups):
        for name in group:
            found.setdefault((number, seen[name].tobytes()), []).append(name)
    return list(found.values())
