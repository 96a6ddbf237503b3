"""From many candidates to one: the best on the search data are ranked again on validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.search.history import Generation
from jaxmerge.search.measurements import Measurements
from jaxmerge.search.ranking import best_first
from jaxmerge.search.result import Result

FINALISTS = 10


@dataclass(frozen=True)
class Place:
    """A candidate and its place in the history. genome: float32 `[d]`."""

    stage: str
    generation: int
    index: int
    genome: np.ndarray
    result: Result

    @property
    def name(self) -> str:
        return f"{self.stage}:{self.generation}:{self.index}"


def best_places(generations: Sequence[Generation], count: int = FINALISTS) -> list[Place]:
    """The best distinct candidates that have a score, by (score, tie); of equals the earliest."""
    places = [
        Place(generation.stage, generation.number, index, generation.genomes[index], result)
        for generation in generations
        for index, result in enumerate(generation.results)
    ]
    found: dict[bytes, Place] = {}
    for position in best_first([place.result for place in places]):
        place = places[position]
        if place.result.score is None or len(found) == count:
            break
        found.setdefault(place.genome.tobytes(), place)
    return list(found.values())


def first_error(generations: Sequence[Generation]) -> str:
    """Why candidates failed, in the words of the first."""
    errors = (result.error for generation in generations for result in generation.results)
    return next((error for error in errors if error), "no candidate was evaluated")


def choose(finalists: Sequence[Place], measurements: Measurements, split: str | None) -> Place:
    """The finalist that is best on a split; without one, the best on the search data. Of equals the one that was
    better on the search data. Where all fail on the split, the best on the search data."""
    if split is None or len(finalists) == 1:
        return finalists[0]
    results = measurements.scores({place.name: place.genome for place in finalists}, split)
    return finalists[int(best_first(results)[0])]
