"""The course of a search, from its history: best so far, and the spread of each generation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.search.config import RANDOM_SEARCH
from jaxmerge.search.history import Generation
from jaxmerge.search.ranking import columns

# A longer search is thinned to this many generations before it is drawn.
_DRAWN = 500


@dataclass(frozen=True)
class Curve:
    """The best score so far. x: candidates evaluated, ascending. best: float64, same length."""

    x: np.ndarray
    best: np.ndarray


@dataclass(frozen=True)
class Spread:
    """A generation a point. x: candidates evaluated at its end.
    low, middle, high: its 10th, 50th and 90th percentile, float64, same length."""

    x: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def searched(history: Sequence[Generation]) -> list[Generation]:
    """The search's own generations."""
    return [generation for generation in history if generation.stage != RANDOM_SEARCH]


def random_search(history: Sequence[Generation]) -> list[Generation]:
    """The control's generations."""
    return [generation for generation in history if generation.stage == RANDOM_SEARCH]


def best_so_far(generations: Sequence[Generation]) -> Curve:
    """A point where the best changes, and one at the end; empty where no candidate has a final score."""
    x: list[int] = []
    best: list[float] = []
    everything = [result for generation in generations for result in generation.results]
    for position, result in enumerate(everything, 1):
        # Others were scored on a few examples.
        score = result.score if result.final else None
        if score is not None and (not best or score > best[-1]):
            x.append(position)
            best.append(score)
    if best:
        x.append(len(everything))
        best.append(best[-1])
    return Curve(np.array(x), np.array(best))


def spread(generations: Sequence[Generation]) -> Spread:
    """The generations' percentiles, of estimates where there are such; failed candidates do not count, a generation
    without scores is left out."""
    points, position = [], 0
    for generation in generations:
        position += len(generation.results)
        scores = columns(generation.results)[0]
        found = scores[np.isfinite(scores)]
        if found.size:
            points.append((position, *np.percentile(found, [10, 50, 90])))
    points = points[:: len(points) // _DRAWN + 1]
    x, low, middle, high = np.array(points).reshape(-1, 4).T
    return Spread(x, low, middle, high)
