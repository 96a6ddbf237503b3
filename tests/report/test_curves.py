"""What is drawn of the history."""

import numpy as np

from jaxmerge.report.curves import best_so_far, random_search, searched, spread
from jaxmerge.report.run_data import Candidate


def _line(generation, index, score, stage="search"):
    return Candidate(stage, generation, index, score, 0.1)


def test_best_so_far_rises_where_a_candidate_beats_it_and_ends_at_the_last():
    curve = best_so_far([_line(0, i, s) for i, s in enumerate([None, 0.2, 0.1, 0.5, 0.4])])
    assert curve.x.tolist() == [2, 4, 5] and curve.best.tolist() == [0.2, 0.5, 0.5]


def test_spread_counts_every_candidate_but_only_scores():
    curve = spread([_line(0, 0, 0.0), _line(0, 1, 1.0), _line(1, 0, None), _line(1, 1, None), _line(2, 0, 0.5)])
    assert curve.x.tolist() == [2, 5]
    np.testing.assert_allclose([curve.low[0], curve.middle[0], curve.high[0]], [0.1, 0.5, 0.9])


def test_candidates_that_came_in_another_order_are_sorted_and_stages_kept_apart():
    lines = [_line(1, 0, 3.0), _line(0, 1, 2.0), _line(0, 0, 9.0, "random_search"), _line(0, 0, 1.0)]
    assert [c.score for c in searched(lines)] == [1.0, 2.0, 3.0]
    assert [c.score for c in random_search(lines)] == [9.0]


def test_nothing_gives_empty_curves():
    assert len(best_so_far([]).x) == len(spread([]).x) == 0
