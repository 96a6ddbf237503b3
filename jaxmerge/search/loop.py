"""Ask, evaluate, log, tell.

A generation's state depends on what was told before, so a run is resumed by replaying its history: everything
is asked and told again, only the evaluation is taken from the record. What is asked must then be what is
recorded, bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jax import Array

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.registry import Algorithm, several
from jaxmerge.search.examples import Examples, Scores
from jaxmerge.search.history import Generation, History, clean
from jaxmerge.search.host import on_host
from jaxmerge.search.keys import draw_key, stage_key
from jaxmerge.search.progress import Report, Tally, measure
from jaxmerge.search.ranking import composite, descents, example_losses, losses, ordinal
from jaxmerge.search.result import Result
from jaxmerge.search.snapshot import Snapshots

# Genomes `[P, d]` and the generation, which names the draw of a sampled objective.
Score = Callable[[np.ndarray, int], list[Result]]


class Screen(Protocol):
    """Sends away most of what is drawn before it is scored."""

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        """As `Algorithm.ask`, but `[A, d]` of more genomes."""
        ...

    def recorded(self, drawn: np.ndarray, generation: Generation) -> np.ndarray:
        """Those of them that a recorded generation has."""
        ...

    def score(self, drawn: np.ndarray, generation: int, score: Score) -> tuple[np.ndarray, list[Result]]:
        """Those that are scored, `[P, d]`, and their results."""
        ...


@dataclass(frozen=True)
class Limit:
    """Where a stage ends: at the first limit that is reached. Every stage has at least one generation.

    candidates: or as many forward passes, see `costs`. extra: what every `every`th generation costs besides its
    candidates."""

    generations: int | None = None
    candidates: int | None = None
    seconds: float | None = None
    extra: int = 0
    every: int = 1

    def cost(self, generations: int, population: int) -> int:
        """Of so many generations, in candidates."""
        return generations * population + self.extra * -(-generations // self.every)

    def reached(self, done: int, population: int, seconds: float) -> bool:
        if done == 0:
            return False
        return (
            (self.generations is not None and done >= self.generations)
            or (self.candidates is not None and self.cost(done + 1, population) > self.candidates)
            or (self.seconds is not None and seconds >= self.seconds)
        )

    def total(self, population: int) -> int | None:
        """The number of generations, where it is known in advance."""
        counts = [
            self.generations,
            None if self.candidates is None else self._affordable(self.candidates, population),
        ]
        return min((count for count in counts if count is not None), default=None)

    def _affordable(self, candidates: int, population: int) -> int:
        most = candidates // population
        while most > 1 and self.cost(most, population) > candidates:
            most -= 1
        return max(1, most)


@dataclass(frozen=True)
class Stage:
    """One search over one space.

    start: float32 `[d]`. resolution: see `ranking.composite`. objectives: their names, for an algorithm that is told
    of several.
    """

    name: str
    algorithm: Algorithm
    start: np.ndarray
    seed: int
    limit: Limit
    resolution: float = 0.0
    objectives: tuple[str, ...] = ()


def search(
    stage: Stage,
    score: Score,
    history: History,
    snapshots: Snapshots | None = None,
    report: Report | None = None,
    examples: Examples | None = None,
    screen: Screen | None = None,
) -> list[Generation]:
    """Run a stage to its limit, from wherever its history stands, and give back its generations.

    score: asked once for each generation that is not in the history; again, for an algorithm that is told of examples,
    where `examples` no longer has those of a generation. report: called after every generation that was evaluated now.
    screen: asks in the algorithm's place, and chooses what is scored and told.
    Raises InputError where the recorded genomes are not those that this config asks for.
    """
    algorithm = stage.algorithm
    recorded = history.stage(stage.name)
    with on_host():
        key = stage_key(stage.seed, stage.name)
        state = algorithm.init(draw_key(key, 0, "init"), stage.start)
    number = 0
    if recorded and snapshots and (stored := snapshots.load(state, history)):
        number, state = stored[0] + 1, stored[1]
    seconds = history.seconds(stage.name)
    tally = Tally()
    for generation in recorded:
        tally.add(generation)
    while number < len(recorded) or not stage.limit.reached(number, algorithm.population, seconds):
        with on_host():
            asked, state = (screen or algorithm).ask(draw_key(key, number, "ask"), number, state)
        genomes = reflect(asked)
        if not np.isfinite(genomes).all():
            raise InputError(
                f"search.algorithm: it asked for something that is no number in generation {number}; "
                "its steps have collapsed or exploded; take other options or another algorithm"
            )
        if number < len(recorded):
            generation = recorded[number]
            genomes = screen.recorded(genomes, generation) if screen else genomes
            _same(generation, genomes, history)
            kept = examples.load(generation) if examples and several(algorithm) == "examples" else None
        else:
            genomes, results = screen.score(genomes, number, score) if screen else (genomes, score(genomes, number))
            generation = Generation(stage.name, number, genomes, clean(results))
            kept = [result.examples for result in results]
            if examples and several(algorithm) == "examples":
                examples.save(number, kept)
            history.append(generation)
            recorded.append(generation)
            tally.add(generation)
            seconds += sum(result.seconds for result in generation.results)
            if report:
                report(measure(stage.name, tally, stage.limit, algorithm.population, seconds))
        if kept is None and several(algorithm) == "examples":
            kept = [result.examples for result in score(genomes, number)]
        with on_host():
            fitness = _fitness(stage, generation, kept, draw_key(key, number, "ties"))
            state = algorithm.tell(draw_key(key, number, "tell"), number, genomes, fitness, state)
        if snapshots:
            snapshots.save(number, state, history)
        number += 1
    return recorded


def _fitness(stage: Stage, generation: Generation, examples: Scores | None, key: Array) -> np.ndarray:
    """What the algorithm is told of a generation."""
    if several(stage.algorithm) == "objectives":
        return losses(generation.results, stage.objectives)
    if several(stage.algorithm) == "examples":
        assert examples is not None
        return example_losses(generation.results, examples, stage.objectives)
    if several(stage.algorithm) == "gradient":
        return descents(generation.results, generation.genomes.shape[1])
    if stage.algorithm.compares:
        return composite(generation.results, stage.resolution)
    return ordinal(generation.results, key)


def _same(generation: Generation, genomes: np.ndarray, history: History) -> None:
    if generation.genomes.shape != genomes.shape or generation.genomes.tobytes() != genomes.tobytes():
        raise InputError(
            f"{history.file}: generation {generation.number} of '{generation.stage}' holds other candidates "
            "than this config asks for; it was changed or made elsewhere: start in a new folder"
        )
