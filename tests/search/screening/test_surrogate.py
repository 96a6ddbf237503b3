"""What the surrogate predicts of scores whose Jacobian is known."""

import numpy as np
import pytest

from jaxmerge.errors import InputError
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.screening.surrogate import Surrogate, bent, fitted

RNG = np.random.default_rng(0)
CENTER = np.full(3, 0.5, np.float32)
VALUES, SLOPES = RNG.normal(-1, 1, 40), RNG.normal(0, 2, (40, 3))
OUTCOMES = (VALUES + RNG.normal(0, 0.3, 40) > -0.8).astype(np.float32)
GENOMES = RNG.random((200, 3)).astype(np.float32)


def surrogate(scores: bool, outcomes: np.ndarray = OUTCOMES) -> Surrogate:
    near = Linearised(CENTER, {"it": VALUES}, {"it": SLOPES}, {"it": scores})
    return Surrogate(near, {"it": outcomes}, {"it": 1.0})


def test_a_likelihood_is_predicted_to_first_order() -> None:
    expected = [(VALUES + SLOPES @ (g - CENTER)).mean() for g in GENOMES.astype(np.float64)]
    np.testing.assert_allclose(surrogate(scores=True)(GENOMES), expected, atol=1e-12)


def test_shares_of_right_answers_are_the_centers_own_there_and_rise_with_likelihoods() -> None:
    made = surrogate(scores=False)
    np.testing.assert_allclose(made(CENTER[None]), OUTCOMES.mean(), atol=1e-12)
    # Every answer is more likely along one way, and less along its opposite.
    rising = Linearised(CENTER, {"it": VALUES}, {"it": np.abs(SLOPES)}, {"it": False})
    along = Surrogate(rising, made.outcomes, {"it": 1})
    way = np.linspace(-0.5, 0.5, 9)[:, None] + CENTER
    predicted = along(way.astype(np.float32))
    assert (np.diff(predicted) > 0).all() and predicted.min() >= 0 and predicted.max() <= 1
    real = [(VALUES + SLOPES @ (g - CENTER) > -0.8).mean() for g in GENOMES]
    assert np.corrcoef(made(GENOMES), real)[0, 1] > 0.9


@pytest.mark.parametrize("all_alike", [0.0, 1.0])
def test_all_right_or_all_wrong_still_orders_candidates(all_alike: float) -> None:
    predicted = surrogate(scores=False, outcomes=np.full(40, all_alike))(GENOMES)
    assert np.ptp(predicted) > 0.01 and np.isfinite(predicted).all()


def test_the_link_finds_where_answers_become_right() -> None:
    values = RNG.normal(-2, 1.5, 4000)
    right = (RNG.random(4000) < 1 / (1 + np.exp(-4 * (values + 1.5)))).astype(np.float64)
    link = fitted(values, right)
    assert link.middle == pytest.approx(-1.5, abs=0.1) and link.slope == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("scores", [True, False])
def test_the_bend_is_learnt_from_candidates_and_never_upwards(scores: bool) -> None:
    made = surrogate(scores)
    squared = ((GENOMES - CENTER) ** 2).sum(axis=1)
    learnt = bent(made, GENOMES, made(GENOMES) - 0.7 * squared)
    assert learnt.bend == pytest.approx(0.7) and bent(learnt, GENOMES, learnt(GENOMES)).bend == pytest.approx(0.7)
    np.testing.assert_allclose(learnt(GENOMES), made(GENOMES) - 0.7 * squared, atol=1e-6)
    assert bent(made, GENOMES, made(GENOMES) + squared).bend == 0
    assert bent(made, CENTER[None], np.array([9.0])) is made


def test_scores_that_are_no_shares_are_refused() -> None:
    with pytest.raises(InputError, match="'it' scored 0 to 7, and a surrogate needs scores from 0 to 1"):
        surrogate(scores=False, outcomes=np.array([0, 7.0] * 20))(GENOMES)
