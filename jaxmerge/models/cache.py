"""A static key-value cache, and the two passes over it: prompts into slots, and one more token of every slot."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import attend, layer_windows, positions_of, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.decoder import embedded, layer_of, through_layers
from jaxmerge.models.rope import rotation
from jaxmerge.models.weights import Weights


class Cache(NamedTuple):
    """Keys and values `[L, S, K, C, D]` of S slots: C columns, those of the prompt and then those of new tokens."""

    keys: Array
    values: Array

    @classmethod
    def empty(cls, config: DecoderConfig, slots: int, columns: int, dtype: DTypeLike) -> "Cache":
        shape = (config.num_layers, slots, config.num_kv_heads, columns, config.head_dim)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def moved(self, old: Array, new: Array) -> "Cache":
        """With what slot `old` holds in slot `new`."""
        one = (lax.dynamic_slice_in_dim(half, old, 1, axis=1) for half in self)
        return Cache(*(lax.dynamic_update_slice_in_dim(a, b, new, axis=1) for a, b in zip(self, one, strict=True)))


class Columns(NamedTuple):
    """What the columns of a cache hold: positions int32 and valid bool, `[S, C]`."""

    positions: Array
    valid: Array


# From a layer and the keys or values `[B, K, T, D]` of its tokens to that half of the cache with them.
Write = Callable[[Array, Array, Array], Array]


def prefill(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    valid: Array,
    cache: Cache,
    slots: Array | None,
    dtype: DTypeLike,
) -> tuple[Array, Cache]:
    """Hidden states `[B, hidden]` of the last valid token of prompts `[B, T]`, and the cache with their keys and values
    in its first T columns.

    slots: int32 `[B]`, where each prompt goes; nowhere where there is no such slot. None: the first to the first slot,
    and so on.
    """
    length = tokens.shape[1]

    def write(half: Array, index: Array, new: Array) -> Array:
        if slots is None:
            return lax.dynamic_update_slice(half, new[None], (index, 0, 0, 0, 0))
        return half.at[index, slots, :, :length].set(new, mode="drop")

    positions = positions_of(valid)
    hidden, cache = _through(
        weights, config, tokens, positions, cache, Columns(positions, valid), write, True, dtype
    )
    last = jnp.argmax(jnp.where(valid, jnp.arange(length), -1), axis=-1)
    return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0], cache


def decode(
    weights: Weights,
    config: DecoderConfig,
    token: Array,
    positions: Array,
    cache: Cache,
    column: Array,
    columns: Columns,
    dtype: DTypeLike,
) -> tuple[Array, Cache]:
    """Hidden states `[S, hidden]` of one token `[S]` of each of the first S slots, at positions `[S]`, and the cache
    with its keys and values in `column`. columns: what the cache holds then."""

    def write(half: Array, index: Array, new: Array) -> Array:
        # One small write a layer: rewriting the layer's whole cache halves the speed on a CPU.
        return lax.dynamic_update_slice(half, new[None], (index, 0, 0, column, 0))

    hidden, cache = _through(
        weights, config, token[:, None], positions[:, None], cache, columns, write, False, dtype
    )
    return hidden[:, 0], cache


def _through(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    positions: Array,
    cache: Cache,
    columns: Columns,
    write: Write,
    fresh: bool,
    dtype: DTypeLike,
) -> tuple[Array, Cache]:
    """Hidden states `[B, T, hidden]` of tokens `[B, T]`, and the cache with them. fresh: they start an empty cache and
    need to look at themselves only."""
    cos, sin = rotation(config, positions, positions[:, -1] + 1)
    windows = layer_windows(config)

    def step(carry: tuple[Array, Cache], index: Array) -> tuple[Array, Cache]:
        x, cache = carry
        mask = visible(positions, columns.positions, columns.valid, windows[weights.place(index)])

        def attention(query: Array, key: Array, value: Array) -> tuple[Array, Cache]:
            grown = Cache(*(write(a, index, b.astype(a.dtype)) for a, b in zip(cache, (key, value), strict=True)))
            if fresh:
                return attend(query, key, value, mask), grown
            keys, values = (_layer(half, index, len(tokens)).astype(dtype) for half in grown)
            return attend(query, keys, values, mask), grown

        return block(layer_of(weights, index, dtype), config, x, cos, sin, attention)

    x = embedded(weights, config, tokens, dtype)
    x, cache = through_layers(weights, step, (x, cache))
    return rms_norm(x, weights.whole("norm.weight").astype(dtype), config), cache


def _layer(half: Array, index: Array, slots: int) -> Array:
    """Of the first slots: `[slots, K, C, D]`."""
    size = (1, slots, *half.shape[2:])
    return lax.dynamic_slice(half, (index, 0, 0, 0, 0), size)[0]
