"""Races on score matrices whose winners are known."""

import jax
import numpy as np
import pytest

from jaxmerge.search.evaluation.racing import Race, chances
from jaxmerge.search.ranking import best_first, composite, ordinal
from jaxmerge.search.result import Result

EXAMPLES, BLOCK, FIRST = 192, 16, 2


def race(matrix: np.ndarray, error: float = 0.05, keep: int = 1, champion: np.ndarray | None = None) -> np.ndarray:
    """After how many examples each row left; EXAMPLES for those that stayed."""
    known = None if champion is None else {"it": champion}
    made = Race({"it": EXAMPLES}, {"it": 1.0}, [["it"]], error, np.ones(len(matrix), bool), keep, known)
    left = np.full(len(matrix), EXAMPLES)
    for seen in range(BLOCK * FIRST, EXAMPLES, BLOCK):
        examples = np.where(np.arange(EXAMPLES) < seen, matrix, np.nan)
        left[made.judge({"it": examples})] = seen
    return left


def answers(rng: np.random.Generator, abilities: np.ndarray) -> np.ndarray:
    """Right or wrong, float `[P, N]`, harder for some examples than for others."""
    odds = abilities[:, None] - rng.normal(0, 1.5, EXAMPLES)
    return (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(np.float64)


def test_the_best_stays_as_often_as_stated_and_most_examples_are_saved() -> None:
    kept, spent = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        matrix = answers(rng, rng.normal(0, 1, 16))
        left = race(matrix)
        means = matrix.mean(axis=1)
        kept.append(left[means == means.max()].max() == EXAMPLES)
        spent.append(left.mean() / EXAMPLES)
    assert np.mean(kept) >= 0.95
    assert np.mean(spent) < 0.5


def test_the_best_half_stays_where_it_is_asked_for() -> None:
    kept = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        matrix = answers(rng, rng.normal(0, 1.5, 12))
        left = race(matrix, keep=6)
        kept.append((left[np.argsort(-matrix.mean(axis=1), kind="stable")[:6]] == EXAMPLES).all())
    assert np.mean(kept) >= 0.95


def test_a_clear_loser_leaves_at_the_first_look() -> None:
    matrix = answers(np.random.default_rng(0), np.array([2.0, 2.1, -3.0]))
    left = race(matrix)
    assert left[2] == BLOCK * FIRST and left[:2].max() == EXAMPLES


def test_equals_stay() -> None:
    row = answers(np.random.default_rng(1), np.array([0.5]))
    assert (race(np.repeat(row, 8, axis=0)) == EXAMPLES).all()


def test_two_examples_prove_nothing() -> None:
    sizes, weights = {"it": 100}, {"it": 1.0}
    few, many = (chances({"it": np.full((1, n), -1.0)}, sizes, weights)[0] for n in (2, 40))
    assert few > 0.05 > many


def test_a_chance_is_what_happens() -> None:
    """Calibrated: of candidates as good as any that are said to have 20% of being ahead in the end, about 20% are."""
    said, came = [], []
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        better = rng.uniform(0, 0.4)
        gap = rng.choice([-1.0, 0.0, 1.0], EXAMPLES, p=[0.4 - better, 0.6, better])
        said.append(chances({"it": gap[None, :64]}, {"it": EXAMPLES}, {"it": 1.0})[0])
        came.append(gap.mean() > 0)
    said, came = np.array(said), np.array(came)
    for low, high in ((0.02, 0.1), (0.1, 0.3), (0.3, 0.7)):
        there = (said > low) & (said < high)
        assert abs(came[there].mean() - said[there].mean()) < 0.06


def test_all_examples_leave_no_doubt() -> None:
    gap = np.array([[1.0, -1.0, -1.0, 0.0], [1.0, 1.0, -1.0, 0.0]])
    assert chances({"it": gap}, {"it": 4}, {"it": 1.0}).tolist() == [0.0, 1.0]


def two_objectives(matrices: dict[str, np.ndarray], groups: list[list[str]], places: dict[str, np.ndarray]) -> int:
    """How many leave when `places` have been seen of two objectives of equal weight."""
    sizes = dict.fromkeys(matrices, EXAMPLES)
    made = Race(sizes, {"a": 0.5, "b": 0.5}, groups, 0.05, np.ones(len(matrices["a"]), bool))
    shown = {n: np.where(np.isin(np.arange(EXAMPLES), places[n]), m, np.nan) for n, m in matrices.items()}
    return int(made.judge(shown).sum())


def test_objectives_over_the_same_examples_are_added_up_before_they_are_compared() -> None:
    """A small share of wrong decisions is kept where two objectives say the same of each example."""
    rng = np.random.default_rng(5)
    wrong = {"together": 0, "apart": 0, "one": 0}
    alike = {name: np.arange(32) for name in "ab"}
    for _ in range(400):
        base = answers(rng, np.array([0.0]))[0]
        flips = rng.random((2, EXAMPLES)) < 0.3
        matrix = np.where(flips, 1 - base, base)
        both = {"a": matrix, "b": matrix}
        wrong["together"] += two_objectives(both, [["a", "b"]], alike)
        wrong["apart"] += two_objectives(both, [["a"], ["b"]], alike)
        wrong["one"] += (race(matrix) == BLOCK * FIRST).any()
    assert wrong["together"] == wrong["one"] < wrong["apart"]


def test_objectives_that_cancel_out_leave_no_doubt() -> None:
    """What one gains the other loses: their sum is certain, and one that is a little better wins at once."""
    up = np.random.default_rng(6).normal(0, 1, (2, EXAMPLES))
    both = {"a": up, "b": np.array([[0.0], [-0.02]]) - up}
    alike = {name: np.arange(32) for name in "ab"}
    assert two_objectives(both, [["a", "b"]], alike) == 1
    assert two_objectives(both, [["a"], ["b"]], alike) == 0


def test_objectives_dealt_differently_are_not_paired_by_place() -> None:
    rng = np.random.default_rng(7)
    both = {"a": rng.normal(0, 1, (3, EXAMPLES)), "b": rng.normal(0, 1, (3, EXAMPLES))}
    places = {"a": np.arange(32), "b": np.arange(40, 80)}
    assert two_objectives(both, [["a", "b"]], places) == two_objectives(both, [["a"], ["b"]], places)


def test_variances_of_objectives_add_up() -> None:
    rng = np.random.default_rng(2)
    gap = rng.normal(-0.1, 1, (1, 80))
    one = chances({"a": gap}, {"a": 200}, {"a": 1.0})
    halves = {"a": gap, "b": np.zeros((1, 30))}
    two = chances(halves, {"a": 200, "b": 60}, {"a": 1.0, "b": 0.0})
    assert one == pytest.approx(two)
    noisy = {"a": np.full((1, 80), -0.1), "b": rng.normal(0, 1, (1, 10))}
    weights = {"a": 0.5, "b": 0.5}
    assert chances(noisy, {"a": 200, "b": 60}, weights)[0] > chances({"a": noisy["a"]}, {"a": 200}, {"a": 1.0})[0]


def test_who_is_behind_the_champion_leaves() -> None:
    rng = np.random.default_rng(3)
    matrix = answers(rng, np.full(8, -0.5))
    assert (race(matrix) == EXAMPLES).sum() >= 2
    champion = answers(rng, np.array([4.0]))[0]
    assert (race(matrix, champion=champion) < EXAMPLES).all()


def test_ranks_put_who_stayed_first_and_who_failed_last() -> None:
    given = [
        Result(0.9, 0.0, {}, 0.0, left=2),
        Result(0.5, 0.0, {}, 0.0),
        Result(None, 0.0, {}, 0.0, "it failed"),
        Result(0.4, 0.0, {}, 0.0, left=5),
        Result(0.6, 0.0, {}, 0.0),
        Result(0.3, 0.0, {}, 0.0, left=2),
    ]
    order = [4, 1, 3, 0, 5, 2]
    assert best_first(given).tolist() == order
    assert np.argsort(ordinal(given, jax.random.key(0))).tolist() == order
    fitness = composite(given, 0.01)
    assert (np.diff(fitness[order]) >= 0).all() and np.isfinite(fitness).all()
