"""The forward pass of a decoder: one loop over the layers, weights fetched inside it."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import PRECISION, attend, layer_windows, positions_of, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.rope import rotation
from jaxmerge.models.weights import Layer, Matrix, Weights

Carry = TypeVar("Carry")


def head_path(config: DecoderConfig) -> str:
    """The matrix `[vocab, hidden]` that turns hidden states into logits."""
    return "embed_tokens.weight" if config.tie_embeddings else "lm_head.weight"


def layer_of(weights: Weights, index: Array, dtype: DTypeLike) -> Layer:
    """The tensors of one layer in the compute dtype."""
    return {path: array.astype(dtype) for path, array in weights.layer(index).items()}


def through_layers(weights: Weights, step: Callable[[Carry, Array], Carry], carry: Carry) -> Carry:
    """What `step(carry, index)` makes of the carry, layer after layer."""
    depth = weights.depth
    if isinstance(depth, int):
        # A backward pass keeps each layer's input only, and fetches the weights again.
        again = jax.checkpoint(step, prevent_cse=False)
        carry, _ = lax.scan(lambda carry, index: (again(carry, index), None), carry, jnp.arange(depth))
        return carry
    return lax.fori_loop(0, depth, lambda index, carry: step(carry, index), carry)


def embedded(weights: Weights, config: DecoderConfig, tokens: Array, dtype: DTypeLike) -> Array:
    """What goes into the first layer: `[*tokens.shape, hidden]`."""
    x = weights.rows("embed_tokens.weight", tokens).astype(dtype)
    return x if config.embed_scale is None else x * jnp.asarray(config.embed_scale, dtype)


def layer_step(config: DecoderConfig, valid: Array) -> Callable[[Layer, Array, Array], Array]:
    """What one layer makes of the stream `x` `[B, T, hidden]`: `step(layer, place, x)`. valid: see `hidden_states`.
    layer: its tensors in the dtype of `x`. place: which of the config's `windows` is the layer's."""
    positions = positions_of(valid)
    cos, sin = rotation(config, positions, valid.sum(axis=-1, dtype=jnp.int32))
    windows = layer_windows(config)
    uniform = len(set(config.windows)) == 1
    shared = visible(positions, positions, valid, config.windows[0]) if uniform else None

    def step(layer: Layer, place: Array, x: Array) -> Array:
        mask = visible(positions, positions, valid, windows[place]) if shared is None else shared
        return block(layer, config, x, cos, sin, lambda q, k, v: (attend(q, k, v, mask), None))[0]

    return step


def hidden_states(weights: Weights, config: DecoderConfig, tokens: Array, valid: Array, *, dtype: DTypeLike) -> Array:
    """Hidden states after the final norm: `[B, T, hidden]` in `dtype`, the compute dtype.

    tokens int32 `[B, T]`; valid bool `[B, T]`, False at padding, which may stand left or right: positions count valid
    tokens only and padding is never attended to, so that a token's state does not depend on the padding. The states
    at padding are finite and mean nothing.
    """
    apply = layer_step(config, valid)

    def step(x: Array, index: Array) -> Array:
        return apply(layer_of(weights, index, dtype), weights.place(index), x)

    x = embedded(weights, config, tokens, dtype)
    x = through_layers(weights, step, x)
    return rms_norm(x, weights.whole("norm.weight").astype(dtype), config)


def logits(weights: Weights, config: DecoderConfig, tokens: Array, valid: Array, *, dtype: DTypeLike) -> Array:
    """Logits of every position, `[B, T, vocab]` in float32. For scores use `likelihood`, which never holds them all."""
    x = hidden_states(weights, config, tokens, valid, dtype=dtype)
    return unembed(weights, config, x)


def unembed(weights: Weights, config: DecoderConfig, x: Array) -> Array:
    """Logits `[..., vocab]`, float32, of hidden states `[..., hidden]`."""
    return scores_of(x, weights.whole(head_path(config)).astype(x.dtype))


def scores_of(x: Array, rows: Array | Matrix) -> Array:
    """Logits `[..., size]`, float32, of hidden states `[..., hidden]` for some rows of the head, `[size, hidden]`."""
    if not isinstance(rows, Array):
        return rows.apply(x)
    return jnp.einsum("...d,vd->...v", x, rows, precision=PRECISION, preferred_element_type=jnp.float32)
