import numpy as np
import pytest

from jaxmerge.objectives.interface import Scored
from jaxmerge.objectives.weighted import score_all


class Fixed:
    discrete = False

    def __init__(self, name: str, weight: float, examples, ties, errors=None) -> None:
        self.name, self.weight = name, weight
        self.scored = Scored(np.float32(examples), np.float32(ties), errors=errors)

    def score(self, runner, split, draw=None) -> Scored:
        return self.scored


def test_scores_are_the_weighted_mean(fake_runner) -> None:
    objectives = [
        Fixed("a", 1.0, [[1, 0], [1, 1]], [-1, -2]),
        Fixed("b", 3.0, [[-2.0, -4, -6], [0, 0, 3]], [0, 0]),
    ]
    result = score_all(objectives, fake_runner(2), "search")
    assert result.scores.tolist() == pytest.approx([0.25 * 0.5 + 0.75 * -4, 0.25 + 0.75])
    assert result.ties.tolist() == pytest.approx([-0.25, -0.5])
    assert result.by_objective["b"].tolist() == pytest.approx([-4, 1])
    assert result.errors == [None, None] and result.scored["a"].examples.shape == (2, 2)


def test_a_failed_model_is_nan_and_says_why(fake_runner) -> None:
    objectives = [
        Fixed("a", 1.0, [[1, 1], [np.nan, 1], [np.nan, np.nan]], [0, -np.inf, 0], [None, None, "it broke"]),
    ]
    result = score_all(objectives, fake_runner(3), "search")
    assert np.isnan(result.scores).tolist() == [False, True, True]
    assert result.errors == [None, "a: 1 of 2 examples scored NaN or infinite", "a: it broke"]
    assert np.isfinite(result.ties).all()
