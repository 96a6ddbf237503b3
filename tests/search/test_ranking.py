"""Tie-safe ranks: what algorithms are told."""

import jax
import numpy as np
import pytest

from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.keys import draw_key, stage_key
from jaxmerge.search.ranking import best_first, composite, ordinal
from jaxmerge.search.result import Result


def results(*pairs: tuple[float | None, float]) -> list[Result]:
    return [Result(score, tie, {}, 0.0) for score, tie in pairs]


def test_ranks_order_by_score_then_tie_and_failures_come_last() -> None:
    given = results((0.5, -2.0), (0.75, -9.0), (None, 0.0), (0.5, -1.0), (float("nan"), 5.0), (0.5, float("nan")))
    ranks = ordinal(given, jax.random.key(0))
    assert list(np.argsort(ranks)[:4]) == [1, 3, 0, 5]
    assert set(np.argsort(ranks)[4:]) == {2, 4}
    assert ranks.min() == -0.5 and ranks.max() == 0.5 and len(set(ranks.tolist())) == 6
    assert list(best_first(given)) == [1, 3, 0, 5, 4, 2] or list(best_first(given))[:4] == [1, 3, 0, 5]


def test_exact_ties_are_ordered_by_the_key_alone() -> None:
    flat = results(*[(0.25, 0.0)] * 12)
    first, again, other = (ordinal(flat, jax.random.key(seed)) for seed in (1, 1, 2))
    assert sorted(first) == sorted(other) and len(set(first.tolist())) == 12
    assert (first == again).all() and (first != other).any()


def test_a_tie_breaker_never_outweighs_one_example() -> None:
    n = 64
    fitness = composite(results((10 / n, 1e9), (11 / n, -1e9), (10 / n, -3.0), (10 / n, -2.0)), 1 / n)
    assert list(np.argsort(fitness)) == [1, 0, 3, 2]


def test_composite_of_failures_is_finite_and_worst() -> None:
    fitness = composite(results((None, 0.0), (0.1, 0.0), (0.9, 0.0)), 0.01)
    assert np.isfinite(fitness).all() and fitness.argmax() == 0
    assert np.isfinite(composite(results((None, 0.0), (None, 0.0)), 0.01)).all()


@pytest.mark.parametrize("name", ["CMA_ES", "Sep_CMA_ES"])
def test_a_flat_fitness_does_not_collapse_the_step(name: str) -> None:
    made = algorithm(name, 6, sigma=0.2)
    key = stage_key(0, "parameter")
    state = made.init(draw_key(key, 0, "init"), np.full(6, 0.5, np.float32))
    for generation in range(60):
        genomes, state = made.ask(draw_key(key, generation, "ask"), generation, state)
        folded = reflect(genomes)
        fitness = ordinal(results(*[(0.5, 0.0)] * made.population), draw_key(key, generation, "ties"))
        state = made.tell(draw_key(key, generation, "tell"), generation, folded, fitness, state)
    assert 0.02 < float(state.std) < 2.0


def test_reflection_folds_at_the_walls() -> None:
    points = np.array([[0.0, 1.0, 0.3, -0.2, 1.25, 2.5, -1.75, 7.0]], np.float32)
    np.testing.assert_allclose(reflect(points), [[0.0, 1.0, 0.3, 0.2, 0.75, 0.5, 0.25, 1.0]], atol=1e-6)
    inside = np.random.default_rng(0).random((50, 3), np.float32)
    assert reflect(inside).tobytes() == inside.tobytes()
