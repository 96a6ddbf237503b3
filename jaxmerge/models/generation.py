"""Text generation in one compiled function: prefill, then a while-loop over a static key-value cache."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import attend, layer_windows, positions_of, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.decoder import layer_of, unembed
from jaxmerge.models.rope import rotation
from jaxmerge.models.sampling import next_token
from jaxmerge.models.weights import Weights


class Cache(NamedTuple):
    """Keys and values `[L, B, S, K, D]` of S slots: the prompt's columns, then one for each new token."""

    keys: Array
    values: Array


class _State(NamedTuple):
    step: Array
    token: Array
    done: Array
    cache: Cache
    output: Array


def generate(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    valid: Array,
    *,
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
    dtype: DTypeLike,
    key: Array | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Continue every prompt: int32 `[B, max_new_tokens]`, -1 from the first stop id on (which is not given back).

    tokens int32 and valid bool `[B, T]`, padded left or right. Greedy unless a key and a temperature above 0 are given.
    Ends as soon as every prompt has stopped; under vmap, as soon as those of all members have.
    """
    batch, length = tokens.shape
    slots = length + max_new_tokens
    lengths = valid.sum(axis=-1, dtype=jnp.int32)
    slot_valid = jnp.concatenate([valid, jnp.ones((batch, max_new_tokens), bool)], axis=1)
    slot_positions = positions_of(slot_valid)
    stops = jnp.asarray(stop_ids, jnp.int32)

    def pick(hidden: Array, step: Array) -> Array:
        step_key = None if key is None else jax.random.fold_in(key, step)
        return next_token(
            unembed(weights, config, hidden), step_key, temperature=temperature, top_k=top_k, top_p=top_p
        )

    def stopped(token: Array) -> Array:
        return (token[:, None] == stops).any(axis=-1)

    def advance(state: _State) -> _State:
        """Put the chosen token to the output, run it through the model, choose the next."""
        done = state.done | stopped(state.token)
        output = lax.dynamic_update_slice(
            state.output, jnp.where(done, -1, state.token)[:, None], (0, state.step)
        )
        positions = (lengths + state.step)[:, None]
        hidden, cache = _forward(
            weights, config, state.token[:, None], positions, lengths + state.step + 1, state.cache,
            length + state.step, slot_positions, slot_valid, dtype,
        )
        return _State(state.step + 1, pick(hidden[:, -1], state.step + 1), done, cache, output)

    shape = (config.num_layers, batch, slots, config.num_kv_heads, config.head_dim)
    cache = Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    hidden, cache = _forward(
        weights, config, tokens, positions_of(valid), lengths, cache, 0, slot_positions, slot_valid, dtype
    )
    last = jnp.argmax(jnp.where(valid, jnp.arange(length), -1), axis=-1)
    hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    start = _State(
        jnp.int32(0), pick(hidden, jnp.int32(0)), jnp.zeros(batch, bool), cache,
        jnp.full((batch, max_new_tokens), -1, jnp.int32),
    )
    # A row without a valid token only fills the shape and never keeps the loop running.
    start = start._replace(done=lengths == 0)
    return lax.while_loop(
        lambda s: (s.step < max_new_tokens) & ~(s.done | stopped(s.token)).all(), advance, start
    ).output


def _forward(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    positions: Array,
    lengths: Array,
    cache: Cache,
    slot: Array | int,
    slot_positions: Array,
    slot_valid: Array,
    dtype: DTypeLike,
) -> tuple[Array, Cache]:
    """Run `tokens` `[B, T]` whose first column goes to `slot`, over the cache: hidden states and the cache with them."""
    cos, sin = rotation(config, positions, lengths)
    windows = layer_windows(config)

    def step(carry: tuple[Array, Cache], index: Array) -> tuple[tuple[Array, Cache], None]:
        x, cache = carry
        mask = visible(positions, slot_positions, slot_valid, windows[index])

        def attention(query: Array, key: Array, value: Array) -> tuple[Array, Cache]:
            # One small write a layer: rewriting the layer's whole cache halves the speed on a CPU.
            at = (index, 0, slot, 0, 0)
            keys = lax.dynamic_update_slice(cache.keys, key[None], at)
            values = lax.dynamic_update_slice(cache.values, value[None], at)
            context = attend(
                query,
                lax.dynamic_index_in_dim(keys, index, keepdims=False),
                lax.dynamic_index_in_dim(values, index, keepdims=False),
                mask,
            )
            return context, Cache(keys, values)

        return block(layer_of(weights, index, dtype), config, x, cos, sin, attention), None

    x = weights.rows("embed_tokens.weight", tokens).astype(dtype)
    (x, cache), _ = lax.scan(step, (x, cache), jnp.arange(config.num_layers))
    return rms_norm(x, weights.whole("norm.weight").astype(dtype), config.norm_eps), cache
