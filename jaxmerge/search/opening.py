"""The candidate that a search sets out from.

A search is not sure to try its start: of the paths drawn around a whole model hardly any is that model. Where the start
is no baseline that can be had without a search it is scored as a candidate of its own, so that a search never gives
back something worse, on the data that decides, than what it was given.
"""

from dataclasses import dataclass

import numpy as np
from jax import Array

from jaxmerge.search.config import EvolveConfig, start_of
from jaxmerge.search.engine import Engine
from jaxmerge.search.history import Generation, History
from jaxmerge.search.loop import Limit, Stage, search


def opening(config: EvolveConfig, engine: Engine, history: History, start: np.ndarray) -> list[Generation]:
    """The start, scored on all of the search data: one generation of one candidate, or none where it is a baseline.

    start: float32 `[d]`. It does not count to the search's budget."""
    of_baselines = config.search.start in ("baseline", "center") and config.search.warm_start is None
    if config.space.kind == "parameter" and of_baselines:
        return []
    stage = Stage(start_of(config.stage), _Only(), start, config.search.seed, Limit(generations=1))
    return search(stage, lambda genomes, _: engine.evaluate(genomes), history)


@dataclass(frozen=True)
class _Only:
    """Asks for its start and nothing else."""

    population: int = 1
    compares: bool = False

    def init(self, key: Array, start: np.ndarray) -> np.ndarray:
        return start

    def ask(self, key: Array, generation: int, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return state[None], state

    def tell(
        self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: np.ndarray
    ) -> np.ndarray:
        return state
