"""One stored model as objectives see it."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax import Array

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.entropy import sequence_entropy
from jaxmerge.models.generation import generate
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Params, Stored
from jaxmerge.objectives.interface import Batch, Bucket

# Tokens that run at once: activations grow with it. The same as for populations.
TOKENS_AT_ONCE = 16_384


class SingleModel:
    """A population of one; implements `interface.Runner`. There is one program for each shape of bucket.

    params: as the model is to be run. dtype: of the forward pass. progress: called with the number of sequences run.
    vocabulary_shards: see `models.weights.Weights`. cache: see `models.generation.generate`.
    """

    size = 1

    def __init__(
        self,
        params: Params,
        config: DecoderConfig,
        dtype: np.dtype,
        progress: Callable[[int], None] = lambda done: None,
        vocabulary_shards: int = 1,
        cache: np.dtype | None = None,
    ) -> None:
        self._weights = Stored(params, vocabulary_shards)
        self._config, self._dtype, self._progress = config, dtype, progress
        self._cache, self._done = cache, 0

    def likelihood(self, batch: Batch) -> np.ndarray:
        out = np.zeros((1, batch.size), np.float32)
        run = partial(_likelihood, self._weights, config=self._config, dtype=self._dtype)
        self._fill(out, batch, run, _row_blocks)
        return out

    def entropy(self, batch: Batch) -> np.ndarray:
        out = np.zeros((1, batch.size), np.float32)
        run = partial(_entropy, self._weights, config=self._config, dtype=self._dtype)
        self._fill(out, batch, run, _row_blocks)
        return out

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        out = np.full((1, batch.size, max_new_tokens), -1, np.int32)
        run = partial(
            _generate,
            self._weights,
            config=self._config,
            dtype=self._dtype,
            length=max_new_tokens,
            stop_ids=stop_ids,
            cache=self._cache,
        )
        # All prompts of a bucket wait for slots.
        self._fill(out, batch, lambda tokens, valid, _: run(tokens, valid), lambda b: [np.arange(len(b.index))])
        return out

    def _fill(
        self,
        out: np.ndarray,
        batch: Batch,
        run: Callable[[np.ndarray, np.ndarray, np.ndarray], Array],
        blocks: Callable[[Bucket], list[np.ndarray]],
    ) -> None:
        for bucket in batch.buckets:
            real = bucket.valid & (bucket.index >= 0)[:, None]
            for rows in blocks(bucket):
                result = np.asarray(run(bucket.tokens[rows], real[rows], bucket.counted[rows]))
                index = bucket.index[rows]
                out[0, index[index >= 0]] = result[index >= 0]
                self._done += int((index >= 0).sum())
                self._progress(self._done)


def _row_blocks(bucket: Bucket) -> list[np.ndarray]:
    """Places of rows, in blocks of equal size; the last block repeats the last row where rows are missing."""
    count, length = bucket.tokens.shape
    blocks = -(-count // max(1, TOKENS_AT_ONCE // length))
    size = -(-count // blocks)
    places = np.minimum(np.arange(blocks * size), count - 1)
    return list(places.reshape(blocks, size))


@partial(jax.jit, static_argnames=("config", "dtype"))
def _likelihood(
    weights: Stored, tokens: Array, valid: Array, counted: Array, *, config: DecoderConfig, dtype: np.dtype
) -> Array:
    return sequence_log_likelihood(weights, config, tokens, valid, counted, dtype=dtype)


@partial(jax.jit, static_argnames=("config", "dtype"))
def _entropy(
    weights: Stored, tokens: Array, valid: Array, counted: Array, *, config: DecoderConfig, dtype: np.dtype
) -> Array:
    return sequence_entropy(weights, config, tokens, valid, counted, dtype=dtype)


@partial(jax.jit, static_argnames=("config", "dtype", "length", "stop_ids", "cache"))
def _generate(
    weights: Stored,
    tokens: Array,
    valid: Array,
    *,
    config: DecoderConfig,
    dtype: np.dtype,
    length: int,
    stop_ids: tuple[int, ...],
    cache: np.dtype | None,
) -> Array:
    return generate(
        weights, config, tokens, valid, max_new_tokens=length, stop_ids=stop_ids, dtype=dtype, cache=cache
    )
