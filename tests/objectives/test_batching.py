from itertools import combinations

import numpy as np
import pytest

from jaxmerge.objectives.batching import MAX_BUCKETS, Tokens, collate, draw, length_groups


def padded_tokens(lengths: np.ndarray, groups: list[np.ndarray]) -> int:
    return sum(len(group) * -(-lengths[group].max() // 8) * 8 for group in groups)


@pytest.mark.parametrize("seed", range(30))
def test_groups_hold_every_example_once_and_are_as_good_as_any(seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(1, rng.integers(2, 200), rng.integers(1, 60))
    groups = length_groups(array)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(array)))
    assert 1 <= len(groups) <= MAX_BUCKETS
    widths = np.unique(-(-array // 8) * 8)
    best = min(
        sum(min(w for w in (*cut, widths[-1]) if w >= length) for length in array)
        for cut in combinations(widths[:-1].tolist(), len(groups) - 1)
    )
    assert padded_tokens(array, groups) == best


def test_one_long_example_does_not_lengthen_the_others() -> None:
    lengths = np.array([20] * 50 + [900])
    assert padded_tokens(lengths, length_groups(lengths)) < 1.3 * lengths.sum()


def test_alike_lengths_share_one_bucket() -> None:
    assert len(length_groups(np.array([17, 20, 24, 23]))) == 1


@pytest.mark.parametrize("left", [True, False])
def test_rows_hold_their_sequence_and_padding_is_masked(left: bool) -> None:
    sequences = [[Tokens([5, 6, 7], 1)], [Tokens(list(range(1, 12)), 9), Tokens([3, 4], 1)]]
    batch = collate(sequences, [np.array([0]), np.array([1])], None, left=left)
    assert batch.size == 3
    flat = [tokens for options in sequences for tokens in options]
    for bucket in batch.buckets:
        assert bucket.tokens.shape[1] % 8 == 0
        assert bucket.valid[:, -1 if left else 0].all()
        for row, index in enumerate(bucket.index):
            assert bucket.tokens[row][bucket.valid[row]].tolist() == flat[index].ids
            counted = bucket.tokens[row][bucket.counted[row]].tolist()
            assert counted == flat[index].ids[flat[index].counted_from :]


def test_examples_with_fewer_options_are_filled_up_with_rows_that_do_not_count() -> None:
    sequences = [[Tokens([1, 2], 1)], [Tokens([1, 2], 1), Tokens([1, 3], 1)]]
    batch = collate(sequences, [np.array([0, 1])], None, left=False)
    [bucket] = batch.buckets
    assert bucket.index.tolist() == [0, -1, 1, 2]
    assert bucket.valid.any(axis=1).all() and not bucket.counted[1].any()


def test_draws_differ_by_seed_and_keep_the_shapes() -> None:
    rng = np.random.default_rng(0)
    sequences = [[Tokens([1] * n, 1)] for n in rng.integers(3, 120, 80)]
    groups = length_groups(np.array([len(s[0].ids) for s in sequences]))
    assert len(groups) > 1
    draws = [draw(groups, 24, (seed, 1)) for seed in range(5)]
    assert all(len(set(d.tolist())) == 24 for d in draws)
    assert len({tuple(d) for d in draws}) == 5
    assert np.array_equal(draws[3], draw(groups, 24, (3, 1)))
    shapes = {
        tuple(b.tokens.shape for b in collate(sequences, groups, d, left=False).buckets) for d in draws
    }
    assert len(shapes) == 1
    assert np.array_equal(draw(groups, 99, (0, 1)), np.arange(80))
