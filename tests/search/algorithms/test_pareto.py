"""Fronts of score vectors, against definitions and against pymoo."""

import numpy as np
import pytest
from pymoo.indicators.hv import HV

from jaxmerge.search.algorithms.pareto import hypervolume, knee, nondominated, spaced


@pytest.mark.parametrize("columns", [2, 3])
def test_a_front_is_what_nothing_dominates(columns: int) -> None:
    points = np.random.default_rng(columns).integers(0, 6, (80, columns)).astype(np.float64)
    mask = nondominated(points)
    for place, point in enumerate(points):
        beaten = ((points >= point).all(1) & (points > point).any(1)).any()
        copied = (points[:place] == point).all(1).any()
        assert mask[place] == (not beaten and not copied)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_hypervolume_is_pymoos(columns: int) -> None:
    points = np.random.default_rng(0).random((20, columns))
    assert hypervolume(points, np.full(columns, 0.1)) == pytest.approx(HV(np.full(columns, -0.1))(-points))
    assert hypervolume(points, np.ones(columns)) == 0


def test_the_knee_bends_most() -> None:
    points = np.array([[0.0, 10.0], [0.5, 9.5], [0.8, 8.0], [0.95, 3.0], [1.0, 0.0]])
    assert knee(points) == 2
    assert knee(points * [100, 1] + [7, -3]) == 2
    assert knee(points[:1]) == 0
    assert knee(points[[0, 4]]) == 0  # as far in front as each other: the first
    corner = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.6, 0.6], [0, 0, 1.0]])
    assert knee(corner) == 2


def test_a_front_is_thinned_evenly_and_keeps_its_ends() -> None:
    x = np.concatenate([np.linspace(0, 0.1, 20), np.linspace(0.2, 1, 9)])
    points = np.stack([x, 1 - x], axis=1)
    kept = spaced(points, 8)
    assert len(kept) == 8 and {0, len(x) - 1} <= set(kept)
    assert np.diff(x[kept]).max() < 0.25
    assert (spaced(points, 100) == np.arange(len(x))).all()
