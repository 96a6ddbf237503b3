"""What was scored before is not run again."""

import numpy as np

from jaxmerge.search.engines.memory import KEPT, Memory, identities
from jaxmerge.search.result import Result


def test_every_candidate_is_scored_once() -> None:
    memory, ran = Memory(), []

    def score(places: list[int]) -> list[Result]:
        ran.append(list(places))
        return [Result(float(place), 0.0, {}, 2.0) for place in places]

    results = memory.recall(["a", "b", "a"], score)
    assert ran == [[0, 1]]
    assert [(result.score, result.seconds) for result in results] == [(0.0, 2.0), (1.0, 2.0), (0.0, 2.0)]
    results = memory.recall(["b", "c"], score)
    assert ran[1:] == [[1]] and [(r.score, r.seconds) for r in results] == [(1.0, 2.0), (1.0, 2.0)]
    memory.recall(["a", "b", "c"], score)
    assert len(ran) == 2


def test_the_latest_are_kept() -> None:
    memory, ran = Memory(), []

    def score(places: list[int]) -> list[Result]:
        ran.extend(places)
        return [Result(1.0, 0.0, {}, 1.0) for _ in places]

    memory.recall(list(range(KEPT + 1)), score)
    memory.recall([KEPT], score)
    assert len(ran) == KEPT + 1
    memory.recall([0], score)
    assert len(ran) == KEPT + 2


def test_candidates_are_told_apart_by_all_that_they_are_made_of() -> None:
    values = {"a": np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], np.float32), "b": np.array([0, 1, 0], np.int32)}
    first, other, same = identities(values)
    assert first == same != other
