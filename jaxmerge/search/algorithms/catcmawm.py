"""CatCMA with margin (Hamano et al., 2025, arXiv:2504.07884) through cmaes' ask and tell: genes that switch something
on or off are drawn as such, each with a probability of its own that a margin keeps from 0 and 1; all others are a
Gaussian's, as in CMA-ES.

The object lives within a call only. What goes from call to call is its distribution, and the random numbers come from
the call's key, so that a run is replayed like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array
from scipy.stats import norm

from jaxmerge.errors import InputError, unknown
from jaxmerge.search.keys import host_seed

# What the library's object learns from a generation; the rest it makes of sizes.
GAUSSIAN = ("_mean", "_sigma", "_C", "_p_sigma", "_pc")
CATEGORICAL = ("_q", "_s", "_gamma", "_Delta", "_delta", "_eps")
# Ranges of fitness from which a penalty for leaving the box is made: a list that grows to a length.
RANGES = "_iqhist_values"
# The covariance of the others is a full matrix, decomposed in every generation.
LARGEST = 1024


def build(
    dimension: int, population: int, sigma: float, options: Mapping[str, Any], binary: range, **_: Any
) -> "CatCMAwM":
    """Raises InputError where cmaes is not installed, and where there are no switches, or too many other genes."""
    name = "search.algorithm: catcmawm"
    if options:
        raise unknown("option", next(iter(options)), (), "search.options: catcmawm has none")
    try:
        import cmaes  # noqa: F401
    except ImportError:
        raise InputError(f"{name} needs cmaes; pip install 'jaxmerge[mixed]'") from None
    if not binary:
        raise InputError(f"{name} is for spaces with switches, which kinds dataflow and joint have; use CMA_ES")
    if (others := dimension - len(binary)) > LARGEST:
        raise InputError(f"{name} takes up to {LARGEST} genes besides the switches, not {others}; use scales: hop")
    return CatCMAwM(dimension, max(population, 4), sigma, binary)


@dataclass(frozen=True)
class CatCMAwM:
    """binary: the genes that are switches: 0 or 1. The state: the distribution, and what was asked."""

    dimension: int
    population: int
    sigma: float
    binary: range
    compares: bool = False

    @property
    def _others(self) -> int:
        return self.dimension - len(self.binary)

    def init(self, key: Array, start: np.ndarray) -> Any:
        """A switch is on with the probability with which the start's gene, `sigma` around it, is above 0.5."""
        switches, others = np.array(self.binary), np.setdiff1d(np.arange(self.dimension), self.binary)
        on = norm.cdf((start[switches].astype(np.float64) - 0.5) / self.sigma)
        margin = 1 - 0.73 ** (1 / len(self.binary))
        on = np.clip(on, margin, 1 - margin)
        made = self._fresh(start[others].astype(np.float64), np.stack([1 - on, on], axis=1))
        asked = np.zeros((self.population, self._others)), np.zeros((self.population, len(self.binary)), bool)
        return self._state(made) | {"raw": asked[0], "on": asked[1]}

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        made = self._primed(state, generation)
        made._rng.seed(host_seed(key))
        solutions = [made.ask() for _ in range(self.population)]
        on = np.stack([solution.c[:, 1] for solution in solutions])
        genomes, raw = on.astype(np.float32), state["raw"]
        if self._others:
            raw = np.stack([solution._v_raw for solution in solutions])
            others = np.stack([solution.x for solution in solutions]).astype(np.float32)
            before, behind = np.split(others, [self.binary.start], axis=1)
            genomes = np.concatenate([before, genomes, behind], axis=1)
        return genomes, state | {"raw": raw, "on": on}

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        from cmaes import CatCMAwM as Library

        made = self._primed(state, generation)
        told = []
        for raw, on, value in zip(state["raw"], state["on"], fitness, strict=True):
            solution = Library.Solution(c=np.stack([~on, on], axis=1), _v_raw=raw if self._others else None)
            told.append((solution, float(value)))
        made.tell(told)
        return state | self._state(made)

    def _fresh(self, mean: np.ndarray, probabilities: np.ndarray) -> Any:
        from cmaes import CatCMAwM as Library

        others = self._others
        return Library(
            x_space=[[0.0, 1.0]] * others if others else None,
            c_space=[2] * len(self.binary),
            population_size=self.population,
            mean=mean.copy() if others else None,
            sigma=self.sigma if others else None,
            cov=np.eye(others) if others else None,
            cat_param=probabilities.copy(),
        )

    @property
    def _learnt(self) -> tuple[str, ...]:
        return (*(GAUSSIAN if self._others else ()), *CATEGORICAL)

    def _state(self, made: Any) -> dict[str, np.ndarray]:
        state = {name: np.array(getattr(made, name)) for name in self._learnt}
        if self._others:
            ranges = np.full(made._iqhist_term + 1, np.nan)
            kept = getattr(made, RANGES)
            ranges[: len(kept)] = kept
            state[RANGES] = ranges
        return state

    def _primed(self, state: Any, generation: int) -> Any:
        made = self._fresh(np.full(self._others, 0.5), np.full((len(self.binary), 2), 0.5))
        for name in self._learnt:
            value = np.array(state[name])
            setattr(made, name, value if value.ndim else float(value))
        if self._others:
            setattr(made, RANGES, state[RANGES][~np.isnan(state[RANGES])].tolist())
        made._g = generation
        return made
