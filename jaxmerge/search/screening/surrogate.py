"""What a candidate would score, predicted from the Jacobian at a center that was scored itself.

To first order the log-likelihood of every reference answer is known around the center. Where it is the score, that is
all. Where a score is a matter of right and wrong, an example is taken to be right once its answer's log-likelihood
exceeds a threshold of its own. The thresholds are unknown; over all examples they are taken to have a logistic
distribution F, fitted to what the center got right. And the center's outcome bounds each: what was right at l0 has its
threshold below l0, so that at l it is right with probability min(1, F(l) / F(l0)); what was wrong becomes right with
max(0, F(l) - F(l0)) / (1 - F(l0)). At the center that gives its own score.

Farther away all of this is too hopeful, and the draws that look best would be those that it flatters most. So the
candidates of earlier generations say how far scores fall short of it, in proportion to the squared distance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.search.linearised import Linearised


@dataclass(frozen=True)
class Link:
    """F(l) = 1 / (1 + exp(-slope (l - middle)))."""

    slope: float
    middle: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * (values - self.middle), -30, 30))), np.float64)


def fitted(values: np.ndarray, scores: np.ndarray) -> Link:
    """The logistic distribution that makes scores in [0, 1] at log-likelihoods `[N]` most probable, with weak priors: a
    slope of about one standard deviation, and a middle near theirs, for all may be right or all wrong."""
    center, spread = float(values.mean()), max(float(values.std()), 1e-6)
    x = np.stack([(values - center) / spread, np.ones_like(values)], axis=1)
    prior, precision = np.array([1.0, 0.0]), np.diag([1.0, 0.1])
    weights = prior
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (scores - chance) - precision @ (weights - prior)
        curvature = (x * (chance * (1 - chance))[:, None]).T @ x + precision
        weights = weights + np.linalg.solve(curvature, slope)
    steep = max(float(weights[0]), 0.1)
    return Link(steep / spread, center - float(weights[1]) / steep * spread)


@dataclass(frozen=True)
class Surrogate:
    """near: around the center. outcomes: the center's scores by example, `[N]` an objective that is discrete. weights:
    of the objectives. bend: how far scores fall short of what is predicted without it, by the squared distance."""

    near: Linearised
    outcomes: Mapping[str, np.ndarray]
    weights: Mapping[str, float]
    bend: float = 0.0

    def __call__(self, genomes: np.ndarray) -> np.ndarray:
        """The predicted score of each of `[A, d]`, float64 `[A]`."""
        total = np.zeros(len(genomes))
        for name, values in self.near.at(genomes).items():
            if not self.near.scores[name]:
                values = self._right(name, values)
            total += self.weights[name] * values.mean(axis=1)
        return total - self.bend * self.squared(genomes)

    def squared(self, genomes: np.ndarray) -> np.ndarray:
        """Distances from the center, float64 `[A]`."""
        return np.asarray(((genomes.astype(np.float64) - self.near.genome) ** 2).sum(axis=1), np.float64)

    def _right(self, name: str, values: np.ndarray) -> np.ndarray:
        before, outcome = self.near.values[name], np.asarray(self.outcomes[name], np.float64)
        if not ((outcome >= 0) & (outcome <= 1)).all():
            raise InputError(
                f"search.screening: '{name}' scored {outcome.min():g} to {outcome.max():g}, and a surrogate needs "
                "scores from 0 to 1; remove it"
            )
        link = fitted(before, outcome)
        new, old = link(values), link(before)
        stays = np.minimum(1.0, new / old)
        comes = np.maximum(0.0, new - old) / (1 - old)
        return np.asarray(outcome * stays + (1 - outcome) * comes, np.float64)


def bent(surrogate: Surrogate, genomes: np.ndarray, scores: np.ndarray) -> Surrogate:
    """The surrogate with the bend that candidates tell of, genomes `[N, d]` with scores `[N]`: by least squares, never
    upwards. At the center it is right without."""
    squared = surrogate.squared(genomes)
    if not np.any(squared > 0):
        return surrogate
    short = replace(surrogate, bend=0.0)(genomes) - scores
    return replace(surrogate, bend=max(0.0, float((squared * short).sum() / (squared**2).sum())))
