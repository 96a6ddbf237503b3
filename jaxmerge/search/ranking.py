"""From results to the fitness that algorithms are told. Lower is better there, as evosax has it.

Shares over a few dozen examples tie all the time, and tied fitness collapses CMA-ES: its step falls from 0.2
to 1e-7 in 60 flat generations. So ranks are ordinal: by score, then by tie-breaker, then at random.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax import Array

from jaxmerge.search.result import Result

WORST = -np.inf


def columns(results: Sequence[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and tie-breakers, float64 `[P]`; what failed or is not a number is -inf."""
    scores = np.array([WORST if r.score is None else r.score for r in results], np.float64)
    ties = np.array([r.tie for r in results], np.float64)
    return np.where(np.isnan(scores), WORST, scores), np.where(np.isnan(ties), WORST, ties)


def best_first(results: Sequence[Result]) -> np.ndarray:
    """Indices by falling (score, tie); what is still equal stays in its order."""
    scores, ties = columns(results)
    return np.lexsort((-ties, -scores))


def ordinal(results: Sequence[Result], key: Array) -> np.ndarray:
    """Ranks without ties, float32 `[P]`, evenly from -0.5 (best) to 0.5; the order of equals is drawn from
    `key`."""
    scores, ties = columns(results)
    count = len(results)
    lot = np.asarray(jax.random.permutation(key, count))
    order = np.lexsort((lot, -ties, -scores))
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
    return np.where(finite, fitness, worst + max(worst - best, 1.0)).astype(np.float32)
