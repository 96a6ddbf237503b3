"""Text generation in one compiled function: prefill, then a while-loop over a static key-value cache."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import attend, layer_windows, positions_of, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.decoder import embedded, layer_of, through_layers, unembed
from jaxmerge.models.lockstep import anywhere
from jaxmerge.models.rope import rotation
from jaxmerge.models.sampling import next_token
from jaxmerge.models.weights import Weights


class Cache(NamedTuple):
    """Keys and values `[L, B, K, S, D]` of S slots: the prompt's columns, then one for each new token."""

    keys: Array
    values: Array


class Slots(NamedTuple):
    """What the columns of a cache hold: positions int32 and valid bool, `[B, S]`."""

    positions: Array
    valid: Array


class _State(NamedTuple):
    """token `[B]` was chosen for column `step` of the output and is not yet written."""

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

    tokens int32 and valid bool `[B, T]`, padded left or right. Greedy unless a key and a temperature above 0 are
    given; see `sampling.next_token`. Ends as soon as every prompt has stopped; under vmap, as soon as those of all
    members have. A row without a valid token stops at once.
    """
    batch, length = tokens.shape
    lengths = valid.sum(axis=-1, dtype=jnp.int32)
    slot_valid = jnp.concatenate([valid, jnp.ones((batch, max_new_tokens), bool)], axis=1)
    slots = Slots(positions_of(slot_valid), slot_valid)
    stops = jnp.asarray(stop_ids, jnp.int32)

    def choose(hidden: Array, step: Array, done: Array) -> tuple[Array, Array]:
        """The next token of hidden states `[B, hidden]`, and which rows are done with it."""
        step_key = None if key is None else jax.random.fold_in(key, step)
        scores = unembed(weights, config, hidden)
        token = next_token(scores, step_key, temperature=temperature, top_k=top_k, top_p=top_p)
        return token, done | (token[:, None] == stops).any(axis=-1)

    def write(state: _State) -> Array:
        column = jnp.where(state.done, -1, state.token)
        return lax.dynamic_update_slice(state.output, column[:, None], (0, state.step))

    def advance(state: _State) -> _State:
        positions = (lengths + state.step)[:, None]
        at = length + state.step
        hidden, cache = _forward(weights, config, state.token[:, None], positions, state.cache, at, slots, dtype)
        token, done = choose(hidden[:, 0], state.step + 1, state.done)
        return _State(state.step + 1, token, done, cache, write(state))

    shape = (config.num_layers, batch, config.num_kv_heads, length + max_new_tokens, config.head_dim)
    cache = Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    hidden, cache = _forward(weights, config, tokens, positions_of(valid), cache, 0, slots, dtype)
    last = jnp.argmax(jnp.where(valid, jnp.arange(length), -1), axis=-1)
    hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    token, done = choose(hidden, jnp.int32(0), lengths == 0)
    output = jnp.full((batch, max_new_tokens), -1, jnp.int32)
    # The last column's token is written after the loop: it need not go through the model.
    end = lax.while_loop(
        lambda state: (state.step < max_new_tokens - 1) & anywhere(~state.done.all()),
        advance,
        _State(jnp.int32(0), token, done, cache, output),
    )
    return write(end)


def _forward(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    positions: Array,
    cache: Cache,
    slot: Array | int,
    slots: Slots,
    dtype: DTypeLike,
) -> tuple[Array, Cache]:
    """Hidden states `[B, T, hidden]` of tokens `[B, T]`, and the cache with their keys and values from `slot` on."""
    prompt = isinstance(slot, int)
    if prompt:
        # A prompt starts an empty cache: it needs to look at itself only.
        slots = Slots(*(column[:, : tokens.shape[1]] for column in slots))
    cos, sin = rotation(config, positions, positions[:, -1] + 1)
    windows = layer_windows(config)

    def step(carry: tuple[Array, Cache], index: Array) -> tuple[Array, Cache]:
        x, cache = carry
        mask = visible(positions, slots.positions, slots.valid, windows[weights.place(index)])

        def attention(query: Array, key: Array, value: Array) -> tuple[Array, Cache]:
            # One small write a layer: rewriting the layer's whole cache halves the speed on a CPU.
            at = (index, 0, 0, slot, 0)
            grown = Cache(*(lax.dynamic_update_slice(a, b[None], at) for a, b in zip(cache, (key, value), strict=True)))
            if prompt:
                return attend(query, key, value, mask), grown
            keys, values = (lax.dynamic_index_in_dim(array, index, keepdims=False) for array in grown)
            return attend(query, keys, values, mask), grown

        return block(layer_of(weights, index, dtype), config, x, cos, sin, attention)

    x = embedded(weights, config, tokens, dtype)
    x, cache = through_layers(weights, step, (x, cache))
    return rms_norm(x, weights.whole("norm.weight").astype(dtype), config), cache
