"""M2N2 (Abrantes et al. 2025, arXiv 2508.16204): competition for examples, and mates of complementary strengths.

An example is a resource that all members of a small archive share by their scores on it: what few others solve is worth
more, so that different strengths survive. A parent is drawn by its share, its mate by what it has on examples where
the parent has less. Their child is a mixture of them before a split point of the model and the opposite mixture behind
it; it replaces the member with the smallest share, if that is not itself.

Parents are mixed gene by gene on a straight line, which for additive operators mixes the merged models; the paper mixes
weights on a sphere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jax import Array

from jaxmerge.search.algorithms.options import Option, read_options
from jaxmerge.search.algorithms.registry import spread
from jaxmerge.search.keys import host_random

OPTIONS = {
    "archive": Option(16, 2, 10_000),
    "alpha": Option(1.0, 0.0, 10.0),
    "mutation_std": Option(0.05, 0.0, 1.0),
}
EPSILON = 1e-9


def build(
    dimension: int, population: int, sigma: float, options: Mapping[str, Any], positions: np.ndarray, **_: Any
) -> "M2N2":
    """options: members of the `archive`; `alpha`, how strongly a resource is shared; `mutation_std` of a gene, in
    widths of the box. positions: where in the model each gene acts."""
    return M2N2(dimension, population, sigma, positions, read_options(options, OPTIONS, "m2n2"))


@dataclass(frozen=True)
class M2N2:
    """The state: the archive's `genomes` `[n, d]` and `losses` `[n, examples]`; before the first tell the genomes are
    to be tried.

    positions: float `[d]` in [0, 1], from the first to the last layer.
    """

    dimension: int
    population: int
    sigma: float
    positions: np.ndarray
    options: Mapping[str, Any]
    compares: bool = True
    several: Literal["examples"] = "examples"

    @property
    def archive(self) -> int:
        return int(self.options["archive"])

    def init(self, key: Array, start: np.ndarray) -> Any:
        return {"genomes": spread(key, start, self.sigma, self.population), "losses": np.zeros((0, 0))}

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        if not len(state["losses"]):
            # Nothing has a score yet: the first population, and others like it.
            return (
                state["genomes"] if generation == 0 else spread(key, state["genomes"][0], 1.0, self.population)
            ), state
        random = host_random(key)
        shares = self._shares(state["losses"])
        children = np.stack([self._child(state["genomes"], shares, random) for _ in range(self.population)])
        mutations = random.normal(0.0, self.options["mutation_std"], children.shape)
        return (children + mutations).astype(np.float32), state

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        members = state["genomes"][: len(state["losses"])]
        losses = state["losses"] if len(members) else np.zeros((0, fitness.shape[1]))
        for genome, loss in zip(genomes, fitness, strict=True):
            if not np.isfinite(loss).all():
                continue
            members, losses = np.concatenate([members, genome[None]]), np.concatenate([losses, loss[None]])
            if len(members) > self.archive:
                worst = int(np.argmin(self._shares(losses).sum(axis=1)))
                members, losses = np.delete(members, worst, axis=0), np.delete(losses, worst, axis=0)
        return {"genomes": members, "losses": losses} if len(members) else state

    def _shares(self, losses: np.ndarray) -> np.ndarray:
        """What each member has of each example, `[n, examples]`: s c / (z^alpha + epsilon), z being the sum of all
        members' scores. Negative scores, such as log-likelihoods, count from the archive's lowest. The capacity c is 1.
        """
        scores = -losses - np.minimum((-losses).min(axis=0), 0.0)
        return scores / (scores.sum(axis=0) ** self.options["alpha"] + EPSILON)

    def _child(self, genomes: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
        first = _drawn(shares.sum(axis=1), random)
        second = _drawn(np.maximum(shares - shares[first], 0.0).sum(axis=1), random)
        mixture = random.random()
        share = np.where(self.positions < random.random(), mixture, 1.0 - mixture)
        child: np.ndarray = share * genomes[first] + (1.0 - share) * genomes[second]
        return child


def _drawn(strengths: np.ndarray, random: np.random.Generator) -> int:
    """A place, drawn by strength; any, where none has strength."""
    total = strengths.sum()
    return int(random.choice(len(strengths), p=strengths / total if total > 0 else None))
