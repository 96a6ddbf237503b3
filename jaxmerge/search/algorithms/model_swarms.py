"""Model Swarms (Feng et al. 2024, arXiv 2410.11163): particles drawn to their own best and the swarm's best point, and
pushed away from its worst.

    v <- [r v_coeff v + r p_coeff (p - x) + r g_coeff (g - x) + r w_coeff (x - w)] / C,    x <- x + step v

Every r is uniform in [0, 1], C the sum of the four products of r and coefficient; the step shrinks each generation.
Particles set out towards another one each. One that has not found better for `patience` generations goes back to its
best point and stands still. evosax's PSO has neither the worst point, nor C, nor the step.

C makes a step a mean of its pulls, so that a swarm stays about where it began: it needs particles, 20 or more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from jaxmerge.search.algorithms.options import Option, read_options
from jaxmerge.search.algorithms.registry import spread
from jaxmerge.search.keys import host_random

OPTIONS = {
    "v_coeff": Option(0.4, 0.0, 10.0),
    "p_coeff": Option(0.3, 0.0, 10.0),
    "g_coeff": Option(0.3, 0.0, 10.0),
    "w_coeff": Option(0.3, 0.0, 10.0),
    "step": Option(1.0, 1e-6, 10.0),
    "step_factor": Option(0.95, 0.0, 1.0),
    "least_step": Option(0.1, 0.0, 10.0),
    "patience": Option(5, 1, 1_000_000),
}


def build(dimension: int, population: int, sigma: float, options: Mapping[str, Any], **_: Any) -> "ModelSwarms":
    """options: the four coefficients, the first `step`, its factor each generation, its least value, and `patience`."""
    return ModelSwarms(dimension, population, sigma, read_options(options, OPTIONS, "model_swarms"))


@dataclass(frozen=True)
class ModelSwarms:
    """The state, of P particles: points `x` and velocities `v` `[P, d]`; `best` points, their `fitness` and the
    generations they have stood, `age`; the `worst` point of all `[d]` and its fitness."""

    dimension: int
    population: int
    sigma: float
    options: Mapping[str, Any]
    compares: bool = True

    def init(self, key: Array, start: np.ndarray) -> Any:
        x = spread(key, start, self.sigma, self.population)
        return {
            "x": x,
            "v": x[host_random(key).permutation(self.population)] - x,
            "best": x,
            "fitness": np.full(self.population, np.inf, np.float32),
            "age": np.zeros(self.population, np.int32),
            "worst": x[0],
            "worst_fitness": np.float32(-np.inf),
        }

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        if generation == 0:
            return state["x"], state
        names = ("v_coeff", "p_coeff", "g_coeff", "w_coeff")
        pulls = host_random(key).random((4, self.population, 1)) * np.reshape(
            [self.options[n] for n in names], (4, 1, 1)
        )
        x, best = state["x"].astype(np.float64), state["best"].astype(np.float64)
        leader = best[int(np.argmin(state["fitness"]))]
        ways = np.stack([state["v"].astype(np.float64), best - x, leader - x, x - state["worst"]])
        v = (pulls * ways).sum(axis=0) / np.maximum(pulls.sum(axis=0), 1e-12)
        step = max(self.options["step"] * self.options["step_factor"] ** (generation - 1), self.options["least_step"])
        return (x + step * v).astype(np.float32), {**state, "v": v.astype(np.float32)}

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        better = fitness < state["fitness"]
        best = np.where(better[:, None], genomes, state["best"])
        age = np.where(better, 0, state["age"] + 1).astype(np.int32)
        tired = age >= self.options["patience"]
        last = int(np.argmax(fitness))
        worse = fitness[last] > state["worst_fitness"]
        return {
            "x": np.where(tired[:, None], best, genomes),
            "v": np.where(tired[:, None], np.float32(0), state["v"]),
            "best": best,
            "fitness": np.where(better, fitness, state["fitness"]),
            "age": np.where(tired, 0, age).astype(np.int32),
            "worst": genomes[last] if worse else state["worst"],
            "worst_fitness": fitness[last] if worse else state["worst_fitness"],
        }
