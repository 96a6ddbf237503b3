"""Gradient descent on the recipe with any of optax's optimizers: one candidate a generation, told its gradient.

The gradient is that of the log-likelihood of the reference answers, which is smooth where a score is a share of right
answers. Densities, which are looked up on a grid, follow the secant over the neighbouring grid points; genes that no
gradient reaches stay where they start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import optax
from jax import Array

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.options import Option, read_options

# In widths of the bounds a step.
OPTIONS = {"learning_rate": Option(0.02, 1e-6, 1.0)}


def build(name: str, dimension: int, population: int | None, options: Mapping[str, Any]) -> "Descent":
    """Raises InputError for an unknown option, and for a population other than 1."""
    if population not in (None, 1):
        raise InputError(f"search.population: {name} follows one candidate; write 1 or auto, not {population}")
    return Descent(name, dimension, read_options(options, OPTIONS, name)["learning_rate"])


@dataclass(frozen=True)
class Descent:
    """The state: `genome` float32 `[d]`, and the optimizer's own."""

    name: str
    dimension: int
    learning_rate: float
    population: int = 1
    compares: bool = True
    several: Literal["gradient"] = "gradient"
    archive: int = 0

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        made: optax.GradientTransformation = getattr(optax, self.name)(self.learning_rate)
        return made

    def init(self, key: Array, start: np.ndarray) -> Any:
        genome = np.asarray(start, np.float32)
        return _numpy({"genome": genome, "optimizer": self._optimizer.init(genome)})

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        return state["genome"][None], state

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        """fitness: the gradient of what is to fall, `[1, d]`; a candidate that failed has +inf and is not followed."""
        gradient = np.where(np.isfinite(fitness[0]), fitness[0], 0).astype(np.float32)
        steps, optimizer = self._optimizer.update(gradient, state["optimizer"], state["genome"])
        return _numpy({"genome": np.clip(state["genome"] + np.asarray(steps), 0, 1), "optimizer": optimizer})


def _numpy(state: Any) -> Any:
    return jax.tree.map(np.asarray, state)
