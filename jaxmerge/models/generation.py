"""Text generation in one compiled function: a loop over slots, each of which continues one prompt after another.

A slot whose prompt has finished takes the next one that waits, within the loop (continuous batching: Yu et al., Orca,
OSDI 2022); when none waits any more, the batch shrinks as prompts finish. So a long answer holds its slot, and not the
batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import positions_of
from jaxmerge.models.cache import Cache, Columns, decode, prefill
from jaxmerge.models.decoder import unembed
from jaxmerge.models.lockstep import anywhere
from jaxmerge.models.sampling import next_token
from jaxmerge.models.slots import Slots, columns
from jaxmerge.models.weights import Weights


class _State(NamedTuple):
    """Of S slots: prompt, which one it continues, `[S]`, N where it is free; made, how many tokens follow its prompt,
    the last of which is `token` and not yet in the cache, `[S]` each. Of all: clock, the passes that were made over the
    cache; admitted, how many prompts were given a slot; output `[N, max_new_tokens]`."""

    clock: Array
    admitted: Array
    prompt: Array
    made: Array
    token: Array
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
    cache: DTypeLike | None = None,
    slots: Slots | None = None,
    key: Array | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Continue every prompt: int32 `[N, max_new_tokens]`, -1 from the first stop id on (which is not given back).

    tokens int32 and valid bool `[N, T]`, padded left or right. Greedy unless a key and a temperature above 0 are
    given; see `sampling.next_token`. Ends as soon as every prompt has stopped; under vmap, as soon as those of all
    members have. A row without a valid token stops at once. cache: the dtype of keys and values; by default `dtype`,
    that of the forward pass. slots: by default as many as there are prompts, or as the cache may have.
    """
    tokens, valid = jnp.asarray(tokens), jnp.asarray(valid)
    count, length = tokens.shape
    slots = slots or Slots.of(count, length)
    waits = slots.count < count
    if not waits:
        slots = Slots(count, count)
    width = columns(length, max_new_tokens)
    ring = width - length
    lengths = valid.sum(axis=-1, dtype=jnp.int32)
    places = positions_of(valid)
    stops = jnp.asarray(stop_ids, jnp.int32)

    def chosen(state: _State, hidden: Array, prompt: Array, made: Array) -> tuple[_State, Array, Array]:
        """The state with the next token of hidden states `[B, hidden]` in its output, that token, and whether another
        one follows it. made: how many there were before it."""
        keys = None
        if key is not None:
            keys = jax.vmap(lambda step, row: jax.random.fold_in(jax.random.fold_in(key, step), row))(made, prompt)
        scores = unembed(weights, config, hidden)
        token = next_token(scores, keys, temperature=temperature, top_k=top_k, top_p=top_p)
        ended = (token[:, None] == stops).any(axis=-1) | (lengths[prompt] == 0)
        output = state.output.at[prompt, made].set(jnp.where(ended, -1, token), mode="drop")
        return state._replace(output=output), token, ~ended & (made < max_new_tokens - 1) & (prompt < count)

    def admit(state: _State) -> _State:
        """Gives free slots to the next prompts, where there are enough."""
        prompt = state.admitted + jnp.arange(slots.prefill, dtype=jnp.int32)
        admitted = state.admitted + slots.prefill
        if waits:
            # Under vmap others may have enough, and this one not.
            enough = may_admit(state)
            prompt, admitted = jnp.where(enough, prompt, count), jnp.where(enough, admitted, state.admitted)
        # The free ones first: there are as many as prompts, or no further prompt.
        free = jnp.argsort(state.prompt < count, stable=True)[: slots.prefill]
        place = jnp.where(prompt < count, free, slots.count)
        given = jnp.minimum(prompt, count - 1)
        where = place if waits else None
        hidden, cache = prefill(weights, config, tokens[given], valid[given], state.cache, where, dtype)
        state, token, goes_on = chosen(state._replace(cache=cache), hidden, prompt, jnp.zeros_like(prompt))
        return state._replace(
            admitted=admitted,
            prompt=state.prompt.at[place].set(jnp.where(goes_on, prompt, count), mode="drop"),
            made=state.made.at[place].set(1, mode="drop"),
            token=state.token.at[place].set(token, mode="drop"),
        )

    def may_admit(state: _State) -> Array:
        free = (state.prompt == count).sum()
        left = count - state.admitted
        return (left > 0) & (free >= jnp.minimum(slots.prefill, left))

    def advance(state: _State) -> _State:
        # New tokens go round: a pass writes one column of all slots, wherever each of them is in its text.
        age = jnp.mod(state.clock - jnp.arange(ring, dtype=jnp.int32), ring)
        position = lengths[state.prompt] + state.made - 1
        held = Columns(
            jnp.concatenate([places[state.prompt], position[:, None] - age], axis=1),
            jnp.concatenate([valid[state.prompt], age < state.made[:, None]], axis=1),
        )
        column = length + jnp.mod(state.clock, ring)
        hidden, cache = decode(weights, config, state.token, position, state.cache, column, held, dtype)
        state, token, goes_on = chosen(state._replace(cache=cache), hidden, state.prompt, state.made)
        prompt = jnp.where(goes_on, state.prompt, count)
        return state._replace(clock=state.clock + 1, prompt=prompt, made=state.made + 1, token=token)

    def refill(state: _State) -> _State:
        return advance(lax.while_loop(lambda state: anywhere(may_admit(state)), admit, state))

    state = _State(
        clock=jnp.int32(0),
        admitted=jnp.int32(0),
        prompt=jnp.full(slots.count, count, jnp.int32),
        made=jnp.ones(slots.count, jnp.int32),
        token=jnp.zeros(slots.count, jnp.int32),
        cache=Cache.empty(config, slots.count, width, cache or dtype),
        output=jnp.full((count, max_new_tokens), -1, jnp.int32),
    )
    state, body = (state, refill) if waits else (admit(state), advance)
    for size, next_size in zip(slots.sizes, (*slots.sizes[1:], 0), strict=True):

        def goes_on(state: _State, enough: int = next_size) -> Array:
            return anywhere((state.admitted < count) | ((state.prompt < count).sum() > enough))

        state = lax.while_loop(goes_on, body, _fewer(state, size, count))
        body = advance
    return state.output


def _fewer(state: _State, size: int, count: int) -> _State:
    """The state with `size` slots, among them all that are not free. The cache stays and only its first slots are used:
    a smaller one would lie beside it."""
    if size == len(state.prompt):
        return state
    # Those in use first, ascending: none is overwritten before it was moved.
    kept = jnp.argsort(state.prompt == count, stable=True)[:size]
    cache = lax.fori_loop(0, size, lambda slot, cache: cache.moved(kept[slot], slot), state.cache)
    return state._replace(prompt=state.prompt[kept], made=state.made[kept], token=state.token[kept], cache=cache)
