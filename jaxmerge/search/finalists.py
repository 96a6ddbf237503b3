"""From many candidates to one: the best on the search data are ranked again on validation."""

from collections.abc import Callable, Sequence
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


# What tells candidates apart: digests of genomes `[P, d]`.
Identify = Callable[[np.ndarray], Sequence[bytes]]


def by_bits(genomes: np.ndarray) -> list[bytes]:
    return [genome.tobytes() for genome in genomes]


def best_places(
    generations: Sequence[Generation], count: int = FINALISTS, identify: Identify = by_bits
) -> list[Place]:
    """The best distinct candidates that have a score, by (score, tie); of equals the earliest."""
    places = distinct_places(generations, identify)
    order = best_first([place.result for place in places])
    return [places[position] for position in order[:count]]


def distinct_places(generations: Sequence[Generation], identify: Identify = by_bits) -> list[Place]:
    """Every candidate that has a score, in the order of the history; of equal ones the best, by (score, tie)."""
    places = [
        Place(generation.stage, generation.number, index, generation.genomes[index], result)
        for generation in generations
        for index, result in enumerate(generation.results)
        if result.score is not None
    ]
    if not places:
        return []
    keys, found = identify(np.stack([place.genome for place in places])), dict[bytes, int]()
    for position in best_first([place.result for place in places]):
        found.setdefault(keys[position], int(position))
    return [places[position] for position in sorted(found.values())]


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
