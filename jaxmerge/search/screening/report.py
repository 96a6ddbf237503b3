"""What screening spent, how well it ranked, and what the Jacobian says of the winner."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxmerge.search.engine import Engine
from jaxmerge.search.history import Generation


def screened(engine: Engine, generations: Sequence[Generation], winner: np.ndarray) -> dict[str, Any]:
    """A summary's `screening`.

    forwards: what the search cost, in forward passes (see `costs`). rank_correlation: Spearman's between the scores as
    predicted and as they were, the mean over generations, of those that were scored; they are the best as predicted, so
    that it says less than one over all that were drawn. sensitivity: for each gene the root mean square over the
    examples of how fast what is smooth in their scores changes with it at the winner, as weighted.
    """
    ranks = [rank for generation in generations if (rank := _rank(generation)) is not None]
    results = [result for generation in generations for result in generation.results]
    near = engine.linearised(winner)
    squares = [engine.weights[name] * (slopes**2).mean(axis=0) for name, slopes in near.slopes.items()]
    return {
        "forwards": sum(1 if result.forwards is None else result.forwards for result in results),
        "rank_correlation": float(np.mean(ranks)) if ranks else None,
        "sensitivity": [float(value) for value in np.sqrt(np.sum(squares, axis=0))],
    }


def _rank(generation: Generation) -> float | None:
    pairs = [(r.predicted, r.score) for r in generation.results if r.score is not None and r.predicted is not None]
    if len(pairs) < 3 or any(np.ptp(column) == 0 for column in zip(*pairs, strict=True)):
        return None
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
