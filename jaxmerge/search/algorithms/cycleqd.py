"""CycleQD (Kuroki et al. 2024, arXiv 2410.14735): quality and diversity by turns.

Every objective has an archive, a grid whose axes are the other objectives' scores; a cell keeps its best by the
objective itself. Each generation breeds from the next archive, and its children are offered to all of them.

Where a merge is linear in the genes, as with additive operators, the mean of two genomes is the mean of their task
vectors, which is the paper's crossover. The paper's mutation adds to every child the singular directions of a task
vector, each by a random share, up to the mutation rate, of its singular value. Here the directions are those of the
archives' genomes around their mean, and the shares have both signs, for that of a principal direction means nothing.
The paper's rate of 0.1 is for few experts and long searches; on ZDT1 with 600 candidates it does worse than random
search.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jax import Array

from jaxmerge.search.algorithms.options import Option, read_options
from jaxmerge.search.algorithms.pareto import normalized
from jaxmerge.search.algorithms.registry import spread
from jaxmerge.search.keys import host_random

OPTIONS = {
    "cells": Option(10, 2, 1000),
    "crossover_std": Option(0.01, 0.0, 1.0),
    "mutation_rate": Option(0.5, 0.0, 1.0),
}
# A parent's chance is the product over objectives of a number between these, by its place in the archive's range.
CHANCE = (0.5, 0.8)
# The least singular value, in sigmas, so that no direction dies out.
LEAST_VALUE = 1.0


def build(
    dimension: int, population: int, sigma: float, options: Mapping[str, Any], objectives: int, **_: Any
) -> "CycleQD":
    """options: `cells` along each axis of an archive; `crossover_std` of a parent's share; `mutation_rate`, the
    largest share of a singular value."""
    return CycleQD(dimension, population, sigma, objectives, read_options(options, OPTIONS, "cycleqd"))


@dataclass(frozen=True)
class CycleQD:
    """The state: `genomes` `[n, d]` that some archive holds, their `losses` `[n, objectives]`, and the least and
    greatest losses seen, `range` `[2, objectives]`, which the grids lie over. Before the first tell the genomes are to
    be tried."""

    dimension: int
    population: int
    sigma: float
    objectives: int
    options: Mapping[str, Any]
    compares: bool = True
    several: Literal["objectives"] = "objectives"

    @property
    def archive(self) -> int:
        """The cells of all archives."""
        cells: int = self.options["cells"] ** max(self.objectives - 1, 0)
        return self.objectives * cells

    def init(self, key: Array, start: np.ndarray) -> Any:
        return {
            "genomes": spread(key, start, self.sigma, self.population),
            "losses": np.zeros((0, self.objectives)),
            "range": np.array([[np.inf], [-np.inf]]).repeat(self.objectives, axis=1),
        }

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        if not len(state["losses"]):
            # Nothing has a score yet: the first population, and others like it.
            return (
                state["genomes"] if generation == 0 else spread(key, state["genomes"][0], 1.0, self.population)
            ), state
        random = host_random(key)
        elites = self._elites(state["losses"], state["range"], generation % self.objectives)
        genomes = state["genomes"][elites].astype(np.float64)
        low, high = CHANCE
        chance = np.prod(low + (high - low) * normalized(-state["losses"][elites]), axis=1)
        chance /= chance.sum()
        count = min(2, len(elites))
        pairs = np.stack([random.choice(len(elites), count, replace=False, p=chance) for _ in range(self.population)])
        shares = random.normal(1.0, self.options["crossover_std"], pairs.shape)
        children = np.einsum("pk,pkd->pd", shares / shares.sum(axis=1, keepdims=True), genomes[pairs])
        return (children + self._steps(state["genomes"], random)).astype(np.float32), state

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        scored = np.isfinite(fitness).all(axis=1)
        known = len(state["losses"])
        merged = np.concatenate([state["genomes"][:known], genomes[scored]])
        losses = np.concatenate([state["losses"], fitness[scored]])
        if not len(losses):
            return state
        low, high = np.minimum(state["range"][0], losses.min(0)), np.maximum(state["range"][1], losses.max(0))
        seen = np.stack([low, high])
        kept = np.unique(np.concatenate([self._elites(losses, seen, quality) for quality in range(self.objectives)]))
        return {"genomes": merged[kept], "losses": losses[kept], "range": seen}

    def _elites(self, losses: np.ndarray, seen: np.ndarray, quality: int) -> np.ndarray:
        """Places of an archive's members: the best of each cell, of equals the first."""
        others = np.delete(normalized(losses, *seen), quality, axis=1)
        cells = np.minimum((others * self.options["cells"]).astype(np.int64), self.options["cells"] - 1)
        order = np.argsort(losses[:, quality], kind="stable")
        _, first = np.unique(cells[order], axis=0, return_index=True)
        return np.sort(order[first])

    def _steps(self, genomes: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Mutations `[P, d]`."""
        centered = genomes.astype(np.float64) - genomes.mean(axis=0, dtype=np.float64)
        _, found, directions = np.linalg.svd(centered, full_matrices=True)
        values = np.full(self.dimension, LEAST_VALUE * self.sigma)
        values[: len(found)] = np.maximum(found, values[: len(found)])
        rate = self.options["mutation_rate"]
        return (random.uniform(-rate, rate, (self.population, self.dimension)) * values) @ directions
