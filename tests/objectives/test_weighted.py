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


def test_objectives_over_the_same_prompts_share_a_generation(make, fake_runner, words) -> None:
    rows = [{"q": "1 + 2 =", "a": " 3"}, {"q": "a b c =", "a": " 9"}]
    common = {"kind": "generate", "prompt": "{q}", "answer": "{a}", "max_new_tokens": 4}
    right, brief = make(rows, **common, metric="last_number"), make(rows, **common, metric="brevity", name="brief")
    longer = make(rows, **common | {"max_new_tokens": 5}, metric="brevity", name="longer")
    spoken: list[int] = []

    def speak(prompt: list[int], model: int) -> list[int]:
        spoken.append(model)
        return words.encode("3 =")

    result = score_all([right, brief], fake_runner(2, speak), "search")
    assert len(spoken) == 2 * len(rows)
    assert result.by_objective["it"].tolist() == [0.5, 0.5] and result.by_objective["brief"].tolist() == [0.5, 0.5]
    alone = right.score(fake_runner(2, speak), "search")
    assert np.array_equal(alone.examples, result.scored["it"].examples)
    assert np.array_equal(alone.ties, result.scored["it"].ties)
    spoken.clear()
    score_all([brief, longer], fake_runner(2, speak), "search")
    assert len(spoken) == 4 * len(rows)
