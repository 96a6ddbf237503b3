"""From results to the fitness that algorithms are told. Lower is better there, as evosax has it.

Shares over a few dozen examples tie all the time, and tied fitness collapses CMA-ES: its step falls from 0.2
to 1e-7 in 60 flat generations. So ranks are ordinal: by score, then by tie-breaker, then at random.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax import Array

from jaxmerge.search.result import Result

WORST = -np.inf


def columns(results: Sequence[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, as estimated where there is an estimate, and tie-breakers, float64 `[P]`; what failed or is not a number
    is -inf."""
    values = [r.score if r.estimate is None or r.score is None else r.estimate for r in results]
    scores = np.array([WORST if value is None else value for value in values], np.float64)
    ties = np.array([r.tie for r in results], np.float64)
    return np.where(np.isnan(scores), WORST, scores), np.where(np.isnan(ties), WORST, ties)


def best_score(results: Sequence[Result]) -> float | None:
    """The best of the scores that are final, for others are of the first few examples; where none is, the best as
    estimated. None where no candidate has a score."""
    scores = columns([result for result in results if result.final])[0]
    if not np.isfinite(scores).any():
        scores = columns(results)[0]
    return float(scores.max()) if np.isfinite(scores).any() else None


def best_first(results: Sequence[Result]) -> np.ndarray:
    """Indices by falling (score, tie), who left a race after who stayed longer; what is still equal stays in its
    order."""
    scores, ties = columns(results)
    return np.lexsort((-ties, -scores, _absence(results)))


def _absence(results: Sequence[Result]) -> np.ndarray:
    """Orders a race: who stayed, then by falling number of blocks, then what failed. float64 `[P]`."""
    return np.array([np.inf if r.score is None else -np.inf if r.left is None else -r.left for r in results])


def ordinal(results: Sequence[Result], key: Array) -> np.ndarray:
    """Ranks without ties, float32 `[P]`, evenly from -0.5 (best) to 0.5; the order of equals is drawn from
    `key`."""
    scores, ties = columns(results)
    count = len(results)
    lot = np.asarray(jax.random.permutation(key, count))
    order = np.lexsort((lot, -ties, -scores, _absence(results)))
    ranks = np.empty(count, np.float64)
    ranks[order] = np.arange(count)
    return (ranks / max(count - 1, 1) - 0.5).astype(np.float32)


def composite(results: Sequence[Result], resolution: float) -> np.ndarray:
    """A fitness that can be compared between generations, float32 `[P]`.

    It is minus the score, less a share of `resolution` (the least meaningful difference of scores) that grows
    with the tie-breaker and stays below one half. A failed candidate is worse than the worst of its
    generation by the generation's spread, and finite, for not every algorithm takes NaN.
    """
    scores, ties = columns(results)
    finite = np.isfinite(scores)
    if not finite.any():
        return np.full(len(results), 1e6, np.float32)
    squashed = np.where(np.isfinite(ties), ties / (1.0 + np.abs(np.where(np.isfinite(ties), ties, 0.0))), -1.0)
    fitness = -(scores + 0.499 * resolution * squashed)
    worst, best = fitness[finite].max(), fitness[finite].min()
    fitness = np.where(finite, fitness, worst + max(worst - best, 1.0))
    order = best_first(results)
    if any(result.left is not None for result in results):
        # Of a few examples a loser may have a better mean than the winner has of all.
        fitness[order] = np.maximum.accumulate(fitness[order])
    return fitness.astype(np.float32)


def losses(results: Sequence[Result], objectives: Sequence[str]) -> np.ndarray:
    """Minus the score of each objective, float64 `[P, objectives]`; +inf throughout for a candidate that failed."""
    rows = [[result.scores.get(name) for name in objectives] for result in results]
    return np.array(
        [
            [np.inf] * len(objectives)
            if result.score is None or None in row
            else [-float(score or 0.0) for score in row]
            for result, row in zip(results, rows, strict=True)
        ],
        np.float64,
    ).reshape(len(results), len(objectives))


def example_losses(
    results: Sequence[Result], examples: Sequence[Mapping[str, np.ndarray] | None], objectives: Sequence[str]
) -> np.ndarray:
    """Minus the score of each example, float64 `[P, examples]`, objective after objective; +inf throughout for a
    candidate that failed, in one column where all did."""
    rows = [
        None if result.score is None or found is None else -np.concatenate([found[name] for name in objectives])
        for result, found in zip(results, examples, strict=True)
    ]
    width = next((row.size for row in rows if row is not None), 1)
    return np.stack([np.full(width, np.inf) if row is None else row.astype(np.float64) for row in rows])


def descents(results: Sequence[Result], dimension: int) -> np.ndarray:
    """Minus the gradient of each candidate, float64 `[P, d]`; +inf throughout for a candidate that failed."""
    failed = np.full(dimension, np.inf)
    found = [None if result.score is None else result.gradient for result in results]
    return np.stack([failed if gradient is None else -gradient.astype(np.float64) for gradient in found])
