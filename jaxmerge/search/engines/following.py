"""What gradients say of a candidate: how its score changes with its genes, as a whole and example by example."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.objectives.interface import Objective
from jaxmerge.population.runner import Programs
from jaxmerge.search.costs import GRADIENT
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.result import Result


@dataclass(frozen=True)
class Relaxation:
    """A space made smooth. values: of one candidate, of a genome. pulled: a gradient by the values to one by the
    genes."""

    programs: Programs
    values: Callable[[np.ndarray], dict[str, np.ndarray]]
    pulled: Callable[[dict[str, np.ndarray]], np.ndarray]


def gradient_at(
    genome: np.ndarray,
    relaxed: Relaxation,
    objectives: Sequence[Objective],
    weights: Mapping[str, float],
    draw: int | None,
) -> Result:
    """See `search.engine.Engine.gradients`."""
    started = time.perf_counter()
    values = relaxed.values(genome)
    gradient, scores = np.zeros(len(genome), np.float64), {}
    for objective in objectives:
        score, by_value = relaxed.programs.gradient(values, objective.reference("search", draw))
        scores[objective.name] = float(score) if np.isfinite(score) else None
        gradient += weights[objective.name] * relaxed.pulled(by_value)
    bad = [f"{name}: the score is NaN or infinite" for name, score in scores.items() if score is None]
    mean = sum(weights[name] * score for name, score in scores.items() if score is not None)
    return Result(
        None if bad else mean,
        0.0,
        dict(scores),
        time.perf_counter() - started,
        bad[0] if bad else None,
        gradient=gradient.astype(np.float32),
        forwards=GRADIENT,
    )


def linearised_at(
    genome: np.ndarray, relaxed: Relaxation, objectives: Sequence[Objective], draw: int | None
) -> Linearised:
    """See `search.engine.Engine.linearised`."""
    started = time.perf_counter()
    values, slopes, scores = {}, {}, {}
    at = relaxed.values(genome)
    for objective in objectives:
        wanted = objective.reference("search", draw)
        sums, by_value = relaxed.programs.jacobian(at, wanted)
        # Each example has one sequence with a share: its reference answer.
        real = np.flatnonzero(wanted.shares)
        means = wanted.shares[real].astype(np.float64) * len(real)
        pulled = [relaxed.pulled({name: array[n] for name, array in by_value.items()}) for n in real]
        values[objective.name] = means * sums[real]
        slopes[objective.name] = means[:, None] * np.stack(pulled)
        scores[objective.name] = wanted.is_score
    return Linearised(genome, values, slopes, scores, time.perf_counter() - started)
