"""Sequences of different lengths in a few padded shapes: little padding, few compilations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.objectives.interface import Batch, Bucket

MAX_BUCKETS = 4
MULTIPLE = 8
# A further bucket is one more program to compile: it must spare this share of all tokens.
WORTHWHILE = 0.08


@dataclass(frozen=True)
class Tokens:
    """ids, and the place from which they count: len(ids) for a prompt, of which nothing counts."""

    ids: list[int]
    counted_from: int


# An example has one sequence, or one for each option of a choice.
Sequences = Sequence[Sequence[Tokens]]


def length_groups(lengths: np.ndarray) -> list[np.ndarray]:
    """Places of examples grouped by similar length: at most MAX_BUCKETS groups that waste the least padding.

    lengths: int `[n]`. Exact, by dynamic programming over the distinct padded lengths.
    """
    padded = _round_up(np.asarray(lengths))
    widths, counts = np.unique(padded, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[k][j]: tokens of the j shortest widths in k + 1 buckets; cut[k][j]: where the last of them starts.
    cost = [np.concatenate([[0], widths * before[1:]])]
    cut = [np.zeros(len(widths) + 1, np.int64)]
    for _ in range(1, min(MAX_BUCKETS, len(widths))):
        best, start = cost[-1].copy(), np.zeros(len(widths) + 1, np.int64)
        for j in range(1, len(widths) + 1):
            options = cost[-1][:j] + widths[j - 1] * (before[j] - before[:j])
            start[j] = np.argmin(options)
            best[j] = options[start[j]]
        cost.append(best)
        cut.append(start)
    used = 0
    for k in range(1, len(cost)):
        if cost[used][-1] - cost[k][-1] > (k - used) * WORTHWHILE * cost[0][-1]:
            used = k
    edges = [len(widths)]
    for k in range(used, -1, -1):
        edges.append(int(cut[k][edges[-1]]))
    pairs = zip(edges[1:], edges[:-1], strict=True)
    groups = [np.flatnonzero(np.isin(padded, widths[low:high])) for low, high in pairs]
    return [group for group in reversed(groups) if len(group)]


def collate(
    sequences: Sequences,
    groups: list[np.ndarray],
    chosen: np.ndarray | None,
    *,
    left: bool,
    room: tuple[int, ...] | None = None,
) -> Batch:
    """Pad the sequences of the chosen examples (all where None), one bucket a group.

    Sequences are numbered in the order of `chosen`, an example's options side by side. A bucket's width and
    rows an example come from its whole group, so the shapes depend only on how many of the group are chosen,
    or on `room`, that many examples of each group: rows without an example then only fill the shape.
    left: pad on the left.
    """
    size, place = 0, {}
    for i in range(len(sequences)) if chosen is None else chosen.tolist():
        place[i] = size
        size += len(sequences[i])
    buckets = []
    for number, group in enumerate(groups):
        width = int(_round_up(np.array(max(len(tokens.ids) for i in group for tokens in sequences[i]))))
        options = max(len(sequences[i]) for i in group)
        rows: list[tuple[Tokens, int]] = []
        for i in group.tolist():
            if i in place:
                rows += [(tokens, place[i] + option) for option, tokens in enumerate(sequences[i])]
                rows += [(sequences[i][0], -1)] * (options - len(sequences[i]))
        if room is not None:
            rows += [(sequences[group[0]][0], -1)] * (options * room[number] - len(rows))
        if rows:
            buckets.append(_pad(rows, width, left))
    return Batch(tuple(buckets), size)


def draw(groups: list[np.ndarray], count: int, seed: Sequence[int]) -> np.ndarray:
    """`count` places, drawn without replacement, ascending. Every group gives its share (largest remainders),
    so that a batch of drawn examples has the same shapes each time."""
    sizes = np.array([len(group) for group in groups])
    if count >= sizes.sum():
        return np.sort(np.concatenate(groups))
    exact = count * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    for i in np.argsort(shares - exact, kind="stable")[: count - shares.sum()]:
        shares[i] += 1
    rng = np.random.default_rng(list(seed))
    drawn = [rng.choice(group, share, replace=False) for group, share in zip(groups, shares, strict=True)]
    return np.sort(np.concatenate(drawn))


def deal(
    groups: list[np.ndarray], places: np.ndarray, count: int, seed: int
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Places dealt to `count` blocks in a shuffled order, ascending in each, and the most that one block got of each
    group. Every block gets its share of every group, so that its examples are as hard as those of the others, and as
    many, to within one."""
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(group[np.isin(group, places)]) for group in groups]
    order = np.concatenate(shuffled)
    return [np.sort(order[block::count]) for block in range(count)], tuple(-(-len(s) // count) for s in shuffled)


def _pad(rows: list[tuple[Tokens, int]], width: int, left: bool) -> Bucket:
    """Padding repeats no real token: it is id 0, and masked. A row that only fills the shape has index -1 and
    copies a sequence of which nothing counts."""
    tokens = np.zeros((len(rows), width), np.int32)
    valid = np.zeros((len(rows), width), bool)
    counted = np.zeros((len(rows), width), bool)
    for row, (sequence, index) in enumerate(rows):
        length = len(sequence.ids)
        start = width - length if left else 0
        tokens[row, start : start + length] = sequence.ids
        valid[row, start : start + length] = True
        if index >= 0:
            counted[row, start + sequence.counted_from : start + length] = True
    return Bucket(tokens, valid, counted, np.array([index for _, index in rows], np.int64))


def _round_up(lengths: np.ndarray) -> np.ndarray:
    return np.maximum(-(-lengths // MULTIPLE) * MULTIPLE, MULTIPLE)
