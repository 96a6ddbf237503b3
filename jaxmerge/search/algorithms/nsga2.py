"""NSGA-II (Deb et al. 2002) through pymoo's ask and tell: survival by rank and crowding, simulated binary crossover,
polynomial mutation.

pymoo's object lives within a call only. What goes from call to call are the survivors, and the random numbers come from
the call's key, so that a run is replayed like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.options import Option, read_options
from jaxmerge.search.algorithms.registry import spread
from jaxmerge.search.keys import host_seed

OPTIONS = {
    "crossover_prob": Option(0.9, 0.0, 1.0),
    "crossover_eta": Option(15.0, 0.0, 1000.0),
    "mutation_prob": Option(0.0, 0.0, 1.0),
    "mutation_eta": Option(20.0, 0.0, 1000.0),
}


def build(
    dimension: int, population: int, sigma: float, options: Mapping[str, Any], objectives: int, **_: Any
) -> "NSGA2":
    """options: pymoo's `prob` and `eta` of SBX and the `prob_var` (a gene's; 0: 1/d, at most 0.5) and `eta` of PM.

    Raises InputError where pymoo is not installed.
    """
    try:
        import pymoo  # noqa: F401
    except ImportError:
        raise InputError("search.algorithm: nsga2 needs pymoo; pip install 'jaxmerge[pareto]'") from None
    return NSGA2(dimension, population, sigma, objectives, read_options(options, OPTIONS, "nsga2"))


@dataclass(frozen=True)
class NSGA2:
    """The state: the survivors' `genomes` `[P, d]` and `losses` `[P, objectives]`; before the first tell, what is to be
    tried, with losses of +inf."""

    dimension: int
    population: int
    sigma: float
    objectives: int
    options: Mapping[str, float]
    compares: bool = True
    several: Literal["objectives"] = "objectives"
    archive: int = 0

    def init(self, key: Array, start: np.ndarray) -> Any:
        return {
            "genomes": spread(key, start, self.sigma, self.population),
            "losses": np.full((self.population, self.objectives), np.inf),
        }

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        if generation == 0:
            return state["genomes"], state
        offspring = self._primed(key, state).ask()
        genomes = np.zeros((0, self.dimension)) if offspring is None else np.asarray(offspring.get("X"), np.float64)
        # Where all offspring would be copies, pymoo gives fewer.
        fresh = jax.random.uniform(key, (self.population - len(genomes), self.dimension), np.float32)
        return np.concatenate([genomes.astype(np.float32), np.asarray(fresh)]), state

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        told = {"genomes": genomes, "losses": fitness}
        if generation == 0:
            return told
        made = self._primed(key, state)
        made.tell(infills=_evaluated(told))
        kept, losses, failed = made.pop.get("X", "F", "G")
        return {"genomes": kept.astype(np.float32), "losses": np.where(failed > 0, np.inf, losses)}

    def _primed(self, key: Array, state: Any) -> Any:
        """pymoo's algorithm with the survivors as its population."""
        from pymoo.algorithms.moo.nsga2 import NSGA2 as Algorithm
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM

        problem = Problem(n_var=self.dimension, n_obj=self.objectives, n_ieq_constr=1, xl=0.0, xu=1.0)
        made = Algorithm(
            pop_size=self.population,
            crossover=SBX(prob=self.options["crossover_prob"], eta=self.options["crossover_eta"]),
            mutation=PM(prob_var=self.options["mutation_prob"] or None, eta=self.options["mutation_eta"]),
        )
        made.setup(problem, termination=NoTermination(), seed=host_seed(key))
        made.tell(infills=_evaluated(state))
        return made


def _evaluated(state: Any) -> Any:
    """Candidates with their losses as pymoo has them. One that failed breaks a constraint: it is behind all others."""
    from pymoo.core.population import Population

    failed = ~np.isfinite(state["losses"]).all(axis=1, keepdims=True)
    losses = np.where(failed, 0.0, state["losses"])
    return Population.new(X=state["genomes"].astype(np.float64), F=losses, G=failed.astype(np.float64))
