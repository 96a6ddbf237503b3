"""The course of a search, from its history: best so far, and the spread of each generation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from jaxmerge.report.run_data import Candidate
from jaxmerge.report.standings import RANDOM_SEARCH

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


def searched(history: Sequence[Candidate]) -> list[Candidate]:
    """The search's own candidates, in the order they were proposed."""
    return _ordered(c for c in history if c.stage != RANDOM_SEARCH)


def random_search(history: Sequence[Candidate]) -> list[Candidate]:
    """The control's candidates, in the order they were drawn."""
    return _ordered(c for c in history if c.stage == RANDOM_SEARCH)


def best_so_far(candidates: Sequence[Candidate]) -> Curve:
    """A point where the best changes, and one at the end; empty where no candidate has a score."""
    x: list[int] = []
    best: list[float] = []
    for position, candidate in enumerate(candidates, 1):
        if candidate.score is not None and (not best or candidate.score > best[-1]):
            x.append(position)
            best.append(candidate.score)
    if best:
        x.append(len(candidates))
        best.append(best[-1])
    return Curve(np.array(x), np.array(best))


def spread(candidates: Sequence[Candidate]) -> Spread:
    """The generations' percentiles; failed candidates do not count, a generation without scores is left out."""
    points, position = [], 0
    for _, generation in groupby(candidates, key=lambda c: (c.stage, c.generation)):
        members = list(generation)
        scores = [c.score for c in members if c.score is not None]
        position += len(members)
        if scores:
            points.append((position, *np.percentile(scores, [10, 50, 90])))
    points = points[:: len(points) // _DRAWN + 1]
    x, low, middle, high = np.array(points).reshape(-1, 4).T
    return Spread(x, low, middle, high)


def _ordered(candidates: Iterable[Candidate]) -> list[Candidate]:
    # The sort is stable: stages keep the order in which they first appear.
    kept = list(candidates)
    stages = {stage: place for place, stage in enumerate(dict.fromkeys(c.stage for c in kept))}
    return sorted(kept, key=lambda c: (stages[c.stage], c.generation, c.index))
