"""Embedding rows of a model in the order of another vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.tokens.vocabulary import Vocabulary

# A row of a model's embedding: index of the model, index of the row.
Row = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """own: for each token of the output the model's own row, int64 `[tokens]`, -1 where it gets another. filled:
    these others: for an output id the rows whose mean it gets, none for zero. size: rows of the output, with
    padding behind the tokens.
    """

    own: np.ndarray
    filled: Mapping[int, tuple[Row, ...]]
    size: int

    def take(self, model: int, arrays: Mapping[int, np.ndarray]) -> np.ndarray:
        """The model's array `[size, ...]` in its dtype. arrays: those of all models, by index, `[its rows, ...]`.

        Padding rows are the mean of the tokens' rows.
        """
        array = arrays[model]
        result = np.zeros((self.size, *array.shape[1:]), array.dtype)
        has_own = np.flatnonzero(self.own >= 0)
        result[has_own] = array[self.own[has_own]]
        for token, rows in self.filled.items():
            if rows:
                result[token] = np.mean([arrays[m][row].astype(np.float32) for m, row in rows], axis=0)
        tokens = len(self.own)
        if 0 < tokens < self.size:
            result[tokens:] = result[:tokens].mean(axis=0, dtype=np.float32)
        return result


def align(
    output: Vocabulary,
    vocabularies: Sequence[Vocabulary],
    depths: Sequence[int],
    base: int | None,
    given: Mapping[str, tuple[Row, ...]],
    forced: frozenset[str],
    size: int,
) -> tuple[Rows, ...]:
    """For each model how its rows become the output's.

    A model's own row of a token stays, unless the token is in `forced`. One that it lacks comes from `given`, else
    from the only model that has it, else from the base, else it is the mean over all that have it; zero where none
    has. depths: rows of each model's embedding; an id beyond them is as good as missing.
    """
    has = [
        {token: i for token, i in vocabulary.ids.items() if i < depth}
        for vocabulary, depth in zip(vocabularies, depths, strict=True)
    ]
    own = np.full((len(has), output.size), -1, np.int64)
    filled: list[dict[int, tuple[Row, ...]]] = [{} for _ in has]
    for token, i in output.ids.items():
        owners = [model for model, ids in enumerate(has) if token in ids]
        if token not in forced:
            for model in owners:
                own[model, i] = has[model][token]
        if len(owners) == len(has) and token not in forced:
            continue
        if token in given:
            rows = given[token]
        elif base in owners and len(owners) > 1:
            rows = ((base, has[base][token]),)
        else:
            rows = tuple((model, has[model][token]) for model in owners)
        for model in range(len(has)):
            if own[model, i] < 0:
                filled[model][i] = rows
    return tuple(Rows(own[model], filled[model], size) for model in range(len(has)))
