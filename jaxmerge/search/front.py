"""The candidates of a search that no other beats in every objective, and which of them wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxmerge.search.algorithms.pareto import hypervolume, knee, nondominated, normalized, spaced
from jaxmerge.search.algorithms.registry import Algorithm, several
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.finalists import Place, distinct_places
from jaxmerge.search.history import Generation
from jaxmerge.search.measurements import Measurements
from jaxmerge.search.ranking import best_first, losses
from jaxmerge.search.result import Result

# Each is scored again on validation and on test.
LARGEST = 16

Rule = Literal["knee", "weights"]


@dataclass(frozen=True)
class Fronts:
    """How fronts are made and chosen from.

    objectives: their names. rule: `weights` takes the best weighted mean, `knee` the point farthest in front of the
    hyperplane between the extremes. sampled: the search's scores are of draws, so that they have to be measured again
    on all of its data.
    """

    objectives: tuple[str, ...]
    rule: Rule
    sampled: bool

    def of(self, generations: Sequence[Generation], measurements: Measurements) -> list[Place]:
        """A stage's front on the search data, by falling (score, tie); at most LARGEST, evenly spaced."""
        places = self._front(distinct_places(generations))
        if self.sampled:
            results = measurements.scores({place.name: place.genome for place in places}, "search")
            again = [
                Place(place.stage, place.generation, place.index, place.genome, result)
                for place, result in zip(places, results, strict=True)
                if result.score is not None
            ]
            places = self._front(again) or places
        return places

    def choose(self, front: Sequence[Place], measurements: Measurements, split: str | None) -> Place:
        """The rule's point of a front by the scores on a split; without one, on the search data."""
        results: Sequence[Result] = [place.result for place in front]
        if split is not None:
            results = measurements.scores({place.name: place.genome for place in front}, split)
        order = [int(i) for i in best_first(results) if results[i].score is not None]
        if not order or self.rule == "weights":
            return front[order[0] if order else 0]
        points = -losses([results[i] for i in order], self.objectives)
        there = np.flatnonzero(nondominated(points))
        return front[order[there[knee(points[there])]]]

    def summary(
        self, front: Sequence[Place], rivals: Sequence[Place], measurements: Measurements, splits: Sequence[str]
    ) -> dict[str, Any]:
        """`front`: its points with their scores by objective on every split, None where the split has no data.
        `hypervolume`: of the front and of random search's on the search data, in the box between the worst and the best
        of both."""
        rows = []
        for place in front:
            row: dict[str, Any] = {"candidate": place.name, "search": dict(place.result.scores)}
            for split in ("validation", "test"):
                there = measurements.of(place.name, place.genome, split).result.scores if split in splits else None
                row[split] = None if there is None else dict(there)
            rows.append(row)
        points = {"search": self._points(front)} | ({RANDOM_SEARCH: self._points(rivals)} if rivals else {})
        everything = np.concatenate(list(points.values()))
        low, high = everything.min(axis=0), everything.max(axis=0)
        floor = np.zeros(len(self.objectives))
        volumes = {name: hypervolume(normalized(of, low, high), floor) for name, of in points.items()}
        return {"pick": self.rule, "front": rows, "hypervolume": volumes}

    def _points(self, places: Sequence[Place]) -> np.ndarray:
        return -losses([place.result for place in places], self.objectives)

    def _front(self, places: Sequence[Place]) -> list[Place]:
        if not places:
            return []
        ordered = [places[i] for i in best_first([place.result for place in places])]
        points = self._points(ordered)
        there = np.flatnonzero(nondominated(points))
        return [ordered[i] for i in there[spaced(points[there], LARGEST)]]


def fronts_of(config: EvolveConfig, engine: Engine, algorithm: Algorithm) -> Fronts | None:
    """How a run's fronts are made; None where its algorithm searches for one best candidate."""
    if several(algorithm) != "objectives":
        return None
    names = tuple(objective.name for objective in config.objectives)
    return Fronts(names, config.search.pick or "weights", engine.sampled)
