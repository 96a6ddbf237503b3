"""Entropy of a model's predictions, in the same running blocks of the vocabulary as the likelihood's."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.decoder import hidden_states
from jaxmerge.models.likelihood import block_logits, over_head
from jaxmerge.models.weights import Weights


def sequence_entropy(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    valid: Array,
    counted: Array,
    *,
    dtype: DTypeLike,
    block_size: int | None = None,
) -> Array:
    """Sum of the entropies, in nats, of the predictions of each sequence's counted tokens: float32 `[B]`.

    A prediction is the distribution of a token given those before it, whatever the token is. Arguments are those of
    `likelihood.sequence_log_likelihood`.
    """
    x = hidden_states(weights, config, tokens, valid, dtype=dtype)[:, :-1]
    flat = x.reshape(-1, config.hidden_size)

    def add(running: Spread, rows: Array, first: Array, vocab: int, begin: Array | int) -> Spread:
        logits = block_logits(flat, rows, first, vocab)
        moved = _moved(running, jnp.maximum(running.largest, lax.stop_gradient(logits.max(axis=-1))))
        below = jnp.where(jnp.isfinite(logits), logits - moved.largest[:, None], 0.0)
        share = jnp.where(jnp.isfinite(logits), jnp.exp(below), 0.0)
        return Spread(
            moved.largest, moved.total + share.sum(axis=-1), moved.below + (share * below).sum(axis=-1)
        )

    spread = over_head(weights, config, flat, _nothing_yet, add, _together, block_size=block_size)
    entropy = jnp.log(spread.total) - spread.below / spread.total
    return jnp.where(counted[:, 1:], entropy.reshape(x.shape[:2]), 0.0).sum(axis=-1)


class Spread(NamedTuple):
    """Over the rows of the head seen so far, float32 `[N]` each: the largest logit, and the sums of
    `exp(logit - largest)` and of `(logit - largest) exp(logit - largest)`."""

    largest: Array
    total: Array
    below: Array


def _nothing_yet(shape: tuple[int, ...]) -> Spread:
    return Spread(jnp.full(shape, jnp.finfo(jnp.float32).min), jnp.zeros(shape), jnp.zeros(shape))


def _moved(spread: Spread, largest: Array) -> Spread:
    """The same relative to another largest logit."""
    shift = spread.largest - largest
    factor = jnp.exp(shift)
    return Spread(largest, spread.total * factor, factor * (spread.below + shift * spread.total))


def _together(parts: Spread) -> Spread:
    moved = _moved(parts, jnp.broadcast_to(parts.largest.max(axis=0), parts.largest.shape))
    return Spread(moved.largest[0], moved.total.sum(axis=0), moved.below.sum(axis=0))
