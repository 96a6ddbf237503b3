"""Choosing the next token from logits: greedy, or sampled with temperature, top-k and top-p."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


def next_token(
    logits: Array,
    key: Array | None,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """One token a row: int32 `[B]` from float32 `[B, vocab]`.

    Temperature 0 (or no key) takes the largest logit. Otherwise logits are divided by the temperature, cut to the
    `top_k` largest, then to the smallest set whose probability reaches `top_p` (Holtzman et al., 2019,
    arXiv:1904.09751), and sampled. key: one for each row, `[B]`, or one of which row b uses `fold_in(key, b)`.
    """
    if key is None or temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    if top_p is not None and top_p < 1.0:
        logits = jnp.where(_nucleus(logits, top_p), logits, -jnp.inf)
    keys = key if key.ndim else jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(logits.shape[0]))
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _nucleus(logits: Array, top_p: float) -> Array:
    """Bool `[B, vocab]`: the tokens before which, from the likeliest down, less than `top_p` has been gathered."""
    order = jnp.argsort(logits, axis=-1, descending=True)
    shares = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    kept = jnp.cumsum(shares, axis=-1) - shares < top_p
    inverse = jnp.argsort(order, axis=-1)
    return jnp.take_along_axis(kept, inverse, axis=-1)
