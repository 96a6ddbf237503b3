"""What is drawn of the history."""

import numpy as np

from jaxmerge.report.curves import best_so_far, random_search, searched, spread
from jaxmerge.report.genomes import Genomes
from jaxmerge.search.history import Generation
from jaxmerge.search.ranking import best_score
from jaxmerge.search.result import Result


def _generation(number, scores, stage="parameter"):
    results = tuple(Result(score, 0.0, {}, 0.1) for score in scores)
    return Generation(stage, number, np.zeros((len(scores), 2), np.float32), results)


def test_best_so_far_rises_where_a_candidate_beats_it_and_ends_at_the_last():
    curve = best_so_far([_generation(0, [None, 0.2, 0.1]), _generation(1, [0.5, 0.4])])
    assert curve.x.tolist() == [2, 4, 5] and curve.best.tolist() == [0.2, 0.5, 0.5]


def test_spread_counts_every_candidate_but_only_scores():
    curve = spread([_generation(0, [0.0, 1.0]), _generation(1, [None, None]), _generation(2, [0.5])])
    assert curve.x.tolist() == [2, 5]
    np.testing.assert_allclose([curve.low[0], curve.middle[0], curve.high[0]], [0.1, 0.5, 0.9])


def test_who_left_a_race_counts_with_its_estimate_and_is_never_the_best():
    """Of its few examples a loser may have a better mean than the winner has of all."""
    results = (Result(0.6, 0.0, {}, 0.1), Result(0.9, 0.0, {}, 0.1, left=2, estimate=0.4))
    history = [Generation("parameter", 0, np.array([[0.1], [0.9]], np.float32), results)]
    assert best_so_far(history).best.tolist() == [0.6, 0.6] and best_score(results) == 0.6
    np.testing.assert_allclose([spread(history).low[0], spread(history).high[0]], [0.42, 0.58])
    found = Genomes.of(history)
    assert found is not None and found.scores.tolist() == [0.6, 0.4] and found.genomes.shape == (2, 1)
    assert best_score(results[1:]) == 0.4 and best_score([Result(None, 0.0, {}, 0.1)]) is None


def test_a_long_search_is_thinned_but_keeps_its_extent():
    curve = spread([_generation(number, [0.5]) for number in range(2000)])
    assert len(curve.x) <= 500 and curve.x[0] == 1 and curve.x[-1] > 1990


def test_random_search_is_kept_apart():
    history = [_generation(0, [1.0]), _generation(0, [2.0], "random_search"), _generation(1, [3.0])]
    assert [g.results[0].score for g in searched(history)] == [1.0, 3.0]
    assert [g.results[0].score for g in random_search(history)] == [2.0]


def test_nothing_gives_empty_curves():
    assert len(best_so_far([]).x) == len(spread([]).x) == 0
