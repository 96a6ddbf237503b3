"""Screening: many candidates are drawn in each generation, and the best by a surrogate are scored and told.

The surrogate is made at the mean of the algorithm's distribution, from which all draws are. The algorithm is told
scores of the real engine only, of the best of many draws as if these were all (preselection), so that a generation
moves it further. The mean itself is one of those that are scored (an injected solution, as in Hansen 2011,
arXiv:1110.4181), for the surrogate needs its scores, and where no draw is better the distribution narrows.

What was drawn follows from seed and history, and which of it was scored is recorded, so that a replay needs no
surrogate.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax import Array

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.registry import Algorithm, several
from jaxmerge.search.config import EvolveConfig, Screening
from jaxmerge.search.costs import JACOBIAN
from jaxmerge.search.engine import Engine
from jaxmerge.search.history import Generation, History
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.loop import Score
from jaxmerge.search.ranking import columns
from jaxmerge.search.result import Result
from jaxmerge.search.screening.surrogate import Surrogate, bent

# Generations whose candidates tell how the score bends.
LATEST = 3


def require_screenable(config: EvolveConfig, engine: Engine, algorithm: Algorithm) -> None:
    """Raises InputError where a space has no Jacobian, or an algorithm cannot be told of a choice of its draws."""
    wanted, name = config.search.screening, config.search.algorithm
    if wanted is None:
        return
    if config.space.kind != "parameter":
        raise InputError(f"search.screening: paths of kind {config.space.kind} have no Jacobian; use kind parameter")
    if several(algorithm) is not None or not getattr(algorithm, "redraws", False):
        raise InputError(f"search.screening: {name} is told of its own draws alone; use CMA_ES or Sep_CMA_ES")
    if config.search.evaluation.kind != "full":
        raise InputError("search.evaluation.kind: screening needs all scores of every candidate; use full")
    if wanted.candidates < algorithm.population:
        raise InputError(
            f"search.screening.candidates: {wanted.candidates} are fewer than the population of "
            f"{algorithm.population}; draw more"
        )


@dataclass
class Screen:
    """Implements `loop.Screen` for a stage."""

    algorithm: Any
    engine: Engine
    wanted: Screening
    history: History
    stage: str
    # The generation that a surrogate was made for, and the surrogate.
    _made: tuple[int, Surrogate | None] | None = field(default=None, init=False)

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        """All draws, and the mean as the last row."""
        drawn, mean = self.algorithm.draws(key, state, self.wanted.candidates)
        # What is told of does not depend on which draws these were.
        _, state = self.algorithm.ask(key, generation, state)
        return np.concatenate([drawn, mean[None]]), state

    def recorded(self, drawn: np.ndarray, generation: Generation) -> np.ndarray:
        places = [result.drawn for result in generation.results]
        if any(place is None or not 0 <= place < len(drawn) for place in places):
            raise InputError(
                f"{self.history.file}: generation {generation.number} of '{self.stage}' was not screened as this "
                "config asks for; start in a new folder"
            )
        return drawn[np.array(places)]

    def score(self, drawn: np.ndarray, generation: int, score: Score) -> tuple[np.ndarray, list[Result]]:
        population, last = self.algorithm.population, len(drawn) - 1
        fresh = generation % self.wanted.refresh == 0
        surrogate = self._surrogate(generation, drawn[-1] if fresh else None)
        predicted = np.full(len(drawn), np.nan)
        if surrogate is not None:
            predicted = bent(surrogate, *self._known(surrogate))(drawn)
        # Where nothing is predicted the draws stay in their order.
        best = np.argsort(-predicted[:-1], kind="stable")
        places = np.concatenate([[last], best])[:population] if fresh else best[:population]
        genomes = drawn[places]
        # By the engine's clock: of several processes, all have the same.
        seconds = surrogate.near.seconds / population if fresh and surrogate is not None else 0.0
        shared = 1 + JACOBIAN / population if fresh else None
        results = [
            replace(
                result,
                drawn=int(place),
                predicted=float(predicted[place]) if np.isfinite(predicted[place]) else None,
                forwards=shared,
                seconds=result.seconds + seconds,
            )
            for place, result in zip(places, score(genomes, generation), strict=True)
        ]
        return genomes, results

    def _surrogate(self, generation: int, center: np.ndarray | None) -> Surrogate | None:
        """The generation's, made at its center; without one, that of the last generation that has one. None where the
        center has no scores."""
        if center is None:
            generation -= generation % self.wanted.refresh
            # Who was scored first there.
            center = self.history.stage(self.stage)[generation].genomes[0]
        if self._made is None or self._made[0] != generation:
            draw = generation if self.engine.sampled else None
            near = self.engine.linearised(center, draw)
            outcomes = self._outcomes(near, draw)
            made = None if outcomes is None else Surrogate(near, outcomes, self.engine.weights)
            self._made = (generation, made)
        return self._made[1]

    def _outcomes(self, near: Linearised, draw: int | None) -> dict[str, np.ndarray] | None:
        """The center's scores, which the engine keeps until it is scored among the others; None where it fails."""
        if not all(np.isfinite(array).all() for array in (*near.values.values(), *near.slopes.values())):
            return None
        if all(near.scores.values()):
            return dict(near.values)
        [result] = self.engine.evaluate(near.genome[None], draw=draw)
        return None if result.examples is None else dict(result.examples)

    def _known(self, surrogate: Surrogate) -> tuple[np.ndarray, np.ndarray]:
        """Genomes of the latest generations, `[N, d]`, and their scores."""
        latest = self.history.stage(self.stage)[-LATEST:]
        genomes = [surrogate.near.genome[None], *(generation.genomes for generation in latest)]
        scores = columns([result for generation in latest for result in generation.results])[0]
        known = np.isfinite(scores)
        return np.concatenate(genomes)[1:][known], scores[known]
