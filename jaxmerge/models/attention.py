"""Causal attention with grouped heads and sliding windows, and the masks it needs."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmerge.architectures.config import DecoderConfig

PRECISION = lax.Precision.HIGHEST
# Attention scores held at once, 256 MiB of float32: longer texts are attended to in blocks of queries.
SCORES_AT_ONCE = 2**26


def positions_of(valid: Array) -> Array:
    """Positions that count valid tokens only: int32, the shape of `valid` `[B, T]`; 0 at padding before the first."""
    return jnp.maximum(jnp.cumsum(valid, axis=-1, dtype=jnp.int32) - 1, 0)


def visible(query_positions: Array, key_positions: Array, key_valid: Array, window: Array | int | None) -> Array:
    """Which keys a query sees: bool `[B, T, S]`.

    query_positions int32 `[B, T]`, key_positions int32 and key_valid bool `[B, S]`. A window of w shows the query
    itself and the w - 1 tokens before it. Keys of equal position never both count, since padding is not valid.
    """
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    seen = (distance >= 0) & key_valid[:, None, :]
    return seen if window is None else seen & (distance < window)


def layer_windows(config: DecoderConfig) -> Array:
    """For each layer the largest distance it looks back, plus one: int32 `[L]`; full attention is the largest int."""
    full = jnp.iinfo(jnp.int32).max
    return jnp.asarray([full if window is None else window for window in config.windows], jnp.int32)


def attend(query: Array, key: Array, value: Array, mask: Array, *, at_once: int = SCORES_AT_ONCE) -> Array:
    """Scaled dot-product attention with softmax in float32.

    query `[B, T, H, D]`, key and value `[B, K, S, D]` with H a multiple of K (query head h reads head h // (H / K),
    never copied), mask bool `[B, T, S]`. Gives `[B, T, H * D]` in the dtype of `value`. A query that sees nothing
    (padding) gets a finite, meaningless result. at_once: the largest number of scores held in memory.
    """
    batch, length, heads, _ = query.shape
    rows = max(1, at_once // (batch * heads * key.shape[2]))
    if rows >= length:
        return _attend(query, key, value, mask)
    blocks = -(-length // rows)
    rows = -(-length // blocks)

    def cut(array: Array) -> Array:
        filled = jnp.pad(array, [(0, 0), (0, blocks * rows - length), *[(0, 0)] * (array.ndim - 2)])
        return jnp.moveaxis(filled.reshape(batch, blocks, rows, *array.shape[2:]), 1, 0)

    context = lax.map(lambda block: _attend(block[0], key, value, block[1]), (cut(query), cut(mask)))
    return jnp.moveaxis(context, 0, 1).reshape(batch, blocks * rows, -1)[:, :length]


def _attend(query: Array, key: Array, value: Array, mask: Array) -> Array:
    batch, length, heads, dim = query.shape
    groups = key.shape[1]
    query = query.reshape(batch, length, groups, heads // groups, dim)
    scores = jnp.einsum("btkgd,bksd->bkgts", query, key, precision=PRECISION, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * dim**-0.5, jnp.finfo(jnp.float32).min)
    shares = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    context = jnp.einsum("bkgts,bksd->btkgd", shares, value, precision=PRECISION)
    return context.reshape(batch, length, heads * dim)
