"""Where a search starts after a descent: gradient steps from the start that it would have had.

The steps are a stage of the history like a search's generations, so that they are replayed and not made again.
"""

from dataclasses import replace

import numpy as np

from jaxmerge.search.algorithms.descent import build
from jaxmerge.search.config import EvolveConfig, warm_start_of
from jaxmerge.search.costs import GRADIENT
from jaxmerge.search.engine import Engine
from jaxmerge.search.history import History
from jaxmerge.search.loop import Limit, Score, Stage, search
from jaxmerge.search.progress import Report
from jaxmerge.search.ranking import best_first
from jaxmerge.search.result import Result
from jaxmerge.search.snapshot import Snapshots


def descend(
    config: EvolveConfig,
    engine: Engine,
    history: History,
    start: np.ndarray,
    origin: str,
    snapshots: Snapshots,
    report: Report,
) -> tuple[np.ndarray, str]:
    """The genome at which the reference answers were most likely, and what it comes from. start: float32 `[d]`, and
    where no step gave a number the result. origin: what start is."""
    wanted = config.search.warm_start
    assert wanted is not None
    made = build(wanted.optimizer, engine.dimension, 1, {"learning_rate": wanted.learning_rate})
    first = engine.relaxed(start)
    stage = Stage(warm_start_of(config.stage), made, first, config.search.seed, Limit(generations=wanted.steps))
    steps = search(stage, lambda genomes, _: engine.gradients(genomes), history, snapshots, report)
    results = [step.results[0] for step in steps]
    best = int(best_first(results)[0])
    if results[best].score is None:
        return start, origin
    whence = f"{engine.relaxed_origin(origin)}, then {wanted.steps} gradient steps"
    return engine.tightened(steps[best].genomes[0]), whence


def forwards(history: History, search: str) -> float:
    """What a search has cost so far with the steps before it, see `costs`."""
    return history.forwards(warm_start_of(search)) + history.forwards(search)


def followed(score: Score, engine: Engine) -> Score:
    """Scores with gradients, for an algorithm that is told of them. Where a gradient comes with the score, nothing is
    scored besides."""

    def descents(genomes: np.ndarray, generation: int) -> list[Result]:
        return engine.gradients(genomes, generation if engine.sampled else None)

    def both(genomes: np.ndarray, generation: int) -> list[Result]:
        return [
            replace(
                result, gradient=descent.gradient, seconds=result.seconds + descent.seconds, forwards=1 + GRADIENT
            )
            for result, descent in zip(score(genomes, generation), descents(genomes, generation), strict=True)
        ]

    return descents if engine.gradient_scores else both
